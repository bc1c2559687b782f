//! The engines from outside: two processes and one warehouse, and what a user reads when a server or a directory refuses.

use std::{
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Outcome, Project};

/// Longer than anything here takes on a loaded machine: only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A process that does not outlive its test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the process does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

fn warehouse(project: &Project) -> PathBuf {
    project.path().join(".chpipe/warehouse")
}

/// Waits until this process has the directory.
fn wait_for_holder(project: &Project, running: &Running) {
    let started = Instant::now();
    while chpipe::engine::holder(&warehouse(project)).is_none_or(|holder| holder.pid != running.pid()) {
        assert!(started.elapsed() < PATIENCE, "the process does not take the directory");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `chpipe serve` on free ports; answers the port of the HTTP interface once it accepts.
pub(crate) fn serve(project: &Project) -> (Running, u16) {
    let mut running = start(project.command().args(["serve", "--port", "0", "--s3-port", "0"]));
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap();
    let port = port.parse().unwrap_or_else(|_| panic!("no port in {line:?}"));
    (running, port)
}

/// A statement that holds the directory until its process is ended.
fn hold(project: &Project) -> Running {
    let endless = "SELECT max(sipHash64(number)) FROM numbers(100000000000000)";
    let running = start(project.command().args(["query", endless]));
    wait_for_holder(project, &running);
    running
}

fn query(project: &Project, sql: &str) -> Outcome {
    project.run(["query", "--format", "TSVRaw", sql])
}

/// While `chpipe serve` has the directory, other processes work on it through it, without being told; once it has gone
/// they open it themselves.
#[test]
fn other_processes_go_through_serve() {
    let project = Project::new();
    query(&project, "CREATE DATABASE a ENGINE = Atomic").success();
    let (mut serving, _) = serve(&project);
    query(&project, "CREATE TABLE a.t (n UInt64, s String) ENGINE = MergeTree ORDER BY n").success();
    query(&project, "INSERT INTO a.t SELECT number, 'it''s' FROM numbers(1000)").success();
    assert_eq!(query(&project, "SELECT sum(n), any(s) FROM a.t").success().stdout, "499500\tit's\n");
    let several: Vec<_> = (0..3)
        .map(|_| start(project.command().args(["query", "--format", "TSVRaw", "SELECT count() FROM a.t"])))
        .collect();
    for mut running in several {
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!((line.as_str(), running.end().code()), ("1000\n", Some(0)));
    }
    let failed = query(&project, "SELECT nothing FROM a.t");
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr.contains("UNKNOWN_IDENTIFIER"), "{}", failed.stderr);
    let status = project.run(["engine", "status"]).success();
    assert!(status.stdout.contains(&format!("chpipe serve` (pid {}", serving.pid())), "{}", status.stdout);
    assert_eq!(chpipe::engine::holder(&warehouse(&project)).unwrap().pid, serving.pid());
    serving.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(serving.end().code(), Some(0));
    assert_eq!(query(&project, "SELECT count() FROM a.t").success().stdout, "1000\n");
}

/// A `serve` that was killed leaves its note behind, which misleads nobody.
#[test]
fn a_killed_serve_is_forgotten() {
    let project = Project::new();
    let (mut serving, port) = serve(&project);
    query(&project, "CREATE DATABASE a ENGINE = Atomic").success();
    serving.signal(nix::sys::signal::Signal::SIGKILL);
    serving.end();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(query(&project, "EXISTS DATABASE a").success().stdout, "1\n");
}

/// Where the holder does not serve, the second process waits, then names it; and takes the directory once it is free.
#[test]
fn a_directory_in_use_is_waited_for() {
    let project = Project::new();
    query(&project, "CREATE DATABASE a ENGINE = Atomic").success();
    let mut holding = hold(&project);
    let refused = project.run(["--lock-timeout", "0", "query", "SELECT 1"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(&format!("is in use by `chpipe query` (pid {}", holding.pid())), "{refused:?}");
    assert!(refused.stderr.contains("--lock-timeout"), "{refused:?}");
    let mut waiting =
        start(project.command().args(["--lock-timeout", "170", "query", "--format", "TSVRaw", "EXISTS DATABASE a"]));
    // It may not have come to the lock yet; the answer is the same.
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.0.try_wait().unwrap().is_none(), "it did not wait");
    holding.signal(nix::sys::signal::Signal::SIGKILL);
    holding.end();
    let mut line = String::new();
    BufReader::new(waiting.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), waiting.end().code()), ("1\n", Some(0)));
}

/// Ctrl-C ends a running statement at once, with the exit code of an interrupt, and frees the directory.
#[test]
fn an_interrupt_ends_a_statement() {
    let project = Project::new();
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        let mut holding = hold(&project);
        holding.signal(signal);
        assert_eq!(holding.end().code(), Some(130));
        assert_eq!(query(&project, "SELECT 1").success().stdout, "1\n");
    }
}

fn server_profile(driver: &str, port: u16, more: &str) -> String {
    format!(
        "test:\n  target: server\n  outputs:\n    server:\n      type: clickhouse\n      driver: {driver}\n      \
         host: 127.0.0.1\n      port: {port}\n      user: someone\n      password: of-the-test-83\n      schema: default\n      \
         connect_timeout: 20\n{more}"
    )
}

/// What is said of a server that is not there, refuses the password, or does not speak TLS: what, where, what to do, and never the password.
#[test]
fn servers_that_refuse_are_told() {
    let served = Project::new();
    let (_serving, port) = serve(&served);
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let closed_port = closed.local_addr().unwrap().port();
    drop(closed);
    let tls = "      secure: true\n";
    let cases = [
        ("http", port, "", vec!["AUTHENTICATION_FAILED", "someone", "profiles.yml"]),
        ("http", port, tls, vec!["127.0.0.1", "TLS", "secure"]),
        ("http", closed_port, "", vec!["cannot reach ClickHouse", "refused", "profiles.yml"]),
        ("native", closed_port, "", vec!["cannot reach ClickHouse", "refused", "profiles.yml"]),
        ("native", port, "", vec!["cannot reach ClickHouse", "port", "9000"]),
        ("native", port, tls, vec!["127.0.0.1", "TLS", "secure"]),
    ];
    for (driver, port, more, expected) in cases {
        let project = Project::new()
            .file("dbt_project.yml", "name: test\nversion: 1.0.0\nprofile: test\n")
            .file("profiles.yml", &server_profile(driver, port, more));
        let outcome = project.run(["query", "SELECT 1"]);
        let text = format!("{driver} {more:?}: {}", outcome.transcript());
        assert_eq!(outcome.code, Some(2), "{text}");
        for part in expected {
            assert!(outcome.stderr.contains(part), "`{part}` is not in {text}");
        }
        assert!(!text.contains("of-the-test-83"), "{text}");
    }
}
