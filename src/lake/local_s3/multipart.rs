//! Objects that arrive in parts. In: parts, in any order; out: one object, whose etag is the MD5 of its bytes as every
//! other's here (S3's own would be one of the parts). Uploads that nobody completes end with the server.

use std::{collections::BTreeMap, collections::HashMap, fs::File, sync::Arc};

use parking_lot::Mutex;
use s3s::{S3Result, dto::CompletedPart, s3_error};

use super::backend::s3_error;
use crate::lake::{
    Directory, ObjectMeta, PutMode,
    directory::{Upload, read_range},
};

/// Bytes copied at a time when the parts are joined.
const CHUNK: u64 = 1024 * 1024;

/// The uploads under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    uploads: Mutex<HashMap<String, Arc<Mutex<Multipart>>>>,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Multipart {
    bucket: String,
    key: String,
    parts: BTreeMap<i32, Part>,
}

/// A part: a file that never gets a name of its own.
#[derive(Debug)]
struct Part {
    upload: Upload,
    etag: String,
}

impl Uploads {
    /// Begins an upload and answers its id.
    pub(super) fn begin(&self, bucket: &str, key: &str) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let upload = Multipart { bucket: bucket.to_owned(), key: key.to_owned(), parts: BTreeMap::new() };
        self.uploads.lock().insert(id.clone(), Arc::new(Mutex::new(upload)));
        id
    }

    /// Checks that the upload is one of this object.
    pub(super) fn find(&self, id: &str, bucket: &str, key: &str) -> S3Result<Arc<Mutex<Multipart>>> {
        let upload = self.uploads.lock().get(id).cloned().ok_or_else(|| s3_error!(NoSuchUpload))?;
        let ours = {
            let upload = upload.lock();
            upload.bucket == bucket && upload.key == key
        };
        if ours { Ok(upload) } else { Err(s3_error!(NoSuchUpload)) }
    }

    /// Forgets an upload with all its parts.
    pub(super) fn remove(&self, id: &str) {
        self.uploads.lock().remove(id);
    }
}

impl Multipart {
    /// Takes a part; one of the same number is replaced.
    pub(super) fn add(&mut self, number: i32, upload: Upload, etag: String) {
        self.parts.insert(number, Part { upload, etag });
    }

    /// Joins the listed parts into the object.
    pub(super) fn complete(
        &self,
        directory: &Directory,
        wanted: &[CompletedPart],
        mode: PutMode,
    ) -> S3Result<ObjectMeta> {
        if wanted.is_empty() {
            return Err(s3_error!(MalformedXML, "no part is listed"));
        }
        let mut object = directory.upload(&self.key).map_err(s3_error)?;
        let mut before = 0;
        for part in wanted {
            let number = part.part_number.unwrap_or_default();
            if number <= before {
                return Err(s3_error!(InvalidPartOrder));
            }
            before = number;
            let stored = self.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart, "part {number} is missing"))?;
            if part.e_tag.as_ref().is_some_and(|etag| etag.value() != stored.etag) {
                return Err(s3_error!(InvalidPart, "part {number} has another etag"));
            }
            append(&mut object, stored.upload.file(), stored.upload.size())?;
        }
        object.finish(mode).map_err(s3_error)
    }
}

/// Copies a whole file behind what the object has so far.
pub(super) fn append(object: &mut Upload, file: &File, size: u64) -> S3Result<()> {
    let mut position = 0;
    while position < size {
        let range = position..size.min(position + CHUNK);
        position = range.end;
        let bytes = read_range(file, &range).map_err(s3s::S3Error::internal_error)?;
        object.write(&bytes).map_err(s3_error)?;
    }
    Ok(())
}
