//! Log lines. JSON ones have dbt's shape (`info` and `data`), whoever writes them, and carry the run id as
//! `info.invocation_id` and the fields of the spans they stand in (batch_id, node, query_id).

use std::{fmt, sync::OnceLock};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::Invocation;
use crate::cli::{GlobalArgs, LogFormat, LogLevel};

static RUN_ID: OnceLock<String> = OnceLock::new();

/// Starts the log of this process on stderr. A second call changes nothing (tests start it often).
pub fn start_log(global: &GlobalArgs, invocation: &Invocation) {
    let json = global.log_format == LogFormat::Json;
    let level = match (global.debug, global.log_level) {
        (true, _) | (false, LogLevel::Debug) => "debug",
        // A JSON log is how machines follow the progress.
        (false, LogLevel::Warn) if json => "info",
        (false, LogLevel::Info) => "info",
        (false, LogLevel::Warn) => "warn",
        (false, LogLevel::Error) => "error",
        (false, LogLevel::None) => "off",
    };
    let _ = RUN_ID.set(invocation.id.to_string());
    let filter = EnvFilter::new(format!("error,chpipe={level}"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Lines { json });
    let _ = tracing_subscriber::registry().with(filter).with(KeepFields).with(lines).try_init();
}

/// One JSON line in the shape of dbt's structured log.
pub fn json_line(level: &str, name: &str, code: &str, message: &str, data: Map<String, Value>) -> String {
    json!({
        "data": data,
        "info": {
            "category": "",
            "code": code,
            "extra": {},
            "invocation_id": RUN_ID.get().map_or("", String::as_str),
            "level": level,
            "msg": message,
            "name": name,
            "pid": std::process::id(),
            "thread": std::thread::current().name().unwrap_or("worker"),
            "ts": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        }
    })
    .to_string()
}

/// Writes an event as text or JSON.
struct Lines {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(stored) = span.extensions().get::<Fields>() {
                fields.0.extend(stored.0.clone());
            }
        }
        event.record(&mut fields);
        let message = match fields.0.shift_remove("message") {
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        if self.json {
            return writeln!(writer, "{}", json_line(level, event.metadata().target(), "", &message, fields.0));
        }
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let run_id = RUN_ID.get().map_or("", String::as_str).get(..8).unwrap_or("");
        write!(writer, "{time} {level:>5} {run_id} {message}")?;
        for (name, value) in &fields.0 {
            match value {
                Value::String(text) => write!(writer, " {name}={text}")?,
                value => write!(writer, " {name}={value}")?,
            }
        }
        writeln!(writer)
    }
}

/// Keeps the fields of each span for the lines inside it.
struct KeepFields;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KeepFields {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }
}

/// Fields of an event or a span as JSON.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
