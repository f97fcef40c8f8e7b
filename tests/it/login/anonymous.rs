// SPDX-License-Identifier: AGPL-3.0-only
//! What is for everyone is there for who has no password, and for who has one.

use stella_tests::{Guard, Image, Login, Who};

use super::{Containerd, Docker, NOBODY, Skopeo, TAG, Visitor, repository};

#[test]
fn docker_pulls_what_is_public_without_a_login_and_with_one() {
    pull::<Docker>();
}

#[test]
fn containerd_pulls_what_is_public_without_a_login_and_with_one() {
    pull::<Containerd>();
}

#[test]
fn skopeo_pulls_what_is_public_without_a_login_and_with_one() {
    pull::<Skopeo>();
}

fn pull<V: Visitor>() {
    let guard = Guard::new(Login::Token);
    let Some(mut visitor) = V::enter(&guard) else { return };
    let image = Image::sample(3).build();
    for name in ["public/app", "group/base"] {
        repository(visitor.bench(), &guard, name).push(&image, TAG);
    }
    let pull = |visitor: &V, when: &str| match visitor.pull("public/app") {
        Ok(digest) => assert_eq!(digest, image.digest(), "{when}"),
        Err(outcome) => panic!("nothing is pulled {when}:\n{outcome}"),
    };
    pull(&visitor, "before a login");
    match visitor.pull("group/base") {
        Ok(digest) => panic!("{digest} was pulled without a login"),
        Err(outcome) => outcome.must_fail_saying(&NOBODY),
    }
    visitor.log_in(&guard.credentials(Who::Builder)).must_succeed();
    pull(&visitor, "after the login");
    visitor.log_out();
    pull(&visitor, "after the logout");
}
