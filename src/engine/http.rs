//! A ClickHouse server over HTTP, through the `clickhouse` crate. In: SQL and batches; out: what the trait says.
//!
//! - A session is kept on this side: its database and settings go with every request. So it works behind a load balancer,
//!   and a request that was given up leaves nothing locked. Only what the server alone can keep (a temporary table, a
//!   role) makes it name a `session_id`.
//! - Nothing is sent twice: only a connection that was never made is tried again (`retries`).
//! - There is no limit on how long a statement may think before its first byte: a rebuild takes hours. Keepalive probes
//!   find a dead server. Between the bytes of an answer `send_receive_timeout` holds.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, BufReader, Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::{Buf as _, Bytes};
use clickhouse::{Client, Compression, query::BytesCursor};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{
    BatchStream, Capabilities, Engine, EngineError, QueryOptions, QuerySummary, Session,
    native_format::{self, Columns, NativeReader},
    native_writer::NativeWriter,
    quote_string,
    runtime::runtime,
    statement::{Kind, Statement, Tokens, set_assignments, unquote_literal},
    tls,
};
use crate::{
    config::{Secret, ServerConnection},
    interrupt::{self, OnInterrupt, interrupted},
};

const NATIVE: &str = "Native";
/// ClickHouse closes idle connections after 3 s by default; a pooled one must be given up before.
const POOL_IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(60);
/// ClickHouse's most: a session with a temporary table may wait for a long statement of another one.
const SESSION_TIMEOUT_SECONDS: &str = "3600";
/// How long a session that a given-up request still has is waited for.
const SESSION_LOCKED_WAIT: Duration = Duration::from_secs(10);

/// A server reached over HTTP.
pub(super) struct HttpEngine {
    server: Arc<Server>,
    _on_interrupt: OnInterrupt,
}

struct Server {
    client: Client,
    address: String,
    retries: u32,
    receive_timeout: Duration,
    capabilities: Capabilities,
    running: Mutex<HashSet<String>>,
}

impl HttpEngine {
    /// Connects to the server of a profile.
    ///
    /// # Errors
    /// It cannot be reached, or refuses the user.
    pub(super) fn open(server: &ServerConnection) -> Result<Self, EngineError> {
        Self::connect_to(server, false)
    }

    /// `has_keeper`: the server is known to have one, whatever its system tables say.
    fn connect_to(server: &ServerConnection, has_keeper: bool) -> Result<Self, EngineError> {
        let scheme = if server.secure { "https" } else { "http" };
        let path = server.http_path.trim_matches('/');
        let separator = if path.is_empty() { "" } else { "/" };
        let url = format!("{scheme}://{}:{}/{path}{separator}", server.host, server.port);
        let mut client = client(server)?
            .with_url(url)
            .with_user(server.user.clone())
            .with_password(server.password.expose())
            .with_compression(compression(server.compression.as_deref())?)
            .with_product_info("chpipe", env!("CARGO_PKG_VERSION"));
        for (name, value) in &server.custom_settings {
            client = client.with_setting(name, value);
        }
        Self::over(client, format!("{}:{}", server.host, server.port), server, has_keeper)
    }

    /// Connects to a `chpipe serve` of this machine.
    pub(super) fn open_served(url: &str, user: &str, password: Secret, has_keeper: bool) -> Result<Self, EngineError> {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "8123"));
        let server = ServerConnection {
            host: host.to_owned(),
            port: port.parse().unwrap_or(8123),
            user: user.to_owned(),
            password,
            ..ServerConnection::default()
        };
        Self::connect_to(&server, has_keeper)
    }

    fn over(
        client: Client,
        address: String,
        connection: &ServerConnection,
        has_keeper: bool,
    ) -> Result<Self, EngineError> {
        let mut server = Server {
            client,
            address,
            retries: connection.retries,
            receive_timeout: Duration::from_secs(connection.send_receive_timeout_seconds.max(1)),
            capabilities: Capabilities::server(String::new()),
            running: Mutex::default(),
        };
        let version = server.text("SELECT version()")?;
        let keeper =
            server.text("SELECT count() FROM system.tables WHERE database = 'system' AND name = 'zookeeper'")?;
        let from_config = server.text("SELECT count() FROM system.named_collections WHERE source = 'CONFIG'");
        let users =
            server.text("SELECT count() FROM system.tables WHERE database = 'system' AND name = 'query_log'")?;
        server.capabilities = Capabilities {
            // libchdb has no table system.zookeeper, with a Keeper or without.
            keeper: has_keeper || keeper != "0",
            named_collections_from_config: from_config.is_ok_and(|count| count != "0"),
            access_management: users != "0",
            ..Capabilities::server(version).with_version()
        };
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

fn client(server: &ServerConnection) -> Result<Client, EngineError> {
    let mut connector = HttpConnector::new();
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(server.connect_timeout_seconds.max(1))));
    let mut builder = HyperClient::builder(TokioExecutor::new());
    builder.pool_idle_timeout(POOL_IDLE).pool_timer(hyper_util::rt::TokioTimer::new());
    // The pool's timers live on our runtime.
    let _entered = runtime()?.enter();
    if !server.secure {
        return Ok(Client::with_http_client(builder.build(connector)));
    }
    connector.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls::client_config(server)?)
        .https_only()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::with_http_client(builder.build(connector)))
}

/// `compression` of the profile: the crate knows LZ4; the server decides by what it is offered.
fn compression(name: Option<&str>) -> Result<Compression, EngineError> {
    match name.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "none" | "false") => Ok(Compression::None),
        Some("lz4" | "true") => Ok(Compression::Lz4),
        Some(other) => {
            Err(EngineError::Unsupported { engine: "http", feature: format!("compression: {other} (lz4 or none)") })
        }
    }
}

impl Server {
    /// One value.
    fn text(&self, sql: &str) -> Result<String, EngineError> {
        let request = Request { client: &self.client, sql, format: "TSVRaw", query_id: "", deadline: None };
        let mut answer = self.start(&request)?;
        let mut text = String::new();
        io::Read::read_to_string(&mut answer, &mut text).map_err(native_format::read_error)?;
        Ok(text.trim_end().to_owned())
    }

    /// Cancels what runs at this moment; some may be on their way to the server only, so it is tried again.
    fn cancel_all(&self) {
        let ids: Vec<String> = self.running.lock().iter().cloned().collect();
        interrupt::until_gone(ids, |id| self.running.lock().contains(id), |id| self.kill(id).is_ok());
    }

    fn kill(&self, query_id: &str) -> Result<(), EngineError> {
        self.text(&format!("KILL QUERY WHERE query_id = {} ASYNC", quote_string(query_id))).map(|_| ())
    }

    /// Sends a statement and waits for the first bytes of its answer.
    fn start<'a>(&'a self, request: &Request<'_>) -> Result<Answer<'a>, EngineError> {
        let runtime = runtime()?;
        let mut attempt = 0;
        loop {
            let started = request
                .client
                .query_raw(request.sql)
                .fetch_bytes(request.format)
                .map_err(|error| self.error(error, request.query_id));
            let mut cursor = started?;
            match runtime.block_on(cursor.next()) {
                Ok(first) => {
                    let bytes = first.unwrap_or_default();
                    let query_id = request.query_id.to_owned();
                    return Ok(Answer { server: self, runtime, cursor, bytes, query_id, ended: false });
                }
                Err(error) if attempt < self.retries && never_connected(&error) && !interrupted() => {
                    attempt += 1;
                    std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
                }
                Err(error) => {
                    let error = self.error(error, request.query_id);
                    // SESSION_IS_LOCKED: the server has not noticed yet that a request was given up.
                    if error.code() == Some(373) && request.deadline.is_some_and(|deadline| Instant::now() < deadline) {
                        std::thread::sleep(Duration::from_millis(50));
                        continue;
                    }
                    return Err(error);
                }
            }
        }
    }

    fn error(&self, error: clickhouse::error::Error, query_id: &str) -> EngineError {
        use clickhouse::error::Error;
        let unreachable = |reason: String| EngineError::Unreachable { address: self.address.clone(), reason };
        match error {
            Error::BadResponse(text) if text.contains("Code: ") => {
                let start = text.find("Code: ").unwrap_or_default();
                match EngineError::from_server_text(&text[start..], query_id) {
                    EngineError::Server { code: 394, .. } if interrupted() => EngineError::Interrupted,
                    error => error,
                }
            }
            Error::BadResponse(text) => {
                unreachable(format!("it is no ClickHouse, or a proxy in front of it answers: {text}"))
            }
            Error::TimedOut => unreachable("it does not answer in time".into()),
            Error::Network(source) => unreachable(network(&chain(&*source))),
            other => EngineError::Protocol { reason: chain(&other) },
        }
    }
}

/// Whether the request cannot have reached the server.
fn never_connected(error: &clickhouse::error::Error) -> bool {
    let clickhouse::error::Error::Network(source) = error else { return false };
    source
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect)
}

/// What a failed connection means, without the names of the layers that passed it on.
fn network(text: &str) -> String {
    let text = text.strip_prefix("client error (Connect): ").unwrap_or(text);
    let text = text.strip_prefix("tcp connect error: ").or_else(|| text.strip_prefix("dns error: ")).unwrap_or(text);
    match text.contains("received corrupt message")
        || text.contains("peer certificate")
        || text.contains("received fatal alert")
    {
        true => tls::explained(text),
        false => text.to_owned(),
    }
}

/// An error with what it says of its causes, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

impl Engine for HttpEngine {
    fn connect(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(HttpSession {
            server: Arc::clone(&self.server),
            database: None,
            settings: BTreeMap::new(),
            session_id: None,
        }))
    }

    fn cancel(&self, query_id: &str) -> Result<(), EngineError> {
        self.server.kill(query_id)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.server.capabilities
    }
}

/// What is sent.
struct Request<'a> {
    client: &'a Client,
    sql: &'a str,
    format: &'a str,
    query_id: &'a str,
    /// Until when a locked session is waited for.
    deadline: Option<Instant>,
}

/// The bytes of an answer, as a blocking reader.
struct Answer<'a> {
    server: &'a Server,
    runtime: &'static Runtime,
    cursor: BytesCursor,
    bytes: Bytes,
    query_id: String,
    ended: bool,
}

impl Answer<'_> {
    fn summary(&self, started: Instant) -> QuerySummary {
        let summary = self.cursor.summary();
        QuerySummary {
            query_id: self.query_id.clone(),
            read_rows: summary.and_then(|summary| summary.read_rows()).unwrap_or_default(),
            read_bytes: summary.and_then(|summary| summary.read_bytes()).unwrap_or_default(),
            written_rows: summary.and_then(|summary| summary.written_rows()),
            written_bytes: summary.and_then(|summary| summary.written_bytes()),
            elapsed: started.elapsed(),
        }
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Answer<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.bytes.is_empty() && !self.ended {
            let timeout = self.server.receive_timeout;
            let next = self.runtime.block_on(async { tokio::time::timeout(timeout, self.cursor.next()).await });
            match next {
                Ok(Ok(Some(bytes))) => self.bytes = bytes,
                Ok(Ok(None)) => self.ended = true,
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(io::Error::other(self.server.error(error, &self.query_id)));
                }
                Err(_) => {
                    self.ended = true;
                    let reason = format!("no byte of the answer for {} s (send_receive_timeout)", timeout.as_secs());
                    return Err(io::Error::other(EngineError::Unreachable {
                        address: self.server.address.clone(),
                        reason,
                    }));
                }
            }
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// A statement's entry among the running ones, which an interrupt cancels.
struct Running<'a> {
    server: &'a Server,
    query_id: String,
}

impl<'a> Running<'a> {
    fn new(server: &'a Server, query_id: &str) -> Self {
        server.running.lock().insert(query_id.to_owned());
        Self { server, query_id: query_id.to_owned() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.server.running.lock().remove(&self.query_id);
    }
}

/// A session's state, sent along with every request.
struct HttpSession {
    server: Arc<Server>,
    database: Option<String>,
    settings: BTreeMap<String, String>,
    session_id: Option<String>,
}

impl HttpSession {
    /// A client with all that goes along with one statement, and the statement's id.
    fn client(&self, options: &QueryOptions) -> (Client, String) {
        let query_id = options.query_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut client = self.server.client.clone().with_setting("query_id", &query_id);
        if let Some(database) = &self.database {
            client = client.with_database(database);
        }
        if let Some(session_id) = &self.session_id {
            client =
                client.with_setting("session_id", session_id).with_setting("session_timeout", SESSION_TIMEOUT_SECONDS);
        }
        for (name, value) in self.settings.iter() {
            client = client.with_setting(name, value);
        }
        for (name, value) in &options.settings {
            client = client.with_setting(name, value);
        }
        for (name, value) in &options.parameters {
            client = client.with_setting(format!("param_{name}"), value);
        }
        (client, query_id)
    }

    fn deadline(&self) -> Option<Instant> {
        self.session_id.as_ref().map(|_| Instant::now() + SESSION_LOCKED_WAIT)
    }

    /// Runs a statement to its end and hands its bytes to `read`.
    fn run<T>(
        &self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        read: impl FnOnce(&mut Answer<'_>) -> Result<T, EngineError>,
    ) -> Result<(T, QuerySummary), EngineError> {
        let started = Instant::now();
        let (client, query_id) = self.client(options);
        let _running = Running::new(&self.server, &query_id);
        options.check_interrupted()?;
        let request = Request { client: &client, sql, format, query_id: &query_id, deadline: self.deadline() };
        let mut answer = self.server.start(&request)?;
        let value = read(&mut answer)?;
        Ok((value, answer.summary(started)))
    }

    /// A statement that changes the session: its effect is kept here, once the server has taken it.
    fn note(&mut self, sql: &str, kind: Kind) {
        match kind {
            Kind::Use => self.database = used_database(sql),
            Kind::Set => {
                for (name, value) in set_assignments(sql).unwrap_or_default() {
                    if value.eq_ignore_ascii_case("DEFAULT") {
                        self.settings.remove(&name);
                    } else {
                        self.settings.insert(name, unquote_literal(&value));
                    }
                }
            }
            _ => {}
        }
    }

    /// Names a session on the server before a statement whose effect only that can keep.
    fn prepare(&mut self, sql: &str, kind: Kind) {
        let kept_by_server = match kind {
            Kind::Set => set_assignments(sql).is_none(),
            Kind::Other => creates_temporary(sql),
            _ => false,
        };
        if kept_by_server && self.session_id.is_none() {
            self.session_id = Some(Uuid::new_v4().to_string());
        }
    }

    /// The columns of a statement that gave no block.
    fn columns_of(&self, sql: &str, options: &QueryOptions) -> Result<Columns, EngineError> {
        let statement = Statement::read(sql);
        let options = QueryOptions { query_id: None, ..options.clone() };
        let bytes = |sql: &str, format: &str| {
            self.run(sql, format, &options, |answer| {
                let mut bytes = Vec::new();
                answer.read_to_end(&mut bytes).map_err(native_format::read_error)?;
                Ok(bytes)
            })
        };
        match statement.kind {
            Kind::Select => {
                let (bytes, _) = bytes(&format!("DESCRIBE TABLE (\n{}\n)", &sql[..statement.end]), NATIVE)?;
                Columns::from_describe(&bytes)
            }
            Kind::Rows => Columns::from_binary_header(&bytes(sql, "RowBinaryWithNamesAndTypes")?.0),
            _ => Columns::new([]),
        }
    }
}

impl Session for HttpSession {
    fn execute(&mut self, sql: &str, options: &QueryOptions) -> Result<QuerySummary, EngineError> {
        let kind = Statement::read(sql).kind;
        self.prepare(sql, kind);
        let (_, summary) = self
            .run(sql, "Null", options, |answer| io::copy(answer, &mut io::sink()).map_err(native_format::read_error))?;
        self.note(sql, kind);
        Ok(summary)
    }

    fn query<'a>(&'a mut self, sql: &str, options: &QueryOptions) -> Result<BatchStream<'a>, EngineError> {
        let statement = Statement::read(sql);
        if let Some(format) = statement.format {
            return Err(EngineError::Unsupported {
                engine: "http",
                feature: format!("FORMAT {format} in a statement whose rows are read"),
            });
        }
        self.prepare(sql, statement.kind);
        let mut with_settings = options.clone();
        let settings = native_format::SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        with_settings.settings.extend(settings.filter(|_| self.server.capabilities.version >= (24, 10)));
        // A stream that is dropped early ends its statement.
        if self.server.capabilities.version >= (20, 0) {
            with_settings.settings.push(("cancel_http_readonly_queries_on_client_close".into(), "1".into()));
        }
        let (client, query_id) = self.client(&with_settings);
        let running = Running::new(&self.server, &query_id);
        options.check_interrupted()?;
        let request = Request { client: &client, sql, format: NATIVE, query_id: &query_id, deadline: self.deadline() };
        let answer = self.server.start(&request)?;
        let mut reader = NativeReader::new(BufReader::with_capacity(1 << 16, answer));
        let first = reader.next_block()?;
        let Some(columns) = reader.columns() else {
            drop(reader);
            let columns = self.columns_of(sql, options)?;
            return Ok(BatchStream::new(columns.schema, std::iter::empty()));
        };
        let batches =
            Batches { first: first.filter(|batch| batch.num_rows() > 0), reader: Some(reader), _running: running };
        Ok(BatchStream::new(columns.schema, batches))
    }

    fn query_format(
        &mut self,
        sql: &str,
        format: &str,
        options: &QueryOptions,
        out: &mut dyn Write,
    ) -> Result<QuerySummary, EngineError> {
        let kind = Statement::read(sql).kind;
        self.prepare(sql, kind);
        let (_, summary) = self.run(sql, format, options, |answer| {
            loop {
                let bytes = answer.fill_buf().map_err(native_format::read_error)?;
                if bytes.is_empty() {
                    return out.flush().map_err(|source| EngineError::Output { source });
                }
                let count = bytes.len();
                out.write_all(bytes).map_err(|source| EngineError::Output { source })?;
                answer.consume(count);
            }
        })?;
        self.note(sql, kind);
        Ok(summary)
    }

    fn insert(
        &mut self,
        statement: &str,
        schema: SchemaRef,
        batches: &mut dyn Iterator<Item = RecordBatch>,
        options: &QueryOptions,
    ) -> Result<QuerySummary, EngineError> {
        let started = Instant::now();
        let runtime = runtime()?;
        let (client, query_id) = self.client(options);
        let _running = Running::new(&self.server, &query_id);
        options.check_interrupted()?;
        let failed = |error| self.server.error(error, &query_id);
        let mut insert = client.insert_formatted_with(format!("{statement} FORMAT {NATIVE}"));
        let mut writer = NativeWriter::new(Vec::new(), &schema)?;
        let mut rows = 0;
        for batch in batches {
            writer.write(&batch)?;
            let block = std::mem::take(writer.output());
            if !block.is_empty() {
                rows += batch.num_rows();
                runtime.block_on(insert.send(block.into())).map_err(failed)?;
            }
        }
        // A request that was never begun inserts nothing, which is what no rows mean.
        if rows > 0 {
            runtime.block_on(insert.end()).map_err(failed)?;
        }
        Ok(QuerySummary { query_id: query_id.clone(), elapsed: started.elapsed(), ..QuerySummary::default() })
    }
}

/// The blocks of an answer.
struct Batches<'a> {
    first: Option<RecordBatch>,
    reader: Option<NativeReader<BufReader<Answer<'a>>>>,
    _running: Running<'a>,
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.first.take() {
            return Some(Ok(batch));
        }
        loop {
            match self.reader.as_mut()?.next_block() {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {
                    self.reader = None;
                    return None;
                }
                Err(error) => {
                    self.reader = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// `USE db`, `USE DATABASE db`.
fn used_database(sql: &str) -> Option<String> {
    let words = Tokens::new(sql).filter(|token| token.kind != super::statement::TokenKind::Space);
    let name = words.map(|token| token.text(sql).to_owned()).filter(|text| text != ";").last()?;
    Some(if name.starts_with(['`', '"']) { unquote_literal(&name) } else { name })
}

/// `CREATE [OR REPLACE] TEMPORARY …`, `REPLACE TEMPORARY …`
fn creates_temporary(sql: &str) -> bool {
    let mut words = Tokens::new(sql).filter(|token| token.kind != super::statement::TokenKind::Space).take(4);
    words.any(|token| token.text(sql).eq_ignore_ascii_case("TEMPORARY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_server_keeps_is_known() {
        assert!(creates_temporary("CREATE OR REPLACE TEMPORARY TABLE t (a Int8)"));
        assert!(!creates_temporary("CREATE TABLE t (temporary Int8)"));
        assert_eq!(used_database("USE `a b`;").as_deref(), Some("a b"));
        assert_eq!(used_database("use f1 -- x").as_deref(), Some("f1"));
    }
}
