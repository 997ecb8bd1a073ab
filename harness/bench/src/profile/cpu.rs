//! Samples of CPU time in a trial, phase by phase. Every two seconds, and at a phase's end, all stacks so far are written, so
//! that a process that is killed has left most. How they are taken, `heapgate_alloc::cpu` says.

use std::fs::File;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heapgate_alloc::cpu::Sampler;

use crate::workload::Error;

/// How much is lost at most of a process that is killed.
const WRITTEN_EVERY: Duration = Duration::from_secs(2);
/// The name of the thread that writes, whose own time is left out.
const WRITER: &str = "heapgate-cpu";

/// Where samples go, and how many are taken.
pub(super) struct Cpu {
    file: Arc<Mutex<File>>,
    frequency_hz: u32,
    /// Whether all phases are sampled, or the measured one.
    pub(super) all_phases: bool,
    running: Option<Running>,
}

struct Running {
    sampler: Arc<Sampler>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    writer: JoinHandle<()>,
}

impl Cpu {
    /// `asked`: `fd:N,HZ,measure`, or `all` for all phases.
    pub(super) fn new(asked: &str) -> Result<Self, Error> {
        let wrong = || Error::Library(format!("{}={asked}: not of the form fd:N,HZ,PHASES", super::CPU_VARIABLE));
        let mut words = asked.strip_prefix("fd:").ok_or_else(wrong)?.split(',');
        let mut word = || words.next().ok_or_else(wrong);
        let (fd, hz, phases) = (word()?, word()?, word()?);
        let fd: RawFd = fd.parse().ok().filter(|fd| *fd > 2).ok_or_else(wrong)?;
        let frequency_hz = hz.parse().ok().filter(|hz| (1..=1_000_000).contains(hz)).ok_or_else(wrong)?;
        // SAFETY: fcntl takes any number for a descriptor, and refuses those that are none.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            return Err(wrong());
        }
        // SAFETY: an open descriptor that the supervisor made for this alone: nothing else in this process uses or
        // closes it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self { file: Arc::new(Mutex::new(file)), frequency_hz, all_phases: phases == "all", running: None })
    }

    pub(super) fn begin(&mut self, phase: &'static str) -> Result<(), Error> {
        let sampler = Arc::new(Sampler::start(phase, self.frequency_hz).map_err(Error::Library)?);
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let writer = {
            let (sampler, stop, file) = (Arc::clone(&sampler), Arc::clone(&stop), Arc::clone(&self.file));
            std::thread::Builder::new().name(WRITER.to_owned()).spawn(move || {
                let (flag, changed) = &*stop;
                let mut stopped = flag.lock().unwrap_or_else(PoisonError::into_inner);
                while !*stopped {
                    let waited = changed.wait_timeout(stopped, WRITTEN_EVERY);
                    let (flag, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    stopped = flag;
                    // A failure is told when the phase's end is written.
                    if timeout.timed_out() && !*stopped {
                        let _ = write(&sampler, &file);
                    }
                }
            })
        };
        let writer = writer.map_err(|error| Error::Library(format!("no thread for the CPU profile: {error}")))?;
        self.running = Some(Running { sampler, stop, writer });
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        let Some(Running { sampler, stop, writer }) = self.running.take() else { return Ok(()) };
        *stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        stop.1.notify_all();
        let _ = writer.join();
        write(&sampler, &self.file)
            .map_err(|error| Error::Library(format!("the CPU profile can't be written: {error}")))
    }
}

fn write(sampler: &Sampler, file: &Mutex<File>) -> std::io::Result<()> {
    sampler.write(&mut *file.lock().unwrap_or_else(PoisonError::into_inner), WRITER)
}
