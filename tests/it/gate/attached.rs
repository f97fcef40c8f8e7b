// SPDX-License-Identifier: AGPL-3.0-only
//! What is attached to images: attestations, of which a policy's rule is asked, and SBOMs, which are readable as soon as
//! their image is.

use serde_json::Value;
use stella_tests::{Client, Image, Outcome};

use super::{CI, Production, READER, SIGNER};
use crate::verify::stage::{By, WAYS};

const RULE: &str = "    attestations:\n    - name: bom\n      predicateType: cyclonedx\n      policy:\n        type: rego\n\
                    \u{20}       data: |\n          package sigstore\n          import rego.v1\n\
                    \u{20}         default isCompliant := false\n\
                    \u{20}         isCompliant if input.predicate.specVersion == \"1.6\"\n";

#[test]
fn an_attestation_releases_what_a_rule_approves_of() {
    let Some(production) = Production::prepare(&[Client::Crane]) else { return };
    production.write_image_policy(&production.by_key(RULE));
    let Some(bench) = production.bench() else { return };
    let registry = production.open(&bench);
    let crane = registry.logged_in(Client::Crane, READER);
    for (seed, way) in (1..).zip(WAYS.into_iter().filter(|way| way.by == By::Key)) {
        let tag = format!("t{seed}");
        let image = Image::sample(seed).build();
        registry.push(&image, &tag);
        let (name, digest) = (registry.name(&tag), registry.name(image.digest()));
        let denied = |reason: &str| {
            let (message, found) = registry.denial(&tag);
            assert_eq!(found, reason, "{way:?}: {message}");
            crane
                .try_run(&format!("pull --format oci {name} {tag}"))
                .must_fail_saying(&[&format!("DENIED: {message}")]);
        };
        denied("no-evidence");
        // A signature says nothing of what is in it.
        registry.sign(way, &format!("sign {digest}"));
        denied("wrong-predicate");
        for (version, kind) in [("1.6", "https://example.test/checked"), ("1.5", "cyclonedx")] {
            bench.write(
                "predicate",
                format!("{{\"bomFormat\": \"CycloneDX\", \"specVersion\": \"{version}\"}}"),
            );
            registry.sign(way, &format!("attest --type {kind} --predicate predicate {digest}"));
            denied(if kind == "cyclonedx" { "predicate-rejected" } else { "wrong-predicate" });
        }
        bench.write("predicate", "{\"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.6\"}");
        registry.sign(way, &format!("attest --type cyclonedx --predicate predicate {digest}"));
        assert_eq!(registry.pulled(&tag), image.digest(), "{way:?}");
        crane.run(&format!("pull --format oci {name} {tag}"));
        registry.delete_evidence(image.digest());
        denied("no-evidence");
    }
}

#[test]
fn an_sbom_is_readable_as_soon_as_its_image_is() {
    let Some(production) = Production::prepare(&[Client::Oras]) else { return };
    let Some(bench) = production.bench() else { return };
    let registry = production.open(&bench);
    let [ci, signer, reader] = [CI, SIGNER, READER].map(|who| registry.logged_in(Client::Oras, who));
    let image = Image::sample(1).build();
    registry.push(&image, "1");
    let name = registry.name(image.digest());
    for (file, kind) in
        [("bom.spdx.json", "application/spdx+json"), ("bom.cdx.json", "application/vnd.cyclonedx+json")]
    {
        bench.write(file, format!("{{\"of\": {kind:?}}}"));
        let attach =
            format!("attach {REFERRERS_API} --artifact-type {kind} --format go-template={{{{.digest}}}}");
        let sbom = ci.run(&format!("{attach} {name} {file}:{kind}"));
        let sbom = registry.name(&sbom);
        let pull = format!("pull -o pulled {sbom}");
        let found =
            |who: &stella_tests::Tool| {
                referrers(&who.try_run(&format!(
                    "discover {REFERRERS_API} --artifact-type {kind} --format json {name}"
                )))
            };
        // Who signs looks at it first; readers do not see it.
        assert_eq!(found(&signer).unwrap().len(), 1);
        signer.run(&pull);
        assert!(
            found(&reader).is_none_or(|found| found.is_empty()),
            "a reader finds {kind} of what is not released"
        );
        let denied = reader.try_run(&pull);
        denied.must_fail_saying(&["denied: "]);
        registry.sign(WAYS[0], &format!("sign {name}"));
        let seen = found(&reader).unwrap();
        assert!(seen.len() == 1 && sbom.ends_with(seen[0]["digest"].as_str().unwrap()), "{seen:?}");
        std::fs::remove_file(bench.path(&format!("pulled/{file}"))).unwrap();
        reader.run(&pull);
        assert_eq!(bench.read(&format!("pulled/{file}")), bench.read(file));
        for referrer in registry.seen_by(super::OPERATOR).referrers(image.digest()) {
            let is_signature = referrer["artifactType"].as_str().unwrap().contains("sigstore.bundle");
            if is_signature {
                registry.seen_by(super::OPERATOR).delete_manifest(referrer["digest"].as_str().unwrap());
            }
        }
        reader.try_run(&pull).must_fail_saying(&["denied: "]);
    }
}

const REFERRERS_API: &str = "--distribution-spec v1.1-referrers-api";

/// What `oras discover` found, if it was let in.
fn referrers(outcome: &Outcome) -> Option<Vec<Value>> {
    if !outcome.status.success() {
        return None;
    }
    let found: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    Some(found["referrers"].as_array().cloned().unwrap_or_default())
}
