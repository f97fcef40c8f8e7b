// SPDX-License-Identifier: AGPL-3.0-only
//! An issuer of ID tokens as GitLab has it: it signs who a job is, and publishes its keys. They are made for one
//! test and gone with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The number of the next job.
static JOBS: AtomicU32 = AtomicU32::new(1);

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with SHA-256, as GitLab does.
    Rs256,
    /// ECDSA on P-256.
    Es256,
}

/// An issuer with a key for each algorithm.
#[derive(Debug)]
pub struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
}

impl Issuer {
    /// What its tokens have as `iss`.
    pub const NAME: &str = "https://gitlab.example";
    /// Whom its tokens are for.
    pub const AUDIENCE: &str = "https://registry.example";

    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), p256 }
    }

    /// Its public keys (RFC 7517).
    pub fn jwks(&self) -> Value {
        let (n, e) = rsa_numbers(self.rsa.public_key().as_ref());
        // An uncompressed point (SEC 1, 2.3.3).
        let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [
            {"kty": "RSA", "kid": Algorithm::Rs256.kid(), "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(e)},
            {"kty": "EC", "kid": Algorithm::Es256.kid(), "use": "sig", "crv": "P-256", "x": encode(x), "y": encode(y)},
        ]})
    }

    /// What the issuer says of a job of `project` on its protected branch.
    #[expect(clippy::disallowed_methods, reason = "a token is valid now, by the registry's own clock")]
    pub fn claims(project: &str) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let job = JOBS.fetch_add(1, Ordering::Relaxed);
        let namespace = project.rsplit_once('/').map_or(project, |(namespace, _)| namespace);
        json!({
            "iss": Self::NAME, "aud": Self::AUDIENCE,
            "sub": format!("project_path:{project}:ref_type:branch:ref:main"),
            "project_id": "42", "project_path": project, "project_visibility": "private",
            "namespace_id": "7", "namespace_path": namespace,
            "user_id": "3", "user_login": "sam", "user_email": "sam@gitlab.example",
            "pipeline_id": "1001", "pipeline_source": "push", "job_id": job.to_string(),
            "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
            "runner_environment": "self-hosted", "sha": "0123456789abcdef0123456789abcdef01234567",
            "ci_config_ref_uri": format!("gitlab.example/{project}//.gitlab-ci.yml@refs/heads/main"),
            "jti": format!("job-{job}"), "iat": now, "nbf": now - 5, "exp": now + 3600,
        })
    }

    /// A token that says `claims` (RFC 7515).
    pub fn sign(&self, algorithm: Algorithm, claims: &Value) -> String {
        let (alg, random) = (algorithm.name(), SystemRandom::new());
        let header = json!({"alg": alg, "kid": algorithm.kid(), "typ": "JWT"});
        let said =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = match algorithm {
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, said.as_bytes(), &mut signature).unwrap();
                signature
            }
            Algorithm::Es256 => self.p256.sign(&random, said.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{said}.{}", encode(&signature))
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    fn kid(self) -> &'static str {
        match self {
            Self::Rs256 => "rsa-1",
            Self::Es256 => "ec-1",
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The modulus and the exponent of a key of 2048 bits, which is a sequence of these two (RFC 8017, A.1.1).
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let rest = der.strip_prefix(b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00").unwrap();
    let (modulus, rest) = rest.split_at(256);
    (modulus, rest.strip_prefix(b"\x02\x03").unwrap())
}
