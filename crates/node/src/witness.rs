//! The node as a witness of others' logs: it cosigns only heads that extend everything of that log it cosigned before.
//!
//! It witnesses the hub's log, and the own logs of the other members of its studies, whose heads the hub relays. In turn it
//! shows the head of its own log to the other members, and keeps their cosignatures beside it. So nobody can rewrite what
//! it logged without another member noticing: the hub not its log, and a node not what it permitted and spent.
//!
//! **The hub's log.** A hub that shows two histories cannot get both cosigned here. When it tries, the node stops
//! believing it: everything halts here, with both heads kept as evidence, and every study here is marked as stopped.
//!
//! **A member's log.** A head that does not extend what was cosigned stops the studies with that member here, with an
//! alert and the evidence. Two signed heads of one size prove that the member rewrote its log, and are never forgiven;
//! anything less may also be a hub that relays the wrong proof, which the alert says. A privacy officer ends the stop; what
//! is shown after that and contradicts too stops the studies again.
//!
//! Does not: judge what the entries say (the audit does).

use cohortium_ledger::{KeyKind, Note, NoteSignature, VerifierKey, Witness, WitnessError};
use cohortium_messages::{Agreement, Hash, Name, RosterEntry, Timestamp, Verified};
use serde::{Deserialize, Serialize};

use crate::alerts::Alert;
use crate::node::{Changes, HALTED, Node, NodeError, json, own, peer};
use crate::outgoing::Outgoing;
use crate::records::{EVIDENCE, Evidence, META, WITNESS};

const HUB: &str = "hub";
/// How often something is answered about heads of one log within so many seconds, and never twice in a row about one size.
/// An honest hub asks when a log has grown, so what is not answered now is asked for again.
const MAX_ANSWERS: u32 = 8;
const ANSWERS_S: i64 = 60;
/// The size of the own log's head that was shown last.
const OWN_HEAD_SHOWN: &str = "own_head_shown";

impl Node {
    /// Checks consistency and cosigns. The new head is durable in the same commit that puts the cosignature into the
    /// journal, so it is remembered before the cosignature leaves; a crash in between leaves neither.
    pub(crate) fn on_checkpoint(
        &mut self,
        old_size: u64,
        consistency: &[Hash],
        note: &str,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let (origin, log) = (self.hub.hub.clone(), self.hub_log_key()?);
        match self.cosign(&origin, HUB, log, old_size, consistency, note, now)? {
            Ok(()) => Ok(()),
            Err(wrong) => {
                self.halt(&wrong, note, now)?;
                Err(peer(wrong.error))
            }
        }
    }

    /// The log of a member has grown: checks consistency and cosigns, or keeps what contradicts and stops the studies with
    /// that member.
    pub(crate) fn on_peer_checkpoint(
        &mut self,
        old_size: u64,
        consistency: &[Hash],
        note: &str,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let origin = Name::new(note.lines().next().unwrap_or_default()).map_err(peer)?;
        let entry = self.member(&origin)?;
        let evidence: Option<Evidence> = self.record(EVIDENCE, origin.as_str())?;
        if evidence.as_ref().is_some_and(|evidence| evidence.proven) {
            return Err(peer(format!("{origin} has shown two histories of its log before: nothing of it is cosigned")));
        }
        let log = VerifierKey::new(origin.as_str(), KeyKind::Log, entry.log_key.as_bytes()).map_err(peer)?;
        let place = format!("log/{origin}/{}", Hash::of(entry.log_key.as_bytes()).short());
        match self.cosign(&origin, &place, log, old_size, consistency, note, now)? {
            Ok(()) => Ok(()),
            Err(wrong) => {
                self.accuse(&origin, &wrong, evidence, note, now)?;
                Err(peer(wrong.error))
            }
        }
    }

    /// Cosigns a head of a log, or says from which size it must be shown; or returns what contradicts.
    #[expect(clippy::too_many_arguments, reason = "which log, where its state is, and what C2SP tlog-witness asks for")]
    fn cosign(
        &mut self,
        origin: &Name,
        place: &str,
        log: VerifierKey,
        old_size: u64,
        consistency: &[Hash],
        note: &str,
        now: Timestamp,
    ) -> Result<Result<(), Wrong>, NodeError> {
        let before = self.store.get(WITNESS, place).map_err(own)?;
        let witness = match &before {
            Some(state) => Witness::from_state(log, state).map_err(own)?,
            None => Witness::new(log),
        };
        if witness.size() > 0 && is_same_head(&witness, note) {
            return Ok(Ok(())); // cosigned before: a crash came before the inbox cursor, or it was shown for another's sake
        }
        let proof: Vec<[u8; 32]> = consistency.iter().map(|hash| *hash.as_bytes()).collect();
        let pending = match witness.add_checkpoint(old_size, &proof, note.as_bytes()) {
            Ok(pending) => pending,
            Err(
                error @ (WitnessError::Fork { .. } | WitnessError::Inconsistent { .. } | WitnessError::Rollback { .. }),
            ) => {
                let known = witness.latest().map(ToString::to_string).unwrap_or_default();
                let proven = matches!(error, WitnessError::Fork { .. });
                return Ok(Err(Wrong { error: error.to_string(), known, proven }));
            }
            Err(WitnessError::Conflict { size }) => {
                self.answer_once(
                    &format!("stale/{origin}"),
                    size,
                    Outgoing::Stale { origin: origin.clone(), size },
                    now,
                )?;
                return Err(peer(format!(
                    "the log of {origin} is shown from {old_size} on, and was cosigned up to {size}"
                )));
            }
            Err(error) => return Err(peer(error)),
        };
        let (state, size) = (pending.state(), pending.checkpoint().checkpoint().size());
        let seconds = u64::try_from(now.seconds()).map_err(own)?;
        let (lines, _) = pending.sign_with(&self.cosigner, seconds).map_err(own)?;
        let lines = lines.iter().map(ToString::to_string).collect();
        let mut changes = Changes::default();
        // What was cosigned last is still that; and the lines leave from the journal, so after this commit.
        match before {
            Some(before) => drop(changes.batch.expect(WITNESS, place, before)),
            None => drop(changes.batch.expect_absent(WITNESS, place)),
        }
        changes.batch.put(WITNESS, place, state);
        changes.outgoing.push((Outgoing::Cosignature { lines, origin: origin.clone(), size }, None));
        self.commit(changes, now)?;
        Ok(Ok(()))
    }

    /// Stops believing the hub, and keeps the head that it showed beside the one that was witnessed: nothing of any
    /// round goes on until a person looked. Nothing is sent: there is nobody to send it through.
    fn halt(&mut self, wrong: &Wrong, shown: &str, now: Timestamp) -> Result<(), NodeError> {
        let mut changes = Changes::default();
        changes.batch.put(META, HALTED, wrong.error.as_bytes().to_vec());
        changes.batch.put(EVIDENCE, self.hub.hub.as_str(), json(&wrong.evidence(shown, now))?);
        for agreement in self.agreements_in_force()? {
            let alert = Alert { froze: true, leaves: false, rule: "log-of-hub", task: None, why: &wrong.error };
            self.raise(&mut changes, &agreement, &alert, now)?;
        }
        self.commit(changes, now)
    }

    /// Keeps what contradicts a member's log, and stops every study with that member that does not stand still already:
    /// what is shown again and again is logged again only when a person has ended the stop, or when it has become a proof.
    fn accuse(
        &mut self,
        member: &Name,
        wrong: &Wrong,
        before: Option<Evidence>,
        shown: &str,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let mut studies = self.agreements_in_force()?;
        studies.retain(|agreement| agreement.party(member).is_some());
        let mut changes = Changes::default();
        if let Some(before) = before {
            if !wrong.proven {
                let mut going = Vec::new();
                for agreement in studies {
                    if self.stopped(&agreement.study)?.is_none() {
                        going.push(agreement);
                    }
                }
                studies = going;
            }
            if studies.is_empty() {
                return Ok(());
            }
            // What was shown before stays beside it.
            let place = format!("{member}/{}", Hash::of(before.shown.as_bytes()).short());
            changes.batch.put(EVIDENCE, &place, json(&before)?);
        }
        changes.batch.put(EVIDENCE, member.as_str(), json(&wrong.evidence(shown, now))?);
        let who = if wrong.proven {
            "it signed both heads"
        } else {
            "either it rewrote its log, or the hub relays another proof"
        };
        let why = format!("the log of {member} does not extend what was cosigned here: {}; {who}", wrong.error);
        for agreement in &studies {
            let alert = Alert { froze: true, leaves: true, rule: "log-of-member", task: None, why: &why };
            self.raise(&mut changes, agreement, &alert, now)?;
        }
        self.commit(changes, now)
    }

    /// Shows the head of this node's own log to the other members, where it has grown since it was last shown.
    ///
    /// # Errors
    /// When the store or the log fails.
    pub fn show_own_log(&mut self, now: Timestamp) -> Result<(), NodeError> {
        let shown = self.number(OWN_HEAD_SHOWN)?;
        if shown >= self.log.size() || self.agreements_in_force()?.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::default();
        let head = self.own_head(shown)?;
        changes.outgoing.push((head, None));
        changes.batch.put(META, OWN_HEAD_SHOWN, self.log.size().to_string().into_bytes());
        self.commit(changes, now)
    }

    fn own_head(&self, old_size: u64) -> Result<Outgoing, NodeError> {
        let proof = self.log.consistency_proof(old_size, self.log.size()).map_err(own)?;
        let note = self.log.checkpoint().without_cosignatures().map_err(own)?.to_string();
        Ok(Outgoing::OwnHead { consistency: proof.into_iter().map(Hash::from_bytes).collect(), note, old_size })
    }

    /// Journals an answer about heads, unless there were enough of this kind a moment ago: whoever relays heads can ask for
    /// answers as often as it likes, and is not to fill the journal.
    fn answer_once(&mut self, place: &str, size: u64, answer: Outgoing, now: Timestamp) -> Result<(), NodeError> {
        let last: Option<Answered> = self.record(META, place)?;
        let answers = match last.filter(|last| now < last.since.plus_seconds(ANSWERS_S)) {
            Some(last) if last.size == size || last.count >= MAX_ANSWERS => return Ok(()),
            Some(last) => Answered { count: last.count.saturating_add(1), size, ..last },
            None => Answered { count: 1, since: now, size },
        };
        let mut changes = Changes::default();
        changes.outgoing.push((answer, None));
        changes.batch.put(META, place, json(&answers)?);
        self.commit(changes, now)
    }

    /// What a member made of this node's own head: keeps its cosignatures beside the head, or shows the head from the size
    /// that the member cosigned last.
    pub(crate) fn on_peer_cosigned(
        &mut self,
        from: &Name,
        lines: &[String],
        size: u64,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let theirs = witness_keys_of(&self.member(from)?)?;
        let ours = self.log.size();
        if size > ours {
            return Err(peer(format!(
                "{from} says that it cosigned {size} entries of our log, and here are {ours}: if this disk was restored from a \
                 copy, stop the node and ask for help"
            )));
        }
        if lines.is_empty() {
            if size == ours {
                return Ok(());
            }
            return self.answer_once(&format!("own_head_shown/{from}"), size, self.own_head(size)?, now);
        }
        if size < ours {
            return Ok(()); // the log has grown since, and its newer head is on its way to everyone
        }
        let keys = self.witness_keys()?;
        let mut head = self.log.checkpoint().clone();
        for line in lines {
            let line = NoteSignature::parse(line).map_err(peer)?;
            if !theirs.iter().any(|key| key.claims(&line)) {
                return Err(peer(format!("the cosignature on our log is not by {from}'s witness keys")));
            }
            head = head.with_cosignature(line, &keys).map_err(peer)?;
        }
        self.log.set_cosigned(head.to_string().as_bytes(), &keys).map(drop).map_err(own)
    }

    /// A member of a study in force, other than this organisation.
    fn member(&self, name: &Name) -> Result<RosterEntry, NodeError> {
        let agreements = self.agreements_in_force()?;
        let found =
            agreements.iter().find_map(|agreement| agreement.party(name)).filter(|_| *name != self.organisation);
        found.cloned().ok_or_else(|| peer(format!("{name} is no other member of a study here")))
    }

    /// The keys of everyone who cosigns this node's own log: the other members of its studies, each once.
    fn witness_keys(&self) -> Result<Vec<VerifierKey>, NodeError> {
        let mut keys: Vec<VerifierKey> = Vec::new();
        let agreements = self.agreements_in_force()?;
        let members = agreements.iter().flat_map(|agreement: &Verified<Agreement>| &agreement.parties);
        for party in members.filter(|party| party.entry.organisation != self.organisation) {
            if keys.iter().all(|known| known.name() != party.entry.organisation.as_str()) {
                keys.extend(witness_keys_of(&party.entry)?);
            }
        }
        Ok(keys)
    }
}

/// How often something was answered about heads of late, and about which size last.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    count: u32,
    since: Timestamp,
    size: u64,
}

/// What a log showed that contradicts what it showed before.
struct Wrong {
    error: String,
    known: String,
    /// Whether both heads carry the log's signature and cannot both be true.
    proven: bool,
}

impl Wrong {
    fn evidence(&self, shown: &str, at: Timestamp) -> Evidence {
        let (known, why) = (self.known.clone(), self.error.clone());
        Evidence { at, known, proven: self.proven, shown: shown.to_owned(), why }
    }
}

/// Both keys of a witness.
fn witness_keys_of(entry: &RosterEntry) -> Result<[VerifierKey; 2], NodeError> {
    let name = entry.organisation.as_str();
    let first = VerifierKey::new(name, KeyKind::Witness, entry.witness_key.as_bytes()).map_err(peer)?;
    let second = VerifierKey::new(name, KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes()).map_err(peer)?;
    Ok([first, second])
}

fn is_same_head(witness: &Witness, note: &str) -> bool {
    let shown = Note::parse(note.as_bytes());
    shown.is_ok_and(|shown| witness.latest().is_some_and(|latest| latest.note().text() == shown.text()))
}
