//! The recorded responses, served by their own replay.py where this machine has it (`CHPIPE_TEST_ERGAST`, or
//! `shared/ergast` beside the repository): on a port that the system chose, with a log of every request.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Runs replay.py as it is, but says which port it got, logs requests, and switches throttling and faults off and on.
const RUNNER: &str = r#"
import http.server, sys
script, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)
sys.argv = [script, *sys.argv[3:]]
state = {"__name__": "__main__", "__file__": script}

class Server(http.server.ThreadingHTTPServer):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        print("port", self.server_address[1], flush=True)
        state["given"] = (state["faults"], state["a"].burst)

parse = http.server.BaseHTTPRequestHandler.parse_request

def parse_request(self):
    known = parse(self)
    if known and self.path in ("/__calm", "/__rough"):
        state["faults"], state["a"].burst = ([], 0) if self.path == "/__calm" else state["given"]
        self.path = "/__stats"
    elif known:
        log.write(self.path + "\n")
    return known

http.server.ThreadingHTTPServer = Server
http.server.BaseHTTPRequestHandler.parse_request = parse_request
exec(compile(open(script, encoding="utf-8").read(), script, "exec"), state)
"#;

/// Why a test that needs the replay is skipped.
pub(crate) const MISSING: &str = "the recorded responses, Python 3 or zstd are not on this machine";

/// The folder of the recordings and of replay.py.
pub(crate) fn ergast() -> Option<PathBuf> {
    let named = std::env::var_os("CHPIPE_TEST_ERGAST").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared/ergast"));
    named.into_iter().chain(beside).find(|dir| dir.join("recorded_responses.tar.zst").is_file())
}

/// A replay that runs until this is dropped.
pub(crate) struct Replay {
    child: Child,
    port: u16,
    /// The log, and where the recordings are unpacked.
    folder: tempfile::TempDir,
}

impl Replay {
    /// `None` where the recordings, Python or zstd are missing.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let script = ergast()?.join("replay.py");
        let has = |tool: &str| {
            let mut command = Command::new(tool);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !script.is_file() || !has("python3") || !has("zstd") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("python3")
            .args(["-c", RUNNER])
            .arg(script)
            .arg(folder.path().join("requests.log"))
            .args(["--port", "0"])
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("port ")?.parse().ok());
        let port = port.expect("the replay says which port it got");
        Some(Self { child, port, folder })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/ergast/f1/", self.port)
    }

    /// The paths, with their queries, that were asked for so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs_err::read_to_string(self.folder.path().join("requests.log")).unwrap();
        // A line that is just being written is none yet.
        log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    /// Throttling and faults off, or on again as they were given.
    pub(crate) fn set_calm(&self, is_calm: bool) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let path = if is_calm { "/__calm" } else { "/__rough" };
        write!(stream, "GET {path} HTTP/1.1\r\nHost: replay\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
