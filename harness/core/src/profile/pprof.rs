//! The pprof format: a gzipped protobuf message, as `go tool pprof`, Pyroscope, Polar Signals and Speedscope read it.
//!
//! Written by hand after `profile.proto` of google/pprof: it has five small messages, and a library that generates code
//! for them would take longer to build than all of this crate.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::model::{Aggregate, Frame, Kind, Profile};
use super::view::View;

/// `profile` as `profile.pb.gz`. Values are whole numbers there, so estimates are rounded; values that can't be added
/// are left out, and so are the frames that `view` leaves out.
///
/// # Errors
/// Never in practice: the compressor writes to memory.
pub fn encode(profile: &Profile, view: View) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&message(profile, view))?;
    gzip.finish()
}

/// The message before it is compressed.
#[must_use]
pub fn message(profile: &Profile, view: View) -> Vec<u8> {
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
    let mut locations = Locations::default();
    for sample in &profile.samples {
        let mut message = Message::default();
        let value = |index: &usize| sample.values.get(*index).map_or(0, |value| value.round() as u64);
        message.packed(1, locations.of(view.frames(profile, sample)).into_iter());
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
    for ((number, frames), id) in locations.0 {
        let mut message = Message::default();
        if let Some(location) = profile.locations.get(number as usize) {
            let module = location.module.map_or(0, |module| u64::from(module) + 1);
            message.number(1, id).number(2, module).number(3, location.address);
        }
        for frame in frames {
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

/// Locations by number and by those of their functions that are shown: a view may leave out some.
#[derive(Default)]
struct Locations<'a>(BTreeMap<(u32, Vec<&'a Frame>), u64>);

impl<'a> Locations<'a> {
    /// The ids of the locations of `frames`.
    fn of(&mut self, frames: Vec<(u32, &'a Frame)>) -> Vec<u64> {
        let same = frames.chunk_by(|a, b| a.0 == b.0);
        same.map(|frames| {
            let next = self.0.len() as u64 + 1;
            let key = (frames[0].0, frames.iter().map(|&(_, frame)| frame).collect());
            *self.0.entry(key).or_insert(next)
        })
        .collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testing;

    /// Fields of a message: number, and either the number or the bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Result<u64, &[u8]>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let (number, rest) = bytes.split_at(length);
            *bytes = rest;
            number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7F))
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let number = varint(&mut bytes);
            if key & 7 == 0 {
                fields.push((key >> 3, Ok(number)));
            } else {
                assert_eq!(key & 7, 2);
                let (inner, rest) = bytes.split_at(number as usize);
                bytes = rest;
                fields.push((key >> 3, Err(inner)));
            }
        }
        fields
    }

    #[test]
    fn the_message_is_one_of_protobuf_with_everything_in_its_field() {
        let profile = testing::profile();
        let message = message(&profile, View::default());
        let fields = fields(&message);
        let count = |number| fields.iter().filter(|(field, _)| *field == number).count();
        // Value types, samples, modules, locations (without the allocator's and the harness's), functions.
        assert_eq!([1, 2, 3, 4, 5].map(count), [2, 3, 1, 2, 3]);
        let texts: Vec<&[u8]> = fields.iter().filter(|(field, _)| *field == 6).map(|(_, f)| f.unwrap_err()).collect();
        assert_eq!(texts[0], b"");
        assert!(texts.contains(&&b"words::split"[..]) && !texts.contains(&&b"heapgate_bench::trial::take"[..]));
    }
}
