//! What a snapshot is, from its configuration: keys, strategy, deletes, column names. Values in, values out.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SnapshotError;
use crate::{
    engine::quote_identifier,
    materialize::TableSource,
    project::{HardDeletes, NodeConfig, Relation},
};

/// A snapshot that is ready to be taken.
#[derive(Debug, Clone)]
pub struct SnapshotSpec<'a> {
    pub relation: Relation,
    /// The compiled SELECT, one row a key.
    pub sql: &'a str,
    /// Expressions over the source's columns, at least one.
    pub unique_key: Vec<String>,
    pub strategy: Strategy,
    pub hard_deletes: HardDeletes,
    /// What `dbt_valid_to` of an open row is, as SQL; NULL where not given.
    pub valid_to_current: Option<String>,
    pub names: MetaColumns,
    /// Decides engine, keys and settings of the table when it is made.
    pub table: TableSource<'a>,
    /// `name = value` each, for the source's query alone.
    pub query_settings: Vec<String>,
    /// The one time of this run.
    pub run_at: DateTime<Utc>,
    /// Eight hexadecimal digits of the invocation.
    pub invocation: &'a str,
    /// How changes are applied, where the config says so.
    pub apply: Option<ApplyVariant>,
    /// Observations that say what the versions were.
    pub history: Option<HistorySpec>,
}

/// `history`: a relation with many observations per key over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySpec {
    /// As SQL: `` `f1`.`int_driver_entries` ``.
    pub relation: String,
    /// The column of the time of an observation.
    pub observed_at: String,
    /// The column of a period (a season): a key that is not observed in the next recorded one is closed when that begins.
    pub close_when_absent_for: Option<String>,
}

/// How a new version is recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// The source says when a row changed.
    Timestamp { updated_at: String },
    /// Columns are compared.
    Check { columns: CheckColumns, updated_at: Option<String> },
    /// A macro `snapshot_<name>_strategy` gave SQL over `source_data` and `snapshotted_data`.
    Custom { updated_at: String, row_changed: String, scd_id: Option<String> },
}

/// `check_cols`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckColumns {
    All,
    These(Vec<String>),
}

/// The columns that a snapshot adds, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaColumns {
    pub scd_id: String,
    pub updated_at: String,
    pub valid_from: String,
    pub valid_to: String,
    pub is_deleted: String,
}

impl Default for MetaColumns {
    fn default() -> Self {
        Self {
            scd_id: "dbt_scd_id".into(),
            updated_at: "dbt_updated_at".into(),
            valid_from: "dbt_valid_from".into(),
            valid_to: "dbt_valid_to".into(),
            is_deleted: "dbt_is_deleted".into(),
        }
    }
}

impl MetaColumns {
    /// In backticks, for SQL.
    #[must_use]
    pub fn quoted(&self) -> Self {
        Self {
            scd_id: quote_identifier(&self.scd_id),
            updated_at: quote_identifier(&self.updated_at),
            valid_from: quote_identifier(&self.valid_from),
            valid_to: quote_identifier(&self.valid_to),
            is_deleted: quote_identifier(&self.is_deleted),
        }
    }

    /// Whether `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        [&self.scd_id, &self.updated_at, &self.valid_from, &self.valid_to, &self.is_deleted]
            .iter()
            .any(|column| *column == name)
    }
}

/// How staged changes reach the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyVariant {
    /// The table is partitioned by "is current": closed versions are appended, the open partition is replaced in one step.
    ReplacePartition,
    /// The same table: closed and new versions are appended, the replaced ones deleted lightly.
    LightweightDelete,
    /// Any MergeTree table: new versions are appended, the replaced ones closed by a lightweight UPDATE.
    LightweightUpdate,
    /// A new table is written and exchanged with the old: for servers and engines that know nothing of the above.
    Rewrite,
}

impl ApplyVariant {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReplacePartition => "replace_partition",
            Self::LightweightDelete => "lightweight_delete",
            Self::LightweightUpdate => "lightweight_update",
            Self::Rewrite => "rewrite",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::ReplacePartition, Self::LightweightDelete, Self::LightweightUpdate, Self::Rewrite]
            .into_iter()
            .find(|variant| variant.as_str() == text)
    }
}

/// The parts of a spec that come from the configuration alone.
#[derive(Debug, Clone)]
pub struct SnapshotConfig {
    pub unique_key: Vec<String>,
    /// `None`: a macro has to say.
    pub strategy: Option<Strategy>,
    pub hard_deletes: HardDeletes,
    pub valid_to_current: Option<String>,
    pub names: MetaColumns,
    pub apply: Option<ApplyVariant>,
    /// `relation` as it was written: the name of a model, or `database.table`.
    pub history: Option<HistorySpec>,
}

impl SnapshotConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A key that is missing or that contradicts another.
    pub fn of(config: &NodeConfig) -> Result<Self, SnapshotError> {
        let unique_key: Vec<String> = config.unique_key().into_iter().filter(|key| !key.trim().is_empty()).collect();
        if unique_key.is_empty() {
            return Err(SnapshotError::config("unique_key", "a snapshot needs it"));
        }
        let updated_at = config.str("updated_at").map(str::to_owned);
        let strategy = match config.strategy() {
            None => return Err(SnapshotError::config("strategy", "a snapshot needs `timestamp` or `check`")),
            Some("timestamp") => {
                let updated_at = updated_at
                    .ok_or_else(|| SnapshotError::config("updated_at", "the strategy `timestamp` needs it"))?;
                Some(Strategy::Timestamp { updated_at })
            }
            Some("check") => Some(Strategy::Check { columns: check_columns(config)?, updated_at }),
            Some(_) => None,
        };
        let apply = match config.str("snapshot_apply") {
            None | Some("auto") => None,
            Some(text) => Some(ApplyVariant::parse(text).ok_or_else(|| {
                let known = "auto, replace_partition, lightweight_delete, lightweight_update, rewrite";
                SnapshotError::config("snapshot_apply", format!("`{text}` is none of {known}"))
            })?),
        };
        if let Some(other) = config.str("hard_deletes")
            && !matches!(other, "ignore" | "invalidate" | "new_record")
        {
            let reason = format!("`{other}` is none of `ignore`, `invalidate`, `new_record`");
            return Err(SnapshotError::config("hard_deletes", reason));
        }
        Ok(Self {
            unique_key,
            strategy,
            hard_deletes: config.hard_deletes(),
            valid_to_current: config.get("dbt_valid_to_current").map(text),
            names: meta_columns(config)?,
            apply,
            history: history(config)?,
        })
    }
}

fn history(config: &NodeConfig) -> Result<Option<HistorySpec>, SnapshotError> {
    let Some(value) = config.get("history") else { return Ok(None) };
    let Value::Object(map) = value else {
        return Err(SnapshotError::config("history", "it is a mapping with `relation` and `observed_at`"));
    };
    for key in map.keys() {
        if !matches!(key.as_str(), "relation" | "observed_at" | "close_when_absent_for") {
            let reason = format!("`{key}` is none of relation, observed_at, close_when_absent_for");
            return Err(SnapshotError::config("history", reason));
        }
    }
    let required = |key: &str| {
        map.get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| SnapshotError::config("history", format!("`{key}` is missing")))
    };
    Ok(Some(HistorySpec {
        relation: required("relation")?,
        observed_at: required("observed_at")?,
        close_when_absent_for: map.get("close_when_absent_for").and_then(Value::as_str).map(str::to_owned),
    }))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check_columns(config: &NodeConfig) -> Result<CheckColumns, SnapshotError> {
    let columns = config.list("check_cols");
    match columns.as_slice() {
        [] => Err(SnapshotError::config("check_cols", "the strategy `check` needs a list of columns, or `all`")),
        [one] if one == "all" => Ok(CheckColumns::All),
        _ => Ok(CheckColumns::These(columns)),
    }
}

fn meta_columns(config: &NodeConfig) -> Result<MetaColumns, SnapshotError> {
    let mut names = MetaColumns::default();
    let Some(given) = config.map("snapshot_meta_column_names") else { return Ok(names) };
    for (key, value) in given {
        let Some(value) = value.as_str().map(str::to_owned) else { continue };
        match key.as_str() {
            "dbt_scd_id" => names.scd_id = value,
            "dbt_updated_at" => names.updated_at = value,
            "dbt_valid_from" => names.valid_from = value,
            "dbt_valid_to" => names.valid_to = value,
            "dbt_is_deleted" => names.is_deleted = value,
            // dbt-core has these two in some versions; chpipe tells deletions by is_deleted alone.
            "dbt_unique_key" | "dbt_change_type" => {}
            other => {
                let reason = format!("`{other}` is no column of a snapshot");
                return Err(SnapshotError::config("snapshot_meta_column_names", reason));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Result<SnapshotConfig, SnapshotError> {
        SnapshotConfig::of(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn strategies_need_their_keys() {
        assert!(
            config(json!({"strategy": "check", "check_cols": "all"})).unwrap_err().to_string().contains("unique_key")
        );
        assert!(
            config(json!({"unique_key": "id", "strategy": "timestamp"}))
                .unwrap_err()
                .to_string()
                .contains("updated_at")
        );
        assert!(
            config(json!({"unique_key": "id", "strategy": "check"})).unwrap_err().to_string().contains("check_cols")
        );
        let all = config(json!({"unique_key": ["a", "b"], "strategy": "check", "check_cols": ["all"]})).unwrap();
        assert_eq!(all.unique_key, ["a", "b"]);
        assert_eq!(all.strategy, Some(Strategy::Check { columns: CheckColumns::All, updated_at: None }));
    }

    #[test]
    fn columns_can_be_named() {
        let names = config(json!({
            "unique_key": "id", "strategy": "timestamp", "updated_at": "u",
            "snapshot_meta_column_names": {"dbt_valid_to": "until", "dbt_scd_id": "id of version"}
        }));
        let names = names.unwrap().names;
        assert_eq!(names.valid_to, "until");
        assert_eq!(names.quoted().scd_id, "`id of version`");
        assert!(names.contains("dbt_valid_from"));
    }
}
