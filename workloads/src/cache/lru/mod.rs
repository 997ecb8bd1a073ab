//! An LRU cache of verses whose memory is managed by hand, and readers that come late (E6).
//!
//! An entry that is evicted keeps its memory for a grace period of 10 to 15 ms, which is for readers that hold a handle
//! of it; then its slot is reclaimed, and soon filled anew. A reader takes a handle, is stalled, then reads. Stalled for
//! longer than the grace period it may find its handle stale: with a plain pointer it would read another entry's text.
//! Each handle has the generation of its slot, so every such read is refused, in safe code ([`safe`]) and with raw
//! pointers ([`raw`]). Time is counted in ticks of a quarter of a millisecond, not slept.

use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use self::list::{Found, Lru};
use crate::checksum;
use crate::corpus::Corpus;
use crate::random::SplitMix64;

mod list;
pub mod raw;
pub mod safe;

/// Slots and handles in safe code.
pub const SAFE: Variant =
    variant("lru-safe", "an LRU cache in slots with generation-checked handles; readers are late", |params| {
        set_up::<safe::Slots>(params)
    });
/// Raw pointers.
pub const RAW: Variant =
    variant("lru-raw", "an LRU cache in raw memory with generation-checked pointers; readers are late", |params| {
        set_up::<raw::Slots>(params)
    });

const DELAY: ParamSpec = ParamSpec {
    name: "delay_ms",
    default: "15",
    choices: &[],
    help: "how long a reader is stalled between taking a handle and reading, ms, 0 to 1000",
};

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "stale_share", help: "share of reads that were refused: their memory had been reclaimed" },
    FigureSpec { name: "undetected_reads", help: "reads that were let through and gave another entry's text" },
    FigureSpec { name: "hit_share", help: "share of look-ups that found their entry" },
];

/// The size of a slot's text. A longer verse or poem is cut.
pub const SLOT_BYTES: usize = 512;

/// Memory for texts, in slots that are used again.
pub trait Memory {
    /// Stands for a text; can be kept for any time.
    type Handle: Copy;

    /// Memory of so many slots.
    fn with_slots(count: usize) -> Self;

    /// Puts a text of at most [`SLOT_BYTES`] into a free slot; `None` if there is no such slot.
    fn fill(&mut self, text: &[u8]) -> Option<Self::Handle>;

    /// The text that the handle stands for; `None` if its slot was reclaimed since, or is another memory's and free
    /// here.
    fn get(&self, handle: Self::Handle) -> Option<&[u8]>;

    /// Frees the handle's slot, unless that was done before.
    fn reclaim(&mut self, handle: Self::Handle);
}

const TICKS_PER_MS: usize = 4;
/// Grace periods are drawn evenly from this many ms on and for so many.
const GRACE_MS: usize = 10;
const GRACE_SPAN_MS: usize = 5;
const LONGEST_GRACE_TICKS: usize = (GRACE_MS + GRACE_SPAN_MS) * TICKS_PER_MS;

const LOOKUPS_PER_TICK: usize = 12;
const CACHED: usize = 64;
/// Readers ask for these many different verses, the first of them most often.
const ASKED: usize = 2_000;
/// Enough if every look-up misses for as long as a grace period may take.
const SLOTS: usize = CACHED + LOOKUPS_PER_TICK * (LONGEST_GRACE_TICKS + 2);

const fn variant(name: &'static str, about: &'static str, setup: heapgate_bench::Setup) -> Variant {
    Variant::new("cache", name, "read", about, setup)
        .params(&[DELAY])
        .figures(FIGURES)
        .allocators(&["system", "jemalloc"])
}

/// A handle that was taken, and what it was taken for.
struct Taken<H> {
    handle: H,
    verse: u32,
}

struct Run<M: Memory> {
    memory: M,
    lru: Lru<M::Handle>,
    texts: Vec<Box<[u8]>>,
    random: SplitMix64,
    tick: usize,
    /// What is read at a tick, by tick modulo its length; the same for what is reclaimed.
    to_read: Vec<Vec<Taken<M::Handle>>>,
    to_reclaim: Vec<Vec<M::Handle>>,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    lookups: u64,
    hits: u64,
    reads: u64,
    stale: u64,
    undetected: u64,
}

fn set_up<M: Memory + 'static>(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let delay_ms = params.number(DELAY.name, 0..=1_000usize)?;
    Ok(Box::new(run::<M>(delay_ms)))
}

fn run<M: Memory>(delay_ms: usize) -> Run<M> {
    let corpus = Corpus::load();
    let verses = corpus.verses();
    let text = |i: usize| {
        let verse = &corpus.text().as_bytes()[verses[i * verses.len() / ASKED].clone()];
        verse[..verse.len().min(SLOT_BYTES)].into()
    };
    let calendar = |ticks: usize| 0..=ticks;
    Run {
        memory: M::with_slots(SLOTS),
        lru: Lru::new(CACHED),
        texts: (0..ASKED).map(text).collect(),
        random: SplitMix64::new(11),
        tick: 0,
        to_read: calendar(delay_ms * TICKS_PER_MS).map(|_| Vec::with_capacity(LOOKUPS_PER_TICK)).collect(),
        // Those of many ticks can fall on one.
        to_reclaim: calendar(LONGEST_GRACE_TICKS).map(|_| Vec::with_capacity(SLOTS)).collect(),
        counts: Counts::default(),
    }
}

impl<M: Memory> Run<M> {
    fn reclaim(&mut self) {
        let now = self.tick % self.to_reclaim.len();
        for handle in self.to_reclaim[now].drain(..) {
            self.memory.reclaim(handle);
        }
    }

    /// Finds an entry, or makes one, and takes a handle of it.
    fn take(&mut self) {
        // The product of two draws: the first verses are asked for most.
        let verse = self.random.below(ASKED) * self.random.below(ASKED) / ASKED;
        self.counts.lookups += 1;
        let handle = match self.lru.find(verse as u32) {
            Found::Hit(handle) => {
                self.counts.hits += 1;
                handle
            }
            Found::Miss => {
                let handle = self.memory.fill(&self.texts[verse]).expect("there are slots for every miss of a grace");
                if let Some(evicted) = self.lru.insert(verse as u32, handle) {
                    let grace = GRACE_MS * TICKS_PER_MS + self.random.below(GRACE_SPAN_MS * TICKS_PER_MS + 1);
                    let at = (self.tick + grace) % self.to_reclaim.len();
                    self.to_reclaim[at].push(evicted);
                }
                handle
            }
        };
        let read_at = (self.tick + self.to_read.len() - 1) % self.to_read.len();
        self.to_read[read_at].push(Taken { handle, verse: verse as u32 });
    }

    /// Reads what was taken a delay ago.
    fn read(&mut self) -> Work {
        let now = self.tick % self.to_read.len();
        let mut work = Work { units: 0, checksum: checksum::OFFSET_BASIS };
        for Taken { handle, verse } in self.to_read[now].drain(..) {
            work.units += 1;
            let found = self.memory.get(handle);
            work.checksum = checksum::grow(work.checksum, found.map_or(0, checksum::of_bytes));
            match found {
                None => self.counts.stale += 1,
                Some(text) => self.counts.undetected += u64::from(*text != *self.texts[verse as usize]),
            }
        }
        self.counts.reads += work.units;
        work
    }
}

impl<M: Memory> Workload for Run<M> {
    fn steps(&self) -> Steps {
        // Warm once the cache is full and the longest delay is over.
        Steps { warmup: 8_000, measure: 100_000, ..Steps::default() }
    }

    /// A tick.
    fn step(&mut self) -> Work {
        self.reclaim();
        let late = self.to_read.len() > 1;
        let early = if late { self.read() } else { Work::default() };
        for _ in 0..LOOKUPS_PER_TICK {
            self.take();
        }
        let work = if late { early } else { self.read() };
        self.tick += 1;
        work
    }

    fn measure_begins(&mut self) {
        self.counts = Counts::default();
    }

    fn figures(&mut self, figures: &mut Figures) {
        let Counts { lookups, hits, reads, stale, undetected } = self.counts;
        figures.set("undetected_reads", undetected as f64);
        if reads > 0 {
            figures.set("stale_share", stale as f64 / reads as f64);
        }
        if lookups > 0 {
            figures.set("hit_share", hits as f64 / lookups as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts<M: Memory>(delay_ms: usize) -> Counts {
        let mut run = run::<M>(delay_ms);
        for _ in 0..2_000 {
            run.step();
        }
        run.counts
    }

    #[test]
    #[cfg_attr(miri, ignore = "unpacks the corpus, which takes too long there")]
    fn no_handle_is_stale_within_the_grace_period_and_many_are_after_it() {
        for delay_ms in [0, 5, 10] {
            assert_eq!(counts::<safe::Slots>(delay_ms).stale, 0, "{delay_ms} ms");
        }
        let [short, long] = [15, 20].map(counts::<safe::Slots>);
        assert!(short.stale > 0 && long.stale > short.stale, "{short:?} {long:?}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "unpacks the corpus, which takes too long there")]
    fn every_stale_handle_is_refused_and_raw_memory_agrees_with_safe() {
        for delay_ms in [0, 10, 15, 40] {
            let (safe, raw) = (counts::<safe::Slots>(delay_ms), counts::<raw::Slots>(delay_ms));
            assert_eq!((safe.undetected, raw.undetected), (0, 0), "{delay_ms} ms");
            assert_eq!((safe.stale, safe.hits, safe.reads), (raw.stale, raw.hits, raw.reads), "{delay_ms} ms");
        }
    }
}
