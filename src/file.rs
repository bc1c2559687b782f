//! Small files that others read at any time. In: all bytes of one; out: the file, whole or as it was before.

use std::{io, path::Path};

/// Writes the file beside its place and moves it there; makes its folder.
///
/// # Errors
/// It cannot be written; an earlier file stays as it was.
pub(crate) fn write_whole(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    // Two processes may write the same one.
    let partial = path.with_extension(format!("{}.tmp", std::process::id()));
    fs_err::write(&partial, bytes)?;
    fs_err::rename(&partial, path)
}
