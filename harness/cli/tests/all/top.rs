//! The list of published processes, of real ones.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::common::processes::{Running, send, wait_for};
use crate::common::{Place, Ran};

fn publish(place: &Place) -> Running {
    Running::published(place, "tokenizer", &[("HEAPGATE_VERSION", "1.4.2")])
}

fn top(place: &Place, arguments: &str) -> Ran {
    let mut command = place.command(&format!("top {arguments}"));
    Ran::of(command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env_remove("HEAPGATE_PUBLISH"))
}

#[test]
fn published_processes_are_listed_until_they_are_gone() {
    let place = Place::new();
    let empty = top(&place, "--once -i 0.1").ends_with(0).stdout;
    assert!(empty.starts_with("no published process in "), "{empty}");

    let process = publish(&place);
    let listed = top(&place, "--once -i 0.1 --json").ends_with(0).json();
    let found = &listed["processes"][0];
    assert_eq!(found["service"], "tokenizer");
    assert_eq!(found["version"], "1.4.2");
    assert_eq!(found["pid"], process.pid());
    assert_eq!(found["alive"], true);
    assert!(found["live_bytes"].as_i64().expect("counted") > 0, "{listed}");
    assert!(found["rss_bytes"].as_u64().expect("in /proc") > 100_000, "{listed}");
    assert!(found["allocations_per_s"].is_number(), "{listed}");

    place.write("run/hostile.1.1.heapgate", "no segment");
    drop(process);
    let ran = top(&place, "--once -i 0.1").ends_with(0).says(&["warning: ", "hostile.1.1.heapgate"]);
    let line = ran.stdout.lines().find(|line| line.starts_with("tokenizer")).expect("its last state");
    assert!(line.contains(" dead "), "{}", ran.stdout);
}

#[test]
fn a_list_needs_a_terminal_or_once() {
    let place = Place::new();
    top(&place, "").ends_with(2).says(&["--once"]);
    top(&place, "--json").ends_with(2).says(&["--once"]);
    top(&place, "--once -i 0").ends_with(2).says(&["from 0.1 to 3600 s"]);
    top(&place, "--once -i 0.1 --folder /nowhere/at/all").ends_with(0);
}

/// A terminal that a program can be started in, and what it has shown so far.
struct Terminal {
    master: File,
    /// Kept open: its settings outlive the program.
    slave: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new() -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let (no_name, no_settings) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: openpty writes two descriptors into locals that outlive the call, and reads a size; the rest may be null.
        let opened = unsafe { libc::openpty(&raw mut master, &raw mut slave, no_name, no_settings, &raw const size) };
        assert_eq!(opened, 0, "a terminal: {}", std::io::Error::last_os_error());
        // SAFETY: both were just opened, and are nobody else's.
        let [master, slave] = [master, slave].map(|fd| unsafe { File::from_raw_fd(fd) });
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, into) = (master.try_clone().expect("duplicated"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                into.lock().expect("not poisoned").extend_from_slice(&bytes[..length]);
            }
        });
        Self { master, slave, shown }
    }

    fn start(&self, command: &mut Command) -> Running {
        let end = || Stdio::from(self.slave.try_clone().expect("duplicated"));
        Running::new(command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("started"))
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("not poisoned")).into_owned()
    }

    /// Whether it waits for whole lines, and shows what is typed, as a shell needs it.
    fn is_cooked(&self) -> bool {
        // SAFETY: zeros are a termios, which tcgetattr fills in.
        let settings = unsafe {
            let mut settings = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.slave.as_raw_fd(), &raw mut settings), 0);
            settings
        };
        settings.c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }
}

#[test]
fn in_a_terminal_it_draws_obeys_its_keys_and_puts_the_terminal_back() {
    const ENTER: &str = "\x1b[?1049h";
    const LEAVE: &str = "\x1b[?1049l";
    let place = Place::new();
    let process = publish(&place);
    for (keys, signal, code) in [("q", None, 0), ("", Some(libc::SIGTERM), 130)] {
        let mut terminal = Terminal::new();
        assert!(terminal.is_cooked());
        let mut command = place.command("top -i 0.1");
        command.env("HEAPGATE_RUNTIME_DIR", place.path("run")).env("TERM", "xterm-256color");
        let running = terminal.start(&mut command);
        // Its second look has rates, and was drawn over the first.
        wait_for("its first frame", || terminal.shown().contains("tokenizer").then_some(()));
        let first = terminal.shown().len();
        wait_for("its next frames", || (terminal.shown().len() > first).then_some(()));
        let shown = terminal.shown();
        assert!(shown.contains(ENTER) && shown.contains(&process.pid().to_string()), "{shown:?}");
        assert!(!shown.contains(LEAVE) && !terminal.is_cooked());

        terminal.master.write_all(keys.as_bytes()).expect("typed");
        signal.into_iter().for_each(|signal| send(running.pid(), signal));
        assert_eq!(running.output().status.code(), Some(code), "{:?}", terminal.shown());
        wait_for("the shell's screen", || terminal.shown().contains(LEAVE).then_some(()));
        assert!(terminal.is_cooked(), "a shell can go on");
    }
}
