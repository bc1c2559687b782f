//! Arrow values as text and as JSON. In: batches of an engine; out: what a person or a macro reads. It asks nothing.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    datatypes::{DataType, Float32Type, TimeUnit},
    util::display::{ArrayFormatter, FormatOptions},
};
use serde_json::Value;

/// The text of a value; `None` for NULL. Binary is read as UTF-8, since ClickHouse's String is bytes.
pub fn text(array: &dyn Array, row: usize) -> Option<String> {
    if is_null(array, row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
        DataType::Binary => String::from_utf8_lossy(array.as_binary::<i32>().value(row)).into_owned(),
        DataType::LargeBinary => String::from_utf8_lossy(array.as_binary::<i64>().value(row)).into_owned(),
        // FixedString pads with zeros.
        DataType::FixedSizeBinary(_) => {
            String::from_utf8_lossy(array.as_fixed_size_binary().value(row)).trim_end_matches('\0').to_owned()
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys()[row];
            return text(dictionary.values().as_ref(), key);
        }
        DataType::Timestamp(unit, zone) => timestamp_text(array, row, *unit, zone.as_deref()),
        _ => ArrayFormatter::try_new(array, &FormatOptions::default())
            .map(|formatter| formatter.value(row).to_string())
            .unwrap_or_default(),
    })
}

/// As ClickHouse writes a time: `2024-03-02 15:00:00.123`.
fn timestamp_text(array: &dyn Array, row: usize, unit: TimeUnit, zone: Option<&str>) -> String {
    use arrow::datatypes::{
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    };
    let (seconds, nanos, digits) = match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 0, 0),
        TimeUnit::Millisecond => {
            let value = array.as_primitive::<TimestampMillisecondType>().value(row);
            (value.div_euclid(1_000), value.rem_euclid(1_000) * 1_000_000, 3)
        }
        TimeUnit::Microsecond => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            (value.div_euclid(1_000_000), value.rem_euclid(1_000_000) * 1_000, 6)
        }
        TimeUnit::Nanosecond => {
            let value = array.as_primitive::<TimestampNanosecondType>().value(row);
            (value.div_euclid(1_000_000_000), value.rem_euclid(1_000_000_000), 9)
        }
    };
    let Some(utc) = chrono::DateTime::from_timestamp(seconds, u32::try_from(nanos).unwrap_or(0)) else {
        return seconds.to_string();
    };
    let local = match zone.and_then(|zone| zone.parse::<chrono_tz::Tz>().ok()) {
        Some(zone) => utc.with_timezone(&zone).naive_local(),
        None => utc.naive_utc(),
    };
    match digits {
        0 => local.format("%Y-%m-%d %H:%M:%S").to_string(),
        3 => local.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        6 => local.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        _ => local.format("%Y-%m-%d %H:%M:%S%.9f").to_string(),
    }
}

/// The JSON of a value: numbers and booleans as such where JSON holds them exactly, all else as [`text`].
fn json(array: &ArrayRef, row: usize) -> Value {
    if is_null(array.as_ref(), row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => {
            let written = text(array.as_ref(), row).unwrap_or_default();
            written
                .parse::<i64>()
                .map(Value::from)
                .or_else(|_| written.parse::<u64>().map(Value::from))
                .unwrap_or(Value::String(written))
        }
        // As Python has it: the nearest double, with all its digits.
        DataType::Float32 => serde_json::Number::from_f64(f64::from(array.as_primitive::<Float32Type>().value(row)))
            .map_or_else(|| Value::String(text(array.as_ref(), row).unwrap_or_default()), Value::Number),
        DataType::Float64 => {
            let written = text(array.as_ref(), row).unwrap_or_default();
            written
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map_or(Value::String(written), Value::Number)
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|index| json(&items, index)).collect())
        }
        DataType::LargeList(_) => {
            let items = array.as_list::<i64>().value(row);
            Value::Array((0..items.len()).map(|index| json(&items, index)).collect())
        }
        DataType::Struct(fields) => {
            let structure = array.as_struct();
            Value::Object(
                fields
                    .iter()
                    .zip(structure.columns())
                    .map(|(field, column)| (field.name().clone(), json(column, row)))
                    .collect(),
            )
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            Value::Object(
                (0..entries.len())
                    .map(|index| (text(keys.as_ref(), index).unwrap_or_default(), json(values, index)))
                    .collect(),
            )
        }
        _ => text(array.as_ref(), row).map_or(Value::Null, Value::String),
    }
}

/// The value as dbt's `show --output json` has it: [`json`] with times as Python's `isoformat`, decimals as floats, arrays, maps
/// and tuples as text.
pub fn shown_json(array: &ArrayRef, row: usize) -> Value {
    let value = python_json(array, row);
    if value.is_array() || value.is_object() { Value::String(dumped(&value)) } else { value }
}

/// What Python's JSON encoder makes of the value under dbt.
fn python_json(array: &ArrayRef, row: usize) -> Value {
    if is_null(array.as_ref(), row) {
        return Value::Null;
    }
    let written = || text(array.as_ref(), row).unwrap_or_default();
    let items = |items: ArrayRef| (0..items.len()).map(|index| python_json(&items, index)).collect();
    match array.data_type() {
        DataType::Timestamp(..) => Value::String(isoformat(&written())),
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            written().parse().ok().and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number)
        }
        DataType::List(_) => Value::Array(items(array.as_list::<i32>().value(row))),
        DataType::LargeList(_) => Value::Array(items(array.as_list::<i64>().value(row))),
        DataType::Struct(fields) => {
            let values = array.as_struct().columns().iter().map(|column| python_json(column, row));
            let unnamed = fields.iter().enumerate().all(|(index, field)| *field.name() == (index + 1).to_string());
            if unnamed {
                Value::Array(values.collect())
            } else {
                Value::Object(fields.iter().map(|field| field.name().clone()).zip(values).collect())
            }
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let key = |index| text(keys.as_ref(), index).unwrap_or_default();
            Value::Object((0..entries.len()).map(|index| (key(index), python_json(values, index))).collect())
        }
        _ => json(array, row),
    }
}

/// `json.dumps`.
fn dumped(value: &Value) -> String {
    crate::render::json_text(&crate::render::Value::from_json(value), None, false).unwrap_or_default()
}

/// ClickHouse's text of a time as Python's: `2024-03-02T15:00:00.123000`, the fraction where it is not zero.
fn isoformat(written: &str) -> String {
    match chrono::NaiveDateTime::parse_from_str(written, "%Y-%m-%d %H:%M:%S%.f") {
        Ok(time) if chrono::Timelike::nanosecond(&time) < 1_000 => time.format("%Y-%m-%dT%H:%M:%S").to_string(),
        Ok(time) => time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        Err(_) => written.to_owned(),
    }
}

/// The value as templates see it, which is agate's view: dates, times and decimals as Python's objects, arrays, maps and tuples as
/// JSON text, all else as [`json`].
pub(super) fn template_value(array: &ArrayRef, row: usize) -> crate::render::Value {
    use crate::render::Value as Template;
    if is_null(array.as_ref(), row) {
        return Template::None;
    }
    let written = || text(array.as_ref(), row).unwrap_or_default();
    match array.data_type() {
        DataType::Date32 | DataType::Date64 => written()
            .get(..10)
            .and_then(|date| chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").ok())
            .map_or_else(|| Template::from(written()), Template::date),
        DataType::Timestamp(..) => chrono::NaiveDateTime::parse_from_str(&written(), "%Y-%m-%d %H:%M:%S%.f")
            .map_or_else(|_| Template::from(written()), Template::datetime),
        DataType::Decimal128(..) | DataType::Decimal256(..) => Template::decimal(&written()),
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            Template::str(dumped(&python_json(array, row)))
        }
        DataType::Float32 | DataType::Float64 => match json(array, row) {
            // Not a number, or infinite.
            Value::String(text) => Template::decimal(&text),
            number => Template::from_json(&number),
        },
        _ => Template::from_json(&json(array, row)),
    }
}

/// A column of nothing but NULL has no bitmap that says so.
fn is_null(array: &dyn Array, row: usize) -> bool {
    *array.data_type() == DataType::Null || array.is_null(row)
}

/// All rows as text.
pub fn rows(batches: &[RecordBatch]) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|column| text(column.as_ref(), row)).collect());
        }
    }
    rows
}
