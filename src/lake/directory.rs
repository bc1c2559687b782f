//! A bucket that is a directory: an object is a file, its key the path below the bucket's folder. In: keys and bytes;
//! out: bytes and listings in S3's order. It never shows half an object, and no key reaches outside its folder.
//!
//! The etag is the MD5 of the bytes, as S3's is. It is worked out once, when the object is written or first seen, and
//! kept in the file's extended attribute [`ETAG_ATTRIBUTE`] with the size and time that it was true for; where the file
//! system has no such attributes, in memory. A listing therefore reads no file, and a file that somebody copied into
//! the directory is an object like any other.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, Write as _},
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use md5::{Digest as _, Md5};
use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, XattrFlags};

use super::{Bucket, LakeError, ObjectMeta, PutMode, walk::Walk};

/// Where a file's etag is kept: `{seconds}.{nanoseconds}:{size}:{md5}`.
const ETAG_ATTRIBUTE: &str = "user.chpipe.etag";

/// Files below this are read on the calling thread: handing a task to another costs more than the read.
const INLINE_READ: u64 = 256 * 1024;

/// The folder beside the buckets for what is being written; no bucket can have this name.
const UPLOADS: &str = ".uploads";

/// A bucket in a directory. Cheap to clone. Its futures need a tokio runtime.
#[derive(Debug, Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    /// The bucket's folder.
    path: PathBuf,
    uploads: PathBuf,
    /// Etags of files whose file system keeps no attributes: by path, with what they were true for.
    etags: Mutex<HashMap<PathBuf, (Stamp, String)>>,
}

/// What tells one content of a path from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    size: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec(), size: metadata.len() }
    }

    fn prefix(self) -> String {
        format!("{}.{:09}:{}:", self.seconds, self.nanoseconds, self.size)
    }
}

impl Directory {
    /// The bucket `name` below `root`, whose folder is created.
    ///
    /// # Errors
    /// [`LakeError::Io`]: the folder cannot be created; [`LakeError::Key`]: `name` is no name of a bucket.
    pub fn open(root: &Path, name: &str) -> Result<Self, LakeError> {
        check_bucket_name(name)?;
        let path = root.join(name);
        fs_err::create_dir_all(&path).map_err(|source| LakeError::Io { path: path.clone(), source })?;
        Ok(Self::existing(root, name))
    }

    /// The bucket `name` below `root`, which is there already.
    pub(super) fn existing(root: &Path, name: &str) -> Self {
        let inner = Inner {
            name: name.to_owned(),
            path: root.join(name),
            uploads: root.join(UPLOADS),
            etags: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The bucket's folder.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Opens an object for reading; `None` where there is none.
    pub(super) fn open_object(&self, key: &str) -> Result<Option<(File, ObjectMeta)>, LakeError> {
        let path = self.inner.object_path(key)?;
        let opened = self.inner.open(&path).map_err(|error| self.inner.failed("GET", key, &error))?;
        let Some((file, metadata)) = opened else { return Ok(None) };
        let meta = self.inner.meta_of_file(key, &path, &file, &metadata);
        Ok(Some((file, meta.map_err(|error| self.inner.failed("GET", key, &error))?)))
    }

    /// Size, etag and time of an object; `None` where there is none.
    pub(super) fn head_blocking(&self, key: &str) -> Result<Option<ObjectMeta>, LakeError> {
        let path = self.inner.object_path(key)?;
        self.inner.meta_of_path(key, &path).map_err(|error| self.inner.failed("HEAD", key, &error))
    }

    /// Writes an object from memory.
    pub(super) fn put_blocking(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<ObjectMeta, LakeError> {
        let mut upload = self.upload(key)?;
        upload.write(bytes)?;
        upload.finish(mode)
    }

    /// Begins writing an object in pieces; nothing shows under `key` before [`Upload::finish`].
    pub(super) fn upload(&self, key: &str) -> Result<Upload, LakeError> {
        let path = self.inner.object_path(key)?;
        let (temporary, file) = self.inner.create_temporary().map_err(|error| self.inner.failed("PUT", key, &error))?;
        Ok(Upload {
            inner: Arc::clone(&self.inner),
            key: key.to_owned(),
            path,
            temporary: Some(temporary),
            file,
            md5: Md5::new(),
            size: 0,
        })
    }

    /// Removes an object and the folders that it leaves empty.
    pub(super) fn delete_blocking(&self, key: &str) -> Result<(), LakeError> {
        let path = self.inner.object_path(key)?;
        match fs_err::remove_file(&path) {
            Ok(()) => {
                for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.inner.path) {
                    // A folder that another object came to in the meantime stays: rmdir refuses it.
                    if fs_err::remove_dir(folder).is_err() {
                        break;
                    }
                }
                Ok(())
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(self.inner.failed("DELETE", key, &error)),
        }
    }

    /// Walks over the objects in key order.
    pub(super) fn walk(&self, prefix: &str, start_after: Option<&str>, by_folder: bool) -> Walk {
        Walk::new(self.inner.path.clone(), prefix, start_after, by_folder)
    }

    /// What a [`Walk`] found, complete; `None` where it is gone by now.
    pub(super) fn listed(&self, key: &str) -> Result<Option<ObjectMeta>, LakeError> {
        let path = self.inner.path.join(key);
        self.inner.meta_of_path(key, &path).map_err(|error| self.inner.failed("LIST", key, &error))
    }

    /// What broke a walk.
    pub(super) fn list_failed(&self, prefix: &str, error: &io::Error) -> LakeError {
        self.inner.failed("LIST", prefix, error)
    }

    fn list_blocking(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectMeta>, LakeError> {
        let mut objects = Vec::new();
        for entry in self.walk(prefix, start_after, false) {
            let entry = entry.map_err(|error| self.inner.failed("LIST", prefix, &error))?;
            objects.extend(self.listed(&entry.key)?);
        }
        Ok(objects)
    }

    fn list_folders_blocking(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let mut folders = Vec::new();
        for entry in self.walk(prefix, None, true) {
            let entry = entry.map_err(|error| self.inner.failed("LIST", prefix, &error))?;
            if entry.is_folder {
                folders.push(entry.key);
            }
        }
        Ok(folders)
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, LakeError> {
        let path = self.inner.object_path(key)?;
        let opened = self.inner.open(&path).map_err(|error| self.inner.failed("GET", key, &error))?;
        let (file, metadata) = opened.ok_or_else(|| self.inner.not_found(key))?;
        let size = metadata.len();
        let range = match range {
            None => 0..size,
            Some(range) => clamp(&range, size).map_err(|reason| self.inner.request("GET", key, reason))?,
        };
        if range.end - range.start <= INLINE_READ {
            return read_range(&file, &range).map_err(|error| self.inner.failed("GET", key, &error));
        }
        let owned = key.to_owned();
        self.blocking("GET", key, move |this| {
            read_range(&file, &range).map_err(|error| this.inner.failed("GET", &owned, &error))
        })
        .await
    }

    /// Runs blocking work where it does not hold up other tasks.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Self) -> Result<T, LakeError> + Send + 'static,
    ) -> Result<T, LakeError> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || work(&this)).await {
            Ok(result) => result,
            Err(error) => Err(self.inner.request(operation, key, error.to_string())),
        }
    }
}

#[async_trait]
impl Bucket for Directory {
    fn name(&self) -> &str {
        &self.inner.name
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        self.read(key, None).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, LakeError> {
        self.read(key, Some(range)).await
    }

    async fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<ObjectMeta, LakeError> {
        let owned = key.to_owned();
        self.blocking("PUT", key, move |this| this.put_blocking(&owned, &bytes, mode)).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<ObjectMeta>, LakeError> {
        let (owned, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        self.blocking("LIST", prefix, move |this| this.list_blocking(&owned, start_after.as_deref())).await
    }

    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let owned = prefix.to_owned();
        self.blocking("LIST", prefix, move |this| {
            let keys = this.walk(&owned, None, false).map(|entry| entry.map(|entry| entry.key));
            keys.collect::<Result<_, _>>().map_err(|error| this.inner.failed("LIST", &owned, &error))
        })
        .await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let owned = prefix.to_owned();
        self.blocking("LIST", prefix, move |this| this.list_folders_blocking(&owned)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, LakeError> {
        let owned = key.to_owned();
        self.blocking("HEAD", key, move |this| this.head_blocking(&owned)).await
    }

    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        let owned = key.to_owned();
        self.blocking("DELETE", key, move |this| this.delete_blocking(&owned)).await
    }
}

/// An object on its way: a file of its own that becomes the object at once. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub(super) struct Upload {
    inner: Arc<Inner>,
    key: String,
    path: PathBuf,
    /// `None` once it has become the object.
    temporary: Option<PathBuf>,
    file: File,
    md5: Md5,
    size: u64,
}

impl Upload {
    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LakeError> {
        self.file.write_all(bytes).map_err(|error| self.inner.failed("PUT", &self.key, &error))?;
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The MD5 of the bytes written so far.
    pub(super) fn digest(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }

    /// The etag that the object will have.
    pub(super) fn etag(&self) -> String {
        hex(&self.digest())
    }

    /// What was written so far.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the object appear, whole.
    ///
    /// # Errors
    /// [`LakeError::Exists`] with [`PutMode::Create`] where the key is taken: of two writers at once exactly one succeeds.
    pub(super) fn finish(mut self, mode: PutMode) -> Result<ObjectMeta, LakeError> {
        let inner = Arc::clone(&self.inner);
        let key = std::mem::take(&mut self.key);
        self.publish(&key, mode).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists if mode == PutMode::Create => {
                LakeError::Exists { bucket: inner.name.clone(), key: key.clone() }
            }
            _ => inner.failed("PUT", &key, &error),
        })
    }

    fn publish(&mut self, key: &str, mode: PutMode) -> io::Result<ObjectMeta> {
        let etag = hex(&self.digest());
        let metadata = self.file.metadata()?;
        self.inner.keep_etag(&self.path, &self.file, Stamp::of(&metadata), &etag);
        // The bytes are on disk before the name is: a power cut may take the name back, and then there is no object, but it
        // never leaves a torn one.
        self.file.sync_all()?;
        let Some(temporary) = self.temporary.take() else {
            return Err(io::Error::other("this upload is finished already"));
        };
        let placed = self.place(&temporary, mode);
        if let Err(error) = placed {
            self.temporary = Some(temporary);
            return Err(error);
        }
        Ok(ObjectMeta { key: key.to_owned(), size: metadata.len(), etag, last_modified: modified(&metadata) })
    }

    /// Moves the file to its place; a folder that a concurrent DELETE took away is made again.
    fn place(&self, temporary: &Path, mode: PutMode) -> io::Result<()> {
        let mut attempts = 0;
        loop {
            let moved = match mode {
                PutMode::Create => rename_new(temporary, &self.path),
                PutMode::Overwrite => fs_err::rename(temporary, &self.path),
            };
            if moved.is_err() && self.path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            match moved {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < 10 => {
                    attempts += 1;
                    if let Some(folder) = self.path.parent() {
                        fs_err::create_dir_all(folder)?;
                    }
                }
                other => return other,
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Left behind at worst; it is no object and the next one has another name.
            let _ = fs_err::remove_file(temporary);
        }
    }
}

impl Inner {
    /// The file of a key. No part of it is empty, `.` or `..`, so it stays below the bucket's folder.
    fn object_path(&self, key: &str) -> Result<PathBuf, LakeError> {
        let error = |reason: &str| LakeError::Key { key: key.to_owned(), reason: reason.to_owned() };
        if key.is_empty() {
            return Err(error("it is empty"));
        }
        if key.len() > 1024 {
            return Err(error("it is longer than 1024 bytes"));
        }
        for part in key.split('/') {
            match part {
                "" => return Err(error("a directory cannot hold empty folder names or a `/` at the end")),
                "." | ".." => return Err(error("a directory cannot hold `.` or `..` as a name")),
                _ if part.len() > 255 => return Err(error("a directory cannot hold names longer than 255 bytes")),
                _ if part.contains('\0') => return Err(error("a directory cannot hold NUL in a name")),
                _ => {}
            }
        }
        Ok(self.path.join(key))
    }

    /// Opens a file; `None` where there is none, or a folder.
    fn open(&self, path: &Path) -> io::Result<Option<(File, Metadata)>> {
        // A FIFO in the directory must not hang the reader.
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some((file, metadata)))
    }

    fn meta_of_path(&self, key: &str, path: &Path) -> io::Result<Option<ObjectMeta>> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut value = [0; 128];
        let read = rustix::fs::getxattr(path, ETAG_ATTRIBUTE, &mut value);
        if let Some(etag) = self.kept_etag(path, &value, read, Stamp::of(&metadata)) {
            return Ok(Some(meta(key, etag, &metadata)));
        }
        // Not known yet, or the file changed between the two looks at it: now with the file held open.
        let Some((file, metadata)) = self.open(path)? else { return Ok(None) };
        self.meta_of_file(key, path, &file, &metadata).map(Some)
    }

    fn meta_of_file(&self, key: &str, path: &Path, file: &File, metadata: &Metadata) -> io::Result<ObjectMeta> {
        let mut value = [0; 128];
        let read = rustix::fs::fgetxattr(file, ETAG_ATTRIBUTE, &mut value);
        let stamp = Stamp::of(metadata);
        if let Some(etag) = self.kept_etag(path, &value, read, stamp) {
            return Ok(meta(key, etag, metadata));
        }
        let mut reader = file;
        reader.rewind()?;
        let mut md5 = Md5::new();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            md5.update(&buffer[..read]);
        }
        reader.rewind()?;
        let etag = hex(&md5.finalize());
        // A file that somebody is still writing to gets no lasting etag.
        if Stamp::of(&file.metadata()?) == stamp {
            self.keep_etag(path, file, stamp, &etag);
        }
        Ok(meta(key, etag, metadata))
    }

    fn kept_etag(
        &self,
        path: &Path,
        value: &[u8],
        read: Result<usize, rustix::io::Errno>,
        stamp: Stamp,
    ) -> Option<String> {
        match read {
            Ok(length) => std::str::from_utf8(value.get(..length)?)
                .ok()?
                .strip_prefix(&stamp.prefix())
                .filter(|etag| etag.len() == 32)
                .map(str::to_owned),
            Err(_) => self.etags.lock().get(path).filter(|(kept, _)| *kept == stamp).map(|(_, etag)| etag.clone()),
        }
    }

    fn keep_etag(&self, path: &Path, file: &File, stamp: Stamp, etag: &str) {
        let value = format!("{}{etag}", stamp.prefix());
        if rustix::fs::fsetxattr(file, ETAG_ATTRIBUTE, value.as_bytes(), XattrFlags::empty()).is_err() {
            self.etags.lock().insert(path.to_owned(), (stamp, etag.to_owned()));
        }
    }

    fn create_temporary(&self) -> io::Result<(PathBuf, File)> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = self.uploads.join(format!("{}-{count}-{:08x}", std::process::id(), rand::random::<u32>()));
            match std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs_err::create_dir_all(&self.uploads)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn not_found(&self, key: &str) -> LakeError {
        LakeError::NotFound { bucket: self.name.clone(), key: key.to_owned() }
    }

    fn request(&self, operation: &'static str, key: &str, reason: String) -> LakeError {
        LakeError::Request { operation, bucket: self.name.clone(), key: key.to_owned(), reason }
    }

    fn failed(&self, operation: &'static str, key: &str, error: &io::Error) -> LakeError {
        let reason = match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                format!("{error} (in a directory an object cannot be below another object)")
            }
            io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                format!("{error} (in a directory an object cannot have the name of a folder)")
            }
            _ => error.to_string(),
        };
        self.request(operation, key, format!("{reason}, in `{}`", self.path.display()))
    }
}

/// Reads a part of a file that is inside of it.
pub(super) fn read_range(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(Bytes::from(bytes))
}

/// The part of a range that an object of `size` bytes has; as S3, a start behind the end is an error.
pub(super) fn clamp(range: &Range<u64>, size: u64) -> Result<Range<u64>, String> {
    if range.start >= range.end || range.start >= size {
        return Err(format!("bytes {}..{} are not within its {size} bytes", range.start, range.end));
    }
    Ok(range.start..range.end.min(size))
}

/// S3's rules, as far as a folder's safety asks for them.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
pub(super) fn check_bucket_name(name: &str) -> Result<(), LakeError> {
    let valid = (3..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..");
    if valid {
        return Ok(());
    }
    Err(LakeError::Key {
        key: name.to_owned(),
        reason: "a bucket's name has 3 to 63 characters of a-z, 0-9, `-` and `.`".to_owned(),
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

fn meta(key: &str, etag: String, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), size: metadata.len(), etag, last_modified: modified(metadata) }
}

fn modified(metadata: &Metadata) -> DateTime<Utc> {
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    DateTime::from_timestamp(metadata.mtime(), nanoseconds).unwrap_or_default()
}

/// A key below another object's (`ENOTDIR`) is as absent as one without a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Renames where the new name is free; the kernel decides, so of two at once one fails with `AlreadyExists`.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // File systems without the flag (NFS, some FUSE ones) still refuse a second hard link of a name.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            std::fs::hard_link(from, to)?;
            fs_err::remove_file(from)
        }
        Err(error) => Err(error.into()),
    }
}
