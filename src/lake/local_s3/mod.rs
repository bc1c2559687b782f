//! A directory served as S3 on loopback, so that ClickHouse reads a local lake with the same DDL as one on S3. In: a
//! folder with one folder a bucket; out: S3's protocol (`s3s` speaks it) for ClickHouse, the AWS SDKs and boto3, path
//! style. It answers only signed requests, and never listens on another address than the one it was given.

mod backend;
mod conditions;
mod listing;
mod multipart;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use tokio::runtime::Runtime;

pub(super) use listing::encode;

use super::{BucketAccess, LakeError, directory::hex};
use crate::config::Secret;

/// The region that it claims to be in; every request signed for any region is taken.
const REGION: &str = "us-east-1";

/// How a directory is served.
#[derive(Debug, Clone)]
pub struct LocalS3Options {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// Access key and secret key; made up where not given.
    pub credentials: Option<(String, Secret)>,
    /// Buckets that unsigned requests may read, as public ones of AWS.
    pub public: Vec<String>,
}

impl Default for LocalS3Options {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), credentials: None, public: Vec::new() }
    }
}

/// A running server, on threads of its own: it also answers while this process's other threads wait for ClickHouse.
/// Dropping it ends the server; what was being written then is not an object.
pub struct LocalS3 {
    address: SocketAddr,
    access_key_id: String,
    secret_access_key: Secret,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl LocalS3 {
    /// Serves the folder `root`, whose sub-folders are the buckets. It accepts connections when this returns.
    ///
    /// # Errors
    /// [`LakeError::Serve`]: the address is in use or not ours; [`LakeError::Io`]: `root` cannot be created.
    pub fn start(root: &Path, options: LocalS3Options) -> Result<Self, LakeError> {
        let failed = |error: std::io::Error| LakeError::Serve {
            address: options.address.to_string(),
            reason: error.to_string(),
        };
        fs_err::create_dir_all(root).map_err(|source| LakeError::Io { path: root.to_owned(), source })?;
        let listener = TcpListener::bind(options.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (access_key_id, secret_access_key) = options.credentials.clone().unwrap_or_else(made_up_credentials);
        let mut builder = S3ServiceBuilder::new(backend::Backend::new(root));
        builder.set_auth(SimpleAuth::from_single(access_key_id.clone(), secret_access_key.expose().to_owned()));
        builder.set_access(Access { public: options.public });
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("local-s3")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        runtime.spawn(accept(listener, service));
        Ok(Self { address, access_key_id, secret_access_key, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:41234`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How a client reaches one of its buckets.
    pub fn access(&self, bucket: &str) -> BucketAccess {
        BucketAccess {
            url: format!("{}/{bucket}/", self.endpoint()),
            access_key_id: Some(self.access_key_id.clone()),
            secret_access_key: Some(self.secret_access_key.clone()),
            region: Some(REGION.to_owned()),
            no_sign_request: false,
        }
    }
}

/// Who may do what: with a valid signature everything, without one reading of the public buckets. A wrong signature was
/// refused before.
struct Access {
    public: Vec<String>,
}

/// What `--no-sign-request` needs of a public bucket.
const READS: [&str; 5] = ["GetObject", "HeadObject", "HeadBucket", "ListObjects", "ListObjectsV2"];

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let is_public =
            request.s3_path().get_bucket_name().is_some_and(|name| self.public.iter().any(|known| known == name));
        if request.credentials().is_some() || (is_public && READS.contains(&request.s3_op().name())) {
            return Ok(());
        }
        Err(s3_error!(AccessDenied, "Signature is required"))
    }
}

impl Drop for LocalS3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it would be wrong where this is dropped on another runtime's thread.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for LocalS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalS3").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: tokio::net::TcpListener, service: S3Service) {
    let service = Arc::new(service);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors: others will be closed.
                tracing::warn!("the local S3 cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Nagle's algorithm with delayed acknowledgements holds every answer back for up to 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("the local S3 lost a connection: {error}");
            continue;
        }
        let service = (*service).clone();
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                // A client that went away.
                tracing::debug!("a connection to the local S3 ended: {error}");
            }
        });
    }
}

fn made_up_credentials() -> (String, Secret) {
    let id: [u8; 8] = rand::random();
    let secret: [u8; 20] = rand::random();
    (format!("CHPIPE{}", hex(&id).to_uppercase()), Secret::new(hex(&secret)))
}
