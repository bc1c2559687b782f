//! The ledger of migrations in the state database: what was applied, when, by which run, with which checksum, and how far
//! an interrupted one came. In: a session; out: entries. It decides nothing.

use crate::{
    ddl::Templates,
    engine::{QueryOptions, Session, quote_string},
    schema::{Relation, SchemaObject},
};

use super::{
    MigrateError, Plan,
    collections::Given,
    lock::ensure_database,
    rows::{number, rows, text},
    state,
};

/// Code of UNKNOWN_TABLE and UNKNOWN_DATABASE: nothing was ever applied.
const NOTHING_YET: [i32; 2] = [60, 81];

/// Records of named collections are journalled from here on, beyond those of rebuilds and views.
const COLLECTIONS_BASE: usize = 200_000_000;

fn collection_object(name: &str) -> String {
    format!("{name}:given")
}

/// The ledger of one state database.
#[derive(Debug, Clone)]
pub struct Ledger {
    database: String,
}

/// How far a migration came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
    Started,
    Applied,
    Failed,
    Undone,
}

impl MigrationState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "applied" => Self::Applied,
            "failed" => Self::Failed,
            "undone" => Self::Undone,
            _ => Self::Started,
        }
    }
}

/// One applied or attempted migration.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// Plan id, or the version of a file.
    pub id: String,
    /// `generated`, `file` or `undo`.
    pub kind: String,
    pub name: String,
    pub checksum: String,
    pub state: MigrationState,
    pub objects: Vec<String>,
    pub steps: u64,
    pub run_id: String,
    pub started_at: String,
    pub finished_at: String,
    pub error: String,
    /// The changes as JSON, without credentials.
    pub plan: String,
}

impl Ledger {
    pub fn new(database: &str) -> Self {
        Self { database: database.to_owned() }
    }

    fn table(&self, name: &str) -> String {
        Relation::new(&self.database, name).to_string()
    }

    /// Creates the database and tables of the ledger where they are missing.
    ///
    /// # Errors
    /// The server refuses.
    pub fn ensure(
        &self,
        session: &mut dyn Session,
        templates: &Templates,
        cluster: Option<&str>,
    ) -> Result<(), MigrateError> {
        ensure_database(session, &self.database, cluster)?;
        let sql = format!(
            "SELECT name FROM system.tables WHERE database = {} AND name IN ('migrations', 'migration_steps')",
            quote_string(&self.database)
        );
        let known: Vec<String> = rows(session, &sql)?.iter().map(|row| text(row, 0).to_owned()).collect();
        for table in state::ledger_tables(&self.database) {
            if !known.contains(&table.name.name) {
                let create = templates.create(&SchemaObject::Table(table))?;
                let create = create.replacen("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1);
                session.execute(&create, &QueryOptions::default())?;
            }
        }
        Ok(())
    }

    /// Records the state of a migration.
    ///
    /// # Errors
    /// The server refuses; then the statement that follows must not run.
    pub fn record(&self, session: &mut dyn Session, entry: &LedgerEntry) -> Result<(), MigrateError> {
        let objects: Vec<String> = entry.objects.iter().map(|object| quote_string(object)).collect();
        let time = |text: &str| {
            if text.is_empty() { "NULL".to_owned() } else { format!("toDateTime64({}, 3, 'UTC')", quote_string(text)) }
        };
        let sql = format!(
            "INSERT INTO {} (id, kind, name, checksum, state, objects, steps, run_id, started_at, finished_at, error, plan) \
             SELECT {}, {}, {}, {}, {}, [{}], {}, {}, {}, {}, {}, {}",
            self.table("migrations"),
            quote_string(&entry.id),
            quote_string(&entry.kind),
            quote_string(&entry.name),
            quote_string(&entry.checksum),
            quote_string(entry.state.as_str()),
            objects.join(", "),
            entry.steps,
            quote_string(&entry.run_id),
            time(&entry.started_at),
            time(&entry.finished_at),
            quote_string(&entry.error),
            quote_string(&entry.plan),
        );
        session.execute(&sql, &QueryOptions::default().setting("max_query_size", "100000000"))?;
        Ok(())
    }

    /// Records that a step begins (`started`) or is over (`done`, `failed`).
    ///
    /// # Errors
    /// The server refuses.
    pub fn record_step(
        &self,
        session: &mut dyn Session,
        migration: &str,
        step: usize,
        object: &str,
        sql: &str,
        state: &str,
    ) -> Result<(), MigrateError> {
        let insert = format!(
            "INSERT INTO {} (migration_id, step, object, statement, state) SELECT {}, {step}, {}, {}, {}",
            self.table("migration_steps"),
            quote_string(migration),
            quote_string(object),
            quote_string(sql),
            quote_string(state),
        );
        session.execute(&insert, &QueryOptions::default().setting("max_query_size", "100000000"))?;
        Ok(())
    }

    /// The statement (or fact) last recorded for an object of a migration.
    pub(crate) fn step_statement(
        &self,
        session: &mut dyn Session,
        migration: &str,
        object: &str,
    ) -> Result<Option<String>, MigrateError> {
        let sql = format!(
            "SELECT statement FROM {} FINAL WHERE migration_id = {} AND object = {} ORDER BY recorded_at DESC LIMIT 1",
            self.table("migration_steps"),
            quote_string(migration),
            quote_string(object)
        );
        Ok(rows(session, &sql)?.first().map(|row| text(row, 0).to_owned()))
    }

    /// Records what a named collection was given.
    ///
    /// # Errors
    /// The server refuses.
    pub(super) fn record_collection(
        &self,
        session: &mut dyn Session,
        migration: &str,
        name: &str,
        given: &Given,
    ) -> Result<(), MigrateError> {
        let number = COLLECTIONS_BASE + (crc32fast::hash(name.as_bytes()) % 1_000_000) as usize;
        let given = serde_json::to_string(given).unwrap_or_default();
        self.record_step(session, migration, number, &collection_object(name), &given, "done")
    }

    /// What a named collection was given last; `None` where no migration has recorded it.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(super) fn collection(&self, session: &mut dyn Session, name: &str) -> Result<Option<Given>, MigrateError> {
        let sql = format!(
            "SELECT statement FROM {} FINAL WHERE object = {} ORDER BY recorded_at DESC LIMIT 1",
            self.table("migration_steps"),
            quote_string(&collection_object(name))
        );
        let found = match rows(session, &sql) {
            Err(error) if error.code().is_some_and(|code| NOTHING_YET.contains(&code)) => return Ok(None),
            found => found?,
        };
        Ok(found.first().and_then(|row| serde_json::from_str(text(row, 0)).ok()))
    }

    /// Whether a migration has made or changed an object of this name.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(super) fn has_made(&self, session: &mut dyn Session, object: &str) -> Result<bool, MigrateError> {
        let sql = format!(
            "SELECT count() FROM {} FINAL WHERE state = 'applied' AND has(objects, {})",
            self.table("migrations"),
            quote_string(object)
        );
        match rows(session, &sql) {
            Err(error) if error.code().is_some_and(|code| NOTHING_YET.contains(&code)) => Ok(false),
            found => Ok(found?.first().is_some_and(|row| number(row, 0) > 0)),
        }
    }

    /// Step, statement and last state of a migration's statements.
    pub(crate) fn steps(
        &self,
        session: &mut dyn Session,
        migration: &str,
    ) -> Result<Vec<(usize, String, String)>, MigrateError> {
        let sql = format!(
            "SELECT step, statement, state FROM {} FINAL WHERE migration_id = {} ORDER BY step",
            self.table("migration_steps"),
            quote_string(migration)
        );
        Ok(rows(session, &sql)?
            .iter()
            .map(|row| {
                let step = usize::try_from(number(row, 0)).unwrap_or_default();
                (step, text(row, 1).to_owned(), text(row, 2).to_owned())
            })
            .collect())
    }

    /// All entries, oldest first; none where there is no ledger yet.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn entries(&self, session: &mut dyn Session) -> Result<Vec<LedgerEntry>, MigrateError> {
        let sql = format!(
            "SELECT id, kind, name, checksum, state, arrayStringConcat(objects, '\\n'), steps, run_id, \
             toString(started_at), ifNull(toString(finished_at), ''), error, plan FROM {} FINAL ORDER BY started_at, id",
            self.table("migrations")
        );
        let found = match rows(session, &sql) {
            Err(error) if error.code().is_some_and(|code| NOTHING_YET.contains(&code)) => return Ok(Vec::new()),
            found => found?,
        };
        Ok(found
            .iter()
            .map(|row| LedgerEntry {
                id: text(row, 0).to_owned(),
                kind: text(row, 1).to_owned(),
                name: text(row, 2).to_owned(),
                checksum: text(row, 3).to_owned(),
                state: MigrationState::parse(text(row, 4)),
                objects: text(row, 5).lines().map(str::to_owned).collect(),
                steps: number(row, 6),
                run_id: text(row, 7).to_owned(),
                started_at: text(row, 8).to_owned(),
                finished_at: text(row, 9).to_owned(),
                error: text(row, 10).to_owned(),
                plan: text(row, 11).to_owned(),
            })
            .collect())
    }

    /// An entry for a plan that begins now.
    pub fn begin(plan: &Plan, run_id: &str) -> LedgerEntry {
        let objects: Vec<String> = plan.changes.iter().map(|change| change.object.clone()).collect();
        LedgerEntry {
            id: plan.id.clone(),
            kind: "generated".into(),
            name: summary_name(plan),
            checksum: plan.checksum(),
            state: MigrationState::Started,
            objects,
            steps: plan.changes.iter().map(|change| change.steps.len() as u64).sum(),
            run_id: run_id.to_owned(),
            started_at: now_text(),
            finished_at: String::new(),
            error: String::new(),
            plan: serde_json::to_string(&plan.changes).unwrap_or_default(),
        }
    }
}

/// `3 created, 1 altered`.
fn summary_name(plan: &Plan) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for change in &plan.changes {
        let action = change.action.to_string();
        match counts.iter_mut().find(|(known, _)| *known == action) {
            Some((_, count)) => *count += 1,
            None => counts.push((action, 1)),
        }
    }
    counts.iter().map(|(action, count)| format!("{action} {count}")).collect::<Vec<_>>().join(", ")
}

/// Now, as the ledger writes it.
pub(crate) fn now_text() -> String {
    chrono::Utc::now().format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
