//! The steps of `mixed/side-by-side`: an arena of large blocks is filled, then blocks and strings are read at random
//! places in turns, while strings are replaced.
//!
//! Each read depends on the one before it, so that what a miss of the TLB costs can't be hidden.

use std::time::{Duration, Instant};

use heapgate_bench::{Error, Figures, Params, Steps, Work, Workload};

use super::blocks::Blocks;
use super::strings::Strings;
use super::{MIB, PART, kernel};
use crate::corpus::Corpus;
use crate::perf::{Counters, Event};
use crate::random::SplitMix64;
use crate::tokenize::Tokenizer;
use crate::tokenize::slices::Slices;

/// SplitMix64 reads of a step.
const READS: usize = 1 << 18;

/// After so many reads a string is replaced.
const READS_PER_REPLACEMENT: usize = 8;

/// The text whose ids fill the blocks: about half a megabyte of them.
const TEXT_VERSES: usize = 4_000;

/// The workload after its set-up.
struct Run {
    blocks: Blocks,
    strings: Strings,
    random: SplitMix64,
    part: Part,
    counters: Counters,
    faults_at_start: Option<u64>,
    measured: Duration,
    reads: u64,
}

/// Which of the two allocators there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Arena,
    Malloc,
    Both,
}

impl Part {
    fn of(params: &Params) -> Self {
        match params.get(PART) {
            "arena" => Self::Arena,
            "malloc" => Self::Malloc,
            _ => Self::Both,
        }
    }

    /// Bytes in arenas and in strings, of `bytes` in all.
    fn split(self, bytes: usize) -> (usize, usize) {
        match self {
            Self::Arena => (bytes, 0),
            Self::Malloc => (0, bytes),
            Self::Both => (bytes / 2, bytes / 2),
        }
    }
}

/// Sets it up: the strings are there. The arena comes and goes with each step.
///
/// # Errors
/// For a size that is not 8 to 4096 MiB.
pub fn setup(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let part = Part::of(params);
    let (in_blocks, in_strings) = part.split(params.number::<usize>(MIB, 8..=4096)? << 20);
    let corpus = Corpus::load();
    let text: String = corpus.verses()[..TEXT_VERSES].iter().map(|verse| &corpus.text()[verse.clone()]).collect();
    let ids = Slices::new()?.with_ids(&text, <[u32]>::to_vec);
    let counters = Counters::open(&[Event::DtlbLoadMisses]);
    if let Some(unavailable) = counters.unavailable().next() {
        eprintln!("heapgate: {unavailable}");
    }
    Ok(Box::new(Run {
        blocks: Blocks::new(in_blocks, ids),
        strings: Strings::new(corpus, in_strings),
        random: SplitMix64::new(0),
        part,
        counters,
        faults_at_start: None,
        measured: Duration::ZERO,
        reads: 0,
    }))
}

impl Workload for Run {
    fn steps(&self) -> Steps {
        Steps { warmup: 3, measure: 12, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let start = Instant::now();
        let (part, random, strings) = (self.part, &mut self.random, &mut self.strings);
        let checksum = self.blocks.with_batch(|blocks| {
            let mut seen = 0u64;
            for read in 0..READS {
                // What was read decides what is read next.
                let at = random.next_u64() ^ seen;
                let in_block = match part {
                    Part::Arena => true,
                    Part::Malloc => false,
                    Part::Both => read % 2 == 0,
                };
                let value = if in_block { read_block(blocks, at) } else { read_string(strings, at) };
                seen = seen.rotate_left(5) ^ value;
                if part != Part::Arena && read % READS_PER_REPLACEMENT == 0 {
                    strings.replace();
                }
            }
            seen
        });
        self.measured += start.elapsed();
        self.reads += READS as u64;
        Work { units: READS as u64, checksum }
    }

    fn measure_begins(&mut self) {
        (self.measured, self.reads) = (Duration::ZERO, 0);
        self.faults_at_start = kernel::minor_faults();
        self.counters.start();
    }

    fn figures(&mut self, figures: &mut Figures) {
        let seconds = self.measured.as_secs_f64();
        if let Some(misses) = self.counters.read()[0]
            && seconds > 0.0
        {
            figures.set("dtlb_load_misses_per_s", misses as f64 / seconds);
        }
        if let Some((after, before)) = kernel::minor_faults().zip(self.faults_at_start) {
            figures.set("minor_faults", (after - before) as f64);
        }
        // With an arena there, as while a batch is read.
        let (share, bytes) = self.blocks.with_batch(|_| (kernel::huge_page_share(), kernel::page_table_bytes()));
        if let Some(share) = share {
            figures.set("huge_page_share", share);
        }
        if let Some(bytes) = bytes {
            figures.set("page_table_bytes", bytes as f64);
        }
        if self.reads > 0 {
            figures.set("read_ns", self.measured.as_nanos() as f64 / self.reads as f64);
        }
    }
}

fn read_block(blocks: &[&[u32]], at: u64) -> u64 {
    let block = blocks[scaled(at, blocks.len())];
    // The low bits, where the high ones chose the block.
    u64::from(block[at as usize % block.len()])
}

fn read_string(strings: &Strings, at: u64) -> u64 {
    let string = strings.get(scaled(at, strings.count())).as_bytes();
    u64::from(string[at as usize % string.len()])
}

/// `at`, any number, as one below `count`.
fn scaled(at: u64, count: usize) -> usize {
    ((u128::from(at) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_part_the_bytes_are_the_same() {
        for part in [Part::Arena, Part::Malloc, Part::Both] {
            let (blocks, strings) = part.split(64 << 20);
            assert_eq!(blocks + strings, 64 << 20);
        }
    }
}
