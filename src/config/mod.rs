//! Flags over environment over chpipe.toml and profiles.yml over defaults, resolved once into [`Settings`]. The only
//! reader of the environment. It opens nothing but its own files.

pub mod env_vars;
mod error;
mod file;
mod secret;
mod target;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::ConfigError;
pub use file::{
    EngineSettings, LakeSettings, LoadSettings, MetricsSettings, MigrateSettings, ServeSettings, SourceSettings,
    TransformSettings,
};
pub use secret::Secret;
pub use target::{Connection, ServerConnection, Target};

use crate::{cli::GlobalArgs, yaml::Yaml};

/// What the flags, the environment and the files mean together.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder with dbt_project.yml and chpipe.toml; absolute.
    pub project_dir: PathBuf,
    state_dir: PathBuf,
    /// `--profiles-dir`, where given; absolute.
    pub profiles_dir: Option<PathBuf>,
    pub profile: Option<String>,
    pub target: Option<String>,
    /// `--target-path`, where given; absolute. dbt_project.yml decides otherwise.
    pub target_path: Option<PathBuf>,
    /// `--vars`, parsed.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// `--threads`, where given.
    pub threads: Option<usize>,
    /// `--warn-error`.
    pub warn_error: bool,
    /// Not `--no-write-json`, which keeps `ls` from writing manifest.json.
    pub write_json: bool,
    /// Not `--no-print`, which keeps macros from printing.
    pub print: bool,
    /// How long to wait for what another process holds.
    pub lock_timeout: Duration,
    pub source: SourceSettings,
    pub lake: LakeSettings,
    pub engine: EngineSettings,
    pub transform: TransformSettings,
    pub migrate: MigrateSettings,
    pub load: LoadSettings,
    pub serve: ServeSettings,
    pub metrics: MetricsSettings,
    /// The changing statement in whose place the process kills itself; for tests.
    #[cfg(debug_assertions)]
    pub die_at: Option<i64>,
}

impl Settings {
    /// Resolves the settings of one invocation.
    ///
    /// # Errors
    /// An unreadable or invalid chpipe.toml, an unknown key in it (with its line), an invalid variable or flag.
    pub fn resolve(global: &GlobalArgs) -> Result<Self, ConfigError> {
        let working_dir =
            std::env::current_dir().map_err(|source| ConfigError::Io { path: PathBuf::from("."), source })?;
        let absolute = |path: &Path| working_dir.join(path);
        let project_dir = match &global.project_dir {
            Some(dir) => {
                let dir = absolute(dir);
                if !dir.is_dir() {
                    return Err(ConfigError::NoProjectDir { path: dir });
                }
                dir
            }
            None => find_project_dir(&working_dir),
        };
        load_dotenv(&project_dir)?;
        let mut file = file::FileSettings::read(&project_dir.join("chpipe.toml"))?;
        file.apply_environment()?;
        file.make_absolute(&project_dir);
        Ok(Self {
            profiles_dir: global.profiles_dir.as_deref().map(absolute),
            profile: global.profile.clone(),
            target: global.target.clone(),
            target_path: global.target_path.as_deref().map(absolute),
            vars: parse_vars(global.vars.as_deref())?,
            threads: if global.single_threaded { Some(1) } else { global.threads },
            warn_error: global.warn_error,
            write_json: !global.accepted.no_write_json,
            print: !global.accepted.no_print,
            lock_timeout: Duration::from_secs(global.lock_timeout),
            source: file.source,
            lake: file.lake,
            engine: file.engine,
            transform: file.transform,
            migrate: file.migrate,
            load: file.load,
            serve: file.serve,
            metrics: file.metrics,
            #[cfg(debug_assertions)]
            die_at: env_vars::read(env_vars::DEBUG_DIE_AT).and_then(|number| number.parse().ok()),
            state_dir: env_vars::read(env_vars::STATE_PATH)
                .map_or_else(|| project_dir.join(".chpipe/state"), |path| project_dir.join(path)),
            project_dir,
        })
    }

    /// The folder of what processes share beside lake and warehouse (rate limits, caches): `.chpipe/state`.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The environment as `env_var()` sees it, `.env` included.
    pub fn environment(&self) -> std::sync::Arc<std::collections::HashMap<String, String>> {
        std::sync::Arc::new(env_vars::all())
    }

    /// The package hub, for `deps`.
    pub fn package_hub_url(&self) -> Option<String> {
        env_vars::read(env_vars::PACKAGE_HUB_URL)
    }

    /// The connection that the profile names; embedded in `.chpipe/warehouse` where there is no profiles.yml.
    ///
    /// # Errors
    /// A profile or target that does not exist, an unknown or missing connection key, invalid YAML or Jinja.
    pub fn target(&self) -> Result<Target, ConfigError> {
        Target::resolve(self)
    }
}

/// The nearest folder upwards that holds a project, else `start`: dbt's own rule, extended to chpipe.toml.
fn find_project_dir(start: &Path) -> PathBuf {
    start
        .ancestors()
        .find(|dir| dir.join("dbt_project.yml").is_file() || dir.join("chpipe.toml").is_file())
        .unwrap_or(start)
        .to_path_buf()
}

/// Adds `.env` to the environment, for `CHPIPE_*` and for `env_var()` in profiles.yml; what is set already wins.
fn load_dotenv(project_dir: &Path) -> Result<(), ConfigError> {
    let path = project_dir.join(".env");
    if !path.is_file() {
        return Ok(());
    }
    dotenvy::from_path(&path).map_err(|error| ConfigError::Dotenv { path, reason: dotenv_reason(&error) })
}

/// What is wrong, without the line's text: it may hold a secret.
fn dotenv_reason(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(_, index) => format!("a line cannot be parsed (at character {index} of it)"),
        dotenvy::Error::Io(error) => error.to_string(),
        _ => "it cannot be read".to_owned(),
    }
}

/// `--vars` is YAML, as in dbt; a mapping.
fn parse_vars(text: Option<&str>) -> Result<serde_json::Map<String, serde_json::Value>, ConfigError> {
    let Some(text) = text else { return Ok(serde_json::Map::new()) };
    if text.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    let value =
        Yaml::parse(text, Path::new("--vars")).map_err(|error| ConfigError::Vars { reason: error.to_string() })?;
    match value.to_json() {
        serde_json::Value::Object(map) => Ok(map),
        _ => Err(ConfigError::Vars { reason: "it is not a mapping".to_owned() }),
    }
}
