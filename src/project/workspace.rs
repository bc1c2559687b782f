//! A project as a command works with it: dbt_project.yml and packages, the target, the macros, the manifest, the graph. In:
//! settings; out: a [`Workspace`]. Loading it opens no warehouse.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    DBT_VERSION, Graph, Manifest, Package, ProjectError, Yaml,
    parse::{self, ParseEvents},
};
use crate::{
    config::{Connection, Settings, Target},
    error::Location,
    observe, render,
    render::{AdapterConfig, Environment, YamlContext},
};

/// dbt_project.yml of the root project and of its packages.
#[derive(Debug, Clone)]
pub struct Project {
    pub root: Arc<Package>,
    /// Installed packages by name, without the root.
    pub dependencies: IndexMap<String, Arc<Package>>,
    /// `target-path`, absolute: `--target-path` before dbt_project.yml before `target`.
    pub target_path: PathBuf,
    /// selectors.yml, Jinja rendered; `Null` where there is none.
    pub selectors: Value,
}

impl Project {
    /// Reads the root project and the packages that are installed.
    ///
    /// # Errors
    /// A dbt_project.yml that is missing or invalid, packages that are declared and not installed.
    pub fn load(settings: &Settings, target: &Target) -> Result<Self, ProjectError> {
        let project = Self::load_root(settings, target)?;
        project.with_packages(settings, target)
    }

    /// The root project alone: for `deps`, `clean` and `debug`.
    ///
    /// # Errors
    /// Its dbt_project.yml is missing or invalid.
    pub fn load_root(settings: &Settings, target: &Target) -> Result<Self, ProjectError> {
        let context = yaml_context(settings, target);
        let root = Package::load(&settings.project_dir, &context)?;
        let target_path = match (&settings.target_path, &root.target_path) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) => settings.project_dir.join(path),
            (None, None) => settings.project_dir.join("target"),
        };
        let selectors = read_selectors(&settings.project_dir, &context)?;
        Ok(Self { root: Arc::new(root), dependencies: IndexMap::new(), target_path, selectors })
    }

    fn with_packages(mut self, settings: &Settings, target: &Target) -> Result<Self, ProjectError> {
        let context = yaml_context(settings, target);
        let folder = self.root.root.join(&self.root.packages_install_path);
        let mut folders: Vec<PathBuf> = match fs_err::read_dir(&folder) {
            Ok(entries) => entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| path.is_dir() && path.join(super::PROJECT_FILE).is_file())
                .collect(),
            Err(_) => Vec::new(),
        };
        folders.sort();
        for path in &folders {
            let package = Package::load(path, &context)?;
            if package.name == self.root.name || self.dependencies.contains_key(&package.name) {
                return Err(ProjectError::compilation(format!(
                    "dbt found more than one package with the name \"{}\" included in this project. Package names must be unique in a project. Please rename one of these packages.",
                    package.name
                ))
                .at(Location::file(path.join(super::PROJECT_FILE))));
            }
            self.dependencies.insert(package.name.clone(), Arc::new(package));
        }
        let declared = declared_packages(&self.root.root)?;
        if let Some((file, count)) = declared
            && folders.len() < count
        {
            return Err(ProjectError::compilation(format!(
                "dbt found {count} package(s) specified in {file}, but only {} package(s) installed in {}. Run \"dbt deps\" to install package dependencies.",
                folders.len(),
                self.root.packages_install_path
            ))
            .at(Location::file(self.root.root.join(file)))
            .hinting("chpipe deps"));
        }
        Ok(self)
    }

    /// The root first, then the packages by name.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        std::iter::once(self.root.as_ref()).chain(self.dependencies.values().map(Arc::as_ref))
    }

    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages().find(|package| package.name == name)
    }

    /// A flag of dbt_project.yml's `flags:`.
    pub fn flag(&self, name: &str) -> Option<&Value> {
        self.root.flags.get(name).filter(|value| !value.is_null())
    }
}

/// The context of dbt_project.yml, selectors.yml and packages' files.
fn yaml_context(settings: &Settings, target: &Target) -> YamlContext {
    YamlContext {
        environment_variables: settings.environment(),
        vars: Arc::new(settings.vars.clone()),
        require_vars: true,
        target: render::Value::from_json(&Value::Object(target.fields.clone())),
        allow_secrets: false,
        project_name: None,
        dbt_version: DBT_VERSION.into(),
        invocation: None,
        extra: Vec::new(),
    }
}

fn read_selectors(root: &Path, context: &YamlContext) -> Result<Value, ProjectError> {
    let path = root.join("selectors.yml");
    let text = match fs_err::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(source) => return Err(ProjectError::io(path, source)),
    };
    let tree = Yaml::parse(&text, &path)?;
    let (rendered, _) = render::render_yaml(&tree.to_json(), context, &|_| false)
        .map_err(|error| ProjectError::from(error).at_least(Location::file(&path)))?;
    Ok(rendered)
}

/// The file that declares packages, and how many; dependencies.yml only where it does.
fn declared_packages(root: &Path) -> Result<Option<(&'static str, usize)>, ProjectError> {
    for file in ["packages.yml", "dependencies.yml"] {
        let path = root.join(file);
        let Ok(text) = fs_err::read_to_string(&path) else { continue };
        let tree = Yaml::parse(&text, &path)?;
        if let Some(items) = tree.get("packages").and_then(Yaml::as_list) {
            return Ok(Some((file, items.len())));
        }
    }
    Ok(None)
}

/// What the command line says to the project: dbt's flags.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `flags.WHICH`: `run`, `build`, …
    pub command: String,
    pub full_refresh: bool,
    pub store_failures: bool,
    pub empty: bool,
    pub fail_fast: bool,
    pub warn_error: bool,
    pub quiet: bool,
    /// All arguments as typed, under dbt's names: `invocation_args_dict`.
    pub arguments: Map<String, Value>,
}

/// Everything a command needs to know of the project.
#[derive(Clone)]
pub struct Workspace {
    pub project: Project,
    pub target: Target,
    pub environment: Environment,
    pub manifest: Arc<Manifest>,
    pub graph: Arc<Graph>,
    /// Warnings of the parse phase, and lines that macros logged.
    pub warnings: Vec<String>,
    pub lines: Vec<String>,
}

impl Workspace {
    /// Loads and parses the project.
    ///
    /// # Errors
    /// Anything that is wrong with a file of the project, with its place.
    pub fn load(
        settings: &Settings,
        target: &Target,
        invocation: &observe::Invocation,
        options: &LoadOptions,
    ) -> Result<Self, ProjectError> {
        let project = Project::load(settings, target)?;
        let files = parse::read_files(&project)?;
        let macros = parse::read_macros(&project, &files)?;
        let environment = environment(settings, target, &project, macros, invocation, options);
        let events = ParseEvents::new(options.warn_error);
        let mut manifest = parse::parse(&project, &files, &environment, target, &events)?;
        manifest.selectors = super::selector::manifest_selectors(&project.selectors)
            .map_err(|error| error.at_least(Location::file(project.root.root.join("selectors.yml"))))?;
        let graph = Graph::new(&manifest);
        if let Err(cycle) = graph.topological_order() {
            return Err(cycle_error(&manifest, &cycle));
        }
        let messages = events.take();
        if options.warn_error
            && let Some(warning) = messages.warnings.first()
        {
            return Err(ProjectError::compilation(warning.clone()));
        }
        Ok(Self {
            project,
            target: target.clone(),
            environment,
            manifest: Arc::new(manifest),
            graph: Arc::new(graph),
            warnings: messages.warnings,
            lines: messages.lines,
        })
    }

    /// Where artifacts and compiled SQL go.
    pub fn target_path(&self) -> &Path {
        &self.project.target_path
    }
}

fn cycle_error(manifest: &Manifest, cycle: &[String]) -> ProjectError {
    let error = ProjectError::runtime(format!("Found a cycle: {}", cycle.join(" --> ")));
    match cycle.first().and_then(|id| manifest.nodes.get(id)) {
        Some(node) => error.at(Location::file(node.file())),
        None => error,
    }
}

fn environment(
    settings: &Settings,
    target: &Target,
    project: &Project,
    macros: render::Macros,
    invocation: &observe::Invocation,
    options: &LoadOptions,
) -> Environment {
    let root = &project.root;
    // Command line over root project over the package's own.
    let merged = |package: &Package| {
        let mut vars = if package.name == root.name { Map::new() } else { package.vars_for(&package.name) };
        vars.extend(root.vars_for(&package.name));
        vars.extend(settings.vars.clone());
        Arc::new(vars)
    };
    let mut vars: HashMap<String, Arc<Map<String, Value>>> =
        project.packages().map(|package| (package.name.clone(), merged(package))).collect();
    vars.insert(String::new(), merged(root));
    let mut quoting = json!({"database": true, "schema": true, "identifier": true});
    if let Value::Object(quoting) = &mut quoting {
        quoting.extend(root.quoting.clone());
    }
    Environment {
        macros: Arc::new(macros),
        invocation: render::Invocation {
            id: invocation.id.to_string(),
            started_at: invocation.started_at,
            clock: Arc::new(chrono::Utc::now),
            dbt_version: DBT_VERSION.into(),
            flags: flags(settings, project, target, options),
            arguments: render::Value::from_json(&Value::Object(options.arguments.clone())),
            environment_variables: settings.environment(),
            full_refresh: options.full_refresh,
        },
        project_name: root.name.clone(),
        dependencies: project.dependencies.keys().cloned().collect(),
        dispatch: root.dispatch.iter().map(|(name, order)| (name.clone(), order.clone())).collect(),
        vars,
        target: render::Value::from_json(&Value::Object(target.fields.clone())),
        quoting: render::Value::from_json(&quoting),
        adapter: adapter_config(target),
        runtime_config: runtime_config(settings, target, project, options),
    }
}

/// `builtins.ref.config`: what packages read of dbt's RuntimeConfig.
fn runtime_config(settings: &Settings, target: &Target, project: &Project, options: &LoadOptions) -> render::Value {
    let of_package = |package: &Package| -> Map<String, Value> {
        let config = json!({
            "project_name": package.name, "version": package.version, "project_root": package.root,
            "model_paths": package.model_paths, "macro_paths": package.macro_paths, "seed_paths": package.seed_paths,
            "test_paths": package.test_paths, "analysis_paths": package.analysis_paths,
            "snapshot_paths": package.snapshot_paths, "docs_paths": package.docs_paths,
            "packages_install_path": package.packages_install_path, "quoting": package.quoting,
            "on_run_start": package.on_run_start, "on_run_end": package.on_run_end,
            "profile_name": target.profile_name, "target_name": target.name, "threads": target.threads,
        });
        config.as_object().cloned().unwrap_or_default()
    };
    let mut config = of_package(&project.root);
    let dependencies: Map<String, Value> =
        project.packages().map(|package| (package.name.clone(), Value::Object(of_package(package)))).collect();
    config.insert("dependencies".into(), Value::Object(dependencies));
    config.insert("cli_vars".into(), Value::Object(settings.vars.clone()));
    config.insert("args".into(), Value::Object(options.arguments.clone()));
    config.insert("vars".into(), Value::Object(project.root.vars.clone()));
    render::dataclass(&Value::Object(config), &["vars", "args"])
}

fn adapter_config(target: &Target) -> AdapterConfig {
    match &target.connection {
        Connection::Http(server) | Connection::Native(server) => AdapterConfig {
            cluster: server.cluster.clone(),
            database_engine: server.database_engine.clone(),
            local_suffix: server.local_suffix.clone(),
            local_db_prefix: server.local_db_prefix.clone(),
            use_lw_deletes: server.use_lw_deletes,
            allow_automatic_deduplication: server.allow_automatic_deduplication,
            user: server.user.clone(),
            host: server.host.clone(),
            port: server.port,
            secure: server.secure,
        },
        Connection::Embedded { .. } => AdapterConfig {
            local_suffix: "_local".into(),
            use_lw_deletes: target.flag("use_lw_deletes"),
            allow_automatic_deduplication: target.flag("allow_automatic_deduplication"),
            user: "default".into(),
            host: "localhost".into(),
            ..AdapterConfig::default()
        },
    }
}

/// `flags.*`, by dbt's names.
fn flags(
    settings: &Settings,
    project: &Project,
    target: &Target,
    options: &LoadOptions,
) -> IndexMap<String, render::Value> {
    let mut flags: IndexMap<String, render::Value> = IndexMap::new();
    // The project's behaviour flags, in capitals.
    for (name, value) in &project.root.flags {
        flags.insert(name.to_uppercase(), render::Value::from_json(value));
    }
    let path = |path: &Path| json!(path.display().to_string());
    let values = json!({
        "WHICH": options.command, "FULL_REFRESH": options.full_refresh, "STORE_FAILURES": options.store_failures,
        "EMPTY": options.empty, "FAIL_FAST": options.fail_fast, "WARN_ERROR": options.warn_error,
        "QUIET": options.quiet, "USE_COLORS": false, "DEBUG": false, "VERSION_CHECK": true, "PARTIAL_PARSE": false,
        "STATIC_PARSER": true, "USE_EXPERIMENTAL_PARSER": false, "WRITE_JSON": settings.write_json, "INTROSPECT": true,
        "CACHE_SELECTED_ONLY": false, "INDIRECT_SELECTION": "eager", "LOG_CACHE_EVENTS": false,
        "SEND_ANONYMOUS_USAGE_STATS": false, "PRINT": settings.print, "PRINTER_WIDTH": 80, "TARGET": target.name,
        "PROFILE": target.profile_name, "PROJECT_DIR": path(&settings.project_dir),
        "PROFILES_DIR": settings.profiles_dir.as_deref().map(&path),
        "TARGET_PATH": settings.target_path.as_deref().map(&path), "THREADS": settings.threads,
        "VARS": settings.vars
    });
    if let Value::Object(values) = values {
        for (name, value) in values {
            flags.insert(name, render::Value::from_json(&value));
        }
    }
    flags
}
