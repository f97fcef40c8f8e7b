// SPDX-License-Identifier: AGPL-3.0-only
//! What others wrote costs a bounded time and at most 64 MiB, in the program as it runs: junk by the thousand, large and
//! deep content, expressions and rules that never end.

use std::fs::{self, File};
use std::process::Output;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Desk, KEY, program};
use crate::client::{Wire, put};
use crate::role::{OCI_MANIFEST, sha256};

const MOST_MEMORY: u64 = 64 << 20;
/// Of a debug build on a busy machine; it is bounded, that is what counts.
const MOST_TIME: Duration = Duration::from_mins(3);
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

impl Desk {
    /// Runs a command, which must end in time, without more memory than there is to be.
    #[track_caller]
    pub(super) fn bounded(&self, arguments: &str) -> Output {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let mut command = program(self.folder.path(), &arguments);
        let began = Instant::now();
        // To files: a pipe that nobody reads would hold the program up.
        let (out, err) = (self.path("stdout"), self.path("stderr"));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        let mut most = 0;
        let status = loop {
            most = most.max(peak(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < MOST_TIME, "{arguments:?} goes on: {:?}", child.kill());
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(most > 0 && most <= MOST_MEMORY, "{arguments:?}: {} KiB", most >> 10);
        let told: String = arguments.join(" ").chars().take(120).collect();
        eprintln!("{} KiB, {:?}: {told}", most >> 10, began.elapsed());
        Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
    }

    /// One that must fail with this code. Gives what it said.
    #[track_caller]
    pub(super) fn stopped(&self, arguments: &str, code: i32) -> String {
        let output = self.bounded(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// An image with a signature by `cosign.key`, in the layout `saved`.
    fn saved(&self) -> Layout<'_> {
        let [image, digest] = self.push("app", "1");
        self.ok(&format!("sign --key cosign.key {image}"));
        self.ok(&format!("copy --referrers {image} oci:saved:1"));
        Layout { desk: self, image: digest.split_once('@').unwrap().1.to_owned() }
    }
}

/// The most memory that a process, or one that it started, has had at once.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let own = own.map_or(0, |kilobytes| kilobytes.trim().parse::<u64>().unwrap() << 10);
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().map(|child| peak(child.parse().unwrap())).collect::<Vec<_>>()
    });
    children.fold(own, u64::max)
}

/// A layout on disk, into which anybody may have written.
struct Layout<'d> {
    desk: &'d Desk,
    image: String,
}

impl Layout<'_> {
    fn put(&self, bytes: &[u8]) -> (String, usize) {
        let digest = sha256(bytes);
        let path = format!("saved/blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        self.desk.write(&path, bytes);
        (digest, bytes.len())
    }

    /// A manifest that says to have evidence about the image.
    fn refer(&self, layer: &[u8], note: &str) {
        let layer = self.put(layer);
        self.put(referring(&self.image, (&layer.0, layer.1), note).to_string().as_bytes());
    }
}

fn referring(image: &str, layer: (&str, usize), note: &str) -> Value {
    let empty = "application/vnd.oci.empty.v1+json";
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": BUNDLE,
        "config": {"mediaType": empty, "digest": sha256("{}"), "size": 2},
        "layers": [{"mediaType": BUNDLE, "digest": layer.0, "size": layer.1}],
        "subject": {"mediaType": OCI_MANIFEST, "digest": image, "size": 1},
        "annotations": {"note": note},
    })
}

/// A bundle about the image with a signature that is of nobody; `more` is its predicate.
fn junk(image: &str, kind: &str, more: &str) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.trim_start_matches("sha256:")}}],
        "predicateType": kind, "predicate": {"x": more},
    });
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(statement.to_string()),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": STANDARD.encode(more.get(..64).unwrap_or(more))}],
        },
    })
    .to_string()
    .into_bytes()
}

const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

#[test]
fn ten_thousand_items_of_junk_in_a_layout_hide_no_signature() {
    let desk = Desk::new();
    let layout = desk.saved();
    for number in 0..9_999 {
        let layer = match number % 4 {
            0 => format!("junk {number}").into_bytes(),
            1 => format!("{{\"mediaType\": \"{BUNDLE}\", \"x\": {number}}}").into_bytes(),
            2 => junk(&layout.image, SIGNED, &number.to_string()),
            _ => junk(&sha256("other"), SIGNED, &number.to_string()),
        };
        layout.refer(&layer, &number.to_string());
    }
    let good = desk.bounded(&format!("verify {KEY} oci-layout:saved:1"));
    assert!(good.status.success() && !good.stdout.is_empty(), "{good:?}");
    let said = desk.stopped("verify --key other.pub --insecure-ignore-tlog oci-layout:saved:1", 7);
    assert!(said.contains("no signature") && said.len() < 2_000, "{said}");
}

/// How many at a server, where each is a request: a thousand, or `STELLA_JUNK=9999` for the long run.
fn at_a_server() -> usize {
    std::env::var("STELLA_JUNK").map_or(1_000, |count| count.parse().unwrap())
}

#[test]
fn referrers_by_the_thousand_at_a_server_hide_no_signature() {
    let desk = Desk::new();
    let [image, digest] = desk.push("app", "1");
    desk.ok(&format!("sign --key cosign.key {image}"));
    let digest = digest.split_once('@').unwrap().1;
    let repo = desk.server.repo("app");
    repo.push_blob("{}");
    let layers: Vec<(String, usize)> = (0..100)
        .map(|number| junk(digest, SIGNED, &number.to_string()))
        .map(|layer| (repo.push_blob(&layer), layer.len()))
        .collect();
    let mut wire = Wire::open(desk.server.address());
    for number in 0..at_a_server() {
        let layer = &layers[number % layers.len()];
        let manifest = referring(digest, (&layer.0, layer.1), &number.to_string()).to_string();
        let pushed = put(repo.manifest(&sha256(&manifest))).header("Content-Type", OCI_MANIFEST);
        pushed.body(manifest).on(&mut wire).is(201);
    }
    let good = desk.bounded(&format!("verify {KEY} {image}"));
    assert!(good.status.success() && !good.stdout.is_empty(), "{good:?}");
    desk.stopped(&format!("verify --key other.pub --insecure-ignore-tlog {image}"), 7);
}

#[test]
fn large_junk_is_read_up_to_a_sum_and_not_kept() {
    let desk = Desk::new();
    let layout = desk.saved();
    let attested = "https://spdx.dev/Document";
    for number in 0..5 {
        let more = format!("{number}{}", "x".repeat(11 << 20));
        layout.refer(&junk(&layout.image, attested, &more), "large");
        layout.refer(&vec![b'0' + number; 15 << 20], "larger");
        layout.refer(&vec![b'0' + number; 40 << 20], "more than is looked at");
    }
    // A manifest is small too, or it is not looked at; annotations are kept up to a sum.
    for number in 0..60 {
        let layer = layout.put(format!("{{\"critical\": {number}}}").as_bytes());
        let mut manifest = referring(&layout.image, (&layer.0, layer.1), "annotated");
        manifest["artifactType"] = json!("application/vnd.dev.cosign.artifact.sig.v1+json");
        manifest["layers"][0]["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
        let signature = format!("{number}{}", "A".repeat(900 << 10));
        manifest["layers"][0]["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
        layout.put(manifest.to_string().as_bytes());
    }
    let good = desk.bounded(&format!("verify {KEY} oci-layout:saved:1"));
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stderr).contains("was not read"), "{good:?}");
    desk.stopped("verify --key other.pub --insecure-ignore-tlog oci-layout:saved:1", 7);
}

#[test]
fn a_file_of_100_mib_is_not_read() {
    let desk = Desk::new();
    File::create(desk.path("large")).unwrap().set_len(100 << 20).unwrap();
    let named = "--certificate-identity a --certificate-oidc-issuer b";
    for (arguments, code) in [
        (format!("verify-bundle --bundle large {KEY} file"), 6),
        (format!("verify-blob --bundle large {KEY} file"), 6),
        (format!("verify-blob --signature large {KEY} file"), 6),
        ("verify-bundle --bundle file --key large file".to_owned(), 2),
        (format!("verify-bundle --bundle file --trusted-root large {named} file"), 2),
        (format!("verify-attestation {KEY} --type custom --policy large r.test/a"), 2),
        ("policy check large".to_owned(), 2),
        ("policy check --trusted-root large file".to_owned(), 2),
    ] {
        desk.stopped(&arguments, code);
    }
}

#[test]
fn deep_json_is_refused_wherever_it_stands() {
    let desk = Desk::new();
    let deep = "[".repeat(2_000_000);
    desk.write("deep", format!("{{\"mediaType\":{deep}"));
    desk.stopped(&format!("verify-bundle --bundle deep {KEY} file"), 6);
    desk.stopped(&format!("verify-blob --signature deep {KEY} file"), 6);
    desk.stopped("policy check --trusted-root deep file", 2);
    desk.stopped("policy check deep", 2);
    // In a statement, in a manifest, and in the list of a layout.
    let layout = desk.saved();
    let mut bundle: Value = serde_json::from_slice(&junk(&layout.image, SIGNED, "x")).unwrap();
    bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(&deep[..700_000]));
    layout.refer(bundle.to_string().as_bytes(), "deep");
    layout.put(format!("{{\"subject\":{}", &deep[..900_000]).as_bytes());
    let good = desk.bounded(&format!("verify {KEY} oci-layout:saved:1"));
    assert!(good.status.success(), "{good:?}");
    desk.write("saved/index.json", format!("{{\"manifests\":{deep}"));
    desk.stopped(&format!("verify {KEY} oci-layout:saved:1"), 6);
}

#[test]
fn expressions_that_explode_are_refused_and_none_goes_back() {
    let desk = Desk::new();
    let mut bombs =
        ["a{1000}{1000}{1000}", r"(\w{900}){900}", "((((a{99}){99}){99}){99})"].map(str::to_owned).to_vec();
    bombs.push("(".repeat(900));
    bombs.push("a".repeat(100_000));
    for bomb in bombs {
        for flags in [
            format!("--certificate-identity-regexp {bomb} --certificate-oidc-issuer b"),
            format!("--certificate-identity a --certificate-oidc-issuer-regexp {bomb}"),
        ] {
            desk.stopped(&format!("verify {flags} r.test/a"), 2);
        }
        let text = format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: a}}\nspec:\n  images: \
             [{{glob: \"**\"}}]\n  authorities:\n  - keyless:\n      identities:\n      - issuer: a\n        \
             subjectRegExp: '{bomb}'\n"
        );
        desk.write("p.yaml", text);
        assert!(desk.stopped("policy check p.yaml", 2).contains("subjectRegExp"), "{bomb}");
    }
    // Those that go back elsewhere are taken: here they match in linear time (tests of `pattern`).
    desk.write("junk", "{}");
    for slow in ["(a+)+b", "(a|a)*b", "(.*)(.*)(.*)(.*)b"] {
        let named = format!("--certificate-identity-regexp {slow} --certificate-oidc-issuer b");
        desk.stopped(&format!("verify-bundle --bundle junk {named} file"), 6);
    }
}
