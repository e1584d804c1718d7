//! The bytes in which a member's state survives a crash: length-prefixed parts behind a version line.
//!
//! Written by hand rather than by a serialisation framework so that no secret passes through a buffer that grows
//! (growing copies, and leaves the old copy behind): the size is known before the first byte is written.

use zeroize::Zeroizing;

use crate::MpcError;

/// The version line of a member's state.
const HEADER: &[u8] = b"cohortium/member-state/v3\n";

/// The parts, each preceded by its length as four big-endian bytes.
pub(crate) fn write(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let size = HEADER.len() + parts.iter().map(|part| 4 + part.len()).sum::<usize>();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    bytes.extend_from_slice(HEADER);
    for part in parts {
        // Parts are at most 100 keys or one context of at most 10 kB.
        bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Exactly `N` parts, as [`write`] wrote them.
pub(crate) fn read<const N: usize>(bytes: &[u8]) -> Result<[&[u8]; N], MpcError> {
    let mut rest = bytes.strip_prefix(HEADER).ok_or(MpcError::State("it is of an unknown version"))?;
    let mut parts: [&[u8]; N] = [&[]; N];
    for part in &mut parts {
        let cut = MpcError::State("it is cut off");
        let (len, after) = rest.split_first_chunk::<4>().ok_or(cut.clone())?;
        (*part, rest) = after.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(cut)?;
    }
    if rest.is_empty() { Ok(parts) } else { Err(MpcError::State("it has bytes after its end")) }
}

/// A part that is one 32-byte value.
pub(crate) fn one(part: &[u8]) -> Result<[u8; 32], MpcError> {
    part.try_into().map_err(|_| MpcError::State("a 32-byte value has another length"))
}

/// A part that is `count` 32-byte values.
pub(crate) fn many(part: &[u8], count: usize) -> Result<Vec<[u8; 32]>, MpcError> {
    match part.as_chunks::<32>() {
        (values, []) if values.len() == count => Ok(values.to_vec()),
        _ => Err(MpcError::State("a list has another length than the context says")),
    }
}

/// A part that is one 32-byte value or nothing.
pub(crate) fn optional(part: &[u8]) -> Result<Option<[u8; 32]>, MpcError> {
    if part.is_empty() { Ok(None) } else { one(part).map(Some) }
}
