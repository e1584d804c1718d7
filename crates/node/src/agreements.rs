//! What a node does when all custodians have signed, and how it agrees on pairwise secrets with its peers.
//!
//! The hub only carries the envelope. The node accepts it because its *own* custodian's signature is on it, under the
//! key in its own house; that signature covers the roster, so from then on peers are known by what was signed.

use cohortium_messages::{Agreement, Envelope, Name, PairwiseCiphertext, Party, Timestamp, Verified};
use cohortium_mpc::Chain;
use cohortium_store::Batch;
use data_encoding::BASE64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::node::{Changes, Node, NodeError, json, own, parse, peer};
use crate::outgoing::Outgoing;
use crate::records::{AGREEMENTS, CHAINS, META, RUNS, RunRecord, RunState, VERSIONS};

impl Node {
    /// Takes an agreement into force: checks every signature, encapsulates to the peers that sort after this node.
    ///
    /// An amendment takes the place of the agreement that it names. Runs end under the one they began under: what was masked
    /// goes on; what was not read is not read any more, and its price is given back when the hub ends the round.
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
            Some(held) => demand_follows(&agreement, held)?,
            None => self.demand_not_left(&agreement)?,
        }
        // Whatever is evaluated at every task must not fail for the first time then.
        cohortium_policy::compile(&agreement).map_err(peer)?;
        let mut changes = Changes::default();
        changes.batch.put(AGREEMENTS, agreement.study.as_str(), json(envelope)?);
        changes.batch.put(VERSIONS, &agreement.hash().to_string(), json(envelope)?);
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
        self.open_accounts()
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
    /// amends, all its custodians signed, and each of them is one whom this organisation's own custodian knew, with the
    /// same key. No hub can make it, and it can take nothing but the study away.
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
        if agreement.parties.iter().all(is_known) && agreement.hub == self.hub {
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
