//! Vectors with additive noise: Laplace, Gaussian, sums of nodes' noises, Skellam.

use cohortium_dp::mechanism::{DistributedGaussian, Gaussian, Laplace, Skellam};
use cohortium_dp::noise::NoisePlan;
use cohortium_dp::sampler::{Scale, Variance};

use super::law::{Claim, Law, Pmf, assert_holds, convolve, gaussian, laplace, nothing, poisson, product, shifted};

/// A vector of independent noise of one law around given values.
pub fn vector(noise: &Pmf, values: &[i64]) -> Law {
    values.iter().fold(nothing(), |law, value| product(&law, &shifted(noise, *value)))
}

/// What is left of the noises of a plan when `survivors` remain and the colluders have taken off their own.
pub fn honest_noise(plan: &NoisePlan, survivors: u32) -> Pmf {
    let kept = plan.kept(survivors).unwrap().into_iter().map(|component| plan.components()[component]);
    let parts: Vec<Pmf> = kept.filter(|v| *v > 0).map(|v| gaussian(v as f64)).collect();
    let honest = (survivors - plan.colluders()) as usize;
    parts.iter().cycle().take(parts.len() * honest).fold(vec![(0, 1.0)], |sum, part| convolve(&sum, part))
}

#[test]
fn laplace_keeps_its_promise() {
    // Scale as a quotient, then the move of one person, cell by cell; Δ1 is its L1 norm.
    let cases: [(u64, u64, &[i64]); 10] = [
        (1, 1, &[1]),
        (1, 3, &[1]),
        (10, 3, &[1]),
        (7, 2, &[-3]),
        (5, 1, &[12]),
        (20, 1, &[1]),
        (2, 1, &[1, 1]),
        (2, 1, &[2, 0]),
        (3, 1, &[-2, 3]),
        (1, 2, &[1, -1, 1]),
    ];
    for (num, den, step) in cases {
        let l1 = step.iter().map(|x| x.unsigned_abs()).sum();
        let mechanism = Laplace::new(l1, Scale::ratio(num, den).unwrap()).unwrap();
        let claim = Claim { price: mechanism.price(), epsilon: Some(mechanism.epsilon()) };
        let scale = mechanism.scale();
        let noise = laplace(scale.num() as f64 / scale.den() as f64);
        let here = vec![5; step.len()];
        let there: Vec<i64> = here.iter().zip(step).map(|(a, b)| a + b).collect();
        assert_holds(&format!("{num}/{den} {step:?}"), &claim, &vector(&noise, &here), &vector(&noise, &there));
        // The same with what moves one cell most, at a lower price.
        let most = step.iter().map(|x| x.unsigned_abs()).max().unwrap();
        let mechanism = Laplace::with_cells(step.len() as u64, most, scale).unwrap();
        let claim = Claim { price: mechanism.price(), epsilon: Some(mechanism.epsilon()) };
        assert_holds(
            &format!("{num}/{den} {step:?} by cells"),
            &claim,
            &vector(&noise, &here),
            &vector(&noise, &there),
        );
    }
}

#[test]
fn gaussian_keeps_its_price() {
    let cases: [(u64, u64, &[i64]); 9] = [
        (1, 1, &[1]),
        (1, 3, &[1]),
        (9, 1, &[1]),
        (9, 1, &[-5]),
        (400, 1, &[20]),
        (25, 2, &[3]),
        (4, 1, &[1, 1]),
        (9, 1, &[3, -4]),
        (1, 2, &[1, 1]),
    ];
    for (num, den, step) in cases {
        let delta2 = step.iter().map(|x| u128::from(x.unsigned_abs()).pow(2)).sum();
        let mechanism = Gaussian::new(delta2, Variance::ratio(num, den).unwrap()).unwrap();
        let claim = Claim { price: mechanism.price(), epsilon: None };
        let noise = gaussian(mechanism.variance().num() as f64 / mechanism.variance().den() as f64);
        assert_holds(
            &format!("{num}/{den} {step:?}"),
            &claim,
            &vector(&noise, &vec![0; step.len()]),
            &vector(&noise, step),
        );
    }
}

#[test]
fn sums_of_nodes_noises_keep_their_price() {
    // σ², n, t, c, the move of one person.
    let cases = [
        (20, 4, 3, 1, 1),
        (30, 6, 4, 2, 1),
        (9, 5, 4, 1, 1),
        (50, 3, 2, 0, 4),
        (100, 8, 5, 3, 7),
        (7, 3, 3, 1, 2),
        (13, 2, 2, 1, 1),
        (40, 10, 8, 0, 1),
        // More drop-outs than there are pieces.
        (60, 14, 4, 2, 1),
        (300, 16, 6, 3, 2),
    ];
    for (sigma2, n, t, c, step) in cases {
        let plan = NoisePlan::new(sigma2, n, t, c).unwrap();
        let node = DistributedGaussian::new(u128::from(i64::unsigned_abs(step)).pow(2), 1, plan).unwrap();
        let claim = Claim { price: node.price(), epsilon: None };
        for survivors in t..=n {
            let noise = honest_noise(node.plan(), survivors);
            let name = format!("σ² {sigma2} n {n} t {t} c {c} u {survivors}");
            assert_holds(&name, &claim, &shifted(&noise, 0), &shifted(&noise, step));
        }
    }
}

/// Skellam noise, also as the sum of several nodes' shares: it is closed under sums, so only the total counts.
#[test]
fn skellam_keeps_its_promise() {
    for (variance, shares, step) in
        [(2u64, 1u32, 1i64), (2, 5, 1), (8, 1, 1), (8, 3, 2), (50, 2, 3), (200, 10, 1), (1, 50, 1)]
    {
        let mechanism =
            Skellam::new(step.unsigned_abs(), step.unsigned_abs().pow(2).into(), Variance::new(variance).unwrap());
        let claim = Claim { price: mechanism.unwrap().price(), epsilon: None };
        let half = poisson(variance as f64 / f64::from(shares) / 2.0);
        let share = convolve(&half, &half.iter().rev().map(|(x, p)| (-x, *p)).collect());
        let noise = (0..shares).fold(vec![(0, 1.0)], |sum, _| convolve(&sum, &share));
        assert_holds(
            &format!("Skellam {variance} in {shares}"),
            &claim,
            &vector(&noise, &[0]),
            &vector(&noise, &[step]),
        );
    }
}
