//! From SQL to a small closed plan with a proven price. Runs nothing.
//!
//! People write SQL; what is signed, priced, logged and run is a [`Plan`](cohortium_messages::Plan): a handful of total
//! operators that a node can check one by one. This room is the way there and back:
//!
//! | function | who calls it | given → returns |
//! |---|---|---|
//! | [`plan`] | researcher, hub | SQL text → a plan, or by name what is not supported and what is instead |
//! | [`check`] | every node, and everyone who verifies | a plan from a stranger → [`Priced`]: bounds, sensitivity, noise and price derived anew |
//! | [`answer`] | researcher, auditor | the noised cells → the table that was asked for, with 95 % intervals |
//! | [`groups_below_minimum`] | whoever makes or checks a release | the noised cells → which groups count too few to be shown |
//! | [`expected_error`] | researcher | a priced plan → how wide those intervals will be, before anything is spent |
//! | [`rho_for_epsilon`] | researcher | ε at a δ → the zero-concentrated price that a plan carries |
//!
//! The idea of a closed query language whose sensitivity follows from its syntax is McSherry's (2009, "Privacy
//! integrated queries"); clamping and bounding of contributions per person follow Wilson et al. (2020,
//! "Differentially private SQL with bounded user contribution"); the bounds of expressions are interval arithmetic
//! (Moore 1966).
//!
//! **Does not:** read a row, add noise, decide whether a plan is allowed (that is `policy`), or charge an account.
//!
//! **Adversary.** The SQL text and the plan come from someone who wants more than was agreed; nothing in either can
//! panic, and nothing in the plan is believed that [`check`] can derive. The agreement is believed: custodians signed it.

mod answer;
mod ask;
mod check;
mod nearest;
mod parse;
mod range;
mod suppress;
mod typing;

pub use answer::{Answer, AnswerCell, AnswerError, ExpectedError, Per, answer, expected_error};
pub use ask::{Ask, AskError, rho_for_epsilon};
pub use check::{Facts, Layout, PlanError, Priced, check};
pub use parse::{MAX_SQL_BYTES, plan};
pub use suppress::groups_below_minimum;
pub use typing::Unsupported;
