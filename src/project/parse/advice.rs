//! What is allowed but ends badly: references to models past their date, names with spaces. In: the linked manifest; out:
//! warnings, and errors where dbt has them. It changes nothing.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Context;
use crate::{
    error::Location,
    project::{Manifest, Node, ProjectError, ResourceType, version_text},
};

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
