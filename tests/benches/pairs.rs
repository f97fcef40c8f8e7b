// SPDX-License-Identifier: AGPL-3.0-only
//! What a difference between two loads costs, on one server: in each pair a plain turn and another one follow each other,
//! with the same number of requests, and every second time the other one is first. What is compared is the server's
//! processor time of both, so that it matters little what else the machine does.

use std::time::Duration;

use anyhow::ensure;

use crate::load::Limit;
use crate::plan::Plan;
use crate::rounds::{Aim, Cell, Figures, Measure, Row, Tally, progress, said, spend};
use crate::server::Server;
use crate::usage::precise;

/// How many pairs are measured where others have a round; small differences need many.
const PAIRS: usize = 3;
/// The kernel counts in hundredths of a second, of which a turn must have many.
const SHORTEST: Duration = Duration::from_millis(300);

/// Two loads on one server that differ in one thing.
pub(crate) struct Pair<'a> {
    pub(crate) name: String,
    pub(crate) aims: Vec<Aim>,
    pub(crate) plain: Load<'a>,
    pub(crate) other: Load<'a>,
}

/// Puts load on the server until it is told to end.
pub(crate) type Load<'a> = Box<dyn Fn(Limit) -> anyhow::Result<Tally> + 'a>;

/// Measures all pairs, in turns.
pub(crate) fn measure(plan: &Plan, family: &'static str, server: &Server, pairs: &[Pair<'_>]) -> Vec<Row> {
    server.freeze();
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
                pair.compare(server, *requests, number % 2 == 1).map(Some)
            };
            let what = format!("{family}: {}", pair.name);
            match turn {
                Ok(None) => progress(&format!("{what}, {requests} requests in each turn")),
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
    server.wake();
    let row = |(pair, (_, cell)): (&Pair<'_>, _)| Row {
        family,
        name: pair.name.clone(),
        measure: Measure::Cost,
        aims: pair.aims.clone(),
        cells: vec![(server.kind, cell)],
    };
    pairs.iter().zip(measured).map(row).collect()
}

impl Pair<'_> {
    /// Does both, and gives how many requests fill a turn.
    fn warm_up(&self, plan: &Plan, server: &Server) -> anyhow::Result<u64> {
        let time = Limit::Time(plan.turn.max(SHORTEST));
        spend(server, || (self.other)(time))?;
        Ok(spend(server, || (self.plain)(time))?.tally.requests)
    }

    fn compare(&self, server: &Server, requests: u64, plain_first: bool) -> anyhow::Result<Figures> {
        let micros = |load: &Load<'_>| -> anyhow::Result<f64> {
            let spent = spend(server, || load(Limit::Requests(requests)))?;
            ensure!(spent.tally.requests == requests, "a turn had other than {requests} requests");
            ensure!(spent.server > 0.0, "a turn is too short to be measured; give more --seconds");
            Ok(spent.server * 1e6 / precise(requests))
        };
        let (plain, other);
        if plain_first {
            plain = micros(&self.plain)?;
            other = micros(&self.other)?;
        } else {
            other = micros(&self.other)?;
            plain = micros(&self.plain)?;
        }
        Ok(vec![
            (Measure::Cost.name(), other / plain),
            ("server_us_per_request", other),
            ("anonymous_server_us_per_request", plain),
        ])
    }
}
