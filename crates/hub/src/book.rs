//! The hub's log: heads go out to the witnesses, cosignatures come back, and what waited for them goes on.
//!
//! Witnesses are the members of every study that is complete. A task is shown to nodes, and a release to the researcher,
//! under a head that a quorum of the study's members has cosigned, as its agreement's log policy says.

use std::collections::BTreeSet;

use cohortium_ledger::{KeyKind, NoteSignature, SignedCheckpoint, VerifierKey};
use cohortium_messages::{Hash, InboxItem, Inclusion, Name, Phase, Reply, Timestamp};
use cohortium_store::{Batch, sequence_key};

use crate::hub::{Changes, Hub, HubError, No, damaged, in_own_words, inbox_key, json, no, own, own_error, refusal};
use crate::records::{CHECKPOINTS, COSIGNED, INBOX, INBOX_HEADS, TaskRecord, WITNESSED};
use crate::tasks::put_task;

/// How many heads may wait for a witness that does not ask for them; beyond that the newest takes the last one's place.
/// More than one, because members that are a little slow must cosign the *same* heads for a task to start: with only the
/// newest waiting, a busy log could show every member another one. (Beyond restarts: each may add as many.)
const MAX_UNSHOWN_HEADS: usize = 8;

impl Hub {
    /// Puts the newest head into the inbox of every witness that has not been shown it, and keeps it for their
    /// cosignatures. Doing so twice does nothing.
    pub(crate) fn queue_checkpoints(&mut self) -> Result<(), HubError> {
        let size = self.log.size();
        if size == 0 {
            return Ok(());
        }
        let (mut changes, mut appended) = (Changes::default(), Vec::new());
        for node in self.witnesses()? {
            let shown: u64 = self.record(WITNESSED, node.as_str()).map_err(|_| damaged())?.unwrap_or(0);
            if shown == size {
                continue;
            }
            changes.batch.put(WITNESSED, node.as_str(), json(&size)?);
            if let Some((key, old_size)) = self.replaceable_head(&node)? {
                changes.batch.put(INBOX, &key, json(&self.head_item(old_size)?)?);
                continue;
            }
            let last: Option<u64> = self.record(INBOX_HEADS, node.as_str()).map_err(|_| damaged())?;
            appended.push((node.clone(), last.unwrap_or(0) + 1));
            changes.inbox.push((node, self.head_item(shown)?));
        }
        if changes.batch.is_empty() {
            return Ok(());
        }
        let key = sequence_key(size);
        if self.store.get(CHECKPOINTS, &key).map_err(own_error)?.is_none() {
            changes.batch.put(CHECKPOINTS, &key, self.log.checkpoint().to_string().into_bytes());
        }
        self.commit(changes).map_err(in_own_words)?;
        for (node, number) in appended {
            self.unshown_heads.entry(node).or_default().push(number);
        }
        Ok(())
    }

    /// The item that asks a witness, which by then will have cosigned `old_size` entries, to cosign the newest head.
    fn head_item(&self, old_size: u64) -> Result<InboxItem, HubError> {
        let proof = self.log.consistency_proof(old_size, self.log.size()).map_err(own_error)?;
        let consistency = proof.into_iter().map(Hash::from_bytes).collect();
        let note = self.log.checkpoint().without_cosignatures().map_err(own_error)?.to_string();
        Ok(InboxItem::Checkpoint { consistency, note, old_size })
    }

    /// The last of a witness's unseen heads, and the size of the head before it, once so many wait that the newest may
    /// stand in its place. Only what was not shown may be replaced: a witness that was shown an item may have handled it
    /// already, and would never look at another under the same number.
    fn replaceable_head(&self, node: &Name) -> Result<Option<(String, u64)>, HubError> {
        let unshown = self.unshown_heads.get(node).map(Vec::as_slice).unwrap_or_default();
        let Some(last) = unshown.last().filter(|_| unshown.len() >= MAX_UNSHOWN_HEADS) else { return Ok(None) };
        let key = inbox_key(node, *last);
        match self.record::<InboxItem>(INBOX, &key).map_err(|_| damaged())? {
            Some(InboxItem::Checkpoint { old_size, .. }) => Ok(Some((key, old_size))),
            _ => Ok(None),
        }
    }

    /// Takes a witness's cosignatures on the head of `size` entries: a line for each of its keys.
    pub(crate) fn cosigned(
        &mut self,
        node: &Name,
        origin: &Name,
        lines: &[String],
        size: u64,
        now: Timestamp,
    ) -> Result<Reply, No> {
        if *origin != self.config.name {
            return no("unknown", format!("{origin} is not the log of this hub"));
        }
        let Some(note) = self.store.get(CHECKPOINTS, &sequence_key(size)).map_err(own)? else {
            return Ok(Reply::Accepted); // everyone had cosigned it, or a later one, before
        };
        let entry = self.organisation(node)?;
        let key = VerifierKey::new(node.as_str(), KeyKind::Witness, entry.witness_key.as_bytes()).map_err(own)?;
        let [line] = lines else { return no("malformed", String::from("a witness has one key here, so one line")) };
        let line = NoteSignature::parse(line).map_err(|error| refusal("malformed", error.to_string()))?;
        let keys = self.witness_keys(&self.witnesses()?)?;
        let head = SignedCheckpoint::open(&note, self.log.checkpoint().log_key()).map_err(own)?;
        if !key.claims(&line) {
            return no("signature", format!("the cosignature is not by {node}'s witness key"));
        }
        let head = head.with_cosignature(line, &keys).map_err(|error| refusal("signature", error.to_string()))?;
        let mut batch = Batch::new();
        batch.put(CHECKPOINTS, &sequence_key(size), head.to_string().into_bytes());
        if self.record::<u64>(COSIGNED, node.as_str())?.is_none_or(|before| before < size) {
            batch.put(COSIGNED, node.as_str(), json(&size)?);
        }
        self.store.commit(batch).map_err(own)?;
        if size == self.log.size() {
            self.log.set_cosigned(head.to_string().as_bytes(), &keys).map_err(own)?;
        }
        self.go_on_under(&head, now)?;
        if head.verify_quorum(&keys, keys.len()).is_ok() {
            self.forget_checkpoints_up_to(size)?;
        }
        Ok(Reply::Accepted)
    }

    /// Lets every task go on that waited for a head like this one, in the order of the log: the members' pairwise keys
    /// only move forward, so a later task shown first would use up the keys of an earlier one.
    fn go_on_under(&mut self, head: &SignedCheckpoint, now: Timestamp) -> Result<(), No> {
        let size = head.checkpoint().size();
        let mut waiting = Vec::new();
        for (task, record) in self.open_tasks()? {
            let waits_for = match (record.phase, record.released_at, &record.inclusion) {
                (Phase::Witnesses, ..) => record.position,
                (Phase::Ended, Some(index), None) => index,
                _ => continue,
            };
            if waits_for < size {
                waiting.push((waits_for, task, record));
            }
        }
        waiting.sort_by_key(|(waits_for, ..)| *waits_for);
        for (index, task, record) in waiting {
            let keys = self.witness_keys(&record.participants)?;
            if head.verify_quorum(&keys, self.quorum(&record)?).is_ok() {
                let path = self.log.inclusion_proof(index, size).map_err(own)?;
                let path = path.into_iter().map(Hash::from_bytes).collect();
                self.go_on(task, record, Inclusion { index, note: head.to_string(), path }, now)?;
            }
        }
        Ok(())
    }

    /// How many members must have cosigned: the quorum of the agreement's log policy. 2q > n + c, so two heads that `q`
    /// cosigned have an honest witness in common, who cosigns one history only.
    fn quorum(&self, record: &TaskRecord) -> Result<usize, No> {
        let terms = cohortium_policy::log_terms(&*self.agreement(&record.study)?).map_err(own)?;
        usize::try_from(terms.quorum).map_err(own)
    }

    fn go_on(&mut self, task: Hash, mut record: TaskRecord, inclusion: Inclusion, now: Timestamp) -> Result<(), No> {
        let mut changes = Changes::default();
        if record.phase == Phase::Witnesses {
            self.next_phase(&mut record, Phase::Permits, "waiting for the nodes' permits", now);
            for node in &record.participants {
                let item = InboxItem::Task {
                    entry: record.entry.clone(),
                    inclusion: inclusion.clone(),
                    task: record.task.clone(),
                };
                changes.inbox.push((node.clone(), item));
            }
        } else {
            record.inclusion = Some(inclusion);
            record.step += 1;
        }
        put_task(&mut changes.batch, task, &record)?;
        self.commit(changes)
    }

    /// The members of all complete studies.
    fn witnesses(&self) -> Result<BTreeSet<Name>, HubError> {
        let studies = self.complete_studies().map_err(|_| damaged())?;
        Ok(studies.iter().flat_map(|agreement| agreement.participants()).collect())
    }

    fn witness_keys<'a>(&self, nodes: impl IntoIterator<Item = &'a Name>) -> Result<Vec<VerifierKey>, No> {
        nodes
            .into_iter()
            .map(|name| {
                let entry = self.organisation(name)?;
                VerifierKey::new(name.as_str(), KeyKind::Witness, entry.witness_key.as_bytes()).map_err(own)
            })
            .collect()
    }

    fn forget_checkpoints_up_to(&mut self, size: u64) -> Result<(), No> {
        let mut batch = Batch::new();
        for (key, _) in self.store.scan(CHECKPOINTS, "", None, usize::MAX).map_err(own)? {
            if key <= sequence_key(size) {
                batch.delete(CHECKPOINTS, &key);
            }
        }
        self.store.commit(batch).map_err(own)
    }
}
