// SPDX-License-Identifier: AGPL-3.0-only
//! Keys keep the order of their parts, and give them back.

use super::*;
use proptest::prelude::*;

fn digests() -> impl Strategy<Value = Digest> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(Digest::Sha256),
        proptest::collection::vec(any::<u8>(), 64)
            .prop_map(|bytes| Digest::Sha512(bytes.try_into().unwrap())),
        "[a-z0-9]{1,6}:[a-zA-Z0-9=_-]{1,20}"
            .prop_filter("known algorithms have their own form", |text| {
                !["sha256:", "sha512:", "blake3:"].iter().any(|known| text.starts_with(known))
            })
            .prop_map(|text| Digest::Other(text.into())),
    ]
}

fn tag_names() -> impl Strategy<Value = Tag> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,12}".prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn digests_survive_their_encoding(digest in digests()) {
        prop_assert_eq!(read_digest(&digest_bytes(&digest)).unwrap(), digest);
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_their_parts(
        a in (any::<u32>(), ".{0,6}", any::<u64>()), b in (any::<u32>(), ".{0,6}", any::<u64>())
    ) {
        let key = |(repo, text, time): &(u32, String, u64)| {
            Builder::table(b'z').repo(RepoId(*repo)).text(text).time(Timestamp(*time)).build()
        };
        prop_assert_eq!(key(&a).cmp(&key(&b)), (a.0, a.1.as_bytes(), a.2).cmp(&(b.0, b.1.as_bytes(), b.2)));
    }

    #[test]
    fn text_with_nul_bytes_keeps_its_order_and_its_end(a in "[\0a]{0,4}", b in "[\0a]{0,4}") {
        let key = |text: &str| Builder::table(b'z').text(text).build();
        prop_assert_eq!(key(&a).cmp(&key(&b)), a.as_bytes().cmp(b.as_bytes()));
        let encoded = key(&a);
        let mut parts = Parts::after(&encoded, b"z").unwrap();
        prop_assert_eq!(parts.text().unwrap(), a);
        prop_assert!(parts.end(()).is_ok());
    }

    #[test]
    fn composed_keys_give_their_parts_back(
        repo: u32, target in digests(), digest in digests(), tag in tag_names(), time: u64
    ) {
        let repo = RepoId(repo);
        prop_assert_eq!(
            read_edge(&edge(repo, &target, &digest), &edges_to(repo, &target)).unwrap(), digest.clone());
        prop_assert_eq!(
            read_tag_of(&tag_of(repo, &digest, &tag), &tags_of(repo, &digest)).unwrap(), tag.clone());
        prop_assert_eq!(read_manifest(&manifest(repo, &digest)).unwrap(), (repo, digest.clone()));
        let key = super::tag(repo, tag.as_str());
        prop_assert_eq!(read_tag(&key, &tags(repo)).unwrap(), tag.as_str());
        prop_assert_eq!(read_tag_move(&tag_move(repo, &tag, time), &moves(repo, &tag)).unwrap(), time);
        for kind in [
            Review::Object(repo, digest.clone()), Review::Referrers(repo, digest.clone()), Review::TagHistory(repo, tag.clone()),
            Review::Upload(Location::from_bytes([7; 16])),
        ] {
            let due = Timestamp(time);
            prop_assert_eq!(read_review(&review(due, &kind)).unwrap(), (due, kind));
        }
    }

    #[test]
    fn keys_of_credentials_give_their_parts_back(
        name in "[a-z0-9$:+é-]{1,40}", subject: [u8; 32], sha256: [u8; 32], time: u64, later: u64
    ) {
        let (time, later) = (Timestamp(time), Timestamp(later));
        let (made, key) = (robot(&name), signing_key(&name));
        prop_assert_eq!(read_robot(&made).unwrap(), &name);
        prop_assert_eq!(read_signing_key(&key).unwrap(), &name);
        prop_assert_eq!(read_refresh_token(&refresh_token(&sha256)).unwrap(), sha256);
        let key = |time| refresh_token_of(&subject, time, &sha256);
        prop_assert_eq!(read_refresh_token_of(&key(time), &refresh_tokens_of(&subject)).unwrap(), (time, sha256));
        prop_assert_eq!(key(time).cmp(&key(later)), time.cmp(&later));
        let key = |time| refresh_token_expiry(time, &sha256);
        prop_assert_eq!(read_refresh_token_expiry(&key(time)).unwrap(), (time, sha256));
        prop_assert!(key(time).starts_with(&refresh_token_expiries(key(time)[1])));
        prop_assert_eq!(key(time).cmp(&key(later)), time.cmp(&later));
    }

    #[test]
    fn newer_moves_come_first(tag in tag_names(), a: u64, b: u64) {
        let key = |number| tag_move(RepoId(1), &tag, number);
        prop_assert_eq!(key(a).cmp(&key(b)), b.cmp(&a));
    }

    #[test]
    fn a_referrers_page_never_leaves_its_subject_or_type(
        subject in digests(), other in digests(), digest in digests(), kind in "[a-z/+.]{0,8}", longer in "[a-z]{1,3}"
    ) {
        let key = referrer(RepoId(1), &subject, &kind, &digest);
        prop_assert!(key.starts_with(&referrers(RepoId(1), &subject)));
        prop_assert_eq!(read_referrer(&key, &referrers(RepoId(1), &subject)).unwrap(), digest);
        prop_assert!(key.starts_with(&referrers_of_type(RepoId(1), &subject, &kind)));
        let other_type = kind + &longer;
        prop_assert!(!key.starts_with(&referrers_of_type(RepoId(1), &subject, &other_type)));
        if other != subject {
            prop_assert!(!key.starts_with(&referrers(RepoId(1), &other)));
        }
    }

    #[test]
    fn the_end_of_a_prefix_lies_just_behind_it(
        prefix in proptest::collection::vec(any::<u8>(), 1..5), tail in proptest::collection::vec(any::<u8>(), 0..5)
    ) {
        let key = [prefix.as_slice(), &tail].concat();
        if let Some(end) = end_of(&prefix) {
            prop_assert!(key < end);
            prop_assert!(!end.starts_with(&prefix));
        } else {
            prop_assert!(prefix.iter().all(|&byte| byte == 0xff));
        }
    }

    #[test]
    fn damaged_keys_are_errors_not_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = read_digest(&bytes);
        let _ = read_review(&bytes);
        let _ = read_repository(&bytes);
        let _ = read_refresh_token_expiry(&bytes);
        let _ = read_robot(&bytes);
    }
}
