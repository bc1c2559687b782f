//! One migration or load at a time on a warehouse, whoever runs it: a table whose CREATE is the mutex, with a lease that
//! its holder renews. In: an engine; out: a [`Lock`] that releases on drop. A dead holder's lock is taken over: at once
//! where it died on this machine, after its lease elsewhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::{
    engine::{Engine, QueryOptions, Session, quote_identifier, quote_string},
    schema::Relation,
};

use super::{
    MigrateError,
    rows::{rows, text},
};

/// How long a holder may be silent before others take its lock.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// How often a holder says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// ClickHouse's TABLE_ALREADY_EXISTS.
const ALREADY_EXISTS: i32 = 57;
/// ClickHouse's UNKNOWN_TABLE.
const UNKNOWN_TABLE: i32 = 60;

/// Who holds a lock; the lock table's comment.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Holder {
    id: String,
    command: String,
    host: String,
    pid: u32,
    /// When the process started, in the kernel's ticks: a later process may get the same number.
    started: Option<u64>,
    since: String,
}

impl Holder {
    fn this_process(command: &str) -> Self {
        let pid = std::process::id();
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            command: command.to_owned(),
            host: host_name(),
            pid,
            started: process_start(pid),
            since: chrono::Utc::now().format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        }
    }

    /// Whether it is a process of this machine that is gone.
    fn is_dead(&self) -> bool {
        self.host == host_name() && process_start(self.pid) != self.started
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`chpipe {}`, process {} on {}, since {}", self.command, self.pid, self.host, self.since)
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Field 22 of `/proc/<pid>/stat`; `None` where there is no such process (or no /proc).
fn process_start(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The held lock. Dropping it releases it.
pub struct Lock {
    engine: Arc<dyn Engine>,
    table: Relation,
    holder: Holder,
    lost: Arc<AtomicBool>,
    stop: Option<mpsc::Sender<()>>,
    heart: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("table", &self.table).field("holder", &self.holder.id).finish_non_exhaustive()
    }
}

impl Lock {
    /// Takes the lock of `database` (which must exist), waiting up to `timeout`; `waiting` is told the holder once.
    ///
    /// # Errors
    /// [`MigrateError::Locked`] when the wait is over; the server cannot be asked.
    pub fn acquire(
        engine: &Arc<dyn Engine>,
        database: &str,
        command: &str,
        timeout: Duration,
        mut waiting: impl FnMut(&str),
    ) -> Result<Self, MigrateError> {
        let mut session = engine.connect()?;
        let table = Relation::new(database, "lock");
        let holder = Holder::this_process(command);
        let comment = serde_json::to_string(&holder).unwrap_or_default();
        let create = format!(
            "CREATE TABLE {table} (beat_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY beat_at TTL \
             toDateTime(beat_at) + INTERVAL 1 HOUR COMMENT {}",
            quote_string(&comment)
        );
        let begun = Instant::now();
        let mut told = false;
        loop {
            match session.execute(&create, &QueryOptions::default()) {
                Ok(_) => break,
                Err(error) if error.code() == Some(ALREADY_EXISTS) => {}
                Err(error) => return Err(error.into()),
            }
            let Some((other, silent)) = read_holder(&mut *session, &table)? else { continue };
            if other.is_dead() || silent > LEASE {
                take_over(&mut *session, &table, &other)?;
                continue;
            }
            // However slow the machine is: whoever may wait is told for whom.
            if !told && !timeout.is_zero() {
                waiting(&other.to_string());
                told = true;
            }
            if begun.elapsed() >= timeout {
                return Err(MigrateError::Locked { holder: other.to_string(), waited: begun.elapsed().as_secs() });
            }
            if crate::interrupt::interrupted() {
                return Err(MigrateError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let lost = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel();
        let heart = beat(Arc::clone(engine), table.clone(), holder.id.clone(), Arc::clone(&lost), stopped);
        Ok(Self { engine: Arc::clone(engine), table, holder, lost, stop: Some(stop), heart: Some(heart) })
    }

    /// Fails when another process has taken the lock (this one was silent for longer than its lease).
    ///
    /// # Errors
    /// [`MigrateError::LockLost`].
    pub fn check(&self) -> Result<(), MigrateError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(MigrateError::LockLost { holder: "another process, after a silence of this one".into() });
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(heart) = self.heart.take() {
            // A heartbeat that panicked has nothing left to tell.
            let _ = heart.join();
        }
        if self.lost.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut session) = self.engine.connect() else { return };
        let still_ours =
            matches!(read_holder(&mut *session, &self.table), Ok(Some((holder, _))) if holder == self.holder);
        if still_ours {
            // What stays is taken over by the next command, since this process will be gone.
            let _ = session.execute(&format!("DROP TABLE IF EXISTS {}", self.table), &QueryOptions::default());
        }
    }
}

/// Says that the holder lives, until told to stop.
fn beat(
    engine: Arc<dyn Engine>,
    table: Relation,
    id: String,
    lost: Arc<AtomicBool>,
    stopped: mpsc::Receiver<()>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        // A session of its own: the holder's may be busy for minutes.
        while matches!(stopped.recv_timeout(HEARTBEAT), Err(mpsc::RecvTimeoutError::Timeout)) {
            let Ok(mut session) = engine.connect() else { continue };
            match read_holder(&mut *session, &table) {
                Ok(Some((holder, _))) if holder.id == id => {
                    let insert = format!("INSERT INTO {table} SELECT now64(3, 'UTC')");
                    if let Err(error) = session.execute(&insert, &QueryOptions::default()) {
                        tracing::debug!("the lock's lease could not be renewed: {error}");
                    }
                }
                Ok(_) => return lost.store(true, Ordering::Relaxed),
                Err(error) => tracing::debug!("the lock could not be read: {error}"),
            }
        }
    })
}

/// The holder and how long it has been silent; `None` where nobody holds the lock.
fn read_holder(session: &mut dyn Session, table: &Relation) -> Result<Option<(Holder, Duration)>, MigrateError> {
    let sql = format!(
        "SELECT comment, toUnixTimestamp(now()) - toUnixTimestamp(metadata_modification_time) FROM system.tables WHERE \
         database = {} AND name = {}",
        quote_string(&table.database),
        quote_string(&table.name)
    );
    let found = rows(session, &sql)?;
    let Some(row) = found.first() else { return Ok(None) };
    let created: i64 = text(row, 1).parse().unwrap_or_default();
    let silent = match rows(
        session,
        &format!("SELECT toUnixTimestamp(now()) - toUnixTimestamp(toDateTime(max(beat_at))), count() FROM {table}"),
    ) {
        Ok(beats) => match beats.first() {
            Some(row) if text(row, 1) != "0" => text(row, 0).parse().unwrap_or(created).min(created),
            _ => created,
        },
        Err(error) if error.code() == Some(UNKNOWN_TABLE) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let silent = Duration::from_secs(u64::try_from(silent).unwrap_or_default());
    // A comment that is not ours was put there by hand: it blocks until its lease ends, and is named.
    let holder = serde_json::from_str(text(row, 0)).unwrap_or_else(|_| Holder {
        id: String::new(),
        command: format!("… ({})", text(row, 0)),
        host: "an unknown host".into(),
        pid: 0,
        started: None,
        since: "an unknown time".into(),
    });
    Ok(Some((holder, silent)))
}

/// Moves a dead holder's table away. Of several who try, one succeeds; if the lock changed hands meanwhile, it is given
/// back.
fn take_over(session: &mut dyn Session, table: &Relation, dead: &Holder) -> Result<(), MigrateError> {
    tracing::info!("taking over the lock of {dead}");
    let aside = Relation::new(&table.database, format!("lock_expired_{}", uuid::Uuid::new_v4().simple()));
    match session.execute(&format!("RENAME TABLE {table} TO {aside}"), &QueryOptions::default()) {
        Ok(_) => {}
        // Somebody else was faster.
        Err(error) if error.code() == Some(UNKNOWN_TABLE) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if let Some((holder, _)) = read_holder(session, &aside)?
        && holder.id != dead.id
    {
        session.execute(&format!("RENAME TABLE {aside} TO {table}"), &QueryOptions::default())?;
        return Ok(());
    }
    session.execute(&format!("DROP TABLE IF EXISTS {aside}"), &QueryOptions::default())?;
    Ok(())
}

/// Creates the state database where it is missing.
pub(crate) fn ensure_database(
    session: &mut dyn Session,
    name: &str,
    cluster: Option<&str>,
) -> Result<(), MigrateError> {
    let on_cluster = cluster.map(|name| format!(" ON CLUSTER {}", quote_identifier(name))).unwrap_or_default();
    session.execute(
        &format!("CREATE DATABASE IF NOT EXISTS {}{on_cluster}", quote_identifier(name)),
        &QueryOptions::default(),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing;

    /// A second one waits and then says who holds the lock; a released lock is free.
    #[test]
    fn one_at_a_time() {
        drop(testing::session("lock_one"));
        let engine = testing::shared();
        let lock = Lock::acquire(&engine, "lock_one", "migrate", Duration::ZERO, |_| {}).unwrap();
        let mut told = String::new();
        let second =
            Lock::acquire(&engine, "lock_one", "load", Duration::from_millis(300), |holder| told = holder.into());
        let error = second.unwrap_err().to_string();
        assert!(error.contains("`chpipe migrate`") && error.contains(&std::process::id().to_string()), "{error}");
        assert!(told.contains("`chpipe migrate`"));
        lock.check().unwrap();
        drop(lock);
        Lock::acquire(&engine, "lock_one", "load", Duration::ZERO, |_| {}).unwrap();
    }

    /// A process of this machine that is gone holds nothing.
    #[test]
    fn a_dead_holder_is_taken_over() {
        let mut session = testing::session("lock_dead");
        let engine = testing::shared();
        let mut holder = Holder::this_process("migrate");
        holder.started = Some(1);
        let comment = quote_string(&serde_json::to_string(&holder).unwrap());
        let create = format!(
            "CREATE TABLE lock_dead.lock (beat_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY beat_at COMMENT {comment}"
        );
        session.execute(&create, &QueryOptions::default()).unwrap();
        Lock::acquire(&engine, "lock_dead", "migrate", Duration::ZERO, |_| {}).unwrap();
        let left = rows(&mut *session, "SELECT name FROM system.tables WHERE database = 'lock_dead'").unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
