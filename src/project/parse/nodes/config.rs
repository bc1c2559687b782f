//! The config of a node: dbt_project.yml, properties and `config()` put together, checked as dbt checks it.

use serde_json::{Map, Value, json};

use super::super::Context;
use crate::project::{
    Access, Contract, Docs, Node, NodeConfig, Package, ProjectError, ResourceType, config_rules,
    package::{python_repr, python_str},
};

/// The config of a node, and what is copied from it: tags, meta, docs, group, contract, access, and the names.
pub(in crate::project::parse) fn configure(
    context: &Context<'_>,
    node: &mut Node,
    package: usize,
    patch: &Map<String, Value>,
    calls: &Map<String, Value>,
) -> Result<(), ProjectError> {
    let kind = node.resource_type;
    let (mut config, base) = context.config(kind, package, &node.fqn, patch, calls);
    normalize(kind, &mut config);
    check_config(&config)?;
    if kind == ResourceType::Test {
        finish_test_config(&mut config);
    }
    node.unrendered_config = context.unrendered_config(kind, package, &node.fqn, patch, calls);
    let custom = |key: &str| config.get(key).filter(|value| !value.is_null()).cloned();
    let (schema, alias, database) = (custom("schema"), custom("alias"), custom("database"));
    let (target_schema, target_database) = (custom("target_schema"), custom("target_database"));
    // dbt drops nulls when it stores the config, so what dbt_project.yml said comes back.
    if let Some(base) = base {
        for (key, value) in &mut config {
            if value.is_null()
                && let Some(earlier) = base.get(key)
            {
                *value = earlier.clone();
            }
        }
    }
    node.config = NodeConfig(config);
    for tag in node.config.tags() {
        if !node.tags.contains(&tag) {
            node.tags.push(tag);
        }
    }
    if let Some(meta) = node.config.map("meta") {
        node.meta = meta.clone();
    }
    if let Some(group) = node.config.str("group") {
        node.group = Some(group.to_owned());
    }
    if let Some(docs) = node.config.map("docs") {
        node.docs = Docs {
            show: docs.get("show").and_then(Value::as_bool).unwrap_or(true),
            node_color: docs.get("node_color").and_then(Value::as_str).map(str::to_owned),
        };
    }
    if let Some(contract) = node.config.map("contract") {
        let flag = |key: &str, default: bool| contract.get(key).and_then(Value::as_bool).unwrap_or(default);
        node.contract =
            Contract { enforced: flag("enforced", false), alias_types: flag("alias_types", true), checksum: None };
    }
    if kind == ResourceType::Model
        && let Some(access) = node.config.get("access")
    {
        node.access = access_of(access.as_str().unwrap_or_default(), &node.unique_id)?;
    }
    context.name_relation(node, schema.as_ref(), alias.as_ref(), database.as_ref())?;
    if kind == ResourceType::Snapshot {
        if let Some(schema) = target_schema.as_ref().and_then(Value::as_str) {
            node.schema = schema.to_owned();
        }
        if target_database.as_ref().and_then(Value::as_str).is_some_and(|database| !database.is_empty()) {
            // ClickHouse has no databases above schemas; dbt-clickhouse drops it.
            node.database = String::new();
        }
    }
    Ok(())
}

pub(super) fn access_of(text: &str, unique_id: &str) -> Result<Access, ProjectError> {
    match text {
        "private" => Ok(Access::Private),
        "protected" => Ok(Access::Protected),
        "public" => Ok(Access::Public),
        other => {
            Err(ProjectError::parsing(format!("Node {unique_id} has an invalid value ({other}) for the access field")))
        }
    }
}

/// Values as dbt's config classes keep them.
fn normalize(kind: ResourceType, config: &mut Map<String, Value>) {
    if let Some(tags @ Value::String(_)) = config.get_mut("tags") {
        *tags = Value::Array(vec![tags.take()]);
    }
    if let Some(Value::Bool(flag)) = config.get("static_analysis") {
        let text = if *flag { "on" } else { "off" };
        config.insert("static_analysis".into(), json!(text));
    }
    for (key, defaults) in [
        ("contract", json!({"enforced": false, "alias_types": true})),
        ("docs", json!({"show": true, "node_color": null})),
    ] {
        // What a mapping leaves out has its default.
        if let (Some(Value::Object(own)), Value::Object(defaults)) = (config.get_mut(key), defaults) {
            for (key, value) in defaults {
                own.entry(key).or_insert(value);
            }
        }
    }
    if kind == ResourceType::Model {
        // Freshness of a model without `build_after` is dropped.
        if config.get("freshness").is_some_and(|freshness| freshness.get("build_after").is_none()) {
            config.insert("freshness".into(), Value::Null);
        }
    }
}

/// The types of the keys that dbt checks; anything else may be anything.
fn check_config(config: &Map<String, Value>) -> Result<(), ProjectError> {
    const TYPES: [(&str, &str); 22] = [
        ("enabled", "boolean"),
        ("materialized", "string"),
        ("alias", "string?"),
        ("schema", "string?"),
        ("database", "string?"),
        ("group", "string?"),
        ("meta", "object"),
        ("persist_docs", "object"),
        ("quoting", "object"),
        ("column_types", "object"),
        ("grants", "object"),
        ("docs", "object"),
        ("contract", "object"),
        ("full_refresh", "boolean?"),
        ("on_schema_change", "string?"),
        ("incremental_strategy", "string?"),
        ("store_failures", "boolean?"),
        ("store_failures_as", "string?"),
        ("where", "string?"),
        ("limit", "integer?"),
        ("fail_calc", "string"),
        ("delimiter", "string"),
    ];
    for (key, kind) in TYPES {
        let Some(value) = config.get(key) else { continue };
        let (kind, optional) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
        let fits = match kind {
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => value.is_object(),
        };
        if fits || (optional && value.is_null()) {
            continue;
        }
        let reason = if optional {
            "is not valid under any of the given schemas".to_owned()
        } else {
            format!("is not of type '{kind}'")
        };
        return Err(ProjectError::parsing(format!("at path ['{key}']: {} {reason}", python_repr(value))));
    }
    if let Some(tags) = config.get("tags").and_then(Value::as_array)
        && let Some(tag) = tags.iter().find(|tag| !tag.is_string())
    {
        return Err(ProjectError::parsing(format!("at path ['tags']: {} is not of type 'string'", python_repr(tag))));
    }
    if let Some(severity) = config.get("severity") {
        let text = python_str(severity);
        if !text.eq_ignore_ascii_case("warn") && !text.eq_ignore_ascii_case("error") {
            return Err(ProjectError::parsing(format!(
                "at path []: Severity must be either 'warn' or 'error'. Got '{text}'"
            )));
        }
    }
    for (key, allowed) in [
        ("on_configuration_change", ["apply", "continue", "fail"].as_slice()),
        ("on_schema_change", &["ignore", "fail", "append_new_columns", "sync_all_columns"]),
    ] {
        if key == "on_configuration_change"
            && let Some(value) = config.get(key).and_then(Value::as_str)
            && !allowed.contains(&value)
        {
            return Err(ProjectError::parsing(format!(
                "at path ['{key}']: '{value}' is not one of ['apply', 'continue', 'fail']"
            )));
        }
    }
    let enforced = config.get("contract").and_then(|contract| contract.get("enforced")) == Some(&Value::Bool(true));
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if enforced
        && text("materialized") == "incremental"
        && !matches!(text("on_schema_change"), "append_new_columns" | "fail")
    {
        return Err(ProjectError::parsing(format!(
            "Invalid value for on_schema_change: {}. Models materialized as incremental with contracts enabled must set on_schema_change to 'append_new_columns' or 'fail'",
            text("on_schema_change")
        )));
    }
    Ok(())
}

/// `store_failures_as` decides over `store_failures`, and follows from it where it is not set.
fn finish_test_config(config: &mut Map<String, Value>) {
    let as_ = config.get("store_failures_as").and_then(Value::as_str).map(str::to_owned);
    match as_.as_deref() {
        None => {
            let derived = match config.get("store_failures") {
                Some(Value::Bool(true)) => json!("table"),
                Some(Value::Bool(false)) => json!("ephemeral"),
                _ => Value::Null,
            };
            config.insert("store_failures_as".into(), derived);
        }
        Some(kind) => _ = config.insert("store_failures".into(), json!(kind != "ephemeral")),
    }
}

impl Context<'_> {
    /// The config of a node, and what dbt_project.yml alone says where a null was written over it.
    pub(in crate::project::parse) fn config(
        &self,
        kind: ResourceType,
        package: usize,
        fqn: &[String],
        patch: &Map<String, Value>,
        calls: &Map<String, Value>,
    ) -> (Map<String, Value>, Option<Map<String, Value>>) {
        let own = self.packages[package];
        let root = self.packages[0];
        let mut config = config_rules::defaults(kind).clone();
        let apply = |config: &mut Map<String, Value>, package: &Package| {
            for level in package.section(kind).into_iter().flat_map(|section| config_rules::levels(section, fqn)) {
                config_rules::update(kind, config, &level);
            }
        };
        apply(&mut config, own);
        let nulls = patch.values().chain(calls.values()).any(Value::is_null);
        let mut base = nulls.then(|| config.clone());
        config_rules::update(kind, &mut config, patch);
        config_rules::update(kind, &mut config, calls);
        if package != 0 {
            apply(&mut config, root);
            if let Some(base) = &mut base {
                apply(base, root);
            }
        }
        (config, base)
    }

    /// dbt looks for a group's config among the models'.
    pub(in crate::project::parse) fn group_config(
        &self,
        package: usize,
        fqn: &[String],
        patch: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut config = Map::new();
        config.insert("meta".into(), json!({}));
        // A source's rules are those of a group: only meta merges.
        let rules = ResourceType::Source;
        let levels = |package: &Package| -> Vec<Map<String, Value>> {
            let section = package.section(ResourceType::Model);
            section.into_iter().flat_map(|section| config_rules::levels(section, fqn)).collect()
        };
        for level in levels(self.packages[package]) {
            config_rules::update(rules, &mut config, &level);
        }
        config_rules::update(rules, &mut config, patch);
        if package != 0 {
            for level in levels(self.packages[0]) {
                config_rules::update(rules, &mut config, &level);
            }
        }
        config
    }

    pub(in crate::project::parse) fn unrendered_config(
        &self,
        kind: ResourceType,
        package: usize,
        fqn: &[String],
        patch: &Map<String, Value>,
        calls: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut config = Map::new();
        let apply = |config: &mut Map<String, Value>, package: &Package| {
            let section = package.unrendered_section(kind);
            for level in section.into_iter().flat_map(|section| config_rules::levels(section, fqn)) {
                config.extend(level);
            }
        };
        apply(&mut config, self.packages[package]);
        config.extend(patch.iter().map(|(key, value)| (key.clone(), value.clone())));
        config.extend(calls.iter().map(|(key, value)| (key.clone(), value.clone())));
        if package != 0 {
            apply(&mut config, self.packages[0]);
        }
        config
    }
}
