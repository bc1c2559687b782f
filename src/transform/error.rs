//! What can go wrong between Bronze and Silver.

use super::PageError;
use crate::lake::LakeError;

/// A failure of a transformation.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("Bronze object `{key}` of endpoint `{endpoint}` cannot be read")]
    Page { endpoint: String, key: String, source: PageError },
    #[error("Bronze object `{key}` is not one that chpipe wrote: {reason}")]
    Envelope { key: String, reason: String },
    #[error(
        "{refused} of {rows} rows of `{batch}` were quarantined, more than the threshold of {threshold}: {example}"
    )]
    Quarantine { batch: String, refused: usize, rows: usize, threshold: f64, quarantine_key: String, example: String },
    #[error("the rows of `{batch}` cannot be written as Parquet")]
    Parquet { batch: String, source: ::parquet::errors::ParquetError },
    #[error("the rows of `{batch}` do not form a table")]
    Arrow { batch: String, source: arrow::error::ArrowError },
    #[error("{failed} of {planned} batches failed; first `{first_batch}`")]
    Failed { failed: usize, planned: usize, first_batch: String, source: Box<TransformError> },
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("interrupted; {written} Silver objects were written, and the same command goes on from there")]
    Interrupted { written: u64 },
}

impl TransformError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Page { source: PageError::Type { endpoint, .. }, .. } => Some(format!(
                "if the API changed for good, describe the new type under `{endpoint}` in a copy of endpoints.yml and name \
                 that file in [source] endpoints; Bronze keeps the page, so `chpipe transform` can be run again"
            )),
            Self::Quarantine { quarantine_key, .. } => Some(format!(
                "the rows are in `{quarantine_key}` of the silver bucket; raise [transform] quarantine_threshold to let the \
                 rest through"
            )),
            Self::Failed { source, .. } => source.hint(),
            Self::Lake(error) => error.hint(),
            _ => None,
        }
    }
}
