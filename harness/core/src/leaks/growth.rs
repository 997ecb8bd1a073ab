//! Which lines make objects that stay: live objects and bytes by site at moments of a run, tested for growth.
//!
//! A site is the innermost function of a stack that is neither the allocator's nor the standard library's, with its line, as
//! in profiles. Of the moments in each of [`WINDOWS`] parts the lowest value counts: what fills and empties has low ones again
//! and again, a leak has none. A site is named if its objects, or its bytes, rise by the test of [`crate::stats::trend`], which
//! is corrected for all sites of the run.

use std::collections::{BTreeMap, BTreeSet};

use heapgate_segment::layout::PhaseKind;
use heapgate_segment::stacks::{StackSamples, phase_kind};
use serde::Serialize;

use super::witness::Witness;
use super::{WINDOWS, windows};
use crate::profile::heap::{self, Dumps};
use crate::profile::view::{Place, place_of};
use crate::profile::{
    Aggregate, Frame, Gathered, Kind, Origin, RawSample, Sampling, Subject, Value, ValueUnit, resolve,
};
use crate::sites::{Modules, Symbols};
use crate::stats::trend::{FALSE_ALARM, Growth, growing};

/// What a site has left at the end, as a share of what it grew by, from which on it is taken for not released. Less may be
/// what was in use anyway.
pub const LEFT_SHARE: f64 = 0.5;

/// What a run's moments are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// From the first moment to the last, s.
    pub seconds: f64,
    /// Steps of the workload meanwhile; absent of a process that has none.
    pub steps: Option<u64>,
}

/// A site whose live objects or bytes grow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteGrowth {
    /// `file:line`; empty where unknown.
    pub place: String,
    /// The function.
    pub function: String,
    /// What of the standard library was called there; empty where nothing was.
    pub call: String,
    /// Whether the objects are blocks of a `heapgate_region::Arena`.
    pub through_arena: bool,
    /// Live objects of the site in the last window, estimated where not all are sampled.
    pub live_objects: f64,
    /// Their bytes.
    pub live_bytes: f64,
    /// By how much they grow; 0 where only bytes do.
    pub objects_per_s: f64,
    /// By how much they grow; 0 where only objects do.
    pub bytes_per_s: f64,
    /// The same by step; absent of a process that has none.
    pub objects_per_step: Option<f64>,
    /// The same by step.
    pub bytes_per_step: Option<f64>,
    /// The probability of such growth by chance, corrected for all sites.
    pub p_value: f64,
    /// What was alive of it after everything was dropped; absent of a process that goes on.
    pub left_bytes: Option<f64>,
    /// Whether it was released then: the workload held it, and gave it back. Absent of a process that goes on.
    pub released: Option<bool>,
    /// What else was looked at, and whether it agrees.
    pub witnesses: Vec<Witness>,
}

/// A site's figures at each moment.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSeries {
    pub(super) place: Place,
    pub(super) through_arena: bool,
    /// Source files of its stacks.
    pub(super) files: BTreeSet<String>,
    pub(super) objects: Vec<f64>,
    pub(super) bytes: Vec<f64>,
    /// What is left in the end.
    pub(super) left_bytes: Option<f64>,
}

/// What was alive by site at each of `moments`, oldest first, and what was in the end, if there was one. Of a trial, only what
/// its measured phase made counts (`measured`).
#[must_use]
pub fn series(
    moments: &[&StackSamples],
    left: Option<&StackSamples>,
    measured: bool,
    modules: &Modules,
    symbols: &mut Symbols,
) -> Vec<SiteSeries> {
    let count = moments.len();
    let width = 2 * count + 1;
    let mut stacks: BTreeMap<&[u64], Vec<f64>> = BTreeMap::new();
    for (at, samples) in moments.iter().copied().chain(left).enumerate() {
        let of_phase = |word: u64| !measured || phase_kind(word) == Some(PhaseKind::Measure);
        for stack in samples.stacks.iter().filter(|stack| of_phase(stack.phase)) {
            let values = stacks.entry(&stack.frames).or_insert_with(|| vec![0.0; width]);
            if at < count {
                values[at] += stack.live_objects;
                values[count + at] += stack.live_bytes;
            } else {
                values[2 * count] += stack.live_bytes;
            }
        }
    }
    let alive = stacks.into_iter().filter(|(_, values)| values.iter().any(|&value| value > 0.0));
    let samples = alive.map(|(frames, values)| RawSample {
        frames: frames.to_vec(),
        variances: vec![0.0; width],
        values,
        ..RawSample::default()
    });
    let sites = by_site(samples.collect(), width, modules, symbols);
    let of_site = |((place, through_arena), (values, files)): (Site, (Vec<f64>, BTreeSet<String>))| SiteSeries {
        place,
        through_arena,
        files,
        objects: values[..count].to_vec(),
        bytes: values[count..2 * count].to_vec(),
        left_bytes: left.map(|_| values[2 * count]),
    };
    sites.into_iter().map(of_site).collect()
}

type Site = (Place, bool);

/// The values of `samples`, and the files of their stacks, by site.
fn by_site(
    samples: Vec<RawSample>,
    width: usize,
    modules: &Modules,
    symbols: &mut Symbols,
) -> BTreeMap<Site, (Vec<f64>, BTreeSet<String>)> {
    let value = Value { name: "alive".to_owned(), unit: ValueUnit::Count, aggregate: Aggregate::Sum };
    let gathered = Gathered {
        kind: Kind::Heap,
        sampling: Sampling::default(),
        values: vec![value; width],
        exact_totals: vec![None; width],
        samples,
        notes: Vec::new(),
    };
    let profile = resolve(Subject::default(), gathered, modules, symbols);
    let mut sites: BTreeMap<Site, (Vec<f64>, BTreeSet<String>)> = BTreeMap::new();
    for sample in &profile.samples {
        let frames: Vec<&Frame> = profile.frames(profile.stack_of(sample)).map(|(_, frame)| frame).collect();
        let arena = frames.iter().rposition(|frame| is_of_arena(frame));
        // Who fills an arena is further out than the arena.
        let filled_by = arena.and_then(|arena| owner(&frames[arena + 1..]));
        let site = sites.entry((filled_by.unwrap_or_else(|| place_of(&profile, sample)), arena.is_some()));
        let (values, files) = site.or_insert_with(|| (vec![0.0; width], BTreeSet::new()));
        values.iter_mut().zip(&sample.values).for_each(|(sum, value)| *sum += value);
        files.extend(frames.iter().filter(|frame| !frame.file.is_empty()).map(|frame| frame.file.clone()));
    }
    sites
}

/// The innermost of `frames` that is anybody's code; else the innermost of what runs it.
fn owner(frames: &[&Frame]) -> Option<Place> {
    let innermost = |origin: Origin| frames.iter().find(|frame| frame.origin == origin);
    let frame = innermost(Origin::Code).or_else(|| innermost(Origin::Harness))?;
    let (function, file, line) = (frame.function.clone(), frame.file.clone(), frame.line);
    Some(Place { function, file, line, call: String::new() })
}

/// Whether a frame is of `heapgate_region::Arena`, whose blocks these objects are then.
fn is_of_arena(frame: &Frame) -> bool {
    frame.full_name.contains("heapgate_region::arena::Arena")
        || frame.file.ends_with("/src/arena.rs") && frame.file.contains("region")
}

/// Of `sites`, those that grow, fastest by bytes first.
#[must_use]
pub fn grow(sites: &[SiteSeries], span: Span) -> Vec<SiteGrowth> {
    let lowest: Vec<[Vec<f64>; 2]> = sites.iter().map(|site| [windows(&site.objects), windows(&site.bytes)]).collect();
    let all: Vec<&[f64]> = lowest.iter().flatten().map(Vec::as_slice).collect();
    let mut found: BTreeMap<usize, [Option<Growth>; 2]> = BTreeMap::new();
    for growth in growing(&all, FALSE_ALARM) {
        found.entry(growth.site / 2).or_default()[growth.site % 2] = Some(growth);
    }
    let mut named: Vec<SiteGrowth> =
        found.into_iter().map(|(index, growth)| site_growth(&sites[index], &lowest[index], growth, span)).collect();
    named.sort_by(|a, b| b.bytes_per_s.total_cmp(&a.bytes_per_s).then_with(|| a.place.cmp(&b.place)));
    named
}

fn site_growth(
    site: &SiteSeries,
    [objects, bytes]: &[Vec<f64>; 2],
    growth: [Option<Growth>; 2],
    span: Span,
) -> SiteGrowth {
    // From the first window to the last are one less than there are windows.
    let count = bytes.len().clamp(1, WINDOWS) as f64;
    let per_window = growth.map(|growth| growth.map_or(0.0, |growth| growth.per_window));
    let per_s = per_window.map(|rate| if span.seconds > 0.0 { rate * count / span.seconds } else { 0.0 });
    let per_step = per_window.map(|rate| span.steps.map(|steps| rate * count / steps.max(1) as f64));
    let grown = |series: &[f64]| series.last().zip(series.first()).map_or(0.0, |(last, first)| last - first);
    let file_line = |place: &Place| match (place.file.as_str(), place.line) {
        ("", _) => String::new(),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    };
    SiteGrowth {
        place: file_line(&site.place),
        function: site.place.function.clone(),
        call: site.place.call.clone(),
        through_arena: site.through_arena,
        live_objects: objects.last().copied().unwrap_or(0.0),
        live_bytes: bytes.last().copied().unwrap_or(0.0),
        objects_per_s: per_s[0],
        bytes_per_s: per_s[1],
        objects_per_step: per_step[0],
        bytes_per_step: per_step[1],
        p_value: growth.iter().flatten().map(|growth| growth.p).fold(1.0, f64::min),
        left_bytes: site.left_bytes,
        released: site.left_bytes.map(|left| left < LEFT_SHARE * grown(bytes)),
        witnesses: Vec::new(),
    }
}

/// By how much jemalloc's own profiler says that sites grew between the two ends of the measured phase, bytes; `None` without
/// both dumps.
#[must_use]
pub fn heap_profile(dumps: &Dumps, modules: &Modules, symbols: &mut Symbols) -> Option<Vec<SiteSeries>> {
    let samples = heap::in_use(dumps.begin.as_ref()?, dumps.end.as_ref()?);
    let of_site = |((place, through_arena), (bytes, files)): (Site, (Vec<f64>, BTreeSet<String>))| SiteSeries {
        place,
        through_arena,
        files,
        objects: Vec::new(),
        bytes,
        left_bytes: None,
    };
    Some(by_site(samples, 2, modules, symbols).into_iter().map(of_site).collect())
}

/// What is left in the end of all sites together, bytes.
#[must_use]
pub fn left_bytes(sites: &[SiteSeries]) -> f64 {
    sites.iter().filter_map(|site| site.left_bytes).sum()
}
