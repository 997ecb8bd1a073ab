//! Two profiles as one flame graph: as wide as the second, red where it grew, blue where it shrank.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use inferno::flamegraph::{self, Options};

use super::diff::Difference;
use super::folder::FolderError;
use super::model::{Aggregate, Profile};
use super::view::View;
use crate::files;

/// Frames narrower than this share of the whole, in percent, are left out, as in a single profile's graph.
const LEAST_WIDTH_PERCENT: f64 = 0.1;

/// The graph of the value at `index`, which is counted as in `difference`; `None` where there is nothing to draw, or the
/// value can't be added.
///
/// # Errors
/// If inferno can't draw it.
pub fn graph(
    base: &Profile,
    now: &Profile,
    difference: &Difference,
    index: usize,
    view: View,
) -> io::Result<Option<String>> {
    let Some(value) = difference.values.get(index).filter(|value| value.aggregate == Aggregate::Sum) else {
        return Ok(None);
    };
    let mut stacks: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    let base_index = base.value_index(&value.name);
    let before = base_index.map_or(Vec::new(), |index| view.folded(base, index));
    for (side, factor, lines) in [(0, difference.factors[index], before), (1, 1.0, view.folded(now, index))] {
        for line in lines {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            stacks.entry(stack.to_owned()).or_default()[side] += count.parse::<f64>().unwrap_or(0.0) * factor;
        }
    }
    if stacks.values().all(|sides| sides[1].round() < 1.0) {
        return Ok(None);
    }
    let lines: Vec<String> =
        stacks.into_iter().map(|(stack, [base, now])| format!("{stack} {:.0} {:.0}", base, now)).collect();
    let mut options = Options::default();
    options.title = format!("{} · {} · {}: change", now.cell, now.kind, value.name.replace('_', " "));
    options.subtitle = Some("red: more than before; blue: less. Widths are the second profile's".to_owned());
    options.count_name = super::flame::unit(value).to_owned();
    options.min_width = LEAST_WIDTH_PERCENT;
    options.deterministic = true;
    options.font_type = "ui-monospace, monospace".to_owned();
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    String::from_utf8(svg).map(Some).map_err(io::Error::other)
}

/// Writes the graphs of all values into `folder`, as `calls.diff.svg`. Returns their paths.
///
/// # Errors
/// If one can't be made or written; those before it are there.
pub fn write(
    base: &Profile,
    now: &Profile,
    difference: &Difference,
    folder: &Path,
    view: View,
) -> Result<Vec<PathBuf>, FolderError> {
    files::make_folder(folder)?;
    let mut written = Vec::new();
    for (index, value) in difference.values.iter().enumerate() {
        let name = format!("{}.diff.svg", value.name);
        let drawn = graph(base, now, difference, index, view)
            .map_err(|source| FolderError::Form { name: name.clone(), source })?;
        if let Some(svg) = drawn {
            let path = folder.join(name);
            files::atomic_write(&path, svg.as_bytes())?;
            written.push(path);
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::diff::difference;
    use crate::profile::testing;

    #[test]
    fn what_grew_is_red_and_what_shrank_is_blue() {
        let (base, mut now) = (testing::profile(), testing::profile());
        now.samples[0].values[0] *= 3.0;
        now.samples[2].values[0] = 1.0;
        let found = difference(&base, &now).unwrap();
        let svg = graph(&base, &now, &found, 0, View::default()).unwrap().unwrap();
        let fill = |function: &str| {
            let title = svg.find(&format!("<title>{function} ")).expect(function);
            let after = &svg[title..];
            let start = after.find("fill=\"rgb(").expect("filled") + "fill=\"rgb(".len();
            after[start..].split([',', ')']).take(3).map(|n| n.trim().parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        // A change shows where it is: in the innermost function of a stack.
        let (grown, shrunk) = (fill("alloc::Vec::push"), fill("words::run"));
        assert!(grown[0] > grown[2] && shrunk[0] < shrunk[2], "{grown:?} {shrunk:?}");
        // As wide as now: 2,001 calls.
        assert!(svg.contains("2,001 calls"), "{svg}");
    }
}
