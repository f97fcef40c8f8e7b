// SPDX-License-Identifier: AGPL-3.0-only
//! What is pushed arrives whole, in the way that the registry takes, and secrets go nowhere else.

use super::super::Pushed;
use super::*;

const BLOB: &[u8] = b"a blob that is sent in pieces of seven bytes";

#[test]
fn what_is_there_is_not_sent_and_what_is_not_goes_in_one_put() {
    let there = Evil::new(|_, _| Reply::status(200));
    assert_eq!(Client::new(&there).push(BLOB).unwrap(), Pushed::Existed);
    assert_eq!(there.asked().len(), 1);

    let evil = Evil::new(|request, _| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        "POST" => Reply::status(202).with("Location", "/upload/1?_state=a%2Fb"),
        _ => Reply::status(201),
    });
    assert_eq!(Client::new(&evil).push(BLOB).unwrap(), Pushed::Sent);
    let asked = evil.asked();
    assert_eq!(evil.lines()[1..], ["POST /v2/app/blobs/uploads/", "PUT /upload/1"]);
    assert_eq!(asked[2].target, format!("/upload/1?_state=a%2Fb&digest={}", sha256(BLOB)));
    assert_eq!(asked[2].body, BLOB);
}

#[test]
fn a_blob_that_is_too_large_for_one_put_goes_in_chunks() {
    // What a proxy in front of a registry takes at once.
    const LIMIT: usize = 5 << 20;
    let blob: &'static [u8] = crate_noise(12_000_000).leak();
    let received = std::sync::Mutex::new(Vec::new());
    let evil = Evil::new(move |request, before| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        _ if request.body.len() > LIMIT => Reply::status(413),
        "POST" => {
            received.lock().unwrap().clear();
            Reply::status(202).with("Location", format!("/upload/{before}"))
        }
        "PATCH" => {
            let mut received = received.lock().unwrap();
            let range = format!("{}-{}", received.len(), received.len() + request.body.len() - 1);
            assert_eq!(request.header("content-range"), Some(range.as_str()));
            received.extend(&request.body);
            Reply::status(202).with("Location", format!("/upload/{before}"))
        }
        _ if sha256(&received.lock().unwrap()) == sha256(blob) => Reply::status(201),
        _ => Reply::status(400),
    });
    assert_eq!(Client::new(&evil).push(blob).unwrap(), Pushed::Sent);
    let patches = evil.asked().iter().filter(|request| request.method == "PATCH").count();
    assert!(patches >= 4, "one that was too large, and the parts: {patches}");
}

fn crate_noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn a_mount_that_is_refused_becomes_an_upload() {
    let from = "other".parse().unwrap();
    let push = |evil: &Evil| {
        let client = Client::new(evil);
        let digest = sha256(BLOB);
        client.run(client.remote.push_blob(&digest, Some(&from), || async { content(&digest, BLOB) }))
    };
    for (mount, outcome, requests) in
        [(201, Pushed::Mounted, 2), (202, Pushed::Sent, 3), (403, Pushed::Sent, 4), (404, Pushed::Sent, 4)]
    {
        let evil = Evil::new(move |request, before| match request.method.as_str() {
            "HEAD" => Reply::status(404),
            "POST" if before == 1 => Reply::status(mount).with("Location", "/upload/1"),
            "POST" => Reply::status(202).with("Location", "/upload/2"),
            _ => Reply::status(201),
        });
        assert_eq!(push(&evil).unwrap(), outcome, "{mount}");
        let asked = evil.asked();
        assert_eq!(asked.len(), requests, "{mount}");
        let mounted = format!("mount={}&from=other", sha256(BLOB).to_string().replace(':', "%3A"));
        assert!(asked[1].target.ends_with(&mounted), "{}", asked[1].target);
    }
}

#[test]
fn an_upload_elsewhere_gets_the_bytes_and_not_what_we_log_in_with() {
    let elsewhere = Evil::new(|_, _| Reply::status(201));
    let target = format!("http://{}/bucket", elsewhere.host());
    let evil = Evil::new(move |request, _| {
        if request.header("authorization").is_none() {
            return Reply::status(401).with("WWW-Authenticate", "Basic realm=x");
        }
        match request.method.as_str() {
            "HEAD" => Reply::status(404),
            _ => Reply::status(202).with("Location", target.clone()),
        }
    });
    let config = r#"{"auths":{"HOST":{"username":"ci","password":"s3cret"}}}"#;
    assert_eq!(Client::with(&evil, patience(), config).push(BLOB).unwrap(), Pushed::Sent);
    let asked = elsewhere.asked();
    assert_eq!((asked.len(), asked[0].body.as_slice()), (1, BLOB));
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn damaged_bytes_are_not_pushed_and_their_source_is_blamed() {
    let evil = Evil::new(|request, _| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        "POST" => Reply::status(202).with("Location", "/upload/1"),
        _ => Reply::status(201),
    });
    let error = Client::new(&evil).push_as(&sha256(b"other"), BLOB).unwrap_err();
    assert!(matches!(error, Error::Integrity(_)), "{error}");
    // The last piece was held back, so the request never was whole.
    assert!(!evil.lines().iter().any(|line| line.starts_with("PUT")), "{:?}", evil.lines());
}

#[test]
fn a_registry_that_breaks_off_gets_the_blob_again() {
    let evil = Evil::new(|request, before| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        "POST" => Reply::status(202).with("Location", "/upload/1"),
        "PUT" if before == 2 => Reply::status(503),
        "PUT" if before == 4 => Reply::Raw(Vec::new()),
        _ => Reply::status(201),
    });
    assert_eq!(Client::new(&evil).push(BLOB).unwrap(), Pushed::Sent);
    let puts = evil.asked().iter().filter(|request| request.method == "PUT").count();
    assert_eq!(puts, 3);
    let always = Evil::new(|request, _| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        "POST" => Reply::status(202).with("Location", "/upload/1"),
        _ => Reply::status(503),
    });
    let error = Client::new(&always).push(BLOB).unwrap_err();
    assert_eq!(error.exit(), crate::exit::RETRY);
}

#[test]
fn a_registry_that_takes_no_more_bytes_is_given_up() {
    // More than what waits in sockets.
    let blob: &'static [u8] = crate_noise(32 << 20).leak();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stuck = listener.local_addr().unwrap();
    let evil = Evil::new(move |request, _| match request.method.as_str() {
        "HEAD" => Reply::status(404),
        _ => Reply::status(202).with("Location", format!("http://{stuck}/upload")),
    });
    let short = Patience { idle: Duration::from_millis(200), attempts: 1, ..patience() };
    let error = Client::with(&evil, short, "{}").push(blob).unwrap_err();
    assert_eq!(error.exit(), crate::exit::RETRY, "{error}");
    drop(listener);
}

#[test]
fn referrers_of_a_registry_without_the_api_are_listed_under_the_tag() {
    let subject = sha256(b"subject");
    let kind = "application/vnd.oci.image.index.v1+json";
    let list = json!({
        "schemaVersion": 2, "mediaType": kind,
        "manifests": [{"mediaType": "a/b", "digest": sha256(b"x"), "size": 1, "unknown": true}],
    });
    let evil = Evil::new(move |request, _| match request.method.as_str() {
        "GET" => Reply::ok(list.to_string()),
        _ => Reply::status(201),
    });
    let client = Client::new(&evil);
    let referrer = super::super::Manifest::checked(None, None, index().into()).unwrap().descriptor();
    client.run(client.remote.add_to_fallback(&subject, &referrer)).unwrap();
    let put = evil.asked().pop().unwrap();
    assert_eq!(put.target, format!("/v2/app/manifests/{}", subject.to_string().replace(':', "-")));
    assert_eq!(put.header("content-type"), Some(kind));
    let written: serde_json::Value = serde_json::from_slice(&put.body).unwrap();
    assert_eq!(written["manifests"][0]["unknown"], true, "what others wrote stays");
    assert_eq!(written["manifests"][1]["digest"], referrer.digest.to_string());
}
