//! What `migrate`, `load` and `ddl` look at first: the Silver objects of every dataset, their footers, the specs. None of
//! it needs the warehouse.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    Error,
    config::Settings,
    ddl::{Dataset, DdlError, HiveColumn, Source, TableSpec, collection_of_bucket, hive_columns, read_specs, reserved},
    error::Location,
    extract::{Endpoint, Endpoints},
    lake::{Bucket, BucketPlace, Lake, ObjectMeta, layout::endpoint_prefix},
    migrate::{FooterCache, MigrateError},
    schema::{ClickHouseType, FileColumn, FileSchema, from_arrow, merge},
    transform::Shape,
};

use super::warehouse::SILVER_COLLECTION;

/// A dataset with its objects.
#[derive(Debug)]
pub(super) struct DatasetFiles {
    pub(super) dataset: Dataset,
    pub(super) spec: TableSpec,
    /// In key order.
    pub(super) objects: Vec<ObjectMeta>,
    /// One an object.
    pub(super) footers: Vec<FileSchema>,
}

/// A dataset before anyone has looked at its files.
struct Named<'a> {
    spec: TableSpec,
    source: Source,
    endpoint: Option<&'a Endpoint>,
}

/// The datasets of the project: its endpoints, and whatever has a spec.
///
/// # Errors
/// A spec or the endpoint file is not valid, a bucket cannot be listed, a file is no Parquet file, the files of a dataset
/// do not fit in one table.
pub(super) async fn read_datasets(settings: &Settings, lake: &Lake) -> Result<Vec<DatasetFiles>, Error> {
    let endpoints = endpoints(settings)?;
    let named = named(settings, endpoints.as_ref())?;
    let buckets = Buckets::open(settings, lake, named.iter().map(|named| &named.spec)).await?;
    let listed: Vec<_> = futures::stream::iter(named.into_iter().map(|named| {
        let bucket = buckets.of(&named.source);
        async move {
            let objects = list(bucket.as_ref(), &named.source).await?;
            Ok::<_, Error>((named, bucket, objects))
        }
    }))
    .buffered(8)
    .try_collect()
    .await?;
    let mut cache = FooterCache::open(&cache_path(settings));
    let mut datasets = Vec::with_capacity(listed.len());
    for (Named { spec, source, endpoint }, bucket, objects) in listed {
        let footers = cache.read(&bucket, &objects).await?;
        datasets.push(dataset(spec, source, endpoint, objects, footers)?);
    }
    cache.save();
    Ok(datasets)
}

/// One dataset as a spec describes it, which need not be a file of the project yet.
///
/// # Errors
/// As [`read_datasets`].
pub(super) async fn read_dataset(settings: &Settings, lake: &Lake, spec: TableSpec) -> Result<DatasetFiles, Error> {
    let source = spec.files(endpoint_prefix).map_err(MigrateError::from)?;
    let bucket = Buckets::open(settings, lake, [&spec]).await?.of(&source);
    let objects = list(bucket.as_ref(), &source).await?;
    let mut cache = FooterCache::open(&cache_path(settings));
    let footers = cache.read(&bucket, &objects).await?;
    cache.save();
    dataset(spec, source, None, objects, footers)
}

/// The objects of a source, in key order.
async fn list(bucket: &dyn Bucket, source: &Source) -> Result<Vec<ObjectMeta>, Error> {
    let mut objects = bucket.list(source.list_prefix(), None).await?;
    objects.retain(|object| source.matches(&object.key));
    Ok(objects)
}

/// The buckets that datasets lie in.
struct Buckets {
    silver: Arc<dyn Bucket>,
    others: Vec<(String, Arc<dyn Bucket>)>,
}

impl Buckets {
    async fn open(
        settings: &Settings,
        lake: &Lake,
        specs: impl IntoIterator<Item = &TableSpec>,
    ) -> Result<Self, Error> {
        let mut others = Vec::new();
        for (_, place) in places(settings, specs)? {
            others.push((place.bucket.clone(), place.open(&settings.lake).await?));
        }
        Ok(Self { silver: Arc::clone(&lake.silver), others })
    }

    fn of(&self, source: &Source) -> Arc<dyn Bucket> {
        let other = self.others.iter().find(|(name, _)| Some(name) == source.bucket.as_ref());
        Arc::clone(other.map_or(&self.silver, |(_, bucket)| bucket))
    }
}

/// The buckets beside Silver that specs name, by the named collection through which ClickHouse reads them.
///
/// # Errors
/// A `source` is not valid, or two specs reach one bucket, or through one collection, in two ways.
pub(super) fn places<'a>(
    settings: &Settings,
    specs: impl IntoIterator<Item = &'a TableSpec>,
) -> Result<Vec<(String, BucketPlace)>, Error> {
    let mut places: Vec<(String, BucketPlace)> = Vec::new();
    for spec in specs {
        let source = spec.files(endpoint_prefix).map_err(MigrateError::from)?;
        let Some(bucket) = source.bucket else { continue };
        let place = BucketPlace {
            bucket,
            endpoint: spec.endpoint.clone(),
            region: spec.region.clone(),
            no_sign_request: spec.no_sign_request,
        };
        let lakes_own = BucketPlace { bucket: settings.lake.silver.clone(), ..BucketPlace::default() };
        if place == lakes_own {
            continue;
        }
        let collection = spec.collection.clone().unwrap_or_else(|| collection_of_bucket(&place.bucket));
        match places.iter().find(|(name, known)| *name == collection || known.bucket == place.bucket) {
            Some((name, known)) if *name == collection && *known == place => {}
            None if collection != SILVER_COLLECTION => places.push((collection, place)),
            _ => {
                let reason = format!(
                    "another spec reaches `{}` otherwise, or another bucket through the collection `{collection}`",
                    place.bucket
                );
                let location = spec.locate("source").unwrap_or_else(|| Location::file(&spec.path));
                return Err(MigrateError::from(DdlError::Spec { reason, location }).into());
            }
        }
    }
    Ok(places)
}

/// The datasets as the endpoints and specs define them, without a look at the lake.
///
/// # Errors
/// A spec or the endpoint file is not valid.
pub(super) fn defined_datasets(settings: &Settings) -> Result<Vec<DatasetFiles>, Error> {
    let endpoints = endpoints(settings)?;
    named(settings, endpoints.as_ref())?
        .into_iter()
        .filter(|named| named.endpoint.is_some())
        .map(|named| dataset(named.spec, named.source, named.endpoint, Vec::new(), Vec::new()))
        .collect()
}

/// Endpoints with their specs, then the other specs.
fn named<'a>(settings: &Settings, endpoints: Option<&'a Endpoints>) -> Result<Vec<Named<'a>>, Error> {
    let mut specs = read_specs(&settings.migrate.ddl_path.join("tables")).map_err(MigrateError::from)?;
    let mut named: Vec<(TableSpec, Option<&Endpoint>)> = Vec::new();
    for endpoint in endpoints.into_iter().flat_map(Endpoints::iter) {
        let spec = specs
            .shift_remove(&endpoint.name)
            .unwrap_or_else(|| TableSpec { name: endpoint.name.clone(), ..TableSpec::default() });
        named.push((spec, Some(endpoint)));
    }
    named.extend(specs.into_values().map(|spec| (spec, None)));
    named
        .into_iter()
        .map(|(spec, endpoint)| {
            let source = spec.files(endpoint_prefix).map_err(MigrateError::from)?;
            Ok(Named { spec, source, endpoint })
        })
        .collect()
}

/// The endpoints of the project; `endpoints = "none"` in [source] says that no API fills its lake.
///
/// # Errors
/// The endpoint file is not valid.
pub(super) fn endpoints(settings: &Settings) -> Result<Option<Endpoints>, Error> {
    match settings.source.endpoints.as_deref() {
        Some(path) if path.file_name().is_some_and(|name| name == "none") => Ok(None),
        path => Ok(Some(Endpoints::load(path)?)),
    }
}

fn cache_path(settings: &Settings) -> PathBuf {
    settings.state_dir().join("footers.jsonl")
}

fn dataset(
    spec: TableSpec,
    source: Source,
    endpoint: Option<&Endpoint>,
    objects: Vec<ObjectMeta>,
    footers: Vec<FileSchema>,
) -> Result<DatasetFiles, Error> {
    // What transform would write comes first: it gives the order, and a table to an endpoint without any file.
    let declared = endpoint.map(declared_schema).transpose()?;
    let files: Vec<(&str, &FileSchema)> = declared
        .iter()
        .map(|schema| ("the endpoint's definition", schema))
        .chain(objects.iter().map(|object| object.key.as_str()).zip(&footers))
        .collect();
    check_columns(&spec, &files).map_err(MigrateError::from)?;
    let pinned = |column: &str| {
        spec.columns.get(column).is_some_and(|spec| spec.kind.is_some())
            || spec.exclude.iter().any(|name| name == column)
    };
    let mut schema = merge(files, &pinned)
        .map_err(|source| MigrateError::from(crate::ddl::DdlError::Merge { dataset: spec.name.clone(), source }))?;
    schema.columns.retain(|column| !spec.exclude.contains(&column.name));
    schema.files = objects.len();
    if let Some(endpoint) = endpoint {
        let key = serde_json::to_string(&endpoint.key).unwrap_or_default();
        schema.metadata.insert("chpipe.natural_key".into(), key);
    }
    let mut hive = hive_columns(source.prefix(), objects.iter().map(|object| object.key.as_str()));
    if let Some(endpoint) = endpoint {
        declared_hive(endpoint, &mut hive, objects.is_empty());
    }
    let dataset = Dataset { name: spec.name.clone(), source, schema, hive };
    Ok(DatasetFiles { dataset, spec, objects, footers })
}

/// Refuses what cannot be a column of the dataset's tables and is not left out, and what is left out that no file has.
fn check_columns(spec: &TableSpec, files: &[(&str, &FileSchema)]) -> Result<(), DdlError> {
    let excluded = |name: &str| spec.exclude.iter().any(|column| column == name);
    let refused = |file: &str, column: &str, reason: String| DdlError::Column {
        dataset: spec.name.clone(),
        file: file.to_owned(),
        column: column.to_owned(),
        reason,
    };
    let mut left_out: HashSet<&str> = HashSet::new();
    // Thousands of files share a handful of schemas.
    let mut looked_at: HashSet<*const Vec<FileColumn>> = HashSet::new();
    for (file, schema) in files {
        if let Some(column) = schema.unsupported.iter().find(|column| !excluded(&column.column)) {
            return Err(refused(file, &column.column, column.unheld()));
        }
        left_out.extend(schema.unsupported.iter().map(|column| column.column.as_str()));
        if !looked_at.insert(Arc::as_ptr(&schema.columns)) {
            continue;
        }
        for column in schema.columns.iter() {
            if excluded(&column.name) {
                left_out.insert(&column.name);
            } else if let Some(reason) = reserved(&column.name) {
                return Err(refused(file, &column.name, reason));
            }
        }
    }
    match spec.exclude.iter().find(|name| !left_out.contains(name.as_str())) {
        Some(name) if !files.is_empty() => Err(DdlError::UnknownColumn {
            dataset: spec.name.clone(),
            column: name.clone(),
            place: "exclude",
            location: spec.locate(name),
        }),
        _ => Ok(()),
    }
}

/// The columns that transform writes for an endpoint.
fn declared_schema(endpoint: &Endpoint) -> Result<FileSchema, Error> {
    let columns = Shape::new(endpoint)
        .schema()
        .fields()
        .iter()
        .map(|field| Ok(FileColumn { name: field.name().clone(), kind: from_arrow(field)? }))
        .collect::<Result<Vec<_>, crate::schema::UnsupportedArrowType>>()
        .map_err(|refused| {
            MigrateError::from(DdlError::Column {
                dataset: endpoint.name.clone(),
                file: "the endpoint's definition".into(),
                column: refused.column.clone(),
                reason: refused.unheld(),
            })
        })?;
    let metadata = std::collections::BTreeMap::new();
    Ok(FileSchema { columns: columns.into(), unsupported: Vec::new(), rows: 0, metadata })
}

/// The folders that an endpoint's keys have, whether or not there is an object yet.
fn declared_hive(endpoint: &Endpoint, hive: &mut Vec<HiveColumn>, empty: bool) {
    let mut wanted: Vec<(&str, ClickHouseType)> = Vec::new();
    if endpoint.level != crate::extract::Level::Static {
        wanted.push(("season", ClickHouseType::Int(16)));
    }
    if endpoint.level.has_rounds() {
        wanted.push(("round", ClickHouseType::Int(16)));
    }
    wanted.push((crate::ddl::BATCH_ID, ClickHouseType::String));
    for (position, (name, kind)) in wanted.into_iter().enumerate() {
        match hive.iter_mut().find(|column| column.name == name) {
            Some(column) => column.kind = kind,
            None => {
                hive.insert(position.min(hive.len()), HiveColumn { name: name.to_owned(), kind, everywhere: empty })
            }
        }
    }
}
