// SPDX-License-Identifier: AGPL-3.0-only
//! The client for small requests: many connections, one thread, `epoll`. Each connection sends a request, reads the
//! answer to its end and sends the next (no pipelining). One thread is enough: it does less for a request than any
//! server does, and what it costs is in the results.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::rounds::Tally;
use crate::wire::{Body, STALL, chunks_end, connect, head};

/// What is asked, and what must come back.
#[derive(Debug)]
pub(crate) struct Ask<'a, N> {
    pub(crate) host: &'a str,
    pub(crate) clients: usize,
    pub(crate) limit: Limit,
    /// Writes the next request into an empty buffer.
    pub(crate) next: N,
    /// The status of every answer.
    pub(crate) status: u16,
    /// The length of every body; `None` where they differ, but there must be one.
    pub(crate) length: Option<u64>,
    /// Whether these are HEAD requests, whose answers have no bodies.
    pub(crate) bodiless: bool,
}

/// When a load is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// What comes within this time is counted.
    Time(Duration),
    /// So many requests are sent, and every answer is awaited.
    Requests(u64),
}

/// Connections that stay open from one load to the next. How soon a new one takes a megabyte at once is the kernel's affair,
/// and a few bytes more or less in the first answers can make a large difference.
#[derive(Debug, Default)]
pub(crate) struct Connections(RefCell<Vec<Connection>>);

impl Connections {
    /// As [`ask`], on these.
    pub(crate) fn ask<N: FnMut(&mut Vec<u8>)>(&self, ask: Ask<'_, N>) -> anyhow::Result<Tally> {
        let (mut connections, limit) = (self.0.take(), ask.limit);
        let tally = ask_on(&mut connections, ask)?;
        // After some time answers are still on their way.
        if let Limit::Requests(_) = limit {
            self.0.replace(connections);
        }
        Ok(tally)
    }
}

/// Asks for as long, or as often, as it is told, and counts the answers that came until then.
pub(crate) fn ask<N: FnMut(&mut Vec<u8>)>(ask: Ask<'_, N>) -> anyhow::Result<Tally> {
    ask_on(&mut Vec::new(), ask)
}

fn ask_on<N: FnMut(&mut Vec<u8>)>(
    connections: &mut Vec<Connection>,
    mut ask: Ask<'_, N>,
) -> anyhow::Result<Tally> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    while connections.len() < ask.clients {
        let stream = connect(ask.host)?;
        stream.set_nonblocking(true)?;
        connections.push(Connection::new(stream));
    }
    for (number, connection) in connections.iter().enumerate() {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, &connection.stream, data, epoll::EventFlags::IN)?;
    }
    let mut tally = Tally::default();
    let mut events = Vec::with_capacity(ask.clients);
    let stall = Timespec { tv_sec: STALL.as_secs().cast_signed(), tv_nsec: 0 };
    let mut left = match ask.limit {
        Limit::Time(_) => u64::MAX,
        Limit::Requests(count) => count,
    };
    let began = Instant::now();
    for connection in connections.iter_mut() {
        connection.send_one_of(&mut left, &mut ask.next)?;
    }
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), Some(&stall))?;
        ensure!(!events.is_empty(), "the server stood still for {STALL:?}");
        for event in &events {
            let number = usize::try_from(event.data.u64())?;
            let connection = connections.get_mut(number).context("an event of nobody")?;
            let Some(answer) = connection.receive(ask.bodiless)? else { continue };
            let now = Instant::now();
            check(&ask, &answer)?;
            let (late, counted) = match ask.limit {
                Limit::Time(time) if now < began + time => (false, time),
                Limit::Time(_) => (true, now - began),
                Limit::Requests(_) => (false, now - began),
            };
            // Where no answer came in time, the first one tells how long it takes.
            if !late || tally.requests == 0 {
                tally.seconds = counted.as_secs_f64();
                tally.requests += 1;
                tally.bytes += answer.length;
                tally.latencies.push(u64::try_from((now - connection.sent).as_nanos())?);
            }
            if late || ask.limit == Limit::Requests(tally.requests) {
                return Ok(tally);
            }
            connection.send_one_of(&mut left, &mut ask.next)?;
        }
    }
}

fn check<N>(ask: &Ask<'_, N>, answer: &Answer) -> anyhow::Result<()> {
    let Answer { status, length } = *answer;
    ensure!(status == ask.status, "an answer was {status} instead of {}", ask.status);
    if !ask.bodiless {
        match ask.length {
            Some(expected) => ensure!(length == expected, "a body had {length} bytes instead of {expected}"),
            None => ensure!(length > 0, "a body was empty"),
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
    sent: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    length: u64,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, out: Vec::new(), buffer: vec![0; 32 << 10], filled: 0, sent: Instant::now() }
    }

    /// Sends the next request, if any of those that are `left` is.
    fn send_one_of(&mut self, left: &mut u64, next: &mut impl FnMut(&mut Vec<u8>)) -> io::Result<()> {
        let Some(others) = left.checked_sub(1) else { return Ok(()) };
        *left = others;
        self.out.clear();
        next(&mut self.out);
        self.sent = Instant::now();
        // A request is much smaller than the kernel's buffer, which is empty between requests.
        self.stream.write_all(&self.out)
    }

    /// Reads what is there; gives the answer once it is whole.
    fn receive(&mut self, bodiless: bool) -> anyhow::Result<Option<Answer>> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(head) = head(&self.buffer[..self.filled])? else { return Ok(None) };
        let there = &self.buffer[head.size..self.filled];
        let ended = match head.body {
            _ if bodiless => Some((0, 0)),
            Body::Length(length) => {
                let end = usize::try_from(length)?;
                (there.len() >= end).then_some((end, length))
            }
            Body::Chunked => chunks_end(there)?,
        };
        let Some((end, length)) = ended else { return Ok(None) };
        ensure!(there.len() == end, "a server said more than it was asked");
        self.filled = 0;
        Ok(Some(Answer { status: head.status, length }))
    }
}
