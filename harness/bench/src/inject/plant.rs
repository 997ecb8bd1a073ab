//! What plants regressions while a trial runs.

use std::hint::black_box;
use std::io;

use heapgate_alloc::Session;

use super::arenas::Arenas;
use super::holes::Holes;
use super::resident::Ballast;
use super::{Injection, Stall, stalls};
use crate::allocator::Base;
use crate::workload::{Error, Work};

/// About the size of a token's text.
const OBJECT_BYTES: usize = 16;

/// Plants regressions as work is done.
#[derive(Debug)]
pub(crate) struct Planter {
    per_unit: f64,
    owed: f64,
    leak: Option<Leak>,
    arenas: Option<Arenas>,
    ballast: Option<Ballast>,
    holes: Option<Holes>,
    stall: Option<Stall>,
    armed: Option<stalls::Armed>,
    /// What went wrong where it could not be told.
    failure: Option<io::Error>,
}

impl Planter {
    /// For steps that are not measured: of these, none leak.
    pub(crate) fn unmeasured(injection: Injection) -> Self {
        Self {
            per_unit: injection.extra_allocs,
            owed: 0.0,
            leak: None,
            arenas: None,
            ballast: None,
            holes: None,
            stall: None,
            armed: None,
            failure: None,
        }
    }

    /// For the measured steps, right before they begin.
    ///
    /// # Errors
    /// If something can't be planted here.
    pub(crate) fn measured(injection: Injection, session: Option<Session>, base: Option<Base>) -> Result<Self, Error> {
        let planting = |what: &'static str| move |error| Error::other(format!("{what} can't be planted: {error}"));
        if let Some(reason) = injection.needs_switch().filter(|_| base.is_none()) {
            return Err(Error::other(reason));
        }
        let session = session.filter(Session::is_counting);
        if let Some(reason) = injection.needs_counts().filter(|_| session.is_none()) {
            return Err(Error::other(reason));
        }
        let mut planter = Self::unmeasured(injection);
        planter.leak = session.filter(|_| injection.leak_share > 0.0).map(|session| Leak::new(injection, session));
        planter.arenas = injection.arena_leak_share.map(Arenas::new);
        planter.stall = injection.stall;
        if injection.fragmentation_share > 0.0 {
            let has_jemalloc = base.is_some_and(Base::has_jemalloc);
            let holes = Holes::new(injection.fragmentation_share, has_jemalloc);
            planter.holes = Some(holes.map_err(planting(super::FRAGMENTATION))?);
        }
        // Last: holes are resident too.
        if injection.rss_share > 0.0 {
            planter.ballast = Some(Ballast::new(injection.rss_share).map_err(planting(super::RSS))?);
        }
        Ok(planter)
    }

    /// Right before the first step.
    pub(crate) fn steps_begin(&mut self) {
        if let Some(leak) = &mut self.leak {
            leak.begin();
        }
        self.armed = self.stall.map(stalls::arm);
    }

    /// After each step, in its region.
    pub(crate) fn after_step(&mut self, work: Work) {
        if self.per_unit > 0.0 {
            self.owed += self.per_unit * work.units as f64;
            while self.owed >= 1.0 {
                self.owed -= 1.0;
                drop(object());
            }
        }
        // Before the leak, which is a share of all bytes.
        if let Some(arenas) = &mut self.arenas {
            arenas.after_step(work.units);
        }
        if let Some(leak) = &mut self.leak {
            leak.after_step();
        }
        if let Some(Err(error)) = self.ballast.as_mut().map(Ballast::follow_now_and_then) {
            self.failure = Some(error);
        }
    }

    /// Right after the last step.
    pub(crate) fn steps_end(&mut self) {
        self.armed = None;
        let fitted = self.holes.as_mut().map_or(Ok(()), Holes::fit);
        let followed = self.ballast.as_mut().map_or(Ok(()), Ballast::follow);
        if let Err(error) = fitted.and(followed) {
            self.failure = Some(error);
        }
    }

    /// Takes away what was planted, but for leaks.
    ///
    /// # Errors
    /// If not all was planted that was asked for.
    pub(crate) fn end(self) -> Result<(), Error> {
        self.failure.map_or(Ok(()), |error| Err(Error::other(format!("not all could be planted: {error}"))))
    }
}

/// An allocation that no optimisation removes.
fn object() -> Box<[u8; OBJECT_BYTES]> {
    // Not zeros, for which the compiler would call alloc_zeroed.
    black_box(Box::new([b' '; OBJECT_BYTES]))
}

/// Objects that are never freed.
#[derive(Debug)]
struct Leak {
    share: f64,
    session: Session,
    /// Bytes that the process had allocated when the steps began.
    before: u64,
    bytes: u64,
}

impl Leak {
    fn new(injection: Injection, session: Session) -> Self {
        Self { share: injection.leak_share, session, before: 0, bytes: 0 }
    }

    fn begin(&mut self) {
        self.before = self.session.allocated_bytes();
    }

    fn after_step(&mut self) {
        let others = self.session.allocated_bytes().wrapping_sub(self.before).saturating_sub(self.bytes);
        let due = leaked(self.share, others);
        while self.bytes + OBJECT_BYTES as u64 <= due {
            std::mem::forget(object());
            self.bytes += OBJECT_BYTES as u64;
        }
    }
}

/// How much is leaked beside `others` bytes, so that it is the share of the sum.
fn leaked(share: f64, others: u64) -> u64 {
    (others as f64 * share / (1.0 - share)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_its_share_of_all_bytes_its_own_included() {
        for (share, others) in [(0.01, 1_000_000), (0.5, 12_345), (0.9, 777), (1e-6, 1u64 << 40)] {
            let bytes = leaked(share, others);
            let of_all = share * (others + bytes) as f64;
            assert!((bytes as f64 - of_all).abs() < 1.0, "{share} of {others}: {bytes}");
        }
    }

    #[test]
    fn what_can_t_be_planted_is_refused_before_anything_is_measured() {
        for text in ["stall=1us@1", "fragmentation=5%"] {
            let refused = Planter::measured(text.parse().unwrap(), None, None).unwrap_err().to_string();
            assert!(refused.contains("allocator of its own"), "{text}: {refused}");
        }
        let leak = "leak=1%".parse().unwrap();
        let refused = Planter::measured(leak, None, Some(Base::System)).unwrap_err().to_string();
        assert!(refused.contains("nothing is counted"), "{refused}");
    }

    #[test]
    fn fractions_of_allocations_add_up() {
        let mut planter = Planter::unmeasured("extra-allocs=0.25".parse().unwrap());
        for _ in 0..6 {
            planter.after_step(Work { units: 1, checksum: 0 });
        }
        assert_eq!(planter.owed, 0.5);
        planter.steps_end();
        planter.end().unwrap();
    }
}
