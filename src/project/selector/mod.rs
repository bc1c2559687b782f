//! dbt's selection grammar: `tag:daily+1,config.materialized:table`, `@model`, selectors.yml, indirect selection of tests,
//! `state:`, `result:`. In: arguments and a manifest with its graph; out: unique ids. Pure but for `path:`, which looks at
//! no file either: it matches the paths the manifest knows.
//! <https://docs.getdbt.com/reference/node-selection/syntax>

mod grammar;
mod methods;

use std::collections::BTreeSet;

use serde_json::json;

use self::grammar::{Criterion, Definitions, Spec, union};
use super::{
    Graph, Manifest, Project, ProjectError, Resource, ResourceType, Workspace, package::python_repr,
    state::PreviousState,
};
use crate::cli::{IndirectSelection, SelectionArgs};

pub(super) use self::grammar::manifest_selectors;

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
