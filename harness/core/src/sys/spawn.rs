//! Starting a child that is to be measured.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
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

/// Why children can't be confined as asked.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// There is no such folder.
    #[error("--cgroup {}: there is no such folder; make the cgroup first, or leave it out", .0.display())]
    NoCgroup(PathBuf),
    /// A folder that is no cgroup.
    #[error("--cgroup {}: it is no cgroup, since it has no cgroup.procs; name a folder below /sys/fs/cgroup", .0.display())]
    NotACgroup(PathBuf),
    /// A cgroup of someone else.
    #[error(
        "--cgroup {}: nothing can be put into it ({source}); name one whose cgroup.procs you may write to, or change its rights",
        cgroup.display()
    )]
    CgroupRefused {
        /// The cgroup's folder.
        cgroup: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A CPU that isn't there, or that this process may not use.
    #[error("--cpus {cpu}: there is no such CPU for this process; {there_are}")]
    NoCpu {
        /// Its number.
        cpu: usize,
        /// Which there are, or how to find out.
        there_are: String,
    },
}

fn cpus_there_are() -> String {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let online = online.trim();
    if online.is_empty() { "`nproc` says how many there are".to_owned() } else { format!("this machine has {online}") }
}

impl Confinement {
    /// Whether children can be confined so: to know before one is started, where the kernel only says that something
    /// was refused.
    ///
    /// # Errors
    /// Naming what is not there.
    pub fn check(&self) -> Result<(), ConfinementError> {
        self.cgroup.as_deref().map_or(Ok(()), check_cgroup)?;
        match self.cpus.iter().flatten().find(|&&cpu| !is_usable(cpu)) {
            Some(&cpu) => Err(ConfinementError::NoCpu { cpu, there_are: cpus_there_are() }),
            None => Ok(()),
        }
    }
}

fn check_cgroup(cgroup: &Path) -> Result<(), ConfinementError> {
    match OpenOptions::new().write(true).open(cgroup.join("cgroup.procs")) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !cgroup.exists() => {
            Err(ConfinementError::NoCgroup(cgroup.to_owned()))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(ConfinementError::NotACgroup(cgroup.to_owned()))
        }
        Err(source) => Err(ConfinementError::CgroupRefused { cgroup: cgroup.to_owned(), source }),
    }
}

/// Whether a process of ours can run on `cpu`: tried out, in a thread that ends with the trial. The kernel alone knows
/// what is online and what our cpuset allows.
fn is_usable(cpu: usize) -> bool {
    let Ok(set) = cpu_set(&[cpu]) else { return false };
    // SAFETY: `set` is a valid cpu_set_t of the size given; 0 is the calling thread.
    let tried =
        std::thread::spawn(move || unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) });
    tried.join().is_ok_and(|result| result == 0)
}

/// Starts `command`, which inherits `shared`, under `confinement`, in a process group of its own (a Ctrl-C at the
/// terminal is for us to handle), and which dies when this thread does.
///
/// # Errors
/// What the kernel said: of the program, or of one of the limits.
pub fn spawn(command: &mut Command, shared: &[BorrowedFd<'_>], confinement: &Confinement) -> io::Result<Child> {
    let shared: Vec<i32> = shared.iter().map(AsRawFd::as_raw_fd).collect();
    let confinement = Prepared::new(confinement)?;
    command.process_group(0);
    // SAFETY: the closure runs in the forked child before exec. It makes system calls only: no allocation, no lock;
    // what it needs was prepared before the fork. Errors are built from errno without allocating.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            for &fd in &shared {
                check(libc::fcntl(fd, libc::F_SETFD, 0))?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(folder: &Path) -> Result<(), ConfinementError> {
        Confinement { cgroup: Some(folder.to_owned()), ..Confinement::default() }.check()
    }

    #[test]
    fn a_folder_that_is_no_cgroup_is_told_from_one_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(cgroup(&folder.path().join("nowhere")), Err(ConfinementError::NoCgroup(_))));
        assert!(matches!(cgroup(folder.path()), Err(ConfinementError::NotACgroup(_))));
        let file = folder.path().join("cgroup.procs");
        fs::write(&file, "").unwrap();
        cgroup(folder.path()).unwrap();
        assert!(matches!(cgroup(&file), Err(ConfinementError::NotACgroup(_))));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(matches!(cgroup(folder.path()), Err(ConfinementError::CgroupRefused { .. })));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_told_and_this_thread_stays_where_it_was() {
        let cpus = |cpus: &[usize]| Confinement { cpus: Some(cpus.to_vec()), ..Confinement::default() }.check();
        let before = std::thread::available_parallelism().unwrap();
        let usable = (0..64).find(|&cpu| is_usable(cpu)).expect("this runs on one");
        cpus(&[usable]).unwrap();
        for missing in [1023, usize::MAX] {
            let error = cpus(&[usable, missing]).unwrap_err();
            assert!(matches!(error, ConfinementError::NoCpu { cpu, .. } if cpu == missing), "{error}");
        }
        assert_eq!(std::thread::available_parallelism().unwrap(), before);
    }
}
