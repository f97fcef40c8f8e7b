// SPDX-License-Identifier: AGPL-3.0-only
//! The docker engine: push and pull, all tags at once, manifest lists. It speaks Docker schema 2 and
//! uploads with PATCH in chunks of unknown length. On loopback it needs no TLS, and checks none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stella_tests::{
    Authority, Bench, Client, Content, Host, Image, Network, Process, Tool, Transport, media_type, noise,
    over, poll,
};

over! {
    [Plain, Tls]
    docker_pulls_what_it_pushed_also_after_a_restart,
    docker_pulls_what_others_pushed_and_makes_lists_of_it,
}

/// An engine of the test's own. Its namespaces are mounted until this is dropped.
pub(crate) struct Engine {
    pub(crate) docker: Tool,
    mounted: String,
    daemon: Option<Process>,
    pub(crate) bench: Bench,
}

impl Engine {
    pub(crate) fn start(over: Transport) -> Option<Self> {
        Some(Self::on(Bench::with(&[Client::Docker], over)?))
    }

    pub(crate) fn on(bench: Bench) -> Self {
        let own = |name: &str| bench.path(name).display().to_string();
        let socket = format!("unix://{}", own("docker.sock"));
        let flags = format!(
            "--data-root {} --exec-root {} --pidfile {} -H {socket} --iptables=false --ip6tables=false \
             --bridge=none --storage-driver=vfs",
            own("data"),
            own("exec"),
            own("pid"),
        );
        let mut command = bench.program("dockerd").flags(&flags).command();
        let log = bench.path("dockerd.log");
        let mut daemon = Process::start("dockerd", &mut command, &log).stop_gently(Duration::from_secs(30));
        let docker = bench.tool(Client::Docker).env("DOCKER_HOST", socket);
        poll("dockerd to answer", Duration::from_mins(1), || {
            assert!(daemon.ended().is_none(), "dockerd ended at once");
            docker.try_run("version").status.success().then_some(())
        });
        let mounted = own("exec/netns/default");
        Self { docker, mounted, daemon: Some(daemon), bench }
    }

    /// Builds an image of three layers, one of them without bytes.
    pub(crate) fn build(&self, name: &str) {
        let dockerfile = "FROM scratch\nCOPY noise /noise\nCOPY tiny /\nCOPY none /\nCMD [\"/noise\"]\n";
        self.bench.write("context/Dockerfile", dockerfile);
        self.bench.write("context/noise", noise(1, 400_000));
        self.bench.write("context/tiny", b"x");
        self.bench.write("context/none", b"");
        self.docker.run(&format!("build -q -t {name} context"));
    }

    /// Pulls a reference anew, and compares its files with those that were built.
    #[track_caller]
    fn pull(&self, reference: &str) {
        let docker = &self.docker;
        for image in docker.run("images -aq --no-trunc").lines() {
            docker.try_run(&format!("rmi -f {image}"));
        }
        assert_eq!(docker.run("images -aq"), "");
        docker.run(&format!("pull -q {reference}"));
        let container = docker.run(&format!("create {reference}"));
        for (name, content) in [("noise", noise(1, 400_000)), ("tiny", b"x".to_vec()), ("none", Vec::new())] {
            docker.run(&format!("cp {container}:/{name} copied"));
            assert!(self.bench.read("copied") == content, "{name} of {reference} differs");
        }
        docker.run(&format!("rm {container}"));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.daemon = None;
        // Or the scratch directory could not be removed.
        let _ = Command::new("umount").arg(&self.mounted).output();
    }
}

fn docker_pulls_what_it_pushed_also_after_a_restart(over: Transport) {
    let Some(mut engine) = Engine::start(over) else { return };
    let host = engine.bench.server.host().to_owned();
    engine.build(&format!("{host}/team/app:1"));
    let id = engine.docker.run(&format!("image inspect --format {{{{.Id}}}} {host}/team/app:1"));
    for tag in ["2", "3"] {
        engine.docker.run(&format!("tag {host}/team/app:1 {host}/team/app:{tag}"));
    }
    engine.docker.run(&format!("push -q -a {host}/team/app"));
    // Layers that another repository has are mounted.
    engine.docker.run(&format!("tag {host}/team/app:1 {host}/other:1"));
    engine.docker.run(&format!("push -q {host}/other:1"));

    let repository = engine.bench.server.repository("team/app");
    assert_eq!(repository.tags(), ["1", "2", "3"]);
    let pushed = repository.pull("1");
    assert_eq!(pushed.media_type(), media_type::DOCKER_MANIFEST);
    assert_eq!(pushed.manifest()["config"]["digest"], *id);
    engine.bench.server.repository("other").pull("1").assert_same(&pushed);
    let digest = pushed.digest();
    for _ in ["before", "after"] {
        for reference in ["team/app:1", "other:1", &format!("team/app@{digest}")] {
            let reference = format!("{host}/{reference}");
            engine.pull(&reference);
            assert_eq!(engine.docker.run(&format!("image inspect --format {{{{.Id}}}} {reference}")), id);
            let digests =
                engine.docker.run(&format!("image inspect --format {{{{.RepoDigests}}}} {reference}"));
            assert!(digests.contains(digest), "{digests} without {digest}");
        }
        engine.bench.server.restart();
    }
}

fn docker_pulls_what_others_pushed_and_makes_lists_of_it(over: Transport) {
    let Some(engine) = Engine::start(over) else { return };
    let host = engine.bench.server.host().to_owned();
    let repository = engine.bench.server.repository("app");
    let images = [Image::sample(1).build(), Image::sample(2).architecture("arm64").build()];
    repository.push(&Content::index(&images), "oci");
    for (image, platform) in images.iter().zip(["linux/amd64", "linux/arm64"]) {
        engine.docker.run(&format!("pull -q --platform {platform} {host}/app:oci"));
        let id = engine.docker.run(&format!("image inspect --format {{{{.Id}}}} {host}/app:oci"));
        assert_eq!(image.manifest()["config"]["digest"], *id, "{platform}");
    }
    // `docker manifest push` takes everything on 127.0.0.0/8 for plain http; over TLS it is tested below.
    if over == Transport::Plain {
        make_list(&engine, "--insecure");
    }
}

/// Makes a list of two images that are there, and pulls one of them by it.
fn make_list(engine: &Engine, flags: &str) {
    let host = engine.bench.server.host();
    let repository = host.repository("app");
    let parts = [Image::sample(3).docker().build(), Image::sample(4).docker().architecture("arm64").build()];
    repository.push(&parts[0], "amd64");
    repository.push(&parts[1], "arm64");
    let create = format!("manifest create {flags} {host}/app:list {host}/app:amd64 {host}/app:arm64");
    engine.docker.run(&create);
    let digest = engine.docker.run(&format!("manifest push {flags} {host}/app:list"));
    let list = repository.pull("list");
    assert_eq!((list.media_type(), list.digest()), (media_type::DOCKER_LIST, digest.as_str()));
    for part in &parts {
        assert!(list.digests().any(|digest| digest == part.digest()));
    }
    engine.docker.run(&format!("pull -q --platform linux/arm64 {host}/app:list"));
    let id = engine.docker.run(&format!("image inspect --format {{{{.Id}}}} {host}/app:list"));
    assert_eq!(parts[1].manifest()["config"]["digest"], *id);
}

/// What docker is told to trust, while this value is there.
pub(crate) struct Trust(PathBuf);

impl Trust {
    pub(crate) fn put(host: &Host, authority: &Authority) -> Self {
        let folder = Path::new("/etc/docker/certs.d").join(&**host);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
        Self(folder)
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn docker_takes_a_certificate_only_from_a_ca_that_it_was_given() {
    let Some(mut network) = Network::make() else { return };
    let Some(bench) = Bench::inside(&mut network, &[Client::Docker], &[]) else { return };
    let engine = Engine::on(bench);
    let host = engine.bench.server.host().clone();
    assert!(!host.starts_with("127."), "docker checks nothing on {host}");
    let reference = format!("{host}/team/app:1");
    engine.build(&reference);

    let refused = engine.docker.fails(&format!("push {reference}"));
    assert!(refused.contains("x509: certificate signed by unknown authority"), "{refused}");
    let other = Trust::put(&host, &Authority::new());
    let refused = engine.docker.fails(&format!("push {reference}"));
    assert!(refused.contains("x509: certificate signed by unknown authority"), "{refused}");
    drop(other);
    let _trust = Trust::put(&host, engine.bench.server.authority().unwrap());
    engine.docker.run(&format!("push -q {reference}"));
    engine.pull(&reference);
    make_list(&engine, "");
}
