//! What `statement` keeps, by name, and hands out again.

use std::sync::Arc;

use super::{
    super::{
        super::{Arguments, Interpreter, Object, RenderError, Response, Table, Value, interpret::StoredResult},
        table::{table_of, table_value},
    },
    text, warehouse_error,
};

struct AdapterResponse {
    response: Response,
}

/// dbt's `AdapterResponse` as a template value.
pub(crate) fn response_value(response: &Response) -> Value {
    Value::object(AdapterResponse { response: response.clone() })
}

impl Object for AdapterResponse {
    fn type_name(&self) -> &str {
        "AdapterResponse"
    }

    fn text(&self) -> String {
        self.response.message.clone()
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let response = &self.response;
        Ok(Some(match name {
            "_message" | "message" => Value::str(response.message.as_str()),
            "code" => Value::from(response.code.as_deref()),
            "rows_affected" => Value::from(response.rows_affected),
            "query_id" => Value::from(response.query_id.as_deref()),
            _ => return Ok(None),
        }))
    }
}

fn store(interpreter: &mut Interpreter<'_>, name: &str, response: Value, table: Option<Value>) {
    let table = table.and_then(|table| table_of(&table)).unwrap_or_default();
    let kept = match response.downcast::<AdapterResponse>() {
        Some(response) => response.response.clone(),
        None => Response { message: response.text().to_string(), ..Response::default() },
    };
    let rows = table.rows.iter().map(|row| Value::tuple(row.clone())).collect();
    let value = Value::record([
        ("response", response),
        ("data", Value::list(rows)),
        ("table", table_value(Arc::clone(&table))),
    ]);
    let stored = StoredResult { response: kept, table, value };
    interpreter.kept.insert(name.to_owned(), stored.clone());
    interpreter.results.insert(name.to_owned(), Some(stored));
}

/// Keeps a result under a name, as `statement` does.
pub(crate) fn keep_result(interpreter: &mut Interpreter<'_>, name: &str, response: &Response, table: Arc<Table>) {
    store(interpreter, name, response_value(response), Some(table_value(table)));
}

pub(in crate::render::builtins) fn store_result(
    interpreter: &mut Interpreter<'_>,
    arguments: Arguments,
) -> Result<Value, RenderError> {
    let [name, response, table] = arguments.bind("store_result", ["name", "response", "agate_table"], 2)?;
    store(interpreter, &text(name), response.unwrap_or_default(), table);
    Ok(Value::str(""))
}

pub(in crate::render::builtins) fn store_raw_result(
    interpreter: &mut Interpreter<'_>,
    arguments: Arguments,
) -> Result<Value, RenderError> {
    let [name, message, code, rows, table] =
        arguments.bind("store_raw_result", ["name", "message", "code", "rows_affected", "agate_table"], 1)?;
    let response = Response {
        message: text(message),
        code: code.filter(|code| !code.is_none()).map(|code| code.text().to_string()),
        rows_affected: rows.and_then(|rows| rows.as_int()).and_then(|rows| i64::try_from(rows).ok()),
        query_id: None,
    };
    store(interpreter, &text(name), response_value(&response), table);
    Ok(Value::str(""))
}

/// A result is handed out once, except for `main`.
pub(in crate::render::builtins) fn load_result(
    interpreter: &mut Interpreter<'_>,
    arguments: Arguments,
) -> Result<Value, RenderError> {
    let [name] = arguments.bind("load_result", ["name"], 1)?;
    let name = text(name);
    match interpreter.results.get_mut(&name) {
        None => Ok(Value::None),
        Some(slot) => match slot.take() {
            None => Err(RenderError::compilation(format!(
                "The 'statement' result named '{name}' has already been loaded into a variable"
            ))),
            Some(stored) => {
                let value = stored.value.clone();
                if name == "main" {
                    *slot = Some(stored);
                }
                Ok(value)
            }
        },
    }
}

pub(in crate::render::builtins) fn load_agate_table(
    interpreter: &mut Interpreter<'_>,
    _arguments: Arguments,
) -> Result<Value, RenderError> {
    let table = match interpreter.services.warehouse {
        Some(warehouse) => warehouse.seed_table().map_err(warehouse_error)?,
        None => None,
    };
    match table {
        Some(table) => Ok(table_value(Arc::new(table))),
        None => Err(RenderError::compilation(format!(
            "can only load_agate_table for seeds (got a {})",
            interpreter.node.resource_type
        ))),
    }
}
