//! The evidence of one release: complete, checkable without us, always the same, and never written from what failed.

use std::collections::BTreeMap;
use std::path::Path;

use chacha20::ChaCha20Rng;
use cohortium_audit::export::Statement;
use cohortium_audit::{Attester, ExportError, Exported, export};
use cohortium_dp::account::GENESIS;
use cohortium_ledger::{LogPolicy, LogProof};
use cohortium_messages::{Entry, Envelope, Hash, Receipt, ReleaseDocument, SigningKey, Task, canonical_bytes};
use cohortium_policy::Revoked;
use data_encoding::HEXLOWER;
use rand_core::SeedableRng as _;
use sha2::{Digest as _, Sha512};

use crate::world::*;

/// Where to leave a crate for other people's tools (`cargo xtask test --with-peers`).
const LEAVE_AT: &str = "COHORTIUM_WRITE_CRATE";

fn attester_key() -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::from_seed([9; 32]))
}

fn release_of(story: &Story) -> Hash {
    hash_of(&opened::<ReleaseDocument>(&story.lines[RELEASE]))
}

fn write(story: &Story, release: Hash, out: &Path) -> Result<Exported, ExportError> {
    let (key, auditor) = (attester_key(), name("ines"));
    let attester = Attester { at: start().plus_seconds(86_400), key: &key, name: &auditor };
    export(&story.write().0, &story.world.envelope, release, out, &attester)
}

/// Revision 2 states another witness key of `c`, and the head is cosigned with that: it meets the log policy of revision 2
/// alone. Everything that shows so is in the crate.
#[test]
fn repro_a_crate_under_an_amended_policy_verifies_alone() {
    let (story, rotated) = crate::agreements::rotated();
    let scratch = Scratch::new();
    let (key, auditor, out) = (attester_key(), name("ines"), scratch.0.join("bag"));
    let attester = Attester { at: start(), key: &key, name: &auditor };
    let log = crate::agreements::written_with(&story, &rotated);
    export(&log.0, &story.world.envelope, release_of(&story), &out, &attester).unwrap();

    let found = files(&out.join("data"));
    let first = cohortium_policy::open_agreement(&envelope(&found, "agreement.json")).unwrap();
    let signed = envelope(&found, "log/amendments/revision-2.json");
    let second = cohortium_policy::open_agreement(&signed).unwrap();
    assert!(first.custodian_keys().iter().all(|key| signed.is_signed_by(key)));
    assert_eq!((second.previous, second.revision), (Some(first.hash()), 2));
    let policy = LogPolicy::parse(&found["log/log-policy.txt"]).unwrap();
    assert!(policy.to_string() == second.log_policy && second.log_policy != first.log_policy);
    let proofs: Vec<&String> = found.keys().filter(|path| path.ends_with(".tlog-proof")).collect();
    assert_eq!(proofs.len(), 11);
    for path in proofs {
        let proof = LogProof::parse(&found[path]).unwrap();
        proof.verify(&found[&path.replace(".tlog-proof", ".json")], &policy).unwrap();
        assert!(
            proof
                .verify(
                    &found[&path.replace(".tlog-proof", ".json")],
                    &LogPolicy::parse(first.log_policy.as_bytes()).unwrap()
                )
                .is_err()
        );
    }
    let release = envelope(&found, "attestations/release.json").open::<Statement>(&key.public()).unwrap();
    let policies: Vec<&str> = release.predicate.verifier.policies.iter().map(|policy| policy.name.as_str()).collect();
    let expected = ["agreement.json", "policy.cedar", "log/log-policy.txt", "log/amendments/revision-2.json"];
    assert_eq!(policies, expected);
}

fn envelope(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Envelope {
    serde_json::from_slice(&files[path]).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_crate_is_complete_and_the_same_each_time() {
    let (story, scratch) = (Story::good(), Scratch::new());
    let outs = ["once", "twice"].map(|out| scratch.0.join(out));
    let exported = outs.each_ref().map(|out| write(&story, release_of(&story), out).unwrap());
    assert_eq!(exported[0], exported[1]);
    let found = files(&outs[0]);
    assert_eq!(found, files(&outs[1]));
    assert_eq!(found.len() as u64, exported[0].files);
    if let Some(path) = std::env::var_os(LEAVE_AT) {
        write(&story, release_of(&story), Path::new(&path)).unwrap();
    }

    // The bag: every payload file and no other, under its SHA-512; the tags likewise.
    let sha512 = |bytes: &[u8]| HEXLOWER.encode(&Sha512::digest(bytes));
    for (manifest, is_listed) in [
        ("manifest-sha512.txt", (|path: &str| path.starts_with("data/")) as fn(&str) -> bool),
        ("tagmanifest-sha512.txt", |path| !path.starts_with("data/") && !path.starts_with("tagmanifest")),
    ] {
        let expected = found.iter().filter(|(path, _)| is_listed(path));
        let expected: String = expected.map(|(path, bytes)| format!("{}  {path}\n", sha512(bytes))).collect();
        assert_eq!(String::from_utf8(found[manifest].clone()).unwrap(), expected, "{manifest}");
    }
    assert_eq!(exported[0].manifest_sha512, sha512(&found["manifest-sha512.txt"]));
    assert!(String::from_utf8_lossy(&found["bag-info.txt"]).contains(&exported[0].identifier));

    // The crate: every file but the metadata itself is an entity, and what it is based on is there.
    let metadata: serde_json::Value = serde_json::from_slice(&found["data/ro-crate-metadata.json"]).unwrap();
    let graph = metadata["@graph"].as_array().unwrap();
    let has = |id: &str| graph.iter().any(|entity| entity["@id"] == id);
    for path in found.keys().filter_map(|path| path.strip_prefix("data/")) {
        assert!(has(path), "{path}");
    }
    for safe in ["people", "project", "data", "setting", "output"] {
        let entity = graph.iter().find(|entity| entity["@id"] == format!("#safe-{safe}")).unwrap();
        let evidence = entity["isBasedOn"].as_array().unwrap();
        assert!(evidence.len() >= 2 && evidence.iter().all(|item| has(item["@id"].as_str().unwrap())), "{safe}");
    }
}

/// What other people would do with the files alone, knowing the keys of the agreement.
#[test]
fn everything_in_a_crate_can_be_checked_from_its_files() {
    let (story, scratch) = (Story::good(), Scratch::new());
    let out = scratch.0.join("bag");
    drop(write(&story, release_of(&story), &out).unwrap());
    let found = files(&out.join("data"));
    let agreement = cohortium_policy::open_agreement(&envelope(&found, "agreement.json")).unwrap();
    assert_eq!(agreement.hash(), story.world.agreement.hash());
    let task = cohortium_policy::open_task(&envelope(&found, "task.json"), &agreement, &Revoked::nothing()).unwrap();
    let release = envelope(&found, "release.json").open::<ReleaseDocument>(&agreement.hub.message_key).unwrap();
    assert_eq!((release.task, release.hash()), (task.hash(), release_of(&story)));
    for (number, party) in agreement.parties.iter().enumerate() {
        let path = format!("receipts/{:03}-{}.json", number + 1, party.entry.organisation);
        let receipt = envelope(&found, &path).open::<Receipt>(&party.entry.message_key).unwrap();
        assert_eq!(receipt.task, task.hash());
    }

    // Each entry, by its proof, under the head with the cosignatures that the policy names.
    let policy = LogPolicy::parse(&found["log/log-policy.txt"]).unwrap();
    assert_eq!(policy.to_string(), agreement.log_policy);
    let entries: Vec<&String> = found.keys().filter(|path| path.ends_with(".tlog-proof")).collect();
    let expected: Vec<usize> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].to_vec();
    let mut indices = Vec::new();
    for path in entries {
        let proof = LogProof::parse(&found[path]).unwrap();
        let entry = &found[&path.replace(".tlog-proof", ".json")];
        let proven = proof.verify(entry, &policy).unwrap();
        assert_eq!(proven.head().cosigned_by().len(), 3);
        assert!(proof.verify(b"another", &policy).is_err());
        let index = proven.index();
        let claims = serde_json::from_slice::<Envelope>(entry).unwrap().peek::<Entry>().unwrap().claims().clone();
        assert!(path.ends_with(&format!("/{index}-{}.tlog-proof", claims.fact.kind())), "{path}");
        indices.push(usize::try_from(index).unwrap());
    }
    indices.sort_unstable();
    assert_eq!(indices, expected);
}

/// A statement opens with the attester's key alone, and each digest in it is that of a file in the crate.
#[test]
fn statements_are_the_attesters_word_about_files_that_are_there() {
    let (story, scratch) = (Story::good(), Scratch::new());
    let out = scratch.0.join("bag");
    drop(write(&story, release_of(&story), &out).unwrap());
    let found = files(&out.join("data"));
    let statements: Vec<&String> =
        found.keys().filter(|path| path.starts_with("attestations/") && path.ends_with(".json")).collect();
    assert_eq!(
        statements,
        [
            "attestations/permit-4.json",
            "attestations/permit-5.json",
            "attestations/permit-6.json",
            "attestations/release.json"
        ]
    );
    for path in statements {
        let envelope = envelope(&found, path);
        let statement = envelope.open::<Statement>(&attester_key().public()).unwrap();
        assert!(envelope.open::<Statement>(&story.world.hub_key.public()).is_err(), "{path}");
        let verifier = &statement.predicate.verifier;
        assert!(verifier.id.starts_with("ni:///sha-256;") && verifier.name == name("ines"), "{path}");
        for resource in statement.subject.iter().chain(&verifier.policies) {
            assert_eq!(resource.digest["sha256"], Hash::of(&found[&resource.name]), "{path}: {}", resource.name);
        }
        assert_eq!(canonical_bytes(&envelope).unwrap(), found[path]);
        assert!(statement.predicate.properties.is_sorted() && statement.predicate.properties.len() >= 4);
    }
}

/// The order of receipts in a release is the hub's, and no check demands one: a file is named after whose receipt it is.
#[test]
fn a_receipt_stands_under_the_name_of_who_signed_it() {
    let (mut story, scratch) = (Story::good(), Scratch::new());
    crate::hostile::republish(&mut story, |document| document.receipts.reverse());
    let out = scratch.0.join("bag");
    drop(write(&story, release_of(&story), &out).unwrap());
    let found = files(&out.join("data"));
    for (path, house) in [("receipts/001-c.json", 2), ("receipts/002-b.json", 1), ("receipts/003-a.json", 0)] {
        envelope(&found, path).open::<Receipt>(&story.world.houses[house].1.message.public()).unwrap();
    }
}

/// The crate is about one release: nothing of the study's other tasks, and nothing that is not in the log.
#[test]
fn a_crate_holds_nothing_of_other_tasks() {
    let (story, scratch) = (Story::good(), Scratch::new());
    let out = scratch.0.join("bag");
    drop(write(&story, release_of(&story), &out).unwrap());
    let others = [11, REFUSED].map(|line| hash_of(&opened::<Task>(&story.lines[line])));
    for (path, bytes) in files(&out) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for other in &others {
            assert!(!text.contains(&other.to_string()), "{path}");
        }
        assert!(!text.contains("no answer in time"), "{path}");
    }
}

#[test]
fn nothing_is_exported_from_what_cannot_be_believed_or_over_what_is_there() {
    let scratch = Scratch::new();
    let story = Story::good();
    let refused = |story: &Story, release: Hash, out: &Path| write(story, release, out).unwrap_err();

    let unknown = refused(&story, Hash::of(b"another"), &scratch.0.join("a"));
    assert!(
        matches!(unknown, ExportError::NoRelease { .. }) && unknown.to_string().contains("has no release"),
        "{unknown}"
    );
    // A task is no release, and a task that failed has none.
    let failed = refused(&story, hash_of(&opened::<Task>(&story.lines[11])), &scratch.0.join("a"));
    assert!(matches!(failed, ExportError::NoRelease { .. }), "{failed}");

    let taken = scratch.0.join("taken");
    std::fs::create_dir(&taken).unwrap();
    let there = refused(&story, release_of(&story), &taken);
    assert!(matches!(&there, ExportError::Folder { path, .. } if *path == taken), "{there}");

    let mut contradicting = Story::good();
    contradicting.account(PRICE_A, 0).previous = GENESIS.into();
    let error = refused(&contradicting, release_of(&contradicting), &scratch.0.join("a"));
    assert!(error.to_string().contains("a contradicts its own account at log entry 7"), "{error}");

    let mut wrong = Story::good();
    wrong.lines.swap(PRICE_C, RELEASE);
    let error = refused(&wrong, release_of(&story), &scratch.0.join("a"));
    assert!(matches!(error, ExportError::Audit(_)), "{error}");
    assert!(!scratch.0.join("a").exists(), "a refusal leaves nothing behind");

    // The agreement of another study, in whose name the release is not.
    let world = &story.world;
    let other = agreement("other-study", world.agreement.hub.clone(), &world.houses[2..], &world.researcher);
    let mut both = Story::good();
    both.lines.extend(both.world.agreed(&other, &[2, 3]));
    let (key, auditor) = (attester_key(), name("ines"));
    let attester = Attester { at: start(), key: &key, name: &auditor };
    let envelope = signed_by_all(&other, &both.world.houses[2..]);
    let log = both.write_leaves(&both.leaves(), &[0, 1, 2, 3]);
    let error = export(&log.0, &envelope, release_of(&both), &scratch.0.join("a"), &attester).unwrap_err();
    assert!(matches!(&error, ExportError::NoRelease { study, .. } if *study == other.study), "{error}");
}

/// Titles and SQL of others go through JSON and HTML here, and stay text in both.
#[test]
fn hostile_text_stays_text_in_a_crate() {
    const HOSTILE: &str = "\"}]</script><script>alert(1)</script>\u{202e}";
    let story = Story::with(|agreement| agreement.title = HOSTILE.into(), |_| ());
    let scratch = Scratch::new();
    let out = scratch.0.join("bag");
    drop(write(&story, release_of(&story), &out).unwrap());
    let found = files(&out.join("data"));
    let preview = String::from_utf8_lossy(&found["ro-crate-preview.html"]).into_owned();
    assert!(
        preview.contains("&lt;script&gt;alert(1)") && !preview.contains("<script") && !preview.contains('\u{202e}')
    );
    let metadata: serde_json::Value = serde_json::from_slice(&found["ro-crate-metadata.json"]).unwrap();
    let project = metadata["@graph"].as_array().unwrap().iter().find(|entity| entity["@id"] == "#project").unwrap();
    assert_eq!(project["description"], HOSTILE);
}
