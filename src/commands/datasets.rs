//! What `migrate`, `load` and `ddl` look at first: the Silver objects of every dataset, their footers, the specs. None of
//! it needs the warehouse.

use std::path::PathBuf;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    Error,
    config::Settings,
    ddl::{Dataset, HiveColumn, TableSpec, hive_columns, read_specs},
    extract::{Endpoint, Endpoints},
    lake::{Lake, ObjectMeta, layout::endpoint_prefix},
    migrate::{FooterCache, MigrateError},
    schema::{ClickHouseType, FileColumn, FileSchema, from_arrow, merge},
    transform::Shape,
};

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

/// The datasets of the project: its endpoints, and whatever has a spec.
///
/// # Errors
/// A spec or the endpoint file is not valid, the lake cannot be listed, a file is no Parquet file, the files of a dataset
/// do not fit in one table.
pub(super) async fn read_datasets(settings: &Settings, lake: &Lake) -> Result<Vec<DatasetFiles>, Error> {
    let endpoints = endpoints(settings)?;
    let mut specs = read_specs(&settings.migrate.ddl_path.join("tables")).map_err(MigrateError::from)?;
    let mut named: Vec<(TableSpec, String, Option<&Endpoint>)> = Vec::new();
    for endpoint in endpoints.iter().flat_map(Endpoints::iter) {
        let spec = specs
            .shift_remove(&endpoint.name)
            .unwrap_or_else(|| TableSpec { name: endpoint.name.clone(), ..TableSpec::default() });
        let prefix = spec.source.clone().unwrap_or_else(|| endpoint_prefix(&endpoint.name));
        named.push((spec, prefix, Some(endpoint)));
    }
    for (name, spec) in specs {
        let prefix = spec.source.clone().unwrap_or_else(|| endpoint_prefix(&name));
        named.push((spec, prefix, None));
    }
    let listed: Vec<_> = futures::stream::iter(named.into_iter().map(|(spec, prefix, endpoint)| async move {
        let prefix = prefix.trim_end_matches("*.parquet").trim_end_matches('*').to_owned();
        let mut objects = lake.silver.list(&prefix, None).await?;
        objects.retain(|object| object.key.ends_with(".parquet"));
        Ok::<_, Error>((spec, prefix, endpoint, objects))
    }))
    .buffered(8)
    .try_collect()
    .await?;
    let mut cache = FooterCache::open(&cache_path(settings));
    let mut datasets = Vec::with_capacity(listed.len());
    for (spec, prefix, endpoint, objects) in listed {
        let footers = cache.read(&lake.silver, &objects).await?;
        datasets.push(dataset(spec, prefix, endpoint, objects, footers)?);
    }
    cache.save();
    Ok(datasets)
}

/// The datasets as the endpoints and specs define them, without a look at the lake.
///
/// # Errors
/// A spec or the endpoint file is not valid.
pub(super) fn defined_datasets(settings: &Settings) -> Result<Vec<DatasetFiles>, Error> {
    let endpoints = endpoints(settings)?;
    let mut specs = read_specs(&settings.migrate.ddl_path.join("tables")).map_err(MigrateError::from)?;
    endpoints
        .iter()
        .flat_map(Endpoints::iter)
        .map(|endpoint| {
            let spec = specs
                .shift_remove(&endpoint.name)
                .unwrap_or_else(|| TableSpec { name: endpoint.name.clone(), ..TableSpec::default() });
            let prefix = spec.source.clone().unwrap_or_else(|| endpoint_prefix(&endpoint.name));
            dataset(spec, prefix, Some(endpoint), Vec::new(), Vec::new())
        })
        .collect()
}

/// The endpoints of the project; `endpoints = "none"` in [source] says that no API fills its lake.
fn endpoints(settings: &Settings) -> Result<Option<Endpoints>, Error> {
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
    prefix: String,
    endpoint: Option<&Endpoint>,
    objects: Vec<ObjectMeta>,
    footers: Vec<FileSchema>,
) -> Result<DatasetFiles, Error> {
    // What transform would write comes first: it gives the order, and a table to an endpoint without any file.
    let declared = endpoint.map(declared_schema).transpose()?;
    let files = declared
        .iter()
        .map(|schema| ("the endpoint's definition", schema))
        .chain(objects.iter().map(|object| object.key.as_str()).zip(&footers));
    let pinned = |column: &str| spec.columns.get(column).is_some_and(|column| column.kind.is_some());
    let mut schema = merge(files, &pinned)
        .map_err(|source| MigrateError::from(crate::ddl::DdlError::Merge { dataset: spec.name.clone(), source }))?;
    schema.files = objects.len();
    if let Some(endpoint) = endpoint {
        let key = serde_json::to_string(&endpoint.key).unwrap_or_default();
        schema.metadata.insert("chpipe.natural_key".into(), key);
    }
    let mut hive = hive_columns(&prefix, objects.iter().map(|object| object.key.as_str()));
    if let Some(endpoint) = endpoint {
        declared_hive(endpoint, &mut hive, objects.is_empty());
    }
    let dataset = Dataset { name: spec.name.clone(), prefix, schema, hive };
    Ok(DatasetFiles { dataset, spec, objects, footers })
}

/// The columns that transform writes for an endpoint.
fn declared_schema(endpoint: &Endpoint) -> Result<FileSchema, Error> {
    let columns = Shape::new(endpoint)
        .schema()
        .fields()
        .iter()
        .map(|field| Ok(FileColumn { name: field.name().clone(), kind: from_arrow(field)? }))
        .collect::<Result<Vec<_>, crate::schema::UnsupportedArrowType>>()
        .map_err(|source| MigrateError::Footer {
            bucket: "the endpoint's definition".into(),
            key: endpoint.name.clone(),
            source: source.into(),
        })?;
    Ok(FileSchema { columns: columns.into(), rows: 0, metadata: std::collections::BTreeMap::new() })
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
