use serde_json::{Value, json};

use super::*;

fn public_good() -> Value {
    serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap()
}

fn error_of(root: &Value) -> String {
    TrustRoot::from_json("mine", root.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_roots_within_load_and_know_their_logs() {
    let root = TrustRoot::public_good().unwrap();
    assert_eq!(root.name(), "public-good");
    assert!(root.log_urls().any(|url| url == "https://rekor.sigstore.dev"));
    assert!(root.authority_urls().any(|url| url == "https://fulcio.sigstore.dev"));
    assert!(root.certificate_log_urls().count() > 0 && root.timestamp_urls().count() > 0);
    assert_ne!(root.hash(), TrustRoot::staging().unwrap().hash());
}

#[test]
fn an_entry_that_cannot_be_used_is_named() {
    for (list, pointer) in [
        ("tlogs", "/tlogs/0/publicKey/validFor"),
        ("ctlogs", "/ctlogs/0/publicKey/validFor"),
        ("certificateAuthorities", "/certificateAuthorities/0/validFor"),
        ("timestampAuthorities", "/timestampAuthorities/0/validFor"),
    ] {
        for bad in
            [json!(null), json!({}), json!({"start": null}), json!({"start": "soon"}), json!({"start": 1})]
        {
            let mut root = public_good();
            *root.pointer_mut(pointer).unwrap() = bad.clone();
            let error = error_of(&root);
            assert!(error.contains(&format!("mine: {list}[0]")), "{bad}: {error}");
        }
        let mut root = public_good();
        *root.pointer_mut(pointer).unwrap() =
            json!({"start": "2024-01-01T00:00:00Z", "end": "2023-01-01T00:00:00Z"});
        assert!(error_of(&root).contains(&format!("{list}[0]")));
    }
    for (pointer, bad) in [
        ("/tlogs/0/publicKey/rawBytes", json!("AAAA")),
        ("/tlogs/0/logId/keyId", json!("AAAA")),
        ("/tlogs/0/baseUrl", json!("https://")),
        ("/ctlogs/0/publicKey/rawBytes", json!("AAAA")),
        ("/certificateAuthorities/0/certChain/certificates/0/rawBytes", json!("AAAA")),
        ("/certificateAuthorities/0/certChain/certificates", json!([])),
        ("/timestampAuthorities/0/certChain/certificates", json!([])),
    ] {
        let mut root = public_good();
        *root.pointer_mut(pointer).unwrap() = bad;
        let error = error_of(&root);
        assert!(error.contains("[0]"), "{pointer}: {error}");
    }
}

#[test]
fn what_is_no_trust_root_is_refused_as_a_whole() {
    let mut twice = public_good();
    let log = twice["tlogs"][0].clone();
    twice["tlogs"].as_array_mut().unwrap().push(log);
    assert!(error_of(&twice).contains("duplicate"));
    let mut unknown = public_good();
    unknown["timestampAuthorites"] = json!([]);
    assert!(error_of(&unknown).contains("timestampAuthorites"));
    let mut other = public_good();
    other["mediaType"] = json!("application/json");
    assert!(error_of(&other).contains("mediaType"));
    let text = SIGSTORE_PRODUCTION_TRUSTED_ROOT.replacen("\"tlogs\"", "\"tlogs\": [], \"tlogs\"", 1);
    assert!(TrustRoot::from_json("mine", text.as_bytes()).unwrap_err().to_string().contains("twice"));
    assert!(TrustRoot::from_json("mine", b"").is_err());
}

#[test]
fn one_name_means_one_root() {
    let mut trust = Trust::new();
    trust.add_root(TrustRoot::public_good().unwrap()).unwrap();
    trust.add_root(TrustRoot::public_good().unwrap()).unwrap();
    assert_eq!(trust.roots().len(), 1);
    let other = TrustRoot::from_json("public-good", SIGSTORE_STAGING_TRUSTED_ROOT.as_bytes()).unwrap();
    assert!(trust.add_root(other).is_err());
}
