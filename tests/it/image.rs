// SPDX-License-Identifier: AGPL-3.0-only
//! The container image that `deploy/image/build.sh` makes, run by a docker engine of the test's own: with a
//! root file system that cannot be written, without privileges, as a user that is not root. Building it
//! takes minutes, so that it is tested only where `STELLA_IMAGE` says where it is, as in CI.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stella_tests::{Bench, Client, Host, Transport, poll};

use crate::docker::Engine;

/// The archive, if there is one to test.
fn archive() -> Option<PathBuf> {
    let archive = env::var_os("STELLA_IMAGE").map(PathBuf::from);
    if archive.is_none() {
        eprintln!("SKIPPED: STELLA_IMAGE names no image; make one with deploy/image/build.sh");
    }
    archive
}

/// Loads the archive, and gives the image's name.
fn load(engine: &Engine, archive: &Path) -> String {
    let said = engine.docker.run(&format!("load -q -i {}", archive.display()));
    said.strip_prefix("Loaded image: ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// A registry keeps its own image.
fn keep(engine: &Engine, image: &str) {
    let kept = format!("{}/stella:image", engine.bench.server.host());
    engine.docker.run(&format!("tag {image} {kept}"));
    engine.docker.run(&format!("push -q {kept}"));
}

#[test]
fn the_image_serves_pushes_outlives_a_restart_and_ends_when_told() {
    let Some(archive) = archive() else { return };
    let Some(engine) = Engine::start(Transport::Plain) else { return };
    let docker = &engine.docker;
    let image = load(&engine, &archive);
    let version = docker.run(&format!("run --rm --network none {image} --version"));
    assert!(version.starts_with("stella "), "{version}");

    // Free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    // A name, because a static program has to find out by itself what it means.
    docker.run(&format!(
        "run -d --name registry --network host --read-only --cap-drop ALL --security-opt no-new-privileges \
         --health-interval 1s -e STELLA_LISTEN=localhost:{port} -v data:/var/lib/stella {image}"
    ));
    let until_healthy = || {
        poll("the container to be healthy", Duration::from_mins(1), || {
            let state = docker.run("inspect --format {{.State.Status}}/{{.State.Health.Status}} registry");
            assert!(state.starts_with("running/"), "{state}\n{}", docker.try_run("logs registry"));
            (state == "running/healthy").then_some(())
        });
    };
    until_healthy();
    engine.build(&format!("{host}/team/app:1"));
    docker.run(&format!("push -q {host}/team/app:1"));
    let pushed = Host::plain(&host).repository("team/app").pull("1");
    docker.run("exec registry /stella fsck");
    docker.run("restart -t 40 registry");
    until_healthy();
    Host::plain(&host).repository("team/app").pull("1").assert_same(&pushed);
    docker.run(&format!("rmi -f {host}/team/app:1"));
    docker.run(&format!("pull -q {host}/team/app:1"));

    docker.run("stop -t 40 registry");
    assert_eq!(docker.run("inspect --format {{.State.ExitCode}} registry"), "0");
    let log = docker.try_run("logs registry");
    assert!(log.stderr.contains("shutting down"), "{log}");
    docker.run("rm registry");
    keep(&engine, &image);
}

#[test]
fn the_dockerfile_makes_the_same_image() {
    let Some(archive) = archive() else { return };
    let Some(engine) = Engine::start(Transport::Plain) else { return };
    let context = archive.parent().unwrap().join("context");
    let built = engine.docker.run(&format!("build -q {}", context.display()));
    let loaded_name = load(&engine, &archive);
    let config = |image: &str| -> Value {
        let inspected: Value =
            serde_json::from_str(&engine.docker.run(&format!("image inspect {image}"))).unwrap();
        inspected[0]["Config"].clone()
    };
    let (built, loaded) = (config(&built), config(&loaded_name));
    for key in ["User", "Entrypoint", "Cmd", "Volumes", "StopSignal", "Healthcheck", "Labels"] {
        assert_eq!(built[key], loaded[key], "{key}");
        assert!(!built[key].is_null(), "{key}");
    }
    keep(&engine, &loaded_name);
    // Docker's builder adds a PATH.
    let ours = |config: &Value| {
        config["Env"].as_array().unwrap().iter().any(|set| set == "STELLA_DATA=/var/lib/stella")
    };
    assert!(ours(&built) && ours(&loaded));
}

#[test]
fn other_tools_read_the_archive() {
    let Some(archive) = archive() else { return };
    let Some(bench) = Bench::with(&[Client::Skopeo, Client::Crane], Transport::Plain) else { return };
    let host = bench.server.host();
    let archive = archive.display();
    bench
        .tool(Client::Skopeo)
        .run(&format!("copy --dest-tls-verify=false oci-archive:{archive} docker://{host}/stella:oci"));
    bench.tool(Client::Crane).run(&format!("push {archive} {host}/stella:docker"));
    for tag in ["oci", "docker"] {
        let config = bench.server.repository("stella").pull(tag).config();
        assert_eq!(config["config"]["User"], "65532:65532", "{tag}");
    }
}
