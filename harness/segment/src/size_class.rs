//! Classes of object sizes: the scale of [`crate::histogram`] with four classes per doubling, for every size there is.

use crate::histogram::{log_linear, log_linear_bounds};

/// Bits of a size, after its leading one, that choose the class.
const SUB_BITS: u32 = 2;

/// Sizes below this power of two are told apart: all there are, so that none needs a check against the last class.
const MAX_EXPONENT: u32 = 64;

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
    log_linear::<SUB_BITS>(bytes)
}

/// The largest size, in bytes, of a class.
///
/// # Panics
/// If there is no such class.
#[must_use]
pub const fn largest_of_class(class: usize) -> u64 {
    assert!(class < SIZE_CLASSES, "no such size class");
    // The last class ends at 2^64, which wraps to 0.
    log_linear_bounds::<SUB_BITS>(class).1.wrapping_sub(1)
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
