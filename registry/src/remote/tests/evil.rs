// SPDX-License-Identifier: AGPL-3.0-only
//! A registry that answers what a test tells it to, byte by byte, one request a connection; and that
//! remembers what it was asked.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Method and path, without the query.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target.split('?').next().unwrap())
    }
}

/// What comes back.
pub(super) enum Reply {
    /// An answer with a right length.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// These bytes, and then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and then more and more.
    Endless(Vec<u8>),
    /// These bytes, and then nothing until the client goes.
    Stall(Vec<u8>),
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Reply::Whole { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply::status(200).body(body)
    }

    pub(super) fn body(self, bytes: impl Into<Vec<u8>>) -> Self {
        match self {
            Reply::Whole { status, headers, .. } => Reply::Whole { status, headers, body: bytes.into() },
            other => other,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Reply::Whole { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

/// The registry.
pub(super) struct Evil {
    host: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Evil {
    /// Answers by `answer`, which gets each request and how many there were before it.
    pub(super) fn new(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        // They end with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let before = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    // The client may be gone.
                    let _gone = write(&stream, &request, answer(&request, before));
                });
            }
        });
        Evil { host, asked }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// Methods and paths of what it was asked.
    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Request::line).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut request = Request { method: words.next()?, target: words.next()?, ..Request::default() };
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    assert!(request.header("transfer-encoding").is_none(), "the client knows all lengths");
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

fn write(mut stream: &TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Whole { status, headers, body } => {
            let mut head =
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                write!(head, "{name}: {value}\r\n").unwrap();
            }
            stream.write_all(format!("{head}\r\n").as_bytes())?;
            if request.method != "HEAD" {
                stream.write_all(&body)?;
            }
            Ok(())
        }
        Reply::Raw(bytes) => stream.write_all(&bytes),
        Reply::Endless(bytes) => {
            stream.write_all(&bytes)?;
            // A chunk of 4 KiB of blanks, again and again.
            let chunk = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk)?;
            }
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes)?;
            stream.read_to_end(&mut Vec::new()).map(|_| ())
        }
    }
}
