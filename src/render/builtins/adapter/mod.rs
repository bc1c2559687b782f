//! `adapter`: dispatch, and what dbt-clickhouse's adapter offers to templates; and the results that `statement` keeps. While parsing it answers what dbt's does and asks no warehouse.

mod asking;
mod pure;
mod results;

use std::sync::Arc;

use self::{asking::asking, pure::pure};
use super::{
    super::{
        Arguments, Interpreter, Object, Relation, RenderError, Table, Value, Warehouse, WarehouseError,
        operators::type_error,
    },
    macro_value, package_macro,
    relation::{relation_class, relation_of},
    table::table_value,
};

pub(crate) use self::results::{keep_result, response_value};
pub(super) use self::results::{load_agate_table, load_result, store_raw_result, store_result};

/// In dbt's order: this adapter's macros before the default ones.
const PREFIXES: [&str; 2] = ["clickhouse", "default"];

struct Adapter;

pub(super) fn adapter(_interpreter: &Interpreter<'_>) -> Value {
    Value::object(Adapter)
}

/// The database's error as dbt shows it.
pub(crate) fn warehouse_error(error: WarehouseError) -> RenderError {
    let mut failure = RenderError::database(error.message);
    failure.sql = error.sql;
    failure
}

fn warehouse<'a>(interpreter: &Interpreter<'a>, method: &str) -> Result<&'a dyn Warehouse, RenderError> {
    interpreter
        .services
        .warehouse
        .ok_or_else(|| RenderError::runtime(format!("adapter.{method}() needs a connection, and there is none here")))
}

fn text(value: Option<Value>) -> String {
    value.filter(|value| !value.is_none()).map(|value| value.text().to_string()).unwrap_or_default()
}

fn relation(value: Option<Value>, method: &str) -> Result<Relation, RenderError> {
    let value = value.unwrap_or_default();
    super::super::operators::defined(&value)?;
    relation_of(&value)
        .ok_or_else(|| type_error(format!("adapter.{method}() takes a relation, got '{}'", value.type_name())))
}

fn dispatch(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [name, namespace, packages] = arguments.bind("dispatch", ["macro_name", "macro_namespace", "packages"], 1)?;
    let name = text(name);
    if let Some((package, name)) = name.split_once('.') {
        return Err(RenderError::compilation(format!(
            "In adapter.dispatch, got a macro name of \"{package}.{name}\", but \".\" is not a valid macro name component. \
             Did you mean `adapter.dispatch(\"{name}\", macro_namespace=\"{package}\")`?"
        )));
    }
    if packages.is_some_and(|packages| !packages.is_none()) {
        return Err(RenderError::compilation(format!(
            "The \"packages\" argument of adapter.dispatch() has been deprecated; use \"macro_namespace\" for '{name}'"
        )));
    }
    let namespace = match namespace {
        None | Some(Value::None) => None,
        Some(Value::Str(namespace)) => Some(namespace),
        Some(other) => {
            return Err(RenderError::compilation(format!(
                "In adapter.dispatch, got a <class '{}'> macro_namespace argument (\"{other}\"), but macro_namespace should \
                 be None or a string.",
                other.type_name()
            )));
        }
    };
    let environment = interpreter.environment;
    let packages: Vec<Option<&str>> = match namespace.as_deref() {
        None => vec![None],
        Some(namespace) => match environment.dispatch.get(namespace) {
            Some(order) if !order.is_empty() => order.iter().map(|package| Some(package.as_str())).collect(),
            _ if super::is_internal(namespace)
                || namespace == environment.project_name
                || environment.dependencies.iter().any(|package| package == namespace) =>
            {
                let own = if super::is_internal(namespace) { "dbt" } else { namespace };
                vec![Some(&environment.project_name), Some(own)]
            }
            _ => vec![None],
        },
    };
    let mut attempts = Vec::new();
    for package in packages {
        for prefix in PREFIXES {
            let candidate = format!("{prefix}__{name}");
            let found = match package {
                Some(package) => package_macro(interpreter, package, &candidate).cloned(),
                None => {
                    environment.macros.find(&environment.project_name, &interpreter.node.package, &candidate).cloned()
                }
            };
            if let Some(found) = found {
                return Ok(macro_value(&found));
            }
            attempts.push(match package {
                Some(package) => format!("'{package}.{candidate}'"),
                None => format!("'{candidate}'"),
            });
        }
    }
    Err(RenderError::compilation(format!(
        "In dispatch: No macro named '{name}' found within namespace: '{}'\n    Searched for: {}",
        namespace.as_deref().unwrap_or("None"),
        attempts.join(", ")
    )))
}

/// What the methods answer while parsing that would ask the warehouse; `None` for those that work without.
fn parse_answer(method: &str) -> Option<Value> {
    Some(match method {
        "get_clickhouse_cluster_name" | "get_clickhouse_local_suffix" | "get_clickhouse_local_db_prefix" => {
            Value::dict(super::Map::new())
        }
        "execute" => Value::tuple(vec![Value::str(""), table_value(Arc::new(Table::default()))]),
        "add_query" => Value::tuple(vec![Value::None, Value::None]),
        "get_columns_in_relation" | "get_missing_columns" | "get_columns_in_table" | "list_relations" => {
            Value::list(Vec::new())
        }
        "check_schema_exists" | "already_exists" | "is_before_version" | "is_at_or_after_version" => Value::Bool(false),
        "get_relation"
        | "create_schema"
        | "drop_schema"
        | "drop_relation"
        | "truncate_relation"
        | "rename_relation"
        | "expand_target_column_types"
        | "valid_snapshot_target"
        | "assert_valid_snapshot_target_given_strategy"
        | "supports_atomic_exchange"
        | "can_exchange"
        | "should_on_cluster"
        | "calculate_incremental_strategy"
        | "validate_incremental_strategy"
        | "check_incremental_schema_changes"
        | "s3source_clause"
        | "get_ch_database"
        | "get_column_schema_from_query"
        | "format_columns"
        | "get_incremental_strategy_macro"
        | "get_hard_deletes_behavior" => Value::None,
        _ => return None,
    })
}

/// Every method, for `adapter.name` without a call.
const METHODS: [&str; 55] = [
    "add_query",
    "already_exists",
    "assert_valid_snapshot_target_given_strategy",
    "cache_added",
    "cache_dropped",
    "cache_renamed",
    "calculate_incremental_strategy",
    "can_exchange",
    "check_incremental_schema_changes",
    "check_schema_exists",
    "clickhouse_db_engine_clause",
    "commit",
    "convert_type",
    "create_schema",
    "date_function",
    "dispatch",
    "drop_relation",
    "drop_schema",
    "execute",
    "expand_target_column_types",
    "filter_settings_by_engine",
    "format_columns",
    "get_ch_database",
    "get_clickhouse_cluster_name",
    "get_clickhouse_local_db_prefix",
    "get_clickhouse_local_suffix",
    "get_column_schema_from_query",
    "get_columns_in_relation",
    "get_columns_in_table",
    "get_credentials",
    "get_csv_data",
    "get_hard_deletes_behavior",
    "get_incremental_strategy_macro",
    "get_missing_columns",
    "get_model_query_settings",
    "get_model_settings",
    "get_relation",
    "is_at_or_after_version",
    "is_before_version",
    "list_relations",
    "list_relations_without_caching",
    "list_schemas",
    "quote",
    "quote_as_configured",
    "quote_seed_column",
    "rename_relation",
    "render_raw_columns_constraints",
    "render_raw_model_constraints",
    "s3source_clause",
    "should_on_cluster",
    "standardize_grants_dict",
    "supports_atomic_exchange",
    "truncate_relation",
    "type",
    "validate_incremental_strategy",
];

impl Object for Adapter {
    fn type_name(&self) -> &str {
        "RuntimeDatabaseWrapper"
    }

    fn has_method(&self, name: &str) -> bool {
        METHODS.contains(&name)
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let environment = interpreter.environment;
        Ok(Some(match name {
            "Relation" => relation_class(),
            "Column" => super::relation::column_class(),
            "behavior" => Value::object(Behavior),
            "config" => Value::record([
                ("project_name", Value::str(environment.project_name.as_str())),
                ("credentials", environment.target.clone()),
                ("quoting", environment.quoting.clone()),
            ]),
            _ => return Ok(None),
        }))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        if !interpreter.phase.executes()
            && let Some(answer) = parse_answer(name)
        {
            return Ok(Some(answer));
        }
        let arguments = arguments.clone();
        if let Some(value) = pure(interpreter, name, &arguments)? {
            return Ok(Some(value));
        }
        if let Some(value) = asking(interpreter, name, &arguments)? {
            return Ok(Some(value));
        }
        if let Some(warehouse) = interpreter.services.warehouse {
            let keywords: Vec<(String, Value)> =
                arguments.keywords.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            let answer = warehouse.call(name, &arguments.positional, &keywords).map_err(warehouse_error)?;
            if answer.is_some() {
                return Ok(answer);
            }
        }
        if METHODS.contains(&name) {
            return Err(RenderError::not_supported(format!("adapter.{name}() is not available here")));
        }
        Ok(None)
    }
}

/// dbt's behaviour flags: all on their default, which is off.
struct Behavior;

impl Object for Behavior {
    fn type_name(&self) -> &str {
        "Behavior"
    }

    fn attribute(&self, _name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(Some(Value::record([("no_warn", Value::Bool(false)), ("setting", Value::Bool(false))])))
    }
}
