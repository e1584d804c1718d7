//! The hub's side of a round: collects, proposes who is in the sum, recovers what drop-outs left, adds up.
//!
//! Bonawitz et al. 2017, figure 4, server. The hub is not trusted with anything here: what it could do wrong is what
//! the members' side is written against. So this side is about *availability* and about naming who misbehaves: every
//! message is checked for shape, bound to the round, and compared with what the same member said before.
//!
//! A coordinator holds no secret of a member and is not stored: the hub keeps it in memory as long as the round lasts, so
//! that a message costs what that message costs, and after a crash makes a new one and feeds it the stored messages in
//! the order shares, vectors, [`Coordinator::restore_proposal`], signatures, reveals. What refuses a message changes
//! nothing. A hub that could not make an accepted message durable must throw the coordinator away and do the same.
//!
//! It does not verify signatures (it takes [`Verified`], opened with the message key of the member the document
//! names), and cannot tell a wrong input from a right one: a malicious member can spoil the sum by lying about its own
//! data, or by masking with other keys than it committed to, which is the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use cohortium_dp::{NoisePlan, RevealedSeed};
use cohortium_messages::{
    Hash, MaskedHeader, Name, Reveal, RevealedShare, RoundContext, RoundShares, SealedShare, SurvivorSet, Verified,
};

use crate::keystream::{Mask, Sign};
use crate::member::{SHARE_PAIR_BYTES, count, others, sign_of};
use crate::schedule::{self, DEPOSIT_AAD, Key};
use crate::shamir::{Polynomial, Share, Syndromes};
use crate::unmask::{Excess, Unmasker};
use crate::{MpcError, context};

/// How many choices of `t` shares are tried for one secret, when error correction has not found it, before giving up. The
/// first ones are runs of neighbours; with ten members this covers every choice (at most 252).
const MAX_CHOICES: usize = 1024;

/// The hub in a round.
pub struct Coordinator {
    context: RoundContext,
    context_hash: Hash,
    noise: NoisePlan,
    shares: BTreeMap<Name, RoundShares>,
    /// Found when shares come, so that nobody has to look for them again.
    disagreements: Vec<Disagreement>,
    vectors: BTreeMap<Name, Vector>,
    proposal: Option<Vec<Name>>,
    signatures: BTreeMap<Name, SurvivorSet>,
    reveals: BTreeMap<Name, Reveal>,
}

/// A masked vector as it came; without bytes when the caller keeps them elsewhere.
struct Vector {
    sha256: Hash,
    bytes: Option<Vec<u8>>,
}

/// The noised sum of a round.
///
/// Promise: evidence that what it holds is the sum over one survivor set that at least `t` members signed, out of
/// vectors that were noised and masked, with self-masks recovered by at least `t` members' consent and excess noise
/// removed. Only [`Coordinator::total`] makes it. It carries noised sums only.
///
/// ```compile_fail,E0451
/// let total = cohortium_mpc::Total { cells: vec![1], ..todo!() };
/// ```
pub struct Total {
    cells: Vec<i64>,
    noise_variance: u128,
    survivors: Vec<Name>,
    context_hash: Hash,
    task: Hash,
    plan: Hash,
    inconsistencies: Vec<Inconsistency>,
}

/// A revealed share that does not lie on the polynomial of the secret: either the holder revealed something else than
/// it was dealt, or the dealer dealt it something else. Which of the two cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inconsistency {
    /// Whose secret it is a share of.
    pub dealer: Name,
    /// Who revealed it.
    pub holder: Name,
}

/// Two members that committed to different keys for the mask that both of them put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The one that sorts first.
    pub one: Name,
    /// The other.
    pub other: Name,
}

impl Total {
    /// The sums, in lattice steps, noise included.
    #[must_use]
    pub fn cells(&self) -> &[i64] {
        &self.cells
    }

    /// The variance of the noise in each cell, lattice steps squared: what was added and not taken off again.
    #[must_use]
    pub const fn noise_variance(&self) -> u128 {
        self.noise_variance
    }

    /// Whose vectors are in the sum, sorted.
    #[must_use]
    pub fn survivors(&self) -> &[Name] {
        &self.survivors
    }

    /// The hash of the round's context.
    #[must_use]
    pub const fn context_hash(&self) -> Hash {
        self.context_hash
    }

    /// The task.
    #[must_use]
    pub const fn task(&self) -> Hash {
        self.task
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> Hash {
        self.plan
    }

    /// Revealed shares that were wrong and were not needed: for the operator to look into.
    #[must_use]
    pub fn inconsistencies(&self) -> &[Inconsistency] {
        &self.inconsistencies
    }
}

impl Coordinator {
    /// Opens a round.
    ///
    /// # Errors
    /// [`MpcError::Context`] when the context breaks a rule, [`MpcError::NoisePlan`] when the plan is another.
    pub fn new(context: RoundContext, noise: NoisePlan) -> Result<Self, MpcError> {
        let context_hash = context::check(&context, &noise)?;
        Ok(Self {
            context,
            context_hash,
            noise,
            shares: BTreeMap::new(),
            disagreements: Vec::new(),
            vectors: BTreeMap::new(),
            proposal: None,
            signatures: BTreeMap::new(),
            reveals: BTreeMap::new(),
        })
    }

    /// Takes a member's deposit and sealed shares.
    ///
    /// # Errors
    /// [`MpcError::Shares`] for the wrong shape, [`MpcError::Equivocation`] for another message than before.
    pub fn accept_shares(&mut self, message: Verified<RoundShares>) -> Result<(), MpcError> {
        self.check_sender(&message.context, &message.from)?;
        check_share_shape(&self.context, &self.noise, &message)?;
        let message = message.into_inner();
        if !self.shares.contains_key(&message.from) {
            let new = self.disagreements_with(&message);
            self.disagreements.extend(new);
            self.disagreements.sort_unstable_by(|a, b| (&a.one, &a.other).cmp(&(&b.one, &b.other)));
        }
        record(&mut self.shares, message.from.clone(), message)
    }

    /// The pairs of whom both have dealt and whose commitments to their mask key differ. Not empty: the round is void,
    /// before anything is masked. One of the two lied, or was shown another round; which one cannot be told.
    #[must_use]
    pub fn disagreements(&self) -> Vec<Disagreement> {
        self.disagreements.clone()
    }

    /// With whom of those that have dealt the sender of these shares disagrees.
    fn disagreements_with(&self, dealt: &RoundShares) -> Vec<Disagreement> {
        let pairs = others(&self.context, &dealt.from).zip(&dealt.mask_key_commitments);
        let differ = pairs.filter(|(other, commitment)| {
            self.mask_key_commitment(other, &dealt.from).is_some_and(|theirs| theirs != *commitment)
        });
        let named = differ.map(|(other, _)| {
            let (one, other) = if *other < dealt.from { (other, &dealt.from) } else { (&dealt.from, other) };
            Disagreement { one: one.clone(), other: other.clone() }
        });
        named.collect()
    }

    /// The sealed shares for one participant, once every participant has dealt and no two disagree. The round cannot go
    /// on without them: with fewer participants it has to be begun anew, under a new context and log position.
    #[must_use]
    pub fn shares_for(&self, to: &Name) -> Option<Vec<SealedShare>> {
        if self.check_dealt().is_err() || self.context.index_of(to).is_none() {
            return None;
        }
        Some(self.shares.values().flat_map(|dealt| &dealt.shares).filter(|share| share.to == *to).cloned().collect())
    }

    /// Who has not dealt shares yet.
    #[must_use]
    pub fn shares_missing(&self) -> Vec<Name> {
        self.context.participants.iter().filter(|name| !self.shares.contains_key(name)).cloned().collect()
    }

    /// Takes a masked vector with its signed header.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] before all shares are here, [`MpcError::MaskKeys`] when two members disagree,
    /// [`MpcError::Length`], [`MpcError::VectorHash`], [`MpcError::Equivocation`], and [`MpcError::TooLate`] once a
    /// survivor set without it was proposed.
    pub fn accept_masked(&mut self, header: &Verified<MaskedHeader>, bytes: Vec<u8>) -> Result<(), MpcError> {
        self.check_header(header, bytes.len() as u64)?;
        self.record_vector(header, Vector { sha256: Hash::of(&bytes), bytes: Some(bytes) })
    }

    /// Takes the signed header of a masked vector whose bytes the caller has made durable elsewhere: `bytes` of them,
    /// with this hash, which the caller computed from what came and not from what was announced. The sums then come
    /// from [`Self::unmasker`].
    ///
    /// # Errors
    /// As [`Self::accept_masked`].
    pub fn accept_masked_stored(
        &mut self,
        header: &Verified<MaskedHeader>,
        bytes: u64,
        sha256: Hash,
    ) -> Result<(), MpcError> {
        self.check_header(header, bytes)?;
        self.record_vector(header, Vector { sha256, bytes: None })
    }

    /// Sender, step and length: what is checked before a vector is looked at.
    fn check_header(&self, header: &MaskedHeader, bytes: u64) -> Result<(), MpcError> {
        self.check_sender(&header.context, &header.from)?;
        self.check_dealt()?;
        let expected = context::vector_bytes(&self.context)?;
        match [header.bytes, bytes].into_iter().find(|found| *found != expected) {
            Some(found) => Err(MpcError::Length { expected, found }),
            None => Ok(()),
        }
    }

    fn record_vector(&mut self, header: &MaskedHeader, vector: Vector) -> Result<(), MpcError> {
        if vector.sha256 != header.sha256 {
            return Err(MpcError::VectorHash { from: header.from.clone() });
        }
        match self.vectors.get(&header.from) {
            Some(before) if before.sha256 == header.sha256 => return Ok(()),
            Some(_) => return Err(MpcError::Equivocation { from: header.from.clone() }),
            None => {}
        }
        if self.proposal.is_some() {
            return Err(MpcError::TooLate { from: header.from.clone() });
        }
        self.vectors.insert(header.from.clone(), vector);
        Ok(())
    }

    /// Whose vectors are here, sorted.
    #[must_use]
    pub fn masked_from(&self) -> Vec<Name> {
        self.vectors.keys().cloned().collect()
    }

    /// Fixes the survivor set: all whose vector is here. Asked again, the same set. The caller makes it durable before
    /// anybody sees it, because a member signs one set only.
    ///
    /// # Errors
    /// [`MpcError::TooFew`] below the threshold: wait, or give the round up as void.
    pub fn propose_survivors(&mut self) -> Result<Vec<Name>, MpcError> {
        if let Some(proposal) = &self.proposal {
            return Ok(proposal.clone());
        }
        let proposal = self.masked_from();
        let needed = self.context.threshold as usize;
        if proposal.len() < needed {
            return Err(MpcError::TooFew { what: "masked vectors", needed, found: proposal.len() });
        }
        self.proposal = Some(proposal.clone());
        Ok(proposal)
    }

    /// The survivor set that was proposed, if one was.
    #[must_use]
    pub fn proposal(&self) -> Option<&[Name]> {
        self.proposal.as_deref()
    }

    /// Takes back a proposal that was made before a crash.
    ///
    /// # Errors
    /// [`MpcError::Survivors`] when it breaks a rule or names somebody whose vector is not here, or differs from the
    /// proposal that stands.
    pub fn restore_proposal(&mut self, survivors: Vec<Name>) -> Result<(), MpcError> {
        context::check_survivors(&self.context, &survivors)?;
        if !survivors.iter().all(|name| self.vectors.contains_key(name)) {
            return Err(MpcError::Survivors("it names somebody whose vector is not here"));
        }
        if self.proposal.as_ref().is_some_and(|proposal| *proposal != survivors) {
            return Err(MpcError::Survivors("another one was proposed already"));
        }
        self.proposal = Some(survivors);
        Ok(())
    }

    /// Takes a survivor's signature on the proposed set.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] before a proposal, [`MpcError::Equivocation`], [`MpcError::OtherSet`], and
    /// [`MpcError::Signature`] from somebody who is not in the set.
    pub fn accept_survivor_set(&mut self, message: Verified<SurvivorSet>) -> Result<(), MpcError> {
        self.check_sender(&message.context, &message.from)?;
        let message = message.into_inner();
        let from = message.from.clone();
        if self.signatures.get(&from).is_some_and(|before| *before != message) {
            return Err(MpcError::Equivocation { from });
        }
        let proposal = self.proposal.as_ref().ok_or(MpcError::WrongStep { first: "propose a survivor set" })?;
        if message.survivors != *proposal {
            return Err(MpcError::OtherSet { from });
        }
        if !proposal.contains(&from) {
            return Err(MpcError::Signature { from, why: "it is no survivor" });
        }
        record(&mut self.signatures, from, message)
    }

    /// The signatures so far, by member. The envelopes they came in go to every survivor once there are `t`.
    #[must_use]
    pub const fn signatures(&self) -> &BTreeMap<Name, SurvivorSet> {
        &self.signatures
    }

    /// The survivor set, once `t` members signed it.
    #[must_use]
    pub fn agreed(&self) -> Option<&[Name]> {
        let enough = self.signatures.len() >= self.context.threshold as usize;
        self.proposal.as_deref().filter(|_| enough)
    }

    /// Takes what a survivor reveals.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] before `t` signatures, [`MpcError::Reveal`] for other shares or seeds than are due or
    /// seeds that were not committed to, [`MpcError::Equivocation`].
    pub fn accept_reveal(&mut self, message: Verified<Reveal>) -> Result<(), MpcError> {
        self.check_sender(&message.context, &message.from)?;
        let message = message.into_inner();
        let first = "collect t signatures on the survivor set";
        let survivors = self.agreed().ok_or(MpcError::WrongStep { first })?;
        self.check_reveal(survivors, &message)?;
        record(&mut self.reveals, message.from.clone(), message)
    }

    /// Who has revealed.
    #[must_use]
    pub fn revealed_from(&self) -> Vec<Name> {
        self.reveals.keys().cloned().collect()
    }

    /// The noised sum, from at least `t` reveals. Excess noise of a survivor that has not revealed stays in, and is in
    /// the stated variance.
    ///
    /// # Errors
    /// As [`Self::unmasker`]; [`MpcError::NotInMemory`] when a vector is kept elsewhere, [`MpcError::TooWide`] when a
    /// sum has more than 64 bits, which only Z_2^128 allows.
    pub fn total(&self) -> Result<Total, MpcError> {
        self.open(NonZeroUsize::MIN, |name| Ok::<_, MpcError>(Cow::Borrowed(self.vector(name)?)))
    }

    /// The same from vectors that are kept elsewhere: `read` brings one survivor's at a time, and its hash must be the one
    /// that was accepted. Up to `threads` threads draw excess noise, which is most of the work when many drop-outs were
    /// planned for and few came.
    ///
    /// # Errors
    /// As [`Self::total`] and those of `read`; [`MpcError::VectorHash`] for other bytes, [`MpcError::Threads`].
    pub fn total_of_stored<E: From<MpcError>>(
        &self,
        threads: NonZeroUsize,
        read: &mut dyn FnMut(&Name) -> Result<Vec<u8>, E>,
    ) -> Result<Total, E> {
        self.open(threads, |name| {
            let bytes = read(name)?;
            match self.vectors.get(name) {
                Some(vector) if vector.sha256 == Hash::of(&bytes) => Ok(Cow::Owned(bytes)),
                _ => Err(MpcError::VectorHash { from: name.clone() }.into()),
            }
        })
    }

    /// Adds up, one vector after the other, and opens.
    fn open<'v, E: From<MpcError>>(
        &self,
        threads: NonZeroUsize,
        mut vector: impl FnMut(&Name) -> Result<Cow<'v, [u8]>, E>,
    ) -> Result<Total, E> {
        let unmasker = self.unmasker()?;
        let mut sums = unmasker.zero();
        for name in unmasker.survivors() {
            unmasker.add(&mut sums, &vector(name)?)?;
        }
        let cells = unmasker.open_all(&mut sums, threads)?;
        Ok(Total {
            cells,
            noise_variance: unmasker.noise_variance,
            survivors: unmasker.survivors,
            context_hash: self.context_hash,
            task: self.context.task,
            plan: self.context.plan,
            inconsistencies: unmasker.inconsistencies,
        })
    }

    /// What opens the sum chunk by chunk, from at least `t` reveals. With more reveals later it may be made again: then
    /// less noise stays.
    ///
    /// # Errors
    /// [`MpcError::TooFew`] signatures or reveals; [`MpcError::Unrecoverable`], [`MpcError::Deposit`] or
    /// [`MpcError::DepositedKey`] naming the member whose secrets do not come out as committed to.
    pub fn unmasker(&self) -> Result<Unmasker, MpcError> {
        let needed = self.context.threshold as usize;
        let too_few = |what, found| MpcError::TooFew { what, needed, found };
        let survivors = self.agreed().ok_or(too_few("signatures on the survivor set", self.signatures.len()))?;
        if self.reveals.len() < needed {
            return Err(too_few("reveals", self.reveals.len()));
        }
        let mut inconsistencies = Vec::new();
        let mut masks = self.self_masks(survivors, &mut inconsistencies)?;
        masks.extend(self.masks_with_drop_outs(survivors, &mut inconsistencies)?);
        let (excess, noise_variance) = self.excess(survivors)?;
        Ok(Unmasker {
            ring: context::ring(&self.context)?,
            elements: self.context.elements as usize,
            survivors: survivors.to_vec(),
            masks,
            noise: self.noise.clone(),
            excess,
            noise_variance,
            inconsistencies,
        })
    }

    /// The round's context.
    #[must_use]
    pub const fn context(&self) -> &RoundContext {
        &self.context
    }

    /// The hash of the round's context.
    #[must_use]
    pub const fn context_hash(&self) -> Hash {
        self.context_hash
    }

    fn check_sender(&self, context: &Hash, from: &Name) -> Result<(), MpcError> {
        if *context != self.context_hash {
            return Err(MpcError::OtherContext { from: from.clone() });
        }
        self.context.index_of(from).map(|_| ()).ok_or(MpcError::NotParticipant { name: from.clone() })
    }

    fn check_reveal(&self, survivors: &[Name], message: &Reveal) -> Result<(), MpcError> {
        let refuse = |why| Err(MpcError::Reveal { from: message.from.clone(), why });
        if !survivors.contains(&message.from) {
            return refuse("it is no survivor");
        }
        if !message.self_mask_shares.iter().map(|share| &share.of).eq(survivors) {
            return refuse("there must be one share of each survivor's self-mask seed, in order, and no other");
        }
        let drop_outs = self.context.participants.iter().filter(|name| !survivors.contains(name));
        if !message.deposit_key_shares.iter().map(|share| &share.of).eq(drop_outs) {
            return refuse("there must be one share of each drop-out's deposit key, in order, and no other");
        }
        let commitments = self.shares.get(&message.from).map(|dealt| dealt.excess_commitments.as_slice());
        // Components are committed to from the first on, which is never in excess.
        let excess = self.noise.excess(count(survivors)?)?;
        let due = (1u32..).zip(commitments.unwrap_or_default());
        let due: Vec<_> = due.filter(|(component, _)| excess.contains(&(*component as usize))).collect();
        if message.excess_seeds.len() != due.len() {
            return refuse("there must be one seed for each noise component in excess");
        }
        for (seed, (component, commitment)) in message.excess_seeds.iter().zip(due) {
            let opened =
                schedule::excess_commitment(&self.context_hash, &message.from, component, seed.seed.as_bytes());
            if seed.component != component || opened != *commitment {
                return refuse("a noise seed is not the one that was committed to");
            }
        }
        Ok(())
    }

    /// Whether every participant has dealt and no two disagree about a mask key.
    fn check_dealt(&self) -> Result<(), MpcError> {
        if self.shares.len() != self.context.participants.len() {
            return Err(MpcError::WrongStep { first: "collect the shares of all participants" });
        }
        match self.disagreements.last().cloned() {
            Some(Disagreement { one, other }) => Err(MpcError::MaskKeys { one, other }),
            None => Ok(()),
        }
    }

    /// What `of` committed to for the mask that it shares with `with`.
    fn mask_key_commitment(&self, of: &Name, with: &Name) -> Option<&Hash> {
        let commitments = &self.shares.get(of)?.mask_key_commitments;
        others(&self.context, of).zip(commitments).find(|(peer, _)| *peer == with).map(|(_, commitment)| commitment)
    }

    fn vector(&self, of: &Name) -> Result<&[u8], MpcError> {
        let vector = self.vectors.get(of).ok_or(MpcError::Internal("the vector of a survivor is missing"))?;
        vector.bytes.as_deref().ok_or_else(|| MpcError::NotInMemory { from: of.clone() })
    }

    /// What takes off the self-masks of the survivors.
    fn self_masks(&self, survivors: &[Name], inconsistencies: &mut Vec<Inconsistency>) -> Result<Vec<Mask>, MpcError> {
        let mut masks = Vec::with_capacity(self.context.participants.len());
        for of in survivors {
            let commitment = self.dealt(of)?.self_mask_commitment;
            let seed = self.recover(
                of,
                |reveal| &reveal.self_mask_shares,
                inconsistencies,
                |seed| schedule::self_mask_commitment(&self.context_hash, of, seed) == commitment,
            )?;
            let key = schedule::self_mask_key(&seed, &self.context_hash, of)?;
            masks.push(Mask::new(&key, Sign::Minus));
        }
        Ok(masks)
    }

    /// What takes off the masks that survivors put on with those who dropped out, from the drop-outs' deposits. Every
    /// key is checked against what the survivor committed to before anything was masked.
    fn masks_with_drop_outs(
        &self,
        survivors: &[Name],
        inconsistencies: &mut Vec<Inconsistency>,
    ) -> Result<Vec<Mask>, MpcError> {
        let mut masks = Vec::new();
        for of in self.context.participants.iter().filter(|name| !survivors.contains(name)) {
            let commitment = self.dealt(of)?.deposit_key_commitment;
            let key = self.recover(
                of,
                |reveal| &reveal.deposit_key_shares,
                inconsistencies,
                |key| schedule::deposit_key_commitment(&self.context_hash, of, key) == commitment,
            )?;
            let parts: [&[u8]; 2] = [self.context_hash.as_bytes(), of.as_str().as_bytes()];
            let len = 32 * (self.context.participants.len() - 1);
            let opened = schedule::open(&key, DEPOSIT_AAD, &parts, &self.dealt(of)?.deposit, len);
            let mask_keys = opened.ok_or(MpcError::Deposit { of: of.clone() })?;
            let (mask_keys, _) = mask_keys.as_chunks::<32>();
            let with_survivors = others(&self.context, of).zip(mask_keys).filter(|(peer, _)| survivors.contains(peer));
            for (peer, mask_key) in with_survivors {
                let deposited = schedule::mask_key_commitment(&self.context_hash, peer, of, mask_key);
                if self.mask_key_commitment(peer, of) != Some(&deposited) {
                    return Err(MpcError::DepositedKey { of: of.clone(), with: peer.clone() });
                }
                masks.push(Mask::new(mask_key, sign_of(peer, of).opposite()));
            }
        }
        Ok(masks)
    }

    /// The excess noise of all who revealed it, and the variance that is left when it is taken off.
    fn excess(&self, survivors: &[Name]) -> Result<(Vec<Excess>, u128), MpcError> {
        let kept_variance = self.noise.kept_variance(count(survivors)?)?;
        let (mut excess, mut variance) = (Vec::new(), 0u128);
        for name in survivors {
            let Some(reveal) = self.reveals.get(name) else {
                variance += u128::from(self.noise.node_variance());
                continue;
            };
            variance += u128::from(kept_variance);
            let seed = |seed: &cohortium_messages::ExcessSeed| RevealedSeed {
                component: seed.component,
                seed: *seed.seed.as_bytes(),
            };
            let seeds: Vec<_> = reveal.excess_seeds.iter().map(seed).collect();
            if !seeds.is_empty() {
                excess.push(Excess { of: name.clone(), seeds });
            }
        }
        Ok((excess, variance))
    }

    fn dealt(&self, of: &Name) -> Result<&RoundShares, MpcError> {
        self.shares.get(of).ok_or(MpcError::Internal("the shares of a participant are missing"))
    }

    /// The secret of `of` that `is_right` recognises, from the shares that `pick` finds in the reveals.
    fn recover(
        &self,
        of: &Name,
        pick: impl Fn(&Reveal) -> &[RevealedShare],
        inconsistencies: &mut Vec<Inconsistency>,
        is_right: impl Fn(&[u8; 32]) -> bool,
    ) -> Result<Key, MpcError> {
        let mut held: Vec<(&Name, Share)> = Vec::new();
        for (holder, reveal) in &self.reveals {
            let revealed = pick(reveal).iter().find(|share| share.of == *of);
            let point = self.context.index_of(holder).and_then(|index| u8::try_from(index + 1).ok());
            if let (Some(revealed), Some(point)) = (revealed, point) {
                held.push((holder, Share { point, bytes: *revealed.share.as_bytes() }));
            }
        }
        // Those who lied about another secret come last: then the first t are most likely right.
        held.sort_by_key(|(holder, _)| inconsistencies.iter().any(|found| found.holder == **holder));
        let (secret, wrong) = find(&held, self.context.threshold as usize, is_right)?
            .ok_or_else(|| MpcError::Unrecoverable { of: of.clone() })?;
        let named = held.iter().zip(wrong).filter(|(_, is_wrong)| *is_wrong);
        inconsistencies
            .extend(named.map(|((holder, _), _)| Inconsistency { dealer: of.clone(), holder: (*holder).clone() }));
        Ok(secret)
    }
}

/// A secret, and which shares do not fit it.
type Found = (Key, Vec<bool>);

/// The secret that `is_right` recognises, from shares of which some may be wrong: from the first t; from those that
/// error correction leaves; from other choices of t, up to a limit.
fn find(
    held: &[(&Name, Share)],
    threshold: usize,
    is_right: impl Fn(&[u8; 32]) -> bool,
) -> Result<Option<Found>, MpcError> {
    let shares: Vec<Share> = held.iter().map(|(_, share)| share.clone()).collect();
    let attempt = |chosen: &[Share]| -> Result<Option<Found>, MpcError> {
        let polynomial = Polynomial::through(chosen, threshold)?;
        let secret = polynomial.at(0);
        let wrong = || shares.iter().map(|share| *polynomial.at(share.point) != share.bytes).collect();
        Ok(is_right(&secret).then(|| (secret, wrong())))
    };
    if let Some(found) = attempt(&shares)? {
        return Ok(Some(found));
    }
    let syndromes = Syndromes::of(&shares, threshold)?;
    if syndromes.locate(0).is_some() {
        // All lie on one polynomial, and it is the wrong one: every choice would give the same.
        return Ok(None);
    }
    for wrong in (1..=syndromes.most()).filter_map(|errors| syndromes.locate(errors)) {
        let left = shares.iter().zip(wrong).filter(|(_, is_wrong)| !is_wrong).map(|(share, _)| share.clone());
        if let Some(found) = attempt(&left.collect::<Vec<_>>())? {
            return Ok(Some(found));
        }
    }
    for choice in choices(shares.len(), threshold) {
        let chosen: Vec<Share> = choice.iter().filter_map(|place| shares.get(*place)).cloned().collect();
        if let Some(found) = attempt(&chosen)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Keeps the first message of a step; the same again is fine, another is equivocation.
fn record<T: PartialEq>(kept: &mut BTreeMap<Name, T>, from: Name, message: T) -> Result<(), MpcError> {
    match kept.get(&from) {
        Some(before) if *before == message => Ok(()),
        Some(_) => Err(MpcError::Equivocation { from }),
        None => {
            kept.insert(from, message);
            Ok(())
        }
    }
}

fn check_share_shape(context: &RoundContext, noise: &NoisePlan, message: &RoundShares) -> Result<(), MpcError> {
    let refuse = |why| Err(MpcError::Shares { from: message.from.clone(), why });
    let n = context.participants.len();
    if message.excess_commitments.len() + 1 != noise.components().len() {
        return refuse("there must be one commitment for each noise component but the first");
    }
    if message.mask_key_commitments.len() != n - 1 {
        return refuse("there must be one commitment for the mask key with each other participant");
    }
    if !message.shares.iter().map(|share| &share.to).eq(others(context, &message.from)) {
        return refuse("there must be one pair of shares for each other participant, in order");
    }
    if message.shares.iter().any(|share| share.from != message.from) {
        return refuse("they were dealt by somebody else");
    }
    if message.shares.iter().any(|share| schedule::sealed_bytes(&share.ciphertext, SHARE_PAIR_BYTES).is_none()) {
        return refuse("a sealed pair of shares must be 80 bytes in base64");
    }
    if schedule::sealed_bytes(&message.deposit, 32 * (n - 1)).is_none() {
        return refuse("the deposit must be 32 bytes for each other participant and 16, in base64");
    }
    Ok(())
}

/// Choices of `t` out of `m` places: first runs of neighbours (around the end), then all in lexicographic order; at
/// most [`MAX_CHOICES`].
fn choices(m: usize, t: usize) -> impl Iterator<Item = Vec<usize>> {
    let runs = (0..m).map(move |start| (start..start + t).map(|place| place % m).collect::<Vec<_>>());
    let first = (t <= m).then(|| (0..t).collect::<Vec<_>>());
    let all = std::iter::successors(first, move |choice| next_choice(choice, m));
    runs.take(if t <= m { m } else { 0 }).chain(all).take(MAX_CHOICES)
}

/// The lexicographic successor of an ascending choice of places below `m`.
fn next_choice(choice: &[usize], m: usize) -> Option<Vec<usize>> {
    let t = choice.len();
    let (place, value) = choice.iter().enumerate().rev().find(|(place, value)| **value < m - t + place)?;
    let rise = (value + 1..).take(t - place);
    Some(choice.iter().take(place).copied().chain(rise).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_comes_and_each_single_liar_is_left_out_early() {
        let all: std::collections::BTreeSet<Vec<usize>> = choices(6, 4)
            .map(|mut choice| {
                choice.sort_unstable();
                choice
            })
            .collect();
        assert_eq!(all.len(), 15);
        for liar in 0..100 {
            assert!(choices(100, 99).take(100).any(|choice| !choice.contains(&liar)), "{liar}");
        }
        assert_eq!(choices(100, 67).count(), MAX_CHOICES);
        assert_eq!(choices(2, 3).count(), 0);
        assert!(choices(5, 3).all(|choice| choice.len() == 3 && choice.iter().all(|place| *place < 5)));
    }
}
