//! The steps of `residency/stream`: fifty a second, in cycles of fifty. A document is built in a burst, stays while
//! the window slides over it, and goes section by section.

use std::time::Duration;

use heapgate_bench::{Error, Figures, Params, Steps, Work, Workload};

use super::cache::Cache;
use super::schedule::Schedule;
use super::tree::Document;
use super::window::Window;
use super::{DURATION, MAX_DURATION_S};
use crate::corpus::Corpus;
use crate::owned::summary;
use crate::random::SplitMix64;
use crate::tokenize::pieces::Pieces;

/// Steps a second.
pub const RATE: u64 = 50;
/// Steps from one document to the next.
pub const CYCLE: u64 = 50;
/// The first steps of a cycle build the document,
const BURST_STEPS: u64 = 10;
/// the last ones release it.
const RELEASE_STEPS: u64 = 25;
/// A document has 50 sections of 24 paragraphs: 1,200 verses, about 40,000 tokens.
const SECTIONS: u64 = 50;
const PARAGRAPHS: usize = 24;
/// As much as a cache of tokenized texts is given by the source.
const CACHE_BYTES: usize = 10_000_000;
/// Texts looked up in the cache each step.
const LOOKUPS: u32 = 40;
/// Words of context.
const WINDOW_WORDS: usize = 1_024;

/// The workload after its set-up.
#[derive(Debug)]
struct Stream {
    corpus: Corpus,
    pieces: Pieces,
    document: Document,
    cache: Cache,
    window: Window,
    schedule: Schedule,
    random: SplitMix64,
    measured_steps: u64,
    taken: u64,
    tree_tokens: u64,
}

/// Sets it up, with the cache full, as it is in a service that has run for a while.
///
/// # Errors
/// For a duration that is not 1 s to a day.
pub fn setup(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let duration_s = params.number(DURATION, 1..=MAX_DURATION_S)?;
    let mut stream = Stream {
        corpus: Corpus::load(),
        pieces: Pieces::load(),
        document: Document::default(),
        cache: Cache::new(CACHE_BYTES),
        window: Window::new(WINDOW_WORDS),
        schedule: Schedule::new(Duration::from_secs(1) / RATE as u32),
        random: SplitMix64::new(0),
        measured_steps: RATE * duration_s,
        taken: 0,
        tree_tokens: 0,
    };
    while !stream.cache.is_full() {
        stream.look_up();
    }
    stream.schedule.restart();
    Ok(Box::new(stream))
}

impl Stream {
    /// Asks the cache for one text, of which some are asked for far more often than others.
    fn look_up(&mut self) -> Work {
        let verses = self.corpus.verses();
        let key = popular(&mut self.random, verses.len() as u64);
        let text = &self.corpus.text()[verses[key as usize].clone()];
        let (words, missed) = self.cache.get(&self.pieces, key as u32, text);
        let (tokens, checksum) = summary(words);
        Work { units: if missed { tokens } else { 0 }, checksum }
    }

    fn build(&mut self, cycle: u64, step: u64) -> Work {
        let mut work = Work::default();
        let verses = self.corpus.verses();
        let each = SECTIONS / BURST_STEPS;
        for section in step * each..(step + 1) * each {
            // Documents follow one another through the corpus, and start over at its end.
            let first = (cycle * SECTIONS + section) as usize * PARAGRAPHS;
            let paragraphs = (first..first + PARAGRAPHS).map(|i| &self.corpus.text()[verses[i % verses.len()].clone()]);
            let title = format!("Document {cycle}, section {section}");
            let (tokens, checksum) = self.document.push_section(&self.pieces, title, paragraphs);
            add(&mut work, Work { units: tokens, checksum });
        }
        if step + 1 == BURST_STEPS {
            self.tree_tokens = self.document.tokens();
        }
        work
    }

    fn slide(&mut self, section: u64) -> Work {
        if let Some(section) = self.document.section_around(section as usize) {
            self.window.slide(section.paragraphs.iter().flat_map(|paragraph| &paragraph.words));
        }
        let (text, ids, checksum) = self.window.context();
        Work { units: 0, checksum: checksum ^ (text.len() + ids.len()) as u64 }
    }

    fn release(&mut self) {
        for _ in 0..SECTIONS / RELEASE_STEPS {
            drop(self.document.pop_section());
        }
    }
}

impl Workload for Stream {
    fn steps(&self) -> Steps {
        Steps { warmup: 2 * CYCLE, measure: self.measured_steps, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let due = self.schedule.wait();
        let (cycle, step) = (self.taken / CYCLE, self.taken % CYCLE);
        self.taken += 1;
        let mut work = Work::default();
        for _ in 0..LOOKUPS {
            let looked_up = self.look_up();
            add(&mut work, looked_up);
        }
        if step < BURST_STEPS {
            let built = self.build(cycle, step);
            add(&mut work, built);
        }
        let slid = self.slide(step);
        add(&mut work, slid);
        if step >= CYCLE - RELEASE_STEPS {
            self.release();
        }
        self.schedule.ended(due);
        work
    }

    fn measure_begins(&mut self) {
        self.cache.forget_lookups();
        self.schedule.restart();
    }

    fn figures(&mut self, figures: &mut Figures) {
        let responses = self.schedule.responses_ns();
        if !responses.is_empty() {
            figures.set("response_p50_ns", responses.value_at_quantile(0.50) as f64);
            figures.set("response_p99_ns", responses.value_at_quantile(0.99) as f64);
            figures.set("response_max_ns", responses.max() as f64);
        }
        figures.set("late_steps", self.schedule.late() as f64);
        if let Some(share) = self.cache.hit_share() {
            figures.set("cache_hit_share", share);
        }
        figures.set("cache_bytes", self.cache.bytes() as f64);
        figures.set("tree_tokens", self.tree_tokens as f64);
    }
}

fn add(sum: &mut Work, work: Work) {
    sum.units += work.units;
    sum.checksum = sum.checksum.rotate_left(1) ^ work.checksum;
}

/// A number below `count`; half of the time one of an eighth of them. The eighth is spread over all of them by a factor
/// that has nothing in common with `count`, since neighbours in the corpus are alike in length.
fn popular(random: &mut SplitMix64, count: u64) -> u64 {
    const SPREAD: u64 = 0x1_0001;
    let uniform = random.unit();
    let rank = (uniform * uniform * uniform * count as f64) as u64;
    rank.min(count - 1) * SPREAD % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_lookups_are_for_an_eighth_of_the_texts() {
        let mut random = SplitMix64::new(1);
        let mut counts = vec![0u32; 8_000];
        for _ in 0..100_000 {
            counts[popular(&mut random, 8_000) as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let top: u32 = counts[..1_000].iter().sum();
        assert!((49_000..=53_000).contains(&top), "{top}");
    }

    #[test]
    fn phases_of_a_cycle_fit_and_release_what_was_built() {
        const { assert!(BURST_STEPS + RELEASE_STEPS < CYCLE) };
        const { assert!(SECTIONS.is_multiple_of(BURST_STEPS) && SECTIONS.is_multiple_of(RELEASE_STEPS)) };
    }
}
