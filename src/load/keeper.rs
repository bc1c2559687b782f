//! ZooKeeper's protocol, as much of it as tells what S3Queue has read: children, data, and the removal of a node that a
//! dead consumer left. The embedded engine has no `system.zookeeper`, and what it remembers of files ends with its process.
//! In: an address; out: names and bytes. It creates nothing.
//! <https://github.com/apache/zookeeper/blob/master/zookeeper-jute/src/main/resources/zookeeper.jute>

use std::{
    io::{Error, ErrorKind, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the session outlives the connection, in milliseconds.
const SESSION: i32 = 10_000;
/// An answer beyond this is no answer of ZooKeeper's.
const LARGEST_ANSWER: usize = 512 * 1024 * 1024;
/// Requests that are sent before their answers are read.
const PIPELINED: usize = 200;
/// ZooKeeper's NONODE.
const NO_NODE: i32 = -101;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Delete = 2,
    Data = 4,
    Children = 8,
    Close = -11,
}

/// A session with a ZooKeeper or ClickHouse Keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    stream: TcpStream,
    request: i32,
}

impl Keeper {
    /// Opens a session at `host:port`.
    pub(super) fn connect(address: &str) -> Result<Self, Error> {
        let with_port = if address.contains(':') { address.to_owned() } else { format!("{address}:2181") };
        let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
        for socket in with_port.to_socket_addrs()? {
            match TcpStream::connect_timeout(&socket, TIMEOUT) {
                Ok(stream) => return Self::begin(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn begin(stream: TcpStream) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut keeper = Self { stream, request: 0 };
        let mut hello = Vec::new();
        hello.extend(0_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(SESSION.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(16_i32.to_be_bytes());
        hello.extend([0; 16]);
        // Not read-only.
        hello.push(0);
        keeper.send(&hello)?;
        keeper.receive()?;
        Ok(keeper)
    }

    /// The names below a path; none where there is no such path.
    pub(super) fn children(&mut self, path: &str) -> Result<Vec<String>, Error> {
        self.ask(Operation::Children, path)?;
        let Some(answer) = self.answer(path)? else { return Ok(Vec::new()) };
        let mut reader = Reader(&answer);
        let count = reader.number()?;
        (0..count).map(|_| Ok(String::from_utf8_lossy(reader.buffer()?).into_owned())).collect()
    }

    /// Name and content of these nodes below a path; one that is gone meanwhile is left out.
    pub(super) fn nodes(&mut self, path: &str, names: &[String]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut nodes = Vec::with_capacity(names.len());
        for names in names.chunks(PIPELINED) {
            for name in names {
                self.ask(Operation::Data, &format!("{path}/{name}"))?;
            }
            for name in names {
                let Some(answer) = self.answer(path)? else { continue };
                nodes.push((name.clone(), Reader(&answer).buffer()?.to_vec()));
            }
        }
        Ok(nodes)
    }

    /// Removes a node; one that is gone is no error.
    pub(super) fn delete(&mut self, path: &str) -> Result<(), Error> {
        self.ask(Operation::Delete, path)?;
        self.answer(path)?;
        Ok(())
    }

    fn ask(&mut self, operation: Operation, path: &str) -> Result<(), Error> {
        self.request += 1;
        let mut message = Vec::with_capacity(path.len() + 16);
        message.extend(self.request.to_be_bytes());
        message.extend((operation as i32).to_be_bytes());
        if !matches!(operation, Operation::Close) {
            message.extend(i32::try_from(path.len()).unwrap_or(i32::MAX).to_be_bytes());
            message.extend(path.as_bytes());
        }
        match operation {
            // Any version.
            Operation::Delete => message.extend((-1_i32).to_be_bytes()),
            // No watch.
            Operation::Data | Operation::Children => message.push(0),
            Operation::Close => {}
        }
        self.send(&message)
    }

    /// What follows the header of the next answer; `None` where there is no such node.
    fn answer(&mut self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut answer = self.receive()?;
        let mut reader = Reader(&answer);
        let (_request, _transaction, error) = (reader.number()?, reader.long()?, reader.number()?);
        match error {
            0 => Ok(Some(answer.split_off(16))),
            NO_NODE => Ok(None),
            code => Err(Error::other(format!("it answers {code} for `{path}`"))),
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let length = i32::try_from(message.len()).unwrap_or(i32::MAX);
        let mut frame = Vec::with_capacity(message.len() + 4);
        frame.extend(length.to_be_bytes());
        frame.extend(message);
        self.stream.write_all(&frame)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LARGEST_ANSWER {
            return Err(Error::new(ErrorKind::InvalidData, "it does not speak ZooKeeper's protocol"));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Else the session would linger until its time is over.
        let _ = self.ask(Operation::Close, "");
    }
}

/// The numbers and strings of an answer.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        if self.0.len() < count {
            return Err(Error::new(ErrorKind::UnexpectedEof, "its answer is cut off"));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<i32, Error> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn long(&mut self) -> Result<i64, Error> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(i64::from_be_bytes(bytes))
    }

    /// A string or byte array; -1 stands for none.
    fn buffer(&mut self) -> Result<&'a [u8], Error> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or_default())
    }
}
