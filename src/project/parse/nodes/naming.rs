//! Where a node lands: its schema and alias, by the project's `generate_schema_name` and `generate_alias_name` or dbt's.

use serde_json::Value;

use super::{super::Context, subject};
use crate::{
    project::{Node, ProjectError, Relation, ResourceType, artifact, node::version_text, package::python_str},
    render::{self, NodeContext, Phase, Renderer, Services},
};

/// Seeds, snapshots, models that are not inlined, and tests that keep their failures.
pub(in crate::project::parse) fn relation_name(node: &Node, stores_failures: bool) -> Option<String> {
    let makes_relation = match node.resource_type {
        ResourceType::Model => node.config.materialized() != "ephemeral",
        ResourceType::Seed | ResourceType::Snapshot => true,
        ResourceType::Test => stores_failures || node.config.store_failures() == Some(true),
        _ => false,
    };
    makes_relation.then(|| Relation::new(&node.schema, &node.alias).render())
}

impl Context<'_> {
    /// `generate_schema_name` and `generate_alias_name` decide where the node lands.
    pub(in crate::project::parse) fn name_relation(
        &self,
        node: &mut Node,
        schema: Option<&Value>,
        alias: Option<&Value>,
        _database: Option<&Value>,
    ) -> Result<(), ProjectError> {
        let package = node.package_name.clone();
        node.schema = match self.name_macro("schema", &package) {
            None => default_schema_name(&self.target.schema, schema),
            Some(owner) => self.call_name_macro("generate_schema_name", &owner, schema, node)?,
        };
        node.alias = match self.name_macro("alias", &package) {
            None => default_alias_name(node, alias),
            Some(owner) => self.call_name_macro("generate_alias_name", &owner, alias, node)?,
        };
        Ok(())
    }

    /// The package whose own `generate_<component>_name` counts for a node of `package`; none where dbt's built-in does.
    fn name_macro(&self, component: &str, package: &str) -> Option<String> {
        let root = &self.packages[0].name;
        let macros = &self.environment.macros;
        let name = format!("generate_{component}_name");
        if package != root && macros.in_package(package, &name).is_some() {
            return Some(package.to_owned());
        }
        if macros.in_package(root, &name).is_some() {
            return Some(root.clone());
        }
        // The built-in dispatches, so an override of its implementation counts too.
        ["default__", "clickhouse__"]
            .iter()
            .any(|prefix| macros.in_package(root, &format!("{prefix}{name}")).is_some())
            .then(|| root.clone())
    }

    fn call_name_macro(
        &self,
        name: &str,
        owner: &str,
        custom: Option<&Value>,
        node: &Node,
    ) -> Result<String, ProjectError> {
        let custom = custom.map_or(render::Value::None, render::Value::from_json);
        let json = artifact::node_json(node, None);
        let node_context = NodeContext {
            unique_id: node.unique_id.clone(),
            name: node.name.clone(),
            package: owner.to_owned(),
            resource_type: node.resource_type.as_str().into(),
            path: node.original_file_path.clone(),
            ..NodeContext::default()
        };
        let services = Services { resolve: Some(self.resolve), warehouse: None, events: self.events };
        let mut renderer = Renderer::new(self.environment, node_context, Phase::GenerateName, services);
        let value = renderer
            .call_macro(name, vec![custom, render::Value::from_json(&json)], Vec::new())
            .map_err(|error| subject(node, self.packages[0], error))?;
        Ok(value.text().trim().to_owned())
    }
}

fn default_schema_name(target: &str, custom: Option<&Value>) -> String {
    match custom.map(python_str) {
        None => target.to_owned(),
        Some(custom) => format!("{target}_{}", custom.trim()),
    }
}

fn default_alias_name(node: &Node, custom: Option<&Value>) -> String {
    if let Some(custom) = custom.map(python_str).filter(|custom| !custom.is_empty()) {
        return custom.trim().to_owned();
    }
    match &node.version {
        Some(version) => format!("{}_v{}", node.name, version_text(version).replace('.', "_")),
        None => node.name.clone(),
    }
}
