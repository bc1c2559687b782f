//! `distributed_table` and `distributed_incremental`: a table of rows on every shard, and a Distributed table of the model's
//! name over them. They need the profile's `cluster`; an engine without one refuses them by name.

use serde_json::json;

use super::{
    Materialization, MaterializeError, Model, Outcome, TableSpec, build, grants, in_place,
    incremental::{Strategy, copy_rows, replace_partitions_with, shared_columns},
    schema_change,
};
use crate::{
    adapter::{Adapter, ColumnInfo, settings_list},
    engine::quote_string,
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
        let existing = adapter.relation(&shards.local)?;
        let Some(existing) = existing.filter(|existing| existing.is_table() && !model.full_refresh) else {
            return rebuild(model, adapter, &shards);
        };
        build::run_sql_header(model, adapter)?;
        let wanted = build::query_columns(model, adapter)?;
        let policy = model.config().on_schema_change();
        let mut notes = schema_change::apply(model, adapter, &existing, &wanted, "on_schema_change", policy)?;
        let has_new_columns = !notes.is_empty();
        notes.extend(in_place::apply(model, adapter, &existing)?);
        if has_new_columns {
            put_over(adapter, model, &shards)?;
        } else {
            create_over(adapter, model.relation, &shards.local, &shards, false)?;
        }
        let rows = match strategy {
            Strategy::Append => {
                let (names, query) = shared_columns(model, adapter, &shards.local, &wanted)?;
                let settings = settings_list(model.config().query_settings());
                build::insert_query(adapter, model.relation, &names, &query, &settings)?.written_rows
            }
            Strategy::DeleteInsert { key, predicates } => {
                replace_rows(model, adapter, &shards, &wanted, &key, &predicates)?
            }
            // The rows are the same as those of a rebuilt table, without a moment in which it is not there.
            Strategy::Legacy { key } => replace_rows(model, adapter, &shards, &wanted, &key, &[])?,
            Strategy::InsertOverwrite | Strategy::ReplaceRange { .. } => {
                overwrite_partitions(model, adapter, &shards, &wanted)?
            }
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

impl Shards {
    fn of(model: &Model<'_>, adapter: &Adapter) -> Result<Self, MaterializeError> {
        let options = adapter.options();
        let cluster = options.cluster.clone().ok_or_else(|| {
            MaterializeError::config("cluster", "distributed models need the name of a cluster in profiles.yml")
        })?;
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
        let mut local = Relation::new(
            format!("{prefix}{}", model.relation.schema),
            format!("{}{suffix}", model.relation.identifier),
        );
        local.kind = Some(RelationKind::Table);
        let sharding_key = model.config().list("sharding_key").join(", ");
        let sharding_key = if sharding_key.is_empty() { "rand()".to_owned() } else { sharding_key };
        Ok(Self { cluster, local, sharding_key })
    }

    /// A temporary table on every shard, and one over them. Their names tell of the model, so that its next run clears
    /// away what a dead one left.
    fn temporary(&self, model: &Model<'_>, purpose: &str) -> (Relation, Relation) {
        let local = self.local.with_identifier(model.relation.identifier.clone());
        let purpose_of_local = if purpose.is_empty() { "local".to_owned() } else { format!("local_{purpose}") };
        let entry = if purpose.is_empty() { "entry" } else { purpose };
        (
            build::temporary_relation(&local, model.invocation, &purpose_of_local),
            build::temporary_relation(model.relation, model.invocation, entry),
        )
    }
}

/// New local tables on every shard under a temporary name, filled through a Distributed table of their own, then renamed.
fn rebuild(model: &Model<'_>, adapter: &mut Adapter, shards: &Shards) -> Result<Outcome, MaterializeError> {
    adapter.ensure_schema(&shards.local.schema)?;
    let (aside, entry) = shards.temporary(model, "");
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
            let (backup, _) = shards.temporary(model, "backup");
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
    let existing = adapter.relation(model.relation)?;
    let replaceable = existing
        .as_ref()
        .is_some_and(|existing| existing.is_table() && adapter.can_exchange(&existing.database_engine));
    if let Some(existing) = existing.filter(|_| !replaceable) {
        adapter.drop_relation(&existing.relation)?;
    }
    create_over(adapter, model.relation, &shards.local, shards, replaceable)
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

/// New rows in tables of their own on every shard: those, and a Distributed table over them.
fn collect(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    wanted: &[ColumnInfo],
) -> Result<(Relation, Relation, Option<u64>), MaterializeError> {
    let (local_new, new_data) = shards.temporary(model, "new");
    adapter.drop_relation(&new_data)?;
    adapter.drop_relation(&local_new)?;
    let values = json!({"relation": local_new.render(), "like": shards.local.render(), "engine": null});
    adapter.run_ddl("materialize/create_table_as.sql", values)?;
    create_over(adapter, &new_data, &local_new, shards, false)?;
    let (names, query) = shared_columns(model, adapter, &shards.local, wanted)?;
    let settings = settings_list(model.config().query_settings());
    let filled = build::insert_query(adapter, &new_data, &names, &query, &settings);
    let filled = build::or_drop(adapter, &new_data, filled);
    let rows = build::or_drop(adapter, &local_new, filled)?.written_rows;
    Ok((local_new, new_data, rows))
}

/// New rows on every shard first, then the old ones with their keys are deleted there, then the new ones inserted.
fn replace_rows(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    wanted: &[ColumnInfo],
    key: &str,
    predicates: &[String],
) -> Result<Option<u64>, MaterializeError> {
    let (local_new, new_data, rows) = collect(model, adapter, shards, wanted)?;
    let settings = settings_list(model.config().query_settings());
    let values = json!({
        "relation": shards.local.render(),
        "key": key,
        "new_rows": new_data.render(),
        "subquery_settings": "",
        "predicates": predicates,
        "settings": settings,
    });
    adapter.run_ddl("materialize/delete_matching.sql", values)?;
    copy_rows(adapter, model.relation, &new_data, &settings)?;
    adapter.drop_relation(&new_data)?;
    adapter.drop_relation(&local_new)?;
    Ok(rows)
}

/// The partitions that new rows fall in on any shard are replaced on every shard.
fn overwrite_partitions(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    wanted: &[ColumnInfo],
) -> Result<Option<u64>, MaterializeError> {
    let (local_new, new_data, rows) = collect(model, adapter, shards, wanted)?;
    let sql = format!(
        "SELECT DISTINCT partition_id FROM cluster({}, system.parts) WHERE active AND database = {} AND table = {} ORDER BY 1",
        quote_string(&shards.cluster),
        quote_string(&local_new.schema),
        quote_string(&local_new.identifier)
    );
    let partitions: Vec<String> =
        adapter.rows(&sql)?.into_iter().flatten().flatten().map(|id| quote_string(&id)).collect();
    replace_partitions_with(adapter, &shards.local, &local_new, &partitions)?;
    adapter.drop_relation(&new_data)?;
    adapter.drop_relation(&local_new)?;
    Ok(rows)
}
