// SPDX-License-Identifier: AGPL-3.0-only
//! Robots: what they may do, and how they end.

use super::{Guarded, basic};
use crate::client::{Request, get, post};

fn create(guarded: &Guarded, args: &[&str]) -> String {
    let outcome = guarded.stella(&[&["robot", "create"], args].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("log in as robot+"), "{outcome:?}");
    outcome.stdout.trim().to_owned()
}

#[test]
fn a_robot_may_do_what_it_was_given_and_rules_can_only_deny_it() {
    let guarded = Guarded::start();
    for repo in ["dev/app", "public/app", "prod/app"] {
        guarded.image(repo, "v1");
    }
    let secret = create(&guarded, &["build", "--allow", "pull,push,delete=dev/**,prod/**"]);
    assert!(secret.starts_with("stella_robot_") && secret.len() > 50, "{secret}");
    let login = basic("robot+build", &secret);
    let send = |request: Request| request.header("Authorization", login.clone()).to(&guarded.server);
    send(get("/v2/")).is(200);
    send(get("/v2/dev/app/manifests/v1")).is(200);
    send(get("/v2/prod/app/manifests/v1")).is(200);
    send(post("/v2/dev/app/blobs/uploads/")).is(202);
    // A rule that allows everyone is not meant for it; one that denies everyone is.
    send(get("/v2/public/app/manifests/v1")).is(403);
    send(Request::new("DELETE", "/v2/prod/app/manifests/v1")).is(403);
    send(Request::new("DELETE", "/v2/dev/app/manifests/v1")).is(202);
    let token =
        send(get("/token?scope=repository:dev/app:pull,push%20repository:public/app:pull")).is(200).json();
    let claims = super::claims(token["token"].as_str().unwrap());
    assert_eq!(claims["sub"], "robot+build");
    assert_eq!(claims["access"].as_array().unwrap().len(), 1, "{claims}");
    let by_token = || {
        get("/v2/dev/app/tags/list")
            .header("Authorization", format!("Bearer {}", token["token"].as_str().unwrap()))
    };
    assert_ne!(by_token().to(&guarded.server).status, 401);
    let listed = guarded.stella(&["robot", "list"]).stdout;
    assert!(listed.starts_with("build  active  pull,push,delete=dev/**,prod/**  expires never"), "{listed}");
    assert!(!listed.contains(&secret));
    assert_eq!(guarded.stella(&["robot", "revoke", "build"]).code, Some(0));
    send(get("/v2/")).is(401);
    by_token().to(&guarded.server).is(401);
    assert!(guarded.stella(&["robot", "list"]).stdout.starts_with("build  revoked"));
    assert_ne!(guarded.stella(&["robot", "revoke", "build"]).code, Some(0));
    // The secret is nowhere.
    assert!(!guarded.server.log().contains(&secret));
}

#[test]
fn help_says_what_ends_when_and_how_exact_a_list_is() {
    let guarded = Guarded::start();
    let help = guarded.stella(&["token", "revoke", "--help"]).stdout;
    for words in [
        "go on until they expire",
        "auth.token.lifetime",
        "stella user passwd NAME",
        "stella robot revoke NAME",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    let help = guarded.stella(&["robot", "list", "--help"]).stdout;
    assert!(help.contains("exact to the hour") && help.contains("within a minute"), "{help}");
}

#[test]
fn robots_can_be_kept_out() {
    let guarded = Guarded::with(&[("STELLA_AUTH__ROBOTS", "false")]);
    let secret = create(&guarded, &["build", "--allow", "pull=**"]);
    get("/v2/").header("Authorization", basic("robot+build", &secret)).to(&guarded.server).is(401);
    guarded.send("ci", get("/v2/")).is(200);
}

#[test]
fn a_robot_ends_when_its_time_is_over_and_its_secret_must_be_right() {
    let guarded = Guarded::start();
    let secret = create(&guarded, &["brief", "--allow", "pull=**", "--expires", "2s"]);
    let login = |secret: &str| {
        get("/v2/").header("Authorization", basic("robot+brief", secret)).to(&guarded.server).status
    };
    assert_eq!(login(&secret), 200);
    assert_eq!(login(&format!("{secret}x")), 401);
    crate::server::eventually("its time is over", || login(&secret) == 401);
    for bad in [["x", "--allow", "pull"], ["x", "--allow", "fly=**"], ["a b", "--allow", "pull=**"]] {
        assert_ne!(guarded.stella(&[&["robot", "create"], bad.as_slice()].concat()).code, Some(0), "{bad:?}");
    }
    assert_ne!(
        guarded.stella(&["robot", "create", "brief", "--allow", "pull=**"]).code,
        Some(0),
        "it is there"
    );
}
