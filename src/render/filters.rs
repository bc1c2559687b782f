//! Jinja2's filters and tests, and the few that dbt adds.
//! One file: a table of names and the short function behind each, to be read beside Jinja2's own list.

use std::sync::Arc;

use super::{
    Arguments, Interpreter, Key, RenderError, Undefined, Value,
    ast::{BinaryOperator, Comparison},
    builtins, methods,
    operators::{self, iterate, type_error},
};

/// `value | name(arguments)`.
pub(super) fn apply(
    interpreter: &mut Interpreter<'_>,
    name: &str,
    value: Value,
    arguments: Arguments,
) -> Result<Value, RenderError> {
    let text = |value: &Value| value.text();
    Ok(match name {
        "abs" => match value {
            Value::Float(number) => Value::Float(number.abs()),
            other => match other.as_int() {
                Some(number) => Value::Int(number.abs()),
                None => {
                    operators::defined(&other)?;
                    return Err(type_error(format!("bad operand type for abs(): '{}'", other.type_name())));
                }
            },
        },
        "attr" => {
            let [attribute] = arguments.bind(name, ["name"], 1)?;
            interpreter.attribute(&value, &attribute.unwrap_or_default().text())?
        }
        "batch" => {
            let [size, fill] = arguments.bind(name, ["linecount", "fill_with"], 1)?;
            let size = count(size.as_ref(), 1)?.max(1);
            let items = iterate(&value)?;
            let batches = items.chunks(size).map(|chunk| {
                let mut chunk = chunk.to_vec();
                if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none()) {
                    chunk.resize(size, fill.clone());
                }
                Value::list(chunk)
            });
            Value::list(batches.collect())
        }
        "capitalize" => Value::str(methods::capitalize(&text(&value))),
        "center" => {
            let [width] = arguments.bind(name, ["width"], 0)?;
            let arguments = Arguments::positional(vec![width.unwrap_or(Value::Int(80))]);
            interpreter.call_method(&Value::Str(text(&value)), "center", arguments)?
        }
        "count" | "length" => match value.length() {
            Some(length) => Value::from(length),
            None => return Err(type_error(format!("object of type '{}' has no len()", value.type_name()))),
        },
        "d" | "default" => {
            let [default, boolean] = arguments.bind(name, ["default_value", "boolean"], 0)?;
            if value.is_undefined() || (boolean.is_some_and(|boolean| boolean.is_true()) && !value.is_true()) {
                default.unwrap_or_else(|| "".into())
            } else {
                value
            }
        }
        "dictsort" => dictsort(value, arguments)?,
        "e" | "escape" | "forceescape" => Value::str(escape(&text(&value))),
        "filesizeformat" => {
            let [binary] = arguments.bind(name, ["binary"], 0)?;
            Value::str(file_size(value.as_float().unwrap_or(0.0), binary.is_some_and(|binary| binary.is_true())))
        }
        "first" => iterate(&value)?.into_iter().next().unwrap_or_else(|| no_item("first")),
        "last" => iterate(&value)?.into_iter().next_back().unwrap_or_else(|| no_item("last")),
        "random" => iterate(&value)?.into_iter().next().unwrap_or_else(|| no_item("random")),
        "float" => {
            let [default] = arguments.bind(name, ["default"], 0)?;
            let default = || default.clone().unwrap_or(Value::Float(0.0));
            match &value {
                Value::Str(text) => parse_float(text).map_or_else(default, Value::Float),
                other => other.as_float().map_or_else(default, Value::Float),
            }
        }
        "int" => {
            let [default, base] = arguments.bind(name, ["default", "base"], 0)?;
            let default = || default.clone().unwrap_or(Value::Int(0));
            let base = u32::try_from(count(base.as_ref(), 10)?).unwrap_or(10);
            match &value {
                Value::Str(text) => parse_int(text, base)
                    .or_else(|| parse_float(text).filter(|number| number.is_finite()).map(|number| number as i128))
                    .map_or_else(default, Value::Int),
                other => match (other.as_int(), other.as_float().filter(|number| number.is_finite())) {
                    (Some(number), _) => Value::Int(number),
                    (None, Some(number)) => Value::Int(number as i128),
                    (None, None) => default(),
                },
            }
        }
        "format" => {
            let value = Value::Str(text(&value));
            let arguments = if arguments.keywords.is_empty() {
                Value::tuple(arguments.positional)
            } else {
                Value::record(arguments.keywords)
            };
            operators::binary(BinaryOperator::Remainder, &value, &arguments)?
        }
        "groupby" => groupby(interpreter, value, arguments)?,
        "indent" => indent(&text(&value), arguments)?,
        "items" => match &value {
            Value::Undefined(_) => Value::list(Vec::new()),
            Value::Dict(_) => interpreter.call_method(&value, "items", Arguments::default())?,
            _ => return Err(type_error("Can only get item pairs from a mapping.")),
        },
        "join" => {
            let [separator, attribute] = arguments.bind(name, ["d", "attribute"], 0)?;
            let separator = separator.map_or_else(|| "".into(), |separator| text(&separator));
            let mut out = String::new();
            for (index, item) in iterate(&value)?.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(&separator);
                }
                match &attribute {
                    Some(attribute) if !attribute.is_none() => {
                        path(interpreter, &item, attribute)?.write_text(&mut out);
                    }
                    _ => item.write_text(&mut out),
                }
            }
            Value::str(out)
        }
        "list" => Value::list(iterate(&value)?),
        "lower" => Value::str(text(&value).to_lowercase()),
        "upper" => Value::str(text(&value).to_uppercase()),
        "title" => Value::str(title(&text(&value))),
        "map" => map(interpreter, value, arguments)?,
        "max" | "min" => extreme(interpreter, value, arguments, name == "max")?,
        "pprint" => Value::str(value.repr()),
        "select" | "reject" => select(interpreter, value, arguments, false, name == "select")?,
        "selectattr" | "rejectattr" => select(interpreter, value, arguments, true, name == "selectattr")?,
        "replace" => {
            let [old, new, limit] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (text(&old.unwrap_or_default()), text(&new.unwrap_or_default()));
            let value = text(&value);
            match limit.filter(|limit| !limit.is_none()).and_then(|limit| limit.as_int()) {
                Some(limit) => Value::str(value.replacen(&*old, &new, usize::try_from(limit).unwrap_or(usize::MAX))),
                None => Value::str(value.replace(&*old, &new)),
            }
        }
        "reverse" => match &value {
            Value::Str(text) => Value::str(text.chars().rev().collect::<String>()),
            other => {
                let mut items = iterate(other)?;
                items.reverse();
                Value::list(items)
            }
        },
        "round" => round(&value, arguments)?,
        "as_bool" | "as_number" | "as_native" | "as_text" => builtins::native_marker(interpreter, name, value)?,
        "safe" => value,
        "is_list" => Value::Bool(matches!(value, Value::List(_))),
        "slice" => {
            let [slices, fill] = arguments.bind(name, ["slices", "fill_with"], 1)?;
            let slices = count(slices.as_ref(), 1)?.max(1);
            let items = iterate(&value)?;
            let (each, extra) = (items.len() / slices, items.len() % slices);
            let mut start = 0;
            let parts = (0..slices).map(|index| {
                let end = start + each + usize::from(index < extra);
                let mut part = items[start..end].to_vec();
                start = end;
                if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none() && index >= extra && extra > 0) {
                    part.push(fill.clone());
                }
                Value::list(part)
            });
            Value::list(parts.collect())
        }
        "sort" => {
            let [reverse, sensitive, attribute] =
                arguments.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
            let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
            let sensitive = is_true(sensitive);
            let attribute = attribute.filter(|attribute| !attribute.is_none());
            let mut keyed = Vec::new();
            for item in iterate(&value)? {
                let key = sort_key(interpreter, &item, attribute.as_ref(), sensitive)?;
                keyed.push((key, item));
            }
            Value::list(methods::sort_keyed(keyed, is_true(reverse))?)
        }
        "string" => Value::Str(text(&value)),
        "striptags" => Value::str(strip_tags(&text(&value))),
        "sum" => {
            let [attribute, start] = arguments.bind(name, ["attribute", "start"], 0)?;
            let mut total = start.unwrap_or(Value::Int(0));
            for item in iterate(&value)? {
                let item = match &attribute {
                    Some(attribute) if !attribute.is_none() => path(interpreter, &item, attribute)?,
                    _ => item,
                };
                total = operators::binary(BinaryOperator::Add, &total, &item)?;
            }
            total
        }
        "tojson" => {
            let [width] = arguments.bind(name, ["indent"], 0)?;
            let json = builtins::json_text(&value, width.and_then(|width| width.as_int()), true)?;
            // Jinja2 makes its result safe inside HTML.
            Value::str(
                json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027"),
            )
        }
        "trim" => {
            let [characters] = arguments.bind(name, ["chars"], 0)?;
            let characters = characters.filter(|characters| !characters.is_none()).map(|characters| text(&characters));
            Value::str(methods::strip(&text(&value), characters.as_deref(), true, true))
        }
        "truncate" => truncate(&text(&value), arguments)?,
        "unique" => {
            let [sensitive, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
            let sensitive = sensitive.is_some_and(|sensitive| sensitive.is_true());
            let attribute = attribute.filter(|attribute| !attribute.is_none());
            let mut seen = indexmap::IndexSet::new();
            let mut kept = Vec::new();
            for item in iterate(&value)? {
                let key = sort_key(interpreter, &item, attribute.as_ref(), sensitive)?;
                operators::hashable(&key)?;
                if seen.insert(Key(key)) {
                    kept.push(item);
                }
            }
            Value::list(kept)
        }
        "urlencode" => Value::str(url_encode(&value)),
        "wordcount" => {
            let text = text(&value);
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count();
            Value::from(words)
        }
        "wordwrap" => {
            let [width, _long, _wrap] = arguments.bind(name, ["width", "break_long_words", "wrapstring"], 0)?;
            Value::str(word_wrap(&text(&value), count(width.as_ref(), 79)?))
        }
        "xmlattr" => {
            let mut out = String::new();
            if let Value::Dict(map) = &value {
                for (key, value) in map.read_recursive().iter() {
                    if !value.is_none() && !value.is_undefined() {
                        out.push_str(&format!(" {}=\"{}\"", escape(&key.0.text()), escape(&value.text())));
                    }
                }
            }
            Value::str(out)
        }
        other => return Err(RenderError::compilation(format!("No filter named '{other}'."))),
    })
}

/// `value is name(arguments)`.
pub(super) fn test(
    interpreter: &mut Interpreter<'_>,
    name: &str,
    value: &Value,
    arguments: Arguments,
) -> Result<bool, RenderError> {
    let compare = |comparison: Comparison, arguments: Arguments| {
        let [other] = arguments.bind(name, ["other"], 1)?;
        operators::compare(comparison, value, &other.unwrap_or_default())
    };
    let integer = || {
        operators::defined(value)?;
        value
            .as_int()
            .ok_or_else(|| type_error(format!("unsupported operand type(s) for %: '{}' and 'int'", value.type_name())))
    };
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => match value {
            Value::Dict(_) => true,
            Value::Object(object) => object.is_mapping(),
            _ => false,
        },
        "iterable" => value.iterate().is_some(),
        "sequence" => value.length().is_some() && !matches!(value, Value::Set(_)),
        "callable" => match value {
            Value::Object(object) => object.is_callable(),
            // Jinja2's Undefined can be called, to say that it is undefined.
            Value::Undefined(_) => true,
            _ => false,
        },
        "sameas" => {
            let [other] = arguments.bind(name, ["other"], 1)?;
            same(value, &other.unwrap_or_default())
        }
        "escaped" => false,
        "in" => {
            let [container] = arguments.bind(name, ["seq"], 1)?;
            operators::contains(&container.unwrap_or_default(), value)?
        }
        "eq" | "==" | "equalto" => compare(Comparison::Equal, arguments)?,
        "ne" | "!=" => compare(Comparison::NotEqual, arguments)?,
        "lt" | "<" | "lessthan" => compare(Comparison::Less, arguments)?,
        "le" | "<=" => compare(Comparison::LessOrEqual, arguments)?,
        "gt" | ">" | "greaterthan" => compare(Comparison::Greater, arguments)?,
        "ge" | ">=" => compare(Comparison::GreaterOrEqual, arguments)?,
        "even" => integer()? % 2 == 0,
        "odd" => integer()? % 2 != 0,
        "divisibleby" => {
            let [divisor] = arguments.bind(name, ["num"], 1)?;
            let divisor = divisor.and_then(|divisor| divisor.as_int()).unwrap_or(0);
            if divisor == 0 {
                return Err(RenderError::compilation("integer division or modulo by zero"));
            }
            integer()? % divisor == 0
        }
        "lower" | "upper" => {
            let arguments = Arguments::default();
            let method = if name == "lower" { "islower" } else { "isupper" };
            interpreter.call_method(&Value::Str(value.text()), method, arguments)?.is_true()
        }
        "filter" => FILTERS.contains(&&*value.text()),
        "test" => TESTS.contains(&&*value.text()),
        other => return Err(RenderError::compilation(format!("No test named '{other}'."))),
    })
}

const FILTERS: [&str; 58] = [
    "abs",
    "as_bool",
    "as_native",
    "as_number",
    "as_text",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "is_list",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
    "xmlattr",
];
const TESTS: [&str; 38] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
];

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => Arc::ptr_eq(left, right),
        (Value::Dict(left), Value::Dict(right)) => Arc::ptr_eq(left, right),
        (Value::Set(left), Value::Set(right)) => Arc::ptr_eq(left, right),
        (Value::Object(left), Value::Object(right)) => Arc::ptr_eq(left, right),
        _ => left.type_name() == right.type_name() && left == right,
    }
}

fn count(value: Option<&Value>, default: usize) -> Result<usize, RenderError> {
    match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => value
            .as_int()
            .map(|number| usize::try_from(number).unwrap_or(0))
            .ok_or_else(|| type_error(format!("'{}' object cannot be interpreted as an integer", value.type_name()))),
    }
}

fn no_item(which: &str) -> Value {
    Value::Undefined(Arc::new(Undefined {
        hint: Some(format!("No {which} item, sequence was empty.")),
        ..Undefined::default()
    }))
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim().replace('_', "");
    match text.to_lowercase().trim_start_matches(['+', '-']) {
        "inf" | "infinity" | "nan" => text.to_lowercase().replace("infinity", "inf").parse().ok(),
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

/// Python's `int(text, base)`.
pub(super) fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim().replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_lowercase();
    let (digits, base) = match base {
        16 => (lower.strip_prefix("0x").unwrap_or(&lower), 16),
        8 => (lower.strip_prefix("0o").unwrap_or(&lower), 8),
        2 => (lower.strip_prefix("0b").unwrap_or(&lower), 2),
        base => (&*lower, base.clamp(2, 36)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(digits, base).ok()?;
    Some(if negative { -number } else { number })
}

/// `attribute='a.b.0'` of map, selectattr, sort, groupby, join, sum.
fn path(interpreter: &mut Interpreter<'_>, value: &Value, attribute: &Value) -> Result<Value, RenderError> {
    match attribute {
        Value::Str(attribute) => {
            let mut value = value.clone();
            for part in attribute.split('.') {
                let key = match part.parse::<i64>() {
                    Ok(index) if part.chars().all(|c| c.is_ascii_digit()) => Value::from(index),
                    _ => Value::str(part),
                };
                value = interpreter.item(&value, &key)?;
            }
            Ok(value)
        }
        other => interpreter.item(value, other),
    }
}

fn sort_key(
    interpreter: &mut Interpreter<'_>,
    item: &Value,
    attribute: Option<&Value>,
    sensitive: bool,
) -> Result<Value, RenderError> {
    let fold = |value: Value| match value {
        Value::Str(text) if !sensitive => Value::str(text.to_lowercase()),
        other => other,
    };
    match attribute {
        None => Ok(fold(item.clone())),
        // Several attributes, separated by commas, order by the first, then the next.
        Some(Value::Str(attributes)) if attributes.contains(',') => {
            let mut keys = Vec::new();
            for attribute in attributes.split(',') {
                keys.push(fold(path(interpreter, item, &Value::str(attribute.trim()))?));
            }
            Ok(Value::tuple(keys))
        }
        Some(attribute) => path(interpreter, item, attribute).map(fold),
    }
}

fn dictsort(value: Value, arguments: Arguments) -> Result<Value, RenderError> {
    let [sensitive, by, reverse] = arguments.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
    let sensitive = sensitive.is_some_and(|sensitive| sensitive.is_true());
    let by_value = by.as_ref().and_then(Value::as_str) == Some("value");
    let Value::Dict(map) = &value else {
        operators::defined(&value)?;
        return Err(type_error(format!("'{}' object has no attribute 'items'", value.type_name())));
    };
    let keyed = map
        .read_recursive()
        .iter()
        .map(|(key, value)| {
            let by = if by_value { value.clone() } else { key.0.clone() };
            let by = match by {
                Value::Str(text) if !sensitive => Value::str(text.to_lowercase()),
                other => other,
            };
            (by, Value::tuple(vec![key.0.clone(), value.clone()]))
        })
        .collect();
    Ok(Value::list(methods::sort_keyed(keyed, reverse.is_some_and(|reverse| reverse.is_true()))?))
}

fn groupby(interpreter: &mut Interpreter<'_>, value: Value, arguments: Arguments) -> Result<Value, RenderError> {
    let [attribute, default, sensitive] = arguments.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let attribute = attribute.unwrap_or_default();
    let sensitive = sensitive.is_some_and(|sensitive| sensitive.is_true());
    let mut keyed = Vec::new();
    for item in iterate(&value)? {
        let mut key = path(interpreter, &item, &attribute)?;
        if key.is_undefined()
            && let Some(default) = &default
        {
            key = default.clone();
        }
        let folded = match &key {
            Value::Str(text) if !sensitive => Value::str(text.to_lowercase()),
            other => other.clone(),
        };
        keyed.push((folded.clone(), Value::tuple(vec![folded, key, item])));
    }
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for entry in methods::sort_keyed(keyed, false)? {
        let Value::Tuple(parts) = entry else { continue };
        match groups.last_mut() {
            Some((folded, _, items)) if *folded == parts[0] => items.push(parts[2].clone()),
            _ => groups.push((parts[0].clone(), parts[1].clone(), vec![parts[2].clone()])),
        }
    }
    Ok(Value::list(groups.into_iter().map(|(_, key, items)| Value::object(builtins::Group::new(key, items))).collect()))
}

fn map(interpreter: &mut Interpreter<'_>, value: Value, mut arguments: Arguments) -> Result<Value, RenderError> {
    let mut mapped = Vec::new();
    if arguments.positional.is_empty()
        && let Some(attribute) = arguments.take_keyword("attribute")
    {
        let default = arguments.take_keyword("default");
        for item in iterate(&value)? {
            let found = path(interpreter, &item, &attribute)?;
            mapped.push(match &default {
                Some(default) if found.is_undefined() => default.clone(),
                _ => found,
            });
        }
        return Ok(Value::list(mapped));
    }
    if arguments.positional.is_empty() {
        return Err(RenderError::compilation("map requires a filter argument"));
    }
    let name = arguments.positional.remove(0).text();
    for item in iterate(&value)? {
        mapped.push(apply(interpreter, &name, item, arguments.clone())?);
    }
    Ok(Value::list(mapped))
}

fn select(
    interpreter: &mut Interpreter<'_>,
    value: Value,
    mut arguments: Arguments,
    by_attribute: bool,
    wanted: bool,
) -> Result<Value, RenderError> {
    let mut take = || (!arguments.positional.is_empty()).then(|| arguments.positional.remove(0));
    let attribute = if by_attribute {
        Some(take().ok_or_else(|| RenderError::compilation("Missing parameter for attribute name"))?)
    } else {
        None
    };
    let name = take().map(|name| name.text());
    let mut kept = Vec::new();
    for item in iterate(&value)? {
        let subject = match &attribute {
            Some(attribute) => path(interpreter, &item, attribute)?,
            None => item.clone(),
        };
        let passes = match &name {
            Some(name) => test(interpreter, name, &subject, arguments.clone())?,
            None => subject.is_true(),
        };
        if passes == wanted {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

fn extreme(
    interpreter: &mut Interpreter<'_>,
    value: Value,
    arguments: Arguments,
    maximum: bool,
) -> Result<Value, RenderError> {
    let [sensitive, attribute] = arguments.bind("max", ["case_sensitive", "attribute"], 0)?;
    let sensitive = sensitive.is_some_and(|sensitive| sensitive.is_true());
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(&value)? {
        let key = sort_key(interpreter, &item, attribute.as_ref(), sensitive)?;
        let better = match &best {
            None => true,
            Some((known, _)) if maximum => operators::compare(Comparison::Greater, &key, known)?,
            Some((known, _)) => operators::compare(Comparison::Less, &key, known)?,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| no_item(if maximum { "max" } else { "min" }), |(_, item)| item))
}

fn round(value: &Value, arguments: Arguments) -> Result<Value, RenderError> {
    let [precision, method] = arguments.bind("round", ["precision", "method"], 0)?;
    operators::defined(value)?;
    let Some(number) = value.as_float() else {
        return Err(type_error(format!("type {} doesn't define __round__ method", value.type_name())));
    };
    let precision = precision.and_then(|precision| precision.as_int()).unwrap_or(0);
    let precision = i32::try_from(precision).unwrap_or(0);
    let scale = 10f64.powi(precision);
    let rounded = match method.as_ref().and_then(Value::as_str).unwrap_or("common") {
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        "common" => round_half_even(number, precision),
        _ => return Err(RenderError::compilation("method must be common, ceil or floor")),
    };
    // Python's round() of an int stays one.
    match value {
        Value::Int(_) | Value::Bool(_) if method.is_none() && precision >= 0 => Ok(value.clone()),
        _ => Ok(Value::Float(rounded)),
    }
}

/// Python's `round(x, n)`: correctly rounded decimal digits, halves to even.
pub(super) fn round_half_even(number: f64, precision: i32) -> f64 {
    match usize::try_from(precision) {
        // The formatter rounds the exact decimal expansion, halves to even, as CPython does.
        Ok(precision) => format!("{number:.precision$}").parse().unwrap_or(number),
        Err(_) => {
            let scale = 10f64.powi(-precision);
            (number / scale).round_ties_even() * scale
        }
    }
}

fn indent(text: &str, arguments: Arguments) -> Result<Value, RenderError> {
    let [width, first, blank] = arguments.bind("indent", ["width", "first", "blank"], 0)?;
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let indention = match &width {
        Some(Value::Str(text)) => text.to_string(),
        other => " ".repeat(count(other.as_ref(), 4)?),
    };
    let mut lines = methods::split_lines(&format!("{text}\n"), false).into_iter();
    let mut out = lines.next().unwrap_or_default();
    for line in lines {
        out.push('\n');
        if blank || !line.is_empty() {
            out.push_str(&indention);
        }
        out.push_str(&line);
    }
    if text.ends_with('\n') {
        // The line after the last line ending is empty and stays.
        if blank {
            out.push_str("");
        }
    }
    Ok(Value::str(if first { indention + &out } else { out }))
}

/// Jinja2's `title`: words after spaces, hyphens and brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        start = c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn truncate(text: &str, arguments: Arguments) -> Result<Value, RenderError> {
    let [length, kill, end, leeway] = arguments.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let length = count(length.as_ref(), 255)?;
    let leeway = count(leeway.as_ref(), 5)?;
    let end = end.map_or_else(|| "...".into(), |end| end.text());
    let total = text.chars().count();
    if total <= length + leeway {
        return Ok(Value::str(text));
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    if kill.is_some_and(|kill| kill.is_true()) {
        return Ok(Value::str(kept + &end));
    }
    let kept = kept.rsplit_once(' ').map_or(kept.as_str(), |(kept, _)| kept).to_owned();
    Ok(Value::str(kept + &end))
}

fn word_wrap(text: &str, width: usize) -> String {
    let wrapped = text.lines().map(|line| {
        let mut out = String::new();
        let mut column = 0;
        for word in line.split_whitespace() {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > width {
                out.push('\n');
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out
    });
    wrapped.collect::<Vec<_>>().join("\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

fn strip_tags(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn url_encode(value: &Value) -> String {
    let quote = |text: &str, safe: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            let c = char::from(byte);
            if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
                out.push(c);
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    };
    match value {
        Value::Dict(map) => map
            .read_recursive()
            .iter()
            .map(|(key, value)| {
                format!("{}={}", quote(&key.0.text(), ""), quote(&value.text(), "")).replace("%20", "+")
            })
            .collect::<Vec<_>>()
            .join("&"),
        other => quote(&other.text(), "/"),
    }
}

fn file_size(bytes: f64, binary: bool) -> String {
    let base = if binary { 1024.0 } else { 1000.0 };
    let units = if binary { ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] } else { ["kB", "MB", "GB", "TB", "PB", "EB"] };
    if bytes == 1.0 {
        return "1 Byte".into();
    }
    if bytes < base {
        return format!("{} Bytes", bytes as i64);
    }
    let mut size = bytes / base;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}
