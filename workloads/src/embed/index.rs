//! A serialized index of vectors: written into one buffer of an arena, read back in place.
//!
//! | offset | what |
//! | --- | --- |
//! | 0 | `heapgidx`, then version 1, numbers in a vector (u32 each), vectors (u64), a hash of the vectors (u64); zeros |
//! | 64 | the vectors, f32 each, one after the other |
//!
//! All numbers are little-endian. `zerocopy` proves that bytes may be looked at as these types; none of our own casts.

use bumpalo::Bump;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const _: () = assert!(cfg!(target_endian = "little"), "vectors are read in place, and are little-endian");

const MAGIC: [u8; 8] = *b"heapgidx";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    dim: U32,
    count: U64,
    hash: U64,
    zeros: [u8; 32],
}

const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES == 64);

/// A cache line: what buffers are made of, so that vectors are aligned.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Why bytes are no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Shorter or longer than its header says, or without a header.
    #[error("{found} bytes, and it should be {expected}")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// It starts with something else, or with another version.
    #[error("not an index of version 1")]
    Magic,
    /// The header's last bytes, which are kept for later, are not zero.
    #[error("unknown fields in the header")]
    Unknown,
    /// Vectors of another length than the program's.
    #[error("its vectors have {found} numbers, not {expected}")]
    Dim {
        /// Numbers they have.
        found: u32,
        /// Numbers they should have.
        expected: usize,
    },
    /// The vectors don't start at a multiple of four.
    #[error("the buffer is not aligned for numbers of 4 bytes")]
    Misaligned,
    /// Bytes of the vectors have changed.
    #[error("the vectors are not those that were written")]
    Hash,
}

/// Bytes that an index of `count` vectors takes; `None` if that is beyond any memory.
#[must_use]
pub fn serialized_bytes<const DIM: usize>(count: usize) -> Option<usize> {
    count.checked_mul(DIM * size_of::<f32>())?.checked_add(HEADER_BYTES)
}

fn header<const DIM: usize>(count: usize, hash: u64) -> Header {
    Header {
        magic: MAGIC,
        version: VERSION.into(),
        dim: (DIM as u32).into(),
        count: (count as u64).into(),
        hash: hash.into(),
        zeros: [0; 32],
    }
}

/// FNV-1a, a number at a time: one that changes always changes it, since every step maps states one to one.
fn hash(numbers: impl IntoIterator<Item = f32>) -> u64 {
    numbers
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Writes an index of `count` vectors in `arena`, each filled in by `fill`. It is the arena's only allocation.
///
/// # Panics
/// If memory runs out, or `count` is beyond any.
pub fn write_in<const DIM: usize>(arena: &Bump, count: usize, mut fill: impl FnMut(usize, &mut [f32; DIM])) -> &[u8] {
    let bytes = serialized_bytes::<DIM>(count).expect("an index that fits the address space");
    let lines = arena.alloc_slice_fill_copy(bytes.div_ceil(size_of::<Line>()), Line([0; 64]));
    let buffer = &mut lines.as_mut_bytes()[..bytes];
    let (head, rest) = buffer.split_at_mut(HEADER_BYTES);
    let rows = <[[f32; DIM]]>::mut_from_bytes(rest).expect("lines are aligned, and so many rows were asked for");
    for (index, row) in rows.iter_mut().enumerate() {
        fill(index, row);
    }
    let hash = hash(rows.iter().flatten().copied());
    head.copy_from_slice(header::<DIM>(count, hash).as_bytes());
    buffer
}

/// Checks that `bytes` are an index and lends its vectors, where they are. Allocates nothing.
///
/// ```
/// use heapgate_workloads::embed::index::{view, write_in};
/// let arena = bumpalo::Bump::new();
/// let bytes = write_in(&arena, 2, |index, vector: &mut [f32; 3]| vector.fill(index as f32));
/// assert_eq!(view::<3>(bytes), Ok(&[[0.0; 3], [1.0; 3]][..]));
/// assert!(view::<3>(&bytes[..70]).is_err());
/// ```
///
/// # Errors
/// [`IndexError`]. No bytes make it panic.
pub fn view<const DIM: usize>(bytes: &[u8]) -> Result<&[[f32; DIM]], IndexError> {
    let (expected_hash, rest) = check::<DIM>(bytes)?;
    // The length is right, so that alignment is all that can be wrong.
    let rows = <[[f32; DIM]]>::ref_from_bytes(rest).map_err(|_| IndexError::Misaligned)?;
    if hash(rows.iter().flatten().copied()) == expected_hash { Ok(rows) } else { Err(IndexError::Hash) }
}

/// The same index as most programs write it: into a vector of bytes that grows.
#[must_use]
pub fn write_to_heap<'a, const DIM: usize>(vectors: impl ExactSizeIterator<Item = &'a [f32; DIM]> + Clone) -> Vec<u8> {
    let hash = hash(vectors.clone().flatten().copied());
    let header = header::<DIM>(vectors.len(), hash);
    let mut bytes = header.as_bytes().to_vec();
    for vector in vectors {
        for x in vector {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
    }
    bytes
}

/// Reads an index as most programs do: each vector copied into one of its own.
///
/// # Errors
/// As [`view`], but for alignment, which copies don't need.
pub fn read_to_heap<const DIM: usize>(bytes: &[u8]) -> Result<Vec<Vec<f32>>, IndexError> {
    let (expected_hash, rest) = check::<DIM>(bytes)?;
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
    let vectors: Vec<Vec<f32>> = rest
        .chunks_exact(DIM * size_of::<f32>())
        .map(|row| row.chunks_exact(size_of::<f32>()).map(number).collect())
        .collect();
    if hash(vectors.iter().flatten().copied()) == expected_hash { Ok(vectors) } else { Err(IndexError::Hash) }
}

/// The hash that the header gives, and the bytes of the vectors, whose length is right.
fn check<const DIM: usize>(bytes: &[u8]) -> Result<(u64, &[u8]), IndexError> {
    let length = |expected| IndexError::Length { found: bytes.len(), expected };
    let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| length(HEADER_BYTES))?;
    if header.magic != MAGIC || header.version != VERSION {
        return Err(IndexError::Magic);
    }
    if header.dim.get() as usize != DIM {
        return Err(IndexError::Dim { found: header.dim.get(), expected: DIM });
    }
    if header.zeros != [0; 32] {
        return Err(IndexError::Unknown);
    }
    let expected = usize::try_from(header.count.get()).ok().and_then(serialized_bytes::<DIM>).unwrap_or(usize::MAX);
    if bytes.len() == expected { Ok((header.hash.get(), rest)) } else { Err(length(expected)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIM: usize = 5;

    fn vectors() -> impl Strategy<Value = Vec<[f32; DIM]>> {
        prop::collection::vec(prop::array::uniform5(any::<f32>()), 0..8)
    }

    fn written<'a>(arena: &'a Bump, vectors: &[[f32; DIM]]) -> &'a [u8] {
        write_in(arena, vectors.len(), |index, row| *row = vectors[index])
    }

    fn bits(rows: &[[f32; DIM]]) -> Vec<u32> {
        rows.iter().flatten().map(|x| x.to_bits()).collect()
    }

    /// A copy of `bytes` that starts `offset` bytes after a multiple of 64.
    fn shifted(bytes: &[u8], offset: usize) -> (Vec<Line>, std::ops::Range<usize>) {
        let mut lines = vec![Line([0; 64]); (bytes.len() + offset).div_ceil(64)];
        lines.as_mut_bytes()[offset..offset + bytes.len()].copy_from_slice(bytes);
        (lines, offset..offset + bytes.len())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_in_place(vectors in vectors()) {
            let arena = Bump::new();
            let bytes = written(&arena, &vectors);
            let rows = view::<DIM>(bytes).expect("just written");
            prop_assert_eq!(bits(rows), bits(&vectors));
            prop_assert!(rows.is_empty() || bytes.as_ptr_range().contains(&rows.as_ptr().cast()));
        }

        #[test]
        fn heap_and_arena_write_the_same_bytes(vectors in vectors()) {
            let arena = Bump::new();
            let bytes = write_to_heap(vectors.iter());
            prop_assert_eq!(written(&arena, &vectors), &bytes[..]);
            let read = read_to_heap::<DIM>(&bytes).expect("just written");
            prop_assert_eq!(bits(&vectors), read.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>());
        }

        #[test]
        fn one_changed_bit_is_an_error(vectors in vectors(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let arena = Bump::new();
            let mut bytes = written(&arena, &vectors).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            let (lines, range) = shifted(&bytes, 0);
            prop_assert!(view::<DIM>(&lines.as_bytes()[range]).is_err());
            prop_assert!(read_to_heap::<DIM>(&bytes).is_err());
        }

        #[test]
        fn any_other_length_is_an_error(vectors in vectors(), length in 0usize..400) {
            let arena = Bump::new();
            let mut bytes = written(&arena, &vectors).to_vec();
            prop_assume!(bytes.len() != length);
            bytes.resize(length, 0);
            let (lines, range) = shifted(&bytes, 0);
            prop_assert!(view::<DIM>(&lines.as_bytes()[range]).is_err());
            prop_assert!(read_to_heap::<DIM>(&bytes).is_err());
        }

        #[test]
        fn a_misaligned_buffer_is_an_error_and_no_crash(vectors in vectors(), offset in 0usize..64) {
            let arena = Bump::new();
            let (lines, range) = shifted(written(&arena, &vectors), offset);
            let outcome = view::<DIM>(&lines.as_bytes()[range]);
            if offset % 4 == 0 {
                prop_assert_eq!(bits(outcome.expect("aligned enough")), bits(&vectors));
            } else {
                prop_assert_eq!(outcome, Err(IndexError::Misaligned));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(view::<DIM>(&bytes).is_err());
        }
    }

    #[test]
    fn a_count_beyond_any_memory_is_an_error() {
        let bytes = header::<DIM>(usize::MAX, 0);
        assert_eq!(
            view::<DIM>(bytes.as_bytes()),
            Err(IndexError::Length { found: HEADER_BYTES, expected: usize::MAX })
        );
    }
}
