//! The honest hub in the box: it stores what it took, and can be made again from that.

use cohortium_dp::NoisePlan;
use cohortium_messages::{Name, RoundContext};
use cohortium_mpc::{Disagreement, MpcError, SumHub};

use crate::node::{Kind, read_vector_packet, refused};
use crate::party::name;
use crate::path::{Opened, Path};

/// A hub in one round.
pub struct Hub<P: Path> {
    context: RoundContext,
    noise: NoisePlan,
    live: P::Hub,
    /// Every packet that was taken, with its sender.
    stored: Vec<(usize, Kind, Vec<u8>)>,
    /// The survivors, and how many packets were stored when they were fixed.
    fixed: Option<(Vec<Name>, usize)>,
    /// Who disagreed, if anybody did.
    pub void: Option<Disagreement>,
}

/// Packets for members.
pub type Mail = Vec<(usize, Kind, Vec<u8>)>;

impl<P: Path> Hub<P> {
    pub fn new(context: &RoundContext, noise: &NoisePlan) -> Self {
        let live = P::hub(context, noise);
        let (context, noise) = (context.clone(), noise.clone());
        Self { context, noise, live, stored: Vec::new(), fixed: None, void: None }
    }

    /// Takes a packet; stores it when it is good and new. What goes out follows from [`Self::resend`].
    pub fn handle(&mut self, from: usize, kind: Kind, bytes: &[u8]) -> Result<(), String> {
        self.live.hear(P::to_hub(kind, bytes, from)?).map_err(refused)?;
        let packet = (from, kind, bytes.to_vec());
        if !self.stored.contains(&packet) {
            self.stored.push(packet);
        }
        self.void = P::disagreement(&self.live);
        Ok(())
    }

    /// Forgets everything but what is stored.
    pub fn restart(&mut self) {
        let mut live = P::hub(&self.context, &self.noise);
        let feed = |live: &mut P::Hub, stored: &[(usize, Kind, Vec<u8>)]| {
            for (from, kind, bytes) in stored {
                live.hear(P::to_hub(*kind, bytes, *from).unwrap()).unwrap();
            }
        };
        let fixed_at = self.fixed.as_ref().map_or(self.stored.len(), |(_, at)| *at);
        feed(&mut live, &self.stored[..fixed_at]);
        if let Some((survivors, _)) = &self.fixed {
            live.restore_survivors(survivors.clone()).unwrap();
        }
        feed(&mut live, &self.stored[fixed_at..]);
        self.live = live;
    }

    /// Waits no longer for whom the next step can do without.
    pub fn deadline(&mut self) {
        if self.void.is_none() && self.fixed.is_none() {
            self.fixed = self.live.fix_survivors().ok().map(|survivors| (survivors, self.stored.len()));
        }
    }

    /// What every member should have by now.
    pub fn resend(&self) -> Mail {
        let told = |to: usize| {
            let (kind, bytes) = P::mail(self.live.says(&name(to))?, &self.stored);
            Some((to, kind, bytes))
        };
        (0..self.context.participants.len()).filter_map(told).collect()
    }

    pub fn total(&self) -> Result<Opened, MpcError> {
        self.live.total().map(P::opened)
    }

    /// Who is in the proposed sum.
    pub fn survivors(&self) -> Vec<usize> {
        self.proposal().into_iter().flatten().map(|name| self.context.index_of(name).unwrap()).collect()
    }

    pub fn proposal(&self) -> Option<&[Name]> {
        self.fixed.as_ref().map(|(survivors, _)| survivors.as_slice())
    }

    /// The vector that was taken.
    pub fn vector_of(&self, index: usize) -> Option<Vec<u8>> {
        let (from, _, bytes) = self.stored.iter().find(|(from, kind, _)| (*from, *kind) == (index, Kind::Masked))?;
        read_vector_packet(bytes, *from).ok().map(|(_, vector)| vector)
    }

    pub fn is_dealt(&self) -> bool {
        P::is_dealt(&self.live)
    }

    /// Whether nothing more can come of waiting.
    pub fn is_complete(&self) -> bool {
        self.fixed.is_some() && self.live.awaited().is_empty()
    }

    pub fn has_revealed(&self, index: usize) -> bool {
        P::has_revealed(&self.live, &name(index))
    }
}
