//! One world in a box: all parties of a federation in one process, with one clock, one seed and every fault on demand.
//!
//! What the rooms below promise separately (an order of durable steps, evidence for what leaves, noise of a stated
//! width, a log that nobody rewrites) must hold when they stand together and something breaks. So this world runs the
//! real [`cohortium_hub::Hub`] and real [`cohortium_node::Node`]s, over the real engine and real files of rows, and
//! replaces only what is outside them: disks are in memory and can fail at a chosen commit, the network is a function
//! call that can lose or change what it carries, time is a number, and every random bit comes from one seed. The same
//! seed is the same world, to the byte. The idea is that of deterministic simulation testing (Zhou et al. 2021,
//! "FoundationDB: A Distributed Unbundled Transactional Key Value Store", section 4).
//!
//! | file | what it holds |
//! |---|---|
//! | `world` | the federation: built, driven, restarted, copied |
//! | `ask` | the researcher: plans, signs, submits, verifies what comes back |
//! | `machine`, `hub_house` | one organisation's house, and the hub's |
//! | `disk`, `folder` | what survives a crash |
//! | `wire` | everything the hub is given, and the hands of whoever sits on the network |
//! | `rows` | the real reader of rows, and what was durable whenever it read |
//! | `malice` | what a hub that cheats can make out of its own log |
//! | `keys`, `people` | keys and patients, all from the seed |
//!
//! **Does not:** run sockets, TLS, long polls or the services' loops (the command line's tests do); simulate slow
//! disks or torn files (the ledger's and the store's own tests do). A crash here falls between commits of a store.
//!
//! **Adversary.** The tests play it, with the hub's keys or a member's keys where the story says so.

mod ask;
mod disk;
mod folder;
mod hub_house;
pub mod keys;
mod machine;
mod malice;
pub mod people;
mod rows;
mod wire;
mod world;

pub use ask::{Answered, Asked, Unanswered};
pub use disk::Disk;
pub use folder::Folder;
pub use hub_house::HubHouse;
pub use machine::Machine;
pub use rows::{RowsRead, WatchedRows};
pub use wire::{Fate, Report, Seen, ToHub, ToNode, Wire};
pub use world::{Config, DATASET, Hospital, RESEARCHER, STUDY, SimError, World};
