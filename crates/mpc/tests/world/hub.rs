//! The honest hub in the box: it stores what it took, and can be made again from that.

use cohortium_dp::NoisePlan;
use cohortium_messages::{Name, Reveal, RoundContext, RoundShares, SurvivorSet};
use cohortium_mpc::{Coordinator, Disagreement, MpcError, Total};

use crate::node::{Kind, Signatures, read_vector_packet, refused};
use crate::party::{name, open};

/// A hub in one round.
pub struct Hub {
    context: RoundContext,
    noise: NoisePlan,
    coordinator: Coordinator,
    /// Every packet that was taken, with its sender.
    stored: Vec<(usize, Kind, Vec<u8>)>,
    proposal: Option<Vec<Name>>,
    /// The signatures as they went out.
    signatures: Option<Vec<u8>>,
    /// Who disagreed, if anybody did.
    pub void: Option<Disagreement>,
}

/// Packets for members.
pub type Mail = Vec<(usize, Kind, Vec<u8>)>;

impl Hub {
    pub fn new(context: &RoundContext, noise: &NoisePlan) -> Self {
        let coordinator = Coordinator::new(context.clone(), noise.clone()).unwrap();
        let (context, noise) = (context.clone(), noise.clone());
        Self { context, noise, coordinator, stored: Vec::new(), proposal: None, signatures: None, void: None }
    }

    /// Takes a packet; stores it when it is good and new. What goes out follows from [`Self::resend`].
    pub fn handle(&mut self, from: usize, kind: Kind, bytes: &[u8]) -> Result<(), String> {
        take(&mut self.coordinator, from, kind, bytes)?;
        let packet = (from, kind, bytes.to_vec());
        if !self.stored.contains(&packet) {
            self.stored.push(packet);
        }
        if kind == Kind::Dealt {
            self.void = self.coordinator.disagreements().pop();
        }
        Ok(())
    }

    /// Forgets everything but what is stored.
    pub fn restart(&mut self) {
        let mut coordinator = Coordinator::new(self.context.clone(), self.noise.clone()).unwrap();
        let mut feed = |kinds: &[Kind]| {
            for (from, kind, bytes) in self.stored.iter().filter(|(_, kind, _)| kinds.contains(kind)) {
                take(&mut coordinator, *from, *kind, bytes).unwrap();
            }
        };
        feed(&[Kind::Dealt]);
        feed(&[Kind::Masked]);
        if let Some(proposal) = &self.proposal {
            coordinator.restore_proposal(proposal.clone()).unwrap();
        }
        let mut feed = |kind: Kind| {
            for (from, kind, bytes) in self.stored.iter().filter(|(_, stored, _)| *stored == kind) {
                take(&mut coordinator, *from, *kind, bytes).unwrap();
            }
        };
        feed(Kind::Signed);
        feed(Kind::Revealed);
        self.coordinator = coordinator;
    }

    /// Waits no longer for whom the next step can do without.
    pub fn deadline(&mut self) {
        if self.void.is_some() {
            return;
        }
        if self.proposal.is_none() {
            self.proposal = self.coordinator.propose_survivors().ok();
        } else if self.coordinator.agreed().is_some() && self.signatures.is_none() {
            let sets = self.stored.iter().filter(|(_, kind, _)| *kind == Kind::Signed);
            let sets: Signatures =
                sets.map(|(from, _, bytes)| (*from, String::from_utf8(bytes.clone()).unwrap())).collect();
            self.signatures = Some(serde_json::to_vec(&sets).unwrap());
        }
    }

    /// What every member should have by now.
    pub fn resend(&self) -> Mail {
        if let Some(proposal) = &self.proposal {
            // Who has not signed is asked again, also when t others have: it may be needed to reveal.
            let has_signed = |index: &usize| self.coordinator.signatures().contains_key(&name(*index));
            let proposal = serde_json::to_vec(proposal).unwrap();
            let unsigned = self.survivors().into_iter().filter(|index| !has_signed(index));
            let asked = unsigned.map(|to| (to, Kind::Survivors, proposal.clone()));
            let signed = self.survivors().into_iter().filter(has_signed);
            let signed = signed.filter_map(|to| Some((to, Kind::Signatures, self.signatures.clone()?)));
            return asked.chain(signed).collect();
        }
        let shares =
            |to: usize| Some((to, Kind::Shares, serde_json::to_vec(&self.coordinator.shares_for(&name(to))?).unwrap()));
        (0..self.context.participants.len()).filter_map(shares).collect()
    }

    pub fn total(&self) -> Result<Total, MpcError> {
        self.coordinator.total()
    }

    /// Who is in the proposed sum.
    pub fn survivors(&self) -> Vec<usize> {
        self.proposal.iter().flatten().map(|name| self.context.index_of(name).unwrap()).collect()
    }

    pub fn proposal(&self) -> Option<&[Name]> {
        self.proposal.as_deref()
    }

    /// The vector that was taken.
    pub fn vector_of(&self, index: usize) -> Option<Vec<u8>> {
        let (from, _, bytes) = self.stored.iter().find(|(from, kind, _)| (*from, *kind) == (index, Kind::Masked))?;
        read_vector_packet(bytes, *from).ok().map(|(_, vector)| vector)
    }

    pub fn has_all_shares(&self) -> bool {
        self.coordinator.shares_missing().is_empty()
    }

    /// Whether nothing more can come of waiting.
    pub fn is_complete(&self) -> bool {
        !self.coordinator.revealed_from().is_empty()
            && self.coordinator.revealed_from().len() == self.coordinator.signatures().len()
    }

    pub fn has_revealed(&self, index: usize) -> bool {
        self.coordinator.revealed_from().contains(&name(index))
    }
}

fn take(coordinator: &mut Coordinator, from: usize, kind: Kind, bytes: &[u8]) -> Result<(), String> {
    match kind {
        Kind::Dealt => coordinator.accept_shares(open::<RoundShares>(bytes, from)?).map_err(refused),
        Kind::Masked => {
            let (header, vector) = read_vector_packet(bytes, from)?;
            coordinator.accept_masked(&header, vector).map_err(refused)
        }
        Kind::Signed => coordinator.accept_survivor_set(open::<SurvivorSet>(bytes, from)?).map_err(refused),
        Kind::Revealed => coordinator.accept_reveal(open::<Reveal>(bytes, from)?).map_err(refused),
        Kind::Shares | Kind::Survivors | Kind::Signatures => Err(String::from("not for the hub")),
    }
}
