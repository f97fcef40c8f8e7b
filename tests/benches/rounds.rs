// SPDX-License-Identifier: AGPL-3.0-only
//! Taking turns: each round lets every server do every row once, with all others stopped. What comes out is a table
//! of rows; each has, for each server, the figures of all rounds, or why there are none.

use std::fs::File;
use std::rc::Rc;

use anyhow::Context as _;

use crate::plan::Plan;
use crate::server::{Kind, Server};
use crate::usage::{precise, processor_seconds};

/// What the client counted in a turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How long was counted.
    pub(crate) seconds: f64,
    /// Answers, or for blobs that are pulled, requests.
    pub(crate) requests: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    /// How long each answer took, in nanoseconds, where that is measured.
    pub(crate) latencies: Vec<u64>,
}

/// What a row measures; the first figure is the one that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Megabytes (10^6) per second.
    Throughput,
    /// Requests per second.
    Requests,
    /// The same, where the others answer no requests but do as often what an answer needs.
    Rate,
    /// Microseconds until half of the answers were there.
    Latency,
    /// How many times longer a page takes in a large store than in a small one.
    Growth,
    /// Milliseconds from a start to the first good answer.
    Start,
    /// MB (10^6) of memory.
    Memory,
    /// KiB of memory that each of many takes.
    MemoryEach,
    /// How many times the processor time of a request that does not say who it is from.
    Cost,
    /// How many times the processor time of a request for what no policy is about.
    Gated,
    /// Milliseconds until something is done.
    Until,
    /// Milliseconds of processor time, of one call or of a whole program.
    Processor,
}

/// What is promised of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// To be at least so many times as fast as another.
    Times(Kind, f64),
    /// To be no more than this.
    AtMost(f64),
}

/// The figures of a turn, each with its name, the one that is compared in front.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// What came of a row for a server.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// The figures of all rounds.
    Figures(Vec<Figures>),
    /// It cannot do that, or was not asked to; why.
    Absent(String),
    /// It should have, but did not; why.
    Failed(String),
}

/// A finished row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) measure: Measure,
    pub(crate) aims: Vec<Aim>,
    pub(crate) cells: Vec<(Kind, Cell)>,
}

/// What remains to be done once everything is prepared: put load on a server, and count.
type Turn<'a> = Box<dyn FnOnce(&Server) -> anyhow::Result<Tally> + 'a>;

/// A row to be measured.
pub(crate) struct Spec<'a> {
    pub(crate) name: String,
    pub(crate) measure: Measure,
    pub(crate) aims: Vec<Aim>,
    /// Who does not take part, and why.
    pub(crate) absent: Vec<(Kind, String)>,
    /// Prepares a turn, or a part of one.
    prepare: Box<dyn Fn(f64) -> Turn<'a> + 'a>,
}

/// How much of a turn is used to warm a server up.
const WARM_UP: f64 = 0.2;

impl<'a> Spec<'a> {
    /// A row whose turns need no preparation; `turn` is told for which part of a turn's time it goes on.
    pub(crate) fn new(
        name: String,
        measure: Measure,
        turn: impl Fn(&Server, f64) -> anyhow::Result<Tally> + 'a,
    ) -> Self {
        Self::prepared(name, measure, |part| part, turn)
    }

    /// A row of which each turn is prepared by `prepare`, outside the clock.
    pub(crate) fn prepared<P: 'a>(
        name: String,
        measure: Measure,
        prepare: impl Fn(f64) -> P + 'a,
        turn: impl Fn(&Server, P) -> anyhow::Result<Tally> + 'a,
    ) -> Self {
        let turn = Rc::new(turn);
        let prepare = Box::new(move |part| -> Turn<'a> {
            let (prepared, turn) = (prepare(part), Rc::clone(&turn));
            Box::new(move |server| turn(server, prepared))
        });
        Self { name, measure, aims: Vec::new(), absent: Vec::new(), prepare }
    }

    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aims.push(aim);
        self
    }

    pub(crate) fn without(mut self, absent: &[(Kind, String)]) -> Self {
        self.absent.extend_from_slice(absent);
        self
    }
}

/// Measures all `specs` on all `servers`, in rounds.
pub(crate) fn measure(plan: &Plan, family: &'static str, servers: &[Server], specs: &[Spec<'_>]) -> Vec<Row> {
    let mut rows: Vec<_> = specs.iter().map(|spec| row(family, servers, spec)).collect();
    servers.iter().for_each(Server::freeze);
    for round in 0..=plan.rounds {
        for (spec, row) in specs.iter().zip(&mut rows) {
            for (server, (_, cell)) in servers.iter().zip(&mut row.cells) {
                let Cell::Figures(figures) = cell else { continue };
                let part = if round == 0 { WARM_UP } else { 1.0 };
                match turn(server, spec, part) {
                    Ok(_) if round == 0 => {}
                    Ok(found) => {
                        let what = format!("{family}: {}", spec.name);
                        progress(&format!("{what}, round {round}, {}: {}", server.kind.name(), said(&found)));
                        figures.push(found);
                    }
                    Err(error) => {
                        progress(&format!(
                            "{family}: {}, {}: FAILED: {error:#}",
                            spec.name,
                            server.kind.name()
                        ));
                        *cell = Cell::Failed(format!("{error:#}"));
                    }
                }
            }
        }
    }
    servers.iter().for_each(Server::wake);
    rows
}

fn row(family: &'static str, servers: &[Server], spec: &Spec<'_>) -> Row {
    let cell = |server: &Server| {
        let absent = spec.absent.iter().find(|(kind, _)| *kind == server.kind);
        absent.map_or(Cell::Figures(Vec::new()), |(_, why)| Cell::Absent(why.clone()))
    };
    let cells = servers.iter().map(|server| (server.kind, cell(server))).collect();
    let Spec { name, measure, aims, .. } = spec;
    Row { family, name: name.clone(), measure: *measure, aims: aims.clone(), cells }
}

fn turn(server: &Server, spec: &Spec<'_>, part: f64) -> anyhow::Result<Figures> {
    let load = (spec.prepare)(part);
    sync(server)?;
    server.wake();
    let ours = [std::process::id()];
    let (theirs_before, ours_before) = (server.processor_seconds()?, processor_seconds(&ours)?);
    let tally = load(server);
    let used = server.processor_seconds()? - theirs_before;
    let client = processor_seconds(&ours)? - ours_before;
    server.freeze();
    Ok(figures(spec.measure, tally?, used, client))
}

/// Has everything written that an earlier turn left to be written.
pub(crate) fn sync(server: &Server) -> anyhow::Result<()> {
    let folder = File::open(server.data()).context("a server's data is gone")?;
    rustix::fs::syncfs(&folder)?;
    Ok(())
}

fn figures(measure: Measure, mut tally: Tally, server: f64, client: f64) -> Figures {
    let (requests, bytes) = (precise(tally.requests), precise(tally.bytes));
    tally.latencies.sort_unstable();
    let micros = |part: f64| precise(quantile(&tally.latencies, part)) / 1e3;
    if measure == Measure::Throughput {
        let gib = bytes / precise(1 << 30);
        return vec![
            ("mb_per_second", bytes / 1e6 / tally.seconds),
            ("server_seconds_per_gib", server / gib),
            ("client_seconds_per_gib", client / gib),
        ];
    }
    let rate = ("requests_per_second", requests / tally.seconds);
    let (p50, p99) = (("p50_us", micros(0.5)), ("p99_us", micros(0.99)));
    let (server, client) = (
        ("server_us_per_request", server * 1e6 / requests),
        ("client_us_per_request", client * 1e6 / requests),
    );
    match measure {
        Measure::Requests => vec![rate, p50, p99, server, client],
        Measure::Rate => vec![rate, server, client],
        _ => vec![p50, p99, rate, server, client],
    }
}

/// The least value that `part` of all sorted values do not exceed.
fn quantile(sorted: &[u64], part: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
    let place = (precise(sorted.len() as u64) * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

/// The one in the middle, or what is between both there.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get((sorted.len().max(1) - 1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

impl Row {
    /// Whether something did not work that should have; the registry itself can do everything.
    pub(crate) fn has_failures(&self) -> bool {
        let failed = |(kind, cell): &(Kind, Cell)| match cell {
            Cell::Failed(_) => true,
            Cell::Absent(_) => *kind == Kind::Stella,
            Cell::Figures(_) => false,
        };
        self.cells.iter().any(failed)
    }

    /// The values of a figure in all rounds.
    pub(crate) fn values(&self, kind: Kind, name: &str) -> Vec<f64> {
        let cell = self.cells.iter().find(|(known, _)| *known == kind);
        let Some((_, Cell::Figures(rounds))) = cell else { return Vec::new() };
        let value =
            |figures: &Figures| figures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        rounds.iter().filter_map(value).collect()
    }

    /// The values that are compared.
    fn compared(&self, kind: Kind) -> Vec<f64> {
        self.values(kind, self.measure.name())
    }

    /// How many times better the registry is than another, in each round.
    pub(crate) fn ratios(&self, other: Kind) -> Vec<f64> {
        let better = |(ours, theirs): (f64, f64)| {
            if self.measure.is_better_when_less() { theirs / ours } else { ours / theirs }
        };
        self.compared(Kind::Stella).into_iter().zip(self.compared(other)).map(better).collect()
    }

    /// Whether an aim is reached, if that was measured.
    pub(crate) fn reaches(&self, aim: Aim) -> Option<bool> {
        match aim {
            Aim::Times(other, least) => median(&self.ratios(other)).map(|ratio| ratio >= least),
            Aim::AtMost(most) => median(&self.compared(Kind::Stella)).map(|value| value <= most),
        }
    }
}

impl Measure {
    /// The name of the figure that is compared.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "mb_per_second",
            Self::Requests | Self::Rate => "requests_per_second",
            Self::Latency => "p50_us",
            Self::Growth => "times",
            Self::Start | Self::Until => "ms",
            Self::Memory => "mb",
            Self::MemoryEach => "kib_each",
            Self::Cost => "times_anonymous",
            Self::Gated => "times_ungated",
            Self::Processor => "cpu_ms",
        }
    }

    pub(crate) fn is_better_when_less(self) -> bool {
        !matches!(self, Self::Throughput | Self::Requests | Self::Rate)
    }
}

/// Says how far the run is.
pub(crate) fn progress(what: &str) {
    eprintln!("{what}");
}

/// Figures in one line.
pub(crate) fn said(figures: &Figures) -> String {
    figures.iter().map(|(name, value)| format!("{name} {value:.2}")).collect::<Vec<_>>().join(", ")
}
