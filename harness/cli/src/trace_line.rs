//! Trace lines as JSON. What a line is made of is in [`heapgate_segment::trace_line`].

use std::fmt;

use heapgate_segment::trace_line::{Kind, NONE, PREFIX, VERSION, fields as fields_of};

/// What a line of a log is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A trace line, as a JSON object with its fields in their order.
    Json(String),
    /// None.
    OtherLine,
}

/// Why a trace line can't be read.
#[derive(Debug, PartialEq, Eq)]
pub enum LineError {
    /// It is of another version.
    Version(u64),
    /// It is not whole, or not what was written.
    Damaged(String),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) if *version > VERSION => write!(
                f,
                "a trace line of version {version}, newer than this heapgate's {VERSION}: use the heapgate that matches it"
            ),
            Self::Version(version) => {
                write!(f, "a trace line of version {version}; this heapgate reads 1 to {VERSION}")
            }
            Self::Damaged(what) => write!(f, "a damaged trace line: {what}"),
        }
    }
}

/// Reads a line.
///
/// # Errors
/// If it is a trace line, but damaged or of another version.
pub fn parse(line: &str) -> Result<Found, LineError> {
    let Some(line) = beginning(line) else { return Ok(Found::OtherLine) };
    let damaged = |what: String| LineError::Damaged(what);
    let mut fields = line.split(' ');
    let version = fields.next().and_then(|version| version.parse().ok());
    let version: u64 = version.ok_or_else(|| damaged("it has no version".to_owned()))?;
    let expected = fields_of(version).ok_or(LineError::Version(version))?;
    let mut json = format!("{{\"v\":{version}");
    for &(name, kind) in expected {
        let field = fields.next().ok_or_else(|| damaged(format!("it ends before {name}")))?;
        let value = field.strip_prefix(name).and_then(|field| field.strip_prefix('='));
        let value = value.ok_or_else(|| damaged(format!("'{}' where {name} should be", shown(field))))?;
        let value = as_json(value, kind).ok_or_else(|| damaged(format!("{name} can't be '{}'", shown(value))))?;
        json += &format!(",\"{name}\":{value}");
    }
    match fields.next() {
        Some(field) => Err(damaged(format!("'{}' after its last field", shown(field)))),
        None => Ok(Found::Json(json + "}")),
    }
}

/// What follows [`PREFIX`], if that is there: at the beginning, or behind white space, as logs put times and names before
/// what programs say.
fn beginning(line: &str) -> Option<&str> {
    let mut places = line.match_indices(PREFIX).map(|(at, _)| line.split_at(at));
    let (_, line) = places.find(|(before, _)| before.chars().next_back().is_none_or(char::is_whitespace))?;
    line.strip_prefix(PREFIX)
}

fn as_json(value: &str, kind: Kind) -> Option<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_one_spelling = |text: &str| is_number(text) && (text == "0" || !text.starts_with('0'));
    let is_sound = match kind {
        Kind::Flag => return ["false", "true"].get(value.parse::<usize>().ok()?).map(|&flag| flag.to_owned()),
        _ if value == NONE => return Some("null".to_owned()),
        Kind::Text => return (!value.is_empty()).then(|| serde_json::Value::from(value).to_string()),
        Kind::Number => has_one_spelling(value.strip_prefix('-').unwrap_or(value)),
        Kind::Seconds => {
            let (whole, part) = value.split_once('.')?;
            has_one_spelling(whole) && is_number(part) && part.len() == 3
        }
    };
    is_sound.then(|| value.to_owned())
}

/// A part of a line for a message: not all of what may be megabytes.
fn shown(text: &str) -> String {
    const LONGEST: usize = 40;
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "heapgate-trace v=2 t=2026-01-31T12:00:00.123Z pid=42 service=tokenizer level=sampled up_s=3.001 \
                        threads=4 live_objects=-7 live_bytes=99 allocs=1000 reallocs=5 frees=900 alloc_bytes=123456 \
                        rss_bytes=- interval_s=1.000 timed=900 interrupted=1 stall_p99_ns=250 stall_max_ns=- last=0 \
                        dirty_decay_ms=-1 muzzy_decay_ms=0 soft_limit_bytes=- soft_limit_step=- setting_changes=3";

    fn damage(line: &str) -> String {
        parse(line).expect_err("damaged").to_string()
    }

    #[test]
    fn a_line_becomes_an_object_with_its_fields_in_order() {
        let Ok(Found::Json(json)) = parse(LINE) else { panic!("{:?}", parse(LINE)) };
        assert_eq!(
            json,
            "{\"v\":2,\"t\":\"2026-01-31T12:00:00.123Z\",\"pid\":42,\"service\":\"tokenizer\",\"level\":\"sampled\",\
             \"up_s\":3.001,\"threads\":4,\"live_objects\":-7,\"live_bytes\":99,\"allocs\":1000,\"reallocs\":5,\
             \"frees\":900,\"alloc_bytes\":123456,\"rss_bytes\":null,\"interval_s\":1.000,\"timed\":900,\
             \"interrupted\":1,\"stall_p99_ns\":250,\"stall_max_ns\":null,\"last\":false,\"dirty_decay_ms\":-1,\
             \"muzzy_decay_ms\":0,\"soft_limit_bytes\":null,\"soft_limit_step\":null,\"setting_changes\":3}"
        );
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
        assert_eq!(parse(&format!("Jan 31 12:00:00 host tokenizer[42]: {LINE}")), parse(LINE));
    }

    #[test]
    fn lines_of_the_first_version_are_read_still() {
        let (line, _) = LINE.split_once(" dirty_decay_ms").expect("there");
        let Ok(Found::Json(json)) = parse(&line.replace("v=2", "v=1")) else { panic!("{line}") };
        assert!(json.starts_with("{\"v\":1,") && json.ends_with(",\"last\":false}"), "{json}");
    }

    #[test]
    fn other_lines_are_no_errors() {
        for line in ["", "heapgate: something", "xheapgate-trace v=2", "heapgate-trace", "heapgate-trace w=1"] {
            assert_eq!(parse(line), Ok(Found::OtherLine), "{line}");
        }
    }

    #[test]
    fn another_version_is_named() {
        assert!(damage(&LINE.replace("v=2", "v=3")).contains("version 3, newer"));
        assert!(damage(&LINE.replace("v=2", "v=0")).contains("version 0"));
        assert!(damage(&LINE.replace("v=2", "v=x")).contains("no version"));
    }

    #[test]
    fn a_line_cut_anywhere_is_damaged() {
        let version_end = LINE.find(" t=").expect("there");
        for end in version_end..LINE.len() {
            // One digit less is another whole number: only the last field shows a cut.
            let cut = &LINE[..end];
            assert!(parse(cut).is_err(), "{cut}");
        }
    }

    #[test]
    fn fields_that_were_changed_are_named() {
        for (from, to, says) in [
            ("pid=42", "pid=4x2", "pid can't be '4x2'"),
            ("pid=42", "pid=", "pid can't be ''"),
            ("pid=42 ", "", "'service=tokenizer' where pid should be"),
            ("up_s=3.001", "up_s=3.1", "up_s can't be"),
            ("allocs=1000", "allocs=01000", "allocs can't be"),
            ("last=0", "last=2", "last can't be"),
            ("changes=3", "changes=3 more=1", "'more=1' after its last field"),
            ("threads=4 ", "threads=4  ", "'' where live_objects should be"),
        ] {
            let error = damage(&LINE.replace(from, to));
            assert!(error.contains(says), "{error}");
        }
    }
}
