//! A plan: what would be done, why, at what cost, in which statements. Serialisable, so that it can be reviewed and
//! applied later. It holds no credentials.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{ddl::ChangeClass, schema::Relation};

/// Changes with the meaning of what is in a plan file.
const PLAN_FORMAT: u32 = 1;

/// All changes between the warehouse and what is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub format: u32,
    /// `20261123T041500_1f0c2a`: time and content.
    pub id: String,
    pub made_at: DateTime<Utc>,
    /// Of the live objects that the plan looked at: a plan applies to that warehouse alone.
    pub fingerprint: String,
    /// Whether queues belong to what is wanted: `migrate apply` plans again, the same way.
    #[serde(default)]
    pub queue: bool,
    pub changes: Vec<PlannedChange>,
    /// What a reader should know and nobody has to do.
    pub notes: Vec<String>,
}

impl Plan {
    /// A plan made at `made_at`, named after that and what it does.
    pub(super) fn new(made_at: DateTime<Utc>, fingerprint: String, changes: Vec<PlannedChange>) -> Self {
        let plan = Self {
            format: PLAN_FORMAT,
            id: String::new(),
            made_at,
            fingerprint,
            queue: false,
            changes,
            notes: Vec::new(),
        };
        plan.named()
    }

    /// The same under the name that fits what it does now.
    #[must_use]
    pub fn named(mut self) -> Self {
        self.id = format!("{}_{}", self.made_at.format("%Y%m%dT%H%M%S%3f"), &self.checksum()[..8]);
        self
    }

    /// The plan of a file that `--out` wrote.
    ///
    /// # Errors
    /// Why the text is no plan, or none of this version of chpipe.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if plan.format != PLAN_FORMAT {
            return Err(format!("it is of format {}, and this chpipe reads format {PLAN_FORMAT}", plan.format));
        }
        Ok(plan)
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The dearest class of change in it.
    pub fn class(&self) -> Option<ChangeClass> {
        self.changes.iter().map(|change| change.class).max()
    }

    /// All statements in order, as they are shown.
    pub fn statements(&self) -> impl Iterator<Item = String> + '_ {
        self.changes.iter().flat_map(|change| change.steps.iter().flat_map(Step::sql))
    }

    /// The checksum of its statements; the times that name kept tables aside, equal for equal plans. The state's database is
    /// left out: the lock makes it before a plan is applied.
    pub fn steps_checksum(&self, state_database: &str) -> String {
        let changes: Vec<_> = self
            .changes
            .iter()
            .filter(|change| change.object != state_database)
            .map(|change| {
                let steps: Vec<Step> = change
                    .steps
                    .iter()
                    .map(|step| match step {
                        Step::Rebuild(step) => {
                            let old = Relation::new(&step.old.database, "");
                            Step::Rebuild(Box::new(RebuildStep { old, ..(**step).clone() }))
                        }
                        step => step.clone(),
                    })
                    .collect();
                (&change.object, steps)
            })
            .collect();
        checksum(&serde_json::to_string(&changes).unwrap_or_default())
    }

    /// The checksum of everything it does.
    pub fn checksum(&self) -> String {
        checksum(&serde_json::to_string(&self.changes).unwrap_or_default())
    }
}

/// What is to be done to one object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedChange {
    /// `raw.raw_results`, or a migration file's name.
    pub object: String,
    /// `table`, `view`, `database`, `named collection`, `migration file`.
    pub kind: String,
    pub action: Action,
    pub class: ChangeClass,
    /// One line a difference: `+ column points Float64`.
    pub summary: Vec<String>,
    /// Why it is done, or why it cannot be done more cheaply.
    pub why: Vec<String>,
    /// Rows and bytes that are rewritten or copied.
    pub rows: u64,
    pub bytes: u64,
    /// Objects that read from it.
    pub dependents: Vec<String>,
    /// What would be lost: empty for a safe change.
    pub destructive: Vec<String>,
    /// Columns that get another name: views that read them are changed with them, also after an interruption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renames: Option<Renames>,
    pub steps: Vec<Step>,
}

impl PlannedChange {
    /// One that says no more than what is done to which object.
    pub(super) fn new(object: &str, kind: &str, action: Action, class: ChangeClass) -> Self {
        Self {
            object: object.to_owned(),
            kind: kind.to_owned(),
            action,
            class,
            summary: Vec::new(),
            why: Vec::new(),
            rows: 0,
            bytes: 0,
            dependents: Vec::new(),
            destructive: Vec::new(),
            renames: None,
            steps: Vec::new(),
        }
    }
}

/// Columns of a table that get another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renames {
    pub table: Relation,
    /// Old name and new name.
    pub columns: Vec<(String, String)>,
}

impl Renames {
    /// The way back.
    pub(super) fn reversed(&self) -> Self {
        let columns = self.columns.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        Self { table: self.table.clone(), columns }
    }
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Alter,
    Replace,
    Rebuild,
    Recreate,
    Run,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Replace => "replace",
            Self::Rebuild => "rebuild",
            Self::Recreate => "recreate",
            Self::Run => "run",
        })
    }
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// One statement.
    Sql(String),
    /// A statement whose [`crate::ddl::HIDDEN`] values are the credentials of this collection.
    Collection {
        name: String,
        sql: String,
    },
    /// The ledger notes what this collection holds, now that the tables that read it have it too.
    Given {
        name: String,
        /// Its values but for the credentials.
        values: BTreeMap<String, String>,
    },
    Rebuild(Box<RebuildStep>),
}

impl Step {
    /// What it runs, for a reader; credentials hidden.
    pub fn sql(&self) -> Vec<String> {
        match self {
            Self::Sql(sql) | Self::Collection { sql, .. } => vec![sql.clone()],
            Self::Given { .. } => Vec::new(),
            Self::Rebuild(step) => step.sql(),
        }
    }
}

/// A table that is filled beside the live one and takes its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RebuildStep {
    pub live: Relation,
    /// Where the new table is filled.
    pub shadow: Relation,
    /// What the old table is called afterwards.
    pub old: Relation,
    /// CREATE of the new table, under the shadow's name.
    pub create: String,
    /// Column of the new table and the expression over the old one that fills it.
    pub columns: Vec<(String, String)>,
    /// The new table's partition expression, for the verification.
    pub partition_by: Option<String>,
    /// The copy of one partition, for a reader.
    pub copy: String,
    pub exchange: String,
    /// What follows the exchange at once: views that read renamed columns get the new names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<String>,
    /// Days that the old table is kept; the project's retention where not given.
    pub keep_days: Option<u32>,
}

impl RebuildStep {
    fn sql(&self) -> Vec<String> {
        let mut statements = vec![
            self.create.clone(),
            format!("-- for each part of {}:\n{}", self.live.plain(), self.copy),
            format!(
                "-- count and checksum of every partition are compared, rows that arrived meanwhile are copied\n{}",
                self.exchange
            ),
        ];
        statements.extend(self.views.iter().cloned());
        statements.push(format!("-- kept for `chpipe migrate undo`\nRENAME TABLE {} TO {}", self.shadow, self.old));
        statements
    }
}

/// Hex SHA-256, the checksum of everything the ledger records.
pub(crate) fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
