//! `cohortium person`: a key for somebody who acts for an organisation, in a folder of their own.
//!
//! A person is no party of the hub. What they say is signed here and laid on the desk of their organisation's node
//! ([`crate::desk`]); that they may say it follows from the agreement, which names them with their key.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use cohortium_api::Connection;
use cohortium_messages::{Envelope, Name, PersonEntry, PersonSecrets, PrincipalKind, Role};
use cohortium_node::service::system_rng;
use zeroize::Zeroizing;

use crate::output::{Failure, Output};
use crate::session::fingerprint;

#[derive(Subcommand)]
pub enum Command {
    /// Make a person's key in --home, and a file for the operator of their organisation's node
    Init {
        /// The person's name, unique in the organisation
        #[arg(long)]
        name: Name,
        /// What the person does there; nobody has two roles
        #[arg(long, value_parser = roles())]
        role: Role,
        /// The file to write (default: NAME.person.json)
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// Whose word it is.
#[derive(clap::Args)]
pub struct Speaker {
    /// Whose word it is: the folder that `person init` made
    #[arg(long = "as", value_name = "PERSON", env = "COHORTIUM_PERSON")]
    pub person: PathBuf,
}

/// Somebody who acts for an organisation, with their key.
pub struct Person {
    pub entry: PersonEntry,
    pub secrets: PersonSecrets,
}

pub fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    let Command::Init { name, role, out } = command;
    let file = out.unwrap_or_else(|| PathBuf::from(format!("{name}.person.json")));
    let person = make(home, &name, role)?;
    person.hand_over(&file)?;
    let fingerprint = fingerprint(&person.entry)?;
    let value = serde_json::json!({"file": file, "fingerprint": fingerprint, "person": name, "role": role});
    output.result(&value, || {
        format!(
            "Made a key for {name} ({role}) in {}. Nobody else should be able to read that folder.\nFingerprint: {fingerprint}\n\
             Hand {} to the operator of your organisation's node, who takes it in with `node person add`, and tell the \
             custodian the fingerprint over another channel: agreements name you by it.",
            home.display(),
            file.display()
        )
    })
}

/// Makes a person's key in a folder of their own.
pub fn make(home: &Path, name: &Name, role: Role) -> Result<Person, Failure> {
    if keys_file(home).exists() || home.join("connection.toml").exists() {
        return Err(Failure::usage(format!(
            "{} is somebody's home already: a person has a folder of their own, and keys are never overwritten",
            home.display()
        )));
    }
    cohortium_store::make_private_folder(home).map_err(Failure::own)?;
    let secrets = PersonSecrets::generate(&mut system_rng());
    let person = Person { entry: secrets.entry(name, role), secrets };
    person.hand_over(&entry_file(home))?;
    cohortium_store::write_private(&keys_file(home), person.secrets.to_secret_text().as_bytes())
        .map_err(Failure::own)?;
    Ok(person)
}

impl Person {
    /// The person whose folder this is.
    pub fn open(home: &Path) -> Result<Self, Failure> {
        demand_no_other_home(home)?;
        let no_person = |why: &dyn std::fmt::Display| {
            Failure::usage(format!(
                "{} is no person's folder ({why}): make one with `--home DIR person init --name NAME --role ROLE`",
                home.display()
            ))
        };
        let bytes = std::fs::read(entry_file(home)).map_err(|error| no_person(&error))?;
        let text = std::fs::read_to_string(keys_file(home)).map(Zeroizing::new).map_err(|error| no_person(&error))?;
        let secrets = PersonSecrets::from_secret_text(&text)
            .map_err(|error| Failure::own(format!("{}: {error}", keys_file(home).display())))?;
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| no_person(&error))?;
        let entry = envelope.open::<PersonEntry>(&secrets.key.public()).map_err(Failure::not_verified)?.into_inner();
        Ok(Self { entry, secrets })
    }

    /// Writes the public half, signed by itself.
    fn hand_over(&self, file: &Path) -> Result<(), Failure> {
        let envelope = Envelope::sign(&self.entry, &self.secrets.key).map_err(Failure::own)?;
        let bytes = serde_json::to_vec_pretty(&envelope).map_err(Failure::own)?;
        std::fs::write(file, bytes).map_err(|error| Failure::own(format!("{}: {error}", file.display())))
    }
}

/// Demands that a folder is nobody's home at the hub: a researcher, who asks, does not decide, and a node is no person.
fn demand_no_other_home(home: &Path) -> Result<(), Failure> {
    let Ok(connection) = Connection::load(home) else { return Ok(()) };
    let (home, name) = (home.display(), connection.name);
    Err(Failure::usage(match connection.kind {
        PrincipalKind::Researcher => {
            format!(
                "{home} is the home of the researcher {name}, who asks. Who asks cannot decide: give a person's folder"
            )
        }
        PrincipalKind::Organisation => format!(
            "{home} is the home of the node of {name}. It speaks for itself: give the folder of a person, made by `person init`"
        ),
    }))
}

/// Reads what [`Command::Init`] wrote for the operator.
pub fn read_entry(file: &Path) -> Result<Envelope, Failure> {
    let no_person = |why: String| {
        Failure::usage(format!("{}: {why}; a person's entry is the file that `person init` writes", file.display()))
    };
    let bytes = std::fs::read(file).map_err(|error| no_person(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| no_person(error.to_string()))
}

/// The file in which a person's own entry is kept.
pub fn entry_file(home: &Path) -> PathBuf {
    home.join("person.json")
}

fn keys_file(home: &Path) -> PathBuf {
    home.join("keys.toml")
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(["auditor", "operator", "privacy-officer", "steward"]).map(|text| match text.as_str() {
        "auditor" => Role::Auditor,
        "operator" => Role::Operator,
        "privacy-officer" => Role::PrivacyOfficer,
        _ => Role::Steward,
    })
}
