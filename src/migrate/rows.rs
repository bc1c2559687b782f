//! Small query results as text, whatever engine they came from. In: a SELECT; out: rows of optional strings.

use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::engine::{EngineError, QueryOptions, Session};

/// One row; `None` is NULL.
pub(crate) type Row = Vec<Option<String>>;

/// All rows of a small result. Columns should be text or numbers: cast the rest in the query.
pub(crate) fn rows(session: &mut dyn Session, sql: &str) -> Result<Vec<Row>, EngineError> {
    rows_with(session, sql, &QueryOptions::default())
}

/// The same with settings or parameters.
pub(crate) fn rows_with(session: &mut dyn Session, sql: &str, options: &QueryOptions) -> Result<Vec<Row>, EngineError> {
    let protocol = |error: arrow::error::ArrowError| EngineError::Protocol { reason: error.to_string() };
    let mut out = Vec::new();
    for batch in crate::engine::fetch(session, sql, options)? {
        let format = FormatOptions::default();
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &format))
            .collect::<Result<Vec<_>, _>>()
            .map_err(protocol)?;
        for index in 0..batch.num_rows() {
            let row = columns
                .iter()
                .zip(batch.columns())
                .map(|(formatter, column)| (!column.is_null(index)).then(|| formatter.value(index).to_string()))
                .collect();
            out.push(row);
        }
    }
    Ok(out)
}

/// A cell as text; NULL and a missing cell are empty.
pub(crate) fn text(row: &Row, index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

/// A cell as a number; 0 where it is none.
pub(crate) fn number(row: &Row, index: usize) -> u64 {
    text(row, index).parse().unwrap_or_default()
}
