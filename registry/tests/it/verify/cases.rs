// SPDX-License-Identifier: AGPL-3.0-only
//! Cases with known answers, from `../shared/cases` beside the project's root or from `STELLA_CASES`: bundles of
//! sigstore-conformance, each as a file and as a digest, and legacy signatures of containers/image in a layout on disk.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::run;
use crate::role::{OCI_MANIFEST, sha256};

const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/\
                      .github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const GITHUB: &str = "https://token.actions.githubusercontent.com";

/// The folder, or nothing with a line that says so. Where `CI=true`, its absence fails.
fn cases() -> Option<PathBuf> {
    let folder = std::env::var_os("STELLA_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases"), PathBuf::from);
    if folder.join("bundle-verify").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no cases in {}", folder.display());
    eprintln!("skipped: no cases in {}", folder.display());
    None
}

#[test]
fn every_bundle_gets_the_answer_of_its_folder() {
    let Some(folder) = cases() else { return };
    let folder = folder.join("bundle-verify");
    let mut names: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    assert!(names.len() > 40, "{} cases", names.len());
    let wrong: Vec<String> = names.iter().flat_map(|case| answers(&folder, case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The wrong answers about one case: by file, by digest, and as a blob.
fn answers(folder: &Path, case: &Path) -> Vec<String> {
    let text = |name: &str| fs::read_to_string(case.join(name)).ok().map(|text| text.trim().to_owned());
    let artifact = case.join("artifact");
    let artifact = if artifact.exists() { artifact } else { folder.join("a.txt") };
    let digest = sha256(fs::read(&artifact).unwrap());
    let file = artifact.to_str().unwrap();
    let path = |name: &str| case.join(name).to_str().unwrap().to_owned();
    let mut flags = vec!["--bundle".to_owned(), path("bundle.sigstore.json")];
    if case.join("key.pub").exists() {
        flags.extend(["--key".to_owned(), path("key.pub")]);
    } else {
        flags.extend([
            "--certificate-identity".to_owned(),
            text("identity").unwrap_or_else(|| BEACON.to_owned()),
        ]);
        flags.extend([
            "--certificate-oidc-issuer".to_owned(),
            text("issuer").unwrap_or_else(|| GITHUB.to_owned()),
        ]);
    }
    if case.join("trusted_root.json").exists() {
        flags.extend(["--trusted-root".to_owned(), path("trusted_root.json")]);
    }
    let is_bad = case.to_str().unwrap().ends_with("_fail");
    let mut wrong = Vec::new();
    for (command, artifact) in [("verify-bundle", file), ("verify-bundle", &digest), ("verify-blob", file)] {
        let mut arguments = vec![command];
        arguments.extend(flags.iter().map(String::as_str));
        arguments.push(artifact);
        let output = run(folder, &arguments);
        let expected: &[i32] = if is_bad { &[2, 6, 7, 8] } else { &[0] };
        let code = output.status.code().unwrap();
        if !expected.contains(&code) || !output.stdout.is_empty() {
            wrong.push(format!("{command} {artifact} {}: {output:?}", case.display()));
        }
        // Of a case that fails for its root alone, that is what is said.
        if case.ends_with("trust-root-tlog-missing-validity-start_fail") {
            assert_eq!(code, 2, "{output:?}");
        }
    }
    wrong
}

/// A directory of containers/image as a layout: the image under `1`, its signatures under the tag that cosign gives them.
fn layout(case: &Path) -> TempDir {
    let layout = TempDir::new().unwrap();
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        (digest, bytes.len())
    };
    let (image, size) = put(&fs::read(case.join("manifest.json")).unwrap());
    let signatures = (1..).map_while(|number| fs::read(case.join(format!("signature-{number}"))).ok());
    let layers = signatures.map(|file| {
        let said: Value = serde_json::from_slice(file.strip_prefix(b"\0sigstore-json\n").unwrap()).unwrap();
        let (payload, length) = put(&STANDARD.decode(said["payload"].as_str().unwrap()).unwrap());
        json!({
            "mediaType": said["mimeType"], "digest": payload, "size": length, "annotations": said["annotations"],
        })
    });
    let layers: Vec<Value> = layers.collect();
    assert!(!layers.is_empty(), "{}", case.display());
    let (config, config_size) = put(b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
    });
    let (signature, signature_size) = put(manifest.to_string().as_bytes());
    let named = |name: &str| json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": image, "size": size, "annotations": named("1")},
        {"mediaType": OCI_MANIFEST, "digest": signature, "size": signature_size,
         "annotations": named(&format!("{}.sig", image.replace(':', "-")))},
    ]});
    fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
    layout
}

#[test]
fn legacy_signatures_in_a_layout_get_their_answers() {
    let Some(folder) = cases() else { return };
    let folder = folder.join("legacy-signatures");
    let keys = ["cosign.pub", "cosign2.pub"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    let key = ["--key", keys[0].as_str(), "--insecure-ignore-tlog"];
    let second = ["--key", keys[1].as_str(), "--insecure-ignore-tlog"];
    let named = [
        "--certificate-identity",
        "mitr@redhat.com",
        "--certificate-oidc-issuer",
        "https://github.com/login/oauth",
    ];
    let other = [
        "--certificate-identity",
        "other@redhat.com",
        "--certificate-oidc-issuer",
        "https://github.com/login/oauth",
    ];
    let table = [
        ("dir-img-cosign-valid", &key[..], 0),
        ("dir-img-cosign-valid", &key[..2], 8),
        ("dir-img-cosign-valid", &named[..], 7),
        ("dir-img-cosign-other-attachment", &key[..], 7),
        ("dir-img-cosign-fulcio-rekor-valid", &named[..], 0),
        ("dir-img-cosign-fulcio-rekor-valid", &other[..], 7),
        ("dir-img-cosign-fulcio-rekor-valid", &key[..], 7),
        ("dir-img-cosign-pki-valid", &named[..], 6),
        // The rest of containers/image's (signature/fixtures), where they lie there too.
        ("dir-img-cosign-valid-2", &key[..], 0),
        ("dir-img-cosign-valid-with-tag", &key[..], 0),
        ("dir-img-cosign-mixed", &key[..], 0),
        ("dir-img-cosign-mixed", &second[..], 7),
        ("dir-img-cosign-modified-manifest", &key[..], 7),
        ("dir-img-cosign-manifest-digest-error", &key[..], 7),
        ("dir-img-cosign-key-rekor-valid", &second[..2], 0),
        ("dir-img-cosign-key-rekor-valid", &second[..], 0),
        ("dir-img-cosign-key-rekor-valid", &key[..], 7),
        ("dir-img-cosign-key-rekor-valid", &named[..], 7),
    ];
    for (number, (case, flags, code)) in table.into_iter().enumerate() {
        let is_more = number >= 8;
        if is_more && !folder.join(case).is_dir() {
            eprintln!("skipped: no {case}");
            continue;
        }
        let layout = layout(&folder.join(case));
        let image = format!("oci-layout:{}:1", layout.path().display());
        let output = run(&folder, &[&["verify", image.as_str()], flags].concat());
        assert_eq!(output.status.code(), Some(code), "{case} {flags:?}: {output:?}");
        if code == 0 {
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            let digest = sha256(fs::read(folder.join(case).join("manifest.json")).unwrap());
            assert_eq!(said[0]["critical"]["image"]["docker-manifest-digest"], digest, "{said}");
            assert_eq!(said[0]["critical"]["type"], "cosign container image signature");
        }
    }
}
