//! Classes of object sizes: the scale of [`crate::histogram`] with four classes per doubling, from 0 bytes to 2^48.

use crate::histogram::{log_linear, log_linear_bounds};

/// Bits of a size, after its leading one, that choose the class.
const SUB_BITS: u32 = 2;

/// The largest power of two that is told apart: an address space is not larger.
const MAX_EXPONENT: u32 = 48;

/// Number of classes.
pub const SIZE_CLASSES: usize = (1 << SUB_BITS) * (MAX_EXPONENT - SUB_BITS + 1) as usize;

/// The class of an object of `bytes`.
///
/// ```
/// use heapgate_segment::size_class::{largest_of_class, size_class_of};
/// assert_eq!(largest_of_class(size_class_of(100)), 111); // 96..=111
/// ```
#[inline]
#[must_use]
pub const fn size_class_of(bytes: u64) -> usize {
    let index = log_linear::<SUB_BITS>(bytes);
    if index < SIZE_CLASSES { index } else { SIZE_CLASSES - 1 }
}

/// The largest size, in bytes, of a class.
///
/// # Panics
/// If there is no such class.
#[must_use]
pub const fn largest_of_class(class: usize) -> u64 {
    assert!(class < SIZE_CLASSES, "no such size class");
    log_linear_bounds::<SUB_BITS>(class).1 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_ends_where_the_next_begins() {
        for class in 0..SIZE_CLASSES - 1 {
            let last = largest_of_class(class);
            assert_eq!(size_class_of(last), class);
            assert_eq!(size_class_of(last + 1), class + 1);
        }
        assert_eq!(size_class_of(u64::MAX), SIZE_CLASSES - 1);
    }
}
