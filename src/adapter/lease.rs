//! Who works on what: a table that exists while an invocation holds a lease. `CREATE TABLE` is an atomic mutex on every
//! server; the table's comment names the holder, and a heartbeat renews it, so that a holder that died blocks nobody for
//! long: at once on its own machine, after [`EXPIRY`] from elsewhere.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::AdapterError;
use crate::{
    engine::{Engine, EngineError, QueryOptions, Session, quote_string},
    interrupt::interrupted,
    project::Relation,
};

/// A lease that was not renewed for so long is nobody's.
const EXPIRY: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

/// TABLE_ALREADY_EXISTS and UNKNOWN_TABLE.
const EXISTS: i32 = 57;
const UNKNOWN: i32 = 60;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// Eight hexadecimal digits.
    pub invocation: String,
    pub host: String,
    pub pid: u32,
    /// Renewals so far: a comment that changes is a holder that lives.
    #[serde(default)]
    beats: u64,
}

impl LeaseHolder {
    /// This process, for an invocation.
    pub fn this(invocation: &str) -> Self {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { invocation: invocation.to_owned(), host, pid: std::process::id(), beats: 0 }
    }

    fn is_dead(&self, silent_seconds: u64) -> bool {
        if silent_seconds > EXPIRY.as_secs() {
            return true;
        }
        let here = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if self.host != here || self.pid == std::process::id() {
            return false;
        }
        let Ok(pid) = i32::try_from(self.pid) else { return true };
        // Signal 0 only asks whether the process is there; EPERM says that it is, under another user.
        matches!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
    }
}

/// A held lease; given back when dropped.
pub struct Lease {
    engine: Arc<dyn Engine>,
    relation: Relation,
    stop: Option<mpsc::Sender<()>>,
    heartbeat: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("relation", &self.relation).finish_non_exhaustive()
    }
}

/// Why a lease was not had.
#[derive(Debug)]
pub enum LeaseError {
    /// Somebody else has it, for longer than one was ready to wait.
    Held(LeaseHolder),
    Adapter(AdapterError),
}

impl From<EngineError> for LeaseError {
    fn from(error: EngineError) -> Self {
        Self::Adapter(error.into())
    }
}

impl Lease {
    /// Takes the lease of this name, waiting at most `patience` for another holder.
    ///
    /// # Errors
    /// [`LeaseError::Held`], or a statement failed.
    pub fn acquire(
        engine: &Arc<dyn Engine>,
        relation: &Relation,
        holder: &LeaseHolder,
        patience: Duration,
    ) -> Result<Self, LeaseError> {
        let started = Instant::now();
        let mut session = engine.connect()?;
        let comment = serde_json::to_string(holder).unwrap_or_default();
        // An engine without parts: nothing of it is merged, moved or checked at a start.
        let create = format!("CREATE TABLE {relation} (held UInt8) ENGINE = Memory COMMENT {}", quote_string(&comment));
        loop {
            match session.execute(&create, &QueryOptions::default()) {
                Ok(_) => break,
                Err(error) if error.code() == Some(EXISTS) => {}
                Err(error) => return Err(error.into()),
            }
            let Some((text, silent)) = read(session.as_mut(), relation)? else { continue };
            match serde_json::from_str::<LeaseHolder>(&text) {
                Ok(other) if !other.is_dead(silent) => {
                    if started.elapsed() >= patience {
                        return Err(LeaseError::Held(other));
                    }
                    if interrupted() {
                        return Err(EngineError::Interrupted.into());
                    }
                    std::thread::sleep(POLL);
                }
                _ => steal(session.as_mut(), relation, &text, &holder.invocation)?,
            }
        }
        drop(session);
        Ok(Self::held(engine, relation, holder.clone()))
    }

    fn held(engine: &Arc<dyn Engine>, relation: &Relation, holder: LeaseHolder) -> Self {
        let (stop, stopped) = mpsc::channel();
        let beating = Arc::clone(engine);
        let name = relation.clone();
        // Without a thread the lease is not renewed; it still holds for a minute, and for as long as the process lives
        // on this machine.
        let heartbeat = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || beat(&beating, &name, holder, &stopped))
            .ok();
        Self { engine: Arc::clone(engine), relation: relation.clone(), stop: Some(stop), heartbeat }
    }
}

/// Whether somebody alive holds the lease of this name.
///
/// # Errors
/// The warehouse cannot be asked.
pub fn is_held(session: &mut dyn Session, relation: &Relation) -> Result<bool, AdapterError> {
    let held = read(session, relation)?.is_some_and(|(text, silent)| {
        serde_json::from_str::<LeaseHolder>(&text).is_ok_and(|holder| !holder.is_dead(silent))
    });
    Ok(held)
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(heartbeat) = self.heartbeat.take() {
            let _ = heartbeat.join();
        }
        // What cannot be given back expires.
        if let Ok(mut session) = self.engine.connect() {
            let _ = session.execute(&format!("DROP TABLE IF EXISTS {}", self.relation), &QueryOptions::default());
        }
    }
}

fn beat(engine: &Arc<dyn Engine>, relation: &Relation, mut holder: LeaseHolder, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
        holder.beats += 1;
        let comment = serde_json::to_string(&holder).unwrap_or_default();
        let renew = format!("ALTER TABLE {relation} MODIFY COMMENT {}", quote_string(&comment));
        // One that fails is tried again; four in a row and others may take over.
        if let Ok(mut session) = engine.connect() {
            let _ = session.execute(&renew, &QueryOptions::default());
        }
    }
}

/// The comment of a lease and the seconds since it was renewed; `None` where it was given back meanwhile.
fn read(session: &mut dyn Session, relation: &Relation) -> Result<Option<(String, u64)>, EngineError> {
    let sql = format!(
        "SELECT comment, toString(greatest(0, dateDiff('second', metadata_modification_time, now()))) FROM system.tables \
         WHERE database = {} AND name = {}",
        quote_string(&relation.schema),
        quote_string(&relation.identifier)
    );
    let rows = super::cell::rows(&crate::engine::fetch(session, &sql, &QueryOptions::default())?);
    Ok(rows.into_iter().next().map(|row| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let comment = values.next().unwrap_or_default();
        (comment, values.next().and_then(|silent| silent.parse().ok()).unwrap_or(0))
    }))
}

/// Takes a dead holder's table away. Two may try at once: who renames it looks whether it is still the dead one's.
fn steal(session: &mut dyn Session, relation: &Relation, dead: &str, invocation: &str) -> Result<(), EngineError> {
    let aside = relation.with_identifier(format!("{}_{invocation}", relation.identifier));
    match session.execute(&format!("RENAME TABLE {relation} TO {aside}"), &QueryOptions::default()) {
        Ok(_) => {}
        Err(error) if matches!(error.code(), Some(UNKNOWN | EXISTS)) => return Ok(()),
        Err(error) => return Err(error),
    }
    let taken = read(session, &aside)?.map(|(comment, _)| comment);
    let back = taken.is_some_and(|comment| comment != dead);
    let sql =
        if back { format!("RENAME TABLE {aside} TO {relation}") } else { format!("DROP TABLE IF EXISTS {aside}") };
    session.execute(&sql, &QueryOptions::default())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing;

    #[test]
    fn a_lease_is_exclusive_until_its_holder_is_gone() {
        drop(testing::session("lease_test"));
        let engine = testing::shared();
        let relation = Relation::new("lease_test", "lock");
        let first = Lease::acquire(&engine, &relation, &LeaseHolder::this("aaaaaaaa"), Duration::ZERO).unwrap();
        let second = Lease::acquire(&engine, &relation, &LeaseHolder::this("bbbbbbbb"), Duration::ZERO);
        assert!(matches!(second, Err(LeaseError::Held(holder)) if holder.invocation == "aaaaaaaa"));
        drop(first);
        drop(Lease::acquire(&engine, &relation, &LeaseHolder::this("bbbbbbbb"), Duration::ZERO).unwrap());
        // A process that is no more: no pid is that high.
        let dead = LeaseHolder { pid: i32::MAX as u32, ..LeaseHolder::this("cccccccc") };
        let mut held = Lease::acquire(&engine, &relation, &dead, Duration::ZERO).unwrap();
        held.stop = None;
        let after = Lease::acquire(&engine, &relation, &LeaseHolder::this("dddddddd"), Duration::ZERO);
        assert!(after.is_ok(), "{after:?}");
    }
}
