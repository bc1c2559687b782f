//! The artifacts of an earlier invocation: for `state:`, `result:`, `source_status:` and `--defer`. In: a folder; out: what
//! is new, changed or was there. It writes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{Manifest, Node, ProjectError, Relation, Resource, ResourceType, UnitTest};
use crate::error::Location;

/// manifest.json, run_results.json and sources.json of a folder.
#[derive(Debug, Clone)]
pub struct PreviousState {
    folder: PathBuf,
    manifest: Option<Value>,
    results: Option<BTreeMap<String, String>>,
    sources: Option<Value>,
    sources_now: Option<Value>,
}

/// A `state:` selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateChange {
    New,
    Old,
    Modified,
    Unmodified,
    Body,
    Configs,
    PersistedDescriptions,
    Relation,
    Macros,
    Contract,
}

impl StateChange {
    pub(super) const NAMES: [&'static str; 10] = [
        "new",
        "old",
        "modified",
        "unmodified",
        "modified.body",
        "modified.configs",
        "modified.persisted_descriptions",
        "modified.relation",
        "modified.macros",
        "modified.contract",
    ];

    pub(super) fn parse(value: &str, _arguments: &[String]) -> Option<Self> {
        Some(match value {
            "new" => Self::New,
            "old" => Self::Old,
            "modified" => Self::Modified,
            "unmodified" => Self::Unmodified,
            "modified.body" => Self::Body,
            "modified.configs" => Self::Configs,
            "modified.persisted_descriptions" => Self::PersistedDescriptions,
            "modified.relation" => Self::Relation,
            "modified.macros" => Self::Macros,
            "modified.contract" => Self::Contract,
            _ => return None,
        })
    }
}

impl PreviousState {
    /// Reads what is there; `target_path` holds the sources.json of now.
    ///
    /// # Errors
    /// The folder is missing, or an artifact is no JSON.
    pub fn load(folder: &Path, target_path: &Path) -> Result<Self, ProjectError> {
        if !folder.is_dir() {
            return Err(ProjectError::runtime(format!("The state folder `{}` does not exist", folder.display()))
                .hinting("name the folder that holds an earlier manifest.json: --state DIR"));
        }
        let results = read(&folder.join("run_results.json"))?.map(|artifact| {
            artifact["results"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|result| {
                    Some((result["unique_id"].as_str()?.to_owned(), result["status"].as_str()?.to_owned()))
                })
                .collect()
        });
        Ok(Self {
            folder: folder.to_owned(),
            manifest: read(&folder.join("manifest.json"))?,
            results,
            sources: read(&folder.join("sources.json"))?,
            sources_now: read(&target_path.join("sources.json"))?,
        })
    }

    /// The status of every node of run_results.json, where there is one.
    pub fn results(&self) -> Option<&BTreeMap<String, String>> {
        self.results.as_ref()
    }

    /// The relation that a node had in the earlier manifest: what `--defer` resolves to.
    pub fn relation(&self, unique_id: &str) -> Option<Relation> {
        let node = self.manifest.as_ref()?.get("nodes")?.get(unique_id)?;
        let text = |key: &str| node.get(key).and_then(Value::as_str);
        if text("resource_type") == Some("model") && node["config"]["materialized"] == "ephemeral" {
            return None;
        }
        Some(Relation::new(text("schema")?, text("alias").or(text("name"))?))
    }

    /// Ids of sources that were loaded again since.
    pub(super) fn fresher_sources(&self) -> Result<BTreeSet<String>, ProjectError> {
        let Some(before) = &self.sources else {
            return Err(ProjectError::runtime("No previous state comparison freshness results in sources.json"));
        };
        let Some(now) = &self.sources_now else {
            return Err(ProjectError::runtime("No current state comparison freshness results in sources.json")
                .hinting("run `chpipe source freshness` first"));
        };
        let loaded = |artifact: &Value| -> HashMap<String, String> {
            artifact["results"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|result| {
                    Some((result["unique_id"].as_str()?.to_owned(), result["max_loaded_at"].as_str()?.to_owned()))
                })
                .collect()
        };
        let before = loaded(before);
        Ok(loaded(now)
            .into_iter()
            .filter(|(id, at)| before.get(id).is_none_or(|earlier| at > earlier))
            .map(|(id, _)| id)
            .collect())
    }

    /// Prepares the comparison with a manifest. The macros that dbt or chpipe bring do not count: they differ between the two, and
    /// a project whose manifest the other one wrote did not change.
    pub(super) fn compare<'a>(&'a self, manifest: &'a Manifest) -> Result<Comparison<'a>, ProjectError> {
        let Some(old) = &self.manifest else {
            return Err(ProjectError::runtime("Got a state selector method, but no comparison manifest")
                .at(Location::file(&self.folder)));
        };
        let empty = Map::new();
        let old_macros = old["macros"].as_object().unwrap_or(&empty);
        let mut modified: HashSet<String> = manifest
            .macros
            .values()
            .filter(|found| !is_built_in(&found.unique_id))
            .filter(|found| {
                old_macros.get(&found.unique_id).and_then(|old| old["macro_sql"].as_str())
                    != Some(found.macro_sql.as_str())
            })
            .map(|found| found.unique_id.clone())
            .collect();
        let gone = old_macros.keys().filter(|id| !manifest.macros.contains_key(*id) && !is_built_in(id));
        modified.extend(gone.cloned());
        Ok(Comparison { manifest, old, modified })
    }
}

fn is_built_in(macro_id: &str) -> bool {
    macro_id.starts_with("macro.dbt.") || macro_id.starts_with("macro.dbt_clickhouse.")
}

fn read(path: &Path) -> Result<Option<Value>, ProjectError> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ProjectError::io(path, source)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        ProjectError::runtime(format!("`{}` is no valid artifact: {error}", path.display())).at(Location::file(path))
    })
}

/// An earlier manifest beside the present one.
pub(super) struct Comparison<'a> {
    manifest: &'a Manifest,
    old: &'a Value,
    /// Ids of macros that changed, appeared or went.
    modified: HashSet<String>,
}

impl Comparison<'_> {
    pub(super) fn matches(&self, resource: Resource<'_>, change: StateChange) -> bool {
        let id = resource.unique_id();
        let old =
            ["nodes", "sources", "exposures", "unit_tests"].iter().find_map(|section| self.old.get(section)?.get(id));
        match change {
            StateChange::New => old.is_none(),
            StateChange::Old => old.is_some(),
            StateChange::Modified => self.is_modified(resource, old),
            StateChange::Unmodified => !self.is_modified(resource, old),
            StateChange::Macros => self.macros_changed(resource),
            StateChange::Body => part(resource, old, same_body),
            StateChange::Configs => part(resource, old, same_config),
            StateChange::PersistedDescriptions => part(resource, old, same_descriptions),
            StateChange::Relation => part(resource, old, same_relation),
            StateChange::Contract => match resource {
                Resource::Node(node) if node.resource_type == ResourceType::Model => {
                    old.is_none_or(|old| !same_contract(node, old))
                }
                _ => false,
            },
        }
    }

    fn is_modified(&self, resource: Resource<'_>, old: Option<&Value>) -> bool {
        let Some(old) = old else { return true };
        let same = match resource {
            Resource::Node(node) => same_node(node, old),
            Resource::Source(source) => {
                old["config"]["enabled"].as_bool().unwrap_or(true) == source.config.enabled()
                    && old["schema"] == json!(source.schema)
                    && old["identifier"] == json!(source.identifier)
                    && old["fqn"] == json!(source.fqn)
                    && old["loader"] == json!(source.loader)
                    && old["quoting"] == json!(source.quoting)
                    && old["freshness"] == source.config.0.get("freshness").cloned().unwrap_or(Value::Null)
                    && old["loaded_at_field"] == json!(source.loaded_at_field)
                    && old["unrendered_config"] == json!(source.unrendered_config)
                    && old.get("external").cloned().unwrap_or(Value::Null) == json!(source.external)
            }
            Resource::Exposure(exposure) => {
                old["fqn"] == json!(exposure.fqn)
                    && old["type"] == json!(exposure.exposure_type)
                    && old["owner"] == json!(exposure.owner)
                    && old["maturity"] == json!(exposure.maturity)
                    && old["url"] == json!(exposure.url)
                    && old["description"] == json!(exposure.description)
                    && old["label"] == json!(exposure.label)
                    && sorted(&old["depends_on"]["nodes"]) == sorted(&json!(exposure.depends_on.nodes))
                    && old["unrendered_config"] == json!(exposure.unrendered_config)
            }
            Resource::UnitTest(test) => same_unit_test(test, old),
        };
        !same || self.macros_changed(resource)
    }

    fn macros_changed(&self, resource: Resource<'_>) -> bool {
        if self.modified.is_empty() {
            return false;
        }
        let Resource::Node(node) = resource else { return false };
        let mut seen: HashSet<&str> = HashSet::new();
        let mut stack: Vec<&str> = node.depends_on.macros.iter().map(String::as_str).collect();
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            if self.modified.contains(id) {
                return true;
            }
            if let Some(found) = self.manifest.macros.get(id) {
                stack.extend(found.depends_on.macros.iter().map(String::as_str));
            }
        }
        false
    }
}

fn part(resource: Resource<'_>, old: Option<&Value>, same: fn(&Node, &Value) -> bool) -> bool {
    match resource {
        Resource::Node(node) => old.is_none_or(|old| !same(node, old)),
        _ => false,
    }
}

fn sorted(value: &Value) -> Vec<String> {
    let mut out: Vec<String> =
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    out.sort();
    out
}

/// dbt's `same_contents`.
fn same_node(node: &Node, old: &Value) -> bool {
    if node.resource_type == ResourceType::Test && node.test_metadata.is_some() {
        // Of a generic test only its config and its place count; its name holds its arguments.
        return same_config(node, old) && old["fqn"] == json!(node.fqn);
    }
    same_body(node, old)
        && same_config(node, old)
        && same_descriptions(node, old)
        && old["fqn"] == json!(node.fqn)
        && same_relation(node, old)
        && same_contract(node, old)
}

fn same_body(node: &Node, old: &Value) -> bool {
    if node.resource_type == ResourceType::Seed {
        return old["checksum"] == json!(node.checksum);
    }
    old["raw_code"].as_str() == Some(node.raw_code.as_str())
}

/// As written, not as rendered, so that a target's name in Jinja is no change.
fn same_config(node: &Node, old: &Value) -> bool {
    const NOT_COMPARED: [&str; 6] = ["alias", "schema", "database", "tags", "group", "access"];
    const OF_TESTS: [&str; 8] =
        ["severity", "where", "limit", "fail_calc", "warn_if", "error_if", "store_failures", "store_failures_as"];
    let empty = Map::new();
    let old = old["unrendered_config"].as_object().unwrap_or(&empty);
    let counts = |key: &str| {
        if node.resource_type == ResourceType::Test { OF_TESTS.contains(&key) } else { !NOT_COMPARED.contains(&key) }
    };
    old.keys()
        .chain(node.unrendered_config.keys())
        .all(|key| !counts(key) || old.get(key) == node.unrendered_config.get(key))
}

/// Descriptions count only where `persist_docs` writes them to the warehouse.
fn same_descriptions(node: &Node, old: &Value) -> bool {
    let persisted = |key: &str| {
        node.config.map("persist_docs").and_then(|docs| docs.get(key)).and_then(Value::as_bool).unwrap_or(false)
    };
    if persisted("relation") && old["description"].as_str() != Some(node.description.as_str()) {
        return false;
    }
    if persisted("columns") {
        let empty = Map::new();
        let old = old["columns"].as_object().unwrap_or(&empty);
        let descriptions: BTreeMap<&str, &str> = old
            .iter()
            .map(|(name, column)| (name.as_str(), column["description"].as_str().unwrap_or_default()))
            .collect();
        let own: BTreeMap<&str, &str> =
            node.columns.values().map(|column| (column.name.as_str(), column.description.as_str())).collect();
        return descriptions == own;
    }
    true
}

fn same_relation(node: &Node, old: &Value) -> bool {
    // dbt compares what was configured, not what the target made of it.
    let empty = Map::new();
    let before = old["unrendered_config"].as_object().unwrap_or(&empty);
    ["schema", "alias", "database"].iter().all(|key| before.get(*key) == node.unrendered_config.get(*key))
}

fn same_contract(node: &Node, old: &Value) -> bool {
    let enforced = old["contract"]["enforced"].as_bool().unwrap_or(false);
    enforced == node.contract.enforced && (!enforced || old["contract"]["checksum"] == json!(node.contract.checksum))
}

fn same_unit_test(test: &UnitTest, old: &Value) -> bool {
    old["checksum"] == json!(test.checksum) && old["fqn"] == json!(test.fqn)
}
