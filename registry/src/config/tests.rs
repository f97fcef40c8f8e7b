// SPDX-License-Identifier: AGPL-3.0-only
//! The layers together: what beats what, and what is shown.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod faults;

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
policy: {host: registry.example, paths: [/etc/stella/policies], trust_roots: {}, max_evidence: 5000, max_impact: 10, baseline: {file: /etc/stella/baseline.json, key: /etc/stella/cosign.pub}}
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
                "access" | "policy.paths" | "auth.issuers" | "auth.token_servers" => super::render::flow(node),
                _ => "[{match: a/*, untagged: 7d, released: 30d, immutable_tags: [v*], protected_tags: [latest, release-*]}]".to_owned(),
            },
            node::Value::Section(entries) if entries.is_empty() => "{}".to_owned(),
            other => panic!("{other:?}"),
        };
        (super::origin::variable(&key), value)
    });
    let config = Config::load(None, pairs, Overrides::default()).unwrap();
    assert_eq!(values(&config), values(&file));
}

#[test]
fn names_of_ones_own_are_set_in_the_file_and_in_the_environment() {
    let file = load("policy:\n  trust_roots: {ours: /a.json, public: /b.json}\n", &[]).unwrap();
    let env = load("", &[("STELLA_POLICY__TRUST_ROOTS", "{ours: /a.json, public: /b.json}")]).unwrap();
    assert_eq!(file.policy.trust_roots["public"], Path::new("/b.json"));
    assert_eq!(values(&file), values(&env));
    let fault = load("policy: {trust_roots: [a]}", &[]).unwrap_err().to_string();
    assert!(fault.contains("policy.trust_roots"), "{fault}");
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
