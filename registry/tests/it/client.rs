// SPDX-License-Identifier: AGPL-3.0-only
//! A small HTTP/1.1 client that changes nothing: what a test writes is what goes over the wire, be it
//! `..` in a path, two lengths or half a request.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use stella_tests::Channel;

use crate::server::Server;

/// Longer than anything here takes: a server that hangs fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request to be sent.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    payload: Payload,
}

#[derive(Clone)]
enum Payload {
    None,
    Whole(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

pub(crate) fn get(target: impl Into<String>) -> Request {
    Request::new("GET", target)
}

pub(crate) fn head(target: impl Into<String>) -> Request {
    Request::new("HEAD", target)
}

pub(crate) fn post(target: impl Into<String>) -> Request {
    Request::new("POST", target).body([])
}

pub(crate) fn put(target: impl Into<String>) -> Request {
    Request::new("PUT", target).body([])
}

pub(crate) fn patch(target: impl Into<String>) -> Request {
    Request::new("PATCH", target).body([])
}

pub(crate) fn delete(target: impl Into<String>) -> Request {
    Request::new("DELETE", target)
}

impl Request {
    pub(crate) fn new(method: &str, target: impl Into<String>) -> Self {
        let (method, target) = (method.to_owned(), target.into());
        Request {
            method,
            target,
            headers: vec![("Host".into(), "registry.test".into())],
            payload: Payload::None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A body with its length.
    pub(crate) fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.payload = Payload::Whole(bytes.as_ref().to_vec());
        self
    }

    /// A body in chunks, without its length.
    pub(crate) fn chunked(mut self, chunks: &[&[u8]]) -> Self {
        self.payload = Payload::Chunked(chunks.iter().map(|chunk| chunk.to_vec()).collect());
        self
    }

    /// Sends it on a connection of its own.
    pub(crate) fn to(&self, server: &Server) -> Answer {
        self.on(&mut server.connect())
    }

    /// Sends it on a connection that is there.
    pub(crate) fn on(&self, wire: &mut Wire) -> Answer {
        wire.send(self.bytes());
        wire.answer_to(&self.method)
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        match &self.payload {
            Payload::None => bytes.extend(b"\r\n"),
            Payload::Whole(body) => {
                bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                bytes.extend(body);
            }
            Payload::Chunked(chunks) => {
                bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in chunks {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Statuses of the 1xx answers before it.
    pub(crate) interim: Vec<u16>,
}

impl Answer {
    /// A header that occurs once, or not at all.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} occurs more than once: {all:?}");
        all.first().copied()
    }

    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let wanted = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub(crate) fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self}"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Checks the status; gives the answer back for more.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        write!(f, "{} {:?}: {body}", self.status, self.headers)
    }
}

/// A connection, byte by byte, with or without TLS.
pub(crate) struct Wire(BufReader<Channel>);

impl Wire {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::through(Channel::plain(Self::socket(address)))
    }

    pub(crate) fn through(channel: Channel) -> Self {
        Wire(BufReader::new(channel))
    }

    /// A connection on which nothing was said.
    pub(crate) fn socket(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.get_ref().socket()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// Says that nothing more will come, also to a server that has answered and gone meanwhile.
    pub(crate) fn finish(&mut self) {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
        match self.0.get_mut().finish() {
            Err(error) if ![BrokenPipe, ConnectionReset, NotConnected].contains(&error.kind()) => {
                panic!("{error}");
            }
            _ => {}
        }
    }

    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Reads one answer; that to a HEAD has no body whatever its headers say.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    pub(crate) fn try_answer_to(&mut self, method: &str) -> std::io::Result<Answer> {
        let mut answer = Answer { status: 0, headers: Vec::new(), body: Vec::new(), interim: Vec::new() };
        loop {
            self.read_head(&mut answer)?;
            if answer.status >= 200 {
                break;
            }
            answer.interim.push(answer.status);
        }
        if method == "HEAD" || matches!(answer.status, 204 | 304) {
            return Ok(answer);
        }
        answer.body = if answer.header("transfer-encoding").is_some() {
            self.read_chunks()?
        } else if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.0.read_exact(&mut body)?;
            body
        } else {
            let mut body = Vec::new();
            self.0.read_to_end(&mut body)?;
            body
        };
        Ok(answer)
    }

    fn read_head(&mut self, answer: &mut Answer) -> std::io::Result<()> {
        answer.headers.clear();
        let status = self.line()?;
        let mut words = status.split(' ');
        assert!(words.next().is_some_and(|version| version.starts_with("HTTP/1.")), "{status:?}");
        answer.status = words.next().unwrap().parse().unwrap();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) = line.split_once(':').unwrap();
            answer.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn read_chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).unwrap();
            let start = body.len();
            body.resize(start + length, 0);
            self.0.read_exact(&mut body[start..])?;
            assert_eq!(self.line()?, "");
            if length == 0 {
                return Ok(body);
            }
        }
    }

    /// Reads one frame of HTTP/2: its first nine bytes, and the rest.
    pub(crate) fn frame(&mut self) -> ([u8; 9], Vec<u8>) {
        let mut start = [0; 9];
        self.0.read_exact(&mut start).unwrap();
        let mut payload = vec![0; usize::from(start[1]) << 8 | usize::from(start[2])];
        self.0.read_exact(&mut payload).unwrap();
        (start, payload)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads and drops until the server closes; false if it does not within `limit`.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.stream().set_read_timeout(Some(limit)).unwrap();
        let mut rest = Vec::new();
        let ended = self.0.read_to_end(&mut rest);
        self.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        !matches!(ended, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}
