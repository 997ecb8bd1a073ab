//! A process as the kernel sees it: two small files of `/proc`, read without an allocation a process.

use std::fs::File;
use std::io::{self, Read};

/// The kernel counts CPU time for user space in hundredths of a second, on every architecture that we build for (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessFigures {
    /// When it started, in the kernel's ticks since boot (field 22 of `stat`): with the id, what tells it from all others.
    pub start_time: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Its anonymous part.
    pub anonymous_bytes: u64,
    /// Its part of files.
    pub file_bytes: u64,
    /// Its shared part without files.
    pub shmem_bytes: u64,
    /// Most resident memory ever.
    pub peak_resident_bytes: u64,
    /// Page tables.
    pub page_table_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// The most memory that it may have: [`memory_limit_bytes`](crate::memory_limit_bytes) finds it, which costs more than
    /// all of the above and changes seldom.
    pub limit_bytes: Option<u64>,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// CPU time, seconds.
    pub cpu_s: f64,
    /// Threads.
    pub threads: u64,
}

/// Reads processes, one after the other, into one buffer.
#[derive(Debug, Default)]
pub struct ProcessReader {
    status: Vec<u8>,
    stat: Vec<u8>,
}

impl ProcessReader {
    /// Looks at process `pid`, all but its limit. Compare the start time with the one that is expected: it is read last, so
    /// if it is right, so is all else.
    ///
    /// # Errors
    /// That it has ended, or may not be looked at, or what `/proc` says can't be understood.
    pub fn read(&mut self, pid: u32) -> io::Result<ProcessFigures> {
        self.read_folder(&format!("/proc/{pid}"))
    }

    /// Looks at this process itself.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_own(&mut self) -> io::Result<ProcessFigures> {
        self.read_folder("/proc/self")
    }

    fn read_folder(&mut self, folder: &str) -> io::Result<ProcessFigures> {
        read_into(&format!("{folder}/status"), &mut self.status)?;
        read_into(&format!("{folder}/stat"), &mut self.stat)?;
        let mut figures = ProcessFigures::default();
        take_status(&self.status, &mut figures);
        let taken = take_stat(&self.stat, &mut figures);
        taken.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{folder}/stat is not understood")))?;
        Ok(figures)
    }
}

fn read_into(path: &str, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    File::open(path)?.read_to_end(buffer)?;
    Ok(())
}

/// Lines of `Name:   123 kB`. A kernel thread, or a process that is ending, has no lines of memory.
fn take_status(status: &[u8], figures: &mut ProcessFigures) {
    for line in status.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let field = match &line[..colon] {
            b"VmRSS" => &mut figures.resident_bytes,
            b"RssAnon" => &mut figures.anonymous_bytes,
            b"RssFile" => &mut figures.file_bytes,
            b"RssShmem" => &mut figures.shmem_bytes,
            b"VmHWM" => &mut figures.peak_resident_bytes,
            b"VmPTE" => &mut figures.page_table_bytes,
            b"VmSwap" => &mut figures.swap_bytes,
            _ => continue,
        };
        *field =
            number(line[colon + 1..].trim_ascii().split(|&byte| byte == b' ').next()).unwrap_or(0).saturating_mul(1024);
    }
}

/// One line. The second field is the program's name in parentheses, in which anything may stand: the rest is after the last
/// one.
fn take_stat(stat: &[u8], figures: &mut ProcessFigures) -> Option<()> {
    let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat[after..].trim_ascii().split(|&byte| byte == b' ');
    // Numbered as in proc_pid_stat(5); the third is the first here.
    let mut last = 2;
    let mut field = |wanted: usize| {
        let skipped = wanted - last - 1;
        last = wanted;
        number(fields.nth(skipped))
    };
    figures.minor_faults = field(10)?;
    figures.major_faults = field(12)?;
    figures.cpu_s = (field(14)?.saturating_add(field(15)?)) as f64 / TICKS_PER_SECOND;
    figures.threads = field(20)?;
    figures.start_time = field(22)?;
    Some(())
}

fn number(digits: Option<&[u8]>) -> Option<u64> {
    str::from_utf8(digits?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] =
        b"Name:\tVmRSS: 9 kB\nVmHWM:\t    5000 kB\nVmRSS:\t    4096 kB\nRssAnon:\t    1024 kB\nRssFile:\t    2048 kB\n\
        RssShmem:\t    1024 kB\nVmPTE:\t      44 kB\nVmSwap:\t       8 kB\nThreads:\t3\n";
    const STAT: &[u8] =
        b"77 (a) R 1 (b) S 1 77 77 0 -1 4194304 120 999 3 998 250 50 9 9 20 0 4 0 8811 1000 1000 184467\n";

    #[test]
    fn both_files_are_taken_field_by_field() {
        let mut figures = ProcessFigures::default();
        take_status(STATUS, &mut figures);
        take_stat(STAT, &mut figures).unwrap();
        let expected = ProcessFigures {
            start_time: 8811,
            resident_bytes: 4096 << 10,
            anonymous_bytes: 1024 << 10,
            file_bytes: 2048 << 10,
            shmem_bytes: 1024 << 10,
            peak_resident_bytes: 5000 << 10,
            page_table_bytes: 44 << 10,
            swap_bytes: 8 << 10,
            limit_bytes: None,
            minor_faults: 120,
            major_faults: 3,
            cpu_s: 3.0,
            threads: 4,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_file_that_is_cut_short_is_refused() {
        for length in 0..STAT.len() - 24 {
            assert_eq!(take_stat(&STAT[..length], &mut ProcessFigures::default()), None, "{length} bytes");
        }
        take_status(
            b"VmRSS:\nVmRSS\n:::\n\xff\xff: 3 kB\nVmHWM:\t99999999999999999999999 kB\n",
            &mut ProcessFigures::default(),
        );
    }

    #[test]
    fn this_process_is_found_and_one_that_is_not_there_is_an_error() {
        let mut reader = ProcessReader::default();
        let own = reader.read_own().unwrap();
        assert!(own.resident_bytes > 100_000 && own.peak_resident_bytes >= own.anonymous_bytes, "{own:?}");
        assert!(own.threads >= 1 && own.minor_faults > 0 && own.start_time > 0 && own.page_table_bytes > 0, "{own:?}");
        assert_eq!(reader.read(std::process::id()).unwrap().start_time, own.start_time);
        assert!(reader.read(u32::MAX).is_err());
    }
}
