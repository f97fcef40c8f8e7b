// SPDX-License-Identifier: AGPL-3.0-only
//! buildah.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Outcome, Tool};

use super::{Visitor, guarded, with_secret};

pub(crate) struct Buildah {
    bench: Bench,
    buildah: Tool,
}

impl Visitor for Buildah {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Buildah], guard)?;
        let buildah = crate::buildah::buildah(&bench);
        Image::sample(1).build().write_layout(&bench.path("source"), "1");
        let id = buildah.run("pull -q oci:source:1");
        buildah.run(&format!("tag {id} localhost/sample:1"));
        Some(Self { bench, buildah })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("login -u {} --password-stdin {}", who.name, self.bench.server.host());
        with_secret(&self.bench, &self.buildah, who, &arguments)
    }

    fn log_out(&mut self) {
        self.buildah.run(&format!("logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        self.buildah.try_run(&format!("push localhost/sample:1 docker://{}", self.reference(repository)))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        self.buildah.run("rmi --all --force");
        let reference = self.reference(repository);
        self.buildah.try_run(&format!("pull {reference}")).succeeded()?;
        let inspect = format!("inspect --type image --format {{{{.FromImageDigest}}}} {reference}");
        Ok(self.buildah.run(&inspect))
    }
}
