//! Nodes and sessions for the tests of materializations and snapshots, without a project around them.

use std::sync::{Arc, OnceLock};

use chpipe::{
    adapter::{Adapter, AdapterOptions, Templates},
    engine::testing,
    project::{Access, Checksum, Column, Contract, DependsOn, Docs, Node, NodeConfig, ResourceType},
};
use indexmap::IndexMap;
use serde_json::{Map, Value};

/// An adapter on the shared engine, in a fresh database of this name.
pub(crate) fn adapter(database: &str) -> Adapter {
    drop(testing::session(database));
    Adapter::connect(&testing::shared(), &AdapterOptions::embedded(), &templates(), format!("test-{database}")).unwrap()
}

/// The templates of the repository, read once.
pub(crate) fn templates() -> Arc<Templates> {
    static TEMPLATES: OnceLock<Arc<Templates>> = OnceLock::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/ddl/templates");
    let load = || Arc::new(Templates::load(Some(std::path::Path::new(folder))).unwrap());
    Arc::clone(TEMPLATES.get_or_init(load))
}

/// A model with this configuration.
pub(crate) fn node(database: &str, name: &str, config: Value) -> Node {
    let config: NodeConfig = serde_json::from_value(config).unwrap();
    Node {
        unique_id: format!("model.test.{name}"),
        resource_type: ResourceType::Model,
        name: name.into(),
        package_name: "test".into(),
        path: format!("{name}.sql"),
        original_file_path: format!("models/{name}.sql"),
        root_path: "/".into(),
        fqn: vec!["test".into(), name.into()],
        alias: name.into(),
        schema: database.into(),
        database: String::new(),
        relation_name: None,
        language: "sql".into(),
        raw_code: String::new(),
        raw_code_line: 1,
        checksum: Checksum { name: "none".into(), checksum: String::new() },
        unrendered_config: config.0.clone(),
        config,
        tags: Vec::new(),
        meta: Map::new(),
        group: None,
        docs: Docs::default(),
        description: "A model of a test".into(),
        doc_blocks: Vec::new(),
        columns: IndexMap::new(),
        patch_path: None,
        created_at: 0.0,
        refs: Vec::new(),
        sources: Vec::new(),
        depends_on: DependsOn::default(),
        contract: Contract::default(),
        access: Access::Protected,
        constraints: Vec::new(),
        version: None,
        latest_version: None,
        deprecation_date: None,
        primary_key: Vec::new(),
        column_name: None,
        file_key_name: None,
        attached_node: None,
        test_metadata: None,
        test_kwargs: Map::new(),
        hook_index: None,
    }
}

/// A documented column.
pub(crate) fn column(name: &str, description: &str, extra: Value) -> (String, Column) {
    let extra = extra.as_object().cloned().unwrap_or_default();
    let data_type = extra.get("data_type").and_then(Value::as_str).map(str::to_owned);
    (name.into(), Column { name: name.into(), description: description.into(), data_type, extra, ..Column::default() })
}

/// The rows of a query as lines of values, NULL as `\N`.
pub(crate) fn rows(adapter: &mut Adapter, sql: &str) -> Vec<String> {
    adapter
        .rows(sql)
        .unwrap()
        .into_iter()
        .map(|row| row.into_iter().map(|value| value.unwrap_or("\\N".into())).collect::<Vec<_>>().join(" "))
        .collect()
}
