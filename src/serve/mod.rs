//! ClickHouse's HTTP interface over the embedded warehouse, on loopback, for clickhouse-connect, dbt-clickhouse, Superset,
//! Grafana, curl and chpipe's own `http` engine. In: requests; out: what a ClickHouse server of the same version would
//! answer. It never listens on another address than the one it was given, and knows nothing of models or the lake.
//!
//! A request without `session_id` gets a connection of its own: its settings end with it. One with `session_id` gets the
//! session's connection; its settings are put back after it, those of SET stay. A request's work runs on a thread of its
//! own, its rows go to the client as they come.
//! <https://clickhouse.com/docs/interfaces/http>

mod access;
mod answer;
mod encoding;
mod native_blocks;
mod request;
mod sessions;
mod statement;
mod status;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, Response, StatusCode, header},
    response::IntoResponse as _,
    routing::{any, get},
};
use tokio::sync::watch;

pub use access::Credentials;

use crate::engine::{ChdbEngine, Engine as _, EngineError, NoteFile, QueryOptions, ServeNote, note_path};
use sessions::Sessions;

/// How the warehouse is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// The one user.
    pub credentials: Credentials,
}

/// What went wrong with serving; a statement's failure is the client's answer, not this.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot write `{}`, by which other processes find the server", path.display())]
    Note { path: PathBuf, source: std::io::Error },
    #[error("cannot start the server's threads")]
    Runtime { source: std::io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ServeError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => {
                Some("another program has the port: give another with `--port`, 0 for any free one".into())
            }
            Self::Engine(error) => error.hint(),
            _ => None,
        }
    }
}

/// What all requests share.
struct Shared {
    engine: Arc<ChdbEngine>,
    credentials: Credentials,
    sessions: Sessions,
    /// The statements that clients have under way here.
    running: parking_lot::Mutex<std::collections::HashSet<String>>,
    version: String,
    time_zone: String,
    host_name: String,
}

/// A running server, on threads of its own. Dropping it ends it: running statements are cancelled.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    _note: NoteFile,
}

impl Server {
    /// Serves the warehouse. It accepts connections when this returns, and other chpipe processes find it.
    ///
    /// # Errors
    /// The address is taken, or the note beside the warehouse's lock cannot be written.
    pub(crate) fn start(engine: Arc<ChdbEngine>, options: ServeOptions) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address: options.address, source };
        let listener = std::net::TcpListener::bind(options.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            // A statement holds a thread for as long as it runs.
            .max_blocking_threads(256)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(|source| ServeError::Runtime { source })?;
        let shared = Arc::new(Shared {
            version: engine.capabilities().version_text.clone(),
            time_zone: time_zone(&engine)?,
            host_name: nix::unistd::gethostname()
                .map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned()),
            credentials: options.credentials.clone(),
            sessions: Sessions::default(),
            running: parking_lot::Mutex::default(),
            engine,
        });
        let router = router(Arc::clone(&shared));
        let (stop, stopped) = watch::channel(false);
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        runtime.spawn(accept(listener, router, stopped));
        runtime.spawn(sessions::expire(Arc::downgrade(&shared)));
        let note = ServeNote {
            pid: std::process::id(),
            url: format!("http://{address}/"),
            user: options.credentials.user.clone(),
            password: options.credentials.password.expose().to_owned(),
            keeper: shared.engine.capabilities().keeper,
        };
        let note = NoteFile::write(shared.engine.path(), &note)
            .map_err(|source| ServeError::Note { path: note_path(shared.engine.path()), source })?;
        Ok(Self { address, shared, stop, runtime: Some(runtime), _note: note })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let running: Vec<String> = self.shared.running.lock().iter().cloned().collect();
        for query_id in running {
            // A statement that cannot be cancelled runs on; the wait below ends.
            let _ = self.shared.engine.cancel(&query_id);
        }
        if let Some(runtime) = self.runtime.take() {
            // Cancelled statements end at once; one that does not is left to the exit handler.
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

fn time_zone(engine: &ChdbEngine) -> Result<String, EngineError> {
    let mut out = Vec::new();
    let mut session = engine.connect()?;
    session.query_format("SELECT timezone()", "TSVRaw", &QueryOptions::default(), &mut out)?;
    Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
}

async fn accept(listener: tokio::net::TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or the client has gone: the next one may do.
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            },
            _ = stopped.changed() => return,
        };
        // Answers are small and many.
        let _ = stream.set_nodelay(true);
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            // A connection that breaks is the client's affair.
            let _ = connection.await;
        });
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ping", get(ok))
        .route("/replicas_status", get(ok))
        .route("/", any(root))
        // Clients with a path prefix of a proxy's database: curl http://host/?… only; the rest is not known.
        .fallback(not_found)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(shared)
}

async fn ok() -> &'static str {
    "Ok.\n"
}

async fn root(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let without_query = request.uri().query().is_none_or(|query| query.is_empty());
    match *request.method() {
        Method::GET | Method::HEAD if without_query => ok().await.into_response(),
        Method::GET | Method::HEAD | Method::POST | Method::PUT => statement::answer(shared, request).await,
        Method::OPTIONS => (
            StatusCode::NO_CONTENT,
            [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS"),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, "origin, x-requested-with, content-type, authorization"),
                (header::ACCESS_CONTROL_MAX_AGE, "86400"),
            ],
        )
            .into_response(),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

async fn not_found(request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let text = format!(
        "There is no handle {path}\n\nUse / or /ping for health checks.\n\n\
         Send queries from your program with POST method or GET /?query=...\n"
    );
    (StatusCode::NOT_FOUND, text).into_response()
}
