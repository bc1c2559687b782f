//! What can go wrong while objects are loaded.

use crate::{ddl::DdlError, engine::EngineError, migrate::MigrateError};

/// A load that cannot begin, or that stopped. An object that alone cannot be loaded is no error: it is reported.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Ddl(#[from] DdlError),
    #[error("`{table}` does not exist")]
    NoTable { table: String },
    #[error("there is no queue `{table}`")]
    NoQueue { table: String },
    #[error("`{table}` has no column `{column}`, which files of `{dataset}` have")]
    NoColumn { table: String, column: String, dataset: String },
    #[error("no object of Silver matches `{key}`")]
    NoObject { key: String },
    #[error("there is no dataset `{name}`")]
    NoDataset { name: String },
    #[error("load mode `{mode}` is not known")]
    Mode { mode: String },
    #[error("queue mode needs a ZooKeeper or Keeper, and this warehouse has none")]
    NoKeeper,
    #[error("cannot ask the Keeper at `{address}`")]
    Keeper { address: String, source: std::io::Error },
    #[error("the queue `{table}` is not made for the files of `{dataset}` as they are now")]
    OldQueue { table: String, dataset: String },
    #[error("column `{column}` of `{table}` is {kind} and cannot hold the {found} of `{dataset}`'s files")]
    NarrowColumn { table: String, column: String, kind: String, found: String, dataset: String },
    #[error("interrupted; the next `chpipe load` goes on")]
    Interrupted,
}

impl LoadError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Migrate(error) => error.hint(),
            Self::Ddl(error) => error.hint(),
            Self::NoTable { .. } | Self::NoColumn { .. } | Self::NarrowColumn { .. } => {
                Some("run `chpipe migrate` first".into())
            }
            Self::OldQueue { .. } => Some("run `chpipe migrate --queue` first".into()),
            Self::NoQueue { .. } => Some("make the queues with `chpipe migrate --queue`".into()),
            Self::NoObject { .. } => Some("`chpipe load status` lists the objects".into()),
            Self::Mode { .. } => Some("use `batch` or `queue`".into()),
            Self::NoKeeper => Some("name one: CHPIPE_ZOOKEEPER=host:2181, or `zookeeper` in [engine] of chpipe.toml (on a server, also give the user SELECT on system.zookeeper); or load with `--mode batch`".into()),
            _ => None,
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Migrate(error) => error.exit_code(),
            _ => 2,
        }
    }
}
