// SPDX-License-Identifier: AGPL-3.0-only
//! A pipeline whose one identity pushes, signs, waits and deploys by digest.

use stella_tests::{Client, Image, poll};

use super::{JOB, PATIENCE, Production, READER};
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
        deployed
            .try_run(&format!("manifest {}", registry.name(image.digest())))
            .must_fail_saying(&["DENIED: "]);
        registry.sign_as(JOB, WAYS[0], &format!("sign {}", registry.name(image.digest())));
        let released = poll("the release", PATIENCE, || {
            let explained = registry.explained(JOB, "1");
            let is_released = explained["released"] == explained["candidate"];
            is_released.then(|| explained["released"].as_str().unwrap().to_owned())
        });
        assert_eq!(released, image.digest());
        deployed.run(&format!("pull --format oci {} deployed-{seed}", registry.name(&released)));
        assert_eq!(deployed.run(&format!("digest {}", registry.name("1"))), released);
    }
}
