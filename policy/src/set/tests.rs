// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of sets: what has the same hash, what has another, and how files and folders are read.

use super::*;
use crate::testing::{HOST, KEY_A, KEY_B, fingerprint, images, load, registry, roots, with_key};

fn hash(text: &str) -> Digest {
    load(text).unwrap_or_else(|why| panic!("{text}\n{why}")).hash().clone()
}

#[test]
fn the_hash_is_of_what_documents_mean() {
    let (one, two, three) =
        (images("one", &with_key(KEY_A)), images("two", &with_key(KEY_B)), registry("r", "  count: 2"));
    let first = hash(&format!("{one}{two}{three}"));
    assert_eq!(first, hash(&format!("{three}{two}{one}")), "order");
    assert_eq!(first, hash(&format!("# a comment\n{one}\n\n{two}{three}# another\n")), "comments");
    let flow = three.replace("  repositories: [\"**\"]", "  repositories:\n    - '**'");
    assert_eq!(first, hash(&format!("{one}{two}{flow}")), "layout");
    let described = one.replace("{name: one}", "{name: one, labels: {a: b}}");
    assert_eq!(first, hash(&format!("{described}{two}{three}")), "descriptions");
    let older = one.replace("v1beta1", "v1alpha1");
    assert_eq!(first, hash(&format!("{older}{two}{three}")), "versions with the same fields");
    for other in
        [format!("{one}{three}"), format!("{one}{two}"), format!("{one}{two}{}", registry("r", "  count: 3"))]
    {
        assert_ne!(first, hash(&other));
    }
}

#[test]
fn the_hash_is_of_the_host_too_and_roots_have_their_own() {
    let of = |host: &str, roots: &[RootNames]| {
        let (documents, _) = document::of_text("p.yaml", &registry("r", ""), roots);
        PolicySet::of(host, documents, roots).unwrap()
    };
    let mut changed = roots();
    changed[0].hash = Digest::of(b"changed");
    let (a, b, c) = (of(HOST, &roots()), of("other.example", &roots()), of(HOST, &changed));
    assert_ne!(a.hash(), b.hash());
    assert_eq!(a.hash(), c.hash());
    assert_ne!(a.trust_root(), c.trust_root());
    let reversed: Vec<RootNames> = roots().into_iter().rev().collect();
    assert_eq!(a.trust_root(), of(HOST, &reversed).trust_root());
    let twice: Vec<RootNames> = roots().into_iter().chain(roots()).collect();
    assert!(PolicySet::of(HOST, Vec::new(), &twice).is_err());
}

#[test]
fn every_key_is_there_once() {
    let set =
        load(&(images("one", &with_key(&format!("{KEY_A}\n{KEY_B}"))) + &images("two", &with_key(KEY_B))))
            .unwrap();
    let mut wanted = vec![fingerprint(KEY_A), fingerprint(KEY_B)];
    wanted.sort();
    assert_eq!(set.keys().map(|key| key.fingerprint().to_owned()).collect::<Vec<_>>(), wanted);
    let hashed = images("two", &format!("{}      hashAlgorithm: sha384", with_key(KEY_B)));
    let why = load(&(images("one", &with_key(KEY_B)) + &hashed)).unwrap_err();
    assert!(why.contains("hashAlgorithm"), "{why}");
}

#[test]
fn a_set_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<PolicySet>();
}

#[test]
fn files_and_folders_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let one = write("one.yaml", &images("one", &with_key(KEY_A)));
    write("two.yml", &(registry("r", "") + &images("two", &with_key(KEY_A))));
    write("readme.md", "not yaml: [");
    write(".hidden.yaml", "not yaml: [");
    std::fs::create_dir(folder.path().join("sub.yaml")).unwrap();
    let all = PolicySet::load(HOST, &[folder.path().to_owned()], &roots()).unwrap();
    assert_eq!((all.images.len(), all.registry.len()), (2, 1));
    assert_eq!(PolicySet::load(HOST, std::slice::from_ref(&one), &roots()).unwrap().images.len(), 1);
    let again = PolicySet::load(HOST, &[one.clone(), one.clone()], &roots()).unwrap();
    assert_eq!(again.images.len(), 1, "the same file twice is one file");

    let bad = write("bad.yaml", "apiVersion: 1\n");
    let worse = write("worse.yaml", &images("x", ""));
    let error = PolicySet::load(HOST, &[folder.path().to_owned()], &roots()).unwrap_err();
    assert!(matches!(error, Error::Load(_)));
    let faults = error.to_string();
    assert!(
        faults.lines().any(|line| line.starts_with(&format!("{}:1:1: kind: ", bad.display()))),
        "{faults}"
    );
    assert!(faults.lines().any(|line| line.starts_with(&format!("{}:", worse.display()))), "{faults}");

    let nowhere = folder.path().join("nowhere");
    assert!(matches!(PolicySet::load(HOST, &[nowhere], &roots()), Err(Error::File { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(PolicySet::load(HOST, &[empty.path().to_owned()], &roots()), Err(Error::Load(_))));
    let binary = write("binary.yaml", "");
    std::fs::write(&binary, b"\xff\xfe").unwrap();
    assert!(PolicySet::load(HOST, &[binary], &roots()).unwrap_err().to_string().contains("UTF-8"));
    let large = write("large.yaml", &"# x\n".repeat(300_000));
    assert!(PolicySet::load(HOST, &[large], &roots()).unwrap_err().to_string().contains("larger"));
}
