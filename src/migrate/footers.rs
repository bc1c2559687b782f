//! The footers of a bucket's Parquet files, read in parallel and remembered by key and etag: a second plan over the same
//! files fetches nothing. In: a listing; out: [`FileSchema`]s. The memory is a file that may be deleted at any time.

use std::{
    collections::HashMap,
    io::{BufRead as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    lake::{Bucket, ObjectMeta},
    schema::{FileColumn, FileSchema, FooterError, UnsupportedArrowType, read_footer},
};

use super::MigrateError;

/// Last bytes fetched at first: nearly every footer, and all of a small file.
const FIRST_READ: u64 = 32 * 1024;
/// Footers under way at once.
const CONCURRENCY: usize = 32;
/// Changes with what is remembered of a file, so that an older memory is not read.
const FORMAT: &str = "chpipe footers 3";

/// Footers that were read before.
#[derive(Debug)]
pub struct FooterCache {
    path: PathBuf,
    known: HashMap<String, (String, FileSchema)>,
    changed: bool,
}

/// A line of the memory; equal columns are written once, under a number.
#[derive(serde::Serialize, serde::Deserialize)]
enum Line {
    Columns(Vec<FileColumn>),
    File {
        object: String,
        etag: String,
        columns: usize,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unsupported: Vec<UnsupportedArrowType>,
        rows: u64,
        metadata: std::collections::BTreeMap<String, String>,
    },
}

impl FooterCache {
    /// Opens the memory; an unreadable one is empty.
    pub fn open(path: &Path) -> Self {
        let known = read(path).unwrap_or_default();
        Self { path: path.to_owned(), known, changed: false }
    }

    /// The footers of these objects, in their order.
    ///
    /// # Errors
    /// An object cannot be read, or is no Parquet file that ClickHouse could hold.
    pub async fn read(
        &mut self,
        bucket: &Arc<dyn Bucket>,
        objects: &[ObjectMeta],
    ) -> Result<Vec<FileSchema>, MigrateError> {
        let missing: Vec<ObjectMeta> = objects
            .iter()
            .filter(|object| {
                self.known.get(&name(bucket.name(), &object.key)).is_none_or(|(etag, _)| *etag != object.etag)
            })
            .cloned()
            .collect();
        if !missing.is_empty() {
            let begun = std::time::Instant::now();
            let read: Vec<(ObjectMeta, Footer)> = futures::stream::iter(missing.into_iter().map(|object| {
                let bucket = Arc::clone(bucket);
                async move {
                    let footer = fetch(bucket.as_ref(), &object).await?;
                    Ok::<_, MigrateError>((object, footer))
                }
            }))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
            tracing::debug!(
                bucket = bucket.name(),
                footers = read.len(),
                requests = read.iter().map(|(_, footer)| footer.requests).sum::<u64>(),
                bytes = read.iter().map(|(_, footer)| footer.bytes).sum::<u64>(),
                seconds = begun.elapsed().as_secs_f64(),
                "footers read"
            );
            let mut shared: HashMap<Arc<Vec<FileColumn>>, ()> =
                self.known.values().map(|(_, schema)| (Arc::clone(&schema.columns), ())).collect();
            for (object, Footer { mut schema, .. }) in read {
                // One allocation for the thousands of files that have the same columns.
                match shared.get_key_value(&schema.columns) {
                    Some((columns, ())) => schema.columns = Arc::clone(columns),
                    None => _ = shared.insert(Arc::clone(&schema.columns), ()),
                }
                self.known.insert(name(bucket.name(), &object.key), (object.etag, schema));
            }
            self.changed = true;
        }
        Ok(objects
            .iter()
            .filter_map(|object| self.known.get(&name(bucket.name(), &object.key)).map(|(_, schema)| schema.clone()))
            .collect())
    }

    /// Keeps what was read for the next time. A failure costs only that.
    pub fn save(&self) {
        if self.changed
            && let Err(error) = self.write()
        {
            tracing::debug!("cannot remember footers: {error}");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs_err::create_dir_all(dir)?;
        }
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let mut out = std::io::BufWriter::new(fs_err::File::create(&temporary)?);
        writeln!(out, "{FORMAT}")?;
        let mut numbers: HashMap<&Vec<FileColumn>, usize> = HashMap::new();
        for (object, (etag, schema)) in &self.known {
            let next = numbers.len();
            let columns = match numbers.get(schema.columns.as_ref()) {
                Some(number) => *number,
                None => {
                    numbers.insert(&schema.columns, next);
                    writeln!(out, "{}", serde_json::to_string(&Line::Columns(schema.columns.to_vec()))?)?;
                    next
                }
            };
            let line = Line::File {
                object: object.clone(),
                etag: etag.clone(),
                columns,
                unsupported: schema.unsupported.clone(),
                rows: schema.rows,
                metadata: schema.metadata.clone(),
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        out.flush()?;
        fs_err::rename(&temporary, &self.path)
    }
}

/// What identifies an object in the memory.
fn name(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

fn read(path: &Path) -> Option<HashMap<String, (String, FileSchema)>> {
    let mut lines = std::io::BufReader::new(fs_err::File::open(path).ok()?).lines();
    if lines.next()?.ok()? != FORMAT {
        return None;
    }
    let mut known = HashMap::new();
    let mut shared: Vec<Arc<Vec<FileColumn>>> = Vec::new();
    for line in lines {
        match serde_json::from_str(&line.ok()?).ok()? {
            Line::Columns(columns) => shared.push(Arc::new(columns)),
            Line::File { object, etag, columns, unsupported, rows, metadata } => {
                let columns = Arc::clone(shared.get(columns)?);
                known.insert(object, (etag, FileSchema { columns, unsupported, rows, metadata }));
            }
        }
    }
    Some(known)
}

/// What one file says, and what it took to hear it.
struct Footer {
    schema: FileSchema,
    requests: u64,
    bytes: u64,
}

/// Reads one footer with as few requests as its size allows: one, or two for a large one.
async fn fetch(bucket: &dyn Bucket, object: &ObjectMeta) -> Result<Footer, MigrateError> {
    let mut wanted = FIRST_READ.min(object.size);
    let (mut requests, mut read) = (0, 0);
    loop {
        let tail = if object.size == 0 {
            bytes::Bytes::new()
        } else {
            requests += 1;
            read += wanted;
            bucket.get_range(&object.key, object.size - wanted..object.size).await?
        };
        match read_footer(&tail, object.size) {
            Ok(mut schema) => {
                // What differs from file to file is of no use for a table, and would only swell the memory.
                schema.metadata.retain(|name, _| !PER_FILE.contains(&name.as_str()));
                return Ok(Footer { schema, requests, bytes: read });
            }
            Err(FooterError::NeedMore { bytes }) if bytes > wanted && bytes <= object.size => wanted = bytes,
            Err(source) => {
                return Err(MigrateError::Footer { bucket: bucket.name().to_owned(), key: object.key.clone(), source });
            }
        }
    }
}

/// Metadata that says something of one file alone.
const PER_FILE: [&str; 6] = [
    "chpipe.batch_id",
    "chpipe.season",
    "chpipe.round",
    "chpipe.source_urls",
    "chpipe.tool_version",
    "chpipe.schema_version",
];
