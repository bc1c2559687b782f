//! A warehouse that is opened when a template first asks it something, and not at all with `--no-introspect`: most projects
//! compile without one.

use std::{
    collections::{BTreeSet, HashSet},
    sync::OnceLock,
};

use crate::{
    Error,
    adapter::{Adapter, AdapterOptions, NodeWarehouse, load_templates},
    commands::{Context, warehouse},
    config::Connection,
    project::ProjectError,
    render::{Column, Relation, Response, Table, Value, Warehouse, WarehouseError},
};

/// The target's warehouse, later.
pub(super) struct LazyWarehouse<'a> {
    context: &'a Context,
    introspect: bool,
    opened: OnceLock<Result<NodeWarehouse, WarehouseError>>,
}

impl<'a> LazyWarehouse<'a> {
    /// `introspect`: false never opens it; then there are no relations, and a query is an error.
    pub(super) fn new(context: &'a Context, introspect: bool) -> Self {
        Self { context, introspect, opened: OnceLock::new() }
    }

    /// Whether it is known, without opening anything, that there is no relation.
    fn is_empty(&self) -> bool {
        if !self.introspect {
            return true;
        }
        if self.opened.get().is_some() {
            return false;
        }
        match self.context.settings.target().map(|target| target.connection) {
            // Asking whether a model exists must not create the directory.
            Ok(Connection::Embedded { path }) => !path.exists(),
            _ => false,
        }
    }

    fn open(&self, what: &str) -> Result<&NodeWarehouse, WarehouseError> {
        if !self.introspect {
            return Err(WarehouseError::new(format!(
                "{what} needs the warehouse, and --no-introspect forbids to ask it"
            )));
        }
        let opened = self.opened.get_or_init(|| self.connect().map_err(|error| WarehouseError::new(error.to_string())));
        opened.as_ref().map_err(Clone::clone)
    }

    /// All relations of these databases, as (schema, identifier).
    ///
    /// # Errors
    /// The warehouse cannot be opened or asked.
    pub(super) fn existing(&self, schemas: &BTreeSet<&str>) -> Result<HashSet<(String, String)>, Error> {
        let mut existing = HashSet::new();
        for schema in schemas {
            let relations =
                self.list_relations(schema).map_err(|error| ProjectError::runtime(error.message.clone()))?;
            existing.extend(relations.into_iter().filter_map(|found| Some((found.schema?, found.identifier?))));
        }
        Ok(existing)
    }

    fn connect(&self) -> Result<NodeWarehouse, Error> {
        let opened = warehouse::open(self.context)?;
        let templates = load_templates(&self.context.settings.migrate.ddl_path)?;
        let options = AdapterOptions::of(&opened.target);
        let adapter =
            Adapter::connect(&opened.engine, &options, &templates, format!("{}-compile", self.context.invocation.id))?;
        Ok(NodeWarehouse::new(adapter))
    }
}

impl Warehouse for LazyWarehouse<'_> {
    fn execute(&self, sql: &str, fetch: bool, limit: Option<u64>) -> Result<(Response, Table), WarehouseError> {
        let start: String = sql.trim().chars().take(60).collect();
        self.open(&format!("`{start}`"))?.execute(sql, fetch, limit)
    }

    fn get_relation(&self, schema: &str, identifier: &str) -> Result<Option<Relation>, WarehouseError> {
        if self.is_empty() {
            return Ok(None);
        }
        self.open("finding a relation")?.get_relation(schema, identifier)
    }

    fn list_relations(&self, schema: &str) -> Result<Vec<Relation>, WarehouseError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.open("listing relations")?.list_relations(schema)
    }

    fn get_columns_in_relation(&self, relation: &Relation) -> Result<Vec<Column>, WarehouseError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.open("listing columns")?.get_columns_in_relation(relation)
    }

    fn get_columns_of_query(&self, sql: &str) -> Result<Vec<Column>, WarehouseError> {
        self.open("the columns of a query")?.get_columns_of_query(sql)
    }

    fn list_schemas(&self) -> Result<Vec<String>, WarehouseError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.open("listing schemas")?.list_schemas()
    }

    fn create_schema(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.open("creating a schema")?.create_schema(relation)
    }

    fn drop_schema(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.open("dropping a schema")?.drop_schema(relation)
    }

    fn drop_relation(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.open("dropping a relation")?.drop_relation(relation)
    }

    fn truncate_relation(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.open("truncating a relation")?.truncate_relation(relation)
    }

    fn rename_relation(&self, from: &Relation, to: &Relation) -> Result<(), WarehouseError> {
        self.open("renaming a relation")?.rename_relation(from, to)
    }

    fn can_exchange(&self, schema: &str, kind: &str) -> Result<bool, WarehouseError> {
        if self.is_empty() {
            return Ok(false);
        }
        self.open("EXCHANGE TABLES")?.can_exchange(schema, kind)
    }

    fn server_version(&self) -> Result<String, WarehouseError> {
        self.open("its version")?.server_version()
    }

    fn call(
        &self,
        name: &str,
        arguments: &[Value],
        keywords: &[(String, Value)],
    ) -> Result<Option<Value>, WarehouseError> {
        self.open(&format!("adapter.{name}"))?.call(name, arguments, keywords)
    }
}
