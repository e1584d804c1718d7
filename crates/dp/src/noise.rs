//! Noise that no one can take off, in parts that can be taken off when they turn out to be too much.
//!
//! Every node adds noise before masking. How much must be added depends on how many nodes will survive, which is
//! known only afterwards. So each node adds enough for the worst case, as a sum of components with a seed each, and
//! once the survivors are fixed reveals the seeds of the components in excess (XNoise: Jiang, Wang, Chen 2024,
//! "Dordis", arXiv 2209.12528, section 3).
//!
//! With guaranteed variance σ², n participants, threshold t and c tolerated colluders, component 0 has variance
//! ⌈σ²/(n−c)⌉ and component k = 1..=n−t has ⌈σ²/(n−k−c)⌉ − ⌈σ²/(n−k+1−c)⌉. The sums telescope: when u survive, the
//! n−u+1 components that are kept add up to ⌈σ²/(u−c)⌉ per node, so that the u−c honest survivors alone hold at
//! least σ², whoever the colluders are.
//!
//! Does not: decide who survives, commit to seeds, or make anything durable. The caller must reveal for one survivor
//! set only, ever: revealing for u and then for u' > u gives away more than either.
//! Assumes: at most c participants collude; they know their own noise, subtract it, and choose u.

use crate::raw::Raw;
use crate::sampler::{MAX_LEN, MAX_VARIANCE, SamplerError, Seed, Variance, gaussian_vector};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Most participants of one round: the protocols are written for 2 to 100 organisations; this leaves room.
pub const MAX_PARTICIPANTS: u32 = 256;
/// Raw values are clamped to this magnitude before noise, so that neither adding it nor summing over nodes can overflow.
///
/// A node's noise is at most 256 components of magnitude below 2^31, so below 2^39, and there are at most 256 nodes:
/// 256·(2^54 + 2^39) < 2^63, whoever takes part. Sensitivity only shrinks by clamping to a fixed interval (it is a
/// projection), so the promise is not touched. A cell of a billion persons with 2^24 steps each still fits.
pub const MAX_RAW_MAGNITUDE: i64 = 1 << 54;
/// Most draws of one node in one round, components times cells: measured at 15 to 30 ns each, that is up to 8 s of one
/// core. Without it a plan could ask for 2^32 of them, two minutes, and a hub for as long to take them off per survivor.
pub const MAX_DRAWS: usize = 1 << 28;

/// Adds this node's noise, all components, to raw values.
///
/// Promise: given raw integers of joint L2 sensitivity Δ and seeds that no other values were noised with (which nothing
/// here can check, because a node that crashed may do the same again), returns values that carry noise of variance
/// `plan.node_variance()`; never less, never the raw values. Together with the other honest survivors' noise the sum
/// is private at [`crate::price::plan_price`], *not* this vector alone: mask it. Argued: other parties' independent
/// noise is post-processing (Dwork and Roth 2014, Proposition 2.1), colluders subtract at most their own.
///
/// # Errors
/// [`NoiseError::SeedCount`] if the seeds belong to another plan, [`NoiseError::Sampler`] above [`MAX_LEN`] cells,
/// [`NoiseError::Draws`] above [`MAX_DRAWS`]. The raw values are dropped in any case.
pub fn add_noise(raw: Raw<Vec<i64>>, plan: &NoisePlan, seeds: &NoiseSeeds) -> Result<Noised, NoiseError> {
    if seeds.0.len() != plan.components.len() {
        return Err(NoiseError::SeedCount { expected: plan.components.len(), found: seeds.0.len() });
    }
    plan.check_work(raw.len())?;
    let mut values = raw.into_inner();
    for value in &mut values {
        *value = (*value).clamp(-MAX_RAW_MAGNITUDE, MAX_RAW_MAGNITUDE);
    }
    for (seed, variance) in seeds.0.iter().zip(&plan.components) {
        add_component(&mut values, seed, *variance)?;
    }
    Ok(Noised { values })
}

/// The noise of one node that is in excess when `survivors` remain, from the seeds it revealed.
///
/// The caller (the hub) subtracts it from the unmasked total, once per survivor, and must first check each seed
/// against that node's commitment. Public data in, public data out.
///
/// # Errors
/// [`NoiseError::Survivors`] for an impossible number, [`NoiseError::Revealed`] unless exactly the excess components
/// are there in rising order, [`NoiseError::Sampler`] above [`MAX_LEN`] cells, [`NoiseError::Draws`] above [`MAX_DRAWS`].
/// Nothing a peer sends makes this panic.
pub fn excess_noise(
    plan: &NoisePlan,
    survivors: u32,
    revealed: &[RevealedSeed],
    len: usize,
) -> Result<Vec<i64>, NoiseError> {
    let kept = plan.kept(survivors)?;
    let due = plan.components.iter().enumerate().skip(kept);
    if revealed.len() != due.len() {
        return Err(NoiseError::Revealed { expected: due.len() });
    }
    plan.check_work(len)?;
    let mut total = vec![0; len];
    for ((component, variance), part) in due.zip(revealed) {
        if usize::try_from(part.component) != Ok(component) {
            return Err(NoiseError::Revealed { expected: plan.components.len() - kept });
        }
        add_component(&mut total, &Seed::from_bytes(part.seed), *variance)?;
    }
    Ok(total)
}

/// How a guaranteed variance is divided over nodes and components. Public; every party derives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoisePlan {
    sigma2: u64,
    participants: u32,
    threshold: u32,
    colluders: u32,
    components: Vec<u64>,
}

impl NoisePlan {
    /// Plans noise so that any `threshold` or more survivors out of `participants`, of whom `colluders` are
    /// dishonest, leave at least `sigma2` (lattice steps squared) that nobody can subtract.
    ///
    /// # Errors
    /// [`NoiseError::Variance`] unless 1 ≤ σ² ≤ [`MAX_VARIANCE`]; [`NoiseError::Parties`] unless c < t ≤ n ≤
    /// [`MAX_PARTICIPANTS`].
    pub fn new(sigma2: u64, participants: u32, threshold: u32, colluders: u32) -> Result<Self, NoiseError> {
        if !(1..=MAX_VARIANCE).contains(&sigma2) {
            return Err(NoiseError::Variance { sigma2 });
        }
        if !(colluders < threshold && threshold <= participants && participants <= MAX_PARTICIPANTS) {
            return Err(NoiseError::Parties { participants, threshold, colluders });
        }
        // Fewer survivors, more variance each: from n downwards to t the shares rise; components are the steps.
        let mut components = Vec::new();
        let mut below = 0;
        for survivors in (threshold..=participants).rev() {
            let share = sigma2.div_ceil(u64::from(survivors - colluders));
            components.push(share - below);
            below = share;
        }
        Ok(Self { sigma2, participants, threshold, colluders, components })
    }

    /// The guaranteed variance σ², lattice steps squared: what the price is computed from.
    pub fn sigma2(&self) -> u64 {
        self.sigma2
    }

    /// Participants n.
    pub fn participants(&self) -> u32 {
        self.participants
    }

    /// Threshold t.
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Tolerated colluders c.
    pub fn colluders(&self) -> u32 {
        self.colluders
    }

    /// Variance of each component of one node's noise, lattice steps squared; n−t+1 of them, zeros allowed.
    pub fn components(&self) -> &[u64] {
        &self.components
    }

    /// How many components stay in the total when `survivors` remain: n − u + 1. The later ones are excess.
    ///
    /// # Errors
    /// [`NoiseError::Survivors`] unless t ≤ u ≤ n.
    pub fn kept(&self, survivors: u32) -> Result<usize, NoiseError> {
        if (self.threshold..=self.participants).contains(&survivors) {
            Ok((self.participants - survivors) as usize + 1)
        } else {
            Err(NoiseError::Survivors { survivors, threshold: self.threshold, participants: self.participants })
        }
    }

    /// Refuses vectors that take too long to noise. All components count, also those without variance or not in excess, so
    /// that what nodes may add the hub may take off. Ask before anything is charged: [`add_noise`] refuses the same, too
    /// late for the price.
    ///
    /// # Errors
    /// [`NoiseError::Sampler`] above [`MAX_LEN`] cells, [`NoiseError::Draws`] above [`MAX_DRAWS`].
    pub fn check_work(&self, len: usize) -> Result<(), NoiseError> {
        if len > MAX_LEN {
            return Err(SamplerError::TooLong { len }.into());
        }
        // At most 2^8 components of 2^24 cells: the product fits.
        let components = self.components.len();
        if len.saturating_mul(components) > MAX_DRAWS { Err(NoiseError::Draws { components, len }) } else { Ok(()) }
    }

    /// Variance of what one node adds before masking: ⌈σ²/(t−c)⌉, lattice steps squared.
    pub fn node_variance(&self) -> u64 {
        self.components.iter().sum()
    }

    /// Variance left in the total after excess is removed: u·⌈σ²/(u−c)⌉, lattice steps squared. For error bars.
    ///
    /// # Errors
    /// [`NoiseError::Survivors`] unless t ≤ u ≤ n.
    pub fn remaining_total_variance(&self, survivors: u32) -> Result<u128, NoiseError> {
        let kept = self.kept(survivors)?;
        let per_node: u64 = self.components.iter().take(kept).sum();
        Ok(u128::from(survivors) * u128::from(per_node))
    }
}

/// One node's seeds of one round, one per component. Secret until (and unless) excess is revealed.
///
/// No `Debug`, no `Serialize`, no `Clone`; overwritten when dropped.
pub struct NoiseSeeds(Vec<Seed>);

impl NoiseSeeds {
    /// Draws fresh seeds for a plan.
    pub fn draw(plan: &NoisePlan, rng: &mut dyn CryptoRng) -> Self {
        Self(plan.components.iter().map(|_| Seed::draw(rng)).collect())
    }

    /// Takes back seeds that the node's journal kept, after a crash: to reveal excess, or to noise the very same values
    /// again. Never for other values: the difference of two vectors with the same noise is exact.
    ///
    /// # Errors
    /// [`NoiseError::SeedCount`] unless there is one per component.
    pub fn restore(plan: &NoisePlan, seeds: Vec<Seed>) -> Result<Self, NoiseError> {
        if seeds.len() == plan.components.len() {
            Ok(Self(seeds))
        } else {
            Err(NoiseError::SeedCount { expected: plan.components.len(), found: seeds.len() })
        }
    }

    /// Number of seeds.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The secret bytes of one seed: with them anyone can remove that noise. For commitments and the journal only.
    pub fn expose_seed_bytes(&self, component: usize) -> Option<&[u8; 32]> {
        self.0.get(component).map(Seed::expose_bytes)
    }

    /// The seeds in excess when `survivors` remain, ready to be revealed.
    ///
    /// Promise: given the one survivor set of this round, returns only components whose removal leaves the honest
    /// survivors at least σ². Argued. Dangerous if called for two different sets: the caller's journal must forbid it.
    ///
    /// # Errors
    /// [`NoiseError::Survivors`] unless t ≤ u ≤ n; [`NoiseError::SeedCount`] if the seeds belong to another plan.
    pub fn excess(&self, plan: &NoisePlan, survivors: u32) -> Result<Vec<RevealedSeed>, NoiseError> {
        if self.0.len() != plan.components.len() {
            return Err(NoiseError::SeedCount { expected: plan.components.len(), found: self.0.len() });
        }
        let kept = plan.kept(survivors)?;
        let excess = (0u32..).zip(&self.0).skip(kept);
        Ok(excess.map(|(component, seed)| RevealedSeed { component, seed: *seed.expose_bytes() }).collect())
    }
}

/// A seed that is no longer secret, because its noise is in excess.
#[derive(Clone, PartialEq, Eq)]
pub struct RevealedSeed {
    /// Which component it makes.
    pub component: u32,
    /// The bytes it grows from.
    pub seed: [u8; 32],
}

impl core::fmt::Debug for RevealedSeed {
    /// Names the component only: the value may be printed before it is sent.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RevealedSeed").field("component", &self.component).finish_non_exhaustive()
    }
}

/// Values with this node's noise in, but with only a share of the whole: they may go to masking and nowhere else.
///
/// Made by [`add_noise`] alone. No `Debug`, no `Serialize`, no `Clone`; overwritten when dropped.
#[must_use = "the noise is drawn and the price reserved: mask it"]
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Noised {
    values: Vec<i64>,
}

impl Noised {
    /// The noised integers, for masking only: one node's share of noise is less than the price promises.
    pub fn values(&self) -> &[i64] {
        &self.values
    }
}

/// What can be wrong about a noise plan or a reveal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoiseError {
    /// The caller asked for a variance outside the proven range.
    #[error("caller: guaranteed variance {sigma2} is outside 1..={MAX_VARIANCE} lattice steps squared")]
    Variance {
        /// What was asked for.
        sigma2: u64,
    },
    /// The caller asked for an impossible round.
    #[error(
        "caller: need colluders < threshold <= participants <= {MAX_PARTICIPANTS}, \
         got colluders {colluders}, threshold {threshold}, participants {participants}"
    )]
    Parties {
        /// n.
        participants: u32,
        /// t.
        threshold: u32,
        /// c.
        colluders: u32,
    },
    /// A survivor count that this plan does not allow: below the threshold a round is void.
    #[error("caller: {survivors} survivors are outside {threshold}..={participants}")]
    Survivors {
        /// u.
        survivors: u32,
        /// t.
        threshold: u32,
        /// n.
        participants: u32,
    },
    /// Seeds and plan do not belong together.
    #[error("us: the plan has {expected} components but there are {found} seeds")]
    SeedCount {
        /// Components of the plan.
        expected: usize,
        /// Seeds given.
        found: usize,
    },
    /// A vector that would take too long to noise.
    #[error(
        "caller: {components} components of {len} cells are more than {MAX_DRAWS} draws; raise the threshold or ask for fewer cells"
    )]
    Draws {
        /// Components of the plan.
        components: usize,
        /// Cells of the vector.
        len: usize,
    },
    /// A peer revealed something else than its excess.
    #[error("peer: must reveal exactly the {expected} seeds in excess, in rising order of component")]
    Revealed {
        /// How many are due.
        expected: usize,
    },
    /// A limit of the sampler.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
}

/// Adds one component to every cell. A component of variance zero is all zeros and reads no randomness.
fn add_component(values: &mut [i64], seed: &Seed, sigma2: u64) -> Result<(), NoiseError> {
    if sigma2 == 0 {
        return Ok(());
    }
    let noise = Zeroizing::new(gaussian_vector(seed, Variance::new(sigma2)?, values.len())?);
    for (value, noise) in values.iter_mut().zip(noise.iter()) {
        // Cannot saturate: see MAX_RAW_MAGNITUDE.
        *value = value.saturating_add(*noise);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CRITICAL_RATE, Pmf, chi_squared, convolve, gaussian_pmf, seeded};
    use proptest::prelude::*;

    #[test]
    fn components_of_known_rounds() {
        for (sigma2, n, t, c, expected) in [
            (100, 3, 3, 1, &[50][..]),
            (100, 4, 3, 1, &[34, 16]),
            (7, 6, 4, 1, &[2, 0, 1]),
            (100, 2, 2, 1, &[100]),
            (1, 5, 3, 1, &[1, 0, 0]),
        ] {
            assert_eq!(NoisePlan::new(sigma2, n, t, c).unwrap().components(), expected);
        }
    }

    #[test]
    fn impossible_rounds_are_refused() {
        for (sigma2, n, t, c) in
            [(0, 3, 3, 1), (MAX_VARIANCE + 1, 3, 3, 1), (9, 3, 4, 1), (9, 3, 2, 2), (9, MAX_PARTICIPANTS + 1, 9, 1)]
        {
            assert!(NoisePlan::new(sigma2, n, t, c).is_err(), "σ² {sigma2} n {n} t {t} c {c}");
        }
        let plan = NoisePlan::new(9, 5, 4, 1).unwrap();
        assert!(plan.kept(3).is_err() && plan.kept(6).is_err() && plan.remaining_total_variance(6).is_err());
    }

    /// 256 components of 2^24 cells would be 2^32 draws, two minutes of work that one message asks for.
    #[test]
    fn too_many_draws_are_refused() {
        let plan = NoisePlan::new(1 << 40, MAX_PARTICIPANTS, 2, 1).unwrap();
        let components = plan.components().len();
        let (fits, too_long) = (MAX_DRAWS / components, MAX_DRAWS / components + 1);
        assert!(plan.check_work(fits).is_ok() && fits > 1 << 20, "{fits}");
        let expected = NoiseError::Draws { components, len: too_long };
        assert_eq!(plan.check_work(too_long), Err(expected.clone()));
        let seeds = NoiseSeeds::draw(&plan, &mut seeded(5));
        assert_eq!(add_noise(Raw::new(vec![0; too_long]), &plan, &seeds).err(), Some(expected.clone()));
        let revealed = seeds.excess(&plan, MAX_PARTICIPANTS).unwrap();
        assert_eq!(excess_noise(&plan, MAX_PARTICIPANTS, &revealed, too_long), Err(expected));
        let few = NoisePlan::new(4, 2, 2, 1).unwrap();
        assert!(few.check_work(MAX_LEN).is_ok() && few.check_work(MAX_LEN + 1).is_err());
    }

    proptest! {
        #[test]
        fn shares_telescope(sigma2 in 1..=MAX_VARIANCE, c in 0u32..80, above_c in 1u32..80, above_t in 0u32..80) {
            let (t, n) = (c + above_c, c + above_c + above_t);
            let plan = NoisePlan::new(sigma2, n, t, c).unwrap();
            prop_assert_eq!(plan.components().len(), (n - t) as usize + 1);
            prop_assert_eq!(plan.node_variance(), sigma2.div_ceil(u64::from(t - c)));
            for u in t..=n {
                let share: u64 = plan.components().iter().take(plan.kept(u).unwrap()).sum();
                prop_assert_eq!(share, sigma2.div_ceil(u64::from(u - c)));
                prop_assert!(u64::from(u - c) * share >= sigma2);
                prop_assert_eq!(plan.remaining_total_variance(u).unwrap(), u128::from(u) * u128::from(share));
            }
        }

        #[test]
        fn removing_excess_leaves_exactly_the_kept_components(u in 4u32..=6, seed in 0u8..255, sigma2 in 1u64..5000) {
            let plan = NoisePlan::new(sigma2, 6, 4, 1).unwrap();
            let seeds = NoiseSeeds::draw(&plan, &mut seeded(seed));
            let raw = vec![5, -7, i64::MAX, i64::MIN, 0];
            let clamped = [5, -7, MAX_RAW_MAGNITUDE, -MAX_RAW_MAGNITUDE, 0];
            let noised = add_noise(Raw::new(raw), &plan, &seeds).unwrap();
            let excess = excess_noise(&plan, u, &seeds.excess(&plan, u).unwrap(), 5).unwrap();
            let mut kept = clamped.to_vec();
            for (k, variance) in plan.components().iter().enumerate().take(plan.kept(u).unwrap()) {
                add_component(&mut kept, &Seed::from_bytes(*seeds.expose_seed_bytes(k).unwrap()), *variance).unwrap();
            }
            let left: Vec<i64> = noised.values().iter().zip(&excess).map(|(a, b)| a - b).collect();
            prop_assert_eq!(left, kept);
        }
    }

    #[test]
    fn bad_reveals_are_refused() {
        let plan = NoisePlan::new(100, 6, 4, 1).unwrap();
        let seeds = NoiseSeeds::draw(&plan, &mut seeded(1));
        let good = seeds.excess(&plan, 6).unwrap();
        assert!(excess_noise(&plan, 6, &good, 3).is_ok());
        let reversed: Vec<_> = good.iter().rev().cloned().collect();
        let twice = vec![good[0].clone(), good[0].clone()];
        let kept_too: Vec<_> = (0..3).map(|component| RevealedSeed { component, seed: [0; 32] }).collect();
        let cases: [(&str, &[RevealedSeed]); 4] =
            [("missing", &good[..1]), ("reversed", &reversed), ("twice", &twice), ("kept component", &kept_too)];
        for (name, bad) in cases {
            assert_eq!(excess_noise(&plan, 6, bad, 3), Err(NoiseError::Revealed { expected: 2 }), "{name}");
        }
        assert!(excess_noise(&plan, 6, &good, MAX_LEN + 1).is_err());
        assert!(excess_noise(&plan, 3, &good, 3).is_err());
        let other = NoisePlan::new(100, 6, 6, 1).unwrap();
        assert!(add_noise(Raw::new(vec![1]), &other, &seeds).is_err());
        assert!(seeds.excess(&other, 6).is_err());
    }

    #[test]
    fn restored_seeds_reveal_the_same() {
        let plan = NoisePlan::new(100, 6, 4, 1).unwrap();
        let seeds = NoiseSeeds::draw(&plan, &mut seeded(2));
        let kept = (0..seeds.count()).map(|k| Seed::from_bytes(*seeds.expose_seed_bytes(k).unwrap())).collect();
        let restored = NoiseSeeds::restore(&plan, kept).unwrap();
        assert!(restored.excess(&plan, 5).unwrap() == seeds.excess(&plan, 5).unwrap());
        assert!(NoiseSeeds::restore(&plan, vec![Seed::from_bytes([0; 32])]).is_err());
        assert!(!format!("{:?}", seeds.excess(&plan, 4).unwrap()).contains("seed:"));
    }

    /// What is left in the released total follows the exact convolution; a wrong variance share does not.
    #[test]
    fn released_total_follows_its_exact_distribution() {
        let (seed, len, u) = (41u8, 200_000usize, 5u32);
        let plan = NoisePlan::new(7, 6, 4, 1).unwrap();
        let mut rng = seeded(seed);
        let mut total = vec![0i64; len];
        for _ in 0..u {
            let seeds = NoiseSeeds::draw(&plan, &mut rng);
            let noised = add_noise(Raw::new(vec![0; len]), &plan, &seeds).unwrap();
            let excess = excess_noise(&plan, u, &seeds.excess(&plan, u).unwrap(), len).unwrap();
            for ((sum, value), gone) in total.iter_mut().zip(noised.values()).zip(&excess) {
                *sum += value - gone;
            }
        }
        let exact = |variances: &[u64]| {
            variances.iter().map(|v| gaussian_pmf(*v as f64)).reduce(|a: Pmf, b| convolve(&a, &b)).unwrap()
        };
        let kept: Vec<u64> = plan.components().iter().take(2).copied().filter(|v| *v > 0).collect();
        let right = exact(&kept.repeat(u as usize));
        let test = chi_squared(&total, &right);
        assert!(!test.alarming(), "seed {seed}, n {len}, rate {CRITICAL_RATE}: {test:?}");
        // Seeded bug: the share σ²/n instead of σ²/(u−c).
        let wrong = exact(&[7u64.div_ceil(6) - 1; 5]);
        assert!(chi_squared(&total, &wrong).alarming(), "a wrong variance share passed");
    }
}
