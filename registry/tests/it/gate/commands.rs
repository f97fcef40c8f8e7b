// SPDX-License-Identifier: AGPL-3.0-only
//! The commands that ask a registry about its gate: `status`, `wait`, `policy explain`, `policy status`, `tag`.

use std::fs;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Gated;
use crate::access::backwards;
use crate::administration::Outcome;

impl Gated {
    /// Runs `stella`, logged in as somebody.
    pub(super) fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let folder = self.path(&format!("login-{who}"));
        fs::create_dir_all(&folder).unwrap();
        let auth = BASE64_STANDARD.encode(format!("{who}:{}", backwards(who)));
        let login = if who == "anonymous" {
            json!({})
        } else {
            json!({"auths": {self.guarded.server.address().to_string(): {"auth": auth}}})
        };
        fs::write(folder.join("config.json"), login.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
        command.args(arguments).current_dir(self.guarded.folder.path()).stdin(Stdio::null()).env_clear();
        command.env("HOME", "/nowhere").env("DOCKER_CONFIG", &folder).env("COSIGN_PASSWORD", "secret");
        command
    }

    pub(super) fn run(&self, who: &str, arguments: &[&str]) -> Outcome {
        outcome(self.command(who, arguments).output().unwrap())
    }

    /// `HOST/` and a name there.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.guarded.server.address())
    }
}

fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn status_tells_what_readers_get_and_what_mends_it() {
    let gated = Gated::start("");
    let first = gated.push("prod/app", "1", "one");
    let image = gated.at("prod/app:1");
    let said = gated.run("reader", &["status", &image]).is(9).stdout;
    for part in [
        "released   nothing yet",
        &first.digest,
        "readers    are denied",
        "waiting: no-evidence",
        "fix        cosign sign",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    gated.sign("prod/app", "1", &[]);
    let said = gated.run("reader", &["status", &image]).is(0).stdout;
    assert!(said.contains(&format!("released   {}", first.digest)), "{said}");
    assert!(said.contains("readers    get it\n") && !said.contains("candidate"), "{said}");
    let second = gated.push("prod/app", "1", "two");
    let said = gated.run("reader", &["status", &image]).is(9).stdout;
    assert!(said.contains(&format!("candidate  {}", second.digest)), "{said}");
    assert!(said.contains("get the release, not the candidate"), "{said}");
    let json: Value =
        serde_json::from_str(&gated.run("reader", &["status", "--output", "json", &image]).is(9).stdout)
            .unwrap();
    assert_eq!((&json["released"], &json["candidate"]), (&json!(first.digest), &json!(second.digest)));
    // By digest.
    gated.run("reader", &["status", &gated.at(&format!("prod/app@{}", first.digest))]).is(0);
    gated.run("reader", &["status", &gated.at(&format!("prod/app@{}", second.digest))]).is(9);
    // Where nothing is enforced, and what is not there or not allowed.
    gated.push("dev/app", "1", "free");
    let said = gated.run("reader", &["status", &gated.at("dev/app:1")]).is(0).stdout;
    assert!(said.contains("not enforced"), "{said}");
    gated.run("reader", &["status", &gated.at("prod/app:missing")]).is(4);
    gated.run("reader", &["status", "not a name"]).is(2);
    // Whoever logs in wrongly is told so, though anybody may ask.
    let denied = gated.run("stranger", &["status", &image]).is(3);
    assert!(denied.stderr.contains("prod/app:1"), "{denied:?}");
    gated.run("anonymous", &["status", &image]).is(9);
}

#[test]
fn wait_ends_with_the_digest_once_it_is_released_and_says_why_when_it_is_not() {
    let gated = Gated::start("");
    let first = gated.push("prod/app", "1", "one");
    let image = gated.at("prod/app:1");
    let late = gated.run("reader", &["wait", "--timeout", "300ms", &image]).is(9);
    assert_eq!(late.stdout, "");
    for part in ["no-evidence", "fix: cosign sign", "not released within 300ms"] {
        assert!(late.stderr.contains(part), "{part}: {late:?}");
    }
    // It begins before the signature comes.
    let pinned = gated.at(&format!("prod/app:1@{}", first.digest));
    let mut waiting = Vec::new();
    for image in [&image, &pinned, &gated.at(&format!("prod/app@{}", first.digest))] {
        let mut command = gated.command("reader", &["wait", image]);
        waiting.push(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    }
    gated.sign("prod/app", "1", &[]);
    for child in waiting {
        let said = outcome(child.wait_with_output().unwrap()).is(0);
        assert_eq!(said.stdout, format!("{}\n", first.digest), "{said:?}");
    }
    // Pushed over: what was waited for does not come.
    let second = gated.push("prod/app", "1", "two");
    let third = gated.push("prod/app", "1", "three");
    let over = gated.run("reader", &["wait", &gated.at(&format!("prod/app:1@{}", second.digest))]).is(9);
    assert!(over.stderr.contains("pushed over") && over.stderr.contains(&third.digest), "{over:?}");
    // What no evidence mends is not waited for.
    gated.policy(&format!("denyDigests: [\"{}\"]", third.digest));
    let denied = gated.run("reader", &["wait", &image]).is(9);
    assert!(denied.stderr.contains("denied-digest"), "{denied:?}");
    gated.run("reader", &["wait", &gated.at("prod/app:missing")]).is(4);
    gated.run("reader", &["wait", "--timeout", "soon", &image]).is(2);
}

#[test]
fn policy_explain_is_a_tree_of_policies_authorities_and_evidence() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let image = gated.at("prod/app:1");
    let said = gated.run("reader", &["policy", "explain", &image]).is(9).stdout;
    for part in [
        &*format!("image {}", pushed.digest),
        "waiting: no-evidence",
        "readers do not get it",
        "fix: cosign sign",
        "\n  policy signed: not satisfied: no-evidence",
        "\n    authority us: not satisfied: no-evidence",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let signed = gated.run("signer", &["sign", "--key", "other.key", "--allow-http-registry", &image]);
    signed.is(0);
    let said = gated.run("reader", &["policy", "explain", &image]).is(9).stdout;
    assert!(said.contains("\n      sha256:") && said.contains(" bundle by key "), "{said}");
    gated.sign("prod/app", "1", &[]);
    let said = gated.run("reader", &["policy", "explain", &image]).is(0).stdout;
    assert!(said.contains("allowed") && said.contains("policy signed: satisfied"), "{said}");
    let json = gated.run("reader", &["policy", "explain", "--output", "json", &image]).is(0);
    assert_eq!(json.json()[0]["policies"][0]["authorities"][0]["name"], "us");
    let status =
        gated.run("reader", &["policy", "status", &gated.guarded.server.address().to_string()]).is(0);
    assert!(
        status.stdout.contains("policy set  sha256:") && status.stdout.contains("epoch       1"),
        "{status:?}"
    );
    fs::write(gated.path("policies/prod.yaml"), "nonsense: 1\n").unwrap();
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    crate::server::eventually("the error is told", || gated.status()["error"].is_string());
    let address = gated.guarded.server.address().to_string();
    let status = gated.run("alice", &["policy", "status", &address]).is(2);
    assert!(status.stdout.contains("error       ") && status.stdout.contains("prod.yaml:1:"), "{status:?}");
    // Where they lie, and what is in them, is not for everybody.
    let status = gated.run("reader", &["policy", "status", &address]).is(2);
    assert!(status.stdout.contains("error       ") && !status.stdout.contains("prod.yaml"), "{status:?}");
}

#[test]
fn a_tag_goes_back_to_what_is_allowed_and_by_whom_may_move_it() {
    let gated = Gated::start("");
    let first = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let second = gated.push("prod/app", "1", "two");
    // The tag means to the signer what was pushed last, though anybody may pull what was released.
    gated.sign("prod/app", "1", &[]);
    let waits = gated.push("prod/app", "1", "three");
    let image = gated.at("prod/app:1");
    let said = gated.run("ci", &["tag", "history", &image]).is(0).stdout;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].contains(&waits.digest) && lines[0].ends_with("waits"), "{said}");
    assert!(
        lines[1].contains(&second.digest) && lines[1].ends_with("  ci"),
        "who may push is told who did: {said}"
    );
    assert!(lines[2].contains(&first.digest), "{said}");
    let anonymous = gated.run("anonymous", &["tag", "history", "--output", "json", &image]).is(0).json();
    assert_eq!(
        (&anonymous[0]["moves"][0]["to"], &anonymous[0]["moves"][0]["by"]),
        (&json!(second.digest), &Value::Null)
    );

    gated.send("ci", crate::client::get("/api/stella/v1/tags/history?ref=prod/app:missing")).is(404);

    let back = gated.at(&format!("prod/app:1@{}", first.digest));
    for who in ["reader", "signer", "nobody", "anonymous"] {
        let refused = gated.run(who, &["tag", "rollback", &back]).is(3);
        assert_eq!(
            gated.pull("prod/app", "1").must("docker-content-digest"),
            second.digest,
            "{who}: {refused:?}"
        );
    }
    // What waits is no release.
    let refused = gated.run("ci", &["tag", "rollback", &image, "--to", &waits.digest]).is(9);
    assert!(refused.stderr.contains("no-evidence") && refused.stderr.contains("cosign sign"), "{refused:?}");
    gated.run("ci", &["tag", "rollback", &image]).is(2);
    gated.run("ci", &["tag", "rollback", &image, "--to", &crate::role::sha256("nothing")]).is(4);
    let said = gated.run("ci", &["tag", "rollback", &back]).is(0).stdout;
    assert!(said.contains(&first.digest) && said.contains(&second.digest), "{said}");
    let pulled = gated.pull("prod/app", "1").is(200);
    assert_eq!(pulled.must("docker-content-digest"), first.digest);
    assert!(pulled.header("stella-tag-candidate").is_none());
    let log = gated.guarded.server.log();
    let line = log.lines().find(|line| line.contains("tag.rollback") && line.contains(&second.digest));
    assert!(line.is_some_and(|line| line.contains(&first.digest) && line.contains("ci")), "{log}");
    // Judged by the policies of now.
    gated.policy(&format!("denyDigests: [\"{}\"]", second.digest));
    gated.run("alice", &["tag", "rollback", &image, "--to", &second.digest]).is(9);
    gated.policy("");
    gated.run("alice", &["tag", "rollback", &image, "--to", &second.digest]).is(0);
    assert_eq!(gated.pull("prod/app", "1").must("docker-content-digest"), second.digest);
    // No page of another site does it with its visitor's password.
    let url = format!("/api/stella/v1/tags/rollback?ref=prod/app:1&digest={}", first.digest);
    let request = || crate::client::post(&url);
    assert_eq!(gated.send("ci", request().header("Origin", "https://evil.test")).status, 403);
    gated.send("ci", request()).is(200);
    gated.send("ci", crate::client::get(&url)).is(405);
}
