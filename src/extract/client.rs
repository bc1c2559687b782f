//! One page over HTTP: sent within the limits, asked for again until it is whole or the deadline has passed. In: a path
//! below the base URL; out: the body as received and what it says of its listing. It stores nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng as _;
use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION},
    redirect,
};
use serde::{Deserialize, Serialize};

use super::{ExtractError, Limits, RateLimiter};
use crate::config::SourceSettings;

/// Hops of one request.
const MAX_REDIRECTS: usize = 5;
/// Waits between attempts, seconds: the first, and the longest.
const FIRST_WAIT: f64 = 0.5;
const LONGEST_WAIT: f64 = 60.0;

/// The API, as one process sees it.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    limiter: RateLimiter,
    authorization: Option<HeaderValue>,
    deadline: Duration,
    max_attempts: u32,
    counters: Mutex<Counters>,
}

/// Requests by endpoint and outcome, for metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    pub requests: BTreeMap<(String, &'static str), u64>,
    /// By endpoint: seconds from sending to the last byte, of answered requests.
    pub seconds: BTreeMap<String, f64>,
    /// From sending to the outcome.
    pub durations: BTreeMap<(String, &'static str), Durations>,
}

/// How long requests took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Durations {
    /// How many within each of [`Durations::BOUNDS`], and above the last.
    pub counts: [u64; Durations::BOUNDS.len() + 1],
    /// Of all of them, seconds.
    pub seconds: f64,
}

impl Durations {
    /// Upper bounds, seconds.
    pub const BOUNDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = Self::BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(Self::BOUNDS.len());
        self.counts[bucket] += 1;
        self.seconds += seconds;
    }
}

/// A page as received.
#[derive(Debug, Clone)]
pub struct Page {
    pub url: String,
    pub body: Bytes,
    /// As the API says it used them.
    pub limit: u32,
    pub offset: u32,
    pub total: u32,
    /// The season and round that the table echoes: what `current` and `last` stood for.
    pub season: Option<String>,
    pub round: Option<String>,
}

/// Why a request has to be sent again.
enum Attempt {
    Again { outcome: &'static str, reason: String },
    Throttled { wait: Duration },
    Fatal(ExtractError),
}

impl From<ExtractError> for Attempt {
    fn from(error: ExtractError) -> Self {
        Self::Fatal(error)
    }
}

impl Client {
    /// A client for `[source]`, its limiter's state in `state_dir`.
    ///
    /// # Errors
    /// A setting is not valid, or the system's certificates cannot be read.
    pub fn new(settings: &SourceSettings, state_dir: &std::path::Path) -> Result<Self, ExtractError> {
        // Only the first call of a process sets it; every later one would set the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base: Url = settings.url.parse().map_err(|error| ExtractError::Setting {
            setting: "url",
            reason: format!("`{}`: {error}", settings.url),
        })?;
        let Some(host) = base.host_str().filter(|_| matches!(base.scheme(), "http" | "https")) else {
            return Err(ExtractError::Setting {
                setting: "url",
                reason: format!("`{}` is no http:// or https:// address", settings.url),
            });
        };
        let is_loopback = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        let host = base.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let limits = Limits { per_second: settings.requests_per_second, per_hour: settings.requests_per_hour };
        let limiter = RateLimiter::open(&state_dir.join("rate"), &host, limits)?;
        let seconds = |setting, value: f64| {
            Duration::try_from_secs_f64(value).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| {
                ExtractError::Setting { setting, reason: "it must be a number of seconds above 0".to_owned() }
            })
        };
        let timeout = seconds("request_timeout_seconds", settings.request_timeout_seconds)?;
        let deadline = seconds("retry_deadline_seconds", settings.retry_deadline_seconds)?;
        let mut headers = HeaderMap::new();
        // Without it the API answers browsers' HTML, also when it refuses.
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut builder = reqwest::Client::builder()
            .user_agent(&settings.user_agent)
            .default_headers(headers)
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            // Each hop is a request of its own to the limiter.
            .redirect(redirect::Policy::none());
        if is_loopback {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| ExtractError::Client { reason: chain(&error) })?;
        let authorization = settings.token.as_ref().map(|token| {
            let mut value =
                HeaderValue::from_str(&format!("Token {}", token.expose())).map_err(|_| ExtractError::Setting {
                    setting: "token",
                    reason: "it has characters that no header can hold".to_owned(),
                })?;
            value.set_sensitive(true);
            Ok::<_, ExtractError>(value)
        });
        Ok(Self {
            http,
            base,
            limiter,
            authorization: authorization.transpose()?,
            deadline,
            max_attempts: settings.max_attempts.max(1),
            counters: Mutex::default(),
        })
    }

    pub fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Requests so far.
    pub fn counters(&self) -> Counters {
        self.counters.lock().clone()
    }

    /// How many requests so far, whatever came of them.
    pub fn requests(&self) -> u64 {
        self.counters.lock().requests.values().sum()
    }

    /// A page of a listing; `paging` is limit and offset.
    ///
    /// # Errors
    /// [`ExtractError::Refused`] where asking again is of no use, [`ExtractError::Request`] when attempts or time have run
    /// out.
    pub async fn page(&self, endpoint: &str, path: &str, paging: Option<(u32, u32)>) -> Result<Page, ExtractError> {
        let mut url = self.base.join(path).map_err(|error| ExtractError::Setting {
            setting: "url",
            reason: format!("`{}` with `{path}`: {error}", self.base),
        })?;
        if let Some((limit, offset)) = paging {
            url.set_query(Some(&format!("limit={limit}&offset={offset}")));
        }
        let started = Instant::now();
        let (mut attempts, mut failures) = (0, 0);
        loop {
            attempts += 1;
            let (wait, said) = match self.attempt(endpoint, &url, paging).await {
                Ok(page) => return Ok(page),
                Err(Attempt::Fatal(error)) => return Err(error),
                Err(Attempt::Throttled { wait }) => {
                    tracing::warn!(endpoint, url = %url, wait_seconds = wait.as_secs_f64(), "throttled by the source");
                    // The limiter itself waits, for every task and process.
                    (Duration::ZERO, format!("429 Too Many Requests, {:.0} s to wait", wait.as_secs_f64()))
                }
                Err(Attempt::Again { outcome, reason }) => {
                    failures += 1;
                    tracing::warn!(endpoint, url = %url, attempt = failures, outcome, reason, "asking again");
                    let longest = (FIRST_WAIT * 2f64.powi(failures as i32 - 1)).min(LONGEST_WAIT);
                    (Duration::from_secs_f64(rand::rng().random_range(longest / 2.0..=longest)), reason)
                }
            };
            if failures >= self.max_attempts || started.elapsed() + wait > self.deadline {
                let seconds = started.elapsed().as_secs_f64();
                return Err(ExtractError::Request { url: url.to_string(), attempts, seconds, reason: said });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One request with its redirects.
    async fn attempt(&self, endpoint: &str, url: &Url, paging: Option<(u32, u32)>) -> Result<Page, Attempt> {
        let mut target = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let sent = self.limiter.acquire().await?;
            let started = Instant::now();
            let mut request = self.http.get(target.clone());
            if let Some(authorization) = &self.authorization
                && target.origin() == self.base.origin()
            {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => return Err(self.again(endpoint, started, transport(&error), chain(&error))),
            };
            let status = answer.status();
            let content_type = header(answer.headers(), &CONTENT_TYPE).to_ascii_lowercase();
            if status == StatusCode::TOO_MANY_REQUESTS {
                self.count(endpoint, started, "throttled");
                return Err(Attempt::Throttled { wait: self.limiter.refused(sent)? });
            }
            if status.is_redirection() {
                self.count(endpoint, started, "redirect");
                let location = header(answer.headers(), &LOCATION);
                target = target
                    .join(&location)
                    .map_err(|_| refused(url, status, format!("it redirects to `{location}`")))?;
                continue;
            }
            let body = match answer.bytes().await {
                Ok(body) => body,
                Err(error) => return Err(self.again(endpoint, started, "truncated", chain(&error))),
            };
            if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
                return Err(self.again(endpoint, started, "server_error", format!("{status}")));
            }
            if !status.is_success() {
                self.count(endpoint, started, "refused");
                return Err(refused(url, status, detail(status, &body)).into());
            }
            if !content_type.starts_with("application/json") {
                return Err(self.again(
                    endpoint,
                    started,
                    "not_json",
                    format!("200 with content type `{content_type}`"),
                ));
            }
            let head = match Head::parse(&body) {
                Ok(head) => head,
                Err(reason) => return Err(self.again(endpoint, started, "truncated", reason)),
            };
            let (limit, offset, total) = match head.numbers(paging) {
                Ok(numbers) => numbers,
                Err(reason) => return Err(self.again(endpoint, started, "malformed", reason)),
            };
            self.limiter.answered()?;
            self.count(endpoint, started, "ok");
            *self.counters.lock().seconds.entry(endpoint.to_owned()).or_default() += started.elapsed().as_secs_f64();
            let (season, round) = head.criteria();
            return Ok(Page { url: url.to_string(), limit, offset, total, season, round, body });
        }
        Err(refused(url, StatusCode::LOOP_DETECTED, format!("more than {MAX_REDIRECTS} redirects")).into())
    }

    fn again(&self, endpoint: &str, started: Instant, outcome: &'static str, reason: String) -> Attempt {
        self.count(endpoint, started, outcome);
        Attempt::Again { outcome, reason }
    }

    fn count(&self, endpoint: &str, started: Instant, outcome: &'static str) {
        let mut counters = self.counters.lock();
        *counters.requests.entry((endpoint.to_owned(), outcome)).or_default() += 1;
        counters.durations.entry((endpoint.to_owned(), outcome)).or_default().add(started.elapsed());
    }
}

/// What a body says of its listing. Everything else in it is only checked to be JSON.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "MRData")]
    mr_data: MrData,
}

#[derive(Debug, Deserialize)]
struct MrData {
    limit: serde_json::Value,
    offset: serde_json::Value,
    total: serde_json::Value,
    #[serde(flatten)]
    tables: BTreeMap<String, Table>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Table {
    Criteria { season: Option<String>, round: Option<String> },
    Other(serde::de::IgnoredAny),
}

impl Head {
    fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("{} bytes that are no whole page: {error}", body.len()))
    }

    /// Limit, offset and total; the offset must be the one asked for.
    fn numbers(&self, paging: Option<(u32, u32)>) -> Result<(u32, u32, u32), String> {
        let number = |name: &str, value: &serde_json::Value| {
            let number = match value {
                serde_json::Value::String(text) => text.parse().ok(),
                value => value.as_u64().and_then(|value| u32::try_from(value).ok()),
            };
            number.ok_or_else(|| format!("MRData.{name} is {value}"))
        };
        let mr_data = &self.mr_data;
        let limit = number("limit", &mr_data.limit)?;
        let offset = number("offset", &mr_data.offset)?;
        let total = number("total", &mr_data.total)?;
        match paging {
            Some((_, asked)) if asked != offset => Err(format!("asked for offset {asked}, got {offset}")),
            Some(_) if limit == 0 => Err("MRData.limit is 0".to_owned()),
            _ => Ok((limit, offset, total)),
        }
    }

    fn criteria(&self) -> (Option<String>, Option<String>) {
        let table = self.mr_data.tables.values().find_map(|table| match table {
            Table::Criteria { season, round } => Some((season.clone(), round.clone())),
            Table::Other(_) => None,
        });
        table.unwrap_or_default()
    }
}

fn refused(url: &Url, status: StatusCode, reason: String) -> ExtractError {
    ExtractError::Refused { url: url.to_string(), status: status.as_u16(), reason }
}

/// The API's own words where it has some: `{"detail": …}`.
fn detail(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Detail {
        detail: String,
    }
    match serde_json::from_slice::<Detail>(body) {
        Ok(Detail { detail }) => format!("{status}: {detail}"),
        Err(_) => status.to_string(),
    }
}

fn header(headers: &HeaderMap, name: &reqwest::header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn transport(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() { "timeout" } else { "connection" }
}

/// An error with its causes, without the URL, which stands beside it.
fn chain(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        parts.push(error.to_string());
        cause = error.source();
    }
    match parts.pop() {
        Some(last) => last,
        None if error.is_timeout() => "it took longer than request_timeout_seconds".to_owned(),
        None => error.to_string(),
    }
}
