// SPDX-License-Identifier: AGPL-3.0-only
//! skopeo.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Tool};

use super::{Visitor, guarded, pull_layout, with_secret};

pub(crate) struct Skopeo {
    bench: Bench,
    skopeo: Tool,
}

impl Visitor for Skopeo {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Skopeo], guard)?;
        let skopeo = bench.tool(Client::Skopeo);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        Some(Self { bench, skopeo })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("login -u {} --password-stdin {}", who.name, self.bench.server.host());
        with_secret(&self.bench, &self.skopeo, who, &arguments)
    }

    fn log_out(&mut self) {
        self.skopeo.run(&format!("logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        self.skopeo.try_run(&format!("copy oci:source:1 docker://{}", self.reference(repository)))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        let arguments = format!("copy docker://{} oci:pulled:1", self.reference(repository));
        pull_layout(&self.bench, &self.skopeo, &arguments)
    }
}
