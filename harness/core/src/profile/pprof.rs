//! The pprof format: a gzipped protobuf message, as `go tool pprof`, Pyroscope, Polar Signals and Speedscope read it.
//!
//! Written by hand after `profile.proto` of google/pprof: it has five small messages, and a library that generates code
//! for them would take longer to build than all of this crate.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::model::{Aggregate, Kind, Profile};

/// `profile` as `profile.pb.gz`. Values are whole numbers there, so estimates are rounded; values that can't be added
/// are left out.
///
/// # Errors
/// Never in practice: the compressor writes to memory.
pub fn encode(profile: &Profile) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&message(profile))?;
    gzip.finish()
}

/// The message before it is compressed.
#[must_use]
pub fn message(profile: &Profile) -> Vec<u8> {
    let mut out = Message::default();
    let mut texts = Texts::default();
    let indices: Vec<usize> =
        (0..profile.values.len()).filter(|&index| profile.values[index].aggregate == Aggregate::Sum).collect();
    let value_type = |texts: &mut Texts, name: &str, unit: &str| {
        let mut message = Message::default();
        message.number(1, texts.of(name)).number(2, texts.of(unit));
        message
    };
    for &index in &indices {
        let value = &profile.values[index];
        let message = value_type(&mut texts, &value.name, value.unit.name());
        out.message(1, &message);
    }
    for sample in &profile.samples {
        let mut message = Message::default();
        let value = |index: &usize| sample.values.get(*index).map_or(0, |value| value.round() as u64);
        message.packed(1, profile.stack_of(sample).iter().map(|&location| u64::from(location) + 1));
        message.packed(2, indices.iter().map(value));
        let name = |names: &[String], number: Option<u32>| number.and_then(|n| names.get(n as usize).cloned());
        let labels = [
            ("thread", name(&profile.threads, sample.thread)),
            ("phase", name(&profile.phases, sample.phase)),
            ("operation", sample.operation.clone()),
            ("cause", sample.cause.clone()),
        ];
        for (key, label) in labels.into_iter().filter_map(|(key, label)| Some((key, label?))) {
            let mut pair = Message::default();
            pair.number(1, texts.of(key)).number(2, texts.of(&label));
            message.message(3, &pair);
        }
        out.message(2, &message);
    }
    for (module, id) in profile.modules.iter().zip(1..) {
        let mut message = Message::default();
        message
            .number(1, id)
            .number(3, u64::MAX >> 1)
            .number(5, texts.of(&module.name))
            .number(6, texts.of(&module.build_id));
        for (field, flag) in
            [(7, module.has_symbols), (8, module.has_lines), (9, module.has_lines), (10, module.has_lines)]
        {
            message.number(field, flag.into());
        }
        out.message(3, &message);
    }
    let mut functions: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for (location, id) in profile.locations.iter().zip(1..) {
        let mut message = Message::default();
        message.number(1, id).number(2, location.module.map_or(0, |module| u64::from(module) + 1));
        message.number(3, location.address);
        for frame in &location.frames {
            let next = functions.len() as u64 + 1;
            let function = (frame.function.as_str(), frame.full_name.as_str(), frame.file.as_str());
            let mut line = Message::default();
            line.number(1, *functions.entry(function).or_insert(next)).number(2, frame.line.into());
            message.message(4, &line);
        }
        out.message(4, &message);
    }
    for ((name, full_name, file), id) in functions {
        let mut message = Message::default();
        message.number(1, id).number(2, texts.of(name)).number(3, texts.of(full_name)).number(4, texts.of(file));
        out.message(5, &message);
    }
    let comments: Vec<u64> = profile.notes.iter().map(|note| texts.of(note)).collect();
    let main = &profile.values[profile.main_value()];
    let default = texts.of(&main.name);
    let period = match (profile.kind, profile.sampling.frequency_hz, profile.sampling.byte_period) {
        (Kind::Cpu, Some(hz), _) => Some(("cpu", "nanoseconds", 1_000_000_000 / u64::from(hz.max(1)))),
        (_, _, Some(bytes)) => Some(("space", "bytes", bytes)),
        _ => None,
    };
    let period = period.map(|(name, unit, period)| (value_type(&mut texts, name, unit), period));
    for text in &texts.list {
        out.bytes(6, text.as_bytes());
    }
    out.number(9, profile.created_unix_s.saturating_mul(1_000_000_000));
    if let Some((period_type, period)) = period {
        out.message(11, &period_type).number(12, period);
    }
    out.packed(13, comments.into_iter()).number(14, default);
    out.0
}

/// The table of texts, in which the first is empty.
struct Texts {
    list: Vec<String>,
    places: BTreeMap<String, u64>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { list: vec![String::new()], places: BTreeMap::from([(String::new(), 0)]) }
    }
}

impl Texts {
    fn of(&mut self, text: &str) -> u64 {
        let next = self.list.len() as u64;
        *self.places.entry(text.to_owned()).or_insert_with(|| {
            self.list.push(text.to_owned());
            next
        })
    }
}

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A whole number; 0 is what a missing one means.
    fn number(&mut self, field: u64, value: u64) -> &mut Self {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }

    fn packed(&mut self, field: u64, values: impl Iterator<Item = u64>) -> &mut Self {
        let mut all = Self::default();
        values.for_each(|value| all.varint(value));
        if all.0.is_empty() { self } else { self.bytes(field, &all.0) }
    }
}
