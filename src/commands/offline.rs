//! What templates meet in place of a warehouse when there is none to ask: every relation is missing, and a query is an
//! error that says so.

use crate::render::{Column, Relation, Response, Table, Warehouse, WarehouseError};

/// A warehouse without anything in it, that runs nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offline {
    /// Why there is no warehouse, for the error.
    pub(super) reason: &'static str,
}

impl Offline {
    fn refuse<T>(self, what: &str) -> Result<T, WarehouseError> {
        Err(WarehouseError::new(format!("{what} needs the warehouse, and {}", self.reason)))
    }
}

impl Warehouse for Offline {
    fn execute(&self, sql: &str, _fetch: bool, _limit: Option<u64>) -> Result<(Response, Table), WarehouseError> {
        let start: String = sql.trim().chars().take(60).collect();
        self.refuse(&format!("`{start}`"))
    }

    fn get_relation(&self, _schema: &str, _identifier: &str) -> Result<Option<Relation>, WarehouseError> {
        Ok(None)
    }

    fn list_relations(&self, _schema: &str) -> Result<Vec<Relation>, WarehouseError> {
        Ok(Vec::new())
    }

    fn get_columns_in_relation(&self, _relation: &Relation) -> Result<Vec<Column>, WarehouseError> {
        Ok(Vec::new())
    }

    fn get_columns_of_query(&self, _sql: &str) -> Result<Vec<Column>, WarehouseError> {
        self.refuse("the columns of a query")
    }

    fn list_schemas(&self) -> Result<Vec<String>, WarehouseError> {
        Ok(Vec::new())
    }

    fn create_schema(&self, _relation: &Relation) -> Result<(), WarehouseError> {
        self.refuse("creating a schema")
    }

    fn drop_schema(&self, _relation: &Relation) -> Result<(), WarehouseError> {
        self.refuse("dropping a schema")
    }

    fn drop_relation(&self, _relation: &Relation) -> Result<(), WarehouseError> {
        self.refuse("dropping a relation")
    }

    fn truncate_relation(&self, _relation: &Relation) -> Result<(), WarehouseError> {
        self.refuse("truncating a relation")
    }

    fn rename_relation(&self, _from: &Relation, _to: &Relation) -> Result<(), WarehouseError> {
        self.refuse("renaming a relation")
    }

    fn can_exchange(&self, _schema: &str, _kind: &str) -> Result<bool, WarehouseError> {
        Ok(false)
    }

    fn server_version(&self) -> Result<String, WarehouseError> {
        self.refuse("its version")
    }
}
