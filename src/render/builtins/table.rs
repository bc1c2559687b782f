//! agate's `Table` as templates use it: `columns` and `rows` by position and by name, and its methods.

use std::sync::Arc;

use super::{
    super::{
        Arguments, Interpreter, Key, Map, Object, RenderError, Table, TableColumn, Value, methods,
        operators::{self, iterate},
    },
    json::json_text,
};

struct TableObject {
    table: Arc<Table>,
}

/// A table as a template value.
pub(crate) fn table_value(table: Arc<Table>) -> Value {
    Value::object(TableObject { table })
}

/// The table behind a value.
pub(super) fn table_of(value: &Value) -> Option<Arc<Table>> {
    value.downcast::<TableObject>().map(|object| Arc::clone(&object.table))
}

fn column_index(table: &Table, key: &Value) -> Option<usize> {
    match key {
        Value::Str(name) => table.columns.iter().position(|column| column.name == **name),
        other => operators::index(other.as_int()?, table.columns.len()),
    }
}

fn selected(table: &Table, key: &Value) -> Result<Vec<usize>, RenderError> {
    let keys = match key {
        Value::Str(_) => vec![key.clone()],
        other => iterate(other)?,
    };
    keys.iter().map(|key| column_index(table, key).ok_or_else(|| RenderError::compilation(key.repr()))).collect()
}

fn project(table: &Table, columns: &[usize]) -> Value {
    table_value(Arc::new(Table {
        columns: columns.iter().map(|index| table.columns[*index].clone()).collect(),
        rows: table.rows.iter().map(|row| columns.iter().map(|index| row[*index].clone()).collect()).collect(),
    }))
}

fn with_rows(table: &Table, rows: Vec<Vec<Value>>) -> Value {
    table_value(Arc::new(Table { columns: table.columns.clone(), rows }))
}

impl TableObject {
    fn print_table(&self, rows: usize, columns: usize) -> String {
        let table = &self.table;
        let shown = columns.min(table.columns.len());
        let mut lines = vec![table.columns[..shown].iter().map(|column| column.name.clone()).collect::<Vec<_>>()];
        for row in table.rows.iter().take(rows) {
            lines.push(
                row[..shown]
                    .iter()
                    .map(|value| if value.is_none() { String::new() } else { value.text().to_string() })
                    .collect(),
            );
        }
        if columns < table.columns.len() {
            for line in &mut lines {
                line.push("...".into());
            }
        }
        let count = lines.first().map_or(0, Vec::len);
        let widths: Vec<usize> =
            (0..count).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
        let numeric: Vec<bool> =
            (0..count).map(|column| matches!(table.inferred_type(column), Some("Integer" | "Number"))).collect();
        let mut out = String::new();
        for (index, line) in lines.iter().enumerate() {
            let cells: Vec<String> = line
                .iter()
                .zip(widths.iter().zip(&numeric))
                .map(
                    |(cell, (width, numeric))| {
                        if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                    },
                )
                .collect();
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
            if index == 0 {
                let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                out.push_str(&format!("| {} |\n", dashes.join(" | ")));
            }
        }
        out
    }
}

impl Object for TableObject {
    fn type_name(&self) -> &str {
        "Table"
    }

    fn text(&self) -> String {
        let mut out = String::from("| column | data_type |\n| ------ | --------- |\n");
        for (index, column) in self.table.columns.iter().enumerate() {
            out.push_str(&format!("| {} | {} |\n", column.name, self.table.inferred_type(index).unwrap_or("Text")));
        }
        out
    }

    fn repr(&self) -> String {
        "<agate.table.Table object>".into()
    }

    fn is_true(&self) -> bool {
        !self.table.rows.is_empty()
    }

    fn length(&self) -> Option<usize> {
        Some(self.table.rows.len())
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some((0..self.table.rows.len()).map(|index| row_value(&self.table, index)).collect())
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "print_table"
                | "print_csv"
                | "print_json"
                | "to_json"
                | "to_csv"
                | "select"
                | "exclude"
                | "rename"
                | "limit"
                | "order_by"
                | "where"
                | "find"
                | "distinct"
                | "group_by"
        )
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let index = key.as_int().and_then(|index| operators::index(index, self.table.rows.len()));
        Ok(index.map(|index| row_value(&self.table, index)))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let table = &self.table;
        Ok(Some(match name {
            "columns" => Value::object(Columns { table: Arc::clone(table) }),
            "rows" => Value::object(Rows { table: Arc::clone(table) }),
            "column_names" => {
                Value::tuple(table.columns.iter().map(|column| Value::str(column.name.as_str())).collect())
            }
            "column_types" => Value::tuple(
                (0..table.columns.len())
                    .map(|index| Value::str(format!("<agate.{}>", table.inferred_type(index).unwrap_or("Text"))))
                    .collect(),
            ),
            "row_names" => Value::None,
            _ => return Ok(None),
        }))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let table = &self.table;
        let mut arguments = arguments.clone();
        let number = |value: Option<Value>, default: usize| {
            value.and_then(|value| value.as_int()).and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
        };
        Ok(Some(match name {
            "print_table" => {
                let rows = number(arguments.take_keyword("max_rows"), 20);
                let columns = number(arguments.take_keyword("max_columns"), 6);
                let text = self.print_table(rows, columns);
                interpreter.services.events.print(&interpreter.node, text.trim_end());
                Value::None
            }
            "print_csv" => {
                interpreter.services.events.print(&interpreter.node, table.csv(true).trim_end());
                Value::None
            }
            "to_csv" => Value::str(table.csv(true)),
            "print_json" | "to_json" => {
                let rows = self.iterate().unwrap_or_default().iter().map(record).collect();
                let text = json_text(&Value::list(rows), None, false)?;
                if name == "print_json" {
                    interpreter.services.events.print(&interpreter.node, &text);
                    Value::None
                } else {
                    Value::str(text)
                }
            }
            "select" => {
                let [key] = arguments.bind(name, ["key"], 1)?;
                project(table, &selected(table, &key.unwrap_or_default())?)
            }
            "exclude" => {
                let [key] = arguments.bind(name, ["key"], 1)?;
                let left_out = selected(table, &key.unwrap_or_default())?;
                let kept: Vec<usize> = (0..table.columns.len()).filter(|index| !left_out.contains(index)).collect();
                project(table, &kept)
            }
            "rename" => {
                let names = arguments.take_keyword("column_names").or_else(|| arguments.positional.first().cloned());
                let mut renamed = Table::clone(table);
                match names {
                    Some(Value::Dict(names)) => {
                        for column in &mut renamed.columns {
                            if let Some(name) = methods::entry(&names, &column.name) {
                                column.name = name.text().to_string();
                            }
                        }
                    }
                    Some(names) => {
                        for (column, name) in renamed.columns.iter_mut().zip(iterate(&names)?) {
                            *column =
                                TableColumn { name: name.text().to_string(), data_type: column.data_type.clone() };
                        }
                    }
                    None => {}
                }
                table_value(Arc::new(renamed))
            }
            "limit" => {
                let [first, second, step] = arguments.bind(name, ["start_or_stop", "stop", "step"], 0)?;
                let (start, stop) = match second {
                    Some(stop) => (number(first, 0), number(Some(stop), usize::MAX)),
                    None => (0, number(first, usize::MAX)),
                };
                let step = number(step, 1).max(1);
                let rows = table.rows.iter().take(stop).skip(start).step_by(step).cloned().collect();
                with_rows(table, rows)
            }
            "order_by" => {
                let [key, reverse] = arguments.bind(name, ["key", "reverse"], 1)?;
                let columns = selected(table, &key.unwrap_or_default())?;
                let keyed = table
                    .rows
                    .iter()
                    .map(|row| {
                        let key = Value::tuple(columns.iter().map(|index| row[*index].clone()).collect());
                        (key, Value::list(row.clone()))
                    })
                    .collect();
                let sorted = methods::sort_keyed(keyed, reverse.is_some_and(|reverse| reverse.is_true()))?;
                with_rows(table, sorted.iter().map(|row| row.iterate().unwrap_or_default()).collect())
            }
            "where" | "find" => {
                let [test] = arguments.bind(name, ["test"], 1)?;
                let test = test.unwrap_or_default();
                let mut kept = Vec::new();
                for (index, row) in table.rows.iter().enumerate() {
                    let row_object = row_value(table, index);
                    if interpreter.call(&test, Arguments::positional(vec![row_object.clone()]))?.is_true() {
                        if name == "find" {
                            return Ok(Some(row_object));
                        }
                        kept.push(row.clone());
                    }
                }
                if name == "find" { Value::None } else { with_rows(table, kept) }
            }
            "distinct" => {
                let [key] = arguments.bind(name, ["key"], 0)?;
                let columns = match key {
                    Some(key) if !key.is_none() => selected(table, &key)?,
                    _ => (0..table.columns.len()).collect(),
                };
                let mut seen = indexmap::IndexSet::new();
                let rows = table
                    .rows
                    .iter()
                    .filter(|row| {
                        seen.insert(Key(Value::tuple(columns.iter().map(|index| row[*index].clone()).collect())))
                    })
                    .cloned()
                    .collect();
                with_rows(table, rows)
            }
            "group_by" => {
                let [key] = arguments.bind(name, ["key"], 1)?;
                let key = key.unwrap_or_default();
                let Some(column) = column_index(table, &key) else {
                    return Err(RenderError::compilation(key.repr()));
                };
                let mut groups: indexmap::IndexMap<Key, Vec<Vec<Value>>> = indexmap::IndexMap::new();
                for row in &table.rows {
                    groups.entry(Key(row[column].clone())).or_default().push(row.clone());
                }
                let groups: Map = groups.into_iter().map(|(key, rows)| (key, with_rows(table, rows))).collect();
                Value::dict(groups)
            }
            _ => return Ok(None),
        }))
    }
}

/// A row as a dict.
fn record(row: &Value) -> Value {
    match row.downcast::<Row>() {
        Some(row) => row.dict(),
        None => row.clone(),
    }
}

struct Rows {
    table: Arc<Table>,
}

impl Object for Rows {
    fn type_name(&self) -> &str {
        "MappedSequence"
    }

    fn is_true(&self) -> bool {
        !self.table.rows.is_empty()
    }

    fn length(&self) -> Option<usize> {
        Some(self.table.rows.len())
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some((0..self.table.rows.len()).map(|index| row_value(&self.table, index)).collect())
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let index = key.as_int().and_then(|index| operators::index(index, self.table.rows.len()));
        Ok(index.map(|index| row_value(&self.table, index)))
    }

    fn has_method(&self, name: &str) -> bool {
        name == "values"
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        _arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok((name == "values").then(|| Value::tuple(self.iterate().unwrap_or_default())))
    }
}

struct Row {
    table: Arc<Table>,
    index: usize,
}

fn row_value(table: &Arc<Table>, index: usize) -> Value {
    Value::object(Row { table: Arc::clone(table), index })
}

impl Row {
    fn values(&self) -> &[Value] {
        &self.table.rows[self.index]
    }

    fn names(&self) -> impl Iterator<Item = Value> + '_ {
        self.table.columns.iter().map(|column| Value::str(column.name.as_str()))
    }

    fn dict(&self) -> Value {
        Value::dict(self.names().map(Key).zip(self.values().iter().cloned()).collect())
    }
}

impl Object for Row {
    fn type_name(&self) -> &str {
        "Row"
    }

    fn text(&self) -> String {
        self.repr()
    }

    fn repr(&self) -> String {
        // agate shows the first five.
        let mut shown: Vec<String> = self.values().iter().take(5).map(Value::repr).collect();
        if self.values().len() > 5 {
            shown.push("...".into());
        }
        format!("<agate.Row: ({})>", shown.join(", "))
    }

    fn length(&self) -> Option<usize> {
        Some(self.values().len())
    }

    fn is_true(&self) -> bool {
        !self.values().is_empty()
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some(self.values().to_vec())
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        Some(other.iterate().is_some_and(|other| other == self.values()))
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(column_index(&self.table, key).and_then(|index| self.values().get(index).cloned()))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "keys" | "values" | "items" | "get" | "dict")
    }

    fn to_json(&self) -> Option<serde_json::Value> {
        Some(Value::list(self.values().to_vec()).to_json())
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok(Some(match name {
            "keys" => Value::tuple(self.names().collect()),
            "values" => Value::tuple(self.values().to_vec()),
            "items" => Value::list(
                self.names().zip(self.values()).map(|(name, value)| Value::tuple(vec![name, value.clone()])).collect(),
            ),
            "dict" => self.dict(),
            "get" => {
                let [key, default] = arguments.clone().bind(name, ["key", "default"], 1)?;
                let found = column_index(&self.table, &key.unwrap_or_default());
                match found.and_then(|index| self.values().get(index)) {
                    Some(value) => value.clone(),
                    None => default.unwrap_or_default(),
                }
            }
            _ => return Ok(None),
        }))
    }
}

struct Columns {
    table: Arc<Table>,
}

impl Columns {
    fn all(&self) -> impl Iterator<Item = Value> + '_ {
        (0..self.table.columns.len()).map(|index| column(&self.table, index))
    }
}

fn column(table: &Arc<Table>, index: usize) -> Value {
    Value::object(ColumnOfTable { table: Arc::clone(table), index })
}

impl Object for Columns {
    fn type_name(&self) -> &str {
        "MappedSequence"
    }

    fn is_true(&self) -> bool {
        !self.table.columns.is_empty()
    }

    fn length(&self) -> Option<usize> {
        Some(self.table.columns.len())
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some(self.all().collect())
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(column_index(&self.table, key).map(|index| column(&self.table, index)))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "keys" | "values" | "items" | "get" | "dict")
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let names = || self.table.columns.iter().map(|column| Value::str(column.name.as_str()));
        Ok(Some(match name {
            "keys" => Value::tuple(names().collect()),
            "values" => Value::tuple(self.all().collect()),
            "items" => {
                Value::list(names().zip(self.all()).map(|(name, column)| Value::tuple(vec![name, column])).collect())
            }
            "dict" => Value::dict(names().map(Key).zip(self.all()).collect()),
            "get" => {
                let [key, default] = arguments.clone().bind(name, ["key", "default"], 1)?;
                match column_index(&self.table, &key.unwrap_or_default()) {
                    Some(index) => column(&self.table, index),
                    None => default.unwrap_or_default(),
                }
            }
            _ => return Ok(None),
        }))
    }
}

/// One column of a table.
struct ColumnOfTable {
    table: Arc<Table>,
    index: usize,
}

impl ColumnOfTable {
    fn values(&self) -> Vec<Value> {
        self.table.rows.iter().map(|row| row[self.index].clone()).collect()
    }
}

impl Object for ColumnOfTable {
    fn type_name(&self) -> &str {
        "Column"
    }

    fn repr(&self) -> String {
        format!("<agate.Column: {}>", Value::tuple(self.values()).repr())
    }

    fn length(&self) -> Option<usize> {
        Some(self.table.rows.len())
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some(self.values())
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let index = key.as_int().and_then(|index| operators::index(index, self.table.rows.len()));
        Ok(index.map(|index| self.table.rows[index][self.index].clone()))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let definition = &self.table.columns[self.index];
        Ok(Some(match name {
            "name" => Value::str(definition.name.as_str()),
            "index" => Value::from(self.index),
            "data_type" => Value::str(format!("<agate.{}>", self.table.inferred_type(self.index).unwrap_or("Text"))),
            _ => return Ok(None),
        }))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "values" | "values_distinct" | "values_without_nulls" | "values_sorted" | "values_without_nulls_sorted"
        )
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        _arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let mut values = self.values();
        if name.contains("without_nulls") {
            values.retain(|value| !value.is_none());
        }
        if name.ends_with("_sorted") {
            values = methods::sort(interpreter, values, None, false)?;
        }
        if name == "values_distinct" {
            let mut seen = indexmap::IndexSet::new();
            values.retain(|value| seen.insert(Key(value.clone())));
        }
        Ok(self.has_method(name).then(|| Value::tuple(values)))
    }
}
