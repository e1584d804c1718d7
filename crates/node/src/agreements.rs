//! What a node does when all custodians have signed, and how it agrees on pairwise secrets with its peers.
//!
//! The hub only carries the envelope. The node accepts it because its *own* custodian's signature is on it, under the
//! key in its own house; that signature covers the roster, so from then on peers are known by what was signed.
//!
//! **Amendments and what was taken back.** A custodian may sign an amendment, take something back, and find the amendment
//! complete afterwards, because the others signed late. Its signature has no date, so nobody can show that it was meant
//! to undo what was taken back. A node therefore lets no amendment in of an agreement that its own custodian took back, or
//! with a key that it took back, unless that custodian said so at the desk: with its dated `agreement` entry for that very
//! amendment, later than what it took back. What was not let in is kept, its people are told, and it is taken in when the
//! custodian has spoken. What stays kept stands in nobody's way: a later revision comes into force over it, if the
//! custodian signed that one after everything that it took back.

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Name, PairwiseCiphertext, Party, PublicKey, RevocationSubject, Timestamp,
    Verified,
};
use cohortium_mpc::Chain;
use cohortium_store::{Batch, sequence_key};
use data_encoding::BASE64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::alerts::Alert;
use crate::node::{Changes, Node, NodeError, json, own, parse, peer};
use crate::outgoing::Outgoing;
use crate::records::{
    AGREEMENTS, CHAINS, CONSENTS, HEARD, KEPT, META, REVOCATIONS, RUNS, RunRecord, RunState, VERSIONS,
};

/// Under which name people are told of an amendment that was kept.
const KEPT_RULE: &str = "amendment-kept";

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
            // A crash may have come before what follows it was taken in.
            Some(held) if held.hash() == agreement.hash() => return self.take_kept(&agreement.study, now, rng),
            Some(held) => {
                if let Err(why) = self.demand_may_replace(&agreement, held) {
                    if let NodeError::Peer(words) = &why {
                        self.keep(&agreement, held, (envelope, words), now)?;
                    }
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
        self.drop_kept(&mut changes.batch, &agreement.study, agreement.revision)?;
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
        batch.put(CONSENTS, &entry.agreement.to_string(), json(envelope)?);
        self.store.commit(batch).map_err(own)?;
        self.take_kept(&entry.study, now, rng)?;
        // Last, so that after a crash on the way it is heard again, and what was kept is taken in then.
        let mut batch = Batch::new();
        batch.put(HEARD, key, json(&now)?);
        self.store.commit(batch).map_err(own)?;
        let in_force = self.agreement(&entry.study)?.is_some_and(|held| held.hash() == entry.agreement);
        let when = if in_force { "is in force here" } else { "may come into force here" };
        Ok(format!("revision {} of study {} {when}", revision_of(&entry.fact), entry.study))
    }

    /// Keeps what is not let in now and may be later, and tells people why, once: all its custodians signed it, this
    /// house's own among them.
    fn keep(
        &mut self,
        agreement: &Verified<Agreement>,
        held: &Verified<Agreement>,
        (envelope, why): (&Envelope, &str),
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let key = format!("{}{}", kept_under(&agreement.study, agreement.revision), agreement.hash());
        if agreement.revision <= held.revision || self.store.get(KEPT, &key).map_err(own)?.is_some() {
            return Ok(());
        }
        let mut changes = Changes::default();
        changes.batch.put(KEPT, &key, json(envelope)?);
        let alert = Alert { froze: false, leaves: false, rule: KEPT_RULE, task: None, why };
        self.raise(&mut changes, held, &alert, now)?;
        self.commit(changes, now)
    }

    /// What was kept of a study up to this revision is over.
    fn drop_kept(&self, batch: &mut Batch, study: &Name, up_to: u32) -> Result<(), NodeError> {
        let end = kept_under(study, up_to.saturating_add(1));
        for (key, _) in self.store.scan(KEPT, &format!("{study}/"), None, usize::MAX).map_err(own)? {
            if key < end {
                batch.delete(KEPT, &key);
            }
        }
        Ok(())
    }

    /// Takes in the first of the revisions that were kept against which nothing stands any more; and so on with what
    /// follows it.
    fn take_kept(&mut self, study: &Name, now: Timestamp, rng: &mut dyn CryptoRng) -> Result<(), NodeError> {
        if self.agreement(study)?.is_none() {
            return Ok(());
        }
        for (_, bytes) in self.store.scan(KEPT, &format!("{study}/"), None, usize::MAX).map_err(own)? {
            match self.on_agreement(&parse(&bytes)?, now, rng) {
                Err(NodeError::Peer(_)) => {} // it stays where it is
                done => return done,
            }
        }
        Ok(())
    }

    /// Demands that an amendment follows from the agreement held here and undoes nothing that this house's own custodian
    /// took back; or that it is a later revision, and this custodian signed it at the desk after all that it took back.
    ///
    /// Promise: given an amendment that all its custodians signed, lets it over what this custodian took back, or over a
    /// revision that is not in force here, only with this custodian's own dated word for this very text.
    fn demand_may_replace(&self, amendment: &Verified<Agreement>, held: &Verified<Agreement>) -> Result<(), NodeError> {
        let follows = demand_follows(amendment, held);
        let any = follows.is_err();
        let taken_back = self.last_taken_back(held, |entry| match &entry.fact {
            Fact::Revocation { subject: RevocationSubject::Agreement, .. } => any || entry.agreement == held.hash(),
            Fact::Revocation { subject: RevocationSubject::Key(key), .. } => any || names(amendment, key),
            _ => false,
        })?;
        let consent = self.record::<Envelope>(CONSENTS, &amendment.hash().to_string())?;
        let consent = consent.map(|entry| entry.peek::<Entry>().map(|entry| entry.claims().time)).transpose();
        let consent = consent.map_err(own)?;
        // Nothing is earlier than any date.
        let is_meant = consent.is_some() && consent > taken_back;
        match (follows, taken_back) {
            (Err(_), _) if is_meant && amendment.revision > held.revision => Ok(()),
            (Err(why), _) => Err(why),
            (Ok(()), Some(taken_back)) if !is_meant => Err(peer(format!(
                "revision {} of study {} would undo what {} took back on {taken_back}: it comes into force here when the \
                 custodian signs it again (`study sign`)",
                amendment.revision, amendment.study, self.organisation
            ))),
            (Ok(()), _) => Ok(()),
        }
    }

    /// When this house's own custodian last took back something of a study that `counts`, if it did.
    fn last_taken_back(
        &self,
        held: &Verified<Agreement>,
        counts: impl Fn(&Entry) -> bool,
    ) -> Result<Option<Timestamp>, NodeError> {
        let ours = Author::Custodian(self.organisation.clone());
        let mut last = None;
        for (_, bytes) in self.store.scan(REVOCATIONS, "", None, usize::MAX).map_err(own)? {
            let envelope = parse::<Envelope>(&bytes)?;
            let claims = envelope.peek::<Entry>().map_err(own)?;
            let entry = claims.claims();
            if entry.author == ours && entry.study == held.study && counts(entry) {
                last = last.max(Some(entry.time));
            }
        }
        Ok(last)
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

    /// Whether this is an amendment by which this organisation leaves: a later revision than the one held here, which all its
    /// custodians signed, and more of them than may collude are known to this organisation's own custodian, with the same
    /// key. So an honest one is among them, whoever else joins; and it can take nothing but the study away. It need not
    /// follow directly: what lies between may have been kept, or have been shown to others only.
    fn leaves_us_out(&self, envelope: &Envelope, held: &Verified<Agreement>) -> Result<bool, NodeError> {
        let claims = envelope.peek::<Agreement>().map_err(peer)?;
        if claims.claims().party(&self.organisation).is_some() {
            return Ok(false);
        }
        let agreement = cohortium_policy::open_agreement(envelope).map_err(peer)?;
        if agreement.revision <= held.revision {
            demand_follows(&agreement, held)?;
        }
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
        self.drop_kept(&mut changes.batch, &held.study, revision)?;
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
