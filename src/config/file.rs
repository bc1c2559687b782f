//! chpipe.toml: its sections, their defaults, and the variables that override them. `docs/reference.toml` is the manual
//! and a test parses it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;

use super::{ConfigError, Secret, env_vars};
use crate::error::Location;

/// chpipe.toml as a whole.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileSettings {
    pub(super) source: SourceSettings,
    pub(super) lake: LakeSettings,
    pub(super) engine: EngineSettings,
    pub(super) transform: TransformSettings,
    pub(super) migrate: MigrateSettings,
    pub(super) load: LoadSettings,
    pub(super) serve: ServeSettings,
    pub(super) metrics: MetricsSettings,
}

/// `[source]`: the HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// Base URL, with a slash at its end.
    pub url: String,
    /// Never more requests a second than this, over all processes (the API's limit is 4).
    pub requests_per_second: f64,
    /// Never more requests an hour than this, over all processes (the API's limit is 500).
    pub requests_per_hour: u32,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Deadline of one request, seconds.
    pub request_timeout_seconds: f64,
    /// Deadline of one request with all its retries, seconds.
    pub retry_deadline_seconds: f64,
    /// Failed attempts after which a request is given up; refusals for speed (429) do not count.
    pub max_attempts: u32,
    /// Rows asked for on a page (the API's most is 100).
    pub page_size: u32,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// The file of endpoint definitions; the built-in one where not given.
    pub endpoints: Option<PathBuf>,
    /// From the environment only.
    #[serde(skip)]
    pub token: Option<Secret>,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            url: "https://api.jolpi.ca/ergast/f1/".into(),
            requests_per_second: 3.0,
            requests_per_hour: 450,
            concurrency: 4,
            request_timeout_seconds: 30.0,
            retry_deadline_seconds: 4.0 * 3600.0,
            max_attempts: 8,
            page_size: 100,
            user_agent: concat!("chpipe/", env!("CARGO_PKG_VERSION")).into(),
            endpoints: None,
            token: None,
        }
    }
}

/// `[lake]`: where Bronze and Silver are. A directory unless an endpoint, a region or a key says S3.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeSettings {
    /// Directory with one folder a bucket; used where `s3` is off.
    pub path: PathBuf,
    /// Whether the lake is on S3; on by itself when `endpoint` is given.
    pub s3: Option<bool>,
    /// `http://minio:9000`; AWS where not given.
    pub endpoint: Option<String>,
    /// The endpoint as the ClickHouse server reaches it, where that differs.
    pub clickhouse_endpoint: Option<String>,
    pub region: String,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`; on by itself when `endpoint` is given.
    pub path_style: Option<bool>,
    /// Send unsigned requests (public buckets).
    pub no_sign_request: bool,
    pub bronze: String,
    pub silver: String,
    pub access_key_id: Option<String>,
    /// Better in the environment than here.
    pub secret_access_key: Option<Secret>,
}

impl Default for LakeSettings {
    fn default() -> Self {
        Self {
            path: ".chpipe/lake".into(),
            s3: None,
            endpoint: None,
            clickhouse_endpoint: None,
            region: "us-east-1".into(),
            path_style: None,
            no_sign_request: false,
            bronze: "bronze".into(),
            silver: "silver".into(),
            access_key_id: None,
            secret_access_key: None,
        }
    }
}

impl LakeSettings {
    /// Whether the lake is on S3 and not in a directory.
    pub fn is_s3(&self) -> bool {
        self.s3.unwrap_or(self.endpoint.is_some())
    }
}

/// `[engine]`: the embedded ClickHouse.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// A libchdb.so to use instead of the installed one.
    pub libchdb: Option<PathBuf>,
    /// Where `chpipe engine install` keeps libchdb; the user's cache folder where not given.
    pub cache_dir: Option<PathBuf>,
    /// Directory of the warehouse, where profiles.yml names none.
    pub path: PathBuf,
    /// `host:port` of a ZooKeeper or Keeper: S3Queue and Replicated engines need one.
    pub zookeeper: Option<String>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { libchdb: None, cache_dir: None, path: ".chpipe/warehouse".into(), zookeeper: None }
    }
}

impl EngineSettings {
    /// The defaults with what the environment says of libchdb: for tests, which have no project.
    #[doc(hidden)]
    pub fn from_environment() -> Self {
        let libchdb = env_vars::read(env_vars::LIBCHDB).map(PathBuf::from);
        Self { libchdb, cache_dir: env_vars::read(env_vars::CACHE_DIR).map(PathBuf::from), ..Self::default() }
    }

    /// Where `chpipe engine install` keeps libchdb: the folder that was named, else `chpipe` in the user's cache.
    pub fn cache_dir(&self) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(env_vars::user_cache_dir)
    }
}

/// `[transform]`: Bronze to Silver.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformSettings {
    /// A partition with a larger share of quarantined rows fails; 0 to 1.
    pub quarantine_threshold: f64,
}

impl Default for TransformSettings {
    fn default() -> Self {
        Self { quarantine_threshold: 0.01 }
    }
}

/// `[migrate]`: the generated DDL.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MigrateSettings {
    /// Database of the ext_, raw_, queue_ and mv_ objects.
    pub raw_database: String,
    /// Database of the ledgers.
    pub state_database: String,
    /// Folder with templates/, tables/, generated/ and migrations/.
    pub ddl_path: PathBuf,
    /// Name of the ClickHouse cluster for ON CLUSTER; none for a single server.
    pub cluster: Option<String>,
    /// How many days a rebuilt table's old version is kept for `migrate undo`.
    pub retention_days: u32,
}

impl Default for MigrateSettings {
    fn default() -> Self {
        Self {
            raw_database: "raw".into(),
            state_database: "chpipe".into(),
            ddl_path: "ddl".into(),
            cluster: None,
            retention_days: 7,
        }
    }
}

/// `[load]`: Silver to the raw tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadSettings {
    /// `batch` or `queue`.
    pub mode: String,
    /// Where the queues of this warehouse keep their state; two warehouses on one Keeper must not share it.
    pub keeper_path: String,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self { mode: "batch".into(), keeper_path: "/chpipe/queue".into() }
    }
}

/// `[serve]`: ClickHouse's HTTP interface and S3 on loopback.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeSettings {
    /// The address to listen on. Another than loopback lets other machines in.
    pub host: String,
    pub port: u16,
    pub s3_port: u16,
    /// The one user; the profile's where not given, else `default`.
    pub user: Option<String>,
    /// Its password, better in the environment than here; one is made up where none is given.
    pub password: Option<Secret>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 8123, s3_port: 9000, user: None, password: None }
    }
}

/// `[metrics]`: where each run sends the state of the pipeline; nowhere by default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    /// A file for node_exporter's textfile collector: `/var/lib/node_exporter/chpipe.prom`.
    pub textfile: Option<PathBuf>,
    /// Base URL of a Pushgateway: `http://pushgateway:9091`.
    pub pushgateway: Option<String>,
    /// URL of an OTLP receiver that takes JSON over HTTP: `http://prometheus:9090/api/v1/otlp/v1/metrics`.
    pub otlp: Option<String>,
}

impl MetricsSettings {
    /// Whether there is a place to send to.
    pub fn is_on(&self) -> bool {
        self.textfile.is_some() || self.pushgateway.is_some() || self.otlp.is_some()
    }
}

impl FileSettings {
    /// Reads the file; the defaults where there is none.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Io { path: path.to_owned(), source }),
        };
        toml::from_str(&text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            let source_line = text.lines().nth(line - 1).map(str::to_owned);
            let width = text.get(span.clone()).map_or(1, |part| part.lines().next().unwrap_or("").chars().count());
            ConfigError::File {
                reason: error.message().to_owned(),
                location: Location {
                    path: path.to_owned(),
                    line: Some(line),
                    column: Some(column),
                    // A line with a credential is not shown.
                    source_line: source_line.filter(|line| !line.contains("secret")),
                    width,
                },
            }
        })
    }

    /// Lets the environment override what the file says.
    pub(super) fn apply_environment(&mut self) -> Result<(), ConfigError> {
        use env_vars::read;
        set(&mut self.source.url, read(env_vars::SOURCE_URL));
        self.source.token = read(env_vars::SOURCE_TOKEN).map(Secret::new);
        parse(&mut self.source.requests_per_second, env_vars::REQUESTS_PER_SECOND)?;
        parse(&mut self.source.requests_per_hour, env_vars::REQUESTS_PER_HOUR)?;
        set(&mut self.lake.path, read(env_vars::LAKE_PATH).map(PathBuf::from));
        set_some(&mut self.lake.endpoint, read(env_vars::S3_ENDPOINT));
        set_some(&mut self.lake.clickhouse_endpoint, read(env_vars::S3_CLICKHOUSE_ENDPOINT));
        set(&mut self.lake.region, read(env_vars::S3_REGION));
        set_some(&mut self.lake.access_key_id, read(env_vars::S3_ACCESS_KEY_ID));
        set_some(&mut self.lake.secret_access_key, read(env_vars::S3_SECRET_ACCESS_KEY).map(Secret::new));
        set(&mut self.lake.bronze, read(env_vars::BRONZE_BUCKET));
        set(&mut self.lake.silver, read(env_vars::SILVER_BUCKET));
        set_some(&mut self.engine.libchdb, read(env_vars::LIBCHDB).map(PathBuf::from));
        set_some(&mut self.engine.cache_dir, read(env_vars::CACHE_DIR).map(PathBuf::from));
        set(&mut self.engine.path, read(env_vars::WAREHOUSE_PATH).map(PathBuf::from));
        set_some(&mut self.engine.zookeeper, read(env_vars::ZOOKEEPER));
        set_some(&mut self.serve.user, read(env_vars::SERVE_USER));
        set_some(&mut self.serve.password, read(env_vars::SERVE_PASSWORD).map(Secret::new));
        if !self.source.url.ends_with('/') {
            self.source.url.push('/');
        }
        Ok(())
    }

    /// Relative paths are relative to the project folder.
    pub(super) fn make_absolute(&mut self, project_dir: &Path) {
        let absolute = |path: &mut PathBuf| *path = project_dir.join(&*path);
        absolute(&mut self.lake.path);
        absolute(&mut self.engine.path);
        absolute(&mut self.migrate.ddl_path);
        for path in [
            &mut self.engine.libchdb,
            &mut self.engine.cache_dir,
            &mut self.source.endpoints,
            &mut self.metrics.textfile,
        ]
        .into_iter()
        .flatten()
        {
            absolute(path);
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn set_some<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(field: &mut T, name: &'static str) -> Result<(), ConfigError> {
    if let Some(text) = env_vars::read(name) {
        *field = text.parse().map_err(|error: T::Err| ConfigError::Variable { name, reason: error.to_string() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_toml_lists_the_defaults() {
        let reference: FileSettings = toml::from_str(include_str!("../../docs/reference.toml")).unwrap();
        assert_eq!(format!("{reference:#?}"), format!("{:#?}", FileSettings::default()));
    }

    #[test]
    fn reference_toml_names_every_key() {
        let text = include_str!("../../docs/reference.toml");
        let error = toml::from_str::<FileSettings>("[lake]\nno_such_key = 1").unwrap_err().to_string();
        for key in error.split('`').skip(3).step_by(2) {
            assert!(text.contains(key), "docs/reference.toml does not name `{key}`");
        }
    }
}
