//! An engine whose process dies at a statement, for tests: in its place, or after it. What only reads does not count, so that
//! the number names a point between two changes; after it nothing reaches the warehouse any more, whoever asks.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::{BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session};

/// How it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process kills itself, as SIGKILL does, in the place of the statement.
    Process,
    /// The statement and all later ones fail.
    Before,
    /// The statement is run, but its end is not seen.
    After,
}

/// Passes statements on to another engine until the fatal one.
pub struct DyingEngine {
    inner: Arc<dyn Engine>,
    life: Arc<Life>,
}

/// What all sessions share.
struct Life {
    /// Changing statements until the fatal one; negative from then on.
    left: AtomicI64,
    death: Death,
}

impl DyingEngine {
    /// Lets `statements` changing statements of all sessions pass; the next one is fatal.
    pub fn after(inner: Arc<dyn Engine>, statements: i64, death: Death) -> Arc<dyn Engine> {
        Arc::new(Self { inner, life: Arc::new(Life { left: AtomicI64::new(statements), death }) })
    }
}

impl Life {
    fn alive(&self) -> Result<(), EngineError> {
        if self.left.load(Ordering::SeqCst) < 0 { Err(dead()) } else { Ok(()) }
    }

    /// Runs a statement that changes something, unless it is the fatal one.
    fn change<T>(&self, run: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        self.alive()?;
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return run();
        }
        match self.death {
            Death::Process => {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
            }
            Death::Before => {}
            Death::After => {
                run()?;
            }
        }
        Err(dead())
    }
}

fn dead() -> EngineError {
    EngineError::Unreachable { address: "the warehouse".into(), reason: "the process has ended".into() }
}

impl Engine for DyingEngine {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        self.life.alive()?;
        Ok(Box::new(DyingSession { inner: self.inner.connect()?, life: Arc::clone(&self.life) }))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        self.inner.cancel(query_id)
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
}

struct DyingSession {
    inner: Box<dyn Session>,
    life: Arc<Life>,
}

impl Session for DyingSession {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        // Session settings change nothing that lasts.
        if sql.starts_with("SET ") || sql.starts_with("USE ") {
            self.life.alive()?;
            return self.inner.execute(sql, options);
        }
        self.life.change(|| self.inner.execute(sql, options))
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        self.life.alive()?;
        self.inner.query(sql, options)
    }

    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        self.life.alive()?;
        self.inner.query_format(sql, format, options, out)
    }

    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        self.life.change(|| self.inner.insert(statement, schema, batches, options))
    }
}
