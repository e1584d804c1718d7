//! Which agreements the log records, who may have cosigned its head, and what is said where an agreement is missing.

use chacha20::ChaCha20Rng;
use cohortium_audit::{AuditError, FindingKind, report, verify};
use cohortium_ledger::{KeyKind, SignerKey};
use cohortium_messages::{
    Agreement, Envelope, Fact, Hash, IncidentStep, Name, OrganisationSecrets, Party, SigningKey, canonical_bytes,
};
use cohortium_policy::LogTerms;
use rand_core::SeedableRng as _;

use crate::people::amended;
use crate::world::*;

/// Where the custodians sign revision 2, and where it is asked under it.
const SECOND: usize = 11;
const ASKED_UNDER_SECOND: u64 = 14;

/// An amended story in which revision 2 states another witness key of `c`, and that key.
pub fn rotated() -> (Story, SignerKey) {
    let (key, signer) = witness_of_c(77);
    let (story, _) = amended(|agreement| {
        agreement.parties[2].entry.witness_key = key.public();
        let terms = LogTerms { post_quantum: false, quorum: agreement.secure_sum.threshold };
        agreement.log_policy = policy_of(&agreement.hub, &agreement.parties, agreement.secure_sum, terms);
    });
    (story, signer)
}

fn witness_of_c(seed: u8) -> (SigningKey, SignerKey) {
    let key = SigningKey::generate(&mut ChaCha20Rng::from_seed([seed; 32]));
    let signer = SignerKey::from_seed("c", KeyKind::Witness, &key.expose_seed()).unwrap();
    (key, signer)
}

/// The log, cosigned by `a`, `b` and this key.
pub fn written_with(story: &Story, third: &SignerKey) -> Scratch {
    let scratch = Scratch::new();
    let bodies: Vec<&[u8]> = story.lines.iter().filter_map(|line| line.body.as_deref()).collect();
    let cosign = |head| cosigned_by(story.cosigned(head, &[0, 1]), std::slice::from_ref(third));
    write_log(&scratch, "hub", &story.world.log_key, &story.leaves(), &bodies, cosign);
    scratch
}

/// A custodian's copy of the agreement with junk beside its signature: merging stopped at 128 signatures, and the others'
/// found no room.
#[test]
fn repro_junk_on_an_amendment_does_not_uncover_it() {
    let (mut story, second) = amended(|_| ());
    let mut rng = ChaCha20Rng::from_seed([6; 32]);
    for (place, house) in [(SECOND, 0), (SECOND + 1, 1)] {
        let mut copy = Envelope::sign(&*second.agreement, &second.houses[house].1.agreement).unwrap();
        (0..127).for_each(|_| copy.also_sign(&SigningKey::generate(&mut rng)).unwrap());
        let body = canonical_bytes(&copy).unwrap();
        story.lines[place].entry.fact = Fact::Agreement { body: Hash::of(&body), revision: 2 };
        story.lines[place].body = Some(body);
    }
    let report = story.verify().unwrap();
    let revisions: Vec<u32> = report.studies.iter().map(|study| study.revision).collect();
    assert!(revisions.len() == 2 && revisions.contains(&2), "{revisions:?}");
    assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::Amendment), "{:?}", report.findings);
}

/// Two houses sign an agreement of their own, in which one is called as a member of another study is. It stands first in the
/// order of hashes, and the member's key was not looked for any more.
#[test]
fn repro_a_namesake_does_not_hide_a_witness() {
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    let house_a = (name("a"), OrganisationSecrets::generate(&mut rng));
    let namesake = (name("d"), OrganisationSecrets::generate(&mut ChaCha20Rng::from_seed([99; 32])));
    let fakers: [(Name, OrganisationSecrets); 2] = [house_a, namesake];
    let (mut logged, world) = (Story::good(), World::new(|_| ()));
    let other = agreement("other-study", world.agreement.hub.clone(), &world.houses[2..], &world.researcher);
    logged.lines.extend(world.agreed(&other, &[2, 3]));
    let fake: Agreement = (0..)
        .map(|number| agreement(&format!("fake-{number}"), world.agreement.hub.clone(), &fakers, &world.researcher))
        .find(|fake| hash_of(fake) < hash_of(&other))
        .unwrap();
    let body = canonical_bytes(&signed_by_all(&fake, &fakers)).unwrap();

    // As what no entry calls an agreement.
    let fact = Fact::Incident { body: Hash::of(&body), incident: name("lost"), step: IncidentStep::Open };
    logged.lines.push(world.line(Key::Person(0, PAULA), fact, Some(body.clone())));
    verify(&logged.write_leaves(&logged.leaves(), &[0, 1, 2, 3]).0, &logged.world.envelope).unwrap();

    // As an agreement, by the one of the two whom the log knows.
    let fact = Fact::Agreement { body: Hash::of(&body), revision: 1 };
    let mut line = world.line(Key::Custodian(0), fact, Some(body));
    (line.entry.agreement, line.entry.study) = (hash_of(&fake), fake.study);
    *logged.lines.last_mut().unwrap() = line;
    let report = verify(&logged.write_leaves(&logged.leaves(), &[0, 1, 2, 3]).0, &logged.world.envelope).unwrap();
    assert_eq!((report.log.cosigned_by.len(), report.studies.len()), (4, 3));
}

/// A head may count under the policy of an amendment alone, though it states another key under an old name.
#[test]
fn a_head_counts_under_an_amended_policy() {
    let (story, third) = rotated();
    let report = verify(&written_with(&story, &third).0, &story.world.envelope).unwrap();
    assert_eq!(report.log.cosigned_by.len(), 3);
    // By the keys of the first alone it counts as well; by a stranger's never.
    verify(&story.write().0, &story.world.envelope).unwrap();
    let (_, stranger) = witness_of_c(78);
    let error = verify(&written_with(&story, &stranger).0, &story.world.envelope).unwrap_err();
    assert!(matches!(error, AuditError::Log(_)), "{error}");
}

/// The log does not hold what one custodian signed: nothing under that revision is judged, and nobody says it was.
#[test]
fn repro_uncovered_entries_of_the_study_are_said() {
    let (mut story, second) = amended(|_| ());
    drop(story.lines.remove(SECOND + 1));
    let first = ASKED_UNDER_SECOND - 1;
    let error = story.verify().unwrap_err();
    let AuditError::NotCovered { count, first: found, report: found_report, .. } = &error else { panic!("{error}") };
    assert_eq!((*count, *found), (4, first));
    assert!(error.to_string().contains("4 entries of study heart-study were not checked, the first at 13"), "{error}");
    assert!(found_report.findings.iter().any(|finding| finding.kind == FindingKind::NotCovered));
    let page = report(&story.write().0, &story.world.envelope).unwrap();
    assert!(!page.verified && !page.html.contains("<h2>Verified</h2>"));
    for words in [
        "Not verified: entries of this study could not be checked",
        "4 entries of this study, the first at 13, could not be checked",
        "entries of study heart-study stand under an agreement",
    ] {
        assert!(page.html.contains(words), "{words}");
    }
    assert!(!page.html.contains("Findings about other studies"));
    // Who has the revision hands that one in.
    verify(&story.write().0, &second.envelope).unwrap();

    // What is proposed and not yet signed by all binds nobody.
    let (mut story, _) = amended(|_| ());
    story.lines.truncate(SECOND + 2);
    let report = story.verify().unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
    assert_eq!(found, [(FindingKind::Proposal, Some(SECOND as u64))]);
}

/// Who took part in a question stands at it, whoever takes part now; and what is agreed now is what is described.
#[test]
fn repro_a_page_shows_who_took_part() {
    let mut story = Story::good();
    let world = &story.world;
    let mut next = (*world.agreement).clone();
    (next.revision, next.previous, next.title) = (2, Some(world.agreement.hash()), "Without c".into());
    next.parties[2] = Party { entry: world.houses[3].1.entry(&name("d")), people: staff(&world.people[3]) };
    let terms = LogTerms { post_quantum: false, quorum: next.secure_sum.threshold };
    next.log_policy = policy_of(&next.hub, &next.parties, next.secure_sum, terms);
    let mut signed = world.agreed(&next, &[0, 1, 3]);
    let body = canonical_bytes(&signed_by_all(&next, &world.houses)).unwrap();
    signed[0].entry.fact = Fact::Agreement { body: Hash::of(&body), revision: 2 };
    signed[0].body = Some(body);
    story.lines.extend(signed);
    let page = report(&story.write().0, &story.world.envelope).unwrap();
    assert!(page.verified);
    for words in
        ["Without c", "the agreement that was handed in, revision 1", "Amended since: revision 2", "until revision 1"]
    {
        assert!(page.html.contains(words), "{words}");
    }
    let (_, question) = page.html.split_once("Question 1: ").unwrap();
    let (question, _) = question.split_once("</section>").unwrap();
    assert!(question.contains("<td>c</td>") && !question.contains("<td>d</td>"), "{question}");
    let members = page.html.split_once("Privacy budgets").unwrap().1;
    assert!(members.contains("<td>c</td>") && members.contains("<td>d</td>"));
}
