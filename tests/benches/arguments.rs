// SPDX-License-Identifier: AGPL-3.0-only
//! What the benches can be told. Whatever is given is repeated in the report.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::server::Kind;

/// Measures the registry and its peers, and prints a table.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "tests/benches/run.sh", disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Measure only rows whose name contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Policies of the family gate; a large company has 10000 [default: 1000, with --quick 100]
    #[arg(long, value_name = "COUNT")]
    pub(crate) policies: Option<u64>,
    /// Digests that they are about; it has 100000, which take some ten minutes to push: raise --patience too [default: 5000, with
    /// --quick 200]
    #[arg(long, value_name = "COUNT")]
    pub(crate) digests: Option<u64>,
    /// Print the names of all rows, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Smaller contents, fewer and shorter rounds: to see that everything works, not to publish
    #[arg(long)]
    pub(crate) quick: bool,
    /// How long a turn takes [default: 2, with --quick 0.3]
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// How many rounds are taken [default: 5, with --quick 2]
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Which servers are measured
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    #[arg(default_values_t = Kind::ALL)]
    pub(crate) servers: Vec<Kind>,
    /// Give the servers one core and the client another, instead of all to both
    #[arg(long)]
    pub(crate) pin: bool,
    /// How long preparing one thing on one server may take, in seconds, before its row is left out
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) patience: u64,
    /// Where the results go as JSON [default: DATE.json in target/bench]
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Folder for the servers' data, on the disk to be measured; what is made there is removed at the end [default:
    /// target/bench/data]
    #[arg(long, default_value_os_t = default_folder().join("data"), hide_default_value = true, value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// The program to measure [default: what `STELLA_BIN` says, or else what cargo builds here]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) stella: Option<PathBuf>,
    /// The folder of this run, which the janitor removes
    #[arg(long, hide = true)]
    pub(crate) within: Option<PathBuf>,
    /// What cargo gives to each bench
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the program does instead.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receives, hashes, writes and syncs, and nothing else
    #[command(hide = true)]
    Bare {
        /// Where it writes
        data: PathBuf,
    },
}

/// Where everything goes that is not told to go elsewhere.
pub(crate) fn default_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench")
}
