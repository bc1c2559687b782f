//! What can go wrong while a model becomes a relation.

use crate::{adapter::AdapterError, project::Relation};

/// A node that could not be materialized. The text stands under dbt's heading (`Database Error in model …`).
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error("`{key}`: {reason}")]
    Config { key: String, reason: String },
    #[error("there is no materialization `{name}`")]
    UnknownMaterialization { name: String },
    #[error("this contract does not hold:\n{difference}")]
    Contract { difference: String },
    #[error("the columns of {relation} and of its query differ, and `{key}` is `{value}`:\n{difference}")]
    SchemaChange { relation: Relation, key: &'static str, value: String, difference: String },
    #[error(
        "{relation} was made with {what} {live}, and the model now asks for {wanted}; that cannot be changed in place"
    )]
    NeedsRebuild { relation: Relation, what: &'static str, live: String, wanted: String },
    #[error("{relation} is a {found}, which `{materialization}` cannot replace")]
    WrongKind { relation: Relation, found: &'static str, materialization: &'static str },
    #[error("cannot read the seed `{}`: {reason}", path.display())]
    Seed { path: std::path::PathBuf, reason: String },
    #[error("{relation} is being built by invocation {invocation}")]
    Busy { relation: Relation, invocation: String },
    #[error("{0}")]
    Unsupported(String),
}

impl MaterializeError {
    /// A config key whose value cannot be used.
    pub fn config(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { key: key.into(), reason: reason.into() }
    }

    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Adapter(error) if error.is_interrupted())
    }

    /// dbt's heading: whose fault it is.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Adapter(AdapterError::Engine(_)) => "Database Error",
            Self::Contract { .. } | Self::Config { .. } | Self::UnknownMaterialization { .. } => "Compilation Error",
            _ => "Runtime Error",
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Adapter(error) => error.hint(),
            // Columns that are gone, and other types, are what that one does not follow.
            Self::SchemaChange { key, value, .. } if value == "append_new_columns" => {
                Some(format!("set `{key}` to `sync_all_columns`, or rebuild with --full-refresh"))
            }
            Self::SchemaChange { key, .. } => Some(format!(
                "set `{key}` to `append_new_columns` or `sync_all_columns`, or rebuild with --full-refresh"
            )),
            Self::UnknownMaterialization { .. } => Some(
                "there are view, table, incremental, ephemeral, materialized_view, dictionary, distributed_table, \
                 distributed_incremental, s3 and s3queue, and those of the project's `{% materialization %}` blocks"
                    .to_owned(),
            ),
            Self::NeedsRebuild { .. } => Some("rebuild it with --full-refresh, or take the change back".to_owned()),
            Self::Busy { .. } => Some("wait for that invocation, or end it".to_owned()),
            _ => None,
        }
    }
}
