//! The way of a result to the client: coded, in pieces, with what is known when the first piece goes. An error that comes
//! before that has the right status; a later one is written behind the rows, as ClickHouse does, and breaks the answer off.

use std::{
    io::{self, Write},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    encoding::{Coding, Encoder},
    status,
};
use crate::engine::{EngineError, QuerySummary};

/// How much is held back while the status may still change.
const HOLD: usize = 64 << 10;
/// How many pieces wait for a slow client before the statement does.
const PIECES: usize = 8;

/// How long an answer that breaks off waits for its last piece to be written.
const FLUSH: Duration = Duration::from_millis(20);

/// What every answer says.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) query_id: String,
    pub(super) version: String,
    pub(super) time_zone: String,
    pub(super) host_name: String,
    pub(super) cross_origin: bool,
}

/// The beginning of an answer, and where the rest comes from.
pub(super) type Head = Response<Body>;

/// The writing end, on the statement's thread.
pub(super) struct Answer {
    encoder: Option<Encoder<Pieces>>,
    common: Common,
    coding: Option<Coding>,
    native_blocks: bool,
    format: String,
    wait_for_end: bool,
    head: Option<oneshot::Sender<Head>>,
    sender: Option<mpsc::Sender<Result<Bytes, io::Error>>>,
    receiver: Option<mpsc::Receiver<Result<Bytes, io::Error>>>,
    /// Marks an exception in the middle of the rows.
    tag: String,
}

/// Coded bytes that are not sent yet.
#[derive(Default)]
struct Pieces(Vec<u8>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Answer {
    pub(super) fn new(
        common: Common,
        coding: Option<Coding>,
        native_blocks: bool,
        wait_for_end: bool,
        head: oneshot::Sender<Head>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES);
        let tag = uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
        Self {
            encoder: Encoder::new(coding, native_blocks, Pieces::default()).ok(),
            common,
            coding,
            native_blocks,
            format: "TabSeparated".into(),
            wait_for_end,
            head: Some(head),
            sender: Some(sender),
            receiver: Some(receiver),
            tag,
        }
    }

    /// The format that the rows will be in.
    pub(super) fn set_format(&mut self, format: &str) {
        self.format = format.to_owned();
    }

    /// Ends the answer well.
    pub(super) fn finish(mut self, summary: &QuerySummary) {
        let Some(encoder) = self.encoder.take() else { return };
        let Ok(mut rest) = encoder.finish() else { return };
        if self.head.is_some() {
            // Everything is here: one piece with a length, and a whole summary.
            let body = Body::from(std::mem::take(&mut rest.0));
            self.send_head(body, summary);
            return;
        }
        if let Some(sender) = self.sender.take()
            && !rest.0.is_empty()
        {
            let _ = sender.blocking_send(Ok(rest.0.into()));
        }
    }

    /// Ends the answer with an error.
    pub(super) fn fail(mut self, error: &EngineError) {
        let text = text(error, &self.common.version);
        if let Some(head) = self.head.take() {
            let _ = head.send(failure(error, &self.common));
            return;
        }
        let block = format!(
            "\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n",
            tag = self.tag,
            length = text.len()
        );
        let Some(mut encoder) = self.encoder.take() else { return };
        let _ = encoder.write_all(block.as_bytes());
        let (Some(sender), Ok(rest)) = (self.sender.take(), encoder.finish()) else { return };
        let _ = sender.blocking_send(Ok(rest.0.into()));
        // Without its end the answer cannot be taken for a whole one.
        let _ = sender.blocking_send(Err(io::Error::other("the statement failed")));
    }

    fn send_head(&mut self, body: Body, summary: &QuerySummary) {
        let Some(head) = self.head.take() else { return };
        let mut response = Response::new(body);
        let coding = self.coding.filter(|_| !self.native_blocks);
        set(&mut response, header::CONTENT_TYPE, content_type(&self.format));
        if let Some(coding) = coding {
            set(&mut response, header::CONTENT_ENCODING, coding.name());
        }
        set(&mut response, named("x-clickhouse-format"), &self.format);
        set(&mut response, named("x-clickhouse-exception-tag"), &self.tag);
        set(&mut response, named("x-clickhouse-summary"), &summary_json(summary));
        common_headers(&mut response, &self.common);
        let _ = head.send(response);
    }

    fn send_piece(&mut self) -> io::Result<()> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let piece = std::mem::take(&mut encoder.output().0);
        if piece.is_empty() {
            return Ok(());
        }
        if let Some(receiver) = self.receiver.take() {
            let stream = futures::stream::unfold(receiver, |mut receiver| async {
                let piece = receiver.recv().await?;
                if piece.is_err() {
                    // hyper drops what it has not written yet when a body fails: the exception's text goes first.
                    tokio::time::sleep(FLUSH).await;
                }
                Some((piece, receiver))
            });
            self.send_head(Body::from_stream(stream), &QuerySummary::default());
        }
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the client went away");
        self.sender.as_ref().ok_or_else(gone)?.blocking_send(Ok(piece.into())).map_err(|_| gone())
    }
}

impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(encoder) = &mut self.encoder else { return Err(io::ErrorKind::BrokenPipe.into()) };
        encoder.write_all(bytes)?;
        if !self.wait_for_end && encoder.output().0.len() >= HOLD {
            self.send_piece()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer to a request that failed before a row was sent.
pub(super) fn failure(error: &EngineError, common: &Common) -> Response<Body> {
    let (code, status) = match error {
        EngineError::Server { code, .. } => (*code, status::of_code(*code)),
        EngineError::Unsupported { .. } => (48, StatusCode::NOT_IMPLEMENTED),
        _ => (1002, StatusCode::INTERNAL_SERVER_ERROR),
    };
    let mut response = Response::new(Body::from(text(error, &common.version)));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=UTF-8");
    set(&mut response, named("x-clickhouse-exception-code"), &code.to_string());
    if code == 194 || code == 516 {
        set(&mut response, header::WWW_AUTHENTICATE, "Basic realm=\"ClickHouse server HTTP API\"");
    }
    common_headers(&mut response, common);
    response
}

/// `Code: 60. DB::Exception: … (UNKNOWN_TABLE) (version 26.5.1.1)`, as a server writes it.
fn text(error: &EngineError, version: &str) -> String {
    match error {
        EngineError::Server { code, name, message, .. } => {
            format!("Code: {code}. DB::Exception: {message}. ({name}) (version {version} (official build))\n")
        }
        EngineError::Unsupported { .. } => {
            format!("Code: 48. DB::Exception: {error}. (NOT_IMPLEMENTED) (version {version} (official build))\n")
        }
        other => {
            format!("Code: 1002. DB::Exception: {other}. (UNKNOWN_EXCEPTION) (version {version} (official build))\n")
        }
    }
}

fn common_headers(response: &mut Response<Body>, common: &Common) {
    set(response, named("x-clickhouse-query-id"), &common.query_id);
    set(response, named("x-clickhouse-server-display-name"), &common.host_name);
    set(response, named("x-clickhouse-timezone"), &common.time_zone);
    if common.cross_origin {
        set(response, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        let shown = "X-ClickHouse-Query-Id, X-ClickHouse-Summary, X-ClickHouse-Server-Display-Name, \
                     X-ClickHouse-Format, X-ClickHouse-Timezone, X-ClickHouse-Exception-Code, \
                     X-ClickHouse-Exception-Tag";
        set(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
    }
}

/// Numbers are strings there.
fn summary_json(summary: &QuerySummary) -> String {
    format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\"written_bytes\":\"{}\",\
         \"total_rows_to_read\":\"0\",\"result_rows\":\"0\",\"result_bytes\":\"0\",\"elapsed_ns\":\"{}\"}}",
        summary.read_rows,
        summary.read_bytes,
        summary.written_rows.unwrap_or_default(),
        summary.written_bytes.unwrap_or_default(),
        summary.elapsed.as_nanos()
    )
}

/// ClickHouse: `IOutputFormat::getContentType` of each format.
fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    match format.as_str() {
        "json" | "jsonstrings" | "jsoncompact" | "jsoncompactstrings" | "jsoncolumns" | "jsoncompactcolumns" => {
            "application/json; charset=UTF-8"
        }
        _ if format.contains("json") => "application/x-ndjson; charset=UTF-8",
        "csv" => "text/csv; charset=UTF-8; header=absent",
        "csvwithnames" | "csvwithnamesandtypes" => "text/csv; charset=UTF-8; header=present",
        "xml" => "application/xml; charset=UTF-8",
        "markdown" => "text/markdown; charset=UTF-8",
        "native"
        | "rowbinary"
        | "rowbinarywithnames"
        | "rowbinarywithnamesandtypes"
        | "parquet"
        | "orc"
        | "avro"
        | "arrow"
        | "arrowstream"
        | "npy"
        | "msgpack"
        | "protobuf"
        | "capnproto" => "application/octet-stream",
        _ if format.starts_with("tabseparated") || format.starts_with("tsv") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

fn named(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // A client's query id may hold what no header can.
    let clean: String = value.chars().filter(|c| (' '..='~').contains(c)).collect();
    if let Ok(value) = HeaderValue::from_str(&clean) {
        response.headers_mut().insert(name, value);
    }
}
