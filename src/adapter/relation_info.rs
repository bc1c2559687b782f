//! What the warehouse says about one of its relations and its columns. Plain data.

use crate::project::{Relation, RelationKind};

/// A table, view, materialized view or dictionary that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationInfo {
    /// Its name, with the kind set.
    pub relation: Relation,
    /// The table engine: `MergeTree`, `View`, `Dictionary`.
    pub engine: String,
    /// The engine with its clauses: `MergeTree PARTITION BY … ORDER BY … SETTINGS …`.
    pub engine_full: String,
    pub create_query: String,
    /// The SELECT of a view or materialized view.
    pub as_select: String,
    pub sorting_key: String,
    pub primary_key: String,
    pub partition_key: String,
    pub comment: String,
    /// The engine of its database: `Atomic`.
    pub database_engine: String,
}

impl RelationInfo {
    pub fn kind(&self) -> RelationKind {
        self.relation.kind.unwrap_or(RelationKind::Table)
    }

    pub fn is_table(&self) -> bool {
        self.kind() == RelationKind::Table
    }

    /// Whether it is of the MergeTree family.
    pub fn is_merge_tree(&self) -> bool {
        self.engine.contains("MergeTree")
    }

    /// `db.table` of a materialized view's `TO`, unquoted.
    pub fn target(&self) -> Option<Relation> {
        if self.kind() != RelationKind::MaterializedView {
            return None;
        }
        let head = self.create_query.split(" AS SELECT").next().unwrap_or(&self.create_query);
        let at = head.find(" TO ")?;
        let (schema, rest) = take_identifier(&head[at + 4..])?;
        let (identifier, _) = take_identifier(rest.strip_prefix('.')?)?;
        Some(Relation::new(schema, identifier))
    }

    /// Whether a materialized view has a REFRESH clause.
    pub fn is_refreshable(&self) -> bool {
        self.kind() == RelationKind::MaterializedView && self.head().contains(" REFRESH ")
    }

    /// Whether its refreshes append.
    pub fn refresh_appends(&self) -> bool {
        self.is_refreshable() && self.head().contains(" APPEND")
    }

    /// What stands before ` TO `: the refresh clause is there, and a name cannot hide one in the query.
    fn head(&self) -> &str {
        self.create_query.split(" TO ").next().unwrap_or(&self.create_query)
    }
}

/// An identifier at the start of ClickHouse's own text, quoted or not, and the rest.
fn take_identifier(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    if let Some(quoted) = text.strip_prefix('`') {
        let mut name = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => name.push(characters.next()?.1),
                '`' => return Some((name, &quoted[at + 1..])),
                other => name.push(other),
            }
        }
        return None;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// One column of a relation or of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnInfo {
    pub name: String,
    /// ClickHouse's type text: `Nullable(String)`.
    pub data_type: String,
    /// `DEFAULT`, `MATERIALIZED`, `ALIAS`, `EPHEMERAL` or empty.
    pub default_kind: String,
    pub default_expression: String,
    pub comment: String,
    /// `CODEC(ZSTD(3))`, or empty.
    pub codec: String,
    pub in_partition_key: bool,
    pub in_sorting_key: bool,
}

impl ColumnInfo {
    pub fn new(name: impl Into<String>, data_type: impl Into<String>) -> Self {
        Self { name: name.into(), data_type: data_type.into(), ..Self::default() }
    }

    /// The name in backticks.
    pub fn quoted(&self) -> String {
        crate::engine::quote_identifier(&self.name)
    }

    /// Whether an INSERT can give it a value.
    pub fn is_insertable(&self) -> bool {
        !matches!(self.default_kind.as_str(), "MATERIALIZED" | "ALIAS")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn materialized_view(create_query: &str) -> RelationInfo {
        let mut relation = Relation::new("d", "m");
        relation.kind = Some(RelationKind::MaterializedView);
        RelationInfo {
            relation,
            engine: "MaterializedView".into(),
            engine_full: String::new(),
            create_query: create_query.into(),
            as_select: String::new(),
            sorting_key: String::new(),
            primary_key: String::new(),
            partition_key: String::new(),
            comment: String::new(),
            database_engine: "Atomic".into(),
        }
    }

    #[test]
    fn the_target_is_read_from_the_create_statement() {
        let plain = materialized_view("CREATE MATERIALIZED VIEW d.m TO d.t (`a` Int32) AS SELECT 1 AS a");
        assert_eq!(plain.target(), Some(Relation::new("d", "t")));
        let quoted = materialized_view("CREATE MATERIALIZED VIEW d.m TO `my db`.`a\\`b` (`a` Int32) AS SELECT 1 AS a");
        assert_eq!(quoted.target(), Some(Relation::new("my db", "a`b")));
        assert!(!quoted.is_refreshable());
    }

    #[test]
    fn a_refresh_clause_is_seen_before_the_target_only() {
        let refreshed =
            materialized_view("CREATE MATERIALIZED VIEW d.m REFRESH EVERY 1 HOUR APPEND TO d.t AS SELECT 1");
        assert!(refreshed.is_refreshable() && refreshed.refresh_appends());
        let plain = materialized_view("CREATE MATERIALIZED VIEW d.m TO d.t AS SELECT ' REFRESH ' AS a");
        assert!(!plain.is_refreshable());
    }
}
