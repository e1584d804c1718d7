//! A federation made as people make one, command by command, by two organisations with a small budget.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::sandbox::{
    Estimate, Processes, Said, audit, audit_passes_once_quiet, fresh_folder, run, run_json, shown, wait_for,
};

const MEMBERS: [&str; 2] = ["alpha", "beta"];
const COUNT: &str = "SELECT COUNT(*) AS n FROM visits";

/// Sixty visits at each organisation.
const SCHEMA: &str = r#"
[schema]
person = "patient"
max_rows_per_person = 2
max_groups_per_person = 1

[[schema.columns]]
name = "patient"
type = "text"
roles = []

[[schema.columns]]
name = "days"
type = "integer"
bounds = [0, 30]
roles = ["filter", "aggregate"]
"#;

struct Federation {
    dir: PathBuf,
    port: u16,
    processes: Processes,
}

impl Federation {
    fn home(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn file(&self, name: &str) -> String {
        shown(&self.dir.join(name))
    }

    fn run(&self, home: &str, arguments: &[&str]) -> Said {
        run_json(Some(&self.home(home)), arguments)
    }

    fn start(&mut self, kind: &str, name: &str) {
        let (home, dir) = (self.home(name), self.dir.clone());
        self.processes.start(kind, name, &home, &dir);
    }

    /// The hub is made, and started only after the first member knocked in vain.
    fn make_hub(&mut self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let url = format!("https://{listen}");
        assert_eq!(self.run("hub", &["hub", "init", "--listen", &listen]).json()["url"], json!(url));
        run(Some(&self.home("hub")), &["hub", "init", "--listen", &listen]).fails(1, &["never overwritten"]);
        for name in MEMBERS {
            self.run("hub", &["hub", "invite", name, "--out", &self.file(&format!("{name}.json"))]).json();
        }
        self.run("hub", &["hub", "invite", "ada", "--researcher", "--out", &self.file("ada.json")]).json();
        for (home, command, invitation) in [("alpha", "node", "alpha.json"), ("ada", "researcher", "ada.json")] {
            self.run(home, &[command, "init", "--invitation", &self.file(invitation)]).fails(5, &[&url]);
        }
        self.start("hub", "hub");
        let port = self.port;
        wait_for("the hub listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    }

    /// Members join with their invitations, each of which lets nobody else in; gives each one's fingerprint.
    fn join(&self) -> Vec<String> {
        let init = |home: &str, command: &str, invitation: &str| {
            self.run(home, &[command, "init", "--invitation", &self.file(invitation)])
        };
        init("ada", "node", "ada.json").fails(2, &["researcher"]);
        init("beta", "researcher", "beta.json").fails(2, &["organisation"]);
        let fingerprint = |said: Said| said.json()["fingerprint"].as_str().unwrap().to_owned();
        let fingerprints = vec![
            fingerprint(init("alpha", "node", "alpha.json")),
            fingerprint(init("beta", "node", "beta.json")),
            fingerprint(init("ada", "researcher", "ada.json")),
        ];
        // Who got through knocks again and is the same; another with the same invitation is another.
        assert_eq!(fingerprint(init("alpha", "node", "alpha.json")), fingerprints[0]);
        init("thief", "node", "alpha.json").fails(3, &["alpha has joined before, with other keys"]);
        init("thief2", "researcher", "ada.json").fails(3, &["ada has joined before, with other keys"]);
        init("beta", "node", "alpha.json").fails(1, &["never overwritten"]);
        init("thief3", "node", "nothing.json").fails(2, &["nothing.json"]);
        self.forged_invitations_are_no_use();
        fingerprints
    }

    fn forged_invitations_are_no_use(&self) {
        let mut invitation: Value = serde_json::from_slice(&std::fs::read(self.file("beta.json")).unwrap()).unwrap();
        invitation["secret"] = json!("00".repeat(32));
        std::fs::write(self.file("forged.json"), invitation.to_string()).unwrap();
        self.run("forger", &["node", "init", "--invitation", &self.file("forged.json")]).fails(3, &["not known"]);
        std::fs::write(self.file("forged.json"), "{}").unwrap();
        self.run("forger2", &["node", "init", "--invitation", &self.file("forged.json")]).fails(2, &["no invitation"]);
    }

    fn add_data(&mut self) {
        let rows: String = (0..60).map(|row| format!("p{},{}\n", row / 2, row % 30)).collect();
        std::fs::write(self.file("visits.csv"), format!("patient,days\n{rows}")).unwrap();
        std::fs::write(self.file("visits.toml"), SCHEMA).unwrap();
        let (file, schema) = (self.file("visits.csv"), self.file("visits.toml"));
        for name in MEMBERS {
            let add = ["node", "dataset", "add", "visits", &file, "--schema", &schema, "--epsilon", "1"];
            assert_eq!(self.run(name, &add).json()["report"]["rows"], 60);
        }
    }

    /// Alpha drafts and signs, beta signs what alpha signed. What does not fit is not signed.
    fn agree(&self, fingerprints: &[String]) {
        let draft = self.file("trial.toml");
        wait_for("both offers are at the hub", || {
            let said = self.run("alpha", &["study", "draft", "trial", "--out", &draft]);
            assert!(matches!(said.code, Some(0 | 4)), "{said}");
            (said.code == Some(0)).then_some(())
        });
        let text = std::fs::read_to_string(&draft).unwrap();
        for fingerprint in fingerprints {
            assert!(text.contains(fingerprint), "{fingerprint} is not in the draft");
        }
        self.run("alpha", &["study", "sign", &draft, "--yes"]).fails(2, &["accepted_by"]);
        let text = text.replace("accepted_by = \"\"", "accepted_by = \"the boards of both houses\"");
        let beta = &fingerprints[1];
        let wrong = if beta.starts_with("0000") { "1111" } else { "0000" };
        std::fs::write(&draft, text.replace(beta.as_str(), &format!("{wrong}{}", beta.split_at(4).1))).unwrap();
        self.run("alpha", &["study", "sign", &draft, "--yes"]).fails(2, &["`beta`", "fingerprint", "do not sign"]);
        assert_eq!(self.run("alpha", &["study", "show"]).json(), json!({"studies": []}));

        std::fs::write(&draft, text).unwrap();
        run(Some(&self.home("alpha")), &["study", "sign", &draft]).fails(2, &["--yes"]);
        assert_eq!(self.run("alpha", &["study", "sign", &draft, "--yes"]).json()["missing"], json!(["beta"]));
        self.ask(COUNT, &[]).fails(4, &["waits for custodians' signatures"]);
        self.run("ada", &["study", "show", "trial", "--policy"]).fails(4, &["signed"]);
        assert_eq!(self.run("beta", &["study", "sign", "trial", "--yes"]).json()["missing"], json!([]));
    }

    fn ask(&self, sql: &str, more: &[&str]) -> Said {
        self.run("ada", &[&["query", sql, "--study", "trial"], more].concat())
    }

    /// What the account of the visits says at a member: entries, and ε left of the dataset.
    fn account(&self, member: &str) -> (u64, f64) {
        let value = self.run(member, &["account", "show", "visits"]).json();
        let line = value["accounts"].as_array().unwrap().iter().find(|line| line["scope"] == "everyone").unwrap();
        (line["entries"].as_u64().unwrap(), line["epsilon_left"].as_f64().unwrap())
    }
}

#[test]
fn a_federation_made_by_hand() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let dir = fresh_folder("by-hand");
    std::fs::create_dir_all(&dir).unwrap();
    let mut federation = Federation { dir, port, processes: Processes::default() };
    federation.make_hub();
    let fingerprints = federation.join();
    federation.add_data();
    for name in MEMBERS {
        federation.start("node", name);
    }
    federation.agree(&fingerprints);

    let answer = federation.ask(COUNT, &["--epsilon", "0.8"]).json();
    let estimate = Estimate::of(&answer["answer"]["rows"][0][0]).unwrap();
    assert!(estimate.z(120.0).abs() <= 6.0, "{estimate:?}");
    the_budget_ends(&federation);
    the_log_convinces_others(&federation);
    std::fs::remove_dir_all(&federation.dir).unwrap();
}

/// The house's own cap is 1, though the agreement would allow 10: the second question is refused, with what is left.
fn the_budget_ends(federation: &Federation) {
    let before: Vec<_> = MEMBERS.iter().map(|member| federation.account(member)).collect();
    assert!(before.iter().all(|(entries, left)| *entries == 3 && *left < 0.3), "{before:?}");
    let said = federation.ask(COUNT, &["--epsilon", "0.8", "--draw", "1"]);
    said.fails(3, &["over budget", "the dataset has epsilon", "left of 1.0000"]);
    let error: Value = serde_json::from_str(said.err.trim()).unwrap();
    let clauses: Vec<&str> =
        error["error"]["clauses"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert!(["alpha: trial/budget", "beta: trial/budget"].iter().any(|clause| clauses == [*clause]), "{clauses:?}");
    for (member, before) in MEMBERS.iter().zip(&before) {
        let runs = wait_for("the refused task reached the member", || {
            let value = federation.run(member, &["node", "tasks"]).json();
            (value["tasks"].as_array().unwrap().len() == 2).then_some(value)
        });
        let refused = runs["tasks"].as_array().unwrap().iter().find(|run| run["state"] == "refused").unwrap();
        assert!(refused["why"].as_str().unwrap().contains("over budget"), "{refused}");
        assert_eq!(federation.account(member), *before, "a refusal costs nothing");
    }
    // What was paid for is still there, and too little is not worth a question.
    assert_eq!(federation.ask(COUNT, &["--epsilon", "0.8"]).json()["stored"], true);
}

fn the_log_convinces_others(federation: &Federation) {
    let signed = federation.file("signed.json");
    federation.run("ada", &["study", "show", "trial", "--out", &signed]).json();
    let log = federation.home("hub").join("log");
    let report = audit_passes_once_quiet(&log, signed.as_ref());
    assert!(report["log"]["size"].as_u64().unwrap() >= 8, "{report}");
    let text = run(Some(&federation.home("hub")), &["audit", "verify", "--agreement", &signed]);
    assert!(text.text().contains("trial"), "the log is found in the hub's own home: {text}");
    // A draft in TOML is no agreement, and a node's own log is not the hub's.
    audit(&log, federation.file("trial.toml").as_ref()).fails(6, &["no signed agreement"]);
    audit(&log, federation.file("absent.json").as_ref()).fails(2, &["absent.json"]);
    audit(&federation.home("alpha").join("log"), signed.as_ref()).fails(2, &["alpha's own log", "--node alpha"]);
}
