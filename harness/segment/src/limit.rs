//! The most memory that a process may have: what its control groups allow, and the soft limit that it keeps itself to.
//!
//! ```
//! use heapgate_segment::limit::SoftLimit;
//! let limit: SoftLimit = "80%".parse().unwrap();
//! assert_eq!(limit.bytes(Some(10 << 30)), Some(8 << 30));
//! assert_eq!("8 GiB".parse(), Ok(SoftLimit::Bytes(8 << 30)));
//! ```

use core::fmt;
use core::str::FromStr;

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Version 1 writes a number of about 2^63 for "no limit"; no machine has a quarter of it.
const NO_LIMIT: u64 = 1 << 61;

/// The environment variable with a process's soft limit: bytes, or a share of what its control groups allow.
pub const SOFT_LIMIT_VARIABLE: &str = "HEAPGATE_SOFT_LIMIT";

/// The least soft limit: below it a program of any use is all overhead, and the purges would never end.
pub const LEAST_SOFT_LIMIT: u64 = 1 << 20;

/// Suffixes of bytes, as people write them, and what they stand for.
const BYTE_UNITS: [(&str, f64); 11] = [
    ("", 1.0),
    ("B", 1.0),
    ("KiB", 1_024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

/// Bytes as people write them, in settings and in `heapgate.toml`: `500 MiB`, `1.5GiB`, `4_096`. `None` if it is no number of
/// bytes.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, suffix) = (text[..split].replace('_', ""), text[split..].trim_start());
    let scale = BYTE_UNITS.iter().find(|unit| unit.0 == suffix)?.1;
    Some(plain_number(&number)? * scale).filter(|bytes| bytes.is_finite())
}

/// A number without sign or exponent.
fn plain_number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok()).flatten().filter(|number: &f64| number.is_finite())
}

/// A soft limit on resident memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SoftLimit {
    /// Bytes.
    Bytes(u64),
    /// A share, above 0 and at most 1, of the most that the process may have.
    Share(f64),
}

/// A text that is no soft limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSoftLimit(String);

impl fmt::Display for BadSoftLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is no soft limit; write bytes such as 8GiB or 500MiB (1 MiB at least), or a share such as 80%",
            self.0
        )
    }
}

impl core::error::Error for BadSoftLimit {}

impl FromStr for SoftLimit {
    type Err = BadSoftLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadSoftLimit(text.to_owned());
        let trimmed = text.trim();
        if let Some(percent) = trimmed.strip_suffix('%') {
            let share = plain_number(percent.trim_end()).ok_or_else(bad)? / 100.0;
            return if share > 0.0 && share <= 1.0 { Ok(Self::Share(share)) } else { Err(bad()) };
        }
        let bytes = parse_bytes(trimmed).ok_or_else(bad)?;
        if bytes >= LEAST_SOFT_LIMIT as f64 { Ok(Self::Bytes(bytes as u64)) } else { Err(bad()) }
    }
}

impl SoftLimit {
    /// The limit of a process that may have `most` bytes; `None` for a share of what is not known.
    #[must_use]
    pub fn bytes(self, most: Option<u64>) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Share(share) => Some((most? as f64 * share) as u64),
        }
    }
}

/// The least of the limits of `pid`'s control groups, bytes; `None` without any.
#[must_use]
pub fn cgroup_limit_bytes(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    limit_of_groups(&groups, Path::new(MOUNT))
}

/// The least of the limits of `pid`'s control groups and the machine's memory, bytes; `None` where nothing of this can be read.
#[must_use]
pub fn memory_limit_bytes(pid: u32) -> Option<u64> {
    cgroup_limit_bytes(pid).into_iter().chain(machine_bytes()).min()
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Where version 2 is mounted below [`MOUNT`], if those of version 1 have that (systemd's hybrid layout).
const HYBRID: &str = "unified";

/// The least limit of the groups in `groups` (the text of `/proc/PID/cgroup`) and of those that they are in. A container sees
/// its own group as the root, and the name that the host has for it: so the root is looked at in any case.
fn limit_of_groups(groups: &str, mount: &Path) -> Option<u64> {
    least_limit(groups, mount, "memory.max")
}

/// The same by another file of version 2.
fn least_limit(groups: &str, mount: &Path, file_of_v2: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // Version 2 has one hierarchy, without a name; version 1 one for each controller.
        if controllers.is_empty() {
            let roots = [mount.to_owned(), mount.join(HYBRID)];
            roots.iter().filter_map(|root| limit_at_or_above(root, path, file_of_v2)).min()
        } else if controllers.split(',').any(|controller| controller == "memory") {
            limit_at_or_above(&mount.join("memory"), path, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

fn limit_at_or_above(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group = PathBuf::from(path.trim_start_matches('/'));
    let read = |folder: &Path| {
        let text = fs::read_to_string(root.join(folder).join(file)).ok()?;
        text.trim().parse().ok().filter(|&limit: &u64| limit < NO_LIMIT)
    };
    // The last ancestor is the empty path: the root. A name from outside may climb ("/../x"), which finds nothing or a limit
    // that is none of ours.
    group.ancestors().filter(|folder| !folder.to_string_lossy().contains("..")).filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_a_group_and_those_around_it_counts() {
        let place = std::env::temp_dir().join(format!("heapgate-limit-test-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        let inner = place.join("pod/container");
        let memory = place.join("memory/pod");
        for folder in [&inner, &memory] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(place.join("pod/memory.max"), "2000\n").unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "1000\n").unwrap();
        fs::write(place.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        let limit = |groups| limit_of_groups(groups, &place);
        assert_eq!(limit("0::/pod/container\n"), Some(2000));
        assert_eq!(limit("0::/pod/not-seen-from-here\n"), Some(2000));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:cpu,cpuacct:/\n3:memory:/pod\n0::/pod\n"), Some(1000));
        assert_eq!(limit("3:memory:/elsewhere\n"), None, "no limit is none");
        assert_eq!(limit("garbage\n:\n::\n0::/../pod\n"), None);
        fs::remove_dir_all(&place).unwrap();
    }

    /// As the kernel writes them, in real groups. Any has this limit, which is none of memory's, but is written, nested and found
    /// like it; a memory controller of version 2 is not to be had where version 1 has it.
    #[test]
    #[cfg(not(miri))]
    fn groups_of_version_2_are_found_from_outside_and_in_a_container_of_their_own() {
        const FILE: &str = "cgroup.max.descendants";
        let name = format!("heapgate-limit-{}", std::process::id());
        let mounts = [PathBuf::from(MOUNT), Path::new(MOUNT).join(HYBRID)];
        let outer = mounts.map(|mount| mount.join(&name)).into_iter().find(|group| {
            let is_v2 = fs::create_dir(group).is_ok() && group.join(FILE).exists();
            is_v2 || fs::remove_dir(group).is_ok_and(|()| false)
        });
        let Some(outer) = outer else {
            eprintln!("skipped: no control groups of version 2 at {MOUNT} that this user may make (it takes root)");
            return;
        };
        let inner = outer.join("inner");
        fs::create_dir(&inner).unwrap();
        // In namespaces of its own it mounts what it sees, and says in which group it finds itself.
        let container = std::env::temp_dir().join(&name);
        fs::create_dir(&container).unwrap();
        let mut process = std::process::Command::new("sh")
            .arg("-ec")
            .arg("read line; exec unshare --cgroup --mount sh -ec 'mount -t cgroup2 none \"$0\"; cat /proc/self/cgroup -' \"$0\"")
            .arg(&container)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = process.id();
        fs::write(inner.join("cgroup.procs"), pid.to_string()).unwrap();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let found = |limits: [&str; 2]| {
            for (group, limit) in [&outer, &inner].into_iter().zip(limits) {
                fs::write(group.join(FILE), limit).unwrap();
            }
            least_limit(&groups, Path::new(MOUNT), FILE)
        };
        let limits = [found(["max", "max"]), found(["7", "max"]), found(["max", "5"]), found(["7", "3"])];
        // Now it makes its namespace: its group is the root of what it sees, with the limit of that alone.
        let mut stdin = process.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"\n").unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
        let seen = lines.find_map(|line| line.ok().filter(|line| line.starts_with("0::"))).unwrap_or_default();
        let root = PathBuf::from(format!("/proc/{pid}/root")).join(container.strip_prefix("/").unwrap());
        let within = least_limit(&seen, &root, FILE);
        drop(stdin);
        process.wait().unwrap();
        for group in [&inner, &outer, &container] {
            fs::remove_dir(group).unwrap();
        }
        assert!(groups.contains(&format!("0::/{name}/inner\n")), "{groups}");
        assert_eq!(limits, [None, Some(7), Some(5), Some(3)]);
        if seen.is_empty() {
            eprintln!("skipped: no namespace of control groups may be made here");
        } else {
            assert_eq!((seen.as_str(), within), ("0::/", Some(3)));
        }
    }

    #[test]
    fn a_soft_limit_is_bytes_or_a_share() {
        let parse = |text: &str| text.parse::<SoftLimit>();
        assert_eq!(parse(" 1.5 GiB "), Ok(SoftLimit::Bytes(3 << 29)));
        assert_eq!(parse("500MB"), Ok(SoftLimit::Bytes(500_000_000)));
        assert_eq!(parse("2097152"), Ok(SoftLimit::Bytes(2 << 20)));
        assert_eq!(parse("62.5 %"), Ok(SoftLimit::Share(0.625)));
        assert_eq!(SoftLimit::Share(0.5).bytes(None), None);
        for bad in ["", "%", "0%", "101%", "-5%", "nan%", "inf", "8 XB", "GiB", "1 MB", "4096", "1e400", "-8GiB"] {
            assert!(parse(bad).unwrap_err().to_string().starts_with(&format!("'{bad}' is no soft limit")), "{bad}");
        }
    }

    #[test]
    fn this_machine_has_a_limit() {
        assert!(memory_limit_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
