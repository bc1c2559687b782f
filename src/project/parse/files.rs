//! Which files belong to a package, by dbt's rules, and their text. In: packages; out: [`SourceFile`]s. It parses nothing.

use std::{collections::HashSet, path::Path};

use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::{
    error::Location,
    project::{Checksum, Package, ProjectError, parallel},
};

/// What a file is, by its folder and extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FileKind {
    Macro,
    GenericTest,
    Model,
    Snapshot,
    Analysis,
    SingularTest,
    Seed,
    Docs,
    Properties,
    Fixture,
}

/// One file of a package.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Position of its package.
    pub(super) package: usize,
    pub(super) kind: FileKind,
    /// Below its resource folder: `staging/stg_laps.sql`.
    pub(super) relative: String,
    /// Below the package: `models/staging/stg_laps.sql`.
    pub(super) original: String,
    /// Without white space at both ends, as dbt keeps it; empty for seeds.
    pub(super) text: String,
    /// The line on which `text` begins.
    pub(super) first_line: usize,
    pub(super) checksum: Checksum,
}

impl SourceFile {
    /// The file's name without its extension.
    pub(super) fn stem(&self) -> &str {
        let name = self.relative.rsplit('/').next().unwrap_or(&self.relative);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }
}

/// dbt does not hash seeds from this size on.
const LARGE_SEED: u64 = 1 << 20;

/// All files of all packages, read.
pub(super) fn read(packages: &[&Package]) -> Result<Vec<SourceFile>, ProjectError> {
    let mut found = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        find(index, package, &mut found);
    }
    let files = parallel::try_map(&found, |file| file.read(packages[file.package]))?;
    // Files without any text are no resources (dbt's rule); an empty seed is.
    Ok(files.into_iter().filter(|file| !file.text.is_empty() || file.kind == FileKind::Seed).collect())
}

struct Found {
    package: usize,
    kind: FileKind,
    relative: String,
    original: String,
}

fn find(index: usize, package: &Package, found: &mut Vec<Found>) {
    use FileKind::{Analysis, Docs, Fixture, GenericTest, Macro, Model, Properties, Seed, SingularTest, Snapshot};
    let ignored = Ignored::read(&package.root);
    let mut folders: Vec<(&str, Vec<FileKind>)> = Vec::new();
    let add = |paths: &[String], kinds: &[FileKind], folders: &mut Vec<(String, Vec<FileKind>)>| {
        for path in paths {
            let path = path.trim_end_matches('/');
            match folders.iter_mut().find(|(known, _)| known == path) {
                Some((_, known)) => known.extend(kinds),
                None => folders.push((path.to_owned(), kinds.to_vec())),
            }
        }
    };
    let mut owned = Vec::new();
    add(&package.macro_paths, &[Macro, Properties], &mut owned);
    add(&package.model_paths, &[Model, Properties], &mut owned);
    add(&package.snapshot_paths, &[Snapshot, Properties], &mut owned);
    add(&package.analysis_paths, &[Analysis, Properties], &mut owned);
    add(&package.test_paths, &[SingularTest, GenericTest, Fixture, Properties], &mut owned);
    add(&package.seed_paths, &[Seed, Properties], &mut owned);
    add(&package.docs_paths, &[Docs], &mut owned);
    folders.extend(owned.iter().map(|(path, kinds)| (path.as_str(), kinds.clone())));
    let mut seen: HashSet<(FileKind, String)> = HashSet::new();
    for (folder, kinds) in folders {
        let top = package.root.join(folder);
        let walk = WalkDir::new(&top).follow_links(true).sort_by_file_name();
        for entry in walk.into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
            let Some(name) = entry.file_name().to_str() else { continue };
            // Editors leave `.x.swp`, `#x#` and `~x` behind.
            if name.starts_with(['.', '#', '~']) {
                continue;
            }
            let Some((_, extension)) = name.rsplit_once('.') else { continue };
            let Some(relative) = entry.path().strip_prefix(&top).ok().and_then(Path::to_str) else { continue };
            let original = format!("{folder}/{relative}");
            if ignored.matches(&original) {
                continue;
            }
            let first = relative.split_once('/').map_or("", |(first, _)| first);
            for &kind in &kinds {
                let fits = match kind {
                    Macro | Snapshot | Analysis => extension == "sql",
                    Model => matches!(extension, "sql" | "py"),
                    SingularTest => extension == "sql" && !matches!(first, "generic" | "fixtures"),
                    GenericTest => extension == "sql" && first == "generic",
                    Fixture => first == "fixtures" && matches!(extension, "csv" | "sql"),
                    Seed => extension == "csv",
                    Docs => extension == "md",
                    Properties => matches!(extension, "yml" | "yaml"),
                };
                if fits && seen.insert((kind, original.clone())) {
                    found.push(Found {
                        package: index,
                        kind,
                        relative: relative.to_owned(),
                        original: original.clone(),
                    });
                }
            }
        }
    }
}

impl Found {
    fn read(&self, package: &Package) -> Result<SourceFile, ProjectError> {
        let path = package.root.join(&self.original);
        let mut checksum = None;
        let mut text = String::new();
        let mut first_line = 1;
        let large = self.kind == FileKind::Seed
            && fs_err::metadata(&path).map_err(|source| ProjectError::io(&path, source))?.len() >= LARGE_SEED;
        if large {
            checksum = Some(Checksum { name: "path".into(), checksum: self.original.clone() });
        } else {
            let bytes = fs_err::read(&path).map_err(|source| ProjectError::io(&path, source))?;
            let whole = String::from_utf8_lossy(&bytes);
            if let (std::borrow::Cow::Owned(_), false) = (&whole, self.kind == FileKind::Seed) {
                let valid = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
                let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
                return Err(ProjectError::parsing(format!("{} is not text in UTF-8", self.original))
                    .at(Location::line(path, line, None))
                    .hinting("save it as UTF-8"));
            }
            let start = whole.trim_start();
            first_line += whole[..whole.len() - start.len()].matches('\n').count();
            text = start.trim_end().to_owned();
            let sum = Checksum { name: "sha256".into(), checksum: sha256(&text) };
            checksum.replace(sum);
            if self.kind == FileKind::Seed {
                text.clear();
            }
        }
        Ok(SourceFile {
            package: self.package,
            kind: self.kind,
            relative: self.relative.clone(),
            original: self.original.clone(),
            text,
            first_line,
            checksum: checksum.unwrap_or(Checksum { name: "none".into(), checksum: String::new() }),
        })
    }
}

/// Hexadecimal.
pub(in crate::project) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// .dbtignore: patterns as in .gitignore.
struct Ignored(Vec<(bool, globset::GlobMatcher)>);

impl Ignored {
    fn read(root: &Path) -> Self {
        let text = fs_err::read_to_string(root.join(".dbtignore")).unwrap_or_default();
        let mut patterns = Vec::new();
        for line in text.lines() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keep, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line));
            let line = line.trim_end_matches('/');
            // A slash inside ties the pattern to the project folder.
            let anchored = line.trim_start_matches('/').contains('/') || line.starts_with('/');
            let line = line.trim_start_matches('/');
            let stems = if anchored { vec![line.to_owned()] } else { vec![line.to_owned(), format!("**/{line}")] };
            for stem in stems {
                for pattern in [stem.clone(), format!("{stem}/**")] {
                    let glob = globset::GlobBuilder::new(&pattern).literal_separator(true).build();
                    if let Ok(glob) = glob {
                        patterns.push((keep, glob.compile_matcher()));
                    }
                }
            }
        }
        Self(patterns)
    }

    fn matches(&self, path: &str) -> bool {
        self.0.iter().rev().find(|(_, glob)| glob.is_match(path)).is_some_and(|(keep, _)| !keep)
    }
}
