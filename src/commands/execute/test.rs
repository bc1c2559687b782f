//! Data tests and unit tests.

use std::{collections::BTreeMap, time::Instant};

use chrono::Utc;

use super::{
    lines::NodeName,
    node::{Done, Failure, NodeWorker, Running, response, timing},
};
use crate::{
    Error,
    adapter::{ColumnInfo, NodeWarehouse},
    data_test::{self, DataTest, Fixture, SAMPLE_ROWS, Verdict, compare},
    materialize::MaterializeError,
    printer::table_text,
    project::{Node, UnitTest},
    render::{
        NodeContext, Phase, RefCall, Relation, RenderError, Renderer, Resolve, Resolved, Services, Source, SourceCall,
        Value, Version, inject_ctes,
    },
    schedule::{NodeResult, NodeStatus, Position},
};

impl NodeWorker<'_> {
    pub(super) fn run_test(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        let sql = running.compiled.as_ref().map_or("", |compiled| compiled.code.as_str());
        let relation = node.relation();
        let kept = node.config.store_failures().unwrap_or(self.plan.execution.store_failures);
        let kind = match node.config.store_failures_as() {
            Some("ephemeral") => None,
            Some(kind) => Some(kind),
            None if kept => Some("table"),
            None => None,
        };
        let test = DataTest {
            sql,
            config: &node.config,
            store: kind.map(|kind| (&relation, kind)),
            invocation: &self.prepared.mark,
        };
        let mut adapter = running.warehouse.adapter();
        let outcome = data_test::run(&test, &mut adapter).map_err(|error| Failure::materialize(node, &error))?;
        let mut details = Vec::new();
        if outcome.verdict != Verdict::Pass {
            if !outcome.sample.rows.is_empty() {
                let header: Vec<&str> = outcome.sample.columns.iter().map(String::as_str).collect();
                details.push(table_text(&header, &outcome.sample.rows, &[]));
            }
            if outcome.sample.has_more {
                details.push(format!(
                    "the first {SAMPLE_ROWS}; to see all of them: chpipe show --select {} --limit -1",
                    node.name
                ));
            }
            if let Some(kind) = kind {
                details.push(format!("all of them are kept in the {kind} {relation}"));
            }
        }
        Ok(Done {
            status: Some(match outcome.verdict {
                Verdict::Pass => NodeStatus::Pass,
                Verdict::Warn if self.plan.execution.warn_error => NodeStatus::Fail,
                Verdict::Warn => NodeStatus::Warn,
                Verdict::Fail => NodeStatus::Fail,
            }),
            message: outcome.message,
            // As dbt's: rows that a threshold allows are none.
            failures: Some(if outcome.verdict == Verdict::Pass { 0 } else { outcome.failures }),
            response: response("OK", Some(1), adapter.query_prefix()),
            details,
            batch_results: None,
        })
    }

    pub(super) fn unit_test_name(&self, id: &str) -> NodeName {
        match self.workspace.manifest.unit_tests.get(id) {
            Some(test) => NodeName::of_unit_test(id, &test.model, &test.name),
            None => NodeName::of_unit_test(id, "", id),
        }
    }

    pub(super) fn run_unit_test(
        &self,
        state: &mut Result<NodeWarehouse, Error>,
        id: &str,
        position: Position,
    ) -> NodeResult {
        let name = self.unit_test_name(id);
        self.lines.start(&name, position);
        let started = Instant::now();
        let began = Utc::now();
        let mut result = NodeResult::new(id, NodeStatus::Pass);
        result.timing.push(timing("compile", Utc::now()));
        let done = match (state, self.workspace.manifest.unit_tests.get(id)) {
            (Ok(warehouse), Some(test)) => self.compare_unit_test(warehouse, test),
            (Err(error), _) => Err(error.to_string()),
            (_, None) => Err(format!("there is no unit test `{id}`")),
        };
        result.failures = Some(0);
        match done {
            Ok((sql, difference)) => {
                result.compiled_code = Some(sql);
                if let Some(difference) = difference {
                    result.status = NodeStatus::Fail;
                    result.failures = Some(1);
                    result.message = Some(difference);
                }
            }
            Err(message) => {
                result.status = NodeStatus::Error;
                result.message = Some(message);
            }
        }
        result.timing.push(timing("execute", began));
        result.thread = position.thread;
        result.execution_time = started.elapsed().as_secs_f64();
        self.lines.result(&name, &result, position);
        result
    }

    /// The model's SQL over the given rows, and how its answer differs.
    fn compare_unit_test(
        &self,
        warehouse: &NodeWarehouse,
        test: &UnitTest,
    ) -> Result<(String, Option<String>), String> {
        let nodes = &self.workspace.manifest.nodes;
        let model = test
            .depends_on
            .nodes
            .first()
            .and_then(|id| nodes.get(id))
            .ok_or_else(|| format!("unit test `{}`: there is no model `{}`", test.name, test.model))?;
        let failed = |error: MaterializeError| Failure::materialize(model, &error).message;
        warehouse.adapter().set_query_prefix(self.prepared.query_prefix(&test.name));
        let mut inputs = Inputs { worker: self, ctes: BTreeMap::new(), this: None };
        for given in &test.given {
            let rows = &given.rows;
            let file = self.fixture_file(test, rows.fixture.as_deref())?;
            let fixture = Fixture::parse(rows.rows.as_ref(), &rows.format, file.as_deref()).map_err(failed)?;
            let input = self.unit_input(model, &given.input)?;
            let columns = match &fixture {
                Fixture::Sql(_) => Vec::new(),
                Fixture::Rows(_) => self.input_columns(warehouse, &input)?,
            };
            let select = fixture.select(&columns, &given.input).map_err(failed)?;
            if input.id == model.unique_id {
                inputs.this = Some(input.name.clone());
            }
            inputs.ctes.insert(input.id, (format!("__dbt__cte__{}", input.name), select));
        }
        let sql = self.unit_sql(warehouse, model, test, &inputs)?;
        let expect = &test.expect;
        let file = self.fixture_file(test, expect.fixture.as_deref())?;
        let expected = Fixture::parse(expect.rows.as_ref(), &expect.format, file.as_deref()).map_err(failed)?;
        let difference = compare(&sql, &expected, &test.model, &mut warehouse.adapter()).map_err(failed)?;
        Ok((sql, difference))
    }

    /// The model rendered with its inputs in the place of relations and the test's overrides.
    fn unit_sql(
        &self,
        warehouse: &NodeWarehouse,
        model: &Node,
        test: &UnitTest,
        inputs: &Inputs<'_>,
    ) -> Result<String, String> {
        let mut context = self.compiler.context(model);
        if let Some(name) = &inputs.this {
            context.this = Some(Relation::ephemeral(name));
        }
        let overrides = |key: &str| -> Vec<(String, Value)> {
            test.overrides
                .as_ref()
                .and_then(|overrides| overrides.get(key))
                .and_then(serde_json::Value::as_object)
                .map(|map| map.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect())
                .unwrap_or_default()
        };
        context.macro_overrides = overrides("macros");
        context.var_overrides = overrides("vars");
        context.env_var_overrides =
            overrides("env_vars").into_iter().map(|(name, value)| (name, value.to_string())).collect();
        if !context.macro_overrides.iter().any(|(name, _)| name == "is_incremental") {
            // Without an override a unit test is about the full load, whatever the warehouse holds.
            context.macro_overrides.push(("is_incremental".to_owned(), Value::from(false)));
        }
        let services = Services { resolve: Some(inputs), warehouse: Some(warehouse), events: self.lines };
        let mut renderer = Renderer::new(&self.workspace.environment, context, Phase::Compile, services);
        let source = Source { text: &model.raw_code, path: &model.original_file_path, first_line: model.raw_code_line };
        let rendered = renderer.render(source).map_err(|error| Failure::render(model, &error).message)?;
        let captured = renderer.take_captured();
        let mut ctes: Vec<(String, String)> = Vec::new();
        if let Some((name, sql)) = inputs.this.as_ref().and_then(|_| inputs.ctes.get(&model.unique_id)) {
            ctes.push((name.clone(), sql.clone()));
        }
        for id in &captured.ctes {
            if let Some((name, sql)) = inputs.ctes.get(id) {
                ctes.push((name.clone(), sql.clone()));
            }
        }
        Ok(inject_ctes(&rendered.text, &ctes))
    }

    /// `ref('a')`, `source('s', 't')` or `this`.
    fn unit_input(&self, model: &Node, input: &str) -> Result<UnitInput, String> {
        if input.trim() == "this" {
            return Ok(UnitInput {
                id: model.unique_id.clone(),
                name: model.name.clone(),
                relation: model.relation(),
                ephemeral: false,
            });
        }
        let arguments: Vec<String> = input
            .split_once('(')
            .map(|(_, rest)| rest.trim_end().trim_end_matches(')'))
            .unwrap_or_default()
            .split(',')
            .map(|argument| argument.trim().trim_matches(['\'', '"']).to_owned())
            .collect();
        let context = self.compiler.context(model);
        let wrong = |error: RenderError| error.message;
        if input.trim_start().starts_with("source") {
            let [source, table] = arguments.as_slice() else { return Err(format!("`{input}` is no source")) };
            let call = SourceCall { source: source.clone(), table: table.clone() };
            let resolved = self.resolver.resolve_source(&context, &call).map_err(wrong)?;
            let found = self
                .workspace
                .manifest
                .sources
                .get(&resolved.unique_id)
                .ok_or_else(|| format!("there is no {input}"))?;
            return Ok(UnitInput {
                id: resolved.unique_id,
                name: format!("{}__{}", found.source_name, found.name),
                relation: found.relation(),
                ephemeral: false,
            });
        }
        let named: Vec<&String> = arguments.iter().filter(|argument| !argument.contains('=')).collect();
        let (package, name) = match named.as_slice() {
            [name] => (None, (*name).clone()),
            [package, name] => (Some((*package).clone()), (*name).clone()),
            _ => return Err(format!("`{input}` is neither a ref nor a source")),
        };
        let version = arguments
            .iter()
            .find_map(|argument| argument.split_once('=').map(|(_, version)| version.trim().to_owned()))
            .map(|version| version.parse().map_or(Version::Text(version), Version::Number));
        let call = RefCall { package, name, version };
        let resolved = self.resolver.resolve_ref(&context, &call).map_err(wrong)?;
        let node =
            self.workspace.manifest.nodes.get(&resolved.unique_id).ok_or_else(|| format!("there is no {input}"))?;
        Ok(UnitInput {
            id: resolved.unique_id,
            name: node.name.clone(),
            relation: node.relation(),
            ephemeral: node.is_ephemeral(),
        })
    }

    /// The columns of what an input stands for; an ephemeral model has them in its SQL.
    fn input_columns(&self, warehouse: &NodeWarehouse, input: &UnitInput) -> Result<Vec<ColumnInfo>, String> {
        if input.ephemeral {
            let compiled = self.compiler.compile(&input.id, Some(warehouse)).map_err(|error| error.to_string())?;
            return warehouse.adapter().query_columns(&compiled.code, &[]).map_err(|error| error.to_string());
        }
        let columns = warehouse.adapter().columns(&input.relation).map_err(|error| error.to_string())?;
        if columns.is_empty() {
            return Err(format!(
                "Not able to get columns for unit test '{}' from relation {} because the relation doesn't exist",
                input.name, input.relation
            ));
        }
        Ok(columns)
    }

    /// The text of a fixture file: `tests/fixtures/<name>.csv` or `.sql` of the test's package.
    fn fixture_file(&self, test: &UnitTest, name: Option<&str>) -> Result<Option<String>, String> {
        let Some(name) = name else { return Ok(None) };
        let package = self
            .workspace
            .project
            .package(&test.package_name)
            .ok_or_else(|| format!("there is no package `{}`", test.package_name))?;
        for folder in &package.test_paths {
            for extension in ["csv", "sql"] {
                let path = package.root.join(folder).join("fixtures").join(format!("{name}.{extension}"));
                if let Ok(text) = fs_err::read_to_string(&path) {
                    return Ok(Some(text));
                }
            }
        }
        Err(format!("the fixture file `{name}` is not in tests/fixtures"))
    }
}

/// What an input stands for.
struct UnitInput {
    id: String,
    name: String,
    relation: crate::project::Relation,
    ephemeral: bool,
}

/// Refs and sources become the given rows.
struct Inputs<'a> {
    worker: &'a NodeWorker<'a>,
    /// By unique id: the CTE's name and SQL.
    ctes: BTreeMap<String, (String, String)>,
    /// The model itself is an input, under this name.
    this: Option<String>,
}

impl Inputs<'_> {
    fn replace(&self, resolved: Resolved, call: &str) -> Result<Resolved, RenderError> {
        match self.ctes.get(&resolved.unique_id) {
            Some((name, _)) => Ok(Resolved {
                relation: Relation::ephemeral(name.trim_start_matches("__dbt__cte__")),
                ephemeral: true,
                ..resolved
            }),
            None => Err(RenderError::compilation(format!("the unit test gives no rows for {call}"))),
        }
    }
}

impl Resolve for Inputs<'_> {
    fn resolve_ref(&self, from: &NodeContext, call: &RefCall) -> Result<Resolved, RenderError> {
        let resolved = self.worker.resolver.resolve_ref(from, call)?;
        self.replace(resolved, &format!("ref('{}')", call.name))
    }

    fn resolve_source(&self, from: &NodeContext, call: &SourceCall) -> Result<Resolved, RenderError> {
        let resolved = self.worker.resolver.resolve_source(from, call)?;
        self.replace(resolved, &format!("source('{}', '{}')", call.source, call.table))
    }

    fn doc(&self, from_package: &str, package: Option<&str>, name: &str) -> Option<String> {
        self.worker.resolver.doc(from_package, package, name)
    }

    fn graph(&self) -> Value {
        self.worker.resolver.graph()
    }

    fn selected_resources(&self) -> Vec<String> {
        self.worker.resolver.selected_resources()
    }
}
