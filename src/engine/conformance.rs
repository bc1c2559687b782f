//! One suite for every engine, in capability groups: connect, types, settings, parameters, formats, inserts, streams,
//! errors, parallel sessions, cancel. An engine's own tests say only which groups it runs.
//! One file: the groups are what an engine is asked in order, and share the values that they ask for.

// Marks the whole file as test code for the rules of `snapshots_tests/tidy.rs`.
#[cfg(test)]
use std::{ops::Not as _, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, UInt64Type},
};

use crate::config::{Secret, ServerConnection};

use super::{Engine, EngineError, QueryOptions, Session, fetch, testing::session_of};

/// An engine under test. Its databases carry its name: several engines reach the same warehouse.
struct Tested {
    engine: Arc<dyn Engine>,
    name: &'static str,
}

impl Tested {
    fn database(&self, group: &str) -> String {
        format!("conformance_{}_{group}", self.name)
    }

    /// A session in an empty database of the group's own.
    fn session(&self, group: &str) -> Box<dyn Session> {
        session_of(&*self.engine, &self.database(group))
    }
}

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
fn connect(tested: &Tested) {
    let mut session = tested.session("connect");
    assert_eq!(text(&mut *session, "SELECT currentDatabase()"), tested.database("connect"));
    let mut other = tested.engine.connect().unwrap();
    assert_ne!(text(&mut *other, "SELECT currentDatabase()"), tested.database("connect"));
    let version = text(&mut *session, "SELECT version()");
    assert_eq!(tested.engine.capabilities().version_text, version);
    assert!(version.starts_with(&format!(
        "{}.{}",
        tested.engine.capabilities().version.0,
        tested.engine.capabilities().version.1
    )));
}

/// A temporary table is seen by its session only.
fn temporary_tables(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
    run(&mut *session, "CREATE TEMPORARY TABLE conformance_temporary (a Int64)");
    run(&mut *session, "INSERT INTO conformance_temporary VALUES (1), (2)");
    assert_eq!(text(&mut *session, "SELECT sum(a) FROM conformance_temporary"), "3");
    let mut other = tested.engine.connect().unwrap();
    let error = other.execute("SELECT * FROM conformance_temporary", &QueryOptions::default()).unwrap_err();
    assert_eq!(code(&error), 60, "{error}");
}

/// Settings of a statement hold for it alone, those of SET for the session, and both leave other sessions alone.
fn settings(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
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

/// A statement's settings hold for it alone, also where DEFAULT is no value yet.
fn settings_of_statements(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
    let max_block_size = "SELECT value FROM system.settings WHERE name = 'max_block_size'";
    let default = text(&mut *session, max_block_size);
    let options = QueryOptions::default().setting("max_block_size", "1234");
    assert_eq!(text_with(&mut *session, max_block_size, &options), "1234");
    assert_eq!(text(&mut *session, max_block_size), default);
    run(&mut *session, "SET max_block_size = 4321");
    assert_eq!(text_with(&mut *session, max_block_size, &options), "1234");
    assert_eq!(text(&mut *session, max_block_size), "4321");
    let error = session.execute("SELECT 1", &QueryOptions::default().setting("no_such_setting", "1")).unwrap_err();
    assert_eq!(code(&error), 115, "{error}");
}

/// Rows as text, where the formats are chpipe's own.
fn text_formats(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
    let sql = "SELECT number AS a, if(number = 1, NULL, concat('x\\t\"', toString(number))) AS b, \
               toDateTime(number * 86400, 'UTC') AS t FROM numbers(2)";
    let mut format = |format: &str| {
        let mut out = Vec::new();
        session.query_format(sql, format, &QueryOptions::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(format("TSVWithNames"), "a\tb\tt\n0\tx\\t\"0\t1970-01-01 00:00:00\n1\t\\N\t1970-01-02 00:00:00\n");
    assert_eq!(format("CSV"), "0,\"x\t\"\"0\",\"1970-01-01 00:00:00\"\n1,\\N,\"1970-01-02 00:00:00\"\n");
    assert!(format("JSONEachRow").starts_with("{\"a\":0,\"b\":\"x\\t\\\"0\""));
    assert!(format("PrettyCompact").contains("1970-01-02"));
    let error = session.query_format(sql, "Parquet", &QueryOptions::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, EngineError::Unsupported { .. }), "{error}");
}

/// Parameters are values, whatever is in them.
fn parameters(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
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
fn formats(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
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
fn rows_of_other_statements(tested: &Tested) {
    let mut session = tested.session("rows");
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
fn empty_results(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
    let mut stream = session.query("SELECT 1 AS a, 'x' AS b WHERE 0", &QueryOptions::default()).unwrap();
    let names: Vec<String> = stream.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(stream.by_ref().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 0);
}

/// Data is data, whatever bytes are in it.
fn inserts_of_any_bytes(tested: &Tested) {
    let mut session = tested.session("bytes");
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
fn inserts(tested: &Tested) {
    let mut session = tested.session("inserts");
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
fn large_inserts(tested: &Tested) {
    let mut session = tested.session("large_inserts");
    run(&mut *session, "CREATE TABLE t (a Int64, b Nullable(String)) ENGINE = MergeTree ORDER BY a");
    let (schema, batch) = rows(100_000);
    let mut batches = std::iter::repeat_n(batch, 40);
    session.insert("INSERT INTO t (a, b)", schema, &mut batches, &QueryOptions::default()).unwrap();
    assert_eq!(text(&mut *session, "SELECT count(), sum(a) FROM t"), "4000000\t199998000000");
}

/// A stream gives the rows in order, and one that is dropped early leaves the session usable.
fn streams(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
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
fn errors(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
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

fn errors_in_the_middle(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
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
fn parallel_sessions(tested: &Tested) {
    std::thread::scope(|scope| {
        let long = scope.spawn(|| {
            let mut session = tested.engine.connect().unwrap();
            let mut stream =
                session.query("SELECT number FROM numbers(100000000000)", &QueryOptions::default()).unwrap();
            stream.next().unwrap().unwrap();
            let mut other = tested.engine.connect().unwrap();
            assert_eq!(text(&mut *other, "SELECT 2"), "2");
        });
        let mut session = tested.engine.connect().unwrap();
        for _ in 0..20 {
            assert_eq!(text(&mut *session, "SELECT 1"), "1");
        }
        long.join().unwrap();
    });
}

/// A running statement ends when it is cancelled by its id, and its session can go on.
fn cancel(tested: &Tested) {
    let id = &format!("conformance-cancel-{}", tested.name);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut session = tested.engine.connect().unwrap();
            let options = QueryOptions::default().query_id(id);
            let error =
                session.execute("SELECT max(sipHash64(number)) FROM numbers(100000000000)", &options).unwrap_err();
            (error, text(&mut *session, "SELECT 1"))
        });
        while !running.is_finished() {
            tested.engine.cancel(id).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let (error, after) = running.join().unwrap();
        assert_eq!(code(&error), 394, "{error}");
        assert_eq!(after, "1");
    });
    tested.engine.cancel("no such statement").unwrap();
}

/// An expression, its Arrow type, and its value as Arrow prints it.
type TypeCase = (&'static str, &'static str, &'static str);

/// Types that every server has, back to 18.16.
const OLD_TYPES: &[TypeCase] = &[
    ("toInt8(-5)", "Int8", "-5"),
    ("toInt16(-5)", "Int16", "-5"),
    ("toInt32(-5)", "Int32", "-5"),
    ("toInt64(-5)", "Int64", "-5"),
    ("toUInt8(5)", "UInt8", "5"),
    ("toUInt16(5)", "UInt16", "5"),
    ("toUInt32(5)", "UInt32", "5"),
    ("toUInt64(18446744073709551615)", "UInt64", "18446744073709551615"),
    ("toFloat32(1.5)", "Float32", "1.5"),
    ("toFloat64(-1.25)", "Float64", "-1.25"),
    ("toDecimal32('1.5', 3)", "Decimal128(9, 3)", "1.500"),
    ("toDecimal64('-1.5', 3)", "Decimal128(18, 3)", "-1.500"),
    ("toDecimal128('12345678901234567890.5', 2)", "Decimal128(38, 2)", "12345678901234567890.50"),
    ("'it\\'s π'", "Utf8", "it's π"),
    ("toFixedString('abc', 5)", "FixedSizeBinary(5)", "6162630000"),
    ("toDate('2020-01-02')", "Date32", "2020-01-02"),
    ("toDateTime('2020-01-02 03:04:05', 'UTC')", "Timestamp(s, \"UTC\")", "2020-01-02T03:04:05Z"),
    ("CAST('b', 'Enum8(\\'a\\' = 1, \\'b\\' = -2)')", "Utf8", "b"),
    ("CAST('b', 'Enum16(\\'a\\' = 1, \\'b\\' = 1000)')", "Utf8", "b"),
    ("toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", "Utf8", "61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
    ("toNullable('x')", "Utf8", "x"),
    ("CAST(NULL, 'Nullable(Int64)')", "Int64", ""),
    ("[1, 2]", "List(non-null UInt8)", "[1, 2]"),
    ("[[toNullable('a'), NULL], []]", "List(non-null List(Utf8))", "[[a, ], []]"),
    ("tuple(1, 'x')", "Struct(\"1\": non-null UInt8, \"2\": non-null Utf8)", "{1: 1, 2: x}"),
];

/// Types that came later.
const NEW_TYPES: &[TypeCase] = &[
    ("true", "Boolean", "true"),
    ("toDate32('1950-05-13')", "Date32", "1950-05-13"),
    ("toDateTime('2020-01-02 03:04:05', 'Europe/Madrid')", "Timestamp(s, \"UTC\")", "2020-01-02T02:04:05Z"),
    ("toDateTime64('1950-01-02 03:04:05.123456', 6, 'UTC')", "Timestamp(µs, \"UTC\")", "1950-01-02T03:04:05.123456Z"),
    ("toDateTime64('2020-01-02 03:04:05.1', 1, 'UTC')", "Timestamp(ms, \"UTC\")", "2020-01-02T03:04:05.100Z"),
    ("toDateTime64('2020-01-02 03:04:05', 0, 'UTC')", "Timestamp(s, \"UTC\")", "2020-01-02T03:04:05Z"),
    ("toDecimal256('-1.5', 3)", "Decimal256(76, 3)", "-1.500"),
    (
        "toInt128('-170141183460469231731687303715884105728')",
        "Decimal256(39, 0)",
        "-170141183460469231731687303715884105728",
    ),
    (
        "toUInt128('340282366920938463463374607431768211455')",
        "Decimal256(39, 0)",
        "340282366920938463463374607431768211455",
    ),
    ("toInt256('-5')", "Decimal256(76, 0)", "-5"),
    ("toIPv4('1.2.3.4')", "Utf8", "1.2.3.4"),
    ("toIPv6('2001:db8::1')", "Utf8", "2001:db8::1"),
    ("toLowCardinality('x')", "Utf8", "x"),
    ("CAST(NULL, 'LowCardinality(Nullable(String))')", "Utf8", ""),
    ("[toLowCardinality('x'), 'y', 'x']", "List(non-null Utf8)", "[x, y, x]"),
    (
        "map('a', 1)",
        "Map(\"entries\": non-null Struct(\"keys\": non-null Utf8, \"values\": non-null UInt8), unsorted)",
        "{a: 1}",
    ),
    (
        "CAST((1, 'x'), 'Tuple(a Int8, `b c` String)')",
        "Struct(\"a\": non-null Int8, \"b c\": non-null Utf8)",
        "{a: 1, b c: x}",
    ),
    ("CAST('{\"a\":1}', 'JSON')", "Utf8", "{\"a\":1}"),
    ("CAST(1.5, 'BFloat16')", "Float32", "1.5"),
    ("CAST((1, 2), 'Point')", "Struct(\"1\": non-null Float64, \"2\": non-null Float64)", "{1: 1.0, 2: 2.0}"),
    ("toIntervalDay(3)", "Int64", "3"),
    ("NULL", "Null", ""),
    ("CAST(1, 'SimpleAggregateFunction(max, UInt64)')", "UInt64", "1"),
];

/// Types arrive as Arrow's, and their values with them.
fn old_types(tested: &Tested) {
    types(tested, OLD_TYPES);
}

fn new_types(tested: &Tested) {
    types(tested, NEW_TYPES);
}

fn types(tested: &Tested, cases: &[TypeCase]) {
    let mut session = tested.engine.connect().unwrap();
    for &(expression, data_type, value) in cases {
        let sql = format!("SELECT {expression} AS x, materialize({expression}) AS y FROM numbers(3)");
        let batches =
            fetch(&mut *session, &sql, &QueryOptions::default()).unwrap_or_else(|e| panic!("{expression}: {e}"));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3, "{expression}");
        for column in batches[0].columns() {
            assert_eq!(column.data_type().to_string(), data_type, "{expression}");
            let found = arrow::util::display::array_value_to_string(column, 0).unwrap();
            assert_eq!(found, value, "{expression}");
        }
        let schema = batches[0].schema();
        assert!(schema.field(0).metadata().contains_key(super::TYPE_KEY), "{expression}");
    }
}

/// A type without an Arrow form is an error that names the column, and so are bytes that are no text.
fn types_without_an_arrow_form(tested: &Tested) {
    let mut session = tested.engine.connect().unwrap();
    let error = fetch(&mut *session, "SELECT sumState(number) AS s FROM numbers(2)", &QueryOptions::default());
    let error = error.unwrap_err();
    assert!(matches!(&error, EngineError::NoArrowType { column, .. } if column == "s"), "{error}");
    let error = fetch(&mut *session, "SELECT unhex('ff') AS bytes", &QueryOptions::default()).unwrap_err();
    assert!(error.to_string().contains("`bytes`"), "{error}");
    assert_eq!(text(&mut *session, "SELECT 1"), "1");
}

/// Every type survives the way through Arrow into a table and back.
fn types_round_trip(tested: &Tested) {
    let mut session = tested.session("round_trip");
    let columns: [(&str, &str); 17] = [
        ("i", "Int64"),
        ("f", "Float64"),
        ("b", "Bool"),
        ("d", "Decimal(18, 4)"),
        ("d256", "Decimal(60, 4)"),
        ("s", "LowCardinality(Nullable(String))"),
        ("x", "FixedString(3)"),
        ("e", "Enum8('a' = 1, 'b' = 2)"),
        ("u", "UUID"),
        ("v4", "IPv4"),
        ("v6", "IPv6"),
        ("day", "Date"),
        ("day32", "Date32"),
        ("t", "DateTime"),
        ("t64", "DateTime64(6)"),
        ("l", "Array(Nullable(Int32))"),
        ("m", "Map(String, UInt8)"),
    ];
    let list = columns.map(|(name, type_name)| format!("{name} {type_name}")).join(", ");
    run(&mut *session, &format!("CREATE TABLE t ({list}) ENGINE = MergeTree ORDER BY i"));
    run(&mut *session, "CREATE TABLE copy AS t");
    // An empty line in the data makes libchdb read them another way.
    for text in ["text", "te\\n\\nxt"] {
        run(&mut *session, "TRUNCATE TABLE t");
        run(&mut *session, "TRUNCATE TABLE copy");
        round_trip(&mut *session, text);
    }
}

fn round_trip(session: &mut dyn Session, value: &str) {
    run(
        &mut *session,
        &format!(
            "INSERT INTO t SELECT number, number / 3, number % 2, number / 7, -toDecimal256(number, 4), \
         if(number % 3 = 0, NULL, '{value}'), 'abc', if(number % 2 = 0, 'a', 'b'), \
         '61f0c404-5cb3-11e7-907b-a6006ad3dba0', '1.2.3.4', '::1', '1970-01-02', '1950-05-13', 12345, \
         '1950-01-02 03:04:05.123456', [number, NULL], map('k', 1) FROM numbers(100)"
        ),
    );
    let batches = fetch(&mut *session, "SELECT * FROM t ORDER BY i", &QueryOptions::default()).unwrap();
    let schema = batches[0].schema();
    session.insert("INSERT INTO copy", schema, &mut batches.into_iter(), &QueryOptions::default()).unwrap();
    let difference = text(
        &mut *session,
        "SELECT count() FROM (SELECT toString(tuple(*)) FROM t EXCEPT SELECT toString(tuple(*)) FROM copy)",
    );
    assert_eq!(difference, "0");
    assert_eq!(text(&mut *session, "SELECT count() FROM copy"), "100");
}

/// Runs a group, which fails where it hangs: a lost answer would hold up the whole run otherwise.
fn in_time(group: impl FnOnce() + Send + 'static) {
    let (done, over) = std::sync::mpsc::channel();
    let running = std::thread::spawn(move || {
        group();
        let _ = done.send(());
    });
    if over.recv_timeout(std::time::Duration::from_secs(600)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("the group hangs");
    }
    if let Err(panic) = running.join() {
        std::panic::resume_unwind(panic);
    }
}

/// One test a group. The engine is made by a function of the test's name, which answers `None` after saying why not.
macro_rules! groups {
    ($tested:ident: $($group:ident),* $(,)?) => {
        $(#[test]
        fn $group() {
            let Some(tested) = $tested(concat!(module_path!(), "::", stringify!($group))) else { return };
            super::in_time(move || super::$group(&tested));
        })*
    };
}

mod embedded {
    use super::Tested;
    use crate::engine::testing::shared;

    fn tested(_test: &str) -> Option<Tested> {
        Some(Tested { engine: shared(), name: "embedded" })
    }

    groups!(
        tested: connect,
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
        old_types,
        new_types,
        types_without_an_arrow_form,
        types_round_trip,
        cancel,
    );
}

/// Over `chpipe serve` in this process.
mod http {
    use std::sync::{Arc, OnceLock};

    use super::Tested;
    use crate::{
        config::{Secret, ServerConnection},
        engine::{Engine, EngineError, http::HttpEngine, testing::shared_directory},
        serve::{Credentials, ServeOptions, Server},
    };

    const USER: &str = "conformance";
    const PASSWORD: &str = "s3cret & ü";

    /// The connection to one server over the shared warehouse.
    pub(super) fn connection() -> ServerConnection {
        static SERVER: OnceLock<Server> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            let credentials = Credentials { user: USER.into(), password: Secret::new(PASSWORD) };
            let options = ServeOptions { address: ([127, 0, 0, 1], 0).into(), credentials };
            Server::start(shared_directory(), options).unwrap()
        });
        ServerConnection {
            host: "127.0.0.1".into(),
            port: server.address().port(),
            user: USER.into(),
            password: Secret::new(PASSWORD),
            ..ServerConnection::default()
        }
    }

    fn tested(_test: &str) -> Option<Tested> {
        static ENGINE: OnceLock<Arc<dyn Engine>> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| Arc::new(HttpEngine::open(&connection()).unwrap()));
        Some(Tested { engine: Arc::clone(engine), name: "http" })
    }

    groups!(
        tested: connect,
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
        old_types,
        new_types,
        types_without_an_arrow_form,
        types_round_trip,
        cancel,
    );

    /// A wrong password is refused with ClickHouse's code, and a closed port is told as such.
    #[test]
    fn refusals() {
        let wrong = ServerConnection { password: Secret::new("no"), ..connection() };
        let error = HttpEngine::open(&wrong).err().unwrap();
        assert_eq!(error.code(), Some(516), "{error}");
        let closed = ServerConnection { port: 1, retries: 0, ..connection() };
        let error = HttpEngine::open(&closed).err().unwrap();
        assert!(matches!(&error, EngineError::Unreachable { address, .. } if address == "127.0.0.1:1"), "{error}");
    }
}

/// As [`http`], with bodies compressed both ways.
mod http_lz4 {
    use std::sync::{Arc, OnceLock};

    use super::{Tested, http::connection};
    use crate::{
        config::ServerConnection,
        engine::{Engine, http::HttpEngine},
    };

    fn tested(_test: &str) -> Option<Tested> {
        static ENGINE: OnceLock<Arc<dyn Engine>> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| {
            let connection = ServerConnection { compression: Some("lz4".into()), ..connection() };
            Arc::new(HttpEngine::open(&connection).unwrap())
        });
        Some(Tested { engine: Arc::clone(engine), name: "http_lz4" })
    }

    groups!(tested: formats, inserts, inserts_of_any_bytes, streams, errors, errors_in_the_middle, types_round_trip);
}

/// Over Debian's clickhouse-server 18.16, which `scripts/fetch-debian.sh` unpacks: what its protocol and its SQL have. Left
/// out, because that server is too old:
/// - `temporary_tables`: it takes the data of an INSERT as blocks only, and this group writes VALUES;
/// - `settings`: it has no `SET … = DEFAULT` (19.x); `settings_of_statements` is the rest of the group;
/// - `parameters`: 19.14 brought them;
/// - `rows_of_other_statements`: 20.6 brought EXPLAIN;
/// - `new_types`, `types_round_trip`, `types_without_an_arrow_form`: Bool, Date32, Map and their like came later.
///
/// `formats` is left out of every native list: the protocol has none, and `text_formats` tests those that chpipe writes.
mod native_18_16 {
    use std::sync::{Arc, OnceLock};

    use super::{Tested, skip};
    use crate::engine::{Engine, native::NativeEngine, old_server::OldServer};

    fn tested(test: &str) -> Option<Tested> {
        static SERVER: OnceLock<Result<Arc<dyn Engine>, String>> = OnceLock::new();
        let engine = SERVER.get_or_init(|| {
            let server = OldServer::start()?;
            NativeEngine::open(&server.connection())
                .map(|engine| Arc::new(engine) as _)
                .map_err(|error| error.to_string())
        });
        match engine {
            Ok(engine) => Some(Tested { engine: Arc::clone(engine), name: "native_18_16" }),
            Err(reason) => {
                skip(test, reason);
                None
            }
        }
    }

    groups!(
        tested: connect,
        settings_of_statements,
        empty_results,
        inserts,
        inserts_of_any_bytes,
        large_inserts,
        streams,
        errors,
        errors_in_the_middle,
        parallel_sessions,
        old_types,
        text_formats,
        cancel,
    );
}

/// Over a current server, where `CHPIPE_TEST_CLICKHOUSE_URL` (`http://user:password@host:8123`) names one. No machine of
/// this project's CI has one, so without it these tests say so and do not count as skipped.
mod current_http {
    use std::sync::{Arc, OnceLock};

    use super::{Tested, connection_of_variable};
    use crate::engine::{Engine, http::HttpEngine};

    fn tested(test: &str) -> Option<Tested> {
        static ENGINE: OnceLock<Arc<dyn Engine>> = OnceLock::new();
        let server = connection_of_variable("CHPIPE_TEST_CLICKHOUSE_URL", test)?;
        let engine = ENGINE.get_or_init(|| Arc::new(HttpEngine::open(&server).unwrap()));
        Some(Tested { engine: Arc::clone(engine), name: "current_http" })
    }

    groups!(
        tested: connect,
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
        old_types,
        new_types,
        types_without_an_arrow_form,
        types_round_trip,
        cancel,
    );
}

/// Over a current server's native protocol, where `CHPIPE_TEST_CLICKHOUSE_NATIVE_URL` (`tcp://user:password@host:9000`)
/// names one; otherwise as [`current_http`]. Without the types and formats that klickhouse does not have.
mod current_native {
    use std::sync::{Arc, OnceLock};

    use super::{Tested, connection_of_variable};
    use crate::engine::{Engine, native::NativeEngine};

    fn tested(test: &str) -> Option<Tested> {
        static ENGINE: OnceLock<Arc<dyn Engine>> = OnceLock::new();
        let server = connection_of_variable("CHPIPE_TEST_CLICKHOUSE_NATIVE_URL", test)?;
        let engine = ENGINE.get_or_init(|| Arc::new(NativeEngine::open(&server).unwrap()));
        Some(Tested { engine: Arc::clone(engine), name: "current_native" })
    }

    groups!(
        tested: connect,
        temporary_tables,
        settings,
        parameters,
        rows_of_other_statements,
        empty_results,
        inserts,
        inserts_of_any_bytes,
        large_inserts,
        streams,
        errors,
        errors_in_the_middle,
        parallel_sessions,
        old_types,
        text_formats,
        cancel,
    );
}

/// Says that a test is skipped, for the count of `make test`; with CI=true that is a failure.
fn skip(test: &str, reason: &str) {
    use std::io::Write as _;
    let line = format!("SKIP {test}: {reason}");
    eprintln!("{line}");
    if let Ok(path) = std::env::var("CHPIPE_TEST_SKIPS") {
        writeln!(fs_err::OpenOptions::new().create(true).append(true).open(path).unwrap(), "{line}").unwrap();
    }
    assert!(std::env::var("CI").is_ok_and(|value| value == "true").not(), "{line}");
}

/// The server that a variable names; `None`, after a line that says so, where it is not set.
fn connection_of_variable(variable: &str, test: &str) -> Option<ServerConnection> {
    let Ok(url) = std::env::var(variable) else {
        eprintln!("SKIP {test}: {variable} is not set");
        return None;
    };
    let (scheme, rest) = url.split_once("://").expect("scheme://user:password@host:port");
    let (user, place) = rest.trim_end_matches('/').rsplit_once('@').unwrap_or(("default", rest));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = place.rsplit_once(':').expect("a port");
    Some(ServerConnection {
        host: host.to_owned(),
        port: port.parse().expect("a port"),
        user: user.to_owned(),
        password: Secret::new(password),
        secure: scheme == "https" || scheme == "tcps",
        ..ServerConnection::default()
    })
}
