//! What a request asks for: the statement, its data, settings, parameters and formats, wherever the client put them.
//! Nothing is run here.

use std::io::{Read, Seek as _, SeekFrom, Write as _};

use axum::{
    body::Body,
    extract::{FromRequest as _, Multipart, Request},
    http::{HeaderMap, Method},
};
use futures::StreamExt as _;
use tempfile::SpooledTempFile;

use super::{
    Shared,
    encoding::{Coding, native_reader},
    statement::exception,
};
use crate::engine::{EngineError, QueryOptions};

/// A body above this size goes to a file.
pub(super) const SPOOL_ABOVE: usize = 64 << 20;

/// Names in the URL that are no settings.
/// ClickHouse: HTTPHandler.cpp, `reserved_param_names`
const RESERVED: &[&str] = &[
    "query",
    "database",
    "user",
    "password",
    "quota_key",
    "role",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "default_format",
    "stacktrace",
    "compress",
    "decompress",
    "buffer_size",
    "wait_end_of_query",
    "client_protocol_version",
    "close_session",
    "enable_http_compression",
    "http_zlib_compression_level",
    "add_http_cors_header",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "cancel_http_readonly_queries_on_client_close",
    "http_write_exception_in_output_format",
    "http_response_buffer_size",
];

/// The names and values of a URL and of a form's fields, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    #[cfg(test)]
    pub(super) fn new(parameters: Vec<(String, String)>) -> Self {
        Self(parameters)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }
}

/// A table that came with the request.
pub(super) struct ExternalTable {
    pub(super) name: String,
    /// `a Int64, b String`
    pub(super) structure: String,
    pub(super) format: String,
    pub(super) data: SpooledTempFile,
}

/// A request, read.
pub(super) struct Asked {
    pub(super) parameters: Parameters,
    /// The URL's statement, or the beginning of one.
    pub(super) query: String,
    /// The body as it came.
    body: SpooledTempFile,
    body_coding: Option<String>,
    pub(super) external_tables: Vec<ExternalTable>,
    pub(super) options: QueryOptions,
    pub(super) query_id: String,
    pub(super) database: Option<String>,
    pub(super) default_format: String,
    /// GET means that nothing may be changed.
    pub(super) read_only: bool,
    /// The answer's coding.
    pub(super) coding: Option<Coding>,
    /// The answer in ClickHouse's own compressed blocks.
    pub(super) native_blocks: bool,
    /// Answer when all is known, not as rows come.
    pub(super) wait_for_end: bool,
    pub(super) cross_origin: bool,
}

impl Asked {
    /// Reads a request to its end; who asks is checked before the body.
    pub(super) async fn read(shared: &Shared, request: Request) -> Result<Self, EngineError> {
        let uri = request.uri().clone();
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|error| bad_request(format!("the URL cannot be read: {error}")))?;
        let mut parameters = Parameters(pairs.0);
        let headers = request.headers().clone();
        shared.credentials.check(&headers, &parameters)?;
        let read_only = matches!(*request.method(), Method::GET | Method::HEAD);
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut external_tables = Vec::new();
        let body = if header("content-type").is_some_and(|value| value.starts_with("multipart/form-data")) {
            external_tables = read_form(request, &mut parameters).await?;
            SpooledTempFile::new(SPOOL_ABOVE)
        } else {
            read_body(request.into_body()).await?
        };
        let query_id = parameters
            .get("query_id")
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
            .or_else(|| header("x-clickhouse-query-id"))
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut options = QueryOptions::default().query_id(&query_id);
        for (name, value) in &parameters.0 {
            if let Some(name) = name.strip_prefix("param_") {
                options.parameters.push((name.to_owned(), value.clone()));
            } else if !RESERVED.contains(&name.as_str()) && !describes_external_table(name, &external_tables) {
                options.settings.push((name.clone(), value.clone()));
            }
        }
        let given = |name: &str, header_name: &str| {
            parameters.get(name).map(str::to_owned).or_else(|| header(header_name)).filter(|value| !value.is_empty())
        };
        // On by default since 26.
        let may_code = parameters.get("enable_http_compression") != Some("0");
        let coding = header("accept-encoding").as_deref().filter(|_| may_code).and_then(Coding::accepted);
        Ok(Self {
            query: parameters.get("query").unwrap_or_default().to_owned(),
            body,
            body_coding: header("content-encoding").filter(|name| !name.eq_ignore_ascii_case("identity")),
            external_tables,
            options,
            query_id,
            database: given("database", "x-clickhouse-database"),
            default_format: given("default_format", "x-clickhouse-format").unwrap_or_else(|| "TabSeparated".into()),
            read_only,
            coding,
            native_blocks: parameters.is_on("compress"),
            wait_for_end: parameters.is_on("wait_end_of_query"),
            cross_origin: cross_origin(&headers, &parameters),
            parameters,
        })
    }

    /// The body's bytes, decoded.
    pub(super) fn take_body(&mut self) -> Result<SpooledTempFile, EngineError> {
        let mut body = std::mem::replace(&mut self.body, SpooledTempFile::new(0));
        body.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let native = self.parameters.is_on("decompress");
        if self.body_coding.is_none() && !native {
            return Ok(body);
        }
        let mut reader: Box<dyn Read> = match &self.body_coding {
            None => Box::new(body),
            Some(name) => {
                let coding = Coding::from_name(name).ok_or_else(|| {
                    exception(89, "UNKNOWN_COMPRESSION_METHOD", format!("Unknown compression method: {name}"))
                })?;
                coding.reader(body).map_err(undecodable)?
            }
        };
        if native {
            reader = native_reader(reader);
        }
        let mut decoded = SpooledTempFile::new(SPOOL_ABOVE);
        std::io::copy(&mut reader, &mut decoded).map_err(undecodable)?;
        decoded.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        Ok(decoded)
    }
}

async fn read_body(body: Body) -> Result<SpooledTempFile, EngineError> {
    let mut spool = SpooledTempFile::new(SPOOL_ABOVE);
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| bad_request(format!("the body ended too early: {error}")))?;
        spool.write_all(&chunk).map_err(unreadable)?;
    }
    Ok(spool)
}

/// A form: its fields are parameters, its files external tables.
/// <https://clickhouse.com/docs/engines/table-engines/special/external-data>
async fn read_form(request: Request, parameters: &mut Parameters) -> Result<Vec<ExternalTable>, EngineError> {
    let failed = |error: &dyn std::fmt::Display| bad_request(format!("the form cannot be read: {error}"));
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| failed(&error))?;
    let mut files = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(|error| failed(&error))? {
        let name = field.name().unwrap_or_default().to_owned();
        if field.file_name().is_none() {
            parameters.0.push((name, field.text().await.map_err(|error| failed(&error))?));
            continue;
        }
        let mut data = SpooledTempFile::new(SPOOL_ABOVE);
        while let Some(chunk) = field.chunk().await.map_err(|error| failed(&error))? {
            data.write_all(&chunk).map_err(unreadable)?;
        }
        data.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        files.push((name, data));
    }
    files
        .into_iter()
        .map(|(name, data)| {
            let about = |what: &str| parameters.get(&format!("{name}_{what}")).map(str::to_owned);
            let structure = about("structure").or_else(|| about("types").map(|types| unnamed_columns(&types)));
            let structure = structure.ok_or_else(|| {
                exception(
                    36,
                    "BAD_ARGUMENTS",
                    format!("External table {name} has neither {name}_structure nor {name}_types"),
                )
            })?;
            Ok(ExternalTable {
                structure,
                format: about("format").unwrap_or_else(|| "TabSeparated".into()),
                name,
                data,
            })
        })
        .collect()
}

/// Columns that are given by their types only are called `_1`, `_2`, ….
fn unnamed_columns(types: &str) -> String {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (index, c) in types.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&types[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&types[start..]);
    let columns = parts.iter().enumerate().map(|(index, part)| format!("_{} {}", index + 1, part.trim()));
    columns.collect::<Vec<_>>().join(", ")
}

fn describes_external_table(name: &str, tables: &[ExternalTable]) -> bool {
    tables.iter().any(|table| {
        name.strip_prefix(table.name.as_str()).is_some_and(|rest| matches!(rest, "_structure" | "_types" | "_format"))
    })
}

fn cross_origin(headers: &HeaderMap, parameters: &Parameters) -> bool {
    headers.contains_key("origin") && parameters.get("add_http_cors_header") != Some("0")
}

fn bad_request(message: String) -> EngineError {
    exception(36, "BAD_ARGUMENTS", message)
}

fn unreadable(source: std::io::Error) -> EngineError {
    exception(1001, "STD_EXCEPTION", format!("The request's body cannot be kept: {source}"))
}

fn undecodable(source: std::io::Error) -> EngineError {
    exception(271, "CANNOT_DECOMPRESS", format!("The request's body cannot be decompressed: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_names_are_numbered() {
        assert_eq!(
            unnamed_columns("Int64, Array(Tuple(Int8, String)),Date"),
            "_1 Int64, _2 Array(Tuple(Int8, String)), _3 Date"
        );
    }
}
