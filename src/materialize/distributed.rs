//! `distributed_table` and `distributed_incremental`: a table of rows on every shard, and a Distributed table of the model's
//! name over them. They need the profile's `cluster`; an engine without one refuses them by name.

use serde_json::json;

use super::{Materialization, MaterializeError, Model, Outcome, TableSpec, build, schema_change};
use crate::{
    adapter::{Adapter, ColumnInfo, settings_list},
    engine::{quote_identifier, quote_string},
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
        let existing = adapter.relation(&shards.local)?;
        let Some(existing) = existing.filter(|existing| existing.is_table() && !model.full_refresh) else {
            return rebuild(model, adapter, &shards);
        };
        let wanted = build::query_columns(model, adapter)?;
        let policy = model.config().on_schema_change();
        let notes = schema_change::apply(model, adapter, &existing, &wanted, "on_schema_change", policy)?;
        create_distributed(adapter, model, &shards)?;
        let key: Vec<String> = model.config().unique_key();
        let settings = settings_list(model.config().query_settings());
        let names: Vec<String> = wanted.iter().map(|column| column.name.clone()).collect();
        let query = build::ordered_query(model, &names);
        let appends = key.is_empty()
            || model.config().bool("inserts_only") == Some(true)
            || model.config().incremental_strategy() == Some("append");
        if appends {
            let summary = build::insert_query(adapter, model.relation, &names, &query, &settings)?;
            let mut outcome = Outcome::of(model.relation, summary.written_rows);
            outcome.notes = notes;
            return Ok(outcome);
        }
        let rows = replace_rows(model, adapter, &shards, &wanted, &key.join(", "))?;
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
}

/// New local tables on every shard under a temporary name, filled through a Distributed table of their own, then renamed.
fn rebuild(model: &Model<'_>, adapter: &mut Adapter, shards: &Shards) -> Result<Outcome, MaterializeError> {
    adapter.ensure_schema(&shards.local.schema)?;
    let aside = build::temporary_relation(&shards.local, model.invocation, "");
    let entry = build::temporary_relation(model.relation, model.invocation, "entry");
    adapter.drop_relation(&entry)?;
    adapter.drop_relation(&aside)?;
    let columns = build::query_columns(model, adapter)?;
    let spec = TableSpec::new(model.source(), &columns, adapter.options())?;
    build::create_table(adapter, &aside, &spec)?;
    create_over(adapter, &entry, &aside, shards)?;
    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    let settings = settings_list(model.config().query_settings());
    let query = build::ordered_query(model, &names);
    let summary = build::insert_query(adapter, &entry, &names, &query, &settings)?;
    adapter.drop_relation(&entry)?;
    match adapter.relation(&shards.local)? {
        Some(existing) if adapter.can_exchange(&existing.database_engine) => {
            adapter.exchange(&aside, &shards.local)?;
            adapter.drop_relation(&aside)?;
        }
        Some(_) => {
            let backup = build::temporary_relation(&shards.local, model.invocation, "backup");
            adapter.rename(&[(&shards.local, &backup), (&aside, &shards.local)])?;
            adapter.drop_relation(&backup)?;
        }
        None => adapter.rename(&[(&aside, &shards.local)])?,
    }
    // Its columns may be others now; it holds no rows of its own.
    if let Some(existing) = adapter.relation(model.relation)? {
        adapter.drop_relation(&existing.relation)?;
    }
    create_distributed(adapter, model, shards)?;
    Ok(Outcome::of(model.relation, summary.written_rows))
}

fn create_distributed(adapter: &mut Adapter, model: &Model<'_>, shards: &Shards) -> Result<(), MaterializeError> {
    create_over(adapter, model.relation, &shards.local, shards)
}

fn create_over(
    adapter: &mut Adapter,
    relation: &Relation,
    local: &Relation,
    shards: &Shards,
) -> Result<(), MaterializeError> {
    let values = json!({
        "relation": relation.render(),
        "local": local.render(),
        "cluster": quote_string(&shards.cluster),
        "local_database": quote_string(&local.schema),
        "local_table": quote_string(&local.identifier),
        "sharding_key": shards.sharding_key,
    });
    adapter.run_ddl("materialize/create_distributed.sql", values)?;
    Ok(())
}

/// New rows on every shard first, then the old ones with their keys are deleted there, then the new ones inserted.
fn replace_rows(
    model: &Model<'_>,
    adapter: &mut Adapter,
    shards: &Shards,
    wanted: &[ColumnInfo],
    key: &str,
) -> Result<Option<u64>, MaterializeError> {
    let local_new = build::temporary_relation(&shards.local, model.invocation, "new");
    let new_data = build::temporary_relation(model.relation, model.invocation, "new");
    adapter.drop_relation(&new_data)?;
    adapter.drop_relation(&local_new)?;
    let values = json!({"relation": local_new.render(), "like": shards.local.render(), "engine": null});
    adapter.run_ddl("materialize/create_table_as.sql", values)?;
    create_over(adapter, &new_data, &local_new, shards)?;
    let names: Vec<String> = wanted.iter().map(|column| column.name.clone()).collect();
    let settings = settings_list(model.config().query_settings());
    let query = build::ordered_query(model, &names);
    let summary = build::insert_query(adapter, &new_data, &names, &query, &settings)?;
    let values = json!({
        "relation": shards.local.render(),
        "key": key,
        "new_rows": new_data.render(),
        "subquery_settings": "",
        "predicates": model.config().list("incremental_predicates"),
        "settings": settings,
    });
    adapter.run_ddl("materialize/delete_matching.sql", values)?;
    let quoted: Vec<String> = names.iter().map(|name| quote_identifier(name)).collect();
    let query = format!("SELECT {}\nFROM {new_data}", quoted.join(", "));
    build::insert_query(adapter, model.relation, &names, &query, &settings)?;
    adapter.drop_relation(&new_data)?;
    adapter.drop_relation(&local_new)?;
    Ok(summary.written_rows)
}
