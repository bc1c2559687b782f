//! dbt's selection grammar: `tag:daily+1,config.materialized:table`, `@model`, selectors.yml, indirect selection of tests,
//! `state:`, `result:`. In: arguments and a manifest with its graph; out: unique ids. Pure but for `path:`, which looks at
//! no file either: it matches the paths the manifest knows.
//! <https://docs.getdbt.com/reference/node-selection/syntax>

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    Graph, Manifest, Project, ProjectError, Resource, ResourceType, Workspace,
    lookup::is_latest,
    node::version_text,
    package::python_repr,
    state::{PreviousState, StateChange},
};
use crate::cli::{IndirectSelection, SelectionArgs};

/// Selects over one manifest.
pub struct Selector<'a> {
    manifest: &'a Manifest,
    graph: &'a Graph,
    project: &'a Project,
    state: Option<&'a PreviousState>,
}

/// What a selection found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// In manifest order.
    pub ids: Vec<String>,
    /// Criteria that matched nothing.
    pub warnings: Vec<String>,
}

/// Positions in [`Graph::ids`].
type Set = BTreeSet<usize>;

/// A parsed expression.
#[derive(Debug, Clone)]
enum Spec {
    Criterion(Box<Criterion>),
    Union {
        parts: Vec<Self>,
        indirect: IndirectSelection,
    },
    /// `raw` is what to warn of when nothing is found; none where that is no surprise.
    Intersection {
        parts: Vec<Self>,
        indirect: IndirectSelection,
        raw: Option<String>,
    },
    /// The first without the others.
    Difference {
        parts: Vec<Self>,
        indirect: IndirectSelection,
    },
}

/// One `@2+method.argument:value+3`.
#[derive(Debug, Clone)]
struct Criterion {
    method: String,
    arguments: Vec<String>,
    value: Value,
    childrens_parents: bool,
    /// `Some(None)`: all of them.
    parents: Option<Option<usize>>,
    children: Option<Option<usize>>,
    indirect: IndirectSelection,
}

const METHODS: [&str; 23] = [
    "fqn",
    "tag",
    "group",
    "access",
    "source",
    "path",
    "file",
    "package",
    "config",
    "test_name",
    "test_type",
    "resource_type",
    "state",
    "exposure",
    "metric",
    "result",
    "source_status",
    "version",
    "semantic_model",
    "saved_query",
    "unit_test",
    "selector",
    "function",
];

/// What is selected when nothing is said.
const EVERYTHING: [&str; 4] = ["fqn:*", "source:*", "exposure:*", "unit_test:*"];

impl<'a> Selector<'a> {
    pub fn new(workspace: &'a Workspace) -> Self {
        Self { manifest: &workspace.manifest, graph: &workspace.graph, project: &workspace.project, state: None }
    }

    /// With the artifacts of an earlier invocation, for `state:`, `result:` and `source_status:`.
    #[must_use]
    pub fn with_state(mut self, state: Option<&'a PreviousState>) -> Self {
        self.state = state;
        self
    }

    /// The ids that the arguments select, of the kinds that the command works on.
    ///
    /// # Errors
    /// dbt's texts: an unknown method or selector, a spec that cannot be parsed, `state:` without `--state`.
    pub fn select(&self, arguments: &SelectionArgs, kinds: &[ResourceType]) -> Result<Selection, ProjectError> {
        let kinds = resource_kinds(arguments, kinds)?;
        let spec = self.spec(arguments)?;
        let mut warnings = Vec::new();
        let (found, _) = self.evaluate(&spec, &mut warnings)?;
        let ids = self
            .graph
            .ids()
            .iter()
            .enumerate()
            .filter(|(at, id)| {
                found.contains(at)
                    && self.manifest.resource(id).is_some_and(|resource| kinds.contains(&resource.resource_type()))
            })
            .map(|(_, id)| id.clone())
            .collect();
        Ok(Selection { ids, warnings })
    }

    fn spec(&self, arguments: &SelectionArgs) -> Result<Spec, ProjectError> {
        let indirect = arguments.indirect_selection;
        let definitions = Definitions::parse(&self.project.selectors, indirect)?;
        let included = arguments.included();
        let given = !included.is_empty() || !arguments.exclude.is_empty();
        if let Some(name) = &arguments.selector {
            if given {
                return Err(ProjectError::runtime("--selector cannot be used together with --select or --exclude"));
            }
            return definitions.get(name).cloned().ok_or_else(|| {
                ProjectError::runtime(format!(
                    "Could not find selector named {name}, expected one of {}",
                    python_repr(&json!(definitions.names()))
                ))
            });
        }
        if !given && let Some(default) = definitions.default() {
            return Ok(default.clone());
        }
        let everything: Vec<String> = EVERYTHING.iter().map(|&text| text.to_owned()).collect();
        let include = if included.is_empty() {
            union(&everything, indirect, false, &definitions)?
        } else {
            union(&included, indirect, true, &definitions)?
        };
        let exclude = union(&arguments.exclude, indirect, true, &definitions)?;
        Ok(Spec::Difference { parts: vec![include, exclude], indirect })
    }

    /// Direct nodes, and tests that would come along were their other parents selected.
    fn evaluate(&self, spec: &Spec, warnings: &mut Vec<String>) -> Result<(Set, Set), ProjectError> {
        let (parts, indirect) = match spec {
            Spec::Criterion(criterion) => return self.criterion(criterion),
            Spec::Union { parts, indirect }
            | Spec::Intersection { parts, indirect, .. }
            | Spec::Difference { parts, indirect } => (parts, *indirect),
        };
        let mut direct = Vec::with_capacity(parts.len());
        let mut with = Vec::with_capacity(parts.len());
        for part in parts {
            let (part_direct, part_with) = self.evaluate(part, warnings)?;
            direct.push(part_direct);
            with.push(part_with);
        }
        let direct = combine(spec, direct);
        let with = combine(spec, with);
        let direct = self.incorporate(direct, &with, indirect);
        if let Spec::Intersection { raw: Some(raw), .. } = spec
            && direct.is_empty()
        {
            warnings.push(format!("The selection criterion '{raw}' does not match any enabled nodes"));
        }
        Ok((direct, with))
    }

    fn criterion(&self, criterion: &Criterion) -> Result<(Set, Set), ProjectError> {
        let mut selected = self.matching(criterion)?;
        let starts: Vec<usize> = selected.iter().copied().collect();
        if criterion.childrens_parents {
            let below = self.graph.below(&starts, None);
            selected.extend(self.graph.above(&below, None));
        }
        if let Some(depth) = criterion.parents {
            selected.extend(self.graph.above(&starts, depth));
        }
        if let Some(depth) = criterion.children {
            selected.extend(self.graph.below(&starts, depth));
        }
        if criterion.indirect == IndirectSelection::Empty {
            return Ok((selected, Set::new()));
        }
        Ok(self.expand(selected, criterion.indirect))
    }

    /// Adds the tests of selected nodes.
    fn expand(&self, selected: Set, indirect: IndirectSelection) -> (Set, Set) {
        let mut direct = selected.clone();
        let mut with = Set::new();
        let buildable = self.with_parents(&selected, indirect);
        for &at in &selected {
            for &child in self.graph.child_indices(at) {
                let Some(Resource::Node(node)) = self.manifest.resource(&self.graph.ids()[child]) else { continue };
                if node.resource_type != ResourceType::Test {
                    continue;
                }
                let parents = self.graph.parent_indices(child);
                if indirect == IndirectSelection::Eager
                    || parents.iter().all(|parent| selected.contains(parent))
                    || buildable.as_ref().is_some_and(|set| parents.iter().all(|parent| set.contains(parent)))
                {
                    direct.insert(child);
                } else {
                    with.insert(child);
                }
            }
        }
        // Unit tests have one parent.
        for &at in &selected {
            for &child in self.graph.child_indices(at) {
                if matches!(self.manifest.resource(&self.graph.ids()[child]), Some(Resource::UnitTest(_))) {
                    direct.insert(child);
                }
            }
        }
        (direct, with)
    }

    /// With `buildable`: the selection, all above it, and all sources.
    fn with_parents(&self, selected: &Set, indirect: IndirectSelection) -> Option<Set> {
        (indirect == IndirectSelection::Buildable).then(|| {
            let starts: Vec<usize> = selected.iter().copied().collect();
            let mut set: Set = self.graph.above(&starts, None).into_iter().collect();
            set.extend(self.manifest.sources.keys().filter_map(|id| self.graph.index_of(id)));
            set
        })
    }

    fn incorporate(&self, direct: Set, with: &Set, indirect: IndirectSelection) -> Set {
        let buildable = self.with_parents(&direct, indirect);
        let fits = |set: &Set, at: usize| self.graph.parent_indices(at).iter().all(|parent| set.contains(parent));
        let mut selected = direct.clone();
        for &at in with {
            let joins = match indirect {
                IndirectSelection::Cautious => fits(&selected, at),
                IndirectSelection::Buildable => buildable.as_ref().is_some_and(|set| fits(set, at)),
                IndirectSelection::Eager | IndirectSelection::Empty => false,
            };
            if joins {
                selected.insert(at);
            }
        }
        selected
    }

    fn matching(&self, criterion: &Criterion) -> Result<Set, ProjectError> {
        let text = match &criterion.value {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => if *flag { "true" } else { "false" }.into(),
            other => other.to_string(),
        };
        let value = text.as_str();
        let keep = |fits: &dyn Fn(Resource<'_>) -> bool| -> Set {
            self.graph
                .ids()
                .iter()
                .enumerate()
                .filter(|(_, id)| self.manifest.resource(id).is_some_and(fits))
                .map(|(at, _)| at)
                .collect()
        };
        let named = |kind: ResourceType, what: &str, shown: &str| -> Result<Set, ProjectError> {
            let parts: Vec<&str> = value.split('.').collect();
            let (package, name) = match parts.as_slice() {
                [name] => ("*", *name),
                [package, name] => (*package, *name),
                _ => {
                    return Err(ProjectError::runtime(format!(
                        "Invalid {what} selector value \"{value}\". {shown} must be of the form ${{{what}_name}} or ${{{what}_package.{what}_name}}"
                    )));
                }
            };
            Ok(keep(&|resource| {
                resource.resource_type() == kind
                    && fnmatch(resource.package_name(), package)
                    && fnmatch(resource.name(), name)
            }))
        };
        Ok(match criterion.method.as_str() {
            "fqn" => keep(&|resource| match resource {
                Resource::Source(_) => false,
                _ => fqn_matches(resource, value),
            }),
            "tag" => keep(&|resource| resource.tags().iter().any(|tag| fnmatch(tag, value))),
            "group" => keep(&|resource| {
                matches!(resource, Resource::Node(_))
                    && resource.config().str("group").is_some_and(|group| fnmatch(group, value))
            }),
            "access" => keep(
                &|resource| matches!(resource, Resource::Node(node) if node.resource_type == ResourceType::Model && node.access.as_str() == value),
            ),
            "source" => {
                let parts: Vec<&str> = value.split('.').collect();
                let (package, source, table) = match parts.as_slice() {
                    [source] => ("*", *source, "*"),
                    [source, table] => ("*", *source, *table),
                    [package, source, table] => (*package, *source, *table),
                    _ => {
                        return Err(ProjectError::runtime(format!(
                            "Invalid source selector value \"{value}\". Sources must be of the form `${{source_name}}`, `${{source_name}}.${{target_name}}`, or `${{package_name}}.${{source_name}}.${{target_name}}"
                        )));
                    }
                };
                keep(&|resource| match resource {
                    Resource::Source(found) => {
                        fnmatch(&found.package_name, package)
                            && fnmatch(&found.source_name, source)
                            && fnmatch(&found.name, table)
                    }
                    _ => false,
                })
            }
            "exposure" => named(ResourceType::Exposure, "exposure", "Exposures")?,
            "unit_test" => named(ResourceType::UnitTest, "unit test", "Unit tests")?,
            "metric" | "semantic_model" | "saved_query" | "function" => Set::new(),
            "path" => {
                let pattern = normal_path(value);
                keep(&|resource| path_matches(resource, &pattern))
            }
            "file" => keep(&|resource| {
                let name = resource.original_file_path().rsplit('/').next().unwrap_or_default();
                let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
                fnmatch(name, value) || fnmatch(stem, value)
            }),
            "package" => {
                let value = if value == "this" { self.project.root.name.as_str() } else { value };
                keep(&|resource| fnmatch(resource.package_name(), value))
            }
            "config" => keep(&|resource| {
                matches!(resource, Resource::Node(_) | Resource::Source(_))
                    && config_matches(&resource.config().0, &criterion.arguments, &criterion.value)
            }),
            "resource_type" => {
                if !RESOURCE_TYPES.contains(&value) {
                    return Err(ProjectError::runtime(format!("Invalid resource_type selector \"{value}\"")));
                }
                keep(&|resource| resource.resource_type().as_str() == value)
            }
            "test_name" => keep(&|resource| match resource {
                Resource::Node(node) => node.test_metadata.as_ref().is_some_and(|test| fnmatch(&test.name, value)),
                Resource::UnitTest(test) => fnmatch(&test.name, value),
                _ => false,
            }),
            "test_type" => {
                let (generic, singular, unit) = match value {
                    "generic" | "schema" => (true, false, false),
                    "data" => (true, true, false),
                    "singular" => (false, true, false),
                    "unit" => (false, false, true),
                    _ => {
                        return Err(ProjectError::runtime(format!(
                            "Invalid test type selector {value}: expected \"generic\", \"singular\", \"unit\", or \"data\""
                        )));
                    }
                };
                keep(&|resource| match resource {
                    Resource::Node(node) if node.resource_type == ResourceType::Test => {
                        if node.test_metadata.is_some() { generic } else { singular }
                    }
                    Resource::UnitTest(_) => unit,
                    _ => false,
                })
            }
            "version" => {
                if !matches!(value, "latest" | "prerelease" | "old" | "none") {
                    return Err(ProjectError::runtime(format!(
                        "Invalid version type selector {value}: expected one of: \"latest\", \"prerelease\", \"old\", or \"none\""
                    )));
                }
                keep(&|resource| match resource {
                    Resource::Node(node) if node.resource_type == ResourceType::Model => version_matches(node, value),
                    _ => false,
                })
            }
            "state" => {
                let Some(change) = StateChange::parse(value, &criterion.arguments) else {
                    return Err(ProjectError::runtime(format!(
                        "Got an invalid selector \"{value}\", expected one of \"{}\"",
                        python_repr(&json!(StateChange::NAMES))
                    )));
                };
                let Some(state) = self.state else {
                    return Err(ProjectError::runtime("Got a state selector method, but no comparison manifest")
                        .hinting("name the folder of the earlier manifest.json: --state DIR"));
                };
                let comparison = state.compare(self.manifest)?;
                keep(&|resource| comparison.matches(resource, change))
            }
            "result" => {
                let matches = self.state.and_then(PreviousState::results).ok_or_else(|| {
                    ProjectError::runtime("No comparison run_results")
                        .hinting("name the folder of the earlier run_results.json: --state DIR")
                })?;
                keep(&|resource| matches.get(resource.unique_id()).is_some_and(|status| status == value))
            }
            "source_status" => {
                let fresher = self.state.map_or_else(
                    || Err(ProjectError::runtime("No previous state comparison freshness results in sources.json")),
                    PreviousState::fresher_sources,
                )?;
                if value != "fresher" {
                    return Ok(Set::new());
                }
                keep(&|resource| fresher.contains(resource.unique_id()))
            }
            other => return Err(ProjectError::runtime(format!("'{other}' is not a valid method name"))),
        })
    }
}

const RESOURCE_TYPES: [&str; 16] = [
    "model",
    "analysis",
    "test",
    "snapshot",
    "operation",
    "seed",
    "rpc",
    "sql_operation",
    "doc",
    "source",
    "macro",
    "exposure",
    "metric",
    "group",
    "saved_query",
    "unit_test",
];

/// `--resource-type` and `--exclude-resource-type` over what the command takes.
fn resource_kinds(arguments: &SelectionArgs, kinds: &[ResourceType]) -> Result<Vec<ResourceType>, ProjectError> {
    let default: Vec<ResourceType> = kinds.iter().copied().filter(|kind| *kind != ResourceType::Analysis).collect();
    let read = |words: &[String]| -> Result<Vec<ResourceType>, ProjectError> {
        let mut out = Vec::new();
        for word in words.iter().flat_map(|word| word.split_whitespace()) {
            match word {
                "all" => out.extend(kinds),
                "default" => out.extend(&default),
                // Kinds that chpipe leaves out select nothing.
                "metric" | "semantic_model" | "saved_query" | "function" => {}
                _ => match kinds.iter().find(|kind| kind.as_str() == word) {
                    Some(kind) => out.push(*kind),
                    None if RESOURCE_TYPES.contains(&word) => {}
                    None => {
                        let known: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                        return Err(ProjectError::runtime(format!("'{word}' is not a resource type"))
                            .hinting(format!("one of: {}, all, default", known.join(", "))));
                    }
                },
            }
        }
        Ok(out)
    };
    let included = if arguments.resource_type.is_empty() { default.clone() } else { read(&arguments.resource_type)? };
    let excluded = read(&arguments.exclude_resource_type)?;
    Ok(included.into_iter().filter(|kind| !excluded.contains(kind)).collect())
}

fn combine(spec: &Spec, mut sets: Vec<Set>) -> Set {
    if sets.is_empty() {
        return Set::new();
    }
    let first = sets.remove(0);
    match spec {
        Spec::Intersection { .. } => sets.into_iter().fold(first, |all, set| &all & &set),
        Spec::Difference { .. } => sets.into_iter().fold(first, |all, set| &all - &set),
        Spec::Union { .. } | Spec::Criterion(_) => sets.into_iter().fold(first, |all, set| &all | &set),
    }
}

/// `a b,c`: a, and what b and c share.
fn union(
    raw: &[String],
    indirect: IndirectSelection,
    expect: bool,
    definitions: &Definitions,
) -> Result<Spec, ProjectError> {
    let mut parts = Vec::new();
    for word in raw.iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty()) {
        let criteria =
            word.split(',').map(|part| single(part, indirect, definitions)).collect::<Result<Vec<_>, _>>()?;
        parts.push(Spec::Intersection { parts: criteria, indirect, raw: expect.then(|| word.to_owned()) });
    }
    Ok(Spec::Union { parts, indirect })
}

/// The pieces of `@2+method:value+3`, as texts.
struct Pieces<'t> {
    childrens_parents: bool,
    parents: Option<&'t str>,
    method: Option<&'t str>,
    value: &'t str,
    children: Option<&'t str>,
}

/// `\A(@)?((\d*)\+)?(([\w.]+):)?(.*?)(\+(\d*))?\Z`
fn pieces(raw: &str) -> Pieces<'_> {
    let (childrens_parents, rest) = raw.strip_prefix('@').map_or((false, raw), |rest| (true, rest));
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (parents, rest) = match rest[digits..].strip_prefix('+') {
        Some(after) => (Some(&rest[..digits]), after),
        None => (None, rest),
    };
    let (method, rest) = match rest.split_once(':') {
        Some((method, value))
            if !method.is_empty() && method.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.') =>
        {
            (Some(method), value)
        }
        _ => (None, rest),
    };
    let (value, children) = match rest.rfind('+') {
        Some(at) if rest[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => (&rest[..at], Some(&rest[at + 1..])),
        _ => (rest, None),
    };
    Pieces { childrens_parents, parents, method, value, children }
}

fn single(raw: &str, indirect: IndirectSelection, definitions: &Definitions) -> Result<Spec, ProjectError> {
    let pieces = pieces(raw);
    if pieces.childrens_parents && pieces.children.is_some() {
        return Err(ProjectError::runtime(format!(
            "Invalid node spec {raw} - \"@\" prefix and \"+\" suffix are incompatible"
        )));
    }
    let (method, arguments) = match pieces.method {
        Some(method) => method_parts(method)?,
        None => (default_method(pieces.value).to_owned(), Vec::new()),
    };
    if method == "selector" {
        return definitions.get(pieces.value).cloned().ok_or_else(|| {
            ProjectError::runtime(format!("Existing selector definition for {} not found.", pieces.value))
        });
    }
    Ok(Spec::Criterion(Box::new(Criterion {
        method,
        arguments,
        value: json!(pieces.value),
        childrens_parents: pieces.childrens_parents,
        parents: pieces.parents.map(|depth| depth.parse().ok()),
        children: pieces.children.map(|depth| depth.parse().ok()),
        indirect,
    })))
}

fn method_parts(method: &str) -> Result<(String, Vec<String>), ProjectError> {
    let mut parts = method.split('.').map(str::to_owned);
    let name = parts.next().unwrap_or_default();
    if METHODS.contains(&name.as_str()) {
        return Ok((name, parts.collect()));
    }
    Err(ProjectError::runtime(format!("'{name}' is not a valid method name"))
        .hinting(format!("methods: {}", METHODS.join(", "))))
}

/// A value without a method is a path, a file or a name.
fn default_method(value: &str) -> &'static str {
    let lower = value.to_lowercase();
    if value.contains('/') {
        "path"
    } else if [".sql", ".py", ".csv"].iter().any(|extension| lower.ends_with(extension)) {
        "file"
    } else {
        "fqn"
    }
}

/// selectors.yml, parsed.
struct Definitions {
    specs: IndexMap<String, Spec>,
    default: Option<String>,
}

impl Definitions {
    fn parse(selectors: &Value, indirect: IndirectSelection) -> Result<Self, ProjectError> {
        let mut out = Self { specs: IndexMap::new(), default: None };
        let invalid = |message: String| {
            ProjectError::runtime(format!("Could not read selector file data: Runtime Error\n  {message}"))
        };
        let Some(list) = selectors.get("selectors").and_then(Value::as_array) else { return Ok(out) };
        for selector in list {
            let Some(name) = selector.get("name").and_then(Value::as_str) else {
                return Err(invalid("at path []: 'name' is a required property".into()));
            };
            let Some(definition) = selector.get("definition") else {
                return Err(invalid(format!("selector '{name}': 'definition' is a required property")));
            };
            let spec = out.definition(definition, true, indirect).map_err(|error| match error {
                ProjectError::Runtime { message, .. } => invalid(message),
                other => other,
            })?;
            let is_default = match selector.get("default") {
                Some(Value::Bool(flag)) => *flag,
                Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
                _ => false,
            };
            if is_default {
                if let Some(other) = &out.default {
                    return Err(ProjectError::runtime(format!(
                        "Error when parsing the selector file. Found multiple selectors with `default: true`:{other} and {name}"
                    )));
                }
                out.default = Some(name.to_owned());
            }
            out.specs.insert(name.to_owned(), spec);
        }
        Ok(out)
    }

    fn get(&self, name: &str) -> Option<&Spec> {
        self.specs.get(name)
    }

    fn default(&self) -> Option<&Spec> {
        self.specs.get(self.default.as_ref()?)
    }

    fn names(&self) -> Vec<&String> {
        self.specs.keys().collect()
    }

    fn definition(&self, value: &Value, root: bool, indirect: IndirectSelection) -> Result<Spec, ProjectError> {
        let map = match value {
            Value::String(text) => return single(text, indirect, self),
            Value::Object(map) => map,
            other => {
                return Err(ProjectError::runtime(format!(
                    "Expected to find union, intersection, str or dict, instead found {}",
                    python_repr(other)
                )));
            }
        };
        if root && map.len() > 1 && (map.contains_key("union") || map.contains_key("intersection")) {
            let keys: Vec<&str> = map.keys().map(String::as_str).collect();
            return Err(ProjectError::runtime(format!(
                "Only a single 'union' or 'intersection' key is allowed in a root level selector definition; found {}.",
                keys.join(",")
            )));
        }
        for key in ["union", "intersection"] {
            let Some(items) = map.get(key) else { continue };
            let Some(items) = items.as_array() else {
                return Err(ProjectError::runtime(format!("Invalid value for key \"{key}\". Expected a list.")));
            };
            let mut parts = Vec::new();
            let mut excluded = None;
            for item in items {
                if item.get("exclude").is_some() && item.as_object().is_some_and(|map| map.len() == 1) {
                    if excluded.is_some() {
                        return Err(ProjectError::runtime(
                            "You cannot provide multiple exclude arguments to the same selector set operator",
                        ));
                    }
                    excluded = Some(self.exclusions(item, indirect)?);
                } else {
                    parts.push(self.definition(item, false, indirect)?);
                }
            }
            let spec = if key == "union" {
                Spec::Union { parts, indirect }
            } else {
                Spec::Intersection { parts, indirect, raw: None }
            };
            return Ok(match excluded {
                Some(excluded) => Spec::Difference { parts: vec![spec, excluded], indirect },
                None => spec,
            });
        }
        self.dictionary(map, indirect)
    }

    fn dictionary(&self, map: &Map<String, Value>, indirect: IndirectSelection) -> Result<Spec, ProjectError> {
        let (method, value) = match (map.get("method").and_then(Value::as_str), map.get("value")) {
            (Some("selector"), Some(Value::String(name))) => {
                return self.get(name).cloned().ok_or_else(|| {
                    ProjectError::runtime(format!("Existing selector definition for {name} not found."))
                });
            }
            (Some(method), Some(value)) => (method.to_owned(), value.clone()),
            _ => match (map.len(), map.iter().next()) {
                (1, Some((method, value))) => (method.clone(), value.clone()),
                _ => {
                    let keys: Vec<&String> = map.keys().collect();
                    return Err(ProjectError::runtime(format!(
                        "Expected either 1 key or else \"method\" and \"value\" keys, but got {}",
                        python_repr(&json!(keys))
                    )));
                }
            },
        };
        let (method, arguments) = method_parts(&method)?;
        let flag = |key: &str| map.get(key).is_some_and(|value| value == &Value::Bool(true));
        let depth = |key: &str| map.get(key).and_then(Value::as_u64).and_then(|depth| usize::try_from(depth).ok());
        let indirect = match map.get("indirect_selection").and_then(Value::as_str) {
            Some("eager") => IndirectSelection::Eager,
            Some("cautious") => IndirectSelection::Cautious,
            Some("buildable") => IndirectSelection::Buildable,
            Some("empty") => IndirectSelection::Empty,
            _ => indirect,
        };
        if flag("children") && flag("childrens_parents") {
            return Err(ProjectError::runtime(format!(
                "Invalid node spec {} - \"@\" prefix and \"+\" suffix are incompatible",
                python_repr(&Value::Object(map.clone()))
            )));
        }
        let base = Spec::Criterion(Box::new(Criterion {
            method,
            arguments,
            value,
            childrens_parents: flag("childrens_parents"),
            parents: flag("parents").then(|| depth("parents_depth")),
            children: flag("children").then(|| depth("children_depth")),
            indirect,
        }));
        if map.contains_key("exclude") {
            let excluded = self.exclusions(&Value::Object(map.clone()), indirect)?;
            return Ok(Spec::Difference { parts: vec![base, excluded], indirect });
        }
        Ok(base)
    }

    fn exclusions(&self, value: &Value, indirect: IndirectSelection) -> Result<Spec, ProjectError> {
        let Some(items) = value.get("exclude").and_then(Value::as_array) else {
            return Err(ProjectError::runtime("Invalid value for key \"exclude\". Expected a list."));
        };
        let parts = items.iter().map(|item| self.definition(item, false, indirect)).collect::<Result<Vec<_>, _>>()?;
        Ok(Spec::Union { parts, indirect })
    }
}

/// `selectors` of manifest.json: strings written out as mappings.
pub(super) fn manifest_selectors(selectors: &Value) -> Result<IndexMap<String, Value>, ProjectError> {
    // Also says early what is wrong with the file.
    Definitions::parse(selectors, IndirectSelection::Eager)?;
    let mut out: IndexMap<String, Value> = IndexMap::new();
    for selector in selectors.get("selectors").and_then(Value::as_array).into_iter().flatten() {
        let (Value::Object(map), Some(name)) = (selector, selector.get("name").and_then(Value::as_str)) else {
            continue;
        };
        let mut shown = map.clone();
        if let Some(definition) = map.get("definition") {
            shown.insert("definition".into(), written_out(definition, &out));
        }
        out.insert(name.to_owned(), Value::Object(shown));
    }
    Ok(out)
}

fn written_out(definition: &Value, known: &IndexMap<String, Value>) -> Value {
    match definition {
        Value::String(text) => from_text(text),
        Value::Object(map) => {
            for key in ["union", "intersection"] {
                if let Some(Value::Array(items)) = map.get(key) {
                    let items: Vec<Value> = items.iter().map(|item| written_out(item, known)).collect();
                    return json!({ key: items });
                }
            }
            if map.get("method").and_then(Value::as_str) == Some("selector")
                && let Some(found) = map.get("value").and_then(Value::as_str).and_then(|name| known.get(name))
            {
                return found.get("definition").cloned().unwrap_or_default();
            }
            match (map.len(), map.iter().next()) {
                (1, Some((key, Value::Array(items)))) if key == "exclude" => {
                    json!({"exclude": items.iter().map(|item| written_out(item, known)).collect::<Vec<_>>()})
                }
                (1, Some((key, value))) => json!({"method": key, "value": value}),
                _ => definition.clone(),
            }
        }
        other => other.clone(),
    }
}

fn from_text(text: &str) -> Value {
    let pieces = pieces(text);
    let mut map = BTreeMap::new();
    if pieces.childrens_parents {
        map.insert("childrens_parents", json!(true));
    }
    if let Some(depth) = pieces.parents {
        map.insert("parents", json!(true));
        if !depth.is_empty() {
            map.insert("parents_depth", json!(depth));
        }
    }
    map.insert("method", json!(pieces.method.unwrap_or_else(|| default_method(pieces.value))));
    if !pieces.value.is_empty() {
        map.insert("value", json!(pieces.value));
    }
    if let Some(depth) = pieces.children {
        map.insert("children", json!(true));
        if !depth.is_empty() {
            map.insert("children_depth", json!(depth));
        }
    }
    json!(map)
}

/// By the whole path of names, with or without the package, or by the last name alone.
fn fqn_matches(resource: Resource<'_>, selector: &str) -> bool {
    let versioned = match resource {
        Resource::Node(node) => node.version.is_some(),
        Resource::UnitTest(test) => test.version.is_some(),
        _ => false,
    };
    let fqn = resource.fqn();
    names_match(fqn, selector, versioned) || (!fqn.is_empty() && names_match(&fqn[1..], selector, versioned))
}

fn names_match(fqn: &[String], selector: &str, versioned: bool) -> bool {
    let Some(last) = fqn.last() else { return false };
    let leaf = if versioned && fqn.len() > 1 { &fqn[fqn.len() - 2] } else { last };
    let parts: Vec<&str> = selector.split('.').collect();
    if leaf == selector {
        return true;
    }
    if versioned {
        let end = |parts: &[&str]| parts[parts.len().saturating_sub(2)..].join("_");
        let own: Vec<&str> = fqn.iter().map(String::as_str).collect();
        if end(&own) == end(&parts) {
            return true;
        }
    }
    let flat: Vec<&str> = fqn.iter().flat_map(|segment| segment.split('.')).collect();
    if flat.len() < parts.len() {
        return false;
    }
    for (at, part) in parts.iter().enumerate() {
        if part.contains(['*', '?', '[', ']']) {
            return fnmatch(&flat[at..].join("."), &parts[at..].join("."))
                || (parts.len() == 1 && fnmatch(leaf, selector));
        }
        if flat[at] != *part {
            return false;
        }
    }
    true
}

/// Without `./` and a slash at the end.
fn normal_path(value: &str) -> String {
    let value = value.trim_start_matches("./").trim_end_matches('/');
    value.to_owned()
}

/// The file, its properties file, or a folder above it.
fn path_matches(resource: Resource<'_>, pattern: &str) -> bool {
    let own = resource.original_file_path().trim_start_matches("./");
    let fits = |path: &str| path_glob(path, pattern);
    if fits(own) {
        return true;
    }
    let patch = match resource {
        Resource::Node(node) => {
            node.patch_path.as_deref().and_then(|patch| patch.split_once("://")).map(|(_, path)| path)
        }
        _ => None,
    };
    if patch.is_some_and(fits) {
        return true;
    }
    let mut parent = own;
    while let Some((folder, _)) = parent.rsplit_once('/') {
        if fits(folder) {
            return true;
        }
        parent = folder;
    }
    false
}

/// Python's `Path.glob`: `*` stays within a folder, `**` does not.
fn path_glob(path: &str, pattern: &str) -> bool {
    fn segments(path: &[&str], pattern: &[&str]) -> bool {
        match pattern {
            [] => path.is_empty(),
            ["**", rest @ ..] => (0..=path.len()).any(|skip| segments(&path[skip..], rest)),
            [first, rest @ ..] => {
                path.split_first().is_some_and(|(name, below)| fnmatch(name, first) && segments(below, rest))
            }
        }
    }
    let path: Vec<&str> = path.split('/').collect();
    let pattern: Vec<&str> = pattern.split('/').collect();
    segments(&path, &pattern)
}

fn config_matches(config: &Map<String, Value>, keys: &[String], wanted: &Value) -> bool {
    let mut value: Option<&Value> = None;
    for (depth, key) in keys.iter().enumerate() {
        let next = if depth == 0 { config.get(key) } else { value.and_then(|value| value.get(key)) };
        match next {
            Some(found) => value = Some(found),
            None => return false,
        }
    }
    let insensitive = keys.len() == 1 && keys[0] == "severity";
    let same = |value: &Value| match (value, wanted) {
        (Value::String(a), Value::String(b)) if insensitive => a.eq_ignore_ascii_case(b),
        (Value::Bool(flag), Value::String(text)) => text.eq_ignore_ascii_case(if *flag { "true" } else { "false" }),
        (value, wanted) => value == wanted,
    };
    match value {
        // A mapping is "in" by its keys only for lists, as in dbt.
        Some(Value::Array(items)) => items.iter().any(same),
        Some(value) => same(value),
        None => false,
    }
}

fn version_matches(node: &super::Node, wanted: &str) -> bool {
    let compare = || -> Option<std::cmp::Ordering> {
        let (version, latest) = (version_text(node.version.as_ref()?), version_text(node.latest_version.as_ref()?));
        match (version.parse::<f64>(), latest.parse::<f64>()) {
            (Ok(version), Ok(latest)) => version.partial_cmp(&latest),
            _ => Some(version.cmp(&latest)),
        }
    };
    match wanted {
        "none" => node.version.is_none(),
        "latest" => node.version.is_some() && is_latest(node),
        "prerelease" => compare() == Some(std::cmp::Ordering::Greater),
        _ => compare() == Some(std::cmp::Ordering::Less),
    }
}

/// Python's `fnmatch`: `*` any characters, `?` one, `[…]` one of a set, `[!…]` one not of it.
fn fnmatch(text: &str, pattern: &str) -> bool {
    if !pattern.contains(['*', '?', '[']) {
        return text == pattern;
    }
    fn matches(text: &[char], pattern: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|skip| matches(&text[skip..], rest)),
            ['?', rest @ ..] => !text.is_empty() && matches(&text[1..], rest),
            ['[', rest @ ..] => {
                let start = usize::from(rest.first() == Some(&'!'));
                // A bracket that stands first belongs to the set.
                let close = rest.iter().skip(start + 1).position(|&c| c == ']').map(|at| at + start + 1);
                let (Some(close), Some((&first, below))) = (close, text.split_first()) else {
                    return close.is_none() && text.first() == Some(&'[') && matches(&text[1..], rest);
                };
                let set = &rest[start..close];
                let mut found = false;
                let mut at = 0;
                while at < set.len() {
                    if at + 2 < set.len() && set[at + 1] == '-' {
                        found |= (set[at]..=set[at + 2]).contains(&first);
                        at += 3;
                    } else {
                        found |= set[at] == first;
                        at += 1;
                    }
                }
                found != (start == 1) && matches(below, &rest[close + 1..])
            }
            [c, rest @ ..] => text.first() == Some(c) && matches(&text[1..], rest),
        }
    }
    matches(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_come_apart() {
        type Shown<'a> = (bool, Option<&'a str>, Option<&'a str>, &'a str, Option<&'a str>);
        let cases: [(&str, Shown<'_>); 9] = [
            ("a", (false, None, None, "a", None)),
            ("+a", (false, Some(""), None, "a", None)),
            ("a+", (false, None, None, "a", Some(""))),
            ("2+a+3", (false, Some("2"), None, "a", Some("3"))),
            ("@tag:x", (true, None, Some("tag"), "x", None)),
            ("config.materialized:view", (false, None, Some("config.materialized"), "view", None)),
            ("+source:raw.t+1", (false, Some(""), Some("source"), "raw.t", Some("1"))),
            ("2a", (false, None, None, "2a", None)),
            ("path:models/a b.sql", (false, None, Some("path"), "models/a b.sql", None)),
        ];
        for (raw, (at, parents, method, value, children)) in cases {
            let found = pieces(raw);
            assert_eq!(
                (found.childrens_parents, found.parents, found.method, found.value, found.children),
                (at, parents, method, value, children),
                "{raw}"
            );
        }
    }

    #[test]
    fn fnmatch_is_pythons() {
        for (text, pattern, expected) in [
            ("abc", "a*", true),
            ("abc", "a?c", true),
            ("abc", "a[bx]c", true),
            ("abc", "a[!b]c", false),
            ("abc", "[a-c]bc", true),
            ("a[c", "a[c", true),
            ("abc", "*z", false),
            ("", "*", true),
        ] {
            assert_eq!(fnmatch(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn names_match_by_leaf_and_by_path() {
        let fqn: Vec<String> = ["pkg", "staging", "stg_a"].map(str::to_owned).to_vec();
        let fits = |selector: &str| names_match(&fqn, selector, false) || names_match(&fqn[1..], selector, false);
        for selector in ["stg_a", "staging", "pkg", "pkg.staging", "staging.stg_a", "stg_*", "*", "staging.*", "pkg.*"]
        {
            assert!(fits(selector), "{selector}");
        }
        for selector in ["stg", "stg_a.x", "other", "staging.stg_b"] {
            assert!(!fits(selector), "{selector}");
        }
    }

    #[test]
    fn versions_match_with_dot_and_underscore() {
        let fqn: Vec<String> = ["pkg", "m", "v2"].map(str::to_owned).to_vec();
        for selector in ["m", "m.v2", "m_v2", "pkg.m.v2"] {
            assert!(names_match(&fqn, selector, true), "{selector}");
        }
        assert!(!names_match(&fqn, "m.v1", true));
    }

    #[test]
    fn paths_match_files_and_folders() {
        assert!(path_glob("models/a/b.sql", "models/**/b.sql"));
        assert!(path_glob("models/a", "models/*"));
        assert!(!path_glob("models/a/b.sql", "models/*.sql"));
    }
}
