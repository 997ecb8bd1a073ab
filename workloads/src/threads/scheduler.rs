//! How long the scheduler has had a thread wait for a CPU: what must not be taken for the allocator's.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The calling thread's account with the scheduler.
#[derive(Debug)]
pub struct RunQueue {
    /// `schedstat` of the thread that opened it: time on a CPU, time ready but waiting for one, and turns.
    file: Option<File>,
}

impl RunQueue {
    /// Opens the account of the thread that calls. Where the kernel keeps none, nothing is ever known.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self { file: File::open("/proc/thread-self/schedstat").ok() }
    }

    /// How long the thread has waited for a CPU since it started, ns. Allocates nothing.
    #[must_use]
    pub fn waited_ns(&self) -> Option<u64> {
        let mut line = [0; 96];
        let length = self.file.as_ref()?.read_at(&mut line, 0).ok()?;
        parse(std::str::from_utf8(&line[..length]).ok()?)
    }
}

fn parse(line: &str) -> Option<u64> {
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_the_wait() {
        assert_eq!(parse("5014 1275 3\n"), Some(1_275));
        assert_eq!(parse("5014"), None);
        assert_eq!(parse(""), None);
    }
}
