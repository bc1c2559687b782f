//! What properties files declare by themselves: sources, exposures, groups, and descriptions of macros. In:
//! entries; out: the resources, without what they depend on.

use serde_json::{Map, Value, json};

use super::{
    Context,
    properties::{self, Entry, texts},
    references,
};
use crate::project::{
    DependsOn, Exposure, Freshness, FreshnessThreshold, Group, MacroArgument, NodeConfig, ProjectError, ResourceType,
    Source, package::python_repr,
};

/// The tables of a source entry; `tables` and the entry itself may have been overridden by the root project.
pub(super) fn sources(context: &Context<'_>, entry: &Entry<'_>) -> Result<Vec<(Source, bool)>, ProjectError> {
    let mut out = Vec::new();
    for (index, table) in entry.list("tables")?.iter().enumerate() {
        let index = index.to_string();
        let Value::Object(table) = table else {
            return Err(ProjectError::parsing(format!(
                "Invalid sources config given in {} @ sources: '{}' - at path ['tables'][{index}]: {} is not of type 'object'",
                entry.file.original,
                entry.name,
                python_repr(table)
            ))
            .at(entry.locate(&["tables", &index])));
        };
        let Some(name) = table.get("name").and_then(Value::as_str) else {
            return Err(ProjectError::parsing(format!(
                "Invalid sources config given in {} @ sources: '{}' - at path ['tables'][{index}]: 'name' is a required property",
                entry.file.original, entry.name
            ))
            .at(entry.locate(&["tables", &index])));
        };
        out.push(source(context, entry, table, name, &index)?);
    }
    Ok(out)
}

fn source(
    context: &Context<'_>,
    entry: &Entry<'_>,
    table: &Map<String, Value>,
    name: &str,
    index: &str,
) -> Result<(Source, bool), ProjectError> {
    let package_index = entry.file.package;
    let package = context.packages[package_index];
    let mut fqn = vec![package.name.clone()];
    if let Some((folders, _)) = entry.file.relative.rsplit_once('/') {
        fqn.extend(folders.split('/').map(str::to_owned));
    }
    fqn.extend([entry.name.clone(), name.to_owned()]);
    let source_config = entry.map("config")?.cloned().unwrap_or_default();
    let table_config = table.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut config = source_config.clone();
    config.extend(table_config.clone());
    match merged_freshness(&[
        entry.value.get("freshness"),
        source_config.get("freshness"),
        table.get("freshness"),
        table_config.get("freshness"),
    ]) {
        Merged::Off => _ = config.insert("freshness".into(), Value::Null),
        Merged::Unset => _ = config.shift_remove("freshness"),
        Merged::Set(freshness) => _ = config.insert("freshness".into(), freshness),
    }
    let (field, query) = loaded_at(entry, table, &source_config, &table_config)
        .map_err(|error| error.at(entry.locate(&["tables", index])))?;
    config.insert("loaded_at_field".into(), field);
    config.insert("loaded_at_query".into(), query);
    let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut source_meta = object(entry.value.get("meta"));
    source_meta.extend(object(source_config.get("meta")));
    let mut meta = source_meta.clone();
    meta.extend(object(table.get("meta")));
    meta.extend(object(table_config.get("meta")));
    config.insert("meta".into(), Value::Object(meta));
    let mut tags: Vec<String> =
        [entry.value.get("tags"), source_config.get("tags"), table.get("tags"), table_config.get("tags")]
            .into_iter()
            .flat_map(texts)
            .collect();
    tags.sort();
    tags.dedup();
    config.insert("tags".into(), json!(tags));
    let none = Map::new();
    let (rendered, _) = context.config(ResourceType::Source, package_index, &fqn, &config, &none);
    let unrendered = context.unrendered_config(ResourceType::Source, package_index, &fqn, &config, &none);
    let final_config = NodeConfig(rendered);
    if let Some(enabled) = final_config.get("enabled")
        && !enabled.is_boolean()
    {
        return Err(ProjectError::parsing(format!(
            "at path ['enabled']: {} is not of type 'boolean'",
            python_repr(enabled)
        ))
        .at(entry.locate(&["tables", index, "config"])));
    }
    let schema = entry.str("schema").unwrap_or(&entry.name).to_owned();
    let identifier = table.get("identifier").and_then(Value::as_str).unwrap_or(name).to_owned();
    let column_items = match table.get("columns") {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    let mut quoting = Map::new();
    for key in ["database", "schema", "identifier", "column"] {
        let own = |value: Option<&Value>| {
            value.and_then(|quoting| quoting.get(key)).filter(|value| !value.is_null()).cloned()
        };
        let value = own(table.get("quoting")).or_else(|| own(entry.value.get("quoting")));
        quoting.insert(key.into(), value.unwrap_or(Value::Null));
    }
    let enabled = final_config.enabled();
    let mut source = Source {
        unique_id: format!("source.{}.{}.{name}", package.name, entry.name),
        package_name: package.name.clone(),
        path: entry.file.original.clone(),
        original_file_path: entry.file.original.clone(),
        fqn,
        source_name: entry.name.clone(),
        name: name.to_owned(),
        relation_name: String::new(),
        identifier,
        schema,
        database: entry.str("database").unwrap_or_default().to_owned(),
        source_description: entry.description(),
        loader: entry.str("loader").unwrap_or_default().to_owned(),
        quoting,
        loaded_at_field: final_config.str("loaded_at_field").map(str::to_owned),
        loaded_at_query: final_config.str("loaded_at_query").map(str::to_owned),
        freshness: freshness(final_config.get("freshness")),
        external: table.get("external").filter(|external| !external.is_null()).map(external),
        description: table.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        doc_blocks: Vec::new(),
        columns: properties::columns(entry, &column_items)?,
        meta: final_config.map("meta").cloned().unwrap_or_default(),
        source_meta,
        tags: final_config.tags(),
        config: final_config,
        unrendered_config: unrendered,
        unrendered_schema: entry.unrendered_schema.clone(),
        unrendered_database: entry.unrendered_database.clone(),
        created_at: context.now,
    };
    source.relation_name = source.relation().render();
    Ok((source, enabled))
}

/// dbt-external-tables' properties, with the ones dbt knows and nobody wrote as null.
fn external(written: &Value) -> Value {
    let Value::Object(written) = written else { return written.clone() };
    let mut all: Map<String, Value> = ["location", "file_format", "row_format", "tbl_properties", "partitions"]
        .map(|key| (key.to_owned(), Value::Null))
        .into_iter()
        .collect();
    all.extend(written.clone());
    Value::Object(all)
}

enum Merged {
    /// `freshness: null` switches it off.
    Off,
    Unset,
    Set(Value),
}

/// The source's freshness, its config's, the table's, its config's: later bounds replace earlier ones, and null switches
/// off.
fn merged_freshness(parts: &[Option<&Value>]) -> Merged {
    fn bound(value: Option<&Value>) -> Option<Value> {
        match value {
            None => Some(json!({"count": null, "period": null})),
            Some(Value::Null) => None,
            Some(value) => Some(json!({
                "count": value.get("count").cloned().unwrap_or(Value::Null),
                "period": value.get("period").cloned().unwrap_or(Value::Null),
            })),
        }
    }
    fn is_set(bound: &Option<Value>) -> bool {
        bound.as_ref().is_some_and(|bound| !bound["count"].is_null() && !bound["period"].is_null())
    }
    type Parts = (Option<Value>, Option<Value>, Value);
    let read = |value: Option<&Value>| -> Option<Parts> {
        match value {
            Some(Value::Null) => None,
            None => Some((bound(None), bound(None), Value::Null)),
            Some(value) => Some((
                bound(value.get("warn_after")),
                bound(value.get("error_after")),
                value.get("filter").cloned().unwrap_or(Value::Null),
            )),
        }
    };
    let merge_bound = |base: Option<Value>, update: Option<Value>| match (is_set(&base), is_set(&update)) {
        _ if update.is_none() => None,
        (_, true) => update,
        (true, false) => base,
        (false, false) => update,
    };
    let mut merged = read(parts.first().copied().flatten());
    for part in &parts[1..] {
        let update = read(*part);
        merged = match (merged, update) {
            (Some((warn, error, filter)), Some((warn_update, error_update, filter_update))) => Some((
                merge_bound(warn, warn_update),
                merge_bound(error, error_update),
                if filter_update.is_null() { filter } else { filter_update },
            )),
            (None, Some(update)) if is_set(&update.0) || is_set(&update.1) => Some(update),
            _ => None,
        };
    }
    match merged {
        None => Merged::Off,
        Some((warn, error, filter)) if is_set(&warn) || is_set(&error) => {
            Merged::Set(json!({"warn_after": warn, "error_after": error, "filter": filter}))
        }
        Some(_) => Merged::Unset,
    }
}

fn freshness(config: Option<&Value>) -> Option<Freshness> {
    let config = config?;
    let bound = |key: &str| FreshnessThreshold {
        count: config.get(key).and_then(|bound| bound.get("count")).and_then(Value::as_i64),
        period: config.get(key).and_then(|bound| bound.get("period")).and_then(Value::as_str).map(str::to_owned),
    };
    Some(Freshness {
        warn_after: bound("warn_after"),
        error_after: bound("error_after"),
        filter: config.get("filter").and_then(Value::as_str).map(str::to_owned),
    })
}

/// `loaded_at_field` and `loaded_at_query`, the table's before the source's; a table may switch the field off with null.
fn loaded_at(
    entry: &Entry<'_>,
    table: &Map<String, Value>,
    source_config: &Map<String, Value>,
    table_config: &Map<String, Value>,
) -> Result<(Value, Value), ProjectError> {
    let set = |value: Option<&Value>| value.filter(|value| !value.is_null()).cloned();
    let either = |own: &Map<String, Value>, config: &Map<String, Value>, key: &str| {
        set(own.get(key)).or_else(|| set(config.get(key)))
    };
    let (field, query) = ("loaded_at_field", "loaded_at_query");
    let table_field = either(table, table_config, field);
    let table_query = either(table, table_config, query);
    let source_field = either(&entry.value, source_config, field);
    let source_query = either(&entry.value, source_config, query);
    let field_present = table.contains_key(field) || set(table_config.get(field)).is_some();
    if field_present && table_query.is_some() {
        return Err(ProjectError::parsing("Cannot specify both loaded_at_field and loaded_at_query at table level."));
    }
    if source_field.is_some() && source_query.is_some() {
        return Err(ProjectError::parsing("Cannot specify both loaded_at_field and loaded_at_query at source level."));
    }
    let chosen_field = if field_present { table_field } else { source_field };
    let chosen_query = match (table_query, field_present) {
        (Some(query), _) => Some(query),
        (None, true) => None,
        (None, false) => source_query,
    };
    Ok((chosen_field.unwrap_or(Value::Null), chosen_query.unwrap_or(Value::Null)))
}

/// What the root project says about a package's source (`overrides:`), merged into the package's own entry.
pub(super) fn override_source(entry: &mut Entry<'_>, patch: &Entry<'_>) {
    for (key, value) in &patch.value {
        match key.as_str() {
            "name" | "overrides" | "tables" => {}
            _ => _ = entry.value.insert(key.clone(), value.clone()),
        }
    }
    let patches = patch.value.get("tables").and_then(Value::as_array).cloned().unwrap_or_default();
    for table in entry.value.get_mut("tables").and_then(Value::as_array_mut).into_iter().flatten() {
        let Value::Object(table) = table else { continue };
        let name = table.get("name").cloned();
        for patch in patches.iter().filter_map(Value::as_object).filter(|patch| patch.get("name") == name.as_ref()) {
            table.extend(patch.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
}

/// An exposure, with the refs and sources of its `depends_on:`.
pub(super) fn exposure(context: &Context<'_>, entry: &Entry<'_>) -> Result<(Exposure, bool), ProjectError> {
    let package = context.packages[entry.file.package];
    let mut fqn = vec![package.name.clone()];
    if let Some((folders, _)) = entry.file.relative.rsplit_once('/') {
        fqn.extend(folders.split('/').map(str::to_owned));
    }
    fqn.push(entry.name.clone());
    let invalid = |reason: String, key: &str| {
        ProjectError::parsing(format!(
            "Invalid exposures config given in {} @ exposures: '{}' - {reason}",
            entry.file.original, entry.name
        ))
        .at(entry.location(Some(key)))
    };
    const TYPES: [&str; 5] = ["dashboard", "notebook", "analysis", "ml", "application"];
    let exposure_type = match entry.value.get("type") {
        Some(Value::String(kind)) if TYPES.contains(&kind.as_str()) => kind.clone(),
        Some(other) => {
            return Err(invalid(
                format!("at path ['type']: {} is not one of {}", python_repr(other), python_repr(&json!(TYPES))),
                "type",
            ));
        }
        None => return Err(invalid("at path []: 'type' is a required property".into(), "name")),
    };
    let Some(owner) = entry.map("owner")? else {
        return Err(invalid("at path []: 'owner' is a required property".into(), "name"));
    };
    if owner.get("name").is_none_or(Value::is_null) && owner.get("email").is_none_or(Value::is_null) {
        return Err(invalid("Exposure owner must have at least one of 'name' or 'email'.".into(), "owner"));
    }
    let mut full_owner = Map::new();
    full_owner.insert("email".into(), owner.get("email").cloned().unwrap_or(Value::Null));
    full_owner.insert("name".into(), owner.get("name").cloned().unwrap_or(Value::Null));
    full_owner.extend(owner.iter().map(|(key, value)| (key.clone(), value.clone())));
    let patch = entry.map("config")?.cloned().unwrap_or_default();
    let none = Map::new();
    let (mut config, _) = context.config(ResourceType::Exposure, entry.file.package, &fqn, &patch, &none);
    let unrendered_config = context.unrendered_config(ResourceType::Exposure, entry.file.package, &fqn, &patch, &none);
    let mut tags: Vec<String> = texts(entry.value.get("tags")).into_iter().chain(texts(config.get("tags"))).collect();
    tags.sort();
    tags.dedup();
    let mut meta = entry.map("meta")?.cloned().unwrap_or_default();
    if let Some(Value::Object(more)) = config.get("meta") {
        meta.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    config.insert("tags".into(), json!(tags));
    config.insert("meta".into(), Value::Object(meta.clone()));
    let (mut refs, mut sources) = (Vec::new(), Vec::new());
    for (index, item) in entry.list("depends_on")?.iter().enumerate() {
        let text = item.as_str().unwrap_or_default();
        match references::parse(text) {
            Some(references::Reference::Ref(reference)) => refs.push(reference),
            Some(references::Reference::Source(source)) => sources.push(source),
            None if text.trim_start().starts_with("metric(") => {}
            None => {
                return Err(ProjectError::compilation(format!(
                    "Exposure '{}' depends on {}, which is no ref() and no source()",
                    entry.name,
                    python_repr(item)
                ))
                .at(entry.locate(&["depends_on", &index.to_string()])));
            }
        }
    }
    let config = NodeConfig(config);
    let enabled = config.enabled();
    Ok((
        Exposure {
            unique_id: format!("exposure.{}.{}", package.name, entry.name),
            name: entry.name.clone(),
            package_name: package.name.clone(),
            path: entry.file.relative.clone(),
            original_file_path: entry.file.original.clone(),
            fqn,
            exposure_type,
            owner: full_owner,
            description: entry.description(),
            label: entry.str("label").map(str::to_owned),
            maturity: entry.str("maturity").map(str::to_owned),
            meta,
            tags,
            config,
            unrendered_config,
            url: entry.str("url").map(str::to_owned),
            depends_on: DependsOn::default(),
            refs,
            sources,
            created_at: context.now,
        },
        enabled,
    ))
}

/// A group.
pub(super) fn group(context: &Context<'_>, entry: &Entry<'_>) -> Result<Group, ProjectError> {
    let package = context.packages[entry.file.package];
    let owner = entry.map("owner")?.cloned().unwrap_or_default();
    if owner.get("name").is_none_or(Value::is_null) && owner.get("email").is_none_or(Value::is_null) {
        return Err(ProjectError::parsing(format!(
            "Invalid groups config given in {} @ groups: '{}' - Group owner must have at least one of 'name' or 'email'.",
            entry.file.original, entry.name
        ))
        .at(entry.location(Some("owner"))));
    }
    let mut full_owner = Map::new();
    full_owner.insert("email".into(), owner.get("email").cloned().unwrap_or(Value::Null));
    full_owner.insert("name".into(), owner.get("name").cloned().unwrap_or(Value::Null));
    full_owner.extend(owner);
    let mut fqn = vec![package.name.clone()];
    if let Some((folders, _)) = entry.file.relative.rsplit_once('/') {
        fqn.extend(folders.split('/').map(str::to_owned));
    }
    fqn.push(entry.name.clone());
    let patch = entry.map("config")?.cloned().unwrap_or_default();
    let config = context.group_config(entry.file.package, &fqn, &patch);
    Ok(Group {
        unique_id: format!("group.{}.{}", package.name, entry.name),
        name: entry.name.clone(),
        package_name: package.name.clone(),
        path: entry.file.relative.clone(),
        original_file_path: entry.file.original.clone(),
        owner: full_owner,
        description: entry.str("description").map(str::to_owned),
        config,
    })
}

/// What a `macros:` entry says about a macro's arguments.
pub(super) fn macro_arguments(entry: &Entry<'_>) -> Result<Vec<MacroArgument>, ProjectError> {
    entry
        .list("arguments")?
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
            let Some(name) = text("name") else {
                return Err(ProjectError::parsing(format!(
                    "Invalid macros config given in {} @ macros: '{}' - at path ['arguments'][{index}]: 'name' is a required property",
                    entry.file.original, entry.name
                ))
                .at(entry.locate(&["arguments", &index.to_string()])));
            };
            Ok(MacroArgument { name, argument_type: text("type"), description: text("description").unwrap_or_default() })
        })
        .collect()
}
