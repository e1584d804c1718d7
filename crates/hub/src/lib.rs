//! The house that holds none.
//!
//! The hub introduces members, carries their messages, keeps the log and adds up masked vectors. It holds no key that
//! opens data, masks or shares, has no query engine (`cargo tree -p cohortium-hub` shows none), and whatever it says
//! is checked by those it says it to. A hub that lies can delay an answer; it cannot make a node run, read or reveal
//! what the custodians did not sign, nor show two histories without being caught.
//!
//! | file | what it holds |
//! |---|---|
//! | `hub` | the state, signed requests in, signed answers out, the inboxes |
//! | `book` | the log: entries in, checkpoints out to the witnesses, cosignatures collected |
//! | `members`, `studies` | who is here; agreements and their signatures |
//! | `entries`, `relay` | what members lay before the log beside their rounds; what they say of one another's logs |
//! | `tasks`, `rounds` | a task from its submission to its release, step by step |
//! | `alerts` | what is remarkable about a task among those before it |
//! | `access`, `nonces`, `quotas` | who called for what, for the house; what must not come twice, or too often |
//! | `live`, `uploads` | the state of rounds under way, in memory; masked vectors on their way in |
//! | [`home`] | a hub's folder: keys, certificates, invitations |
//! | [`service`] | the HTTPS server |
//!
//! Everything but [`home`] and [`service`] is synchronous; time and randomness are handed in and the store is behind a
//! trait, so that a simulated world can run a hub, and a malicious one.

mod access;
mod alerts;
mod book;
mod entries;
pub mod home;
mod hub;
mod live;
mod members;
mod nonces;
mod quotas;
mod records;
mod relay;
mod rounds;
pub mod service;
mod studies;
mod tasks;
mod uploads;

pub use access::Access;
pub use hub::{Hub, HubConfig, HubError};
