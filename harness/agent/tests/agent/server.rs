//! Who is answered, what, and that nobody keeps the others from it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use heapgate_agent::{Settings, Token};
use tempfile::TempDir;

use crate::common::{Answer, Published, Running, agent, eventually, loopback, own, publish};

struct Place {
    folder: TempDir,
    published: Published,
    server: Running,
}

/// A server with one process, "tokenizer".
fn serving(change: impl FnOnce(&mut Settings, &Path)) -> Place {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pid, start_time) = own();
    let published = publish(folder.path(), "tokenizer", pid, start_time);
    published.count(100, 2_000);
    let mut settings = loopback();
    change(&mut settings, folder.path());
    let server = Running::new(agent(folder.path(), |_| {}), settings);
    Place { folder, published, server }
}

#[test]
fn metrics_json_page_and_health_are_served_and_nothing_else() {
    let place = serving(|_, _| {});
    let server = &place.server;
    assert_eq!(server.scrape().value("heapgate_live_objects", &["service=\"tokenizer\""]), Some(100.0));
    let metrics = server.get("/metrics", "");
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");

    let json = server.get("/api/processes", "").json();
    let process = &json["processes"][0];
    assert_eq!((process["service"].as_str(), process["live_objects"].as_i64()), (Some("tokenizer"), Some(100)));
    assert_eq!((process["level"].as_str(), process["up"].as_bool()), (Some("exact"), Some(true)));
    let clean = process["stalls"]["clean"].as_array().expect("counts");
    assert_eq!(clean.len(), json["stall_bounds_ns"].as_array().expect("bounds").len() + 1);
    assert_eq!(clean.iter().filter_map(serde_json::Value::as_u64).sum::<u64>(), 100);
    let max_ns = process["stalls"]["max_ns"].as_f64().expect("timed");
    assert!((max_ns / 2_000.0 - 1.0).abs() < 0.04, "{max_ns}");

    let page = server.get("/", "");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let policy = &page.headers["content-security-policy"];
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for (path, content_type) in
        [("/page.js", "text/javascript; charset=utf-8"), ("/page.css", "text/css; charset=utf-8")]
    {
        assert_eq!(server.get(path, "").headers["content-type"], content_type);
    }
    assert_eq!(server.get("/healthz", "").text(), "ok\n");

    for path in ["/nothing", "/metrics/", "/../../etc/passwd", "/page.js.map"] {
        assert_eq!(server.get(path, "").status, 404, "{path}");
    }
    let wrong = server.post("/metrics", "", "");
    assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, "GET, HEAD"));
    assert_eq!(server.get("/api/level", "").status, 405);
    let head = server.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn an_answer_is_compressed_for_those_who_ask() {
    let place = serving(|_, _| {});
    let plain = place.server.get("/metrics", "Accept-Encoding: gzip;q=0, identity\r\n");
    assert!(!plain.headers.contains_key("content-encoding"));
    let compressed = place.server.get("/metrics", "Accept-Encoding: deflate, gzip;q=0.5\r\n");
    assert_eq!(compressed.headers["content-encoding"], "gzip");
    assert!(compressed.body.len() * 4 < plain.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&compressed.body[..]).read_to_string(&mut text).expect("gzip, to its end");
    let lines = |text: &str| text.lines().map(|line| line.split('}').next().map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(lines(&text), lines(&plain.text()));
}

#[test]
fn the_page_answers_to_its_own_names_only() {
    let place = serving(|settings, _| settings.allowed_hosts = vec!["agents.example.org".into()]);
    let ask = |path: &str, host: &str| {
        place.server.send(format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n")).status
    };
    for path in ["/", "/page.js", "/api/processes"] {
        assert_eq!(ask(path, "Host: localhost:9464\r\n"), 200);
        assert_eq!(ask(path, "Host: agents.example.org\r\n"), 200);
        assert_eq!(ask(path, "Host: rebound.example\r\n"), 421);
        assert_eq!(ask(path, ""), 421);
        assert_eq!(ask(path, "Host: localhost\r\nHost: rebound.example\r\n"), 421);
        assert_eq!(ask(&format!("http://rebound.example{path}"), "Host: localhost\r\n"), 421);
    }
    // Prometheus has whatever name its configuration says.
    assert_eq!(ask("/metrics", "Host: node-7.example\r\n"), 200);
}

fn token(folder: &Path) -> Token {
    let path = folder.join("token");
    std::fs::write(&path, "a-token-of-this-test\n").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    Token::read(&path).expect("a token")
}

#[test]
fn a_level_is_changed_with_the_token_only_and_only_where_that_is_allowed() {
    let body = |id: &str, level: &str| format!("{{\"process\": \"{id}\", \"level\": \"{level}\"}}");
    let level = |place: &Place| place.server.scrape().value("heapgate_level", &[]);
    let (pid, start_time) = own();
    let id = format!("tokenizer.{pid}.{start_time}");
    const RIGHT: &str = "X-Heapgate-Token: a-token-of-this-test\r\n";

    let closed = serving(|_, _| {});
    assert_eq!(closed.server.post("/api/level", RIGHT, &body(&id, "count")).status, 403);
    assert_eq!(level(&closed), Some(4.0));
    assert_eq!(closed.server.get("/api/processes", "").json()["control"], false);

    let open = serving(|settings, folder| settings.control = Some(token(folder)));
    assert_eq!(open.server.get("/api/processes", "").json()["control"], true);
    for (headers, body, status) in [
        ("", body(&id, "count"), 403),
        ("X-Heapgate-Token: a-token-of-this-tesT\r\n", body(&id, "count"), 403),
        ("X-Heapgate-Token: \r\n", body(&id, "count"), 403),
        ("Authorization: Bearer a-token-of-this-test\r\n", body(&id, "count"), 403),
        (RIGHT, body(&id, "loud"), 400),
        (RIGHT, body("nobody.1.1", "count"), 404),
        (RIGHT, "{".to_owned(), 400),
        (RIGHT, "{\"process\": \"a\", \"level\": \"off\", \"all\": true}".to_owned(), 400),
        (RIGHT, format!("\"{}\"", "x".repeat(5_000)), 413),
    ] {
        let answer = open.server.post("/api/level", headers, &body);
        assert_eq!(answer.status, status, "{headers}{body}: {}", answer.text());
        assert_eq!(level(&open), Some(4.0));
    }
    let wrong = open.server.post("/api/level", "X-Heapgate-Token: a-token-of-another-test\r\n", &body(&id, "count"));
    assert_eq!(wrong.text(), "the control token is wrong\n");
    let rebound = open.server.send(format!(
        "POST /api/level HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n{RIGHT}Content-Length: 2\r\n\r\n{{}}"
    ));
    assert_eq!(rebound.status, 421);
    assert_eq!(open.server.post("/api/level", RIGHT, &body(&id, "count")).status, 200);
    assert_eq!(level(&open), Some(1.0));
    assert!(open.folder.path().exists() && open.published.entry.path.exists());
}

#[test]
fn a_setting_is_asked_for_with_the_same_token_and_a_file_is_never_named_from_elsewhere() {
    let body = |id: &str, setting: &str| format!("{{\"process\": \"{id}\", \"setting\": \"{setting}\"}}");
    let (pid, start_time) = own();
    let id = format!("tokenizer.{pid}.{start_time}");
    const RIGHT: &str = "X-Heapgate-Token: a-token-of-this-test\r\n";

    let closed = serving(|_, _| {});
    let refused = closed.server.post("/api/setting", RIGHT, &body(&id, "purge"));
    assert_eq!((refused.status, refused.text().contains("--allow-control")), (403, true));

    let open = serving(|settings, folder| settings.control = Some(token(folder)));
    for (headers, body, status, words) in [
        ("", body(&id, "purge"), 403, "must have the control token"),
        ("X-Heapgate-Token: a-token-of-this-tesT\r\n", body(&id, "purge"), 403, "wrong"),
        (RIGHT, body(&id, "decay=1"), 400, "there is no setting 'decay'"),
        (RIGHT, body(&id, "dirty_decay_ms=-2"), 400, "-1 to 3600000"),
        (RIGHT, body(&id, "heap_profile_dump=/tmp/x"), 403, "heapgate tune"),
        (RIGHT, body("nobody.1.1", "purge"), 404, "/api/processes"),
        (RIGHT, "{}".to_owned(), 400, "NAME=VALUE"),
        // The file is one without a process that looks into it.
        (RIGHT, body(&id, "purge"), 409, "takes no requests"),
    ] {
        let answer = open.server.post("/api/setting", headers, &body);
        assert_eq!(answer.status, status, "{headers}{body}: {}", answer.text());
        assert!(answer.text().contains(words), "{body}: {}", answer.text());
    }
}

/// More descriptors than a shell gives: the test's own ends of a thousand connections.
fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to fill in.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max.min(8_192);
    // SAFETY: `limit` is a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn idle_slow_and_wrong_clients_dont_stop_a_scrape() {
    raise_limit();
    let place = serving(|_, _| {});
    let server = &place.server;
    let mut idle: Vec<TcpStream> = Vec::new();
    for number in 0..1_000 {
        let mut stream = server.connect();
        match number % 3 {
            0 => {}
            // Slow ones: a byte now, and the next one never.
            1 => stream.write_all(b"G").expect("sent"),
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n").expect("sent"),
        }
        idle.push(stream);
    }
    server.scrape();

    let mut noise = b"\x16\x03\x01\x02\x00\x01".repeat(10_000);
    noise.extend(0..=255);
    for (request, what) in [
        (noise, "garbage"),
        (b"GET /metrics HTTP/9.9\r\n\r\n".to_vec(), "another protocol"),
        (b"\r\n".repeat(100_000), "nothing, at length"),
        (
            [b"GET /".as_slice(), &b"x".repeat(1 << 20), b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat(),
            "a long address",
        ),
        (
            [b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ".as_slice(), &b"x".repeat(1 << 20), b"\r\n\r\n"]
                .concat(),
            "a long header",
        ),
        (
            [b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n".as_slice(), &b"X: y\r\n".repeat(1_000), b"\r\n"].concat(),
            "many headers",
        ),
    ] {
        let answer = server.send(&request);
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{what}: {}", answer.status);
        server.scrape();
    }
    // The body of a request that takes none is not waited for.
    let huge = server.send("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{");
    assert_eq!(huge.status, 405);
    server.scrape();

    // Of those that are idle, the oldest had to go, and the latest can still ask.
    let latest = &mut idle[998];
    latest.write_all(b"Connection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    latest.read_to_end(&mut answer).expect("answered");
    assert_eq!(Answer::new(&answer).status, 200);
    for stream in &mut idle[..800] {
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)));
    }
}

#[test]
fn clients_that_dont_read_dont_stop_a_scrape() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pid, start_time) = own();
    // Some MiB: more than the kernel takes from the server for a client that doesn't read.
    for index in 0..600 {
        publish(folder.path(), &format!("service-{index}"), pid, start_time).count(1, 1_000);
    }
    let server = Running::new(agent(folder.path(), |_| {}), loopback());
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let lazy: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(request).expect("sent");
            // It has begun to answer.
            stream.read_exact(&mut [0; 1]).map(|()| stream)
        })
        .filter_map(Result::ok)
        .collect();
    let scrape = server.scrape();
    assert!(scrape.text.len() > 6 << 20, "{} bytes are not enough for this test", scrape.text.len());
    assert_eq!(scrape.value("heapgate_agent_processes", &[]), Some(600.0));
    drop(lazy);

    // With time for an answer that none of this length gets by, it is cut off though nobody waits for its place.
    let mut settings = loopback();
    settings.timeouts.answer = Duration::from_millis(500);
    let server = Running::new(agent(folder.path(), |_| {}), settings);
    eventually("an answer that isn't read is cut off", |wait| {
        let mut lazy = server.connect();
        lazy.write_all(request).expect("sent");
        std::thread::sleep(wait);
        let mut answer = Vec::new();
        let _ = lazy.read_to_end(&mut answer);
        !answer.ends_with(b"0\r\n\r\n")
    });
    server.serves();
}

#[test]
fn a_client_that_stalls_in_a_request_is_closed_and_others_are_served() {
    let place = serving(|settings, folder| {
        settings.control = Some(token(folder));
        settings.timeouts.header = Duration::from_millis(300);
        settings.timeouts.body = Duration::from_millis(300);
    });
    let server = &place.server;
    // Connected and silent, in the middle of a line, in the middle of the headers, after an answer.
    for request in ["", "GET /met", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "GET /healthz HTTP/1.1\r\n\r\n"] {
        let mut stalled = server.connect();
        stalled.write_all(request.as_bytes()).expect("sent");
        let ended = stalled.read_to_end(&mut Vec::new());
        assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "{request:?} was not ended");
        server.serves();
    }
    let headers = "Host: localhost\r\nContent-Length: 50\r\nX-Heapgate-Token: a-token-of-this-test\r\n";
    eventually("a body that doesn't come is not waited for", |_| {
        server.send(format!("POST /api/level HTTP/1.1\r\n{headers}\r\n{{\"process\"")).status == 408
    });
    server.serves();
}

#[test]
fn an_address_that_others_reach_is_warned_of_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = Settings { listen: ([0, 0, 0, 0], 0).into(), ..loopback() };
    let server = Running::new(agent(folder.path(), |_| {}), settings);
    let local = Running::new(agent(folder.path(), |_| {}), loopback());
    server.scrape();
    local.scrape();
    let notes = server.notes.lock().expect("notes").clone();
    assert!(notes.len() == 1 && notes[0].contains("without TLS or authentication"), "{notes:?}");
    assert!(local.notes.lock().expect("notes").is_empty());
}
