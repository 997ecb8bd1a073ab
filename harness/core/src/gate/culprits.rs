//! From a failed metric to lines of code: which profile explains it, and what that showed, put into the verdict.
//!
//! Profiles are taken by the command line, after the verdict; nothing here changes a decision.

use schemars::JsonSchema;
use serde::Serialize;

use super::advice::RUN_WITH_SITES;
use super::verdict::{Decision, Line, Verdict};
use crate::metric::{MetricId, Unit};
use crate::profile::diff::{DiffError, difference};
use crate::profile::view::{Place, sites};
use crate::profile::{Kind, Profile, ValueUnit};
use crate::render::human;
use crate::report::Cell;

/// Sites that are named of one profile: the first is looked at, the others are for the doubtful.
const MOST_SITES: usize = 5;
/// Of them, those that are among a metric's hints.
const MOST_HINTS: usize = 3;

/// What a profile of a failing cell showed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Culprits {
    /// The cell.
    pub cell: Cell,
    /// The failed metrics that it is to explain, the worst first.
    pub metrics: Vec<MetricId>,
    /// What was profiled.
    pub profile: Kind,
    /// Whether the side that plays the baseline was profiled too, and `sites` are those that got worse; else they are
    /// those with most.
    pub compared: bool,
    /// The sites, the foremost first.
    pub sites: Vec<Culprit>,
    /// The folder of the profile, with its flame graphs; empty where there is none.
    pub folder: String,
    /// What a reader should know: also why there is no profile.
    pub notes: Vec<String>,
}

/// One line of code.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Culprit {
    /// The function.
    pub function: String,
    /// Its file; empty where unknown.
    pub file: String,
    /// The line; 0 where unknown.
    pub line: u32,
    /// What of the standard library was called there; empty where nothing was.
    pub call: String,
    /// Which of the profile's values is given.
    pub value: String,
    /// What it is counted in.
    pub unit: ValueUnit,
    /// Before, scaled to as much work as now; absent where only this side was profiled.
    pub before: Option<f64>,
    /// Now.
    pub now: f64,
    /// The change as a share of all before; or the share of all now.
    pub share: f64,
    /// One standard error of `share`; absent where only this side was profiled.
    pub share_standard_error: Option<f64>,
}

/// A profile that would explain failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of which cell.
    pub cell: Cell,
    /// Of which kind.
    pub kind: Kind,
    /// The failed metrics that it explains, the worst first.
    pub metrics: Vec<MetricId>,
}

/// The profiles that would explain what failed, those of the worst first.
#[must_use]
pub fn wanted(verdict: &Verdict) -> Vec<Wanted> {
    let mut failed: Vec<&Line> = verdict.lines.iter().filter(|line| line.decision == Decision::Fail).collect();
    let worse = |line: &Line| line.worsening().unwrap_or(0.0);
    failed.sort_by(|a, b| worse(b).total_cmp(&worse(a)));
    let mut all: Vec<Wanted> = Vec::new();
    for line in failed {
        let Some((kind, _)) = explains(line.metric) else { continue };
        match all.iter_mut().find(|wanted| wanted.cell == line.cell && wanted.kind == kind) {
            Some(wanted) => wanted.metrics.push(line.metric),
            None => all.push(Wanted { cell: line.cell.clone(), kind, metrics: vec![line.metric] }),
        }
    }
    all
}

/// The kind of profile that fits a metric, and its value that is nearest to it; none for what no line of the program
/// makes.
fn explains(metric: MetricId) -> Option<(Kind, &'static str)> {
    use MetricId::*;
    Some(match metric {
        AllocationsPerUnit | ReallocationsPerUnit | EscapedObjects => (Kind::Alloc, "calls"),
        AllocatedBytesPerUnit | RegionPeakChunks => (Kind::Alloc, "bytes"),
        PeakLiveObjects => (Kind::Heap, "peak_objects"),
        PeakLiveBytes | PeakRss | PageTables | MinorFaults | RssSwing => (Kind::Heap, "peak_bytes"),
        LeftObjects => (Kind::Heap, "end_objects"),
        LeftBytes | LeftRss | Fragmentation => (Kind::Heap, "end_bytes"),
        Throughput | CpuPerUnit => (Kind::Cpu, "cpu"),
        StallShare | StallPerUnit | StallMean | StallP50 | StallP95 | StallP99 | StallP999 | StallDistribution
        | StallMax | StallAllMax => (Kind::Stall, "stall"),
        InvoluntarySwitches | InterruptedDistribution => return None,
    })
}

impl Wanted {
    /// What `now` shows, and what changed against `base`.
    ///
    /// # Errors
    /// If the two can't be compared.
    pub fn found(&self, now: &Profile, base: Option<&Profile>) -> Result<Culprits, DiffError> {
        let value = self.metrics.first().and_then(|&metric| explains(metric)).map_or("", |(_, value)| value);
        let index = now.value_index(value).unwrap_or(now.main_value());
        let mut found = self.nothing(Vec::new());
        found.compared = base.is_some();
        match base {
            None => {
                let mut all = sites(now);
                all.sort_by(|a, b| b.values[index].total_cmp(&a.values[index]));
                let whole = now.total(index).max(f64::MIN_POSITIVE);
                let with_some = all.iter().filter(|site| site.values[index] > 0.0).take(MOST_SITES);
                found.sites = with_some
                    .map(|site| culprit(now, &site.place, index, None, site.values[index], site.values[index] / whole))
                    .collect();
                found.notes.push(
                    "only this side was profiled: these are the lines with most, not those that changed".to_owned(),
                );
            }
            Some(base) => {
                let difference = difference(base, now)?;
                // What the metric is about comes first, then whatever else grew.
                let (of_value, others): (Vec<_>, Vec<_>) = difference
                    .sites
                    .iter()
                    .filter(|site| site.change(site.strongest) > 0.0)
                    .partition(|site| site.strongest == index);
                let culprits = of_value.into_iter().chain(others).take(MOST_SITES).map(|site| {
                    let of = site.strongest;
                    Culprit {
                        share_standard_error: Some(difference.share_error(site)),
                        ..culprit(now, &site.place, of, Some(site.base[of]), site.now[of], difference.share(site))
                    }
                });
                found.sites = culprits.collect();
                if found.sites.is_empty() {
                    found.notes.push(format!("no line grew by more than chance in the {} profile", self.kind));
                }
                found.notes.extend(difference.notes);
            }
        }
        Ok(found)
    }

    /// That there is no profile, and why.
    #[must_use]
    pub fn nothing(&self, notes: Vec<String>) -> Culprits {
        Culprits {
            cell: self.cell.clone(),
            metrics: self.metrics.clone(),
            profile: self.kind,
            compared: false,
            sites: Vec::new(),
            folder: String::new(),
            notes,
        }
    }
}

fn culprit(now: &Profile, place: &Place, index: usize, before: Option<f64>, value: f64, share: f64) -> Culprit {
    let Place { function, file, line, call } = place.clone();
    let of = &now.values[index];
    let (name, unit) = (of.name.clone(), of.unit);
    Culprit { function, file, line, call, value: name, unit, before, now: value, share, share_standard_error: None }
}

impl Culprit {
    /// `words::split (words/src/lib.rs:12) calls Vec::push: 800 → 2,100 calls`.
    #[must_use]
    pub fn text(&self) -> String {
        let call = if self.call.is_empty() { String::new() } else { format!(" calls {}", self.call) };
        let place = if self.file.is_empty() { String::new() } else { format!(" ({}:{})", self.file, self.line) };
        let number = |number: f64| match self.unit {
            ValueUnit::Bytes => human::value(Unit::Bytes, number),
            ValueUnit::Nanoseconds => human::value(Unit::Nanos, number),
            ValueUnit::Count => human::value(Unit::Count, number.round()),
        };
        let (name, share) = (self.value.replace('_', " "), (self.share * 1e3).round() / 1e3);
        let figures = match self.before {
            Some(before) => {
                format!("{name} {} → {}, {} of all", number(before), number(self.now), human::change(share))
            }
            None => format!("{name} {}, {} of all", number(self.now), human::percent(share)),
        };
        format!("{}{place}{call}: {figures}", self.function)
    }
}

/// Puts what was found into the verdict: whole, and the foremost lines among the hints of the metrics they explain.
pub fn accuse(verdict: &mut Verdict, found: Vec<Culprits>) {
    for culprits in found {
        let mut hints: Vec<String> = culprits
            .sites
            .iter()
            .take(MOST_HINTS)
            .map(|site| format!("{} profile: {}", culprits.profile, site.text()))
            .collect();
        if hints.is_empty() {
            hints.extend(culprits.notes.iter().map(|note| format!("{} profile: {note}", culprits.profile)));
        }
        let is_explained = |line: &&mut Line| {
            line.cell == culprits.cell && line.decision == Decision::Fail && culprits.metrics.contains(&line.metric)
        };
        for line in verdict.lines.iter_mut().filter(is_explained) {
            // What it tells to do has been done.
            line.advice.retain(|hint| culprits.sites.is_empty() || hint != RUN_WITH_SITES);
            line.advice.splice(0..0, hints.iter().cloned());
        }
        verdict.culprits.push(culprits);
    }
}

impl Verdict {
    /// The foremost line of code behind `line`, of those whose place is known.
    #[must_use]
    pub fn foremost(&self, line: &Line) -> Option<(&Culprits, &Culprit)> {
        let of_line = |culprits: &&Culprits| culprits.cell == line.cell && culprits.metrics.contains(&line.metric);
        let culprits = self.culprits.iter().find(of_line)?;
        let known = culprits.sites.iter().find(|site| !site.file.is_empty() && site.line > 0)?;
        Some((culprits, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gate::{Look, compare};
    use crate::profile::testing;
    use crate::report::testing as reports;

    fn failed() -> Verdict {
        let report = reports::report(1, 2);
        let mut verdict = compare(&report, &report, &Config::default(), Look::ONLY);
        for line in &mut verdict.lines {
            if [MetricId::AllocationsPerUnit, MetricId::PeakRss, MetricId::AllocatedBytesPerUnit].contains(&line.metric)
            {
                line.decision = Decision::Fail;
                line.advice = vec![RUN_WITH_SITES.to_owned()];
            }
        }
        verdict
    }

    #[test]
    fn metrics_of_one_kind_share_a_profile() {
        let kinds: Vec<(Kind, usize)> = wanted(&failed()).iter().map(|w| (w.kind, w.metrics.len())).collect();
        assert_eq!(kinds.len(), 2);
        assert!(kinds.contains(&(Kind::Alloc, 2)) && kinds.contains(&(Kind::Heap, 1)), "{kinds:?}");
    }

    #[test]
    fn what_changed_is_among_the_hints_in_place_of_how_to_find_it() {
        let mut verdict = failed();
        let wanted = wanted(&verdict).into_iter().find(|wanted| wanted.kind == Kind::Alloc).unwrap();
        let (base, mut now) = (testing::profile(), testing::profile());
        now.samples[0].values[0] = 1_900.0;
        let found = wanted.found(&now, Some(&base)).unwrap();
        accuse(&mut verdict, vec![found]);
        let line = verdict.lines.iter().find(|line| line.metric == MetricId::AllocationsPerUnit).unwrap();
        assert_eq!(
            line.advice,
            ["alloc profile: words::split (words/src/lib.rs:12) calls Vec::push: calls 800 → 2,100, +130.0% of all"]
        );
        assert_eq!(verdict.foremost(line).unwrap().1.line, 12);
        let rss = verdict.lines.iter().find(|line| line.metric == MetricId::PeakRss).unwrap();
        assert_eq!((rss.advice.len(), verdict.foremost(rss)), (1, None));
    }

    #[test]
    fn without_a_base_those_with_most_are_named_and_that_is_said() {
        let wanted = wanted(&failed()).into_iter().find(|wanted| wanted.kind == Kind::Alloc).unwrap();
        let found = wanted.found(&testing::profile(), None).unwrap();
        assert_eq!(
            (found.compared, found.sites[0].function.as_str(), found.sites[0].share),
            (false, "words::split", 0.8)
        );
        assert!(found.notes[0].contains("only this side"), "{:?}", found.notes);
    }

    #[test]
    fn a_profile_that_failed_is_said_and_no_hint_is_lost() {
        let mut verdict = failed();
        let nothing: Vec<Culprits> =
            wanted(&verdict).iter().map(|wanted| wanted.nothing(vec!["it took too long".to_owned()])).collect();
        accuse(&mut verdict, nothing);
        let line = verdict.lines.iter().find(|line| line.metric == MetricId::AllocationsPerUnit).unwrap();
        assert_eq!(line.advice, ["alloc profile: it took too long", RUN_WITH_SITES]);
    }
}
