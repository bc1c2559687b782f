//! The embedded engine for tests: libchdb serves one directory a process, so all tests of a test binary share one, each
//! in a database of its own. Not for use outside tests.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{Engine, EngineError, OpenOptions, QueryOptions, Session, holder, open, quote_identifier};
use crate::config::{Connection, EngineSettings, Target};

const PREFIX: &str = "chpipe-test-warehouse-";

/// The engine that the tests of this process share.
///
/// # Panics
/// libchdb is missing or refuses: `chpipe engine install`, or CHPIPE_LIBCHDB.
pub fn shared() -> Arc<dyn Engine> {
    static SHARED: OnceLock<Arc<dyn Engine>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| match open_shared() {
        Ok(engine) => engine,
        Err(error) => panic!("no embedded engine for tests: {error}; {}", error.hint().unwrap_or_default()),
    }))
}

/// The same warehouse, for what only the embedded engine can.
///
/// # Panics
/// As [`shared`].
#[cfg(test)]
pub(crate) fn shared_directory() -> Arc<super::ChdbEngine> {
    let _engine = shared();
    match super::open_directory(&shared_path(), &shared_options()) {
        Ok(engine) => engine,
        Err(error) => panic!("no embedded engine for tests: {error}"),
    }
}

/// A session in a fresh, empty database of this name.
///
/// # Panics
/// The engine cannot make one.
pub fn session(database: &str) -> Box<dyn Session> {
    session_of(&*shared(), database)
}

/// A session of this engine in a fresh, empty database of this name.
///
/// # Panics
/// The engine cannot make one.
pub fn session_of(engine: &dyn Engine, database: &str) -> Box<dyn Session> {
    let name = quote_identifier(database);
    let made = engine.connect().and_then(|mut session| {
        for sql in [format!("DROP DATABASE IF EXISTS {name}"), create(engine, &name), format!("USE {name}")] {
            session.execute(&sql, &QueryOptions::default())?;
        }
        Ok(session)
    });
    match made {
        Ok(session) => session,
        Err(error) => panic!("no session in a database of its own: {error}"),
    }
}

fn create(engine: &dyn Engine, name: &str) -> String {
    // Servers before 20.10 have no Atomic databases.
    let atomic = if engine.capabilities().version >= (20, 10) { " ENGINE = Atomic" } else { "" };
    format!("CREATE DATABASE {name}{atomic}")
}

fn shared_path() -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()))
}

fn shared_options() -> OpenOptions {
    OpenOptions {
        engine: EngineSettings::from_environment(),
        named_collections: Vec::new(),
        lock_timeout: Duration::ZERO,
        keep_dropped: Duration::ZERO,
    }
}

fn open_shared() -> Result<Arc<dyn Engine>, EngineError> {
    remove_left_over();
    open(&target(shared_path()), &shared_options())
}

/// An embedded target over a directory.
pub fn target(path: PathBuf) -> Target {
    Target {
        profile_name: "test".into(),
        name: "test".into(),
        schema: "default".into(),
        threads: 2,
        connection: Connection::Embedded { path },
        credentials: None,
        fields: serde_json::Map::new(),
    }
}

/// Directories of test processes that are gone.
fn remove_left_over() {
    let Ok(entries) = fs_err::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && holder(&entry.path()).is_none() {
            // Another test process may be removing it too.
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}
