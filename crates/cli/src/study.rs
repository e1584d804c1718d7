//! `cohortium study`: draft an agreement, check and sign it, look at it, amend it, take it back.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_messages::{
    Agreement, Author, Call, Entry, Envelope, Fact, Hash, Name, Offer, Party, PrincipalKind, PublicKey,
    RevocationSubject, StudyRecord, Verified, canonical_bytes,
};
use cohortium_node::home::Home;
use cohortium_node::service::now;
use cohortium_node::view::View;
use cohortium_policy::{Change, Draft, DraftError, Finding, Severity};

use crate::desk;
use crate::output::{Failure, Output, plain};
use crate::query::join;
use crate::sandbox::{command_line, shown};
use crate::session::{Members, Session, fingerprint, members};

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
    /// What to think about again before signing: a draft, or a study's agreement
    Check {
        /// A draft (FILE.toml), a signed agreement (FILE.json), or a study
        what: String,
    },
    /// What one agreement changes of another, clause by clause: what widens first
    Diff {
        /// A draft (FILE.toml), a signed agreement (FILE.json), or a study
        old: String,
        /// The same
        new: String,
    },
    /// Sign as this home's custodian: a draft file first, then the study by its name
    Sign {
        /// A draft (FILE.toml), or the name of a study that another custodian has signed
        what: String,
        /// Which amendment, if several wait: the first digits of its hash
        #[arg(long, value_name = "HASH")]
        amendment: Option<String>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Propose the next revision of a study's agreement: shows what it changes, signs, sends
    Amend {
        /// The study
        study: Name,
        /// The draft of the whole new agreement; revision and predecessor are filled in
        #[arg(long)]
        draft: PathBuf,
        #[command(flatten)]
        consent: Consent,
    },
    /// Take the agreement back, or one key that it names: at once here, elsewhere as soon as it is known. Nothing undoes it
    Revoke {
        /// The study
        study: Name,
        /// Why; all members and auditors read it
        #[arg(long, value_parser = desk::reason)]
        why: String,
        /// Only this researcher's or person's key, by the fingerprint in the agreement
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
        /// Do not ask
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

/// What was read and accepted beforehand.
#[derive(Clone, Copy, clap::Args)]
pub struct Consent {
    /// Do not ask; you have read it
    #[arg(long)]
    yes: bool,
    /// Sign in spite of the errors that `study check` finds
    #[arg(long)]
    accept_findings: bool,
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
                    "Wrote {0}. Edit it (someone must accept the risk by name), compare the fingerprints, then:\n  {1} study check {0}\n  {1} study sign {0}",
                    file.display(),
                    command_line(&["--home", &shown(home)])
                )
            })
        }
        Command::Check { what } => check(&session, &what, output).await,
        Command::Diff { old, new } => {
            let is_draft = |what: &str| Path::new(what).is_file() && !what.ends_with(".json");
            let (drafted, old, mut new) = (is_draft(&new), load(&session, &old).await?, load(&session, &new).await?);
            if drafted {
                // As `study amend` would fill it in.
                new.previous = Some(canonical_hash(&old)?);
                new.revision = old.revision.saturating_add(1);
            }
            let changes = cohortium_policy::diff(&old, &new);
            output.result(&serde_json::json!({ "changes": changes }), || changes_in_words(&changes))
        }
        Command::Sign { what, amendment, consent } => {
            let draft = Path::new(&what);
            let agreement = if draft.is_file() {
                from_draft(&session, draft).await?
            } else {
                from_hub(&session, &what, amendment.as_deref()).await?
            };
            sign(&session, &agreement, consent, output).await
        }
        Command::Amend { study, draft, consent } => {
            let agreement = amendment(&session, &study, &draft).await?;
            sign(&session, &agreement, consent, output).await
        }
        Command::Revoke { study, why, key, yes } => revoke(&session, &study, why, key.as_deref(), yes, output).await,
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

async fn check(session: &Session, what: &str, output: &Output) -> Result<(), Failure> {
    let agreement = load(session, what).await?;
    let findings = cohortium_policy::lint(&agreement, now());
    output.result(&serde_json::json!({"findings": findings, "study": agreement.study}), || {
        if findings.is_empty() {
            String::from("Nothing found. That is no promise: read the agreement with `study show`.")
        } else {
            findings_in_words(&findings)
        }
    })
}

/// Shows what is to be signed, what is wrong with it and what it changes; asks, signs, sends.
async fn sign(session: &Session, agreement: &Agreement, consent: Consent, output: &Output) -> Result<(), Failure> {
    demand_custodian(session)?;
    output.say(cohortium_policy::describe(agreement));
    let changes = match agreement.previous {
        None => None,
        Some(previous) => {
            let current = in_force(session, agreement, previous).await?;
            current.map(|current| cohortium_policy::diff(&current, agreement))
        }
    };
    if let Some(changes) = &changes {
        output.say(format!("What it changes:\n{}\n", changes_in_words(changes)));
    }
    let findings = cohortium_policy::lint(agreement, now());
    if !findings.is_empty() {
        output.say(format!("To think about again (`study check`):\n{}\n", findings_in_words(&findings)));
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 && !consent.accept_findings {
        return Err(Failure::usage(format!(
            "not signed: {errors} of these findings cannot be meant. Mend the draft, or sign in spite of them with \
             --accept-findings"
        )));
    }
    if !consent.yes {
        let what = format!("`{}` (revision {})", agreement.study, agreement.revision);
        confirm(&format!("Have you compared the fingerprints? Sign {what} as {}?", session.name()))?;
    }
    let missing = put_signature(session, agreement).await?;
    let value = serde_json::json!({"changes": changes, "findings": findings, "missing": missing,
        "revision": agreement.revision, "signed_by": session.name(), "study": agreement.study});
    output.result(&value, || {
        let (study, revision) = (&agreement.study, agreement.revision);
        if missing.is_empty() {
            format!(
                "Signed as {}. All custodians have signed: revision {revision} of study `{study}` is in force.",
                session.name()
            )
        } else {
            let meanwhile = match changes {
                Some(_) => format!(" Until then revision {} stays in force.", revision.saturating_sub(1)),
                None => String::new(),
            };
            format!(
                "Signed as {}. Still to sign: {}.{meanwhile} Each types, after comparing the fingerprints:\n  {}",
                session.name(),
                join(&missing),
                command_line(&["--home", "THEIR_NODE", "study", "sign", study.as_str()])
            )
        }
    })
}

/// The agreement that `agreement` amends, which must be the one in force; none if `agreement` is in force itself.
async fn in_force(
    session: &Session,
    agreement: &Agreement,
    previous: Hash,
) -> Result<Option<Verified<Agreement>>, Failure> {
    let current = session.agreement(&agreement.study).await?;
    if current.hash() == previous && Some(agreement.revision) == current.revision.checked_add(1) {
        return Ok(Some(current));
    }
    if current.hash() == canonical_hash(agreement)? {
        return Ok(None);
    }
    Err(Failure::refused(
        format!(
            "this amends another agreement than revision {} ({}), which is in force: draft it again with `study amend`",
            current.revision,
            current.hash().short()
        ),
        Vec::new(),
    ))
}

/// The draft in a file as the next revision of the study's agreement.
async fn amendment(session: &Session, study: &Name, file: &Path) -> Result<Agreement, Failure> {
    let current = session.agreement(study).await?;
    let mut draft = read_draft(file)?;
    if draft.study != *study {
        return Err(Failure::usage(format!("{} is a draft of study `{}`", file.display(), draft.study)));
    }
    draft.previous = Some(current.hash());
    draft.revision = current.revision.checked_add(1).ok_or_else(|| Failure::usage("there is no later revision"))?;
    resolve(session, &draft, file).await
}

/// Takes the agreement or a key back: on the desk of the own node, and at the hub.
async fn revoke(
    session: &Session,
    study: &Name,
    why: String,
    key: Option<&str>,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    demand_custodian(session)?;
    let agreement = held_or_shown(session, study).await?;
    let (subject, whose) = match key {
        None => (RevocationSubject::Agreement, format!("the agreement of study `{study}`")),
        Some(fingerprint) => {
            let (key, whose) = named_by(&agreement, fingerprint)?;
            (RevocationSubject::Key(key), format!("the key of {whose} in study `{study}`"))
        }
    };
    if !yes {
        confirm(&format!("Nothing undoes this but a new agreement. Take back {whose} as {}?", session.name()))?;
    }
    let secrets = Home::new(&session.home).secrets()?;
    let fact = Fact::Revocation { subject, why };
    let author = Author::Custodian(session.name().clone());
    let entry = Entry { agreement: agreement.hash(), author, fact, study: study.clone(), time: now() };
    let entry = Envelope::sign(&entry, &secrets.agreement).map_err(Failure::usage)?;
    let node = Home::new(&session.home);
    let laid = desk::lay(&node, entry.clone(), None)?;
    // The node tells the hub too. Who takes something back wants it known now, also while the node is away.
    let hub = match session.call(Call::Log { body: None, entry }).await {
        Ok(_) => String::from("The hub knows, and tells the other members."),
        Err(error) => format!("The hub does not know yet ({error}); this node tells it again when it runs."),
    };
    let heard = laid.wait().await?;
    let value = serde_json::json!({"desk": heard, "hub": hub, "study": study, "taken_back": whose});
    output.result(&value, || match heard {
        desk::Heard::Acted => format!("Taken back: {whose}. It holds at this node. {hub}"),
        desk::Heard::Waits => {
            format!(
                "Taken back: {whose}. It lies on the desk of this node and holds there as soon as the node runs. {hub}"
            )
        }
    })
}

/// The agreement in force of a study as this node holds it, so that no hub can keep a custodian from taking it back at home;
/// as the hub shows it where the node holds none.
async fn held_or_shown(session: &Session, study: &Name) -> Result<Verified<Agreement>, Failure> {
    let home = Home::new(&session.home);
    let held = if home.has_run() { View::open(&home)?.agreements()? } else { Vec::new() };
    match held.into_iter().find(|(agreement, _)| agreement.study == *study) {
        Some((_, envelope)) => cohortium_policy::open_agreement(&envelope).map_err(Failure::not_verified),
        None => session.agreement(study).await,
    }
}

/// The researcher or person of an agreement who has this fingerprint, and in which words to speak of them.
fn named_by(agreement: &Agreement, text: &str) -> Result<(PublicKey, String), Failure> {
    for terms in &agreement.researchers {
        if fingerprint(&terms.entry)? == text {
            return Ok((terms.entry.key, format!("the researcher {}", terms.entry.researcher)));
        }
    }
    for party in &agreement.parties {
        for person in &party.people {
            if fingerprint(person)? == text {
                let whose = format!("{} ({} of {})", person.person, person.role, party.entry.organisation);
                return Ok((person.key, whose));
            }
        }
    }
    Err(Failure::usage(format!(
        "no researcher and no person in this agreement has the fingerprint {text}: `study show {}` lists them",
        agreement.study
    )))
}

fn demand_custodian(session: &Session) -> Result<(), Failure> {
    match session.connection.kind {
        PrincipalKind::Organisation => Ok(()),
        PrincipalKind::Researcher => {
            Err(Failure::usage("only an organisation signs agreements: give a node's folder with --home"))
        }
    }
}

fn findings_in_words(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        format!("  {}: {}: {} (to act: {})", finding.severity, finding.clause, plain(&finding.words), finding.who)
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn changes_in_words(changes: &[Change]) -> String {
    if changes.is_empty() {
        return String::from("  Nothing: they say the same.");
    }
    changes.iter().map(|change| format!("  {}", plain(&change.to_string()))).collect::<Vec<_>>().join("\n")
}

/// The agreement in a draft, in a file that was signed, or of a study.
async fn load(session: &Session, what: &str) -> Result<Agreement, Failure> {
    let file = Path::new(what);
    if !file.is_file() {
        return Ok(peek(&find(session, what).await?.agreement)?.0);
    }
    if file.extension().is_some_and(|extension| extension == "json") {
        let text = std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        let envelope = serde_json::from_slice(&text)
            .map_err(|_| Failure::usage(format!("{} is no signed agreement", file.display())))?;
        return Ok(peek(&envelope)?.0);
    }
    from_draft(session, file).await
}

/// What an envelope claims to be agreed, and its hash. Whoever relies on it checks the signatures.
fn peek(envelope: &Envelope) -> Result<(Agreement, Hash), Failure> {
    let claims = envelope.peek::<Agreement>().map_err(Failure::not_verified)?;
    Ok((claims.claims().clone(), claims.hash()))
}

/// The agreement in a draft, with keys put to the names in it.
pub async fn from_draft(session: &Session, file: &Path) -> Result<Agreement, Failure> {
    resolve(session, &read_draft(file)?, file).await
}

fn read_draft(file: &Path) -> Result<Draft, Failure> {
    let shown = |error: DraftError| Failure::usage(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    cohortium_policy::parse(&text).map_err(shown)
}

async fn resolve(session: &Session, draft: &Draft, file: &Path) -> Result<Agreement, Failure> {
    let shown = |error: DraftError| Failure::usage(format!("{}: {error}", file.display()));
    let Members { organisations, researchers, staff } = members(&session.directory().await?)?;
    draft.resolve(&session.connection.hub, &organisations, &staff, &researchers).map_err(shown)
}

/// What other custodians have signed already and this one has not: the first agreement of the study, or an amendment.
async fn from_hub(session: &Session, study: &str, amendment: Option<&str>) -> Result<Agreement, Failure> {
    let record = find(session, study).await?;
    if !record.complete && amendment.is_none() {
        return Ok(peek(&record.agreement)?.0);
    }
    let proposed = record.amendments.iter().map(peek).collect::<Result<Vec<_>, Failure>>()?;
    let named = |hash: &Hash| amendment.is_none_or(|digits| hash.to_string().starts_with(digits));
    let proposed: Vec<(Agreement, Hash)> = proposed.into_iter().filter(|(_, hash)| named(hash)).collect();
    match proposed.as_slice() {
        [(agreement, _)] => Ok(agreement.clone()),
        [] if amendment.is_some() => Err(Failure::usage("no amendment of that hash waits for signatures")),
        [] => Ok(peek(&record.agreement)?.0),
        several => {
            let hashes: Vec<String> = several.iter().map(|(_, hash)| hash.short()).collect();
            Err(Failure::usage(format!(
                "several amendments wait for signatures: say which one with --amendment ({})",
                hashes.join(", ")
            )))
        }
    }
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
    if agreement.previous.is_some() {
        // The own node hears when this was signed, and so whether it was meant to undo what was taken back.
        desk::lay(&Home::new(&session.home), entry.clone(), None)?;
    }
    session.call(Call::Sign { agreement: envelope, entry }).await?;
    let record = find(session, agreement.study.as_str()).await?;
    let hash = Some(canonical_hash(agreement)?);
    let amended = record.amendments.iter().find(|envelope| peek(envelope).ok().map(|(_, hash)| hash) == hash);
    let signed = amended.unwrap_or(&record.agreement);
    let missing = agreement.parties.iter().filter(|party| !signed.is_signed_by(&party.entry.agreement_key));
    Ok(missing.map(|party| party.entry.organisation.clone()).collect())
}

fn canonical_hash(agreement: &Agreement) -> Result<Hash, Failure> {
    Ok(Hash::of(&canonical_bytes(agreement).map_err(Failure::own)?))
}

async fn find(session: &Session, study: &str) -> Result<StudyRecord, Failure> {
    let studies = session.studies().await?;
    studies.into_iter().find(|record| record.study.as_str() == study).ok_or_else(|| {
        Failure::usage(format!(
            "there is no draft file and no study `{study}`: give a file, or a study that someone signed"
        ))
    })
}

fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{question}\nNobody can be asked here: read what stands above, then say so with --yes"
        )));
    }
    eprint!("{} [y/N] ", plain(question));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::own)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(Failure::usage("nothing was signed")) }
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
        let value = |r: &StudyRecord| {
            serde_json::json!({"amendments": r.amendments.len(), "complete": r.complete,
                "revocations": r.revocations.len(), "study": r.study})
        };
        let value: Vec<serde_json::Value> = studies.iter().map(value).collect();
        return output.result(&serde_json::json!({ "studies": value }), || {
            let line = |r: &StudyRecord| {
                let state = if r.complete { "in the hands of all nodes" } else { "waits for signatures" };
                let amended = if r.amendments.is_empty() { "" } else { "; an amendment waits for signatures" };
                let revoked = if r.revocations.is_empty() { "" } else { "; something was taken back" };
                format!("{}  {state}{amended}{revoked}", r.study)
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
    let history = History::of(session, &record, claims.hash())?;
    let value = serde_json::json!({"agreement": agreement, "amendments": history.amendments, "complete": record.complete,
        "hash": claims.hash(), "policy": cedar, "revisions": history.revisions, "revocations": history.revocations});
    output.result(&value, || match &cedar {
        Some(cedar) => cedar.clone(),
        None => format!(
            "{}{}\nSigned by all custodians: {}\nHash: {}\n{}",
            history.headline(),
            cohortium_policy::describe(agreement).trim_end(),
            if record.complete { "yes" } else { "no" },
            claims.hash(),
            history.in_words()
        ),
    })
}

/// What was before, what is proposed, what was taken back.
#[derive(Default)]
struct History {
    amendments: Vec<serde_json::Value>,
    /// As this home's node has had them, the oldest first. A researcher has none.
    revisions: Vec<serde_json::Value>,
    revocations: Vec<serde_json::Value>,
    lines: Vec<String>,
    /// Who took the whole agreement in force back, and when.
    taken_back: Option<String>,
}

impl History {
    fn of(session: &Session, record: &StudyRecord, in_force: Hash) -> Result<Self, Failure> {
        let mut history = Self::default();
        let home = Home::new(&session.home);
        if record.complete {
            let agreement = cohortium_policy::open_agreement(&record.agreement).map_err(Failure::not_verified)?;
            for envelope in &record.revocations {
                let opened = cohortium_policy::open_entry(envelope, &agreement).map_err(Failure::not_verified)?;
                history.revocation(&agreement, opened.entry())?;
            }
        }
        if session.connection.kind == PrincipalKind::Organisation && home.has_run() {
            for (agreement, envelope) in View::open(&home)?.versions()? {
                if agreement.study == record.study {
                    history.revision(&agreement, peek(&envelope)?.1, in_force);
                }
            }
        }
        for envelope in &record.amendments {
            let (agreement, hash) = peek(envelope)?;
            let is_missing = |party: &&Party| !envelope.is_signed_by(&party.entry.agreement_key);
            let missing: Vec<Name> =
                agreement.parties.iter().filter(is_missing).map(|party| party.entry.organisation.clone()).collect();
            history.lines.push(format!(
                "Proposed: revision {} ({}), still to be signed by {}.",
                agreement.revision,
                hash.short(),
                join(&missing)
            ));
            history
                .amendments
                .push(serde_json::json!({"hash": hash, "missing": missing, "revision": agreement.revision}));
        }
        Ok(history)
    }

    fn revision(&mut self, agreement: &Agreement, hash: Hash, in_force: Hash) {
        let stands = match (hash == in_force, &self.taken_back) {
            (true, None) => "in force",
            (true, Some(_)) => "taken back, nothing runs under it",
            (false, _) => "no longer in force",
        };
        let revision = agreement.revision;
        self.lines.push(format!("Revision {revision} ({}): {stands}.", hash.short()));
        self.revisions.push(serde_json::json!({"hash": hash, "in_force": hash == in_force, "revision": revision}));
    }

    fn revocation(&mut self, agreement: &Agreement, entry: &Entry) -> Result<(), Failure> {
        let (Fact::Revocation { subject, why }, Author::Custodian(custodian)) = (&entry.fact, &entry.author) else {
            return Ok(());
        };
        let what = match subject {
            RevocationSubject::Agreement => String::from("the whole agreement"),
            RevocationSubject::Key(key) => format!("the key of {}", whose(agreement, key)),
        };
        let line = format!("TAKEN BACK by {custodian} on {}: {what}. Why: {}", entry.time, plain(why));
        if *subject == RevocationSubject::Agreement {
            self.taken_back.get_or_insert_with(|| line.clone());
        }
        self.lines.push(line);
        self.revocations.push(serde_json::json!({"at": entry.time, "by": custodian, "what": what, "why": why}));
        Ok(())
    }

    /// What must be read before everything else.
    fn headline(&self) -> String {
        let after = "Nothing runs under it any more; only a new agreement changes that.";
        self.taken_back.as_ref().map_or_else(String::new, |line| format!("{line}\n{after} It said:\n\n"))
    }

    fn in_words(&self) -> String {
        self.lines.join("\n")
    }
}

/// Whose key it is in an agreement.
fn whose(agreement: &Agreement, key: &PublicKey) -> String {
    let researcher = agreement.researchers.iter().find(|terms| terms.entry.key == *key);
    let people = agreement.parties.iter().flat_map(|party| party.people.iter().map(move |person| (party, person)));
    match (researcher, people.into_iter().find(|(_, person)| person.key == *key)) {
        (Some(terms), _) => format!("the researcher {}", terms.entry.researcher),
        (None, Some((party, person))) => format!("{} ({} of {})", person.person, person.role, party.entry.organisation),
        (None, None) => format!("nobody in this agreement ({})", key.key_id()),
    }
}
