//! The methods of `adapter` that ask the warehouse. In: arguments and a connection; out: what it said.

use std::sync::Arc;

use super::{
    super::{
        super::{Arguments, Column, Interpreter, Relation, RenderError, Value, Warehouse},
        relation::{column_value, relation_value},
        table::table_value,
    },
    METHODS,
    pure::compare_versions,
    relation, response_value, text, warehouse, warehouse_error,
};

/// Methods that ask the warehouse.
pub(super) fn asking(
    interpreter: &mut Interpreter<'_>,
    name: &str,
    arguments: &Arguments,
) -> Result<Option<Value>, RenderError> {
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
    let not_in = |columns: &[Column], others: &[Column]| {
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
        let listed = |columns: &[Column]| {
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
    let list = |columns: Vec<Column>| Value::list(columns.into_iter().map(column_value).collect());
    Ok(Value::record([
        ("on_schema_change", Value::str(on_change)),
        ("has_schema_changes", Value::Bool(any)),
        ("has_sync_changes", Value::Bool(sync_changes)),
        ("columns_to_add", list(added)),
        ("columns_to_drop", list(dropped)),
        ("columns_to_modify", list(modified)),
    ]))
}
