//! Children, and what they do.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use heapgate_alloc::control::{self, Control};
use heapgate_alloc::groups::{Decay, Groups, Running};
use heapgate_alloc::segment::layout::Level;
use heapgate_alloc::segment::mailbox::{self, Request};
use heapgate_alloc::segment::published::{self, Buffer, Entry, RequestError};
use heapgate_alloc::segment::setting::Setting;
use heapgate_alloc::segment::steering::Steering;

use crate::{OBJECT, by_agent, held};

/// Names the scenario for a child.
pub const SCENARIO: &str = "HEAPGATE_TEST_SCENARIO";

/// A child that is published in a folder of its own, and waits to be asked or ended.
pub struct Child {
    folder: PathBuf,
    child: std::process::Child,
    stdout: BufReader<ChildStdout>,
    pub entry: Entry,
}

impl Child {
    pub fn start(scenario: &str, variables: &[(&str, &str)]) -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let name = format!("heapgate-control-{}-{}", std::process::id(), PLACES.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        let mut command = Command::new(std::env::current_exe().expect("this executable"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HEAPGATE_") {
                command.env_remove(name);
            }
        }
        command.env(SCENARIO, scenario).env("HEAPGATE_RUNTIME_DIR", &folder).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the child starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("text");
        assert_eq!(line, "ready\n");
        let entries = published::list(&folder).expect("the folder was made");
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        Self { entry: entry.clone(), folder, child, stdout }
    }

    /// Its answer to `question`.
    pub fn ask(&mut self, question: &str) -> String {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{question}").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub fn request(&self, request: &Request) -> Result<i64, RequestError> {
        let answer = self.entry.request(request, Duration::from_secs(30), &|| false)?;
        Ok(answer.expect("not cancelled").values[0].cast_signed())
    }

    fn about(&self, command: mailbox::Command, setting: Setting, value: i64) -> Result<i64, RequestError> {
        let mut request = Request { command: command as u64, ..Request::default() };
        request.arguments[..2].copy_from_slice(&[setting as u64, value.cast_unsigned()]);
        self.request(&request)
    }

    pub fn set(&self, setting: Setting, value: i64) -> Result<i64, RequestError> {
        self.about(mailbox::Command::SetSetting, setting, value)
    }

    pub fn get(&self, setting: Setting) -> Result<i64, RequestError> {
        self.about(mailbox::Command::GetSetting, setting, 0)
    }

    pub fn read(&self) -> Buffer {
        let mut buffer = Buffer::new();
        self.entry.read(&mut buffer).expect("readable");
        buffer
    }

    pub fn steering(&self) -> Steering {
        self.read().reader().expect("a segment").steering().expect("it is steered")
    }

    /// Waits until its segment says so.
    pub fn wait_for(&self, is_so: impl Fn(&Steering) -> bool) {
        const LONGEST: Duration = Duration::from_secs(120);
        let begin = Instant::now();
        while !is_so(&self.steering()) {
            assert!(begin.elapsed() < LONGEST, "{:?}", self.steering());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes any numbers; the child is ours, and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), signal) }, 0);
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("it has ended");
    }

    /// Lets it end by itself; what it said on standard error.
    pub fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut stderr = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        assert!(self.child.wait().expect("it has ended").success(), "{stderr}");
        stderr
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One that any process with jemalloc can make.
pub fn random_change(random: &mut impl FnMut(u64) -> u64) -> (Setting, i64) {
    let decay = [-1, 0, 1, 10, 1000, 10_000];
    match random(6) {
        0 => (Setting::DirtyDecayMs, decay[random(6) as usize]),
        1 => (Setting::MuzzyDecayMs, decay[random(6) as usize]),
        2 => (Setting::BackgroundThread, random(2).cast_signed()),
        3 => (Setting::Purge, 1),
        4 => (Setting::Level, (Level::Count as u64 + random(4)).cast_signed()),
        _ => (Setting::SoftLimitBytes, [0, 8 << 20, 64 << 20, 1 << 40][random(4) as usize]),
    }
}

static ASKED: AtomicU64 = AtomicU64::new(0);
static RELIEVED: AtomicBool = AtomicBool::new(false);
/// The callback does not return while it is.
static CALLBACK_IS_HELD: AtomicBool = AtomicBool::new(false);

/// What children do.
pub fn run(scenario: &str) {
    heapgate_alloc::publish("steered").expect("published");
    if scenario != "publish" {
        let told = |pressure: control::Pressure| {
            assert!(pressure.limit_bytes > 0);
            if pressure.is_high {
                _ = ASKED.fetch_add(1, Relaxed)
            } else {
                RELIEVED.store(true, Relaxed)
            }
            while CALLBACK_IS_HELD.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        Control::new().on_pressure(told).start().expect("started");
        assert!(matches!(Control::new().start(), Err(control::ControlError::Started)));
    }
    if scenario == "load" {
        return load();
    }
    println!("ready");
    let mut leak = Vec::new();
    let mut peak = 0;
    let mut groups = None;
    let mut arena = 0;
    for question in std::io::stdin().lines() {
        let question = question.expect("text");
        let mut is_answered = false;
        let mut return_line = |answer: &dyn std::fmt::Display| {
            println!("{answer}");
            is_answered = true;
        };
        match question.split(' ').collect::<Vec<_>>()[..] {
            ["garbage"] => drop(megabytes(64)),
            ["churn"] => peak = churn(),
            ["leak"] => leak = megabytes(128),
            ["drop"] => leak = Vec::new(),
            ["groups"] => groups = Some(three_groups()),
            ["refresh"] => groups.expect("groups").refresh().expect("figures"),
            ["bind", name] => {
                let group = groups.and_then(|groups| groups.named(name)).expect("a group");
                let bind = move || groups.expect("groups").bind_thread(group);
                std::thread::spawn(bind).join().expect("it ends").expect("bound");
                return_line(&"bound");
            }
            // Of the group named, or of a process that is all one group.
            ["finish", name, ms] => {
                let elapsed = Duration::from_millis(ms.parse().expect("a number"));
                match groups.and_then(|groups| Some((groups, groups.named(name)?))) {
                    Some((groups, group)) => groups.finished(group, elapsed),
                    None => heapgate_alloc::request_finished(elapsed),
                }
                return_line(&"finished");
            }
            ["hold", "callback"] => CALLBACK_IS_HELD.store(true, Relaxed),
            ["release", "callback"] => CALLBACK_IS_HELD.store(false, Relaxed),
            ["watch", "agent"] => by_agent::watch(),
            ["held", "arena"] => arena = held::arena(),
            ["work"] => {
                held::work(arena);
                return_line(&"done");
            }
            ["release", "agent"] => held::release(),
            ["calls"] => return_line(&by_agent::calls()),
            ["asked"] => return_line(&ASKED.load(Relaxed)),
            ["relieved"] => return_line(&RELIEVED.load(Relaxed)),
            ["peak"] => return_line(&peak),
            ["decays"] => {
                let decay = |setting| control::get(setting).expect("known");
                return_line(&format!("{} {}", decay(Setting::DirtyDecayMs), decay(Setting::MuzzyDecayMs)));
            }
            ["set", name, value] => {
                let setting = Setting::ALL.into_iter().find(|setting| setting.name() == name).expect("a setting");
                match control::set(setting, value.parse().expect("a number")) {
                    Ok(value) => return_line(&value),
                    Err(error) => return_line(&error),
                }
            }
            _ => panic!("no question {question}"),
        }
        if !is_answered {
            println!();
        }
    }
    drop(leak);
}

fn three_groups() -> Running {
    let groups = Groups::new().group("control", 1, Decay::UNCHANGED).group("strict", 1, Decay::STRICT);
    groups.group("dirty", 1, Decay { dirty_ms: Some(77), muzzy_ms: None }).start().expect("groups")
}

/// Each thread has an arena of its own; one after the other fills it with what it frees at once. Returns the most that was
/// resident.
fn churn() -> u64 {
    const THREADS: usize = 8;
    let (begin, turn) = (Barrier::new(THREADS), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                begin.wait();
                let mut peak = turn.lock().expect("no thread has panicked");
                for _ in 0..2 {
                    drop(megabytes(32));
                    *peak = resident_bytes().max(*peak);
                    std::thread::sleep(Duration::from_millis(30));
                }
                drop(peak);
                begin.wait();
            });
        }
    });
    turn.into_inner().expect("no thread has panicked")
}

fn megabytes(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| black_box(vec![1_u8; 1 << 20])).collect()
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("there");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

/// Eight threads allocate and free, one changes settings, all until the end of standard input.
fn load() {
    const THREADS: u64 = 8;
    const CHANGES: u64 = 500;
    let is_over = AtomicBool::new(false);
    let (allocated, freed) = (AtomicU64::new(0), AtomicU64::new(0));
    println!("ready");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (is_over, allocated, freed) = (&is_over, &allocated, &freed);
            scope.spawn(move || {
                let mut kept = Vec::with_capacity(100);
                let mut state = thread + 1;
                while !is_over.load(Relaxed) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if kept.len() == 100 || (state >> 40 & 1 == 0 && !kept.is_empty()) {
                        kept.swap_remove((state >> 33) as usize % kept.len());
                        freed.fetch_add(1, Relaxed);
                    } else {
                        kept.push(black_box(Vec::<u8>::with_capacity(OBJECT)));
                        allocated.fetch_add(1, Relaxed);
                    }
                }
                freed.fetch_add(kept.len() as u64, Relaxed);
            });
        }
        let changes = scope.spawn(|| {
            let mut state = 7_u64;
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            for _ in 0..CHANGES {
                let (setting, value) = random_change(&mut random);
                control::set(setting, value).unwrap_or_else(|error| panic!("{setting} = {value}: {error}"));
            }
        });
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("text");
        assert_eq!(line, "end\n");
        changes.join().expect("all were made");
        is_over.store(true, Relaxed);
    });
    println!("{CHANGES} {} {}", allocated.load(Relaxed), freed.load(Relaxed));
    let _ = std::io::stdin().read_line(&mut String::new());
}
