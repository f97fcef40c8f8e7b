// SPDX-License-Identifier: AGPL-3.0-only
//! The benches: our registry beside others, in one run, on one disk, with one client. `run.sh` beside this
//! file installs what is missing, builds, and runs it; the README says what the table means.
//!
//! What is fair here, and how that is kept:
//!
//! - Every server gets the same requests from the same client, in turns (A B C A B C …), so that what changes
//!   on the machine meanwhile meets them all. A figure is the median of the rounds; a ratio is taken within
//!   each round, and shown with its least and its greatest.
//! - While one is measured the others are stopped (SIGSTOP), and before each turn the file system is synced, so
//!   that nobody pays for what another left to be written.
//! - Servers run with their defaults, but for addresses and folders, and for what makes a peer faster:
//!   `server.rs` has each setting. Each starts afresh for each family of rows.
//! - Setting up, hashing and cleaning up are outside the clock. A blob that is pushed was never pushed before.
//! - The status and the length of every answer are checked, and whole answers before the clock runs, so that
//!   errors do not look fast.
//! - The client's and the server's threads share all cores, as the kernel likes; with `--pin` the servers have one
//!   core and the client another.
//!
//! What lives where: `janitor.rs` removes what a run leaves, however it ends; `rounds.rs` and `pairs.rs` take turns;
//! `load.rs` and its neighbours are the client; `pull.rs` and the like are the families of rows; `bare.rs` is what a
//! push, and `sign.rs` what a token is compared with; `report.rs` prints.

mod access;
mod arguments;
mod bare;
mod content;
mod gate;
mod gate_many;
mod janitor;
mod load;
mod machine;
mod manifests;
mod memory;
mod pages;
mod pairs;
mod plan;
mod prepare;
mod pull;
mod pull_load;
mod push;
mod push_load;
mod report;
mod rounds;
mod server;
mod sign;
mod start;
mod usage;
mod verify;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::{Arguments, Command};
use plan::Plan;
use rounds::{Row, progress};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.command, &arguments.within) {
        (Some(Command::Bare { data }), _) => bare::serve(data).map(|()| ExitCode::SUCCESS),
        (None, None) if !arguments.list => janitor::guard(&arguments),
        (None, _) => run(arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Measures its rows that are asked for.
type Family = fn(&Plan) -> anyhow::Result<Vec<Row>>;

/// Measures everything that is asked for, and prints it.
fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    // For thousands of connections; what is started inherits it.
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files })?;
    let statement = machine::describe(&plan)?;
    let mut rows = Vec::new();
    let families: [Family; 9] = [
        pull::rows,
        push::rows,
        manifests::rows,
        pages::rows,
        access::rows,
        gate::rows,
        start::rows,
        memory::rows,
        verify::rows,
    ];
    let mut failures = Vec::new();
    for family in families {
        // The others are measured all the same: a run is long.
        match family(&plan) {
            Ok(measured) => rows.extend(measured),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if plan.arguments.list {
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(
        !rows.is_empty() || !failures.is_empty(),
        "no row is like what --only asks for; see --list"
    );
    report::print(&plan, &statement, &rows)?;
    for failure in &failures {
        progress(&format!("FAILED: {failure}"));
    }
    let failed = !failures.is_empty() || rows.iter().any(Row::has_failures);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
