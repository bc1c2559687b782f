//! What can go wrong between a node and the warehouse.

use crate::engine::EngineError;

/// A statement of a node that failed, or one that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The engine refused or failed the statement; the statement itself is in `target/run`.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the template `{name}` cannot be rendered: {reason}")]
    Template { name: String, reason: String },
    #[error("cannot read the template `{}`", path.display())]
    TemplateFile { path: std::path::PathBuf, source: std::io::Error },
    /// ClickHouse answered, but not with what was asked for.
    #[error("unexpected answer to a question about {about}: {reason}")]
    Answer { about: String, reason: String },
}

impl AdapterError {
    /// ClickHouse's error code, where the server answered with one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Engine(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the user ended it.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Engine(EngineError::Interrupted))
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Template { name, .. } => {
                Some(format!("`ddl/templates/{name}` of the project overrides the built-in one; compare them"))
            }
            _ => None,
        }
    }
}
