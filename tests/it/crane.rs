// SPDX-License-Identifier: AGPL-3.0-only
//! crane: images and indexes, copies, tags and deletes. It uploads with PATCH and a length, mounts with
//! `from`, and deletes by tag.

use stella_tests::{Bench, Client, Content, Image, Tool, Transport, media_type, over};

use crate::samples::samples;

over! {
    [Plain, Tls, TlsHttp1, Nginx]
    crane_gets_back_what_it_pushed_also_after_a_restart,
    crane_picks_a_platform_from_an_index,
    crane_copies_docker_schema_2_between_repositories,
    crane_lists_and_deletes_tags,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Crane], over)?;
    let crane = bench.tool(Client::Crane);
    Some((bench, crane))
}

fn crane_gets_back_what_it_pushed_also_after_a_restart(over: Transport) {
    let Some((mut bench, crane)) = bench(over) else { return };
    let app = format!("{}/team/app", bench.server.host());
    let samples = samples();
    for (tag, content) in &samples {
        content.write_layout(&bench.path(tag), tag);
        crane.run(&format!("push {tag} {app}:{tag}"));
    }
    bench.around_a_restart(|bench, when| {
        for (tag, content) in &samples {
            bench.server.repository("team/app").pull(tag).assert_same(content);
            assert_eq!(crane.run(&format!("digest {app}:{tag}")), content.digest());
            assert_eq!(crane.run_for_bytes(&format!("manifest {app}:{tag}")), content.bytes());
            let pulled = format!("{when}-{tag}");
            crane.run(&format!("pull --format oci {app}:{tag} {pulled}"));
            Content::read_layout(&bench.path(&pulled), tag).assert_same(content);
        }
        crane.run(&format!("validate --remote {app}:image"));
    });
}

fn crane_picks_a_platform_from_an_index(over: Transport) {
    let Some((bench, crane)) = bench(over) else { return };
    let host = bench.server.host();
    let arm = Image::sample(2).architecture("arm64").build();
    let index = Content::docker_list(&[Image::sample(1).docker().build(), arm.clone()]);
    bench.server.repository("app").push(&index, "1");

    crane.run(&format!("pull --platform linux/arm64 --format oci {host}/app:1 arm"));
    Content::read_layout(&bench.path("arm"), "1").assert_same(&arm);
}

fn crane_copies_docker_schema_2_between_repositories(over: Transport) {
    let Some((bench, crane)) = bench(over) else { return };
    let host = bench.server.host();
    let list = Content::docker_list(&[Image::sample(1).docker().build()]);
    bench.server.repository("a").push(&list, "1");

    crane.run(&format!("copy {host}/a:1 {host}/b/c:2"));
    let copied = bench.server.repository("b/c").pull("2");
    copied.assert_same(&list);
    assert_eq!(copied.media_type(), media_type::DOCKER_LIST);
}

fn crane_lists_and_deletes_tags(over: Transport) {
    let Some((bench, crane)) = bench(over) else { return };
    let host = bench.server.host();
    let image = Image::sample(1).build();
    let repository = bench.server.repository("app");
    repository.push(&image, "1");

    crane.run(&format!("tag {host}/app:1 index"));
    assert_eq!(crane.run(&format!("ls {host}/app")), "1\nindex");
    crane.run(&format!("delete {host}/app:1"));
    assert_eq!(crane.run(&format!("ls {host}/app")), "index");
    crane.fails(&format!("digest {host}/app:1"));
    repository.pull("index").assert_same(&image);

    // Without the manifest its tags are gone too.
    crane.run(&format!("delete {host}/app@{}", image.digest()));
    crane.fails(&format!("digest {host}/app:index"));
    crane.fails(&format!("digest {host}/app@{}", image.digest()));
}
