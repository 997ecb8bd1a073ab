//! What changed between two profiles of one kind, site by site, and how much of it is more than chance.
//!
//! Every value of a sampled site is an estimate with a variance; that of a difference is the sum of both. Each is tested
//! against none (a normal approximation: a site seen in n samples can't be further from nothing than √n standard errors,
//! so a few samples are never news), and the probabilities are corrected for the number of tests by Holm's method. What
//! is left below [`LEVEL`] is news; all else is noise, and not listed.
//!
//! Sampling is not all that differs between two runs. Allocations of one thread repeat; CPU time and stalls don't: they
//! come as chance and the machine have it. Slow calls are taken as a compound Poisson process, so n of them with the times
//! x have the variance Σx² ≤ x_max·Σx; and besides, CPU time and stalls of a site are known to no better than
//! [`RUN_TO_RUN`].

use std::borrow::Cow;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

use super::align::{Pair, pairs};
use super::model::{Aggregate, Kind, Profile, Sampling, Value, ValueUnit};
use super::view::{Place, Site, sites};
use crate::render::human;
use crate::stats::multiple::holm;

/// The probability that even one site of two runs of the same program is called news.
pub const LEVEL: f64 = 0.01;

/// How far the CPU time or the stalls of a site may differ from run to run of the same program, as a share (one standard
/// deviation): what a shared machine's clock and neighbours do in minutes. Differences are of two runs.
pub const RUN_TO_RUN: f64 = 0.05;

/// Smaller than this share of a value's total a difference is rounding, where everything was counted.
const ROUNDING: f64 = 1e-9;

/// Why two profiles have no difference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// They are of two kinds.
    #[error("one is a profile of {base}, the other of {now}: only two of one kind can be compared")]
    Kinds {
        /// The first's.
        base: Kind,
        /// The second's.
        now: Kind,
    },
    /// They have other values.
    #[error("the two {kind} profiles have no value in common; record both with one version of heapgate")]
    Values {
        /// Of what they are.
        kind: Kind,
    },
}

/// What changed from one profile to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Of what they are.
    pub kind: Kind,
    /// The values that both have.
    pub values: Vec<Value>,
    /// Those that were tested, by their numbers in `values`.
    pub tested: Vec<usize>,
    /// Variance besides that of the samples, of each value of each site, where the two were sampled differently: of what
    /// one side has and the other's samples may have missed.
    #[serde(skip)]
    unseen: Vec<f64>,
    /// By what the first profile's values were multiplied, so that both are of as much work: 1 for what does not grow
    /// with the work.
    pub factors: Vec<f64>,
    /// All sites together in the first profile, scaled.
    pub base_totals: Vec<f64>,
    /// And in the second.
    pub now_totals: Vec<f64>,
    /// Probability of even one site among `sites` whose change is not real.
    pub level: f64,
    /// Sites that changed by more than chance, the largest change first: as a share of the first profile's total.
    pub sites: Vec<SiteChange>,
    /// Sites whose change is within noise.
    pub unchanged: usize,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// The change of one site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteChange {
    /// Where: as in the second profile, if that has it.
    pub place: Place,
    /// Its line in the first profile, where that has it in another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<u32>,
    /// The values in the first profile, scaled.
    pub base: Vec<f64>,
    /// In the second.
    pub now: Vec<f64>,
    /// Standard errors of the differences.
    pub standard_errors: Vec<f64>,
    /// The value that changed most, of those that changed by more than chance: its number.
    pub strongest: usize,
    /// Probability of a change as large where there is none, corrected for all tests: of the strongest.
    pub p_value: f64,
}

impl SiteChange {
    /// The change of the value at `index`.
    #[must_use]
    pub fn change(&self, index: usize) -> f64 {
        self.now[index] - self.base[index]
    }
}

impl Difference {
    /// The strongest change of `site` as a share of the first profile's total, or of the second's if the first has none.
    #[must_use]
    pub fn share(&self, site: &SiteChange) -> f64 {
        site.change(site.strongest) / self.whole(site.strongest)
    }

    /// One standard error of it.
    #[must_use]
    pub fn share_error(&self, site: &SiteChange) -> f64 {
        site.standard_errors[site.strongest] / self.whole(site.strongest)
    }

    fn whole(&self, index: usize) -> f64 {
        let (base, now) = (self.base_totals[index], self.now_totals[index]);
        if base > 0.0 { base } else { now.max(f64::MIN_POSITIVE) }
    }
}

/// The names of the values that are tested: what the kind is about, each once.
fn tested_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Cpu => &["cpu"],
        Kind::Heap => &["peak_bytes", "peak_objects", "end_bytes", "end_objects", "allocated_bytes"],
        Kind::Alloc => &["calls", "bytes"],
        Kind::Stall => &["stall"],
    }
}

/// Whether a value is twice as large after twice the work.
fn grows_with_work(value: &Value) -> bool {
    value.aggregate == Aggregate::Sum && !["peak_", "end_"].iter().any(|start| value.name.starts_with(start))
}

/// Compares `now` with `base`.
///
/// # Errors
/// If they are of two kinds.
pub fn difference(base: &Profile, now: &Profile) -> Result<Difference, DiffError> {
    if base.kind != now.kind {
        return Err(DiffError::Kinds { base: base.kind, now: now.kind });
    }
    let base = with_values_of(base, now)?;
    let (work, mut notes) = scale(&base, now);
    notes.extend(doubts(&base, now));
    let factors: Vec<f64> = now.values.iter().map(|value| if grows_with_work(value) { work } else { 1.0 }).collect();
    let (before, after) = (sites(&base), sites(now));
    let main = now.main_value();
    let main_factor = factors[main];
    let weight = |site: &Site, is_now: bool| site.values[main] * if is_now { 1.0 } else { main_factor };
    let mut tested: Vec<usize> = tested_names(now.kind).iter().filter_map(|name| now.value_index(name)).collect();
    let mut unseen = vec![0.0; now.values.len()];
    if matches!(now.kind, Kind::Heap | Kind::Alloc) && !same_rates(&base.sampling, &now.sampling) {
        let missed = |index: usize| {
            let unit = now.values[index].unit;
            Some(missed(&base.sampling, unit)? * factors[index].powi(2) + missed(&now.sampling, unit)?)
        };
        let untold: Vec<&str> =
            tested.iter().filter(|&&i| missed(i).is_none()).map(|&i| now.values[i].name.as_str()).collect();
        if !untold.is_empty() {
            notes.push(format!(
                "not compared, since the two were sampled differently and one may have missed much of it: {}",
                untold.join(", ").replace('_', " ")
            ));
        }
        tested.retain(|&index| missed(index).map(|variance| unseen[index] = variance).is_some());
    }
    let totals = |profile: &Profile, factor: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..profile.values.len()).map(|index| profile.total(index) * factor(index)).collect()
    };
    let mut difference = Difference {
        kind: now.kind,
        values: now.values.clone(),
        tested,
        unseen,
        base_totals: totals(&base, &|index| factors[index]),
        now_totals: totals(now, &|_| 1.0),
        factors,
        level: LEVEL,
        sites: Vec::new(),
        unchanged: 0,
        notes,
    };
    let all: Vec<SiteChange> = pairs(&before, &after, weight).into_iter().map(|pair| difference.of(pair)).collect();
    difference.sift(all);
    Ok(difference)
}

impl Difference {
    /// The change of one pair, not yet tested.
    fn of(&self, pair: Pair<'_>) -> SiteChange {
        let count = self.values.len();
        let values = |site: Option<&Site>, index: usize| site.map_or(0.0, |site| site.values[index]);
        let base: Vec<f64> = (0..count).map(|index| values(pair.base, index) * self.factors[index]).collect();
        let now: Vec<f64> = (0..count).map(|index| values(pair.now, index)).collect();
        let standard_errors = (0..count)
            .map(|index| {
                let of = |site: Option<&Site>, factor: f64| {
                    site.map_or(0.0, |site| self.variance(site, index) * factor * factor)
                };
                (of(pair.base, self.factors[index]) + of(pair.now, 1.0) + self.unseen[index]).sqrt()
            })
            .collect();
        let place = pair.now.or(pair.base).map(|site| site.place.clone()).unwrap_or_default();
        let moved_from = pair.base.map(|site| site.place.line).filter(|&line| line != place.line);
        SiteChange { place, moved_from, base, now, standard_errors, strongest: 0, p_value: 1.0 }
    }

    /// The variance of a site's value: that of sampling, and that of one run against another.
    fn variance(&self, site: &Site, index: usize) -> f64 {
        let sampled = site.variances[index];
        let run_to_run = (site.values[index] * RUN_TO_RUN).powi(2);
        match self.kind {
            Kind::Heap | Kind::Alloc => sampled,
            Kind::Cpu => sampled + run_to_run,
            Kind::Stall => {
                let longest = self.values.iter().position(|value| value.name == "longest");
                let longest = longest.map_or(0.0, |longest| site.values[longest]);
                let of_events = match self.values[index].name.as_str() {
                    "stall" => longest * site.values[index],
                    _ => site.values[index],
                };
                sampled + of_events + run_to_run
            }
        }
    }

    /// Tests all changes together, and keeps what is more than chance.
    fn sift(&mut self, all: Vec<SiteChange>) {
        let p_values: Vec<f64> =
            all.iter().flat_map(|site| self.tested.iter().map(|&index| self.p_value(site, index))).collect();
        let corrected = holm(&p_values);
        let per_site = self.tested.len().max(1);
        for (mut site, p_values) in all.into_iter().zip(corrected.chunks(per_site)) {
            let news = self.tested.iter().copied().zip(p_values).filter(|(_, p)| **p <= self.level);
            let share = |index: usize| site.change(index).abs() / self.whole(index);
            match news.max_by(|a, b| share(a.0).total_cmp(&share(b.0))) {
                Some((index, &p)) => {
                    (site.strongest, site.p_value) = (index, p);
                    self.sites.push(site);
                }
                None => self.unchanged += 1,
            }
        }
        let mut sites = std::mem::take(&mut self.sites);
        sites.sort_by(|a, b| self.share(b).abs().total_cmp(&self.share(a).abs()));
        self.sites = sites;
    }

    /// The probability of such a change of the value at `index` where there is none.
    fn p_value(&self, site: &SiteChange, index: usize) -> f64 {
        let (change, error) = (site.change(index).abs(), site.standard_errors[index]);
        if change <= ROUNDING * self.whole(index) {
            return 1.0;
        }
        // Without error both were counted, and any difference is one.
        if error > 0.0 { (2.0 * Normal::standard().sf(change / error)).min(1.0) } else { 0.0 }
    }
}

/// `base` with its values in the order of `now`'s; what it lacks is 0.
fn with_values_of<'a>(base: &'a Profile, now: &Profile) -> Result<Cow<'a, Profile>, DiffError> {
    if base.values == now.values {
        return Ok(Cow::Borrowed(base));
    }
    let places: Vec<Option<usize>> = now.values.iter().map(|value| base.value_index(&value.name)).collect();
    if places.iter().all(Option::is_none) {
        return Err(DiffError::Values { kind: now.kind });
    }
    let mut same = base.clone();
    let ordered = |numbers: &[f64]| places.iter().map(|place| place.map_or(0.0, |place| numbers[place])).collect();
    for sample in &mut same.samples {
        (sample.values, sample.variances) = (ordered(&sample.values), ordered(&sample.variances));
    }
    same.exact_totals = places.iter().map(|place| place.and_then(|place| base.exact_totals[place])).collect();
    same.values = now.values.clone();
    Ok(Cow::Owned(same))
}

/// By what `base` is multiplied to be of as much work as `now`, and how that is known.
fn scale(base: &Profile, now: &Profile) -> (f64, Vec<String>) {
    let named = |profile: &Profile| (profile.cell.workload.clone(), profile.cell.variant.clone());
    let units = |profile: &Profile| profile.measured.map_or(0, |measured| measured.units);
    let note = |text: &str| vec![text.to_owned()];
    match (units(base), units(now)) {
        _ if named(base) != named(now) => (1.0, note("their units of work may be others: nothing is scaled")),
        (0, _) | (_, 0) => (1.0, note("how much work each did is not known: nothing is scaled")),
        (before, after) if before == after => (1.0, Vec::new()),
        (before, after) => {
            let (before_text, after_text) = (human::count(before), human::count(after));
            let text = format!(
                "the first did {before_text} units of work, the second {after_text}: what grows with the work is scaled to the second's"
            );
            (after as f64 / before as f64, vec![text])
        }
    }
}

/// Whether samples of both weigh the same. Then what only one of them has seen is in its variance.
fn same_rates(a: &Sampling, b: &Sampling) -> bool {
    (a.call_period, a.byte_period) == (b.call_period, b.byte_period)
}

/// The variance of what samples taken so may have missed at one site and hold no sign of; `None` where that may be
/// anything: few large objects among many small ones, sampled by calls, or many small ones sampled by bytes.
fn missed(sampling: &Sampling, unit: ValueUnit) -> Option<f64> {
    let is_exact = sampling.call_period == Some(1) || sampling.byte_period == Some(1);
    match (unit, sampling.call_period, sampling.byte_period) {
        _ if is_exact => Some(0.0),
        // X bytes are missed with probability exp(-X / period): an exponential distribution, whose variance is its mean's
        // square.
        (ValueUnit::Bytes, _, Some(period)) => Some((period as f64).powi(2)),
        (ValueUnit::Count, Some(period), _) => Some((period as f64).powi(2)),
        _ => None,
    }
}

/// What else differs, and may be why.
fn doubts(base: &Profile, now: &Profile) -> Vec<String> {
    let mut notes = Vec::new();
    if base.cell != now.cell {
        notes.push(format!("not the same cell: {} and {}", named(base, now), named(now, base)));
    }
    if !base.complete || !now.complete {
        notes.push("one of the runs did not end by itself: it is compared as far as it went".to_owned());
    }
    if base.sampling.lost > 0 || now.sampling.lost > 0 {
        notes.push("some samples were lost: what they would have shown is missing on one side or both".to_owned());
    }
    notes
}

/// The cell, with its parameters where only these tell it from the other's.
fn named(profile: &Profile, other: &Profile) -> String {
    let cell = &profile.cell;
    let others = |name: &str| other.cell.params.get(name);
    let params: Vec<String> = cell
        .params
        .iter()
        .filter(|(name, value)| others(name) != Some(*value))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if params.is_empty() { cell.to_string() } else { format!("{cell} ({})", params.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::model::{Measured, Sample};
    use crate::profile::testing;
    use crate::stats::random::SplitMix64;

    /// A profile with a site of each of `lines` in one function, one allocation in `period` sampled of so many of each.
    fn sampled(calls: &[(u32, u64)], period: u64, random: &mut SplitMix64) -> Profile {
        let mut profile = testing::profile();
        let (stack, location) = (profile.stacks[1].clone(), profile.locations[2].clone());
        (profile.samples, profile.stacks) = (Vec::new(), Vec::new());
        profile.measured = Some(Measured { units: 100, ..Measured::default() });
        for (number, &(line, calls)) in (0..).zip(calls) {
            let place = profile.locations.len() as u32;
            let mut location = location.clone();
            location.frames[0].line = line;
            profile.locations.push(location);
            profile.stacks.push([stack[0], place].into_iter().chain(stack[2..].iter().copied()).collect());
            let taken = (0..calls).filter(|_| random.uniform() * (period as f64) < 1.0).count() as f64;
            let (weight, size) = (period as f64, 40.0);
            let variance = taken * weight * (weight - 1.0);
            let (mut values, mut variances) = (vec![0.0; profile.values.len()], vec![0.0; profile.values.len()]);
            (values[0], values[1]) = (taken * weight, taken * weight * size);
            (variances[0], variances[1]) = (variance, variance * size * size);
            profile.samples.push(Sample {
                stack: number,
                thread: None,
                phase: None,
                operation: None,
                cause: None,
                values,
                variances,
            });
        }
        profile
    }

    #[test]
    fn two_samplings_of_one_program_have_no_news_but_in_one_of_a_hundred() {
        let mut random = SplitMix64::new(7);
        // From sites that are hit a thousand times to such that are hardly ever.
        let program: Vec<(u32, u64)> = (0..40).map(|site| (10 + site, 8_000 >> (site / 4))).collect();
        let alarms = (0..300)
            .filter(|_| {
                let (a, b) = (sampled(&program, 8, &mut random), sampled(&program, 8, &mut random));
                !difference(&a, &b).unwrap().sites.is_empty()
            })
            .count();
        // 3 are expected; more than 9 come once in 1,000.
        assert!(alarms <= 9, "{alarms} false alarms in 300");
    }

    #[test]
    fn a_planted_site_is_first_and_nothing_else_is_news() {
        let mut random = SplitMix64::new(1);
        let program = [(10, 100_000), (12, 50_000), (14, 20_000)];
        let planted = [(10, 100_000), (12, 50_000), (13, 8_000), (14, 20_000)];
        let (a, b) = (sampled(&program, 64, &mut random), sampled(&planted, 64, &mut random));
        let found = difference(&a, &b).unwrap();
        let lines: Vec<u32> = found.sites.iter().map(|site| site.place.line).collect();
        assert_eq!((lines, found.unchanged), (vec![13], 3));
        let share = found.share(&found.sites[0]);
        assert!((share - 8_000.0 / 170_000.0).abs() < 4.0 * found.share_error(&found.sites[0]), "{share}");
        // The other way round it is gone.
        assert!(difference(&b, &a).unwrap().sites[0].now[0] == 0.0);
    }

    #[test]
    fn lines_that_moved_are_no_news() {
        let mut random = SplitMix64::new(2);
        let program = [(10, 100_000), (12, 50_000), (14, 20_000)];
        let moved = [(12, 100_000), (14, 50_000), (17, 20_000)];
        let (a, b) = (sampled(&program, 64, &mut random), sampled(&moved, 64, &mut random));
        assert_eq!(difference(&a, &b).unwrap().sites, []);
    }

    #[test]
    fn what_was_counted_has_no_error_and_is_scaled_to_as_much_work() {
        let mut random = SplitMix64::new(3);
        let mut a = sampled(&[(10, 1000), (12, 500)], 1, &mut random);
        let b = sampled(&[(10, 2000), (12, 1001)], 1, &mut random);
        let units = |profile: &mut Profile, units| profile.measured = Some(Measured { units, ..Measured::default() });
        units(&mut a, 50);
        let found = difference(&a, &b).unwrap();
        assert_eq!((found.sites.len(), found.sites[0].place.line), (1, 12));
        assert_eq!((found.sites[0].base[0], found.sites[0].now[0]), (1000.0, 1001.0));
        assert!(found.notes[0].contains("did 50 units of work"), "{:?}", found.notes);
        units(&mut a, 100);
        assert_eq!(difference(&a, &b).unwrap().sites.len(), 2, "without scaling, all has doubled");
    }

    #[test]
    fn what_samples_by_calls_miss_of_bytes_is_no_news_against_exact_ones() {
        let mut random = SplitMix64::new(4);
        let program = [(10, 100_000), (12, 50_000)];
        let (mut a, mut b) = (sampled(&program, 1, &mut random), sampled(&program, 4, &mut random));
        (a.sampling.call_period, b.sampling.call_period) = (Some(1), Some(4));
        // One object of 2 MiB, which was not sampled.
        a.samples[0].values[1] += f64::from(1 << 21);
        let found = difference(&a, &b).unwrap();
        assert_eq!((&found.sites[..], &found.tested[..]), (&[][..], &[0][..]));
        assert!(found.notes.iter().any(|note| note.contains("not compared") && note.ends_with("bytes")));
        // Sampled by bytes too it would hardly have been missed.
        b.sampling.byte_period = Some(1 << 16);
        assert_eq!(difference(&a, &b).unwrap().sites.len(), 1);
    }

    #[test]
    fn profiles_of_two_kinds_are_refused() {
        let (a, mut b) = (testing::profile(), testing::profile());
        b.kind = Kind::Stall;
        let error = difference(&a, &b).unwrap_err();
        assert_eq!(error, DiffError::Kinds { base: Kind::Alloc, now: Kind::Stall });
        assert!(error.to_string().contains("of alloc, the other of stall"), "{error}");
    }

    #[test]
    fn one_long_stall_more_is_chance_and_a_hundred_are_not() {
        let stalls = |calls: f64| {
            let mut profile = testing::profile();
            profile.kind = Kind::Stall;
            profile.values = crate::profile::stacks::stall_values();
            profile.exact_totals = vec![None; 3];
            profile.samples.truncate(1);
            (profile.samples[0].values, profile.samples[0].variances) = (vec![calls * 20e3, calls, 30e3], vec![0.0; 3]);
            profile
        };
        assert_eq!(difference(&stalls(5.0), &stalls(6.0)).unwrap().sites, []);
        assert_eq!(difference(&stalls(5.0), &stalls(105.0)).unwrap().sites.len(), 1);
    }
}
