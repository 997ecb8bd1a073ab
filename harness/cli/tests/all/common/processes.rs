//! Processes: finding the children of one that a test has started, waiting, sending signals, and publishing one.

use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use heapgate_segment::published;

use super::{HEAPGATE, Place};

/// Longer than anything takes on the slowest machine; only a test that fails comes to it.
const PATIENCE: Duration = Duration::from_secs(100);

/// Waits until `look` finds something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(1));
    }
}

/// The children of process `pid` that are alive.
pub fn children_of(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc");
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&child| parent_of(child) == Some(pid))
        .collect()
}

/// The parent of process `pid`; `None` for one that is gone or has ended.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; after it come the state and the parent.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" { None } else { fields.next()?.parse().ok() }
}

/// User time of a process, in ticks of the kernel (a hundredth of a second); 0 if it is gone.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().nth(11).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Whether process `pid` runs heapgate: another may have got the number since.
pub fn is_heapgate(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == std::path::Path::new(super::HEAPGATE))
}

/// Sends `signal` to a process that this test has started, or to its child.
pub fn send(pid: u32, signal: i32) {
    // SAFETY: kill has no memory requirement.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Stops process `pid`, and waits until each of its threads has stopped, or it is gone: the signal alone lets them run for a while.
#[track_caller]
pub fn stop(pid: u32) {
    send(pid, libc::SIGSTOP);
    let is_still =
        |stat: String| stat.rsplit_once(')').is_none_or(|(_, after)| after.trim_start().starts_with(['T', 'Z', 'X']));
    wait_for("a process that stops", || {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Some(()) };
        let stats = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        stats.into_iter().all(is_still).then_some(())
    });
}

/// A process that is ended with the test, whatever the test finds.
pub struct Running(Option<Child>);

impl Running {
    pub fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// heapgate itself, published as `service` in `place`'s folder `run`, with `variables` in its environment; returns once it is
    /// there. It waits for the end of its standard input.
    #[track_caller]
    pub fn published(place: &Place, service: &str, variables: &[(&str, &str)]) -> Self {
        let folder = place.path("run");
        let mut command = Command::new(HEAPGATE);
        command.arg("spin").env("HEAPGATE_RUNTIME_DIR", &folder).env("HEAPGATE_PUBLISH", service);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Self::new(command.spawn().expect("start"));
        let pid = running.pid();
        wait_for("a published process", || {
            assert!(!running.has_ended(), "it ended");
            published::list(&folder).ok()?.into_iter().find(|entry| entry.pid == pid)
        });
        running
    }

    /// By SIGKILL, and waits; its number stays known.
    pub fn kill(&mut self) {
        let child = self.0.as_mut().expect("not waited for");
        child.kill().expect("killed");
        child.wait().expect("it has ended");
    }

    pub fn pid(&self) -> u32 {
        self.0.as_ref().expect("not waited for").id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().expect("not waited for").try_wait().expect("wait").is_some()
    }

    pub fn output(mut self) -> Output {
        self.0.take().expect("not waited for").wait_with_output().expect("wait")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Held by tests in which a process ends by SIGKILL, by theirs or the kernel's: without a control group, that a child was
/// killed for want of memory is read off a count of the whole machine, so two at one time would be taken for each other.
pub fn alone_with_sigkill() -> MutexGuard<'static, ()> {
    static SIGKILL: Mutex<()> = Mutex::new(());
    SIGKILL.lock().unwrap_or_else(PoisonError::into_inner)
}
