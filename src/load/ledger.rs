//! The ledger of loads: each Silver object's etag and what became of it. In: a session; out: records. An object is noted as
//! `loading` before its rows can arrive and as `loaded` after, so that what a crash left half-done is known.

use std::collections::HashMap;

use crate::{
    engine::{QueryOptions, Session, quote_string},
    lake::layout::SilverKey,
    migrate::rows::{number, rows, text},
    schema::Relation,
};

use super::{LoadError, LoadObject};

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadState {
    /// Rows may have arrived, or some of them: they are removed before it is loaded again.
    Loading,
    Loaded,
    Failed,
}

impl LoadState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Failed => "failed",
        }
    }
}

/// The last record of an object.
#[derive(Debug, Clone)]
pub struct LoadRecord {
    pub dataset: String,
    pub key: String,
    pub etag: String,
    pub rows: u64,
    pub bytes: u64,
    pub state: LoadState,
    pub mode: String,
    pub reason: String,
    pub query_id: String,
    pub recorded_at: String,
}

/// What goes with a state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Note<'a> {
    /// `batch` or `queue`.
    pub mode: &'a str,
    /// The statement that brings the rows.
    pub query_id: &'a str,
    /// Why it failed.
    pub reason: &'a str,
}

/// The ledger of one warehouse.
#[derive(Debug, Clone)]
pub struct LoadLedger {
    loads: Relation,
    batches: Relation,
    run_id: String,
}

impl LoadLedger {
    pub fn new(state_database: &str, raw_database: &str, run_id: &str) -> Self {
        Self {
            loads: Relation::new(state_database, "loads"),
            batches: Relation::new(raw_database, "batches"),
            run_id: run_id.to_owned(),
        }
    }

    /// The last record of every object, by dataset and key.
    ///
    /// # Errors
    /// The ledger does not exist yet (`chpipe migrate` makes it), or the server cannot be asked.
    pub fn records(&self, session: &mut dyn Session) -> Result<HashMap<(String, String), LoadRecord>, LoadError> {
        let sql = format!(
            "SELECT dataset, object_key, etag, rows, bytes, state, mode, reason, query_id, toString(recorded_at) FROM {} FINAL",
            self.loads
        );
        let found = match rows(session, &sql) {
            Err(error) if matches!(error.code(), Some(60 | 81)) => {
                return Err(LoadError::NoTable { table: self.loads.plain() });
            }
            found => found?,
        };
        Ok(found
            .iter()
            .map(|row| {
                let record = LoadRecord {
                    dataset: text(row, 0).to_owned(),
                    key: text(row, 1).to_owned(),
                    etag: text(row, 2).to_owned(),
                    rows: number(row, 3),
                    bytes: number(row, 4),
                    state: match text(row, 5) {
                        "loaded" => LoadState::Loaded,
                        "failed" => LoadState::Failed,
                        _ => LoadState::Loading,
                    },
                    mode: text(row, 6).to_owned(),
                    reason: text(row, 7).to_owned(),
                    query_id: text(row, 8).to_owned(),
                    recorded_at: text(row, 9).to_owned(),
                };
                ((record.dataset.clone(), record.key.clone()), record)
            })
            .collect())
    }

    /// Notes a state of objects, in one insert.
    ///
    /// # Errors
    /// The server refuses.
    pub fn record(
        &self,
        session: &mut dyn Session,
        dataset: &str,
        objects: &[LoadObject],
        state: LoadState,
        note: Note<'_>,
    ) -> Result<(), LoadError> {
        let values: Vec<String> = objects
            .iter()
            .map(|object| {
                format!(
                    "({}, {}, {}, {}, {}, '{}', {}, {}, {}, {})",
                    quote_string(dataset),
                    quote_string(&object.key),
                    quote_string(&object.etag),
                    object.bytes,
                    object.rows,
                    state.as_str(),
                    quote_string(note.mode),
                    quote_string(note.reason),
                    quote_string(note.query_id),
                    quote_string(&self.run_id),
                )
            })
            .collect();
        if values.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {} (dataset, object_key, etag, bytes, rows, state, mode, reason, query_id, run_id) VALUES {}",
            self.loads,
            values.join(", ")
        );
        session.execute(&sql, &QueryOptions::default())?;
        Ok(())
    }

    /// Tells models which batches are there. Objects that are no batch of an endpoint are left out.
    ///
    /// # Errors
    /// The server refuses.
    pub fn record_batches(&self, session: &mut dyn Session, objects: &[LoadObject]) -> Result<(), LoadError> {
        let values: Vec<String> = objects
            .iter()
            .filter_map(|object| {
                let key: SilverKey = object.key.parse().ok()?;
                Some(format!(
                    "({}, {}, {}, {}, {}, now64(3, 'UTC'), {}, {}, {})",
                    quote_string(key.partition.endpoint()),
                    key.partition.season().unwrap_or(0),
                    key.partition.round().unwrap_or(0),
                    quote_string(key.batch_id.as_str()),
                    object.rows,
                    quote_string(&object.key),
                    quote_string(&object.etag),
                    object.bytes,
                ))
            })
            .collect();
        if values.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {} (endpoint, season, round, batch_id, rows, loaded_at, object_key, etag, bytes) VALUES {}",
            self.batches,
            values.join(", ")
        );
        session.execute(&sql, &QueryOptions::default())?;
        Ok(())
    }
}
