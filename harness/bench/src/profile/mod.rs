//! What the measured process does for a profile, if its environment asks for one: `cpu` samples, `heap` has jemalloc dump.
//! Only raw addresses are written; names are found by the supervisor. Called by the trial at the ends of its phases.

#[cfg(feature = "cpu-profile")]
mod cpu;
mod heap;

use heapgate_alloc::Session;
use heapgate_alloc::segment::layout::PhaseKind;

use crate::allocator::Base;
use crate::workload::Error;

/// The environment variable that asks for samples of CPU time: `fd:N,HZ,PHASES`.
const CPU_VARIABLE: &str = "HEAPGATE_CPU_PROFILE";

/// What is profiled in this process.
#[derive(Default)]
pub(crate) struct Profilers {
    #[cfg(feature = "cpu-profile")]
    cpu: Option<cpu::Cpu>,
    heap: Option<heap::Heap>,
}

impl Profilers {
    /// Those that the environment asks for.
    ///
    /// # Errors
    /// If this process can't do what it asks for.
    pub(crate) fn asked_for(session: Option<Session>, base: Option<Base>) -> Result<Self, Error> {
        Self {
            #[cfg(feature = "cpu-profile")]
            cpu: std::env::var(CPU_VARIABLE).ok().map(|asked| cpu::Cpu::new(&asked)).transpose()?,
            heap: heap::Heap::asked_for(session, base)?,
        }
        .checked()
    }

    #[cfg(feature = "cpu-profile")]
    #[allow(clippy::unnecessary_wraps, reason = "without the feature it may fail")]
    fn checked(self) -> Result<Self, Error> {
        Ok(self)
    }

    #[cfg(not(feature = "cpu-profile"))]
    fn checked(self) -> Result<Self, Error> {
        if std::env::var_os(CPU_VARIABLE).is_none() {
            return Ok(self);
        }
        let how = "heapgate-bench = { …, features = [\"cpu-profile\"] } in Cargo.toml";
        Err(Error::Library(format!("a CPU profile needs the feature cpu-profile of heapgate-bench: {how}")))
    }

    /// Before a phase of `kind`.
    ///
    /// # Errors
    /// If profiling can't begin.
    pub(crate) fn phase_begins(&mut self, kind: PhaseKind) -> Result<(), Error> {
        if kind == PhaseKind::Measure
            && let Some(heap) = &mut self.heap
        {
            heap.begin()?;
        }
        #[cfg(feature = "cpu-profile")]
        if let Some(cpu) = &mut self.cpu
            && (cpu.all_phases || kind == PhaseKind::Measure)
        {
            cpu.begin(name(kind))?;
        }
        Ok(())
    }

    /// After the phase that began last was closed: what this takes is nobody's.
    ///
    /// # Errors
    /// If what was gathered can't be written.
    pub(crate) fn phase_ends(&mut self, kind: PhaseKind) -> Result<(), Error> {
        #[cfg(feature = "cpu-profile")]
        if let Some(cpu) = &mut self.cpu {
            cpu.end()?;
        }
        if kind == PhaseKind::Measure
            && let Some(heap) = &mut self.heap
        {
            heap.end()?;
        }
        Ok(())
    }
}

#[cfg(feature = "cpu-profile")]
const fn name(kind: PhaseKind) -> &'static str {
    match kind {
        PhaseKind::Setup => "setup",
        PhaseKind::Warmup => "warmup",
        PhaseKind::Prefill => "prefill",
        PhaseKind::Measure => "measure",
        PhaseKind::Drain => "drain",
    }
}
