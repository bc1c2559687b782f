//! Bronze as the extractor sees it: which pages of a batch are there, and how new ones are added. In: partitions and
//! bodies; out: objects, each written once. It never changes or deletes one.
//!
//! ```text
//! ergast/endpoint=…/batch_id=…/superseded.json    the batch was started over; names the batch that took its place
//! _runs/extract/selections/{id}.json              the newest batch of a selection, and whether all of it is there
//! ```

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Endpoint, ExtractError, Metadata,
    client::Page,
    envelope::{self, FILE_VERSION},
};
use crate::lake::{
    Bucket, LakeError, PutMode,
    layout::{BatchId, BronzeFile, BronzeKey, Partition, endpoint_prefix},
};

const SUPERSEDED: &str = "superseded.json";
const SELECTIONS: &str = "_runs/extract/selections/";

/// The Bronze bucket.
#[derive(Debug, Clone)]
pub(super) struct Bronze {
    bucket: Arc<dyn Bucket>,
}

/// What is there of a batch.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Objects by page.
    pub(super) pages: BTreeMap<u32, Bytes>,
    /// What the first stored page says: pages of the batch, rows of the listing, rows a page.
    pub(super) listing: Option<Listing>,
    pub(super) superseded_by: Option<BatchId>,
}

/// How a listing is cut into pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) total: u32,
    pub(super) limit: u32,
    pub(super) total_pages: u32,
}

impl Listing {
    pub(super) fn of(page: &Page, endpoint: &Endpoint) -> Self {
        let total_pages = if endpoint.paging { page.total.div_ceil(page.limit.max(1)).max(1) } else { 1 };
        Self { total: page.total, limit: page.limit, total_pages }
    }
}

impl Stored {
    pub(super) fn is_complete(&self) -> bool {
        self.listing.is_some_and(|listing| self.pages.len() == listing.total_pages as usize)
    }
}

/// The newest batch of a selection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Selection {
    pub(super) version: u32,
    pub(super) batch_id: BatchId,
    pub(super) complete: bool,
    /// Base URL of the source, without credentials.
    pub(super) source: String,
    /// `full` or `incremental`.
    pub(super) mode: String,
    pub(super) endpoints: Vec<String>,
    /// Empty for static endpoints alone.
    pub(super) seasons: Vec<u16>,
    /// Text of `--round`.
    pub(super) rounds: Option<String>,
    pub(super) updated_at: DateTime<Utc>,
}

impl Selection {
    /// Names the selection itself, whatever batch it is at.
    pub(super) fn id(&self) -> String {
        use sha2::Digest as _;
        let text = serde_json::json!([self.source, self.mode, self.endpoints, self.seasons, self.rounds]).to_string();
        sha2::Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether both have listings in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.source == other.source
            && self.endpoints.iter().any(|endpoint| other.endpoints.contains(endpoint))
            && (self.seasons.is_empty()
                || other.seasons.is_empty()
                || self.seasons.iter().any(|season| other.seasons.contains(season)))
    }
}

impl Bronze {
    pub(super) fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket }
    }

    /// Everything that is stored of a batch.
    pub(super) async fn stored(&self, partition: &Partition, batch_id: BatchId) -> Result<Stored, ExtractError> {
        let prefix = partition.batch_prefix(batch_id);
        let mut stored = Stored::default();
        for object in self.bucket.list(&prefix, None).await? {
            if object.key.strip_prefix(&prefix) == Some(SUPERSEDED) {
                stored.superseded_by = Some(self.superseded_by(&object.key).await?);
                continue;
            }
            let key: BronzeKey = object.key.parse()?;
            let page = match key.file {
                BronzeFile::Data => 1,
                BronzeFile::Page(page) => page,
            };
            let bytes = self.bucket.get(&object.key).await?;
            if stored.listing.is_none() {
                stored.listing = Some(listing(&object.key, &bytes)?);
            }
            stored.pages.insert(page, bytes);
        }
        Ok(stored)
    }

    /// How many pages each partition of an endpoint has of a batch.
    pub(super) async fn stored_pages(
        &self,
        endpoint: &str,
        batch_id: BatchId,
    ) -> Result<BTreeMap<Partition, u64>, ExtractError> {
        let mut pages = BTreeMap::new();
        for key in self.bucket.list_keys(&endpoint_prefix(endpoint)).await? {
            let Ok(key) = key.parse::<BronzeKey>() else { continue };
            if key.batch_id == batch_id {
                *pages.entry(key.partition).or_default() += 1;
            }
        }
        Ok(pages)
    }

    /// Writes a page. One that another process has just written is left as it is.
    pub(super) async fn put_page(
        &self,
        partition: &Partition,
        batch_id: BatchId,
        number: u32,
        listing: Listing,
        page: &Page,
    ) -> Result<Bytes, ExtractError> {
        let metadata = Metadata {
            ingestion_timestamp: Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into(),
            batch_id: batch_id.as_str().into(),
            endpoint: partition.endpoint().into(),
            season: partition.season(),
            round: partition.round(),
            page: number,
            total_pages: listing.total_pages,
            source_url: page.url.as_str().into(),
            api_response_total: page.total,
            file_version: FILE_VERSION.into(),
        };
        let file = if listing.total_pages == 1 { BronzeFile::Data } else { BronzeFile::Page(number) };
        let key = BronzeKey { partition: partition.clone(), batch_id, file }.to_string();
        let object = envelope::wrap(&metadata, &page.body)
            .map_err(|error| ExtractError::Bronze { key: key.clone(), reason: error.to_string() })?;
        let object = Bytes::from(object);
        match self.bucket.put(&key, object.clone(), PutMode::Create).await {
            Ok(_) | Err(LakeError::Exists { .. }) => Ok(object),
            Err(error) => Err(error.into()),
        }
    }

    /// Marks a batch as started over under `next`.
    pub(super) async fn supersede(
        &self,
        partition: &Partition,
        batch_id: BatchId,
        next: BatchId,
        reason: &str,
    ) -> Result<(), ExtractError> {
        let key = format!("{}{SUPERSEDED}", partition.batch_prefix(batch_id));
        let text = serde_json::json!({"superseded_by": next.as_str(), "reason": reason}).to_string();
        match self.bucket.put(&key, Bytes::from(text), PutMode::Create).await {
            Ok(_) | Err(LakeError::Exists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The batches of a partition, ascending.
    pub(super) async fn batches(&self, partition: &Partition) -> Result<Vec<BatchId>, ExtractError> {
        let folders = self.bucket.list_folders(&partition.prefix()).await?;
        let ids = folders.iter().filter_map(|folder| {
            folder.trim_end_matches('/').rsplit('/').next()?.strip_prefix("batch_id=")?.parse().ok()
        });
        let mut ids: Vec<BatchId> = ids.collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The newest complete batch of a partition, with its pages; `prefer` where that one is complete.
    pub(super) async fn newest_complete(
        &self,
        partition: &Partition,
        prefer: Option<BatchId>,
    ) -> Result<Option<Vec<Bytes>>, ExtractError> {
        let ids = self.batches(partition).await?;
        let preferred = prefer.filter(|batch_id| ids.contains(batch_id));
        for batch_id in preferred.into_iter().chain(ids.into_iter().rev()) {
            let stored = self.stored(partition, batch_id).await?;
            if stored.is_complete() {
                return Ok(Some(stored.pages.into_values().collect()));
            }
        }
        Ok(None)
    }

    /// All selections that were ever extracted, with their newest batch.
    pub(super) async fn selections(&self) -> Result<Vec<Selection>, ExtractError> {
        let mut selections = Vec::new();
        for object in self.bucket.list(SELECTIONS, None).await? {
            let bytes = self.bucket.get(&object.key).await?;
            let selection = serde_json::from_slice(&bytes)
                .map_err(|error| ExtractError::Bronze { key: object.key, reason: error.to_string() })?;
            selections.push(selection);
        }
        Ok(selections)
    }

    /// Writes down where a selection is.
    pub(super) async fn put_selection(&self, selection: &Selection) -> Result<(), ExtractError> {
        let key = format!("{SELECTIONS}{}.json", selection.id());
        let text = serde_json::to_vec(selection)
            .map_err(|error| ExtractError::Bronze { key: key.clone(), reason: error.to_string() })?;
        self.bucket.put(&key, Bytes::from(text), PutMode::Overwrite).await?;
        Ok(())
    }

    async fn superseded_by(&self, key: &str) -> Result<BatchId, ExtractError> {
        #[derive(Deserialize)]
        struct Marker {
            superseded_by: BatchId,
        }
        let bytes = self.bucket.get(key).await?;
        let marker: Marker = serde_json::from_slice(&bytes)
            .map_err(|error| ExtractError::Bronze { key: key.to_owned(), reason: error.to_string() })?;
        Ok(marker.superseded_by)
    }
}

/// What a stored page says of its batch.
fn listing(key: &str, object: &[u8]) -> Result<Listing, ExtractError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        metadata: Metadata<'a>,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        #[serde(rename = "MRData")]
        mr_data: MrData,
    }
    #[derive(Deserialize)]
    struct MrData {
        limit: serde_json::Value,
    }
    let invalid = |reason: String| ExtractError::Bronze { key: key.to_owned(), reason };
    let Envelope { metadata, data } = serde_json::from_slice(object).map_err(|error| invalid(error.to_string()))?;
    let limit = match &data.mr_data.limit {
        serde_json::Value::String(text) => text.parse().ok(),
        value => value.as_u64().and_then(|value| u32::try_from(value).ok()),
    };
    let limit = limit.ok_or_else(|| invalid(format!("MRData.limit is {}", data.mr_data.limit)))?;
    Ok(Listing { total: metadata.api_response_total, limit, total_pages: metadata.total_pages })
}
