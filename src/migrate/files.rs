//! Migrations written by hand: `ddl/migrations/<version>_<name>.sql`, several statements a file, run once in the order of
//! their versions. In: files and the ledger; out: what is pending. A file that changed after it was applied is an error.

use std::path::{Path, PathBuf};

use crate::schema::split_statements;

use super::{LedgerEntry, MigrateError, MigrationState, plan::checksum};

/// One file.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationFile {
    /// `0007`: digits, compared as a number.
    pub version: String,
    pub name: String,
    pub path: PathBuf,
    pub statements: Vec<String>,
    pub checksum: String,
    pub order: FileOrder,
}

/// When a file runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOrder {
    /// `-- chpipe: before-generated`: generated changes are planned for what the file leaves.
    BeforeGenerated,
    /// After the generated changes of the same run.
    AfterGenerated,
}

impl MigrationFile {
    /// `0007_fill_sprint_points`.
    pub fn id(&self) -> String {
        format!("{}_{}", self.version, self.name)
    }

    fn number(&self) -> u128 {
        self.version.parse().unwrap_or_default()
    }

    fn read(path: &Path) -> Result<Self, MigrateError> {
        let text = fs_err::read_to_string(path).map_err(|source| MigrateError::Io { path: path.to_owned(), source })?;
        let fail = |reason: &str| MigrateError::File { path: path.to_owned(), reason: reason.to_owned() };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (version, name) = stem
            .split_once('_')
            .filter(|(version, _)| {
                !version.is_empty() && version.len() <= 30 && version.bytes().all(|b| b.is_ascii_digit())
            })
            .ok_or_else(|| fail("its name is not of the form 0007_what_it_does.sql"))?;
        // Line ends are the editor's business, not a change.
        let text = text.replace("\r\n", "\n");
        let mut order = FileOrder::AfterGenerated;
        for pragma in text.lines().filter_map(|line| line.trim().strip_prefix("-- chpipe:")) {
            match pragma.trim() {
                "before-generated" => order = FileOrder::BeforeGenerated,
                "after-generated" => order = FileOrder::AfterGenerated,
                other => return Err(fail(&format!("`-- chpipe: {other}` is not known"))),
            }
        }
        let statements = split_statements(&text).map_err(|error| fail(&error))?;
        Ok(Self {
            version: version.to_owned(),
            name: name.to_owned(),
            path: path.to_owned(),
            statements,
            checksum: checksum(text.trim_end()),
            order,
        })
    }
}

/// The files of a folder in the order of their versions; none where there is no folder.
///
/// # Errors
/// A file cannot be read or is misnamed, two files have one version.
pub fn read_files(dir: &Path) -> Result<Vec<MigrationFile>, MigrateError> {
    let entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(MigrateError::Io { path: dir.to_owned(), source }),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| MigrateError::Io { path: dir.to_owned(), source })?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(MigrationFile::read(&path)?);
        }
    }
    files.sort_by_key(|file| (file.number(), file.name.clone()));
    for pair in files.windows(2) {
        if pair[0].number() == pair[1].number() {
            return Err(MigrateError::DuplicateVersion {
                version: pair[0].version.clone(),
                first: pair[0].path.clone(),
                second: pair[1].path.clone(),
            });
        }
    }
    Ok(files)
}

/// The files that are not applied yet.
///
/// # Errors
/// [`MigrateError::Changed`]: an applied file is not what it was.
pub fn pending_files(files: &[MigrationFile], entries: &[LedgerEntry]) -> Result<Vec<MigrationFile>, MigrateError> {
    let mut pending = Vec::new();
    for file in files {
        let applied = entries
            .iter()
            .rfind(|entry| entry.kind == "file" && entry.id == file.id() && entry.state == MigrationState::Applied);
        match applied {
            Some(entry) if entry.checksum != file.checksum => {
                return Err(MigrateError::Changed {
                    version: file.id(),
                    path: file.path.clone(),
                    recorded: entry.checksum.chars().take(12).collect(),
                    found: file.checksum.chars().take(12).collect(),
                });
            }
            Some(_) => {}
            None => pending.push(file.clone()),
        }
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, text: &str) {
        fs_err::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn files_run_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "10_b.sql", "SELECT 1; -- a ; in a comment\nSELECT ';'");
        file(dir.path(), "0002_a.sql", "-- chpipe: before-generated\nSELECT 2;\n");
        let files = read_files(dir.path()).unwrap();
        assert_eq!(files.iter().map(MigrationFile::id).collect::<Vec<_>>(), ["0002_a", "10_b"]);
        assert_eq!(files[0].order, FileOrder::BeforeGenerated);
        assert_eq!(files[1].statements.len(), 2);
    }

    #[test]
    fn misnamed_doubled_and_changed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "first.sql", "SELECT 1");
        assert!(read_files(dir.path()).is_err());
        fs_err::remove_file(dir.path().join("first.sql")).unwrap();
        file(dir.path(), "1_a.sql", "SELECT 1");
        file(dir.path(), "001_b.sql", "SELECT 1");
        assert!(matches!(read_files(dir.path()), Err(MigrateError::DuplicateVersion { .. })));
        fs_err::remove_file(dir.path().join("001_b.sql")).unwrap();
        let files = read_files(dir.path()).unwrap();
        let entry = LedgerEntry {
            id: "1_a".into(),
            kind: "file".into(),
            name: "a".into(),
            checksum: "other".into(),
            state: MigrationState::Applied,
            objects: Vec::new(),
            steps: 1,
            run_id: String::new(),
            started_at: String::new(),
            finished_at: String::new(),
            error: String::new(),
            plan: String::new(),
        };
        assert!(matches!(pending_files(&files, std::slice::from_ref(&entry)), Err(MigrateError::Changed { .. })));
        assert_eq!(pending_files(&files, &[]).unwrap().len(), 1);
    }
}
