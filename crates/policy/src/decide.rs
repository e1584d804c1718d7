//! Deciding on a task: a [`Permit`], or a [`Denial`] that lists every clause that fails.
//!
//! Hub and node both decide; only the node's decision protects its data. What the people of a node said and whether the
//! study stands still there is not known when a task is asked, so there are two decisions: [`Policy::decide`] leaves both
//! open, and [`Policy::decide_here`] does not. Hub and auditor make the second one for what the log holds before a permit. Rows are read on a [`PermitHere`], which only the second one gives.
//!
//! Cedar decides the clauses; around it stand two checks of our own, because Cedar *allows* when a failing `forbid` errs and a `permit` holds (it skips what errs):
//! any evaluation error is a refusal, and a request that does not fit the schema is a refusal.
//!
//! Does not: reserve or spend (that is the account's business after a permit), check the log's inclusion proof.
//!
//! Assumes: the task is hostile. Facts come from `query`'s own derivation ([`Priced`]), never from what the task claims.

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicySet, RestrictedExpression,
    Schema,
};
use cohortium_dp::Price;
use cohortium_messages::{Agreement, Envelope, EnvelopeError, Hash, Name, Task, Timestamp, Verified};
use cohortium_query::Priced;

use crate::approval::{Approval, Approvals};
use crate::clause::{Asked, Clause, explain};
use crate::compile::{AUTOMATIC, BY_PEOPLE, NOT_DECIDED, NOT_GIVEN, PERMIT_ID, Policy};
use crate::entries::Revoked;
use crate::log_policy::{LogPolicyError, log_terms};

/// Evidence that a task passed every clause of an agreement. Made by [`Policy::decide`] alone; not cloned, not read
/// from anywhere: a permit does not outlive the decision it stands for.
#[derive(Debug)]
#[must_use = "a permit that nobody uses permitted nothing"]
pub struct Permit {
    agreement: Hash,
    decided_at: Timestamp,
    priced: Priced,
    task: Verified<Task>,
}

/// Evidence that a task may run at one organisation: a permit, with how it was approved there. Made by
/// [`Policy::decide_here`] alone.
#[derive(Debug)]
#[must_use = "a permit that nobody uses permitted nothing"]
pub struct PermitHere {
    approvals: Approvals,
    permit: Permit,
}

/// A refusal. The researcher must ask otherwise, or the custodians agree otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("study `{study}` (revision {revision}) refuses: {why} [{}]", clauses.join(", "))]
pub struct Denial {
    /// Every failing clause, as `study/clause`, in the order of the agreement's clauses.
    pub clauses: Vec<String>,
    /// Which revision of the agreement.
    pub revision: u32,
    /// The study.
    pub study: Name,
    /// In plain words, one part for each clause. Speaks of agreement and task, never of rows.
    pub why: String,
}

/// What is to be decided.
pub struct Request<'a> {
    agreement_hash: Hash,
    now: Timestamp,
    priced: &'a Priced,
    revoked: &'a Revoked,
    task: &'a Verified<Task>,
}

impl<'a> Request<'a> {
    /// A task to decide on, with what this house derived from its plan.
    ///
    /// `task` must have been opened with the key that the agreement states for its researcher ([`open_task`]);
    /// `agreement_hash` is the agreement the caller believes to decide under; `now` is this house's own clock; `revoked`
    /// is what this house knows to have been taken back of the agreement.
    #[must_use]
    pub const fn new(
        task: &'a Verified<Task>,
        priced: &'a Priced,
        agreement_hash: Hash,
        now: Timestamp,
        revoked: &'a Revoked,
    ) -> Self {
        Self { agreement_hash, now, priced, revoked, task }
    }

    fn asked(&self, agreement: &Agreement, approval: Option<&Approval>, frozen: bool) -> Asked {
        let (task, facts, bounding) = (self.task, self.priced.facts(), self.priced.plan().bounding);
        let key = agreement.researcher(&task.researcher).map(|entry| entry.key);
        Asked {
            affirms: task.affirms.iter().copied().collect(),
            aggregate_columns: facts.aggregate_columns.clone(),
            analyses: facts.analyses.clone(),
            approval: approval.cloned(),
            cells: facts.cells,
            counts_groups: facts.counts_groups,
            dataset: facts.dataset.clone(),
            epsilon_micro: facts.epsilon_micro,
            filter_columns: facts.filter_columns.clone(),
            frozen,
            group_columns: facts.group_columns.clone(),
            max_groups: bounding.max_groups,
            max_rows: bounding.max_rows,
            now: self.now,
            participants: task.participants.iter().cloned().collect(),
            purpose: task.purpose.clone(),
            researcher: task.researcher.clone(),
            revoked: self.revoked.agreement() || key.is_some_and(|key| self.revoked.key(&key)),
        }
    }

    /// Whether task, checked plan and agreement are about one another.
    fn belongs_together(&self, agreement: &Verified<Agreement>) -> bool {
        let plan = self.task.plan.hash();
        plan.is_ok_and(|plan| plan == self.priced.plan_hash())
            && self.agreement_hash == agreement.hash()
            && self.task.plan.agreement == agreement.hash()
            && self.task.study == agreement.study
    }
}

impl Policy {
    /// Decides, except on what only the people of a node can say.
    ///
    /// Given a task and what was derived from its plan, returns a permit if and only if every clause of the agreement
    /// holds but `approval` and `frozen`, which are not asked, and the evaluation had no error; never a permit for another
    /// plan than the one that was priced. Argued, and tested clause by clause against a direct reading of the agreement.
    ///
    /// # Errors
    /// Every clause that fails.
    pub fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        let asked = request.asked(&self.agreement, None, false);
        self.judge(request, &asked, request.belongs_together(&self.agreement))
    }

    /// Decides at one organisation, on everything.
    ///
    /// Given in addition how the task stands with the people there, and whether the study stands still there, returns a
    /// permit if and only if every clause of the agreement holds; never on approvals of another task, plan or agreement.
    /// Argued and tested as [`Self::decide`].
    ///
    /// # Errors
    /// Every clause that fails. Where `approval` alone fails and [`Approval::may_wait`], people may still say yes.
    pub fn decide_here(&self, request: &Request<'_>, approvals: Approvals, frozen: bool) -> Result<PermitHere, Denial> {
        let asked = request.asked(&self.agreement, Some(approvals.outcome()), frozen);
        let theirs = (approvals.agreement(), approvals.plan(), approvals.task());
        let ours = (self.agreement.hash(), request.priced.plan_hash(), request.task.hash());
        let belongs = theirs == ours && request.belongs_together(&self.agreement);
        let permit = self.judge(request, &asked, belongs)?;
        Ok(PermitHere { approvals, permit })
    }

    fn judge(&self, request: &Request<'_>, asked: &Asked, belongs_together: bool) -> Result<Permit, Denial> {
        let mut failing = judge_asked(&self.policies, &self.schema, asked);
        if !belongs_together {
            failing.push(Clause::Evidence);
        }
        if failing.is_empty() {
            Ok(Permit {
                agreement: self.agreement.hash(),
                decided_at: request.now,
                priced: request.priced.clone(),
                task: request.task.clone(),
            })
        } else {
            Err(self.denial(&failing, asked))
        }
    }

    fn denial(&self, failing: &[Clause], asked: &Asked) -> Denial {
        let study = self.agreement.study.clone();
        let why: Vec<String> = failing.iter().map(|clause| explain(*clause, &self.agreement, asked)).collect();
        Denial {
            clauses: failing.iter().map(|clause| format!("{study}/{}", clause.name())).collect(),
            revision: self.agreement.revision,
            why: why.join("; "),
            study,
        }
    }
}

impl Permit {
    /// The agreement.
    #[must_use]
    pub const fn agreement(&self) -> Hash {
        self.agreement
    }

    /// The dataset that may be read.
    #[must_use]
    pub fn dataset(&self) -> &Name {
        &self.priced.plan().dataset
    }

    /// When it was decided.
    #[must_use]
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// The plan that may be run.
    #[must_use]
    pub fn plan(&self) -> Hash {
        self.priced.plan_hash()
    }

    /// What it costs at each node.
    #[must_use]
    pub fn price(&self) -> &Price {
        self.priced.price()
    }

    /// The checked plan with layout, noise and price.
    #[must_use]
    pub const fn priced(&self) -> &Priced {
        &self.priced
    }

    /// The task.
    #[must_use]
    pub const fn task(&self) -> &Verified<Task> {
        &self.task
    }
}

impl PermitHere {
    /// How it was approved, and by whose people.
    #[must_use]
    pub const fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// The permit.
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }
}

/// Why a document does not open. Whoever sent it must act.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A wrong signature, shape or size.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The log policy is not the agreement's. The custodians must act.
    #[error(transparent)]
    LogPolicy(#[from] LogPolicyError),
    /// The researcher's key has been taken back.
    #[error("the key of researcher `{researcher}` has been revoked in study `{study}`")]
    Revoked {
        /// Who claims to ask.
        researcher: Name,
        /// Under which study.
        study: Name,
    },
    /// The document speaks of someone the agreement does not know.
    #[error("the agreement of study `{study}` has no researcher `{researcher}`")]
    Researcher {
        /// Who claims to ask.
        researcher: Name,
        /// Under which study.
        study: Name,
    },
}

/// Opens an agreement with the keys of *all* custodians that it names, and checks that its log policy is the one that
/// follows from its own hub and parties.
///
/// That these are the right custodians' keys is what people compare fingerprints for; a node's own custodian's
/// signature, made after comparing, is what a node trusts.
///
/// # Errors
/// When any custodian's signature is missing, or the document is not a valid agreement, or has another log policy.
pub fn open_agreement(envelope: &Envelope) -> Result<Verified<Agreement>, OpenError> {
    let claimed = envelope.peek::<Agreement>()?;
    let agreement = envelope.open_all::<Agreement>(&claimed.claims().custodian_keys())?;
    log_terms(&agreement)?;
    Ok(agreement)
}

/// Opens a task with the key that the agreement states for the researcher it names.
///
/// `revoked` is what is known to have been taken back; whoever looks at a task of the past hands in what was known then.
///
/// # Errors
/// When the agreement does not know the researcher, their key was taken back, the signature is not theirs, or the
/// document is not a valid task.
pub fn open_task(envelope: &Envelope, agreement: &Agreement, revoked: &Revoked) -> Result<Verified<Task>, OpenError> {
    let claimed = envelope.peek::<Task>()?;
    let researcher = &claimed.claims().researcher;
    let entry = agreement
        .researcher(researcher)
        .ok_or_else(|| OpenError::Researcher { researcher: researcher.clone(), study: agreement.study.clone() })?;
    if revoked.key(&entry.key) {
        return Err(OpenError::Revoked { researcher: researcher.clone(), study: agreement.study.clone() });
    }
    Ok(envelope.open(&entry.key)?)
}

/// The clauses that fail for these facts, in order. Empty means: permitted.
pub(crate) fn judge_asked(policies: &PolicySet, schema: &Schema, asked: &Asked) -> Vec<Clause> {
    judge(policies, schema, &asked.researcher, &asked.dataset, facts(asked))
}

/// Evaluates, and refuses on any error: one in making the request, one that Cedar reports, or an answer that cannot be.
pub(crate) fn judge(
    policies: &PolicySet,
    schema: &Schema,
    researcher: &Name,
    dataset: &Name,
    facts: Vec<(String, RestrictedExpression)>,
) -> Vec<Clause> {
    let Some(request) = cedar_request(schema, researcher, dataset, facts) else { return vec![Clause::Evaluation] };
    let response = Authorizer::new().is_authorized(&request, policies, &Entities::empty());
    let reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    let mut failing: Vec<Clause> =
        Clause::COMPILED.into_iter().filter(|clause| reasons.contains(&clause.policy_id())).collect();
    let erred = response.diagnostics().errors().next().is_some();
    let allowed = response.decision() == Decision::Allow && reasons == [PERMIT_ID];
    // A denial for no clause, an allow for another reason than our permit, or a skipped policy: never a permit.
    if erred || (failing.is_empty() && !allowed) {
        failing.push(Clause::Evaluation);
    }
    failing
}

fn cedar_request(
    schema: &Schema,
    researcher: &Name,
    dataset: &Name,
    facts: Vec<(String, RestrictedExpression)>,
) -> Option<cedar_policy::Request> {
    let uid = |kind: &str, id: &str| {
        let kind: EntityTypeName = kind.parse().ok()?;
        Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
    };
    let context = Context::from_pairs(facts).ok()?;
    cedar_policy::Request::new(
        uid("Researcher", researcher.as_str())?,
        uid("Action", "run")?,
        uid("Dataset", dataset.as_str())?,
        context,
        Some(schema),
    )
    .ok()
}

/// What a fact says.
pub(crate) enum FactValue {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Long(i64),
    /// Words, without order.
    Set(Vec<String>),
    /// A word.
    Text(&'static str),
}

/// The context of the request. Numbers too large for a long become the largest, which exceeds every limit.
pub(crate) fn values(asked: &Asked) -> Vec<(&'static str, FactValue)> {
    use FactValue::{Bool, Long, Text};
    let saturated = |value: u64| Long(i64::try_from(value).unwrap_or(i64::MAX));
    let (approval, approvers) = match &asked.approval {
        None => (NOT_DECIDED, 0),
        Some(Approval::Automatic(_)) => (AUTOMATIC, 0),
        Some(Approval::ByPeople(people)) => (BY_PEOPLE, people.len() as u64),
        Some(Approval::Missing { .. } | Approval::Impossible | Approval::RefusedBy { .. }) => (NOT_GIVEN, 0),
    };
    vec![
        ("affirms", set(&asked.affirms)),
        ("aggregate_columns", set(&asked.aggregate_columns)),
        ("analyses", set(&asked.analyses)),
        ("approval", Text(approval)),
        ("approvers", saturated(approvers)),
        ("cells", saturated(asked.cells)),
        ("counts_groups", Bool(asked.counts_groups)),
        ("epsilon_micro", saturated(asked.epsilon_micro)),
        ("filter_columns", set(&asked.filter_columns)),
        ("frozen", Bool(asked.frozen)),
        ("group_columns", set(&asked.group_columns)),
        ("max_groups", Long(i64::from(asked.max_groups))),
        ("max_rows", Long(i64::from(asked.max_rows))),
        ("now", Long(asked.now.seconds())),
        ("participant_count", saturated(asked.participants.len() as u64)),
        ("participants", set(&asked.participants)),
        ("purpose_and_broader", set(asked.purpose.and_broader())),
        ("revoked", Bool(asked.revoked)),
    ]
}

fn set<T: ToString>(items: impl IntoIterator<Item = T>) -> FactValue {
    FactValue::Set(items.into_iter().map(|item| item.to_string()).collect())
}

/// The facts as Cedar takes them.
pub(crate) fn facts(asked: &Asked) -> Vec<(String, RestrictedExpression)> {
    let expression = |value| match value {
        FactValue::Bool(value) => RestrictedExpression::new_bool(value),
        FactValue::Long(value) => RestrictedExpression::new_long(value),
        FactValue::Set(words) => RestrictedExpression::new_set(words.into_iter().map(RestrictedExpression::new_string)),
        FactValue::Text(word) => RestrictedExpression::new_string(word.to_owned()),
    };
    values(asked).into_iter().map(|(name, value)| (name.to_owned(), expression(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::approval::approvals;
    use crate::compile::{compile, micro};
    use crate::entries::{Authored, open_entry};
    use crate::fixtures::{self, World};
    use crate::interpreter::holds;
    use crate::random::{self, Draw};
    use cedar_policy::PolicyId;
    use cohortium_messages::{
        Analysis, Author, Condition, Decimal, Fact, Measure, Modifier, Output, OutputColumn, PhaseKind, ProjectPhase,
        ReleaseMode, RevocationSubject, Role, Scalar,
    };

    fn names_of(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|name| Name::new(*name).unwrap()).collect()
    }

    /// Random agreements, and random tasks near what they permit: Cedar finds the very clauses that a direct reading finds,
    /// and every clause fails often enough to be looked at.
    #[test]
    fn cedar_agrees_with_a_direct_reading_clause_by_clause() {
        let world = World::new(4);
        let (mut permitted, mut failed) = (0, BTreeMap::new());
        for seed in 0..45 {
            let mut draw = Draw::seeded(seed);
            let agreement = world.signed_again(&random::edited(&world.agreement, 9, &mut draw));
            let policy = compile(&agreement).unwrap();
            for task in 0..25 {
                let asked = random::asked(&agreement, &mut draw);
                let expected: Vec<Clause> =
                    Clause::COMPILED.into_iter().filter(|clause| !holds(*clause, &agreement, &asked)).collect();
                let found = judge_asked(&policy.policies, &policy.schema, &asked);
                assert_eq!(found, expected, "seed {seed}, task {task}: {asked:?}");
                permitted += usize::from(expected.is_empty());
                expected.into_iter().for_each(|clause| *failed.entry(clause).or_insert(0) += 1);
            }
        }
        // Of 1125: a clause that never failed, or a task that never passed, would not have been tested.
        assert!(permitted > 100, "{permitted}");
        assert!(Clause::COMPILED.iter().all(|clause| failed.get(clause).is_some_and(|times| *times > 4)), "{failed:?}");
    }

    fn good() -> (Policy, Asked) {
        let policy = compile(&World::new(4).agreement).unwrap();
        let asked = Asked {
            aggregate_columns: names_of(&["chol"]),
            analyses: BTreeSet::from([Analysis::Mean]),
            dataset: Name::new("heart").unwrap(),
            epsilon_micro: 1_000_000,
            filter_columns: names_of(&["age"]),
            group_columns: names_of(&["sex"]),
            max_groups: 1,
            max_rows: 1,
            now: fixtures::start(),
            participants: names_of(&["a", "b", "c", "d"]),
            purpose: "HMB".parse().unwrap(),
            researcher: Name::new("rosa").unwrap(),
            revoked: false,
            affirms: BTreeSet::new(),
            approval: None,
            cells: 3,
            counts_groups: true,
            frozen: false,
        };
        (policy, asked)
    }

    #[test]
    fn a_missing_fact_is_a_refusal() {
        let (policy, asked) = good();
        assert_eq!(micro(policy.agreement.budgets.epsilon_per_query), 1_000_000);
        assert!(judge_asked(&policy.policies, &policy.schema, &asked).is_empty());
        let all = facts(&asked);
        for missing in 0..all.len() {
            let mut facts = all.clone();
            let (name, _) = facts.remove(missing);
            let failing = judge(&policy.policies, &policy.schema, &asked.researcher, &asked.dataset, facts);
            assert_eq!(failing, [Clause::Evaluation], "without {name}");
        }
    }

    /// The trap: a forbid whose arithmetic overflows is skipped, Cedar says "allow", and we say no.
    #[test]
    fn a_forbid_that_overflows_is_a_refusal_here_though_cedar_allows() {
        let (policy, asked) = good();
        let texts = [
            (PERMIT_ID, String::from("permit(principal, action, resource);")),
            (
                "clause/price-per-query",
                format!(
                    "forbid(principal, action, resource) unless {{ context.epsilon_micro + {} <= 1000000 }};",
                    i64::MAX
                ),
            ),
        ];
        let policies =
            texts.iter().map(|(id, text)| cedar_policy::Policy::parse(Some(PolicyId::new(*id)), text).unwrap());
        let set = PolicySet::from_policies(policies).unwrap();
        let request = cedar_request(&policy.schema, &asked.researcher, &asked.dataset, facts(&asked)).unwrap();
        let response = Authorizer::new().is_authorized(&request, &set, &Entities::empty());
        assert_eq!(response.decision(), Decision::Allow, "Cedar no longer skips what errs: this room can be simpler");
        assert_eq!(judge_asked(&set, &policy.schema, &asked), [Clause::Evaluation]);
    }

    #[test]
    fn a_permit_is_for_the_very_task_plan_and_agreement() {
        let world = World::new(4);
        let policy = compile(&world.agreement).unwrap();
        let task = world.task(|_| ());
        let priced = world.priced(&task);
        let (hash, now, revoked) = (world.agreement.hash(), fixtures::start(), Revoked::nothing());
        let permit = policy.decide(&Request::new(&task, &priced, hash, now, &revoked)).unwrap();
        assert_eq!((permit.task().hash(), permit.agreement()), (task.hash(), hash));
        assert_eq!((permit.plan(), permit.price()), (task.plan.hash().unwrap(), priced.price()));
        assert_eq!((permit.dataset().as_str(), permit.decided_at()), ("heart", now));

        // The price of another plan, another agreement, another study: each is refused by name.
        let other_draw = world.task(|task| task.plan.draw = 1);
        let other_study = world.task(|task| task.study = Name::new("other").unwrap());
        for request in [
            Request::new(&other_draw, &priced, hash, now, &revoked),
            Request::new(&task, &world.priced(&other_draw), hash, now, &revoked),
            Request::new(&task, &priced, Hash::of(b"another agreement"), now, &revoked),
            Request::new(&other_study, &priced, hash, now, &revoked),
        ] {
            let denial = policy.decide(&request).unwrap_err();
            assert_eq!(denial.clauses, ["heart-study/evidence"]);
        }
    }

    /// One person of `a` must approve. The hub is not asked about that; the node is, about this very task.
    #[test]
    fn a_node_needs_approvals_of_this_very_task_and_a_study_that_runs() {
        let world = World::with(4, |agreement| {
            agreement.approval.automatic.classes.clear();
            (agreement.approval.needed, agreement.approval.roles) = (1, vec![Role::Steward]);
        });
        let policy = compile(&world.agreement).unwrap();
        let (task, other) = (world.task(|_| ()), world.task(|task| task.plan.draw = 1));
        let priced = world.priced(&task);
        let nothing = Revoked::nothing();
        let request = Request::new(&task, &priced, world.agreement.hash(), fixtures::start(), &nothing);
        assert!(policy.decide(&request).is_ok());

        let stood = |task: &Verified<Task>, entries: &[Authored]| {
            let (priced, here) = (world.priced(task), fixtures::name("a"));
            approvals(&world.agreement, &here, task, &priced, entries, &[], &nothing)
        };
        let said = |task: &Verified<Task>, approved| {
            let (plan, why) = (task.plan.hash().unwrap(), String::from("not\u{7} now"));
            [world.said(0, 1, Fact::Approval { approved, plan, task: task.hash(), why })]
        };
        let here = policy.decide_here(&request, stood(&task, &said(&task, true)), false).unwrap();
        assert_eq!((here.permit().plan(), here.permit().task().hash()), (priced.plan_hash(), task.hash()));
        assert_eq!(*here.approvals().outcome(), Approval::ByPeople(vec![fixtures::name("stella")]));
        assert_eq!(here.approvals().organisation(), &fixtures::name("a"));

        let cases = [
            (stood(&task, &[]), false, "approval", "0 of 1 people have approved the task here so far"),
            (stood(&task, &said(&task, false)), false, "approval", "stella refuses: not  now"),
            (stood(&other, &said(&other, true)), false, "evidence", "its approvals and the agreement do not belong"),
            (stood(&task, &said(&task, true)), true, "frozen", "the study is stopped here"),
        ];
        for (approvals, frozen, clause, words) in cases {
            let denial = policy.decide_here(&request, approvals, frozen).unwrap_err();
            assert_eq!(denial.clauses, [format!("heart-study/{clause}")]);
            assert!(denial.why.contains(words), "{}", denial.why);
        }
    }

    /// An edit of the agreement, an edit of the task, the clause that fails and what it says.
    #[test]
    fn each_clause_on_terms_refuses_in_words() {
        type Terms = fn(&mut Agreement);
        type Ask = fn(&mut Task);
        let nothing = Revoked::nothing();
        let keep: Ask = |_| ();
        let sums: Ask = |task| {
            let of = Scalar::Column(fixtures::name("chol"));
            let half_range = "600.5".parse().unwrap();
            task.plan.measures = vec![Measure::CentredSum { centre: Decimal::ZERO, half_range, of }];
            task.plan.outputs = vec![Output { name: String::from("s"), value: OutputColumn::Sum(0) }];
        };
        let conditions: Terms = |agreement| {
            let all = [Modifier::Irb, Modifier::Pub];
            agreement.conditions = all.map(|modifier| Condition { detail: String::from("number 7"), modifier }).into();
        };
        let later: Terms = |agreement| {
            let (from, until) = (fixtures::start().plus_seconds(1), agreement.valid_until);
            let (analyses, epsilon_per_query) = (vec![Analysis::Count], 1.into());
            agreement.phases =
                vec![ProjectPhase { analyses, epsilon_per_query, from, kind: PhaseKind::Analyse, until }];
        };
        let narrow: Terms = |agreement| {
            let (from, until) = (agreement.valid_from, agreement.valid_until);
            let (analyses, epsilon_per_query) = (vec![Analysis::Mean], 1.into());
            agreement.phases =
                vec![ProjectPhase { analyses, epsilon_per_query, from, kind: PhaseKind::Explore, until }];
        };
        let minimum: Terms = |agreement| agreement.datasets[0].minimum_cohort = 10;
        let one_cell: Terms = |agreement| agreement.analyses[0].max_cells = 1;
        let almost_nothing: Terms = |agreement| agreement.analyses[0].max_epsilon = "0.000001".parse().unwrap();
        let exact: Terms = |agreement| agreement.datasets[0].mode = ReleaseMode::Exact;
        let one: Ask = |task| task.affirms = vec![Modifier::Irb];
        let both: Ask = |task| task.affirms = vec![Modifier::Irb, Modifier::Ncu, Modifier::Pub];
        let cases: [(Terms, Ask, Option<&str>, &str); 11] = [
            (conditions, keep, Some("conditions"), "IRB (number 7), PUB (number 7)"),
            (conditions, one, Some("conditions"), "does not: PUB (number 7)"),
            (conditions, both, None, ""),
            (later, keep, Some("phase"), "the study is in none of its phases at 2026-11-22T00:00:00Z"),
            (narrow, keep, Some("phase"), "in the phase explore until 2027-11-22T00:00:00Z the study permits mean"),
            (exact, keep, Some("release-mode"), "`heart` is in exact mode"),
            (one_cell, keep, Some("cells"), "would have 2 cells, and may have at most 1 for count"),
            (almost_nothing, keep, Some("price-per-analysis"), "may cost at most 0.000001 for count"),
            (minimum, sums, Some("minimum-cohort"), "counts 10 persons or more, so that the task must count"),
            (minimum, keep, None, ""),
            (|_| (), sums, None, ""),
        ];
        for (position, (terms, ask, clause, words)) in cases.into_iter().enumerate() {
            let world = World::with(4, terms);
            let task = world.task(ask);
            let priced = world.priced(&task);
            let request = Request::new(&task, &priced, world.agreement.hash(), fixtures::start(), &nothing);
            let expected: Vec<String> = clause.iter().map(|clause| format!("heart-study/{clause}")).collect();
            match compile(&world.agreement).unwrap().decide(&request) {
                Ok(_) => assert!(expected.is_empty(), "case {position}: {expected:?}"),
                Err(denial) => {
                    assert_eq!(denial.clauses, expected, "case {position}: {}", denial.why);
                    assert!(denial.why.contains(words), "case {position}: {}", denial.why);
                }
            }
        }
    }

    #[test]
    fn a_denial_lists_every_failing_clause_in_words() {
        let world = World::new(4);
        let policy = compile(&world.agreement).unwrap();
        let task = world.task(|task| {
            task.purpose = "GRU".parse().unwrap();
            task.participants.remove(1);
            task.plan.rho = cohortium_dp::NanoNats::new(500_000_000);
            task.plan.group_by = vec![Name::new("site").unwrap()];
        });
        let priced = world.priced(&task);
        let late = world.agreement.valid_until;
        let fact = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("enough") };
        let entry = world.entry(Author::Custodian(fixtures::name("c")), fact, &world.secrets[2].1.agreement);
        let revoked = Revoked::from_entries(&[open_entry(&entry, &world.agreement).unwrap()]);
        let request = Request::new(&task, &priced, world.agreement.hash(), late, &revoked);
        let denial = policy.decide(&request).unwrap_err();
        let expected = ["in-force", "purpose", "participants", "price-per-query", "price-per-analysis", "not-revoked"];
        assert_eq!(denial.clauses, expected.map(|clause| format!("heart-study/{clause}")));
        for words in [
            "in force from 2026-11-22T00:00:00Z until 2027-11-22T00:00:00Z, and it is 2027-11-22T00:00:00Z",
            "given for HMB, and the task is for GRU",
            "exactly the study's organisations take part (a, b, c, d), and the task names a, c, d",
            "one query may cost epsilon 1 at most, and this one costs ",
            "the agreement or the researcher's key has been revoked",
        ] {
            assert!(denial.why.contains(words), "{words}: {}", denial.why);
        }
        assert!(denial.to_string().starts_with("study `heart-study` (revision 1) refuses: "));
    }

    #[test]
    fn documents_open_with_the_agreements_own_keys_only() {
        let (world, other) = (World::new(3), World::seeded(3, 99, |_| ()));
        let (task, nothing) = (world.task(|_| ()), Revoked::nothing());
        let signed = |key| Envelope::sign(&*task, key).unwrap();
        assert_eq!(open_task(&signed(&world.researcher.key), &world.agreement, &nothing).unwrap().hash(), task.hash());
        assert!(matches!(
            open_task(&signed(&other.researcher.key), &world.agreement, &nothing),
            Err(OpenError::Envelope(EnvelopeError::Signature { .. }))
        ));
        let stranger = world.task(|task| task.researcher = Name::new("mallory").unwrap());
        let envelope = Envelope::sign(&*stranger, &world.researcher.key).unwrap();
        assert!(matches!(open_task(&envelope, &world.agreement, &nothing), Err(OpenError::Researcher { .. })));
        let subject = RevocationSubject::Key(world.researcher.key.public());
        let fact = Fact::Revocation { subject, why: String::from("left") };
        let entry = world.entry(Author::Custodian(fixtures::name("b")), fact, &world.secrets[1].1.agreement);
        let revoked = Revoked::from_entries(&[open_entry(&entry, &world.agreement).unwrap()]);
        let opened = open_task(&signed(&world.researcher.key), &world.agreement, &revoked);
        assert!(matches!(opened, Err(OpenError::Revoked { .. })));
        let priced = world.priced(&task);
        let request = Request::new(&task, &priced, world.agreement.hash(), fixtures::start(), &revoked);
        let denial = compile(&world.agreement).unwrap().decide(&request).unwrap_err();
        assert_eq!(denial.clauses, ["heart-study/not-revoked"]);

        let mut envelope = Envelope::sign(&*world.agreement, &world.secrets[0].1.agreement).unwrap();
        envelope.also_sign(&world.secrets[1].1.agreement).unwrap();
        assert!(open_agreement(&envelope).is_err(), "one custodian has not signed");
        envelope.also_sign(&world.secrets[2].1.agreement).unwrap();
        assert_eq!(open_agreement(&envelope).unwrap().hash(), world.agreement.hash());
        // Signed by all, and the log policy names another hub's key.
        let sly = World::with(3, |agreement| agreement.log_policy = other.agreement.log_policy.clone());
        let mut envelope = Envelope::sign(&*sly.agreement, &sly.secrets[0].1.agreement).unwrap();
        sly.secrets.iter().for_each(|(_, keys)| envelope.also_sign(&keys.agreement).unwrap());
        assert!(matches!(open_agreement(&envelope), Err(OpenError::LogPolicy(LogPolicyError::Other))));
    }

    #[test]
    fn no_policies_at_all_is_a_refusal() {
        let (policy, asked) = good();
        assert_eq!(judge_asked(&PolicySet::new(), &policy.schema, &asked), [Clause::Evaluation]);
    }
}
