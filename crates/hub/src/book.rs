//! The hub's log: heads go out to the witnesses, cosignatures come back, and what waited for them goes on.
//!
//! Witnesses are the members of every study that has begun. A task is shown to nodes, and a release to the researcher,
//! under a head that a quorum of the study's members has cosigned, as its agreement's log policy says: each with one key
//! or with two. What a witness sent is checked when it comes and kept line by line; a note is put together for each
//! agreement, with the lines of its own parties.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_ledger::note::SIGNATURES_MAX;
use cohortium_ledger::{KeyKind, LogError, NoteSignature, SignedCheckpoint, VerifierKey};
use cohortium_messages::{Hash, InboxItem, Inclusion, Name, Phase, Reply, Timestamp};
use cohortium_store::{Batch, Store, sequence_key};

use crate::hub::{
    Changes, Hub, HubError, No, damaged, in_own_words, inbox_key, json, no, number_of, own, own_error, parse, refusal,
};
use crate::records::{CHECKPOINTS, COSIGNED, INBOX, INBOX_HEADS, LINES, TaskRecord, WITNESSED};
use crate::rounds::WAITING_FOR_PERMITS;
use crate::tasks::put_task;

/// How many heads may wait for a witness that does not ask for them; beyond that the newest takes the last one's place.
/// More than one, because members that are a little slow must cosign the *same* heads for a task to start: with only the
/// newest waiting, a busy log could show every member another one. (Beyond restarts: each may add as many.)
const MAX_UNSHOWN_HEADS: usize = 8;

/// How many heads are kept for cosignatures: the newest. While a member is away nobody's cosignatures complete a head, and
/// heads come as long as the log grows. Members that are there cosign within seconds, and the log has at most some tens of
/// heads in one.
const MAX_HEADS: usize = 256;
/// How many heads are forgotten in one commit, each with a line of every witness.
const MAX_FORGOTTEN_AT_ONCE: usize = 8;

/// How many signatures beside the log's own a note holds for all readers of ours (`cohortium_ledger`): 100 witnesses with two
/// keys each.
const MAX_LINES: usize = SIGNATURES_MAX - 1;

/// Who is asked to cosign the log.
pub(crate) struct Witnesses {
    all: BTreeSet<Name>,
    /// Whether some are no members of a study any more.
    some_left: bool,
}

/// The lines of each witness on one head.
type Lines = BTreeMap<Name, Vec<String>>;

/// A head, what was cosigned of it, and for which agreements that is enough.
pub(crate) struct Cosigned<'a> {
    bare: &'a SignedCheckpoint,
    /// By agreement: the head with its parties' lines, if its log policy is met.
    known: BTreeMap<Hash, Option<String>>,
    lines: &'a Lines,
}

impl Cosigned<'_> {
    /// How many entries the head covers.
    pub fn size(&self) -> u64 {
        self.bare.checkpoint().size()
    }
}

impl Hub {
    /// Puts the newest head into the inbox of every witness that has not been shown it, and keeps it for their
    /// cosignatures. Doing so twice does nothing.
    pub(crate) fn queue_checkpoints(&mut self) -> Result<(), HubError> {
        let size = self.log.published_size();
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
        if !self.heads.contains(&size) {
            let bare = self.log.checkpoint().without_cosignatures().map_err(own_error)?;
            changes.batch.put(CHECKPOINTS, &sequence_key(size), bare.to_string().into_bytes());
        }
        let older = self.heads.range(..size);
        let too_many = older.clone().count().saturating_sub(MAX_HEADS - 1).min(MAX_FORGOTTEN_AT_ONCE);
        let forgotten: Vec<u64> = older.take(too_many).copied().collect();
        for head in &forgotten {
            self.forget_head(&mut changes.batch, *head).map_err(in_own_words)?;
        }
        self.commit(changes).map_err(in_own_words)?;
        self.heads.insert(size);
        self.heads.retain(|head| !forgotten.contains(head));
        for (node, number) in appended {
            self.unshown_heads.entry(node).or_default().push(number);
        }
        Ok(())
    }

    /// The sizes of the heads that wait for cosignatures, as they are in the store.
    pub(crate) fn stored_heads(store: &dyn Store) -> Result<BTreeSet<u64>, HubError> {
        let records = store.scan(CHECKPOINTS, "", None, usize::MAX).map_err(own_error)?;
        records.iter().map(|(key, _)| number_of(key).ok_or_else(damaged)).collect()
    }

    /// The item that asks a witness, which by then will have cosigned `old_size` entries, to cosign the newest head.
    fn head_item(&self, old_size: u64) -> Result<InboxItem, HubError> {
        let proof = self.log.consistency_proof(old_size, self.log.published_size()).map_err(own_error)?;
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
    pub(crate) fn cosigned(&mut self, node: &Name, lines: &[String], size: u64, now: Timestamp) -> Result<Reply, No> {
        let witnesses = self.witnesses()?;
        let stored = self.store.get(CHECKPOINTS, &sequence_key(size)).map_err(own)?;
        let Some(note) = stored.filter(|_| witnesses.contains(node)) else {
            return Ok(Reply::Accepted); // everyone had cosigned it, or a later one, before; or nobody asks this one any more
        };
        let bare = SignedCheckpoint::open(&note, self.log.checkpoint().log_key()).map_err(own)?;
        let lines = self.demand_lines(node, &bare, lines)?;
        let mut batch = Batch::new();
        batch.put(LINES, &format!("{}/{node}", sequence_key(size)), json(&lines)?);
        if self.record::<u64>(COSIGNED, node.as_str())?.is_none_or(|before| before < size) {
            batch.put(COSIGNED, node.as_str(), json(&size)?);
        }
        self.store.commit(batch).map_err(own)?;
        let lines = self.lines(size)?;
        let mut cosigned = Cosigned { bare: &bare, known: BTreeMap::new(), lines: &lines };
        self.go_on_under(&mut cosigned, now)?;
        self.tell_under(&mut cosigned, node)?;
        self.has_new_lines |= size == self.log.published_size();
        if witnesses.iter().all(|witness| lines.contains_key(witness)) {
            self.forget_heads_up_to(size)?;
        }
        Ok(Reply::Accepted)
    }

    /// Puts the cosignatures on the published head beside the log, for whoever reads it there. Nobody's round waits for
    /// this: who needs evidence gets a note of its own. So a witness whose lines spoil the note is left out of it, and is no
    /// trouble of this hub's.
    pub(crate) fn publish_lines(&mut self) -> Result<(), HubError> {
        let (size, witnesses) = (self.log.published_size(), self.witnesses()?);
        let mut lines = self.lines(size).map_err(in_own_words)?;
        lines.retain(|name, _| witnesses.contains(name));
        if lines.is_empty() {
            return Ok(());
        }
        if self.publish_with(&lines)? {
            return Ok(());
        }
        let bare = self.log.checkpoint().without_cosignatures().map_err(own_error)?;
        let mut good = Lines::new();
        for (name, lines) in lines {
            let keys = self.witness_keys([&name]).map_err(in_own_words)?;
            let alone = with_lines(&bare, [(&name, &lines)].into_iter()).map_err(in_own_words)?;
            if alone.cosigned_by(&keys).is_ok() {
                good.insert(name, lines);
            }
        }
        if good.is_empty() { Ok(()) } else { self.publish_with(&good).map(drop) }
    }

    /// Puts these lines on the published head; gives whether they go together.
    fn publish_with(&mut self, lines: &Lines) -> Result<bool, HubError> {
        let bare = self.log.checkpoint().without_cosignatures().map_err(own_error)?;
        let keys = self.witness_keys(lines.keys()).map_err(in_own_words)?;
        let cosigned = with_lines(&bare, lines.iter()).map_err(in_own_words)?;
        match self.log.set_cosigned(cosigned.to_string().as_bytes(), &keys) {
            Ok(_) => Ok(true),
            Err(LogError::Checkpoint(_)) => Ok(false),
            Err(error) => Err(own_error(error)),
        }
    }

    /// A witness was shown a head from another size than it cosigned last: shows it the newest from there.
    pub(crate) fn stale(&mut self, node: &Name, size: u64) -> Result<Reply, No> {
        if size < self.log.published_size() && self.witnesses()?.contains(node) {
            let mut batch = Batch::new();
            batch.put(WITNESSED, node.as_str(), json(&size)?);
            self.store.commit(batch).map_err(own)?;
            self.queue_checkpoints()?;
        }
        Ok(Reply::Accepted)
    }

    /// The lines, if they are one by each of this witness's keys or one by its first, and verify.
    fn demand_lines(&self, node: &Name, head: &SignedCheckpoint, lines: &[String]) -> Result<Vec<String>, No> {
        let keys = self.witness_keys([node])?;
        let signature = |why: String| refusal("signature", why);
        if lines.is_empty() || lines.len() > keys.len() {
            return no("malformed", String::from("a witness has two keys here, so one line or two"));
        }
        for (line, key) in lines.iter().zip(&keys) {
            let line = NoteSignature::parse(line).map_err(|error| refusal("malformed", error.to_string()))?;
            if !key.claims(&line) {
                return Err(signature(format!("the cosignature is not by {node}'s witness key ({:?})", key.kind())));
            }
            key.verify(head.note().text(), &line).map_err(|error| signature(error.to_string()))?;
        }
        Ok(lines.to_vec())
    }

    /// The verified lines of each witness on the head of `size` entries.
    fn lines(&self, size: u64) -> Result<Lines, No> {
        let prefix = format!("{}/", sequence_key(size));
        let records = self.store.scan(LINES, &prefix, None, usize::MAX).map_err(own)?;
        let records = records.into_iter().map(|(key, lines)| {
            let node = Name::new(key.strip_prefix(&prefix).unwrap_or_default()).map_err(own)?;
            Ok((node, parse::<Vec<String>>(&lines)?))
        });
        records.collect()
    }

    /// Lets everything go on that waited for a head like this one, in the order of the log: the members' pairwise keys
    /// only move forward, so a later task shown first would use up the keys of an earlier one.
    fn go_on_under(&mut self, cosigned: &mut Cosigned<'_>, now: Timestamp) -> Result<(), No> {
        let size = cosigned.size();
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
            if let Some(note) = self.head_of(record.agreement, cosigned)? {
                let inclusion = self.inclusion(index, size, note)?;
                self.go_on(task, record, inclusion, now)?;
            }
        }
        Ok(())
    }

    /// The head as the parties of an agreement cosigned it, once that is enough for its log policy. 2q > n + c, so two heads
    /// that `q` cosigned have an honest witness in common, who cosigns one history only.
    pub(crate) fn head_of(&self, agreement: Hash, cosigned: &mut Cosigned<'_>) -> Result<Option<String>, No> {
        if let Some(note) = cosigned.known.get(&agreement) {
            return Ok(note.clone());
        }
        let terms = self.agreement_by_hash(agreement)?;
        let parties = terms.participants();
        let head = with_lines(cosigned.bare, cosigned.lines.iter().filter(|(name, _)| parties.contains(name)))?;
        let policy = cohortium_policy::agreed_log_policy(&terms).map_err(own)?;
        let note = policy.is_met(&head).is_ok().then(|| head.to_string());
        cosigned.known.insert(agreement, note.clone());
        Ok(note)
    }

    pub(crate) fn inclusion(&self, index: u64, size: u64, note: String) -> Result<Inclusion, No> {
        let path = self.log.inclusion_proof(index, size).map_err(own)?;
        Ok(Inclusion { index, note, path: path.into_iter().map(Hash::from_bytes).collect() })
    }

    fn go_on(&mut self, task: Hash, mut record: TaskRecord, inclusion: Inclusion, now: Timestamp) -> Result<(), No> {
        let mut changes = Changes::default();
        if record.phase == Phase::Witnesses {
            self.next_phase(&mut record, Phase::Permits, WAITING_FOR_PERMITS, now);
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

    /// The members of all studies that have begun, and of the tasks under way: who has left a study still vouches for the
    /// answers in which it has a part. The list is kept: a task is asked under an agreement in force, whose members are in
    /// it, so that it grows with agreements alone.
    fn witnesses(&self) -> Result<BTreeSet<Name>, HubError> {
        if let Some(known) = &self.checked.borrow().witnesses {
            return Ok(known.all.clone());
        }
        let members = self.in_force(|agreement| Some(agreement.participants())).map_err(in_own_words)?;
        let members: BTreeSet<Name> = members.into_iter().flatten().collect();
        let tasks = self.open_tasks().map_err(in_own_words)?;
        let of_tasks = tasks.into_iter().flat_map(|(_, record)| record.participants);
        let all: BTreeSet<Name> = members.iter().cloned().chain(of_tasks).collect();
        let some_left = all.len() > members.len();
        self.checked.borrow_mut().witnesses = Some(Witnesses { all: all.clone(), some_left });
        Ok(all)
    }

    /// Forgets the list of witnesses where some are in it for a task's sake alone, which may have ended.
    pub(crate) fn look_for_witnesses_that_left(&self) {
        let mut checked = self.checked.borrow_mut();
        checked.witnesses = checked.witnesses.take().filter(|known| !known.some_left);
    }

    /// The keys of these witnesses, for each first the one of Ed25519 and then the one of ML-DSA-44.
    fn witness_keys<'a>(&self, nodes: impl IntoIterator<Item = &'a Name>) -> Result<Vec<VerifierKey>, No> {
        let mut keys = Vec::new();
        for name in nodes {
            let (entry, name) = (self.organisation(name)?, name.as_str());
            keys.push(VerifierKey::new(name, KeyKind::Witness, entry.witness_key.as_bytes()).map_err(own)?);
            let second = entry.witness_ml_dsa_key.as_bytes();
            keys.push(VerifierKey::new(name, KeyKind::WitnessMlDsa44, second).map_err(own)?);
        }
        Ok(keys)
    }

    /// Forgets heads that nobody has to cosign any more, the oldest first and not all at once: how long a witness was away
    /// must not decide how much one call has to erase. The published head keeps its lines, which belong beside it.
    fn forget_heads_up_to(&mut self, size: u64) -> Result<(), No> {
        let mut batch = Batch::new();
        let newest = self.log.published_size();
        let done = self.heads.range(..=size).filter(|head| **head < newest).take(MAX_FORGOTTEN_AT_ONCE);
        let done: Vec<u64> = done.copied().collect();
        for head in &done {
            self.forget_head(&mut batch, *head)?;
        }
        if !batch.is_empty() {
            self.store.commit(batch).map_err(own)?;
        }
        self.heads.retain(|head| !done.contains(head));
        Ok(())
    }

    fn forget_head(&self, batch: &mut Batch, size: u64) -> Result<(), No> {
        let key = sequence_key(size);
        for (line, _) in self.store.scan(LINES, &format!("{key}/"), None, usize::MAX).map_err(own)? {
            batch.delete(LINES, &line);
        }
        batch.delete(CHECKPOINTS, &key);
        Ok(())
    }
}

/// The head with the lines of these witnesses, of each all or none: as many witnesses as a note has room for.
fn with_lines<'a>(
    bare: &SignedCheckpoint,
    lines: impl Iterator<Item = (&'a Name, &'a Vec<String>)>,
) -> Result<SignedCheckpoint, No> {
    let mut text = bare.to_string();
    let mut count = bare.note().signatures().len();
    for (_, lines) in lines {
        if count + lines.len() > MAX_LINES {
            break;
        }
        count += lines.len();
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    SignedCheckpoint::open(text.as_bytes(), bare.log_key()).map_err(own)
}
