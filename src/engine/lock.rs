//! One process at a time in a warehouse directory: an flock that the system gives back however the holder ends, and a
//! note of who that is.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{engine::EngineError, interrupt::interrupted};

const POLL: Duration = Duration::from_millis(50);

/// Who has a directory; written into the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    /// `chpipe serve`
    pub command: String,
    pub since: chrono::DateTime<chrono::Utc>,
}

impl Holder {
    fn this_process() -> Self {
        Self {
            pid: std::process::id(),
            host: nix::unistd::gethostname().map_or_else(|_| "?".into(), |name| name.to_string_lossy().into_owned()),
            command: command(std::env::args()),
            since: chrono::Utc::now(),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` (pid {} on {}, since {})", self.command, self.pid, self.host, self.since.format("%F %T UTC"))
    }
}

/// The program and its subcommand; the rest of a command line may hold secrets.
fn command(mut arguments: impl Iterator<Item = String>) -> String {
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match arguments.find(|argument| !argument.starts_with('-')) {
        Some(subcommand) => format!("{program} {subcommand}"),
        None => program,
    }
}

/// The held lock; dropping it frees the directory.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    // Its descriptor is the lock; it is closed on exec, so no child can keep it.
    file: File,
}

/// Where the lock of a warehouse directory is.
pub fn lock_path(directory: &Path) -> PathBuf {
    directory.join("chpipe.lock")
}

/// Who holds the directory now, if anyone.
pub fn holder(directory: &Path) -> Option<Holder> {
    let mut file = File::open(lock_path(directory)).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(_) => Some(read_holder(&mut file)),
    }
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_else(|| Holder {
        // Between taking the lock and writing the note there is a moment without one.
        pid: 0,
        host: "?".into(),
        command: "another process".into(),
        since: chrono::DateTime::UNIX_EPOCH,
    })
}

impl DirectoryLock {
    /// Takes the directory, waiting up to `timeout`. While it waits, `meanwhile` may find another way to the warehouse
    /// and end the waiting with it.
    ///
    /// # Errors
    /// [`EngineError::Locked`] when the time is over; interrupted; the directory cannot be made or written.
    pub(super) fn acquire<T>(
        directory: &Path,
        timeout: Duration,
        mut meanwhile: impl FnMut(&Holder) -> Option<T>,
    ) -> Result<Acquired<Self, T>, EngineError> {
        let open_error =
            |error: std::io::Error| EngineError::Open { path: directory.to_owned(), reason: error.to_string() };
        fs_err::create_dir_all(directory).map_err(open_error)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock_path(directory))
            .map_err(open_error)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(open_error(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = read_holder(&mut file);
            if let Some(other_way) = meanwhile(&holder) {
                return Ok(Acquired::OtherWay(other_way));
            }
            if interrupted() {
                return Err(EngineError::Interrupted);
            }
            if started.elapsed() >= timeout {
                return Err(EngineError::Locked { path: directory.to_owned(), holder: holder.to_string() });
            }
            std::thread::sleep(POLL);
        }
        let note = serde_json::to_vec(&Holder::this_process()).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&note))
            .and_then(|()| file.flush())
            .map_err(open_error)?;
        Ok(Acquired::Lock(Self { file }))
    }
}

/// The lock, or what was found while waiting for it.
pub(super) enum Acquired<L, T> {
    Lock(L),
    OtherWay(T),
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file frees the lock; the empty note says that nobody is meant.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_directory_names_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let none = |_: &Holder| None::<()>;
        let first = DirectoryLock::acquire(directory.path(), Duration::ZERO, none).unwrap();
        let Err(error) = DirectoryLock::acquire(directory.path(), Duration::ZERO, none) else {
            panic!("two processes have the directory");
        };
        let EngineError::Locked { holder, .. } = error else { panic!("{error}") };
        assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
        drop(first);
        assert!(DirectoryLock::acquire(directory.path(), Duration::ZERO, none).is_ok());
    }

    #[test]
    fn waiting_ends_when_another_way_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let _first = DirectoryLock::acquire(directory.path(), Duration::ZERO, |_| None::<()>).unwrap();
        let second = DirectoryLock::acquire(directory.path(), Duration::from_secs(60), |_| Some("http")).unwrap();
        assert!(matches!(second, Acquired::OtherWay("http")));
    }

    #[test]
    fn the_note_holds_the_subcommand_and_no_argument() {
        let line = ["/usr/bin/chpipe", "--quiet", "query", "SELECT 'secret'"].map(str::to_owned);
        assert_eq!(command(line.into_iter()), "chpipe query");
    }
}
