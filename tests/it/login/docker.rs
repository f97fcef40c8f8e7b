// SPDX-License-Identifier: AGPL-3.0-only
//! docker. On 127.0.0.0/8 it checks no certificate, so the registry is elsewhere.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Login, Network, Outcome, Who};

use super::{TAG, Visitor, repository, with_secret};
use crate::docker::{Engine, Trust};

pub(crate) struct Docker {
    engine: Engine,
    _trust: Trust,
    _network: Network,
}

impl Visitor for Docker {
    fn enter(guard: &Guard) -> Option<Self> {
        let mut network = Network::make()?;
        let clients = [&[Client::Docker], guard.others()].concat();
        let engine = Engine::on(Bench::inside(&mut network, &clients, &guard.settings())?);
        let server = &engine.bench.server;
        let trust = Trust::put(server.host(), server.authority().unwrap());
        engine.build("sample:1");
        Some(Self { engine, _trust: trust, _network: network })
    }

    fn bench(&self) -> &Bench {
        &self.engine.bench
    }

    fn log_in(&mut self, who: &Credentials) -> Outcome {
        let arguments = format!("login -u {} --password-stdin {}", who.name, self.bench().server.host());
        with_secret(self.bench(), &self.engine.docker, who, &arguments)
    }

    fn log_out(&mut self) {
        self.engine.docker.run(&format!("logout {}", self.bench().server.host()));
    }

    fn push(&self, repository: &str) -> Outcome {
        let reference = self.reference(repository);
        self.engine.docker.run(&format!("tag sample:1 {reference}"));
        self.engine.docker.try_run(&format!("push {reference}"))
    }

    fn pull(&self, repository: &str) -> Result<String, Outcome> {
        let docker = &self.engine.docker;
        for image in docker.run("images -aq --no-trunc").lines() {
            docker.try_run(&format!("rmi -f {image}"));
        }
        assert_eq!(docker.run("images -aq"), "");
        let reference = self.reference(repository);
        docker.try_run(&format!("pull {reference}")).succeeded()?;
        let digests = docker.run(&format!("image inspect --format {{{{.RepoDigests}}}} {reference}"));
        Ok(digests.trim_matches(['[', ']']).rsplit_once('@').unwrap().1.to_owned())
    }
}

#[test]
fn docker_pushes_all_tags_and_mounts_what_it_may_read() {
    let guard = Guard::new(Login::Token);
    let Some(mut docker) = Docker::enter(&guard) else { return };
    let host = docker.bench().server.host().clone();
    let base = repository(docker.bench(), &guard, "group/base");
    let image = Image::sample(9).docker().build();
    base.push(&image, TAG);
    docker.log_in(&guard.credentials(Who::Builder)).must_succeed();

    let run = |arguments: String| docker.engine.docker.run(&arguments);
    run(format!("pull -q {host}/group/base:{TAG}"));
    for tag in ["1", "2", "3"] {
        run(format!("tag {host}/group/base:{TAG} {host}/group/app:{tag}"));
    }
    run(format!("push --all-tags {host}/group/app"));
    let app = repository(docker.bench(), &guard, "group/app");
    assert_eq!(app.tags(), ["1", "2", "3"]);
    assert_eq!(app.pull("3").config(), image.config());
    let said = docker.bench().server.said();
    for layer in image.manifest()["layers"].as_array().unwrap() {
        let from = format!("repository=\"group/app\" digest={} from=\"group/base\"", layer["digest"]);
        let mounted = |line: &str| line.contains("action=\"blob.mount\"") && line.contains(&from);
        assert!(said.lines().any(mounted), "not mounted: {from}\n{said}");
    }
}
