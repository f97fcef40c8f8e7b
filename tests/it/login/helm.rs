// SPDX-License-Identifier: AGPL-3.0-only
//! helm. A chart's name is the last part of its repository's.

use std::fs;

use stella_tests::{Bench, Client, Credentials, Guard, Outcome, Tool, noise};

use super::{TAG, Visitor, guarded, with_secret};

pub(crate) struct Helm {
    bench: Bench,
    helm: Tool,
}

impl Visitor for Helm {
    fn enter(guard: &Guard) -> Option<Self> {
        let bench = guarded(&[Client::Helm], guard)?;
        let helm = bench.tool(Client::Helm);
        for name in ["app", "base"] {
            let chart = format!("apiVersion: v2\nname: {name}\nversion: {TAG}\n");
            bench.write(&format!("{name}/Chart.yaml"), chart);
            bench.write(&format!("{name}/files/noise"), noise(1, 100_000));
            helm.run(&format!("package -d charts {name}"));
        }
        Some(Self { bench, helm })
    }

    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments =
            format!("registry login {} -u {} --password-stdin", self.bench.server.host(), who.name);
        with_secret(&self.bench, &self.helm, who, &arguments)
    }

    fn log_out(&mut self) {
        self.helm.run(&format!("registry logout {}", self.bench.server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        let (folder, chart) = repository.rsplit_once('/').unwrap();
        let host = self.bench.server.host();
        self.helm.try_run(&format!("push charts/{chart}-{TAG}.tgz oci://{host}/{folder}"))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        let _absent = fs::remove_dir_all(self.bench.path("pulled"));
        fs::create_dir(self.bench.path("pulled")).unwrap();
        let host = self.bench.server.host();
        let outcome = self
            .helm
            .try_run(&format!("pull oci://{host}/{repository} --version {TAG} -d pulled"))
            .succeeded()?;
        let chart = repository.rsplit_once('/').unwrap().1;
        let packed = format!("{chart}-{TAG}.tgz");
        let same =
            self.bench.read(&format!("pulled/{packed}")) == self.bench.read(&format!("charts/{packed}"));
        assert!(same, "{packed} differs");
        let said = outcome.said();
        Ok(said.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap().trim().to_owned())
    }
}
