//! What a node becomes in ClickHouse: a table, view or dictionary in a database. dbt calls ClickHouse's database
//! `schema`; its own `database` is always empty here (dbt-clickhouse's rule).

use crate::engine::quote_identifier;

/// A name in the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// The ClickHouse database.
    pub schema: String,
    pub identifier: String,
    pub kind: Option<RelationKind>,
}

/// dbt-clickhouse's relation types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelationKind {
    Table,
    View,
    Cte,
    MaterializedView,
    External,
    Ephemeral,
    Dictionary,
}

impl Relation {
    pub fn new(schema: impl Into<String>, identifier: impl Into<String>) -> Self {
        Self { schema: schema.into(), identifier: identifier.into(), kind: None }
    }

    /// As it is written into SQL: `` `schema`.`identifier` ``, dbt-clickhouse's quoting.
    pub fn render(&self) -> String {
        if self.schema.is_empty() {
            quote_identifier(&self.identifier)
        } else {
            format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.identifier))
        }
    }

    /// The same schema, another name.
    #[must_use]
    pub fn with_identifier(&self, identifier: impl Into<String>) -> Self {
        Self { schema: self.schema.clone(), identifier: identifier.into(), kind: self.kind }
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render())
    }
}
