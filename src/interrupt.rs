//! SIGINT and SIGTERM, in one place. The first signal sets a flag that every loop may poll and lets the engines cancel
//! what runs; the second gives them a moment and ends the process. It never prints and decides no exit code but that one.

use std::{
    os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The exit code of a process that a signal ended, as shells count it for SIGINT.
pub const EXIT_CODE: u8 = 130;

/// How long the second signal waits for running statements to end.
const GRACE: Duration = Duration::from_secs(1);

static SIGNALS: AtomicU32 = AtomicU32::new(0);
/// The writing end of the pipe that wakes the watching thread: a signal handler may do nothing but write to it.
static WAKE: AtomicI32 = AtomicI32::new(-1);
static NEXT: AtomicU64 = AtomicU64::new(0);

type Callback = Box<dyn Fn() + Send>;

fn callbacks() -> &'static Mutex<Vec<(u64, Callback)>> {
    static CALLBACKS: OnceLock<Mutex<Vec<(u64, Callback)>>> = OnceLock::new();
    CALLBACKS.get_or_init(Mutex::default)
}

/// Whether the user, or the system, asked this process to stop. Loops look here between two steps.
pub fn interrupted() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}

/// A callback's registration; it is forgotten when this is dropped.
#[derive(Debug)]
pub struct OnInterrupt(u64);

impl Drop for OnInterrupt {
    fn drop(&mut self) {
        callbacks().lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _)| *id != self.0);
    }
}

/// Calls `callback` from a thread of its own at each signal, until the registration is dropped. It must be quick.
#[must_use = "dropping the registration removes the callback"]
pub fn on_interrupt(callback: impl Fn() + Send + 'static) -> OnInterrupt {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    callbacks().lock().unwrap_or_else(PoisonError::into_inner).push((id, Box::new(callback)));
    OnInterrupt(id)
}

/// Cancels statements again and again until none is running: one that has not reached its server yet cannot be cancelled.
/// Gives up when `kill` cannot ask the server; the statements run on then, and the second signal ends the process.
pub fn until_gone(mut ids: Vec<String>, is_running: impl Fn(&str) -> bool, kill: impl Fn(&str) -> bool) {
    loop {
        ids.retain(|id| is_running(id));
        if ids.is_empty() || !ids.iter().all(|id| kill(id)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Takes over SIGINT and SIGTERM; later calls change nothing. A library user who wants the signals does not call it.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // Without a pipe the signals keep their default action, which ends the process: no worse than not installing.
        let Ok((read, write)) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) else { return };
        let watching = std::thread::Builder::new().name("signals".into()).spawn(move || watch(&read));
        if watching.is_err() {
            return;
        }
        WAKE.store(write.into_raw_fd(), Ordering::Relaxed);
        let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: the handler only stores to atomics and calls write(2), both async-signal-safe.
            let _ = unsafe { sigaction(signal, &action) };
        }
    });
}

extern "C" fn on_signal(_signal: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
    let wake = WAKE.load(Ordering::Relaxed);
    // SAFETY: write(2) of one byte from a static buffer; a full or closed pipe is no harm.
    unsafe { libc::write(wake, b"!".as_ptr().cast(), 1) };
}

fn watch(read: &OwnedFd) {
    let mut byte = [0_u8; 1];
    loop {
        // SAFETY: reads one byte into a live buffer of one byte.
        let count = unsafe { libc::read(read.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
        if count == 0 {
            return;
        }
        if count < 0 {
            continue;
        }
        for (_, callback) in callbacks().lock().unwrap_or_else(PoisonError::into_inner).iter() {
            callback();
        }
        if SIGNALS.load(Ordering::Relaxed) >= 2 {
            std::thread::sleep(GRACE);
            // SAFETY: ends the process without exit handlers: libchdb's would run beside its own threads and crash.
            unsafe { libc::_exit(EXIT_CODE.into()) }
        }
    }
}
