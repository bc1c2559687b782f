//! `distributed_table` and `distributed_incremental`: a table of rows on every shard, and a Distributed table of the model's
//! name over them. They need the profile's `cluster`, or the embedded engine, which is a cluster of itself alone. As with
//! `incremental`, new rows are complete before the table is touched, and whoever comes next finishes from them ([`recover`]).

use serde_json::json;

use super::{
    Materialization, MaterializeError, Model, Outcome, TableSpec, build, grants, in_place,
    incremental::{
        Strategy, check_key, copy_rows, invocation_of_new_data, new_data_relation, replace_partitions_with,
        shared_columns, takes_partitions,
    },
    schema_change,
};
use crate::{
    adapter::{Adapter, AdapterOptions, ColumnInfo, RelationInfo, settings_list},
    engine::{EMBEDDED_CLUSTER, quote_string},
    project::{Relation, RelationKind},
};

pub(super) struct DistributedTable;
pub(super) struct DistributedIncremental;

impl Materialization for DistributedTable {
    fn name(&self) -> &'static str {
        "distributed_table"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let shards = Shards::of(model, adapter)?;
        rebuild(model, adapter, &shards)
    }
}

impl Materialization for DistributedIncremental {
    fn name(&self) -> &'static str {
        "distributed_incremental"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let shards = Shards::of(model, adapter)?;
        if model.config().incremental_strategy() == Some("microbatch") {
            let reason = "`microbatch` is for models that are `incremental`";
            return Err(MaterializeError::config("incremental_strategy", reason));
        }
        let strategy = Strategy::of(model.config(), None, adapter)?;
        let Some(existing) = shards.to_continue(model, adapter)? else {
            return rebuild(model, adapter, &shards);
        };
        build::run_sql_header(model, adapter)?;
        let wanted = build::query_columns(model, adapter)?;
        check_key(model, &wanted)?;
        let policy = model.config().on_schema_change();
        let mut notes = schema_change::apply(model, adapter, &existing, &wanted, "on_schema_change", policy)?;
        notes.extend(in_place::apply(model, adapter, &existing)?);
        // The columns may also be of a run that ended before it came to this.
        if has_other_columns(adapter, model.relation, &shards.local)? {
            put_over(adapter, model, &shards)?;
        } else {
            create_over(adapter, model.relation, &shards.local, &shards, false)?;
        }
        let rows = if strategy == Strategy::Append && !takes_partitions(adapter, &existing)? {
            let (names, query) = shared_columns(model, adapter, &shards.local, &wanted)?;
            let settings = settings_list(model.config().query_settings());
            build::insert_query(adapter, model.relation, &names, &query, &settings)?.written_rows
        } else {
            let new = collect(model, adapter, &shards, &wanted)?;
            Some(merge(model, adapter, &shards, &new, strategy)?)
        };
        grants::apply_grants(&Model { relation: &shards.local, ..*model }, adapter)?;
        let mut outcome = Outcome::of(model.relation, rows);
        outcome.notes = notes;
        Ok(outcome)
    }
}

/// Where the rows are.
struct Shards {
    cluster: String,
    /// The table on every shard.
    local: Relation,
    sharding_key: String,
}

/// The table of rows on every shard that belongs to a distributed model's relation.
pub fn local_relation(relation: &Relation, options: &AdapterOptions) -> Relation {
    let suffix = match options.local_suffix.as_str() {
        "" => String::new(),
        suffix if suffix.starts_with('_') => suffix.to_owned(),
        suffix => format!("_{suffix}"),
    };
    let prefix = match options.local_db_prefix.as_str() {
        "" => String::new(),
        prefix if prefix.ends_with('_') => prefix.to_owned(),
        prefix => format!("{prefix}_"),
    };
    let mut local = Relation::new(format!("{prefix}{}", relation.schema), format!("{}{suffix}", relation.identifier));
    local.kind = Some(RelationKind::Table);
    local
}

impl Shards {
    fn of(model: &Model<'_>, adapter: &Adapter) -> Result<Self, MaterializeError> {
        let options = adapter.options();
        let embedded = options.embedded.then(|| EMBEDDED_CLUSTER.to_owned());
        let cluster = options.cluster.clone().or(embedded).ok_or_else(|| {
            MaterializeError::config("cluster", "distributed models need the name of a cluster in profiles.yml")
        })?;
        let local = local_relation(model.relation, options);
        let sharding_key = model.config().list("sharding_key").join(", ");
        let sharding_key = if sharding_key.is_empty() { "rand()".to_owned() } else { sharding_key };
        Ok(Self { cluster, local, sharding_key })
    }

    /// A temporary table on every shard. Its name tells of the model, so that its next run clears away what a dead one left.
    fn temporary(&self, model: &Model<'_>, invocation: &str, purpose: &str) -> Relation {
        let local = self.local.with_identifier(model.relation.identifier.clone());
        build::temporary_relation(&local, invocation, purpose)
    }

    /// The local table, where the run adds to what is there. The model's SQL has asked `is_incremental()`, which looks at
    /// the table over it: where that is missing, the query is about all rows.
    fn to_continue(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Option<RelationInfo>, MaterializeError> {
        if model.full_refresh {
            return Ok(None);
        }
        let local = adapter.relation(&self.local)?.filter(RelationInfo::is_table);
        let over = adapter.relation(model.relation)?.filter(RelationInfo::is_table);
        match (local, over) {
            (None, Some(over)) if over.engine != "Distributed" => Err(MaterializeError::config(
                "materialized",
                format!(
                    "{} is a table with rows of its own ({}); `--full-refresh` makes it anew on the shards",
                    model.relation, over.engine
                ),
            )),
            (Some(local), Some(_)) => Ok(Some(local)),
            _ => Ok(None),
        }
    }
}

/// New local tables on every shard under a temporary name, filled through a Distributed table of their own, then renamed.
fn rebuild(model: &Model<'_>, adapter: &mut Adapter, shards: &Shards) -> Result<Outcome, MaterializeError> {
    adapter.ensure_schema(&shards.local.schema)?;
    let aside = shards.temporary(model, model.invocation, "local");
    let entry = build::temporary_relation(model.relation, model.invocation, "entry");
    adapter.drop_relation(&entry)?;
    adapter.drop_relation(&aside)?;
    build::run_sql_header(model, adapter)?;
    let columns = build::query_columns(model, adapter)?;
    let spec = TableSpec::new(model.source(), &columns, adapter.options())?;
    build::create_table(adapter, &aside, &spec)?;
    create_over(adapter, &entry, &aside, shards, false)?;
    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    let settings = settings_list(model.config().query_settings());
    let filled = build::insert_query(adapter, &entry, &names, &build::ordered_query(model, &names), &settings);
    adapter.drop_relation(&entry)?;
    let rows = build::or_drop(adapter, &aside, filled)?.written_rows;
    match adapter.relation(&shards.local)? {
        Some(existing) if adapter.can_exchange(&existing.database_engine) => {
            adapter.exchange(&aside, &shards.local)?;
            adapter.drop_relation(&aside)?;
        }
        Some(_) => {
            let backup = shards.temporary(model, model.invocation, "local_backup");
            adapter.rename(&[(&shards.local, &backup), (&aside, &shards.local)])?;
            adapter.drop_relation(&backup)?;
        }
        None => adapter.rename(&[(&aside, &shards.local)])?,
    }
    put_over(adapter, model, shards)?;
    grants::apply_grants(&Model { relation: &shards.local, ..*model }, adapter)?;
    Ok(Outcome::of(model.relation, rows))
}

/// A Distributed table of the local table's columns in the place of what is there. It holds no rows of its own.
fn put_over(adapter: &mut Adapter, model: &Model<'_>, shards: &Shards) -> Result<(), MaterializeError> {
    match adapter.relation(model.relation)? {
        Some(existing) if existing.is_table() && adapter.can_exchange(&existing.database_engine) => {
            create_over(adapter, model.relation, &shards.local, shards, true)
        }
        None => create_over(adapter, model.relation, &shards.local, shards, false),
        // Where nothing can be replaced in one step, the name is away for one statement of the server's, not for a run
        // that ends in between.
        Some(existing) => {
            let aside = build::temporary_relation(model.relation, model.invocation, "over");
            let mut backup = build::temporary_relation(model.relation, model.invocation, "backup");
            backup.kind = Some(existing.kind());
            adapter.drop_relation(&aside)?;
            create_over(adapter, &aside, &shards.local, shards, false)?;
            adapter.rename(&[(&existing.relation, &backup), (&aside, model.relation)])?;
            Ok(adapter.drop_relation(&backup)?)
        }
    }
}

/// Whether the table over the shards lacks columns of theirs, or has others.
fn has_other_columns(adapter: &mut Adapter, over: &Relation, local: &Relation) -> Result<bool, MaterializeError> {
    let mut columns = |relation: &Relation| -> Result<Vec<(String, String)>, MaterializeError> {
        Ok(adapter.columns(relation)?.into_iter().map(|column| (column.name, column.data_type)).collect())
    };
    Ok(columns(over)? != columns(local)?)
}

fn create_over(
    adapter: &mut Adapter,
    relation: &Relation,
    local: &Relation,
    shards: &Shards,
    or_replace: bool,
) -> Result<(), MaterializeError> {
    let values = json!({
        "relation": relation.render(),
        "or_replace": or_replace,
        "local": local.render(),
        "cluster": quote_string(&shards.cluster),
        "local_database": quote_string(&local.schema),
        "local_table": quote_string(&local.identifier),
        "sharding_key": shards.sharding_key,
    });
    adapter.run_ddl("materialize/create_distributed.sql", values)?;
    Ok(())
}

/// New rows on every shard, complete.
struct NewRows {
    local: Relation,
    /// Over them.
    entry: Relation,
}

impl NewRows {
    fn of(model: &Model<'_>, shards: &Shards, invocation: &str) -> Self {
        Self {
            local: shards.temporary(model, invocation, "local_new"),
            entry: new_data_relation(model.relation, invocation, ""),
        }
    }

    /// The table whose name says that the rows are complete goes first.
    fn drop(&self, adapter: &mut Adapter) -> Result<(), MaterializeError> {
        adapter.drop_relation(&self.entry)?;
        Ok(adapter.drop_relation(&self.local)?)
    }
}

/// Collects the new rows in tables of their own on every shard, of the local table's layout. The last step renames the
/// Distributed table over them: under the final name it is complete.
fn collect(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    wanted: &[ColumnInfo],
) -> Result<NewRows, MaterializeError> {
    let new = NewRows::of(model, shards, model.invocation);
    let collecting = build::temporary_relation(model.relation, model.invocation, "new");
    adapter.drop_relation(&collecting)?;
    new.drop(adapter)?;
    let values = json!({"relation": new.local.render(), "like": shards.local.render(), "engine": null});
    adapter.run_ddl("materialize/create_table_as.sql", values)?;
    create_over(adapter, &collecting, &new.local, shards, false)?;
    let (names, query) = shared_columns(model, adapter, &shards.local, wanted)?;
    let settings = settings_list(model.config().query_settings());
    let filled = build::insert_query(adapter, &collecting, &names, &query, &settings);
    let filled = build::or_drop(adapter, &collecting, filled);
    build::or_drop(adapter, &new.local, filled)?;
    adapter.rename(&[(&collecting, &new.entry)])?;
    Ok(new)
}

/// Brings the new rows into the table, and drops what held them; answers how many there were. Doing it again, from
/// whichever statement on, changes nothing.
fn merge(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    new: &NewRows,
    strategy: Strategy,
) -> Result<u64, MaterializeError> {
    let rows = adapter.count(&new.entry)?;
    match strategy {
        Strategy::Append => move_partitions(adapter, shards, new)?,
        Strategy::DeleteInsert { key, predicates } => replace_rows(model, adapter, shards, new, &key, &predicates)?,
        // The rows are the same as those of a rebuilt table, without a moment in which it is not there.
        Strategy::Legacy { key } => replace_rows(model, adapter, shards, new, &key, &[])?,
        Strategy::InsertOverwrite | Strategy::ReplaceRange { .. } => {
            let partitions = partitions(adapter, shards, &new.local)?;
            replace_partitions_with(adapter, &shards.local, &new.local, &partitions)?;
        }
    }
    new.drop(adapter)?;
    Ok(rows)
}

/// Deletes the old rows with the keys of new ones on every shard, then inserts those.
fn replace_rows(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    new: &NewRows,
    key: &str,
    predicates: &[String],
) -> Result<(), MaterializeError> {
    let settings = settings_list(model.config().query_settings());
    let values = json!({
        "relation": shards.local.render(),
        "key": key,
        "new_rows": new.entry.render(),
        "subquery_settings": "",
        "predicates": predicates,
        "settings": settings,
    });
    adapter.run_ddl("materialize/delete_matching.sql", values)?;
    copy_rows(adapter, model.relation, &new.entry, &settings)
}

/// Moves everything on every shard; a partition that was moved is no longer among the new rows.
fn move_partitions(adapter: &mut Adapter, shards: &Shards, new: &NewRows) -> Result<(), MaterializeError> {
    for partition in partitions(adapter, shards, &new.local)? {
        adapter.alter(&new.local, &[format!("MOVE PARTITION ID {partition} TO TABLE {}", shards.local)])?;
    }
    Ok(())
}

/// The ids of the partitions that a table has on any shard, as literals. One that a shard lacks is moved and replaced there
/// all the same: that is nothing to move, and old rows to drop.
fn partitions(adapter: &mut Adapter, shards: &Shards, local: &Relation) -> Result<Vec<String>, MaterializeError> {
    let sql = format!(
        "SELECT DISTINCT partition_id FROM cluster({}, system.parts) WHERE active AND database = {} AND table = {} ORDER BY 1",
        quote_string(&shards.cluster),
        quote_string(&local.schema),
        quote_string(&local.identifier)
    );
    Ok(adapter.rows(&sql)?.into_iter().flatten().flatten().map(|id| quote_string(&id)).collect())
}

/// As [`super::recover`], on every shard.
pub(super) fn recover(
    model: &Model<'_>,
    adapter: &mut Adapter,
    leftovers: &[Relation],
) -> Result<bool, MaterializeError> {
    let shards = Shards::of(model, adapter)?;
    let mut finished = false;
    for leftover in leftovers {
        let Some(invocation) = invocation_of_new_data(model.relation, leftover) else { continue };
        let new = NewRows::of(model, &shards, invocation);
        // What cannot be asked now may be half merged: it stays for the next attempt.
        let strategy = Strategy::of(model.config(), None, adapter)?;
        let table = shards.to_continue(model, adapter)?;
        // Where the rows below are gone, a shard was late with a name that the last run has dropped meanwhile.
        let is_complete = adapter.relation(&new.local)?.is_some();
        if table.is_some() && is_complete {
            merge(model, adapter, &shards, &new, strategy)?;
            finished = true;
        } else {
            new.drop(adapter)?;
        }
    }
    Ok(finished)
}
