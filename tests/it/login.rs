// SPDX-License-Identifier: AGPL-3.0-only
//! Logging in, with each client as it does that, over TLS with a private CA: by name and password with each
//! request, for tokens of the registry's own service, and with the ID token of a job. One story for all of them is
//! here; how each client plays its part, and what it shows of a refusal, is in the files below.

use std::fs;

use stella_tests::{
    Bench, Client, Content, Credentials, Guard, Image, Login, Outcome, Repository, Tool, Transport, Who,
};

pub(crate) use self::buildah::Buildah;
pub(crate) use self::containerd::Containerd;
pub(crate) use self::crane::Crane;
pub(crate) use self::docker::Docker;
pub(crate) use self::helm::Helm;
pub(crate) use self::oras::Oras;
pub(crate) use self::podman::Podman;
pub(crate) use self::regctl::Regctl;
pub(crate) use self::skopeo::Skopeo;

/// Makes a test of each function for each way to log in.
macro_rules! each_way {
    ($($test:ident),+ $(,)?) => {
        each_way! { basic Basic $($test)+ }
        each_way! { token Token $($test)+ }
        each_way! { oidc Oidc $($test)+ }
    };
    ($name:ident $login:ident $($test:ident)+) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    super::$test(stella_tests::Login::$login);
                }
            )+
        }
    };
}

mod anonymous;
mod buildah;
mod containerd;
mod cosign;
mod crane;
mod docker;
mod helm;
mod jobs;
mod oras;
mod podman;
mod regctl;
mod skopeo;

each_way! {
    docker_does_what_it_may,
    podman_does_what_it_may,
    skopeo_does_what_it_may,
    buildah_does_what_it_may,
    containerd_does_what_it_may,
    helm_does_what_it_may,
    oras_does_what_it_may,
    crane_does_what_it_may,
    regctl_does_what_it_may,
}

fn docker_does_what_it_may(login: Login) {
    visit::<Docker>(login);
}

fn podman_does_what_it_may(login: Login) {
    visit::<Podman>(login);
}

fn skopeo_does_what_it_may(login: Login) {
    visit::<Skopeo>(login);
}

fn buildah_does_what_it_may(login: Login) {
    visit::<Buildah>(login);
}

fn containerd_does_what_it_may(login: Login) {
    visit::<Containerd>(login);
}

fn helm_does_what_it_may(login: Login) {
    visit::<Helm>(login);
}

fn oras_does_what_it_may(login: Login) {
    visit::<Oras>(login);
}

fn crane_does_what_it_may(login: Login) {
    visit::<Crane>(login);
}

fn regctl_does_what_it_may(login: Login) {
    visit::<Regctl>(login);
}

/// The tag of everything here. A chart's must be a whole version.
pub(crate) const TAG: &str = "1.0.0";

/// A client, as far as the story needs it. It has an image, a chart or an artifact of its own to push.
pub(crate) trait Visitor: Sized {
    /// Whether it shows why it may not push, and not only that.
    const SHOWS_REASONS: bool = true;

    /// Brings it to a registry, or says why it cannot be used here.
    fn enter(guard: &Guard) -> Option<Self>;

    fn bench(&self) -> &Bench;

    /// Logs in. Where the client asks nobody on that occasion, it reads `group/base`, to find out.
    fn log_in(&mut self, who: &Credentials) -> Outcome;

    fn log_out(&mut self);

    /// Pushes what it has to a repository.
    fn push(&self, repository: &str) -> Outcome;

    /// Pulls from a repository what it has no more by then, and gives the digest of what it got.
    fn pull(&self, repository: &str) -> Result<String, Outcome>;

    /// What the client calls the tag of a repository.
    fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}:{TAG}", self.bench().server.host())
    }
}

/// What clients say that were not believed.
const NOT_BELIEVED: [&str; 3] = ["unauthorized", "invalid username/password", "authorization failed"];

/// What they say that would have to log in first.
const NOBODY: [&str; 5] = [
    "unauthorized",
    "authorization failed",
    "may require 'docker login'",
    "no basic auth credentials",
    "basic credential not found",
];

/// The story: a wrong password, the right one, what that opens and what it does not, and the end.
fn visit<V: Visitor>(login: Login) {
    let guard = Guard::new(login);
    let Some(mut visitor) = V::enter(&guard) else { return };
    let base = repository(visitor.bench(), &guard, "group/base");
    base.push(&Image::sample(9).build(), TAG);

    visitor.log_in(&guard.forged(Who::Builder)).must_fail_saying(&NOT_BELIEVED);
    visitor.log_in(&guard.credentials(Who::Builder)).must_succeed();

    visitor.push("group/app").must_succeed();
    let reason = format!(
        "{} may not push in group/base: none of the registry's access rules allows it",
        guard.subject(Who::Builder)
    );
    let shown = if V::SHOWS_REASONS { reason.as_str() } else { "403 Forbidden" };
    visitor.push("group/base").must_fail_saying(&[shown]);
    base.pull(TAG).assert_same(&Image::sample(9).build());

    let asked_for_a_token = visitor.bench().server.said().contains(" path=\"/token\" ");
    assert_eq!(asked_for_a_token, login != Login::Basic, "tokens are for whom the registry sends for one");

    let pushed = repository(visitor.bench(), &guard, "group/app").pull(TAG);
    match visitor.pull("group/app") {
        Ok(digest) => assert_eq!(digest, pushed.digest()),
        Err(outcome) => panic!("the pull failed:\n{outcome}"),
    }

    visitor.log_out();
    match visitor.pull("group/app") {
        Ok(digest) => panic!("{digest} was pulled after the logout"),
        Err(outcome) => outcome.must_fail_saying(&NOBODY),
    }
}

/// A repository, with the eyes of the operator.
fn repository(bench: &Bench, guard: &Guard, name: &str) -> Repository {
    bench.server.host().logged_in(&guard.credentials(Who::Operator)).repository(name)
}

/// A bench around a registry with this guard.
#[track_caller]
fn guarded(clients: &[Client], guard: &Guard) -> Option<Bench> {
    Bench::with_settings(&[clients, guard.others()].concat(), Transport::Tls, &guard.settings())
}

/// Runs a command that reads a secret from stdin.
#[track_caller]
fn with_secret(bench: &Bench, tool: &Tool, who: &Credentials, arguments: &str) -> Outcome {
    tool.clone().input(&bench.write("secret", &who.secret)).try_run(arguments)
}

/// Runs a command that pulls into the layout `pulled`, and gives the digest of what is there then.
fn pull_layout(bench: &Bench, tool: &Tool, arguments: &str) -> Result<String, Outcome> {
    let _absent = fs::remove_dir_all(bench.path("pulled"));
    tool.try_run(arguments).succeeded()?;
    Ok(Content::read_layout(&bench.path("pulled"), "1").digest().to_owned())
}
