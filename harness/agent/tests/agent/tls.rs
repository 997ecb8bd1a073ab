//! TLS and passwords, as a web configuration asks for them.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::common::{Answer, Running, agent, eventually, loopback};

/// Writes a certificate of its own for localhost, its key and a web configuration with them and a user, "prometheus".
fn configure(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
    put("server.crt", &made.cert.pem());
    put("server.key", &made.signing_key.serialize_pem());
    let hash = bcrypt::hash("open sesame", 4).expect("a hash");
    put(
        "web.yml",
        &format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nbasic_auth_users:\n  prometheus: {hash}\n"
        ),
    );
    made.cert.der().clone()
}

fn over_tls(server: &Running, certificate: &CertificateDer<'static>, request: &str) -> Result<Answer, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(Answer::new(&bytes))
}

fn get(path: &str, credentials: Option<&str>) -> String {
    let credentials = credentials.map_or(String::new(), |credentials| {
        format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(credentials))
    });
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{credentials}\r\n")
}

#[test]
fn with_a_web_configuration_only_tls_and_the_right_password_are_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = configure(folder.path());
    let mut settings = loopback();
    settings.web_config = Some(folder.path().join("web.yml"));
    let server = Running::new(agent(folder.path(), |_| {}), settings);
    let status = |request: &str| over_tls(&server, &certificate, request).expect("answered").status;
    for path in ["/metrics", "/", "/api/processes"] {
        assert_eq!(status(&get(path, Some("prometheus:open sesame"))), 200, "{path}");
        assert_eq!(status(&get(path, Some("prometheus:wrong"))), 401, "{path}");
        assert_eq!(status(&get(path, None)), 401, "{path}");
    }
    assert_eq!(status(&get("/healthz", None)), 200, "a kubelet has no password");
    let refused = over_tls(&server, &certificate, &get("/metrics", None)).expect("answered");
    assert!(refused.headers["www-authenticate"].starts_with("Basic "));

    // Plain text gets nothing, and what is garbage to TLS keeps nobody out.
    assert_eq!(server.get("/metrics", "").status, 0);
    assert_eq!(status(&get("/metrics", Some("prometheus:open sesame"))), 200);
}

#[test]
fn a_handshake_that_stalls_is_ended_and_others_are_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = configure(folder.path());
    let mut settings = loopback();
    settings.web_config = Some(folder.path().join("web.yml"));
    settings.timeouts.handshake = Duration::from_millis(300);
    let server = Running::new(agent(folder.path(), |_| {}), settings);
    // Silent, and in the middle of a record of 512 bytes.
    for begin in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01"] {
        let mut stalled = server.connect();
        stalled.write_all(begin).expect("sent");
        let ended = stalled.read_to_end(&mut Vec::new());
        assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "{begin:?} was not ended");
        eventually("another is answered", |_| {
            over_tls(&server, &certificate, &get("/healthz", None)).is_ok_and(|answer| answer.status == 200)
        });
    }
}
