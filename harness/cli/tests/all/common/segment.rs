//! A segment made by the test, in place of the supervisor's, or the supervisor's own looked at through `/proc`.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use heapgate_segment::layout::{self, DEFAULT_SLOTS, Level};
use heapgate_segment::map::{Mapping, create_file};
use heapgate_segment::reader::Reader;

/// A segment.
pub struct Segment {
    file: File,
    mapping: Mapping,
}

impl Segment {
    /// An unused one. A process that takes it does not stop after its phases: nobody would let it go on.
    pub fn new(level: Level) -> Self {
        let file = create_file(c"test", layout::segment_bytes(DEFAULT_SLOTS)).expect("a memory file");
        let segment = Self { mapping: Mapping::new(file.as_fd()).expect("mapped"), file };
        layout::format(segment.mapping.words(), DEFAULT_SLOTS, level, 1);
        segment
    }

    /// The one through which supervisor `pid` watches its present child; `None` between two children.
    pub fn of_supervisor(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}/fd");
        let fd = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|fd| {
            std::fs::read_link(fd).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:heapgate"))
        })?;
        let file = OpenOptions::new().read(true).write(true).open(fd).ok()?;
        let mapping = Mapping::new(file.as_fd()).ok()?;
        Reader::new(mapping.words()).ok()?;
        Some(Self { file, mapping })
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.mapping.words()).expect("a process leaves its segment readable")
    }

    /// Makes `command`, and what it starts, write here.
    pub fn give_to(&self, command: &mut Command) {
        let fd = self.file.as_raw_fd();
        command.env("HEAPGATE_SEGMENT", format!("fd:{fd}"));
        // SAFETY: between fork and exec only a system call is made; the descriptor is open in the child as it is here.
        unsafe {
            command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
    }
}
