//! Masked vectors on their way in: pieces of bytes that nobody signed, for a hash that a member did sign.
//!
//! A member announces its vector in a signed call and is told a ticket: an address that follows from a secret of this hub
//! and is told to nobody else. Pieces are put there, one after the other, and are durable one by one, so that an upload
//! that broke off goes on where it was, also when the hub was started again meanwhile. Nothing of a vector is kept in
//! memory between two pieces, and nobody can make the hub store more than what members announced in rounds under way,
//! each in the length that its plan dictates.
//!
//! **Adversary.** Who does not know the ticket can put nothing anywhere, though it may know the hash, which becomes public
//! with the release. A member that sends other bytes than it announced loses them when they are complete, and may send
//! again, but not for ever: it delays its own vector only.

use cohortium_messages::{Envelope, Hash, MaskedHeader, Name, Phase, Reply, SigningKey, Timestamp};

use crate::hub::{Changes, Hub, HubError, No, json, no, open, own, refusal};
use crate::records::{Announced, Kind, TaskRecord, UPLOADS, Upload, VECTORS, message_key, piece_key};
use crate::tasks::put_task;

/// In how many pieces a vector may come, but for the last: 100 members' vectors are erased in one batch, which may have
/// 70,000 operations.
const MAX_PIECES: u64 = 256;

/// How often bytes may come that are not those that were announced. Something on the line may have spoilt them once or
/// twice; after that it is the member's own doing, or a line that will not do.
const MAX_SPOILT: u32 = 3;

/// Of how many tickets the hub remembers whose they are: a vector comes in up to [`MAX_PIECES`] pieces.
const MAX_TICKETS: usize = 1000;

/// The key from which tickets follow.
pub(crate) fn ticket_key(message_key: &SigningKey) -> Hash {
    Hash::of_parts("cohortium/vector-ticket-key/v1", &[&*message_key.expose_seed()])
}

impl Hub {
    /// Takes a piece of an announced vector. When all vectors are complete, everyone is asked to sign who is in the sum.
    ///
    /// # Errors
    /// A [`cohortium_messages::Refused`] in the signed answer; [`HubError`] when the hub's own store fails.
    pub fn receive_vector(
        &mut self,
        ticket: Hash,
        offset: u64,
        piece: &[u8],
        now: Timestamp,
    ) -> Result<Envelope, HubError> {
        self.unless_failed(|hub| {
            hub.wake(now)?;
            match hub.take_piece(ticket, offset, piece, now) {
                Ok(have) => hub.sign(ticket, Ok(Reply::Vector { have, ticket })),
                Err(No::Refused(refused)) => hub.sign(ticket, Err(refused)),
                Err(No::Own(error)) => Err(error),
            }
        })
    }

    /// Where a member puts the bytes of a vector that it announced: the nested form of HMAC (Bellare, Canetti, Krawczyk
    /// 1996), over parts of stated length.
    pub(crate) fn ticket(&self, task: Hash, node: &Name, announced: &Announced) -> Hash {
        let key = self.ticket_key.as_bytes();
        let parts: [&[u8]; 4] = [key, task.as_bytes(), node.as_str().as_bytes(), announced.sha256.as_bytes()];
        Hash::of_parts("cohortium/vector-ticket/v1", &[key, Hash::of_parts("inner", &parts).as_bytes()])
    }

    /// How many bytes of an announced vector are here.
    pub(crate) fn uploaded(&self, task: Hash, node: &Name, record: &TaskRecord) -> Result<u64, No> {
        match record.announced.get(node) {
            Some(announced) if record.arrived.contains(node) => Ok(announced.bytes),
            _ => Ok(self.upload(task, node)?.have),
        }
    }

    fn upload(&self, task: Hash, node: &Name) -> Result<Upload, No> {
        Ok(self.record(UPLOADS, &upload_key(task, node))?.unwrap_or_default())
    }

    /// A vector that has arrived, or as much of it as has.
    pub(crate) fn vector(&self, task: Hash, node: &Name) -> Result<Vec<u8>, No> {
        let (prefix, mut after, mut bytes) = (piece_key(task, node, None), None, Vec::new());
        // Piece by piece: a vector is in memory once, and one piece of it twice.
        while let Some((key, piece)) = self.store.scan(VECTORS, &prefix, after.as_deref(), 1).map_err(own)?.pop() {
            bytes.extend_from_slice(&piece);
            after = Some(key);
        }
        Ok(bytes)
    }

    /// Erases the masked vectors of a round that is over.
    pub(crate) fn drop_vectors(&self, changes: &mut Changes, task: Hash, record: &TaskRecord) -> Result<(), No> {
        for node in record.announced.keys() {
            self.drop_vector(changes, task, node, self.uploaded(task, node, record)?)?;
        }
        Ok(())
    }

    /// Erases the pieces of a vector of which so many bytes are here.
    fn drop_vector(&self, changes: &mut Changes, task: Hash, node: &Name, have: u64) -> Result<(), No> {
        let (prefix, mut after) = (piece_key(task, node, None), None);
        if have > 0 {
            while let Some((key, _)) = self.store.scan(VECTORS, &prefix, after.as_deref(), 1).map_err(own)?.pop() {
                changes.batch.delete(VECTORS, &key);
                after = Some(key);
            }
        }
        changes.batch.delete(UPLOADS, &upload_key(task, node));
        Ok(())
    }

    fn take_piece(&mut self, ticket: Hash, offset: u64, piece: &[u8], now: Timestamp) -> Result<u64, No> {
        let (task, node, mut record) = self.find_upload(ticket)?;
        let announced = *record.announced.get(&node).ok_or_else(|| own("an upload without an announcement"))?;
        let have = self.uploaded(task, &node, &record)?;
        if have == announced.bytes {
            return Ok(have);
        }
        let Upload { spoilt, .. } = self.upload(task, &node)?;
        if spoilt >= MAX_SPOILT {
            return no("malformed", format!("{spoilt} times other bytes came than were announced; no more are taken"));
        }
        let length = piece.len() as u64;
        let end = offset.saturating_add(length);
        if offset != have || end > announced.bytes {
            return no("conflict", format!("{have} bytes of this vector are here; go on from there"));
        }
        let at_least = announced.bytes.div_ceil(MAX_PIECES);
        if length < at_least && end != announced.bytes {
            return no(
                "malformed",
                format!("a piece of this vector has at least {at_least} bytes, unless it is the last"),
            );
        }
        let mut changes = Changes::default();
        if end < announced.bytes {
            changes.batch.put(VECTORS, &piece_key(task, &node, Some(offset)), piece.to_vec());
            changes.batch.put(UPLOADS, &upload_key(task, &node), json(&Upload { have: end, spoilt })?);
            self.commit(changes)?;
            return Ok(end);
        }
        if !self.is_as_announced(task, &node, &announced, piece)? {
            self.drop_vector(&mut changes, task, &node, have)?;
            changes.batch.put(UPLOADS, &upload_key(task, &node), json(&Upload { have: 0, spoilt: spoilt + 1 })?);
            self.commit(changes)?;
            return no("conflict", String::from("the bytes are not those that were announced; send them again"));
        }
        changes.batch.put(VECTORS, &piece_key(task, &node, Some(offset)), piece.to_vec());
        changes.batch.delete(UPLOADS, &upload_key(task, &node));
        record.arrived.insert(node.clone());
        put_task(&mut changes.batch, task, &record)?;
        self.arrived(task, &node, &announced, changes)?;
        self.ask_for_signatures(task, now)?;
        Ok(end)
    }

    /// Whether the pieces that are here, and then this last one, are what was announced.
    fn is_as_announced(&self, task: Hash, node: &Name, announced: &Announced, last: &[u8]) -> Result<bool, No> {
        if last.len() as u64 == announced.bytes {
            return Ok(Hash::of(last) == announced.sha256);
        }
        let mut bytes = self.vector(task, node)?;
        bytes.extend_from_slice(last);
        Ok(Hash::of(&bytes) == announced.sha256)
    }

    /// Lets the protocol know of a vector, and makes it durable.
    fn arrived(&mut self, task: Hash, node: &Name, announced: &Announced, changes: Changes) -> Result<(), No> {
        let key = self.organisation(node)?.message_key;
        let message: Option<(Envelope, Envelope, Envelope)> = self.message(task, Kind::Vector, node)?;
        let (header, ..) =
            message.ok_or_else(|| own(format!("{} is missing", message_key(task, Kind::Vector, node.as_str()))))?;
        let header = open::<MaskedHeader>(&header, &key)?;
        self.in_round(task, |hub, round| {
            hub.accept(round, |coordinator| {
                coordinator.accept_masked_stored(&header, announced.bytes, announced.sha256)
            })?;
            hub.commit(changes)?;
            round.is_durable();
            Ok(())
        })
    }

    /// Whose ticket this is, in rounds that wait for vectors. Hashes of tickets are compared, not tickets: how long it
    /// takes to find that two differ says nothing about either. Where a ticket was found once it is looked for first.
    fn find_upload(&mut self, ticket: Hash) -> Result<(Hash, Name, TaskRecord), No> {
        let wanted = Hash::of(ticket.as_bytes());
        if let Some(task) = self.tickets.get(&wanted)
            && let Ok(record) = self.task(*task)
            && let Some(node) = self.whose(wanted, *task, &record)
        {
            return Ok((*task, node, record));
        }
        for (task, record) in self.open_tasks()? {
            if let Some(node) = self.whose(wanted, task, &record) {
                if self.tickets.len() >= MAX_TICKETS {
                    self.tickets.clear(); // they are found again
                }
                self.tickets.insert(wanted, task);
                return Ok((task, node, record));
            }
        }
        Err(refusal("unknown", "nobody was told to put a vector here, or its round is over"))
    }

    /// Who was told the ticket with this hash, in a task that waits for vectors.
    fn whose(&self, wanted: Hash, task: Hash, record: &TaskRecord) -> Option<Name> {
        let is_wanted =
            |(node, announced): &(&Name, &Announced)| Hash::of(self.ticket(task, node, announced).as_bytes()) == wanted;
        let announced = record.announced.iter().filter(|_| record.phase == Phase::Vectors);
        announced.into_iter().find(is_wanted).map(|(node, _)| node.clone())
    }
}

fn upload_key(task: Hash, node: &Name) -> String {
    format!("{task}/{node}")
}
