// SPDX-License-Identifier: AGPL-3.0-only
//! A pipeline whose one identity pushes, signs, waits and deploys by digest.

use stella_tests::{Client, Image};

use super::{JOB, Production, READER};
use crate::verify::stage::WAYS;

#[test]
fn a_pipeline_pushes_signs_waits_and_deploys() {
    let Some(production) = Production::prepare(&[Client::Crane]) else { return };
    let Some(bench) = production.bench() else { return };
    let registry = production.open(&bench);
    let job = registry.logged_in(Client::Crane, JOB);
    let deployed = registry.logged_in(Client::Crane, READER);
    for seed in [1, 2] {
        let image = Image::sample(seed).build();
        image.write_layout(&bench.path(&format!("built-{seed}")), "1");
        job.run(&format!("push built-{seed} {}", registry.name("1")));
        let explained = registry.explained(JOB, "1");
        assert_eq!(
            (&explained["verdict"], &explained["candidate"]),
            (&"waiting".into(), &image.digest().into())
        );
        // Nobody signed it yet.
        let told = registry.stella(JOB).try_run(&format!("wait --timeout 1s {}", registry.name("1")));
        told.must_fail_saying(&["no-evidence"]);
        told.must_fail_saying(&["cosign sign --key"]);
        assert_eq!(told.status.code(), Some(9), "{told}");
        deployed
            .try_run(&format!("manifest {}", registry.name(image.digest())))
            .must_fail_saying(&["DENIED: "]);
        registry.sign_as(JOB, WAYS[0], &format!("sign {}", registry.name(image.digest())));
        // With a tag and a digest it waits for this push, not for one that came meanwhile.
        let name = format!("{}@{}", registry.name("1"), image.digest());
        let released = registry.stella(JOB).run(&format!("wait --timeout 60s {name}"));
        assert_eq!(released, image.digest());
        deployed.run(&format!("pull --format oci {} deployed-{seed}", registry.name(&released)));
        assert_eq!(deployed.run(&format!("digest {}", registry.name("1"))), released);
    }
}
