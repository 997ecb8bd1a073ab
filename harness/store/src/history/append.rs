//! Appending from a program that must not wait nor fail for it: what a store doesn't take waits beside the report.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use heapgate_core::history::Place;
use heapgate_core::report::Report;

use super::{Appended, Mode, Purpose, Run, Spool, Store, StoreError};

/// How long a server may take for all of an append: a verdict must not wait for a history. An append of a large report
/// takes far less than a second where the server is near.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a run, and of those that waited.
#[derive(Debug)]
pub enum Kept {
    /// There is no store.
    Off,
    /// It is in the store.
    Stored {
        /// Under which number, and whether it was there already.
        run: Appended,
        /// Runs that had waited and are there now too.
        sent: usize,
        /// What is wrong with those that still wait.
        problems: Vec<StoreError>,
    },
    /// The store did not take it; it waits in a file.
    Waits {
        /// The file.
        path: PathBuf,
        /// What the store said.
        error: StoreError,
    },
}

/// Appends what `report` says to the history at `place`, after the runs in `spool` that wait for it. If the store fails
/// the report is put into `spool`.
///
/// # Errors
/// If the run is in neither: a figure can't be true, or the file can't be written.
pub fn append(
    place: &Place,
    spool: &Spool,
    report: &Report,
    purpose: Purpose,
    decision: Option<&str>,
) -> Result<Kept, StoreError> {
    if *place == Place::Off {
        return Ok(Kept::Off);
    }
    let run = Run::new(report, purpose, decision)?;
    let (to, waiting) = (place.clone(), spool.clone());
    let result = in_time(place, move || {
        let mut store = Store::open(&to, Mode::Append)?;
        let (sent, problems) = send_to(&mut store, &to, &waiting);
        Ok(Kept::Stored { run: store.append(&run)?, sent, problems })
    });
    result.or_else(|error| Ok(Kept::Waits { path: spool.keep(place, report, purpose, decision)?, error }))
}

/// Sends the runs in `spool` that wait for `place`. Returns how many were, and what is wrong with the others.
///
/// # Errors
/// If the store can't be opened.
pub fn send(place: &Place, spool: &Spool) -> Result<(usize, Vec<StoreError>), StoreError> {
    let mut store = Store::open(place, Mode::Append)?;
    Ok(send_to(&mut store, place, spool))
}

fn send_to(store: &mut Store, place: &Place, spool: &Spool) -> (usize, Vec<StoreError>) {
    let files = match spool.files() {
        Ok(files) => files,
        Err(error) => return (0, vec![error]),
    };
    let (mut sent, mut problems) = (0, Vec::new());
    for path in files {
        let result = spool.read(&path).and_then(|waiting| {
            if waiting.store != place.to_string() {
                return Ok(false);
            }
            store.append(&Run::new(&waiting.report, waiting.purpose, waiting.decision.as_deref())?)?;
            // Only now: a run that was sent twice is there once, one that was removed too early is nowhere.
            match fs::remove_file(&path) {
                // Another heapgate sent it at the same time.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
                result => {
                    result.map(|()| true).map_err(|source| StoreError::SpoolFolder { path: path.clone(), source })
                }
            }
        });
        match result {
            Ok(true) => sent += 1,
            Ok(false) => {}
            Err(error) => problems.push(error),
        }
    }
    (sent, problems)
}

/// Carries out `work`, on a thread that is left behind if a server never answers.
fn in_time<T: Send + 'static>(
    place: &Place,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if !matches!(place, Place::Postgres(_)) {
        return work();
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = sender.send(work());
    });
    let place = place.to_string();
    match receiver.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(StoreError::NoAnswer { place, waited: PATIENCE }),
        Err(RecvTimeoutError::Disconnected) => {
            Err(StoreError::Failed { place, reason: "a bug in heapgate ended the append".to_owned() })
        }
    }
}
