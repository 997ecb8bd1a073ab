//! Addresses for servers that must be told theirs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Below the ports that kernels give out by themselves (32,768 and up).
const FIRST_PORT: u16 = 20_000;

/// An address of loopback that nobody listens on, or will: of the 2²⁴ that Linux answers at, one of this process, by its
/// number, and a port that it has not had yet. A port that the kernel gave and that was let go again could be another's by the
/// time the server takes it.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(FIRST_PORT);
    // Numbers of processes have 22 bits; 127.0.0.1 is everybody's.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 | high, middle, low);
    loop {
        let address = SocketAddr::from((host, NEXT.fetch_add(1, Relaxed)));
        // Somebody may listen on this port of all addresses.
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
