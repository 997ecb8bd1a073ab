//! Starting a child that is to be measured.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// What the kernel is to hold a child to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Address space, bytes (`RLIMIT_AS`). Note that allocators and regions reserve much more than they use.
    pub address_space_bytes: Option<u64>,
    /// Niceness to add.
    pub nice: Option<i32>,
    /// CPUs it may run on.
    pub cpus: Option<Vec<usize>>,
    /// A cgroup's folder to put it into.
    pub cgroup: Option<PathBuf>,
}

/// Starts `command`, which inherits `shared`, under `confinement`, in a process group of its own (a Ctrl-C at the terminal is for us to
/// handle), and which dies when this thread does.
///
/// # Errors
/// What the kernel said: of the program, or of one of the limits.
pub fn spawn(command: &mut Command, shared: BorrowedFd<'_>, confinement: &Confinement) -> io::Result<Child> {
    let fd = shared.as_raw_fd();
    let confinement = Prepared::new(confinement)?;
    command.process_group(0);
    // SAFETY: the closure runs in the forked child before exec. It makes system calls only: no allocation, no lock; what it needs
    // was prepared before the fork. Errors are built from errno without allocating.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::fcntl(fd, libc::F_SETFD, 0))?;
            confinement.apply()
        });
    }
    command.spawn()
}

/// A [`Confinement`] in the form that system calls take.
struct Prepared {
    address_space: Option<libc::rlimit>,
    nice: Option<i32>,
    cpus: Option<libc::cpu_set_t>,
    cgroup: Option<CString>,
}

impl Prepared {
    fn new(confinement: &Confinement) -> io::Result<Self> {
        let cgroup = confinement.cgroup.as_deref().map(procs_file).transpose()?;
        Ok(Self {
            address_space: confinement.address_space_bytes.map(|b| libc::rlimit { rlim_cur: b, rlim_max: b }),
            nice: confinement.nice,
            cpus: confinement.cpus.as_deref().map(cpu_set).transpose()?,
            cgroup,
        })
    }

    /// Only system calls: runs between fork and exec.
    fn apply(&self) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            // SAFETY: the path is a C string; the descriptor is used and closed here.
            unsafe {
                let fd = check(libc::open(cgroup.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
                // "0" is the process that writes it.
                let written = libc::write(fd, c"0".as_ptr().cast(), 1);
                let error = io::Error::last_os_error();
                libc::close(fd);
                if written != 1 {
                    return Err(error);
                }
            }
        }
        if let Some(limit) = &self.address_space {
            // SAFETY: `limit` is a valid rlimit.
            check(unsafe { libc::setrlimit(libc::RLIMIT_AS, limit) })?;
        }
        if let Some(cpus) = &self.cpus {
            // SAFETY: `cpus` is a valid cpu_set_t of the size given; 0 is this process.
            check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus) })?;
        }
        if let Some(nice) = self.nice {
            // SAFETY: setpriority has no memory requirement; 0 is this process.
            check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
        }
        Ok(())
    }
}

fn procs_file(cgroup: &Path) -> io::Result<CString> {
    Ok(CString::new(cgroup.join("cgroup.procs").as_os_str().as_bytes())?)
}

fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
        }
        // SAFETY: `cpu` is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    Ok(set)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
