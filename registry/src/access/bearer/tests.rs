// SPDX-License-Identifier: AGPL-3.0-only
//! Claims as GitLab, GitHub, Kubernetes and token servers write them, and as nobody should.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn issuer(yaml: &str) -> Issuer {
    let common = "{name: test, issuer: https://issuer.example, audience: registry, jwks: keys.json, ";
    serde_saphyr::from_str(&format!("{common}{yaml}}}")).unwrap()
}

fn members(value: Value) -> Members {
    let Value::Object(members) = value else { unreachable!() };
    members
}

fn id(yaml: &str, claims: Value) -> Result<Identity, TokenError> {
    of_id_token(&issuer(yaml), &members(claims))
}

fn own(claims: Value, template: &str) -> Vec<String> {
    let who = id(&format!("own: ['{template}']"), members_with_sub(claims)).unwrap();
    who.own.iter().map(|pattern| pattern.as_str().to_owned()).collect()
}

fn members_with_sub(mut claims: Value) -> Value {
    claims["sub"] = "s".into();
    claims
}

fn one(text: &str) -> Claim {
    Claim::One(text.to_owned())
}

/// <https://docs.gitlab.com/ci/secrets/id_token_authentication/>
fn gitlab() -> Value {
    json!({
        "namespace_id": "72", "namespace_path": "My-Group", "project_id": "20", "project_path": "My-Group/My-Project",
        "user_id": "1", "user_login": "sample-user", "user_email": "sample-user@example.com",
        "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
        "user_access_level": "developer", "groups_direct": ["my-group/ops", "other"],
        "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "job_project_id": "20",
        "ref": "feature-branch-1", "ref_type": "branch", "ref_path": "refs/heads/feature-branch-1",
        "ref_protected": "false", "environment": "test-environment2", "environment_protected": "false",
        "deployment_tier": "testing", "environment_action": "start", "runner_id": 1,
        "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "project_visibility": "public",
        "ci_config_ref_uri": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
        "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b", "iss": "https://gitlab.example.com",
        "iat": 1_681_395_193, "nbf": 1_681_395_188, "exp": 1_681_398_793,
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1",
        "aud": "https://registry.example.com"
    })
}

#[test]
fn a_job_of_gitlab_has_its_project_and_the_groups_of_its_user() {
    let yaml = "own: ['{project_path}', '{project_path}/**'], groups: ['{groups_direct}', 'tier:{deployment_tier}', '{nothing}']";
    let who = id(yaml, gitlab()).unwrap();
    assert_eq!(who.subject, "test:project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1");
    assert_eq!(who.groups, ["my-group/ops", "other", "tier:testing"]);
    let own: Vec<_> = who.own.iter().map(RepoPattern::as_str).collect();
    assert_eq!(
        own,
        ["my-group/my-project", "my-group/my-project/**"],
        "in lower case, as its registry has it"
    );
    assert_eq!(who.proof, Proof::Token { issuer: "https://issuer.example".to_owned() });
    assert_eq!(who.claims["ref_protected"], one("false"));
    assert_eq!(who.claims["runner_id"], one("1"));
    assert_eq!(who.claims["groups_direct"].values(), ["my-group/ops", "other"]);
    assert!(!who.claims.contains_key("user_identities"), "objects are not asked for by rules");
    assert!(who.grants.is_none() && who.scope.is_none() && !who.is_anonymous());
}

#[test]
fn a_workflow_of_github_has_its_repository() {
    // https://docs.github.com/en/actions/reference/security/oidc
    let claims = json!({
        "jti": "example-id", "sub": "repo:Octo-Org/octo-repo:environment:prod", "environment": "prod",
        "aud": "https://github.com/octo-org", "ref": "refs/heads/main", "sha": "example-sha",
        "repository": "Octo-Org/octo-repo", "repository_owner": "Octo-Org", "actor_id": "12",
        "repository_visibility": "private", "repository_id": "74", "repository_owner_id": "65",
        "run_id": "example-run-id", "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted",
        "actor": "octocat", "workflow": "example-workflow", "head_ref": "", "base_ref": "",
        "event_name": "workflow_dispatch", "ref_type": "branch", "ref_protected": "true",
        "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
        "iss": "https://token.actions.githubusercontent.com", "nbf": 1_632_492_967, "exp": 1_632_493_867,
        "iat": 1_632_493_567
    });
    let who = id(
        "subject: '{repository}@{ref}', own: ['ghcr/{repository}'], groups: ['{repository_owner}', '{head_ref}']",
        claims,
    );
    let who = who.unwrap();
    assert_eq!(who.subject, "test:Octo-Org/octo-repo@refs/heads/main");
    assert_eq!(
        (who.groups, who.own),
        (vec!["Octo-Org".to_owned()], vec!["ghcr/octo-org/octo-repo".parse().unwrap()])
    );
}

#[test]
fn a_service_account_of_kubernetes_has_its_name() {
    let claims = json!({
        "aud": ["https://kubernetes.default.svc"], "exp": 1_731_613_413, "iat": 1_700_077_413,
        "iss": "https://kubernetes.default.svc", "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
        "kubernetes.io": {
            "namespace": "kube-system", "node": {"name": "127.0.0.1", "uid": "58456cb0"},
            "pod": {"name": "coredns-69cbfb9798-jv9gn", "uid": "778a530c"},
            "serviceaccount": {"name": "coredns", "uid": "a087d5a0"}, "warnafter": 1_700_081_020
        },
        "nbf": 1_700_077_413, "sub": "system:serviceaccount:kube-system:coredns"
    });
    let object = id("groups: ['{kubernetes.io}']", claims.clone());
    assert_eq!(object, Err(TokenError::NoClaim("kubernetes.io".to_owned())), "not left out in silence");
    let who = id("groups: ['{nothing}']", claims).unwrap();
    assert_eq!(who.subject, "test:system:serviceaccount:kube-system:coredns");
    assert_eq!(who.claims["aud"].values(), ["https://kubernetes.default.svc"]);
    assert!(who.groups.is_empty() && !who.claims.contains_key("kubernetes.io"));
}

#[test]
fn a_project_called_star_owns_nothing_more() {
    for evil in [
        "*", "**", "?", "a*", "{a,b}", "a,b", "a{", "a}", "[a]", "a\\b", "", "/", "/a", "a/", "a//b", ".",
        "..", "a/../b", "-a", "a b", "a\nb", "ä", // In lower case they are `k` and `i̇`.
        "\u{212a}", "\u{130}",
    ] {
        for template in ["{p}", "{p}/**", "x/{p}", "{p}{p}"] {
            assert!(own(json!({"p": evil}), template).is_empty(), "{evil:?} {template}");
        }
    }
    assert_eq!(own(json!({"p": ["a", "*", "B/c"]}), "{p}/**"), ["a/**", "b/c/**"], "each value by itself");
    for none in [json!({}), json!({"p": null}), json!({"p": []})] {
        assert!(own(none, "{p}/**").is_empty());
    }
    for half in [json!({"sub": "s", "p": {}}), json!({"sub": "s", "p": ["a", {}]})] {
        assert_eq!(id("own: ['{p}/**']", half), Err(TokenError::NoClaim("p".to_owned())));
    }
    assert_eq!(own(json!({"p": 22, "q": true}), "p{p}/{q}/*"), ["p22/true/*"]);
    assert!(own(json!({"p": "a"}), "{p}/{q}").is_empty(), "half a pattern is none");
}

#[test]
fn a_subject_is_one_name_that_can_be_seen() {
    let subject =
        |template: &str, claims: Value| id(&format!("subject: '{template}'"), claims).map(|who| who.subject);
    assert_eq!(subject("{a}-{b}", json!({"a": "x", "b": 7})).unwrap(), "test:x-7");
    assert_eq!(subject("{a}", json!({"a": "Ж 猫 *"})).unwrap(), "test:Ж 猫 *");
    for (claims, missing) in [
        (json!({"a": "x"}), "b"),
        (json!({"b": "x", "a": null}), "a"),
        (json!({"b": "x", "a": ["x", "y"]}), "a"),
        (json!({"b": "x", "a": []}), "a"),
        (json!({"b": {}, "a": "x"}), "b"),
    ] {
        assert_eq!(subject("{a}-{b}", claims), Err(TokenError::NoClaim(missing.to_owned())));
    }
    for bad in [
        "",
        "a\nb",
        "a\0",
        "\u{7f}",
        "\u{85}",
        "a\u{202e}b",
        "a\u{200b}",
        "\u{2028}",
        "\u{feff}",
        &"x".repeat(508),
    ] {
        assert_eq!(subject("{a}", json!({"a": bad})), Err(TokenError::BadName), "{bad:?}");
    }
    assert_eq!(subject("{a}", json!({"a": "x".repeat(507)})).unwrap().len(), 512);
    assert_eq!(id("groups: ['{g}']", json!({"sub": "s", "g": ["ok", "a\nb"]})), Err(TokenError::BadName));
    assert_eq!(id("groups: ['{g}']", json!({"sub": "s", "g": ["", "ok"]})).unwrap().groups, ["ok"]);
}

#[test]
fn a_token_that_says_too_much_is_refused() {
    let numbered = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    let many = |count| {
        members(
            numbered(count)
                .into_iter()
                .map(|name| (name, json!(1)))
                .chain([("sub".into(), json!("s"))])
                .collect(),
        )
    };
    assert!(of_id_token(&issuer("groups: []"), &many(99)).is_ok());
    assert_eq!(of_id_token(&issuer("groups: []"), &many(100)), Err(TokenError::TooMuch));
    let sized = |size: usize| json!({"sub": "s", "l": ["x".repeat(size)]});
    assert!(id("groups: []", sized(MAX_SIZE - 5)).is_ok());
    assert_eq!(id("groups: []", sized(MAX_SIZE - 4)), Err(TokenError::TooMuch));
    let list = |count| json!({"sub": "s", "l": numbered(count)});
    for template in ["groups: ['{l}']", "own: ['{l}']"] {
        assert!(id(template, list(300)).is_ok());
        assert_eq!(id(template, list(301)), Err(TokenError::TooMuch));
    }
    assert_eq!(id("groups: ['{l}', '{l}']", list(151)), Err(TokenError::TooMuch));
    assert_eq!(id("own: ['{l}', '{l}']", list(151)), Err(TokenError::TooMuch));
    assert_eq!(id("groups: ['{l}{l}']", list(20)), Err(TokenError::TooMuch));
    assert_eq!(id("groups: ['{l}{l}{l}{l}{l}{l}']", list(300)), Err(TokenError::TooMuch));
}

#[test]
fn what_is_called_own_must_become_a_pattern() {
    assert_eq!(check_own(&issuer("own: ['{a}/**', 'x-{b}']")), Ok(()));
    assert!(check_own(&issuer("own: ['{a}/**', 'X/{b}']")).unwrap_err().contains("lower case"));
}

fn server(claims: Value) -> Result<Identity, TokenError> {
    let yaml = "{name: ts, issuer: https://ts.example, audience: registry, keys: ts.pem}";
    of_server_token(&serde_saphyr::from_str(yaml).unwrap(), &members(claims))
}

#[test]
fn a_token_servers_access_is_what_its_bearer_may_do() {
    let who = server(json!({"sub": "jlhawn", "access": [
        {"type": "repository", "name": "samalba/my-app", "actions": ["pull", "push"]},
        {"type": "repository", "class": "", "name": "all", "actions": ["*"]},
        {"type": "repository", "name": "gone", "actions": ["delete", "shout", 7]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
        {"type": "repository", "name": "none", "actions": []},
        {"type": "repository", "name": "sign", "actions": ["sign", "preview", "admin"]},
        {"type": "repository", "name": "*", "actions": ["*"]},
        {"type": "repository", "name": "**", "actions": ["pull"]},
        {"type": "repository", "name": "{a,b}", "actions": ["pull"]},
        {"type": "repository", "name": "Upper", "actions": ["pull"]},
        {"type": "repository", "name": "a", "actions": "pull"},
        {"type": "Repository", "name": "a", "actions": ["pull"]},
        {"name": "a", "actions": ["pull"]},
        "repository:a:pull", null
    ]}));
    let who = who.unwrap();
    let grant = |actions: &[Action], name: &str| Grant {
        actions: actions.to_vec(),
        repositories: vec![name.parse().unwrap()],
    };
    let (pull, push, delete) = (Action::Pull, Action::Push, Action::Delete);
    assert_eq!(
        who.grants.unwrap(),
        [
            grant(&[pull, push], "samalba/my-app"),
            grant(&[pull, push, delete], "all"),
            grant(&[delete], "gone")
        ]
    );
    assert_eq!(who.subject, "ts:jlhawn");
    assert_eq!(who.proof, Proof::Token { issuer: "https://ts.example".to_owned() });
}

#[test]
fn without_access_a_token_servers_bearer_may_do_nothing() {
    for claims in [json!({}), json!({"access": null, "sub": ""}), json!({"access": []})] {
        let who = server(claims).unwrap();
        assert_eq!((who.subject.as_str(), who.grants), ("ts:anonymous", Some(Vec::new())));
    }
    for access in [json!("*"), json!({}), json!(true)] {
        assert!(matches!(server(json!({"access": access})), Err(TokenError::Malformed(_))));
    }
    for sub in [json!(1), json!(null), json!("a\nb"), json!("x".repeat(510))] {
        assert_eq!(server(json!({"sub": sub})), Err(TokenError::BadName));
    }
}

proptest! {
    #[test]
    fn whoever_chooses_a_name_owns_what_is_below_it_and_nothing_else(
        name in "\\PC{0,12}|[a-zA-Z0-9*?{},/._-]{0,12}",
        other in "[a-z0-9]{1,3}(/[a-z0-9]{1,3}){0,3}",
    ) {
        let other: RepoName = other.parse().unwrap();
        for pattern in id("own: ['x/{p}/**', 'y/{p}']", json!({"sub": "s", "p": name})).unwrap().own {
            let name = name.to_ascii_lowercase();
            let below: RepoName = format!("x/{name}/{other}").parse().unwrap();
            let same: RepoName = format!("y/{name}").parse().unwrap();
            prop_assert!(pattern.matches(&below) || pattern.matches(&same));
            let is_below = [format!("x/{name}/"), format!("y/{name}/")].iter().any(|p| format!("{other}/").starts_with(p));
            prop_assert!(is_below || !pattern.matches(&other));
        }
    }
}

#[test]
fn a_list_that_is_half_text_is_refused() {
    for value in [json!(["banned", null]), json!(["banned", {"x": 1}]), json!(["banned", ["y"]])] {
        let claims = json!({"sub": "s", "groups": value});
        assert_eq!(id("groups: ['{groups}']", claims.clone()), Err(TokenError::NoClaim("groups".to_owned())));
        assert_eq!(id("groups: []", claims), Err(TokenError::NoClaim("groups".to_owned())));
    }
    assert!(id("groups: ['{groups}']", json!({"sub": "s", "groups": null})).unwrap().groups.is_empty());
}
