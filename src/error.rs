//! The one error type that commands return: it wraps each module's own and answers where, what to do and which exit
//! code. Only [`crate::diagnostic`] turns it into text.

use std::path::PathBuf;

use crate::{
    adapter::AdapterError, config::ConfigError, engine::EngineError, extract::ExtractError, lake::LakeError,
    load::LoadError, migrate::MigrateError, observe::PublishError, project::ProjectError, render::RenderError,
    serve::ServeError, simulate::SimulateError, snapshot::SnapshotError, transform::TransformError,
};

/// Any failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// An error that several nodes have in common.
    #[error(transparent)]
    SharedProject(std::sync::Arc<ProjectError>),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Transform(#[from] TransformError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    #[error("cannot read or write `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{argument} is not valid: {reason}")]
    Argument { argument: &'static str, reason: String },
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("interrupted")]
    Interrupted,
}

/// A place in a file of the user's. Lines and columns count from 1; an unknown one is `None`, never 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub path: PathBuf,
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// The text of that line, shown with a caret below it.
    pub source_line: Option<String>,
    /// How many characters the caret underlines.
    pub width: usize,
}

impl Location {
    /// A file whose line is not known.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), line: None, column: None, source_line: None, width: 1 }
    }

    /// A line of a file.
    pub fn line(path: impl Into<PathBuf>, line: usize, column: Option<usize>) -> Self {
        Self { line: Some(line), column, ..Self::file(path) }
    }
}

impl Error {
    /// Where in the user's files the cause stands.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Config(error) => error.location(),
            Self::Project(error) => error.location(),
            Self::SharedProject(error) => error.location(),
            Self::Render(error) => error.location().cloned(),
            Self::Extract(error) => error.location(),
            Self::Migrate(error) => error.location(),
            _ => None,
        }
    }

    /// What the user can do, ideally a line to paste.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Lake(error) => error.hint(),
            Self::Adapter(error) => error.hint(),
            Self::Snapshot(error) => error.hint(),
            Self::Project(error) => error.hint(),
            Self::SharedProject(error) => error.hint(),
            Self::Publish(error) => error.hint(),
            Self::Extract(error) => error.hint(),
            Self::Migrate(error) => error.hint(),
            Self::Load(error) => error.hint(),
            Self::Transform(error) => error.hint(),
            Self::Serve(error) => error.hint(),
            Self::Simulate(error) => error.hint(),
            _ => None,
        }
    }

    /// 1: a model, test or migration failed; 2: chpipe could not do its work; 130: interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted
            | Self::Engine(EngineError::Interrupted)
            | Self::Extract(ExtractError::Interrupted { .. })
            | Self::Transform(TransformError::Interrupted { .. }) => 130,
            Self::Transform(TransformError::Failed { .. }) => 1,
            Self::Migrate(error) => error.exit_code(),
            Self::Load(error) => error.exit_code(),
            _ => 2,
        }
    }
}
