//! Steering this process while it runs, opt-in: settings without a restart, and a soft limit on resident memory
//! (docs/steering.md). Feature `control`, for programs whose global allocator is `Telemetry<Jemalloc>`.
//!
//! ```no_run
//! use heapgate_alloc::control::{Control, Pressure};
//! use heapgate_alloc::segment::limit::SoftLimit;
//!
//! # fn drop_caches() {}
//! Control::new()
//!     .soft_limit(SoftLimit::Share(0.8))
//!     .on_pressure(|pressure: Pressure| if pressure.is_high { drop_caches() })
//!     .start()?;
//! # Ok::<(), heapgate_alloc::control::ControlError>(())
//! ```
//!
//! Requests come from the program itself ([`set`]), and, if it is published, from its own user's programs (`heapgate tune`),
//! through its segment. They are carried out by the agent thread, or the thread that calls [`set`], one at a time.
//! The agent allocates nothing while it does, so it can't come back to the allocator that it changes. If it hangs, the program
//! does not: nothing waits for it.

mod apply;
mod jemalloc;
mod pressure;
mod soft_limit;

use std::ffi::CString;
use std::fmt;
use std::io;
use std::time::Duration;

use heapgate_segment::limit::{BadSoftLimit, SOFT_LIMIT_VARIABLE, SoftLimit, memory_limit_bytes};
pub use heapgate_segment::setting::CONTROL_VARIABLE;
use heapgate_segment::setting::Setting;

pub use jemalloc::JemallocError;
pub use pressure::Pressure;
pub use soft_limit::Step;

pub(crate) use apply::{announce, obey, tick};

/// Why a setting was not changed. All is as it was.
#[derive(Debug)]
pub enum ControlError {
    /// It can't have that value.
    OutOfRange {
        /// Which.
        setting: Setting,
        /// What it was to be.
        value: i64,
    },
    /// What has to be there for it is not; the text says what.
    Refused(&'static str),
    /// jemalloc refused.
    Jemalloc(JemallocError),
    /// There is no setting of that number.
    Unknown(u64),
    /// Another change was going on for too long.
    Busy,
    /// The soft limit in the environment is none.
    Variable(BadSoftLimit),
    /// A share of a limit that is not known.
    NoLimit,
    /// The agent runs already.
    Started,
    /// This is a forked child, which has no agent.
    Forked,
    /// No thread can be started.
    Thread(io::Error),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { setting, value } => {
                write!(f, "{setting} can't be {value}; it takes {}", setting.expected())
            }
            Self::Refused(why) => f.write_str(why),
            Self::Jemalloc(error) => error.fmt(f),
            Self::Unknown(number) => write!(f, "this process knows no setting number {number}"),
            Self::Busy => f.write_str("another change has been going on for a second; try again"),
            Self::Variable(bad) => write!(f, "{SOFT_LIMIT_VARIABLE}: {bad}"),
            Self::NoLimit => f.write_str("the soft limit is a share of a limit that can't be read; give bytes"),
            Self::Started => f.write_str("this process takes requests already"),
            Self::Forked => f.write_str("a forked child of a measured process can't be steered"),
            Self::Thread(error) => write!(f, "no thread can be started that takes requests: {error}"),
        }
    }
}

impl std::error::Error for ControlError {}

type Callback = Box<dyn FnMut(Pressure) + Send>;

/// What a process can be asked for while it runs, and the soft limit that it keeps itself to.
#[derive(Default)]
#[must_use = "nothing is steered before `start` is called"]
pub struct Control {
    soft_limit: Option<SoftLimit>,
    callback: Option<Callback>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("soft_limit", &self.soft_limit).finish_non_exhaustive()
    }
}

impl Control {
    /// Settings only.
    pub fn new() -> Self {
        Self::default()
    }

    /// As the environment asks for it: `None` if neither `HEAPGATE_CONTROL=1` nor `HEAPGATE_SOFT_LIMIT` is there.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        (set(CONTROL_VARIABLE) || set(SOFT_LIMIT_VARIABLE)).then(Self::new)
    }

    /// Keeps resident memory below this, as far as giving unused pages back and the program's own callback can.
    /// `HEAPGATE_SOFT_LIMIT` goes before it.
    pub fn soft_limit(self, limit: SoftLimit) -> Self {
        Self { soft_limit: Some(limit), ..self }
    }

    /// Is called when purging does not help: the program should drop caches, or refuse work, until it is called with
    /// `is_high` false. At most once a second, in a thread of its own (`heapgate-ask`): it may take its time, and is not called
    /// again before it has returned.
    pub fn on_pressure(self, callback: impl FnMut(Pressure) + Send + 'static) -> Self {
        Self { callback: Some(Box::new(callback)), ..self }
    }

    /// Starts the agent thread. Publish the process before, or requests come from the program itself only.
    ///
    /// # Errors
    /// Says why not; the program runs on as before.
    pub fn start(self) -> Result<(), ControlError> {
        let set = std::env::var(SOFT_LIMIT_VARIABLE).ok().filter(|value| !value.is_empty());
        let set = set.map(|text| text.parse()).transpose().map_err(ControlError::Variable)?;
        let limit = match set.or(self.soft_limit) {
            None => None,
            Some(limit) => Some(limit.bytes(memory_limit_bytes(std::process::id())).ok_or(ControlError::NoLimit)?),
        };
        apply::start(limit, self.callback)
    }
}

/// Changes a setting of this process, as `heapgate tune` does from outside. Returns what is in force now, as jemalloc says: the
/// bytes that were given back, where it is [`Setting::Purge`]. While the soft limit has shortened decay, a longer one is in force
/// when that is over.
///
/// ```no_run
/// use heapgate_alloc::control;
/// use heapgate_alloc::segment::setting::Setting;
///
/// let in_force = control::set(Setting::DirtyDecayMs, 0)?;
/// # Ok::<(), heapgate_alloc::control::ControlError>(())
/// ```
///
/// # Errors
/// Says why not, and then nothing was changed, or, where jemalloc refused one arena among several, said what.
pub fn set(setting: Setting, value: i64) -> Result<i64, ControlError> {
    apply::set(setting, value, c"")
}

/// What a setting of this process is now.
///
/// # Errors
/// If it is not known: an action has no value, jemalloc may have no profiler.
pub fn get(setting: Setting) -> Result<i64, ControlError> {
    apply::get(setting)
}

/// Has jemalloc's heap profiler write its profile to `path`.
///
/// # Errors
/// As [`set`].
pub fn dump_heap_profile(path: &str) -> Result<(), ControlError> {
    let path = CString::new(path).map_err(|_| ControlError::Refused("a path can't have a zero byte"))?;
    apply::set(Setting::HeapProfileDump, 1, &path).map(|_| ())
}

/// How long a change waits for another one.
const PATIENCE: Duration = Duration::from_secs(1);
