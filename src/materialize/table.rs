//! `table`: built aside, then exchanged with what is there.

use serde_json::json;

use super::{
    Materialization, MaterializeError, Model, Outcome, build, in_place, materialized_view::reads_stream, schema_change,
};
use crate::{
    adapter::{Adapter, RelationInfo},
    project::RelationKind,
};

pub(super) struct Table;

impl Materialization for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let existing = adapter.existing(model.relation)?;
        if let Some(existing) = &existing
            && existing.is_table()
            && !model.full_refresh
            && !model.feeding_views.is_empty()
            && let Some(existing) = adapter.relation(model.relation)?
        {
            return keep_fed_table(model, adapter, &existing);
        }
        let (aside, mut rows) = build::build_aside(model, adapter, true)?;
        if existing.is_some() && model.config().bool("repopulate_from_mvs_on_full_refresh") == Some(true) {
            for view in model.feeding_views.iter().filter(|view| !model.replaced_views.contains(view)) {
                if let Some(view) = adapter.relation(view)?
                    && !reads_stream(adapter, &view.as_select)?
                {
                    let columns = adapter.query_columns(&view.as_select, &[])?;
                    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
                    let summary = build::insert_query(adapter, &aside, &names, &view.as_select, &[])?;
                    rows = rows.zip(summary.written_rows).map(|(rows, written)| rows + written);
                }
            }
        }
        for view in model.replaced_views {
            // What it wrote into the new table would be read from its source once more; but a stream hands out rows once,
            // and while its view is away to the other views alone.
            let view = adapter.relation(view)?;
            if let Some(view) = view.filter(|view| view.kind() == RelationKind::MaterializedView)
                && !reads_stream(adapter, &view.as_select)?
            {
                adapter.drop_relation(&view.relation)?;
            }
        }
        build::put_in_place(model, adapter, &aside, existing.as_ref())?;
        Ok(Outcome::of(model.relation, rows))
    }
}

/// A table that materialized views of the project write into is not rebuilt: its rows are theirs. Its columns follow
/// `mv_on_schema_change`, `fail` where nothing is said (dbt-clickhouse's rule).
fn keep_fed_table(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
) -> Result<Outcome, MaterializeError> {
    let written = model.node.unrendered_config.get("mv_on_schema_change").is_some();
    let policy = if written { model.config().str("mv_on_schema_change").unwrap_or("ignore") } else { "fail" };
    let columns = build::query_columns(model, adapter)?;
    let mut notes = schema_change::apply(model, adapter, existing, &columns, "mv_on_schema_change", policy)?;
    notes.extend(in_place::apply(model, adapter, existing)?);
    let mut outcome = Outcome::of(model.relation, Some(0));
    outcome.notes = notes;
    outcome.response.insert("kept_for_materialized_views".to_owned(), json!(true));
    Ok(outcome)
}
