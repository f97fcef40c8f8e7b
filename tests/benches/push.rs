// SPDX-License-Identifier: AGPL-3.0-only
//! Pushes of blobs that nobody has pushed before, beside a bare program that receives, hashes, writes and syncs. Neither
//! docker-registry nor distribution syncs.

use crate::plan::{MIB, Plan, size};
use crate::push_load::{Mint, push};
use crate::rounds::{Aim, Measure, Row, Spec, measure};
use crate::server::{Kind, Server};

const FAMILY: &str = "push";
const REPOSITORY: &str = "bench/push";

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let large = plan.sizes.pushed;
    let small = usize::try_from(MIB)?;
    let cases = [(large, 1), (large, 4), (small, 16)];
    let mut rows = Vec::new();
    for (length, clients) in cases {
        let clients_are = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        let name = format!("blobs of {}, {clients_are}", size(length as u64));
        if !plan.wants(FAMILY, &name) {
            continue;
        }
        // For each row, so that the disk does not keep what all rows have pushed.
        let servers = Server::start_all(plan, &[&Kind::REGISTRIES[..], &[Kind::Bare]].concat())?;
        let mint = Mint::new(length);
        let count = (plan.sizes.pushes / length).max(clients);
        let spec = Spec::prepared(
            name,
            Measure::Throughput,
            |part: f64| mint.blobs(if part < 1.0 { clients } else { count }),
            |server, blobs| push(server.host(), REPOSITORY, &mint, &blobs, clients),
        );
        rows.extend(measure(plan, FAMILY, &servers, &[spec.aim(Aim::Times(Kind::Bare, 0.95))]));
    }
    Ok(rows)
}
