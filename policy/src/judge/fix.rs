// SPDX-License-Identifier: AGPL-3.0-only
//! What mends a failure: a command that a person can run, or the change that somebody must make.

use crate::Reason;
use crate::authority::{Authority, Demand, Who};

use super::binding::REPOSITORY;

/// For an authority that is not satisfied.
pub(super) fn of_authority(authority: Option<&Authority>, reason: Reason, image: &str) -> String {
    let Some(authority) = authority else { return format!("cosign sign {image}") };
    let key = match &authority.who {
        Who::Keys(_) => " --key KEY",
        _ => "",
    };
    let mut more = String::new();
    if authority.timestamp.is_some() || reason == Reason::NoTrustedTime {
        more.push_str(" --timestamp-server-url URL");
    }
    if reason == Reason::RepositoryMismatch {
        let name = image.split_once('@').map_or(image, |(name, _)| name);
        more.extend([" -a ", REPOSITORY, "=", name]);
    }
    for (name, value) in &authority.annotations {
        more.extend([" -a ", name, "=", value]);
    }
    match &authority.demand {
        Demand::Attestations(list) => {
            let commands = list.iter().map(|one| {
                format!("cosign attest{key}{more} --type {} --predicate FILE {image}", one.predicate_type)
            });
            commands.collect::<Vec<_>>().join(" && ")
        }
        Demand::Signature | Demand::Artifact => format!("cosign sign{key}{more} {image}"),
    }
}

pub(super) fn another_signer(image: &str) -> String {
    format!("cosign sign --key ANOTHER-KEY {image}")
}

pub(super) fn with_time(image: &str) -> String {
    format!("cosign sign --key KEY --timestamp-server-url URL {image}")
}

pub(super) fn sign_again(image: &str) -> String {
    format!("if it shall be released again: cosign sign --key KEY {image}")
}

pub(super) fn denied_digest() -> String {
    "push another build; or take the digest out of denyDigests".to_owned()
}

pub(super) fn no_policy(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    format!("add a ClusterImagePolicy with `images: [{{glob: {name}}}]`")
}

pub(super) fn always_fails(policy: &str) -> String {
    format!("the ClusterImagePolicy {policy:?} refuses whatever it is about; change it")
}
