//! `Relation` and `Column` as templates see them: dbt-clickhouse's objects, immutable, printed as SQL.

use crate::engine::quote_identifier;
pub use crate::project::RelationKind;

/// The field and the interval that `--sample` and microbatch put around a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTimeFilter {
    pub field_name: String,
    /// `YYYY-MM-DD HH:MM:SS`, inclusive.
    pub start: Option<String>,
    /// Exclusive.
    pub end: Option<String>,
}

/// A name in the warehouse with what dbt-clickhouse hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relation {
    /// The ClickHouse database; `None` for CTEs.
    pub schema: Option<String>,
    pub identifier: Option<String>,
    pub kind: Option<RelationKind>,
    pub include_schema: bool,
    pub include_identifier: bool,
    /// EXCHANGE TABLES works for it.
    pub can_exchange: bool,
    /// Statements about it get `ON CLUSTER`.
    pub can_on_cluster: bool,
    pub is_temporary: bool,
    /// `--empty` sets 0, so that the relation reads as a subquery without rows.
    pub limit: Option<u64>,
    pub event_time_filter: Option<EventTimeFilter>,
    pub is_refreshable: bool,
    pub refreshable_append: bool,
}

impl Relation {
    pub fn new(schema: impl Into<String>, identifier: impl Into<String>) -> Self {
        Self {
            schema: Some(schema.into()),
            identifier: Some(identifier.into()),
            include_schema: true,
            include_identifier: true,
            ..Self::default()
        }
    }

    /// What `ref()` of an ephemeral model returns: the CTE `__dbt__cte__<identifier>`.
    pub fn ephemeral(identifier: &str) -> Self {
        Self { schema: None, kind: Some(RelationKind::Cte), ..Self::new("", format!("__dbt__cte__{identifier}")) }
    }

    #[must_use]
    pub fn with_kind(mut self, kind: Option<RelationKind>) -> Self {
        self.kind = kind;
        self
    }

    #[must_use]
    pub fn with_limit(mut self, limit: Option<u64>) -> Self {
        self.limit = limit;
        self
    }

    /// The name alone, without `--empty`'s subquery: `` `schema`.`identifier` ``.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if self.include_schema
            && let Some(schema) = self.schema.as_deref().filter(|schema| !schema.is_empty())
        {
            out.push_str(&quote_part(schema));
        }
        if self.include_identifier
            && let Some(identifier) = self.identifier.as_deref().filter(|identifier| !identifier.is_empty())
        {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&quote_part(identifier));
        }
        out
    }
}

/// A part that is quoted already stays as it is (dbt-clickhouse's rule).
fn quote_part(part: &str) -> String {
    if part.len() > 1 && part.starts_with('`') && part.ends_with('`') {
        part.to_owned()
    } else {
        quote_identifier(part)
    }
}

/// `str(relation)`: the name, or the subquery that a limit or an event time filter makes of it.
impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rendered = self.render();
        match self.limit {
            Some(0) => rendered = format!("(select * from {rendered} where false limit 0)"),
            Some(limit) => rendered = format!("(select * from {rendered} limit {limit})"),
            None => {}
        }
        if let Some(filter) = &self.event_time_filter {
            let field = &filter.field_name;
            let condition = match (&filter.start, &filter.end) {
                (Some(start), Some(end)) => format!("{field} >= '{start}' and {field} < '{end}'"),
                (Some(start), None) => format!("{field} >= '{start}'"),
                (None, Some(end)) => format!("{field} < '{end}'"),
                (None, None) => return f.write_str(&rendered),
            };
            rendered = format!("(select * from {rendered} where {condition})");
        }
        f.write_str(&rendered)
    }
}

impl From<&crate::project::Relation> for Relation {
    fn from(relation: &crate::project::Relation) -> Self {
        Self::new(relation.schema.clone(), relation.identifier.clone()).with_kind(relation.kind)
    }
}

/// A column: its name and its ClickHouse type, whole (`LowCardinality(Nullable(String))`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    pub dtype: String,
}

impl Column {
    pub fn new(name: impl Into<String>, dtype: impl Into<String>) -> Self {
        Self { name: name.into(), dtype: dtype.into() }
    }
}
