//! A ZooKeeper of Debian's package, on a port of its own, for the tests of S3Queue.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::repository;

/// What the server needs; of `scripts/fetch-debian.sh`, or installed.
const JARS: [&str; 6] = ["zookeeper", "zookeeper-jute", "slf4j-api", "netty-all", "metrics-core", "snappy-java"];

/// A running server; it ends with the test.
pub(crate) struct ZooKeeper {
    child: Child,
    pub(crate) address: String,
    _dir: tempfile::TempDir,
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ZooKeeper {
    /// Starts a server, and waits until it answers. What the machine lacks is the error.
    pub(crate) fn start() -> Result<Self, String> {
        let jars = JARS.map(jar).into_iter().collect::<Result<Vec<_>, String>>()?;
        let class_path: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
        if Command::new("java").arg("-version").stderr(Stdio::null()).status().is_err() {
            return Err("there is no java".into());
        }
        // Another process may take the port between the look at it and the start.
        for _ in 0..5 {
            if let Some(server) = Self::start_on(free_port(), &class_path.join(":")) {
                return Ok(server);
            }
        }
        panic!("ZooKeeper did not start on five ports");
    }

    fn start_on(port: u16, class_path: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let configuration = dir.path().join("zoo.cfg");
        // A short tick lets the session of a killed consumer end in ten seconds.
        let text = format!(
            "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={port}\nadmin.enableServer=false\ntickTime=500\n\
             maxClientCnxns=0\n4lw.commands.whitelist=ruok\n",
            dir.path().join("data").display()
        );
        fs_err::write(&configuration, text).unwrap();
        let child = Command::new("java")
            .args([
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-cp",
                class_path,
                "org.apache.zookeeper.server.ZooKeeperServerMain",
            ])
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, address: format!("127.0.0.1:{port}"), _dir: dir };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120) {
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            if is_ok(port) {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("ZooKeeper did not answer within two minutes");
    }
}

fn jar(name: &str) -> Result<PathBuf, String> {
    let below = format!("usr/share/java/{name}.jar");
    [repository().join(".cache/debian").join(&below), PathBuf::from("/").join(&below)]
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| format!("there is no {name}.jar; run scripts/fetch-debian.sh"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_ok(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut answer = String::new();
    stream.write_all(b"ruok").is_ok() && stream.read_to_string(&mut answer).is_ok() && answer == "imok"
}
