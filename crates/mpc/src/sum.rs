//! What a node and a hub need of a secure sum, however its masks work.
//!
//! [`Member`] and [`Coordinator`] are one way to sum without showing. Another divides each vector between two aggregators
//! that do not collude (Corrigan-Gibbs, Boneh 2017, *Prio*, section 3; Prio3 and PINE are that with proofs about what
//! is in the shares). Both have in common what these two traits say: a member answers what it is told, and once is asked for
//! its noised vector; a hub takes messages, knows whom it waits for and what each member is to be told, fixes once who is
//! in the sum, and opens it. Tests play random schedules through the traits, with both ways.
//!
//! Left to each way: its messages, and how a round begins, because what an organisation brings along differs (chains of
//! pairwise secrets, or keys of aggregators). Left to the carrier: signing, opening, durability, the network, time.
//!
//! Does not: protect anything. Every promise is that of the type behind it.

use cohortium_dp::{NoiseSeeds, Noised};
use cohortium_messages::{Hash, MaskedHeader, Name, Reveal, RoundShares, SealedShare, SurvivorSet, Verified};
use zeroize::Zeroizing;

use crate::{Coordinator, Masked, Member, MpcError, Total};

/// One organisation's side of a round that has begun.
pub trait SumMember: Sized {
    /// What it sends, for the carrier to sign. State and message become durable together, before the message leaves.
    type Says;
    /// What it is told. Every signature in it was checked with the key of the member that it names.
    type Hears;

    /// Takes what the hub sends. The same again gives the same answer.
    ///
    /// # Errors
    /// Whoever the error names must act; the state is unchanged.
    fn hear(&mut self, told: Self::Hears) -> Result<Answer<Self::Says>, MpcError>;

    /// The seeds of its noise, for [`cohortium_dp::add_noise`].
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] once they are forgotten.
    fn noise_seeds(&self) -> Result<&NoiseSeeds, MpcError>;

    /// Its part of the sum, due after [`Answer::Contribute`]. One vector in a round; the same again gives the same message.
    ///
    /// Promise: given a noised vector, returns a message of which those whom the way of summing tolerates learn nothing
    /// but what the sum gives away. Argued where the way is described.
    ///
    /// # Errors
    /// Out of turn, for another length, a value that is too large, or a second vector.
    fn contribute(&mut self, noised: &Noised) -> Result<Self::Says, MpcError>;

    /// The whole state, secrets included, for the owner's store and for nothing else.
    ///
    /// # Errors
    /// Ours alone.
    fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, MpcError>;

    /// Reads what [`Self::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// [`MpcError::State`] when it did not.
    fn from_secret_bytes(bytes: &[u8]) -> Result<Self, MpcError>;
}

/// What a member answers.
pub enum Answer<S> {
    /// Its noised vector is due: [`SumMember::contribute`].
    Contribute,
    /// This is to be sent.
    Say(S),
}

/// The hub's side of a round.
pub trait SumHub {
    /// What members send, opened with the key of the member that it names.
    type Hears;
    /// What one member is told.
    type Says;
    /// The noised sum.
    type Total;

    /// Takes a member's message. The same again changes nothing, and neither does what is refused.
    ///
    /// # Errors
    /// Whoever the error names must act.
    fn hear(&mut self, said: Self::Hears) -> Result<(), MpcError>;

    /// Who has not yet sent what this step waits for. It may be possible to go on without them.
    fn awaited(&self) -> Vec<Name>;

    /// What this member is to be told now, if anything. Said again as long as it has not answered.
    fn says(&self, to: &Name) -> Option<Self::Says>;

    /// Fixes who is in the sum: all whose contribution is here. Asked again, the same. The caller makes it durable before
    /// anybody is told.
    ///
    /// # Errors
    /// [`MpcError::TooFew`]: wait, or give the round up as void.
    fn fix_survivors(&mut self) -> Result<Vec<Name>, MpcError>;

    /// Takes back what was fixed before a crash, once all messages from before that are here again.
    ///
    /// # Errors
    /// [`MpcError::Survivors`] when it cannot have been that.
    fn restore_survivors(&mut self, survivors: Vec<Name>) -> Result<(), MpcError>;

    /// The sum, as soon as there is enough to open it.
    ///
    /// # Errors
    /// What is missing, or who spoiled it.
    fn total(&self) -> Result<Self::Total, MpcError>;
}

/// What [`Member`] sends.
pub enum FromMember {
    /// Of [`Member::begin`].
    Shares(RoundShares),
    /// Of [`Member::mask`].
    Masked(Masked),
    /// Of [`Member::sign_survivors`].
    Survivors(SurvivorSet),
    /// Of [`Member::reveal`].
    Reveal(Reveal),
}

/// The same as [`Coordinator`] takes it.
pub enum ToHub {
    /// For [`Coordinator::accept_shares`].
    Shares(Verified<RoundShares>),
    /// For [`Coordinator::accept_masked`].
    Masked(Verified<MaskedHeader>, Vec<u8>),
    /// For [`Coordinator::accept_masked_stored`]: header, number of bytes, their hash.
    MaskedStored(Verified<MaskedHeader>, u64, Hash),
    /// For [`Coordinator::accept_survivor_set`].
    Survivors(Verified<SurvivorSet>),
    /// For [`Coordinator::accept_reveal`].
    Reveal(Verified<Reveal>),
}

/// What [`Coordinator`] has a member told.
pub enum FromHub {
    /// These sealed shares.
    Shares(Vec<SealedShare>),
    /// This survivor set is proposed.
    Survivors(Vec<Name>),
    /// Who signed it: their signed sets are to be passed on, in the envelopes in which they came.
    Signatures(Vec<Name>),
}

/// The same as [`Member`] takes it.
pub enum ToMember {
    /// For [`Member::receive_shares`].
    Shares(Vec<SealedShare>),
    /// For [`Member::sign_survivors`].
    Survivors(Vec<Name>),
    /// For [`Member::reveal`].
    Signatures(Vec<Verified<SurvivorSet>>),
}

impl SumMember for Member {
    type Says = FromMember;
    type Hears = ToMember;

    fn hear(&mut self, told: ToMember) -> Result<Answer<FromMember>, MpcError> {
        match told {
            ToMember::Shares(shares) => self.receive_shares(&shares).map(|()| Answer::Contribute),
            ToMember::Survivors(set) => self.sign_survivors(&set).map(|set| Answer::Say(FromMember::Survivors(set))),
            ToMember::Signatures(sets) => self.reveal(&sets).map(|reveal| Answer::Say(FromMember::Reveal(reveal))),
        }
    }

    fn noise_seeds(&self) -> Result<&NoiseSeeds, MpcError> {
        Self::noise_seeds(self)
    }

    fn contribute(&mut self, noised: &Noised) -> Result<FromMember, MpcError> {
        self.mask(noised).map(FromMember::Masked)
    }

    fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, MpcError> {
        Self::to_secret_bytes(self)
    }

    fn from_secret_bytes(bytes: &[u8]) -> Result<Self, MpcError> {
        Self::from_secret_bytes(bytes)
    }
}

impl SumHub for Coordinator {
    type Hears = ToHub;
    type Says = FromHub;
    type Total = Total;

    fn hear(&mut self, said: ToHub) -> Result<(), MpcError> {
        match said {
            ToHub::Shares(shares) => self.accept_shares(shares),
            ToHub::Masked(header, bytes) => self.accept_masked(&header, bytes),
            ToHub::MaskedStored(header, bytes, sha256) => self.accept_masked_stored(&header, bytes, sha256),
            ToHub::Survivors(set) => self.accept_survivor_set(set),
            ToHub::Reveal(reveal) => self.accept_reveal(reveal),
        }
    }

    /// Of the survivors those who have not signed; once `t` have, those who signed and have not revealed.
    fn awaited(&self) -> Vec<Name> {
        let all = &self.context().participants;
        let without = |from: &[Name], gone: &[Name]| from.iter().filter(|name| !gone.contains(name)).cloned().collect();
        let signed: Vec<Name> = self.signatures().keys().cloned().collect();
        match (self.shares_missing(), self.proposal(), self.agreed()) {
            (missing, ..) if !missing.is_empty() => missing,
            (_, None, _) => without(all, &self.masked_from()),
            (_, Some(proposal), None) => without(proposal, &signed),
            (_, Some(_), Some(_)) => without(&signed, &self.revealed_from()),
        }
    }

    /// Who has not signed is asked again, also when `t` others have: it may be needed to reveal.
    fn says(&self, to: &Name) -> Option<FromHub> {
        let Some(proposal) = self.proposal() else { return self.shares_for(to).map(FromHub::Shares) };
        if !proposal.contains(to) {
            return None;
        }
        if !self.signatures().contains_key(to) {
            return Some(FromHub::Survivors(proposal.to_vec()));
        }
        self.agreed().map(|_| FromHub::Signatures(self.signatures().keys().cloned().collect()))
    }

    fn fix_survivors(&mut self) -> Result<Vec<Name>, MpcError> {
        self.propose_survivors()
    }

    fn restore_survivors(&mut self, survivors: Vec<Name>) -> Result<(), MpcError> {
        self.restore_proposal(survivors)
    }

    fn total(&self) -> Result<Total, MpcError> {
        Self::total(self)
    }
}
