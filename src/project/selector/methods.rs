//! The methods, `tag:` to `source_status:`: which resources one criterion names, before its `+` and `@`. In: a [`Criterion`]
//! and the manifest; out: positions in the graph.

use serde_json::{Map, Value, json};

use super::{RESOURCE_TYPES, Selector, Set, grammar::Criterion};
use crate::project::{
    Node, ProjectError, Resource, ResourceType,
    lookup::is_latest,
    node::version_text,
    package::python_repr,
    state::{PreviousState, StateChange},
};

impl Selector<'_> {
    pub(super) fn matching(&self, criterion: &Criterion) -> Result<Set, ProjectError> {
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

fn version_matches(node: &Node, wanted: &str) -> bool {
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
