//! Programs that serve on a port of loopback while a test goes on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::processes::{Running, wait_for};

/// How often a program is started that ends at once: another process had its port.
const TRIES: u32 = 5;

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A program that serves, ended with the test.
pub struct Server {
    child: Running,
    pub port: u16,
}

impl Server {
    /// Starts what `command` makes for a port, and waits until it is `ready`.
    #[track_caller]
    pub fn start(command: impl Fn(u16) -> Command, ready: impl Fn(&Self) -> bool) -> Self {
        for _ in 0..TRIES {
            let port = free_port();
            let mut command = command(port);
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut server = Self { child: Running::new(command.spawn().expect("start the server")), port };
            let is_ready = wait_for("a server's first answer", || {
                let (ready, ended) = (ready(&server), server.child.has_ended());
                std::thread::sleep(Duration::from_millis(20));
                (ready || ended).then_some(ready && !ended)
            });
            if is_ready {
                return server;
            }
        }
        panic!("the server ended at once, {TRIES} times");
    }

    /// The answer to a request without content: `request` is method and path, `headers` more lines, each with its end.
    pub fn ask(&self, request: &str, headers: &str) -> Option<String> {
        self.send(request, headers, "")
    }

    /// The same with content.
    pub fn send(&self, request: &str, headers: &str, content: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let length = content.len();
        write!(stream, "{request} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{headers}\r\n{content}")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}
