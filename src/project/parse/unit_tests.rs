//! Unit tests of properties files: what they are given and what they expect, written out, as CSV or in fixtures. In: entries and
//! the project's files; out: the unit tests, without what they depend on.

use serde_json::{Map, Value, json};

use super::{
    Context,
    files::{FileKind, SourceFile, sha256},
    properties::Entry,
    references,
};
use crate::{
    error::Location,
    project::{
        DependsOn, NodeConfig, ProjectError, ResourceType, UnitTest, UnitTestInput, UnitTestRows,
        package::{python_repr, python_str},
    },
};

/// A unit test; fixtures are read from `files`.
pub(super) fn unit_test(
    context: &Context<'_>,
    entry: &Entry<'_>,
    files: &[SourceFile],
    seed_rows: &dyn Fn(&str) -> Option<Vec<Value>>,
) -> Result<(UnitTest, bool), ProjectError> {
    let package_index = entry.file.package;
    let package = context.packages[package_index];
    let invalid = |reason: &str, key: &str| {
        ProjectError::parsing(format!(
            "Invalid unit_tests config given in {} @ unit_tests: '{}' - {reason}",
            entry.file.original, entry.name
        ))
        .at(entry.location(Some(key)))
    };
    let Some(model) = entry.str("model").map(str::to_owned) else {
        return Err(invalid("at path []: 'model' is a required property", "name"));
    };
    let Some(expect) = entry.map("expect")? else {
        return Err(invalid("at path []: 'expect' is a required property", "name"));
    };
    let below = entry.file.original.split_once('/').map_or("", |(_, below)| below);
    let mut fqn = vec![package.name.clone()];
    if let Some((folders, _)) = below.rsplit_once('/') {
        fqn.extend(folders.split('/').map(str::to_owned));
    }
    fqn.extend([model.clone(), entry.name.clone()]);
    let patch = entry.map("config")?.cloned().unwrap_or_default();
    let (mut config, _) = context.config(ResourceType::UnitTest, package_index, &fqn, &patch, &Map::new());
    if let Some(tag @ Value::String(_)) = config.get_mut("tags") {
        *tag = Value::Array(vec![tag.take()]);
    }
    let reader = RowsReader { context, entry, files, seed_rows };
    let mut given = Vec::new();
    for (index, item) in entry.list("given")?.iter().enumerate() {
        let place = entry.locate(&["given", &index.to_string()]);
        let Some(input) = item.get("input").and_then(Value::as_str) else {
            return Err(invalid("at path ['given']: 'input' is a required property", "given"));
        };
        let rows = reader.rows(item, Some(input), "input", place)?;
        given.push(UnitTestInput { input: input.to_owned(), rows });
    }
    let expect = reader.rows(&Value::Object(expect.clone()), None, "expected", entry.location(Some("expect")))?;
    let overrides = entry.map("overrides")?.map(|written| {
        let mut overrides = Map::new();
        for key in ["macros", "vars", "env_vars"] {
            overrides.insert(key.into(), written.get(key).cloned().unwrap_or_else(|| json!({})));
        }
        overrides
    });
    let versions = entry.value.get("versions").filter(|versions| !versions.is_null()).map(|versions| {
        json!({
            "include": versions.get("include").cloned().unwrap_or(Value::Null),
            "exclude": versions.get("exclude").cloned().unwrap_or(Value::Null),
        })
    });
    let checksum = unit_test_checksum(&model, versions.as_ref(), &given, &expect, overrides.as_ref());
    let config = NodeConfig(config);
    let enabled = config.enabled();
    Ok((
        UnitTest {
            unique_id: format!("unit_test.{}.{model}.{}", package.name, entry.name),
            name: entry.name.clone(),
            package_name: package.name.clone(),
            path: entry.file.relative.clone(),
            original_file_path: entry.file.original.clone(),
            fqn,
            description: entry.description(),
            model,
            given,
            expect,
            overrides,
            depends_on: DependsOn::default(),
            config,
            checksum,
            schema: String::new(),
            versions,
            version: None,
            created_at: context.now,
        },
        enabled,
    ))
}

struct RowsReader<'c, 'e> {
    context: &'c Context<'c>,
    entry: &'c Entry<'e>,
    files: &'c [SourceFile],
    seed_rows: &'c dyn Fn(&str) -> Option<Vec<Value>>,
}

impl RowsReader<'_, '_> {
    fn rows(
        &self,
        item: &Value,
        input: Option<&str>,
        what: &str,
        place: Location,
    ) -> Result<UnitTestRows, ProjectError> {
        let format = item.get("format").and_then(Value::as_str).unwrap_or("dict").to_owned();
        let fixture = item.get("fixture").and_then(Value::as_str).map(str::to_owned);
        let rows = item.get("rows").filter(|rows| !rows.is_null()).cloned();
        let mismatch = |more: &str| {
            ProjectError::parsing(format!(
                "Unit test {} has {what} rows{more}which do not match format {format}.",
                self.entry.name
            ))
            .at(place.clone())
        };
        let text = match (&rows, &fixture) {
            (_, Some(name)) => Some(self.fixture(name).map_err(|error| error.at(place.clone()))?),
            (Some(Value::String(text)), None) => Some(text.clone()),
            _ => None,
        };
        let mut rows = match (format.as_str(), rows, text) {
            ("dict", None, None) => {
                let seed = input.and_then(|input| match references::parse(input) {
                    Some(references::Reference::Ref(reference)) => (self.seed_rows)(&reference.name),
                    _ => None,
                });
                match seed {
                    Some(rows) => Value::Array(rows),
                    None => return Err(mismatch(" ")),
                }
            }
            ("dict", Some(rows @ Value::Array(_)), None) => rows,
            ("csv", _, Some(text)) => Value::Array(csv_rows(&text, true)),
            ("sql", _, Some(text)) => Value::String(text),
            ("dict", ..) => return Err(mismatch(" ")),
            ("csv" | "sql", ..) => return Err(mismatch(" or fixtures ")),
            _ => {
                return Err(ProjectError::parsing(format!(
                    "Invalid unit_tests config given in {} @ unit_tests: '{}' - at path ['format']: '{format}' is not one of ['csv', 'dict', 'sql']",
                    self.entry.file.original, self.entry.name
                ))
                .at(place));
            }
        };
        // The first row without nulls comes first: types are guessed from it.
        if let Value::Array(rows) = &mut rows
            && let Some(at) = rows
                .iter()
                .position(|row| row.as_object().is_some_and(|row| row.values().all(|value| !value.is_null())))
        {
            rows.swap(0, at);
        }
        Ok(UnitTestRows { rows: Some(rows), format, fixture })
    }

    fn fixture(&self, name: &str) -> Result<String, ProjectError> {
        self.files
            .iter()
            .find(|file| {
                file.kind == FileKind::Fixture && file.package == self.entry.file.package && file.stem() == name
            })
            .map(|file| file.text.clone())
            .ok_or_else(|| {
                let folders = self.context.packages[self.entry.file.package].test_paths.join(", ");
                ProjectError::parsing(format!(
                    "File not found for fixture '{name}' in unit tests in {}",
                    self.entry.file.original
                ))
                .hinting(format!("fixtures are files in the folder `fixtures` below {folders}"))
            })
    }
}

/// Rows of a CSV text as mappings; an empty cell is null in fixtures, '' in seeds.
pub(super) fn csv_rows(text: &str, empty_is_null: bool) -> Vec<Value> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header: Vec<String> =
        reader.headers().map(|header| header.iter().map(str::to_owned).collect()).unwrap_or_default();
    reader
        .records()
        .filter_map(Result::ok)
        .map(|record| {
            let mut row = Map::new();
            for (name, cell) in header.iter().zip(record.iter()) {
                let value = if cell.is_empty() && empty_is_null { Value::Null } else { json!(cell) };
                row.insert(name.clone(), value);
            }
            Value::Object(row)
        })
        .collect()
}

/// dbt hashes Python's print of everything but the description.
fn unit_test_checksum(
    model: &str,
    versions: Option<&Value>,
    given: &[UnitTestInput],
    expect: &UnitTestRows,
    overrides: Option<&Map<String, Value>>,
) -> String {
    fn rows(rows: &UnitTestRows) -> String {
        let class = match rows.format.as_str() {
            "csv" => "CSV",
            "sql" => "SQL",
            _ => "Dict",
        };
        format!(
            "rows={}, format=<UnitTestFormat.{class}: '{}'>, fixture={}",
            rows.rows.as_ref().map_or_else(|| "None".into(), python_repr),
            rows.format,
            rows.fixture.as_ref().map_or_else(|| "None".into(), |fixture| python_repr(&json!(fixture)))
        )
    }
    let versions = versions.map_or_else(
        || "None".to_owned(),
        |versions| {
            format!(
                "UnitTestNodeVersions(include={}, exclude={})",
                python_repr(&versions["include"]),
                python_repr(&versions["exclude"])
            )
        },
    );
    let inputs: Vec<String> = given
        .iter()
        .map(|input| format!("UnitTestInputFixture(input={}, {})", python_repr(&json!(input.input)), rows(&input.rows)))
        .collect();
    let overrides = overrides.map_or_else(
        || "None".to_owned(),
        |overrides| {
            let part = |key: &str| overrides.get(key).map_or_else(|| "{}".into(), python_repr);
            format!(
                "UnitTestOverrides(macros={}, vars={}, env_vars={})",
                part("macros"),
                part("vars"),
                part("env_vars")
            )
        },
    );
    let mut data =
        format!("{model}-{versions}-[{}]-UnitTestOutputFixture({})-{overrides}", inputs.join(", "), rows(expect));
    for input in given.iter().filter(|input| input.rows.fixture.is_some()) {
        data.push_str(&format!("-{}", input.rows.rows.as_ref().map_or_else(|| "None".into(), python_str)));
    }
    sha256(&data)
}
