// SPDX-License-Identifier: AGPL-3.0-only
//! What is read from a registry is what its digest says, or an error, and comes to an end.

use super::*;

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_an_error() {
    let evil = Evil::new(|_, _| Reply::ok(index()));
    let error = Client::new(&evil).manifest(&sha256(b"other").to_string()).unwrap_err();
    assert!(matches!(error, Error::Integrity(_)), "{error}");
    let lying =
        Evil::new(|_, _| Reply::ok(index()).with("Docker-Content-Digest", sha256(b"other").to_string()));
    let error = Client::new(&lying).manifest("1").unwrap_err();
    assert!(matches!(error, Error::Integrity(_)), "{error}");
    let right = Client::new(&evil).manifest("1").unwrap();
    assert_eq!(right.digest, sha256(&index()));
}

#[test]
fn an_answer_without_an_end_is_given_up() {
    let evil = Evil::new(|_, _| Reply::Endless(CHUNKED.to_vec()));
    let error = Client::new(&evil).manifest("1").unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    let claims =
        Evil::new(|_, _| Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()));
    let error = Client::new(&claims).manifest("1").unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    // A refusal is shown, but not all of it.
    let refusal =
        Evil::new(|_, _| Reply::Endless(b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()));
    Client::new(&refusal).manifest("1").unwrap_err();
}

#[test]
fn who_stands_still_is_given_up() {
    let short = Patience { idle: Duration::from_millis(50), ..patience() };
    for stall in
        [b"".as_slice(), b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", CHUNKED]
    {
        let evil = Evil::new(move |_, _| Reply::Stall(stall.to_vec()));
        let client = Client::with(&evil, short, "{}");
        let error = client.manifest("1").unwrap_err();
        assert_eq!(error.exit(), crate::exit::RETRY, "{error}");
        let error = client.blob(b"a blob of 20 bytes..").unwrap_err();
        assert_eq!(error.exit(), crate::exit::RETRY, "{error}");
    }
}

#[test]
fn what_passes_is_tried_again_and_no_more_than_so_often() {
    for status in [429, 500, 503] {
        let evil = Evil::new(move |_, before| match before {
            0 => Reply::status(status).with("Retry-After", "0"),
            1 => Reply::Raw(Vec::new()),
            _ => Reply::ok(index()),
        });
        Client::new(&evil).manifest("1").unwrap();
        assert_eq!(evil.asked().len(), 3);
        let busy = Evil::new(move |_, _| Reply::status(status));
        let error = Client::new(&busy).manifest("1").unwrap_err();
        assert_eq!((error.exit(), busy.asked().len()), (crate::exit::RETRY, 3));
        let long = Evil::new(move |_, _| Reply::status(status).with("Retry-After", "3600"));
        Client::new(&long).manifest("1").unwrap_err();
        assert_eq!(long.asked().len(), 1, "nobody waits for an hour");
    }
    let gone = Evil::new(|_, _| Reply::status(404));
    assert!(matches!(Client::new(&gone).manifest("1"), Err(Error::NotFound(_))));
    assert_eq!(gone.asked().len(), 1);
}

#[test]
fn redirects_end() {
    let evil = Evil::new(|request, _| Reply::status(307).with("Location", request.target.clone()));
    let error = Client::new(&evil).blob(b"x").unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert_eq!(evil.asked().len(), 6);
    for location in ["ftp://127.0.0.1/", "file:///etc/passwd", "http://[", ""] {
        let evil = Evil::new(move |_, _| match location {
            "" => Reply::status(307),
            location => Reply::status(307).with("Location", location),
        });
        Client::new(&evil).blob(b"x").unwrap_err();
        assert_eq!(evil.asked().len(), 1, "{location}");
    }
}

#[test]
fn a_redirect_elsewhere_is_followed_without_what_we_log_in_with() {
    let elsewhere = Evil::new(|_, _| Reply::ok(*b"hello"));
    let target = format!("http://{}/bucket?sig=1", elsewhere.host());
    let evil = Evil::new(move |request, _| match request.header("authorization") {
        Some(_) => Reply::status(307).with("Location", target.clone()),
        None => Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
    });
    let config = r#"{"auths":{"HOST":{"username":"ci","password":"s3cret"}}}"#;
    assert_eq!(Client::with(&evil, patience(), config).blob(b"hello").unwrap(), b"hello".as_slice());
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/bucket?sig=1");
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn nothing_leads_from_tls_to_plain_http() {
    use reqwest::ResponseBuilderExt as _;
    let at = |url: &str, to: &str| {
        let url: reqwest::Url = url.parse().unwrap();
        let answer = http::Response::builder().url(url).header("location", to).body("").unwrap();
        super::super::registry::location(&answer.into()).map(|url| url.to_string())
    };
    let error = at("https://r.test/v2/", "http://r.test/v2/x").unwrap_err();
    assert!(error.to_string().contains("from TLS to plain HTTP"), "{error}");
    assert_eq!(at("http://r.test/a/b", "https://other.test/x?y").unwrap(), "https://other.test/x?y");
    assert_eq!(at("https://r.test/a/b", "/v2/x?_state=a%2Fb").unwrap(), "https://r.test/v2/x?_state=a%2Fb");
    assert_eq!(at("https://r.test/a/b", "c").unwrap(), "https://r.test/a/c");
}

/// Sends the bytes from `start` on, and of those only so many.
fn part(blob: &'static [u8], start: usize, count: usize) -> Reply {
    let rest = &blob[start..];
    let status = if start == 0 { "200 OK" } else { "206 X" };
    let range = format!("Content-Range: bytes {start}-{}/{}\r\n", blob.len() - 1, blob.len());
    let head = format!("HTTP/1.1 {status}\r\n{range}Content-Length: {}\r\n\r\n", rest.len());
    Reply::Raw([head.as_bytes(), &rest[..count.min(rest.len())]].concat())
}

fn start_of(request: &Request) -> usize {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
}

const BLOB: &[u8] = b"a blob that takes several connections";

#[test]
fn a_blob_that_breaks_off_is_continued_where_it_broke() {
    let evil = Evil::new(|request, _| part(BLOB, start_of(request), 15));
    assert_eq!(Client::new(&evil).blob(BLOB).unwrap(), BLOB);
    let starts: Vec<_> = evil.asked().iter().map(start_of).collect();
    assert_eq!(starts, [0, 15, 30]);
}

#[test]
fn a_registry_without_ranges_is_read_from_the_start_again() {
    let evil = Evil::new(|_, before| part(BLOB, 0, if before == 0 { 15 } else { 1000 }));
    assert_eq!(Client::new(&evil).blob(BLOB).unwrap(), BLOB);
}

#[test]
fn a_blob_that_always_breaks_off_is_given_up() {
    for count in [0, 1] {
        let evil = Evil::new(move |request, _| part(BLOB, start_of(request), count));
        let error = Client::new(&evil).blob(BLOB).unwrap_err();
        assert_eq!((error.exit(), evil.asked().len()), (crate::exit::RETRY, 3), "{error}");
    }
}

#[test]
fn a_blob_of_another_size_or_content_is_an_error() {
    let evil = Evil::new(|_, _| Reply::ok(*b"hellO"));
    assert!(matches!(Client::new(&evil).blob(b"hello"), Err(Error::Integrity(_))));
    assert_eq!(evil.asked().len(), 1, "what is wrong is not asked for again");
    for wrong in [b"hell".as_slice(), b"hello!"] {
        let evil = Evil::new(move |_, _| Reply::ok(wrong));
        assert!(matches!(Client::new(&evil).blob(b"hello"), Err(Error::Integrity(_))));
        // The same without a length that tells.
        let evil = Evil::new(move |_, _| Reply::Raw([b"HTTP/1.1 200 OK\r\n\r\n", wrong].concat()));
        Client::new(&evil).blob(b"hello").unwrap_err();
    }
    let endless = Evil::new(|_, _| Reply::Endless(CHUNKED.to_vec()));
    assert!(matches!(Client::new(&endless).blob(b"hello"), Err(Error::Integrity(_))));
}

#[test]
fn a_list_of_tags_is_read_page_by_page_and_ends() {
    let tags = |client: &Client| {
        client.run(async {
            let mut pages = client.remote.tags()?;
            let mut all = Vec::new();
            while let Some(page) = pages.next().await? {
                all.extend(page);
            }
            Result::Ok(all)
        })
    };
    let evil = Evil::new(|_, before| match before {
        0 => Reply::ok(r#"{"tags":["a","b"]}"#).with("Link", "<list?last=b>; rel=\"next\""),
        _ => Reply::ok(r#"{"tags":null}"#),
    });
    assert_eq!(tags(&Client::new(&evil)).unwrap(), ["a", "b"]);
    assert_eq!(evil.asked()[1].target, "/v2/app/tags/list?last=b");

    let circle = Evil::new(|request, _| {
        Reply::ok(r#"{"tags":["a"]}"#).with("Link", format!("<{}>; rel=\"next\"", request.target))
    });
    let error = tags(&Client::new(&circle)).unwrap_err();
    assert!(error.to_string().contains("never ends"), "{error}");
    let away = Evil::new(|_, _| {
        Reply::ok(r#"{"tags":["a"]}"#).with("Link", "<http://127.0.0.2:9/v2/app/tags/list>; rel=\"next\"")
    });
    let error = tags(&Client::new(&away)).unwrap_err();
    assert!(error.to_string().contains("another registry"), "{error}");
}

#[test]
fn referrers_come_from_the_api_or_from_the_tag_that_stands_in_for_it() {
    let subject = sha256(b"subject");
    let entry = json!({"mediaType": "a/b", "digest": sha256(b"x"), "size": 1, "artifactType": "t/t"});
    let kind = "application/vnd.oci.image.index.v1+json";
    let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).to_string();
    let find = |evil: &Evil| {
        let client = Client::new(evil);
        client.run(client.remote.referrers(&subject)).unwrap()
    };
    let body = list.clone();
    let api = Evil::new(move |_, _| Reply::ok(body.clone()).with("Content-Type", kind));
    assert_eq!(find(&api)[0].artifact_type.as_deref(), Some("t/t"));
    assert_eq!(api.asked().len(), 1);
    for without in [404, 400, 405] {
        let body = list.clone();
        let tag = Evil::new(move |request, _| {
            let api = request.target.contains("/referrers/");
            if api { Reply::status(without) } else { Reply::ok(body.clone()) }
        });
        assert_eq!(find(&tag)[0].digest, sha256(b"x"));
        let hex = subject.to_string().replace(':', "-");
        assert_eq!(tag.lines()[1], format!("GET /v2/app/manifests/{hex}"));
    }
    // A web page for every path is no list; and without either there are none.
    let page = Evil::new(|request, _| {
        let api = request.target.contains("/referrers/");
        if api { Reply::ok("<html>").with("Content-Type", "text/html") } else { Reply::status(404) }
    });
    assert!(find(&page).is_empty());
}

#[test]
fn a_digest_comes_from_head_and_else_from_the_manifest() {
    let digest = sha256(&index());
    let resolve = |evil: &Evil| {
        let client = Client::new(evil);
        client.run(client.remote.resolve(&"1".parse().unwrap()))
    };
    let told = digest.to_string();
    let evil = Evil::new(move |_, _| Reply::ok("").with("Docker-Content-Digest", told.clone()));
    assert_eq!(resolve(&evil).unwrap(), digest);
    assert_eq!(evil.lines(), ["HEAD /v2/app/manifests/1"]);
    let bare = Evil::new(|_, _| Reply::ok(index()));
    assert_eq!(resolve(&bare).unwrap(), digest);
    // Only GET says why.
    let body = r#"{"errors":[{"code":"DENIED","message":"blocked by policy"}]}"#;
    let denied = Evil::new(move |_, _| Reply::status(403).body(body));
    let error = resolve(&denied).unwrap_err();
    assert!(error.to_string().ends_with("denied: blocked by policy"), "{error}");
}
