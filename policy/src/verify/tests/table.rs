//! Which test is whose: each point of `signatures.md` §6 (advisories and lessons) and §8 (what `sigstore-verify` leaves
//! open), and the tests that fail where its guard is taken out. Point 20 of §6 (what may be pushed unsigned) is the
//! gate's.

const ADVISORIES: &str = include_str!("advisories.rs");
const FORGED: &str = include_str!("forged.rs");
const GAPS: &str = include_str!("gaps.rs");
const SIGNERS: &str = include_str!("gaps_of_signers.rs");
const CLOCKS: &str = include_str!("clocks.rs");
const FOLD: &str = include_str!("../../judge/tests/advisories.rs");
const GATHER: &str = include_str!("../../gather/tests.rs");
const JSON: &str = include_str!("../../json.rs");
const STATEMENT: &str = include_str!("../../evidence/statement.rs");
const DOCUMENT: &str = include_str!("../../document/tests.rs");
const SET: &str = include_str!("../../set/tests.rs");

/// The point, what it is known by, and its tests: in which text, and how its name begins.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const TABLE: [Row; 34] = [
    ("1", "CVE-2022-23649, GHSA-ccxc-vr6p-4858", &[(ADVISORIES, "cve_2022_23649")]),
    ("2", "CVE-2022-36056, GHSA-8gw7-4j42-w388", &[(ADVISORIES, "cve_2022_36056")]),
    ("3", "CVE-2026-22703, GHSA-whqx-f9j3-ch6m", &[(ADVISORIES, "cve_2026_22703")]),
    (
        "4",
        "CVE-2022-35929, GHSA-vjxv-45g9-9296, CVE-2022-35930, GHSA-739f-hw6h-7wq8",
        &[(ADVISORIES, "cve_2022_35929_and_35930"), (FOLD, "cve_2022_35929"), (FOLD, "cve_2022_35930")],
    ),
    ("5", "CVE-2026-39395, GHSA-w6c6-c85g-mmv6", &[(ADVISORIES, "cve_2026_39395"), (FOLD, "cve_2026_39395")]),
    (
        "6",
        "CVE-2026-24122, GHSA-wfqv-66vq-46rm",
        &[(ADVISORIES, "cve_2026_24122"), (CLOCKS, "at_every_time")],
    ),
    ("7", "CVE-2026-39984, GHSA-xm5m-wgh2-rrg3", &[(ADVISORIES, "cve_2026_39984")]),
    (
        "8",
        "GHSA-9vcr-p3rj-q5q6, sigstore-go #472",
        &[
            (ADVISORIES, "ghsa_9vcr_p3rj_q5q6"),
            (FOLD, "ghsa_9vcr_p3rj_q5q6"),
            (CLOCKS, "each_authority_counts_once"),
        ],
    ),
    ("9", "GHSA-wqqc-jjcq-vfxm", &[(ADVISORIES, "ghsa_wqqc_jjcq_vfxm"), (FOLD, "ghsa_wqqc_jjcq_vfxm")]),
    (
        "10",
        "CVE-2024-45395, GHSA-cq38-jh5f-37mq, CVE-2023-46737, GHSA-vfp6-jrw2-99g9, CVE-2024-29902, GHSA-88jx-383q-w4qc, \
         CVE-2024-29903, GHSA-95pr-fxf5-86gv, CVE-2023-33957, CVE-2023-33958",
        &[
            (ADVISORIES, "cve_2024_45395_2024_29902_2024_29903_2023_46737_2023_33957"),
            (ADVISORIES, "cve_2024_29903"),
            (GATHER, "ten_thousand_items_of_junk"),
            (GATHER, "large_layers_are_not_read"),
        ],
    ),
    ("10", "CVE-2025-66564, GHSA-4qg8-fj49-pxjh", &[(ADVISORIES, "cve_2026_39984_and_2025_66564")]),
    (
        "11",
        "CVE-2022-47633, CVE-2023-47630, CVE-2023-33959",
        &[(GATHER, "cve_2022_47633_and_2023_47630"), (ADVISORIES, "cve_2023_33959")],
    ),
    (
        "12",
        "CVE-2025-29778, GHSA-46mp-8w32-6g94",
        &[(FOLD, "cve_2025_29778"), (DOCUMENT, "faults_say_where_they_are")],
    ),
    ("13", "policy-controller #1971", &[(ADVISORIES, "item_13")]),
    ("14", "CVE-2024-23332, GHSA-57wx-m636-g3g8", &[(FOLD, "cve_2024_23332")]),
    ("15", "CVE-2023-47122", &[(ADVISORIES, "cve_2023_47122")]),
    ("16", "unsigned annotations", &[(FORGED, "item_16")]),
    (
        "17",
        "a bad proof does not fall through",
        &[(FOLD, "item_17"), (CLOCKS, "that_came_and_fails_is_never_dropped")],
    ),
    ("18", "copied signatures", &[(FORGED, "items_18_and_19"), (FOLD, "item_18")]),
    ("19", "any subject, by its whole digest", &[(FORGED, "items_18_and_19"), (FOLD, "item_19")]),
    (
        "21",
        "key and certificate, several signatures",
        &[(FORGED, "item_21"), (FOLD, "item_21"), (SIGNERS, "gap_9")],
    ),
    (
        "22",
        "JSON that two readers read",
        &[(FORGED, "item_22"), (JSON, "two_readers"), (JSON, "have_one_spelling")],
    ),
    (
        "23",
        "what verdicts are kept under",
        &[(SET, "the_hash_is_of_what_documents_mean"), (SET, "the_hash_is_of_the_host")],
    ),
    (
        "24",
        "cosign#5016, #4649: null where something is expected",
        &[(FORGED, "item_24"), (STATEMENT, "a_statement_that_says_nothing_clear")],
    ),
    ("§8.1", "the window of a log's key", &[(GAPS, "gap_1_the_key"), (GAPS, "gap_1_a_key")]),
    ("§8.2", "downgrade", &[(GAPS, "gap_2")]),
    ("§8.3", "which log", &[(GAPS, "gap_3_an_entry"), (GAPS, "gap_3_the_kind")]),
    ("§8.4", "thresholds", &[(GAPS, "gap_4_nothing"), (GAPS, "gap_4_logs")]),
    ("§8.5", "witnesses", &[(GAPS, "gap_5")]),
    ("§8.6", "RFC 3161", &[(GAPS, "gap_6")]),
    ("§8.7", "a key alone", &[(SIGNERS, "gap_7")]),
    ("§8.8, §8.9", "identity, statement", &[(SIGNERS, "gap_8"), (SIGNERS, "gap_9")]),
    ("§8.10", "refused material", &[(SIGNERS, "gap_10_what"), (SIGNERS, "gap_10_keys")]),
    ("§8.11", "anchors and times", &[(SIGNERS, "gap_11"), (GAPS, "gap_11")]),
];

#[test]
fn every_advisory_has_its_test() {
    for (point, known_by, tests) in TABLE {
        assert!(!tests.is_empty());
        for (text, name) in tests {
            let is_test = text.split("#[test]").skip(1).any(|test| {
                let head = test.split_once('(').map_or(test, |(head, _)| head);
                head.contains("fn ") && head.contains(name)
            });
            assert!(is_test, "{point} ({known_by}): no test is called {name}");
        }
    }
    let points: Vec<&str> = TABLE.iter().map(|(point, ..)| *point).collect();
    for point in (1..=24).filter(|point| *point != 20) {
        assert!(points.contains(&point.to_string().as_str()), "{point}");
    }
}
