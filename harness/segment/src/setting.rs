//! Settings of a running process: their names, bounds and numbers, for who asks for a change (`heapgate tune`) and who makes
//! it (heapgate-alloc's feature `control`). docs/steering.md explains each.
//!
//! ```
//! use heapgate_segment::setting::{Change, Setting};
//! let change: Change = "dirty_decay_ms=0".parse().unwrap();
//! assert_eq!((change.setting, change.value), (Setting::DirtyDecayMs, 0));
//! assert!("dirty_decay_ms=-2".parse::<Change>().unwrap_err().to_string().contains("-1 to 3600000"));
//! ```

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use crate::limit::{LEAST_SOFT_LIMIT, SoftLimit};

/// Something that can be set while the process runs. Numbers are a part of the segment's ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u64)]
pub enum Setting {
    /// How long jemalloc keeps freed pages as they are, ms; -1: for good.
    DirtyDecayMs = 0,
    /// How long it keeps them after it has told the kernel that it may take them, ms; -1: for good.
    MuzzyDecayMs = 1,
    /// Whether threads of jemalloc's own give pages back.
    BackgroundThread = 2,
    /// Give all unused pages back now. An action; what it gave back is its answer, bytes.
    Purge = 3,
    /// How much is recorded: [`crate::layout::Level`].
    Level = 4,
    /// Time between two trace lines, ms.
    TraceIntervalMs = 5,
    /// Whether jemalloc's heap profiler samples.
    HeapProfile = 6,
    /// Write its profile to a file. An action.
    HeapProfileDump = 7,
    /// What resident memory is kept below, bytes; 0: nothing.
    SoftLimitBytes = 8,
}

/// The environment variable that lets a process be steered, where the program leaves it to the operator: `1`.
pub const CONTROL_VARIABLE: &str = "HEAPGATE_CONTROL";

/// Settings that a segment has room for.
pub const MAX_SETTINGS: usize = 16;

/// An hour: what is to stay longer can stay for good.
const LONGEST_DECAY_MS: i64 = 60 * 60 * 1000;

/// More trace lines a second nobody reads, and each costs about a millisecond.
pub const SHORTEST_TRACE_INTERVAL_MS: u64 = 10;

/// A day: beyond it, somebody has taken one unit for another.
pub const LONGEST_TRACE_INTERVAL_MS: u64 = 24 * 60 * 60 * 1000;

/// A PiB: no machine has as much.
const MOST_SOFT_LIMIT: i64 = 1 << 50;

/// Most bytes of the text that goes with a request: the path of a profile.
pub const MAX_PATH_BYTES: usize = 127;

impl Setting {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::DirtyDecayMs,
        Self::MuzzyDecayMs,
        Self::BackgroundThread,
        Self::Purge,
        Self::Level,
        Self::TraceIntervalMs,
        Self::HeapProfile,
        Self::HeapProfileDump,
        Self::SoftLimitBytes,
    ];

    /// Its name on the command line and in metrics; jemalloc's, where it is jemalloc's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DirtyDecayMs => "dirty_decay_ms",
            Self::MuzzyDecayMs => "muzzy_decay_ms",
            Self::BackgroundThread => "background_thread",
            Self::Purge => "purge",
            Self::Level => "level",
            Self::TraceIntervalMs => "trace_interval_ms",
            Self::HeapProfile => "heap_profile",
            Self::HeapProfileDump => "heap_profile_dump",
            Self::SoftLimitBytes => "soft_limit",
        }
    }

    /// The one of that number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether it is done once, and has no value that stays.
    #[must_use]
    pub const fn is_action(self) -> bool {
        matches!(self, Self::Purge | Self::HeapProfileDump)
    }

    /// The values that it may have: its floor and its ceiling.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<i64> {
        match self {
            Self::DirtyDecayMs | Self::MuzzyDecayMs => -1..=LONGEST_DECAY_MS,
            Self::BackgroundThread | Self::HeapProfile => 0..=1,
            Self::Purge | Self::HeapProfileDump => 1..=1,
            Self::Level => 0..=HIGHEST_LEVEL,
            Self::TraceIntervalMs => SHORTEST_TRACE_INTERVAL_MS as i64..=LONGEST_TRACE_INTERVAL_MS as i64,
            Self::SoftLimitBytes => 0..=MOST_SOFT_LIMIT,
        }
    }

    /// Whether it may have `value`.
    #[must_use]
    pub fn takes(self, value: i64) -> bool {
        let least = LEAST_SOFT_LIMIT as i64;
        self.range().contains(&value) && (self != Self::SoftLimitBytes || value == 0 || value >= least)
    }

    /// What it takes, for people.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::DirtyDecayMs | Self::MuzzyDecayMs => {
                "ms from -1 to 3600000 (-1: pages are never given back; 0: at once)"
            }
            Self::BackgroundThread | Self::HeapProfile => "true or false",
            Self::Purge => "no value",
            Self::Level => "off, count, sampled, exact-alloc or exact",
            Self::TraceIntervalMs => "ms from 10 to 86400000",
            Self::HeapProfileDump => "the path of a file, up to 127 bytes",
            Self::SoftLimitBytes => "bytes such as 8GiB (1 MiB at least), or off",
        }
    }

    /// `value` as people write it.
    #[must_use]
    pub fn show(self, value: i64) -> String {
        match self {
            Self::BackgroundThread | Self::HeapProfile => (value != 0).to_string(),
            Self::Level => LEVELS.get(usize::try_from(value).unwrap_or(usize::MAX)).map_or("off", |name| name).into(),
            Self::SoftLimitBytes if value == 0 => "off".into(),
            _ => value.to_string(),
        }
    }

    fn parse(self, text: &str) -> Option<i64> {
        let value = match self {
            Self::BackgroundThread | Self::HeapProfile => match text {
                "true" | "1" | "on" => 1,
                "false" | "0" | "off" => 0,
                _ => return None,
            },
            Self::Purge => return matches!(text, "" | "now").then_some(1),
            Self::Level => LEVELS.iter().position(|&name| name == text)? as i64,
            Self::HeapProfileDump => return is_path(text).then_some(1),
            Self::SoftLimitBytes => match text {
                "off" | "0" => 0,
                _ => i64::try_from(text.parse::<SoftLimit>().ok()?.bytes(None)?).ok()?,
            },
            Self::DirtyDecayMs | Self::MuzzyDecayMs | Self::TraceIntervalMs => text.parse().ok()?,
        };
        self.takes(value).then_some(value)
    }
}

/// Names of the levels, in the order of their numbers: [`crate::layout::Level`] says what each is.
const LEVELS: [&str; 5] = ["off", "count", "sampled", "exact-alloc", "exact"];

const HIGHEST_LEVEL: i64 = LEVELS.len() as i64 - 1;

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_PATH_BYTES && !text.contains(char::is_control)
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of what.
    pub setting: Setting,
    /// To what.
    pub value: i64,
    /// A path, where it takes one.
    pub text: String,
}

/// Why a text asks for no change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadChange {
    /// There is no such setting.
    Unknown(String),
    /// It can't have that value.
    Value {
        /// Which.
        setting: Setting,
        /// What it was to be.
        value: String,
    },
}

impl fmt::Display for BadChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                let names = Setting::ALL.map(Setting::name).join(", ");
                write!(f, "there is no setting '{}'; there are: {names}", name.escape_debug())
            }
            Self::Value { setting, value } => {
                write!(f, "{setting} can't be '{}'; it takes {}", value.escape_debug(), setting.expected())
            }
        }
    }
}

impl core::error::Error for BadChange {}

impl FromStr for Change {
    type Err = BadChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let found = Setting::ALL.into_iter().find(|setting| setting.name() == name);
        let setting = found.ok_or_else(|| BadChange::Unknown(name.to_owned()))?;
        let number = setting.parse(value).ok_or_else(|| BadChange::Value { setting, value: value.to_owned() })?;
        let path = if setting == Setting::HeapProfileDump { value } else { "" };
        Ok(Self { setting, value: number, text: path.to_owned() })
    }
}

/// Settings that belong together. What each costs is in docs/steering.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Pages are kept for good: the fewest stalls, the most memory.
    Lax,
    /// As jemalloc is built.
    Default,
    /// Pages are given back at once: the least memory, the most stalls.
    Strict,
}

impl Preset {
    /// All of them, the one that keeps most first.
    pub const ALL: [Self; 3] = [Self::Lax, Self::Default, Self::Strict];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lax => "lax",
            Self::Default => "default",
            Self::Strict => "strict",
        }
    }

    /// What it sets. `default` is what jemalloc 5.3 is built with, whatever the process was started with.
    #[must_use]
    pub fn changes(self) -> [Change; 2] {
        let (dirty, muzzy) = match self {
            Self::Lax => (-1, -1),
            Self::Default => (10_000, 0),
            Self::Strict => (0, 0),
        };
        let change = |setting, value| Change { setting, value, text: String::new() };
        [change(Setting::DirtyDecayMs, dirty), change(Setting::MuzzyDecayMs, muzzy)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_numbered_in_their_order_and_fit_the_segment() {
        for (number, setting) in Setting::ALL.into_iter().enumerate() {
            assert_eq!(setting as usize, number);
            assert_eq!(Setting::from_number(number as u64), Some(setting));
        }
        assert_eq!(Setting::from_number(Setting::ALL.len() as u64), None);
        assert_eq!(Setting::from_number(u64::MAX), None);
        const { assert!(Setting::ALL.len() <= MAX_SETTINGS) }
    }

    #[test]
    #[cfg(not(loom))]
    fn levels_have_the_numbers_of_the_segments() {
        for level in crate::layout::Level::ALL {
            assert_eq!(LEVELS[level as usize], level.name());
        }
    }

    #[test]
    fn changes_are_read_as_people_write_them() {
        for (text, setting, value) in [
            ("dirty_decay_ms=0", Setting::DirtyDecayMs, 0),
            ("muzzy_decay_ms=-1", Setting::MuzzyDecayMs, -1),
            ("background_thread=true", Setting::BackgroundThread, 1),
            ("purge", Setting::Purge, 1),
            ("level=exact-alloc", Setting::Level, 3),
            ("trace_interval_ms=250", Setting::TraceIntervalMs, 250),
            ("soft_limit=8GiB", Setting::SoftLimitBytes, 8 << 30),
            ("soft_limit=off", Setting::SoftLimitBytes, 0),
        ] {
            let change: Change = text.parse().unwrap();
            assert_eq!((change.setting, change.value), (setting, value), "{text}");
        }
        let dump: Change = "heap_profile_dump=/tmp/a=b.heap".parse().unwrap();
        assert_eq!(dump.text, "/tmp/a=b.heap");
    }

    #[test]
    fn what_a_setting_cannot_be_is_refused_with_what_it_can() {
        let long = format!("heap_profile_dump=/{}", "x".repeat(MAX_PATH_BYTES));
        for text in [
            "dirty_decay_ms",
            "dirty_decay_ms=-2",
            "dirty_decay_ms=3600001",
            "dirty_decay_ms=1s",
            "muzzy_decay_ms=99999999999999999999",
            "background_thread=2",
            "purge=5",
            "level=loud",
            "trace_interval_ms=9",
            "heap_profile_dump",
            "heap_profile_dump=a\nb",
            "soft_limit=80%",
            "soft_limit=4096",
            "soft_limit=9999TiB",
            long.as_str(),
        ] {
            let error = text.parse::<Change>().unwrap_err();
            assert!(matches!(error, BadChange::Value { .. }) && error.to_string().contains("it takes"), "{error}");
        }
        let unknown = "decay=1".parse::<Change>().unwrap_err().to_string();
        assert!(unknown.contains("no setting 'decay'") && unknown.contains("muzzy_decay_ms"), "{unknown}");
    }

    #[test]
    fn presets_ask_for_what_settings_take() {
        for change in Preset::ALL.into_iter().flat_map(Preset::changes) {
            assert!(change.setting.takes(change.value));
        }
    }
}
