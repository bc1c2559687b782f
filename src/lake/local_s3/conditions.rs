//! What a request makes an object's delivery depend on: `If-Match` and its relatives, by S3's precedence. Pure.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>

use s3s::{
    S3Result,
    dto::{ETag, ETagCondition, Timestamp},
    s3_error,
};

/// The four headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// Whether the object may be delivered. `modified` has whole seconds, as the headers have.
    pub(super) fn check(&self, etag: &ETag, modified: &Timestamp) -> S3Result<()> {
        if let Some(condition) = &self.if_match {
            if !matches(condition, etag) {
                return Err(s3_error!(PreconditionFailed));
            }
        } else if self.if_unmodified_since.as_ref().is_some_and(|since| modified > since) {
            return Err(s3_error!(PreconditionFailed));
        }
        if let Some(condition) = &self.if_none_match {
            if matches(condition, etag) {
                return Err(s3_error!(NotModified));
            }
        } else if self.if_modified_since.as_ref().is_some_and(|since| modified <= since) {
            return Err(s3_error!(NotModified));
        }
        Ok(())
    }
}

fn matches(condition: &ETagCondition, etag: &ETag) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.weak_cmp(etag),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn etags_win_over_times() {
        let etag = ETag::Strong("a".into());
        let same = Some(ETagCondition::ETag(etag.clone()));
        let other = Some(ETagCondition::ETag(ETag::Strong("b".into())));
        let cases = [
            (Conditions::default(), None),
            (Conditions { if_match: other.clone(), ..Default::default() }, Some("PreconditionFailed")),
            (Conditions { if_match: same.clone(), if_unmodified_since: Some(at(5)), ..Default::default() }, None),
            (Conditions { if_unmodified_since: Some(at(5)), ..Default::default() }, Some("PreconditionFailed")),
            (Conditions { if_unmodified_since: Some(at(10)), ..Default::default() }, None),
            (Conditions { if_none_match: same, ..Default::default() }, Some("NotModified")),
            (Conditions { if_none_match: other, if_modified_since: Some(at(10)), ..Default::default() }, None),
            (Conditions { if_modified_since: Some(at(10)), ..Default::default() }, Some("NotModified")),
            (Conditions { if_modified_since: Some(at(9)), ..Default::default() }, None),
        ];
        for (conditions, wanted) in cases {
            let code = conditions.check(&etag, &at(10)).err().map(|error| error.code().as_str().to_owned());
            assert_eq!(code.as_deref(), wanted, "{conditions:?}");
        }
    }
}
