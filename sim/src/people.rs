//! Patients who do not exist, made from the seed, and the naive truth about them.
//!
//! The truth is computed here by adding up in the plainest way, so that it shares no code with what it judges.

use chacha20::ChaCha20Rng;
use rand_core::Rng as _;

use crate::keys;

/// The dataset's schema: one row per person, a nullable number with bounds inside the recorded range (so that clamping
/// is exercised), columns with every role, and one that nobody may touch.
pub const SCHEMA: &str = r#"
    max_groups_per_person = 1
    max_rows_per_person = 1
    columns = [
      { name = "age", type = "integer", bounds = [0, 120], roles = ["filter", "aggregate"] },
      { name = "chol", type = "decimal", bounds = [100, 400], nullable = true, roles = ["filter", "aggregate"] },
      { name = "sex", type = "text", domain = ["f", "m"], roles = ["filter", "group"] },
      { name = "stage", type = "integer", domain = [0, 1, 2, 3], roles = ["filter", "group"] },
      { name = "diary", type = "integer", roles = [] },
    ]
"#;

/// One person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    /// In years, 18 to 97.
    pub age: i64,
    /// Serum cholesterol in tenths of mg/dl, 50 to 450, where it was recorded.
    pub chol_tenths: Option<i64>,
    /// What nobody may ask about.
    pub diary: i64,
    /// `f` or `m`.
    pub sex: &'static str,
    /// 0 to 3.
    pub stage: i64,
}

impl Patient {
    /// The recorded value as it counts: held to the schema's bounds.
    #[must_use]
    pub fn chol(&self) -> Option<f64> {
        self.chol_tenths.map(|tenths| (tenths as f64 / 10.0).clamp(100.0, 400.0))
    }
}

/// `count` patients of a hospital. The first `n` are the same for every `count` of at least `n`.
#[must_use]
pub fn patients(seed: u64, hospital: &str, count: usize) -> Vec<Patient> {
    let mut rng = keys::generator(seed, &format!("patients of {hospital}"));
    (0..count).map(|_| patient(&mut rng)).collect()
}

/// A custodian's file.
#[must_use]
pub fn csv(patients: &[Patient]) -> String {
    let mut text = String::from("age,chol,sex,stage,diary\n");
    for Patient { age, chol_tenths, diary, sex, stage } in patients {
        let chol = chol_tenths.map_or_else(String::new, |tenths| format!("{}.{}", tenths / 10, tenths % 10));
        text.push_str(&format!("{age},{chol},{sex},{stage},{diary}\n"));
    }
    text
}

fn patient(rng: &mut ChaCha20Rng) -> Patient {
    let mut below = |limit: u64| i64::try_from(rng.next_u64() % limit).unwrap_or(0);
    Patient {
        age: 18 + below(80),
        chol_tenths: (below(10) > 0).then_some(500 + below(4000)),
        diary: below(1000),
        sex: if below(2) == 0 { "f" } else { "m" },
        stage: below(4),
    }
}
