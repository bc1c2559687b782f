//! What a `ref()`, `source()` or `doc()` means, by dbt's search order: the node's own package, the root project, any package.
//! Pure; built once over a manifest.

use std::collections::HashMap;

use serde_json::Value;

use super::{Disabled, Manifest, Ref, ResourceType, node::version_text};

/// Where names lead.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    root: String,
    /// Name, or `name.v2`, to package and id.
    refs: HashMap<String, Vec<(String, String)>>,
    /// `source.table` to package and id.
    sources: HashMap<String, Vec<(String, String)>>,
    disabled_refs: HashMap<String, Vec<(String, String)>>,
    disabled_sources: HashMap<String, Vec<(String, String)>>,
    docs: HashMap<String, Vec<(String, String)>>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Id(&'a str),
    Disabled,
    Missing,
}

impl Lookup {
    pub(super) fn new(manifest: &Manifest, root: &str) -> Self {
        let mut lookup = Self { root: root.to_owned(), ..Self::default() };
        for node in manifest.nodes.values().filter(|node| node.resource_type.is_refable()) {
            add_node(&mut lookup.refs, node);
        }
        for source in manifest.sources.values() {
            let name = format!("{}.{}", source.source_name, source.name);
            add(&mut lookup.sources, name, &source.package_name, &source.unique_id);
        }
        for resource in manifest.disabled.values().flatten() {
            match resource {
                Disabled::Node(node) if node.resource_type.is_refable() => add_node(&mut lookup.disabled_refs, node),
                Disabled::Source(source) => {
                    let name = format!("{}.{}", source.source_name, source.name);
                    add(&mut lookup.disabled_sources, name, &source.package_name, &source.unique_id);
                }
                _ => {}
            }
        }
        for doc in manifest.docs.values() {
            add(&mut lookup.docs, doc.name.clone(), &doc.package_name, &doc.unique_id);
        }
        lookup
    }

    /// A `ref()` in a node of `package`.
    pub(super) fn reference(&self, package: &str, reference: &Ref) -> Found<'_> {
        let key = match &reference.version {
            Some(version) => format!("{}.v{}", reference.name, version_text(version)),
            None => reference.name.clone(),
        };
        self.search(&self.refs, &self.disabled_refs, &key, package, reference.package.as_deref())
    }

    /// A `source()` in a node of `package`.
    pub(super) fn source(&self, package: &str, source: &str, table: &str) -> Found<'_> {
        self.search(&self.sources, &self.disabled_sources, &format!("{source}.{table}"), package, None)
    }

    /// A `doc()` in a file of `package`: the id of the block.
    pub(super) fn doc(&self, package: &str, of: Option<&str>, name: &str) -> Option<&str> {
        let empty = HashMap::new();
        match self.search(&self.docs, &empty, name, package, of) {
            Found::Id(id) => Some(id),
            _ => None,
        }
    }

    fn search<'a>(
        &self,
        known: &'a HashMap<String, Vec<(String, String)>>,
        disabled: &HashMap<String, Vec<(String, String)>>,
        key: &str,
        package: &str,
        of: Option<&str>,
    ) -> Found<'a> {
        let candidates: Vec<Option<&str>> = match of {
            Some(of) => vec![Some(of)],
            None if package == self.root => vec![Some(package), None],
            None => vec![Some(package), Some(&self.root), None],
        };
        let mut is_disabled = false;
        for candidate in candidates {
            let fits = |(package, _): &&(String, String)| candidate.is_none_or(|candidate| candidate == package);
            if let Some((_, id)) = known.get(key).and_then(|found| found.iter().find(fits)) {
                return Found::Id(id);
            }
            is_disabled |= disabled.get(key).is_some_and(|found| found.iter().any(|entry| fits(&entry)));
        }
        if is_disabled { Found::Disabled } else { Found::Missing }
    }
}

fn add_node(map: &mut HashMap<String, Vec<(String, String)>>, node: &super::Node) {
    if let Some(version) = &node.version {
        add(map, format!("{}.v{}", node.name, version_text(version)), &node.package_name, &node.unique_id);
        if !is_latest(node) {
            return;
        }
    }
    add(map, node.name.clone(), &node.package_name, &node.unique_id);
}

/// Whether a versioned model is what a `ref()` without a version means.
pub(super) fn is_latest(node: &super::Node) -> bool {
    let text = |value: &Option<Value>| value.as_ref().map(version_text);
    node.resource_type == ResourceType::Model && text(&node.version) == text(&node.latest_version)
}

fn add(map: &mut HashMap<String, Vec<(String, String)>>, key: String, package: &str, id: &str) {
    map.entry(key).or_default().push((package.to_owned(), id.to_owned()));
}
