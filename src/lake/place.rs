//! A bucket beside Bronze and Silver, for datasets that others write. In: what a spec says of it, and `[lake]` for the
//! rest; out: the bucket for chpipe and the access for ClickHouse. Credentials are those of `[lake]` for its own endpoint
//! alone; any other endpoint gets what the AWS chain finds.

use std::sync::Arc;

use crate::config::LakeSettings;

use super::{Bucket, BucketAccess, Directory, LakeError, LocalS3, S3Client, S3Options};

/// Where a bucket is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BucketPlace {
    pub bucket: String,
    /// `http://minio:9000`; the lake's where not given, and AWS where the lake is a directory.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Unsigned requests: a public bucket.
    pub no_sign_request: bool,
}

impl BucketPlace {
    /// The bucket as chpipe reads it.
    ///
    /// # Errors
    /// Only half of the lake's credentials is given.
    pub async fn open(&self, lake: &LakeSettings) -> Result<Arc<dyn Bucket>, LakeError> {
        if self.is_folder(lake) {
            return Ok(Arc::new(Directory::open(&lake.path, &self.bucket)?));
        }
        let client = S3Client::connect(&S3Options::from_settings(&self.settings(lake))?).await;
        Ok(Arc::new(client.bucket(&self.bucket)))
    }

    /// How ClickHouse reads it; `server` is what serves a directory lake.
    pub fn access(&self, lake: &LakeSettings, server: Option<&LocalS3>) -> BucketAccess {
        match server {
            Some(server) if self.is_folder(lake) => server.access(&self.bucket),
            _ => BucketAccess::of_settings(&self.settings(lake), &self.bucket),
        }
    }

    /// Whether it is a folder of a directory lake, beside those of Bronze and Silver.
    fn is_folder(&self, lake: &LakeSettings) -> bool {
        let elsewhere = self.endpoint.is_some() || self.region.is_some() || self.no_sign_request;
        !lake.is_s3() && !elsewhere && lake.path.join(&self.bucket).is_dir()
    }

    fn settings(&self, lake: &LakeSettings) -> LakeSettings {
        let same = |endpoint: &String| {
            let known = lake.endpoint.as_ref().map(|known| known.trim_end_matches('/'));
            known == Some(endpoint.trim_end_matches('/'))
        };
        let mut settings = if lake.is_s3() && self.endpoint.as_ref().is_none_or(same) {
            lake.clone()
        } else {
            LakeSettings { endpoint: self.endpoint.clone(), ..LakeSettings::default() }
        };
        if let Some(region) = &self.region {
            settings.region.clone_from(region);
        }
        if self.no_sign_request {
            settings.no_sign_request = true;
            (settings.access_key_id, settings.secret_access_key) = (None, None);
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_lakes_credentials_go_to_its_own_endpoint_alone() {
        let lake = LakeSettings {
            endpoint: Some("http://minio:9000".into()),
            access_key_id: Some("id".into()),
            secret_access_key: Some(Secret::new("secret")),
            ..LakeSettings::default()
        };
        let place = |endpoint: Option<&str>, no_sign_request| BucketPlace {
            bucket: "b".into(),
            endpoint: endpoint.map(Into::into),
            region: None,
            no_sign_request,
        };
        for (place, url, signed) in [
            (place(None, false), "http://minio:9000/b/", true),
            (place(Some("http://minio:9000/"), false), "http://minio:9000/b/", true),
            (place(None, true), "http://minio:9000/b/", false),
            (place(Some("http://other:9000"), false), "http://other:9000/b/", false),
        ] {
            let access = place.access(&lake, None);
            assert_eq!((access.url.as_str(), access.access_key_id.is_some()), (url, signed), "{place:?}");
        }
        let aws = BucketPlace { region: Some("eu-west-1".into()), ..place(None, true) };
        let access = aws.access(&LakeSettings::default(), None);
        assert_eq!(access.url, "https://b.s3.eu-west-1.amazonaws.com/");
        assert!(access.no_sign_request && !access.use_environment_credentials());
        // With the chain's credentials, by the bucket's own host name; another region is another host.
        let aws = BucketPlace { region: Some("us-west-2".into()), ..place(None, false) };
        let access = aws.access(&LakeSettings::default(), None);
        assert_eq!(access.url, "https://b.s3.us-west-2.amazonaws.com/");
        assert!(access.use_environment_credentials() && access.access_key_id.is_none());
    }
}
