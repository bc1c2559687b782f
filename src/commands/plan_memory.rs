//! A plan with nothing in it, remembered: opening the embedded engine is most of what a plan costs (it attaches every table,
//! and one over S3 takes it 3 ms), and while neither what is wanted nor the engine's metadata files have changed the answer
//! is the same. In: settings, datasets; out: the plan of before. Only the embedded engine's files tell who changed a table.

use std::{path::PathBuf, time::UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    config::{Connection, Settings},
    migrate::Plan,
};

use super::{datasets::DatasetFiles, migrate::wanted_options};

/// What is kept: checksums of everything an empty plan followed from, and the plan with its notes.
#[derive(Serialize, Deserialize)]
struct Remembered {
    wanted: String,
    warehouse: String,
    plan: Plan,
}

/// The memory of one project and warehouse. Deleting its file costs nothing but time.
pub(super) struct PlanMemory {
    path: PathBuf,
    wanted: String,
    warehouse: PathBuf,
}

impl PlanMemory {
    /// `None` where nothing can be remembered: a server's tables change without a trace here, and whether a migration file is
    /// pending stands in the ledger, which is no metadata.
    pub(super) fn of(settings: &Settings, files: &[DatasetFiles], queue: bool) -> Option<Self> {
        let target = settings.target().ok()?;
        let Connection::Embedded { path: warehouse } = &target.connection else { return None };
        let ddl = &settings.migrate.ddl_path;
        let is_file = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "sql"))
        };
        if ddl.join("migrations").read_dir().is_ok_and(|mut entries| entries.any(is_file)) {
            return None;
        }
        let mut digest = Sha256::new();
        // Another build of chpipe or of ClickHouse may want something else.
        for binary in [std::env::current_exe().ok(), settings.engine.libchdb.clone()].into_iter().flatten() {
            digest.update(file_state(&binary)?);
        }
        digest.update(format!("{:?}", wanted_options(settings, (0, 0), queue)));
        for files in files {
            digest.update(format!("{:?}\n{:?}\n", files.dataset, files.spec));
        }
        let templates = ddl.join("templates");
        for entry in templates.read_dir().into_iter().flatten() {
            digest.update(file_state(&entry.ok()?.path())?);
        }
        let path = settings.state_dir().join("nothing_to_do.json");
        Some(Self { path, wanted: hex(digest), warehouse: warehouse.clone() })
    }

    /// The plan of before, where it still holds.
    pub(super) fn recall(&self) -> Option<Plan> {
        let text = fs_err::read_to_string(&self.path).ok()?;
        let known: Remembered = serde_json::from_str(&text).ok()?;
        let holds = known.wanted == self.wanted && known.warehouse == self.metadata()?;
        tracing::debug!(holds, "an empty plan is remembered");
        holds.then_some(known.plan)
    }

    /// What the plan is about to be made from; ask before it is made.
    pub(super) fn metadata(&self) -> Option<String> {
        let mut states = Vec::new();
        for database in self.warehouse.join("metadata").read_dir().ok()? {
            let database = database.ok()?.path();
            if !database.is_dir() {
                states.push(file_state(&database)?);
                continue;
            }
            for table in database.read_dir().ok()? {
                states.push(file_state(&table.ok()?.path())?);
            }
        }
        states.sort_unstable();
        Some(hex(Sha256::new().chain_update(states.join("\n"))))
    }

    /// Remembers an empty plan. A failure costs only that.
    pub(super) fn remember(&self, plan: &Plan, warehouse: Option<String>) {
        let Some(warehouse) = warehouse.filter(|_| plan.is_empty()) else { return };
        let known = Remembered { wanted: self.wanted.clone(), warehouse, plan: plan.clone() };
        let written =
            serde_json::to_vec(&known).map_err(Into::into).and_then(|text| crate::file::write_whole(&self.path, text));
        if let Err(error) = written {
            tracing::debug!("cannot remember that there is nothing to do: {error}");
        }
    }
}

/// Name, length and time of a file; `None` where it cannot be asked, and then nothing is remembered.
fn file_state(path: &std::path::Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{}\t{}\t{}", path.display(), metadata.len(), modified.as_nanos()))
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
