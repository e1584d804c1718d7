//! Statistics of all samplers, and what they do with parameters at the edge and generators that are broken.
//!
//! A sample of [`SAMPLES`] draws is looked at by three instruments, each with a false-alarm rate of 1e-6: chi-squared
//! over at most 24 cells; the number of draws in the outermost thousandth of the law; chi-squared of the sums of
//! neighbouring draws. The first finds, with probability 0.99, any law whose cells differ by 1.5 % (root mean square,
//! relative; from the non-central chi-squared distribution); the second a tail that is a third too light; the third,
//! with half as many values, correlations of 3 %. `wrong_samplers_are_flagged` has seen each of them fail.

use dashu::base::Abs;
use dashu::integer::UBig;

use super::bernoulli::{bernoulli_exp_big, uniform_below};
use super::table::{Law, Table, thresholds};
use super::*;
use crate::exact::tests::{Oracle, is_close, oracle, oracle_exp_neg};
use crate::exact::{DIGITS, Probability};
use crate::interval::normal_quantile;
use crate::testing::{
    CRITICAL_RATE, Pmf, Scripted, chi_squared, convolve, gaussian_pmf, laplace_pmf, seeded, statistic_is_alarming,
};

const SAMPLES: usize = 400_000;
/// Two-sided normal quantile at the false-alarm rate.
const CRITICAL_DEVIATION: f64 = 4.892;
/// Beyond this many values, the law of a sum of two is not computed.
const MAX_CONVOLVED: usize = 4_000;

// ---------------------------------------------------------------- laws

#[test]
fn gaussians_agree_with_their_exact_pmf() {
    let variances: [(u64, u64); 12] = [
        (1, 1),
        (2, 1),
        (3, 1),
        (7, 2),
        (1, 5),
        (100, 3),
        (256, 1),
        (257, 1),
        (12_345, 7),
        (1 << 20, 1),
        // Numerator and denominator that need more than 128 bits in the one-at-a-time sampler.
        (u64::MAX / 3, 1 << 61),
        (u64::MAX, (1 << 50) + 1),
    ];
    for (seed, (num, den)) in (1u8..).zip(variances) {
        let variance = Variance::ratio(num, den).unwrap();
        let pmf = gaussian_pmf(num as f64 / den as f64);
        let (mut rng, mut many) = (seeded(seed), vec![0; SAMPLES]);
        let one: Vec<i64> = (0..SAMPLES).map(|_| discrete_gaussian(&mut rng, variance)).collect();
        GaussianSampler::new(variance).fill(&mut rng, &mut many);
        assert_right(&format!("one Gaussian of σ² {num}/{den}, seed {seed}"), &one, &pmf);
        assert_right(&format!("many Gaussians of σ² {num}/{den}, seed {seed}"), &many, &pmf);
    }
}

#[test]
fn laplaces_agree_with_their_exact_pmf() {
    for (seed, (num, den)) in (21u8..).zip([(1, 1), (2, 1), (7, 3), (1000, 1), (1, 3), (u64::MAX, 1 << 62)]) {
        let mut rng = seeded(seed);
        let scale = Scale::ratio(num, den).unwrap();
        let samples: Vec<i64> = (0..SAMPLES).map(|_| discrete_laplace(&mut rng, scale)).collect();
        assert_right(&format!("t {num}/{den}, seed {seed}"), &samples, &laplace_pmf(num as f64 / den as f64));
    }
}

#[test]
fn truncated_geometrics_agree_with_their_exact_pmf() {
    // The bound is below the scale, at it, just above, and far out.
    for (seed, (num, den, bound)) in
        (31u8..).zip([(20, 1, 7u64), (5, 2, 2), (3, 1, 3), (3, 2, 40), (1, 2, 1), (9, 4, 0)])
    {
        let mut rng = seeded(seed);
        let scale = Scale::ratio(num, den).unwrap();
        let samples: Vec<i64> = (0..SAMPLES).map(|_| truncated_geometric(&mut rng, scale, bound)).collect();
        assert!(samples.iter().all(|x| x.unsigned_abs() <= bound), "t {num}/{den}, bound {bound}, seed {seed}");
        let t = num as f64 / den as f64;
        let weights: Pmf = (-(bound as i64)..=bound as i64).map(|x| (-x.abs() as f64 / t).exp()).collect();
        assert_right(&format!("t {num}/{den}, bound {bound}, seed {seed}"), &samples, &normalised(weights));
    }
}

#[test]
fn skellams_agree_with_their_exact_pmf() {
    for (seed, (num, den)) in (41u8..).zip([(1, 1), (1, 3), (20, 1), (99, 2), (2000, 1)]) {
        let mut samples = vec![0; SAMPLES];
        SkellamSampler::new(Variance::ratio(num, den).unwrap()).unwrap().fill(&mut seeded(seed), &mut samples);
        let pmf = skellam_pmf(num as f64 / den as f64);
        assert_right(&format!("σ² {num}/{den}, seed {seed}"), &samples, &pmf);
    }
}

fn skellam_pmf(sigma2: f64) -> Pmf {
    let mean = sigma2 / 2.0;
    let most = (mean + 12.0 * mean.sqrt() + 30.0).ceil() as usize;
    let log_weight = |x: usize| x as f64 * mean.ln() - libm::lgamma(x as f64 + 1.0) - mean;
    let poisson: Pmf = normalised((0..=most).map(|x| log_weight(x).exp()).collect());
    let mirrored = poisson.iter().rev().copied().collect();
    convolve(&poisson, &mirrored)
}

/// At the limits the pmf cannot be tabulated; twenty cells of equal normal probability are exact to 1e-6 there.
#[test]
fn the_widest_fill_normal_cells_evenly() {
    let widest = Variance::new(MAX_VARIANCE).unwrap();
    let (mut rng, mut many) = (seeded(51), vec![0; SAMPLES]);
    GaussianSampler::new(widest).fill(&mut rng, &mut many);
    let one: Vec<i64> = (0..SAMPLES).map(|_| discrete_gaussian(&mut rng, widest)).collect();
    // Several Poissons in a draw.
    let skellam = SkellamSampler::new(Variance::new(5 << 20).unwrap()).unwrap();
    let sums: Vec<i64> = (0..SAMPLES).map(|_| skellam.draw(&mut rng)).collect();
    let sigma = (MAX_VARIANCE as f64).sqrt();
    for (name, samples, sigma) in [("many", many, sigma), ("one", one, sigma), ("sums", sums, (5u64 << 20) as f64)] {
        let sigma = if name == "sums" { sigma.sqrt() } else { sigma };
        let cells = 20usize;
        let cuts: Vec<f64> = (1..cells).map(|i| normal_quantile(i as f64 / cells as f64) * sigma).collect();
        let mut counts = vec![0f64; cells];
        for x in samples {
            // A cut falls between two integers, half a step from either on average.
            counts[cuts.iter().filter(|cut| **cut < x as f64).count()] += 1.0;
        }
        let expected = SAMPLES as f64 / cells as f64;
        let statistic: f64 = counts.iter().map(|n| (n - expected).powi(2) / expected).sum();
        assert!(!statistic_is_alarming(statistic, cells - 1), "{name}, seed 51: {statistic}");
    }
}

/// The masses that the widened sampler really has, from its own thresholds, against the formula: to 1e-90.
#[test]
fn widened_masses_are_those_of_the_law() {
    for (num, shift) in [(257u64, 1u32), (1025, 2), (5000, 3)] {
        let (_, thresholds) = thresholds(Law::HalfGaussian { num, den: 1 << (2 * shift) });
        let k = 1u64 << shift;
        let unit = oracle(&(UBig::ONE << DIGITS));
        let (mut below, mut masses) = (UBig::ZERO, Vec::new());
        for (x, threshold) in (0u64..).zip(&thresholds) {
            for y in 0..k {
                let keep = Probability::exp_neg(&UBig::from(y * (y + 2 * k * x)), &UBig::from(2 * num));
                let mass = oracle(&(threshold - &below)) / &unit * (oracle(&keep.to_bits()) / &unit);
                // Both signs, but one zero.
                masses.push(if x == 0 && y == 0 { mass } else { mass * oracle(&UBig::from(2u8)) });
            }
            below = threshold.clone();
        }
        let exact: Vec<Oracle> = (0..masses.len() as u64)
            .map(|z| {
                let weight = oracle_exp_neg(&UBig::from(z * z), &UBig::from(2 * num));
                if z == 0 { weight } else { weight * oracle(&UBig::from(2u8)) }
            })
            .collect();
        let sum = |terms: &[Oracle]| terms.iter().fold(Oracle::ZERO, |sum, term| sum + term);
        let (found, due) = (sum(&masses), sum(&exact));
        for (z, (mass, weight)) in masses.iter().zip(&exact).enumerate() {
            assert!(is_close(&(mass / &found), &(weight / &due), 300), "σ² {num}, z {z}");
        }
        // And the instrument sees a difference where there is one.
        assert!((&masses[1] / &found - &exact[2] / &due).abs() > oracle(&UBig::ONE) / oracle(&(UBig::ONE << 40)));
    }
}

#[test]
fn bernoulli_comes_as_often_as_it_should() {
    for (seed, (num, den)) in
        (61u8..).zip([(0u128, 1u128), (1, 1), (1, 1000), (7, 3), (u128::MAX, u128::MAX / 2), (3, u128::MAX)])
    {
        let (mut rng, mut big_rng) = (seeded(seed), seeded(seed));
        let drawn: Vec<bool> = (0..SAMPLES).map(|_| bernoulli_exp(&mut rng, num, den)).collect();
        let p = (-(num as f64 / den as f64)).exp();
        let count = drawn.iter().filter(|x| **x).count() as f64;
        let deviation = (count - p * SAMPLES as f64).abs();
        assert!(deviation <= CRITICAL_DEVIATION * (SAMPLES as f64 * p * (1.0 - p)).sqrt(), "{num}/{den}, seed {seed}");
        // One law, one way to read words: the arithmetic behind it is of no matter.
        let (num, den) = (UBig::from(num), UBig::from(den));
        assert!(drawn.iter().all(|x| *x == bernoulli_exp_big(&mut big_rng, &num, &den)), "{num}/{den}, seed {seed}");
    }
    let (huge, huger) = (UBig::ONE << 500, UBig::from(7u8) << 500);
    let mut rng = seeded(70);
    let drawn = (0..SAMPLES).filter(|_| bernoulli_exp_big(&mut rng, &huge, &huger)).count() as f64;
    let p = (-1.0f64 / 7.0).exp();
    assert!((drawn - p * SAMPLES as f64).abs() <= CRITICAL_DEVIATION * (SAMPLES as f64 * p * (1.0 - p)).sqrt());
    assert!((0..1000).all(|_| !bernoulli_exp_big(&mut rng, &huger, &UBig::ONE)));
}

#[test]
fn uniform_draws_are_even() {
    for (seed, n) in [(71u8, 2u128), (72, 7), (73, 24)] {
        let mut rng = seeded(seed);
        // An odd range around zero is what the instrument takes; an even one leaves its first value out.
        let r = n as i64 / 2;
        let samples: Vec<i64> = (0..SAMPLES).map(|_| uniform_below(&mut rng, n) as i64 - r).collect();
        let pmf: Pmf = (-r..=r).map(|x| if x < n as i64 - r { 1.0 / n as f64 } else { 0.0 }).collect();
        assert!(!chi_squared(&samples, &pmf).alarming(), "n {n}, seed {seed}");
    }
    let (mut rng, n) = (seeded(74), (1u128 << 100) + 1);
    let high = (0..SAMPLES).filter(|_| uniform_below(&mut rng, n) >> 99 > 0).count() as f64;
    assert!((high - SAMPLES as f64 / 2.0).abs() <= CRITICAL_DEVIATION * (SAMPLES as f64 / 4.0).sqrt(), "seed 74");
}

// ---------------------------------------------------------------- the instruments, and that they can fail

fn assert_right(name: &str, samples: &[i64], pmf: &Pmf) {
    let alarms = alarms(samples, pmf);
    assert!(alarms.is_empty(), "{name}, n {}, rate {CRITICAL_RATE} each: {alarms:?}", samples.len());
}

/// Which of the three instruments are alarmed.
fn alarms(samples: &[i64], pmf: &Pmf) -> Vec<&'static str> {
    let mut alarms = Vec::new();
    // A law that fits one cell has nothing to compare.
    if pmf.len() > 1 && chi_squared(samples, pmf).alarming() {
        alarms.push("law");
    }
    let (r, mass) = outermost(pmf);
    let expected = mass * samples.len() as f64;
    let seen = samples.iter().filter(|x| x.unsigned_abs() as usize >= r).count() as f64;
    if (seen - expected).abs() > CRITICAL_DEVIATION * (expected * (1.0 - mass)).sqrt() {
        alarms.push("tail");
    }
    if (2..MAX_CONVOLVED).contains(&pmf.len()) {
        let sums: Vec<i64> = samples.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
        if chi_squared(&sums, &convolve(pmf, pmf)).alarming() {
            alarms.push("neighbours");
        }
    }
    alarms
}

/// The least magnitude, and the probability of it or more, such that this is at least a thousandth.
fn outermost(pmf: &Pmf) -> (usize, f64) {
    let centre = pmf.len() / 2;
    let mut mass = 0.0;
    for r in (1..=centre).rev() {
        mass += pmf[centre - r] + pmf[centre + r];
        if mass >= 1e-3 {
            return (r, mass);
        }
    }
    (0, 1.0)
}

/// Each of these samplers has a mistake that was made somewhere before, or is easily made here.
#[test]
fn wrong_samplers_are_flagged() {
    let hundred = Variance::new(100).unwrap();
    let gaussian = |variance: Variance, seed: u8| {
        let mut cells = vec![0; SAMPLES];
        GaussianSampler::new(variance).fill(&mut seeded(seed), &mut cells);
        cells
    };
    let mut rng = seeded(81);
    let mut uniform = move || (rand_core::Rng::next_u64(&mut rng) >> 11) as f64 / (1u64 << 53) as f64;
    let rounded_normal = |_| {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        (1.2 * radius * (core::f64::consts::TAU * uniform()).cos()).round() as i64
    };
    let rounded: Vec<i64> = (0..SAMPLES).map(rounded_normal).collect();
    let mut rng = seeded(82);
    let two_zeros: Vec<i64> = (0..SAMPLES)
        .map(|_| {
            let x = discrete_laplace(&mut rng, Scale::new(3).unwrap());
            if x.unsigned_abs() == 1 && uniform_below(&mut rng, 16) == 0 { 0 } else { x }
        })
        .collect();
    let variance_off = gaussian(Variance::new(102).unwrap(), 83);
    let mut no_tail = gaussian(hundred, 84);
    no_tail.iter_mut().filter(|x| x.unsigned_abs() > 33).for_each(|x| *x /= 2);
    let mut correlated = gaussian(hundred, 85);
    correlated.chunks_exact_mut(2).step_by(20).for_each(|pair| pair[1] = pair[0]);

    let laplace = laplace_pmf(3.0);
    let (narrow, wide) = (gaussian_pmf(100.0), gaussian_pmf(300.0));
    let cases: [(&str, &[i64], &Pmf, &str); 5] = [
        ("rounded float normal", &rounded, &gaussian_pmf(1.44), "law"),
        ("zero drawn too often", &two_zeros, &laplace, "law"),
        ("σ² 102 for 100", &variance_off, &narrow, "law"),
        ("tail cut at 3.3 σ", &no_tail, &narrow, "tail"),
        ("one pair in twenty the same", &correlated, &narrow, "neighbours"),
    ];
    for (name, samples, pmf, alarm) in cases {
        assert!(alarms(samples, pmf).contains(&alarm), "{name} passed");
    }
    for (bug, alarming) in [
        (Bug::None, false),
        (Bug::EverythingKept, true),
        (Bug::TwoZeros, true),
        (Bug::OtherWidth, true),
        (Bug::NothingBetween, true),
    ] {
        let mut rng = seeded(86);
        let base = Table::new(Law::HalfGaussian { num: 300, den: 4 });
        let samples: Vec<i64> = (0..SAMPLES).map(|_| widened_with(bug, &base, &mut rng)).collect();
        assert_eq!(!alarms(&samples, &wide).is_empty(), alarming, "{bug:?}: {:?}", alarms(&samples, &wide));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    EverythingKept,
    TwoZeros,
    OtherWidth,
    NothingBetween,
}

/// σ² = 300 widened by k = 2, written plainly, with a place for each mistake.
fn widened_with(bug: Bug, base: &Table, rng: &mut impl CryptoRng) -> i64 {
    loop {
        let k = if bug == Bug::OtherWidth { 3 } else { 2 };
        let x = base.draw(rng);
        let y = if bug == Bug::NothingBetween { 0 } else { uniform_below(rng, u128::from(k)) as u64 };
        if !bernoulli_exp(rng, u128::from(y * (y + 2 * k * x)), 600) && bug != Bug::EverythingKept {
            continue;
        }
        let z = (k * x + y) as i64;
        match uniform_below(rng, 2) {
            1 if z == 0 && bug != Bug::TwoZeros => {}
            1 => return -z,
            _ => return z,
        }
    }
}

fn normalised(weights: Pmf) -> Pmf {
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

// ---------------------------------------------------------------- edges

#[test]
fn parameters_outside_the_proof_are_refused() {
    for (num, den) in
        [(0, 1), (1, 0), (0, 0), (MAX_VARIANCE + 1, 1), (u64::MAX, 1), (1, MAX_DIVISOR + 1), (1, u64::MAX)]
    {
        assert_eq!(Variance::ratio(num, den), Err(SamplerError::Variance { num, den }));
        assert_eq!(Scale::ratio(num, den), Err(SamplerError::Scale { num, den }));
    }
    for sigma2 in [0, MAX_VARIANCE + 1] {
        assert!(Variance::new(sigma2).is_err() && Scale::new(sigma2).is_err());
    }
    let above = Variance::ratio((1 << 31) + 1, 2).unwrap();
    assert!(matches!(SkellamSampler::new(above), Err(SamplerError::Skellam { .. })));
    let seed = Seed::from_bytes([0; 32]);
    let variance = Variance::new(1).unwrap();
    assert_eq!(gaussian_vector(&seed, variance, MAX_LEN + 1), Err(SamplerError::TooLong { len: MAX_LEN + 1 }));
    assert_eq!(gaussian_vector(&seed, variance, 0), Ok(vec![]));
}

#[test]
fn equal_fractions_are_equal() {
    assert_eq!(Variance::ratio(14, 4), Variance::ratio(7, 2));
    assert_eq!(Variance::ratio(6, 2), Variance::new(3));
    let scale = Scale::ratio(u64::MAX, u64::MAX).unwrap();
    assert_eq!((scale.num(), scale.den()), (1, 1));
}

#[test]
fn parameters_at_the_edges_give_noise_of_their_size() {
    let mut rng = seeded(91);
    let tiny = Variance::ratio(1, MAX_DIVISOR).unwrap();
    let (no_scale, most) = (Scale::ratio(1, MAX_DIVISOR).unwrap(), Scale::new(MAX_SCALE).unwrap());
    for _ in 0..1000 {
        assert_eq!(discrete_gaussian(&mut rng, tiny), 0);
        assert_eq!(GaussianSampler::new(tiny).draw(&mut rng), 0);
        assert_eq!(discrete_laplace(&mut rng, no_scale), 0);
        assert_eq!(truncated_geometric(&mut rng, no_scale, u64::MAX), 0);
        assert_eq!(SkellamSampler::new(tiny).unwrap().draw(&mut rng), 0);
        assert!(discrete_laplace(&mut rng, most).unsigned_abs() < 1 << 51);
        assert!(truncated_geometric(&mut rng, most, u64::MAX).unsigned_abs() < 1 << 51);
        assert!(truncated_geometric(&mut rng, most, MAX_SCALE - 1).unsigned_abs() < MAX_SCALE);
    }
}

/// Vectors are prefixes of one another, and drawing one by one is the same as filling.
#[test]
fn filling_is_drawing_in_order() {
    for sigma2 in [3, 1_000_000] {
        let sampler = GaussianSampler::new(Variance::new(sigma2).unwrap());
        let mut cells = [0; 50];
        sampler.fill(&mut seeded(92), &mut cells);
        let mut rng = seeded(92);
        assert!(cells.iter().all(|cell| *cell == sampler.draw(&mut rng)), "σ² {sigma2}");
        let mut dyn_rng: Box<dyn CryptoRng> = Box::new(seeded(92));
        assert_eq!(sampler.draw(&mut *dyn_rng), cells[0]);
    }
}

/// A generator that is stuck must not hang, overflow or panic us.
#[test]
fn stuck_generators_end() {
    for word in [0, 1, 2, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 0x5e2d_58d8_b3bc_df1a] {
        let mut rng = Scripted::new(vec![word]);
        for (num, den) in [(7, 2), (257, 1), (1, MAX_DIVISOR), (u64::MAX, 1 << 33)] {
            let variance = Variance::ratio(num, den).unwrap();
            assert!(discrete_gaussian(&mut rng, variance).unsigned_abs() < 1 << 31);
            assert!(GaussianSampler::new(variance).draw(&mut rng).unsigned_abs() < 1 << 25);
            let scale = Scale::ratio(num, den).unwrap();
            assert!(discrete_laplace(&mut rng, scale).unsigned_abs() < 1 << 51);
            for bound in [0, 1, 1 << 39, u64::MAX] {
                assert!(truncated_geometric(&mut rng, scale, bound).unsigned_abs() <= bound);
            }
        }
        for sigma2 in [1, 1000] {
            let sampler = SkellamSampler::new(Variance::new(sigma2).unwrap()).unwrap();
            assert!(sampler.draw(&mut rng).unsigned_abs() < 1 << 31);
        }
        bernoulli_exp(&mut rng, 1, 1);
        bernoulli_exp(&mut rng, u128::MAX, 0);
        assert!(uniform_below(&mut rng, u128::MAX) < u128::MAX);
    }
}
