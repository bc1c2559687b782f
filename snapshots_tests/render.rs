//! The renderer against dbt: `jinja.json` holds templates with what dbt-core 1.11's own Jinja environment answered; each
//! folder beside it is a model with its context and the whole result.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use chpipe::render::{
    Column, Environment, Events, Invocation, MacroSource, Macros, NodeContext, Phase, RefCall, Relation, RelationKind,
    RenderError, Renderer, Resolve, Resolved, Response, Services, SilentEvents, Source, SourceCall, Table, Value,
    Warehouse, WarehouseError,
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

/// One case folder: a model, what it is rendered with, and the whole outcome.
///
/// vars.yml, all keys optional: `phase` (compile), `config`, `vars`, `env`, `dispatch`, `macros` (path to text; a path
/// `package/macros/x.sql` belongs to that package), `query` (what every statement answers: columns and rows).
#[test]
fn cases() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::glob!("render/*/model.sql", |path| {
            let folder = path.parent().unwrap();
            let outcome = render_case(folder);
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(folder);
            settings.set_snapshot_suffix("");
            settings.bind(|| insta::assert_snapshot!("expected", outcome));
        });
    });
}

fn render_case(folder: &Path) -> String {
    let text = fs_err::read_to_string(folder.join("model.sql")).unwrap();
    let yaml = fs_err::read_to_string(folder.join("vars.yml")).unwrap_or_default();
    let given: serde_json::Value = serde_yaml_ng::from_str(&yaml).unwrap();
    let object = |key: &str| given[key].as_object().cloned().unwrap_or_default();
    let mut environment = probe();
    let mut macros = Macros::with_builtins().unwrap();
    for (path, text) in object("macros") {
        let (package, path) = match path.split_once('/') {
            Some((package, rest)) if package != "macros" => (package.to_owned(), rest.to_owned()),
            _ => ("probe".to_owned(), path.clone()),
        };
        if package != "probe" {
            environment.dependencies.push(package.clone());
        }
        let source = MacroSource { package: &package, path: &path, text: text.as_str().unwrap() };
        if let Err(error) = macros.add_file(source) {
            return error.report();
        }
    }
    environment.macros = Arc::new(macros);
    environment.vars = [("probe".to_owned(), Arc::new(object("vars")))].into();
    for (namespace, order) in object("dispatch") {
        environment.dispatch.insert(namespace, serde_json::from_value(order).unwrap());
    }
    let env = object("env").into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect();
    environment.invocation.environment_variables = Arc::new(env);
    let phase = match given["phase"].as_str() {
        Some("parse") => Phase::Parse,
        Some("operation") => Phase::Operation,
        Some("run") => Phase::Run,
        _ => Phase::Compile,
    };
    let warehouse = Recorded { answer: given["query"].clone(), statements: Mutex::default() };
    let shown = Shown::default();
    let services = Services { resolve: Some(&Analytics), warehouse: Some(&warehouse), events: &shown };
    let mut config = object("config");
    config.entry("materialized").or_insert_with(|| "view".into());
    let node = model("m", config.into());
    let mut renderer = Renderer::new(&environment, node, phase, services);
    let mut out = match renderer.render(Source::file(&text, "models/m.sql")) {
        Ok(rendered) => {
            let lines: Vec<_> = rendered.lines.iter().map(u32::to_string).collect();
            format!("{}\n---- lines: {}\n", rendered.text, lines.join(" "))
        }
        Err(error) => format!("{}\n", error.report()),
    };
    let captured = renderer.take_captured();
    let mut part = |name: &str, items: Vec<String>| {
        if !items.is_empty() {
            out.push_str(&format!("---- {name}: {}\n", items.join(", ")));
        }
    };
    part(
        "refs",
        captured.refs.iter().map(|call| format!("{:?} {} {:?}", call.package, call.name, call.version)).collect(),
    );
    part("sources", captured.sources.iter().map(|call| format!("{}.{}", call.source, call.table)).collect());
    part("configs", captured.configs.iter().map(|config| serde_json::to_string(config).unwrap()).collect());
    part("vars", captured.vars.iter().map(|(name, value)| format!("{name}={value:?}")).collect());
    part("env_vars", captured.env_vars.iter().map(|(name, value)| format!("{name}={value}")).collect());
    part("macros", captured.macros);
    part("shown", shown.0.into_inner().unwrap());
    part("statements", warehouse.statements.into_inner().unwrap());
    out
}

/// Remembers what was logged and printed.
#[derive(Default)]
struct Shown(Mutex<Vec<String>>);

impl Events for Shown {
    fn log(&self, _node: &NodeContext, message: &str, info: bool) {
        self.0.lock().unwrap().push(format!("{} {message}", if info { "info" } else { "debug" }));
    }

    fn print(&self, _node: &NodeContext, message: &str) {
        self.0.lock().unwrap().push(format!("print {message}"));
    }

    fn warn(&self, _node: &NodeContext, message: &str) -> Result<(), RenderError> {
        self.0.lock().unwrap().push(format!("warn {message}"));
        Ok(())
    }
}

/// A warehouse of one table `analytics.m` that answers every statement alike.
struct Recorded {
    answer: serde_json::Value,
    statements: Mutex<Vec<String>>,
}

impl Recorded {
    fn note(&self, what: String) {
        self.statements.lock().unwrap().push(what.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

impl Warehouse for Recorded {
    fn execute(&self, sql: &str, _fetch: bool, _limit: Option<u64>) -> Result<(Response, Table), WarehouseError> {
        self.note(sql.to_owned());
        if let Some(message) = self.answer["error"].as_str() {
            return Err(WarehouseError { sql: Some(sql.to_owned()), ..WarehouseError::new(message) });
        }
        let array = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let rows =
            array(&self.answer["rows"]).into_iter().map(|row| array(&row).iter().map(Value::from_json).collect());
        let columns: Vec<String> =
            array(&self.answer["columns"]).iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        Ok((Response { message: "OK".into(), ..Response::default() }, Table::new(columns, rows.collect())))
    }

    fn get_relation(&self, schema: &str, identifier: &str) -> Result<Option<Relation>, WarehouseError> {
        Ok(self.list_relations(schema)?.into_iter().find(|known| known.identifier.as_deref() == Some(identifier)))
    }

    fn list_relations(&self, schema: &str) -> Result<Vec<Relation>, WarehouseError> {
        Ok(vec![Relation::new(schema, "m").with_kind(Some(RelationKind::Table))])
    }

    fn get_columns_in_relation(&self, _relation: &Relation) -> Result<Vec<Column>, WarehouseError> {
        Ok(vec![Column::new("id", "Int64"), Column::new("name", "LowCardinality(Nullable(String))")])
    }

    fn get_columns_of_query(&self, _sql: &str) -> Result<Vec<Column>, WarehouseError> {
        self.get_columns_in_relation(&Relation::default())
    }

    fn list_schemas(&self) -> Result<Vec<String>, WarehouseError> {
        Ok(vec!["analytics".into()])
    }

    fn create_schema(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.note(format!("create schema {}", relation.render()));
        Ok(())
    }

    fn drop_schema(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.note(format!("drop schema {}", relation.render()));
        Ok(())
    }

    fn drop_relation(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.note(format!("drop {}", relation.render()));
        Ok(())
    }

    fn truncate_relation(&self, relation: &Relation) -> Result<(), WarehouseError> {
        self.note(format!("truncate {}", relation.render()));
        Ok(())
    }

    fn rename_relation(&self, from: &Relation, to: &Relation) -> Result<(), WarehouseError> {
        self.note(format!("rename {} to {}", from.render(), to.render()));
        Ok(())
    }

    fn can_exchange(&self, _schema: &str, _kind: &str) -> Result<bool, WarehouseError> {
        Ok(true)
    }

    fn server_version(&self) -> Result<String, WarehouseError> {
        Ok("26.5.1.1".into())
    }
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
