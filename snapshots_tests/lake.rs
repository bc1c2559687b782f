//! The local S3 as ClickHouse sees it: what it lists, reads and writes through the S3 functions and engine.

use arrow::array::AsArray as _;
use bytes::Bytes;
use chpipe::{
    engine::{self, QueryOptions, Session, quote_string, testing},
    lake::{Bucket as _, BucketAccess, Directory, LocalS3, LocalS3Options, PutMode},
};

/// A served folder with one empty bucket.
struct Served {
    server: LocalS3,
    bucket: Directory,
    _root: tempfile::TempDir,
}

fn serve() -> Served {
    let root = tempfile::tempdir().unwrap();
    let bucket = Directory::open(root.path(), "silver").unwrap();
    let server = LocalS3::start(root.path(), LocalS3Options::default()).unwrap();
    Served { server, bucket, _root: root }
}

fn s3(access: &BucketAccess, key: &str) -> String {
    format!(
        "s3({}, {}, {}, 'Parquet')",
        quote_string(&format!("{}{key}", access.url)),
        quote_string(access.access_key_id.as_deref().unwrap()),
        quote_string(access.secret_access_key.as_ref().unwrap().expose()),
    )
}

fn numbers(session: &mut dyn Session, sql: &str) -> Vec<u64> {
    // Casts keep the test away from how the engine hands out each type.
    let batches = engine::fetch(session, sql, &QueryOptions::default()).unwrap();
    let columns = batches[0].columns().iter();
    columns.map(|column| column.as_primitive::<arrow::datatypes::UInt64Type>().value(0)).collect()
}

/// Thousands of small files over several pages of a listing are all found, with their hive columns.
#[test]
fn clickhouse_reads_many_small_files() {
    let served = serve();
    let access = served.server.access("silver");
    let mut session = testing::session("lake_many_small_files");
    let sql =
        format!("INSERT INTO FUNCTION {} SELECT toInt64(number) AS n FROM numbers(10)", s3(&access, "one.parquet"));
    session.execute(&sql, &QueryOptions::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let one: Bytes = served.bucket.get("one.parquet").await.unwrap();
        for index in 0..2500 {
            let (season, round) = (1950 + index % 50, index / 50 + 1);
            let key =
                format!("ergast/endpoint=x/season={season}/round={round:02}/batch_id=20240101T000000/data.parquet");
            served.bucket.put(&key, one.clone(), PutMode::Create).await.unwrap();
        }
    });
    let all = s3(&access, "ergast/endpoint=x/**/*.parquet");
    let sql = format!(
        "SELECT count(), toUInt64(sum(n)), toUInt64(uniqExact(season)), toUInt64(uniqExact(season, round)), \
         toUInt64(uniqExact(_path)) FROM {all}"
    );
    assert_eq!(numbers(&mut *session, &sql), [25_000, 112_500, 50, 2500, 2500]);
    let sql = format!("SELECT count(), toUInt64(sum(round)) FROM {all} WHERE season = 1960");
    assert_eq!(numbers(&mut *session, &sql), [500, 12_750]);
}

/// A file above the part size arrives through a multipart upload and is read back in ranges.
#[test]
fn clickhouse_writes_in_parts() {
    let served = serve();
    let access = served.server.access("silver");
    let mut session = testing::session("lake_writes_in_parts");
    let target = s3(&access, "big/data.parquet");
    let options = QueryOptions::default()
        .setting("s3_min_upload_part_size", "5242880")
        .setting("s3_max_single_part_upload_size", "5242880")
        .setting("output_format_parquet_compression_method", "none");
    let insert = format!("INSERT INTO FUNCTION {target} SELECT cityHash64(number) AS n FROM numbers(2000000)");
    session.execute(&insert, &options).unwrap();
    let sql = format!("SELECT count(), sum(n) FROM {target}");
    let wanted = numbers(&mut *session, "SELECT count(), sum(cityHash64(number)) FROM numbers(2000000)");
    assert_eq!(numbers(&mut *session, &sql), wanted);
}

/// An S3 table sees what was added after it was created, and its files' etags are the directory's.
#[test]
fn an_s3_table_sees_new_files() {
    let served = serve();
    let access = served.server.access("silver");
    let mut session = testing::session("lake_sees_new_files");
    let write = |session: &mut dyn Session, part: u32| {
        let target = s3(&access, &format!("t/part={part}/data.parquet"));
        let sql = format!("INSERT INTO FUNCTION {target} SELECT toInt64(number) AS n FROM numbers({part})");
        session.execute(&sql, &QueryOptions::default()).unwrap();
    };
    write(&mut *session, 3);
    let table = s3(&access, "t/**/*.parquet").replacen("s3", "S3", 1);
    let sql = format!("CREATE TABLE ext (n Int64, part UInt32) ENGINE = {table}");
    session.execute(&sql, &QueryOptions::default()).unwrap();
    assert_eq!(numbers(&mut *session, "SELECT count(), toUInt64(sum(part)) FROM ext"), [3, 9]);
    write(&mut *session, 5);
    assert_eq!(numbers(&mut *session, "SELECT count(), toUInt64(sum(part)) FROM ext"), [8, 34]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let objects = runtime.block_on(served.bucket.list("t/", None)).unwrap();
    assert_eq!(objects.len(), 2);
    for object in objects {
        let path = quote_string(&format!("silver/{}", object.key));
        let etag = quote_string(&object.etag);
        let sql =
            format!("SELECT count() > 0 AND min(trim(BOTH '\"' FROM _etag) = {etag}) FROM ext WHERE _path = {path}");
        assert_eq!(numbers(&mut *session, &format!("SELECT toUInt64(({sql}))")), [1], "{}", object.key);
    }
}
