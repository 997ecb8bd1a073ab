//! The columns of the list: what each says of a process, and how it sorts.

use std::cmp::Ordering;

use super::number;
use super::state::Process;

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Service,
    Pid,
    Version,
    Allocator,
    Level,
    LiveObjects,
    LiveBytes,
    Rss,
    Rate,
    P99,
    Max,
}

/// What has no value.
const NONE: &str = "-";

impl Column {
    /// All, from left to right.
    pub const ALL: [Self; 11] = [
        Self::Service,
        Self::Pid,
        Self::Version,
        Self::Allocator,
        Self::Level,
        Self::LiveObjects,
        Self::LiveBytes,
        Self::Rss,
        Self::Rate,
        Self::P99,
        Self::Max,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Service => "SERVICE",
            Self::Pid => "PID",
            Self::Version => "VERSION",
            Self::Allocator => "ALLOCATOR",
            Self::Level => "LEVEL",
            Self::LiveObjects => "OBJECTS",
            Self::LiveBytes => "LIVE",
            Self::Rss => "RSS",
            Self::Rate => "ALLOC/S",
            Self::P99 => "P99",
            Self::Max => "MAX",
        }
    }

    /// Columns of the terminal; the service takes what is left.
    pub fn width(self) -> usize {
        match self {
            Self::Service => 0,
            Self::Version => 12,
            Self::Allocator => 14,
            Self::Level => 11,
            _ => 7,
        }
    }

    /// Whether it is left out where there is little room: the details have it.
    pub fn is_extra(self) -> bool {
        matches!(self, Self::Version | Self::Allocator)
    }

    /// Whether it holds numbers, which stand on the right and sort the largest first.
    pub fn is_number(self) -> bool {
        !matches!(self, Self::Service | Self::Version | Self::Allocator | Self::Level)
    }

    /// The column so many places beside it, round and round.
    pub fn beside(self, places: isize) -> Self {
        let index = Self::ALL.iter().position(|&column| column == self).unwrap_or(0) as isize;
        Self::ALL[(index + places).rem_euclid(Self::ALL.len() as isize) as usize]
    }

    /// What it says of `process`.
    pub fn cell(self, process: &Process) -> String {
        let (reading, rates) = (&process.reading, process.rates);
        let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
        // Frees went unseen, so what is live is not known.
        let live = |text: String| if reading.was_off { NONE.to_owned() } else { text };
        match self {
            Self::Service => reading.service.clone(),
            Self::Pid => reading.id.pid.to_string(),
            Self::Version => or_none(Some(reading.version.clone()).filter(|text| !text.is_empty())),
            Self::Allocator => or_none(Some(reading.allocator.clone()).filter(|text| !text.is_empty())),
            Self::Level if process.is_dead() => "dead".to_owned(),
            Self::Level => reading.level.name().to_owned(),
            Self::LiveObjects => live(number::count(reading.live_objects as f64)),
            Self::LiveBytes => live(number::bytes(reading.live_bytes as f64)),
            Self::Rss => or_none(reading.rss_bytes.map(|bytes| number::bytes(bytes as f64))),
            Self::Rate => or_none(rates.map(|rates| number::count(rates.allocations_per_s))),
            Self::P99 => or_none(rates.and_then(|rates| rates.stall_p99_ns).map(number::nanos)),
            Self::Max => or_none(rates.and_then(|rates| rates.stall_max_ns).map(number::nanos)),
        }
    }

    /// The order of two processes by this column: texts from A, numbers from the largest, but process numbers from the
    /// smallest; what has no value last.
    pub fn compare(self, a: &Process, b: &Process) -> Ordering {
        let (one, two) = (&a.reading, &b.reading);
        match self {
            Self::Service => one.service.cmp(&two.service),
            Self::Pid => one.id.pid.cmp(&two.id.pid),
            Self::Version => one.version.cmp(&two.version),
            Self::Allocator => one.allocator.cmp(&two.allocator),
            Self::Level => a.is_dead().cmp(&b.is_dead()).then(two.level.cmp(&one.level)),
            number => number.value(b).total_cmp(&number.value(a)),
        }
    }

    fn value(self, process: &Process) -> f64 {
        let (reading, rates) = (&process.reading, process.rates);
        let value = match self {
            Self::LiveObjects => Some(reading.live_objects as f64).filter(|_| !reading.was_off),
            Self::LiveBytes => Some(reading.live_bytes as f64).filter(|_| !reading.was_off),
            Self::Rss => reading.rss_bytes.map(|bytes| bytes as f64),
            Self::Rate => rates.map(|rates| rates.allocations_per_s),
            Self::P99 => rates.and_then(|rates| rates.stall_p99_ns),
            Self::Max => rates.and_then(|rates| rates.stall_max_ns),
            _ => None,
        };
        value.unwrap_or(f64::NEG_INFINITY)
    }
}

/// The columns that fit into `width`, each with its own.
pub fn fitting(width: usize) -> Vec<(Column, usize)> {
    /// From here on there is room for all.
    const WIDE: usize = 110;
    /// The narrowest that says which service it is.
    const NARROWEST_SERVICE: usize = 8;
    let mut columns: Vec<(Column, usize)> = Column::ALL
        .into_iter()
        .filter(|column| width >= WIDE || !column.is_extra())
        .map(|column| (column, column.width()))
        .collect();
    let others: usize = columns.iter().map(|column| column.1 + 1).sum::<usize>() - 1;
    columns[0].1 = width.saturating_sub(others).max(NARROWEST_SERVICE);
    columns
}
