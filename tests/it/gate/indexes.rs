// SPDX-License-Identifier: AGPL-3.0-only
//! Indexes: who signs one, by itself or with all below it (`--recursive`), says something of its images; who signs an image
//! says nothing of the index.

use stella_tests::{Client, Content, Image};

use super::{Production, READER};
use crate::verify::stage::{By, WAYS};

#[test]
fn a_signed_index_covers_its_images_and_its_images_stand_alone_where_each_was_signed() {
    let Some(production) = Production::prepare(&[Client::Crane, Client::Skopeo]) else { return };
    let Some(bench) = production.bench() else { return };
    let registry = production.open(&bench);
    let crane = registry.logged_in(Client::Crane, READER);
    let skopeo = registry.logged_in(Client::Skopeo, READER);
    for (number, way) in WAYS.into_iter().filter(|way| way.by == By::Key).enumerate() {
        for recursive in [false, true] {
            let seed = 10 * number as u64 + 100 * u64::from(recursive) + 1;
            let tag = format!("t{seed}");
            let children =
                [Image::sample(seed).build(), Image::sample(seed + 1).architecture("arm64").build()];
            let index = Content::index(&children);
            let name = registry.name(&tag);
            let pull = format!("pull --platform linux/arm64 --format oci {name} {tag}");
            assert_eq!(registry.push(&index, &tag).must_have("stella-verdict"), "waiting");
            let (message, reason) = registry.denial(&tag);
            assert_eq!(reason, "no-evidence");
            crane.try_run(&pull).must_fail_saying(&[&format!("DENIED: {message}")]);

            // One of its images alone.
            registry.sign(way, &format!("sign {}", registry.name(children[1].digest())));
            let statuses =
                || [&index, &children[0], &children[1]].map(|content| registry.pull(content.digest()));
            assert_eq!(statuses(), [403, 403, 200], "{way:?}");
            crane.try_run(&pull).must_fail_saying(&["DENIED: "]);
            registry.delete_evidence(children[1].digest());
            assert_eq!(statuses(), [403, 403, 403], "{way:?}");

            let flag = if recursive { "--recursive" } else { "" };
            registry.sign(way, &format!("sign {flag} {}", registry.name(index.digest())));
            assert_eq!(statuses(), [200, 200, 200], "{way:?} {flag}");
            crane.run(&pull);
            Content::read_layout(&bench.path(&tag), &tag).assert_same(&children[1]);
            skopeo.run(&format!("copy --all --preserve-digests docker://{name} dir:all-{tag}"));
            Content::read_flat(&bench.path(&format!("all-{tag}"))).assert_same(&index);

            // Without its signature an image is covered no more, unless it has its own.
            registry.delete_evidence(index.digest());
            let left = if recursive { 200 } else { 403 };
            assert_eq!(statuses(), [403, left, left], "{way:?} {flag}");
            crane.try_run(&pull).must_fail_saying(&["DENIED: "]);
        }
    }
}
