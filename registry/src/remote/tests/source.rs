// SPDX-License-Identifier: AGPL-3.0-only
//! A registry as the policy engine sees it, also one that lies: what it shows has the digest that was asked for, or is
//! an error that says how it failed.

use stella_policy as policy;
use stella_policy::Source as _;

use super::*;
use crate::source::RemoteSource;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn digest(bytes: &[u8]) -> policy::Digest {
    policy::Digest::of(bytes)
}

#[test]
fn what_is_found_has_its_digest_and_what_is_not_there_is_nothing() {
    let evil = Evil::new(|request, _| match request.line().rsplit('/').next() {
        Some("1") => Reply::ok("no JSON").with("content-type", "text/x; charset=utf-8"),
        Some(name) if name == digest(b"blob").as_str() => Reply::ok("blob"),
        // It answers something else than was asked for.
        Some(name) if name == digest(b"wanted").as_str() => Reply::ok("sent"),
        _ => Reply::status(404),
    });
    let client = Client::new(&evil);
    let source = RemoteSource(client.remote.clone());
    let tag = |name: &str| policy::Reference::Tag(name.to_owned());
    let manifest = |reference: &policy::Reference| client.run(source.manifest(reference));
    let blob = |bytes: &[u8], most: u64| client.run(source.blob(&digest(bytes), most));

    let found = manifest(&tag("1")).unwrap().unwrap();
    assert_eq!((found.media_type.as_str(), found.bytes.as_slice()), ("text/x", b"no JSON".as_slice()));
    assert_eq!(found.digest, digest(b"no JSON"));
    for absent in [tag("2"), tag("no/tag"), policy::Reference::Digest(digest(b"absent"))] {
        assert_eq!(manifest(&absent).unwrap(), None);
    }
    let lie = manifest(&policy::Reference::Digest(digest(b"wanted")));
    assert!(matches!(lie, Err(policy::Error::Malformed(_))), "{lie:?}");

    assert_eq!(blob(b"blob", 4).unwrap().unwrap(), b"blob");
    assert_eq!(blob(b"absent", 4).unwrap(), None);
    assert!(matches!(blob(b"blob", 3), Err(policy::Error::OverLimit(_))));
    assert!(matches!(blob(b"wanted", 9), Err(policy::Error::Malformed(_))));
}

#[test]
fn a_long_list_of_referrers_is_cut_and_a_refusal_keeps_its_exit_code() {
    let evil = Evil::new(|request, _| {
        if !request.line().contains("/referrers/") {
            return Reply::status(403);
        }
        let entry =
            json!({"mediaType": "a/b", "digest": digest(b"x").as_str(), "size": 1, "artifactType": "c/d"});
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": vec![entry; 50]});
        Reply::ok(body.to_string()).with("content-type", INDEX)
    });
    let client = Client::new(&evil);
    let source = RemoteSource(client.remote.clone());
    let found = client.run(source.referrers(&digest(b"image"), 20)).unwrap();
    assert_eq!((found.len(), found[0].artifact_type.as_deref()), (20, Some("c/d")));
    let refused = client.run(source.blob(&digest(b"x"), 9)).unwrap_err();
    assert_eq!(crate::exit::of_policy(&refused), crate::exit::AUTH);
}
