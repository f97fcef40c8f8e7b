// SPDX-License-Identifier: AGPL-3.0-only
//! containerd, by way of `ctr`, which keeps no password: it is told one with each command.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Process, Tool};

use super::{Visitor, guarded};
use crate::containerd::{PULL, daemon, empty};

pub(crate) struct Containerd {
    ctr: Tool,
    user: String,
    _daemon: Process,
    bench: Bench,
}

impl Visitor for Containerd {
    // It does not read what else a refusal says.
    const SHOWS_REASONS: bool = false;

    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Containerd], guard)?;
        let (daemon, ctr) = daemon(&bench);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        let archive = bench.archive("source");
        ctr.run(&format!("images import --no-unpack --base-name sample {archive}"));
        Some(Self { ctr, user: String::new(), _daemon: daemon, bench })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        self.user = format!("--user {}:{}", who.name, who.secret);
        self.ctr.try_run(&format!("{PULL} {} {}", self.user, self.reference("group/base")))
    }

    fn log_out(&mut self) {
        self.user.clear();
    }

    fn push(&self, repository: &str) -> Outcome {
        let reference = self.reference(repository);
        self.ctr.try_run(&format!("images push --plain-http {} {reference} sample:1", self.user))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        empty(&self.ctr);
        let reference = self.reference(repository);
        self.ctr.try_run(&format!("{PULL} {} {reference}", self.user)).succeeded()?;
        let listed = self.ctr.run(&format!("images ls name=={reference}"));
        let digest = listed.split_whitespace().find(|word| word.starts_with("sha256:"));
        Ok(digest.unwrap_or_else(|| panic!("no digest in {listed}")).to_owned())
    }
}
