//! What extract and transform leave behind of themselves: one JSON object a run, in the bucket they wrote to. The next
//! command that opens the warehouse takes them over into database `chpipe`.
//!
//! ```text
//! bronze: _runs/extract/20241216T120000Z_{run_id}.json
//! silver: _runs/transform/20241216T120000Z_{run_id}.json
//! ```

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Invocation;

/// One run of a command that knows only the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// 1.
    pub version: u32,
    pub run_id: Uuid,
    /// `extract`, `transform`, or what changed the warehouse.
    pub command: String,
    /// The selection as it was understood.
    pub arguments: Value,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub outcome: Outcome,
    /// The error's text, where it failed.
    pub error: Option<String>,
    pub user: Option<String>,
    pub host: Option<String>,
    pub tool_version: String,
    /// HEAD of the project's repository.
    pub git_commit: Option<String>,
    /// Batches written to, ascending.
    pub batch_ids: Vec<String>,
    /// By endpoint: the counters of the stage's report (`batches`, `skipped`, `failed`, `pages`, `rows`, `bytes` or
    /// `bytes_in` and `bytes_out`, `quarantined`, `seconds`, …).
    pub endpoints: Value,
    /// By endpoint and outcome, how many requests; empty for transform.
    pub requests: Value,
    /// By endpoint and outcome, `counts` by bucket and `seconds` in all; not in records of earlier versions.
    #[serde(default)]
    pub durations: Value,
    /// Requests left in the hour; none for transform.
    pub quota_remaining: Option<u32>,
    /// Unknown fields: endpoint, path, count, example; empty for extract.
    pub drift: Value,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Success,
    Failed,
    Interrupted,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl RunRecord {
    /// A record of a run that ends now.
    pub fn new(command: &str, invocation: &Invocation, project_dir: &Path) -> Self {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
        let host = nix::unistd::gethostname().ok().map(|host| host.to_string_lossy().into_owned());
        Self {
            version: 1,
            run_id: invocation.id,
            command: command.to_owned(),
            arguments: Value::Null,
            started_at: invocation.started_at,
            finished_at: Utc::now(),
            outcome: Outcome::Success,
            error: None,
            user,
            host,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: git_commit(project_dir),
            batch_ids: Vec::new(),
            endpoints: Value::Object(serde_json::Map::new()),
            requests: Value::Object(serde_json::Map::new()),
            durations: Value::Object(serde_json::Map::new()),
            quota_remaining: None,
            drift: Value::Array(Vec::new()),
        }
    }

    /// Where it is kept.
    pub fn key(&self) -> String {
        format!("_runs/{}/{}_{}.json", self.command, self.started_at.format("%Y%m%dT%H%M%SZ"), self.run_id)
    }
}

/// The commit that the project's working copy is at, read from git's own files; none where there is no repository.
fn git_commit(project_dir: &Path) -> Option<String> {
    let dot_git = project_dir.ancestors().map(|dir| dir.join(".git")).find(|path| path.exists())?;
    // A linked working copy has a file that names its folder.
    let git_dir = match fs_err::read_to_string(&dot_git) {
        Ok(text) => dot_git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let head = fs_err::read_to_string(git_dir.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref:") else {
        return Some(head.trim().to_owned());
    };
    let common = fs_err::read_to_string(git_dir.join("commondir"));
    let common = common.map_or_else(|_| git_dir.clone(), |text| git_dir.join(text.trim()));
    if let Ok(commit) = fs_err::read_to_string(common.join(reference.trim())) {
        return Some(commit.trim().to_owned());
    }
    let packed = fs_err::read_to_string(common.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.strip_suffix(reference.trim())?.split_whitespace().next().map(str::to_owned))
}
