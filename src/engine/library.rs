//! libchdb: where it is found, and its C API as typed functions. It opens no warehouse.
//!
//! The API is `chdb.h` of the chdb-core repository; every signature here is copied from there by hand.

use std::{
    ffi::{CStr, c_char, c_double, c_int, c_void},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{config::EngineSettings, engine::EngineError};

/// The release that `chpipe engine install` fetches: ClickHouse 26.5.1.
pub const VERSION: &str = "26.5.3";

#[cfg(target_os = "macos")]
const SYSTEM_PLACES: &[&str] = &["/usr/local/lib/libchdb.so", "/opt/homebrew/lib/libchdb.so"];
#[cfg(not(target_os = "macos"))]
const SYSTEM_PLACES: &[&str] =
    &["/usr/local/lib/libchdb.so", "/usr/lib/libchdb.so", "/usr/lib/x86_64-linux-gnu/libchdb.so"];

/// A `chdb_connection` as the API hands it out: what `chdb_connect`'s answer points to.
pub(super) type RawConnection = *mut c_void;
/// A `chdb_result`.
pub(super) type RawResult = *mut c_void;

pub(super) type QueryWithParams = unsafe extern "C" fn(
    RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> RawResult;
type Count = unsafe extern "C" fn(RawResult) -> u64;

/// The functions of a loaded libchdb. It is never unloaded: its threads and its thread-locals outlive every connection.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection,
    pub(super) close: unsafe extern "C" fn(*mut RawConnection),
    pub(super) query: QueryWithParams,
    pub(super) stream_query: QueryWithParams,
    pub(super) stream_fetch: unsafe extern "C" fn(RawConnection, RawResult) -> RawResult,
    pub(super) stream_cancel: unsafe extern "C" fn(RawConnection, RawResult),
    pub(super) destroy: unsafe extern "C" fn(RawResult),
    pub(super) buffer: unsafe extern "C" fn(RawResult) -> *const u8,
    pub(super) length: unsafe extern "C" fn(RawResult) -> usize,
    pub(super) elapsed: unsafe extern "C" fn(RawResult) -> c_double,
    pub(super) error: unsafe extern "C" fn(RawResult) -> *const c_char,
    pub(super) read_rows: Count,
    pub(super) read_bytes: Count,
    pub(super) written_rows: Count,
    pub(super) written_bytes: Count,
}

/// The folder that `chpipe engine install` fills: `<cache>/libchdb/<version>/libchdb.so`.
pub fn installed_path(settings: &EngineSettings) -> PathBuf {
    settings.cache_dir().join("libchdb").join(VERSION).join("libchdb.so")
}

/// The libchdb to use: the one that was named, the installed one, then the system's.
///
/// # Errors
/// [`EngineError::LibraryMissing`] with every place that was looked at.
pub fn find(settings: &EngineSettings) -> Result<PathBuf, EngineError> {
    let mut searched = match &settings.libchdb {
        // A named one is meant: no other library is taken in its place.
        Some(path) => vec![path.clone()],
        None => {
            let mut places = vec![installed_path(settings)];
            places.extend(SYSTEM_PLACES.iter().map(PathBuf::from));
            places
        }
    };
    match searched.iter().position(|path| path.is_file()) {
        Some(index) => Ok(searched.swap_remove(index)),
        None => Err(EngineError::LibraryMissing { searched }),
    }
}

static LOADED: OnceLock<Library> = OnceLock::new();

/// Loads libchdb once for the life of the process; a second call answers the first one's library, whatever its path.
///
/// # Errors
/// The file is no libchdb of this machine's kind, or lacks a function.
pub(super) fn load(path: &Path) -> Result<&'static Library, EngineError> {
    static LOADING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    if let Some(library) = LOADED.get() {
        return Ok(library);
    }
    let _one_at_a_time = LOADING.lock();
    if let Some(library) = LOADED.get() {
        return Ok(library);
    }
    let library = Library::open(path).map_err(|error| {
        // The loader's own words are behind libloading's.
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        EngineError::Library { path: path.to_owned(), reason }
    })?;
    Ok(LOADED.get_or_init(|| library))
}

impl Library {
    fn open(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: libchdb's initialisers are plain C++ static constructors without requirements on the caller.
        let loaded = unsafe { libloading::Library::new(path) }?;
        macro_rules! function {
            ($name:literal) => {{
                // SAFETY: the field's type is the function's signature in chdb.h, and the library is never unloaded.
                *unsafe { loaded.get($name) }?
            }};
        }
        // SAFETY: the signature is `void (int)`. chDB must leave the process's signals alone: see `crate::interrupt`.
        unsafe {
            loaded.get::<unsafe extern "C" fn(c_int)>(b"chdb_set_signal_handlers_enabled\0")?(0);
        }
        let library = Self {
            connect: function!(b"chdb_connect\0"),
            close: function!(b"chdb_close_conn\0"),
            query: function!(b"chdb_query_with_params_n\0"),
            stream_query: function!(b"chdb_stream_query_with_params_n\0"),
            stream_fetch: function!(b"chdb_stream_fetch_result\0"),
            stream_cancel: function!(b"chdb_stream_cancel_query\0"),
            destroy: function!(b"chdb_destroy_query_result\0"),
            buffer: function!(b"chdb_result_buffer\0"),
            length: function!(b"chdb_result_length\0"),
            elapsed: function!(b"chdb_result_elapsed\0"),
            error: function!(b"chdb_result_error\0"),
            // The plain rows_read counts the result's rows; the storage's are what other engines call read_rows.
            read_rows: function!(b"chdb_result_storage_rows_read\0"),
            read_bytes: function!(b"chdb_result_storage_bytes_read\0"),
            written_rows: function!(b"chdb_result_rows_written\0"),
            written_bytes: function!(b"chdb_result_bytes_written\0"),
        };
        std::mem::forget(loaded);
        Ok(library)
    }
}

/// A result of libchdb; destroyed when dropped.
pub(super) struct OwnedResult {
    library: &'static Library,
    raw: RawResult,
}

// SAFETY: a result is memory of its own; only its stream functions take the connection, and those go through the session.
unsafe impl Send for OwnedResult {}

impl OwnedResult {
    /// # Safety
    /// `raw` comes from this library's query functions and has no other owner.
    pub(super) unsafe fn new(library: &'static Library, raw: RawResult) -> Result<Self, EngineError> {
        if raw.is_null() {
            return Err(EngineError::Protocol { reason: "libchdb answered nothing: its connection is closed".into() });
        }
        Ok(Self { library, raw })
    }

    pub(super) fn raw(&self) -> RawResult {
        self.raw
    }

    /// The error text, where the statement failed. The counters mean nothing then.
    pub(super) fn error(&self) -> Option<String> {
        // SAFETY: the result is live, and the text lives as long as it does.
        let text = unsafe { (self.library.error)(self.raw) };
        if text.is_null() {
            return None;
        }
        // SAFETY: a NUL-terminated string, by chdb.h.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the result is live.
        let (buffer, length) = unsafe { ((self.library.buffer)(self.raw), (self.library.length)(self.raw)) };
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: chdb.h: `length` bytes at `buffer`, unchanged until the result is destroyed.
        unsafe { std::slice::from_raw_parts(buffer, length) }
    }

    /// Rows and bytes read, rows and bytes written, seconds.
    pub(super) fn counters(&self) -> (u64, u64, u64, u64, f64) {
        let library = self.library;
        // SAFETY: the result is live and holds no error.
        unsafe {
            (
                (library.read_rows)(self.raw),
                (library.read_bytes)(self.raw),
                (library.written_rows)(self.raw),
                (library.written_bytes)(self.raw),
                (library.elapsed)(self.raw),
            )
        }
    }
}

impl Drop for OwnedResult {
    fn drop(&mut self) {
        // SAFETY: this is the only owner.
        unsafe { (self.library.destroy)(self.raw) }
    }
}
