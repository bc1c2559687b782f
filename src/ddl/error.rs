//! What can be wrong with specs, templates and the schemas they meet.

use std::path::PathBuf;

use crate::{error::Location, schema::MergeError};

/// A spec, template or schema that no DDL can be made from.
#[derive(Debug, thiserror::Error)]
pub enum DdlError {
    #[error("the table spec is not valid: {reason}")]
    Spec { reason: String, location: Location },
    #[error("cannot read `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("template `{template}` is not valid: {reason}")]
    Template { template: String, reason: String },
    #[error("the files of `{dataset}` do not fit in one table")]
    Merge { dataset: String, source: MergeError },
    #[error(
        "the spec of `{dataset}` names column `{column}` in {place}, which neither its Parquet files nor the spec define"
    )]
    UnknownColumn { dataset: String, column: String, place: &'static str, location: Option<Location> },
    #[error("`{column}` of `{file}` cannot be a column of `{dataset}`: {reason}")]
    Column { dataset: String, file: String, column: String, reason: String },
    #[error("column `{column}` of `{dataset}` cannot be part of a sorting key: {reason}")]
    KeyColumn { dataset: String, column: String, reason: String },
}

impl DdlError {
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Spec { location, .. } => Some(location.clone()),
            Self::Io { path, .. } => Some(Location::file(path)),
            Self::UnknownColumn { location, .. } => location.clone(),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Merge { dataset, source } => Some(format!(
                "choose a type in ddl/tables/{dataset}.yml: `columns: {{{}: {{type: Nullable(String)}}}}`",
                source.column
            )),
            Self::Column { dataset, column, .. } => {
                let name = serde_json::to_string(column).unwrap_or_default();
                Some(format!(
                    "leave it out: `exclude: [{name}]` in ddl/tables/{dataset}.yml, or `chpipe ddl infer … --exclude {column}`"
                ))
            }
            Self::KeyColumn { dataset, column, .. } => Some(format!(
                "leave `{column}` out of the key in ddl/tables/{dataset}.yml, or give `order_by` an expression over it"
            )),
            _ => None,
        }
    }
}
