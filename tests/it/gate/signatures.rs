// SPDX-License-Identifier: AGPL-3.0-only
//! Whatever way cosign signs in, it releases what was pushed; and nobody else's signature does.

use stella_tests::{Client, Image};

use super::{Production, by_certificate};
use crate::verify::stage::{By, WAYS};

/// For a signature by whoever must not count.
const STRANGERS: &str = "bad-signature";

#[test]
fn each_way_to_sign_releases_what_was_pushed_last_and_a_stranger_does_not() {
    let Some(production) = Production::prepare(&[Client::Crane]) else { return };
    let Some(bench) = production.bench() else { return };
    let registry = production.open(&bench);
    let crane = registry.logged_in(Client::Crane, super::READER);
    let policies = [(By::Key, production.by_key("")), (By::Certificate, by_certificate())];
    let mut seed = 0;
    for (by, policy) in policies {
        if by != By::Key {
            registry.demand(&policy);
        }
        for way in WAYS.into_iter().filter(|way| way.by == by) {
            seed += 2;
            let tag = format!("t{seed}");
            let [first, second] = [seed, seed + 1].map(|seed| Image::sample(seed).build());
            let mut before = None;
            for image in [&first, &second] {
                let answer = registry.push(image, &tag);
                assert_eq!(answer.must_have("stella-verdict"), "waiting", "{way:?}");
                let name = registry.name(image.digest());
                let stranger = way.command(way.stranger(), &production.clock.url(), &format!("sign {name}"));
                registry.cosign(way, super::SIGNER).run(&stranger);
                let (_, reason) = registry.denial(image.digest());
                assert_eq!(reason, STRANGERS, "{way:?}");
                assert_eq!(registry.pull(image.digest()), 403, "{way:?}");
                // Who asks for the tag gets what was released before, or learns why there is nothing.
                let asked = crane.try_run(&format!("digest {}", registry.name(&tag)));
                match before {
                    None => asked.must_fail_saying(&["403"]),
                    Some(before) => assert_eq!(asked.must_succeed().said().trim(), before, "{way:?}"),
                }
                registry.sign(way, &format!("sign {name}"));
                assert_eq!(registry.pulled(&tag), image.digest(), "{way:?}");
                crane.run(&format!("pull --format oci {} {tag}", registry.name(&tag)));
                assert_eq!(crane.run(&format!("digest {}", registry.name(&tag))), image.digest(), "{way:?}");
                before = Some(image.digest().to_owned());
            }
        }
    }
}
