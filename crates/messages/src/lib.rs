//! What the parties say to one another, byte for byte.
//!
//! Every byte that leaves one house for another is made here (the transparency log's standard formats excepted: those
//! live in `ledger`). Control messages are RFC 8785 canonical JSON; what is signed travels in a DSSE envelope
//! (Dead Simple Signing Envelope v1.0.2); long vectors are raw little-endian beside a signed hash.
//!
//! A value of a type in this crate is a *parsed* value: names, numbers, times, keys and hashes went through their
//! constructors, also when they came over the wire. Whether a document is *signed by the right key* is a separate
//! fact and a separate type: [`Verified`] can only be obtained from [`Envelope::open`] or [`Envelope::open_all`].
//!
//! What this crate does not do: it decides nothing (that is `policy`), prices nothing (`query`, `dp`), sends nothing.

mod agreement;
mod call;
mod canonical;
mod column;
mod decimal;
mod entry;
mod envelope;
mod hash;
mod incident;
mod keys;
mod name;
mod offer;
mod plain;
mod plan;
mod purpose;
mod release;
mod ring;
mod roster;
mod round;
mod secret_file;
mod task;
mod terms;
mod threshold;
mod time;

pub use agreement::{AGREEMENT_VERSION, Agreement, AgreementError, Party, ResearcherTerms};
pub use call::{
    Call, Directory, InboxItem, Inclusion, MAX_LISTED_SQL_CHARS, MAX_TASKS_LISTED, Phase, Principal, PrincipalKind,
    Progress, Refused, Reply, Request, Response, RoundStep, StudyRecord, TaskState, TaskStatus, TaskSummary,
};
pub use canonical::{CanonicalError, canonical_bytes};
pub use column::{Column, ColumnError, ColumnRole, ColumnType, Schema, Sensitivity, Value};
pub use decimal::{Decimal, DecimalError};
pub use entry::{Author, ENTRY_KINDS, Entry, Fact, IncidentStep, RevocationSubject};
pub use envelope::{Document, Envelope, EnvelopeError, Unverified, Verified};
pub use hash::{Hash, HashError};
pub use incident::{IncidentRecord, Notification};
pub use keys::{KemPublicKey, KemSecretKey, KeyError, MlDsaPublicKey, PublicKey, SigningKey};
pub use name::{Name, NameError};
pub use offer::Offer;
pub use plain::{ascii_json, hides, plain, plain_lines};
pub use plan::{
    Arithmetic, Bounding, Comparison, Measure, Order, Output, OutputColumn, PLAN_VERSION, Plan, PlanShapeError,
    Predicate, Scalar,
};
pub use purpose::{Condition, Modifier, Purpose};
pub use release::{RELEASE_VERSION, ReleaseDocument, decode_cells, encode_cells};
pub use ring::{MAX_ELEMENTS, Ring, noise_margin};
pub use roster::{HubEntry, Invitation, PersonEntry, ResearcherEntry, Role, RosterEntry, Staff};
pub use round::{
    ExcessSeed, MaskedHeader, PairwiseCiphertext, RING_BITS, Receipt, Reveal, RevealedShare, RoundContext, RoundShares,
    SealedShare, SurvivorSet,
};
pub use secret_file::{OrganisationSecrets, PersonSecrets, ResearcherSecrets};
pub use task::Task;
pub use terms::{
    Analysis, AnalysisTerms, ApprovalClass, ApprovalTerms, AttackThresholds, AutomaticApproval, Budgets, DatasetTerms,
    Ownership, PhaseKind, ProjectPhase, RiskAcceptance, SecureSumTerms,
};
pub use threshold::{ReleaseMode, ThresholdError, check_thresholds};
pub use time::{TimeError, Timestamp};

/// The version of the protocol that every message carries. A peer that speaks another one is refused.
pub const PROTOCOL_VERSION: u32 = 3;

/// The most organisations a study may have: what the secure sum is specified and argued for.
pub const MAX_ORGANISATIONS: usize = 100;

/// The most cells one answer may have, over all groups and measures. A longer vector is refused when planned.
pub const MAX_CELLS: usize = 1 << 20;
