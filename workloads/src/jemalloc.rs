//! What jemalloc knows of its own locks: how often threads waited for them, and for how long.
//!
//! jemalloc profiles every mutex it has (`stats.mutexes.*`, `stats.arenas.<i>.mutexes.*` and
//! `stats.arenas.<i>.bins.<j>.mutex.*` in its manual). It spins first; a wait is counted, and timed, only if a thread
//! had to block. Its clock for that is the kernel's coarse one: times are multiples of a tick of 1 to 10 ms, and most
//! waits count as 0. How often there was one is exact.

#![allow(unsafe_code, reason = "jemalloc's controls are typed by name only")]

use std::ffi::CString;

use heapgate_bench::{Figures, in_force};
use tikv_jemalloc_ctl::{Error, epoch, raw};
use tikv_jemalloc_sys::mallctl;

/// jemalloc's number for "all arenas together" (`MALLCTL_ARENAS_ALL`).
const ALL_ARENAS: usize = 4096;

/// An arena's mutexes around runs of pages: large objects, free pages by age, and giving them back.
const PAGES: &[&str] =
    &["large", "extent_avail", "extents_dirty", "extents_muzzy", "extents_retained", "decay_dirty", "decay_muzzy"];

/// An arena's other mutexes: metadata, the list of thread caches, the allocator of huge pages.
const REST: &[&str] = &["base", "tcache_list", "hpa_shard", "hpa_shard_grow", "hpa_sec"];

/// The mutexes that belong to no arena.
const GLOBAL: &[&str] = &[
    "background_thread",
    "max_per_bg_thd",
    "ctl",
    "prof",
    "prof_thds_data",
    "prof_dump",
    "prof_recent_alloc",
    "prof_recent_dump",
    "prof_stats",
];

/// What mutexes have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Times a mutex was taken.
    pub acquisitions: u64,
    /// Times it was taken after spinning, without blocking.
    pub spins: u64,
    /// Times a thread blocked for it.
    pub waits: u64,
    /// Time blocked in all, ns, in ticks of the coarse clock.
    pub total_ns: u64,
    /// Longest time blocked, ns, in ticks of the coarse clock.
    pub max_ns: u64,
}

/// jemalloc's mutexes in three classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Locks {
    /// Those of the bins, from which thread caches of small objects are filled: the counterpart of a runtime's central
    /// lists.
    pub bins: Waits,
    /// Those around runs of pages.
    pub pages: Waits,
    /// All others.
    pub others: Waits,
}

/// Why there are no figures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// jemalloc doesn't serve this process.
    #[error("the allocator in force is not jemalloc")]
    NotInForce,
    /// jemalloc refused a control.
    #[error("jemalloc refuses {name}: {reason}")]
    Refused {
        /// The control.
        name: String,
        /// What it said.
        reason: String,
    },
}

/// Sets the profiles of all mutexes to 0.
///
/// # Errors
/// If jemalloc doesn't serve this process or has no statistics.
pub fn reset_locks() -> Result<(), Unavailable> {
    use std::ptr::null_mut;
    check_in_force()?;
    // SAFETY: the name is a C string; a control without value takes null for input and output.
    match unsafe { mallctl(c"stats.mutexes.reset".as_ptr(), null_mut(), null_mut(), null_mut(), 0) } {
        0 => Ok(()),
        code => Err(refused("stats.mutexes.reset", std::io::Error::from_raw_os_error(code))),
    }
}

impl Locks {
    /// What the mutexes have seen since the last reset.
    ///
    /// # Errors
    /// As [`reset_locks`].
    pub fn read() -> Result<Self, Unavailable> {
        check_in_force()?;
        // The figures are those of the last epoch.
        epoch::advance().map_err(|error| refused("epoch", error))?;
        let arena = |mutex: &&str| format!("stats.arenas.{ALL_ARENAS}.mutexes.{mutex}");
        let bins = 0..read_number::<u32>("arenas.nbins")?;
        Ok(Self {
            bins: sum(bins.map(|bin| format!("stats.arenas.{ALL_ARENAS}.bins.{bin}.mutex")))?,
            pages: sum(PAGES.iter().map(arena))?,
            others: sum(REST.iter().map(arena).chain(GLOBAL.iter().map(|mutex| format!("stats.mutexes.{mutex}"))))?,
        })
    }

    /// Records the figures, under names that begin with `bin_lock`, `page_lock` and `other_lock`.
    pub fn record(&self, figures: &mut Figures) {
        for (class, waits) in [("bin", self.bins), ("page", self.pages), ("other", self.others)] {
            figures.set(&format!("{class}_lock_waits"), waits.waits as f64);
            figures.set(&format!("{class}_lock_wait_total_ns"), waits.total_ns as f64);
            figures.set(&format!("{class}_lock_wait_max_ns"), waits.max_ns as f64);
        }
        let all = [self.bins, self.pages, self.others];
        figures.set("lock_acquisitions", all.iter().map(|waits| waits.acquisitions).sum::<u64>() as f64);
        figures.set("lock_spins", all.iter().map(|waits| waits.spins).sum::<u64>() as f64);
    }
}

fn check_in_force() -> Result<(), Unavailable> {
    if in_force().has_jemalloc() { Ok(()) } else { Err(Unavailable::NotInForce) }
}

fn sum(mutexes: impl Iterator<Item = String>) -> Result<Waits, Unavailable> {
    let mut sum = Waits::default();
    for mutex in mutexes {
        let counter = |name: &str| read_number::<u64>(&format!("{mutex}.{name}"));
        sum.acquisitions += counter("num_ops")?;
        sum.spins += counter("num_spin_acq")?;
        sum.waits += counter("num_wait")?;
        sum.total_ns += counter("total_wait_time")?;
        sum.max_ns = sum.max_ns.max(counter("max_wait_time")?);
    }
    Ok(sum)
}

/// A type that a control may have, any pattern of bits of which is a value.
trait Number: Copy {}
impl Number for u32 {}
impl Number for u64 {}

fn read_number<T: Number>(name: &str) -> Result<T, Unavailable> {
    let terminated = CString::new(name).map_err(|error| refused(name, error))?;
    // SAFETY: the name ends in NUL. For a control of another size than T's, jemalloc writes no more than T has room for
    // and refuses; otherwise it writes a whole T, any bits of which are valid.
    let read: Result<T, Error> = unsafe { raw::read(terminated.as_bytes_with_nul()) };
    read.map_err(|error| refused(name, error))
}

fn refused(name: &str, reason: impl std::fmt::Display) -> Unavailable {
    Unavailable::Refused { name: name.to_owned(), reason: reason.to_string() }
}
