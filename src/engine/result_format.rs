//! ClickHouse's output formats from Arrow batches, for the engine whose protocol has none: the ones that people and
//! programs read most. In: a stream of batches; out: text or bytes.

use std::io::Write;

use arrow::{
    array::{Array, AsArray as _, RecordBatch},
    datatypes::{DataType, SchemaRef, TimeUnit},
    ipc::writer::StreamWriter,
    util::display::{ArrayFormatter, FormatOptions},
};

use super::{EngineError, native_writer::NativeWriter};

/// The formats that can be written here.
pub(super) const SUPPORTED: &str =
    "TSV, TSVWithNames, TSVRaw, CSV, CSVWithNames, JSONEachRow, Native, ArrowStream, Pretty and Null";

enum Style {
    /// Escaped or raw, with a header line or without.
    Tsv {
        raw: bool,
        names: bool,
    },
    Csv {
        names: bool,
    },
    JsonEachRow,
    Native,
    ArrowStream,
    Pretty,
    Null,
}

impl Style {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "tsv" | "tabseparated" => Self::Tsv { raw: false, names: false },
            "tsvwithnames" | "tabseparatedwithnames" => Self::Tsv { raw: false, names: true },
            "tsvraw" | "tabseparatedraw" | "raw" => Self::Tsv { raw: true, names: false },
            "csv" => Self::Csv { names: false },
            "csvwithnames" => Self::Csv { names: true },
            "jsoneachrow" | "jsonlines" | "ndjson" => Self::JsonEachRow,
            "native" => Self::Native,
            "arrowstream" => Self::ArrowStream,
            "null" => Self::Null,
            name if name.starts_with("pretty") => Self::Pretty,
            _ => return None,
        })
    }
}

/// Writes a result.
///
/// # Errors
/// A format that is not written here; the stream's own errors; the writer's.
pub(super) fn write(
    format: &str,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, EngineError>>,
    out: &mut dyn Write,
) -> Result<(), EngineError> {
    let unsupported =
        || EngineError::Unsupported { engine: "native", feature: format!("FORMAT {format}: it writes {SUPPORTED}") };
    let style = Style::from_name(format).ok_or_else(unsupported)?;
    let failed = |source: std::io::Error| EngineError::Output { source };
    let arrow_failed = |error: arrow::error::ArrowError| EngineError::Protocol { reason: error.to_string() };
    match style {
        Style::Null => {
            for batch in batches {
                batch?;
            }
        }
        Style::Pretty => {
            let batches = batches.collect::<Result<Vec<_>, _>>()?;
            let options = options();
            let table =
                arrow::util::pretty::pretty_format_batches_with_options(&batches, &options).map_err(arrow_failed)?;
            writeln!(out, "{table}").map_err(failed)?;
        }
        Style::ArrowStream => {
            let mut writer = StreamWriter::try_new(&mut *out, schema).map_err(arrow_failed)?;
            for batch in batches {
                writer.write(&batch?).map_err(arrow_failed)?;
            }
            writer.finish().map_err(arrow_failed)?;
        }
        Style::Native => {
            let mut writer = NativeWriter::new(&mut *out, schema)?;
            for batch in batches {
                writer.write(&batch?)?;
            }
        }
        Style::JsonEachRow => {
            let mut writer = arrow::json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow::json::writer::LineDelimited>(&mut *out);
            for batch in batches {
                writer.write(&batch?).map_err(arrow_failed)?;
            }
            writer.finish().map_err(arrow_failed)?;
        }
        Style::Tsv { raw, names } => {
            let escaped = |text: &str| if raw { text.to_owned() } else { escape(text) };
            if names {
                line(out, schema.fields().iter().map(|field| escaped(field.name())), "\t").map_err(failed)?;
            }
            for batch in batches {
                for row in texts(&batch?)? {
                    let cells = row.into_iter().map(|cell| cell.map_or_else(|| "\\N".into(), |text| escaped(&text)));
                    line(out, cells, "\t").map_err(failed)?;
                }
            }
        }
        Style::Csv { names } => {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            if names {
                line(out, schema.fields().iter().map(|field| quoted(field.name())), ",").map_err(failed)?;
            }
            let bare: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
            for batch in batches {
                for row in texts(&batch?)? {
                    let cells = row.into_iter().enumerate().map(|(index, cell)| match cell {
                        None => "\\N".into(),
                        Some(text) if bare[index] => text,
                        Some(text) => quoted(&text),
                    });
                    line(out, cells, ",").map_err(failed)?;
                }
            }
        }
    }
    out.flush().map_err(failed)
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new()
        .with_date_format(Some("%Y-%m-%d"))
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"))
}

/// The cells of a batch; `None` for NULL.
fn texts(batch: &RecordBatch) -> Result<Vec<Vec<Option<String>>>, EngineError> {
    let options = options();
    let failed = |error: arrow::error::ArrowError| EngineError::Protocol { reason: error.to_string() };
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let cell = |row: usize, column: usize| -> Option<String> {
        let array = batch.column(column);
        if array.is_null(row) {
            return None;
        }
        Some(match array.data_type() {
            DataType::FixedSizeBinary(_) => {
                String::from_utf8_lossy(array.as_fixed_size_binary().value(row)).into_owned()
            }
            // chrono's fraction leaves out zeros; ClickHouse writes as many digits as the type has.
            DataType::Timestamp(unit, _) => pad_fraction(formatters[column].value(row).to_string(), unit),
            _ => formatters[column].value(row).to_string(),
        })
    };
    Ok((0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| cell(row, column)).collect()).collect())
}

fn pad_fraction(text: String, unit: &TimeUnit) -> String {
    let digits = match unit {
        TimeUnit::Second => return text,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}.{fraction:0<digits$}")
}

fn line(out: &mut dyn Write, cells: impl Iterator<Item = String>, separator: &str) -> std::io::Result<()> {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(cell.as_bytes())?;
    }
    out.write_all(b"\n")
}

/// <https://clickhouse.com/docs/interfaces/formats/TabSeparated>
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\'' => out.push_str("\\'"),
            c => out.push(c),
        }
    }
    out
}
