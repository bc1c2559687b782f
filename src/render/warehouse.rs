//! What a template may ask of the warehouse while it renders. `materialize` implements it over the engine; tests use
//! their own. All statements of one node go through one session.

use super::{Column, Relation, Table, Value};

/// A statement that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct WarehouseError {
    /// As ClickHouse says it, code and name included.
    pub message: String,
    /// The statement it refused, where there was one.
    pub sql: Option<String>,
    /// 1-based line and column in that statement, where the server told.
    pub position: Option<(usize, usize)>,
}

impl WarehouseError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), sql: None, position: None }
    }
}

/// dbt's `AdapterResponse`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub message: String,
    pub code: Option<String>,
    pub rows_affected: Option<i64>,
    pub query_id: Option<String>,
}

/// A connection as templates see it (`adapter`, `run_query`, `statement`).
pub trait Warehouse: Send + Sync {
    /// Runs one statement. `fetch`: its rows are wanted (else the table may be empty).
    ///
    /// # Errors
    /// The statement failed.
    fn execute(&self, sql: &str, fetch: bool, limit: Option<u64>) -> Result<(Response, Table), WarehouseError>;

    /// The relation as it is now, with its kind and what dbt-clickhouse knows of it (`can_exchange`, …); `None` when there
    /// is none.
    ///
    /// # Errors
    /// The warehouse cannot be asked; the same holds for all of the following.
    fn get_relation(&self, schema: &str, identifier: &str) -> Result<Option<Relation>, WarehouseError>;

    fn list_relations(&self, schema: &str) -> Result<Vec<Relation>, WarehouseError>;

    fn get_columns_in_relation(&self, relation: &Relation) -> Result<Vec<Column>, WarehouseError>;

    /// The columns of a query, without running it.
    fn get_columns_of_query(&self, sql: &str) -> Result<Vec<Column>, WarehouseError>;

    fn list_schemas(&self) -> Result<Vec<String>, WarehouseError>;

    fn create_schema(&self, relation: &Relation) -> Result<(), WarehouseError>;

    fn drop_schema(&self, relation: &Relation) -> Result<(), WarehouseError>;

    fn drop_relation(&self, relation: &Relation) -> Result<(), WarehouseError>;

    fn truncate_relation(&self, relation: &Relation) -> Result<(), WarehouseError>;

    fn rename_relation(&self, from: &Relation, to: &Relation) -> Result<(), WarehouseError>;

    /// EXCHANGE TABLES works for this schema and kind of relation.
    fn can_exchange(&self, schema: &str, kind: &str) -> Result<bool, WarehouseError>;

    /// `version()` of the server: `26.5.1.1`.
    fn server_version(&self) -> Result<String, WarehouseError>;

    /// The rows of the seed that is being loaded (`load_agate_table()`); `None` outside of seeds.
    fn seed_table(&self) -> Result<Option<Table>, WarehouseError> {
        Ok(None)
    }

    /// Any other `adapter.<name>(…)`; `None` when there is no such method, which becomes dbt's error.
    fn call(
        &self,
        _name: &str,
        _arguments: &[Value],
        _keywords: &[(String, Value)],
    ) -> Result<Option<Value>, WarehouseError> {
        Ok(None)
    }
}
