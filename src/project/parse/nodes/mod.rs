//! Models, snapshots, seeds, analyses, singular tests and hooks: their template rendered for what it uses, their config
//! put together, their relation named. In: a [`Stub`] and its properties entry; out: a [`Node`].

mod config;
mod naming;

use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use self::config::access_of;
use super::{
    Context,
    files::{FileKind, SourceFile, sha256},
    properties::{self, Entry},
};
use crate::{
    error::Location,
    project::{
        Access, Checksum, Column, Contract, DependsOn, Docs, Node, NodeConfig, Package, ProjectError, Ref,
        ResourceType, config_rules,
        node::version_text,
        package::{python_repr, python_str},
    },
    render::{self, Captured, NodeContext, Phase, RenderError, Renderer, Services, Source},
};

pub(super) use self::{config::configure, naming::relation_name};

/// A node before its template is rendered.
#[derive(Debug)]
pub(super) struct Stub {
    pub(super) package: usize,
    pub(super) kind: ResourceType,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) original: String,
    pub(super) fqn: Vec<String>,
    pub(super) raw_code: String,
    pub(super) first_line: usize,
    pub(super) checksum: Checksum,
    pub(super) python: bool,
    pub(super) hook: Option<(&'static str, usize)>,
}

/// What a properties entry says about one node: of a versioned model, about one version.
#[derive(Debug, Clone)]
pub(super) struct Patch<'e> {
    pub(super) entry: &'e Entry<'e>,
    /// The model's name, which of a version's file differs.
    pub(super) name: String,
    pub(super) description: String,
    pub(super) columns: IndexMap<String, Column>,
    pub(super) config: Map<String, Value>,
    pub(super) constraints: Vec<Value>,
    pub(super) access: Option<String>,
    pub(super) version: Option<Value>,
    pub(super) latest_version: Option<Value>,
    pub(super) deprecation_date: Option<String>,
}

/// The stubs of a file; several for snapshots.
pub(super) fn stubs(context: &Context<'_>, file: &SourceFile) -> Result<Vec<Stub>, ProjectError> {
    let package = context.packages[file.package];
    let directories = |path: &str| -> Vec<String> {
        let mut fqn = vec![package.name.clone()];
        let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
        fqn.extend(folders.split('/').filter(|folder| !folder.is_empty()).map(str::to_owned));
        fqn
    };
    let stub = |kind: ResourceType, name: &str, path: String, fqn: Vec<String>| Stub {
        package: file.package,
        kind,
        name: name.to_owned(),
        path,
        original: file.original.clone(),
        fqn,
        raw_code: file.text.clone(),
        first_line: file.first_line,
        checksum: file.checksum.clone(),
        python: file.relative.ends_with(".py"),
        hook: None,
    };
    let simple = |kind: ResourceType, path: String| {
        let mut fqn = directories(&path);
        fqn.push(file.stem().to_owned());
        vec![stub(kind, file.stem(), path, fqn)]
    };
    Ok(match file.kind {
        FileKind::Model => simple(ResourceType::Model, file.relative.clone()),
        FileKind::Seed => simple(ResourceType::Seed, file.relative.clone()),
        FileKind::SingularTest => simple(ResourceType::Test, file.relative.clone()),
        FileKind::Analysis => simple(ResourceType::Analysis, format!("analysis/{}", file.relative)),
        FileKind::Snapshot => {
            let mut out = Vec::new();
            let blocks = render::split_blocks(&file.text, &file.original)
                .map_err(|error| super::file_error(package, file, error))?;
            for block in blocks {
                if block.kind != render::BlockKind::Snapshot {
                    continue;
                }
                let mut fqn = directories(&file.relative);
                fqn.push(file.stem().to_owned());
                fqn.push(block.name.clone());
                out.push(Stub {
                    raw_code: block.body.to_owned(),
                    first_line: file.first_line + block.body_line - 1,
                    ..stub(ResourceType::Snapshot, &block.name, file.relative.clone(), fqn)
                });
            }
            out
        }
        _ => Vec::new(),
    })
}

/// `on-run-start` and `on-run-end` of a package.
pub(super) fn hook_stubs(index: usize, package: &Package) -> Vec<Stub> {
    let mut out = Vec::new();
    for (kind, hooks) in [("on-run-start", &package.on_run_start), ("on-run-end", &package.on_run_end)] {
        for (at, sql) in hooks.iter().enumerate() {
            let name = format!("{}-{kind}-{at}", package.name);
            out.push(Stub {
                package: index,
                kind: ResourceType::Operation,
                path: format!("hooks/{name}.sql"),
                original: "./dbt_project.yml".into(),
                fqn: vec![package.name.clone(), "hooks".into(), name.clone()],
                name,
                raw_code: sql.clone(),
                first_line: package.tree.key(kind).map_or(1, |key| key.line),
                checksum: Checksum { name: "sha256".into(), checksum: package.file_hash.clone() },
                python: false,
                hook: Some((kind, at)),
            });
        }
    }
    out
}

/// A snapshot that a properties file declares with `relation:`.
pub(super) fn yaml_snapshot(context: &Context<'_>, entry: &Entry<'_>) -> Result<Option<Stub>, ProjectError> {
    let Some(relation) = entry.value.get("relation") else { return Ok(None) };
    let Some(relation) = relation.as_str() else { return Err(entry.wrong_type("relation", "string")) };
    if super::references::parse(relation).is_none() {
        return Err(ProjectError::parsing(format!("Invalid ref or source expression: {relation}"))
            .at(entry.location(Some("relation")))
            .hinting("write `relation: ref('model')` or `relation: source('source', 'table')`"));
    }
    let file = entry.file;
    let package = context.packages[file.package];
    let mut fqn = vec![package.name.clone()];
    if let Some((folders, _)) = file.relative.rsplit_once('/') {
        fqn.extend(folders.split('/').map(str::to_owned));
    }
    fqn.push(entry.name.clone());
    Ok(Some(Stub {
        package: file.package,
        kind: ResourceType::Snapshot,
        name: entry.name.clone(),
        path: format!("{}/{}.sql", file.relative, entry.name),
        original: file.original.clone(),
        fqn,
        raw_code: format!("select * from {{{{ {relation} }}}}"),
        first_line: entry.tree.key("relation").map_or(entry.tree.line, |key| key.line),
        checksum: file.checksum.clone(),
        python: false,
        hook: None,
    }))
}

/// The patch of an entry without versions.
pub(super) fn patch<'e>(entry: &'e Entry<'e>) -> Result<Patch<'e>, ProjectError> {
    let columns = properties::columns(entry, entry.list("columns")?)?;
    let constraints = properties::constraints(entry.value.get("constraints"), true).ok_or_else(|| {
        ProjectError::parsing(format!(
            "Invalid constraint type on model {}: Type must be one of ['check', 'not_null', 'unique', 'primary_key', 'foreign_key', 'custom']",
            entry.name
        ))
        .at(entry.location(Some("constraints")))
    })?;
    Ok(Patch {
        entry,
        name: entry.name.clone(),
        description: entry.description(),
        columns,
        config: config_of(entry)?,
        constraints,
        access: entry.str("access").map(str::to_owned),
        version: None,
        latest_version: None,
        deprecation_date: date(entry.value.get("deprecation_date")),
    })
}

/// A date as dbt keeps it: midnight, with a time zone.
pub(super) fn date(value: Option<&Value>) -> Option<String> {
    let text = value.filter(|value| !value.is_null()).map(python_str)?;
    let text = text.trim().replace(' ', "T");
    let (day, time) = text.split_once('T').map_or((text.as_str(), None), |(day, time)| (day, Some(time)));
    let time = match time {
        None => "00:00:00+00:00".to_owned(),
        Some(time) if time.ends_with('Z') => format!("{}+00:00", time.trim_end_matches('Z')),
        Some(time) if time.contains(['+', '-']) => time.to_owned(),
        Some(time) => format!("{time}+00:00"),
    };
    let text = format!("{day}T{time}");
    // As Python writes it: microseconds where there are some.
    Some(match chrono::DateTime::parse_from_rfc3339(&text) {
        Ok(time) if time.timestamp_subsec_micros() == 0 => time.format("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        Ok(time) => time.format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(),
        Err(_) => text,
    })
}

/// `config:` with the keys that may also stand beside it.
pub(super) fn config_of(entry: &Entry<'_>) -> Result<Map<String, Value>, ProjectError> {
    let mut config = entry.map("config")?.cloned().unwrap_or_default();
    for key in ["meta", "docs", "group", "contract", "access"] {
        let Some(value) = entry.value.get(key) else { continue };
        if config.contains_key(key) {
            return Err(ProjectError::parsing(format!(
                "In {}: found {key} dictionary in 'config' dictionary and as top-level key.\nRemove the top-level key and define it under 'config' dictionary only.",
                entry.file.original
            ))
            .at(entry.location(Some(key))));
        }
        config.insert(key.to_owned(), value.clone());
    }
    Ok(config)
}

/// A finished node and whether it is enabled.
pub(super) fn build(context: &Context<'_>, stub: &Stub, patch: Option<&Patch<'_>>) -> Result<Node, ProjectError> {
    let package = context.packages[stub.package];
    let name = patch.map_or(stub.name.as_str(), |patch| patch.name.as_str());
    let mut fqn = stub.fqn.clone();
    let mut unique_id = format!("{}.{}.{name}", stub.kind, package.name);
    if let Some(version) = patch.and_then(|patch| patch.version.as_ref()) {
        let version = format!("v{}", version_text(version));
        unique_id = format!("{unique_id}.{version}");
        if let Some(last) = fqn.last_mut() {
            *last = name.to_owned();
        }
        fqn.push(version);
    }
    let mut node = Node {
        unique_id,
        resource_type: stub.kind,
        name: name.to_owned(),
        package_name: package.name.clone(),
        path: stub.path.clone(),
        original_file_path: stub.original.clone(),
        root_path: package.root.clone(),
        fqn,
        alias: name.to_owned(),
        schema: context.target.schema.clone(),
        database: String::new(),
        relation_name: None,
        language: if stub.python { "python" } else { "sql" }.into(),
        raw_code: if stub.kind == ResourceType::Seed { String::new() } else { stub.raw_code.clone() },
        raw_code_line: stub.first_line,
        checksum: stub.checksum.clone(),
        config: NodeConfig::default(),
        unrendered_config: Map::new(),
        tags: stub.hook.map(|(kind, _)| kind.to_owned()).into_iter().collect(),
        meta: Map::new(),
        group: None,
        docs: Docs::default(),
        description: String::new(),
        doc_blocks: Vec::new(),
        columns: IndexMap::new(),
        patch_path: None,
        created_at: context.now,
        refs: Vec::new(),
        sources: Vec::new(),
        depends_on: DependsOn::default(),
        contract: Contract::default(),
        access: Access::default(),
        constraints: Vec::new(),
        version: patch.and_then(|patch| patch.version.clone()),
        latest_version: patch.and_then(|patch| patch.latest_version.clone()),
        deprecation_date: patch.and_then(|patch| patch.deprecation_date.clone()),
        primary_key: Vec::new(),
        column_name: None,
        file_key_name: None,
        attached_node: None,
        test_metadata: None,
        test_kwargs: Map::new(),
        hook_index: stub.hook.map(|(_, at)| at),
    };
    let mut patch_config = patch.map(|patch| patch.config.clone()).unwrap_or_default();
    if stub.python {
        patch_config.entry("materialized").or_insert_with(|| json!("table"));
    }
    let mut captured = Captured::default();
    if stub.kind != ResourceType::Seed && !stub.python {
        let mut renderer = context.renderer(&node, &patch_config);
        renderer
            .render(Source { text: &stub.raw_code, path: &stub.original, first_line: stub.first_line })
            .map_err(|error| subject(&node, package, error))?;
        captured = renderer.take_captured();
    }
    let mut calls = Map::new();
    for call in std::mem::take(&mut captured.configs) {
        config_rules::merge_calls(&mut calls, call);
    }
    take_captured(&mut node, captured);
    let place = || {
        patch.filter(|_| calls.is_empty()).map_or_else(
            || Location::line(package.root.join(stub.original.trim_start_matches("./")), stub.first_line, None),
            |patch| patch.entry.location(Some("config")),
        )
    };
    configure(context, &mut node, stub.package, &patch_config, &calls).map_err(|error| {
        let hooked = matches!(error, ProjectError::Render(_));
        if hooked { error } else { error.at_least(place()) }
    })?;
    if let Some(patch) = patch {
        apply_patch(&mut node, package, patch)?;
    }
    render_hooks(context, &mut node, package)?;
    node.relation_name = relation_name(&node, context.stores_failures());
    Ok(node)
}

/// What the template was seen to use.
pub(super) fn take_captured(node: &mut Node, captured: Captured) {
    node.refs.extend(captured.refs.into_iter().map(reference));
    node.sources.extend(captured.sources.into_iter().map(|call| [call.source, call.table]));
    for id in captured.macros {
        if !node.depends_on.macros.contains(&id) {
            node.depends_on.macros.push(id);
        }
    }
}

fn reference(call: render::RefCall) -> Ref {
    Ref {
        name: call.name,
        package: call.package,
        version: call.version.map(|version| match version {
            render::Version::Number(number) => json!(number),
            render::Version::Float(number) => json!(number),
            render::Version::Text(text) => json!(text),
        }),
    }
}

fn apply_patch(node: &mut Node, package: &Package, patch: &Patch<'_>) -> Result<(), ProjectError> {
    node.patch_path = Some(patch.entry.file_id(package));
    node.description = patch.description.clone();
    node.columns = patch.columns.clone();
    if node.resource_type != ResourceType::Model {
        return Ok(());
    }
    if let Some(access) = &patch.access {
        node.access =
            access_of(access, &node.unique_id).map_err(|error| error.at(patch.entry.location(Some("access"))))?;
    }
    node.constraints = patch.constraints.clone();
    let constraints: Vec<Value> =
        node.constraints.iter().chain(node.columns.values().flat_map(|column| &column.constraints)).cloned().collect();
    for constraint in &constraints {
        if constraint.get("type").and_then(Value::as_str) != Some("foreign_key") {
            continue;
        }
        let Some(to) = constraint.get("to").and_then(Value::as_str) else { continue };
        match super::references::parse(to) {
            Some(super::references::Reference::Ref(reference)) => node.refs.push(reference),
            Some(super::references::Reference::Source(source)) => node.sources.push(source),
            None => {
                return Err(ProjectError::parsing(format!(
                    "Invalid 'ref' or 'source' syntax on foreign key constraint 'to' on model {}: {to}.",
                    node.name
                ))
                .at(patch.entry.location(Some("constraints"))));
            }
        }
    }
    check_primary_keys(node, patch)?;
    if node.contract.enforced {
        if node.columns.is_empty() {
            return Err(ProjectError::parsing(format!(
                "Contract enforcement failed for: ({})\nConstraints must be defined in a `yml` schema configuration file like `schema.yml`.",
                node.original_file_path
            ))
            .at(patch.entry.location(Some("config"))));
        }
        if node.language != "sql" {
            return Err(ProjectError::parsing(format!(
                "Contract enforcement failed for: ({})\nLanguage Error: Expected 'sql' but found '{}'",
                node.original_file_path, node.language
            ))
            .at(patch.entry.location(Some("config"))));
        }
        node.contract.checksum = Some(contract_checksum(node));
    }
    Ok(())
}

fn is_primary_key(constraint: &Value) -> bool {
    constraint.get("type").and_then(Value::as_str) == Some("primary_key")
}

fn check_primary_keys(node: &Node, patch: &Patch<'_>) -> Result<(), ProjectError> {
    let columns: Vec<Value> = node
        .columns
        .values()
        .filter(|column| column.constraints.iter().any(is_primary_key))
        .map(|column| json!(column.name))
        .collect();
    let mut errors = Vec::new();
    if columns.len() > 1 {
        errors.push(format!(
            "Found {} columns ({}) with primary key constraints defined. Primary keys for multiple columns must be defined as a model level constraint.",
            columns.len(),
            python_repr(&Value::Array(columns.clone()))
        ));
    }
    if !columns.is_empty() && node.constraints.iter().any(is_primary_key) {
        errors.push("Primary key constraints defined at the model level and the columns level. Primary keys can be defined at the model level or the column level, not both.".into());
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ProjectError::parsing(format!(
        "Primary key constraint error: ({})\n{}",
        node.original_file_path,
        errors.join("\n")
    ))
    .at(patch.entry.location(Some("constraints"))))
}

/// dbt hashes names, types and Python's print of the constraints, by column name.
fn contract_checksum(node: &Node) -> String {
    fn print(class: &str, constraint: &Value, of_model: bool) -> String {
        let kind = constraint.get("type").and_then(Value::as_str).unwrap_or_default();
        let part = |key: &str| constraint.get(key).map_or_else(|| "None".into(), python_repr);
        let columns = if of_model { format!(", columns={}", part("columns")) } else { String::new() };
        format!(
            "{class}(type=<ConstraintType.{kind}: '{kind}'>, name={}, expression={}, warn_unenforced={}, warn_unsupported={}, to={}, to_columns={}{columns})",
            part("name"),
            part("expression"),
            part("warn_unenforced"),
            part("warn_unsupported"),
            part("to"),
            part("to_columns")
        )
    }
    let mut columns: Vec<&Column> = node.columns.values().collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let mut state = String::new();
    for column in columns {
        state.push('|');
        state.push_str(&column.name);
        state.push_str(column.data_type.as_deref().unwrap_or("None"));
        let constraints: Vec<String> =
            column.constraints.iter().map(|constraint| print("ColumnLevelConstraint", constraint, false)).collect();
        state.push_str(&format!("[{}]", constraints.join(", ")));
    }
    if matches!(node.materialized(), "table" | "incremental") {
        state.push_str(node.materialized());
        let constraints: Vec<String> =
            node.constraints.iter().map(|constraint| print("ModelLevelConstraint", constraint, true)).collect();
        state.push_str(&format!("[{}]", constraints.join(", ")));
    }
    sha256(&state)
}

/// Hooks may use `ref()` and macros too; tests have none.
fn render_hooks(context: &Context<'_>, node: &mut Node, package: &Package) -> Result<(), ProjectError> {
    if node.resource_type == ResourceType::Test {
        return Ok(());
    }
    let hooks: Vec<_> = node.config.pre_hooks().into_iter().chain(node.config.post_hooks()).collect();
    if hooks.iter().all(|hook| !properties::has_jinja(&hook.sql)) {
        return Ok(());
    }
    let captured = {
        let mut renderer = context.renderer(node, &Map::new());
        for hook in &hooks {
            renderer.render(Source { text: &hook.sql, path: &node.original_file_path, first_line: 1 }).map_err(
                |mut error| {
                    // The hook's text may come from dbt_project.yml or YAML, so a line of the node's file would mislead.
                    if error.stack.is_empty() {
                        error.location = Some(Box::new(Location::file(node.file())));
                    }
                    error.message.push_str(&format!("\nin the hook: {}", hook.sql));
                    subject(node, package, error)
                },
            )?;
        }
        renderer.take_captured()
    };
    take_captured(node, captured);
    Ok(())
}

/// `model a (models/a.sql)`.
pub(super) fn title(node: &Node) -> String {
    let kind = if node.resource_type == ResourceType::Operation { "operation" } else { node.resource_type.as_str() };
    format!("{kind} {} ({})", node.name, node.original_file_path)
}

/// A renderer's error, with the node it is about and a place in the user's files.
pub(super) fn subject(node: &Node, package: &Package, mut error: RenderError) -> ProjectError {
    if error.node.is_none() {
        error.node = Some(title(node));
    }
    place_error(node, std::slice::from_ref(&package.root), &mut error);
    error.into()
}

/// Makes the place of an error absolute. Inside a built-in macro it is the innermost macro of the user's that counts, else the
/// node itself.
pub(in crate::project) fn place_error(node: &Node, roots: &[std::path::PathBuf], error: &mut RenderError) {
    // A line of generated code says nothing; the line that declares it does.
    let in_own_code = error.location().is_none_or(|place| place.path.ends_with(&node.original_file_path));
    if node.is_declared_elsewhere() && in_own_code {
        error.location = Some(Box::new(node.place()));
        return;
    }
    let find = |path: &Path| -> Option<std::path::PathBuf> {
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        std::iter::once(&node.root_path).chain(roots).map(|root| root.join(path)).find(|path| path.is_file())
    };
    if let Some(location) = error.location.as_deref_mut()
        && let Some(path) = find(&location.path)
    {
        location.path = path;
        return;
    }
    let frame = error.stack.iter().find_map(|frame| {
        let path = find(Path::new(&frame.path))?;
        Some(Location::line(path, frame.line?, None))
    });
    error.location = Some(Box::new(frame.unwrap_or_else(|| node.place())));
}

impl<'a> Context<'a> {
    /// A renderer for the parse phase of a node.
    pub(super) fn renderer(&self, node: &Node, _patch: &Map<String, Value>) -> Renderer<'a> {
        let relation = render::Relation::new(node.schema.clone(), node.alias.clone());
        let node_context = NodeContext {
            unique_id: node.unique_id.clone(),
            name: node.name.clone(),
            package: node.package_name.clone(),
            resource_type: node.resource_type.as_str().into(),
            path: node.original_file_path.clone(),
            model: brief(node),
            config: render::Value::None,
            this: Some(relation),
            ..NodeContext::default()
        };
        let services = Services { resolve: Some(self.resolve), warehouse: None, events: self.events };
        Renderer::new(self.environment, node_context, Phase::Parse, services)
    }
}

/// `model.*` while parsing.
fn brief(node: &Node) -> render::Value {
    let text = |text: &str| render::Value::str(text);
    let list =
        |items: &[String]| render::Value::list(items.iter().map(|item| render::Value::str(item.as_str())).collect());
    render::Value::record([
        ("database", text("")),
        ("schema", text(&node.schema)),
        ("name", text(&node.name)),
        ("resource_type", text(node.resource_type.as_str())),
        ("package_name", text(&node.package_name)),
        ("path", text(&node.path)),
        ("original_file_path", text(&node.original_file_path)),
        ("unique_id", text(&node.unique_id)),
        ("fqn", list(&node.fqn)),
        ("alias", text(&node.alias)),
        ("tags", list(&node.tags)),
        ("raw_code", text(&node.raw_code)),
        ("language", text(&node.language)),
        ("description", text("")),
        ("columns", render::Value::record::<&str>([])),
        ("meta", render::Value::record::<&str>([])),
        ("config", render::Value::record::<&str>([])),
        ("refs", list(&[])),
        ("sources", list(&[])),
    ])
}
