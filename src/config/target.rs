//! The target of profiles.yml: which warehouse, which schema, how many threads.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{ConfigError, Secret, Settings, env_vars};
use crate::{
    error::Location,
    project::{DBT_VERSION, PROJECT_FILE},
    render::{YamlContext, render_yaml},
    yaml::{Yaml, is_near},
};

/// One resolved output of a profile.
#[derive(Debug, Clone)]
pub struct Target {
    pub profile_name: String,
    pub name: String,
    /// The ClickHouse database that models land in by default.
    pub schema: String,
    pub threads: usize,
    pub connection: Connection,
    /// An embedded output's `user` and `password`, where it has a password: those of `chpipe serve`.
    pub credentials: Option<(String, Secret)>,
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
    /// Keep connections between nodes.
    pub reuse_connections: bool,
    /// Idle seconds before the first probe, seconds between probes, probes; `None`: the system's.
    pub tcp_keepalive: Option<[u32; 3]>,
    /// The name to expect in the server's certificate, where it is not `host`.
    pub server_host_name: Option<String>,
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
            reuse_connections: true,
            tcp_keepalive: None,
            server_host_name: None,
            custom_settings: Vec::new(),
        }
    }
}

/// Every key of an output: dbt-clickhouse 1.10's, `type`, `threads`, and `path` of the embedded driver.
const KEYS: [&str; 31] = [
    "type",
    "threads",
    "driver",
    "path",
    "host",
    "port",
    "user",
    "password",
    "schema",
    "database",
    "retries",
    "cluster",
    "cluster_mode",
    "database_engine",
    "secure",
    "verify",
    "client_cert",
    "client_cert_key",
    "connect_timeout",
    "send_receive_timeout",
    "sync_request_timeout",
    "compress_block_size",
    "compression",
    "check_exchange",
    "custom_settings",
    "use_lw_deletes",
    "local_suffix",
    "local_db_prefix",
    "allow_automatic_deduplication",
    "tcp_keepalive",
    "server_host_name",
];

/// Known as well, but not part of `target`.
const MORE_KEYS: [&str; 1] = ["reuse_connections"];

impl Target {
    /// The output that `--profile` and `--target` (or dbt_project.yml and profiles.yml) name. dbt's search order for
    /// profiles.yml: `--profiles-dir`, the working directory, `~/.dbt`; the project folder comes before the last.
    ///
    /// # Errors
    /// A profile, target or key that does not exist, a value of the wrong type, invalid YAML or Jinja.
    pub(super) fn resolve(settings: &Settings) -> Result<Self, ConfigError> {
        let Some(file) = find_profiles(settings)? else { return Ok(Self::embedded(settings)) };
        let text = fs_err::read_to_string(&file).map_err(|source| ConfigError::Io { path: file.clone(), source })?;
        let tree = Yaml::parse(&text, &file).map_err(|error| ConfigError::Profile {
            reason: error.reason,
            location: Some(error.location),
            hint: None,
        })?;
        let profiles = Profiles { path: &file, tree: &tree, settings };
        let Some(profile) = profiles.profile_name()? else { return Ok(Self::embedded(settings)) };
        profiles.resolve(&profile)
    }

    /// What there is without a profile: embedded, in the project's folder.
    fn embedded(settings: &Settings) -> Self {
        let name = settings.target.clone().unwrap_or_else(|| "dev".into());
        let threads = settings.threads.unwrap_or(2);
        let mut fields = server_fields(&Map::new(), "embedded");
        fields.insert("schema".into(), json!("default"));
        let mut target = Self {
            profile_name: "chpipe".into(),
            name,
            schema: "default".into(),
            threads,
            connection: Connection::Embedded { path: settings.engine.path.clone() },
            credentials: None,
            fields,
        };
        target.complete_fields();
        target
    }

    /// dbt adds these to the connection's keys.
    fn complete_fields(&mut self) {
        self.fields.insert("type".into(), json!("clickhouse"));
        self.fields.insert("threads".into(), json!(self.threads));
        self.fields.insert("name".into(), json!(self.name));
        self.fields.insert("target_name".into(), json!(self.name));
        self.fields.insert("profile_name".into(), json!(self.profile_name));
        self.fields.insert("database".into(), json!(""));
    }

    /// `custom_settings`, whatever the driver: sent with every query.
    pub fn custom_settings(&self) -> Vec<(String, String)> {
        let Some(Value::Object(settings)) = self.fields.get("custom_settings") else { return Vec::new() };
        settings.iter().map(|(name, value)| (name.clone(), setting_text(value))).collect()
    }

    /// A boolean key of dbt-clickhouse's, whatever the driver: `use_lw_deletes`, `check_exchange`, `cluster_mode`, …
    pub fn flag(&self, key: &str) -> bool {
        self.fields.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// ClickHouse takes booleans as 1 and 0.
fn setting_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => u8::from(*flag).to_string(),
        other => other.to_string(),
    }
}

fn find_profiles(settings: &Settings) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(dir) = &settings.profiles_dir {
        let file = dir.join("profiles.yml");
        if file.is_file() {
            return Ok(Some(file));
        }
        return Err(ConfigError::Profile {
            reason: format!("there is no `{}`", file.display()),
            location: None,
            hint: Some("give the folder that holds profiles.yml to --profiles-dir".into()),
        });
    }
    let working_dir = std::env::current_dir().ok();
    let home = env_vars::home().map(|home| home.join(".dbt"));
    Ok([working_dir, Some(settings.project_dir.clone()), home]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("profiles.yml"))
        .find(|file| file.is_file()))
}

/// profiles.yml, parsed.
struct Profiles<'a> {
    path: &'a Path,
    tree: &'a Yaml,
    settings: &'a Settings,
}

impl Profiles<'_> {
    fn error(&self, reason: impl Into<String>, place: Option<&Yaml>, hint: Option<String>) -> ConfigError {
        // A line of profiles.yml may hold a password, so it is not shown.
        let location = place.map_or_else(
            || Location::file(self.path),
            |place| Location::line(self.path, place.line, Some(place.column)),
        );
        ConfigError::Profile { reason: reason.into(), location: Some(location), hint }
    }

    fn context(&self) -> YamlContext {
        YamlContext {
            environment_variables: self.settings.environment(),
            vars: std::sync::Arc::new(self.settings.vars.clone()),
            require_vars: true,
            allow_secrets: true,
            dbt_version: DBT_VERSION.into(),
            ..YamlContext::default()
        }
    }

    fn render(&self, value: &Value, place: &Yaml) -> Result<Value, ConfigError> {
        let context = self.context();
        let rendered = render_yaml(value, &context, &|_| false).or_else(|error| {
            // A password may look like Jinja and be none (dbt's rule).
            render_yaml(value, &context, &|path| path.last().is_some_and(|key| key == "password")).map_err(|_| error)
        });
        match rendered {
            Ok((value, _)) => Ok(value),
            Err(error) => Err(self.error(error.message, Some(place), None)),
        }
    }

    /// `--profile`, else `profile:` of dbt_project.yml; `None` where the project names none.
    fn profile_name(&self) -> Result<Option<String>, ConfigError> {
        if let Some(name) = &self.settings.profile {
            return Ok(Some(name.clone()));
        }
        let file = self.settings.project_dir.join(PROJECT_FILE);
        let Ok(text) = fs_err::read_to_string(&file) else { return Ok(None) };
        // What else is wrong with that file is said when the project is loaded.
        let Ok(tree) = Yaml::parse(&text, &file) else { return Ok(None) };
        let Some(profile) = tree.get("profile").filter(|profile| !profile.is_null()) else { return Ok(None) };
        let name = self.render(&profile.to_json(), profile)?;
        Ok(name.as_str().map(str::to_owned))
    }

    fn resolve(&self, profile_name: &str) -> Result<Target, ConfigError> {
        let Some(profile) = self.tree.get(profile_name) else {
            let known: Vec<&str> = self
                .tree
                .as_map()
                .unwrap_or_default()
                .iter()
                .filter_map(|(key, _)| key.as_str())
                .filter(|&key| key != "config")
                .collect();
            let hint = (!known.is_empty()).then(|| format!("profiles in this file: {}", known.join(", ")));
            return Err(self.error(format!("Could not find profile named '{profile_name}'"), None, hint));
        };
        let target_name = match (&self.settings.target, profile.get("target")) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => {
                let rendered = self.render(&name.to_json(), name)?;
                rendered.as_str().map_or_else(|| rendered.to_string(), str::to_owned)
            }
            (None, None) => "default".into(),
        };
        let Some(outputs) = profile.get("outputs") else {
            let reason = format!("outputs not specified in profile '{profile_name}'");
            return Err(self.error(reason, self.tree.key(profile_name), None));
        };
        let Some(output) = outputs.get(&target_name) else {
            let names: Vec<String> = outputs
                .as_map()
                .unwrap_or_default()
                .iter()
                .filter_map(|(key, _)| key.as_str())
                .map(|name| format!(" - {name}"))
                .collect();
            return Err(self.error(
                format!(
                    "The profile '{profile_name}' does not have a target named '{target_name}'. The valid target names for this profile are:\n{}",
                    names.join("\n")
                ),
                profile.key("outputs"),
                None,
            ));
        };
        let (kind, place) = (output.get("type").and_then(Yaml::as_str), output.key("type").unwrap_or(output));
        match kind {
            Some("clickhouse") => {}
            Some(other) => {
                return Err(self.error(
                    format!("target '{target_name}' is of type `{other}`; chpipe speaks to `clickhouse` only"),
                    Some(place),
                    None,
                ));
            }
            None => {
                let reason =
                    format!("required field \"type\" not found in profile {profile_name} and target {target_name}");
                return Err(self.error(reason, Some(output), Some("add `type: clickhouse`".into())));
            }
        }
        for (key, _) in output.as_map().unwrap_or_default() {
            let name = key.as_str().unwrap_or_default();
            if !KEYS.contains(&name) && !MORE_KEYS.contains(&name) {
                let near =
                    KEYS.iter().find(|known| is_near(known, name)).map(|known| format!("did you mean `{known}`?"));
                let reason = format!("target '{target_name}' has an unknown key `{name}`");
                return Err(self.error(reason, Some(key), near));
            }
        }
        let Value::Object(values) = self.render(&output.to_json(), output)? else {
            return Err(self.error(format!("target '{target_name}' is no mapping"), Some(output), None));
        };
        Output { profiles: self, tree: output, values: &values }.target(profile_name, &target_name)
    }
}

/// One rendered output, with its tree for lines.
struct Output<'a> {
    profiles: &'a Profiles<'a>,
    tree: &'a Yaml,
    values: &'a Map<String, Value>,
}

impl Output<'_> {
    fn wrong(&self, key: &str, expected: &str) -> ConfigError {
        self.profiles.error(format!("`{key}` has to be {expected}"), self.tree.key(key), None)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    fn number<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let number = match self.value(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.and_then(|number| T::try_from(number).ok()).map(Some).ok_or_else(|| self.wrong(key, "a whole number"))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn target(&self, profile_name: &str, target_name: &str) -> Result<Target, ConfigError> {
        let schema = self.text("schema")?.unwrap_or_else(|| "default".into());
        if let Some(database) = self.text("database")?.filter(|database| !database.is_empty())
            && database != schema
        {
            return Err(self.profiles.error(
                "On Clickhouse, database must be omitted or have the same value as schema",
                self.tree.key("database"),
                None,
            ));
        }
        let settings = self.profiles.settings;
        let threads = match settings.threads {
            Some(threads) => threads,
            None => self.number::<usize>("threads")?.unwrap_or(1),
        }
        .max(1);
        let port: Option<u16> = self.number("port")?;
        let driver = match self.text("driver")? {
            Some(driver) => driver,
            None if self.value("path").is_some() => "embedded".into(),
            None if matches!(port, Some(9000 | 9440)) => "native".into(),
            None => "http".into(),
        };
        let mut fields = server_fields(self.values, &driver);
        let mut credentials = None;
        let connection = match driver.as_str() {
            "embedded" => {
                if let Some(password) = self.text("password")?.filter(|password| !password.is_empty()) {
                    let user = self.text("user")?.unwrap_or_else(|| "default".into());
                    credentials = Some((user, Secret::new(password)));
                }
                let path = match self.text("path")? {
                    Some(path) => settings.project_dir.join(path),
                    None => settings.engine.path.clone(),
                };
                fields.insert("path".into(), json!(path.display().to_string()));
                Connection::Embedded { path }
            }
            "http" | "native" => {
                if self.value("path").is_some() {
                    return Err(self.profiles.error(
                        format!("`path` belongs to `driver: embedded`, and this target's driver is {driver}"),
                        self.tree.key("path"),
                        None,
                    ));
                }
                let server = self.server(port, &driver)?;
                fields.insert("port".into(), json!(server.port));
                if driver == "http" { Connection::Http(server) } else { Connection::Native(server) }
            }
            other => {
                return Err(self.profiles.error(
                    format!("Unrecognized ClickHouse driver {other}"),
                    self.tree.key("driver"),
                    Some("drivers: embedded, http, native".into()),
                ));
            }
        };
        fields.insert("schema".into(), json!(schema));
        let mut target = Target {
            profile_name: profile_name.to_owned(),
            name: target_name.to_owned(),
            schema,
            threads,
            connection,
            credentials,
            fields,
        };
        target.complete_fields();
        Ok(target)
    }

    fn server(&self, port: Option<u16>, driver: &str) -> Result<ServerConnection, ConfigError> {
        let default = ServerConnection::default();
        let secure = self.flag("secure")?.unwrap_or(false);
        let port = port.filter(|&port| port != 0).unwrap_or(match (driver, secure) {
            ("native", false) => 9000,
            ("native", true) => 9440,
            (_, false) => 8123,
            (_, true) => 8443,
        });
        let custom_settings = match self.value("custom_settings") {
            None => Vec::new(),
            Some(Value::Object(settings)) => {
                settings.iter().map(|(name, value)| (name.clone(), setting_text(value))).collect()
            }
            Some(_) => return Err(self.wrong("custom_settings", "a mapping of setting to value")),
        };
        let suffix = self.text("local_suffix")?.unwrap_or_else(|| "local".into());
        let prefix = self.text("local_db_prefix")?.unwrap_or_default();
        Ok(ServerConnection {
            host: self.text("host")?.unwrap_or(default.host),
            port,
            user: self.text("user")?.unwrap_or(default.user),
            password: Secret::new(self.text("password")?.unwrap_or_default()),
            secure,
            verify: self.flag("verify")?.unwrap_or(default.verify),
            client_cert: self.text("client_cert")?.map(PathBuf::from),
            client_cert_key: self.text("client_cert_key")?.map(PathBuf::from),
            http_path: default.http_path,
            compression: self.text("compression")?.filter(|compression| !compression.is_empty()),
            connect_timeout_seconds: self.number("connect_timeout")?.unwrap_or(default.connect_timeout_seconds),
            send_receive_timeout_seconds: self
                .number("send_receive_timeout")?
                .unwrap_or(default.send_receive_timeout_seconds),
            sync_request_timeout_seconds: self
                .number("sync_request_timeout")?
                .unwrap_or(default.sync_request_timeout_seconds),
            retries: self.number("retries")?.unwrap_or(default.retries),
            cluster: self.text("cluster")?.filter(|cluster| !cluster.is_empty()),
            cluster_mode: self.flag("cluster_mode")?.unwrap_or(default.cluster_mode),
            database_engine: self.text("database_engine")?.filter(|engine| !engine.is_empty()),
            use_lw_deletes: self.flag("use_lw_deletes")?.unwrap_or(default.use_lw_deletes),
            check_exchange: self.flag("check_exchange")?.unwrap_or(default.check_exchange),
            allow_automatic_deduplication: self
                .flag("allow_automatic_deduplication")?
                .unwrap_or(default.allow_automatic_deduplication),
            // dbt-clickhouse puts the underscore itself.
            local_suffix: if suffix.is_empty() { suffix } else { format!("_{}", suffix.trim_start_matches('_')) },
            local_db_prefix: if prefix.is_empty() { prefix } else { format!("{}_", prefix.trim_end_matches('_')) },
            reuse_connections: self.flag("reuse_connections")?.unwrap_or(default.reuse_connections),
            tcp_keepalive: self.keepalive()?,
            server_host_name: self.text("server_host_name")?,
            custom_settings,
        })
    }

    /// `true`, or [idle, interval, probes].
    fn keepalive(&self) -> Result<Option<[u32; 3]>, ConfigError> {
        match self.value("tcp_keepalive") {
            None | Some(Value::Bool(false)) => Ok(None),
            // clickhouse-driver's defaults.
            Some(Value::Bool(true)) => Ok(Some([7200, 75, 9])),
            Some(Value::Array(items)) => {
                let numbers: Option<Vec<u32>> =
                    items.iter().map(|item| item.as_u64().and_then(|number| u32::try_from(number).ok())).collect();
                match numbers.as_deref() {
                    Some(&[idle, interval, probes]) => Ok(Some([idle, interval, probes])),
                    _ => Err(self.wrong("tcp_keepalive", "true, false or three whole numbers")),
                }
            }
            Some(_) => Err(self.wrong("tcp_keepalive", "true, false or three whole numbers")),
        }
    }
}

/// `target.*`: dbt-clickhouse's connection keys with its defaults; the password is not among them.
fn server_fields(values: &Map<String, Value>, driver: &str) -> Map<String, Value> {
    let defaults = json!({
        "driver": driver, "host": "localhost", "port": null, "user": "default", "schema": "default", "retries": 1,
        "cluster": null, "database_engine": null, "cluster_mode": false, "secure": false, "verify": true,
        "client_cert": null, "client_cert_key": null, "connect_timeout": 10, "send_receive_timeout": 300,
        "sync_request_timeout": 5, "compress_block_size": 1_048_576, "compression": "", "check_exchange": true,
        "custom_settings": null, "use_lw_deletes": false, "allow_automatic_deduplication": false,
        "tcp_keepalive": false, "reuse_connections": true, "server_host_name": null
    });
    let Value::Object(mut fields) = defaults else { return Map::new() };
    for (key, field) in &mut fields {
        if key != "driver"
            && let Some(value) = values.get(key)
        {
            *field = value.clone();
        }
    }
    fields
}
