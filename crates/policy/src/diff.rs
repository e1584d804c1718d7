//! What an amendment changes, clause by clause, and in which direction: `study diff`.
//!
//! Custodians sign an amendment as a whole agreement; this tells them what to read. Each change *widens* (something may be
//! done that could not be done before), *narrows*, or *changes* words that no software can judge. Whatever is not known
//! to narrow counts as widening, so that nobody signs a widening unawares:
//!
//! Promise: given two valid agreements, if no change widens, every task that the new one permits was permitted by the old
//! one, at a price, approval and quorum that sufficed then. Argued field by field below; tested on random agreements
//! and tasks against the compiled policies.
//!
//! Every struct is taken apart by name, so that a new key cannot be forgotten here.
//!
//! Does not: judge free text, or see what only people know (that a new key belongs to the same person).

use std::collections::BTreeSet;
use std::fmt::Display;

use cohortium_messages::{
    Agreement, AnalysisTerms, ApprovalClass, ApprovalTerms, AttackThresholds, AutomaticApproval, Budgets, Column,
    Condition, DatasetTerms, Name, Ownership, Party, PersonEntry, ProjectPhase, Purpose, ResearcherTerms, Role,
    RosterEntry, Schema, SecureSumTerms, Sensitivity, Timestamp,
};
use serde::Serialize;

use crate::clause::{join, shorten};
use crate::draft::entry_hash;
use crate::log_policy::log_terms;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: a key of the agreement, with the name of what it is about.
    pub clause: String,
    /// In which direction.
    pub direction: Direction,
    /// From what to what.
    pub words: String,
}

/// In which direction a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Something may be done that could not be done before, or it is not known that it could.
    Widens,
    /// Words that people must read: no task is permitted because of them.
    Changes,
    /// Less may be done than before.
    Narrows,
}

impl Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Widens => "widens",
            Self::Changes => "changes",
            Self::Narrows => "narrows",
        })
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.direction, self.clause, self.words)
    }
}

/// What `new` changes of `old`: what widens first.
#[must_use]
pub fn diff(old: &Agreement, new: &Agreement) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.agreement(old, new);
    let mut changes = changes.0;
    changes.sort_by_key(|change| change.direction);
    changes
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, direction: Direction, clause: impl Into<String>, words: impl Into<String>) {
        self.0.push(Change { clause: clause.into(), direction, words: words.into() });
    }

    /// A limit: more of it permits more.
    fn limit<T: PartialOrd + Display>(&mut self, clause: impl Into<String>, old: &T, new: &T) {
        if old != new {
            let direction = if new < old { Direction::Narrows } else { Direction::Widens };
            self.add(direction, clause, format!("{old} becomes {new}"));
        }
    }

    /// A demand: more of it permits less.
    fn demand<T: PartialOrd + Display>(&mut self, clause: impl Into<String>, old: &T, new: &T) {
        if old != new {
            let direction = if new > old { Direction::Narrows } else { Direction::Widens };
            self.add(direction, clause, format!("{old} becomes {new}"));
        }
    }

    /// Words that bind people and no machine.
    fn words(&mut self, clause: impl Into<String>, old: &str, new: &str) {
        if old != new {
            self.add(Direction::Changes, clause, format!("read both: “{}” becomes “{}”", shorten(old), shorten(new)));
        }
    }

    /// Anything that is not known to narrow.
    fn unlike(&mut self, clause: impl Into<String>, is_same: bool, words: impl Into<String>) {
        if !is_same {
            self.add(Direction::Widens, clause, words);
        }
    }

    fn agreement(&mut self, old: &Agreement, new: &Agreement) {
        let Agreement {
            analyses,
            approval,
            attack_thresholds,
            budgets,
            conditions,
            datasets,
            hub,
            // Follows from hub, parties and the terms that are compared below.
            log_policy: _,
            ownership,
            parties,
            phases,
            previous: _,
            purpose_text,
            purposes,
            researchers,
            retention_days,
            revision: _,
            risk_acceptance,
            secure_sum,
            study,
            title,
            valid_from,
            valid_until,
            version,
        } = old;
        self.succession(old, new);
        self.unlike("version", *version == new.version, "another version of the format, with rules of its own");
        self.unlike("study", *study == new.study, format!("`{study}` becomes `{}`", new.study));
        self.unlike("hub", *hub == new.hub, "another hub, or other keys of it: compare the fingerprint");
        self.words("title", title, &new.title);
        self.words("purpose_text", purpose_text, &new.purpose_text);
        self.words("risk_acceptance.accepted_by", &risk_acceptance.accepted_by, &new.risk_acceptance.accepted_by);
        self.words("risk_acceptance.statement", &risk_acceptance.statement, &new.risk_acceptance.statement);
        self.ownership(ownership, &new.ownership);
        self.demand("valid_from", valid_from, &new.valid_from);
        self.limit("valid_until", valid_until, &new.valid_until);
        // Shorter means that less can be audited; longer is for people to judge.
        match new.retention_days.cmp(retention_days) {
            std::cmp::Ordering::Less => self.demand("retention_days", retention_days, &new.retention_days),
            _ => self.words("retention_days", &retention_days.to_string(), &new.retention_days.to_string()),
        }
        self.purposes(purposes, &new.purposes);
        self.conditions(conditions, &new.conditions);
        self.analyses(analyses, &new.analyses);
        self.phases(phases, &new.phases);
        self.parties(parties, &new.parties);
        self.researchers(researchers, &new.researchers);
        self.approval(approval, &new.approval);
        self.budgets(budgets, &new.budgets);
        self.secure_sum(*secure_sum, new.secure_sum);
        self.log(old, new);
        self.attack_thresholds(attack_thresholds, &new.attack_thresholds);
        self.datasets(datasets, &new.datasets);
    }

    /// Whether the new agreement says itself that it amends the old one.
    fn succession(&mut self, old: &Agreement, new: &Agreement) {
        if old == new {
            return;
        }
        let follows = entry_hash(old).is_ok_and(|hash| new.previous == Some(hash));
        self.unlike("previous", follows, "it does not name the other one as the agreement that it amends");
        let is_next = old.revision.checked_add(1) == Some(new.revision);
        self.unlike("revision", is_next, format!("{} is not followed by {}", old.revision, new.revision));
    }

    fn ownership(&mut self, old: &Ownership, new: &Ownership) {
        let Ownership { data, models, passing_on, results } = old;
        self.words("ownership.data", data, &new.data);
        self.words("ownership.models", models, &new.models);
        self.words("ownership.passing_on", passing_on, &new.passing_on);
        self.words("ownership.results", results, &new.results);
    }

    /// Narrower where every purpose was covered before.
    fn purposes(&mut self, old: &[Purpose], new: &[Purpose]) {
        if old == new {
            return;
        }
        let covers =
            |granted: &[Purpose], asked: &[Purpose]| asked.iter().all(|a| granted.iter().any(|g| g.permits(a)));
        let direction = match (covers(old, new), covers(new, old)) {
            (true, true) => Direction::Changes,
            (true, false) => Direction::Narrows,
            (false, _) => Direction::Widens,
        };
        self.add(direction, "purposes", format!("{} becomes {}", join(old), join(new)));
    }

    fn conditions(&mut self, old: &[Condition], new: &[Condition]) {
        for Condition { detail, modifier } in old {
            match new.iter().find(|condition| condition.modifier == *modifier) {
                Some(condition) => self.words(format!("condition {modifier}"), detail, &condition.detail),
                None => self.add(Direction::Widens, format!("condition {modifier}"), "need not be affirmed any more"),
            }
        }
        for condition in added(old, new, |condition| condition.modifier) {
            let words = format!("must be affirmed: {}", shorten(&condition.detail));
            self.add(Direction::Narrows, format!("condition {}", condition.modifier), words);
        }
    }

    fn analyses(&mut self, old: &[AnalysisTerms], new: &[AnalysisTerms]) {
        for AnalysisTerms { analysis, max_cells, max_epsilon } in old {
            match new.iter().find(|terms| terms.analysis == *analysis) {
                Some(terms) => {
                    self.limit(format!("analysis {analysis}: max_cells"), max_cells, &terms.max_cells);
                    self.limit(format!("analysis {analysis}: max_epsilon"), max_epsilon, &terms.max_epsilon);
                }
                None => self.add(Direction::Narrows, format!("analysis {analysis}"), "is not permitted any more"),
            }
        }
        for terms in added(old, new, |terms| terms.analysis) {
            self.add(Direction::Widens, format!("analysis {}", terms.analysis), "is permitted");
        }
    }

    /// Narrower where every moment of every new phase lay in old phases that permitted as much. No phases at all permit
    /// everything always.
    fn phases(&mut self, old: &[ProjectPhase], new: &[ProjectPhase]) {
        if old == new {
            return;
        }
        let covers = |wide: &[ProjectPhase], narrow: &[ProjectPhase]| match (wide.is_empty(), narrow.is_empty()) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => narrow.iter().all(|phase| is_covered(phase, wide)),
        };
        let direction = match (covers(old, new), covers(new, old)) {
            (true, true) => Direction::Changes,
            (true, false) => Direction::Narrows,
            (false, _) => Direction::Widens,
        };
        self.add(direction, "phases", format!("{} becomes {}", shown_phases(old), shown_phases(new)));
    }

    /// A task names exactly the parties: with others, every task is one that was not permitted before.
    fn parties(&mut self, old: &[Party], new: &[Party]) {
        for Party { entry, people } in old {
            let name = &entry.organisation;
            match new.iter().find(|party| party.entry.organisation == *name) {
                Some(party) => {
                    self.roster(name, entry, &party.entry);
                    self.people(name, people, &party.people);
                }
                None => {
                    self.add(Direction::Widens, format!("party {name}"), "leaves: answers are about the others alone")
                }
            }
        }
        for party in added(old, new, |party| party.entry.organisation.clone()) {
            let words = "joins: answers are about others than before";
            self.add(Direction::Widens, format!("party {}", party.entry.organisation), words);
        }
    }

    fn roster(&mut self, name: &Name, old: &RosterEntry, new: &RosterEntry) {
        let words = "has other keys: compare its fingerprint over another channel";
        self.unlike(format!("party {name}"), old == new, words);
    }

    fn people(&mut self, organisation: &Name, old: &[PersonEntry], new: &[PersonEntry]) {
        for PersonEntry { key, person, role } in old {
            let clause = format!("{person} of {organisation}");
            match new.iter().find(|entry| entry.person == *person) {
                Some(entry) => {
                    self.unlike(clause.clone(), *key == entry.key, "has another key: compare the fingerprint");
                    if *role != entry.role {
                        let direction = if may_do(entry.role).is_subset(&may_do(*role)) {
                            Direction::Narrows
                        } else {
                            Direction::Widens
                        };
                        self.add(direction, clause, format!("{role} becomes {}", entry.role));
                    }
                }
                None => self.add(Direction::Narrows, clause, format!("does not act as {role} any more")),
            }
        }
        for entry in added(old, new, |entry| entry.person.clone()) {
            let direction = if may_do(entry.role).is_empty() { Direction::Changes } else { Direction::Widens };
            let words = format!("acts as {}", entry.role);
            self.add(direction, format!("{} of {organisation}", entry.person), words);
        }
    }

    fn researchers(&mut self, old: &[ResearcherTerms], new: &[ResearcherTerms]) {
        for ResearcherTerms { entry } in old {
            let clause = format!("researcher {}", entry.researcher);
            match new.iter().find(|terms| terms.entry.researcher == entry.researcher) {
                Some(terms) => self.unlike(clause, *entry == terms.entry, "has another key: compare the fingerprint"),
                None => self.add(Direction::Narrows, clause, "may not ask any more"),
            }
        }
        for terms in added(old, new, |terms| terms.entry.researcher.clone()) {
            self.add(Direction::Widens, format!("researcher {}", terms.entry.researcher), "may ask");
        }
    }

    fn approval(&mut self, old: &ApprovalTerms, new: &ApprovalTerms) {
        let ApprovalTerms { automatic, hold, needed, roles, wait_hours } = old;
        match (*needed, new.needed) {
            // From nobody who can approve to people who can: more may run.
            (0, after) => self.limit("approval.needed", &0, &after),
            (before, 0) => self.limit("approval.needed", &before, &0),
            (before, after) => self.demand("approval.needed", &before, &after),
        }
        self.demand("approval.hold", hold, &new.hold);
        self.limit("approval.wait_hours", wait_hours, &new.wait_hours);
        let (before, after): (BTreeSet<Role>, BTreeSet<Role>) =
            (roles.iter().copied().collect(), new.roles.iter().copied().collect());
        if before != after {
            let direction = if after.is_subset(&before) { Direction::Narrows } else { Direction::Widens };
            self.add(direction, "approval.roles", format!("{} becomes {}", join(before), join(after)));
        }
        let AutomaticApproval { approved_plans, classes } = automatic;
        self.limit("approval.automatic.approved_plans", approved_plans, &new.automatic.approved_plans);
        for class in new.automatic.classes.iter().filter(|class| !classes.contains(class)) {
            let direction =
                if classes.iter().any(|wide| is_within(class, wide)) { Direction::Narrows } else { Direction::Widens };
            self.add(direction, "approval.automatic.classes", format!("automatic: {}", shown_class(class)));
        }
        for class in classes.iter().filter(|class| !new.automatic.classes.contains(class)) {
            let words = format!("not automatic any more: {}", shown_class(class));
            self.add(Direction::Narrows, "approval.automatic.classes", words);
        }
    }

    fn budgets(&mut self, old: &Budgets, new: &Budgets) {
        let Budgets { delta, epsilon_per_query, epsilon_per_researcher, epsilon_total } = old;
        // At a larger δ the same noise costs less ε.
        self.limit("budgets.delta", delta, &new.delta);
        self.limit("budgets.epsilon_per_query", epsilon_per_query, &new.epsilon_per_query);
        self.limit("budgets.epsilon_per_researcher", epsilon_per_researcher, &new.epsilon_per_researcher);
        self.limit("budgets.epsilon_total", epsilon_total, &new.epsilon_total);
    }

    fn secure_sum(&mut self, old: SecureSumTerms, new: SecureSumTerms) {
        let SecureSumTerms { colluders, threshold } = old;
        self.demand("secure_sum.colluders", &colluders, &new.colluders);
        self.demand("secure_sum.threshold", &threshold, &new.threshold);
    }

    /// The terms of the log; its keys follow from hub and parties, which are compared on their own.
    fn log(&mut self, old: &Agreement, new: &Agreement) {
        if old.log_policy == new.log_policy {
            return;
        }
        match (log_terms(old), log_terms(new)) {
            (Ok(before), Ok(after)) => {
                self.demand("log.quorum", &before.quorum, &after.quorum);
                self.demand("log.post_quantum", &before.post_quantum, &after.post_quantum);
            }
            _ => self.add(Direction::Widens, "log_policy", "is not the agreement's own policy"),
        }
    }

    fn attack_thresholds(&mut self, old: &AttackThresholds, new: &AttackThresholds) {
        let AttackThresholds { attribute_advantage, membership_advantage, reconstruction_rate } = old;
        self.limit("attack_thresholds.attribute_advantage", attribute_advantage, &new.attribute_advantage);
        self.limit("attack_thresholds.membership_advantage", membership_advantage, &new.membership_advantage);
        self.limit("attack_thresholds.reconstruction_rate", reconstruction_rate, &new.reconstruction_rate);
    }

    fn datasets(&mut self, old: &[DatasetTerms], new: &[DatasetTerms]) {
        for DatasetTerms { minimum_cohort, mode, name, schema } in old {
            let clause = format!("dataset {name}");
            let Some(terms) = new.iter().find(|terms| terms.name == *name) else {
                self.add(Direction::Narrows, clause, "may not be asked about any more");
                continue;
            };
            self.demand(format!("{clause}: minimum_cohort"), minimum_cohort, &terms.minimum_cohort);
            // To exact: no noise any more. From exact: plans can run that could not.
            let words = format!("{mode} becomes {}", terms.mode);
            self.unlike(format!("{clause}: mode"), *mode == terms.mode, words);
            self.schema(&clause, schema, &terms.schema);
        }
        for terms in added(old, new, |terms| terms.name.clone()) {
            self.add(Direction::Widens, format!("dataset {}", terms.name), "may be asked about");
        }
    }

    fn schema(&mut self, clause: &str, old: &Schema, new: &Schema) {
        let Schema { columns, max_groups_per_person, max_rows_per_person, person } = old;
        self.limit(format!("{clause}: max_groups_per_person"), max_groups_per_person, &new.max_groups_per_person);
        self.limit(format!("{clause}: max_rows_per_person"), max_rows_per_person, &new.max_rows_per_person);
        let words = "persons are told apart in another way, on which every limit and price rests";
        self.unlike(format!("{clause}: person"), *person == new.person, words);
        for column in columns {
            let clause = format!("{clause}: column {}", column.name);
            match new.column(&column.name) {
                Some(after) => self.column(&clause, column, after),
                None => self.add(Direction::Narrows, clause, "is not there any more"),
            }
        }
        for column in added(columns, &new.columns, |column| column.name.clone()) {
            let direction = if column.roles.is_empty() { Direction::Changes } else { Direction::Widens };
            let words = format!("may be used: {}", join(&column.roles));
            self.add(direction, format!("{clause}: column {}", column.name), words);
        }
        let order = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let (before, mut after) = (order(columns), order(&new.columns));
        after.retain(|name| before.contains(name));
        if before.iter().filter(|name| after.contains(name)).ne(&after) {
            self.add(Direction::Changes, clause, "its columns are in another order");
        }
    }

    fn column(&mut self, clause: &str, old: &Column, new: &Column) {
        let Column { bounds, domain, meaning, name: _, nullable, roles, sensitivity, kind } = old;
        let (before, after): (BTreeSet<_>, BTreeSet<_>) = (roles.iter().collect(), new.roles.iter().collect());
        if before != after {
            let direction = if after.is_subset(&before) { Direction::Narrows } else { Direction::Widens };
            self.add(direction, format!("{clause}: roles"), format!("{} becomes {}", join(before), join(after)));
        }
        self.unlike(format!("{clause}: type"), *kind == new.kind, "its values are read in another way");
        // Narrower bounds clamp more and carry less noise.
        self.unlike(format!("{clause}: bounds"), *bounds == new.bounds, "values are clamped and noised in another way");
        if *domain != new.domain {
            let is_within = match (domain, &new.domain) {
                (Some(before), Some(after)) => after.iter().all(|value| before.contains(value)),
                _ => false,
            };
            let direction = if is_within { Direction::Narrows } else { Direction::Widens };
            self.add(direction, format!("{clause}: domain"), "other values can be told apart");
        }
        // Whether there is a group of its own for missing values.
        self.limit(format!("{clause}: nullable"), nullable, &new.nullable);
        if *sensitivity != new.sensitivity {
            let direction =
                if rank(new.sensitivity) > rank(*sensitivity) { Direction::Narrows } else { Direction::Widens };
            let words = format!("{sensitivity} becomes {}", new.sensitivity);
            self.add(direction, format!("{clause}: sensitivity"), words);
        }
        let text = |meaning: &Option<String>| meaning.clone().unwrap_or_default();
        self.words(format!("{clause}: meaning"), &text(meaning), &text(&new.meaning));
    }
}

/// What is new, by what it is called.
fn added<'a, T, K: PartialEq>(old: &'a [T], new: &'a [T], key: impl Fn(&T) -> K + 'a) -> impl Iterator<Item = &'a T> {
    new.iter().filter(move |item| !old.iter().any(|other| key(other) == key(item)))
}

/// What a role may do that could let more happen. Freezing stops things and is not among it.
fn may_do(role: Role) -> BTreeSet<&'static str> {
    let abilities = [("approve", role.may_approve()), ("unfreeze", role.may_unfreeze())];
    abilities.into_iter().filter(|(_, may)| *may).map(|(what, _)| what).collect()
}

/// Whether every moment of a phase lies in phases that permitted as much.
fn is_covered(phase: &ProjectPhase, wide: &[ProjectPhase]) -> bool {
    let mut until: Timestamp = phase.from;
    let mut overlapping: Vec<&ProjectPhase> =
        wide.iter().filter(|other| other.from < phase.until && phase.from < other.until).collect();
    overlapping.sort_by_key(|other| other.from);
    for other in overlapping {
        let permits = phase.analyses.iter().all(|analysis| other.analyses.contains(analysis))
            && phase.epsilon_per_query <= other.epsilon_per_query;
        if other.from > until || !permits {
            return false;
        }
        until = until.max(other.until);
    }
    until >= phase.until
}

/// Whether every task of one class is of the other.
fn is_within(narrow: &ApprovalClass, wide: &ApprovalClass) -> bool {
    let ApprovalClass { analyses, datasets, max_cells, max_epsilon } = narrow;
    analyses.iter().all(|analysis| wide.analyses.contains(analysis))
        && datasets.iter().all(|dataset| wide.datasets.contains(dataset))
        && *max_cells <= wide.max_cells
        && *max_epsilon <= wide.max_epsilon
}

fn shown_class(class: &ApprovalClass) -> String {
    let ApprovalClass { analyses, datasets, max_cells, max_epsilon } = class;
    format!("{} over {} up to {max_cells} cells and epsilon {max_epsilon}", join(analyses), join(datasets))
}

fn shown_phases(phases: &[ProjectPhase]) -> String {
    let phase = |ProjectPhase { analyses, epsilon_per_query, from, kind, until }: &ProjectPhase| {
        format!("{kind} {from} to {until} ({}, epsilon {epsilon_per_query})", join(analyses))
    };
    if phases.is_empty() { String::from("the whole term") } else { join(phases.iter().map(phase)) }
}

/// From what needs least care to what needs most.
const fn rank(sensitivity: Sensitivity) -> u8 {
    match sensitivity {
        Sensitivity::Ordinary => 0,
        Sensitivity::QuasiIdentifying => 1,
        Sensitivity::Sensitive => 2,
        Sensitivity::Identifying => 3,
    }
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{Analysis, ApprovalTerms, Modifier, PhaseKind, Purpose, ReleaseMode};

    use super::*;
    use crate::compile::compile;
    use crate::decide::judge_asked;
    use crate::fixtures::{World, name, start};
    use crate::interpreter::permits;
    use crate::random::{self, Draw};

    /// The next revision after an edit.
    fn amended(old: &Agreement, edit: impl FnOnce(&mut Agreement)) -> Agreement {
        let mut new = old.clone();
        new.revision += 1;
        new.previous = Some(entry_hash(old).unwrap());
        edit(&mut new);
        new
    }

    type Edit = fn(&mut Agreement);

    /// There and back: an edit, the clause, the direction there and the direction of taking it back.
    #[test]
    fn each_edit_goes_in_its_direction() {
        use Direction::{Changes, Narrows, Widens};
        let cases: [(Edit, &str, Direction, Direction); 51] = [
            (|a| a.title.push('!'), "title", Changes, Changes),
            (|a| a.purpose_text.push('!'), "purpose_text", Changes, Changes),
            (|a| a.risk_acceptance.statement.push('!'), "risk_acceptance.statement", Changes, Changes),
            (|a| a.ownership.models.push('!'), "ownership.models", Changes, Changes),
            (|a| a.study = name("other"), "study", Widens, Widens),
            (|a| a.hub.log_key = a.hub.message_key, "hub", Widens, Widens),
            (|a| a.valid_from = a.valid_from.plus_seconds(1), "valid_from", Narrows, Widens),
            (|a| a.valid_until = a.valid_until.plus_seconds(1), "valid_until", Widens, Narrows),
            (|a| a.retention_days = 300, "retention_days", Widens, Changes),
            (|a| a.purposes = vec![Purpose::GeneralResearch], "purposes", Widens, Narrows),
            (|a| a.purposes = vec!["DS:x".parse().unwrap()], "purposes", Narrows, Widens),
            (|a| a.purposes.push("DS:x".parse().unwrap()), "purposes", Changes, Changes),
            (|a| a.purposes = vec![Purpose::PopulationOrigins], "purposes", Widens, Widens),
            (
                |a| a.conditions = vec![Condition { detail: "x".into(), modifier: Modifier::Irb }],
                "condition IRB",
                Narrows,
                Widens,
            ),
            (|a| a.analyses.truncate(2), "analysis sum", Narrows, Widens),
            (|a| a.analyses[0].max_cells += 1, "analysis count: max_cells", Widens, Narrows),
            (|a| a.analyses[0].max_epsilon = 2.into(), "analysis count: max_epsilon", Widens, Narrows),
            (|a| a.phases = vec![phase(0, 100)], "phases", Narrows, Widens),
            (|a| drop(a.parties.pop()), "party d", Widens, Widens),
            (|a| a.parties[0].entry.message_key = a.parties[0].entry.log_key, "party a", Widens, Widens),
            (|a| drop(a.parties[0].people.remove(0)), "paula of a", Narrows, Widens),
            (|a| drop(a.parties[0].people.remove(3)), "otto of a", Narrows, Changes),
            (|a| a.parties[0].people[0].role = Role::Steward, "paula of a", Narrows, Widens),
            (|a| a.parties[0].people[3].role = Role::Auditor, "otto of a", Narrows, Narrows),
            (|a| a.parties[0].people[3].key = a.parties[0].people[0].key, "otto of a", Widens, Widens),
            (|a| drop(a.researchers.pop()), "researcher rosa", Narrows, Widens),
            (|a| a.researchers[0].entry.key = a.hub.log_key, "researcher rosa", Widens, Widens),
            (|a| a.approval.needed = 1, "approval.needed", Widens, Narrows),
            (|a| a.approval.hold = true, "approval.hold", Narrows, Widens),
            (|a| a.approval.wait_hours += 1, "approval.wait_hours", Widens, Narrows),
            (|a| a.approval.roles = vec![Role::Steward], "approval.roles", Widens, Narrows),
            (|a| a.approval.automatic.approved_plans = true, "approval.automatic.approved_plans", Widens, Narrows),
            (|a| a.approval.automatic.classes.clear(), "approval.automatic.classes", Narrows, Widens),
            (|a| a.budgets.delta = "0.00001".parse().unwrap(), "budgets.delta", Widens, Narrows),
            (|a| a.budgets.epsilon_per_query = 2.into(), "budgets.epsilon_per_query", Widens, Narrows),
            (|a| a.budgets.epsilon_per_researcher = 6.into(), "budgets.epsilon_per_researcher", Widens, Narrows),
            (|a| a.budgets.epsilon_total = 9.into(), "budgets.epsilon_total", Narrows, Widens),
            (|a| a.secure_sum.threshold = 4, "secure_sum.threshold", Narrows, Widens),
            (
                |a| a.attack_thresholds.membership_advantage = 1.into(),
                "attack_thresholds.membership_advantage",
                Widens,
                Narrows,
            ),
            (|a| drop(a.datasets.pop()), "dataset empty", Narrows, Widens),
            (|a| a.datasets[0].minimum_cohort = 10, "dataset heart: minimum_cohort", Narrows, Widens),
            (|a| a.datasets[0].mode = ReleaseMode::Exact, "dataset heart: mode", Widens, Widens),
            (|a| schema(a).max_rows_per_person += 1, "dataset heart: max_rows_per_person", Widens, Narrows),
            (|a| schema(a).person = Some(name("secret")), "dataset heart: person", Widens, Widens),
            (|a| drop(schema(a).columns.remove(0)), "dataset heart: column age", Narrows, Widens),
            (|a| schema(a).columns.swap(0, 1), "dataset heart", Changes, Changes),
            (|a| schema(a).columns[0].roles.clear(), "dataset heart: column age: roles", Narrows, Widens),
            (
                |a| schema(a).columns[0].bounds = Some([0.into(), 90.into()]),
                "dataset heart: column age: bounds",
                Widens,
                Widens,
            ),
            (
                |a| schema(a).columns[2].domain = Some(vec![cohortium_messages::Value::Number(1.into())]),
                "dataset heart: column sex: domain",
                Narrows,
                Widens,
            ),
            (|a| schema(a).columns[0].nullable = true, "dataset heart: column age: nullable", Widens, Narrows),
            (
                |a| schema(a).columns[0].sensitivity = Sensitivity::Sensitive,
                "dataset heart: column age: sensitivity",
                Narrows,
                Widens,
            ),
        ];
        let world = World::new(4);
        assert_eq!(diff(&world.agreement, &world.agreement), []);
        assert_eq!(diff(&world.agreement, &amended(&world.agreement, |_| ())), []);
        for (edit, clause, there, back) in cases {
            let mut other = (*world.agreement).clone();
            edit(&mut other);
            let expect = |from: &Agreement, to: &Agreement, direction| {
                let to = amended(from, |new| {
                    let (revision, previous) = (new.revision, new.previous);
                    *new = to.clone();
                    (new.revision, new.previous) = (revision, previous);
                });
                let changes = diff(from, &to);
                let of_clause: Vec<_> = changes.iter().filter(|change| change.clause == clause).collect();
                assert!(of_clause.iter().any(|change| change.direction == direction), "{clause}: {changes:?}");
                let others = changes.iter().filter(|change| !of_clause.contains(change));
                // Of the log's policy it is said that it does not fit hub and parties any more.
                assert!(others.clone().all(|change| change.clause.starts_with("log")), "{clause}: {changes:?}");
            };
            expect(&world.agreement, &other, there);
            expect(&other, &world.agreement, back);
        }
    }

    fn schema(agreement: &mut Agreement) -> &mut Schema {
        &mut agreement.datasets[0].schema
    }

    fn phase(from: i64, until: i64) -> ProjectPhase {
        let at = |day: i64| start().plus_seconds(day * 86_400);
        let (analyses, kind) = (vec![Analysis::Count, Analysis::Mean], PhaseKind::Analyse);
        ProjectPhase { analyses, epsilon_per_query: 1.into(), from: at(from), kind, until: at(until) }
    }

    /// Old phases, new phases, whether the new ones lie within the old ones.
    #[test]
    fn phases_narrow_only_within_phases_that_permitted_as_much() {
        let only_counts = ProjectPhase { analyses: vec![Analysis::Count], ..phase(10, 20) };
        let dear = ProjectPhase { epsilon_per_query: 2.into(), ..phase(10, 20) };
        for (old, new, direction) in [
            (vec![phase(0, 100)], vec![phase(10, 20)], Direction::Narrows),
            (vec![phase(0, 100)], vec![only_counts.clone()], Direction::Narrows),
            (vec![phase(0, 100)], vec![phase(0, 50), phase(50, 100)], Direction::Changes),
            (vec![phase(0, 50), phase(50, 100)], vec![phase(20, 70)], Direction::Narrows),
            (vec![phase(0, 50), phase(51, 100)], vec![phase(20, 70)], Direction::Widens),
            (vec![phase(0, 100)], vec![phase(10, 101)], Direction::Widens),
            (vec![phase(5, 100)], vec![phase(4, 10)], Direction::Widens),
            (vec![only_counts], vec![phase(10, 20)], Direction::Widens),
            (vec![phase(0, 100)], vec![dear], Direction::Widens),
            (vec![phase(0, 100)], vec![], Direction::Widens),
            (vec![], vec![phase(0, 1)], Direction::Narrows),
        ] {
            let mut changes = Changes::default();
            changes.phases(&old, &new);
            assert_eq!(changes.0[0].direction, direction, "{}", changes.0[0].words);
        }
    }

    #[test]
    fn approvals_narrow_only_where_less_runs_without_more_people() {
        let class = |cells, epsilon: &str| ApprovalClass {
            analyses: vec![Analysis::Count],
            datasets: vec![name("heart")],
            max_cells: cells,
            max_epsilon: epsilon.parse().unwrap(),
        };
        let terms = |needed, classes: Vec<ApprovalClass>| ApprovalTerms {
            automatic: AutomaticApproval { approved_plans: false, classes },
            hold: false,
            needed,
            roles: Vec::new(),
            wait_hours: 1,
        };
        for (old, new, widens) in [
            (terms(2, vec![]), terms(1, vec![]), true),
            (terms(1, vec![]), terms(2, vec![]), false),
            (terms(0, vec![class(10, "1")]), terms(3, vec![class(10, "1")]), true),
            (terms(3, vec![class(10, "1")]), terms(0, vec![class(10, "1")]), false),
            (terms(1, vec![class(10, "1")]), terms(1, vec![class(9, "0.5")]), false),
            (terms(1, vec![class(10, "1")]), terms(1, vec![class(11, "0.5")]), true),
            (terms(1, vec![class(10, "0.5"), class(5, "1")]), terms(1, vec![class(10, "1")]), true),
        ] {
            let mut changes = Changes::default();
            changes.approval(&old, &new);
            let found = changes.0.iter().any(|change| change.direction == Direction::Widens);
            assert_eq!(found, widens, "{:?}", changes.0);
        }
    }

    /// Of random agreements and amendments of up to two edits, those that do not widen permit no task that was not
    /// permitted before; by a direct reading, and every fiftieth time by the compiled policies.
    #[test]
    fn what_does_not_widen_permits_nothing_new() {
        let world = World::new(4);
        let mut phased = (*world.agreement).clone();
        phased.phases =
            vec![phase(0, 100), ProjectPhase { epsilon_per_query: "0.5".parse().unwrap(), ..phase(101, 300) }];
        let (mut narrowing, mut permitted, mut compiled) = (0, 0, 0);
        for seed in 0..500 {
            let mut draw = Draw::seeded(seed);
            let base = if draw.one_in(2) { &phased } else { &*world.agreement };
            let old = random::edited(base, 12, &mut draw);
            let new = random::edited(&old, 2, &mut draw);
            let new = amended(&old, |next| {
                let (revision, previous) = (next.revision, next.previous);
                *next = new;
                (next.revision, next.previous) = (revision, previous);
            });
            let changes = diff(&old, &new);
            if changes.iter().any(|change| change.direction == Direction::Widens) {
                continue;
            }
            let policies = (narrowing % 50 == 0)
                .then(|| [&old, &new].map(|agreement| compile(&world.signed_again(agreement)).unwrap()));
            narrowing += 1;
            for task in 0..100 {
                let asked = random::asked(&new, &mut draw);
                if permits(&new, &asked) {
                    permitted += 1;
                    assert!(permits(&old, &asked), "seed {seed}, task {task}: {changes:#?} {asked:?}");
                }
                if let Some([old, new]) = &policies {
                    compiled += 1;
                    let fails = |policy: &crate::Policy| judge_asked(&policy.policies, &policy.schema, &asked);
                    assert!(!fails(new).is_empty() || fails(old).is_empty(), "seed {seed}, task {task}: {asked:?}");
                }
            }
        }
        // Without these the test would say nothing.
        assert!(narrowing > 80 && permitted > 500 && compiled > 100, "{narrowing} {permitted} {compiled}");
    }
}
