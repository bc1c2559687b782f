//! `chpipe clone`: the relations of another environment under this target's names, without copying their data.

use serde_json::{Map, json};

use crate::{
    Error,
    adapter::Adapter,
    cli::CloneArgs,
    commands::{
        Context, ExitStatus,
        execute::{Lines, Prepared, previous_state},
        parse, warehouse,
    },
    project::{LoadOptions, Node, ProjectError, Relation, RelationKind, ResourceType, Selector},
    schedule::{NodeResult, NodeStatus, RunResults, write_run_results},
};

/// Clones each selected relation of `--state`: a MergeTree table shares its parts, anything else becomes a view.
pub(super) fn clone(args: &CloneArgs, context: &Context) -> Result<ExitStatus, Error> {
    let started = std::time::Instant::now();
    let options = LoadOptions {
        command: "clone".into(),
        full_refresh: args.full_refresh,
        quiet: context.printer.quiet(),
        ..LoadOptions::default()
    };
    let workspace = parse::load(context, &options)?;
    let Some(state) = previous_state(&args.selection, &workspace)? else {
        return Err(ProjectError::runtime("clone needs the artifacts of the environment to clone from")
            .hinting("chpipe clone --state DIR")
            .into());
    };
    let kinds = [ResourceType::Model, ResourceType::Seed, ResourceType::Snapshot];
    let ids = Selector::new(&workspace).with_state(Some(&state)).select(&args.selection, &kinds)?.ids;
    let opened = warehouse::open(context)?;
    let prepared = Prepared::open(&opened, context)?;
    let lines = Lines::new(&context.printer, false);
    let mut adapter = prepared.warehouse().adapter();
    let mut results = Vec::new();
    for id in &ids {
        let Some(node) = workspace.manifest.nodes.get(id).filter(|node| !node.is_ephemeral()) else { continue };
        let mut result = NodeResult::new(id, NodeStatus::Success);
        result.relation_name = node.relation_name.clone();
        match clone_one(node, state.relation(id), args.full_refresh, &mut adapter) {
            Ok(message) => {
                lines.note(&format!("OK cloned {} [{message}]", node.relation()));
                result.message = Some(message);
            }
            Err(error) => {
                lines.note(&format!("ERROR cloning {}: {error}", node.relation()));
                result.status = NodeStatus::Error;
                result.message = Some(error.to_string());
            }
        }
        results.push(result);
    }
    let failed = results.iter().any(|result| result.status.is_failure());
    let mut arguments = Map::new();
    arguments.insert("which".into(), json!("clone"));
    let document = RunResults {
        invocation: &context.invocation,
        results: &results,
        elapsed: started.elapsed().as_secs_f64(),
        args: arguments,
    };
    context.journal.set_arguments(json!({"which": "clone", "selected": ids.len(), "full_refresh": args.full_refresh}));
    context.journal.add_nodes(document.json()["results"].as_array().map(Vec::as_slice).unwrap_or_default());
    write_run_results(&document, workspace.target_path())
        .map_err(|source| Error::Io { path: workspace.target_path().join("run_results.json"), source })?;
    Ok(if failed { ExitStatus::Failure } else { ExitStatus::Success })
}

fn clone_one(node: &Node, from: Option<Relation>, full_refresh: bool, adapter: &mut Adapter) -> Result<String, Error> {
    let Some(from) = from else { return Ok("No-op".to_owned()) };
    let target = node.relation();
    if from.render() == target.render() {
        return Ok("No-op".to_owned());
    }
    let existing = adapter.relation(&target)?;
    if existing.is_some() && !full_refresh {
        return Ok("No-op".to_owned());
    }
    let Some(source) = adapter.relation(&from)? else {
        return Err(ProjectError::runtime(format!("{from} does not exist")).into());
    };
    adapter.ensure_schema(&target.schema)?;
    if let Some(existing) = &existing
        && existing.kind() != source.kind()
    {
        adapter.drop_relation(&existing.relation)?;
    }
    if source.kind() == RelationKind::Table && source.is_merge_tree() {
        let values = json!({"relation": target.render(), "source": from.render()});
        adapter.run_ddl("materialize/clone.sql", values)?;
        return Ok("clone".to_owned());
    }
    if existing.is_some_and(|existing| existing.kind() != RelationKind::View) {
        adapter.drop_relation(&target)?;
    }
    let values = json!({
        "relation": target.render(), "columns": null, "security": null, "query": format!("SELECT * FROM {from}"),
        "settings": [], "comment": null,
    });
    adapter.run_ddl("materialize/create_view.sql", values)?;
    Ok("view".to_owned())
}
