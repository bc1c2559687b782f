//! What a ClickHouse database holds, as values: tables of any engine, views, named collections. Expressions are SQL text
//! in the server's own formatting, so that two of them compare as text.

use indexmap::IndexMap;

use crate::engine::{quote_identifier, quote_string};

use super::{ClickHouseType, tokens::Tokens};

/// A table or view by its database and name. As text: `` `raw`.`raw_results` ``.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Relation {
    pub database: String,
    pub name: String,
}

impl Relation {
    pub fn new(database: impl Into<String>, name: impl Into<String>) -> Self {
        Self { database: database.into(), name: name.into() }
    }

    /// Without quotes, for people: `raw.raw_results`.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", quote_identifier(&self.database), quote_identifier(&self.name))
    }
}

/// Anything that chpipe creates in a warehouse.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are tables")]
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaObject {
    Database { name: String, engine: Option<String> },
    NamedCollection(NamedCollection),
    Table(Table),
    MaterializedView(MaterializedView),
    View(View),
}

/// A table of any engine: MergeTree, S3, S3Queue, Distributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: Relation,
    pub columns: Vec<Column>,
    pub engine: TableEngine,
    pub partition_by: Option<String>,
    pub primary_key: Option<String>,
    pub order_by: Option<String>,
    pub sample_by: Option<String>,
    pub ttl: Option<String>,
    /// Values as SQL literals.
    pub settings: IndexMap<String, String>,
    pub indexes: Vec<Index>,
    pub projections: Vec<Projection>,
    pub constraints: Vec<Constraint>,
    pub comment: String,
}

impl Table {
    /// A table without keys and settings.
    pub fn new(name: Relation, columns: Vec<Column>, engine: TableEngine) -> Self {
        Self {
            name,
            columns,
            engine,
            partition_by: None,
            primary_key: None,
            order_by: None,
            sample_by: None,
            ttl: None,
            settings: IndexMap::new(),
            indexes: Vec::new(),
            projections: Vec::new(),
            constraints: Vec::new(),
            comment: String::new(),
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The expressions of the sorting key, in order.
    pub fn sorting_key(&self) -> Vec<String> {
        self.order_by.as_deref().map(key_parts).unwrap_or_default()
    }

    /// The expressions of the primary key: the sorting key where none is given.
    pub fn primary_key_parts(&self) -> Vec<String> {
        self.primary_key.as_deref().map_or_else(|| self.sorting_key(), key_parts)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: ClickHouseType,
    pub default: Option<ColumnDefault>,
    /// What stands in the parentheses of `CODEC(…)`.
    pub codec: Option<String>,
    pub ttl: Option<String>,
    pub comment: String,
}

impl Column {
    /// A column with nothing but its type.
    pub fn new(name: impl Into<String>, kind: ClickHouseType) -> Self {
        Self { name: name.into(), kind, default: None, codec: None, ttl: None, comment: String::new() }
    }

    /// Whether the column is stored, so that an INSERT may name it.
    pub fn is_stored(&self) -> bool {
        !matches!(
            self.default,
            Some(ColumnDefault { kind: DefaultKind::Materialized | DefaultKind::Alias | DefaultKind::Ephemeral, .. })
        )
    }

    /// The declaration as it stands in CREATE and ALTER, the name included.
    pub fn declaration(&self) -> String {
        let mut out = format!("{} {}", quote_identifier(&self.name), self.kind);
        if let Some(default) = &self.default {
            out.push_str(&format!(" {} {}", default.kind.keyword(), default.expression));
        }
        if !self.comment.is_empty() {
            out.push_str(&format!(" COMMENT {}", quote_string(&self.comment)));
        }
        if let Some(codec) = &self.codec {
            out.push_str(&format!(" CODEC({codec})"));
        }
        if let Some(ttl) = &self.ttl {
            out.push_str(&format!(" TTL {ttl}"));
        }
        out
    }
}

/// `DEFAULT`, `MATERIALIZED`, `ALIAS` or `EPHEMERAL` with its expression.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefault {
    pub kind: DefaultKind,
    pub expression: String,
}

/// <https://clickhouse.com/docs/sql-reference/statements/create/table#default_values>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultKind {
    Default,
    Materialized,
    Alias,
    Ephemeral,
}

impl DefaultKind {
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::Materialized => "MATERIALIZED",
            Self::Alias => "ALIAS",
            Self::Ephemeral => "EPHEMERAL",
        }
    }
}

/// A table's engine: `ReplacingMergeTree(_loaded_at)`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableEngine {
    pub name: String,
    /// As SQL text.
    pub arguments: Vec<String>,
}

impl TableEngine {
    pub fn new(name: impl Into<String>, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { name: name.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// Whether the server keeps the rows in parts that ALTER can rewrite.
    pub fn is_merge_tree(&self) -> bool {
        self.name.ends_with("MergeTree")
    }

    /// Whether parts are copied between servers.
    pub fn is_replicated(&self) -> bool {
        self.name.starts_with("Replicated") || self.name.starts_with("Shared")
    }

    /// Whether the rows are S3 objects, so that there is nothing to alter.
    pub fn is_s3(&self) -> bool {
        self.name == "S3"
    }

    pub fn is_s3_queue(&self) -> bool {
        self.name == "S3Queue"
    }
}

impl std::fmt::Display for TableEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if !self.arguments.is_empty() {
            write!(f, "({})", self.arguments.join(", "))?;
        }
        Ok(())
    }
}

/// A data skipping index.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    pub name: String,
    pub expression: String,
    /// `bloom_filter(0.01)`.
    pub kind: String,
    pub granularity: u64,
}

impl Index {
    /// What stands after `INDEX` or `ADD INDEX`.
    pub fn declaration(&self) -> String {
        format!(
            "{} {} TYPE {} GRANULARITY {}",
            quote_identifier(&self.name),
            self.expression,
            self.kind,
            self.granularity
        )
    }
}

/// A projection with its query.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    pub name: String,
    pub query: String,
}

/// A check on inserts.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    pub name: String,
    /// `CHECK` or `ASSUME`.
    pub kind: String,
    pub expression: String,
}

/// A view whose rows go `TO` a table as they are inserted into its source.
#[derive(Debug, Clone, PartialEq)]
pub struct MaterializedView {
    pub name: Relation,
    pub to: Option<Relation>,
    pub query: String,
    pub comment: String,
}

/// A plain view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub name: Relation,
    pub query: String,
    pub comment: String,
}

/// What S3 tables need to reach a bucket; the secret never leaves it as text.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedCollection {
    pub name: String,
    /// Keys with values that may be seen.
    pub values: IndexMap<String, String>,
    /// Keys whose values are secret.
    pub secrets: Vec<String>,
}

/// The parts of a key: `(a, ifNull(b, ''))` has two, `tuple()` none.
pub(crate) fn key_parts(key: &str) -> Vec<String> {
    let trimmed = key.trim();
    let list = if trimmed == "tuple()" {
        return Vec::new();
    } else if let Some(inner) = enclosed(trimmed, "tuple(") {
        inner
    } else {
        enclosed(trimmed, "(").unwrap_or(trimmed)
    };
    split_top_level(list, ",")
}

/// Whether an expression names a column (quoted or not; strings and longer words do not count).
pub fn mentions(expression: &str, column: &str) -> bool {
    let Ok(tokens) = Tokens::of(expression) else { return true };
    tokens.list.iter().any(|token| token.identifier(expression).as_deref() == Some(column))
}

/// An expression with a column renamed in it, in the server's formatting.
pub fn rename_in_expression(expression: &str, from: &str, to: &str) -> String {
    let Ok(tokens) = Tokens::of(expression) else { return expression.to_owned() };
    let mut out = String::with_capacity(expression.len());
    let mut copied = 0;
    for (index, token) in tokens.list.iter().enumerate() {
        let is_call = tokens.list.get(index + 1).is_some_and(|next| next.source(expression) == "(");
        if token.identifier(expression).as_deref() == Some(from) && !is_call {
            out.push_str(&expression[copied..token.start]);
            // The server leaves a plain name bare.
            let plain = to.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !to.starts_with(|c: char| c.is_ascii_digit());
            out.push_str(&if plain { to.to_owned() } else { quote_identifier(to) });
            copied = token.end;
        }
    }
    out.push_str(&expression[copied..]);
    out
}

/// What is between `open` and the last parenthesis, where they belong together.
fn enclosed<'a>(text: &'a str, open: &str) -> Option<&'a str> {
    let inner = text.strip_prefix(open)?.strip_suffix(')')?;
    let tokens = Tokens::of(inner).ok()?;
    let mut depth = 0_i32;
    for token in &tokens.list {
        match token.source(inner) {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    (depth == 0).then_some(inner)
}

/// The arguments between the parentheses of a function or an engine.
pub fn split_arguments(text: &str) -> Vec<String> {
    split_top_level(text, ",")
}

/// Splits at a symbol outside of parentheses, brackets and quotes; blank parts are left out.
pub(crate) fn split_top_level(text: &str, separator: &str) -> Vec<String> {
    let Ok(tokens) = Tokens::of(text) else { return vec![text.trim().to_owned()] };
    let mut parts = Vec::new();
    let mut depth = 0_i32;
    let mut start = 0;
    for token in &tokens.list {
        match token.source(text) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            symbol if depth == 0 && symbol == separator => {
                parts.push(text[start..token.start].trim().to_owned());
                start = token.end;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim().to_owned());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_into_their_parts() {
        assert_eq!(key_parts("(season, ifNull(car, -1), batch_id)"), ["season", "ifNull(car, -1)", "batch_id"]);
        assert_eq!(key_parts("tuple()"), Vec::<String>::new());
        assert_eq!(key_parts("tuple(a DESC, b)"), ["a DESC", "b"]);
        assert_eq!(key_parts("f(a, b)"), ["f(a, b)"]);
        assert_eq!(key_parts("(a) + (b)"), ["(a) + (b)"]);
    }
}
