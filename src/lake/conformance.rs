//! What every [`Bucket`] must do, run against each of them. Tests only.

use std::sync::Arc;

use bytes::Bytes;

use super::{Bucket, Directory, LakeError, LocalS3, LocalS3Options, ObjectMeta, PutMode, S3Client, S3Options};

const ODD_KEYS: [&str; 7] =
    ["a b/c+d", "e=f&g?h/ü ñ", "per%cent/%2F", "quote\"'/<x>&amp;", "semi;colon,comma", "#hash/~tilde", "star*[x]"];

/// All groups, on an empty bucket.
pub(super) async fn check(bucket: Arc<dyn Bucket>) {
    objects_are_whole_and_known(&*bucket).await;
    creating_is_exclusive(&bucket).await;
    listings_are_in_key_order(&*bucket).await;
    folders_are_common_prefixes(&*bucket).await;
    ranges_are_clamped(&*bucket).await;
    odd_keys_survive(&*bucket).await;
    many_keys_are_listed(&bucket).await;
}

async fn put(bucket: &dyn Bucket, key: &str, text: &str) -> ObjectMeta {
    bucket.put(key, Bytes::from(text.to_owned()), PutMode::Overwrite).await.unwrap()
}

async fn keys(bucket: &dyn Bucket, prefix: &str, start_after: Option<&str>) -> Vec<String> {
    bucket.list(prefix, start_after).await.unwrap().into_iter().map(|object| object.key).collect()
}

async fn objects_are_whole_and_known(bucket: &dyn Bucket) {
    let key = "ergast/endpoint=results/season=2024/batch_id=20241216T120000/data.json";
    assert!(matches!(bucket.get(key).await, Err(LakeError::NotFound { .. })));
    assert_eq!(bucket.head(key).await.unwrap(), None);
    let written = put(bucket, key, "hello").await;
    assert_eq!((written.size, written.etag.as_str()), (5, "5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(bucket.get(key).await.unwrap(), "hello");
    let head = bucket.head(key).await.unwrap().unwrap();
    assert_eq!((head.key.as_str(), head.size, &head.etag), (key, 5, &written.etag));
    let listed = bucket.list("ergast/", None).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].key, listed[0].size, &listed[0].etag), (&head.key, head.size, &head.etag));
    // HEAD's time has whole seconds on S3.
    assert_eq!(listed[0].last_modified.timestamp(), head.last_modified.timestamp());

    let again = put(bucket, key, "world!").await;
    assert_ne!(again.etag, written.etag);
    assert_eq!(bucket.head(key).await.unwrap().unwrap().etag, again.etag);
    assert_eq!(bucket.get(key).await.unwrap(), "world!");

    put(bucket, "ergast/empty", "").await;
    assert_eq!(bucket.get("ergast/empty").await.unwrap(), "");

    let large = Bytes::from(vec![7u8; 3 * 1024 * 1024]);
    bucket.put("large", large.clone(), PutMode::Create).await.unwrap();
    assert_eq!(bucket.get("large").await.unwrap(), large);

    for key in [key, "ergast/empty", "large", "was/never/there"] {
        bucket.delete(key).await.unwrap();
        assert_eq!(bucket.head(key).await.unwrap(), None);
    }
    assert!(bucket.list("", None).await.unwrap().is_empty());
    assert!(bucket.list_folders("").await.unwrap().is_empty());
}

async fn creating_is_exclusive(bucket: &Arc<dyn Bucket>) {
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..16 {
        let bucket = Arc::clone(bucket);
        writers.spawn(async move {
            let body = Bytes::from(index.to_string());
            (index, bucket.put("once/data.json", body, PutMode::Create).await)
        });
    }
    let mut winners = Vec::new();
    while let Some(writer) = writers.join_next().await {
        match writer.unwrap() {
            (index, Ok(_)) => winners.push(index),
            (_, Err(LakeError::Exists { .. })) => {}
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(bucket.get("once/data.json").await.unwrap(), winners[0].to_string());
    bucket.delete("once/data.json").await.unwrap();
}

async fn listings_are_in_key_order(bucket: &dyn Bucket) {
    // `-` and `.` sort before `/`, `0` after it.
    let all = ["a-b/x", "a.txt", "a/b/c", "a/b.c", "a/bc", "a0", "b/1", "b/2", "c"];
    for key in all {
        put(bucket, key, key).await;
    }
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    assert_eq!(keys(bucket, "", None).await, sorted);
    for prefix in ["", "a", "a/", "a/b", "a/b/", "b/", "z", "a/b/c", "a//", "c/"] {
        for start in [None, Some("a"), Some("a/"), Some("a/b"), Some("a/b/c"), Some("a/bc"), Some("b/1"), Some("zz")] {
            let wanted: Vec<_> = sorted
                .iter()
                .filter(|key| key.starts_with(prefix) && start.is_none_or(|start| **key > start))
                .map(|key| (*key).to_owned())
                .collect();
            assert_eq!(keys(bucket, prefix, start).await, wanted, "prefix {prefix:?} start {start:?}");
        }
    }
    for key in all {
        bucket.delete(key).await.unwrap();
    }
}

async fn folders_are_common_prefixes(bucket: &dyn Bucket) {
    for key in ["e/season=2023/round=01/x", "e/season=2023/round=02/x", "e/season=2024/x", "e/file", "f/x"] {
        put(bucket, key, "x").await;
    }
    assert_eq!(bucket.list_folders("").await.unwrap(), ["e/", "f/"]);
    assert_eq!(bucket.list_folders("e/").await.unwrap(), ["e/season=2023/", "e/season=2024/"]);
    assert_eq!(bucket.list_folders("e/season=").await.unwrap(), ["e/season=2023/", "e/season=2024/"]);
    assert_eq!(bucket.list_folders("e/season=2023").await.unwrap(), ["e/season=2023/"]);
    assert_eq!(bucket.list_folders("e/season=2023/").await.unwrap().len(), 2);
    assert!(bucket.list_folders("nothing/").await.unwrap().is_empty());
    for key in keys(bucket, "", None).await {
        bucket.delete(&key).await.unwrap();
    }
}

async fn ranges_are_clamped(bucket: &dyn Bucket) {
    put(bucket, "range", "0123456789").await;
    assert_eq!(bucket.get_range("range", 0..4).await.unwrap(), "0123");
    assert_eq!(bucket.get_range("range", 8..10).await.unwrap(), "89");
    assert_eq!(bucket.get_range("range", 8..100).await.unwrap(), "89");
    assert!(bucket.get_range("range", 10..12).await.is_err());
    assert!(bucket.get_range("range", 5..5).await.is_err());
    assert!(matches!(bucket.get_range("none", 0..1).await, Err(LakeError::NotFound { .. })));
    bucket.delete("range").await.unwrap();
}

async fn odd_keys_survive(bucket: &dyn Bucket) {
    for key in ODD_KEYS {
        put(bucket, key, key).await;
    }
    let mut sorted = ODD_KEYS.map(str::to_owned).to_vec();
    sorted.sort_unstable();
    assert_eq!(keys(bucket, "", None).await, sorted);
    for key in ODD_KEYS {
        assert_eq!(bucket.get(key).await.unwrap(), key);
        assert_eq!(keys(bucket, key, None).await, [key]);
        bucket.delete(key).await.unwrap();
    }
}

async fn many_keys_are_listed(bucket: &Arc<dyn Bucket>) {
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..2500 {
        let bucket = Arc::clone(bucket);
        let key = format!("many/season={}/file_{index:05}", 1950 + index % 7);
        writers.spawn(async move { bucket.put(&key, Bytes::from_static(b"x"), PutMode::Create).await.unwrap().key });
        if writers.len() > 32 {
            writers.join_next().await.unwrap().unwrap();
        }
    }
    writers.join_all().await;
    let listed = keys(&**bucket, "many/", None).await;
    assert_eq!(listed.len(), 2500);
    assert!(listed.is_sorted());
    assert_eq!(keys(&**bucket, "many/", Some(&listed[1233])).await, listed[1234..]);
    assert_eq!(bucket.list_folders("many/").await.unwrap().len(), 7);
    for key in &listed {
        bucket.delete(key).await.unwrap();
    }
}

/// The directory bucket does what every bucket does.
#[tokio::test(flavor = "multi_thread")]
async fn directory() {
    let root = tempfile::tempdir().unwrap();
    check(Arc::new(Directory::open(root.path(), "silver").unwrap())).await;
}

async fn on_local_s3(root: &std::path::Path) -> (LocalS3, S3Client) {
    let server = LocalS3::start(root, LocalS3Options::default()).unwrap();
    let access = server.access("silver");
    let options = S3Options {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        path_style: true,
        no_sign_request: false,
        credentials: access.access_key_id.zip(access.secret_access_key),
    };
    let client = S3Client::connect(&options).await;
    (server, client)
}

/// The S3 bucket, on the local S3, does what every bucket does.
#[tokio::test(flavor = "multi_thread")]
async fn s3_on_local_s3() {
    let root = tempfile::tempdir().unwrap();
    let (_server, client) = on_local_s3(root.path()).await;
    client.create_bucket("silver", "us-east-1").await.unwrap();
    client.create_bucket("silver", "us-east-1").await.unwrap();
    check(Arc::new(client.bucket("silver"))).await;
}

/// The quick way to an object works for every key and range, so that the SDK is not asked twice without anybody noticing.
#[tokio::test(flavor = "multi_thread")]
async fn signed_reads_need_no_sdk() {
    let root = tempfile::tempdir().unwrap();
    let (_server, client) = on_local_s3(root.path()).await;
    client.create_bucket("silver", "us-east-1").await.unwrap();
    let bucket = client.bucket("silver");
    for key in ODD_KEYS {
        put(&bucket, key, key).await;
        assert_eq!(bucket.get_signed(key, None).await.unwrap(), key);
    }
    put(&bucket, "empty", "").await;
    assert_eq!(bucket.get_signed("empty", None).await.unwrap(), "");
    let large = Bytes::from(vec![7u8; 3 * 1024 * 1024]);
    bucket.put("large", large.clone(), PutMode::Create).await.unwrap();
    assert_eq!(bucket.get_signed("large", None).await.unwrap(), large);
    assert_eq!(bucket.get_signed("large", Some("bytes=1-4")).await.unwrap(), large[1..5]);
    assert_eq!(bucket.get_signed("not/there", None).await, None);
}

/// Both views of one directory agree on every object's size, etag and time.
#[tokio::test(flavor = "multi_thread")]
async fn both_views_agree() {
    let root = tempfile::tempdir().unwrap();
    let (_server, client) = on_local_s3(root.path()).await;
    let directory = Directory::open(root.path(), "silver").unwrap();
    let remote = client.bucket("silver");
    put(&directory, "a/one", "1").await;
    put(&remote, "a/two", "22").await;
    fs_err::write(directory.path().join("a/three"), "333").unwrap();
    let without_parts = |objects: Vec<ObjectMeta>| -> Vec<_> {
        objects
            .into_iter()
            .map(|object| (object.key, object.size, object.etag, object.last_modified.timestamp()))
            .collect()
    };
    let listed = without_parts(directory.list("", None).await.unwrap());
    assert_eq!(listed.len(), 3);
    assert_eq!(without_parts(remote.list("", None).await.unwrap()), listed);
    for (key, ..) in &listed {
        assert_eq!(
            without_parts(vec![remote.head(key).await.unwrap().unwrap()]),
            without_parts(vec![directory.head(key).await.unwrap().unwrap()])
        );
    }
}

/// What cannot work says why: no bucket, wrong credentials, nobody there.
#[tokio::test(flavor = "multi_thread")]
async fn s3_errors_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let (server, client) = on_local_s3(root.path()).await;
    assert!(matches!(client.bucket("nowhere").list("", None).await, Err(LakeError::NoBucket { .. })));
    let put = client.bucket("nowhere").put("a", Bytes::new(), PutMode::Create).await;
    assert!(matches!(put, Err(LakeError::NoBucket { .. })), "{put:?}");
    client.create_bucket("silver", "us-east-1").await.unwrap();
    let mut options = S3Options {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        path_style: true,
        no_sign_request: false,
        credentials: Some(("wrong".to_owned(), crate::config::Secret::new("wrong"))),
    };
    for no_sign_request in [false, true] {
        options.no_sign_request = no_sign_request;
        let error = S3Client::connect(&options).await.bucket("silver").get("a").await.unwrap_err();
        assert!(matches!(error, LakeError::Denied { .. }), "{error}");
        assert!(error.hint().is_some());
    }
    options.endpoint = Some("http://127.0.0.1:1".to_owned());
    let error = S3Client::connect(&options).await.bucket("silver").get("a").await.unwrap_err();
    assert!(matches!(&error, LakeError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// No key reaches outside of the bucket's folder, and a refused one changes nothing.
#[tokio::test]
async fn directory_keys_stay_inside() {
    let root = tempfile::tempdir().unwrap();
    let bucket = Directory::open(root.path(), "silver").unwrap();
    fs_err::write(root.path().join("secret"), "secret").unwrap();
    for key in ["../secret", "a/../../secret", "/etc/passwd", "a//b", "./a", "a/.", "a/", "", "nul\0"] {
        assert!(matches!(bucket.get(key).await, Err(LakeError::Key { .. })), "{key}");
        let put = bucket.put(key, Bytes::new(), PutMode::Overwrite).await;
        assert!(matches!(put, Err(LakeError::Key { .. })), "{key}");
        assert!(bucket.delete(key).await.is_err(), "{key}");
    }
    for prefix in ["../", "../s", "a/../../", "/", "./"] {
        assert!(bucket.list(prefix, None).await.unwrap().is_empty(), "{prefix}");
    }
    std::os::unix::fs::symlink(root.path().join("secret"), root.path().join("silver/link")).unwrap();
    assert!(bucket.list("", None).await.unwrap().is_empty());
    for name in ["..", "a/b", ".uploads", "UP", ""] {
        assert!(Directory::open(root.path(), name).is_err(), "{name}");
    }
}

/// A file that somebody copied into the folder is an object, and one that changed has another etag.
#[tokio::test]
async fn directory_takes_foreign_files() {
    let root = tempfile::tempdir().unwrap();
    let bucket = Directory::open(root.path(), "silver").unwrap();
    let path = bucket.path().join("by/hand");
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, "hello").unwrap();
    let first = bucket.list("", None).await.unwrap();
    assert_eq!(first[0].etag, "5d41402abc4b2a76b9719d911017c592");
    fs_err::write(&path, "hello, world").unwrap();
    assert_ne!(bucket.list("", None).await.unwrap()[0].etag, first[0].etag);
}

/// Names that are both an object and a folder are refused with the reason.
#[tokio::test]
async fn directory_explains_what_it_cannot_hold() {
    let root = tempfile::tempdir().unwrap();
    let bucket = Directory::open(root.path(), "silver").unwrap();
    bucket.put("a", Bytes::new(), PutMode::Create).await.unwrap();
    let error = bucket.put("a/b", Bytes::new(), PutMode::Create).await.unwrap_err().to_string();
    assert!(error.contains("below another object"), "{error}");
    bucket.put("c/d", Bytes::new(), PutMode::Create).await.unwrap();
    for mode in [PutMode::Create, PutMode::Overwrite] {
        let error = bucket.put("c", Bytes::new(), mode).await.unwrap_err().to_string();
        assert!(error.contains("name of a folder"), "{error}");
    }
    assert!(std::fs::read_dir(root.path().join(".uploads")).unwrap().next().is_none());
}
