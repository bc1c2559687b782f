//! ClickHouse, whichever it is: embedded (libchdb), over HTTP, or over the native protocol. In: SQL text and Arrow
//! batches; out: Arrow batches, bytes and summaries. Nothing outside this module knows which engine it speaks to, and
//! this module knows nothing of models, migrations or files.

mod blocks;
mod chdb;
mod column_type;
#[cfg(test)]
mod conformance;
mod connection;
#[doc(hidden)]
pub mod dying;
mod error;
mod exit;
mod http;
mod install;
mod library;
mod lock;
mod native;
mod native_blocks;
mod native_format;
mod native_writer;
mod note;
#[cfg(test)]
mod old_server;
mod open;
mod result_format;
mod runtime;
pub(crate) mod statement;
#[doc(hidden)]
pub mod testing;
mod tls;

use std::{io::Write, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};

pub(crate) use chdb::{ChdbEngine, ChdbSession};
pub use column_type::TYPE_KEY;
pub use error::EngineError;
pub use install::{Installed, install};
pub use library::{VERSION as LIBCHDB_VERSION, find as find_library, installed_path};
pub use lock::{Holder, holder, lock_path};
pub(crate) use note::{NoteFile, ServeNote, note_path};
pub(crate) use open::open_directory;
pub use open::{EMBEDDED_CLUSTER, OpenOptions, open};

/// A warehouse. Cheap to share; sessions are opened from it.
pub trait Engine: Send + Sync {
    /// Opens a session. Settings (`SET`), the current database (`USE`) and temporary tables belong to it. Sessions run
    /// in parallel; the statements of one session run one after another.
    ///
    /// # Errors
    /// The warehouse cannot be reached, or refuses the user.
    fn connect(&self) -> Result<Box<dyn Session>, EngineError>;

    /// Ends a running statement of any session of this engine, by the id it was given. It may already be over.
    ///
    /// # Errors
    /// The warehouse cannot be asked.
    fn cancel(&self, query_id: &str) -> Result<(), EngineError>;

    /// What this engine can do, asked once.
    fn capabilities(&self) -> &Capabilities;
}

/// One connection with its own state.
pub trait Session: Send {
    /// Runs one statement and drops its result.
    ///
    /// # Errors
    /// The statement failed on the server ([`EngineError::Server`], with code and name), or the server was lost; then it
    /// is not known whether the statement ran.
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError>;

    /// Runs one SELECT-like statement and streams its rows. The stream must be dropped before the session is used again
    /// (the borrow sees to it); dropping it early ends the query.
    ///
    /// # Errors
    /// As [`Session::execute`]; also later, from the stream.
    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError>;

    /// Runs one SELECT-like statement and writes its result in a ClickHouse output format.
    ///
    /// # Errors
    /// As [`Session::execute`], or the writer fails; what was written by then is incomplete.
    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError>;

    /// Inserts batches: `statement` is everything before FORMAT, as `INSERT INTO db.t (a, b)`. All batches have `schema`.
    /// One insert is one statement on the server: atomic per partition and block, as ClickHouse's are.
    ///
    /// # Errors
    /// As [`Session::execute`]; rows of earlier blocks may be in the table.
    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError>;
}

/// What goes with one statement.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// The id on the server; a random one where not given.
    pub query_id: Option<String>,
    /// Settings of this statement alone.
    pub settings: Vec<(String, String)>,
    /// Values for `{name:Type}` placeholders, in ClickHouse's text form.
    pub parameters: Vec<(String, String)>,
    /// It is not begun any more after Ctrl-C, as what tidies up still is.
    pub interruptible: bool,
}

impl QueryOptions {
    /// To be asked once the statement is among those that an interrupt cancels, so that none slips through.
    fn check_interrupted(&self) -> Result<(), EngineError> {
        if self.interruptible && crate::interrupt::interrupted() { Err(EngineError::Interrupted) } else { Ok(()) }
    }

    /// Adds a setting.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets the id on the server.
    #[must_use]
    pub fn query_id(mut self, id: impl Into<String>) -> Self {
        self.query_id = Some(id.into());
        self
    }

    /// Adds a value for a `{name:Type}` placeholder.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }
}

/// What a finished statement did, as far as the engine tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuerySummary {
    pub query_id: String,
    /// Rows and bytes read.
    pub read_rows: u64,
    pub read_bytes: u64,
    /// Rows and bytes written; `None` where the engine does not say.
    pub written_rows: Option<u64>,
    pub written_bytes: Option<u64>,
    pub elapsed: std::time::Duration,
}

/// The rows of a query as they arrive.
pub struct BatchStream<'a> {
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, EngineError>> + 'a>,
}

impl<'a> BatchStream<'a> {
    pub fn new(schema: SchemaRef, batches: impl Iterator<Item = Result<RecordBatch, EngineError>> + 'a) -> Self {
        Self { schema, batches: Box::new(batches) }
    }

    /// The columns, known before the first row.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Iterator for BatchStream<'_> {
    type Item = Result<RecordBatch, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

/// What differs between engines and decides how a statement is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `version()`, as numbers: (26, 5).
    pub version: (u32, u32),
    /// `version()`, whole.
    pub version_text: String,
    /// Lightweight UPDATE (25.7 and later) works.
    pub lightweight_update: bool,
    /// Lightweight DELETE works.
    pub lightweight_delete: bool,
    /// EXCHANGE TABLES works in the databases this engine makes.
    pub exchange_tables: bool,
    /// A Keeper is configured: S3Queue and Replicated engines work.
    pub keeper: bool,
    /// Named collections come from the engine's own configuration and cannot be made by DDL.
    pub named_collections_from_config: bool,
    /// `system.query_log`, users and grants exist.
    pub access_management: bool,
    /// Nobody but this process can write.
    pub sole_writer: bool,
}

impl Capabilities {
    /// Those of libchdb; its version is filled in when it is known.
    fn embedded(keeper: bool) -> Self {
        Self {
            version: (0, 0),
            version_text: String::new(),
            lightweight_update: false,
            lightweight_delete: false,
            exchange_tables: true,
            keeper,
            named_collections_from_config: true,
            access_management: false,
            sole_writer: true,
        }
    }

    /// Those of a server, before it was asked.
    fn server(version_text: String) -> Self {
        Self {
            version_text,
            exchange_tables: true,
            access_management: true,
            sole_writer: false,
            ..Self::embedded(false)
        }
    }

    /// Derives what depends on the version.
    fn with_version(mut self) -> Self {
        let mut numbers = self.version_text.split('.').map(|part| part.parse().unwrap_or(0));
        self.version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        // https://clickhouse.com/docs/sql-reference/statements/update and …/delete
        self.lightweight_update = self.version >= (25, 7);
        self.lightweight_delete = self.version >= (22, 8);
        // Atomic databases, which EXCHANGE TABLES needs, are the default since 20.10.
        self.exchange_tables = self.version >= (20, 10);
        self
    }
}

impl Capabilities {
    /// Whether parts that REPLACE PARTITION has replaced stay on disk until a statement that clears them. libchdb runs no
    /// cleaning in the background, and a part that is still there when the directory is opened again is active again:
    /// nothing covers it (tried on 26.5). A server clears them within seconds.
    pub fn keeps_replaced_parts(&self) -> bool {
        self.named_collections_from_config
    }
}

/// All rows of a query, for small results.
///
/// # Errors
/// As [`Session::query`].
pub fn fetch(session: &mut dyn Session, sql: &str, options: &QueryOptions) -> Result<Vec<RecordBatch>, EngineError> {
    session.query(sql, options)?.collect()
}

/// An identifier in backticks, whatever is in it.
/// <https://clickhouse.com/docs/sql-reference/syntax#identifiers>
pub fn quote_identifier(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('`');
    for c in name.chars() {
        if c == '`' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('`');
    out
}

/// A string literal in single quotes, whatever is in it.
/// <https://clickhouse.com/docs/sql-reference/syntax#string>
pub fn quote_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    for c in value.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}
