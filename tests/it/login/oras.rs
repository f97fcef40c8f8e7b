// SPDX-License-Identifier: AGPL-3.0-only
//! oras.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Tool};

use super::{Visitor, guarded, pull_layout, with_secret};

pub(crate) struct Oras {
    bench: Bench,
    oras: Tool,
}

impl Visitor for Oras {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Oras], guard)?;
        let oras = bench.tool(Client::Oras);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        Some(Self { bench, oras })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("login -u {} --password-stdin {}", who.name, self.bench.server.host());
        with_secret(&self.bench, &self.oras, who, &arguments)
    }

    fn log_out(&mut self) {
        self.oras.run(&format!("logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        self.oras.try_run(&format!("cp --from-oci-layout source:1 {}", self.reference(repository)))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        let arguments = format!("cp --to-oci-layout {} pulled:1", self.reference(repository));
        pull_layout(&self.bench, &self.oras, &arguments)
    }
}
