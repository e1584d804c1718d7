//! What makes a request good for once: the nonces of recent requests, each caller's apart.
//!
//! A request states its time, and one that is older than the clocks may differ is refused anyway; so a nonce is forgotten
//! when its request could not come again.
//!
//! **Adversary.** Whoever was invited can make calls as fast as it likes. It fills its own room and nobody else's: for it,
//! and for nobody else, the next call must wait until a nonce is forgotten.

use std::collections::{HashMap, HashSet, VecDeque};

use cohortium_messages::{Hash, Principal, Timestamp};

/// How many recent requests of one caller are remembered: at the ten minutes for which a nonce is kept, sixteen calls a
/// second all the time, and about a megabyte.
pub(crate) const MAX_OF_ONE: usize = 10_000;

/// What becomes of a nonce.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was not used before, and is now.
    Fresh,
    /// The caller's room is full.
    Full,
    /// It was used before.
    Used,
}

/// The nonces of recent requests.
#[derive(Default)]
pub(crate) struct Nonces {
    of: HashMap<Principal, OfOne>,
}

/// Those of one caller, and when each may be forgotten, the oldest first.
#[derive(Default)]
struct OfOne {
    known: HashSet<Hash>,
    until: VecDeque<(Timestamp, Hash)>,
}

impl Nonces {
    /// Takes a nonce, to be kept until then. They stand in the order in which they came; where a clock was put back, those
    /// before that moment keep the others a little longer.
    pub fn take(&mut self, from: &Principal, nonce: Hash, until: Timestamp) -> Taken {
        let own = self.of.entry(from.clone()).or_default();
        if own.known.contains(&nonce) {
            return Taken::Used;
        }
        if own.until.len() >= MAX_OF_ONE {
            return Taken::Full;
        }
        own.known.insert(nonce);
        own.until.push_back((until, nonce));
        Taken::Fresh
    }

    /// Lets a nonce be used again that was taken last by this caller, or nearly so.
    pub fn forget(&mut self, from: &Principal, nonce: &Hash) {
        let Some(own) = self.of.get_mut(from) else { return };
        if own.known.remove(nonce)
            && let Some(place) = own.until.iter().rposition(|(_, known)| known == nonce)
        {
            own.until.remove(place);
        }
    }

    /// Forgets what could not come again.
    pub fn forget_before(&mut self, now: Timestamp) {
        for own in self.of.values_mut() {
            while let Some((_, nonce)) = own.until.pop_front_if(|(until, _)| *until <= now) {
                own.known.remove(&nonce);
            }
        }
        self.of.retain(|_, own| !own.until.is_empty());
    }
}
