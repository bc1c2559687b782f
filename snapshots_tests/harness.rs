//! A throw-away project folder, the binary run in it, and the one way to skip a test.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// What one run of the binary said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
}

impl Outcome {
    /// The same, after checking that it ended well.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Everything a reader of a terminal sees, with the exit code, as one golden text.
    pub(crate) fn transcript(&self) -> String {
        format!("exit code: {}\n--- stdout\n{}--- stderr\n{}", self.code.unwrap_or(-1), self.stdout, self.stderr)
    }
}

/// A project folder of its own for one test; kept, and named, when the test panics.
pub(crate) struct Project {
    dir: Option<tempfile::TempDir>,
    environment: Vec<(String, String)>,
}

impl Project {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("chpipe-test-").tempdir().unwrap();
        Self { dir: Some(dir), environment: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// Writes a file below the folder.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Writes or replaces a file below the folder.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// A variable for every later run.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The binary, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chpipe"));
        command.current_dir(self.path());
        for (name, _) in std::env::vars() {
            // A developer's own settings must not reach a test; the library's place must.
            if (name.starts_with("CHPIPE_") && name != "CHPIPE_LIBCHDB" && name != "CHPIPE_CACHE_DIR")
                || name.starts_with("DBT_")
            {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        let output = self.command().args(arguments).output().unwrap();
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.path().display().to_string(), "[PROJECT]");
        Outcome { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code() }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the project is kept in {}", dir.keep().display());
        }
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Skips a test by name because this machine lacks something; `make test` counts these, and with CI=true it is a failure.
#[allow(dead_code, reason = "called where a service may be missing")]
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}");
    eprintln!("{line}");
    if let Ok(path) = std::env::var("CHPIPE_TEST_SKIPS") {
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{line}");
}
