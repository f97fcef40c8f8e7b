// SPDX-License-Identifier: AGPL-3.0-only
//! `ClusterImagePolicy`, v1alpha1 and v1beta1, whose fields are the same.

use std::collections::BTreeSet;

use super::authority;
use super::section::{Field, Section};
use super::{Name, RootNames, name_of};
use crate::ImageGlob;
use crate::authority::Authority;
use crate::image_policy::{ImagePolicy, Mode};
use crate::rego::Rego;

pub(super) fn read(mut top: Section<'_>, roots: &[RootNames]) -> Option<ImagePolicy> {
    let name = name_of(&mut top);
    top.refuse("status", "it is what a cluster says of the document; leave it out");
    let spec = top.need("spec").and_then(|field| field.section());
    top.done();
    let mut spec = spec?;
    let images = spec.need("images").and_then(|field| images(&field));
    let authorities = spec.need("authorities").and_then(|field| authorities(&field, roots));
    let rule = spec.get("policy").map(|field| rule(&field, true));
    let mode = spec.get("mode").map_or(Some(Mode::Enforce), |field| match field.text()? {
        "enforce" => Some(Mode::Enforce),
        "warn" => Some(Mode::Warn),
        _ => field.fault("it is enforce or warn"),
    });
    spec.refuse("match", "a registry has no cluster resources to select; leave it out");
    spec.done();
    let Name { name, at } = name?;
    Some(ImagePolicy {
        name,
        at,
        images: images?,
        authorities: authorities?,
        // A rule with a fault must not come out as none.
        rule: match rule {
            Some(rule) => Some(rule?),
            None => None,
        },
        mode: mode?,
    })
}

fn images(field: &Field<'_>) -> Option<Vec<ImageGlob>> {
    let image = |item: &Field<'_>| {
        let mut image = item.section()?;
        let glob = image.need("glob").and_then(|field| field.or_fault(ImageGlob::parse(field.text()?)));
        image.done();
        glob
    };
    let images: Vec<_> = field.some()?.iter().map(image).collect();
    images.into_iter().collect()
}

fn authorities(field: &Field<'_>, roots: &[RootNames]) -> Option<Vec<Authority>> {
    let mut names = BTreeSet::new();
    let read = |(index, item): (usize, &Field<'_>)| {
        let authority = authority::read(item, index, roots)?;
        if !names.insert(authority.name.clone()) {
            return item.fault(&format!("the name {:?} is another authority's already", authority.name));
        }
        Some(authority)
    };
    let authorities: Vec<_> = field.some()?.iter().enumerate().map(read).collect();
    authorities.into_iter().collect()
}

/// `policy`: a rule in Rego. `of_images` is true for that of a whole document.
pub(super) fn rule(field: &Field<'_>, of_images: bool) -> Option<Rego> {
    let mut policy = field.section()?;
    let is_rego = policy.need("type").and_then(|field| match field.text()? {
        "rego" => Some(()),
        "cue" => field.fault(
            "CUE is not evaluated here; rewrite the rule as `type: rego`: package sigstore, with a rule isCompliant",
        ),
        _ => field.fault("it is rego"),
    });
    policy.refuse("remote", "nothing is fetched; put the rule into `data`");
    policy.refuse("configMapRef", "there is no cluster to read from; put the rule into `data`");
    for (key, what) in [
        ("fetchConfigFile", "the image's configuration"),
        ("includeSpec", "the spec of a cluster's resource"),
        ("includeObjectMeta", "the metadata of a cluster's resource"),
        ("includeTypeMeta", "the type of a cluster's resource"),
    ] {
        let why = format!("rules are not given {what}; leave it out");
        match policy.get(key) {
            Some(field) if !of_images => {
                field.fault::<()>("only the policy of the whole document may have it");
            }
            Some(field) if field.bool() == Some(true) => {
                field.fault::<()>(&why);
            }
            _ => {}
        }
    }
    let data = policy.need("data");
    policy.done();
    is_rego?;
    let data = data?;
    data.or_fault(Rego::parse(data.text()?))
}
