// SPDX-License-Identifier: AGPL-3.0-only
//! oras: artifacts, their referrers, blobs from none to more than 1 GiB, indexes and backups. It uploads
//! with one PUT and deletes by digest.

use std::fs::{self, File};
use std::io;

use serde_json::Value;
use stella_tests::{Bench, Client, Content, Image, Noise, Tool, Transport, media_type, noise, over};

use crate::samples::samples;

over! {
    [Plain, Tls, TlsHttp1, Nginx]
    oras_pulls_the_files_it_pushed_tiny_and_empty_ones_too,
    a_layer_of_more_than_a_gibibyte_comes_back_as_it_was,
    oras_finds_what_it_attached_also_after_a_restart,
    oras_copies_an_image_with_its_referrers_and_theirs,
    oras_copies_images_between_layouts_and_the_registry,
    oras_restores_a_backup_into_another_repository,
    oras_pushes_and_deletes_single_blobs_and_manifests,
    oras_makes_an_index_of_images_that_are_there,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Oras], over)?;
    let oras = bench.tool(Client::Oras);
    Some((bench, oras))
}

fn oras_pulls_the_files_it_pushed_tiny_and_empty_ones_too(over: Transport) {
    let Some((mut bench, oras)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    let files = [("some", noise(1, 3_000_000)), ("one", b"x".to_vec()), ("none", Vec::new())];
    for (name, bytes) in &files {
        bench.write(name, bytes);
    }
    oras.run(&format!(
        "push --plain-http --artifact-type application/x.test {host}/files:1 some one none:text/plain"
    ));
    let pushed = bench.server.repository("files").pull("1");
    assert_eq!(pushed.manifest()["artifactType"], "application/x.test");
    bench.around_a_restart(|bench, when| {
        oras.run(&format!("pull --plain-http -o {when} {host}/files:1"));
        for (name, bytes) in &files {
            assert!(bench.read(&format!("{when}/{name}")) == *bytes, "{name} differs {when} a restart");
        }
        bench.server.repository("files").pull("1").assert_same(&pushed);
    });
}

fn a_layer_of_more_than_a_gibibyte_comes_back_as_it_was(over: Transport) {
    let Some((mut bench, oras)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    // It never is in memory as a whole.
    let size = (1 << 30) + 12_345;
    let layer = Noise::new(7, size);
    let file = bench.path("layer");
    io::copy(&mut layer.clone(), &mut File::create(&file).unwrap()).unwrap();

    oras.run(&format!("push --plain-http {host}/big:1 layer:{}", media_type::LAYER));
    fs::remove_file(file).unwrap();
    let pushing = bench.server.peak_memory();
    bench.server.restart();
    oras.run(&format!("pull --plain-http -o pulled {host}/big:1"));
    let mut pulled = File::open(bench.path("pulled/layer")).unwrap();
    assert_eq!(stella_tests::digest_of(&mut pulled).unwrap(), (layer.digest(), size));
    for (when, peak) in [("pushed", pushing), ("pulled", bench.server.peak_memory())] {
        assert!(peak < MEMORY, "the server took {} MiB while it was {when}", peak >> 20);
    }
}

/// More than a server takes for one push or pull, whatever the transport; much less than the layer.
const MEMORY: u64 = 96 << 20;

fn oras_finds_what_it_attached_also_after_a_restart(over: Transport) {
    let Some((mut bench, oras)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    let image = Image::sample(1).build();
    bench.server.repository("app").push(&image, "1");
    bench.write("sbom.json", br#"{"bom": true}"#);
    bench.write("signature", noise(2, 200));
    for (kind, file) in [("sbom", "sbom.json"), ("sig", "signature")] {
        let what = format!("--artifact-type application/x.{kind} --annotation kind={kind}");
        oras.run(&format!("attach --plain-http {REFERRERS_API} {what} {host}/app:1 {file}"));
    }

    bench.around_a_restart(|bench, when| {
        let all = discover(&oras, &format!("{host}/app:1"));
        let mut kinds: Vec<_> = all.iter().map(|found| found["artifactType"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["application/x.sbom", "application/x.sig"]);
        let signatures = discover(&oras, &format!("--artifact-type application/x.sig {host}/app:1"));
        assert_eq!(signatures.len(), 1);
        assert_eq!(signatures[0]["annotations"]["kind"], "sig");
        let digest = signatures[0]["digest"].as_str().unwrap();
        oras.run(&format!("pull --plain-http -o {when} {host}/app@{digest}"));
        assert_eq!(bench.read(&format!("{when}/signature")), noise(2, 200));
    });

    // A referrer that is deleted is not found any more.
    let digest =
        discover(&oras, &format!("--artifact-type application/x.sig {host}/app:1"))[0]["digest"].clone();
    oras.run(&format!("manifest delete --plain-http -f {host}/app@{}", digest.as_str().unwrap()));
    assert_eq!(discover(&oras, &format!("{host}/app:1")).len(), 1);
}

fn oras_copies_an_image_with_its_referrers_and_theirs(over: Transport) {
    let Some((bench, oras)) = bench(over) else { return };
    let host = bench.server.host();
    let image = Image::sample(1).build();
    bench.server.repository("a").push(&image, "1");
    bench.write("file", noise(3, 1000));
    let attach = "attach --plain-http --artifact-type application/x.test --format go-template={{.digest}}";
    let first = oras.run(&format!("{attach} {host}/a:1 file"));
    let second = oras.run(&format!("{attach} {host}/a@{first} file"));

    oras.run(&format!("cp -r --from-plain-http --to-plain-http {host}/a:1 {host}/b:1"));
    let (a, b) = (bench.server.repository("a"), bench.server.repository("b"));
    b.pull("1").assert_same(&image);
    for digest in [image.digest(), &first, &second] {
        assert_eq!(a.referrers(digest), b.referrers(digest), "referrers of {digest}");
        b.pull(digest).assert_same(&a.pull(digest));
    }
    assert_eq!(b.referrers(image.digest()).len(), 1);
    assert_eq!(b.referrers(&first)[0]["digest"], *second);
}

fn oras_copies_images_between_layouts_and_the_registry(over: Transport) {
    let Some((mut bench, oras)) = bench(over) else { return };
    let app = format!("{}/team/app", bench.server.host());
    let samples = samples();
    for (tag, content) in &samples {
        content.write_layout(&bench.path("source"), tag);
        oras.run(&format!("cp --from-oci-layout --to-plain-http source:{tag} {app}:{tag}"));
    }
    bench.around_a_restart(|bench, when| {
        for (tag, content) in &samples {
            bench.server.repository("team/app").pull(tag).assert_same(content);
            oras.run(&format!("cp --to-oci-layout --from-plain-http {app}:{tag} {when}-{tag}:{tag}"));
            Content::read_layout(&bench.path(&format!("{when}-{tag}")), tag).assert_same(content);
        }
        let fetch = format!("manifest fetch --plain-http --platform linux/arm64 {app}:index");
        let arm =
            bench.server.repository("team/app").pull(&stella_tests::digest(&oras.run_for_bytes(&fetch)));
        assert_eq!(arm.config()["architecture"], "arm64");
    });
}

fn oras_restores_a_backup_into_another_repository(over: Transport) {
    let Some((bench, oras)) = bench(over) else { return };
    let host = bench.server.host();
    let image = Image::sample(1).build();
    bench.server.repository("a").push(&image, "1");
    bench.write("file", noise(3, 1000));
    oras.run(&format!("attach --plain-http --artifact-type application/x.test {host}/a:1 file"));

    oras.run(&format!("backup --plain-http --include-referrers -o backup.tar {host}/a:1"));
    oras.run(&format!("restore --plain-http --input backup.tar {host}/b:1"));
    let restored = bench.server.repository("b");
    restored.pull("1").assert_same(&image);
    assert_eq!(restored.referrers(image.digest()).len(), 1);
}

fn oras_pushes_and_deletes_single_blobs_and_manifests(over: Transport) {
    let Some((bench, oras)) = bench(over) else { return };
    let host = bench.server.host();
    let repository = bench.server.repository("app");
    for (name, bytes) in [("some", noise(1, 70_000)), ("one", b"x".to_vec()), ("none", Vec::new())] {
        bench.write(name, &bytes);
        let digest = stella_tests::digest(&bytes);
        oras.run(&format!("blob push --plain-http {host}/app@{digest} {name}"));
        assert!(repository.blob(&digest) == bytes);
        oras.run(&format!("blob fetch --plain-http -o pulled-{name} {host}/app@{digest}"));
        assert!(bench.read(&format!("pulled-{name}")) == bytes, "{name} differs");
        oras.run(&format!("blob delete --plain-http -f {host}/app@{digest}"));
        assert_eq!(repository.blob_status(&digest), 404);
    }

    let image = Image::sample(1).build();
    repository.push(&image, "1");
    oras.run(&format!("tag --plain-http {host}/app:1 2 3"));
    assert_eq!(oras.run(&format!("repo tags --plain-http {host}/app")), "1\n2\n3");
    assert_eq!(oras.run(&format!("repo tags --plain-http --last 1 {host}/app")), "2\n3");
    // It deletes the digest, and with it all tags.
    oras.run(&format!("manifest delete --plain-http -f {host}/app:2"));
    assert_eq!(repository.manifest_status("1"), 404);
    assert_eq!(repository.manifest_status(image.digest()), 404);
}

fn oras_makes_an_index_of_images_that_are_there(over: Transport) {
    let Some((bench, oras)) = bench(over) else { return };
    let host = bench.server.host();
    let repository = bench.server.repository("app");
    repository.push(&Image::sample(1).build(), "amd64");
    repository.push(&Image::sample(2).architecture("arm64").build(), "arm64");

    oras.run(&format!("manifest index create --plain-http {host}/app:all amd64 arm64"));
    let index = repository.pull("all");
    assert_eq!(index.media_type(), media_type::INDEX);
    assert_eq!(index.manifest()["manifests"][1]["platform"]["architecture"], "arm64");
    assert_eq!(index.manifest()["manifests"].as_array().unwrap().len(), 2);
}

/// Not the tags that clients fall back to.
const REFERRERS_API: &str = "--distribution-spec v1.1-referrers-api";

/// The referrers that oras finds.
fn discover(oras: &Tool, arguments: &str) -> Vec<Value> {
    let found = oras.run(&format!("discover --plain-http {REFERRERS_API} --format json {arguments}"));
    let found: Value = serde_json::from_str(&found).unwrap();
    found["referrers"].as_array().cloned().unwrap_or_default()
}
