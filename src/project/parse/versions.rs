//! Versions of a model in properties files: which file defines each, and what it changes of the model's entry. In: a model's
//! entry; out: an entry for every version.

use serde_json::{Map, Value};

use super::{
    nodes,
    properties::{self, Entry},
};
use crate::project::{
    ProjectError,
    package::{python_repr, python_str},
};

/// One version of a model.
pub(super) struct VersionPatch<'e> {
    pub(super) patch: nodes::Patch<'e>,
    /// Names of files that may define it, the likeliest first.
    pub(super) files: Vec<String>,
    /// The version's tests, or the model's.
    pub(super) tests: Vec<Value>,
}

/// The versions of a model entry.
pub(super) fn versions<'e>(entry: &'e Entry<'e>) -> Result<Vec<VersionPatch<'e>>, ProjectError> {
    let items = entry.list("versions")?;
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let base = nodes::patch(entry)?;
    let mut values = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = || entry.locate(&["versions", &index.to_string()]);
        let Some(version) = item.get("v").filter(|version| version.is_string() || version.is_number()) else {
            return Err(ProjectError::parsing(format!(
                "Invalid models config given in {} @ models: '{}' - at path ['versions'][{index}]: 'v' is a required property",
                entry.file.original, entry.name
            ))
            .at(place()));
        };
        if values.iter().any(|known| python_str(known) == python_str(version)) {
            return Err(ProjectError::parsing(format!(
                "Found duplicate version: '{}' in versions list of model '{}'",
                python_str(version),
                entry.name
            ))
            .at(place()));
        }
        values.push(version.clone());
    }
    let latest = match entry.value.get("latest_version").filter(|latest| !latest.is_null()) {
        Some(latest) if values.contains(latest) => latest.clone(),
        Some(latest) => {
            return Err(ProjectError::parsing(format!(
                "latest_version: {} is not one of model '{}' versions: {} ",
                python_str(latest),
                entry.name,
                python_repr(&Value::Array(values))
            ))
            .at(entry.location(Some("latest_version"))));
        }
        None => highest(&values).clone(),
    };
    let mut out = Vec::new();
    for (item, version) in items.iter().zip(&values) {
        let Value::Object(item) = item else { continue };
        let mut patch = base.clone();
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(description) = text("description").filter(|description| !description.is_empty()) {
            patch.description = description;
        }
        let columns = version_columns(entry, item)?;
        patch.columns = properties::columns(entry, &columns)?;
        if let Some(Value::Object(config)) = item.get("config") {
            deep_merge(&mut patch.config, config);
        }
        if let Some(docs) = item.get("docs") {
            patch.config.insert("docs".into(), docs.clone());
        }
        if let Some(access) = text("access") {
            patch.access = Some(access);
        }
        if let Some(constraints) = properties::constraints(item.get("constraints"), true)
            && !constraints.is_empty()
        {
            patch.constraints = constraints;
        }
        patch.deprecation_date = nodes::date(item.get("deprecation_date"));
        patch.version = Some(version.clone());
        patch.latest_version = Some(latest.clone());
        let mut files = vec![text("defined_in").unwrap_or_else(|| format!("{}_v{}", entry.name, python_str(version)))];
        // The latest version may have the plain name.
        if *version == latest {
            files.push(entry.name.clone());
        }
        let tests = match item.get("data_tests") {
            Some(Value::Array(tests)) => tests.clone(),
            _ => entry.list("data_tests")?.to_vec(),
        };
        out.push(VersionPatch { patch, files, tests });
    }
    Ok(out)
}

fn highest(values: &[Value]) -> &Value {
    let number = |value: &Value| python_str(value).parse::<f64>().ok();
    let numeric = values.iter().all(|value| number(value).is_some());
    values
        .iter()
        .max_by(|a, b| {
            if numeric {
                number(a).partial_cmp(&number(b)).unwrap_or(std::cmp::Ordering::Equal)
            } else {
                python_str(a).cmp(&python_str(b))
            }
        })
        .unwrap_or(&Value::Null)
}

/// The columns of a version: those of the model that `include` and `exclude` leave, and its own.
pub(super) fn version_columns(entry: &Entry<'_>, version: &Map<String, Value>) -> Result<Vec<Value>, ProjectError> {
    let base = entry.list("columns")?;
    let own: Vec<&Value> =
        version.get("columns").and_then(Value::as_array).map(|items| items.iter().collect()).unwrap_or_default();
    let rules: Vec<&&Value> = own.iter().filter(|item| item.get("include").is_some()).collect();
    if rules.len() > 1 {
        return Err(ProjectError::parsing("version can have at most one include/exclude element")
            .at(entry.location(Some("versions"))));
    }
    let name = |column: &Value| column.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let includes = |column: &Value| match rules.first() {
        None => true,
        Some(rule) => {
            let included = match rule.get("include") {
                Some(Value::String(all)) => all == "*" || all == "all",
                Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(&name(column))),
                _ => true,
            };
            let excluded = rule
                .get("exclude")
                .and_then(Value::as_array)
                .is_some_and(|items| items.iter().any(|item| item.as_str() == Some(&name(column))));
            included && !excluded
        }
    };
    Ok(base
        .iter()
        .filter(|column| includes(column))
        .cloned()
        .chain(own.iter().filter(|item| item.get("include").is_none()).map(|&item| item.clone()))
        .collect())
}

fn deep_merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => deep_merge(into, from),
            (_, value) => _ = into.insert(key.clone(), value.clone()),
        }
    }
}
