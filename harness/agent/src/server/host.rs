//! Which names the live page answers to.
//!
//! A page of another site can have its own name resolve to this machine's address (DNS rebinding), and would then be read
//! by the browser as the same origin as the agent. What it can't do is send another `Host` than its own name. So the page,
//! and the JSON behind it, answer only to names that are known to be meant for this agent. An address is no name that
//! anybody could rebind.

use std::net::{IpAddr, SocketAddr};

/// Whether a request with this `Host` is meant for an agent that was reached at `local`.
#[must_use]
pub fn is_allowed(host: &str, local: SocketAddr, allowed: &[String]) -> bool {
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.eq_ignore_ascii_case("localhost") || allowed.iter().any(|allowed| name.eq_ignore_ascii_case(allowed)) {
        return true;
    }
    match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.to_canonical() == local.ip().to_canonical(),
        Err(_) => false,
    }
}

fn without_port(host: &str) -> &str {
    // An IPv6 address has colons of its own, and is in brackets.
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &str, local: &str) -> bool {
        is_allowed(host, local.parse().unwrap(), &["agents.example.org".into()])
    }

    #[test]
    fn loopback_the_address_reached_and_what_was_allowed_are_answered() {
        for host in
            ["localhost", "localhost:9464", "LOCALHOST.", "127.0.0.1:9464", "[::1]:9464", "[::1]", "10.1.2.3:80"]
        {
            assert!(allowed(host, "10.1.2.3:9464"), "{host}");
        }
        assert!(allowed("Agents.example.org:9464", "10.1.2.3:9464"));
        assert!(allowed("[fd00::7]:9464", "[fd00::7]:9464"));
        assert!(allowed("10.1.2.3", "[::ffff:10.1.2.3]:9464"));
    }

    #[test]
    fn names_of_others_are_not() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.9.9.9",
            "agents.example.org.evil.example:9464",
        ] {
            assert!(!allowed(host, "10.1.2.3:9464"), "{host}");
        }
    }
}
