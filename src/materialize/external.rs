//! `s3` and `s3queue`: tables over objects as resources of the project, which dbt-clickhouse lacks. The model's SQL is a
//! SELECT that names and types the columns (it reads nothing); where the objects are stands in the config, by a named
//! collection, so that no credential is in any DDL.

use serde_json::json;

use super::{Materialization, MaterializeError, Model, Outcome, TableSpec, build, table_spec};
use crate::{
    adapter::{Adapter, settings_list},
    engine::quote_string,
    project::{Relation, RelationKind},
};

pub(super) struct External;

impl Materialization for External {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let config = model.config();
        let queue = model.node.materialized() == "s3queue";
        let required =
            |key: &str| config.str(key).ok_or_else(|| MaterializeError::config(key, "a table over objects needs it"));
        if queue && !adapter.capabilities().keeper {
            let reason = "S3Queue needs a Keeper: set CHPIPE_ZOOKEEPER for the embedded engine";
            return Err(MaterializeError::Unsupported(reason.to_owned()));
        }
        let collection = required("named_collection")?;
        let mut arguments = vec![collection.to_owned(), format!("filename = {}", quote_string(required("path")?))];
        arguments.push(format!("format = {}", quote_string(config.str("format").unwrap_or("Parquet"))));
        if let Some(compression) = config.str("compression") {
            arguments.push(format!("compression = {}", quote_string(compression)));
        }
        let engine = format!("{}({})", if queue { "S3Queue" } else { "S3" }, arguments.join(", "));
        let columns = build::query_columns(model, adapter)?;
        let mut spec = TableSpec::new(model.source(), &columns, adapter.options())?;
        spec.engine = engine;
        spec.order_by = None;
        spec.primary_key = None;
        spec.partition_by = None;
        spec.elements.clear();
        spec.settings = settings_list(config.settings());
        if queue && !spec.settings.iter().any(|setting| setting.starts_with("mode ")) {
            // Ordered mode would never read an object that sorts before one it has read: a backfill would be lost.
            spec.settings.push("mode = 'unordered'".to_owned());
        }
        for column in &mut spec.columns {
            column.codec = None;
            column.ttl = None;
        }
        spec.comment = table_spec::relation_comment(model.source());
        let existing = adapter.relation(model.relation)?;
        if queue && existing.is_some() && !model.full_refresh {
            // A queue table forgets what it has read when it is dropped.
            return Ok(Outcome::of(model.relation, None));
        }
        let mut outcome = Outcome::of(model.relation, None);
        if let Some(existing) = existing
            && (queue || !existing.is_table())
        {
            // They would take rows out of the new queue before their own models are made anew.
            for view in views_upon(adapter, &existing.relation)? {
                adapter.drop_relation(&view)?;
                outcome.notes.push(format!("{view} dropped until its model is run"));
            }
            adapter.drop_relation(&existing.relation)?;
        }
        let values = json!({"relation": model.relation.render(), "table": spec, "or_replace": !queue});
        adapter.run_ddl("materialize/create_external.sql", values)?;
        Ok(outcome)
    }
}

/// The materialized views that read a table.
fn views_upon(adapter: &mut Adapter, table: &Relation) -> Result<Vec<Relation>, MaterializeError> {
    let sql = format!(
        "SELECT d, t FROM system.tables ARRAY JOIN dependencies_database AS d, dependencies_table AS t \
         WHERE database = {} AND name = {}",
        quote_string(&table.schema),
        quote_string(&table.identifier)
    );
    Ok(adapter
        .rows(&sql)?
        .into_iter()
        .map(|row| {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            let mut view = Relation::new(values.next().unwrap_or_default(), values.next().unwrap_or_default());
            view.kind = Some(RelationKind::MaterializedView);
            view
        })
        .collect())
}
