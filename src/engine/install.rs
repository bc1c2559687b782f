//! Fetches libchdb once into the user's cache. In: the settings that say where; out: the library's path. It speaks to
//! the package registry through `npm` alone, and keeps nothing of the package but the library.

use std::{
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::Engine as _;
use sha2::{Digest as _, Sha512};

use super::{
    EngineError,
    library::{VERSION, installed_path},
};
use crate::config::EngineSettings;

/// The packages of libchdb, by platform, with the integrity that the registry states for [`VERSION`]. Without one here,
/// npm's own check against the registry has to do.
const PACKAGES: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "linux",
        "x86_64",
        "@chdb/lib-linux-x64-gnu",
        Some("sha512-fPrLmRt5Moor9yGz4mazbrNje4t7X9KB2mTGkXFWRxRBs2iKy8yh6jx11xsa0Qr3iDFMU/yHqd+bVdYJXu3QaQ=="),
    ),
    ("linux", "aarch64", "@chdb/lib-linux-arm64-gnu", None),
    ("macos", "aarch64", "@chdb/lib-darwin-arm64", None),
    ("macos", "x86_64", "@chdb/lib-darwin-x64", None),
];

/// What an installation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// It was there already.
    Already(PathBuf),
    /// It was fetched; `bytes` is the library's size.
    Fetched { path: PathBuf, bytes: u64 },
}

/// Installs the pinned libchdb unless it is there. Safe to run twice at once: the library appears whole or not at all.
///
/// # Errors
/// No package for this platform, no `npm`, no network, a package that is not the pinned one, no room.
pub fn install(settings: &EngineSettings) -> Result<Installed, EngineError> {
    let path = installed_path(settings);
    if path.is_file() {
        return Ok(Installed::Already(path));
    }
    let failed = |reason: String| EngineError::Install { version: VERSION, reason, hint: None };
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, _, package, integrity)) = PACKAGES.iter().find(|(o, a, ..)| (*o, *a) == (os, arch)) else {
        return Err(EngineError::Install {
            version: VERSION,
            reason: format!("there is no package for {os} on {arch}"),
            hint: Some("use a server: `driver: http` in profiles.yml".into()),
        });
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    // Beside its final place, so that the rename is atomic.
    let work = tempfile::Builder::new()
        .prefix(".install-")
        .tempdir_in(directory)
        .map_err(|error| failed(format!("no folder in `{}`: {error}", directory.display())))?;
    let archive = npm_pack(package, work.path())?;
    if let Some(expected) = integrity {
        let found = sha512(&archive).map_err(|error| failed(error.to_string()))?;
        if found != *expected {
            return Err(failed(format!("`{package}` is not the pinned one: expected {expected}, found {found}")));
        }
    }
    let unpacked = work.path().join("libchdb.so");
    let bytes = unpack(&archive, &unpacked).map_err(|error| failed(format!("cannot unpack: {error}")))?;
    fs_err::rename(&unpacked, &path).map_err(|error| failed(error.to_string()))?;
    Ok(Installed::Fetched { path, bytes })
}

/// `npm pack` downloads one package's archive and nothing else: no scripts run.
fn npm_pack(package: &str, directory: &Path) -> Result<PathBuf, EngineError> {
    let spec = format!("{package}@{VERSION}");
    let output = Command::new("npm")
        .args(["pack", &spec, "--silent", "--pack-destination"])
        .arg(directory)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| EngineError::Install {
            version: VERSION,
            reason: format!("cannot run npm: {error}"),
            hint: Some(format!(
                "install Node.js with npm, or fetch {package} {VERSION} elsewhere and set CHPIPE_LIBCHDB to its libchdb.so"
            )),
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("error")).take(4).collect();
        return Err(EngineError::Install {
            version: VERSION,
            reason: format!("`npm pack {spec}` failed: {}", lines.join("; ")),
            hint: Some("check the network and `npm config get registry`".into()),
        });
    }
    let name = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().trim().to_owned();
    let archive = directory.join(&name);
    if name.is_empty() || !archive.is_file() {
        return Err(EngineError::Install {
            version: VERSION,
            reason: format!("`npm pack {spec}` named no file"),
            hint: None,
        });
    }
    Ok(archive)
}

fn sha512(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = Sha512::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    Ok(format!("sha512-{}", base64::engine::general_purpose::STANDARD.encode(hash.finalize())))
}

fn unpack(archive: &Path, to: &Path) -> std::io::Result<u64> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs_err::File::open(archive)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.file_name().is_some_and(|name| name == "libchdb.so") {
            let mut file = fs_err::File::create(to)?;
            let bytes = std::io::copy(&mut entry, &mut file)?;
            file.flush()?;
            return Ok(bytes);
        }
    }
    Err(std::io::Error::other("there is no libchdb.so in the package"))
}
