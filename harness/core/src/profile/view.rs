//! A profile as pictures show it: stacks without the frames that tell nothing, sites, folded lines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Aggregate, Frame, Kind, Origin, Profile, Sample};

/// What stands in a CPU profile for everything below the way into the allocator.
const IN_ALLOCATOR: &str = "[allocator]";
/// The function of a site without code of anybody's.
const NO_CODE: &str = "(no code outside the standard library)";

/// How a profile is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// Keep the frames of the allocator, of heapgate and of the process's start.
    pub full: bool,
}

impl View {
    /// The functions of `sample`, the innermost first, each with the number of its location. By default what runs the
    /// workload is left out, and what the allocator does inside.
    #[must_use]
    pub fn frames<'a>(self, profile: &'a Profile, sample: &'a Sample) -> Vec<(u32, &'a Frame)> {
        let frames: Vec<(u32, &Frame)> = profile.frames(profile.stack_of(sample)).collect();
        if self.full { frames } else { trimmed(&frames).to_vec() }
    }

    /// [`Self::frames`] by names, the outermost first. In a CPU profile, where it is time too, what the allocator does is
    /// one frame.
    #[must_use]
    pub fn stack<'a>(self, profile: &'a Profile, sample: &'a Sample) -> Vec<&'a str> {
        let innermost = profile.frames(profile.stack_of(sample)).next();
        let in_allocator = innermost.is_some_and(|(_, frame)| frame.origin == Origin::Allocator);
        let mut names: Vec<&str> = Vec::new();
        if !self.full && profile.kind == Kind::Cpu && in_allocator {
            names.push(IN_ALLOCATOR);
        }
        names.extend(self.frames(profile, sample).iter().map(|(_, frame)| frame.function.as_str()));
        // Phases are told apart where there are several.
        if let Some(phase) = sample.phase.filter(|_| profile.phases.len() > 1) {
            names.extend(profile.phases.get(phase as usize).map(String::as_str));
        }
        names.reverse();
        names
    }

    /// Folded stacks of the value at `index`: `outer;inner 12`, one line each, sorted. Values are rounded.
    #[must_use]
    pub fn folded(self, profile: &Profile, index: usize) -> Vec<String> {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for sample in &profile.samples {
            let names: Vec<String> = self.stack(profile, sample).into_iter().map(unfolded).collect();
            let stack = if names.is_empty() { "(unknown)".to_owned() } else { names.join(";") };
            let sum = sums.entry(stack).or_default();
            let value = sample.values.get(index).copied().unwrap_or(0.0);
            *sum = combined(profile, index, *sum, value);
        }
        let rounded = sums.into_iter().map(|(stack, value)| (stack, value.round()));
        rounded.filter(|(_, value)| *value >= 1.0).map(|(stack, value)| format!("{stack} {value}")).collect()
    }
}

/// What separates the parts of a folded line, taken out of a name.
fn unfolded(name: &str) -> String {
    name.replace([';', '\n', '\r'], ":")
}

/// `frames`, the innermost first, without the allocator's at the inner end, and without what runs the workload, and the
/// standard library's that starts it, at the outer.
fn trimmed<'a, 'b>(frames: &'a [(u32, &'b Frame)]) -> &'a [(u32, &'b Frame)] {
    let inner = frames.iter().position(|(_, frame)| frame.origin != Origin::Allocator).unwrap_or(frames.len());
    let rest = &frames[inner..];
    // Whatever is outside of the innermost frame of the harness's runs the workload too: closures, the bench's own main.
    let outer = rest.iter().position(|(_, frame)| frame.origin == Origin::Harness).unwrap_or(rest.len());
    let kept = &rest[..outer];
    let code = kept.iter().rposition(|(_, frame)| frame.origin == Origin::Code).map_or(kept.len(), |last| last + 1);
    let kept = &kept[..code];
    // Time of the harness itself is shown, rather than nothing.
    if kept.is_empty() { rest } else { kept }
}

fn combined(profile: &Profile, index: usize, sum: f64, value: f64) -> f64 {
    match profile.values.get(index).map(|value| value.aggregate) {
        Some(Aggregate::Max) => sum.max(value),
        _ => sum + value,
    }
}

/// A place in the code.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The function.
    pub function: String,
    /// Its file; empty where unknown.
    pub file: String,
    /// The line; 0 where unknown.
    pub line: u32,
    /// What of the standard library, or whether the allocator, was called there; empty where nothing was.
    pub call: String,
}

/// What was gathered at one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    /// Where.
    pub place: Place,
    /// The values, in the profile's order.
    pub values: Vec<f64>,
    /// The variance of each: 0 where it is exact, or the largest instead of a sum.
    pub variances: Vec<f64>,
    /// The same of all stacks that pass this function, for a CPU profile; else empty.
    pub with_callees: Vec<f64>,
    /// Stalls: time by cause, ns, most first.
    pub causes: Vec<(String, f64)>,
}

/// The sites of `profile`, those with most of its main value first. A site is the innermost function of a stack that is
/// neither the allocator's nor the standard library's, with its line.
#[must_use]
pub fn sites(profile: &Profile) -> Vec<Site> {
    sites_by(profile, |place| place)
}

/// [`sites`], of which those are one that `of` makes the same place: for instance without lines, to be compared.
#[must_use]
pub fn sites_by(profile: &Profile, of: impl Fn(Place) -> Place) -> Vec<Site> {
    let count = profile.values.len();
    let mut sites: BTreeMap<Place, Site> = BTreeMap::new();
    let mut with_callees: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for sample in &profile.samples {
        let place = of(place_of(profile, sample));
        let site = sites.entry(place).or_insert_with_key(|place| Site {
            place: place.clone(),
            values: vec![0.0; count],
            variances: vec![0.0; count],
            ..Site::default()
        });
        for index in 0..count.min(sample.values.len()) {
            site.values[index] = combined(profile, index, site.values[index], sample.values[index]);
            site.variances[index] += sample.variances.get(index).copied().unwrap_or(0.0);
        }
        if let (Some(cause), Some(&value)) = (&sample.cause, sample.values.get(profile.main_value())) {
            match site.causes.iter_mut().find(|(known, _)| known == cause) {
                Some((_, sum)) => *sum += value,
                None => site.causes.push((cause.clone(), value)),
            }
        }
        if profile.kind == Kind::Cpu {
            let mut functions: Vec<&str> =
                profile.frames(profile.stack_of(sample)).map(|(_, frame)| frame.function.as_str()).collect();
            functions.sort_unstable();
            functions.dedup();
            for function in functions {
                let sums = with_callees.entry(function).or_insert_with(|| vec![0.0; count]);
                sums.iter_mut().zip(&sample.values).for_each(|(sum, value)| *sum += value);
            }
        }
    }
    let main = profile.main_value();
    let mut sites: Vec<Site> = sites.into_values().collect();
    for site in &mut sites {
        site.causes.sort_by(|a, b| b.1.total_cmp(&a.1));
        site.with_callees = with_callees.get(site.place.function.as_str()).cloned().unwrap_or_default();
    }
    // Stable: by place where values are equal, so the same order every time.
    sites.sort_by(|a, b| b.values[main].total_cmp(&a.values[main]));
    sites
}

/// The site of one sample: see [`sites`].
#[must_use]
pub fn place_of(profile: &Profile, sample: &Sample) -> Place {
    let mut call = String::new();
    let mut in_allocator = true;
    let mut harness = None;
    for (_, frame) in profile.frames(profile.stack_of(sample)) {
        match frame.origin {
            Origin::Allocator if in_allocator => {
                if profile.kind == Kind::Cpu {
                    call = IN_ALLOCATOR.to_owned();
                }
            }
            Origin::Standard => {
                in_allocator = false;
                if call != IN_ALLOCATOR {
                    call = short(&frame.function);
                }
            }
            Origin::Harness => {
                in_allocator = false;
                // With what it called, not with what is called around it.
                harness.get_or_insert_with(|| place(frame, call.clone()));
            }
            Origin::Code | Origin::Allocator => return place(frame, call),
        }
    }
    harness.unwrap_or_else(|| Place { function: NO_CODE.to_owned(), call, ..Place::default() })
}

fn place(frame: &Frame, call: String) -> Place {
    Place { function: frame.function.clone(), file: frame.file.clone(), line: frame.line, call }
}

/// The last two parts of a path: `Vec::push`.
fn short(function: &str) -> String {
    let parts: Vec<&str> = function.split("::").collect();
    parts[parts.len().saturating_sub(2)..].join("::")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn frames_of_the_allocator_and_the_harness_are_left_out_unless_asked_for() {
        let profile = testing::profile();
        let folded = |full| View { full }.folded(&profile, 0);
        assert_eq!(folded(false), ["words::run 200", "words::run;words::split;alloc::Vec::push 800"]);
        let full = "main;heapgate_bench::trial::take;words::run;words::split;alloc::Vec::push;heapgate_alloc::Telemetry::alloc 800";
        assert_eq!(folded(true)[1], full);
    }

    #[test]
    fn time_in_the_allocator_is_a_frame_of_its_own() {
        let profile = Profile { kind: Kind::Cpu, ..testing::profile() };
        assert_eq!(View::default().folded(&profile, 0)[0], "words::run;[allocator] 200");
        assert_eq!(sites(&profile)[0].place.call, IN_ALLOCATOR);
        let run = sites(&profile).into_iter().find(|site| site.place.function == "words::run").unwrap();
        assert_eq!((run.values[0], run.with_callees[0]), (200.0, 1000.0));
    }

    #[test]
    fn a_site_is_the_innermost_code_with_what_it_called_and_sums_its_threads() {
        let sites = sites(&testing::profile());
        let of =
            |site: &Site| (site.place.function.clone(), site.place.line, site.place.call.clone(), site.values.clone());
        assert_eq!(of(&sites[0]), ("words::split".to_owned(), 12, "Vec::push".to_owned(), vec![800.0, 64_000.0]));
        assert_eq!(of(&sites[1]), ("words::run".to_owned(), 40, String::new(), vec![200.0, 400.0]));
        assert_eq!(sites[0].variances, [800.0, 64_000.0]);
    }

    #[test]
    fn a_stack_of_nothing_but_the_harness_is_shown() {
        let mut profile = testing::profile();
        profile.stacks[1] = vec![3, 4];
        assert_eq!(View::default().folded(&profile, 0)[0], "main;heapgate_bench::trial::take 200");
    }
}
