//! `view`: CREATE OR REPLACE VIEW, in one step.

use serde_json::json;

use super::{Materialization, MaterializeError, Model, Outcome, build, table_spec};
use crate::{
    adapter::{Adapter, settings_list},
    engine::quote_identifier,
    project::RelationKind,
};

pub(super) struct View;

impl Materialization for View {
    fn name(&self) -> &'static str {
        "view"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let security = sql_security(model)?;
        build::run_sql_header(model, adapter)?;
        if model.config().contract_enforced() {
            build::query_columns(model, adapter)?;
        }
        let existing = adapter.existing(model.relation)?;
        if let Some(existing) = &existing {
            let replaceable = matches!(existing.kind(), RelationKind::Table | RelationKind::View)
                && adapter.can_exchange(&existing.database_engine);
            if !replaceable {
                adapter.drop_relation(&existing.relation)?;
            }
        }
        let columns = commented_columns(model, adapter)?;
        let values = json!({
            "relation": model.relation.render(),
            "columns": columns,
            "security": security,
            "query": model.sql.trim_end(),
            "settings": settings_list(model.config().query_settings()),
            "comment": table_spec::relation_comment(model.source()),
        });
        adapter.run_ddl("materialize/create_view.sql", values)?;
        Ok(Outcome::of(model.relation, None))
    }
}

/// The columns with their comments, where comments are to be kept: a view takes them at creation only.
fn commented_columns(
    model: &Model<'_>,
    adapter: &mut Adapter,
) -> Result<Option<Vec<serde_json::Value>>, MaterializeError> {
    let source = model.source();
    let wanted = model.node.columns.keys().any(|name| table_spec::column_comment(source, name).is_some());
    if !wanted {
        return Ok(None);
    }
    let columns = adapter.query_columns(model.sql, &settings_list(model.config().query_settings()))?;
    Ok(Some(
        columns
            .iter()
            .map(|column| {
                let comment = table_spec::column_comment(source, &column.name);
                json!({"name": format!("{} {}", quote_identifier(&column.name), column.data_type), "comment": comment})
            })
            .collect(),
    ))
}

/// `sql_security: definer | invoker`, with `definer`.
pub(super) fn sql_security(model: &Model<'_>) -> Result<Option<String>, MaterializeError> {
    match model.config().str("sql_security") {
        None => Ok(None),
        Some("invoker") => Ok(Some("SQL SECURITY INVOKER".to_owned())),
        Some("definer") => match model.config().str("definer") {
            Some(definer) => Ok(Some(format!("DEFINER = {definer} SQL SECURITY DEFINER"))),
            None => Err(MaterializeError::config("definer", "`sql_security: definer` needs the name of a user here")),
        },
        Some(other) => {
            Err(MaterializeError::config("sql_security", format!("`{other}` is neither `definer` nor `invoker`")))
        }
    }
}
