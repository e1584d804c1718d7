//! Hostile cases by the hundred: a good log, one thing done to it, and the audit must refuse it with words that name
//! what is wrong.
//!
//! Who does it, by what they hold: whoever has the directory changes bytes; a hub with its witnesses rewrites entries and
//! has the new head cosigned; an author signs anew what it should not say; a member keeps two books; whoever hands the
//! agreement over changes that. Each family is generated from a table, says how many cases it ran, and fails when there
//! are fewer than it is known for.
//!
//! What is not here: the formats of notes, proofs and tiles (`ledger`), the clauses of the policy (`policy`). A directory
//! that is, as a whole, an older state of the log is accepted, as the documentation says.

use cohortium_audit::{AuditError, verify};
use cohortium_dp::AccountEntry;
use cohortium_ledger::{Checkpoint, KeyKind, SignedCheckpoint, SignerKey};
use cohortium_messages::{
    Author, Envelope, Fact, Hash, Receipt, ReleaseDocument, SurvivorSet, Task, canonical_bytes, encode_cells,
};
use serde_json::{Value, json};

use crate::world::*;

/// One entry of each kind and author in the good story.
const KINDS: [usize; 8] = [0, TASK, PERMIT_A, PRICE_A, RELEASE, FAILURE, SECOND_PRICE_A, REFUSAL];

/// Runs cases and counts them.
struct Cases {
    family: &'static str,
    ran: usize,
}

impl Cases {
    fn new(family: &'static str) -> Self {
        Self { family, ran: 0 }
    }

    /// The log in `scratch` must be refused, with all of these words.
    fn refuse(&mut self, defect: &str, scratch: &Scratch, agreement: &Envelope, words: &[&str]) {
        self.ran += 1;
        let Err(error) = verify(&scratch.0, agreement) else { panic!("{}: {defect} was accepted", self.family) };
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{}: {defect}: {text:?} does not say {word:?}", self.family);
        }
    }

    fn finish(self, at_least: usize) {
        println!("hostile: {} cases of {}", self.ran, self.family);
        assert!(self.ran >= at_least, "{}: {} cases of {at_least}", self.family, self.ran);
    }
}

/// Whoever has the directory: every file, changed at both ends and in the middle, cut, extended, emptied, gone, renamed.
#[test]
fn a_changed_file_is_named() {
    let story = Story::good();
    let mut cases = Cases::new("a changed file");
    let good = files(&story.write().0);
    for (path, bytes) in &good {
        let flipped = |position: usize| {
            let mut other = bytes.clone();
            other[position] ^= 1;
            Some(other)
        };
        let (middle, last) = (bytes.len() / 2, bytes.len() - 1);
        let edits = [
            ("first byte", flipped(0)),
            ("middle byte", flipped(middle)),
            ("last byte", flipped(last)),
            ("cut by a byte", Some(bytes[..last].to_vec())),
            ("cut in half", Some(bytes[..middle].to_vec())),
            ("extended", Some([bytes.as_slice(), b"\n"].concat())),
            ("emptied", Some(Vec::new())),
            ("gone", None),
        ];
        for (defect, edited) in edits {
            let scratch = story.write();
            match edited {
                Some(bytes) => put(&scratch, path, &bytes),
                None => std::fs::remove_file(scratch.0.join(path)).unwrap(),
            }
            cases.refuse(&format!("{path}: {defect}"), &scratch, &story.world.envelope, &[path]);
        }
        let scratch = story.write();
        std::fs::rename(scratch.0.join(path), scratch.0.join(format!("{path}x"))).unwrap();
        cases.refuse(&format!("{path}: renamed"), &scratch, &story.world.envelope, &[path]);
    }
    cases.finish(80);
}

/// A hub and its witnesses, without the author's key: one entry of each kind is written anew, and the head cosigned.
#[test]
fn an_entry_that_its_author_did_not_sign_is_named() {
    let story = Story::good();
    let mut cases = Cases::new("an entry without its author");
    let good = story.leaves();
    for index in KINDS {
        let leaf: Value = serde_json::from_slice(&good[index]).unwrap();
        let other: Value = serde_json::from_slice(&good[(index + 1) % good.len()]).unwrap();
        let payload = |edit: &dyn Fn(&mut Value)| {
            let bytes = data_encoding::BASE64.decode(leaf["payload"].as_str().unwrap().as_bytes()).unwrap();
            let mut claims: Value = serde_json::from_slice(&bytes).unwrap();
            edit(&mut claims);
            let mut leaf = leaf.clone();
            leaf["payload"] = data_encoding::BASE64.encode(&canonical_bytes(&claims).unwrap()).into();
            leaf
        };
        let envelope = |edit: &dyn Fn(&mut Value)| {
            let mut leaf = leaf.clone();
            edit(&mut leaf);
            leaf
        };
        let stranger = &story.world.houses[3].1;
        let resigned = |key: &cohortium_messages::SigningKey| {
            let signed = Envelope::sign(&story.lines[index].entry, key).unwrap();
            serde_json::to_value(signed).unwrap()
        };
        let edits: [(&str, Value, &str); 14] = [
            ("signature stripped", envelope(&|e| e["signatures"] = json!([])), "number of signatures"),
            ("a second signature", envelope(&|e| add(e, &other["signatures"][0])), "number of signatures"),
            ("another's signature", envelope(&|e| e["signatures"] = other["signatures"].clone()), "not signed by"),
            (
                "another's bytes",
                envelope(&|e| e["signatures"][0]["sig"] = other["signatures"][0]["sig"].clone()),
                "not signed by",
            ),
            ("key swapped", resigned(&stranger.message), "not signed by"),
            ("signed with a witness key", resigned(&story.world.houses[0].1.witness), "not signed by"),
            ("signed with the log key", resigned(&story.world.log_key), "not signed by"),
            (
                "payload type",
                envelope(&|e| e["payloadType"] = "application/json".into()),
                "expected a document of type",
            ),
            (
                "version rolled back",
                envelope(&|e| e["payloadType"] = "application/vnd.cohortium.entry.v0+json".into()),
                "expected a document of type",
            ),
            ("payload is no base64", envelope(&|e| e["payload"] = "*".into()), "not base64"),
            ("clock turned", payload(&|c| c["time"] = "2026-11-23T00:00:00Z".into()), "not signed by"),
            ("clock in no format", payload(&|c| c["time"] = "yesterday".into()), "is not a time"),
            ("unknown field", payload(&|c| c["more"] = 1.into()), "unknown field"),
            ("unknown kind", payload(&|c| c["fact"] = json!({"promise": {}})), "unknown variant"),
        ];
        for (defect, leaf, expected) in edits {
            let mut leaves = good.clone();
            leaves[index] = canonical_bytes(&leaf).unwrap();
            let scratch = story.write_leaves(&leaves, &[0, 1, 2]);
            let place = format!("entry {index}: ");
            cases.refuse(&format!("entry {index}: {defect}"), &scratch, &story.world.envelope, &[&place, expected]);
        }
    }
    cases.finish(112);
}

fn add(envelope: &mut Value, signature: &Value) {
    envelope["signatures"].as_array_mut().unwrap().push(signature.clone());
}

/// An author with its own key: names another as author, takes another role, speaks of another study.
#[test]
fn an_author_who_may_not_say_so_is_named() {
    let mut story = Story::good();
    let lines = story.lines.clone();
    let mut cases = Cases::new("an author who may not say so");
    for index in KINDS {
        let own = match &lines[index].entry.author {
            Author::Custodian(own) | Author::Hub(own) | Author::Node(own) | Author::Researcher(own) => own.clone(),
            Author::Person { organisation, .. } => organisation.clone(),
        };
        let roles = [
            Author::Custodian(own.clone()),
            Author::Hub(own.clone()),
            Author::Node(own.clone()),
            Author::Person { organisation: own.clone(), person: name("paula") },
            Author::Researcher(own),
        ];
        for author in roles.into_iter().filter(|author| *author != lines[index].entry.author) {
            story.lines.clone_from(&lines);
            story.lines[index].entry.author = author.clone();
            let (defect, place) = (format!("entry {index} as {author:?}"), format!("entry {index}: "));
            cases.refuse(&defect, &story.write(), &story.world.envelope, &[&place]);
        }
        for stranger in ["b", "d", "nobody"] {
            story.lines.clone_from(&lines);
            let stranger = name(stranger);
            story.lines[index].entry.author = match &lines[index].entry.author {
                Author::Custodian(_) => Author::Custodian(stranger),
                Author::Hub(_) => Author::Hub(stranger),
                Author::Node(_) => Author::Node(stranger),
                Author::Person { person, .. } => Author::Person { organisation: stranger, person: person.clone() },
                Author::Researcher(_) => Author::Researcher(stranger),
            };
            let (defect, place) = (format!("entry {index} in another's name"), format!("entry {index}: "));
            cases.refuse(&defect, &story.write(), &story.world.envelope, &[&place]);
        }
        story.lines.clone_from(&lines);
        story.lines[index].entry.study = name("another-study");
        let place = format!("entry {index}: ");
        cases.refuse(&format!("entry {index} in another study"), &story.write(), &story.world.envelope, &[&place]);
    }
    cases.finish(56);
}

/// A node with its own key: a permit or price on other terms than follow from the task.
#[test]
fn an_account_entry_on_other_terms_is_named() {
    let mut story = Story::good();
    let lines = story.lines.clone();
    let mut cases = Cases::new("other terms");
    type Edit = fn(&mut AccountEntry);
    let terms: [(&str, Edit); 9] = [
        ("another dataset", |a| a.dataset = "lungs".into()),
        ("another price", |a| a.price.curve = cohortium_dp::Curve::default()),
        ("another price", |a| a.price.version += 1),
        ("another researcher", |a| a.researcher = "heart-study/other".into()),
        ("another round", |a| a.round = 1),
        ("another number of rounds", |a| a.rounds = Some(2)),
        ("another study", |a| a.study = "other-study".into()),
        ("another task", |a| a.task = Hash::of(b"another task").to_string()),
        ("another version", |a| a.version = 0),
    ];
    for (line, position) in
        [(PERMIT_A, 0), (PERMIT_B, 0), (PRICE_A, 0), (PRICE_A, 1), (SECOND_PERMIT_A, 0), (SECOND_PRICE_A, 0)]
    {
        for (expected, edit) in terms {
            story.lines.clone_from(&lines);
            edit(story.account(line, position));
            let place = format!("entry {line}: ");
            cases.refuse(
                &format!("entry {line}: {expected}"),
                &story.write(),
                &story.world.envelope,
                &[&place, expected],
            );
        }
    }
    // Clocks outside the agreement's term, and a permit for what was not asked.
    for line in [PERMIT_A, PERMIT_B, SECOND_PERMIT_A] {
        for seconds in [-1, -86_400, 365 * 86_400, 366 * 86_400] {
            story.lines.clone_from(&lines);
            story.lines[line].entry.time = start().plus_seconds(seconds);
            let place = format!("entry {line}: permits what is forbidden");
            cases.refuse(
                &format!("entry {line} at {seconds} s"),
                &story.write(),
                &story.world.envelope,
                &[&place, "in-force"],
            );
        }
        story.lines.clone_from(&lines);
        if let Fact::Permit { plan, .. } = &mut story.lines[line].entry.fact {
            *plan = Hash::of(b"another plan");
        }
        let place = format!("entry {line}: permits another plan");
        cases.refuse("another plan", &story.write(), &story.world.envelope, &[&place]);
    }
    cases.finish(69);
}

/// A member with two books: it is named, and it alone.
#[test]
fn a_member_with_two_books_is_named_and_it_alone() {
    let mut story = Story::good();
    let lines = story.lines.clone();
    let mut cases = Cases::new("two books");
    for (line, lines_of) in [
        (PERMIT_A, "a"),
        (PERMIT_B, "b"),
        (PRICE_A, "a"),
        (PRICE_B, "b"),
        (PRICE_C, "c"),
        (SECOND_PERMIT_A, "a"),
        (SECOND_PRICE_A, "a"),
    ] {
        type Edit = fn(&mut AccountEntry);
        let edits: [(&str, Edit); 3] = [
            ("another past", |a| a.previous = Hash::of(b"another past").to_string()),
            ("no hash", |a| a.previous = String::from("x")),
            ("another time", |a| a.time = Some(String::from("2026-11-22T00:00:00Z"))),
        ];
        for (defect, edit) in edits {
            if (line, defect) == (SECOND_PRICE_A, "another time") {
                // Nothing follows on it, so there is no second book.
                continue;
            }
            story.lines.clone_from(&lines);
            edit(story.account(line, 0));
            let scratch = story.write();
            let words = format!("nothing that {lines_of} says about its accounts is believed");
            cases.refuse(&format!("entry {line}: {defect}"), &scratch, &story.world.envelope, &[&words]);
            let error = verify(&scratch.0, &story.world.envelope).unwrap_err();
            let AuditError::Members { report, .. } = error else { panic!("entry {line}: {defect}: {error}") };
            for account in &report.accounts {
                assert_eq!(account.contradicted, account.node == name(lines_of), "entry {line}: {defect}");
            }
        }
    }
    cases.finish(20);
}

/// A hub that says things twice, leaves them out or turns them round.
#[test]
fn an_entry_too_many_too_few_or_too_early_is_named() {
    let mut story = Story::good();
    let lines = story.lines.clone();
    let mut cases = Cases::new("order");
    let last = lines.len();
    for line in TASK..last {
        story.lines.clone_from(&lines);
        story.lines.push(lines[line].clone());
        let place = format!("entry {last}: ");
        cases.refuse(&format!("entry {line} again"), &story.write(), &story.world.envelope, &[&place]);
    }
    // What must stand before what, by the place where it is missed.
    for (left_out, missed, words) in [
        (TASK, 3, "does not hold before it"),
        (PERMIT_A, 6, "no permit of a before it"),
        (PERMIT_B, 7, "no permit of b before it"),
        (6, 8, "no permit of c before it"),
        (PRICE_A, 9, "without a spent price of a"),
        (PRICE_B, 9, "without a spent price of b"),
        (PRICE_C, 9, "without a spent price of c"),
        (11, 11, "does not hold before it"),
        (SECOND_PERMIT_A, 15, "no permit of a before it"),
        (13, 16, "no permit of b before it"),
        (REFUSED, 18, "does not hold before it"),
    ] {
        story.lines.clone_from(&lines);
        drop(story.lines.remove(left_out));
        let place = format!("entry {missed}: ");
        cases.refuse(&format!("entry {left_out} left out"), &story.write(), &story.world.envelope, &[&place, words]);
    }
    for (first, second, at) in [
        (TASK, PERMIT_A, 3),
        (TASK, RELEASE, 3),
        (PERMIT_A, PRICE_A, 4),
        (PERMIT_B, PRICE_B, 5),
        (PERMIT_A, RELEASE, 4),
        (PRICE_A, RELEASE, 7),
        (PRICE_B, RELEASE, 8),
        (PRICE_C, RELEASE, 9),
        (11, FAILURE, 11),
        (REFUSED, REFUSAL, 18),
        (SECOND_PERMIT_A, SECOND_PRICE_A, 12),
    ] {
        story.lines.clone_from(&lines);
        story.lines.swap(first, second);
        let place = format!("entry {at}: ");
        cases.refuse(&format!("{first} and {second} swapped"), &story.write(), &story.world.envelope, &[&place]);
    }
    cases.finish(39);
}

/// A hub that publishes another release, or another question, with all signatures that it can make itself.
#[test]
fn a_document_that_does_not_follow_is_named() {
    let mut story = Story::good();
    let lines = story.lines.clone();
    let mut cases = Cases::new("documents");
    type Edit = fn(&mut ReleaseDocument);
    let edits: [(&str, Edit, &str); 19] = [
        ("another agreement", |d| d.agreement = Hash::of(b"x"), "not the document that the entry describes"),
        ("another task", |d| d.task = Hash::of(b"x"), "not the document that the entry describes"),
        ("another study", |d| d.study = name("other-study"), "the study is not the same"),
        ("another plan", |d| d.plan = Hash::of(b"x"), "the plan is not the same"),
        ("fewer cells", |d| d.cells = encode_cells(&[7]), "makes 2 cells"),
        ("more cells", |d| d.cells = encode_cells(&[7; 3]), "makes 2 cells"),
        ("cells that are none", |d| d.cells = String::from("x"), "makes 2 cells"),
        ("less noise", |d| d.noise_variance = String::from("1"), "noise variance"),
        ("no noise", |d| d.noise_variance = String::from("0"), "noise variance"),
        ("noise in other digits", |d| d.noise_variance.insert(0, '0'), "noise variance"),
        ("noise that is no number", |d| d.noise_variance = String::from("-1"), "noise variance"),
        ("a receipt less", |d| drop(d.receipts.pop()), "survivor `c` has no receipt"),
        ("a receipt twice", |d| d.receipts[2] = d.receipts[1].clone(), "two receipts"),
        ("no receipts", |d| d.receipts.clear(), "has no receipt"),
        ("quorum short", |d| drop(d.consents.pop()), "2 survivors signed"),
        ("a consent twice", |d| d.consents[2] = d.consents[1].clone(), "signed the survivor set twice"),
        ("no consents", |d| d.consents.clear(), "0 survivors signed"),
        ("a survivor less", |d| drop(d.survivors.pop()), "2 organisations are in the total"),
        ("survivors in disorder", |d| d.survivors.reverse(), "sorted and different"),
    ];
    for (defect, edit, expected) in edits {
        story.lines.clone_from(&lines);
        republish(&mut story, edit);
        cases.refuse(defect, &story.write(), &story.world.envelope, &["entry 10: ", expected]);
    }
    // Receipts and consents by the wrong hand, or of another round.
    for house in 0..3 {
        for (defect, expected) in [
            ("receipt", "no valid signature"),
            ("consent", "no valid signature"),
            ("consent to another round", "states another context"),
            ("receipt as consent", "expected a document of type"),
        ] {
            story.lines.clone_from(&lines);
            let keys: Vec<_> = story.world.houses.iter().map(|(_, keys)| &keys.message).collect();
            let mut document = opened::<ReleaseDocument>(&lines[RELEASE]);
            let receipt = document.receipts[house].peek::<Receipt>().unwrap().claims().clone();
            let mut set = document.consents[house].peek::<SurvivorSet>().unwrap().claims().clone();
            match defect {
                "receipt" => document.receipts[house] = Envelope::sign(&receipt, keys[3]).unwrap(),
                "consent" => document.consents[house] = Envelope::sign(&set, keys[3]).unwrap(),
                "receipt as consent" => document.consents[house] = Envelope::sign(&receipt, keys[house]).unwrap(),
                _ => {
                    set.context = Hash::of(b"another round");
                    document.consents[house] = Envelope::sign(&set, keys[house]).unwrap();
                }
            }
            republish(&mut story, |published| published.clone_from(&document));
            cases.refuse(
                &format!("{defect} of {house}"),
                &story.write(),
                &story.world.envelope,
                &["entry 10: ", expected],
            );
        }
    }
    // Another question under the permits of the first: its hash is not theirs.
    type Ask = fn(&mut Task);
    let asks: [(&str, Ask); 5] = [
        ("another purpose", |t| t.purpose = "GRU".parse().unwrap()),
        ("another plan", |t| t.plan.draw = 1),
        ("another text", |t| t.sql.push(' ')),
        ("another time", |t| t.asked_at = t.asked_at.plus_seconds(1)),
        ("another nonce", |t| t.nonce = Hash::of(b"another")),
    ];
    for (defect, edit) in asks {
        story.lines.clone_from(&lines);
        let mut task = opened::<Task>(&lines[TASK]);
        edit(&mut task);
        story.lines[TASK] = story.world.asked(&task, &story.world.researcher.key);
        cases.refuse(defect, &story.write(), &story.world.envelope, &["entry 4: ", "does not hold before it"]);
    }
    // A question that its researcher did not sign.
    for (defect, house) in [("by a node", 0), ("by another node", 1), ("by a stranger", 3)] {
        story.lines.clone_from(&lines);
        let task = opened::<Task>(&lines[TASK]);
        story.lines[TASK] = story.world.asked(&task, &story.world.houses[house].1.message);
        cases.refuse(defect, &story.write(), &story.world.envelope, &["entry 3: the task: no valid signature"]);
    }
    cases.finish(39);
}

/// Signs an edited release as the hub, and logs that one.
pub fn republish(story: &mut Story, edit: impl FnOnce(&mut ReleaseDocument)) {
    let mut document = opened::<ReleaseDocument>(&story.lines[RELEASE]);
    edit(&mut document);
    let bytes = canonical_bytes(&Envelope::sign(&document, &story.world.hub_key).unwrap()).unwrap();
    let task = story.lines[RELEASE].entry.fact.task().unwrap();
    story.lines[RELEASE].entry.fact = Fact::Release { body: Hash::of(&bytes), release: hash_of(&document), task };
    story.lines[RELEASE].body = Some(bytes);
}

/// Whoever hands the agreement over: a clause edited, a signature less, a version rolled back.
#[test]
fn an_edited_agreement_is_no_agreement() {
    let story = Story::good();
    let scratch = story.write();
    let mut cases = Cases::new("the agreement");
    let good = serde_json::to_value(&story.world.envelope).unwrap();
    let payload: Value = serde_json::to_value(&*story.world.agreement).unwrap();
    let fields: Vec<String> = payload.as_object().unwrap().keys().cloned().collect();
    let with_payload = |payload: &Value| {
        let mut envelope = good.clone();
        envelope["payload"] = data_encoding::BASE64.encode(&canonical_bytes(payload).unwrap()).into();
        serde_json::from_value::<Envelope>(envelope).unwrap()
    };
    for field in &fields {
        for (defect, edit) in [("edited", edited as fn(&Value) -> Value), ("null", |_| Value::Null)] {
            let mut other = payload.clone();
            other[field] = edit(&payload[field]);
            cases.refuse(&format!("{field} {defect}"), &scratch, &with_payload(&other), &["agreement: "]);
        }
        let mut other = payload.clone();
        drop(other.as_object_mut().unwrap().remove(field));
        cases.refuse(&format!("{field} gone"), &scratch, &with_payload(&other), &["agreement: ", "missing field"]);
    }
    for version in [0, 3, 99] {
        let mut other = payload.clone();
        other["version"] = version.into();
        cases.refuse(&format!("version {version}"), &scratch, &with_payload(&other), &["agreement: ", "version"]);
    }
    for count in 0..3 {
        let mut envelope = good.clone();
        envelope["signatures"].as_array_mut().unwrap().truncate(count);
        let envelope: Envelope = serde_json::from_value(envelope).unwrap();
        cases.refuse(&format!("{count} signatures"), &scratch, &envelope, &["agreement: no valid signature"]);
    }
    for position in 0..3 {
        let mut envelope = good.clone();
        envelope["signatures"][position]["sig"] = good["signatures"][(position + 1) % 3]["sig"].clone();
        let envelope: Envelope = serde_json::from_value(envelope).unwrap();
        cases.refuse(&format!("signature {position} swapped"), &scratch, &envelope, &["agreement: no valid signature"]);
    }
    // Signed by all, and not what this log is about.
    type Edit = fn(&mut cohortium_messages::Agreement);
    let edits: [(&str, Edit); 4] = [
        ("the next revision", |a| (a.revision, a.previous) = (2, Some(Hash::of(b"the first")))),
        ("more to spend", |a| a.budgets.epsilon_total = 11.into()),
        ("another title", |a| a.title.push('!')),
        ("a longer term", |a| a.valid_until = a.valid_until.plus_seconds(1)),
    ];
    for (defect, edit) in edits {
        let other = World::new(edit);
        cases.refuse(defect, &scratch, &other.envelope, &["agreement: this log does not record it"]);
    }
    cases.finish(60);
}

/// Another value of the same type.
fn edited(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_u64().unwrap() + 1),
        Value::String(text) => match text.parse::<cohortium_messages::Timestamp>() {
            Ok(time) => json!(time.plus_seconds(1)),
            Err(_) => json!(format!("{text}x")),
        },
        Value::Bool(flag) => json!(!flag),
        Value::Array(items) => {
            let mut items = items.clone();
            let first = items.first().cloned().unwrap_or_default();
            items.push(first);
            Value::Array(items)
        }
        Value::Object(fields) => {
            let mut fields = fields.clone();
            let (name, first) = fields.iter().next().map(|(name, value)| (name.clone(), edited(value))).unwrap();
            fields.insert(name, first);
            Value::Object(fields)
        }
        Value::Null => json!(0),
    }
}

/// Heads: a quorum short, cosignatures of other heads, logs and keys, forks, and sizes that the files do not have.
#[test]
fn a_head_that_is_not_cosigned_by_the_members_is_named() {
    let story = Story::good();
    let mut cases = Cases::new("heads");
    let leaves = story.leaves();
    let names = |houses: &[usize]| format!("{houses:?} cosigned");
    for houses in [&[][..], &[0], &[1], &[2], &[0, 1], &[0, 2], &[1, 2]] {
        let scratch = story.write_leaves(&leaves, houses);
        let words = format!("{} of 3 cosigned", houses.len());
        cases.refuse(&names(houses), &scratch, &story.world.envelope, &["checkpoint", &words]);
    }
    for houses in [&[0, 1, 3][..], &[3], &[0, 1, 2, 3]] {
        let scratch = story.write_leaves(&leaves, houses);
        cases.refuse(&names(houses), &scratch, &story.world.envelope, &["checkpoint", "unknown key named d"]);
    }
    let good = story.write_leaves(&leaves, &[0, 1, 2]);
    let note = String::from_utf8(files(&good.0)["checkpoint"].clone()).unwrap();
    let shorter = story.write_leaves(&leaves[..19], &[0, 1, 2]);
    let older = String::from_utf8(files(&shorter.0)["checkpoint"].clone()).unwrap();
    let mut other_leaves = leaves.clone();
    other_leaves.swap(4, 5);
    let forked =
        String::from_utf8(files(&story.write_leaves(&other_leaves, &[0, 1, 2]).0)["checkpoint"].clone()).unwrap();
    let lines: Vec<&str> = note.lines().collect();
    let (head, signatures) = lines.split_at(4);
    let other_log = SignerKey::from_seed("hub", KeyKind::Log, &story.world.hub_key.expose_seed()).unwrap();
    let root = SignedCheckpoint::open(note.as_bytes(), &hub_key(&story)).unwrap().checkpoint().clone();
    let by_other_log = SignedCheckpoint::sign(root.clone(), &other_log).unwrap();
    let renamed = SignerKey::from_seed("bub", KeyKind::Log, &story.world.log_key.expose_seed()).unwrap();
    let other_origin = Checkpoint::new("bub", root.size(), *root.root()).unwrap();
    let text = |lines: &[&str]| lines.join("\n") + "\n";
    let older_lines: Vec<&str> = older.lines().collect();
    let forked_lines: Vec<&str> = forked.lines().collect();
    let heads: Vec<(&str, String, &str)> = vec![
        ("an older head", older.clone(), "tile/"),
        ("a fork", forked.clone(), "do not have the root"),
        ("replayed from an older head", text(&[head, &older_lines[4..]].concat()), "does not verify"),
        ("replayed from a fork", text(&[head, &forked_lines[4..]].concat()), "does not verify"),
        (
            "an old line among good ones",
            text(&[head, &signatures[..3], &older_lines[7..8]].concat()),
            "does not verify",
        ),
        ("a cosigner twice", text(&[head, signatures, &signatures[1..2]].concat()), "signed more than once"),
        ("the log's line twice", text(&[head, signatures, &signatures[..1]].concat()), "signed more than once"),
        ("the log's line gone", text(&[head, &signatures[1..]].concat()), "not signed by hub"),
        (
            "another's name on a line",
            text(&[head, &signatures[..3], &[&signatures[3].replace("\u{2014} c ", "\u{2014} b ")]].concat()),
            "unknown key named b",
        ),
        ("signed by another key", by_other_log.to_string(), "not signed by hub"),
        (
            "another origin",
            SignedCheckpoint::sign(other_origin, &renamed).unwrap().to_string(),
            "the checkpoint is of bub, not of hub",
        ),
        ("an extension line", note.replacen("\n\n", "\nmore\n\n", 1), "extension lines"),
        ("a size with a zero before it", note.replacen("\n20\n", "\n020\n", 1), "not in its one form"),
        ("a size that is none", note.replacen("\n20\n", "\ntwenty\n", 1), "size is not a number"),
        ("a size rolled back", note.replacen("\n20\n", "\n19\n", 1), "does not verify"),
        ("a size beyond all trees", note.replacen("\n20\n", "\n9223372036854775807\n", 1), "tree size over"),
        ("a carriage return", note.replace('\n', "\r\n"), "malformed note"),
        ("a byte-order mark", format!("\u{feff}{note}"), "hub, not of hub"),
        ("no signatures", text(head), "malformed note"),
        ("nothing after it", note.trim_end().to_owned(), "malformed note"),
    ];
    for (defect, head, expected) in heads {
        put(&good, "checkpoint", head.as_bytes());
        cases.refuse(defect, &good, &story.world.envelope, &[expected]);
    }
    cases.finish(30);
}

fn hub_key(story: &Story) -> cohortium_ledger::VerifierKey {
    let key = SignerKey::from_seed("hub", KeyKind::Log, &story.world.log_key.expose_seed()).unwrap();
    key.verifier().clone()
}

/// So that a case is never refused for a mistake of ours: untouched, the same log is accepted.
#[test]
fn untouched_it_is_accepted() {
    let mut story = Story::good();
    republish(&mut story, |_| ());
    verify(&story.write().0, &story.world.envelope).unwrap();
}
