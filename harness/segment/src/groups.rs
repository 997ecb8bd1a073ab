//! Groups of a process's threads that run under different settings of the allocator: who they are, and which slot is whose.
//!
//! The table lies in the header's page, between header and mailbox. A slot belongs to one group for good, once a thread of that group has
//! counted in it: the upper half of its owner's word says which, also while nobody owns it. Group 0 is all that is in none.

use core::fmt;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::Release};

use crate::layout::Header;
use crate::mailbox::MAILBOX_OFFSET;

/// Most groups of one process. A comparison of more would take days to decide, and each is a set of series.
pub const MAX_GROUPS: usize = 8;

/// Most bytes of a group's name.
pub const MAX_NAME_BYTES: usize = 32;

/// Where the table begins: behind the header, before the mailbox.
pub const GROUPS_OFFSET: usize = 1024;

/// Bits of an owner's word below the group.
pub(crate) const GROUP_SHIFT: u32 = 32;

/// The group that an owner's word names, as a number from 1; 0 for none, and for what can't be.
pub(crate) const fn group_of(owner: u64) -> usize {
    let group = (owner >> GROUP_SHIFT) as usize;
    if group <= MAX_GROUPS { group } else { 0 }
}

/// Whether an owner's word is that of a thread, not of a free slot.
pub(crate) const fn is_owned(owner: u64) -> bool {
    owner << GROUP_SHIFT != 0
}

/// One group, as both ends see it.
#[derive(Debug)]
#[repr(C)]
pub struct GroupRecord {
    /// UTF-8, padded with zero bytes. The first word is stored last.
    pub(crate) name: [AtomicU64; MAX_NAME_BYTES / 8],
    /// Its part of the keys, in 1/65536.
    pub(crate) share: AtomicU64,
    pub(crate) dirty_decay_ms: AtomicI64,
    pub(crate) muzzy_decay_ms: AtomicI64,
    /// Arenas that its threads have or had; 0 of one that is a whole process.
    pub(crate) arenas: AtomicU64,
    /// 1: all of the process is this group.
    pub(crate) whole_process: AtomicU64,
    /// Bit N: gauge N was set.
    pub(crate) gauges_set: AtomicU64,
    pub(crate) gauges: [AtomicU64; GroupGauge::ALL.len()],
}

// The ABI, as in `layout`.
const _: () = {
    assert!(size_of::<GroupRecord>() == 128 && size_of::<Header>() <= GROUPS_OFFSET);
    assert!(GROUPS_OFFSET + MAX_GROUPS * size_of::<GroupRecord>() <= MAILBOX_OFFSET);
};

/// Figures of a group's arenas, as the process last asked its allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum GroupGauge {
    /// Resident bytes of its arenas: pages in use, pages kept, and the allocator's own data.
    Resident = 0,
    /// Bytes of pages that hold any object.
    Active,
    /// Bytes of free pages that were written and are kept.
    Dirty,
    /// Bytes of free pages that the kernel may take back when it wants.
    Muzzy,
    /// Usable bytes in the program's hands that came from its arenas, whoever frees them.
    Allocated,
    /// Bytes of pages given back so far.
    Purged,
}

impl GroupGauge {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Resident, Self::Active, Self::Dirty, Self::Muzzy, Self::Allocated, Self::Purged];
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupSettings<'a> {
    /// Its name: see [`check_name`].
    pub name: &'a str,
    /// Its part of the keys, 0 to 1.
    pub share: f64,
    /// The decay of its arenas, ms; −1 is never.
    pub dirty_decay_ms: i64,
    /// The decay of its muzzy pages, ms; −1 is never.
    pub muzzy_decay_ms: i64,
    /// Whether all of the process is this group.
    pub whole_process: bool,
}

/// Units of [`GroupRecord::share`].
const SHARE_UNIT: f64 = 65_536.0;

impl GroupRecord {
    /// Says what it is. Once a process.
    pub fn define(&self, settings: &GroupSettings<'_>) {
        self.share.store((settings.share.clamp(0.0, 1.0) * SHARE_UNIT).round() as u64, Relaxed);
        self.set_decay(settings.dirty_decay_ms, settings.muzzy_decay_ms);
        self.whole_process.store(u64::from(settings.whole_process), Relaxed);
        let mut bytes = [0; MAX_NAME_BYTES];
        let name = &settings.name.as_bytes()[..settings.name.floor_char_boundary(MAX_NAME_BYTES)];
        bytes[..name.len()].copy_from_slice(name);
        for (word, bytes) in self.name.iter().zip(bytes.as_chunks().0).rev() {
            // Release, and the first one last: who finds a name finds all that belongs to it.
            word.store(u64::from_le_bytes(*bytes), Release);
        }
    }

    /// Says what decay its arenas have, ms.
    pub fn set_decay(&self, dirty_ms: i64, muzzy_ms: i64) {
        self.dirty_decay_ms.store(dirty_ms, Relaxed);
        self.muzzy_decay_ms.store(muzzy_ms, Relaxed);
    }

    /// Whether all of the process is this group.
    #[must_use]
    pub fn is_whole_process(&self) -> bool {
        self.whole_process.load(Relaxed) == 1
    }

    /// Says how many arenas its threads have or had.
    pub fn set_arenas(&self, arenas: u64) {
        self.arenas.store(arenas, Relaxed);
    }

    /// Puts one of its figures, as it is now.
    pub fn set_gauge(&self, gauge: GroupGauge, value: u64) {
        self.gauges[gauge as usize].store(value, Relaxed);
        // Release: a reader that sees it set finds a value.
        self.gauges_set.fetch_or(1 << gauge as usize, Release);
    }
}

/// A group as it was found; what its threads counted, [`crate::reader::Reader::group_totals`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its number, from 1.
    pub number: usize,
    /// Its name. Control characters are replaced.
    pub name: String,
    /// Its part of the keys, 0 to 1.
    pub share: f64,
    /// The decay of its arenas, ms.
    pub dirty_decay_ms: i64,
    /// The decay of its muzzy pages, ms.
    pub muzzy_decay_ms: i64,
    /// Arenas that its threads have or had.
    pub arenas: u64,
    /// Whether all of the process is this group.
    pub whole_process: bool,
    gauges: [Option<u64>; GroupGauge::ALL.len()],
}

impl Group {
    /// One of its figures, if the process gave it.
    #[must_use]
    pub fn gauge(&self, gauge: GroupGauge) -> Option<u64> {
        self.gauges[gauge as usize]
    }

    /// Group `number` of a segment, taken for hostile; `None` if there is none.
    pub(crate) fn read(number: usize, word: impl Fn(usize) -> u64) -> Option<Self> {
        let base = GROUPS_OFFSET + (number - 1) * size_of::<GroupRecord>();
        let at = |offset: usize| word(base + offset);
        let name = offset_of!(GroupRecord, name);
        let name = crate::identity::read_text((0..MAX_NAME_BYTES / 8).map(|index| at(name + index * 8)));
        if name.is_empty() {
            return None;
        }
        let set = at(offset_of!(GroupRecord, gauges_set));
        let mut gauges = [None; GroupGauge::ALL.len()];
        for (index, gauge) in gauges.iter_mut().enumerate().filter(|(index, _)| set & (1 << index) != 0) {
            *gauge = Some(at(offset_of!(GroupRecord, gauges) + index * 8));
        }
        Some(Self {
            number,
            name,
            share: (at(offset_of!(GroupRecord, share)) as f64 / SHARE_UNIT).min(1.0),
            dirty_decay_ms: at(offset_of!(GroupRecord, dirty_decay_ms)).cast_signed(),
            muzzy_decay_ms: at(offset_of!(GroupRecord, muzzy_decay_ms)).cast_signed(),
            arenas: at(offset_of!(GroupRecord, arenas)),
            whole_process: at(offset_of!(GroupRecord, whole_process)) == 1,
            gauges,
        })
    }
}

/// Why a text can't name a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupNameError(String);

impl fmt::Display for GroupNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' can't name a group: 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 - _ . with a letter or digit first",
            self.0.escape_debug()
        )
    }
}

impl core::error::Error for GroupNameError {}

/// Checks a group's name: it becomes a label.
///
/// # Errors
/// If it is empty or too long, or has characters that a service's name can't have.
pub fn check_name(name: &str) -> Result<(), GroupNameError> {
    if name.len() <= MAX_NAME_BYTES && crate::published::check_name(name).is_ok() {
        return Ok(());
    }
    Err(GroupNameError(name.chars().take(2 * MAX_NAME_BYTES).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::Acquire;

    #[test]
    fn an_owners_word_keeps_its_group_without_an_owner() {
        assert_eq!((group_of(3 << GROUP_SHIFT | 77), is_owned(3 << GROUP_SHIFT | 77)), (3, true));
        assert_eq!((group_of(3 << GROUP_SHIFT), is_owned(3 << GROUP_SHIFT)), (3, false));
        assert_eq!((group_of(77), is_owned(77), is_owned(0)), (0, true, false));
        assert_eq!(group_of(u64::MAX), 0, "a group that can't be is none");
    }

    #[test]
    fn a_group_is_read_as_it_was_defined() {
        let words: Vec<AtomicU64> = (0..MAILBOX_OFFSET / 8).map(|_| AtomicU64::new(0)).collect();
        let read = |number| Group::read(number, |offset| words[offset / 8].load(Acquire));
        assert_eq!(read(1), None);
        // SAFETY: the table's place is inside `words`, aligned for it, and made of atomics of 8 bytes only.
        let table = unsafe { &*words[GROUPS_OFFSET / 8..].as_ptr().cast::<[GroupRecord; MAX_GROUPS]>() };
        let settings =
            GroupSettings { name: "strict", share: 0.2, dirty_decay_ms: 0, muzzy_decay_ms: -1, whole_process: false };
        table[7].define(&settings);
        table[7].set_arenas(3);
        table[7].set_gauge(GroupGauge::Dirty, 4096);
        let group = read(8).unwrap();
        assert_eq!((group.name.as_str(), group.dirty_decay_ms, group.muzzy_decay_ms), ("strict", 0, -1));
        assert!((group.share - 0.2).abs() < 1e-4 && !group.whole_process && group.arenas == 3);
        assert_eq!((group.gauge(GroupGauge::Dirty), group.gauge(GroupGauge::Resident)), (Some(4096), None));
    }

    #[test]
    fn names_are_those_of_labels() {
        for name in ["", "a b", "-a", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(check_name(name).unwrap_err().to_string().contains("can't name a group"), "{name:?}");
        }
        assert_eq!(check_name("strict-2"), Ok(()));
    }
}
