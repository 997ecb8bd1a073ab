//! What a trace line says. Nothing here allocates.

use std::fmt::{self, Write as _};

use heapgate_segment::clock::Anchor;
use heapgate_segment::histogram::{BUCKETS, bucket_bounds};
use heapgate_segment::layout::MAX_TEXT_BYTES;
use heapgate_segment::setting::Setting;
use heapgate_segment::text::Text;
use heapgate_segment::trace_line::{FIELDS, MAX_BYTES, NONE, PREFIX, VERSION};

use super::Last;
use crate::attach::{State, clock};

/// A line in memory of its own. What doesn't fit is an error, and the line is left out.
pub(super) struct Line {
    text: Text<MAX_BYTES>,
    field: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// A figure, or that it is not known.
struct Known<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(NONE),
        }
    }
}

/// Nanoseconds as seconds with three decimals.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 / 1_000_000;
        write!(f, "{}.{:03}", ms / 1000, ms % 1000)
    }
}

impl Line {
    pub(super) fn new() -> Self {
        Self { text: Text::default(), field: 0 }
    }

    pub(super) fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// What the process's figures are now. It allocates nothing.
    pub(super) fn of(state: &State, last: &mut Last, is_last: bool) -> Self {
        let mut line = Self::new();
        if line.write_fields(state, last, is_last).is_err() {
            // Not reached: the fields are shorter than that.
            line.text = Text::default();
        }
        line
    }

    /// Writes the next field.
    fn put(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        debug_assert_eq!(FIELDS[self.field].0, name, "fields are written in their order");
        self.field += 1;
        write!(self, " {name}={value}")
    }

    fn write_fields(&mut self, state: &State, last: &mut Last, is_last: bool) -> fmt::Result {
        let reader = state.reader;
        let now = Anchor::now(clock());
        let stalls = Stalls::since(state, last, now);
        let tally = reader.tally();
        let live = Some(tally.live()).filter(|_| !reader.was_off());
        let mut name = [0; MAX_TEXT_BYTES];
        let service = reader.service_in(&mut name);

        write!(self, "{PREFIX}{VERSION}")?;
        self.put("t", Utc(unix_ms()))?;
        // SAFETY: getpid has no requirement.
        self.put("pid", unsafe { libc::getpid() })?;
        self.put("service", if service.is_empty() { NONE } else { service })?;
        self.put("level", reader.level().name())?;
        self.put("up_s", Seconds(now.ns.saturating_sub(state.writer.attached_at().ns)))?;
        self.put("threads", reader.threads_now())?;
        self.put("live_objects", Known(live.map(|live| live.objects)))?;
        self.put("live_bytes", Known(live.map(|live| live.bytes)))?;
        self.put("allocs", tally.objects_allocated)?;
        self.put("reallocs", tally.realloc_calls)?;
        self.put("frees", tally.objects_freed)?;
        self.put("alloc_bytes", tally.bytes_allocated)?;
        self.put("rss_bytes", Known(rss_bytes()))?;
        self.put("interval_s", Seconds(stalls.interval_ns))?;
        self.put("timed", stalls.timed)?;
        self.put("interrupted", stalls.interrupted)?;
        self.put("stall_p99_ns", Known(stalls.p99_ns))?;
        self.put("stall_max_ns", Known(stalls.max_ns))?;
        self.put("last", u8::from(is_last))?;
        let steering = reader.steering();
        let value = |setting| Known(steering.and_then(|steering| steering.value(setting)));
        self.put("dirty_decay_ms", value(Setting::DirtyDecayMs))?;
        self.put("muzzy_decay_ms", value(Setting::MuzzyDecayMs))?;
        self.put("soft_limit_bytes", value(Setting::SoftLimitBytes))?;
        self.put("soft_limit_step", Known(steering.map(|steering| steering.soft_limit_step)))?;
        self.put("setting_changes", Known(steering.map(|steering| steering.all_changes())))?;
        self.write_str("\n")
    }
}

/// Timed calls since the last line.
struct Stalls {
    interval_ns: u64,
    /// Calls that were not interrupted, each with the number of calls that it stands for.
    timed: u64,
    interrupted: u64,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

impl Stalls {
    fn since(state: &State, last: &mut Last, now: Anchor) -> Self {
        let mut clean = [0; BUCKETS];
        let interrupted = state.reader.add_latencies(&mut clean);
        let mut since = [0; BUCKETS];
        for ((since, now), before) in since.iter_mut().zip(&clean).zip(&last.clean) {
            *since = u64::wrapping_sub(*now, *before);
        }
        let timed = since.iter().fold(0, |sum, &count| u64::wrapping_add(sum, count));
        let ns_per_tick = state.writer.attached_at().ticks_per_second(now).map(|rate| 1e9 / rate);
        // The highest value of a bucket, so that no call that counts took longer.
        let ns = |bucket: usize| ns_per_tick.map(|ns| ((bucket_bounds(bucket).1 - 1) as f64 * ns) as u64);
        let max_ns = since.iter().rposition(|&count| count > 0).and_then(ns);
        let p99_ns = nearest_rank(&since, timed, 99, 100).and_then(ns);
        let result = Self {
            interval_ns: now.ns.saturating_sub(last.at_ns),
            timed,
            interrupted: interrupted.wrapping_sub(last.interrupted),
            p99_ns,
            max_ns,
        };
        (last.clean, last.interrupted, last.at_ns) = (clean, interrupted, now.ns);
        result
    }
}

/// The bucket of the call below which, with it, are `part` in `whole` of all.
fn nearest_rank(counts: &[u64; BUCKETS], all: u64, part: u64, whole: u64) -> Option<usize> {
    let rank = (u128::from(all) * u128::from(part)).div_ceil(u128::from(whole));
    let mut below = 0;
    counts.iter().position(|&count| {
        below += u128::from(count);
        below >= rank && rank > 0
    })
}

/// Resident memory of this process: the second field of `/proc/self/statm`, in pages.
pub(crate) fn rss_bytes() -> Option<u64> {
    let mut bytes = [0_u8; 128];
    // SAFETY: the path is a C string; read gets a buffer valid for its length; the descriptor is closed once.
    let length = unsafe {
        let fd = libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let length = libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(fd);
        length
    };
    let text = str::from_utf8(&bytes[..usize::try_from(length).ok()?]).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf takes any number.
    Some(pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?)
}

fn unix_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill in.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Milliseconds since 1970 as a time of day in UTC, in the form of RFC 3339.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Howard Hinnant's civil_from_days, for days since 1970; years begin in March there.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc(ms).to_string(), text);
        }
    }

    #[test]
    fn a_rank_is_the_first_bucket_that_reaches_it() {
        let mut counts = [0; BUCKETS];
        assert_eq!(nearest_rank(&counts, 0, 99, 100), None);
        counts[3] = 98;
        counts[7] = 1;
        counts[9] = 1;
        assert_eq!(nearest_rank(&counts, 100, 99, 100), Some(7));
        assert_eq!(nearest_rank(&counts, 100, 98, 100), Some(3));
        counts[9] = 2;
        assert_eq!(nearest_rank(&counts, 101, 99, 100), Some(9));
    }

    #[test]
    fn the_longest_line_fits() {
        let mut line = Line::new();
        let _ = write!(line, "{PREFIX}{VERSION}");
        for (name, _) in FIELDS {
            line.put(name, "x".repeat(if name == "service" { MAX_TEXT_BYTES } else { 24 })).expect("room");
        }
        assert!(line.text.len() < MAX_BYTES);
    }
}
