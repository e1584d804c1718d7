//! Incidents of a house: what is read back from its own log, and what is handed over.

use std::path::Path;

use cohortium_audit::{ExportError, House, HubLog, export_incident};
use cohortium_ledger::LogProof;
use cohortium_messages::{
    Agreement, Envelope, Fact, Hash, IncidentRecord, IncidentStep, Notification, ReleaseDocument, Task, canonical_bytes,
};

use crate::world::*;

/// A step of an incident of house `a`, with its record.
fn step(world: &World, key: Key, incident: &str, step: IncidentStep, edit: impl FnOnce(&mut IncidentRecord)) -> Line {
    let mut record = IncidentRecord {
        aware_at: (step == IncidentStep::Open).then(start),
        incident: name(incident),
        notification: Notification::default(),
        step,
        study: world.agreement.study.clone(),
        what: String::from("a laptop was stolen"),
    };
    edit(&mut record);
    let body = canonical_bytes(&Envelope::sign(&record, world.key(key)).unwrap()).unwrap();
    let fact = Fact::Incident { body: Hash::of(&body), incident: name(incident), step };
    world.line(key, fact, Some(body))
}

fn paula(world: &World, incident: &str, kind: IncidentStep) -> Line {
    step(world, Key::Person(0, PAULA), incident, kind, |_| ())
}

/// The own log of house `a`.
fn own_log(world: &World, lines: &[Line]) -> Scratch {
    let sign = |line: &Line| Envelope::sign(&line.entry, world.key(line.key)).unwrap();
    let leaves: Vec<Vec<u8>> = lines.iter().map(|line| canonical_bytes(&sign(line)).unwrap()).collect();
    let bodies: Vec<&[u8]> = lines.iter().filter_map(|line| line.body.as_deref()).collect();
    let scratch = Scratch::new();
    write_log(&scratch, "a", &world.houses[0].1.log, &leaves, &bodies, |head| head);
    scratch
}

fn house<'a>(world: &'a World, log: &'a Scratch) -> House<'a> {
    House { agreements: std::slice::from_ref(&world.envelope), log: &log.0, organisation: &world.houses[0].0 }
}

/// One entry whose record was none, or whose step fitted nothing, made every incident unreadable.
#[test]
fn repro_a_bad_incident_record_hides_no_other() {
    use IncidentStep::{Action, Close, Open};
    let world = World::new(|_| ());
    let mut no_record = paula(&world, "leak", Action);
    let task = Envelope::sign(&world.task("a task", "HMB"), world.key(Key::Person(0, PAULA))).unwrap();
    let body = canonical_bytes(&task).unwrap();
    no_record.entry.fact = Fact::Incident { body: Hash::of(&body), incident: name("leak"), step: Action };
    no_record.body = Some(body);
    let key = Key::Person(0, PAULA);
    let lines = [
        (paula(&world, "leak", Open), None),
        (no_record, Some("its record: expected a document of type")),
        (paula(&world, "unheard-of", Action), Some("which was not opened")),
        (paula(&world, "leak", Open), Some("a second time")),
        (step(&world, key, "leak", Action, |record| record.incident = name("other")), Some("another incident or step")),
        (step(&world, Key::Person(0, STELLA), "leak", Action, |_| ()), Some("may not do this")),
        (step(&world, Key::Person(1, PAULA), "leak", Action, |_| ()), Some("is by nobody of a")),
        (paula(&world, "leak", Action), None),
        (paula(&world, "leak", Close), None),
        (paula(&world, "leak", Action), Some("which is over")),
        (paula(&world, "second", Open), None),
    ];
    let entries: Vec<Line> = lines.iter().map(|(line, _)| line.clone()).collect();
    let log = own_log(&world, &entries);
    let read = house(&world, &log).incidents().unwrap();
    let steps: Vec<Vec<u64>> =
        read.incidents.iter().map(|incident| incident.steps.iter().map(|step| step.entry).collect()).collect();
    assert_eq!(steps, [vec![0, 7, 8], vec![10]]);
    assert!(read.incidents[0].over && !read.incidents[1].over);
    let expected: Vec<(u64, &str)> = (0..).zip(&lines).filter_map(|(entry, (_, why))| Some((entry, (*why)?))).collect();
    assert_eq!(read.passed_over.len(), expected.len(), "{:?}", read.passed_over);
    for (found, (entry, why)) in read.passed_over.iter().zip(expected) {
        assert!(found.entry == entry && found.why.contains(why), "{entry}: {found:?} does not say {why:?}");
    }
}

/// Each document in the bytes that its entry names, each entry with its proof, one head for each log, and a manifest.
#[test]
fn what_is_handed_over_can_be_checked_from_its_files() {
    let (story, scratch) = (Story::good(), Scratch::new());
    let world = &story.world;
    let lines = [paula(world, "leak", IncidentStep::Open), paula(world, "leak", IncidentStep::Close)];
    let (own, hub, out) = (own_log(world, &lines), story.write(), scratch.0.join("leak"));
    let (house, hub) = (house(world, &own), HubLog { dir: &hub.0, first: 3, last: u64::MAX });
    let exported = export_incident(&house, Some(&hub), &name("leak"), &out).unwrap();
    assert_eq!((exported.answers, exported.problems, exported.missing.len()), (Some(1), 0, 6));

    let found = files(&out);
    assert_eq!(found.len(), exported.files);
    let listed: String = found
        .iter()
        .filter(|(path, _)| *path != "manifest-sha256.txt")
        .map(|(path, bytes)| format!("{}  {path}\n", Hash::of(bytes)))
        .collect();
    let manifest = String::from_utf8(found["manifest-sha256.txt"].clone()).unwrap();
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(&manifest), sorted(&listed));
    assert_eq!(exported.manifest_sha256, Hash::of(manifest.as_bytes()));

    for (log, from, size) in [("own-log", 0, 2), ("hub-log", 3, 20)] {
        for index in from..size {
            let file = |end: &str| format!("{log}/{index:06}{end}");
            let proof = [found[&file(".path")].as_slice(), &found[&format!("{log}/checkpoint")]].concat();
            let proof = LogProof::parse(&proof).unwrap();
            let entry: Envelope = serde_json::from_slice(&found[&file(".json")]).unwrap();
            let fact = entry.peek::<cohortium_messages::Entry>().unwrap().claims().fact.clone();
            if log == "hub-log" {
                let policy = cohortium_ledger::LogPolicy::parse(&found["hub-log/log-policy.txt"]).unwrap();
                assert_eq!(proof.verify(&found[&file(".json")], &policy).unwrap().index(), index);
            }
            match fact.body() {
                Some(body) => assert_eq!(Hash::of(&found[&file(".body.json")]), body, "{}", file("")),
                None => assert!(!found.contains_key(&file(".body.json"))),
            }
        }
    }
    assert!(!found.contains_key("hub-log/000002.json"), "nothing before the range");
    let open = |path: &str| -> Envelope { serde_json::from_slice(&found[path]).unwrap() };
    open("hub-log/000003.body.json").peek::<Task>().unwrap();
    open("hub-log/000010.body.json").peek::<ReleaseDocument>().unwrap();
    open("agreements/revision-1.json").peek::<Agreement>().unwrap();
    let draft = String::from_utf8(found["notification.md"].clone()).unwrap();
    assert!(draft.contains("(entry 10 of the hub's log)") && !draft.contains("no row ever left"), "{draft}");
}

/// What cannot be checked is handed over all the same, and said; a folder that is there is left alone, and none half full.
#[test]
fn doubts_are_said_and_nothing_is_written_over() {
    let (mut story, scratch) = (Story::good(), Scratch::new());
    story.lines[RELEASE].key = Key::Node(1);
    let world = &story.world;
    let own = own_log(world, &[paula(world, "leak", IncidentStep::Open)]);
    let (house, log) = (house(world, &own), story.write());
    let hub = HubLog { dir: &log.0, first: 0, last: u64::MAX };
    let export = |out: &Path| export_incident(&house, Some(&hub), &name("leak"), out);
    let out = scratch.0.join("leak");
    let exported = export(&out).unwrap();
    assert_eq!((exported.answers, exported.problems), (Some(1), 1));
    let found = files(&out);
    let said = |path: &str| String::from_utf8(found[path].clone()).unwrap();
    assert!(said("notification.md").contains("NOT CHECKED") && said("problems.json").contains("\"entry\": 10"));
    assert!(said("answers.json").contains("\"checked\": false"));

    let error = export(&out).unwrap_err();
    assert!(matches!(&error, ExportError::Folder { path, .. } if *path == out), "{error}");
    assert_eq!(files(&out), found);
    let nowhere = scratch.0.join("no/such/folder");
    assert!(matches!(export(&nowhere).unwrap_err(), ExportError::Folder { .. }));
    let unknown = export_incident(&house, None, &name("unheard-of"), &scratch.0.join("other")).unwrap_err();
    assert!(unknown.to_string().contains("has no incident"), "{unknown}");
    assert!(!scratch.0.join("other").exists());
}
