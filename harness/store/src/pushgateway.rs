//! Pushing a run's figures to a Prometheus Pushgateway, from which a Prometheus takes them: a run is over before anything
//! could scrape it.
//!
//! The figures replace those of the group they are pushed to (PUT). The protocol: prometheus/pushgateway, `README.md`,
//! "API". A gateway that is away, busy or slow is asked again, for a bounded time; what it refuses is not.

use std::error::Error;
use std::time::Duration;
use std::{fmt, io};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::runtime::Builder;

use crate::objects::redacted;

/// How long one request may take: a gateway on the same network takes milliseconds, and a job must end.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a gateway is asked. With the waits between them, a gateway that refuses connections costs a job 3.5 s, one that
/// hangs 44 s.
const TRIES: u32 = 4;
/// The first wait is this part of the time-out, and each is twice the one before.
const WAIT_PART: u32 = 20;
/// As much of a refusal as is shown: the gateway's reason is in its first line.
const MOST_SAID: usize = 300;
/// The form of what is pushed.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why figures were not pushed. No message holds a user's name or password.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The URL is not that of a gateway.
    #[error("{url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A label that can't be one of a group.
    #[error("'{label}': {reason}")]
    Label {
        /// Its name.
        label: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It answered, and does not want this.
    #[error("{url} refused it with {status}{said}; {}", advice(*status))]
    Refused {
        /// The gateway.
        url: String,
        /// With which status.
        status: StatusCode,
        /// What it said, after a colon; empty where nothing.
        said: String,
    },
    /// Who answers there can't show that it is the gateway.
    #[error(
        "{url} shows a certificate that is not trusted here ({reason}), and was sent nothing; one of an authority of your \
         own is trusted if SSL_CERT_FILE names a PEM file with the authority's certificate"
    )]
    Untrusted {
        /// The gateway.
        url: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// It did not take it, however often it was asked.
    #[error("{url} {reason}, {TRIES} times; is a Pushgateway running there, and can it be reached from here?")]
    Away {
        /// The gateway.
        url: String,
        /// What happened the last time.
        reason: String,
    },
    /// Nothing could be sent: no event loop, or no certificates to trust.
    #[error("cannot start what talks to {url}: {reason}")]
    Start {
        /// The gateway.
        url: String,
        /// What was missing.
        reason: String,
    },
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "give HEAPGATE_PUSH_USER and HEAPGATE_PUSH_PASSWORD, or check them",
        404 | 405 => "is that a Pushgateway? Give its own address, without /metrics",
        300..=399 => "give the address that it names",
        413 => "run fewer cells in one push, or let the proxy before it take more",
        _ => "another program may have pushed to this group; see --push-job and --push-grouping",
    }
}

/// Who pushes.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A gateway, the job that is pushed, and how it is reached.
pub struct Pushgateway {
    shown: String,
    url: Url,
    credentials: Option<Credentials>,
    job: String,
    timeout: Duration,
}

/// Without what is secret.
impl fmt::Debug for Pushgateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushgateway").field("url", &self.shown).field("job", &self.job).finish_non_exhaustive()
    }
}

impl Pushgateway {
    /// The gateway at `url`. Nothing is asked of it yet. Credentials in the URL go before `credentials`.
    ///
    /// # Errors
    /// If `url` can't be that of a gateway, or `job` is empty.
    pub fn new(url: &str, job: &str, credentials: Option<Credentials>, timeout: Duration) -> Result<Self, PushError> {
        let shown = redacted(url);
        let refuse = |reason: &str| PushError::Url { url: shown.clone(), reason: reason.to_owned() };
        // `localhost:9091` is, by the letter, a URL of the scheme `localhost`.
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(refuse(
                "a Pushgateway's URL begins with http:// or https://, for instance http://localhost:9091",
            ));
        }
        let parsed = Url::parse(url).map_err(|error| refuse(&error.to_string()))?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(refuse("leave out what follows '?' or '#'"));
        }
        let path = parsed.path().trim_end_matches('/');
        if path.ends_with("/metrics") || path.contains("/metrics/") {
            return Err(refuse("give the Pushgateway's own address; /metrics/job/… is added"));
        }
        if job.is_empty() {
            return Err(PushError::Label { label: "job".to_owned(), reason: "a job needs a name".to_owned() });
        }
        let credentials = credentials.filter(|_| parsed.username().is_empty() && parsed.password().is_none());
        Ok(Self { shown, url: parsed, credentials, job: job.to_owned(), timeout })
    }

    /// Its URL, without anything that should not be shown.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Puts `text`, in Prometheus's text format, in the place of what the group of this job and these labels had.
    ///
    /// # Errors
    /// If the gateway can't be reached in some tries, or refuses.
    pub fn put(&self, labels: &[(String, String)], text: String) -> Result<(), PushError> {
        let start = |reason: String| PushError::Start { url: self.shown.clone(), reason };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| start(error.to_string()))?;
        let client = self.client().map_err(|error| start(causes(&error)))?;
        let url = self.group(labels);
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(self.timeout / WAIT_PART * 2u32.pow(attempt - 1));
            }
            match runtime.block_on(self.attempt(&client, url.clone(), text.clone())) {
                Attempt::Taken => return Ok(()),
                Attempt::Refused { status, said } => {
                    return Err(PushError::Refused { url: self.shown.clone(), status, said });
                }
                Attempt::Untrusted(reason) => return Err(PushError::Untrusted { url: self.shown.clone(), reason }),
                Attempt::Again(reason) => last = reason,
            }
        }
        Err(PushError::Away { url: self.shown.clone(), reason: last })
    }

    fn client(&self) -> Result<Client, reqwest::Error> {
        // reqwest is built without a provider of its own. An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Elsewhere credentials would follow, and a PUT may become a GET.
        let builder = Client::builder().timeout(self.timeout).redirect(redirect::Policy::none()).user_agent("heapgate");
        // Without TLS no certificates are needed: small images have none.
        if self.url.scheme() == "http" { builder.tls_certs_only([]).build() } else { builder.build() }
    }

    async fn attempt(&self, client: &Client, url: Url, text: String) -> Attempt {
        let request = client.put(url).header(CONTENT_TYPE, FORMAT).body(text);
        let request = match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => {
                return Attempt::Again(format!("did not answer within {:?}", self.timeout));
            }
            Err(error) => {
                let reason = causes(&error);
                return match is_certificate(&error) {
                    true => Attempt::Untrusted(reason),
                    false => Attempt::Again(format!("can't be reached ({reason})")),
                };
            }
        };
        let status = response.status();
        match status {
            _ if status.is_success() => Attempt::Taken,
            _ if status.is_server_error() => Attempt::Again(format!("answered {status}{}", said(response).await)),
            _ => Attempt::Refused { status, said: said(response).await },
        }
    }

    /// The URL of the group with `labels`: `/metrics/job/NAME/label/value/…`, sorted, so that a group has one URL in
    /// logs.
    fn group(&self, labels: &[(String, String)]) -> Url {
        let mut labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        labels.sort_unstable();
        let mut url = self.url.clone();
        let mut path = url.path().trim_end_matches('/').to_owned();
        path.push_str("/metrics");
        for (name, value) in std::iter::once(("job", &*self.job)).chain(labels) {
            path.push_str(&segments(name, value));
        }
        url.set_path(&path);
        url
    }
}

/// Whether `label` may be a label of a group that is given by a user; `taken` are those that a group's series tell
/// themselves apart by.
///
/// # Errors
/// Says why not.
pub fn check_label(label: &str, value: &str, taken: &[&str]) -> Result<(), PushError> {
    let refuse = |reason: &str| PushError::Label { label: label.to_owned(), reason: reason.to_owned() };
    let well_formed = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && label.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    match label {
        _ if !well_formed => Err(refuse("a label's name has letters, digits and '_', and doesn't begin with a digit")),
        _ if label.starts_with("__") => Err(refuse("labels that begin with '__' are Prometheus's own")),
        "job" => Err(refuse("that is --push-job")),
        _ if taken.contains(&label) => Err(refuse("by this label the figures of one run are told apart")),
        _ if value.is_empty() => Err(refuse("it has no value")),
        _ => Ok(()),
    }
}

/// What became of one request.
enum Attempt {
    Taken,
    Refused { status: StatusCode, said: String },
    Untrusted(String),
    Again(String),
}

/// One label in the path. Whatever could be taken for a part of the path is written in base64, as the gateway allows.
fn segments(name: &str, value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    if value.bytes().all(plain) && !value.bytes().all(|b| b == b'.') {
        return format!("/{name}/{value}");
    }
    format!("/{name}@base64/{}", URL_SAFE_NO_PAD.encode(value))
}

/// The beginning of what an answer says, after a colon and on one line, or where it leads.
async fn said(mut response: Response) -> String {
    let mut text: Vec<u8> = match response.headers().get(LOCATION) {
        Some(place) => redacted(&String::from_utf8_lossy(place.as_bytes())).into_bytes(),
        None => Vec::new(),
    };
    while text.len() < MOST_SAID
        && let Ok(Some(chunk)) = response.chunk().await
    {
        text.extend_from_slice(&chunk);
    }
    text.truncate(MOST_SAID);
    let line = String::from_utf8_lossy(&text).replace(|c: char| c.is_control(), " ");
    let line = line.trim();
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// An error and its causes; the outermost one only says that there was one.
fn causes(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether an error, or what it comes from, is that the server's certificate is not one to trust. Asking again would not
/// help.
fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_));
    }
    // An error of input and output does not count the one that it holds among its sources.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.is_some_and(|held| is_certificate(held)) || error.source().is_some_and(is_certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(url: &str) -> Result<Pushgateway, PushError> {
        Pushgateway::new(url, "heapgate", None, TIMEOUT)
    }

    fn labels(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_group_has_one_url_whatever_is_in_its_labels() {
        let gateway = gateway("http://host:9091/prefix/").unwrap();
        let url = gateway.group(&labels(&[("machine_class", "x86_64-2c"), ("branch", "fix/ü"), ("dots", "..")]));
        assert_eq!(
            url.as_str(),
            "http://host:9091/prefix/metrics/job/heapgate/branch@base64/Zml4L8O8/dots@base64/Li4/machine_class/x86_64-2c"
        );
    }

    #[test]
    fn what_is_no_gateway_is_refused_with_the_reason() {
        for (url, reason) in [
            ("localhost:9091", "begins with http://"),
            ("host", "begins with http://"),
            ("ftp://host", "begins with http://"),
            ("http://host:9091/metrics", "own address"),
            ("http://host/metrics/job/x", "own address"),
            ("http://host/?a=b", "leave out"),
            ("http://", "http:"),
        ] {
            let error = gateway(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
        assert!(Pushgateway::new("http://host", "", None, TIMEOUT).is_err());
    }

    #[test]
    fn nothing_that_is_shown_holds_a_password() {
        let good = gateway("https://ada:SECRET@host/").unwrap();
        assert_eq!(good.url(), "https://host/");
        assert!(!format!("{good:?}").contains("SECRET") && !format!("{good:?}").contains("ada"));
        for url in ["https://ada:SECRET@host/metrics", "ftp://ada:SECRET@host", "https://ada:SECRET@:x/"] {
            let error = gateway(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        }
    }

    #[test]
    fn labels_that_would_break_a_group_are_refused() {
        let taken = ["workload"];
        check_label("suite", "a/b", &taken).unwrap();
        for (label, value) in
            [("", "x"), ("1a", "x"), ("a-b", "x"), ("__a", "x"), ("job", "x"), ("workload", "x"), ("suite", "")]
        {
            assert!(check_label(label, value, &taken).is_err(), "{label}={value}");
        }
    }
}
