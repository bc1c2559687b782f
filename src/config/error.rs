//! What can be wrong with settings.

use std::path::PathBuf;

use crate::error::Location;

/// A setting, or a file of settings, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("there is no folder `{}`", path.display())]
    NoProjectDir { path: PathBuf },
    #[error("`{}` is not valid: {reason}", path.display())]
    Dotenv { path: PathBuf, reason: String },
    #[error("chpipe.toml is not valid: {reason}")]
    File { reason: String, location: Location },
    #[error("the value of {name} is not valid: {reason}")]
    Variable { name: &'static str, reason: String },
    #[error("--vars is not valid YAML: {reason}")]
    Vars { reason: String },
    #[error("Runtime Error\n  {reason}")]
    Profile { reason: String, location: Option<Location>, hint: Option<String> },
}

impl ConfigError {
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::File { location, .. } => Some(location.clone()),
            Self::Profile { location, .. } => location.clone(),
            Self::Dotenv { path, .. } => Some(Location::file(path)),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProjectDir { .. } => {
                Some("give the folder of dbt_project.yml or chpipe.toml to --project-dir".into())
            }
            Self::File { .. } => Some("docs/reference.toml lists every key with its default".into()),
            Self::Vars { .. } => Some("write a mapping: --vars '{season: 2024}'".into()),
            Self::Profile { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}
