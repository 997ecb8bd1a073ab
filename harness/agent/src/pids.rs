//! Whose process id it is. A process in a container writes the id that it has there; seen from the machine, it has another.
//! Its start time is the same on both sides, so the two together find it.

use std::collections::HashMap;
use std::fs;

/// The start time of process `pid`, in clock ticks since the machine booted; `None` if it has ended, as a zombie has, too.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in a line of `/proc/PID/stat`.
fn parse_stat(line: &str) -> Option<u64> {
    // The name is the program's own choice, in parentheses, and may hold any of those too.
    let mut fields = line.get(line.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22 of the line, of which the state is field 3.
    let start_time = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(start_time)
}

/// All processes of this machine by the id that they have in their own container, and their start time.
///
/// An agent that is itself in a container without `hostPID` sees only its own.
#[must_use]
pub fn in_containers() -> HashMap<(u32, u64), u32> {
    let mut found = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let Some(inner) = fs::read_to_string(format!("/proc/{pid}/status")).ok().as_deref().and_then(parse_status)
        else {
            continue;
        };
        // Those that have no other id are found under it.
        if inner != pid
            && let Some(start_time) = start_time(pid)
        {
            found.insert((inner, start_time), pid);
        }
    }
    found
}

/// The innermost id in `/proc/PID/status`.
fn parse_status(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        for name in ["service", "a) S 1 2", ") (", "two words"] {
            assert_eq!(parse_stat(&format!("17 ({name}) {rest}")), Some(4242), "{name}");
        }
        for wrong in ["", "17 (cut", "17 (a) S 1 2", "17 (a)"] {
            assert_eq!(parse_stat(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_zombie_has_ended() {
        assert_eq!(parse_stat("17 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"), None);
    }

    #[test]
    fn the_innermost_id_is_the_one_that_the_process_knows() {
        assert_eq!(parse_status("Name:\ta\nNSpid:\t4711\t12\t1\nNSsid:\t0\n"), Some(1));
        assert_eq!(parse_status("Name:\ta\n"), None);
    }

    #[test]
    fn this_process_lives_and_began_before_now() {
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(u32::MAX), None);
    }
}
