//! What can go wrong between chpipe and ClickHouse.

use std::path::PathBuf;

/// A failure of an engine or of a statement.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ClickHouse refused or failed the statement.
    #[error("Code {code}, {name}: {message} (query_id {query_id})")]
    Server { code: i32, name: String, message: String, query_id: String },
    #[error("libchdb is not installed")]
    LibraryMissing { searched: Vec<PathBuf> },
    #[error("cannot load `{}`: {reason}", path.display())]
    Library { path: PathBuf, reason: String },
    #[error("cannot open the warehouse `{}`: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    /// Another process has the embedded directory.
    #[error("the warehouse `{}` is in use by {holder}", path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("cannot reach ClickHouse at `{address}`: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("the {engine} engine does not support {feature}")]
    Unsupported { engine: &'static str, feature: String },
    #[error("cannot read ClickHouse's answer: {reason}")]
    Protocol { reason: String },
    #[error("cannot write the result")]
    Output { source: std::io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl EngineError {
    /// ClickHouse's error code, where the server answered with one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LibraryMissing { .. } => {
                Some("run `chpipe engine install`, or set CHPIPE_LIBCHDB to a libchdb.so you have".into())
            }
            Self::Locked { .. } => Some(
                "wait for it (`--lock-timeout SECONDS`), or let the first process be `chpipe serve`: others go through it".into(),
            ),
            _ => None,
        }
    }
}
