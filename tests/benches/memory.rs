// SPDX-License-Identifier: AGPL-3.0-only
//! Memory: what a server takes with nothing to do, at most under load, and for each client that stands still. Each figure
//! is taken from a server that was started for it. Resident memory (`Rss`, `VmHWM`), which counts shared pages too.

use std::thread;
use std::time::{Duration, Instant};

use stella_tests::{Authority, Noise, noise};

use crate::content::Image;
use crate::load::Limit;
use crate::plan::{MIB, Plan};
use crate::prepare::{self, request};
use crate::pull_load::{Mode, Pull, pull};
use crate::push_load::{Mint, push};
use crate::rounds::{Aim, Cell, Figures, Measure, Row, progress, said};
use crate::server::{Kind, Program, Server};
use crate::usage::{Memory, precise};
use crate::wire::Talk;

const FAMILY: &str = "memory";
const REPOSITORY: &str = "bench/memory";

/// Clients that work at the same time.
const CLIENTS: usize = 16;
/// What each idle upload has sent, of what it announced: little, or so much that it seemed to be in full flow.
const LITTLE: u64 = 256 << 10;
const MUCH: u64 = 2 * MIB;
const ANNOUNCED: u64 = 64 * MIB;
const BINARY: [(&str, &str); 1] = [("Content-Type", "application/octet-stream")];
/// How many stand still before the first measurement, so that what is needed once is not counted.
const FIRST: usize = 16;
/// Rounds are few: memory differs little between them.
const ROUNDS: usize = 3;

type Probe<'a> = Box<dyn Fn(&Server) -> anyhow::Result<Figures> + 'a>;

/// What is measured of a server that was just started.
struct Case<'a> {
    name: String,
    measure: Measure,
    most: f64,
    settings: &'a [(&'a str, &'a str)],
    /// Who its server's certificate is of, if it speaks TLS.
    authority: Option<&'a Authority>,
    probe: Probe<'a>,
}

#[expect(clippy::unnecessary_wraps, reason = "as the other families, which can fail")]
pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (uploads, connections) = (plan.sizes.idle_uploads, plan.sizes.idle_connections);
    let authority = Authority::new();
    let each_of = |name: String, authority, probe| Case {
        name,
        measure: Measure::MemoryEach,
        most: 32.0,
        settings: &[],
        authority,
        probe,
    };
    let standing = |text: &str, sent: u64, authority| {
        let name = format!("each of {uploads} uploads that stand still after {text}");
        each_of(name, authority, Box::new(move |server| each(server, uploads, |s| stalled_upload(s, sent))))
    };
    let idling = |text: &str, authority| {
        let name = format!("each of {connections} idle connections{text}");
        each_of(name, authority, Box::new(move |server| each(server, connections, idle_connection)))
    };
    let cases = [
        Case {
            name: "nothing to do, nothing kept".to_owned(),
            measure: Measure::Memory,
            most: 30.0,
            settings: &[],
            authority: None,
            probe: Box::new(idle),
        },
        Case {
            name: format!(
                "the most, with {CLIENTS} clients that push and pull (stella: limits.memory 64MiB)"
            ),
            measure: Measure::Memory,
            most: 80.0,
            settings: &[("STELLA_LIMITS__MEMORY", "64MiB")],
            authority: None,
            probe: Box::new(|server| peak(plan, server)),
        },
        standing("256 KiB", LITTLE, None),
        standing("2 MiB", MUCH, None),
        standing("256 KiB, over TLS", LITTLE, Some(&authority)),
        Case {
            settings: &[("STELLA_LIMITS__MEMORY", "64MiB")],
            ..each_of(
                format!(
                    "each of {uploads} uploads that come at once and stand still after 256 KiB (stella: limits.memory 64MiB)"
                ),
                None,
                Box::new(move |server| at_once(server, uploads)),
            )
        },
        idling("", None),
        idling(", over TLS", Some(&authority)),
    ];
    Ok(cases.iter().filter(|case| plan.wants(FAMILY, &case.name)).map(|case| case.row(plan)).collect())
}

impl Case<'_> {
    fn row(&self, plan: &Plan) -> Row {
        let programs = plan.programs.iter().filter(|program| Kind::REGISTRIES.contains(&program.kind));
        let cells = programs.map(|program| (program.kind, self.cell(plan, program))).collect();
        let aims = vec![Aim::AtMost(self.most)];
        Row { family: FAMILY, name: self.name.clone(), measure: self.measure, aims, cells }
    }

    fn cell(&self, plan: &Plan, program: &Program) -> Cell {
        if self.authority.is_some() && program.kind != Kind::Stella {
            return Cell::Absent("measured without TLS".to_owned());
        }
        let mut rounds = Vec::new();
        for round in 1..=plan.rounds.min(ROUNDS) {
            let measured = Server::start_with(plan, program, self.settings, self.authority)
                .and_then(|server| (self.probe)(&server));
            let (name, kind) = (&self.name, program.kind.name());
            match measured {
                Ok(figures) => {
                    progress(&format!("{FAMILY}: {name}, round {round}, {kind}: {}", said(&figures)));
                    rounds.push(figures);
                }
                Err(error) => {
                    progress(&format!("{FAMILY}: {name}, {kind}: FAILED: {error:#}"));
                    return Cell::Failed(format!("{error:#}"));
                }
            }
        }
        Cell::Figures(rounds)
    }
}

fn idle(server: &Server) -> anyhow::Result<Figures> {
    let memory = settled(server)?;
    Ok(vec![(Measure::Memory.name(), mb(memory.resident)), ("proportional_mb", mb(memory.proportional))])
}

/// Pushes, pulls, and does both at once.
fn peak(plan: &Plan, server: &Server) -> anyhow::Result<Figures> {
    let host = server.host();
    let length = plan.sizes.large / 4;
    let digest = Noise::new(1, length).digest();
    prepare::large_blob(&mut Talk::open(host)?, REPOSITORY, &digest, length, Noise::new(1, length))?;
    prepare::image(host, REPOSITORY, &Image::new(2))?;
    let requests = [request("GET", host, &format!("/v2/{REPOSITORY}/blobs/{digest}"), &[])];
    let mint = Mint::new(plan.sizes.pushed / 4);
    let pushes = |clients: usize| {
        let blobs = mint.blobs(4 * clients);
        push(host, REPOSITORY, &mint, &blobs, clients)
    };
    let (mode, limit) = (Mode::Read, Limit::Time(plan.turn));
    let pulls = |clients| pull(Pull { host, requests: &requests, length, clients, mode, limit });
    pushes(CLIENTS)?;
    pulls(CLIENTS)?;
    thread::scope(|scope| {
        let pushing = scope.spawn(|| pushes(CLIENTS / 2));
        let pulled = pulls(CLIENTS / 2);
        pushing.join().map_err(|_| anyhow::anyhow!("a client failed"))??;
        pulled
    })?;
    Ok(vec![(Measure::Memory.name(), mb(server.memory()?.peak))])
}

/// What each of `count` clients takes that have come as far as `come` brings them.
fn each(
    server: &Server,
    count: usize,
    come: impl Fn(&Server) -> anyhow::Result<Talk>,
) -> anyhow::Result<Figures> {
    let come = |count| (0..count).map(|_| come(server)).collect::<anyhow::Result<Vec<_>>>();
    drop(come(FIRST)?);
    let before = settled(server)?;
    let there = come(count)?;
    let after = settled(server)?;
    drop(there);
    Ok(more(before, after, count))
}

/// What each of `count` uploads takes whose clients all send at the same time, and then no more.
fn at_once(server: &Server, count: usize) -> anyhow::Result<Figures> {
    drop(stalled_upload(server, LITTLE)?);
    let mut talk = server.talk()?;
    let sessions = (0..count).map(|_| begin(&mut talk)).collect::<anyhow::Result<Vec<_>>>()?;
    let before = settled(server)?;
    let mut there =
        sessions.iter().map(|target| announce(server, target)).collect::<anyhow::Result<Vec<_>>>()?;
    let bytes = noise(1, LITTLE);
    thread::scope(|scope| {
        let parts = there
            .chunks_mut(count.div_ceil(CLIENTS))
            .map(|part| scope.spawn(|| part.iter_mut().try_for_each(|talk| talk.write(&bytes))));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(anyhow::anyhow!("a client failed")),
        })
    })?;
    let after = settled(server)?;
    drop(there);
    Ok(more(before, after, count))
}

/// What each of `count` takes, of all that came between two looks.
fn more(before: Memory, after: Memory, count: usize) -> Figures {
    let kib = |before: u64, after: u64| precise(after.saturating_sub(before)) / precise(count as u64);
    vec![
        (Measure::MemoryEach.name(), kib(before.resident, after.resident)),
        ("proportional_kib_each", kib(before.proportional, after.proportional)),
    ]
}

/// A client that has sent so much of a blob, and sends no more.
fn stalled_upload(server: &Server, sent: u64) -> anyhow::Result<Talk> {
    let mut talk = server.talk()?;
    let target = begin(&mut talk)?;
    talk.begin("PATCH", &target, &BINARY, ANNOUNCED)?;
    talk.write(&noise(1, sent))?;
    Ok(talk)
}

/// Begins an upload, and gives where its bytes go.
fn begin(talk: &mut Talk) -> anyhow::Result<String> {
    let session = talk.ask("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], &[])?.must_be(202)?;
    Ok(session.next("")?.trim_end_matches(['?', '&']).to_owned())
}

/// A client that has said that it will send a blob.
fn announce(server: &Server, target: &str) -> anyhow::Result<Talk> {
    let mut talk = server.talk()?;
    talk.begin("PATCH", target, &BINARY, ANNOUNCED)?;
    Ok(talk)
}

/// A client that has got an answer, and asks for nothing more.
fn idle_connection(server: &Server) -> anyhow::Result<Talk> {
    let mut talk = server.talk()?;
    talk.ask("GET", "/v2/", &[], &[])?.must_be(200)?;
    Ok(talk)
}

/// The memory of a server once it does not change any more.
fn settled(server: &Server) -> anyhow::Result<Memory> {
    const STILL: Duration = Duration::from_millis(1500);
    const PATIENCE: Duration = Duration::from_secs(20);
    const NOISE: u64 = 64;
    let began = Instant::now();
    let (mut last, mut since) = (server.memory()?, Instant::now());
    loop {
        let now = server.memory()?;
        if now.resident.abs_diff(last.resident) > NOISE {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > STILL || began.elapsed() > PATIENCE {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// KiB as MB.
fn mb(kib: u64) -> f64 {
    precise(kib) * 1024.0 / 1e6
}
