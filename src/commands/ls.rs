//! `chpipe ls`: what a selection finds, one resource a line, as `dbt ls` prints it.

use serde_json::{Map, Value};

use crate::{
    Error,
    cli::{LsArgs, LsOutput, SelectionArgs},
    commands::{Context, ExitStatus, execute::previous_state, parse},
    project::{
        CompiledNodes, ProjectError, Resource, ResourceType, Selector, Workspace, resource_json, version_text,
        write_manifest,
    },
};

/// The keys of `--output json` where none are asked for.
const KEYS: [&str; 10] = [
    "alias",
    "name",
    "package_name",
    "depends_on",
    "tags",
    "config",
    "resource_type",
    "source_name",
    "original_file_path",
    "unique_id",
];

/// Everything that can be listed.
const KINDS: [ResourceType; 8] = [
    ResourceType::Model,
    ResourceType::Snapshot,
    ResourceType::Seed,
    ResourceType::Test,
    ResourceType::Source,
    ResourceType::Exposure,
    ResourceType::UnitTest,
    ResourceType::Analysis,
];

/// Lists the selected resources, by unique id.
pub(super) fn ls(args: &LsArgs, context: &Context) -> Result<ExitStatus, Error> {
    let workspace = parse::load(context, &parse::options("list", context))?;
    if context.settings.write_json {
        write_manifest(&workspace.manifest, &CompiledNodes::new(), &context.invocation, workspace.target_path())?;
    }
    let state = previous_state(&args.selection, &workspace, &context.printer)?;
    let selector = Selector::new(&workspace).with_state(state.as_ref());
    let mut selection = selector.select(&selection_args(args)?, &KINDS)?;
    for warning in &selection.warnings {
        context.printer.warning(warning);
    }
    selection.ids.sort();
    if selection.ids.is_empty() {
        context.printer.warning("No nodes selected!");
        return Ok(ExitStatus::Success);
    }
    let lines: Vec<String> = selection
        .ids
        .iter()
        .filter_map(|id| workspace.manifest.resource(id))
        .map(|resource| match args.output {
            LsOutput::Selector => selector_text(resource),
            LsOutput::Name => name_text(resource),
            LsOutput::Path => resource.original_file_path().to_owned(),
            LsOutput::Json => json_text(&workspace, resource, &args.output_keys),
        })
        .collect();
    context.printer.data(&lines.join("\n"));
    Ok(ExitStatus::Success)
}

/// `--models` means models only, as in dbt.
fn selection_args(args: &LsArgs) -> Result<SelectionArgs, ProjectError> {
    let mut selection = args.selection.clone();
    if selection.models.is_empty() {
        return Ok(selection);
    }
    let exclusive =
        |other: &str| ProjectError::runtime(format!("\"models\" and \"{other}\" are mutually exclusive arguments"));
    if !selection.select.is_empty() {
        return Err(exclusive("select"));
    }
    if !selection.resource_type.is_empty() {
        return Err(exclusive("resource_type"));
    }
    selection.resource_type = vec!["model".into()];
    Ok(selection)
}

fn selector_text(resource: Resource<'_>) -> String {
    match resource {
        Resource::Source(source) => {
            format!("source:{}.{}.{}", source.package_name, source.source_name, source.name)
        }
        Resource::Exposure(exposure) => format!("exposure:{}.{}", exposure.package_name, exposure.name),
        Resource::UnitTest(test) => {
            let version = test.version.as_ref().map(|version| format!("_v{}", version_text(version)));
            format!("unit_test:{}.{}{}", test.package_name, test.name, version.unwrap_or_default())
        }
        Resource::Node(node) => node.fqn.join("."),
    }
}

fn name_text(resource: Resource<'_>) -> String {
    match resource {
        Resource::Node(node) => node.search_name(),
        Resource::Source(source) => format!("{}.{}", source.source_name, source.name),
        Resource::Exposure(exposure) => exposure.name.clone(),
        Resource::UnitTest(test) => test.name.clone(),
    }
}

fn json_text(_workspace: &Workspace, resource: Resource<'_>, keys: &[String]) -> String {
    let value = resource_json(resource);
    let mut out = Map::new();
    if keys.is_empty() {
        for (key, value) in value.as_object().into_iter().flatten() {
            if KEYS.contains(&key.as_str()) {
                out.insert(key.clone(), value.clone());
            }
        }
    } else {
        // Some give all keys as one word, others as several.
        for key in keys.iter().flat_map(|keys| keys.split(' ')).filter(|key| !key.is_empty()) {
            let nested = key.contains('.');
            let found = key.split('.').try_fold(&value, |value, step| value.get(step));
            if let Some(found) = found.filter(|found| !nested || !found.is_null()) {
                out.insert(key.to_owned(), found.clone());
            }
        }
    }
    python_json(&Value::Object(out))
}

/// JSON with Python's blanks after `:` and `,`, since lines are compared as text.
fn python_json(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let parts: Vec<String> = map
                .iter()
                .map(|(key, value)| {
                    format!("{}: {}", ascii(&Value::String(key.clone()).to_string()), python_json(value))
                })
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", ")),
        other => ascii(&other.to_string()),
    }
}

/// Python's `json.dumps` writes everything beyond ASCII as `\u` and four hexadecimal digits.
fn ascii(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}
