//! What can go wrong with a snapshot.

use crate::{adapter::AdapterError, materialize::MaterializeError, project::Relation};

/// A snapshot that could not be taken. Unless the text says otherwise, its table is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Materialize(#[from] MaterializeError),
    #[error("`{key}`: {reason}")]
    Config { key: String, reason: String },
    /// Two source rows with one key: there is no telling which is the current one.
    #[error("the source has more than one row for a key; nothing was written:\n{sample}")]
    DuplicateKeys { sample: String },
    #[error("{relation} is not a table but a {found}")]
    NotATable { relation: Relation, found: String },
    #[error("{relation} has no column `{column}`, so it is no snapshot with these column names")]
    NotASnapshot { relation: Relation, column: String },
    #[error("column `{column}` was {live} and is now {wanted}; {reason}")]
    Retyped { column: String, live: String, wanted: String, reason: String },
    #[error("{relation} is being changed by {}", holder.as_deref().map_or_else(|| "another invocation".to_owned(), |holder| format!("invocation {holder}")))]
    Busy { relation: Relation, holder: Option<String> },
    #[error("{relation} breaks the rules of a snapshot:\n{details}")]
    Invalid { relation: Relation, details: String },
}

impl SnapshotError {
    pub fn config(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { key: key.into(), reason: reason.into() }
    }

    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Adapter(error) => error.is_interrupted(),
            Self::Materialize(error) => error.is_interrupted(),
            _ => false,
        }
    }

    /// dbt's heading.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Adapter(AdapterError::Engine(_)) => "Database Error",
            Self::Materialize(error) => error.label(),
            Self::Config { .. } => "Compilation Error",
            _ => "Runtime Error",
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Adapter(error) => error.hint(),
            Self::Materialize(error) => error.hint(),
            Self::DuplicateKeys { .. } => {
                Some("make the SELECT one row a key, or add the column that tells them apart to unique_key".to_owned())
            }
            Self::NotASnapshot { .. } => {
                Some("`snapshot_meta_column_names` must name the columns as they are in the table".to_owned())
            }
            _ => None,
        }
    }
}
