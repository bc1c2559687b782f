//! The renderer against dbt: `jinja.json` holds templates with what dbt-core 1.11's own Jinja environment answered; each
//! folder beside it is a model with its context and the whole result.

use std::{path::Path, sync::Arc};

use chpipe::render::{
    Environment, Invocation, Macros, NodeContext, Phase, RefCall, Relation, RenderError, Renderer, Resolve, Resolved,
    Services, SilentEvents, Source, SourceCall, Value,
};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots_tests/render")
}

fn environment() -> Environment {
    let vars = serde_json::json!({"x": 1, "name": "Max", "items": [1, 2, 3]});
    let vars = match vars {
        serde_json::Value::Object(map) => Arc::new(map),
        _ => Arc::default(),
    };
    Environment {
        invocation: Invocation { dbt_version: "1.11.0".into(), ..Invocation::default() },
        vars: [(String::new(), vars)].into(),
        ..Environment::default()
    }
}

/// Every template gives what dbt gives, and fails with its message where it fails.
#[test]
fn templates_render_as_dbts_jinja() {
    let text = fs_err::read_to_string(folder().join("jinja.json")).unwrap();
    let cases: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&text).unwrap();
    let environment = environment();
    let mut failures = Vec::new();
    for case in &cases {
        let template = case["template"].as_str().unwrap();
        let services = Services { resolve: None, warehouse: None, events: &SilentEvents };
        let mut renderer = Renderer::new(&environment, NodeContext::default(), Phase::Compile, services);
        let wanted = case.get("expected").or_else(|| case.get("error")).and_then(|text| text.as_str()).unwrap();
        let is_error = case.contains_key("error");
        let (got, failed) = match renderer.render(Source::file(template, "case.sql")) {
            Ok(rendered) => (rendered.text, false),
            Err(error) => (error.message.lines().next().unwrap_or_default().to_owned(), true),
        };
        let got = got.split(". This can happen when").next().unwrap_or_default().to_owned();
        if (got.as_str(), failed) != (wanted, is_error) {
            failures.push(format!("template: {template}\n  dbt:  {wanted}\n  here: {got}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

/// A project in which every ref is a model of the schema `analytics`.
struct Analytics;

impl Resolve for Analytics {
    fn resolve_ref(&self, _from: &NodeContext, call: &RefCall) -> Result<Resolved, RenderError> {
        let relation = Relation::new("analytics", call.name.clone());
        Ok(Resolved { unique_id: format!("model.probe.{}", call.name), relation, ephemeral: false })
    }

    fn resolve_source(&self, _from: &NodeContext, call: &SourceCall) -> Result<Resolved, RenderError> {
        let relation = Relation::new(call.source.clone(), call.table.clone());
        Ok(Resolved { unique_id: format!("source.probe.{}.{}", call.source, call.table), relation, ephemeral: false })
    }

    fn doc(&self, _from_package: &str, _package: Option<&str>, name: &str) -> Option<String> {
        (name == "known").then(|| "the text".to_owned())
    }

    fn graph(&self) -> Value {
        Value::from_json(&serde_json::json!({"nodes": {}, "sources": {}}))
    }

    fn selected_resources(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The environment of a project `probe` with the built-in macros.
fn probe() -> Environment {
    let target = serde_json::json!({
        "name": "dev", "schema": "analytics", "type": "clickhouse", "threads": 1, "profile_name": "probe",
    });
    Environment {
        macros: Arc::new(Macros::with_builtins().unwrap()),
        project_name: "probe".into(),
        target: Value::from_json(&target),
        invocation: Invocation {
            dbt_version: "1.11.16".into(),
            flags: [("FULL_REFRESH".to_owned(), Value::Bool(false)), ("STORE_FAILURES".to_owned(), Value::Bool(false))]
                .into(),
            ..Invocation::default()
        },
        ..environment()
    }
}

fn model(name: &str, config: serde_json::Value) -> NodeContext {
    let node = serde_json::json!({
        "name": name, "resource_type": "model", "unique_id": format!("model.probe.{name}"), "config": config, "columns": {},
        "schema": "analytics", "alias": name,
    });
    NodeContext {
        unique_id: format!("model.probe.{name}"),
        name: name.into(),
        package: "probe".into(),
        resource_type: "model".into(),
        path: format!("models/{name}.sql"),
        config: Value::from_json(&config),
        model: Value::from_json(&node),
        this: Some(Relation::new("analytics", name)),
        ..NodeContext::default()
    }
}

/// dbt's macros print what dbt and dbt-clickhouse compile them to; `spaces` marks those that differ in blank space only.
#[test]
fn macros_compile_as_dbts() {
    let text = fs_err::read_to_string(folder().join("macros.json")).unwrap();
    let cases: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&text).unwrap();
    let environment = probe();
    let services = Services { resolve: Some(&Analytics), warehouse: None, events: &SilentEvents };
    let mut failures = Vec::new();
    for case in &cases {
        let text = |key: &str| case.get(key).and_then(|text| text.as_str()).unwrap_or_default();
        let config = serde_json::json!({"materialized": "view", "unique_key": null});
        let mut renderer = Renderer::new(&environment, model(text("model"), config), Phase::Compile, services);
        let got = match renderer.render(Source::file(text("template"), "case.sql")) {
            Ok(rendered) => rendered.text,
            Err(error) => error.report(),
        };
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let same = if case.contains_key("spaces") {
            squeeze(&got) == squeeze(text("expected"))
        } else {
            got == text("expected")
        };
        if !same {
            failures.push(format!("{}\n  dbt:  {:?}\n  here: {got:?}", text("template"), text("expected")));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}
