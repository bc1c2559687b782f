//! What can go wrong between a plan and a migrated warehouse.

use std::path::PathBuf;

use crate::{
    ddl::DdlError,
    engine::EngineError,
    error::Location,
    lake::LakeError,
    schema::{CreateTextError, FooterError},
};

/// A plan that cannot be made, or a migration that stopped.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Ddl(#[from] DdlError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error(transparent)]
    CreateText(#[from] CreateTextError),
    #[error("cannot read the footer of `{bucket}/{key}`")]
    Footer { bucket: String, key: String, source: FooterError },
    #[error("ClickHouse does not take what the spec or template of `{object}` says")]
    Invalid { object: String, sql: String, source: EngineError, location: Option<Location> },
    #[error("migration {migration} stopped at statement {step} of {steps}, on `{object}`")]
    Statement { migration: String, step: usize, steps: usize, object: String, sql: String, source: EngineError },
    #[error("`{object}` would lose data: {reason}")]
    Destructive { object: String, reason: String },
    #[error("`{object}` cannot be changed safely: {reason}")]
    Unsafe { object: String, reason: String, hint: Option<String> },
    #[error("another migration is running: {holder}")]
    Locked { holder: String, waited: u64 },
    #[error("the lock of this migration was taken by {holder}")]
    LockLost { holder: String },
    #[error("migration {version} changed after it was applied")]
    Changed { version: String, path: PathBuf, recorded: String, found: String },
    #[error("two migrations have the version {version}")]
    DuplicateVersion { version: String, first: PathBuf, second: PathBuf },
    #[error("`{}` is not a migration file: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("the plan in `{}` is not of this warehouse any more: {reason}", path.display())]
    StalePlan { path: PathBuf, reason: String },
    #[error("`{}` is not a plan: {reason}", path.display())]
    Plan { path: PathBuf, reason: String },
    #[error("cannot read or write `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the rebuilt `{object}` differs from the old table in partition {partition}: {old} before, {new} after")]
    Verification { object: String, partition: String, old: String, new: String },
    #[error("there is nothing to undo: {reason}")]
    NothingToUndo { reason: String },
    #[error("after the migration `{object}` is still not as wanted: {difference}")]
    Drift { object: String, difference: String },
    #[error("interrupted between two statements; the next `chpipe migrate` goes on")]
    Interrupted,
}

impl MigrateError {
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Ddl(error) => error.location(),
            Self::Changed { path, .. }
            | Self::File { path, .. }
            | Self::StalePlan { path, .. }
            | Self::Plan { path, .. } => Some(Location::file(path)),
            Self::Invalid { location, .. } => location.clone(),
            Self::DuplicateVersion { second, .. } => Some(Location::file(second)),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ddl(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Lake(error) => error.hint(),
            Self::Invalid { sql, .. } => Some(format!("the statement was:\n{sql}")),
            Self::Statement { sql, source, .. } => Some(match source.code() {
                // Authentication or network: the statement says nothing.
                Some(516 | 210 | 209) | None => "run `chpipe migrate` again: it goes on where it stopped".to_owned(),
                Some(_) => format!(
                    "the statement was:\n{sql}\nmend the cause and run `chpipe migrate` again: it goes on where it stopped"
                ),
            }),
            Self::Destructive { object, .. } => {
                Some(format!("if that is meant, name the object: `chpipe migrate --allow-destructive={object}`"))
            }
            Self::Unsafe { hint, .. } => hint.clone(),
            Self::Locked { .. } => Some(
                "wait for it with `--lock-timeout SECONDS`; a dead holder's lock is taken over when its lease ends"
                    .into(),
            ),
            Self::Changed { version, recorded, found, .. } => Some(format!(
                "restore the file (checksum {recorded}, now {found}) and put the change in a new one after {version}"
            )),
            Self::StalePlan { .. } => Some("make a new plan: `chpipe migrate --dry-run --out plan.json`".into()),
            Self::Footer { key, .. } => Some(format!("remove or rewrite `{key}`, then run again")),
            Self::Verification { .. } => Some(
                "the live table was not touched; the copy is dropped by the next `chpipe migrate`, which starts over"
                    .into(),
            ),
            _ => None,
        }
    }

    /// 1 where a migration failed, 2 where none could be tried.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Statement { .. }
            | Self::Verification { .. }
            | Self::Drift { .. }
            | Self::Destructive { .. }
            | Self::Unsafe { .. } => 1,
            Self::Interrupted => 130,
            _ => 2,
        }
    }
}
