//! Applies a plan: lock, ledger, recovery of what an interrupted run left, refuse what would lose data, then statement
//! after statement with a journal. In: a plan; out: a migrated warehouse or an error that says where it stopped. The next
//! run goes on from there: a plan is made from what is live.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    config::Secret,
    ddl::{ChangeClass, HIDDEN, Templates},
    engine::{Engine, EngineError, QueryOptions, Session, quote_string},
};

use crate::schema::Relation;

use super::{
    MigrateError, MigrationFile, Plan, Step,
    collections::{self, Given},
    ledger::{Ledger, LedgerEntry, MigrationState, now_text},
    lock::{Lock, ensure_database},
    plan::{Action, PlannedChange, RebuildStep, Renames},
    rebuild,
    rows::{number, rows, text},
    views,
};

/// Steps that recover views are journalled from here on, beyond those of rebuilds.
const VIEWS_BASE: usize = 100_000_000;

/// Everything an application needs beside the plan.
pub struct Migrator {
    pub engine: Arc<dyn Engine>,
    pub templates: Templates,
    pub ledger: Ledger,
    pub state_database: String,
    pub cluster: Option<String>,
    pub run_id: String,
    /// Secrets of the named collections, in the order of the hidden values.
    pub secrets: HashMap<String, Vec<Secret>>,
    pub lock_timeout: Duration,
}

/// The old version of a rebuilt table, kept for `undo`.
#[derive(Debug, Clone)]
pub struct KeptTable {
    pub table: Relation,
    pub rows: u64,
    pub bytes: u64,
    /// How long it is kept.
    pub days: u32,
    /// From when on `migrate` drops it; none while its migration has not ended.
    pub until: Option<chrono::DateTime<chrono::Utc>>,
}

/// What happens while a plan is applied.
pub trait MigrateProgress {
    /// The lock is held by another process, which is waited for.
    fn waiting(&self, holder: &str);
    /// A change begins.
    fn change_started(&self, change: &PlannedChange);
    /// A change is done.
    fn change_done(&self, change: &PlannedChange, elapsed: Duration);
    /// Something of an earlier, interrupted run was completed or taken back.
    fn recovered(&self, what: &str);
}

impl Migrator {
    /// Takes the lock of the warehouse; keep it while a plan is made and applied.
    ///
    /// # Errors
    /// Another process holds it for longer than the timeout.
    pub fn lock(&self, command: &str, progress: &dyn MigrateProgress) -> Result<Lock, MigrateError> {
        let mut session = self.engine.connect()?;
        ensure_database(&mut *session, &self.state_database, self.cluster.as_deref())?;
        Lock::acquire(&self.engine, &self.state_database, command, self.lock_timeout, |holder| progress.waiting(holder))
    }

    /// Completes or takes back what an interrupted migration left, so that the next plan starts from a consistent state.
    ///
    /// # Errors
    /// The server refuses; what was left stays as it is.
    pub fn recover(&self, lock: &Lock, progress: &dyn MigrateProgress) -> Result<(), MigrateError> {
        let mut session = self.engine.connect()?;
        self.ledger.ensure(&mut *session, &self.templates, self.cluster.as_deref())?;
        clear_stuck_mutations(&mut *session, &self.state_database, progress)?;
        for mut entry in self.ledger.entries(&mut *session)? {
            if entry.state != MigrationState::Started && entry.state != MigrationState::Failed {
                continue;
            }
            lock.check()?;
            let changes: Vec<PlannedChange> = serde_json::from_str(&entry.plan).unwrap_or_default();
            for renames in changes.iter().filter_map(|change| change.renames.as_ref()) {
                self.recover_views(&mut *session, &entry.id, renames, progress)?;
            }
            collections::attach_again(&mut *session, &changes)?;
            for step in changes.iter().flat_map(|change| &change.steps) {
                if let Step::Rebuild(step) = step {
                    let mut rebuild =
                        rebuild::Rebuilder { session: &mut *session, ledger: &self.ledger, migration: &entry.id, lock };
                    if let Some(what) = rebuild.recover(step)? {
                        progress.recovered(&what);
                    }
                }
            }
            if entry.state == MigrationState::Started {
                entry.state = MigrationState::Failed;
                entry.error = "interrupted; a later migration went on from there".into();
                entry.finished_at = now_text();
                self.ledger.record(&mut *session, &entry)?;
            }
        }
        Ok(())
    }

    /// A migration that ended between the rename of a column and the change of a view over it: no later plan would see
    /// that view, which need not be one of chpipe's.
    fn recover_views(
        &self,
        session: &mut dyn Session,
        migration: &str,
        renames: &Renames,
        progress: &dyn MigrateProgress,
    ) -> Result<(), MigrateError> {
        let object = format!("{}:views", renames.table.plain());
        if self.ledger.step_statement(session, migration, &object)?.is_some() {
            return Ok(());
        }
        for changed in self.change_views(session, renames)? {
            progress.recovered(&changed);
        }
        // Once and for all: a rename that did not take place is the next plan's, with its views.
        let number = VIEWS_BASE + (crc32fast::hash(renames.table.plain().as_bytes()) % 1_000_000) as usize;
        self.ledger.record_step(session, migration, number, &object, "", "done")
    }

    /// Gives the views that still read the old names of a table's columns the new ones. Answers what was done.
    fn change_views(&self, session: &mut dyn Session, renames: &Renames) -> Result<Vec<String>, MigrateError> {
        let done = views::that_took_place(session, renames)?;
        let mut changed = Vec::new();
        for change in views::that_follow(session, &self.templates, &done)? {
            session.execute(&change.sql, &alter_options(&change.sql))?;
            changed.push(format!(
                "the view {} reads the renamed columns of {} under their new names",
                change.view.plain(),
                renames.table.plain()
            ));
        }
        Ok(changed)
    }

    /// Applies a plan.
    ///
    /// # Errors
    /// A destructive change that nobody allowed (then nothing was done), or the statement that failed.
    pub fn apply(
        &self,
        plan: &Plan,
        allowed: &[String],
        lock: &Lock,
        progress: &dyn MigrateProgress,
    ) -> Result<(), MigrateError> {
        refuse_destructive(plan, allowed)?;
        let mut session = self.engine.connect()?;
        self.ledger.ensure(&mut *session, &self.templates, self.cluster.as_deref())?;
        let mut entry = Ledger::begin(plan, &self.run_id);
        self.ledger.record(&mut *session, &entry)?;
        let result = self.apply_changes(&mut *session, plan, &entry, lock, progress);
        self.record_end(&mut *session, &mut entry, result)
    }

    /// Records how a migration ended, and answers that.
    fn record_end(
        &self,
        session: &mut dyn Session,
        entry: &mut LedgerEntry,
        result: Result<(), MigrateError>,
    ) -> Result<(), MigrateError> {
        entry.finished_at = now_text();
        match &result {
            Ok(()) => entry.state = MigrationState::Applied,
            Err(error) => {
                entry.state = MigrationState::Failed;
                entry.error = error.to_string();
            }
        }
        // The failure itself is what the caller must hear.
        let recorded = self.ledger.record(session, entry);
        result.and(recorded)
    }

    /// Refuses a plan in which some object would lose data and is not named.
    ///
    /// # Errors
    /// [`MigrateError::Destructive`].
    pub fn refuse_destructive(&self, plan: &Plan, allowed: &[String]) -> Result<(), MigrateError> {
        refuse_destructive(plan, allowed)
    }

    /// The old versions of rebuilt tables that are still there, in the order of their migrations.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn kept(&self, retention_days: u32) -> Result<Vec<KeptTable>, MigrateError> {
        let mut session = self.engine.connect()?;
        let mut kept = Vec::new();
        for entry in self.ledger.entries(&mut *session)? {
            let changes: Vec<PlannedChange> = serde_json::from_str(&entry.plan).unwrap_or_default();
            for step in changes.iter().flat_map(|change| &change.steps) {
                let Step::Rebuild(step) = step else { continue };
                let Some((rows, bytes)) = size(&mut *session, &step.old)? else { continue };
                let days = step.keep_days.unwrap_or(retention_days);
                let finished = chrono::NaiveDateTime::parse_from_str(&entry.finished_at, "%Y-%m-%d %H:%M:%S%.f").ok();
                let until = finished.map(|finished| finished.and_utc() + chrono::TimeDelta::days(i64::from(days)));
                kept.push(KeptTable { table: step.old.clone(), rows, bytes, days, until });
            }
        }
        Ok(kept)
    }

    /// Drops the old versions of rebuilt tables that are older than the retention. Answers what was dropped.
    ///
    /// # Errors
    /// The server refuses.
    pub fn drop_expired(&self, lock: &Lock, retention_days: u32) -> Result<Vec<String>, MigrateError> {
        let now = chrono::Utc::now();
        let mut dropped = Vec::new();
        for kept in self.kept(retention_days)? {
            if kept.until.is_some_and(|until| until <= now) {
                lock.check()?;
                let mut session = self.engine.connect()?;
                session.execute(&self.templates.drop(&kept.table, false)?, &QueryOptions::default())?;
                dropped.push(format!("dropped {}, kept for {} days", kept.table.plain(), kept.days));
            }
        }
        Ok(dropped)
    }

    /// Runs files in order, each as a migration of its own. One that stopped half-way goes on after its last statement.
    ///
    /// # Errors
    /// The statement that failed; a file whose done statements changed; a statement of which it is not known whether it
    /// took effect.
    pub fn apply_files(
        &self,
        files: &[MigrationFile],
        lock: &Lock,
        progress: &dyn MigrateProgress,
    ) -> Result<(), MigrateError> {
        let mut session = self.engine.connect()?;
        self.ledger.ensure(&mut *session, &self.templates, self.cluster.as_deref())?;
        for file in files {
            let change = file_change(file);
            progress.change_started(&change);
            let begun = std::time::Instant::now();
            let mut entry = LedgerEntry {
                id: file.id(),
                kind: "file".into(),
                name: file.name.clone(),
                checksum: file.checksum.clone(),
                state: MigrationState::Started,
                objects: vec![change.object.clone()],
                steps: file.statements.len() as u64,
                run_id: self.run_id.clone(),
                started_at: now_text(),
                finished_at: String::new(),
                error: String::new(),
                plan: String::new(),
            };
            let result = self.apply_file(&mut *session, file, &entry, lock);
            self.record_end(&mut *session, &mut entry, result)?;
            progress.change_done(&change, begun.elapsed());
        }
        Ok(())
    }

    fn apply_file(
        &self,
        session: &mut dyn Session,
        file: &MigrationFile,
        entry: &LedgerEntry,
        lock: &Lock,
    ) -> Result<(), MigrateError> {
        let earlier = self.ledger.steps(session, &entry.id)?;
        self.ledger.record(session, entry)?;
        let object = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (index, sql) in file.statements.iter().enumerate() {
            let number = index + 1;
            let before = earlier.iter().find(|(step, _, _)| *step == number);
            let repeated = match before {
                Some((_, statement, state)) if state == "done" => {
                    if statement != sql {
                        return Err(MigrateError::File {
                            path: file.path.clone(),
                            reason: format!("statement {number} was done already and is another one now"),
                        });
                    }
                    continue;
                }
                Some((_, statement, state)) => state == "started" && statement == sql,
                None => false,
            };
            if repeated && !is_repeatable(sql) {
                return Err(MigrateError::Unsafe {
                    object: object.clone(),
                    reason: format!(
                        "statement {number} was running when an earlier run was killed, and it is not known whether it took \
                         effect"
                    ),
                    hint: Some(format!(
                        "look at the data; if it took effect, take the statement out of the file, else run it by hand; then \
                         `chpipe query \"ALTER TABLE {}.migration_steps DELETE WHERE migration_id = '{}'\"`\n{sql}",
                        self.state_database, entry.id
                    )),
                });
            }
            lock.check()?;
            if crate::interrupt::interrupted() {
                return Err(MigrateError::Interrupted);
            }
            self.ledger.record_step(session, &entry.id, number, &object, sql, "started")?;
            match session.execute(sql, &alter_options(sql)) {
                Ok(_) => {}
                // It took effect before the kill: CREATE of what exists, DROP of what is gone.
                Err(error) if repeated && error.code().is_some_and(|code| EFFECT_IS_THERE.contains(&code)) => {}
                Err(source) => {
                    self.ledger.record_step(session, &entry.id, number, &object, sql, "failed")?;
                    return Err(MigrateError::Statement {
                        migration: entry.id.clone(),
                        step: number,
                        steps: file.statements.len(),
                        object,
                        sql: sql.clone(),
                        source,
                    });
                }
            }
            self.ledger.record_step(session, &entry.id, number, &object, sql, "done")?;
        }
        Ok(())
    }

    /// Puts the old tables of the last migration that rebuilt any back in place. Rows that arrived since are in the table
    /// that is kept under the old one's name; nothing is dropped.
    ///
    /// # Errors
    /// No migration can be undone, or the server refuses.
    pub fn undo(&self, lock: &Lock) -> Result<Vec<String>, MigrateError> {
        let mut session = self.engine.connect()?;
        let entries = self.ledger.entries(&mut *session)?;
        let Some(mut entry) = entries.into_iter().rfind(|entry| entry.state == MigrationState::Applied) else {
            return Err(MigrateError::NothingToUndo { reason: "no migration is applied".into() });
        };
        let changes: Vec<PlannedChange> = serde_json::from_str(&entry.plan).unwrap_or_default();
        let rebuilds: Vec<(&PlannedChange, &RebuildStep)> = changes
            .iter()
            .flat_map(|change| change.steps.iter().map(move |step| (change, step)))
            .filter_map(|(change, step)| match step {
                Step::Rebuild(step) => Some((change, step.as_ref())),
                _ => None,
            })
            .collect();
        if rebuilds.is_empty() {
            return Err(MigrateError::NothingToUndo {
                reason: format!(
                    "the last migration, {} ({}), rebuilt no table; put the spec back and run `chpipe migrate`",
                    entry.id, entry.name
                ),
            });
        }
        let mut done = Vec::new();
        for (change, step) in rebuilds {
            lock.check()?;
            let mut rebuilder =
                rebuild::Rebuilder { session: &mut *session, ledger: &self.ledger, migration: &entry.id, lock };
            done.push(rebuilder.undo(step, &self.templates)?);
            if let Some(renames) = &change.renames {
                done.extend(self.change_views(&mut *session, &renames.reversed())?);
            }
        }
        entry.state = MigrationState::Undone;
        self.ledger.record(&mut *session, &entry)?;
        Ok(done)
    }

    fn apply_changes(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        entry: &LedgerEntry,
        lock: &Lock,
        progress: &dyn MigrateProgress,
    ) -> Result<(), MigrateError> {
        let steps = plan.changes.iter().map(|change| change.steps.len()).sum();
        let mut number = 0;
        for change in &plan.changes {
            progress.change_started(change);
            let begun = std::time::Instant::now();
            for step in &change.steps {
                number += 1;
                lock.check()?;
                if crate::interrupt::interrupted() {
                    return Err(MigrateError::Interrupted);
                }
                let sql = step.sql().join(";\n");
                self.ledger.record_step(session, &entry.id, number, &change.object, &sql, "started")?;
                let result = self.step(session, step, &entry.id, lock);
                if let Err(error) = result {
                    self.ledger.record_step(session, &entry.id, number, &change.object, &sql, "failed")?;
                    return Err(match error {
                        MigrateError::Engine(source) => MigrateError::Statement {
                            migration: entry.id.clone(),
                            step: number,
                            steps,
                            object: change.object.clone(),
                            sql,
                            source,
                        },
                        other => other,
                    });
                }
                self.ledger.record_step(session, &entry.id, number, &change.object, &sql, "done")?;
            }
            progress.change_done(change, begun.elapsed());
        }
        Ok(())
    }

    fn step(&self, session: &mut dyn Session, step: &Step, migration: &str, lock: &Lock) -> Result<(), MigrateError> {
        match step {
            Step::Sql(sql) => {
                let summary = session.execute(sql, &alter_options(sql))?;
                tracing::info!(migration, query_id = summary.query_id, "statement");
            }
            Step::Collection { name, sql } => {
                let secrets = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
                session
                    .execute(&with_secrets(sql, secrets), &QueryOptions::default())
                    .map_err(|error| without(error, secrets))?;
            }
            Step::Given { name, values } => {
                let secrets = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
                let given = Given::new(values.clone(), secrets);
                self.ledger.record_collection(session, migration, name, &given)?;
            }
            Step::Rebuild(step) => {
                rebuild::Rebuilder { session, ledger: &self.ledger, migration, lock }.run(step)?;
            }
        }
        Ok(())
    }
}

/// An ALTER waits for its mutation, so that the next statement meets the finished table. A new TTL is left to the merges:
/// rewriting every part at once is not what a change of retention should cost.
fn alter_options(sql: &str) -> QueryOptions {
    if !sql.starts_with("ALTER") {
        return QueryOptions::default();
    }
    QueryOptions::default()
        .setting("mutations_sync", "2")
        .setting("alter_sync", "2")
        .setting("materialize_ttl_after_modify", "0")
}

/// TABLE_ALREADY_EXISTS, DATABASE_ALREADY_EXISTS, DUPLICATE_COLUMN, UNKNOWN_TABLE, UNKNOWN_DATABASE,
/// NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE.
const EFFECT_IS_THERE: [i32; 7] = [57, 82, 15, 60, 81, 10, 16];

/// Whether running a statement a second time changes nothing, or fails because its effect is there.
fn is_repeatable(sql: &str) -> bool {
    let words = crate::schema::keywords(sql, 3);
    let word = |index: usize| words.get(index).map(String::as_str).unwrap_or_default();
    match word(0) {
        "CREATE" | "DROP" | "RENAME" | "ATTACH" | "DETACH" | "GRANT" | "REVOKE" | "SELECT" | "SYSTEM" | "SET"
        | "OPTIMIZE" | "TRUNCATE" | "DELETE" | "USE" => word(1) != "EXCHANGE",
        // An UPDATE may count up what it reads.
        "ALTER" => !crate::schema::keywords(sql, usize::MAX).iter().any(|word| word == "UPDATE"),
        _ => false,
    }
}

/// A file as a change of a plan.
pub fn file_change(file: &MigrationFile) -> PlannedChange {
    let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut change = PlannedChange::new(&name, "migration file", Action::Run, ChangeClass::ByHand);
    let count = file.statements.len();
    change.summary.push(format!("{count} statement{}", if count == 1 { "" } else { "s" }));
    change.steps = file.statements.iter().map(|sql| Step::Sql(sql.clone())).collect();
    change
}

fn with_secrets(sql: &str, secrets: &[Secret]) -> String {
    secrets.iter().fold(sql.to_owned(), |sql, secret| sql.replacen(HIDDEN, &quote_string(secret.expose()), 1))
}

/// A server's message may repeat the statement.
fn without(error: EngineError, secrets: &[Secret]) -> EngineError {
    match error {
        EngineError::Server { code, name, message, query_id } => {
            let message = secrets.iter().fold(message, |message, secret| message.replace(secret.expose(), "[HIDDEN]"));
            EngineError::Server { code, name, message, query_id }
        }
        other => other,
    }
}

/// Rows and bytes of a table; none where it does not exist.
fn size(session: &mut dyn Session, table: &Relation) -> Result<Option<(u64, u64)>, MigrateError> {
    let sql = format!(
        "SELECT ifNull(total_rows, 0), ifNull(total_bytes, 0) FROM system.tables WHERE database = {} AND name = {}",
        quote_string(&table.database),
        quote_string(&table.name)
    );
    Ok(rows(session, &sql)?.first().map(|row| (number(row, 0), number(row, 1))))
}

/// Refuses the whole plan when some object would lose data and was not named.
pub(crate) fn refuse_destructive(plan: &Plan, allowed: &[String]) -> Result<(), MigrateError> {
    for change in &plan.changes {
        let bare = change.object.rsplit('.').next().unwrap_or(&change.object);
        if !change.destructive.is_empty() && !allowed.iter().any(|name| *name == change.object || name == bare) {
            return Err(MigrateError::Destructive {
                object: change.object.clone(),
                reason: change.destructive.join("; "),
            });
        }
    }
    Ok(())
}

/// A mutation that fails blocks all later ones of its table for ever, and each SELECT of the column: it is named, ended,
/// and the next plan puts the column right.
fn clear_stuck_mutations(
    session: &mut dyn Session,
    state_database: &str,
    progress: &dyn MigrateProgress,
) -> Result<(), MigrateError> {
    // Only mutations of tables that a migration of ours touched: others belong to others.
    let sql = format!(
        "SELECT database, table, mutation_id, command, latest_fail_reason FROM system.mutations WHERE NOT is_done AND \
         latest_fail_reason != '' AND concat(database, '.', table) IN (SELECT arrayJoin(objects) FROM {}.migrations FINAL)",
        crate::engine::quote_identifier(state_database)
    );
    for row in rows(session, &sql)? {
        let kill = format!(
            "KILL MUTATION WHERE database = {} AND table = {} AND mutation_id = {} SYNC",
            quote_string(text(&row, 0)),
            quote_string(text(&row, 1)),
            quote_string(text(&row, 2)),
        );
        session.execute(&kill, &QueryOptions::default())?;
        let reason = text(&row, 4).lines().next().unwrap_or_default();
        progress.recovered(&format!(
            "mutation `{}` of {}.{} was stuck and is ended: {reason}",
            text(&row, 3),
            text(&row, 0),
            text(&row, 1)
        ));
    }
    Ok(())
}
