// SPDX-License-Identifier: AGPL-3.0-only
//! The layers together: what beats what, and what a person is told.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const FULL: &str = "\
listen: localhost:0
tls:
  certificates:
    - certificate: /etc/stella/a.crt
      key: /etc/stella/a.key
  min_version: 1.3
external_url: https://registry.example
trusted_proxies:
  - 10.0.0.0/8
  - ::1
data: /srv/stella
upgrade: wait
log:
  format: json
  level: debug
metrics:
  listen: localhost:9
audit:
  file: /var/log/audit
tracing:
  otlp: http://localhost:4318
push:
  allow_missing: true
  max_manifest_size: 6MiB
limits:
  connections: 10
  header_timeout: 1s
  idle_timeout: 2m
  shutdown_timeout: 500ms
  drain_delay: 5s
  memory: 1GiB
  disk_reserve: 2GiB
metadata:
  engine: postgres
  url: postgres://user@localhost/database
  url_file: /run/url
collection:
  interval: 1m
  lease: 2h
  grace: 10m
  uploads: 3h
scrub:
  rate: 1MiB
repositories:
  - match: a/*
    untagged: 7d
    released: 30d
    immutable_tags: [v*]
    protected_tags: [latest, release-*]
access:
  - {deny: [delete], to: everyone, repositories: [prod/**]}
  - {allow: [pull, push], to: [{subject: 'gitlab:*/**', claims: {ref_protected: 'true'}}, authenticated], repositories: [own]}
auth:
  htpasswd: /etc/stella/htpasswd
  robots: false
  challenge: basic
  token: {algorithm: RS256, lifetime: 15m, refresh: 30d, rotation: 7d}
  issuers:
    - {name: gitlab, issuer: https://gitlab.example, audience: registry.example, jwks: https://gitlab.example/oauth/discovery/keys, subject: '{project_path}', groups: ['{namespace_path}'], own: ['{project_path}/**']}
  token_servers:
    - {name: auth, issuer: auth.example, audience: registry, realm: https://auth.example/token, keys: /etc/stella/auth.pem}
";

/// The variables `pairs`.
fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Loads a file `stella.yaml` that holds `yaml`, under the variables `pairs`.
fn load(yaml: impl AsRef<[u8]>, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("stella.yaml");
    fs::write(&path, yaml).unwrap();
    Config::load(Some(&path), env(pairs), Overrides::default())
}

/// What a person reads about the fault in `yaml`, the directory of the file left out.
fn fault(yaml: impl AsRef<[u8]>) -> String {
    told(load(yaml, &[]))
}

fn env_fault(pairs: &[(&str, &str)]) -> String {
    told(Config::load(None, env(pairs), Overrides::default()))
}

fn told(outcome: Result<Config, ConfigError>) -> String {
    let text = format!("{:#}", anyhow::Error::from(outcome.unwrap_err()));
    text.split_whitespace().map(|word| word.rsplit('/').next().unwrap()).collect::<Vec<_>>().join(" ")
}

/// Every value, for a comparison that leaves the origins out.
fn values(config: &Config) -> String {
    serde_json::to_string(config).unwrap()
}

#[test]
fn every_key_can_be_set_in_the_file() {
    let config = load(FULL, &[]).unwrap();
    assert_eq!(config.listen, "localhost:0".parse().unwrap());
    assert_eq!(config.data, Path::new("/srv/stella"));
    assert_eq!(config.upgrade, Upgrade::Wait);
    assert_eq!(config.log, Log { format: LogFormat::Json, level: "debug".parse().unwrap() });
    assert_eq!(config.push, Push { allow_missing: true, max_manifest_size: ByteSize::mib(6) });
    let limits = Limits {
        connections: 10,
        header_timeout: Period::seconds(1),
        idle_timeout: Period::seconds(120),
        shutdown_timeout: Period::millis(500),
        drain_delay: Period::seconds(5),
        memory: ByteSize::mib(1024),
        disk_reserve: ByteSize::mib(2048),
    };
    assert_eq!(config.limits, limits);
    let files = CertificateFiles { certificate: "/etc/stella/a.crt".into(), key: "/etc/stella/a.key".into() };
    assert_eq!(config.tls, Tls { certificates: vec![files], min_version: TlsVersion::V1_3 });
    assert_eq!(config.external_url.unwrap().to_string(), "https://registry.example");
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8", "::1"].map(|network| network.parse().unwrap()));
}

#[test]
fn a_file_that_sets_nothing_leaves_the_defaults() {
    let default = values(&Config::default());
    assert_eq!(values(&Config::load(None, [], Overrides::default()).unwrap()), default);
    for yaml in
        ["", "\n", "# nothing\n", "---\n", "{}", "null", "\u{feff}", "log:\n  # level: debug\n", "push: {}\n"]
    {
        assert_eq!(
            load(yaml, &[]).map(|c| values(&c)).map_err(|e| e.to_string()),
            Ok(default.clone()),
            "{yaml:?}"
        );
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("stella.yaml");
    fs::write(&path, "listen: localhost:1\ndata: file\nlog: {level: warn}\n").unwrap();
    let env = env(&[("STELLA_LISTEN", "localhost:2"), ("STELLA_DATA", "environment")]);
    let flags = Overrides { listen: Some("localhost:3".to_owned()), data: None };
    let config = Config::load(Some(&path), env, flags).unwrap();
    assert_eq!(config.listen.to_string(), "localhost:3");
    assert_eq!(config.data, Path::new("environment"));
    assert_eq!(config.log.level.as_str(), "warn");
    assert_eq!(config.log.format, LogFormat::Auto);
    let origins = ["listen", "data", "log.level", "log.format"].map(|key| config.origin(key).to_string());
    let file = format!("{}:3:14", path.display());
    assert_eq!(origins, ["flag --listen", "environment STELLA_DATA", &file, "default"]);
}

#[test]
fn every_key_can_be_set_in_the_environment() {
    let file = load(FULL, &[]).unwrap();
    let tree = super::file::tree_of(&file).unwrap();
    let pairs = tree.leaves().into_iter().map(|(key, node)| {
        let value = match &node.value {
            node::Value::Bool(value) => value.to_string(),
            node::Value::Unsigned(value) => value.to_string(),
            node::Value::Text(text) => text.clone(),
            node::Value::List(_) => match key.as_str() {
                "tls.certificates" => "[{certificate: /etc/stella/a.crt, key: /etc/stella/a.key}]".to_owned(),
                "trusted_proxies" => "[10.0.0.0/8, '::1']".to_owned(),
                "access" | "auth.issuers" | "auth.token_servers" => super::render::flow(node),
                _ => "[{match: a/*, untagged: 7d, released: 30d, immutable_tags: [v*], protected_tags: [latest, release-*]}]".to_owned(),
            },
            other => panic!("{other:?}"),
        };
        (super::origin::variable(&key), value)
    });
    let config = Config::load(None, pairs, Overrides::default()).unwrap();
    assert_eq!(values(&config), values(&file));
}

#[test]
fn a_value_can_be_read_from_a_file_that_the_environment_names() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, "localhost:7\n").unwrap();
    let path = path.to_str().unwrap();
    let config = load("", &[("STELLA_LISTEN_FILE", path)]).unwrap();
    assert_eq!(config.listen.to_string(), "localhost:7");
    assert_eq!(config.origin("listen").to_string(), "environment STELLA_LISTEN_FILE");
    let both = env_fault(&[("STELLA_LISTEN_FILE", path), ("STELLA_LISTEN", "localhost:8")]);
    assert_eq!(both, "environment: STELLA_LISTEN and STELLA_LISTEN_FILE are both set; keep one of them");
    let gone = env_fault(&[("STELLA_LOG__LEVEL_FILE", "/nowhere/level")]);
    assert!(
        gone.starts_with("cannot read the file that STELLA_LOG__LEVEL_FILE names: level: No such"),
        "{gone}"
    );
}

#[test]
fn a_variable_with_one_underscore_for_two_is_a_slip() {
    for (name, meant) in [
        ("STELLA_LIMITS_MEMORY", "STELLA_LIMITS__MEMORY"),
        ("STELLA_METADATA_URL_FILE", "STELLA_METADATA__URL_FILE"),
        ("STELLA_METRICS_LISTEN", "STELLA_METRICS__LISTEN"),
    ] {
        let fault = env_fault(&[(name, "1GiB")]);
        assert!(fault.contains(name) && fault.contains(meant), "{fault}");
    }
}

#[test]
fn metrics_do_not_listen_where_the_registry_does() {
    let fault = fault("listen: 127.0.0.1:5000\nmetrics: {listen: 127.0.0.1:5000}\n");
    assert!(fault.contains("metrics.listen"), "{fault}");
    load("listen: 127.0.0.1:0\nmetrics: {listen: 127.0.0.1:0}\n", &[]).unwrap();
}

#[test]
fn names_outside_the_known_sections_are_not_ours() {
    let pairs = [
        ("STELLA_HOME", "/home"),
        ("STELLA_CLIENTS", "podman"),
        ("STELLA_PORT", "tcp://10.0.0.1:5000"),
        ("STELLA_FOO__BAR", "x"),
        ("STELLA_", "x"),
        ("STELLA___", "x"),
        ("STELLA_listen", "x"),
        ("STELLA_HOME_FILE", "/nowhere"),
        ("PATH", "/bin"),
    ];
    assert_eq!(values(&load("", &pairs).unwrap()), values(&Config::default()));
}

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
            "1:1: unknown key `1`; known keys, the nearest first: `tls`, `log`, `data`, `push`, `auth`, `audit`, `scrub`, `listen`, `limits`, `access`, `metrics`, `tracing`, `upgrade`, `metadata`, `collection`, `external_url`, `repositories`, `trusted_proxies`",
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

#[test]
fn the_effective_configuration_names_every_origin() {
    let yaml =
        load("push:\n  allow_missing: true\n", &[("STELLA_LOG__LEVEL", "warn")]).unwrap().to_yaml().unwrap();
    let shown: Vec<_> = yaml.lines().collect();
    assert_eq!(shown[0], r#"listen: "127.0.0.1:5000" # default"#);
    let log = shown.iter().position(|line| *line == "log:").unwrap();
    assert_eq!(shown[log + 2], r#"  level: "warn" # from environment STELLA_LOG__LEVEL"#);
    let allow = *shown.iter().find(|line| line.starts_with("  allow_missing:")).unwrap();
    assert!(
        allow.starts_with("  allow_missing: true # from ") && allow.ends_with("/stella.yaml:2:18"),
        "{yaml}"
    );
    assert!(shown.iter().all(|line| line.contains(" # ") || line.ends_with(':')), "{yaml}");
}

proptest! {
    #[test]
    fn what_is_shown_loads_back_to_the_same_value(
        data in "[^\0]{1,40}",
        (port, allow_missing, connections) in (any::<u16>(), any::<bool>(), 1..=1_000_000_usize),
        (manifest, memory, reserve) in (4096..=7_u64 << 20, 16_u64 << 20..=1 << 40, 0..=1_u64 << 50),
        timeouts in prop::array::uniform3(10..3_600_000_u64),
        format in prop::sample::select(vec![LogFormat::Auto, LogFormat::Human, LogFormat::Json]),
    ) {
        let [header_timeout, idle_timeout, shutdown_timeout] = timeouts.map(Period::millis);
        let config = Config {
            listen: format!("localhost:{port}").parse().unwrap(),
            data: data.into(),
            log: Log { format, level: "info,hyper=warn".parse().unwrap() },
            push: Push { allow_missing, max_manifest_size: ByteSize::new(manifest) },
            limits: Limits {
                connections, header_timeout, idle_timeout, shutdown_timeout, drain_delay: idle_timeout, memory: ByteSize::new(memory),
                disk_reserve: ByteSize::new(reserve),
            },
            collection: Collection { interval: idle_timeout.max(Period::seconds(1)), ..Collection::default() },
            repositories: vec![RepositoryRule {
                immutable_tags: Vec::new(),
                protected_tags: Vec::new(),
                repositories: "dev/**".parse().unwrap(),
                untagged: if allow_missing { Keep::For(idle_timeout) } else { Keep::Always },
                released: shutdown_timeout,
            }],
            ..Config::default()
        };
        let again = load(config.to_yaml().unwrap(), &[]).unwrap();
        prop_assert_eq!(values(&again), values(&config));
    }

    #[test]
    fn no_file_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z:{}&*\n #\\[-]{0,60}") {
        let _ = load(bytes, &[]);
        let _ = load(text, &[]);
    }
}
