//! What can go wrong, by what the caller does about it.

use std::fmt;

/// Why the simulator does not run, or stopped.
#[derive(Debug)]
pub enum Error {
    /// What was asked for makes no sense: change the options.
    Usage(String),
    /// It failed: what it did, and the cause.
    Failed {
        /// What it was doing, and where.
        what: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(crate) fn failed(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { what: what.into(), source: source.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Failed { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage(_) => None,
            Self::Failed { source, .. } => Some(source.as_ref()),
        }
    }
}

/// The simulator's results.
pub type Result<T> = std::result::Result<T, Error>;
