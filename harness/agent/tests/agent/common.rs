//! Published segments made by the test, a running server, and a client that sends what it is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heapgate_agent::{Agent, AgentSettings, Server, Settings, Timeouts};
use heapgate_segment::clock::ClockKind;
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{InterruptedSplit, Level, Operation, Slot};
use heapgate_segment::published::{self, Created, Entry};
use heapgate_segment::writer::{Attachment, Writer};
use tokio::sync::oneshot;

/// A test that waits longer than this has failed; only one that has failed gets there.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A published segment. Its process counts as alive as long as this lives.
pub struct Published {
    pub entry: Entry,
    pub slot: &'static Slot,
    pub writer: Writer,
    _created: &'static Created,
}

/// Publishes a segment in the name of process `pid`, started at `start_time`, with nothing counted.
///
/// It is never unmapped or unlocked: a `Writer` wants memory for its process's life.
pub fn publish(folder: &Path, name: &str, pid: u32, start_time: u64) -> Published {
    let created = published::create(folder, 2, Level::Exact, 1).expect("created");
    let created: &'static mut Created = Box::leak(Box::new(created));
    let (base, bytes) = created.mapping.raw();
    // SAFETY: a mapping is page-aligned, readable and writable for `bytes` bytes; this one is never unmapped, and its words are
    // accessed as atomics only.
    let writer = unsafe { Writer::from_raw(base, bytes) }.expect("a segment");
    let interrupted_split = InterruptedSplit::Available;
    // Ticks are nanoseconds.
    assert!(writer.attach(Attachment { pid, clock: ClockKind::Monotonic, interrupted_split }));
    writer.identify(&Identity {
        service: name,
        version: "1.2",
        allocator: "jemalloc",
        start_time,
        published_unix_ns: 1,
    });
    let entry = Entry::new(folder, name, pid, start_time);
    created.file.appear(&entry).expect("named");
    let slot = writer.claim(1).expect("a slot");
    Published { entry, slot, writer, _created: created }
}

impl Published {
    /// Counts `objects` allocations of 100 bytes, each of `ns`.
    pub fn count(&self, objects: u64, ns: u64) {
        for _ in 0..objects {
            if self.slot.count_alloc(100) {
                self.slot.settle(self.writer.sums());
            }
            self.slot.record::<false>(Operation::Alloc, ns, false, 1);
        }
    }

    /// A copy in another folder: without a lock, as a process that ended leaves its file.
    pub fn leave_in(&self, folder: &Path) -> PathBuf {
        let path = folder.join(self.entry.path.file_name().expect("named"));
        std::fs::copy(&self.entry.path, &path).expect("copied");
        path
    }
}

/// This process, as published files name it.
pub fn own() -> (u32, u64) {
    (std::process::id(), published::own_start_time().expect("/proc"))
}

pub fn agent(folder: &Path, change: impl FnOnce(&mut AgentSettings)) -> Agent {
    let mut settings = AgentSettings {
        folders: vec![folder.to_owned()],
        max_processes: 1_000,
        keep_dead: Duration::from_secs(300),
        textfiles: None,
    };
    change(&mut settings);
    Agent::new(settings).expect("a folder")
}

/// Tries until it is so, each time with twice the time to wait in between.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut(Duration) -> bool) {
    let (began, mut wait) = (Instant::now(), Duration::from_millis(500));
    while !is_so(wait) {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        wait *= 2;
    }
}

/// A server on a port of loopback, until it is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub notes: Arc<Mutex<Vec<String>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub fn loopback() -> Settings {
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        web_config: None,
        allowed_hosts: vec![],
        control: None,
        timeouts: Timeouts::default(),
    }
}

impl Running {
    pub fn new(agent: Agent, settings: Settings) -> Self {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (address, (end, ended)) = (std::sync::mpsc::channel(), oneshot::channel());
        let noted = Arc::clone(&notes);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let note = Arc::new(move |text: &str| noted.lock().expect("notes").push(text.to_owned()));
                let server = Server::bind(settings, agent, note).await.expect("bound");
                address.0.send(server.address()).expect("awaited");
                server.serve(async { drop(ended.await) }).await;
            });
            runtime.shutdown_background();
        });
        Self { address: address.1.recv().expect("bound"), notes, end: Some(end), thread: Some(thread) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// Sends a request as it is, and reads what comes.
    pub fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // The server may have said no before it has read all.
        let _ = stream.write_all(request.as_ref());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::new(&bytes)
    }

    pub fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"))
    }

    pub fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    /// Waits until somebody is answered: a client of this test may itself have been too slow for a short time-out.
    #[track_caller]
    pub fn serves(&self) {
        eventually("a client is answered", |_| self.get("/healthz", "").status == 200);
    }

    /// A scrape that succeeds.
    #[track_caller]
    pub fn scrape(&self) -> Scrape {
        let answer = self.get("/metrics", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        Scrape::new(&answer.text())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().expect("once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// 0 if nothing came.
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
        let body = if chunked { dechunked(&bytes[end..]) } else { bytes[end..].to_vec() };
        Self { status, headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The content of a chunked body, which must have its end.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(str::from_utf8(&rest[..line]).expect("digits"), 16).expect("a length");
        rest = &rest[line + 2..];
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}

/// An exposition: each series and its value.
pub struct Scrape {
    pub series: BTreeMap<String, f64>,
    pub text: String,
}

impl Scrape {
    #[track_caller]
    pub fn new(text: &str) -> Self {
        assert!(text.ends_with('\n'), "an exposition is whole");
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let before = series.insert(name.to_owned(), value.parse().expect("a number"));
            assert_eq!(before, None, "{name} is there twice");
        }
        Self { series, text: text.to_owned() }
    }

    /// The value of the one series of `metric` whose labels have all of `labels`.
    #[track_caller]
    pub fn value(&self, metric: &str, labels: &[&str]) -> Option<f64> {
        let mut found = self.series.iter().filter(|(name, _)| {
            let (of, rest) = name.split_once('{').unwrap_or((name, ""));
            of == metric && labels.iter().all(|label| rest.contains(label))
        });
        let value = found.next().map(|(_, value)| *value);
        assert_eq!(found.next(), None, "more than one {metric} with {labels:?}");
        value
    }

    #[track_caller]
    pub fn errors(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.value("heapgate_agent_errors_total", &[&label]).expect("all reasons are there")
    }
}
