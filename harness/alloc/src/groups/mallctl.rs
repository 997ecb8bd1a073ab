//! jemalloc's `mallctl`: keys by name, values of its number types. Allocates nothing, so that figures can be refreshed at any
//! time.

use std::ffi::{c_int, c_void};
use std::fmt::Display;
use std::hint::black_box;
use std::io;
use std::ptr::{from_mut, null_mut};

use heapgate_segment::text::Text;

use super::GroupsError;

/// Whether what the program allocates comes from jemalloc.
pub(super) fn is_jemalloc() -> Result<bool, GroupsError> {
    let before = read::<u64>("thread.allocated")?;
    drop(black_box(Box::new([0_u8; 64])));
    Ok(read::<u64>("thread.allocated")? != before)
}

/// A key of jemalloc's, as the C string that it takes. In place: nothing is allocated where figures are refreshed.
pub(super) struct Key(Text<{ Self::MAX_BYTES }>);

impl Key {
    /// `stats.arenas.4294967295.small.allocated` and a zero.
    const MAX_BYTES: usize = 64;

    fn new(text: impl Display) -> Self {
        let key = Self(Text::of(format_args!("{text}\0")));
        assert!(key.0.ends_with('\0'), "a key of jemalloc's has room");
        key
    }

    pub(super) fn of_arena(before: &str, arena: u32, after: &str) -> Self {
        Self::new(format_args!("{before}{arena}.{after}"))
    }
}

impl AsKey for Key {
    fn with(&self, act: &mut dyn FnMut(&Key)) {
        act(self);
    }
}

impl AsKey for str {
    fn with(&self, act: &mut dyn FnMut(&Key)) {
        act(&Key::new(self));
    }
}

pub(super) trait AsKey {
    fn with(&self, act: &mut dyn FnMut(&Key));
}

/// A place for a value, and its size.
pub(super) type Place = (*mut c_void, usize);

pub(super) fn no_value() -> Place {
    (null_mut(), 0)
}

pub(super) fn value<T: Plain>(of: &mut T) -> Place {
    (from_mut(of).cast(), size_of::<T>())
}

/// Numbers that jemalloc takes and gives, for which any bits are valid.
pub(super) trait Plain: Default {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for usize {}
impl Plain for isize {}

pub(super) fn read<T: Plain>(key: &(impl AsKey + ?Sized)) -> Result<T, GroupsError> {
    let mut found = T::default();
    call(key, value(&mut found), no_value())?;
    Ok(found)
}

/// A figure of jemalloc's, of either size that they have: `u64` and `usize` are one where this is built.
pub(super) fn read_size(key: &Key) -> Result<u64, GroupsError> {
    const { assert!(size_of::<usize>() == 8, "jemalloc's sizes and counts are both 64 bits") };
    read::<u64>(key)
}

pub(super) fn call(key: &(impl AsKey + ?Sized), old: Place, new: Place) -> Result<(), GroupsError> {
    let mut result = Ok(());
    key.with(&mut |key| {
        let mut old_bytes = old.1;
        let old_bytes_at = if old.0.is_null() { null_mut() } else { from_mut(&mut old_bytes) };
        // SAFETY: the key ends with a zero; each place is null, or a `Plain` number of the caller's that outlives the call,
        // with its size: jemalloc refuses a size that is not the key's (EINVAL), and else reads or writes just that.
        let code: c_int =
            unsafe { tikv_jemalloc_sys::mallctl(key.0.as_ptr().cast(), old.0, old_bytes_at, new.0, new.1) };
        if code != 0 {
            let key = key.0.trim_end_matches('\0').to_owned();
            result = Err(GroupsError::Jemalloc { key, error: io::Error::from_raw_os_error(code) });
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_jemalloc_name_their_arena() {
        for arena in [0, 7, 10, 4094, u32::MAX] {
            let key = Key::of_arena("stats.arenas.", arena, "small.allocated");
            assert_eq!(*key.0, *format!("stats.arenas.{arena}.small.allocated\0"));
        }
    }
}
