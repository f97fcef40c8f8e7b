// SPDX-License-Identifier: AGPL-3.0-only
//! podman.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Tool};

use super::{Visitor, guarded, with_secret};

pub(crate) struct Podman {
    bench: Bench,
    podman: Tool,
}

impl Visitor for Podman {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Podman], guard)?;
        let podman = crate::podman::podman(&bench);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        let id = podman.run("pull -q oci:source:1");
        podman.run(&format!("tag {id} localhost/sample:1"));
        Some(Self { bench, podman })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("login -u {} --password-stdin {}", who.name, self.bench.server.host());
        with_secret(&self.bench, &self.podman, who, &arguments)
    }

    fn log_out(&mut self) {
        self.podman.run(&format!("logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        self.podman.try_run(&format!("push localhost/sample:1 docker://{}", self.reference(repository)))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        self.podman.run("rmi --all --force");
        let reference = self.reference(repository);
        self.podman.try_run(&format!("pull {reference}")).succeeded()?;
        Ok(self.podman.run(&format!("image inspect --format {{{{.Digest}}}} {reference}")))
    }
}
