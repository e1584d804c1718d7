//! Whether a task that the policy permits may also run at a node: automatically, because people said yes, or not yet.
//!
//! The terms stand in the agreement ([`cohortium_messages::ApprovalTerms`]): classes of tasks that run by themselves,
//! plans that people have approved before, and how many people in which roles must say yes at *each* node. Whoever asks
//! does not approve (separation of duty: Saltzer and Schroeder 1975, principle e), and one refusal refuses.
//!
//! A node knows first what its people said, and everyone else from the log. So the outcome is evidence, [`Approvals`],
//! about one task at one organisation; a hub that decides on a question has none yet.
//!
//! Does not: wait, remind, or expire anything (the node does); look at what leaves (`hold` and dispatch are the node's).
//!
//! That a plan was approved before is no fact that anybody remembers: it follows from the same words, about another task.
//! So a node, a hub and an auditor who hold the same words say the same, and a key that is taken back takes its words along.
//!
//! Assumes: entries were opened by [`crate::open_entry`]; the caller shows all that it has. A node that hides a refusal of
//! its own people deceives its own house.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_messages::{
    Agreement, ApprovalClass, ApprovalTerms, Author, Fact, Hash, Name, PersonEntry, Task, Verified,
};
use cohortium_query::Priced;

use crate::entries::{Authored, Revoked};

/// How a task stands with the people of one organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// It runs without asking anybody.
    Automatic(Automatic),
    /// These people said yes, sorted: as many as are needed or more.
    ByPeople(Vec<Name>),
    /// Not enough people said yes so far, and nobody said no.
    Missing {
        /// How many did.
        have: u32,
        /// How many must.
        needed: u32,
    },
    /// No class covers it, and the agreement names nobody who could say yes.
    Impossible,
    /// Somebody said no.
    RefusedBy {
        /// Who.
        person: Name,
        /// Why, in their words.
        why: String,
    },
}

/// Why a task runs without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic {
    /// It is of a class of the agreement: the position in `approval.automatic.classes`.
    Class(usize),
    /// People here have approved the same plan before.
    Plan,
}

/// How one task stands with the people of one organisation, as evidence. Made by [`approvals`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    agreement: Hash,
    organisation: Name,
    outcome: Approval,
    plan: Hash,
    task: Hash,
}

/// How a task stands with the people of `organisation`.
///
/// Promise: given entries whose authors were checked, counts as yes only what different people of this organisation said
/// about this very task and plan, in a role that the agreement counts, with keys that were not taken back, and none of
/// them by name or key the one who asks; and returns a yes never when one of those who may approve said no. Argued, and
/// tested case by case.
///
/// `about_task` is what was said about this task, `about_plan` what was said about this plan, under this agreement, in
/// whatever task. The plan counts as approved before, where the agreement says so, if the people here approved it in one
/// other task, by the same rules and without whoever asks now. Entries about other things are passed over.
#[must_use]
pub fn approvals(
    agreement: &Verified<Agreement>,
    organisation: &Name,
    task: &Verified<Task>,
    priced: &Priced,
    about_task: &[Authored],
    about_plan: &[Authored],
    revoked: &Revoked,
) -> Approvals {
    let said = |entries| said_here(agreement, organisation, task, priced, entries, revoked);
    let own: Vec<_> = said(about_task).into_iter().filter(|said| said.task == task.hash()).collect();
    let mut elsewhere: BTreeMap<Hash, Vec<Said<'_>>> = BTreeMap::new();
    for said in said(about_plan).into_iter().filter(|said| said.task != task.hash()) {
        elsewhere.entry(said.task).or_default().push(said);
    }
    let was_approved =
        elsewhere.values().any(|said| matches!(by_people(&agreement.approval, said), Approval::ByPeople(_)));
    let outcome = outcome(agreement, priced, &own, was_approved);
    Approvals {
        agreement: agreement.hash(),
        organisation: organisation.clone(),
        outcome,
        plan: priced.plan_hash(),
        task: task.hash(),
    }
}

/// A word of somebody who has had their say about this task. They must act, or whoever relays it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is the second word of {person} of {organisation} about this task: only a yes can be followed, once, by a no")]
pub struct SecondWord {
    /// Of which organisation.
    pub organisation: Name,
    /// Who.
    pub person: Name,
}

/// Whether somebody may still say this about a task, after what was said about it before: the first word, and after a yes
/// one no. So nobody takes a no back, and no log grows by changes of mind.
///
/// # Errors
/// When that person has had their say. Entries of other kinds are no words about a task, and pass.
pub fn may_still_say(before: &[Authored], word: &Authored) -> Result<(), SecondWord> {
    let (Fact::Approval { approved, task, .. }, Author::Person { organisation, person }) =
        (&word.entry().fact, &word.entry().author)
    else {
        return Ok(());
    };
    let by_them = before.iter().map(Authored::entry).filter(|earlier| earlier.author == word.entry().author);
    let earlier: Vec<bool> = by_them
        .filter_map(|earlier| match &earlier.fact {
            Fact::Approval { approved, task: about, .. } if about == task => Some(*approved),
            _ => None,
        })
        .collect();
    match (earlier.as_slice(), approved) {
        ([], _) | ([true], false) => Ok(()),
        _ => Err(SecondWord { organisation: organisation.clone(), person: person.clone() }),
    }
}

impl Approvals {
    /// Under which agreement.
    #[must_use]
    pub const fn agreement(&self) -> Hash {
        self.agreement
    }

    /// Whose people.
    #[must_use]
    pub const fn organisation(&self) -> &Name {
        &self.organisation
    }

    /// How it stands.
    #[must_use]
    pub const fn outcome(&self) -> &Approval {
        &self.outcome
    }

    /// About which plan.
    #[must_use]
    pub const fn plan(&self) -> Hash {
        self.plan
    }

    /// About which task.
    #[must_use]
    pub const fn task(&self) -> Hash {
        self.task
    }
}

impl Approval {
    /// Whether the task may run.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        matches!(self, Self::Automatic(_) | Self::ByPeople(_))
    }

    /// Whether waiting for people may help.
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// A yes or a no about a task with this plan, by somebody of this organisation who may say it.
struct Said<'a> {
    approved: bool,
    person: &'a PersonEntry,
    task: Hash,
    why: String,
}

fn said_here<'a>(
    agreement: &'a Verified<Agreement>,
    organisation: &Name,
    task: &Verified<Task>,
    priced: &Priced,
    entries: &[Authored],
    revoked: &Revoked,
) -> Vec<Said<'a>> {
    let asks = agreement.researcher(&task.researcher).map(|entry| entry.key);
    let is_whoever_asks =
        |person: &PersonEntry| person.person == task.researcher || asks.is_some_and(|key| key == person.key);
    let said = entries.iter().filter_map(|authored| {
        let Fact::Approval { approved, plan, task, why } = &authored.entry().fact else { return None };
        let (name, person) = authored.person(agreement)?;
        let counts = name == organisation
            && *plan == priced.plan_hash()
            && authored.entry().agreement == agreement.hash()
            && person.role.may_approve()
            && !revoked.key(&person.key)
            && !is_whoever_asks(person);
        counts.then(|| Said { approved: *approved, person, task: *task, why: why.clone() })
    });
    said.collect()
}

fn outcome(agreement: &Agreement, priced: &Priced, said: &[Said<'_>], was_approved: bool) -> Approval {
    let (terms, of_people) = (&agreement.approval, by_people(&agreement.approval, said));
    if matches!(of_people, Approval::RefusedBy { .. }) {
        return of_people;
    }
    if let Some(position) = terms.automatic.classes.iter().position(|class| covers(class, priced)) {
        return Approval::Automatic(Automatic::Class(position));
    }
    match terms.automatic.approved_plans && was_approved {
        true => Approval::Automatic(Automatic::Plan),
        false => of_people,
    }
}

/// How one task stands by what these people said about it, and nothing else.
fn by_people(terms: &ApprovalTerms, said: &[Said<'_>]) -> Approval {
    if let Some(no) = said.iter().find(|said| !said.approved) {
        return Approval::RefusedBy { person: no.person.person.clone(), why: no.why.clone() };
    }
    let counted = said.iter().filter(|said| terms.roles.contains(&said.person.role));
    let names: BTreeSet<&Name> = counted.map(|said| &said.person.person).collect();
    let have = u32::try_from(names.len()).unwrap_or(u32::MAX);
    match terms.needed {
        0 => Approval::Impossible,
        needed if have < needed => Approval::Missing { have, needed },
        _ => Approval::ByPeople(names.into_iter().cloned().collect()),
    }
}

/// Whether a class covers what the plan asks: all four must hold.
pub(crate) fn covers(class: &ApprovalClass, priced: &Priced) -> bool {
    let facts = priced.facts();
    facts.analyses.iter().all(|analysis| class.analyses.contains(analysis))
        && class.datasets.contains(&facts.dataset)
        && facts.cells <= u64::from(class.max_cells)
        // In 10^-9, exactly: ε is rounded up, so the comparison is against the one who asks.
        && i128::from(facts.epsilon_micro) * 1000 <= class.max_epsilon.nano()
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{Analysis, AutomaticApproval, Decimal, RevocationSubject, Role};

    use super::*;
    use crate::entries::open_entry;
    use crate::fixtures::{World, name};

    const PAULA: usize = 0;
    const STELLA: usize = 1;
    const STEFAN: usize = 2;

    fn by_people(needed: u32, roles: &[Role]) -> ApprovalTerms {
        ApprovalTerms {
            automatic: AutomaticApproval { approved_plans: false, classes: Vec::new() },
            hold: false,
            needed,
            roles: roles.to_vec(),
            wait_hours: 1,
        }
    }

    fn said(task: &Verified<Task>, approved: bool) -> Fact {
        let (plan, why) = (task.plan.hash().unwrap(), String::from("looked at it"));
        Fact::Approval { approved, plan, task: task.hash(), why }
    }

    fn yes_of(names: &[&str]) -> Approval {
        Approval::ByPeople(names.iter().map(|text| name(text)).collect())
    }

    /// Two must approve at `a`. Who says what about what, and how it stands then.
    #[test]
    fn people_count_once_about_this_task_here_and_one_no_is_a_no() {
        let officers_and_stewards = [Role::PrivacyOfficer, Role::Steward];
        let world = World::with(3, |agreement| agreement.approval = by_people(2, &officers_and_stewards));
        let task = world.task(|_| ());
        let other_task = world.task(|task| task.nonce = Hash::of(b"another"));
        let mut other_plan = said(&task, true);
        if let Fact::Approval { plan, .. } = &mut other_plan {
            *plan = Hash::of(b"another");
        }
        let (yes, no) = (|| said(&task, true), || said(&task, false));
        let missing = |have| Approval::Missing { have, needed: 2 };
        let refused = |person| Approval::RefusedBy { person: name(person), why: String::from("looked at it") };
        let cases = [
            ("nobody", vec![], missing(0)),
            ("one", vec![(0, STELLA, yes())], missing(1)),
            ("one twice", vec![(0, STELLA, yes()), (0, STELLA, yes())], missing(1)),
            ("two", vec![(0, STELLA, yes()), (0, PAULA, yes())], yes_of(&["paula", "stella"])),
            ("elsewhere", vec![(0, STELLA, yes()), (1, PAULA, yes())], missing(1)),
            ("another task", vec![(0, STELLA, yes()), (0, PAULA, said(&other_task, true))], missing(1)),
            ("another plan", vec![(0, STELLA, yes()), (0, PAULA, other_plan)], missing(1)),
            ("a no", vec![(0, STELLA, yes()), (0, STEFAN, yes()), (0, PAULA, no())], refused("paula")),
            ("changed mind", vec![(0, STELLA, yes()), (0, STEFAN, yes()), (0, STELLA, no())], refused("stella")),
            ("no and then yes", vec![(0, STELLA, no()), (0, STELLA, yes()), (0, PAULA, yes())], refused("stella")),
            ("a no elsewhere", vec![(1, STELLA, no())], missing(0)),
        ];
        let priced = world.priced(&task);
        let ask = |entries: &[Authored], revoked: &Revoked| {
            approvals(&world.agreement, &name("a"), &task, &priced, entries, &[], revoked)
        };
        for (case, entries, expected) in cases {
            let entries: Vec<_> = entries.into_iter().map(|(org, who, fact)| world.said(org, who, fact)).collect();
            let found = ask(&entries, &Revoked::nothing());
            assert_eq!(*found.outcome(), expected, "{case}");
            assert_eq!((found.task(), found.plan()), (task.hash(), priced.plan_hash()));
            assert_eq!((found.agreement(), found.organisation()), (world.agreement.hash(), &name("a")));
        }

        // A key that was taken back says neither yes nor no.
        let subject = RevocationSubject::Key(world.people[0][STEFAN].key.public());
        let fact = Fact::Revocation { subject, why: String::from("left") };
        let taken = world.entry(Author::Custodian(name("b")), fact, &world.secrets[1].1.agreement);
        let revoked = Revoked::from_entries(&[open_entry(&taken, &world.agreement).unwrap()]);
        let two = [world.said(0, STELLA, yes()), world.said(0, STEFAN, yes())];
        assert_eq!(*ask(&two, &Revoked::nothing()).outcome(), yes_of(&["stefan", "stella"]));
        assert_eq!(*ask(&two, &revoked).outcome(), missing(1));
        assert_eq!(*ask(&[world.said(0, STEFAN, no())], &revoked).outcome(), missing(0));
    }

    /// What one person says about one task, one word after the other: the last one is refused, or it is not.
    #[test]
    fn a_yes_can_become_a_no_and_nothing_else_is_said_twice() {
        let world = World::new(3);
        let (task, other) = (world.task(|_| ()), world.task(|task| task.nonce = Hash::of(b"another")));
        let word = |(organisation, who, about, approved): (usize, usize, &Verified<Task>, bool)| {
            world.said(organisation, who, said(about, approved))
        };
        let (yes, no) = ((0, STELLA, &task, true), (0, STELLA, &task, false));
        for (case, words, is_taken) in [
            ("a first yes", vec![yes], true),
            ("a first no", vec![no], true),
            ("a yes and a no", vec![yes, no], true),
            ("a yes again", vec![yes, yes], false),
            ("a no again", vec![no, no], false),
            ("a no and a yes", vec![no, yes], false),
            ("a third word", vec![yes, no, yes], false),
            ("a third word, no again", vec![yes, no, no], false),
            ("after another's", vec![(0, STEFAN, &task, true), yes], true),
            ("after the namesake's elsewhere", vec![(1, STELLA, &task, true), yes], true),
            ("after one about another task", vec![(0, STELLA, &other, false), yes], true),
        ] {
            let mut words: Vec<_> = words.into_iter().map(word).collect();
            let last = words.pop().unwrap();
            assert_eq!(may_still_say(&words, &last).is_ok(), is_taken, "{case}");
        }
        let freeze = world.said(0, STELLA, Fact::Freeze { frozen: true, why: String::from("to look at it") });
        assert_eq!(may_still_say(&[word(yes), freeze.clone()], &freeze), Ok(()));
    }

    /// Who approves in a role that the agreement does not count changes nothing; their no is heard.
    #[test]
    fn roles_that_do_not_count_can_still_refuse() {
        let world = World::with(3, |agreement| agreement.approval = by_people(1, &[Role::Steward]));
        let task = world.task(|_| ());
        let priced = world.priced(&task);
        let outcome = |entries: &[Authored]| {
            let (here, nothing) = (name("a"), Revoked::nothing());
            approvals(&world.agreement, &here, &task, &priced, entries, &[], &nothing).outcome().clone()
        };
        let (yes, no) = (world.said(0, PAULA, said(&task, true)), world.said(0, PAULA, said(&task, false)));
        assert_eq!(outcome(&[yes]), Approval::Missing { have: 0, needed: 1 });
        assert!(matches!(outcome(&[world.said(0, STELLA, said(&task, true)), no]), Approval::RefusedBy { .. }));
    }

    /// The class covers the task exactly; each edit makes it cover a little less.
    #[test]
    fn a_class_covers_only_what_all_four_limits_cover() {
        let task_of = |world: &World| world.task(|_| ());
        let model = World::new(3);
        let facts = model.priced(&task_of(&model)).facts().clone();
        let epsilon = |micro: u64| Decimal::new(i64::try_from(micro).unwrap(), 6).unwrap();
        let class = ApprovalClass {
            analyses: vec![Analysis::Count],
            datasets: vec![name("heart")],
            max_cells: u32::try_from(facts.cells).unwrap(),
            max_epsilon: epsilon(facts.epsilon_micro),
        };
        type Edit<'a> = &'a dyn Fn(&mut ApprovalTerms);
        let first = |terms: &mut ApprovalTerms, edit: &dyn Fn(&mut ApprovalClass)| {
            edit(&mut terms.automatic.classes[0]);
        };
        let cases: [(&str, Edit<'_>, Approval); 7] = [
            ("as it is", &|_| (), Approval::Automatic(Automatic::Class(0))),
            ("analyses", &|t| first(t, &|c| c.analyses = vec![Analysis::Mean]), Approval::Impossible),
            ("datasets", &|t| first(t, &|c| c.datasets = vec![name("empty")]), Approval::Impossible),
            ("cells", &|t| first(t, &|c| c.max_cells -= 1), Approval::Impossible),
            ("epsilon", &|t| first(t, &|c| c.max_epsilon = epsilon(facts.epsilon_micro - 1)), Approval::Impossible),
            (
                "the second",
                &|t| {
                    let mut other = t.automatic.classes[0].clone();
                    other.analyses = vec![Analysis::Sum];
                    t.automatic.classes.insert(0, other);
                },
                Approval::Automatic(Automatic::Class(1)),
            ),
            (
                "people, where no class covers it",
                &|t| {
                    first(t, &|c| c.analyses = vec![Analysis::Sum]);
                    (t.needed, t.roles) = (1, vec![Role::Steward]);
                },
                Approval::Missing { have: 0, needed: 1 },
            ),
        ];
        for (case, edit, expected) in cases {
            let world = World::with(3, |agreement| {
                agreement.approval = by_people(0, &[]);
                agreement.approval.automatic.classes = vec![class.clone()];
                edit(&mut agreement.approval);
            });
            let task = task_of(&world);
            let priced = world.priced(&task);
            let found = approvals(&world.agreement, &name("a"), &task, &priced, &[], &[], &Revoked::nothing());
            assert_eq!(*found.outcome(), expected, "{case}");
        }
        // A no is heard before any class.
        let world = World::new(3);
        let task = task_of(&world);
        let no = [world.said(0, PAULA, said(&task, false))];
        let priced = world.priced(&task);
        let nothing = Revoked::nothing();
        let found = approvals(&world.agreement, &name("a"), &task, &priced, &no, &[], &nothing);
        assert!(matches!(found.outcome(), Approval::RefusedBy { .. }));
    }
    /// Two must approve. What was said about other tasks, and how a task with the same plan stands then.
    #[test]
    fn a_plan_was_approved_before_if_enough_people_said_so_in_one_other_task() {
        let stewards = [Role::PrivacyOfficer, Role::Steward];
        let world_where = |again| {
            World::with(3, |agreement| {
                agreement.approval = by_people(2, &stewards);
                agreement.approval.automatic.approved_plans = again;
            })
        };
        let world = world_where(true);
        let with_nonce = |world: &World, nonce: &[u8]| world.task(|task| task.nonce = Hash::of(nonce));
        let task = world.task(|_| ());
        let (first, second) = (with_nonce(&world, b"first"), with_nonce(&world, b"second"));
        let other_plan = world.task(|task| task.plan.draw = 1);
        let priced = world.priced(&task);
        let (yes, no) = (|task: &Verified<Task>| said(task, true), |task: &Verified<Task>| said(task, false));
        let missing = |have| Approval::Missing { have, needed: 2 };
        let again = Approval::Automatic(Automatic::Plan);
        let stands = |world: &World, words: &[(usize, usize, Fact)], revoked: &Revoked| {
            let words: Vec<_> = words.iter().map(|(org, who, fact)| world.said(*org, *who, fact.clone())).collect();
            let found = approvals(&world.agreement, &name("a"), &task, &priced, &words, &words, revoked);
            found.outcome().clone()
        };
        let both = [(0, STELLA, yes(&first)), (0, PAULA, yes(&first))];
        let cases = [
            ("both in one task", both.to_vec(), again.clone()),
            ("one in each of two", vec![(0, STELLA, yes(&first)), (0, PAULA, yes(&second))], missing(0)),
            ("one twice", vec![(0, STELLA, yes(&first)), (0, STELLA, yes(&first))], missing(0)),
            ("elsewhere", vec![(0, STELLA, yes(&first)), (1, PAULA, yes(&first))], missing(0)),
            ("another plan", vec![(0, STELLA, yes(&other_plan)), (0, PAULA, yes(&other_plan))], missing(0)),
            ("a change of mind", [&both[..], &[(0, PAULA, no(&first))]].concat(), missing(0)),
            ("somebody's no", [&both[..], &[(0, STEFAN, no(&first))]].concat(), missing(0)),
            ("a no in another", [&both[..], &[(0, STEFAN, no(&second))]].concat(), again),
            ("the task's own words are no earlier ones", vec![(0, STELLA, yes(&task))], missing(1)),
        ];
        for (case, words, expected) in cases {
            assert_eq!(stands(&world, &words, &Revoked::nothing()), expected, "{case}");
        }
        let refused = stands(&world, &[&both[..], &[(0, STEFAN, no(&task))]].concat(), &Revoked::nothing());
        assert!(matches!(refused, Approval::RefusedBy { .. }), "a no about this task is heard first: {refused:?}");

        // A key that was taken back takes its words along, those of before too.
        let subject = RevocationSubject::Key(world.people[0][STELLA].key.public());
        let fact = Fact::Revocation { subject, why: String::from("stolen") };
        let taken = world.entry(Author::Custodian(name("a")), fact, &world.secrets[0].1.agreement);
        let revoked = Revoked::from_entries(&[open_entry(&taken, &world.agreement).unwrap()]);
        assert_eq!(stands(&world, &both, &revoked), missing(0));

        // Where the agreement does not say that it counts again, it does not.
        let once = world_where(false);
        let (task, first) = (once.task(|_| ()), with_nonce(&once, b"first"));
        let words = [STELLA, PAULA].map(|who| once.said(0, who, yes(&first)));
        let (priced, nothing) = (once.priced(&task), Revoked::nothing());
        let found = approvals(&once.agreement, &name("a"), &task, &priced, &[], &words, &nothing);
        assert_eq!(*found.outcome(), missing(0));
    }
}
