//! Errors and the exit code each ends in: the one place that maps them.

use std::fmt;

use heapgate_core::baseline::{BaselineSaveError, LockError, NotABaseline, PruneError};
use heapgate_core::config::ConfigError;
use heapgate_core::document::LoadError;
use heapgate_core::exit;
use heapgate_core::files::WriteError;
use heapgate_core::report::file::SaveError;
use heapgate_core::report::merge::MergeError;
use heapgate_core::supervisor::SuperviseError;
use heapgate_store::objects::ObjectError;

/// An error and its exit code.
#[derive(Debug)]
pub struct Failure {
    pub error: anyhow::Error,
    pub code: u8,
}

impl Failure {
    /// The command line or something it names is wrong.
    pub fn usage(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { error: anyhow::Error::msg(message), code: exit::USAGE }
    }

    /// Something the run depends on failed.
    pub fn workload(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { error: anyhow::Error::msg(message), code: exit::WORKLOAD_FAILED }
    }

    /// A comparison that can't be made.
    pub fn inconclusive(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { error: anyhow::Error::msg(message), code: exit::INCONCLUSIVE }
    }

    /// heapgate or the system failed.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code: exit::INTERNAL }
    }
}

/// The error and its causes. Many messages hold their cause's words already, which are then not said again.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if said.is_empty() {
                said = cause;
            } else if !said.contains(&cause) {
                said = format!("{said}: {cause}");
            }
        }
        f.write_str(&said)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// A file that was named on the command line.
impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::usage(error)
    }
}

/// A report whose repetitions failed or disagree is a comparison that can't be made.
impl From<NotABaseline> for Failure {
    fn from(error: NotABaseline) -> Self {
        match error {
            NotABaseline::NotCompleted { .. } => Self::workload(error),
            NotABaseline::NoTrials { .. } | NotABaseline::Name { .. } => Self::usage(error),
            _ => Self::inconclusive(error),
        }
    }
}

/// Files that don't fit together; those of other machines or builds are right, and not comparable.
impl From<MergeError> for Failure {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::OtherMachine { .. } | MergeError::OtherBuild { .. } => Self::inconclusive(error),
            _ => Self::usage(error),
        }
    }
}

/// A URL that was named on the command line, or a store that can't be reached.
impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Url { .. } | ObjectError::Missing { .. } => Self::usage(error),
            _ => Self::internal(error),
        }
    }
}

impl From<SuperviseError> for Failure {
    fn from(error: SuperviseError) -> Self {
        Self::internal(error)
    }
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Self {
        Self::internal(error)
    }
}

impl From<BaselineSaveError> for Failure {
    fn from(error: BaselineSaveError) -> Self {
        Self::internal(error)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::internal(error)
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        Self::internal(error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::internal(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}
