// SPDX-License-Identifier: AGPL-3.0-only
//! What a manifest must be to be stored: the validation table case by case, and the media types.

use serde_json::{Value, json};

use crate::client::{get, put};
use crate::role::{
    DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Repo, image, index, refused, sha256,
    sha512,
};
use crate::server::Server;

/// Refuses a manifest under a tag and under its digest, and checks that neither came to be.
#[track_caller]
fn is_invalid(repo: Repo<'_>, media_type: &str, text: &str) -> String {
    let digest = sha256(text);
    let [message, _] = ["refused", &digest].map(|reference| {
        let error = refused(&repo.put_manifest(reference, media_type, text), 400, "MANIFEST_INVALID");
        assert!(!repo.has_manifest(reference), "{text}");
        error["message"].as_str().unwrap().to_owned()
    });
    assert!(!repo.tags().contains(&"refused".to_owned()), "{text}");
    message
}

/// A valid image of the repository's own blobs, as JSON to be spoiled.
fn valid(repo: Repo<'_>) -> Value {
    serde_json::from_slice(&repo.draft_image("x").bytes).unwrap()
}

fn with(mut manifest: Value, pointer: &str, value: Value) -> String {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[name] = value;
    manifest.to_string()
}

#[test]
fn a_manifest_that_breaks_the_image_specification_is_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    repo.push_image("keep", "keep");
    let valid = valid(repo);
    for (pointer, value, word) in [
        ("/schemaVersion", json!(3), "schemaVersion"),
        ("/schemaVersion", json!(null), "schemaVersion"),
        ("/schemaVersion", json!("2"), "schemaVersion"),
        ("/config", json!(null), "config"),
        ("/config", json!({}), "mediaType"),
        ("/config/size", json!(-1), "size"),
        ("/config/size", json!(1.5), "float"),
        ("/config/size", json!("13"), "string"),
        ("/config/digest", json!("sha256:short"), "digest"),
        ("/config/digest", json!("latest"), "digest"),
        ("/config/mediaType", json!("nonsense"), "media type"),
        ("/config/mediaType", json!(""), "media type"),
        ("/layers", json!({}), "sequence"),
        ("/layers", json!([1]), "layers"),
        ("/manifests", json!([]), "two things"),
        ("/annotations", json!({"a": 1}), "string"),
        ("/annotations", json!([]), "map"),
        ("/artifactType", json!("bad\u{0}type"), "artifactType"),
        ("/subject", json!({"digest": "x"}), "mediaType"),
        ("/subject", json!({"mediaType": OCI_MANIFEST, "digest": "x", "size": 1}), "digest"),
        ("/fsLayers", json!([]), "schema 1"),
    ] {
        let message = is_invalid(repo, OCI_MANIFEST, &with(valid.clone(), pointer, value));
        // Messages of the JSON reader name what was found or expected.
        let helps = message.contains(word) || message.contains("expected") || message.contains("line");
        assert!(helps, "{pointer}: {message}");
    }
    let mut no_layers = valid.clone();
    no_layers.as_object_mut().unwrap().remove("layers");
    assert!(is_invalid(repo, OCI_MANIFEST, &no_layers.to_string()).contains("layers"));
    let urls = with(valid, "/layers/0/urls", json!(["ftp://example.org/x"]));
    assert!(is_invalid(repo, OCI_MANIFEST, &urls).contains("http"));
    assert_eq!(repo.tags(), ["keep"]);
}

#[test]
fn json_that_parsers_read_differently_is_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let valid = valid(repo).to_string();
    let spoil = |from: &str, to: &str| valid.replacen(from, to, 1);
    for text in [
        spoil("\"layers\"", "\"layers\":[],\"layers\""),
        spoil("\"layers\"", "\"lay\\u0065rs\":[],\"layers\""),
        spoil("\"layers\"", "\"Layers\""),
        spoil("\"size\"", "\"Size\""),
        spoil("{", "{\"annotations\":{\"a\":\"1\",\"a\":\"2\"},"),
        spoil("{", "{\"x\":{\"deep\":[{\"a\":1,\"a\":2}]},"),
        format!("{valid}{valid}"),
        format!("{valid} x"),
        format!("\u{feff}{valid}"),
        format!("[{valid}]"),
        valid[..valid.len() - 1].to_owned(),
        String::new(),
        "null".to_owned(),
        "\u{1f980}".to_owned(),
    ] {
        is_invalid(repo, OCI_MANIFEST, &text);
    }
    let mut latin = valid.clone().into_bytes();
    latin.splice(1..1, *b"\"x\":\"\xe9\",");
    refused(&repo.put_manifest("latin", OCI_MANIFEST, &latin), 400, "MANIFEST_INVALID");
    assert_eq!(repo.tags(), [""; 0]);
}

#[test]
fn deep_nesting_is_refused_and_costs_no_stack() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let valid = valid(repo).to_string();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [200, 100_000] {
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            is_invalid(repo, OCI_MANIFEST, &valid.replacen('{', &format!("{{\"x\":{nested},"), 1));
        }
        is_invalid(repo, OCI_MANIFEST, &open.repeat(500_000));
    }
    repo.put_manifest("fine", OCI_MANIFEST, &valid).is(201);
}

#[test]
fn the_size_limit_is_four_mebibytes_whole_or_in_chunks() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let valid = valid(repo).to_string();
    let padded = |length: usize| {
        let pad = "x".repeat(length - valid.len() - "\"pad\":\"\",".len());
        valid.replacen('{', &format!("{{\"pad\":\"{pad}\","), 1)
    };
    let (fits, over) = (padded(4 << 20), padded((4 << 20) + 1));
    let put_chunked = |tag: &str, text: &str| {
        let chunks: Vec<_> = text.as_bytes().chunks(100_000).collect();
        put(repo.manifest(tag)).header("Content-Type", OCI_MANIFEST).chunked(&chunks).to(&server)
    };
    put_chunked("chunked", &fits).is(201);
    repo.put_manifest("whole", OCI_MANIFEST, &fits).is(201);
    assert!(get(repo.manifest("whole")).to(&server).body == fits.as_bytes());
    let error = refused(&repo.put_manifest("over", OCI_MANIFEST, &over), 413, "MANIFEST_INVALID");
    assert!(error["message"].as_str().unwrap().contains("4194304"), "{error}");
    refused(&put_chunked("over", &over), 413, "MANIFEST_INVALID");
    assert_eq!(repo.tags(), ["chunked", "whole"]);
}

#[test]
fn more_descriptors_than_the_limit_are_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let children: Vec<_> = (0..4097).map(|number| sha256(format!("{number}"))).collect();
    let children: Vec<_> = children.iter().map(|digest| (digest.as_str(), 1)).collect();
    repo.put_manifest("most", OCI_INDEX, index(&children[1..]).to_string()).is(201);
    assert!(is_invalid(repo, OCI_INDEX, &index(&children).to_string()).contains("4096"));
}

#[test]
fn schema_one_is_refused_with_a_way_out() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let valid = valid(repo).to_string();
    let schema_one = r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[],"signatures":[]}"#;
    for (media_type, text) in [
        ("application/vnd.docker.distribution.manifest.v1+json", schema_one),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", schema_one),
        ("application/vnd.docker.distribution.manifest.v1+json", &valid),
        ("application/json", schema_one),
        (OCI_MANIFEST, schema_one),
    ] {
        let message = is_invalid(repo, media_type, text);
        assert!(message.contains("schema 1") && message.contains("schema 2"), "{message}");
    }
}

#[test]
fn the_media_type_and_the_shape_must_agree() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let valid = valid(repo).to_string();
    let plain = valid.replace(&format!("\"mediaType\":\"{OCI_MANIFEST}\","), "");
    let list = r#"{"schemaVersion":2,"manifests":[]}"#;
    for (media_type, text) in [
        (DOCKER_MANIFEST, valid.as_str()),
        (OCI_INDEX, &plain),
        (DOCKER_LIST, &plain),
        (OCI_MANIFEST, list),
        (DOCKER_MANIFEST, list),
        ("application/json", &plain),
        ("text/plain", &plain),
        ("application/octet-stream", &valid),
        ("nonsense", &valid),
    ] {
        is_invalid(repo, media_type, text);
    }
    // Without a word from the request the document decides, then its shape; the future is welcome.
    for (tag, media_type, text, kept) in [
        ("a", None, valid.as_str(), OCI_MANIFEST),
        ("b", None, list, OCI_INDEX),
        ("c", Some(DOCKER_MANIFEST), &format!(" {plain}"), DOCKER_MANIFEST),
        (
            "d",
            Some("application/vnd.example.v3+json"),
            &format!("  {plain}"),
            "application/vnd.example.v3+json",
        ),
    ] {
        let mut request = put(repo.manifest(tag)).body(text);
        if let Some(media_type) = media_type {
            request = request.header("Content-Type", media_type);
        }
        request.to(&server).is(201);
        assert_eq!(get(repo.manifest(tag)).to(&server).must("content-type"), kept);
    }
}

#[test]
fn a_tag_may_change_from_image_to_index_but_a_digest_keeps_its_type() {
    let server = Server::start();
    let repo = server.repo("team/app");
    repo.push_image("latest", "x");
    repo.put_manifest("latest", OCI_INDEX, index(&[]).to_string()).is(201);
    assert_eq!(repo.resolve("latest"), Some(sha256(index(&[]).to_string())));
    let plain = r#"{"schemaVersion":2,"manifests":[]}"#;
    repo.put_manifest("plain", OCI_INDEX, plain).is(201);
    refused(&repo.put_manifest("plain", DOCKER_LIST, plain), 400, "MANIFEST_INVALID");
    assert_eq!(get(repo.manifest("plain")).to(&server).must("content-type"), OCI_INDEX);
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.draft_image("x");
    let wrong = sha256("something else");
    let error = refused(&repo.put_manifest(&wrong, OCI_MANIFEST, &image.bytes), 400, "DIGEST_INVALID");
    assert!(error["message"].as_str().unwrap().contains(&image.digest), "{error}");
    refused(&repo.put_manifest(&sha512("x"), OCI_MANIFEST, &image.bytes), 400, "DIGEST_INVALID");
    for bad in ["sha256:baddigeststring", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "x:y:z"] {
        refused(&repo.put_manifest(bad, OCI_MANIFEST, &image.bytes), 400, "DIGEST_INVALID");
    }
    // Some clients name a tag and the digest beside it.
    refused(
        &repo.put_manifest(&format!("v1?digest={wrong}"), OCI_MANIFEST, &image.bytes),
        400,
        "DIGEST_INVALID",
    );
    assert!(!repo.has_manifest(&image.digest) && !repo.has_manifest(&wrong) && repo.tags().is_empty());
    let digest = sha512(&image.bytes);
    repo.put_manifest(&format!("v1?digest={digest}"), OCI_MANIFEST, &image.bytes).is(201);
    assert_eq!(repo.resolve("v1"), Some(digest));
}

#[test]
fn what_go_clients_write_as_null_is_nothing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let text = with(valid(repo), "/annotations", json!(null));
    repo.put_manifest("a", OCI_MANIFEST, &text).is(201);
    let nulls = r#"{"schemaVersion":2,"manifests":null,"subject":null,"annotations":null}"#;
    repo.put_manifest("b", OCI_INDEX, nulls).is(201);
    let config = repo.push_blob("{}");
    let text = with(image((&config, 2), &[]), "/layers", json!(null));
    repo.put_manifest("c", OCI_MANIFEST, &text).is(201);
    assert_eq!(get(repo.manifest("c")).to(&server).body, text.as_bytes());
}

#[test]
fn oddities_are_accepted_with_a_warning() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let config = repo.push_blob("{}");
    let wrong_size = image((&config, 3), &[]).to_string();
    let answer = repo.put_manifest("size", OCI_MANIFEST, &wrong_size).is(201);
    let warning = answer.must("warning");
    assert!(warning.starts_with("299 - \"") && warning.ends_with('"'), "{warning}");
    assert!(warning.contains(&config), "{warning}");
    let data = json!({"mediaType": OCI_CONFIG, "digest": config, "size": 2, "data": "W10="});
    let wrong_data = with(image((&config, 2), &[]), "/config", data);
    let answer = repo.put_manifest("data", OCI_MANIFEST, wrong_data).is(201);
    assert!(answer.must("warning").contains("embedded data"), "{answer}");
    // However many there are, clients read 4096 bytes of them.
    let layers = vec![(config.as_str(), 3); 500];
    let answer = repo.put_manifest("many", OCI_MANIFEST, image((&config, 3), &layers).to_string()).is(201);
    assert!(answer.all("warning").iter().map(|warning| warning.len()).sum::<usize>() <= 4096);
}
