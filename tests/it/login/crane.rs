// SPDX-License-Identifier: AGPL-3.0-only
//! crane. It asks nobody when it logs in.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Tool};

use super::{Visitor, guarded, pull_layout, with_secret};

pub(crate) struct Crane {
    bench: Bench,
    crane: Tool,
}

impl Visitor for Crane {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Crane], guard)?;
        let crane = bench.tool(Client::Crane);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        Some(Self { bench, crane })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("auth login {} -u {} --password-stdin", self.bench.server.host(), who.name);
        with_secret(&self.bench, &self.crane, who, &arguments).must_succeed();
        self.crane.try_run(&format!("manifest {}", self.reference("group/base")))
    }

    fn log_out(&mut self) {
        self.crane.run(&format!("auth logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        self.crane.try_run(&format!("push source {}", self.reference(repository)))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        let arguments = format!("pull --format oci {} pulled", self.reference(repository));
        pull_layout(&self.bench, &self.crane, &arguments)
    }
}
