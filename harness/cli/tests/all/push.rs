//! Figures for Prometheus: the textfile as promtool reads it, a real Pushgateway, and gateways that fail, which change
//! nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::address::own_address;
use crate::common::server::Server;
use crate::common::{Place, QUICK, RECORDED, REPORT, Ran, skip};

const SECRET: &str = "not-to-be-shown";
/// A recorded report against its own baseline: nothing is run, and it passes.
const JUDGE: &str = "gate --report report.json";

/// A place with a report and its baseline.
fn recorded() -> Place {
    let place = Place::new();
    place.write("report.json", &RECORDED.report);
    place.write(&format!("baselines/{}", RECORDED.baseline_path), &RECORDED.baseline);
    place
}

/// Runs heapgate on a branch of its own, whatever CI system the tests run in.
fn run(place: &Place, arguments: &str) -> Ran {
    Ran::of(place.command(arguments).env("HEAPGATE_BRANCH", "fix/leak"))
}

/// Whether `program` is there. If not that is said, unless `required` forbids it.
fn is_there(program: &str, required: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os(required).is_none(), "{program} is missing; ci/test installs it");
        skip(&format!("{program} is not installed"));
    }
    found
}

/// The value of the only sample of `name` whose labels have each of `labels`.
#[track_caller]
fn sample(text: &str, name: &str, labels: &[&str]) -> f64 {
    let of = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
    let lines: Vec<&str> = text.lines().filter(of).collect();
    assert_eq!(lines.len(), 1, "{name} {labels:?} in:\n{text}");
    lines[0].rsplit_once(' ').expect("a value").1.parse().expect("a number")
}

/// The median of a metric of a report, as it stands there.
fn median(report: &str, metric: &str) -> f64 {
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let mut values: Vec<f64> =
        crate::common::trials(&report).iter().map(|t| t["metrics"][metric].as_f64().expect("measured")).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values.len() % 2, 1);
    values[values.len() / 2]
}

#[test]
fn a_textfile_has_the_figures_in_base_units_for_all_to_read() {
    let place = recorded();
    place.write("out/heapgate.prom", "old");
    std::fs::set_permissions(place.path("out/heapgate.prom"), PermissionsExt::from_mode(0o600)).expect("chmod");
    run(&place, &format!("{JUDGE} --textfile out/heapgate.prom")).ends_with(0);
    let text = place.read("out/heapgate.prom");
    let mode = std::fs::metadata(place.path("out/heapgate.prom")).expect("written").permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    let [rss, stall] = ["peak_rss_bytes", "stall_p99_ns"].map(|metric| median(&RECORDED.report, metric));
    let cell = ["verb=\"gate\"", "branch=\"fix/leak\"", "workload=\"tokenize\"", "document=repeated", "commit="];
    assert_eq!(sample(&text, "heapgate_run_peak_rss_bytes", &cell), rss);
    assert!((sample(&text, "heapgate_run_stall_p99_seconds", &cell) - stall / 1e9).abs() <= stall / 1e9 * 1e-12);
    assert_eq!(sample(&text, "heapgate_run_baseline_bytes", &["metric=\"peak_rss_bytes\""]), rss);
    assert_eq!(sample(&text, "heapgate_run_soft_limit_ratio", &["metric=\"peak_rss_bytes\""]), 0.15);
    assert_eq!(sample(&text, "heapgate_run_hard_limit_seconds", &["metric=\"stall_p95_ns\""]), 0.008);
    assert_eq!(sample(&text, "heapgate_run_verdict", &["decision=\"pass\""]), 1.0);
    assert_eq!(sample(&text, "heapgate_run_verdict", &["decision=\"fail\""]), 0.0);
    assert_eq!(sample(&text, "heapgate_run_repetitions", &cell), 5.0);
    if !is_there("promtool", "HEAPGATE_REQUIRE_PROMTOOL") {
        return;
    }
    let checked = place.shell("promtool check metrics < out/heapgate.prom").ends_with(0);
    assert_eq!(format!("{}{}", checked.stdout, checked.stderr), "", "promtool has something to say");
}

#[test]
fn runs_that_are_no_evidence_are_not_told() {
    let place = Place::new();
    let none = "nothing was written to out.prom";
    place
        .run(&format!("run {QUICK} --inject extra-allocs=1 --textfile out.prom"))
        .ends_with(0)
        .says(&["planted", none]);
    let mut report: serde_json::Value = serde_json::from_str(&RECORDED.report).expect("JSON");
    report["complete"] = false.into();
    place.write("report.json", &report.to_string());
    place.run(&format!("{JUDGE} --textfile out.prom")).ends_with(4).says(&["did not end", none]);
    assert!(!place.has("out.prom"));
    // What can't be written is told before anything is run.
    let ran = place.run(&format!("run {QUICK} --textfile none/out.prom")).ends_with(1).says(&["no such folder"]);
    assert!(!ran.stderr.contains("[1/1]"), "{}", ran.stderr);
    place.run(&format!("run {QUICK} --textfile out.txt")).ends_with(0).says(&["files that end in .prom"]);
    assert!(place.has("out.txt") && place.has(REPORT));
}

#[test]
fn what_is_no_gateway_is_refused_before_anything_is_run() {
    let place = Place::new();
    for (flags, words) in [
        ("--push localhost:9091", "begins with http://"),
        ("--push http://host:9091/metrics/job/x", "own address"),
        ("--push http://host --push-grouping workload=x", "told apart"),
        ("--push http://host --push-grouping suite", "LABEL=VALUE"),
        ("--push-job nightly", "--push"),
        ("--push http://host --push-job=", "needs a name"),
    ] {
        let ran = place.run(&format!("run {QUICK} {flags}")).ends_with(2).says(&[words]);
        assert!(!ran.stderr.contains("[1/1]"), "{}", ran.stderr);
    }
}

/// A server whose answers are made: each connection gets the next, the last for ever. What it was asked is sent.
struct Made {
    scheme: &'static str,
    port: u16,
    asked: Receiver<String>,
}

impl Made {
    /// An empty answer is none at all: the connection stays open until the client leaves.
    fn start(answers: &'static [&'static str]) -> Self {
        Self::serve("http", answers, Some)
    }

    /// The same over TLS. Who doesn't trust it asks nothing.
    fn start_tls(answers: &'static [&'static str], config: ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::serve("https", answers, move |mut stream| {
            let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a server");
            connection.complete_io(&mut stream).ok()?;
            Some(StreamOwned::new(connection, stream))
        })
    }

    /// `open` makes of a connection what is read and written, if the client wants that.
    fn serve<S: Read + Write>(
        scheme: &'static str,
        answers: &'static [&'static str],
        open: impl Fn(TcpStream) -> Option<S> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("bound").port();
        let (sender, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let Some(mut stream) = stream.ok().and_then(&open) else { continue };
                let request = read_request(&mut stream);
                // The test has ended.
                if sender.send(request).is_err() {
                    return;
                }
                match answers[index.min(answers.len() - 1)] {
                    "" => drop(stream.read(&mut [0])),
                    answer => {
                        let text = "its reason";
                        let _ = write!(
                            stream,
                            "HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                            text.len()
                        );
                        let _ = stream.flush();
                    }
                }
            }
        });
        Self { scheme, port, asked }
    }

    fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Everything it was asked so far.
    fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

fn read_request(stream: &mut impl Read) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).is_ok_and(|n| n > 2) {
        let line = head.lines().next_back().unwrap_or_default().to_ascii_lowercase();
        length = line.strip_prefix("content-length: ").map_or(length, |n| n.parse().expect("a length"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a whole body");
    head + &String::from_utf8(body).expect("UTF-8")
}

/// Judges the recorded report and pushes to `url`; the verdict is a pass whatever becomes of that.
fn push(place: &Place, url: &str, more: &str) -> Ran {
    // As it is by default: an answer that comes at once may still be late on a busy machine, and the time-out ends a try.
    let ran = run(place, &format!("{JUDGE} --push {url} {more}")).ends_with(0);
    assert!(ran.stdout.contains("PASS"), "{}", ran.stdout);
    ran
}

#[test]
fn a_gateway_that_is_busy_is_asked_again() {
    let place = recorded();
    let server = Made::start(&["503 Service Unavailable", "500 Internal Server Error", "202 Accepted"]);
    let ran = push(&place, &server.url(), "").says(&["pushed: http://127.0.0.1:"]);
    assert!(!ran.stderr.contains("warning: the figures"), "{}", ran.stderr);
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0], asked[2]);
    // `fix/leak` in base64.
    let line = asked[0].lines().next().expect("a request");
    assert!(line.starts_with("PUT /metrics/job/heapgate/branch@base64/Zml4L2xlYWs/machine_class/"), "{line}");
    assert!(line.contains("/matrix/") && line.contains("/verb/gate "), "{line}");
    assert!(asked[0].contains("\r\ncontent-type: text/plain; version=0.0.4"), "{}", asked[0]);
    assert!(asked[0].contains("heapgate_run_peak_rss_bytes{"));
}

#[test]
fn a_gateway_that_fails_changes_no_verdict() {
    let place = recorded();
    let server = Made::start(&["500 Internal Server Error"]);
    push(&place, &server.url(), "").says(&["warning: the figures were not pushed", "500", "its reason", "4 times"]);
    assert_eq!(server.asked().len(), 4);

    // Once is enough to be refused.
    let server = Made::start(&["400 Bad Request"]);
    push(&place, &server.url(), "").says(&["400 Bad Request: its reason", "--push-grouping"]);
    assert_eq!(server.asked().len(), 1);
    let server = Made::start(&["301 Moved Permanently\r\nLocation: http://elsewhere/"]);
    push(&place, &server.url(), "").says(&["301", "http://elsewhere/", "the address that it names"]);
    assert_eq!(server.asked().len(), 1);

    let server = Made::start(&[""]);
    let more = "--push-timeout 0.1";
    run(&place, &format!("{JUDGE} --push {} {more}", server.url())).ends_with(0).says(&["did not answer within 100ms"]);

    let closed = format!("http://{}", own_address());
    push(&place, &closed, "").says(&["can't be reached", "refused", "4 times"]);
    // Nor is a failure made less of one.
    let ran = place.run(&format!("run {QUICK} --push {closed} --push-timeout 0.1"));
    ran.ends_with(0).says(&["were not pushed"]);
}

/// A certificate authority, as PEM, and a server's configuration with a certificate of its making, for 127.0.0.1.
fn authority(name: &str) -> (String, ServerConfig) {
    let key = || KeyPair::generate().expect("a key");
    let mut of_authority = CertificateParams::new(vec![]).expect("parameters");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of_authority.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(of_authority, key()).expect("an authority");
    let of_server = key();
    let named = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = named.signed_by(&of_server, &authority).expect("a certificate");
    let private = PrivatePkcs8KeyDer::from(of_server.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .expect("a configuration");
    (authority.pem(), config)
}

#[test]
fn a_gateway_behind_tls_is_pushed_to_if_its_authority_is_trusted_and_told_nothing_if_not() {
    let place = recorded();
    let (trusted, config) = authority("ours");
    let (other, _) = authority("another");
    place.write("trusted.pem", &trusted);
    place.write("other.pem", &other);
    let server = Made::start_tls(&["202 Accepted"], config);
    let url = server.url().replace("//", &format!("//ada:{SECRET}@"));
    let push = |authority: &str| {
        let mut command = place.command(&format!("{JUDGE} --push {url}"));
        let ran = Ran::of(command.env("SSL_CERT_FILE", place.path(authority)).env_remove("SSL_CERT_DIR")).ends_with(0);
        assert!(ran.stdout.contains("PASS"), "{}", ran.stdout);
        assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
        ran
    };
    push("other.pem").says(&["were not pushed", "certificate that is not trusted", "UnknownIssuer", "SSL_CERT_FILE"]);
    push("missing.pem").says(&["were not pushed"]);
    assert_eq!(server.asked(), Vec::<String>::new());
    push("trusted.pem").says(&["pushed: https://127.0.0.1:"]);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("PUT /metrics/job/heapgate/") && asked[0].contains("heapgate_run_peak_rss_bytes{"));
}

#[test]
fn passwords_are_sent_and_never_shown() {
    let place = recorded();
    let server = Made::start(&["401 Unauthorized"]);
    let url = server.url().replace("//", &format!("//ada:{SECRET}%21@"));
    let ran = push(&place, &url, "").says(&["401", "HEAPGATE_PUSH_PASSWORD"]);
    let mut command = place.command(&format!("{JUDGE} --push {}", server.url()));
    command.env("HEAPGATE_PUSH_USER", "ada").env("HEAPGATE_PUSH_PASSWORD", format!("{SECRET}!"));
    let by_environment = Ran::of(&mut command).ends_with(0).says(&["401"]);
    // ada:not-to-be-shown!
    let asked = server.asked();
    assert!(asked.iter().all(|a| a.contains("\r\nauthorization: Basic YWRhOm5vdC10by1iZS1zaG93biE=\r\n")), "{asked:?}");
    assert_eq!(asked.len(), 2);
    assert!(!asked[0].contains(SECRET));
    let refused = place.run(&format!("{JUDGE} --push https://ada:{SECRET}@host/metrics")).ends_with(2);
    for ran in [ran, by_environment, refused] {
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET), "{ran:?}");
    }
}

/// A real Pushgateway on loopback, ended with the test.
struct Gateway(Server);

impl Gateway {
    /// `None` where it isn't installed, which is said.
    fn start() -> Option<Self> {
        let program = "prometheus-pushgateway";
        if !is_there(program, "HEAPGATE_REQUIRE_PUSHGATEWAY") {
            return None;
        }
        let command = |address: SocketAddr| {
            let mut command = Command::new(program);
            // Debian's keeps what was pushed, by default in one place for all.
            command.args([format!("--web.listen-address={address}"), "--persistence.file=".to_owned()]);
            command
        };
        let ready = |server: &Server| server.ask("GET /-/ready", "").is_some_and(|answer| answer.contains(" 200 "));
        Some(Self(Server::start(command, ready)))
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// What a Prometheus would scrape from it.
    fn metrics(&self) -> String {
        self.0.ask("GET /metrics", "").expect("an answer")
    }
}

#[test]
fn a_real_pushgateway_takes_the_figures_and_the_next_run_replaces_them() {
    let Some(gateway) = Gateway::start() else { return };
    let place = recorded();
    let url = gateway.url();
    push(&place, &url, "--push-grouping suite=nightly/all").says(&["pushed: http://127."]);
    let shown = gateway.metrics();
    let rss = median(&RECORDED.report, "peak_rss_bytes");
    let labels = ["job=\"heapgate\"", "branch=\"fix/leak\"", "suite=\"nightly/all\"", "workload=\"tokenize\""];
    assert_eq!(sample(&shown, "heapgate_run_peak_rss_bytes", &labels), rss);
    assert_eq!(sample(&shown, "heapgate_run_verdict", &["decision=\"pass\""]), 1.0);
    assert!(shown.contains("# HELP heapgate_run_peak_rss_bytes Most resident memory while measuring."), "{shown}");

    // Another commit, another figure, the same job: one series, the new one.
    let mut report: serde_json::Value = serde_json::from_str(&RECORDED.report).expect("JSON");
    report["fingerprint"]["build"]["commit"] = "cafe".into();
    place.write("report.json", &report.to_string());
    push(&place, &url, "--push-grouping suite=nightly/all").says(&["pushed: "]);
    let shown = gateway.metrics();
    sample(&shown, "heapgate_run_peak_rss_bytes", &["commit=\"cafe\""]);
    sample(&shown, "heapgate_run_peak_rss_bytes", &[]);

    // Another suite is a group of its own.
    push(&place, &url, "--push-job other").says(&["pushed: "]);
    let shown = gateway.metrics();
    sample(&shown, "heapgate_run_peak_rss_bytes", &["job=\"other\""]);
    sample(&shown, "heapgate_run_peak_rss_bytes", &["suite=\"nightly/all\""]);
    assert_eq!(sample(&shown, "push_failure_time_seconds", &["job=\"other\""]), 0.0);
}
