// SPDX-License-Identifier: AGPL-3.0-only
//! podman: push and pull in every format, manifest lists, tags. It uploads with PATCH, in chunks of
//! unknown length where it packs layers on the way.

use std::path::Path;

use stella_tests::{Bench, Client, Content, Image, Tool, Transport, media_type, noise, over};

over! {
    [Plain, Tls]
    podman_pulls_the_oci_image_it_pushed_also_after_a_restart,
    podman_pulls_the_docker_schema_2_image_it_pushed_also_after_a_restart,
    podman_pulls_the_zstd_layers_it_pushed_also_after_a_restart,
    podman_pushes_a_manifest_list,
    podman_pulls_what_others_pushed,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Podman], over)?;
    let podman = podman(&bench);
    Some((bench, podman))
}

/// podman with storage of its own.
pub(crate) fn podman(bench: &Bench) -> Tool {
    // Its own storage, and state: nothing of the machine's podman is touched.
    let own = |name: &str| bench.path(name).display().to_string();
    let (root, runroot, state) = (own("storage"), own("runroot"), own("state"));
    bench.tool(Client::Podman).flags(&format!(
        "--root {root} --runroot {runroot} --tmpdir {state} --storage-driver vfs --events-backend none"
    ))
}

/// Puts an image with the files of `Image::sample(seed)` into podman's storage.
fn load(bench: &Bench, podman: &Tool, seed: u64) {
    let layout = format!("source-{seed}");
    Image::sample(seed).build().write_layout(&bench.path(&layout), "1");
    let id = podman.run(&format!("pull -q oci:{layout}:1"));
    podman.run(&format!("tag {id} localhost/sample:{seed}"));
}

/// Pulls a reference anew, and compares its files with those of `Image::sample(seed)`.
#[track_caller]
fn pull(podman: &Tool, reference: &str, seed: u64) {
    podman.try_run(&format!("rmi -f {reference}"));
    podman.run("rmi --all --force");
    podman.run(&format!("pull -q {reference}"));
    let mounted = podman.run(&format!("image mount {reference}"));
    let file = |name: &str| std::fs::read(Path::new(&mounted).join(name)).unwrap();
    assert!(file("noise") == noise(seed, 300_000), "the files of {reference} differ");
    assert_eq!(file("tiny"), seed.to_string().as_bytes());
    podman.run(&format!("image unmount {reference}"));
}

fn podman_pulls_the_oci_image_it_pushed_also_after_a_restart(over: Transport) {
    round_trip(over, "--format oci", media_type::MANIFEST, media_type::LAYER);
}

fn podman_pulls_the_docker_schema_2_image_it_pushed_also_after_a_restart(over: Transport) {
    round_trip(over, "--format v2s2", media_type::DOCKER_MANIFEST, media_type::DOCKER_LAYER);
}

fn podman_pulls_the_zstd_layers_it_pushed_also_after_a_restart(over: Transport) {
    let flags = "--format oci --compression-format zstd";
    round_trip(over, flags, media_type::MANIFEST, media_type::ZSTD_LAYER);
}

fn round_trip(over: Transport, flags: &str, manifest: &str, layer: &str) {
    let Some((mut bench, podman)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    load(&bench, &podman, 1);
    // Into the second repository it mounts the layers.
    for repository in ["team/app", "other"] {
        let to = format!("--digestfile digest localhost/sample:1 docker://{host}/{repository}:1");
        podman.run(&format!("push -q {flags} {to}"));
        let pushed = bench.server.repository(repository).pull("1");
        assert_eq!(pushed.digest().as_bytes(), bench.read("digest"));
        assert_eq!(pushed.media_type(), manifest);
        assert_eq!(pushed.layer_types(), [layer; 2]);
    }
    let digest = String::from_utf8(bench.read("digest")).unwrap();
    bench.around_a_restart(|_, when| {
        for reference in ["team/app:1", "other:1", &format!("team/app@{digest}")] {
            pull(&podman, &format!("{host}/{reference}"), 1);
            let inspect = format!("image inspect --format {{{{.Digest}}}} {host}/{reference}");
            assert_eq!(podman.run(&inspect), digest, "{reference} {when} a restart");
        }
    });
}

fn podman_pushes_a_manifest_list(over: Transport) {
    let Some((bench, podman)) = bench(over) else { return };
    let host = bench.server.host();
    for (seed, architecture) in [(1, "amd64"), (2, "arm64")] {
        let image = Image::sample(seed).architecture(architecture).build();
        bench.server.repository("parts").push(&image, architecture);
    }
    podman.run("manifest create localhost/list");
    for architecture in ["amd64", "arm64"] {
        podman.run(&format!("manifest add localhost/list docker://{host}/parts:{architecture}"));
    }
    podman.run(&format!("manifest push --all localhost/list docker://{host}/whole:1"));
    let index = bench.server.repository("whole").pull("1");
    let children = index.manifest()["manifests"].as_array().unwrap().clone();
    assert_eq!(children.len(), 2);
    for child in children {
        let architecture = child["platform"]["architecture"].as_str().unwrap();
        let digest = child["digest"].as_str().unwrap();
        bench
            .server
            .repository("parts")
            .pull(architecture)
            .assert_same(&bench.server.repository("whole").pull(digest));
    }

    podman.run("rmi --all --force");
    podman.run(&format!("pull -q --arch arm64 {host}/whole:1"));
    assert_eq!(podman.run(&format!("image inspect --format {{{{.Architecture}}}} {host}/whole:1")), "arm64");
}

fn podman_pulls_what_others_pushed(over: Transport) {
    let Some((bench, podman)) = bench(over) else { return };
    let host = bench.server.host();
    let arm = Image::sample(2).architecture("arm64").build();
    let repository = bench.server.repository("app");
    repository.push(&Content::index(&[Image::sample(1).build(), arm]), "index");
    repository.push(&Content::docker_list(&[Image::sample(3).docker().build()]), "list");
    repository.push(&Image::sample(4).zstd().build(), "zstd");
    for (tag, seed) in [("index", 1), ("list", 3), ("zstd", 4)] {
        pull(&podman, &format!("{host}/app:{tag}"), seed);
    }
    let table = podman.run(&format!("search --list-tags {host}/app"));
    let tags: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(tags, ["index", "list", "zstd"]);
}
