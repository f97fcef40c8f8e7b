// SPDX-License-Identifier: AGPL-3.0-only
//! What the commands that speak with registries share: their flags, their way to end, and how they print.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::{Outcome, print};
use crate::admin::Failed;
use crate::exit;
use crate::remote::{Error, Options, Result};

/// How registries are reached.
#[derive(Args, Clone)]
pub(super) struct Connection {
    /// Trust the CA certificates in this PEM file too, beside those of the system
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Speak plain HTTP (a loopback address that does not speak TLS needs no flag)
    #[arg(long)]
    plain_http: bool,
}

impl Connection {
    pub(super) fn options(&self, env: &AllVariables) -> Options {
        let mut options = Options::new(|name| env.get(name).map(OsStr::to_owned));
        options.cacert.clone_from(&self.cacert);
        options.plain_http = self.plain_http;
        options
    }
}

/// The whole environment: credentials are where docker's own variables say.
pub(super) struct AllVariables(pub(super) Vec<(OsString, OsString)>);

impl AllVariables {
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }
}

/// `--output`.
#[derive(Args, Clone, Copy)]
pub(super) struct Format {
    /// Print it for a person, or as one JSON object
    #[arg(short, long, value_enum, value_name = "human|json", hide_possible_values = true, default_value_t = Kind::Human)]
    output: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Human,
    Json,
}

impl Format {
    pub(super) fn is_json(self) -> bool {
        self.output == Kind::Json
    }

    /// Prints an answer.
    pub(super) fn print(self, answer: &(impl Serialize + std::fmt::Display)) -> anyhow::Result<()> {
        if self.is_json() {
            print(&format!("{}\n", serde_json::to_string(answer)?))
        } else {
            print(&answer.to_string())
        }
    }

    /// Runs a command. Whoever reads JSON is told of an error as JSON too.
    pub(super) fn run(self, command: impl Future<Output = anyhow::Result<u8>>) -> Outcome {
        run(command).inspect_err(|error| {
            if self.is_json() {
                let last = Failed { error: format!("{error:#}"), exit: super::exit_code(error) };
                // The error goes to stderr all the same.
                let _closed = serde_json::to_string(&last).map(|line| print(&format!("{line}\n")));
            }
        })
    }
}

/// Runs a command to its end, or until it is interrupted.
pub(super) fn run(command: impl Future<Output = anyhow::Result<u8>>) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(async {
        // Before anything begins that could be interrupted.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        tokio::select! {
            outcome = command => outcome,
            _ = interrupt.recv() => {
                Err(Failed { error: "interrupted".to_owned(), exit: exit::INTERRUPTED }.into())
            }
        }
    });
    // What still runs gets a moment to tidy up; a read that blocks is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { exit: error.exit(), error: error.to_string() }
    }
}

/// An outcome of the client as one of the command line, saying what it was about.
pub(super) fn told<T>(outcome: Result<T>, what: impl std::fmt::Display) -> anyhow::Result<T> {
    outcome.map_err(|error| Failed::from(error.about(what)).into())
}
