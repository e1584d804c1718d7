//! An agreement in plain words, to be read before signing and whenever someone asks what was agreed.
//!
//! Everything that is enforced is said: parties with the fingerprints people compare, purposes, every column with its
//! roles, limits, budgets, clauses. Free text of others is shown with control characters and direction marks replaced, so
//! that a title cannot repaint the terminal it is shown in or hide a line.

use std::fmt::Write as _;

use cohortium_messages::{Agreement, Column, ColumnRole, DatasetTerms, ReleaseMode, Sensitivity};

use crate::clause::{Clause, join};
use crate::draft::entry_hash;
use crate::log_policy::log_terms;

/// The agreement in plain words, several lines.
#[must_use]
pub fn describe(agreement: &Agreement) -> String {
    let mut text =
        format!("Study {} (revision {}): {}\n", agreement.study, agreement.revision, shown(&agreement.title));
    if let Some(previous) = agreement.previous {
        let _ = writeln!(text, "It amends the agreement {previous}.");
    }
    let _ = writeln!(text, "Agreed for the time from {} until {}.", agreement.valid_from, agreement.valid_until);
    let _ = writeln!(text, "Purposes: {}. In words: {}", join(&agreement.purposes), shown(&agreement.purpose_text));
    for condition in &agreement.conditions {
        let (_, meaning) = condition.modifier.words();
        let _ = writeln!(text, "Condition {} ({meaning}): {}", condition.modifier, shown(&condition.detail));
    }
    let analyses = agreement
        .analyses
        .iter()
        .map(|terms| format!("{} (at most {} cells, epsilon {})", terms.analysis, terms.max_cells, terms.max_epsilon));
    let _ = writeln!(text, "Analyses: {}.", all(analyses));
    for phase in &agreement.phases {
        let (analyses, epsilon) = (join(&phase.analyses), phase.epsilon_per_query);
        let _ = writeln!(
            text,
            "Phase {} from {} until {}: only {analyses}, epsilon {epsilon} per query.",
            phase.kind, phase.from, phase.until
        );
    }
    people(&mut text, agreement);
    for terms in &agreement.datasets {
        dataset(&mut text, terms);
    }
    limits(&mut text, agreement);
    let clauses = Clause::COMPILED.iter().map(|clause| clause.name()).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "A task runs only when all of these clauses hold, at every node: {clauses}.");
    text
}

fn people(text: &mut String, agreement: &Agreement) {
    let fingerprint = |hash: Result<cohortium_messages::Hash, _>| {
        hash.map_or_else(|_: cohortium_messages::CanonicalError| String::from("(none)"), |hash| hash.fingerprint())
    };
    let _ = writeln!(text, "Organisations, each holding its own rows ({}):", agreement.parties.len());
    for party in &agreement.parties {
        let _ = writeln!(text, "  {:<20} {}", party.entry.organisation, fingerprint(entry_hash(&party.entry)));
        for person in &party.people {
            let (name, role) = (person.person.as_str(), person.role.to_string());
            let _ = writeln!(text, "    {name:<18} {} {role}", fingerprint(entry_hash(person)));
        }
    }
    let _ = writeln!(text, "Researchers, who may ask ({}):", agreement.researchers.len());
    for terms in &agreement.researchers {
        let _ = writeln!(text, "  {:<20} {}", terms.entry.researcher, fingerprint(entry_hash(&terms.entry)));
    }
    let _ = writeln!(text, "Hub, which coordinates and keeps the log:");
    let _ = writeln!(text, "  {:<20} {}", agreement.hub.hub, fingerprint(entry_hash(&agreement.hub)));
}

fn dataset(text: &mut String, DatasetTerms { minimum_cohort, mode, name, schema }: &DatasetTerms) {
    let _ = writeln!(
        text,
        "Dataset {name}: one person counts in at most {}, with at most {} in each; {}.",
        counted(schema.max_groups_per_person, "group", "groups"),
        counted(schema.max_rows_per_person, "row", "rows"),
        schema.person.as_ref().map_or_else(
            || String::from("every row is another person"),
            |person| format!("persons are told apart by {person}")
        )
    );
    let answers = match mode {
        ReleaseMode::Exact => "answers are exact, under disclosure control; this version answers nothing from it",
        ReleaseMode::Noised => "answers carry noise",
    };
    let groups = match minimum_cohort {
        0 => String::from("every group is shown"),
        least => format!("a group whose noisy count is below that of {least} persons is not shown"),
    };
    let _ = writeln!(text, "  {answers}; {groups}");
    for (role, may) in [
        (ColumnRole::Filter, "filtered by"),
        (ColumnRole::Group, "grouped by"),
        (ColumnRole::Aggregate, "counted, summed and averaged"),
        (ColumnRole::Feature, "what a model predicts from"),
        (ColumnRole::Label, "what a model predicts"),
    ] {
        let columns = schema.columns.iter().filter(|column| column.allows(role)).map(|column| column_in(column, role));
        let _ = writeln!(text, "  may be {may}: {}", all(columns));
    }
    for sensitivity in [Sensitivity::Identifying, Sensitivity::QuasiIdentifying, Sensitivity::Sensitive] {
        let columns = schema.columns.iter().filter(|column| column.sensitivity == sensitivity);
        let _ = writeln!(text, "  marked {sensitivity}: {}", all(columns.map(|column| column.name.to_string())));
    }
    let unused = schema.columns.iter().filter(|column| column.roles.is_empty()).map(|column| column.name.to_string());
    let _ = writeln!(text, "  never used in a query: {}", all(unused));
}

/// A column with what was declared for the role.
fn column_in(column: &Column, role: ColumnRole) -> String {
    match (role, column.bounds, &column.domain) {
        (ColumnRole::Aggregate, Some([low, high]), _) => format!("{} ({low} to {high})", column.name),
        (ColumnRole::Group, _, Some(domain)) => format!("{} ({} values)", column.name, domain.len()),
        _ => column.name.to_string(),
    }
}

fn limits(text: &mut String, agreement: &Agreement) {
    let budgets = &agreement.budgets;
    let _ = writeln!(
        text,
        "Privacy price at each node, at delta {}: epsilon {} per query, {} per researcher, {} in all.",
        budgets.delta, budgets.epsilon_per_query, budgets.epsilon_per_researcher, budgets.epsilon_total
    );
    let _ = writeln!(
        text,
        "Secure sum: all must be there when a round begins, {} of {} organisations must stay; {} may collude with the hub.",
        agreement.secure_sum.threshold,
        agreement.parties.len(),
        agreement.secure_sum.colluders
    );
    match log_terms(agreement) {
        Ok(terms) => {
            let kinds = if terms.post_quantum { ", each with a classical and a post-quantum signature" } else { "" };
            let _ = writeln!(
                text,
                "Log: {} must have cosigned it before an entry counts{kinds}.",
                counted(terms.quorum, "organisation", "organisations")
            );
        }
        Err(error) => {
            let _ = writeln!(text, "Log: WRONG, do not sign: {error}.");
        }
    }
    approval(text, agreement);
    let thresholds = &agreement.attack_thresholds;
    let _ = writeln!(
        text,
        "Attacks on a model before it leaves may achieve at most: membership advantage {}, attribute advantage {}, \
         reconstruction rate {}.",
        thresholds.membership_advantage, thresholds.attribute_advantage, thresholds.reconstruction_rate
    );
    let owners = &agreement.ownership;
    for (what, who) in [
        ("Data belong to", &owners.data),
        ("Models belong to", &owners.models),
        ("Results belong to", &owners.results),
        ("Passing on", &owners.passing_on),
    ] {
        let _ = writeln!(text, "{what}: {}", shown(who));
    }
    let _ = writeln!(
        text,
        "Each operator erases the bodies of tasks and releases after {}.",
        counted(agreement.retention_days, "day", "days")
    );
    let risk = &agreement.risk_acceptance;
    let _ = writeln!(text, "Remaining risk accepted by {}: {}", shown(&risk.accepted_by), shown(&risk.statement));
}

fn approval(text: &mut String, agreement: &Agreement) {
    let terms = &agreement.approval;
    if terms.needed == 0 {
        let _ = writeln!(text, "Approval: nobody is asked; what is not approved automatically is refused.");
    } else {
        let _ = writeln!(
            text,
            "Approval: at each node {} must approve ({}); one refusal refuses; a task waits {}.",
            counted(terms.needed, "person", "different people"),
            join(&terms.roles),
            counted(terms.wait_hours, "hour", "hours")
        );
    }
    if terms.hold {
        let _ = writeln!(text, "Before anything leaves a node, a person there looks at it ({}).", join(&terms.roles));
    }
    if terms.automatic.approved_plans {
        let _ = writeln!(text, "A plan that people at a node approved once is approved there again automatically.");
    }
    for class in &terms.automatic.classes {
        let _ = writeln!(
            text,
            "Automatic, without asking anybody: {} over {} with at most {} cells and epsilon {}.",
            join(&class.analyses),
            all(class.datasets.iter().map(ToString::to_string)),
            class.max_cells,
            class.max_epsilon
        );
    }
}

/// A number of things, in words that fit the number.
fn counted(number: u32, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// All of them: what is signed is not abridged.
fn all(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { String::from("nothing") } else { items.join(", ") }
}

/// Free text with everything replaced that could move the cursor or turn the direction of writing.
fn shown(text: &str) -> String {
    text.chars().map(|c| if cohortium_messages::hides(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::World;

    #[test]
    fn everything_that_is_enforced_is_said() {
        let world = World::new(3);
        let text = describe(&world.agreement);
        for expected in [
            "Study heart-study (revision 1)",
            "Purposes: HMB. In words: Whether cholesterol rises with age\n",
            "Analyses: count (at most 1000 cells, epsilon 1), mean (at most 1000 cells, epsilon 1)",
            "  answers carry noise; every group is shown\n",
            "Log: 3 organisations must have cosigned it before an entry counts.",
            "Approval: nobody is asked; what is not approved automatically is refused.",
            "Automatic, without asking anybody: count, mean, sum over heart, empty with at most 1048576 cells and epsilon 1.",
            "Data belong to: each its own\n",
            "filtered by: age, chol, sex\n",
            "grouped by: sex (2 values), site (2 values)\n",
            "counted, summed and averaged: age (0 to 120), chol (0 to 600.5)\n",
            "never used in a query: secret\n",
            "epsilon 1 per query, 5 per researcher, 10 in all",
            "3 of 3 organisations must stay",
            "in-force, phase, researcher, purpose",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        for entry in &world.organisations {
            assert!(text.contains(&entry.hash().fingerprint()));
        }
    }

    #[test]
    fn a_title_cannot_repaint_the_terminal_or_add_a_line() {
        let world = World::with(3, |agreement| agreement.title = "Heart\u{1b}[2J\nPurposes: GRU.\u{202e}".to_owned());
        let text = describe(&world.agreement);
        assert!(text.starts_with("Study heart-study (revision 1): Heart\u{fffd}[2J\u{fffd}Purposes: GRU.\u{fffd}\n"));
        assert!(!text.contains('\u{1b}'));
    }
}
