//! Python's methods of `str`, `list`, `dict`, `set` and `tuple`.
//! One file: a table of names and the short function behind each, to be read beside Python's own list.

use std::sync::Arc;

use super::{
    Arguments, Interpreter, Key, RenderError, TextKey, Value,
    format::braces,
    operators::{self, hashable, iterate, type_error},
};

impl Arguments {
    /// Binds to parameters as Python does. Those from `required` on may be missing.
    ///
    /// # Errors
    /// Python's TypeErrors.
    pub fn bind<const N: usize>(
        self,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N], RenderError> {
        let given = self.positional.len();
        if given > N {
            let plural = if N == 1 { "" } else { "s" };
            return Err(type_error(format!(
                "{function}() takes {N} positional argument{plural} but {given} were given"
            )));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (keyword, value) in self.keywords {
            let Some(index) = names.iter().position(|name| *name == &*keyword) else {
                return Err(type_error(format!("{function}() got an unexpected keyword argument '{keyword}'")));
            };
            if bound[index].is_some() {
                return Err(type_error(format!("{function}() got multiple values for argument '{keyword}'")));
            }
            bound[index] = Some(value);
        }
        let missing: Vec<_> = names
            .iter()
            .zip(&bound)
            .take(required)
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| *name)
            .collect();
        if missing.is_empty() {
            return Ok(bound);
        }
        let listed = missing.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>();
        let (last, others) = listed.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        let listed = if others.is_empty() { last.to_owned() } else { format!("{} and {last}", others.join(", ")) };
        let plural = if missing.len() == 1 { "" } else { "s" };
        Err(type_error(format!(
            "{function}() missing {} required positional argument{plural}: {listed}",
            missing.len()
        )))
    }
}

/// `value.name(arguments)`; `None` where the type has no such method.
pub(super) fn call(
    interpreter: &mut Interpreter<'_>,
    value: &Value,
    name: &str,
    arguments: Arguments,
) -> Result<Option<Value>, RenderError> {
    match value {
        Value::Str(text) => string(interpreter, text, name, arguments),
        Value::List(items) => list(interpreter, items, name, arguments),
        Value::Dict(map) => dict(map, name, arguments),
        Value::Set(items) => set(items, name, arguments),
        Value::Tuple(items) => sequence(items, name, arguments),
        Value::Float(number) if name == "is_integer" => Ok(Some(Value::Bool(number.fract() == 0.0))),
        Value::Int(number) if name == "bit_length" => {
            Ok(Some(Value::from((128 - number.unsigned_abs().leading_zeros()) as usize)))
        }
        _ => Ok(None),
    }
}

/// Whether the type has that method, for `x.name` without a call.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    let names: &[&str] = match value {
        Value::Str(_) => &STRING,
        Value::List(_) => &LIST,
        Value::Dict(_) => &DICT,
        Value::Set(_) => &SET,
        Value::Tuple(_) => &["count", "index"],
        _ => &[],
    };
    names.contains(&name)
}

const STRING: [&str; 44] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const LIST: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const DICT: [&str; 10] = ["clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const SET: [&str; 16] = [
    "add",
    "clear",
    "copy",
    "difference",
    "difference_update",
    "discard",
    "intersection",
    "intersection_update",
    "isdisjoint",
    "issubset",
    "issuperset",
    "pop",
    "remove",
    "symmetric_difference",
    "union",
    "update",
];

fn text_argument(function: &str, value: Option<Value>) -> Result<Option<Arc<str>>, RenderError> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(other) => {
            operators::defined(&other)?;
            Err(type_error(format!("{function} arg must be None or str, not {}", other.type_name())))
        }
    }
}

fn required_text(value: Option<Value>) -> Result<Arc<str>, RenderError> {
    match value {
        Some(Value::Str(text)) => Ok(text),
        Some(other) => {
            operators::defined(&other)?;
            Err(type_error(format!("must be str, not {}", other.type_name())))
        }
        None => Err(type_error("must be str, not NoneType")),
    }
}

fn integer(value: Option<&Value>, default: i128) -> Result<i128, RenderError> {
    match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => value
            .as_int()
            .ok_or_else(|| type_error(format!("'{}' object cannot be interpreted as an integer", value.type_name()))),
    }
}

/// The part `[start:end]` of a text, by characters.
fn window(text: &str, start: Option<&Value>, end: Option<&Value>) -> Result<(String, usize), RenderError> {
    let length = text.chars().count() as i128;
    let clamp = |position: i128| if position < 0 { (position + length).max(0) } else { position.min(length) };
    let start = clamp(integer(start, 0)?);
    let end = clamp(integer(end, length)?);
    let start = usize::try_from(start).unwrap_or(0);
    let count = usize::try_from(end).unwrap_or(0).saturating_sub(start);
    Ok((text.chars().skip(start).take(count).collect(), start))
}

fn is_cased(text: &str, test: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    text.chars().any(test) && !text.chars().any(other)
}

/// Python's `str.title`.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Python's `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
}

/// Python's `str.splitlines`.
pub(super) fn split_lines(text: &str, keep_ends: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['\n', '\r', '\x0b', '\x0c', '\u{85}', '\u{2028}', '\u{2029}']);
        let Some(end) = end else {
            lines.push(rest.to_owned());
            break;
        };
        let ending =
            if rest[end..].starts_with("\r\n") { 2 } else { rest[end..].chars().next().map_or(1, char::len_utf8) };
        lines.push(rest[..if keep_ends { end + ending } else { end }].to_owned());
        rest = &rest[end + ending..];
    }
    lines
}

fn split(text: &str, separator: Option<&str>, limit: i128, from_right: bool) -> Result<Vec<String>, RenderError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let own = |parts: Vec<&str>| parts.into_iter().map(str::to_owned).collect::<Vec<_>>();
    if let Some(separator) = separator {
        if separator.is_empty() {
            return Err(RenderError::compilation("empty separator"));
        }
        let mut parts = if from_right {
            text.rsplitn(limit.saturating_add(1), separator).collect::<Vec<_>>()
        } else {
            text.splitn(limit.saturating_add(1), separator).collect()
        };
        if from_right {
            parts.reverse();
        }
        return Ok(own(parts));
    }
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if parts.len() == limit {
            parts.push(rest);
            break;
        }
        let cut = if from_right { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        match cut {
            None => {
                parts.push(rest);
                break;
            }
            Some(cut) if from_right => {
                let width = rest[cut..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[cut + width..]);
                rest = rest[..cut].trim_end();
            }
            Some(cut) => {
                parts.push(&rest[..cut]);
                rest = rest[cut..].trim_start();
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    Ok(own(parts))
}

/// `str.strip` and its sides with the set of characters to remove.
pub(super) fn strip(text: &str, characters: Option<&str>, left: bool, right: bool) -> String {
    let matches = |c: char| characters.map_or_else(|| c.is_whitespace(), |set| set.contains(c));
    let mut out = text;
    if left {
        out = out.trim_start_matches(matches);
    }
    if right {
        out = out.trim_end_matches(matches);
    }
    out.to_owned()
}

fn affix(text: &str, arguments: Arguments, name: &str) -> Result<Value, RenderError> {
    let [pattern, start, end] = arguments.bind(name, ["prefix", "start", "end"], 1)?;
    let (part, _) = window(text, start.as_ref(), end.as_ref())?;
    let test = |pattern: &str| if name == "startswith" { part.starts_with(pattern) } else { part.ends_with(pattern) };
    match pattern {
        Some(Value::Str(pattern)) => Ok(Value::Bool(test(&pattern))),
        Some(Value::Tuple(patterns)) => {
            Ok(Value::Bool(patterns.iter().any(|pattern| pattern.as_str().is_some_and(test))))
        }
        Some(other) => {
            operators::defined(&other)?;
            Err(type_error(format!("{name} first arg must be str or a tuple of str, not {}", other.type_name())))
        }
        None => Ok(Value::Bool(false)),
    }
}

fn find(text: &str, arguments: Arguments, name: &str) -> Result<Option<usize>, RenderError> {
    let [pattern, start, end] = arguments.bind(name, ["sub", "start", "end"], 1)?;
    let pattern = required_text(pattern)?;
    let (part, offset) = window(text, start.as_ref(), end.as_ref())?;
    let found = if name.starts_with('r') { part.rfind(&*pattern) } else { part.find(&*pattern) };
    Ok(found.map(|byte| part[..byte].chars().count() + offset))
}

fn pad(text: &str, arguments: Arguments, name: &str) -> Result<Value, RenderError> {
    let [width, fill] = arguments.bind(name, ["width", "fillchar"], 1)?;
    let width = usize::try_from(integer(width.as_ref(), 0)?).unwrap_or(0);
    let fill = fill.as_ref().and_then(Value::as_str).and_then(|fill| fill.chars().next()).unwrap_or(' ');
    let missing = width.saturating_sub(text.chars().count());
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // CPython puts the odd one on the left when the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let mut out = String::new();
    out.extend(std::iter::repeat_n(fill, left));
    out.push_str(text);
    out.extend(std::iter::repeat_n(fill, missing - left));
    Ok(Value::str(out))
}

fn string(
    interpreter: &mut Interpreter<'_>,
    text: &Arc<str>,
    name: &str,
    arguments: Arguments,
) -> Result<Option<Value>, RenderError> {
    let every = |test: fn(char) -> bool| Value::Bool(!text.is_empty() && text.chars().all(test));
    Ok(Some(match name {
        "upper" => Value::str(text.to_uppercase()),
        "lower" => Value::str(text.to_lowercase()),
        "casefold" => Value::str(text.to_lowercase().replace('ß', "ss")),
        "title" => Value::str(title(text)),
        "capitalize" => Value::str(capitalize(text)),
        "swapcase" => Value::str(
            text.chars()
                .flat_map(|c| {
                    if c.is_uppercase() { c.to_lowercase().collect::<Vec<_>>() } else { c.to_uppercase().collect() }
                })
                .collect::<String>(),
        ),
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = arguments.bind(name, ["chars"], 0)?;
            let characters = text_argument(name, characters)?;
            Value::str(strip(text, characters.as_deref(), name != "rstrip", name != "lstrip"))
        }
        "split" | "rsplit" => {
            let [separator, limit] = arguments.bind(name, ["sep", "maxsplit"], 0)?;
            let separator = text_argument(name, separator)?;
            let limit = integer(limit.as_ref(), -1)?;
            Value::from(split(text, separator.as_deref(), limit, name == "rsplit")?)
        }
        "splitlines" => {
            let [keep] = arguments.bind(name, ["keepends"], 0)?;
            Value::from(split_lines(text, keep.is_some_and(|keep| keep.is_true())))
        }
        "join" => {
            let [items] = arguments.bind(name, ["iterable"], 1)?;
            let mut out = String::new();
            let items = items.unwrap_or_default();
            let Some(items) = items.iterate() else { return Err(type_error("can only join an iterable")) };
            for (index, item) in items.iter().enumerate() {
                let Value::Str(part) = item else {
                    operators::defined(item)?;
                    return Err(type_error(format!(
                        "sequence item {index}: expected str instance, {} found",
                        item.type_name()
                    )));
                };
                if index > 0 {
                    out.push_str(text);
                }
                out.push_str(part);
            }
            Value::str(out)
        }
        "replace" => {
            let [old, new, count] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (required_text(old)?, required_text(new)?);
            match usize::try_from(integer(count.as_ref(), -1)?) {
                Ok(count) => Value::str(text.replacen(&*old, &new, count)),
                Err(_) => Value::str(text.replace(&*old, &new)),
            }
        }
        "startswith" | "endswith" => affix(text, arguments, name)?,
        "find" | "rfind" => find(text, arguments, name)?.map_or(Value::Int(-1), Value::from),
        "index" | "rindex" => match find(text, arguments, name)? {
            Some(index) => Value::from(index),
            None => return Err(RenderError::compilation("substring not found")),
        },
        "count" => {
            let [pattern, start, end] = arguments.bind(name, ["sub", "start", "end"], 1)?;
            let pattern = required_text(pattern)?;
            let (part, _) = window(text, start.as_ref(), end.as_ref())?;
            Value::from(if pattern.is_empty() { part.chars().count() + 1 } else { part.matches(&*pattern).count() })
        }
        "format" => Value::str(braces(text, &arguments, &mut |value, key, is_item| {
            if is_item {
                let key = key.parse::<i64>().map_or_else(|_| Value::str(key), Value::from);
                interpreter.item(value, &key)
            } else {
                interpreter.attribute(value, key)
            }
        })?),
        "format_map" => {
            let [map] = arguments.bind(name, ["mapping"], 1)?;
            let mut keywords = Vec::new();
            if let Some(Value::Dict(map)) = &map {
                for (key, value) in map.read_recursive().iter() {
                    keywords.push((key.0.text(), value.clone()));
                }
            }
            let arguments = Arguments { positional: Vec::new(), keywords };
            Value::str(braces(text, &arguments, &mut |value, key, _| interpreter.attribute(value, key))?)
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(name, ["sep"], 1)?;
            let separator = required_text(separator)?;
            let found = if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
            Value::tuple(match found {
                Some((before, after)) => vec![before.into(), Value::Str(separator), after.into()],
                None if name == "partition" => vec![Value::Str(Arc::clone(text)), "".into(), "".into()],
                None => vec!["".into(), "".into(), Value::Str(Arc::clone(text))],
            })
        }
        "removeprefix" | "removesuffix" => {
            let [pattern] = arguments.bind(name, ["prefix"], 1)?;
            let pattern = required_text(pattern)?;
            let rest = if name == "removeprefix" { text.strip_prefix(&*pattern) } else { text.strip_suffix(&*pattern) };
            Value::str(rest.unwrap_or(text))
        }
        "ljust" | "rjust" | "center" => pad(text, arguments, name)?,
        "zfill" => {
            let [width] = arguments.bind(name, ["width"], 1)?;
            let width = usize::try_from(integer(width.as_ref(), 0)?).unwrap_or(0);
            let (sign, digits) = if text.starts_with(['+', '-']) { text.split_at(1) } else { ("", &**text) };
            let missing = width.saturating_sub(text.chars().count());
            Value::str(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "expandtabs" => {
            let [size] = arguments.bind(name, ["tabsize"], 0)?;
            let size = usize::try_from(integer(size.as_ref(), 8)?).unwrap_or(0);
            let (mut out, mut column) = (String::new(), 0);
            for c in text.chars() {
                match c {
                    '\t' if size > 0 => {
                        let spaces = size - column % size;
                        out.extend(std::iter::repeat_n(' ', spaces));
                        column += spaces;
                    }
                    '\t' => {}
                    '\n' | '\r' => {
                        out.push(c);
                        column = 0;
                    }
                    c => {
                        out.push(c);
                        column += 1;
                    }
                }
            }
            Value::str(out)
        }
        "isdigit" | "isdecimal" | "isnumeric" => every(char::is_numeric),
        "isalpha" => every(char::is_alphabetic),
        "isalnum" => every(char::is_alphanumeric),
        "isspace" => every(char::is_whitespace),
        "isascii" => Value::Bool(text.is_ascii()),
        "isidentifier" => Value::Bool(
            text.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && text.chars().all(|c| c.is_alphanumeric() || c == '_'),
        ),
        "isupper" => Value::Bool(is_cased(text, char::is_uppercase, char::is_lowercase)),
        "islower" => Value::Bool(is_cased(text, char::is_lowercase, char::is_uppercase)),
        "istitle" => Value::Bool(text.chars().any(char::is_alphabetic) && title(text) == **text),
        "translate" => {
            let [table] = arguments.bind(name, ["table"], 1)?;
            let Some(Value::Dict(table)) = table else { return Err(type_error("translate() needs a dict")) };
            let table = table.read_recursive();
            let mut out = String::new();
            for c in text.chars() {
                match table.get(&Key(Value::Int(u32::from(c).into()))) {
                    Some(Value::Str(text)) => out.push_str(text),
                    Some(Value::None) => {}
                    _ => out.push(c),
                }
            }
            Value::str(out)
        }
        _ => return Ok(None),
    }))
}

fn list(
    interpreter: &mut Interpreter<'_>,
    items: &super::ListRef,
    name: &str,
    arguments: Arguments,
) -> Result<Option<Value>, RenderError> {
    Ok(Some(match name {
        "append" => {
            let [item] = arguments.bind("list.append", ["object"], 1)?;
            items.write().push(item.unwrap_or_default());
            Value::None
        }
        "extend" => {
            let [more] = arguments.bind("list.extend", ["iterable"], 1)?;
            let more = iterate(&more.unwrap_or_default())?;
            items.write().extend(more);
            Value::None
        }
        "insert" => {
            let [index, item] = arguments.bind("list.insert", ["index", "object"], 2)?;
            let mut items = items.write();
            let length = items.len() as i128;
            let index = integer(index.as_ref(), 0)?;
            let index = if index < 0 { (index + length).max(0) } else { index.min(length) };
            items.insert(usize::try_from(index).unwrap_or(0), item.unwrap_or_default());
            Value::None
        }
        "pop" => {
            let [index] = arguments.bind("list.pop", ["index"], 0)?;
            let mut items = items.write();
            if items.is_empty() {
                return Err(RenderError::compilation("pop from empty list"));
            }
            match operators::index(integer(index.as_ref(), -1)?, items.len()) {
                Some(index) => items.remove(index),
                None => return Err(RenderError::compilation("pop index out of range")),
            }
        }
        "remove" => {
            let [item] = arguments.bind("list.remove", ["value"], 1)?;
            let item = item.unwrap_or_default();
            let index = items.read_recursive().iter().position(|known| *known == item);
            match index {
                Some(index) => items.write().remove(index),
                None => return Err(RenderError::compilation("list.remove(x): x not in list")),
            };
            Value::None
        }
        "clear" => {
            items.write().clear();
            Value::None
        }
        "copy" => Value::list(items.read_recursive().clone()),
        "reverse" => {
            items.write().reverse();
            Value::None
        }
        "sort" => {
            let [key, reverse] = arguments.bind("list.sort", ["key", "reverse"], 0)?;
            let sorted = items.read_recursive().clone();
            let sorted = sort(interpreter, sorted, key.as_ref(), reverse.is_some_and(|reverse| reverse.is_true()))?;
            *items.write() = sorted;
            Value::None
        }
        _ => {
            let items: Arc<[Value]> = items.read_recursive().clone().into();
            return sequence(&items, name, arguments);
        }
    }))
}

/// Sorts stably by the values of a function; Python's TypeError for what has no order.
pub(super) fn sort(
    interpreter: &mut Interpreter<'_>,
    items: Vec<Value>,
    key: Option<&Value>,
    reverse: bool,
) -> Result<Vec<Value>, RenderError> {
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let by = match key {
            None | Some(Value::None) => item.clone(),
            Some(key) => interpreter.call(key, Arguments::positional(vec![item.clone()]))?,
        };
        keyed.push((by, item));
    }
    sort_keyed(keyed, reverse)
}

/// Sorts stably by the first of each pair.
pub(super) fn sort_keyed(mut keyed: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<Value>, RenderError> {
    let mut failure = None;
    keyed.sort_by(|(left, _), (right, _)| {
        let (left, right) = if reverse { (right, left) } else { (left, right) };
        left.compare(right).unwrap_or_else(|| {
            failure.get_or_insert_with(|| {
                type_error(format!(
                    "'<' not supported between instances of '{}' and '{}'",
                    left.type_name(),
                    right.type_name()
                ))
            });
            std::cmp::Ordering::Equal
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}

fn sequence(items: &Arc<[Value]>, name: &str, arguments: Arguments) -> Result<Option<Value>, RenderError> {
    Ok(Some(match name {
        "count" => {
            let [item] = arguments.bind("count", ["value"], 1)?;
            let item = item.unwrap_or_default();
            Value::from(items.iter().filter(|known| **known == item).count())
        }
        "index" => {
            let [item, start] = arguments.bind("index", ["value", "start"], 1)?;
            let item = item.unwrap_or_default();
            let start = usize::try_from(integer(start.as_ref(), 0)?).unwrap_or(0);
            match items.iter().enumerate().skip(start).find(|(_, known)| **known == item) {
                Some((index, _)) => Value::from(index),
                None => return Err(RenderError::compilation(format!("{} is not in list", item.repr()))),
            }
        }
        _ => return Ok(None),
    }))
}

fn dict(map: &super::DictRef, name: &str, arguments: Arguments) -> Result<Option<Value>, RenderError> {
    let key_of = |key: Option<Value>| {
        let key = key.unwrap_or_default();
        hashable(&key)?;
        Ok::<_, RenderError>(Key(key))
    };
    Ok(Some(match name {
        "get" => {
            let [key, default] = arguments.bind("dict.get", ["key", "default"], 1)?;
            let key = key_of(key)?;
            let found = map.read_recursive().get(&key).cloned();
            found.unwrap_or_else(|| default.unwrap_or_default())
        }
        "items" => Value::list(
            map.read_recursive().iter().map(|(key, value)| Value::tuple(vec![key.0.clone(), value.clone()])).collect(),
        ),
        "keys" => Value::list(map.read_recursive().keys().map(|key| key.0.clone()).collect()),
        "values" => Value::list(map.read_recursive().values().cloned().collect()),
        "update" => {
            let Arguments { positional, keywords } = arguments;
            let mut entries = Vec::new();
            for source in &positional {
                match source {
                    Value::Dict(other) => {
                        entries.extend(other.read_recursive().iter().map(|(key, value)| (key.clone(), value.clone())));
                    }
                    other => {
                        for pair in iterate(other)? {
                            let pair = iterate(&pair)?;
                            let [key, value] = <[Value; 2]>::try_from(pair).map_err(|pair| {
                                RenderError::compilation(format!(
                                    "dictionary update sequence element #0 has length {}; 2 is required",
                                    pair.len()
                                ))
                            })?;
                            hashable(&key)?;
                            entries.push((Key(key), value));
                        }
                    }
                }
            }
            entries.extend(keywords.into_iter().map(|(key, value)| (Key(Value::Str(key)), value)));
            map.write().extend(entries);
            Value::None
        }
        "pop" => {
            let [key, default] = arguments.bind("dict.pop", ["key", "default"], 1)?;
            let key = key_of(key)?;
            let found = map.write().shift_remove(&key);
            match (found, default) {
                (Some(value), _) | (None, Some(value)) => value,
                (None, None) => return Err(RenderError::compilation(key.0.repr())),
            }
        }
        "popitem" => match map.write().pop() {
            Some((key, value)) => Value::tuple(vec![key.0, value]),
            None => return Err(RenderError::compilation("'popitem(): dictionary is empty'")),
        },
        "setdefault" => {
            let [key, default] = arguments.bind("dict.setdefault", ["key", "default"], 1)?;
            map.write().entry(key_of(key)?).or_insert_with(|| default.unwrap_or_default()).clone()
        }
        "clear" => {
            map.write().clear();
            Value::None
        }
        "copy" => Value::dict(map.read_recursive().clone()),
        _ => return Ok(None),
    }))
}

fn set(items: &super::SetRef, name: &str, arguments: Arguments) -> Result<Option<Value>, RenderError> {
    let mut others = Vec::new();
    for argument in &arguments.positional {
        if matches!(name, "add" | "discard" | "remove") {
            hashable(argument)?;
        } else {
            let mut other = indexmap::IndexSet::new();
            for item in iterate(argument)? {
                hashable(&item)?;
                other.insert(Key(item));
            }
            others.push(other);
        }
    }
    let single = || Key(arguments.positional.first().cloned().unwrap_or_default());
    let own = items.read_recursive().clone();
    let wrap = |set| Value::Set(Arc::new(parking_lot::RwLock::new(set)));
    let union = || {
        let mut result = own.clone();
        result.extend(others.iter().flatten().cloned());
        result
    };
    let difference = || {
        let mut result = own.clone();
        result.retain(|item| !others.iter().any(|other| other.contains(item)));
        result
    };
    let intersection = || {
        let mut result = own.clone();
        result.retain(|item| others.iter().all(|other| other.contains(item)));
        result
    };
    Ok(Some(match name {
        "add" => {
            items.write().insert(single());
            Value::None
        }
        "discard" => {
            items.write().shift_remove(&single());
            Value::None
        }
        "remove" => {
            let key = single();
            if !items.write().shift_remove(&key) {
                return Err(RenderError::compilation(key.0.repr()));
            }
            Value::None
        }
        "pop" => match items.write().pop() {
            Some(key) => key.0,
            None => return Err(RenderError::compilation("'pop from an empty set'")),
        },
        "clear" => {
            items.write().clear();
            Value::None
        }
        "copy" => wrap(own),
        "union" => wrap(union()),
        "difference" => wrap(difference()),
        "intersection" => wrap(intersection()),
        "symmetric_difference" => {
            let mut result = difference();
            result.extend(others.iter().flatten().filter(|item| !own.contains(*item)).cloned());
            wrap(result)
        }
        "update" => {
            *items.write() = union();
            Value::None
        }
        "difference_update" => {
            *items.write() = difference();
            Value::None
        }
        "intersection_update" => {
            *items.write() = intersection();
            Value::None
        }
        "issubset" => Value::Bool(own.iter().all(|item| others.iter().all(|other| other.contains(item)))),
        "issuperset" => Value::Bool(others.iter().flatten().all(|item| own.contains(item))),
        "isdisjoint" => Value::Bool(!others.iter().flatten().any(|item| own.contains(item))),
        _ => return Ok(None),
    }))
}

/// The entry of a dict under a string key, for callers that hold the map.
pub(super) fn entry(map: &super::DictRef, key: &str) -> Option<Value> {
    map.read_recursive().get(&TextKey(key)).cloned()
}
