//! Rules that notice what a person should look at: each says what it saw and what that may mean.
//!
//! An alarm is no clause. The clauses decide, the account bounds what can be learnt; these rules look for behaviour that
//! is permitted and paid and still unlike what was agreed: two cohorts that differ by little (differencing; Denning &
//! Schlörer 1980, "A fast procedure for finding a tracker in a statistical database"), the same question again and again
//! (the rule of seven of i2b2's lockout), a burst of refusals, a cohort near the minimum, a new combination of purpose
//! and analysis, an odd hour. A house states its own numbers, and which rules freeze a study at once.
//!
//! Given tasks only: nothing here has seen a row, so an alarm tells nothing about one. The exception says so:
//! [`Rules::near_minimum`] looks at the noised counts of a release, which are public to the study.
//!
//! Does not: prevent differencing (noise and price do), or find cohorts that are alike in meaning but not in form:
//! `age > 64` and `age >= 65` are two forms.

use std::collections::BTreeSet;

use cohortium_messages::{Analysis, Hash, Name, Plan, Predicate, Purpose, Scalar, Timestamp};
use serde::{Deserialize, Serialize};

/// What can be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Many refusals of one researcher in a short time.
    BurstOfRefusals,
    /// A cohort that differs by one condition from one that was asked about before.
    Differencing,
    /// A purpose that was never before combined with this kind of computation.
    FirstPair,
    /// The same plan again and again.
    IdenticalPlan,
    /// A group whose noised count is close to the smallest that is shown.
    NearMinimum,
    /// Asked outside the hours of work.
    OffHours,
}

impl Rule {
    /// The name, as it stands in alerts and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BurstOfRefusals => "burst-of-refusals",
            Self::Differencing => "differencing",
            Self::FirstPair => "first-pair",
            Self::IdenticalPlan => "identical-plan",
            Self::NearMinimum => "near-minimum",
            Self::OffHours => "off-hours",
        }
    }
}

/// The numbers of the rules, as a house states them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// So many refusals …
    pub burst_refusals: u32,
    /// … within so many minutes are a burst.
    pub burst_window_minutes: u32,
    /// Rules that freeze the study at this node until a privacy officer looked.
    pub freeze: BTreeSet<Rule>,
    /// So many askings of one plan …
    pub identical_plans: u32,
    /// … within so many days are too many.
    pub identical_window_days: u32,
    /// A shown noised count below this many times the minimum is near it.
    pub near_minimum_factor: u32,
    /// Work begins at this hour, Monday to Friday …
    pub work_begins_hour: u32,
    /// … and ends at this one. Equal to the beginning: all hours are alike.
    pub work_ends_hour: u32,
    /// How far the house's clock is ahead of UTC, minutes; negative west of Greenwich.
    pub utc_offset_minutes: i32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            burst_refusals: 5,
            burst_window_minutes: 60,
            freeze: BTreeSet::new(),
            identical_plans: 7,
            identical_window_days: 30,
            near_minimum_factor: 2,
            // Which hours are odd only the house knows.
            work_begins_hour: 0,
            work_ends_hour: 0,
            utc_offset_minutes: 0,
        }
    }
}

/// A task as the rules see it: what they compare, and no more of the plan than that, so that many can be kept and looked
/// through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// When it was asked here.
    pub at: Timestamp,
    /// Which kinds of computation.
    pub analyses: BTreeSet<Analysis>,
    /// The conditions that who is in the cohort meets.
    cohort: BTreeSet<Condition>,
    /// The dataset.
    dataset: Name,
    /// What the plan is called by, with draw 0: a repetition is the same question.
    pub question: Hash,
    /// What for.
    pub purpose: Purpose,
    /// Whether it was refused here.
    pub refused: bool,
    /// Who asked.
    pub researcher: Name,
}

impl Seen {
    /// A task, with what its plan computes.
    ///
    /// # Errors
    /// Never for a plan that was read or built here; the error is our own.
    pub fn new(
        plan: &Plan,
        analyses: BTreeSet<Analysis>,
        purpose: &Purpose,
        researcher: &Name,
        at: Timestamp,
        refused: bool,
    ) -> Result<Self, cohortium_messages::CanonicalError> {
        let question = Plan { draw: 0, ..plan.clone() }.hash()?;
        let (purpose, researcher) = (purpose.clone(), researcher.clone());
        let (cohort, dataset) = (conditions(plan), plan.dataset.clone());
        Ok(Self { at, analyses, cohort, dataset, question, purpose, refused, researcher })
    }
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Whether the house freezes the study for it.
    pub freezes: bool,
    /// Which rule.
    pub rule: Rule,
    /// What was seen, and what it may mean.
    pub why: String,
}

impl Rules {
    /// What is remarkable about `new` after `past`: earlier tasks of the same study, oldest first.
    #[must_use]
    pub fn look(&self, new: &Seen, past: &[Seen]) -> Vec<Alarm> {
        let found = [
            (Rule::Differencing, differencing(new, past)),
            (Rule::BurstOfRefusals, self.burst(new, past)),
            (Rule::FirstPair, first_pair(new, past)),
            (Rule::IdenticalPlan, self.identical(new, past)),
            (Rule::OffHours, self.off_hours(new.at)),
        ];
        found.into_iter().filter_map(|(rule, why)| Some(self.alarm(rule, why?))).collect()
    }

    /// Whether a released group is close to the smallest that is shown. `counts` are the noised counts of shown groups.
    #[must_use]
    pub fn near_minimum(&self, counts: &[i64], minimum: u32) -> Option<Alarm> {
        let below = i64::from(minimum) * i64::from(self.near_minimum_factor);
        let near = counts.iter().filter(|count| **count < below).count();
        let why = format!(
            "{near} of {} groups shown have a noised count below {below}, where {minimum} is the least that is shown: small \
             groups are easier to tell apart",
            counts.len()
        );
        (minimum > 0 && near > 0).then(|| self.alarm(Rule::NearMinimum, why))
    }

    fn alarm(&self, rule: Rule, why: String) -> Alarm {
        Alarm { freezes: self.freeze.contains(&rule), rule, why }
    }

    fn burst(&self, new: &Seen, past: &[Seen]) -> Option<String> {
        let since = new.at.plus_seconds(-60 * i64::from(self.burst_window_minutes));
        let of_hers = past.iter().filter(|seen| seen.researcher == new.researcher && seen.refused && seen.at >= since);
        let refused = of_hers.count() + usize::from(new.refused);
        // At the number itself, and not again for every task after it.
        (new.refused && refused == self.burst_refusals as usize).then(|| {
            format!(
                "{refused} tasks of `{}` were refused within {} minutes: somebody may be trying out what is allowed",
                new.researcher, self.burst_window_minutes
            )
        })
    }

    fn identical(&self, new: &Seen, past: &[Seen]) -> Option<String> {
        let since = new.at.plus_seconds(-86_400 * i64::from(self.identical_window_days));
        // What was refused has no answer; it comes and goes out of sight, and the number would be jumped over.
        let is_same = |seen: &&Seen| !seen.refused && seen.question == new.question && seen.at >= since;
        let same = past.iter().filter(is_same).count() + 1;
        (!new.refused && same == self.identical_plans as usize).then(|| {
            format!(
                "the same question was asked {same} times within {} days: its answers can be averaged, and each was paid",
                self.identical_window_days
            )
        })
    }

    fn off_hours(&self, at: Timestamp) -> Option<String> {
        if self.work_begins_hour == self.work_ends_hour {
            return None;
        }
        let local = at.seconds() + 60 * i64::from(self.utc_offset_minutes);
        let hour = local.rem_euclid(86_400) / 3600;
        // 1 January 1970 was a Thursday; Monday is 0.
        let weekday = (local.div_euclid(86_400) + 3).rem_euclid(7);
        let (begins, ends) = (i64::from(self.work_begins_hour), i64::from(self.work_ends_hour));
        let is_in_hours = if begins < ends { (begins..ends).contains(&hour) } else { !(ends..begins).contains(&hour) };
        if weekday < 5 && is_in_hours {
            return None;
        }
        Some(format!(
            "asked at {at}, outside {begins}:00 to {ends}:00, Monday to Friday (UTC {:+} minutes): a stolen key is often used \
             when nobody looks",
            self.utc_offset_minutes
        ))
    }
}

fn first_pair(new: &Seen, past: &[Seen]) -> Option<String> {
    let seen = |analysis: &Analysis| {
        past.iter().any(|seen| !seen.refused && seen.purpose == new.purpose && seen.analyses.contains(analysis))
    };
    let fresh: Vec<String> = new.analyses.iter().filter(|analysis| !seen(analysis)).map(ToString::to_string).collect();
    (!fresh.is_empty()).then(|| {
        format!("the first {} that anybody asks in this study for purpose {}", fresh.join(" and "), new.purpose)
    })
}

/// The first earlier cohort of the same dataset that differs from this one by little.
fn differencing(new: &Seen, past: &[Seen]) -> Option<String> {
    let of_dataset = past.iter().filter(|seen| !seen.refused && seen.dataset == new.dataset);
    let (seen, how) = of_dataset.rev().find_map(|seen| Some((seen, difference(&seen.cohort, &new.cohort)?)))?;
    Some(format!(
        "the cohort of this task {} that of plan {} asked by `{}` at {}: the difference of two such answers speaks about few",
        how.verb(),
        seen.question.short(),
        seen.researcher,
        seen.at
    ))
}

/// How the rows that `new` is about differ from those of `old`, in words, where they differ by little: then the difference
/// of the two answers speaks about few persons.
#[must_use]
pub fn near(old: &Plan, new: &Plan) -> Option<&'static str> {
    if old.dataset != new.dataset {
        return None;
    }
    let how = difference(&conditions(old), &conditions(new))?;
    Some(how.sentence())
}

/// The conditions that must all hold, in one form: nested conjunctions flattened, double negations gone, order ignored.
fn conditions(plan: &Plan) -> BTreeSet<Condition> {
    let mut parts = Vec::new();
    if let Some(filter) = &plan.filter {
        flatten(filter, &mut parts);
    }
    parts.into_iter().map(|part| Condition { form: Hash::of(form(part).as_bytes()), columns: columns(part) }).collect()
}

/// A condition: which it is, and on which columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    /// The hash of its [`form`].
    form: Hash,
    columns: BTreeSet<Name>,
}

fn flatten<'a>(predicate: &'a Predicate, parts: &mut Vec<&'a Predicate>) {
    match predicate {
        Predicate::And(all) => all.iter().for_each(|part| flatten(part, parts)),
        Predicate::Not(inner) => match &**inner {
            Predicate::Not(twice) => flatten(twice, parts),
            _ => parts.push(predicate),
        },
        _ => parts.push(predicate),
    }
}

/// A text that is the same for conditions that differ in the order of their parts only.
fn form(predicate: &Predicate) -> String {
    let list = |word: &str, parts: &[Predicate]| {
        let mut forms: Vec<String> = parts.iter().map(form).collect();
        forms.sort();
        format!("{word}({})", forms.join(","))
    };
    match predicate {
        Predicate::And(parts) => list("and", parts),
        Predicate::Or(parts) => list("or", parts),
        Predicate::Not(part) => format!("not({})", form(part)),
        Predicate::In { of, values } => {
            let mut values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            values.sort();
            format!("in({of:?};{})", values.join(","))
        }
        Predicate::Compare { .. } | Predicate::IsMissing(_) => format!("{predicate:?}"),
    }
}

fn columns(predicate: &Predicate) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    let mut rest = vec![predicate];
    while let Some(next) = rest.pop() {
        match next {
            Predicate::And(parts) | Predicate::Or(parts) => rest.extend(parts),
            Predicate::Not(part) => rest.push(part),
            Predicate::Compare { left, right, .. } => {
                [left, right].into_iter().for_each(|of| add_columns(of, &mut names))
            }
            Predicate::In { of, .. } | Predicate::IsMissing(of) => add_columns(of, &mut names),
        }
    }
    names
}

fn add_columns(scalar: &Scalar, names: &mut BTreeSet<Name>) {
    match scalar {
        Scalar::Column(name) => drop(names.insert(name.clone())),
        Scalar::Literal(_) => {}
        Scalar::Arithmetic { left, right, .. } => [left, right].into_iter().for_each(|side| add_columns(side, names)),
    }
}

/// How two cohorts differ, if by one condition: added, taken away, or changed on the same columns.
fn difference(old: &BTreeSet<Condition>, new: &BTreeSet<Condition>) -> Option<Difference> {
    let gone: Vec<&Condition> = old.difference(new).collect();
    let added: Vec<&Condition> = new.difference(old).collect();
    match (gone.as_slice(), added.as_slice()) {
        ([], [_]) => Some(Difference::Added),
        ([_], []) => Some(Difference::TakenAway),
        ([one], [other]) if one.columns == other.columns => Some(Difference::Changed),
        _ => None,
    }
}

/// By which one condition two cohorts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    Added,
    Changed,
    TakenAway,
}

impl Difference {
    /// Between the words for the new cohort and the old one.
    const fn verb(self) -> &'static str {
        match self {
            Self::Added => "has one condition more than",
            Self::Changed => "differs in one condition on the same columns from",
            Self::TakenAway => "has one condition less than",
        }
    }

    /// By itself.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Added => "this one has one condition more",
            Self::Changed => "one condition on the same columns is another",
            Self::TakenAway => "this one has one condition less",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{World, start};

    /// A count over the fixture's dataset, asked at noon of a working day.
    fn seen(filter: &str, minutes: i64) -> Seen {
        seen_drawn(filter, minutes, 0)
    }

    /// The same, asked for the `draw`-th time.
    fn seen_drawn(filter: &str, minutes: i64, draw: u32) -> Seen {
        // The fixture's start is a Sunday.
        let at = start().plus_seconds(86_400 + 12 * 3600 + 60 * minutes);
        let (plan, analyses) = (plan_drawn(filter, draw), BTreeSet::from([Analysis::Count]));
        Seen::new(&plan, analyses, &Purpose::HealthMedicalBiomedical, &Name::new("rosa").unwrap(), at, false).unwrap()
    }

    fn plan_drawn(filter: &str, draw: u32) -> Plan {
        static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
        let world = WORLD.get_or_init(|| World::new(3));
        let sql = format!("SELECT COUNT(*) FROM heart {filter}");
        let ask = cohortium_query::Ask { rho: cohortium_dp::NanoNats::new(1_000_000), draw };
        cohortium_query::plan(&sql, &world.agreement, world.agreement.hash(), ask).unwrap()
    }

    fn rules_raised(new: &Seen, past: &[Seen]) -> Vec<Rule> {
        Rules::default().look(new, past).into_iter().map(|alarm| alarm.rule).collect()
    }

    /// earlier filter, later filter, whether they are near
    #[test]
    fn cohorts_that_differ_by_one_condition_are_noticed() {
        for (old, new, near) in [
            ("", "WHERE sex = 1", true),
            ("WHERE sex = 1", "", true),
            ("WHERE sex = 1", "WHERE sex = 1", false),
            ("WHERE sex = 1", "WHERE sex = 1 AND age = 93", true),
            ("WHERE sex = 1 AND age = 93", "WHERE age = 93 AND sex = 1", false),
            ("WHERE sex = 1 AND age < 93", "WHERE sex = 1 AND age < 94", true),
            ("WHERE sex = 1 AND NOT (age = 93)", "WHERE sex = 1", true),
            ("WHERE sex IN (0, 1)", "WHERE sex IN (1, 0)", false),
            ("WHERE sex IN (0, 1)", "WHERE sex IN (1)", true),
            ("WHERE sex = 1", "WHERE age < 60", false),
            ("WHERE sex = 1 AND age < 50", "WHERE sex = 0 AND age < 60", false),
        ] {
            let raised = rules_raised(&seen(new, 1), &[seen(old, 0)]);
            assert_eq!(raised.contains(&Rule::Differencing), near, "{old} then {new}: {raised:?}");
            assert_eq!(super::near(&plan_drawn(old, 0), &plan_drawn(new, 0)).is_some(), near, "{old} then {new}");
        }
    }

    #[test]
    fn what_was_refused_leaves_nothing_to_difference() {
        let refused = Seen { refused: true, ..seen("", 0) };
        assert!(!rules_raised(&seen("WHERE sex = 1", 1), &[refused]).contains(&Rule::Differencing));
    }

    #[test]
    fn the_seventh_identical_question_is_noticed_once_and_a_draw_does_not_hide_it() {
        let mut past = Vec::new();
        for number in 1..=9 {
            let new = seen_drawn("WHERE sex = 1", number, number as u32);
            assert_eq!(rules_raised(&new, &past).contains(&Rule::IdenticalPlan), number == 7, "asking {number}");
            past.push(new);
        }
        // Refused ones do not count, wherever they stand.
        let (mut past, refused) = (Vec::new(), Seen { refused: true, ..seen("WHERE sex = 1", 0) });
        for number in 1..=9 {
            past.extend([refused.clone(), refused.clone()]);
            assert!(!rules_raised(&refused, &past).contains(&Rule::IdenticalPlan));
            let new = seen("WHERE sex = 1", number);
            assert_eq!(rules_raised(&new, &past).contains(&Rule::IdenticalPlan), number == 7, "asking {number}");
            past.push(new);
        }
        let later = seen("WHERE sex = 1", 60 * 24 * 40);
        assert!(!rules_raised(&later, &past[..6]).contains(&Rule::IdenticalPlan));
    }

    #[test]
    fn a_burst_is_of_one_researcher_and_within_the_window() {
        let refused = |minutes| Seen { refused: true, ..seen("", minutes) };
        let past: Vec<Seen> = (0..4).map(refused).collect();
        assert!(rules_raised(&refused(5), &past).contains(&Rule::BurstOfRefusals));
        assert!(!rules_raised(&seen("", 5), &past).contains(&Rule::BurstOfRefusals));
        assert!(!rules_raised(&refused(65), &past).contains(&Rule::BurstOfRefusals));
        let other = Seen { researcher: Name::new("otto").unwrap(), ..refused(5) };
        assert!(!rules_raised(&other, &past).contains(&Rule::BurstOfRefusals));
    }

    #[test]
    fn a_new_combination_of_purpose_and_analysis_is_noticed_once() {
        let first = seen("", 0);
        assert!(rules_raised(&first, &[]).contains(&Rule::FirstPair));
        assert!(!rules_raised(&seen("", 1), std::slice::from_ref(&first)).contains(&Rule::FirstPair));
        let broader = Seen { purpose: Purpose::GeneralResearch, ..seen("", 2) };
        assert!(rules_raised(&broader, &[first]).contains(&Rule::FirstPair));
    }

    /// day after the Sunday of the fixture, hour, offset, whether it is odd
    #[test]
    fn odd_hours_follow_the_houses_clock() {
        for (day, hour, offset, odd) in [
            (1, 12, 0, false),
            (1, 6, 0, true),
            (1, 6, 60, false),
            (1, 19, 0, true),
            (5, 18, 0, false),
            (6, 12, 0, true),
            (0, 12, 0, true),
            (0, 23, 9 * 60, false),
        ] {
            let (work_begins_hour, work_ends_hour) = (7, 19);
            let rules = Rules { utc_offset_minutes: offset, work_begins_hour, work_ends_hour, ..Rules::default() };
            let at = start().plus_seconds(day * 86_400 + hour * 3600);
            assert_eq!(rules.off_hours(at).is_some(), odd, "day {day} hour {hour} offset {offset}");
        }
        assert!(Rules::default().off_hours(start()).is_none());
    }

    #[test]
    fn small_groups_are_noticed_and_a_rule_freezes_where_the_house_says_so() {
        let rules: Rules = toml::from_str("freeze = [\"near-minimum\"]").unwrap();
        let alarm = rules.near_minimum(&[500, 15, 9], 10).unwrap();
        assert!(alarm.freezes && alarm.why.starts_with("2 of 3 groups"));
        assert!(rules.near_minimum(&[500, 20], 10).is_none());
        assert!(rules.near_minimum(&[1], 0).is_none());
        assert!(toml::from_str::<Rules>("freeze = [\"everything\"]").is_err());
    }
}
