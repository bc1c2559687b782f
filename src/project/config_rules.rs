//! How a node's config is put together: defaults, dbt_project.yml from the root of the tree to the leaf, the properties
//! entry, `config()` in the file, and for a package's nodes the root project's dbt_project.yml last. In: mappings; out: one.
//! Which key adds, merges or replaces is dbt's rule for each.
//! <https://docs.getdbt.com/reference/configs-and-properties#combining-configs>

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::ResourceType;

/// What a later value does to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    Append,
    Update,
    /// `grants`: by key; a key with a leading `+` adds.
    DictKeyAppend,
    Replace,
}

fn merge_rule(kind: ResourceType, key: &str) -> Merge {
    use ResourceType::{Exposure, Source, Test, UnitTest};
    match (kind, key) {
        (Exposure, _) => Merge::Replace,
        (_, "meta") => Merge::Update,
        (Source, _) => Merge::Replace,
        (_, "tags") => Merge::Append,
        (Test | UnitTest, _) => Merge::Replace,
        (_, "pre-hook" | "post-hook" | "packages") => Merge::Append,
        (_, "quoting" | "column_types" | "docs" | "contract" | "snapshot_meta_column_names") => Merge::Update,
        (_, "grants") => Merge::DictKeyAppend,
        _ => Merge::Replace,
    }
}

/// The config of a resource of which nothing was said, in dbt's key order.
pub(super) fn defaults(kind: ResourceType) -> &'static Map<String, Value> {
    static NODE: LazyLock<Map<String, Value>> = LazyLock::new(|| object(node_defaults("view")));
    static MODEL: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let mut map = object(node_defaults("view"));
        map.insert("access".into(), json!("protected"));
        map.insert("freshness".into(), Value::Null);
        map
    });
    static SEED: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let mut map = object(node_defaults("seed"));
        map.insert("delimiter".into(), json!(","));
        map.insert("quote_columns".into(), Value::Null);
        map
    });
    static SNAPSHOT: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let mut map = object(node_defaults("snapshot"));
        for key in ["strategy", "target_schema", "target_database", "updated_at", "check_cols"] {
            map.insert(key.into(), Value::Null);
        }
        map.insert(
            "snapshot_meta_column_names".into(),
            json!({"dbt_valid_to": null, "dbt_valid_from": null, "dbt_scd_id": null, "dbt_updated_at": null, "dbt_is_deleted": null}),
        );
        map.insert("dbt_valid_to_current".into(), Value::Null);
        map
    });
    static TEST: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        object(json!({
            "enabled": true, "alias": null, "schema": "dbt_test__audit", "database": null, "tags": [], "meta": {},
            "group": null, "static_analysis": null, "materialized": "test", "severity": "ERROR",
            "store_failures": null, "store_failures_as": null, "where": null, "limit": null,
            "fail_calc": "count(*)", "warn_if": "!= 0", "error_if": "!= 0"
        }))
    });
    static SOURCE: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        object(json!({
            "enabled": true, "event_time": null,
            "freshness": {"warn_after": {"count": null, "period": null}, "error_after": {"count": null, "period": null}, "filter": null},
            "loaded_at_field": null, "loaded_at_query": null, "meta": {}, "tags": [], "static_analysis": null
        }))
    });
    static EXPOSURE: LazyLock<Map<String, Value>> =
        LazyLock::new(|| object(json!({"enabled": true, "tags": [], "meta": {}})));
    static UNIT_TEST: LazyLock<Map<String, Value>> =
        LazyLock::new(|| object(json!({"tags": [], "meta": {}, "enabled": true, "static_analysis": null})));
    match kind {
        ResourceType::Model => &MODEL,
        ResourceType::Seed => &SEED,
        ResourceType::Snapshot => &SNAPSHOT,
        ResourceType::Test => &TEST,
        ResourceType::Source => &SOURCE,
        ResourceType::Exposure => &EXPOSURE,
        ResourceType::UnitTest => &UNIT_TEST,
        ResourceType::Analysis | ResourceType::Operation => &NODE,
    }
}

fn node_defaults(materialized: &str) -> Value {
    json!({
        "enabled": true, "alias": null, "schema": null, "database": null, "tags": [], "meta": {}, "group": null,
        "static_analysis": null, "materialized": materialized, "incremental_strategy": null, "batch_size": null,
        "lookback": 1, "begin": null, "persist_docs": {}, "post-hook": [], "pre-hook": [], "quoting": {},
        "column_types": {}, "full_refresh": null, "unique_key": null, "on_schema_change": "ignore",
        "on_configuration_change": "apply", "grants": {}, "packages": [],
        "docs": {"show": true, "node_color": null}, "contract": {"enforced": false, "alias_types": true},
        "event_time": null, "concurrent_batches": null
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The section of dbt_project.yml for a kind of resource.
pub(super) fn section(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Seed => "seeds",
        ResourceType::Snapshot => "snapshots",
        ResourceType::Source => "sources",
        ResourceType::Test => "data_tests",
        ResourceType::Exposure => "exposures",
        ResourceType::UnitTest => "unit_tests",
        ResourceType::Model | ResourceType::Analysis | ResourceType::Operation => "models",
    }
}

/// The levels of a section that apply to a node, from the root to the leaf, `+` taken off the keys.
pub(super) fn levels<'a>(
    section: &'a Map<String, Value>,
    fqn: &'a [String],
) -> impl Iterator<Item = Map<String, Value>> + 'a {
    let mut level = Some(section);
    let mut names = fqn.iter();
    std::iter::from_fn(move || {
        let current = level?;
        level = names.next().and_then(|name| current.get(name)).and_then(Value::as_object);
        Some(own_keys(current))
    })
}

fn own_keys(level: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in level {
        if let Some(name) = key.strip_prefix('+') {
            out.insert(name.trim().to_owned(), value.clone());
        } else if !value.is_object() {
            out.insert(key.clone(), value.clone());
        }
    }
    out
}

/// Lets a later mapping change an earlier one, by the rules for this kind of resource.
pub(super) fn update(kind: ResourceType, config: &mut Map<String, Value>, later: &Map<String, Value>) {
    for (key, value) in later {
        let key = match key.trim() {
            "pre_hook" => "pre-hook",
            "post_hook" => "post-hook",
            key => key,
        };
        let Some(earlier) = config.get_mut(key) else {
            let value = if matches!(key, "pre-hook" | "post-hook") { hooks(value) } else { value.clone() };
            config.insert(key.to_owned(), value);
            continue;
        };
        match merge_rule(kind, key) {
            Merge::Replace => *earlier = value.clone(),
            Merge::Append => {
                let value = if matches!(key, "pre-hook" | "post-hook") { hooks(value) } else { value.clone() };
                let mut items = listify(earlier.take());
                items.extend(listify(value));
                *earlier = Value::Array(items);
            }
            Merge::Update => match (earlier, value) {
                (Value::Object(earlier), Value::Object(value)) => {
                    earlier.extend(value.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                // A null takes nothing away from a mapping.
                (_, Value::Null) => {}
                (earlier, value) => *earlier = value.clone(),
            },
            Merge::DictKeyAppend => {
                let Value::Object(value) = value else { continue };
                if !earlier.is_object() {
                    *earlier = Value::Object(Map::new());
                }
                let Value::Object(earlier) = earlier else { continue };
                for (key, value) in value {
                    let name = key.trim_start_matches('+');
                    let mut items = match earlier.get_mut(name) {
                        Some(earlier) if key.starts_with('+') => listify(earlier.take()),
                        _ => Vec::new(),
                    };
                    items.extend(listify(value.clone()));
                    earlier.insert(name.to_owned(), Value::Array(items));
                }
            }
        }
    }
}

/// What several `config()` calls of one file say together: later ones add where the key adds.
pub(super) fn merge_calls(calls: &mut Map<String, Value>, later: Map<String, Value>) {
    if calls.is_empty() {
        *calls = later;
        return;
    }
    for (key, value) in later {
        match key.as_str() {
            "pre-hook" | "pre_hook" | "post-hook" | "post_hook" | "tags" | "packages" => {
                let mut items = calls.get_mut(&key).map_or_else(Vec::new, |earlier| listify(earlier.take()));
                items.extend(listify(value));
                calls.insert(key, Value::Array(items));
            }
            "quoting" | "column_types" | "meta" | "docs" | "contract" | "snapshot_meta_column_names" => {
                match (calls.get_mut(&key), value) {
                    (Some(Value::Object(earlier)), Value::Object(value)) => earlier.extend(value),
                    (_, value) => _ = calls.insert(key, value),
                }
            }
            _ => _ = calls.insert(key, value),
        }
    }
}

fn listify(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => vec![other],
    }
}

/// Hooks as dbt stores them: `{sql, transaction, index}`. A text may itself be JSON (old `before_begin()` helpers make it so).
fn hooks(value: &Value) -> Value {
    Value::Array(
        listify(value.clone())
            .into_iter()
            .map(|hook| {
                let hook = match hook {
                    Value::String(text) => match serde_json::from_str(&text) {
                        Ok(Value::Object(map)) => map,
                        _ => object(json!({ "sql": text })),
                    },
                    Value::Object(map) => map,
                    other => object(json!({ "sql": other })),
                };
                json!({
                    "sql": hook.get("sql").cloned().unwrap_or(Value::Null),
                    "transaction": hook.get("transaction").cloned().unwrap_or(Value::Bool(true)),
                    "index": hook.get("index").cloned().unwrap_or(Value::Null),
                })
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(kind: ResourceType, parts: &[Value]) -> Map<String, Value> {
        let mut config = defaults(kind).clone();
        for part in parts {
            update(kind, &mut config, part.as_object().expect("mapping"));
        }
        config
    }

    #[test]
    fn tags_add_and_meta_merges() {
        let config = merged(
            ResourceType::Model,
            &[json!({"tags": "a", "meta": {"x": 1, "y": 1}}), json!({"tags": ["b"], "meta": {"y": 2}})],
        );
        assert_eq!(config["tags"], json!(["a", "b"]));
        assert_eq!(config["meta"], json!({"x": 1, "y": 2}));
    }

    #[test]
    fn hooks_add_under_both_spellings() {
        let config = merged(ResourceType::Model, &[json!({"pre_hook": "a"}), json!({"pre-hook": ["b"]})]);
        assert_eq!(
            config["pre-hook"],
            json!([{"sql": "a", "transaction": true, "index": null}, {"sql": "b", "transaction": true, "index": null}])
        );
    }

    #[test]
    fn grants_replace_unless_plus() {
        let config = merged(
            ResourceType::Model,
            &[
                json!({"grants": {"select": "a", "insert": ["x"]}}),
                json!({"grants": {"+select": ["b"], "insert": "y"}}),
            ],
        );
        assert_eq!(config["grants"], json!({"select": ["a", "b"], "insert": ["y"]}));
    }

    #[test]
    fn levels_follow_the_fqn() {
        let section = json!({"+a": 1, "p": {"b": 2, "dir": {"+c": {"x": 1}, "other": {"d": 1}}}});
        let fqn = ["p".to_owned(), "dir".to_owned(), "m".to_owned()];
        let found: Vec<_> = levels(section.as_object().expect("mapping"), &fqn).map(Value::Object).collect();
        assert_eq!(found, vec![json!({"a": 1}), json!({"b": 2}), json!({"c": {"x": 1}})]);
    }
}
