//! Seeds: the CSV file of a node.

use super::node::{Done, Failure, NodeWorker, Running, response};
use crate::materialize::{MaterializeError, Seed, apply_grants, load_seed, persist_docs};

impl NodeWorker<'_> {
    pub(super) fn run_seed(&self, running: &Running<'_>) -> Result<Done, Failure> {
        let node = running.node;
        let failed = |error: MaterializeError| Failure::materialize(node, &error);
        let seed =
            Seed::open(&node.file(), node.config.str("delimiter"), node.config.map("column_types")).map_err(failed)?;
        let relation = node.relation();
        let model = self.model(node, &relation, "", &[]);
        let mut adapter = running.warehouse.adapter();
        let outcome = load_seed(&model, &mut adapter, &seed).map_err(failed)?;
        apply_grants(&model, &mut adapter).map_err(failed)?;
        persist_docs(&model, &mut adapter).map_err(failed)?;
        let rows = outcome.rows.unwrap_or(0);
        let query_id = adapter.statements().last().map(|last| last.summary.query_id.clone()).unwrap_or_default();
        Ok(Done {
            message: Some(format!("INSERT {rows}")),
            response: response(&format!("INSERT {rows}"), outcome.rows, &query_id),
            ..Done::default()
        })
    }
}
