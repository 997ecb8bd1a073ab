//! One trial, inside the measured process: the phases, and nothing else.

use std::cell::RefCell;
use std::io;

use heapgate_alloc::segment::layout::{Gauge, PhaseKind};
use heapgate_alloc::segment::writer::Phase;
use heapgate_alloc::{Session, session};

use crate::inject::{Injection, Planter};
use crate::profile::Profilers;
use crate::workload::{Error, Figures, Params, Steps, Variant, Work};
use crate::{allocator::Base, jemalloc, jemalloc_hooks, switch};

/// The environment variable that has a trial hold still so many times in its measured phase, evenly between steps; as in
/// `heapgate_core::supervisor`.
const SLICES_VARIABLE: &str = "HEAPGATE_SLICES";

/// What a trial is to do.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What to run.
    pub variant: Variant,
    /// With which parameters.
    pub params: Params,
    /// With how many measured steps, where not the workload's own number; a quarter as many warm it up.
    pub steps: Option<u64>,
    /// Regressions to plant.
    pub injection: Injection,
}

impl Trial {
    /// Runs all phases in this process. Their figures go into the segment; without one, only the work is done.
    ///
    /// # Errors
    /// If the workload can't be set up, or something can't be planted.
    pub fn run(&self) -> Result<Work, Error> {
        let (session, base) = (session(), switch::in_use());
        let phases = Phases { session, base, profilers: RefCell::new(Profilers::asked_for(session, base)?) };
        if let Some(session) = phases.session {
            session.hold();
        }
        if heapgate_alloc::takes_slow_calls() && phases.base.is_some_and(Base::has_jemalloc) {
            // What remains is that their kinds are unknown, which the profile says.
            if let Err(error) = jemalloc_hooks::install() {
                eprintln!("heapgate: what jemalloc's slow calls do is not told: {error}");
            }
        }
        let mut workload = None;
        phases.run(PhaseKind::Setup, 0, || {
            workload = Some((self.variant.setup)(&self.params));
            Work::default()
        });
        let mut workload = workload.expect("set-up has run")?;
        let own = workload.steps();
        let steps =
            self.steps.map_or(own, |measure| Steps { warmup: measure.div_ceil(4).min(own.warmup), measure, ..own });
        let region = phases.base.is_some_and(Base::has_region);
        let unmeasured = || Planter::unmeasured(self.injection);
        phases.run(PhaseKind::Warmup, steps.warmup, || {
            take(steps.warmup, region, &mut unmeasured(), || workload.step(), |_| ())
        });
        if steps.prefill > 0 {
            phases.run(PhaseKind::Prefill, steps.prefill, || {
                take(steps.prefill, region, &mut unmeasured(), || workload.prefill(), |_| ())
            });
        }
        let slices = Slices::asked_for(phases.session, steps.measure);
        // Before the workload starts its clocks: planting takes milliseconds.
        let mut planter = Planter::measured(self.injection, phases.session, phases.base)?;
        workload.measure_begins();
        let work = phases.run_with_figures(
            PhaseKind::Measure,
            steps.measure,
            &mut workload,
            |workload| {
                planter.steps_begin();
                let between = |taken| slices.step_taken(taken);
                let work = take(steps.measure, region, &mut planter, || workload.step(), between);
                planter.steps_end();
                work
            },
            |workload| {
                let mut figures = Figures::new(self.variant.figures);
                workload.figures(&mut figures);
                figures
            },
        );
        let mut planted = Ok(());
        phases.run(PhaseKind::Drain, 0, || {
            drop(workload);
            planted = planter.end();
            purge(phases.base);
            Work::default()
        });
        planted.map(|()| work)
    }
}

/// Takes `count` steps of `one`, each in a region of its own if there is to be one.
/// After each it says how many were taken.
fn take(
    count: u64,
    region: bool,
    planter: &mut Planter,
    mut one: impl FnMut() -> Work,
    mut between: impl FnMut(u64),
) -> Work {
    let mut sum = Work::default();
    for taken in 1..=count {
        let mut step = || {
            let work = one();
            planter.after_step(work);
            work
        };
        let work = if region { heapgate_region::scope(step) } else { step() };
        sum.units += work.units;
        // FNV-1a over the steps' checksums: their order counts.
        sum.checksum = (sum.checksum ^ work.checksum).wrapping_mul(0x0000_0100_0000_01B3);
        between(taken);
    }
    sum
}

/// Stops of the measured phase between its steps, at which the supervisor looks at what is alive.
struct Slices {
    session: Option<Session>,
    steps: u64,
    /// How many; 0 for none.
    count: u64,
}

impl Slices {
    fn asked_for(session: Option<Session>, steps: u64) -> Self {
        let asked = std::env::var(SLICES_VARIABLE).ok().and_then(|asked| asked.parse().ok());
        Self { session, steps, count: asked.unwrap_or(0).min(steps) }
    }

    /// Holds still where a slice ends.
    fn step_taken(&self, taken: u64) {
        let slice_of = |taken: u64| u128::from(taken) * u128::from(self.count) / u128::from(self.steps.max(1));
        if let Some(session) = self.session.filter(|_| slice_of(taken) > slice_of(taken - 1)) {
            session.hold();
        }
    }
}

/// Gives back what the allocator kept, so that what is left resident is what it can't or won't give.
fn purge(base: Option<Base>) {
    if base.is_some_and(Base::has_region) {
        heapgate_region::purge();
    }
    let result = if base.is_some_and(Base::has_jemalloc) {
        jemalloc::purge()
    } else {
        trim_system();
        Ok(())
    };
    if let Err(error) = result {
        eprintln!("heapgate: jemalloc refused to purge: {error}");
    }
}

fn trim_system() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no requirement.
    unsafe {
        libc::malloc_trim(0);
    }
}

struct Phases {
    session: Option<Session>,
    /// None: an allocator of the user's own, which we know nothing of.
    base: Option<Base>,
    profilers: RefCell<Profilers>,
}

impl Phases {
    fn run(&self, kind: PhaseKind, steps: u64, body: impl FnOnce() -> Work) -> Work {
        self.run_with_figures(kind, steps, &mut (), |()| body(), |()| Figures::new(&[]))
    }

    /// Runs `body` as a phase; then, when nothing more is counted as the phase's and its last sample is taken, asks for
    /// `figures`: what computing them takes is nobody's.
    fn run_with_figures<T>(
        &self,
        kind: PhaseKind,
        steps: u64,
        with: &mut T,
        body: impl FnOnce(&mut T) -> Work,
        figures: impl FnOnce(&mut T) -> Figures,
    ) -> Work {
        let Some(session) = self.session else { return body(with) };
        self.profile(|profilers| profilers.phase_begins(kind));
        let phase = session.begin_phase(kind as u64);
        let work = body(with);
        session.close_phase(&phase, work.units, work.checksum);
        phase.set_gauge(Gauge::Steps, steps);
        if let Err(error) = self.set_gauges(&phase) {
            eprintln!("heapgate: no statistics from jemalloc: {error}");
        }
        phase.end();
        // The last sample of the phase is taken while nothing moves.
        session.hold();
        self.profile(|profilers| profilers.phase_ends(kind));
        for (index, value) in figures(with).values() {
            phase.set_figure(index, value);
        }
        work
    }

    /// What fails in profiling is said, and leaves the work as it is: the supervisor finds less, and says that.
    fn profile(&self, ask: impl FnOnce(&mut Profilers) -> Result<(), Error>) {
        if let Err(error) = ask(&mut self.profilers.borrow_mut()) {
            eprintln!("heapgate: {error}");
        }
    }

    fn set_gauges(&self, phase: &Phase) -> io::Result<()> {
        if self.base.is_some_and(Base::has_region) {
            for (gauge, value) in heapgate_alloc::gauges::regions() {
                phase.set_gauge(gauge, value);
            }
        }
        if self.base.is_some_and(Base::has_jemalloc) {
            for (gauge, value) in jemalloc::gauges()? {
                phase.set_gauge(gauge, value);
            }
        }
        Ok(())
    }
}
