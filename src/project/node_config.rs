//! The configuration of a node: an ordered mapping with dbt's and dbt-clickhouse's keys, and a typed getter for each that
//! chpipe itself acts on. A missing key and `null` are the same to the getters.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A node's config after all inheritance, in dbt's key order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeConfig(pub Map<String, Value>);

/// One pre-hook, post-hook, on-run-start or on-run-end: SQL with Jinja.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub sql: String,
    pub transaction: bool,
}

/// What becomes of rows that vanished from a snapshot's source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HardDeletes {
    #[default]
    Ignore,
    Invalidate,
    NewRecord,
}

impl NodeConfig {
    /// The value as written; `None` for a missing key and for `null`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// A boolean; 'true' and 'false' as text count too, since Jinja makes texts.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            Value::Number(number) => number.as_i64().map(|number| number != 0),
            _ => None,
        }
    }

    pub fn i64(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A list of texts; a single text is a list of one, numbers are written out.
    pub fn list(&self, key: &str) -> Vec<String> {
        fn text(value: &Value) -> String {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        }
        match self.get(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items.iter().map(text).collect(),
            Some(other) => vec![text(other)],
        }
    }

    pub fn map(&self, key: &str) -> Option<&Map<String, Value>> {
        self.get(key).and_then(Value::as_object)
    }

    pub fn enabled(&self) -> bool {
        self.bool("enabled").unwrap_or(true)
    }

    /// `view` where nothing is said.
    pub fn materialized(&self) -> &str {
        self.str("materialized").unwrap_or("view")
    }

    pub fn tags(&self) -> Vec<String> {
        self.list("tags")
    }

    pub fn pre_hooks(&self) -> Vec<Hook> {
        self.hooks("pre-hook")
    }

    pub fn post_hooks(&self) -> Vec<Hook> {
        self.hooks("post-hook")
    }

    fn hooks(&self, key: &str) -> Vec<Hook> {
        let Some(Value::Array(hooks)) = self.get(key) else { return Vec::new() };
        hooks
            .iter()
            .filter_map(|hook| match hook {
                Value::String(sql) => Some(Hook { sql: sql.clone(), transaction: true }),
                Value::Object(map) => Some(Hook {
                    sql: map.get("sql")?.as_str()?.to_owned(),
                    transaction: map.get("transaction").and_then(Value::as_bool).unwrap_or(true),
                }),
                _ => None,
            })
            .collect()
    }

    /// `full_refresh`: overrides the flag where set.
    pub fn full_refresh(&self) -> Option<bool> {
        self.bool("full_refresh")
    }

    /// The columns of `unique_key`: one text (which may be an expression) or a list.
    pub fn unique_key(&self) -> Vec<String> {
        self.list("unique_key")
    }

    /// `ignore` where nothing is said.
    pub fn on_schema_change(&self) -> &str {
        self.str("on_schema_change").unwrap_or("ignore")
    }

    pub fn incremental_strategy(&self) -> Option<&str> {
        self.str("incremental_strategy")
    }

    /// The table engine with its arguments: `MergeTree()` where nothing is said.
    pub fn engine(&self) -> &str {
        self.str("engine").unwrap_or("MergeTree()")
    }

    pub fn order_by(&self) -> Vec<String> {
        self.list("order_by")
    }

    pub fn partition_by(&self) -> Vec<String> {
        self.list("partition_by")
    }

    pub fn primary_key(&self) -> Vec<String> {
        self.list("primary_key")
    }

    pub fn ttl(&self) -> Option<&str> {
        self.str("ttl")
    }

    /// Settings of the table.
    pub fn settings(&self) -> Option<&Map<String, Value>> {
        self.map("settings")
    }

    /// Settings of the queries that build it.
    pub fn query_settings(&self) -> Option<&Map<String, Value>> {
        self.map("query_settings")
    }

    pub fn contract_enforced(&self) -> bool {
        self.map("contract").and_then(|contract| contract.get("enforced")).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Tests: `ERROR` or `WARN`, in upper case.
    pub fn severity(&self) -> String {
        self.str("severity").unwrap_or("ERROR").to_uppercase()
    }

    /// Tests: `count(*)` where nothing is said.
    pub fn fail_calc(&self) -> &str {
        self.str("fail_calc").unwrap_or("count(*)")
    }

    pub fn warn_if(&self) -> &str {
        self.str("warn_if").unwrap_or("!= 0")
    }

    pub fn error_if(&self) -> &str {
        self.str("error_if").unwrap_or("!= 0")
    }

    pub fn limit(&self) -> Option<i64> {
        self.i64("limit")
    }

    pub fn where_(&self) -> Option<&str> {
        self.str("where")
    }

    pub fn store_failures(&self) -> Option<bool> {
        self.bool("store_failures")
    }

    /// Tests: `table`, `view` or `ephemeral`.
    pub fn store_failures_as(&self) -> Option<&str> {
        self.str("store_failures_as")
    }

    /// Snapshots: `timestamp`, `check` or a macro's name.
    pub fn strategy(&self) -> Option<&str> {
        self.str("strategy")
    }

    /// Snapshots: `hard_deletes`, or its old form `invalidate_hard_deletes: true`.
    pub fn hard_deletes(&self) -> HardDeletes {
        match self.str("hard_deletes") {
            Some("invalidate") => HardDeletes::Invalidate,
            Some("new_record") => HardDeletes::NewRecord,
            Some(_) => HardDeletes::Ignore,
            None if self.bool("invalidate_hard_deletes") == Some(true) => HardDeletes::Invalidate,
            None => HardDeletes::Ignore,
        }
    }
}
