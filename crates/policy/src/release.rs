//! The one door through which a release is made, and the same checks for whoever doubts it later.
//!
//! A release needs four things that cannot be made up: a [`Total`] (it went through the whole secure sum), a [`Permit`]
//! (every clause held), the agreement its custodians signed, and what survivors signed: each a receipt (it ran this plan
//! for this task under this agreement, and paid), at least `t` of them who is in the sum. [`verify_release`] repeats
//! from the document alone what can be repeated: an auditor needs no access to hub or nodes.
//!
//! What receipts do not prove: that the published cells are the sum. They bind plan, price and participants; a hub that
//! publishes other numbers is caught only by running the task again (a free repetition returns the stored release).
//! Whether the release is in the log is `ledger`'s to check; whether the task was permitted is decided anew with
//! [`Policy::decide`](crate::Policy::decide).
//!
//! Assumes: a hostile hub, and signatures of hostile nodes. At most `c` organisations collude; of `t` that signed at
//! least `t − c` are honest.

use std::collections::BTreeSet;

use cohortium_messages::{
    Agreement, Envelope, EnvelopeError, Hash, Name, RELEASE_VERSION, Receipt, ReleaseDocument, SurvivorSet, Task,
    Timestamp, Verified, decode_cells, encode_cells,
};
use cohortium_mpc::Total;
use cohortium_query::{Priced, groups_below_minimum};

use crate::decide::Permit;

/// A noised total that may leave. Made by [`Release::make`] alone.
#[derive(Debug)]
#[must_use = "a release that nobody signs and logs is none"]
pub struct Release {
    document: ReleaseDocument,
}

/// A node's receipt whose signature has been checked against the agreement's roster, with the envelope it came in.
#[derive(Debug, Clone)]
pub struct ReceiptEvidence {
    envelope: Envelope,
    receipt: Verified<Receipt>,
}

/// Why a release cannot be made, or does not verify.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Two of the things handed in are about something else. The caller must act; in a document, the hub.
    #[error("the {0} is not the same in all documents that are put together")]
    Different(&'static str),
    /// A receipt or survivor set is not signed by the organisation it names, or is something else. That node must act.
    #[error("receipt or survivor set: {0}")]
    Signature(#[from] EnvelopeError),
    /// A receipt or survivor set names an organisation that is no party.
    #[error("receipt or survivor set: `{0}` is no party of the agreement")]
    NotAParty(Name),
    /// A receipt or survivor set says something else than the rest. That node must act, or the hub mixed rounds.
    #[error("what `{organisation}` signed states another {field}")]
    Disagrees {
        /// What differs.
        field: &'static str,
        /// Whose receipt.
        organisation: Name,
    },
    /// Two receipts or two survivor sets of one organisation.
    #[error("`{0}` has two receipts or signed the survivor set twice")]
    Twice(Name),
    /// A receipt or survivor set of someone who is not in the sum.
    #[error("`{0}` has a receipt or signed the survivor set, and is not among the survivors")]
    NotASurvivor(Name),
    /// A survivor without a receipt.
    #[error("survivor `{0}` has no receipt")]
    ReceiptMissing(Name),
    /// The survivors are not sorted, not different, or not parties of the task.
    #[error("the survivors must be participants of the task, sorted and different")]
    Survivors,
    /// Too few survivors signed who is in the sum.
    #[error("{found} survivors signed who is in the total, and the agreement demands {threshold}")]
    TooFewConsents {
        /// How many did.
        found: usize,
        /// `t`.
        threshold: u32,
    },
    /// Fewer survivors than agreed: the round is void.
    #[error("{found} organisations are in the total, and the agreement demands {threshold}")]
    TooFew {
        /// How many there are.
        found: usize,
        /// `t`.
        threshold: u32,
    },
    /// The cells are not what the plan's layout says.
    #[error("the plan makes {expected} cells, and here are {}", found.map_or_else(|| String::from("none that can be read"), |n| n.to_string()))]
    Cells {
        /// By the plan.
        expected: usize,
        /// In the document; nothing when the text is not cells.
        found: Option<usize>,
    },
    /// The stated noise is not what the plan leaves for so many survivors.
    #[error("the stated noise variance does not follow from the plan, the price and {survivors} survivors")]
    Noise {
        /// How many survivors.
        survivors: usize,
    },
}

impl ReceiptEvidence {
    /// Checks a receipt against the message key that the agreement states for the organisation it names.
    ///
    /// # Errors
    /// [`ReleaseError::NotAParty`], or [`ReleaseError::Signature`] for a wrong signature, shape or size.
    pub fn new(envelope: Envelope, agreement: &Agreement) -> Result<Self, ReleaseError> {
        let organisation = envelope.peek::<Receipt>()?.claims().organisation.clone();
        let party = agreement.party(&organisation).ok_or(ReleaseError::NotAParty(organisation))?;
        let receipt = envelope.open(&party.message_key)?;
        Ok(Self { envelope, receipt })
    }

    /// What the node signed.
    #[must_use]
    pub const fn receipt(&self) -> &Verified<Receipt> {
        &self.receipt
    }
}

impl Release {
    /// Makes a release.
    ///
    /// Given a total, returns it as a release if and only if a permit for this very task, plan and agreement exists, at
    /// least `t` organisations are in it, each of them signed a receipt for this round, and `t` of them signed that these
    /// are the survivors; never with a stated variance below the noise that is in it, and never with a number of a group that
    /// counts fewer persons, by its noised count, than the agreement demands. Argued: by the types for total and permit, by
    /// checks for the rest.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn make(
        total: Total,
        permit: &Permit,
        agreement: &Verified<Agreement>,
        receipts: Vec<ReceiptEvidence>,
        consents: Vec<Envelope>,
        now: Timestamp,
    ) -> Result<Self, ReleaseError> {
        same("task", total.task(), permit.task().hash())?;
        same("plan", total.plan(), permit.plan())?;
        same("agreement", permit.agreement(), agreement.hash())?;
        let claim = Claim {
            agreement,
            cells: Some(total.cells().len()),
            context: Some(total.context_hash()),
            noise_variance: Some(total.noise_variance()),
            priced: permit.priced(),
            survivors: total.survivors(),
            task: permit.task(),
        };
        claim.check(&receipts, &consents)?;
        let (cells, suppressed) = without_small_groups(permit.priced(), total.cells())?;
        let mut receipts = receipts;
        receipts.sort_by(|a, b| a.receipt.organisation.cmp(&b.receipt.organisation));
        let document = ReleaseDocument {
            agreement: agreement.hash(),
            cells: encode_cells(&cells),
            consents,
            noise_variance: total.noise_variance().to_string(),
            plan: permit.plan(),
            receipts: receipts.into_iter().map(|evidence| evidence.envelope).collect(),
            released_at: now,
            study: agreement.study.clone(),
            suppressed,
            survivors: total.survivors().to_vec(),
            task: permit.task().hash(),
            version: RELEASE_VERSION,
        };
        Ok(Self { document })
    }

    /// The release as it travels, to be signed with the hub's message key and logged.
    #[must_use]
    pub const fn document(&self) -> &ReleaseDocument {
        &self.document
    }
}

/// Repeats offline, from the document alone, what [`Release::make`] demanded.
///
/// `document` must have been opened with the hub's message key from the agreement, `agreement` with all custodians'
/// keys ([`crate::open_agreement`]), `task` with its researcher's ([`crate::open_task`]); `priced` is what the caller's
/// own [`cohortium_query::check`] derived from the task's plan.
///
/// # Errors
/// The first thing that does not fit: the release must not be believed.
pub fn verify_release(
    document: &Verified<ReleaseDocument>,
    agreement: &Verified<Agreement>,
    task: &Verified<Task>,
    priced: &Priced,
) -> Result<(), ReleaseError> {
    same("agreement", document.agreement, agreement.hash())?;
    same("study", &document.study, &agreement.study)?;
    same("task", document.task, task.hash())?;
    same("plan", document.plan, priced.plan_hash())?;
    if document.receipts.len().max(document.consents.len()) > agreement.parties.len() {
        // Before any signature is checked: each costs time.
        return Err(ReleaseError::Different("set of survivors"));
    }
    let receipts: Vec<ReceiptEvidence> = document
        .receipts
        .iter()
        .map(|envelope| ReceiptEvidence::new(envelope.clone(), agreement))
        .collect::<Result<_, _>>()?;
    let variance: Option<u128> = document.noise_variance.parse().ok();
    let claim = Claim {
        agreement,
        cells: decode_cells(&document.cells).map(|cells| cells.len()),
        context: None,
        noise_variance: variance.filter(|variance| variance.to_string() == document.noise_variance),
        priced,
        survivors: &document.survivors,
        task,
    };
    claim.check(&receipts, &document.consents)?;
    let cells = decode_cells(&document.cells).unwrap_or_default();
    let (blanked, suppressed) = without_small_groups(priced, &cells)?;
    same("list of suppressed groups", (&cells, &document.suppressed), (&blanked, &suppressed))
}

/// The cells with those of groups that count too few replaced by zeros, and the positions of these groups.
fn without_small_groups(priced: &Priced, cells: &[i64]) -> Result<(Vec<i64>, Vec<u32>), ReleaseError> {
    let (expected, found) = (priced.layout().cells(), Some(cells.len()));
    let suppressed = groups_below_minimum(priced, cells).map_err(|_| ReleaseError::Cells { expected, found })?;
    let mut cells = cells.to_vec();
    // No layout has groups without cells.
    for (position, group) in (0u32..).zip(cells.chunks_mut(priced.layout().measures.max(1))) {
        if suppressed.binary_search(&position).is_ok() {
            group.fill(0);
        }
    }
    Ok((cells, suppressed))
}

/// What a release claims, wherever it comes from.
struct Claim<'a> {
    agreement: &'a Verified<Agreement>,
    /// How many; nothing when the text could not be read.
    cells: Option<usize>,
    /// The round's context, where it is known; otherwise the receipts must state one and the same.
    context: Option<Hash>,
    /// Nothing when the text could not be read.
    noise_variance: Option<u128>,
    priced: &'a Priced,
    survivors: &'a [Name],
    task: &'a Verified<Task>,
}

impl Claim<'_> {
    fn check(&self, receipts: &[ReceiptEvidence], consents: &[Envelope]) -> Result<(), ReleaseError> {
        let plan = self.task.plan.hash().map_err(|_| ReleaseError::Different("plan"))?;
        same("plan", plan, self.priced.plan_hash())?;
        same("agreement", self.task.plan.agreement, self.agreement.hash())?;
        same("study", &self.task.study, &self.agreement.study)?;
        self.check_survivors()?;
        let context = self.check_receipts(receipts)?;
        self.check_consents(consents, context)?;
        let expected = self.priced.layout().cells();
        if self.cells != Some(expected) {
            return Err(ReleaseError::Cells { expected, found: self.cells });
        }
        if self.noise_variance.is_some_and(|variance| self.is_admissible(variance)) {
            Ok(())
        } else {
            Err(ReleaseError::Noise { survivors: self.survivors.len() })
        }
    }

    fn check_survivors(&self) -> Result<(), ReleaseError> {
        let takes_part = |name| self.agreement.party(name).is_some() && self.task.participants.contains(name);
        if self.survivors.array_windows().any(|[a, b]| a >= b) || !self.survivors.iter().all(takes_part) {
            return Err(ReleaseError::Survivors);
        }
        let (found, threshold) = (self.survivors.len(), self.agreement.secure_sum.threshold);
        if found < threshold as usize { Err(ReleaseError::TooFew { found, threshold }) } else { Ok(()) }
    }

    /// Exactly one receipt of each survivor, all about one round, whose context is returned.
    fn check_receipts(&self, receipts: &[ReceiptEvidence]) -> Result<Hash, ReleaseError> {
        let mut seen = BTreeSet::new();
        let context = self.context.or_else(|| receipts.first().map(|evidence| evidence.receipt.context));
        for ReceiptEvidence { envelope, receipt } in receipts {
            let organisation = receipt.organisation.clone();
            // The evidence may have been made under another agreement: check the signature under this one.
            let party = self.agreement.party(&organisation).ok_or(ReleaseError::NotAParty(organisation.clone()))?;
            if !envelope.is_signed_by(&party.message_key) {
                return Err(ReleaseError::Disagrees { field: "message key", organisation });
            }
            if !self.survivors.contains(&organisation) {
                return Err(ReleaseError::NotASurvivor(organisation));
            }
            for (field, agrees) in [
                ("agreement", receipt.agreement == self.agreement.hash()),
                ("context", Some(receipt.context) == context),
                ("dataset", receipt.dataset == self.priced.plan().dataset),
                ("plan", receipt.plan == self.priced.plan_hash()),
                ("task", receipt.task == self.task.hash()),
            ] {
                if !agrees {
                    return Err(ReleaseError::Disagrees { field, organisation });
                }
            }
            if !seen.insert(&receipt.organisation) {
                return Err(ReleaseError::Twice(organisation));
            }
        }
        match self.survivors.iter().find(|name| !seen.contains(name)) {
            Some(missing) => Err(ReleaseError::ReceiptMissing(missing.clone())),
            // There is a survivor, and it has a receipt.
            None => context.ok_or(ReleaseError::Survivors),
        }
    }

    /// At least `t` survivors signed that these are the survivors of this round.
    fn check_consents(&self, consents: &[Envelope], context: Hash) -> Result<(), ReleaseError> {
        let mut seen = BTreeSet::new();
        for envelope in consents {
            let organisation = envelope.peek::<SurvivorSet>()?.claims().from.clone();
            let party = self.agreement.party(&organisation).ok_or(ReleaseError::NotAParty(organisation.clone()))?;
            let set = envelope.open::<SurvivorSet>(&party.message_key)?;
            if !self.survivors.contains(&organisation) {
                return Err(ReleaseError::NotASurvivor(organisation));
            }
            for (field, agrees) in
                [("context", set.context == context), ("set of survivors", set.survivors == self.survivors)]
            {
                if !agrees {
                    return Err(ReleaseError::Disagrees { field, organisation });
                }
            }
            if !seen.insert(organisation.clone()) {
                return Err(ReleaseError::Twice(organisation));
            }
        }
        let (found, threshold) = (seen.len(), self.agreement.secure_sum.threshold);
        if found < threshold as usize { Err(ReleaseError::TooFewConsents { found, threshold }) } else { Ok(()) }
    }

    /// Whether the stated variance can be: what the plan leaves for so many survivors, and for each survivor that did
    /// not come back to reveal its excess noise (at most u − t of them, because t reveals are needed) that excess on top.
    fn is_admissible(&self, stated: u128) -> bool {
        let noise = self.priced.noise();
        let Ok(survivors) = u32::try_from(self.survivors.len()) else { return false };
        let Ok(least) = noise.remaining_total_variance(survivors) else { return false };
        let everyone = u128::from(survivors) * u128::from(noise.node_variance());
        // Both are multiples of u: per node, what it adds and what is due to be left of it.
        let excess_per_node = everyone.saturating_sub(least) / u128::from(survivors.max(1));
        let silent_at_most = u128::from(survivors.saturating_sub(noise.threshold()));
        (0..=silent_at_most).any(|silent| least + silent * excess_per_node == stated)
    }
}

fn same<T: PartialEq>(what: &'static str, left: T, right: T) -> Result<(), ReleaseError> {
    if left == right { Ok(()) } else { Err(ReleaseError::Different(what)) }
}

#[cfg(test)]
mod tests {
    use cohortium_messages::Document;
    use serde::Serialize;

    use super::*;
    use crate::compile::compile;
    use crate::decide::Request;
    use crate::entries::Revoked;
    use crate::fixtures::{World, name, start};

    /// A world of four with a permitted task: t = 3, so one may drop out.
    struct Case {
        permit: Permit,
        task: Verified<Task>,
        world: World,
    }

    fn case() -> Case {
        case_of(World::new(4))
    }

    fn case_of(world: World) -> Case {
        let task = world.task(|_| ());
        let priced = world.priced(&task);
        let revoked = Revoked::nothing();
        let request = Request::new(&task, &priced, world.agreement.hash(), start(), &revoked);
        let permit = compile(&world.agreement).unwrap().decide(&request).unwrap();
        Case { permit, task, world }
    }

    impl Case {
        fn receipts(&self, total: &Total, edit: impl Fn(&mut Receipt)) -> Vec<ReceiptEvidence> {
            let evidence = |organisation: &Name| {
                ReceiptEvidence::new(self.receipt(total, organisation, &edit), &self.world.agreement).unwrap()
            };
            total.survivors().iter().map(evidence).collect()
        }

        fn receipt(&self, total: &Total, organisation: &Name, edit: impl Fn(&mut Receipt)) -> Envelope {
            let mut receipt = Receipt {
                account_head: Hash::of(b"account"),
                account_sequence: 3,
                agreement: self.world.agreement.hash(),
                context: total.context_hash(),
                dataset: name("heart"),
                masked: Hash::of(organisation.as_str().as_bytes()),
                organisation: organisation.clone(),
                plan: total.plan(),
                snapshot: Hash::of(b"rows"),
                task: total.task(),
            };
            edit(&mut receipt);
            self.sign(&receipt, organisation)
        }

        /// What each survivor signs about who is in the sum.
        fn consents(&self, total: &Total, edit: impl Fn(&mut SurvivorSet)) -> Vec<Envelope> {
            let consent = |organisation: &Name| {
                let (context, survivors) = (total.context_hash(), total.survivors().to_vec());
                let mut set = SurvivorSet { context, from: organisation.clone(), survivors };
                edit(&mut set);
                self.sign(&set, organisation)
            };
            total.survivors().iter().map(consent).collect()
        }

        fn sign<T: Document + Serialize>(&self, document: &T, organisation: &Name) -> Envelope {
            let (_, keys) = self.world.secrets.iter().find(|(name, _)| name == organisation).unwrap();
            Envelope::sign(document, &keys.message).unwrap()
        }

        fn make(&self, total: Total, receipts: Vec<ReceiptEvidence>) -> Result<Release, ReleaseError> {
            let consents = self.consents(&total, |_| ());
            self.make_with(total, receipts, consents)
        }

        fn make_with(
            &self,
            total: Total,
            receipts: Vec<ReceiptEvidence>,
            consents: Vec<Envelope>,
        ) -> Result<Release, ReleaseError> {
            Release::make(total, &self.permit, &self.world.agreement, receipts, consents, start())
        }

        fn verify(&self, document: &ReleaseDocument) -> Result<(), ReleaseError> {
            let envelope = Envelope::sign(document, &self.world.hub_key).unwrap();
            let document = envelope.open(&self.world.agreement.hub.message_key).unwrap();
            verify_release(&document, &self.world.agreement, &self.task, self.permit.priced())
        }

        fn total(&self, absent: &[&str], silent: &[&str]) -> Total {
            self.world.round(&self.task, self.permit.priced(), absent, silent)
        }
    }

    #[test]
    fn a_release_is_made_and_verifies_with_drop_outs_and_silent_survivors() {
        let case = case();
        let mut variances = Vec::new();
        let rounds: [(&[&str], &[&str]); 3] = [(&[], &[]), (&["b"], &[]), (&[], &["c"])];
        for (absent, silent) in rounds {
            let total = case.total(absent, silent);
            let (cells, variance) = (total.cells().to_vec(), total.noise_variance());
            variances.push(variance);
            let mut receipts = case.receipts(&total, |_| ());
            receipts.reverse();
            let release = case.make(total, receipts).unwrap();
            let document = release.document();
            assert_eq!(decode_cells(&document.cells).unwrap(), cells);
            assert_eq!(document.noise_variance, variance.to_string());
            assert_eq!(document.survivors.len(), 4 - absent.len());
            case.verify(document).unwrap();
        }
        let noise = case.permit.priced().noise();
        assert_eq!(variances[0], noise.remaining_total_variance(4).unwrap());
        assert_eq!(variances[1], noise.remaining_total_variance(3).unwrap());
        assert!(variances[2] > variances[0]);
    }

    #[test]
    fn receipts_that_do_not_fit_make_no_release() {
        let case = case();
        type Edit = fn(&mut Receipt);
        let cases: [(&str, Edit); 5] = [
            ("agreement", |r| r.agreement = Hash::of(b"other")),
            ("context", |r| r.context = Hash::of(b"other")),
            ("dataset", |r| r.dataset = name("other")),
            ("plan", |r| r.plan = Hash::of(b"other")),
            ("task", |r| r.task = Hash::of(b"other")),
        ];
        for (expected, edit) in cases {
            // One wrong receipt among four is enough.
            let total = case.total(&[], &[]);
            let receipts = case.receipts(&total, |r| {
                if r.organisation == name("c") {
                    edit(r)
                }
            });
            let error = case.make(total, receipts).unwrap_err();
            assert!(
                matches!(&error, ReleaseError::Disagrees { field, organisation }
                    if *field == expected && *organisation == name("c")),
                "{expected}: {error}"
            );
        }
        let edited = |edit: &dyn Fn(&mut Vec<ReceiptEvidence>, &Total)| {
            let total = case.total(&[], &[]);
            let mut receipts = case.receipts(&total, |_| ());
            edit(&mut receipts, &total);
            case.make(total, receipts).unwrap_err()
        };
        assert!(matches!(edited(&|r, _| drop(r.pop())), ReleaseError::ReceiptMissing(n) if n == name("d")));
        assert!(matches!(edited(&|r, _| r.clear()), ReleaseError::ReceiptMissing(_)));
        assert!(matches!(edited(&|r, _| r[0] = r[1].clone()), ReleaseError::Twice(n) if n == name("b")));
        let total = case.total(&["b"], &[]);
        let mut receipts = case.receipts(&total, |_| ());
        let extra = case.receipt(&total, &name("b"), |_| ());
        receipts.push(ReceiptEvidence::new(extra, &case.world.agreement).unwrap());
        assert!(matches!(case.make(total, receipts), Err(ReleaseError::NotASurvivor(n)) if n == name("b")));

        let total = case.total(&[], &[]);
        let stranger = World::seeded(4, 99, |_| ());
        let forged = Case { world: stranger, task: case.task.clone(), permit: self::case().permit };
        let forged_receipts = forged.receipts(&total, |r| r.agreement = case.world.agreement.hash());
        assert!(matches!(
            ReceiptEvidence::new(forged_receipts[0].envelope.clone(), &case.world.agreement),
            Err(ReleaseError::Signature(EnvelopeError::Signature { .. }))
        ));
        // Evidence that was made under other keys is no evidence here.
        let error = case.make(total, forged_receipts).unwrap_err();
        assert!(matches!(error, ReleaseError::Disagrees { field: "message key", .. }), "{error}");
    }

    #[test]
    fn consents_that_do_not_fit_make_no_release() {
        let case = case();
        let made = |edit: &dyn Fn(&mut Vec<Envelope>, &Total)| {
            let total = case.total(&[], &[]);
            let receipts = case.receipts(&total, |_| ());
            let mut consents = case.consents(&total, |_| ());
            edit(&mut consents, &total);
            case.make_with(total, receipts, consents)
        };
        // Four survivors, t = 3: one may be silent, two may not.
        assert!(made(&|c, _| drop(c.pop())).is_ok());
        assert!(matches!(made(&|c, _| c.truncate(2)), Err(ReleaseError::TooFewConsents { found: 2, threshold: 3 })));
        assert!(matches!(made(&|c, _| c[0] = c[1].clone()), Err(ReleaseError::Twice(n)) if n == name("b")));
        let other_set = |c: &mut Vec<Envelope>, total: &Total| {
            c[2] = case.consents(total, |set| drop(set.survivors.pop())).remove(2);
        };
        assert!(matches!(made(&other_set), Err(ReleaseError::Disagrees { field: "set of survivors", .. })));
        let other_round = |c: &mut Vec<Envelope>, total: &Total| {
            c[2] = case.consents(total, |set| set.context = Hash::of(b"other")).remove(2);
        };
        assert!(matches!(made(&other_round), Err(ReleaseError::Disagrees { field: "context", .. })));
        let in_anothers_name = |c: &mut Vec<Envelope>, total: &Total| {
            c[2] = case.consents(total, |set| set.from = name("d")).remove(2);
        };
        assert!(matches!(made(&in_anothers_name), Err(ReleaseError::Signature(_))));
        let total = case.total(&["b"], &[]);
        let receipts = case.receipts(&total, |_| ());
        let mut consents = case.consents(&total, |_| ());
        let set = SurvivorSet { context: total.context_hash(), from: name("b"), survivors: total.survivors().to_vec() };
        consents.push(case.sign(&set, &name("b")));
        let error = case.make_with(total, receipts, consents).unwrap_err();
        assert!(matches!(error, ReleaseError::NotASurvivor(n) if n == name("b")));
    }

    #[test]
    fn a_permit_for_another_task_makes_no_release() {
        let case = case();
        let other = case.world.task(|task| task.nonce = Hash::of(b"another asking"));
        let total = case.world.round(&other, case.permit.priced(), &[], &[]);
        let receipts = case.receipts(&total, |_| ());
        assert!(matches!(case.make(total, receipts), Err(ReleaseError::Different("task"))));
        let total = case.total(&[], &[]);
        let receipts = case.receipts(&total, |_| ());
        let amended = World::with(4, |agreement| {
            agreement.revision = 2;
            agreement.previous = Some(Hash::of(b"the first"));
        });
        let consents = case.consents(&total, |_| ());
        let error = Release::make(total, &case.permit, &amended.agreement, receipts, consents, start()).unwrap_err();
        assert!(matches!(error, ReleaseError::Different("agreement")));
    }

    /// Two groups, of which the second is one row short of the minimum of ten.
    #[test]
    fn groups_of_too_few_are_blanked() {
        let world = World::with(4, |agreement| agreement.datasets[0].minimum_cohort = 10);
        let priced = world.priced(&world.task(|_| ()));
        let rows = |count: i64| count * priced.lattice() as i64;
        let (cells, suppressed) = without_small_groups(&priced, &[rows(10), rows(10) - 1]).unwrap();
        assert_eq!((cells, suppressed), (vec![rows(10), 0], vec![1]));
        assert!(matches!(without_small_groups(&priced, &[1]), Err(ReleaseError::Cells { expected: 2, .. })));
    }

    /// With a minimum that no group reaches, nothing but zeros leaves, and no edit that shows more or hides less is believed.
    #[test]
    fn a_release_shows_nothing_of_groups_that_count_too_few() {
        let case = case_of(World::with(4, |agreement| agreement.datasets[0].minimum_cohort = 1_000_000));
        let total = case.total(&[], &[]);
        let counted = encode_cells(total.cells());
        let receipts = case.receipts(&total, |_| ());
        let release = case.make(total, receipts).unwrap();
        let good = release.document();
        assert_eq!((decode_cells(&good.cells).unwrap(), good.suppressed.as_slice()), (vec![0, 0], &[0, 1][..]));
        case.verify(good).unwrap();
        type Edit<'a> = &'a dyn Fn(&mut ReleaseDocument);
        let edits: [(&str, Edit<'_>); 5] = [
            ("shown though too few", &|d| d.cells.clone_from(&counted)),
            ("one cell left", &|d| d.cells = encode_cells(&[0, 1])),
            ("not listed", &|d| d.suppressed.clear()),
            ("one not listed", &|d| d.suppressed.truncate(1)),
            ("one listed that is not there", &|d| d.suppressed.push(2)),
        ];
        for (defect, edit) in edits {
            let mut bad = good.clone();
            edit(&mut bad);
            let error = case.verify(&bad).unwrap_err();
            assert!(matches!(error, ReleaseError::Different("list of suppressed groups")), "{defect}: {error}");
        }
        // Where every group is shown, none may be hidden.
        let case = self::case();
        let total = case.total(&[], &[]);
        let receipts = case.receipts(&total, |_| ());
        let mut hidden = case.make(total, receipts).unwrap().document().clone();
        assert!(hidden.suppressed.is_empty());
        hidden.suppressed.push(0);
        assert!(case.verify(&hidden).is_err());
    }

    #[test]
    fn each_edit_of_a_release_is_noticed_offline() {
        let case = case();
        let total = case.total(&[], &[]);
        let cells = total.cells().to_vec();
        let receipts = case.receipts(&total, |_| ());
        let other_receipt = case.receipt(&total, &name("a"), |receipt| receipt.context = Hash::of(b"x"));
        let other_consent = case.consents(&total, |set| drop(set.survivors.pop())).remove(0);
        let good = case.make(total, receipts).unwrap();
        case.verify(good.document()).unwrap();
        let variance: u128 = good.document().noise_variance.parse().unwrap();
        type Edit<'a> = &'a dyn Fn(&mut ReleaseDocument);
        let edits: [(&str, Edit<'_>); 16] = [
            ("other_agreement", &|d| d.agreement = Hash::of(b"x")),
            ("other_study", &|d| d.study = name("x")),
            ("other_task", &|d| d.task = Hash::of(b"x")),
            ("other_plan", &|d| d.plan = Hash::of(b"x")),
            ("cell_missing", &|d| d.cells = encode_cells(&cells[1..])),
            ("cells_unreadable", &|d| d.cells.push('?')),
            ("variance_understated", &|d| d.noise_variance = (variance - 1).to_string()),
            ("variance_overstated", &|d| d.noise_variance = (variance + 1).to_string()),
            ("variance_with_zeros", &|d| d.noise_variance.insert(0, '0')),
            ("survivor_removed_with_its_receipt", &|d| {
                d.survivors.pop();
                d.receipts.pop();
            }),
            ("below_the_threshold", &|d| {
                d.survivors.truncate(2);
                d.receipts.truncate(2);
            }),
            ("survivors_not_sorted", &|d| d.survivors.swap(0, 1)),
            ("receipt_missing", &|d| drop(d.receipts.pop())),
            ("receipt_of_another_round", &|d| d.receipts[0] = other_receipt.clone()),
            ("consents_missing", &|d| d.consents.truncate(2)),
            ("consent_to_another_set", &|d| d.consents[0] = other_consent.clone()),
        ];
        for (defect, edit) in edits {
            let mut bad = good.document().clone();
            edit(&mut bad);
            assert!(case.verify(&bad).is_err(), "{defect}");
        }
        let mut stuffed = good.document().clone();
        stuffed.receipts = vec![stuffed.receipts[0].clone(); 5];
        assert!(matches!(case.verify(&stuffed), Err(ReleaseError::Different("set of survivors"))));
    }
}
