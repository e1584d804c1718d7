//! Entries that are about no single round: alerts, freezes, steps of incidents, approvals, and what custodians take back.
//!
//! A member lays them before the hub; the hub logs each once and, when a quorum has cosigned a head with it, shows it to
//! the members of the study with the proof. Whether a revocation holds is not the hub's to say: the members verify the
//! custodian's signature themselves. The hub takes note of it, and starts nothing under what was taken back.
//!
//! Nobody but the hub knows the order of its log before it is there, so it keeps at hand what decides about a permit: what
//! people said about a task and a plan, where a study stands still, what was taken back. It logs no word that an auditor
//! must reject, whoever asks for it.
//!
//! **Adversary.** A member can make the log longer, and with it everyone's work. So the entries of one author in a day,
//! and those of one organisation, are bounded ([`crate::quotas`]). What stops a study (freezes, alerts that froze) is counted
//! apart, and a custodian's words for the custodian alone: no flood keeps these out, and none silences a house for longer
//! than the day.

use std::collections::BTreeMap;

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Hash, InboxItem, Name, Phase, Reply, RevocationSubject, Timestamp,
    Verified, canonical_bytes,
};
use cohortium_policy::{Authored, Revoked, Stop, may_still_say, open_entry};
use cohortium_store::{Batch, sequence_key};

use crate::book::Cosigned;
use crate::hub::{Changes, Hub, MAX_CLOCK_SKEW_S, No, json, no, number_of, own, parse, refusal};
use crate::records::{INBOX, INBOX_HEADS, LOGGED, PLANS, REVOCATIONS, STOPS, TaskRecord, UNTOLD, WORDS};

/// How many entries of one author the hub logs in a day.
const MAX_A_DAY: u32 = 1000;
/// How many of all the people of one organisation and its node.
const MAX_A_DAY_OF_ALL: u32 = 3000;
/// The longest document beside such an entry, in bytes.
const MAX_BODY_BYTES: usize = 256 << 10;
/// How many words people may have said about one task at one organisation: two for each whom an agreement can name.
const MAX_APPROVALS: usize = 200;
/// In how many tasks with the same plan the hub looks for people who approved it, the newest first: each word is a signature
/// to check. A hub that looks less far than an auditor ends more tasks, and logs nothing that is wrong.
const MAX_TASKS_OF_A_PLAN: usize = 100;
/// After how many words about a plan it looks at no further task.
const MAX_WORDS_OF_A_PLAN: usize = 1000;
/// How many entries are shown in one commit, and about how many bytes that may be in all inboxes together, unless the first
/// alone is more: with a note of 100 witnesses and the longest body one item has some hundred kilobytes, for each member.
const MAX_TOLD_AT_ONCE: usize = 32;
const MAX_TOLD_BYTES: usize = 8 << 20;
/// To a member with so many items unfetched no more of these entries are shown, but for what it must hear whatever others
/// make the log hold ([`asks_no_room`]): it finds them in the log.
const MAX_BACKLOG: u64 = 5000;

impl Hub {
    /// Logs an entry that a member lays before this hub.
    pub(crate) fn log_entry(
        &mut self,
        from: &Name,
        envelope: &Envelope,
        body: Option<&Envelope>,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let claims = envelope.peek::<Entry>().map_err(|error| refusal("malformed", error.to_string()))?;
        let agreement = self.agreement_by_hash(claims.claims().agreement)?;
        let authored = open_alone(envelope, &agreement)?;
        let entry = authored.entry();
        let speaker = match &entry.author {
            Author::Custodian(name) | Author::Node(name) | Author::Person { organisation: name, .. } => Some(name),
            Author::Hub(_) | Author::Researcher(_) => None,
        };
        if speaker != Some(from) {
            return no("denied", format!("{from} cannot speak for others"));
        }
        demand_not_ahead(entry.time, now)?;
        let key = logged_key(&agreement, envelope)?;
        if self.store.get(LOGGED, &key).map_err(own)?.is_some() {
            return Ok(Reply::Accepted);
        }
        let mut changes = Changes { entries: vec![envelope.clone()], ..Changes::default() };
        changes.bodies.extend(demand_body(entry.fact.body(), body)?);
        self.demand_fits(&agreement, &authored)?;
        let is_revocation = matches!(entry.fact, Fact::Revocation { .. });
        self.demand_room(&mut changes.batch, from, [&**entry], now)?;
        let index = self.log.size();
        changes.batch.put(LOGGED, &key, json(&index)?);
        will_tell(&mut changes.batch, agreement.hash(), index);
        self.keep_at_hand(&mut changes.batch, &agreement, (&authored, envelope), index)?;
        if let Fact::Revocation { subject, .. } = &entry.fact {
            self.drop_proposals(&mut changes.batch, &agreement, subject)?;
        }
        self.commit(changes)?;
        if is_revocation {
            self.checked.borrow_mut().revoked.remove(&agreement.hash());
            self.end_overtaken(now)?;
        }
        Ok(Reply::Accepted)
    }

    /// Keeps what decides about later permits, as of its place in the log.
    fn keep_at_hand(
        &self,
        batch: &mut Batch,
        agreement: &Verified<Agreement>,
        (authored, envelope): (&Authored, &Envelope),
        index: u64,
    ) -> Result<(), No> {
        match (&authored.entry().fact, &authored.entry().author) {
            (Fact::Approval { plan, task, .. }, Author::Person { organisation, .. }) => {
                let key = words_key(*task, organisation) + &sequence_key(index);
                batch.put(WORDS, &key, json(envelope)?);
                if agreement.approval.automatic.approved_plans {
                    let place = sequence_key(u64::MAX - self.task(*task)?.position);
                    batch.put(PLANS, &(plans_key(agreement.hash(), *plan, organisation) + &place), json(task)?);
                }
            }
            (Fact::Revocation { .. }, _) => {
                batch.put(REVOCATIONS, &format!("{}/{}", agreement.hash(), sequence_key(index)), json(envelope)?);
            }
            _ => match authored.stop(&self.revoked(agreement)?) {
                Some(Stop::Begins(at)) => {
                    batch.put(STOPS, &stop_key(&agreement.study, at), json(&index)?);
                }
                Some(Stop::Ends(at)) => {
                    batch.delete(STOPS, &stop_key(&agreement.study, at));
                }
                Some(Stop::EndsInVain(_)) | None => {}
            },
        }
        Ok(())
    }

    /// Whether a study stands still at an organisation, as far as the log goes.
    pub(crate) fn stands_still(&self, study: &Name, organisation: &Name) -> Result<bool, No> {
        Ok(self.store.get(STOPS, &stop_key(study, organisation)).map_err(own)?.is_some())
    }

    /// What people of an organisation said about a task, in the order of the log.
    pub(crate) fn said_about_task(
        &self,
        agreement: &Verified<Agreement>,
        organisation: &Name,
        task: Hash,
    ) -> Result<Vec<Authored>, No> {
        let words = self.store.scan(WORDS, &words_key(task, organisation), None, usize::MAX).map_err(own)?;
        words.iter().map(|(_, word)| open_entry(&parse(word)?, agreement).map_err(own)).collect()
    }

    /// What they said about a plan, in whatever task under this agreement, where that counts again.
    pub(crate) fn said_about_plan(
        &self,
        agreement: &Verified<Agreement>,
        organisation: &Name,
        plan: Hash,
    ) -> Result<Vec<Authored>, No> {
        let tasks = plans_key(agreement.hash(), plan, organisation);
        let tasks = self.store.scan(PLANS, &tasks, None, MAX_TASKS_OF_A_PLAN).map_err(own)?;
        let mut said = Vec::new();
        for (_, task) in tasks {
            said.extend(self.said_about_task(agreement, organisation, parse(&task)?)?);
            // Between two tasks only: the words of one count together.
            if said.len() >= MAX_WORDS_OF_A_PLAN {
                break;
            }
        }
        Ok(said)
    }

    /// Demands that the entry is of a kind that is logged this way, and about something that is known here.
    fn demand_fits(&self, agreement: &Verified<Agreement>, authored: &Authored) -> Result<(), No> {
        let entry = authored.entry();
        match &entry.fact {
            Fact::Freeze { .. } | Fact::Incident { .. } | Fact::Alert { task: None, .. } => Ok(()),
            Fact::Alert { task: Some(task), .. } => match self.task(*task)?.study == agreement.study {
                true => Ok(()),
                false => no("denied", String::from("the task is of another study")),
            },
            Fact::Approval { plan, task, .. } => {
                let record = self.task(*task)?;
                if record.agreement != agreement.hash() || record.plan()? != *plan {
                    return no("denied", String::from("the task is under another agreement, or has another plan"));
                }
                if record.phase == Phase::Ended {
                    return no("denied", format!("the task has ended ({}): nobody is asked about it", record.state));
                }
                match &entry.author {
                    Author::Person { organisation, .. } => {
                        demand_may_say(&self.said_about_task(agreement, organisation, *task)?, authored)
                    }
                    _ => no("malformed", String::from("only people approve")),
                }
            }
            Fact::Revocation { subject: RevocationSubject::Key(key), .. } if !names(agreement, key) => {
                no("unknown", String::from("the agreement names no researcher or person with this key"))
            }
            Fact::Revocation { subject, .. } => {
                // They were opened when they came, and are not again: that is a signature to check for each.
                for known in self.revocation_entries(agreement.hash())? {
                    let known = known.peek::<Entry>().map_err(own)?;
                    let known = known.claims();
                    let is_same = matches!(&known.fact, Fact::Revocation { subject: s, .. } if s == subject);
                    if is_same && known.author == entry.author {
                        return no("conflict", String::from("this custodian has taken this back before"));
                    }
                }
                Ok(())
            }
            fact => no("malformed", format!("an entry of kind {} does not come alone", fact.kind())),
        }
    }

    /// Counts entries that come together for their authors and for the organisation, or refuses them. What stops a study,
    /// and a custodian's word, have room of their own: what others bring a node to say must not keep these out.
    fn demand_room<'a>(
        &self,
        batch: &mut Batch,
        from: &Name,
        entries: impl IntoIterator<Item = &'a Entry>,
        now: Timestamp,
    ) -> Result<(), No> {
        let mut counts: BTreeMap<(String, u32), u32> = BTreeMap::new();
        for entry in entries {
            let kind = match &entry.fact {
                Fact::Alert { froze: true, .. } | Fact::Freeze { .. } => "stops",
                _ => "entries",
            };
            let author = match &entry.author {
                Author::Person { person, .. } => format!("{kind} by person {person} of {from}"),
                Author::Custodian(_) => format!("{kind} by custodian of {from}"),
                _ => format!("{kind} by node of {from}"),
            };
            *counts.entry((author, MAX_A_DAY)).or_default() += 1;
            if !matches!(entry.author, Author::Custodian(_)) {
                *counts.entry((format!("{kind} of {from}"), MAX_A_DAY_OF_ALL)).or_default() += 1;
            }
        }
        counts.into_iter().try_for_each(|((what, a_day), more)| self.count_more(batch, &what, more, a_day, now))
    }

    /// What people of an organisation said about a task, each with their one signature.
    fn people_said(
        &self,
        agreement: &Verified<Agreement>,
        organisation: &Name,
        (task, plan): (Hash, Hash),
        envelopes: &[Envelope],
    ) -> Result<Vec<Authored>, No> {
        if envelopes.len() > MAX_APPROVALS {
            return no("limit", format!("at most {MAX_APPROVALS} approvals come with one answer"));
        }
        let mut said = Vec::new();
        for (position, envelope) in envelopes.iter().enumerate() {
            let authored = open_alone(envelope, agreement)?;
            let entry = authored.entry();
            let is_theirs = matches!(&entry.author, Author::Person { organisation: o, .. } if o == organisation);
            let is_about_it =
                matches!(&entry.fact, Fact::Approval { plan: p, task: t, .. } if (*t, *p) == (task, plan));
            if !is_theirs || !is_about_it || envelopes.iter().take(position).any(|earlier| earlier == envelope) {
                return no(
                    "malformed",
                    format!("not every approval is by a person of {organisation}, once, about this task"),
                );
            }
            said.push(authored);
        }
        Ok(said)
    }

    /// Logs what people of an organisation said about a task that has not ended, as far as the log does not hold it yet: it
    /// comes with the answer of their node, and stands before it. Each counts as if it had come alone.
    pub(crate) fn log_approvals(
        &mut self,
        (task, record): (Hash, &TaskRecord),
        organisation: &Name,
        approvals: &[Envelope],
        now: Timestamp,
    ) -> Result<(), No> {
        if approvals.is_empty() {
            return Ok(());
        }
        let agreement = self.agreement_by_hash(record.agreement)?;
        let said = self.people_said(&agreement, organisation, (task, record.plan()?), approvals)?;
        let mut before = self.said_about_task(&agreement, organisation, task)?;
        let known = before.len();
        let mut changes = Changes::default();
        for (authored, envelope) in said.into_iter().zip(approvals) {
            let key = logged_key(&agreement, envelope)?;
            if self.store.get(LOGGED, &key).map_err(own)?.is_some() {
                continue;
            }
            demand_may_say(&before, &authored)?;
            let index = self.log.size() + changes.entries.len() as u64;
            changes.batch.put(LOGGED, &key, json(&index)?);
            self.keep_at_hand(&mut changes.batch, &agreement, (&authored, envelope), index)?;
            changes.entries.push(envelope.clone());
            before.push(authored);
        }
        if changes.entries.is_empty() {
            return Ok(());
        }
        let new = before.iter().skip(known).map(|authored| &**authored.entry());
        self.demand_room(&mut changes.batch, organisation, new, now)?;
        self.commit(changes)
    }

    /// What custodians took back of an agreement, as far as it was laid before this hub, in the order of the log.
    pub(crate) fn revocation_entries(&self, agreement: Hash) -> Result<Vec<Envelope>, No> {
        let records = self.store.scan(REVOCATIONS, &format!("{agreement}/"), None, usize::MAX).map_err(own)?;
        records.iter().map(|(_, bytes)| parse(bytes)).collect()
    }

    fn revocations(&self, agreement: &Verified<Agreement>) -> Result<Vec<Authored>, No> {
        let envelopes = self.revocation_entries(agreement.hash())?;
        envelopes.iter().map(|envelope| open_entry(envelope, agreement).map_err(own)).collect()
    }

    /// The same, as policies ask it.
    pub(crate) fn revoked(&self, agreement: &Verified<Agreement>) -> Result<Revoked, No> {
        if let Some(revoked) = self.checked.borrow().revoked.get(&agreement.hash()) {
            return Ok(revoked.clone());
        }
        let revoked = Revoked::from_entries(&self.revocations(agreement)?);
        self.checked.borrow_mut().revoked.insert(agreement.hash(), revoked.clone());
        Ok(revoked)
    }

    /// Shows to the members of their studies what stands in the log under a head of `size` entries that a quorum cosigned,
    /// a bounded number of entries in one commit. Only under agreements of `witness`: what it has just cosigned changes
    /// nothing for the others.
    pub(crate) fn tell_under(&mut self, cosigned: &mut Cosigned<'_>, witness: &Name) -> Result<(), No> {
        let mut after: Option<String> = None;
        while let Some((key, _)) = self.store.scan(UNTOLD, "", after.as_deref(), 1).map_err(own)?.pop() {
            let (agreement, _) = key.split_once('/').ok_or_else(|| own("an entry to be told of has no agreement"))?;
            let agreement: Hash = agreement.parse().map_err(own)?;
            if self.agreement_by_hash(agreement)?.party(witness).is_some()
                && let Some(note) = self.head_of(agreement, cosigned)?
            {
                while self.tell_some(agreement, cosigned.size(), &note)? {}
            }
            after = Some(format!("{agreement}/~")); // which comes after every number
        }
        Ok(())
    }

    /// Shows some of what stands under an agreement and a head that is good for it; gives whether there may be more.
    fn tell_some(&mut self, agreement: Hash, size: u64, note: &str) -> Result<bool, No> {
        let untold = self.store.scan(UNTOLD, &format!("{agreement}/"), None, MAX_TOLD_AT_ONCE).map_err(own)?;
        let mut may_be_more = untold.len() == MAX_TOLD_AT_ONCE;
        let members = self.agreement_by_hash(agreement)?.participants();
        let mut has_room = Vec::new();
        for node in &members {
            has_room.push(self.backlog(node)? < MAX_BACKLOG);
        }
        let (mut changes, mut bytes) = (Changes::default(), 0usize);
        for (key, _) in untold {
            let index = number_of(&key).ok_or_else(|| own("an entry that is to be told of has no number"))?;
            if index >= size {
                break;
            }
            let entry = self.log.entry(index).map_err(own)?;
            let mut length = note.len() + entry.len();
            let entry: Envelope = parse(&entry)?;
            let claims = entry.peek::<Entry>().map_err(own)?.claims().clone();
            let body = match claims.fact.body() {
                Some(hash) => self.log.body(hash.as_bytes()).map_err(own)?,
                None => None,
            };
            length += body.as_ref().map_or(0, Vec::len);
            bytes = bytes.saturating_add(length.saturating_mul(members.len()));
            if bytes > MAX_TOLD_BYTES && !changes.batch.is_empty() {
                may_be_more = true;
                break;
            }
            let body: Option<Envelope> = body.map(|bytes| parse(&bytes)).transpose()?;
            let inclusion = self.inclusion(index, size, note.to_owned())?;
            changes.batch.delete(UNTOLD, &key);
            for (node, has_room) in members.iter().zip(&has_room) {
                if *has_room || asks_no_room(&claims, node) {
                    let item =
                        InboxItem::Logged { body: body.clone(), entry: entry.clone(), inclusion: inclusion.clone() };
                    changes.inbox.push((node.clone(), item));
                }
            }
        }
        if changes.batch.is_empty() {
            return Ok(false);
        }
        self.commit(changes)?;
        Ok(may_be_more)
    }

    /// About how many items wait for a node.
    fn backlog(&self, node: &Name) -> Result<u64, No> {
        let first = self.store.scan(INBOX, &format!("{node}/"), None, 1).map_err(own)?.pop();
        let Some(first) = first.and_then(|(key, _)| number_of(&key)) else { return Ok(0) };
        Ok(self.record::<u64>(INBOX_HEADS, node.as_str())?.unwrap_or(0).saturating_sub(first))
    }
}

/// Opens an entry with the key that the agreement states for its author, whose signature stands alone.
pub(crate) fn open_alone(envelope: &Envelope, agreement: &Verified<Agreement>) -> Result<Authored, No> {
    if envelope.signature_count() != 1 {
        return no("malformed", format!("{} signatures stand where one must", envelope.signature_count()));
    }
    open_entry(envelope, agreement).map_err(|error| refusal("signature", error.to_string()))
}

/// Demands that an entry is not of a time to come. Where a clock is a little ahead the same bytes are taken later; where it is
/// far ahead the refusal is final, because all that the node has to say after it would wait as long.
fn demand_not_ahead(time: Timestamp, now: Timestamp) -> Result<(), No> {
    match time.seconds().saturating_sub(now.seconds()) {
        ..=MAX_CLOCK_SKEW_S => Ok(()),
        ahead if ahead <= 2 * MAX_CLOCK_SKEW_S => {
            no("clock", format!("the entry is of {time}, and here it is {now}: set your clock"))
        }
        _ => no("denied", format!("signed with a wrong clock ({time}, and here it is {now}): say it again")),
    }
}

/// Whether a member is shown this however much waits for it: what was taken back, what stops a study, and what its own house
/// said, which it takes for withheld otherwise. How much of it there can be in a day is bounded where it is logged.
fn asks_no_room(entry: &Entry, member: &Name) -> bool {
    let is_own = match &entry.author {
        Author::Custodian(name) | Author::Node(name) | Author::Person { organisation: name, .. } => name == member,
        Author::Hub(_) | Author::Researcher(_) => false,
    };
    let must_be_heard = matches!(
        entry.fact,
        Fact::Revocation { .. } | Fact::Freeze { frozen: true, .. } | Fact::Alert { froze: true, .. }
    );
    is_own || must_be_heard
}

/// Notes that the members of an agreement are to be shown the entry with this index.
pub(crate) fn will_tell(batch: &mut Batch, agreement: Hash, index: u64) {
    batch.put(UNTOLD, &format!("{agreement}/{}", sequence_key(index)), Vec::new());
}

/// The document that an entry names, in its bytes; nothing where it names none.
fn demand_body(named: Option<Hash>, body: Option<&Envelope>) -> Result<Option<Vec<u8>>, No> {
    let bytes = body.map(canonical_bytes).transpose().map_err(own)?;
    if bytes.as_ref().is_some_and(|bytes| bytes.len() > MAX_BODY_BYTES) {
        return no("limit", format!("the document beside the entry has more than {MAX_BODY_BYTES} bytes"));
    }
    if bytes.as_ref().map(|bytes| Hash::of(bytes)) != named {
        return no("malformed", String::from("the document beside the entry is not the one that the entry names"));
    }
    Ok(bytes)
}

/// Whether a researcher or a person of an agreement has this key.
pub(crate) fn names(agreement: &Agreement, key: &cohortium_messages::PublicKey) -> bool {
    let people = agreement.parties.iter().flat_map(|party| &party.people).map(|person| &person.key);
    agreement.researchers.iter().map(|terms| &terms.entry.key).chain(people).any(|known| known == key)
}

fn demand_may_say(before: &[Authored], word: &Authored) -> Result<(), No> {
    may_still_say(before, word).map_err(|error| refusal("conflict", format!("this {error}")))
}

/// Where a study's rest at an organisation is kept.
fn stop_key(study: &Name, organisation: &Name) -> String {
    format!("{study}/{organisation}")
}

/// What the keys begin with under which an organisation's words about a task are kept.
fn words_key(task: Hash, organisation: &Name) -> String {
    format!("{task}/{organisation}/")
}

/// What the keys begin with under which the tasks are kept in which an organisation spoke about a plan.
fn plans_key(agreement: Hash, plan: Hash, organisation: &Name) -> String {
    format!("{agreement}/{plan}/{organisation}/")
}

fn logged_key(agreement: &Verified<Agreement>, envelope: &Envelope) -> Result<String, No> {
    Ok(format!("{}/{}", agreement.hash(), Hash::of(&canonical_bytes(envelope).map_err(own)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member was away while others filled the log. When it came back it was shown the oldest of it, as much as it had room
    /// for, and the rest to nobody: not the stop that it had said last, not even to itself.
    #[test]
    fn repro_a_full_inbox_keeps_no_stop_from_anybody() {
        let name = |text: &str| Name::new(text).unwrap();
        let (a, b, why) = (name("a"), name("b"), || String::from("we look at it"));
        let freeze = |frozen| Fact::Freeze { frozen, why: why() };
        let alert = |froze| Fact::Alert { froze, rule: String::from("burst"), task: None, why: why() };
        let revocation = Fact::Revocation { subject: RevocationSubject::Agreement, why: why() };
        let person = Author::Person { organisation: a.clone(), person: name("paula") };
        let cases = [
            (Author::Custodian(a.clone()), revocation, true),
            (person.clone(), freeze(true), true),
            (person, freeze(false), false),
            (Author::Node(a.clone()), alert(true), true),
            (Author::Node(a.clone()), alert(false), false),
        ];
        for (author, fact, for_others) in cases {
            let (agreement, time) = (Hash::of(b"agreement"), Timestamp::from_seconds(0));
            let entry = Entry { agreement, author, fact, study: name("study"), time };
            assert_eq!((asks_no_room(&entry, &a), asks_no_room(&entry, &b)), (true, for_others), "{entry:?}");
        }
    }
}
