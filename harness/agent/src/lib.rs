//! heapgate-agent: what `heapgate serve` runs, one for a machine. It finds the segments that services publish, adds what
//! the kernel says of their processes, and exports all of it to Prometheus and to a live page.
//!
//! | module | what |
//! | --- | --- |
//! | [`agent`] | finding processes, and what is remembered from one look to the next |
//! | [`snapshot`] | the figures of all processes at one look: as an exposition, as JSON |
//! | [`pids`] | whose process id it is, seen from other containers |
//! | [`server`] | who may ask, and what is answered |
//! | [`web_config`] | TLS and passwords |
//! | [`page`] | the live page |
//!
//! What it reads was written by others: a file can be damaged, cut short while it is read, or belong to a process that
//! ended a moment ago. Such files are counted by reason (`heapgate_agent_errors_total`), and never end the agent.

pub mod agent;
pub mod page;
pub mod pids;
pub mod server;
pub mod snapshot;
pub mod textfile;
pub mod web_config;

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

pub use agent::{Agent, AgentSettings};
pub use server::{Note, Server, ServerError, Settings, Timeouts, Token};

/// Files of ended processes are removed even if nobody scrapes.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings can't be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT. `ready` is called when clients may connect.
///
/// # Errors
/// If it can't begin; once it has, nothing ends it but a signal.
pub fn run(settings: Settings, agent: Agent, note: Note, ready: impl FnOnce(&Server)) -> Result<(), RunError> {
    // One thread for all sockets; looks at processes and writing go on beside it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result: Result<(), RunError> = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let server = Server::bind(settings, agent.clone(), note).await?;
        ready(&server);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let agent = agent.clone();
                // A panic there has been printed, and the next time is another try.
                let _ = tokio::task::spawn_blocking(move || agent.sweep()).await;
            }
        });
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.serve(end).await;
        Ok(())
    });
    // A client that takes its time must not keep the agent alive.
    runtime.shutdown_background();
    result
}
