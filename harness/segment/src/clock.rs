//! Ticks: what latencies are counted in. Reading a tick must cost little, so the CPU's own counter is used where it
//! runs at one rate on every core; the reader learns the rate from pairs of ticks and time ([`Anchor`]) in the segment.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

/// Where ticks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum ClockKind {
    /// Not known yet.
    Unknown = 0,
    /// x86's time-stamp counter, checked to be invariant.
    Tsc = 1,
    /// aarch64's virtual counter.
    VirtualCounter = 2,
    /// `CLOCK_MONOTONIC`: a tick is a nanosecond.
    Monotonic = 3,
}

impl ClockKind {
    /// The best clock of this CPU.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if tsc_is_invariant() {
            return Self::Tsc;
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        return Self::VirtualCounter;
        #[allow(unreachable_code, reason = "reached on all other architectures")]
        Self::Monotonic
    }

    /// Reads the clock. Not ordered against the instructions around it: a fence would cost more than it tells.
    #[inline(always)]
    #[must_use]
    pub fn now(self) -> u64 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if matches!(self, Self::Tsc) {
            // SAFETY: RDTSC exists on every x86-64; Linux leaves it allowed in user mode (prctl PR_SET_TSC can forbid
            // it, and a process that does so must not use this crate).
            return unsafe { core::arch::x86_64::_rdtsc() };
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        if matches!(self, Self::VirtualCounter) {
            let ticks: u64;
            // SAFETY: Linux lets user mode read CNTVCT_EL0; the instruction touches nothing else.
            unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
            return ticks;
        }
        monotonic_ns()
    }
}

/// Whether the time-stamp counter runs at one rate in all power states (CPUID leaf 0x8000_0007, EDX bit 8).
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn tsc_is_invariant() -> bool {
    use core::arch::x86_64::__cpuid;
    const POWER_MANAGEMENT_LEAF: u32 = 0x8000_0007;
    __cpuid(0x8000_0000).eax >= POWER_MANAGEMENT_LEAF && __cpuid(POWER_MANAGEMENT_LEAF).edx & (1 << 8) != 0
}

/// `CLOCK_MONOTONIC`, ns.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill in; CLOCK_MONOTONIC exists on every Linux, so it can't
    // fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Anchor {
    /// On the tick clock.
    pub ticks: u64,
    /// On `CLOCK_MONOTONIC`, ns.
    pub ns: u64,
}

impl Anchor {
    /// This instant.
    #[must_use]
    pub fn now(kind: ClockKind) -> Self {
        /// Readings that lie further apart than this were interrupted in between.
        const WIDEST_NS: u64 = 1_000;
        /// On a machine where all are interrupted, the last must do.
        const TRIES: u32 = 8;
        let mut anchor = Self::default();
        for _ in 0..TRIES {
            let before = monotonic_ns();
            let ticks = kind.now();
            let after = monotonic_ns();
            anchor = Self { ticks, ns: u64::midpoint(before, after) };
            if after - before <= WIDEST_NS {
                break;
            }
        }
        anchor
    }

    /// How far apart two instants must be for a rate that is right to 0.1 %: the two clocks of an anchor are read within 1
    /// µs of each other, which is 0.01 % of this.
    pub const RATE_INTERVAL: Duration = Duration::from_millis(10);

    /// Ticks per second between two instants; `None` where they are nearer to each other than
    /// [`Self::RATE_INTERVAL`].
    #[must_use]
    pub fn ticks_per_second(self, later: Self) -> Option<f64> {
        let (ticks, ns) = (later.ticks.checked_sub(self.ticks)?, later.ns.checked_sub(self.ns)?);
        (u128::from(ns) >= Self::RATE_INTERVAL.as_nanos() && ticks > 0).then(|| ticks as f64 * 1e9 / ns as f64)
    }
}

/// An [`Anchor`] in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedAnchor {
    pub(crate) ticks: AtomicU64,
    pub(crate) ns: AtomicU64,
}

impl SharedAnchor {
    pub(crate) fn set(&self, anchor: Anchor) {
        self.ticks.store(anchor.ticks, Relaxed);
        self.ns.store(anchor.ns, Relaxed);
    }

    pub(crate) fn get(&self) -> Anchor {
        Anchor { ticks: self.ticks.load(Relaxed), ns: self.ns.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_never_run_backwards() {
        let kind = ClockKind::detect();
        let mut last = kind.now();
        for _ in 0..1000 {
            let now = kind.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_rate_needs_time_between_its_anchors() {
        let first = Anchor { ticks: 1000, ns: 1000 };
        assert_eq!(first.ticks_per_second(Anchor { ticks: 3000, ns: 2000 }), None);
        assert_eq!(first.ticks_per_second(Anchor { ticks: 30_001_000, ns: 10_001_000 }), Some(3e9));
        assert_eq!(first.ticks_per_second(Anchor { ticks: 0, ns: u64::MAX }), None);
    }
}
