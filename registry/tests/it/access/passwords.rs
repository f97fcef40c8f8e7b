// SPDX-License-Identifier: AGPL-3.0-only
//! Names and passwords: right, wrong, too often wrong, changed.

use std::time::Instant;

use serde_json::Value;

use super::{Guarded, basic, line};
use crate::client::{get, post};
use crate::role::refused;
use crate::server::eventually;

#[test]
fn who_asks_for_nothing_is_asked_who_it_is() {
    let guarded = Guarded::start();
    let answer = guarded.send("anonymous", get("/v2/"));
    refused(&answer, 401, "UNAUTHORIZED");
    assert_eq!(
        answer.must("www-authenticate"),
        "Bearer realm=\"http://registry.test/token\",service=\"stella-registry\""
    );
    guarded.send("nobody", get("/v2/")).is(200);
    // As docker asks whether it is logged in.
    get("/v2/").header("Authorization", basic("alice", "wrong")).to(&guarded.server).is(401);
    let basic_only = Guarded::with(&[("STELLA_AUTH__CHALLENGE", "basic")]);
    let answer = basic_only.send("anonymous", get("/v2/dev/app/tags/list"));
    assert_eq!(answer.must("www-authenticate"), "Basic realm=\"stella-registry\", charset=\"UTF-8\"");
    refused(&answer, 401, "UNAUTHORIZED");
}

#[test]
fn a_header_that_proves_nothing_is_refused_and_not_passed_over() {
    let guarded = Guarded::start();
    guarded.image("public/app", "v1");
    let manifest = || get("/v2/public/app/manifests/v1");
    let right = basic("alice", "ecila");
    for header in
        ["", "Basic", "Basic ", "Basic !!!!", "Digest x", "Bearer", "Bearer ", "Bearer x.y.z", "Negotiate a"]
    {
        let answer = manifest().header("Authorization", header).to(&guarded.server);
        assert_eq!(answer.status, 401, "{header:?}: {answer}");
    }
    for second in [right.as_str(), "Bearer x"] {
        let answer =
            manifest().header("Authorization", &right).header("Authorization", second).to(&guarded.server);
        let error = refused(&answer, 401, "UNAUTHORIZED");
        assert_eq!(error["message"], "the request has more than one Authorization header");
    }
    let long = format!("Basic {}", "a".repeat(30_000));
    let answer = manifest().header("Authorization", long).to(&guarded.server);
    assert_eq!(answer.status, 401, "{answer}");
}

#[test]
fn who_guesses_has_to_wait_and_who_is_known_does_not() {
    let guarded = Guarded::start();
    guarded.send("reader", get("/v2/")).is(200);
    let guess =
        |password: &str| get("/v2/").header("Authorization", basic("alice", password)).to(&guarded.server);
    eventually("an address has to wait", || guess("wrong").status == 429);
    let answer = guess("ecila");
    refused(&answer, 429, "TOOMANYREQUESTS");
    let seconds: u64 = answer.must("retry-after").parse().unwrap();
    assert!((1..=6).contains(&seconds));
    guarded.send("reader", get("/v2/")).is(200);
    let log = guarded.server.log();
    assert!(log.contains("a login failed") && !log.contains("wrong") && !log.contains("ecila"), "{log}");
}

#[test]
fn what_is_made_up_stays_on_its_line_of_the_log() {
    let guarded = Guarded::with(&[("STELLA_LOG__FORMAT", "human")]);
    get("/v2/").header("Authorization", basic("a\u{1b}[31m", "x")).to(&guarded.server).is(401);
    get("/v2/").header("Authorization", basic("a\u{2028}forged", "x")).to(&guarded.server).is(401);
    get("/v2/").header("Authorization", basic("\"quoted\"", "x")).to(&guarded.server).is(401);
    eventually("it is logged", || guarded.server.log().contains("quoted"));
    let log = guarded.server.log();
    assert!(!log.contains('\u{2028}') && !log.contains("\u{1b}[31m"), "{log:?}");
}

#[test]
fn the_audit_trail_names_who_tried_to_log_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let guarded = Guarded::with(&[("STELLA_AUDIT__FILE", file.to_str().unwrap())]);
    let long = "x".repeat(120) + "\u{202e}gpj.";
    let posted = "a\nb".to_owned() + &"y".repeat(200);
    get("/token").header("Authorization", basic("mallory", "hunter2")).to(&guarded.server).is(401);
    get("/v2/").header("Authorization", basic(&long, "hunter2")).to(&guarded.server).is(401);
    let form = format!("grant_type=password&username={}&password=hunter2", posted.replace('\n', "%0A"));
    post("/token").body(form).to(&guarded.server).is(401);
    // Of a token that is wrong nobody knows whose it is.
    get("/v2/").header("Authorization", "Bearer x.y.z").to(&guarded.server).is(401);
    eventually("it has to wait", || {
        get("/v2/").header("Authorization", basic("mallory", "hunter2")).to(&guarded.server).status == 429
    });
    let text = || std::fs::read_to_string(&file).unwrap();
    eventually("it is written", || text().contains("429"));
    let text = text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let claimed = |line: &Value| line["claimed"].as_str().map(str::to_owned);
    let expected = [
        Some("mallory".to_owned()),
        Some(long.replace('\u{202e}', "\\u{202e}")),
        Some(format!("a\\u{{a}}b{}…", "y".repeat(125))),
        None,
    ];
    assert_eq!(lines.iter().take(4).map(claimed).collect::<Vec<_>>(), expected, "{text}");
    for line in &lines {
        assert_eq!(
            (&line["action"], &line["client"], &line["actor"]),
            (&"login".into(), &"127.0.0.1".into(), &"".into())
        );
    }
    let last = lines.iter().find(|line| line["status"] == 429).unwrap();
    assert_eq!(last["claimed"], "mallory");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn names_that_nobody_sees_are_not_given_and_old_ones_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let guarded = Guarded::with(&[("STELLA_AUDIT__FILE", file.to_str().unwrap())]);
    let name = "ecila\u{202e}";
    for args in [["user", "add", name].as_slice(), &["robot", "create", name, "--allow", "pull=**"]] {
        let outcome = guarded.stella(args);
        assert_ne!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stderr.contains(r#"nobody sees, as "ecila\u{202e}" shows"#), "{outcome:?}");
        assert!(!outcome.stderr.contains('\u{202e}'), "{outcome:?}");
    }
    std::fs::write(guarded.users(), line(name, "x")).unwrap();
    assert_eq!(guarded.stella(&["user", "list"]).stdout, "ecila\\u{202e}\n");
    guarded.server.hang_up();
    let refused_push = || {
        let push = post("/v2/dev/app/blobs/uploads/").header("Authorization", basic(name, "x"));
        push.to(&guarded.server).status
    };
    eventually("it may log in", || refused_push() == 403);
    eventually("it is in the log", || guarded.server.log().contains("202e"));
    assert!(!guarded.server.log().contains('\u{202e}'));
    let trail = || std::fs::read_to_string(&file).unwrap();
    eventually("it is in the audit trail", || trail().contains(r#""actor":"ecila\u202e""#));
    assert!(!trail().contains('\u{202e}'), "{}", trail());
}

#[test]
fn a_changed_file_is_taken_over_and_a_wrong_one_is_not() {
    let guarded = Guarded::start();
    guarded.send("reader", get("/v2/")).is(200);
    let fresh = line("reader", "fresh");
    std::fs::write(guarded.users(), fresh).unwrap();
    guarded.server.hang_up();
    let with =
        |password: &str| get("/v2/").header("Authorization", basic("reader", password)).to(&guarded.server);
    eventually("the new password is right", || with("fresh").status == 200);
    with("redaer").is(401);
    std::fs::write(guarded.users(), "reader:{SHA}x\n").unwrap();
    guarded.server.hang_up();
    eventually("it is told", || guarded.server.log().contains("is not of bcrypt"));
    with("fresh").is(200);
}

#[test]
fn users_are_managed_by_a_command() {
    let guarded = Guarded::start();
    let outcome = guarded.stella(&["user", "list"]);
    assert_eq!(outcome.stdout, "alice\nci\nreader\nsigner\nnobody\n");
    assert_eq!(guarded.stella(&["user", "rm", "nobody"]).code, Some(0));
    eventually("it is out", || guarded.send("nobody", get("/v2/")).status == 401);
    assert_eq!(guarded.stella(&["user", "rm", "nobody"]).code, Some(4));
}

#[test]
fn an_unknown_name_takes_as_long_as_a_known_one() {
    let guarded = Guarded::start();
    // Hashes that cost enough to be seen.
    let costly = format!("alice:{}\n", bcrypt::hash("x", 9).unwrap());
    std::fs::write(guarded.users(), costly).unwrap();
    guarded.server.hang_up();
    eventually("the file is taken over", || guarded.send("ci", get("/v2/")).status == 401);
    let took = |name: &str| {
        let begin = Instant::now();
        get("/v2/").header("Authorization", basic(name, "wrong")).to(&guarded.server);
        begin.elapsed()
    };
    // The fastest of each: noise only adds.
    let known = (0..4).map(|_| took("alice")).min().unwrap();
    let unknown = (0..4).map(|_| took("mallory")).min().unwrap();
    assert!(unknown > known / 3, "{unknown:?} for an unknown name, {known:?} for a known one");
}
