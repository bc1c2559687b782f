//! Runs what a request asks for, on a thread of its own: finds out which kind of statement it is and where its data are,
//! and hands it to the session. A client that goes away ends its reading statements.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, Response},
};
use tempfile::SpooledTempFile;
use tokio::sync::oneshot;

use super::{
    Shared,
    answer::{Answer, Common, failure},
    request::{Asked, ExternalTable, SPOOL_ABOVE},
    sessions::Lease,
};
use crate::engine::{
    ChdbEngine, ChdbSession, EngineError, QueryOptions, QuerySummary, Session as _, quote_identifier,
    statement::{Kind, Statement, TokenKind, Tokens},
};

/// A statement stands in the first part of a body; its data may follow.
const STATEMENT_WITHIN: u64 = 1 << 20;

/// Answers a request.
pub(super) async fn answer(shared: Arc<Shared>, request: Request) -> Response<Body> {
    let head_only = *request.method() == Method::HEAD;
    let mut common = Common {
        query_id: String::new(),
        version: shared.version.clone(),
        time_zone: shared.time_zone.clone(),
        host_name: shared.host_name.clone(),
        cross_origin: false,
    };
    let asked = match Asked::read(&shared, request).await {
        Ok(asked) => asked,
        Err(error) => return failure(&error, &common),
    };
    common.query_id.clone_from(&asked.query_id);
    common.cross_origin = asked.cross_origin;
    if shared.engine.is_running(&asked.query_id) {
        let id = &asked.query_id;
        let message = format!("Query with id = {id} is already running");
        return failure(&exception(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", message), &common);
    }
    let (head, first) = oneshot::channel();
    let answer = Answer::new(common.clone(), asked.coding, asked.native_blocks, asked.wait_for_end || head_only, head);
    let mut guard = CancelReading { engine: Arc::clone(&shared.engine), query_id: Some(asked.query_id.clone()) };
    tokio::task::spawn_blocking(move || run(&shared, asked, answer));
    // Dropped here when the client goes away before the first row; behind it, the rows have nowhere to go.
    let response = first.await;
    guard.query_id = None;
    response.unwrap_or_else(|_| {
        failure(&exception(1002, "UNKNOWN_EXCEPTION", "the statement's thread ended".into()), &common)
    })
}

/// Cancels the statement when dropped, if it only reads: one that writes is not the client's alone any more.
struct CancelReading {
    engine: Arc<ChdbEngine>,
    query_id: Option<String>,
}

impl Drop for CancelReading {
    fn drop(&mut self) {
        if let Some(query_id) = self.query_id.take() {
            let engine = Arc::clone(&self.engine);
            // Cancelling asks ClickHouse, which takes a moment; this may be an async thread.
            tokio::task::spawn_blocking(move || engine.cancel_reading(&query_id));
        }
    }
}

fn run(shared: &Arc<Shared>, mut asked: Asked, mut answer: Answer) {
    let query_id = asked.query_id.clone();
    shared.running.lock().insert(query_id.clone());
    let result = statement(shared, &mut asked, &mut answer);
    shared.running.lock().remove(&query_id);
    match result {
        Ok(summary) => answer.finish(&summary),
        Err(error) => answer.fail(&error),
    }
}

fn statement(shared: &Arc<Shared>, asked: &mut Asked, answer: &mut Answer) -> Result<QuerySummary, EngineError> {
    let body = asked.take_body()?;
    let text = Text::new(&asked.query, body)?;
    let leaves_nothing = asked.database.is_none() && asked.external_tables.is_empty() && text.leaves_nothing(asked);
    let mut lease = Lease::take(shared, &asked.parameters)?;
    let session = lease.session()?;
    if let Some(database) = asked.database.as_deref().filter(|name| *name != "__default__") {
        session.execute(&format!("USE {}", quote_identifier(database)), &QueryOptions::default())?;
    }
    let tables = std::mem::take(&mut asked.external_tables);
    let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
    for table in tables {
        create_external(session, table)?;
    }
    let result = text.run(session, asked, answer);
    for name in names {
        // They were for this request alone.
        let _ = session
            .execute(&format!("DROP TEMPORARY TABLE IF EXISTS {}", quote_identifier(&name)), &QueryOptions::default());
    }
    if leaves_nothing && result.is_ok() {
        lease.left_as_new();
    }
    result
}

fn create_external(session: &mut ChdbSession, table: ExternalTable) -> Result<(), EngineError> {
    let name = quote_identifier(&table.name);
    session.execute(&format!("CREATE TEMPORARY TABLE {name} ({})", table.structure), &QueryOptions::default())?;
    session.insert_data(&format!("INSERT INTO {name}"), &table.format, table.data, &QueryOptions::default())?;
    Ok(())
}

/// A statement and, for an INSERT, its data.
struct Text {
    sql: String,
    data: Option<SpooledTempFile>,
}

impl Text {
    /// A server reads the URL's `query`, a line break and the body as one text; only the data of an INSERT may be large.
    fn new(query: &str, mut body: SpooledTempFile) -> Result<Self, EngineError> {
        let failed =
            |error: std::io::Error| exception(1001, "STD_EXCEPTION", format!("The body cannot be read: {error}"));
        let length = body.seek(SeekFrom::End(0)).map_err(failed)?;
        body.seek(SeekFrom::Start(0)).map_err(failed)?;
        if length == 0 {
            return Ok(Self { sql: query.to_owned(), data: None });
        }
        let from_url = Statement::read(query);
        if from_url.kind == Kind::Insert && !matches!(from_url.data, Some(at) if !query[at..].trim().is_empty()) {
            return Ok(Self { sql: query.to_owned(), data: Some(body) });
        }
        let mut start = Vec::new();
        (&mut body).take(STATEMENT_WITHIN).read_to_end(&mut start).map_err(failed)?;
        let valid = match std::str::from_utf8(&start) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
        };
        let separator = if query.is_empty() { "" } else { "\n" };
        let text = format!("{query}{separator}{valid}");
        let statement = Statement::read(&text);
        if statement.kind == Kind::Insert
            && let Some(at) = statement.data
            && at >= query.len() + separator.len()
        {
            // The data begin within the body, behind FORMAT and its name, or VALUES.
            let in_body = (at - query.len() - separator.len()) as u64;
            let skip = if statement.format.is_some() { line_break(&text[at..]) } else { 0 };
            body.seek(SeekFrom::Start(in_body + skip)).map_err(failed)?;
            let mut data = SpooledTempFile::new(SPOOL_ABOVE);
            std::io::copy(&mut body, &mut data).map_err(failed)?;
            return Ok(Self { sql: text[..at].to_owned(), data: Some(data) });
        }
        if length > STATEMENT_WITHIN || valid.len() != start.len() {
            // A long statement without data behind it, or one that is no text.
            let mut rest = start;
            body.read_to_end(&mut rest).map_err(failed)?;
            let rest = String::from_utf8(rest)
                .map_err(|_| exception(62, "SYNTAX_ERROR", "Syntax error: the statement is no UTF-8 text".into()))?;
            return Ok(Self { sql: format!("{query}{separator}{rest}"), data: None });
        }
        Ok(Self { sql: text, data: None })
    }

    /// Whether a session is as new after this statement: it sets nothing, uses no database, makes nothing temporary.
    fn leaves_nothing(&self, asked: &Asked) -> bool {
        // What these change cannot be put back by a SET of theirs.
        let lasting = ["readonly", "allow_ddl", "compatibility", "profile"];
        if asked.options.settings.iter().any(|(name, _)| lasting.contains(&name.as_str())) {
            return false;
        }
        match Statement::read(&self.sql).kind {
            Kind::Select | Kind::Rows | Kind::Insert => true,
            Kind::Other => {
                let words = Tokens::new(&self.sql).filter(|token| token.kind == TokenKind::Word);
                let mut words = words.map(|token| token.text(&self.sql).to_ascii_uppercase()).take(4);
                matches!(
                    words.next().as_deref(),
                    Some("CREATE" | "DROP" | "EXCHANGE" | "RENAME" | "ALTER" | "TRUNCATE")
                ) && !words.any(|word| word == "TEMPORARY")
            }
            Kind::Set | Kind::Use | Kind::Kill | Kind::Empty => false,
        }
    }

    fn run(self, session: &mut ChdbSession, asked: &Asked, answer: &mut Answer) -> Result<QuerySummary, EngineError> {
        let statement = Statement::read(&self.sql);
        let reads = matches!(statement.kind, Kind::Select | Kind::Rows | Kind::Set | Kind::Use | Kind::Empty);
        if asked.read_only && !reads {
            return Err(exception(
                164,
                "READONLY",
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use \
                 method POST for modifying queries"
                    .into(),
            ));
        }
        let format = statement.format.unwrap_or(&asked.default_format).to_owned();
        answer.set_format(&format);
        match (statement.kind, self.data) {
            (Kind::Insert, Some(data)) => {
                insert(session, &self.sql, &statement, data, &asked.default_format, &asked.options)
            }
            (Kind::Kill, _) => session.kill(&self.sql, &asked.default_format, &asked.options, answer),
            _ => session.query_format(&self.sql, &asked.default_format, &asked.options, answer),
        }
    }
}

fn insert(
    session: &mut ChdbSession,
    sql: &str,
    statement: &Statement<'_>,
    mut data: SpooledTempFile,
    default_format: &str,
    options: &QueryOptions,
) -> Result<QuerySummary, EngineError> {
    let head = &sql[..statement.data_keyword.unwrap_or(statement.end)];
    // Without FORMAT and VALUES an INSERT means VALUES, unless the request has a format of its own.
    let format = match statement.format {
        Some(format) => format,
        None if statement.data.is_some() || default_format == "TabSeparated" => "Values",
        None => default_format,
    };
    let length = data.seek(SeekFrom::End(0)).map_err(|source| EngineError::Output { source })?;
    if length == 0 {
        // A server takes an INSERT whose body is empty and inserts nothing; libchdb calls it an error.
        return Ok(QuerySummary { query_id: options.query_id.clone().unwrap_or_default(), ..QuerySummary::default() });
    }
    data.flush().and_then(|()| data.seek(SeekFrom::Start(0))).map_err(|source| EngineError::Output { source })?;
    session.insert_data(head, format, data, options)
}

/// How long the line break is that ends the line of FORMAT.
fn line_break(text: &str) -> u64 {
    let blanks = text.len() - text.trim_start_matches([' ', '\t']).len();
    let rest = &text[blanks..];
    let after = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    if after > 0 { (blanks + after) as u64 } else { u64::from(text.starts_with(' ')) }
}

/// A server's exception, made here.
pub(super) fn exception(code: i32, name: &str, message: String) -> EngineError {
    EngineError::Server { code, name: name.into(), message, query_id: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(bytes: &[u8]) -> SpooledTempFile {
        let mut spool = SpooledTempFile::new(SPOOL_ABOVE);
        spool.write_all(bytes).unwrap();
        spool
    }

    #[track_caller]
    fn check(query: &str, body: &[u8], sql: &str, data: Option<&[u8]>) {
        let text = Text::new(query, spool(body)).unwrap();
        assert_eq!(text.sql, sql);
        let found = text.data.map(|mut data| {
            let mut bytes = Vec::new();
            data.seek(SeekFrom::Start(0)).unwrap();
            data.read_to_end(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(found.as_deref(), data);
    }

    #[test]
    fn the_data_of_an_insert_are_found_wherever_they_are() {
        check("SELECT 1", b"", "SELECT 1", None);
        check("", b"SELECT 1", "SELECT 1", None);
        check("SELECT", b"1", "SELECT\n1", None);
        check("INSERT INTO t FORMAT TSV", b"1\n", "INSERT INTO t FORMAT TSV", Some(b"1\n"));
        check("INSERT INTO t VALUES", b"(1)", "INSERT INTO t VALUES", Some(b"(1)"));
        check("", b"INSERT INTO t FORMAT Native\n\xff\x00\n", "INSERT INTO t FORMAT Native", Some(b"\xff\x00\n"));
        check("", b"INSERT INTO t FORMAT TSV\n\n", "INSERT INTO t FORMAT TSV", Some(b"\n"));
        check("", b"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES", Some(b" (1)"));
        check("INSERT INTO t SELECT 1", b"", "INSERT INTO t SELECT 1", None);
    }
}
