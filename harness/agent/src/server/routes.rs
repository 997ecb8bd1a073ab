//! What is answered to which request.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use heapgate_prometheus::text::CONTENT_TYPE;
use heapgate_segment::layout::Level;
use heapgate_segment::published::RequestError;
use heapgate_segment::setting::{BadChange, Change};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::auth::Credentials;
use super::body::AnswerBody;
use super::connections::Answering;
use super::{Shared, host, limits};
use crate::agent::{LevelError, SettingError};
use crate::page;
use crate::snapshot::Snapshot;

const TEXT_TYPE: &str = "text/plain; charset=utf-8";
const JSON_TYPE: &str = "application/json";

/// The header that a request for control shows its token in. Not `Authorization`, which passwords have; and one that a page
/// of another site can't send without being allowed to, which it never is.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-heapgate-token");

/// What a request for another level says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelRequest {
    /// The process's `id` in `/api/processes`.
    process: String,
    /// The level's name.
    level: String,
}

/// What a request for a change of a setting says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingRequest {
    /// The process's `id` in `/api/processes`.
    process: String,
    /// `NAME=VALUE`, or an action, as `heapgate tune` takes them.
    setting: String,
}

/// How figures are asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    head_only: bool,
    gzip: bool,
}

/// An answer on its way: status, type and text.
struct Plain(StatusCode, &'static str, String);

impl Plain {
    fn text(status: StatusCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self(status, TEXT_TYPE, text)
    }
}

impl Shared {
    /// The answer to one request.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        local: SocketAddr,
        answering: Answering,
    ) -> Response<AnswerBody> {
        // Says nothing about services, and what asks (a kubelet) has no password.
        if request.uri().path() == "/healthz" {
            return plain(Plain::text(StatusCode::OK, "ok"), answering);
        }
        let credentials = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        match self.passwords.check(&self.web(), credentials).await {
            Credentials::Right => {}
            Credentials::Wrong => {
                let mut answer =
                    plain(Plain::text(StatusCode::UNAUTHORIZED, "a name and a password are needed"), answering);
                let wanted = HeaderValue::from_static("Basic realm=\"heapgate\", charset=\"UTF-8\"");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
                return answer;
            }
            Credentials::Busy => {
                let text = "too many passwords are being checked; try again";
                return plain(Plain::text(StatusCode::SERVICE_UNAVAILABLE, text), answering);
            }
        }
        let path = request.uri().path();
        let wanted = match path {
            "/metrics" | "/" | "/page.css" | "/page.js" | "/api/processes" => [Method::GET, Method::HEAD].as_slice(),
            "/api/level" | "/api/setting" => &[Method::POST],
            _ => return plain(Plain::text(StatusCode::NOT_FOUND, "not here; see / and /metrics"), answering),
        };
        if !wanted.contains(request.method()) {
            let allowed = wanted.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let text = format!("{path} takes {allowed}");
            let mut answer = plain(Plain::text(StatusCode::METHOD_NOT_ALLOWED, text), answering);
            answer.headers_mut().extend(HeaderValue::from_str(&allowed).ok().map(|allowed| (header::ALLOW, allowed)));
            return answer;
        }
        // What reads metrics is a program with a configuration; a browser must not be led here by another's name.
        if path != "/metrics" && !self.is_for_us(&request, local) {
            let text = "this page does not answer under that name; --allowed-host NAME lets it";
            return plain(Plain::text(StatusCode::MISDIRECTED_REQUEST, text), answering);
        }
        let asked = Asked { head_only: request.method() == Method::HEAD, gzip: takes_gzip(&request) };
        match path {
            "/metrics" => self.figures(CONTENT_TYPE, asked, answering, |snapshot, out| snapshot.expose(out)).await,
            "/api/processes" => {
                let control = self.control.is_some();
                let write = move |snapshot: &Snapshot, out: &mut dyn Write| {
                    // In pieces that are worth compressing.
                    let mut out = BufWriter::new(out);
                    serde_json::to_writer(&mut out, &snapshot.as_json(control))?;
                    out.write_all(b"\n")?;
                    out.flush()
                };
                self.figures(JSON_TYPE, asked, answering, write).await
            }
            "/api/level" => plain(self.level(request).await.unwrap_or_else(|refused| refused), answering),
            "/api/setting" => plain(self.setting(request).await.unwrap_or_else(|refused| refused), answering),
            _ => asset(path, answering),
        }
    }

    /// Whether the name that the client used is one of ours.
    fn is_for_us<B>(&self, request: &Request<B>, local: SocketAddr) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        // One in the request's line comes before the header's (RFC 9112, 3.2.2); of two headers neither is to be trusted.
        let named = request.uri().authority().map(|authority| authority.as_str());
        let host = named.or_else(|| hosts.next().and_then(|host| host.to_str().ok()));
        let only = named.is_some() || hosts.next().is_none();
        only && host.is_some_and(|host| host::is_allowed(host, local, &self.allowed_hosts))
    }

    /// An answer with figures, written by `write`.
    async fn figures(
        &self,
        content_type: &'static str,
        asked: Asked,
        answering: Answering,
        write: impl FnOnce(&Snapshot, &mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Response<AnswerBody> {
        if asked.head_only {
            return response(StatusCode::OK, content_type, AnswerBody::whole("", answering));
        }
        let permit = loop {
            let free = Arc::clone(&self.expositions).acquire_owned();
            match timeout(limits::EXPOSITION_PATIENCE, free).await {
                Ok(permit) => break permit.ok(),
                Err(_) => self.connections.end_slowest_exposition(),
            }
        };
        answering.expose();
        let snapshot = self.collect().await;
        let body = AnswerBody::written(move |out| write(&snapshot, out), asked.gzip, permit, answering);
        let mut response = response(StatusCode::OK, content_type, body);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if asked.gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// The figures of all processes, not older than the request. One look at a time; those who asked while one went on
    /// share the next.
    async fn collect(&self) -> Arc<Snapshot> {
        let asked = Instant::now();
        let mut collected = self.collected.lock().await;
        if let Some(snapshot) = collected.as_ref().filter(|snapshot| snapshot.began() >= asked) {
            return Arc::clone(snapshot);
        }
        // Freed before the next is made: it is most of what the agent holds.
        *collected = None;
        let agent = self.agent.clone();
        let snapshot = match tokio::task::spawn_blocking(move || Arc::new(agent.collect())).await {
            Ok(snapshot) => snapshot,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        *collected = Some(Arc::clone(&snapshot));
        snapshot
    }

    async fn level(&self, request: Request<Incoming>) -> Result<Plain, Plain> {
        let LevelRequest { process, level } = self.permitted(request, "{\"process\": ID, \"level\": NAME}").await?;
        let Some(level) = Level::ALL.into_iter().find(|known| known.name() == level) else {
            let names = Level::ALL.map(Level::name).join(", ");
            return Err(Plain::text(StatusCode::BAD_REQUEST, format!("no such level; there are {names}")));
        };
        let agent = self.agent.clone();
        let changed = tokio::task::spawn_blocking(move || agent.set_level(&process, level)).await;
        Ok(match changed {
            Ok(Ok(())) => Plain(StatusCode::OK, JSON_TYPE, format!("{{\"level\":\"{}\"}}\n", level.name())),
            Ok(Err(error @ LevelError::NoProcess)) => Plain::text(StatusCode::NOT_FOUND, error.to_string()),
            Ok(Err(error)) => Plain::text(StatusCode::CONFLICT, error.to_string()),
            Err(error) => Plain::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })
    }

    async fn setting(&self, request: Request<Incoming>) -> Result<Plain, Plain> {
        let form = "{\"process\": ID, \"setting\": \"NAME=VALUE\"}";
        let SettingRequest { process, setting } = self.permitted(request, form).await?;
        let change: Change =
            setting.parse().map_err(|error: BadChange| Plain::text(StatusCode::BAD_REQUEST, error.to_string()))?;
        let (agent, name) = (self.agent.clone(), change.setting.name());
        let changed = tokio::task::spawn_blocking(move || agent.set_setting(&process, &change)).await;
        Ok(match changed {
            Ok(Ok(value)) => {
                Plain(StatusCode::OK, JSON_TYPE, format!("{{\"setting\":\"{name}\",\"value\":{value}}}\n"))
            }
            Ok(Err(error)) => Plain::text(status_of(&error), error.to_string()),
            Err(error) => Plain::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })
    }

    /// What a request for control says, of one that shows the token; `form` is how it should look.
    async fn permitted<T: DeserializeOwned>(&self, request: Request<Incoming>, form: &str) -> Result<T, Plain> {
        let Some(token) = &self.control else {
            let text = "nothing can be changed: heapgate serve was started without --allow-control";
            return Err(Plain::text(StatusCode::FORBIDDEN, text));
        };
        match request.headers().get(TOKEN_HEADER) {
            Some(shown) if token.is(shown.as_bytes()) => {}
            Some(_) => return Err(Plain::text(StatusCode::FORBIDDEN, "the control token is wrong")),
            None => {
                let text = format!("the header {TOKEN_HEADER} must have the control token");
                return Err(Plain::text(StatusCode::FORBIDDEN, text));
            }
        }
        let too_long =
            || Plain::text(StatusCode::PAYLOAD_TOO_LARGE, format!("more than {} bytes", limits::MAX_BODY_BYTES));
        if request.body().size_hint().lower() > limits::MAX_BODY_BYTES as u64 {
            return Err(too_long());
        }
        let body = Limited::new(request.into_body(), limits::MAX_BODY_BYTES).collect();
        let body = match timeout(self.timeouts.body, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return Err(too_long()),
            Ok(Err(_)) => {
                return Err(Plain::text(StatusCode::BAD_REQUEST, "the request's body could not be read"));
            }
            Err(_) => return Err(Plain::text(StatusCode::REQUEST_TIMEOUT, "the request's body took too long")),
        };
        serde_json::from_slice(&body)
            .map_err(|error| Plain::text(StatusCode::BAD_REQUEST, format!("not {form}: {error}")))
    }
}

fn status_of(error: &SettingError) -> StatusCode {
    match error {
        SettingError::NoProcess | SettingError::Request(RequestError::Ended) => StatusCode::NOT_FOUND,
        SettingError::Path => StatusCode::FORBIDDEN,
        SettingError::Request(RequestError::Hangs(_) | RequestError::NoAnswer(_)) => StatusCode::GATEWAY_TIMEOUT,
        SettingError::Request(_) => StatusCode::CONFLICT,
    }
}

/// Whether the client can take gzip.
fn takes_gzip<B>(request: &Request<B>) -> bool {
    let encodings = request.headers().get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    encodings.flat_map(|value| value.split(',')).any(|encoding| {
        let mut parts = encoding.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.filter_map(|part| part.strip_prefix("q=")).any(|quality| quality.parse() == Ok(0.0));
        gzip && !refused
    })
}

/// A part of the live page.
fn asset(path: &str, answering: Answering) -> Response<AnswerBody> {
    let (content_type, content) = match path {
        "/page.css" => ("text/css; charset=utf-8", page::STYLE),
        "/page.js" => ("text/javascript; charset=utf-8", page::SCRIPT),
        _ => ("text/html; charset=utf-8", page::PAGE),
    };
    let mut response = response(StatusCode::OK, content_type, AnswerBody::whole(content, answering));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    response
}

fn plain(Plain(status, content_type, text): Plain, answering: Answering) -> Response<AnswerBody> {
    response(status, content_type, AnswerBody::whole(text, answering))
}

fn response(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        // Figures of now.
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // No other site may show or use what is here.
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
