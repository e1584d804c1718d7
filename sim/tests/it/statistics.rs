//! The instrument that says whether released noise is the noise that was stated.
//!
//! Given z-scores (released value minus truth, over the stated standard deviation) of many independent cells, four
//! tests, each two-sided (the last one-sided) at a false-alarm rate of 2.5·10⁻⁷, so 10⁻⁶ in total:
//!
//! | test | statistic | under the claim |
//! |---|---|---|
//! | mean | Σz/√n | normal |
//! | variance | Σz² | χ² with n degrees of freedom, by Wilson and Hilferty 1931 |
//! | coverage | how many z lie in the 95 % interval | binomial(n, 0.95), by its normal limit with continuity correction |
//! | shape | Pearson's statistic over 20 bins of equal probability | χ² with 19 degrees of freedom, same approximation |
//!
//! Noise is a sum of discrete Gaussians, 10⁵ lattice steps wide and more; that it is discrete is far below what any of
//! these can see. Wilson and Hilferty's quantile is above the exact one out here, so the true rate is below the stated.

use cohortium_dp::interval::z_for_level;

/// Two-sided normal factor at 2.5·10⁻⁷.
const Z_TWO_SIDED: f64 = 5.157;
/// One-sided normal factor at 2.5·10⁻⁷.
const Z_ONE_SIDED: f64 = 5.026;
/// Bins of the shape test.
const BINS: usize = 20;

/// What is wrong with these z-scores; nothing if they are as claimed.
pub fn alarms(z: &[f64]) -> Vec<String> {
    let n = z.len() as f64;
    let mean = z.iter().sum::<f64>() / n.sqrt();
    let (square, low, high) = (z.iter().map(|z| z * z).sum::<f64>(), chi(n, -Z_TWO_SIDED), chi(n, Z_TWO_SIDED));
    let covered = z.iter().filter(|z| z.abs() <= 1.959_964).count() as f64;
    let slack = Z_TWO_SIDED * (n * 0.95 * 0.05).sqrt() + 0.5;
    let (shape, limit) = (pearson(z), chi((BINS - 1) as f64, Z_ONE_SIDED));
    let tests = [
        (mean.abs() > Z_TWO_SIDED, format!("mean: {mean:.2} standard errors")),
        (!(low..=high).contains(&square), format!("variance: {:.4} of the stated", square / n)),
        ((covered - 0.95 * n).abs() > slack, format!("coverage: {:.4}", covered / n)),
        (shape > limit, format!("shape: {shape:.1} above {limit:.1}")),
    ];
    tests.into_iter().filter(|(is_alarm, _)| *is_alarm).map(|(_, what)| what).collect()
}

/// The quantile of χ² at the normal deviate `z`.
fn chi(degrees: f64, z: f64) -> f64 {
    let ninths = 2.0 / (9.0 * degrees);
    degrees * (1.0 - ninths + z * ninths.sqrt()).powi(3)
}

fn pearson(z: &[f64]) -> f64 {
    // The edge with k of 20 parts below it, by symmetry from the two-sided factor.
    let edge = |k: usize| {
        let level = (2.0 * k as f64 / BINS as f64 - 1.0).abs();
        let size = z_for_level(level).unwrap_or(0.0);
        if 2 * k < BINS { -size } else { size }
    };
    let edges: Vec<f64> = (1..BINS).map(edge).collect();
    let mut counts = [0f64; BINS];
    for value in z {
        counts[edges.partition_point(|edge| edge < value)] += 1.0;
    }
    let expected = z.len() as f64 / BINS as f64;
    counts.iter().map(|count| (count - expected).powi(2) / expected).sum()
}

/// Known quantiles, from tables: χ² of 19 at 0.95 is 30.14; the edges of 20 bins begin at −1.645.
#[test]
fn quantiles_are_right() {
    assert!((chi(19.0, 1.644_854) - 30.14).abs() < 0.05);
    let flat: Vec<f64> = (0..BINS)
        .flat_map(|k| {
            let level = (2.0 * (k as f64 + 0.5) / BINS as f64 - 1.0).abs();
            let size = z_for_level(level).unwrap_or(0.0);
            vec![if 2 * k + 1 < BINS { -size } else { size }; 50]
        })
        .collect();
    assert!(pearson(&flat) < 1e-9);
}
