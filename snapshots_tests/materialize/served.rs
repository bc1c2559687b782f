//! Several invocations on one warehouse, through `chpipe serve`: who waits, who fails, what an interrupted one leaves.

use std::{
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    harness::Project,
    materialize::{query, shop},
};

/// `chpipe serve` over the project's warehouse; other commands find it by themselves.
pub(crate) struct Served(Child);

impl Served {
    pub(crate) fn start(project: &Project) -> Self {
        let mut command = project.command();
        command.args(["serve", "--port", "0", "--s3-port", "0"]).stdout(Stdio::null()).stderr(Stdio::null());
        let served = Self(command.spawn().unwrap());
        let note = project.path().join("warehouse/chpipe.serve.json");
        wait_for("the server", || note.exists().then_some(()));
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<R>(what: &str, mut found: impl FnMut() -> Option<R>) -> R {
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
/// on the server, and nothing is left behind.
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
    assert_eq!(
        query(&project, "select name from system.tables where name like '%\\_\\_dbt\\_%'"),
        Vec::<String>::new()
    );
}

/// A deployment and a redeployment while rows arrive: each is there once.
#[test]
fn no_row_is_missed_while_views_are_deployed() {
    let project = shop()
        .file(
            "models/watched.sql",
            "{{ config(materialized='materialized_view', order_by='n') }}\nselect n from {{ source('shop', 'stream') }}\n",
        )
        .file("models/stream.yml", "sources: [{name: shop, schema: shop, tables: [{name: stream}]}]\n");
    let _served = Served::start(&project);
    project.run(["seed"]).success();
    project.run(["query", "create table shop.stream (n UInt64) engine = MergeTree order by n"]).success();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let sql = format!("insert into shop.stream select {written} * 1000 + number from numbers(1000)");
                project.run(["query", sql.as_str()]).success();
                written += 1;
            }
            written
        });
        // Where rows never stop arriving it may give up, which says so.
        let deployed = |arguments: &[&str]| {
            let outcome = project.run(arguments);
            assert!(outcome.code == Some(0) || outcome.stdout.contains("all the time"), "{}", outcome.stdout);
            outcome.code == Some(0)
        };
        let mut done = deployed(&["run", "--select", "watched"]);
        done |= deployed(&["run", "--select", "watched", "--full-refresh"]);
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        if !done {
            project.run(["run", "--select", "watched", "--full-refresh"]).success();
        }
        // One that gave up is made again.
        project.run(["run", "--select", "watched"]).success();
        let expected = format!("{0}\t{0}", written * 1000);
        assert_eq!(query(&project, "select count(), uniqExact(n) from shop.watched"), [expected]);
    });
}
