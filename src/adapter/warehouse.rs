//! The adapter as templates see it: [`render::Warehouse`] over one session. In: calls of a template; out: relations, columns
//! and tables of template values. All statements of one node go through it, one after another.

use parking_lot::{Mutex, MutexGuard};

use super::{Adapter, AdapterError, RelationInfo, cell};
use crate::{
    engine::EngineError,
    project,
    render::{Column, Relation, Response, Table, TableColumn, Value, Warehouse, WarehouseError},
};

/// An adapter that several templates of one node may use.
#[derive(Debug)]
pub struct NodeWarehouse {
    adapter: Mutex<Adapter>,
}

impl NodeWarehouse {
    pub fn new(adapter: Adapter) -> Self {
        Self { adapter: Mutex::new(adapter) }
    }

    /// The adapter, for the materialization itself. It must not be held while a template renders.
    pub fn adapter(&self) -> MutexGuard<'_, Adapter> {
        self.adapter.lock()
    }

    fn relation_of(info: &RelationInfo, adapter: &Adapter) -> Relation {
        let mut relation = Relation::from(&info.relation);
        relation.can_exchange = info.is_table() && adapter.can_exchange(&info.database_engine);
        relation.can_on_cluster = adapter.options().cluster.is_some() && info.database_engine != "Replicated";
        relation.is_refreshable = info.is_refreshable();
        relation.refreshable_append = info.refresh_appends();
        relation
    }
}

/// The relation's name in ours; a CTE has none.
fn named(relation: &Relation) -> project::Relation {
    let mut named = project::Relation::new(
        relation.schema.clone().unwrap_or_default(),
        relation.identifier.clone().unwrap_or_default(),
    );
    named.kind = relation.kind;
    named
}

fn failed(error: AdapterError) -> WarehouseError {
    WarehouseError::new(error.to_string())
}

fn failed_statement(error: AdapterError, sql: &str) -> WarehouseError {
    let sql = matches!(&error, AdapterError::Engine(EngineError::Server { .. })).then(|| sql.to_owned());
    WarehouseError { sql, ..failed(error) }
}

impl Warehouse for NodeWarehouse {
    fn execute(&self, sql: &str, fetch: bool, limit: Option<u64>) -> Result<(Response, Table), WarehouseError> {
        let mut adapter = self.adapter.lock();
        if sql.trim().is_empty() {
            return Ok((Response { message: "OK".into(), ..Response::default() }, Table::default()));
        }
        adapter.note_of_project(sql);
        if !fetch {
            let summary = adapter.execute(sql).map_err(|error| failed_statement(error, sql))?;
            let response = Response {
                message: "OK".into(),
                code: Some("SUCCESS".into()),
                rows_affected: summary.written_rows.and_then(|rows| i64::try_from(rows).ok()),
                query_id: Some(summary.query_id),
            };
            return Ok((response, Table::default()));
        }
        let options = adapter.next_options();
        let query_id = options.query_id.clone();
        let table = fetch_table(&mut adapter, sql, &options, limit).map_err(|error| failed_statement(error, sql))?;
        let response = Response {
            message: "OK".into(),
            code: Some("SUCCESS".into()),
            rows_affected: i64::try_from(table.rows.len()).ok(),
            query_id,
        };
        Ok((response, table))
    }

    fn get_relation(&self, schema: &str, identifier: &str) -> Result<Option<Relation>, WarehouseError> {
        let mut adapter = self.adapter.lock();
        let info = adapter.relation(&project::Relation::new(schema, identifier)).map_err(failed)?;
        Ok(info.map(|info| Self::relation_of(&info, &adapter)))
    }

    fn list_relations(&self, schema: &str) -> Result<Vec<Relation>, WarehouseError> {
        let mut adapter = self.adapter.lock();
        let relations = adapter.relations(schema).map_err(failed)?;
        Ok(relations.iter().map(|info| Self::relation_of(info, &adapter)).collect())
    }

    fn get_columns_in_relation(&self, relation: &Relation) -> Result<Vec<Column>, WarehouseError> {
        let columns = self.adapter.lock().columns(&named(relation)).map_err(failed)?;
        Ok(columns.into_iter().map(|column| Column::new(column.name, column.data_type)).collect())
    }

    fn get_columns_of_query(&self, sql: &str) -> Result<Vec<Column>, WarehouseError> {
        let columns = self.adapter.lock().query_columns(sql, &[]).map_err(|error| failed_statement(error, sql))?;
        Ok(columns.into_iter().map(|column| Column::new(column.name, column.data_type)).collect())
    }

    fn list_schemas(&self) -> Result<Vec<String>, WarehouseError> {
        self.adapter.lock().schemas().map_err(failed)
    }

    fn create_schema(&self, relation: &Relation) -> Result<(), WarehouseError> {
        let schema = relation.schema.clone().unwrap_or_default();
        self.adapter.lock().create_schema(&schema).map_err(failed)
    }

    fn drop_schema(&self, relation: &Relation) -> Result<(), WarehouseError> {
        let schema = relation.schema.clone().unwrap_or_default();
        let mut adapter = self.adapter.lock();
        adapter.distrust_catalog();
        adapter.drop_schema(&schema).map_err(failed)
    }

    fn drop_relation(&self, relation: &Relation) -> Result<(), WarehouseError> {
        let mut adapter = self.adapter.lock();
        adapter.distrust_catalog();
        adapter.drop_relation(&named(relation)).map_err(failed)
    }

    fn truncate_relation(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.adapter.lock().truncate(&named(relation)).map_err(failed)
    }

    fn rename_relation(&self, from: &Relation, to: &Relation) -> Result<(), WarehouseError> {
        let mut adapter = self.adapter.lock();
        adapter.distrust_catalog();
        adapter.rename(&[(&named(from), &named(to))]).map_err(failed)
    }

    fn can_exchange(&self, schema: &str, kind: &str) -> Result<bool, WarehouseError> {
        if kind != "table" || schema.is_empty() {
            return Ok(false);
        }
        let mut adapter = self.adapter.lock();
        let sql = format!("SELECT engine FROM system.databases WHERE name = {}", crate::engine::quote_string(schema));
        let engine = adapter.value(&sql).map_err(failed)?;
        Ok(engine.is_some_and(|engine| adapter.can_exchange(&engine)))
    }

    fn server_version(&self) -> Result<String, WarehouseError> {
        Ok(self.adapter.lock().capabilities().version_text.clone())
    }
}

/// The rows of a query as template values, at most `limit` of them.
fn fetch_table(
    adapter: &mut Adapter,
    sql: &str,
    options: &crate::engine::QueryOptions,
    limit: Option<u64>,
) -> Result<Table, AdapterError> {
    let mut stream = adapter.session().query(sql, options)?;
    let columns = stream
        .schema()
        .fields()
        .iter()
        .map(|field| TableColumn { name: field.name().clone(), data_type: String::new() })
        .collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    for batch in &mut stream {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            if rows.len() >= limit {
                return Ok(Table { columns, rows });
            }
            rows.push(batch.columns().iter().map(|column| cell::template_value(column, row)).collect::<Vec<Value>>());
        }
    }
    Ok(Table { columns, rows })
}
