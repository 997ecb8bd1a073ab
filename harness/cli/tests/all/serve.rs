//! `heapgate serve`, as a user starts it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::Place;

struct Serving {
    child: Child,
    address: String,
}

fn serve(place: &Place, arguments: &str) -> Serving {
    begin(place, &format!("serve --listen 127.0.0.1:0 {arguments}"))
}

/// Starts what has a free port of loopback in its arguments.
fn begin(place: &Place, arguments: &str) -> Serving {
    let mut command = place.command(arguments);
    command.env("HEAPGATE_RUNTIME_DIR", place.path("run"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix('/'));
    let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
    Serving { child, address }
}

impl Serving {
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_the_users_own_folder_until_it_is_told_to_end() {
    let place = Place::new();
    let mut serving = serve(&place, "");
    assert!(serving.get("/metrics").contains("heapgate_agent_processes 0"));
    assert!(serving.get("/").contains("<!doctype html>"));
    // SAFETY: the child was not waited for, so its id is its own.
    assert_eq!(unsafe { libc::kill(serving.child.id().cast_signed(), libc::SIGTERM) }, 0);
    assert_eq!(serving.child.wait().expect("ended").code(), Some(0));
}

#[test]
fn the_unit_and_the_daemon_set_start_it_with_flags_that_it_has() {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci");
    let read = |file: &str| std::fs::read_to_string(ci.join(file)).expect("read");
    let unit = read("systemd/heapgate-agent.service");
    let unit =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/heapgate ")).expect("a command");
    let pod = read("kubernetes/agent.yaml");
    // Those that stand in comments too: they are there to be taken.
    let arguments = pod.lines().skip_while(|line| line.trim() != "args:").skip(1);
    let arguments =
        arguments.take_while(|line| line.trim() != "ports:").map(|line| line.trim_start_matches([' ', '#']));
    let pod: Vec<&str> = arguments.filter_map(|line| line.strip_prefix("- ")).collect();
    assert!(pod.len() > 3, "{pod:?}");
    for arguments in [unit.to_owned(), pod.join(" ")] {
        let place = Place::new();
        place.write("web.yml", "basic_auth_users:\n");
        let here = place.path("run").display().to_string();
        let arguments = arguments
            .replace("127.0.0.1:9464", "127.0.0.1:0")
            .replace("0.0.0.0:9464", "127.0.0.1:0")
            .replace("/run/heapgate", &here)
            .replace("/etc/heapgate", &place.path("").display().to_string());
        assert!(arguments.starts_with("serve ") && arguments.contains(&here), "{arguments}");
        assert!(begin(&place, &arguments).get("/metrics").contains("heapgate_agent_processes 0"), "{arguments}");
    }
}

#[test]
fn metrics_that_other_programs_left_are_exported_and_bad_files_counted() {
    let place = Place::new();
    place.write("text/good.prom", "# TYPE jobs gauge\njobs{of=\"night\"} 3\n");
    place.write("text/clash.prom", "heapgate_live_bytes 1\n");
    let serving = serve(&place, "--textfile-dir text");
    let metrics = serving.get("/metrics");
    for line in [
        "jobs{of=\"night\"} 3\n",
        "heapgate_agent_textfile_mtime_seconds{file=\"good.prom\"} ",
        "heapgate_agent_errors_total{reason=\"textfile\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert!(!metrics.contains("heapgate_live_bytes 1\n"));
}

#[test]
fn what_is_wrong_is_said_with_its_file_and_key_and_ends_with_2() {
    let place = Place::new();
    place.write("web.yml", "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n");
    place.write("users.yml", "basic_auth_users:\n  alice: secret\n");
    place.write("other.yml", "http_server_config:\n  http2: true\n");
    place.write("token", "0123456789abcdef");
    std::fs::set_permissions(place.path("token"), std::fs::Permissions::from_mode(0o644)).expect("set");
    for (arguments, said) in [
        ("--web-config web.yml", &["web.yml", "tls_server_config.cert_file", "server.crt"][..]),
        ("--web-config users.yml", &["users.yml", "basic_auth_users.alice", "bcrypt"]),
        ("--web-config other.yml", &["other.yml", "http_server_config"]),
        ("--web-config none.yml", &["none.yml"]),
        ("--allow-control", &["--control-token-file"]),
        ("--control-token-file token", &["--allow-control"]),
        ("--allow-control --control-token-file token", &["token", "chmod 600"]),
        ("--allow-control --control-token-file none", &["none"]),
        ("--listen 192.0.2.1:1", &["192.0.2.1:1", "--listen"]),
        ("--keep-dead soon", &["--keep-dead"]),
        ("--textfile-dir nowhere", &["--textfile-dir nowhere", "no folder"]),
        ("--max-processes 0", &["--max-processes"]),
    ] {
        let folder = place.path("run");
        place.run(&format!("serve --folder {} {arguments}", folder.display())).ends_with(2).says(said);
    }
}
