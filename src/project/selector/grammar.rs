//! Words to expressions: `2+tag:daily,config.materialized:table+1`, and the mappings of selectors.yml. In: text; out: a
//! [`Spec`], and `selectors` of manifest.json. What an expression finds is no matter here.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    cli::IndirectSelection,
    project::{ProjectError, package::python_repr},
};

/// A parsed expression.
#[derive(Debug, Clone)]
pub(super) enum Spec {
    Criterion(Box<Criterion>),
    Union {
        parts: Vec<Self>,
        indirect: IndirectSelection,
    },
    /// `raw` is what to warn of when nothing is found; none where that is no surprise.
    Intersection {
        parts: Vec<Self>,
        indirect: IndirectSelection,
        raw: Option<String>,
    },
    /// The first without the others.
    Difference {
        parts: Vec<Self>,
        indirect: IndirectSelection,
    },
}

/// One `@2+method.argument:value+3`.
#[derive(Debug, Clone)]
pub(super) struct Criterion {
    pub(super) method: String,
    pub(super) arguments: Vec<String>,
    pub(super) value: Value,
    pub(super) childrens_parents: bool,
    /// `Some(None)`: all of them.
    pub(super) parents: Option<Option<usize>>,
    pub(super) children: Option<Option<usize>>,
    pub(super) indirect: IndirectSelection,
}

const METHODS: [&str; 23] = [
    "fqn",
    "tag",
    "group",
    "access",
    "source",
    "path",
    "file",
    "package",
    "config",
    "test_name",
    "test_type",
    "resource_type",
    "state",
    "exposure",
    "metric",
    "result",
    "source_status",
    "version",
    "semantic_model",
    "saved_query",
    "unit_test",
    "selector",
    "function",
];

/// `a b,c`: a, and what b and c share.
pub(super) fn union(
    raw: &[String],
    indirect: IndirectSelection,
    expect: bool,
    definitions: &Definitions,
) -> Result<Spec, ProjectError> {
    let mut parts = Vec::new();
    for word in raw.iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty()) {
        let criteria =
            word.split(',').map(|part| single(part, indirect, definitions)).collect::<Result<Vec<_>, _>>()?;
        parts.push(Spec::Intersection { parts: criteria, indirect, raw: expect.then(|| word.to_owned()) });
    }
    Ok(Spec::Union { parts, indirect })
}

/// The pieces of `@2+method:value+3`, as texts.
struct Pieces<'t> {
    childrens_parents: bool,
    parents: Option<&'t str>,
    method: Option<&'t str>,
    value: &'t str,
    children: Option<&'t str>,
}

/// `\A(@)?((\d*)\+)?(([\w.]+):)?(.*?)(\+(\d*))?\Z`
fn pieces(raw: &str) -> Pieces<'_> {
    let (childrens_parents, rest) = raw.strip_prefix('@').map_or((false, raw), |rest| (true, rest));
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (parents, rest) = match rest[digits..].strip_prefix('+') {
        Some(after) => (Some(&rest[..digits]), after),
        None => (None, rest),
    };
    let (method, rest) = match rest.split_once(':') {
        Some((method, value))
            if !method.is_empty() && method.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.') =>
        {
            (Some(method), value)
        }
        _ => (None, rest),
    };
    let (value, children) = match rest.rfind('+') {
        Some(at) if rest[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => (&rest[..at], Some(&rest[at + 1..])),
        _ => (rest, None),
    };
    Pieces { childrens_parents, parents, method, value, children }
}

fn single(raw: &str, indirect: IndirectSelection, definitions: &Definitions) -> Result<Spec, ProjectError> {
    let pieces = pieces(raw);
    if pieces.childrens_parents && pieces.children.is_some() {
        return Err(ProjectError::runtime(format!(
            "Invalid node spec {raw} - \"@\" prefix and \"+\" suffix are incompatible"
        )));
    }
    let (method, arguments) = match pieces.method {
        Some(method) => method_parts(method)?,
        None => (default_method(pieces.value).to_owned(), Vec::new()),
    };
    if method == "selector" {
        return definitions.get(pieces.value).cloned().ok_or_else(|| {
            ProjectError::runtime(format!("Existing selector definition for {} not found.", pieces.value))
        });
    }
    Ok(Spec::Criterion(Box::new(Criterion {
        method,
        arguments,
        value: json!(pieces.value),
        childrens_parents: pieces.childrens_parents,
        parents: pieces.parents.map(|depth| depth.parse().ok()),
        children: pieces.children.map(|depth| depth.parse().ok()),
        indirect,
    })))
}

fn method_parts(method: &str) -> Result<(String, Vec<String>), ProjectError> {
    let mut parts = method.split('.').map(str::to_owned);
    let name = parts.next().unwrap_or_default();
    if METHODS.contains(&name.as_str()) {
        return Ok((name, parts.collect()));
    }
    Err(ProjectError::runtime(format!("'{name}' is not a valid method name"))
        .hinting(format!("methods: {}", METHODS.join(", "))))
}

/// A value without a method is a path, a file or a name.
fn default_method(value: &str) -> &'static str {
    let lower = value.to_lowercase();
    if value.contains('/') {
        "path"
    } else if [".sql", ".py", ".csv"].iter().any(|extension| lower.ends_with(extension)) {
        "file"
    } else {
        "fqn"
    }
}

/// selectors.yml, parsed.
pub(super) struct Definitions {
    specs: IndexMap<String, Spec>,
    default: Option<String>,
}

impl Definitions {
    pub(super) fn parse(selectors: &Value, indirect: IndirectSelection) -> Result<Self, ProjectError> {
        let mut out = Self { specs: IndexMap::new(), default: None };
        let invalid = |message: String| {
            ProjectError::runtime(format!("Could not read selector file data: Runtime Error\n  {message}"))
        };
        let Some(list) = selectors.get("selectors").and_then(Value::as_array) else { return Ok(out) };
        for selector in list {
            let Some(name) = selector.get("name").and_then(Value::as_str) else {
                return Err(invalid("at path []: 'name' is a required property".into()));
            };
            let Some(definition) = selector.get("definition") else {
                return Err(invalid(format!("selector '{name}': 'definition' is a required property")));
            };
            let spec = out.definition(definition, true, indirect).map_err(|error| match error {
                ProjectError::Runtime { message, .. } => invalid(message),
                other => other,
            })?;
            let is_default = match selector.get("default") {
                Some(Value::Bool(flag)) => *flag,
                Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
                _ => false,
            };
            if is_default {
                if let Some(other) = &out.default {
                    return Err(ProjectError::runtime(format!(
                        "Error when parsing the selector file. Found multiple selectors with `default: true`:{other} and {name}"
                    )));
                }
                out.default = Some(name.to_owned());
            }
            out.specs.insert(name.to_owned(), spec);
        }
        Ok(out)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Spec> {
        self.specs.get(name)
    }

    pub(super) fn default(&self) -> Option<&Spec> {
        self.specs.get(self.default.as_ref()?)
    }

    pub(super) fn names(&self) -> Vec<&String> {
        self.specs.keys().collect()
    }

    fn definition(&self, value: &Value, root: bool, indirect: IndirectSelection) -> Result<Spec, ProjectError> {
        let map = match value {
            Value::String(text) => return single(text, indirect, self),
            Value::Object(map) => map,
            other => {
                return Err(ProjectError::runtime(format!(
                    "Expected to find union, intersection, str or dict, instead found {}",
                    python_repr(other)
                )));
            }
        };
        if root && map.len() > 1 && (map.contains_key("union") || map.contains_key("intersection")) {
            let keys: Vec<&str> = map.keys().map(String::as_str).collect();
            return Err(ProjectError::runtime(format!(
                "Only a single 'union' or 'intersection' key is allowed in a root level selector definition; found {}.",
                keys.join(",")
            )));
        }
        for key in ["union", "intersection"] {
            let Some(items) = map.get(key) else { continue };
            let Some(items) = items.as_array() else {
                return Err(ProjectError::runtime(format!("Invalid value for key \"{key}\". Expected a list.")));
            };
            let mut parts = Vec::new();
            let mut excluded = None;
            for item in items {
                if item.get("exclude").is_some() && item.as_object().is_some_and(|map| map.len() == 1) {
                    if excluded.is_some() {
                        return Err(ProjectError::runtime(
                            "You cannot provide multiple exclude arguments to the same selector set operator",
                        ));
                    }
                    excluded = Some(self.exclusions(item, indirect)?);
                } else {
                    parts.push(self.definition(item, false, indirect)?);
                }
            }
            let spec = if key == "union" {
                Spec::Union { parts, indirect }
            } else {
                Spec::Intersection { parts, indirect, raw: None }
            };
            return Ok(match excluded {
                Some(excluded) => Spec::Difference { parts: vec![spec, excluded], indirect },
                None => spec,
            });
        }
        self.dictionary(map, indirect)
    }

    fn dictionary(&self, map: &Map<String, Value>, indirect: IndirectSelection) -> Result<Spec, ProjectError> {
        let (method, value) = match (map.get("method").and_then(Value::as_str), map.get("value")) {
            (Some("selector"), Some(Value::String(name))) => {
                return self.get(name).cloned().ok_or_else(|| {
                    ProjectError::runtime(format!("Existing selector definition for {name} not found."))
                });
            }
            (Some(method), Some(value)) => (method.to_owned(), value.clone()),
            _ => match (map.len(), map.iter().next()) {
                (1, Some((method, value))) => (method.clone(), value.clone()),
                _ => {
                    let keys: Vec<&String> = map.keys().collect();
                    return Err(ProjectError::runtime(format!(
                        "Expected either 1 key or else \"method\" and \"value\" keys, but got {}",
                        python_repr(&json!(keys))
                    )));
                }
            },
        };
        let (method, arguments) = method_parts(&method)?;
        let flag = |key: &str| map.get(key).is_some_and(|value| value == &Value::Bool(true));
        let depth = |key: &str| map.get(key).and_then(Value::as_u64).and_then(|depth| usize::try_from(depth).ok());
        let indirect = match map.get("indirect_selection").and_then(Value::as_str) {
            Some("eager") => IndirectSelection::Eager,
            Some("cautious") => IndirectSelection::Cautious,
            Some("buildable") => IndirectSelection::Buildable,
            Some("empty") => IndirectSelection::Empty,
            _ => indirect,
        };
        if flag("children") && flag("childrens_parents") {
            return Err(ProjectError::runtime(format!(
                "Invalid node spec {} - \"@\" prefix and \"+\" suffix are incompatible",
                python_repr(&Value::Object(map.clone()))
            )));
        }
        let base = Spec::Criterion(Box::new(Criterion {
            method,
            arguments,
            value,
            childrens_parents: flag("childrens_parents"),
            parents: flag("parents").then(|| depth("parents_depth")),
            children: flag("children").then(|| depth("children_depth")),
            indirect,
        }));
        if map.contains_key("exclude") {
            let excluded = self.exclusions(&Value::Object(map.clone()), indirect)?;
            return Ok(Spec::Difference { parts: vec![base, excluded], indirect });
        }
        Ok(base)
    }

    fn exclusions(&self, value: &Value, indirect: IndirectSelection) -> Result<Spec, ProjectError> {
        let Some(items) = value.get("exclude").and_then(Value::as_array) else {
            return Err(ProjectError::runtime("Invalid value for key \"exclude\". Expected a list."));
        };
        let parts = items.iter().map(|item| self.definition(item, false, indirect)).collect::<Result<Vec<_>, _>>()?;
        Ok(Spec::Union { parts, indirect })
    }
}

/// `selectors` of manifest.json: strings written out as mappings.
pub(in crate::project) fn manifest_selectors(selectors: &Value) -> Result<IndexMap<String, Value>, ProjectError> {
    // Also says early what is wrong with the file.
    Definitions::parse(selectors, IndirectSelection::Eager)?;
    let mut out: IndexMap<String, Value> = IndexMap::new();
    for selector in selectors.get("selectors").and_then(Value::as_array).into_iter().flatten() {
        let (Value::Object(map), Some(name)) = (selector, selector.get("name").and_then(Value::as_str)) else {
            continue;
        };
        let mut shown = map.clone();
        if let Some(definition) = map.get("definition") {
            shown.insert("definition".into(), written_out(definition, &out));
        }
        out.insert(name.to_owned(), Value::Object(shown));
    }
    Ok(out)
}

fn written_out(definition: &Value, known: &IndexMap<String, Value>) -> Value {
    match definition {
        Value::String(text) => from_text(text),
        Value::Object(map) => {
            for key in ["union", "intersection"] {
                if let Some(Value::Array(items)) = map.get(key) {
                    let items: Vec<Value> = items.iter().map(|item| written_out(item, known)).collect();
                    return json!({ key: items });
                }
            }
            if map.get("method").and_then(Value::as_str) == Some("selector")
                && let Some(found) = map.get("value").and_then(Value::as_str).and_then(|name| known.get(name))
            {
                return found.get("definition").cloned().unwrap_or_default();
            }
            match (map.len(), map.iter().next()) {
                (1, Some((key, Value::Array(items)))) if key == "exclude" => {
                    json!({"exclude": items.iter().map(|item| written_out(item, known)).collect::<Vec<_>>()})
                }
                (1, Some((key, value))) => json!({"method": key, "value": value}),
                _ => definition.clone(),
            }
        }
        other => other.clone(),
    }
}

fn from_text(text: &str) -> Value {
    let pieces = pieces(text);
    let mut map = BTreeMap::new();
    if pieces.childrens_parents {
        map.insert("childrens_parents", json!(true));
    }
    if let Some(depth) = pieces.parents {
        map.insert("parents", json!(true));
        if !depth.is_empty() {
            map.insert("parents_depth", json!(depth));
        }
    }
    map.insert("method", json!(pieces.method.unwrap_or_else(|| default_method(pieces.value))));
    if !pieces.value.is_empty() {
        map.insert("value", json!(pieces.value));
    }
    if let Some(depth) = pieces.children {
        map.insert("children", json!(true));
        if !depth.is_empty() {
            map.insert("children_depth", json!(depth));
        }
    }
    json!(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_come_apart() {
        type Shown<'a> = (bool, Option<&'a str>, Option<&'a str>, &'a str, Option<&'a str>);
        let cases: [(&str, Shown<'_>); 9] = [
            ("a", (false, None, None, "a", None)),
            ("+a", (false, Some(""), None, "a", None)),
            ("a+", (false, None, None, "a", Some(""))),
            ("2+a+3", (false, Some("2"), None, "a", Some("3"))),
            ("@tag:x", (true, None, Some("tag"), "x", None)),
            ("config.materialized:view", (false, None, Some("config.materialized"), "view", None)),
            ("+source:raw.t+1", (false, Some(""), Some("source"), "raw.t", Some("1"))),
            ("2a", (false, None, None, "2a", None)),
            ("path:models/a b.sql", (false, None, Some("path"), "models/a b.sql", None)),
        ];
        for (raw, (at, parents, method, value, children)) in cases {
            let found = pieces(raw);
            assert_eq!(
                (found.childrens_parents, found.parents, found.method, found.value, found.children),
                (at, parents, method, value, children),
                "{raw}"
            );
        }
    }
}
