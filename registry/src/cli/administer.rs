// SPDX-License-Identifier: AGPL-3.0-only
//! Commands that work on the data: through the server that holds it, or else directly.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use stella_storage::{Error, Store, StoreOptions, Upgrade};
use tokio::sync::mpsc;

use super::{Environment, Outcome, Place};
use crate::admin::{Done, Failed, ITEMS, Operation, client};
use crate::config::Config;
use crate::exit::{self, NOT_FOUND};
use crate::{logging, server};

/// How a command tells what it does.
#[derive(Args, Clone, Copy)]
pub(super) struct Output {
    /// Print JSON, one object a line, instead of sentences
    #[arg(long)]
    json: bool,
}

impl Output {
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints an item, or a summary.
    fn print(self, value: &(impl Serialize + Display)) -> io::Result<()> {
        let line = if self.json { serde_json::to_string(value)? } else { value.to_string() };
        print_line(&line)
    }

    /// Prints what a command was asked for.
    pub(super) fn tell(self, value: &(impl Serialize + Display)) -> anyhow::Result<()> {
        self.print(value).context("cannot write to stdout")
    }

    /// Prints what came of an operation, and says which exit code it means.
    pub(super) fn end<S: Serialize + Display>(self, summary: S, faults: bool) -> Outcome {
        let line = if self.json { serde_json::to_string(&Done { summary })? } else { summary.to_string() };
        print_line(&line)?;
        Ok(if faults { exit::INTEGRITY } else { 0 })
    }

    /// Runs a command; whoever reads JSON is told of an error as JSON too.
    pub(super) fn report(self, command: impl FnOnce() -> Outcome) -> Outcome {
        command().inspect_err(|error| {
            if self.json {
                let last = Failed { error: format!("{error:#}"), exit: super::exit_code(error) };
                // The error goes to stderr all the same.
                let _closed = serde_json::to_string(&last).map(|line| print_line(&line));
            }
        })
    }
}

fn print_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A store, or the server that has it.
enum Access {
    Direct(Box<Store>),
    Server { holder: String },
}

/// What commands on the data of one place share.
pub(super) struct Administration {
    options: StoreOptions,
    access: Access,
    runtime: tokio::runtime::Runtime,
    output: Output,
}

impl Administration {
    /// Finds the data that the configuration names, which must be there.
    pub(super) fn open(place: Place, env: Environment, output: Output) -> anyhow::Result<Self> {
        let config = place.load(env)?;
        // Looking at data must not upgrade it.
        let options = StoreOptions { upgrade: Upgrade::Wait, ..server::store_options(&config)? };
        expect_data(&options)?;
        let runtime = begin(&config)?;
        let access = match runtime.block_on(Store::open(&options)) {
            Ok(store) => Access::Direct(store.into()),
            Err(Error::Locked { holder, .. }) => Access::Server { holder },
            Err(error) => return Err(Failed::from(error).into()),
        };
        Ok(Administration { options, access, runtime, output })
    }

    /// Runs an operation and prints what it tells.
    pub(super) fn run<O: Operation>(&self, operation: O) -> Outcome {
        let summary = self.ask(operation)?;
        let faults = O::faults(&summary);
        self.output.end(summary, faults)
    }

    /// Runs an operation, prints its items, and gives what came of it.
    pub(super) fn ask<O: Operation>(&self, operation: O) -> anyhow::Result<O::Summary> {
        let output = self.output;
        match &self.access {
            Access::Server { holder } => {
                client::ask(&self.options.data, holder, operation, |item| output.print(&item))
            }
            Access::Direct(store) => {
                let run = async |items| operation.run(store, items).await;
                self.runtime.block_on(printed(output, run))
            }
        }
    }
}

impl Administration {
    /// Runs an operation, gives its items to `each`, and gives what came of it.
    pub(super) fn collect<O: Operation>(
        &self,
        operation: O,
        mut each: impl FnMut(O::Item),
    ) -> anyhow::Result<O::Summary> {
        match &self.access {
            Access::Server { holder } => client::ask(&self.options.data, holder, operation, |item| {
                each(item);
                Ok(())
            }),
            Access::Direct(store) => self.runtime.block_on(async {
                let (sender, mut items) = mpsc::channel(ITEMS);
                let gathering = async {
                    while let Some(item) = items.recv().await {
                        each(item);
                    }
                };
                let (outcome, ()) = tokio::join!(operation.run(store, sender), gathering);
                outcome.map_err(|error| Failed::from(error).into())
            }),
        }
    }
}

/// Refuses a directory without data, which would otherwise become one with.
pub(super) fn expect_data(options: &StoreOptions) -> Result<(), Failed> {
    let data = &options.data;
    match data.join("lock").try_exists() {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => {
            let error = format!("cannot look into {}: {error}", data.display());
            return Err(Failed { error, exit: exit::INTERNAL });
        }
    }
    let error = format!("{} holds no registry's data; name its directory with --data", data.display());
    Err(Failed { error, exit: NOT_FOUND })
}

/// Logs and threads, for a command that works itself.
pub(super) fn begin(config: &Config) -> anyhow::Result<tokio::runtime::Runtime> {
    logging::init(&config.log, None)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")
}

/// Runs an operation that needs no store.
pub(super) fn run_alone<I, S>(
    runtime: &tokio::runtime::Runtime,
    output: Output,
    operation: impl AsyncFnOnce(mpsc::Sender<I>) -> stella_storage::Result<S>,
    faults: impl FnOnce(&S) -> bool,
) -> Outcome
where
    I: Serialize + Display,
    S: Serialize + Display,
{
    let summary = runtime.block_on(printed(output, operation))?;
    let faults = faults(&summary);
    output.end(summary, faults)
}

async fn printed<I: Serialize + Display, S>(
    output: Output,
    operation: impl AsyncFnOnce(mpsc::Sender<I>) -> stella_storage::Result<S>,
) -> anyhow::Result<S> {
    let (sender, mut items) = mpsc::channel(ITEMS);
    // When printing fails the items are dropped, which ends the operation.
    let printing = async move {
        while let Some(item) = items.recv().await {
            output.print(&item)?;
        }
        io::Result::Ok(())
    };
    let (outcome, printed) = tokio::join!(operation(sender), printing);
    printed.context("cannot write to stdout")?;
    outcome.map_err(|error| Failed::from(error).into())
}
