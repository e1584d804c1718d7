//! All checks in their order, and what they leave behind for whoever writes about it.
//!
//! The steps are those of `docs/spec/log-entries.md`. Nothing after a step that failed is run, so that whoever holds an
//! [`Examined`] may take every entry in it as signed by its author, every document as the one that its entry names, every
//! permit, price and release as what the agreement allows. What it cannot promise is that members keep one book: who
//! contradicts itself stands in the findings.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use cohortium_ledger::VerifiedLog;
use cohortium_messages::{Agreement, Envelope, Fact, Hash, Name, Verified};

use crate::account::{Books, revisions_of};
use crate::body::Bodies;
use crate::head::{self, Complete, Head};
use crate::leaf::Leaf;
use crate::outcome::{AccountReport, AuditReport, Finding, FindingKind, Findings, LogReport, TaskReport, count_kinds};
use crate::study::Study;
use crate::task::Tasks;
use crate::{AuditError, study, unusable};

/// A log of which everything that can be repeated was repeated.
pub(crate) struct Examined {
    accounts: Vec<AccountReport>,
    /// The amendments that lead from the given agreement to the one whose log policy the head meets, in order.
    pub amended: Vec<Complete>,
    pub books: Books,
    /// The given study under the last revision of its agreement.
    pub current: Rc<Study>,
    pub findings: Vec<Finding>,
    /// The study whose agreement was handed in.
    pub given: Rc<Study>,
    pub leaves: Vec<Leaf>,
    pub log: VerifiedLog,
    /// The given study under each revision of its agreement, in order.
    pub revisions: Vec<Rc<Study>>,
    studies: BTreeMap<Hash, Rc<Study>>,
    pub tasks: Tasks,
    task_reports: Vec<TaskReport>,
}

impl Examined {
    /// Runs all checks on the log in `dir`.
    pub(crate) fn new(dir: &Path, agreement: &Envelope) -> Result<Self, AuditError> {
        let given = cohortium_policy::open_agreement(agreement).map_err(unusable)?;
        let given_hash = given.hash();
        let Head { amended, complete, leaves, log } = head::verify_log(dir, &given)?;
        let bodies = Bodies::new(dir, log.bodies());
        bodies.check_all(&leaves)?;

        let mut findings = Findings::default();
        let studies = study::known(given, &leaves, &complete, &mut findings)?;
        let (mut tasks, mut books) = (Tasks::default(), Books::default());
        for leaf in &leaves {
            match studies.get(&leaf.claims().agreement) {
                Some(study) => {
                    study.demand_in_force(leaf)?;
                    let opened = leaf.open(&study.agreement)?;
                    tasks.take(leaf.index, &opened, study, &bodies, (&mut books, &mut findings))?;
                }
                None => {
                    tasks.note_uncovered(leaf, &bodies)?;
                    findings.not_covered(leaf);
                }
            }
        }
        let accounts = books.finish(&studies, &tasks, &mut findings)?;
        let task_reports = tasks.report(&mut findings);
        let given = studies.get(&given_hash).map(Rc::clone);
        let given = given.ok_or_else(|| unusable("it is not among the studies that were checked"))?;
        let revisions = revisions_of(&studies, &given.agreement.study);
        let current = revisions.last().map_or_else(|| Rc::clone(&given), Rc::clone);
        let findings = findings.into_list();
        Ok(Self {
            accounts,
            amended,
            books,
            current,
            findings,
            given,
            leaves,
            log,
            revisions,
            studies,
            tasks,
            task_reports,
        })
    }

    /// What was found, for programs.
    pub(crate) fn report(&self) -> AuditReport {
        AuditReport {
            accounts: self.accounts.clone(),
            entries: count_kinds(&self.leaves),
            findings: self.findings.clone(),
            log: LogReport::of(&self.log),
            studies: self.studies.values().map(|study| study.report()).collect(),
            tasks: self.task_reports.clone(),
        }
    }

    /// The parties of the given study that contradict their own accounts, each with the entry at which it came out.
    pub(crate) fn contradicted(&self) -> impl Iterator<Item = (&Name, u64)> {
        let mut found: BTreeMap<&Name, u64> = BTreeMap::new();
        for study in &self.revisions {
            for name in study.agreement.parties.iter().map(|party| &party.entry.organisation) {
                self.books.contradiction(study, name).map(|entry| found.insert(name, entry));
            }
        }
        found.into_iter()
    }

    /// The entries of the given study that were not checked, because the log does not hold their agreement: how many, and
    /// the first. What custodians signed and not all of them (an amendment that is proposed) binds nobody and is not meant.
    pub(crate) fn unchecked(&self) -> Option<(u64, u64)> {
        let study = &self.given.agreement.study;
        let is_meant = |leaf: &&Leaf| {
            let claims = leaf.claims();
            let is_proposal = matches!(claims.fact, Fact::Agreement { .. });
            claims.study == *study && !is_proposal && !self.studies.contains_key(&claims.agreement)
        };
        let mut meant = self.leaves.iter().filter(is_meant);
        let first = meant.next()?.index;
        Some((1 + meant.count() as u64, first))
    }

    /// Demands that every entry of the given study was checked.
    pub(crate) fn demand_covered(&self) -> Result<(), AuditError> {
        let Some((count, first)) = self.unchecked() else { return Ok(()) };
        let (report, study) = (Box::new(self.report()), self.given.agreement.study.clone());
        Err(AuditError::NotCovered { count, first, report, study })
    }

    /// The agreement whose log policy the head meets: the one that was handed in, or one that amends it.
    pub(crate) fn met(&self) -> &Verified<Agreement> {
        self.amended.last().map_or(&self.given.agreement, |amendment| &amendment.agreement)
    }

    /// Whether an entry is under some revision of the given study's agreement.
    pub(crate) fn is_of_the_study(&self, leaf: &Leaf) -> bool {
        self.revisions.iter().any(|study| study.agreement.hash() == leaf.claims().agreement)
    }

    /// What was found about the given study and its parties, and how much about others.
    pub(crate) fn findings_of_the_study(&self) -> (Vec<&Finding>, usize) {
        let study = &self.given.agreement.study;
        // A leaf's index is its place.
        let leaf = |entry: u64| usize::try_from(entry).ok().and_then(|place| self.leaves.get(place));
        let is_under_it =
            |entry: u64| leaf(entry).is_some_and(|leaf| self.is_of_the_study(leaf) && leaf.claims().study == *study);
        let is_own = |finding: &&Finding| match (finding.kind, finding.entry) {
            (FindingKind::Contradiction, entry) => self.contradicted().any(|(_, found)| Some(found) == entry),
            (FindingKind::NotCovered | FindingKind::Proposal, Some(entry)) => {
                leaf(entry).is_some_and(|leaf| leaf.claims().study == *study)
            }
            (_, Some(entry)) => is_under_it(entry),
            // Missing custodians of the given agreement, and nothing else, are about no entry.
            (_, None) => true,
        };
        let (own, others): (Vec<&Finding>, Vec<&Finding>) = self.findings.iter().partition(is_own);
        (own, others.len())
    }

    /// The accounts of the given study.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &AccountReport> {
        self.accounts.iter().filter(|account| account.study == self.given.agreement.study)
    }
}
