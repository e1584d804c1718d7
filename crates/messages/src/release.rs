//! The release: the noised total that leaves, with everything needed to check where it came from.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::{Document, Envelope, Hash, Name, Timestamp};

/// The version of this structure and of how answers follow from it.
pub const RELEASE_VERSION: u32 = 3;

/// A release as it travels and is logged. Signed by the hub's message key.
///
/// Only `policy` decides that a release may be made (`policy::Release`); this is its wire form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseDocument {
    /// The agreement.
    pub agreement: Hash,
    /// The noised total, one 64-bit little-endian integer per cell, base64. In lattice steps.
    pub cells: String,
    /// The survivor sets that members signed: at least `t`, each by another survivor, all naming [`Self::survivors`].
    pub consents: Vec<Envelope>,
    /// Variance of the noise in every cell, in lattice steps squared, as a decimal integer.
    pub noise_variance: String,
    /// The plan.
    pub plan: Hash,
    /// The signed receipts of the nodes, one per survivor: who paid, and for what.
    pub receipts: Vec<Envelope>,
    /// When.
    pub released_at: Timestamp,
    /// The study.
    pub study: Name,
    /// The positions of groups that count too few to be shown, in order: all their cells are zero.
    pub suppressed: Vec<u32>,
    /// Who is in the total, sorted.
    pub survivors: Vec<Name>,
    /// The task.
    pub task: Hash,
    /// [`RELEASE_VERSION`].
    pub version: u32,
}

impl Document for ReleaseDocument {
    const TYPE: &'static str = "application/vnd.cohortium.release.v3+json";
    const MAX_BYTES: usize = 32 << 20;
    fn check(&self) -> Result<(), String> {
        if self.version == RELEASE_VERSION {
            Ok(())
        } else {
            Err(format!("release version {} is not known here", self.version))
        }
    }
}

/// Writes cells as they stand in [`ReleaseDocument::cells`].
#[must_use]
pub fn encode_cells(cells: &[i64]) -> String {
    BASE64.encode(&cells.iter().flat_map(|cell| cell.to_le_bytes()).collect::<Vec<u8>>())
}

/// Reads what [`encode_cells`] wrote; `None` when it is not that.
#[must_use]
pub fn decode_cells(text: &str) -> Option<Vec<i64>> {
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    let (chunks, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_round_trip() {
        let cells = [0, -1, i64::MAX, i64::MIN, 42];
        assert_eq!(decode_cells(&encode_cells(&cells)).unwrap(), cells);
        assert!(decode_cells("AAAA").is_none());
        assert!(decode_cells("?").is_none());
    }
}
