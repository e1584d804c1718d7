//! Other people's implementations of the formats we speak: where they agree with our bytes, so can a stranger.
//!
//! Each check says how its peer is installed and which script under `tests/interop` asks it. Scripts end with a line
//! `<name>: N passed, N failed`; each also tampers with what it was given and demands that the peer refuse it.
//!
//! What it does not do: it pins versions of Python packages, not their hashes; peers judge our tests and are never part
//! of what we ship.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Counts, Reporter, capture, stream};

/// One implementation by others, and what it checks.
pub struct Peer {
    /// What the check is called.
    pub name: &'static str,
    install: Install,
    /// The command that asks it, from the directory of the repository and what installing returned.
    ask: fn(&Path, &Path) -> Result<Command, String>,
}

enum Install {
    /// Into a virtual environment of its own, under `target/peers`.
    Python { packages: &'static [&'static str] },
    /// By `apt-get`, as root, unless `program` is there and `path` exists.
    Debian { packages: &'static [&'static str], program: &'static str, path: &'static str },
}

/// Who judges the crate of evidence that our audit writes.
const PEERS_CRATE: &str = "evidence-crate";
const PEERS_ATTESTATIONS: &str = "attestations";

/// Where that crate is left for them.
const EVIDENCE: &str = "target/peers/evidence/bag";

/// Where Debian keeps the sources of Go packages.
const GO_PATH: &str = "/usr/share/gocode";

/// The scripts that are asked about a log.
const GO_SCRIPT: &str = "tests/interop/tlog/verify.go";
const COSIGNATURE_SCRIPT: &str = "tests/interop/cosignature.py";

/// All peer checks.
pub const PEERS: [Peer; 11] = [
    Peer {
        name: "dp-accounting",
        install: Install::Python { packages: &["dp-accounting==0.6.0"] },
        ask: ask_dp_accounting,
    },
    Peer { name: "secure-sum", install: Install::Python { packages: &["cryptography==50.0.2"] }, ask: ask_secure_sum },
    Peer { name: "noise", install: Install::Python { packages: &[] }, ask: ask_noise },
    Peer { name: "rfc8785", install: Install::Python { packages: &["rfc8785==0.1.4"] }, ask: ask_rfc8785 },
    Peer {
        name: "dsse",
        install: Install::Python { packages: &["securesystemslib==1.6.0", "cryptography==50.0.2"] },
        ask: ask_dsse,
    },
    Peer {
        name: PEERS_CRATE,
        install: Install::Python { packages: &["roc-validator==0.13.0", "bagit==1.9.0"] },
        ask: ask_evidence_crate,
    },
    Peer {
        name: PEERS_ATTESTATIONS,
        install: Install::Python {
            packages: &["in-toto-attestation==0.9.3", "securesystemslib==1.6.0", "cryptography==50.0.2"],
        },
        ask: ask_attestations,
    },
    Peer {
        name: "agreement-schema",
        install: Install::Python { packages: &["jsonschema==4.26.0"] },
        ask: ask_agreement_schema,
    },
    Peer { name: "cedar", install: Install::Python { packages: &["cedarpy==4.12.2"] }, ask: ask_cedar },
    Peer {
        name: "go-sumdb",
        install: Install::Debian {
            packages: &["golang-go", "golang-golang-x-mod-dev"],
            program: "go",
            path: "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog",
        },
        ask: ask_go_sumdb,
    },
    Peer {
        name: "cosignature",
        install: Install::Python { packages: &["mldsa==1.0.1", "cryptography==50.0.2"] },
        ask: ask_cosignature,
    },
];

/// Asks one peer alone; whether it agreed.
pub fn run_one(root: &Path, name: &str) -> bool {
    let Some(peer) = PEERS.iter().find(|peer| peer.name == name) else {
        let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        eprintln!("xtask: no peer is called {name}; there is: {}", known.join(", "));
        return false;
    };
    run(peer, root).map(|(good, _)| good).unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        false
    })
}

/// Installs the peer if need be, and asks it. A peer that checked nothing is a failure.
///
/// # Errors
/// When it cannot be installed or asked; in words, for the operator.
pub fn run(peer: &Peer, root: &Path) -> Result<(bool, Counts), String> {
    let installed = install(peer, root)?;
    if [PEERS_CRATE, PEERS_ATTESTATIONS].contains(&peer.name) {
        write_crate(root)?;
    }
    let mut command = (peer.ask)(root, &installed)?;
    let (exited_well, counts) = stream(command.current_dir(root), Reporter::Peer(peer.name))?;
    Ok((exited_well && counts.passed > 0, counts))
}

/// PyPI's `rfc8785`, on the vectors that `crates/messages` checks as well.
fn ask_rfc8785(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/canonical_json.py", "tests/data/vectors/canonical"))
}

/// PyPI's `securesystemslib`, on envelopes that our code signed.
fn ask_dsse(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/dsse.py", "tests/data/vectors/dsse"))
}

/// PyPI's `jsonschema`, on agreements and drafts that `crates/policy` reads or refuses as well.
fn ask_agreement_schema(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/agreement_schema.py", "tests/data/vectors/agreement"))
}

/// PyPI's `cedarpy`, the engine that `crates/policy` uses in another build: on policies that our compiler wrote.
fn ask_cedar(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/cedar.py", "tests/data/vectors/agreement/cedar.json"))
}

/// The specification of seeded noise, written down once more in Python, on the vectors that `crates/dp` checks as well.
fn ask_noise(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/noise.py", "tests/data/vectors/noise.json"))
}

/// Google's accountant, on rows of the table that `crates/dp` is compared with.
fn ask_dp_accounting(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/accounting.py", "check"))
}

/// The specification of the secure sum, written down once more in Python over OpenSSL's primitives.
fn ask_secure_sum(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/secure_sum.py", "tests/data/vectors/secure-sum"))
}

/// The Library of Congress's `bagit` and CRS4's `roc-validator`, on a crate that our audit writes now.
fn ask_evidence_crate(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/evidence_crate.py", EVIDENCE))
}

/// PyPI's `securesystemslib` and `in-toto-attestation`, on the statements in the same crate.
fn ask_attestations(_root: &Path, python: &Path) -> Result<Command, String> {
    Ok(script(python, "tests/interop/attestations.py", EVIDENCE))
}

/// Has a test of the audit leave the crate that it makes where the scripts look for it.
fn write_crate(root: &Path) -> Result<(), String> {
    let bag = root.join(EVIDENCE);
    let parent = bag.parent().unwrap_or(root);
    std::fs::create_dir_all(parent).map_err(|error| format!("{} cannot be made: {error}", parent.display()))?;
    if bag.exists() {
        std::fs::remove_dir_all(&bag).map_err(|error| format!("{} cannot be emptied: {error}", bag.display()))?;
    }
    let mut write = cargo();
    // The whole workspace, so that dependencies have the features that they have in the other tests and are not built again.
    write.args(["test", "-q", "--workspace", "--test", "it", "--", "--exact"]);
    write.arg("export::a_crate_is_complete_and_the_same_each_time");
    capture(write.env("COHORTIUM_WRITE_CRATE", &bag).current_dir(root))?;
    if bag.is_dir() { Ok(()) } else { Err(format!("no test wrote {}", bag.display())) }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn script(python: &Path, script: &str, argument: &str) -> Command {
    let mut command = Command::new(python);
    // `-B`: no compiled files beside the scripts.
    command.args(["-B", script, argument]);
    command
}

/// Go's checksum database, on a log, a fork of it, and proofs that our ledger writes now.
fn ask_go_sumdb(root: &Path, _go: &Path) -> Result<Command, String> {
    let home = root.join("target/peers/go-sumdb");
    let (written, keys) = write_log(root, &home)?;
    let mut command = Command::new("go");
    command.args(["run", GO_SCRIPT]).arg(written).args(keys);
    command.env("GO111MODULE", "off").env("GOPATH", GO_PATH).env_remove("GOFLAGS");
    command.env("GOCACHE", home.join("cache"));
    Ok(command)
}

/// Two other implementations of ML-DSA-44, on cosignatures that our ledger makes now.
fn ask_cosignature(root: &Path, python: &Path) -> Result<Command, String> {
    let (written, keys) = write_log(root, &root.join("target/peers/cosignature"))?;
    let mut command = Command::new(python);
    command.args(["-B", COSIGNATURE_SCRIPT]).arg(written).args(keys);
    Ok(command)
}

/// Runs the ledger's example; returns where it wrote and the keys that it named.
fn write_log(root: &Path, home: &Path) -> Result<(PathBuf, Vec<String>), String> {
    let written = home.join("written");
    if written.exists() {
        std::fs::remove_dir_all(&written)
            .map_err(|error| format!("{} cannot be emptied: {error}", written.display()))?;
    }
    std::fs::create_dir_all(&written).map_err(|error| format!("{} cannot be made: {error}", written.display()))?;
    // As in `write_crate`, for the same reason.
    capture(cargo().args(["build", "-q", "--workspace", "--example", "write_log"]).current_dir(root))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut write = Command::new(target.join("debug/examples/write_log"));
    let keys: Vec<String> =
        capture(write.arg(&written).current_dir(root))?.split_whitespace().map(str::to_owned).collect();
    if keys.len() < 2 {
        return Err("the example write_log named fewer than two keys: a log and a witness are needed".to_owned());
    }
    Ok((written, keys))
}

/// Makes the peer available; returns the interpreter or program to run it with.
fn install(peer: &Peer, root: &Path) -> Result<PathBuf, String> {
    match &peer.install {
        Install::Python { packages } => install_python(&root.join("target/peers").join(peer.name), packages),
        Install::Debian { packages, program, path } => install_debian(packages, program, path),
    }
}

/// A virtual environment with exactly these packages; one that was made for the same ones is used again.
///
/// # Errors
/// When Python or a package cannot be had; in words, for the operator.
pub fn install_python(directory: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let (python, note) = (directory.join("bin/python"), directory.join("installed.txt"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&note).is_ok_and(|found| found == wanted) && python.is_file() {
        return Ok(python);
    }
    println!("installing into {}: {}", directory.display(), packages.join(", "));
    let environment = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(directory);
        command
    };
    if let Err(why) = capture(&mut environment()) {
        // Debian ships Python without the module that makes environments.
        if !is_root() {
            return Err(format!("{why}\ninstall python3 with its venv module (Debian: python3-venv)"));
        }
        apt_install(&["python3-venv"])?;
        capture(&mut environment())?;
    }
    if !packages.is_empty() {
        let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        capture(Command::new(&python).args(options).args(packages))?;
    }
    // Written last: a crash before this line means that it is all done again.
    std::fs::write(&note, wanted).map_err(|error| format!("{} cannot be written: {error}", note.display()))?;
    Ok(python)
}

fn install_debian(packages: &[&str], program: &str, path: &str) -> Result<PathBuf, String> {
    let is_there = || on_path(program) && Path::new(path).exists();
    if !is_there() {
        if !is_root() {
            return Err(format!("needs root to run: apt-get install -y {}", packages.join(" ")));
        }
        println!("installing {} with apt-get", packages.join(", "));
        apt_install(packages)?;
    }
    if is_there() { Ok(program.into()) } else { Err(format!("{program} or {path} is missing after installing")) }
}

fn apt_install(packages: &[&str]) -> Result<(), String> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    capture(apt().arg("update"))?;
    capture(apt().args(["install", "-y", "--no-install-recommends"]).args(packages)).map(drop)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn is_root() -> bool {
    capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each script must be there, or the check would be found missing only where peers are installed.
    #[test]
    fn scripts_exist_and_names_differ() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // The two that are asked about a log would write it first.
        let asks_at_once = |peer: &&Peer| matches!(peer.install, Install::Python { .. }) && peer.name != "cosignature";
        for peer in PEERS.iter().filter(asks_at_once) {
            let command = (peer.ask)(root, Path::new("python")).unwrap();
            let script = command.get_args().nth(1).unwrap();
            assert!(root.join(script).is_file(), "{}", peer.name);
        }
        assert!([GO_SCRIPT, COSIGNATURE_SCRIPT].iter().all(|script| root.join(script).is_file()));
        let mut names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PEERS.len());
    }

    /// A peer whose script passes without having checked anything has not passed.
    #[test]
    fn checking_nothing_is_a_failure() {
        fn silent(_: &Path, _: &Path) -> Result<Command, String> {
            Ok(Command::new("true"))
        }
        fn busy(_: &Path, _: &Path) -> Result<Command, String> {
            let mut command = Command::new("echo");
            command.arg("there: 3 passed, 0 failed");
            Ok(command)
        }
        let here = || Install::Debian { packages: &[], program: "true", path: "/" };
        let (good, _) = run(&Peer { name: "there", install: here(), ask: silent }, Path::new(".")).unwrap();
        assert!(!good);
        let (good, counts) = run(&Peer { name: "there", install: here(), ask: busy }, Path::new(".")).unwrap();
        assert!(good);
        assert_eq!(counts.passed, 3);
    }
}
