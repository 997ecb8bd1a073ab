//! Leaks of a workload: it is run, and holds still between steps while what is alive is looked at.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use heapgate_bench::{AllocatorSpec, Base, Injection, Under};
use heapgate_core::exit;
use heapgate_core::leaks::growth::{self, LEFT_SHARE, SiteSeries, Span};
use heapgate_core::leaks::witness::Evidence;
use heapgate_core::leaks::{self, Look, WINDOWS};
use heapgate_core::plan::Planned;
use heapgate_core::report::{PhaseKind, Trial};
use heapgate_core::sites::Symbols;
use heapgate_core::stats::trend::FEWEST_WINDOWS;
use heapgate_core::supervisor::{self, Asked, Settings, Watched};
use heapgate_segment::layout::Level;
use heapgate_segment::stacks::{Scope, Settings as Sampling, StackSamples};

use super::{Of, Subject};
use crate::fail::Failure;
use crate::matrix::{self, Matrix};
use crate::named;
use crate::profile;
use crate::signals;
use crate::source::Source;

/// Moments in each window: the lowest of four tells what stays from what comes and goes with the steps.
const PER_WINDOW: usize = 4;

/// One allocation in how many is sampled, where nobody says.
const DEFAULT_CALL_PERIOD: u64 = 16;
/// And once in how many bytes: of a block of 4 KiB, one in four is seen for its size, too.
const DEFAULT_BYTE_PERIOD: u64 = 16 << 10;
/// jemalloc's profiler samples once in so many bytes: of a leak of 1 MiB it has 256 samples, of which half are a growth
/// beyond doubt. Nothing is timed here, so it may cost.
const HEAP_RATE_BYTES: u64 = 4 << 10;

/// What was asked for.
#[derive(Debug)]
pub struct Wish<'a> {
    pub workload: Option<&'a str>,
    pub allocator: Option<&'a str>,
    pub params: &'a [String],
    pub steps: Option<u64>,
    pub timeout: Duration,
    pub every: Option<u64>,
    pub heap_profile: bool,
    pub inject: Injection,
    pub older_than: Option<Duration>,
}

/// Runs it once, and says whether enough was seen.
///
/// # Errors
/// For a workload or an allocator that there isn't, and if the workload fails.
pub fn look(source: Source, wish: Wish<'_>) -> Result<(Vec<Subject>, bool), Failure> {
    if let Some(steps) = wish.steps.filter(|&steps| steps < FEWEST_WINDOWS as u64) {
        return Err(Failure::usage(format!(
            "--steps {steps}: growth shows over {FEWEST_WINDOWS} steps at the least, {} are better",
            WINDOWS * PER_WINDOW
        )));
    }
    let (planned, settings, asked) = plan(source, &wish)?;
    let stop = signals::stop_flag()?;
    eprintln!("{}: looking at what stays alive", planned.cell);
    let seen = supervisor::watch(&planned, &settings, asked, &stop)?;
    let Some(trial) = seen.trial.as_ref().filter(|_| !stop.load(Relaxed)) else {
        return Err(Failure {
            error: anyhow::anyhow!("interrupted before the workload had ended"),
            code: exit::INTERRUPTED,
        });
    };
    if !trial.outcome.is_completed() {
        return Err(Failure::workload(format!("{}: the workload {}", planned.cell, profile::told(&trial.outcome))));
    }
    Ok(found(&planned, trial, &seen, wish.older_than))
}

fn plan(source: Source, wish: &Wish<'_>) -> Result<(Planned, Settings, Asked), Failure> {
    let name = named::variant(&source, wish.workload)?;
    let asked: Option<Under> = wish.allocator.map(str::parse).transpose().map_err(Failure::usage)?;
    let described = source.select(std::slice::from_ref(&name))?[0].clone();
    let under = source.allocators(&described, asked.as_slice())?.remove(0);
    matrix::check_settings(&source.program, std::slice::from_ref(&under))?;
    let matrix = Matrix {
        workloads: &[name],
        allocators: std::slice::from_ref(&under),
        params: wish.params,
        steps: wish.steps,
        inject: wish.inject,
        reps: 1,
        seed: 0,
    };
    let mut planned = matrix.plan(&source)?.cells.remove(0);
    if wish.heap_profile {
        let spec = with_jemalloc(&under)?;
        let profiled = Under::Switch(profile::profiled(spec, HEAP_RATE_BYTES));
        planned.environment =
            profiled.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }
    let settings = Settings {
        timeout: wish.timeout,
        directory: source.directory,
        level: Level::Count,
        ..Settings::new(source.program)
    };
    // From the start: only so is seen what is freed after the measured phase.
    let sampling = Sampling {
        call_period: wish.every.unwrap_or(DEFAULT_CALL_PERIOD),
        byte_period: if wish.every.is_some() { 0 } else { DEFAULT_BYTE_PERIOD },
        scope: Scope::Always,
        track_frees: true,
        ..Sampling::NOTHING
    };
    let asked = Asked { sampling, slices: WINDOWS * PER_WINDOW, jemalloc_heap: wish.heap_profile };
    Ok((planned, settings, asked))
}

fn with_jemalloc(under: &Under) -> Result<&AllocatorSpec, Failure> {
    match under {
        Under::Switch(spec) if spec.base == Base::Jemalloc => Ok(spec),
        _ => Err(Failure::usage(format!(
            "--heap-profile: it is jemalloc's, and this runs under {under}; say -a jemalloc"
        ))),
    }
}

fn found(planned: &Planned, trial: &Trial, seen: &Watched, older_than: Option<Duration>) -> (Vec<Subject>, bool) {
    let measured = trial.phases.iter().find(|phase| phase.kind == PhaseKind::Measure);
    let (steps, seconds) = measured.map_or((0, 0.0), |phase| (phase.steps, phase.wall_s));
    let mut symbols = Symbols::default();
    let moments: Vec<&StackSamples> = seen.slices.iter().map(|slice| &slice.stacks).collect();
    let sites = growth::series(&moments, Some(&seen.left), true, &seen.modules, &mut symbols);
    let jemalloc = seen.dumps.as_ref().and_then(|dumps| growth::heap_profile(dumps, &seen.modules, &mut symbols));

    let settings = leaks::Settings { running: false, drained: true, older_than };
    let mut looks: Vec<Look> =
        seen.slices.iter().map(|slice| Look { live_bytes: Some(slice.live.1), ..Look::default() }).collect();
    let last = Look { at_ns: seen.ended_at_ns, live_bytes: None, reading: seen.arenas.clone() };
    // The end is no moment of the measured phase.
    let live: Vec<f64> = looks.iter().filter_map(|look| look.live_bytes).map(|bytes| bytes as f64).collect();
    looks.push(last);
    let mut findings = leaks::find(&looks, settings);
    findings.live_bytes = leaks::live_trend(&leaks::windows(&live));
    findings.growing = growth::grow(&sites, Span { seconds, steps: Some(steps) });
    findings.corroborate(Evidence {
        sites: Some(&sites),
        jemalloc: jemalloc.as_deref(),
        live_bytes: findings.live_bytes,
    });
    findings.unexplained = !findings.any() && is_left(&findings, &sites);

    let windows = moments.len().min(WINDOWS);
    let enough = windows >= FEWEST_WINDOWS;
    let mut notes = Vec::new();
    if !enough {
        notes.push(match moments.len() as u64 {
            0 if steps > 0 => {
                "the workload did not hold still: its bench was built with an older heapgate-bench".to_owned()
            }
            _ => format!("{steps} steps are too few to tell growth: ask for --steps {}", WINDOWS * PER_WINDOW),
        });
    }
    if seen.left.full > 0 || seen.left.untracked > 0 {
        notes.push("not all samples found room: sample fewer (--every)".to_owned());
    }
    if let Some(dumps) = &seen.dumps {
        notes.extend(dumps.problems.iter().cloned());
    }
    let cell = &planned.cell;
    let (workload, variant, allocator) = (cell.workload.clone(), cell.variant.clone(), cell.allocator.clone());
    let of = Of::Run { workload, variant, allocator, steps, windows };
    (vec![Subject { of, findings, notes }], enough)
}

/// Whether all bytes grew, and what was made while measuring and is left, by all lines together, is as much.
fn is_left(findings: &leaks::Findings, sites: &[SiteSeries]) -> bool {
    findings.live_bytes.is_some_and(|trend| {
        trend.grows && growth::left_bytes(sites) >= LEFT_SHARE * (trend.last_bytes - trend.first_bytes)
    })
}
