// SPDX-License-Identifier: AGPL-3.0-only
//! What a difference between two loads costs, on one server: a pair is a plain turn and another one with the same number
//! of requests. Both are cut into short slices that alternate, and every second time the other one is first: the
//! processors of a virtual machine, whose neighbours come and go, may be twice as fast in one second as in the next. What
//! is compared is the server's processor time of both.

use std::time::Duration;

use anyhow::ensure;

use crate::load::Limit;
use crate::plan::Plan;
use crate::rounds::{Aim, Cell, Figures, Measure, Row, Tally, progress, said, sync};
use crate::server::Server;
use crate::usage::precise;

/// How many pairs are measured where others have a round; small differences need many.
const PAIRS: usize = 3;
/// Into how many slices each turn is cut.
const SLICES: u64 = 50;
/// In a shorter turn slices would have little but their connections.
const SHORTEST: Duration = Duration::from_millis(300);

/// Two loads on one server that differ in one thing.
pub(crate) struct Pair<'a> {
    pub(crate) name: String,
    /// What the other one has that the plain one has not.
    pub(crate) measure: Measure,
    pub(crate) aims: Vec<Aim>,
    pub(crate) plain: Load<'a>,
    pub(crate) other: Load<'a>,
}

/// Puts load on the server until it is told to end.
pub(crate) type Load<'a> = Box<dyn Fn(Limit) -> anyhow::Result<Tally> + 'a>;

/// Measures all pairs, in turns.
pub(crate) fn measure(plan: &Plan, family: &'static str, server: &Server, pairs: &[Pair<'_>]) -> Vec<Row> {
    let mut measured: Vec<_> = pairs.iter().map(|_| (0, Cell::Figures(Vec::new()))).collect();
    for number in 0..=PAIRS * plan.rounds {
        for (pair, (requests, cell)) in pairs.iter().zip(&mut measured) {
            let Cell::Figures(figures) = cell else { continue };
            let turn = if number == 0 {
                pair.warm_up(plan, server).map(|found| {
                    *requests = found;
                    None
                })
            } else {
                pair.compare(server, *requests).map(Some)
            };
            let what = format!("{family}: {}", pair.name);
            match turn {
                Ok(None) => progress(&format!("{what}: {requests} requests in each slice")),
                Ok(Some(found)) => {
                    progress(&format!("{what}, pair {number}: {}", said(&found)));
                    figures.push(found);
                }
                Err(error) => {
                    progress(&format!("{what}: FAILED: {error:#}"));
                    *cell = Cell::Failed(format!("{error:#}"));
                }
            }
        }
    }
    let row = |(pair, (_, cell)): (&Pair<'_>, _)| Row {
        family,
        name: pair.name.clone(),
        measure: pair.measure,
        aims: pair.aims.clone(),
        cells: vec![(server.kind, cell)],
    };
    pairs.iter().zip(measured).map(row).collect()
}

impl Pair<'_> {
    /// Does both, and gives how many requests fill a slice with the server's processor time, whatever else the machine
    /// does.
    fn warm_up(&self, plan: &Plan, server: &Server) -> anyhow::Result<u64> {
        let turn = plan.turn.max(SHORTEST);
        (self.other)(Limit::Time(turn))?;
        let before = server.threads()?;
        let requests = (self.plain)(Limit::Time(turn))?.requests;
        let used = Duration::from_nanos(server.threads()?.ran_since(&before));
        let slices = used.as_secs_f64() / turn.as_secs_f64() * precise(SLICES);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
        let requests = (precise(requests) / slices) as u64;
        Ok(requests.max(1))
    }

    fn compare(&self, server: &Server, requests: u64) -> anyhow::Result<Figures> {
        sync(server)?;
        let nanos = |load: &Load<'_>| -> anyhow::Result<u64> {
            let before = server.threads()?;
            let tally = load(Limit::Requests(requests))?;
            ensure!(
                tally.requests == requests,
                "a slice had {} requests instead of {requests}",
                tally.requests
            );
            Ok(server.threads()?.ran_since(&before))
        };
        let (mut plain, mut other) = (0, 0);
        for slice in 0..SLICES {
            if slice % 2 == 0 {
                plain += nanos(&self.plain)?;
                other += nanos(&self.other)?;
            } else {
                other += nanos(&self.other)?;
                plain += nanos(&self.plain)?;
            }
        }
        ensure!(plain > 0, "the kernel counts no processor time");
        let beside = match self.measure {
            Measure::Gated => "ungated_server_us_per_request",
            _ => "anonymous_server_us_per_request",
        };
        let micros = |nanos: u64| precise(nanos) / 1e3 / precise(requests * SLICES);
        Ok(vec![
            (self.measure.name(), precise(other) / precise(plain)),
            ("server_us_per_request", micros(other)),
            (beside, micros(plain)),
        ])
    }
}
