//! From an agreement to Cedar: one `permit` that repeats all limits, and one named `forbid … unless` per clause.
//!
//! Why both: a `forbid` names the clause that fails, and several that fail are all named; but Cedar *skips* a policy
//! whose evaluation errs (Cedar's authorisation algorithm, "skip on error"), so a forbid alone could be silenced by an
//! overflow. The permit repeats the limits, no policy does arithmetic, numbers are 64-bit longs, every policy passes
//! Cedar's strict validation against a schema in which every fact is required, and [`Policy::decide`](crate::Policy)
//! refuses whenever the evaluation reports any error.
//!
//! Policies are built as Cedar's JSON syntax tree, never by pasting text: a title or name is a value in the tree and
//! cannot become policy. The text for people is printed by Cedar from what it will evaluate.
//!
//! Assumes: the drafter of an agreement may try to smuggle policy text through names and titles.

use std::str::FromStr as _;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};
use cohortium_messages::{
    Agreement, AnalysisTerms, ColumnRole, DatasetTerms, Decimal, ProjectPhase, ReleaseMode, Verified,
};
use serde_json::{Value, json};

use crate::clause::Clause;

/// An agreement in a form that can be evaluated. Made by [`compile`] alone.
pub struct Policy {
    pub(crate) agreement: Verified<Agreement>,
    pub(crate) policies: PolicySet,
    pub(crate) schema: Schema,
    text: String,
}

/// Cedar refused what we made of an agreement: ours to mend. (What is too large to compile is no agreement:
/// `Agreement::validate` limits datasets and researchers.)
#[derive(Debug, thiserror::Error)]
#[error("us: the compiled policy is refused by Cedar: {0}")]
pub struct CompileError(String);

/// Compiles an agreement.
///
/// Given an agreement, returns policies that permit a task if and only if every clause holds; never a policy set that
/// strict validation refuses. Argued, and tested against a direct reading of the agreement on random tasks.
///
/// # Errors
/// [`CompileError`] is our own fault.
pub fn compile(agreement: &Verified<Agreement>) -> Result<Policy, CompileError> {
    let ours = |error: &dyn std::fmt::Display| CompileError(error.to_string());
    let schema = Schema::from_str(SCHEMA).map_err(|error| ours(&error))?;
    let policies = PolicySet::from_json_value(policy_set(agreement)).map_err(|error| ours(&error))?;
    let result = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    if !result.validation_passed() {
        let errors: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
        return Err(CompileError(errors.join("; ")));
    }
    let text = text(&policies)?;
    Ok(Policy { agreement: agreement.clone(), policies, schema, text })
}

impl Policy {
    /// The agreement that was compiled.
    #[must_use]
    pub const fn agreement(&self) -> &Verified<Agreement> {
        &self.agreement
    }

    /// Schema and policies in Cedar's own syntax, for people and for other Cedar tools. Each policy carries its id as
    /// the annotation `@id`.
    #[must_use]
    pub fn cedar_text(&self) -> &str {
        &self.text
    }
}

/// The id of the one permit.
pub(crate) const PERMIT_ID: &str = "permit/all-clauses";

/// The words of the fact `approval`. Others (refused, missing) are no approval.
pub(crate) const NOT_DECIDED: &str = "not-decided-here";
pub(crate) const AUTOMATIC: &str = "automatic";
pub(crate) const BY_PEOPLE: &str = "by-people";
pub(crate) const NOT_GIVEN: &str = "not-given";

/// What may be asked about. Every fact is required: a request that lacks one is refused before evaluation.
pub(crate) const SCHEMA: &str = r#"entity Researcher;
entity Dataset;
action "run" appliesTo {
  principal: [Researcher],
  resource: [Dataset],
  context: {
    "affirms": Set<String>,
    "aggregate_columns": Set<String>,
    "analyses": Set<String>,
    "approval": String,
    "approvers": Long,
    "cells": Long,
    "counts_groups": Bool,
    "epsilon_micro": Long,
    "filter_columns": Set<String>,
    "frozen": Bool,
    "group_columns": Set<String>,
    "max_groups": Long,
    "max_rows": Long,
    "now": Long,
    "participant_count": Long,
    "participants": Set<String>,
    "purpose_and_broader": Set<String>,
    "revoked": Bool
  }
};
"#;

fn text(policies: &PolicySet) -> Result<String, CompileError> {
    let mut parts = vec![SCHEMA.to_owned()];
    let ids = std::iter::once(PERMIT_ID.to_owned()).chain(Clause::COMPILED.iter().map(|clause| clause.policy_id()));
    for id in ids {
        let policy = policies.policy(&cedar_policy::PolicyId::new(&id));
        let printed = policy.and_then(cedar_policy::Policy::to_cedar);
        parts.push(printed.ok_or_else(|| CompileError(format!("policy {id} cannot be printed")))?);
    }
    Ok(parts.join("\n\n"))
}

/// All policies, in Cedar's JSON form.
fn policy_set(agreement: &Agreement) -> Value {
    let mut policies = serde_json::Map::new();
    let limits: Vec<Value> = Clause::COMPILED.iter().filter_map(|clause| condition(*clause, agreement)).collect();
    let annotations = json!({
        "id": PERMIT_ID,
        "revision": agreement.revision.to_string(),
        "study": agreement.study.as_str(),
        "title": agreement.title,
    });
    let all_hold: Vec<Value> = limits.iter().map(|body| json!({"kind": "when", "body": body})).collect();
    policies.insert(PERMIT_ID.to_owned(), policy("permit", &annotations, &all_hold));
    for clause in Clause::COMPILED {
        if let Some(body) = condition(clause, agreement) {
            let conditions = [json!({"kind": "unless", "body": body})];
            let id = clause.policy_id();
            policies.insert(id.clone(), policy("forbid", &json!({"id": id}), &conditions));
        }
    }
    json!({"staticPolicies": policies, "templates": {}, "templateLinks": []})
}

fn policy(effect: &str, annotations: &Value, conditions: &[Value]) -> Value {
    json!({
        "effect": effect,
        "annotations": annotations,
        "principal": {"op": "All"},
        "action": {"op": "==", "entity": {"type": "Action", "id": "run"}},
        "resource": {"op": "All"},
        "conditions": conditions,
    })
}

/// What must hold for a clause; `None` for the two that are no policies.
fn condition(clause: Clause, agreement: &Agreement) -> Option<Value> {
    let principal = json!({"Var": "principal"});
    Some(match clause {
        Clause::InForce => and(
            binary(">=", fact("now"), long(agreement.valid_from.seconds())),
            binary("<", fact("now"), long(agreement.valid_until.seconds())),
        ),
        Clause::Researcher => {
            let names = agreement.researchers.iter().map(|terms| entity("Researcher", terms.entry.researcher.as_str()));
            binary("in", principal, json!({"Set": names.collect::<Vec<_>>()}))
        }
        Clause::Purpose => binary("containsAny", strings(&agreement.purposes), fact("purpose_and_broader")),
        Clause::Dataset => {
            let names = agreement.datasets.iter().map(|terms| entity("Dataset", terms.name.as_str()));
            binary("in", json!({"Var": "resource"}), json!({"Set": names.collect::<Vec<_>>()}))
        }
        Clause::ColumnsFilter => columns(agreement, ColumnRole::Filter, "filter_columns"),
        Clause::ColumnsGroup => columns(agreement, ColumnRole::Group, "group_columns"),
        Clause::ColumnsAggregate => columns(agreement, ColumnRole::Aggregate, "aggregate_columns"),
        Clause::Analyses => {
            let kinds = agreement.analyses.iter().map(|terms| terms.analysis);
            binary("containsAll", strings(kinds), fact("analyses"))
        }
        Clause::Approval => approval(agreement),
        Clause::Cells => per_analysis(agreement, |terms| binary("<=", fact("cells"), long(i64::from(terms.max_cells)))),
        Clause::Conditions if agreement.conditions.is_empty() => boolean(true),
        Clause::Conditions => {
            let stated = agreement.conditions.iter().map(|condition| condition.modifier);
            binary("containsAll", fact("affirms"), strings(stated))
        }
        Clause::Frozen => json!({"!": {"arg": fact("frozen")}}),
        Clause::MinimumCohort => {
            per_dataset(
                agreement,
                |terms| {
                    if terms.minimum_cohort == 0 { boolean(true) } else { fact("counts_groups") }
                },
            )
        }
        Clause::Phase if agreement.phases.is_empty() => boolean(true),
        Clause::Phase => any(agreement.phases.iter().map(phase).collect()),
        Clause::PricePerAnalysis => {
            per_analysis(agreement, |terms| binary("<=", fact("epsilon_micro"), long(micro(terms.max_epsilon))))
        }
        Clause::ReleaseMode => per_dataset(agreement, |terms| boolean(terms.mode == ReleaseMode::Noised)),
        Clause::Participants => binary("==", fact("participants"), strings(agreement.participants())),
        Clause::Threshold => binary(">=", fact("participant_count"), long(i64::from(agreement.secure_sum.threshold))),
        Clause::PricePerQuery => binary("<=", fact("epsilon_micro"), long(micro(agreement.budgets.epsilon_per_query))),
        Clause::NotRevoked => json!({"!": {"arg": fact("revoked")}}),
        Clause::Contribution => per_dataset(agreement, |terms| {
            and(
                binary("<=", fact("max_rows"), long(i64::from(terms.schema.max_rows_per_person))),
                binary("<=", fact("max_groups"), long(i64::from(terms.schema.max_groups_per_person))),
            )
        }),
        Clause::Evaluation | Clause::Evidence => return None,
    })
}

/// An agreed ε in 10^-6, rounded down: against the one who asks. At most 10^9 by the agreement's own check.
pub(crate) fn micro(epsilon: Decimal) -> i64 {
    i64::try_from(epsilon.nano() / 1000).unwrap_or(0)
}

/// Where nothing was decided about approval the clause holds; otherwise it needs what the agreement's terms allow.
fn approval(agreement: &Agreement) -> Value {
    let terms = &agreement.approval;
    let is = |word: &str| binary("==", fact("approval"), json!({"Value": word}));
    let mut given = vec![is(NOT_DECIDED)];
    if terms.automatic.approved_plans || !terms.automatic.classes.is_empty() {
        given.push(is(AUTOMATIC));
    }
    if terms.needed > 0 {
        given.push(and(is(BY_PEOPLE), binary(">=", fact("approvers"), long(i64::from(terms.needed)))));
    }
    any(given)
}

fn phase(phase: &ProjectPhase) -> Value {
    all(vec![
        binary(">=", fact("now"), long(phase.from.seconds())),
        binary("<", fact("now"), long(phase.until.seconds())),
        binary("containsAll", strings(&phase.analyses), fact("analyses")),
        binary("<=", fact("epsilon_micro"), long(micro(phase.epsilon_per_query))),
    ])
}

/// For each kind of computation: the task does not use it, or its limit holds.
fn per_analysis(agreement: &Agreement, limit: impl Fn(&AnalysisTerms) -> Value) -> Value {
    let limits = agreement.analyses.iter().map(|terms| {
        let used = binary("contains", fact("analyses"), json!({"Value": terms.analysis.to_string()}));
        binary("||", json!({"!": {"arg": used}}), limit(terms))
    });
    all(limits.collect())
}

/// The columns that have `role` in the task's dataset contain all that are used so.
fn columns(agreement: &Agreement, role: ColumnRole, used: &str) -> Value {
    per_dataset(agreement, |terms| {
        let allowed: Vec<&str> = terms
            .schema
            .columns
            .iter()
            .filter(|column| column.allows(role))
            .map(|column| column.name.as_str())
            .collect();
        if allowed.is_empty() {
            // Strict validation has no type for an empty set literal.
            json!({"isEmpty": {"arg": fact(used)}})
        } else {
            binary("containsAll", strings(allowed), fact(used))
        }
    })
}

/// One alternative per dataset; false for a dataset that is not in the agreement.
fn per_dataset(agreement: &Agreement, limit: impl Fn(&DatasetTerms) -> Value) -> Value {
    let alternatives = agreement.datasets.iter().map(|terms| {
        let this = binary("==", json!({"Var": "resource"}), entity("Dataset", terms.name.as_str()));
        and(this, limit(terms))
    });
    any(alternatives.collect())
}

/// A disjunction; false without alternatives.
fn any(alternatives: Vec<Value>) -> Value {
    tree("||", alternatives).unwrap_or_else(|| boolean(false))
}

/// A conjunction; true without parts.
fn all(parts: Vec<Value>) -> Value {
    tree("&&", parts).unwrap_or_else(|| boolean(true))
}

/// A balanced tree: Cedar walks expressions recursively.
fn tree(operator: &str, mut parts: Vec<Value>) -> Option<Value> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let right = parts.split_off(parts.len() / 2);
    Some(binary(operator, tree(operator, parts)?, tree(operator, right)?))
}

fn and(left: Value, right: Value) -> Value {
    binary("&&", left, right)
}

fn binary(operator: &str, left: Value, right: Value) -> Value {
    json!({operator: {"left": left, "right": right}})
}

fn fact(name: &str) -> Value {
    json!({".": {"left": {"Var": "context"}, "attr": name}})
}

fn boolean(value: bool) -> Value {
    json!({"Value": value})
}

fn long(value: i64) -> Value {
    json!({"Value": value})
}

fn entity(kind: &str, id: &str) -> Value {
    json!({"Value": {"__entity": {"type": kind, "id": id}}})
}

fn strings<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    let items: Vec<Value> = items.into_iter().map(|item| json!({"Value": item.to_string()})).collect();
    json!({"Set": items})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::World;
    use cedar_policy::PolicyId;
    use cohortium_messages::ApprovalTerms;

    /// The printed text, read back by Cedar, is the very policy set that is evaluated.
    fn assert_text_is_the_policy(policy: &Policy) {
        let policies = policy.cedar_text().strip_prefix(SCHEMA).unwrap();
        let read = PolicySet::from_str(policies).unwrap();
        assert_eq!(read.policies().count(), policy.policies.policies().count());
        for again in read.policies() {
            let id = PolicyId::new(again.annotation("id").unwrap());
            let original = policy.policies.policy(&id).unwrap();
            assert!(*original == again.new_id(id.clone()), "{id}");
        }
    }

    #[test]
    fn one_permit_and_one_forbid_per_clause() {
        let policy = compile(&World::new(3).agreement).unwrap();
        assert_eq!(policy.policies.policies().count(), 1 + Clause::COMPILED.len());
        assert_text_is_the_policy(&policy);
        for clause in Clause::COMPILED {
            assert!(policy.cedar_text().contains(&format!("@id(\"{}\")\nforbid(", clause.policy_id())), "{clause:?}");
        }
    }

    /// Titles are the only free text that reaches a policy.
    #[test]
    fn a_title_cannot_become_policy() {
        for title in [
            r#"x") permit(principal, action, resource); @y(""#,
            "x\"; }\npermit(principal, action, resource);\n//",
            "\\\") permit(principal,action,resource);",
            "\u{202e}\u{0}\u{7f}' \" \\ // /* ${title}",
            r#"{"__entity":{"type":"Researcher","id":"x"}}"#,
        ] {
            let world = World::with(3, |agreement| agreement.title = title.to_owned());
            let policy = compile(&world.agreement).unwrap();
            assert_text_is_the_policy(&policy);
            let permits = policy.policies.policies().filter(|p| p.effect() == cedar_policy::Effect::Permit);
            let ids: Vec<String> = permits.map(|p| p.id().to_string()).collect();
            assert_eq!(ids, [PERMIT_ID]);
            assert_eq!(policy.policies.policy(&PolicyId::new(PERMIT_ID)).unwrap().annotation("title"), Some(title));
        }
    }

    #[test]
    fn many_datasets_compile_and_too_many_are_refused() {
        let many = |count: usize| {
            World::with(3, |agreement| {
                let model = agreement.datasets[0].clone();
                agreement.approval = ApprovalTerms::everything_automatic(vec!["d0".parse().unwrap()], 1.into());
                agreement.datasets = (0..count)
                    .map(|i| DatasetTerms { name: format!("d{i}").parse().unwrap(), ..model.clone() })
                    .collect();
            })
        };
        assert!(compile(&many(64).agreement).is_ok());
        let mut too_many = (*many(64).agreement).clone();
        let one_more = DatasetTerms { name: "d64".parse().unwrap(), ..too_many.datasets[0].clone() };
        too_many.datasets.push(one_more);
        assert!(too_many.validate().unwrap_err().to_string().contains("`datasets` lists more than 64"));
    }
}
