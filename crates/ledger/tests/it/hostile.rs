//! Everything hostile in one table: what is shown, and the words with which it must be refused. Each family begins with
//! what is good, which must be accepted, so that nothing is refused for the wrong reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use cohortium_ledger::note::{NOTE_BYTES_MAX, SIGNATURES_MAX};
use cohortium_ledger::{
    AddCheckpoint, Checkpoint, KeyKind, LogPolicy, LogProof, NoteSignature, PolicyMember, SignedCheckpoint, SignerKey,
    VerifierKey, WitnessBook, verify_directory_under,
};
use cohortium_store::{Batch, MemoryStore, Store as _};
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use crate::world::{
    HUB, MEMBERS, Scratch, TIME_S, World, cosigned, cosigner, entry, keys, lines, log_key, member, policy,
};

/// The table: family and name, the words expected, and what happened.
#[derive(Default)]
struct Table {
    family: &'static str,
    cases: Vec<(String, String, Result<(), String>)>,
}

impl Table {
    fn refuse<T, E: Display>(&mut self, name: &str, words: &str, outcome: Result<T, E>) {
        let outcome = outcome.map(drop).map_err(|error| error.to_string());
        self.cases.push((format!("{}: {name}", self.family), words.to_owned(), outcome));
    }

    fn judge(self) {
        let names: BTreeSet<&String> = self.cases.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), self.cases.len(), "two cases of one name");
        let mut families: BTreeMap<&str, u32> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (name, words, outcome) in &self.cases {
            *families.entry(name.split(':').next().unwrap()).or_default() += 1;
            match outcome {
                Err(error) if error.contains(words.as_str()) && !words.is_empty() => {}
                Err(error) => wrong.push(format!("{name}: expected `{words}`, refused with `{error}`")),
                Ok(()) => wrong.push(format!("{name}: ACCEPTED")),
            }
        }
        println!("{} hostile cases: {families:?}", self.cases.len());
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), self.cases.len(), wrong.join("\n"));
        assert!(self.cases.len() >= 150, "{} cases: families are missing", self.cases.len());
    }
}

#[test]
fn what_is_hostile_is_refused_by_name() {
    let mut table = Table::default();
    signatures(&mut table);
    replays(&mut table);
    heads(&mut table);
    notes(&mut table);
    quorums(&mut table);
    vkeys(&mut table);
    policies(&mut table);
    agreements(&mut table);
    proofs(&mut table);
    directories(&mut table);
    witnesses(&mut table);
    table.judge();
}

// ---------------------------------------------------------------- heads and who signed them

/// Believes a note under the policy of the world.
fn believe(note: &str) -> Result<SignedCheckpoint, String> {
    let head = policy().open(note.as_bytes()).map_err(|error| error.to_string())?;
    policy().is_met(&head).map(|met| met.signed().clone()).map_err(|error| error.to_string())
}

/// The hub's log with 300 entries, cosigned by as many as needed: lines of the log, of both keys of northside, and of
/// westside's only key.
fn world() -> World {
    let mut world = World::with_entries(300);
    world.cosign(&["northside", "westside"]);
    world
}

const LINES: [&str; 4] = ["the log", "northside, Ed25519", "northside, ML-DSA-44", "westside, Ed25519"];

/// The note with its signature lines replaced.
fn with_lines(head: &SignedCheckpoint, lines: &[String]) -> String {
    format!("{}\n{}\n", head.note().text(), lines.join("\n"))
}

fn own_lines(head: &SignedCheckpoint) -> Vec<String> {
    head.note().signatures().iter().map(NoteSignature::to_string).collect()
}

/// A line by this name over these bytes, key id included.
fn raw_line(name: &str, bytes: &[u8]) -> String {
    format!("\u{2014} {name} {}", BASE64.encode(bytes))
}

fn raw_bytes(line: &NoteSignature) -> Vec<u8> {
    [line.id().as_slice(), line.bytes()].concat()
}

fn signatures(table: &mut Table) {
    table.family = "signatures";
    let world = world();
    let head = world.log.checkpoint();
    believe(&head.to_string()).unwrap();
    let all = own_lines(head);
    for (number, who) in LINES.iter().enumerate() {
        let missing = if number == 0 { "not signed by hub" } else { "1 of 2 cosigned; not by: " };
        let mut fewer = all.clone();
        let line = fewer.remove(number);
        table.refuse(&format!("{who} stripped"), missing, believe(&with_lines(head, &fewer)));
        let twice = [all.clone(), vec![line]].concat();
        table.refuse(&format!("{who} twice"), "signed more than once", believe(&with_lines(head, &twice)));
        let signature = &head.note().signatures()[number];
        let last = raw_bytes(signature).len() - 1;
        let places = [("key id", 0, missing), ("first byte", 4, "does not verify"), ("byte 40", 40, "does not verify")];
        for (place, position, words) in places.into_iter().chain([("last byte", last, "does not verify")]) {
            let mut bytes = raw_bytes(signature);
            bytes[position] ^= 1;
            let mut changed = all.clone();
            changed[number] = raw_line(signature.name(), &bytes);
            table.refuse(&format!("{who}, {place} turned"), words, believe(&with_lines(head, &changed)));
        }
        let short = raw_line(signature.name(), &raw_bytes(signature)[..last]);
        let long = raw_line(signature.name(), &[raw_bytes(signature).as_slice(), &[0]].concat());
        for (what, line) in [("a byte shorter", short), ("a byte longer", long)] {
            let mut changed = all.clone();
            changed[number] = line;
            table.refuse(&format!("{who}, {what}"), "does not verify", believe(&with_lines(head, &changed)));
        }
    }
    swapped_signatures(table, head);
}

/// Lines that verify under one key, put where another's should be.
fn swapped_signatures(table: &mut Table, head: &SignedCheckpoint) {
    let all = own_lines(head);
    let put = |number: usize, line: String| {
        let mut changed = all.clone();
        changed[number] = line;
        with_lines(head, &changed)
    };
    let [log, first, second, west] = head.note().signatures() else { panic!("{all:?}") };
    let south = member("southside");
    let text = head.note().text();
    let id = |key: &VerifierKey| key.id().to_vec();
    let cases: Vec<(&str, &str, String)> = vec![
        ("under another's name", "not by: ", put(3, raw_line("southside", &raw_bytes(west)))),
        (
            "under another's name and id",
            "southside does not verify",
            put(3, raw_line("southside", &[id(&south.ed25519), west.bytes().to_vec()].concat())),
        ),
        (
            "ML-DSA-44 under the id of the Ed25519 key",
            "northside does not verify",
            put(1, raw_line("northside", &[first.id().as_slice(), second.bytes()].concat())),
        ),
        (
            "Ed25519 under the id of the ML-DSA-44 key",
            "northside does not verify",
            put(2, raw_line("northside", &[second.id().as_slice(), first.bytes()].concat())),
        ),
        (
            "the log's signature as a cosignature",
            "northside does not verify",
            put(1, raw_line("northside", &[first.id().as_slice(), &TIME_S.to_be_bytes(), log.bytes()].concat())),
        ),
        (
            "a cosignature as the log's signature",
            "hub does not verify",
            put(0, raw_line("hub", &[log.id().as_slice(), &first.bytes()[8..]].concat())),
        ),
        ("another key under the log's name", "not signed by hub", {
            let other = SignerKey::from_seed(HUB, KeyKind::Log, &[99; 32]).unwrap();
            put(0, other.sign(text).unwrap().to_string())
        }),
        ("another key under the log's name and id", "hub does not verify", {
            let other = SignerKey::from_seed(HUB, KeyKind::Log, &[99; 32]).unwrap().sign(text).unwrap();
            put(0, raw_line(HUB, &[log.id().as_slice(), other.bytes()].concat()))
        }),
        ("another Ed25519 key under a witness's name", "not by: northside/ed25519", {
            let other = SignerKey::from_seed("northside", KeyKind::Witness, &[99; 32]).unwrap();
            put(1, other.cosign(text, TIME_S).unwrap().to_string())
        }),
        ("another ML-DSA-44 key under a witness's name", "not by: northside/ml-dsa-44", {
            let other = SignerKey::from_seed("northside", KeyKind::WitnessMlDsa44, &[99; 32]).unwrap();
            put(2, other.cosign(text, TIME_S).unwrap().to_string())
        }),
        ("a witness's key used as a log's", "not by: northside/ed25519", {
            let seed = Sha256::digest("ed25519 northside").into();
            put(1, SignerKey::from_seed("northside", KeyKind::Log, &seed).unwrap().sign(text).unwrap().to_string())
        }),
        ("a second cosignature at another time", "signed more than once", {
            let again = lines(text, "northside", TIME_S + 1).iter().map(NoteSignature::to_string).collect();
            with_lines(head, &[all.clone(), again].concat())
        }),
    ];
    for (name, words, note) in cases {
        table.refuse(name, words, believe(&note));
    }
}

/// Cosignatures that are good for something else.
fn replays(table: &mut Table) {
    table.family = "replays";
    let world = world();
    let head = world.log.checkpoint();
    let others = [
        ("another size", Checkpoint::new(HUB, 301, *head.checkpoint().root()).unwrap()),
        ("another root", Checkpoint::new(HUB, 300, [9; 32]).unwrap()),
        ("another log", Checkpoint::new("hub2", 300, *head.checkpoint().root()).unwrap()),
        ("an older head", Checkpoint::new(HUB, 299, world.log.root_at(299).unwrap()).unwrap()),
    ];
    for (what, other) in others {
        let foreign = lines(&other.to_string(), "northside", TIME_S);
        for (number, line) in foreign.iter().enumerate() {
            let mut changed = own_lines(head);
            changed[number + 1] = line.to_string();
            let name = format!("{} of {what}", LINES[number + 1]);
            table.refuse(&name, "northside does not verify", believe(&with_lines(head, &changed)));
        }
    }
    for (number, line) in head.note().signatures().iter().enumerate().skip(1) {
        for (what, time_s) in
            [("later", TIME_S + 60), ("earlier", TIME_S - 60), ("never", 0), ("beyond 2^63", u64::MAX)]
        {
            let bytes = [line.id().as_slice(), &time_s.to_be_bytes(), &line.bytes()[8..]].concat();
            let mut changed = own_lines(head);
            changed[number] = raw_line(line.name(), &bytes);
            let name = format!("{} at another time: {what}", LINES[number]);
            table.refuse(&name, "does not verify", believe(&with_lines(head, &changed)));
        }
    }
}

/// The signed text, edited: what is still a head has lost its signatures, and what is none is named.
fn heads(table: &mut Table) {
    table.family = "heads";
    let world = world();
    let note = world.log.checkpoint().to_string();
    let root = note.lines().nth(2).unwrap().to_owned();
    let size = |to: &str| note.replacen("\n300\n", &format!("\n{to}\n"), 1);
    let roots = |to: &str| note.replacen(&root, to, 1);
    let unsigned = "the signature of hub does not verify";
    let trailing = format!("{}{}=", &root[..42], if root.as_bytes()[42] == b'B' { 'C' } else { 'B' });
    let cases: Vec<(&str, &str, String)> = vec![
        ("size rolled back", unsigned, size("299")),
        ("size of one", unsigned, size("1")),
        ("size ahead", unsigned, size("301")),
        ("size of 2^62", unsigned, size("4611686018427387904")),
        ("size over 2^62", "tree size over 2^62", size("4611686018427387905")),
        ("size over 2^64", "the size is not a number", size("18446744073709551616")),
        ("size of a thousand digits", "the size is not a number", size(&"9".repeat(1000))),
        ("size of nothing", "an empty tree has another root", size("0")),
        ("size with a leading zero", "not in its one form", size("0300")),
        ("size with a plus", "not in its one form", size("+300")),
        ("size with a minus", "the size is not a number", size("-300")),
        ("size in hexadecimal", "the size is not a number", size("0x12c")),
        ("size as a power", "the size is not a number", size("3e2")),
        ("size with a space", "the size is not a number", size("300 ")),
        ("size in Arabic digits", "the size is not a number", size("\u{663}\u{660}\u{660}")),
        ("no size", "the size is not a number", size("")),
        ("root edited", unsigned, roots(&BASE64.encode(&[9; 32]))),
        ("root too short", "the root is not 32 bytes", roots(&BASE64.encode(&[9; 31]))),
        ("root too long", "the root is not 32 bytes", roots(&BASE64.encode(&[9; 33]))),
        ("root without padding", "not strict base64", roots(&root[..43])),
        ("root with other trailing bits", "not strict base64", roots(&trailing)),
        ("root in hexadecimal", "the root is not 32 bytes", roots(&"00".repeat(32))),
        ("no root", "the root is not 32 bytes", roots("")),
        ("origin of another", "does not list the log hut", note.replacen("hub\n", "hut\n", 1)),
        ("origin in capitals", "does not list the log HUB", note.replacen("hub\n", "HUB\n", 1)),
        ("origin with a space", "no space", note.replacen("hub\n", "hub \n", 1)),
        ("origin with a plus", "plus sign", note.replacen("hub\n", "hub+\n", 1)),
        ("no origin", "1 to 255 bytes", note.replacen("hub\n", "\n", 1)),
        ("origin too long", "1 to 255 bytes", note.replacen("hub\n", &format!("{}\n", "h".repeat(256)), 1)),
        ("an extension line", "extension lines", note.replacen("\n\n", "\nextension\n\n", 1)),
        ("an empty extension line", "extension lines", note.replacen("\n\n", "\n\n\n", 1)),
        (
            "size and root exchanged",
            "the size is not a number",
            note.replacen(&format!("300\n{root}"), &format!("{root}\n300"), 1),
        ),
        ("root missing", "fewer than three lines", note.replacen(&format!("{root}\n"), "", 1)),
    ];
    for (name, words, edited) in cases {
        assert_ne!(edited, note, "{name}");
        table.refuse(name, words, believe(&edited));
    }
}

/// The note around the text.
fn notes(table: &mut Table) {
    table.family = "notes";
    let world = world();
    let head = world.log.checkpoint();
    let note = head.to_string();
    let first = own_lines(head)[0].clone();
    let line = |to: String| note.replacen(&first, &to, 1);
    let stranger = |number: usize| raw_line(&format!("stranger-{number}"), &[7; 70]);
    let many: Vec<String> = (0..=SIGNATURES_MAX).map(stranger).collect();
    let cases: Vec<(&str, &str, String)> = vec![
        ("nothing", "no empty line", String::new()),
        ("only the text", "no empty line", head.note().text().to_owned()),
        ("no signature line", "does not end in a newline", format!("{}\n", head.note().text())),
        ("carriage returns", "no empty line", note.replace('\n', "\r\n")),
        ("one carriage return", "control character", note.replacen("\n300", "\r\n300", 1)),
        ("a byte order mark", "does not list the log", format!("\u{feff}{note}")),
        ("a leading newline", "extension lines", format!("\n{note}")),
        ("no final newline", "does not end in a newline", note.trim_end().to_owned()),
        ("a newline too many", "does not end in a newline", format!("{note}\n")),
        ("no empty line", "no empty line", note.replacen("\n\n", "\n", 1)),
        ("a tab", "control character", note.replacen("\n300", "\t\n300", 1)),
        ("a NUL", "control character", note.replacen("\n300", "\0\n300", 1)),
        ("hyphens for the em dash", "em dash", line(first.replacen('\u{2014}', "--", 1))),
        ("an en dash", "em dash", line(first.replacen('\u{2014}', "\u{2013}", 1))),
        ("no space after the dash", "em dash", line(first.replacen("\u{2014} ", "\u{2014}", 1))),
        ("two spaces", "strict base64", line(first.replacen("hub ", "hub  ", 1))),
        ("a trailing space", "strict base64", line(format!("{first} "))),
        ("no name", "1 to 255 bytes", line(first.replacen("hub", "", 1))),
        ("a plus in the name", "plus sign", line(first.replacen("hub", "h+b", 1))),
        ("a long name", "1 to 255 bytes", line(first.replacen("hub", &"h".repeat(256), 1))),
        ("base64 without padding", "strict base64", line(first.trim_end_matches('=').to_owned())),
        ("base64 of URLs", "strict base64", line(format!("{}-_{}", &first[..20], &first[22..]))),
        ("a signature of three bytes", "shorter than its key id", line(raw_line("hub", &[1; 3]))),
        ("a key id and nothing", "a signature is empty", line(raw_line("hub", &[1; 4]))),
        ("too many lines", "limit of 201 signatures", with_lines(head, &many)),
        ("too many bytes", "limit of 524288 bytes", with_lines(head, &[raw_line("x", &vec![7; NOTE_BYTES_MAX])])),
    ];
    for (name, words, edited) in cases {
        assert_ne!(edited, note, "{name}");
        table.refuse(name, words, believe(&edited));
    }
    let mut bytes = note.into_bytes();
    bytes[1] = 0xff;
    table.refuse("not UTF-8", "not UTF-8", policy().open(&bytes));
}

fn quorums(table: &mut Table) {
    table.family = "quorums";
    let world = World::with_entries(3);
    let head = world.log.checkpoint();
    believe(&cosigned(head, &["southside", "westside"], TIME_S).to_string()).unwrap();
    let few: [(&str, &[&str], &str); 5] = [
        ("nobody", &[], "0 of 2 cosigned"),
        (
            "northside alone",
            &["northside"],
            "1 of 2 cosigned; not by: southside/ed25519, southside/ml-dsa-44, westside",
        ),
        ("westside alone", &["westside"], "1 of 2 cosigned; not by: northside/ed25519"),
        ("strangers", &["stranger", "other"], "0 of 2 cosigned"),
        ("northside and strangers", &["northside", "stranger", "other"], "1 of 2 cosigned"),
    ];
    for (name, who, words) in few {
        table.refuse(name, words, believe(&cosigned(head, who, TIME_S).to_string()));
    }
    let all = cosigned(head, &MEMBERS, TIME_S);
    for (name, kind, words) in [
        ("first keys only", KeyKind::Witness, "1 of 2 cosigned; not by: northside/ml-dsa-44, southside/ml-dsa-44"),
        ("second keys only", KeyKind::WitnessMlDsa44, "0 of 2 cosigned; not by: northside/ed25519, southside/ed25519"),
    ] {
        let kept: Vec<VerifierKey> = keys().into_iter().filter(|key| key.kind() == kind).collect();
        table.refuse(name, words, believe(&all.with_only(&kept).unwrap().to_string()));
    }
    let none = LogPolicy::parse(policy().to_string().replacen("quorum members", "quorum none", 1).as_bytes()).unwrap();
    table.refuse("a policy that demands nothing", "evidence of nothing", none.is_met(&all));
    let elsewhere = World::new("hub2");
    let other = LogPolicy::of_members(log_key("hub2").verifier(), &MEMBERS.map(member), 2).unwrap();
    table.refuse("a head of a log that is not listed", "does not list the log hub", other.is_met(&all));
    table.refuse("an open head of it", "does not list the log hub", other.open(all.to_string().as_bytes()));
    table.refuse(
        "the policy of the one for the other",
        "does not list the log hub2",
        policy().is_met(elsewhere.log.checkpoint()),
    );
}

// ---------------------------------------------------------------- keys and policies

fn vkeys(table: &mut Table) {
    table.family = "vkeys";
    let (first, second) = (member("northside").ed25519.to_string(), member("northside").ml_dsa_44.unwrap().to_string());
    VerifierKey::parse(&first).unwrap();
    VerifierKey::parse(&second).unwrap();
    // A vkey whose id fits whatever its bytes are.
    let forged = |name: &str, bytes: &[u8]| {
        let id = Sha256::new().chain_update(name).chain_update("\n").chain_update(bytes).finalize();
        format!("{name}+{}+{}", data_encoding::HEXLOWER.encode(&id[..4]), BASE64.encode(bytes))
    };
    let typed = |kind: u8, length: usize| forged("northside", &[vec![kind], vec![7; length]].concat());
    let identity: Vec<u8> = std::iter::once(4).chain([1]).chain([0; 31]).collect();
    let not_on_curve: Vec<u8> = std::iter::once(4).chain([2]).chain([0; 31]).collect();
    let cases: Vec<(&str, &str, String)> = vec![
        ("nothing", "name+id+key", String::new()),
        ("a name", "name+id+key", "northside".to_owned()),
        ("no key", "key part is empty", "northside+00000000+".to_owned()),
        ("the id of another name", "the id is not the one", first.replacen("northside", "southside", 1)),
        (
            "an id in capitals",
            "the id is not the one",
            "northside+".to_owned() + &first[10..18].to_uppercase() + &first[18..],
        ),
        ("a short id", "the id is not the one", format!("northside+{}", &first[11..])),
        ("a trailing newline", "not base64", format!("{first}\n")),
        ("a leading space", "no space", format!(" {first}")),
        (
            "base64 without padding",
            "not base64",
            first.replacen(&first[18..], first[18..].trim_end_matches('='), 1) + "A",
        ),
        ("type 0x00", "signature type other than", typed(0x00, 32)),
        ("type 0x02, ECDSA", "signature type other than", typed(0x02, 91)),
        ("type 0x05, RFC 6962", "signature type other than", typed(0x05, 32)),
        ("type 0xff", "signature type other than", typed(0xff, 32)),
        ("Ed25519 of 31 bytes", "has 32 bytes", typed(0x04, 31)),
        ("Ed25519 of 33 bytes", "has 32 bytes", typed(0x04, 33)),
        ("Ed25519 of the length of ML-DSA-44", "has 32 bytes", typed(0x04, 1312)),
        ("ML-DSA-44 of the length of Ed25519", "has 1312 bytes", typed(0x06, 32)),
        ("ML-DSA-44 of 1311 bytes", "has 1312 bytes", typed(0x06, 1311)),
        ("ML-DSA-44 of 1313 bytes", "has 1312 bytes", typed(0x06, 1313)),
        ("ML-DSA-65", "a vkey has at most 2017 bytes", typed(0x06, 1952)),
        ("Ed25519 of small order", "small order", forged("northside", &identity)),
        ("Ed25519 not on the curve", "not an Ed25519 public key", forged("northside", &not_on_curve)),
        ("a name with a plus", "key part is not base64", forged("north+side", &[4; 33])),
        ("an empty name", "1 to 255 bytes", forged("", &[4; 33])),
        ("a name with a newline", "no space", forged("north\nside", &[4; 33])),
        (
            "a name too long",
            "a vkey has at most 2017 bytes",
            forged(&"n".repeat(256), &[vec![6], vec![7; 1312]].concat()),
        ),
        ("a million bytes", "a vkey has at most 2017 bytes", "n".repeat(1_000_000)),
    ];
    for (name, words, vkey) in cases {
        table.refuse(name, words, VerifierKey::parse(&vkey));
    }
}

fn policies(table: &mut Table) {
    table.family = "policies";
    let keys: BTreeMap<&str, String> =
        ["a", "b", "c"].map(|name| (name, cosigner(name).verifiers()[0].to_string())).into();
    let log = log_key(HUB).verifier().to_string();
    let witnesses: String = keys.iter().map(|(name, vkey)| format!("witness {name} {vkey}\n")).collect();
    let good = format!("log {log}\n{witnesses}group g 2 a b c\nquorum g\n");
    assert_eq!(LogPolicy::parse(good.as_bytes()).unwrap().to_string(), good);
    let rules = |rules: &str| format!("log {log}\n{witnesses}{rules}");
    let group = |to: &str| good.replacen("group g 2 a b c", to, 1);
    let quorum = |to: &str| good.replacen("quorum g", to, 1);
    let own_key = SignerKey::from_seed("d", KeyKind::Witness, &Sha256::digest(HUB).into()).unwrap();
    let a_as_d = SignerKey::from_seed("d", KeyKind::Witness, &Sha256::digest("ed25519 a").into()).unwrap();
    let logs: String = (0..33).map(|n| format!("log {}\n", log_key(&format!("log-{n}")).verifier())).collect();
    let cases: Vec<(&str, &str, String)> = vec![
        ("nothing", "does not end in a newline", String::new()),
        ("an empty line", "no quorum line", "\n".to_owned()),
        ("no quorum", "no quorum line", quorum("# quorum g")),
        ("two quorums", "line 7 of the log policy: a second quorum", format!("{good}quorum g\n")),
        ("quorum twice, none", "a second quorum", format!("{good}quorum none\n")),
        ("quorum of an unknown name", "line 6 of the log policy: h is not defined above", quorum("quorum h")),
        ("quorum before its group", "g is not defined above", rules("quorum g\ngroup g all a\n")),
        ("quorum of two names", "a quorum is one name", quorum("quorum a b")),
        ("quorum of no name", "a quorum is one name", quorum("quorum")),
        ("a group of itself", "g is not defined above", group("group g 1 a g")),
        ("two groups of one another", "h is not defined above", rules("group g all a h\ngroup h all b g\nquorum g\n")),
        ("a group of an unknown name", "line 5 of the log policy: x is not defined above", group("group g 2 a b x")),
        ("a group of a later name", "h is not defined above", rules("group g any a h\ngroup h all b\nquorum g\n")),
        ("a member twice", "a is a member for the second time", group("group g 2 a b a")),
        (
            "a member of two groups",
            "a is a member for the second time",
            rules("group g all a\ngroup h all a\nquorum h\n"),
        ),
        ("none as a member", "none is not defined above", group("group g 2 a b none")),
        ("no member", "at least one member", group("group g all")),
        ("no threshold", "a threshold is all, any or a number", group("group g a b c")),
        ("a threshold of none", "a threshold of 0 in a group of 3", group("group g 0 a b c")),
        ("a threshold above the members", "a threshold of 4 in a group of 3", group("group g 4 a b c")),
        ("a threshold with a leading zero", "all, any or a number", group("group g 02 a b c")),
        ("a threshold with a plus", "all, any or a number", group("group g +2 a b c")),
        ("a negative threshold", "all, any or a number", group("group g -2 a b c")),
        ("a huge threshold", "all, any or a number", group("group g 18446744073709551616 a b c")),
        ("a threshold in words", "all, any or a number", group("group g ALL a b c")),
        ("a group named none", "none has a meaning of its own", rules("group none all a\nquorum none\n")),
        ("a group with a witness's name", "a is defined for the second time", group("group a 2 b c")),
        ("a witness named none", "none has a meaning of its own", good.replacen("witness a", "witness none", 1)),
        ("two witnesses of one name", "a is defined for the second time", good.replacen("witness b", "witness a", 1)),
        (
            "one key under two names",
            "the key of a is listed for the second time",
            good.replacen(&keys["b"], &keys["a"], 1),
        ),
        (
            "one key as two vkeys",
            "the key of d is listed for the second time",
            good.replacen(&keys["b"], &a_as_d.verifier().to_string(), 1),
        ),
        ("one log twice", "the key of hub is listed for the second time", format!("log {log}\n{good}")),
        (
            "the log's key as a witness's",
            "the key of d is listed for the second time",
            good.replacen(&keys["b"], &own_key.verifier().to_string(), 1),
        ),
        (
            "a log's vkey as a witness",
            "is not a key of a witness",
            good.replacen(&keys["b"], &log_key("z").verifier().to_string(), 1),
        ),
        (
            "a witness's vkey as a log",
            "is not a key of a log",
            good.replacen(&log, &cosigner("z").verifiers()[0].to_string(), 1),
        ),
        (
            "an ML-DSA-44 vkey as a log",
            "is not a key of a log",
            good.replacen(&log, &cosigner("z").verifiers()[1].to_string(), 1),
        ),
        (
            "a vkey with another id",
            "line 1 of the log policy: operator: unusable key",
            good.replacen("log hub+", "log hub+0", 1),
        ),
        ("a witness without a key", "a witness has a name, a vkey", good.replacen(&format!(" {}", keys["b"]), "", 1)),
        (
            "a witness with two URLs",
            "a witness has a name, a vkey",
            good.replacen(&keys["b"], &format!("{} u v", keys["b"]), 1),
        ),
        ("a log with a comment behind it", "a log has a vkey", good.replacen(&log, &format!("{log} # a comment"), 1)),
        ("a log without a key", "a log has a vkey", good.replacen(&format!(" {log}"), "", 1)),
        ("an unknown word", "a line begins with", format!("threshold 2\n{good}")),
        ("a word in capitals", "a line begins with", good.replacen("quorum", "QUORUM", 1)),
        ("carriage returns", "line 1 of the log policy: a control character", good.replace('\n', "\r\n")),
        ("a NUL", "a control character", good.replacen("group g", "group g\0", 1)),
        ("a DEL", "a control character", good.replacen("group g", "group g\u{7f}", 1)),
        ("a vertical tab", "a control character", good.replacen("group g", "group\u{b}g", 1)),
        ("a no-break space", "a line begins with", good.replacen("group g", "group\u{a0}g", 1)),
        ("a byte order mark", "line 1 of the log policy: a line begins with", format!("\u{feff}{good}")),
        ("no final newline", "does not end in a newline", good.trim_end().to_owned()),
        ("too many bytes", "limit of 524288 bytes", "#".repeat(600_000)),
        ("too many logs", "limit of 32 logs", format!("{logs}{good}")),
    ];
    for (name, words, text) in cases {
        assert_ne!(text, good, "{name}");
        table.refuse(name, words, LogPolicy::parse(text.as_bytes()));
    }
    table.refuse("not UTF-8", "not UTF-8", LogPolicy::parse(b"# \xff\nquorum none\n"));
}

/// Members that cannot be made into a policy.
fn agreements(table: &mut Table) {
    table.family = "agreements";
    let log = log_key(HUB);
    let make = |members: &[PolicyMember], quorum| LogPolicy::of_members(log.verifier(), members, quorum);
    let good = MEMBERS.map(member);
    make(&good, 3).unwrap();
    let renamed = |name: &str| {
        let keys = cosigner(name).verifiers();
        PolicyMember { name: name.to_owned(), ed25519: keys[0].clone(), ml_dsa_44: keys.get(1).cloned() }
    };
    let north = member("northside");
    let edits: Vec<(&str, &str, PolicyMember)> = vec![
        ("one member twice", "it is there twice", north.clone()),
        ("a member named none", "a meaning of its own", renamed("none")),
        ("a member named members", "a meaning of its own", renamed("members")),
        (
            "a name with a line of its own",
            "has a space",
            PolicyMember { name: "x\nquorum none\n#".to_owned(), ..north.clone() },
        ),
        ("an empty name", "1 to 255 bytes", PolicyMember { name: String::new(), ..north.clone() }),
        ("another's key", "a key has another name", PolicyMember { name: "eastside".to_owned(), ..north.clone() }),
        (
            "another's second key",
            "a key has another name",
            PolicyMember { ml_dsa_44: north.ml_dsa_44.clone(), ..renamed("eastside") },
        ),
        (
            "its second key as the first",
            "not an Ed25519 key",
            PolicyMember { ed25519: renamed("eastside").ml_dsa_44.unwrap(), ..renamed("eastside") },
        ),
        (
            "its first key as the second",
            "not an ML-DSA-44 key",
            PolicyMember { ml_dsa_44: Some(renamed("eastside").ed25519), ..renamed("eastside") },
        ),
        (
            "a name that another's key takes",
            "northside/ed25519 is defined for the second time",
            renamed("northside/ed25519").without_second(),
        ),
    ];
    for (name, words, added) in edits {
        let mut members = good.to_vec();
        members.push(added);
        table.refuse(name, words, make(&members, 2));
    }
    let seed = Sha256::digest("ed25519 westside").into();
    let same_key = SignerKey::from_seed("eastside", KeyKind::Witness, &seed).unwrap();
    let shared = PolicyMember { name: "eastside".to_owned(), ed25519: same_key.verifier().clone(), ml_dsa_44: None };
    let with_shared = [good.to_vec(), vec![shared]].concat();
    table.refuse("two members with one key", "is listed for the second time", make(&with_shared, 2));
    table.refuse("a quorum of nobody", "a threshold of 0", make(&good, 0));
    table.refuse("a quorum of more than all", "a threshold of 4 in a group of 3", make(&good, 4));
    table.refuse("no members", "at least one member", make(&[], 1));
    let crowd: Vec<PolicyMember> = (0..101).map(|n| member(&format!("h{n}"))).collect();
    table.refuse("more members than can sign one note", "limit of 201 witnesses", make(&crowd, 70));
    let as_log = LogPolicy::of_members(&north.ed25519, &good, 2);
    table.refuse("a witness's key as the log's", "is not a key of a log", as_log);
}

trait WithoutSecond {
    fn without_second(self) -> PolicyMember;
}

impl WithoutSecond for PolicyMember {
    fn without_second(self) -> PolicyMember {
        PolicyMember { ml_dsa_44: None, ..self }
    }
}

// ---------------------------------------------------------------- proofs

fn proofs(table: &mut Table) {
    table.family = "proofs";
    let world = world();
    let prove = |bytes: &[u8], index: u64| -> Result<(), String> {
        let proof = LogProof::parse(bytes).map_err(|error| error.to_string())?;
        proof.verify(&entry(index), &policy()).map(drop).map_err(|error| error.to_string())
    };
    let file = world.log.prove(200, b"extra").unwrap().to_string();
    prove(file.as_bytes(), 200).unwrap();
    let hashes: Vec<&str> = file.lines().skip(3).take_while(|line| !line.is_empty()).collect();
    let path = hashes.join("\n");
    let with_path = |lines: &[&str]| file.replacen(&path, &lines.join("\n"), 1);
    let extra = file.lines().nth(1).unwrap();
    let index = |to: &str| file.replacen("\nindex 200\n", &format!("\n{to}\n"), 1);
    let swapped = [&[hashes[1], hashes[0]], &hashes[2..]].concat();
    let other_hash = BASE64.encode(&[9; 32]);
    let replaced = [&[other_hash.as_str()], &hashes[1..]].concat();
    let longer = [hashes.as_slice(), &[other_hash.as_str()]].concat();
    let note_at = file.find("\n\n").unwrap() + 2;
    let with_note = |note: &str| format!("{}{note}", &file[..note_at]);
    let unsigned = world.log.checkpoint().without_cosignatures().unwrap().to_string();
    let older = Checkpoint::new(HUB, 299, world.log.root_at(299).unwrap()).unwrap();
    let older = cosigned(&SignedCheckpoint::sign(older, &log_key(HUB)).unwrap(), &MEMBERS, TIME_S).to_string();
    let smaller = Checkpoint::new(HUB, 200, world.log.root_at(200).unwrap()).unwrap();
    let smaller = cosigned(&SignedCheckpoint::sign(smaller, &log_key(HUB)).unwrap(), &MEMBERS, TIME_S).to_string();
    let elsewhere = Checkpoint::new("hub2", 300, world.log.root()).unwrap();
    let elsewhere =
        cosigned(&SignedCheckpoint::sign(elsewhere, &log_key("hub2")).unwrap(), &MEMBERS, TIME_S).to_string();
    let cases: Vec<(&str, &str, String)> = vec![
        ("nothing", "no empty line", String::new()),
        ("another first line", "the first line is not", file.replacen("@v1", "@v2", 1)),
        ("no first line", "the first line is not", file.replacen("c2sp.org/tlog-proof@v1\n", "", 1)),
        ("a byte order mark", "the first line is not", format!("\u{feff}{file}")),
        ("carriage returns", "no empty line", file.replace('\n', "\r\n")),
        ("a carriage return in the first line", "the first line is not", file.replacen('\n', "\r\n", 1)),
        ("no index", "no index line", file.replacen("index 200\n", "", 1)),
        ("the index before", "does not lead to the root", index("index 199")),
        ("the index after", "does not lead to the root", index("index 201")),
        ("index and a sibling's place", "entry 100 is not proven", index("index 100")),
        ("an index of the same path length", "entry 72 is not proven", index("index 72")),
        ("an index beyond the head", "not under the head", index("index 300")),
        ("an index with a leading zero", "not in its one form", index("index 0200")),
        ("an index with a plus", "not in its one form", index("index +200")),
        ("a negative index", "the index is not a number", index("index -200")),
        ("a huge index", "the index is not a number", index("index 18446744073709551616")),
        ("an index of nothing", "the index is not a number", index("index ")),
        ("index without a space", "no index line", index("index200")),
        ("two indices", "not a hash in strict base64", index("index 200\nindex 200")),
        ("extra after the index", "not a hash in strict base64", index(&format!("index 200\n{extra}"))),
        ("extra twice", "no index line", file.replacen(extra, &format!("{extra}\n{extra}"), 1)),
        ("extra without data", "an extra line without data", file.replacen(extra, "extra ", 1)),
        ("extra without a space", "no index line", file.replacen(extra, "extra", 1)),
        ("extra in another base64", "extra is not strict base64", file.replacen(extra, "extra ZXh0cmE", 1)),
        (
            "extra of too many bytes",
            "limit of 65536 bytes of extra data",
            file.replacen(extra, &format!("extra {}", BASE64.encode(&vec![7; 65_537])), 1),
        ),
        ("an unknown line", "no index line", file.replacen("index", "note x\nindex", 1)),
        ("a hash too few", "wrong number of hashes", with_path(&hashes[1..])),
        ("a hash too few at the end", "wrong number of hashes", with_path(&hashes[..hashes.len() - 1])),
        ("a hash too many", "wrong number of hashes", with_path(&longer)),
        ("two hashes exchanged", "does not lead to the root", with_path(&swapped)),
        ("a hash replaced", "does not lead to the root", with_path(&replaced)),
        ("a short hash", "not a hash in strict base64", file.replacen(hashes[0], "AAAA", 1)),
        (
            "a hash without padding",
            "not a hash in strict base64",
            file.replacen(hashes[0], hashes[0].trim_end_matches('='), 1),
        ),
        ("a hash with a space", "not a hash in strict base64", file.replacen(hashes[0], &format!("{} ", hashes[0]), 1)),
        ("sixty-four hashes", "limit of 63 hashes", with_path(&[hashes[0]; 64])),
        ("a thousand hashes", "limit of 63 hashes", with_path(&[hashes[0]; 1000])),
        ("no empty line", "not a hash in strict base64", file.replacen("\n\n", "\n", 1)),
        ("an empty line too many", "extension lines", file.replacen("\n\n", "\n\n\n", 1)),
        ("a checkpoint that nobody cosigned", "0 of 2 cosigned", with_note(&unsigned)),
        ("a checkpoint of another log", "does not list the log hub2", with_note(&elsewhere)),
        ("an older checkpoint", "is not proven", with_note(&older)),
        ("a checkpoint before the entry", "not under the head", with_note(&smaller)),
        ("a checkpoint with an extension", "extension lines", with_note(&unsigned.replacen("\n\n", "\nx\n\n", 1))),
        ("something after the end", "em dash", format!("{file}x\n")),
        ("cut off", "does not end in a newline", file[..file.len() - 1].to_owned()),
        ("too many bytes", "log proof over its limit", "x".repeat(1_000_000)),
    ];
    for (name, words, edited) in cases {
        assert_ne!(edited, file, "{name}");
        table.refuse(name, words, prove(edited.as_bytes(), 200));
    }
    table.refuse("another entry", "does not lead to the root", prove(file.as_bytes(), 199));
    table.refuse("not UTF-8", "not UTF-8", prove(b"c2sp.org/tlog-proof@v1\nextra \xff\n", 0));
}

// ---------------------------------------------------------------- directories

fn directories(table: &mut Table) {
    table.family = "directories";
    let mut world = world();
    world.log.put_body(b"body").unwrap();
    verify_directory_under(world.scratch.path(), &policy()).unwrap();
    let change = |edit: &dyn Fn(&std::path::Path)| {
        let copy = Scratch::new();
        copy_directory(world.scratch.path(), copy.path());
        edit(copy.path());
        verify_directory_under(copy.path(), &policy()).map(drop)
    };
    let bytes = |file: &str| std::fs::read(world.scratch.path().join(file)).unwrap();
    let replace = |file: &str, with: Vec<u8>| change(&|path| std::fs::write(path.join(file), &with).unwrap());
    let files =
        ["checkpoint", "tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"];
    for file in files {
        let removed = change(&|path| std::fs::remove_file(path.join(file)).unwrap());
        table.refuse(&format!("{file} missing"), &format!("{file} is missing"), removed);
        let original = bytes(file);
        let (words, longer) = match file {
            "checkpoint" => ("checkpoint: ", "checkpoint: "),
            "tile/0/000" => ("is malformed", "longer than 8192 bytes"),
            _ => ("is malformed", "is malformed"),
        };
        table.refuse(&format!("{file} cut"), words, replace(file, original[..original.len() - 1].to_vec()));
        table.refuse(&format!("{file} emptied"), words, replace(file, Vec::new()));
        table.refuse(&format!("{file} extended"), longer, replace(file, [original.as_slice(), b"x"].concat()));
        let mut turned = original.clone();
        turned[original.len() - 9] ^= 1;
        let words = match file {
            "checkpoint" => "does not verify",
            "tile/1/000.p/1" => "hash 0 of tile/1/000.p/1 does not follow",
            _ => "does not have the hash in",
        };
        table.refuse(&format!("{file} altered"), words, replace(file, turned));
    }
    entries_rearranged(table, &bytes, &replace);
    for left_over in
        ["tile/0/000.p/4", "tile/entries/000.p/255", "tile/2/000.p/1", "tile/0/999", "notes.txt", ".staging/0"]
    {
        let added = change(&|path| {
            std::fs::create_dir_all(path.join(left_over).parent().unwrap()).unwrap();
            std::fs::write(path.join(left_over), "x").unwrap();
        });
        table.refuse(&format!("{left_over} left over"), &format!("{left_over} does not belong"), added);
    }
    let body = format!("body/{}", data_encoding::HEXLOWER.encode(&Sha256::digest(b"body")));
    table.refuse("a body altered", "does not have the hash in its name", replace(&body, b"bodY".to_vec()));
    #[cfg(unix)]
    table.refuse(
        "a link",
        "neither a plain file",
        change(&|path| std::os::unix::fs::symlink("checkpoint", path.join("tile/0/002")).unwrap()),
    );
    forged_heads(table, &world, &replace);
}

/// Audits a copy of the directory in which one file has other bytes.
type Replace<'a> = &'a dyn Fn(&str, Vec<u8>) -> Result<(), cohortium_ledger::VerifyError>;

/// Entries in another order or number, with and without the tiles that go with them.
fn entries_rearranged(table: &mut Table, bytes: &dyn Fn(&str) -> Vec<u8>, replace: Replace<'_>) {
    let bundle = cohortium_ledger::tile::parse_bundle(&bytes("tile/entries/001.p/44"), 44).unwrap();
    let encode = |entries: &[Vec<u8>]| cohortium_ledger::tile::encode_bundle(entries).unwrap();
    let mut exchanged = bundle.clone();
    exchanged.swap(3, 4);
    table.refuse("two entries exchanged", "entry 259 in", replace("tile/entries/001.p/44", encode(&exchanged)));
    let mut repeated = bundle.clone();
    repeated[9] = repeated[8].clone();
    table.refuse("an entry twice", "entry 265 in", replace("tile/entries/001.p/44", encode(&repeated)));
    let words = "is malformed";
    table.refuse("an entry left out", words, replace("tile/entries/001.p/44", encode(&bundle[1..])));
    let more = [bundle.as_slice(), &[b"one more".to_vec()]].concat();
    table.refuse("an entry more", words, replace("tile/entries/001.p/44", encode(&more)));
    let mut length = bytes("tile/entries/000");
    length[0] = 0xff;
    table.refuse("a length beyond the file", words, replace("tile/entries/000", length));
    let mut hashes = bytes("tile/0/000");
    hashes.rotate_left(32);
    table.refuse("hashes rotated", "entry 0 in", replace("tile/0/000", hashes));
}

/// Heads over this directory that are signed by the log and cosigned, and are of another tree.
fn forged_heads(table: &mut Table, world: &World, replace: Replace<'_>) {
    let head = |size: u64, root| {
        let head = SignedCheckpoint::sign(Checkpoint::new(HUB, size, root).unwrap(), &log_key(HUB)).unwrap();
        cosigned(&head, &MEMBERS, TIME_S).to_string().into_bytes()
    };
    let root = world.log.root();
    let cases = [
        ("a fork of the same size", "do not have the root", head(300, [9; 32])),
        ("a rolled back head", "is missing", head(299, world.log.root_at(299).unwrap())),
        ("a head of full tiles only", "does not belong", head(256, world.log.root_at(256).unwrap())),
        ("a head ahead", "is missing", head(301, root)),
        ("a head of 2^62 entries", "is missing", head(1 << 62, root)),
        ("a head of nothing", "does not belong", head(0, Sha256::digest([]).into())),
    ];
    for (name, words, note) in cases {
        table.refuse(name, words, replace("checkpoint", note));
    }
    let stranger = format!("{}{}\n", world.log.checkpoint(), raw_line("stranger", &[7; 76]));
    table.refuse(
        "a stranger's signature",
        "an unknown key named stranger",
        replace("checkpoint", stranger.into_bytes()),
    );
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    for found in std::fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let target = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_directory(&found.path(), &target);
            let _ = std::fs::remove_dir(&target); // what is empty is not part of a log
        } else {
            std::fs::copy(found.path(), target).unwrap();
        }
    }
}

// ---------------------------------------------------------------- witnesses

fn witnesses(table: &mut Table) {
    table.family = "witnesses";
    let book = WitnessBook::new([log_key(HUB).verifier().clone()]).unwrap();
    let mut store = MemoryStore::new();
    let mut world = World::with_entries(5);
    let note = |head: &SignedCheckpoint| head.to_string();
    let ask = |store: &MemoryStore, old_size, proof: &[[u8; 32]], note: String| {
        let request = AddCheckpoint { old_size, proof: proof.to_vec(), note };
        book.add_checkpoint(store, &request, &mut Batch::new())
            .map(drop)
            .map_err(|error| format!("{}: {error}", error.status()))
    };
    let (at_five, forged_root) = (note(world.log.checkpoint()), [9; 32]);
    let signed = |origin: &str, size, root| {
        note(&SignedCheckpoint::sign(Checkpoint::new(origin, size, root).unwrap(), &log_key(origin)).unwrap())
    };
    let mut batch = Batch::new();
    let first = AddCheckpoint { old_size: 0, proof: vec![], note: at_five.clone() };
    let staged = book.add_checkpoint(&store, &first, &mut batch).unwrap();
    store.commit(batch).unwrap();
    staged.cosign(&store, &cosigner("northside"), TIME_S).unwrap();
    world.append((5..9).map(entry).collect());
    let (at_nine, proof) = (note(world.log.checkpoint()), world.consistency(5));
    ask(&store, 5, &proof, at_nine.clone()).unwrap();
    ask(&store, 5, &[], at_five.clone()).unwrap();

    let stale = "409: peer: the latest head cosigned has 5 entries";
    for old_size in [0, 1, 4, 6, 9] {
        table.refuse(&format!("an old size of {old_size}"), stale, ask(&store, old_size, &proof, at_nine.clone()));
    }
    table.refuse("an old size above the new one", "400: peer: bad request", ask(&store, 10, &proof, at_nine.clone()));
    table.refuse("a huge old size", "400: peer: bad request", ask(&store, u64::MAX, &proof, at_nine.clone()));
    let unproven = "422: peer: head of 9 entries is not proven to extend the one of 5";
    for number in 0..proof.len() {
        let mut changed = proof.clone();
        changed[number][0] ^= 1;
        table.refuse(
            &format!("hash {number} of the proof turned"),
            unproven,
            ask(&store, 5, &changed, at_nine.clone()),
        );
    }
    let mut exchanged = proof.clone();
    exchanged.swap(0, 1);
    let longer = [proof.as_slice(), &[forged_root]].concat();
    type Request<'a> = (&'a str, &'a str, u64, Vec<[u8; 32]>, String);
    let cases: Vec<Request<'_>> = vec![
        ("no proof", unproven, 5, vec![], at_nine.clone()),
        ("a hash too few", unproven, 5, proof[1..].to_vec(), at_nine.clone()),
        ("a hash too many", unproven, 5, longer, at_nine.clone()),
        ("two hashes exchanged", unproven, 5, exchanged, at_nine.clone()),
        ("sixty-four hashes", "400: peer: bad request: more than 63", 5, vec![forged_root; 64], at_nine.clone()),
        ("a larger fork", unproven, 5, proof.clone(), signed(HUB, 9, forged_root)),
        (
            "a fork of the same size",
            "422: operator: log hub has signed two different trees of 5",
            5,
            vec![],
            signed(HUB, 5, forged_root),
        ),
        ("the same fork with a stale old size", "two different trees of 5", 0, vec![], signed(HUB, 5, forged_root)),
        ("a proof for the same head", "is not proven to extend", 5, vec![forged_root], at_five.clone()),
        ("a rollback", "409: peer: head of 4 entries after one of 5", 4, vec![], signed(HUB, 4, forged_root)),
        (
            "a rollback to nothing",
            "409: peer: head of 0 entries after one of 5",
            0,
            vec![],
            signed(HUB, 0, Sha256::digest([]).into()),
        ),
        (
            "an empty tree with another root",
            "422: peer: malformed checkpoint: an empty tree",
            0,
            vec![],
            at_nine.replacen("\n9\n", "\n0\n", 1),
        ),
        (
            "an unknown log",
            "404: peer: this witness does not know a log named hub2",
            0,
            vec![],
            signed("hub2", 9, forged_root),
        ),
        (
            "a root edited",
            "403: peer: the signature of hub does not verify",
            5,
            proof.clone(),
            at_nine.replacen("\n9\n", "\n10\n", 1),
        ),
        (
            "not signed by the log",
            "403: peer: not signed by hub",
            5,
            proof.clone(),
            format!("{}\n{}\n", world.log.checkpoint().note().text(), raw_line("hub", &[7; 68])),
        ),
        ("not a note", "400: peer: malformed note", 5, proof.clone(), "hub\n".to_owned()),
        ("not a head", "400: peer: malformed checkpoint", 5, proof.clone(), at_nine.replacen("\n9\n", "\nnine\n", 1)),
    ];
    for (name, words, old_size, proof, note) in cases {
        table.refuse(name, words, ask(&store, old_size, &proof, note));
    }
    let fresh = MemoryStore::new();
    table.refuse(
        "a proof for the first head",
        "422: peer: head of 9 entries",
        ask(&fresh, 0, &[forged_root], at_nine.clone()),
    );
    table.refuse(
        "an old size at the first head",
        "409: peer: the latest head cosigned has 0",
        ask(&fresh, 5, &proof, at_nine),
    );
}
