//! One page of a listing, whichever version of ListObjects asked for it. In: a bucket, prefix, delimiter and start; out:
//! objects and common prefixes in key order. The walk of an unfinished listing is kept for its next page.

use std::{collections::VecDeque, iter::Peekable};

use parking_lot::Mutex;

use crate::lake::{Directory, LakeError, ObjectMeta, walk::Walk};

/// Unfinished listings that are remembered; an older one is walked again from its start.
const KEPT: usize = 32;

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) delimiter: Option<String>,
    /// The last key or common prefix of the page before.
    pub(super) after: Option<String>,
}

/// A page of it.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<ObjectMeta>,
    pub(super) folders: Vec<String>,
    /// The last key or common prefix, where there are more.
    pub(super) next: Option<String>,
}

/// The listings under way.
#[derive(Debug, Default)]
pub(super) struct Listings {
    kept: Mutex<VecDeque<(Query, Peekable<Walk>)>>,
}

impl Listings {
    /// The next page, of at most `limit` objects and folders together.
    pub(super) fn page(&self, directory: &Directory, query: Query, limit: usize) -> Result<Page, LakeError> {
        let mut page = Page::default();
        if limit == 0 {
            return Ok(page);
        }
        let kept = {
            let mut kept = self.kept.lock();
            let position = kept.iter().position(|(kept, _)| *kept == query);
            position.and_then(|index| kept.remove(index)).map(|(_, walk)| walk)
        };
        let by_folder = query.delimiter.as_deref() == Some("/");
        let mut walk =
            kept.unwrap_or_else(|| directory.walk(&query.prefix, query.after.as_deref(), by_folder).peekable());
        let mut last: Option<String> = None;
        while let Some(entry) = walk.next_if(|_| page.objects.len() + page.folders.len() < limit) {
            let entry = entry.map_err(|error| directory.list_failed(&query.prefix, &error))?;
            if entry.is_folder {
                last = Some(entry.key.clone());
                page.folders.push(entry.key);
                continue;
            }
            if let Some(folder) = rolled_up(&entry.key, &query) {
                // Keys of one common prefix follow each other; it may also be where the page before ended.
                if last.as_deref() != Some(folder) && query.after.as_deref() != Some(folder) {
                    last = Some(folder.to_owned());
                    page.folders.push(folder.to_owned());
                }
                continue;
            }
            // Deleted since its folder was read where there is none.
            if let Some(object) = directory.listed(&entry.key)? {
                last = Some(entry.key);
                page.objects.push(object);
            }
        }
        if walk.peek().is_some() {
            page.next = last;
            let query = Query { after: page.next.clone(), ..query };
            let mut kept = self.kept.lock();
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back((query, walk));
        }
        Ok(page)
    }
}

/// The common prefix of a key for any other delimiter than `/`.
fn rolled_up<'a>(key: &'a str, query: &Query) -> Option<&'a str> {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty() && *delimiter != "/")?;
    let position = key[query.prefix.len()..].find(delimiter)?;
    Some(&key[..query.prefix.len() + position + delimiter.len()])
}

/// Percent-encodes a key as S3 does: in a URL's path, and in a listing with `encoding-type=url`.
pub(in crate::lake) fn encode(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
