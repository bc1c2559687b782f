//! The object store of the lake: two buckets, on S3 or in a directory that chpipe itself serves as S3. In: keys and
//! bytes; out: bytes and listings. It knows the key layout, and nothing of what the objects mean.

#[cfg(test)]
mod conformance;
mod directory;
mod error;
pub mod layout;
mod s3;
mod walk;

use std::{ops::Range, path::Path, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

pub use directory::Directory;
pub use error::LakeError;
pub use s3::{S3Bucket, S3Client, S3Options};

use crate::config::Settings;

/// A bucket, on S3 or in a directory.
#[async_trait]
pub trait Bucket: Send + Sync + std::fmt::Debug {
    /// The bucket's name: `silver`.
    fn name(&self) -> &str;

    /// A whole object.
    ///
    /// # Errors
    /// [`LakeError::NotFound`], or the store cannot be reached.
    async fn get(&self, key: &str) -> Result<Bytes, LakeError>;

    /// A part of an object (Parquet footers).
    ///
    /// # Errors
    /// As [`Bucket::get`].
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, LakeError>;

    /// Writes an object whole: a reader sees all of it or nothing.
    ///
    /// # Errors
    /// [`LakeError::Exists`] with [`PutMode::Create`] where the key is taken; nothing was changed then.
    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<ObjectMeta, LakeError>;

    /// The objects below `prefix` after key `start_after`, in key order, all pages.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectMeta>, LakeError>;

    /// The "folders" directly below `prefix` (S3's common prefixes), each ending in `/`.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, LakeError>;

    /// Size, etag and time of an object; `None` where there is none.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, LakeError>;

    /// Removes an object; one that is not there is no error. Never called on Bronze data.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn delete(&self, key: &str) -> Result<(), LakeError>;
}

/// What may happen to an object that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Refuse: `If-None-Match: *`.
    Create,
    Overwrite,
}

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    pub key: String,
    pub size: u64,
    /// Without quotes; the MD5 of the bytes in a directory lake.
    pub etag: String,
    pub last_modified: DateTime<Utc>,
}

/// Both buckets, and how ClickHouse reaches them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    pub bronze: Arc<dyn Bucket>,
    pub silver: Arc<dyn Bucket>,
    place: Place,
}

/// Where the buckets are.
#[derive(Debug, Clone)]
enum Place {
    /// A folder with one folder a bucket.
    Directory(PathBuf),
    S3 {
        client: S3Client,
        region: String,
    },
}

impl Lake {
    /// The lake of these settings. A directory lake's folders are created; buckets on S3 never are, and nothing is sent
    /// there before the first request. Needs a tokio runtime.
    ///
    /// # Errors
    /// The folders cannot be created, or only half of the credentials is given.
    pub async fn open(settings: &Settings) -> Result<Self, LakeError> {
        let lake = &settings.lake;
        if !lake.is_s3() {
            return Self::directory(&lake.path, &lake.bronze, &lake.silver);
        }
        let client = S3Client::connect(&S3Options::from_settings(lake)?).await;
        Ok(Self {
            bronze: Arc::new(client.bucket(&lake.bronze)),
            silver: Arc::new(client.bucket(&lake.silver)),
            place: Place::S3 { client, region: lake.region.clone() },
        })
    }

    /// A lake in a directory, with the buckets' folders created.
    ///
    /// # Errors
    /// The folders cannot be created, or a name is no name of a bucket.
    pub fn directory(path: &Path, bronze: &str, silver: &str) -> Result<Self, LakeError> {
        Ok(Self {
            bronze: Arc::new(Directory::open(path, bronze)?),
            silver: Arc::new(Directory::open(path, silver)?),
            place: Place::Directory(path.to_owned()),
        })
    }

    /// Creates the buckets where they are missing.
    ///
    /// # Errors
    /// The store cannot be reached or refuses.
    pub async fn create_buckets(&self) -> Result<(), LakeError> {
        match &self.place {
            // Opening it did.
            Place::Directory(_) => Ok(()),
            Place::S3 { client, region } => {
                client.create_bucket(self.bronze.name(), region).await?;
                client.create_bucket(self.silver.name(), region).await
            }
        }
    }
}

/// What ClickHouse needs to read a bucket: the content of a named collection.
#[derive(Debug, Clone)]
pub struct BucketAccess {
    /// `http://127.0.0.1:41234/silver/`, with a slash at its end.
    pub url: String,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<crate::config::Secret>,
    pub region: Option<String>,
    /// Unsigned requests.
    pub no_sign_request: bool,
}
