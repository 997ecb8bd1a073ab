//! Days, as people write them: `2026-12-31`.

use std::fmt;
use std::str::FromStr;

use super::BadValue;

const SECONDS_PER_DAY: u64 = 86_400;

/// A day of the (proleptic Gregorian) calendar, UTC. Later days are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day of a time in seconds since 1970.
    #[must_use]
    pub fn of_unix_s(unix_s: u64) -> Self {
        // Beyond the year 9999 all days are one: nobody writes them.
        crate::render::human::date(unix_s).parse().unwrap_or(Self { year: 9999, month: 12, day: 31 })
    }

    /// Today, by this machine's clock.
    #[must_use]
    pub fn today() -> Self {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self::of_unix_s(since_1970.map_or(0, |time| time.as_secs()))
    }

    /// The same day of the next year; of 29 February the 28th.
    #[must_use]
    pub fn a_year_later(self) -> Self {
        let year = self.year + 1;
        Self { year, day: self.day.min(days_of(year, self.month)), ..self }
    }

    /// The day so many days later.
    #[must_use]
    pub fn days_later(self, days: u64) -> Self {
        Self::of_unix_s((self.days_since_1970() + days) * SECONDS_PER_DAY)
    }

    /// Days since 1970; 0 before.
    fn days_since_1970(self) -> u64 {
        let leap = |year: u16| days_of(year, 2) == 29;
        let years = (1970..self.year).map(|year| if leap(year) { 366 } else { 365 }).sum::<u64>();
        let months = (1..self.month).map(|month| u64::from(days_of(self.year, month))).sum::<u64>();
        years + months + u64::from(self.day) - 1
    }
}

/// Days of a month, from 1; 0 where there is no such month.
fn days_of(year: u16, month: u8) -> u8 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

impl FromStr for Date {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue(format!("'{text}' is no date; write one such as \"2026-12-31\""));
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(bad()) };
        if [year, month, day].map(str::len) != [4, 2, 2] || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Err(bad());
        }
        let date = Self {
            year: year.parse().map_err(|_| bad())?,
            month: month.parse().map_err(|_| bad())?,
            day: day.parse().map_err(|_| bad())?,
        };
        if (1..=days_of(date.year, date.month)).contains(&date.day) {
            Ok(date)
        } else {
            Err(BadValue(format!("'{text}' is no date: there is no such day")))
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn days_that_are_not_in_the_calendar_are_refused() {
        for bad in ["2026-02-29", "2100-02-29", "2026-13-01", "2026-00-10", "2026-04-31", "2026-01-00"] {
            assert!(bad.parse::<Date>().unwrap_err().to_string().contains("no such day"), "{bad}");
        }
        for bad in ["", "2026", "26-12-31", "2026-1-1", "2026-12-31T00:00:00Z", "31.12.2026", "2026-+1-01", "tomorrow"]
        {
            assert!(bad.parse::<Date>().unwrap_err().to_string().contains("write one such as"), "{bad}");
        }
        assert_eq!(date("2024-02-29").to_string(), "2024-02-29");
        assert_eq!(date("2000-02-29").to_string(), "2000-02-29");
    }

    #[test]
    fn days_are_ordered_and_counted() {
        assert!(date("2026-02-01") > date("2026-01-31") && date("2027-01-01") > date("2026-12-31"));
        assert_eq!(Date::of_unix_s(1_760_000_000), date("2025-10-09"));
        assert_eq!(Date::of_unix_s(0), date("1970-01-01"));
        assert_eq!(date("2024-02-29").a_year_later(), date("2025-02-28"));
        assert_eq!(date("2025-12-31").a_year_later(), date("2026-12-31"));
        assert_eq!(date("2025-12-31").days_later(60), date("2026-03-01"));
        assert_eq!(date("2024-02-28").days_later(1), date("2024-02-29"));
    }

    #[test]
    fn a_clock_far_in_the_future_still_gives_a_day() {
        assert_eq!(Date::of_unix_s(u64::MAX / 4), date("9999-12-31"));
    }
}
