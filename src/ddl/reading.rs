//! How a column of the files becomes a column of the raw table whose spec gives it a narrower type. ClickHouse's Parquet
//! reader would wrap what does not fit (200 becomes -56 in an Int8) and give NULL the type's default, so such a column is read
//! as the files have it and converted with a check that fails the load. In: types; out: types and expressions.

use crate::{
    engine::quote_string,
    schema::{ClickHouseType, ColumnDefault},
};

use super::diff::lossy_condition;

/// The type in which a table over files reads a column: the spec's, or that of the files where the way to the spec's is
/// checked.
pub(super) fn read_kind(found: &ClickHouseType, wanted: ClickHouseType) -> ClickHouseType {
    if is_checked(found, &wanted) { found.clone() } else { wanted }
}

/// Whether values of the files could arrive as others without anybody noticing. What the reader itself refuses (a text
/// that is no number), and what only loses digits that the spec does not want (Float32, a decimal's scale, a time's
/// fractions), is left to it.
fn is_checked(found: &ClickHouseType, wanted: &ClickHouseType) -> bool {
    use ClickHouseType::{Date, Date32, DateTime, DateTime64, Decimal, Float, Int, UInt};
    let (from, to) = (found.inner(), wanted.inner());
    if from.widens_to(to) {
        return loses_null(found, wanted);
    }
    matches!(
        (from, to),
        (Int(_) | UInt(_) | Float(_) | Decimal { .. }, Int(_) | UInt(_))
            | (Date32, Date)
            | (DateTime64 { .. }, DateTime(_))
    )
}

fn loses_null(found: &ClickHouseType, wanted: &ClickHouseType) -> bool {
    found.is_nullable() && !wanted.is_nullable()
}

/// The expression that makes a value of the raw table's column from `value`, which is read as `found`; none where the
/// value as it is will do.
///
/// NULL takes the column's default where it has one, as in an INSERT.
pub(super) fn checked(
    column: &str,
    value: &str,
    found: &ClickHouseType,
    wanted: &ClickHouseType,
    default: Option<&ColumnDefault>,
) -> Option<String> {
    if !is_checked(found, wanted) {
        return None;
    }
    let has_default = loses_null(found, wanted) && default.is_some();
    let mut conditions = Vec::new();
    if loses_null(found, wanted) && !has_default {
        conditions.push(format!("isNull({value})"));
    }
    let (from, to) = (found.inner().clone().nullable(), wanted.inner().clone().nullable());
    match (from.inner(), to.inner()) {
        (from, to) if from.widens_to(to) => {}
        (ClickHouseType::DateTime64 { .. }, ClickHouseType::DateTime(_)) => conditions.push(format!(
            "ifNull(({value} < toDateTime64('1970-01-01 00:00:00', 0, 'UTC')) OR ({value} > \
             toDateTime64('2106-02-07 06:28:15', 0, 'UTC')), 0)"
        )),
        _ => conditions.push(lossy_condition(value, &from, &to)),
    }
    let target = quote_string(&wanted.to_string());
    let message = format!("column {column} of the files has a value that is no {wanted}");
    let value = match (default, has_default) {
        (Some(default), true) => format!("ifNull({value}, {})", default.expression),
        _ => value.to_owned(),
    };
    let checked = if conditions.is_empty() {
        value
    } else {
        format!("if(throwIf({}, {}) = 0, {value}, NULL)", conditions.join(" OR "), quote_string(&message))
    };
    let checked = if wanted.is_nullable() { checked } else { format!("assumeNotNull({checked})") };
    Some(format!("CAST({checked}, {target})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> ClickHouseType {
        ClickHouseType::parse(text).unwrap()
    }

    #[test]
    fn what_could_change_unnoticed_is_read_as_it_is() {
        for (found, wanted, read) in [
            ("Int32", "Int8", "Int32"),
            ("Nullable(Int64)", "Int64", "Nullable(Int64)"),
            ("UInt32", "Int32", "UInt32"),
            ("Float64", "Int32", "Float64"),
            ("Date32", "Date", "Date32"),
            ("Nullable(DateTime64(3, 'UTC'))", "DateTime('UTC')", "Nullable(DateTime64(3, 'UTC'))"),
            // What fits, what the reader refuses by itself, and what is another reading of the same bytes.
            ("Int32", "Nullable(Int64)", "Nullable(Int64)"),
            ("Float64", "Float32", "Float32"),
            ("String", "Int32", "Int32"),
            ("Nullable(Date32)", "Nullable(Int32)", "Nullable(Int32)"),
        ] {
            assert_eq!(read_kind(&kind(found), kind(wanted)).to_string(), read, "{found} as {wanted}");
        }
    }
}
