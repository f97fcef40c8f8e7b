// SPDX-License-Identifier: AGPL-3.0-only
//! As much of HTTP/1.1 as the client of the benches needs: finding where an answer ends, without keeping it.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long a connection may stand still before the measurement fails.
pub(crate) const STALL: Duration = Duration::from_mins(1);

/// Connects to `host`.
pub(crate) fn connect(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream)
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status code.
    pub(crate) status: u16,
    /// Where the body begins.
    pub(crate) size: usize,
    /// How the body ends.
    pub(crate) body: Body,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// After so many bytes.
    Length(u64),
    /// After an empty chunk.
    Chunked,
}

/// Reads the head of an answer, if it is there up to its end.
pub(crate) fn head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut lines = 0..0;
    let mut status = None;
    let mut body = Body::Length(0);
    while let Some(end) = bytes[lines.end..].iter().position(|&byte| byte == b'\n') {
        lines = lines.end..lines.end + end + 1;
        let line = bytes[lines.clone()].trim_ascii_end();
        let Some(status) = status else {
            status = Some(status_line(line).ok_or_else(|| broken("not the first line of an answer"))?);
            continue;
        };
        if line.is_empty() {
            return Ok(Some(Head { status, size: lines.end, body }));
        }
        if let Some(value) = header(line, b"content-length:") {
            let length = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            body = Body::Length(length.ok_or_else(|| broken("not a length"))?);
        } else if header(line, b"transfer-encoding:").is_some() {
            body = Body::Chunked;
        }
    }
    Ok(None)
}

fn status_line(line: &[u8]) -> Option<u16> {
    let code = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    str::from_utf8(code).ok()?.parse().ok()
}

/// The value of a line, if it is the header `name`, which is in lower case and ends with a colon.
pub(crate) fn header<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Where the body of chunks that begins with `bytes` ends, and how many bytes it brings, if all is there.
pub(crate) fn chunks_end(bytes: &[u8]) -> io::Result<Option<(usize, u64)>> {
    let (mut at, mut brought) = (0, 0);
    loop {
        let Some((start, size)) = chunk(&bytes[at..])? else { return Ok(None) };
        // The chunk, and the end of its line.
        at += start + size + 2;
        if at > bytes.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some((at, brought)));
        }
        brought += size as u64;
    }
}

/// What a talk goes through.
#[derive(Debug)]
enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A connection on which requests and whole answers follow each other.
#[derive(Debug)]
pub(crate) struct Talk {
    host: String,
    /// What each request has besides.
    credentials: Option<String>,
    stream: Line,
    buffer: Vec<u8>,
    filled: usize,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Where the client is to go next, as it was said.
    pub(crate) location: Option<String>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Talk {
    /// Connects to `host`.
    pub(crate) fn open(host: &str) -> io::Result<Self> {
        Ok(Self::over(host, Line::Plain(connect(host)?)))
    }

    /// Connects to `host`, an address and a port, by TLS.
    pub(crate) fn open_tls(host: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let stream = connect(host)?;
        let name = ServerName::from(stream.peer_addr()?.ip());
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self::over(host, Line::Tls(Box::new(StreamOwned::new(connection, stream)))))
    }

    fn over(host: &str, stream: Line) -> Self {
        let (host, buffer) = (host.to_owned(), vec![0; 64 << 10]);
        Self { host, credentials: None, stream, buffer, filled: 0 }
    }

    /// From now on each request has this `Authorization`.
    pub(crate) fn with_credentials(self, credentials: Option<&str>) -> Self {
        Self { credentials: credentials.map(str::to_owned), ..self }
    }

    /// The same, for one that is lent.
    pub(crate) fn authorize(&mut self, credentials: &str) {
        self.credentials = Some(credentials.to_owned());
    }

    /// Sends a request, its body in pieces, and reads the answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        pieces: &[&[u8]],
    ) -> io::Result<Answer> {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.begin(method, target, headers, length)?;
        for piece in pieces {
            self.stream.write_all(piece)?;
        }
        self.answer(method == "HEAD")
    }

    /// Sends a request whose body is what `reader` gives, which is `length` bytes, and reads the answer.
    pub(crate) fn send_from(
        &mut self,
        method: &str,
        target: &str,
        length: u64,
        mut reader: impl Read,
    ) -> io::Result<Answer> {
        self.begin(method, target, &[], length)?;
        io::copy(&mut reader, &mut self.stream)?;
        self.answer(false)
    }

    /// Sends the head of a request.
    pub(crate) fn begin(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        length: u64,
    ) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(credentials) = &self.credentials {
            let _ = write!(head, "Authorization: {credentials}\r\n");
        }
        if !matches!(method, "GET" | "HEAD") {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes())
    }

    /// Sends a part of a body.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads an answer.
    fn answer(&mut self, bodiless: bool) -> io::Result<Answer> {
        let head = loop {
            match head(&self.buffer[..self.filled])? {
                Some(head) => break head,
                None => self.fill()?,
            }
        };
        let location = location(&self.buffer[..head.size]);
        let end = loop {
            let there = &self.buffer[head.size..self.filled];
            let end = match head.body {
                _ if bodiless || matches!(head.status, 204 | 304) => Some(0),
                Body::Length(length) => usize::try_from(length).ok().filter(|&length| there.len() >= length),
                Body::Chunked => chunks_end(there)?.map(|(end, _)| end),
            };
            match end {
                Some(end) => break head.size + end,
                None => self.fill()?,
            }
        };
        let body = &self.buffer[head.size..end];
        let body =
            if head.body == Body::Chunked && !body.is_empty() { unchunked(body)? } else { body.to_vec() };
        self.buffer.copy_within(end..self.filled, 0);
        self.filled -= end;
        Ok(Answer { status: head.status, location, body })
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => Err(broken("the connection was closed in the middle of an answer")),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}

impl Answer {
    /// Fails, showing the answer, unless its status is `status`.
    pub(crate) fn must_be(self, status: u16) -> io::Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        let body: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        Err(io::Error::other(format!("an answer was {} instead of {status}: {body}", self.status)))
    }

    /// Where an upload goes on, with a parameter more.
    pub(crate) fn next(&self, query: &str) -> io::Result<String> {
        let location = self.location.as_deref().ok_or_else(|| broken("no Location"))?;
        let separator = if location.contains('?') { '&' } else { '?' };
        Ok(format!("{location}{separator}{query}"))
    }
}

/// What a whole body of chunks brings.
fn unchunked(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (start, size) = chunk(bytes)?.ok_or_else(|| broken("a chunk is not whole"))?;
        let content = bytes.get(start..start + size).ok_or_else(|| broken("a chunk is not whole"))?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(content);
        bytes = bytes.get(start + size + 2..).unwrap_or_default();
    }
}

/// Where the content of the chunk begins that `bytes` begins with, and how long it is, if its first line is there.
fn chunk(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let digits = bytes[..end].split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    let size = str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    Ok(Some((end + 1, size.ok_or_else(|| broken("not the size of a chunk"))?)))
}

/// The path and query that a head's Location names.
fn location(head: &[u8]) -> Option<String> {
    let value = head.split(|&byte| byte == b'\n').find_map(|line| header(line, b"location:"))?;
    let value = str::from_utf8(value).ok()?;
    let path = value.strip_prefix("http://").and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
    Some(path.unwrap_or(value).to_owned())
}

pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
