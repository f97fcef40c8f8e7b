// SPDX-License-Identifier: AGPL-3.0-only
//! skopeo: copies in every direction and format, zstd, lists and deletes. It uploads with PATCH and a
//! length, mounts with `from`, and deletes by digest.

use serde_json::{Value, json};
use stella_tests::{Bench, Client, Content, Image, Tool, Transport, media_type, over};

use crate::samples::samples;

over! {
    [Plain, Tls]
    skopeo_gets_back_what_it_pushed_also_after_a_restart,
    skopeo_converts_to_docker_schema_2_and_back,
    skopeo_pushes_and_pulls_zstd_layers_also_after_a_restart,
    skopeo_syncs_a_repository,
    skopeo_lists_and_deletes,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Skopeo], over)?;
    let skopeo = bench.tool(Client::Skopeo);
    Some((bench, skopeo))
}

const COPY: &str = "copy --all --preserve-digests";

fn skopeo_gets_back_what_it_pushed_also_after_a_restart(over: Transport) {
    let Some((mut bench, skopeo)) = bench(over) else { return };
    let app = format!("{}/team/app", bench.server.host());
    let samples = samples();
    for (tag, content) in &samples {
        if content.media_type().starts_with("application/vnd.oci.") {
            content.write_layout(&bench.path("source"), tag);
            skopeo.run(&format!("{COPY} oci:source:{tag} docker://{app}:{tag}"));
        } else {
            // It takes no Docker schema 2 from a layout.
            bench.server.repository("other").push(content, tag);
            let other = format!("{}/other", bench.server.host());
            skopeo.run(&format!("{COPY} docker://{other}:{tag} docker://{app}:{tag}"));
        }
    }
    bench.around_a_restart(|bench, when| {
        for (tag, content) in &samples {
            bench.server.repository("team/app").pull(tag).assert_same(content);
            skopeo.run(&format!("{COPY} docker://{app}:{tag} dir:{when}-{tag}"));
            Content::read_flat(&bench.path(&format!("{when}-{tag}"))).assert_same(content);
            let raw = skopeo.run_for_bytes(&format!("inspect --raw docker://{app}:{tag}"));
            assert_eq!(raw, content.bytes());
        }
    });
}

fn skopeo_converts_to_docker_schema_2_and_back(over: Transport) {
    let Some((bench, skopeo)) = bench(over) else { return };
    let host = bench.server.host();
    let repository = bench.server.repository("app");
    let image = Image::sample(1).build();
    image.write_layout(&bench.path("source"), "1");

    skopeo.run(&format!("copy --format v2s2 oci:source:1 docker://{host}/app:docker"));
    let docker = repository.pull("docker");
    assert_eq!(docker.media_type(), media_type::DOCKER_MANIFEST);
    assert_eq!(docker.layer_types(), [media_type::DOCKER_LAYER; 2]);
    skopeo.run(&format!("copy --format oci docker://{host}/app:docker docker://{host}/app:oci"));
    let oci = repository.pull("oci");
    assert_eq!(oci.media_type(), media_type::MANIFEST);
    assert_eq!(oci.config(), image.config());
}

fn skopeo_pushes_and_pulls_zstd_layers_also_after_a_restart(over: Transport) {
    let Some((mut bench, skopeo)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    let image = Image::sample(1).build();
    image.write_layout(&bench.path("source"), "1");

    // It recompresses nothing that is packed already, so it unpacks first.
    skopeo.run("copy --dest-oci-accept-uncompressed-layers --dest-decompress oci:source:1 dir:plain");
    skopeo.run(&format!("copy --format oci --dest-compress-format zstd dir:plain docker://{host}/app:zstd"));
    let pushed = bench.server.repository("app").pull("zstd");
    assert_eq!(pushed.layer_types(), [media_type::ZSTD_LAYER; 2]);
    assert_eq!(pushed.config()["rootfs"], image.config()["rootfs"]);
    bench.around_a_restart(|bench, when| {
        skopeo.run(&format!("{COPY} docker://{host}/app:zstd oci:{when}:1"));
        Content::read_layout(&bench.path(when), "1").assert_same(&pushed);
    });
}

fn skopeo_syncs_a_repository(over: Transport) {
    let Some((bench, skopeo)) = bench(over) else { return };
    let host = bench.server.host();
    let index = Content::index(&[Image::sample(1).build(), Image::sample(2).architecture("arm64").build()]);
    let repository = bench.server.repository("app");
    repository.push(&index, "1");
    repository.push(&Image::sample(3).build(), "2");

    skopeo.run(&format!("sync --all --src docker --dest docker {host}/app {host}/mirror"));
    let mirror = bench.server.repository("mirror/app");
    assert_eq!(mirror.tags(), ["1", "2"]);
    mirror.pull("1").assert_same(&index);
    skopeo.run(&format!("sync --all --src docker --dest dir {host}/app down"));
    Content::read_flat(&bench.path("down/app:1")).assert_same(&index);
}

fn skopeo_lists_and_deletes(over: Transport) {
    let Some((bench, skopeo)) = bench(over) else { return };
    let host = bench.server.host();
    let repository = bench.server.repository("app");
    let (one, two) = (Image::sample(1).build(), Image::sample(2).build());
    repository.push(&one, "1");
    repository.push(&one, "also-1");
    repository.push(&two, "2");

    // It deletes the digest, and with it all tags.
    skopeo.run(&format!("delete docker://{host}/app:1"));
    let listed: Value = serde_json::from_str(&skopeo.run(&format!("list-tags docker://{host}/app"))).unwrap();
    assert_eq!(listed["Tags"], json!(["2"]));
    skopeo.fails(&format!("inspect docker://{host}/app:also-1"));
    skopeo.fails(&format!("inspect docker://{host}/app@{}", one.digest()));
    repository.pull("2").assert_same(&two);
}
