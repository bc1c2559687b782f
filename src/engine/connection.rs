//! The life of libchdb's connections: opened one at a time, closed when dropped, and all gone before libchdb is destroyed.
//!
//! libchdb starts with the first connection of the process and shuts down with its last. A process that has loaded it ends by
//! an exit handler of ours ([`exit`]): libchdb's threads crash where its static objects are destroyed under them.

use std::{
    ffi::{CString, c_char},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{
    EngineError, chdb, exit,
    library::{self, Library, OwnedResult, RawConnection},
    lock::DirectoryLock,
};
use crate::interrupt::{self, interrupted};

/// How often a shutdown that took too long is looked at.
const SHUTDOWN_POLL: Duration = Duration::from_millis(25);

/// The connections of this process, for the exit handler.
static CONNECTIONS: Mutex<Vec<ConnectionState>> = Mutex::new(Vec::new());
/// libchdb starts and stops as a whole with its first and last connection; one of that at a time.
static CONNECTING: Mutex<()> = Mutex::new(());

/// Held for reading during every call into libchdb; the exit handler takes it for writing and keeps it.
static CALLS: RwLock<()> = RwLock::new(());

/// Held during a call into libchdb that is not made through [`Connection`]'s own functions.
pub(super) fn call() -> RwLockReadGuard<'static, ()> {
    CALLS.read()
}

#[derive(Clone, Copy)]
struct ConnectionState {
    pointer: usize,
    /// The result handle of its running stream, or 0.
    stream: usize,
}

/// How long the exit handler waits for calls that are under way.
const EXIT_WAIT: Duration = Duration::from_secs(5);

/// How long a process waits for the close of its last connection: it shuts libchdb down, which does not end while a queue
/// table (S3Queue) is attached. MergeTree is safe against an end without it.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long an open waits for a close that took longer.
const REOPEN_WAIT: Duration = Duration::from_secs(60);

static SHUTDOWN: Mutex<Shutdown> = Mutex::new(Shutdown { running: false, lock: None });

/// The shutdown of libchdb with its last connection.
struct Shutdown {
    running: bool,
    /// The lock of the directory that nobody waits for any more: freed by the shutdown's end or the process's.
    lock: Option<DirectoryLock>,
}

/// A libchdb connection; closed when dropped.
pub(super) struct Connection {
    pub(super) library: &'static Library,
    pointer: *mut RawConnection,
}

// SAFETY: libchdb serializes the calls on a connection by a lock of its own, and any thread may make them.
unsafe impl Send for Connection {}
// SAFETY: as above; nothing here is changed after it was made.
unsafe impl Sync for Connection {}

impl Connection {
    /// # Errors
    /// Why there is none.
    pub(super) fn open(library: &'static Library, arguments: &[CString]) -> Result<Self, &'static str> {
        let mut pointers: Vec<*mut c_char> = arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let _call = CALLS.read();
        let _one_at_a_time = CONNECTING.lock();
        let begun = Instant::now();
        while SHUTDOWN.lock().running {
            if interrupted() || begun.elapsed() > REOPEN_WAIT {
                return Err(
                    "this process has closed it a moment ago, and libchdb does not end (S3Queue tables keep it)",
                );
            }
            std::thread::sleep(SHUTDOWN_POLL);
        }
        // SAFETY: `argc` strings that live through the call; libchdb copies them.
        let pointer = unsafe { (library.connect)(pointers.len() as libc::c_int, pointers.as_mut_ptr()) };
        if pointer.is_null() {
            return Err("libchdb refuses it; its message, if any, stands above");
        }
        end_before_destructors(library);
        CONNECTIONS.lock().push(ConnectionState { pointer: pointer as usize, stream: 0 });
        Ok(Self { library, pointer })
    }

    pub(super) fn raw(&self) -> RawConnection {
        // SAFETY: the pointer is live until this is dropped; chdb.h: the connection is what it points to.
        unsafe { *self.pointer }
    }

    /// Tells the exit handler which stream it has to cancel before it closes the connection.
    pub(super) fn set_stream(&self, stream: Option<&OwnedResult>) {
        let mut connections = CONNECTIONS.lock();
        if let Some(state) = connections.iter_mut().find(|state| state.pointer == self.pointer as usize) {
            state.stream = stream.map_or(0, |stream| stream.raw() as usize);
        }
    }

    /// Runs a statement to its end.
    pub(super) fn query(
        &self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<OwnedResult, EngineError> {
        self.call(self.library.query, sql, format, parameters)
    }

    /// Starts a SELECT whose blocks are fetched one by one.
    pub(super) fn stream(
        &self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<OwnedResult, EngineError> {
        self.call(self.library.stream_query, sql, format, parameters)
    }

    fn call(
        &self,
        function: library::QueryWithParams,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<OwnedResult, EngineError> {
        let pointers = |pick: fn(&(String, String)) -> &String| -> (Vec<*const c_char>, Vec<usize>) {
            parameters.iter().map(pick).map(|text| (text.as_ptr().cast::<c_char>(), text.len())).unzip()
        };
        let (names, name_lengths) = pointers(|(name, _)| name);
        let (values, value_lengths) = pointers(|(_, value)| value);
        let _call = CALLS.read();
        // SAFETY: every pointer comes with its length and lives through the call.
        let raw = unsafe {
            function(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        // SAFETY: a fresh result of this library.
        unsafe { OwnedResult::new(self.library, raw) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _call = CALLS.read();
        let one_at_a_time = CONNECTING.lock();
        let mut connections = CONNECTIONS.lock();
        let Some(index) = connections.iter().position(|state| state.pointer == self.pointer as usize) else { return };
        connections.remove(index);
        let last = connections.is_empty();
        drop(connections);
        let (close, pointer) = (self.library.close, self.pointer as usize);
        // SAFETY: nobody else has this connection, and no statement runs on it: a session is borrowed by its stream.
        let close = move || unsafe { close(pointer as *mut RawConnection) };
        if !last {
            return close();
        }
        SHUTDOWN.lock().running = true;
        let (closed, wait) = std::sync::mpsc::channel();
        let shut_down = move || {
            close();
            *SHUTDOWN.lock() = Shutdown { running: false, lock: None };
        };
        let closing = std::thread::Builder::new().name("close".into()).spawn(move || {
            shut_down();
            let _ = closed.send(());
        });
        match closing {
            Ok(_) if wait.recv_timeout(CLOSE_WAIT).is_err() => {
                tracing::debug!("libchdb is left to the end of the process: it does not close");
            }
            Ok(_) => {}
            // No thread can be had: here, then, however long it takes.
            Err(_) => shut_down(),
        }
        drop(one_at_a_time);
    }
}

/// Makes sure that the process ends by [`end_process`], before anything of libchdb is destroyed. Where the system does not
/// let it come first for good (see [`exit`]), it is registered again with the second connection, the fourth, the eighth, …
fn end_before_destructors(library: &'static Library) {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    static SURE: OnceLock<bool> = OnceLock::new();
    let opened = OPENED.fetch_add(1, Ordering::Relaxed) + 1;
    let inside = library.connect as *const std::ffi::c_void;
    let sure = *SURE.get_or_init(|| exit::before_destructors(inside, end_process));
    if !sure && opened > 1 && opened.is_power_of_two() {
        exit::register(end_process);
    }
}

/// Cancels what runs and ends the process past libchdb's destructors; MergeTree is safe against an end without a close. It
/// works on a thread of its own: this one's thread-locals, libchdb's among them, may be gone.
extern "C" fn end_process(status: libc::c_int) {
    if CONNECTIONS.try_lock().is_some_and(|connections| connections.is_empty()) {
        end_with(status);
    }
    let ending = std::thread::Builder::new().name("close".into()).spawn(move || {
        chdb::cancel_before_end();
        let finished = CALLS.try_write_for(EXIT_WAIT).map(std::mem::forget).is_some();
        end_with(match (finished, interrupted()) {
            (_, true) => interrupt::EXIT_CODE.into(),
            (true, false) => status,
            (false, false) => {
                if status == 0 {
                    2
                } else {
                    status
                }
            }
        })
    });
    if let Ok(ending) = ending {
        // It does not come back but by a panic, which has said so.
        let _ = ending.join();
    }
    end_with(status)
}

fn end_with(status: libc::c_int) -> ! {
    // SAFETY: what C code has printed is written, then the process ends.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(status)
    }
}

/// The directory's lock, kept for as long as libchdb works in it.
pub(super) struct HeldWhileOpen(Option<DirectoryLock>);

impl HeldWhileOpen {
    pub(super) fn new(lock: DirectoryLock) -> Self {
        Self(Some(lock))
    }
}

impl Drop for HeldWhileOpen {
    fn drop(&mut self) {
        let mut shutdown = SHUTDOWN.lock();
        if shutdown.running {
            shutdown.lock = self.0.take();
        }
    }
}
