//! Which engine a target means, and everything that goes with opening it: the library, the directory's lock, the
//! configuration file. Nothing outside the engine module decides on an engine's kind.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use super::{
    Engine, EngineError,
    chdb::{self, ChdbEngine, Configuration},
    http::HttpEngine,
    library,
    lock::{Acquired, DirectoryLock, Holder},
    native::NativeEngine,
    note::read_note,
};
use crate::{
    config::{Connection, EngineSettings, Secret, Settings, Target},
    lake::BucketAccess,
};

/// The cluster that the embedded engine has: itself.
pub const EMBEDDED_CLUSTER: &str = "default";

/// What an engine is opened with, beside the target.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    pub engine: EngineSettings,
    /// Named collections for the embedded engine: `silver` to the bucket's URL and credentials. A server has its own.
    pub named_collections: Vec<(String, BucketAccess)>,
    /// How long to wait for a directory that another process holds.
    pub lock_timeout: Duration,
    /// How long the embedded engine keeps the files of a dropped table, in whole seconds.
    pub keep_dropped: Duration,
}

impl OpenOptions {
    /// The options of these settings, without named collections.
    pub fn new(settings: &Settings) -> Self {
        Self {
            engine: settings.engine.clone(),
            named_collections: Vec::new(),
            lock_timeout: settings.lock_timeout,
            keep_dropped: Duration::ZERO,
        }
    }

    /// Adds a named collection.
    #[must_use]
    pub fn named_collection(mut self, name: impl Into<String>, access: BucketAccess) -> Self {
        self.named_collections.push((name.into(), access));
        self
    }
}

/// Opens the target's warehouse. The embedded engine is open once in a process: a second call for the same directory
/// answers the same warehouse.
///
/// # Errors
/// [`EngineError::LibraryMissing`], [`EngineError::Locked`], [`EngineError::Open`]; a server that cannot be reached.
pub fn open(target: &Target, options: &OpenOptions) -> Result<Arc<dyn Engine>, EngineError> {
    match &target.connection {
        Connection::Embedded { path } => open_embedded(path, options),
        Connection::Http(server) => Ok(Arc::new(HttpEngine::open(server)?)),
        Connection::Native(server) => Ok(Arc::new(NativeEngine::open(server)?)),
    }
}

fn open_embedded(path: &Path, options: &OpenOptions) -> Result<Arc<dyn Engine>, EngineError> {
    match open_or(path, options, |holder| served_by(path, holder))? {
        Acquired::OtherWay(engine) => Ok(engine),
        Acquired::Lock(engine) => Ok(engine),
    }
}

/// The way through a `chpipe serve` that holds the directory, once it answers.
fn served_by(path: &Path, holder: &Holder) -> Option<Arc<dyn Engine>> {
    let note = read_note(path).filter(|note| note.pid == holder.pid)?;
    let engine = HttpEngine::open_served(&note.url, &note.user, Secret::new(note.password), note.keeper).ok()?;
    tracing::debug!("the warehouse is served by process {}: going through {}", holder.pid, note.url);
    Some(Arc::new(engine))
}

/// Opens a directory in this process and no other way.
pub(crate) fn open_directory(path: &Path, options: &OpenOptions) -> Result<Arc<ChdbEngine>, EngineError> {
    match open_or(path, options, |_| None)? {
        Acquired::OtherWay(engine) | Acquired::Lock(engine) => Ok(engine),
    }
}

/// Opens a directory; while another process has it, `meanwhile` may find another way to it.
fn open_or<T>(
    path: &Path,
    options: &OpenOptions,
    meanwhile: impl FnMut(&Holder) -> Option<T>,
) -> Result<Acquired<Arc<ChdbEngine>, T>, EngineError> {
    // One name for one directory, so that two ways of writing it are the same warehouse.
    let absolute = std::path::absolute(path)
        .and_then(|path| fs_err::create_dir_all(&path).map(|()| path))
        .and_then(|path| fs_err::canonicalize(&path))
        .map_err(|error| EngineError::Open { path: path.to_owned(), reason: error.to_string() })?;
    let xml = configuration(&options.named_collections, options.engine.zookeeper.as_deref(), options.keep_dropped)
        .map_err(|reason| EngineError::Open { path: absolute.clone(), reason })?;
    static OPENING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _one_at_a_time = OPENING.lock();
    if let Some(engine) = chdb::already_open(&absolute, &xml)? {
        return Ok(Acquired::Lock(Arc::new(engine)));
    }
    let library = library::find(&options.engine)?;
    match DirectoryLock::acquire(&absolute, options.lock_timeout, meanwhile)? {
        Acquired::OtherWay(other) => Ok(Acquired::OtherWay(other)),
        Acquired::Lock(lock) => {
            let configuration = Configuration { library: &library, path: &absolute, xml };
            Ok(Acquired::Lock(Arc::new(ChdbEngine::open(configuration, lock)?)))
        }
    }
}

/// ClickHouse's configuration file: the named collections, a cluster, and a ZooKeeper where there is one. Without `<path>`: it
/// would win over the argument.
fn configuration(
    collections: &[(String, BucketAccess)],
    zookeeper: Option<&str>,
    keep_dropped: Duration,
) -> Result<String, String> {
    let mut xml = String::from("<clickhouse>\n");
    // By default a dropped table frees its space at once: a process that rebuilds tables and ends would pile up their old
    // versions.
    let delay = "database_atomic_delay_before_drop_table_sec";
    _ = writeln!(xml, "<{delay}>{}</{delay}>", keep_dropped.as_secs());
    if !collections.is_empty() {
        xml.push_str("<named_collections>\n");
        for (name, access) in collections {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("`{name}` cannot name a collection: use letters, digits and _"));
            }
            _ = writeln!(xml, "<{name}>{}</{name}>", collection(access));
        }
        xml.push_str("</named_collections>\n");
        // A table over S3 looks at its bucket while it is attached, and libchdb does not come back from opening before that:
        // with the default of 500 attempts, not for ten minutes where the store is down. Four end after three seconds.
        xml.push_str("<s3_retry_attempts>4</s3_retry_attempts>\n");
    }
    // A cluster of this process alone, so that distributed models run here too. A replica is local when its port is the
    // server's own, which only has to be said: nothing listens. With TLS, because to say `tcp_port` would make
    // `remote('localhost:9000', …)` this process, where so far it is whichever server listens there.
    _ = writeln!(
        xml,
        "<tcp_port_secure>9440</tcp_port_secure>\n<remote_servers><{EMBEDDED_CLUSTER}><shard><replica><host>127.0.0.1</host>\
         <port>9440</port><secure>1</secure></replica></shard></{EMBEDDED_CLUSTER}></remote_servers>"
    );
    if let Some(address) = zookeeper {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "2181"));
        _ = writeln!(
            xml,
            "<zookeeper><node><host>{}</host><port>{}</port></node></zookeeper>",
            escape(host),
            escape(port)
        );
    }
    xml.push_str("</clickhouse>\n");
    Ok(xml)
}

/// <https://clickhouse.com/docs/operations/named-collections#named-collections-for-accessing-s3>
fn collection(access: &BucketAccess) -> String {
    let mut xml = format!("<url>{}</url>", escape(&access.url));
    match (&access.access_key_id, &access.secret_access_key) {
        (Some(id), Some(secret)) => {
            _ = write!(xml, "<access_key_id>{}</access_key_id>", escape(id));
            _ = write!(xml, "<secret_access_key>{}</secret_access_key>", escape(secret.expose()));
        }
        _ if access.no_sign_request => xml.push_str("<no_sign_request>1</no_sign_request>"),
        // The server's own chain: environment, files, instance role.
        _ => xml.push_str("<use_environment_credentials>1</use_environment_credentials>"),
    }
    xml
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_escaped() {
        let access = BucketAccess {
            url: "http://127.0.0.1:9000/silver/".into(),
            access_key_id: Some("a<b".into()),
            secret_access_key: Some(crate::config::Secret::new("c&d")),
            region: None,
            no_sign_request: false,
        };
        let xml = configuration(&[("silver".into(), access)], Some("keeper:2181"), Duration::ZERO).unwrap();
        assert!(xml.contains("<silver><url>http://127.0.0.1:9000/silver/</url><access_key_id>a&lt;b</access_key_id>"));
        assert!(xml.contains("<secret_access_key>c&amp;d</secret_access_key></silver>"));
        assert!(xml.contains("<node><host>keeper</host><port>2181</port></node>"));
    }
}
