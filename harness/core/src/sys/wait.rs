//! How a child ended, and what it used.

use std::io;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
}

/// A child that has ended and been reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Its peak resident memory, bytes: the kernel's own accounting, there also for a child that died.
    pub peak_rss_bytes: u64,
}

/// Makes sure that ended children wait to be reaped: whoever started us may have had them thrown away (`SIGCHLD`
/// ignored), which programs inherit.
pub fn keep_ended_children() {
    // SAFETY: the default handling is always allowed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Reaps the child `pid` if it has ended.
///
/// # Errors
/// If it is no child of ours (any more).
pub fn try_wait(pid: u32) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: both pointers are valid for the call to fill in.
    match unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => {
            let end = if libc::WIFSIGNALED(status) {
                End::Signal { signal: libc::WTERMSIG(status) }
            } else {
                End::Exit { code: libc::WEXITSTATUS(status) }
            };
            Ok(Some(Ended { end, peak_rss_bytes: usage.ru_maxrss.unsigned_abs() * 1024 }))
        }
    }
}

/// Kills the child `pid`, which has not been reaped (so that the number is still its own), and what it started: all of
/// its process group.
pub fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // SAFETY: kill has no memory requirement. It can fail only for processes that are gone, and ours is not reaped.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
    }
}

/// Waits for the end of the child `pid`.
pub fn wait(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // SAFETY: a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
}

/// The usual name of a signal.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}
