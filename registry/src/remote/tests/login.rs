// SPDX-License-Identifier: AGPL-3.0-only
//! Logging in: what is shown to whom, how often, and what a person is told.

use super::*;

const CONFIG: &str = r#"{"auths":{"HOST":{"username":"ci","password":"s3cret"}}}"#;
/// ci:s3cret
const BASIC: &str = "Basic Y2k6czNjcmV0";

/// A registry whose token service is itself, and gives what `token` says.
fn with_tokens(token: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Evil {
    Evil::new(move |request, _| {
        if request.target.starts_with("/token") {
            return token(request);
        }
        if request.header("authorization") == Some("Bearer good") {
            return Reply::ok(index());
        }
        let host = request.header("host").unwrap();
        let scope = "repository:app:pull repository:spy:push";
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="svc",scope="{scope}""#);
        Reply::status(401).with("WWW-Authenticate", challenge)
    })
}

#[test]
fn a_token_is_fetched_once_for_its_scope_and_shown_from_then_on() {
    let evil = with_tokens(|_| Reply::ok(r#"{"access_token":"good","expires_in":300}"#));
    let client = Client::with(&evil, patience(), CONFIG);
    for _ in 0..3 {
        client.manifest("1").unwrap();
    }
    let asked = evil.asked();
    assert_eq!(asked.len(), 5, "{:?}", evil.lines());
    assert_eq!(asked[0].header("authorization"), None, "nothing is shown unasked");
    assert_eq!(asked[1].target, "/token?service=svc&scope=repository%3Aapp%3Apull&account=ci");
    assert_eq!(asked[1].header("authorization"), Some(BASIC));
}

#[test]
fn without_credentials_the_token_is_asked_for_all_the_same() {
    let evil = with_tokens(|_| Reply::ok(r#"{"token":"good"}"#));
    Client::new(&evil).manifest("1").unwrap();
    assert_eq!(evil.asked()[1].header("authorization"), None);
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let evil = with_tokens(|_| Reply::ok(r#"{"access_token":"good"}"#));
    let config = r#"{"auths":{"HOST":{"identitytoken":"id+token"}}}"#;
    Client::with(&evil, patience(), config).manifest("1").unwrap();
    let exchange = &evil.asked()[1];
    assert_eq!((exchange.method.as_str(), exchange.target.as_str()), ("POST", "/token"));
    let body = String::from_utf8(exchange.body.clone()).unwrap();
    assert!(
        body.contains("grant_type=refresh%5Ftoken") && body.contains("refresh_token=id%2Btoken"),
        "{body}"
    );
    assert!(body.contains("service=svc") && body.contains("scope=repository%3Aapp%3Apull"), "{body}");
}

#[test]
fn a_token_that_is_refused_is_fetched_anew_once() {
    let evil = with_tokens(|_| Reply::ok(r#"{"token":"bad","expires_in":300}"#));
    let client = Client::with(&evil, patience(), CONFIG);
    for requests in [3, 6] {
        let error = client.manifest("1").unwrap_err();
        assert_eq!(error.exit(), crate::exit::AUTH);
        assert!(error.to_string().contains("were refused") && !error.to_string().contains("bad"), "{error}");
        assert_eq!(evil.asked().len(), requests, "{:?}", evil.lines());
    }
}

#[test]
fn basic_is_shown_once_and_a_refusal_says_what_to_do() {
    let evil = Evil::new(|request, _| match request.header("authorization") {
        Some(BASIC) => Reply::ok(index()),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
    });
    let client = Client::with(&evil, patience(), CONFIG);
    client.manifest("1").unwrap();
    client.manifest("1").unwrap();
    assert_eq!(evil.asked().len(), 3);
    let error = Client::new(&evil).manifest("1").unwrap_err().to_string();
    assert!(error.contains(&format!("docker login {}", evil.host())), "{error}");

    let never = Evil::new(|_, _| Reply::status(401).with("WWW-Authenticate", "Basic realm=x"));
    let error = Client::with(&never, patience(), CONFIG).manifest("1").unwrap_err();
    assert_eq!((error.exit(), never.asked().len()), (crate::exit::AUTH, 2));
    assert!(error.to_string().contains("were refused") && !error.to_string().contains("s3cret"), "{error}");
    // A 401 that offers nothing.
    let mute = Evil::new(|_, _| Reply::status(401));
    let error = Client::with(&mute, patience(), CONFIG).manifest("1").unwrap_err();
    assert_eq!((error.exit(), mute.asked().len()), (crate::exit::AUTH, 1));
}

#[test]
fn a_token_service_of_the_worst_kind_is_given_up() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = with_tokens(|_| Reply::Endless(chunked.to_vec()));
    let error = Client::with(&endless, patience(), CONFIG).manifest("1").unwrap_err();
    assert!(error.to_string().contains("larger than 65536 bytes"), "{error}");
    for (body, why) in [
        ("{}", "no token"),
        ("{\"token\":\"a\\nb\"}", "no header can carry"),
        ("s3cret", "not what the specification says"),
        (r#"{"token":7,"access_token":"s3cret"}"#, "not what the specification says"),
    ] {
        let evil = with_tokens(move |_| Reply::ok(body));
        let error = Client::with(&evil, patience(), CONFIG).manifest("1").unwrap_err();
        assert_eq!(error.exit(), crate::exit::AUTH, "{error}");
        assert!(error.to_string().contains(why) && !error.to_string().contains("s3cret"), "{error}");
    }
    let refuses = with_tokens(|_| Reply::status(401));
    let error = Client::with(&refuses, patience(), CONFIG).manifest("1").unwrap_err();
    assert!(error.to_string().contains("with the stored credentials"), "{error}");
    assert_eq!(error.exit(), crate::exit::AUTH);
}

#[test]
fn a_token_service_that_sends_us_elsewhere_gets_no_company() {
    let elsewhere = Evil::new(|_, _| Reply::ok(r#"{"token":"good"}"#));
    let target = format!("http://{}/token", elsewhere.host());
    let evil = with_tokens(move |_| Reply::status(307).with("Location", target.clone()));
    let error = Client::with(&evil, patience(), CONFIG).manifest("1").unwrap_err();
    assert_eq!((error.exit(), elsewhere.asked().len()), (crate::exit::AUTH, 0), "{error}");
    // Within its origin it may.
    let moved = Evil::new(|request, _| match request.line().as_str() {
        "GET /token" => Reply::status(301).with("Location", "/token/2"),
        "GET /token/2" => Reply::ok(r#"{"token":"good"}"#),
        _ if request.header("authorization") == Some("Bearer good") => Reply::ok(index()),
        _ => {
            let host = request.header("host").unwrap();
            Reply::status(401).with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
        }
    });
    Client::with(&moved, patience(), CONFIG).manifest("1").unwrap();
}

#[test]
fn a_realm_that_is_not_on_the_web_is_refused() {
    for realm in ["file:///etc/passwd", "token", "ftp://127.0.0.1/"] {
        let evil = Evil::new(move |_, _| {
            Reply::status(401).with("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
        });
        let error = Client::with(&evil, patience(), CONFIG).manifest("1").unwrap_err();
        assert_eq!((error.exit(), evil.asked().len()), (crate::exit::AUTH, 1), "{error}");
    }
}
