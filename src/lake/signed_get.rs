//! GET of an object without the SDK: signed here and sent over a pool of its own, for a quarter of the SDK's processor time. In: a key;
//! out: the bytes, or nothing where anything else came back. The SDK then asks again: its retries and its errors hold, and
//! what an answer means is decided in one place.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, SharedCredentialsProvider},
};
use aws_sdk_s3::{Client, presigning::PresigningConfig};
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{sync::Mutex, time::timeout};

use super::{
    local_s3::encode,
    s3::{CONNECT_TIMEOUT, INITIAL_BACKOFF, READ_TIMEOUT},
};

/// Idle connections are given up before most stores and balancers do it.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Credentials are asked for again this long before they expire.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// A body of unknown length is not read here.
const MOST_BYTES: u64 = 1 << 30;

type Https = HyperClient<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The pool and the credentials of one S3.
pub(super) struct SignedGet {
    /// Made at the first request: the system's certificates are read then. `None` where they cannot be.
    client: OnceLock<Option<Https>>,
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Credentials>>,
}

/// Where a bucket's objects are and how requests for them are signed: as the SDK's own rules for endpoint, region, path
/// style and dual stack have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// What an object's key is appended to.
    base: String,
    region: String,
}

impl Route {
    /// Asks the SDK for the URL of some object, which it works out without a request. `Ok(None)`: requests for this bucket
    /// are signed in a way that is the SDK's alone (S3 Express, access points of several regions).
    ///
    /// # Errors
    /// There are no credentials at the moment, or the bucket's name is none.
    pub(super) async fn of(client: &Client, bucket: &str) -> Result<Option<Self>, String> {
        const KEY: &str = "k";
        let minute = PresigningConfig::expires_in(Duration::from_secs(60)).map_err(|error| error.to_string())?;
        let signed = client.get_object().bucket(bucket).key(KEY).presigned(minute).await;
        let signed = signed.map_err(|error| error.to_string())?;
        Ok(Self::of_presigned(signed.uri(), KEY))
    }

    fn of_presigned(url: &str, key: &str) -> Option<Self> {
        let (address, query) = url.split_once('?')?;
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(other, _)| *other == name).map(|(_, value)| value)
        };
        // `{id}/{day}/{region}/s3/aws4_request`, percent-encoded.
        let mut scope = parameter("X-Amz-Credential")?.rsplit("%2F");
        let (terminator, service, region) = (scope.next()?, scope.next()?, scope.next()?);
        let is_plain =
            parameter("X-Amz-Algorithm") == Some("AWS4-HMAC-SHA256") && (service, terminator) == ("s3", "aws4_request");
        let base = address.strip_suffix(key).filter(|base| base.ends_with('/'))?;
        is_plain.then(|| Self { base: base.to_owned(), region: region.to_owned() })
    }
}

impl SignedGet {
    pub(super) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { client: OnceLock::new(), provider, kept: Mutex::default() }
    }

    /// The object, or its bytes of `range` (`bytes=0-9`). `None`, with the reason in the log, where that did not work out.
    pub(super) async fn get(&self, route: &Route, key: &str, range: Option<&str>) -> Option<Bytes> {
        match self.try_get(route, key, range).await {
            Ok(bytes) => Some(bytes),
            Err(missed) => {
                tracing::debug!("GET of {}{key} is left to the SDK: {}", route.base, missed.reason);
                if missed.is_overload {
                    // The SDK waits between its own attempts only.
                    tokio::time::sleep(INITIAL_BACKOFF.mul_f64(rand::random())).await;
                }
                None
            }
        }
    }

    async fn try_get(&self, route: &Route, key: &str, range: Option<&str>) -> Result<Bytes, Missed> {
        let client = self.client.get_or_init(|| client(&route.base)).as_ref();
        let client = client.ok_or_else(|| Missed::from("the system's certificates cannot be read"))?;
        let url = format!("{}{}", route.base, encode(key));
        let credentials = self.credentials().await?;
        let request = signed(&url, &route.region, credentials, range, SystemTime::now())?;
        let response = timeout(READ_TIMEOUT, client.request(request)).await??;
        let wanted = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if response.status() != wanted {
            let is_overload = response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS;
            return Err(Missed { reason: format!("HTTP {}", response.status()), is_overload });
        }
        whole_body(response).await
    }

    async fn credentials(&self) -> Result<Credentials, Missed> {
        let mut kept = self.kept.lock().await;
        let fresh = |credentials: &&Credentials| {
            credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + EXPIRY_MARGIN)
        };
        if let Some(credentials) = kept.as_ref().filter(fresh) {
            return Ok(credentials.clone());
        }
        let credentials = self.provider.provide_credentials().await?;
        Ok(kept.insert(credentials).clone())
    }
}

impl fmt::Debug for SignedGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedGet").finish_non_exhaustive()
    }
}

/// Why an object did not come.
#[derive(Debug)]
struct Missed {
    reason: String,
    /// The store asked for fewer requests, or could not serve this one.
    is_overload: bool,
}

impl<T: ToString> From<T> for Missed {
    fn from(reason: T) -> Self {
        Self { reason: reason.to_string(), is_overload: false }
    }
}

fn client(base: &str) -> Option<Https> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.enforce_http(false);
    let builder = HttpsConnectorBuilder::new();
    let builder = if base.starts_with("http://") {
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into());
        let tls = tls.with_safe_default_protocol_versions().ok()?.with_root_certificates(RootCertStore::empty());
        builder.with_tls_config(tls.with_no_client_auth())
    } else {
        builder.with_provider_and_native_roots(ring::default_provider()).ok()?
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
    let mut client = HyperClient::builder(TokioExecutor::new());
    Some(client.pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE).build(connector))
}

/// A request with S3's signature.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
fn signed(
    url: &str,
    region: &str,
    credentials: Credentials,
    range: Option<&str>,
    time: SystemTime,
) -> Result<Request<Empty<Bytes>>, Missed> {
    let mut settings = SigningSettings::default();
    // S3 alone signs the path as it is sent.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = credentials.into();
    let builder = v4::SigningParams::builder().identity(&identity).region(region).name("s3");
    let parameters = SigningParams::from(builder.time(time).settings(settings).build()?);
    let headers = range.map(|range| (header::RANGE.as_str(), range));
    let to_sign = SignableRequest::new("GET", url, headers.into_iter(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(to_sign, &parameters)?.into_parts();
    let mut request = Request::get(url.parse::<Uri>()?);
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    let agent = concat!("chpipe/", env!("CARGO_PKG_VERSION"));
    let mut request = request.header(header::USER_AGENT, agent).body(Empty::new())?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

/// The body, all of it: a connection that ends before its announced length is an error of the transport.
async fn whole_body(response: Response<Incoming>) -> Result<Bytes, Missed> {
    let mut body = response.into_body();
    let length = body.size_hint().exact().filter(|&length| length <= MOST_BYTES);
    let length = length.ok_or_else(|| Missed::from("its length is not known, or too large"))? as usize;
    let mut whole = BytesMut::new();
    while let Some(frame) = timeout(READ_TIMEOUT, body.frame()).await? {
        let Ok(bytes) = frame?.into_data() else { continue };
        if bytes.len() == length {
            return Ok(bytes);
        }
        whole.reserve(length - whole.len());
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        config::Secret,
        lake::{Bucket as _, S3Client, S3Options},
    };

    fn options(endpoint: Option<&str>, region: &str, path_style: bool) -> S3Options {
        S3Options {
            endpoint: endpoint.map(str::to_owned),
            region: region.to_owned(),
            path_style,
            no_sign_request: false,
            credentials: Some(("AKIDEXAMPLE".to_owned(), Secret::new("secret"))),
        }
    }

    /// Objects are looked for where the SDK looks for them.
    #[tokio::test]
    async fn routes_are_the_sdk_s() {
        for (endpoint, region, path_style, base) in [
            (None, "eu-central-1", false, "https://silver.s3.eu-central-1.amazonaws.com/"),
            (None, "eu-central-1", true, "https://s3.eu-central-1.amazonaws.com/silver/"),
            (None, "cn-north-1", false, "https://silver.s3.cn-north-1.amazonaws.com.cn/"),
            (Some("http://minio:9000"), "us-east-1", true, "http://minio:9000/silver/"),
            (Some("https://example.com/store/"), "eu-west-1", true, "https://example.com/store/silver/"),
            (Some("https://example.com"), "eu-west-1", false, "https://silver.example.com/"),
        ] {
            let client = S3Client::connect(&options(endpoint, region, path_style)).await;
            let bucket = client.bucket("silver");
            let route = Route { base: base.to_owned(), region: region.to_owned() };
            assert_eq!(bucket.route().await, Some(&route), "{endpoint:?} {region}");
        }
        let client = S3Client::connect(&options(None, "us-east-1", false)).await;
        assert_eq!(client.bucket("silver--use1-az4--x-s3").route().await, None, "S3 Express needs a session");
    }

    /// A server that gives one answer a connection; the requests that came.
    async fn answering(answers: Vec<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let requests = Arc::clone(&seen);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                requests.lock().push(String::from_utf8(request).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        (endpoint, seen)
    }

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";

    /// A session token is sent and signed; a range is sent and signed.
    #[tokio::test]
    async fn what_is_signed() {
        let (endpoint, seen) =
            answering(vec!["HTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhe"]).await;
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".to_owned()), None, "test");
        let signed_get = SignedGet::new(SharedCredentialsProvider::new(credentials));
        let route = Route { base: format!("{endpoint}/silver/"), region: "eu-central-1".to_owned() };
        assert_eq!(signed_get.get(&route, "a b/ü", Some("bytes=0-1")).await.unwrap(), "he");
        let request = seen.lock()[0].clone();
        for part in [
            "GET /silver/a%20b/%C3%BC HTTP/1.1\r\n",
            "x-amz-security-token: token\r\n",
            "range: bytes=0-1\r\n",
            "/eu-central-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;x-amz-security-token, ",
        ] {
            assert!(request.contains(part), "{part} in {request}");
        }
    }

    /// An answer that is not the object is asked for again by the SDK.
    #[tokio::test]
    async fn the_sdk_takes_over() {
        for first in [
            "HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhel",
            "no HTTP at all",
            "",
        ] {
            let (endpoint, seen) = answering(vec![first, WHOLE]).await;
            let client = S3Client::connect(&options(Some(&endpoint), "us-east-1", true)).await;
            assert_eq!(client.bucket("silver").get("a").await.unwrap(), "hello", "{first}");
            let agents: Vec<bool> = seen.lock().iter().map(|request| request.contains("aws-sdk-rust")).collect();
            assert_eq!(agents, [false, true], "{first}");
        }
    }
}
