//! What an organisation tells others about a dataset it could contribute: its shape, never its rows or their number.

use serde::{Deserialize, Serialize};

use crate::{Document, Hash, Name, Schema};

/// A dataset offered for studies. Signed by the organisation's message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The dataset's name, shared by all organisations that hold such a dataset.
    pub dataset: Name,
    /// Who offers it.
    pub organisation: Name,
    /// Its declared shape.
    pub schema: Schema,
    /// A salted commitment to the present rows: changes when they change, says nothing about them.
    pub snapshot: Hash,
}

impl Document for Offer {
    const TYPE: &'static str = "application/vnd.cohortium.offer.v1+json";
    const MAX_BYTES: usize = 1 << 20;
    fn check(&self) -> Result<(), String> {
        self.schema.check().map_err(|error| error.to_string())
    }
}
