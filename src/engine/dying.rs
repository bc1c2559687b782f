//! An engine whose process dies, for tests of debug builds: at a given statement, before it is sent, the process kills
//! itself as SIGKILL does. What only reads does not count, so that the number names a point between two changes.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::{BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session};

/// Passes statements on to another engine until the fatal one.
pub(super) struct DyingEngine {
    inner: Arc<dyn Engine>,
    left: Arc<AtomicI64>,
}

impl DyingEngine {
    /// The process ends in the place of statement `number`, counted from 1 over all sessions.
    pub(super) fn at(inner: Arc<dyn Engine>, number: i64) -> Self {
        Self { inner, left: Arc::new(AtomicI64::new(number)) }
    }
}

struct DyingSession {
    inner: Box<dyn Session>,
    left: Arc<AtomicI64>,
}

impl DyingSession {
    fn count(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Engine for DyingEngine {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(DyingSession { inner: self.inner.connect()?, left: Arc::clone(&self.left) }))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        self.inner.cancel(query_id)
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
}

impl Session for DyingSession {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        // Session settings change nothing that lasts.
        if !sql.starts_with("SET ") && !sql.starts_with("USE ") {
            self.count();
        }
        self.inner.execute(sql, options)
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        self.inner.query(sql, options)
    }

    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        self.inner.query_format(sql, format, options, out)
    }

    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        self.count();
        self.inner.insert(statement, schema, batches, options)
    }
}
