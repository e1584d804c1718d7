//! Everything the hub is given, in order; what the nodes let go; and the hands of whoever sits between them.

use cohortium_messages::{Call, Hash, InboxItem, MaskedHeader, Name, Principal, Refused, RoundStep, SurvivorSet};

/// Whether what is carried arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, as it is now.
    Deliver,
    /// A hub that has no room for it says so. What a node is handed comes again.
    Later,
    /// It does not, for now, and nothing after it does. It is tried again.
    Lose,
    /// It does, and the answer does not: who sent it does not know. What a node is handed has no answer, and is lost.
    Unanswered,
    /// It never does, and what comes after it is numbered as if it had not been there: only a hub that cheats can do this.
    Withhold,
}

/// Someone between hub and node: may change or lose an item on its way in.
pub type ToNode = Box<dyn FnMut(&Name, &mut InboxItem) -> Fate>;
/// Someone between node and hub: may change or lose a call on its way out, and has the node's key to sign it anew.
pub type ToHub = Box<dyn FnMut(&Name, &mut Call) -> Fate>;

/// Something that the hub was given.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A signed request.
    Request {
        /// The bytes of its envelope.
        bytes: Vec<u8>,
        /// What it asked for.
        call: Box<Call>,
        /// Who asked.
        from: Principal,
    },
    /// A piece of a masked vector.
    Vector {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whose connection carried it.
        from: Name,
        /// The announced hash of the whole vector.
        sha256: Hash,
    },
}

/// Something that a node did not accept.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which node.
    pub node: Name,
    /// In its words.
    pub why: String,
}

/// The network, with its memory.
#[derive(Default)]
pub struct Wire {
    /// Who crashed, in order.
    pub crashes: Vec<String>,
    /// After how many more pieces of vectors the hub is started again, if it is.
    pub hub_restarts_after: Option<u32>,
    /// What each node let go, before anyone could change it.
    pub left: Vec<(Name, Call)>,
    /// What the hub did not accept from nodes.
    pub refusals: Vec<(Name, Refused)>,
    /// What nodes did not accept.
    pub reports: Vec<Report>,
    /// What the hub was given.
    pub seen: Vec<Seen>,
    pub(crate) to_hub: Option<ToHub>,
    pub(crate) to_node: Option<ToNode>,
}

impl Wire {
    /// The headers of all masked vectors that left, as often as they left.
    #[must_use]
    pub fn masked(&self) -> Vec<MaskedHeader> {
        self.steps(|step| match step {
            RoundStep::Masked { header, .. } => {
                header.peek::<MaskedHeader>().ok().map(|header| header.claims().clone())
            }
            _ => None,
        })
    }

    /// The signatures on survivor sets that left, as often as they left.
    #[must_use]
    pub fn survivor_sets(&self) -> Vec<SurvivorSet> {
        self.steps(|step| match step {
            RoundStep::Survivors { set } => set.peek::<SurvivorSet>().ok().map(|set| set.claims().clone()),
            _ => None,
        })
    }

    /// How many reveals left.
    #[must_use]
    pub fn reveals(&self) -> usize {
        self.steps(|step| matches!(step, RoundStep::Revealed { .. }).then_some(())).len()
    }

    /// Whether `node` reported something that contains `words`.
    #[must_use]
    pub fn reported(&self, node: &str, words: &str) -> bool {
        self.reports.iter().any(|report| report.node.as_str() == node && report.why.contains(words))
    }

    fn steps<T>(&self, pick: impl Fn(&RoundStep) -> Option<T>) -> Vec<T> {
        let steps = self.left.iter().filter_map(|(_, call)| match call {
            Call::Post { step } => Some(step),
            _ => None,
        });
        steps.filter_map(pick).collect()
    }

    pub(crate) fn inbound(&mut self, node: &Name, item: &mut InboxItem) -> Fate {
        self.to_node.as_mut().map_or(Fate::Deliver, |hook| hook(node, item))
    }

    pub(crate) fn outbound(&mut self, node: &Name, call: &mut Call) -> Fate {
        self.to_hub.as_mut().map_or(Fate::Deliver, |hook| hook(node, call))
    }
}
