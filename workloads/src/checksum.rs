//! Checksums of answers.

/// FNV-1a's start.
pub const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash with one more value in it, by FNV-1a's step on 64 bits at a time.
#[must_use]
pub fn grow(hash: u64, value: u64) -> u64 {
    // The rotation brings high bits back down: eight bytes a step would else never touch the low ones.
    ((hash ^ value).wrapping_mul(PRIME)).rotate_left(29)
}

/// A hash of bytes, eight at a time: a fraction of the cost of writing them, unlike FNV-1a by bytes.
///
/// ```
/// use heapgate_workloads::checksum::of_bytes;
/// assert_ne!(of_bytes(b"a prompt of more than eight bytes"), of_bytes(b"a prompt of more than eight Bytes"));
/// assert_ne!(of_bytes(b"\0"), of_bytes(b""));
/// ```
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(grow(OFFSET_BASIS, bytes.len() as u64), |hash, &w| grow(hash, u64::from_le_bytes(w)));
    rest.iter().fold(hash, |hash, &byte| grow(hash, u64::from(byte)))
}
