//! Debian's ClickHouse 18.16 for the conformance suite, for as long as the test process lives.

use std::{
    collections::HashSet,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::config::{Secret, ServerConnection};

const PREFIX: &str = "chpipe-test-clickhouse-";

pub(super) struct OldServer {
    port: u16,
}

impl OldServer {
    /// Starts it in a folder of its own; the error is the reason to skip.
    pub(super) fn start() -> Result<Self, String> {
        let debian = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/debian");
        let binary = debian.join("usr/sbin/clickhouse-server");
        if !binary.is_file() {
            return Err("Debian's clickhouse-server is not unpacked: scripts/fetch-debian.sh".into());
        }
        remove_left_over();
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        fs_err::create_dir_all(folder.join("data/tmp")).unwrap();
        let path = folder.display();
        // Port 0: the system gives a free one, which nobody can take in between.
        let config = format!(
            "<yandex><logger><level>error</level><console>1</console></logger><tcp_port>0</tcp_port>\
             <listen_host>127.0.0.1</listen_host><path>{path}/data/</path><tmp_path>{path}/data/tmp/</tmp_path>\
             <users_config>{path}/users.xml</users_config><mark_cache_size>100000000</mark_cache_size>\
             <default_profile>default</default_profile><default_database>default</default_database></yandex>"
        );
        let users = "<yandex><profiles><default/></profiles><users><default><password>old</password>\
                     <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>\
                     </default></users><quotas><default/></quotas></yandex>";
        fs_err::write(folder.join("config.xml"), config).unwrap();
        fs_err::write(folder.join("users.xml"), users).unwrap();
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"]
            .map(|library| debian.join(library).display().to_string())
            .join(":");
        let mut command = Command::new(binary);
        command
            .arg(format!("--config-file={path}/config.xml"))
            .env("LD_LIBRARY_PATH", libraries)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // SAFETY: prctl is async-signal-safe. The server ends with the thread that started it, which is never joined.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let (started, start) = std::sync::mpsc::channel();
        let (said, says) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let Ok(mut child) = command.spawn() else { return };
            let _ = started.send(child.id());
            let mut text = String::new();
            let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
            let _ = child.wait();
            let _ = said.send(text);
        });
        let pid = start.recv().map_err(|_| "clickhouse-server 18.16 cannot be started".to_owned())?;
        let began = Instant::now();
        loop {
            if let Some(port) = listening_port(pid) {
                return Ok(Self { port });
            }
            if let Ok(text) = says.try_recv() {
                return Err(format!("clickhouse-server 18.16 does not start: {}", text.lines().next().unwrap_or("")));
            }
            assert!(began.elapsed() < Duration::from_secs(300), "clickhouse-server 18.16 does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn connection(&self) -> ServerConnection {
        ServerConnection {
            host: "127.0.0.1".into(),
            port: self.port,
            password: Secret::new("old"),
            ..ServerConnection::default()
        }
    }
}

/// The port that a process listens on, from its sockets and the system's list of them (proc(5)).
fn listening_port(pid: u32) -> Option<u16> {
    let folder = format!("/proc/{pid}/fd");
    let sockets: HashSet<String> = fs_err::read_dir(folder)
        .ok()?
        .filter_map(|file| fs_err::read_link(file.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let list = fs_err::read_to_string("/proc/net/tcp").ok()?;
    list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        // 0A is LISTEN.
        let found = *state == "0A" && sockets.contains(*inode);
        u16::from_str_radix(address.split_once(':')?.1, 16).ok().filter(|_| found)
    })
}

/// Folders of test processes that are gone.
fn remove_left_over() {
    let Ok(entries) = fs_err::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            // Another test process may be removing it too.
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}
