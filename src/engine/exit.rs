//! The end of a process that has loaded libchdb. In: an address inside the library; out: a handler that runs before any of
//! its destructors. Its threads use its static objects for as long as the process lives, so none of them may be destroyed:
//! what libchdb registers for the exit from now on is dropped, and what it registered while it was loaded comes after the
//! handler, which ends the process. Nothing here decides what has to be done before the end.

use std::ffi::{CStr, c_char, c_int, c_void};

/// Calls `handler` with the exit status when the process ends by `exit`, before every destructor of the library that
/// `inside` is an address of. Answers whether that order is sure; where it is not, later registrations of the library come
/// before the handler, and it has to be registered again from time to time.
pub(super) fn before_destructors(inside: *const c_void, handler: extern "C" fn(c_int)) -> bool {
    let sure = drop_registrations(inside);
    register(handler);
    sure
}

/// Registers the handler; it runs before those that were registered until now.
#[cfg(target_os = "linux")]
pub(super) fn register(handler: extern "C" fn(c_int)) {
    extern "C" fn call(status: c_int, handler: *mut c_void) {
        // SAFETY: the argument is the handler, as it was registered below.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
        handler(status);
    }
    unsafe extern "C" {
        /// atexit with the exit status. <https://man7.org/linux/man-pages/man3/on_exit.3.html>
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    // SAFETY: both are functions that live as long as the process.
    unsafe {
        on_exit(call, handler as *mut c_void);
    }
}

/// Registers the handler; the status that it gets is 2, because atexit does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn register(handler: extern "C" fn(c_int)) {
    static HANDLER: std::sync::OnceLock<extern "C" fn(c_int)> = std::sync::OnceLock::new();
    extern "C" fn call() {
        if let Some(handler) = HANDLER.get() {
            handler(2);
        }
    }
    HANDLER.get_or_init(|| handler);
    // SAFETY: the handler is a function that lives as long as the process.
    unsafe {
        libc::atexit(call);
    }
}

/// What libchdb's `__cxa_atexit` becomes: nothing is registered, and the caller is told that it was.
#[cfg(target_os = "linux")]
extern "C" fn register_nothing(_destructor: *mut c_void, _argument: *mut c_void, _library: *mut c_void) -> c_int {
    0
}

#[cfg(not(target_os = "linux"))]
fn drop_registrations(_inside: *const c_void) -> bool {
    false
}

/// Points the library's import of `__cxa_atexit` to [`register_nothing`]; answers whether it has one.
#[cfg(target_os = "linux")]
fn drop_registrations(inside: *const c_void) -> bool {
    let mut search = Search { inside: inside as usize, slot: None };
    // SAFETY: the callback gets the pointer to `search`, which lives through the call.
    unsafe {
        libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast());
    }
    let Some(slot) = search.slot else { return false };
    let slot = slot as *mut usize;
    // SAFETY: sysconf has no requirements.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = slot as usize / page * page;
    // SAFETY: a page of the library's own table of imports, writable already but for libraries linked with full RELRO.
    if unsafe { libc::mprotect(start as *mut c_void, page, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
        return false;
    }
    // SAFETY: the slot is aligned, writable, and read by the library's calls only; it holds a function of this signature.
    unsafe { std::sync::atomic::AtomicUsize::from_ptr(slot) }
        .store(register_nothing as *const () as usize, std::sync::atomic::Ordering::Release);
    true
}

#[cfg(target_os = "linux")]
struct Search {
    inside: usize,
    slot: Option<usize>,
}

/// <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html>
#[cfg(target_os = "linux")]
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: usize,
}

#[cfg(target_os = "linux")]
#[repr(C)]
struct Relocation {
    offset: usize,
    info: u64,
    addend: i64,
}

#[cfg(target_os = "linux")]
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

/// Looks at one loaded library; 1 ends the iteration.
#[cfg(target_os = "linux")]
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
    const JMPREL: i64 = 23;
    const PLTRELSZ: i64 = 2;
    const STRTAB: i64 = 5;
    const SYMTAB: i64 = 6;
    // SAFETY: both pointers are dl_iterate_phdr's promise and ours.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    // SAFETY: as many headers as the library has, mapped for as long as it is.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let base = usize::try_from(info.dlpi_addr).unwrap_or(0);
    let within = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        header.p_type == libc::PT_LOAD && (start..start + header.p_memsz as usize).contains(&search.inside)
    };
    if !headers.iter().any(within) {
        return 0;
    }
    let Some(dynamic) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else { return 1 };
    let (mut relocations, mut bytes, mut symbols, mut texts) = (0, 0, 0, 0);
    let mut entry = base.wrapping_add(dynamic.p_vaddr as usize) as *const Dynamic;
    loop {
        // SAFETY: the dynamic section ends with an entry of tag 0.
        let Dynamic { tag, value } = unsafe { entry.read() };
        // glibc has made addresses of these, other loaders leave offsets.
        let address = if value < base { base + value } else { value };
        match tag {
            0 => break,
            JMPREL => relocations = address,
            PLTRELSZ => bytes = value,
            SYMTAB => symbols = address,
            STRTAB => texts = address,
            _ => {}
        }
        // SAFETY: not the last entry.
        entry = unsafe { entry.add(1) };
    }
    if relocations == 0 || symbols == 0 || texts == 0 {
        return 1;
    }
    // SAFETY: the table of the library's imported functions, of this size.
    let table = unsafe {
        std::slice::from_raw_parts(relocations as *const Relocation, bytes / std::mem::size_of::<Relocation>())
    };
    let named = |relocation: &&Relocation| {
        let index = (relocation.info >> 32) as usize;
        // SAFETY: a relocation's symbol is in the symbol table, and its name in the table of strings.
        let name = unsafe {
            let symbol = &*(symbols as *const Symbol).add(index);
            CStr::from_ptr((texts as *const c_char).add(symbol.name as usize))
        };
        name == c"__cxa_atexit"
    };
    search.slot = table.iter().find(named).map(|relocation| base.wrapping_add(relocation.offset));
    1
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::{QueryOptions, library, testing::shared};

    /// Set for the process that is to fail.
    const CHILD: &str = "CHPIPE_TEST_FAILS_AT_EXIT";

    /// libchdb's import is found; without that the order of handlers is a matter of luck.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_registrations_of_libchdb_are_dropped() {
        let settings = crate::config::EngineSettings::from_environment();
        let library = library::load(&library::find(&settings).unwrap()).unwrap();
        assert!(super::drop_registrations(library.connect as *const std::ffi::c_void));
        assert!(!super::drop_registrations(std::ptr::null()));
    }

    /// The other process: it fails while sessions are open and a statement runs.
    #[test]
    fn fails_in_a_process_of_its_own() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let engine = shared();
        for _ in 0..2 {
            let engine = std::sync::Arc::clone(&engine);
            std::thread::spawn(move || {
                let mut session = engine.connect().unwrap();
                let sql =
                    "SELECT number % 10 AS k, quantile(0.5)(sipHash64(number)) FROM numbers(10000000000) GROUP BY k";
                session.execute(sql, &QueryOptions::default())
            });
        }
        let mut session = super::super::testing::session("exit");
        for sql in [
            "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO t SELECT number FROM numbers(100000)",
            "SELECT count() FROM t WHERE match(toString(a), '^1.*9$')",
        ] {
            session.execute(sql, &QueryOptions::default()).unwrap();
        }
        panic!("as it should");
    }

    /// A test that fails ends its process by exit(101), not by a signal out of libchdb's destructors.
    #[test]
    fn a_failing_process_ends_with_its_code() {
        let binary = std::env::current_exe().unwrap();
        for _ in 0..3 {
            let mut child = Command::new(&binary)
                .args(["--exact", "engine::exit::tests::fails_in_a_process_of_its_own"])
                .env(CHILD, "1")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let started = std::time::Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                if started.elapsed().as_secs() > 120 {
                    child.kill().unwrap();
                    panic!("the process does not end");
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            };
            assert_eq!(status.code(), Some(101), "{status}");
        }
    }
}
