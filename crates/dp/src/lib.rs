//! The mathematics of noise and of spending privacy.
//!
//! This room exists so that everything which decides "how much noise" and "how much is left" stands in one
//! place, is pure, and can be read by a stranger in an afternoon. Randomness and time are handed in, nothing
//! here opens a file, and nothing here depends on another room.
//!
//! It is also a library of its own: whoever counts, selects or trains under differential privacy can use it without the
//! rest of the house. Where to begin:
//!
//! | you want to | begin with | example (`cargo run -p cohortium-dp --example …`) |
//! |---|---|---|
//! | publish counts or sums | [`mechanism::Laplace`], [`mechanism::Gaussian`] | `histogram` |
//! | publish which keys exist | [`mechanism::KeySelection`] | `select_keys` |
//! | choose the best of many | [`mechanism::PermuteAndFlip`], [`mechanism::SparseVector`], [`mechanism::PrivateSelection`] | in [`mechanism`] |
//! | refine an answer until it will do | [`mechanism::Refinement`] | `refine` |
//! | add noise at many places, sum once | [`noise::NoisePlan`], [`mechanism::DistributedGaussian`] | `many_nodes` |
//! | know what a plan costs | [`accounting::composition`], [`accounting::pld`] | `plan_training` |
//! | know what noise a target needs | [`accounting::gaussian::sigma`], [`accounting::rdp::noise_for_schedule`] | `plan_training` |
//! | keep a budget that others spend | [`Account`] | `account` |
//!
//! # Modules, and how far each may be trusted
//!
//! *Proven*: follows from the named theorem by the argument written beside it. *Argued*: an argument is written down that
//! nobody outside has published or checked. *Experimental*: neither; nothing here is.
//!
//! | module | one line | standing |
//! |---|---|---|
//! | [`raw`] | a value computed from rows and not yet noised; nobody but this crate can look inside | by type |
//! | [`sampler`] | exact integers without floating point: discrete Gaussian and Laplace (Canonne, Kamath, Steinke 2020), Skellam, geometric | proven, up to 2^−300 |
//! | [`noise`] | each node's noise in seeded components, so that excess can be taken off later (Dordis, 2022) | argued |
//! | [`mechanism`] | sensitivity, noise, price and promise in one type each: vectors, keys, choices, sparse vector, clipping | proven; each says so |
//! | [`price`] | Rényi curve of a sum of discrete Gaussians (Kairouz, Liu, Steinke 2021), exact, rounded up | proven for equal variances, argued for unequal |
//! | [`account`] | the owner's book for one dataset: a filter over several Rényi orders (Feldman, Zrnic 2021), schedules, odometer | proven, argument in the module |
//! | [`accounting::gaussian`] | ε, δ and σ of the Gaussian mechanism (Balle, Wang 2018), Gaussian and concentrated privacy | proven, rounded outwards |
//! | [`accounting::rdp`] | Rényi curves at real orders, sampled Gaussians (Mironov, Talwar, Zhang 2019), private selection (Papernot, Steinke 2022) | proven for continuous noise |
//! | [`accounting::pld`] | privacy-loss distributions, Connect-the-Dots (Doroshenko et al. 2022), one transform for a whole composition | proven; the bound on rounding argued |
//! | [`accounting::pure`] | composition of bare (ε, δ) (Kairouz, Oh, Viswanath 2015) | proven |
//! | [`accounting::tradeoff`] | the errors of whoever guesses (Dong, Roth, Su 2019) | proven |
//! | [`interval`] | error bars from public noise variance (Fieller 1954 for ratios) | approximate, post-processing |
//!
//! Discrete mechanisms are not only argued about: `tests/enumeration` lists every outcome with its probability on
//! neighbouring inputs and compares with what is promised, and is shown to notice wrong mechanisms.
//!
//! The way of a query through this room: `price::plan_price` → `Account::reserve` → (rows are read into
//! `Raw`) → `noise::add_noise` → `Noised` → `Account::apply` of the spend entry → `Spent`.
//!
//! **Units.** Values and noise are integers in *lattice steps*: the fixed-point scale is the caller's affair.
//! Variances are in steps squared. Rényi divergence is in units of 1e-9 nats, δ in units of 1e-18.
//!
//! **Rounding.** Prices are rounded up, caps down, deterministically on every machine: two parties that
//! disagree about a price could not run a task. Reports and error bars use `f64`; so do the prices of subsampled and of
//! selected releases ([`accounting::rdp`]), which have no closed form: there every error is bounded and added.
//!
//! **What this room does not do.** It does not bound contributions (the sensitivity is an argument), does not
//! make anything durable, and does not run in constant time (the running time of a sampler depends on the noise,
//! never on the data). Privacy-loss distributions report and never admit: they are no valid filter for what is chosen
//! as one goes.
//!
//! **Adversary.** Up to `c` participants and the hub collude, know their own noise and choose who survives.
//! Prices, variances, lengths and survivor sets are public.

pub mod account;
pub mod accounting;
mod exact;
pub mod interval;
pub mod mechanism;
pub mod noise;
pub mod price;
pub mod raw;
pub mod sampler;

#[cfg(test)]
mod testing;

pub use account::{Account, AccountConfig, AccountEntry, Budget, EntryKind, Next, RunState, Spent};
pub use noise::{NoisePlan, NoiseSeeds, NoiseStream, Noised, RevealedSeed, add_noise, excess_noise};
pub use price::{AttoDelta, Curve, NanoNats, Price, gaussian_price, plan_price};
pub use raw::Raw;
pub use sampler::{Scale, Seed, Variance, gaussian_vector};
