//! Who called this hub for what, and what came of it: a help for the house, and no promise to anyone.
//!
//! Kept are the newest [`MAX_KNOWN`] calls of each member, whose signature was checked, and apart from them the newest
//! [`MAX_STRANGE`] of callers who are not who they say, so that nobody can push another's out. A poll that finds
//! nothing new is not a record. Records are written once a second with the look at the deadlines: a crash may lose the
//! last of them, and what matters stands in the log anyway.
//!
//! Does not: hold addresses, questions or answers; record pieces of vectors, which nobody signs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cohortium_messages::{Call, Name, Principal, PrincipalKind, RoundStep, Timestamp};
use cohortium_store::{Batch, Store, StoreError, Table, sequence_key};
use serde::{Deserialize, Serialize};

use crate::hub::{Hub, HubError, json, own_error};

/// The records, the newest first: by list, and number backwards.
const ACCESS: Table = Table::new("access");
/// The number of the last record of each list.
const ACCESS_HEADS: Table = Table::new("access_heads");
/// How many records of one known caller are kept.
const MAX_KNOWN: u64 = 5000;
/// How many of all others.
const MAX_STRANGE: u64 = 10_000;
/// How many records may wait in memory to be written.
const MAX_UNWRITTEN: usize = 256;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// When, by the hub's clock.
    pub at: Timestamp,
    /// For what, in one word.
    pub call: String,
    /// Whether the caller's signature was checked. If not, `who` is what somebody said.
    pub known: bool,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// The study or task that it was about, where it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Who.
    pub who: Principal,
}

impl Hub {
    /// The newest calls, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn access(&self, last: usize) -> Result<Vec<Access>, HubError> {
        let mut all: Vec<Access> = self.accesses.iter().rev().cloned().collect();
        all.extend(read(&*self.store, last)?);
        all.truncate(last);
        Ok(all)
    }

    pub(crate) fn note_access(&mut self, access: Access) -> Result<(), HubError> {
        self.accesses.push(access);
        if self.accesses.len() < MAX_UNWRITTEN { Ok(()) } else { self.write_accesses() }
    }

    pub(crate) fn write_accesses(&mut self) -> Result<(), HubError> {
        if self.accesses.is_empty() {
            return Ok(());
        }
        let (mut batch, mut heads) = (Batch::new(), BTreeMap::new());
        for access in &self.accesses {
            let (list, limit) = access.list();
            let head = match heads.get(&list) {
                Some(head) => *head,
                None => {
                    let head = self.store.get(ACCESS_HEADS, &list).map_err(own_error)?;
                    head.map(|head| serde_json::from_slice::<u64>(&head)).transpose().map_err(own_error)?.unwrap_or(0)
                }
            };
            let number = head + 1;
            batch.put(ACCESS, &access_key(&list, number), json(access)?);
            if let Some(old) = number.checked_sub(limit) {
                batch.delete(ACCESS, &access_key(&list, old));
            }
            heads.insert(list, number);
        }
        for (list, head) in heads {
            batch.put(ACCESS_HEADS, &list, json(&head)?);
        }
        self.store.commit(batch).map_err(own_error)?;
        self.accesses.clear();
        Ok(())
    }
}

/// The newest calls in a hub's store, the newest first.
pub(crate) fn read(store: &dyn Store, last: usize) -> Result<Vec<Access>, HubError> {
    let mut all: Vec<Access> = Vec::new();
    let lists: Result<_, StoreError> = store.scan(ACCESS_HEADS, "", None, usize::MAX);
    for (list, _) in lists.map_err(own_error)? {
        for (_, bytes) in store.scan(ACCESS, &format!("{list}/"), None, last).map_err(own_error)? {
            all.push(serde_json::from_slice(&bytes).map_err(own_error)?);
        }
        // Of one second, the order within a list is kept.
        all.sort_by_key(|access| Reverse(access.at));
        all.truncate(last);
    }
    Ok(all)
}

impl Access {
    /// The list in which it is kept, and how many that holds.
    fn list(&self) -> (String, u64) {
        match (self.known, self.who.kind) {
            (false, _) => (String::from("strange"), MAX_STRANGE),
            (true, PrincipalKind::Organisation) => (format!("of/organisation/{}", self.who.name), MAX_KNOWN),
            (true, PrincipalKind::Researcher) => (format!("of/researcher/{}", self.who.name), MAX_KNOWN),
        }
    }
}

/// The order of the keys is the order of time backwards, so that the newest come first.
fn access_key(list: &str, number: u64) -> String {
    format!("{list}/{}", sequence_key(u64::MAX - number))
}

/// What a call is for, in one word, and what it is about.
pub(crate) fn words(call: &Call) -> (&'static str, Option<String>) {
    let named = |name: &Name| Some(name.to_string());
    match call {
        Call::Directory { .. } => ("directory", None),
        Call::Inbox { .. } => ("inbox", None),
        Call::Join { .. } => ("join", None),
        Call::Log { .. } => ("log", None),
        Call::Offer { .. } => ("offer", None),
        Call::Pairwise { .. } => ("pairwise", None),
        Call::Post { step } => step_words(step),
        Call::Released { study, .. } => ("released", named(study)),
        Call::Sign { .. } => ("sign", None),
        Call::Staff { .. } => ("staff", None),
        Call::Status { task, .. } => ("status", Some(task.to_string())),
        Call::Studies { .. } => ("studies", None),
        Call::Submit { .. } => ("submit", None),
        Call::Tasks { .. } => ("tasks", None),
        Call::Witness { .. } => ("witness", None),
    }
}

fn step_words(step: &RoundStep) -> (&'static str, Option<String>) {
    match step {
        RoundStep::AwaitingApproval { task } => ("awaiting-approval", Some(task.to_string())),
        RoundStep::Cosigned { origin, .. } => ("cosigned", Some(origin.to_string())),
        RoundStep::Masked { .. } => ("masked", None),
        RoundStep::Permitted { .. } => ("permitted", None),
        RoundStep::Refused { .. } => ("refused", None),
        RoundStep::Revealed { .. } => ("revealed", None),
        RoundStep::Settled { .. } => ("settled", None),
        RoundStep::Stale { origin, .. } => ("stale", Some(origin.to_string())),
        RoundStep::Survivors { .. } => ("survivors", None),
    }
}
