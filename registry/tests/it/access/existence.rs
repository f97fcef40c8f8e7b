// SPDX-License-Identifier: AGPL-3.0-only
//! Whoever may not read something does not learn whether it is there.

use super::{Guarded, bearer};
use crate::client::{delete, get, head, post, put};
use crate::role::sha256;

#[test]
fn what_may_not_be_read_answers_as_what_is_not_there() {
    let guarded = Guarded::start();
    let (digest, layer) = guarded.image("prod/app", "v1");
    for who in ["anonymous", "reader"] {
        for (there, nowhere) in [
            ("/v2/prod/app/manifests/v1".to_owned(), "/v2/prod/none/manifests/v1".to_owned()),
            (format!("/v2/prod/app/manifests/{digest}"), format!("/v2/prod/none/manifests/{digest}")),
            (format!("/v2/prod/app/blobs/{layer}"), format!("/v2/prod/none/blobs/{layer}")),
            ("/v2/prod/app/tags/list".to_owned(), "/v2/prod/none/tags/list".to_owned()),
            (format!("/v2/prod/app/referrers/{digest}"), format!("/v2/prod/none/referrers/{digest}")),
        ] {
            for method in [get, head, delete] {
                let (one, other) =
                    (guarded.send(who, method(there.clone())), guarded.send(who, method(nowhere.clone())));
                assert_eq!(one.status, other.status, "{who} {there}");
                let text = String::from_utf8_lossy(&one.body).replace("prod/app", "prod/none");
                assert_eq!(text, String::from_utf8_lossy(&other.body), "{who} {there}");
            }
        }
    }
}

#[test]
fn a_mount_from_what_may_not_be_read_is_an_upload() {
    let guarded = Guarded::start();
    let (_, secret) = guarded.image("prod/app", "v1");
    let (_, shared) = guarded.image("dev/base", "v1");
    let token = guarded.token("ci", "repository:dev/app:pull,push");
    let mount = |digest: &str, from: &str| {
        let target = format!("/v2/dev/app/blobs/uploads/?mount={digest}{from}");
        bearer(post(target), &token).to(&guarded.server)
    };
    let absent = sha256("nowhere");
    for (digest, from) in [
        (&secret, "&from=prod/app"),
        (&absent, "&from=prod/app"),
        (&secret, "&from=prod/none"),
        (&secret, ""),
        (&absent, ""),
    ] {
        let answer = mount(digest, from).is(202);
        assert!(answer.must("location").starts_with("/v2/dev/app/blobs/uploads/"));
    }
    // What the token's subject may read is mounted without `from`, although the token is for the target alone.
    mount(&shared, "").is(201);
    let answer = mount(&shared, "&from=dev/base");
    assert_eq!(answer.status, 401, "{answer}");
    assert!(
        answer.must("www-authenticate").contains(
            "scope=\"repository:dev/app:pull,push repository:dev/base:pull\",error=\"insufficient_scope\""
        ),
        "{answer}"
    );
    let both = guarded.token("ci", "repository:dev/app:pull,push%20repository:dev/base:pull");
    let target = format!("/v2/dev/app/blobs/uploads/?mount={shared}&from=dev/base");
    bearer(post(target), &both).to(&guarded.server).is(201);
}

#[test]
fn tricks_with_paths_lead_nowhere() {
    let guarded = Guarded::start();
    guarded.image("prod/app", "v1");
    for path in [
        "/v2/public/../prod/app/manifests/v1",
        "/v2/public/%2e%2e/prod/app/manifests/v1",
        "/v2/public%2f..%2fprod/app/manifests/v1",
        "/v2//prod/app/manifests/v1",
        "/v2/prod/app/manifests/v1/",
        "/v2/./prod/app/manifests/v1",
        "/v2/prod/app/./manifests/v1",
        "/V2/prod/app/manifests/v1",
        "/v2/PROD/app/manifests/v1",
        "//v2/prod/app/manifests/v1",
        "/token/../v2/prod/app/manifests/v1",
        "/metrics/../v2/prod/app/manifests/v1",
        "http://registry.test/v2/prod/app/manifests/v1",
    ] {
        for who in ["anonymous", "reader"] {
            let answer = guarded.send(who, get(path));
            assert!([400, 401, 403, 404].contains(&answer.status), "{path}: {answer}");
        }
    }
    guarded.send("reader", put("/v2/public/app/manifests/v1?tag=v2").body("{}")).is(403);
}
