//! Python's values as Jinja2 sees them: mutable lists and dicts that are shared by reference, tuples, sets, big enough
//! integers, and objects with attributes and methods. Printing, comparing and hashing follow Python.

use std::{
    any::Any,
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use indexmap::{IndexMap, IndexSet};
use parking_lot::RwLock;

use super::{RenderError, interpret::Interpreter};

/// The inside of a dict: Python keeps insertion order.
pub type Map = IndexMap<Key, Value>;

/// A shared, mutable list.
pub type ListRef = Arc<RwLock<Vec<Value>>>;
/// A shared, mutable dict.
pub type DictRef = Arc<RwLock<Map>>;
/// A shared, mutable set.
pub type SetRef = Arc<RwLock<IndexSet<Key>>>;

/// A value of a template.
#[derive(Clone, Default)]
pub enum Value {
    /// A name or attribute that does not exist; prints as nothing, fails when it is used further.
    Undefined(Arc<Undefined>),
    #[default]
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    List(ListRef),
    Tuple(Arc<[Value]>),
    Dict(DictRef),
    Set(SetRef),
    Object(Arc<dyn Object>),
}

/// Why a value is undefined, for the message when it is used.
#[derive(Debug, Clone, Default)]
pub struct Undefined {
    pub name: String,
    /// The whole message where the name alone does not say it (`'dict object' has no attribute 'x'`).
    pub hint: Option<String>,
    /// Attributes and calls answer undefined again (dbt's schema.yml contexts).
    pub lenient: bool,
}

impl Undefined {
    /// Jinja2's text.
    pub fn message(&self) -> String {
        self.hint.clone().unwrap_or_else(|| format!("'{}' is undefined", self.name))
    }
}

/// Arguments of a call.
#[derive(Clone, Default)]
pub struct Arguments {
    pub positional: Vec<Value>,
    pub keywords: Vec<(Arc<str>, Value)>,
}

impl Arguments {
    pub fn positional(positional: Vec<Value>) -> Self {
        Self { positional, keywords: Vec::new() }
    }

    /// The keyword's value, taken out.
    pub fn take_keyword(&mut self, name: &str) -> Option<Value> {
        let index = self.keywords.iter().position(|(keyword, _)| &**keyword == name)?;
        Some(self.keywords.remove(index).1)
    }
}

/// A value with behaviour of its own: functions, macros, relations, dates, tables, `adapter`, …
pub trait Object: Send + Sync + Any {
    /// Python's `type(x).__name__`.
    fn type_name(&self) -> &str;

    /// `x.name`; `None` where there is none.
    fn attribute(&self, _name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(None)
    }

    /// `x[key]`; `None` where there is none.
    fn item(&self, _key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(None)
    }

    /// `x(…)`.
    ///
    /// # Errors
    /// Not callable, wrong arguments, or what it does failed.
    fn call(self: Arc<Self>, _arguments: Arguments, _interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        Err(RenderError::compilation(format!("'{}' object is not callable", self.type_name())))
    }

    /// `x.name(…)`; `None` where there is no such method, then the attribute is looked up and called.
    fn call_method(
        self: Arc<Self>,
        _name: &str,
        _arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok(None)
    }

    /// Whether `x.name` is a method, so that `x.name` without a call is not undefined.
    fn has_method(&self, _name: &str) -> bool {
        false
    }

    /// `str(x)`.
    fn text(&self) -> String {
        self.repr()
    }

    /// `repr(x)`.
    fn repr(&self) -> String {
        format!("<{} object>", self.type_name())
    }

    fn is_true(&self) -> bool {
        true
    }

    fn is_callable(&self) -> bool {
        false
    }

    fn is_mapping(&self) -> bool {
        false
    }

    fn length(&self) -> Option<usize> {
        None
    }

    /// `list(x)`, where it can be iterated.
    fn iterate(&self) -> Option<Vec<Value>> {
        None
    }

    fn equals(&self, _other: &Value) -> Option<bool> {
        None
    }

    fn compare(&self, _other: &Value) -> Option<Ordering> {
        None
    }

    /// `x <operator> other`, or `other <operator> x` when `reflected`.
    fn arithmetic(&self, _operator: &str, _other: &Value, _reflected: bool) -> Option<Result<Value, RenderError>> {
        None
    }

    /// As a number, where it is one.
    fn number(&self) -> Option<f64> {
        None
    }

    /// As JSON, where it has such a form.
    fn to_json(&self) -> Option<serde_json::Value> {
        None
    }
}

impl dyn Object {
    /// The concrete object, if it is a `T`.
    pub fn downcast<T: Object>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref::<T>()
    }
}

/// A value as a key: equal and hashed as Python does (1 == 1.0 == True).
#[derive(Clone)]
pub struct Key(pub Value);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_value(&self.0, state);
    }
}

/// Finds string keys without allocating.
pub struct TextKey<'a>(pub &'a str);

impl Hash for TextKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        3u8.hash(state);
        self.0.hash(state);
    }
}

impl indexmap::Equivalent<Key> for TextKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(&key.0, Value::Str(text) if **text == *self.0)
    }
}

fn hash_value<H: Hasher>(value: &Value, state: &mut H) {
    match value {
        Value::Undefined(_) => 0u8.hash(state),
        Value::None => 1u8.hash(state),
        Value::Bool(flag) => {
            2u8.hash(state);
            i128::from(*flag).hash(state);
        }
        Value::Int(number) => {
            2u8.hash(state);
            number.hash(state);
        }
        Value::Float(number) => {
            2u8.hash(state);
            if number.fract() == 0.0 && number.abs() < 1e30 {
                (*number as i128).hash(state);
            } else {
                number.to_bits().hash(state);
            }
        }
        Value::Str(text) => {
            3u8.hash(state);
            (**text).hash(state);
        }
        Value::Tuple(items) => {
            4u8.hash(state);
            for item in items.iter() {
                hash_value(item, state);
            }
        }
        // Unhashable in Python; the caller has refused them by then.
        Value::List(_) | Value::Dict(_) | Value::Set(_) => 5u8.hash(state),
        Value::Object(object) => {
            6u8.hash(state);
            object.repr().hash(state);
        }
    }
}

impl Value {
    pub fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(RwLock::new(items)))
    }

    pub fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(items.into())
    }

    pub fn dict(map: Map) -> Self {
        Self::Dict(Arc::new(RwLock::new(map)))
    }

    /// A dict with string keys.
    pub fn record<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::dict(entries.into_iter().map(|(key, value)| (Key(Self::str(key)), value)).collect())
    }

    pub fn set(items: impl IntoIterator<Item = Self>) -> Self {
        Self::Set(Arc::new(RwLock::new(items.into_iter().map(Key).collect())))
    }

    pub fn object(object: impl Object) -> Self {
        Self::Object(Arc::new(object))
    }

    pub fn undefined(name: impl Into<String>) -> Self {
        Self::Undefined(Arc::new(Undefined { name: name.into(), ..Undefined::default() }))
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(flag) => Some(i128::from(*flag)),
            _ => None,
        }
    }

    /// The object inside, if it is a `T`.
    pub fn downcast<T: Object>(&self) -> Option<&T> {
        match self {
            Self::Object(object) => object.downcast::<T>(),
            _ => None,
        }
    }

    /// The entry of a dict under a string key; `None` for anything else.
    pub fn get(&self, key: &str) -> Option<Self> {
        match self {
            Self::Dict(map) => map.read_recursive().get(&TextKey(key)).cloned(),
            _ => None,
        }
    }

    /// Python's truth.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.read_recursive().is_empty(),
            Self::Tuple(items) => !items.is_empty(),
            Self::Dict(map) => !map.read_recursive().is_empty(),
            Self::Set(items) => !items.read_recursive().is_empty(),
            Self::Object(object) => object.is_true(),
        }
    }

    /// Python's `type(x).__name__`.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Set(_) => "set",
            Self::Object(object) => object.type_name(),
        }
    }

    /// `str(x)`.
    pub fn text(&self) -> Arc<str> {
        match self {
            Self::Str(text) => Arc::clone(text),
            other => {
                let mut out = String::new();
                other.write_text(&mut out);
                out.into()
            }
        }
    }

    /// Appends `str(x)`.
    pub fn write_text(&self, out: &mut String) {
        match self {
            Self::Undefined(_) => {}
            Self::Str(text) => out.push_str(text),
            Self::Object(object) => out.push_str(&object.text()),
            other => other.write_repr(out),
        }
    }

    /// `repr(x)`.
    pub fn repr(&self) -> String {
        let mut out = String::new();
        self.write_repr(&mut out);
        out
    }

    fn write_repr(&self, out: &mut String) {
        match self {
            Self::Undefined(_) => out.push_str("Undefined"),
            Self::None => out.push_str("None"),
            Self::Bool(true) => out.push_str("True"),
            Self::Bool(false) => out.push_str("False"),
            Self::Int(number) => out.push_str(&number.to_string()),
            Self::Float(number) => out.push_str(&float_repr(*number)),
            Self::Str(text) => write_string_repr(text, out),
            Self::List(items) => write_sequence(out, "[", "]", items.read_recursive().iter()),
            Self::Tuple(items) => {
                write_sequence(out, "(", if items.len() == 1 { ",)" } else { ")" }, items.iter());
            }
            Self::Dict(map) => {
                out.push('{');
                for (index, (key, value)) in map.read_recursive().iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    key.0.write_repr(out);
                    out.push_str(": ");
                    value.write_repr(out);
                }
                out.push('}');
            }
            Self::Set(items) => {
                let items = items.read_recursive();
                if items.is_empty() {
                    out.push_str("set()");
                } else {
                    write_sequence(out, "{", "}", items.iter().map(|key| &key.0));
                }
            }
            Self::Object(object) => out.push_str(&object.repr()),
        }
    }

    /// From JSON or parsed YAML.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(flag) => Self::Bool(*flag),
            serde_json::Value::Number(number) => {
                if let Some(number) = number.as_i64() {
                    Self::Int(number.into())
                } else if let Some(number) = number.as_u64() {
                    Self::Int(number.into())
                } else {
                    Self::Float(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            serde_json::Value::String(text) => Self::str(text.as_str()),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => Self::from_json_map(map),
        }
    }

    /// A JSON object as a dict.
    pub fn from_json_map(map: &serde_json::Map<String, serde_json::Value>) -> Self {
        Self::dict(map.iter().map(|(key, value)| (Key(Self::str(key.as_str())), Self::from_json(value))).collect())
    }

    /// As JSON: what `tojson` and the manifest write. Tuples and sets become arrays, keys become text, objects their
    /// `str()`.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Undefined(_) | Self::None => Json::Null,
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => Json::from(number),
                (_, Ok(number)) => Json::from(number),
                _ => Json::String(number.to_string()),
            },
            Self::Float(number) => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Self::Str(text) => Json::String(text.to_string()),
            Self::List(items) => Json::Array(items.read_recursive().iter().map(Self::to_json).collect()),
            Self::Tuple(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Set(items) => Json::Array(items.read_recursive().iter().map(|key| key.0.to_json()).collect()),
            Self::Dict(map) => Json::Object(
                map.read_recursive().iter().map(|(key, value)| (json_key(&key.0), value.to_json())).collect(),
            ),
            Self::Object(object) => object.to_json().unwrap_or_else(|| Json::String(object.text())),
        }
    }

    /// The items, where it can be iterated: characters of a string, keys of a dict.
    pub fn iterate(&self) -> Option<Vec<Self>> {
        Some(match self {
            Self::Undefined(_) => Vec::new(),
            Self::Str(text) => text.chars().map(|c| Self::str(c.to_string())).collect(),
            Self::List(items) => items.read_recursive().clone(),
            Self::Tuple(items) => items.to_vec(),
            Self::Dict(map) => map.read_recursive().keys().map(|key| key.0.clone()).collect(),
            Self::Set(items) => items.read_recursive().iter().map(|key| key.0.clone()).collect(),
            Self::Object(object) => return object.iterate(),
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) => return None,
        })
    }

    /// `len(x)`.
    pub fn length(&self) -> Option<usize> {
        Some(match self {
            Self::Undefined(_) => 0,
            Self::Str(text) => text.chars().count(),
            Self::List(items) => items.read_recursive().len(),
            Self::Tuple(items) => items.len(),
            Self::Dict(map) => map.read_recursive().len(),
            Self::Set(items) => items.read_recursive().len(),
            Self::Object(object) => return object.length(),
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) => return None,
        })
    }

    /// Lists, dicts and sets cannot be keys.
    pub fn is_hashable(&self) -> bool {
        match self {
            Self::List(_) | Self::Dict(_) | Self::Set(_) => false,
            Self::Tuple(items) => items.iter().all(Self::is_hashable),
            _ => true,
        }
    }

    /// Number as a float, for arithmetic and comparisons.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Object(object) => object.number(),
            other => other.as_int().map(|number| number as f64),
        }
    }

    /// Python's `<`; `None` where it raises a TypeError.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Str(left), Self::Str(right)) => Some(left.cmp(right)),
            (Self::List(left), Self::List(right)) => {
                if Arc::ptr_eq(left, right) {
                    return Some(Ordering::Equal);
                }
                compare_sequences(&left.read_recursive(), &right.read_recursive())
            }
            (Self::Tuple(left), Self::Tuple(right)) => compare_sequences(left, right),
            (Self::Object(left), right) => left.compare(right),
            (left, Self::Object(right)) => right.compare(left).map(Ordering::reverse),
            _ => match (self.as_int(), other.as_int()) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => self.as_float()?.partial_cmp(&other.as_float()?),
            },
        }
    }
}

fn compare_sequences(left: &[Value], right: &[Value]) -> Option<Ordering> {
    for (left, right) in left.iter().zip(right) {
        if left != right {
            return left.compare(right);
        }
    }
    Some(left.len().cmp(&right.len()))
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Str(left), Self::Str(right)) => left == right,
            (Self::List(left), Self::List(right)) => {
                Arc::ptr_eq(left, right) || *left.read_recursive() == *right.read_recursive()
            }
            (Self::Tuple(left), Self::Tuple(right)) => left == right,
            (Self::Dict(left), Self::Dict(right)) => {
                Arc::ptr_eq(left, right) || *left.read_recursive() == *right.read_recursive()
            }
            (Self::Set(left), Self::Set(right)) => {
                Arc::ptr_eq(left, right) || *left.read_recursive() == *right.read_recursive()
            }
            (Self::Object(left), Self::Object(right)) => {
                Arc::ptr_eq(left, right) || left.equals(other).or_else(|| right.equals(self)).unwrap_or(false)
            }
            (Self::Object(object), value) | (value, Self::Object(object)) => object.equals(value).unwrap_or(false),
            _ => match (self.as_int(), other.as_int()) {
                (Some(left), Some(right)) => left == right,
                _ => matches!((self.as_float(), other.as_float()), (Some(left), Some(right)) if left == right),
            },
        }
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repr())
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::str(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Int(number as i128)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::list(items.into_iter().map(Into::into).collect())
    }
}

/// JSON writes Python's constants in its own words when they are keys.
fn json_key(key: &Value) -> String {
    match key {
        Value::None => "null".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        other => other.text().to_string(),
    }
}

fn write_sequence<'a>(out: &mut String, open: &str, close: &str, items: impl Iterator<Item = &'a Value>) {
    out.push_str(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        item.write_repr(out);
    }
    out.push_str(close);
}

/// Python's `repr(float)`: the shortest digits, an exponent from 1e16 on and below 1e-4.
pub(super) fn float_repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0.0".into() } else { "0.0".into() };
    }
    let magnitude = number.abs();
    if (1e-4..1e16).contains(&magnitude) {
        let text = format!("{number}");
        return if text.contains('.') { text } else { text + ".0" };
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |exponent| ("-", exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Python's `repr(str)`: single quotes unless only those occur inside.
pub(super) fn write_string_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&match u32::from(c) {
                code @ 0..=0xff => format!("\\x{code:02x}"),
                code => format!("\\u{code:04x}"),
            }),
            c => out.push(c),
        }
    }
    out.push(quote);
}
