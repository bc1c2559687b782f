//! What the table-like materializations share: build a relation aside under a name of the invocation's own, put it in place
//! in one step, clear leftovers away.

use serde_json::json;

use super::{MaterializeError, Model, TableSpec, contract};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo, settings_list},
    engine::{QuerySummary, quote_identifier},
    project::{Relation, RelationKind},
};

/// ClickHouse's error codes.
const TABLE_ALREADY_EXISTS: i32 = 57;
const UNKNOWN_TABLE: i32 = 60;

/// Stands in the name of every temporary relation: `<identifier>__dbt_tmp_<invocation>`.
pub const TEMPORARY_MARK: &str = "__dbt_tmp_";

/// A temporary relation beside `relation`, of this invocation alone.
pub fn temporary_relation(relation: &Relation, invocation: &str, purpose: &str) -> Relation {
    let purpose = if purpose.is_empty() { String::new() } else { format!("_{purpose}") };
    let mut temporary =
        relation.with_identifier(format!("{}{TEMPORARY_MARK}{invocation}{purpose}", relation.identifier));
    temporary.kind = Some(RelationKind::Table);
    temporary
}

/// Whether a table's name is one of [`temporary_relation`]'s, and of which identifier and invocation.
pub fn is_temporary_name(name: &str) -> Option<(&str, &str)> {
    let (identifier, rest) = name.split_once(TEMPORARY_MARK)?;
    let invocation = rest.split('_').next()?;
    (invocation.len() == 8 && invocation.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then_some((identifier, invocation))
}

/// Creates an empty table as `spec` says.
///
/// # Errors
/// ClickHouse refuses it.
pub fn create_table(adapter: &mut Adapter, relation: &Relation, spec: &TableSpec) -> Result<(), MaterializeError> {
    adapter.run_ddl("materialize/create_table.sql", json!({"relation": relation.render(), "table": spec}))?;
    Ok(())
}

/// `INSERT INTO relation (columns) query`, with the node's query settings.
///
/// # Errors
/// The query fails; on MergeTree, blocks written before that may be in the table.
pub fn insert_query(
    adapter: &mut Adapter,
    relation: &Relation,
    columns: &[String],
    query: &str,
    settings: &[String],
) -> Result<QuerySummary, MaterializeError> {
    let columns: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
    let values =
        json!({"relation": relation.render(), "columns": columns, "query": query.trim_end(), "settings": settings});
    let sql = adapter.templates().render("materialize/insert.sql", &values)?;
    let mut options = adapter.next_options();
    // Whatever stands between chpipe and the server and sends the statement again adds nothing, where the table keeps
    // a window of tokens.
    if !adapter.options().embedded && adapter.capabilities().version >= (22, 2) {
        let token = options.query_id.clone().unwrap_or_default();
        options = options.setting("insert_deduplication_token", token);
    }
    Ok(adapter.execute_with(&sql, &options)?)
}

/// What was done to fill a temporary relation; where it failed, the relation is gone again. A connection that is gone too
/// leaves it to the next run.
pub(super) fn or_drop<R>(
    adapter: &mut Adapter,
    temporary: &Relation,
    result: Result<R, MaterializeError>,
) -> Result<R, MaterializeError> {
    if result.is_err() {
        let _ = adapter.drop_relation(temporary);
    }
    result
}

/// The columns of the model's query, checked against its contract where it has one.
pub(super) fn query_columns(model: &Model<'_>, adapter: &mut Adapter) -> Result<Vec<ColumnInfo>, MaterializeError> {
    query_columns_with(model, adapter, &[])
}

/// The same, with settings of the caller's.
pub(super) fn query_columns_with(
    model: &Model<'_>,
    adapter: &mut Adapter,
    more: &[&str],
) -> Result<Vec<ColumnInfo>, MaterializeError> {
    let mut settings = settings_list(model.config().query_settings());
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    let columns = adapter.query_columns(model.sql, &settings)?;
    if model.config().contract_enforced() { contract::check(model, columns, adapter) } else { Ok(columns) }
}

/// The query with its columns in the order of `columns`, where a contract may have changed it.
pub(super) fn ordered_query(model: &Model<'_>, columns: &[String]) -> String {
    if !model.config().contract_enforced() {
        return model.sql.to_owned();
    }
    select_from(model.sql, columns)
}

/// `SELECT columns FROM (query)`.
pub(super) fn select_from(query: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
    format!("SELECT {}\nFROM (\n{}\n)", columns.join(", "), query.trim_end())
}

/// Builds the model's table, with its rows, under a temporary name.
pub(super) fn build_aside(
    model: &Model<'_>,
    adapter: &mut Adapter,
    fill: bool,
) -> Result<(Relation, Option<u64>), MaterializeError> {
    let aside = temporary_relation(model.relation, model.invocation, "");
    run_sql_header(model, adapter)?;
    if fill && let Some(spec) = spec_of_query(model, adapter)? {
        let values = json!({"relation": aside.render(), "table": spec, "query": model.sql.trim()});
        let filled = created_anew(adapter, &aside, |adapter| {
            Ok(adapter.run_ddl("materialize/create_table.sql", values.clone())?)
        });
        let rows = or_drop(adapter, &aside, filled)?.written_rows;
        return Ok((aside, rows));
    }
    let columns = query_columns(model, adapter)?;
    let spec = TableSpec::new(model.source(), &columns, adapter.options())?;
    created_anew(adapter, &aside, |adapter| create_table(adapter, &aside, &spec))?;
    let mut rows = Some(0);
    if fill {
        let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        let settings = settings_list(model.config().query_settings());
        let query = ordered_query(model, &names);
        let filled = insert_query(adapter, &aside, &names, &query, &settings);
        rows = or_drop(adapter, &aside, filled)?.written_rows;
    }
    Ok((aside, rows))
}

/// The table without its columns, where CREATE TABLE … AS SELECT makes it as it is wanted, in one statement: no column has
/// anything of its own, and the database is one that knows the form (Replicated ones and clusters do not).
fn spec_of_query(model: &Model<'_>, adapter: &Adapter) -> Result<Option<TableSpec>, MaterializeError> {
    let atomic = adapter.known_database_engine(&model.relation.schema) == Some("Atomic");
    let config = model.config();
    if !atomic || adapter.options().cluster.is_some() || config.contract_enforced() || config.query_settings().is_some()
    {
        return Ok(None);
    }
    let spec = TableSpec::new(model.source(), &[], adapter.options())?;
    let plain = spec.elements.is_empty() && spec.comment.is_none() && TableSpec::columns_are_plain(model.source());
    Ok(plain.then_some(spec))
}

/// Creates a relation of this invocation; what an earlier attempt of the invocation left under its name is dropped.
fn created_anew<T>(
    adapter: &mut Adapter,
    relation: &Relation,
    create: impl Fn(&mut Adapter) -> Result<T, MaterializeError>,
) -> Result<T, MaterializeError> {
    match create(adapter) {
        Err(MaterializeError::Adapter(error)) if error.code() == Some(TABLE_ALREADY_EXISTS) => {
            adapter.drop_relation(relation)?;
            create(adapter)
        }
        done => done,
    }
}

/// `sql_header`: statements to run before the model's own, in its session. Text that ends no statement has no place to go
/// in front of several statements, so it is refused.
pub(super) fn run_sql_header(model: &Model<'_>, adapter: &mut Adapter) -> Result<(), MaterializeError> {
    let Some(header) = model.config().str("sql_header") else { return Ok(()) };
    for statement in header.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        let only_comments = statement.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with("--"));
        if !only_comments {
            adapter.execute_of_project(statement)?;
        }
    }
    Ok(())
}

/// Puts a finished relation in the place of what is there, in one step where ClickHouse can, and drops what was there.
/// `existing` may be of before: where it is not true any more, ClickHouse refuses, and it is asked for again.
pub(super) fn put_in_place(
    model: &Model<'_>,
    adapter: &mut Adapter,
    aside: &Relation,
    existing: Option<&RelationInfo>,
) -> Result<(), MaterializeError> {
    let outdated = |error: &MaterializeError| match error {
        MaterializeError::Adapter(error) => {
            matches!((error.code(), existing), (Some(TABLE_ALREADY_EXISTS), None) | (Some(UNKNOWN_TABLE), Some(_)))
        }
        _ => false,
    };
    match replace(model, adapter, aside, existing) {
        Err(error) if outdated(&error) => {
            let existing = adapter.relation(model.relation)?;
            replace(model, adapter, aside, existing.as_ref())
        }
        done => done,
    }
}

fn replace(
    model: &Model<'_>,
    adapter: &mut Adapter,
    aside: &Relation,
    existing: Option<&RelationInfo>,
) -> Result<(), MaterializeError> {
    let Some(existing) = existing else {
        adapter.rename(&[(aside, model.relation)])?;
        return Ok(());
    };
    let exchangeable = matches!(existing.kind(), RelationKind::Table | RelationKind::View)
        && adapter.can_exchange(&existing.database_engine);
    if exchangeable {
        adapter.exchange(aside, model.relation)?;
        // Under the temporary name is now what was replaced.
        let mut replaced = aside.clone();
        replaced.kind = Some(existing.kind());
        adapter.drop_relation(&replaced)?;
        return Ok(());
    }
    if existing.kind() == RelationKind::Dictionary {
        // A dictionary cannot be renamed together with a table.
        adapter.drop_relation(&existing.relation)?;
        adapter.rename(&[(aside, model.relation)])?;
        return Ok(());
    }
    let mut backup = temporary_relation(model.relation, model.invocation, "backup");
    backup.kind = Some(existing.kind());
    adapter.rename(&[(&existing.relation, &backup), (aside, model.relation)])?;
    adapter.drop_relation(&backup)?;
    Ok(())
}

/// Drops temporary relations of earlier invocations that ended before they could.
///
/// # Errors
/// The warehouse cannot be asked, or refuses a DROP.
pub fn drop_leftovers(adapter: &mut Adapter, leftovers: &[Relation]) -> Result<(), MaterializeError> {
    // A view whose target is gone makes inserts into its source fail.
    let (views, tables): (Vec<_>, Vec<_>) =
        leftovers.iter().partition(|leftover| leftover.kind == Some(RelationKind::MaterializedView));
    for leftover in views.into_iter().chain(tables) {
        adapter.drop_relation(leftover)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_tell_their_owner() {
        let relation = Relation::new("d", "dim_drivers");
        let temporary = temporary_relation(&relation, "0a1b2c3d", "new");
        assert_eq!(temporary.identifier, "dim_drivers__dbt_tmp_0a1b2c3d_new");
        assert_eq!(is_temporary_name(&temporary.identifier), Some(("dim_drivers", "0a1b2c3d")));
        assert_eq!(is_temporary_name("dim_drivers__dbt_tmp"), None);
        assert_eq!(is_temporary_name("dim_drivers__dbt_tmp_results"), None);
    }
}
