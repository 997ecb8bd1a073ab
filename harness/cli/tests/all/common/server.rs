//! Programs that serve at an address of loopback while a test goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::address::own_address;
use super::processes::{Running, wait_for};

/// A program that serves, ended with the test.
pub struct Server {
    child: Running,
    pub address: SocketAddr,
}

impl Server {
    /// Starts what `command` makes for an address, and waits until it is `ready`.
    #[track_caller]
    pub fn start(command: impl Fn(SocketAddr) -> Command, ready: impl Fn(&Self) -> bool) -> Self {
        let address = own_address();
        let mut command = command(address);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self { child: Running::new(command.spawn().expect("start the server")), address };
        wait_for("a server's first answer", || {
            assert!(!server.child.has_ended(), "the server ended at once");
            ready(&server).then_some(())
        });
        server
    }

    /// The answer to a request without content: `request` is method and path, `headers` more lines, each with its end.
    pub fn ask(&self, request: &str, headers: &str) -> Option<String> {
        self.send(request, headers, "")
    }

    /// The same with content.
    pub fn send(&self, request: &str, headers: &str, content: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let length = content.len();
        write!(stream, "{request} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{headers}\r\n{content}")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}
