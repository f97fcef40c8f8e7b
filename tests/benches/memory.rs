// SPDX-License-Identifier: AGPL-3.0-only
//! Memory: what a server takes with nothing to do, at most under load, and for each client that stands still. Each figure
//! is taken from a server that was started for it. Resident memory (`Rss`, `VmHWM`), which counts shared pages too.

use std::thread;
use std::time::{Duration, Instant};

use stella_tests::{Noise, noise};

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
    probe: Probe<'a>,
}

#[expect(clippy::unnecessary_wraps, reason = "as the other families, which can fail")]
pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (uploads, connections) = (plan.sizes.idle_uploads, plan.sizes.idle_connections);
    let standing = |text: &str, sent: u64| Case {
        name: format!("each of {uploads} uploads that stand still after {text}"),
        measure: Measure::MemoryEach,
        most: 32.0,
        settings: &[],
        probe: Box::new(move |server| each(server, uploads, |host| stalled_upload(host, sent))),
    };
    let cases = [
        Case {
            name: "nothing to do, nothing kept".to_owned(),
            measure: Measure::Memory,
            most: 30.0,
            settings: &[],
            probe: Box::new(idle),
        },
        Case {
            name: format!(
                "the most, with {CLIENTS} clients that push and pull (stella: limits.memory 64MiB)"
            ),
            measure: Measure::Memory,
            most: 80.0,
            settings: &[("STELLA_LIMITS__MEMORY", "64MiB")],
            probe: Box::new(|server| peak(plan, server)),
        },
        standing("256 KiB", LITTLE),
        standing("2 MiB", MUCH),
        Case {
            name: format!("each of {connections} idle connections"),
            measure: Measure::MemoryEach,
            most: 32.0,
            settings: &[],
            probe: Box::new(move |server| each(server, connections, idle_connection)),
        },
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
        let mut rounds = Vec::new();
        for round in 1..=plan.rounds.min(ROUNDS) {
            let measured =
                Server::start(plan, program, self.settings).and_then(|server| (self.probe)(&server));
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
    come: impl Fn(&str) -> anyhow::Result<Talk>,
) -> anyhow::Result<Figures> {
    let host = server.host();
    let come = |count| (0..count).map(|_| come(host)).collect::<anyhow::Result<Vec<_>>>();
    drop(come(FIRST)?);
    let before = settled(server)?;
    let there = come(count)?;
    let after = settled(server)?;
    drop(there);
    let kib = |before: u64, after: u64| precise(after.saturating_sub(before)) / precise(count as u64);
    Ok(vec![
        (Measure::MemoryEach.name(), kib(before.resident, after.resident)),
        ("proportional_kib_each", kib(before.proportional, after.proportional)),
    ])
}

/// A client that has sent so much of a blob, and sends no more.
fn stalled_upload(host: &str, sent: u64) -> anyhow::Result<Talk> {
    let mut talk = Talk::open(host)?;
    let session = talk.ask("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], &[])?.must_be(202)?;
    let target = session.next("")?;
    let headers = [("Content-Type", "application/octet-stream")];
    talk.begin("PATCH", target.trim_end_matches(['?', '&']), &headers, ANNOUNCED)?;
    talk.write(&noise(1, sent))?;
    Ok(talk)
}

/// A client that has got an answer, and asks for nothing more.
fn idle_connection(host: &str) -> anyhow::Result<Talk> {
    let mut talk = Talk::open(host)?;
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
