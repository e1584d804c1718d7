//! Runs the benchmarks with the other side beside ours: builds with it, installs what is Python, and starts the program.
//!
//! What it does not do: judge. A benchmark prints; people read.

use std::path::Path;
use std::process::Command;

use crate::peers;

/// A subject, and the Python packages that its peers come in; without any, it is measured alone.
struct Subject {
    name: &'static str,
    packages: &'static [&'static str],
}

const SUBJECTS: [Subject; 5] = [
    Subject { name: "audit", packages: &[] },
    Subject { name: "dp", packages: &["dp-accounting==0.6.0"] },
    Subject { name: "hub", packages: &[] },
    Subject { name: "log", packages: &[] },
    // NumPy makes Flower's masks and OpenSSL its keys: pinned, because they are most of what is measured.
    Subject {
        name: "mpc",
        packages: &["flwr==1.41.0", "numpy==2.4.6", "cryptography==50.0.2", "pycryptodome==3.24.1"],
    },
];

/// Measures a subject; whether that went well.
pub fn run(root: &Path, name: &str) -> bool {
    let Some(subject) = SUBJECTS.iter().find(|subject| subject.name == name) else {
        let known: Vec<&str> = SUBJECTS.iter().map(|subject| subject.name).collect();
        eprintln!("xtask: nothing to measure is called {name}; there is: {}", known.join(", "));
        return false;
    };
    match measure(root, subject) {
        Ok(good) => good,
        Err(why) => {
            eprintln!("xtask: {why}");
            false
        }
    }
}

fn measure(root: &Path, subject: &Subject) -> Result<bool, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--release", "--package", "cohortium-bench"]).current_dir(root);
    if subject.packages.is_empty() {
        command.args(["--", subject.name]);
    } else {
        let home = root.join("target/peers").join(format!("bench-{}", subject.name));
        let python = peers::install_python(&home, subject.packages)?;
        command.args(["--features", "peers", "--", subject.name]).arg(python);
    }
    let status = command.status();
    status.map(|status| status.success()).map_err(|error| format!("cargo cannot be started: {error}"))
}
