//! Clauses in words, for people who do not read policies.

/// What a clause demands, by its name in a refusal (`study/clause`). Names that this version does not know stay names.
pub(crate) fn clause(name: &str) -> Option<&'static str> {
    let clause = name.rsplit_once('/').map_or(name, |(_, clause)| clause);
    Some(match clause {
        "account" => "The account of the dataset must be able to pay.",
        "analyses" => "Only agreed kinds of computation may be asked for.",
        "approval" => "The people whom the agreement names must approve the task.",
        "budget" => "What is left of the agreed privacy budget must pay for the question.",
        "cells" => "An answer may not have more numbers than agreed.",
        "columns-aggregate" => "Only agreed columns may be counted, summed or averaged.",
        "columns-filter" => "Rows may be chosen by agreed columns only.",
        "columns-group" => "Answers may be broken down by agreed columns only.",
        "conditions" => "Whoever asks must affirm the agreed conditions of use.",
        "contribution" => "One person may count in no more groups and rows than agreed.",
        "dataset" => "Only datasets of the agreement may be asked.",
        "evaluation" => "The policy must evaluate without an error; an error counts as no.",
        "evidence" => "Task, checked plan and agreement must belong together.",
        "frozen" => "The study must not be frozen at the node.",
        "in-force" => "The agreement must be in force.",
        "minimum-cohort" => "Small groups must be countable, so that they can be left out.",
        "not-revoked" => "No custodian may have revoked the agreement.",
        "participants" => "Exactly the organisations of the study must take part.",
        "phase" => "The project must be in a phase in which this may be asked.",
        "plan" => "The question must fit the columns, types and bounds that were agreed.",
        "price-per-analysis" => "A question of this kind may not cost more privacy than agreed.",
        "price-per-query" => "One question may not cost more privacy than agreed.",
        "purpose" => "The purpose must be one that the data were given for.",
        "round" => "The node must hold the secrets that it shares with the others.",
        "release-mode" => "The dataset must permit answers of this kind.",
        "researcher" => "Only researchers of the agreement may ask.",
        "schema" => "The data at the node must have the agreed columns.",
        "threshold" => "Enough organisations must take part to protect each of them.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a clause to the policy gets words for it into the page.
    #[test]
    fn every_clause_of_the_policy_has_words() {
        let names = cohortium_policy::Clause::COMPILED.iter().map(|clause| clause.name());
        for name in names.chain(["evaluation", "evidence", "budget"]) {
            assert!(clause(&format!("some-study/{name}")).is_some_and(|words| words.ends_with('.')), "{name}");
        }
        assert_eq!(clause("some-study/<script>"), None);
    }
}
