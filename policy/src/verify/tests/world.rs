//! A verifier that trusts the small Sigstore and one key.

use super::mint::{Authority, IMAGE, Rekor, Somebody, evidence};
use super::support::only;
use crate::{Artifact, Checked, Digest, Form, Log, Trust, Verifier};

/// Everybody of the small Sigstore, with a verifier that trusts them.
pub(super) struct World {
    pub(super) log: Rekor,
    pub(super) authority: Authority,
    pub(super) somebody: Somebody,
    pub(super) verifier: Verifier,
}

pub(super) fn world() -> World {
    let (log, authority, somebody) =
        (Rekor::new("log.example"), Authority::new(2020, 2040), Somebody::with_key());
    let mut trust = Trust::new();
    trust.add_root(authority.trust(&[&log])).unwrap();
    trust.add_key(somebody.public());
    World { verifier: Verifier::new(&trust).unwrap(), log, authority, somebody }
}

pub(super) fn layer(world: &World, form: Form, (descriptor, bytes): (crate::Descriptor, Vec<u8>)) -> Checked {
    let digest = Digest::of(IMAGE);
    world.verifier.verify(&evidence(form, (descriptor, bytes)), Some(Artifact { digest, bytes: None }))
}

#[track_caller]
pub(super) fn log_is_wrong(checked: &Checked) {
    let fact = only(checked);
    assert!(matches!(fact.log, Log::Wrong(_)) && fact.times.is_empty(), "{fact:?}");
}
