//! The result of a query: columns and rows. Templates see it as agate's `Table` (`builtins::table`).

use super::Value;

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    /// The ClickHouse type, where known.
    pub data_type: String,
}

/// Rows and columns, already converted to template values (dates as date objects, numbers as int or float).
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub columns: Vec<TableColumn>,
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// A table without known types.
    pub fn new(columns: impl IntoIterator<Item = impl Into<String>>, rows: Vec<Vec<Value>>) -> Self {
        let columns =
            columns.into_iter().map(|name| TableColumn { name: name.into(), data_type: String::new() }).collect();
        Self { columns, rows }
    }

    /// agate's name for the type that all values of a column have: `Integer`, `Number`, `Boolean`, `Date`, `DateTime`,
    /// `Text`. Empty columns count as `Integer`, agate's first guess.
    pub fn inferred_type(&self, column: usize) -> Option<&'static str> {
        let mut kind = None;
        for value in self.rows.iter().filter_map(|row| row.get(column)) {
            let this = match value {
                Value::None => continue,
                Value::Int(_) => "Integer",
                Value::Float(_) => "Number",
                Value::Bool(_) => "Boolean",
                Value::Object(object) => match object.type_name() {
                    "date" => "Date",
                    "datetime" => "DateTime",
                    "Decimal" => "Number",
                    _ => "Text",
                },
                _ => "Text",
            };
            kind = Some(match (kind, this) {
                (None, this) => this,
                (Some(kind), this) if kind == this => kind,
                (Some("Integer" | "Number"), "Integer" | "Number") => "Number",
                (Some("Date" | "DateTime"), "Date" | "DateTime") => "DateTime",
                _ => "Text",
            });
        }
        (column < self.columns.len()).then(|| kind.unwrap_or("Integer"))
    }

    /// Comma-separated text, quoted where needed.
    pub fn csv(&self, header: bool) -> String {
        let cell = |text: &str| {
            if text.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let mut out = String::new();
        if header {
            let names: Vec<_> = self.columns.iter().map(|column| cell(&column.name)).collect();
            out.push_str(&names.join(","));
            out.push('\n');
        }
        for row in &self.rows {
            let cells: Vec<_> =
                row.iter().map(|value| if value.is_none() { String::new() } else { cell(&value.text()) }).collect();
            out.push_str(&cells.join(","));
            out.push('\n');
        }
        out
    }
}
