//! How often jemalloc has given pages back to the kernel: what takes the place of a garbage collector's runs.

use heapgate_bench::{Figures, in_force};
use tikv_jemalloc_ctl::{Access, AsName, epoch};

/// Counters that only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purges {
    /// Times that dirty or muzzy pages were purged.
    pub runs: u64,
    /// Pages purged.
    pub pages: u64,
}

impl Purges {
    /// Those so far, in all arenas; `None` where jemalloc isn't in force or doesn't tell. Allocates nothing.
    #[must_use]
    pub fn so_far() -> Option<Self> {
        if !in_force().has_jemalloc() {
            return None;
        }
        // The figures are those of the last epoch. 4096 stands for all arenas (`MALLCTL_ARENAS_ALL`).
        epoch::advance().ok()?;
        let read = |name: &str| Access::<u64>::read(name.name()).ok();
        Some(Self {
            runs: read("stats.arenas.4096.dirty_npurge\0")? + read("stats.arenas.4096.muzzy_npurge\0")?,
            pages: read("stats.arenas.4096.dirty_purged\0")? + read("stats.arenas.4096.muzzy_purged\0")?,
        })
    }

    /// Records those since `self` as `purges` and `purged_pages`.
    pub(crate) fn record_since(before: Option<Self>, figures: &mut Figures) {
        if let (Some(before), Some(now)) = (before, Self::so_far()) {
            figures.set("purges", (now.runs - before.runs) as f64);
            figures.set("purged_pages", (now.pages - before.pages) as f64);
        }
    }
}
