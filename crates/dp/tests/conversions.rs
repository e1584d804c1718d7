//! Conversions, sums of nodes' noises and key selection against values that other people's software computed.
//!
//! The rule: never below an exact value by more than 1e-9, never above an upper bound by more than max(1e-4, 1e-4·ε).

#[cfg(test)]
mod tests {
    use cohortium_dp::accounting::composition::parse;
    use cohortium_dp::accounting::pld::{Grid, Pld};
    use cohortium_dp::accounting::pure::{Guarantee, optimal_epsilon};
    use cohortium_dp::accounting::{AddRemove, gaussian};
    use cohortium_dp::mechanism::{KeyBounds, KeySelection};
    use cohortium_dp::{AttoDelta, NanoNats};
    use serde_json::Value;

    const TABLE: &str = include_str!("data/conversions.json");

    fn rows(section: &str) -> Vec<Value> {
        let table: Value = serde_json::from_str(TABLE).unwrap();
        let rows = table[section].as_array().unwrap().clone();
        assert!(!rows.is_empty(), "{section}");
        rows
    }

    fn number(row: &Value, field: &str) -> f64 {
        row[field].as_f64().unwrap_or_else(|| panic!("{row} has no number {field}"))
    }

    #[track_caller]
    fn demand(row: &Value, ours: f64, exact: f64) {
        let above = f64::max(1e-4, 1e-4 * exact);
        assert!(ours >= exact - 1e-9 && ours <= exact + above, "{ours} instead of {exact}: {row}");
    }

    #[test]
    fn gaussian_both_ways() {
        for row in rows("gaussian_analytic") {
            let exact = number(&row, "epsilon");
            let ours = gaussian::epsilon(number(&row, "delta"), 1.0 / number(&row, "sigma"));
            demand(&row, ours, exact);
            assert!((ours - exact).abs() < 1e-8 * exact, "{ours}: {row}");
        }
        for row in rows("gaussian_calibration") {
            let exact = number(&row, "sigma");
            let ours = gaussian::sigma(number(&row, "epsilon"), number(&row, "delta"), 1.0);
            assert!(ours >= exact * (1.0 - 1e-9) && ours <= exact * (1.0 + 1e-7), "{ours}: {row}");
        }
    }

    #[test]
    fn pure_compositions_are_exact() {
        for row in rows("kov_exact") {
            let each = Guarantee::new(number(&row, "eps0"), 0.0).unwrap();
            let ours = optimal_epsilon(each, row["k"].as_u64().unwrap(), number(&row, "delta")).unwrap();
            demand(&row, ours, number(&row, "epsilon"));
        }
    }

    #[test]
    fn concentrated_budgets_convert() {
        for row in rows("zcdp_conversions") {
            let (rho, delta) = (number(&row, "rho"), number(&row, "delta"));
            demand(&row, gaussian::zcdp_epsilon(rho, delta), number(&row, "eps_cks20_opt"));
            let bun_steinke = gaussian::zcdp_epsilon_bun_steinke(rho, delta);
            assert!((bun_steinke - number(&row, "eps_bs16")).abs() < 1e-8, "{bun_steinke}: {row}");
            demand(&row, gaussian::epsilon(delta, (2.0 * rho).sqrt()), number(&row, "eps_tight_if_gaussian"));
        }
    }

    #[test]
    fn sampled_gaussians_lie_between_independent_bounds() {
        for row in rows("prv_bounds") {
            let text = serde_json::json!({"mechanism": "poisson_gaussian", "composition": row["k"],
                "neighboring": "ADD_OR_REMOVE_ONE", "params": {"q": row["q"], "noise_multiplier": row["sigma"]}});
            let ours = parse(&text.to_string()).unwrap()[0].epsilon(number(&row, "delta")).unwrap().epsilon;
            assert!((number(&row, "eps_lower")..=number(&row, "eps_upper")).contains(&ours), "{ours}: {row}");
        }
    }

    #[test]
    fn profiles_agree() {
        let compositions = [
            r#"{"mechanism": "gaussian", "params": {"noise_multiplier": 1.0}}"#,
            r#"{"mechanism": "laplace", "params": {"noise_multiplier": 10.0}, "composition": 100}"#,
            r#"{"mechanism": "poisson_gaussian", "params": {"q": 0.01, "noise_multiplier": 1.0}, "composition": 1000}"#,
        ];
        for (row, composition) in rows("delta_profiles").iter().zip(compositions) {
            let ours = parse(composition).unwrap();
            for (epsilon, delta) in row["deltas"].as_object().unwrap() {
                let (epsilon, theirs) = (epsilon.parse().unwrap(), delta.as_f64().unwrap());
                let ours = ours[0].delta(epsilon).unwrap().delta;
                // Theirs rounds at 1e-12 or so; the smallest of theirs is 5e-13.
                assert!((ours - theirs).abs() < 1e-4 * theirs + 1e-12, "{composition} at {epsilon}: {ours} {theirs}");
            }
        }
    }

    /// Masses of the integers −r..=r.
    fn discrete_gaussian(sigma2: f64) -> Vec<f64> {
        let r = (14.0 * sigma2.sqrt()).ceil() as i64 + 2;
        let weights: Vec<f64> = (-r..=r).map(|x| (-((x * x) as f64) / (2.0 * sigma2)).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    /// Poisson of this mean from 0 on.
    fn poisson(mean: f64) -> Vec<f64> {
        let mut masses = vec![(-mean).exp()];
        while masses.len() < mean as usize + 20 || masses[masses.len() - 1] > 1e-40 {
            masses.push(masses[masses.len() - 1] * mean / masses.len() as f64);
        }
        masses
    }

    fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; a.len() + b.len() - 1];
        for (i, p) in a.iter().enumerate() {
            for (j, q) in b.iter().enumerate() {
                sum[i + j] += p * q;
            }
        }
        // Tails that no δ here can see, cut evenly so that the middle stays the middle.
        let pairs = sum.iter().zip(sum.iter().rev()).take(sum.len() / 2);
        let cut = pairs.take_while(|(p, q)| **p < 1e-30 && **q < 1e-30).count();
        sum[cut..sum.len() - cut].to_vec()
    }

    #[test]
    fn sums_of_nodes_noises_and_skellam() {
        let grid = Grid::new(1e-4).unwrap();
        let epsilon = |masses: &[f64], delta: f64| {
            let total: f64 = masses.iter().sum();
            let masses: Vec<f64> = masses.iter().map(|mass| mass / total).collect();
            Pld::<AddRemove>::integer_noise(grid, &masses, 1).unwrap().epsilon(delta).unwrap()
        };
        for row in rows("distributed_noise") {
            let (total, nodes, delta) = (number(&row, "total_sigma"), number(&row, "n_nodes"), number(&row, "delta"));
            let share = discrete_gaussian(total * total / nodes);
            let sum = (1..nodes as usize).fold(share.clone(), |sum, _| convolve(&sum, &share));
            demand(&row, epsilon(&sum, delta), number(&row, "eps_sum_dgauss"));
            demand(&row, epsilon(&discrete_gaussian(total * total), delta), number(&row, "eps_central_dgauss"));
            let half = poisson(total * total / 2.0);
            let skellam = convolve(&half, &half.iter().rev().copied().collect::<Vec<_>>());
            demand(&row, epsilon(&skellam, delta), number(&row, "eps_skellam"));
            demand(&row, gaussian::epsilon(delta, 1.0 / total), number(&row, "eps_continuous"));
        }
    }

    /// The truncated geometric is the same rule; for Laplace theirs is continuous, so thresholds differ by up to 2.
    #[test]
    fn keys_are_kept_as_often() {
        for row in rows("partition_selection") {
            let nano = NanoNats::new((number(&row, "epsilon") * 1e9).round() as u64);
            let delta = AttoDelta::new((number(&row, "delta") * 1e18).round() as u64).unwrap();
            let max_keys_per_person = row["max_partitions"].as_u64().unwrap() as u32;
            let bounds = KeyBounds { max_keys_per_person: max_keys_per_person.into(), min_frequency: 1 };
            match row["strategy"].as_str().unwrap() {
                "truncated_geometric" => {
                    let rule = KeySelection::truncated_geometric(nano, delta, bounds).unwrap();
                    for (persons, theirs) in row["prob_keep"].as_object().unwrap() {
                        let ours = rule.keep_probability(persons.parse().unwrap());
                        let theirs = theirs.as_f64().unwrap();
                        assert!((ours - theirs).abs() < 1e-6 * theirs, "{persons}: {ours}, {row}");
                    }
                }
                "laplace" => {
                    let ours = KeySelection::laplace(nano, delta, bounds).unwrap().threshold().unwrap();
                    let theirs = number(&row, "threshold");
                    assert!((theirs.floor()..=theirs + 2.0).contains(&(ours as f64)), "{ours}: {row}");
                }
                // Theirs gives δ half to the noise and half to the threshold; ours prices the noise on the Rényi grid.
                "gaussian" => {}
                other => panic!("{other} is not compared"),
            }
        }
    }
}
