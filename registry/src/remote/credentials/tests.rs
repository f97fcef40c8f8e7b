// SPDX-License-Identifier: AGPL-3.0-only
//! Where credentials are found, in which order, and what a helper may do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::exit;

const LIMIT: Duration = Duration::from_secs(20);

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Home(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A helper that is a script; the docker configuration of whoever uses it.
    fn helper(&self, name: &str, script: &str) {
        let path = self.file(&format!("bin/docker-credential-{name}"), &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn store(&self, config: &str) -> CredentialStore {
        self.store_with(config, LIMIT)
    }

    fn store_with(&self, config: &str, limit: Duration) -> CredentialStore {
        let file = self.file("config.json", config);
        // Scripts need the system's programs too.
        let path = format!("{}:/usr/bin:/bin", self.0.path().join("bin").display());
        CredentialStore::for_test(vec![file], Path::new(&path), limit)
    }
}

fn find(store: &CredentialStore, image: &str) -> Result<Option<Credential>> {
    let name: super::super::reference::ImageName = image.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(store.find(&name.host, &name.repository))
}

fn password(user: &str, secret: &str) -> Credential {
    Credential::Password { user: user.into(), secret: Secret::new(secret.into()) }
}

#[test]
fn a_login_of_docker_is_found_under_each_spelling_of_its_host() {
    let home = Home::new();
    // ci:s3cret
    let auth = "Y2k6czNjcmV0";
    for key in ["registry.test:5000", "https://registry.test:5000", "http://REGISTRY.test:5000/v2/"] {
        let store = home.store(&format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#));
        assert_eq!(find(&store, "registry.test:5000/a").unwrap(), Some(password("ci", "s3cret")), "{key}");
        assert_eq!(find(&store, "registry.test:5001/a").unwrap(), None);
        assert_eq!(find(&store, "registry.test/a").unwrap(), None);
    }
    let store = home.store(&format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#));
    assert_eq!(find(&store, "alpine").unwrap(), Some(password("ci", "s3cret")));
}

#[test]
fn the_login_for_the_longest_part_of_the_name_wins() {
    let home = Home::new();
    let store = home.store(
        r#"{"auths":{"r.test":{"username":"a","password":"1"},"r.test/team":{"username":"b","password":"2"}}}"#,
    );
    assert_eq!(find(&store, "r.test/team/app").unwrap(), Some(password("b", "2")));
    assert_eq!(find(&store, "r.test/teams").unwrap(), Some(password("a", "1")));
}

#[test]
fn tokens_are_told_from_passwords() {
    let home = Home::new();
    let store = home.store(r#"{"auths":{"r.test":{"auth":"Y2k6","identitytoken":"abc"}}}"#);
    assert_eq!(find(&store, "r.test/a").unwrap(), Some(Credential::Identity(Secret::new("abc".into()))));
    let store = home.store(r#"{"auths":{"r.test":{"registrytoken":"abc"}}}"#);
    assert_eq!(find(&store, "r.test/a").unwrap(), Some(Credential::Registry(Secret::new("abc".into()))));
}

#[test]
fn the_environment_names_the_files_and_their_order() {
    let home = Home::new();
    let entry = |user: &str| format!(r#"{{"auths":{{"r.test":{{"username":"{user}"}}}}}}"#);
    let auth_file = home.file("auth.json", &entry("named"));
    home.file("docker/config.json", &entry("docker"));
    home.file("home/.docker/config.json", &entry("home"));
    home.file("run/containers/auth.json", &entry("podman"));
    let path = |name: &str| home.0.path().join(name).into_os_string();
    let all = [
        ("REGISTRY_AUTH_FILE", auth_file.into_os_string(), "named"),
        ("DOCKER_CONFIG", path("docker"), "docker"),
        ("HOME", path("home"), "home"),
        ("XDG_RUNTIME_DIR", path("run"), "podman"),
    ];
    for (first, (_, _, user)) in all.iter().enumerate() {
        let environment = &all[first..];
        let store = CredentialStore::from_environment(|name| {
            environment.iter().find(|(known, ..)| *known == name).map(|(_, value, _)| value.clone())
        });
        assert_eq!(find(&store, "r.test/a").unwrap(), Some(password(user, "")), "{user}");
    }
    assert_eq!(find(&CredentialStore::from_environment(|_| None), "r.test/a").unwrap(), None);
}

#[test]
fn a_helper_is_asked_for_its_host_and_the_store_for_all_others() {
    let home = Home::new();
    home.helper("one", r#"read server; echo "{\"Username\":\"$1\",\"Secret\":\"$server\"}""#);
    home.helper("all", r#"read server; echo "{\"Username\":\"<token>\",\"Secret\":\"$server\"}""#);
    let store = home.store(r#"{"credHelpers":{"r.test":"one"},"credsStore":"all"}"#);
    assert_eq!(find(&store, "r.test/a").unwrap(), Some(password("get", "r.test")));
    assert_eq!(find(&store, "alpine").unwrap(), Some(Credential::Identity(Secret::new(HUB.into()))));
}

#[test]
fn a_helper_that_knows_nothing_is_no_error_and_one_that_fails_is() {
    let home = Home::new();
    home.helper("none", "echo credentials not found in native keychain; exit 1");
    home.helper("broken", "echo s3cret; exit 2");
    home.helper("babble", "echo s3cret");
    let with = |name: &str| find(&home.store(&format!(r#"{{"credsStore":"{name}"}}"#)), "r.test/a");
    assert_eq!(with("none").unwrap(), None);
    for (name, why) in [
        ("broken", "failed"),
        ("babble", "no valid answer"),
        ("absent", "install it"),
        ("../bin/none", "has a name that is none"),
    ] {
        let error = with(name).unwrap_err();
        assert_eq!(error.exit(), exit::AUTH);
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_helper_that_hangs_or_never_ends_is_stopped() {
    let home = Home::new();
    home.helper("hangs", "exec sleep 600");
    home.helper("endless", "exec cat /dev/zero");
    let slow = home.store_with(r#"{"credsStore":"hangs"}"#, Duration::from_millis(50));
    assert!(find(&slow, "r.test/a").unwrap_err().to_string().contains("did not answer within 0.05 seconds"));
    let endless = home.store(r#"{"credsStore":"endless"}"#);
    assert!(find(&endless, "r.test/a").unwrap_err().to_string().contains("more than 64 KiB"));
}

#[test]
fn a_broken_file_is_named_and_its_secrets_are_not() {
    let home = Home::new();
    for config in [r#"{"auths":{"r.test":{"auth":"s3cret!"}}}"#, r#"{"auths": "s3cret"}"#, "s3cret"] {
        let error = find(&home.store(config), "r.test/a").unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    assert_eq!(find(&home.store(" \n"), "r.test/a").unwrap(), None);
}

#[test]
fn a_secret_cannot_be_printed() {
    let shown = format!("{:?}", password("ci", "s3cret"));
    assert!(shown.contains("ci") && !shown.contains("s3cret"), "{shown}");
}
