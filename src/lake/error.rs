//! What can go wrong between chpipe and the lake.

/// A failure of the object store.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("there is no object `{key}` in bucket `{bucket}`")]
    NotFound { bucket: String, key: String },
    #[error("object `{key}` in bucket `{bucket}` already exists")]
    Exists { bucket: String, key: String },
    #[error("there is no bucket `{bucket}` at {endpoint}")]
    NoBucket { bucket: String, endpoint: String },
    #[error("{operation} of `{key}` in bucket `{bucket}` failed: {reason}")]
    Request { operation: &'static str, bucket: String, key: String, reason: String },
    #[error("cannot serve `{address}` as S3: {reason}")]
    Serve { address: String, reason: String },
    #[error("key `{key}` is not one of the lake's: {reason}")]
    Key { key: String, reason: String },
}

impl LakeError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoBucket { bucket, .. } => {
                Some(format!("create the bucket, or name another in [lake] of chpipe.toml (`{bucket}` is in use)"))
            }
            _ => None,
        }
    }
}
