//! Relations, columns and schemas over an engine session: what dbt calls an adapter. In: a session and the connection's
//! options; out: statements from the templates, run and recorded, and what the warehouse says about itself. It knows no
//! model and decides nothing.

mod catalog;
mod cell;
mod error;
mod lease;
mod relation_info;
mod templates;
mod warehouse;

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::array::RecordBatch;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    config::{Connection, Target},
    engine::{
        Capabilities, Engine, QueryOptions, QuerySummary, Session, quote_identifier, quote_string,
        statement::{Kind, Statement as Parsed},
    },
    project::{Relation, RelationKind},
};

pub use catalog::Catalog;
pub use cell::{rows as text_rows, shown_json, text as cell_text};
pub use error::AdapterError;
pub use lease::{Lease, LeaseError, LeaseHolder, is_held};
pub use relation_info::{ColumnInfo, RelationInfo};
pub use templates::Templates;
pub use warehouse::NodeWarehouse;

/// Ends the name of the table that is a lease on the relation beside it.
const LOCK_SUFFIX: &str = "__dbt_lock";

/// What the connection says about how statements are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterOptions {
    /// libchdb in this process.
    pub embedded: bool,
    pub cluster: Option<String>,
    pub cluster_mode: bool,
    pub database_engine: Option<String>,
    pub use_lw_deletes: bool,
    /// Whether to believe that EXCHANGE works only after the engine tried it.
    pub check_exchange: bool,
    pub allow_automatic_deduplication: bool,
    pub local_suffix: String,
    pub local_db_prefix: String,
}

impl AdapterOptions {
    /// The options of a target; the embedded engine's are fixed.
    pub fn of(target: &Target) -> Self {
        match &target.connection {
            Connection::Embedded { .. } => Self::embedded(),
            Connection::Http(server) | Connection::Native(server) => Self {
                embedded: false,
                cluster: server.cluster.clone().filter(|cluster| !cluster.trim().is_empty()),
                cluster_mode: server.cluster_mode,
                database_engine: server.database_engine.clone().filter(|engine| !engine.is_empty()),
                use_lw_deletes: server.use_lw_deletes,
                check_exchange: server.check_exchange,
                allow_automatic_deduplication: server.allow_automatic_deduplication,
                local_suffix: server.local_suffix.clone(),
                local_db_prefix: server.local_db_prefix.clone(),
            },
        }
    }

    /// One process, one directory: databases are Atomic and there is no cluster.
    pub fn embedded() -> Self {
        Self {
            embedded: true,
            cluster: None,
            cluster_mode: false,
            database_engine: Some("Atomic".to_owned()),
            use_lw_deletes: true,
            check_exchange: true,
            allow_automatic_deduplication: false,
            local_suffix: "_local".to_owned(),
            local_db_prefix: String::new(),
        }
    }

    /// `EXCHANGE TABLES` on a database of this engine.
    fn exchanges_in(&self, database_engine: &str) -> bool {
        matches!(database_engine, "Atomic" | "Replicated" | "Shared" | "Overlay")
    }
}

/// A statement that was run.
#[derive(Debug, Clone)]
pub struct Statement {
    pub sql: String,
    pub summary: QuerySummary,
}

/// One session with the means of a node: templates, ids, a record of what was run.
pub struct Adapter {
    engine: Arc<dyn Engine>,
    session: Box<dyn Session>,
    capabilities: Capabilities,
    options: AdapterOptions,
    templates: Arc<Templates>,
    catalog: Option<Arc<Catalog>>,
    /// `<invocation>-<node>`: query ids begin with it, so that they can be found and ended on the server.
    query_prefix: String,
    sequence: usize,
    statements: Vec<Statement>,
}

impl Adapter {
    /// Opens a session for one node.
    ///
    /// # Errors
    /// The warehouse cannot be reached.
    pub fn connect(
        engine: &Arc<dyn Engine>,
        options: &AdapterOptions,
        templates: &Arc<Templates>,
        query_prefix: impl Into<String>,
    ) -> Result<Self, AdapterError> {
        let session = engine.connect()?;
        let mut adapter = Self {
            engine: Arc::clone(engine),
            session,
            capabilities: engine.capabilities().clone(),
            options: options.clone(),
            templates: Arc::clone(templates),
            catalog: None,
            query_prefix: query_prefix.into(),
            sequence: 0,
            statements: Vec::new(),
        };
        adapter.set_session_settings()?;
        Ok(adapter)
    }

    /// The waits that dbt-clickhouse asks for: a statement is over when its effect is visible.
    fn set_session_settings(&mut self) -> Result<(), AdapterError> {
        // An old server refuses the whole SET for one unknown name, so they go one by one.
        let mut settings = vec!["mutations_sync = 2", "alter_sync = 2", "insert_distributed_sync = 1"];
        if self.capabilities.version >= (23, 3) {
            settings.push("allow_nondeterministic_mutations = 1");
        }
        if self.capabilities.version >= (24, 4) {
            settings.push("lightweight_deletes_sync = 2");
        }
        if self.capabilities.lightweight_update {
            settings.push("enable_lightweight_update = 1");
            settings.push("allow_experimental_lightweight_update = 1");
        }
        match self.options.database_engine.as_deref() {
            Some("Shared") => settings.push("select_sequential_consistency = 1"),
            Some(engine) if engine.starts_with("Replicated") => {
                settings.push("database_replicated_enforce_synchronous_settings = 1");
            }
            _ => {}
        }
        if self.session.execute(&format!("SET {}", settings.join(", ")), &QueryOptions::default()).is_ok() {
            return Ok(());
        }
        for setting in settings {
            // One that this server does not have is one that it does not need.
            let _ = self.session.execute(&format!("SET {setting}"), &QueryOptions::default());
        }
        Ok(())
    }

    /// Takes a lease on work at `relation`: `<identifier>__dbt_lock` beside it. Another holder is waited for, at most so long.
    ///
    /// # Errors
    /// As [`Lease::acquire`].
    pub fn lease(
        &self,
        relation: &Relation,
        holder: &LeaseHolder,
        patience: std::time::Duration,
    ) -> Result<Lease, LeaseError> {
        let lock = relation.with_identifier(format!("{}{LOCK_SUFFIX}", relation.identifier));
        Lease::acquire(&self.engine, &lock, holder, patience)
    }

    /// What [`Adapter::existing`] believes.
    pub fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        self.catalog = Some(catalog);
    }

    /// Ids of the next statements begin with this.
    pub fn set_query_prefix(&mut self, prefix: impl Into<String>) {
        self.query_prefix = prefix.into();
        self.sequence = 0;
    }

    pub fn query_prefix(&self) -> &str {
        &self.query_prefix
    }

    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub fn options(&self) -> &AdapterOptions {
        &self.options
    }

    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// The statements that changed something, since the last [`Adapter::take_statements`].
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Hands over the record and begins a new one.
    pub fn take_statements(&mut self) -> Vec<Statement> {
        std::mem::take(&mut self.statements)
    }

    /// The session itself, for what needs no record: streamed reads and inserts.
    pub fn session(&mut self) -> &mut dyn Session {
        self.session.as_mut()
    }

    /// Options of the next statement: its id.
    pub fn next_options(&mut self) -> QueryOptions {
        self.sequence += 1;
        let options = QueryOptions { interruptible: true, ..QueryOptions::default() };
        options.query_id(format!("{}-{}", self.query_prefix, self.sequence))
    }

    /// Runs a statement and records it.
    ///
    /// # Errors
    /// The engine refused or failed it; it stands in the record all the same.
    pub fn execute(&mut self, sql: &str) -> Result<QuerySummary, AdapterError> {
        let options = self.next_options();
        self.execute_with(sql, &options)
    }

    /// [`Adapter::execute`] with settings of this statement.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn execute_with(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, AdapterError> {
        tracing::debug!(query_id = options.query_id.as_deref().unwrap_or_default(), "statement");
        let result = self.session.execute(sql, options);
        let summary = match &result {
            Ok(summary) => summary.clone(),
            Err(_) => {
                QuerySummary { query_id: options.query_id.clone().unwrap_or_default(), ..QuerySummary::default() }
            }
        };
        self.statements.push(Statement { sql: sql.to_owned(), summary });
        Ok(result?)
    }

    /// [`Adapter::execute`] for a statement that the project wrote: it may make or drop any relation.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn execute_of_project(&mut self, sql: &str) -> Result<QuerySummary, AdapterError> {
        self.note_of_project(sql);
        self.execute(sql)
    }

    /// Says that the project runs a statement of its own.
    pub fn note_of_project(&self, sql: &str) {
        if !matches!(Parsed::read(sql).kind, Kind::Select | Kind::Rows | Kind::Insert | Kind::Set | Kind::Empty) {
            self.distrust_catalog();
        }
    }

    /// Says that relations may have been made or dropped by others than the nodes.
    pub fn distrust_catalog(&self) {
        if let Some(catalog) = &self.catalog {
            catalog.distrust();
        }
    }

    /// Renders a template and runs it.
    ///
    /// # Errors
    /// The template cannot be rendered, or as [`Adapter::execute`].
    pub fn run(&mut self, template: &str, values: &impl Serialize) -> Result<QuerySummary, AdapterError> {
        let sql = self.templates.render(template, values)?;
        self.execute(&sql)
    }

    /// Sees to it that parts which REPLACE PARTITION has replaced are gone from the disk, where the engine does not do so by
    /// itself ([`Capabilities::keeps_replaced_parts`]): a reader may have held them during the statement. Dropping a
    /// partition that does not exist makes ClickHouse clear what nobody reads any more.
    ///
    /// # Errors
    /// The server refused a statement.
    pub fn forget_replaced_parts(&mut self, relation: &Relation) -> Result<(), AdapterError> {
        if !self.capabilities.keeps_replaced_parts() {
            return Ok(());
        }
        let left = format!(
            "SELECT count() FROM system.parts WHERE NOT active AND database = {} AND table = {}",
            quote_string(&relation.schema),
            quote_string(&relation.identifier)
        );
        for _ in 0..100 {
            let parts = self.rows(&left)?.into_iter().flatten().flatten().next();
            if parts.as_deref() == Some("0") {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.execute(&format!("ALTER TABLE {relation} DROP PARTITION ID 'none'"))?;
        }
        tracing::warn!(%relation, "replaced parts are still being read; they are cleared by the next build");
        Ok(())
    }

    /// Renders a template with the cluster clause added to its values, and runs it.
    ///
    /// # Errors
    /// As [`Adapter::run`].
    pub fn run_ddl(&mut self, template: &str, values: Value) -> Result<QuerySummary, AdapterError> {
        let sql = self.render_ddl(template, values)?;
        self.execute(&sql)
    }

    /// A template with the cluster clause added to its values.
    ///
    /// # Errors
    /// The template cannot be rendered.
    pub fn render_ddl(&self, template: &str, mut values: Value) -> Result<String, AdapterError> {
        if let Value::Object(map) = &mut values
            && !map.contains_key("on_cluster")
        {
            map.insert("on_cluster".to_owned(), Value::String(self.on_cluster()));
        }
        self.templates.render(template, &values)
    }

    /// ` ON CLUSTER "name"`, or nothing.
    pub fn on_cluster(&self) -> String {
        let replicated = self.options.database_engine.as_deref().is_some_and(|engine| engine.starts_with("Replicated"));
        match &self.options.cluster {
            Some(cluster) if !replicated => format!(" ON CLUSTER {}", quote_identifier(cluster)),
            _ => String::new(),
        }
    }

    /// The rows of a small query.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn fetch(&mut self, sql: &str) -> Result<Vec<RecordBatch>, AdapterError> {
        let options = self.next_options();
        Ok(crate::engine::fetch(self.session.as_mut(), sql, &options)?)
    }

    /// The rows of a small query, as text.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, AdapterError> {
        Ok(cell::rows(&self.fetch(sql)?))
    }

    /// The first value of the first row; `None` where there is none, or NULL.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn value(&mut self, sql: &str) -> Result<Option<String>, AdapterError> {
        Ok(self.rows(sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// A count, or another number that a query answers with.
    ///
    /// # Errors
    /// As [`Adapter::execute`]; the answer is no number.
    pub fn number(&mut self, sql: &str) -> Result<u64, AdapterError> {
        let value = self.value(sql)?.unwrap_or_default();
        value
            .parse()
            .map_err(|_| AdapterError::Answer { about: sql.to_owned(), reason: format!("`{value}` is no number") })
    }

    /// Creates the database where it does not exist.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn ensure_schema(&mut self, schema: &str) -> Result<(), AdapterError> {
        let known = format!("SELECT count() FROM system.databases WHERE name = {}", quote_string(schema));
        if self.number(&known)? > 0 {
            return Ok(());
        }
        self.create_schema(schema)
    }

    /// `CREATE DATABASE IF NOT EXISTS`, with the profile's engine (Atomic on the embedded engine, so that EXCHANGE works).
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn create_schema(&mut self, schema: &str) -> Result<(), AdapterError> {
        let engine = self.options.database_engine.clone();
        let values = json!({"database": quote_identifier(schema), "engine": engine});
        self.run_ddl("materialize/create_database.sql", values).map(drop)
    }

    /// Drops the database with all that is in it.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn drop_schema(&mut self, schema: &str) -> Result<(), AdapterError> {
        self.run_ddl("materialize/drop_database.sql", json!({"database": quote_identifier(schema)})).map(drop)
    }

    /// The names of all databases.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn schemas(&mut self) -> Result<Vec<String>, AdapterError> {
        Ok(first_column(self.rows("SELECT name FROM system.databases ORDER BY name")?))
    }

    /// All databases with their engines.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn databases(&mut self) -> Result<HashMap<String, String>, AdapterError> {
        let rows = self.rows("SELECT name, engine FROM system.databases")?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let mut values = row.into_iter().map(Option::unwrap_or_default);
                (values.next().unwrap_or_default(), values.next().unwrap_or_default())
            })
            .collect())
    }

    /// Name and kind of everything in a database; the rest of the information is empty.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn relations(&mut self, schema: &str) -> Result<Vec<RelationInfo>, AdapterError> {
        let databases = self.databases()?;
        self.relations_in(&databases.into_iter().filter(|(name, _)| name == schema).collect())
    }

    /// [`Adapter::relations`] of several databases, whose engines are known.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn relations_in(&mut self, databases: &HashMap<String, String>) -> Result<Vec<RelationInfo>, AdapterError> {
        if databases.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = databases.keys().map(|name| quote_string(name)).collect();
        let sql = format!(
            "SELECT database, name, engine FROM system.tables WHERE database IN ({}) ORDER BY database, name",
            names.join(", ")
        );
        let rows = self.rows(&sql)?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let mut values = row.into_iter().map(Option::unwrap_or_default);
                let mut next = || values.next().unwrap_or_default();
                let (schema, name, engine) = (next(), next(), next());
                let database_engine = databases.get(&schema).cloned().unwrap_or_default();
                relation_info(&schema, &name, engine, database_engine)
            })
            .collect())
    }

    /// What stands where a node's relation will be, as the run's listing has it: name, kind and the database's engine, the
    /// rest of the information may be empty. Something else may stand there since the listing was made.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn existing(&mut self, relation: &Relation) -> Result<Option<RelationInfo>, AdapterError> {
        match self.catalog.as_ref().and_then(|catalog| catalog.first_look(relation)) {
            Some(listed) => Ok(listed),
            None => self.relation(relation),
        }
    }

    /// The engine of a database of this run, where it is known without asking.
    pub fn known_database_engine(&self, schema: &str) -> Option<&str> {
        self.catalog.as_ref()?.database_engine(schema)
    }

    /// All about one relation; `None` where it does not exist.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn relation(&mut self, relation: &Relation) -> Result<Option<RelationInfo>, AdapterError> {
        // The join costs more than the rest of the question.
        let known = self.known_database_engine(&relation.schema).map(str::to_owned);
        let (engine_of_database, join) = match &known {
            Some(_) => ("''", ""),
            None => ("d.engine", " JOIN system.databases AS d ON d.name = t.database"),
        };
        let sql = format!(
            "SELECT t.engine, {engine_of_database}, t.engine_full, t.create_table_query, t.as_select, t.sorting_key, \
             t.primary_key, t.partition_key, t.comment FROM system.tables AS t{join} \
             WHERE t.database = {} AND t.name = {}",
            quote_string(&relation.schema),
            quote_string(&relation.identifier)
        );
        let Some(row) = self.rows(&sql)?.into_iter().next() else { return Ok(None) };
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || values.next().unwrap_or_default();
        let (engine, database_engine) = (next(), next());
        let database_engine = known.unwrap_or(database_engine);
        let info = relation_info(&relation.schema, &relation.identifier, engine, database_engine);
        Ok(Some(RelationInfo {
            engine_full: next(),
            create_query: next(),
            as_select: next(),
            sorting_key: next(),
            primary_key: next(),
            partition_key: next(),
            comment: next(),
            ..info
        }))
    }

    /// The columns of a relation in their order; none where it does not exist.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn columns(&mut self, relation: &Relation) -> Result<Vec<ColumnInfo>, AdapterError> {
        let sql = format!(
            "SELECT name, type, toString(default_kind), default_expression, comment, compression_codec, \
             toString(is_in_partition_key), toString(is_in_sorting_key) FROM system.columns \
             WHERE database = {} AND table = {} ORDER BY position",
            quote_string(&relation.schema),
            quote_string(&relation.identifier)
        );
        let rows = self.rows(&sql)?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let mut values = row.into_iter().map(Option::unwrap_or_default);
                let mut next = || values.next().unwrap_or_default();
                ColumnInfo {
                    name: next(),
                    data_type: next(),
                    default_kind: next(),
                    default_expression: next(),
                    comment: next(),
                    codec: next(),
                    in_partition_key: next() == "1",
                    in_sorting_key: next() == "1",
                }
            })
            .collect())
    }

    /// The columns that a query answers with, without running it.
    ///
    /// # Errors
    /// As [`Adapter::execute`]: the query is not valid.
    pub fn query_columns(&mut self, query: &str, settings: &[String]) -> Result<Vec<ColumnInfo>, AdapterError> {
        let mut sql = format!("DESCRIBE TABLE (\n{query}\n)");
        if !settings.is_empty() {
            sql.push_str("\nSETTINGS ");
            sql.push_str(&settings.join(", "));
        }
        let rows = self.rows(&sql)?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let mut values = row.into_iter().map(Option::unwrap_or_default);
                ColumnInfo::new(values.next().unwrap_or_default(), values.next().unwrap_or_default())
            })
            .collect())
    }

    /// Whether EXCHANGE TABLES works between two relations of this database.
    pub fn can_exchange(&self, database_engine: &str) -> bool {
        let trusted = !self.options.check_exchange || self.capabilities.exchange_tables;
        trusted && !self.options.cluster_mode && self.options.exchanges_in(database_engine)
    }

    /// Swaps two relations in one step.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn exchange(&mut self, a: &Relation, b: &Relation) -> Result<(), AdapterError> {
        self.run_ddl("materialize/exchange.sql", json!({"a": a.render(), "b": b.render()})).map(drop)
    }

    /// Renames tables or views, all in one statement.
    ///
    /// # Errors
    /// As [`Adapter::execute`]; the target name is taken (code 57).
    pub fn rename(&mut self, pairs: &[(&Relation, &Relation)]) -> Result<(), AdapterError> {
        let dictionary = pairs.iter().any(|(from, _)| from.kind == Some(RelationKind::Dictionary));
        let pairs: Vec<Value> =
            pairs.iter().map(|(from, to)| json!({"from": from.render(), "to": to.render()})).collect();
        let kind = if dictionary { "DICTIONARY" } else { "TABLE" };
        self.run_ddl("materialize/rename.sql", json!({"kind": kind, "pairs": pairs})).map(drop)
    }

    /// Drops a relation of whatever kind, where it exists.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn drop_relation(&mut self, relation: &Relation) -> Result<(), AdapterError> {
        let kind = match relation.kind {
            Some(RelationKind::View | RelationKind::MaterializedView) => "VIEW",
            Some(RelationKind::Dictionary) => "DICTIONARY",
            _ => "TABLE",
        };
        self.run_ddl("materialize/drop.sql", json!({"kind": kind, "relation": relation.render()})).map(drop)
    }

    /// Empties a table.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn truncate(&mut self, relation: &Relation) -> Result<(), AdapterError> {
        self.run_ddl("materialize/truncate.sql", json!({"relation": relation.render()})).map(drop)
    }

    /// Several commands in one ALTER; nothing where there are none.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn alter(&mut self, relation: &Relation, commands: &[String]) -> Result<(), AdapterError> {
        if commands.is_empty() {
            return Ok(());
        }
        let values = json!({"relation": relation.render(), "commands": commands});
        self.run_ddl("materialize/alter.sql", values).map(drop)
    }

    /// How many rows a table holds, without reading it where the engine knows.
    ///
    /// # Errors
    /// As [`Adapter::execute`].
    pub fn count(&mut self, relation: &Relation) -> Result<u64, AdapterError> {
        self.number(&format!("SELECT count() FROM {relation}"))
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").field("query_prefix", &self.query_prefix).finish_non_exhaustive()
    }
}

/// Loads the templates with the overrides of a project's DDL folder.
///
/// # Errors
/// A template that cannot be read or parsed.
pub fn load_templates(ddl_path: &Path) -> Result<Arc<Templates>, AdapterError> {
    Ok(Arc::new(Templates::load(Some(&ddl_path.join("templates")))?))
}

/// Settings as they stand after `SETTINGS`: numbers and booleans bare, texts quoted unless they are already.
pub fn settings_list(settings: Option<&Map<String, Value>>) -> Vec<String> {
    let Some(settings) = settings else { return Vec::new() };
    settings
        .iter()
        .map(|(name, value)| match value {
            // dbt-clickhouse passes a text that begins with a quote as it is (its issue 240).
            Value::String(text) if text.starts_with('\'') => format!("{name} = {text}"),
            Value::String(text) => format!("{name} = {}", quote_string(text)),
            Value::Bool(flag) => format!("{name} = {}", u8::from(*flag)),
            other => format!("{name} = {other}"),
        })
        .collect()
}

fn relation_info(schema: &str, name: &str, engine: String, database_engine: String) -> RelationInfo {
    let mut relation = Relation::new(schema, name);
    relation.kind = Some(match engine.as_str() {
        "View" => RelationKind::View,
        "MaterializedView" => RelationKind::MaterializedView,
        "Dictionary" => RelationKind::Dictionary,
        _ => RelationKind::Table,
    });
    RelationInfo {
        relation,
        engine,
        engine_full: String::new(),
        create_query: String::new(),
        as_select: String::new(),
        sorting_key: String::new(),
        primary_key: String::new(),
        partition_key: String::new(),
        comment: String::new(),
        database_engine,
    }
}

fn first_column(rows: Vec<Vec<Option<String>>>) -> Vec<String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}
