//! dbt's Python objects that are more than a dict: `results` of on-run-end, and `builtins.ref.config`, in which packages look for
//! versions, variables and arguments. In: JSON; out: values whose fields are attributes and which have `to_dict()`.

use std::sync::Arc;

use super::super::{Arguments, Interpreter, Object, RenderError, Value};

/// An object with these fields; those that are named in `nested` are objects too, or lists of objects.
pub fn dataclass(fields: &serde_json::Value, nested: &[&str]) -> Value {
    let of_field = |name: &str| -> Option<(Arc<str>, Value)> {
        let value = match fields.get(name)? {
            serde_json::Value::Array(items) => Value::list(items.iter().map(|item| dataclass(item, &[])).collect()),
            field => dataclass(field, &[]),
        };
        Some((Arc::from(name), value))
    };
    let nested = nested.iter().filter_map(|name| of_field(name)).collect();
    Value::object(Dataclass { fields: Value::from_json(fields), nested })
}

struct Dataclass {
    /// All fields, as a dict.
    fields: Value,
    nested: Vec<(Arc<str>, Value)>,
}

impl Dataclass {
    fn field(&self, name: &str) -> Option<Value> {
        let nested = self.nested.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone());
        nested.or_else(|| self.fields.get(name))
    }
}

impl Object for Dataclass {
    fn type_name(&self) -> &str {
        "dataclass"
    }

    fn repr(&self) -> String {
        self.fields.repr()
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(self.field(name))
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(key.as_str().and_then(|name| self.field(name)))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        _arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok((name == "to_dict").then(|| self.fields.clone()))
    }

    fn has_method(&self, name: &str) -> bool {
        name == "to_dict"
    }
}
