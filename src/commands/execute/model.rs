//! Models: the built-in materializations, and those that the project brings itself.

use std::{collections::BTreeSet, time::Duration};

use super::{
    node::{Done, Failure, NodeWorker, Running, response},
    prepare::invocation_of,
};
use crate::{
    adapter::{Adapter, AdapterError},
    engine::quote_string,
    materialize::{
        MaterializeError, Model, apply_grants, drop_leftovers, materialization, persist_docs, recover, recover_views,
    },
    project::{Hook, Node, Relation, ResourceType},
    render::{BuiltinMaterialization, Phase, Resolve as _, Value},
};

impl NodeWorker<'_> {
    /// Finishes or removes what an ended invocation left beside the node's relation.
    pub(super) fn finish_leftovers(&self, running: &Running<'_>) -> Result<(), Failure> {
        let relation = running.node.relation();
        let mut leftovers = self.prepared.take_leftovers(running.node);
        if leftovers.is_empty() {
            return Ok(());
        }
        let failed = |error: MaterializeError| Failure::materialize(running.node, &error);
        let mut adapter = running.warehouse.adapter();
        end_statements_of(&mut adapter, &leftovers).map_err(|error| failed(error.into()))?;
        let model = self.model(running.node, &relation, "", &[]);
        if recover(&model, &mut adapter, &leftovers).map_err(failed)? {
            self.lines.note(&format!("Finished an interrupted run of {relation}"));
        }
        if running.node.materialized() == "materialized_view" {
            let again = recover_views(&model, &mut adapter, &leftovers).map_err(failed)?;
            leftovers.retain(|leftover| !again.contains(leftover));
            running.again.replace(again);
        }
        drop_leftovers(&mut adapter, &leftovers).map_err(failed)
    }

    pub(super) fn run_model(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        if let Some(own) = self.own_materialization(node) {
            return self.run_own_materialization(running, &own);
        }
        let sql = running.compiled.as_ref().map_or("", |compiled| compiled.code.as_str());
        let relation = node.relation();
        let feeding_views: Vec<Relation> = self.feeding_views(node).map(Node::relation).collect();
        let replaced_views = self.replaced_views(node);
        let again = running.again.take();
        let mut model = self.model(node, &relation, sql, &feeding_views);
        model.full_refresh |= !again.is_empty();
        model.replaced_views = &replaced_views;
        let failed = |error: MaterializeError| Failure::materialize(node, &error);
        let mut adapter = running.warehouse.adapter();
        let outcome = materialization(node.materialized())
            .and_then(|materialization| materialization.materialize(&model, &mut adapter))
            .map_err(failed)?;
        drop_leftovers(&mut adapter, &again).map_err(failed)?;
        apply_grants(&model, &mut adapter).map_err(failed)?;
        persist_docs(&model, &mut adapter).map_err(failed)?;
        let query_id = adapter.statements().last().map(|last| last.summary.query_id.clone()).unwrap_or_default();
        let mut done = Done { response: response("OK", outcome.rows, &query_id), ..Done::default() };
        done.response.extend(outcome.response);
        let mut message = String::from("OK");
        if !outcome.notes.is_empty() {
            message = format!("OK, {}", outcome.notes.join(", "));
        }
        done.message = Some(message);
        Ok(done)
    }

    /// A materialization that the project or one of its packages brings, by the name of its macro.
    pub(super) fn own_materialization(&self, node: &Node) -> Option<String> {
        let environment = &self.workspace.environment;
        let name = node.materialized();
        let built_in = match name {
            "view"
            | "table"
            | "incremental"
            | "seed"
            | "snapshot"
            | "materialized_view"
            | "dictionary"
            | "distributed_table"
            | "distributed_incremental" => BuiltinMaterialization::ClickHouse,
            "clone" | "test" | "unit" => BuiltinMaterialization::Default,
            _ => BuiltinMaterialization::No,
        };
        let found = environment.macros.materialization(&environment.project_name, name, built_in)?;
        (!matches!(found.package.as_str(), "dbt" | "dbt_clickhouse")).then(|| found.name.clone())
    }

    /// Runs such a materialization through the renderer, with what dbt gives it.
    fn run_own_materialization(&self, running: &Running<'_>, name: &str) -> Result<Done, Failure> {
        let node = running.node;
        let sql = running.compiled.as_ref().map_or("", |compiled| compiled.code.as_str());
        let mut renderer = self.compiler.renderer(node, Phase::Run, Some(running.warehouse));
        renderer.set("sql", Value::str(sql));
        renderer.set("compiled_code", Value::str(sql));
        renderer.set("pre_hooks", hooks_value(&node.config.pre_hooks()));
        renderer.set("post_hooks", hooks_value(&node.config.post_hooks()));
        renderer.call_macro(name, Vec::new(), Vec::new()).map_err(|error| Failure::render(node, &error))?;
        let main = renderer.result("main").map(|(response, _)| response);
        let Some(main) = main else {
            let text = format!("the materialization `{}` ran no statement named `main`", node.materialized());
            return Err(Failure::new("Compilation Error", node, &text, None));
        };
        let rows = main.rows_affected.and_then(|rows| u64::try_from(rows).ok());
        Ok(Done {
            message: Some(main.message.clone()),
            response: response(&main.message, rows, main.query_id.as_deref().unwrap_or_default()),
            ..Done::default()
        })
    }

    /// A node as the materializations take it.
    pub(super) fn model<'m>(
        &'m self,
        node: &'m Node,
        relation: &'m Relation,
        sql: &'m str,
        feeding_views: &'m [Relation],
    ) -> Model<'m> {
        Model {
            node,
            relation,
            sql,
            full_refresh: self.full_refresh(node),
            empty: self.plan.execution.empty,
            invocation: &self.prepared.mark,
            batch: None,
            feeding_views,
            replaced_views: &[],
        }
    }

    /// The flag, unless the node's own config decides.
    pub(super) fn full_refresh(&self, node: &Node) -> bool {
        node.config.full_refresh().unwrap_or(self.plan.execution.full_refresh)
    }

    /// The materialized views of the project that write into this table: models that name it in
    /// `materialization_target_table(ref(…))`.
    fn feeding_views<'n>(&'n self, node: &'n Node) -> impl Iterator<Item = &'n Node> {
        self.workspace
            .graph
            .children(&node.unique_id)
            .filter(|_| node.materialized() == "table")
            .filter_map(|id| self.workspace.manifest.nodes.get(id))
            .filter(|child| {
                child.resource_type == ResourceType::Model
                    && child.materialized() == "materialized_view"
                    && child.raw_code.contains("materialization_target_table")
            })
    }

    /// Those of them that this invocation makes anew, as it does the table.
    fn replaced_views(&self, node: &Node) -> Vec<Relation> {
        if !self.full_refresh(node) {
            return Vec::new();
        }
        let selected = self.resolver.selected_resources();
        self.feeding_views(node)
            .filter(|view| self.full_refresh(view) && selected.contains(&view.unique_id))
            .map(Node::relation)
            .collect()
    }
}

/// On a server a statement of a killed invocation runs on, and may still bring in rows: it is ended, and its end awaited,
/// before anything is made of what is there.
fn end_statements_of(adapter: &mut Adapter, leftovers: &[Relation]) -> Result<(), AdapterError> {
    let marks: BTreeSet<String> = leftovers.iter().filter_map(|leftover| invocation_of(&leftover.identifier)).collect();
    let conditions: Vec<String> =
        marks.iter().map(|mark| format!("startsWith(query_id, {})", quote_string(&format!("{mark}-")))).collect();
    if conditions.is_empty() {
        return Ok(());
    }
    let on_cluster = adapter.on_cluster();
    let sql = format!("KILL QUERY{on_cluster} WHERE {} SYNC", conditions.join(" OR "));
    if !on_cluster.is_empty() {
        // It answers with a row of each host, when all are done.
        return adapter.execute(&sql).map(drop);
    }
    for _ in 0..600 {
        // It answers with what it found running.
        if adapter.rows(&sql)?.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(AdapterError::Answer { about: sql, reason: "a statement of an ended invocation does not end".to_owned() })
}

/// `pre_hooks` and `post_hooks` as `run_hooks` takes them.
fn hooks_value(hooks: &[Hook]) -> Value {
    let hooks: Vec<serde_json::Value> =
        hooks.iter().map(|hook| serde_json::json!({"sql": hook.sql, "transaction": hook.transaction})).collect();
    Value::from_json(&serde_json::Value::Array(hooks))
}
