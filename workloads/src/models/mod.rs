//! Models: where the fetched ones are and whether they are what they should be ([`files`]), how they are loaded
//! ([`bert`], [`llama`]), and how weights are made where there are none ([`seeded`]).
//!
//! `ci/fetch-models` fetches two real ones. What runs without them runs the same code of `candle` on weights that are
//! drawn from a seed, at a smaller size; its names say `seeded`, since its answers mean nothing.

use heapgate_bench::Error;

pub mod bert;
pub mod files;
pub mod llama;
pub mod seeded;

/// What to do about a model that is not there or not right.
pub const WAY_OUT: &str = "run ci/fetch-models, or name another file with --param model=PATH";

/// What `candle` said.
pub(crate) fn refused(error: candle_core::Error) -> Error {
    Error::Library(format!("candle: {error}"))
}

/// Makes this thread a pool of its own for rayon, on which the kernels of `candle` run.
///
/// Without it each parallel loop of a kernel is handed to a worker thread that this one then waits for, even with
/// `RAYON_NUM_THREADS=1`: two threads would allocate where one works, and a region scope would see half of it.
pub fn keep_kernels_on_this_thread() {
    // It fails if the thread is in a pool already, most often by an earlier call. Either way there is one to run on.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
}
