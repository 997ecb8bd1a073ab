//! Ctrl-C and being told to end: the first stops what goes on, so that what was gathered is kept; the second ends us at once.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use heapgate_core::exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What is set when the user, or whoever runs us, wants an end. There is one: who comes later, as a profile after a run that
/// was interrupted, sees it set.
///
/// # Errors
/// If the system takes no handler.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    if let Some(stop) = STOP.get() {
        return Ok(Arc::clone(stop));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(Arc::clone(STOP.get_or_init(|| stop)))
}
