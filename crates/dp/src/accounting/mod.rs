//! Reports: how much privacy a composition of mechanisms costs, as tightly as is known.
//!
//! The account *enforces* in exact integers ([`crate::price`], [`crate::account`]); this part *reports* and plans in
//! `f64`, for people: ε at a δ, δ at an ε, whole trade-off curves, and the noise that a target needs. It may be
//! tighter than the account, because it sees a composition that is fixed in advance.
//!
//! Does not: admit or refuse anything. Of the numbers from here only those that come as a [`crate::Price`] may be charged
//! ([`rdp`] has three functions that return one), and so decide whether rows are read; the others never do.

pub mod composition;
pub mod gaussian;
pub mod pld;
pub mod pure;
pub mod rdp;
mod sampled;
mod special;
pub mod tradeoff;

use core::fmt;

/// Which data sets count as neighbours. A type, so that curves of different promises cannot be composed: libraries
/// disagree here, and σ = 1 at δ = 1e-5 is ε = 4.38 under one relation and 9.997 under the other.
pub trait Adjacency: Copy + fmt::Debug + Send + Sync + 'static {
    /// The relation as a value, for messages and files.
    const RELATION: Relation;
}

/// Neighbours differ by one person being there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddRemove;

/// Neighbours differ by one person being another; both have the same number of persons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replace;

impl Adjacency for AddRemove {
    const RELATION: Relation = Relation::AddOrRemoveOne;
}

impl Adjacency for Replace {
    const RELATION: Relation = Relation::ReplaceOne;
}

/// The neighbouring relation as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Relation {
    /// See [`AddRemove`].
    AddOrRemoveOne,
    /// See [`Replace`].
    ReplaceOne,
}
