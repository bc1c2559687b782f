//! A bucket on S3, AWS's or any that speaks its protocol. In: keys and bytes; out: bytes and listings. It retries what
//! can pass by itself and never logs a credential.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{
        Credentials, IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
        StalledStreamProtectionConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    operation::get_object::GetObjectOutput,
    primitives::{ByteStream, DateTime as SmithyDateTime},
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Bucket, LakeError, ObjectMeta, PutMode,
    signed_get::{Route, SignedGet},
};
use crate::config::{LakeSettings, Secret};

/// Tries of one request in all, as the AWS command line makes; a GET has one before them.
const ATTEMPTS: u32 = 5;
pub(super) const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence on a connection that ends an attempt.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Where S3 is and who asks.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// `http://minio:9000`; AWS where not given.
    pub endpoint: Option<String>,
    pub region: String,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
    /// Send unsigned requests.
    pub no_sign_request: bool,
    /// Fixed credentials; the AWS chain (environment, files, instance role) is asked where not given.
    pub credentials: Option<(String, Secret)>,
}

impl S3Options {
    /// What `[lake]` says.
    ///
    /// # Errors
    /// One half of the credentials is missing.
    pub fn from_settings(lake: &LakeSettings) -> Result<Self, LakeError> {
        let credentials = match (&lake.access_key_id, &lake.secret_access_key) {
            (Some(id), Some(secret)) => Some((id.clone(), secret.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(LakeError::HalfCredentials { given: "access_key_id", missing: "secret_access_key" });
            }
            (None, Some(_)) => {
                return Err(LakeError::HalfCredentials { given: "secret_access_key", missing: "access_key_id" });
            }
        };
        Ok(Self {
            endpoint: lake.endpoint.clone(),
            region: lake.region.clone(),
            path_style: lake.path_style.unwrap_or(lake.endpoint.is_some()),
            no_sign_request: lake.no_sign_request,
            credentials,
        })
    }

    /// The endpoint in words.
    fn endpoint_text(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("AWS S3 in {}", self.region))
    }
}

/// A connection pool to one S3. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3Client {
    client: Client,
    /// None where requests are not signed.
    signed_get: Option<Arc<SignedGet>>,
    endpoint: String,
}

impl S3Client {
    /// Prepares a client; nothing is sent before the first request.
    pub async fn connect(options: &S3Options) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client(options.endpoint.as_deref()))
            .region(Region::new(options.region.clone()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(INITIAL_BACKOFF))
            .timeout_config(timeouts)
            // It costs a task per response; a body that hangs is given up here.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .identity_cache(IdentityCache::lazy().build());
        if options.no_sign_request {
            loader = loader.no_credentials();
        } else if let Some((id, secret)) = &options.credentials {
            loader = loader.credentials_provider(Credentials::new(id, secret.expose(), None, None, "chpipe.toml"));
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(options.path_style)
            // Many S3-compatible stores refuse the trailing checksums that the SDK adds by default.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        let signed_get = shared.credentials_provider().map(|provider| Arc::new(SignedGet::new(provider)));
        Self { client: Client::from_conf(config), signed_get, endpoint: options.endpoint_text() }
    }

    /// A bucket, whether or not it is there.
    pub fn bucket(&self, name: &str) -> S3Bucket {
        S3Bucket {
            client: self.client.clone(),
            signed_get: self.signed_get.clone(),
            route: Arc::default(),
            endpoint: self.endpoint.clone(),
            name: name.to_owned(),
        }
    }

    /// Creates a bucket; one of ours that is there already is no error.
    ///
    /// # Errors
    /// The store cannot be reached or refuses.
    pub async fn create_bucket(&self, name: &str, region: &str) -> Result<(), LakeError> {
        use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
        // AWS refuses the name of its oldest region here.
        let location = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
        });
        let created = self.client.create_bucket().bucket(name).set_create_bucket_configuration(location).send().await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) => Err(self.bucket(name).failed("CREATE BUCKET", "", error)),
        }
    }
}

/// A bucket on S3.
#[derive(Debug, Clone)]
pub struct S3Bucket {
    client: Client,
    signed_get: Option<Arc<SignedGet>>,
    /// Found out at the first GET; `None` in it where only the SDK can sign for this bucket.
    route: Arc<OnceCell<Option<Route>>>,
    endpoint: String,
    name: String,
}

impl S3Bucket {
    async fn get_part(&self, key: &str, range: Option<String>) -> Result<Bytes, LakeError> {
        if let Some(bytes) = self.get_signed(key, range.as_deref()).await {
            return Ok(bytes);
        }
        // A connection that breaks inside a body is not retried by the SDK: the response had begun.
        let mut attempt = 1;
        loop {
            let response = self.client.get_object().bucket(&self.name).key(key).set_range(range.clone()).send().await;
            let response: GetObjectOutput = response.map_err(|error| self.failed("GET", key, error))?;
            match collect(response.body).await {
                Ok(body) => return Ok(body),
                Err(reason) if attempt >= ATTEMPTS => {
                    return Err(self.request("GET", key, format!("the body broke off {attempt} times: {reason}")));
                }
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                    attempt += 1;
                }
            }
        }
    }

    /// The quick way to an object; `None` where the SDK has to try.
    pub(super) async fn get_signed(&self, key: &str, range: Option<&str>) -> Option<Bytes> {
        let signed_get = self.signed_get.as_deref()?;
        signed_get.get(self.route().await?, key, range).await
    }

    pub(super) async fn route(&self) -> Option<&Route> {
        let found = self.route.get_or_try_init(|| Route::of(&self.client, &self.name)).await;
        // What is wrong where there is none, the SDK's own request says.
        found.ok()?.as_ref()
    }

    fn request(&self, operation: &'static str, key: &str, reason: String) -> LakeError {
        LakeError::Request { operation, bucket: self.name.clone(), key: key.to_owned(), reason }
    }

    /// Maps an error by its meaning.
    fn failed<E>(&self, operation: &'static str, key: &str, error: SdkError<E>) -> LakeError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (bucket, key) = (self.name.clone(), key.to_owned());
        match &error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let code = service.err().code().unwrap_or_default();
                match (code, status) {
                    ("NoSuchKey", _) => LakeError::NotFound { bucket, key },
                    ("NoSuchBucket", _) => LakeError::NoBucket { bucket, endpoint: self.endpoint.clone() },
                    // 409: another conditional write of the key is under way or was just done.
                    ("PreconditionFailed" | "ConditionalRequestConflict", _) | (_, 412) => {
                        LakeError::Exists { bucket, key }
                    }
                    // HEAD has no body to tell a missing key from a missing bucket.
                    (_, 404) if operation == "HEAD" => LakeError::NotFound { bucket, key },
                    _ => {
                        let mut reason = format!("HTTP {status} {code}");
                        if let Some(message) = service.err().message() {
                            reason.push_str(": ");
                            reason.push_str(message);
                        }
                        if matches!(status, 401 | 403) {
                            LakeError::Denied { operation, bucket, key, reason }
                        } else {
                            self.request(operation, &key, reason)
                        }
                    }
                }
            }
            SdkError::ResponseError(_) => {
                self.request(operation, &key, format!("its answer is no S3 answer: {}", chain(&error)))
            }
            _ => LakeError::Unreachable {
                operation,
                bucket,
                key,
                endpoint: self.endpoint.clone(),
                reason: chain(&error),
            },
        }
    }
}

#[async_trait]
impl Bucket for S3Bucket {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        self.get_part(key, None).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, LakeError> {
        if range.start >= range.end {
            return Err(self.request("GET", key, format!("bytes {}..{} are an empty range", range.start, range.end)));
        }
        self.get_part(key, Some(format!("bytes={}-{}", range.start, range.end - 1))).await
    }

    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<ObjectMeta, LakeError> {
        let size = bytes.len() as u64;
        let mut request = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes));
        if mode == PutMode::Create {
            request = request.if_none_match("*");
        }
        let response = request.send().await.map_err(|error| self.failed("PUT", key, error))?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            size,
            etag: unquote(response.e_tag()),
            // A PUT's answer has no time; the next HEAD or LIST gives the store's own.
            last_modified: Utc::now(),
        })
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectMeta>, LakeError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .set_start_after(start_after.map(str::to_owned))
            .into_paginator()
            .send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed("LIST", prefix, error))?;
            objects.extend(page.contents.unwrap_or_default().into_iter().map(|object| ObjectMeta {
                size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                etag: unquote(object.e_tag()),
                last_modified: time(object.last_modified()),
                key: object.key.unwrap_or_default(),
            }));
        }
        Ok(objects)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let mut pages =
            self.client.list_objects_v2().bucket(&self.name).prefix(prefix).delimiter("/").into_paginator().send();
        let mut folders = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed("LIST", prefix, error))?;
            folders.extend(page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix));
        }
        Ok(folders)
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, LakeError> {
        match self.client.head_object().bucket(&self.name).key(key).send().await {
            Ok(head) => Ok(Some(ObjectMeta {
                key: key.to_owned(),
                size: u64::try_from(head.content_length().unwrap_or(0)).unwrap_or(0),
                etag: unquote(head.e_tag()),
                last_modified: time(head.last_modified()),
            })),
            Err(error) => match self.failed("HEAD", key, error) {
                LakeError::NotFound { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        match self.client.delete_object().bucket(&self.name).key(key).send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.failed("DELETE", key, error) {
                LakeError::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// One pool for all buckets. Certificates are the system's, read only where TLS is spoken.
fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        return builder.build_http();
    }
    builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// A body whose pieces keep coming.
async fn collect(mut body: ByteStream) -> Result<Bytes, String> {
    let mut whole = BytesMut::new();
    let silent = |_| format!("nothing came for {} s", READ_TIMEOUT.as_secs());
    while let Some(piece) = timeout(READ_TIMEOUT, body.next()).await.map_err(silent)? {
        whole.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    Ok(whole.freeze())
}

fn unquote(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

fn time(time: Option<&SmithyDateTime>) -> DateTime<Utc> {
    time.and_then(|time| DateTime::from_timestamp(time.secs(), time.subsec_nanos())).unwrap_or_default()
}

/// An SDK error says "dispatch failure" and leaves the rest to its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut said = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !said.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        said = message;
        cause = error.source();
    }
    text
}
