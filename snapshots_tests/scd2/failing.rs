//! An engine whose process dies: after a given number of statements nothing reaches the warehouse any more.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use chpipe::engine::{BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session};

/// Passes `left` statements on to another engine, then none.
pub(crate) struct FailingEngine {
    inner: Arc<dyn Engine>,
    left: Arc<AtomicI64>,
}

impl FailingEngine {
    pub(crate) fn after(inner: Arc<dyn Engine>, statements: i64) -> Self {
        Self { inner, left: Arc::new(AtomicI64::new(statements)) }
    }
}

struct FailingSession {
    inner: Box<dyn Session>,
    left: Arc<AtomicI64>,
}

impl FailingSession {
    fn spend(&self) -> Result<(), EngineError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            Ok(())
        } else {
            Err(EngineError::Unreachable { address: "the warehouse".into(), reason: "the process has ended".into() })
        }
    }
}

impl Engine for FailingEngine {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FailingSession { inner: self.inner.connect()?, left: Arc::clone(&self.left) }))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        self.inner.cancel(query_id)
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
}

impl Session for FailingSession {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        // Settings change nothing that lasts.
        if !sql.starts_with("SET ") {
            self.spend()?;
        }
        self.inner.execute(sql, options)
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        if self.left.load(Ordering::SeqCst) <= 0 {
            self.spend()?;
        }
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
        self.spend()?;
        self.inner.insert(statement, schema, batches, options)
    }
}
