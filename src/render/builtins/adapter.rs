//! `adapter`: dispatch, quoting and what dbt-clickhouse's adapter offers to templates; and the results that `statement`
//! keeps. While parsing it answers what dbt's does and asks no warehouse.

use std::sync::Arc;

use super::{
    super::{
        Arguments, Interpreter, Object, Relation, RenderError, Response, Table, Value, Warehouse, WarehouseError,
        context::AdapterConfig,
        interpret::StoredResult,
        operators::{iterate, type_error},
    },
    macro_value, package_macro,
    relation::{column_value, relation_class, relation_of, relation_value},
    table::{table_of, table_value},
};

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

/// Methods that need no warehouse.
fn pure(interpreter: &mut Interpreter<'_>, name: &str, arguments: &Arguments) -> Result<Option<Value>, RenderError> {
    let arguments = arguments.clone();
    let environment = interpreter.environment;
    let config = &environment.adapter;
    Ok(Some(match name {
        "dispatch" => dispatch(interpreter, arguments)?,
        "type" => Value::str("clickhouse"),
        "commit" => Value::None,
        "date_function" => Value::str("now()"),
        "cache_added" | "cache_dropped" | "cache_renamed" => Value::str(""),
        "quote" => {
            let [identifier] = arguments.bind(name, ["identifier"], 1)?;
            Value::str(format!("\"{}\"", identifier.unwrap_or_default()))
        }
        "quote_as_configured" => {
            let [identifier, key] = arguments.bind(name, ["identifier", "quote_key"], 2)?;
            let key = text(key);
            let identifier = text(identifier);
            let known = matches!(&*key, "database" | "schema" | "identifier");
            let quotes = environment.quoting.get(&key).is_none_or(|quotes| quotes.is_true());
            Value::str(if known && quotes { format!("\"{identifier}\"") } else { identifier })
        }
        "quote_seed_column" => {
            let [column, quotes] = arguments.bind(name, ["column", "quote_config"], 1)?;
            match quotes {
                Some(Value::Bool(false)) => column.unwrap_or_default(),
                Some(Value::Bool(true) | Value::None) | None => {
                    Value::str(format!("\"{}\"", column.unwrap_or_default()))
                }
                Some(other) => {
                    return Err(RenderError::compilation(format!(
                        "The seed configuration value of \"quote_columns\" has an invalid type <class '{}'>",
                        other.type_name()
                    )));
                }
            }
        }
        "get_clickhouse_cluster_name" => match config.cluster.as_deref().filter(|cluster| !cluster.is_empty()) {
            Some(cluster) => Value::str(format!("\"{cluster}\"")),
            None => Value::None,
        },
        "get_clickhouse_local_suffix" => {
            let suffix = &config.local_suffix;
            Value::str(if suffix.is_empty() || suffix.starts_with('_') { suffix.clone() } else { format!("_{suffix}") })
        }
        "get_clickhouse_local_db_prefix" => {
            let prefix = &config.local_db_prefix;
            Value::str(if prefix.is_empty() || prefix.ends_with('_') { prefix.clone() } else { format!("{prefix}_") })
        }
        "clickhouse_db_engine_clause" => {
            let engine = config.database_engine.as_deref().filter(|engine| !engine.is_empty());
            Value::str(engine.map(|engine| format!("ENGINE {engine}")).unwrap_or_default())
        }
        "should_on_cluster" => Value::Bool(on_cluster(config)),
        "calculate_incremental_strategy" => {
            let [strategy] = arguments.bind(name, ["strategy"], 1)?;
            let strategy = text(strategy);
            let strategy = match &*strategy {
                "" | "default" if config.use_lw_deletes => "delete_insert".to_owned(),
                "" | "default" => "legacy".to_owned(),
                other => other.replace('+', "_"),
            };
            Value::str(strategy)
        }
        "validate_incremental_strategy" => {
            let [strategy, predicates, unique_key, partition_by] =
                arguments.bind(name, ["strategy", "predicates", "unique_key", "partition_by"], 4)?;
            let given = |value: Option<Value>| value.is_some_and(|value| value.is_true());
            validate_strategy(&text(strategy), given(predicates), given(unique_key), given(partition_by))?;
            Value::None
        }
        "get_incremental_strategy_macro" => {
            let [_context, strategy] = arguments.bind(name, ["model_context", "strategy"], 2)?;
            let strategy = text(strategy).replace('+', "_");
            let strategy = if strategy.is_empty() { "default".to_owned() } else { strategy };
            let name = format!("get_incremental_{strategy}_sql");
            let project = &environment.project_name;
            match environment.macros.find(project, &interpreter.node.package, &name) {
                Some(found) => macro_value(found),
                None => {
                    return Err(RenderError::runtime(format!(
                        "dbt could not find an incremental strategy macro with the name \"{name}\" in {project}"
                    )));
                }
            }
        }
        "get_hard_deletes_behavior" => {
            let [config] = arguments.bind(name, ["config"], 1)?;
            let config = config.unwrap_or_default();
            let mut get = |key: &str| interpreter.call_method(&config, "get", Arguments::positional(vec![key.into()]));
            let (invalidate, hard_deletes) = (get("invalidate_hard_deletes")?, get("hard_deletes")?);
            if !invalidate.is_none() && !hard_deletes.is_none() {
                return Err(RenderError::new(
                    super::super::ErrorKind::Validation,
                    "You cannot set both the invalidate_hard_deletes and hard_deletes config properties on the same snapshot.",
                ));
            }
            match (&*hard_deletes.text(), invalidate.is_true()) {
                (_, true) | ("invalidate", _) => Value::str("invalidate"),
                ("new_record", _) => Value::str("new_record"),
                ("None" | "ignore", _) => Value::str("ignore"),
                _ => {
                    return Err(RenderError::new(
                        super::super::ErrorKind::Validation,
                        "Invalid setting for property hard_deletes.",
                    ));
                }
            }
        }
        "standardize_grants_dict" => {
            let [table] = arguments.bind(name, ["grants_table"], 1)?;
            let grants = super::Map::new();
            let grants = Value::dict(grants);
            for row in iterate(&table.unwrap_or_default())? {
                let grantee = interpreter.item(&row, &"grantee".into())?;
                let privilege = interpreter.item(&row, &"privilege_type".into())?;
                let list = interpreter.call_method(
                    &grants,
                    "setdefault",
                    Arguments::positional(vec![privilege, Value::list(Vec::new())]),
                )?;
                interpreter.call_method(&list, "append", Arguments::positional(vec![grantee]))?;
            }
            grants
        }
        "filter_settings_by_engine" => {
            let [settings, engine] = arguments.bind(name, ["settings", "engine"], 2)?;
            filter_settings(&settings.unwrap_or_default(), &text(engine))
        }
        "get_model_settings" => {
            let [model, engine] = arguments.bind(name, ["model", "engine"], 1)?;
            let engine = engine.map_or_else(|| "MergeTree".to_owned(), |engine| engine.text().to_string());
            let settings = model_config(&model.unwrap_or_default(), "settings");
            if let Value::Dict(map) = &settings
                && !config.allow_automatic_deduplication
            {
                let key = super::Key("replicated_deduplication_window".into());
                map.write().entry(key).or_insert_with(|| Value::str("0"));
            }
            let clause = settings_clause(&filter_settings(&settings, &engine));
            Value::str(format!(
                "\n                    -- end_of_sql\n                    {clause}\n                    "
            ))
        }
        "get_model_query_settings" => {
            let [model] = arguments.bind(name, ["model"], 1)?;
            let clause = settings_clause(&model_config(&model.unwrap_or_default(), "query_settings"));
            Value::str(if clause.is_empty() {
                String::new()
            } else {
                format!("\n            -- settings_section\n            {clause}\n            ")
            })
        }
        "format_columns" => {
            let [columns] = arguments.bind(name, ["columns"], 1)?;
            let mut formatted = Vec::new();
            for column in iterate(&columns.unwrap_or_default())? {
                let name = interpreter.attribute(&column, "name")?;
                let data_type = interpreter.attribute(&column, "data_type")?;
                formatted.push(Value::record([("name", name), ("data_type", data_type)]));
            }
            Value::list(formatted)
        }
        "convert_type" => {
            let [table, index] = arguments.bind(name, ["agate_table", "col_idx"], 2)?;
            let index = index.and_then(|index| index.as_int()).and_then(|index| usize::try_from(index).ok());
            let table = table_of(&table.unwrap_or_default());
            let kind = table.as_ref().and_then(|table| table.inferred_type(index?));
            Value::str(match kind.unwrap_or("Text") {
                "Integer" => "Int32",
                "Number" => "Float32",
                "Boolean" => "Bool",
                "DateTime" => "DateTime",
                "Date" => "Date",
                _ => "String",
            })
        }
        "get_csv_data" => {
            let [table] = arguments.bind(name, ["table"], 1)?;
            Value::str(table_of(&table.unwrap_or_default()).map(|table| table.csv(false)).unwrap_or_default())
        }
        "render_raw_columns_constraints" => {
            let [columns] = arguments.bind(name, ["raw_columns"], 1)?;
            raw_columns(&columns.unwrap_or_default())?
        }
        "render_raw_model_constraints" => {
            let [constraints] = arguments.bind(name, ["raw_constraints"], 1)?;
            let mut rendered = Vec::new();
            for constraint in iterate(&constraints.unwrap_or_default())? {
                let part = |key: &str| text(constraint.get(key));
                if part("type") == "check" && !part("expression").is_empty() {
                    if part("name").is_empty() {
                        return Err(RenderError::runtime("CHECK Constraint 'name' is required"));
                    }
                    rendered.push(Value::str(format!("CONSTRAINT {} CHECK ({})", part("name"), part("expression"))));
                }
            }
            Value::list(rendered)
        }
        "s3source_clause" => s3_source(interpreter, arguments)?,
        "expand_target_column_types" | "valid_snapshot_target" | "assert_valid_snapshot_target_given_strategy" => {
            Value::None
        }
        _ => return Ok(None),
    }))
}

fn on_cluster(config: &AdapterConfig) -> bool {
    let engine = config.database_engine.as_deref().unwrap_or_default();
    config.cluster.as_deref().is_some_and(|cluster| !cluster.trim().is_empty())
        && !engine.to_lowercase().contains("replicated")
}

fn validate_strategy(
    strategy: &str,
    predicates: bool,
    unique_key: bool,
    partition_by: bool,
) -> Result<(), RenderError> {
    let fail = |message: String| Err(RenderError::runtime(message));
    let deletes = matches!(strategy, "delete_insert" | "microbatch");
    if !matches!(strategy, "legacy" | "append" | "delete_insert" | "insert_overwrite" | "microbatch") {
        return fail(format!("The incremental strategy '{strategy}' is not valid for ClickHouse."));
    }
    if deletes && !unique_key {
        return fail(format!("'{strategy}' strategy requires a non-empty 'unique_key'."));
    }
    if !deletes && predicates {
        return fail(format!("Cannot apply incremental predicates with '{strategy}' strategy."));
    }
    if strategy == "insert_overwrite" && !partition_by {
        return fail(format!("'{strategy}' strategy requires non-empty 'partition_by'."));
    }
    if strategy == "insert_overwrite" && unique_key {
        return fail(format!("'{strategy}' strategy does not support unique_key."));
    }
    Ok(())
}

/// A copy of a dict in the model's configuration.
fn model_config(model: &Value, key: &str) -> Value {
    let settings = model.get("config").and_then(|config| config.get(key));
    match settings {
        Some(Value::Dict(map)) => Value::dict(map.read_recursive().clone()),
        _ => Value::dict(super::Map::new()),
    }
}

fn filter_settings(settings: &Value, engine: &str) -> Value {
    let Value::Dict(map) = settings else { return settings.clone() };
    let kept = map
        .read_recursive()
        .iter()
        .filter(|(key, _)| engine.contains("MergeTree") || &*key.0.text() != "replicated_deduplication_window")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Value::dict(kept)
}

/// `SETTINGS a=1, b='x'`: text is quoted unless it is already.
fn settings_clause(settings: &Value) -> String {
    let Value::Dict(map) = settings else { return String::new() };
    let parts: Vec<String> = map
        .read_recursive()
        .iter()
        .map(|(key, value)| match value {
            Value::Str(text) if !text.starts_with('\'') => format!("{}='{text}'", key.0),
            other => format!("{}={other}", key.0),
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("SETTINGS {}\n", parts.join(", ")) }
}

fn raw_columns(columns: &Value) -> Result<Value, RenderError> {
    let Value::Dict(columns) = columns else { return Ok(Value::list(Vec::new())) };
    let mut rendered = Vec::new();
    for column in columns.read_recursive().values() {
        let part = |key: &str| text(column.get(key));
        let mut line = format!("{} {}", crate::engine::quote_identifier(&part("name")), part("data_type"));
        if !part("codec").is_empty() {
            line.push_str(&format!(" CODEC({})", part("codec")));
        }
        if !part("ttl").is_empty() {
            line.push_str(&format!(" TTL {}", part("ttl")));
        }
        rendered.push(Value::str(line.trim_end()));
    }
    Ok(Value::list(rendered))
}

/// The `s3()` table function of `clickhouse_s3source`. Unlike dbt-clickhouse, a bucket that names `http://` keeps it, so
/// that a local object store works.
fn s3_source(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [name, given, bucket, path, format, structure, key, secret, role, compression, external] = arguments.bind(
        "s3source_clause",
        [
            "config_name",
            "s3_model_config",
            "bucket",
            "path",
            "fmt",
            "structure",
            "aws_access_key_id",
            "aws_secret_access_key",
            "role_arn",
            "compression",
            "external_id",
        ],
        9,
    )?;
    let name = text(name);
    let vars = &interpreter.environment.vars;
    let vars = vars.get(&interpreter.node.package).or_else(|| vars.get(""));
    let mut config = match vars.and_then(|vars| vars.get(&name)) {
        Some(serde_json::Value::Object(map)) => map.clone(),
        _ => serde_json::Map::new(),
    };
    if let Some(serde_json::Value::Object(given)) = given.map(|given| given.to_json()) {
        config.extend(given);
    }
    let pick = |value: Option<Value>, key: &str| {
        let value = text(value);
        if value.is_empty() {
            config.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
        } else {
            value
        }
    };
    let structure = match structure.filter(Value::is_true) {
        Some(structure) => structure.to_json(),
        None => config.get("structure").cloned().unwrap_or_default(),
    };
    let mut clause = match &structure {
        serde_json::Value::Object(columns) => {
            let columns: Vec<_> =
                columns.iter().map(|(name, kind)| format!("{name} {}", kind.as_str().unwrap_or_default())).collect();
            format!(", '{}'", columns.join(","))
        }
        serde_json::Value::Array(columns) => {
            let columns: Vec<_> = columns.iter().filter_map(|column| column.as_str()).collect();
            format!(", '{}'", columns.join(","))
        }
        serde_json::Value::String(text) if !text.is_empty() => format!(",'{text}'"),
        _ => String::new(),
    };
    let (bucket, path, format) = (pick(bucket, "bucket"), pick(path, "path"), pick(format, "fmt"));
    let (scheme, bucket) = match bucket.strip_prefix("http://") {
        Some(bucket) => ("http://", bucket.to_owned()),
        None => ("https://", bucket.replace("https://", "")),
    };
    let path = if !path.is_empty() && !bucket.is_empty() && !bucket.ends_with('/') { format!("/{path}") } else { path };
    let url = format!("{scheme}{}", format!("{bucket}{path}").replace("//", "/"));
    let (key, secret) = (pick(key, "aws_access_key_id"), pick(secret, "aws_secret_access_key"));
    if key.is_empty() != secret.is_empty() {
        let (given, missing) = if secret.is_empty() {
            ("aws_access_key_id", "aws_secret_access_key")
        } else {
            ("aws_secret_access_key", "aws_access_key_id")
        };
        return Err(RenderError::runtime(format!("S3 {given} specified without {missing}")));
    }
    let access = if key.is_empty() { String::new() } else { format!(", '{key}', '{secret}'") };
    let mut compression = pick(compression, "compression");
    if !compression.is_empty() {
        if clause.is_empty() {
            clause = ", ''".into();
        }
        compression = format!(", '{compression}'");
    }
    let (role, external) = (pick(role, "role_arn"), pick(external, "external_id"));
    if !external.is_empty() && role.is_empty() {
        return Err(RenderError::runtime("S3 external_id specified without role_arn"));
    }
    let credentials = if role.is_empty() {
        String::new()
    } else {
        let external = if external.is_empty() { String::new() } else { format!(", external_id='{external}'") };
        format!(", extra_credentials(role_arn='{role}'{external})")
    };
    Ok(Value::str(format!("s3('{url}'{access}, '{format}'{clause}{compression}{credentials})")))
}

/// Versions by their common leading parts.
fn compare_versions(left: &str, right: &str) -> Result<std::cmp::Ordering, RenderError> {
    for (left, right) in left.split('.').zip(right.split('.')) {
        let (Ok(left), Ok(right)) = (left.parse::<u64>(), right.parse::<u64>()) else {
            return Err(RenderError::runtime("Version must consist of only numbers separated by '.'"));
        };
        if left != right {
            return Ok(left.cmp(&right));
        }
    }
    Ok(std::cmp::Ordering::Equal)
}

/// Methods that ask the warehouse.
fn asking(interpreter: &mut Interpreter<'_>, name: &str, arguments: &Arguments) -> Result<Option<Value>, RenderError> {
    let arguments = arguments.clone();
    let connected = |interpreter: &Interpreter<'_>| warehouse(interpreter, name).map(|_| ());
    if METHODS.contains(&name) {
        connected(interpreter)?;
    }
    let Some(warehouse) = interpreter.services.warehouse else { return Ok(None) };
    Ok(Some(match name {
        "execute" => {
            let [sql, _begin, fetch, limit] = arguments.bind(name, ["sql", "auto_begin", "fetch", "limit"], 1)?;
            let limit = limit.and_then(|limit| limit.as_int()).and_then(|limit| u64::try_from(limit).ok());
            let fetch = fetch.is_some_and(|fetch| fetch.is_true());
            let (response, table) = warehouse.execute(&text(sql), fetch, limit).map_err(warehouse_error)?;
            Value::tuple(vec![response_value(&response), table_value(Arc::new(table))])
        }
        "add_query" => {
            let [sql, _begin, _bindings, _abridge] =
                arguments.bind(name, ["sql", "auto_begin", "bindings", "abridge_sql_log"], 1)?;
            warehouse.execute(&text(sql), false, None).map_err(warehouse_error)?;
            Value::tuple(vec![Value::None, Value::None])
        }
        "get_relation" => {
            let [_database, schema, identifier] = arguments.bind(name, ["database", "schema", "identifier"], 3)?;
            warehouse
                .get_relation(&text(schema), &text(identifier))
                .map_err(warehouse_error)?
                .map_or(Value::None, relation_value)
        }
        "already_exists" => {
            let [schema, identifier] = arguments.bind(name, ["schema", "name"], 2)?;
            Value::Bool(warehouse.get_relation(&text(schema), &text(identifier)).map_err(warehouse_error)?.is_some())
        }
        "list_relations" => {
            let [_database, schema] = arguments.bind(name, ["database", "schema"], 2)?;
            relations(warehouse, &text(schema))?
        }
        "list_relations_without_caching" => {
            let [schema] = arguments.bind(name, ["schema_relation"], 1)?;
            let schema = relation(schema, name)?.schema.unwrap_or_default();
            relations(warehouse, &schema)?
        }
        "list_schemas" => Value::from(warehouse.list_schemas().map_err(warehouse_error)?),
        "check_schema_exists" => {
            let [_database, schema] = arguments.bind(name, ["database", "schema"], 2)?;
            let schema = text(schema);
            Value::Bool(warehouse.list_schemas().map_err(warehouse_error)?.contains(&schema))
        }
        "get_columns_in_relation" => {
            let [of] = arguments.bind(name, ["relation"], 1)?;
            let columns = warehouse.get_columns_in_relation(&relation(of, name)?).map_err(warehouse_error)?;
            Value::list(columns.into_iter().map(column_value).collect())
        }
        "get_columns_in_table" => {
            let [schema, identifier] = arguments.bind(name, ["schema", "identifier"], 2)?;
            let of = Relation::new(text(schema), text(identifier));
            let columns = warehouse.get_columns_in_relation(&of).map_err(warehouse_error)?;
            Value::list(columns.into_iter().map(column_value).collect())
        }
        "get_missing_columns" => {
            let [from, to] = arguments.bind(name, ["from_relation", "to_relation"], 2)?;
            let from = warehouse.get_columns_in_relation(&relation(from, name)?).map_err(warehouse_error)?;
            let to = warehouse.get_columns_in_relation(&relation(to, name)?).map_err(warehouse_error)?;
            let missing = from.into_iter().filter(|column| !to.iter().any(|known| known.name == column.name));
            Value::list(missing.map(column_value).collect())
        }
        "get_column_schema_from_query" => {
            let sql = text(arguments.positional.first().cloned());
            let columns = warehouse.get_columns_of_query(&sql).map_err(warehouse_error)?;
            Value::list(columns.into_iter().map(column_value).collect())
        }
        "create_schema" => {
            let [of] = arguments.bind(name, ["relation"], 1)?;
            warehouse.create_schema(&relation(of, name)?).map_err(warehouse_error)?;
            Value::None
        }
        "drop_schema" => {
            let [of] = arguments.bind(name, ["relation"], 1)?;
            warehouse.drop_schema(&relation(of, name)?).map_err(warehouse_error)?;
            Value::None
        }
        "drop_relation" => {
            let [of] = arguments.bind(name, ["relation"], 1)?;
            warehouse.drop_relation(&relation(of, name)?).map_err(warehouse_error)?;
            Value::None
        }
        "truncate_relation" => {
            let [of] = arguments.bind(name, ["relation"], 1)?;
            warehouse.truncate_relation(&relation(of, name)?).map_err(warehouse_error)?;
            Value::None
        }
        "rename_relation" => {
            let [from, to] = arguments.bind(name, ["from_relation", "to_relation"], 2)?;
            warehouse.rename_relation(&relation(from, name)?, &relation(to, name)?).map_err(warehouse_error)?;
            Value::None
        }
        "can_exchange" => {
            let [schema, kind] = arguments.bind(name, ["schema", "rel_type"], 2)?;
            Value::Bool(warehouse.can_exchange(&text(schema), &text(kind)).map_err(warehouse_error)?)
        }
        "is_before_version" | "is_at_or_after_version" => {
            let [version] = arguments.bind(name, ["version"], 1)?;
            let server = warehouse.server_version().map_err(warehouse_error)?;
            let order = compare_versions(&server, &text(version))?;
            Value::Bool(if name == "is_before_version" { order.is_lt() } else { order.is_ge() })
        }
        "check_incremental_schema_changes" => schema_changes(warehouse, arguments)?,
        _ => return Ok(None),
    }))
}

fn relations(warehouse: &dyn Warehouse, schema: &str) -> Result<Value, RenderError> {
    let relations = warehouse.list_relations(schema).map_err(warehouse_error)?;
    Ok(Value::list(relations.into_iter().map(relation_value).collect()))
}

/// The columns that an incremental model gained, lost or changed; an error where `on_schema_change` says so.
fn schema_changes(warehouse: &dyn Warehouse, arguments: Arguments) -> Result<Value, RenderError> {
    let [on_change, existing, sql, materialization, _settings] = arguments.bind(
        "check_incremental_schema_changes",
        ["on_schema_change", "existing", "target_sql", "materialization", "query_settings"],
        3,
    )?;
    let on_change = text(on_change);
    if !matches!(&*on_change, "fail" | "ignore" | "append_new_columns" | "sync_all_columns") {
        return Err(RenderError::runtime(
            "Only `fail`, `ignore`, `append_new_columns`, and `sync_all_columns` supported for `on_schema_change`.",
        ));
    }
    let existing = relation(existing, "check_incremental_schema_changes")?;
    let source = warehouse.get_columns_in_relation(&existing).map_err(warehouse_error)?;
    let target = warehouse.get_columns_of_query(&text(sql)).map_err(warehouse_error)?;
    let not_in = |columns: &[super::super::Column], others: &[super::super::Column]| {
        columns
            .iter()
            .filter(|column| !others.iter().any(|other| other.name == column.name))
            .cloned()
            .collect::<Vec<_>>()
    };
    let added = not_in(&target, &source);
    let dropped = not_in(&source, &target);
    let modified: Vec<_> = target
        .iter()
        .filter(|column| source.iter().any(|known| known.name == column.name && known.dtype != column.dtype))
        .cloned()
        .collect();
    let sync_changes = !dropped.is_empty() || !modified.is_empty();
    let any = sync_changes || !added.is_empty();
    if (on_change == "fail" && any) || (on_change != "sync_all_columns" && sync_changes) {
        let materialization = materialization.map_or_else(|| "incremental".to_owned(), |name| name.text().to_string());
        let option = if materialization == "table" { "mv_on_schema_change" } else { "on_schema_change" };
        let listed = |columns: &[super::super::Column]| {
            columns.iter().map(|column| format!("{} {}", column.name, column.dtype)).collect::<Vec<_>>().join(", ")
        };
        return Err(RenderError::runtime(format!(
            "The source and target schemas on this {materialization} model are out of sync, and `{option}` is \
             `{on_change}`.\nColumns only in the target table: {}\nColumns only in the model: {}\nColumns with another \
             type: {}\nChange the model or `{option}`, or run with --full-refresh.",
            listed(&dropped),
            listed(&added),
            listed(&modified)
        )));
    }
    let list = |columns: Vec<super::super::Column>| Value::list(columns.into_iter().map(column_value).collect());
    Ok(Value::record([
        ("on_schema_change", Value::str(on_change)),
        ("has_schema_changes", Value::Bool(any)),
        ("has_sync_changes", Value::Bool(sync_changes)),
        ("columns_to_add", list(added)),
        ("columns_to_drop", list(dropped)),
        ("columns_to_modify", list(modified)),
    ]))
}

// ---- results ---------------------------------------------------------------------------------------------------------

struct AdapterResponse {
    response: Response,
}

/// dbt's `AdapterResponse` as a template value.
pub(crate) fn response_value(response: &Response) -> Value {
    Value::object(AdapterResponse { response: response.clone() })
}

impl Object for AdapterResponse {
    fn type_name(&self) -> &str {
        "AdapterResponse"
    }

    fn text(&self) -> String {
        self.response.message.clone()
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let response = &self.response;
        Ok(Some(match name {
            "_message" | "message" => Value::str(response.message.as_str()),
            "code" => Value::from(response.code.as_deref()),
            "rows_affected" => Value::from(response.rows_affected),
            "query_id" => Value::from(response.query_id.as_deref()),
            _ => return Ok(None),
        }))
    }
}

fn store(interpreter: &mut Interpreter<'_>, name: &str, response: Value, table: Option<Value>) {
    let table = table.and_then(|table| table_of(&table)).unwrap_or_default();
    let kept = match response.downcast::<AdapterResponse>() {
        Some(response) => response.response.clone(),
        None => Response { message: response.text().to_string(), ..Response::default() },
    };
    let rows = table.rows.iter().map(|row| Value::tuple(row.clone())).collect();
    let value = Value::record([
        ("response", response),
        ("data", Value::list(rows)),
        ("table", table_value(Arc::clone(&table))),
    ]);
    let stored = StoredResult { response: kept, table, value };
    interpreter.kept.insert(name.to_owned(), stored.clone());
    interpreter.results.insert(name.to_owned(), Some(stored));
}

/// Keeps a result under a name, as `statement` does.
pub(crate) fn keep_result(interpreter: &mut Interpreter<'_>, name: &str, response: &Response, table: Arc<Table>) {
    store(interpreter, name, response_value(response), Some(table_value(table)));
}

pub(super) fn store_result(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [name, response, table] = arguments.bind("store_result", ["name", "response", "agate_table"], 2)?;
    store(interpreter, &text(name), response.unwrap_or_default(), table);
    Ok(Value::str(""))
}

pub(super) fn store_raw_result(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [name, message, code, rows, table] =
        arguments.bind("store_raw_result", ["name", "message", "code", "rows_affected", "agate_table"], 1)?;
    let response = Response {
        message: text(message),
        code: code.filter(|code| !code.is_none()).map(|code| code.text().to_string()),
        rows_affected: rows.and_then(|rows| rows.as_int()).and_then(|rows| i64::try_from(rows).ok()),
        query_id: None,
    };
    store(interpreter, &text(name), response_value(&response), table);
    Ok(Value::str(""))
}

/// A result is handed out once, except for `main`.
pub(super) fn load_result(interpreter: &mut Interpreter<'_>, arguments: Arguments) -> Result<Value, RenderError> {
    let [name] = arguments.bind("load_result", ["name"], 1)?;
    let name = text(name);
    match interpreter.results.get_mut(&name) {
        None => Ok(Value::None),
        Some(slot) => match slot.take() {
            None => Err(RenderError::compilation(format!(
                "The 'statement' result named '{name}' has already been loaded into a variable"
            ))),
            Some(stored) => {
                let value = stored.value.clone();
                if name == "main" {
                    *slot = Some(stored);
                }
                Ok(value)
            }
        },
    }
}

pub(super) fn load_agate_table(interpreter: &mut Interpreter<'_>, _arguments: Arguments) -> Result<Value, RenderError> {
    let table = match interpreter.services.warehouse {
        Some(warehouse) => warehouse.seed_table().map_err(warehouse_error)?,
        None => None,
    };
    match table {
        Some(table) => Ok(table_value(Arc::new(table))),
        None => Err(RenderError::compilation(format!(
            "can only load_agate_table for seeds (got a {})",
            interpreter.node.resource_type
        ))),
    }
}
