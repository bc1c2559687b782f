//! Unit tests: a model's SQL over given rows answers the expected rows. In: fixture rows and column types; out: SELECTs that
//! stand in for relations, and the difference between what was expected and what came. No table is made, so every type
//! works.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    adapter::{Adapter, ColumnInfo},
    engine::{quote_identifier, quote_string},
    materialize::MaterializeError,
    printer::table_text,
};

/// Fixture rows: by column, or SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum Fixture {
    Rows(Vec<Map<String, Value>>),
    Sql(String),
}

impl Fixture {
    /// Rows as a properties file or a fixture file holds them.
    ///
    /// # Errors
    /// The text is no CSV, or the rows are no list of mappings.
    pub fn parse(rows: Option<&Value>, format: &str, file: Option<&str>) -> Result<Self, MaterializeError> {
        let wrong = |reason: String| MaterializeError::config("unit_tests", reason);
        match (format, rows, file) {
            ("sql", Some(Value::String(sql)), _) => Ok(Self::Sql(sql.trim().trim_end_matches(';').to_owned())),
            ("sql", _, Some(sql)) => Ok(Self::Sql(sql.trim().trim_end_matches(';').to_owned())),
            ("csv", Some(Value::String(text)), _) => Ok(Self::Rows(csv_rows(text).map_err(wrong)?)),
            ("csv", _, Some(text)) => Ok(Self::Rows(csv_rows(text).map_err(wrong)?)),
            (_, Some(Value::Array(items)), _) => items
                .iter()
                .map(|item| {
                    item.as_object()
                        .cloned()
                        .ok_or_else(|| wrong(format!("`{item}` is no mapping of columns to values")))
                })
                .collect::<Result<_, _>>()
                .map(Self::Rows),
            (_, None | Some(Value::Null), _) => Ok(Self::Rows(Vec::new())),
            (format, ..) => Err(wrong(format!("rows of the format `{format}` are not what they should be"))),
        }
    }

    /// A SELECT of the rows, with the types of these columns; what a row leaves out is NULL, or the type's default.
    ///
    /// # Errors
    /// A row has a column that the relation does not have.
    pub fn select(&self, columns: &[ColumnInfo], name: &str) -> Result<String, MaterializeError> {
        let rows = match self {
            Self::Sql(sql) => return Ok(sql.clone()),
            Self::Rows(rows) => rows,
        };
        for column in rows.iter().flat_map(Map::keys) {
            if !columns.iter().any(|known| known.name.eq_ignore_ascii_case(column)) {
                let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                let reason = format!(
                    "Invalid column name: '{column}' in unit test fixture for '{name}'. Accepted columns for '{name}' are: {known:?}"
                );
                return Err(MaterializeError::config("unit_tests", reason));
            }
        }
        if rows.is_empty() {
            let empty: Vec<String> = columns.iter().map(|column| typed(column, &Value::Null)).collect();
            return Ok(format!("SELECT {} WHERE 0", empty.join(", ")));
        }
        let selects: Vec<String> = rows
            .iter()
            .map(|row| {
                let values: Vec<String> = columns
                    .iter()
                    .map(|column| {
                        let value = row
                            .iter()
                            .find(|(name, _)| name.eq_ignore_ascii_case(&column.name))
                            .map_or(&Value::Null, |(_, value)| value);
                        typed(column, value)
                    })
                    .collect();
                format!("SELECT {}", values.join(", "))
            })
            .collect();
        Ok(selects.join("\nUNION ALL\n"))
    }

    /// The columns that the rows name, in the order of the relation.
    fn named(&self, columns: &[ColumnInfo]) -> Vec<ColumnInfo> {
        match self {
            Self::Sql(_) => columns.to_vec(),
            Self::Rows(rows) => columns
                .iter()
                .filter(|column| rows.iter().any(|row| row.keys().any(|name| name.eq_ignore_ascii_case(&column.name))))
                .cloned()
                .collect(),
        }
    }
}

fn csv_rows(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.trim().as_bytes());
    let headers: Vec<String> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|error| error.to_string())?;
            Ok(headers
                .iter()
                .zip(&record)
                .map(|(name, value)| {
                    let value = if value.is_empty() || value == "null" { Value::Null } else { Value::from(value) };
                    (name.clone(), value)
                })
                .collect())
        })
        .collect()
}

/// `CAST('…' AS type) AS name`.
fn typed(column: &ColumnInfo, value: &Value) -> String {
    let data_type = &column.data_type;
    let name = column.quoted();
    let is_json = data_type == "JSON" || data_type.starts_with("JSON(");
    if has_mapping(value) && (is_json || data_type.contains("Tuple(")) {
        let (json, data_type) = (quote_string(&value.to_string()), quote_string(data_type));
        let parsed =
            if is_json { format!("CAST({json}, {data_type})") } else { format!("JSONExtract({json}, {data_type})") };
        return format!("{parsed} AS {name}");
    }
    match literal(value, false) {
        // A text becomes no Map, but an Array of them.
        Some(text) if data_type.starts_with("Map(") => {
            format!("CAST({} AS Array({data_type}))[1] AS {name}", quote_string(&format!("[{text}]")))
        }
        Some(text) => format!("CAST({} AS {data_type}) AS {name}", quote_string(&text)),
        None if takes_null(data_type) => format!("CAST(NULL AS {data_type}) AS {name}"),
        None => format!("defaultValueOfTypeName({}) AS {name}", quote_string(data_type)),
    }
}

/// Arrays, maps and tuples cannot be NULL, whatever is in them.
fn takes_null(data_type: &str) -> bool {
    ["Nullable(", "LowCardinality(Nullable(", "Variant(", "Dynamic"].iter().any(|start| data_type.starts_with(start))
}

/// Whether a value names its parts, as tuples and JSON do.
fn has_mapping(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(has_mapping),
        _ => false,
    }
}

/// The text that ClickHouse casts; inside of arrays and maps texts are quoted.
fn literal(value: &Value, inside: bool) -> Option<String> {
    Some(match value {
        Value::Null if inside => "NULL".to_owned(),
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if inside => quote_string(text),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(|item| literal(item, true)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .filter_map(|(key, value)| Some(format!("{}: {}", quote_string(key), literal(value, true)?)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
    })
}

/// Runs the model's SQL and compares its rows, whatever their order, with the expected ones, on the columns that those
/// name. `None` where they are equal; otherwise the difference as a table.
///
/// # Errors
/// The SQL fails, or a fixture does not fit.
pub fn compare(
    sql: &str,
    expected: &Fixture,
    name: &str,
    adapter: &mut Adapter,
) -> Result<Option<String>, MaterializeError> {
    let columns = adapter.query_columns(sql, &[])?;
    let named = match expected {
        Fixture::Sql(sql) => {
            let wanted = adapter.query_columns(sql, &[])?;
            columns.iter().filter(|column| wanted.iter().any(|wanted| wanted.name == column.name)).cloned().collect()
        }
        Fixture::Rows(rows) if rows.is_empty() => columns.clone(),
        Fixture::Rows(_) => expected.named(&columns),
    };
    let wanted = texts(&expected.select(&columns, name)?, &named, adapter)?;
    let found = texts(sql, &named, adapter)?;
    let mut balance: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for row in &found {
        *balance.entry(row.clone()).or_default() += 1;
    }
    for row in &wanted {
        *balance.entry(row.clone()).or_default() -= 1;
    }
    if balance.values().all(|count| *count == 0) {
        return Ok(None);
    }
    let mut header = vec!["@@"];
    header.extend(named.iter().map(|column| column.name.as_str()));
    let mut rows = Vec::new();
    for (row, count) in balance {
        let mark = match count.signum() {
            1 => "+++",
            -1 => "---",
            _ => "",
        };
        for _ in 0..count.unsigned_abs().max(1) {
            let mut line = vec![mark.to_owned()];
            line.extend(row.iter().cloned());
            rows.push(line);
        }
    }
    let table = table_text(&header, &rows, &[]);
    Ok(Some(format!("actual differs from expected (`+++` came, `---` was expected):\n\n{table}")))
}

/// The rows of a query as texts, these columns only.
fn texts(sql: &str, columns: &[ColumnInfo], adapter: &mut Adapter) -> Result<Vec<Vec<String>>, MaterializeError> {
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let name = quote_identifier(&column.name);
            // Both sides are compared as the type that the model answers with.
            format!("toString(CAST({name} AS {}))", column.data_type)
        })
        .collect();
    let query = format!("SELECT {} FROM (\n{}\n)", values.join(", "), sql.trim_end());
    let rows = adapter.rows(&query)?;
    Ok(rows
        .into_iter()
        .map(|row| row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_become_typed_selects() {
        let columns = [
            ColumnInfo::new("id", "Int32"),
            ColumnInfo::new("tags", "Array(String)"),
            ColumnInfo::new("n", "Nullable(Int8)"),
        ];
        let rows = Fixture::parse(Some(&json!([{"id": 1, "tags": ["a", "it's"]}])), "dict", None).unwrap();
        assert_eq!(
            rows.select(&columns, "x").unwrap(),
            "SELECT CAST('1' AS Int32) AS `id`, CAST('[\\'a\\', \\'it\\\\\\'s\\']' AS Array(String)) AS `tags`, CAST(NULL AS Nullable(Int8)) AS `n`"
        );
        let csv = Fixture::parse(Some(&json!("id,n\n1,\n2,5\n")), "csv", None).unwrap();
        assert_eq!(csv.named(&columns).len(), 2);
        assert!(csv.select(&columns, "x").unwrap().contains("CAST('2' AS Int32) AS `id`"));
        let wrong = Fixture::parse(Some(&json!([{"nope": 1}])), "dict", None).unwrap();
        assert!(wrong.select(&columns, "x").unwrap_err().to_string().contains("Invalid column name: 'nope'"));
    }
}
