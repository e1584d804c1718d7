//! Members witness one another's logs, and the hub carries what they say.
//!
//! It checks sizes, limits and who signed a head, and nothing else: whether a head extends the one before is the members'
//! to find out, and a head that does not must reach them, because it is their evidence. So a head is kept from a member
//! only where that member has cosigned this very head.
//!
//! **Adversary.** A member can send heads as often as it likes: in the inbox of another only the newest of them waits
//! until it is shown. What it says about another's head is passed on once for each head that it was shown.

use std::collections::BTreeSet;

use cohortium_ledger::{KeyKind, SignedCheckpoint, VerifierKey};
use cohortium_messages::{Hash, InboxItem, Name, Reply};
use cohortium_store::Batch;
use serde::{Deserialize, Serialize};

use crate::hub::{Changes, Hub, No, inbox_key, json, no, own, refusal};
use crate::records::{INBOX, INBOX_HEADS, PEERS};

/// The longest head of a member's log, in bytes: a name, two numbers, a root, one signature.
const MAX_NOTE_BYTES: usize = 1024;
/// The longest proof that one tree extends another: a log has fewer than 2^64 entries.
const MAX_PATH: usize = 64;
/// The longest line of a cosignature, in bytes: ML-DSA-44 in base64, and a name.
const MAX_LINE_BYTES: usize = 4096;
/// How many heads a member may have been shown and not answered; beyond that, no answer to the oldest is passed on.
const MAX_UNANSWERED: usize = 8;

/// What a member was shown of another's log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    /// The hash of the last head that it cosigned, as the hub heard it.
    cosigned: Option<Hash>,
    /// Size and hash of the heads that it has not answered, in the order in which they were shown.
    shown: Vec<(u64, Hash)>,
}

impl Hub {
    /// The head of a member's own log: for the other members of its studies.
    pub(crate) fn witness(
        &mut self,
        from: &Name,
        note: &str,
        old_size: u64,
        consistency: &[Hash],
    ) -> Result<Reply, No> {
        if note.len() > MAX_NOTE_BYTES || consistency.len() > MAX_PATH {
            return no("limit", String::from("a head has one signature, and a proof of consistency at most 64 hashes"));
        }
        let malformed = |why: String| refusal("malformed", why);
        let key = VerifierKey::new(from.as_str(), KeyKind::Log, self.organisation(from)?.log_key.as_bytes());
        let head = SignedCheckpoint::open(note.as_bytes(), &key.map_err(own)?);
        let head = head.map_err(|error| malformed(error.to_string()))?;
        let size = head.checkpoint().size();
        if head.note().signatures().len() != 1 || old_size > size {
            return Err(malformed(String::from("a head comes with its log's signature alone, and from no later size")));
        }
        let item = InboxItem::PeerCheckpoint { consistency: consistency.to_vec(), note: note.to_owned(), old_size };
        for peer in self.peers_of(from)? {
            self.show_head(from, &peer, (size, Hash::of(note.as_bytes())), &item)?;
        }
        Ok(Reply::Accepted)
    }

    /// The other members of an organisation's studies.
    fn peers_of(&self, member: &Name) -> Result<BTreeSet<Name>, No> {
        let theirs = self.in_force(|agreement| agreement.party(member).map(|_| agreement.participants()))?;
        Ok(theirs.into_iter().flatten().filter(|peer| peer != member).collect())
    }

    /// Puts a head into a peer's inbox, in the place of the last one of this log if that was not shown yet. What was shown
    /// stays: the peer may have handled it, and would never look at another under the same number.
    fn show_head(&mut self, origin: &Name, peer: &Name, head: (u64, Hash), item: &InboxItem) -> Result<(), No> {
        let key = format!("{origin}/{peer}");
        let mut known: Peer = self.record(PEERS, &key)?.unwrap_or_default();
        if known.cosigned == Some(head.1) {
            return Ok(());
        }
        let unshown = self.unshown_peers.get(&(peer.clone(), origin.clone())).copied();
        let mut changes = Changes::default();
        let number = match unshown {
            Some(number) => {
                known.shown.pop();
                changes.batch.put(INBOX, &inbox_key(peer, number), json(item)?);
                number
            }
            None => {
                changes.inbox.push((peer.clone(), item.clone()));
                self.record::<u64>(INBOX_HEADS, peer.as_str())?.unwrap_or(0) + 1
            }
        };
        known.shown.push(head);
        if known.shown.len() > MAX_UNANSWERED {
            known.shown.remove(0);
        }
        changes.batch.put(PEERS, &key, json(&known)?);
        self.commit(changes)?;
        self.unshown_peers.insert((peer.clone(), origin.clone()), number);
        Ok(())
    }

    /// A member's lines on a head of another's log, or (without any) the size from which it must be shown: passed on, once
    /// for each head that it was shown.
    pub(crate) fn answer_head(&mut self, peer: &Name, origin: &Name, lines: &[String], size: u64) -> Result<Reply, No> {
        if lines.len() > 2 || lines.iter().any(|line| line.len() > MAX_LINE_BYTES || line.contains('\n')) {
            return no("malformed", String::from("a witness has two keys, and a line for each"));
        }
        let key = format!("{origin}/{peer}");
        let mut known: Peer = self.record(PEERS, &key)?.unwrap_or_default();
        let answered = match lines {
            [] => (!known.shown.is_empty()).then_some(0),
            _ => known.shown.iter().position(|(shown, _)| *shown == size),
        };
        let Some(answered) = answered else {
            return Ok(Reply::Accepted); // it said so before, or was never asked
        };
        let head = known.shown.drain(..=answered).next_back();
        if !lines.is_empty() {
            known.cosigned = head.map(|(_, hash)| hash);
        }
        let mut changes = Changes { batch: Batch::new(), ..Changes::default() };
        changes.batch.put(PEERS, &key, json(&known)?);
        let item = InboxItem::PeerCosigned { from: peer.clone(), lines: lines.to_vec(), size };
        changes.inbox.push((origin.clone(), item));
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }
}
