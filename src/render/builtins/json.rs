//! `tojson`, `fromjson`, `toyaml`, `fromyaml` with Python's spelling.

use std::path::Path;

use super::super::{Key, Map, RenderError, Value, operators::type_error};
use crate::yaml::{Yaml, YamlKind};

/// Python's `json.dumps`: separators with a space, non-ASCII escaped, keys as text.
///
/// # Errors
/// A value that has no JSON form.
pub(crate) fn json_text(value: &Value, indent: Option<i128>, sort_keys: bool) -> Result<String, RenderError> {
    let mut out = String::new();
    let indent = indent.and_then(|indent| usize::try_from(indent).ok());
    write(value, indent, sort_keys, 0, &mut out)?;
    Ok(out)
}

fn new_line(indent: Option<usize>, level: usize, out: &mut String) {
    if let Some(indent) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * level));
    }
}

fn write(
    value: &Value,
    indent: Option<usize>,
    sort_keys: bool,
    level: usize,
    out: &mut String,
) -> Result<(), RenderError> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&match number {
            number if number.is_nan() => "NaN".to_owned(),
            number if number.is_infinite() => if *number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
            number => super::super::value::float_repr(*number),
        }),
        Value::Str(text) => write_string(text, out),
        Value::List(_) | Value::Tuple(_) => {
            let items = value.iterate().unwrap_or_default();
            if items.is_empty() {
                out.push_str("[]");
                return Ok(());
            }
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(if indent.is_some() { "," } else { ", " });
                }
                new_line(indent, level + 1, out);
                write(item, indent, sort_keys, level + 1, out)?;
            }
            new_line(indent, level, out);
            out.push(']');
        }
        Value::Dict(map) => {
            let map = map.read_recursive();
            if map.is_empty() {
                out.push_str("{}");
                return Ok(());
            }
            let mut entries: Vec<(String, &Value)> = map.iter().map(|(key, value)| (key_text(&key.0), value)).collect();
            if sort_keys {
                entries.sort_by(|left, right| left.0.cmp(&right.0));
            }
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(if indent.is_some() { "," } else { ", " });
                }
                new_line(indent, level + 1, out);
                write_string(key, out);
                out.push_str(": ");
                write(value, indent, sort_keys, level + 1, out)?;
            }
            new_line(indent, level, out);
            out.push('}');
        }
        other => match other {
            Value::Object(object) => match object.to_json() {
                Some(json) => write(&Value::from_json(&json), indent, sort_keys, level, out)?,
                None => return Err(not_serializable(other)),
            },
            other => return Err(not_serializable(other)),
        },
    }
    Ok(())
}

fn not_serializable(value: &Value) -> RenderError {
    type_error(format!("Object of type {} is not JSON serializable", value.type_name()))
}

fn key_text(key: &Value) -> String {
    match key {
        Value::None => "null".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        other => other.text().to_string(),
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// `fromjson`: `None` where it does not parse.
pub(super) fn parse_json(text: &str) -> Option<Value> {
    serde_json::from_str::<serde_json::Value>(text).ok().map(|json| Value::from_json(&json))
}

/// `fromyaml`: `None` where it does not parse.
pub(super) fn parse_yaml(text: &str) -> Option<Value> {
    Some(from_yaml(&Yaml::parse(text, Path::new("")).ok()?))
}

fn from_yaml(yaml: &Yaml) -> Value {
    match &yaml.kind {
        YamlKind::Null => Value::None,
        YamlKind::Bool(flag) => Value::Bool(*flag),
        YamlKind::Number(number) => Value::from_json(&serde_json::Value::Number(number.clone())),
        YamlKind::String(text) => Value::str(text.as_str()),
        YamlKind::List(items) => Value::list(items.iter().map(from_yaml).collect()),
        YamlKind::Map(entries) => {
            Value::dict(entries.iter().map(|(key, value)| (Key(from_yaml(key)), from_yaml(value))).collect::<Map>())
        }
    }
}

/// `toyaml`: block style, as PyYAML's `safe_dump`.
pub(super) fn yaml_text(value: &Value, sort_keys: bool) -> Option<String> {
    let mut json = value.to_json();
    if sort_keys {
        sort(&mut json);
    }
    serde_yaml_ng::to_string(&json).ok()
}

fn sort(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sort);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}
