//! Why there are no groups, or a thread is in none.

use std::fmt;
use std::io;

use heapgate_segment::groups::{GroupNameError, MAX_GROUPS};

/// Why there are no groups, or a thread is in none. The program runs on as before.
#[derive(Debug)]
pub enum GroupsError {
    /// A name that can't be a label.
    Name(GroupNameError),
    /// Two groups of one name.
    Twice(&'static str),
    /// None, or more than [`MAX_GROUPS`].
    Count(usize),
    /// No group has a share above 0.
    NoShare,
    /// The process has groups already.
    Again,
    /// The environment has made all of the process one group (`HEAPGATE_GROUP`).
    WholeProcess,
    /// What the program allocates does not come from jemalloc.
    NotJemalloc,
    /// jemalloc refused.
    Jemalloc {
        /// What was asked of it.
        key: String,
        /// What it said.
        error: io::Error,
    },
    /// All slots of the segment are taken: the thread has the group's arena, and is counted in no group.
    NoSlot,
    /// The thread is ending.
    Ending,
}

impl fmt::Display for GroupsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Twice(name) => write!(f, "two groups are named '{name}'"),
            Self::Count(count) => write!(f, "{count} groups: there can be 1 to {MAX_GROUPS}"),
            Self::NoShare => f.write_str("no group has a share above 0"),
            Self::Again => f.write_str("this process has groups already"),
            Self::WholeProcess => {
                f.write_str("HEAPGATE_GROUP makes all of this process one group; unset it to have groups of threads")
            }
            Self::NotJemalloc => {
                f.write_str("groups are arenas of jemalloc's, and this program's memory does not come from it")
            }
            Self::Jemalloc { key, error } => write!(f, "jemalloc refused {key}: {error}"),
            Self::NoSlot => f.write_str("no slot for this thread: it is counted in no group"),
            Self::Ending => f.write_str("this thread is ending"),
        }
    }
}

impl std::error::Error for GroupsError {}
