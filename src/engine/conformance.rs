//! One suite for every engine, in capability groups: connect, types, settings, parameters, formats, inserts, streams,
//! errors, parallel sessions, cancel. An engine's own tests say only which groups it runs.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, UInt64Type},
};

use super::{Engine, EngineError, QueryOptions, Session, fetch, testing::session_of};

/// The first value of a result, as text.
fn text(session: &mut dyn Session, sql: &str) -> String {
    text_with(session, sql, &QueryOptions::default())
}

fn text_with(session: &mut dyn Session, sql: &str, options: &QueryOptions) -> String {
    let mut out = Vec::new();
    session.query_format(sql, "TSVRaw", options, &mut out).unwrap();
    String::from_utf8(out).unwrap().trim_end_matches('\n').to_owned()
}

fn run(session: &mut dyn Session, sql: &str) {
    session.execute(sql, &QueryOptions::default()).unwrap();
}

fn code(error: &EngineError) -> i32 {
    error.code().unwrap_or_else(|| panic!("not the server's: {error:?}"))
}

/// A session starts in a known state, and its database belongs to it alone.
fn connect(engine: &dyn Engine) {
    let mut session = session_of(engine, "conformance_connect");
    assert_eq!(text(&mut *session, "SELECT currentDatabase()"), "conformance_connect");
    let mut other = engine.connect().unwrap();
    assert_ne!(text(&mut *other, "SELECT currentDatabase()"), "conformance_connect");
    let version = text(&mut *session, "SELECT version()");
    assert_eq!(engine.capabilities().version_text, version);
    assert!(version.starts_with(&format!("{}.{}", engine.capabilities().version.0, engine.capabilities().version.1)));
}

/// A temporary table is seen by its session only.
fn temporary_tables(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    run(&mut *session, "CREATE TEMPORARY TABLE conformance_temporary (a Int64)");
    run(&mut *session, "INSERT INTO conformance_temporary VALUES (1), (2)");
    assert_eq!(text(&mut *session, "SELECT sum(a) FROM conformance_temporary"), "3");
    let mut other = engine.connect().unwrap();
    let error = other.execute("SELECT * FROM conformance_temporary", &QueryOptions::default()).unwrap_err();
    assert_eq!(code(&error), 60, "{error}");
}

/// Settings of a statement hold for it alone, those of SET for the session, and both leave other sessions alone.
fn settings(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let max_block_size = "SELECT value FROM system.settings WHERE name = 'max_block_size'";
    let default = text(&mut *session, max_block_size);
    let options = QueryOptions::default().setting("max_block_size", "1234");
    assert_eq!(text_with(&mut *session, max_block_size, &options), "1234");
    assert_eq!(text(&mut *session, max_block_size), default);
    run(&mut *session, "SET max_block_size = 4321");
    assert_eq!(text_with(&mut *session, max_block_size, &options), "1234");
    assert_eq!(text(&mut *session, max_block_size), "4321");
    run(&mut *session, "SET max_block_size = DEFAULT");
    assert_eq!(text(&mut *session, max_block_size), default);
    let error = session.execute("SELECT 1", &QueryOptions::default().setting("no_such_setting", "1")).unwrap_err();
    assert_eq!(code(&error), 115, "{error}");
    assert_eq!(text(&mut *session, "SELECT 1"), "1");
}

/// Parameters are values, whatever is in them.
fn parameters(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let options = QueryOptions::default()
        .parameter("text", "it's \\\\ {x:UInt8} `")
        .parameter("number", "7")
        .parameter("list", "[1,2]")
        .parameter("name", "number");
    let sql = "SELECT concat({text:String}, toString({number:UInt8} + arraySum({list:Array(UInt8)}))), \
               (SELECT max({name:Identifier}) FROM numbers(3))";
    assert_eq!(text_with(&mut *session, sql, &options), "it's \\ {x:UInt8} `10\t2");
    let error = session.execute("SELECT {missing:String}", &QueryOptions::default()).unwrap_err();
    assert_eq!(code(&error), 456, "{error}");
}

/// Rows come in any format, as one document whatever the number of blocks.
fn formats(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let options = QueryOptions::default().setting("max_block_size", "2").setting("max_threads", "1");
    let sql = "SELECT number AS a, toString(number) AS `b\"c` FROM numbers(5)";
    let mut format = |format: &str| {
        let mut out = Vec::new();
        session.query_format(sql, format, &options, &mut out).unwrap();
        out
    };
    assert_eq!(format("TSVWithNames"), b"a\tb\"c\n0\t0\n1\t1\n2\t2\n3\t3\n4\t4\n");
    assert_eq!(format("CSVWithNames"), b"\"a\",\"b\"\"c\"\n0,\"0\"\n1,\"1\"\n2,\"2\"\n3,\"3\"\n4,\"4\"\n");
    assert_eq!(String::from_utf8(format("JSONEachRow")).unwrap().lines().count(), 5);
    let json: serde_json::Value = serde_json::from_slice(&format("JSON")).unwrap();
    assert_eq!(json["rows"], 5);
    let arrow = format("ArrowStream");
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(arrow), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 5);
    let parquet = format("Parquet");
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let mut out = Vec::new();
    session.query_format("SELECT 1 AS a FORMAT JSONEachRow", "TSV", &options, &mut out).unwrap();
    assert_eq!(out, b"{\"a\":1}\n");
    let mut out = Vec::new();
    session.query_format("SELECT 1 AS a WHERE 0", "TSVWithNames", &options, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "a\n");
}

/// Statements that are no SELECT have rows too.
fn rows_of_other_statements(engine: &dyn Engine) {
    let mut session = session_of(engine, "conformance_rows");
    run(&mut *session, "CREATE TABLE t (a Int64, b String) ENGINE = Memory");
    let tables = fetch(&mut *session, "SHOW TABLES", &QueryOptions::default()).unwrap();
    assert_eq!(tables[0].column(0).as_string::<i32>().value(0), "t");
    let columns = fetch(&mut *session, "DESCRIBE TABLE t", &QueryOptions::default()).unwrap();
    assert_eq!(columns.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let exists = fetch(&mut *session, "EXISTS TABLE t", &QueryOptions::default()).unwrap();
    assert_eq!(exists[0].num_rows(), 1);
    assert!(text(&mut *session, "EXPLAIN AST SELECT 1").contains("SelectQuery"));
}

/// A result without rows still has its columns.
fn empty_results(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let mut stream = session.query("SELECT 1 AS a, 'x' AS b WHERE 0", &QueryOptions::default()).unwrap();
    let names: Vec<String> = stream.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(stream.by_ref().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 0);
}

/// Data is data, whatever bytes are in it.
fn inserts_of_any_bytes(engine: &dyn Engine) {
    let mut session = session_of(engine, "conformance_bytes");
    run(&mut *session, "CREATE TABLE t (b String) ENGINE = MergeTree ORDER BY b");
    let texts = ["\n\n", "; SELECT 1;\n\n\0", "\\N", "'"];
    let schema = Arc::new(Schema::new(vec![Field::new("b", DataType::Utf8, false)]));
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(texts))];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    session.insert("INSERT INTO t", schema, &mut std::iter::once(batch), &QueryOptions::default()).unwrap();
    let read = fetch(&mut *session, "SELECT b FROM t ORDER BY b", &QueryOptions::default()).unwrap();
    let mut sorted = texts;
    sorted.sort_unstable();
    let read: Vec<&str> = read[0].column(0).as_string::<i32>().iter().map(Option::unwrap).collect();
    assert_eq!(read, sorted);
}

fn rows(count: i64) -> (Arc<Schema>, RecordBatch) {
    let schema =
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false), Field::new("b", DataType::Utf8, true)]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..count)),
        Arc::new(StringArray::from_iter((0..count).map(|n| (n % 3 != 0).then(|| format!("row '{n}'\n"))))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    (schema, batch)
}

/// Inserted batches come back as they were.
fn inserts(engine: &dyn Engine) {
    let mut session = session_of(engine, "conformance_inserts");
    run(&mut *session, "CREATE TABLE t (a Int64, b Nullable(String)) ENGINE = MergeTree ORDER BY a");
    let (schema, batch) = rows(1000);
    let mut batches = vec![batch.slice(0, 600), batch.slice(600, 400)].into_iter();
    let summary = session
        .insert(
            "INSERT INTO t (a, b)",
            Arc::clone(&schema),
            &mut batches,
            &QueryOptions::default().query_id("insert-1"),
        )
        .unwrap();
    assert_eq!(summary.query_id, "insert-1");
    assert!(summary.written_rows.is_none_or(|rows| rows == 1000), "{summary:?}");
    let read = fetch(&mut *session, "SELECT a, b FROM t ORDER BY a", &QueryOptions::default()).unwrap();
    let read = arrow::compute::concat_batches(&read[0].schema(), &read).unwrap();
    assert_eq!(read.columns(), batch.columns());
    session.insert("INSERT INTO t (a, b)", schema, &mut std::iter::empty(), &QueryOptions::default()).unwrap();
    assert_eq!(text(&mut *session, "SELECT count() FROM t"), "1000");
}

/// More than fits in memory at once goes in as one statement.
fn large_inserts(engine: &dyn Engine) {
    let mut session = session_of(engine, "conformance_large_inserts");
    run(&mut *session, "CREATE TABLE t (a Int64, b Nullable(String)) ENGINE = MergeTree ORDER BY a");
    let (schema, batch) = rows(100_000);
    let mut batches = std::iter::repeat_n(batch, 40);
    session.insert("INSERT INTO t (a, b)", schema, &mut batches, &QueryOptions::default()).unwrap();
    assert_eq!(text(&mut *session, "SELECT count(), sum(a) FROM t"), "4000000\t199998000000");
}

/// A stream gives the rows in order, and one that is dropped early leaves the session usable.
fn streams(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let mut expected = 0;
    let sql = "SELECT number FROM numbers(200000)";
    for batch in session.query(sql, &QueryOptions::default().setting("max_threads", "1")).unwrap() {
        for value in batch.unwrap().column(0).as_primitive::<UInt64Type>().values() {
            assert_eq!(*value, expected);
            expected += 1;
        }
    }
    assert_eq!(expected, 200_000);
    for _ in 0..3 {
        let mut stream = session.query("SELECT number FROM numbers(100000000000)", &QueryOptions::default()).unwrap();
        assert!(stream.next().unwrap().unwrap().num_rows() > 0);
        drop(stream);
        assert_eq!(text(&mut *session, "SELECT 1"), "1");
    }
}

/// Errors carry the server's code and name, also those that come in the middle of the rows.
fn errors(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let mut error = |sql: &str| session.execute(sql, &QueryOptions::default().query_id("errors-1")).unwrap_err();
    let syntax = error("SELECT FROM WHERE");
    assert_eq!(code(&syntax), 62);
    let unknown = error("SELECT no_such_column");
    let EngineError::Server { code, name, message, query_id } = &unknown else { panic!("{unknown:?}") };
    assert_eq!((*code, name.as_str(), query_id.as_str()), (47, "UNKNOWN_IDENTIFIER", "errors-1"));
    assert!(message.contains("no_such_column") && !message.contains("DB::Exception"), "{message}");
    assert_eq!(error("SELECT * FROM no_such_table").code(), Some(60));
    assert_eq!(error("SELECT 1; SELECT 2").code(), Some(62));
    assert_eq!(error("").code(), Some(62));
    assert_eq!(text(&mut *session, "SELECT 1"), "1");
}

fn errors_in_the_middle(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let options = QueryOptions::default().setting("max_threads", "1").setting("max_block_size", "1000");
    let sql = "SELECT throwIf(number = 300000) FROM numbers(1000000)";
    let mut failed = None;
    match session.query(sql, &options) {
        Ok(stream) => {
            for batch in stream {
                if let Err(error) = batch {
                    failed = Some(error);
                    break;
                }
            }
        }
        Err(error) => failed = Some(error),
    }
    let failed = failed.expect("the query fails");
    assert_eq!(code(&failed), 395, "{failed}");
    assert_eq!(text(&mut *session, "SELECT 1"), "1");
}

/// Sessions run at the same time: a short statement ends while a long one of another session is under way.
fn parallel_sessions(engine: &dyn Engine) {
    std::thread::scope(|scope| {
        let long = scope.spawn(|| {
            let mut session = engine.connect().unwrap();
            let mut stream =
                session.query("SELECT number FROM numbers(100000000000)", &QueryOptions::default()).unwrap();
            stream.next().unwrap().unwrap();
            let mut other = engine.connect().unwrap();
            assert_eq!(text(&mut *other, "SELECT 2"), "2");
        });
        let mut session = engine.connect().unwrap();
        for _ in 0..20 {
            assert_eq!(text(&mut *session, "SELECT 1"), "1");
        }
        long.join().unwrap();
    });
}

/// A running statement ends when it is cancelled by its id, and its session can go on.
fn cancel(engine: &dyn Engine, id: &str) {
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut session = engine.connect().unwrap();
            let options = QueryOptions::default().query_id(id);
            let error =
                session.execute("SELECT max(sipHash64(number)) FROM numbers(100000000000)", &options).unwrap_err();
            (error, text(&mut *session, "SELECT 1"))
        });
        while !running.is_finished() {
            engine.cancel(id).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let (error, after) = running.join().unwrap();
        assert_eq!(code(&error), 394, "{error}");
        assert_eq!(after, "1");
    });
    engine.cancel("no such statement").unwrap();
}

/// Types arrive as Arrow's, and their values with them.
fn types(engine: &dyn Engine) {
    let mut session = engine.connect().unwrap();
    let cases = [
        ("CAST(-5, 'Int64')", DataType::Int64, "-5"),
        ("CAST(1.5, 'Float32')", DataType::Float32, "1.5"),
        ("'it''s'", DataType::Utf8, "it's"),
        ("toDate('2020-01-02')", DataType::Date32, "2020-01-02"),
    ];
    for (expression, data_type, value) in cases {
        let batches = fetch(&mut *session, &format!("SELECT {expression} AS x"), &QueryOptions::default()).unwrap();
        let column = batches[0].column(0);
        assert_eq!(*column.data_type(), data_type, "{expression}");
        assert_eq!(arrow::util::display::array_value_to_string(column, 0).unwrap(), value, "{expression}");
    }
}

mod embedded {
    use crate::engine::testing::shared;

    macro_rules! groups {
        ($($group:ident),* $(,)?) => {
            $(#[test]
            fn $group() {
                super::$group(&*shared());
            })*
        };
    }

    groups!(
        connect,
        temporary_tables,
        settings,
        parameters,
        formats,
        rows_of_other_statements,
        empty_results,
        inserts,
        inserts_of_any_bytes,
        large_inserts,
        streams,
        errors,
        errors_in_the_middle,
        parallel_sessions,
        types,
    );

    #[test]
    fn cancel() {
        super::cancel(&*shared(), "conformance-cancel-embedded");
    }
}
