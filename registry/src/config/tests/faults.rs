// SPDX-License-Identifier: AGPL-3.0-only
//! What a person is told of a slip: where it stands, what is wrong, and what was probably meant.

use super::*;

#[test]
fn a_misspelt_variable_is_told_with_the_nearest_one() {
    for (name, expected) in [
        (
            "STELLA_PUSH__ALLOW_MISING",
            "unknown key `push.allow_mising`; did you mean `STELLA_PUSH__ALLOW_MISSING`?",
        ),
        (
            "STELLA_PUSH__FOO",
            "unknown key `push.foo`; known keys, the nearest first: `STELLA_PUSH__ALLOW_MISSING`, \
             `STELLA_PUSH__MAX_MANIFEST_SIZE`",
        ),
        ("STELLA_LOG__LEVL_FILE", "unknown key `log.levl`; did you mean `STELLA_LOG__LEVEL`?"),
        ("STELLA_PUSH", "`push`: is a section; set one of its keys, such as STELLA_PUSH__ALLOW_MISSING"),
    ] {
        assert_eq!(env_fault(&[(name, "true")]), format!("environment {name}: {expected}"));
    }
    assert!(env_fault(&[("STELLA_LISTEN__X", "1")]).contains("unknown key `listen.x`"));
}

#[test]
fn a_misspelt_key_is_told_with_its_place_and_the_nearest_one() {
    let yaml = "# one\n\nlisten: localhost:5000\nlog:\n  level: info\npush:\n  allow_mising: true\n";
    assert_eq!(
        fault(yaml),
        "stella.yaml:7:3: unknown key `push.allow_mising`; did you mean `push.allow_missing`?"
    );
    for (yaml, expected) in [
        ("pish:\n  allow_missing: true\n", "1:1: unknown key `pish`; did you mean `push`?"),
        ("allow_missing: true\n", "1:1: unknown key `allow_missing`; did you mean `push.allow_missing`?"),
        ("log: {levle: info}\n", "1:7: unknown key `log.levle`; did you mean `log.level`?"),
        (
            "log:\n  colour: no\n",
            "2:3: unknown key `log.colour`; known keys, the nearest first: `log.format`, `log.level`",
        ),
        (
            "1: 2\n",
            "1:1: unknown key `1`; known keys, the nearest first: `tls`, `log`, `data`, `push`, `auth`, `audit`, `scrub`, `listen`, `limits`, `access`, `policy`, `metrics`, `tracing`, `upgrade`, `metadata`, `collection`, `external_url`, `repositories`, `trusted_proxies`",
        ),
    ] {
        assert_eq!(fault(yaml), format!("stella.yaml:{expected}"));
    }
}

#[test]
fn a_bad_value_is_told_with_its_place_and_its_key() {
    for (yaml, expected) in [
        ("push:\n  allow_missing: 3\n", "2:18: `push.allow_missing`: expected true or false, found 3"),
        ("push: {allow_missing: yes}", "1:23: `push.allow_missing`: expected true or false, found \"yes\""),
        (
            "limits:\n  connections: many\n",
            "2:16: `limits.connections`: expected a whole number, 0 or more, found \"many\"",
        ),
        (
            "limits: {connections: -1}",
            "1:23: `limits.connections`: expected a whole number, 0 or more, found -1",
        ),
        ("limits: {idle_timeout: 60}", "1:24: `limits.idle_timeout`: 60 has no unit; write for example 60s"),
        ("limits: {memory: [1]}", "1:18: `limits.memory`: expected a size such as 4MiB, found sequence"),
        ("listen: 5000", "1:9: `listen`: expected text (put it in quotes), found 5000"),
        ("listen:", "1:7: `listen`: expected text, found nothing"),
        ("listen: {host: x}", "1:9: `listen`: expected text, found a section"),
        ("data: 1e3", "1:7: `data`: expected text (put it in quotes), found 1000"),
        ("data: ''", "1:7: `data`: the path is empty; name a directory"),
        ("log: {format: xml}", "1:15: `log.format`: expected one of auto, human, json, found \"xml\""),
        ("log: debug", "1:6: `log`: expected a section with keys such as `format: …`, found \"debug\""),
        ("- listen", "1:1: expected a section with keys such as `listen: …`, found a list"),
        (
            "listen: a:1\nlog: {}\nlisten: b:1\n",
            "3:1: `listen` is set twice, first at stella.yaml:1:1; keep one of them",
        ),
        (
            "log:\n  level: a\n  level: b\n",
            "3:3: `log.level` is set twice, first at stella.yaml:2:3; keep one of them",
        ),
    ] {
        assert_eq!(fault(yaml), format!("stella.yaml:{expected}"), "{yaml:?}");
    }
    assert!(
        fault("listen: ':1'").starts_with("stella.yaml:1:9: `listen`: \":1\" has no host; write HOST:PORT")
    );
    assert!(
        fault("log: {level: inof}")
            .starts_with("stella.yaml:1:14: `log.level`: \"inof\" is not a level; write")
    );
    assert!(
        env_fault(&[("STELLA_PUSH__ALLOW_MISSING", "1")]).starts_with(
            "environment STELLA_PUSH__ALLOW_MISSING: `push.allow_missing`: expected true or false"
        )
    );
}

#[test]
fn what_tells_who_may_do_what_is_never_left_out_in_silence() {
    let issuer = "name: a, issuer: b, audience: c, jwks: /d";
    for (yaml, line, key) in [
        ("access:\n  - {allow: [pull], to: {subject: null, group: b}}", 2, "access.to.subject"),
        ("access:\n  - {allow: [pull], to: [{group: , subject: b}]}", 2, "access.to.group"),
        ("access:\n  - allow: [pull]\n    deny:\n    to: everyone", 3, "access.deny"),
        ("access:\n  - {allow: ~, deny: [pull], to: everyone}", 2, "access.allow"),
        ("access:\n  - {allow: [pull, null], to: everyone}", 2, "access.allow"),
        ("access:\n  - {allow: [pull], to: null}", 2, "access.to"),
        ("access:\n  - {allow: [pull], to: {subject: a, claims: null}}", 2, "access.to.claims"),
        ("access:\n  - {allow: [pull], to: {claims: {a: null}}}", 2, "access.to.claims.a"),
        ("access:\n  - {allow: [pull], to: everyone, repositories: null}", 2, "access.repositories"),
        (&format!("auth:\n  issuers:\n    - {{{issuer}, ca: null}}"), 3, "auth.issuers.ca"),
        (&format!("auth:\n  issuers:\n    - {{{issuer}, subject: ~}}"), 3, "auth.issuers.subject"),
        (&format!("auth:\n  issuers:\n    - {{{issuer}, own: }}"), 3, "auth.issuers.own"),
        (
            "auth:\n  token_servers:\n    - {name: a, issuer: b, audience: c, keys: /d, realm: null}",
            3,
            "auth.token_servers.realm",
        ),
    ] {
        let (fault, place) = (fault(yaml), format!("stella.yaml:{line}:"));
        let what = format!(": `{key}`: expected a value (without one, leave the key out), found nothing");
        assert!(fault.starts_with(&place) && fault.ends_with(&what), "{yaml}: {fault}");
    }
    assert!(fault("auth: {robots: null}").contains("`auth.robots`: expected true or false, found nothing"));
}

#[test]
fn a_value_out_of_range_is_told_with_the_range() {
    for (key, value, range) in [
        ("push.max_manifest_size", "8MiB", "4KiB to 7MiB"),
        ("push.max_manifest_size", "4095", "4KiB to 7MiB"),
        ("limits.connections", "0", "1 to 1000000"),
        ("limits.header_timeout", "0s", "10ms to 1h"),
        ("limits.idle_timeout", "0s", "10ms to 1d"),
        ("limits.shutdown_timeout", "2d", "10ms to 1d"),
        ("limits.drain_delay", "2h", "0s to 1h"),
        ("limits.memory", "1MiB", "16MiB to 1TiB"),
        ("limits.disk_reserve", "1025TiB", "0 to 1024TiB"),
        ("collection.lease", "0s", "1s to 365d"),
        ("collection.interval", "2d", "1s to 1d"),
    ] {
        let (section, name) = key.split_once('.').unwrap();
        let place = format!("stella.yaml:2:{}", name.len() + 5);
        let expected = format!("{place}: `{key}`: {value} is out of range; allowed is {range}");
        assert_eq!(fault(format!("{section}:\n  {name}: {value}\n")), expected);
    }
}

#[test]
fn rules_of_repositories_are_read_and_their_faults_told() {
    let yaml = "repositories:\n  - {match: 'dev/**', untagged: 7d}\n  - match: '**'\n    released: 30d\n";
    let config = load(yaml, &[]).unwrap();
    let week = Period::seconds(7 * 24 * 60 * 60);
    assert_eq!(config.repositories[0].untagged, Keep::For(week));
    assert_eq!(config.repositories[0].released.to_string(), "90d");
    assert_eq!(config.repositories[1].untagged, Keep::Always);
    for (entry, expected) in [
        ("{match: 'Dev/*'}", "1:24: `repositories.match`: "),
        (
            "{match: a, untaged: 7d}",
            "unknown key `repositories.untaged`; known keys: `match`, `untagged`, `released`",
        ),
        ("{match: a, untagged: soon}", "neither `keep` nor a length of time"),
        ("{untagged: 7d}", "missing field `match`"),
    ] {
        let told = fault(format!("repositories: [{entry}]"));
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn what_is_wrong_about_tls_and_proxies_is_told_with_its_place() {
    for (yaml, expected) in [
        ("tls: {min_version: 1.1}", "1:20: `tls.min_version`: expected 1.2 or 1.3, found \"1.1\""),
        ("tls: {min_version: '1.4'}", "1:20: `tls.min_version`: expected 1.2 or 1.3, found \"1.4\""),
        (
            "tls:\n  certificates:\n    - {cert: a, key: b}\n",
            "3:8: unknown key `tls.certificates.cert`; known keys: `certificate`, `key`",
        ),
        (
            "trusted_proxies: [10.0.0.1/8]",
            "1:18: `trusted_proxies`: \"10.0.0.1/8\" is an address within a network; write 10.0.0.0/8",
        ),
        (
            "external_url: https://registry.example/images",
            "1:15: `external_url`: \"https://registry.example/images\" has more than a host: clients put nothing \
             before /v2/; write for example https://registry.example",
        ),
    ] {
        let told = load(yaml, &[]).unwrap_err().to_string();
        assert!(told.ends_with(&format!("/stella.yaml:{expected}")), "{told}");
    }
    let config = load("tls: {min_version: '1.2'}", &[]).unwrap();
    assert_eq!(config.tls.min_version, TlsVersion::V1_2);
}

#[test]
fn what_is_not_a_configuration_file_is_refused() {
    let missing = Config::load(Some(Path::new("nowhere.yaml")), [], Overrides::default());
    assert!(told(missing).starts_with("cannot read the configuration file nowhere.yaml: No such file"));
    for yaml in ["listen: [", "a: b: c", "listen: a\n---\nlisten: b\n", "\tlisten: a\n", "listen: *nobody\n"]
    {
        let text = fault(yaml);
        assert!(text.starts_with("stella.yaml:") && !text.starts_with("stella.yaml:0"), "{yaml:?}: {text}");
    }
    assert_eq!(fault("#".repeat(1024 * 1024 + 1)), "the configuration file stella.yaml is larger than 1MiB");
    assert!(fault([b'a', 0xff]).starts_with("cannot read the configuration file stella.yaml: invalid utf-8"));
    assert!(fault("[".repeat(100_000)).starts_with("stella.yaml:1:"));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    assert!(fault(bomb).starts_with("stella.yaml:"));
}

#[test]
fn a_fault_in_the_file_is_told_even_where_the_environment_hides_it() {
    let outcome = load("listen: nonsense\n", &[("STELLA_LISTEN", "localhost:1")]);
    assert!(told(outcome).starts_with("stella.yaml:1:9: `listen`"));
}
