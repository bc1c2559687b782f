//! The table that a model's configuration describes: columns with codec, ttl and comment, engine, keys, settings, indexes,
//! projections, constraints. In: config, properties, the query's columns; out: the values of `create_table.sql`. Pure.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::MaterializeError;
use crate::{
    adapter::{AdapterOptions, ColumnInfo, settings_list},
    engine::{quote_identifier, quote_string},
    project::{Column, NodeConfig},
};

/// Engines beside the MergeTree family that take ORDER BY (dbt-clickhouse's list).
const SORTED_ENGINES: [&str; 5] = ["HDFS", "MaterializedPostgreSQL", "S3", "EmbeddedRocksDB", "Hive"];

/// What `create_table.sql` is rendered with, as `table`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableSpec {
    pub columns: Vec<ColumnSpec>,
    /// Indexes, projections and constraints, whole.
    pub elements: Vec<String>,
    pub engine: String,
    pub partition_by: Option<String>,
    pub primary_key: Option<String>,
    pub order_by: Option<String>,
    pub ttl: Option<String>,
    /// `name = value` each.
    pub settings: Vec<String>,
    /// A literal.
    pub comment: Option<String>,
}

/// One column of a table to be made. Everything is SQL text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ColumnSpec {
    /// In backticks.
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    /// `DEFAULT now()`.
    pub default: Option<String>,
    pub codec: Option<String>,
    pub ttl: Option<String>,
    /// A literal.
    pub comment: Option<String>,
}

/// A named part of a table: an index or a projection with its definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedElement {
    pub(super) name: String,
    /// What follows the name.
    pub(super) definition: String,
}

/// What of a node decides its table.
#[derive(Debug, Clone, Copy)]
pub struct TableSource<'a> {
    pub config: &'a NodeConfig,
    /// The columns of the properties file.
    pub documented: &'a IndexMap<String, Column>,
    pub description: &'a str,
    /// Model-level constraints of the properties file.
    pub constraints: &'a [Value],
}

impl TableSpec {
    /// The table for a query with these columns.
    ///
    /// # Errors
    /// An index, projection or constraint that is not complete.
    pub fn new(
        source: TableSource<'_>,
        columns: &[ColumnInfo],
        options: &AdapterOptions,
    ) -> Result<Self, MaterializeError> {
        let config = source.config;
        let engine = config.engine().to_owned();
        let merge_tree = engine.contains("MergeTree");
        let columns = columns.iter().map(|column| column_spec(source, column)).collect();
        let mut elements = Vec::new();
        for index in indexes(config)? {
            elements.push(format!("INDEX {} {}", quote_identifier(&index.name), index.definition));
        }
        for projection in projections(config)? {
            elements.push(format!("PROJECTION {} {}", quote_identifier(&projection.name), projection.definition));
        }
        elements.extend(check_constraints(source)?);
        Ok(Self {
            columns,
            elements,
            partition_by: tuple(&config.partition_by()),
            primary_key: merge_tree.then(|| primary_key(config)).flatten(),
            order_by: (merge_tree || SORTED_ENGINES.contains(&engine.as_str())).then(|| order_by(config)),
            ttl: ttl(config),
            settings: table_settings(config, &engine, options),
            comment: relation_comment(source),
            engine,
        })
    }

    /// A table of these columns and nothing else, for rows on their way.
    pub fn plain(columns: &[ColumnInfo], engine: &str) -> Self {
        let column = |column: &ColumnInfo| ColumnSpec {
            name: column.quoted(),
            data_type: column.data_type.clone(),
            ..ColumnSpec::default()
        };
        Self {
            columns: columns.iter().map(column).collect(),
            order_by: engine.contains("MergeTree").then(|| "tuple()".to_owned()),
            engine: engine.to_owned(),
            ..Self::default()
        }
    }

    /// Whether no column has a codec, a TTL or a comment of its own.
    pub fn columns_are_plain(source: TableSource<'_>) -> bool {
        source.documented.iter().all(|(name, column)| {
            extra_text(column, "codec").is_none()
                && extra_text(column, "ttl").is_none()
                && column_comment(source, name).is_none()
        })
    }

    /// Whether the table keeps sorted parts.
    pub fn is_merge_tree(&self) -> bool {
        self.engine.contains("MergeTree")
    }
}

fn column_spec(source: TableSource<'_>, column: &ColumnInfo) -> ColumnSpec {
    let documented = source.documented.get(&column.name);
    ColumnSpec {
        name: column.quoted(),
        data_type: column.data_type.clone(),
        default: None,
        codec: documented.and_then(|column| extra_text(column, "codec")),
        ttl: documented.and_then(|column| extra_text(column, "ttl")),
        comment: column_comment(source, &column.name),
    }
}

/// `codec` and `ttl` stand beside the column's other properties, or in its `config` or `meta`.
pub(super) fn extra_text(column: &Column, key: &str) -> Option<String> {
    [&column.extra, &column.config, &column.meta]
        .iter()
        .find_map(|map| map.get(key))
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
        .map(str::to_owned)
}

/// The comment of a column as a literal, where `persist_docs.columns` asks for it.
pub(super) fn column_comment(source: TableSource<'_>, name: &str) -> Option<String> {
    if !persists(source.config, "columns") {
        return None;
    }
    let column = source.documented.get(name)?;
    (!column.description.is_empty()).then(|| quote_string(&column.description))
}

/// The comment of the relation as a literal, where `persist_docs.relation` asks for it.
pub(super) fn relation_comment(source: TableSource<'_>) -> Option<String> {
    (persists(source.config, "relation") && !source.description.is_empty()).then(|| quote_string(source.description))
}

fn persists(config: &NodeConfig, what: &str) -> bool {
    config.map("persist_docs").and_then(|docs| docs.get(what)).and_then(Value::as_bool).unwrap_or(false)
}

/// `(a, b)`; a single text stands as it is, in parentheses only where it is a bare list.
pub(super) fn tuple(items: &[String]) -> Option<String> {
    match items {
        [] => None,
        [one] if !has_outer_comma(one) => Some(one.clone()),
        many => Some(format!("({})", many.join(", "))),
    }
}

/// Whether a comma stands outside of all parentheses, brackets and quotes.
fn has_outer_comma(text: &str) -> bool {
    let mut depth = 0_i32;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(character),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            (None, ',') if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// The sorting key: `tuple()` where nothing is said.
pub(super) fn order_by(config: &NodeConfig) -> String {
    tuple(&config.order_by()).unwrap_or_else(|| "tuple()".to_owned())
}

/// The primary key, where the config names one.
pub(super) fn primary_key(config: &NodeConfig) -> Option<String> {
    let items: Vec<String> = config.primary_key().into_iter().filter(|item| !item.trim().is_empty()).collect();
    tuple(&items)
}

fn ttl(config: &NodeConfig) -> Option<String> {
    let items = config.list("ttl");
    (!items.is_empty()).then(|| items.join(", "))
}

/// The settings of the table. dbt-clickhouse switches block deduplication off unless the profile allows it, because two
/// equal inserts of a model are not a repeated one; the embedded engine has no replicated tables.
pub(super) fn table_settings(config: &NodeConfig, engine: &str, options: &AdapterOptions) -> Vec<String> {
    let mut settings = settings_list(config.settings());
    let merge_tree = engine.contains("MergeTree");
    if !merge_tree {
        settings.retain(|setting| !setting.starts_with("replicated_deduplication_window"));
    } else if !options.embedded
        && !options.allow_automatic_deduplication
        && !settings.iter().any(|setting| setting.starts_with("replicated_deduplication_window "))
    {
        settings.push("replicated_deduplication_window = 0".to_owned());
    }
    settings
}

/// `indexes: [{name, definition}]`; dbt's own form `{columns, type}` is taken as well.
///
/// # Errors
/// An entry without a name or definition.
pub(super) fn indexes(config: &NodeConfig) -> Result<Vec<NamedElement>, MaterializeError> {
    let Some(Value::Array(entries)) = config.get("indexes") else { return Ok(Vec::new()) };
    entries
        .iter()
        .map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            match (text("name"), text("definition")) {
                (Some(name), Some(definition)) => {
                    Ok(NamedElement { name: name.to_owned(), definition: definition.to_owned() })
                }
                _ => Err(MaterializeError::config("indexes", format!("`{entry}` needs a `name` and a `definition`"))),
            }
        })
        .collect()
}

/// `projections: [{name, query}]`, or `{name, index}` for a projection that only sorts.
///
/// # Errors
/// An entry with neither or both.
pub(super) fn projections(config: &NodeConfig) -> Result<Vec<NamedElement>, MaterializeError> {
    let Some(Value::Array(entries)) = config.get("projections") else { return Ok(Vec::new()) };
    entries.iter().map(projection).collect()
}

fn projection(entry: &Value) -> Result<NamedElement, MaterializeError> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let name =
        text("name").ok_or_else(|| MaterializeError::config("projections", format!("`{entry}` needs a `name`")))?;
    let index: Vec<String> = match entry.get("index") {
        Some(Value::String(column)) => vec![column.clone()],
        Some(Value::Array(columns)) => columns.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let definition = match (text("query"), index.is_empty()) {
        (Some(_), false) => {
            let reason = format!("projection `{name}` cannot have both `query` and `index`");
            return Err(MaterializeError::config("projections", reason));
        }
        (Some(query), true) => format!("({query})"),
        (None, false) => format!("(SELECT _part_offset ORDER BY {})", index.join(", ")),
        (None, true) => {
            let reason = format!("projection `{name}` needs `query` or `index`");
            return Err(MaterializeError::config("projections", reason));
        }
    };
    Ok(NamedElement { name, definition })
}

/// CHECK constraints of the properties file; they are made where a contract is enforced.
fn check_constraints(source: TableSource<'_>) -> Result<Vec<String>, MaterializeError> {
    if !source.config.contract_enforced() {
        return Ok(Vec::new());
    }
    let mut constraints = Vec::new();
    for constraint in source.constraints {
        let text = |key: &str| constraint.get(key).and_then(Value::as_str);
        if text("type") != Some("check") {
            continue;
        }
        let Some(expression) = text("expression") else { continue };
        let name = text("name")
            .ok_or_else(|| MaterializeError::config("constraints", format!("CHECK ({expression}) needs a `name`")))?;
        constraints.push(format!("CONSTRAINT {} CHECK ({expression})", quote_identifier(name)));
    }
    Ok(constraints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> NodeConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn keys_are_lists_or_expressions() {
        assert_eq!(order_by(&config(json!({}))), "tuple()");
        assert_eq!(order_by(&config(json!({"order_by": "(a, b)"}))), "(a, b)");
        assert_eq!(order_by(&config(json!({"order_by": ["a", "b"]}))), "(a, b)");
        assert_eq!(primary_key(&config(json!({"primary_key": ""}))), None);
        assert_eq!(primary_key(&config(json!({"primary_key": "a, b"}))).as_deref(), Some("(a, b)"));
    }

    #[test]
    fn a_projection_is_a_query_or_an_index() {
        let both = config(json!({"projections": [{"name": "p", "query": "select 1", "index": "a"}]}));
        assert!(projections(&both).unwrap_err().to_string().contains("cannot have both"));
        let index = config(json!({"projections": [{"name": "p", "index": ["a", "b"]}]}));
        assert_eq!(projections(&index).unwrap()[0].definition, "(SELECT _part_offset ORDER BY a, b)");
    }

    #[test]
    fn deduplication_is_off_on_servers_only() {
        let server = AdapterOptions { embedded: false, ..AdapterOptions::embedded() };
        let none = config(json!({}));
        assert_eq!(table_settings(&none, "MergeTree()", &server), ["replicated_deduplication_window = 0"]);
        assert!(table_settings(&none, "Memory", &server).is_empty());
        assert!(table_settings(&none, "MergeTree()", &AdapterOptions::embedded()).is_empty());
        let set = config(json!({"settings": {"allow_nullable_key": 1, "storage_policy": "hot"}}));
        assert_eq!(
            table_settings(&set, "MergeTree()", &AdapterOptions::embedded()),
            ["allow_nullable_key = 1", "storage_policy = 'hot'"]
        );
    }
}
