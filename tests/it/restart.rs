// SPDX-License-Identifier: AGPL-3.0-only
//! What was acknowledged is there after a restart, and after a crash; what was deleted stays away.

use std::time::Duration;

use stella_tests::{Artifact, Bench, Client, Content, Image, Server, Transport, noise, over, poll};

over! {
    [Plain, Tls]
    a_push_cut_off_by_a_crash_can_be_repeated,
}

#[test]
fn everything_is_there_after_a_crash() {
    let mut server = Server::start();
    let repository = server.repository("team/app");
    let image = Image::sample(1).build();
    let index = Content::index(&[image.clone(), Image::sample(2).architecture("arm64").build()]);
    let list = Content::docker_list(&[Image::sample(3).docker().build()]);
    let artifact = Artifact::new("application/x.test").subject(&image).file(b"x").file(b"").build();
    let early = Artifact::new("application/x.early").subject(&Image::sample(4).build()).build();
    let all =
        [("image", &image), ("index", &index), ("list", &list), ("artifact", &artifact), ("early", &early)];
    for (tag, content) in all {
        repository.push(content, tag);
    }
    let gone = Image::sample(5).build();
    repository.push(&gone, "gone");
    repository.delete_manifest(gone.digest());
    repository.push(&image, "untagged");
    repository.delete_manifest("untagged");

    for round in 0..3 {
        for (tag, content) in all {
            repository.pull(tag).assert_same(content);
            repository.pull(content.digest()).assert_same(content);
        }
        assert_eq!(repository.tags(), ["artifact", "early", "image", "index", "list"]);
        for reference in ["gone", gone.digest(), "untagged"] {
            assert_eq!(repository.manifest_status(reference), 404, "{reference}");
        }
        let referrers = repository.referrers(image.digest());
        assert_eq!(referrers.len(), 1);
        assert_eq!(referrers[0]["digest"], artifact.digest());
        assert_eq!(referrers[0]["artifactType"], "application/x.test");
        assert_eq!(repository.referrers(Image::sample(4).build().digest())[0]["digest"], early.digest());
        if round == 0 {
            server.kill();
            server.start_again();
        } else {
            server.restart();
        }
    }
}

fn a_push_cut_off_by_a_crash_can_be_repeated(over: Transport) {
    let Some(mut bench) = Bench::with(&[Client::Oras], over) else { return };
    let host = bench.server.host().to_owned();
    bench.write("file", noise(1, 200 << 20));
    let oras = bench.tool(Client::Oras);
    let push = format!("push --plain-http {host}/app:1 file");
    let log = bench.path("push.log");
    let mut push_under_way = stella_tests::Process::start("oras push", &mut oras.command_line(&push), &log);
    // It is in the middle of it once it has opened the upload.
    poll("oras to connect", Duration::from_secs(30), || {
        push_under_way.said().contains("Uploading").then_some(())
    });
    bench.server.kill();
    let status = poll("oras to give up", Duration::from_mins(1), || push_under_way.ended());
    bench.server.start_again();

    // A quick disk may have taken it all before.
    if !status.success() {
        assert_eq!(bench.server.repository("app").manifest_status("1"), 404);
    }
    oras.run(&push);
    oras.run(&format!("pull --plain-http -o pulled {host}/app:1"));
    assert!(bench.read("pulled/file") == noise(1, 200 << 20));
}

#[test]
fn a_server_says_where_it_listens_and_stops_when_told() {
    let mut server = Server::start();
    let host = server.host().to_owned();
    assert!(host.starts_with("127.0.0.1:"));
    server.restart();
    assert_eq!(*server.host(), host);
    server.send(&stella_tests::Request::get("/v2/")).must_be(200);
}
