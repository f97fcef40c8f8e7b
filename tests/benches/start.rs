// SPDX-License-Identifier: AGPL-3.0-only
//! From the start of the program to its first good answer (`/readyz`, or `/v2/` where there is none), with nothing and
//! with many manifests, after a stop and after a crash under load.

use std::thread;
use std::time::Duration;

use stella_tests::media_type;

use crate::content::{Blob, Image, Stamped};
use crate::load::{Ask, Limit, ask};
use crate::plan::Plan;
use crate::prepare::{self, fill, request};
use crate::rounds::{Cell, Measure, Row, progress};
use crate::server::{Kind, Server};

const FAMILY: &str = "start to ready";
const REPOSITORY: &str = "bench/start";

/// How long clients work before a crash.
const LOAD: Duration = Duration::from_millis(500);
/// How many clients.
const CLIENTS: usize = 16;

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let count = plan.sizes.manifests;
    let empty = "nothing kept".to_owned();
    let clean = format!("{count} manifests, after a stop");
    let crashed = format!("{count} manifests, after kill -9 under load");
    let [wants_empty, wants_clean, wants_crashed] =
        [&empty, &clean, &crashed].map(|name| plan.wants(FAMILY, name));
    let mut rows = Vec::new();
    if wants_empty {
        let mut servers = Server::start_all(plan, &Kind::REGISTRIES)?;
        rows.push(measure(plan, empty, &mut servers, |server| {
            server.stop();
            Ok(())
        }));
    }
    if !wants_clean && !wants_crashed {
        return Ok(rows);
    }
    let mut servers = Server::start_all(plan, &[Kind::Stella])?;
    let image = Image::new(1);
    let failure = servers.iter().find_map(|server| prepare(plan, server, &image).err());
    let prepared = || failure.as_ref().map_or(Ok(()), |error| Err(anyhow::anyhow!("{error:#}")));
    let mut next = count;
    let mut large = Vec::new();
    if wants_clean {
        large.push(measure(plan, clean, &mut servers, |server| {
            prepared()?;
            server.stop();
            Ok(())
        }));
    }
    if wants_crashed {
        large.push(measure(plan, crashed, &mut servers, |server| {
            prepared()?;
            crash(server, &image, &mut next);
            Ok(())
        }));
    }
    // The others open nothing when they start, so that "nothing kept" is their figure here too.
    let others = plan.programs.iter().map(|program| program.kind);
    let others = others.filter(|kind| *kind != Kind::Stella && Kind::REGISTRIES.contains(kind));
    let why = "not prepared; it reads nothing of its store when it starts".to_owned();
    let absent: Vec<_> = others.map(|kind| (kind, Cell::Absent(why.clone()))).collect();
    for row in &mut large {
        row.cells.extend(absent.iter().cloned());
    }
    rows.extend(large);
    Ok(rows)
}

/// Pushes many manifests.
fn prepare(plan: &Plan, server: &Server, image: &Image) -> anyhow::Result<()> {
    let count = plan.sizes.manifests;
    progress(&format!("{FAMILY}: preparing {count} manifests on {}", server.kind.name()));
    prepare::image(server.host(), REPOSITORY, image)?;
    let stamped = image.manifests(None);
    fill(server.host(), count, plan.patience(), |talk, number| {
        let manifest = Blob::new(stamped.number(number));
        prepare::manifest(talk, REPOSITORY, &manifest.digest, &manifest.bytes)
    })
}

/// Ends each server and starts it again, in rounds.
fn measure(
    plan: &Plan,
    name: String,
    servers: &mut [Server],
    mut end: impl FnMut(&mut Server) -> anyhow::Result<()>,
) -> Row {
    let mut cells: Vec<_> = servers.iter().map(|server| (server.kind, Cell::Figures(Vec::new()))).collect();
    for round in 1..=plan.rounds {
        for (server, (kind, cell)) in servers.iter_mut().zip(&mut cells) {
            let Cell::Figures(figures) = cell else { continue };
            match end(server).and_then(|()| server.start_again()) {
                Ok(took) => {
                    let ms = took.as_secs_f64() * 1e3;
                    progress(&format!("{FAMILY}: {name}, round {round}, {}: {ms:.1} ms", kind.name()));
                    figures.push(vec![(Measure::Start.name(), ms)]);
                }
                Err(error) => {
                    progress(&format!("{FAMILY}: {name}, {}: FAILED: {error:#}", kind.name()));
                    *cell = Cell::Failed(format!("{error:#}"));
                }
            }
        }
    }
    Row { family: FAMILY, name, measure: Measure::Start, aims: Vec::new(), cells }
}

/// Lets clients push manifests, and kills the server meanwhile.
fn crash(server: &mut Server, image: &Image, next: &mut u64) {
    let host = server.host().to_owned();
    let body = image.manifests(None).number(0);
    let target = format!("/v2/{REPOSITORY}/manifests/c{:016x}", 0);
    let headers = [("Content-Type", media_type::MANIFEST), ("Content-Length", &body.len().to_string())];
    let request = Stamped::new([request("PUT", &host, &target, &headers), body].concat());
    thread::scope(|scope| {
        scope.spawn(|| {
            let next = |out: &mut Vec<u8>| {
                request.write(*next, out);
                *next += 1;
            };
            let (clients, limit) = (CLIENTS, Limit::Time(20 * LOAD));
            // It ends with an error, because the server ends.
            let _ =
                ask(Ask { host: &host, clients, limit, next, status: 201, length: Some(0), bodiless: false });
        });
        thread::sleep(LOAD);
        server.kill();
    });
}
