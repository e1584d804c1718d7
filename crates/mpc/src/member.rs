//! One organisation's side of a round.
//!
//! Bonawitz et al. 2017, figure 4, as this order of steps, each refused out of turn:
//! [`Member::begin`] → [`Member::receive_shares`] → [`Member::mask`] → [`Member::sign_survivors`] → [`Member::reveal`].
//!
//! **Durability.** The caller writes [`Member::to_secret_bytes`] (after `begin` also every chain) *together with* the
//! message of the step, before that message leaves. A crash before the write: the step did not happen. A crash after
//! it: read the state back and send the stored message again. After `mask`, the masked bytes are part of what is
//! written; [`Member::restore_masked`] turns them into [`Masked`] again.
//!
//! **Adversary.** The hub and up to `c` members are malicious. What arrives here is only believed when the pairwise
//! key, a signature (evidence type) or a commitment says so. A member that follows these steps and does not run from a
//! restored old state never puts two vectors under one mask, signs two survivor sets, or opens both halves of a mask.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use cohortium_dp::{NoisePlan, NoiseSeeds, Noised, Seed};
use cohortium_messages::{
    ExcessSeed, Hash, MaskedHeader, Name, Reveal, RevealedShare, Ring, RoundContext, RoundShares, SealedShare,
    SurvivorSet, Verified, canonical_bytes,
};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::chain::PairRoundSecret;
use crate::keystream::{CHUNK_ELEMENTS, Mask, Masker, Sign, Word, Z32, Z64, Z128};
use crate::schedule::{self, DEPOSIT_AAD, Key, SHARES_AAD};
use crate::{Chain, Cleared, MpcError, context, shamir, state};

/// Two shares, of the self-mask seed and of the deposit key.
pub(crate) const SHARE_PAIR_BYTES: usize = 64;

/// An organisation in a round. Holds secrets: no `Debug`, no `Clone`, overwritten when dropped.
///
/// ```compile_fail,E0277
/// fn show(member: cohortium_mpc::Member) { println!("{:?}", member); }
/// ```
/// ```compile_fail,E0599
/// fn copy(member: &cohortium_mpc::Member) -> cohortium_mpc::Member { cohortium_mpc::Member::clone(member) }
/// ```
pub struct Member {
    context: RoundContext,
    context_hash: Hash,
    me: Name,
    noise: NoisePlan,
    seeds: NoiseSeeds,
    secrets: Secrets,
    progress: Progress,
}

/// What is overwritten at the end, and partly before.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Secrets {
    /// `b`; zeros once the survivor set is signed.
    self_mask_seed: [u8; 32],
    /// `k_ij` of every other participant, in order; empty once the survivor set is signed.
    mask_keys: Vec<[u8; 32]>,
    /// Keys that open the shares of every other participant, in order; empty once the shares are here.
    open_keys: Vec<[u8; 32]>,
    /// My share of the self-mask seed of every participant, in order. Until the shares are here only my own, from
    /// then on all, and from my signature on only the survivors'; zeros where there is none.
    self_mask_shares: Vec<[u8; 32]>,
    /// The same for deposit keys; from my signature on only of those who are not survivors.
    deposit_key_shares: Vec<[u8; 32]>,
}

/// How far the round has come. Each step presupposes the one before it.
#[derive(Default)]
struct Progress {
    /// Hash of the sealed shares that were accepted.
    received: Option<Hash>,
    /// SHA-256 of the vector that was masked.
    masked: Option<Hash>,
    /// The survivor set that was signed.
    signed: Option<Vec<Name>>,
}

/// A masked vector with the header that announces it. Made by [`Member::mask`] alone.
///
/// Promise: evidence that what it holds was noised (it came from [`Noised`]) and is masked with keys of this round. Given that at least one other participant outside the coalition takes part, its bytes cannot be told from uniform.
///
/// ```compile_fail,E0451
/// let masked = cohortium_mpc::Masked { bytes: vec![0; 8], header: todo!() };
/// ```
#[must_use = "the price is paid and the masks are used: make it durable and send it"]
pub struct Masked {
    bytes: Vec<u8>,
    header: MaskedHeader,
}

impl Masked {
    /// Elements as little-endian words of the ring.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The header, to be signed and sent ahead.
    #[must_use]
    pub const fn header(&self) -> &MaskedHeader {
        &self.header
    }
}

/// Evidence that a vector was masked in chunks with keys of this round; its bytes are where they were kept. Made by
/// [`Member::mask_stream_of_noised`] alone.
///
/// ```compile_fail,E0451
/// fn forge(header: cohortium_messages::MaskedHeader) -> cohortium_mpc::MaskedStream {
///     cohortium_mpc::MaskedStream { header }
/// }
/// ```
#[must_use = "the price is paid and the masks are used: make it durable and send it"]
pub struct MaskedStream {
    header: MaskedHeader,
}

impl MaskedStream {
    /// The header, to be signed and sent ahead.
    #[must_use]
    pub const fn header(&self) -> &MaskedHeader {
        &self.header
    }
}

/// A vector on its way through the masks, chunk by chunk.
struct Stream<'a, W> {
    /// The largest magnitude that may be masked; none in Z_2^128, where every 64-bit integer may.
    bound: Option<i64>,
    /// Elements that are still to come.
    left: usize,
    chunk: u64,
    masker: Masker<'a>,
    /// One chunk: noised values, then masked bytes.
    bytes: Zeroizing<Vec<u8>>,
    hasher: Sha256,
    ring: PhantomData<W>,
}

impl<'a, W: Word> Stream<'a, W> {
    fn new(context: &RoundContext, ring: Ring, masks: &'a [Mask]) -> Self {
        let left = context.elements as usize;
        Self {
            bound: i64::try_from(ring.node_bound(context.participants.len())).ok(),
            left,
            chunk: 0,
            masker: Masker::new(masks, ring, left),
            bytes: Zeroizing::new(vec![0; CHUNK_ELEMENTS.min(left) * W::BYTES]),
            hasher: Sha256::new(),
            ring: PhantomData,
        }
    }

    /// How many values the next chunk has.
    fn next_len(&self) -> usize {
        CHUNK_ELEMENTS.min(self.left)
    }

    /// Checks, masks and hashes the next chunk; returns its bytes.
    fn mask(&mut self, noised: &[i64]) -> Result<&[u8], MpcError> {
        let ours = MpcError::Internal("a chunk of the vector has another length than it should");
        if noised.len() != self.next_len() {
            return Err(ours);
        }
        if self.bound.is_some_and(|bound| !all_within(noised, bound)) {
            return Err(MpcError::OutOfBound);
        }
        let bytes = self.bytes.get_mut(..noised.len() * W::BYTES).ok_or(ours)?;
        W::write(noised, bytes);
        self.masker.add::<W>(self.chunk, bytes)?;
        self.hasher.update(&*bytes);
        self.left -= noised.len();
        self.chunk += 1;
        Ok(bytes)
    }

    fn finish(self) -> Hash {
        Hash::from_bytes(self.hasher.finalize().into())
    }
}

impl Member {
    /// Joins a round: moves every chain past the round's position, draws this round's secrets, deals their shares.
    ///
    /// Promise: given chains that were made under the context's agreement and a uniform generator, returns a message
    /// of which the hub and fewer than `t` members learn nothing about this member's masks. Argued.
    ///
    /// # Errors
    /// When the context breaks a rule, the noise plan is another, a chain is missing or its position used up. Then no
    /// chain has moved.
    pub fn begin(
        context: RoundContext,
        me: &Name,
        chains: &mut BTreeMap<Name, Chain>,
        noise: &NoisePlan,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, RoundShares), MpcError> {
        let context_hash = context::check(&context, noise)?;
        let index = context.index_of(me).ok_or(MpcError::NotParticipant { name: me.clone() })?;
        let pairs = PairKeys::derive(&context, &context_hash, me, chains)?;

        let self_mask_seed = schedule::draw(rng);
        let deposit_key = schedule::draw(rng);
        let seeds = NoiseSeeds::draw(noise, rng);
        let (n, t) = (narrow(context.participants.len())?, narrow(context.threshold as usize)?);
        let self_mask_shares = shamir::split(&self_mask_seed, n, t, rng)?;
        let deposit_key_shares = shamir::split(&deposit_key, n, t, rng)?;

        let shares = RoundShares {
            context: context_hash,
            deposit: deposit(&context_hash, me, &deposit_key, &pairs.mask)?,
            deposit_key_commitment: schedule::deposit_key_commitment(&context_hash, me, &deposit_key),
            excess_commitments: commit_excess(&context_hash, me, &seeds)?,
            from: me.clone(),
            mask_key_commitments: commit_mask_keys(&context, &context_hash, me, &pairs.mask),
            self_mask_commitment: schedule::self_mask_commitment(&context_hash, me, &self_mask_seed),
            shares: seal_shares(&context, &context_hash, me, &pairs.seal, &self_mask_shares, &deposit_key_shares)?,
        };
        let secrets = Secrets {
            self_mask_seed: *self_mask_seed,
            mask_keys: copy_keys(&pairs.mask),
            open_keys: copy_keys(&pairs.open),
            self_mask_shares: only(&self_mask_shares, index),
            deposit_key_shares: only(&deposit_key_shares, index),
        };
        pairs.commit(chains);
        let noise = noise.clone();
        let member =
            Self { context, context_hash, me: me.clone(), noise, seeds, secrets, progress: Progress::default() };
        Ok((member, shares))
    }

    /// Takes the shares that the others dealt to this member. The same shares again change nothing.
    ///
    /// # Errors
    /// [`MpcError::Shares`] unless there is exactly one from every other participant, addressed to this one;
    /// [`MpcError::Sealed`] when one does not open; [`MpcError::OtherShares`] after others were accepted.
    pub fn receive_shares(&mut self, shares: &[SealedShare]) -> Result<(), MpcError> {
        let by_sender = self.by_sender(shares)?;
        let received = hash_of_shares(&by_sender);
        match self.progress.received {
            Some(before) if before == received => return Ok(()),
            Some(_) => return Err(MpcError::OtherShares),
            None => {}
        }
        let mut opened = Vec::with_capacity(by_sender.len());
        for (share, key) in by_sender.values().zip(&self.secrets.open_keys) {
            opened.push(self.open_share(share, key)?);
        }
        self.store_opened(&opened)?;
        self.secrets.open_keys.zeroize();
        self.progress.received = Some(received);
        Ok(())
    }

    /// The seeds of this round's noise, for [`cohortium_dp::add_noise`].
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] once the survivor set is signed: then most of them are forgotten.
    pub fn noise_seeds(&self) -> Result<&NoiseSeeds, MpcError> {
        self.before_signing()?;
        Ok(&self.seeds)
    }

    /// Masks this member's noised vector. The same vector again gives the same bytes.
    ///
    /// Promise: given a noised vector, returns x + PRG(b) ± Σ PRG(k_ij) in the context's ring; never for a second
    /// vector, never a value that could make the sum wrap. Argued.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] before the shares are here or after signing, [`MpcError::Length`] when the vector has
    /// not the context's number of elements, [`MpcError::OutOfBound`] when a value is too large for the ring,
    /// [`MpcError::SecondVector`] for another vector than the first.
    pub fn mask(&mut self, noised: &Noised) -> Result<Masked, MpcError> {
        self.before_masking()?;
        let (expected, found) = (u64::from(self.context.elements), noised.values().len() as u64);
        if expected != found {
            return Err(MpcError::Length { expected, found });
        }
        let masks = self.masks()?;
        let ring = context::ring(&self.context)?;
        let (bytes, sha256) = match ring {
            Ring::Z32 => mask_at_once(Stream::<Z32>::new(&self.context, ring, &masks), noised)?,
            Ring::Z64 => mask_at_once(Stream::<Z64>::new(&self.context, ring, &masks), noised)?,
            Ring::Z128 => mask_at_once(Stream::<Z128>::new(&self.context, ring, &masks), noised)?,
        };
        Ok(Masked { bytes, header: self.record_masked(sha256)? })
    }

    /// Masks values without noise, in a round whose mode is exact. Nobody can call this yet: there is no [`Cleared`]
    /// value, and no such round begins.
    ///
    /// # Errors
    /// None: it does not return.
    pub fn mask_cleared(&mut self, cleared: &Cleared) -> Result<Masked, MpcError> {
        match *cleared {}
    }

    /// Masks a vector that does not fit in memory, in chunks of [`CHUNK_ELEMENTS`] elements (the last may be shorter).
    /// `fill` overwrites each chunk with the next noised values, `keep` is given the masked bytes of each in order.
    ///
    /// What was kept may leave only after this has returned, the state is durable and the header is signed: until the
    /// last chunk is here it is not known whether it is the same vector as before.
    ///
    /// Promise: as [`Self::mask`], *given that every value that `fill` writes has this member's noise in it*: here no
    /// type says so, the caller does. Noise must be drawn on from chunk to chunk, never anew for each from one seed.
    ///
    /// # Errors
    /// As [`Self::mask`], and those of `fill` and `keep`. After any of them what was kept must be thrown away.
    pub fn mask_stream_of_noised<E: From<MpcError>>(
        &mut self,
        fill: &mut dyn FnMut(&mut [i64]) -> Result<(), E>,
        keep: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<MaskedStream, E> {
        self.before_masking()?;
        let masks = self.masks()?;
        let ring = context::ring(&self.context)?;
        let sha256 = match ring {
            Ring::Z32 => mask_in_chunks(Stream::<Z32>::new(&self.context, ring, &masks), fill, keep)?,
            Ring::Z64 => mask_in_chunks(Stream::<Z64>::new(&self.context, ring, &masks), fill, keep)?,
            Ring::Z128 => mask_in_chunks(Stream::<Z128>::new(&self.context, ring, &masks), fill, keep)?,
        };
        Ok(MaskedStream { header: self.record_masked(sha256)? })
    }

    /// The header of what was masked, unless another vector was masked before.
    fn record_masked(&mut self, sha256: Hash) -> Result<MaskedHeader, MpcError> {
        if self.progress.masked.is_some_and(|before| before != sha256) {
            return Err(MpcError::SecondVector);
        }
        let header = self.header(sha256)?;
        self.progress.masked = Some(sha256);
        Ok(header)
    }

    /// The evidence again, from bytes that were made durable when they were masked.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] when nothing was masked, [`MpcError::VectorHash`] for other bytes.
    pub fn restore_masked(&self, bytes: Vec<u8>) -> Result<Masked, MpcError> {
        let sha256 = self.progress.masked.ok_or(MpcError::WrongStep { first: "mask a vector" })?;
        if Hash::of(&bytes) != sha256 {
            return Err(MpcError::VectorHash { from: self.me.clone() });
        }
        Ok(Masked { bytes, header: self.header(sha256)? })
    }

    /// The evidence again for a vector that was masked in chunks, from the hash of the bytes that were made durable.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] when nothing was masked, [`MpcError::VectorHash`] for another hash.
    pub fn restore_masked_stream(&self, sha256: Hash) -> Result<MaskedStream, MpcError> {
        match self.progress.masked {
            None => Err(MpcError::WrongStep { first: "mask a vector" }),
            Some(masked) if masked != sha256 => Err(MpcError::VectorHash { from: self.me.clone() }),
            Some(_) => Ok(MaskedStream { header: self.header(sha256)? }),
        }
    }

    /// Consents to one survivor set, once and for all: forgets its masks and, for every participant, the half of the
    /// shares that this set does not need. The same set again gives the same message.
    ///
    /// Promise: given any number of proposals, consents to one; from then on this member *cannot* open both halves of
    /// anybody's mask, because it holds one only. By erasure.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] before masking, [`MpcError::Survivors`] when the set breaks a rule or leaves this
    /// member out, [`MpcError::SecondSet`] after another set.
    pub fn sign_survivors(&mut self, survivors: &[Name]) -> Result<SurvivorSet, MpcError> {
        if self.progress.masked.is_none() {
            return Err(MpcError::WrongStep { first: "mask a vector" });
        }
        context::check_survivors(&self.context, survivors)?;
        if !survivors.contains(&self.me) {
            return Err(MpcError::Survivors("it leaves out the member that is to sign it"));
        }
        match &self.progress.signed {
            Some(before) if before != survivors => return Err(MpcError::SecondSet),
            Some(_) => {}
            None => {
                self.seeds = self.excess_seeds_only(survivors)?;
                self.forget(survivors);
                self.progress.signed = Some(survivors.to_vec());
            }
        }
        Ok(SurvivorSet { context: self.context_hash, from: self.me.clone(), survivors: survivors.to_vec() })
    }

    /// Opens what the agreed survivor set needs. `sets` are signatures of different members on the set this member
    /// signed; each must have been verified with the message key of the member it names. The same answer every time.
    ///
    /// Promise: given at least `t` signatures on its own set U, returns shares of self-mask seeds of U, shares of
    /// deposit keys of the others, and its own noise seeds in excess of |U| survivors; never both halves. Argued.
    ///
    /// # Errors
    /// [`MpcError::WrongStep`] before signing; [`MpcError::OtherContext`], [`MpcError::OtherSet`],
    /// [`MpcError::Signature`] for signatures that do not count; [`MpcError::TooFew`] of them.
    pub fn reveal(&self, sets: &[Verified<SurvivorSet>]) -> Result<Reveal, MpcError> {
        let first = "sign the survivor set";
        let survivors = self.progress.signed.as_deref().ok_or(MpcError::WrongStep { first })?;
        self.check_signatures(survivors, sets)?;
        let shares = |shares: &[[u8; 32]], survived: bool| {
            let all = self.context.participants.iter().zip(shares);
            all.filter(|(name, _)| survivors.contains(name) == survived)
                .map(|(of, share)| RevealedShare { of: of.clone(), share: Hash::from_bytes(*share) })
                .collect()
        };
        let excess = self.seeds.excess(&self.noise, count(survivors)?)?;
        Ok(Reveal {
            context: self.context_hash,
            deposit_key_shares: shares(&self.secrets.deposit_key_shares, false),
            excess_seeds: excess
                .iter()
                .map(|seed| ExcessSeed { component: seed.component, seed: Hash::from_bytes(seed.seed) })
                .collect(),
            from: self.me.clone(),
            self_mask_shares: shares(&self.secrets.self_mask_shares, true),
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

    /// The survivor set that this member signed, if it did.
    #[must_use]
    pub fn signed_survivors(&self) -> Option<&[Name]> {
        self.progress.signed.as_deref()
    }

    /// The whole state, secrets included, for the owner's store and for nothing else.
    ///
    /// # Errors
    /// Ours alone.
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, MpcError> {
        let context = canonical_bytes(&self.context).map_err(|_| MpcError::Internal("no canonical context"))?;
        let seeds: Vec<&[u8; 32]> = (0..self.seeds.count()).filter_map(|k| self.seeds.expose_seed_bytes(k)).collect();
        let seeds = Zeroizing::new(seeds.into_iter().flatten().copied().collect::<Vec<u8>>());
        let optional = |hash: &Option<Hash>| hash.map_or_else(Vec::new, |hash| hash.as_bytes().to_vec());
        let signed = self.progress.signed.as_ref().map_or_else(Vec::new, |survivors| {
            self.context.participants.iter().map(|name| u8::from(survivors.contains(name))).collect()
        });
        let parts: [&[u8]; 11] = [
            &context,
            self.me.as_str().as_bytes(),
            &seeds,
            &self.secrets.self_mask_seed,
            self.secrets.mask_keys.as_flattened(),
            self.secrets.open_keys.as_flattened(),
            self.secrets.self_mask_shares.as_flattened(),
            self.secrets.deposit_key_shares.as_flattened(),
            &optional(&self.progress.received),
            &optional(&self.progress.masked),
            &signed,
        ];
        Ok(state::write(&parts))
    }

    /// Reads what [`Self::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// [`MpcError::State`] when it did not, or another version did.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, MpcError> {
        let parts: [&[u8]; 11] = state::read(bytes)?;
        let [
            context,
            me,
            seeds,
            self_mask_seed,
            mask_keys,
            open_keys,
            self_mask,
            deposit_key,
            received,
            masked,
            signed,
        ] = parts;
        let context: RoundContext =
            serde_json::from_slice(context).map_err(|_| MpcError::State("it has no valid context"))?;
        let n = context.participants.len();
        let noise = NoisePlan::new(context.sigma2, n as u32, context.threshold, context.colluders)?;
        let context_hash = context::check(&context, &noise)?;
        let me =
            std::str::from_utf8(me).ok().and_then(|me| context.participants.iter().find(|name| name.as_str() == me));
        let me = me.ok_or(MpcError::State("its owner does not take part"))?.clone();
        let progress = read_progress(&context, received, masked, signed)?;
        let secrets = Secrets {
            self_mask_seed: state::one(self_mask_seed)?,
            mask_keys: state::many(mask_keys, if progress.signed.is_some() { 0 } else { n - 1 })?,
            open_keys: state::many(open_keys, if progress.received.is_some() { 0 } else { n - 1 })?,
            self_mask_shares: state::many(self_mask, n)?,
            deposit_key_shares: state::many(deposit_key, n)?,
        };
        let seeds = Zeroizing::new(state::many(seeds, noise.components().len())?);
        let seeds = NoiseSeeds::restore(&noise, seeds.iter().map(|seed| Seed::from_bytes(*seed)).collect())?;
        Ok(Self { context, context_hash, me, noise, seeds, secrets, progress })
    }

    fn before_signing(&self) -> Result<(), MpcError> {
        match self.progress.signed {
            None => Ok(()),
            Some(_) => Err(MpcError::WrongStep { first: "begin another round, this one's survivor set is signed" }),
        }
    }

    fn before_masking(&self) -> Result<(), MpcError> {
        self.before_signing()?;
        match self.progress.received {
            Some(_) => Ok(()),
            None => Err(MpcError::WrongStep { first: "receive the shares of all others" }),
        }
    }

    /// The self-mask and the mask with every other participant.
    fn masks(&self) -> Result<Vec<Mask>, MpcError> {
        let own = schedule::self_mask_key(&self.secrets.self_mask_seed, &self.context_hash, &self.me)?;
        let pairs = others(&self.context, &self.me).zip(&self.secrets.mask_keys);
        let pairs = pairs.map(|(peer, key)| Mask::new(key, sign_of(&self.me, peer)));
        Ok(std::iter::once(Mask::new(&own, Sign::Plus)).chain(pairs).collect())
    }

    fn header(&self, sha256: Hash) -> Result<MaskedHeader, MpcError> {
        let bytes = context::vector_bytes(&self.context)?;
        Ok(MaskedHeader { bytes, context: self.context_hash, from: self.me.clone(), sha256 })
    }

    /// The shares in the order of their senders, when there is exactly one from every other participant.
    fn by_sender<'a>(&self, shares: &'a [SealedShare]) -> Result<BTreeMap<&'a Name, &'a SealedShare>, MpcError> {
        let mut by_sender = BTreeMap::new();
        for share in shares.iter().take(self.context.participants.len()) {
            let refuse = |why| Err(MpcError::Shares { from: share.from.clone(), why });
            if share.to != self.me {
                return refuse("they are for somebody else");
            }
            if share.from == self.me || self.context.index_of(&share.from).is_none() {
                return refuse("the sender is no other participant");
            }
            if by_sender.insert(&share.from, share).is_some() {
                return refuse("there are two");
            }
        }
        let needed = self.context.participants.len() - 1;
        if by_sender.len() == needed && shares.len() == needed {
            Ok(by_sender)
        } else {
            Err(MpcError::TooFew {
                what: "sealed shares, one from every other participant",
                needed,
                found: shares.len(),
            })
        }
    }

    fn open_share(&self, share: &SealedShare, key: &[u8; 32]) -> Result<(usize, Zeroizing<Vec<u8>>), MpcError> {
        let from = || share.from.clone();
        let parts: [&[u8]; 3] =
            [self.context_hash.as_bytes(), share.from.as_str().as_bytes(), share.to.as_str().as_bytes()];
        let opened = schedule::open(key, SHARES_AAD, &parts, &share.ciphertext, SHARE_PAIR_BYTES);
        let index = self.context.index_of(&share.from).ok_or(MpcError::NotParticipant { name: from() })?;
        Ok((index, opened.ok_or(MpcError::Sealed { from: from() })?))
    }

    fn store_opened(&mut self, opened: &[(usize, Zeroizing<Vec<u8>>)]) -> Result<(), MpcError> {
        let ours = MpcError::Internal("an opened share has no place");
        for (index, plain) in opened {
            let (self_mask, deposit_key) = plain.split_first_chunk::<32>().ok_or(ours.clone())?;
            let deposit_key = deposit_key.first_chunk::<32>().ok_or(ours.clone())?;
            *self.secrets.self_mask_shares.get_mut(*index).ok_or(ours.clone())? = *self_mask;
            *self.secrets.deposit_key_shares.get_mut(*index).ok_or(ours.clone())? = *deposit_key;
        }
        Ok(())
    }

    /// The noise seeds with all but those in excess overwritten: what stays in the release is forgotten here.
    fn excess_seeds_only(&self, survivors: &[Name]) -> Result<NoiseSeeds, MpcError> {
        let excess = self.noise.excess(count(survivors)?)?;
        let seed = |component: usize| match self.seeds.expose_seed_bytes(component) {
            Some(bytes) if excess.contains(&component) => Seed::from_bytes(*bytes),
            _ => Seed::from_bytes([0; 32]),
        };
        Ok(NoiseSeeds::restore(&self.noise, (0..self.seeds.count()).map(seed).collect())?)
    }

    fn forget(&mut self, survivors: &[Name]) {
        self.secrets.self_mask_seed.zeroize();
        self.secrets.mask_keys.zeroize();
        let self_mask = self.secrets.self_mask_shares.iter_mut();
        let halves = self_mask.zip(&mut self.secrets.deposit_key_shares);
        for (name, (self_mask, deposit_key)) in self.context.participants.iter().zip(halves) {
            if survivors.contains(name) { deposit_key.zeroize() } else { self_mask.zeroize() }
        }
    }

    fn check_signatures(&self, survivors: &[Name], sets: &[Verified<SurvivorSet>]) -> Result<(), MpcError> {
        let mut signers: Vec<&Name> = Vec::new();
        for set in sets.iter().take(self.context.participants.len() + 1) {
            let from = || set.from.clone();
            if set.context != self.context_hash {
                return Err(MpcError::OtherContext { from: from() });
            }
            if set.survivors != survivors {
                return Err(MpcError::OtherSet { from: from() });
            }
            if !survivors.contains(&set.from) {
                return Err(MpcError::Signature { from: from(), why: "it is no survivor" });
            }
            if signers.contains(&&set.from) {
                return Err(MpcError::Signature { from: from(), why: "it is there twice" });
            }
            signers.push(&set.from);
        }
        let needed = self.context.threshold as usize;
        if signers.len() < needed {
            return Err(MpcError::TooFew { what: "signatures on the survivor set", needed, found: signers.len() });
        }
        Ok(())
    }
}

/// Whether no magnitude is above `bound`, which is below 2^62 (two members at least share Z_2^64). Looks at every value, so
/// that the time does not say where one is too large, and in four steps that processors do several at a time: with
/// w = value + bound, a value within has 0 ≤ w ≤ 2·bound < 2^63, and neither w nor 2·bound − w has its top digit set. A value
/// too small or too large has w above 2·bound as an unsigned number: by up to 2^63, and then 2·bound − w is negative,
/// or by more, and then w is.
fn all_within(values: &[i64], bound: i64) -> bool {
    let tops = values.iter().fold(0, |tops, value| {
        let above = value.wrapping_add(bound);
        tops | above | bound.wrapping_mul(2).wrapping_sub(above)
    });
    tops >= 0
}

/// Masks a vector that is in memory: its bytes and their hash.
fn mask_at_once<W: Word>(mut stream: Stream<'_, W>, noised: &Noised) -> Result<(Vec<u8>, Hash), MpcError> {
    let mut bytes = Vec::with_capacity(noised.values().len() * W::BYTES);
    for chunk in noised.values().chunks(CHUNK_ELEMENTS) {
        bytes.extend_from_slice(stream.mask(chunk)?);
    }
    Ok((bytes, stream.finish()))
}

/// Fills, masks and hands on one chunk after another; returns the hash of all bytes. Noised values are overwritten.
fn mask_in_chunks<W: Word, E: From<MpcError>>(
    mut stream: Stream<'_, W>,
    fill: &mut dyn FnMut(&mut [i64]) -> Result<(), E>,
    keep: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Hash, E> {
    let mut noised = Zeroizing::new(vec![0i64; stream.next_len()]);
    while stream.next_len() > 0 {
        let chunk =
            noised.get_mut(..stream.next_len()).ok_or(MpcError::Internal("a chunk is longer than its buffer"))?;
        fill(chunk)?;
        keep(stream.mask(chunk)?)?;
    }
    Ok(stream.finish())
}

/// All participants but `me`, in order.
pub(crate) fn others<'a>(context: &'a RoundContext, me: &'a Name) -> impl Iterator<Item = &'a Name> {
    context.participants.iter().filter(move |name| *name != me)
}

/// How `me` puts on the mask that it shares with `peer`: the name that sorts first adds.
pub(crate) fn sign_of(me: &Name, peer: &Name) -> Sign {
    if me < peer { Sign::Plus } else { Sign::Minus }
}

/// How many there are, as the noise plan counts.
pub(crate) fn count(names: &[Name]) -> Result<u32, MpcError> {
    u32::try_from(names.len()).map_err(|_| MpcError::Internal("more names than participants"))
}

/// What this member shares with each other participant in this round, in order.
struct PairKeys {
    mask: Vec<Key>,
    seal: Vec<Key>,
    open: Vec<Key>,
    advanced: Vec<(Name, Chain)>,
}

impl PairKeys {
    /// Derives all keys on copies of the chains.
    fn derive(
        context: &RoundContext,
        hash: &Hash,
        me: &Name,
        chains: &BTreeMap<Name, Chain>,
    ) -> Result<Self, MpcError> {
        let mut keys = Self { mask: Vec::new(), seal: Vec::new(), open: Vec::new(), advanced: Vec::new() };
        for peer in others(context, me) {
            let chain = chains.get(peer).ok_or(MpcError::NoChain { peer: peer.clone() })?;
            let mut chain = chain.working_copy();
            let secret: PairRoundSecret = chain.round_secret(context.position)?;
            keys.mask.push(secret.mask_key(hash, me, peer)?);
            keys.seal.push(secret.seal_key(hash, me, peer)?);
            keys.open.push(secret.seal_key(hash, peer, me)?);
            keys.advanced.push((peer.clone(), chain));
        }
        Ok(keys)
    }

    /// Puts the advanced chains in the place of the old ones, which are overwritten.
    fn commit(self, chains: &mut BTreeMap<Name, Chain>) {
        for (peer, advanced) in self.advanced {
            if let Some(chain) = chains.get_mut(&peer) {
                *chain = advanced;
            }
        }
    }
}

/// The pair mask keys under the deposit key, in the order of the other participants.
fn deposit(context: &Hash, me: &Name, key: &[u8; 32], mask_keys: &[Key]) -> Result<String, MpcError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(32 * mask_keys.len()));
    for mask_key in mask_keys {
        plain.extend_from_slice(&**mask_key);
    }
    schedule::seal(key, DEPOSIT_AAD, &[context.as_bytes(), me.as_str().as_bytes()], &plain)
}

/// Commitments to all components but the first, which is never revealed.
fn commit_excess(context: &Hash, me: &Name, seeds: &NoiseSeeds) -> Result<Vec<Hash>, MpcError> {
    let component = |component: u32| {
        let seed = seeds.expose_seed_bytes(component as usize).ok_or(MpcError::Internal("a noise seed is missing"))?;
        Ok(schedule::excess_commitment(context, me, component, seed))
    };
    (1..seeds.count() as u32).map(component).collect()
}

/// Commitments to the mask keys, in the order of the other participants.
fn commit_mask_keys(context: &RoundContext, hash: &Hash, me: &Name, mask_keys: &[Key]) -> Vec<Hash> {
    let pairs = others(context, me).zip(mask_keys);
    pairs.map(|(peer, key)| schedule::mask_key_commitment(hash, me, peer, key)).collect()
}

fn seal_shares(
    context: &RoundContext,
    hash: &Hash,
    me: &Name,
    keys: &[Key],
    self_mask: &[Key],
    deposit_key: &[Key],
) -> Result<Vec<SealedShare>, MpcError> {
    let dealt = context.participants.iter().zip(self_mask.iter().zip(deposit_key)).filter(|(to, _)| *to != me);
    let seal = |((to, (self_mask, deposit_key)), key): ((&Name, (&Key, &Key)), &Key)| {
        let plain = Zeroizing::new([**self_mask, **deposit_key]);
        let parts: [&[u8]; 3] = [hash.as_bytes(), me.as_str().as_bytes(), to.as_str().as_bytes()];
        let ciphertext = schedule::seal(key, SHARES_AAD, &parts, plain.as_flattened())?;
        Ok(SealedShare { ciphertext, from: me.clone(), to: to.clone() })
    };
    dealt.zip(keys).map(seal).collect()
}

/// What the accepted shares are called by.
fn hash_of_shares(shares: &BTreeMap<&Name, &SealedShare>) -> Hash {
    let parts: Vec<&[u8]> =
        shares.iter().flat_map(|(from, share)| [from.as_str().as_bytes(), share.ciphertext.as_bytes()]).collect();
    Hash::of_parts("cohortium/secure-sum/v3/received-shares", &parts)
}

fn read_progress(context: &RoundContext, received: &[u8], masked: &[u8], signed: &[u8]) -> Result<Progress, MpcError> {
    let optional = |part| state::optional(part).map(|bytes| bytes.map(Hash::from_bytes));
    let (received, masked) = (optional(received)?, optional(masked)?);
    let signed = if signed.is_empty() {
        None
    } else if signed.len() == context.participants.len() {
        let members = context.participants.iter().zip(signed).filter(|(_, is_in)| **is_in == 1);
        Some(members.map(|(name, _)| name.clone()).collect::<Vec<_>>())
    } else {
        return Err(MpcError::State("its survivor set has another length than the context says"));
    };
    if (masked.is_some() && received.is_none()) || (signed.is_some() && masked.is_none()) {
        return Err(MpcError::State("it skips a step"));
    }
    signed.as_deref().map_or(Ok(()), |survivors| context::check_survivors(context, survivors))?;
    Ok(Progress { received, masked, signed })
}

fn copy_keys(keys: &[Key]) -> Vec<[u8; 32]> {
    keys.iter().map(|key| **key).collect()
}

/// Zeros in every place but `index`.
fn only(keys: &[Key], index: usize) -> Vec<[u8; 32]> {
    keys.iter().enumerate().map(|(place, key)| if place == index { **key } else { [0; 32] }).collect()
}

fn narrow(number: usize) -> Result<u8, MpcError> {
    u8::try_from(number).map_err(|_| MpcError::Internal("more than 255 participants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_bounds_is_told_for_every_size() {
        let edges = [i64::MIN, i64::MIN + 1, -(1 << 62), -1, 0, 1, (1 << 62) - 1, 1 << 62, i64::MAX - 1, i64::MAX];
        for bound in [0, 1, 5, i64::from(i32::MAX) / 2, i64::from(i32::MAX) / 100, i64::MAX / 100, i64::MAX / 2] {
            let near = [bound - 1, bound, bound + 1].into_iter().flat_map(|value| [value, -value]);
            for value in edges.into_iter().chain(near) {
                let is_within = value.unsigned_abs() <= bound.unsigned_abs();
                assert_eq!(all_within(&[0, value, 0], bound), is_within, "{value} of {bound}");
            }
        }
        assert!(all_within(&[], 0) && !all_within(&[3, -3, 4], 3));
    }
}
