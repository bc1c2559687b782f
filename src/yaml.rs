//! YAML as dbt reads it, with the line of every value. dbt loads with PyYAML, so scalars follow YAML 1.1: `yes`, `no`, `on`
//! and `off` are booleans, `0777` is octal, `1e3` is a text, `<<` merges, a repeated key's last value wins. In: a text; out: a
//! tree, or JSON values. It renders no Jinja.

use std::{collections::HashMap, path::Path};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

use crate::error::Location;

/// A text that is no YAML.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct YamlError {
    pub reason: String,
    pub location: Location,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Yaml {
    pub kind: YamlKind,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum YamlKind {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Yaml>),
    Map(Vec<(Yaml, Yaml)>),
}

impl Yaml {
    /// Parses the first document of a text; `Null` where it is empty.
    ///
    /// # Errors
    /// Invalid YAML, with its line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, YamlError> {
        Self::parse_noting(text, path).map(|(value, _)| value)
    }

    /// The same, with the keys that a mapping has more than once, and their lines.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_noting(text: &str, path: &Path) -> Result<(Self, Vec<(String, usize)>), YamlError> {
        // PyYAML refuses no byte order mark; the scanner does.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut loader = Loader { parser: Parser::new_from_str(text), anchors: HashMap::new(), repeated: Vec::new() };
        match loader.document() {
            Ok(value) => Ok((value, loader.repeated)),
            Err(failure) => Err(YamlError {
                reason: failure.reason,
                location: Location {
                    path: path.to_owned(),
                    line: Some(failure.line),
                    column: Some(failure.column),
                    source_line: text.lines().nth(failure.line.saturating_sub(1)).map(str::to_owned),
                    width: 1,
                },
            }),
        }
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            YamlKind::Map(entries) => {
                entries.iter().rev().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The key itself, for its line.
    pub fn key(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            YamlKind::Map(entries) => {
                entries.iter().rev().find(|(name, _)| name.as_str() == Some(key)).map(|(name, _)| name)
            }
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            YamlKind::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.kind {
            YamlKind::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        match &self.kind {
            YamlKind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.kind == YamlKind::Null
    }

    /// Python's name of its type, as dbt's messages have it.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            YamlKind::Null => "NoneType",
            YamlKind::Bool(_) => "bool",
            YamlKind::Number(number) if number.is_f64() => "float",
            YamlKind::Number(_) => "int",
            YamlKind::String(_) => "str",
            YamlKind::List(_) => "list",
            YamlKind::Map(_) => "dict",
        }
    }

    /// Without the positions; a key that is no text becomes one, as JSON wants it.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            YamlKind::Null => Value::Null,
            YamlKind::Bool(flag) => Value::Bool(*flag),
            YamlKind::Number(number) => Value::Number(number.clone()),
            YamlKind::String(text) => Value::String(text.clone()),
            YamlKind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            YamlKind::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, value) in entries {
                    let key = match &key.kind {
                        YamlKind::String(text) => text.clone(),
                        YamlKind::Null => "null".into(),
                        YamlKind::Bool(flag) => flag.to_string(),
                        _ => key.to_json().to_string(),
                    };
                    map.insert(key, value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// Where this value stands in a file.
    pub fn location(&self, path: &Path, text: Option<&str>) -> Location {
        Location {
            path: path.to_owned(),
            line: Some(self.line),
            column: Some(self.column),
            source_line: text.and_then(|text| text.lines().nth(self.line.saturating_sub(1))).map(str::to_owned),
            width: self.as_str().map_or(1, |text| text.lines().next().unwrap_or_default().chars().count().max(1)),
        }
    }
}

struct Failure {
    reason: String,
    line: usize,
    column: usize,
}

impl Failure {
    fn at(span: &Span, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// Whether a key that nobody knows may be meant for a known one: one letter more, less or other, or two swapped.
pub(crate) fn is_near(known: &str, typed: &str) -> bool {
    let (known, typed): (Vec<char>, Vec<char>) = (known.chars().collect(), typed.chars().collect());
    let start = known.iter().zip(&typed).take_while(|(a, b)| a == b).count();
    let end = known[start..].iter().rev().zip(typed[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let rest = |all: usize| all - start - end;
    let (left, right) = (rest(known.len()), rest(typed.len()));
    left.max(right) <= 1
        || (left == 2 && right == 2 && known[start] == typed[start + 1] && known[start + 1] == typed[start])
}

struct Loader<'input> {
    parser: Parser<'input, saphyr_parser::StrInput<'input>>,
    anchors: HashMap<usize, Yaml>,
    /// Keys that were there already, with their lines.
    repeated: Vec<(String, usize)>,
}

impl<'input> Loader<'input> {
    fn next(&mut self) -> Result<(Event<'input>, Span), Failure> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Failure {
                reason: error.info().to_owned(),
                line: error.marker().line(),
                column: error.marker().col() + 1,
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Yaml, Failure> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => {
                    return Ok(Yaml { kind: YamlKind::Null, line: 1, column: 1 });
                }
                (event, span) => {
                    let value = self.value(event, &span)?;
                    // A second document is an error in PyYAML's safe_load.
                    loop {
                        match self.next()? {
                            (Event::StreamEnd, _) => return Ok(value),
                            (Event::DocumentEnd | Event::Nothing, _) => {}
                            (Event::DocumentStart(_), span) => {
                                return Err(Failure::at(&span, "expected a single document, but found another one"));
                            }
                            (_, span) => return Err(Failure::at(&span, "unexpected content after the document")),
                        }
                    }
                }
            }
        }
    }

    fn value(&mut self, event: Event<'input>, span: &Span) -> Result<Yaml, Failure> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_ref().map(|tag| tag.suffix.as_str());
                let kind = match (tag, style) {
                    (Some("str"), _) => YamlKind::String(text.into_owned()),
                    (None, ScalarStyle::Plain) => resolve(&text),
                    (Some("int" | "float" | "bool" | "null"), _) => resolve(&text),
                    _ => YamlKind::String(text.into_owned()),
                };
                (kind, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.value(event, &span)?);
                }
                (YamlKind::List(items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping()?, anchor),
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    return Err(Failure::at(span, "found an alias of an anchor that is not defined"));
                };
                return Ok(Yaml { kind: target.kind.clone(), line, column });
            }
            _ => return Err(Failure::at(span, "the document ends too early")),
        };
        let value = Yaml { kind, line, column };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn mapping(&mut self) -> Result<YamlKind, Failure> {
        let mut entries: Vec<(Yaml, Yaml)> = Vec::new();
        let mut merged: Vec<(Yaml, Yaml)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let plain = matches!(&event, Event::Scalar(_, ScalarStyle::Plain, _, _));
            let key = self.value(event, &span)?;
            let (event, value_span) = self.next()?;
            let value = self.value(event, &value_span)?;
            if matches!(key.kind, YamlKind::List(_) | YamlKind::Map(_)) {
                return Err(Failure::at(&span, "found an unhashable key (a Jinja expression needs quotes around it)"));
            }
            if plain && key.as_str() == Some("<<") {
                merge(&mut merged, value).map_err(|reason| Failure::at(&value_span, reason))?;
                continue;
            }
            match entries.iter_mut().find(|(known, _)| known.kind == key.kind) {
                Some(entry) => {
                    self.repeated.push((key.as_str().unwrap_or_default().to_owned(), key.line));
                    entry.1 = value;
                }
                None => entries.push((key, value)),
            }
        }
        // PyYAML puts merged keys first, and what is written here wins.
        if !merged.is_empty() {
            let own = std::mem::take(&mut entries);
            entries = merged;
            for (key, value) in own {
                match entries.iter_mut().find(|(known, _)| known.kind == key.kind) {
                    Some(entry) => entry.1 = value,
                    None => entries.push((key, value)),
                }
            }
        }
        Ok(YamlKind::Map(entries))
    }
}

fn merge(merged: &mut Vec<(Yaml, Yaml)>, value: Yaml) -> Result<(), &'static str> {
    match value.kind {
        YamlKind::Map(entries) => {
            for (key, value) in entries {
                // The first of several merged mappings wins.
                if !merged.iter().any(|(known, _)| known.kind == key.kind) {
                    merged.push((key, value));
                }
            }
            Ok(())
        }
        YamlKind::List(items) => items.into_iter().try_for_each(|item| merge(merged, item)),
        _ => Err("expected a mapping or list of mappings for merging"),
    }
}

/// A plain scalar under YAML 1.1's rules as PyYAML has them.
/// <https://github.com/yaml/pyyaml/blob/main/lib/yaml/resolver.py>
fn resolve(text: &str) -> YamlKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return YamlKind::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return YamlKind::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return YamlKind::Bool(false),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return YamlKind::String(text.to_owned());
    }
    if let Some(number) = integer(text).or_else(|| float(text)) {
        return YamlKind::Number(number);
    }
    YamlKind::String(text.to_owned())
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = if let Some(binary) = digits.strip_prefix("0b") {
        (2, binary)
    } else if let Some(hex) = digits.strip_prefix("0x") {
        (16, hex)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let starts = digits.as_bytes().first()?;
    let may_start = char::from(*starts).is_digit(radix) || (radix != 10 && *starts == b'_');
    if !may_start {
        return None;
    }
    if radix == 10 && digits.contains(':') {
        return sexagesimal(digits, negative);
    }
    let clean: String = digits.chars().filter(|&c| c != '_').collect();
    let value = i128::from_str_radix(&clean, radix).ok()?;
    let value = if negative { -value } else { value };
    i64::try_from(value).ok().map(Number::from).or_else(|| u64::try_from(value).ok().map(Number::from))
}

/// `1:30` is 90 in YAML 1.1; minutes and seconds have one or two digits below 60.
fn sexagesimal(digits: &str, negative: bool) -> Option<Number> {
    let mut value: i64 = 0;
    for (index, part) in digits.split(':').enumerate() {
        let number: i64 = part.replace('_', "").parse().ok()?;
        if index > 0 && (part.len() > 2 || number > 59) {
            return None;
        }
        value = value.checked_mul(60)?.checked_add(number)?;
    }
    Some(Number::from(if negative { -value } else { value }))
}

fn float(text: &str) -> Option<Number> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut chars = body.chars().peekable();
    let mut digits = 0;
    let mut seen_dot = false;
    while let Some(&c) = chars.peek() {
        match c {
            '0'..='9' => digits += 1,
            '_' if digits > 0 || seen_dot => {}
            '.' if !seen_dot => seen_dot = true,
            _ => break,
        }
        chars.next();
    }
    if !seen_dot || digits == 0 {
        return None;
    }
    let rest: String = chars.collect();
    if !rest.is_empty() {
        // PyYAML wants the exponent's sign.
        let exponent = rest.strip_prefix(['e', 'E'])?;
        let exponent = exponent.strip_prefix(['-', '+'])?;
        if exponent.is_empty() || !exponent.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
    }
    let clean: String = text.chars().filter(|&c| c != '_').collect();
    Number::from_f64(clean.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json_of(text: &str) -> Value {
        Yaml::parse(text, Path::new("x.yml")).expect("valid").to_json()
    }

    /// Scalars are what PyYAML makes of them.
    #[test]
    fn scalars_follow_yaml_1_1() {
        let cases = [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("n", json!("n")),
            ("1", json!(1)),
            ("1_000", json!(1000)),
            ("010", json!(8)),
            ("0x1F", json!(31)),
            ("09", json!("09")),
            ("1e3", json!("1e3")),
            ("1.5e+3", json!(1500.0)),
            ("1.0", json!(1.0)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1:30", json!(90)),
            ("1.2.3", json!("1.2.3")),
            ("2024-01-01", json!("2024-01-01")),
            ("'yes'", json!("yes")),
            ("!!str 5", json!("5")),
            ("~", json!(null)),
            ("-", json!([null])),
            ("'{{ x }}'", json!("{{ x }}")),
        ];
        for (text, value) in cases {
            assert_eq!(json_of(text), value, "{text}");
        }
    }

    #[test]
    fn anchors_and_merges_work() {
        assert_eq!(
            json_of("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"),
            json!({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}})
        );
    }

    #[test]
    fn the_last_of_a_repeated_key_wins() {
        assert_eq!(json_of("a: 1\na: 2"), json!({"a": 2}));
    }

    #[test]
    fn errors_have_their_line() {
        let error = Yaml::parse("a: 1\nb: [1, 2\nc: 3\n", Path::new("x.yml")).expect_err("invalid");
        assert!(Some(error.location).is_some_and(|location| location.line.is_some_and(|line| line >= 2)));
    }

    #[test]
    fn values_know_their_line() {
        let yaml = Yaml::parse("models:\n  - name: a\n    columns: []\n", Path::new("x.yml")).expect("valid");
        let model = &yaml.get("models").and_then(Yaml::as_list).expect("list")[0];
        assert_eq!(model.line, 2);
        assert_eq!(model.key("columns").map(|key| (key.line, key.column)), Some((3, 5)));
    }
}
