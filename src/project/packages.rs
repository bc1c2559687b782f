//! `deps`: packages.yml or dependencies.yml to package-lock.yml to the install folder. In: a project; out: folders below
//! `packages-install-path`. Git repositories are read with the git program, archives unpacked with tar; the hub is asked over
//! HTTP. It parses no model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::{
    DBT_VERSION, PROJECT_FILE, Package, ProjectError, Yaml,
    semver::{self, Version},
};
use crate::{
    error::Location,
    render::{YamlContext, render_yaml},
};

/// The file with what was resolved.
const LOCK_FILE: &str = "package-lock.yml";

/// One entry of packages.yml.
#[derive(Debug, Clone, PartialEq)]
enum Spec {
    Local { path: String },
    Git { url: Address, revision: Option<String>, subdirectory: Option<String>, warn_unpinned: bool },
    Tarball { url: Address, name: String },
    Hub { package: String, versions: Vec<String>, prerelease: bool },
}

/// Where a package is: as it is asked, and as it was written, for the lock file. The first may hold a token.
#[derive(Debug, Clone, PartialEq)]
struct Address {
    rendered: String,
    written: String,
}

/// A package with one version.
#[derive(Debug, Clone, PartialEq)]
struct Pinned {
    spec: Spec,
    /// The project's name: its folder.
    name: String,
}

/// What `deps` is asked to do.
#[derive(Debug, Clone, Default)]
pub struct DepsOptions {
    /// Stop after the lock file.
    pub lock_only: bool,
    /// Resolve anew even where the lock file fits.
    pub upgrade: bool,
    /// Address of the package hub; none where no hub package is used.
    pub hub_url: Option<String>,
}

/// Installs packages, telling each step to `say`.
pub struct Deps<'a> {
    root: &'a Package,
    context: &'a YamlContext,
    options: DepsOptions,
    say: &'a dyn Fn(&str),
    downloads: tempfile::TempDir,
    hub: BTreeMap<String, Value>,
}

impl<'a> Deps<'a> {
    /// # Errors
    /// No temporary folder can be made.
    pub fn new(
        root: &'a Package,
        context: &'a YamlContext,
        options: DepsOptions,
        say: &'a dyn Fn(&str),
    ) -> Result<Self, ProjectError> {
        let downloads = tempfile::tempdir().map_err(|source| ProjectError::io(std::env::temp_dir(), source))?;
        Ok(Self { root, context, options, say, downloads, hub: BTreeMap::new() })
    }

    /// Resolves, writes the lock file where it does not fit, and installs.
    ///
    /// # Errors
    /// An entry that cannot be used, a package that cannot be fetched, versions that contradict each other. What was
    /// installed before stays until everything is resolved.
    pub fn run(mut self) -> Result<(), ProjectError> {
        let declared = self.declared(&self.root.root, true)?;
        let lock_path = self.root.root.join(LOCK_FILE);
        let hash = hash(&declared);
        let locked = if self.options.upgrade { None } else { self.locked(&lock_path, &hash)? };
        let pinned = match locked {
            Some(pinned) => pinned,
            None => {
                if declared.is_empty() {
                    (self.say)("Warning: No packages were found in packages.yml");
                    return Ok(());
                }
                let specs = declared.into_iter().map(|entry| entry.spec).collect();
                let pinned = self.resolve(specs)?;
                fs_err::write(&lock_path, lock_text(&pinned, &hash))
                    .map_err(|source| ProjectError::io(&lock_path, source))?;
                (self.say)(&format!("Updating lock file in file path: {}", lock_path.display()));
                pinned
            }
        };
        if self.options.lock_only {
            return Ok(());
        }
        self.install(&pinned)
    }

    /// The packages that a project folder asks for.
    fn declared(&self, folder: &Path, is_root: bool) -> Result<Vec<Entry>, ProjectError> {
        let read = |name: &str| -> Result<Option<(PathBuf, Yaml)>, ProjectError> {
            let path = folder.join(name);
            match fs_err::read_to_string(&path) {
                Ok(text) => Ok(Some((path.clone(), Yaml::parse(&text, &path)?))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ProjectError::io(path, source)),
            }
        };
        let packages = read("packages.yml")?;
        let dependencies = read("dependencies.yml")?;
        let has =
            |file: &Option<(PathBuf, Yaml)>| file.as_ref().is_some_and(|(_, tree)| tree.get("packages").is_some());
        if has(&packages) && has(&dependencies) {
            return Err(ProjectError::runtime(
                "The 'packages' key cannot be specified in both packages.yml and dependencies.yml",
            ));
        }
        // Jinja is rendered in packages.yml only (dbt's rule).
        let (file, jinja) = if has(&dependencies) { (dependencies, false) } else { (packages, true) };
        let Some((path, tree)) = file else { return Ok(Vec::new()) };
        if is_root && tree.get("projects").is_some() {
            return Err(ProjectError::NotSupported {
                feature: "dependencies on other projects (`projects:`)".into(),
                location: tree.key("projects").map(|key| key.location(&path, None)),
            });
        }
        let Some(items) = tree.get("packages").and_then(Yaml::as_list) else { return Ok(Vec::new()) };
        items
            .iter()
            .map(|item| {
                let written = item.to_json();
                let rendered = if jinja {
                    render_yaml(&written, self.context, &|_| false)
                        .map_err(|error| ProjectError::from(error).at(item.location(&path, None)))?
                        .0
                } else {
                    written.clone()
                };
                Entry::parse(rendered, written).map_err(|error| error.at(item.location(&path, None)))
            })
            .collect()
    }

    /// The lock file's packages, where it was made from the same packages.yml.
    fn locked(&self, path: &Path, hash: &str) -> Result<Option<Vec<Pinned>>, ProjectError> {
        let Ok(text) = fs_err::read_to_string(path) else { return Ok(None) };
        let tree = Yaml::parse(&text, path)?;
        if tree.get("sha1_hash").and_then(Yaml::as_str) != Some(hash) {
            return Ok(None);
        }
        let mut out = Vec::new();
        for item in tree.get("packages").and_then(Yaml::as_list).unwrap_or_default() {
            let value = item.to_json();
            let (rendered, _) = render_yaml(&value, self.context, &|_| false)?;
            // Lock files of older dbt have no names; resolving anew finds them.
            let Some(name) = value.get("name").and_then(Value::as_str).map(str::to_owned) else { return Ok(None) };
            let entry = Entry::parse(rendered, value).map_err(|error| error.at(item.location(path, None)))?;
            out.push(Pinned { spec: entry.spec, name });
        }
        Ok(Some(out))
    }

    /// All packages and theirs, one version each.
    fn resolve(&mut self, specs: Vec<Spec>) -> Result<Vec<Pinned>, ProjectError> {
        let mut wanted: IndexMap<String, Spec> = IndexMap::new();
        let mut pending = specs;
        let mut pinned: IndexMap<String, Pinned> = IndexMap::new();
        while !pending.is_empty() {
            let mut next = Vec::new();
            for spec in std::mem::take(&mut pending) {
                let key = spec.key();
                let merged = match wanted.get(&key) {
                    Some(known) => known.clone().incorporate(spec)?,
                    None => spec,
                };
                wanted.insert(key.clone(), merged.clone());
                let (package, more) = self.pin(merged)?;
                pinned.insert(key, package);
                next.extend(more);
            }
            // A package that is already there with the same wish needs no second look.
            next.retain(|spec| wanted.get(&spec.key()).is_none_or(|known| !known.covers(spec)));
            pending = next;
        }
        let pinned: Vec<Pinned> = pinned.into_values().collect();
        for (index, package) in pinned.iter().enumerate() {
            if package.name == self.root.name {
                return Err(ProjectError::dependency(format!(
                    "Found a dependency with the same name as the root project \"{}\". Package names must be unique in a project. Please rename one of these packages.",
                    package.name
                )));
            }
            if pinned[..index].iter().any(|other| other.name == package.name) {
                return Err(ProjectError::dependency(format!(
                    "Found duplicate project \"{}\". This occurs when a dependency has the same project name as some other dependency.",
                    package.name
                )));
            }
        }
        Ok(pinned)
    }

    /// Fixes the version of a package, and says what it needs itself.
    fn pin(&mut self, spec: Spec) -> Result<(Pinned, Vec<Spec>), ProjectError> {
        match spec {
            Spec::Hub { package, versions, prerelease } => self.pin_hub(package, versions, prerelease),
            Spec::Git { url, revision, subdirectory, warn_unpinned } => {
                let checkout = self.checkout(&url.rendered, revision.as_deref(), subdirectory.as_deref())?;
                let unpinned = matches!(revision.as_deref(), None | Some("HEAD" | "main" | "master"));
                if unpinned && warn_unpinned {
                    (self.say)(&format!(
                        "The git package \"{}\" is pinned to {}. This can introduce breaking changes into your project without warning",
                        url.written,
                        revision.as_deref().unwrap_or("HEAD")
                    ));
                }
                let sha = git(&checkout, &["rev-parse", "HEAD"])?.trim().to_owned();
                let folder = subdirectory.as_ref().map_or(checkout.clone(), |below| checkout.join(below));
                let name = project_name(&folder)?;
                let more = self.declared(&folder, false)?.into_iter().map(|entry| entry.spec).collect();
                let spec = Spec::Git { url, revision: Some(sha), subdirectory, warn_unpinned };
                Ok((Pinned { spec, name }, more))
            }
            Spec::Tarball { url, name } => {
                let folder = self.unpack(&url.rendered, &name)?;
                let more = self.declared(&folder, false)?.into_iter().map(|entry| entry.spec).collect();
                Ok((Pinned { spec: Spec::Tarball { url, name: name.clone() }, name }, more))
            }
            Spec::Local { path } => {
                let folder = self.root.root.join(&path);
                let name = project_name(&folder)?;
                let more = self.declared(&folder, false)?.into_iter().map(|entry| entry.spec).collect();
                Ok((Pinned { spec: Spec::Local { path }, name }, more))
            }
        }
    }

    fn pin_hub(
        &mut self,
        package: String,
        versions: Vec<String>,
        prerelease: bool,
    ) -> Result<(Pinned, Vec<Spec>), ProjectError> {
        let index = self.hub_package(&package)?;
        let known = index["versions"].as_object().cloned().unwrap_or_default();
        let allow = prerelease
            || versions.iter().any(|version| {
                Version::parse(version.trim_start_matches(['<', '>', '=']))
                    .is_some_and(|version| version.is_prerelease())
            });
        let mut fitting: Vec<(Version, &String)> = Vec::new();
        for (name, info) in &known {
            let Some(version) = Version::parse(name) else { continue };
            let required = match &info["require_dbt_version"] {
                Value::String(text) => vec![text.clone()],
                Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            let runs = required.iter().all(|wanted| semver::matches(DBT_VERSION, wanted).unwrap_or(true));
            let wanted = versions.iter().all(|wanted| semver::matches(name, wanted).unwrap_or(false));
            if runs && wanted && (allow || !version.is_prerelease()) {
                fitting.push((version, name));
            }
        }
        fitting.sort();
        let Some((_, chosen)) = fitting.last() else {
            let mut all: Vec<String> = known.keys().cloned().collect();
            all.sort_by_key(|name| Version::parse(name));
            all.retain(|name| allow || Version::parse(name).is_some_and(|version| !version.is_prerelease()));
            return Err(ProjectError::dependency(format!(
                "Could not find a matching compatible version for package {package}\n  Requested range: {}\n  Compatible versions: {}",
                versions.join(", "),
                super::package::python_repr(&json!(all))
            )));
        };
        let info = &known[*chosen];
        let name = info["name"].as_str().unwrap_or_else(|| package.rsplit('/').next().unwrap_or(&package)).to_owned();
        let mut more = Vec::new();
        for item in info["packages"].as_array().into_iter().flatten() {
            more.push(Entry::parse(item.clone(), item.clone())?.spec);
        }
        let spec = Spec::Hub { package, versions: vec![(*chosen).clone()], prerelease };
        Ok((Pinned { spec, name }, more))
    }

    /// What the hub knows of a package; asked once.
    fn hub_package(&mut self, package: &str) -> Result<Value, ProjectError> {
        if let Some(known) = self.hub.get(package) {
            return Ok(known.clone());
        }
        let Some(hub) = &self.options.hub_url else {
            return Err(ProjectError::dependency(format!(
                "{package} is a package of the hub, and no hub is configured"
            ))
            .hinting("set DBT_PACKAGE_HUB_URL to the hub's address, or take the package with `git:` and `revision:`"));
        };
        let url = format!("{}/api/v1/{package}.json", hub.trim_end_matches('/'));
        let Some(bytes) = download(&url)? else {
            return Err(ProjectError::dependency(format!("Package {package} was not found in the package index")));
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ProjectError::dependency(format!("the hub's answer for {package} is no JSON: {error}")))?;
        self.hub.insert(package.to_owned(), value.clone());
        Ok(value)
    }

    /// A shallow clone at a branch, tag or commit; made once an address and revision.
    fn checkout(&self, url: &str, revision: Option<&str>, subdirectory: Option<&str>) -> Result<PathBuf, ProjectError> {
        let revision = revision.unwrap_or("HEAD");
        let key = super::parse::md5(&format!("{url}/{}@{revision}", subdirectory.unwrap_or_default()));
        let folder = self.downloads.path().join(&key);
        if folder.exists() {
            return Ok(folder);
        }
        let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut arguments = vec!["clone", "--quiet", "--depth", "1"];
        if !is_commit && revision != "HEAD" {
            arguments.extend(["--branch", revision]);
        }
        arguments.extend(["--", url, &key]);
        let failed = |error: ProjectError| match error {
            ProjectError::Dependency { message, .. } => ProjectError::dependency(format!(
                "Error checking out spec='{revision}' for repo {}\n{message}",
                scrubbed(url)
            )),
            other => other,
        };
        git(self.downloads.path(), &arguments).map_err(failed)?;
        if is_commit {
            git(&folder, &["fetch", "--quiet", "--depth", "1", "origin", revision]).map_err(failed)?;
            git(&folder, &["reset", "--quiet", "--hard", revision]).map_err(failed)?;
        }
        Ok(folder)
    }

    /// Downloads an archive and unpacks the one folder in it.
    fn unpack(&self, url: &str, name: &str) -> Result<PathBuf, ProjectError> {
        let safe = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) && !name.starts_with('.');
        if !safe {
            return Err(ProjectError::dependency(format!(
                "Invalid package name '{name}': resolves outside of the temporary downloads directory"
            )));
        }
        let folder = self.downloads.path().join(format!("{name}_untarred"));
        if !folder.exists() {
            let bytes = match url.strip_prefix("file://") {
                Some(path) => fs_err::read(path).map_err(|source| ProjectError::io(path, source))?,
                None => download(url)?
                    .ok_or_else(|| ProjectError::dependency(format!("there is no archive at {}", scrubbed(url))))?,
            };
            let archive = self.downloads.path().join(format!("{name}.tar.gz"));
            fs_err::write(&archive, bytes).map_err(|source| ProjectError::io(&archive, source))?;
            fs_err::create_dir_all(&folder).map_err(|source| ProjectError::io(&folder, source))?;
            let mut command = Command::new("tar");
            command.arg("-xzf").arg(&archive).arg("-C").arg(&folder);
            run(command, "tar")?;
        }
        let mut inside: Vec<PathBuf> = fs_err::read_dir(&folder)
            .map_err(|source| ProjectError::io(&folder, source))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        match (inside.pop(), inside.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(ProjectError::dependency(format!(
                "Incorrect structure for package extracted from {}.The extracted package needs to follow the structure {name}/<package_contents>.",
                scrubbed(url)
            ))),
        }
    }

    fn install(&mut self, pinned: &[Pinned]) -> Result<(), ProjectError> {
        let folder = self.root.root.join(&self.root.packages_install_path);
        if folder.exists() {
            fs_err::remove_dir_all(&folder).map_err(|source| ProjectError::io(&folder, source))?;
        }
        fs_err::create_dir_all(&folder).map_err(|source| ProjectError::io(&folder, source))?;
        for package in pinned {
            let to = folder.join(&package.name);
            let shown = match &package.spec {
                Spec::Hub { package, .. } => package.clone(),
                Spec::Git { url, .. } => scrubbed(&url.written),
                Spec::Tarball { name, .. } => name.clone(),
                Spec::Local { path } => path.clone(),
            };
            (self.say)(&format!("Installing {shown}"));
            match &package.spec {
                Spec::Local { path } => {
                    let from = self.root.root.join(path);
                    let from = fs_err::canonicalize(&from).map_err(|source| ProjectError::io(&from, source))?;
                    // A link, so that changes in the package count at once; a copy where links are not possible.
                    if std::os::unix::fs::symlink(&from, &to).is_err() {
                        copy(&from, &to)?;
                    }
                    (self.say)(&format!("Installed from <local @ {path}>"));
                }
                Spec::Git { url, revision, subdirectory, .. } => {
                    let checkout = self.checkout(&url.rendered, revision.as_deref(), subdirectory.as_deref())?;
                    let from = subdirectory.as_ref().map_or(checkout.clone(), |below| checkout.join(below));
                    copy(&from, &to)?;
                    let below =
                        subdirectory.as_ref().map(|below| format!(", subdirectory {below}")).unwrap_or_default();
                    (self.say)(&format!("Installed from revision {}{below}", revision.as_deref().unwrap_or("HEAD")));
                }
                Spec::Tarball { url, name } => {
                    copy(&self.unpack(&url.rendered, name)?, &to)?;
                    (self.say)(&format!("Installed from tarball (url: {})", scrubbed(&url.written)));
                }
                Spec::Hub { package: id, versions, .. } => {
                    let version = versions.first().cloned().unwrap_or_default();
                    let info = self.hub_package(id)?;
                    let Some(url) = info["versions"][&version]["downloads"]["tarball"].as_str() else {
                        return Err(ProjectError::dependency(format!("the hub has no archive of {id} {version}")));
                    };
                    copy(&self.unpack(url, &package.name)?, &to)?;
                    (self.say)(&format!("Installed from version {version}"));
                }
            }
        }
        Ok(())
    }
}

/// An entry of packages.yml, and what its hash is made of.
struct Entry {
    spec: Spec,
    hashed: Value,
}

impl Entry {
    fn parse(value: Value, written: Value) -> Result<Self, ProjectError> {
        let invalid = |reason: String| {
            ProjectError::runtime(format!(
                "The packages.yml file in this project is malformed. Please double check\nthe contents of this file and fix any errors before retrying.\n\nValidator Error:\n{reason}"
            ))
        };
        let Value::Object(map) = &value else { return Err(invalid("a package is a mapping".into())) };
        let text = |key: &str| map.get(key).filter(|value| !value.is_null()).map(super::package::python_str);
        let known: &[&str] = match () {
            () if map.contains_key("package") => {
                &["package", "version", "install-prerelease", "install_prerelease", "name"]
            }
            () if map.contains_key("git") => {
                &["git", "revision", "warn-unpinned", "warn_unpinned", "subdirectory", "name"]
            }
            () if map.contains_key("tarball") => &["tarball", "name"],
            () if map.contains_key("local") => &["local", "name"],
            () if map.contains_key("private") => {
                return Err(ProjectError::dependency(format!(
                    "Cannot resolve private package {} because git provider integration is missing. Please use a \"git\" package instead.",
                    text("private").unwrap_or_default()
                )));
            }
            () => return Err(invalid("a package has one of the keys package, git, tarball, local".into())),
        };
        if let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(invalid(format!("Additional properties are not allowed ('{unknown}' was unexpected)")));
        }
        let mut hashed = Map::new();
        let address = |key: &str, rendered: String| Address {
            written: written[key].as_str().map_or_else(|| rendered.clone(), str::to_owned),
            rendered,
        };
        let spec = if let Some(package) = text("package") {
            if !package.contains('/') {
                return Err(invalid(format!(
                    "{package} was not found in the package index. Packages on the index require a namespace, e.g dbt-labs/dbt_utils"
                )));
            }
            let versions = match map.get("version") {
                Some(Value::Array(items)) => items.iter().map(super::package::python_str).collect(),
                Some(Value::Null) | None => {
                    return Err(invalid(format!(
                        "{package} is missing the version. When installing from the Hub package index, version is a required property"
                    )));
                }
                Some(other) => {
                    super::package::python_str(other).split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()
                }
            };
            let prerelease = map.get("install-prerelease").or(map.get("install_prerelease")).cloned();
            let prerelease = prerelease.unwrap_or(Value::Bool(false));
            hashed.insert("package".into(), json!(package));
            hashed.insert("version".into(), map.get("version").cloned().unwrap_or_default());
            hashed.insert("install_prerelease".into(), prerelease.clone());
            Spec::Hub { package, versions, prerelease: prerelease.as_bool().unwrap_or(false) }
        } else if let Some(url) = text("git") {
            let warn = map.get("warn-unpinned").or(map.get("warn_unpinned")).cloned().unwrap_or(Value::Null);
            hashed.insert("git".into(), json!(url));
            hashed.insert("revision".into(), map.get("revision").cloned().unwrap_or_default());
            hashed.insert("warn-unpinned".into(), warn.clone());
            hashed.insert("subdirectory".into(), map.get("subdirectory").cloned().unwrap_or_default());
            Spec::Git {
                url: address("git", url),
                revision: text("revision"),
                subdirectory: text("subdirectory"),
                warn_unpinned: warn.as_bool().unwrap_or(true),
            }
        } else if let Some(url) = text("tarball") {
            let Some(name) = text("name") else {
                return Err(invalid("'name' is a required property of a tarball package".into()));
            };
            hashed.insert("tarball".into(), json!(url));
            Spec::Tarball { url: address("tarball", url), name }
        } else {
            let path = text("local").unwrap_or_default();
            if path.is_empty() {
                return Err(invalid("A local package is missing the value. It is a required property.".into()));
            }
            hashed.insert("local".into(), json!(path));
            Spec::Local { path }
        };
        if let Some(name) = text("name") {
            hashed.insert("name".into(), json!(name));
        }
        hashed.insert("unrendered".into(), written);
        Ok(Self { spec, hashed: Value::Object(hashed) })
    }
}

impl Spec {
    fn key(&self) -> String {
        match self {
            Self::Local { path } => format!("local:{path}"),
            Self::Git { url, subdirectory, .. } => {
                format!("git:{}/{}", url.rendered.trim_end_matches(".git"), subdirectory.as_deref().unwrap_or_default())
            }
            Self::Tarball { url, .. } => format!("tarball:{}", url.rendered),
            Self::Hub { package, .. } => format!("hub:{package}"),
        }
    }

    /// Both wishes at once.
    fn incorporate(self, other: Self) -> Result<Self, ProjectError> {
        match (self, other) {
            (Self::Hub { package, mut versions, prerelease }, Self::Hub { versions: more, prerelease: also, .. }) => {
                versions.extend(more.into_iter().filter(|version| !versions.contains(version)).collect::<Vec<_>>());
                Ok(Self::Hub { package, versions, prerelease: prerelease || also })
            }
            (Self::Git { url, revision, subdirectory, warn_unpinned }, Self::Git { revision: other, .. }) => {
                match (revision, other) {
                    (Some(one), Some(two)) if one != two => Err(ProjectError::dependency(format!(
                        "git dependencies should contain exactly one version. {} contains: ['{one}', '{two}']",
                        scrubbed(&url.written)
                    ))),
                    (one, two) => Ok(Self::Git { url, revision: one.or(two), subdirectory, warn_unpinned }),
                }
            }
            (own, _) => Ok(own),
        }
    }

    /// Whether another wish adds nothing to this one.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hub { versions, .. }, Self::Hub { versions: more, .. }) => {
                more.iter().all(|version| versions.contains(version))
            }
            (Self::Git { revision, .. }, Self::Git { revision: other, .. }) => other.is_none() || revision == other,
            _ => true,
        }
    }
}

/// dbt's hash of packages.yml: sha1 over the entries as Python prints them in JSON, sorted.
fn hash(entries: &[Entry]) -> String {
    fn dump(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                let parts: Vec<String> =
                    keys.into_iter().map(|key| format!("{}: {}", json!(key), dump(&map[key]))).collect();
                format!("{{{}}}", parts.join(", "))
            }
            Value::Array(items) => format!("[{}]", items.iter().map(dump).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }
    let mut texts: Vec<String> = entries.iter().map(|entry| dump(&entry.hashed)).collect();
    texts.sort();
    Sha1::digest(texts.join("\n").as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// package-lock.yml as dbt writes it.
fn lock_text(pinned: &[Pinned], hash: &str) -> String {
    let mut out = String::from("packages:\n");
    let quoted = |text: &str| {
        // What YAML would read as a number or more stays a text.
        let plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '+'))
            && text.parse::<f64>().is_err()
            && !text.ends_with(':');
        if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
    };
    for package in pinned {
        let mut lines: Vec<(&str, String)> = match &package.spec {
            Spec::Local { path } => vec![("local", path.clone())],
            Spec::Git { url, revision, subdirectory, .. } => {
                let mut lines = vec![("git", url.written.clone()), ("revision", revision.clone().unwrap_or_default())];
                lines.extend(subdirectory.clone().map(|below| ("subdirectory", below)));
                lines
            }
            Spec::Tarball { url, .. } => vec![("tarball", url.written.clone())],
            Spec::Hub { package, versions, .. } => {
                vec![("package", package.clone()), ("version", versions.first().cloned().unwrap_or_default())]
            }
        };
        lines.push(("name", package.name.clone()));
        // dbt sorts the keys of an entry.
        lines.sort_unstable();
        for (index, (key, value)) in lines.into_iter().enumerate() {
            out.push_str(&format!("{} {key}: {}\n", if index == 0 { "  -" } else { "   " }, quoted(&value)));
        }
    }
    out.push_str(&format!("sha1_hash: {}\n", quoted(hash)));
    out
}

/// The name in a folder's dbt_project.yml.
fn project_name(folder: &Path) -> Result<String, ProjectError> {
    let path = folder.join(PROJECT_FILE);
    let text = fs_err::read_to_string(&path).map_err(|_| {
        ProjectError::dependency(format!(
            "No dbt_project.yml found at expected path {}\nVerify that each entry within packages.yml (and their transitive dependencies) contains a file named dbt_project.yml",
            path.display()
        ))
    })?;
    let tree = Yaml::parse(&text, &path)?;
    tree.get("name").and_then(Yaml::as_str).map(str::to_owned).ok_or_else(|| {
        ProjectError::runtime("Package defined in dbt_project.yml must have a name!").at(Location::file(&path))
    })
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, ProjectError> {
    let mut command = Command::new("git");
    // No prompt: a repository that wants a password fails instead of waiting.
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
    run(command, "git")
}

fn run(mut command: Command, program: &str) -> Result<String, ProjectError> {
    let output = command.output().map_err(|error| {
        ProjectError::dependency(format!("the program `{program}` cannot be run: {error}"))
            .hinting(format!("install {program} and make sure that it is on the PATH"))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(ProjectError::dependency(scrubbed(String::from_utf8_lossy(&output.stderr).trim())))
}

/// An address without user and password.
fn scrubbed(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(['/', ' ', '\n', '\'']).unwrap_or(after.len());
        let host = after[..end].rsplit('@').next().unwrap_or_default();
        if host.len() < end {
            out.push_str("*****@");
        }
        out.push_str(host);
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// A file over HTTP, with a few retries; nothing where the server has none.
fn download(url: &str) -> Result<Option<Vec<u8>>, ProjectError> {
    let failed = |reason: String| {
        ProjectError::dependency(format!("External connection exception occurred: GET {}: {reason}", scrubbed(url)))
    };
    // Whoever comes first installs the provider for the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .user_agent(concat!("chpipe/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let mut last = String::new();
        for attempt in 0..4_u32 {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
            }
            match client.get(url).send().await {
                Ok(response) if response.status().is_success() => match response.bytes().await {
                    Ok(bytes) => return Ok(Some(bytes.to_vec())),
                    Err(error) => last = error.without_url().to_string(),
                },
                Ok(response) if response.status() == reqwest::StatusCode::NOT_FOUND => return Ok(None),
                Ok(response) => {
                    last = response.status().to_string();
                    if response.status().is_client_error() {
                        break;
                    }
                }
                Err(error) => last = error.without_url().to_string(),
            }
        }
        Err(failed(last))
    })
}

/// A folder with everything in it, git's own folder left out.
fn copy(from: &Path, to: &Path) -> Result<(), ProjectError> {
    for entry in walkdir::WalkDir::new(from).into_iter().filter_entry(|entry| entry.file_name() != ".git") {
        let entry = entry.map_err(|error| ProjectError::io(from, error.into()))?;
        let Ok(relative) = entry.path().strip_prefix(from) else { continue };
        let target = to.join(relative);
        let done = if entry.file_type().is_dir() {
            fs_err::create_dir_all(&target)
        } else {
            fs_err::copy(entry.path(), &target).map(|_| ())
        };
        done.map_err(|source| ProjectError::io(&target, source))?;
    }
    Ok(())
}

/// The context of packages.yml: environment and `--vars`, secrets allowed.
pub fn deps_context(
    environment: Arc<std::collections::HashMap<String, String>>,
    vars: Map<String, Value>,
) -> YamlContext {
    YamlContext {
        environment_variables: environment,
        vars: Arc::new(vars),
        require_vars: true,
        allow_secrets: true,
        dbt_version: DBT_VERSION.into(),
        ..YamlContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash decides whether a lock file of dbt's is believed.
    #[test]
    fn hash_is_dbts() {
        let value = json!({"local": "pkg"});
        let entry = Entry::parse(value.clone(), value).expect("valid");
        assert_eq!(hash(&[entry]), "628e7d27f00ec4f5351fa728e7a88ce3ea954989");
    }

    #[test]
    fn addresses_lose_their_credentials() {
        assert_eq!(scrubbed("https://user:secret@host/x.git"), "https://*****@host/x.git");
        assert_eq!(scrubbed("fatal: 'https://t@h/x' and https://h/y"), "fatal: 'https://*****@h/x' and https://h/y");
        assert_eq!(scrubbed("git@host:x"), "git@host:x");
    }

    #[test]
    fn versions_of_one_package_add_up() {
        let spec =
            |version: &str| Spec::Hub { package: "a/b".into(), versions: vec![version.into()], prerelease: false };
        let both = spec(">=1.0.0").incorporate(spec("<2.0.0")).expect("compatible");
        assert_eq!(
            both,
            Spec::Hub { package: "a/b".into(), versions: vec![">=1.0.0".into(), "<2.0.0".into()], prerelease: false }
        );
        assert!(both.covers(&spec("<2.0.0")));
    }
}
