//! Walks a directory as S3 lists a bucket: in the byte order of the whole keys, without looking into folders that the
//! prefix or the start rules out. In: a folder, a prefix, a key to start after; out: keys. It reads no file.

use std::{io, path::PathBuf, vec};

/// An object, or with `by_folder` a folder directly below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key; a folder's ends in `/`.
    pub(super) key: String,
    pub(super) is_folder: bool,
}

/// The walk; an iterator that can be kept and gone on with later. Each folder is read when it is entered.
#[derive(Debug)]
pub(super) struct Walk {
    root: PathBuf,
    prefix: String,
    start_after: Option<String>,
    by_folder: bool,
    /// Sorted entries still to come, of each folder that the walk is in.
    stack: Vec<vec::IntoIter<Entry>>,
    started: bool,
}

impl Walk {
    /// A walk over the keys that begin with `prefix` and come after `start_after`. With `by_folder` the folders directly
    /// below the prefix are entries themselves (delimiter `/`), where they hold a key after `start_after`.
    pub(super) fn new(root: PathBuf, prefix: &str, start_after: Option<&str>, by_folder: bool) -> Self {
        Self {
            root,
            prefix: prefix.to_owned(),
            start_after: start_after.map(str::to_owned),
            by_folder,
            stack: Vec::new(),
            started: false,
        }
    }

    /// The entries of the folder with key prefix `folder` (empty, or ending in `/`) that the walk wants, sorted.
    fn read_folder(&self, folder: &str) -> io::Result<vec::IntoIter<Entry>> {
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new().into_iter());
            }
            Err(error) => return Err(error),
        };
        let mut wanted = Vec::new();
        for entry in entries {
            let entry = entry?;
            // No key has this name, as keys are UTF-8.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let mut key = String::with_capacity(folder.len() + name.len() + 1);
            key.push_str(folder);
            key.push_str(&name);
            let file_type = entry.file_type()?;
            // Links are not followed: one could lead out of the bucket, or round in a circle.
            let is_folder = file_type.is_dir();
            if is_folder {
                // `a/x` sorts after `a.b`, so folders are compared with their slash.
                key.push('/');
            } else if !file_type.is_file() {
                continue;
            }
            if self.wants(&key, is_folder) {
                wanted.push(Entry { key, is_folder });
            }
        }
        wanted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(wanted.into_iter())
    }

    fn wants(&self, key: &str, is_folder: bool) -> bool {
        if !key.starts_with(&self.prefix) {
            return false;
        }
        match &self.start_after {
            None => true,
            // A folder that is an entry itself is left out when it is the start; into any other the start may lead.
            Some(start) if is_folder && start.starts_with(key) => !self.by_folder || start.len() > key.len(),
            Some(start) => key > start.as_str(),
        }
    }

    fn advance(&mut self) -> io::Result<Option<Entry>> {
        if !self.started {
            self.started = true;
            let first = match self.prefix.rfind('/') {
                Some(end) => self.prefix[..=end].to_owned(),
                None => String::new(),
            };
            // A prefix with empty, `.` or `..` parts is the beginning of no key here.
            let parts = first.strip_suffix('/').map(|folders| folders.split('/'));
            if parts.into_iter().flatten().any(|part| matches!(part, "" | "." | "..") || part.contains('\0')) {
                return Ok(None);
            }
            self.stack.push(self.read_folder(&first)?);
        }
        while let Some(entries) = self.stack.last_mut() {
            match entries.next() {
                None => {
                    self.stack.pop();
                }
                Some(entry) if !entry.is_folder => return Ok(Some(entry)),
                Some(entry) if self.by_folder => {
                    // S3 has no empty folders.
                    let start_after = self.start_after.as_deref();
                    if Walk::new(self.root.clone(), &entry.key, start_after, false).advance()?.is_some() {
                        return Ok(Some(entry));
                    }
                }
                Some(entry) => {
                    let below = self.read_folder(&entry.key)?;
                    self.stack.push(below);
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Walk {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
