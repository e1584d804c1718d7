//! What a node does when all custodians have signed, and how it agrees on pairwise secrets with its peers.
//!
//! The hub only carries the envelope. The node accepts it because its *own* custodian's signature is on it, under the
//! key in its own house; that signature covers the roster, so from then on peers are known by what was signed.
//!
//! **Amendments and what was taken back.** A custodian may sign an amendment, take something back, and find the amendment
//! complete afterwards, because the others signed late. Its signature has no date, so nobody can show that it was meant
//! to undo what was taken back. A node therefore lets no amendment in of an agreement that its own custodian took back, or
//! with a key that it took back, unless that custodian said so at the desk: with its dated `agreement` entry for that very
//! amendment, later than what it took back. What was not let in is kept, and taken in when the custodian has spoken.

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Name, PairwiseCiphertext, Party, PublicKey, RevocationSubject, Timestamp,
    Verified,
};
use cohortium_mpc::Chain;
use cohortium_store::{Batch, sequence_key};
use data_encoding::BASE64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::node::{Changes, Node, NodeError, json, own, parse, peer};
use crate::outgoing::Outgoing;
use crate::records::{
    AGREEMENTS, CHAINS, CONSENTS, HEARD, KEPT, META, REVOCATIONS, RUNS, RunRecord, RunState, VERSIONS,
};

impl Node {
    /// Takes an agreement into force: checks every signature, encapsulates to the peers that sort after this node.
    ///
    /// An amendment takes the place of the agreement that it names, unless it would undo what this house's custodian took
    /// back. Runs end under the one they began under: what was masked goes on; what was not read is not read any more, and
    /// its price is given back when the hub ends the round.
    pub(crate) fn on_agreement(
        &mut self,
        envelope: &Envelope,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), NodeError> {
        let held = self.agreement(&envelope.peek::<Agreement>().map_err(peer)?.claims().study)?;
        if let Some(held) = &held
            && self.leaves_us_out(envelope, held)?
        {
            return self.leave(held, envelope, now);
        }
        let agreement = self.verify_agreement(envelope)?;
        match &held {
            Some(held) if held.hash() == agreement.hash() => return Ok(()),
            Some(held) => {
                let follows = demand_follows(&agreement, held);
                if let Err(why) = follows.and_then(|()| self.demand_undoes_nothing(&agreement, held)) {
                    self.keep(&agreement, held, envelope)?;
                    return Err(why);
                }
            }
            None => self.demand_not_left(&agreement)?,
        }
        // Whatever is evaluated at every task must not fail for the first time then.
        cohortium_policy::compile(&agreement).map_err(peer)?;
        let mut changes = Changes::default();
        changes.batch.put(AGREEMENTS, agreement.study.as_str(), json(envelope)?);
        changes.batch.put(VERSIONS, &agreement.hash().to_string(), json(envelope)?);
        changes
            .batch
            .delete(KEPT, &format!("{}{}", kept_under(&agreement.study, agreement.revision), agreement.hash()));
        if held.is_some() {
            self.end_waiting(&mut changes, &agreement.study, "the agreement was amended")?;
        }
        for name in agreement.participants().into_iter().filter(|name| *name > self.organisation) {
            let Some(entry) = agreement.party(&name) else { continue };
            let (message, chain) = cohortium_mpc::encapsulate(
                &agreement.hash(),
                &self.organisation,
                &self.secrets.kem,
                &name,
                &entry.kem_key,
                rng,
            )
            .map_err(peer)?;
            let signed = Envelope::sign(&message, &self.secrets.message).map_err(own)?;
            changes.outgoing.push((Outgoing::Pairwise(signed), None));
            put_chain(&mut changes.batch, &agreement, &name, &chain);
        }
        self.commit(changes, now)?;
        self.open_accounts()?;
        self.take_kept(&agreement.study, now, rng)
    }

    /// The house's custodian says that an amendment shall come into force, whatever it took back before. It needs no
    /// agreement to be at hand: only the house's own key.
    ///
    /// Promise: given any envelope, remembers a consent only if the key that signs agreements in this house signed it.
    pub(crate) fn hear_consent(
        &mut self,
        envelope: &Envelope,
        key: &str,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<String, NodeError> {
        let entry = envelope.open::<Entry>(&self.secrets.agreement.public()).map_err(peer)?;
        if entry.author != Author::Custodian(self.organisation.clone()) {
            return Err(peer(format!("only the custodian of {} consents here", self.organisation)));
        }
        self.demand_not_ahead(&entry, now)?;
        let mut batch = Batch::new();
        batch.put(HEARD, key, json(&now)?);
        batch.put(CONSENTS, &entry.agreement.to_string(), json(envelope)?);
        self.store.commit(batch).map_err(own)?;
        self.take_kept(&entry.study, now, rng)?;
        let in_force = self.agreement(&entry.study)?.is_some_and(|held| held.hash() == entry.agreement);
        let when = if in_force { "is in force here" } else { "may come into force here" };
        Ok(format!("revision {} of study {} {when}", revision_of(&entry.fact), entry.study))
    }

    /// Keeps what is not let in now and may be later: all its custodians signed it, this house's own among them.
    fn keep(
        &mut self,
        agreement: &Verified<Agreement>,
        held: &Verified<Agreement>,
        envelope: &Envelope,
    ) -> Result<(), NodeError> {
        if agreement.revision <= held.revision {
            return Ok(());
        }
        let mut batch = Batch::new();
        let key = format!("{}{}", kept_under(&agreement.study, agreement.revision), agreement.hash());
        batch.put(KEPT, &key, json(envelope)?);
        self.store.commit(batch).map_err(own)
    }

    /// Takes in the next revision, if it was kept and nothing stands against it any more; and so on with what follows it.
    fn take_kept(&mut self, study: &Name, now: Timestamp, rng: &mut dyn CryptoRng) -> Result<(), NodeError> {
        let Some(held) = self.agreement(study)? else { return Ok(()) };
        let under = kept_under(study, held.revision.saturating_add(1));
        for (_, bytes) in self.store.scan(KEPT, &under, None, usize::MAX).map_err(own)? {
            match self.on_agreement(&parse(&bytes)?, now, rng) {
                Err(NodeError::Peer(_)) => {} // it stays where it is
                done => return done,
            }
        }
        Ok(())
    }

    /// Demands that an amendment undoes nothing that this house's own custodian took back, or that this custodian said
    /// afterwards, at the desk, that it shall come into force.
    fn demand_undoes_nothing(
        &self,
        amendment: &Verified<Agreement>,
        held: &Verified<Agreement>,
    ) -> Result<(), NodeError> {
        let ours = Author::Custodian(self.organisation.clone());
        let mut last = None;
        for (_, bytes) in self.store.scan(REVOCATIONS, "", None, usize::MAX).map_err(own)? {
            let envelope = parse::<Envelope>(&bytes)?;
            let claims = envelope.peek::<Entry>().map_err(own)?;
            let entry = claims.claims();
            let is_undone = match &entry.fact {
                Fact::Revocation { subject: RevocationSubject::Agreement, .. } => entry.agreement == held.hash(),
                Fact::Revocation { subject: RevocationSubject::Key(key), .. } => names(amendment, key),
                _ => false,
            };
            if is_undone && entry.author == ours && entry.study == held.study {
                last = last.max(Some(entry.time));
            }
        }
        let Some(taken_back) = last else { return Ok(()) };
        let consent = self.record::<Envelope>(CONSENTS, &amendment.hash().to_string())?;
        let consent = consent.map(|entry| entry.peek::<Entry>().map(|entry| entry.claims().time)).transpose();
        if consent.map_err(own)?.is_some_and(|consent| consent > taken_back) {
            return Ok(());
        }
        Err(peer(format!(
            "revision {} of study {} would undo what {} took back on {taken_back}: it comes into force here when the custodian \
             signs it again (`study sign`)",
            amendment.revision, amendment.study, self.organisation
        )))
    }

    /// Takes in a peer's half of a pairwise secret. The first one counts: a second would let a peer desynchronise us.
    pub(crate) fn on_pairwise(&mut self, message: &Envelope) -> Result<(), NodeError> {
        let claims = message.peek::<PairwiseCiphertext>().map_err(peer)?;
        let claims = claims.claims();
        let agreement = self.agreement_by_hash(claims.agreement)?;
        let entry = agreement.party(&claims.from).ok_or_else(|| peer("the sender is not a party of the agreement"))?;
        let verified = message.open::<PairwiseCiphertext>(&entry.message_key).map_err(peer)?;
        if self.store.get(CHAINS, &chain_key(&agreement, &verified.from)).map_err(own)?.is_some() {
            return Ok(());
        }
        let chain = cohortium_mpc::accept(
            &agreement.hash(),
            &self.organisation,
            &self.secrets.kem,
            &entry.organisation,
            &entry.kem_key,
            &verified,
        )
        .map_err(peer)?;
        let mut batch = Batch::new();
        put_chain(&mut batch, &agreement, &verified.from, &chain);
        self.store.commit(batch).map_err(own)
    }

    /// Promise: given an envelope from anywhere, returns an agreement only if every custodian it names has signed it,
    /// this organisation among them with the keys in this house, and it names the hub that this node joined; never one
    /// that the hub or a peer could have made alone. Argued: Ed25519 under keys that the own custodian's signature covers.
    pub(crate) fn verify_agreement(&self, envelope: &Envelope) -> Result<Verified<Agreement>, NodeError> {
        let agreement = cohortium_policy::open_agreement(envelope).map_err(peer)?;
        let ours = self.secrets.entry(&self.organisation);
        if agreement.party(&self.organisation) != Some(&ours) {
            return Err(peer(format!("the agreement {} does not carry this organisation's keys", agreement.study)));
        }
        if agreement.hub != self.hub {
            return Err(peer(format!("the agreement {} names another hub", agreement.study)));
        }
        Ok(agreement)
    }

    /// Whether this is the amendment by which this organisation leaves: it names the agreement held here as the one that it
    /// amends, all its custodians signed, and more of them than may collude are known to this organisation's own custodian,
    /// with the same key. So an honest one is among them, whoever else joins; and it can take nothing but the study away.
    fn leaves_us_out(&self, envelope: &Envelope, held: &Verified<Agreement>) -> Result<bool, NodeError> {
        let claims = envelope.peek::<Agreement>().map_err(peer)?;
        if claims.claims().party(&self.organisation).is_some() {
            return Ok(false);
        }
        let agreement = cohortium_policy::open_agreement(envelope).map_err(peer)?;
        demand_follows(&agreement, held)?;
        let is_known = |party: &Party| {
            held.party(&party.entry.organisation).is_some_and(|known| known.agreement_key == party.entry.agreement_key)
        };
        let known = agreement.parties.iter().filter(|party| is_known(party)).count();
        if known > held.secure_sum.colluders as usize && agreement.hub == self.hub {
            Ok(true)
        } else {
            Err(peer(format!("an amendment of study {} leaves us out, and strangers signed it", agreement.study)))
        }
    }

    /// This organisation is no party any more: the study ends here. What was permitted or read ends as the hub says.
    fn leave(&mut self, held: &Verified<Agreement>, by: &Envelope, now: Timestamp) -> Result<(), NodeError> {
        let mut changes = Changes::default();
        let revision = by.peek::<Agreement>().map_err(peer)?.claims().revision;
        changes.batch.put(META, &left_key(&held.study), revision.to_string().into_bytes());
        changes.batch.delete(AGREEMENTS, held.study.as_str());
        self.end_waiting(&mut changes, &held.study, "an amendment of the agreement left this organisation out")?;
        self.commit(changes, now)?;
        self.open_accounts()
    }

    /// A study that this organisation left it joins again by a later revision only, not by one that was in force before.
    fn demand_not_left(&self, agreement: &Verified<Agreement>) -> Result<(), NodeError> {
        let left = self.number(&left_key(&agreement.study))?;
        if u64::from(agreement.revision) > left {
            return Ok(());
        }
        Err(peer(format!(
            "this organisation left study {} with revision {left}, and this is revision {}",
            agreement.study, agreement.revision
        )))
    }

    /// Ends the runs of a study that wait for people: nothing was reserved for them, and nothing promised.
    fn end_waiting(&self, changes: &mut Changes, study: &Name, why: &str) -> Result<(), NodeError> {
        for (task, bytes) in self.store.scan(RUNS, "", None, usize::MAX).map_err(own)? {
            let mut run: RunRecord = parse(&bytes)?;
            if run.study == *study && run.state == RunState::Waiting {
                (run.state, run.why, run.shares) = (RunState::Void, why.to_owned(), None);
                self.forget_secrets(&mut changes.batch, &mut run);
                changes.batch.put(RUNS, &task, json(&run)?);
            }
        }
        Ok(())
    }

    /// The chains with all peers of a study, or who is still missing.
    pub(crate) fn chains(
        &self,
        agreement: &Verified<Agreement>,
    ) -> Result<std::collections::BTreeMap<Name, Chain>, NodeError> {
        let peers = agreement.participants().into_iter().filter(|name| *name != self.organisation);
        peers
            .map(|name| {
                let stored = self.store.get(CHAINS, &chain_key(agreement, &name)).map_err(own)?;
                let text = stored.ok_or_else(|| {
                    peer(format!("no pairwise secret with {name} yet: its node must come online once"))
                })?;
                let bytes = Zeroizing::new(BASE64.decode(&text).map_err(own)?);
                Ok((name, Chain::from_secret_bytes(&bytes).map_err(own)?))
            })
            .collect()
    }
}

/// Whether an agreement gives a key to a researcher or to somebody who acts for a party.
fn names(agreement: &Agreement, key: &PublicKey) -> bool {
    let people = agreement.parties.iter().flat_map(|party| &party.people).map(|person| &person.key);
    agreement.researchers.iter().map(|terms| &terms.entry.key).chain(people).any(|known| known == key)
}

/// Where amendments are kept that were not let in: what their keys begin with, before the hash.
fn kept_under(study: &Name, revision: u32) -> String {
    format!("{study}/{}/", sequence_key(u64::from(revision)))
}

const fn revision_of(fact: &Fact) -> u32 {
    match fact {
        Fact::Agreement { revision, .. } => *revision,
        _ => 0,
    }
}

/// Where it is kept with which revision this organisation left a study.
fn left_key(study: &Name) -> String {
    format!("left/{study}")
}

/// An amendment is the next revision, and names what it amends.
fn demand_follows(agreement: &Verified<Agreement>, held: &Verified<Agreement>) -> Result<(), NodeError> {
    let next = held.revision.checked_add(1);
    if Some(agreement.revision) == next && agreement.previous == Some(held.hash()) {
        return Ok(());
    }
    Err(peer(format!(
        "study {} runs under revision {} ({}), and this is revision {}, which does not follow from it",
        agreement.study,
        held.revision,
        held.hash().short(),
        agreement.revision
    )))
}

pub(crate) fn put_chain(batch: &mut Batch, agreement: &Verified<Agreement>, peer: &Name, chain: &Chain) {
    batch.put(CHAINS, &chain_key(agreement, peer), BASE64.encode(&chain.to_secret_bytes()).into_bytes());
}

fn chain_key(agreement: &Verified<Agreement>, peer: &Name) -> String {
    format!("{}/{peer}", agreement.hash())
}
