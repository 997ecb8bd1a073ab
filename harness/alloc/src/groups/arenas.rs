//! The arenas of a group: made when a thread needs one, with the group's decay, and handed on when it ends.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use heapgate_segment::groups::{GroupGauge, GroupRecord};

use super::GroupsError;
use super::mallctl::{Key, call, no_value, read, read_size, value};

/// Arenas that a group has at most, for as many threads at once; further ones share. jemalloc has room for 4,095, and each
/// costs some tens of KiB.
pub const MAX_ARENAS: usize = 64;

/// How soon free pages go back to the kernel, ms: 0 at once, −1 never, `None` as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub struct Decay {
    /// Pages that were written and are free.
    pub dirty_ms: Option<i32>,
    /// Pages that the kernel may take when it wants.
    pub muzzy_ms: Option<i32>,
}

impl Decay {
    /// As the process has it: for the control group.
    pub const UNCHANGED: Self = Self { dirty_ms: None, muzzy_ms: None };
    /// Kept for a minute: fewer system calls and page faults, more memory.
    pub const LAX: Self = Self { dirty_ms: Some(60_000), muzzy_ms: Some(60_000) };
    /// Given back at once: the least memory, and the most system calls and page faults.
    pub const STRICT: Self = Self { dirty_ms: Some(0), muzzy_ms: Some(0) };

    /// These.
    #[must_use]
    pub const fn of(dirty_ms: i32, muzzy_ms: i32) -> Self {
        Self { dirty_ms: Some(dirty_ms), muzzy_ms: Some(muzzy_ms) }
    }
}

/// The arenas of one group.
#[derive(Debug)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Pool {
    decay: Decay,
    arenas: Mutex<Arenas>,
}

/// The arenas of a group, and which nobody is bound to.
#[derive(Debug, Default)]
struct Arenas {
    all: Vec<u32>,
    free: Vec<u32>,
    /// The one that a thread shares next, once there are no more.
    next: usize,
}

impl Pool {
    /// With the first one, so that settings that jemalloc refuses are an error here.
    pub(super) fn start(decay: Decay) -> Result<Self, GroupsError> {
        let first = create(decay)?;
        let mut arenas = Arenas { all: Vec::with_capacity(MAX_ARENAS), free: Vec::with_capacity(MAX_ARENAS), next: 0 };
        arenas.all.push(first);
        arenas.free.push(first);
        Ok(Self { decay, arenas: Mutex::new(arenas) })
    }

    fn arenas(&self) -> MutexGuard<'_, Arenas> {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for a thread.
    pub(super) fn take(&self) -> Result<u32, GroupsError> {
        let mut arenas = self.arenas();
        if let Some(free) = arenas.free.pop() {
            return Ok(free);
        }
        if arenas.all.len() < MAX_ARENAS {
            let arena = create(self.decay)?;
            arenas.all.push(arena);
            return Ok(arena);
        }
        arenas.next = (arenas.next + 1) % MAX_ARENAS;
        Ok(arenas.all[arenas.next])
    }

    /// The thread that had it has ended, or has another.
    pub(super) fn give_back(&self, arena: u32) {
        let mut arenas = self.arenas();
        // One that is shared is handed on by the last of those who share it: whoever gets it then shares it, too.
        if !arenas.free.contains(&arena) {
            arenas.free.push(arena);
        }
    }

    /// How many there are: those that a thread had, and the one that waits for the first.
    pub(super) fn count(&self) -> usize {
        self.arenas().all.len()
    }

    /// What they have, ms: of dirty pages, and of muzzy ones.
    pub(super) fn decays(&self) -> Result<[i64; 2], GroupsError> {
        decays(self.arenas().all[0])
    }

    /// Puts their figures of jemalloc's last epoch into the group's record.
    pub(super) fn refresh(&self, record: &GroupRecord, page_bytes: u64) -> Result<(), GroupsError> {
        let arenas = self.arenas();
        let sum = |keys: &[&str]| -> Result<u64, GroupsError> {
            let mut sum = 0_u64;
            for arena in &arenas.all {
                for key in keys {
                    sum = sum.wrapping_add(read_size(&Key::of_arena("stats.arenas.", *arena, key))?);
                }
            }
            Ok(sum)
        };
        let [dirty_ms, muzzy_ms] = decays(arenas.all[0])?;
        record.set_decay(dirty_ms, muzzy_ms);
        record.set_gauge(GroupGauge::Resident, sum(&["resident"])?);
        record.set_gauge(GroupGauge::Active, sum(&["pactive"])?.wrapping_mul(page_bytes));
        record.set_gauge(GroupGauge::Dirty, sum(&["pdirty"])?.wrapping_mul(page_bytes));
        record.set_gauge(GroupGauge::Muzzy, sum(&["pmuzzy"])?.wrapping_mul(page_bytes));
        record.set_gauge(GroupGauge::Allocated, sum(&["small.allocated", "large.allocated"])?);
        record.set_gauge(GroupGauge::Purged, sum(&["dirty_purged", "muzzy_purged"])?.wrapping_mul(page_bytes));
        Ok(())
    }
}

fn create(decay: Decay) -> Result<u32, GroupsError> {
    let arena = read::<u32>("arenas.create")?;
    for (pages, ms) in [(Pages::Dirty, decay.dirty_ms), (Pages::Muzzy, decay.muzzy_ms)] {
        if let Some(mut ms) = ms.map(|ms| ms as isize) {
            // First: a change of all arenas' decay that comes in between is made good here.
            pages.keep(arena);
            call(&Key::of_arena("arena.", arena, pages.key()), no_value(), value(&mut ms))?;
        }
    }
    Ok(arena)
}

/// The two kinds of pages that an arena keeps for a time of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pages {
    Dirty,
    Muzzy,
}

/// What an arena has, ms: of dirty pages, and of muzzy ones.
fn decays(arena: u32) -> Result<[i64; 2], GroupsError> {
    let read = |pages: Pages| read::<isize>(&Key::of_arena("arena.", arena, pages.key())).map(|ms| ms as i64);
    Ok([read(Pages::Dirty)?, read(Pages::Muzzy)?])
}

/// Most arenas of jemalloc's: beyond, it has no numbers.
const MOST_ARENAS: usize = 4096;

/// Bit N of the first and of the second list: arena N has a decay of dirty or of muzzy pages that its group gave it.
static KEPT: [[AtomicU64; MOST_ARENAS / 64]; 2] = [const { [const { AtomicU64::new(0) }; MOST_ARENAS / 64] }; 2];

impl Pages {
    const fn key(self) -> &'static str {
        match self {
            Self::Dirty => "dirty_decay_ms",
            Self::Muzzy => "muzzy_decay_ms",
        }
    }

    fn keep(self, arena: u32) {
        if let Some(word) = KEPT[self as usize].get(arena as usize / 64) {
            word.fetch_or(1 << (arena % 64), SeqCst);
        }
    }

    /// Whether this arena's decay is its group's: a change of the process's settings (feature `control`) leaves it alone, or the
    /// comparison would be of groups that are all the same.
    #[cfg(feature = "control")]
    pub(crate) fn is_kept(self, arena: usize) -> bool {
        KEPT[self as usize].get(arena / 64).is_some_and(|word| word.load(SeqCst) >> (arena % 64) & 1 != 0)
    }
}
