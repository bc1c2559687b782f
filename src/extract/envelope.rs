//! The envelope of a Bronze object: the body as received, and where it came from. In: a body and its [`Metadata`]; out:
//! bytes, and back. It never changes a byte of the body.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of this format.
pub(super) const FILE_VERSION: &str = "1.0";

/// Where a page came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata<'a> {
    /// UTC, RFC 3339.
    #[serde(borrow)]
    pub ingestion_timestamp: Cow<'a, str>,
    #[serde(borrow)]
    pub batch_id: Cow<'a, str>,
    #[serde(borrow)]
    pub endpoint: Cow<'a, str>,
    pub season: Option<u16>,
    pub round: Option<u8>,
    /// From 1.
    pub page: u32,
    /// Pages of the batch; it is complete when all of them are there.
    pub total_pages: u32,
    #[serde(borrow)]
    pub source_url: Cow<'a, str>,
    /// `MRData.total` of this page.
    pub api_response_total: u32,
    #[serde(borrow)]
    pub file_version: Cow<'a, str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    metadata: &'a Metadata<'a>,
    data: &'a RawValue,
}

/// The Bronze object of a body, which must be one JSON value.
///
/// # Errors
/// The body is not JSON.
pub fn wrap(metadata: &Metadata<'_>, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let data: &RawValue = serde_json::from_slice(body)?;
    serde_json::to_vec(&Envelope { metadata, data })
}

impl<'a> Metadata<'a> {
    /// Reads the `metadata` member's own text.
    ///
    /// # Errors
    /// It is not JSON, or a field is missing.
    pub fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_kept_byte_for_byte() {
        let metadata = Metadata {
            ingestion_timestamp: "2024-12-16T12:00:00Z".into(),
            batch_id: "20241216T120000".into(),
            endpoint: "results".into(),
            season: Some(2024),
            round: None,
            page: 1,
            total_pages: 3,
            source_url: "https://example.com/2024/5/results.json?limit=30&offset=0".into(),
            api_response_total: 90,
            file_version: FILE_VERSION.into(),
        };
        let body = "{\"MRData\" : {\"total\": \"90\", \"n\": 1.50, \"é\\u00e9\": [ ] }}";
        let object = String::from_utf8(wrap(&metadata, body.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            object,
            format!(
                "{{\"metadata\":{{\"ingestion_timestamp\":\"2024-12-16T12:00:00Z\",\"batch_id\":\"20241216T120000\",\
                 \"endpoint\":\"results\",\"season\":2024,\"round\":null,\"page\":1,\"total_pages\":3,\
                 \"source_url\":\"https://example.com/2024/5/results.json?limit=30&offset=0\",\
                 \"api_response_total\":90,\"file_version\":\"1.0\"}},\"data\":{body}}}"
            )
        );
        assert!(wrap(&metadata, b"{\"MRData\":").is_err());
    }
}
