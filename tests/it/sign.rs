// SPDX-License-Identifier: AGPL-3.0-only
//! `stella sign`, `sign-blob`, `attest` and `generate-key-pair` beside the real cosign, versions 2 and 3, without a
//! network: what one signs the other verifies, keys work both ways, and signatures of both stand side by side.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use stella_tests::{Bench, Client, Content, Image, Tool, Transport, Workshop};

/// Asks no log, and no network for roots: the file is empty.
const OFFLINE: &str = "--insecure-ignore-tlog=true --private-infrastructure --trusted-root root.json";
/// What cosign says of what nobody signed.
const UNSIGNED: [&str; 3] = ["no signatures", "no matching", "no valid bundles"];
const PASSWORD: &str = "a p\u{e4}ssword with a blank";
/// The flags that make cosign's commands of one version write and read one form, and stella's to the same end.
const FORMS: [Form; 4] = [
    Form { client: Client::Cosign, is_bundle: true, verify: "--new-bundle-format" },
    Form { client: Client::Cosign, is_bundle: false, verify: "--new-bundle-format=false" },
    Form { client: Client::Cosign2, is_bundle: true, verify: "--new-bundle-format" },
    Form { client: Client::Cosign2, is_bundle: false, verify: "" },
];

#[derive(Clone, Copy, Debug)]
struct Form {
    client: Client,
    is_bundle: bool,
    verify: &'static str,
}

impl Form {
    fn sign(self) -> &'static str {
        if self.is_bundle { "--new-bundle-format" } else { "--new-bundle-format=false" }
    }

    /// How cosign's `what` is told to ask nobody.
    fn verify(self, what: &str) -> String {
        let Form { verify, .. } = self;
        format!("{what} --key cosign.pub {OFFLINE} {verify}")
    }
}

struct Signing {
    bench: Bench,
    stella: Tool,
}

impl Signing {
    #[track_caller]
    fn enter() -> Option<Self> {
        let bench = Bench::with(&[Client::Cosign, Client::Cosign2], Transport::Plain)?;
        let stella = bench.stella().env("COSIGN_PASSWORD", PASSWORD);
        stella.run("generate-key-pair");
        bench.tool(Client::Cosign).run("trusted-root create --out root.json");
        Some(Self { bench, stella })
    }

    fn cosign(&self, client: Client) -> Tool {
        self.bench.tool(client).env("COSIGN_PASSWORD", PASSWORD)
    }

    /// Pushes an image, and gives its name by digest.
    fn push(&self, repository: &str, content: &Content, tag: &str) -> String {
        self.bench.server.repository(repository).push(content, tag);
        format!("{}/{repository}@{}", self.bench.server.host(), content.digest())
    }
}

/// Without a registry.
struct Desk {
    shop: Workshop,
    stella: Tool,
}

impl Desk {
    #[track_caller]
    fn enter() -> Option<Self> {
        let shop = Workshop::with(&[Client::Cosign, Client::Cosign2])?;
        let stella = shop.stella().env("COSIGN_PASSWORD", PASSWORD);
        stella.run("generate-key-pair");
        shop.write("file", "hello\n");
        Some(Self { shop, stella })
    }

    fn cosign(&self, client: Client) -> Tool {
        let program = if client == Client::Cosign { "cosign" } else { "cosign2" };
        self.shop.program(program)
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.shop.path(name)).unwrap().permissions().mode() & 0o777
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn cosign_verifies_images_and_indexes_that_stella_signed() {
    let Some(signing) = Signing::enter() else { return };
    for (number, form) in FORMS.into_iter().enumerate() {
        let repository = format!("app{number}");
        let children = [Image::sample(1).build(), Image::sample(2).architecture("arm64").build()];
        let index = signing.push(&repository, &Content::index(&children), "1");
        let other = signing.push(&repository, &Image::sample(3).build(), "2");
        let stella =
            |what: &str| signing.stella.run(&format!("sign --key cosign.key {} {what}", form.sign()));
        let cosign = signing.cosign(form.client);
        let verify = |what: &str| cosign.try_run(&format!("{} {what}", form.verify("verify")));
        verify(&index).must_fail_saying(&UNSIGNED);

        // By a tag; only the index, then all below it.
        let by_tag = format!("{}/{repository}:1", signing.bench.server.host());
        stella(&format!("--allow-http-registry -a build=7 -a by=stella {by_tag}"));
        let said = String::from_utf8(verify(&format!("-a build=7 {index}")).must_succeed().stdout).unwrap();
        let said = json(&said);
        let image = &said[0]["critical"]["image"]["docker-manifest-digest"];
        assert_eq!(*image, index.rsplit_once('@').unwrap().1, "{form:?}: {said}");
        let annotations = &said[0]["optional"];
        // cosign 2 leaves the annotations of bundles aside.
        if !(form.is_bundle && form.client == Client::Cosign2) {
            assert_eq!(annotations["by"], "stella", "{form:?}: {said}");
            verify(&format!("-a build=8 {index}")).must_fail_saying(&[
                "no matching",
                "annotation",
                "missing",
            ]);
        }
        let child =
            |content: &Content| format!("{}/{repository}@{}", signing.bench.server.host(), content.digest());
        verify(&child(&children[1])).must_fail_saying(&UNSIGNED);
        stella(&format!("-r --tlog-upload=false -y {index}"));
        for content in &children {
            verify(&child(content)).must_succeed();
        }
        verify(&index).must_succeed();
        verify(&other).must_fail_saying(&UNSIGNED);
    }
}

#[test]
fn signatures_of_both_stand_side_by_side_below_a_tag() {
    let Some(signing) = Signing::enter() else { return };
    let image = signing.push("app", &Image::sample(1).build(), "1");
    let cosign = signing.cosign(Client::Cosign2);
    let stella =
        || signing.stella.try_run(&format!("sign --key cosign.key --new-bundle-format=false {image}"));
    let count = || {
        let verified = cosign.run(&format!("verify --key cosign.pub --insecure-ignore-tlog {image}"));
        json(&verified).as_array().unwrap().len()
    };
    cosign.run(&format!("sign -y --key cosign.key --tlog-upload=false -a by=cosign {image}"));
    assert_eq!(count(), 1);
    stella().must_succeed();
    assert_eq!(count(), 2);
    // What this key has signed already is not signed again, whoever of both did it.
    assert!(stella().must_succeed().said().contains("had been signed"));
    cosign.run(&format!("sign -y --key cosign.key --tlog-upload=false {image}"));
    assert_eq!(count(), 2);
    let again = format!("sign --key cosign.key --new-bundle-format=false -a by=cosign {image}");
    assert!(signing.stella.try_run(&again).must_succeed().said().contains("had been signed"));
    // Another key adds its own.
    signing.stella.run("generate-key-pair --output-key-prefix other");
    signing.stella.run(&format!("sign --key other.key --new-bundle-format=false {image}"));
    cosign.run(&format!("verify --key other.pub --insecure-ignore-tlog {image}"));
    assert_eq!(count(), 2);
}

#[test]
fn cosign_verifies_attestations_that_stella_signed() {
    let Some(signing) = Signing::enter() else { return };
    let predicates = [
        ("custom", "any text\n"),
        ("cyclonedx", r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "n": 1.5}"#),
        ("spdxjson", r#"{"spdxVersion": "SPDX-2.3", "name": "a<b>&c"}"#),
        ("spdx", "SPDXVersion: SPDX-2.3\n"),
        ("https://example.test/checked", r#"{"by": ["us"]}"#),
    ];
    for (number, form) in FORMS.into_iter().enumerate() {
        let cosign = signing.cosign(form.client);
        for (place, (kind, predicate)) in predicates.into_iter().enumerate() {
            // A predicate that is a text is read by cosign 2 below a tag alone, its own too.
            if kind == "spdx" && (form.is_bundle || form.client == Client::Cosign) {
                continue;
            }
            let image = signing.push(&format!("app{number}/{place}"), &Image::sample(1).build(), "1");
            signing.bench.write("predicate", predicate);
            let verify = form.verify(&format!("verify-attestation --type {kind}"));
            cosign.fails(&format!("{verify} {image}"));
            let attest =
                format!("attest --key cosign.key {} --type {kind} --predicate predicate", form.sign());
            signing.stella.run(&format!("{attest} {image}"));
            let said = cosign.run(&format!("{verify} {image}"));
            assert!(said.contains("\"payload\":"), "{form:?} {kind}: {said}");
        }
    }
}

#[test]
fn cosign_verifies_files_that_stella_signed() {
    let Some(desk) = Desk::enter() else { return };
    desk.shop.write("other", "hallo\n");
    let stella = |what: &str| desk.stella.run(&format!("sign-blob --key cosign.key {what} file"));
    desk.cosign(Client::Cosign).run("trusted-root create --out root.json");
    stella("--bundle new.json");
    stella("--bundle old.json --new-bundle-format=false");
    stella("--output-signature file.sig");
    // A root is only for bundles of the new form.
    let (old, new) = ("--new-bundle-format=false", "--new-bundle-format --trusted-root root.json");
    let verify = "verify-blob --key cosign.pub --insecure-ignore-tlog=true";
    for client in [Client::Cosign, Client::Cosign2] {
        let cosign = desk.cosign(client);
        for evidence in [
            format!("--bundle new.json {new}"),
            format!("--bundle old.json {old}"),
            format!("--signature file.sig {old}"),
        ] {
            cosign.run(&format!("{verify} {evidence} file"));
            cosign.fails(&format!("{verify} {evidence} other"));
        }
    }
    assert_eq!((desk.mode("new.json"), desk.mode("file.sig")), (0o600, 0o600));
}

#[test]
fn encrypted_keys_work_both_ways() {
    let Some(desk) = Desk::enter() else { return };
    for client in [Client::Cosign, Client::Cosign2] {
        for (number, password) in ["", PASSWORD].into_iter().enumerate() {
            let name = format!("{}{number}", if client == Client::Cosign { "three" } else { "two" });
            let cosign = desk.cosign(client).env("COSIGN_PASSWORD", password);
            let stella = desk.shop.stella().env("COSIGN_PASSWORD", password);
            cosign.run(&format!("generate-key-pair --output-key-prefix {name}"));
            stella.run(&format!("generate-key-pair --output-key-prefix ours-{name}"));
            stella.run(&format!("sign-blob --key {name}.key --output-signature {name}.sig file"));
            let verify = "verify-blob --insecure-ignore-tlog=true --new-bundle-format=false";
            cosign.run(&format!("{verify} --key {name}.pub --signature {name}.sig file"));
            // cosign reads ours: it tells the public half, which is the one that we told.
            let public = cosign.run_for_bytes(&format!("public-key --key ours-{name}.key"));
            assert_eq!(public, desk.shop.read(&format!("ours-{name}.pub")));
            let wrong = desk.cosign(client).env("COSIGN_PASSWORD", "wrong");
            wrong.fails(&format!("public-key --key ours-{name}.key"));
        }
    }
}

#[test]
fn plain_keys_of_other_kinds_sign_for_cosign() {
    let Some(signing) = Signing::enter() else { return };
    signing.bench.write("file", "hello\n");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/src/private_key/fixtures");
    for kind in ["p256-sec1", "p384", "ed25519", "rsa"] {
        for end in ["key", "pub"] {
            let name = format!("{kind}.{end}");
            signing.bench.write(&name, fs::read(format!("{fixtures}/{name}")).unwrap());
        }
        signing.stella.run(&format!("sign-blob --key {kind}.key --bundle {kind}.json file"));
        let image = signing.push(&format!("app-{kind}"), &Image::sample(1).build(), "1");
        signing.stella.run(&format!("sign --key {kind}.key {image}"));
        let cosign = signing.cosign(Client::Cosign);
        // cosign signs with SHA-384 too, and wants to be told of it when it verifies.
        let hash = if kind == "p384" { "--signature-digest-algorithm sha384" } else { "" };
        let verify = format!("--key {kind}.pub {OFFLINE} {hash}");
        cosign.run(&format!("verify-blob {verify} --bundle {kind}.json file"));
        cosign.run(&format!("verify {verify} {image}"));
    }
}

#[test]
fn keys_are_private_and_nothing_is_replaced_unasked() {
    let Some(desk) = Desk::enter() else { return };
    let (shop, stella) = (&desk.shop, &desk.stella);
    assert_eq!((desk.mode("cosign.key"), desk.mode("cosign.pub")), (0o600, 0o644));
    let before = shop.read("cosign.key");
    let (code, said) = stella.failure("generate-key-pair");
    assert!(code == 2 && said.contains("cosign.key and cosign.pub would be replaced"), "{said}");
    fs::remove_file(shop.path("cosign.key")).unwrap();
    assert_eq!(stella.failure("generate-key-pair").0, 2, "a public key is not replaced either");
    shop.write("cosign.key", &before);
    let left: Vec<_> = fs::read_dir(shop.folder()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    // The password from a pipe, to the last byte.
    let piped = shop.write("piped", "secret");
    let unset = shop.stella();
    unset.clone().input(&piped).run("generate-key-pair --output-key-prefix piped");
    unset.env("COSIGN_PASSWORD", "secret").run("sign-blob --key piped.key --output-signature s file");
}

#[test]
fn what_cannot_be_signed_is_said_with_its_exit_code() {
    let Some(signing) = Signing::enter() else { return };
    let (bench, stella) = (&signing.bench, &signing.stella);
    let host = bench.server.host();
    let image = signing.push("app", &Image::sample(1).build(), "1");
    signing.cosign(Client::Cosign).run("signing-config create --out none.json");
    let log =
        r#"{"url":"https://rekor.test","majorApiVersion":1,"validFor":{"start":"2020-01-01T00:00:00Z"}}"#;
    let media_type = "application/vnd.dev.sigstore.signingconfig.v0.2+json";
    bench.write("log.json", format!(r#"{{"mediaType":"{media_type}","rekorTlogUrls":[{log}]}}"#));
    bench.write("predicate", "no JSON");
    bench.write("file", "hello\n");
    stella.run(&format!("sign --key cosign.key --signing-config none.json {image}"));
    for (code, arguments, words) in [
        (2, format!("sign --key cosign.key --tlog-upload {image}"), "not supported yet"),
        (2, format!("sign --key cosign.key --tlog-upload=true {image}"), "not supported yet"),
        (2, format!("sign --key cosign.key --signing-config log.json {image}"), "rekorTlogUrls"),
        (2, format!("sign --key cosign.key --signing-config file {image}"), "file"),
        (2, format!("sign --key cosign.key --trusted-root none.json {image}"), "not a trusted root"),
        (2, format!("sign --key missing.key {image}"), "missing.key"),
        (2, format!("sign --key cosign.pub {image}"), "public key"),
        (2, format!("sign --key awskms:///x {image}"), "awskms"),
        (2, format!("sign --key cosign.key -a x {image}"), "NAME=VALUE"),
        (2, format!("sign {image}"), "--key"),
        (2, "sign --key cosign.key https://x".to_owned(), "not an image's name"),
        (4, format!("sign --key cosign.key {host}/app:none"), "none"),
        (4, format!("attest --key cosign.key --predicate predicate {host}/none:1"), "none"),
        (6, format!("attest --key cosign.key --type cyclonedx --predicate predicate {image}"), "JSON"),
        (2, format!("attest --key cosign.key --type sbom --predicate predicate {image}"), "--type"),
        (2, "sign-blob --key cosign.key file".to_owned(), "--bundle"),
        (2, "sign-blob --key cosign.key --bundle b --output-signature s file".to_owned(), "--bundle"),
        (2, "sign-blob --key cosign.key --bundle b nothing".to_owned(), "nothing"),
    ] {
        let (found, said) = stella.failure(&arguments);
        assert!(found == code && said.contains(words), "{arguments}: {found}: {said}");
    }
    let wrong = bench.stella().env("COSIGN_PASSWORD", "not this one");
    let (code, said) = wrong.failure(&format!("sign --key cosign.key {image}"));
    assert!(code == 2 && said.contains("password") && !said.contains("not this one"), "{said}");
    let key = String::from_utf8(bench.read("cosign.key")).unwrap();
    stella.clone().env("THE_KEY", key).run(&format!("sign --key env://THE_KEY {image}"));
}
