//! The house that holds data.
//!
//! A node stands next to an organisation's rows and decides alone what happens to them. It calls out to the hub for
//! its inbox and believes nothing it finds there: every item is checked against the agreement that the organisation's
//! own custodian signed, the price is derived again from the plan, the policy is evaluated again, and the proof that
//! the task stands in the witnessed log is checked before anything else.
//!
//! | file | what it holds |
//! |---|---|
//! | [`outgoing`] | the closed list of what may leave, and the evidence each kind demands |
//! | `node` | the state, and the one door through which it changes: `Changes`, committed at once |
//! | `agreements`, `witness`, `tasks`, `rounds` | what the node does with each item of its inbox |
//! | `desk` | what people of this house say: approvals, freezes, revocations, incidents |
//! | `standing` | what of that holds: whether a study stands still, what was taken back |
//! | `alerts` | what the house's rules notice, and how people are told |
//! | `withheld` | what was laid before the hub and does not appear in its log |
//! | `people` | who acts for this house, as they say of themselves |
//! | [`rows`] | the one place where rows are read |
//! | [`home`], [`view`] | a node's folder: keys, configuration, datasets; and looking into it |
//! | [`service`] | sockets and clocks: carries items in and the journal out |
//!
//! Everything but [`home`] and [`service`] is synchronous; time and randomness are handed in, and the store is behind a
//! trait, so that a simulated world can run nodes, crash them at every durable step, and look.
//!
//! Order around durability, for one query (each line is one commit):
//!
//! 1. `reserve` + permit + round secrets + journal. A crash before: nothing happened. After: the price is set aside.
//!    Where people are asked first: the round's secrets alone, then what each person said, then as above.
//! 2. `reading`. From here on the price is never given back. Only after this commit are rows read.
//! 3. `spend` + the exact masked bytes + journal. Only after this commit does a byte leave; a retry sends these bytes.
//!    Where a person must look first, they are held back instead, and one more commit lets them into the journal.
//! 4. the signature on the survivor set + journal. It is the only one this round will ever have.
//! 5. reveal, receipt, price entry + journal; the round's secrets are erased in the same commit.

mod agreements;
mod alerts;
mod desk;
pub mod home;
mod node;
pub mod outgoing;
mod people;
mod records;
mod rounds;
pub mod rows;
pub mod service;
mod standing;
mod tasks;
pub mod view;
mod withheld;
mod witness;

pub use node::{Node, NodeConfig, NodeError};
pub use outgoing::Outgoing;
pub use people::TakenIn;
pub use records::{
    AccessRecord, DatasetRecord, DeskItem, Evidence, Heard, HeldRecord, JournalRecord, RunRecord, RunState,
};
pub use standing::Stopped;
