//! Tests of all samplers.

use super::*;
use crate::testing::{CRITICAL_RATE, chi_squared, gaussian_pmf, laplace_pmf, seeded};

const SAMPLES: usize = 400_000;

#[test]
fn one_gaussian_agrees_with_its_exact_pmf() {
    for (seed, num, den) in
        [(1u8, 1, 1), (2, 2, 1), (3, 7, 2), (4, 10, 1), (5, 100, 3), (6, 12_345, 1), (7, 1 << 20, 1), (8, 1, 5)]
    {
        let mut rng = seeded(seed);
        let variance = Variance::ratio(num, den).unwrap();
        let samples: Vec<i64> = (0..SAMPLES).map(|_| discrete_gaussian(&mut rng, variance)).collect();
        let test = chi_squared(&samples, &gaussian_pmf(num as f64 / den as f64));
        assert!(!test.alarming(), "seed {seed}, σ² {num}/{den}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
    }
}

#[test]
fn many_gaussians_agree_with_their_exact_pmf() {
    for (seed, num, den) in
        [(1u8, 1, 1), (2, 2, 1), (3, 7, 2), (4, 256, 1), (5, 257, 1), (6, 12_345, 7), (7, 1 << 20, 1), (8, 1, 5)]
    {
        let mut samples = vec![0; SAMPLES];
        GaussianSampler::new(Variance::ratio(num, den).unwrap()).fill(&mut seeded(seed), &mut samples);
        let test = chi_squared(&samples, &gaussian_pmf(num as f64 / den as f64));
        assert!(!test.alarming(), "seed {seed}, σ² {num}/{den}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
    }
}

#[test]
fn laplace_agrees_with_its_exact_pmf() {
    for (seed, num, den) in [(11u8, 1, 1), (12, 2, 1), (13, 7, 3), (14, 1000, 1), (15, 1, 3)] {
        let mut rng = seeded(seed);
        let scale = Scale::ratio(num, den).unwrap();
        let samples: Vec<i64> = (0..SAMPLES).map(|_| discrete_laplace(&mut rng, scale)).collect();
        let test = chi_squared(&samples, &laplace_pmf(num as f64 / den as f64));
        assert!(!test.alarming(), "seed {seed}, t {num}/{den}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
    }
}
