//! How much one client, or all of them, may take. A scrape must get through whatever the others do.

use std::time::Duration;

/// Connections at one time. One more pushes out the one that has been idle longest, so a thousand idle clients cost a
/// hundred descriptors, and never keep a scrape out.
pub const MAX_CONNECTIONS: usize = 128;

/// Answers with figures that are written at one time. Each holds the figures that it writes (some MiB with a thousand
/// processes).
pub const MAX_EXPOSITIONS: usize = 8;

/// How long a further one waits for one of them to end before the one that has taken longest is cut off.
pub const EXPOSITION_PATIENCE: Duration = Duration::from_secs(1);

/// A request's line and headers; browsers with many cookies of other programs on the same host send some KiB.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Headers of a request; browsers send about 20.
pub const MAX_HEADERS: usize = 64;

/// What a connection buffers of a request or of its answer.
pub const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// The body of a request: a process and a level.
pub const MAX_BODY_BYTES: usize = 4 * 1024;

/// From the first byte of a request (or from the end of the last answer) to the end of its headers. Above the minute at
/// which many are scraped, so that their connection stays; one that is wanted for others is taken sooner.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// For the body of a request.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// For the TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the end of a request's headers to the last byte of the answer: Prometheus gives up after 10 s by default.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Passwords that wait to be checked. Each takes a tenth of a second of one CPU; those that were right before don't wait.
pub const MAX_WAITING_PASSWORDS: usize = 16;

/// After an error of accept, as when no descriptor is left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take over each part. The defaults are those above; a test that waits for them would take minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// See [`HEADER_TIMEOUT`].
    pub header: Duration,
    /// See [`BODY_TIMEOUT`].
    pub body: Duration,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// See [`ANSWER_TIMEOUT`].
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { header: HEADER_TIMEOUT, body: BODY_TIMEOUT, handshake: HANDSHAKE_TIMEOUT, answer: ANSWER_TIMEOUT }
    }
}
