//! Slabs of 64 KiB that hold text for a while: from the heap, from an object pool, or cut from the chunks of an arena
//! and pooled (E7). [`sources`] has the three; here is the load.
//!
//! Time is counted in ticks. In each, sessions arrive, take a slab, fill it with a part of the corpus, hold it for a
//! seeded number of ticks and give it back. At times three times as many arrive for a while.

use std::time::Instant;

use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use self::sources::{Heap, Hybrid, Pool, Source};
use crate::checksum;
use crate::corpus::Corpus;
use crate::random::SplitMix64;

pub mod sources;

/// A slab's size.
pub const SLAB_BYTES: usize = 64 * 1024;

/// From the heap.
pub const HEAP: Variant =
    variant("slab-heap", "64 KiB slabs of text, each allocated and freed", &[HOLD], |params| set_up(params, Heap));
/// From an object pool.
pub const POOL: Variant =
    variant("slab-pool", "64 KiB slabs of text from an object pool that keeps a few", &[HOLD, IDLE], |params| {
        set_up(params, Pool::new(params.number(IDLE.name, 0..=65_536)?))
    });
/// Cut from an arena and pooled.
pub const HYBRID: Variant =
    variant("slab-hybrid", "64 KiB slabs of text cut from an arena's chunks and pooled", &[HOLD], |params| {
        set_up(params, Hybrid::default())
    });

const HOLD: ParamSpec = ParamSpec {
    name: "hold_ticks",
    default: "40",
    choices: &[],
    help: "longest time for which a session holds a slab, ticks, 1 to 256",
};
const IDLE: ParamSpec =
    ParamSpec { name: "idle_slabs", default: "64", choices: &[], help: "most idle slabs the pool keeps, 0 to 65536" };

const FIGURES: &[FigureSpec] = &[
    FigureSpec {
        name: "get_mean_ns",
        help: "mean time to get a slab; the clock is read once for all that a tick's sessions get",
    },
    FigureSpec { name: "reuse_share", help: "share of the slabs got that were used before" },
    FigureSpec { name: "held_peak_slabs", help: "most slabs held at one time" },
];

/// How many sessions arrive in a tick, and in a tick of a burst.
const ARRIVALS: usize = 16;
const BURST_ARRIVALS: usize = 48;
/// A burst of so many ticks comes once in so many.
const BURST_TICKS: u64 = 8;
const BURST_EVERY_TICKS: u64 = 64;

/// One word is read of every page, to see that a slab holds what it was given.
const READ_EVERY_BYTES: usize = 4096;

const fn variant(
    name: &'static str,
    about: &'static str,
    params: &'static [ParamSpec],
    setup: heapgate_bench::Setup,
) -> Variant {
    Variant::new("cache", name, "slab", about, setup)
        .params(params)
        .figures(FIGURES)
        .allocators(&["system", "jemalloc"])
}

struct Run<S: Source> {
    source: S,
    text: String,
    /// Slabs that are given back at a tick, by tick modulo its length.
    due: Vec<Vec<S::Slab>>,
    arrived: Vec<S::Slab>,
    random: SplitMix64,
    tick: u64,
    held: usize,
    held_peak: usize,
    spent_ns: u64,
    got: u64,
    reused: u64,
}

fn set_up<S: Source + 'static>(params: &Params, source: S) -> Result<Box<dyn Workload>, Error> {
    let hold = params.number(HOLD.name, 1..=256usize)?;
    Ok(Box::new(Run {
        source,
        text: Corpus::load().into_text(),
        due: (0..=hold).map(|_| Vec::with_capacity(2 * BURST_ARRIVALS * BURST_TICKS as usize)).collect(),
        arrived: Vec::with_capacity(BURST_ARRIVALS),
        random: SplitMix64::new(7),
        tick: 0,
        held: 0,
        held_peak: 0,
        spent_ns: 0,
        got: 0,
        reused: 0,
    }))
}

impl<S: Source> Run<S> {
    /// Gives back what is due; the checksum of what it held.
    fn give_back(&mut self) -> u64 {
        let now = self.tick as usize % self.due.len();
        let mut sum = checksum::OFFSET_BASIS;
        self.held -= self.due[now].len();
        for slab in self.due[now].drain(..) {
            let words = self.source.read(&slab).chunks_exact(READ_EVERY_BYTES);
            sum = words.fold(sum, |sum, page| checksum::grow(sum, checksum::of_bytes(&page[..8])));
            self.source.put(slab);
        }
        sum
    }

    fn take_in(&mut self, arrivals: usize) {
        let start = Instant::now();
        for _ in 0..arrivals {
            let (slab, used) = self.source.get();
            self.arrived.push(slab);
            self.reused += u64::from(used);
        }
        self.spent_ns += start.elapsed().as_nanos() as u64;
        self.got += arrivals as u64;
        self.held += arrivals;
        self.held_peak = self.held_peak.max(self.held);
        let ticks = self.due.len();
        for mut slab in self.arrived.drain(..) {
            let from = self.random.below(self.text.len() - SLAB_BYTES);
            self.source.fill(&mut slab, &self.text.as_bytes()[from..from + SLAB_BYTES]);
            let hold = 1 + self.random.below(ticks - 1);
            self.due[(self.tick as usize + hold) % ticks].push(slab);
        }
    }
}

impl<S: Source> Workload for Run<S> {
    fn steps(&self) -> Steps {
        Steps { warmup: 256, measure: 1_920, ..Steps::default() }
    }

    /// A tick.
    fn step(&mut self) -> Work {
        let checksum = self.give_back();
        let burst = self.tick % BURST_EVERY_TICKS < BURST_TICKS;
        let arrivals = if burst { BURST_ARRIVALS } else { ARRIVALS };
        self.take_in(arrivals);
        self.tick += 1;
        Work { units: arrivals as u64, checksum }
    }

    fn measure_begins(&mut self) {
        (self.spent_ns, self.got, self.reused, self.held_peak) = (0, 0, 0, self.held);
    }

    fn figures(&mut self, figures: &mut Figures) {
        figures.set("held_peak_slabs", self.held_peak as f64);
        if self.got > 0 {
            figures.set("get_mean_ns", self.spent_ns as f64 / self.got as f64);
            figures.set("reuse_share", self.reused as f64 / self.got as f64);
        }
    }
}
