//! One writer at a time in a folder of baselines.
//!
//! The lock is the kernel's (`flock`) on `FOLDER/.lock`: it ends with the process that holds it, however that ends, so it
//! is never stale. The file tells who holds it, and is removed with the lock, so that nothing is left in a repository.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::files::{WriteError, make_folder};

/// The file that is locked.
const NAME: &str = ".lock";
/// How often a lock that is held is tried: a writer holds it for some milliseconds, or waits for a slow disk.
const RETRY: Duration = Duration::from_millis(20);
/// After how long it is said that one waits: sooner would be noise.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// As much of the file is shown.
const LONGEST_HOLDER: u64 = 100;

/// Why a folder of baselines could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file that is locked could not be made.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another process has held the lock for too long.
    #[error(
        "{holder} has been writing baselines in {} for {waited_s} s or longer; see what it does, then try again, or wait longer with --wait SECONDS",
        folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who holds it.
        holder: String,
        /// How long it was waited for.
        waited_s: u64,
    },
}

/// The right to write in a folder of baselines. It ends when this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of `folder`, which is made where missing. While another holds it, this waits up to `longest`, and
    /// after a second `say` is called with the holder, once.
    ///
    /// # Errors
    /// If it is still held then, or its file can't be made.
    pub fn take(folder: &Path, longest: Duration, say: impl FnOnce(&str)) -> Result<Self, LockError> {
        make_folder(folder)?;
        let path = folder.join(NAME);
        let begin = Instant::now();
        let mut say = Some(say);
        loop {
            if let Some(lock) = Self::try_take(&path).map_err(|source| WriteError::new(&path, source))? {
                return Ok(lock);
            }
            let waited = begin.elapsed();
            if waited >= longest {
                return Err(LockError::Held {
                    folder: folder.to_owned(),
                    holder: holder(&path),
                    waited_s: longest.as_secs(),
                });
            }
            if waited >= SAY_AFTER
                && let Some(say) = say.take()
            {
                say(&holder(&path));
            }
            sleep(RETRY.min(longest - waited));
        }
    }

    /// The lock, if nobody holds it.
    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever held it before may have removed this file between our opening and locking it: then another may
            // have made a new one, and locked that.
            let same = std::fs::metadata(path)
                .is_ok_and(|now| file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino())));
            if same {
                // Only for others to read: where it can't be written (a full disk), the lock holds all the same, and what
                // is to be stored says what is wrong.
                let _ = file.set_len(0).and_then(|()| file.rewind());
                let _ = writeln!(file, "{}", std::process::id());
                return Ok(Some(Self { file, path: path.to_owned() }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still locked, so that nobody else's is. If it can't be, it is only litter.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Who holds the lock at `path`, for people: the file has the number of its process.
fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_HOLDER).read_to_string(&mut text));
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn at_once(folder: &Path) -> Result<Lock, LockError> {
        Lock::take(folder, Duration::ZERO, |_| panic!("it doesn't wait"))
    }

    #[test]
    fn only_one_holds_it_and_the_other_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let lock = at_once(folder.path()).unwrap();
        let error = at_once(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("process {} has been writing", std::process::id())), "{error}");
        assert!(error.contains("--wait SECONDS"), "{error}");
        drop(lock);
        at_once(folder.path()).unwrap();
    }

    #[test]
    fn nothing_is_left_of_it_and_what_a_dead_process_left_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "4000000000").unwrap();
        drop(at_once(folder.path()).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn many_that_wait_go_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, done) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let lock = Lock::take(folder.path(), Duration::from_secs(600), |_| {}).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "another is inside");
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 160);
    }

    #[test]
    fn a_folder_that_can_not_be_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(at_once(&file).unwrap_err(), LockError::Write(WriteError::NotAFolder { .. })));
    }
}
