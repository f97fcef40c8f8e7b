// SPDX-License-Identifier: AGPL-3.0-only
//! regctl. It keeps a wrong password too.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Tool};

use super::{Visitor, guarded, pull_layout, with_secret};

pub(crate) struct Regctl {
    bench: Bench,
    regctl: Tool,
}

impl Visitor for Regctl {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Regctl], guard)?;
        let regctl = bench.tool(Client::Regctl);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        Some(Self { bench, regctl })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("registry login -u {} --pass-stdin {}", who.name, self.bench.server.host());
        with_secret(&self.bench, &self.regctl, who, &arguments)
    }

    fn log_out(&mut self) {
        self.regctl.run(&format!("registry logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        self.regctl.try_run(&format!("image copy ocidir://source:1 {}", self.reference(repository)))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        let arguments = format!("image copy {} ocidir://pulled:1", self.reference(repository));
        pull_layout(&self.bench, &self.regctl, &arguments)
    }
}
