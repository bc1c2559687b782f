//! `incremental`: new rows into an existing table by one of dbt-clickhouse's strategies. New rows that replace others are
//! first collected in a table of their own; once that is complete, whoever comes next can finish the run from it
//! ([`recover`]), so that a run ended between a DELETE and its INSERT loses nothing.

use serde_json::json;

use super::{
    Batch, Materialization, MaterializeError, Model, Outcome, build,
    build::{insert_query, ordered_query, select_from, temporary_relation},
    in_place, schema_change,
};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo, settings_list},
    engine::{quote_identifier, quote_string},
    project::{NodeConfig, Relation, RelationKind},
};

pub(super) struct Incremental;

/// In the name of a complete table of new rows: `<identifier>__dbt_new_data_<invocation>`.
const NEW_DATA_MARK: &str = "__dbt_new_data_";

/// How new rows meet the existing ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Beside them.
    Append,
    /// Instead of those with the same key: DELETE and INSERT.
    DeleteInsert { key: String, predicates: Vec<String> },
    /// Instead of those of an interval of time.
    ReplaceRange { range: Vec<String> },
    /// Instead of the partitions they fall in.
    InsertOverwrite,
    /// Instead of those with the same key, in a whole new table.
    Legacy { key: String },
}

impl Strategy {
    pub(super) fn of(config: &NodeConfig, batch: Option<&Batch>, adapter: &Adapter) -> Result<Self, MaterializeError> {
        let key = config.unique_key().into_iter().filter(|key| !key.is_empty()).collect::<Vec<_>>().join(", ");
        let named = config.incremental_strategy().filter(|name| *name != "default").map(|name| name.replace('+', "_"));
        let predicates = match config.list("predicates") {
            predicates if predicates.is_empty() => config.list("incremental_predicates"),
            predicates => predicates,
        };
        let named = named.as_deref();
        if named != Some("insert_overwrite")
            && (config.bool("inserts_only") == Some(true) || (key.is_empty() && named != Some("microbatch")))
        {
            if matches!(named, Some("delete_insert" | "legacy")) && config.bool("inserts_only") != Some(true) {
                return Err(MaterializeError::config("unique_key", "the strategy needs one"));
            }
            known(named)?;
            return Ok(Self::Append);
        }
        let default = if adapter.options().use_lw_deletes && adapter.capabilities().lightweight_delete {
            "delete_insert"
        } else {
            "legacy"
        };
        let name = named.unwrap_or(default);
        known(Some(name))?;
        if !predicates.is_empty() && !matches!(name, "delete_insert" | "microbatch") {
            let reason = format!("the strategy `{name}` cannot apply them");
            return Err(MaterializeError::config("incremental_predicates", reason));
        }
        match name {
            "append" => Ok(Self::Append),
            "legacy" => Ok(Self::Legacy { key }),
            "insert_overwrite" if config.partition_by().is_empty() => {
                Err(MaterializeError::config("partition_by", "`insert_overwrite` needs it"))
            }
            "insert_overwrite" if !key.is_empty() => {
                Err(MaterializeError::config("unique_key", "`insert_overwrite` replaces partitions and takes no key"))
            }
            "insert_overwrite" => Ok(Self::InsertOverwrite),
            _ if !adapter.capabilities().lightweight_delete => Err(MaterializeError::config(
                "incremental_strategy",
                format!("`{name}` needs lightweight deletes, which this server does not have"),
            )),
            "microbatch" => {
                let mut predicates = predicates;
                if let Some(batch) = batch {
                    predicates.extend(batch.predicates());
                }
                match (key.is_empty(), predicates.is_empty()) {
                    (true, true) => Ok(Self::Append),
                    (true, false) => Ok(Self::ReplaceRange { range: predicates }),
                    (false, _) => Ok(Self::DeleteInsert { key, predicates }),
                }
            }
            _ => Ok(Self::DeleteInsert { key, predicates }),
        }
    }
}

fn known(name: Option<&str>) -> Result<(), MaterializeError> {
    match name {
        None | Some("append" | "legacy" | "delete_insert" | "insert_overwrite" | "microbatch") => Ok(()),
        Some(other) => Err(MaterializeError::config(
            "incremental_strategy",
            format!("`{other}` is none of append, delete_insert, insert_overwrite, legacy, microbatch"),
        )),
    }
}

impl Materialization for Incremental {
    fn name(&self) -> &'static str {
        "incremental"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let strategy = Strategy::of(model.config(), model.batch, adapter)?;
        let existing = adapter.relation(model.relation)?;
        let existing = match existing {
            Some(existing) if existing.is_table() && !model.full_refresh => existing,
            other => {
                let (aside, rows) = build::build_aside(model, adapter, true)?;
                build::put_in_place(model, adapter, &aside, other.as_ref())?;
                return Ok(Outcome::of(model.relation, rows));
            }
        };
        build::run_sql_header(model, adapter)?;
        let wanted = build::query_columns(model, adapter)?;
        check_key(model, &wanted)?;
        let policy = model.config().on_schema_change();
        let mut notes = schema_change::apply(model, adapter, &existing, &wanted, "on_schema_change", policy)?;
        notes.extend(in_place::apply(model, adapter, &existing)?);
        let rows = match &strategy {
            Strategy::Append => append(model, adapter, &existing, &wanted)?,
            Strategy::DeleteInsert { key, predicates } => {
                let new_data = collect(model, adapter, &existing, &wanted, false)?;
                replace_rows(model, adapter, &existing.relation, &new_data, key, predicates)?
            }
            Strategy::ReplaceRange { range } => {
                let new_data = collect(model, adapter, &existing, &wanted, false)?;
                replace_range(model, adapter, &existing.relation, &new_data, range)?
            }
            Strategy::InsertOverwrite => {
                let new_data = collect(model, adapter, &existing, &wanted, true)?;
                let rows = adapter.count(&new_data)?;
                replace_partitions(adapter, &existing.relation, &new_data)?;
                adapter.drop_relation(&new_data)?;
                Some(rows)
            }
            Strategy::Legacy { key } => {
                let new_data = collect(model, adapter, &existing, &wanted, false)?;
                rebuild_with(model, adapter, &existing, &new_data, key)?
            }
        };
        let mut outcome = Outcome::of(model.relation, rows);
        outcome.notes = notes;
        Ok(outcome)
    }
}

/// A `unique_key` that is a name is one of the query's columns; it may also be an expression.
pub(super) fn check_key(model: &Model<'_>, wanted: &[ColumnInfo]) -> Result<(), MaterializeError> {
    for key in model.config().unique_key() {
        let is_name = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if is_name && !wanted.iter().any(|column| column.name == key) {
            let columns: Vec<&str> = wanted.iter().map(|column| column.name.as_str()).collect();
            let reason = format!("the query has no column `{key}`; it has {}", columns.join(", "));
            return Err(MaterializeError::config("unique_key", reason));
        }
    }
    Ok(())
}

/// The columns that the query and the table have in common, in the query's order; a column that only one of them has keeps
/// its default, or is left out.
pub(super) fn shared_columns(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &Relation,
    wanted: &[ColumnInfo],
) -> Result<(Vec<String>, String), MaterializeError> {
    let live = adapter.columns(existing)?;
    let shared: Vec<String> = wanted
        .iter()
        .filter(|column| live.iter().any(|live| live.name == column.name && live.is_insertable()))
        .map(|column| column.name.clone())
        .collect();
    let query =
        if shared.len() == wanted.len() { ordered_query(model, &shared) } else { select_from(model.sql, &shared) };
    Ok((shared, query))
}

/// New rows beside the existing ones. Where partitions can be moved, the rows are collected first: a run that ends in the
/// middle has then added nothing, or can be finished, instead of having inserted some of its blocks.
fn append(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
    wanted: &[ColumnInfo],
) -> Result<Option<u64>, MaterializeError> {
    if takes_partitions(adapter, existing)? {
        let new_data = collect(model, adapter, existing, wanted, true)?;
        let rows = adapter.count(&new_data)?;
        move_partitions(adapter, &existing.relation, &new_data)?;
        return Ok(Some(rows));
    }
    let (columns, query) = shared_columns(model, adapter, &existing.relation, wanted)?;
    let settings = settings_list(model.config().query_settings());
    let summary = insert_query(adapter, &existing.relation, &columns, &query, &settings)?;
    Ok(summary.written_rows)
}

/// Whether rows may arrive as whole partitions: materialized views see inserts only, and replicated tables would have to
/// share a path.
pub(super) fn takes_partitions(adapter: &mut Adapter, existing: &RelationInfo) -> Result<bool, MaterializeError> {
    if !existing.is_merge_tree() || existing.engine.starts_with("Replicated") || existing.engine.starts_with("Shared") {
        return Ok(false);
    }
    let sql = format!(
        "SELECT length(dependencies_table) FROM system.tables WHERE database = {} AND name = {}",
        quote_string(&existing.relation.schema),
        quote_string(&existing.relation.identifier)
    );
    Ok(adapter.number(&sql)? == 0)
}

/// Moves everything; a partition that was moved is no longer in `new_data`, so doing it again moves the rest.
pub(super) fn move_partitions(
    adapter: &mut Adapter,
    relation: &Relation,
    new_data: &Relation,
) -> Result<(), MaterializeError> {
    for partition in partitions(adapter, new_data)? {
        adapter.alter(new_data, &[format!("MOVE PARTITION ID {partition} TO TABLE {relation}")])?;
    }
    adapter.drop_relation(new_data)?;
    Ok(())
}

/// Gives `relation` what `from` holds, by links to the same files.
pub(super) fn link_partitions(
    adapter: &mut Adapter,
    relation: &Relation,
    from: &Relation,
) -> Result<(), MaterializeError> {
    let commands: Vec<String> = partitions(adapter, from)?
        .iter()
        .map(|partition| format!("ATTACH PARTITION ID {partition} FROM {from}"))
        .collect();
    Ok(adapter.alter(relation, &commands)?)
}

/// The ids of a table's partitions, as literals.
fn partitions(adapter: &mut Adapter, relation: &Relation) -> Result<Vec<String>, MaterializeError> {
    let sql = format!(
        "SELECT DISTINCT partition_id FROM system.parts WHERE active AND database = {} AND table = {} ORDER BY 1",
        quote_string(&relation.schema),
        quote_string(&relation.identifier)
    );
    Ok(adapter.rows(&sql)?.into_iter().flatten().flatten().map(|id| quote_string(&id)).collect())
}

/// Collects the new rows in a table of the existing one's columns; its last step is a RENAME, so a table under the final
/// name is complete.
fn collect(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
    wanted: &[ColumnInfo],
    same_layout: bool,
) -> Result<Relation, MaterializeError> {
    let purpose = model.batch.map(|batch| batch.name.as_str()).unwrap_or_default();
    let collecting = temporary_relation(model.relation, model.invocation, &format!("new{purpose}"));
    let complete = new_data_relation(model.relation, model.invocation, purpose);
    adapter.drop_relation(&collecting)?;
    adapter.drop_relation(&complete)?;
    // Partitions can only be moved between tables of the same layout.
    let engine = (!same_layout).then_some("MergeTree ORDER BY tuple()");
    let values = json!({"relation": collecting.render(), "like": existing.relation.render(), "engine": engine});
    adapter.run_ddl("materialize/create_table_as.sql", values)?;
    let (columns, query) = shared_columns(model, adapter, &existing.relation, wanted)?;
    let settings = settings_list(model.config().query_settings());
    let filled = insert_query(adapter, &collecting, &columns, &query, &settings);
    build::or_drop(adapter, &collecting, filled)?;
    adapter.rename(&[(&collecting, &complete)])?;
    Ok(complete)
}

pub(super) fn new_data_relation(relation: &Relation, invocation: &str, purpose: &str) -> Relation {
    let purpose = if purpose.is_empty() { String::new() } else { format!("_{purpose}") };
    let mut new_data = relation.with_identifier(format!("{}{NEW_DATA_MARK}{invocation}{purpose}", relation.identifier));
    new_data.kind = Some(RelationKind::Table);
    new_data
}

/// The invocation that made a complete table of new rows for `relation`.
pub(super) fn invocation_of_new_data<'a>(relation: &Relation, leftover: &'a Relation) -> Option<&'a str> {
    leftover.identifier.strip_prefix(&relation.identifier)?.strip_prefix(NEW_DATA_MARK)
}

/// Deletes the rows whose key is among the new ones, then inserts those. Doing it again changes nothing.
fn replace_rows(
    model: &Model<'_>,
    adapter: &mut Adapter,
    relation: &Relation,
    new_data: &Relation,
    key: &str,
    predicates: &[String],
) -> Result<Option<u64>, MaterializeError> {
    let rows = adapter.count(new_data)?;
    let settings = settings_list(model.config().query_settings());
    if rows > 0 {
        // A mutation may run on a replica that has not seen the new rows yet; the setting makes it look.
        let shared = adapter.options().database_engine.as_deref() == Some("Shared");
        let subquery_settings = if shared { " SETTINGS select_sequential_consistency = 1" } else { "" };
        let values = json!({
            "relation": relation.render(),
            "key": key,
            "new_rows": new_data.render(),
            "subquery_settings": subquery_settings,
            "predicates": predicates,
            "settings": settings,
        });
        adapter.run_ddl("materialize/delete_matching.sql", values)?;
        copy_rows(adapter, relation, new_data, &settings)?;
    }
    adapter.drop_relation(new_data)?;
    Ok(Some(rows))
}

/// Deletes the rows of an interval, then inserts the new ones. Doing it again changes nothing.
fn replace_range(
    model: &Model<'_>,
    adapter: &mut Adapter,
    relation: &Relation,
    new_data: &Relation,
    range: &[String],
) -> Result<Option<u64>, MaterializeError> {
    let rows = adapter.count(new_data)?;
    let settings = settings_list(model.config().query_settings());
    let values = json!({"relation": relation.render(), "range": range, "settings": settings});
    adapter.run_ddl("materialize/delete_range.sql", values)?;
    copy_rows(adapter, relation, new_data, &settings)?;
    adapter.drop_relation(new_data)?;
    Ok(Some(rows))
}

pub(super) fn copy_rows(
    adapter: &mut Adapter,
    relation: &Relation,
    from: &Relation,
    settings: &[String],
) -> Result<(), MaterializeError> {
    let columns: Vec<String> =
        adapter.columns(from)?.into_iter().filter(ColumnInfo::is_insertable).map(|column| column.name).collect();
    let quoted: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
    let query = format!("SELECT {}\nFROM {from}", quoted.join(", "));
    insert_query(adapter, relation, &columns, &query, settings)?;
    Ok(())
}

/// Replaces the partitions that the new rows fall in. Doing it again changes nothing.
fn replace_partitions(adapter: &mut Adapter, relation: &Relation, new_data: &Relation) -> Result<(), MaterializeError> {
    let partitions = partitions(adapter, new_data)?;
    replace_partitions_with(adapter, relation, new_data, &partitions)
}

/// Replaces these partitions, whose ids stand as literals.
pub(super) fn replace_partitions_with(
    adapter: &mut Adapter,
    relation: &Relation,
    new_data: &Relation,
    partitions: &[String],
) -> Result<(), MaterializeError> {
    if partitions.is_empty() {
        return Ok(());
    }
    let empty_source = adapter.capabilities().version >= (26, 6);
    let settings: &[&str] = if empty_source { &["allow_replace_partition_from_empty_source = 1"] } else { &[] };
    let values = json!({
        "relation": relation.render(),
        "new_rows": new_data.render(),
        "partitions": partitions,
        "settings": settings,
        "forget_replaced": adapter.capabilities().keeps_replaced_parts(),
    });
    adapter.run_ddl("materialize/replace_partitions.sql", values)?;
    adapter.forget_replaced_parts(relation)?;
    Ok(())
}

/// `legacy`: a new table of the new rows and of the existing ones whose key is not among them, exchanged with the old.
fn rebuild_with(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
    new_data: &Relation,
    key: &str,
) -> Result<Option<u64>, MaterializeError> {
    let rows = adapter.count(new_data)?;
    let aside = temporary_relation(model.relation, model.invocation, "all");
    adapter.drop_relation(&aside)?;
    let like = json!({"relation": aside.render(), "like": existing.relation.render(), "engine": null});
    adapter.run_ddl("materialize/create_table_as.sql", like)?;
    let columns: Vec<String> = adapter
        .columns(&existing.relation)?
        .iter()
        .filter(|column| column.is_insertable())
        .map(ColumnInfo::quoted)
        .collect();
    let settings = settings_list(model.config().query_settings());
    let values = json!({
        "relation": aside.render(),
        "columns": columns,
        "existing": existing.relation.render(),
        "key": key,
        "new_rows": new_data.render(),
        "settings": settings,
    });
    adapter.run("materialize/keep_unmatched.sql", &values)?;
    copy_rows(adapter, &aside, new_data, &settings)?;
    build::put_in_place(model, adapter, &aside, Some(existing))?;
    adapter.drop_relation(new_data)?;
    Ok(Some(rows))
}

/// As [`super::recover`].
pub(super) fn recover(
    model: &Model<'_>,
    adapter: &mut Adapter,
    leftovers: &[Relation],
) -> Result<bool, MaterializeError> {
    let mut finished = false;
    for leftover in leftovers {
        if invocation_of_new_data(model.relation, leftover).is_none() {
            continue;
        }
        let live = adapter.relation(model.relation)?.filter(RelationInfo::is_table);
        // Which interval a microbatch was about is not known any more; its rows are computed again.
        let batch = model.config().incremental_strategy() == Some("microbatch");
        // A config that is wrong now may have been right when half of the rows were merged: they stay until it is mended.
        let strategy = if batch { None } else { Some(Strategy::of(model.config(), None, adapter)?) };
        match (live, strategy) {
            (Some(live), Some(Strategy::DeleteInsert { key, predicates })) => {
                replace_rows(model, adapter, &live.relation, leftover, &key, &predicates)?;
                finished = true;
            }
            (Some(live), Some(Strategy::Append)) => {
                move_partitions(adapter, &live.relation, leftover)?;
                finished = true;
            }
            (Some(live), Some(Strategy::Legacy { key })) => {
                rebuild_with(model, adapter, &live, leftover, &key)?;
                finished = true;
            }
            (Some(live), Some(Strategy::InsertOverwrite)) => {
                replace_partitions(adapter, &live.relation, leftover)?;
                adapter.drop_relation(leftover)?;
                finished = true;
            }
            _ => adapter.drop_relation(leftover)?,
        }
    }
    Ok(finished)
}
