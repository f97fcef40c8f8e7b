// SPDX-License-Identifier: AGPL-3.0-only
//! What new policies would take from readers: `stella policy impact`, and the limit on it.

use std::fs;

use serde_json::Value;

use super::Gated;
use crate::server::eventually;

#[test]
fn impact_lists_what_would_stop_and_a_reload_beyond_the_limit_is_refused() {
    let gated = Gated::with("pull: off", &[("STELLA_POLICY__MAX_IMPACT", "1")]);
    for (repo, tag) in [("prod/a", "1"), ("prod/b", "1"), ("prod/c", "1"), ("dev/app", "1")] {
        gated.push(repo, tag, &format!("{repo} {tag}"));
    }
    gated.sign("prod/c", "1", &[]);
    // One of them was pulled.
    gated.pull("prod/b", "1").is(200);
    let new = gated.path("new");
    fs::create_dir(&new).unwrap();
    for name in ["signed.yaml", "prod.yaml"] {
        let text = fs::read_to_string(gated.path(&format!("policies/{name}"))).unwrap();
        fs::write(new.join(name), text.replace("  pull: off", "")).unwrap();
    }
    let new = new.to_str().unwrap();
    let said = gated.operate(&["policy", "impact", "--policy", new, "--json"]).is(0).json();
    let tags: Vec<&Value> = said.iter().filter_map(|line| line.get("repository")).collect();
    assert_eq!(tags, ["prod/b", "prod/a"], "the one that was pulled last comes first: {said:?}");
    assert!(said[0]["last_pull"].is_string() && said[1]["last_pull"].is_null(), "{said:?}");
    assert_eq!((&said[0]["reason"], &said[2]["summary"]["stopped"]), (&"no-evidence".into(), &2.into()));
    let text = gated.operate(&["policy", "impact", "--policy", new]).is(0).stdout;
    assert!(text.contains("prod/a:1  sha256:") && text.contains("pulled never  no-evidence"), "{text}");
    assert!(text.ends_with("2 tags would stop\n"), "{text}");
    // Nothing changed by asking.
    gated.pull("prod/a", "1").is(200);

    let before = gated.status();
    fs::write(gated.path("policies/prod.yaml"), fs::read_to_string(gated.path("new/prod.yaml")).unwrap())
        .unwrap();
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("it is refused", || gated.status()["error"].is_string());
    let after = gated.status();
    let error = after["error"].as_str().unwrap();
    for part in ["would stop 2 tags", "policy.max_impact (1)", "prod/a:1", "stella policy impact"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(after["policySet"], before["policySet"]);
    gated.pull("prod/a", "1").is(200);
    // Within the limit it comes into force.
    gated.sign("prod/b", "1", &[]);
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("it is in force", || gated.status()["epoch"].as_u64() > before["epoch"].as_u64());
    gated.denied(&gated.pull("prod/a", "1"));
    gated.pull("prod/b", "1").is(200);
    // What is denied already cannot stop.
    let text = gated.operate(&["policy", "impact", "--policy", new]).is(0).stdout;
    assert_eq!(text, "no tag would stop\n");
    fs::write(gated.path("new/wrong.yaml"), "nonsense: 1\n").unwrap();
    let wrong = gated.operate(&["policy", "impact", "--policy", new]).is(2);
    assert!(wrong.stderr.contains("wrong.yaml:1:"), "{wrong:?}");
    gated.operate(&["policy", "impact", "--policy", "/nowhere"]).is(2);
    gated.operate(&["policy", "impact"]).is(2);
}
