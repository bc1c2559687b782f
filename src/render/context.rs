//! What a template is rendered with: the environment of the invocation, the node, the phase, and the services behind
//! `ref`, `adapter` and `log`.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use indexmap::IndexMap;

use super::{
    Arguments, Macros, RefCall, Relation, RenderError, Resolve, Response, SourceCall, Table, Value, Warehouse,
    builtins, interpret::Interpreter, parse::parse,
};

/// Which of dbt's contexts a template gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the project: `execute` is false, `ref`, `source` and `config` are captured, the adapter answers as dbt's
    /// does while parsing (`None`, `[]`, `False`).
    Parse,
    /// `generate_*_name` macros: not executing, but variables are required.
    GenerateName,
    /// Model SQL with `execute` true: `ref` resolves and the adapter works.
    Compile,
    /// Materializations, hooks, tests: as compile, with the node's SQL known.
    Run,
    /// `run-operation` and on-run-start/end: `ref` needs no declared dependency.
    Operation,
}

impl Phase {
    /// The context's `execute`.
    pub fn executes(self) -> bool {
        matches!(self, Self::Compile | Self::Run | Self::Operation)
    }
}

/// What an invocation is, for `invocation_id`, `flags`, `run_started_at` and their like.
#[derive(Clone)]
pub struct Invocation {
    pub id: String,
    pub started_at: DateTime<Utc>,
    /// `modules.datetime.datetime.now()`; a value, so that tests choose it.
    pub clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// `dbt_version`: the version of dbt whose behaviour this is.
    pub dbt_version: String,
    /// `flags.*`, names in capitals as dbt has them (`FULL_REFRESH`, `WHICH`, `STORE_FAILURES`, `EMPTY`).
    pub flags: IndexMap<String, Value>,
    /// `invocation_args_dict`.
    pub arguments: Value,
    /// The process's environment, for `env_var`.
    pub environment_variables: Arc<HashMap<String, String>>,
    pub full_refresh: bool,
}

/// Everything that all nodes of an invocation share. Build it once and share it between threads.
#[derive(Clone)]
pub struct Environment {
    pub macros: Arc<Macros>,
    pub invocation: Invocation,
    /// The root project's name.
    pub project_name: String,
    /// Names of installed packages, root not included.
    pub dependencies: Vec<String>,
    /// `dispatch:` of dbt_project.yml: namespace to search order.
    pub dispatch: HashMap<String, Vec<String>>,
    /// The variables that `var()` sees, by the package of the node, already merged (command line over root project over
    /// package). The package "" is for everything else.
    pub vars: HashMap<String, Arc<serde_json::Map<String, serde_json::Value>>>,
    /// `target.*`: the output of profiles.yml without secrets, with `name`, `schema`, `type`, `threads`, `profile_name`.
    pub target: Value,
    /// `quoting` of the root project.
    pub quoting: Value,
    /// dbt-clickhouse's connection keys that decide how SQL is written.
    pub adapter: AdapterConfig,
    /// `builtins.ref.config`, dbt's RuntimeConfig.
    pub runtime_config: Value,
}

/// dbt-clickhouse's profile keys that macros ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdapterConfig {
    pub cluster: Option<String>,
    pub database_engine: Option<String>,
    pub local_suffix: String,
    pub local_db_prefix: String,
    pub use_lw_deletes: bool,
    pub allow_automatic_deduplication: bool,
    pub user: String,
    pub host: String,
    pub port: u16,
    pub secure: bool,
}

/// The node that a template belongs to.
#[derive(Clone, Default)]
pub struct NodeContext {
    /// `model.f1.stg_results`.
    pub unique_id: String,
    pub name: String,
    /// Whose macros and variables come first.
    pub package: String,
    /// `model`, `snapshot`, `test`, `operation`, `macro`, …
    pub resource_type: String,
    /// As dbt's `original_file_path`, for error texts.
    pub path: String,
    /// `model.*`: the node as the manifest writes it. [`Value::None`] while parsing is fine.
    pub model: Value,
    /// `config.get`: the node's final configuration, a dict. While parsing it is not read.
    pub config: Value,
    pub this: Option<Relation>,
    /// Relations that `ref()` and `source()` print while parsing; dbt prints `this` there too.
    pub defer_relation: Option<Relation>,
    /// Names for this rendering alone: `sql`, `pre_hooks`, `post_hooks`, `_dbt_generic_test_kwargs`, `results`, …
    pub extra: Vec<(String, Value)>,
    /// Unit tests: macros (`is_incremental`, `pkg.macro`) that answer a fixed value.
    pub macro_overrides: Vec<(String, Value)>,
    /// Unit tests: variables and environment variables over the real ones.
    pub var_overrides: Vec<(String, Value)>,
    pub env_var_overrides: Vec<(String, String)>,
}

/// Where messages go while a template runs.
pub trait Events: Send + Sync {
    /// `log(message, info)`.
    fn log(&self, node: &NodeContext, message: &str, info: bool);

    /// `print(message)`.
    fn print(&self, node: &NodeContext, message: &str);

    /// `exceptions.warn(message)`.
    ///
    /// # Errors
    /// Where warnings are errors (`--warn-error`).
    fn warn(&self, node: &NodeContext, message: &str) -> Result<(), RenderError>;

    /// `write(payload)`: the statement that `target/run` keeps.
    fn write(&self, _node: &NodeContext, _payload: &str) {}
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentEvents;

impl Events for SilentEvents {
    fn log(&self, _node: &NodeContext, _message: &str, _info: bool) {}

    fn print(&self, _node: &NodeContext, _message: &str) {}

    fn warn(&self, _node: &NodeContext, _message: &str) -> Result<(), RenderError> {
        Ok(())
    }
}

/// What a renderer may ask while it runs.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    pub resolve: Option<&'a dyn Resolve>,
    pub warehouse: Option<&'a dyn Warehouse>,
    pub events: &'a dyn Events,
}

/// A template and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub text: &'a str,
    /// For messages, relative to its package.
    pub path: &'a str,
    /// The line of `path` on which `text` begins, from 1.
    pub first_line: usize,
}

impl<'a> Source<'a> {
    /// A whole file.
    pub fn file(text: &'a str, path: &'a str) -> Self {
        Self { text, path, first_line: 1 }
    }
}

/// The calls that a rendering saw, in order, repeats included where dbt keeps them.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    pub refs: Vec<RefCall>,
    pub sources: Vec<SourceCall>,
    /// `metric()` calls.
    pub metrics: Vec<Vec<String>>,
    /// `config(…)` calls, one dict a call, keys `pre_hook` and `post_hook` already as `pre-hook` and `post-hook`.
    pub configs: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Variables asked for, with the value found (`None`: not defined).
    pub vars: IndexMap<String, Option<serde_json::Value>>,
    /// Environment variables asked for, with their value; dbt's placeholder where the default was taken.
    pub env_vars: IndexMap<String, String>,
    /// Unique ids of the macros called from the template itself (not from within macros): `depends_on.macros`.
    pub macros: Vec<String>,
    /// `doc()` calls, as (package, name).
    pub docs: Vec<(Option<String>, String)>,
    /// Unique ids of what `ref()` and `source()` met that stands as a CTE, in order, without repeats.
    pub ctes: Vec<String>,
}

/// A finished rendering.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub text: String,
    /// For each line of `text`, the line of the source file that wrote its first visible character (text from a macro
    /// counts for the line of the model that called it); 0 where unknown.
    pub lines: Vec<u32>,
}

/// Renders the templates of one node: text, hooks, macros. Results that `statement` and `store_result` keep and the
/// captured calls last as long as it does.
pub struct Renderer<'a> {
    interpreter: Interpreter<'a>,
}

impl<'a> Renderer<'a> {
    pub fn new(environment: &'a Environment, node: NodeContext, phase: Phase, services: Services<'a>) -> Self {
        Self { interpreter: Interpreter::new(environment, services, node, phase) }
    }

    /// Renders a template: model SQL, a hook, a test's SQL.
    ///
    /// # Errors
    /// dbt's kinds, with place and macro stack.
    pub fn render(&mut self, source: Source<'_>) -> Result<Rendered, RenderError> {
        let template = parse(source).map_err(|error| self.interpreter.named(error))?;
        self.interpreter.render(&template)
    }

    /// Renders a value that may be a template and keeps its Python type (`"{{ 1 }}"` is 1): configuration in hooks, test
    /// arguments.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn render_native(&mut self, source: Source<'_>) -> Result<Value, RenderError> {
        if !is_template(source.text) {
            return Ok(Value::str(source.text));
        }
        let template = parse(source).map_err(|error| self.interpreter.named(error))?;
        self.interpreter.render_native(&template)
    }

    /// The arguments of a generic test as dbt binds them: strings rendered natively, `ref('x')` and `var('y')` without
    /// braces as calls, `column_name` left as text.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn render_test_arguments(&mut self, arguments: &serde_json::Value) -> Result<Value, RenderError> {
        match arguments {
            serde_json::Value::Object(map) => {
                let mut rendered = super::Map::new();
                for (key, value) in map {
                    let value = match value {
                        serde_json::Value::String(text) if key == "column_name" => Value::str(text.as_str()),
                        other => self.render_argument(other)?,
                    };
                    rendered.insert(super::Key(Value::str(key.as_str())), value);
                }
                Ok(Value::dict(rendered))
            }
            other => self.render_argument(other),
        }
    }

    fn render_argument(&mut self, argument: &serde_json::Value) -> Result<Value, RenderError> {
        Ok(match argument {
            serde_json::Value::String(text) => {
                let path = self.interpreter.node.path.clone();
                if looks_like_call(text) {
                    let text = format!("{{{{ {text} }}}}");
                    return self.render_native(Source::file(&text, &path));
                }
                self.render_native(Source::file(text, &path))?
            }
            serde_json::Value::Array(items) => {
                Value::list(items.iter().map(|item| self.render_argument(item)).collect::<Result<_, _>>()?)
            }
            serde_json::Value::Object(map) => {
                let mut rendered = super::Map::new();
                for (key, value) in map {
                    rendered.insert(super::Key(Value::str(key.as_str())), self.render_argument(value)?);
                }
                Value::dict(rendered)
            }
            other => Value::from_json(other),
        })
    }

    /// Calls a macro by name: `generate_schema_name`, `dbt_utils.star`, `materialization_view_clickhouse`. Resolved from
    /// the node's package like a call in its SQL.
    ///
    /// # Errors
    /// There is no such macro, or as [`Renderer::render`].
    pub fn call_macro(
        &mut self,
        name: &str,
        positional: Vec<Value>,
        keywords: Vec<(String, Value)>,
    ) -> Result<Value, RenderError> {
        let environment = self.interpreter.environment;
        let found = match name.split_once('.') {
            Some((package, name)) => builtins::package_macro(&self.interpreter, package, name)
                .or_else(|| environment.macros.in_package(package, name)),
            None => environment.macros.find(&environment.project_name, &self.interpreter.node.package, name),
        };
        let Some(found) = found else {
            return Err(RenderError::runtime(format!(
                "dbt could not find a macro with the name '{name}' in any package"
            )));
        };
        let arguments = Arguments {
            positional,
            keywords: keywords.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        };
        let result = self.interpreter.call_registered(&Arc::clone(found), arguments);
        self.interpreter.end_of_template(result)
    }

    /// What the renderings so far captured; starts anew after that.
    pub fn take_captured(&mut self) -> Captured {
        std::mem::take(&mut self.interpreter.captured)
    }

    /// What `statement(name)` or `store_result(name)` kept last: the response and the table.
    pub fn result(&self, name: &str) -> Option<(Response, Arc<Table>)> {
        let stored = self.interpreter.kept.get(name)?;
        Some((stored.response.clone(), Arc::clone(&stored.table)))
    }

    /// Keeps a result as `statement(name)` does, for `load_result(name)`.
    pub fn store_result(&mut self, name: &str, response: &Response, table: Table) {
        builtins::keep_result(&mut self.interpreter, name, response, Arc::new(table));
    }

    /// Adds or replaces a name of the context (`sql`, `results`).
    pub fn set(&mut self, name: &str, value: Value) {
        let extra = &mut self.interpreter.node.extra;
        extra.retain(|(known, _)| known != name);
        extra.push((name.to_owned(), value));
    }

    pub fn node(&self) -> &NodeContext {
        &self.interpreter.node
    }

    /// Changes the node, as when its compiled SQL is known.
    pub fn node_mut(&mut self) -> &mut NodeContext {
        &mut self.interpreter.node
    }
}

/// dbt's quick look for anything to render.
fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#", "}}", "%}", "#}"].iter().any(|marker| text.contains(marker))
}

/// Test arguments such as `ref('x')` are calls without their braces.
fn looks_like_call(text: &str) -> bool {
    let text = text.trim();
    let Some(open) = text.find('(') else { return false };
    matches!(text[..open].trim_end(), "env_var" | "ref" | "var" | "source" | "doc")
        && text.ends_with(')')
        && text.len() > open + 2
}

/// The small contexts of YAML files: `env_var`, `var`, `target`, the functions without a project behind them.
#[derive(Clone, Default)]
pub struct YamlContext {
    pub environment_variables: Arc<HashMap<String, String>>,
    /// `var()`: the command line's in dbt_project.yml, profiles.yml and packages.yml; merged ones in properties files.
    pub vars: Arc<serde_json::Map<String, serde_json::Value>>,
    /// Missing variables are an error, not `None`.
    pub require_vars: bool,
    /// `target.*`; [`Value::None`] in profiles.yml and packages.yml.
    pub target: Value,
    /// DBT_ENV_SECRET_ variables may be read (profiles.yml, packages.yml); elsewhere they are an error.
    pub allow_secrets: bool,
    pub project_name: Option<String>,
    pub dbt_version: String,
    /// For `run_started_at`, `invocation_id`, `flags`.
    pub invocation: Option<Invocation>,
    /// Further names.
    pub extra: Vec<(String, Value)>,
}

impl Default for Invocation {
    fn default() -> Self {
        Self {
            id: String::new(),
            started_at: DateTime::UNIX_EPOCH,
            clock: Arc::new(|| DateTime::UNIX_EPOCH),
            dbt_version: String::new(),
            flags: IndexMap::new(),
            arguments: Value::dict(IndexMap::new()),
            environment_variables: Arc::default(),
            full_refresh: false,
        }
    }
}

impl Default for Environment {
    /// No macros, no project.
    fn default() -> Self {
        Self {
            macros: Arc::default(),
            invocation: Invocation::default(),
            project_name: String::new(),
            dependencies: Vec::new(),
            dispatch: HashMap::new(),
            vars: HashMap::new(),
            target: Value::dict(IndexMap::new()),
            quoting: Value::dict(IndexMap::new()),
            adapter: AdapterConfig::default(),
            runtime_config: Value::None,
        }
    }
}

/// Renders all strings of parsed YAML, keeping Python's types (`"{{ 1 }}"` is 1, `"{{ env_var('PORT') | as_number }}"` a
/// number). `keep` says which values are left as they are (hooks, `vars`, test arguments), by their keys from the top.
/// Answers the value and the variables it asked for.
///
/// # Errors
/// A template fails; the message names it, as dbt's.
pub fn render_yaml(
    yaml: &serde_json::Value,
    context: &YamlContext,
    keep: &dyn Fn(&[String]) -> bool,
) -> Result<(serde_json::Value, Captured), RenderError> {
    let environment =
        Environment { invocation: context.invocation.clone().unwrap_or_default(), ..Environment::default() };
    let services = Services { resolve: None, warehouse: None, events: &SilentEvents };
    let mut interpreter = Interpreter::new(&environment, services, NodeContext::default(), Phase::Compile);
    interpreter.yaml = Some(context.clone());
    let mut path = Vec::new();
    let rendered = render_json(&mut interpreter, yaml, keep, &mut path)?;
    Ok((rendered, std::mem::take(&mut interpreter.captured)))
}

fn render_json(
    interpreter: &mut Interpreter<'_>,
    json: &serde_json::Value,
    keep: &dyn Fn(&[String]) -> bool,
    path: &mut Vec<String>,
) -> Result<serde_json::Value, RenderError> {
    if keep(path) {
        return Ok(json.clone());
    }
    Ok(match json {
        serde_json::Value::String(text) if is_template(text) => {
            let rendered = parse(Source::file(text, ""))
                .and_then(|template| interpreter.render_native(&template))
                .and_then(|value| super::operators::defined(&value).map(|()| value));
            match rendered {
                Ok(value) => value.to_json(),
                Err(error) => {
                    let mut wrapped =
                        RenderError::new(error.kind, format!("Could not render {text}: {}", error.message));
                    wrapped.stack = error.stack;
                    return Err(wrapped);
                }
            }
        }
        serde_json::Value::Array(items) => {
            let mut rendered = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                rendered.push(render_json(interpreter, item, keep, path)?);
                path.pop();
            }
            serde_json::Value::Array(rendered)
        }
        serde_json::Value::Object(map) => {
            let mut rendered = serde_json::Map::with_capacity(map.len());
            for (key, value) in map {
                path.push(key.clone());
                rendered.insert(key.clone(), render_json(interpreter, value, keep, path)?);
                path.pop();
            }
            serde_json::Value::Object(rendered)
        }
        other => other.clone(),
    })
}

/// Puts ephemeral models before a compiled statement as CTEs, joining a `with` that is there already. `ctes` are
/// (`__dbt__cte__name`, SQL) in order of dependency.
pub fn inject_ctes(sql: &str, ctes: &[(String, String)]) -> String {
    if ctes.is_empty() {
        return sql.to_owned();
    }
    let joined = ctes.iter().map(|(name, sql)| format!(" {name} as (\n{sql}\n)")).collect::<Vec<_>>().join(", ");
    let start = sql.len() - sql.trim_start().len();
    let statement = skip_comments(sql, start);
    let is_word = |text: &str, word: &str| {
        text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
            && text[word.len()..].starts_with(|c: char| !c.is_alphanumeric() && c != '_')
    };
    if !is_word(&sql[statement..], "with") {
        return format!("{}with{joined} {}", &sql[..start], &sql[start..]);
    }
    let mut after = statement + "with".len();
    let next = skip_comments(sql, after);
    if is_word(&sql[next..], "recursive") {
        after = next + "recursive".len();
    }
    // dbt keeps the space after `with` before its own CTEs.
    let rest = sql[after..].trim_start();
    let space = &sql[after..sql.len() - rest.len()];
    format!("{}{space}{joined}, {rest}", &sql[..after])
}

/// The offset of the first text that is neither space nor comment.
fn skip_comments(sql: &str, from: usize) -> usize {
    let mut position = from;
    loop {
        let rest = &sql[position..];
        position += rest.len() - rest.trim_start().len();
        let rest = &sql[position..];
        if rest.starts_with("--") || rest.starts_with("#!") {
            position += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            position += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else {
            return position;
        }
    }
}
