//! The target of profiles.yml: which warehouse, which schema, how many threads.

use std::path::PathBuf;

use super::{ConfigError, Secret, Settings};

/// One resolved output of a profile.
#[derive(Debug, Clone)]
pub struct Target {
    pub profile_name: String,
    pub name: String,
    /// The ClickHouse database that models land in by default.
    pub schema: String,
    pub threads: usize,
    pub connection: Connection,
    /// The output as the profile wrote it, without secrets: `target.*` in Jinja.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// How the warehouse is reached.
#[derive(Debug, Clone)]
pub enum Connection {
    /// libchdb in this process, over a directory.
    Embedded { path: PathBuf },
    /// ClickHouse's HTTP interface.
    Http(ServerConnection),
    /// ClickHouse's native protocol.
    Native(ServerConnection),
}

/// A ClickHouse server. Names and defaults are dbt-clickhouse's profile keys.
#[derive(Debug, Clone)]
pub struct ServerConnection {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    pub secure: bool,
    /// Check the server's certificate.
    pub verify: bool,
    pub client_cert: Option<PathBuf>,
    pub client_cert_key: Option<PathBuf>,
    /// Path prefix of a proxy.
    pub http_path: String,
    /// `lz4`, `gzip`, `zstd` or none.
    pub compression: Option<String>,
    pub connect_timeout_seconds: u64,
    pub send_receive_timeout_seconds: u64,
    pub sync_request_timeout_seconds: u64,
    pub retries: u32,
    pub cluster: Option<String>,
    pub cluster_mode: bool,
    pub database_engine: Option<String>,
    pub use_lw_deletes: bool,
    pub check_exchange: bool,
    pub allow_automatic_deduplication: bool,
    pub local_suffix: String,
    pub local_db_prefix: String,
    /// Sent with every query.
    pub custom_settings: Vec<(String, String)>,
}

impl Default for ServerConnection {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 8123,
            user: "default".into(),
            password: Secret::default(),
            secure: false,
            verify: true,
            client_cert: None,
            client_cert_key: None,
            http_path: String::new(),
            compression: None,
            connect_timeout_seconds: 10,
            send_receive_timeout_seconds: 300,
            sync_request_timeout_seconds: 5,
            retries: 1,
            cluster: None,
            cluster_mode: false,
            database_engine: None,
            use_lw_deletes: false,
            check_exchange: true,
            allow_automatic_deduplication: false,
            local_suffix: "_local".into(),
            local_db_prefix: String::new(),
            custom_settings: Vec::new(),
        }
    }
}

impl Target {
    pub(super) fn resolve(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            profile_name: "chpipe".into(),
            name: settings.target.clone().unwrap_or_else(|| "dev".into()),
            schema: "default".into(),
            threads: settings.threads.unwrap_or(2),
            connection: Connection::Embedded { path: settings.engine.path.clone() },
            fields: serde_json::Map::new(),
        })
    }
}
