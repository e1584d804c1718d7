//! `cohortium researcher`: a researcher's keys.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_api::{Caller, Connection};
use cohortium_messages::{Call, Envelope, Hash, Invitation, Principal, PrincipalKind, ResearcherSecrets};
use cohortium_node::service::{nonce, now, system_rng};

use crate::hub::read_invitation;
use crate::output::{Failure, Output};
use crate::session::{researcher_keys_file, researcher_secrets};

#[derive(Subcommand)]
pub enum Command {
    /// Make a researcher's key in --home and join the hub
    Init {
        /// The file from `hub invite NAME --researcher`
        #[arg(long)]
        invitation: PathBuf,
    },
}

pub async fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    let Command::Init { invitation } = command;
    let invitation = read_invitation(&invitation)?;
    if !invitation.researcher {
        return Err(Failure::usage(format!(
            "this invitation is for the organisation {}: use `node init`",
            invitation.invited
        )));
    }
    let fingerprint = join(home, &invitation).await?;
    let value =
        serde_json::json!({"fingerprint": fingerprint, "hub": invitation.url, "researcher": invitation.invited});
    output.result(&value, || {
        format!(
            "{} has joined {}.\nFingerprint: {fingerprint}\nTell it to the custodians over another channel, so that they can compare.",
            invitation.invited, invitation.url
        )
    })
}

/// Makes the key and joins; gives the fingerprint. A key that an earlier attempt with this invitation made is taken
/// again: the hub may have been out of reach, or its answer lost.
pub async fn join(home: &Path, invitation: &Invitation) -> Result<String, Failure> {
    let connection = Connection::from_invitation(invitation);
    let file = researcher_keys_file(home);
    let secrets = match file.exists() {
        true if Connection::load(home).is_ok_and(|known| known == connection) => researcher_secrets(home)?,
        true => return Err(Failure::usage(format!("{} exists; keys are never overwritten", file.display()))),
        false => make_secrets(home, &connection)?,
    };
    let entry = Envelope::sign(&secrets.entry(&invitation.invited), &secrets.key).map_err(Failure::own)?;
    let secret: Hash = invitation.secret.parse().map_err(Failure::usage)?;
    let principal = Principal { kind: PrincipalKind::Researcher, name: invitation.invited.clone() };
    let caller = Caller { key: &secrets.key, nonce: nonce(&mut system_rng()), now: now(), principal };
    connection.client()?.call(&caller, Call::Join { entry: entry.clone(), secret }).await?;
    let claims = entry.peek::<cohortium_messages::ResearcherEntry>().map_err(Failure::own)?;
    Ok(claims.hash().fingerprint())
}

fn make_secrets(home: &Path, connection: &Connection) -> Result<ResearcherSecrets, Failure> {
    std::fs::create_dir_all(home).map_err(Failure::own)?;
    let secrets = ResearcherSecrets::generate(&mut system_rng());
    connection.save(home).map_err(Failure::own)?;
    cohortium_store::write_private(&researcher_keys_file(home), secrets.to_secret_text().as_bytes())
        .map_err(Failure::own)?;
    Ok(secrets)
}
