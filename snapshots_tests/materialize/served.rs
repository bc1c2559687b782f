//! Several invocations on one warehouse, through `chpipe serve`: who waits, who fails, what an interrupted one leaves.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    harness::Project,
    materialize::{query, shop},
};

/// `chpipe serve` over the project's warehouse; other commands find it by themselves.
pub(crate) struct Served {
    child: Child,
    /// `host:port`.
    address: String,
    user: String,
    password: String,
}

impl Served {
    pub(crate) fn start(project: &Project) -> Self {
        let mut command = project.command();
        command.args(["serve", "--port", "0", "--s3-port", "0"]).stdout(Stdio::null()).stderr(Stdio::null());
        // From here on a panic ends the server.
        let mut served = Self {
            child: command.spawn().unwrap(),
            address: String::new(),
            user: String::new(),
            password: String::new(),
        };
        let note = project.path().join("warehouse/chpipe.serve.json");
        wait_for("the server", || note.exists().then_some(()));
        let note: serde_json::Value = serde_json::from_slice(&fs_err::read(note).unwrap()).unwrap();
        let text = |key: &str| note[key].as_str().unwrap().to_owned();
        served.address = text("url").trim_start_matches("http://").trim_end_matches('/').to_owned();
        (served.user, served.password) = (text("user"), text("password"));
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn wait_for<R>(what: &str, mut found: impl FnMut() -> Option<R>) -> R {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(180), "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// On one model the second invocation waits, or fails and names the first; other models go on. Ctrl-C ends the statement
/// on the server, and nothing is left behind; what a killed process leaves running is ended by the next run.
#[test]
fn one_model_is_one_invocations() {
    let project = shop();
    project.write("models/slow.sql", "{{ config(materialized='incremental', incremental_strategy='append', order_by='n', query_settings={'max_block_size': 1}) }}\nselect number as n, {{ 'sleepEachRow(0.5)' if var('slow', false) else '0' }} as m from numbers({{ 2000 if var('slow', false) else 2 }})\n");
    let _served = Served::start(&project);
    project.run(["run", "--select", "slow"]).success();
    let mut command = project.command();
    command.args(["run", "--select", "slow", "--vars", "{slow: true}"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut first = command.spawn().unwrap();
    let running = "select count() from system.processes where query like 'INSERT INTO%sleepEachRow%'";
    wait_for("the slow statement", || (query(&project, running) == ["1"]).then_some(()));

    let second = project.run(["run", "--select", "slow", "--lock-timeout", "0"]);
    assert_eq!(second.code, Some(1), "{}", second.stdout);
    assert!(second.stdout.contains("invocation"), "{}", second.stdout);
    project.run(["seed"]).success();
    project.run(["run", "--select", "stg_orders", "customers"]).success();

    let pid = nix::unistd::Pid::from_raw(i32::try_from(first.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = wait_for("the interrupted process", || first.try_wait().unwrap());
    assert_eq!(ended.code(), Some(130));
    wait_for("the end of the statement", || (query(&project, running) == ["0"]).then_some(()));
    project.run(["run", "--select", "slow"]).success();
    assert_eq!(query(&project, "select count() from shop.slow"), ["4"]);

    // Nobody tells the server that a killed process is gone; the next run of the model ends what it started.
    let mut killed = command.spawn().unwrap();
    wait_for("the slow statement", || (query(&project, running) == ["1"]).then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(query(&project, running), ["1"]);
    project.run(["run", "--select", "slow"]).success();
    assert_eq!(query(&project, running), ["0"]);
    assert_eq!(query(&project, "select count() from shop.slow"), ["6"]);
    assert_eq!(
        query(&project, "select name from system.tables where name like '%\\_\\_dbt\\_%'"),
        Vec::<String>::new()
    );
}

/// A project with views over `stream`, into which rows come by themselves and through a view over `landing`.
fn watched() -> Project {
    let project = shop()
        .file("models/stream.yml", "sources: [{name: shop, schema: shop, tables: [{name: stream}]}]\n")
        .file(
            "models/watched.sql",
            "{{ config(materialized='materialized_view', order_by='n') }}\nselect n from {{ source('shop', 'stream') }}\n",
        )
        .file("models/shared.sql", "{{ config(materialized='table', order_by='n') }}\nselect 0::UInt64 as n where 0\n")
        .file(
            "models/into.sql",
            "{{ config(materialized='materialized_view') }}\n{{ materialization_target_table(ref('shared')) }}\nselect n from {{ source('shop', 'stream') }}\n",
        );
    project.run(["query", "create database shop engine = Atomic"]).success();
    for sql in [
        "create table shop.stream (n UInt64) engine = MergeTree order by n",
        "create table shop.landing (n UInt64) engine = MergeTree order by n",
        "create materialized view shop.landed to shop.stream as select n from shop.landing",
    ] {
        project.run(["query", sql]).success();
    }
    project
}

/// A deployment and a redeployment while rows arrive: each is there once, in a table of the view's own and in another's.
#[test]
fn no_row_is_missed_while_views_are_deployed() {
    let project = watched();
    let _served = Served::start(&project);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let table = if written.is_multiple_of(2) { "stream" } else { "landing" };
                let sql = format!("insert into shop.{table} select {written} * 1000 + number from numbers(1000)");
                project.run(["query", sql.as_str()]).success();
                written += 1;
            }
            written
        });
        // Where rows never stop arriving it may give up, which says so; then nothing is there, or the next run goes on.
        let deployed = |arguments: &[&str]| {
            let outcome = project.run(arguments);
            let gave_up = ["all the time", "does not end"].iter().any(|text| outcome.stdout.contains(text));
            assert!(outcome.code == Some(0) || gave_up, "{}", outcome.stdout);
        };
        deployed(&["run", "--select", "watched", "shared", "into"]);
        deployed(&["run", "--select", "watched", "shared", "into", "--full-refresh"]);
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        // What gave up is made again.
        project.run(["run", "--select", "watched", "shared", "into"]).success();
        let expected = format!("{0}\t{0}", written * 1000);
        for table in ["watched", "shared"] {
            let rows = query(&project, &format!("select count(), uniqExact(n) from shop.{table}"));
            assert_eq!(rows, [expected.as_str()], "{table}");
        }
    });
}

/// An insert that began before the view, and reaches its source through another view after it is made, is waited for.
#[test]
fn an_insert_that_is_under_way_is_waited_for() {
    let project = watched();
    let _served = Served::start(&project);
    let slow = "insert into shop.landing select number from numbers(6) where sleepEachRow(0.5) = 0 settings max_block_size = 1";
    let mut insert = project.command().args(["query", slow]).stdout(Stdio::null()).spawn().unwrap();
    let running = "select count() from system.processes where query like 'insert into shop.landing%'";
    wait_for("the slow insert", || (query(&project, running) == ["1"]).then_some(()));
    project.run(["run", "--select", "watched", "shared", "into"]).success();
    assert!(insert.wait().unwrap().success());
    for table in ["watched", "shared"] {
        assert_eq!(query(&project, &format!("select count() from shop.{table}")), ["6"], "{table}");
    }
}

/// While a seed is loaded again its readers find the old rows or the new ones, all of them.
#[test]
fn a_seed_is_whole_while_it_is_loaded_again() {
    let project = shop();
    let rows = |word: &str| {
        let lines: Vec<String> = (0..1000).map(|number| format!("{number},{word}\n")).collect();
        project.write("seeds/words.csv", &format!("n,word\n{}", lines.concat()));
    };
    rows("old");
    let _served = Served::start(&project);
    project.run(["seed", "--select", "words"]).success();
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                seen.extend(query(&project, "select count(), groupUniqArray(word) from shop.words"));
            }
            seen
        });
        for word in ["new", "old", "new"] {
            rows(word);
            project.run(["seed", "--select", "words"]).success();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let whole = ["1000\t['new']", "1000\t['old']"];
    assert!(seen.iter().all(|state| whole.contains(&state.as_str())), "{seen:?}");
}

/// A proxy that is not sure whether an INSERT arrived, and sends it again; it answers how often it did so.
fn doubling_proxy(upstream: &str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let doubled = Arc::new(AtomicUsize::new(0));
    let (upstream, count) = (upstream.to_owned(), Arc::clone(&doubled));
    // It ends with the process; a connection carries one request.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (upstream, count) = (upstream.clone(), Arc::clone(&count));
            std::thread::spawn(move || forward(client, &upstream, &count));
        }
    });
    (port, doubled)
}

fn forward(mut client: TcpStream, upstream: &str, doubled: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length, mut line) = (Vec::new(), 0, String::new());
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        assert!(!lower.starts_with("transfer-encoding:"), "the proxy knows no chunks");
        if !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
        line.clear();
    }
    head.extend_from_slice(b"connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let send = || {
        let mut server = TcpStream::connect(upstream)?;
        server.write_all(&head)?;
        server.write_all(&body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    if body.starts_with(b"INSERT INTO") {
        send()?;
        doubled.fetch_add(1, Ordering::Relaxed);
    }
    client.write_all(&send()?)
}

/// Inserts carry a token: where the table keeps a window of them, one that is sent twice adds its rows once.
#[test]
fn a_repeated_insert_adds_nothing() {
    let project = shop()
        .file("models/kept.sql", "{{ config(materialized='incremental', incremental_strategy='append', order_by='n', settings={'non_replicated_deduplication_window': 100}) }}\nselect {{ var('n') }} + number as n from numbers(10)\n")
        .file("models/doubled.sql", "{{ config(materialized='incremental', incremental_strategy='append', order_by='n') }}\nselect number as n from numbers(10)\n");
    let served = Served::start(&project);
    let (port, doubled) = doubling_proxy(&served.address);
    let Served { user, password, .. } = &served;
    project.write(
        "profiles.yml",
        &format!(
            "shop:\n  target: dev\n  outputs:\n    dev: {{type: clickhouse, driver: http, host: 127.0.0.1, port: {port}, user: '{user}', password: '{password}', schema: shop, threads: 1}}\n"
        ),
    );
    // The same rows twice, by two invocations: those are no repetition.
    for n in [1, 1] {
        let vars = format!("{{n: {n}}}");
        project.run(["run", "--select", "kept", "--vars", &vars]).success();
    }
    assert_eq!(query(&project, "select count(), uniqExact(n) from shop.kept"), ["20\t10"]);
    // The first run makes the table with its rows in one statement, which is no INSERT.
    for _ in 0..2 {
        project.run(["run", "--select", "doubled"]).success();
    }
    assert_eq!(query(&project, "select count() from shop.doubled"), ["30"], "without a window the proxy is to blame");
    assert!(doubled.load(Ordering::Relaxed) >= 2);
}

/// Requests without a session share connections, one after another; nothing of a request is there in the next.
#[test]
fn a_request_without_a_session_leaves_nothing() {
    let project = shop();
    let served = Served::start(&project);
    let ask = |parameters: &str, sql: &str| {
        let mut server = TcpStream::connect(&served.address).unwrap();
        let (user, key) = (&served.user, &served.password);
        let head = format!("x-clickhouse-user: {user}\r\nx-clickhouse-key: {key}\r\ncontent-length: {}", sql.len());
        write!(server, "POST /?{parameters} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{head}\r\n\r\n{sql}").unwrap();
        let mut answer = String::new();
        server.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.trim_end().to_owned()
    };
    let state = "SELECT getSetting('max_block_size'), getSetting('max_threads') > 100, getSetting('readonly'), \
                 currentDatabase(), (SELECT count() FROM system.tables WHERE is_temporary)";
    let as_new = ask("", state);
    assert!(as_new.ends_with("\t0\t0\tdefault\t0"), "{as_new}");
    for (parameters, sql) in [
        ("max_block_size=7&max_threads=101", "SELECT getSetting('max_block_size')"),
        ("max_block_size=7", "SELECT no_such_column"),
        ("max_threads=101", "SET max_block_size = 7"),
        ("max_block_size=8", "SELECT 1 SETTINGS max_threads = 102"),
        ("max_block_size=many", "SELECT 1"),
        ("readonly=1", "SELECT 1"),
        ("compatibility=19.1", "SELECT 1"),
        ("database=system", "SELECT count() FROM one"),
        ("", "USE system"),
        ("", "CREATE TEMPORARY TABLE t (x UInt8)"),
        ("", "CREATE OR REPLACE TEMPORARY TABLE t (x UInt8) ENGINE = Memory"),
    ] {
        let answer = ask(parameters, sql);
        assert_eq!(ask("", state), as_new, "after {parameters} {sql}: {answer}");
    }
    assert_eq!(ask("max_block_size=7", "SELECT getSetting('max_block_size')"), "7");
    assert_eq!(ask("max_block_size=9", "SELECT getSetting('max_block_size')"), "9");
}
