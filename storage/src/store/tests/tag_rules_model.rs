// SPDX-License-Identifier: AGPL-3.0-only
//! Random changes of tags under rules that change too, beside a model of plain maps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::tag_rules::{Came, came, holding, manifest};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put { number: u8, tags: Vec<usize>, evidence: bool, may: bool },
    DeleteTag { tag: usize, may: bool },
    DeleteManifest { number: u8, may: bool },
    Rules { immutable: bool, protected: bool },
}

const TAGS: [&str; 4] = ["free", "v-immutable", "p-protected", "vp-both"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tags = proptest::collection::vec(0..TAGS.len(), 0..3);
    proptest::collection::vec(
        prop_oneof![
            6 => (0u8..4, tags, any::<bool>(), any::<bool>())
                .prop_map(|(number, tags, evidence, may)| Step::Put { number, tags, evidence, may }),
            2 => (0..TAGS.len(), any::<bool>()).prop_map(|(tag, may)| Step::DeleteTag { tag, may }),
            2 => (0u8..4, any::<bool>()).prop_map(|(number, may)| Step::DeleteManifest { number, may }),
            1 => (any::<bool>(), any::<bool>()).prop_map(|(immutable, protected)| Step::Rules { immutable, protected }),
        ],
        1..30,
    )
}

/// What the rules say, told another way: with plain maps.
#[derive(Clone, Default)]
struct Model {
    immutable: bool,
    protected: bool,
    /// Manifests, and whether each is evidence.
    manifests: BTreeMap<u8, bool>,
    tags: BTreeMap<usize, u8>,
}

impl Model {
    fn change(&self, tag: usize, to: Option<u8>, may: bool) -> Came {
        let from = self.tags.get(&tag).copied();
        let mut ends = [from, to].into_iter().flatten();
        // None of the tags has a name for evidence: one that names nothing yet is kept for images.
        if (from.is_some() || to.is_none()) && ends.all(|number| self.manifests[&number]) {
            return Came::Done;
        }
        if self.immutable && TAGS[tag].starts_with('v') && from.is_some() && from != to {
            return Came::Immutable;
        }
        if self.protected && TAGS[tag].contains('p') && !may { Came::Protected } else { Came::Done }
    }

    fn step(&mut self, step: &Step) -> Came {
        let mut after = self.clone();
        match step {
            Step::Put { number, tags, evidence, may } => {
                *after.manifests.entry(*number).or_default() |= evidence;
                for tag in tags {
                    let came = after.change(*tag, Some(*number), *may);
                    if came != Came::Done {
                        return came;
                    }
                    after.tags.insert(*tag, *number);
                }
            }
            Step::DeleteTag { tag, may } => {
                let came = after.change(*tag, None, *may);
                if after.tags.remove(tag).is_none() {
                    return Came::Unknown;
                }
                if came != Came::Done {
                    return came;
                }
            }
            Step::DeleteManifest { number, may } => {
                if !after.manifests.contains_key(number) {
                    return Came::Unknown;
                }
                let mut tags: Vec<usize> =
                    self.tags.iter().filter(|row| row.1 == number).map(|row| *row.0).collect();
                tags.sort_by_key(|tag| TAGS[*tag]);
                for tag in tags {
                    let came = after.change(tag, None, *may);
                    if came != Came::Done {
                        return came;
                    }
                    after.tags.remove(&tag);
                }
                after.manifests.remove(number);
            }
            Step::Rules { immutable, protected } => {
                (after.immutable, after.protected) = (*immutable, *protected);
            }
        }
        *self = after;
        Came::Done
    }
}

async fn perform(store: &Store, step: &Step) -> Came {
    let app = repo("app");
    let who = |may: &bool| Deleter { may_change_protected: *may, ..deleter("ci") };
    match step {
        Step::Put { number, tags, evidence, may } => {
            let tags: Vec<&str> = tags.iter().map(|tag| TAGS[*tag]).collect();
            let new = manifest(*number, &tags);
            came(
                store
                    .put_manifest(NewManifest {
                        evidence: *evidence,
                        rights: TagRights { may_change_protected: *may, ..new.rights },
                        ..new
                    })
                    .await,
            )
        }
        Step::DeleteTag { tag, may } => {
            came(store.delete_tag(&app, &super::tag(TAGS[*tag]), &who(may)).await)
        }
        Step::DeleteManifest { number, may } => {
            came(store.delete_manifest(&app, &manifest(*number, &[]).digest, &who(may)).await)
        }
        Step::Rules { immutable, protected } => {
            let immutable: &[&str] = if *immutable { &["v*"] } else { &[] };
            store.set_rules(holding(immutable, if *protected { &["*p-*"] } else { &[] }));
            Came::Done
        }
    }
}

#[test]
fn random_changes_end_as_the_rules_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let lab = Lab::new(Kind::Memory).await;
            lab.store.put_manifest(manifest(99, &[])).await.unwrap();
            let mut model = Model::default();
            for step in &steps {
                prop_assert_eq!(perform(&lab.store, step).await, model.step(step), "{:?}", step);
                for (number, name) in TAGS.iter().enumerate() {
                    let expected = model.tags.get(&number).map(|number| manifest(*number, &[]).digest);
                    prop_assert_eq!(lab.named(name).await, expected, "{} after {:?}", name, step);
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
