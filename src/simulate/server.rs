//! The simulated API over HTTP. In: requests; out: pages, refusals and faults, as the real one gives them. It listens on
//! the address it was given and on no other.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use chrono::Utc;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::{
    FaultKind, SimulateError, SimulatedSource, SimulationOptions,
    faults::fault_of,
    page::{Window, render},
    route::{self, BASE, Refusal},
    throttle::Throttle,
};

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const THROTTLED: &str = r#"{"detail":"Request was throttled."}"#;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A running simulation, on threads of its own. Dropping it ends the server.
pub struct Simulation {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Simulation {
    /// Starts to serve. It accepts connections when this returns.
    ///
    /// # Errors
    /// [`SimulateError::Serve`]: the address is in use or not ours.
    pub fn start(options: SimulationOptions) -> Result<Self, SimulateError> {
        let address = options.address;
        let failed = |error: std::io::Error| SimulateError::Serve { address, reason: error.to_string() };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("simulate")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let shared = Arc::new(Shared {
            source: SimulatedSource::new(&options),
            throttle: options.rate_limit.map(Throttle::new),
            options,
            requests: AtomicU64::new(0),
            counts: Mutex::default(),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// The API's base URL: `http://127.0.0.1:41234/ergast/f1/`.
    pub fn url(&self) -> String {
        format!("http://{}{BASE}/", self.address)
    }

    /// Requests that came, refused ones included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Answers by status (`200`) and faults by kind (`kind_ServerError`), and how often.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.counts.lock().clone()
    }

    /// The data that it serves.
    pub fn source(&self) -> &SimulatedSource {
        &self.shared.source
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it would be wrong where this is dropped on another runtime's thread.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What all connections use.
struct Shared {
    source: SimulatedSource,
    options: SimulationOptions,
    throttle: Option<Throttle>,
    requests: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
}

/// The connection ends here.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
struct Reset;

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the simulation cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { shared.answer(request).await }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the simulation ended: {error}");
            }
        });
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
        let path = request.uri().path();
        if path == "/__stats" {
            let counts = serde_json::to_string(&*self.counts.lock()).unwrap_or_default();
            return Ok(answer(StatusCode::OK, JSON, counts));
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.count("requests");
        let is_broken = self.options.fault_requests.is_none_or(|requests| number < requests);
        let fault = is_broken.then(|| fault_of(&self.options.faults, self.options.seed, number)).flatten();
        if let Some(kind) = fault {
            self.count(&format!("kind_{kind:?}"));
        }
        let authorized = self.authorized(request.headers());
        let throttled = authorized == Ok(false) && self.throttle.as_ref().is_some_and(|t| !t.admits(SystemTime::now()));
        let response = if throttled || fault == Some(FaultKind::Throttle) {
            self.throttled(&request)
        } else if fault == Some(FaultKind::Reset) {
            return Err(Reset);
        } else {
            if fault == Some(FaultKind::Delay) {
                tokio::time::sleep(self.options.delay).await;
            }
            match fault {
                Some(FaultKind::ServerError) => {
                    answer(StatusCode::INTERNAL_SERVER_ERROR, HTML, "<h1>Server Error (500)</h1>".to_owned())
                }
                Some(FaultKind::Unavailable) => {
                    answer(StatusCode::SERVICE_UNAVAILABLE, HTML, "<h1>Service Unavailable</h1>".to_owned())
                }
                Some(FaultKind::Html) => answer(StatusCode::OK, HTML, web_page("simulated")),
                _ if authorized.is_err() => {
                    let mut response = detail(StatusCode::UNAUTHORIZED, "Invalid token.");
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
                    response
                }
                fault => self.listing(&request, fault),
            }
        };
        self.count(response.status().as_str());
        Ok(response)
    }

    /// A page, or what the API says where there is none.
    fn listing(&self, request: &Request<Incoming>, fault: Option<FaultKind>) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            let text = format!("Method \\\"{}\\\" not allowed.", request.method());
            return detail(StatusCode::METHOD_NOT_ALLOWED, &text);
        }
        let mut limit = None;
        let mut offset = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" => limit = Some(value),
                "offset" => offset = Some(value),
                _ if name.to_lowercase().contains("cache") => {
                    let text = "Please be considerate of other API users and do not avoid caches.";
                    return answer(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", text.to_owned());
                }
                _ => {}
            }
        }
        let listing = match route::parse(path, &self.source.history) {
            Ok(listing) => listing,
            Err(Refusal::Slash) => {
                let mut location = format!("{path}/");
                if !query.is_empty() {
                    location = format!("{location}?{query}");
                }
                let mut response = answer(StatusCode::MOVED_PERMANENTLY, HTML, String::new());
                if let Ok(location) = HeaderValue::from_str(&location) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                return response;
            }
            Err(Refusal::NotFoundPage) => {
                return answer(StatusCode::NOT_FOUND, HTML, "<h1>Not Found</h1>".to_owned());
            }
            Err(Refusal::Detail(status, text)) => {
                return detail(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), text);
            }
        };
        match accepted(request.headers(), path) {
            Accepted::Json => {}
            Accepted::Html => return answer(StatusCode::OK, HTML, web_page(path)),
            Accepted::Neither => {
                return detail(StatusCode::NOT_ACCEPTABLE, "Could not satisfy the request Accept header.");
            }
        }
        let shift = usize::from(fault == Some(FaultKind::Shift));
        let mut body = render(&self.source.history, &listing, path, Window::of(limit, offset), shift);
        match fault {
            Some(FaultKind::Truncate) => {
                let mut half = body.len() / 2;
                while !body.is_char_boundary(half) {
                    half -= 1;
                }
                body.truncate(half);
                answer(StatusCode::OK, JSON, body)
            }
            Some(FaultKind::Cut) => cut(Bytes::from(body)),
            _ => answer(StatusCode::OK, JSON, body),
        }
    }

    fn throttled(&self, request: &Request<Incoming>) -> Response<Body> {
        match accepted(request.headers(), request.uri().path()) {
            // The browsable page comes with status 200 even then.
            Accepted::Html => answer(StatusCode::OK, HTML, web_page("Request was throttled.")),
            _ => answer(StatusCode::TOO_MANY_REQUESTS, JSON, THROTTLED.to_owned()),
        }
    }

    /// Whether the request came with the token; an error for another one.
    fn authorized(&self, headers: &HeaderMap) -> Result<bool, ()> {
        let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
            return Ok(false);
        };
        let Some(token) = value.strip_prefix("Token ") else { return Ok(false) };
        match &self.options.token {
            Some(known) if known.expose() == token.trim() => Ok(true),
            _ => Err(()),
        }
    }

    fn count(&self, name: &str) {
        *self.counts.lock().entry(name.to_owned()).or_default() += 1;
    }
}

/// What a client takes.
enum Accepted {
    Json,
    Html,
    Neither,
}

/// Only paths that end in `/` have a page for people.
fn accepted(headers: &HeaderMap, path: &str) -> Accepted {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let names: Vec<&str> = accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim()).collect();
    let json = names.iter().position(|name| matches!(*name, "application/json" | "application/*" | "*/*"));
    let html = names.iter().position(|name| *name == "text/html").filter(|_| path.ends_with('/'));
    match (json, html) {
        (json, Some(html)) if json.is_none_or(|json| html < json) => Accepted::Html,
        (Some(_), _) => Accepted::Json,
        (None, _) => Accepted::Neither,
    }
}

fn web_page(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<!doctype html><title>simulated API</title><p>{text}</p>")
}

fn detail(status: StatusCode, text: &str) -> Response<Body> {
    answer(status, JSON, format!(r#"{{"detail":"{text}"}}"#))
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|error: Infallible| match error {}).boxed_unsync();
    with_headers(status, content_type, body)
}

/// Announces the whole body and breaks off after half of it.
fn cut(body: Bytes) -> Response<Body> {
    let length = body.len();
    let half = body.slice(..length / 2);
    let frames = futures::stream::iter([
        Ok(Frame::data(half)),
        Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut off on purpose")),
    ]);
    let mut response = with_headers(StatusCode::OK, JSON, StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn with_headers(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-simulated", HeaderValue::from_static("true"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, origin"));
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    if status == StatusCode::OK && content_type == JSON {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        let expires = (Utc::now() + chrono::TimeDelta::hours(1)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(expires) = HeaderValue::from_str(&expires) {
            headers.insert(header::EXPIRES, expires);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Secret, simulate::RateLimit};

    fn client() -> reqwest::Client {
        // Also chosen by whoever else is tested in this process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    fn options() -> SimulationOptions {
        SimulationOptions { seasons: 2022..=2023, ..SimulationOptions::default() }
    }

    /// The same seed gives the same bytes, over HTTP and without it.
    #[tokio::test]
    async fn the_same_seed_gives_the_same_bytes() {
        let client = client();
        let (one, two) = (Simulation::start(options()).unwrap(), Simulation::start(options()).unwrap());
        for path in ["2023/results", "2023/3/laps", "drivers", "2022/driverstandings"] {
            let get = async |simulation: &Simulation| {
                let url = format!("{}{path}.json?limit=100&offset=0", simulation.url());
                let response = client.get(url).send().await.unwrap();
                assert_eq!(response.headers()["x-simulated"], "true");
                assert_eq!(response.headers()["content-type"], "application/json");
                response.text().await.unwrap()
            };
            let text = get(&one).await;
            assert_eq!(text, get(&two).await);
            assert_eq!(text, one.source().page(path, 100, 0).unwrap());
            assert!(text.contains(r#""simulated":"true""#));
        }
        let other = Simulation::start(SimulationOptions { seed: 8, ..options() }).unwrap();
        assert_ne!(other.source().page("drivers", 100, 0).unwrap(), one.source().page("drivers", 100, 0).unwrap());
    }

    /// Errors have the API's statuses, types and texts.
    #[tokio::test]
    async fn errors_are_those_of_the_api() {
        let simulation = Simulation::start(options()).unwrap();
        let client = client();
        let root = simulation.url();
        let get = async |path: &str| {
            let response = client.get(format!("{root}{path}")).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(get("2023/results").await, (301, String::new()));
        assert_eq!(get("1900/results.json").await.0, 200);
        assert_eq!(get("2023/100/results.json").await.0, 404);
        assert_eq!(
            get("nothing.json").await,
            (400, r#"{"detail":"Bad Request: Unsupported filter for endpoint."}"#.to_owned())
        );
        assert_eq!(get("drivers.json?nocache=1").await.0, 403);
        let response = client.get(format!("{root}2023/results?limit=5")).send().await.unwrap();
        assert_eq!(response.headers()["location"], "/ergast/f1/2023/results/?limit=5");
        let response = client.post(format!("{root}drivers.json")).send().await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.text().await.unwrap(), r#"{"detail":"Method \"POST\" not allowed."}"#);
        let accept = async |path: &str, accept: &str| {
            let response = client.get(format!("{root}{path}")).header("accept", accept).send().await.unwrap();
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap().to_owned())
        };
        assert_eq!(accept("drivers.json", "text/html").await.0, 406);
        assert_eq!(accept("drivers/", "text/html").await, (200, HTML.to_owned()));
        assert_eq!(accept("drivers/", "application/json").await, (200, JSON.to_owned()));
        let head = client.head(format!("{root}drivers.json")).send().await.unwrap();
        assert!(head.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap() > 100);
    }

    /// Refused requests get the API's body and no Retry-After; a token lifts the limit, another one is refused.
    #[tokio::test]
    async fn requests_are_throttled() {
        // The hour must not end while its requests are counted.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let left = 3600 - now % 3600;
        if left < 60 {
            tokio::time::sleep(Duration::from_secs(left)).await;
        }
        let simulation = Simulation::start(SimulationOptions {
            rate_limit: Some(RateLimit { per_second: 1000, per_hour: 3 }),
            token: Some(Secret::new("known")),
            ..options()
        })
        .unwrap();
        let client = client();
        let url = format!("{}seasons.json", simulation.url());
        let mut statuses = Vec::new();
        for _ in 0..5 {
            let response = client.get(&url).send().await.unwrap();
            statuses.push(response.status().as_u16());
            if response.status() == 429 {
                assert!(!response.headers().contains_key("retry-after"));
                assert_eq!(response.text().await.unwrap(), THROTTLED);
            }
        }
        assert_eq!(statuses, [200, 200, 200, 429, 429]);
        let with = async |token: &str| {
            client.get(&url).header("authorization", format!("Token {token}")).send().await.unwrap().status().as_u16()
        };
        assert_eq!((with("known").await, with("other").await), (200, 401));
        assert_eq!(simulation.requests(), 7);
        assert_eq!(simulation.counts()["429"], 2);
    }

    /// Each fault looks to a client as it is meant to.
    #[tokio::test]
    async fn faults_are_what_they_are_called() {
        let client = client();
        let get = async |fault: &str| {
            let faults = vec![format!("{fault}:1").parse().unwrap()];
            let delay = Duration::from_millis(1);
            let simulation = Simulation::start(SimulationOptions { faults, delay, ..options() }).unwrap();
            let response = client.get(format!("{}2023/results.json", simulation.url())).send().await;
            let response = response.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body = response.text().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body))
        };
        let whole = get("delay").await.unwrap();
        assert_eq!(whole.0, 200);
        assert_eq!(get("500").await.unwrap().0, 500);
        assert_eq!(get("503").await.unwrap().0, 503);
        assert_eq!(get("throttle").await.unwrap(), (429, THROTTLED.to_owned()));
        assert!(get("html").await.unwrap().1.starts_with("<!doctype html>"));
        assert_eq!(get("truncate").await.unwrap().1, whole.1[..whole.1.len() / 2]);
        assert_eq!(get("shift").await.unwrap().1, whole.1.replace(r#""total":"440""#, r#""total":"441""#));
        get("reset").await.unwrap_err();
        get("cut").await.unwrap_err();
    }
}
