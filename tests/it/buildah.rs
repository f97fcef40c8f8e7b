// SPDX-License-Identifier: AGPL-3.0-only
//! buildah: builds from nothing, push and pull in every format, manifest lists. It packs layers while it
//! uploads them, so nobody knows their length or digest before the end.

use std::fs;
use std::path::Path;

use stella_tests::{Bench, Client, Tool, Transport, media_type, noise, over};

over! {
    [Plain, Tls]
    buildah_pulls_the_oci_image_it_built_also_after_a_restart,
    buildah_pulls_the_docker_schema_2_image_it_built_also_after_a_restart,
    buildah_pulls_the_zstd_layers_it_built_also_after_a_restart,
    buildah_pushes_a_manifest_list_with_its_images,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Buildah], over)?;
    let buildah = buildah(&bench);
    Some((bench, buildah))
}

/// buildah with storage of its own.
pub(crate) fn buildah(bench: &Bench) -> Tool {
    let own = |name: &str| bench.path(name).display().to_string();
    let flags = format!("--root {} --runroot {} --storage-driver vfs", own("storage"), own("runroot"));
    bench.tool(Client::Buildah).flags(&flags).env("BUILDAH_ISOLATION", "chroot")
}

/// Builds an image of two layers and an empty one.
fn build(bench: &Bench, buildah: &Tool, name: &str, flags: &str) {
    bench.write("context/noise", noise(1, 400_000));
    bench.write("context/tiny", b"x");
    bench.write("context/none", b"");
    bench.write(
        "context/Containerfile",
        "FROM scratch\nCOPY noise /noise\nCOPY tiny none /\nCMD [\"/noise\"]\n",
    );
    buildah.run(&format!("build -q {flags} -f context/Containerfile -t {name} context"));
}

/// Pulls a reference anew, and compares its files with those that were built.
#[track_caller]
fn pull(buildah: &Tool, reference: &str) {
    buildah.run("rmi --all --force");
    buildah.run(&format!("pull -q {reference}"));
    let container = buildah.run(&format!("from {reference}"));
    let mounted = buildah.run(&format!("mount {container}"));
    let file = |name: &str| fs::read(Path::new(&mounted).join(name)).unwrap();
    assert!(file("noise") == noise(1, 400_000), "the files of {reference} differ");
    assert_eq!((file("tiny"), file("none")), (b"x".to_vec(), Vec::new()));
    buildah.run(&format!("umount {container}"));
    buildah.run(&format!("rm {container}"));
}

fn buildah_pulls_the_oci_image_it_built_also_after_a_restart(over: Transport) {
    round_trip(over, "--format oci", media_type::MANIFEST, media_type::LAYER);
}

fn buildah_pulls_the_docker_schema_2_image_it_built_also_after_a_restart(over: Transport) {
    round_trip(over, "--format v2s2", media_type::DOCKER_MANIFEST, media_type::DOCKER_LAYER);
}

fn buildah_pulls_the_zstd_layers_it_built_also_after_a_restart(over: Transport) {
    let flags = "--format oci --compression-format zstd";
    round_trip(over, flags, media_type::MANIFEST, media_type::ZSTD_LAYER);
}

fn round_trip(over: Transport, flags: &str, manifest: &str, layer: &str) {
    let Some((mut bench, buildah)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    build(&bench, &buildah, "localhost/built:1", "--layers");
    // Into the second repository it mounts the layers.
    for repository in ["team/app", "other"] {
        let to = format!("--digestfile digest localhost/built:1 docker://{host}/{repository}:1");
        buildah.run(&format!("push -q {flags} {to}"));
        let pushed = bench.server.repository(repository).pull("1");
        assert_eq!(pushed.digest().as_bytes(), bench.read("digest"));
        assert_eq!(pushed.media_type(), manifest);
        assert_eq!(pushed.layer_types(), [layer; 2]);
    }
    let digest = String::from_utf8(bench.read("digest")).unwrap();
    bench.around_a_restart(|_, when| {
        for reference in ["team/app:1", "other:1", &format!("team/app@{digest}")] {
            pull(&buildah, &format!("{host}/{reference}"));
            let inspect =
                format!("inspect --type image --format {{{{.FromImageDigest}}}} {host}/{reference}");
            assert_eq!(buildah.run(&inspect), digest, "{reference} {when} a restart");
        }
    });
}

fn buildah_pushes_a_manifest_list_with_its_images(over: Transport) {
    let Some((bench, buildah)) = bench(over) else { return };
    let host = bench.server.host();
    buildah.run("manifest create localhost/list");
    for architecture in ["amd64", "arm64"] {
        let name = format!("localhost/built:{architecture}");
        build(&bench, &buildah, &name, &format!("--platform linux/{architecture}"));
        buildah.run(&format!("manifest add localhost/list {name}"));
    }
    buildah.run(&format!("manifest push -q --all --digestfile digest localhost/list docker://{host}/app:1"));
    let index = bench.server.repository("app").pull("1");
    assert_eq!(index.digest().as_bytes(), bench.read("digest"));
    let children = index.manifest()["manifests"].as_array().unwrap().clone();
    let mut found: Vec<_> =
        children.iter().map(|child| child["platform"]["architecture"].as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, ["amd64", "arm64"]);
    pull(&buildah, &format!("{host}/app:1"));
}
