//! What `heapgate top` has seen and what its user has chosen. Pure: time and readings come from outside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use heapgate_core::stats::histogram;
use heapgate_segment::histogram::bucket_bounds;

use super::columns::Column;
use super::source::{Look, ProcessId, Reading, Stalls};

/// How long a process that has ended is still shown, greyed.
pub const KEEP_DEAD: Duration = Duration::from_secs(15);

/// Points of a sparkline that are kept: more than any terminal is wide.
const KEPT_POINTS: usize = 512;

/// Everything that is shown.
#[derive(Debug)]
pub struct State {
    processes: BTreeMap<ProcessId, Process>,
    /// Those that were shown as dead long enough, while their files are still there.
    forgotten: BTreeSet<ProcessId>,
    /// What is wrong now: files that can't be read, or the folder.
    pub problems: Vec<String>,
    /// Where processes are looked for.
    pub folder: String,
    /// How often.
    pub interval: Duration,
    pub sort: Column,
    /// Against the column's own direction.
    pub reversed: bool,
    pub details: bool,
    pub paused: bool,
    chosen: Option<ProcessId>,
}

/// One process over time.
#[derive(Debug, Clone)]
pub struct Process {
    /// As it was last found.
    pub reading: Reading,
    /// Over the last interval; absent at the first look.
    pub rates: Option<Rates>,
    pub points: VecDeque<Point>,
    /// When it was first found dead.
    pub dead_since: Option<Duration>,
    at: Duration,
}

/// What happened between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub allocations_per_s: f64,
    /// Of uninterrupted calls, ns; absent where none was timed.
    pub stall_p99_ns: Option<f64>,
    pub stall_max_ns: Option<f64>,
}

/// What sparklines are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub live_bytes: f64,
    pub rss_bytes: f64,
    pub allocations_per_s: f64,
    pub stall_max_ns: f64,
}

/// What a user may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    SortLeft,
    SortRight,
    Reverse,
    Details,
    Pause,
    Quit,
}

/// Rows of a page.
const PAGE: isize = 10;

impl State {
    pub fn new(folder: String, interval: Duration) -> Self {
        Self {
            processes: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            problems: Vec::new(),
            folder,
            interval,
            sort: Column::LiveBytes,
            reversed: false,
            details: true,
            paused: false,
            chosen: None,
        }
    }

    /// Takes in what was found at `now`.
    pub fn observe(&mut self, now: Duration, look: Look) {
        self.problems = look.unreadable;
        let mut found = BTreeSet::new();
        for reading in look.processes {
            found.insert(reading.id);
            if self.forgotten.contains(&reading.id) {
                continue;
            }
            match self.processes.get_mut(&reading.id) {
                Some(process) => process.advance(now, reading),
                None => {
                    self.processes.insert(reading.id, Process::new(now, reading));
                }
            }
        }
        for (id, process) in &mut self.processes {
            // Its file was cleared away.
            if !found.contains(id) && process.dead_since.is_none() {
                process.die(now);
            }
        }
        let forgotten = &mut self.forgotten;
        self.processes.retain(|id, process| {
            let keep = process.dead_since.is_none_or(|since| now.saturating_sub(since) < KEEP_DEAD);
            if !keep {
                forgotten.insert(*id);
            }
            keep
        });
        self.forgotten.retain(|id| found.contains(id));
    }

    /// The processes as they are listed.
    pub fn rows(&self) -> Vec<&Process> {
        let mut rows: Vec<&Process> = self.processes.values().collect();
        rows.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            let order = if self.reversed { order.reverse() } else { order };
            // Among equals always the same order, or rows would jump.
            order.then_with(|| (&a.reading.service, a.reading.id).cmp(&(&b.reading.service, b.reading.id)))
        });
        rows
    }

    /// Processes that live, and that are dead.
    pub fn counts(&self) -> (usize, usize) {
        let dead = self.processes.values().filter(|process| process.is_dead()).count();
        (self.processes.len() - dead, dead)
    }

    /// The row that is chosen: that of the process that was, wherever it has moved to; else the first.
    pub fn chosen_row(&self, rows: &[&Process]) -> usize {
        let chosen = self.chosen.and_then(|id| rows.iter().position(|process| process.reading.id == id));
        chosen.unwrap_or(0)
    }

    /// Does what was asked for; false to end.
    pub fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Up => self.choose(|row| row - 1),
            Action::Down => self.choose(|row| row + 1),
            Action::PageUp => self.choose(|row| row - PAGE),
            Action::PageDown => self.choose(|row| row + PAGE),
            Action::First => self.choose(|_| 0),
            Action::Last => self.choose(|_| isize::MAX),
            Action::SortLeft => self.sort_by(self.sort.beside(-1)),
            Action::SortRight => self.sort_by(self.sort.beside(1)),
            Action::Reverse => self.reversed = !self.reversed,
            Action::Details => self.details = !self.details,
            Action::Pause => self.paused = !self.paused,
            Action::Quit => return false,
        }
        true
    }

    fn choose(&mut self, row: impl Fn(isize) -> isize) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        let row = row(self.chosen_row(&rows) as isize).clamp(0, last as isize);
        self.chosen = Some(rows[row as usize].reading.id);
    }

    fn sort_by(&mut self, column: Column) {
        (self.sort, self.reversed) = (column, false);
    }
}

impl Process {
    fn new(now: Duration, reading: Reading) -> Self {
        let dead_since = (!reading.alive).then_some(now);
        let mut process = Self { reading, rates: None, points: VecDeque::new(), dead_since, at: now };
        process.remember();
        process
    }

    pub fn is_dead(&self) -> bool {
        self.dead_since.is_some()
    }

    fn advance(&mut self, now: Duration, reading: Reading) {
        // What a dead process left stays as it is: its last state, without rates.
        if self.is_dead() {
            return;
        }
        let passed = now.saturating_sub(self.at);
        if passed.is_zero() {
            return;
        }
        if !reading.alive {
            // Its last counts; what it had resident is known from before only.
            let rss_bytes = self.reading.rss_bytes;
            self.reading = Reading { rss_bytes, ..reading };
            return self.die(now);
        }
        let calls = reading.allocations.saturating_sub(self.reading.allocations);
        let stalls = interval(&self.reading.stalls, &reading.stalls);
        self.rates = Some(Rates {
            allocations_per_s: calls as f64 / passed.as_secs_f64(),
            stall_p99_ns: quantile_ns(&stalls, reading.stalls.ticks_per_second, 0.99),
            stall_max_ns: quantile_ns(&stalls, reading.stalls.ticks_per_second, 1.0),
        });
        (self.reading, self.at) = (reading, now);
        self.remember();
    }

    fn die(&mut self, now: Duration) {
        self.reading.alive = false;
        self.rates = None;
        self.dead_since = Some(now);
    }

    fn remember(&mut self) {
        let rates = self.rates;
        self.points.push_back(Point {
            live_bytes: self.reading.live_bytes as f64,
            rss_bytes: self.reading.rss_bytes.unwrap_or(0) as f64,
            allocations_per_s: rates.map_or(0.0, |rates| rates.allocations_per_s),
            stall_max_ns: rates.and_then(|rates| rates.stall_max_ns).unwrap_or(0.0),
        });
        if self.points.len() > KEPT_POINTS {
            self.points.pop_front();
        }
    }
}

/// Uninterrupted calls of all operations between two looks.
fn interval(before: &Stalls, now: &Stalls) -> Vec<(u32, u64)> {
    let before: BTreeMap<u32, u64> = histogram::total(before.clean.iter().map(Vec::as_slice)).into_iter().collect();
    histogram::total(now.clean.iter().map(Vec::as_slice))
        .into_iter()
        .map(|(bucket, calls)| (bucket, calls.saturating_sub(before.get(&bucket).copied().unwrap_or(0))))
        .filter(|bucket| bucket.1 > 0)
        .collect()
}

fn quantile_ns(buckets: &[(u32, u64)], ticks_per_second: f64, q: f64) -> Option<f64> {
    if buckets.is_empty() || ticks_per_second <= 0.0 {
        return None;
    }
    Some(histogram::quantile(buckets, q)? / ticks_per_second * 1e9)
}

/// Bounds of the columns of the histogram in the details, ns: a call is in the first whose bound it does not reach.
pub const DECADES_NS: [f64; 6] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// Calls by decade of their time; those of the last are as long or longer than all bounds.
pub fn decades(buckets: &[(u32, u64)], ticks_per_second: f64) -> [u64; DECADES_NS.len() + 1] {
    let mut calls = [0u64; DECADES_NS.len() + 1];
    if ticks_per_second > 0.0 {
        for &(bucket, count) in buckets {
            let ns = bucket_bounds(bucket as usize).0 as f64 / ticks_per_second * 1e9;
            let column = DECADES_NS.iter().position(|&bound| ns < bound).unwrap_or(DECADES_NS.len());
            calls[column] = calls[column].saturating_add(count);
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, look, reading};
    use super::*;

    fn state() -> State {
        State::new("/run/heapgate".into(), Duration::from_secs(1))
    }

    fn pids(state: &State) -> Vec<u32> {
        state.rows().iter().map(|process| process.reading.id.pid).collect()
    }

    #[test]
    fn rates_are_of_the_last_interval() {
        let mut state = state();
        state.observe(at(0), look([reading(1)]));
        assert_eq!(state.rows()[0].rates, None);
        let mut later = reading(1);
        later.allocations += 5_000;
        // One call of 1 ms, at a tick a nanosecond.
        later.stalls.clean[0].push((heapgate_segment::histogram::bucket_of(1_000_000) as u32, 1));
        state.observe(at(2), look([later.clone()]));
        let rates = state.rows()[0].rates.unwrap();
        assert_eq!(rates.allocations_per_s, 2_500.0);
        assert!((rates.stall_max_ns.unwrap() / 1e6 - 1.0).abs() < 0.04, "{rates:?}");
        state.observe(at(3), look([later]));
        let rates = state.rows()[0].rates.unwrap();
        assert_eq!((rates.allocations_per_s, rates.stall_max_ns), (0.0, None), "nothing happened since");
    }

    #[test]
    fn a_dead_process_stays_greyed_then_goes_though_its_file_stays() {
        let mut state = state();
        state.observe(at(0), look([reading(1), reading(2)]));
        let mut dead = reading(1);
        (dead.alive, dead.rss_bytes) = (false, None);
        state.observe(at(1), look([dead.clone(), reading(2)]));
        assert_eq!(state.counts(), (1, 1));
        let rows = state.rows();
        let shown = rows.iter().find(|process| process.reading.id.pid == 1).unwrap();
        assert!(shown.is_dead() && shown.reading.rss_bytes == reading(1).rss_bytes && shown.rates.is_none());
        for second in 2..40 {
            state.observe(at(second), look([dead.clone(), reading(2)]));
            let expected = if at(second) < at(1) + KEEP_DEAD { 2 } else { 1 };
            assert_eq!(state.rows().len(), expected, "after {second} s");
        }
    }

    #[test]
    fn a_process_whose_file_is_gone_is_dead() {
        let mut state = state();
        state.observe(at(0), look([reading(1)]));
        state.observe(at(1), look([]));
        assert_eq!(state.counts(), (0, 1));
    }

    #[test]
    fn a_number_that_is_given_again_is_another_process() {
        let mut state = state();
        state.observe(at(0), look([reading(1)]));
        let mut other = reading(1);
        other.id.start_time += 1;
        other.allocations = 0;
        state.observe(at(1), look([other]));
        assert_eq!(state.counts(), (1, 1));
        assert!(state.rows().iter().all(|process| process.rates.is_none()), "nothing is subtracted across them");
    }

    #[test]
    fn what_is_chosen_stays_chosen_wherever_it_moves() {
        let mut state = state();
        let readings = || [1, 2, 3].map(reading);
        state.observe(at(0), look(readings()));
        assert_eq!(pids(&state), [3, 2, 1], "the most live bytes first");
        state.act(Action::Down);
        let mut moved = readings();
        moved[1].live_bytes = 0;
        state.observe(at(1), look(moved));
        assert_eq!(pids(&state), [3, 1, 2]);
        assert_eq!(state.chosen_row(&state.rows()), 2);
        state.act(Action::PageDown);
        assert_eq!(state.chosen_row(&state.rows()), 2, "there is nothing below the last");
        state.act(Action::First);
        assert_eq!(state.chosen_row(&state.rows()), 0);
    }

    #[test]
    fn any_column_sorts_either_way() {
        let mut state = state();
        state.observe(at(0), look([1, 2, 3].map(reading)));
        state.sort = Column::Pid;
        assert_eq!(pids(&state), [1, 2, 3]);
        state.act(Action::Reverse);
        assert_eq!(pids(&state), [3, 2, 1]);
        let start = state.sort;
        for _ in 0..Column::ALL.len() {
            state.act(Action::SortRight);
        }
        assert_eq!(state.sort, start, "round and round");
        state.act(Action::SortLeft);
        assert_eq!(state.sort, Column::Service);
        assert!(!state.act(Action::Quit));
    }

    #[test]
    fn decades_count_every_call_once() {
        let buckets: Vec<(u32, u64)> = [50u64, 150, 5_000, 2_000_000, 90_000_000]
            .map(|ns| (heapgate_segment::histogram::bucket_of(ns) as u32, ns % 7 + 1))
            .to_vec();
        let counted = decades(&buckets, 1e9);
        assert_eq!(counted.iter().sum::<u64>(), histogram::count(&buckets));
        assert_eq!(counted.map(|calls| calls > 0), [true, true, true, false, false, true, true]);
    }
}
