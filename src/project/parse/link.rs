//! Joins the resources: refs and sources to ids, docs into descriptions, unit tests to models; and dbt's checks over the
//! whole. In and out: a manifest.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::{Context, nodes, properties::has_jinja};
use crate::{
    error::Location,
    project::{
        Access, Disabled, Manifest, Node, ProjectError, Ref, ResourceType, UnitTest,
        lookup::{Found, Lookup},
        node::version_text,
        package::{Package, python_repr, python_str},
    },
    render::{self, NodeContext, Phase, Renderer, Services, Source as TemplateSource},
};

/// Fills `depends_on.nodes` of everything.
pub(super) fn references(context: &Context<'_>, manifest: &mut Manifest, lookup: &Lookup) -> Result<(), ProjectError> {
    let mut resolved: Vec<(String, Vec<String>)> = Vec::with_capacity(manifest.nodes.len());
    let mut broken_tests = Vec::new();
    for node in manifest.nodes.values() {
        if node.resource_type == ResourceType::Seed {
            continue;
        }
        let mut ids: Vec<String> = Vec::new();
        let mut add = |id: &str| {
            if !ids.iter().any(|known| known == id) {
                ids.push(id.to_owned());
            }
        };
        for [source, table] in &node.sources {
            match lookup.source(&node.package_name, source, table) {
                Found::Id(id) => add(id),
                found => {
                    let disabled = found == Found::Disabled;
                    let name = format!("{source}.{table}");
                    missing(context, node, "source", &name, None, None, disabled, &mut broken_tests)?;
                }
            }
        }
        for reference in &node.refs {
            match lookup.reference(&node.package_name, reference) {
                Found::Id(id) => {
                    if let Some(target) = manifest.nodes.get(id) {
                        check_access(context, node, target)?;
                    }
                    add(id);
                }
                found => missing(
                    context,
                    node,
                    "node",
                    &reference.name,
                    reference.package.as_deref(),
                    reference.version.as_ref(),
                    found == Found::Disabled,
                    &mut broken_tests,
                )?,
            }
        }
        resolved.push((node.unique_id.clone(), ids));
    }
    for (id, ids) in resolved {
        if let Some(node) = manifest.nodes.get_mut(&id) {
            node.depends_on.nodes = ids;
        }
    }
    for id in broken_tests {
        if let Some(node) = manifest.nodes.get_mut(&id) {
            node.config.0.insert("enabled".into(), Value::Bool(false));
        }
    }
    exposures(context, manifest, lookup)
}

fn exposures(context: &Context<'_>, manifest: &mut Manifest, lookup: &Lookup) -> Result<(), ProjectError> {
    for exposure in manifest.exposures.values_mut() {
        let mut ids: Vec<String> = Vec::new();
        let title = format!("Exposure '{}' ({})", exposure.unique_id, exposure.original_file_path);
        let place = || {
            let package = context.packages.iter().find(|package| package.name == exposure.package_name);
            Location::file(
                package.map_or_else(Default::default, |package| package.root.join(&exposure.original_file_path)),
            )
        };
        let fail = |kind: &str, name: &str, disabled: bool| {
            Err(ProjectError::compilation(format!(
                "{title} depends on a {kind} named '{name}' which {}",
                fate(disabled)
            ))
            .at(place()))
        };
        for [source, table] in &exposure.sources {
            match lookup.source(&exposure.package_name, source, table) {
                Found::Id(id) => ids.push(id.to_owned()),
                found => return fail("source", &format!("{source}.{table}"), found == Found::Disabled),
            }
        }
        for reference in &exposure.refs {
            match lookup.reference(&exposure.package_name, reference) {
                Found::Id(id) => ids.push(id.to_owned()),
                found => return fail("node", &reference.name, found == Found::Disabled),
            }
        }
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        exposure.depends_on.nodes = ids;
    }
    Ok(())
}

fn fate(disabled: bool) -> &'static str {
    if disabled { "is disabled" } else { "was not found" }
}

/// A name that leads nowhere: an error, but of a test only a warning, and the test is left out.
#[expect(clippy::too_many_arguments, reason = "the parts of one message")]
fn missing(
    context: &Context<'_>,
    node: &Node,
    kind: &str,
    name: &str,
    package: Option<&str>,
    version: Option<&Value>,
    disabled: bool,
    broken_tests: &mut Vec<String>,
) -> Result<(), ProjectError> {
    let mut title = node.resource_type.as_str().to_owned();
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let version = version.map(|version| format!(" with version '{}'", version_text(version))).unwrap_or_default();
    let is_test = node.resource_type == ResourceType::Test;
    let of = match package {
        _ if is_test && kind == "node" => format!(" in package '{}'", package.unwrap_or_default()),
        Some(package) => format!(" in package or project '{package}'"),
        None => String::new(),
    };
    let message = format!(
        "{title} '{}' ({}) depends on a {kind} named '{name}'{version}{of} which {}",
        node.unique_id,
        node.original_file_path,
        fate(disabled)
    );
    if is_test {
        // dbt stays silent about tests of disabled models, not about those of disabled sources.
        if !disabled || kind == "source" {
            context.events.warning(message);
        }
        broken_tests.push(node.unique_id.clone());
        return Ok(());
    }
    let error = ProjectError::compilation(message).at(call_location(node, kind, name));
    Err(if disabled { error } else { error.hinting(hint(kind)) })
}

fn hint(kind: &str) -> String {
    match kind {
        "source" => "declare it under `sources:` in a properties file; `chpipe ls --resource-type source` lists the ones there are",
        _ => "`chpipe ls --resource-type model seed snapshot` lists what ref() can name",
    }
    .into()
}

/// The line of the call in the node's file.
fn call_location(node: &Node, kind: &str, name: &str) -> Location {
    let last = name.rsplit('.').next().unwrap_or(name);
    let call = if kind == "source" { "source" } else { "ref" };
    if node.is_declared_elsewhere() {
        return node.place();
    }
    let mut location = Location::file(node.file());
    for (index, line) in node.raw_code.lines().enumerate() {
        let found = ['\'', '"'].iter().find_map(|quote| line.find(&format!("{quote}{last}{quote}")));
        if let Some(at) = found
            && line.contains(call)
        {
            location.line = Some(node.raw_code_line + index);
            location.column = Some(line[..at].chars().count() + 2);
            location.width = last.chars().count();
            location.source_line = Some(line.to_owned());
            break;
        }
    }
    location
}

fn check_access(context: &Context<'_>, node: &Node, target: &Node) -> Result<(), ProjectError> {
    if target.resource_type != ResourceType::Model {
        return Ok(());
    }
    let restricted = context
        .packages
        .iter()
        .find(|package| package.name == target.package_name)
        .is_some_and(|package| package.restrict_access)
        && node.package_name != target.package_name;
    let denied = |scope: &str| {
        Err(ProjectError::parsing(format!(
            "Node {} attempted to reference node {}, which is not allowed because the referenced node is {} to the '{scope}' {}.",
            node.unique_id,
            target.unique_id,
            target.access.as_str(),
            if target.access == Access::Private { "group" } else { "package" }
        ))
        .at(call_location(node, "node", &target.name)))
    };
    match target.access {
        Access::Private if node.group.is_none() || node.group != target.group || restricted => {
            denied(target.group.as_deref().unwrap_or_default())
        }
        Access::Protected if restricted => denied(&target.package_name),
        _ => Ok(()),
    }
}

/// Renders `doc()` in all descriptions.
pub(super) fn docs(context: &Context<'_>, manifest: &mut Manifest, lookup: &Lookup) -> Result<(), ProjectError> {
    let writer = DocWriter { context, lookup };
    for node in manifest.nodes.values_mut().filter(|node| has_descriptions(&node.description, node.columns.values())) {
        let (id, package) = (node.unique_id.clone(), node.package_name.clone());
        let file = node.patch_path.clone().unwrap_or_else(|| node.original_file_path.clone());
        let write = |text: &mut String| writer.write(&id, &package, &file, text);
        node.doc_blocks = write(&mut node.description)?;
        for column in node.columns.values_mut() {
            column.doc_blocks = write(&mut column.description)?;
        }
    }
    for source in manifest.sources.values_mut() {
        let (id, package) = (source.unique_id.clone(), source.package_name.clone());
        let file = source.original_file_path.clone();
        let write = |text: &mut String| writer.write(&id, &package, &file, text);
        source.doc_blocks = write(&mut source.description)?;
        write(&mut source.source_description)?;
        for column in source.columns.values_mut() {
            column.doc_blocks = write(&mut column.description)?;
        }
    }
    for exposure in manifest.exposures.values_mut() {
        let (id, package) = (exposure.unique_id.clone(), exposure.package_name.clone());
        writer.write(&id, &package, &exposure.original_file_path.clone(), &mut exposure.description)?;
    }
    for found in manifest.macros.values_mut().filter(|found| found.patch_path.is_some()) {
        let (id, package) = (found.unique_id.clone(), found.package_name.clone());
        let file = found.original_file_path.clone();
        writer.write(&id, &package, &file, &mut found.description)?;
        for argument in &mut found.arguments {
            writer.write(&id, &package, &file, &mut argument.description)?;
        }
    }
    Ok(())
}

fn has_descriptions<'c>(own: &str, mut columns: impl Iterator<Item = &'c crate::project::Column>) -> bool {
    has_jinja(own) || columns.any(|column| has_jinja(&column.description))
}

struct DocWriter<'c> {
    context: &'c Context<'c>,
    lookup: &'c Lookup,
}

impl DocWriter<'_> {
    /// Renders one description in place; answers the ids of the blocks it used.
    fn write(&self, id: &str, package: &str, file: &str, text: &mut String) -> Result<Vec<String>, ProjectError> {
        if !has_jinja(text) {
            return Ok(Vec::new());
        }
        let node_context = NodeContext {
            unique_id: id.to_owned(),
            name: id.to_owned(),
            package: package.to_owned(),
            resource_type: "doc".into(),
            path: file.to_owned(),
            ..NodeContext::default()
        };
        let services = Services { resolve: Some(self.context.resolve), warehouse: None, events: self.context.events };
        let mut renderer = Renderer::new(self.context.environment, node_context, Phase::Compile, services);
        let rendered = renderer.render(TemplateSource { text, path: file, first_line: 1 });
        let mut blocks = Vec::new();
        for (of, name) in renderer.take_captured().docs {
            match self.lookup.doc(package, of.as_deref(), &name) {
                Some(block) => blocks.push(block.to_owned()),
                None => {
                    let of = of.map(|of| format!("in package '{of}' ")).unwrap_or_default();
                    return Err(ProjectError::compilation(format!(
                        "Documentation for '{id}' depends on doc '{name}' {of} which was not found"
                    ))
                    .at(self.place(package, file))
                    .hinting("docs blocks are `{% docs name %} … {% enddocs %}` in .md files below the model paths"));
                }
            }
        }
        *text = rendered.map_err(|error| ProjectError::from(error).at(self.place(package, file)))?.text;
        Ok(blocks)
    }

    /// The properties file; descriptions keep no line of their own.
    fn place(&self, package: &str, file: &str) -> Location {
        let (package, file) = file.split_once("://").unwrap_or((package, file));
        let root = self.context.packages.iter().find(|known| known.name == package).map(|known| known.root.join(file));
        Location::file(root.unwrap_or_else(|| file.into()))
    }
}

/// Joins unit tests to the models they test, one for each version.
pub(super) fn unit_tests(context: &Context<'_>, manifest: &mut Manifest, lookup: &Lookup) -> Result<(), ProjectError> {
    let tests = std::mem::take(&mut manifest.unit_tests);
    for (_, mut test) in tests {
        let place = || {
            let package = context.packages.iter().find(|package| package.name == test.package_name);
            Location::file(package.map_or_else(Default::default, |package| package.root.join(&test.original_file_path)))
        };
        let mut words = test.model.split_whitespace();
        let reference = Ref {
            name: words.next().unwrap_or_default().to_owned(),
            package: Some(test.package_name.clone()),
            version: words.next().map(|version| Value::String(version.trim_start_matches('v').to_owned())),
        };
        let id = match lookup.reference(&test.package_name, &reference) {
            Found::Id(id) => id.to_owned(),
            Found::Disabled => {
                test.config.0.insert("enabled".into(), Value::Bool(false));
                let id = test.unique_id.clone();
                manifest.disabled.entry(id).or_default().push(Disabled::UnitTest(Box::new(test)));
                continue;
            }
            Found::Missing => {
                return Err(ProjectError::parsing(format!(
                    "Unable to find model '{}.{}' for unit test '{}' in {}",
                    test.package_name, test.model, test.name, test.original_file_path
                ))
                .at(place()));
            }
        };
        let Some(model) = manifest.nodes.get(&id) else { continue };
        if model.resource_type != ResourceType::Model {
            return Err(ProjectError::parsing(format!(
                "Unable to find model '{}.{}' for unit test '{}' in {}",
                test.package_name, test.model, test.name, test.original_file_path
            ))
            .at(place()));
        }
        check_incremental(&test, model).map_err(|error| error.at(place()))?;
        test.schema = model.schema.clone();
        if model.version.is_none() {
            if test
                .versions
                .as_ref()
                .is_some_and(|versions| !versions["include"].is_null() || !versions["exclude"].is_null())
            {
                return Err(ProjectError::parsing(format!(
                    "Unit test '{}' should not have a versions include or exclude when referencing non-versioned model '{}'",
                    test.name, model.name
                ))
                .at(place()));
            }
            test.depends_on.nodes = vec![id];
            manifest.unit_tests.insert(test.unique_id.clone(), test);
            continue;
        }
        let listed = |key: &str, version: &Value| {
            test.versions
                .as_ref()
                .and_then(|versions| versions[key].as_array())
                .map(|items| items.iter().any(|item| python_str(item) == python_str(version)))
        };
        let chosen: Vec<(String, Value)> = manifest
            .nodes
            .values()
            .filter(|node| {
                node.resource_type == ResourceType::Model
                    && node.package_name == model.package_name
                    && node.name == model.name
            })
            .filter_map(|node| Some((node.unique_id.clone(), node.version.clone()?)))
            .filter(|(_, version)| match listed("exclude", version) {
                Some(excluded) => !excluded,
                None => listed("include", version).unwrap_or(true),
            })
            .collect();
        if chosen.is_empty() {
            return Err(ProjectError::parsing(format!(
                "Unit test '{}' referenced a version of '{}' which was not found.",
                test.name, model.name
            ))
            .at(place()));
        }
        for (model, version) in chosen {
            let mut one = test.clone();
            one.unique_id =
                format!("unit_test.{}.{}.{}_v{}", test.package_name, test.model, test.name, version_text(&version));
            one.depends_on.nodes = vec![model];
            one.version = Some(version);
            manifest.unit_tests.insert(one.unique_id.clone(), one);
        }
    }
    Ok(())
}

/// A unit test of an incremental model has to say which branch it tests.
fn check_incremental(test: &UnitTest, model: &Node) -> Result<(), ProjectError> {
    if !model.depends_on.macros.iter().any(|id| id == "macro.dbt.is_incremental") {
        return Ok(());
    }
    let given = test.overrides.as_ref().and_then(|overrides| overrides.get("macros")?.get("is_incremental")?.as_bool());
    match given {
        None => Err(ProjectError::parsing(format!(
            "Boolean override for 'is_incremental' must be provided for unit test '{}' in model '{}'",
            test.name, model.name
        ))),
        Some(true) if !test.given.iter().any(|input| input.input == "this") => Err(ProjectError::parsing(format!(
            "Unit test '{}' for incremental model '{}' must have a 'this' input",
            test.name, model.name
        ))),
        Some(_) => Ok(()),
    }
}

/// What only the whole project shows: names and relations that meet, groups, access, snapshots without a strategy.
pub(super) fn check(context: &Context<'_>, manifest: &Manifest) -> Result<(), ProjectError> {
    check_groups(manifest)?;
    for node in manifest.nodes.values() {
        if node.resource_type == ResourceType::Model
            && node.access == Access::Public
            && node.config.materialized() == "ephemeral"
        {
            return Err(ProjectError::parsing(format!(
                "Node {} with 'ephemeral' materialization has an invalid value (public) for the access field",
                node.unique_id
            ))
            .at(Location::file(node.file())));
        }
        if node.resource_type == ResourceType::Snapshot {
            check_snapshot(node)?;
        }
    }
    check_names(manifest)?;
    check_relations(manifest)?;
    warn_unused_paths(context, manifest);
    Ok(())
}

fn check_groups(manifest: &Manifest) -> Result<(), ProjectError> {
    let mut names: Vec<&str> = manifest.groups.values().map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    for node in manifest.nodes.values() {
        if let Some(group) = &node.group
            && !names.contains(&group.as_str())
        {
            return Err(ProjectError::parsing(format!(
                "Invalid group '{group}', expected one of {}",
                python_repr(&serde_json::json!(names))
            ))
            .in_subject(nodes::title(node))
            .at(Location::file(node.file()))
            .hinting("declare it under `groups:` in a properties file"));
        }
    }
    Ok(())
}

fn check_snapshot(node: &Node) -> Result<(), ProjectError> {
    let config = &node.config;
    let message = match config.strategy() {
        None => "Snapshots must be configured with a 'strategy' and 'unique_key'.".to_owned(),
        Some(_) if config.unique_key().is_empty() => {
            "Snapshots must be configured with a 'strategy' and 'unique_key'.".to_owned()
        }
        Some("check") => match config.get("check_cols") {
            None => "A snapshot configured with the check strategy must specify a check_cols configuration.".into(),
            Some(Value::String(text)) if text != "all" => {
                format!("Invalid value for 'check_cols': {text}. Expected 'all' or a list of strings.")
            }
            Some(_) => return Ok(()),
        },
        Some("timestamp") if config.get("updated_at").is_none() => {
            "A snapshot configured with the timestamp strategy must specify an updated_at configuration.".into()
        }
        Some("timestamp") if config.get("check_cols").is_some() => {
            "A 'timestamp' snapshot should not have 'check_cols'".into()
        }
        Some(_) if config.materialized() != "snapshot" => {
            "A snapshot must have a materialized value of 'snapshot'".into()
        }
        Some(_) => return Ok(()),
    };
    Err(ProjectError::parsing(message).in_subject(nodes::title(node)).at(Location::line(
        node.file(),
        node.raw_code_line,
        None,
    )))
}

/// Two nodes that `ref()` could not tell apart.
fn check_names(manifest: &Manifest) -> Result<(), ProjectError> {
    let mut known: HashMap<(&str, &str), &Node> = HashMap::new();
    for node in manifest.nodes.values().filter(|node| node.resource_type.is_refable()) {
        let key = (node.package_name.as_str(), node.name.as_str());
        match known.get(&key) {
            Some(other) if other.version.is_some() != node.version.is_some() => {
                let (versioned, plain) = if node.version.is_some() { (node, *other) } else { (*other, node) };
                return Err(ProjectError::parsing(format!(
                    "dbt found versioned and unversioned resources with the name \"{}\".\n\nSince these resources have the same name, dbt will be unable to find the correct resource\nwhen looking for ref('{}').\n\nTo fix this, change the name of the unversioned resource\n{} ({})\nor add the unversioned model to the versions in {}",
                    node.name,
                    node.name,
                    plain.unique_id,
                    plain.original_file_path,
                    versioned.patch_path.as_deref().unwrap_or_default()
                )));
            }
            Some(other) if node.version.is_none() => return Err(duplicate(other, node)),
            _ => _ = known.insert(key, node),
        }
    }
    Ok(())
}

/// dbt's text for two resources of one name.
pub(super) fn duplicate(first: &Node, second: &Node) -> ProjectError {
    let (name, kind) = (&second.name, second.resource_type);
    let pretty = match kind {
        ResourceType::Test if first.test_metadata.is_some() => {
            let metadata = second.test_metadata.as_ref();
            let column =
                second.column_name.as_deref().map(|column| format!("column \"{column}\" in ")).unwrap_or_default();
            let place = second.file_key_name.as_deref().unwrap_or_default();
            let _ = metadata;
            return ProjectError::compilation(format!(
                "dbt found two data_tests with the name \"{name}\" defined on {column}\"{place}\".\n\nSince these resources have the same name, dbt will be unable to find the correct resource\nwhen running tests.\n\nTo fix this, change the name of one of these resources:\n- {} ({})\n- {} ({})",
                first.unique_id, first.original_file_path, second.unique_id, second.original_file_path
            ))
            .at(Location::line(second.file(), second.raw_code_line, None));
        }
        ResourceType::Analysis => "analyses".to_owned(),
        kind => format!("{kind}s"),
    };
    let call = if kind.is_refable() { format!("looking for ref(\"{name}\")") } else { "running this".to_owned() };
    ProjectError::compilation(format!(
        "dbt found two {pretty} with the name \"{name}\".\n\nSince these resources have the same name, dbt will be unable to find the correct resource\nwhen {call}.\n\nTo fix this, change the name of one of these resources:\n- {} ({})\n- {} ({})",
        first.unique_id, first.original_file_path, second.unique_id, second.original_file_path
    ))
    .at(Location::file(second.file()))
}

/// Two nodes that would write one table.
fn check_relations(manifest: &Manifest) -> Result<(), ProjectError> {
    let mut known: HashMap<String, &Node> = HashMap::new();
    for node in manifest.nodes.values() {
        // An ephemeral model makes no table, but dbt counts its name too.
        if !node.resource_type.is_refable() {
            continue;
        }
        let name = node.relation().render();
        if let Some(other) = known.get(&name) {
            return Err(ProjectError::compilation(format!(
                "dbt found two resources with the database representation \"{name}\".\ndbt cannot create two resources with identical database representations. To fix this,\nchange the configuration of one of these resources:\n- {} ({})\n- {} ({})",
                other.unique_id, other.original_file_path, node.unique_id, node.original_file_path
            ))
            .at(Location::file(node.file())));
        }
        known.insert(name, node);
    }
    Ok(())
}

/// Configuration in dbt_project.yml that no resource gets is most often a misspelt folder.
fn warn_unused_paths(context: &Context<'_>, manifest: &Manifest) {
    let root: &Package = context.packages[0];
    let mut unused = Vec::new();
    for (section, kinds) in [
        ("models", [ResourceType::Model, ResourceType::Analysis].as_slice()),
        ("seeds", &[ResourceType::Seed]),
        ("snapshots", &[ResourceType::Snapshot]),
        ("sources", &[ResourceType::Source]),
        ("data_tests", &[ResourceType::Test]),
        ("unit_tests", &[ResourceType::UnitTest]),
        ("exposures", &[ResourceType::Exposure]),
    ] {
        let Some(config) = kinds.first().and_then(|kind| root.section(*kind)) else { continue };
        let mut paths = BTreeSet::new();
        config_paths(config, &mut Vec::new(), &mut paths);
        if paths.iter().all(Vec::is_empty) {
            continue;
        }
        let disabled = manifest.disabled.values().flatten().map(|resource| match resource {
            Disabled::Node(node) => node.fqn.as_slice(),
            Disabled::Source(source) => &source.fqn,
            Disabled::Exposure(exposure) => &exposure.fqn,
            Disabled::UnitTest(test) => &test.fqn,
        });
        let fqns: Vec<&[String]> = manifest
            .resources()
            .filter(|resource| kinds.contains(&resource.resource_type()))
            .map(|resource| resource.fqn())
            .chain(disabled)
            .collect();
        for path in paths {
            if !path.is_empty() && !fqns.iter().any(|fqn| fqn.len() >= path.len() && fqn[..path.len()] == path[..]) {
                unused.push(format!("- {section}.{}", path.join(".")));
            }
        }
    }
    if !unused.is_empty() {
        context.events.warning(format!(
            "Configuration paths exist in your dbt_project.yml file which do not apply to any resources.\nThere are {} unused configuration paths:\n{}",
            unused.len(),
            unused.join("\n")
        ));
    }
}

fn config_paths(config: &Map<String, Value>, path: &mut Vec<String>, out: &mut BTreeSet<Vec<String>>) {
    for (key, value) in config {
        match value {
            Value::Object(inner) if !key.starts_with('+') => {
                path.push(key.clone());
                config_paths(inner, path, out);
                path.pop();
            }
            _ => _ = out.insert(path.clone()),
        }
    }
}

/// Guesses the primary key of each model from its constraints and tests, as dbt does.
pub(super) fn primary_keys(manifest: &mut Manifest) {
    let mut tests: HashMap<String, Vec<(String, Vec<String>, bool)>> = HashMap::new();
    let disabled = manifest.disabled.values().flatten().filter_map(|resource| match resource {
        Disabled::Node(node) => Some(node.as_ref()),
        _ => None,
    });
    for node in manifest.nodes.values().chain(disabled) {
        let (Some(metadata), Some(attached)) = (&node.test_metadata, &node.attached_node) else { continue };
        let columns = match (metadata.kwargs.get("column_name"), metadata.kwargs.get("combination_of_columns")) {
            (Some(Value::String(column)), _) => vec![column.clone()],
            (_, Some(Value::Array(items))) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => continue,
        };
        tests.entry(attached.clone()).or_default().push((metadata.name.clone(), columns, node.config.enabled()));
    }
    for node in manifest.nodes.values_mut().filter(|node| node.resource_type == ResourceType::Model) {
        let mut key = from_constraints(node).unwrap_or_else(|| {
            let tests = tests.get(&node.unique_id).map(Vec::as_slice).unwrap_or_default();
            let columns = |wanted: &dyn Fn(&str, bool) -> bool| -> BTreeSet<String> {
                tests
                    .iter()
                    .filter(|(name, _, enabled)| wanted(name, *enabled))
                    .flat_map(|(_, columns, _)| columns.clone())
                    .collect()
            };
            let is_unique = |name: &str| matches!(name, "unique" | "unique_combination_of_columns");
            let unique = columns(&|name, enabled| is_unique(name) && enabled);
            let was_unique = columns(&|name, enabled| is_unique(name) && !enabled);
            let not_null = columns(&|name, _| name == "not_null");
            let both: Vec<String> =
                not_null.into_iter().filter(|column| unique.contains(column) || was_unique.contains(column)).collect();
            if !both.is_empty() {
                both
            } else if !unique.is_empty() {
                unique.into_iter().collect()
            } else {
                was_unique.into_iter().collect()
            }
        });
        key.sort();
        node.primary_key = key;
    }
}

fn from_constraints(node: &Node) -> Option<Vec<String>> {
    let is_key = |constraint: &&Value| constraint.get("type").and_then(Value::as_str) == Some("primary_key");
    if let Some(constraint) = node.constraints.iter().find(is_key) {
        return Some(super::properties::texts(constraint.get("columns")));
    }
    node.columns
        .values()
        .find(|column| column.constraints.iter().any(|constraint| is_key(&constraint)))
        .map(|column| vec![column.name.clone()])
}

/// `parent_map` and `child_map`, sorted as dbt sorts them.
pub(super) fn maps(manifest: &mut Manifest) {
    let mut parents = indexmap::IndexMap::new();
    let mut children: indexmap::IndexMap<String, Vec<String>> = indexmap::IndexMap::new();
    for resource in manifest.resources() {
        let id = resource.unique_id();
        children.entry(id.to_owned()).or_default();
        let mut own = resource.depends_on().to_vec();
        for parent in &own {
            children.entry(parent.clone()).or_default().push(id.to_owned());
        }
        own.sort();
        parents.insert(id.to_owned(), own);
    }
    for ids in children.values_mut() {
        ids.sort();
    }
    manifest.parent_map = parents;
    manifest.child_map = children;
}

/// What `doc()` needs while parsing.
pub(super) struct ParseResolve<'a> {
    pub(super) docs: &'a HashMap<String, Vec<(String, String)>>,
    pub(super) root: String,
}

impl render::Resolve for ParseResolve<'_> {
    fn resolve_ref(
        &self,
        _from: &NodeContext,
        call: &render::RefCall,
    ) -> Result<render::Resolved, render::RenderError> {
        Err(render::RenderError::compilation(format!(
            "ref('{}') cannot be resolved while the project is parsed",
            call.name
        )))
    }

    fn resolve_source(
        &self,
        _from: &NodeContext,
        call: &render::SourceCall,
    ) -> Result<render::Resolved, render::RenderError> {
        Err(render::RenderError::compilation(format!(
            "source('{}', '{}') cannot be resolved while the project is parsed",
            call.source, call.table
        )))
    }

    fn doc(&self, from_package: &str, package: Option<&str>, name: &str) -> Option<String> {
        let found = self.docs.get(name)?;
        let order: Vec<Option<&str>> = match package {
            Some(package) => vec![Some(package)],
            None => vec![Some(from_package), Some(&self.root), None],
        };
        order.into_iter().find_map(|wanted| {
            found
                .iter()
                .find(|(package, _)| wanted.is_none_or(|wanted| wanted == package))
                .map(|(_, text)| text.clone())
        })
    }

    fn graph(&self) -> render::Value {
        // dbt's `graph` is empty while parsing.
        render::Value::record::<&str>([])
    }

    fn selected_resources(&self) -> Vec<String> {
        Vec::new()
    }
}
