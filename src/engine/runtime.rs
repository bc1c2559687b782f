//! The threads on which the server engines wait: the trait is synchronous, HTTP and the native protocol are not. All of a
//! process share one runtime. A call from within another runtime's task would panic: use a blocking thread there.

use std::sync::OnceLock;

use tokio::runtime::Runtime;

use super::EngineError;

/// The runtime of all server engines of this process.
pub(super) fn runtime() -> Result<&'static Runtime, EngineError> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("server-engine")
                .enable_all()
                .build()
                .ok()
        })
        .as_ref()
        .ok_or_else(|| EngineError::Protocol { reason: "no threads can be started".into() })
}
