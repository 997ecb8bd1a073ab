//! The service under load, as its clients and Prometheus see it.

#[path = "../../../harness/prometheus/tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::Exposition;

/// Where services publish themselves.
const RUNTIME_FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/runtime");

/// The real executable, ended when it is dropped.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    fn start(level: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokenizer-service"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("HEAPGATE_LEVEL", level)
            .env("HEAPGATE_RUNTIME_DIR", RUNTIME_FOLDER)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it listens");
        let address =
            line.trim().strip_prefix("listening on http://").expect("its address").parse().expect("an address");
        Self { child, address }
    }

    fn connect(&self) -> Connection {
        Connection(BufReader::new(TcpStream::connect(self.address).expect("it listens")))
    }

    /// In a connection of its own, as Prometheus's first look is.
    fn scrape(&self) -> Exposition {
        let (status, text) = self.connect().ask("GET", "/metrics", "");
        assert_eq!(status, 200, "{text}");
        let exposition = Exposition::parse(&text);
        exposition.check();
        exposition
    }

    /// Scrapes until `holds`. The time-out only ends a test that fails.
    #[track_caller]
    fn scrape_until(&self, what: &str, mut holds: impl FnMut(&Exposition) -> bool) -> Exposition {
        const LONGEST: Duration = Duration::from_secs(60);
        let begin = Instant::now();
        loop {
            let exposition = self.scrape();
            if holds(&exposition) {
                return exposition;
            }
            assert!(begin.elapsed() < LONGEST, "never {what}: {} objects", live(&exposition));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One kept open.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn request(method: &str, path: &str, body: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.0.get_mut().write_all(Self::request(method, path, body).as_bytes()).expect("sent");
        self.answer()
    }

    /// As a customer of whom there is one for each `request`.
    fn tokenize(&mut self, request: usize, text: &str) -> (u16, String) {
        let head = format!("POST /tokenize HTTP/1.1\r\nHost: x\r\nX-Key: customer-{request}\r\n");
        let message = format!("{head}Content-Length: {}\r\n\r\n{text}", text.len());
        self.0.get_mut().write_all(message.as_bytes()).expect("sent");
        self.answer()
    }

    /// The answer to the first request that has not been read of.
    fn answer(&mut self) -> (u16, String) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the whole answer");
        (status, String::from_utf8(body).expect("UTF-8"))
    }
}

fn live(exposition: &Exposition) -> f64 {
    exposition.value("heapgate_live_objects", &[])
}

/// Texts of different lengths, and what they must become.
struct Texts(Vec<(String, String)>);

impl Texts {
    fn new() -> Self {
        const WORDS: [&str; 12] = [
            "In",
            "the",
            "beginning",
            "unaffable",
            "Größe",
            "42",
            "tokenization,",
            "naïve",
            "床前明月光",
            "x",
            "e-mail",
            "(who?)",
        ];
        let tokenizer = tokenizer_service::tokenizer().expect("the vocabulary");
        let text =
            |length: usize| (0..length).map(|i| WORDS[(i * i + length) % WORDS.len()]).collect::<Vec<_>>().join(" ");
        let texts = (0..40).map(|i| {
            let text = text(i * 3);
            let ids = tokenizer_service::ids(&tokenizer, &text).expect("ids");
            (text, serde_json::json!({ "ids": ids }).to_string())
        });
        Self(texts.collect())
    }

    /// That of request `number`, and what it must become.
    fn of(&self, number: usize) -> &(String, String) {
        &self.0[number % self.0.len()]
    }
}

/// Sends `requests` on a fixed schedule over several connections. An open loop: who sends doesn't wait for answers, which
/// another thread reads, so that what is slow is not spared. Every answer must be right.
fn load(service: &Service, texts: &Texts, requests: usize) {
    const CONNECTIONS: usize = 8;
    const BETWEEN: Duration = Duration::from_micros(500);
    let begin = Instant::now();
    let texts_of = |connection: usize| (connection..requests).step_by(CONNECTIONS).map(|n| (n, texts.of(n)));
    thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let mut answers = service.connect();
            let mut stream = answers.0.get_ref().try_clone().expect("one more descriptor");
            scope.spawn(move || {
                for (request, (text, _)) in texts_of(number) {
                    let due = BETWEEN * u32::try_from(request).expect("few");
                    thread::sleep(due.saturating_sub(begin.elapsed()));
                    stream.write_all(Connection::request("POST", "/tokenize", text).as_bytes()).expect("sent");
                }
            });
            scope.spawn(move || {
                for (_, (text, expected)) in texts_of(number) {
                    assert_eq!(answers.answer(), (200, expected.clone()), "{text}");
                }
            });
        }
    });
}

#[test]
fn under_load_answers_are_right_counters_grow_and_memory_comes_back() {
    const REQUESTS: usize = 400;
    /// Connections that are closing, timers: a request leaves more if it leaves anything.
    const SLACK: f64 = 50.0;
    let (service, texts) = (Service::start("exact", &[]), Texts::new());
    // What is allocated once, for every thread and every connection.
    load(&service, &texts, REQUESTS);
    let mut last = f64::INFINITY;
    let before = service.scrape_until("quiet", |exposition| {
        let quiet = live(exposition) == last;
        last = live(exposition);
        quiet
    });
    common::promtool(&service.connect().ask("GET", "/metrics", "").1);

    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut earlier = before.clone();
            while !ended.load(Relaxed) {
                let now = service.scrape();
                now.check_since(&earlier);
                earlier = now;
            }
        });
        load(&service, &texts, REQUESTS);
        ended.store(true, Relaxed);
        scraper.join().expect("counters never go down");
    });

    let after = service.scrape_until("back where it was", |exposition| live(exposition) <= live(&before) + SLACK);
    after.check_since(&before);
    let grown = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    assert_eq!(grown("tokenizer_requests_total"), REQUESTS as f64);
    let tokens = grown("tokenizer_tokens_total");
    assert!(tokens > 10_000.0 && grown("heapgate_allocations_total") > tokens, "{tokens} tokens");
    // At this level each call is timed: the histograms have what the counters have, but for calls of this moment.
    let calls = grown("heapgate_allocations_total") + grown("heapgate_deallocations_total");
    assert!((grown("heapgate_stall_seconds_count") / calls - 1.0).abs() < 0.01);
    assert!(after.value("heapgate_jemalloc_active_bytes", &[("service", "tokenizer")]) > 0.0);
    assert_eq!(after.matching("heapgate_group_request_seconds_count", &[]).count(), 0, "it has no groups");
}

/// `heapgate` of the same build: a test of all packages has it. `None` where there is none.
fn heapgate() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tokenizer-service")).with_file_name("heapgate");
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("HEAPGATE_REQUIRE_HEAPGATE").is_some_and(|value| value == "1");
    assert!(!required, "{} is not there", path.display());
    eprintln!("LOUDLY SKIPPED: {} is not there; `cargo build -p heapgate` makes it", path.display());
    None
}

#[test]
fn a_group_that_is_made_slower_is_found_out_and_never_wins() {
    /// Few, with pauses: what waits for a thread would depend on what waited before it.
    const CONNECTIONS: usize = 2;
    const PAUSE: Duration = Duration::from_millis(4);
    /// Caches and arenas grow at first.
    const SETTLED: f64 = 1_000.0;
    let Some(heapgate) = heapgate() else { return };
    let service = Service::start("exact", &["--groups=control=1,same=1", "--slow-group=same=2000"]);
    let texts = Texts::new();
    let ended = AtomicBool::new(false);
    let compare = |seconds: &str| {
        let output = Command::new(&heapgate)
            .args(["ab", "--pid", &service.child.id().to_string(), "--json", "--window", "0.1s"])
            .args(["--until-decided", "--duration", seconds])
            .env("HEAPGATE_RUNTIME_DIR", RUNTIME_FOLDER)
            .output()
            .expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!([Some(0), Some(4)].contains(&output.status.code()), "{stderr}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let (service, texts, ended) = (&service, &texts, &ended);
            scope.spawn(move || {
                let mut connection = service.connect();
                for request in (number..).step_by(CONNECTIONS).take_while(|_| !ended.load(Relaxed)) {
                    // Both groups get all texts.
                    let (text, expected) = texts.of(request / CONNECTIONS);
                    assert_eq!(connection.tokenize(request, text), (200, expected.clone()));
                    thread::sleep(PAUSE);
                }
            });
        }
        // Also of an assertion that fails: the scope would wait for its threads for ever.
        let _end = End(&ended);
        service.scrape_until("settled", |exposition| {
            exposition.sum("heapgate_group_request_seconds_count", &[]) >= SETTLED
        });
        // The first is enough, unless the machine is so busy that windows depend on each other for seconds.
        let found = ["20", "60", "300"].into_iter().any(|seconds| {
            let report = compare(seconds);
            let comparisons = report["comparisons"].as_array().expect("a list");
            // A finding stays: so it was better in nothing at any moment, and can't have been named the winner.
            assert!(comparisons.iter().all(|comparison| comparison["finding"] != "better"), "{report:#}");
            let winner = report["winner"].as_str();
            assert!(winner == Some("control") || (winner.is_none() && report["decided"] == false), "{report:#}");
            assert!(comparisons.iter().any(|comparison| comparison["metric"] == "request_time"), "{report:#}");
            let is_worse = |comparison: &&serde_json::Value| comparison["finding"] == "worse";
            comparisons.iter().filter(is_worse).any(|comparison| comparison["metric"] == "stall_per_call")
        });
        assert!(found, "its calls take many times as long");
    });
}

/// Says that it is over when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn groups_take_the_requests_in_their_shares_and_their_counts_are_the_whole_s() {
    const REQUESTS: usize = 400;
    let (service, texts) = (Service::start("exact", &["--groups=control=3,strict=1"]), Texts::new());
    let tokenizer = tokenizer_service::tokenizer().expect("the vocabulary");
    let large = "tokenization ".repeat(4_000);
    let ids = tokenizer_service::ids(&tokenizer, &large).expect("ids");
    let large = (large, serde_json::json!({ "ids": ids }).to_string());
    let mut connection = service.connect();
    for request in 0..REQUESTS {
        // Now and then a large one, whose pages strict gives back at once.
        let (text, expected) = if request % 40 == 0 { &large } else { texts.of(request) };
        assert_eq!(connection.tokenize(request, text), (200, expected.clone()));
    }
    let requests =
        |exposition: &Exposition, group| exposition.sum("tokenizer_group_requests_total", &[("group", group)]);
    // As they are refreshed after the last request: strict has given pages back by then.
    let exposition = service.scrape_until("with the figures of both groups' arenas", |exposition| {
        exposition.sum("heapgate_group_purged_bytes_total", &[("group", "strict")]) > 0.0
    });
    let (control, strict) = (requests(&exposition, "control"), requests(&exposition, "strict"));
    assert_eq!((control + strict) as usize, REQUESTS);
    // Four standard deviations; the keys are always the same.
    let expected = REQUESTS as f64 / 4.0;
    assert!((strict - expected).abs() < 4.0 * expected.sqrt(), "{strict} of {REQUESTS}");

    let of = |name: &str, group| exposition.sum(name, &[("group", group)]);
    let (a, b) = (of("heapgate_group_allocations_total", "control"), of("heapgate_group_allocations_total", "strict"));
    let all = exposition.sum("heapgate_allocations_total", &[]);
    // Tokenizing is most of what a request allocates; what is beside it (HTTP, this scrape) is in no group.
    assert!(a + b <= all && a + b > 0.5 * all, "{a} + {b} of {all}");
    assert!(a > 0.0 && b > 0.0);
    let stalls = of("heapgate_group_stall_seconds_count", "strict");
    assert!(stalls > b, "at this level each call is timed: {stalls} of {b} and its frees");
    assert_eq!(of("heapgate_group_dirty_bytes", "strict"), 0.0);
    for (group, requests) in [("control", control), ("strict", strict)] {
        assert_eq!(of("heapgate_group_request_seconds_count", group), requests);
        assert!(of("heapgate_group_request_seconds_sum", group) > 0.0);
    }
    assert_eq!(of("heapgate_group_arenas", "control"), 3.0);
    assert!((of("heapgate_group_share", "strict") - 0.25).abs() < 0.001);
}

#[test]
fn a_stall_that_is_asked_for_is_seen() {
    let service = Service::start("exact", &["--inject-endpoint"]);
    let over_200_ms = |exposition: &Exposition| {
        exposition.sum("heapgate_stall_seconds_count", &[])
            - exposition.sum("heapgate_stall_seconds_bucket", &[("le", "0.2")])
    };
    let before = over_200_ms(&service.scrape());
    let (status, said) = service.connect().ask("POST", "/inject/stall", "");
    assert_eq!((status, said.as_str()), (200, "an allocation took 250 ms longer\n"));
    let exposition = service.scrape();
    assert!(over_200_ms(&exposition) >= before + 1.0);
    let longest = exposition.matching("heapgate_stall_max_seconds", &[]).map(|series| series.value).fold(0.0, f64::max);
    assert!(longest > 0.24, "{longest} s");
}

#[test]
fn what_it_does_not_serve_is_refused() {
    let service = Service::start("sampled", &[]);
    assert_eq!(service.connect().ask("POST", "/inject/stall", "").0, 404);
    assert_eq!(service.connect().ask("GET", "/tokenize", "").0, 405);
    assert_eq!(service.connect().ask("POST", "/tokenize", &"x".repeat(65 * 1024)).0, 413);
    assert_eq!(service.connect().ask("GET", "/healthz", ""), (200, "ok\n".to_owned()));
}
