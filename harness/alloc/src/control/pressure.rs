//! The program's own callback: in a thread of its own, so that the agent never waits for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Callback;

/// What the program is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Give memory back; false: the need is over.
    pub is_high: bool,
    /// What was resident, bytes.
    pub resident_bytes: u64,
    /// The soft limit, bytes.
    pub limit_bytes: u64,
}

/// The agent's end. What comes while the callback still runs takes the place of what has not been told yet.
#[derive(Debug, Clone)]
pub(super) struct Caller(Arc<(Mutex<Option<Pressure>>, Condvar)>);

impl Caller {
    /// Starts the thread.
    pub(super) fn start(mut callback: Callback) -> io::Result<Self> {
        let caller = Self(Arc::default());
        let shared = caller.clone();
        std::thread::Builder::new().name("heapgate-ask".to_owned()).spawn(move || {
            loop {
                let pressure = shared.next();
                // A callback that panics has said so, and is asked again.
                let _ = catch_unwind(AssertUnwindSafe(|| callback(pressure)));
            }
        })?;
        Ok(caller)
    }

    fn place(&self) -> MutexGuard<'_, Option<Pressure>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, pressure: Pressure) {
        *self.place() = Some(pressure);
        self.0.1.notify_one();
    }

    fn next(&self) -> Pressure {
        let mut place = self.place();
        loop {
            if let Some(pressure) = place.take() {
                return pressure;
            }
            place = self.0.1.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
