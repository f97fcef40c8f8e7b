// SPDX-License-Identifier: AGPL-3.0-only
//! A small HTTP/1.1 client, with and without TLS, that does exactly what it is told, so that a test can also stop in the middle
//! of a request, stream without end in memory, or read an answer piece by piece.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use serde_json::Value;

use crate::channel::Channel;
use crate::host::Host;

const PATIENCE: Duration = Duration::from_mins(1);

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request without headers and body. `target` is a path, with a query if need be, or a whole URL.
    pub fn new(method: &str, target: &str) -> Self {
        let path = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
        let path = path.and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
        let target = path.unwrap_or(target).to_owned();
        Self { method: method.to_owned(), target, headers: Vec::new(), body: Vec::new() }
    }

    /// `GET target`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Its method and target.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// Adds a parameter to the query, its value as it stands.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        write!(self.target, "{separator}{name}={value}").unwrap();
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Sends it on a connection of its own to `host`, and reads the whole answer.
    #[track_caller]
    pub fn send(&self, host: impl Into<Host>) -> Response {
        let mut connection = Connection::open(host);
        connection.send_head(self, Some(self.body.len() as u64));
        // A server may answer and close before it has read everything.
        let _ = connection.write(&self.body);
        connection.response(self)
    }
}

/// A connection to the server.
#[derive(Debug)]
pub struct Connection {
    host: Host,
    stream: BufReader<Channel>,
}

impl Connection {
    /// Connects to `host`.
    #[track_caller]
    pub fn open(host: impl Into<Host>) -> Self {
        let host = host.into();
        let opened = Self::try_open(&host);
        opened.unwrap_or_else(|error| panic!("cannot reach {host}: {error}"))
    }

    /// Connects to `host`, where a server need not be.
    pub fn try_open(host: impl Into<Host>) -> io::Result<Self> {
        let host = host.into();
        let stream = host.connect()?;
        stream.socket().set_read_timeout(Some(PATIENCE))?;
        stream.socket().set_write_timeout(Some(PATIENCE))?;
        stream.socket().set_nodelay(true)?;
        Ok(Self { host, stream: BufReader::with_capacity(256 << 10, stream) })
    }

    /// Sends a request and reads its answer, from a server that may be gone at any moment.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.try_send_head(request, Some(request.body.len() as u64))?;
        // A server may answer and close before it has read everything.
        let _ = self.write(&request.body);
        self.try_response(request)
    }

    /// Sends all of a request but its body, of which it says the length; without one it says that chunks
    /// follow.
    #[track_caller]
    pub fn send_head(&mut self, request: &Request, length: Option<u64>) {
        self.try_send_head(request, length).unwrap();
    }

    /// As [`Connection::send_head`], to a server that may be gone.
    pub fn try_send_head(&mut self, request: &Request, length: Option<u64>) -> io::Result<()> {
        let head = self.head(request, length);
        self.write(head.as_bytes())
    }

    fn head(&self, request: &Request, length: Option<u64>) -> String {
        let Request { method, target, headers, .. } = request;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(authorization) = self.host.authorization() {
            write!(head, "Authorization: {authorization}\r\n").unwrap();
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        match length {
            Some(0) if matches!(method.as_str(), "GET" | "HEAD") => {}
            Some(length) => write!(head, "Content-Length: {length}\r\n").unwrap(),
            None => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str("\r\n");
        head
    }

    /// Sends these bytes.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends these bytes as one chunk; an empty one ends the body.
    pub fn write_chunk(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.write(bytes)?;
        self.write(b"\r\n")
    }

    /// Reads the answer to `request`, body and all.
    #[track_caller]
    pub fn response(&mut self, request: &Request) -> Response {
        let read = self.try_response(request);
        read.unwrap_or_else(|error| panic!("{}: {error}", request.line()))
    }

    /// As [`Connection::response`], from a server that may be gone.
    pub fn try_response(&mut self, request: &Request) -> io::Result<Response> {
        let mut response = self.try_response_head(request)?;
        let bodiless = request.method == "HEAD" || matches!(response.status, 204 | 304);
        if bodiless {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
                let size = size.map_err(|_| broken("not the size of a chunk"))?;
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk)?;
                if size == 0 {
                    return Ok(response);
                }
                response.body.extend_from_slice(&chunk[..size]);
            }
        }
        let length = response.header("content-length").map(|value| value.parse::<u64>().unwrap());
        let mut body = Vec::new();
        self.body(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
        if length.is_some_and(|length| body.len() as u64 != length) {
            return Err(broken("the body ended early"));
        }
        response.body = body;
        Ok(response)
    }

    /// Reads the answer to `request` up to its body.
    #[track_caller]
    pub fn response_head(&mut self, request: &Request) -> Response {
        let read = self.try_response_head(request);
        read.unwrap_or_else(|error| panic!("{}: {error}", request.line()))
    }

    fn try_response_head(&mut self, request: &Request) -> io::Result<Response> {
        let what = request.line();
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken("no answer"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
                None if line.is_empty() => return Ok(Response { what, status, headers, body: Vec::new() }),
                None => return Err(broken("not a header")),
            }
        }
    }

    /// The next `length` bytes, to be read piece by piece.
    pub fn body(&mut self, length: u64) -> impl Read {
        self.stream.by_ref().take(length)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.ends_with('\n') {
            Ok(line.trim_end().to_owned())
        } else {
            Err(broken("the connection was closed"))
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The request that it answers.
    pub what: String,
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// Panics, showing the answer, unless its status is `status`.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the status is all that matters")]
    pub fn must_be(self, status: u16) -> Self {
        self.must_be_one_of(&[status])
    }

    /// Panics, showing the answer, unless its status is one of `statuses`.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the status is all that matters")]
    pub fn must_be_one_of(self, statuses: &[u16]) -> Self {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(2000).collect();
        let Self { what, status, headers, .. } = &self;
        assert!(statuses.contains(status), "{what}: {status} instead of {statuses:?}\n{headers:?}\n{body}");
        self
    }

    /// The value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that must be there.
    #[track_caller]
    pub fn must_have(&self, name: &str) -> &str {
        // Not a closure, which would hide the caller.
        let Some(value) = self.header(name) else {
            panic!("{}: no header {name} in {:?}", self.what, self.headers)
        };
        value
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{}: {error} in {}", self.what, String::from_utf8_lossy(&self.body)),
        }
    }
}
