//! dbt_project.yml of the root project or of a package: read, rendered, checked. In: a folder and the contexts its Jinja
//! sees; out: a [`Package`]. It reads no other file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use indexmap::IndexMap;
use regex::Regex;
use serde_json::{Map, Value};

use super::{ProjectError, ResourceType, Yaml, YamlKind, config_rules, semver};
use crate::{
    error::Location,
    render::{YamlContext, render_yaml},
};

/// The version of dbt whose behaviour this is: for `require-dbt-version`, `dbt_version` and manifest.json.
pub const DBT_VERSION: &str = "1.11.16";

/// The name of the file.
pub const PROJECT_FILE: &str = "dbt_project.yml";

/// One dbt_project.yml.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: String,
    pub version: Option<String>,
    /// Its folder, absolute.
    pub root: PathBuf,
    /// Unrendered.
    pub profile: Option<String>,
    pub model_paths: Vec<String>,
    pub macro_paths: Vec<String>,
    pub seed_paths: Vec<String>,
    pub test_paths: Vec<String>,
    pub analysis_paths: Vec<String>,
    pub snapshot_paths: Vec<String>,
    pub docs_paths: Vec<String>,
    pub asset_paths: Vec<String>,
    pub target_path: Option<String>,
    pub clean_targets: Option<Vec<String>>,
    pub packages_install_path: String,
    pub on_run_start: Vec<String>,
    pub on_run_end: Vec<String>,
    /// As written; Jinja in it is not rendered.
    pub vars: Map<String, Value>,
    /// Macro namespace to search order.
    pub dispatch: IndexMap<String, Vec<String>>,
    pub quoting: Map<String, Value>,
    /// `None`: not written, so dbt's default comment.
    pub query_comment: Option<Value>,
    pub flags: Map<String, Value>,
    pub restrict_access: bool,
    pub require_dbt_version: Vec<String>,
    /// `models`, `seeds`, …: rendered, and as written.
    sections: HashMap<&'static str, Map<String, Value>>,
    unrendered: HashMap<&'static str, Map<String, Value>>,
    /// sha256 of the file's text: the checksum of hooks.
    pub(super) file_hash: String,
    /// The file's tree, for the lines of later complaints.
    pub(super) tree: Yaml,
}

const SECTIONS: [&str; 7] = ["models", "seeds", "snapshots", "sources", "data_tests", "exposures", "unit_tests"];

/// Every top-level key of dbt 1.11, the ones without a meaning for ClickHouse included.
const KNOWN_KEYS: [&str; 46] = [
    "name",
    "version",
    "config-version",
    "project-root",
    "source-paths",
    "model-paths",
    "macro-paths",
    "data-paths",
    "seed-paths",
    "test-paths",
    "analysis-paths",
    "docs-paths",
    "asset-paths",
    "target-path",
    "snapshot-paths",
    "function-paths",
    "clean-targets",
    "profile",
    "log-path",
    "packages-install-path",
    "quoting",
    "on-run-start",
    "on-run-end",
    "require-dbt-version",
    "dispatch",
    "models",
    "seeds",
    "snapshots",
    "analyses",
    "sources",
    "tests",
    "data_tests",
    "unit_tests",
    "metrics",
    "semantic-models",
    "semantic_models",
    "saved-queries",
    "saved_queries",
    "exposures",
    "functions",
    "vars",
    "packages",
    "query-comment",
    "restrict-access",
    "dbt-cloud",
    "flags",
];

impl Package {
    /// Reads the file in `root`.
    ///
    /// # Errors
    /// The file is missing or invalid, with its line; it wants another version of dbt.
    pub(super) fn load(root: &Path, context: &YamlContext) -> Result<Self, ProjectError> {
        let path = root.join(PROJECT_FILE);
        let text = fs_err::read_to_string(&path).map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                ProjectError::runtime(format!("No dbt_project.yml found at expected path {}", path.display())).hinting(
                    "run chpipe in the folder of dbt_project.yml, or name it with --project-dir; packages are installed with `chpipe deps`",
                )
            } else {
                ProjectError::io(&path, source)
            }
        })?;
        let tree = Yaml::parse(&text, &path)?;
        Self::from_tree(root, tree, &path, &text, context)
    }

    fn from_tree(
        root: &Path,
        mut tree: Yaml,
        path: &Path,
        text: &str,
        context: &YamlContext,
    ) -> Result<Self, ProjectError> {
        let reader = Reader { path, text };
        let YamlKind::Map(entries) = &mut tree.kind else {
            return Err(
                ProjectError::runtime("dbt_project.yml does not parse to a dictionary").at(Location::file(path))
            );
        };
        // dbt's old name of the section.
        if !entries.iter().any(|(key, _)| key.as_str() == Some("data_tests")) {
            for (key, _) in entries.iter_mut().filter(|(key, _)| key.as_str() == Some("tests")) {
                key.kind = YamlKind::String("data_tests".into());
            }
        }
        let written = tree.to_json();
        let require_dbt_version = required_versions(&written);
        let Some(name) = tree.get("name").and_then(Yaml::as_str) else {
            let place = tree.key("name").map_or_else(|| Location::file(path), |key| key.location(path, Some(text)));
            return Err(ProjectError::runtime("Required \"name\" field not present in project").at(place));
        };
        check_version(name, &require_dbt_version).map_err(|error| match tree.key("require-dbt-version") {
            Some(key) => error.at(key.location(path, Some(text))),
            None => error,
        })?;
        let (rendered, _) = render_yaml(&written, context, &keeps_jinja).map_err(|error| {
            ProjectError::compilation(error.message.clone())
                .at(error.location().cloned().unwrap_or(Location::file(path)))
        })?;
        let (Value::Object(rendered), Value::Object(written)) = (rendered, written) else {
            return Err(
                ProjectError::runtime("dbt_project.yml does not parse to a dictionary").at(Location::file(path))
            );
        };
        reader.check_name(&tree, name)?;
        for (old, new) in [("source-paths", "model-paths"), ("data-paths", "seed-paths")] {
            if tree.get(old).is_some() && tree.get(new).is_some() {
                return Err(reader.error(
                    &tree,
                    old,
                    format!(
                        "{old} and {new} cannot both be defined. The `{old}` config has been deprecated in favor of `{new}`. Please update your `dbt_project.yml` configuration to reflect this change."
                    ),
                ));
            }
        }
        for (key, _) in tree.as_map().unwrap_or_default() {
            let Some(name) = key.as_str() else { continue };
            if !KNOWN_KEYS.contains(&name) {
                return Err(reader.error(
                    &tree,
                    name,
                    format!("at path []: Additional properties are not allowed ('{name}' was unexpected)"),
                ));
            }
        }
        let mut sections = HashMap::new();
        let mut unrendered = HashMap::new();
        for section in SECTIONS {
            if let Some(config) = reader.mapping(&tree, &rendered, section)? {
                sections.insert(section, config);
            }
            if let Some(config) = written.get(section).and_then(Value::as_object) {
                unrendered.insert(section, config.clone());
            }
        }
        let paths = |key: &str, default: &[&str]| reader.texts(&tree, &rendered, key, default);
        let model_paths = match rendered.get("model-paths").or(rendered.get("source-paths")) {
            Some(Value::Null) | None => vec!["models".to_owned()],
            _ if rendered.contains_key("model-paths") => paths("model-paths", &["models"])?,
            _ => paths("source-paths", &["models"])?,
        };
        let seed_paths = if rendered.contains_key("data-paths") && !rendered.contains_key("seed-paths") {
            paths("data-paths", &["seeds"])?
        } else {
            paths("seed-paths", &["seeds"])?
        };
        let macro_paths = paths("macro-paths", &["macros"])?;
        let test_paths = paths("test-paths", &["tests"])?;
        let analysis_paths = paths("analysis-paths", &["analyses"])?;
        let snapshot_paths = paths("snapshot-paths", &["snapshots"])?;
        let docs_paths = if rendered.get("docs-paths").is_some_and(|value| !value.is_null()) {
            paths("docs-paths", &[])?
        } else {
            let mut all: Vec<String> = Vec::new();
            for path in [&model_paths, &seed_paths, &snapshot_paths, &analysis_paths, &macro_paths, &test_paths]
                .into_iter()
                .flatten()
            {
                let path = path.trim_end_matches('/').to_owned();
                if !all.contains(&path) {
                    all.push(path);
                }
            }
            all
        };
        let text_of = |key: &str| rendered.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            name: name.to_owned(),
            version: rendered.get("version").filter(|version| !version.is_null()).map(super::node::version_text),
            root: root.to_owned(),
            profile: written.get("profile").and_then(Value::as_str).map(str::to_owned),
            model_paths,
            macro_paths,
            seed_paths,
            test_paths,
            analysis_paths,
            snapshot_paths,
            docs_paths,
            asset_paths: paths("asset-paths", &[])?,
            target_path: text_of("target-path"),
            clean_targets: match rendered.get("clean-targets") {
                Some(Value::Array(_)) => Some(paths("clean-targets", &[])?),
                _ => None,
            },
            packages_install_path: text_of("packages-install-path").unwrap_or_else(|| "dbt_packages".into()),
            on_run_start: reader.texts_or_text(&tree, &rendered, "on-run-start")?,
            on_run_end: reader.texts_or_text(&tree, &rendered, "on-run-end")?,
            vars: reader.mapping(&tree, &rendered, "vars")?.unwrap_or_default(),
            dispatch: reader.dispatch(&tree, &rendered)?,
            quoting: reader.mapping(&tree, &rendered, "quoting")?.unwrap_or_default(),
            query_comment: rendered.get("query-comment").cloned(),
            flags: reader.mapping(&tree, &rendered, "flags")?.unwrap_or_default(),
            restrict_access: rendered.get("restrict-access").and_then(Value::as_bool).unwrap_or(false),
            require_dbt_version,
            sections,
            unrendered,
            file_hash: super::parse::sha256(text.trim()),
            tree,
        })
    }

    /// The section for a kind of resource, rendered.
    pub(super) fn section(&self, kind: ResourceType) -> Option<&Map<String, Value>> {
        self.sections.get(config_rules::section(kind))
    }

    /// The section as written.
    pub(super) fn unrendered_section(&self, kind: ResourceType) -> Option<&Map<String, Value>> {
        self.unrendered.get(config_rules::section(kind))
    }

    /// The variables that this dbt_project.yml gives to a package: its own block over the general ones.
    pub(super) fn vars_for(&self, package: &str) -> Map<String, Value> {
        let mut vars = self.vars.clone();
        if let Some(Value::Object(own)) = self.vars.get(package) {
            vars.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        vars
    }
}

/// The paths of keys whose Jinja is rendered later: hooks, `vars`, the query comment.
fn keeps_jinja(path: &[String]) -> bool {
    let Some(first) = path.first() else { return false };
    match first.as_str() {
        "on-run-start" | "on-run-end" | "query-comment" | "vars" => true,
        "seeds" | "models" | "snapshots" | "tests" | "data_tests" => path.iter().any(|key| {
            matches!(key.trim_start_matches(['+', ' ']), "pre-hook" | "post-hook" | "pre_hook" | "post_hook")
        }),
        _ => false,
    }
}

fn required_versions(project: &Value) -> Vec<String> {
    match project.get("require-dbt-version") {
        Some(Value::String(text)) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn check_version(name: &str, required: &[String]) -> Result<(), ProjectError> {
    for version in required {
        let matches = semver::matches(DBT_VERSION, version)
            .map_err(|()| ProjectError::runtime(format!("\"{version}\" is not a valid semantic version.")))?;
        if !matches {
            let list = required.iter().map(|version| format!("'{version}'")).collect::<Vec<_>>().join(", ");
            return Err(ProjectError::runtime(format!(
                "This version of dbt is not supported with the '{name}' package.\n  Installed version of dbt: ={DBT_VERSION}\n  Required version of dbt for '{name}': [{list}]\nCheck for a different version of the '{name}' package, or change `require-dbt-version`"
            )));
        }
    }
    Ok(())
}

/// Takes values out of the rendered file and complains with the line they were written on.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, tree: &Yaml, key: &str, message: String) -> ProjectError {
        let place =
            tree.key(key).map_or_else(|| Location::file(self.path), |key| key.location(self.path, Some(self.text)));
        ProjectError::runtime(message).at(place)
    }

    fn check_name(&self, tree: &Yaml, name: &str) -> Result<(), ProjectError> {
        static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}_]\w*$").ok());
        if NAME.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
            return Ok(());
        }
        Err(self
            .error(tree, "name", format!("at path ['name']: '{name}' does not match '^[^\\\\d\\\\W]\\\\w*$'"))
            .hinting("use letters, digits and underscores"))
    }

    fn mapping(
        &self,
        tree: &Yaml,
        rendered: &Map<String, Value>,
        key: &str,
    ) -> Result<Option<Map<String, Value>>, ProjectError> {
        match rendered.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(other) => {
                Err(self.error(tree, key, format!("at path ['{key}']: {} is not of type 'object'", python_repr(other))))
            }
        }
    }

    fn texts(
        &self,
        tree: &Yaml,
        rendered: &Map<String, Value>,
        key: &str,
        default: &[&str],
    ) -> Result<Vec<String>, ProjectError> {
        match rendered.get(key) {
            None | Some(Value::Null) => Ok(default.iter().map(|&text| text.to_owned()).collect()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| {
                        self.error(
                            tree,
                            key,
                            format!("at path ['{key}']: {} is not of type 'string'", python_repr(item)),
                        )
                    })
                })
                .collect(),
            Some(other) => {
                Err(self.error(tree, key, format!("at path ['{key}']: {} is not of type 'array'", python_repr(other))))
            }
        }
    }

    fn texts_or_text(
        &self,
        tree: &Yaml,
        rendered: &Map<String, Value>,
        key: &str,
    ) -> Result<Vec<String>, ProjectError> {
        match rendered.get(key) {
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            _ => self.texts(tree, rendered, key, &[]),
        }
    }

    fn dispatch(
        &self,
        tree: &Yaml,
        rendered: &Map<String, Value>,
    ) -> Result<IndexMap<String, Vec<String>>, ProjectError> {
        let mut dispatch = IndexMap::new();
        let entries = match rendered.get("dispatch") {
            None | Some(Value::Null) => return Ok(dispatch),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(self.error(tree, "dispatch", "dispatch must be a list".into())),
        };
        for entry in entries {
            let namespace = entry.get("macro_namespace").and_then(Value::as_str);
            let order = entry.get("search_order").and_then(Value::as_array);
            let (Some(namespace), Some(order)) = (namespace, order) else {
                return Err(self.error(
                    tree,
                    "dispatch",
                    format!("Invalid project dispatch config: {}", python_repr(entry)),
                ));
            };
            dispatch.insert(namespace.into(), order.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        }
        Ok(dispatch)
    }
}

/// A value as Python prints it: dbt's messages quote values so, and test ids hash them so.
pub(super) fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => python_number(number),
        Value::String(text) => python_string(text),
        Value::Array(items) => format!("[{}]", items.iter().map(python_repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => format!(
            "{{{}}}",
            map.iter()
                .map(|(key, value)| format!("{}: {}", python_string(key), python_repr(value)))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// `str(value)` of Python.
pub(super) fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

fn python_number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => python_float(float),
        _ => number.to_string(),
    }
}

/// Python prints the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn python_float(float: f64) -> String {
    if float != 0.0 && (float.abs() < 1e-4 || float.abs() >= 1e16) {
        let text = format!("{float:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = format!("{float}");
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn python_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Test ids hash Python's repr, so it has to be the same to the letter.
    #[test]
    fn values_print_as_python_does() {
        let cases = [
            (json!(null), "None"),
            (json!(true), "True"),
            (json!(1.0), "1.0"),
            (json!(0.00001), "1e-05"),
            (json!(1e16), "1e+16"),
            (json!(123456.789), "123456.789"),
            (json!("a'b"), "\"a'b\""),
            (json!("a'b\"c"), "'a\\'b\"c'"),
            (json!("a\nb\\"), "'a\\nb\\\\'"),
            (json!({"a": [1, "x"]}), "{'a': [1, 'x']}"),
        ];
        for (value, text) in cases {
            assert_eq!(python_repr(&value), text);
        }
    }
}
