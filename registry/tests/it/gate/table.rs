// SPDX-License-Identifier: AGPL-3.0-only
//! Which test is whose: each way around the gate, and the tests that fail where what closes it is taken out.

const CODE: &str = include_str!("../../../src/gate/judge/tests.rs");
const FILES: &str = include_str!("files.rs");
const DENIALS: &str = include_str!("denials.rs");
const DISGUISES: &str = include_str!("disguises.rs");
const LATE: &str = include_str!("late.rs");
const LIMITS: &str = include_str!("limits.rs");
const MODEL: &str = include_str!("model.rs");
const NAMES: &str = include_str!("names.rs");
const RACES: &str = include_str!("races.rs");
const RED_TEAM: &str = include_str!("red_team.rs");
const RELEASES: &str = include_str!("releases.rs");
const REPLAYS: &str = include_str!("replays.rs");
const ROLES: &str = include_str!("roles.rs");
const STORES: &str = include_str!("stores.rs");
const AGES: &str = include_str!("ages.rs");

/// A way around, and its tests: in which text, and how its name begins.
type Row = (&'static str, &'static [(&'static str, &'static str)]);

const TABLE: [Row; 26] = [
    ("a layer or config fetched by digest", &[(RED_TEAM, "conditions_ranges_and_heads")]),
    ("a manifest pushed as a blob", &[(RED_TEAM, "nothing_leaves_through")]),
    (
        "a mount out of an enforced repository",
        &[(RED_TEAM, "nothing_leaves_through"), (ROLES, "what_is_mounted_out_of")],
    ),
    (
        "runnable content dressed as evidence or attachment",
        &[
            (RED_TEAM, "what_is_dressed_as"),
            (DISGUISES, "an_attachment_has_nothing_in_it"),
            (DISGUISES, "an_attachment_weighs"),
            (DISGUISES, "evidence_has_nothing_in_it"),
            (DISGUISES, "evidence_weighs"),
            (DISGUISES, "an_index_is_evidence_only_if"),
            (DISGUISES, "a_tag_for_evidence_releases_no_image"),
        ],
    ),
    ("an attachment of what is not released", &[(DISGUISES, "an_attachment_is_for_who")]),
    ("a signed child with an unsigned index and the reverse", &[(RELEASES, "an_index_covers_what_it_lists")]),
    ("sha512 names of a denied digest", &[(RED_TEAM, "other_names_of"), (NAMES, "a_layer_that_is_denied")]),
    ("the same bytes with another media type", &[(NAMES, "the_same_bytes_under_another")]),
    ("If-None-Match, HEAD, ranges", &[(RED_TEAM, "conditions_ranges_and_heads")]),
    ("a replayed old-but-signed image", &[(REPLAYS, "an_older_image_that_was_signed")]),
    ("a signature copied from another repository", &[(REPLAYS, "a_signature_that_names_another")]),
    (
        "10 000 junk referrers before the real signature",
        &[(REPLAYS, "junk_by_the_thousand"), (REPLAYS, "referrers_of_other_kinds")],
    ),
    (
        "tags moved between verdict and answer",
        &[(RACES, "a_tag_that_moves"), (MODEL, "of_a_hundred_clients")],
    ),
    (
        "evidence deleted during a pull",
        &[
            (RACES, "evidence_that_was_never_there"),
            (RACES, "a_signature_that_goes"),
            (RELEASES, "a_release_ends"),
        ],
    ),
    ("a policy reload during a pull", &[(RACES, "policies_that_ended"), (MODEL, "of_a_hundred_clients")]),
    ("a clock set back", &[(CODE, "a_clock_that_is_set_back")]),
    ("Host and X-Forwarded-* spoofed", &[(NAMES, "what_a_client_calls_the_registry")]),
    (
        "a pull-only token of an identity with sign",
        &[(ROLES, "a_token_shows_and_takes"), (RED_TEAM, "signatures_are_only_added_to")],
    ),
    (
        "restored and repaired stores",
        &[(STORES, "a_restored_registry"), (STORES, "a_repaired_registry"), (STORES, "a_damaged_signature")],
    ),
    (
        "policies that vanish, break, or would show nobody what is hidden",
        &[
            (FILES, "a_policy_that_is_away"),
            (FILES, "a_folder_that_is_empty_or_broken"),
            (RELEASES, "policies_that_do_not_load"),
            (ROLES, "policies_that_would_show"),
        ],
    ),
    ("a verdict that is over", &[(AGES, "what_is_signed_too_long_ago")]),
    (
        "more than can be looked at",
        &[
            (LIMITS, "an_index_lists_no_more"),
            (LIMITS, "indexes_are_no_deeper"),
            (LIMITS, "all_that_is_in_an_index"),
            (CODE, "indexes_without_end"),
            (CODE, "manifests_without_end"),
        ],
    ),
    (
        "work that is left behind",
        &[(CODE, "what_a_client_abandons"), (CODE, "what_took_long"), (RACES, "one_judgement_is_made")],
    ),
    (
        "evidence that comes late",
        &[
            (LATE, "a_signature_counts_from_the_moment"),
            (LATE, "evidence_under_a_tag"),
            (LATE, "the_tags_of_what_an_index_lists"),
            (LATE, "all_tags_of_a_digest"),
            (LATE, "other_policies_release"),
            (LATE, "a_child_that_comes_after"),
        ],
    ),
    ("nobody in particular", &[(ROLES, "nobody_in_particular"), (ROLES, "who_may_not_pull_is_told_nothing")]),
    ("what a denial says", &[(DENIALS, "a_denial_is_one_line"), (DENIALS, "a_denied_attachment_says")]),
];

#[test]
fn every_way_around_the_gate_has_its_test() {
    for (way, tests) in TABLE {
        assert!(!tests.is_empty(), "{way}");
        for (text, name) in tests {
            let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
            let begins = |line: &str| {
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("fn ").is_some_and(|rest| rest.starts_with(name))
            };
            let is_test = lines.windows(2).any(|pair| {
                (pair[0].starts_with("#[test]") || pair[0].starts_with("#[tokio::test")) && begins(pair[1])
            });
            assert!(is_test, "{way}: no test is called {name}…");
        }
    }
}
