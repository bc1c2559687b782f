//! The SQL expressions that all statements of a snapshot share: what is open, ids, times. In: a spec and what is known of
//! the table's columns; out: text. Pure.

use chrono::{DateTime, Utc};

use super::spec::{MetaColumns, SnapshotSpec, Strategy};
use crate::engine::{quote_identifier, quote_string};

/// The type of times that a check snapshot writes: of the run, to the microsecond.
pub(super) const RUN_TIME_TYPE: &str = "DateTime64(6, 'UTC')";

/// A moment as a ClickHouse literal.
pub(super) fn time_literal(time: DateTime<Utc>) -> String {
    format!("toDateTime64('{}', 6, 'UTC')", time.format("%Y-%m-%d %H:%M:%S%.6f"))
}

/// The condition that a row is the current one of its key. `current` is the value of `valid_to` in open rows.
pub(super) fn is_open(names: &MetaColumns, current: Option<&str>) -> String {
    let valid_to = quote_identifier(&names.valid_to);
    match current {
        None => format!("isNull({valid_to})"),
        Some(current) => format!("({valid_to} = {current} OR isNull({valid_to}))"),
    }
}

/// [`is_open`] as a value that is never NULL: the partition key of a snapshot's table.
pub(super) fn open_partition_key(names: &MetaColumns, current: Option<&str>) -> String {
    let valid_to = quote_identifier(&names.valid_to);
    match current {
        None => format!("isNull({valid_to})"),
        Some(current) => format!("ifNull({valid_to} = {current}, 1)"),
    }
}

/// `dbt_valid_to_current` as a value of the column's type, so that what is written is what is compared.
pub(super) fn current_value(expression: &str, valid_to_type: &str) -> String {
    format!("CAST(({expression}) AS {valid_to_type})")
}

/// The id of a version. dbt-clickhouse's tables have halfMD5 as UInt64 and keep it; new ones have 32 hexadecimal digits of
/// what no other version shares: key, begin and run.
pub(super) fn scd_id(spec: &SnapshotSpec<'_>, scd_id_type: &str, keys: &[String], valid_from: &str) -> String {
    if let Strategy::Custom { scd_id: Some(given), .. } = &spec.strategy {
        return given.clone();
    }
    let (inner, _) = super::column_types::unwrap(scd_id_type);
    if inner.starts_with("UInt") || inner.starts_with("Int") {
        let mut parts: Vec<String> = keys.iter().map(|key| format!("ifNull(toString({key}), '')")).collect();
        parts.push(format!("ifNull(toString({valid_from}), '')"));
        return format!("halfMD5(concat({}))", parts.join(", '|', "));
    }
    let run = quote_string(&spec.run_at.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
    format!("lower(hex(MD5(toString(tuple({}, toString({valid_from}), {run})))))", keys.join(", "))
}

/// How rows of the table are matched with staged ones. A 64-bit id alone could be another row's by accident.
pub(super) fn matching(names: &MetaColumns, scd_id_type: &str) -> String {
    let scd_id = quote_identifier(&names.scd_id);
    let (inner, _) = super::column_types::unwrap(scd_id_type);
    if inner.starts_with("UInt") || inner.starts_with("Int") {
        format!("({scd_id}, {})", quote_identifier(&names.valid_from))
    } else {
        scd_id
    }
}

/// `` source_data.`__dbt_key_1` `` and so on.
pub(super) fn key_columns(alias: &str, count: usize) -> Vec<String> {
    (1..=count).map(|index| format!("{alias}.`__dbt_key_{index}`")).collect()
}
