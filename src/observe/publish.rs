//! Sends metrics where `[metrics]` of chpipe.toml says: a file for node_exporter, a Pushgateway, an OTLP receiver. In: a
//! registry; out: a file or a request. It never retries: the next run sends the whole state again.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::Registry;
use crate::{config::MetricsSettings, file::write_whole};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why metrics did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot write the metrics to `{}`", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot send the metrics to `{url}`: {reason}")]
    Send { url: String, reason: String },
}

impl PublishError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some("check `[metrics]` in chpipe.toml; `chpipe metrics` prints what would be sent".to_owned())
    }
}

/// Which of the metrics a registry has. Each part has a place of its own, as sending one replaces what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What extract and transform did.
    Lake,
    Warehouse,
}

/// Sends a part of the metrics to every place that is set. Not to be called on a thread of a runtime.
///
/// # Errors
/// The first place that cannot be reached or refuses.
pub fn publish(
    registry: &Registry,
    part: Part,
    settings: &MetricsSettings,
    started_at: DateTime<Utc>,
) -> Result<(), PublishError> {
    if let Some(path) = &settings.textfile {
        let path = match part {
            Part::Warehouse => path.clone(),
            Part::Lake => beside(path),
        };
        write_file(registry, &path).map_err(|source| PublishError::File { path, source })?;
    }
    if let Some(base) = &settings.pushgateway {
        let group = match part {
            Part::Warehouse => "",
            Part::Lake => "/part/lake",
        };
        let url = format!("{}/metrics/job/chpipe{group}", base.trim_end_matches('/'));
        let client = client(&url)?;
        // PUT replaces all that this group had before.
        let request = client.put(&url).header("content-type", "text/plain; version=0.0.4").body(registry.prometheus());
        send(request, &url)?;
    }
    if let Some(url) = &settings.otlp {
        let body = registry.otlp(started_at, Utc::now()).to_string();
        let request = client(url)?.post(url).header("content-type", "application/json").body(body);
        send(request, url)?;
    }
    Ok(())
}

/// `chpipe_lake.prom` beside `chpipe.prom`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("_lake");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// node_exporter reads the file at any time, so it appears whole.
fn write_file(registry: &Registry, path: &Path) -> std::io::Result<()> {
    write_whole(path, registry.prometheus())
}

fn client(url: &str) -> Result<reqwest::Client, PublishError> {
    let failed = |error: reqwest::Error| PublishError::Send { url: url.to_owned(), reason: error.to_string() };
    // Whoever was first has chosen it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(TIMEOUT).build().map_err(failed)
}

fn send(request: reqwest::RequestBuilder, url: &str) -> Result<(), PublishError> {
    let failed = |reason: String| PublishError::Send { url: url.to_owned(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let response = request.send().await.map_err(|error| failed(chain(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = response.text().await.unwrap_or_default();
        Err(failed(format!("{status} {}", text.lines().next().unwrap_or_default())))
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
