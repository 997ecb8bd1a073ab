//! `heapgate serve`

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use heapgate_agent::{Agent, AgentSettings, RunError, Server, Settings, Timeouts, Token};
use heapgate_core::config::parse_time;
use heapgate_core::exit;

use super::Global;
use crate::fail::Failure;

/// Export every service on this machine to Prometheus, and show them on a live page
///
/// Finds the segments that services publish (`heapgate_alloc::publish("NAME")`, or HEAPGATE_PUBLISH=NAME in their
/// environment), adds what the kernel says of their processes, and serves
/// /metrics, the live page at /, the same as JSON at /api/processes, and /healthz. Ends on SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Serve {
    /// Where to listen; with port 0, on any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// A folder in which services publish; may be repeated [default: the user's own runtime folder]
    #[arg(long = "folder", value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Most processes to export; the rest are counted
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_processes: u32,
    /// How long the last state of an ended process is exported, before its file is removed
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    keep_dead: Duration,
    /// A folder of other programs' metrics, exported too: files *.prom, as of node_exporter's textfile collector
    #[arg(long, value_name = "DIR")]
    textfile_dir: Option<PathBuf>,
    /// TLS and passwords: a web configuration file, as Prometheus's exporters have it
    #[arg(long, value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// A name, beside loopback's and the address, under which the live page answers; may be repeated
    #[arg(long = "allowed-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Let whoever has the control token change the level and the settings of processes
    #[arg(long, requires = "control_token_file")]
    allow_control: bool,
    /// The control token: a file that only its owner may read
    #[arg(long, value_name = "FILE", requires = "allow_control")]
    control_token_file: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  heapgate serve                                       http://127.0.0.1:9464/ for this user's services
  heapgate serve --folder /run/heapgate --listen 0.0.0.0:9464 --web-config web.yml
  heapgate serve --allow-control --control-token-file token
  curl -H \"x-heapgate-token: $(cat token)\" -d '{\"process\": \"ID\", \"level\": \"exact\"}' \\
    http://127.0.0.1:9464/api/level                    ID as in /api/processes";

fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).map_err(|error| error.to_string())
}

impl Serve {
    pub fn execute(self, _global: &Global) -> Result<u8, Failure> {
        // Later it may come and go; a name that is wrong from the beginning is a mistake.
        if let Some(folder) = self.textfile_dir.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(Failure::usage(format!("--textfile-dir {} is no folder", folder.display())));
        }
        let control = self.control_token_file.as_deref().map(Token::read).transpose().map_err(Failure::usage)?;
        let agent = Agent::new(AgentSettings {
            folders: self.folders,
            max_processes: self.max_processes as usize,
            keep_dead: self.keep_dead,
            textfiles: self.textfile_dir,
        })
        .map_err(Failure::usage)?;
        let settings = Settings {
            listen: self.listen,
            web_config: self.web_config,
            allowed_hosts: self.allowed_hosts,
            control,
            timeouts: Timeouts::default(),
        };
        let note = Arc::new(|text: &str| eprintln!("heapgate: {text}"));
        heapgate_agent::run(settings, agent, note, ready).map_err(|error| match error {
            RunError::Server(error) => Failure::usage(error),
            RunError::Io(error) => Failure::internal(error),
        })?;
        Ok(exit::PASS)
    }
}

/// Says where, for people and for scripts that asked for any port.
fn ready(server: &Server) {
    let scheme = if server.speaks_tls() { "https" } else { "http" };
    let mut out = std::io::stdout().lock();
    // Nobody reads it: the server is there all the same.
    let _ = writeln!(out, "listening on {scheme}://{}/", server.address()).and_then(|()| out.flush());
}
