//! The HTTP server: who may connect, for how long, and what is answered. HTTP/1.1, with TLS if the web configuration asks
//! for it.
//!
//! `limits` says how much a client may take, `connections` who has to go, `host` and `auth` who is answered, `routes` what,
//! and `body` how it is written. Called by [`crate`]'s users through [`Server`].

mod auth;
mod body;
mod connections;
mod host;
mod limits;
mod routes;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use auth::{Token, TokenError};
pub use limits::{ANSWER_TIMEOUT, BODY_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, Timeouts};

use crate::agent::Agent;
use crate::web_config::{Loaded, WebConfig, WebConfigError};
use auth::Passwords;
use connections::{Connections, Place};

/// How the server is to be reached, and by whom.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// TLS and passwords.
    pub web_config: Option<PathBuf>,
    /// Names, beside loopback's and the address itself, under which the live page answers.
    pub allowed_hosts: Vec<String>,
    /// Levels may be changed by requests that show this token.
    pub control: Option<Token>,
    /// How long clients may take.
    pub timeouts: Timeouts,
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The web configuration can't be used.
    #[error(transparent)]
    WebConfig(#[from] WebConfigError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Tells the operator something, once each time it happens.
pub type Note = Arc<dyn Fn(&str) + Send + Sync>;

/// A server that has its address and is not serving yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What all connections have in common.
struct Shared {
    agent: Agent,
    web_config: Option<WebConfig>,
    allowed_hosts: Vec<String>,
    control: Option<Token>,
    timeouts: Timeouts,
    note: Note,
    passwords: Passwords,
    connections: Arc<Connections>,
    expositions: Arc<Semaphore>,
    collected: tokio::sync::Mutex<Option<Arc<crate::snapshot::Snapshot>>>,
}

impl Server {
    /// Takes the address, and reads the web configuration.
    ///
    /// # Errors
    /// If one of them can't be had.
    pub async fn bind(settings: Settings, agent: Agent, note: Note) -> Result<Self, ServerError> {
        let web_config = settings.web_config.as_deref().map(WebConfig::load).transpose()?;
        let no = |source| ServerError::Listen { listen: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(no)?;
        let address = listener.local_addr().map_err(no)?;
        let shared = Shared {
            agent,
            web_config,
            allowed_hosts: settings.allowed_hosts,
            control: settings.control,
            timeouts: settings.timeouts,
            note,
            passwords: Passwords::default(),
            connections: Arc::default(),
            expositions: Arc::new(Semaphore::new(limits::MAX_EXPOSITIONS)),
            collected: tokio::sync::Mutex::default(),
        };
        shared.warn(address);
        Ok(Self { listener, address, shared: Arc::new(shared) })
    }

    /// The address, with the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether clients have to speak TLS.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.shared.web().tls.is_some()
    }

    /// Serves until `end`.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut end => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let place = self.shared.connections.admit(limits::MAX_CONNECTIONS);
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        let connection = Arc::clone(&place.connection);
                        tokio::select! {
                            () = shared.serve_stream(stream, place) => {}
                            () = connection.ended() => {}
                        }
                    });
                }
                // The client went away first, or there is no descriptor left: neither is forever.
                Err(_) => tokio::time::sleep(limits::ACCEPT_PAUSE).await,
            }
        }
    }
}

impl Shared {
    /// What the web configuration asks for now.
    fn web(&self) -> Arc<Loaded> {
        let Some(config) = &self.web_config else { return Arc::default() };
        let (loaded, error) = config.current();
        if let Some(error) = error {
            (self.note)(&format!("{error}; what the web configuration said before holds on"));
        }
        loaded
    }

    /// Says once what an address that others can reach lets them do.
    fn warn(&self, address: SocketAddr) {
        let web = self.web();
        if address.ip().to_canonical().is_loopback() {
            return;
        }
        let open = match (web.tls.is_some(), web.users.is_empty()) {
            (false, true) => "without TLS or authentication: everyone who reaches it can read what services here do",
            (false, false) => "without TLS: passwords can be read on their way",
            (true, true) => "without authentication: everyone who reaches it can read what services here do",
            (true, false) => return,
        };
        (self.note)(&format!("warning: {address} is not a loopback address, and is served {open}; see --web-config"));
        if self.control.is_some() && web.tls.is_none() {
            (self.note)("warning: the control token can be read on its way, too");
        }
    }

    async fn serve_stream(self: Arc<Self>, stream: TcpStream, place: Place) {
        let Ok(local) = stream.local_addr() else { return };
        // Answers are written in large pieces; the last one must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        match self.web().tls.clone() {
            None => self.serve_http(stream, local, place).await,
            Some(tls) => {
                let accept = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
                if let Ok(Ok(stream)) = timeout(self.timeouts.handshake, accept).await {
                    self.serve_http(stream, local, place).await;
                }
            }
        }
    }

    async fn serve_http(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        local: SocketAddr,
        place: Place,
    ) {
        let service = service_fn(|request| {
            let answering = place.connection.answer();
            let shared = Arc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(shared.answer(request, local, answering).await) }
        });
        let serve = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeouts.header)
            .max_header_size(limits::MAX_HEADER_BYTES)
            .max_headers(limits::MAX_HEADERS)
            .max_buf_size(limits::MAX_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // What is wrong with a client's request is that client's business; it has been told by hyper.
            _ = serve => {}
            () = overtime(&place, self.timeouts.answer) => {}
        }
    }
}

/// Returns when an answer has taken too long.
async fn overtime(place: &Place, most: Duration) {
    loop {
        let began = place.connection.answering_since();
        let left = began.map(|began| most.saturating_sub(Instant::now().duration_since(began)));
        match left {
            Some(Duration::ZERO) => return,
            Some(left) => tokio::time::sleep(left).await,
            None => tokio::time::sleep(most / 4).await,
        }
    }
}
