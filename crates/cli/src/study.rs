//! `cohortium study`: draft an agreement, sign it, look at it.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_messages::{
    Agreement, Author, Call, Entry, Envelope, Fact, Hash, Name, Offer, PrincipalKind, StudyRecord, canonical_bytes,
};
use cohortium_node::home::Home;
use cohortium_node::service::now;

use crate::output::{Failure, Output};
use crate::session::{Members, Session, members};

#[derive(Subcommand)]
pub enum Command {
    /// Write a draft from what the members of the hub offer: a commented TOML file to edit
    Draft {
        /// The study's name
        study: Name,
        /// Only these organisations (default: all that have joined)
        #[arg(long, value_delimiter = ',')]
        organisations: Vec<Name>,
        /// The file to write (default: STUDY.agreement.toml)
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Sign as this home's custodian: a draft file first, then the study by its name
    Sign {
        /// A draft (FILE.toml), or the name of a study that another custodian has signed
        what: String,
        /// Do not ask; you have read it
        #[arg(long)]
        yes: bool,
    },
    /// Show a study's agreement in plain words
    Show {
        /// The study's name (default: list all studies)
        study: Option<Name>,
        /// Show the compiled policy, as it is evaluated
        #[arg(long)]
        policy: bool,
        /// Write the signed agreement to a file, for auditors
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

pub async fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    let session = Session::open(home)?;
    match command {
        Command::Draft { study, organisations, out } => {
            let text = draft(&session, &study, &organisations).await?;
            let file = out.unwrap_or_else(|| PathBuf::from(format!("{study}.agreement.toml")));
            std::fs::write(&file, text).map_err(|error| Failure::own(format!("{}: {error}", file.display())))?;
            output.result(&serde_json::json!({"file": file, "study": study}), || {
                format!(
                    "Wrote {}. Edit it (someone must accept the risk by name), compare the fingerprints, then:\n  cohortium --home NODE study sign {}",
                    file.display(),
                    file.display()
                )
            })
        }
        Command::Sign { what, yes } => sign(&session, &what, yes, output).await,
        Command::Show { study, policy, out } => show(&session, study.as_ref(), policy, out.as_deref(), output).await,
    }
}

/// The draft of an agreement between the members of the hub.
pub async fn draft(session: &Session, study: &Name, only: &[Name]) -> Result<String, Failure> {
    let directory = session.directory().await?;
    let Members { mut organisations, researchers, staff } = members(&directory)?;
    organisations.retain(|entry| only.is_empty() || only.contains(&entry.organisation));
    let mut offers = Vec::new();
    for envelope in &directory.offers {
        let claims = envelope.peek::<Offer>().map_err(Failure::not_verified)?;
        if let Some(entry) = organisations.iter().find(|entry| entry.organisation == claims.claims().organisation) {
            offers.push(envelope.open::<Offer>(&entry.message_key).map_err(Failure::not_verified)?);
        }
    }
    cohortium_policy::template(study, &session.connection.hub, &organisations, &staff, &researchers, &offers, now())
        .map_err(Failure::not_ready)
}

async fn sign(session: &Session, what: &str, yes: bool, output: &Output) -> Result<(), Failure> {
    if session.connection.kind != PrincipalKind::Organisation {
        return Err(Failure::usage("only an organisation signs agreements: give a node's folder with --home"));
    }
    let draft = Path::new(what);
    let agreement = if draft.is_file() { from_draft(session, draft).await? } else { from_hub(session, what).await? };
    output.say(cohortium_policy::describe(&agreement));
    if !yes {
        confirm(&agreement, session.name())?;
    }
    let missing = put_signature(session, &agreement).await?;
    let value = serde_json::json!({"missing": missing, "signed_by": session.name(), "study": agreement.study});
    output.result(&value, || {
        if missing.is_empty() {
            format!(
                "Signed as {}. All custodians have signed: study `{}` is in force.",
                session.name(),
                agreement.study
            )
        } else {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            format!("Signed as {}. Still to sign: {}.", session.name(), missing.join(", "))
        }
    })
}

/// The agreement that a draft means, with the members' keys filled in where the fingerprints match.
pub async fn from_draft(session: &Session, file: &Path) -> Result<Agreement, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let shown = |error: cohortium_policy::DraftError| Failure::usage(format!("{}: {error}", file.display()));
    let draft = cohortium_policy::parse(&text).map_err(shown)?;
    let Members { organisations, researchers, staff } = members(&session.directory().await?)?;
    draft.resolve(&session.connection.hub, &organisations, &staff, &researchers).map_err(shown)
}

/// The agreement that other custodians have signed already.
pub async fn from_hub(session: &Session, study: &str) -> Result<Agreement, Failure> {
    let record = find(session, study).await?;
    let claims = record.agreement.peek::<Agreement>().map_err(Failure::not_verified)?;
    Ok(claims.claims().clone())
}

/// Signs with this home's agreement key and tells the hub; gives the custodians who have not signed yet.
pub async fn put_signature(session: &Session, agreement: &Agreement) -> Result<Vec<Name>, Failure> {
    let secrets = Home::new(&session.home).secrets()?;
    if agreement.party(session.name()) != Some(&secrets.entry(session.name())) {
        return Err(Failure::not_verified(format!(
            "the agreement does not carry the keys in {}: do not sign it",
            session.home.display()
        )));
    }
    if agreement.hub != session.connection.hub {
        return Err(Failure::not_verified(
            "the agreement names another hub than this home's invitation: do not sign it",
        ));
    }
    let envelope = Envelope::sign(agreement, &secrets.agreement).map_err(Failure::own)?;
    let fact = Fact::Agreement {
        body: Hash::of(&canonical_bytes(&envelope).map_err(Failure::own)?),
        revision: agreement.revision,
    };
    let entry = Entry {
        agreement: envelope.peek::<Agreement>().map_err(Failure::own)?.hash(),
        author: Author::Custodian(session.name().clone()),
        fact,
        study: agreement.study.clone(),
        time: now(),
    };
    let entry = Envelope::sign(&entry, &secrets.agreement).map_err(Failure::own)?;
    session.call(Call::Sign { agreement: envelope, entry }).await?;
    let record = find(session, agreement.study.as_str()).await?;
    let missing = agreement.parties.iter().filter(|party| !record.agreement.is_signed_by(&party.entry.agreement_key));
    Ok(missing.map(|party| party.entry.organisation.clone()).collect())
}

async fn find(session: &Session, study: &str) -> Result<StudyRecord, Failure> {
    let studies = session.studies().await?;
    studies.into_iter().find(|record| record.study.as_str() == study).ok_or_else(|| {
        Failure::usage(format!(
            "there is no draft file and no study `{study}`: give a file, or a study that someone signed"
        ))
    })
}

fn confirm(agreement: &Agreement, name: &Name) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("read the agreement above, then sign with --yes"));
    }
    eprint!("Have you compared the fingerprints? Sign `{}` as {name}? [y/N] ", agreement.study);
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::own)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(Failure::usage("not signed")) }
}

async fn show(
    session: &Session,
    study: Option<&Name>,
    policy: bool,
    out: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let Some(study) = study else {
        let studies = session.studies().await?;
        let value: Vec<serde_json::Value> =
            studies.iter().map(|r| serde_json::json!({"complete": r.complete, "study": r.study})).collect();
        return output.result(&serde_json::json!({ "studies": value }), || {
            let line = |r: &StudyRecord| {
                let state = if r.complete { "in the hands of all nodes" } else { "waits for signatures" };
                format!("{}  {state}", r.study)
            };
            if studies.is_empty() {
                String::from("No study yet.")
            } else {
                studies.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        });
    };
    let record = find(session, study.as_str()).await?;
    let claims = record.agreement.peek::<Agreement>().map_err(Failure::not_verified)?;
    let agreement = claims.claims();
    if let Some(out) = out {
        let bytes = serde_json::to_vec_pretty(&record.agreement).map_err(Failure::own)?;
        std::fs::write(out, bytes).map_err(|error| Failure::own(format!("{}: {error}", out.display())))?;
    }
    let cedar = match (policy, record.complete) {
        (true, true) => {
            let verified = session.agreement(study).await?;
            Some(cohortium_policy::compile(&verified).map_err(Failure::own)?.cedar_text().to_owned())
        }
        (true, false) => return Err(Failure::not_ready("the policy is compiled once all custodians have signed")),
        _ => None,
    };
    let value = serde_json::json!({"agreement": agreement, "complete": record.complete, "hash": claims.hash(), "policy": cedar});
    output.result(&value, || match &cedar {
        Some(cedar) => cedar.clone(),
        None => format!(
            "{}\nSigned by all custodians: {}\nHash: {}",
            cohortium_policy::describe(agreement).trim_end(),
            if record.complete { "yes" } else { "no" },
            claims.hash()
        ),
    })
}
