// SPDX-License-Identifier: AGPL-3.0-only
//! `stella copy`, `tags`, `digest` and `inspect` between registries of different makes, and what other
//! clients find of it: docker-registry over TLS with a private CA, a login and no referrers API; ours; and
//! layouts on disk.

use serde_json::Value;
use stella_tests::{Artifact, Bench, Client, Content, Image, Peer, Tool, Transport};

use crate::samples::samples;

/// A bench, docker-registry beside it, and `stella` logged in there.
fn bench(clients: &[Client]) -> Option<(Bench, Peer, Tool)> {
    let bench = Bench::with(&[clients, &[Client::DockerRegistry]].concat(), Transport::Plain)?;
    let peer = Peer::start(&bench.path("peer"));
    bench.write("docker/config.json", peer.docker_config(Peer::PASSWORD));
    let stella = bench.stella().env("SSL_CERT_FILE", peer.ca());
    Some((bench, peer, stella))
}

fn json(tool: &Tool, arguments: &str) -> Value {
    serde_json::from_str(&tool.run(arguments)).unwrap()
}

#[test]
fn images_go_to_another_registry_and_back_as_they_were() {
    let Some((bench, peer, stella)) = bench(&[Client::Crane]) else { return };
    let (ours, theirs) = (bench.server.host(), peer.host());
    let crane = bench.tool(Client::Crane).env("SSL_CERT_FILE", peer.ca());
    for (tag, content) in &samples() {
        bench.server.repository("from").push(content, tag);
        let copied = json(&stella, &format!("copy --output json {ours}/from:{tag} {theirs}/app"));
        assert_eq!(copied["digest"], content.digest());
        assert_eq!(copied["target"], format!("{theirs}/app:{tag}"));
        assert_eq!(crane.run(&format!("digest {theirs}/app:{tag}")), content.digest());
        stella.run(&format!("copy --jobs 1 {theirs}/app:{tag} {ours}/back"));
        bench.server.repository("back").pull(tag).assert_same(content);
        // What is there is not sent again.
        let again = json(&stella, &format!("copy --output json {ours}/from:{tag} {theirs}/app:{tag}"));
        let counts = (&again["bytes"], &again["manifests"]["copied"], &again["blobs"]["copied"]);
        assert_eq!(counts, (&0.into(), &0.into(), &0.into()), "{again}");
    }
    crane.run(&format!("validate --remote {theirs}/app:index"));
    assert_eq!(stella.run(&format!("tags {theirs}/app")), crane.run(&format!("ls {theirs}/app")));
    for platform in ["linux/amd64", "linux/arm64"] {
        let digest = stella.run(&format!("digest --platform {platform} {theirs}/app:index"));
        assert_eq!(digest, crane.run(&format!("digest --platform {platform} {theirs}/app:index")));
        stella.run(&format!("copy --platform {platform} {theirs}/app:index {ours}/one:1"));
        assert_eq!(bench.server.repository("one").pull("1").digest(), digest);
    }
    let raw = stella.run_for_bytes(&format!("inspect --raw {theirs}/app:index"));
    assert_eq!(raw, crane.run_for_bytes(&format!("manifest {theirs}/app:index")));
}

#[test]
fn signatures_and_sboms_go_along_and_other_clients_find_them() {
    let Some((bench, peer, stella)) = bench(&[Client::Oras]) else { return };
    let (ours, theirs) = (bench.server.host(), peer.host());
    let oras = bench.tool(Client::Oras).env("SSL_CERT_FILE", peer.ca());
    let index = Content::index(&[Image::sample(1).build(), Image::sample(2).architecture("arm64").build()]);
    let sbom = Artifact::new("application/spdx+json").file(b"{}").subject(&index).build();
    let of_sbom = Artifact::new("application/x.sig").file(b"sig").subject(&sbom).build();
    let image = index.manifest()["manifests"][1]["digest"].as_str().unwrap().to_owned();
    let from = bench.server.repository("app");
    from.push(&index, "1");
    from.push(&sbom, sbom.digest());
    from.push(&of_sbom, of_sbom.digest());
    // cosign's way, of an image inside the index.
    let signature = format!("{}.sig", image.replace(':', "-"));
    from.push(&Artifact::new("application/x.cosign").file(b"cosign").build(), &signature);

    let copied = json(&stella, &format!("copy -r --output json {ours}/app:1 {theirs}/app:1"));
    assert_eq!(copied["evidence"], 3, "{copied}");
    let tree = |arguments: &str| -> Value {
        serde_json::from_str(&oras.run(&format!("discover --format json {arguments}"))).unwrap()
    };
    let check = |arguments: &str| {
        let found = tree(arguments);
        assert_eq!(found["referrers"][0]["digest"], sbom.digest(), "{found}");
        assert_eq!(found["referrers"][0]["referrers"][0]["digest"], of_sbom.digest(), "{found}");
    };
    check(&format!("--distribution-spec v1.1-referrers-tag {theirs}/app:1"));
    assert!(stella.run(&format!("tags {theirs}/app")).lines().any(|tag| tag == signature));

    // And back, where the API is; twice, which changes nothing.
    for _ in 0..2 {
        stella.run(&format!("copy -r {theirs}/app:1 {ours}/back:1"));
        check(&format!("--plain-http --distribution-spec v1.1-referrers-api {ours}/back:1"));
    }
    let back = bench.server.repository("back");
    back.pull("1").assert_same(&index);
    back.pull(&signature).assert_same(&from.pull(&signature));
    let inspected = json(&stella, &format!("inspect --output json {theirs}/app:1"));
    assert_eq!(inspected["referrers"][0]["artifact_type"], "application/spdx+json", "{inspected}");

    // By way of a disk.
    stella.run(&format!("copy -r {ours}/app:1 oci:layout"));
    stella.run(&format!("copy -r oci:layout:1 {ours}/disk"));
    check(&format!("--plain-http {ours}/disk:1"));
    check("--oci-layout layout:1");
    bench.server.repository("disk").pull(&signature).assert_same(&from.pull(&signature));
}

#[test]
fn layouts_are_exchanged_with_other_clients() {
    let Some(bench) = Bench::with(&[Client::Skopeo, Client::Crane], Transport::Plain) else { return };
    let (skopeo, crane, stella) = (bench.tool(Client::Skopeo), bench.tool(Client::Crane), bench.stella());
    let host = bench.server.host();
    for (tag, content) in &samples() {
        bench.server.repository("app").push(content, tag);
        stella.run(&format!("copy {host}/app:{tag} oci:all"));
        Content::read_layout(&bench.path("all"), tag).assert_same(content);
        let skopeo_takes = content.media_type().contains(".oci.");
        if skopeo_takes {
            skopeo.run(&format!(
                "copy --all --dest-tls-verify=false oci:all:{tag} docker://{host}/skopeo:{tag}"
            ));
            bench.server.repository("skopeo").pull(tag).assert_same(content);
            skopeo.run(&format!(
                "copy --all --src-tls-verify=false docker://{host}/app:{tag} oci:theirs:{tag}"
            ));
            stella.run(&format!("copy oci:theirs:{tag} {host}/stella"));
            bench.server.repository("stella").pull(tag).assert_same(content);
        }
        stella.run(&format!("copy {host}/app:{tag} oci:only-{tag}"));
        crane.run(&format!("push only-{tag} {host}/crane:{tag}"));
        bench.server.repository("crane").pull(tag).assert_same(content);
    }
}

#[test]
fn whoever_is_not_let_in_is_told_why() {
    let Some((bench, peer, stella)) = bench(&[]) else { return };
    let theirs = peer.host();
    let (code, text) = stella.failure(&format!("digest {theirs}/app:1"));
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("error response from registry: manifest unknown"), "{text}");

    // The CA by a flag, by the variable, or not at all.
    let bare = bench.stella();
    let (code, text) = bare.failure(&format!("digest {theirs}/app:1"));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("certificate is not trusted") && text.contains("--cacert"), "{text}");
    let (code, text) = bare.failure(&format!("digest --cacert {} {theirs}/app:1", peer.ca().display()));
    assert_eq!(code, 4, "{text}");
    let (code, text) = stella.failure(&format!("digest --plain-http {theirs}/app:1"));
    assert_eq!(code, 1, "{text}");

    bench.write("docker/config.json", peer.docker_config("wr0ng"));
    let (code, text) = stella.failure(&format!("tags {theirs}/app"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("were refused") && !text.contains("wr0ng"), "{text}");
    bench.write("docker/config.json", "{}");
    let (code, text) = stella.failure(&format!("tags {theirs}/app"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains(&format!("docker login {theirs}")), "{text}");
    let json = stella.try_run(&format!("tags --output json {theirs}/app"));
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["exit"], 3, "{told}");
}

#[test]
fn a_token_service_is_asked_for_what_a_copy_needs_and_no_more() {
    let Some(bench) = Bench::with(&[Client::DockerRegistry], Transport::Plain) else { return };
    let peer = Peer::with_tokens(&bench.path("peer"));
    bench.write("docker/config.json", peer.docker_config(Peer::PASSWORD));
    let stella = bench.stella();
    let (ours, theirs) = (bench.server.host(), peer.host());
    let image = Image::sample(1).build();
    bench.server.repository("app").push(&image, "1");
    stella.run(&format!("copy {ours}/app:1 {theirs}/app:1"));
    assert_eq!(peer.scopes(), ["repository:app:pull,push"], "one token for the whole of it");
    // A mount needs to read the other repository.
    let mounted = json(&stella, &format!("copy --output json {theirs}/app:1 {theirs}/other:1"));
    assert_eq!((&mounted["bytes"], &mounted["mounted"]), (&0.into(), &3.into()), "{mounted}");
    assert!(peer.scopes().contains(&"repository:app:pull repository:other:pull,push".to_owned()));

    bench.write("docker/config.json", "{}");
    assert_eq!(stella.run(&format!("digest {theirs}/app:1")), image.digest());
    let (code, text) = stella.failure(&format!("copy {ours}/app:1 {theirs}/third:1"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains(&format!("docker login {theirs}")), "{text}");
}
