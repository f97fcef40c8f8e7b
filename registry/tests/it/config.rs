// SPDX-License-Identifier: AGPL-3.0-only
//! `stella --version` and `stella config`: what is printed where, and the exit codes.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What one run of the program left behind.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `stella` in `dir` with nothing but `env` in its environment.
fn stella(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stella"));
    command.args(args).current_dir(dir).env_clear().envs(env.iter().copied());
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn dir_with(yaml: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("stella.yaml"), yaml).unwrap();
    dir
}

#[test]
fn the_version_names_the_licence_and_the_source() {
    let dir = dir_with("");
    let run = stella(dir.path(), &["--version"], &[]);
    assert_eq!(run.code, Some(0));
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("stella {version}\nlicence AGPL-3.0-only\nsource https://git.stella-ops.org\n");
    assert_eq!(run.stdout, expected);
}

#[test]
fn a_valid_configuration_is_said_to_be_valid() {
    let dir = dir_with("listen: localhost:0\n");
    let run = stella(dir.path(), &["config", "check", "--config", "stella.yaml"], &[]);
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), "configuration is valid\n", "")
    );
}

#[test]
fn a_check_finds_an_audit_file_that_cannot_be_opened_and_makes_none() {
    let dir = dir_with("audit: {file: audit.log}\n");
    let check = ["config", "check", "--config", "stella.yaml"];
    assert_eq!(stella(dir.path(), &check, &[]).code, Some(0));
    assert!(!dir.path().join("audit.log").exists());
    let run = stella(dir.path(), &check, &[("STELLA_AUDIT__FILE", "nowhere/audit.log")]);
    assert_eq!(run.code, Some(2));
    let told = "environment STELLA_AUDIT__FILE: `audit.file`: cannot open nowhere/audit.log: No such file";
    assert!(run.stderr.contains(told), "{run:?}");
}

#[test]
fn nobody_elsewhere_is_this_registry_itself() {
    let dir = dir_with("");
    fs::write(dir.path().join("key.pem"), rcgen::KeyPair::generate().unwrap().public_key_pem()).unwrap();
    // Who signs with that name could be anybody here.
    for (key, source) in [("issuers", "jwks"), ("token_servers", "keys")] {
        for (url, own) in [
            ("", "stella-registry"),
            ("external_url: https://registry.example\n", "registry.example"),
            ("external_url: https://registry.example:8443\n", "registry.example:8443"),
        ] {
            let check = |issuer: &str| {
                let entry = format!("{{name: a, issuer: '{issuer}', audience: b, {source}: key.pem}}");
                fs::write(dir.path().join("stella.yaml"), format!("{url}auth: {{{key}: [{entry}]}}\n"))
                    .unwrap();
                stella(dir.path(), &["config", "check", "--config", "stella.yaml"], &[])
            };
            let run = check(own);
            assert_eq!(run.code, Some(2), "{run:?}");
            assert!(run.stderr.contains(&format!("the issuer {own:?} is this registry itself")), "{run:?}");
            assert_eq!(check("other.example").code, Some(0));
        }
    }
}

#[test]
fn a_misspelt_key_is_told_with_file_line_and_the_nearest_key() {
    let dir = dir_with("push:\n  allow_mising: true\n");
    for command in [["config", "check"].as_slice(), &["config", "show"], &["serve"]] {
        let run = stella(dir.path(), &[command, &["--config", "stella.yaml"]].concat(), &[]);
        let expected =
            "error: stella.yaml:2:3: unknown key `push.allow_mising`; did you mean `push.allow_missing`?\n";
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(2), "", expected));
    }
}

#[test]
fn only_loopback_is_valid_without_access_rules() {
    let dir = dir_with("");
    for command in [["config", "check"].as_slice(), &["serve"]] {
        let run = stella(dir.path(), command, &[("STELLA_LISTEN", "0.0.0.0:5000")]);
        let expected = "error: listen: 0.0.0.0:5000 is not a loopback address, and without access rules only this machine \
                        is served, also with TLS: use 127.0.0.1:5000, or write into the configuration who may do what. That \
                        everyone may pull and nobody may push is\naccess:\n  - {allow: [pull], to: everyone}\n";
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(2), "", expected));
    }
}

#[test]
fn no_file_is_read_that_was_not_named() {
    let dir = dir_with("nonsense: true\n");
    assert_eq!(stella(dir.path(), &["config", "check"], &[]).code, Some(0));
    let run = stella(dir.path(), &["config", "check", "--config", "other.yaml"], &[]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.starts_with("error: cannot read the configuration file other.yaml: "),
        "{}",
        run.stderr
    );
}

#[test]
fn the_configuration_is_shown_with_its_origins_and_can_be_used_again() {
    let dir = dir_with("log:\n  level: warn\n");
    let flags = ["--config", "stella.yaml", "--data", "here"];
    let env = [("STELLA_PUSH__ALLOW_MISSING", "true"), ("STELLA_HOME", "/opt")];
    let run = stella(dir.path(), &[["config", "show"].as_slice(), &flags].concat(), &env);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let expected = r#"listen: "127.0.0.1:5000" # default
tls:
  certificates: [] # default
  min_version: "1.2" # default
external_url: null # default
trusted_proxies: [] # default
data: "here" # from flag --data
log:
  format: "auto" # default
  level: "warn" # from stella.yaml:2:10
metrics:
  listen: null # default
audit:
  file: null # default
tracing:
  otlp: null # default
push:
  allow_missing: true # from environment STELLA_PUSH__ALLOW_MISSING
  max_manifest_size: "4MiB" # default
limits:
  connections: 4096 # default
  header_timeout: "30s" # default
  idle_timeout: "1m" # default
  shutdown_timeout: "30s" # default
  drain_delay: "0s" # default
  memory: "256MiB" # default
  disk_reserve: "512MiB" # default
metadata:
  engine: "sqlite" # default
  url: null # default
  url_file: null # default
collection:
  interval: "30s" # default
  lease: "1d" # default
  grace: "1h" # default
  uploads: "1d" # default
scrub:
  rate: "8MiB" # default
access: [] # default
auth:
  htpasswd: null # default
  robots: true # default
  challenge: "token" # default
  token:
    algorithm: "ES256" # default
    lifetime: "1h" # default
    refresh: "90d" # default
    rotation: "30d" # default
  issuers: [] # default
  token_servers: [] # default
policy:
  host: null # default
  paths: [] # default
  trust_roots: {} # default
  max_evidence: 20000 # default
  max_impact: null # default
  baseline:
    file: null # default
    key: null # default
upgrade: "auto" # default
repositories: [] # default
"#;
    assert_eq!(run.stdout, expected);
    fs::write(dir.path().join("shown.yaml"), &run.stdout).unwrap();
    let again = stella(dir.path(), &["config", "show", "--config", "shown.yaml"], &[]);
    let value =
        |yaml: &str| yaml.lines().map(|l| l.split(" # ").next().map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(value(&again.stdout), value(expected));
}

#[test]
fn wrong_usage_has_exit_code_two() {
    let dir = dir_with("");
    for args in [[].as_slice(), &["dance"], &["serve", "--port", "1"], &["config"]] {
        let run = stella(dir.path(), args, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{args:?}");
    }
    let run = stella(dir.path(), &["config", "check", "--listen", "nonsense"], &[]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.starts_with("error: flag --listen: `listen`: \"nonsense\" has no port"),
        "{}",
        run.stderr
    );
}
