//! `--textfile FILE` and `--push URL`: a run's figures for Prometheus.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use heapgate_core::export::{self, Origin, SERIES_LABELS};
use heapgate_core::files::{self, WriteError};
use heapgate_core::gate::Verdict;
use heapgate_core::report::Report;
use heapgate_store::pushgateway::{self, Credentials, PushError, Pushgateway};

use crate::branch;
use crate::fail::Failure;

/// Who pushes, where the gateway's URL doesn't say: a URL is seen by all who list processes.
const USER: &str = "HEAPGATE_PUSH_USER";
const PASSWORD: &str = "HEAPGATE_PUSH_PASSWORD";
/// What node_exporter's collector reads.
const EXTENSION: &str = "prom";

/// Flags of verbs that measure.
#[derive(Debug, Args)]
pub struct Figures {
    /// Also write the figures for node_exporter's textfile collector, into a file that ends in .prom
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    /// Also push the figures to a Prometheus Pushgateway, for instance http://localhost:9091 (with HEAPGATE_PUSH_USER
    /// and HEAPGATE_PUSH_PASSWORD, where it asks for them; with https:// SSL_CERT_FILE can name the certificate of an
    /// authority of your own); if that fails the run counts all the same
    #[arg(long, value_name = "URL")]
    push: Option<String>,
    /// Name of the job that is pushed
    #[arg(long, value_name = "NAME", default_value = "heapgate", requires = "push")]
    push_job: String,
    /// One more label of the group whose figures are replaced, beside verb, machine_class, matrix and branch; may be
    /// given more than once
    #[arg(long, value_name = "LABEL=VALUE", requires = "push")]
    push_grouping: Vec<Label>,
    /// How long one request may take, in seconds
    #[arg(long, value_name = "SECONDS", hide = true, requires = "push", value_parser = seconds)]
    push_timeout: Option<Duration>,
}

/// A label of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    name: String,
    value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once('=').ok_or("expected LABEL=VALUE, for instance suite=nightly".to_owned())?;
        pushgateway::check_label(name, value, SERIES_LABELS).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("a time-out is more than 0 s".to_owned()),
    }
}

/// Where figures go, found to be possible before anything was measured.
#[derive(Debug)]
pub struct Destinations {
    verb: &'static str,
    textfile: Option<PathBuf>,
    gateway: Option<Pushgateway>,
    labels: Vec<Label>,
}

/// What is to be said of a run, and whether it is a true one.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    pub report: &'a Report,
    /// What was decided, if it was asked.
    pub verdict: Option<&'a Verdict>,
    /// Whether a regression was planted in it.
    pub planted: bool,
}

impl Figures {
    /// Finds out before a run of minutes whether its figures could be written, and what they are pushed to.
    ///
    /// # Errors
    /// For what is no Pushgateway's URL, or a file that can't be written.
    pub fn destinations(&self, verb: &'static str) -> Result<Destinations, Failure> {
        if let Some(file) = &self.textfile {
            files::check_writable(file)?;
            if file.extension().is_none_or(|end| end != EXTENSION) && files::is_file_or_absent(file) {
                eprintln!(
                    "heapgate: warning: node_exporter reads only files that end in .prom, not {}",
                    file.display()
                );
            }
        }
        let gateway = self.push.as_deref().map(|url| self.gateway(url)).transpose()?;
        Ok(Destinations { verb, textfile: self.textfile.clone(), gateway, labels: self.push_grouping.clone() })
    }

    fn gateway(&self, url: &str) -> Result<Pushgateway, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credentials = match (variable(USER), variable(PASSWORD)) {
            (Some(user), password) => Some(Credentials { user, password: password.unwrap_or_default() }),
            (None, Some(_)) => return Err(Failure::usage(format!("--push: {PASSWORD} is set, but not {USER}"))),
            (None, None) => None,
        };
        let timeout = self.push_timeout.unwrap_or(pushgateway::TIMEOUT);
        Pushgateway::new(url, &self.push_job, credentials, timeout).map_err(|error| match error {
            PushError::Label { label, reason } => Failure::usage(format!("--push-{label}: {reason}")),
            error => Failure::usage(format!("--push {error}")),
        })
    }
}

impl Destinations {
    /// Writes the textfile, whole or not at all.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, measured: Measured<'_>) -> Result<(), WriteError> {
        let Some(file) = &self.textfile else { return Ok(()) };
        if measured.is_told("written to", &file.display().to_string()) {
            files::atomic_write_readable(file, self.text(measured).as_bytes())?;
        }
        Ok(())
    }

    /// Pushes, for some seconds if need be. A gateway that doesn't take the figures is told on standard error, and
    /// changes nothing.
    pub fn push(&self, measured: Measured<'_>) {
        let Some(gateway) = &self.gateway else { return };
        if !measured.is_told("pushed to", gateway.url()) {
            return;
        }
        let branch = branch::of(&measured.report.fingerprint.build.commit);
        let mut labels: Vec<(String, String)> = export::grouping(measured.report, self.origin(branch.as_deref()))
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for Label { name, value } in &self.labels {
            labels.retain(|(other, _)| other != name);
            labels.push((name.clone(), value.clone()));
        }
        match gateway.put(&labels, self.text(measured)) {
            Ok(()) => eprintln!("pushed: {}", gateway.url()),
            Err(error) => {
                eprintln!("heapgate: warning: the figures were not pushed: {error}");
                let later = match self.verb {
                    "gate" => "; `heapgate gate --report FILE --push URL` pushes those of a report",
                    _ => "",
                };
                eprintln!("heapgate: warning: nothing else depends on that{later}");
            }
        }
    }

    fn text(&self, measured: Measured<'_>) -> String {
        let branch = branch::of(&measured.report.fingerprint.build.commit);
        export::prometheus(measured.report, measured.verdict, self.origin(branch.as_deref()))
    }

    fn origin<'a>(&self, branch: Option<&'a str>) -> Origin<'a> {
        Origin { verb: self.verb, branch }
    }
}

impl Measured<'_> {
    /// Whether dashboards should hear of it; if not, says why.
    fn is_told(self, done: &str, place: &str) -> bool {
        let why = if self.planted {
            "a regression was planted in this run"
        } else if !self.report.complete {
            "the run did not end"
        } else {
            return true;
        };
        eprintln!("heapgate: {why}, so nothing was {done} {place}");
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_of_the_group_is_a_name_and_a_value() {
        let parsed: Label = "suite=a=b/c".parse().unwrap();
        assert_eq!(parsed, Label { name: "suite".into(), value: "a=b/c".into() });
        for (text, words) in
            [("suite", "LABEL=VALUE"), ("suite=", "no value"), ("workload=x", "told apart"), ("job=x", "--push-job")]
        {
            let error = text.parse::<Label>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_timeout_is_a_time() {
        assert_eq!(seconds("0.25").unwrap(), Duration::from_millis(250));
        for text in ["0", "-1", "inf", "nan", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
