//! The object store of the lake: two buckets, on S3 or in a directory that chpipe itself serves as S3. In: keys and
//! bytes; out: bytes and listings. It knows the key layout, and nothing of what the objects mean.

#[cfg(test)]
mod conformance;
mod directory;
mod error;
pub mod layout;
mod local_s3;
mod place;
mod s3;
mod signed_get;
mod walk;

use std::{ops::Range, path::Path, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

pub use directory::Directory;
pub use error::LakeError;
pub use local_s3::{LocalS3, LocalS3Options};
pub use place::BucketPlace;
pub use s3::{S3Bucket, S3Client, S3Options};

use crate::config::{LakeSettings, Settings};

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

    /// The keys below `prefix`, in order: [`Bucket::list`] without what only a look at each object tells.
    ///
    /// # Errors
    /// As [`Bucket::list`].
    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        Ok(self.list(prefix, None).await?.into_iter().map(|object| object.key).collect())
    }

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
        settings: Box<LakeSettings>,
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
            place: Place::S3 { client, settings: Box::new(lake.clone()) },
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
            Place::S3 { client, settings } => {
                client.create_bucket(self.bronze.name(), &settings.region).await?;
                client.create_bucket(self.silver.name(), &settings.region).await
            }
        }
    }

    /// How ClickHouse reads Silver. A directory lake is served as S3 for it, as `options` say; keep the answer for as long as ClickHouse may read.
    ///
    /// # Errors
    /// [`LakeError::Serve`]: the address cannot be listened on.
    pub fn for_clickhouse(&self, options: LocalS3Options) -> Result<SilverAccess, LakeError> {
        match &self.place {
            Place::Directory(path) => {
                let server = LocalS3::start(path, options)?;
                Ok(SilverAccess { bucket: server.access(self.silver.name()), server: Some(server) })
            }
            Place::S3 { settings, .. } => {
                Ok(SilverAccess { bucket: BucketAccess::of_settings(settings, self.silver.name()), server: None })
            }
        }
    }

    /// Whether ClickHouse can read Silver only while chpipe serves it.
    pub fn is_directory(&self) -> bool {
        matches!(self.place, Place::Directory(_))
    }
}

/// Silver as ClickHouse reaches it, and the server behind it where the lake is a directory.
#[derive(Debug)]
pub struct SilverAccess {
    pub bucket: BucketAccess,
    server: Option<LocalS3>,
}

impl SilverAccess {
    /// The local S3, where the lake is a directory.
    pub fn server(&self) -> Option<&LocalS3> {
        self.server.as_ref()
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

impl BucketAccess {
    /// A bucket of `[lake]` on S3, under the endpoint that ClickHouse uses where that is another.
    fn of_settings(lake: &LakeSettings, bucket: &str) -> Self {
        let endpoint = lake.clickhouse_endpoint.as_ref().or(lake.endpoint.as_ref());
        let path_style = lake.path_style.unwrap_or(endpoint.is_some());
        let url = match endpoint {
            None if path_style => format!("https://s3.{}.amazonaws.com/{bucket}/", lake.region),
            None => format!("https://{bucket}.s3.{}.amazonaws.com/", lake.region),
            Some(endpoint) => {
                let endpoint = endpoint.trim_end_matches('/');
                match endpoint.split_once("://") {
                    Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}/"),
                    _ => format!("{endpoint}/{bucket}/"),
                }
            }
        };
        Self {
            url,
            access_key_id: lake.access_key_id.clone(),
            secret_access_key: lake.secret_access_key.clone(),
            region: Some(lake.region.clone()),
            no_sign_request: lake.no_sign_request,
        }
    }

    /// Whether ClickHouse has to find credentials by itself: in its environment, its files or its instance role.
    pub fn use_environment_credentials(&self) -> bool {
        self.access_key_id.is_none() && !self.no_sign_request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URL that ClickHouse is given follows endpoint, style and region.
    #[test]
    fn clickhouse_urls() {
        let url = |endpoint: Option<&str>, clickhouse: Option<&str>, path_style| {
            let lake = LakeSettings {
                endpoint: endpoint.map(str::to_owned),
                clickhouse_endpoint: clickhouse.map(str::to_owned),
                path_style,
                region: "eu-central-1".to_owned(),
                ..Default::default()
            };
            BucketAccess::of_settings(&lake, "silver").url
        };
        assert_eq!(url(None, None, None), "https://silver.s3.eu-central-1.amazonaws.com/");
        assert_eq!(url(None, None, Some(true)), "https://s3.eu-central-1.amazonaws.com/silver/");
        assert_eq!(url(Some("http://minio:9000"), None, None), "http://minio:9000/silver/");
        assert_eq!(url(Some("http://localhost:9000/"), Some("http://minio:9000/"), None), "http://minio:9000/silver/");
        assert_eq!(url(Some("https://s3.example.com"), None, Some(false)), "https://silver.s3.example.com/");
    }
}
