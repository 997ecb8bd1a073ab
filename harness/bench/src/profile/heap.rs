//! Dumps of jemalloc's heap profiler: at the begin and the end of the measured phase, and at its peak.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use heapgate_alloc::Session;

use crate::allocator::Base;
use crate::jemalloc;
use crate::workload::Error;

/// The environment variable that has the folder for dumps.
const HEAP_VARIABLE: &str = "HEAPGATE_HEAP_PROFILE";
/// How often memory in use is looked at: a peak that lasts less is missed, and the output says by how much.
const LOOKED_EVERY: Duration = Duration::from_millis(1);
/// How much more than at the last dump must be in use for another, as a part: heapgate-core says the same in percent.
const STEP: i64 = 50;

/// The dumps of this process.
pub(super) struct Heap {
    folder: PathBuf,
    session: Option<Session>,
    /// What was live before the first phase, which figures of phases are counted from, bytes.
    base_bytes: i64,
    watcher: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Heap {
    pub(super) fn asked_for(session: Option<Session>, base: Option<Base>) -> Result<Option<Self>, Error> {
        let Some(folder) = std::env::var_os(HEAP_VARIABLE) else { return Ok(None) };
        if !base.is_some_and(Base::has_jemalloc) {
            return Err(Error::Library("a heap profile by jemalloc needs jemalloc as the allocator".to_owned()));
        }
        let base_bytes = session.map_or(0, |session| session.reader().live().1);
        Ok(Some(Self { folder: folder.into(), session, base_bytes, watcher: None }))
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        dump(&self.folder.join("begin.heap"))?;
        let Some(session) = self.session else { return Ok(()) };
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped, base_bytes) = (self.folder.clone(), Arc::clone(&stop), self.base_bytes);
        let watch = move || {
            let live = || session.reader().live().1;
            let mut highest = live();
            while !stopped.load(Relaxed) {
                let now = live();
                if now > highest + highest / STEP {
                    highest = now;
                    // Whole or not at all; a failure is seen as a missing dump.
                    let part = folder.join("peak.part");
                    if dump(&part).is_ok() {
                        let _ = std::fs::rename(&part, folder.join("peak.heap"));
                        let _ = std::fs::write(folder.join("peak.bytes"), (now - base_bytes).to_string());
                    }
                }
                std::thread::sleep(LOOKED_EVERY);
            }
        };
        let watcher = std::thread::Builder::new().name("heapgate-peak".to_owned()).spawn(watch);
        let watcher = watcher.map_err(|error| Error::Library(format!("no thread for the heap profile: {error}")))?;
        self.watcher = Some((stop, watcher));
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        if let Some((stop, watcher)) = self.watcher.take() {
            stop.store(true, Relaxed);
            let _ = watcher.join();
        }
        dump(&self.folder.join("end.heap"))
    }
}

fn dump(path: &Path) -> Result<(), Error> {
    let fail = |error: &dyn std::fmt::Display| Error::Library(format!("jemalloc can't dump its heap profile: {error}"));
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| fail(&error))?;
    jemalloc::dump_heap(&path).map_err(|error| fail(&error))
}
