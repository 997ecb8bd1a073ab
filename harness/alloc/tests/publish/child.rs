//! Children, and what they do.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use heapgate_alloc::Publication;
use heapgate_alloc::segment::layout::Gauge;
use heapgate_alloc::segment::published::{self, Buffer};
use heapgate_alloc::segment::size_class::size_class_of;

use crate::{OBJECT, OBJECTS};

/// Names the scenario for a child.
pub const SCENARIO: &str = "HEAPGATE_TEST_SCENARIO";

/// A folder of a test's own.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let name = format!("heapgate-publish-{}-{}", std::process::id(), PLACES.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        // What a process of this number may have left.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What children take for the runtime folder, unless they are told another.
    pub fn runtime(&self) -> PathBuf {
        self.path("runtime")
    }

    /// Reads the one process that is published here, as `name`.
    pub fn read(&self, name: &str) -> Buffer {
        let entries = published::list(&self.runtime()).expect("the folder was made");
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(entry.name, name);
        let mut buffer = Buffer::new();
        entry.read(&mut buffer).expect("readable");
        buffer
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that waits to be asked or ended.
pub struct Child {
    child: std::process::Child,
    stdout: BufReader<ChildStdout>,
}

/// What a child that has ended left.
pub struct Ended {
    pub stderr: String,
    pub code: Option<i32>,
}

/// This executable, to be started as `scenario`, with nothing of the user's settings.
pub fn command(place: &Place, scenario: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEAPGATE_") {
            command.env_remove(name);
        }
    }
    command.env(SCENARIO, scenario).env("HEAPGATE_RUNTIME_DIR", place.runtime());
    command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Child {
    /// Starts one, and waits until it has done what it does before it waits.
    pub fn start(place: &Place, scenario: &str, variables: &[(&str, &str)]) -> Self {
        Self::of(command(place, scenario, variables))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the child starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut started = Self { child, stdout };
        assert_eq!(started.line(), "ready\n");
        started
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line
    }

    /// Its answer to `question`.
    pub fn ask(&mut self, question: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{question}").expect("it reads");
        self.line()
    }

    pub fn stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().expect("piped")
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("it has ended");
    }

    /// Lets it end by itself.
    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).expect("text");
        }
        let code = self.child.wait().expect("it has ended").code();
        Ended { stderr, code }
    }
}

/// What children do.
pub fn run(scenario: &str) {
    let objects = || (0..OBJECTS).map(|_| black_box(Vec::<u8>::with_capacity(OBJECT))).collect::<Vec<_>>();
    let publication = Publication::new("tokenizer").version("1.2.3").allocator("system");
    let kept = match scenario {
        "nothing" => objects(),
        "publish" | "fork" => {
            publication.publish().expect("published");
            let kept = objects();
            let told = std::sync::mpsc::channel();
            heapgate_alloc::every(Duration::from_secs(3600), move |session| {
                session.set_gauge(Gauge::JemallocActive, 4242);
                let _ = told.0.send(());
            })
            .expect("a thread");
            let _ = told.1.recv();
            kept
        }
        "profiled" => {
            publication.profiling().publish().expect("published");
            let worker = std::thread::Builder::new().name("worker".to_owned()).spawn(|| {
                loop {
                    drop(black_box(Vec::<u8>::with_capacity(OBJECT)));
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            worker.expect("a thread");
            Vec::new()
        }
        "refused" => {
            match heapgate_alloc::publish("tokenizer") {
                Ok(()) => println!("published"),
                Err(error) => println!("{error}"),
            }
            objects()
        }
        "exec" => {
            let kept = objects();
            // What it has counted so far is not its successor's.
            let error = Command::new(std::env::current_exe().expect("this")).env(SCENARIO, "nothing").exec();
            panic!("{error}: {}", kept.len());
        }
        "late" => Vec::new(),
        other => panic!("no scenario {other}"),
    };
    println!("ready");
    for question in std::io::stdin().lines() {
        match question.expect("text").as_str() {
            "figures" => {
                let reader = heapgate_alloc::session().expect("it is published").reader();
                let class = reader.totals().size_class(size_class_of(OBJECT as u64));
                println!("{} {}", class.0, reader.service());
            }
            "publish" => match publication.publish() {
                Ok(()) => println!("published"),
                Err(error) => println!("{error}"),
            },
            "fork" => fork(),
            other => panic!("no question {other}"),
        }
    }
    drop(kept);
}

fn fork() {
    // SAFETY: the other threads of this process hold no lock that the child takes: the one of `every` sleeps.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        drop(black_box(Vec::<u8>::with_capacity(OBJECT)));
        let error = heapgate_alloc::publish("tokenizer").expect_err("not its parent's name");
        println!("forked: {error}");
        // Until the test has looked, and has closed its end. Not by std, whose lock a thread may hold that is not here.
        let mut byte = 0_u8;
        // SAFETY: read gets room for one byte.
        unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
        std::process::exit(0);
    }
}
