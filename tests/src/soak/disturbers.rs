// SPDX-License-Identifier: AGPL-3.0-only
//! Clients that disturb: some send or read so slowly that they never come to an end, some open a connection
//! and stop in the middle of a request's head, some send heads that never end. They do so only in the
//! turns that are theirs, and go away at the end of each without a word.

use std::fmt;
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::Shared;
use crate::host::Host;
use crate::http::{Connection, Request};
use crate::noise::{digest, noise};

/// Slow clients of each kind, and connections that stop in the middle of a head.
const SLOW: usize = 16;
const HALF_OPEN: usize = 64;
/// How often a slow client does something.
const TICK: Duration = Duration::from_millis(100);
/// What a slow reader reads of: more than a kernel keeps for it.
const LARGE: u64 = 48 << 20;
/// What a head that never ends comes to before it is given up.
const ENDLESS: usize = 4 << 20;
const REPO: &str = "/v2/soak/disturbed/blobs";

/// What disturbers did, and what became of them.
#[derive(Debug, Default)]
pub struct Disturbed {
    /// Requests that were sent slowly.
    pub slow_senders: usize,
    /// Answers that were read slowly.
    pub slow_readers: usize,
    /// Connections that stopped in the middle of a head.
    pub half_open: usize,
    /// Those of them that the server closed.
    pub half_open_closed: usize,
    /// Heads that did not end.
    pub floods: usize,
    /// Those of them that the server refused before they were given up.
    pub floods_refused: usize,
}

impl fmt::Display for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slow_senders, slow_readers, half_open, half_open_closed, floods, floods_refused } = self;
        write!(
            f,
            "{slow_senders} slow senders, {slow_readers} slow readers, {half_open} half-open connections \
             ({half_open_closed} closed by the server), {floods} endless heads ({floods_refused} refused)"
        )
    }
}

/// Disturbs in its turns until the soak ends.
pub(super) fn disturb(host: &Host, shared: &Shared) -> Disturbed {
    thread::scope(|scope| {
        let floods = scope.spawn(|| {
            let (mut floods, mut refused) = (0, 0);
            while !shared.ended() {
                if shared.disturbing.load(Ordering::Relaxed) {
                    floods += 1;
                    refused += usize::from(is_refused(host));
                }
                thread::sleep(TICK / 5);
            }
            (floods, refused)
        });
        let mut slow = Slow::new(host);
        while !shared.ended() {
            if shared.disturbing.load(Ordering::Relaxed) {
                // A server that refuses a connection is seen by those who behave well.
                let _refused = slow.act();
            } else {
                slow.go_away();
            }
            thread::sleep(TICK);
        }
        let (floods, floods_refused) = floods.join().unwrap();
        Disturbed { floods, floods_refused, ..slow.done }
    })
}

/// Sends a head that does not end; whether the server refuses it.
fn is_refused(host: &Host) -> bool {
    let Ok(mut connection) = Connection::try_open(host) else { return false };
    let request = Request::get("/v2/");
    if connection.write(b"GET /v2/ HTTP/1.1\r\nHost: flood\r\n").is_err() {
        return false;
    }
    let lines = format!("X-Flood: {}\r\n", "a".repeat(1000)).repeat(16);
    for _ in 0..ENDLESS / lines.len() {
        if connection.write(lines.as_bytes()).is_err() {
            return true;
        }
    }
    // It may say why before it closes, or not.
    match connection.try_response(&request) {
        Ok(response) => response.status >= 400,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

/// The slow and the half-open ones.
struct Slow<'s> {
    host: &'s Host,
    large: Option<String>,
    senders: Vec<Connection>,
    readers: Vec<Connection>,
    half_open: Vec<TcpStream>,
    done: Disturbed,
}

impl<'s> Slow<'s> {
    fn new(host: &'s Host) -> Self {
        let (senders, readers, half_open) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, large: None, senders, readers, half_open, done: Disturbed::default() }
    }

    fn act(&mut self) -> io::Result<()> {
        self.half_open.retain_mut(|connection| {
            let open = is_open(connection);
            self.done.half_open_closed += usize::from(!open);
            open
        });
        while self.half_open.len() < HALF_OPEN {
            let mut connection = TcpStream::connect(&**self.host)?;
            connection.set_nonblocking(true)?;
            // Some never say anything.
            if self.half_open.len().is_multiple_of(2) {
                io::Write::write_all(&mut connection, b"GET /v2/ HTTP/1.1\r\nHost: half")?;
            }
            self.half_open.push(connection);
            self.done.half_open += 1;
        }
        self.senders.retain_mut(|connection| connection.write(&[0; 16]).is_ok());
        while self.senders.len() < SLOW {
            let begin = Request::new("POST", &format!("{REPO}/uploads/"));
            let mut connection = Connection::try_open(self.host)?;
            let opened = connection.exchange(&begin)?;
            let Some(location) = opened.header("location") else { return Ok(()) };
            let patch = Request::new("PATCH", location).header("Content-Type", "application/octet-stream");
            connection.try_send_head(&patch, Some(1 << 20))?;
            self.senders.push(connection);
            self.done.slow_senders += 1;
        }
        let mut buffer = [0; 8 << 10];
        self.readers
            .retain_mut(|connection| connection.body(LARGE).read(&mut buffer).is_ok_and(|read| read > 0));
        while self.readers.len() < SLOW {
            let name = self.large()?;
            let mut connection = Connection::try_open(self.host)?;
            connection.try_send_head(&Request::get(&format!("{REPO}/{name}")), None)?;
            self.readers.push(connection);
            self.done.slow_readers += 1;
        }
        Ok(())
    }

    /// The large blob, pushed again when collection has taken it.
    fn large(&mut self) -> io::Result<String> {
        let mut connection = Connection::try_open(self.host)?;
        if let Some(name) = &self.large
            && connection.exchange(&Request::new("HEAD", &format!("{REPO}/{name}")))?.status == 200
        {
            return Ok(name.clone());
        }
        let bytes = noise(7, LARGE);
        let name = digest(&bytes);
        let post = Request::new("POST", &format!("{REPO}/uploads/")).query("digest", &name);
        connection.exchange(&post.body(&bytes))?;
        self.large = Some(name.clone());
        Ok(name)
    }

    fn go_away(&mut self) {
        self.senders.clear();
        self.readers.clear();
        self.half_open.clear();
    }
}

/// Whether the server has not closed a connection on which it has nothing to say.
fn is_open(connection: &mut TcpStream) -> bool {
    let mut buffer = [0; 512];
    loop {
        match connection.read(&mut buffer) {
            // An answer such as 408 comes before the end.
            Ok(1..) => {}
            Ok(0) => return false,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
