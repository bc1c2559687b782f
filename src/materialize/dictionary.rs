//! `dictionary`: CREATE OR REPLACE DICTIONARY over the model's query, a table, or an HTTP file.

use serde_json::{Value, json};

use super::{Materialization, MaterializeError, Model, Outcome, table_spec};
use crate::{
    adapter::Adapter,
    engine::{quote_identifier, quote_string},
    project::RelationKind,
};

pub(super) struct Dictionary;

impl Materialization for Dictionary {
    fn name(&self) -> &'static str {
        "dictionary"
    }

    fn materialize(&self, model: &Model<'_>, adapter: &mut Adapter) -> Result<Outcome, MaterializeError> {
        let config = model.config();
        let fields = fields(model)?;
        let primary_key = table_spec::primary_key(config)
            .ok_or_else(|| MaterializeError::config("primary_key", "a dictionary needs it"))?;
        let layout = config.str("layout").ok_or_else(|| MaterializeError::config("layout", "a dictionary needs it"))?;
        let source = match config.str("source_type") {
            Some("http") => http_source(model)?,
            None | Some("clickhouse") => clickhouse_source(model)?,
            Some(other) => {
                let reason = format!("`{other}` is neither `clickhouse` nor `http`");
                return Err(MaterializeError::config("source_type", reason));
            }
        };
        if let Some(existing) = adapter.relation(model.relation)?
            && existing.kind() != RelationKind::Dictionary
        {
            adapter.drop_relation(&existing.relation)?;
        }
        let text =
            |key: &str| config.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let values = json!({
            "relation": model.relation.render(),
            "fields": fields,
            "primary_key": primary_key.trim_start_matches('(').trim_end_matches(')'),
            "source": source,
            "layout": layout,
            "lifetime": text("lifetime"),
            "range": text("range"),
            "comment": table_spec::relation_comment(model.source()),
        });
        adapter.run_ddl("materialize/create_dictionary.sql", values)?;
        let mut relation = model.relation.clone();
        relation.kind = Some(RelationKind::Dictionary);
        Ok(Outcome::of(&relation, None))
    }
}

/// `fields: [[name, type], …]`, or `{name: type}`.
fn fields(model: &Model<'_>) -> Result<Vec<Value>, MaterializeError> {
    let field = |name: &str, data_type: &str| json!({"name": quote_identifier(name), "type": data_type});
    let wrong = || MaterializeError::config("fields", "a dictionary needs a list of [name, type]");
    match model.config().get("fields") {
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| match item.as_array().map(Vec::as_slice) {
                Some([Value::String(name), Value::String(data_type)]) => Ok(field(name, data_type)),
                _ => Err(wrong()),
            })
            .collect(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, data_type)| data_type.as_str().map(|data_type| field(name, data_type)).ok_or_else(wrong))
            .collect(),
        _ => Err(wrong()),
    }
}

fn http_source(model: &Model<'_>) -> Result<String, MaterializeError> {
    let required = |key: &str| {
        model.config().str(key).ok_or_else(|| MaterializeError::config(key, "a dictionary over HTTP needs it"))
    };
    Ok(format!("HTTP(URL {} FORMAT {})", quote_string(required("url")?), quote_string(required("format")?)))
}

/// The server reads from itself. Credentials are written only where `connection_overrides` names them.
fn clickhouse_source(model: &Model<'_>) -> Result<String, MaterializeError> {
    let config = model.config();
    let mut parts = Vec::new();
    if let Some(overrides) = config.map("connection_overrides") {
        for (key, name) in [("user", "USER"), ("password", "PASSWORD"), ("host", "HOST"), ("port", "PORT")] {
            match overrides.get(key) {
                Some(Value::String(text)) if !text.is_empty() => parts.push(format!("{name} {}", quote_string(text))),
                Some(Value::Number(number)) => parts.push(format!("{name} {number}")),
                _ => {}
            }
        }
    }
    match config.str("table") {
        Some(table) => {
            let database = config
                .map("connection_overrides")
                .and_then(|overrides| overrides.get("database"))
                .and_then(Value::as_str)
                .unwrap_or(&model.relation.schema);
            parts.push(format!("DB {} TABLE {}", quote_string(database), quote_string(table)));
        }
        None => parts.push(format!("QUERY {}", quote_string(model.sql.trim()))),
    }
    if let Some(field) = config.str("update_field") {
        parts.push(format!("UPDATE_FIELD {}", quote_string(field)));
    }
    if let Some(lag) = config.i64("update_lag") {
        parts.push(format!("UPDATE_LAG {lag}"));
    }
    Ok(format!("CLICKHOUSE({})", parts.join(" ")))
}
