//! The load: which text is asked for, when it is meant to be sent, and the queue it goes into.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batcher::Batcher;
use crate::corpus::Corpus;
use crate::random::SplitMix64;

/// The book whose verses are asked for: Numbers, where many verses are near one another ("his offering was one silver
/// charger").
const BOOK: &str = "Numbers";
/// Verses it has.
pub const VERSES: usize = 1_288;

const SEED: u64 = 20_260_103;

/// A drawn load: the same in every run.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    texts: Vec<String>,
    /// For each request the number of its text, and when it is meant to be sent, ns from the start.
    requests: Vec<(usize, u64)>,
}

impl Load {
    /// Draws `requests` that come at `rate` per second, independently of one another (a Poisson process), and ask for
    /// one of `texts` verses, the i-th most popular with a chance in proportion to 1/i (Zipf).
    ///
    /// # Panics
    /// If there are more `texts` than [`VERSES`].
    #[must_use]
    pub fn draw(rate: f64, requests: usize, texts: usize) -> Self {
        let corpus = Corpus::load();
        let book = corpus.sections().iter().find(|section| section.title == BOOK).expect("the Bible has it");
        let mut verses: Vec<String> = corpus.text()[book.span.clone()].lines().map(str::to_owned).collect();
        assert!(texts <= verses.len(), "{texts} of {}", verses.len());

        let mut random = SplitMix64::new(SEED);
        // Which verse is popular has nothing to do with where it stands (Fisher and Yates).
        for i in (1..verses.len()).rev() {
            verses.swap(i, (random.unit() * (i + 1) as f64) as usize);
        }
        verses.truncate(texts);

        let mut cumulative = Vec::with_capacity(texts);
        let mut sum = 0.0;
        for i in 1..=texts {
            sum += 1.0 / i as f64;
            cumulative.push(sum);
        }
        let mut at_s = 0.0;
        let requests = (0..requests)
            .map(|_| {
                at_s -= (1.0 - random.unit()).ln() / rate;
                let drawn = random.unit() * sum;
                (cumulative.partition_point(|&upto| upto <= drawn).min(texts - 1), (at_s * 1e9) as u64)
            })
            .collect();
        Self { texts: verses, requests }
    }

    /// All texts that may be asked for.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The number of the text that request `id` asks for.
    #[must_use]
    pub fn text_of(&self, id: usize) -> usize {
        self.requests[id].0
    }

    /// What request `id` asks for.
    #[must_use]
    pub fn text(&self, id: usize) -> &str {
        &self.texts[self.text_of(id)]
    }

    /// When request `id` is meant to be sent, ns from the start.
    #[must_use]
    pub fn intended_ns(&self, id: usize) -> u64 {
        self.requests[id].1
    }

    /// Sends every request at its instant, or as soon after as this thread runs; then closes the queue.
    pub fn send(&self, queue: &Queue, start: Instant) {
        for (id, &(_, intended_ns)) in self.requests.iter().enumerate() {
            let intended = Duration::from_nanos(intended_ns);
            if let Some(early) = intended.checked_sub(start.elapsed()) {
                std::thread::sleep(early);
            }
            let sent_ns = start.elapsed().as_nanos() as u64;
            queue.put(Taken { id, sent_ns, late_ns: sent_ns.saturating_sub(intended_ns) });
        }
        queue.close();
    }
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub id: usize,
    /// When it was sent, ns from the start.
    pub sent_ns: u64,
    /// How long after its intended instant that was.
    pub late_ns: u64,
}

/// Requests on their way, oldest first. It has room for all of them and never grows.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    requests: VecDeque<Taken>,
    closed: bool,
}

impl Queue {
    /// Room for `requests`.
    #[must_use]
    pub fn new(requests: usize) -> Self {
        let state = State { requests: VecDeque::with_capacity(requests), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The state is whole whenever the lock is free, whoever panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a request.
    pub fn put(&self, request: Taken) {
        self.lock().requests.push_back(request);
        self.changed.notify_one();
    }

    /// Says that no more will come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for requests and moves them to `taken`, until `batcher` has enough; with some `waiting` already, no longer
    /// than it lets them. `false` if the queue is closed and empty.
    pub fn take(&self, waiting: usize, batcher: &mut Batcher, start: Instant, taken: &mut Vec<Taken>) -> bool {
        let mut state = self.lock();
        while state.requests.is_empty() && !state.closed {
            if waiting == 0 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let patience = batcher.patience(start);
            if patience.is_zero() {
                return true;
            }
            let (woken, timeout) = self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() {
                break;
            }
        }
        for _ in waiting..batcher.limit() {
            let Some(request) = state.requests.pop_front() else { break };
            batcher.saw(&request);
            taken.push(request);
        }
        !(state.closed && state.requests.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verses_are_as_many_as_the_parameter_allows() {
        assert_eq!(Load::draw(1.0, 1, VERSES).texts().len(), VERSES);
    }

    #[test]
    fn a_load_is_the_same_every_time() {
        assert_eq!(Load::draw(100.0, 50, 20), Load::draw(100.0, 50, 20));
    }

    #[test]
    fn requests_come_at_their_rate() {
        let load = Load::draw(1000.0, 10_000, 10);
        let seconds = load.intended_ns(9_999) as f64 / 1e9;
        assert!((9.5..10.5).contains(&seconds), "{seconds}");
        assert!((1..10_000).all(|id| load.intended_ns(id - 1) <= load.intended_ns(id)));
    }

    #[test]
    fn popularity_falls_as_one_over_the_rank() {
        let load = Load::draw(1000.0, 20_000, 100);
        let count = |rank: usize| load.requests.iter().filter(|request| request.0 == rank).count() as f64;
        assert!((1.8..2.2).contains(&(count(0) / count(1))), "{}", count(0) / count(1));
        assert!((8.0..12.5).contains(&(count(0) / count(9))), "{}", count(0) / count(9));
    }
}
