//! What can go wrong between the API and Bronze.

use std::path::PathBuf;

use crate::{error::Location, lake::LakeError};

/// A failure of an extraction.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error("cannot read or write `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the endpoint definitions are not valid: {reason}")]
    Endpoints { path: PathBuf, line: Option<usize>, reason: String },
    #[error("{flag} `{value}` is not valid: {reason}")]
    Selector { flag: &'static str, value: String, reason: String },
    #[error("[source] {setting} is not valid: {reason}")]
    Setting { setting: &'static str, reason: String },
    #[error("cannot set up the HTTP client: {reason}")]
    Client { reason: String },
    #[error("GET {url} failed after {attempts} attempts in {seconds:.0} s: {reason}")]
    Request { url: String, attempts: u32, seconds: f64, reason: String },
    #[error("GET {url} was refused: {reason}")]
    Refused { url: String, status: u16, reason: String },
    #[error("{listing} did not keep still: its total or its rows changed in each of {attempts} reads ({reason})")]
    Unstable { listing: String, attempts: u32, reason: String },
    #[error("{failed} of {planned} listings could not be extracted; first {first_listing}")]
    Incomplete { failed: usize, planned: usize, first_listing: String, source: Box<ExtractError> },
    #[error("the backfill is not complete: {parts} lacks listings (see the warnings above)")]
    Backfill { parts: String },
    #[error("the page that came from {url} does not have the shape that endpoints.yml describes")]
    Page { url: String, source: crate::transform::PageError },
    #[error("the Bronze object `{key}` is not one that chpipe wrote: {reason}")]
    Bronze { key: String, reason: String },
    #[error("batch_id `{batch_id}` is newer than the clock by more than a day")]
    BatchFuture { batch_id: String },
    #[error("the rate limit file `{}` is not valid: {reason}", path.display())]
    RateState { path: PathBuf, reason: String },
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error("interrupted; Bronze has {stored} new pages, and the same command goes on from there")]
    Interrupted { stored: u64 },
}

impl ExtractError {
    /// Whether so much failed that trying the rest is of no use now.
    pub fn is_source_down(&self) -> bool {
        match self {
            Self::Incomplete { failed, source, .. } => {
                *failed >= super::MAX_FAILURES || matches!(**source, Self::Refused { status: 401 | 403, .. })
            }
            _ => false,
        }
    }

    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Endpoints { path, line: Some(line), .. } => Some(Location::line(path, *line, None)),
            Self::Endpoints { path, line: None, .. } => Some(Location::file(path)),
            Self::Incomplete { source, .. } => source.location(),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request { .. } | Self::Unstable { .. } | Self::Backfill { .. } => {
                Some("run the same command again: it goes on at the missing page".into())
            }
            Self::Incomplete { source, .. } => match **source {
                Self::Refused { .. } => source.hint(),
                _ => Some("run the same command again: it goes on at the missing pages".into()),
            },
            Self::Refused { status: 401 | 403, .. } => Some("check CHPIPE_SOURCE_TOKEN".into()),
            Self::Refused { .. } => Some("check [source] url in chpipe.toml (CHPIPE_SOURCE_URL)".into()),
            Self::RateState { path, .. } => Some(format!("wait an hour, then remove it: rm {}", path.display())),
            Self::Lake(error) => error.hint(),
            _ => None,
        }
    }
}
