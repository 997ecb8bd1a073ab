//! Reports in object stores: folders, and a local server that speaks S3 (moto, from `ci/local-s3`, which `ci/test` calls).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::address::own_address;
use crate::common::server::Server;
use crate::common::{Place, QUICK, REPORT, Ran, skip, trials};

/// Four cells: a third of a second.
const SMALL: &str = "tokenize/wordpiece-heap tokenize/wordpiece-slices -a jemalloc -a system -n 1 --steps 2 \
                     --param document=repeated";
const SECRET: &str = "not-to-be-shown";

/// A server on loopback that is ended with the test.
struct S3(Server);

impl S3 {
    /// Starts the server, with a bucket `reports`. None where it isn't installed, which is said.
    fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/s3/bin/moto_server");
        if !program.is_file() {
            let why = format!("a server that speaks S3: {} is missing; ci/local-s3 installs it", program.display());
            assert!(std::env::var_os("HEAPGATE_REQUIRE_S3").is_none(), "{why}");
            skip(&why);
            return None;
        }
        let command = |address: SocketAddr| {
            let mut command = Command::new(&program);
            command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
            command
        };
        let credentials = "Authorization: AWS4-HMAC-SHA256 Credential=user/20260101/us-east-1/s3/aws4_request\r\n";
        let made = |server: &Server| server.ask("PUT /reports", credentials).is_some_and(|a| a.contains(" 200 "));
        Some(Self(Server::start(command, made)))
    }

    /// Runs heapgate with this server for S3.
    fn run(&self, place: &Place, arguments: &str) -> Ran {
        Ran::of(with_s3(&mut place.command(arguments), self.0.address))
    }
}

/// The environment in which S3 is what listens at `address`.
fn with_s3(command: &mut Command, address: SocketAddr) -> &mut Command {
    command
        .env("AWS_ENDPOINT", format!("http://{address}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "user")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
}

/// The URL of a place's folder `name`.
fn folder_url(place: &Place, name: &str) -> String {
    let path: PathBuf = place.path(name);
    format!("file://{}/", path.display())
}

/// Runs three shards with `--put`, merges what lies there, and compares with an unsharded run. `run` is how heapgate is
/// run, `url` the folder.
fn three_shards_are_the_whole(place: &Place, url: &str, run: impl Fn(&str) -> Ran) {
    run(&format!("run {SMALL} -o whole.json")).ends_with(0);
    for index in 1..=3 {
        let stored = format!("stored: {url}shard-{index}-of-3.json");
        run(&format!("run {SMALL} --shard {index}/3 --put {url}")).ends_with(0).says(&[&stored]);
    }
    let cells = |name: &str| {
        let mut cells: Vec<String> = trials(&place.json(name)).iter().map(|t| t["cell"].to_string()).collect();
        cells.sort();
        cells
    };
    for from in [url.to_owned(), format!("{url}shard-*.json")] {
        let _ = std::fs::remove_file(place.path("all.json"));
        run(&format!("merge {from} -o all.json")).ends_with(0).says(&["4 trials of 3 reports"]);
        assert_eq!(cells("all.json"), cells("whole.json"));
    }
    run(&format!("merge {url}shard-1-of-3.json -o one.json")).ends_with(2).says(&["missing: shard 2/3, shard 3/3"]);
    run(&format!("merge {url}none.json -o one.json")).ends_with(2).says(&["none.json", "no such object"]);
    run(&format!("merge {url}none-* -o one.json")).ends_with(2).says(&["no object matches none-*"]);
}

#[test]
fn shards_in_a_folder_are_merged_by_its_url() {
    let place = Place::new();
    three_shards_are_the_whole(&place, &folder_url(&place, "runs/today"), |arguments| place.run(arguments));
}

#[test]
fn shards_in_s3_are_merged_by_their_url() {
    let Some(s3) = S3::start() else { return };
    let place = Place::new();
    three_shards_are_the_whole(&place, "s3://reports/runs/today/", |arguments| s3.run(&place, arguments));
    // Another prefix that begins alike is another folder.
    s3.run(&place, "merge s3://reports/runs/tod/ -o one.json").ends_with(2).says(&["no object matches *.json"]);
}

#[test]
fn what_is_put_is_the_report_of_the_run() {
    let place = Place::new();
    let url = folder_url(&place, "kept");
    place.run(&format!("run {QUICK} --put {url}")).ends_with(0).says(&["kept/report.json"]);
    assert_eq!(place.read("kept/report.json"), place.read(REPORT));
    place.run(&format!("run {QUICK} --put {url}named")).ends_with(0);
    assert_eq!(place.read("kept/named"), place.read(REPORT));
}

#[test]
fn objects_that_are_no_reports_are_left_out_and_that_is_said() {
    let place = Place::new();
    let url = folder_url(&place, "kept");
    place.run(&format!("run {QUICK} --put {url}")).ends_with(0);
    place.write("kept/notes.txt", "mine");
    place.run(&format!("merge {url} -o all.json")).ends_with(0).says(&["left out: notes.txt"]);
    place.write("kept/broken.json", "");
    place.run(&format!("merge {url} -o all.json")).ends_with(2).says(&["kept/broken.json", "empty"]);
}

#[test]
fn a_store_that_is_gone_leaves_the_report_and_says_where() {
    let place = Place::new();
    place.write("file", "");
    let url = folder_url(&place, "file");
    let ran = place.run(&format!("run {QUICK} --put {url}")).ends_with(1);
    assert!(!ran.stdout.is_empty(), "what was measured is shown all the same");
    ran.says(&[
        "cannot write file://",
        "file/report.json",
        "the report is kept in .heapgate/report.json, but was not stored",
    ]);
    assert_eq!(place.json(REPORT)["complete"], true);
}

#[test]
fn a_bucket_that_there_is_not_is_told_without_credentials() {
    let Some(s3) = S3::start() else { return };
    let place = Place::new();
    let ran = s3.run(&place, &format!("run {QUICK} --put s3://no-such-bucket/x/")).ends_with(1);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
    ran.says(&["cannot write s3://no-such-bucket/x/report.json", "AWS_ENDPOINT", "the report is kept in"]);
}

#[test]
fn a_wrong_url_is_told_before_anything_is_measured() {
    let place = Place::new();
    for (url, said) in [
        ("ftp://host/x", "there is no such kind of store"),
        ("reports/x", "reports/x"),
        ("s3://KEY:hidden@bucket/x", "credentials in a URL"),
    ] {
        let ran = place.run(&format!("run {QUICK} --put {url}")).ends_with(2).says(&[said]);
        assert!(!ran.stderr.contains("hidden"), "{}", ran.stderr);
    }
    assert!(!place.has(REPORT));
    place.run("merge s3://*/x -o all.json").ends_with(2).says(&["only the part after the last /"]);
}

/// Answers one request after the other with `answers`, each on a connection of its own; returns how many were asked for.
fn answering(listener: TcpListener, answers: &[&str]) -> usize {
    for (index, answer) in answers.iter().enumerate() {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        let mut buffer = [0; 65_536];
        // The head, then as much as it says.
        loop {
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |n| n.parse().expect("a length"));
                if body.len() >= length {
                    break;
                }
            }
            match stream.read(&mut buffer).expect("a request") {
                0 => return index,
                n => request.extend(&buffer[..n]),
            }
        }
        stream.write_all(answer.as_bytes()).expect("answer");
    }
    answers.len()
}

#[test]
fn a_store_that_is_busy_is_tried_again() {
    const BUSY: &str = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const DONE: &str = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || answering(listener, &[BUSY, BUSY, DONE]));
    let place = Place::new();
    let mut command = place.command(&format!("run {QUICK} --put s3://b/x.json"));
    Ran::of(with_s3(&mut command, address)).ends_with(0).says(&["stored: s3://b/x.json"]);
    assert_eq!(server.join().expect("answered"), 3);
}

#[test]
fn a_store_that_nobody_answers_for_is_told_with_the_cause() {
    let place = Place::new();
    let ran = Ran::of(with_s3(&mut place.command("merge s3://reports/x/ -o all.json"), own_address())).ends_with(1);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
    ran.says(&["cannot list s3://reports/x/", "AWS_ENDPOINT", "onnection refused"]);
}
