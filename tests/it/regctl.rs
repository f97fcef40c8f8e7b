// SPDX-License-Identifier: AGPL-3.0-only
//! regctl: copies with referrers, artifacts, uploads in chunks, tags. It asks for a mount without `from`
//! before every upload.

use stella_tests::{Bench, Client, Content, Image, Tool, Transport, media_type, noise, over};

use crate::samples::samples;

over! {
    [Plain, Tls]
    regctl_gets_back_what_it_pushed_also_after_a_restart,
    regctl_exports_and_imports_an_image,
    regctl_uploads_in_chunks_with_ranges,
    regctl_pushes_tiny_and_empty_blobs_and_mounts_them_elsewhere,
    regctl_finds_artifacts_by_their_subject_also_after_a_restart,
    regctl_lists_and_deletes_tags_and_manifests,
    regctl_makes_a_docker_manifest_list,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Regctl], over)?;
    let regctl = bench.tool(Client::Regctl);
    Some((bench, regctl))
}

fn regctl_gets_back_what_it_pushed_also_after_a_restart(over: Transport) {
    let Some((mut bench, regctl)) = bench(over) else { return };
    let app = format!("{}/team/app", bench.server.host());
    let samples = samples();
    for (tag, content) in &samples {
        content.write_layout(&bench.path("source"), tag);
        regctl.run(&format!("image copy ocidir://source:{tag} {app}:{tag}"));
    }
    bench.around_a_restart(|bench, when| {
        for (tag, content) in &samples {
            bench.server.repository("team/app").pull(tag).assert_same(content);
            assert_eq!(regctl.run(&format!("image digest {app}:{tag}")), content.digest());
            regctl.run(&format!("image copy {app}:{tag} ocidir://{when}-{tag}:{tag}"));
            Content::read_layout(&bench.path(&format!("{when}-{tag}")), tag).assert_same(content);
        }
    });
}

fn regctl_exports_and_imports_an_image(over: Transport) {
    let Some((bench, regctl)) = bench(over) else { return };
    let host = bench.server.host();
    let image = Image::sample(1).build();
    bench.server.repository("a").push(&image, "1");

    regctl.run(&format!("image export {host}/a:1 image.tar"));
    regctl.run(&format!("image import {host}/b:1 image.tar"));
    bench.server.repository("b").pull("1").assert_same(&image);
}

fn regctl_uploads_in_chunks_with_ranges(over: Transport) {
    let Some((bench, regctl)) = bench(over) else { return };
    let host = bench.server.host();
    let regctl = regctl.env("REGCTL_CONFIG", bench.path("chunked.json"));
    regctl.run(&format!(
        "registry set {host} --skip-check --tls=disabled --blob-max 100000 --blob-chunk 65536"
    ));
    let bytes = noise(4, 1_000_000);
    let file = bench.write("blob", &bytes);

    let digest = regctl.clone().input(&file).run(&format!("blob put {host}/app"));
    assert_eq!(digest, stella_tests::digest(&bytes));
    assert!(bench.server.repository("app").blob(&digest) == bytes);
    assert!(regctl.run_for_bytes(&format!("blob get {host}/app {digest}")) == bytes);
}

fn regctl_pushes_tiny_and_empty_blobs_and_mounts_them_elsewhere(over: Transport) {
    let Some((bench, regctl)) = bench(over) else { return };
    let host = bench.server.host();
    for (name, bytes) in [("one", b"x".as_slice()), ("none", b"")] {
        let file = bench.write(name, bytes);
        let digest = regctl.clone().input(&file).run(&format!("blob put {host}/a"));
        assert_eq!(digest, stella_tests::digest(bytes));
        regctl.run(&format!("blob copy {host}/a {host}/b {digest}"));
        for repository in ["a", "b"] {
            assert_eq!(regctl.run_for_bytes(&format!("blob get {host}/{repository} {digest}")), bytes);
            assert_eq!(bench.server.repository(repository).blob(&digest), bytes);
        }
        regctl.run(&format!("blob delete {host}/a {digest}"));
        assert_eq!(bench.server.repository("a").blob_status(&digest), 404);
        assert_eq!(bench.server.repository("b").blob_status(&digest), 200);
    }
}

fn regctl_finds_artifacts_by_their_subject_also_after_a_restart(over: Transport) {
    let Some((mut bench, regctl)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    let image = Image::sample(1).build();
    bench.server.repository("a").push(&image, "1");
    for kind in ["sbom", "sig"] {
        let file = bench.write(kind, noise(5, 100)).display().to_string();
        let what = format!("--artifact-type application/x.{kind} -m application/x.{kind} -f {file}");
        regctl.run(&format!("artifact put --subject {host}/a:1 {what}"));
    }
    regctl.run(&format!("image copy --referrers {host}/a:1 {host}/b:1"));

    bench.around_a_restart(|bench, when| {
        for repository in ["a", "b"] {
            let reference = format!("{host}/{repository}:1");
            let signatures = format!("{reference} --filter-artifact-type application/x.sig");
            let count = |what: &str| {
                regctl
                    .run(&format!("artifact list --format {{{{range.Descriptors}}}}x{{{{end}}}} {what}"))
                    .len()
            };
            assert_eq!((count(&reference), count(&signatures)), (2, 1), "{repository} {when} a restart");
            let got = regctl.run_for_bytes(&format!("artifact get --subject {signatures}"));
            assert_eq!(got, noise(5, 100));
            assert_eq!(bench.server.repository(repository).referrers(image.digest()).len(), 2);
        }
    });
}

fn regctl_lists_and_deletes_tags_and_manifests(over: Transport) {
    let Some((bench, regctl)) = bench(over) else { return };
    let host = bench.server.host();
    let repository = bench.server.repository("app");
    let image = Image::sample(1).build();
    repository.push(&image, "1");
    for tag in ["2", "3", "4"] {
        regctl.run(&format!("image copy {host}/app:1 {host}/app:{tag}"));
    }
    assert_eq!(regctl.run(&format!("tag ls {host}/app")), "1\n2\n3\n4");
    assert_eq!(regctl.run(&format!("tag ls --limit 2 {host}/app")), "1\n2");
    assert_eq!(regctl.run(&format!("tag ls --limit 2 --last 2 {host}/app")), "3\n4");
    regctl.run(&format!("tag rm {host}/app:3"));
    assert_eq!(regctl.run(&format!("tag ls {host}/app")), "1\n2\n4");
    regctl.run(&format!("manifest delete {host}/app@{}", image.digest()));
    for tag in ["1", "2", "4", image.digest()] {
        assert_eq!(repository.manifest_status(tag), 404, "{tag}");
    }
}

fn regctl_makes_a_docker_manifest_list(over: Transport) {
    let Some((bench, regctl)) = bench(over) else { return };
    let host = bench.server.host();
    let repository = bench.server.repository("app");
    let images = [Image::sample(1).docker().build(), Image::sample(2).docker().architecture("arm64").build()];
    repository.push(&images[0], "amd64");
    repository.push(&images[1], "arm64");

    let list = media_type::DOCKER_LIST;
    regctl
        .run(&format!("index create {host}/app:all -m {list} --ref {host}/app:amd64 --ref {host}/app:arm64"));
    let pushed = repository.pull("all");
    assert_eq!(pushed.media_type(), list);
    for image in &images {
        let digest = image.digest();
        assert_eq!(
            regctl.run(&format!("manifest get --format raw-body {host}/app@{digest}")).as_bytes(),
            image.bytes()
        );
        assert!(String::from_utf8_lossy(pushed.bytes()).contains(digest));
    }
}
