//! Files to manifest. In: a [`Project`], the target and the renderer's environment; out: a [`Manifest`] with every node
//! configured, named and linked. It runs no statement and resolves no relation in the warehouse.

mod advice;
mod declared;
mod files;
mod link;
mod microbatch;
mod nodes;
mod properties;
pub(super) mod references;
mod tests;
mod unit_tests;
mod versions;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use serde_json::{Map, Value, json};

use self::{
    files::{FileKind, SourceFile},
    nodes::{Patch, Stub},
    properties::Entry,
    tests::{TestSite, TestTarget},
};
use super::{
    DBT_VERSION, DependsOn, Disabled, Docs, Documentation, Macro, Manifest, Metadata, Package, Project, ProjectError,
    ResourceType, lookup::Lookup, parallel,
};
use crate::{
    config::Target,
    error::Location,
    render::{
        Block, Environment, Events, MacroSource, Macros, NodeContext, Phase, RenderError, Renderer, Services,
        SilentEvents, Source, YamlContext, split_blocks,
    },
};

pub(super) use files::sha256;
pub(super) use nodes::place_error;
pub(super) use tests::md5;

/// What everything in this module is given.
pub(super) struct Context<'a> {
    /// The root project first.
    pub(super) packages: Vec<&'a Package>,
    pub(super) environment: &'a Environment,
    pub(super) target: &'a Target,
    /// Seconds since 1970, for `created_at`.
    pub(super) now: f64,
    pub(super) events: &'a ParseEvents,
    pub(super) resolve: &'a dyn crate::render::Resolve,
}

impl Context<'_> {
    /// `--store-failures`.
    pub(super) fn stores_failures(&self) -> bool {
        self.environment.invocation.flags.get("STORE_FAILURES").is_some_and(crate::render::Value::is_true)
    }

    /// The small context of a package's properties files.
    pub(super) fn yaml_context(&self, package: &str) -> YamlContext {
        YamlContext {
            environment_variables: Arc::clone(&self.environment.invocation.environment_variables),
            vars: self.environment.vars.get(package).cloned().unwrap_or_default(),
            require_vars: true,
            target: self.environment.target.clone(),
            allow_secrets: false,
            project_name: Some(self.environment.project_name.clone()),
            dbt_version: DBT_VERSION.into(),
            invocation: Some(self.environment.invocation.clone()),
            extra: Vec::new(),
        }
    }
}

/// Messages of the parse phase, kept for the command to show.
#[derive(Debug, Default)]
pub(super) struct ParseEvents {
    messages: Mutex<Messages>,
    warn_error: bool,
}

#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) warnings: Vec<String>,
    /// `log(…, info=true)` and `print(…)` of macros.
    pub(super) lines: Vec<String>,
}

impl ParseEvents {
    pub(super) fn new(warn_error: bool) -> Self {
        Self { messages: Mutex::default(), warn_error }
    }

    pub(super) fn warning(&self, message: String) {
        self.with(|messages| messages.warnings.push(message));
    }

    pub(super) fn take(self) -> Messages {
        self.messages.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn with(&self, f: impl FnOnce(&mut Messages)) {
        f(&mut self.messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Events for ParseEvents {
    fn log(&self, _node: &NodeContext, message: &str, info: bool) {
        if info {
            self.with(|messages| messages.lines.push(message.to_owned()));
        }
    }

    fn print(&self, _node: &NodeContext, message: &str) {
        self.with(|messages| messages.lines.push(message.to_owned()));
    }

    fn warn(&self, _node: &NodeContext, message: &str) -> Result<(), RenderError> {
        if self.warn_error {
            return Err(RenderError::compilation(message));
        }
        self.warning(message.to_owned());
        Ok(())
    }
}

/// The files of all packages.
pub(super) struct Files(Vec<SourceFile>);

/// Reads every file of the project and its packages.
pub(super) fn read_files(project: &Project) -> Result<Files, ProjectError> {
    files::read(&project.packages().collect::<Vec<_>>()).map(Files)
}

/// All macros: built-in, of the packages, of the project.
pub(super) fn read_macros(project: &Project, files: &Files) -> Result<Macros, ProjectError> {
    let packages: Vec<&Package> = project.packages().collect();
    let mut macros = Macros::with_builtins()?;
    let mut homes: HashMap<(usize, String), &str> = HashMap::new();
    for file in files.0.iter().filter(|file| matches!(file.kind, FileKind::Macro | FileKind::GenericTest)) {
        let package = packages[file.package];
        // Blank lines at the top keep the numbers in messages right.
        let padded = format!("{}{}", "\n".repeat(file.first_line - 1), file.text);
        let place = |error: RenderError| file_error(package, file, error);
        for block in split_blocks(&padded, &file.original).map_err(place)? {
            use crate::render::BlockKind::{Docs, Snapshot};
            if matches!(block.kind, Snapshot | Docs) {
                continue;
            }
            let name = block.macro_name();
            if let Some(other) = homes.insert((file.package, name.clone()), &file.original) {
                return Err(ProjectError::compilation(format!(
                    "dbt found multiple macros named \"{name}\" in the project \"{}\".\n All macros require unique names, to fix this error rename or remove any\nduplicates. They can be found in these files:\n    - {}\n    - {other}",
                    package.name, file.original
                ))
                .at(Location::line(package.root.join(&file.original), block.line, None)));
            }
        }
        macros.add_file(MacroSource { package: &package.name, path: &file.original, text: &padded }).map_err(place)?;
    }
    Ok(macros)
}

/// An error about a whole file, its place absolute.
fn file_error(package: &Package, file: &SourceFile, mut error: RenderError) -> ProjectError {
    match error.location.as_deref_mut() {
        Some(location) if location.path.is_relative() => location.path = package.root.join(&location.path),
        Some(_) => {}
        None => error.location = Some(Box::new(Location::file(package.root.join(&file.original)))),
    }
    error.into()
}

/// The docs blocks by name, for `doc()` while parsing.
type DocTexts = HashMap<String, Vec<(String, String)>>;

/// Parses everything.
pub(super) fn parse(
    project: &Project,
    files: &Files,
    environment: &Environment,
    target: &Target,
    events: &ParseEvents,
) -> Result<Manifest, ProjectError> {
    let packages: Vec<&Package> = project.packages().collect();
    let mut manifest = Manifest {
        metadata: Metadata {
            project_name: project.root.name.clone(),
            project_id: md5(&project.root.name),
            adapter_type: "clickhouse".into(),
            quoting: project.root.quoting.clone(),
        },
        ..Manifest::default()
    };
    let texts = read_docs(&packages, &files.0, environment, &mut manifest)?;
    let resolve = link::ParseResolve { docs: &texts, root: project.root.name.clone() };
    let now = environment.invocation.started_at.timestamp_micros() as f64 / 1e6;
    let context = Context { packages, environment, target, now, events, resolve: &resolve };
    Parser { context: &context, files: &files.0, manifest }.run()
}

fn read_docs(
    packages: &[&Package],
    files: &[SourceFile],
    environment: &Environment,
    manifest: &mut Manifest,
) -> Result<DocTexts, ProjectError> {
    let mut texts = DocTexts::new();
    for file in files.iter().filter(|file| file.kind == FileKind::Docs && file.text.contains("{%")) {
        let package = packages[file.package];
        let blocks = split_blocks(&file.text, &file.original).map_err(|error| file_error(package, file, error))?;
        for block in blocks {
            if block.kind != crate::render::BlockKind::Docs {
                continue;
            }
            let doc = Documentation {
                unique_id: format!("doc.{}.{}", package.name, block.name),
                name: block.name.clone(),
                package_name: package.name.clone(),
                path: file.relative.clone(),
                original_file_path: file.original.clone(),
                block_contents: rendered_docs(environment, file, &block)
                    .map_err(|error| file_error(package, file, error))?,
            };
            if let Some(other) = manifest.docs.get(&doc.unique_id) {
                return Err(ProjectError::compilation(format!(
                    "dbt found two docs with the name \"{}\".\n\nSince these resources have the same name, dbt will be unable to find the correct resource\nwhen looking for doc(\"{}\").\n\nTo fix this, change the name of one of these resources:\n- {} ({})\n- {} ({})",
                    doc.name, doc.name, doc.unique_id, doc.original_file_path, other.unique_id, other.original_file_path
                ))
                .at(Location::line(package.root.join(&file.original), file.first_line + block.line - 1, None)));
            }
            texts.entry(doc.name.clone()).or_default().push((package.name.clone(), doc.block_contents.clone()));
            manifest.docs.insert(doc.unique_id.clone(), doc);
        }
    }
    Ok(texts)
}

/// The text of a docs block; dbt renders the Jinja in it, without a context.
fn rendered_docs(environment: &Environment, file: &SourceFile, block: &Block<'_>) -> Result<String, RenderError> {
    if !["{{", "{%", "{#"].iter().any(|mark| block.body.contains(mark)) {
        return Ok(block.body.trim().to_owned());
    }
    let services = Services { resolve: None, warehouse: None, events: &SilentEvents };
    let mut renderer = Renderer::new(environment, NodeContext::default(), Phase::Compile, services);
    let first_line = file.first_line + block.body_line - 1;
    let rendered = renderer.render(Source { text: block.body, path: &file.original, first_line })?;
    Ok(rendered.text.trim().to_owned())
}

struct Parser<'c, 'a> {
    context: &'c Context<'a>,
    files: &'c [SourceFile],
    manifest: Manifest,
}

impl<'c> Parser<'c, '_> {
    fn run(mut self) -> Result<Manifest, ProjectError> {
        let mut entries = self.entries()?;
        advice::misspelt_properties(self.context, &entries);
        self.override_sources(&mut entries);
        let mut stubs = self.stubs()?;
        for entry in entries.iter().filter(|entry| entry.section == "snapshots") {
            stubs.extend(nodes::yaml_snapshot(self.context, entry)?);
        }
        let mut sites: Vec<TestSite<'_>> = Vec::new();
        let patches = self.patches(&entries, &stubs, &mut sites)?;
        let jobs: Vec<(&Stub, Option<&Patch<'_>>)> = stubs
            .iter()
            .zip(&patches)
            .flat_map(|(stub, patches)| {
                let none = patches.is_empty().then_some((stub, None));
                patches.iter().map(move |patch| (stub, Some(patch))).chain(none)
            })
            .collect();
        let context = self.context;
        let built = parallel::try_map(&jobs, |(stub, patch)| nodes::build(context, stub, *patch))?;
        for node in built {
            self.add_node(node)?;
        }
        self.declared(&entries)?;
        self.sources(&entries, &mut sites)?;
        self.tests(&sites)?;
        self.macros(&entries)?;
        self.unit_tests(&entries)?;
        let lookup = Lookup::new(&self.manifest, &context.packages[0].name);
        link::references(context, &mut self.manifest, &lookup)?;
        link::unit_tests(context, &mut self.manifest, &lookup)?;
        link::docs(context, &mut self.manifest, &lookup)?;
        link::primary_keys(&mut self.manifest);
        microbatch::check(context, &mut self.manifest)?;
        link::check(context, &self.manifest)?;
        advice::names_with_spaces(context, &self.manifest)?;
        advice::deprecated_models(context, &self.manifest);
        advice::misspelt_configs(context, &self.manifest);
        link::maps(&mut self.manifest);
        Ok(self.manifest)
    }

    /// Properties files to entries, on all threads.
    fn entries(&self) -> Result<Vec<Entry<'c>>, ProjectError> {
        let context = self.context;
        let files: Vec<&'c SourceFile> = self.files.iter().filter(|file| file.kind == FileKind::Properties).collect();
        let parsed = parallel::try_map(&files, |file| {
            let properties = properties::parse(file, context.packages[file.package])?;
            for section in properties::unsupported(&properties) {
                context.events.warning(format!(
                    "chpipe does not support `{section}`; the section in {} is left out",
                    file.original
                ));
            }
            // What is wrong in a package is not the user's to mend.
            for (key, line) in properties.repeated.iter().filter(|_| file.package == 0) {
                context.events.warning(format!(
                    "the key `{key}` is there a second time at {}:{line}; what stands here replaces the first",
                    file.original
                ));
            }
            properties::entries(context, &properties)
        })?;
        Ok(parsed.into_iter().flatten().collect())
    }

    /// `overrides: package` changes that package's source and declares none.
    fn override_sources(&self, entries: &mut Vec<Entry<'c>>) {
        let patches: Vec<Entry<'c>> = entries
            .extract_if(.., |entry| entry.section == "sources" && entry.value.contains_key("overrides"))
            .collect();
        for patch in patches {
            let of = patch.str("overrides").unwrap_or_default();
            let target = entries.iter_mut().find(|entry| {
                entry.section == "sources"
                    && entry.name == patch.name
                    && self.context.packages[entry.file.package].name == of
            });
            match target {
                Some(entry) => declared::override_source(entry, &patch),
                None => self.context.events.warning(format!(
                    "During parsing, dbt encountered source overrides that had no target:\n  - Source {of}.{} (in {})",
                    patch.name, patch.file.original
                )),
            }
        }
    }

    /// In dbt's order: by package, and in it by kind.
    fn stubs(&self) -> Result<Vec<Stub>, ProjectError> {
        let mut out = Vec::new();
        for (index, package) in self.context.packages.iter().enumerate() {
            for kind in
                [FileKind::Model, FileKind::Snapshot, FileKind::Analysis, FileKind::SingularTest, FileKind::Seed]
            {
                for file in self.files.iter().filter(|file| file.package == index && file.kind == kind) {
                    out.extend(nodes::stubs(self.context, file)?);
                }
            }
            out.extend(nodes::hook_stubs(index, package));
        }
        Ok(out)
    }

    /// Which entry belongs to which stub, and the tests that entries declare.
    fn patches<'e>(
        &self,
        entries: &'e [Entry<'e>],
        stubs: &[Stub],
        sites: &mut Vec<TestSite<'e>>,
    ) -> Result<Vec<Vec<Patch<'e>>>, ProjectError> {
        let mut by_name: HashMap<(&str, bool), Vec<usize>> = HashMap::new();
        for (index, stub) in stubs.iter().enumerate() {
            by_name.entry((stub.name.as_str(), stub.kind.is_refable())).or_default().push(index);
        }
        let mut patches: Vec<Vec<Patch<'e>>> = stubs.iter().map(|_| Vec::new()).collect();
        let find = |name: &str, section: &str, package: usize| -> Vec<usize> {
            let refable = matches!(section, "models" | "seeds" | "snapshots");
            let Some(found) = by_name.get(&(name, refable)) else { return Vec::new() };
            let fits = |index: &&usize| match section {
                "analyses" => stubs[**index].kind == ResourceType::Analysis,
                "data_tests" => stubs[**index].kind == ResourceType::Test,
                _ => true,
            };
            let own: Vec<usize> =
                found.iter().filter(fits).filter(|&&index| stubs[index].package == package).copied().collect();
            if own.is_empty() { found.iter().filter(fits).copied().take(1).collect() } else { own }
        };
        for entry in entries {
            let section = entry.section;
            if !matches!(section, "models" | "seeds" | "snapshots" | "analyses" | "data_tests") {
                continue;
            }
            let versions = if section == "models" { versions::versions(entry)? } else { Vec::new() };
            if versions.is_empty() {
                let patch = nodes::patch(entry)?;
                let found = find(&entry.name, section, entry.file.package);
                self.assign(entry, patch, &found, stubs, &mut patches)?;
                let target = TestTarget::Node { name: entry.name.clone(), version: None };
                if matches!(section, "models" | "seeds" | "snapshots") {
                    let columns: Vec<(&Value, Vec<String>)> = entry
                        .list("columns")?
                        .iter()
                        .enumerate()
                        .map(|(index, column)| (column, vec!["columns".to_owned(), index.to_string()]))
                        .collect();
                    let own = entry.list("data_tests")?;
                    tests::sites(entry, &target, &columns, own, &["data_tests"], &[], sites)?;
                }
                continue;
            }
            for (index, version) in versions.into_iter().enumerate() {
                let versions::VersionPatch { patch, files, tests: own_tests } = version;
                let found = files
                    .iter()
                    .map(|name| find(name, section, entry.file.package))
                    .find(|found| !found.is_empty())
                    .unwrap_or_default();
                let version = patch.version.clone();
                if found.is_empty() {
                    self.no_node(&files[0], entry);
                } else {
                    self.assign(entry, patch, &found, stubs, &mut patches)?;
                }
                let target = TestTarget::Node { name: entry.name.clone(), version };
                let item = entry.list("versions")?[index].as_object().cloned().unwrap_or_default();
                let columns = versions::version_columns(entry, &item)?;
                let columns: Vec<(&Value, Vec<String>)> =
                    columns.iter().map(|column| (column, vec!["columns".to_owned()])).collect();
                tests::sites(entry, &target, &columns, &own_tests, &["data_tests"], &[], sites)?;
            }
        }
        Ok(patches)
    }

    fn no_node(&self, name: &str, entry: &Entry<'_>) {
        self.context.events.warning(format!(
            "Did not find matching node for patch with name '{name}' in the '{}' section of file '{}'",
            entry.section, entry.file.original
        ));
    }

    fn assign<'e>(
        &self,
        entry: &'e Entry<'e>,
        patch: Patch<'e>,
        found: &[usize],
        stubs: &[Stub],
        patches: &mut [Vec<Patch<'e>>],
    ) -> Result<(), ProjectError> {
        if found.is_empty() {
            if entry.section != "snapshots" || entry.value.get("relation").is_none() {
                self.no_node(&entry.name, entry);
            }
            return Ok(());
        }
        for &index in found {
            let kind = stubs[index].kind;
            let right = matches!(
                (entry.section, kind),
                ("models", ResourceType::Model)
                    | ("seeds", ResourceType::Seed)
                    | ("snapshots", ResourceType::Snapshot)
                    | ("analyses", ResourceType::Analysis)
                    | ("data_tests", ResourceType::Test)
            );
            if !right {
                self.context.events.warning(format!(
                    "'{}' is a {kind} node, but it is specified in the {} section of {}. To fix this error, place the `{}` specification under the {kind}s key instead.",
                    entry.name, entry.section, entry.file.original, entry.name
                ));
                continue;
            }
            if let Some(other) = patches[index].first() {
                return Err(ProjectError::compilation(format!(
                    "dbt found two schema.yml entries for the same resource named {}. Resources and their associated columns may only be described a single time. To fix this, remove the resource entry for {} in one of these files:\n - {}\n - {}",
                    entry.name, entry.name, entry.file.original, other.entry.file.original
                ))
                .at(entry.location(None)));
            }
            patches[index].push(patch.clone());
        }
        Ok(())
    }

    fn add_node(&mut self, node: super::Node) -> Result<(), ProjectError> {
        if !node.config.enabled() {
            let id = node.unique_id.clone();
            self.manifest.disabled.entry(id).or_default().push(Disabled::Node(Box::new(node)));
            return Ok(());
        }
        if let Some(other) = self.manifest.nodes.get(&node.unique_id) {
            return Err(link::duplicate(other, &node));
        }
        self.manifest.nodes.insert(node.unique_id.clone(), node);
        Ok(())
    }

    /// Exposures and groups.
    fn declared(&mut self, entries: &[Entry<'_>]) -> Result<(), ProjectError> {
        for entry in entries {
            match entry.section {
                "exposures" => {
                    let (exposure, enabled) = declared::exposure(self.context, entry)?;
                    let id = exposure.unique_id.clone();
                    if !enabled {
                        self.manifest.disabled.entry(id).or_default().push(Disabled::Exposure(Box::new(exposure)));
                    } else if let Some(other) = self.manifest.exposures.insert(id, exposure) {
                        return Err(same_name(
                            "exposures",
                            &other.name,
                            entry,
                            &other.unique_id,
                            &other.original_file_path,
                        ));
                    }
                }
                "groups" => {
                    let group = declared::group(self.context, entry)?;
                    if let Some(other) = self.manifest.groups.insert(group.unique_id.clone(), group) {
                        return Err(same_name(
                            "groups",
                            &other.name,
                            entry,
                            &other.unique_id,
                            &other.original_file_path,
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn sources<'e>(&mut self, entries: &'e [Entry<'e>], sites: &mut Vec<TestSite<'e>>) -> Result<(), ProjectError> {
        for entry in entries.iter().filter(|entry| entry.section == "sources") {
            let source_tags = properties::texts(entry.value.get("tags"));
            for (index, (source, enabled)) in declared::sources(self.context, entry)?.into_iter().enumerate() {
                let table = &entry.list("tables")?[index];
                let target = TestTarget::Source { source: entry.name.clone(), table: source.name.clone() };
                let position = index.to_string();
                let columns: Vec<(&Value, Vec<String>)> = table
                    .get("columns")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .enumerate()
                    .map(|(at, column)| {
                        (column, vec!["tables".to_owned(), position.clone(), "columns".to_owned(), at.to_string()])
                    })
                    .collect();
                let own = table.get("data_tests").and_then(Value::as_array).cloned().unwrap_or_default();
                let mut tags = source_tags.clone();
                tags.extend(properties::texts(table.get("tags")));
                tests::sites(entry, &target, &columns, &own, &["tables", &position, "data_tests"], &tags, sites)?;
                let id = source.unique_id.clone();
                if !enabled {
                    self.manifest.disabled.entry(id).or_default().push(Disabled::Source(Box::new(source)));
                } else if let Some(other) = self.manifest.sources.get(&id) {
                    return Err(ProjectError::compilation(format!(
                        "dbt found two sources with the name \"{}_{}\".\n\nSince these resources have the same name, dbt will be unable to find the correct resource\nwhen looking for source(\"{}\", \"{}\").\n\nTo fix this, change the name of one of these resources:\n- {id} ({})\n- {id} ({})",
                        source.source_name,
                        source.name,
                        source.source_name,
                        source.name,
                        entry.file.original,
                        other.original_file_path
                    ))
                    .at(entry.locate(&["tables", &position])));
                } else {
                    self.manifest.sources.insert(id, source);
                }
            }
        }
        Ok(())
    }

    fn tests(&mut self, sites: &[TestSite<'_>]) -> Result<(), ProjectError> {
        let context = self.context;
        let lookup = Lookup::new(&self.manifest, &context.packages[0].name);
        let manifest = &self.manifest;
        let attached = |name: &str, package: &str, version: Option<&Value>| {
            let reference =
                super::Ref { name: name.to_owned(), package: Some(package.to_owned()), version: version.cloned() };
            if let super::lookup::Found::Id(id) = lookup.reference(package, &reference) {
                return manifest.nodes.get(id).map(|node| (node.unique_id.clone(), node.group.clone()));
            }
            manifest.disabled.values().flatten().find_map(|resource| match resource {
                Disabled::Node(node) if node.name == name && node.resource_type.is_refable() => {
                    Some((node.unique_id.clone(), node.group.clone()))
                }
                _ => None,
            })
        };
        let built = parallel::try_map(sites, |site| tests::build(context, site, attached))?;
        for node in built {
            self.add_node(node)?;
        }
        Ok(())
    }

    /// The macros as the manifest shows them, with what properties files say of them.
    fn macros(&mut self, entries: &[Entry<'_>]) -> Result<(), ProjectError> {
        let context = self.context;
        let root = &context.packages[0].name;
        let macros = &context.environment.macros;
        let mut all: Vec<_> = macros.all().collect();
        all.sort_by(|a, b| (&a.package, &a.path, a.line, &a.name).cmp(&(&b.package, &b.path, b.line, &b.name)));
        let depends = parallel::try_map(&all, |found| {
            Ok::<_, ProjectError>(macros.dependencies(root, &context.environment.dispatch, found))
        })?;
        for (found, depends) in all.into_iter().zip(depends) {
            let is_materialization = found.kind == crate::render::BlockKind::Materialization;
            let shown = Macro {
                unique_id: found.unique_id(),
                name: found.name.clone(),
                package_name: found.package.clone(),
                path: found.path.clone(),
                original_file_path: found.path.clone(),
                macro_sql: found.source.clone(),
                depends_on: DependsOn { macros: depends, nodes: Vec::new() },
                description: String::new(),
                meta: Map::new(),
                docs: Docs::default(),
                config: macro_config(&Map::new(), &json!({"show": true, "node_color": null})),
                patch_path: None,
                arguments: Vec::new(),
                created_at: context.now,
                supported_languages: is_materialization
                    .then(|| if found.languages.is_empty() { vec!["sql".to_owned()] } else { found.languages.clone() }),
            };
            self.manifest.macros.insert(shown.unique_id.clone(), shown);
        }
        for entry in entries.iter().filter(|entry| entry.section == "macros") {
            let package = context.packages[entry.file.package];
            let Some(shown) = self.manifest.macros.get_mut(&format!("macro.{}.{}", package.name, entry.name)) else {
                context.events.warning(format!("Found patch for macro \"{}\" which was not found", entry.name));
                continue;
            };
            if let Some(other) = &shown.patch_path {
                return Err(ProjectError::compilation(format!(
                    "dbt found two schema.yml entries for the same macro in package {} named {}. Macros may only be described a single time. To fix this, remove the macros entry for {} in one of these files:\n - {}\n - {}",
                    package.name,
                    entry.name,
                    entry.name,
                    entry.file.original,
                    other.split_once("://").map_or(other.as_str(), |(_, path)| path)
                ))
                .at(entry.location(None)));
            }
            shown.patch_path = Some(entry.file_id(package));
            shown.description = entry.description();
            shown.arguments = declared::macro_arguments(entry)?;
            let config = entry.map("config")?.cloned().unwrap_or_default();
            let mut meta = entry.map("meta")?.cloned().unwrap_or_default();
            if let Some(Value::Object(more)) = config.get("meta") {
                meta.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            if let Some(docs) = config.get("docs").or(entry.value.get("docs")) {
                shown.docs = Docs {
                    show: docs.get("show").and_then(Value::as_bool).unwrap_or(true),
                    node_color: docs.get("node_color").and_then(Value::as_str).map(str::to_owned),
                };
            }
            shown.config = macro_config(&meta, &json!({"show": shown.docs.show, "node_color": shown.docs.node_color}));
            shown.meta = meta;
        }
        Ok(())
    }

    fn unit_tests(&mut self, entries: &[Entry<'_>]) -> Result<(), ProjectError> {
        let mut seen = HashSet::new();
        for entry in entries.iter().filter(|entry| entry.section == "unit_tests") {
            let manifest = &self.manifest;
            let seed_rows = |name: &str| {
                let seed = manifest
                    .nodes
                    .values()
                    .find(|node| node.resource_type == ResourceType::Seed && node.name == name)?;
                let text = fs_err::read_to_string(seed.file()).ok()?;
                Some(unit_tests::csv_rows(&text, false))
            };
            let (test, enabled) = unit_tests::unit_test(self.context, entry, self.files, &seed_rows)?;
            let id = test.unique_id.clone();
            if !enabled {
                self.manifest.disabled.entry(id).or_default().push(Disabled::UnitTest(Box::new(test)));
                continue;
            }
            if !seen.insert(id.clone()) {
                let path = test.original_file_path.clone();
                return Err(same_name("unit_tests", &test.name, entry, &id, &path));
            }
            self.manifest.unit_tests.insert(id, test);
        }
        Ok(())
    }
}

fn macro_config(meta: &Map<String, Value>, docs: &Value) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("meta".into(), Value::Object(meta.clone()));
    config.insert("docs".into(), docs.clone());
    config
}

fn same_name(kind: &str, name: &str, entry: &Entry<'_>, id: &str, other: &str) -> ProjectError {
    ProjectError::compilation(format!(
        "dbt found two {kind} with the name \"{name}\".\n\nSince these resources have the same name, dbt will be unable to find the correct resource\nwhen searching for \"{name}\".\n\nTo fix this, change the name of one of these resources:\n- {id} ({})\n- {id} ({other})",
        entry.file.original
    ))
    .at(entry.location(None))
}
