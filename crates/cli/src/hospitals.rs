//! Simulated hospitals: patients and their encounters, from a seed, with plausible dependence.
//!
//! Not a model of any real population. Age and sex drive the diagnosis; age, smoking and diagnosis drive laboratory
//! values; all of them drive readmission and death. Hospitals differ in their patients' age and case mix, as real ones
//! do, so that a single hospital's mean is not the federation's.

use std::fmt::Write as _;

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The names of the simulated hospitals.
pub const NAMES: [&str; 3] = ["northside", "riverbank", "stmary"];

/// The declaration of the patients table: one row per person.
pub const PATIENTS: &str = r#"
name = "patients"
questions = [
  "SELECT diagnosis, COUNT(*) AS patients, AVG(age) AS mean_age FROM patients GROUP BY diagnosis",
  "SELECT sex, AVG(hba1c) AS mean_hba1c, AVG(sbp) AS mean_pressure FROM patients WHERE age >= 50 GROUP BY sex",
  "SELECT COUNT(*) AS smokers_with_diabetes FROM patients WHERE smoker AND diagnosis = 'diabetes'",
]

[schema]
person = "patient"
max_rows_per_person = 1
max_groups_per_person = 1

[[schema.columns]]
name = "patient"
type = "text"
meaning = "pseudonym of the patient at this hospital"
roles = []

[[schema.columns]]
name = "age"
type = "integer"
meaning = "years at first visit"
bounds = [18, 100]
roles = ["filter", "aggregate"]

[[schema.columns]]
name = "sex"
type = "text"
domain = ["female", "male"]
roles = ["filter", "group"]

[[schema.columns]]
name = "smoker"
type = "boolean"
roles = ["filter", "group"]

[[schema.columns]]
name = "diagnosis"
type = "text"
meaning = "main diagnosis"
domain = ["none", "hypertension", "diabetes", "heart failure"]
roles = ["filter", "group"]

[[schema.columns]]
name = "hba1c"
type = "decimal"
meaning = "glycated haemoglobin, percent; not measured in everyone"
bounds = [3, 15]
nullable = true
roles = ["filter", "aggregate"]

[[schema.columns]]
name = "sbp"
type = "integer"
meaning = "systolic blood pressure, mmHg"
bounds = [70, 240]
roles = ["filter", "aggregate"]

[[schema.columns]]
name = "died"
type = "boolean"
meaning = "within one year"
roles = ["filter", "group"]
"#;

/// The declaration of the encounters table: several rows per person.
pub const ENCOUNTERS: &str = r#"
name = "encounters"
questions = [
  "SELECT department, COUNT(*) AS encounters, AVG(days) AS mean_days FROM encounters GROUP BY department",
]

[schema]
person = "patient"
max_rows_per_person = 3
max_groups_per_person = 3

[[schema.columns]]
name = "patient"
type = "text"
roles = []

[[schema.columns]]
name = "department"
type = "text"
domain = ["emergency", "medicine", "surgery"]
roles = ["filter", "group"]

[[schema.columns]]
name = "days"
type = "integer"
meaning = "length of stay"
bounds = [0, 60]
roles = ["filter", "aggregate"]

[[schema.columns]]
name = "readmitted"
type = "boolean"
meaning = "within 30 days"
roles = ["filter", "group"]
"#;

/// The two tables of one hospital, as CSV.
pub struct Tables {
    pub patients: String,
    pub encounters: String,
}

/// Simulates hospital number `hospital` with `patients` patients.
pub fn simulate(seed: u64, hospital: u64, patients: u32) -> Tables {
    let mut bytes = [0; 32];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&seed.to_le_bytes());
    for (to, from) in high.iter_mut().zip(hospital.to_le_bytes()) {
        *to = from;
    }
    let mut dice = Dice(ChaCha20Rng::from_seed(bytes));
    let mut tables = Tables {
        patients: String::from("patient,age,sex,smoker,diagnosis,hba1c,sbp,died\n"),
        encounters: String::from("patient,department,days,readmitted\n"),
    };
    let older = 4.0 * hospital as f64;
    for number in 0..patients {
        patient(&mut dice, number, older, &mut tables);
    }
    tables
}

fn patient(dice: &mut Dice, number: u32, older: f64, tables: &mut Tables) {
    let age = (52.0 + older + 17.0 * dice.normal()).clamp(18.0, 100.0).round();
    let male = dice.chance(0.48);
    let smoker = dice.chance(if age < 65.0 { 0.27 } else { 0.14 });
    let frail = (age - 55.0) / 20.0 + if male { 0.25 } else { 0.0 } + if smoker { 0.35 } else { 0.0 };
    let diagnosis = match dice.unit() * logistic(0.4 - frail).recip() {
        draw if draw < 1.15 => "none",
        draw if draw < 1.9 => "hypertension",
        draw if draw < 2.9 => "diabetes",
        _ => "heart failure",
    };
    let is = |name: &str| if diagnosis == name { 1.0 } else { 0.0 };
    let hba1c = 5.3 + 0.004 * (age - 50.0) + 1.9 * is("diabetes") + 0.5 * dice.normal();
    let measured = dice.chance(if is("diabetes") > 0.0 { 0.97 } else { 0.7 });
    let sbp =
        121.0 + 0.35 * (age - 50.0) + 17.0 * is("hypertension") - 4.0 * is("heart failure") + 12.0 * dice.normal();
    let died = dice.chance(logistic(-4.6 + 0.9 * frail + 1.5 * is("heart failure") + 0.5 * is("diabetes")));
    let sex = if male { "male" } else { "female" };
    let hba1c = if measured { format!("{:.1}", hba1c.clamp(3.0, 15.0)) } else { String::new() };
    let sbp = sbp.clamp(70.0, 240.0).round();
    let _ = writeln!(tables.patients, "p{number:06},{age},{sex},{smoker},{diagnosis},{hba1c},{sbp},{died}");

    let ill = is("heart failure") * 1.2 + is("diabetes") * 0.4 + frail.max(0.0) * 0.3;
    let visits = 1 + u32::from(dice.chance(0.3 + 0.2 * ill.min(2.0))) + u32::from(dice.chance(0.2 * ill.min(2.0)));
    for _ in 0..visits {
        let department = match dice.unit() {
            draw if draw < 0.35 => "emergency",
            draw if draw < 0.75 => "medicine",
            _ => "surgery",
        };
        let stay = if department == "emergency" { 0.6 } else { 4.0 + 2.0 * ill };
        let days = (-dice.unit().max(1e-9).ln() * stay).min(60.0).round();
        let readmitted = dice.chance(logistic(-2.6 + 0.8 * ill));
        let _ = writeln!(tables.encounters, "p{number:06},{department},{days},{readmitted}");
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Random numbers for simulated patients; nothing secret or private hangs on them.
struct Dice(ChaCha20Rng);

impl Dice {
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Box and Muller 1958.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Declaration;

    #[test]
    fn the_declarations_fit_the_tables_and_the_seed_decides() {
        let (patients, encounters) =
            (Declaration::parse(PATIENTS, "patients"), Declaration::parse(ENCOUNTERS, "encounters"));
        let tables = simulate(7, 1, 50);
        for (declaration, text) in [(patients.unwrap(), &tables.patients), (encounters.unwrap(), &tables.encounters)] {
            let headings: Vec<&str> = text.lines().next().unwrap().split(',').collect();
            let names: Vec<String> = declaration.schema.columns.iter().map(|c| c.name.to_string()).collect();
            assert_eq!(headings, names);
        }
        assert_eq!(simulate(7, 1, 50).patients, tables.patients);
        assert_ne!(simulate(8, 1, 50).patients, tables.patients);
        assert_ne!(simulate(7, 2, 50).patients, tables.patients);
    }
}
