//! What to think about again before signing: `study check`.
//!
//! An agreement that is valid can still be a bad one: nothing can ever run, people are never asked, a column tells who
//! someone is. Each finding says what, why it matters and who should act. Most are matters of judgement, so a finding
//! refuses nothing; custodians sign in spite of it if they mean it.
//!
//! Does not: look at rows, or find everything. No finding is no promise.

use cohortium_messages::{
    Agreement, Analysis, ColumnRole, DatasetTerms, Decimal, Hash, Name, Party, ReleaseMode, Role, Schema, Sensitivity,
    Timestamp,
};
use cohortium_query::{Ask, check, expected_error, plan, rho_for_epsilon};
use serde::Serialize;

use crate::clause::join;
use crate::identifiers::{Suspicion, oldest, suspicion};
use crate::log_policy::log_terms;

/// Something to think about again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Who should act.
    pub who: Actor,
    /// How bad.
    pub severity: Severity,
    /// Where: a key of the agreement, with the name of the dataset, column or party where there is one.
    pub clause: String,
    /// What, why it matters, and what to do.
    pub words: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It cannot be meant: nothing can run, or something identifies people.
    Error,
    /// It weakens protection or trust: sign it only if it is meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// Who should act on a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// All custodians together.
    Custodians,
    /// Whoever drafts.
    Drafter,
    /// The party that is named, by offering people.
    Party,
    /// The stewards who describe the dataset, at every party alike.
    Stewards,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Custodians => "the custodians",
            Self::Drafter => "whoever drafts the agreement",
            Self::Party => "the named organisation",
            Self::Stewards => "the stewards of the dataset",
        })
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// Half the width of the 95 % interval of a single count above which an answer helps nobody: cohorts of a hospital have
/// hundreds to thousands of persons.
const USEFUL_ROWS: f64 = 100.0;

/// δ is the chance that the promise fails: it should stay well below one over the number of persons (Dwork and Roth 2014,
/// section 2.3), and a study has more than ten thousand of them often enough.
const LARGE_DELTA: &str = "0.0001";

/// Above this ε a promise of differential privacy says little (the upper end of what is in use: Dwork, Kohli and
/// Mulligan 2019, "Differential privacy in practice: expose your epsilons!").
const LARGE_EPSILON: i32 = 10;

/// The age above which HIPAA's Safe Harbor wants one category (164.514(b)(2)(i)(C)).
const OLDEST: i32 = 90;

/// What to think about again in an agreement, the worst first. `now` is this house's own clock.
#[must_use]
pub fn lint(agreement: &Agreement, now: Timestamp) -> Vec<Finding> {
    let mut found = Findings::default();
    found.validity(agreement, now);
    found.secure_sum(agreement);
    found.budgets(agreement);
    found.phases(agreement);
    found.approval(agreement);
    agreement.parties.iter().for_each(|party| found.people(party));
    found.use_of_data(agreement);
    agreement.datasets.iter().for_each(|terms| found.dataset(agreement, terms));
    let mut findings = found.0;
    findings.sort_by_key(|finding| finding.severity);
    findings
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, who: Actor, clause: impl Into<String>, words: impl Into<String>) {
        self.0.push(Finding { who, severity, clause: clause.into(), words: words.into() });
    }

    fn validity(&mut self, agreement: &Agreement, now: Timestamp) {
        if let Err(error) = agreement.validate() {
            self.add(Severity::Error, Actor::Drafter, "agreement", format!("it cannot be signed: {error}"));
        }
        match log_terms(agreement) {
            Err(error) => self.add(Severity::Error, Actor::Drafter, "log_policy", error.to_string()),
            Ok(terms) if !terms.post_quantum => self.add(
                Severity::Warning,
                Actor::Custodians,
                "log.post_quantum",
                "whoever breaks Ed25519 in some years can forge cosignatures of today: set post_quantum = true",
            ),
            Ok(_) => {}
        }
        if agreement.valid_until <= now {
            let words =
                format!("the agreement ended on {}, and nothing can be asked: set a later end", agreement.valid_until);
            self.add(Severity::Error, Actor::Drafter, "valid_until", words);
        }
        let term_s = agreement.valid_until.seconds().saturating_sub(agreement.valid_from.seconds());
        if i64::from(agreement.retention_days).saturating_mul(86_400) < term_s {
            self.add(
                Severity::Warning,
                Actor::Custodians,
                "retention_days",
                "what was asked and answered early is erased before the agreement ends, so that nobody can audit it then: \
                 retain at least as long as the agreement is in force",
            );
        }
    }

    fn secure_sum(&mut self, agreement: &Agreement) {
        let (n, c, t) = (agreement.parties.len(), agreement.secure_sum.colluders, agreement.secure_sum.threshold);
        // A third of all, as protocols that withstand arbitrary faults assume (Lamport, Shostak and Pease 1982).
        let third = n.saturating_sub(1) / 3;
        if (c as usize) < third {
            let words = format!(
                "of {n} organisations only {c} may collude without harm; with so many, {third} is a cautious number"
            );
            self.add(Severity::Warning, Actor::Custodians, "secure_sum.colluders", words);
        }
        let smallest = n.saturating_add(c as usize) / 2 + 1;
        if (t as usize) > smallest && t as usize == n {
            let words = format!(
                "one organisation that is away voids every round; with {c} colluders a threshold of {smallest} suffices"
            );
            self.add(Severity::Note, Actor::Custodians, "secure_sum.threshold", words);
        }
    }

    fn budgets(&mut self, agreement: &Agreement) {
        let budgets = &agreement.budgets;
        if LARGE_DELTA.parse::<Decimal>().is_ok_and(|large| budgets.delta > large) {
            let words = format!(
                "delta {} is the chance that the promise to a person fails: keep it well below one over the number of \
                 persons",
                budgets.delta
            );
            self.add(Severity::Warning, Actor::Custodians, "budgets.delta", words);
        }
        if budgets.epsilon_total > Decimal::from(LARGE_EPSILON) {
            let words = format!("epsilon {} in all promises little: 10 or less is in use", budgets.epsilon_total);
            self.add(Severity::Warning, Actor::Custodians, "budgets.epsilon_total", words);
        }
    }

    fn phases(&mut self, agreement: &Agreement) {
        let permitted = |analysis: &Analysis| agreement.analysis(*analysis).is_some();
        let mut until = agreement.valid_from;
        for phase in &agreement.phases {
            let clause = format!("phase {}", phase.kind);
            if phase.from > until {
                self.gap(until, phase.from);
            }
            until = phase.until;
            if !phase.analyses.iter().any(permitted) {
                let words = "none of its analyses is among those of the agreement: nothing can be asked in it";
                self.add(Severity::Error, Actor::Drafter, clause, words);
            } else if phase.epsilon_per_query > agreement.budgets.epsilon_per_query {
                let words =
                    "its epsilon_per_query is above that of the budgets, which holds beside it: it has no effect";
                self.add(Severity::Note, Actor::Drafter, clause, words);
            }
        }
        if !agreement.phases.is_empty() && until < agreement.valid_until {
            self.gap(until, agreement.valid_until);
        }
    }

    fn gap(&mut self, from: Timestamp, until: Timestamp) {
        let words = format!("from {from} until {until} there is no phase, and nothing may be asked");
        self.add(Severity::Warning, Actor::Drafter, "phases", words);
    }

    fn approval(&mut self, agreement: &Agreement) {
        let terms = &agreement.approval;
        let covers_all = terms.automatic.classes.iter().any(|class| {
            let all_analyses = agreement.analyses.iter().all(|terms| class.analyses.contains(&terms.analysis));
            let all_datasets = agreement.datasets.iter().all(|terms| class.datasets.contains(&terms.name));
            let most_cells = agreement.analyses.iter().map(|terms| terms.max_cells).max();
            let any_size = most_cells.is_none_or(|cells| class.max_cells >= cells);
            all_analyses && all_datasets && any_size && class.max_epsilon >= agreement.budgets.epsilon_per_query
        });
        let clause = "approval.automatic.classes";
        match (terms.needed, covers_all) {
            (_, true) => self.add(
                Severity::Warning,
                Actor::Custodians,
                clause,
                "everything that the agreement permits runs without asking anybody: name people, set needed to 2 and \
                 take the class away, or be sure that this is meant",
            ),
            (0, false) => self.add(
                Severity::Warning,
                Actor::Custodians,
                "approval.needed",
                "no person is ever asked; what is in no class is refused: name people and set needed to 2, or be sure \
                 that this is meant",
            ),
            (1, false) => self.add(
                Severity::Note,
                Actor::Custodians,
                "approval.needed",
                "one person alone lets a task through; with needed = 2 four eyes look at it",
            ),
            _ => {}
        }
        for Party { entry, people } in &agreement.parties {
            let who = people.iter().filter(|person| terms.roles.contains(&person.role)).count();
            if terms.needed > 0 && who == terms.needed as usize {
                let words = format!("exactly {who} of its people may approve: when one is away, nothing can run");
                self.add(Severity::Note, Actor::Party, format!("approval.needed at {}", entry.organisation), words);
            }
        }
    }

    fn people(&mut self, party: &Party) {
        let clause = format!("people of {}", party.entry.organisation);
        if !party.people.iter().any(|person| person.role == Role::PrivacyOfficer) {
            let words = "no privacy officer: nobody could end a freeze or lead an incident there: name one";
            self.add(Severity::Warning, Actor::Party, clause, words);
        }
    }

    fn use_of_data(&mut self, agreement: &Agreement) {
        if agreement.purposes.iter().any(|purpose| purpose.to_string() == "NRES") {
            let words = "NRES permits every use, also outside research: narrow it if that is not meant";
            self.add(Severity::Warning, Actor::Custodians, "purposes", words);
        }
        for condition in &agreement.conditions {
            let words = "whoever asks affirms it with every task, and no software checks that they keep it: say in \
                         `detail` who does";
            let clause = format!("condition {}", condition.modifier);
            self.add(Severity::Note, Actor::Custodians, clause, words);
        }
    }

    fn dataset(&mut self, agreement: &Agreement, terms: &DatasetTerms) {
        let name = &terms.name;
        match terms.mode {
            ReleaseMode::Exact => self.add(
                Severity::Error,
                Actor::Custodians,
                format!("dataset {name}: mode"),
                "no plan of this version answers from a dataset in exact mode: write mode = \"dp\"",
            ),
            ReleaseMode::Noised => self.usefulness(agreement, terms),
        }
        if terms.mode == ReleaseMode::Noised && terms.minimum_cohort == 0 {
            self.add(
                Severity::Note,
                Actor::Custodians,
                format!("dataset {name}: minimum_cohort"),
                "also groups of one are shown. Noise protects them, but their numbers are mostly noise: 10 is usual",
            );
        }
        self.columns(name, &terms.schema);
    }

    /// Whether the best price that any query may have buys an answer: the noise of a single count.
    fn usefulness(&mut self, agreement: &Agreement, terms: &DatasetTerms) {
        let clause = format!("budgets for dataset {}", terms.name);
        match error_of_a_count(agreement, terms) {
            Err(why) => {
                let words = format!("the most that a query may cost buys no answer ({why}): raise the limits");
                self.add(Severity::Error, Actor::Custodians, clause, words);
            }
            Ok(rows) if rows > USEFUL_ROWS => {
                let words = format!(
                    "the most that a query may cost buys a single count that is ± {rows:.0} rows: raise the limits, or \
                     lower max_rows_per_person = {}",
                    terms.schema.max_rows_per_person
                );
                self.add(Severity::Warning, Actor::Custodians, clause, words);
            }
            Ok(_) => {}
        }
    }

    fn columns(&mut self, dataset: &Name, schema: &Schema) {
        for column in &schema.columns {
            let clause = format!("dataset {dataset}: column {}", column.name);
            let is_used = !column.roles.is_empty();
            match suspicion(column) {
                Some(Suspicion::Identifier(letter, what)) if is_used => {
                    let words = format!(
                        "by its name it is one of {what} (45 CFR 164.514(b)(2)(i)({letter})) and may be used ({}): take \
                         its roles away and mark it identifying",
                        join(&column.roles)
                    );
                    self.add(Severity::Error, Actor::Stewards, clause.clone(), words);
                }
                Some(Suspicion::Identifier(..)) if column.sensitivity != Sensitivity::Identifying => {
                    let words =
                        "by its name it tells who someone is: mark it identifying, so that nobody uses it later";
                    self.add(Severity::Note, Actor::Stewards, clause.clone(), words);
                }
                Some(Suspicion::Quasi) if is_used && column.sensitivity == Sensitivity::Ordinary => {
                    let words = "by its name it tells who someone is together with others, and it is marked ordinary: \
                                 mark it quasi_identifying";
                    self.add(Severity::Warning, Actor::Stewards, clause.clone(), words);
                }
                _ => {}
            }
            if is_used && oldest(column).is_some_and(|age| age > Decimal::from(OLDEST)) {
                let words =
                    "it tells ages over 89, of whom there are few: let bounds or domain end at 90, for 90 and older";
                self.add(Severity::Warning, Actor::Stewards, format!("{clause}: ages"), words);
            }
            let is_learned = column.allows(ColumnRole::Feature) || column.allows(ColumnRole::Label);
            if is_learned && column.kind.is_number() && column.bounds.is_none() {
                let words =
                    "a model would learn from it, and nothing bounds what one person can contribute: declare bounds";
                self.add(Severity::Warning, Actor::Stewards, format!("{clause}: bounds"), words);
            }
        }
    }
}

/// Half the width of the 95 % interval of `COUNT(*)`, in rows, at the largest ε that any task may have: no other query
/// over the dataset has less noise in a cell.
fn error_of_a_count(agreement: &Agreement, terms: &DatasetTerms) -> Result<f64, String> {
    let of_analyses = agreement.analyses.iter().map(|terms| terms.max_epsilon).max();
    let of_phases = agreement.phases.iter().map(|phase| phase.epsilon_per_query).max();
    let limits = [Some(agreement.budgets.epsilon_per_query), of_analyses, of_phases];
    let epsilon = limits.into_iter().flatten().min().unwrap_or(Decimal::ZERO);
    let rho = rho_for_epsilon(epsilon, agreement.budgets.delta).map_err(|error| error.to_string())?;
    let hash = Hash::of(b"");
    let sql = format!("SELECT COUNT(*) FROM {}", terms.name);
    let plan = plan(&sql, agreement, hash, Ask { rho, draw: 0 }).map_err(|error| error.to_string())?;
    let priced = check(&plan, agreement, hash).map_err(|error| error.to_string())?;
    let survivors = u32::try_from(agreement.parties.len()).unwrap_or(u32::MAX);
    let errors = expected_error(&priced, survivors).map_err(|error| error.to_string())?;
    errors.first().map(|error| error.half_width).ok_or_else(|| String::from("nothing is shown"))
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{
        ApprovalTerms, AutomaticApproval, Condition, Modifier, PhaseKind, ProjectPhase, RosterEntry,
    };

    use super::*;
    use crate::fixtures::{World, start};
    use crate::log_policy::{LogTerms, log_policy};

    /// The policy that belongs to the agreement as it is.
    fn with_log_policy(agreement: &mut Agreement, post_quantum: bool) {
        let parties: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
        let quorum = (parties.len() as u32 + agreement.secure_sum.colluders) / 2 + 1;
        let terms = LogTerms { post_quantum, quorum };
        agreement.log_policy = log_policy(&agreement.hub, &parties, agreement.secure_sum, terms).unwrap().to_string();
    }

    /// An agreement of four in which there is nothing to think about again.
    fn clean() -> Agreement {
        let world = World::with(4, |agreement| {
            agreement.datasets.truncate(1);
            let heart = &mut agreement.datasets[0];
            heart.minimum_cohort = 10;
            for column in &mut heart.schema.columns {
                if ["age", "sex", "site"].contains(&column.name.as_str()) {
                    column.sensitivity = Sensitivity::QuasiIdentifying;
                }
            }
            heart.schema.columns[0].bounds = Some([0.into(), 90.into()]);
            agreement.approval = ApprovalTerms {
                automatic: AutomaticApproval { approved_plans: false, classes: Vec::new() },
                hold: false,
                needed: 2,
                roles: vec![Role::PrivacyOfficer, Role::Steward],
                wait_hours: 72,
            };
            with_log_policy(agreement, true);
        });
        (*world.agreement).clone()
    }

    fn phases(agreement: &mut Agreement, days: &[(i64, i64)]) {
        let at = |day: i64| start().plus_seconds(day * 86_400);
        let phase = |(from, until): &(i64, i64)| ProjectPhase {
            analyses: vec![Analysis::Count],
            epsilon_per_query: 1.into(),
            from: at(*from),
            kind: PhaseKind::Analyse,
            until: at(*until),
        };
        agreement.phases = days.iter().map(phase).collect();
    }

    type Edit = fn(&mut Agreement);

    /// An edit of a clean agreement, and the one finding that must come of it.
    #[test]
    fn each_edit_is_found_and_nothing_else() {
        let cases: [(Edit, Severity, &str, &str); 31] = [
            (|a| a.secure_sum.threshold = 2, Severity::Error, "agreement", "2·threshold > organisations + colluders"),
            (|a| a.log_policy.push_str("# x\n"), Severity::Error, "log_policy", "witness keys with one quorum"),
            (|a| with_log_policy(a, false), Severity::Warning, "log.post_quantum", "forge cosignatures of today"),
            (
                |a| (a.valid_from, a.valid_until) = (start().plus_seconds(-9), start()),
                Severity::Error,
                "valid_until",
                "ended on 2026-11-22T00:00:00Z",
            ),
            (|a| a.retention_days = 364, Severity::Warning, "retention_days", "erased before the agreement ends"),
            (|a| a.secure_sum.threshold = 4, Severity::Note, "secure_sum.threshold", "a threshold of 3 suffices"),
            (
                |a| a.budgets.delta = "0.001".parse().unwrap(),
                Severity::Warning,
                "budgets.delta",
                "the chance that the promise to a person fails",
            ),
            (|a| a.budgets.epsilon_total = 11.into(), Severity::Warning, "budgets.epsilon_total", "promises little"),
            (
                |a| a.budgets.epsilon_per_query = "0.01".parse().unwrap(),
                Severity::Warning,
                "budgets for dataset heart",
                "a single count that is ± ",
            ),
            (
                |a| a.budgets.epsilon_per_query = "0.000000001".parse().unwrap(),
                Severity::Error,
                "budgets for dataset heart",
                "buys no answer",
            ),
            (
                |a| a.analyses.iter_mut().for_each(|terms| terms.max_epsilon = "0.01".parse().unwrap()),
                Severity::Warning,
                "budgets for dataset heart",
                "a single count that is ± ",
            ),
            (|a| phases(a, &[(1, 365)]), Severity::Warning, "phases", "until 2026-11-23T00:00:00Z there is no phase"),
            (|a| phases(a, &[(0, 9), (10, 365)]), Severity::Warning, "phases", "from 2026-12-01T00:00:00Z until"),
            (|a| phases(a, &[(0, 364)]), Severity::Warning, "phases", "from 2027-11-21T00:00:00Z until"),
            (
                |a| {
                    phases(a, &[(0, 365)]);
                    a.analyses.remove(0);
                },
                Severity::Error,
                "phase analyse",
                "nothing can be asked in it",
            ),
            (
                |a| {
                    phases(a, &[(0, 365)]);
                    a.phases[0].epsilon_per_query = 2.into();
                },
                Severity::Note,
                "phase analyse",
                "it has no effect",
            ),
            (
                |a| a.approval = ApprovalTerms::everything_automatic(vec!["heart".parse().unwrap()], 1.into()),
                Severity::Warning,
                "approval.automatic.classes",
                "without asking anybody",
            ),
            (
                |a| {
                    a.approval = ApprovalTerms::everything_automatic(vec!["heart".parse().unwrap()], 1.into());
                    a.approval.automatic.classes[0].max_cells = 999;
                },
                Severity::Warning,
                "approval.needed",
                "no person is ever asked",
            ),
            (|a| a.approval.needed = 1, Severity::Note, "approval.needed", "one person alone lets a task through"),
            (
                |a| drop(a.parties[1].people.remove(1)),
                Severity::Note,
                "approval.needed at b",
                "exactly 2 of its people may approve",
            ),
            (|a| a.parties[2].people[0].role = Role::Steward, Severity::Warning, "people of c", "no privacy officer"),
            (|a| a.purposes = vec!["NRES".parse().unwrap()], Severity::Warning, "purposes", "permits every use"),
            (
                |a| a.conditions = vec![Condition { detail: "x".into(), modifier: Modifier::Ncu }],
                Severity::Note,
                "condition NCU",
                "no software checks that they keep it",
            ),
            (
                |a| a.datasets[0].mode = ReleaseMode::Exact,
                Severity::Error,
                "dataset heart: mode",
                "no plan of this version",
            ),
            (
                |a| a.datasets[0].minimum_cohort = 0,
                Severity::Note,
                "dataset heart: minimum_cohort",
                "also groups of one are shown",
            ),
            (
                |a| a.datasets[0].schema.columns[3].name = "last_name".parse().unwrap(),
                Severity::Error,
                "dataset heart: column last_name",
                "one of names (45 CFR 164.514(b)(2)(i)(A)) and may be used (group)",
            ),
            (
                |a| a.datasets[0].schema.columns[4].name = "mrn".parse().unwrap(),
                Severity::Note,
                "dataset heart: column mrn",
                "mark it identifying",
            ),
            (
                |a| a.datasets[0].schema.columns[2].sensitivity = Sensitivity::Ordinary,
                Severity::Warning,
                "dataset heart: column sex",
                "mark it quasi_identifying",
            ),
            (
                |a| a.datasets[0].schema.columns[0].bounds = Some([0.into(), 91.into()]),
                Severity::Warning,
                "dataset heart: column age: ages",
                "ages over 89",
            ),
            (
                |a| a.datasets[0].schema.columns[2].roles.push(ColumnRole::Label),
                Severity::Warning,
                "dataset heart: column sex: bounds",
                "declare bounds",
            ),
            (
                |a| a.datasets[0].schema.columns[3].name = "zip".parse().unwrap(),
                Severity::Error,
                "dataset heart: column zip",
                "geographic subdivisions",
            ),
        ];
        let clean = clean();
        let now = start().plus_seconds(1);
        assert_eq!(lint(&clean, now), []);
        for (edit, severity, clause, words) in cases {
            let mut agreement = clean.clone();
            edit(&mut agreement);
            let found = lint(&agreement, now);
            let [finding] = found.as_slice() else { panic!("{clause}: {found:#?}") };
            assert_eq!((finding.severity, finding.clause.as_str()), (severity, clause), "{finding:?}");
            assert!(finding.words.contains(words), "{finding:?}");
        }
        let seven = World::with(7, |agreement| with_log_policy(agreement, true));
        let found = lint(&seven.agreement, now);
        let colluders = found.iter().find(|finding| finding.clause == "secure_sum.colluders").unwrap();
        assert!(colluders.words.contains("2 is a cautious number"), "{colluders:?}");
    }

    /// The worst come first, and what the template writes is found to be what it is.
    #[test]
    fn what_the_template_writes_is_looked_at_too() {
        let world = World::new(3);
        for (staff, expected) in [(&world.staff[..], "one person alone"), (&[], "without asking anybody")] {
            let agreement = world.resolve(&crate::draft::parse(&world.draft_text(staff)).unwrap()).unwrap();
            let found = lint(&agreement, start());
            assert!(found.is_sorted_by_key(|finding| finding.severity));
            assert!(found.iter().any(|finding| finding.words.contains(expected)), "{found:#?}");
            assert!(found.iter().all(|finding| finding.severity != Severity::Error), "{found:#?}");
        }
        let json = serde_json::to_value(&lint(&world.agreement, start())[0]).unwrap();
        assert_eq!((&json["severity"], &json["who"]), (&"warning".into(), &"custodians".into()));
    }
}
