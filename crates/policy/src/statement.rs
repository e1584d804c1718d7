//! What a node may say in a log about a task: its permit, and what became of the price.
//!
//! The hub asks before it logs such an entry, and an auditor asks again when reading the log. One function for both, so
//! that nothing gets into a log that makes the audit of the whole log fail: a member that lies is refused, not recorded.
//!
//! **The order of the log decides.** A permit that stands before the end of its task must stand on what the log holds
//! before it ([`Grounds`]), whatever its node knew and whatever any clock says. Who comes too late with a word, or with a
//! permit, has done nothing wrong: the hub sees the order, because it makes it, and ends the task instead. A permit after
//! the end of its task lets nothing happen any more; it is there for the account.
//!
//! Does not: check signatures, or that the author takes part (whoever opens the entry does); compare an entry with other
//! entries (that a price follows its permit, that an account is one chain).
//!
//! Assumes: the author is hostile. Everything that an entry repeats of its task is derived again and compared.

use cohortium_dp::account::ENTRY_VERSION;
use cohortium_dp::{AccountEntry, EntryKind};
use cohortium_messages::{Author, Entry, Fact, Hash, Task, Verified};
use cohortium_query::Priced;

use crate::approval::approvals;
use crate::compile::Policy;
use crate::decide::{Denial, Request};
use crate::entries::{Authored, Revoked};

/// What the log holds before a permit, in its order. On this the permit must stand, and on nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// What people said about the plan, in whatever task, under this agreement.
    pub about_plan: &'a [Authored],
    /// What people said about the task.
    pub about_task: &'a [Authored],
    /// What custodians have taken back of the agreement, all of them.
    pub revoked: &'a Revoked,
    /// Whether the study stands still at the organisation whose node permits ([`crate::Stop`]).
    pub stands_still: bool,
}

/// A node's entry about a task that says what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement<'a> {
    /// The node permits; the price is reserved.
    Permitted {
        /// The reservation.
        reserve: &'a AccountEntry,
        /// The commitment to the rows that it would read.
        snapshot: Hash,
    },
    /// The price was given back: no row was read.
    Refunded {
        /// The refund.
        refund: &'a AccountEntry,
    },
    /// The price is spent: rows may have been read.
    Spent {
        /// What was durable before the rows were read.
        reading: &'a AccountEntry,
        /// What was durable before anything left.
        spend: &'a AccountEntry,
    },
}

/// Why an entry must not stand in a log. Its author must act. Reads as what the entry does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Neither a permit nor a price of this task.
    #[error("is neither a permit nor a price of this task")]
    Kind,
    /// A permit for another plan.
    #[error("permits another plan than the task's")]
    Plan,
    /// A permit that the policy does not give, on what the log holds.
    #[error("permits what is forbidden: {0}")]
    Denied(Denial),
    /// A permit whose account entry reserves nothing.
    #[error("permits without reserving the price")]
    NotReserved,
    /// A price whose account entries are neither `reading` and `spend` nor `refund`.
    #[error("settles a price that is neither read and spent nor refunded")]
    NotSettled,
    /// An account entry on other terms than the task's.
    #[error("has an account entry with another {0} than follows from the task")]
    Terms(&'static str),
}

impl Policy {
    /// What a node says about a task in this entry.
    ///
    /// Given a task, what was derived from its plan, and an entry, returns what the entry states only if it is a permit or
    /// price of this very task, the account entries are of the kinds that belong to it, at the price and on the terms
    /// that follow from the task, and (for a permit with `grounds`) every clause of the agreement holds at the time that
    /// the entry states, with these words of people, this taken back, and the study at rest or not at the author's
    /// organisation. Argued: each field that an account entry repeats is compared with where it comes from.
    ///
    /// `task` and `priced` are as for [`Request::new`]. `grounds` are for a permit of a task that goes on: of one that
    /// stands after the end of its task nothing but the terms is asked, and of a price neither.
    ///
    /// # Errors
    /// The first thing that is wrong; [`StatementError::Denied`] only where the terms are right.
    pub fn read_statement<'a>(
        &self,
        entry: &'a Entry,
        task: &Verified<Task>,
        priced: &Priced,
        grounds: Option<&Grounds<'_>>,
    ) -> Result<Statement<'a>, StatementError> {
        if entry.fact.task() != Some(task.hash()) {
            return Err(StatementError::Kind);
        }
        match &entry.fact {
            Fact::Permit { account, plan, snapshot, .. } => {
                if *plan != priced.plan_hash() {
                    return Err(StatementError::Plan);
                }
                if account.kind != EntryKind::Reserve {
                    return Err(StatementError::NotReserved);
                }
                check_terms(account, task, priced)?;
                if let Some(grounds) = grounds {
                    self.demand_founded(entry, task, priced, grounds)?;
                }
                Ok(Statement::Permitted { reserve: account, snapshot: *snapshot })
            }
            Fact::Price { account, .. } => {
                let statement = match account.as_slice() {
                    [reading, spend] if (reading.kind, spend.kind) == (EntryKind::Reading, EntryKind::Spend) => {
                        Statement::Spent { reading, spend }
                    }
                    [refund] if refund.kind == EntryKind::Refund => Statement::Refunded { refund },
                    _ => return Err(StatementError::NotSettled),
                };
                account.iter().try_for_each(|account| check_terms(account, task, priced))?;
                if account.array_windows().any(|[earlier, later]| earlier.sequence >= later.sequence) {
                    return Err(StatementError::Terms("order of numbers"));
                }
                Ok(statement)
            }
            _ => Err(StatementError::Kind),
        }
    }

    /// Demands that a node permits what the agreement permits there, on these grounds.
    fn demand_founded(
        &self,
        permit: &Entry,
        task: &Verified<Task>,
        priced: &Priced,
        grounds: &Grounds<'_>,
    ) -> Result<(), StatementError> {
        let Author::Node(node) = &permit.author else { return Err(StatementError::Kind) };
        let Grounds { about_plan, about_task, revoked, stands_still } = *grounds;
        let approvals = approvals(&self.agreement, node, task, priced, about_task, about_plan, revoked);
        let request = Request::new(task, priced, self.agreement.hash(), permit.time, revoked);
        self.decide_here(&request, approvals, stands_still).map(drop).map_err(StatementError::Denied)
    }
}

/// An account entry about a task must be on the task's terms, and at the price that follows from its plan.
fn check_terms(account: &AccountEntry, task: &Verified<Task>, priced: &Priced) -> Result<(), StatementError> {
    for (field, agrees) in [
        ("dataset", account.dataset == task.plan.dataset.as_str()),
        ("price", account.price == *priced.price()),
        ("researcher", account.researcher == format!("{}/{}", task.study, task.researcher)),
        ("round", account.round == 0),
        ("number of rounds", account.rounds.is_none()),
        ("study", account.study == task.study.as_str()),
        ("task", account.task == task.hash().to_string()),
        ("number", account.sequence > 0),
        ("version", account.version == ENTRY_VERSION),
    ] {
        if !agrees {
            return Err(StatementError::Terms(field));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cohortium_dp::account::GENESIS;
    use cohortium_messages::{RevocationSubject, Role};

    use super::*;
    use crate::compile::compile;
    use crate::entries::open_entry;
    use crate::fixtures::{World, name, start};

    /// Each case edits the permit or the price of a good node; the entry is refused, and the reason says why.
    #[test]
    fn good_entries_are_read_and_each_lie_is_refused() {
        let world = World::new(3);
        let task = world.task(|_| ());
        let priced = world.priced(&task);
        let policy = compile(&world.agreement).unwrap();
        let account = |kind, sequence| AccountEntry {
            dataset: task.plan.dataset.to_string(),
            kind,
            previous: GENESIS.to_owned(),
            price: priced.price().clone(),
            researcher: format!("{}/{}", task.study, task.researcher),
            round: 0,
            rounds: None,
            sequence,
            study: task.study.to_string(),
            task: task.hash().to_string(),
            time: None,
            version: ENTRY_VERSION,
        };
        let (agreement, study, author) = (world.agreement.hash(), task.study.clone(), Author::Node(name("a")));
        let entry = |fact| Entry { agreement, author: author.clone(), fact, study: study.clone(), time: start() };
        let (plan, snapshot) = (priced.plan_hash(), Hash::of(b"rows"));
        let reserve = Box::new(account(EntryKind::Reserve, 1));
        let permit = entry(Fact::Permit { account: reserve, plan, snapshot, task: task.hash() });
        let price = |account| entry(Fact::Price { account, task: task.hash() });
        let spent = price(vec![account(EntryKind::Reading, 2), account(EntryKind::Spend, 3)]);
        let refunded = price(vec![account(EntryKind::Refund, 2)]);

        let good =
            [&permit, &spent, &refunded].map(|entry| policy.read_statement(entry, &task, &priced, None).unwrap());
        assert!(matches!(good[0], Statement::Permitted { snapshot: s, .. } if s == snapshot), "{:?}", good[0]);
        assert!(matches!(good[1], Statement::Spent { spend, .. } if spend.sequence == 3), "{:?}", good[1]);
        assert!(matches!(good[2], Statement::Refunded { refund } if refund.sequence == 2), "{:?}", good[2]);
        let read = |entry: &Entry| policy.read_statement(entry, &task, &priced, None).map(drop);

        fn accounts(entry: &mut Entry) -> Vec<&mut AccountEntry> {
            match &mut entry.fact {
                Fact::Permit { account, .. } => vec![account],
                Fact::Price { account, .. } => account.iter_mut().collect(),
                other => panic!("{} has no account entry", other.kind()),
            }
        }
        type Edit = fn(&mut AccountEntry);
        let terms: [(&str, Edit); 9] = [
            ("dataset", |a| a.dataset.push('x')),
            ("price", |a| a.price.curve = cohortium_dp::Curve::default()),
            ("researcher", |a| a.researcher.push('x')),
            ("round", |a| a.round = 1),
            ("number of rounds", |a| a.rounds = Some(1)),
            ("study", |a| a.study.push('x')),
            ("task", |a| a.task.push('x')),
            ("number", |a| a.sequence = 0),
            ("version", |a| a.version += 1),
        ];
        for (field, edit) in terms {
            for good in [&permit, &spent, &refunded] {
                let mut bad = good.clone();
                edit(accounts(&mut bad).pop().unwrap());
                assert_eq!(read(&bad), Err(StatementError::Terms(field)), "{}", good.fact.kind());
            }
        }
        let other = |good: &Entry, edit: &dyn Fn(&mut Entry)| {
            let mut bad = good.clone();
            edit(&mut bad);
            read(&bad).unwrap_err()
        };
        let refund = |entry: &mut Entry| accounts(entry)[0].kind = EntryKind::Refund;
        assert_eq!(other(&permit, &refund), StatementError::NotReserved);
        let plan = |entry: &mut Entry| match &mut entry.fact {
            Fact::Permit { plan, .. } => *plan = Hash::of(b"another"),
            other => panic!("{} names no plan", other.kind()),
        };
        assert_eq!(other(&permit, &plan), StatementError::Plan);
        let swapped = |entry: &mut Entry| accounts(entry)[0].sequence = 3;
        assert_eq!(other(&spent, &swapped), StatementError::Terms("order of numbers"));
        for kinds in [&[][..], &[EntryKind::Spend], &[EntryKind::Reading], &[EntryKind::Spend, EntryKind::Reading]] {
            let bad = price((2..).zip(kinds).map(|(number, kind)| account(*kind, number)).collect());
            assert_eq!(read(&bad), Err(StatementError::NotSettled), "{kinds:?}");
        }
        let about_another = price(Vec::new());
        let another = world.task(|task| task.nonce = Hash::of(b"another"));
        let refused = policy.read_statement(&about_another, &another, &priced, None);
        assert_eq!(refused, Err(StatementError::Kind));
        let failure = entry(Fact::Failure { reason: String::new(), task: task.hash() });
        assert_eq!(read(&failure), Err(StatementError::Kind));
    }

    /// One steward must approve at each node. What the log holds before a's permit, and the clause that fails; with no
    /// grounds, which is after the end of the task, nothing but the terms is asked.
    #[test]
    fn a_permit_stands_on_what_the_log_holds_before_it() {
        let world = World::with(3, |agreement| {
            agreement.approval.automatic.classes.clear();
            (agreement.approval.needed, agreement.approval.roles) = (1, vec![Role::Steward]);
        });
        let task = world.task(|_| ());
        let priced = world.priced(&task);
        let policy = compile(&world.agreement).unwrap();
        let reserve = AccountEntry {
            dataset: task.plan.dataset.to_string(),
            kind: EntryKind::Reserve,
            previous: GENESIS.to_owned(),
            price: priced.price().clone(),
            researcher: format!("{}/{}", task.study, task.researcher),
            round: 0,
            rounds: None,
            sequence: 1,
            study: task.study.to_string(),
            task: task.hash().to_string(),
            time: None,
            version: ENTRY_VERSION,
        };
        let (plan, snapshot) = (priced.plan_hash(), Hash::of(b"rows"));
        let fact = Fact::Permit { account: Box::new(reserve), plan, snapshot, task: task.hash() };
        let (agreement, study, author) = (world.agreement.hash(), task.study.clone(), Author::Node(name("a")));
        let permit = Entry { agreement, author, fact, study, time: start() };
        let said = |organisation, approved| {
            let fact = Fact::Approval { approved, plan, task: task.hash(), why: String::from("x") };
            world.said(organisation, 1, fact)
        };
        let taken = |subject| {
            let fact = Fact::Revocation { subject, why: String::from("x") };
            let entry = world.entry(Author::Custodian(name("b")), fact, &world.secrets[1].1.agreement);
            Revoked::from_entries(&[open_entry(&entry, &world.agreement).unwrap()])
        };
        let nothing = Revoked::nothing();
        let agreement_taken = taken(RevocationSubject::Agreement);
        let researcher_taken = taken(RevocationSubject::Key(world.researcher.key.public()));
        let steward_taken = taken(RevocationSubject::Key(world.people[0][1].key.public()));
        let other_taken = taken(RevocationSubject::Key(world.people[0][2].key.public()));
        let yes = vec![said(0, true)];
        for (case, about_task, revoked, stands_still, clause) in [
            ("a yes", &yes, &nothing, false, None),
            ("nothing", &vec![], &nothing, false, Some("approval")),
            ("a yes elsewhere", &vec![said(1, true)], &nothing, false, Some("approval")),
            ("a yes and then a no", &vec![said(0, true), said(0, false)], &nothing, false, Some("approval")),
            ("with a key that was taken back", &yes, &steward_taken, false, Some("approval")),
            ("another's key was taken back", &yes, &other_taken, false, None),
            ("the agreement was taken back", &yes, &agreement_taken, false, Some("not-revoked")),
            ("the researcher's key was taken back", &yes, &researcher_taken, false, Some("not-revoked")),
            ("stopped", &yes, &nothing, true, Some("frozen")),
        ] {
            let grounds = Grounds { about_plan: &[], about_task, revoked, stands_still };
            match (policy.read_statement(&permit, &task, &priced, Some(&grounds)), clause) {
                (Ok(Statement::Permitted { .. }), None) => {}
                (Err(StatementError::Denied(denial)), Some(clause)) => {
                    assert_eq!(denial.clauses, [format!("heart-study/{clause}")], "{case}");
                }
                (found, _) => panic!("{case}: {found:?}"),
            }
            assert!(policy.read_statement(&permit, &task, &priced, None).is_ok(), "{case}: the task is over");
        }
        let grounds = Grounds { about_plan: &[], about_task: &yes, revoked: &nothing, stands_still: false };
        let early = Entry { time: world.agreement.valid_from.plus_seconds(-1), ..permit.clone() };
        let found = policy.read_statement(&early, &task, &priced, Some(&grounds));
        assert!(matches!(found, Err(StatementError::Denied(_))), "{found:?}");
        let by_hub = Entry { author: Author::Hub(name("hub")), ..permit };
        assert_eq!(policy.read_statement(&by_hub, &task, &priced, Some(&grounds)), Err(StatementError::Kind));
    }
}
