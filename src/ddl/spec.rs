//! `ddl/tables/<name>.yml`: what a person decides about one table, everything optional. In: YAML; out: [`TableSpec`]s. An
//! unknown key is an error with its line.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;

use crate::{
    error::Location,
    schema::{ClickHouseType, Relation},
};

use super::{DdlError, Source};

/// The decisions about one dataset (an endpoint, or any Parquet prefix).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableSpec {
    /// The dataset; the file's name where not given.
    pub name: String,
    /// Comment of the raw table.
    pub comment: String,
    /// Database of its tables; `[migrate] raw_database` where not given.
    pub database: Option<String>,
    /// Where the files are, below the Silver bucket or as `s3://bucket/path/**.parquet`; `ergast/endpoint=<name>/` where
    /// not given.
    pub source: Option<String>,
    /// Of the bucket that `source` names, `http://minio:9000`: the lake's where not given.
    pub endpoint: Option<String>,
    /// Of the bucket that `source` names.
    pub region: Option<String>,
    /// The bucket that `source` names is public: requests are not signed.
    pub no_sign_request: bool,
    /// Named collection of the bucket: `silver` for Silver, `s3_<bucket>` for any other, where not given.
    pub collection: Option<String>,
    /// Columns that identify a row of one batch; the files' own metadata where not given.
    pub natural_key: Option<Vec<String>>,
    /// Columns that stand in the path as `name=value/`, with their types; read from the keys where not given.
    pub hive_columns: IndexMap<String, ClickHouseType>,
    /// Sorting key expressions: hive columns + natural key + batch_id where not given.
    pub order_by: Option<Vec<String>>,
    /// A prefix of the sorting key, where the index should hold less.
    pub primary_key: Option<Vec<String>>,
    /// `season` where there is one, else none.
    pub partition_by: Option<String>,
    /// `ReplacingMergeTree(_loaded_at)` where not given.
    pub engine: Option<String>,
    /// Table TTL.
    pub ttl: Option<String>,
    /// MergeTree settings.
    pub settings: IndexMap<String, serde_yaml_ng::Value>,
    /// Settings of the S3Queue table.
    pub queue_settings: IndexMap<String, serde_yaml_ng::Value>,
    pub columns: IndexMap<String, ColumnSpec>,
    pub indexes: IndexMap<String, IndexSpec>,
    /// Name to query: `SELECT season, sum(points) GROUP BY season`.
    pub projections: IndexMap<String, String>,
    /// Name to condition.
    pub constraints: IndexMap<String, String>,
    /// Old column name to new: the data is kept.
    pub renames: IndexMap<String, String>,
    /// Columns to drop; needs `--allow-destructive` too.
    pub drop: Vec<String>,
    /// Columns of the files that are left out, as if no file had them.
    pub exclude: Vec<String>,
    /// Days that the old version of a rebuilt table is kept; `[migrate] retention_days` where not given.
    pub retention_days: Option<u32>,
    /// The file, for messages.
    #[serde(skip)]
    pub path: PathBuf,
}

/// The decisions about one column.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnSpec {
    /// Instead of the files' type; also creates a column that no file has.
    #[serde(rename = "type")]
    pub kind: Option<ClickHouseType>,
    /// Whether a dictionary is kept for it.
    pub low_cardinality: Option<bool>,
    /// Whether it takes NULL, whatever the files say.
    pub nullable: Option<bool>,
    /// `Delta, ZSTD(1)`; `none` for the server's default.
    pub codec: Option<String>,
    pub default: Option<String>,
    pub materialized: Option<String>,
    pub alias: Option<String>,
    pub ttl: Option<String>,
    pub comment: Option<String>,
}

/// A data skipping index.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSpec {
    pub expression: String,
    /// `minmax`, `set(100)`, `bloom_filter(0.01)`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "one")]
    pub granularity: u64,
}

fn one() -> u64 {
    1
}

impl TableSpec {
    /// Reads one spec.
    ///
    /// # Errors
    /// Invalid YAML, an unknown key, a type that ClickHouse does not have; with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, DdlError> {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // An empty file, or one with comments alone, decides nothing.
        let parsed: Option<Self> = serde_yaml_ng::from_str(text).map_err(|error| {
            let place = error.location();
            let line = place.as_ref().map(|place| place.line());
            DdlError::Spec {
                reason: plain_reason(&error.to_string()),
                location: Location {
                    source_line: line.and_then(|line| text.lines().nth(line - 1)).map(str::to_owned),
                    column: place.as_ref().map(|place| place.column()),
                    line,
                    ..Location::file(path)
                },
            }
        })?;
        let mut spec = parsed.unwrap_or_default();
        if spec.name.is_empty() {
            spec.name = stem;
        }
        path.clone_into(&mut spec.path);
        Ok(spec)
    }

    /// One of its tables or views: `raw_<name>` of kind `raw`.
    pub fn relation(&self, kind: &str, database: &str) -> Relation {
        Relation::new(self.database.as_deref().unwrap_or(database), format!("{kind}_{}", self.name))
    }

    /// Where its files are; `default` is a prefix of Silver.
    ///
    /// # Errors
    /// `source` cannot be read, or settings of a bucket stand beside one that names none.
    pub fn files(&self, default: impl FnOnce(&str) -> String) -> Result<Source, DdlError> {
        let text = self.source.clone().unwrap_or_else(|| default(&self.name));
        let wrong = |key: &str, reason: String| DdlError::Spec {
            reason: format!("`{key}`: {reason}"),
            location: self.locate(key).unwrap_or_else(|| Location::file(&self.path)),
        };
        let source = Source::parse(&text).map_err(|reason| wrong("source", reason))?;
        if let Some(endpoint) = &self.endpoint
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            return Err(wrong("endpoint", format!("`{endpoint}` does not begin with http:// or https://")));
        }
        if source.bucket.is_none() {
            let given = [
                ("endpoint", self.endpoint.is_some()),
                ("region", self.region.is_some()),
                ("no_sign_request", self.no_sign_request),
            ];
            if let Some((key, _)) = given.iter().find(|(_, given)| *given) {
                return Err(wrong(key, "it is of a bucket that `source` names: `s3://bucket/path/**.parquet`".into()));
            }
        }
        Ok(source)
    }

    /// The line of the file where a name stands first, for messages.
    pub fn locate(&self, name: &str) -> Option<Location> {
        let text = fs_err::read_to_string(&self.path).ok()?;
        let (index, line) = text.lines().enumerate().find(|(_, line)| line.contains(name))?;
        let column = line.find(name).map(|at| line[..at].chars().count() + 1);
        Some(Location {
            source_line: Some(line.to_owned()),
            width: name.chars().count(),
            ..Location::line(&self.path, index + 1, column)
        })
    }
}

/// serde_yaml's message without the place, which the location shows.
fn plain_reason(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// All specs of a folder by dataset, in name order; none where there is no folder.
///
/// # Errors
/// A file cannot be read or is not valid; two specs are of one dataset.
pub fn read_specs(dir: &Path) -> Result<IndexMap<String, TableSpec>, DdlError> {
    let mut specs: IndexMap<String, TableSpec> = IndexMap::new();
    for (path, text) in spec_files(dir)? {
        let spec = TableSpec::parse(&text, &path)?;
        if let Some(other) = specs.get(&spec.name) {
            return Err(DdlError::Spec {
                reason: format!("`{}` has a spec already, `{}`", spec.name, other.path.display()),
                location: Location::file(&path),
            });
        }
        specs.insert(spec.name.clone(), spec);
    }
    Ok(specs)
}

/// The specs of a folder that name a bucket. Others are not even parsed: every command that opens a warehouse asks.
///
/// # Errors
/// A file cannot be read, or one that names a bucket is not valid.
pub fn specs_of_buckets(dir: &Path) -> Result<Vec<TableSpec>, DdlError> {
    let files = spec_files(dir)?;
    files.iter().filter(|(_, text)| text.contains("s3://")).map(|(path, text)| TableSpec::parse(text, path)).collect()
}

/// The YAML files of a folder with their text, in the order of their names.
fn spec_files(dir: &Path) -> Result<Vec<(PathBuf, String)>, DdlError> {
    let mut paths = Vec::new();
    match fs_err::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(|source| DdlError::Io { path: dir.to_owned(), source })?.path();
                if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                    paths.push(path);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(DdlError::Io { path: dir.to_owned(), source }),
    }
    paths.sort();
    let read = |path: PathBuf| match fs_err::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(source) => Err(DdlError::Io { path, source }),
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = TableSpec::parse("natural_key: [a]\nordr_by: [b]\n", Path::new("ddl/tables/x.yml")).unwrap_err();
        assert!(error.to_string().contains("ordr_by"), "{error}");
        assert_eq!(error.location().unwrap().line, Some(2));
        let error = TableSpec::parse("columns:\n  a:\n    typ: Int8\n", Path::new("x.yml")).unwrap_err();
        assert_eq!(error.location().unwrap().line, Some(3), "{error}");
        let error = TableSpec::parse("columns:\n  a: {type: Array(Int8}\n", Path::new("x.yml")).unwrap_err();
        assert!(error.location().unwrap().line.is_some(), "{error}");
    }

    #[test]
    fn a_spec_is_named_for_its_file() {
        let spec = TableSpec::parse("# nothing\n", Path::new("ddl/tables/results.yml")).unwrap();
        assert_eq!(spec.name, "results");
    }
}
