//! Every environment variable that chpipe reads, beside dbt's own on the flags (`--help` names those).

use std::path::PathBuf;

/// Base URL of the API: `http://127.0.0.1:8000/ergast/f1/`.
pub const SOURCE_URL: &str = "CHPIPE_SOURCE_URL";
/// Token sent as `Authorization: Token …`; never logged.
pub const SOURCE_TOKEN: &str = "CHPIPE_SOURCE_TOKEN";
/// Requests a second, over all processes on this machine.
pub const REQUESTS_PER_SECOND: &str = "CHPIPE_REQUESTS_PER_SECOND";
/// Requests an hour, over all processes on this machine.
pub const REQUESTS_PER_HOUR: &str = "CHPIPE_REQUESTS_PER_HOUR";
/// Directory of the local lake.
pub const LAKE_PATH: &str = "CHPIPE_LAKE_PATH";
/// S3 endpoint: `http://minio:9000`, or empty for AWS.
pub const S3_ENDPOINT: &str = "CHPIPE_S3_ENDPOINT";
/// The endpoint as the ClickHouse server reaches it, where that differs.
pub const S3_CLICKHOUSE_ENDPOINT: &str = "CHPIPE_S3_CLICKHOUSE_ENDPOINT";
/// Region of the buckets.
pub const S3_REGION: &str = "CHPIPE_S3_REGION";
/// Access key of the lake; without it the AWS chain (environment, files, instance role) is asked.
pub const S3_ACCESS_KEY_ID: &str = "CHPIPE_S3_ACCESS_KEY_ID";
/// Secret key of the lake; never logged.
pub const S3_SECRET_ACCESS_KEY: &str = "CHPIPE_S3_SECRET_ACCESS_KEY";
/// Bucket of the raw JSON.
pub const BRONZE_BUCKET: &str = "CHPIPE_BRONZE_BUCKET";
/// Bucket of the Parquet files.
pub const SILVER_BUCKET: &str = "CHPIPE_SILVER_BUCKET";
/// A libchdb.so to use instead of the installed one.
pub const LIBCHDB: &str = "CHPIPE_LIBCHDB";
/// Where `chpipe engine install` keeps libchdb.
pub const CACHE_DIR: &str = "CHPIPE_CACHE_DIR";
/// Directory of the embedded warehouse.
pub const WAREHOUSE_PATH: &str = "CHPIPE_WAREHOUSE_PATH";
/// `host:port` of a ZooKeeper or Keeper for the embedded engine: S3Queue needs one.
pub const ZOOKEEPER: &str = "CHPIPE_ZOOKEEPER";

/// Debug builds only, for tests: the number of the changing statement in whose place the process kills itself.
#[cfg(debug_assertions)]
pub const DEBUG_DIE_AT: &str = "CHPIPE_DEBUG_DIE_AT";

/// What processes share beside lake and warehouse: rate limits, caches.
pub const STATE_PATH: &str = "CHPIPE_STATE_PATH";

/// The user of `chpipe serve`.
pub const SERVE_USER: &str = "CHPIPE_SERVE_USER";
/// Its password; never logged.
pub const SERVE_PASSWORD: &str = "CHPIPE_SERVE_PASSWORD";

/// The user's cache folder, where it is not `~/.cache`.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";

/// `chpipe` in the user's cache folder; in the system's temporary one where there is no home.
/// <https://specifications.freedesktop.org/basedir-spec/latest/>
pub(super) fn user_cache_dir() -> PathBuf {
    read(XDG_CACHE_HOME)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| read("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("chpipe")
}
/// Address of the package hub that `deps` asks for `package:` entries; dbt's own variable.
pub const PACKAGE_HUB_URL: &str = "DBT_PACKAGE_HUB_URL";

/// The value of a variable; an empty one counts as not set.
pub(super) fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The whole environment, for `env_var()` in the files of a dbt project; names and values that are no UTF-8 are left out.
pub(super) fn all() -> std::collections::HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// `~`: where `.dbt/profiles.yml` is.
pub(super) fn home() -> Option<std::path::PathBuf> {
    read("HOME").map(std::path::PathBuf::from)
}
