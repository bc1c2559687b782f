//! S3's operations over a folder of buckets. In: requests as `s3s` parsed and authenticated them; out: answers. File work
//! that may take long runs on the runtime's blocking threads; a small read is quicker where it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use s3s::{
    Body, S3, S3Error, S3Request, S3Response, S3Result, TrailingHeaders,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256},
    dto::*,
    s3_error,
};

use super::{
    REGION,
    conditions::Conditions,
    listing::{Listings, Page, Query, encode},
    multipart::{Uploads, append},
};
use crate::lake::{
    Directory, LakeError, ObjectMeta, PutMode,
    directory::{Upload, check_bucket_name, read_range},
};

/// Objects up to this size are answered from memory; larger ones are streamed in pieces of it.
const PIECE: u64 = 256 * 1024;

/// The most keys on a page, as S3's.
const PAGE: i32 = 1000;

/// The buckets of one folder.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    root: PathBuf,
    listings: Arc<Listings>,
    uploads: Arc<Uploads>,
}

impl Backend {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), listings: Arc::default(), uploads: Arc::default() }
    }

    fn bucket_path(&self, name: &str) -> S3Result<PathBuf> {
        check_bucket_name(name).map_err(|error| s3_error!(InvalidBucketName, "{error}"))?;
        Ok(self.root.join(name))
    }

    /// A bucket that is there.
    fn bucket(&self, name: &str) -> S3Result<Directory> {
        if !self.bucket_path(name)?.is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(Directory::existing(&self.root, name))
    }

    /// Size, etag and time of an object that is there and passes the conditions, as headers give them.
    fn found(&self, meta: &ObjectMeta, conditions: &Conditions) -> S3Result<(ETag, Timestamp)> {
        let etag = ETag::Strong(meta.etag.clone());
        let modified = whole_seconds(meta.last_modified);
        conditions.check(&etag, &modified)?;
        Ok((etag, modified))
    }

    async fn list(&self, query: Query, max_keys: Option<i32>) -> S3Result<Page> {
        let directory = self.bucket(&query.bucket)?;
        let limit = usize::try_from(max_keys.unwrap_or(PAGE).min(PAGE))
            .map_err(|_| s3_error!(InvalidArgument, "max-keys is negative"))?;
        let listings = Arc::clone(&self.listings);
        blocking(move || listings.page(&directory, query, limit).map_err(s3_error)).await
    }
}

#[async_trait]
impl S3 for Backend {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let mut buckets = Vec::new();
        for entry in fs_err::read_dir(&self.root).map_err(S3Error::internal_error)? {
            let entry = entry.map_err(S3Error::internal_error)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = entry.metadata().map_err(S3Error::internal_error)?;
            if !metadata.is_dir() || check_bucket_name(&name).is_err() {
                continue;
            }
            let created = metadata.modified().unwrap_or(UNIX_EPOCH);
            buckets.push(Bucket { name: Some(name), creation_date: Some(created.into()), ..Default::default() });
        }
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..Default::default() }))
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let path = self.bucket_path(&req.input.bucket)?;
        match fs_err::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(s3_error!(BucketAlreadyOwnedByYou));
            }
            Err(error) => return Err(S3Error::internal_error(error)),
        }
        let location = Some(format!("/{}", req.input.bucket));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        let directory = self.bucket(&req.input.bucket)?;
        match fs_err::remove_dir(directory.path()) {
            Ok(()) => Ok(S3Response::new(DeleteBucketOutput::default())),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Err(s3_error!(BucketNotEmpty)),
            Err(error) => Err(S3Error::internal_error(error)),
        }
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..Default::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.bucket(&req.input.bucket)?;
        // S3 gives none for its oldest region.
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let after = match &input.continuation_token {
            None => input.start_after.clone(),
            Some(token) => Some(
                BASE64_STANDARD
                    .decode(token)
                    .ok()
                    .and_then(|key| String::from_utf8(key).ok())
                    .ok_or_else(|| s3_error!(InvalidArgument, "this continuation token is not ours"))?,
            ),
        };
        let query = Query {
            bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after,
        };
        let page = self.list(query, input.max_keys).await?;
        let key_count = page.objects.len() + page.folders.len();
        let names = Names::new(input.encoding_type.as_ref());
        let output = ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(names.write(input.prefix.unwrap_or_default())),
            delimiter: input.delimiter.map(|delimiter| names.write(delimiter)),
            start_after: input.start_after.map(|key| names.write(key)),
            continuation_token: input.continuation_token,
            max_keys: Some(input.max_keys.unwrap_or(PAGE).min(PAGE)),
            key_count: i32::try_from(key_count).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|key| BASE64_STANDARD.encode(key)),
            contents: Some(names.objects(page.objects)),
            common_prefixes: Some(names.folders(page.folders)),
            encoding_type: input.encoding_type,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        let query = Query {
            bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
        };
        let page = self.list(query, input.max_keys).await?;
        let names = Names::new(input.encoding_type.as_ref());
        let output = ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(names.write(input.prefix.unwrap_or_default())),
            marker: Some(names.write(input.marker.unwrap_or_default())),
            max_keys: Some(input.max_keys.unwrap_or(PAGE).min(PAGE)),
            is_truncated: Some(page.next.is_some()),
            // S3 gives it only with a delimiter; without one the last key is the marker.
            next_marker: page.next.filter(|_| input.delimiter.is_some()).map(|key| names.write(key)),
            delimiter: input.delimiter.map(|delimiter| names.write(delimiter)),
            contents: Some(names.objects(page.objects)),
            common_prefixes: Some(names.folders(page.folders)),
            encoding_type: input.encoding_type,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let directory = self.bucket(&input.bucket)?;
        let meta = directory.head_blocking(&input.key).map_err(read_error)?.ok_or_else(|| s3_error!(NoSuchKey))?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let (etag, modified) = self.found(&meta, &conditions)?;
        let output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(meta.size).ok(),
            content_type: Some(content_type(&input.key)),
            e_tag: Some(etag),
            last_modified: Some(modified),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let directory = Directory::existing(&self.root, &input.bucket);
        let Some((file, meta)) = directory.open_object(&input.key).map_err(read_error)? else {
            // Only now: most requests are for what is there.
            self.bucket(&input.bucket)?;
            return Err(s3_error!(NoSuchKey));
        };
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let (etag, modified) = self.found(&meta, &conditions)?;
        let (range, content_range) = match input.range {
            None => (0..meta.size, None),
            Some(range) => {
                let range = range.check(meta.size)?;
                let text = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), meta.size);
                (range, Some(text))
            }
        };
        let length = range.end - range.start;
        let body = if length <= PIECE {
            let bytes = read_range(&file, &range).map_err(S3Error::internal_error)?;
            StreamingBlob::from(Body::from(bytes))
        } else {
            let pieces = futures::stream::iter(range.clone().step_by(PIECE as usize)).map(move |start| {
                let piece = start..range.end.min(start + PIECE);
                read_range(&file, &piece)
            });
            StreamingBlob::wrap(pieces)
        };
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(body),
            content_length: i64::try_from(length).ok(),
            content_range,
            content_type: Some(input.response_content_type.unwrap_or_else(|| content_type(&input.key))),
            e_tag: Some(etag),
            last_modified: Some(modified),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        let mode = put_mode(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let directory = self.bucket(&input.bucket)?;
        let mut expected = Expected {
            md5: input.content_md5.take(),
            checksum: Checksum {
                checksum_crc32: input.checksum_crc32.take(),
                checksum_crc32c: input.checksum_crc32c.take(),
                checksum_crc64nvme: input.checksum_crc64nvme.take(),
                checksum_sha1: input.checksum_sha1.take(),
                checksum_sha256: input.checksum_sha256.take(),
                ..Default::default()
            },
            trailers: req.trailing_headers,
        };
        expected.announce(&req.headers);
        let upload = receive(&directory, &input.key, input.body, expected, input.content_length).await?;
        let meta = blocking(move || upload.finish(mode).map_err(s3_error)).await?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(meta.etag)), ..Default::default() }))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented, "only objects of this server can be copied"));
        };
        let (from, to) = (self.bucket(bucket)?, self.bucket(&input.bucket)?);
        let (source, target) = (key.to_string(), input.key);
        let meta = blocking(move || {
            let (file, meta) = from.open_object(&source).map_err(read_error)?.ok_or_else(|| s3_error!(NoSuchKey))?;
            let mut upload = to.upload(&target).map_err(s3_error)?;
            append(&mut upload, &file, meta.size)?;
            upload.finish(PutMode::Overwrite).map_err(s3_error)
        })
        .await?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(meta.etag)),
            last_modified: Some(whole_seconds(meta.last_modified)),
            ..Default::default()
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let directory = self.bucket(&req.input.bucket)?;
        let key = req.input.key;
        blocking(move || directory.delete_blocking(&key).map_err(s3_error)).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let directory = self.bucket(&req.input.bucket)?;
        let quiet = req.input.delete.quiet.unwrap_or(false);
        let objects = req.input.delete.objects;
        let output = blocking(move || {
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in objects {
                match directory.delete_blocking(&object.key) {
                    Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..Default::default() }),
                    Err(error) => errors.push(Error {
                        code: Some("InternalError".to_owned()),
                        key: Some(object.key),
                        message: Some(error.to_string()),
                        ..Default::default()
                    }),
                }
            }
            let deleted = (!quiet).then_some(deleted);
            Ok(DeleteObjectsOutput { deleted, errors: Some(errors), ..Default::default() })
        })
        .await?;
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        self.bucket(&input.bucket)?;
        let upload_id = self.uploads.begin(&input.bucket, &input.key);
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let mut input = req.input;
        let multipart = self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        if !(1..=10_000).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument, "a part's number is 1 to 10000"));
        }
        let directory = self.bucket(&input.bucket)?;
        let mut expected = Expected {
            md5: input.content_md5.take(),
            checksum: Checksum {
                checksum_crc32: input.checksum_crc32.take(),
                checksum_crc32c: input.checksum_crc32c.take(),
                checksum_crc64nvme: input.checksum_crc64nvme.take(),
                checksum_sha1: input.checksum_sha1.take(),
                checksum_sha256: input.checksum_sha256.take(),
                ..Default::default()
            },
            trailers: req.trailing_headers,
        };
        expected.announce(&req.headers);
        let upload = receive(&directory, &input.key, input.body, expected, input.content_length).await?;
        let etag = upload.etag();
        multipart.lock().add(input.part_number, upload, etag.clone());
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let mode = put_mode(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let multipart = self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        let directory = self.bucket(&input.bucket)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let meta = blocking(move || multipart.lock().complete(&directory, &parts, mode)).await?;
        self.uploads.remove(&input.upload_id);
        let output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, encode(&input.key))),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.uploads.find(&req.input.upload_id, &req.input.bucket, &req.input.key)?;
        self.uploads.remove(&req.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// How names stand in a listing.
struct Names {
    encoded: bool,
}

impl Names {
    fn new(encoding: Option<&EncodingType>) -> Self {
        Self { encoded: encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) }
    }

    fn write(&self, name: String) -> String {
        if self.encoded { encode(&name) } else { name }
    }

    fn objects(&self, objects: Vec<ObjectMeta>) -> Vec<Object> {
        let object = |meta: ObjectMeta| Object {
            key: Some(self.write(meta.key)),
            size: i64::try_from(meta.size).ok(),
            e_tag: Some(ETag::Strong(meta.etag)),
            last_modified: Some(whole_seconds(meta.last_modified)),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        };
        objects.into_iter().map(object).collect()
    }

    fn folders(&self, folders: Vec<String>) -> Vec<CommonPrefix> {
        folders.into_iter().map(|folder| CommonPrefix { prefix: Some(self.write(folder)) }).collect()
    }
}

/// What the client says the bytes add up to.
struct Expected {
    md5: Option<String>,
    checksum: Checksum,
    /// Where a checksum can also come after the body.
    trailers: Option<TrailingHeaders>,
}

impl Expected {
    /// Notes which checksum will follow the body, so that it is computed while the body arrives.
    fn announce(&mut self, headers: &http::HeaderMap) {
        let announced = headers.get("x-amz-trailer").and_then(|name| name.to_str().ok()).unwrap_or_default();
        for (name, value) in checksum_fields(&mut self.checksum) {
            if announced.eq_ignore_ascii_case(name) && value.is_none() {
                *value = Some(String::new());
            }
        }
    }

    fn hasher(&self) -> ChecksumHasher {
        ChecksumHasher {
            crc32: self.checksum.checksum_crc32.as_ref().map(|_| Crc32::new()),
            crc32c: self.checksum.checksum_crc32c.as_ref().map(|_| Crc32c::new()),
            sha1: self.checksum.checksum_sha1.as_ref().map(|_| Sha1::new()),
            sha256: self.checksum.checksum_sha256.as_ref().map(|_| Sha256::new()),
            crc64nvme: self.checksum.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
        }
    }

    fn check(mut self, upload: &Upload, hasher: ChecksumHasher) -> S3Result<()> {
        if let Some(md5) = &self.md5
            && BASE64_STANDARD.encode(upload.digest()) != *md5
        {
            return Err(s3_error!(BadDigest));
        }
        let trailers = self.trailers.take().and_then(|trailers| trailers.take());
        let mut computed = hasher.finalize();
        for ((name, wanted), (_, got)) in
            checksum_fields(&mut self.checksum).into_iter().zip(checksum_fields(&mut computed))
        {
            let trailer = trailers.as_ref().and_then(|trailers| trailers.get(name)).and_then(|text| text.to_str().ok());
            let wanted = wanted.as_deref().filter(|wanted| !wanted.is_empty()).or(trailer);
            if let (Some(wanted), Some(got)) = (wanted, got.as_deref())
                && wanted != got
            {
                return Err(s3_error!(BadDigest, "{name} of the body is {got}, not {wanted}"));
            }
        }
        Ok(())
    }
}

fn checksum_fields(checksum: &mut Checksum) -> [(&'static str, &mut Option<String>); 5] {
    [
        ("x-amz-checksum-crc32", &mut checksum.checksum_crc32),
        ("x-amz-checksum-crc32c", &mut checksum.checksum_crc32c),
        ("x-amz-checksum-crc64nvme", &mut checksum.checksum_crc64nvme),
        ("x-amz-checksum-sha1", &mut checksum.checksum_sha1),
        ("x-amz-checksum-sha256", &mut checksum.checksum_sha256),
    ]
}

/// Writes a body to a file that is not an object yet.
async fn receive(
    directory: &Directory,
    key: &str,
    body: Option<StreamingBlob>,
    expected: Expected,
    content_length: Option<i64>,
) -> S3Result<Upload> {
    let mut upload = directory.upload(key).map_err(s3_error)?;
    let mut hasher = expected.hasher();
    if let Some(mut body) = body {
        while let Some(bytes) = body.next().await {
            let bytes: Bytes = bytes.map_err(|error| s3_error!(IncompleteBody, "the body broke off: {error}"))?;
            hasher.update(&bytes);
            upload.write(&bytes).map_err(s3_error)?;
        }
    }
    if content_length.is_some_and(|length| i64::try_from(upload.size()).ok() != Some(length)) {
        return Err(s3_error!(IncompleteBody));
    }
    expected.check(&upload, hasher)?;
    Ok(upload)
}

fn put_mode(if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<PutMode> {
    match (if_match, if_none_match) {
        (None, None) => Ok(PutMode::Overwrite),
        (None, Some(ETagCondition::Any)) => Ok(PutMode::Create),
        _ => Err(s3_error!(NotImplemented, "of the conditional writes only If-None-Match: * is supported")),
    }
}

/// Runs blocking file work where it does not hold up the connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(S3Error::internal_error(error)),
    }
}

/// An error of the directory in S3's words.
pub(super) fn s3_error(error: LakeError) -> S3Error {
    match error {
        LakeError::NotFound { .. } => s3_error!(NoSuchKey),
        LakeError::Exists { .. } => s3_error!(PreconditionFailed),
        LakeError::NoBucket { .. } => s3_error!(NoSuchBucket),
        LakeError::Key { .. } => s3_error!(InvalidArgument, "{error}"),
        error => {
            let message = error.to_string();
            let mut answer = S3Error::internal_error(error);
            answer.set_message(message);
            answer
        }
    }
}

/// As [`s3_error`]: a key that a directory cannot hold is not in it.
fn read_error(error: LakeError) -> S3Error {
    match error {
        LakeError::Key { .. } => s3_error!(NoSuchKey),
        error => s3_error(error),
    }
}

fn content_type(key: &str) -> String {
    match key.rsplit_once('.') {
        Some((_, "json")) => "application/json",
        Some((_, "parquet")) => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
    .to_owned()
}

/// HTTP dates have whole seconds; a listing must not differ from them.
fn whole_seconds(time: DateTime<Utc>) -> Timestamp {
    let seconds = Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0));
    Timestamp::from(SystemTime::UNIX_EPOCH + seconds)
}
