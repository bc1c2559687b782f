//! Properties files: their entries, rendered and checked, each with the line it stands on. In: YAML files; out:
//! [`Entry`]s by section. What an entry does to a node is decided by its reader.

use std::{path::PathBuf, sync::Arc};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{Context, files::SourceFile};
use crate::{
    error::Location,
    project::{Column, Package, ProjectError, Yaml, package::python_repr},
    render::{YamlContext, render_yaml},
};

/// The sections that chpipe reads.
pub(super) const SECTIONS: [&str; 10] = [
    "models",
    "seeds",
    "snapshots",
    "sources",
    "macros",
    "analyses",
    "exposures",
    "groups",
    "unit_tests",
    "data_tests",
];

/// dbt's semantic layer and functions: read by dbt, without a meaning on ClickHouse.
const UNSUPPORTED: [&str; 5] = ["metrics", "semantic_models", "saved_queries", "functions", "catalogs"];

/// One properties file.
#[derive(Debug)]
pub(super) struct PropertiesFile<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) tree: Yaml,
    pub(super) path: PathBuf,
    /// Keys that a mapping has more than once, with their lines.
    pub(super) repeated: Vec<(String, usize)>,
}

/// Where a value begins, from 1, and how wide it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) line: usize,
    column: usize,
    width: usize,
}

/// One list element of a section.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) path: Arc<PathBuf>,
    pub(super) section: &'static str,
    pub(super) name: String,
    /// Jinja rendered where dbt renders it now: not in descriptions, test arguments, hooks.
    pub(super) value: Map<String, Value>,
    pub(super) unrendered_schema: Option<String>,
    pub(super) unrendered_database: Option<String>,
    pub(super) tree: Yaml,
}

impl Entry<'_> {
    /// The line of the entry, or of one of its keys.
    pub(super) fn location(&self, key: Option<&str>) -> Location {
        let place = key.and_then(|key| self.tree.key(key)).or(self.tree.key("name")).unwrap_or(&self.tree);
        place.location(&self.path, None).with_source_line(self.file, place.line)
    }

    /// The line of a value inside the entry, by keys and positions; the deepest part that is there.
    pub(super) fn locate(&self, path: &[&str]) -> Location {
        self.at(self.position(path))
    }

    /// The same without its text, which costs a walk through the file and is wanted for errors only.
    pub(super) fn position(&self, path: &[&str]) -> Position {
        let mut place = &self.tree;
        let mut shown = &self.tree;
        for step in path {
            match step.parse::<usize>().ok().and_then(|at| place.as_list()?.get(at)) {
                Some(item) => {
                    place = item;
                    shown = item;
                }
                None => match (place.key(step), place.get(step)) {
                    (Some(key), Some(value)) => {
                        shown = key;
                        place = value;
                    }
                    _ => break,
                },
            }
        }
        let width = shown.as_str().map_or(1, |text| text.lines().next().unwrap_or_default().chars().count().max(1));
        Position { line: shown.line, column: shown.column, width }
    }

    /// A position with its text.
    pub(super) fn at(&self, position: Position) -> Location {
        Location {
            path: self.path.as_ref().clone(),
            line: Some(position.line),
            column: Some(position.column),
            source_line: None,
            width: position.width,
        }
        .with_source_line(self.file, position.line)
    }

    pub(super) fn str(&self, key: &str) -> Option<&str> {
        self.value.get(key).and_then(Value::as_str)
    }

    /// dbt's file id of the entry: `package://models/schema.yml`.
    pub(super) fn file_id(&self, package: &Package) -> String {
        format!("{}://{}", package.name, self.file.original)
    }

    /// A value that has the wrong type, in dbt's words.
    pub(super) fn wrong_type(&self, key: &str, expected: &str) -> ProjectError {
        let value = self.value.get(key).map(python_repr).unwrap_or_default();
        ProjectError::parsing(format!(
            "Invalid {} config given in {} @ {}: {} - at path ['{key}']: {value} is not of type '{expected}'",
            self.section, self.file.original, self.section, self.name
        ))
        .at(self.location(Some(key)))
    }

    pub(super) fn map(&self, key: &str) -> Result<Option<&Map<String, Value>>, ProjectError> {
        match self.value.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong_type(key, "object")),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<&[Value], ProjectError> {
        match self.value.get(key) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong_type(key, "array")),
        }
    }

    pub(super) fn description(&self) -> String {
        self.str("description").unwrap_or_default().to_owned()
    }
}

impl Location {
    fn with_source_line(mut self, file: &SourceFile, line: usize) -> Self {
        // The stored text begins at `first_line`.
        self.source_line =
            line.checked_sub(file.first_line).and_then(|at| file.text.lines().nth(at)).map(str::to_owned);
        self
    }
}

/// Parses one file and checks the shape of its sections.
pub(super) fn parse<'a>(file: &'a SourceFile, package: &Package) -> Result<PropertiesFile<'a>, ProjectError> {
    let path = package.root.join(&file.original);
    // Blank lines before the text keep the numbers right.
    let padded;
    let text = if file.first_line > 1 {
        padded = format!("{}{}", "\n".repeat(file.first_line - 1), file.text);
        &padded
    } else {
        &file.text
    };
    let (tree, repeated) = Yaml::parse_noting(text, &path).map_err(|error| ProjectError::Yaml {
        reason: format!(
            "Error reading {}: {} - Syntax error near line {}: {}",
            package.name,
            file.relative,
            error.location.line.unwrap_or(1),
            error.reason
        ),
        location: error.location,
    })?;
    let complain = |message: String, place: &Yaml| {
        Err(ProjectError::parsing(message).at(place.location(&path, None).with_source_line(file, place.line)))
    };
    let Some(entries) = tree.as_map() else {
        if tree.is_null() {
            return Ok(PropertiesFile { file, tree, path, repeated });
        }
        return complain(
            format!(
                "Error reading {}: {} - Contents of file '{}' are not valid. Dictionary expected.",
                package.name, file.relative, file.original
            ),
            &tree,
        );
    };
    for (key, value) in entries {
        let Some(section) = key.as_str().filter(|key| SECTIONS.contains(key) || UNSUPPORTED.contains(key)) else {
            continue;
        };
        // `data_tests:` at the top was a list of singular tests only from 1.9 on; the others are lists everywhere.
        let Some(items) = value.as_list() else {
            return complain(
                format!(
                    "The schema file at {} is invalid because the value of '{section}' is not a list",
                    file.original
                ),
                key,
            );
        };
        for item in items {
            if item.as_map().is_none() {
                return complain(
                    format!(
                        "The schema file at {} is invalid because a list element for '{section}' is not a dictionary",
                        file.original
                    ),
                    item,
                );
            }
            if item.get("name").is_none() {
                return complain(
                    format!(
                        "The schema file at {} is invalid because a list element for '{section}' does not have a name attribute.",
                        file.original
                    ),
                    item,
                );
            }
        }
    }
    Ok(PropertiesFile { file, tree, path, repeated })
}

/// The sections of a file that are left out, for a warning.
pub(super) fn unsupported(file: &PropertiesFile<'_>) -> Vec<&'static str> {
    UNSUPPORTED
        .into_iter()
        .filter(|section| file.tree.get(section).and_then(Yaml::as_list).is_some_and(|items| !items.is_empty()))
        .collect()
}

/// All entries of a file, rendered.
pub(super) fn entries<'a>(
    context: &Context<'_>,
    properties: &PropertiesFile<'a>,
) -> Result<Vec<Entry<'a>>, ProjectError> {
    let package = context.packages[properties.file.package];
    let path = Arc::new(properties.path.clone());
    let yaml_context = context.yaml_context(&package.name);
    let mut out = Vec::new();
    for section in SECTIONS {
        for tree in properties.tree.get(section).and_then(Yaml::as_list).unwrap_or_default() {
            let Value::Object(written) = tree.to_json() else { continue };
            let text = |key: &str| written.get(key).and_then(Value::as_str).map(str::to_owned);
            let (unrendered_schema, unrendered_database) = (text("schema"), text("database"));
            let name_tree = tree.get("name");
            let value = render_entry(Value::Object(written), section, &yaml_context).map_err(|error| {
                let place = name_tree.unwrap_or(tree);
                ProjectError::parsing(format!(
                    "Failed to render {} from project {}: {}\n  {}",
                    properties.file.original,
                    package.name,
                    error.kind.label(),
                    error.message
                ))
                .at(place.location(&path, None).with_source_line(properties.file, place.line))
            })?;
            let Value::Object(mut value) = value else { continue };
            rename_tests(&mut value, section, properties.file).map_err(|error| {
                error.at(tree
                    .key("tests")
                    .unwrap_or(tree)
                    .location(&path, None)
                    .with_source_line(properties.file, tree.key("tests").unwrap_or(tree).line))
            })?;
            let name = match value.get("name") {
                Some(Value::String(name)) => name.clone(),
                other => {
                    let shown = other.map(python_repr).unwrap_or_default();
                    return Err(ProjectError::parsing(format!(
                        "Invalid {section} config given in {}: at path ['name']: {shown} is not of type 'string'",
                        properties.file.original
                    ))
                    .at(name_tree.unwrap_or(tree).location(&path, None)));
                }
            };
            out.push(Entry {
                file: properties.file,
                path: Arc::clone(&path),
                section,
                name,
                value,
                unrendered_schema,
                unrendered_database,
                tree: tree.clone(),
            });
        }
    }
    Ok(out)
}

/// `tests:` is the old name of `data_tests:`, on entries, columns, versions, and the tables of sources.
fn rename_tests(value: &mut Map<String, Value>, section: &str, file: &SourceFile) -> Result<(), ProjectError> {
    let truthy = |value: &Value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Null => false,
        _ => true,
    };
    if value.get("tests").is_some_and(truthy) {
        if value.contains_key("data_tests") {
            let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
            return Err(ProjectError::parsing(format!(
                "Invalid {section} config given in {} @ {section}: '{name}' - at path []: Invalid test config: cannot have both 'tests' and 'data_tests' defined",
                file.original
            )));
        }
        if let Some(tests) = value.remove("tests") {
            value.insert("data_tests".into(), tests);
        }
    }
    for nested in ["columns", "versions", "tables"] {
        for item in value.get_mut(nested).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::Object(item) = item {
                rename_tests(item, section, file)?;
            }
        }
    }
    Ok(())
}

/// Whether dbt leaves this value alone while it reads the file.
/// <https://docs.getdbt.com/reference/dbt-jinja-functions>: descriptions, tests and hooks are rendered later.
fn is_kept(section: &str, path: &[&str]) -> bool {
    fn late(key: &str) -> bool {
        matches!(key, "tests" | "data_tests" | "description" | "loaded_at_query")
    }
    fn kept(path: &[&str]) -> bool {
        match path {
            [first, ..] if late(first) => true,
            [_, second] if late(second) => true,
            ["config", second, ..] => matches!(*second, "pre_hook" | "post_hook" | "loaded_at_query"),
            [_, _, _, _, fifth] if *fifth == "description" => true,
            ["columns" | "dimensions" | "measures" | "entities", _, third, ..] => {
                matches!(*third, "tests" | "data_tests" | "description")
            }
            _ => false,
        }
    }
    match (section, path) {
        ("sources", ["description" | "loaded_at_query", ..] | ["config", "loaded_at_query", ..]) => true,
        ("sources", ["tables", _, rest @ ..]) => kept(rest),
        ("sources", _) => false,
        ("macros", ["arguments", rest @ ..]) => kept(rest),
        _ => kept(path),
    }
}

/// Renders the strings of an entry; the ones without Jinja lose a newline at their end, as Jinja takes it.
fn render_entry(value: Value, section: &str, context: &YamlContext) -> Result<Value, crate::render::RenderError> {
    fn walk(
        value: Value,
        section: &str,
        context: &YamlContext,
        path: &mut Vec<String>,
    ) -> Result<Value, crate::render::RenderError> {
        match value {
            Value::String(text) => {
                let borrowed: Vec<&str> = path.iter().map(String::as_str).collect();
                if is_kept(section, &borrowed) {
                    return Ok(Value::String(text));
                }
                render_text(text, context)
            }
            Value::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    path.push(index.to_string());
                    out.push(walk(item, section, context, path)?);
                    path.pop();
                }
                Ok(Value::Array(out))
            }
            Value::Object(map) => {
                let mut out = Map::with_capacity(map.len());
                for (key, item) in map {
                    path.push(key.clone());
                    let item = walk(item, section, context, path)?;
                    path.pop();
                    out.insert(key, item);
                }
                Ok(Value::Object(out))
            }
            other => Ok(other),
        }
    }
    walk(value, section, context, &mut Vec::new())
}

/// Whether there is anything for Jinja in a text.
pub(super) fn has_jinja(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'{', bytes).any(|at| matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// One text, natively: `"{{ 1 }}"` is 1.
pub(super) fn render_text(text: String, context: &YamlContext) -> Result<Value, crate::render::RenderError> {
    if has_jinja(&text) {
        return Ok(render_yaml(&Value::String(text), context, &|_| false)?.0);
    }
    Ok(Value::String(match text.strip_suffix('\n') {
        Some(stripped) => stripped.to_owned(),
        None => text,
    }))
}

/// The columns of an entry as the manifest has them; `keys` are those that a column may have beside dbt's own.
pub(super) fn columns(entry: &Entry<'_>, items: &[Value]) -> Result<IndexMap<String, Column>, ProjectError> {
    let mut out = IndexMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = |key: &str| entry.locate(&["columns", &index.to_string(), key]);
        let Value::Object(item) = item else {
            return Err(ProjectError::parsing(format!(
                "Invalid {} config given in {}: a column of '{}' is not a dictionary",
                entry.section, entry.file.original, entry.name
            ))
            .at(at("name")));
        };
        let Some(name) = item.get("name").and_then(Value::as_str) else {
            return Err(ProjectError::parsing(format!(
                "Invalid {} config given in {} @ {}: '{}' - at path ['columns'][{index}]: 'name' is a required property",
                entry.section, entry.file.original, entry.section, entry.name
            ))
            .at(at("name")));
        };
        out.insert(name.to_owned(), column(entry, name, item, &at)?);
    }
    Ok(out)
}

fn column(
    entry: &Entry<'_>,
    name: &str,
    item: &Map<String, Value>,
    at: &dyn Fn(&str) -> Location,
) -> Result<Column, ProjectError> {
    let config = item.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut meta = item.get("meta").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(more) = config.get("meta").and_then(Value::as_object) {
        meta.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let mut tags = Vec::new();
    for tag in texts(item.get("tags")).into_iter().chain(texts(config.get("tags"))) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    // dbt keeps nothing else of a column's config.
    let mut merged = Map::new();
    merged.insert("meta".into(), Value::Object(meta.clone()));
    merged.insert("tags".into(), tags.iter().cloned().map(Value::String).collect());
    let constraints = constraints(item.get("constraints"), false).ok_or_else(|| {
        ProjectError::parsing(format!("Invalid constraint type on column {name}")).at(at("constraints"))
    })?;
    let mut extra = Map::new();
    for (key, value) in item {
        if !COLUMN_KEYS.contains(&key.as_str()) {
            extra.insert(key.clone(), value.clone());
        }
    }
    let data_type = match item.get("data_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            return Err(ProjectError::parsing(format!(
                "Invalid {} config given in {} @ {}: '{}' - at path ['columns']['data_type']: {} is not of type 'string'",
                entry.section,
                entry.file.original,
                entry.section,
                entry.name,
                python_repr(other)
            ))
            .at(at("data_type")));
        }
    };
    Ok(Column {
        name: name.to_owned(),
        description: item.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        meta,
        data_type,
        constraints,
        quote: item.get("quote").and_then(Value::as_bool),
        config: merged,
        tags,
        granularity: item.get("granularity").and_then(Value::as_str).map(str::to_owned),
        doc_blocks: Vec::new(),
        extra,
    })
}

const COLUMN_KEYS: [&str; 13] = [
    "name",
    "description",
    "meta",
    "data_type",
    "constraints",
    "docs",
    "config",
    "data_tests",
    "tests",
    "quote",
    "tags",
    "granularity",
    "doc_blocks",
];

/// Constraints with all their keys; `None` where one has no known type.
pub(super) fn constraints(value: Option<&Value>, of_model: bool) -> Option<Vec<Value>> {
    let Some(Value::Array(items)) = value else { return Some(Vec::new()) };
    items
        .iter()
        .map(|item| {
            let kind = item.get("type")?.as_str()?;
            if !matches!(kind, "check" | "not_null" | "unique" | "primary_key" | "foreign_key" | "custom") {
                return None;
            }
            let get = |key: &str| item.get(key).cloned().unwrap_or(Value::Null);
            let flag = |key: &str| item.get(key).cloned().unwrap_or(Value::Bool(true));
            let list =
                |key: &str| item.get(key).filter(|value| !value.is_null()).cloned().unwrap_or(Value::Array(Vec::new()));
            let mut map = Map::new();
            map.insert("type".into(), Value::String(kind.into()));
            map.insert("name".into(), get("name"));
            map.insert("expression".into(), get("expression"));
            map.insert("warn_unenforced".into(), flag("warn_unenforced"));
            map.insert("warn_unsupported".into(), flag("warn_unsupported"));
            map.insert("to".into(), get("to"));
            map.insert("to_columns".into(), list("to_columns"));
            if of_model {
                map.insert("columns".into(), list("columns"));
            }
            Some(Value::Object(map))
        })
        .collect()
}

/// A list of texts, or one text.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
