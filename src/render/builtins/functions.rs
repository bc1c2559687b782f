//! Functions without a project behind them: Python's and Jinja2's (`range`, `dict`, `zip`, `set`), dbt's (`log`,
//! `tojson`, `local_md5`), `exceptions`, `flags` and `validation`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use md5::{Digest as _, Md5};
use parking_lot::RwLock;

use super::{
    super::{
        Arguments, ErrorKind, Interpreter, Map, Object, RenderError, Value,
        operators::{self, iterate, type_error},
    },
    Namespace, calls, json, module, native,
};

/// Functions that every context has.
pub(super) fn function(name: &str) -> Option<Value> {
    Some(match name {
        "log" => native("log", log),
        "print" => native("print", |interpreter, arguments| {
            let [message] = arguments.bind("print", ["msg"], 1)?;
            if interpreter.environment.invocation.flags.get("PRINT").is_some_and(|flag| !flag.is_true()) {
                return Ok(Value::str(""));
            }
            let message = scrub(interpreter, &message.unwrap_or_default().text());
            interpreter.services.events.print(&interpreter.node, &message);
            Ok(Value::str(""))
        }),
        "range" => native("range", range),
        "dict" => native("dict", |interpreter, arguments| {
            let dict = Value::dict(Map::new());
            interpreter.call_method(&dict, "update", arguments)?;
            Ok(dict)
        }),
        "namespace" => native("namespace", |interpreter, arguments| {
            let dict = Value::dict(Map::new());
            interpreter.call_method(&dict, "update", arguments)?;
            let Value::Dict(map) = dict else { return Ok(Value::None) };
            let names = map.read_recursive().clone();
            Ok(Value::object(Namespace { names: RwLock::new(names) }))
        }),
        "cycler" => native("cycler", |_, arguments| {
            if arguments.positional.is_empty() {
                return Err(type_error("at least one item has to be provided"));
            }
            Ok(Value::object(Cycler { items: arguments.positional, position: AtomicUsize::new(0) }))
        }),
        "joiner" => native("joiner", |_, arguments| {
            let [separator] = arguments.bind("joiner", ["sep"], 0)?;
            Ok(Value::object(Joiner { separator: separator.unwrap_or_else(|| ", ".into()), used: AtomicUsize::new(0) }))
        }),
        "lipsum" => native("lipsum", |_, _| Ok(Value::str("Lorem ipsum dolor sit amet."))),
        "fromjson" => native("fromjson", |_, arguments| {
            let [text, default] = arguments.bind("fromjson", ["string", "default"], 1)?;
            let text = text.unwrap_or_default();
            operators::defined(&text)?;
            let Value::Str(text) = text else {
                return Err(type_error(format!(
                    "the JSON object must be str, bytes or bytearray, not {}",
                    text.type_name()
                )));
            };
            Ok(json::parse_json(&text).unwrap_or_else(|| default.unwrap_or_default()))
        }),
        "tojson" => native("tojson", |_, arguments| {
            let [value, _default, sort] = arguments.bind("tojson", ["value", "default", "sort_keys"], 1)?;
            let sort = sort.is_some_and(|sort| sort.is_true());
            json::json_text(&value.unwrap_or_default(), None, sort).map(Value::str)
        }),
        "fromyaml" => native("fromyaml", |_, arguments| {
            let [text, default] = arguments.bind("fromyaml", ["value", "default"], 1)?;
            let text = text.unwrap_or_default().text();
            Ok(json::parse_yaml(&text).unwrap_or_else(|| default.unwrap_or_default()))
        }),
        "toyaml" => native("toyaml", |_, arguments| {
            let [value, default, sort] = arguments.bind("toyaml", ["value", "default", "sort_keys"], 1)?;
            let sort = sort.is_some_and(|sort| sort.is_true());
            let text = json::yaml_text(&value.unwrap_or_default(), sort);
            Ok(text.map_or_else(|| default.unwrap_or_default(), Value::str))
        }),
        // The strict forms answer no default.
        "set_strict" => native("set_strict", |_, arguments| {
            let [items] = arguments.bind("set_strict", ["value"], 1)?;
            Ok(Value::set(iterate(&items.unwrap_or_default())?))
        }),
        "zip_strict" => native("zip_strict", |interpreter, arguments| {
            if let Some(wrong) = arguments.positional.iter().find(|argument| argument.iterate().is_none()) {
                return Err(type_error(format!("'{}' object is not iterable", wrong.type_name())));
            }
            zip(interpreter, arguments)
        }),
        "set" => native("set", |_, arguments| {
            let [items, default] = arguments.bind("set", ["value", "default"], 1)?;
            let items = items.unwrap_or_default();
            match items.iterate() {
                Some(items) if items.iter().all(Value::is_hashable) => Ok(Value::set(items)),
                _ => match default {
                    Some(default) => Ok(default),
                    None => Ok(Value::None),
                },
            }
        }),
        "zip" => native("zip", zip),
        "local_md5" => native("local_md5", |_, arguments| {
            let [text] = arguments.bind("local_md5", ["value"], 1)?;
            let text = text.unwrap_or_default();
            let Value::Str(text) = &text else {
                operators::defined(&text)?;
                return Err(type_error(format!("'{}' object has no attribute 'encode'", text.type_name())));
            };
            let digest = Md5::digest(text.as_bytes());
            Ok(Value::str(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        }),
        "diff_of_two_dicts" => native("diff_of_two_dicts", diff_of_two_dicts),
        _ => return None,
    })
}

/// Values of secret environment variables become `*****`.
pub(super) fn scrub(interpreter: &Interpreter<'_>, text: &str) -> String {
    let variables = &interpreter.environment.invocation.environment_variables;
    let mut out = text.to_owned();
    for (name, value) in variables.iter() {
        if name.starts_with(calls::SECRET_PREFIX) && !value.is_empty() && out.contains(value.as_str()) {
            out = out.replace(value.as_str(), "*****");
        }
    }
    out
}

fn log(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [message, info] = arguments.bind("log", ["msg", "info"], 1)?;
    let message = scrub(interpreter, &message.unwrap_or_default().text());
    interpreter.services.events.log(&interpreter.node, &message, info.is_some_and(|info| info.is_true()));
    Ok(Value::str(""))
}

fn range(_interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let numbers = arguments
        .positional
        .iter()
        .map(|argument| {
            operators::defined(argument)?;
            argument.as_int().ok_or_else(|| {
                type_error(format!("'{}' object cannot be interpreted as an integer", argument.type_name()))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (start, stop, step) = match numbers[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] => (start, stop, step),
        _ => return Err(type_error(format!("range expected 1 to 3 arguments, got {}", numbers.len()))),
    };
    if step == 0 {
        return Err(RenderError::compilation("range() arg 3 must not be zero"));
    }
    let length = ((stop - start) as f64 / step as f64).ceil().max(0.0);
    // Jinja2's sandbox sets the same limit.
    if length > 100_000.0 {
        return Err(RenderError::compilation(
            "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).",
        ));
    }
    let mut items = Vec::with_capacity(length as usize);
    let mut current = start;
    while if step > 0 { current < stop } else { current > stop } {
        items.push(Value::Int(current));
        current += step;
    }
    Ok(Value::list(items))
}

fn zip(_interpreter: &mut Interpreter<'_>, mut arguments: Arguments) -> Result<Value, RenderError> {
    let default = arguments.take_keyword("default");
    let mut columns = Vec::with_capacity(arguments.positional.len());
    for argument in &arguments.positional {
        match (argument.iterate(), &default) {
            (Some(items), _) => columns.push(items),
            (None, Some(default)) => return Ok(default.clone()),
            (None, None) => return Ok(Value::None),
        }
    }
    let length = columns.iter().map(Vec::len).min().unwrap_or(0);
    Ok(Value::list(
        (0..length).map(|index| Value::tuple(columns.iter().map(|column| column[index].clone()).collect())).collect(),
    ))
}

fn diff_of_two_dicts(_interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [left, right] = arguments.bind("diff_of_two_dicts", ["dict_a", "dict_b"], 2)?;
    let (Some(Value::Dict(left)), Some(Value::Dict(right))) = (left, right) else {
        return Err(type_error("diff_of_two_dicts() takes two dicts"));
    };
    let lower = |value: &Value| value.text().to_lowercase();
    let mut lowered = std::collections::HashMap::new();
    for (key, values) in right.read_recursive().iter() {
        lowered.insert(lower(&key.0), iterate(values)?.iter().map(lower).collect::<Vec<_>>());
    }
    let mut result = Map::new();
    for (key, values) in left.read_recursive().iter() {
        match lowered.get(&lower(&key.0)) {
            Some(known) => {
                let rest: Vec<_> =
                    iterate(values)?.into_iter().filter(|value| !known.contains(&lower(value))).collect();
                if !rest.is_empty() {
                    result.insert(key.clone(), Value::list(rest));
                }
            }
            None => {
                result.insert(key.clone(), values.clone());
            }
        }
    }
    Ok(Value::dict(result))
}

struct Cycler {
    items: Vec<Value>,
    position: AtomicUsize,
}

impl Object for Cycler {
    fn type_name(&self) -> &str {
        "Cycler"
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let position = self.position.load(Ordering::Relaxed);
        Ok((name == "current").then(|| self.items[position % self.items.len()].clone()))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        _arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok(match name {
            "next" => {
                let position = self.position.fetch_add(1, Ordering::Relaxed);
                Some(self.items[position % self.items.len()].clone())
            }
            "reset" => {
                self.position.store(0, Ordering::Relaxed);
                Some(Value::None)
            }
            _ => None,
        })
    }
}

struct Joiner {
    separator: Value,
    used: AtomicUsize,
}

impl Object for Joiner {
    fn type_name(&self) -> &str {
        "Joiner"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn call(self: Arc<Self>, _arguments: Arguments, _interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        Ok(if self.used.fetch_add(1, Ordering::Relaxed) == 0 { "".into() } else { self.separator.clone() })
    }
}

/// The filters `as_bool`, `as_number`, `as_native` and `as_text`: the type of a rendered YAML value.
pub(crate) fn native_marker(interpreter: &Interpreter<'_>, name: &str, value: Value) -> Result<Value, RenderError> {
    if !interpreter.native {
        return Ok(value);
    }
    if name == "as_text" {
        return Ok(Value::Str(value.text()));
    }
    let parsed = match &value {
        Value::Str(text) => literal(text).unwrap_or_else(|| value.clone()),
        other => other.clone(),
    };
    let wanted = match (name, &parsed) {
        ("as_bool", Value::Bool(_)) | ("as_number", Value::Int(_) | Value::Float(_)) | ("as_native", _) => {
            return Ok(parsed);
        }
        ("as_bool", _) => "bool",
        _ => "number",
    };
    Err(RenderError::compilation(format!("Could not convert value '{}' into type '{wanted}'", value.text())))
}

/// Python's `ast.literal_eval`, for constants and containers of them.
pub(crate) fn literal(text: &str) -> Option<Value> {
    let text = text.trim();
    match text {
        "True" => return Some(Value::Bool(true)),
        "False" => return Some(Value::Bool(false)),
        "None" => return Some(Value::None),
        "true" | "false" | "none" => return None,
        _ => {}
    }
    if let Some(number) = super::super::filters::parse_int(text, 10) {
        return Some(Value::Int(number));
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))
        && let Some(number) = super::super::filters::parse_float(text)
    {
        return Some(Value::Float(number));
    }
    if text.starts_with(['[', '{', '(', '\'', '"']) {
        return super::super::parse::constant(text);
    }
    None
}

/// `exceptions.*`.
pub(super) fn exceptions() -> Value {
    fn message(arguments: Arguments) -> Result<String, RenderError> {
        let [message, _node] = arguments.bind("raise", ["msg", "node"], 1)?;
        Ok(message.unwrap_or_default().text().to_string())
    }
    module(vec![
        (
            "raise_compiler_error",
            native("raise_compiler_error", |_, arguments| Err(RenderError::compilation(message(arguments)?))),
        ),
        (
            "raise_database_error",
            native("raise_database_error", |_, arguments| Err(RenderError::database(message(arguments)?))),
        ),
        (
            "raise_not_implemented",
            native("raise_not_implemented", |_, arguments| {
                Err(RenderError::compilation(format!("ERROR: {}", message(arguments)?)))
            }),
        ),
        (
            "raise_dependency_error",
            native("raise_dependency_error", |interpreter, arguments| {
                Err(RenderError::new(ErrorKind::Dependency, scrub(interpreter, &message(arguments)?)))
            }),
        ),
        (
            "raise_fail_fast_error",
            native("raise_fail_fast_error", |_, arguments| {
                Err(RenderError::new(ErrorKind::FailFast, message(arguments)?))
            }),
        ),
        (
            "warn",
            native("warn", |interpreter, arguments| {
                let message = scrub(interpreter, &message(arguments)?);
                interpreter.services.events.warn(&interpreter.node, &message)?;
                Ok(Value::str(""))
            }),
        ),
        (
            "warn_snapshot_timestamp_data_types",
            native("warn_snapshot_timestamp_data_types", |interpreter, arguments| {
                let [snapshot, updated] = arguments.bind(
                    "warn_snapshot_timestamp_data_types",
                    ["snapshot_time_data_type", "updated_at_data_type"],
                    2,
                )?;
                let message = format!(
                    "Data type of snapshot table timestamp columns ({}) doesn't match derived column 'updated_at' ({}).",
                    snapshot.unwrap_or_default(),
                    updated.unwrap_or_default()
                );
                interpreter.services.events.warn(&interpreter.node, &message)?;
                Ok(Value::str(""))
            }),
        ),
        (
            "missing_config",
            native("missing_config", |_, arguments| {
                let [model, name] = arguments.bind("missing_config", ["model", "name"], 2)?;
                let id = model.unwrap_or_default().get("unique_id").unwrap_or_default();
                Err(RenderError::compilation(format!(
                    "Model '{id}' does not define a required config parameter '{}'.",
                    name.unwrap_or_default()
                )))
            }),
        ),
        (
            "missing_relation",
            native("missing_relation", |_, arguments| {
                let [relation, _model] = arguments.bind("missing_relation", ["relation", "model"], 1)?;
                Err(RenderError::compilation(format!("Relation {} not found!", relation.unwrap_or_default())))
            }),
        ),
        (
            "missing_materialization",
            native("missing_materialization", |_, arguments| {
                let [model, adapter] = arguments.bind("missing_materialization", ["model", "adapter_type"], 2)?;
                let materialized = model
                    .and_then(|model| model.get("config"))
                    .and_then(|config| config.get("materialized"))
                    .unwrap_or_default();
                Err(RenderError::compilation(format!(
                    "No materialization '{materialized}' was found for adapter {}! (searched types 'default' and \
                     'clickhouse')",
                    adapter.unwrap_or_default()
                )))
            }),
        ),
        (
            "relation_wrong_type",
            native("relation_wrong_type", |interpreter, arguments| {
                let [relation, expected, _model] =
                    arguments.bind("relation_wrong_type", ["relation", "expected_type", "model"], 2)?;
                let relation = relation.unwrap_or_default();
                let kind = interpreter.attribute(&relation, "type")?;
                let expected = expected.unwrap_or_default();
                Err(RenderError::compilation(format!(
                    "Trying to create {expected} {relation}, but it currently exists as a {kind}. Either drop {relation} \
                     manually, or run dbt with `--full-refresh` and dbt will drop it for you."
                )))
            }),
        ),
        (
            "column_type_missing",
            native("column_type_missing", |_, arguments| {
                let [columns] = arguments.bind("column_type_missing", ["column_names"], 1)?;
                Err(RenderError::compilation(format!(
                    "Contracted models require data_type to be defined for each column. Please ensure that the column \
                     name and data_type are defined within the YAML configuration for the {} column(s).",
                    columns.unwrap_or_default()
                )))
            }),
        ),
        ("raise_contract_error", native("raise_contract_error", contract_error)),
        (
            "raise_invalid_property_yml_version",
            native("raise_invalid_property_yml_version", |_, arguments| {
                let [path, issue] = arguments.bind("raise_invalid_property_yml_version", ["path", "issue"], 2)?;
                Err(RenderError::compilation(format!(
                    "The yml property file at {} is invalid because {}.",
                    path.unwrap_or_default(),
                    issue.unwrap_or_default()
                )))
            }),
        ),
    ])
}

/// The table of differences between a contract and what a model selects.
fn contract_error(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [yaml, sql] = arguments.bind("raise_contract_error", ["yaml_columns", "sql_columns"], 2)?;
    let mut read = |columns: Option<Value>| {
        let mut found = Vec::new();
        for column in iterate(&columns.unwrap_or_default())? {
            let name = interpreter.item(&column, &"name".into())?.text().to_string();
            let kind = interpreter.item(&column, &"data_type".into())?.text().to_string();
            found.push((name, kind));
        }
        Ok::<_, RenderError>(found)
    };
    let (yaml, sql) = (read(yaml)?, read(sql)?);
    let mut rows = vec![[
        "column_name".to_owned(),
        "definition_type".to_owned(),
        "contract_type".to_owned(),
        "mismatch_reason".to_owned(),
    ]];
    let mut names: Vec<&String> = yaml.iter().chain(&sql).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let kind = |columns: &[(String, String)]| {
            columns.iter().find(|(known, _)| known == name).map(|(_, kind)| kind.clone())
        };
        let (contract, definition) = (kind(&yaml), kind(&sql));
        let reason = match (&contract, &definition) {
            (Some(contract), Some(definition)) if contract.eq_ignore_ascii_case(definition) => continue,
            (Some(_), Some(_)) => "data type mismatch",
            (Some(_), None) => "missing in definition",
            (None, _) => "missing in contract",
        };
        rows.push([name.clone(), definition.unwrap_or_default(), contract.unwrap_or_default(), reason.to_owned()]);
    }
    let widths: Vec<usize> =
        (0..4).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut table = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        table.push(line(row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect()));
        if index == 0 {
            table.push(line(widths.iter().map(|width| "-".repeat(*width)).collect()));
        }
    }
    Err(RenderError::new(
        ErrorKind::Contract,
        format!(
            "This model has an enforced contract that failed.\nPlease ensure the name, data_type, and number of columns in \
             your contract match the columns in your model's definition.\n\n{}",
            table.join("\n")
        ),
    ))
}

/// `flags.*`, by dbt's names in capitals.
pub(super) struct Flags;

impl Object for Flags {
    fn type_name(&self) -> &str {
        "Namespace"
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let invocation = &interpreter.environment.invocation;
        Ok(invocation
            .flags
            .get(name)
            .or_else(|| invocation.flags.get(&name.to_uppercase()))
            .cloned()
            .or_else(|| (name == "FULL_REFRESH").then(|| Value::Bool(invocation.full_refresh))))
    }

    fn item(&self, key: &Value, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        self.attribute(&key.text(), interpreter)
    }
}

/// `validation.any(…)`: a function that fails for values that are none of these.
pub(super) fn validation() -> Value {
    module(vec![("any", native("any", |_, arguments| Ok(Value::object(AnyOf { allowed: arguments.positional }))))])
}

struct AnyOf {
    allowed: Vec<Value>,
}

impl Object for AnyOf {
    fn type_name(&self) -> &str {
        "function"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn call(self: Arc<Self>, arguments: Arguments, _interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        let [value] = arguments.bind("inner", ["value"], 1)?;
        let value = value.unwrap_or_default();
        if self.allowed.contains(&value) || self.allowed.iter().any(Value::is_undefined) {
            return Ok(Value::None);
        }
        let allowed: Vec<_> = self.allowed.iter().map(|value| value.text().to_string()).collect();
        Err(RenderError::new(
            ErrorKind::Validation,
            format!("Expected value \"{value}\" to be one of {}", allowed.join(",")),
        ))
    }
}

pub(super) fn try_or_compiler_error(
    interpreter: &mut Interpreter<'_>,
    mut arguments: Arguments,
) -> Result<Value, RenderError> {
    if arguments.positional.len() < 2 {
        return Err(type_error("try_or_compiler_error() takes a message and a function"));
    }
    let message = arguments.positional.remove(0);
    let function = arguments.positional.remove(0);
    interpreter.call(&function, arguments).map_err(|_| RenderError::compilation(message.text().to_string()))
}
