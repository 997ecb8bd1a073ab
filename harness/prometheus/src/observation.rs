//! One look at a process: what its segment says and what the kernel says, for the catalogue to read from.

use std::time::{SystemTime, UNIX_EPOCH};

use heapgate_segment::clock::monotonic_ns;
use heapgate_segment::layout::{InterruptedSplit, Level, PhaseKind};
use heapgate_segment::reader::{Peaks, PhaseReading, Reader, Totals};
use heapgate_segment::steering::Steering;

use crate::catalogue::Unmeasured;
use crate::gauges::{Gauges, Jemalloc, Purging, Regions};
use crate::process::ProcessFigures;
use crate::stalls::{Scale, Stalls};

/// Parts of resident memory, in the order of the catalogue.
const PARTS: usize = 5;

/// What one look at a process found.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    /// Whether it lives and is measured.
    pub up: bool,
    /// Why nothing was counted.
    pub unmeasured: Option<Unmeasured>,
    /// What was counted; `None` of a process that is not measured.
    pub totals: Option<Totals>,
    pub peaks: Peaks,
    pub level: Level,
    pub sample_period: u64,
    pub was_off: bool,
    pub split_available: bool,
    /// Threads with slots of their own, and without.
    pub threads: (u64, u64),
    /// By number of the kind of phase, seconds since 1970; not a number where there was none.
    pub phase_starts_s: [f64; PhaseKind::ALL.len()],
    /// Longest call, clean and interrupted; `None` where no tick's length is known.
    pub longest_s: Option<[f64; 2]>,
    pub process: Option<&'a ProcessFigures>,
    pub jemalloc: Option<Jemalloc>,
    pub purging: Option<Purging>,
    pub regions: Option<Regions>,
    /// Scopes that are open, if the process says so.
    pub open_scopes: Option<u64>,
    /// Arenas that were made, and those that were released.
    pub arenas: (u64, u64),
    pub steering: Option<Steering>,
}

impl<'a> Observation<'a> {
    /// Of a process that is not measured.
    pub(crate) fn unmeasured(reason: Unmeasured, process: Option<&'a ProcessFigures>) -> Self {
        Self {
            up: false,
            unmeasured: Some(reason),
            totals: None,
            peaks: Peaks::default(),
            level: Level::Off,
            sample_period: 0,
            was_off: false,
            split_available: false,
            threads: (0, 0),
            phase_starts_s: [f64::NAN; PhaseKind::ALL.len()],
            longest_s: None,
            process,
            jemalloc: None,
            purging: None,
            regions: None,
            open_scopes: None,
            arenas: (0, 0),
            steering: None,
        }
    }

    /// Of a process that counts into the segment of `reader`; with its stalls, if `scale` says how long a tick is. `newer`
    /// are figures of its own that it has not put there.
    pub(crate) fn of(
        reader: Reader<'_>,
        newer: &Gauges,
        scale: Option<&Scale>,
        process: Option<&'a ProcessFigures>,
    ) -> (Self, Option<Box<Stalls>>) {
        let phases = reader.phases();
        let gauges = Gauges::of(reader, &phases).updated(newer);
        let totals = reader.totals();
        let stalls = scale.map(|scale| Box::new(scale.fold(&totals)));
        let observation = Self {
            up: true,
            unmeasured: None,
            peaks: reader.peaks(),
            level: reader.level(),
            sample_period: reader.sample_period(),
            was_off: reader.was_off(),
            split_available: reader.interrupted_split() == InterruptedSplit::Available,
            threads: reader.threads(),
            phase_starts_s: phase_starts_s(&phases),
            longest_s: stalls.as_ref().map(|stalls| stalls.longest_s),
            process,
            jemalloc: gauges.jemalloc(),
            purging: gauges.purging(),
            regions: gauges.regions(),
            open_scopes: gauges.open_scopes(),
            arenas: reader.arena_counts(),
            steering: reader.steering(),
            totals: Some(totals),
        };
        (observation, stalls)
    }

    /// Puts counts into a metric's series.
    pub(crate) fn counted<const N: usize>(&self, to: &mut [f64], read: impl Fn(&Totals) -> [u64; N]) {
        if let Some(totals) = &self.totals {
            to.copy_from_slice(&read(totals).map(|count| count as f64));
        }
    }

    /// What is live: nothing where nothing is counted.
    pub(crate) fn live(&self, to: &mut [f64], read: impl Fn(&Totals) -> i64) {
        if let Some(totals) = self.totals.as_ref().filter(|_| self.level != Level::Off) {
            to[0] = read(totals) as f64;
        }
    }

    /// A highest point.
    pub(crate) fn peak(&self, to: &mut [f64], read: impl Fn(&Peaks) -> i64) {
        if self.totals.is_some() && self.level != Level::Off {
            to[0] = read(&self.peaks) as f64;
        }
    }

    /// What the kernel says.
    pub(crate) fn of_process<const N: usize>(&self, to: &mut [f64], read: impl Fn(&ProcessFigures) -> [f64; N]) {
        if let Some(process) = self.process {
            to.copy_from_slice(&read(process));
        }
    }

    /// What jemalloc says.
    pub(crate) fn of_jemalloc(&self, to: &mut [f64], read: impl Fn(&Jemalloc) -> u64) {
        if let Some(jemalloc) = &self.jemalloc {
            to[0] = read(jemalloc) as f64;
        }
    }

    /// How it gives memory back.
    pub(crate) fn of_purging(&self, to: &mut [f64], read: impl Fn(&Purging) -> u64) {
        if let Some(purging) = &self.purging {
            to[0] = read(purging) as f64;
        }
    }

    /// What regions did.
    pub(crate) fn of_regions(&self, to: &mut [f64], read: impl Fn(&Regions) -> u64) {
        if let Some(regions) = &self.regions {
            to[0] = read(regions) as f64;
        }
    }

    /// What it says of its settings; a value that it does not know is left out.
    pub(crate) fn steered<const N: usize>(&self, to: &mut [f64], read: impl Fn(&Steering) -> [Option<f64>; N]) {
        if let Some(steering) = &self.steering {
            for (to, value) in to.iter_mut().zip(read(steering)) {
                *to = value.unwrap_or(*to);
            }
        }
    }

    /// Takes resident memory apart, as reports do (heapgate-core's `report/memory.rs`). Parts may be negative: pages of live
    /// bytes that were never touched are not resident, and the figures are of moments some milliseconds apart. Where what is
    /// live is not known, nothing is made up.
    pub(crate) fn account(&self, to: &mut [f64]) {
        let (Some(process), Some(totals)) = (self.process, &self.totals) else { return };
        if self.level == Level::Off || self.was_off {
            return;
        }
        let (resident, live) = (process.resident_bytes as f64, totals.live_bytes() as f64);
        match &self.jemalloc {
            Some(stats) => {
                let [usable, active, mapped] =
                    [stats.allocated, stats.active, stats.resident].map(|bytes| bytes as f64);
                let parts: [f64; PARTS] = [live, usable - live, active - usable, mapped - active, resident - mapped];
                to.copy_from_slice(&parts);
            }
            None => {
                to[0] = live;
                to[PARTS - 1] = resident - live;
            }
        }
    }
}

/// Marks are kept on the monotonic clock, which two readings of the two clocks put on the calendar. Rounded: else a mark would
/// wander by the time between them, and by each correction of the calendar's clock.
fn phase_starts_s(phases: &[PhaseReading]) -> [f64; PhaseKind::ALL.len()] {
    /// A tenth of a second.
    const STEPS_PER_SECOND: f64 = 10.0;
    let mut starts = [f64::NAN; PhaseKind::ALL.len()];
    if phases.is_empty() {
        return starts;
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let now_ns = monotonic_ns();
    for phase in phases {
        let Some(start) = usize::try_from(phase.kind).ok().and_then(|kind| starts.get_mut(kind)) else { continue };
        let ago_s = now_ns.saturating_sub(phase.begin_at.ns) as f64 / 1e9;
        *start = ((now_s - ago_s) * STEPS_PER_SECOND).round() / STEPS_PER_SECOND;
    }
    starts
}
