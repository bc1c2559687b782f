//! What every command that needs the warehouse does first: the target, the engine, a session in the target's schema.

use std::{io, path::Path, sync::Arc};

use parking_lot::Mutex;

#[cfg(debug_assertions)]
use crate::engine::dying::{Death, DyingEngine};
use crate::{
    Error,
    commands::{Context, datasets},
    config::{Connection, Target},
    ddl::specs_of_buckets,
    engine::{self, Engine, OpenOptions, QueryOptions, Session, quote_identifier, quote_string},
    file::write_whole,
    lake::{BucketAccess, BucketPlace, Lake, LocalS3Options, SilverAccess},
    migrate::MigrateError,
};

/// Name of the collection that S3 tables over Silver use.
pub(super) const SILVER_COLLECTION: &str = "silver";

/// An opened warehouse and the target it is of.
pub(super) struct Warehouse {
    pub(super) target: Target,
    pub(super) engine: Arc<dyn Engine>,
    /// How the warehouse reads Silver; a directory lake is served as S3 for as long as this lives.
    pub(super) silver: Arc<SilverAccess>,
}

/// An engine, and the lake as it sees it.
type Opened = (Arc<dyn Engine>, Arc<SilverAccess>);

/// The warehouse that this run has open: a process opens a directory once, with one configuration.
#[derive(Clone, Default)]
pub(crate) struct OpenWarehouse(Arc<Mutex<Option<Opened>>>);

impl std::fmt::Debug for OpenWarehouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenWarehouse").field(&self.0.lock().is_some()).finish()
    }
}

/// Opens the target's warehouse, or answers the one that this run has open already.
///
/// # Errors
/// The profile is not valid, or the engine cannot be opened.
pub(super) fn open(context: &Context) -> Result<Warehouse, Error> {
    let target = context.settings.target()?;
    let mut open = context.open_warehouse.0.lock();
    if let Some((engine, silver)) = open.as_ref() {
        return Ok(Warehouse { target, engine: Arc::clone(engine), silver: Arc::clone(silver) });
    }
    let silver = silver_access(context, LocalS3Options::default())?;
    let engine = engine::open(&target, &open_options(context, &silver)?)?;
    #[cfg(debug_assertions)]
    let engine = match context.settings.die_at {
        Some(at) => DyingEngine::after(engine, at - 1, Death::Process),
        None => engine,
    };
    context.journal.opened(&engine);
    let silver = Arc::new(silver);
    *open = Some((Arc::clone(&engine), Arc::clone(&silver)));
    Ok(Warehouse { target, engine, silver })
}

/// Closes the warehouse that this run has open, as far as nobody else holds it.
pub(super) fn close(context: &Context) {
    context.open_warehouse.0.lock().take();
}

/// The options with a named collection for every bucket: without it its tables could not even be attached when the embedded
/// engine starts.
pub(super) fn open_options(context: &Context, silver: &SilverAccess) -> Result<OpenOptions, Error> {
    let mut places = other_places(context)?;
    if let Connection::Embedded { path } = &context.settings.target()?.connection {
        remember(path, &mut places)?;
    }
    let options = OpenOptions::new(&context.settings).named_collection(SILVER_COLLECTION, silver.bucket.clone());
    let access = |place: &BucketPlace| place.access(&context.settings.lake, silver.server());
    Ok(places.iter().fold(options, |options, (name, place)| options.named_collection(name, access(place))))
}

/// The collections of the buckets beside Silver that specs name.
///
/// # Errors
/// A spec that names a bucket is not valid.
pub(super) fn other_collections(
    context: &Context,
    silver: &SilverAccess,
) -> Result<Vec<(String, BucketAccess)>, Error> {
    let access = |(name, place): (String, BucketPlace)| (name, place.access(&context.settings.lake, silver.server()));
    Ok(other_places(context)?.into_iter().map(access).collect())
}

fn other_places(context: &Context) -> Result<Vec<(String, BucketPlace)>, Error> {
    let settings = &context.settings;
    let specs = specs_of_buckets(&settings.migrate.ddl_path.join("tables")).map_err(MigrateError::from)?;
    datasets::places(settings, &specs)
}

/// Adds the places of specs that are gone: their tables are still there, and libchdb refuses a directory with a table
/// whose collection is missing. No credentials are kept.
fn remember(warehouse: &Path, places: &mut Vec<(String, BucketPlace)>) -> Result<(), Error> {
    let path = warehouse.join("chpipe_buckets.json");
    let failed = |source| Error::Io { path: path.clone(), source };
    let known = match fs_err::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "[]".to_owned(),
        other => other.map_err(failed)?,
    };
    let earlier: Vec<(String, BucketPlace)> = serde_json::from_str(&known).map_err(|error| {
        let reason = format!("{error}; where no table reads a bucket beside Silver it can be deleted");
        failed(io::Error::new(io::ErrorKind::InvalidData, reason))
    })?;
    for (name, place) in earlier {
        if !places.iter().any(|(known, _)| *known == name) {
            places.push((name, place));
        }
    }
    let text = serde_json::to_string(&places).map_err(|error| failed(error.into()))?;
    if text == known {
        return Ok(());
    }
    write_whole(&path, text).map_err(failed)
}

/// How ClickHouse reaches the Silver bucket; a directory lake is served as S3, as the options say.
pub(super) fn silver_access(context: &Context, options: LocalS3Options) -> Result<SilverAccess, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { path: context.settings.project_dir.clone(), source })?;
    let lake = runtime.block_on(Lake::open(&context.settings))?;
    Ok(lake.for_clickhouse(options)?)
}

impl Warehouse {
    /// A session in the target's schema, where that exists already.
    pub(super) fn session(&self) -> Result<Box<dyn Session>, Error> {
        let mut session = self.engine.connect()?;
        let schema = &self.target.schema;
        let sql = format!("SELECT name FROM system.databases WHERE name = {}", quote_string(schema));
        let rows: usize = engine::fetch(&mut *session, &sql, &QueryOptions::default())?
            .iter()
            .map(arrow::array::RecordBatch::num_rows)
            .sum();
        if rows > 0 {
            session.execute(&format!("USE {}", quote_identifier(schema)), &QueryOptions::default())?;
        }
        Ok(session)
    }
}
