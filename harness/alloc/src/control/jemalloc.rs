//! jemalloc's controls, by their names: what each was set to is read back, and an error says what jemalloc said.

use std::ffi::CStr;
use std::fmt;
use std::ptr::{from_mut, null_mut};

use heapgate_segment::setting::Setting;
use tikv_jemalloc_sys::{mallctl, mallctlbymib, mallctlnametomib};

/// jemalloc's number for "all arenas" in `arena.<i>` names (`MALLCTL_ARENAS_ALL`).
const ALL_ARENAS: usize = 4096;

/// Why jemalloc did not do something. Saying it allocates nothing: the agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JemallocError {
    /// It refused a control.
    Refused {
        /// Its name.
        control: &'static CStr,
        /// The system's number for why.
        errno: i32,
    },
    /// What was written is not what is read back.
    ReadBack {
        /// The control's name.
        control: &'static CStr,
        /// What was written.
        wanted: i64,
        /// What is read.
        found: i64,
    },
    /// It has no heap profiler.
    NoProfiler,
    /// It has one, which was not switched on at the start.
    ProfilerOff,
    /// It does not serve this program.
    NotInUse,
}

impl fmt::Display for JemallocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |control: &'static CStr| control.to_str().unwrap_or_default();
        match self {
            Self::Refused { control, errno } => {
                write!(f, "jemalloc refused {}: {}", name(control), SystemError(*errno))
            }
            Self::ReadBack { control, wanted, found } => {
                write!(f, "jemalloc's {} is {found} after it was set to {wanted}", name(control))
            }
            Self::NoProfiler => f.write_str(
                "jemalloc has no opt.prof: it was built without its heap profiler (feature `profiling` of tikv-jemallocator)",
            ),
            Self::ProfilerOff => f.write_str(
                "jemalloc's opt.prof is false: start the program with prof:true in its jemalloc options (_RJEM_MALLOC_CONF)",
            ),
            Self::NotInUse => f.write_str("the program's global allocator is not jemalloc"),
        }
    }
}

/// A number of the system's, with what it means, as [`std::io::Error`] says it, which allocates for it.
struct SystemError(i32);

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; 128];
        // SAFETY: the buffer is valid for its length, and the call ends what it writes with a zero.
        let code = unsafe { libc::strerror_r(self.0, text.as_mut_ptr().cast(), text.len()) };
        let said = CStr::from_bytes_until_nul(&text).ok().filter(|_| code == 0).and_then(|text| text.to_str().ok());
        write!(f, "{} (os error {})", said.unwrap_or("unknown"), self.0)
    }
}

type Result<T> = std::result::Result<T, JemallocError>;

/// A type that a control may have, of which any bits are a value.
trait Number: Copy + Default {}
impl Number for u8 {}
impl Number for u32 {}
impl Number for u64 {}
impl Number for isize {}

fn told(control: &'static CStr, code: i32) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(JemallocError::Refused { control, errno: code }) }
}

fn read<T: Number>(control: &'static CStr) -> Result<T> {
    let (mut value, mut size) = (T::default(), size_of::<T>());
    // SAFETY: the name is a C string; jemalloc writes at most `size` bytes to `value`, any of which are a value of it, and
    // refuses a size that is not the control's.
    let code = unsafe { mallctl(control.as_ptr(), from_mut(&mut value).cast(), &raw mut size, null_mut(), 0) };
    told(control, code).map(|()| value)
}

fn write<T: Number>(control: &'static CStr, mut value: T) -> Result<()> {
    // SAFETY: the name is a C string; jemalloc reads `size_of::<T>()` bytes of `value`, and refuses a size that is not the
    // control's.
    let code =
        unsafe { mallctl(control.as_ptr(), null_mut(), null_mut(), from_mut(&mut value).cast(), size_of::<T>()) };
    told(control, code)
}

/// The two kinds of pages that jemalloc keeps for a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decay {
    Dirty,
    Muzzy,
}

impl Decay {
    /// Of new arenas, and of one arena.
    const fn controls(self) -> [&'static CStr; 2] {
        match self {
            Self::Dirty => [c"arenas.dirty_decay_ms", c"arena.0.dirty_decay_ms"],
            Self::Muzzy => [c"arenas.muzzy_decay_ms", c"arena.0.muzzy_decay_ms"],
        }
    }

    pub(crate) fn of(setting: Setting) -> Option<Self> {
        match setting {
            Setting::DirtyDecayMs => Some(Self::Dirty),
            Setting::MuzzyDecayMs => Some(Self::Muzzy),
            _ => None,
        }
    }
}

/// The decay time that new arenas get.
pub(crate) fn decay_ms(of: Decay) -> Result<i64> {
    read::<isize>(of.controls()[0]).map(|ms| ms as i64)
}

/// Sets it for new arenas and for all there are, but for those of groups with one of their own. Returns what jemalloc has now.
pub(crate) fn set_decay_ms(of: Decay, ms: i64) -> Result<i64> {
    let [of_new, of_one] = of.controls();
    let value = ms as isize;
    write(of_new, value)?;
    let mut mib = [0_usize; 3];
    let mut depth = mib.len();
    // SAFETY: the name is a C string, and `mib` has room for `depth` numbers.
    told(of_one, unsafe { mallctlnametomib(of_one.as_ptr(), mib.as_mut_ptr(), &raw mut depth) })?;
    for arena in 0..read::<u32>(c"arenas.narenas")? as usize {
        if is_groups(of, arena) || !is_initialized(arena)? {
            continue;
        }
        mib[1] = arena;
        let mut value = value;
        // SAFETY: `mib` names a control of type ssize_t, whose value is read from `value`.
        let code = unsafe {
            let value = from_mut(&mut value).cast();
            mallctlbymib(mib.as_ptr(), depth, null_mut(), null_mut(), value, size_of::<isize>())
        };
        told(of_one, code)?;
        let (mut found, mut size) = (0_isize, size_of::<isize>());
        // SAFETY: as above; jemalloc writes `size` bytes to `found`.
        let code = unsafe {
            let found = from_mut(&mut found).cast();
            mallctlbymib(mib.as_ptr(), depth, found, &raw mut size, null_mut(), 0)
        };
        told(of_one, code)?;
        if found != value {
            return Err(JemallocError::ReadBack { control: of_one, wanted: ms, found: found as i64 });
        }
    }
    let found = decay_ms(of)?;
    if found == ms { Ok(found) } else { Err(JemallocError::ReadBack { control: of_new, wanted: ms, found }) }
}

/// Whether a group of threads gave the arena its decay, which stays.
fn is_groups(of: Decay, arena: usize) -> bool {
    #[cfg(feature = "groups")]
    {
        use crate::groups::Pages;
        match of {
            Decay::Dirty => Pages::Dirty.is_kept(arena),
            Decay::Muzzy => Pages::Muzzy.is_kept(arena),
        }
    }
    #[cfg(not(feature = "groups"))]
    {
        _ = (of, arena);
        false
    }
}

fn is_initialized(arena: usize) -> Result<bool> {
    const NAME: &CStr = c"arena.0.initialized";
    let mut mib = [0_usize; 3];
    let mut depth = mib.len();
    let (mut value, mut size) = (0_u8, size_of::<u8>());
    // SAFETY: the name is a C string, and `mib` has room for `depth` numbers.
    told(NAME, unsafe { mallctlnametomib(NAME.as_ptr(), mib.as_mut_ptr(), &raw mut depth) })?;
    mib[1] = arena;
    // SAFETY: `mib` names a control of type bool, which is written to `value`.
    let code = unsafe { mallctlbymib(mib.as_ptr(), depth, from_mut(&mut value).cast(), &raw mut size, null_mut(), 0) };
    told(NAME, code).map(|()| value != 0)
}

/// Whether background threads purge.
pub(crate) fn background_thread() -> Result<bool> {
    read::<u8>(c"background_thread").map(|on| on != 0)
}

/// Starts or ends them. Returns what jemalloc has now.
pub(crate) fn set_background_thread(on: bool) -> Result<bool> {
    write(c"background_thread", u8::from(on))?;
    background_thread()
}

/// Gives all unused pages back.
pub(crate) fn purge() -> Result<()> {
    const NAME: &CStr = c"arena.4096.purge";
    const _: () = assert!(ALL_ARENAS == 4096);
    // SAFETY: the name is a C string; null for input and output is what a control without value takes.
    told(NAME, unsafe { mallctl(NAME.as_ptr(), null_mut(), null_mut(), null_mut(), 0) })
}

fn check_profiler() -> Result<()> {
    match read::<u8>(c"opt.prof") {
        Ok(0) => Err(JemallocError::ProfilerOff),
        Ok(_) => Ok(()),
        Err(_) => Err(JemallocError::NoProfiler),
    }
}

/// Whether the heap profiler samples.
pub(crate) fn heap_profile() -> Result<bool> {
    check_profiler()?;
    read::<u8>(c"prof.active").map(|on| on != 0)
}

/// Makes it sample, or stop. Returns what jemalloc has now.
pub(crate) fn set_heap_profile(on: bool) -> Result<bool> {
    check_profiler()?;
    write(c"prof.active", u8::from(on))?;
    heap_profile()
}

/// Writes its profile to the file `path`.
pub(crate) fn dump_heap_profile(path: &CStr) -> Result<()> {
    check_profiler()?;
    const NAME: &CStr = c"prof.dump";
    let mut path = path.as_ptr();
    // SAFETY: the name is a C string; the control takes a pointer to a C string, which lives until the call returns.
    told(NAME, unsafe {
        mallctl(NAME.as_ptr(), null_mut(), null_mut(), from_mut(&mut path).cast(), size_of_val(&path))
    })
}

/// Whether jemalloc serves this program: its count of this thread's bytes rises as the thread allocates. Where it was built
/// without statistics nothing is known, and it is believed to.
pub(crate) fn is_in_use() -> bool {
    let allocated = || read::<u64>(c"thread.allocated");
    let Ok(before) = allocated() else { return true };
    drop(std::hint::black_box(Box::new([0_u8; 64])));
    allocated().is_ok_and(|now| now > before)
}
