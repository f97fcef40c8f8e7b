// SPDX-License-Identifier: AGPL-3.0-only
//! Blob pulls: a large blob, and small ones in turn, all of them in the kernel's page cache. nginx serves the same
//! bytes as files.

use std::fs::File;
use std::io;

use stella_tests::Noise;

use crate::load::Limit;
use crate::plan::{MIB, Plan, size};
use crate::prepare::{self, request};
use crate::pull_load::{Mode, Pull, pull};
use crate::rounds::{Aim, Measure, Row, Spec, measure};
use crate::server::{Kind, Server};
use crate::wire::Talk;

const FAMILY: &str = "pull";
const REPOSITORY: &str = "bench/pull";

/// Blobs of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blobs {
    length: u64,
    count: u64,
}

/// A row's load.
#[derive(Clone, Debug)]
struct Case {
    blobs: Blobs,
    clients: usize,
    mode: Mode,
    name: String,
}

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let large = Blobs { length: plan.sizes.large, count: 1 };
    let small = Blobs { length: MIB, count: plan.sizes.smalls };
    let cases: Vec<_> = [large, small]
        .into_iter()
        .flat_map(|blobs| [1, 4, 16].map(|clients| (blobs, clients)))
        .flat_map(|(blobs, clients)| [Mode::Read, Mode::Discard].map(|mode| Case::new(blobs, clients, mode)))
        .filter(|case| plan.wants(FAMILY, &case.name))
        .collect();
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let servers = Server::start_all(plan, &[&Kind::REGISTRIES[..], &[Kind::Nginx]].concat())?;
    // Every blob is another one, and the same on every server.
    let mut targets = Vec::new();
    for blobs in [large, small] {
        if cases.iter().any(|case| case.blobs == blobs) {
            let digests = digests(blobs);
            for server in &servers {
                fill(server, blobs, &digests)?;
            }
            targets.push((blobs, digests));
        }
    }
    let specs: Vec<_> = cases.iter().map(|case| case.spec(plan, large, &targets)).collect();
    Ok(measure(plan, FAMILY, &servers, &specs))
}

impl Case {
    fn new(blobs: Blobs, clients: usize, mode: Mode) -> Self {
        let clients_that =
            if clients == 1 { "1 client that".to_owned() } else { format!("{clients} clients that") };
        let verb = match (mode, clients) {
            (Mode::Read, 1) => "reads",
            (Mode::Read, _) => "read",
            (Mode::Discard, 1) => "discards",
            (Mode::Discard, _) => "discard",
        };
        let name = format!("{}, {clients_that} {verb}", size(blobs.length));
        Self { blobs, clients, mode, name }
    }

    fn spec<'a>(&'a self, plan: &'a Plan, large: Blobs, targets: &'a [(Blobs, Vec<String>)]) -> Spec<'a> {
        let Self { blobs, clients, mode, name } = self;
        let digests = targets.iter().find(|(known, _)| known == blobs).map(|(_, digests)| digests.as_slice());
        let spec = Spec::new(name.clone(), Measure::Throughput, move |server, part| {
            let (host, digests) = (server.host(), digests.unwrap_or_default());
            let get = |digest: &String| request("GET", host, &target(server.kind, digest), &[]);
            let requests: Vec<_> = digests.iter().map(get).collect();
            let limit = Limit::Time(plan.turn.mul_f64(part));
            let (length, clients, mode) = (blobs.length, *clients, *mode);
            pull(Pull { host, requests: &requests, length, clients, mode, limit })
        });
        match (*blobs == large, clients, mode) {
            (true, 4, Mode::Read) => spec.aim(Aim::Times(Kind::Nginx, 1.3)),
            (true, 4, Mode::Discard) | (false, 16, _) => spec.aim(Aim::Times(Kind::Nginx, 0.9)),
            _ => spec,
        }
    }
}

fn target(kind: Kind, digest: &str) -> String {
    if kind == Kind::Nginx { format!("/{digest}") } else { format!("/v2/{REPOSITORY}/blobs/{digest}") }
}

fn content(blobs: Blobs, number: u64) -> Noise {
    Noise::new(blobs.length + number, blobs.length)
}

fn digests(blobs: Blobs) -> Vec<String> {
    (0..blobs.count).map(|number| content(blobs, number).digest()).collect()
}

/// Puts the blobs onto a server, and reads each once, to see that every byte is right.
fn fill(server: &Server, blobs: Blobs, digests: &[String]) -> anyhow::Result<()> {
    let mut talk = Talk::open(server.host())?;
    for (digest, number) in digests.iter().zip(0..) {
        let mut content = content(blobs, number);
        if server.kind == Kind::Nginx {
            io::copy(&mut content, &mut File::create(server.data().join(digest))?)?;
        } else {
            prepare::large_blob(&mut talk, REPOSITORY, digest, blobs.length, content)?;
        }
        expect(&mut talk, &target(server.kind, digest), digest)?;
    }
    Ok(())
}

/// Fails unless a GET of `target` gives the bytes that have this digest.
fn expect(talk: &mut Talk, target: &str, digest: &str) -> anyhow::Result<()> {
    let body = talk.ask("GET", target, &[], &[])?.must_be(200)?.body;
    anyhow::ensure!(stella_tests::digest(&body) == digest, "{target} has other bytes than were pushed");
    Ok(())
}
