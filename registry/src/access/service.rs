// SPDX-License-Identifier: AGPL-3.0-only
//! Our own tokens: what `/token` gives and `/v2` takes.
//!
//! A token says who its bearer is, so that rules can be asked again at each request, and what it was given for, beyond
//! which it is good for nothing. The keys that sign are rows of the catalog: replicas share them, and one of them makes
//! the next key when the present one is old. A new key is published for a while before it signs, so that whoever keeps
//! our JWKS knows it by then. A token that was checked is known until it expires, or keys or passwords change. Of many
//! who ask for the same pull within a second most get the same token (`access/minted.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use stella_storage::{Clock as _, SigningKey, Store, SystemClock, Timestamp};

use super::claims::{Heard, Marks, Told, ToldToUs};
use super::keys::PublicKeys;
use super::minted;
use super::signer::{Signer, SignerError};
use super::tokens::{self, Expected, TokenError};
use super::{Identity, Scope};
use crate::app::App;
use crate::config::{Algorithm, Token};

/// How long a new key is published before it signs.
const PUBLISHED: Duration = Duration::from_mins(10);
/// How often the keys are read again.
const LOOK: Duration = Duration::from_mins(1);
/// How many random bytes name a token: no two have one name.
const NAME: usize = 12;

/// Mints tokens and checks them.
pub(crate) struct TokenService {
    /// Who we are, as issuer and as audience.
    service: String,
    settings: Token,
    keys: ArcSwap<Keys>,
    /// No other in this process has it.
    number: u64,
}

/// The keys at one time.
struct Keys {
    kids: Vec<String>,
    signer: Signer,
    public: PublicKeys,
    jwks: String,
    /// How often they have changed.
    generation: u64,
}

/// A token as `/token` gives it.
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) issued: Timestamp,
    pub(crate) lifetime: Duration,
}

impl TokenService {
    /// Reads the keys, and makes the first one.
    pub(crate) async fn open(store: &Store, service: &str, settings: &Token) -> anyhow::Result<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let keys = load(store, settings).await?;
        Ok(TokenService {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            service: service.to_owned(),
            settings: settings.clone(),
            keys: ArcSwap::from_pointee(keys),
        })
    }

    /// Takes over keys that others have made, and makes the next one when it is time, for ever.
    pub(crate) async fn watch(self: Arc<Self>, app: Arc<App>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.renew(&app.store).await {
                let error = format!("{error:#}");
                tracing::warn!(error, "cannot renew the keys that sign tokens; those from before sign on");
            }
        }
    }

    async fn renew(&self, store: &Store) -> anyhow::Result<()> {
        let mut keys = load(store, &self.settings).await?;
        let present = self.keys.load();
        if present.kids != keys.kids || present.signer.kid() != keys.signer.kid() {
            tracing::info!(kid = keys.signer.kid(), "the keys that sign tokens changed");
            keys.generation = present.generation + 1;
            self.keys.store(Arc::new(keys));
        }
        Ok(())
    }

    /// Our public keys (RFC 7517).
    pub(crate) fn jwks(&self) -> String {
        self.keys.load().jwks.clone()
    }

    /// Our name in tokens.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn refresh_lifetime(&self) -> Duration {
        self.settings.refresh.into()
    }

    /// A token for `who`, good for `scope`.
    pub(super) fn mint(
        &self,
        who: &Identity,
        scope: &Scope,
        marks: &Marks<'_>,
    ) -> Result<Minted, SignerError> {
        let issued = SystemClock.now();
        let seconds = issued.0 / 1000;
        let lifetime = lifetime(self.settings.lifetime.into(), seconds, who.until);
        let told = Told {
            iss: &self.service,
            sub: &who.subject,
            aud: &self.service,
            exp: seconds + lifetime.as_secs(),
            iat: seconds,
            jti: "",
            access: scope,
            stella: ToldToUs::of(who, marks),
        };
        let keys = self.keys.load();
        // What pushes has a session of its own, which its name makes.
        if scope.only_pulls() {
            minted::again((self.number, keys.generation), told, issued, |told| named(&keys.signer, told))
                .map(|(token, issued)| Minted { token, issued, lifetime })
        } else {
            Ok(Minted { token: named(&keys.signer, told)?, issued, lifetime })
        }
    }

    /// Whose token this is, and until when.
    pub(super) fn check(&self, token: &str, now: Timestamp) -> Result<(Identity, Timestamp), TokenError> {
        let keys = self.keys.load_full();
        let expected = Expected { issuer: &self.service, audience: &self.service };
        let checked = tokens::check(token, &keys.public, &expected, now)?;
        let other = || TokenError::Malformed("it says other things than ours do");
        let heard = serde_json::from_value::<Heard>(Value::Object(checked.claims)).map_err(|_| other())?;
        let identity = heard.identity().ok_or_else(other)?;
        Ok((identity, checked.expires))
    }

    /// How often the keys have changed.
    pub(super) fn generation(&self) -> u64 {
        self.keys.load().generation
    }
}

/// A token that says this, with a name of its own.
fn named(signer: &Signer, told: Told<'_>) -> Result<String, SignerError> {
    let mut name = [0; NAME];
    rand::fill(&mut name).map_err(|_| SignerError::Sign)?;
    let name = BASE64_URL_SAFE_NO_PAD.encode(name);
    signer.sign(&Told { jti: &name, ..told })
}

/// How long a token is good that is made at this second. It ends with what its bearer was proven by.
fn lifetime(usual: Duration, now: u64, until: Option<Timestamp>) -> Duration {
    match until {
        Some(until) => usual.min(Duration::from_secs((until.0 / 1000).saturating_sub(now))),
        None => usual,
    }
}

/// Reads the keys; makes a new one if there is none or the newest is old, and removes those that no token can need.
async fn load(store: &Store, settings: &Token) -> anyhow::Result<Keys> {
    let (now, rotation) = (SystemClock.now(), settings.rotation.into());
    let name = name_of(settings.algorithm);
    let mut rows = store.signing_keys().await?;
    let newest = rows.iter().rev().find(|row| row.algorithm == name);
    if newest.is_none_or(|row| row.created.plus(rotation) <= now) {
        let newest = newest.map(|row| row.kid.clone());
        let algorithm = settings.algorithm;
        let private = tokio::task::spawn_blocking(move || Signer::generate(algorithm)).await??;
        let row = SigningKey {
            kid: Signer::from_pkcs8(algorithm, &private)?.kid().to_owned(),
            algorithm: name.to_owned(),
            private,
            created: now,
            signs_from: if newest.is_none() { now } else { now.plus(PUBLISHED) },
            retired: None,
        };
        // Of several replicas one is the first, and all read what it wrote.
        store.add_signing_key(row, newest.as_deref()).await?;
        rows = store.signing_keys().await?;
    }
    let signing = rows.iter().rev().find(|row| row.algorithm == name && row.signs_from <= now);
    // A clock that was set back finds none that is old enough.
    let signing = signing.or_else(|| rows.iter().find(|row| row.algorithm == name));
    let signing =
        signing.map(|row| row.kid.clone()).ok_or_else(|| anyhow::anyhow!("there is no signing key"))?;
    let mut signers = Vec::new();
    for row in &rows {
        let spare = row.created.plus(rotation).plus(rotation).plus(Duration::from_hours(48));
        if row.kid != signing && spare <= now {
            store.remove_signing_key(&row.kid).await?;
            continue;
        }
        let Some(algorithm) = algorithm_of(&row.algorithm) else { continue };
        // Earlier versions named keys otherwise, and tokens and copies of our JWKS have the name that a key was given.
        signers.push(Signer::from_pkcs8(algorithm, &row.private)?.named(&row.kid));
    }
    let jwks =
        serde_json::json!({ "keys": signers.iter().map(Signer::public_jwk).collect::<Vec<_>>() }).to_string();
    let public = PublicKeys::from_jwks(jwks.as_bytes()).map_err(anyhow::Error::msg)?;
    let kids = signers.iter().map(|signer| signer.kid().to_owned()).collect();
    let signer = signers.into_iter().find(|signer| signer.kid() == signing);
    let signer = signer.ok_or_else(|| anyhow::anyhow!("the signing key cannot be read"))?;
    Ok(Keys { kids, signer, public, jwks, generation: 0 })
}

fn name_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ES256 => "ES256",
        Algorithm::RS256 => "RS256",
    }
}

fn algorithm_of(name: &str) -> Option<Algorithm> {
    [Algorithm::ES256, Algorithm::RS256].into_iter().find(|algorithm| name_of(*algorithm) == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stella_storage::StoreOptions;

    use super::*;
    use crate::access::Proof;
    use crate::access::claims::session_of;

    const US: &str = "registry.example";

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::new(folder.path().join("data"))).await.unwrap();
        (folder, store)
    }

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_key_that_was_stored_signs_by_the_name_that_it_has() {
        let (_folder, store) = store().await;
        let (kid, now) = ("a-thumbprint-that-is-not-shortened-has-43-xx".to_owned(), SystemClock.now());
        let row = SigningKey {
            kid: kid.clone(),
            algorithm: "ES256".to_owned(),
            private: Signer::generate(Algorithm::ES256).unwrap(),
            created: now,
            signs_from: now,
            retired: None,
        };
        store.add_signing_key(row, None).await.unwrap();
        let service = TokenService::open(&store, US, &Token::default()).await.unwrap();
        let (who, scope) = (Identity::anonymous(), Scope::default());
        let minted = service.mint(&who, &scope, &Marks::default()).unwrap();
        assert_eq!(part(&minted.token, 0)["kid"], kid);
        assert!(service.jwks().contains(&kid));
        assert!(service.check(&minted.token, minted.issued).is_ok());
    }

    #[tokio::test]
    async fn tokens_of_this_and_of_earlier_versions_are_taken() {
        let (_folder, store) = store().await;
        let service = TokenService::open(&store, US, &Token::default()).await.unwrap();
        let who = Identity { subject: "alice".to_owned(), proof: Proof::Password, ..Identity::anonymous() };
        let minted = service.mint(&who, &Scope::default(), &Marks::default()).unwrap();
        let claims = part(&minted.token, 1);
        assert!(claims.get("nbf").is_none() && claims["stella"].get("session").is_none(), "{claims}");
        let jti = claims["jti"].as_str().unwrap();
        assert_eq!(jti.len(), 16);
        let (identity, expires) = service.check(&minted.token, minted.issued).unwrap();
        assert_eq!(identity.session, Some(session_of(US, jti)), "what is not said is made again");
        assert_eq!(identity.subject, "alice");
        assert!(minted.issued < expires);

        let seconds = minted.issued.0 / 1000;
        let earlier = json!({
            "iss": US, "sub": "alice", "aud": US, "exp": seconds + 60, "nbf": seconds, "iat": seconds,
            "jti": "89681ee2-b3c5-4212-b39d-bd192cccb09c", "access": [],
            "stella": {"proof": "password", "session": "its own"},
        });
        let earlier = service.keys.load().signer.sign(&earlier).unwrap();
        let (identity, _) = service.check(&earlier, minted.issued).unwrap();
        assert_eq!(identity.session.as_deref(), Some("its own"));
    }

    #[test]
    fn a_token_ends_with_the_id_token_that_it_was_given_for() {
        let (hour, seconds) = (Duration::from_hours(1), Duration::from_secs);
        for (until, expected) in [
            (None, hour),
            (Some(100 + 7200), hour),
            (Some(100 + 300), seconds(300)),
            // Clocks differ: it is taken for a minute more, and so is what is given for it.
            (Some(100 - 30), seconds(0)),
        ] {
            let until = until.map(|second| Timestamp(second * 1000));
            assert_eq!(lifetime(hour, 100, until), expected, "{until:?}");
        }
    }
}
