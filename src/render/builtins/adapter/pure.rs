//! The methods of `adapter` that need no warehouse. In: arguments and the target's settings; out: a value.

use super::{
    super::{
        super::{
            Arguments, ErrorKind, Interpreter, Key, Map, RenderError, Value, context::AdapterConfig, operators::iterate,
        },
        macro_value,
        table::table_of,
    },
    dispatch, text,
};

/// Methods that need no warehouse.
pub(super) fn pure(
    interpreter: &mut Interpreter<'_>,
    name: &str,
    arguments: &Arguments,
) -> Result<Option<Value>, RenderError> {
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
                    ErrorKind::Validation,
                    "You cannot set both the invalidate_hard_deletes and hard_deletes config properties on the same snapshot.",
                ));
            }
            match (&*hard_deletes.text(), invalidate.is_true()) {
                (_, true) | ("invalidate", _) => Value::str("invalidate"),
                ("new_record", _) => Value::str("new_record"),
                ("None" | "ignore", _) => Value::str("ignore"),
                _ => {
                    return Err(RenderError::new(ErrorKind::Validation, "Invalid setting for property hard_deletes."));
                }
            }
        }
        "standardize_grants_dict" => {
            let [table] = arguments.bind(name, ["grants_table"], 1)?;
            let grants = Map::new();
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
                let key = Key("replicated_deduplication_window".into());
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
        _ => Value::dict(Map::new()),
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
pub(super) fn compare_versions(left: &str, right: &str) -> Result<std::cmp::Ordering, RenderError> {
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
