//! The embedded engine: libchdb over a directory, in this process. In: SQL and batches; out: what the trait says.
//!
//! - One directory a process: libchdb has one storage path, so a second [`open`] of the same path shares the first
//!   one's engine, and another path is refused. Every session is a libchdb connection of its own.
//! - Settings of a statement are `SET` before it, and put back by the `SET` of the next one, which costs nothing where both
//!   have the same: libchdb has no other way that leaves the statement's text alone. Parameters go through libchdb's own
//!   binding.
//! - libchdb makes query ids by itself and takes none. Ours is put into `log_comment`, by which [`Engine::cancel`] finds
//!   the statement in `system.processes`. `KILL QUERY … SYNC` would wait for ever: a killed statement leaves that list
//!   only when its connection runs the next one.
//! - A stream gives every block as a document of its own in the wanted format; [`super::blocks`] joins them. Formats that
//!   cannot be joined (JSON, Parquet, …) and statements other than SELECT are answered in one piece.
//!
//! One file: a session, its statements and their streams hand the settings, the tag and the connection to each other.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::CString,
    io::Write,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use parking_lot::Mutex;
use tempfile::{SpooledData, SpooledTempFile};
use uuid::Uuid;

use super::{
    BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session,
    blocks::Joiner,
    connection::{self, Connection, HeldWhileOpen},
    library::{self, Library, OwnedResult},
    lock::DirectoryLock,
    native_format::{self, Columns, NativeReader},
    native_writer::NativeWriter,
    quote_identifier, quote_string,
    statement::{Kind, Statement, TokenKind, Tokens, set_assignments},
};
use crate::interrupt::{self, OnInterrupt, interrupted};

/// Inserted data above this size goes through a file, so that memory stays bounded.
const SPOOL_ABOVE: usize = 64 << 20;

/// How often a cancel looks for its statement, which may not have reached ClickHouse yet.
const CANCEL_ATTEMPTS: u32 = 40;
const CANCEL_POLL: Duration = Duration::from_millis(25);

/// A warehouse directory, open in this process.
struct Warehouse {
    // Before the lock: the directory is free only when libchdb has closed it.
    base: Connection,
    library: &'static Library,
    path: PathBuf,
    /// The configuration it was opened with, to tell whether a second opener wants the same.
    configuration: String,
    running: Mutex<HashMap<String, Arc<Running>>>,
    statements: AtomicU64,
    /// Distinguishes this process's statements from what an earlier one left in a comment.
    mark: Uuid,
    capabilities: Capabilities,
    _lock: HeldWhileOpen,
}

/// A statement under way.
#[derive(Debug)]
struct Running {
    /// Its `log_comment`.
    tag: String,
    /// Whether it changes nothing.
    reads: bool,
    cancelled: AtomicBool,
}

/// The embedded engine.
pub(crate) struct ChdbEngine {
    warehouse: Arc<Warehouse>,
    _on_interrupt: OnInterrupt,
}

/// What an opened directory is configured with.
pub(super) struct Configuration<'a> {
    pub(super) library: &'a Path,
    pub(super) path: &'a Path,
    /// ClickHouse's XML configuration; it may hold credentials.
    pub(super) xml: String,
}

static OPEN: Mutex<Weak<Warehouse>> = Mutex::new(Weak::new());

/// Cancels what runs, for the end of the process.
pub(super) fn cancel_before_end() {
    if let Some(warehouse) = OPEN.try_lock().and_then(|open| open.upgrade()) {
        warehouse.cancel_all();
        // Nothing of it is closed any more.
        std::mem::forget(warehouse);
    }
}

/// The engine over `path` that this process has open already, if any.
pub(super) fn already_open(path: &Path, xml: &str) -> Result<Option<ChdbEngine>, EngineError> {
    let Some(warehouse) = OPEN.lock().upgrade() else { return Ok(None) };
    let refuse = |reason: String| EngineError::Open { path: path.to_owned(), reason };
    if warehouse.path != path {
        let open = warehouse.path.display();
        return Err(refuse(format!("this process already has `{open}` open, and libchdb serves one directory")));
    }
    if warehouse.configuration != xml {
        return Err(refuse("this process has it open with other named collections or another ZooKeeper".into()));
    }
    Ok(Some(ChdbEngine::over(warehouse)))
}

impl ChdbEngine {
    /// Opens the directory; the lock is already held.
    pub(super) fn open(configuration: Configuration<'_>, lock: DirectoryLock) -> Result<Self, EngineError> {
        let path = configuration.path;
        let failed = |reason: String| EngineError::Open { path: path.to_owned(), reason };
        let library = library::load(configuration.library)?;
        // In a private folder, readable by this user only, and gone as soon as libchdb has read it.
        let file = tempfile::Builder::new()
            .prefix("chpipe-")
            .suffix(".xml")
            .tempfile()
            .and_then(|mut file| file.write_all(configuration.xml.as_bytes()).map(|()| file))
            .map_err(|error| failed(format!("its configuration cannot be written: {error}")))?;
        let argument = |name: &str, value: &Path| {
            CString::new(format!("--{name}={}", value.display())).map_err(|_| failed("its name holds a NUL".into()))
        };
        let arguments = [c"chpipe".to_owned(), argument("path", path)?, argument("config-file", file.path())?];
        let base = Connection::open(library, &arguments)
            .map_err(|reason| failed(format!("{reason}. Is it a ClickHouse data directory?")))?;
        drop(file);
        let mut warehouse = Warehouse {
            base,
            library,
            path: path.to_owned(),
            configuration: configuration.xml,
            running: Mutex::default(),
            statements: AtomicU64::new(0),
            mark: Uuid::new_v4(),
            capabilities: Capabilities::embedded(false),
            _lock: HeldWhileOpen::new(lock),
        };
        let version = warehouse.scalar("SELECT version()")?;
        let keeper = warehouse.configuration.contains("<zookeeper>");
        warehouse.capabilities =
            Capabilities { version_text: version, ..Capabilities::embedded(keeper) }.with_version();
        let warehouse = Arc::new(warehouse);
        *OPEN.lock() = Arc::downgrade(&warehouse);
        Ok(Self::over(warehouse))
    }

    fn over(warehouse: Arc<Warehouse>) -> Self {
        let weak = Arc::downgrade(&warehouse);
        let on_interrupt = interrupt::on_interrupt(move || {
            let Some(warehouse) = weak.upgrade() else { return };
            // On a thread of its own: the next signal must not wait for it.
            let _ = std::thread::Builder::new().name("cancel".into()).spawn(move || warehouse.cancel_all());
        });
        Self { warehouse, _on_interrupt: on_interrupt }
    }
}

impl Warehouse {
    fn connect(&self) -> Result<Connection, EngineError> {
        let failed = |reason: &str| EngineError::Open { path: self.path.clone(), reason: reason.to_owned() };
        let path =
            CString::new(format!("--path={}", self.path.display())).map_err(|_| failed("its name holds a NUL"))?;
        Connection::open(self.library, &[c"chpipe".to_owned(), path]).map_err(failed)
    }

    /// One value, over a connection that nothing else uses.
    fn scalar(&self, sql: &str) -> Result<String, EngineError> {
        let result = self.base.query(sql.as_bytes(), "TSVRaw", &[])?;
        match result.error() {
            Some(text) => Err(EngineError::from_server_text(&text, "")),
            None => Ok(String::from_utf8_lossy(result.bytes()).trim_end().to_owned()),
        }
    }

    /// Asks ClickHouse to end the statements whose `log_comment` is one of the tags; answers how many it knew.
    fn kill(&self, tags: &[String]) -> Result<usize, EngineError> {
        let tags: Vec<String> = tags.iter().map(|tag| quote_string(tag)).collect();
        let sql = format!("KILL QUERY WHERE Settings['log_comment'] IN ({}) ASYNC", tags.join(", "));
        let connection = self.connect()?;
        let result = connection.query(sql.as_bytes(), "TSV", &[])?;
        match result.error() {
            Some(text) => Err(EngineError::from_server_text(&text, "")),
            None => Ok(result.bytes().iter().filter(|&&byte| byte == b'\n').count()),
        }
    }

    /// Cancels what runs at this moment, once each; some may be on their way to ClickHouse only, so it is tried again.
    fn cancel_all(&self) {
        let tags: Vec<String> = self
            .running
            .lock()
            .values()
            .map(|running| {
                running.cancelled.store(true, Ordering::Relaxed);
                running.tag.clone()
            })
            .collect();
        loop {
            let left: Vec<String> = self
                .running
                .lock()
                .values()
                .map(|running| &running.tag)
                .filter(|tag| tags.contains(tag))
                .cloned()
                .collect();
            // The statements run on to their end if this fails; the second signal ends the process.
            if left.is_empty() || self.kill(&left).is_err() {
                return;
            }
            std::thread::sleep(CANCEL_POLL);
        }
    }
}

impl ChdbEngine {
    /// A session with what only this engine can do, for [`crate::serve`].
    pub(crate) fn connect_session(&self) -> Result<ChdbSession, EngineError> {
        let connection = self.warehouse.connect()?;
        Ok(ChdbSession {
            connection,
            warehouse: Arc::clone(&self.warehouse),
            settings: BTreeMap::new(),
            applied: BTreeMap::new(),
            unclean: false,
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.warehouse.path
    }

    /// Cancels a statement that only reads; another one runs on.
    pub(crate) fn cancel_reading(&self, query_id: &str) {
        let reads = self.warehouse.running.lock().get(query_id).is_some_and(|running| running.reads);
        if reads {
            // Its client is gone: nobody is left to tell.
            let _ = self.cancel(query_id);
        }
    }

    /// Whether a statement of this id is under way.
    pub(crate) fn is_running(&self, query_id: &str) -> bool {
        self.warehouse.running.lock().contains_key(query_id)
    }
}

impl Engine for ChdbEngine {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(self.connect_session()?))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        let running = self.warehouse.running.lock().get(query_id).cloned();
        let Some(running) = running else { return Ok(()) };
        running.cancelled.store(true, Ordering::Relaxed);
        for _ in 0..CANCEL_ATTEMPTS {
            if self.warehouse.kill(std::slice::from_ref(&running.tag))? > 0 {
                return Ok(());
            }
            // It was registered a moment before it was sent.
            let over = !self.warehouse.running.lock().contains_key(query_id);
            if over {
                return Ok(());
            }
            std::thread::sleep(CANCEL_POLL);
        }
        Ok(())
    }

    fn capabilities(&self) -> &Capabilities {
        &self.warehouse.capabilities
    }
}

/// A connection with its own settings, current database and temporary tables.
pub(crate) struct ChdbSession {
    // Before the warehouse, which closes the directory with its last connection.
    connection: Connection,
    warehouse: Arc<Warehouse>,
    /// What `SET` statements of this session set, as SQL literals: to put back after a statement's own settings.
    settings: BTreeMap<String, String>,
    /// Settings of the last statement that are still in place.
    applied: BTreeMap<String, Applied>,
    /// A `SET` in a form this module does not read was run: what to put back is asked for then.
    unclean: bool,
}

/// A setting that a statement has put in place of the session's own.
struct Applied {
    /// `None` where the `SET` failed: it may be in place or not.
    value: Option<String>,
    /// The session's own, as SQL.
    before: String,
}

/// What a begun statement owes: its entry among the running ones.
struct Begun {
    query_id: String,
    running: Arc<Running>,
    started: Instant,
}

impl ChdbSession {
    /// Puts the statement's settings and tag in place.
    fn begin(&mut self, reads: bool, options: &QueryOptions) -> Result<Begun, EngineError> {
        let query_id = options.query_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let number = self.warehouse.statements.fetch_add(1, Ordering::Relaxed);
        let comment = options.settings.iter().find(|(name, _)| name == "log_comment").map(|(_, value)| value.clone());
        let tag = comment.unwrap_or_else(|| format!("chpipe:{}:{number}", self.warehouse.mark.simple()));
        let mut assignments = vec![format!("log_comment = {}", quote_string(&tag))];
        let wanted = options.settings.iter().filter(|(name, _)| name != "log_comment");
        // The last of equal names counts.
        let wanted: BTreeMap<&str, &str> = wanted.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut applied = BTreeMap::new();
        for (name, value) in &wanted {
            check_setting_name(name)?;
            let before = match self.applied.get(*name) {
                Some(there) => there.before.clone(),
                None => self.value_to_restore(name)?,
            };
            if self.applied.get(*name).and_then(|there| there.value.as_deref()) != Some(*value) {
                assignments.push(format!("{name} = {}", quote_string(value)));
            }
            applied.insert((*name).to_owned(), Applied { value: Some((*value).to_owned()), before });
        }
        for (name, there) in self.applied.iter().filter(|(name, _)| !wanted.contains_key(name.as_str())) {
            assignments.push(format!("{name} = {}", there.before));
        }
        self.apply(applied, &assignments, &query_id)?;
        let running = Arc::new(Running { tag, reads, cancelled: AtomicBool::new(false) });
        self.warehouse.running.lock().insert(query_id.clone(), Arc::clone(&running));
        let begun = Begun { query_id, running, started: Instant::now() };
        options.check_interrupted().inspect_err(|_| self.end(&begun))?;
        Ok(begun)
    }

    /// Runs one `SET` that leaves `applied` in place.
    fn apply(
        &mut self,
        applied: BTreeMap<String, Applied>,
        assignments: &[String],
        query_id: &str,
    ) -> Result<(), EngineError> {
        let set = self.run_plain(&format!("SET {}", assignments.join(", ")), query_id);
        if set.is_ok() {
            self.applied = applied;
            return Ok(());
        }
        // Some of them may be in place: the next statement sets all of them again.
        for (name, there) in applied {
            self.applied.entry(name).or_insert(there);
        }
        for there in self.applied.values_mut() {
            there.value = None;
        }
        set
    }

    /// Puts back what statements have set, before one that sets by itself.
    fn put_back(&mut self) -> Result<(), EngineError> {
        if self.applied.is_empty() {
            return Ok(());
        }
        let before: Vec<String> =
            self.applied.iter().map(|(name, there)| format!("{name} = {}", there.before)).collect();
        self.apply(BTreeMap::new(), &before, "")
    }

    fn value_to_restore(&self, name: &str) -> Result<String, EngineError> {
        if let Some(value) = self.settings.get(name) {
            return Ok(value.clone());
        }
        if !self.unclean {
            return Ok("DEFAULT".into());
        }
        let sql = format!("SELECT if(changed, value, NULL) FROM system.settings WHERE name = {}", quote_string(name));
        let result = self.connection.query(sql.as_bytes(), "TSVRaw", &[])?;
        let value = String::from_utf8_lossy(result.bytes());
        let value = value.strip_suffix('\n').unwrap_or(&value);
        Ok(if value == "\\N" || value.is_empty() { "DEFAULT".into() } else { quote_string(value) })
    }

    fn run_plain(&self, sql: &str, query_id: &str) -> Result<(), EngineError> {
        let result = self.connection.query(sql.as_bytes(), "Null", &[])?;
        match result.error() {
            Some(text) => Err(EngineError::from_server_text(&text, query_id)),
            None => Ok(()),
        }
    }

    fn end(&mut self, begun: &Begun) {
        self.warehouse.running.lock().remove(&begun.query_id);
    }

    /// Runs a statement in one piece.
    fn run(
        &mut self,
        sql: &[u8],
        format: &str,
        options: &QueryOptions,
    ) -> Result<(OwnedResult, QuerySummary), EngineError> {
        let start = String::from_utf8_lossy(&sql[..sql.len().min(4096)]);
        let begun = self.begin(matches!(Statement::read(&start).kind, Kind::Select | Kind::Rows), options)?;
        let result = self.connection.query(sql, format, &options.parameters);
        self.end(&begun);
        let result = result?;
        if let Some(text) = result.error() {
            return Err(begun.error(&text));
        }
        let summary = begun.summary(Some(&result));
        Ok((result, summary))
    }

    /// `KILL QUERY`: `query_id` in its condition means the ids that chpipe gave, and it never waits (a killed statement
    /// stays in the list until its connection runs another).
    pub(crate) fn kill(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        let running: Vec<(String, Arc<Running>)> =
            self.warehouse.running.lock().iter().map(|(id, running)| (id.clone(), Arc::clone(running))).collect();
        // An array of nothing has no type that transform() takes; '' is the comment of no statement of ours.
        let list = |texts: Vec<&str>| std::iter::once("").chain(texts).map(quote_string).collect::<Vec<_>>().join(", ");
        let tags = list(running.iter().map(|(_, running)| running.tag.as_str()).collect());
        let ids = list(running.iter().map(|(id, _)| id.as_str()).collect());
        let id_of = format!("transform(Settings['log_comment'], [{tags}], [{ids}], query_id)");
        let mut text = String::with_capacity(sql.len() + id_of.len());
        for token in Tokens::new(sql) {
            match token.text(sql) {
                word if token.kind == TokenKind::Word && word.eq_ignore_ascii_case("query_id") => text.push_str(&id_of),
                word if token.kind == TokenKind::Word && word.eq_ignore_ascii_case("SYNC") => text.push_str("ASYNC"),
                other => text.push_str(other),
            }
        }
        self.write_in_one_piece(&text, format, options, out)
    }

    /// Inserts data that is encoded already: `statement` is everything before FORMAT.
    pub(crate) fn insert_data(
        &mut self,
        statement: &str,
        format: &str,
        data: SpooledTempFile,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        self.insert_spooled(statement, format, data, options)
    }

    /// Inserts encoded data: behind the statement where libchdb can take it there, else from a file without a name.
    fn insert_spooled(
        &mut self,
        statement: &str,
        format: &str,
        spool: SpooledTempFile,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        let failed = |source: std::io::Error| EngineError::Output { source };
        let file = match spool.into_inner() {
            SpooledData::OnDisk(file) => file,
            SpooledData::InMemory(data) => {
                let data = data.into_inner();
                // libchdb takes an empty line for the data's end, whatever the format: ClientBase looks for one.
                if memchr::memmem::find(&data, b"\n\n").is_none() && data.first() != Some(&b'\n') {
                    let mut sql = format!("{statement} FORMAT {format}\n").into_bytes();
                    sql.extend_from_slice(&data);
                    drop(data);
                    return self.run(&sql, format, options).map(|(_, summary)| summary);
                }
                let mut file = tempfile::tempfile().map_err(failed)?;
                file.write_all(&data).map_err(failed)?;
                file
            }
        };
        // The file has no name any more; its descriptor has one, and reading by that starts at the beginning.
        let path = quote_string(&format!("/dev/fd/{}", file.as_raw_fd()));
        let sql = match column_list(statement).filter(|_| format == NATIVE) {
            // Read by the server's part of libchdb. INFILE goes through its client's part, which is 2 to 3 times slower and has
            // ended with code 394 when a statement of another connection was cancelled (26.5).
            // Its default maps the file: in memory as a whole, as far as anybody who counts can see.
            Some(columns) => format!(
                "{statement} SELECT {columns} FROM file({path}, {NATIVE}) SETTINGS storage_file_read_method = 'pread'"
            ),
            // Other formats may leave columns out of single rows, which only an INSERT of data fills.
            None => format!("{statement} FROM INFILE {path} COMPRESSION 'none' FORMAT {format}"),
        };
        self.run(sql.as_bytes(), format, options).map(|(_, summary)| summary)
    }

    /// Remembers what the session's own statements set.
    fn note(&mut self, sql: &str, kind: Kind) {
        if kind != Kind::Set {
            return;
        }
        match set_assignments(sql) {
            Some(assignments) => {
                for (name, value) in assignments {
                    // Its value is the session's own now.
                    self.applied.remove(&name);
                    if value.eq_ignore_ascii_case("DEFAULT") {
                        self.settings.remove(&name);
                    } else {
                        self.settings.insert(name, value);
                    }
                }
            }
            None => self.unclean = true,
        }
    }

    /// Starts a stream, or gives the session back where the statement can only be answered in one piece.
    fn start_stream<'a>(
        &'a mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
    ) -> Result<Started<'a>, EngineError> {
        let begun = self.begin(true, options)?;
        let handle = match self.connection.stream(sql.as_bytes(), format, &options.parameters) {
            Ok(handle) => handle,
            Err(error) => {
                self.end(&begun);
                return Err(error);
            }
        };
        if let Some(text) = handle.error() {
            self.end(&begun);
            // Said before anything ran: ClientBase::processTextAsSingleQuery.
            if text.contains("Streaming query is not supported") {
                return Ok(Started::InOnePiece(self));
            }
            return Err(begun.error(&text));
        }
        self.connection.set_stream(Some(&handle));
        Ok(Started::Stream(Chunks { session: Some(self), handle: Some(handle), begun, done: false, read: (0, 0) }))
    }

    /// Reads a whole result as batches.
    fn query_in_one_piece(&mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'_>, EngineError> {
        let (result, _) = self.run(sql.as_bytes(), NATIVE, options)?;
        let mut reader = NativeReader::new(result.bytes());
        let mut batches = Vec::new();
        while let Some(batch) = reader.next_block()? {
            batches.push(batch);
        }
        let columns = match reader.columns() {
            Some(columns) => columns,
            None => self.columns_of(sql, options)?,
        };
        Ok(BatchStream::new(columns.schema, batches.into_iter().map(Ok)))
    }

    /// The columns of a statement that gave no rows: Native says nothing then.
    fn columns_of(&mut self, sql: &str, options: &QueryOptions) -> Result<Columns, EngineError> {
        let statement = Statement::read(sql);
        // The statement itself has run under its id.
        let options = QueryOptions { query_id: None, ..options.clone() };
        if statement.kind == Kind::Select {
            let sql = format!("DESCRIBE TABLE (\n{}\n)", &sql[..statement.end]);
            let (result, _) = self.run(sql.as_bytes(), NATIVE, &options)?;
            return Columns::from_describe(result.bytes());
        }
        // SHOW and its like cost nothing and change nothing: they can be asked twice. The rest has no columns.
        if statement.kind != Kind::Rows {
            return Columns::new([]);
        }
        let (result, _) = self.run(sql.as_bytes(), "RowBinaryWithNamesAndTypes", &options)?;
        Columns::from_binary_header(result.bytes())
    }

    /// Writes a whole result.
    fn write_in_one_piece(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        let (result, summary) = self.run(sql.as_bytes(), format, options)?;
        out.write_all(result.bytes()).and_then(|()| out.flush()).map_err(|source| EngineError::Output { source })?;
        Ok(summary)
    }
}

/// Whether a statement streams.
enum Started<'a> {
    Stream(Chunks<'a>),
    InOnePiece(&'a mut ChdbSession),
}

impl Begun {
    fn error(&self, text: &str) -> EngineError {
        match EngineError::from_server_text(text, &self.query_id) {
            // QUERY_WAS_CANCELLED because of the signal.
            EngineError::Server { code: 394, .. } if interrupted() => EngineError::Interrupted,
            error => error,
        }
    }

    fn summary(&self, result: Option<&OwnedResult>) -> QuerySummary {
        let (read_rows, read_bytes, written_rows, written_bytes, _) =
            result.map_or((0, 0, 0, 0, 0.0), OwnedResult::counters);
        QuerySummary {
            query_id: self.query_id.clone(),
            read_rows,
            read_bytes,
            written_rows: Some(written_rows),
            written_bytes: Some(written_bytes),
            elapsed: self.started.elapsed(),
        }
    }
}

/// The blocks of a streamed SELECT, each in the wanted format; ends the statement when dropped.
struct Chunks<'a> {
    /// Taken only by [`Chunks::into_session`].
    session: Option<&'a mut ChdbSession>,
    handle: Option<OwnedResult>,
    begun: Begun,
    done: bool,
    /// Rows and bytes read so far: every chunk says what was read for it.
    read: (u64, u64),
}

impl<'a> Chunks<'a> {
    /// Ends the statement and gives the session back.
    fn into_session(mut self) -> Option<&'a mut ChdbSession> {
        self.finish();
        self.session.take()
    }

    fn finish(&mut self) {
        let Some(session) = &mut self.session else { return };
        if let Some(handle) = self.handle.take() {
            let connection = &session.connection;
            let call = connection::call();
            connection.set_stream(None);
            if !self.done {
                // SAFETY: both are live, and no fetch is under way.
                unsafe { (connection.library.stream_cancel)(connection.raw(), handle.raw()) };
            }
            drop(handle);
            drop(call);
            session.end(&self.begun);
        }
    }

    /// The next block; `None` at the end.
    fn next(&mut self) -> Result<Option<OwnedResult>, EngineError> {
        let (Some(handle), Some(session)) = (self.handle.as_ref().filter(|_| !self.done), &self.session) else {
            return Ok(None);
        };
        let connection = &session.connection;
        let _call = connection::call();
        // SAFETY: the connection and the stream are live, and this session is borrowed: nobody else fetches.
        let raw = unsafe { (connection.library.stream_fetch)(connection.raw(), handle.raw()) };
        // SAFETY: a fresh result of this library.
        let chunk = unsafe { OwnedResult::new(connection.library, raw) }?;
        if let Some(text) = chunk.error() {
            self.done = true;
            // What libchdb says when one asks behind the end.
            if text.contains("No active streaming query") && !self.begun.running.cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            return Err(self.begun.error(&text));
        }
        let (rows, bytes, ..) = chunk.counters();
        self.read.0 += rows;
        self.read.1 += bytes;
        if chunk.bytes().is_empty() {
            self.done = true;
            return Ok(None);
        }
        Ok(Some(chunk))
    }

    fn summary(&self) -> QuerySummary {
        QuerySummary { read_rows: self.read.0, read_bytes: self.read.1, ..self.begun.summary(None) }
    }
}

impl Drop for Chunks<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The format that rows are read and batches are inserted in.
const NATIVE: &str = "Native";

fn native_options(options: &QueryOptions) -> QueryOptions {
    let mut options = options.clone();
    options.settings.extend(native_format::SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    options
}

impl Session for ChdbSession {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        let statement = Statement::read(sql);
        check_single(&statement, options)?;
        if statement.kind == Kind::Set {
            self.put_back()?;
        }
        let (_, summary) = self.run(sql.as_bytes(), "Null", options)?;
        self.note(sql, statement.kind);
        Ok(summary)
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        let statement = Statement::read(sql);
        check_single(&statement, options)?;
        if let Some(format) = statement.format {
            return Err(EngineError::Unsupported {
                engine: "embedded",
                feature: format!("FORMAT {format} in a statement whose rows are read"),
            });
        }
        let options = native_options(options);
        if statement.kind != Kind::Select {
            return self.query_in_one_piece(sql, &options);
        }
        let mut chunks = match self.start_stream(sql, NATIVE, &options)? {
            Started::InOnePiece(session) => return session.query_in_one_piece(sql, &options),
            Started::Stream(chunks) => chunks,
        };
        let Some(chunk) = chunks.next()? else {
            let columns = match chunks.into_session() {
                Some(session) => session.columns_of(sql, &options)?,
                None => Columns::new([])?,
            };
            return Ok(BatchStream::new(columns.schema, std::iter::empty()));
        };
        let mut batches = Batches { chunks, columns: None, ready: VecDeque::new() };
        batches.read(chunk.bytes())?;
        let schema = batches.columns.as_ref().map_or_else(|| Arc::new(Schema::empty()), |c| Arc::clone(&c.schema));
        Ok(BatchStream::new(schema, batches))
    }

    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        let statement = Statement::read(sql);
        check_single(&statement, options)?;
        let failed = |source: std::io::Error| EngineError::Output { source };
        let joiner = Joiner::for_format(statement.format.unwrap_or(format));
        let one_piece = statement.whole_result || options.settings.iter().any(|(name, _)| whole_result_setting(name));
        let Some(mut joiner) = joiner.filter(|_| statement.kind == Kind::Select && !one_piece) else {
            if statement.kind == Kind::Set {
                self.put_back()?;
            }
            let summary = self.write_in_one_piece(sql, format, options, out)?;
            self.note(sql, statement.kind);
            return Ok(summary);
        };
        let mut chunks = match self.start_stream(sql, format, options)? {
            Started::InOnePiece(session) => return session.write_in_one_piece(sql, format, options, out),
            Started::Stream(chunks) => chunks,
        };
        while let Some(chunk) = chunks.next()? {
            out.write_all(joiner.join(chunk.bytes())).map_err(failed)?;
        }
        out.write_all(joiner.end()).and_then(|()| out.flush()).map_err(failed)?;
        Ok(chunks.summary())
    }

    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        let spool = SpooledTempFile::new(SPOOL_ABOVE);
        let mut writer = NativeWriter::new(spool, &schema)?;
        let mut rows = 0;
        for batch in batches {
            rows += batch.num_rows();
            writer.write(&batch)?;
        }
        if rows == 0 {
            // ClickHouse calls an insert without rows an error (108); inserting nothing is none.
            return Ok(QuerySummary::default());
        }
        let names: Vec<String> = schema.fields().iter().map(|field| quote_identifier(field.name())).collect();
        let statement = match column_list(statement) {
            None if !statement.contains('(') => format!("{statement} ({})", names.join(", ")),
            _ => statement.to_owned(),
        };
        self.insert_spooled(&statement, NATIVE, writer.into_inner(), options)
    }
}

/// The columns of an `INSERT INTO t (a, b)`, as they are written, where they are nothing but names.
fn column_list(statement: &str) -> Option<&str> {
    let tokens: Vec<_> = Tokens::new(statement).filter(|token| token.kind != TokenKind::Space).collect();
    let text = |index: usize| tokens.get(index).map(|token| token.text(statement));
    let open = (0..tokens.len()).rev().find(|&index| text(index) == Some("("))?;
    let close = tokens.len().checked_sub(1).filter(|&last| text(last) == Some(")") && last > open + 1)?;
    let is_name = |kind: &TokenKind| matches!(kind, TokenKind::Word | TokenKind::Literal);
    let plain = (open + 1..close).all(|index| is_name(&tokens[index].kind) || text(index) == Some(","));
    // `INSERT INTO FUNCTION f('x')` ends in parentheses too.
    let is_function = tokens[..open].iter().any(|token| token.text(statement).eq_ignore_ascii_case("FUNCTION"));
    (plain && !is_function).then(|| &statement[tokens[open].range.end..tokens[close].range.start])
}

/// Batches of the chunks of a stream.
struct Batches<'a> {
    chunks: Chunks<'a>,
    columns: Option<Columns>,
    ready: VecDeque<RecordBatch>,
}

impl Batches<'_> {
    /// Reads the blocks of a chunk; usually one.
    fn read(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let mut reader = match self.columns.take() {
            Some(columns) => NativeReader::with_columns(bytes, columns),
            None => NativeReader::new(bytes),
        };
        while let Some(batch) = reader.next_block()? {
            if batch.num_rows() > 0 {
                self.ready.push_back(batch);
            }
        }
        self.columns = reader.columns();
        Ok(())
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            let read = match self.chunks.next() {
                Ok(Some(chunk)) => self.read(chunk.bytes()),
                Ok(None) => return None,
                Err(error) => {
                    self.chunks.done = true;
                    Err(error)
                }
            };
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
    }
}

/// Settings under which a result is more than its blocks one after another.
fn whole_result_setting(name: &str) -> bool {
    matches!(name, "extremes" | "output_format_json_array_of_rows" | "output_format_write_statistics")
}

/// A server takes one statement a request; libchdb alone would run several.
fn check_single(statement: &Statement<'_>, options: &QueryOptions) -> Result<(), EngineError> {
    let refuse = |message: &str| {
        Err(EngineError::Server {
            code: 62,
            name: "SYNTAX_ERROR".into(),
            message: message.into(),
            query_id: options.query_id.clone().unwrap_or_default(),
        })
    };
    if statement.several {
        return refuse("Syntax error (Multi-statements are not allowed)");
    }
    if statement.reads_input {
        // libchdb runs it, reads nothing and says nothing.
        return Err(EngineError::Unsupported { engine: "embedded", feature: "input() in an INSERT".into() });
    }
    if statement.kind == Kind::Empty {
        return refuse("Syntax error: Empty query");
    }
    Ok(())
}

/// A setting's name goes into SQL as it is.
fn check_setting_name(name: &str) -> Result<(), EngineError> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
        return Ok(());
    }
    Err(EngineError::Server {
        code: 115,
        name: "UNKNOWN_SETTING".into(),
        message: format!("Unknown setting '{name}'"),
        query_id: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_an_insert_are_found() {
        assert_eq!(column_list("INSERT INTO t (a, `b (c`)"), Some("a, `b (c`"));
        assert_eq!(column_list("INSERT INTO d.t(a)\n"), Some("a"));
        for none in
            ["INSERT INTO t", "INSERT INTO t ()", "INSERT INTO t (* EXCEPT(a))", "INSERT INTO FUNCTION null('x')"]
        {
            assert_eq!(column_list(none), None, "{none}");
        }
    }
}
