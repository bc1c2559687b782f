//! The names of dbt's context: functions and objects that are not macros. [`context_value`] is the one place that says
//! which name means what, and in which order macros come before them.

mod adapter;
mod calls;
mod dataclass;
mod datetime;
mod decimal;
mod functions;
mod itertools;
mod json;
mod pytz;
mod regex;
mod relation;
mod table;

use std::sync::Arc;

use parking_lot::RwLock;

use super::{Arguments, Interpreter, Key, Macro, Map, Object, RenderError, TextKey, Value, operators};

pub(super) use adapter::keep_result;
pub use dataclass::dataclass;
pub(super) use functions::native_marker;
pub(crate) use json::json_text;

/// A function of the context.
pub(super) struct Native {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Interpreter<'_>, Arguments) -> Result<Value, RenderError>,
}

impl Object for Native {
    fn type_name(&self) -> &str {
        "function"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn repr(&self) -> String {
        format!("<function {}>", self.name)
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let knows_config = matches!(self.name, "ref" | "source") && name == "config";
        Ok(knows_config.then(|| interpreter.environment.runtime_config.clone()))
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        (self.run)(interpreter, arguments)
    }
}

pub(super) fn native(
    name: &'static str,
    run: fn(&mut Interpreter<'_>, Arguments) -> Result<Value, RenderError>,
) -> Value {
    Value::object(Native { name, run })
}

/// Jinja2's `namespace()`: the one object whose attributes can be assigned.
pub(super) struct Namespace {
    names: RwLock<Map>,
}

impl Namespace {
    pub(super) fn set(&self, name: &Arc<str>, value: Value) {
        self.names.write().insert(Key(Value::Str(Arc::clone(name))), value);
    }
}

impl Object for Namespace {
    fn type_name(&self) -> &str {
        "Namespace"
    }

    fn repr(&self) -> String {
        format!("<Namespace {}>", Value::dict(self.names.read_recursive().clone()).repr())
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(self.names.read_recursive().get(&TextKey(name)).cloned())
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(key.as_str().and_then(|name| self.names.read_recursive().get(&TextKey(name)).cloned()))
    }
}

/// One group of the `groupby` filter: a pair, also by the names `grouper` and `list`.
pub(super) struct Group {
    key: Value,
    items: Value,
}

impl Group {
    pub(super) fn new(key: Value, items: Vec<Value>) -> Self {
        Self { key, items: Value::list(items) }
    }
}

impl Object for Group {
    fn type_name(&self) -> &str {
        "_GroupTuple"
    }

    fn repr(&self) -> String {
        Value::tuple(vec![self.key.clone(), self.items.clone()]).repr()
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some(vec![self.key.clone(), self.items.clone()])
    }

    fn length(&self) -> Option<usize> {
        Some(2)
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(match name {
            "grouper" => Some(self.key.clone()),
            "list" => Some(self.items.clone()),
            _ => None,
        })
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let pair = [&self.key, &self.items];
        Ok(key.as_int().and_then(|index| operators::index(index, 2)).map(|index| pair[index].clone()))
    }
}

/// A macro of a file, as a value.
pub(super) struct MacroValue {
    definition: Arc<Macro>,
}

impl Object for MacroValue {
    fn type_name(&self) -> &str {
        "MacroGenerator"
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn repr(&self) -> String {
        format!("<macro {}>", self.definition.unique_id())
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        if let Some(value) = overridden(interpreter, &self.definition) {
            return Ok(value);
        }
        interpreter.call_registered(&self.definition, arguments)
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        Some(other.downcast::<Self>().is_some_and(|other| Arc::ptr_eq(&self.definition, &other.definition)))
    }
}

/// The fixed answer a unit test gives a macro.
fn overridden(interpreter: &Interpreter<'_>, definition: &Macro) -> Option<Value> {
    interpreter
        .node
        .macro_overrides
        .iter()
        .find(|(name, _)| match name.split_once('.') {
            Some((package, name)) => {
                name == definition.name
                    && (package == definition.package || (package == "dbt" && is_internal(&definition.package)))
            }
            None => *name == definition.name,
        })
        .map(|(_, value)| value.clone())
}

pub(super) fn macro_value(definition: &Arc<Macro>) -> Value {
    Value::object(MacroValue { definition: Arc::clone(definition) })
}

pub(super) fn is_internal(package: &str) -> bool {
    matches!(package, "dbt" | "dbt_clickhouse")
}

/// `dbt_utils` in `dbt_utils.star(…)`; `dbt` stands for all built-in packages.
struct Package {
    name: Arc<str>,
}

impl Object for Package {
    fn type_name(&self) -> &str {
        "dict"
    }

    fn repr(&self) -> String {
        format!("<macros of {}>", self.name)
    }

    fn is_mapping(&self) -> bool {
        true
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(package_macro(interpreter, &self.name, name).map(macro_value))
    }

    fn item(&self, key: &Value, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(key.as_str().and_then(|name| package_macro(interpreter, &self.name, name).map(macro_value)))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        if let Some(definition) = package_macro(interpreter, &self.name, name).cloned() {
            if let Some(value) = overridden(interpreter, &definition) {
                return Ok(Some(value));
            }
            return interpreter.call_registered(&definition, arguments.clone()).map(Some);
        }
        if name == "get" {
            let [key, default] = arguments.clone().bind("get", ["key", "default"], 1)?;
            let found = key
                .as_ref()
                .and_then(Value::as_str)
                .and_then(|name| package_macro(interpreter, &self.name, name).map(macro_value));
            return Ok(Some(found.unwrap_or_else(|| default.unwrap_or_default())));
        }
        Ok(None)
    }
}

/// `package.name`, where the package `dbt` is all built-ins with the adapter's before dbt's own.
pub(super) fn package_macro<'m>(interpreter: &Interpreter<'m>, package: &str, name: &str) -> Option<&'m Arc<Macro>> {
    let macros = &interpreter.environment.macros;
    if package == "dbt" {
        macros.in_package("dbt_clickhouse", name).or_else(|| macros.in_package("dbt", name))
    } else if is_internal(package) {
        None
    } else {
        macros.in_package(package, name)
    }
}

/// What a name means outside of the template's own scopes: names of this rendering, macros (the node's package, the root
/// project, packages by name, the built-ins), then the context's members, then Jinja2's globals.
pub(super) fn context_value(interpreter: &mut Interpreter<'_>, name: &str) -> Result<Option<Value>, RenderError> {
    if let Some((_, value)) = interpreter.node.extra.iter().rev().find(|(known, _)| known == name) {
        return Ok(Some(value.clone()));
    }
    if interpreter.yaml.is_some() {
        return calls::yaml_member(interpreter, name);
    }
    if let Some(value) = macro_or_package(interpreter, name) {
        return Ok(Some(value));
    }
    calls::member(interpreter, name)
}

fn macro_or_package(interpreter: &Interpreter<'_>, name: &str) -> Option<Value> {
    let environment = interpreter.environment;
    let macros = &environment.macros;
    let project = |package: &str| macros.in_package(package, name).filter(|_| !is_internal(package));
    if let Some(definition) = project(&interpreter.node.package).or_else(|| project(&environment.project_name)) {
        return Some(macro_value(definition));
    }
    if name == "dbt" || (macros.has_package(name) && !is_internal(name)) {
        return Some(Value::object(Package { name: name.into() }));
    }
    package_macro(interpreter, "dbt", name).map(macro_value)
}

/// A dict-like view of the whole context: `context['name']`.
struct Context {
    /// `builtins`: without macros and the names of this rendering.
    members_only: bool,
}

impl Context {
    fn find(&self, interpreter: &mut Interpreter<'_>, name: &str) -> Result<Option<Value>, RenderError> {
        if self.members_only { calls::member(interpreter, name) } else { context_value(interpreter, name) }
    }
}

impl Object for Context {
    fn type_name(&self) -> &str {
        "dict"
    }

    fn is_mapping(&self) -> bool {
        true
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        self.find(interpreter, name)
    }

    fn item(&self, key: &Value, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        match key.as_str() {
            Some(name) => self.find(interpreter, name),
            None => Ok(None),
        }
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        if name != "get" {
            return Ok(None);
        }
        let [key, default] = arguments.clone().bind("get", ["key", "default"], 1)?;
        let found = match key.as_ref().and_then(Value::as_str) {
            Some(name) => self.find(interpreter, name)?,
            None => None,
        };
        Ok(Some(found.unwrap_or_else(|| default.unwrap_or_default())))
    }
}

/// A dict of functions and constants (`modules.re`, `exceptions`, …) with string keys.
pub(super) fn module(entries: Vec<(&'static str, Value)>) -> Value {
    Value::record(entries)
}
