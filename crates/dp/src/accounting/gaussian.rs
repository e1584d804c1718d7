//! The Gaussian mechanism, exactly: ε at a δ, δ at an ε, and the noise that a target needs. And zCDP conversions.
//!
//! The textbook σ = Δ·√(2 ln(1.25/δ))/ε is wrong for ε > 1 (it claims 10 and gives 10.39) and wasteful below (25 % more
//! noise than needed at ε = 1, δ = 1e-6). The whole privacy profile has a closed form in one number, μ = Δ/σ:
//!
//! ```text
//! δ(ε) = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ)
//! ```
//!
//! (Balle and Wang 2018, Theorem 8; Dong, Roth, Su 2019, Corollary 2.13.) Written with t = ε/μ − μ/2 and Mills' ratio R
//! it is φ(t)·(R(t) − R(t + μ)), which is how it is computed here: the two terms above agree in nearly all digits when μ
//! is small or the tail is far.
//!
//! Everything is rounded against ourselves, by a bound on the rounding of each step: ε and δ up, μ and ρ down.
//!
//! Does not: account for subsampling ([`super::rdp`], [`super::pld`]), nor for noise on a lattice, which is not this
//! mechanism ([`crate::price`]). Assumes continuous noise, which no computer draws. Every function is total: arguments
//! without a meaning give the answer that promises nothing (δ = 1, ε = ∞, μ = 0, ρ = 0).

use libm::{log, sqrt};

use super::special::{bisect, density, integrate_short, mills, minimise, phi};

/// Below this μ the difference of Mills' ratios is an integral over a short interval, above it a plain difference.
const SHORT: f64 = 0.5;
/// Beyond this many standard deviations the normal tail is below 1e-349, less than any positive `f64`.
const FARTHEST: f64 = 40.0;
/// Largest μ that makes sense: there δ is 1 up to ε = 1e11.
const MU_MAX: f64 = 1e6;
/// Least positive μ looked for: at ε = 0 it costs δ = 4e-301.
const MU_MIN: f64 = 1e-300;
/// What a sum or a search may have lost to rounding.
const HAIR: f64 = 1e-14;

/// The δ of the Gaussian mechanism at `epsilon`, with `mu` = Δ/σ.
///
/// Promise: given μ at least the true Δ/σ, returns at least the least δ for which one release is (ε, δ)-differentially
/// private, and not above it by more than 2e-12 relative for μ ≤ 30 (4e-11 for μ ≤ 1000) plus 3e-308. Proven (Balle and
/// Wang 2018, Theorem 8) up to the bound on rounding, which is argued. Returns 1 unless 0 ≤ ε < ∞ and 0 ≤ μ.
pub fn delta(epsilon: f64, mu: f64) -> f64 {
    if mu == 0.0 && epsilon >= 0.0 {
        return 0.0;
    }
    if !(epsilon >= 0.0 && epsilon.is_finite() && mu > 0.0 && mu.is_finite()) {
        return 1.0;
    }
    let t = epsilon / mu - 0.5 * mu;
    if t > FARTHEST {
        return f64::MIN_POSITIVE;
    }
    if t < -FARTHEST {
        return 1.0;
    }
    // The value, and how many times larger the larger of two subtracted terms is: what cancellation costs.
    let (value, cancelled) = if mu < SHORT {
        (density(t) * integrate_short(|x| mills(x).1, t, mu), 1.0)
    } else if t > 0.0 {
        let (near, far) = (mills(t).0, mills(t + mu).0);
        (density(t) * (near - far), near / (near - far))
    } else {
        let head = phi(-t);
        let value = head - density(t) * mills(t + mu).0;
        (value, head / value)
    };
    // Rounding of t moves δ by at most |t| + 2 times itself, that of t² in the density by t²; the rest are a dozen
    // operations, magnified by the cancellation.
    let slack = 2.0 * (t.abs() + 2.0) * (epsilon / mu + 0.5 * mu) + t * t + 32.0 + 32.0 * cancelled;
    (value * (1.0 + f64::EPSILON * slack) + f64::MIN_POSITIVE).min(1.0)
}

/// The ε of the Gaussian mechanism at `delta_target`, with `mu` = Δ/σ.
///
/// Promise: given μ at least the true Δ/σ, returns an ε for which one release is (ε, δ)-differentially private; the
/// least one but for rounding, as [`delta`]. Proven, likewise. Returns infinity unless 0 < δ < 1 and 0 ≤ μ ≤ 1e6.
pub fn epsilon(delta_target: f64, mu: f64) -> f64 {
    if !(delta_target > 0.0 && delta_target < 1.0 && (0.0..=MU_MAX).contains(&mu)) {
        return f64::INFINITY;
    }
    if delta(0.0, mu) <= delta_target {
        return 0.0;
    }
    // δ(ε) ≤ Φ(−t) ≤ exp(−t²/2), so that this ε suffices; a hair more, for its own rounding.
    let mut enough = mu * (0.5 * mu + sqrt(-2.0 * log(delta_target))) * (1.0 + 1e-9);
    for _ in 0..64 {
        if delta(enough, mu) <= delta_target {
            return bisect(|x| delta(x, mu) <= delta_target, enough, f64::MIN_POSITIVE);
        }
        enough *= 1.0 + 1e-3;
    }
    f64::INFINITY
}

/// The largest μ = Δ/σ of a Gaussian mechanism that is (ε, δ)-differentially private: σ = Δ/μ is the least noise.
///
/// Promise: given a target, returns a μ whose [`delta`] at `epsilon` is at most `delta_target`; it was computed and
/// compared. Proven, likewise. Returns 0, which asks for infinite noise, unless 0 ≤ ε < ∞ and 0 < δ < 1.
pub fn mu(epsilon: f64, delta_target: f64) -> f64 {
    let within = |mu: f64| delta(epsilon, mu) <= delta_target;
    if !(delta_target > 0.0 && delta_target < 1.0 && within(MU_MIN)) {
        return 0.0;
    }
    if within(MU_MAX) { MU_MAX } else { bisect(within, MU_MIN, MU_MAX) }
}

/// The least standard deviation of Gaussian noise for a target: Δ/μ, rounded up; infinite where [`mu`] is 0.
///
/// Promise: given that `sensitivity` bounds the L2 distance between neighbouring answers, noise of the returned σ makes
/// the answer (ε, δ)-differentially private. Proven, as [`mu`]. Returns infinity unless 0 ≤ Δ < ∞.
pub fn sigma(epsilon: f64, delta_target: f64, sensitivity: f64) -> f64 {
    let mu = mu(epsilon, delta_target);
    if !(sensitivity >= 0.0 && sensitivity.is_finite() && mu > 0.0) {
        return f64::INFINITY;
    }
    (sensitivity / mu).next_up()
}

/// The μ of several Gaussian mechanisms together, also chosen adaptively: √Σμ², rounded up.
///
/// Promise: the composition is μ-Gaussian differentially private. Proven (Dong, Roth, Su 2019, Corollary 3.3).
/// Returns infinity if a μ is negative or not a number.
pub fn compose<I: IntoIterator<Item = f64>>(mus: I) -> f64 {
    let mut squares = 0.0;
    let mut count = 1.0;
    for mu in mus {
        if mu < 0.0 || mu.is_nan() {
            return f64::INFINITY;
        }
        // A square may be too small for an f64: then it counts as the smallest normal one, which is more.
        squares += if mu > 0.0 { mu * mu + f64::MIN_POSITIVE } else { 0.0 };
        count += 1.0;
    }
    sqrt(squares) * (1.0 + f64::EPSILON * count)
}

/// The ε at `delta_target` of a ρ-zero-concentrated mechanism.
///
/// The least over α > 1 of ρα + ln(1/(αδ))/(α − 1) + ln(1 − 1/α) (Canonne, Kamath, Steinke 2020, Proposition 12 and
/// Corollary 13). Promise: ρ-zCDP implies (ε, δ)-differential privacy for the returned ε. Proven; every α is valid, so
/// the search only decides how tight it is. Returns infinity unless 0 < δ < 1 and 0 ≤ ρ < ∞.
pub fn zcdp_epsilon(rho: f64, delta_target: f64) -> f64 {
    if !(delta_target > 0.0 && delta_target < 1.0 && rho >= 0.0 && rho.is_finite()) {
        return f64::INFINITY;
    }
    if rho == 0.0 {
        return 0.0;
    }
    let ln_inverse_delta = -log(delta_target);
    let at_excess = |excess: f64| {
        let alpha = 1.0 + excess;
        rho * alpha + (ln_inverse_delta - libm::log1p(excess)) / excess + log(excess / alpha)
    };
    // The best α − 1 is near √(ln(1/δ)/ρ).
    let near = sqrt(ln_inverse_delta / rho);
    let (least, _) = minimise(at_excess, near * 1e-4, near * 1e4, 200);
    (least * (1.0 + HAIR) + HAIR).max(0.0)
}

/// The ε at `delta_target` of a ρ-zero-concentrated mechanism by the older formula ρ + 2√(ρ·ln(1/δ)), for comparison
/// with published numbers (Bun and Steinke 2016, Proposition 1.3). Proven; [`zcdp_epsilon`] is smaller.
///
/// Returns infinity unless 0 < δ < 1 and 0 ≤ ρ.
pub fn zcdp_epsilon_bun_steinke(rho: f64, delta_target: f64) -> f64 {
    if !(delta_target > 0.0 && delta_target < 1.0 && rho >= 0.0) {
        return f64::INFINITY;
    }
    (rho + 2.0 * sqrt(rho * -log(delta_target))) * (1.0 + HAIR)
}

/// The largest ρ whose [`zcdp_epsilon`] at `delta_target` is at most `epsilon_target`.
///
/// Promise: ρ-zCDP with the returned ρ implies (ε, δ)-differential privacy; it was computed and compared. Proven.
/// Returns 0 unless 0 < ε < ∞ and 0 < δ < 1.
pub fn rho(epsilon_target: f64, delta_target: f64) -> f64 {
    let within = |rho: f64| zcdp_epsilon(rho, delta_target) <= epsilon_target;
    if !(epsilon_target > 0.0 && epsilon_target.is_finite() && within(MU_MIN)) {
        return 0.0;
    }
    // ε grows without limit in ρ, so that a few steps suffice.
    let mut too_much = 1.0 + epsilon_target;
    for _ in 0..64 {
        if !within(too_much) {
            return bisect(within, MU_MIN, too_much);
        }
        too_much *= 4.0;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with mpmath at 700 digits from the formula of Balle and Wang.
    const DELTAS: [(f64, f64, f64); 29] = [
        (0.0, 1e-6, 3.989_422_804_014_16e-7),
        (1e-6, 1e-6, 8.331_551_224_542_54e-8),
        (1e-5, 1e-6, 7.474_597_627_483_019e-31),
        (3.5e-5, 1e-6, 3.208_860_637_172_039_5e-276),
        (0.0, 0.01, 0.003_989_406_181_481_645),
        (0.01, 0.01, 0.000_837_324_267_477_342_3),
        (0.1, 0.01, 7.857_692_771_036_772e-27),
        (0.36, 0.01, 1.388_819_377_488_070_2e-287),
        (0.0, 0.49, 0.193_543_568_641_048_8),
        (1.0, 0.49, 0.006_000_585_848_824_735_4),
        (0.0, 0.51, 0.201_276_900_768_765_06),
        (1.0, 0.51, 0.007_726_528_275_111_322),
        (10.0, 0.51, 2.463_922_931_084_160_5e-85),
        (18.0, 0.5, 4.555_621_690_641_717e-282),
        (0.0, 1.0, 0.382_924_922_548_026_2),
        (1.0, 1.0, 0.126_936_737_506_643_94),
        (10.0, 1.0, 9.812_705_826_846_956e-23),
        (37.0, 1.0, 1.476_469_534_442_528e-293),
        (0.0, 10.0, 0.999_999_426_696_856_3),
        (50.0, 10.0, 0.460_493_305_898_614),
        (100.0, 10.0, 1.879_717_002_051_915_7e-7),
        (400.0, 10.0, 2.496_988_668_912_653_4e-269),
        (0.0, 60.0, 1.0),
        (1000.0, 30.0, 1.389_915_337_566_352_7e-75),
        (1200.0, 30.0, 1.665_532_703_311_862_7e-138),
        (499_000.0, 1000.0, 0.841_102_533_373_783_7),
        (500_000.0, 1000.0, 0.499_601_058_118_539_66),
        (510_000.0, 1000.0, 7.543_668_954_024_447e-24),
        (535_000.0, 1000.0, 1.086_839_280_397_582_7e-268),
    ];

    #[test]
    fn delta_agrees_with_many_digits_and_is_never_below() {
        for (epsilon, mu, expected) in DELTAS {
            let found = delta(epsilon, mu);
            let above = found / expected - 1.0;
            let allowed = if mu <= 30.0 { 2e-12 } else { 4e-11 };
            assert!((-2e-16..allowed).contains(&above), "δ({epsilon}, {mu}) = {found:e}, {above:e} above {expected:e}");
        }
    }

    /// The first four computed with dp-accounting 0.6.0, the last with mpmath from the table above.
    #[test]
    fn epsilon_agrees_with_others() {
        for (sigma, delta, expected) in [
            (1.0, 1e-5, 4.377_178_095_681_137),
            (0.1, 1e-6, 96.717_271_963_867_72),
            (0.316_227_766_016_837_94, 1e-6, 19.423_656_474_031_056),
            (0.5, 1e-5, 9.997_256_146_434_315),
            (100.0, 1.388_819_377_488_070_2e-287, 0.36),
        ] {
            let found = epsilon(delta, 1.0 / sigma);
            assert!((found / expected - 1.0).abs() < 1e-11, "ε({delta:e}, σ {sigma}) = {found}, not {expected}");
        }
    }

    /// Computed with dp-accounting 0.6.0, whose search stops at about 1e-9.
    #[test]
    fn noise_agrees_with_others() {
        for (epsilon, delta, expected) in [
            (0.1, 1e-6, 36.304_690_426_195_194),
            (1.0, 1e-6, 4.224_678_889_326_822),
            (4.0, 1e-6, 1.193_518_587_157_984_5),
        ] {
            let found = sigma(epsilon, delta, 1.0);
            assert!((found / expected - 1.0).abs() < 1e-8, "σ({epsilon}, {delta:e}) = {found}, not {expected}");
        }
    }

    /// There and back over the whole range, and the claims on the way: what is returned meets its target.
    #[test]
    fn the_three_functions_invert_each_other() {
        for mu_given in [1e-6, 1e-3, 0.1, 0.499, 0.501, 1.0, 7.0, 50.0, 1000.0] {
            for delta_target in [1e-300, 1e-100, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.99] {
                let found = epsilon(delta_target, mu_given);
                assert!(delta(found, mu_given) <= delta_target, "{mu_given} {delta_target:e}");
                if found > 0.0 {
                    assert!(
                        delta(found * (1.0 - 1e-9), mu_given) > delta_target,
                        "not tight: {mu_given} {delta_target:e}"
                    );
                    let back = mu(found, delta_target);
                    assert!((back / mu_given - 1.0).abs() < 1e-9, "{mu_given} {delta_target:e}: {back}");
                }
            }
        }
    }

    #[test]
    fn delta_falls_with_epsilon_and_rises_with_mu() {
        for mu in [1e-6, 0.3, 0.499_999, 0.5, 2.0, 100.0] {
            let mut last = 1.0;
            for step in 0..400 {
                let epsilon = f64::from(step) * 0.1 * mu;
                let now = delta(epsilon, mu);
                assert!(now <= last * (1.0 + 1e-11), "{epsilon} {mu}");
                assert!(delta(epsilon, mu * 1.001) >= now * (1.0 - 1e-11), "{epsilon} {mu}");
                last = now;
            }
        }
    }

    #[test]
    fn composition_adds_squares() {
        assert!((compose([3.0, 4.0]) - 5.0).abs() < 1e-14);
        assert!(compose([0.1; 100]) >= 1.0);
        // Squares that are no f64 any more are not forgotten.
        assert!(compose([1e-200]) >= 1e-200 && compose([3e-160, 4e-160]) >= 5e-160 && compose([0.0, 0.0]) == 0.0);
        assert_eq!(compose([]), 0.0);
        assert_eq!(compose([1.0, f64::NAN]), f64::INFINITY);
        assert_eq!(compose([-1.0]), f64::INFINITY);
    }

    /// Computed with an independent minimisation: by the optimal and by the older formula.
    #[test]
    fn zcdp_conversions() {
        for (rho_given, delta, optimal, older) in [
            (0.001, 1e-6, 0.182_895_377_190_076_23, 0.236_078_800_047_679_95),
            (0.05, 1e-6, 1.471_594_750_532_415_8, 1.712_258_136_269_11),
            (0.5, 1e-5, 4.728_386_984_943_313, 5.298_525_912_188_081),
            (2.63, 1e-10, 17.430_584_487_345_11, 18.193_802_613_210_36),
        ] {
            let found = zcdp_epsilon(rho_given, delta);
            assert!((found - optimal).abs() < 1e-9, "ρ {rho_given}: {found}, not {optimal}");
            assert!((zcdp_epsilon_bun_steinke(rho_given, delta) - older).abs() < 1e-12, "ρ {rho_given}");
            assert!(found >= epsilon(delta, sqrt(2.0 * rho_given)), "below the Gaussian of that ρ");
            let back = rho(found, delta);
            assert!(
                zcdp_epsilon(back, delta) <= found && (back / rho_given - 1.0).abs() < 1e-9,
                "ρ {rho_given}: {back}"
            );
        }
    }

    #[test]
    fn arguments_without_a_meaning_promise_nothing() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(delta(bad, 1.0), 1.0);
            assert_eq!(delta(1.0, bad), 1.0);
            assert_eq!(epsilon(1e-6, bad), f64::INFINITY);
            assert_eq!(epsilon(bad, 1.0), f64::INFINITY);
            assert_eq!(mu(bad, 1e-6), 0.0);
            assert_eq!(mu(1.0, bad), 0.0);
            assert_eq!(sigma(bad, 1e-6, 1.0), f64::INFINITY);
            assert_eq!(zcdp_epsilon(bad, 1e-6), f64::INFINITY);
            assert_eq!(zcdp_epsilon(0.1, bad), f64::INFINITY);
            assert_eq!(rho(bad, 1e-6), 0.0);
            assert_eq!(rho(1.0, bad), 0.0);
        }
        assert_eq!(epsilon(0.0, 1.0), f64::INFINITY);
        assert_eq!(epsilon(1e-6, 0.0), 0.0);
        assert_eq!(delta(0.0, 0.0), 0.0);
        assert_eq!(delta(1e300, 1e-3), f64::MIN_POSITIVE);
        assert_eq!(zcdp_epsilon(0.0, 1e-6), 0.0);
    }
}
