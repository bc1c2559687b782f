//! `modules.re`: Python's regular expressions over fancy-regex, whose syntax is nearly the same.

use std::sync::Arc;

use fancy_regex::{Captures, Regex};

use super::{
    super::{
        Arguments, Interpreter, Key, Map, Object, RenderError, Value,
        operators::{defined, type_error},
    },
    module as module_of, native,
};

const IGNORECASE: i128 = 2;
const MULTILINE: i128 = 8;
const DOTALL: i128 = 16;
const VERBOSE: i128 = 64;

fn failed(error: fancy_regex::Error) -> RenderError {
    RenderError::compilation(error.to_string())
}

struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

fn compile(pattern: &Value, flags: i128) -> Result<Arc<Pattern>, RenderError> {
    if let Value::Object(object) = pattern
        && let Some(known) = object.downcast::<Pattern>()
    {
        return Ok(Arc::new(Pattern { text: Arc::clone(&known.text), regex: known.regex.clone() }));
    }
    defined(pattern)?;
    let Value::Str(text) = pattern else {
        return Err(type_error("first argument must be string or compiled pattern"));
    };
    let mut letters = String::new();
    for (flag, letter) in [(IGNORECASE, 'i'), (MULTILINE, 'm'), (DOTALL, 's'), (VERBOSE, 'x')] {
        if flags & flag != 0 {
            letters.push(letter);
        }
    }
    // Python's \Z is the very end, which is \z here.
    let body = text.replace("\\Z", "\\z");
    let source = if letters.is_empty() { body } else { format!("(?{letters}){body}") };
    let regex = Regex::new(&source).map_err(failed)?;
    Ok(Arc::new(Pattern { text: Arc::clone(text), regex }))
}

fn subject(value: Option<Value>) -> Result<Arc<str>, RenderError> {
    let value = value.unwrap_or_default();
    defined(&value)?;
    match value {
        Value::Str(text) => Ok(text),
        other => Err(type_error(format!("expected string or bytes-like object, got '{}'", other.type_name()))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Anywhere,
    Start,
    Whole,
}

fn first_match(pattern: &Pattern, text: &Arc<str>, anchor: Anchor) -> Result<Value, RenderError> {
    let anchored = match anchor {
        Anchor::Anywhere => None,
        Anchor::Start => Some(Regex::new(&format!("\\A(?:{})", pattern.regex.as_str())).map_err(failed)?),
        Anchor::Whole => Some(Regex::new(&format!("\\A(?:{})\\z", pattern.regex.as_str())).map_err(failed)?),
    };
    let regex = anchored.as_ref().unwrap_or(&pattern.regex);
    let found = regex.captures(text).map_err(failed)?;
    Ok(found.map_or(Value::None, |captures| match_value(regex, text, &captures)))
}

fn groups_of(captures: &Captures<'_>) -> Vec<Value> {
    captures.iter().skip(1).map(|group| group.map_or(Value::None, |group| Value::str(group.as_str()))).collect()
}

/// What `findall` lists for one match: the whole, the only group, or all groups.
fn found_value(captures: &Captures<'_>) -> Value {
    let text = |index: usize| Value::str(captures.get(index).map_or("", |group| group.as_str()));
    match captures.len() {
        1 => text(0),
        2 => text(1),
        count => Value::tuple((1..count).map(text).collect()),
    }
}

fn substitute(
    interpreter: &mut Interpreter<'_>,
    pattern: &Pattern,
    replacement: &Value,
    text: &Arc<str>,
    limit: usize,
) -> Result<(String, usize), RenderError> {
    let mut out = String::new();
    let (mut last, mut count) = (0, 0);
    for captures in pattern.regex.captures_iter(text) {
        let captures = captures.map_err(failed)?;
        if limit > 0 && count == limit {
            break;
        }
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(&text[last..whole.start()]);
        match replacement {
            Value::Str(template) => expand(template, &captures, &mut out)?,
            function => {
                let argument = match_value(&pattern.regex, text, &captures);
                interpreter.call(function, Arguments::positional(vec![argument]))?.write_text(&mut out);
            }
        }
        last = whole.end();
        count += 1;
    }
    out.push_str(&text[last..]);
    Ok((out, count))
}

/// `\1`, `\g<1>`, `\g<name>` and escapes of a replacement.
fn expand(template: &str, captures: &Captures<'_>, out: &mut String) -> Result<(), RenderError> {
    let mut rest = template;
    while let Some(position) = rest.find('\\') {
        out.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        let Some(c) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        if c.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()).min(2);
            let index = rest[..end].parse::<usize>().unwrap_or(0);
            if index >= captures.len() {
                return Err(RenderError::compilation(format!("invalid group reference {index}")));
            }
            out.push_str(captures.get(index).map_or("", |group| group.as_str()));
            rest = &rest[end..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("g<")
            && let Some((name, after)) = after.split_once('>')
        {
            let group = match name.parse::<usize>() {
                Ok(index) => captures.get(index),
                Err(_) => captures.name(name),
            };
            out.push_str(group.map_or("", |group| group.as_str()));
            rest = after;
            continue;
        }
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '\\' => out.push('\\'),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        rest = &rest[c.len_utf8()..];
    }
    out.push_str(rest);
    Ok(())
}

fn split(pattern: &Pattern, text: &str, limit: usize) -> Result<Value, RenderError> {
    let mut parts = Vec::new();
    let mut last = 0;
    for captures in pattern.regex.captures_iter(text) {
        let captures = captures.map_err(failed)?;
        if limit > 0 && parts.len() >= limit {
            break;
        }
        let Some(whole) = captures.get(0) else { continue };
        parts.push(Value::str(&text[last..whole.start()]));
        parts.extend(groups_of(&captures));
        last = whole.end();
    }
    parts.push(Value::str(&text[last..]));
    Ok(Value::list(parts))
}

/// Python's `re.escape`.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "()[]{}?*+-|^$\\.&~# \t\n\r\x0b\x0c".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A function of the module or a method of a pattern, once the pattern is known.
fn run(
    interpreter: &mut Interpreter<'_>,
    name: &str,
    pattern: &Pattern,
    arguments: Arguments,
) -> Result<Option<Value>, RenderError> {
    let count = |value: Option<Value>| {
        value.and_then(|value| value.as_int()).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    };
    Ok(Some(match name {
        "match" | "search" | "fullmatch" => {
            let [text, _position, _end] = arguments.bind(name, ["string", "pos", "endpos"], 1)?;
            let anchor = match name {
                "match" => Anchor::Start,
                "fullmatch" => Anchor::Whole,
                _ => Anchor::Anywhere,
            };
            first_match(pattern, &subject(text)?, anchor)?
        }
        "findall" | "finditer" => {
            let [text] = arguments.bind(name, ["string"], 1)?;
            let text = subject(text)?;
            let mut found = Vec::new();
            for captures in pattern.regex.captures_iter(&text) {
                let captures = captures.map_err(failed)?;
                found.push(if name == "findall" {
                    found_value(&captures)
                } else {
                    match_value(&pattern.regex, &text, &captures)
                });
            }
            Value::list(found)
        }
        "sub" | "subn" => {
            let [replacement, text, limit] = arguments.bind(name, ["repl", "string", "count"], 2)?;
            let replacement = replacement.unwrap_or_default();
            let (text, count) = substitute(interpreter, pattern, &replacement, &subject(text)?, count(limit))?;
            if name == "sub" { Value::str(text) } else { Value::tuple(vec![text.into(), count.into()]) }
        }
        "split" => {
            let [text, limit] = arguments.bind(name, ["string", "maxsplit"], 1)?;
            split(pattern, &subject(text)?, count(limit))?
        }
        _ => return Ok(None),
    }))
}

macro_rules! function {
    ($name:literal) => {
        (
            $name,
            native($name, |interpreter, mut arguments| {
                // The flags come last, after the method's own arguments.
                let own = match $name {
                    "sub" | "subn" => 4,
                    "split" => 3,
                    _ => 2,
                };
                let flags = arguments
                    .take_keyword("flags")
                    .or_else(|| (arguments.positional.len() > own).then(|| arguments.positional.remove(own)));
                let pattern = match arguments.take_keyword("pattern") {
                    Some(pattern) => pattern,
                    None if arguments.positional.is_empty() => {
                        return Err(type_error(format!(
                            "{}() missing 1 required positional argument: 'pattern'",
                            $name
                        )));
                    }
                    None => arguments.positional.remove(0),
                };
                let flags = flags.and_then(|flags| flags.as_int()).unwrap_or(0);
                let pattern = compile(&pattern, flags)?;
                Ok(run(interpreter, $name, &pattern, arguments)?.unwrap_or_default())
            }),
        )
    };
}

pub(super) fn module() -> Value {
    module_of(vec![
        function!("match"),
        function!("search"),
        function!("fullmatch"),
        function!("findall"),
        function!("finditer"),
        function!("sub"),
        function!("subn"),
        function!("split"),
        (
            "compile",
            native("compile", |_, arguments| {
                let [pattern, flags] = arguments.bind("compile", ["pattern", "flags"], 1)?;
                let flags = flags.and_then(|flags| flags.as_int()).unwrap_or(0);
                Ok(Value::Object(compile(&pattern.unwrap_or_default(), flags)?))
            }),
        ),
        (
            "escape",
            native("escape", |_, arguments| {
                let [text] = arguments.bind("escape", ["pattern"], 1)?;
                Ok(Value::str(escape(&subject(text)?)))
            }),
        ),
        ("IGNORECASE", Value::Int(IGNORECASE)),
        ("I", Value::Int(IGNORECASE)),
        ("MULTILINE", Value::Int(MULTILINE)),
        ("M", Value::Int(MULTILINE)),
        ("DOTALL", Value::Int(DOTALL)),
        ("S", Value::Int(DOTALL)),
        ("VERBOSE", Value::Int(VERBOSE)),
        ("X", Value::Int(VERBOSE)),
        ("ASCII", Value::Int(256)),
        ("A", Value::Int(256)),
        ("UNICODE", Value::Int(32)),
        ("U", Value::Int(32)),
    ])
}

impl Object for Pattern {
    fn type_name(&self) -> &str {
        "Pattern"
    }

    fn repr(&self) -> String {
        format!("re.compile({})", Value::Str(Arc::clone(&self.text)).repr())
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok((name == "pattern").then(|| Value::Str(Arc::clone(&self.text))))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        run(interpreter, name, &self, arguments.clone())
    }
}

struct Group {
    text: Value,
    start: i64,
    end: i64,
}

/// Python's match object.
struct Match {
    groups: Vec<Group>,
    names: Vec<(String, usize)>,
    subject: Arc<str>,
}

fn match_value(regex: &Regex, subject: &Arc<str>, captures: &Captures<'_>) -> Value {
    let position = |byte: usize| i64::try_from(subject[..byte].chars().count()).unwrap_or(0);
    let groups = captures
        .iter()
        .map(|group| match group {
            Some(group) => {
                Group { text: Value::str(group.as_str()), start: position(group.start()), end: position(group.end()) }
            }
            None => Group { text: Value::None, start: -1, end: -1 },
        })
        .collect();
    let names = regex.capture_names().enumerate().filter_map(|(index, name)| Some((name?.to_owned(), index))).collect();
    Value::object(Match { groups, names, subject: Arc::clone(subject) })
}

impl Match {
    fn index(&self, key: &Value) -> Result<usize, RenderError> {
        let index = match key {
            Value::Str(name) => self.names.iter().find(|(known, _)| **known == **name).map(|(_, index)| *index),
            other => other.as_int().and_then(|index| usize::try_from(index).ok()),
        };
        index.filter(|index| *index < self.groups.len()).ok_or_else(|| RenderError::compilation("no such group"))
    }
}

impl Object for Match {
    fn type_name(&self) -> &str {
        "Match"
    }

    fn repr(&self) -> String {
        let whole = &self.groups[0];
        format!("<re.Match object; span=({}, {}), match={}>", whole.start, whole.end, whole.text.repr())
    }

    fn item(&self, key: &Value, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(self.index(key).ok().map(|index| self.groups[index].text.clone()))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok((name == "string").then(|| Value::Str(Arc::clone(&self.subject))))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "group" | "groups" | "groupdict" | "start" | "end" | "span" | "expand")
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let first = arguments.positional.first();
        let group = || first.map_or(Ok(0), |key| self.index(key)).map(|index| &self.groups[index]);
        let or_default =
            |value: &Value| if value.is_none() { first.cloned().unwrap_or_default() } else { value.clone() };
        Ok(Some(match name {
            "group" => match &arguments.positional[..] {
                [] | [_] => group()?.text.clone(),
                keys => {
                    let found = keys
                        .iter()
                        .map(|key| self.index(key).map(|index| self.groups[index].text.clone()))
                        .collect::<Result<Vec<_>, _>>()?;
                    Value::tuple(found)
                }
            },
            "groups" => Value::tuple(self.groups.iter().skip(1).map(|group| or_default(&group.text)).collect()),
            "groupdict" => Value::dict(
                self.names
                    .iter()
                    .map(|(name, index)| (Key(Value::str(name.as_str())), or_default(&self.groups[*index].text)))
                    .collect::<Map>(),
            ),
            "start" => Value::from(group()?.start),
            "end" => Value::from(group()?.end),
            "span" => {
                let group = group()?;
                Value::tuple(vec![group.start.into(), group.end.into()])
            }
            _ => return Ok(None),
        }))
    }
}
