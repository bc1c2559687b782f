//! The members of dbt's context by name: `ref`, `source`, `config`, `var`, `env_var`, `this`, `target`, `execute`, … with
//! their meaning in each phase.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{
    super::{
        Arguments, Interpreter, Object, Phase, RefCall, Relation, RenderError, Resolved, Source, SourceCall, Value,
        Version, operators, parse::parse,
    },
    Context, adapter, datetime, functions, itertools, module, native, pytz, regex,
    relation::{self, relation_value},
};

/// Marks variables that only their default answered, as dbt's manifest does.
const DEFAULT_PLACEHOLDER: &str = "DBT_DEFAULT";
/// Variables with this prefix are never shown.
pub(super) const SECRET_PREFIX: &str = "DBT_ENV_SECRET";

/// A member of the full context (models, tests, hooks, macros).
pub(super) fn member(interpreter: &mut Interpreter<'_>, name: &str) -> Result<Option<Value>, RenderError> {
    let environment = interpreter.environment;
    Ok(Some(match name {
        "ref" => native("ref", reference),
        "source" => native("source", source),
        "config" => Value::object(Config),
        "var" => Value::object(Var),
        "this" => match &interpreter.node.this {
            Some(relation) => relation_value(relation.clone()),
            None => Value::None,
        },
        "defer_relation" => match &interpreter.node.defer_relation {
            Some(relation) => relation_value(relation.clone()),
            None => Value::None,
        },
        "execute" => Value::Bool(interpreter.phase.executes()),
        "model" => interpreter.node.model.clone(),
        "target" | "env" => environment.target.clone(),
        "schema" => match interpreter.node.this.as_ref().and_then(|this| this.schema.clone()) {
            Some(schema) => Value::str(schema),
            None => environment.target.get("schema").unwrap_or_default(),
        },
        "database" => Value::str(""),
        "adapter" => adapter::adapter(interpreter),
        "api" => cached(interpreter, "api", |_| {
            module(vec![("Relation", relation::relation_class()), ("Column", relation::column_class())])
        }),
        "column" => relation::column_class(),
        "exceptions" => cached(interpreter, "exceptions", |_| functions::exceptions()),
        "graph" => match interpreter.services.resolve {
            Some(resolve) => resolve.graph(),
            None => Value::dict(IndexMap::new()),
        },
        "selected_resources" => match interpreter.services.resolve {
            Some(resolve) => Value::from(resolve.selected_resources()),
            None => Value::list(Vec::new()),
        },
        "metric" => native("metric", metric),
        "function" => native("function", |_, _| {
            Err(RenderError::not_supported("chpipe does not support function(): user-defined functions"))
        }),
        "submit_python_job" => native("submit_python_job", |_, _| {
            Err(RenderError::not_supported("Python models do not run on ClickHouse"))
        }),
        "adapter_macro" => native("adapter_macro", |_, _| {
            Err(RenderError::compilation(
                "The \"adapter_macro\" macro has been deprecated. Instead, use the `adapter.dispatch` method to find a macro \
                 and call the result.",
            ))
        }),
        "sql" | "compiled_code" => match interpreter.node.model.get("compiled_code") {
            Some(sql) if interpreter.phase.executes() => sql,
            _ => Value::None,
        },
        "sql_now" => Value::str("now()"),
        "pre_hooks" | "post_hooks" => match interpreter.node.config.get(&name.replace("_hooks", "-hook")) {
            Some(hooks @ Value::List(_)) => hooks,
            _ => Value::list(Vec::new()),
        },
        "load_result" => native("load_result", adapter::load_result),
        "store_result" => native("store_result", adapter::store_result),
        "store_raw_result" => native("store_raw_result", adapter::store_raw_result),
        "load_agate_table" => native("load_agate_table", adapter::load_agate_table),
        "write" => native("write", |interpreter, arguments| {
            let [payload] = arguments.bind("write", ["payload"], 1)?;
            interpreter.services.events.write(&interpreter.node, &payload.unwrap_or_default().text());
            Ok(Value::str(""))
        }),
        "render" => native("render", |interpreter, arguments| {
            let [text] = arguments.bind("render", ["string"], 1)?;
            render_nested(interpreter, &text.unwrap_or_default().text())
        }),
        "validation" => cached(interpreter, "validation", |_| functions::validation()),
        "try_or_compiler_error" => native("try_or_compiler_error", functions::try_or_compiler_error),
        "context" => Value::object(Context { members_only: false }),
        "builtins" => Value::object(Context { members_only: true }),
        "doc" => native("doc", doc),
        "env_var" => native("env_var", env_var),
        "project_name" => Value::str(environment.project_name.as_str()),
        "invocation_args_dict" => environment.invocation.arguments.clone(),
        "flags" => Value::object(functions::Flags),
        "run_started_at" => datetime::utc_value(environment.invocation.started_at),
        "invocation_id" => Value::str(environment.invocation.id.as_str()),
        "dbt_metadata_envs" => Value::record(
            environment
                .invocation
                .environment_variables
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.strip_prefix("DBT_ENV_CUSTOM_ENV_")?.to_owned(), Value::str(value.as_str())))
                })
                .collect::<Vec<_>>(),
        ),
        "dbt_version" => Value::str(environment.invocation.dbt_version.as_str()),
        _ => return basic(interpreter, name),
    }))
}

/// A member of the small contexts of YAML files.
pub(super) fn yaml_member(interpreter: &mut Interpreter<'_>, name: &str) -> Result<Option<Value>, RenderError> {
    let Some(yaml) = &interpreter.yaml else { return Ok(None) };
    if let Some((_, value)) = yaml.extra.iter().find(|(known, _)| known == name) {
        return Ok(Some(value.clone()));
    }
    Ok(Some(match name {
        "target" | "env" if !yaml.target.is_none() => yaml.target.clone(),
        "var" => Value::object(Var),
        "env_var" => native("env_var", env_var),
        "project_name" => match &yaml.project_name {
            Some(name) => Value::str(name.as_str()),
            None => return Ok(None),
        },
        "dbt_version" => Value::str(yaml.dbt_version.as_str()),
        "context" => Value::object(Context { members_only: false }),
        "flags" => Value::object(functions::Flags),
        "run_started_at" => datetime::utc_value(interpreter.environment.invocation.started_at),
        "invocation_id" => Value::str(interpreter.environment.invocation.id.as_str()),
        _ => return basic(interpreter, name),
    }))
}

/// What every context has, and Jinja2's globals.
fn basic(interpreter: &mut Interpreter<'_>, name: &str) -> Result<Option<Value>, RenderError> {
    Ok(Some(match name {
        "return" => native("return", |interpreter, arguments| {
            let [value] = arguments.bind("_return", ["data"], 1)?;
            Err(interpreter.return_value(value.unwrap_or_default()))
        }),
        "modules" => cached(interpreter, "modules", |interpreter| {
            module(vec![
                ("datetime", datetime::module(interpreter)),
                ("re", regex::module()),
                ("pytz", pytz::module()),
                ("itertools", itertools::module()),
            ])
        }),
        "thread_id" => Value::str(std::thread::current().name().unwrap_or("MainThread")),
        other => match functions::function(other) {
            Some(function) => function,
            None => return Ok(None),
        },
    }))
}

fn cached(
    interpreter: &mut Interpreter<'_>,
    name: &'static str,
    make: impl FnOnce(&mut Interpreter<'_>) -> Value,
) -> Value {
    if let Some(value) = interpreter.cache.get(name) {
        return value.clone();
    }
    let value = make(interpreter);
    interpreter.cache.insert(name, value.clone());
    value
}

/// Renders text inside of a rendering, with the same context and no local names.
pub(super) fn render_nested(interpreter: &mut Interpreter<'_>, text: &str) -> Result<Value, RenderError> {
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return Ok(Value::str(text));
    }
    let path = interpreter.node.path.clone();
    let template = parse(Source::file(text, &path))?;
    interpreter.render_inner(&template).map(Value::str)
}

// ---- ref and source --------------------------------------------------------------------------------------------------

fn string_argument(function: &str, what: &str, value: &Value) -> Result<String, RenderError> {
    value.as_str().map(str::to_owned).ok_or_else(|| {
        RenderError::compilation(format!(
            "The {what} to {function}() must be a string, got <class '{}'>",
            value.type_name()
        ))
    })
}

fn reference(interpreter: &mut Interpreter<'_>, mut arguments: Arguments) -> Result<Value, RenderError> {
    let version = match arguments.take_keyword("version") {
        Some(version) if version.is_true() => Some(version),
        _ => arguments.take_keyword("v").filter(Value::is_true),
    };
    let (package, name) = match &arguments.positional[..] {
        [name] => (None, name),
        [package, name] => (Some(package), name),
        other => {
            return Err(RenderError::compilation(format!("ref() takes at most two arguments ({} given)", other.len())));
        }
    };
    let package = match package {
        None | Some(Value::None) => None,
        Some(package) => Some(string_argument("ref", "package argument", package)?),
    };
    let name = string_argument("ref", "name argument", name)?;
    let version = match version {
        None => None,
        Some(Value::Int(number)) => Some(Version::Number(i64::try_from(number).unwrap_or(0))),
        Some(Value::Float(number)) => Some(Version::Float(number)),
        Some(Value::Str(text)) => Some(Version::Text(text.to_string())),
        Some(other) => {
            return Err(RenderError::compilation(format!(
                "The version argument to ref() must be a string, int, float, or None - got <class '{}'>",
                other.type_name()
            )));
        }
    };
    let call = RefCall { package, name, version };
    interpreter.captured.refs.push(call.clone());
    if !interpreter.phase.executes() {
        return Ok(parse_time_relation(interpreter));
    }
    let Some(resolve) = interpreter.services.resolve else {
        return Err(RenderError::compilation(format!("ref('{}') cannot be used here", call.name)));
    };
    let resolved = resolve.resolve_ref(&interpreter.node, &call)?;
    Ok(relation_value(noted(interpreter, resolved)))
}

fn source(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [source, table] = &arguments.positional[..] else {
        return Err(RenderError::compilation(format!(
            "source() takes exactly two arguments ({} given)",
            arguments.positional.len()
        )));
    };
    let call = SourceCall {
        source: string_argument("source", "source name (first) argument", source)?,
        table: string_argument("source", "table name (second) argument", table)?,
    };
    interpreter.captured.sources.push(call.clone());
    if !interpreter.phase.executes() {
        return Ok(parse_time_relation(interpreter));
    }
    let Some(resolve) = interpreter.services.resolve else {
        return Err(RenderError::compilation(format!(
            "source('{}', '{}') cannot be used here",
            call.source, call.table
        )));
    };
    let resolved = resolve.resolve_source(&interpreter.node, &call)?;
    Ok(relation_value(noted(interpreter, resolved)))
}

/// The relation; where it is a CTE (an ephemeral model, or an input of a unit test), that is noted.
fn noted(interpreter: &mut Interpreter<'_>, resolved: Resolved) -> Relation {
    if resolved.ephemeral && !interpreter.captured.ctes.contains(&resolved.unique_id) {
        interpreter.captured.ctes.push(resolved.unique_id);
    }
    resolved.relation
}

/// While parsing, `ref()` and `source()` answer the node's own relation, as dbt's do.
fn parse_time_relation(interpreter: &Interpreter<'_>) -> Value {
    relation_value(interpreter.node.this.clone().unwrap_or_else(|| {
        let schema = interpreter.environment.target.get("schema").map(|schema| schema.text().to_string());
        Relation::new(schema.unwrap_or_default(), interpreter.node.name.clone())
    }))
}

fn metric(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    interpreter.captured.metrics.push(arguments.positional.iter().map(|name| name.text().to_string()).collect());
    if interpreter.phase.executes() {
        return Err(RenderError::not_supported("chpipe does not support metric(): the semantic layer"));
    }
    Ok(arguments.positional.last().cloned().unwrap_or_default())
}

fn doc(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let (package, name) = match &arguments.positional[..] {
        [name] => (None, name.text().to_string()),
        [package, name] => (Some(package.text().to_string()), name.text().to_string()),
        other => {
            return Err(RenderError::compilation(format!("doc() takes one or two arguments ({} given)", other.len())));
        }
    };
    interpreter.captured.docs.push((package.clone(), name.clone()));
    let found = interpreter
        .services
        .resolve
        .and_then(|resolve| resolve.doc(&interpreter.node.package, package.as_deref(), &name));
    match found {
        Some(text) => Ok(Value::str(text)),
        None => {
            let place = package.map(|package| format!(" in package '{package}'")).unwrap_or_default();
            Err(RenderError::compilation(format!("Documentation for '{name}'{place} was not found")))
        }
    }
}

// ---- var and env_var -------------------------------------------------------------------------------------------------

struct Var;

impl Var {
    fn find(interpreter: &Interpreter<'_>, name: &str) -> Option<Value> {
        if let Some((_, value)) = interpreter.node.var_overrides.iter().find(|(known, _)| known == name) {
            return Some(value.clone());
        }
        Self::all(interpreter)?.get(name).map(Value::from_json)
    }

    fn all<'i>(interpreter: &'i Interpreter<'_>) -> Option<&'i serde_json::Map<String, serde_json::Value>> {
        if let Some(yaml) = &interpreter.yaml {
            return Some(&yaml.vars);
        }
        let vars = &interpreter.environment.vars;
        vars.get(&interpreter.node.package)
            .or_else(|| vars.get(&interpreter.environment.project_name))
            .or_else(|| vars.get(""))
            .map(Arc::as_ref)
    }
}

impl Object for Var {
    fn type_name(&self) -> &str {
        "Var"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn has_method(&self, name: &str) -> bool {
        name == "has_var"
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        if name != "has_var" {
            return Ok(None);
        }
        let [name] = arguments.clone().bind("has_var", ["var_name"], 1)?;
        Ok(Some(Value::Bool(Self::find(interpreter, &name.unwrap_or_default().text()).is_some())))
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        let [name, default] = arguments.bind("var", ["var_name", "default"], 1)?;
        let name = name.unwrap_or_default().text();
        let found = Self::find(interpreter, &name);
        interpreter.captured.vars.insert(name.to_string(), found.as_ref().map(Value::to_json));
        match (found, default) {
            (Some(Value::Str(text)), _) => render_nested(interpreter, &text),
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default),
            (None, None) => {
                let required = match &interpreter.yaml {
                    Some(yaml) => yaml.require_vars,
                    None => interpreter.phase != Phase::Parse,
                };
                if !required {
                    return Ok(Value::None);
                }
                let node = if interpreter.yaml.is_some() { "<Configuration>" } else { &interpreter.node.name };
                let vars = Self::all(interpreter).cloned().unwrap_or_default();
                let vars = serde_json::to_string_pretty(&vars).unwrap_or_default().replace("\n  ", "\n    ");
                Err(RenderError::compilation(format!(
                    "Required var '{name}' not found in config:\nVars supplied to {node} = {}",
                    functions::scrub(interpreter, &vars)
                )))
            }
        }
    }
}

fn env_var(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [name, default] = arguments.bind("env_var", ["var", "default"], 1)?;
    let name = name.unwrap_or_default();
    operators::defined(&name)?;
    let name = name.text();
    let secrets = interpreter.yaml.as_ref().is_some_and(|yaml| yaml.allow_secrets);
    if name.starts_with(SECRET_PREFIX) && !secrets {
        return Err(RenderError::parsing(format!(
            "Secret env vars are allowed only in profiles.yml or packages.yml. Found '{name}' referenced elsewhere."
        )));
    }
    if let Some((_, value)) = interpreter.node.env_var_overrides.iter().find(|(known, _)| **known == *name) {
        return Ok(Value::str(value.as_str()));
    }
    let variables = match &interpreter.yaml {
        Some(yaml) => &yaml.environment_variables,
        None => &interpreter.environment.invocation.environment_variables,
    };
    if let Some(value) = variables.get(&*name).cloned() {
        if !name.starts_with(SECRET_PREFIX) {
            interpreter.captured.env_vars.insert(name.to_string(), value.clone());
        }
        return Ok(Value::str(value));
    }
    match default.filter(|default| !default.is_none()) {
        Some(default) => {
            interpreter.captured.env_vars.insert(name.to_string(), DEFAULT_PLACEHOLDER.to_owned());
            Ok(default)
        }
        None => Err(RenderError::parsing(format!("Env var required but not provided: '{name}'"))),
    }
}

// ---- config ----------------------------------------------------------------------------------------------------------

/// `config(…)` and its methods.
struct Config;

impl Config {
    fn capture(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
        let mut options: Vec<(String, Value)> = match (&arguments.positional[..], &arguments.keywords[..]) {
            ([Value::Dict(map)], []) => {
                map.read_recursive().iter().map(|(key, value)| (key.0.text().to_string(), value.clone())).collect()
            }
            ([], [_, ..]) => arguments.keywords.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            _ if interpreter.phase != Phase::Parse => return Ok(Value::str("")),
            _ => return Err(RenderError::compilation("Invalid inline model config")),
        };
        if interpreter.phase != Phase::Parse {
            return Ok(Value::str(""));
        }
        for index in 0..options.len() {
            let new = match options[index].0.as_str() {
                "pre_hook" => "pre-hook",
                "post_hook" => "post-hook",
                _ => continue,
            };
            if options.iter().any(|(key, _)| key == new) {
                return Err(RenderError::compilation(format!(
                    "Invalid config, has conflicting keys \"{}\" and \"{new}\"",
                    options[index].0
                )));
            }
            options[index].0 = new.to_owned();
        }
        let options = options.into_iter().map(|(key, value)| (key, value.to_json())).collect();
        interpreter.captured.configs.push(options);
        Ok(Value::str(""))
    }

    /// `get`, `require` and their `meta_` kin.
    fn look_up(interpreter: &mut Interpreter<'_>, method: &str, arguments: Arguments) -> Result<Value, RenderError> {
        let required = method.ends_with("require");
        let (name, default, validator) = if required {
            let [name, validator] = arguments.bind(method, ["name", "validator"], 1)?;
            (name, None, validator)
        } else {
            let [name, default, validator] = arguments.bind(method, ["name", "default", "validator"], 1)?;
            (name, default, validator)
        };
        if interpreter.phase == Phase::Parse {
            return Ok(Value::str(""));
        }
        let name = name.unwrap_or_default().text();
        let config = if method.starts_with("meta") {
            interpreter.node.config.get("meta").unwrap_or_default()
        } else {
            interpreter.node.config.clone()
        };
        let found = match (config.get(&name), required) {
            (Some(value), _) => value,
            (None, true) => {
                return Err(RenderError::compilation(format!(
                    "Model '{}' does not define a required config parameter '{name}'.",
                    interpreter.node.unique_id
                )));
            }
            (None, false) => default.clone().unwrap_or_default(),
        };
        let validates = required || default.as_ref().is_some_and(|default| !default.is_none());
        if let Some(validator) = validator.filter(|validator| validates && !validator.is_none()) {
            interpreter.call(&validator, Arguments::positional(vec![found.clone()]))?;
        }
        Ok(found)
    }

    fn persists(interpreter: &Interpreter<'_>, what: &str) -> Result<Value, RenderError> {
        if interpreter.phase == Phase::Parse {
            return Ok(Value::Bool(false));
        }
        match interpreter.node.config.get("persist_docs").unwrap_or_default() {
            Value::None => Ok(Value::Bool(false)),
            docs @ Value::Dict(_) => Ok(docs.get(what).unwrap_or(Value::Bool(false))),
            other => Err(RenderError::compilation(format!(
                "Invalid value provided for 'persist_docs'. Expected dict but received <class '{}'>",
                other.type_name()
            ))),
        }
    }
}

impl Object for Config {
    fn type_name(&self) -> &str {
        "RuntimeConfigObject"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "get" | "require" | "set" | "meta_get" | "meta_require" | "persist_relation_docs" | "persist_column_docs"
        )
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(match name {
            "model" => Some(interpreter.node.model.clone()),
            _ => None,
        })
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        Self::capture(interpreter, arguments)
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let arguments = arguments.clone();
        Ok(Some(match name {
            "get" | "require" | "meta_get" | "meta_require" => Self::look_up(interpreter, name, arguments)?,
            "set" => {
                let [key, value] = arguments.bind("set", ["name", "value"], 2)?;
                let entry = Value::record([(key.unwrap_or_default().text(), value.unwrap_or_default())]);
                Self::capture(interpreter, Arguments::positional(vec![entry]))?
            }
            "persist_relation_docs" => Self::persists(interpreter, "relation")?,
            "persist_column_docs" => Self::persists(interpreter, "columns")?,
            _ => return Ok(None),
        }))
    }
}
