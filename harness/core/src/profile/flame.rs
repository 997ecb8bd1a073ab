//! Flame graphs: interactive SVG, by inferno.

use std::io;

use inferno::flamegraph::{self, Options};

use super::model::{Aggregate, Kind, Profile, Value, ValueUnit};
use super::view::View;

/// Frames narrower than this share of the whole, in percent, are left out: nobody can point at them, and they would make
/// files of many megabytes.
const LEAST_WIDTH_PERCENT: f64 = 0.1;

/// The flame graph of the value at `index`; `None` where there is nothing to draw, or the value can't be added.
///
/// # Errors
/// If inferno can't draw it.
pub fn graph(profile: &Profile, index: usize, view: View) -> io::Result<Option<String>> {
    let Some(value) = profile.values.get(index).filter(|value| value.aggregate == Aggregate::Sum) else {
        return Ok(None);
    };
    let folded = view.folded(profile, index);
    if folded.is_empty() {
        return Ok(None);
    }
    let mut options = Options::default();
    options.title = title(profile, value);
    options.subtitle = Some(profile.sampling.description.clone());
    options.count_name = unit(value).to_owned();
    options.min_width = LEAST_WIDTH_PERCENT;
    options.deterministic = true;
    options.font_type = "monospace".to_owned();
    options.colors = match profile.kind {
        Kind::Cpu => flamegraph::Palette::Multi(flamegraph::color::MultiPalette::Rust),
        Kind::Heap | Kind::Alloc => flamegraph::Palette::Basic(flamegraph::color::BasicPalette::Mem),
        Kind::Stall => flamegraph::Palette::Basic(flamegraph::color::BasicPalette::Hot),
    };
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.iter().map(String::as_str), &mut svg)?;
    String::from_utf8(svg).map(Some).map_err(io::Error::other)
}

fn title(profile: &Profile, value: &Value) -> String {
    let what = value.name.replace('_', " ");
    let kind = profile.kind.name();
    if what == kind { format!("{} · {kind}", profile.cell) } else { format!("{} · {kind} · {what}", profile.cell) }
}

pub(super) fn unit(value: &Value) -> &'static str {
    match value.unit {
        ValueUnit::Bytes => "bytes",
        ValueUnit::Nanoseconds => "ns",
        ValueUnit::Count if value.name.ends_with("objects") => "objects",
        ValueUnit::Count if value.name == "samples" => "samples",
        ValueUnit::Count => "calls",
    }
}
