//! From an experiment and the trials of its arms to what they say of the claims.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Arm, Body, Claim, Experiment, Row};
use super::scenario::Scene;
use crate::metric::{MetricId, Unit};
use crate::render;
use crate::report::{Cell, CellTrials, Machine, PRINTED, PhaseKind, Report, Sites, Trial};
use crate::stats::sample::median;
use crate::stats::two_samples::factor;

/// How sure an interval is to hold the true factor.
const CONFIDENCE: f64 = 0.95;

/// Points of a curve: as many as a line of a terminal has room for.
const CURVE_POINTS: usize = 60;

/// Trials shorter than this have no curve worth showing, s.
const CURVE_FROM_S: f64 = 2.0;

/// What [`Cost::unit`] says where the cost is of a step, not of a unit of work.
pub const STEP: &str = "step";

/// The version of [`Findings`]' schema.
pub const FINDINGS_SCHEMA_VERSION: u32 = 1;

/// What some experiments found: what `heapgate experiment --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// The version of this schema.
    pub schema_version: u32,
    /// The experiments, in the order they ran.
    pub experiments: Vec<Evaluation>,
}

/// What an experiment found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The experiment's number: 3 for E3.
    pub number: u32,
    /// A few words.
    pub title: String,
    /// What was run, and how that stands for what the source ran.
    pub about: String,
    /// When, seconds since 1970 (UTC).
    pub created_unix_s: u64,
    /// Where.
    pub machine: Machine,
    /// The commit that was built; empty where there is no git.
    pub commit: String,
    /// Repetitions of each arm.
    pub reps: u32,
    /// What was compared.
    pub rows: Vec<Compared>,
    /// What a unit of work costs; of E30.
    pub costs: Vec<Cost>,
    /// Call sites, as text for a terminal; of E2.
    pub sites: Vec<SiteTable>,
    /// Memory over time, of the first repetition of each arm that took long enough.
    pub curves: Vec<Curve>,
    /// Arms that failed or could not be run, and why; and what others warned of.
    pub problems: Vec<String>,
}

/// One figure of two arms, claimed and measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// What the figure is.
    pub what: String,
    /// Its unit.
    pub unit: Unit,
    /// The arm compared with.
    pub base: String,
    /// The arm compared.
    pub other: String,
    /// What was claimed; absent where nothing was.
    pub claimed: Option<Claimed>,
    /// What was measured; absent where it could not be.
    pub measured: Option<Measured>,
    /// Whether the claimed direction held.
    pub holds: Holds,
}

/// A claim.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claimed {
    /// From which value, in the row's unit; absent where only a change, or only where it ends, was claimed.
    pub base: Option<f64>,
    /// To which; absent where only a change was claimed.
    pub other: Option<f64>,
    /// The factor; absent from 0.
    pub factor: Option<f64>,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Median of the arm compared with.
    pub base: f64,
    /// Median of the arm compared.
    pub other: f64,
    /// The factor between them; absent from 0.
    pub factor: Option<f64>,
    /// Where the true factor is; absent where too few repetitions can tell.
    pub interval: Option<FactorInterval>,
}

/// An interval of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorInterval {
    /// Its lower end; absent where infinite.
    pub low: Option<f64>,
    /// Its upper end; absent where infinite.
    pub high: Option<f64>,
    /// Its confidence, 0 to 1; 1 where all repetitions agree.
    pub confidence: f64,
}

/// Whether a claimed direction held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The whole interval is on the claimed side.
    Yes,
    /// None of it is.
    No,
    /// It is on both sides, or there is none.
    Undecided,
    /// No change was claimed.
    NoClaim,
    /// This machine, or this allocator, can't measure it.
    NotMeasured,
}

/// What a unit of one arm's work, or one of its steps, costs: medians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The arm.
    pub arm: String,
    /// Its unit of work, or `step`: a document, a batch, whatever one step of it is.
    pub unit: String,
    /// Calls that hand out memory.
    pub allocations: f64,
    /// Bytes asked for.
    pub bytes: f64,
    /// CPU time, ns; absent where not measured.
    pub cpu_ns: Option<f64>,
    /// Time in uninterrupted allocator calls, ns; absent where not measured.
    pub stall_ns: Option<f64>,
}

/// The call sites of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteTable {
    /// The arm.
    pub arm: String,
    /// Its table.
    pub text: String,
}

/// Memory over the time of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The arm.
    pub arm: String,
    /// Length of the trial, s.
    pub wall_s: f64,
    /// Resident memory, bytes, evenly spaced.
    pub rss_bytes: Vec<u64>,
    /// Live objects at the same times; empty where not counted.
    pub live_objects: Vec<i64>,
}

/// What the trials of `report` say. `arm_of` finds the cell that an arm ran as; `problems` are arms that could not be
/// planned.
#[must_use]
pub fn evaluate(
    experiment: &Experiment,
    report: &Report,
    arm_of: impl Fn(&Arm) -> Option<Cell>,
    problems: Vec<String>,
) -> Evaluation {
    let cells = report.cells();
    let trials = |arm: &Arm| {
        let cell = arm_of(arm)?;
        cells.iter().find(|c| *c.cell == cell)
    };
    let mut evaluation = Evaluation {
        number: experiment.number,
        title: experiment.title.to_owned(),
        about: experiment.about.to_owned(),
        created_unix_s: report.created_unix_s,
        machine: report.fingerprint.machine.clone(),
        commit: report.fingerprint.build.commit.clone(),
        reps: cells.iter().map(|c| c.trials.len() as u32).max().unwrap_or(0),
        rows: Vec::new(),
        costs: Vec::new(),
        sites: Vec::new(),
        curves: Vec::new(),
        problems,
    };
    let arms = experiment.body.arms();
    for (arm, trials) in arms.iter().filter_map(|arm| Some((arm, trials(arm)?))) {
        evaluation.problems.extend(failures(arm.name, trials));
        for said in trials.completed().flat_map(|trial| &trial.notes).filter_map(|note| note.strip_prefix(PRINTED)) {
            // Most arms of an experiment have the same to say.
            if !evaluation.problems.iter().any(|problem| problem.ends_with(said)) {
                evaluation.problems.push(format!("{} printed: {said}", arm.name));
            }
        }
        evaluation.curves.extend(trials.completed().next().and_then(|trial| curve(arm.name, trial)));
    }
    if let Body::Compare { rows, .. } = &experiment.body {
        let values = |name: &str, row: &Row| -> Vec<f64> {
            let arm = arms.iter().find(|arm| arm.name == name);
            let trials = arm.and_then(trials);
            trials.map_or_else(Vec::new, |t| t.completed().filter_map(|trial| row.read.of(trial)).collect())
        };
        evaluation.rows =
            rows.iter().map(|row| compare(row, &values(row.base, row), &values(row.other, row))).collect();
    }
    if let Body::Sites { claims, .. } = &experiment.body {
        let sites = |arm: &Arm| Sites::merged(trials(arm)?.completed().filter_map(|trial| trial.sites.as_ref()));
        evaluation.rows = arms
            .first()
            .and_then(|arm| Some((arm.name, sites(arm)?)))
            .map_or_else(Vec::new, |(arm, sites)| top_sites(arm, &sites, claims));
        evaluation.sites = arms
            .iter()
            .filter_map(|arm| {
                let text = render::sites::table(&sites(arm)?, render::Options::default());
                Some(SiteTable { arm: arm.name.to_owned(), text })
            })
            .collect();
    }
    if let Body::UnitCosts { .. } = &experiment.body {
        evaluation.costs = arms.iter().filter_map(|arm| Some(costs(arm.name, trials(arm)?))).flatten().collect();
    }
    evaluation
}

/// What a scenario's scene says.
#[must_use]
pub fn evaluate_scene(
    experiment: &Experiment,
    scene: Scene,
    (created_unix_s, machine, commit): (u64, Machine, String),
) -> Evaluation {
    Evaluation {
        number: experiment.number,
        title: experiment.title.to_owned(),
        about: experiment.about.to_owned(),
        created_unix_s,
        machine,
        commit,
        reps: 1,
        rows: scene.rows,
        costs: Vec::new(),
        sites: scene.texts,
        curves: Vec::new(),
        problems: scene.problems,
    }
}

fn failures(arm: &str, trials: &CellTrials<'_>) -> Option<String> {
    let failed: Vec<&&Trial> = trials.trials.iter().filter(|t| !t.outcome.is_completed()).collect();
    let first = failed.first()?;
    Some(format!("{arm}: {} of {} repetitions: {}", failed.len(), trials.trials.len(), first.outcome))
}

/// The sites that allocate most, by rank beside those of the source: which is which can't be matched, so no direction
/// can hold.
fn top_sites(arm: &str, sites: &Sites, claims: &[(&str, f64, f64)]) -> Vec<Compared> {
    let figure = |what: String, unit, claimed, measured: f64| Compared {
        what,
        unit,
        base: arm.to_owned(),
        other: arm.to_owned(),
        claimed: Some(self::claimed(Claim::At(claimed))),
        measured: Some(Measured { base: measured, other: measured, factor: None, interval: None }),
        holds: Holds::NoClaim,
    };
    let ranked = claims.iter().zip(&sites.sites).enumerate();
    ranked
        .flat_map(|(rank, (&(name, share, mean_bytes), site))| {
            let rank = rank + 1;
            [
                figure(format!("site {rank}, share (source: {name})"), Unit::Share, share, sites.share(site)),
                figure(format!("site {rank}, mean size"), Unit::Bytes, mean_bytes, site.mean_bytes()),
            ]
        })
        .collect()
}

fn compare(row: &Row, base: &[f64], other: &[f64]) -> Compared {
    let measured = factor(base, other, CONFIDENCE).and_then(|factor| {
        let finite = |value: f64| value.is_finite().then_some(value);
        Some(Measured {
            base: median(base)?,
            other: median(other)?,
            factor: finite(factor.estimate),
            interval: factor.interval.map(|interval| FactorInterval {
                low: finite(interval.low),
                high: finite(interval.high),
                confidence: interval.confidence,
            }),
        })
    });
    Compared {
        what: row.what.to_owned(),
        unit: row.unit,
        base: row.base.to_owned(),
        other: row.other.to_owned(),
        claimed: row.claim.map(claimed),
        measured,
        holds: holds(row.claim, measured),
    }
}

fn claimed(claim: Claim) -> Claimed {
    let factor = claim.factor().filter(|factor| factor.is_finite());
    match claim {
        Claim::FromTo(base, other) => Claimed { base: Some(base), other: Some(other), factor },
        Claim::Factor(_) => Claimed { base: None, other: None, factor },
        Claim::At(other) => Claimed { base: None, other: Some(other), factor },
    }
}

fn holds(claim: Option<Claim>, measured: Option<Measured>) -> Holds {
    let Some(claimed) = claim.and_then(Claim::factor) else { return Holds::NoClaim };
    let Some(measured) = measured else { return Holds::NotMeasured };
    let Some(interval) = measured.interval else { return Holds::Undecided };
    // An end that is absent is infinite.
    let [low, high] = [interval.low, interval.high].map(|end| end.unwrap_or(f64::INFINITY));
    let (all_lower, all_higher) = (high < 1.0, low > 1.0);
    let unchanged = low == 1.0 && high == 1.0;
    match claimed {
        factor if factor < 1.0 && all_lower || factor > 1.0 && all_higher => Holds::Yes,
        factor if factor < 1.0 && low >= 1.0 || factor > 1.0 && high <= 1.0 => Holds::No,
        1.0 if unchanged => Holds::Yes,
        1.0 if all_lower || all_higher => Holds::No,
        _ => Holds::Undecided,
    }
}

/// Of one unit of work; and of one step, where that is something else (a document of many tokens).
fn costs(arm: &str, trials: &CellTrials<'_>) -> Vec<Cost> {
    let figure = |metric| median(&trials.values(metric));
    let of = |unit: &str, units: f64| {
        Some(Cost {
            arm: arm.to_owned(),
            unit: unit.to_owned(),
            allocations: figure(MetricId::AllocationsPerUnit)? * units,
            bytes: figure(MetricId::AllocatedBytesPerUnit)? * units,
            cpu_ns: figure(MetricId::CpuPerUnit).map(|ns| ns * units),
            stall_ns: figure(MetricId::StallPerUnit).map(|ns| ns * units),
        })
    };
    let per_step = |trial: &Trial| {
        let phase = trial.phases.iter().find(|p| p.kind == PhaseKind::Measure && p.ended && p.steps > 0)?;
        Some(phase.units as f64 / phase.steps as f64)
    };
    let units = median(&trials.completed().filter_map(per_step).collect::<Vec<_>>());
    let step = units.filter(|&units| units != 1.0).and_then(|units| of(STEP, units));
    of(trials.unit(), 1.0).into_iter().chain(step).collect()
}

fn curve(arm: &str, trial: &Trial) -> Option<Curve> {
    if trial.wall_s < CURVE_FROM_S || trial.rss_series.is_empty() {
        return None;
    }
    let points = trial.rss_series.len().min(CURVE_POINTS);
    let index = |point: usize| point * trial.rss_series.len() / points;
    Some(Curve {
        arm: arm.to_owned(),
        wall_s: trial.wall_s,
        rss_bytes: (0..points).map(|point| trial.rss_series[index(point)].1).collect(),
        live_objects: (0..points).filter_map(|point| Some(trial.live_series.get(index(point))?.0)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::model::Read;
    use super::*;
    use crate::report::testing;

    const ROW: Row = Row {
        what: "allocations",
        unit: Unit::Count,
        read: Read::Metric(MetricId::AllocationsPerUnit),
        base: "heap",
        other: "arena",
        claim: Some(Claim::FromTo(1.5e6, 0.0)),
    };

    fn held(claim: Claim, base: &[f64], other: &[f64]) -> Holds {
        compare(&Row { claim: Some(claim), ..ROW }, base, other).holds
    }

    #[test]
    fn a_direction_holds_only_if_the_whole_interval_is_on_its_side() {
        let lower = Claim::FromTo(10.0, 5.0);
        let base = [10.0, 10.1, 10.2, 10.3, 10.4];
        let over = [9.0, 9.9, 10.15, 10.6, 11.0];
        assert_eq!(held(lower, &base, &[5.0, 5.1, 5.2, 5.3, 5.4]), Holds::Yes);
        assert_eq!(held(lower, &base, &[15.0, 15.1, 15.2, 15.3, 15.4]), Holds::No);
        assert_eq!(held(lower, &base, &over), Holds::Undecided);
        assert_eq!(held(Claim::Factor(2.0), &base, &[15.0, 15.1, 15.2, 15.3, 15.4]), Holds::Yes);
        assert_eq!(held(lower, &base[..3], &[5.0, 5.1, 5.2]), Holds::Undecided, "three repetitions can't tell");
    }

    #[test]
    fn exact_figures_need_no_statistics() {
        let lower = Claim::FromTo(1.5e6, 0.0);
        assert_eq!(held(lower, &[20.0, 20.0], &[0.0, 0.0]), Holds::Yes);
        assert_eq!(held(lower, &[20.0, 20.0], &[20.0, 20.0]), Holds::No, "unchanged is not lower");
        assert_eq!(held(Claim::FromTo(0.0, 0.92), &[0.0, 0.0], &[0.9, 0.9]), Holds::Yes, "from nothing");
        assert_eq!(held(Claim::FromTo(0.0, 0.0), &[0.0, 0.0], &[0.0, 0.0]), Holds::Yes, "nothing, as claimed");
        assert_eq!(held(Claim::FromTo(0.0, 0.0), &[0.0, 0.0], &[0.1, 0.1]), Holds::No);
        assert_eq!(held(lower, &[], &[]), Holds::NotMeasured);
    }

    #[test]
    fn arms_are_found_by_the_cell_they_ran_as() {
        static ARMS: &[Arm] = &[
            Arm { name: "heap", variant: "tokenize/hf-wordpiece", allocator: "jemalloc", params: &[] },
            Arm { name: "arena", variant: "decode/json-owned", allocator: "jemalloc", params: &[] },
            Arm { name: "gone", variant: "embed/mean-pool", allocator: "jemalloc", params: &[] },
        ];
        static ROWS: &[Row] = &[ROW, Row { other: "gone", ..ROW }];
        let experiment =
            Experiment { number: 9, title: "t", about: "a", body: Body::Compare { arms: ARMS, rows: ROWS } };
        let mut report = testing::report(2, 5);
        testing::set_cell(&mut report, 1, MetricId::AllocationsPerUnit, 5.0);
        let cell = |arm: &Arm| Some(testing::cell(ARMS.iter().position(|a| a.name == arm.name)?));
        let found = evaluate(&experiment, &report, cell, vec!["gone: no model".to_owned()]);
        assert_eq!(found.rows[0].holds, Holds::Yes);
        assert_eq!(found.rows[0].measured.unwrap().factor, Some(0.25));
        assert_eq!(found.rows[1].holds, Holds::NotMeasured);
        assert_eq!((found.reps, found.problems), (5, vec!["gone: no model".to_owned()]));
    }
}
