//! The note by which other chpipe processes find the server of a warehouse directory (`chpipe serve`): beside the lock, readable by its user only, gone
//! with the server.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where a warehouse is served, and as whom one may ask.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ServeNote {
    /// Of the serving process: a note of another than the lock's holder is stale.
    pub(crate) pid: u32,
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
    /// Whether the warehouse has a Keeper.
    #[serde(default)]
    pub(crate) keeper: bool,
}

pub(crate) fn note_path(directory: &Path) -> PathBuf {
    directory.join("chpipe.serve.json")
}

/// The note of a directory, if there is one that can be read.
pub(crate) fn read_note(directory: &Path) -> Option<ServeNote> {
    serde_json::from_slice(&fs_err::read(note_path(directory)).ok()?).ok()
}

/// The written note; removed when dropped.
pub(crate) struct NoteFile {
    path: PathBuf,
}

impl NoteFile {
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn write(directory: &Path, note: &ServeNote) -> std::io::Result<Self> {
        let path = note_path(directory);
        let text = serde_json::to_vec(note)?;
        // Made anew, so that an older file's permissions are not kept; renamed, so that it is read whole or not at all.
        let draft = path.with_extension("json.new");
        let _ = fs_err::remove_file(&draft);
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create_new(true);
        options.options_mut().mode(0o600);
        options.open(&draft).and_then(|mut file| file.write_all(&text))?;
        fs_err::rename(&draft, &path)?;
        Ok(Self { path })
    }
}

impl Drop for NoteFile {
    fn drop(&mut self) {
        // A note that stays behind is recognized by its pid.
        let _ = fs_err::remove_file(&self.path);
    }
}
