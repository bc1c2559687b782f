//! What is allowed but ends badly: misspelt keys, references to models past their date, names with spaces. In: entries of
//! properties files and the linked manifest; out: warnings, and errors where dbt has them. It changes nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Context, properties::Entry};
use crate::{
    error::Location,
    project::{Manifest, Node, ProjectError, ResourceType, config_rules, version_text},
    yaml::{Yaml, YamlKind, is_near},
};

/// Configs of dbt-clickhouse, of snapshots and of chpipe that are no dbt defaults.
const CONFIGS: [&str; 58] = [
    "engine",
    "order_by",
    "partition_by",
    "primary_key",
    "sharding_key",
    "ttl",
    "settings",
    "query_settings",
    "indexes",
    "projections",
    "inserts_only",
    "predicates",
    "incremental_predicates",
    "sql_header",
    "disable_on_cluster",
    "force_on_cluster",
    "sql_security",
    "definer",
    "refreshable",
    "catchup",
    "repopulate_from_mvs_on_full_refresh",
    "mv_on_schema_change",
    "fields",
    "source_type",
    "layout",
    "lifetime",
    "range",
    "update_field",
    "update_lag",
    "connection_overrides",
    "strategy",
    "updated_at",
    "check_cols",
    "target_schema",
    "target_database",
    "hard_deletes",
    "invalidate_hard_deletes",
    "dbt_valid_to_current",
    "snapshot_meta_column_names",
    "snapshot_apply",
    "history",
    "delimiter",
    "quote_columns",
    "pre_hook",
    "post_hook",
    "severity",
    "store_failures",
    "store_failures_as",
    "where",
    "limit",
    "fail_calc",
    "warn_if",
    "error_if",
    "freshness",
    "access",
    "transient",
    "python_version",
    "packages",
];

/// Keys of entries, and of their columns and tables, in properties files.
const PROPERTIES: [&str; 43] = [
    "name",
    "description",
    "docs",
    "meta",
    "tags",
    "config",
    "columns",
    "data_tests",
    "tests",
    "group",
    "access",
    "latest_version",
    "versions",
    "constraints",
    "deprecation_date",
    "database",
    "schema",
    "loader",
    "loaded_at_field",
    "loaded_at_query",
    "freshness",
    "quoting",
    "overrides",
    "tables",
    "identifier",
    "external",
    "relation",
    "label",
    "type",
    "maturity",
    "url",
    "owner",
    "depends_on",
    "enabled",
    "model",
    "given",
    "expect",
    "arguments",
    "data_type",
    "quote",
    "codec",
    "ttl",
    "defined_in",
];

/// Keys of the project's own properties files that are one letter away from a key with a meaning.
pub(super) fn misspelt_properties(context: &Context<'_>, entries: &[Entry<'_>]) {
    fn look(entry: &Entry<'_>, tree: &Yaml, path: &mut Vec<String>, found: &mut Vec<(String, &'static str, Location)>) {
        for (key, value) in tree.as_map().unwrap_or_default() {
            let Some(name) = key.as_str() else { continue };
            path.push(name.to_owned());
            if let Some(meant) = near(name, PROPERTIES.iter().copied()) {
                let steps: Vec<&str> = path.iter().map(String::as_str).collect();
                found.push((name.to_owned(), meant, entry.locate(&steps)));
            }
            if let ("columns" | "tables" | "versions", YamlKind::List(items)) = (name, &value.kind) {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    look(entry, item, path, found);
                    path.pop();
                }
            }
            path.pop();
        }
    }
    for entry in entries.iter().filter(|entry| entry.file.package == 0) {
        let mut found = Vec::new();
        look(entry, &entry.tree, &mut Vec::new(), &mut found);
        for (name, meant, location) in found {
            let line = location.line.map(|line| format!(":{line}")).unwrap_or_default();
            context.events.warning(format!(
                "nothing reads the key `{name}` of {} ({}{line}); did you mean `{meant}`?",
                entry.name, entry.file.original
            ));
        }
    }
}

/// Configs of the project's own nodes that are one letter away from one with a meaning, and that no macro mentions.
pub(super) fn misspelt_configs(context: &Context<'_>, manifest: &Manifest) {
    let root = context.packages[0];
    let mut found: BTreeMap<&str, (&'static str, Vec<&Node>)> = BTreeMap::new();
    for node in manifest.nodes.values().filter(|node| node.package_name == root.name) {
        let known: &'static Map<String, Value> = config_rules::defaults(node.resource_type);
        for name in node.config.0.keys().filter(|name| !known.contains_key(*name)) {
            if let Some(meant) = near(name, known.keys().map(String::as_str).chain(CONFIGS)) {
                found.entry(name).or_insert((meant, Vec::new())).1.push(node);
            }
        }
    }
    for (name, (meant, nodes)) in found {
        if manifest.macros.values().any(|found| found.macro_sql.contains(name)) {
            continue;
        }
        let first = nodes[0];
        let inside = first.raw_code.lines().position(|line| line.contains(name));
        let place = match (inside, line_of(&root.tree, name)) {
            (Some(line), _) => format!("{}:{}", first.original_file_path, first.raw_code_line + line),
            (None, Some(line)) => format!("dbt_project.yml:{line}"),
            (None, None) => first.original_file_path.clone(),
        };
        let more = if nodes.len() > 1 { format!(" and {} more", nodes.len() - 1) } else { String::new() };
        context.events.warning(format!(
            "nothing reads the config `{name}` of {}{more} ({place}); did you mean `{meant}`?",
            first.name
        ));
    }
}

/// The known name that is one letter away; `None` for short names and for known ones.
fn near(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let mut meant = None;
    for known in known {
        if known == name {
            return None;
        }
        if meant.is_none() && known.len() > 3 && is_near(known, name) {
            meant = Some(known);
        }
    }
    meant
}

/// The line of a key, with or without `+`, anywhere below.
fn line_of(tree: &Yaml, name: &str) -> Option<usize> {
    tree.as_map().unwrap_or_default().iter().find_map(|(key, value)| {
        let is_it = key.as_str().is_some_and(|key| key.trim_start_matches('+') == name);
        if is_it { Some(key.line) } else { line_of(value, name) }
    })
}

/// Models with a `deprecation_date`, in dbt's words: that it has passed, and who refers to them.
pub(super) fn deprecated_models(context: &Context<'_>, manifest: &Manifest) {
    let models = || manifest.nodes.values().filter(|node| node.resource_type == ResourceType::Model);
    for model in models() {
        let Some(date) = &model.deprecation_date else { continue };
        let is_past = DateTime::parse_from_rfc3339(date)
            .is_ok_and(|date| date.with_timezone(&Utc) < context.environment.invocation.started_at);
        if is_past {
            context.events.warning(format!(
                "Model {} has passed its deprecation date of {date}. This model should be disabled or removed.",
                model.search_name()
            ));
        }
        for child in models().filter(|child| child.depends_on.nodes.contains(&model.unique_id)) {
            let when = if is_past { "was deprecated" } else { "is slated for deprecation" };
            context.events.warning(format!(
                "While compiling '{}': Found a reference to {}, which {when} on '{date}'.{}",
                child.name,
                model.search_name(),
                newer_version(model, is_past)
            ));
        }
    }
}

fn newer_version(model: &Node, is_past: bool) -> String {
    let text = |version: &Option<Value>| version.as_ref().map(version_text).unwrap_or_default();
    let latest = text(&model.latest_version);
    if model.version.is_none() || text(&model.version) == latest {
        return String::new();
    }
    format!(
        " A new version of '{}' is available. {}: {{{{ ref('{}', '{}', v='{latest}') }}}}.",
        model.name,
        if is_past { "Migrate now" } else { "Try it out" },
        model.package_name,
        model.name
    )
}

/// Names with spaces are an error, unless the project's flag `require_resource_names_without_spaces` is off.
pub(super) fn names_with_spaces(context: &Context<'_>, manifest: &Manifest) -> Result<(), ProjectError> {
    let flags = &context.packages[0].flags;
    if flags.get("require_resource_names_without_spaces").and_then(Value::as_bool) == Some(false) {
        return Ok(());
    }
    let named: Vec<&Node> = manifest.nodes.values().filter(|node| node.name.contains(' ')).collect();
    let Some(first) = named.first() else { return Ok(()) };
    let list: Vec<String> =
        named.iter().map(|node| format!("  * '{}' ({})", node.unique_id, node.original_file_path)).collect();
    Err(ProjectError::runtime(format!(
        "Resource names cannot contain spaces:\n{}\nPlease rename the invalid model(s) so that their name(s) do not contain any spaces.",
        list.join("\n")
    ))
    .at(Location::file(first.file())))
}
