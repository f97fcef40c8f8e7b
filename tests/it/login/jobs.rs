// SPDX-License-Identifier: AGPL-3.0-only
//! Jobs of GitLab, as a pipeline logs them in: what their claims open and what they do not.

use serde_json::Value;
use stella_tests::{Credentials, Guard, Login, Who};

use super::{Crane, NOT_BELIEVED, Oras, Skopeo, Visitor};

/// Who may not even pull is refused at a HEAD, whose answer has no room for a reason.
const REFUSED: [&str; 2] = ["403: Forbidden", "403 (Forbidden)"];

#[test]
fn a_job_of_a_branch_that_is_not_protected_pushes_nothing() {
    let guard = Guard::new(Login::Oidc);
    let Some(mut oras) = Oras::enter(&guard) else { return };
    let branch = [
        ("ref", "attempt".into()),
        ("ref_path", "refs/heads/attempt".into()),
        ("ref_protected", "false".into()),
        ("sub", "project_path:group/app:ref_type:branch:ref:attempt".into()),
    ];
    oras.log_in(&guard.job(Who::Builder, &branch)).must_succeed();
    oras.push("group/app").must_fail_saying(&REFUSED);
    oras.log_in(&guard.job(Who::Builder, &[])).must_succeed();
    oras.push("group/app").must_succeed();
}

#[test]
fn a_job_pushes_to_its_project_and_below_and_nowhere_else() {
    let guard = Guard::new(Login::Oidc);
    let Some(mut skopeo) = Skopeo::enter(&guard) else { return };
    // A fork has the branch of the same name, and it is protected there.
    let fork = [("project_path", "mallory/app".into()), ("namespace_path", "mallory".into())];
    skopeo.log_in(&guard.job(Who::Builder, &fork)).must_succeed();
    skopeo.push("group/app").must_fail_saying(&REFUSED);
    skopeo.push("mallory/app").must_succeed();
    skopeo.log_in(&guard.credentials(Who::Builder)).must_succeed();
    skopeo.push("group/app").must_succeed();
    skopeo.push("group/app/cache/main").must_succeed();
    for other in ["group/app2", "group/ap", "group", "mallory/app"] {
        skopeo.push(other).must_fail_saying(&REFUSED);
    }
}

#[test]
fn a_token_that_is_over_or_early_or_for_somebody_else_opens_nothing() {
    let guard = Guard::new(Login::Oidc);
    let Some(mut skopeo) = Skopeo::enter(&guard) else { return };
    let mut log_in = |claim: &str, value: Value| skopeo.log_in(&guard.job(Who::Builder, &[(claim, value)]));
    log_in("exp", 1_700_000_000.into()).must_fail_saying(&NOT_BELIEVED);
    log_in("nbf", 10_000_000_000_u64.into()).must_fail_saying(&NOT_BELIEVED);
    log_in("aud", "https://vault.example".into()).must_fail_saying(&NOT_BELIEVED);
    log_in("iss", "https://gitlab.example.org".into()).must_fail_saying(&NOT_BELIEVED);
    log_in("user_login", "another".into()).must_succeed();
}

#[test]
fn a_job_may_call_itself_what_it_likes() {
    let guard = Guard::new(Login::Oidc);
    let Some(mut crane) = Crane::enter(&guard) else { return };
    for name in ["gitlab-ci-token", "builder", "0"] {
        let job = Credentials { name: name.to_owned(), ..guard.credentials(Who::Builder) };
        let _not_there = crane.log_in(&job);
        crane.push("group/app").must_succeed();
    }
}
