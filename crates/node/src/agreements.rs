//! What a node does when all custodians have signed, and how it agrees on pairwise secrets with its peers.
//!
//! The hub only carries the envelope. The node accepts it because its *own* custodian's signature is on it, under the
//! key in its own house; that signature covers the roster, so from then on peers are known by what was signed.

use cohortium_messages::{Agreement, Envelope, Name, PairwiseCiphertext, Timestamp, Verified};
use cohortium_mpc::Chain;
use cohortium_store::Batch;
use data_encoding::BASE64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::node::{Changes, Node, NodeError, json, own, peer};
use crate::outgoing::Outgoing;
use crate::records::{AGREEMENTS, CHAINS};

impl Node {
    /// Takes an agreement into force: checks every signature, encapsulates to the peers that sort after this node.
    pub(crate) fn on_agreement(
        &mut self,
        envelope: &Envelope,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), NodeError> {
        let agreement = self.verify_agreement(envelope)?;
        match self.agreement(&agreement.study)? {
            Some(held) if held.hash() == agreement.hash() => return Ok(()),
            Some(_) => {
                return Err(peer(format!(
                    "study {} runs under another agreement; this version takes no amendments",
                    agreement.study
                )));
            }
            None => {}
        }
        // Whatever is evaluated at every task must not fail for the first time then.
        cohortium_policy::compile(&agreement).map_err(peer)?;
        let mut changes = Changes::default();
        changes.batch.put(AGREEMENTS, agreement.study.as_str(), json(envelope)?);
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

    fn agreement_by_hash(&self, hash: cohortium_messages::Hash) -> Result<Verified<Agreement>, NodeError> {
        for (_, bytes) in self.store.scan(AGREEMENTS, "", None, 10_000).map_err(own)? {
            let agreement = self.verify_agreement(&crate::node::parse(&bytes)?)?;
            if agreement.hash() == hash {
                return Ok(agreement);
            }
        }
        Err(peer("the message belongs to an agreement that this node does not hold"))
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

pub(crate) fn put_chain(batch: &mut Batch, agreement: &Verified<Agreement>, peer: &Name, chain: &Chain) {
    batch.put(CHAINS, &chain_key(agreement, peer), BASE64.encode(&chain.to_secret_bytes()).into_bytes());
}

fn chain_key(agreement: &Verified<Agreement>, peer: &Name) -> String {
    format!("{}/{peer}", agreement.hash())
}
