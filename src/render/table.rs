//! The result of a query as templates see it: agate's `Table` with `columns`, `rows`, `print_table()` and so on.

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
