//! What an audit says of a good log, and of one in which one thing is wrong: what, and where.

use std::path::PathBuf;

use cohortium_audit::{AuditError, FindingKind, Outcome, OwnLogReport, verify, verify_own_log};
use cohortium_dp::AccountEntry;
use cohortium_dp::account::GENESIS;
use cohortium_ledger::{KeyKind, Log, SignerKey};
use cohortium_messages::{Agreement, Envelope, Fact, Hash, Receipt, ReleaseDocument, Task, Verified, canonical_bytes};

use cohortium_store::{Batch, MemoryStore, Store as _};

use crate::world::*;

#[test]
fn a_good_log_is_reported() {
    let story = Story::good();
    let report = story.verify().unwrap();
    let kinds =
        [("agreement", 3), ("failure", 1), ("permit", 6), ("price", 5), ("refusal", 1), ("release", 1), ("task", 3)];
    let found: Vec<(&str, u64)> = report.entries.clone().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(found, kinds);
    assert_eq!(report.entries.len(), 13);
    assert_eq!((report.log.size, report.log.origin.as_str()), (20, "hub"));
    assert_eq!(report.log.cosigned_by.len(), 3);
    assert_eq!(report.studies.len(), 1);

    let release = hash_of(&opened::<ReleaseDocument>(&story.lines[RELEASE]));
    let outcomes: Vec<&Outcome> = report.tasks.iter().map(|task| &task.outcome).collect();
    let reason = String::from("no answer in time from c");
    let clauses = vec![String::from("hub: heart-study/purpose")];
    let expected = [
        &Outcome::Released { entry: 10, release, suppressed: 0 },
        &Outcome::Failed { reason },
        &Outcome::Refused { clauses },
    ];
    assert_eq!(outcomes, expected);

    // ε of the one task at δ = 10^-6, as `query` states it; the account's own is a little more (δ over all orders).
    let alone = report.tasks[0].epsilon_micro.unwrap() as f64 / 1e6;
    let [a, b, c] = report.accounts.as_slice() else { panic!("three accounts") };
    assert!(a.epsilon_spent >= alone && a.epsilon_spent < 1.3 * alone, "{} of {alone}", a.epsilon_spent);
    assert_eq!((a.sequence, b.sequence, c.sequence), (5, 5, 4));
    assert_eq!(a.epsilon_spent, b.epsilon_spent);
    assert!(c.epsilon_spent > a.epsilon_spent, "c holds a reservation that it has not given back");
    let findings: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
    assert_eq!(findings, [(FindingKind::Unsettled, Some(11))]);
    assert!(serde_json::to_string(&report).unwrap().contains(r#""outcome":{"state":"released""#));
}

/// The head is cosigned by a member of another study; an unfinished agreement is not judged; a complete one is.
#[test]
fn other_studies_are_covered_when_their_agreement_is_complete() {
    for (custodians, covered) in [(&[2usize, 3][..], true), (&[2][..], false)] {
        let mut story = Story::good();
        let world = &story.world;
        let other = agreement("other-study", world.agreement.hub.clone(), &world.houses[2..], &world.researcher);
        story.lines.extend(world.agreed(&other, custodians));
        let leaves = story.leaves();
        let witnesses: &[usize] = if covered { &[0, 1, 2, 3] } else { &[0, 1, 2] };
        let report = verify(&story.write_leaves(&leaves, witnesses).0, &story.world.envelope).unwrap();
        let proposed = report.findings.iter().any(|finding| finding.kind == FindingKind::Proposal);
        assert_eq!((report.studies.len() == 2, proposed), (covered, !covered));
        let given: Vec<bool> = report.studies.iter().map(|study| study.given).collect();
        assert_eq!(given.iter().filter(|given| **given).count(), 1);
        assert_eq!(report.accounts.len(), if covered { 5 } else { 3 });
    }
    // A signer whom no agreement in the log knows is nobody.
    let story = Story::good();
    let found = verify(&story.write_leaves(&story.leaves(), &[0, 1, 2, 3]).0, &story.world.envelope);
    assert!(matches!(found, Err(AuditError::Log(_))), "{found:?}");
}

/// A task of which the log shows nothing by `a` can account for three entries that it does not show, and for no fourth.
#[test]
fn a_gap_is_a_finding_if_a_task_can_account_for_it_and_an_error_if_none_can() {
    for (missing, fits) in [(1, true), (3, true), (4, false)] {
        let mut story = Story::good();
        skip(&mut story, missing);
        match story.verify() {
            Ok(report) => {
                assert!(fits, "{missing}");
                let gap = report.findings.iter().find(|finding| finding.kind == FindingKind::Gap).unwrap();
                assert_eq!(gap.entry, Some(SECOND_PERMIT_A as u64));
                assert!(gap.text.contains(&format!("{missing} entries of the account of heart at a")), "{}", gap.text);
            }
            Err(error) => {
                assert!(!fits, "{missing}: {error}");
                assert!(error.to_string().contains("no task in the log can account for so many"), "{error}");
            }
        }
    }
}

/// A hub shows a task to `a`, takes its permit and its price, and logs a failure and nothing else; or it logs the permit and
/// not the price; or the task is of a study whose agreement it keeps out of its log. Nobody skipped a number, and nobody is
/// named for it. One entry more than these tasks can account for is a contradiction.
#[test]
fn repro_a_hub_that_withholds_accuses_nobody() {
    for (case, withheld) in [("permit and price", 3), ("the price", 2), ("an agreement", 3)] {
        for (more, is_accepted) in [(0, true), (1, false)] {
            let found = withholding(case, withheld + more).verify();
            let named = matches!(&found, Err(AuditError::Members { .. }));
            assert!(if is_accepted { found.is_ok() } else { named }, "{case}, {more} more: {found:?}");
            if let Ok(report) = found {
                let gaps = report.findings.iter().filter(|finding| finding.kind == FindingKind::Gap);
                assert_eq!(gaps.count(), 1, "{case}");
            }
        }
    }
}

/// A task by which entries of `a`'s account are withheld, and the next one, whose permit shows that so many are missing.
fn withholding(case: &str, missing: u64) -> Story {
    let mut world = World::new(|_| ());
    let mut accounts = [account(), account(), account()];
    let mut lines = world.agreed(&world.agreement, &[0, 1, 2]);
    let (first, next) = (world.task("first", "HMB"), world.task("next", "HMB"));
    if case == "an agreement" {
        let given = (world.agreement.clone(), world.envelope.clone());
        let mut other = (*world.agreement).clone();
        other.study = name("other-study");
        let envelope = signed_by_all(&other, &world.houses[..3]);
        world.agreement = cohortium_policy::open_agreement(&envelope).unwrap();
        lines.extend(world.agreed(&other, &[0, 1]));
        let task = world.task("elsewhere", "HMB");
        lines.push(world.asked(&task, &world.researcher.key));
        (world.agreement, world.envelope) = given;
    } else {
        lines.push(world.asked(&first, &world.researcher.key));
        let permit = world.permit(0, &mut accounts[0], &first);
        lines.extend((case == "the price").then_some(permit));
        let reason = String::from("no answer in time");
        lines.push(world.line(Key::Hub, Fact::Failure { reason, task: hash_of(&first) }, None));
    }
    lines.push(world.asked(&next, &world.researcher.key));
    let mut book = account();
    lines.push(world.permit(0, &mut book, &next));
    lines.push(world.refunded(0, &mut book, &next));
    let (permit, shown) = (lines.len() - 2, u64::from(case == "the price"));
    let mut story = Story { lines, world };
    let reserve = story.account(permit, 0);
    (reserve.sequence, reserve.previous) = (1 + shown + missing, Hash::of(b"what nobody shows").to_string());
    let (number, head) = (reserve.sequence, reserve.hash_hex().unwrap());
    let refund = story.account(permit + 1, 0);
    (refund.sequence, refund.previous) = (number + 1, head);
    story
}

/// A hub logs failures, answers `Accepted` to the refunds and keeps them out of its log. The next task that the node could
/// pay for looked like one over budget. An account number is missing for each refund; where none is, the node overspent.
#[test]
fn repro_a_hub_that_withholds_refunds_accuses_nobody() {
    for (number, is_accepted) in [(5, true), (4, true), (3, false)] {
        // Two tasks cost about 0.31 with δ over all orders, three 0.38.
        let world = World::new(|agreement| {
            for limit in [
                &mut agreement.budgets.epsilon_per_query,
                &mut agreement.budgets.epsilon_per_researcher,
                &mut agreement.budgets.epsilon_total,
            ] {
                *limit = "0.35".parse().unwrap();
            }
        });
        let (mut lines, mut book) = (world.agreed(&world.agreement, &[0, 1, 2]), account());
        for nonce in ["first", "second"] {
            let task = world.task(nonce, "HMB");
            lines.push(world.asked(&task, &world.researcher.key));
            lines.push(world.permit(0, &mut book, &task));
            let reason = String::from("no answer in time");
            lines.push(world.line(Key::Hub, Fact::Failure { reason, task: hash_of(&task) }, None));
        }
        let withheld = ["first", "second"].map(|nonce| world.task(nonce, "HMB"));
        for task in &withheld[..number - 3] {
            drop(world.refunded(0, &mut book, task));
        }
        let task = world.task("third", "HMB");
        lines.push(world.asked(&task, &world.researcher.key));
        lines.push(world.permit(0, &mut book, &task));
        assert_eq!(book.sequence(), number as u64);
        let permit = (lines.len() - 1) as u64;
        let found = Story { lines, world }.verify();
        match &found {
            Ok(report) => {
                assert!(is_accepted, "{number}: {report:?}");
                let gap = report.findings.iter().find(|finding| finding.kind == FindingKind::Gap).unwrap();
                assert!(gap.entry == Some(permit), "{number}: {gap:?}");
                assert!(!report.accounts[0].contradicted);
            }
            Err(AuditError::Members { first, .. }) => {
                assert!(!is_accepted && first.contains("over budget"), "{number}: {first}");
            }
            Err(error) => panic!("{number}: {error}"),
        }
    }
}

/// Two tasks under way at once: the second is reserved before the first is paid, and permitted in the log only later.
#[test]
fn tasks_that_overlap_are_one_chain_in_the_end() {
    let world = World::new(|_| ());
    let mut accounts = [account(), account(), account()];
    let (first, second) = (world.task("first", "HMB"), world.task("second", "HMB"));
    let mut lines = world.agreed(&world.agreement, &[0, 1, 2]);
    lines.extend([&first, &second].map(|task| world.asked(task, &world.researcher.key)));
    lines.extend((0..3).map(|house| world.permit(house, &mut accounts[house], &first)));
    let later: Vec<Line> = (0..3).map(|house| world.permit(house, &mut accounts[house], &second)).collect();
    lines.extend((0..3).map(|house| world.spent(house, &mut accounts[house], &first)));
    lines.push(world.released(&first, &accounts, |_| ()));
    let mut story = Story { lines, world };
    let report = story.verify().unwrap();
    assert!(report.findings.len() == 3 && report.findings.iter().all(|finding| finding.kind == FindingKind::Gap));
    let before = report.accounts[0].epsilon_spent;
    story.lines.extend(later);
    let report = story.verify().unwrap();
    assert!(report.findings.is_empty() && report.accounts[0].epsilon_spent > before, "{:?}", report.findings);
    assert_eq!(report.tasks[1].outcome, Outcome::Open);
}

#[test]
fn a_hub_that_refuses_what_is_agreed_is_noticed() {
    let mut story = Story::good();
    let task = story.world.task("fourth", "HMB");
    let asked = story.world.asked(&task, &story.world.researcher.key);
    let fact = Fact::Refusal { clauses: Vec::new(), task: hash_of(&task), why: String::from("no") };
    let refusal = story.world.line(Key::Hub, fact, None);
    story.lines.extend([asked, refusal]);
    let report = story.verify().unwrap();
    assert!(report.findings.iter().any(|finding| finding.kind == FindingKind::Refusal && finding.entry == Some(21)));
}

// ---------------------------------------------------------------- what is wrong

/// Each case makes one thing wrong in a good story before it is signed; the audit names the entry and the reason.
#[test]
fn what_is_wrong_is_found_where_it_is() {
    type Edit = fn(&mut Story);
    let cases: [(&str, Edit, u64, &str); 29] = [
        ("price_altered", |s| cheaper(s.account(PRICE_A, 1)), 7, "another price"),
        ("permit_at_another_price", |s| cheaper(s.account(PERMIT_A, 0)), 4, "another price"),
        ("permit_without_task", |s| drop(s.lines.remove(TASK)), 3, "which the log does not hold before it"),
        ("permit_before_task", |s| s.lines.swap(TASK, PERMIT_A), 3, "which the log does not hold before it"),
        ("permit_twice", |s| repeat(s, PERMIT_A, 5), 5, "second permit of a"),
        ("price_after_release", |s| repeat(s, PRICE_A, 11), 11, "released before, at entry 10"),
        ("permit_missing", |s| drop(s.lines.remove(PERMIT_B)), 7, "no permit of b"),
        ("member_missing", |s| drop((s.lines.remove(PRICE_B), s.lines.remove(PERMIT_B))), 8, "without a permit of b"),
        ("permit_of_other_plan", |s| other_plan(s), 4, "another plan"),
        ("permit_of_forbidden_purpose", |s| permit_forbidden(s), 19, "permits what is forbidden"),
        (
            "permit_out_of_force",
            |s| s.lines[PERMIT_A].entry.time = start().plus_seconds(-9),
            4,
            "permits what is forbidden",
        ),
        (
            "permit_with_a_spend",
            |s| s.account(PERMIT_A, 0).kind = cohortium_dp::EntryKind::Spend,
            4,
            "without reserving",
        ),
        ("permit_for_a_schedule", |s| schedule(s), 4, "another number of rounds"),
        ("price_without_permit", |s| s.lines.swap(PERMIT_A, PRICE_A), 4, "no permit of a"),
        ("price_twice", |s| repeat(s, SECOND_PRICE_A, 17), 17, "second settlement of a"),
        ("price_read_and_not_spent", |s| s.account(PRICE_A, 1).kind = cohortium_dp::EntryKind::Reading, 7, "neither"),
        ("price_of_other_researcher", |s| s.account(PRICE_A, 0).researcher = "x/y".into(), 7, "another researcher"),
        ("released_twice", |s| repeat(s, RELEASE, 11), 11, "released before"),
        ("released_before_paid", |s| s.lines.swap(PRICE_C, RELEASE), 9, "without a spent price of c"),
        ("released_after_refusal", |s| refuse(s), 11, "refused or had failed"),
        ("release_hash_altered", |s| other_release(s), 10, "not the document that the entry describes"),
        ("sequence_zero", |s| s.account(PERMIT_A, 0).sequence = 0, 4, "another number than"),
        ("task_twice", |s| repeat(s, TASK, 4), 4, "asks the task of entry 3 again"),
        ("task_of_a_stranger", |s| stranger(s), 3, "the task: no valid signature"),
        ("entry_signed_by_another", |s| s.lines[PERMIT_A].key = Key::Node(1), 4, "not signed by the author it names"),
        ("entry_by_no_party", |s| by(s, PERMIT_A, Key::Node(3)), 4, "may not say so"),
        ("release_by_a_node", |s| by(s, RELEASE, Key::Node(0)), 10, "may not say so"),
        ("refusal_of_the_hub_twice", |s| repeat(s, REFUSAL, 20), 20, "second refusal of hub"),
        ("entry_of_another_study", |s| s.lines[PERMIT_A].entry.study = name("x"), 4, "not the one of its agreement"),
    ];
    let mut story = Story::good();
    let good = story.lines.clone();
    for (defect, edit, index, expected) in cases {
        story.lines.clone_from(&good);
        edit(&mut story);
        let error = story.verify().err().unwrap_or_else(|| panic!("{defect} was accepted"));
        let AuditError::Entry { index: found, why } = &error else { panic!("{defect}: {error}") };
        assert!(*found == index && why.contains(expected), "{defect}: {error}");
    }
}

/// What a member signs about its own accounts is its own fault: it is named, nothing that it says of them is believed, and
/// everybody else is judged as ever.
#[test]
fn a_member_that_contradicts_its_account_is_named_and_the_others_are_judged() {
    let mut story = Story::good();
    let (good, lines) = (story.verify().unwrap(), story.lines.clone());
    type Edit = fn(&mut Story);
    let cases: [(&str, Edit, u64, &str); 5] = [
        ("chain_broken", |s| s.account(PRICE_A, 0).previous = GENESIS.into(), 7, "contradicts log entry 4"),
        ("chain_forked", |s| s.account(SECOND_PERMIT_A, 0).previous = GENESIS.into(), 12, "contradicts log entry 7"),
        ("chain_not_from_the_start", |s| s.account(PERMIT_A, 0).previous = "x".into(), 4, "something before it"),
        ("numbers_that_skip", |s| skip(s, 4), 12, "no task in the log can account for so many"),
        ("numbers_far_away", |s| skip(s, 1 << 52), 12, "no task in the log can account for so many"),
    ];
    for (defect, edit, index, expected) in cases {
        story.lines.clone_from(&lines);
        edit(&mut story);
        let error = story.verify().err().unwrap_or_else(|| panic!("{defect} was accepted"));
        assert!(error.to_string().contains(&format!("entry {index}: ")), "{defect}: {error}");
        let AuditError::Members { first, report } = error else { panic!("{defect}: {error}") };
        assert!(first.contains(expected) && first.contains("nothing that a says"), "{defect}: {first}");
        let contradictions: Vec<_> = report.findings.iter().filter(|f| f.kind == FindingKind::Contradiction).collect();
        assert!(contradictions.len() == 1 && contradictions[0].entry == Some(index), "{defect}: {contradictions:?}");
        assert_eq!(
            report.accounts.iter().map(|account| account.contradicted).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!((&report.accounts[1..], &report.tasks), (&good.accounts[1..], &good.tasks), "{defect}");
        // Two tasks permitted, the refund of the second not believed: what c, who has not refunded, is charged with.
        assert_eq!(report.accounts[0].epsilon_spent, good.accounts[2].epsilon_spent, "{defect}");

        // What else is wrong is still found, and ends the audit as ever.
        repeat(&mut story, RELEASE, 11);
        let error = story.verify().unwrap_err();
        assert!(matches!(&error, AuditError::Entry { index: 11, why } if why.contains("released before")), "{error}");
    }
}

/// Leaves out numbers of `a`'s account between its first task and its second.
fn skip(story: &mut Story, missing: u64) {
    let permit = story.account(SECOND_PERMIT_A, 0);
    (permit.sequence, permit.previous) = (permit.sequence + missing, Hash::of(b"what nobody shows").to_string());
    let (number, head) = (permit.sequence, permit.hash_hex().unwrap());
    let refund = story.account(SECOND_PRICE_A, 0);
    (refund.sequence, refund.previous) = (number + 1, head);
}

fn schedule(story: &mut Story) {
    story.account(PERMIT_A, 0).rounds = Some(5);
}

fn cheaper(entry: &mut AccountEntry) {
    entry.price.curve = cohortium_dp::Curve::default();
}

fn repeat(story: &mut Story, line: usize, at: usize) {
    let again = story.lines[line].clone();
    story.lines.insert(at, again);
}

fn by(story: &mut Story, line: usize, key: Key) {
    story.lines[line].key = key;
    story.lines[line].entry.author = story.world.author(key);
}

fn other_plan(story: &mut Story) {
    if let Fact::Permit { plan, .. } = &mut story.lines[PERMIT_A].entry.fact {
        *plan = Hash::of(b"another plan");
    }
}

fn other_release(story: &mut Story) {
    if let Fact::Release { release, .. } = &mut story.lines[RELEASE].entry.fact {
        *release = Hash::of(b"another release");
    }
}

/// A node permits what the hub had refused; of the refusal nothing is in the log.
fn permit_forbidden(story: &mut Story) {
    story.lines.pop();
    let task = opened::<Task>(&story.lines[REFUSED]);
    let permit = story.world.permit(0, &mut account(), &task);
    story.lines.push(permit);
}

fn refuse(story: &mut Story) {
    let task = hash_of(&opened::<Task>(&story.lines[TASK]));
    let fact = Fact::Refusal { clauses: Vec::new(), task, why: String::from("no") };
    let refusal = story.world.line(Key::Node(0), fact, None);
    story.lines.insert(RELEASE, refusal);
}

fn stranger(story: &mut Story) {
    let task = opened::<Task>(&story.lines[TASK]);
    story.lines[TASK] = story.world.asked(&task, &story.world.houses[3].1.message);
}

/// What a receipt says must follow from the log.
#[test]
fn receipts_that_do_not_follow_from_the_log_are_found() {
    type Edit = fn(&mut Receipt);
    let cases: [(&str, Edit, &str); 5] = [
        ("other_rows", |r| r.snapshot = Hash::of(b"other rows"), "snapshot"),
        ("other_position", |r| r.context = Hash::of(b"elsewhere"), "context"),
        ("before_paying", |r| r.account_sequence = 1, "account_sequence"),
        ("forged_head", |r| r.account_head = Hash::of(b"another book"), "contradicts log entry"),
        ("another_plan", |r| r.plan = Hash::of(b"another plan"), "states another plan"),
    ];
    for (defect, edit, expected) in cases {
        let error = Story::with(|_| (), edit).verify().err().unwrap_or_else(|| panic!("{defect} was accepted"));
        assert!(error.to_string().contains("entry 10") && error.to_string().contains(expected), "{defect}: {error}");
    }
}

#[test]
fn spending_more_than_agreed_is_found() {
    // One task costs about 0.27 with δ over all orders, two about 0.39.
    for (limit, fits) in [("0.3", false), ("0.5", true)] {
        let story = Story::with(
            |agreement| {
                agreement.budgets.epsilon_per_query = limit.parse().unwrap();
                agreement.budgets.epsilon_per_researcher = limit.parse().unwrap();
                agreement.budgets.epsilon_total = limit.parse().unwrap();
            },
            |_| (),
        );
        match story.verify() {
            Ok(_) => assert!(fits, "{limit}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!fits && text.contains("entry 12") && text.contains("over budget"), "{limit}: {text}");
            }
        }
    }
}

#[test]
fn leaves_must_be_canonical_signed_entries() {
    let story = Story::good();
    let mut spaced = story.leaves();
    spaced[4].insert(1, b' ');
    let cases = [(spaced, 4, "canonical"), (vec![b"hello".to_vec()], 0, "not a signed entry")];
    for (leaves, index, expected) in cases {
        let error = verify(&story.write_leaves(&leaves, &[0, 1, 2]).0, &story.world.envelope).unwrap_err();
        assert!(
            matches!(&error, AuditError::Entry { index: i, why } if *i == index && why.contains(expected)),
            "{error}"
        );
    }
}

#[test]
fn documents_that_are_missing_altered_or_too_many_are_found() {
    let story = Story::good();
    let body = story.lines[TASK].entry.fact.body().unwrap();
    type Edit = fn(PathBuf, Hash);
    let cases: [(Edit, &str); 3] = [
        (|dir, body| std::fs::remove_file(dir.join(body.to_string())).unwrap(), "is missing"),
        (|dir, body| std::fs::write(dir.join(body.to_string()), b"{}").unwrap(), "does not have the hash in its name"),
        (|dir, _| std::fs::write(dir.join(Hash::of(b"{}").to_string()), b"{}").unwrap(), "no entry names it"),
    ];
    for (edit, expected) in cases {
        let scratch = story.write();
        edit(scratch.0.join("body"), body);
        let error = verify(&scratch.0, &story.world.envelope).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn the_agreement_must_be_signed_by_all_logged_and_its_parties_must_have_cosigned() {
    let story = Story::good();
    let scratch = story.write();
    let one = Envelope::sign(&*story.world.agreement, &story.world.houses[0].1.agreement).unwrap();
    let unsigned = verify(&scratch.0, &one).unwrap_err();
    assert!(matches!(&unsigned, AuditError::Agreement { why } if why.contains("no valid signature")), "{unsigned}");

    let unknown = World::new(|agreement| agreement.study = name("never-begun"));
    let unlogged = verify(&scratch.0, &unknown.envelope).unwrap_err();
    assert!(matches!(&unlogged, AuditError::Agreement { why } if why.contains("does not record it")), "{unlogged}");

    for witnesses in [&[0, 1][..], &[0, 1, 3][..]] {
        let scratch = story.write_leaves(&story.leaves(), witnesses);
        let error = verify(&scratch.0, &story.world.envelope).unwrap_err();
        assert!(matches!(error, AuditError::Log(_)), "{witnesses:?}: {error}");
    }

    // Custodian c's own entry is missing: the agreement is signed all the same.
    let mut quiet = Story::good();
    drop(quiet.lines.drain(2..3));
    quiet.lines.truncate(2);
    let report = quiet.verify().unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::Agreement);
}

// ---------------------------------------------------------------- a node's own log

/// The decisions of node `a`, as it logs them for itself.
fn own(story: &Story) -> Vec<Line> {
    [PERMIT_A, PRICE_A, SECOND_PERMIT_A, SECOND_PRICE_A].map(|line| story.lines[line].clone()).to_vec()
}

fn verify_own(story: &Story, lines: Vec<Line>) -> Result<OwnLogReport, AuditError> {
    verify_own_under(story, lines, std::slice::from_ref(&story.world.agreement))
}

fn verify_own_under(
    story: &Story,
    lines: Vec<Line>,
    agreements: &[Verified<Agreement>],
) -> Result<OwnLogReport, AuditError> {
    let (name, keys) = &story.world.houses[0];
    let sign = |line: &Line| Envelope::sign(&line.entry, story.world.key(line.key)).unwrap();
    let leaves: Vec<Vec<u8>> = lines.iter().map(|line| canonical_bytes(&sign(line)).unwrap()).collect();
    let scratch = Scratch::new();
    write_log(&scratch, name.as_str(), &keys.log, &leaves, &[], |head| head);
    verify_own_log(&scratch.0, name, agreements)
}

/// What people said under an earlier revision is judged by that one: the house holds them all.
#[test]
fn a_nodes_own_log_is_judged_under_every_revision() {
    let (story, second) = crate::people::amended(|_| ());
    let freeze = |frozen| Fact::Freeze { frozen, why: String::from("to look at it") };
    let lines = vec![
        story.world.line(Key::Person(0, OTTO), freeze(true), None),
        second.line(Key::Person(0, PAULA), freeze(false), None),
    ];
    let both = [story.world.agreement.clone(), second.agreement.clone()];
    assert_eq!(verify_own_under(&story, lines.clone(), &both).unwrap().findings, []);
    let report = verify_own_under(&story, lines.clone(), &both[1..]).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
    assert_eq!(found, [(FindingKind::NotCovered, Some(0))]);
    let mut forged = lines;
    forged[0].key = Key::Person(1, OTTO);
    assert!(verify_own_under(&story, forged, &both).unwrap_err().to_string().contains("not signed by"));
}

#[test]
fn a_nodes_own_log_is_its_own_and_one_chain() {
    let story = Story::good();
    let report = verify_own(&story, own(&story)).unwrap();
    assert_eq!((report.log.size, report.sequences["heart"], report.findings.len()), (4, 5, 0));

    type Edit = fn(&Story, &mut Vec<Line>);
    let cases: [(&str, Edit, &str); 6] = [
        ("anothers_decision", |s, lines| lines.push(s.lines[PERMIT_B].clone()), "no decision of a"),
        ("not_a_decision", |s, lines| lines.push(s.lines[RELEASE].clone()), "no decision of a"),
        ("signed_by_another", |_, lines| lines[1].key = Key::Node(1), "not signed"),
        ("price_before_permit", |_, lines| lines.swap(0, 1), "do not follow"),
        ("price_dropped", |_, lines| drop(lines.drain(0..2)), "no task in the log can account"),
        (
            "chain_broken",
            |_, lines| {
                if let Fact::Permit { account, .. } = &mut lines[2].entry.fact {
                    account.previous = GENESIS.into();
                }
            },
            "contradicts log entry 1",
        ),
    ];
    for (defect, edit, expected) in cases {
        let mut lines = own(&story);
        edit(&story, &mut lines);
        let error = verify_own(&story, lines).err().unwrap_or_else(|| panic!("{defect} was accepted"));
        assert!(error.to_string().contains(expected), "{defect}: {error}");
    }

    // A run that is under way may have written two entries that no decision shows yet.
    let mut lines = own(&story);
    drop(lines.remove(1));
    let report = verify_own(&story, lines).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::Gap]);
}

/// The log that these tests write is the one that the ledger writes.
#[test]
fn the_tests_write_what_the_ledger_writes() {
    let story = Story::good();
    let (quick, slow) = (story.write(), Scratch::new());
    let mut store = MemoryStore::new();
    let signer = SignerKey::from_seed("hub", KeyKind::Log, &story.world.log_key.expose_seed()).unwrap();
    let mut log = Log::open(&slow.0, &store, &signer).unwrap();
    for body in story.lines.iter().filter_map(|line| line.body.as_deref()) {
        log.put_body(body).unwrap();
    }
    let mut batch = Batch::new();
    let staged = log.stage(&story.leaves(), &mut batch).unwrap();
    store.commit(batch).unwrap();
    let head = story.cosigned(log.apply(staged, &store, &signer).unwrap(), &[0, 1, 2]);
    let witnesses = [0, 1, 2].map(|house| story.witness(house).verifier().clone());
    log.set_cosigned(head.to_string().as_bytes(), &witnesses).unwrap();
    assert_eq!(files(&quick.0), files(&slow.0));
}
