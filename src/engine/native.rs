//! A ClickHouse server over the native protocol, through `klickhouse`. In: SQL and batches; out: what the trait says.
//!
//! - A session is a TCP connection. klickhouse has no packet to cancel with, so a stream that is dropped early gives up its
//!   connection; the session opens another, with the same database and settings. Temporary tables are lost then.
//! - klickhouse makes query ids by itself and tells none. Ours is put into a comment behind the statement's first word (a
//!   server drops one at the end), by which [`Engine::cancel`] finds it in `system.processes`.
//! - A column of a type that klickhouse does not know breaks the connection; the error then names the column.
//! - The protocol carries blocks, not formats: those of [`super::result_format`] are written here.
//! - Servers before 20.3 take settings only by SET, so a statement's settings are set and put back around it, and they read
//!   no data from the statement's text.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io::Write,
    str::FromStr as _,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::StreamExt as _;
use klickhouse::{Client, ClientOptions, IndexMap, KlickhouseError, Type, block::Block};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session,
    native_blocks::{block_to_insert, native_bytes},
    native_format::{Columns, NativeReader},
    quote_identifier, quote_string, result_format,
    runtime::runtime,
    statement::{Kind, Statement, TokenKind, Tokens, set_assignments},
    tls,
};
use crate::{
    config::ServerConnection,
    interrupt::{self, OnInterrupt, interrupted},
};

/// A server reached by the native protocol.
pub(super) struct NativeEngine {
    server: Arc<Server>,
    _on_interrupt: OnInterrupt,
}

struct Server {
    connection: ServerConnection,
    tls: Option<TlsConnector>,
    capabilities: Capabilities,
    running: Mutex<HashSet<String>>,
}

impl NativeEngine {
    /// Connects to the server of a profile.
    ///
    /// # Errors
    /// It cannot be reached, or refuses the user.
    pub(super) fn open(connection: &ServerConnection) -> Result<Self, EngineError> {
        let tls = match connection.secure {
            true => Some(TlsConnector::from(Arc::new(tls::client_config(connection)?))),
            false => None,
        };
        let mut server = Server {
            connection: connection.clone(),
            tls,
            capabilities: Capabilities::server(String::new()),
            running: Mutex::default(),
        };
        let client = server.connect(None)?;
        let version = server.text(&client, "SELECT version()")?;
        let count = |sql: &str| server.text(&client, sql).map(|count| count != "0");
        let keeper =
            count("SELECT toString(count()) FROM system.tables WHERE database = 'system' AND name = 'zookeeper'")?;
        let query_log =
            count("SELECT toString(count()) FROM system.tables WHERE database = 'system' AND name = 'query_log'")?;
        server.capabilities =
            Capabilities { keeper, access_management: query_log, ..Capabilities::server(version).with_version() };
        let server = Arc::new(server);
        let weak = Arc::downgrade(&server);
        let on_interrupt = interrupt::on_interrupt(move || {
            let Some(server) = weak.upgrade() else { return };
            // On a thread of its own: the next signal must not wait for it.
            let _ = std::thread::Builder::new().name("cancel".into()).spawn(move || server.cancel_all());
        });
        Ok(Self { server, _on_interrupt: on_interrupt })
    }
}

impl Server {
    fn unreachable(&self, reason: impl Into<String>) -> EngineError {
        let address = format!("{}:{}", self.connection.host, self.connection.port);
        EngineError::Unreachable { address, reason: reason.into() }
    }

    /// Opens a connection; only one that was never made is tried again.
    fn connect(&self, database: Option<&str>) -> Result<Client, EngineError> {
        let runtime = runtime()?;
        let mut attempt = 0;
        let stream = loop {
            let address = (self.connection.host.as_str(), self.connection.port);
            let timeout = Duration::from_secs(self.connection.connect_timeout_seconds.max(1));
            let connected =
                runtime.block_on(async { tokio::time::timeout(timeout, TcpStream::connect(address)).await });
            match connected {
                Ok(Ok(stream)) => break stream,
                _ if attempt < self.connection.retries && !interrupted() => {
                    attempt += 1;
                    std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
                }
                Ok(Err(error)) => return Err(self.unreachable(error.to_string())),
                Err(_) => return Err(self.unreachable("it does not answer in time (connect_timeout)")),
            }
        };
        stream.set_nodelay(true).map_err(|error| self.unreachable(error.to_string()))?;
        let options = ClientOptions {
            username: self.connection.user.clone(),
            password: self.connection.password.expose().to_owned(),
            default_database: database.unwrap_or_default().to_owned(),
            tcp_nodelay: true,
            settings: self.connection.custom_settings.iter().cloned().collect(),
        };
        let client = runtime.block_on(async {
            match &self.tls {
                None => {
                    let (read, write) = stream.into_split();
                    Client::connect_stream(read, write, options).await.map_err(|error| self.error(error, ""))
                }
                Some(connector) => {
                    let name = ServerName::try_from(self.connection.host.clone())
                        .map_err(|_| self.unreachable("its host name is none that a certificate can have"))?;
                    let stream = connector
                        .connect(name, stream)
                        .await
                        .map_err(|error| self.unreachable(tls::explained(&error.to_string())))?;
                    let (read, write) = tokio::io::split(stream);
                    Client::connect_stream(read, write, options).await.map_err(|error| self.error(error, ""))
                }
            }
        });
        client.map_err(|error| match error {
            // klickhouse logs why and closes the channel.
            EngineError::Protocol { .. } => self.unreachable(
                "the server closed the connection at once: the user or password is wrong, or the port speaks another protocol",
            ),
            error => error,
        })
    }

    fn error(&self, error: KlickhouseError, query_id: &str) -> EngineError {
        match error {
            KlickhouseError::ServerException { code: 394, .. } if interrupted() => EngineError::Interrupted,
            KlickhouseError::ServerException { code, name, message, .. } => {
                let text = message.strip_prefix("DB::Exception: ").unwrap_or(&message);
                // The message ends in the error's name on newer servers; older ones name only the C++ class.
                match EngineError::from_server_text(&format!("Code: {code}. DB::Exception: {text}"), query_id) {
                    EngineError::Server { code, name: found, message, query_id } => {
                        let name = if found == "UNKNOWN" { error_name(code, &name) } else { found };
                        EngineError::Server { code, name, message, query_id }
                    }
                    error => error,
                }
            }
            KlickhouseError::Io(error) => self.unreachable(error.to_string()),
            other => EngineError::Protocol { reason: other.to_string() },
        }
    }

    /// The first value of a text column, over a connection of its own.
    fn text(&self, client: &Client, sql: &str) -> Result<String, EngineError> {
        let runtime = runtime()?;
        let mut blocks = runtime.block_on(client.query_raw(sql, None)).map_err(|error| self.error(error, ""))?;
        let mut found = String::new();
        while let Some(block) = runtime.block_on(blocks.next()) {
            let block = block.map_err(|error| self.error(error, ""))?;
            if let Some(klickhouse::Value::String(text)) =
                block.column_data.values().next().and_then(|column| column.first())
            {
                found = String::from_utf8_lossy(text).into_owned();
            }
        }
        if client.is_closed() {
            return Err(self.unreachable("the connection was closed"));
        }
        Ok(found)
    }

    /// Cancels what runs at this moment; some may be on their way to the server only, so it is tried again.
    fn cancel_all(&self) {
        let ids: Vec<String> = self.running.lock().iter().cloned().collect();
        interrupt::until_gone(ids, |id| self.running.lock().contains(id), |id| self.kill(id).is_ok());
    }

    fn kill(&self, query_id: &str) -> Result<(), EngineError> {
        let client = self.connect(None)?;
        let pattern = format!("%{}%", comment(query_id).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        let sql = format!("KILL QUERY WHERE query LIKE {} AND query NOT LIKE 'KILL%' ASYNC", quote_string(&pattern));
        let runtime = runtime()?;
        let mut blocks = runtime.block_on(client.query_raw(sql, None)).map_err(|error| self.error(error, query_id))?;
        while let Some(block) = runtime.block_on(blocks.next()) {
            block.map_err(|error| self.error(error, query_id))?;
        }
        Ok(())
    }

    /// Whether the server takes settings with a statement, and data in its text.
    fn is_modern(&self) -> bool {
        self.capabilities.version >= (20, 3)
    }
}

/// A setting's value in a SET: old servers take no quoted number.
fn literal(value: &str) -> String {
    if value.parse::<f64>().is_ok() { value.to_owned() } else { quote_string(value) }
}

/// The mark of a statement.
fn comment(query_id: &str) -> String {
    format!("/* chpipe query_id {} */", query_id.replace("*/", ""))
}

/// The names of the errors that chpipe looks at, for servers that do not tell names.
fn error_name(code: i32, class: &str) -> String {
    let name = match code {
        47 => "UNKNOWN_IDENTIFIER",
        57 => "TABLE_ALREADY_EXISTS",
        60 => "UNKNOWN_TABLE",
        62 => "SYNTAX_ERROR",
        81 => "UNKNOWN_DATABASE",
        115 => "UNKNOWN_SETTING",
        394 => "QUERY_WAS_CANCELLED",
        395 => "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
        _ => class,
    };
    name.to_owned()
}

impl Engine for NativeEngine {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        let client = self.server.connect(None)?;
        Ok(Box::new(NativeSession {
            server: Arc::clone(&self.server),
            client: Some(client),
            database: None,
            settings: BTreeMap::new(),
            temporary: false,
        }))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        self.server.kill(query_id)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.server.capabilities
    }
}

/// One connection, and what has to be said again on another.
struct NativeSession {
    server: Arc<Server>,
    /// `None` after a stream was given up.
    client: Option<Client>,
    database: Option<String>,
    settings: BTreeMap<String, String>,
    /// A temporary table was made: a lost connection cannot be replaced silently.
    temporary: bool,
}

/// What a begun statement owes.
struct Begun {
    query_id: String,
    restore: Option<String>,
    started: Instant,
}

impl NativeSession {
    /// The connection, opened again where a stream gave it up.
    fn client(&mut self) -> Result<Client, EngineError> {
        if let Some(client) = self.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        if self.temporary {
            return Err(self.server.unreachable("the session's connection is gone, and its temporary tables with it"));
        }
        let client = self.server.connect(self.database.as_deref())?;
        self.client = Some(client.clone());
        for (name, value) in &self.settings {
            self.drain(&client, &format!("SET {name} = {value}"), None, "")?;
        }
        Ok(client)
    }

    /// Runs a statement to its end and drops its rows.
    fn drain(
        &self,
        client: &Client,
        sql: &str,
        settings: Option<IndexMap<String, String>>,
        query_id: &str,
    ) -> Result<(), EngineError> {
        let runtime = runtime()?;
        let failed = |error| self.server.error(error, query_id);
        let mut blocks = runtime.block_on(client.query_raw(sql, settings)).map_err(failed)?;
        while let Some(block) = runtime.block_on(blocks.next()) {
            block.map_err(failed)?;
        }
        if client.is_closed() { Err(self.server.unreachable("the connection broke")) } else { Ok(()) }
    }

    /// After an exception an old server takes the data block that klickhouse sends with every statement for the next one,
    /// and answers with an error of its own: the connection is of no use any more.
    fn failed(&mut self) {
        if !self.server.is_modern() {
            self.client = None;
        }
    }

    /// The value of a setting, as a literal, to put back later.
    fn setting(&self, client: &Client, name: &str) -> Result<Option<String>, EngineError> {
        let sql = format!("SELECT value FROM system.settings WHERE name = {}", quote_string(name));
        let value = self.server.text(client, &sql)?;
        Ok((!value.is_empty()).then(|| literal(&value)))
    }

    fn begin(
        &mut self,
        client: &Client,
        options: &QueryOptions,
    ) -> Result<(Begun, Option<IndexMap<String, String>>), EngineError> {
        let query_id = options.query_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut begun = Begun { query_id, restore: None, started: Instant::now() };
        for (name, value) in &options.parameters {
            if !self.server.is_modern() {
                return Err(EngineError::Unsupported {
                    engine: "native",
                    feature: "parameters on a server before 20.3".into(),
                });
            }
            self.drain(client, &format!("SET param_{name} = {}", quote_string(value)), None, &begun.query_id)?;
        }
        if options.settings.is_empty() {
            return Ok((begun, None));
        }
        if self.server.is_modern() {
            return Ok((begun, Some(options.settings.iter().cloned().collect())));
        }
        let mut restore = Vec::new();
        for (name, _) in &options.settings {
            if let Some(value) = self.setting(client, name)? {
                restore.push(format!("{name} = {value}"));
            }
        }
        let set: Vec<String> =
            options.settings.iter().map(|(name, value)| format!("{name} = {}", literal(value))).collect();
        let set = self.drain(client, &format!("SET {}", set.join(", ")), None, &begun.query_id);
        set.inspect_err(|_| self.failed())?;
        begun.restore = (!restore.is_empty()).then(|| format!("SET {}", restore.join(", ")));
        Ok((begun, None))
    }

    fn end(&mut self, begun: &Begun) {
        self.server.running.lock().remove(&begun.query_id);
        if let (Some(restore), Some(client)) = (&begun.restore, self.client.clone())
            && self.drain(&client, restore, None, &begun.query_id).is_err()
        {
            // A connection with other settings than the session's is no use.
            self.client = None;
        }
    }

    /// The statement with its mark; an INSERT's data reach to its end, so it gets none.
    fn marked(&self, sql: &str, query_id: &str) -> Result<String, EngineError> {
        let statement = Statement::read(sql);
        match statement.kind {
            Kind::Empty => Err(EngineError::Server {
                code: 62,
                name: "SYNTAX_ERROR".into(),
                message: "Syntax error: Empty query".into(),
                query_id: query_id.to_owned(),
            }),
            Kind::Insert if statement.data.is_some() => {
                if self.server.is_modern() {
                    return Ok(sql.to_owned());
                }
                Err(EngineError::Unsupported {
                    engine: "native",
                    feature: "INSERT with its data in the statement on a server before 20.3".into(),
                })
            }
            _ => {
                let first = Tokens::new(sql).find(|token| token.kind == TokenKind::Word);
                let at = first.map_or(0, |token| token.range.end);
                Ok(format!("{}{}{}", &sql[..at], comment(query_id), &sql[at..]))
            }
        }
    }

    fn note(&mut self, sql: &str, kind: Kind) {
        match kind {
            Kind::Use => {
                let words = Tokens::new(sql).filter(|token| token.kind != TokenKind::Space);
                let name = words.map(|token| token.text(sql)).filter(|text| *text != ";").last();
                self.database = name.map(super::statement::unquote_literal);
            }
            Kind::Set => {
                for (name, value) in set_assignments(sql).unwrap_or_default() {
                    if value.eq_ignore_ascii_case("DEFAULT") {
                        self.settings.remove(&name);
                    } else {
                        self.settings.insert(name, value);
                    }
                }
            }
            Kind::Other => {
                let mut words = Tokens::new(sql).filter(|token| token.kind != TokenKind::Space).take(4);
                self.temporary |= words.any(|token| token.text(sql).eq_ignore_ascii_case("TEMPORARY"));
            }
            _ => {}
        }
    }

    /// Why a connection broke: klickhouse ends it at a type it does not know, and tells its log only.
    fn broken(&self, sql: &str) -> EngineError {
        let statement = Statement::read(sql);
        let lost = self.server.unreachable("the connection broke; it is not known whether the statement ran");
        if statement.kind != Kind::Select {
            return lost;
        }
        let describe = format!("DESCRIBE TABLE (\n{}\n)", &sql[..statement.end]);
        let columns =
            self.server.connect(self.database.as_deref()).and_then(|client| self.describe(&client, &describe));
        for (column, type_name) in columns.unwrap_or_default() {
            if Type::from_str(&type_name).is_err() {
                return EngineError::NoArrowType { column, part: type_name.clone(), type_name };
            }
        }
        lost
    }

    /// Names and types of columns.
    fn describe(&self, client: &Client, sql: &str) -> Result<Vec<(String, String)>, EngineError> {
        let runtime = runtime()?;
        let failed = |error| self.server.error(error, "");
        let mut blocks = runtime.block_on(client.query_raw(sql, None)).map_err(failed)?;
        let mut columns = Vec::new();
        while let Some(block) = runtime.block_on(blocks.next()) {
            let mut block = block.map_err(failed)?;
            let mut texts = |name: &str| -> Vec<String> {
                let values = block.column_data.swap_remove(name).unwrap_or_default();
                let text = |value| match value {
                    klickhouse::Value::String(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    _ => String::new(),
                };
                values.into_iter().map(text).collect()
            };
            columns.extend(texts("name").into_iter().zip(texts("type")));
        }
        Ok(columns)
    }
}

impl Session for NativeSession {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        let kind = Statement::read(sql).kind;
        let mut stream = self.query(sql, options)?;
        for batch in &mut stream {
            batch?;
        }
        drop(stream);
        self.note(sql, kind);
        Ok(QuerySummary { query_id: options.query_id.clone().unwrap_or_default(), ..QuerySummary::default() })
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        if let Some(format) = Statement::read(sql).format {
            return Err(EngineError::Unsupported {
                engine: "native",
                feature: format!("FORMAT {format} in a statement whose rows are read"),
            });
        }
        let client = self.client()?;
        let (begun, settings) = self.begin(&client, options)?;
        let marked = match self.marked(sql, &begun.query_id) {
            Ok(marked) => marked,
            Err(error) => {
                self.end(&begun);
                return Err(error);
            }
        };
        self.server.running.lock().insert(begun.query_id.clone());
        options.check_interrupted().inspect_err(|_| self.end(&begun))?;
        let started = runtime()?.block_on(client.query_raw(marked, settings));
        let blocks = match started {
            Ok(blocks) => blocks,
            Err(error) => {
                let error = self.server.error(error, &begun.query_id);
                self.end(&begun);
                return Err(error);
            }
        };
        let mut batches = Batches {
            session: self,
            sql: sql.to_owned(),
            client,
            blocks: Some(blocks),
            begun,
            columns: None,
            ready: VecDeque::new(),
        };
        batches.fill()?;
        let schema = batches.columns.as_ref().map(|columns| Arc::clone(&columns.schema));
        let schema = schema.unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()));
        Ok(BatchStream::new(schema, batches))
    }

    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        let started = Instant::now();
        let statement = Statement::read(sql);
        let kind = statement.kind;
        let format = statement.format.unwrap_or(format).to_owned();
        // The format is chpipe's own work here, so its clause does not go to the server.
        let bare = statement.without_format(sql);
        let stream = self.query(&bare, options)?;
        let schema = stream.schema();
        result_format::write(&format, &schema, stream, out)?;
        self.note(sql, kind);
        Ok(QuerySummary {
            query_id: options.query_id.clone().unwrap_or_default(),
            elapsed: started.elapsed(),
            ..QuerySummary::default()
        })
    }

    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        let client = self.client()?;
        let runtime = runtime()?;
        let table = inserted_table(statement).ok_or_else(|| EngineError::Unsupported {
            engine: "native",
            feature: format!("an INSERT into something that is no table: {statement}"),
        })?;
        let types = self
            .describe(&client, &format!("DESCRIBE TABLE {table}"))?
            .into_iter()
            // A column of a type that cannot be sent is an error only if it is inserted.
            .filter_map(|(name, type_name)| Type::from_str(&type_name).ok().map(|found| (name, found)))
            .collect::<HashMap<_, _>>();
        let mut blocks = batches
            .filter(|batch| batch.num_rows() > 0)
            .map(|batch| block_to_insert(&batch, &schema, &types))
            .peekable();
        // An INSERT without rows changes nothing, and a wrong first batch begins none.
        match blocks.peek() {
            None => return Ok(QuerySummary::default()),
            Some(Err(_)) => {
                if let Some(Err(error)) = blocks.next() {
                    return Err(error);
                }
            }
            Some(Ok(_)) => {}
        }
        let (begun, settings) = self.begin(&client, options)?;
        let (sender, receiver) = tokio::sync::mpsc::channel::<Block>(2);
        let sql = match schema.fields().is_empty() || statement.contains('(') {
            true => format!("{statement} FORMAT Native"),
            // Without a list the server expects every column of the table.
            false => {
                let names: Vec<String> = schema.fields().iter().map(|field| quote_identifier(field.name())).collect();
                format!("{statement} ({}) FORMAT Native", names.join(", "))
            }
        };
        let sending = runtime.spawn({
            let client = client.clone();
            async move {
                let mut answer = client.insert_native_raw(sql, ReceiverStream::new(receiver), settings).await?;
                while let Some(block) = answer.next().await {
                    block?;
                }
                Ok::<(), KlickhouseError>(())
            }
        });
        let mut written = 0;
        let mut failed = None;
        for block in blocks {
            match block {
                Ok(block) => {
                    written += block.rows;
                    if runtime.block_on(sender.send(block)).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            // The rows sent so far must not be taken for all: the connection is given up with the INSERT open.
            sending.abort();
            self.client = None;
            self.end(&begun);
            return Err(error);
        }
        drop(sender);
        let sent = runtime.block_on(sending);
        let closed = client.is_closed();
        self.end(&begun);
        match sent {
            Ok(Ok(())) if closed => {
                Err(self.server.unreachable("the connection broke; it is not known whether the rows are there"))
            }
            Ok(Ok(())) => Ok(QuerySummary {
                query_id: begun.query_id.clone(),
                written_rows: Some(written),
                elapsed: begun.started.elapsed(),
                ..QuerySummary::default()
            }),
            Ok(Err(error)) => {
                self.failed();
                Err(self.server.error(error, &begun.query_id))
            }
            Err(error) => Err(EngineError::Protocol { reason: error.to_string() }),
        }
    }
}

/// The blocks of a statement under way.
struct Batches<'a> {
    session: &'a mut NativeSession,
    sql: String,
    client: Client,
    blocks: Option<ReceiverStream<Result<Block, KlickhouseError>>>,
    begun: Begun,
    columns: Option<Columns>,
    ready: VecDeque<RecordBatch>,
}

impl Batches<'_> {
    /// Reads until there are rows, or the columns of a result without rows, or the end.
    fn fill(&mut self) -> Result<(), EngineError> {
        let runtime = runtime()?;
        while let Some(blocks) = self.blocks.as_mut().filter(|_| self.ready.is_empty()) {
            match runtime.block_on(blocks.next()) {
                Some(Ok(block)) => {
                    // The first block has no rows and says the columns; progress comes as blocks without columns.
                    if block.column_types.is_empty() {
                        continue;
                    }
                    let bytes = native_bytes(&block)?;
                    let mut reader = NativeReader::new(&bytes[..]);
                    while let Some(batch) = reader.next_block()? {
                        if batch.num_rows() > 0 {
                            self.ready.push_back(batch);
                        }
                    }
                    if self.columns.is_none() {
                        self.columns = reader.columns();
                    }
                }
                Some(Err(error)) => {
                    self.blocks = None;
                    self.session.failed();
                    return Err(self.session.server.error(error, &self.begun.query_id));
                }
                None => {
                    self.blocks = None;
                    if self.client.is_closed() {
                        return Err(self.session.broken(&self.sql));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            self.blocks = None;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Drop for Batches<'_> {
    fn drop(&mut self) {
        if self.blocks.take().is_some() {
            // The rest would have to be read before the connection is of use again: it is given up, which ends the
            // statement on the server at its next block; the kill ends it now.
            self.session.client = None;
            self.session.server.running.lock().remove(&self.begun.query_id);
            let _ = self.session.server.kill(&self.begun.query_id);
            return;
        }
        self.session.end(&self.begun);
    }
}

/// The table of `INSERT INTO [TABLE] name …`, as it is written.
fn inserted_table(statement: &str) -> Option<String> {
    let tokens: Vec<_> = Tokens::new(statement).filter(|token| token.kind != TokenKind::Space).collect();
    let into = tokens.iter().position(|token| token.text(statement).eq_ignore_ascii_case("INTO"))?;
    let mut rest = tokens[into + 1..].iter().peekable();
    match rest.peek()?.text(statement).to_ascii_uppercase().as_str() {
        "FUNCTION" => return None,
        "TABLE" => _ = rest.next(),
        _ => {}
    }
    let mut name = String::new();
    for token in rest {
        let text = token.text(statement);
        if matches!(text, "(" | ";") || (!name.is_empty() && !name.ends_with('.') && text != ".") {
            break;
        }
        name.push_str(text);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_an_insert_is_found() {
        assert_eq!(inserted_table("INSERT INTO t (a, b)").as_deref(), Some("t"));
        assert_eq!(inserted_table("insert into table `d b`.`t` (a)").as_deref(), Some("`d b`.`t`"));
        assert_eq!(inserted_table("INSERT INTO t").as_deref(), Some("t"));
        assert_eq!(inserted_table("INSERT INTO FUNCTION s3('x')"), None);
    }
}
