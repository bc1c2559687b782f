//! Node to SQL: refs and sources become relations, ephemeral models become CTEs, the result goes to target/compiled. In: a
//! workspace and, where a model asks the warehouse while it compiles, a warehouse; out: [`Compiled`]. Each node is compiled
//! once; nodes may be compiled from several threads.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    Manifest, Node, ProjectError, Ref, Relation, Resource, ResourceType, Sample, Workspace, artifact,
    lookup::{Found, Lookup},
    node::version_text,
    state::PreviousState,
};
use crate::{
    error::Location,
    render::{self, Events, NodeContext, Phase, RenderError, Renderer, Services, Source, Warehouse},
};

/// The SQL of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compiled {
    /// Ready to run; CTEs included.
    pub code: String,
    /// Relative to the project folder, as artifacts name it: `target/compiled/f1/models/stg.sql`.
    pub compiled_path: Option<String>,
    /// `target/run/…`, once the node was run.
    pub build_path: Option<String>,
    /// It was run without having been compiled: a clone, a seed.
    pub only_built: bool,
    /// The CTEs of ephemeral models, in order of use.
    pub extra_ctes: Vec<Cte>,
    /// Macros that were called while it compiled; the manifest adds them to `depends_on`.
    pub macros: Vec<String>,
    /// Foreign keys' `to`, as written and as relation.
    pub foreign_keys: Vec<(String, String)>,
    /// For each line of `code`, the line of the node's file it came from, 0 where unknown.
    pub lines: Vec<u32>,
}

/// An ephemeral model inside another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cte {
    pub id: String,
    /// `` __dbt__cte__name as (…) ``.
    pub sql: String,
}

/// What `ref()` and `source()` resolve to: implements the renderer's [`render::Resolve`].
pub struct Resolver {
    manifest: Arc<Manifest>,
    lookup: Lookup,
    selected: Vec<String>,
    /// `--empty`: relations read as subqueries without rows.
    empty: bool,
    defer: Option<Defer>,
    sample: Option<Sample>,
    graph: OnceLock<render::Value>,
}

/// `--defer`: unselected nodes resolve to an earlier manifest's relations.
pub struct Defer {
    pub state: PreviousState,
    /// `--favor-state`: even where the target has the relation.
    pub favor_state: bool,
    /// Relations that the target has, as (schema, identifier); nothing deferred is among them unless `favor_state`.
    pub existing: HashSet<(String, String)>,
    /// Whether the command makes what is selected: then it is there by the time that something refers to it.
    pub builds: bool,
}

impl Resolver {
    pub fn new(workspace: &Workspace, selected: Vec<String>, empty: bool, defer: Option<Defer>) -> Self {
        let root = workspace.project.root.name.clone();
        Self {
            lookup: Lookup::new(&workspace.manifest, &root),
            manifest: Arc::clone(&workspace.manifest),
            selected,
            empty,
            defer,
            sample: None,
            graph: OnceLock::new(),
        }
    }

    /// `--sample`: models and snapshots read what has an `event_time` through this window.
    #[must_use]
    pub fn with_sample(mut self, sample: Option<Sample>) -> Self {
        self.sample = sample;
        self
    }

    pub fn sample(&self) -> Option<&Sample> {
        self.sample.as_ref()
    }

    fn sampled(&self, from: &NodeContext, unique_id: &str, relation: render::Relation) -> render::Relation {
        let Some(sample) = self.sample.filter(|_| matches!(from.resource_type.as_str(), "model" | "snapshot")) else {
            return relation;
        };
        let config = self.manifest.resource(unique_id).map(Resource::config);
        let Some(field_name) = config.and_then(|config| config.str("event_time")) else { return relation };
        let (start, end) = sample.within(None, None);
        let filter = render::EventTimeFilter { field_name: field_name.to_owned(), start: Some(start), end: Some(end) };
        render::Relation { event_time_filter: Some(filter), ..relation }
    }

    /// The relation of a node or source as `ref()` gives it out.
    pub fn relation(&self, node: &Node) -> render::Relation {
        let own = node.relation();
        let relation = self.deferred(node).unwrap_or(own);
        render::Relation::from(&relation).with_limit(self.empty.then_some(0))
    }

    fn deferred(&self, node: &Node) -> Option<Relation> {
        let defer = self.defer.as_ref()?;
        let selected = self.selected.contains(&node.unique_id);
        let exists = defer.existing.contains(&(node.schema.clone(), node.alias.clone()));
        if (selected && defer.builds) || (exists && (selected || !defer.favor_state)) {
            return None;
        }
        defer.state.relation(&node.unique_id)
    }

    fn check_declared(&self, from: &NodeContext, id: &str, call: &str) -> Result<(), RenderError> {
        let Some(node) = self.manifest.nodes.get(&from.unique_id) else { return Ok(()) };
        if node.resource_type == ResourceType::Operation
            || node.unique_id == id
            || node.depends_on.nodes.iter().any(|known| known == id)
        {
            return Ok(());
        }
        Err(RenderError::compilation(format!(
            "dbt was unable to infer all dependencies for the model \"{}\".\nThis typically happens when ref() is placed within a conditional block.\n\nTo fix this, add the following hint to the top of the model \"{}\":\n\n-- depends_on: {{{{ {call} }}}}",
            node.name, node.name
        )))
    }

    fn not_found(
        &self,
        from: &NodeContext,
        kind: &str,
        name: &str,
        version: &str,
        package: Option<&str>,
        disabled: bool,
    ) -> RenderError {
        let mut title = from.resource_type.clone();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let of = package.map(|package| format!(" in package or project '{package}'")).unwrap_or_default();
        let fate = if disabled { "is disabled" } else { "was not found" };
        RenderError::compilation(format!(
            "{title} '{}' ({}) depends on a {kind} named '{name}'{version}{of} which {fate}",
            from.unique_id, from.path
        ))
    }
}

impl render::Resolve for Resolver {
    fn resolve_ref(&self, from: &NodeContext, call: &render::RefCall) -> Result<render::Resolved, RenderError> {
        let version = call.version.as_ref().map(|version| match version {
            render::Version::Number(number) => json!(number),
            render::Version::Float(number) => json!(number),
            render::Version::Text(text) => json!(text),
        });
        let reference = Ref { name: call.name.clone(), package: call.package.clone(), version };
        let id = match self.lookup.reference(&from.package, &reference) {
            Found::Id(id) => id,
            found => {
                let version = reference
                    .version
                    .as_ref()
                    .map(|version| format!(" with version '{}'", version_text(version)))
                    .unwrap_or_default();
                let disabled = found == Found::Disabled;
                return Err(self.not_found(from, "node", &call.name, &version, call.package.as_deref(), disabled));
            }
        };
        let shown = match &call.package {
            Some(package) => format!("ref('{package}', '{}')", call.name),
            None => format!("ref('{}')", call.name),
        };
        self.check_declared(from, id, &shown)?;
        let Some(node) = self.manifest.nodes.get(id) else {
            return Err(self.not_found(from, "node", &call.name, "", call.package.as_deref(), false));
        };
        if node.is_ephemeral() {
            return Ok(render::Resolved {
                unique_id: id.to_owned(),
                relation: self.sampled(
                    from,
                    id,
                    render::Relation::ephemeral(&node.name).with_limit(self.empty.then_some(0)),
                ),
                ephemeral: true,
            });
        }
        let relation = self.sampled(from, id, self.relation(node));
        Ok(render::Resolved { unique_id: id.to_owned(), relation, ephemeral: false })
    }

    fn resolve_source(&self, from: &NodeContext, call: &render::SourceCall) -> Result<render::Resolved, RenderError> {
        let name = format!("{}.{}", call.source, call.table);
        let id = match self.lookup.source(&from.package, &call.source, &call.table) {
            Found::Id(id) => id,
            found => return Err(self.not_found(from, "source", &name, "", None, found == Found::Disabled)),
        };
        let Some(source) = self.manifest.sources.get(id) else {
            return Err(self.not_found(from, "source", &name, "", None, false));
        };
        Ok(render::Resolved {
            unique_id: id.to_owned(),
            relation: self.sampled(
                from,
                id,
                render::Relation::from(&source.relation()).with_limit(self.empty.then_some(0)),
            ),
            ephemeral: false,
        })
    }

    fn doc(&self, from_package: &str, package: Option<&str>, name: &str) -> Option<String> {
        let id = self.lookup.doc(from_package, package, name)?;
        self.manifest.docs.get(id).map(|doc| doc.block_contents.clone())
    }

    fn graph(&self) -> render::Value {
        self.graph
            .get_or_init(|| {
                let mut nodes = IndexMap::new();
                for node in self.manifest.nodes.values() {
                    nodes.insert(node.unique_id.clone(), render::Value::from_json(&artifact::node_json(node, None)));
                }
                let record = |items: IndexMap<String, render::Value>| {
                    render::Value::record(items.into_iter().map(|(id, value)| (Arc::<str>::from(id), value)))
                };
                let sources = self
                    .manifest
                    .sources
                    .values()
                    .map(|source| (source.unique_id.clone(), render::Value::from_json(&artifact::source_json(source))))
                    .collect();
                let exposures = self
                    .manifest
                    .exposures
                    .values()
                    .map(|exposure| {
                        (exposure.unique_id.clone(), render::Value::from_json(&artifact::exposure_json(exposure)))
                    })
                    .collect();
                let groups = self
                    .manifest
                    .groups
                    .values()
                    .map(|group| (group.unique_id.clone(), render::Value::from_json(&artifact::group_json(group))))
                    .collect();
                let empty = || record(IndexMap::new());
                render::Value::record([
                    ("exposures", record(exposures)),
                    ("groups", record(groups)),
                    ("metrics", empty()),
                    ("nodes", record(nodes)),
                    ("sources", record(sources)),
                    ("semantic_models", empty()),
                    ("saved_queries", empty()),
                ])
            })
            .clone()
    }

    fn selected_resources(&self) -> Vec<String> {
        self.selected.clone()
    }
}

/// Filled by whoever compiles a node first; the others wait for it.
type Slot = OnceLock<Result<Arc<Compiled>, Arc<ProjectError>>>;

/// Compiles the nodes of a workspace.
pub struct Compiler<'a> {
    workspace: &'a Workspace,
    resolver: &'a Resolver,
    events: &'a dyn Events,
    done: Mutex<HashMap<String, Arc<Slot>>>,
    /// Where `target/run` has what was run, by id.
    built: Mutex<HashMap<String, String>>,
    /// Whether target/compiled is written.
    write: bool,
}

impl<'a> Compiler<'a> {
    pub fn new(workspace: &'a Workspace, resolver: &'a Resolver, events: &'a dyn Events) -> Self {
        Self { workspace, resolver, events, done: Mutex::default(), built: Mutex::default(), write: true }
    }

    /// Compiles into memory only.
    #[must_use]
    pub fn without_files(mut self) -> Self {
        self.write = false;
        self
    }

    /// The SQL of a node. Ephemeral models it uses are compiled too. A seed or source has none.
    ///
    /// # Errors
    /// A template fails, a name leads nowhere, the file cannot be written. A node that failed fails again with the same
    /// error, as one that is shared.
    pub fn compile(&self, id: &str, warehouse: Option<&dyn Warehouse>) -> Result<Arc<Compiled>, Arc<ProjectError>> {
        let slot = Arc::clone(self.done.lock().entry(id.to_owned()).or_default());
        slot.get_or_init(|| self.compile_new(id, warehouse).map(Arc::new).map_err(Arc::new)).clone()
    }

    /// SQL that stands in no file: `--inline`, `show`, `run-operation`. Any ref is allowed in it; nothing is written.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn compile_inline(&self, sql: &str, warehouse: Option<&dyn Warehouse>) -> Result<Compiled, ProjectError> {
        let package = self.workspace.project.root.name.clone();
        let context = NodeContext {
            unique_id: format!("sql_operation.{package}.inline_query"),
            name: "inline_query".into(),
            package,
            resource_type: "sql_operation".into(),
            path: "inline_query".into(),
            this: Some(render::Relation::new(self.workspace.target.schema.clone(), "inline_query")),
            ..NodeContext::default()
        };
        let services = Services { resolve: Some(self.resolver), warehouse, events: self.events };
        let mut renderer = Renderer::new(&self.workspace.environment, context, Phase::Compile, services);
        let rendered = renderer.render(Source { text: sql, path: "inline_query", first_line: 1 })?;
        let ids = renderer.take_captured().ctes;
        let extra_ctes = self.ctes("sql_operation.inline_query", &ids, warehouse)?;
        let code = if extra_ctes.is_empty() { rendered.text } else { self.inject(&rendered.text, &extra_ctes) };
        Ok(Compiled { code, extra_ctes, ..Compiled::default() })
    }

    /// A source's `loaded_at_query`, in which `this` and `source_node` are the source.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn compile_loaded_at(
        &self,
        source: &super::Source,
        sql: &str,
        warehouse: &dyn Warehouse,
    ) -> Result<String, ProjectError> {
        let model = render::Value::from_json(&artifact::source_json(source));
        let context = NodeContext {
            unique_id: source.unique_id.clone(),
            name: source.name.clone(),
            package: source.package_name.clone(),
            resource_type: "source".into(),
            path: source.original_file_path.clone(),
            model: model.clone(),
            this: Some(render::Relation::from(&source.relation())),
            ..NodeContext::default()
        };
        let services = Services { resolve: Some(self.resolver), warehouse: Some(warehouse), events: self.events };
        let mut renderer = Renderer::new(&self.workspace.environment, context, Phase::Compile, services);
        renderer.set("source_node", model);
        Ok(renderer.render(Source { text: sql, path: &source.original_file_path, first_line: 1 })?.text)
    }

    /// All that was compiled so far, for manifest.json.
    pub fn compiled(&self) -> artifact::CompiledNodes {
        let mut compiled: artifact::CompiledNodes = self
            .done
            .lock()
            .iter()
            .filter_map(|(id, slot)| Some((id.clone(), Arc::clone(slot.get()?.as_ref().ok()?))))
            .collect();
        for (id, path) in self.built.lock().iter() {
            let entry = compiled
                .entry(id.clone())
                .or_insert_with(|| Arc::new(Compiled { only_built: true, ..Compiled::default() }));
            Arc::make_mut(entry).build_path = Some(path.clone());
        }
        compiled
    }

    /// What was rendered elsewhere (hooks of dbt_project.yml), for target/compiled and manifest.json.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, node: &Node, code: &str, macros: Vec<String>) -> Result<(), ProjectError> {
        let compiled_path = if code.is_empty() { None } else { Some(self.write_compiled(node, code)?) };
        let compiled = Compiled { code: code.to_owned(), compiled_path, macros, ..Compiled::default() };
        let slot = Arc::clone(self.done.lock().entry(node.unique_id.clone()).or_default());
        slot.get_or_init(|| Ok(Arc::new(compiled)))
            .as_ref()
            .map(drop)
            .map_err(|error| ProjectError::compilation(error.to_string()))
    }

    fn compile_new(&self, id: &str, warehouse: Option<&dyn Warehouse>) -> Result<Compiled, ProjectError> {
        let Some(node) = self.workspace.manifest.nodes.get(id) else {
            return Err(ProjectError::runtime(format!("there is no node `{id}` to compile")));
        };
        if node.language == "python" {
            return Err(ProjectError::NotSupported {
                feature: format!("Python models ({})", node.original_file_path),
                location: Some(Location::file(node.file())),
            });
        }
        let mut renderer = self.renderer(node, Phase::Compile, warehouse);
        let fail = |error: RenderError| self.located(node, error);
        if node.test_metadata.is_some() {
            let arguments = renderer.render_test_arguments(&Value::Object(node.test_kwargs.clone())).map_err(fail)?;
            renderer.set("_dbt_generic_test_kwargs", arguments);
        }
        let first_line = if node.test_metadata.is_some() { 1 } else { node.raw_code_line };
        let rendered = renderer
            .render(Source { text: &node.raw_code, path: &node.original_file_path, first_line })
            .map_err(fail)?;
        let captured = renderer.take_captured();
        let extra_ctes = self.ctes(&node.unique_id, &captured.ctes, warehouse)?;
        let mut compiled = Compiled {
            code: rendered.text,
            lines: rendered.lines,
            macros: captured.macros,
            foreign_keys: self.foreign_keys(node),
            ..Compiled::default()
        };
        if !extra_ctes.is_empty() {
            compiled.code = self.inject(&compiled.code, &extra_ctes);
            // The lines moved; a wrong place would be worse than none.
            compiled.lines = Vec::new();
        }
        compiled.extra_ctes = extra_ctes;
        // A snapshot's query is no statement of its own, and of nothing there is no file (dbt writes none either).
        if self.write && node.resource_type != ResourceType::Snapshot && !compiled.code.is_empty() {
            compiled.compiled_path = Some(self.write_compiled(node, &compiled.code)?);
        }
        Ok(compiled)
    }

    /// A renderer for a node: for `materialize`, which runs hooks and materializations with it.
    pub fn renderer<'s>(&'s self, node: &Node, phase: Phase, warehouse: Option<&'s dyn Warehouse>) -> Renderer<'s> {
        let services = Services { resolve: Some(self.resolver), warehouse, events: self.events };
        Renderer::new(&self.workspace.environment, self.context(node), phase, services)
    }

    /// What templates of a node see of it.
    pub fn context(&self, node: &Node) -> NodeContext {
        let json = artifact::node_json(node, None);
        let config = render::Value::from_json(json.get("config").unwrap_or(&Value::Null));
        NodeContext {
            unique_id: node.unique_id.clone(),
            name: node.name.clone(),
            package: node.package_name.clone(),
            resource_type: node.resource_type.as_str().into(),
            path: node.original_file_path.clone(),
            model: render::Value::from_json(&json),
            config,
            this: Some(render::Relation::from(&node.relation())),
            ..NodeContext::default()
        }
    }

    fn cte_name(&self, id: &str) -> String {
        let name = self.workspace.manifest.nodes.get(id).map_or(id, |node| &node.name);
        format!("__dbt__cte__{name}")
    }

    /// Constraints name their target with `ref()` or `source()`; the warehouse wants its relation.
    fn foreign_keys(&self, node: &Node) -> Vec<(String, String)> {
        node.constraints
            .iter()
            .chain(node.columns.values().flat_map(|column| &column.constraints))
            .filter(|constraint| constraint["type"] == "foreign_key")
            .filter_map(|constraint| {
                let to = constraint["to"].as_str()?;
                let id = match super::parse::references::parse(to)? {
                    super::parse::references::Reference::Ref(reference) => {
                        self.resolver.lookup.reference(&node.package_name, &reference)
                    }
                    super::parse::references::Reference::Source([source, table]) => {
                        self.resolver.lookup.source(&node.package_name, &source, &table)
                    }
                };
                match id {
                    Found::Id(id) => Some((to.to_owned(), self.workspace.manifest.relation(id)?.render())),
                    _ => None,
                }
            })
            .collect()
    }

    fn inject(&self, sql: &str, ctes: &[Cte]) -> String {
        let pairs: Vec<(String, String)> = ctes
            .iter()
            .map(|cte| {
                let name = self.cte_name(&cte.id);
                let inside = cte
                    .sql
                    .strip_prefix(&format!(" {name} as (\n"))
                    .and_then(|sql| sql.strip_suffix("\n)"))
                    .unwrap_or(&cte.sql);
                (name, inside.to_owned())
            })
            .collect();
        render::inject_ctes(sql, &pairs)
    }

    /// The CTEs of ephemeral parents, theirs before them.
    fn ctes(&self, user: &str, ids: &[String], warehouse: Option<&dyn Warehouse>) -> Result<Vec<Cte>, ProjectError> {
        let mut out: Vec<Cte> = Vec::new();
        for id in ids {
            if id == user {
                return Err(ProjectError::compilation(format!("Found a cycle: {id} --> {id}")));
            }
            let compiled = self.compile_ephemeral(id, warehouse).map_err(|error| {
                // The first who compiled it owns the error; everybody else repeats its text.
                Arc::try_unwrap(error).unwrap_or_else(|shared| ProjectError::compilation(shared.to_string()))
            })?;
            for cte in compiled.extra_ctes.iter().cloned() {
                if !out.iter().any(|known| known.id == cte.id) {
                    out.push(cte);
                }
            }
            if !out.iter().any(|known| &known.id == id) {
                out.push(Cte { id: id.clone(), sql: format!(" {} as (\n{}\n)", self.cte_name(id), compiled.code) });
            }
        }
        Ok(out)
    }

    /// An ephemeral model without its own CTEs: those go to the front of whoever uses it.
    fn compile_ephemeral(&self, id: &str, warehouse: Option<&dyn Warehouse>) -> Result<Compiled, Arc<ProjectError>> {
        let compiled = self.compile(id, warehouse)?;
        if compiled.extra_ctes.is_empty() {
            return Ok((*compiled).clone());
        }
        let Some(node) = self.workspace.manifest.nodes.get(id) else { return Ok((*compiled).clone()) };
        let mut renderer = self.renderer(node, Phase::Compile, warehouse);
        let rendered = renderer
            .render(Source { text: &node.raw_code, path: &node.original_file_path, first_line: node.raw_code_line })
            .map_err(|error| Arc::new(self.located(node, error)))?;
        Ok(Compiled { code: rendered.text, ..(*compiled).clone() })
    }

    /// The renderer's error about a node, its file absolute.
    pub fn located(&self, node: &Node, mut error: RenderError) -> ProjectError {
        if error.node.is_none() {
            let kind =
                if node.resource_type == ResourceType::Operation { "operation" } else { node.resource_type.as_str() };
            error.node = Some(format!("{kind} {} ({})", node.name, node.original_file_path));
        }
        let roots: Vec<PathBuf> = self.workspace.project.packages().map(|package| package.root.clone()).collect();
        super::parse::place_error(node, &roots, &mut error);
        error.into()
    }

    /// Writes target/compiled and answers the path that artifacts show.
    fn write_compiled(&self, node: &Node, code: &str) -> Result<String, ProjectError> {
        self.write_target("compiled", node, code)
    }

    /// Writes target/run: what `materialize` sends.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_run(&self, node: &Node, code: &str) -> Result<String, ProjectError> {
        let shown = self.write_target("run", node, code)?;
        self.built.lock().insert(node.unique_id.clone(), shown.clone());
        Ok(shown)
    }

    /// Writes the SQL of one interval of a microbatch model below `compiled` or `run`: `m/m_2024-01-31.sql`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_batch(&self, folder: &str, node: &Node, batch: &str, code: &str) -> Result<(), ProjectError> {
        let path = node.target_path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = path.with_extension("").join(format!("{stem}_{batch}.sql"));
        self.write_at(&self.workspace.target_path().join(folder).join(path), code)
    }

    fn write_target(&self, folder: &str, node: &Node, code: &str) -> Result<String, ProjectError> {
        let path = self.workspace.target_path().join(folder).join(node.target_path());
        self.write_at(&path, code)?;
        let shown = shown(&path, &self.workspace.project.root.root);
        // dbt writes the hooks' file as `./dbt_project.yml`.
        let own = node.original_file_path.trim_start_matches("./");
        Ok(match node.original_file_path.strip_prefix("./") {
            Some(_) => shown.replacen(own, &node.original_file_path, 1),
            None => shown,
        })
    }

    fn write_at(&self, path: &Path, code: &str) -> Result<(), ProjectError> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(|source| ProjectError::io(parent, source))?;
        }
        // An unchanged file keeps its time, for tools that watch it.
        if fs_err::read_to_string(path).ok().as_deref() != Some(code) {
            fs_err::write(path, code).map_err(|source| ProjectError::io(path, source))?;
        }
        Ok(())
    }
}

/// Relative to the project where it is inside.
fn shown(path: &Path, root: &Path) -> String {
    let shown: PathBuf = path.strip_prefix(root).map_or_else(|_| path.to_owned(), Path::to_owned);
    shown.display().to_string()
}
