//! What can go wrong between chpipe and the lake.

use std::path::PathBuf;

/// A failure of the object store.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("there is no object `{key}` in bucket `{bucket}`")]
    NotFound { bucket: String, key: String },
    #[error("object `{key}` in bucket `{bucket}` already exists")]
    Exists { bucket: String, key: String },
    #[error("there is no bucket `{bucket}` at {endpoint}")]
    NoBucket { bucket: String, endpoint: String },
    #[error("{operation} of `{key}` in bucket `{bucket}` was refused: {reason}")]
    Denied { operation: &'static str, bucket: String, key: String, reason: String },
    #[error("{operation} of `{key}` in bucket `{bucket}` did not reach {endpoint}: {reason}")]
    Unreachable { operation: &'static str, bucket: String, key: String, endpoint: String, reason: String },
    #[error("{operation} of `{key}` in bucket `{bucket}` failed: {reason}")]
    Request { operation: &'static str, bucket: String, key: String, reason: String },
    #[error("cannot make the lake's folder `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("[lake] has `{given}` but no `{missing}`")]
    HalfCredentials { given: &'static str, missing: &'static str },
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
            Self::Denied { .. } => Some(
                "check CHPIPE_S3_ACCESS_KEY_ID and CHPIPE_S3_SECRET_ACCESS_KEY (or the AWS profile in use), and that this \
                 user may read and write the bucket"
                    .to_owned(),
            ),
            // Nothing was sent: the chain of AWS ended without keys.
            Self::Unreachable { reason, .. } if reason.contains("loading credentials") => Some(
                "no keys were found for AWS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or say that the bucket is public \
                 (`no_sign_request`, `--no-sign-request`); another store is named by `endpoint`, and a bucket of a directory lake \
                 is a folder below its `path`"
                    .to_owned(),
            ),
            Self::Unreachable { .. } => Some(
                "check `endpoint` in [lake] of chpipe.toml (CHPIPE_S3_ENDPOINT), and that the store is up".to_owned(),
            ),
            Self::HalfCredentials { missing, .. } => Some(format!(
                "set CHPIPE_S3_{}, or leave out both to use the AWS environment, files or instance role",
                missing.to_uppercase()
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the AWS SDK ends its search for keys on a machine that is none of AWS's.
    #[test]
    fn missing_keys_are_no_store_that_is_down() {
        let unreachable = |reason: &str| LakeError::Unreachable {
            operation: "LIST",
            bucket: "b".into(),
            key: String::new(),
            endpoint: "AWS S3 in us-east-1".into(),
            reason: reason.into(),
        };
        let hint = |reason| unreachable(reason).hint().unwrap();
        assert!(
            hint("dispatch failure: other: an error occurred while loading credentials").contains("AWS_ACCESS_KEY_ID")
        );
        assert!(hint("connection refused").contains("that the store is up"));
    }
}
