//! What a child's end says of its trial.

use crate::report::Outcome;
use crate::sys::wait::{self, End};

/// What is known of a child's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub end: End,
    /// Whether it took its segment.
    pub attached: bool,
    /// Whether it ended all its phases.
    pub finished: bool,
    /// Whether its allocator ever said no.
    pub refused: bool,
    /// Whether it had a memory limit of ours.
    pub limited: bool,
    /// Whether the kernel has killed for want of memory meanwhile.
    pub oom_killed: bool,
}

impl Death {
    /// How the trial ended, if the child had said `messages` at last.
    pub fn outcome(self, messages: String) -> Outcome {
        let stderr = messages;
        // Before its segment is attached nothing counts refusals, but what refuses is said.
        let refused_early =
            !self.attached && (says_allocation_failed(&stderr) || self.limited && says_segment_refused(&stderr));
        let rlimit = |stderr| Outcome::OutOfMemory { limit: "rlimit".to_owned(), stderr };
        match self.end {
            End::Exit { code: 0 } if !self.attached => {
                Outcome::Failed { code: 0, stderr: format!("ran without telemetry: no segment was attached. {stderr}") }
            }
            End::Exit { code: 0 } if !self.finished => {
                Outcome::Failed { code: 0, stderr: format!("ended before its last phase did. {stderr}") }
            }
            End::Exit { code: 0 } => Outcome::Completed,
            // A refused `try_reserve` is an error, or a panic, and no abort.
            End::Exit { .. } if refused_early || self.refused && self.limited => rlimit(stderr),
            End::Exit { code } => Outcome::Failed { code, stderr },
            // Rust ends a process by abort when the allocator refuses; the limit may also be one we were started with.
            End::Signal { signal: libc::SIGABRT } if self.refused || refused_early => rlimit(stderr),
            End::Signal { signal: libc::SIGKILL } if self.oom_killed => {
                Outcome::OutOfMemory { limit: "kernel".to_owned(), stderr }
            }
            End::Signal { signal } => Outcome::Killed { signal, name: wait::signal_name(signal), stderr },
        }
    }
}

/// Whether these are the words of Rust's `handle_alloc_error`: `memory allocation of 1024 bytes failed`.
fn says_allocation_failed(messages: &str) -> bool {
    messages
        .lines()
        .filter_map(|line| line.split_once("memory allocation of "))
        .any(|(_, rest)| rest.contains(" failed"))
}

/// Whether heapgate-alloc says that there was no address space for the segment (`ENOMEM`).
fn says_segment_refused(messages: &str) -> bool {
    messages.lines().any(|line| line.contains("the segment can't be mapped") && line.contains("(os error 12)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORTED: Death = Death {
        end: End::Signal { signal: libc::SIGABRT },
        attached: true,
        finished: false,
        refused: false,
        limited: false,
        oom_killed: false,
    };
    const REFUSED: &str = "memory allocation of 1048576 bytes failed";

    /// How a child ended that said `messages`: `out of memory (rlimit)`, `killed by SIGABRT`, …
    fn told(death: Death, messages: &str) -> String {
        death.outcome(messages.to_owned()).to_string()
    }

    #[test]
    fn an_error_after_a_refusal_under_a_limit_is_out_of_memory() {
        // 101 is a panic: of a refused `try_reserve`, for instance.
        for code in [1, 5, 101] {
            let limited = Death { end: End::Exit { code }, refused: true, limited: true, ..ABORTED };
            assert_eq!(told(limited, ""), "out of memory (rlimit)");
            for other in [Death { limited: false, ..limited }, Death { refused: false, ..limited }] {
                assert_eq!(told(other, ""), format!("failed with exit code {code}"));
            }
        }
        let survived = Death { end: End::Exit { code: 0 }, finished: true, refused: true, limited: true, ..ABORTED };
        assert_eq!(told(survived, ""), "completed");
    }

    #[test]
    fn an_exit_before_the_last_phase_is_no_success() {
        let early = Death { end: End::Exit { code: 0 }, ..ABORTED };
        assert_eq!(told(early, ""), "failed with exit code 0");
    }

    #[test]
    fn an_abort_after_a_refusal_is_out_of_memory() {
        for limited in [false, true] {
            assert_eq!(told(Death { refused: true, limited, ..ABORTED }, ""), "out of memory (rlimit)");
            assert_eq!(told(Death { limited, ..ABORTED }, ""), "killed by SIGABRT");
        }
    }

    #[test]
    fn a_refusal_before_the_segment_is_attached_is_read_off_the_messages() {
        let early = Death { attached: false, limited: true, ..ABORTED };
        assert_eq!(told(early, REFUSED), "out of memory (rlimit)");
        assert_eq!(told(Death { end: End::Exit { code: 101 }, ..early }, REFUSED), "out of memory (rlimit)");
        assert_eq!(told(early, "assertion failed"), "killed by SIGABRT");
        let no_segment =
            "heapgate: the segment can't be mapped: Cannot allocate memory (os error 12); running on unmeasured";
        let panicked = Death { end: End::Exit { code: 101 }, ..early };
        assert_eq!(told(panicked, no_segment), "out of memory (rlimit)");
        assert_eq!(told(Death { limited: false, ..panicked }, no_segment), "failed with exit code 101");
        // Afterwards the count decides, not what a program prints.
        assert_eq!(told(Death { attached: true, ..early }, REFUSED), "killed by SIGABRT");
    }

    #[test]
    fn a_kill_is_for_want_of_memory_if_the_kernel_counted_one() {
        let killed = Death { end: End::Signal { signal: libc::SIGKILL }, ..ABORTED };
        assert_eq!(told(killed, ""), "killed by SIGKILL");
        assert_eq!(told(Death { oom_killed: true, ..killed }, ""), "out of memory (kernel)");
    }
}
