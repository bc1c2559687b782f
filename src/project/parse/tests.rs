//! Generic tests: an entry of `data_tests:` to a test node, with dbt's name, hash and arguments. In: the test as written and
//! what it stands at; out: a [`Node`] whose `raw_code` calls the test's macro.

use std::sync::LazyLock;

use indexmap::IndexMap;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::{
    Context, nodes,
    properties::{Entry, Position, render_text, texts},
    references,
};
use crate::{
    error::Location,
    project::{
        Checksum, Contract, DependsOn, Docs, Node, NodeConfig, ProjectError, Ref, ResourceType, TestMetadata,
        config_rules,
        node::version_text,
        package::{python_repr, python_str},
    },
    render::{self, Source},
};

/// What a test stands at.
#[derive(Debug, Clone)]
pub(super) enum TestTarget {
    Node { name: String, version: Option<Value> },
    Source { source: String, table: String },
}

/// A test as it was found in a properties file.
#[derive(Debug)]
pub(super) struct TestSite<'e> {
    pub(super) entry: &'e Entry<'e>,
    pub(super) target: TestTarget,
    pub(super) definition: Value,
    pub(super) column_name: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) position: Position,
}

/// Arguments that are configuration, in dbt's order.
const CONFIG_ARGUMENTS: [&str; 14] = [
    "severity",
    "tags",
    "enabled",
    "where",
    "limit",
    "warn_if",
    "error_if",
    "fail_calc",
    "store_failures",
    "store_failures_as",
    "meta",
    "database",
    "schema",
    "alias",
];

/// The tests of an entry's columns and of the entry itself, in dbt's order. `columns` and `tests` are given, since those of a
/// version or a source's table are not the entry's own.
pub(super) fn sites<'e>(
    entry: &'e Entry<'e>,
    target: &TestTarget,
    columns: &[(&Value, Vec<String>)],
    tests: &[Value],
    tests_path: &[&str],
    extra_tags: &[String],
    out: &mut Vec<TestSite<'e>>,
) -> Result<(), ProjectError> {
    let is_source = matches!(target, TestTarget::Source { .. });
    let own = |out: &mut Vec<TestSite<'e>>| {
        for (index, definition) in tests.iter().enumerate() {
            let mut path: Vec<&str> = tests_path.to_vec();
            let index = index.to_string();
            path.push(&index);
            out.push(TestSite {
                entry,
                target: target.clone(),
                definition: definition.clone(),
                column_name: None,
                tags: extra_tags.to_vec(),
                position: entry.position(&path),
            });
        }
    };
    if is_source {
        own(out);
    }
    for (column, path) in columns {
        let Some(definitions) = column.get("data_tests") else { continue };
        let definitions = match definitions {
            Value::Null => continue,
            Value::Array(definitions) => definitions,
            other => {
                let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
                path.push("data_tests");
                return Err(ProjectError::parsing(format!(
                    "Invalid {} config given in {} @ {}: '{}' - data_tests: {} is not of type 'array'",
                    entry.section,
                    entry.file.original,
                    entry.section,
                    entry.name,
                    python_repr(other)
                ))
                .at(entry.locate(&path)));
            }
        };
        let name = column.get("name").and_then(Value::as_str).unwrap_or_default();
        let quote = column
            .get("quote")
            .and_then(Value::as_bool)
            .unwrap_or_else(|| entry.value.get("quote_columns").and_then(Value::as_bool).unwrap_or(false));
        let mut tags = extra_tags.to_vec();
        let config_tags = column.get("config").and_then(|config| config.get("tags"));
        for tag in texts(column.get("tags")).into_iter().chain(texts(config_tags)) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        for (index, definition) in definitions.iter().enumerate() {
            let index = index.to_string();
            let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
            path.extend(["data_tests", &index]);
            out.push(TestSite {
                entry,
                target: target.clone(),
                definition: definition.clone(),
                column_name: Some(if quote { format!("\"{name}\"") } else { name.to_owned() }),
                tags: tags.clone(),
                position: entry.position(&path),
            });
        }
    }
    if !is_source {
        own(out);
    }
    Ok(())
}

/// A test taken apart.
struct Builder {
    name: String,
    namespace: Option<String>,
    arguments: Map<String, Value>,
    config: Map<String, Value>,
    description: String,
    /// For the file and the alias: below 64 characters.
    short_name: String,
    /// For the id and the fqn.
    full_name: String,
}

impl TestSite<'_> {
    fn location(&self) -> Location {
        self.entry.at(self.position)
    }

    fn invalid(&self, message: impl std::fmt::Display) -> ProjectError {
        ProjectError::parsing(format!("Invalid test config given in {}:\n\t{message}", self.entry.file.original))
            .at(self.location())
    }

    fn call_of_target(&self) -> String {
        match &self.target {
            TestTarget::Node { name, version: None } => format!("ref('{name}')"),
            TestTarget::Node { name, version: Some(version) } => {
                format!("ref('{name}', version='{}')", version_text(version))
            }
            TestTarget::Source { source, table } => format!("source('{source}', '{table}')"),
        }
    }

    /// Name and arguments, from `unique`, `{unique: {…}}` or `{test_name: unique, …}`.
    fn take_apart(&self) -> Result<(String, Map<String, Value>), ProjectError> {
        let (name, arguments) = match &self.definition {
            Value::String(name) => (Value::String(name.clone()), Value::Object(Map::new())),
            Value::Object(map) if map.contains_key("test_name") => {
                let mut map = map.clone();
                let name = map.shift_remove("test_name").unwrap_or_default();
                (name, Value::Object(map))
            }
            Value::Object(map) => {
                let mut entries = map.iter();
                match (entries.next(), entries.next()) {
                    (Some((name, arguments)), None) => (Value::String(name.clone()), arguments.clone()),
                    _ => {
                        let list = map
                            .iter()
                            .map(|(key, value)| format!("({}, {})", python_repr(&json!(key)), python_repr(value)))
                            .collect::<Vec<_>>()
                            .join(", ");
                        return Err(self.invalid(format!(
                            "test definition dictionary must have exactly one key, got [{list}] instead ({} keys)",
                            map.len()
                        )));
                    }
                }
            }
            other => {
                return Err(self.invalid(format!(
                    "test must be dict or str, got <class '{}'> (value {})",
                    python_type(other),
                    python_repr(other)
                )));
            }
        };
        let Value::Object(mut arguments) = arguments else {
            return Err(self.invalid(format!(
                "test arguments must be a dict, got <class '{}'> (value {})",
                python_type(&arguments),
                python_repr(&arguments)
            )));
        };
        let Value::String(name) = name else {
            return Err(self.invalid(format!(
                "test name must be a str, got <class '{}'> (value {})",
                python_type(&name),
                python_repr(&name)
            )));
        };
        if let Some(column) = &self.column_name {
            arguments.insert("column_name".into(), json!(column));
        }
        if let Some(Value::Object(nested)) = arguments.shift_remove("arguments") {
            arguments.extend(nested);
        }
        Ok((name, arguments))
    }

    fn builder(&self, context: &Context<'_>) -> Result<Builder, ProjectError> {
        static NAME: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"^(?:([a-zA-Z_][0-9a-zA-Z_]*)\.)?([a-zA-Z_][0-9a-zA-Z_]*)").ok());
        let (written, mut arguments) = self.take_apart()?;
        if arguments.contains_key("model") {
            return Err(ProjectError::compilation(format!(
                "Invalid generic test configuration given in {}: \nTest arguments include \"model\", which is a reserved argument",
                self.entry.file.original
            ))
            .at(self.location()));
        }
        arguments.insert("model".into(), json!(format!("{{{{ get_where_subquery({}) }}}}", self.call_of_target())));
        let Some(parts) = NAME.as_ref().and_then(|pattern| pattern.captures(&written)) else {
            return Err(self.invalid(format!("Test name string did not match expected pattern: {written}")));
        };
        let namespace = parts.get(1).map(|part| part.as_str().to_owned());
        let name = parts.get(2).map_or_else(String::new, |part| part.as_str().to_owned());
        let package = context.packages[self.entry.file.package];
        let yaml_context = context.yaml_context(&package.name);
        let mut config = self.config(&mut arguments, &yaml_context)?;
        let description = match arguments.shift_remove("description") {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (short_name, full_name) = match arguments.shift_remove("name") {
            Some(Value::String(name)) => (name.clone(), name),
            _ => {
                let (short, full) = self.synthesize(&name, namespace.as_deref(), &arguments);
                if short != full && !config.contains_key("alias") {
                    config.insert("alias".into(), json!(short));
                }
                (short, full)
            }
        };
        Ok(Builder { name, namespace, arguments, config, description, short_name, full_name })
    }

    /// Takes what is configuration out of the arguments and renders it.
    fn config(
        &self,
        arguments: &mut Map<String, Value>,
        context: &render::YamlContext,
    ) -> Result<Map<String, Value>, ProjectError> {
        let mut nested = match arguments.shift_remove("config") {
            Some(Value::Object(map)) => map,
            Some(Value::Null) | None => Map::new(),
            Some(other) => {
                return Err(self.invalid(format!("config must be a dict, got <class '{}'>", python_type(&other))));
            }
        };
        let truthy = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0;
        let mut config = Map::new();
        for key in CONFIG_ARGUMENTS {
            let own = arguments.shift_remove(key);
            if own.as_ref().is_some_and(truthy) && nested.contains_key(key) {
                return Err(self.invalid("Test cannot have the same key at the top-level and in config"));
            }
            let value = match own {
                Some(value) if truthy(&value) => Some(value),
                other => nested.shift_remove(key).or(other),
            };
            if let Some(value) = value {
                config.insert(key.to_owned(), value);
            }
        }
        config.extend(nested);
        let mut rendered = Map::new();
        for (key, value) in config {
            let value = match value {
                Value::String(text) => render_text(text, context).map_err(|error| {
                    ProjectError::compilation(format!(
                        "Invalid generic test configuration given in {}: \n{}",
                        self.entry.file.original, error.message
                    ))
                    .at(self.location())
                })?,
                other => other,
            };
            if !value.is_null() {
                rendered.insert(key, value);
            }
        }
        Ok(rendered)
    }

    /// dbt's name of a test: its macro, its target and its arguments; hashed where it would be too long for a table.
    fn synthesize(&self, name: &str, namespace: Option<&str>, arguments: &Map<String, Value>) -> (String, String) {
        static UNCLEAN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("[^0-9a-zA-Z_]+").ok());
        let (kind, target) = match &self.target {
            TestTarget::Node { name: node, version: None } => (name.to_owned(), node.clone()),
            TestTarget::Node { name: node, version: Some(version) } => {
                (name.to_owned(), format!("{node}_v{}", version_text(version)))
            }
            TestTarget::Source { source, table } => (format!("source_{name}"), format!("{source}_{table}")),
        };
        let kind = namespace.map_or(kind.clone(), |namespace| format!("{namespace}_{kind}"));
        let mut names: Vec<&String> = arguments.keys().filter(|&name| name != "model").collect();
        names.sort();
        let mut parts = Vec::new();
        for name in names {
            match &arguments[name] {
                Value::Object(map) => parts.extend(map.values().map(python_str)),
                Value::Array(items) => parts.extend(items.iter().map(python_str)),
                other => parts.push(python_str(other)),
            }
        }
        let clean: Vec<String> = parts
            .iter()
            .map(|part| {
                UNCLEAN.as_ref().map_or_else(|| part.clone(), |unclean| unclean.replace_all(part, "_").into_owned())
            })
            .collect();
        let identifier = format!("{kind}_{target}");
        let full = format!("{identifier}_{}", clean.join("__"));
        let short = if full.chars().count() >= 64 {
            let start: String = identifier.chars().take(30).collect();
            format!("{start}_{}", md5(&full))
        } else {
            full.clone()
        };
        (short, full)
    }
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// Hexadecimal.
pub(crate) fn md5(text: &str) -> String {
    use md5::{Digest as _, Md5};
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last ten digits of the md5 of the name and of Python's print of the metadata, keys sorted, values as texts.
fn test_hash(name: &str, builder: &Builder) -> String {
    fn hashable(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                Value::Object(keys.into_iter().map(|key| (key.clone(), hashable(&map[key]))).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(hashable).collect()),
            other => Value::String(python_str(other)),
        }
    }
    let metadata = json!({"namespace": builder.namespace, "name": builder.name, "kwargs": builder.arguments});
    let digest = md5(&format!("{name}{}", python_repr(&hashable(&metadata))));
    digest[digest.len() - 10..].to_owned()
}

/// The config as a call at the end of the test's code.
fn config_call(config: &Map<String, Value>) -> String {
    if config.is_empty() {
        return String::new();
    }
    let arguments: Vec<String> = config
        .iter()
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}=\"{}\"", text.replace('"', "\\\"")),
            other => format!("{key}={}", python_repr(other)),
        })
        .collect();
    format!("{{{{ config({}) }}}}", arguments.join(","))
}

/// The test node. `attached`: id and group of the node the test stands at.
pub(super) fn build(
    context: &Context<'_>,
    site: &TestSite<'_>,
    attached: impl Fn(&str, &str, Option<&Value>) -> Option<(String, Option<String>)>,
) -> Result<Node, ProjectError> {
    let file = site.entry.file;
    let package = context.packages[file.package];
    let builder = site.builder(context)?;
    let mut fqn = vec![package.name.clone()];
    // Below the first folder of the file's path, whatever `model-paths` says.
    let below = file.original.split_once('/').map_or("", |(_, below)| below);
    if let Some((folders, _)) = below.rsplit_once('/') {
        fqn.extend(folders.split('/').map(str::to_owned));
    }
    fqn.push(builder.full_name.clone());
    let macro_name = match &builder.namespace {
        Some(namespace) => format!("{namespace}.test_{}", builder.name),
        None => format!("test_{}", builder.name),
    };
    let raw_code = format!("{{{{ {macro_name}(**_dbt_generic_test_kwargs) }}}}{}", config_call(&builder.config));
    let mut tags: Vec<String> = site.tags.iter().cloned().chain(texts(builder.config.get("tags"))).collect();
    tags.sort();
    tags.dedup();
    let (section, key_name) = match &site.target {
        TestTarget::Node { name, .. } => (site.entry.section, name.as_str()),
        TestTarget::Source { source, .. } => ("sources", source.as_str()),
    };
    let mut node = Node {
        unique_id: format!("test.{}.{}.{}", package.name, builder.full_name, test_hash(&builder.full_name, &builder)),
        resource_type: ResourceType::Test,
        name: builder.full_name.clone(),
        package_name: package.name.clone(),
        path: format!("{}.sql", builder.short_name),
        original_file_path: file.original.clone(),
        root_path: package.root.clone(),
        fqn,
        alias: builder.full_name.clone(),
        schema: context.target.schema.clone(),
        database: String::new(),
        relation_name: None,
        language: "sql".into(),
        raw_code,
        raw_code_line: site.position.line,
        checksum: Checksum { name: "none".into(), checksum: String::new() },
        config: NodeConfig::default(),
        unrendered_config: Map::new(),
        tags,
        meta: Map::new(),
        group: None,
        docs: Docs::default(),
        description: builder.description.clone(),
        doc_blocks: Vec::new(),
        columns: IndexMap::new(),
        patch_path: None,
        created_at: context.now,
        refs: Vec::new(),
        sources: Vec::new(),
        depends_on: DependsOn::default(),
        contract: Contract::default(),
        access: crate::project::Access::default(),
        constraints: Vec::new(),
        version: None,
        latest_version: None,
        deprecation_date: None,
        primary_key: Vec::new(),
        column_name: site.column_name.clone(),
        file_key_name: Some(format!("{section}.{key_name}")),
        attached_node: None,
        test_metadata: Some(TestMetadata {
            name: builder.name.clone(),
            kwargs: builder.arguments.clone(),
            namespace: builder.namespace.clone(),
        }),
        test_kwargs: builder.arguments.clone(),
        hook_index: None,
    };
    let full_name = match &builder.namespace {
        Some(namespace) => format!("{namespace}.{}", builder.name),
        None => builder.name.clone(),
    };
    let root = &context.packages[0].name;
    let test_macro =
        context.environment.macros.generic_test(root, &package.name, &full_name).map(|found| found.unique_id());
    node.depends_on.macros.extend(test_macro.clone());
    let mut calls = builder.config.clone();
    let shortcut = matches!(test_macro.as_deref(), Some("macro.dbt.test_not_null" | "macro.dbt.test_unique"));
    if shortcut || !capture_statically(context, site, &builder, test_macro.as_deref(), &mut node) {
        if shortcut {
            add_target(site, &mut node);
        } else {
            // dbt adds what stands in the properties once more when it renders the call.
            capture(context, site, &mut node, &mut calls)?;
        }
    } else {
        config_rules::merge_calls(&mut calls, builder.config.clone());
    }
    nodes::configure(context, &mut node, file.package, &Map::new(), &calls)
        .map_err(|error| error.at_least(site.location()))?;
    if let TestTarget::Node { name, version } = &site.target
        && let Some((id, group)) = attached(name, &package.name, version.as_ref())
    {
        node.attached_node = Some(id);
        node.group = group;
    }
    node.relation_name = nodes::relation_name(&node, context.stores_failures());
    Ok(node)
}

fn add_target(site: &TestSite<'_>, node: &mut Node) {
    match &site.target {
        TestTarget::Node { name, version } => {
            node.refs.push(Ref { name: name.clone(), package: None, version: version.clone() });
        }
        TestTarget::Source { source, table } => node.sources.push([source.clone(), table.clone()]),
    }
}

/// dbt's own tests use nothing beside their target and the refs among their arguments, so they need no rendering.
fn capture_statically(
    context: &Context<'_>,
    site: &TestSite<'_>,
    builder: &Builder,
    test_macro: Option<&str>,
    node: &mut Node,
) -> bool {
    if !matches!(test_macro, Some("macro.dbt.test_accepted_values" | "macro.dbt.test_relationships")) {
        return false;
    }
    fn plain(value: &Value) -> bool {
        match value {
            Value::String(text) => {
                !super::properties::has_jinja(text)
                    && !["ref(", "source(", "var(", "env_var("].iter().any(|call| text.trim_start().starts_with(call))
            }
            Value::Array(items) => items.iter().all(plain),
            Value::Object(map) => map.values().all(plain),
            _ => true,
        }
    }
    let mut found = Vec::new();
    for (name, value) in &builder.arguments {
        match (name.as_str(), value) {
            ("model", _) => {}
            ("to", Value::String(text)) => match references::parse(text) {
                Some(reference) => found.push(reference),
                None => return false,
            },
            (_, value) if plain(value) => {}
            _ => return false,
        }
    }
    // `column_name` comes first, then the arguments, the model last: the order in which dbt renders them.
    for reference in found {
        match reference {
            references::Reference::Ref(reference) => node.refs.push(reference),
            references::Reference::Source(source) => node.sources.push(source),
        }
    }
    add_target(site, node);
    let root = &context.packages[0].name;
    if let Some(subquery) = context.environment.macros.find(root, &node.package_name, "get_where_subquery") {
        node.depends_on.macros.push(subquery.unique_id());
    }
    true
}

fn capture(
    context: &Context<'_>,
    site: &TestSite<'_>,
    node: &mut Node,
    calls: &mut Map<String, Value>,
) -> Result<(), ProjectError> {
    let package = context.packages[site.entry.file.package];
    let complain = |error: render::RenderError| {
        // The place in generated code says nothing; the entry's line does.
        nodes::subject(node, package, error).at(site.location())
    };
    let mut renderer = context.renderer(node, &Map::new());
    let arguments = renderer.render_test_arguments(&Value::Object(node.test_kwargs.clone())).map_err(&complain)?;
    renderer.set("_dbt_generic_test_kwargs", arguments);
    match renderer.render(Source { text: &node.raw_code, path: &node.original_file_path, first_line: 1 }) {
        Ok(_) => {}
        // A test without a macro fails when it is compiled, not before (dbt's rule).
        Err(error) if error.message.contains("is undefined") => {}
        Err(error) => return Err(complain(error)),
    }
    let mut captured = renderer.take_captured();
    for call in std::mem::take(&mut captured.configs) {
        config_rules::merge_calls(calls, call);
    }
    nodes::take_captured(node, captured);
    Ok(())
}
