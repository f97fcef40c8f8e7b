// SPDX-License-Identifier: AGPL-3.0-only
//! Our own tokens: what `/token` gives and `/v2` takes.
//!
//! A token says who its bearer is, so that rules can be asked again at each request, and what it was given for, beyond
//! which it is good for nothing. The keys that sign are rows of the catalog: replicas share them, and one of them makes
//! the next key when the present one is old. A new key is published for a while before it signs, so that whoever keeps
//! our JWKS knows it by then. A token that was checked is known until it expires or the keys change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stella_storage::{Clock as _, SigningKey, Store, SystemClock, Timestamp};
use uuid::Uuid;

use super::keys::PublicKeys;
use super::signer::{Signer, SignerError};
use super::tokens::{self, Expected, TokenError};
use super::{Action, Claim, Grant, Identity, Proof, Scope};
use crate::app::App;
use crate::config::{Algorithm, Token};

/// How long a new key is published before it signs.
const PUBLISHED: Duration = Duration::from_mins(10);
/// How often the keys are read again.
const LOOK: Duration = Duration::from_mins(1);

/// Mints tokens and checks them.
pub(crate) struct TokenService {
    /// Who we are, as issuer and as audience.
    service: String,
    settings: Token,
    keys: ArcSwap<Keys>,
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

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    /// The Docker claim: what it is for.
    access: Vec<Entry>,
    /// What is between us and ourselves.
    stella: Private,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Who the bearer is, for the rules.
#[derive(Default, Serialize, Deserialize)]
struct Private {
    proof: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// Of the password, or of the secret: when it changes the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    own: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grants: Option<Vec<Given>>,
    /// Of the repositories that the token names: where its bearer may see what is not released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    preview: Vec<String>,
    /// Where `push` means signatures alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sign: Vec<String>,
    session: String,
}

#[derive(Serialize, Deserialize)]
struct Given {
    actions: Vec<Action>,
    repositories: Vec<String>,
}

/// What a token tells beside its scope, decided by who mints it.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) preview: Vec<String>,
    pub(super) sign: Vec<String>,
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
        let keys = load(store, settings).await?;
        Ok(TokenService {
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
    pub(super) fn mint(&self, who: &Identity, scope: &Scope, marks: Marks) -> Result<Minted, SignerError> {
        let (issued, jti) = (SystemClock.now(), Uuid::new_v4().to_string());
        let seconds = issued.0 / 1000;
        let lifetime = lifetime(self.settings.lifetime.into(), seconds, who.until);
        let session = who.session.clone().unwrap_or_else(|| session_of(&self.service, &jti));
        let claims = Claims {
            iss: self.service.clone(),
            sub: who.subject.clone(),
            aud: self.service.clone(),
            exp: seconds + lifetime.as_secs(),
            nbf: seconds,
            iat: seconds,
            jti,
            access: entries(scope),
            stella: Private::of(who, marks, session),
        };
        let token = self.keys.load().signer.sign(&claims)?;
        Ok(Minted { token, issued, lifetime })
    }

    /// Whose token this is, and until when.
    pub(super) fn check(&self, token: &str, now: Timestamp) -> Result<(Identity, Timestamp), TokenError> {
        let keys = self.keys.load_full();
        let expected = Expected { issuer: &self.service, audience: &self.service };
        let checked = tokens::check(token, &keys.public, &expected, now)?;
        let claims: Claims = serde_json::from_value(serde_json::Value::Object(checked.claims))
            .map_err(|_| TokenError::Malformed("it says other things than ours do"))?;
        let identity = claims.identity().ok_or(TokenError::Malformed("it says other things than ours do"))?;
        Ok((identity, checked.expires))
    }

    /// How often the keys have changed.
    pub(super) fn generation(&self) -> u64 {
        self.keys.load().generation
    }
}

/// How long a token is good that is made at this second. It ends with what its bearer was proven by.
fn lifetime(usual: Duration, now: u64, until: Option<Timestamp>) -> Duration {
    match until {
        Some(until) => usual.min(Duration::from_secs((until.0 / 1000).saturating_sub(now))),
        None => usual,
    }
}

/// Names a session to whoever has seen the token: what was pushed with it is recorded under this.
pub(super) fn session_of(issuer: &str, jti: &str) -> String {
    let mut hash = Sha256::new();
    for part in [issuer, jti] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn entries(scope: &Scope) -> Vec<Entry> {
    let repositories = scope.repositories.iter().map(|(name, actions)| Entry {
        kind: "repository".to_owned(),
        name: name.clone(),
        actions: actions.iter().map(ToString::to_string).collect(),
    });
    let catalog = scope.catalog.then(|| Entry {
        kind: "registry".to_owned(),
        name: "catalog".to_owned(),
        actions: vec!["*".to_owned()],
    });
    repositories.chain(catalog).collect()
}

impl Private {
    fn of(who: &Identity, marks: Marks, session: String) -> Self {
        let issuer = match &who.proof {
            Proof::Token { issuer } => Some(issuer.clone()),
            _ => None,
        };
        let claims = who.claims.iter().map(|(name, claim)| (name.clone(), claim.values().to_vec()));
        let given = |grants: &Vec<Grant>| {
            let given = grants.iter().map(|grant| Given {
                actions: grant.actions.clone(),
                repositories: grant.repositories.iter().map(ToString::to_string).collect(),
            });
            given.collect()
        };
        Private {
            proof: who.proof.text().to_owned(),
            issuer,
            stamp: who.stamp.clone(),
            groups: who.groups.clone(),
            claims: claims.collect(),
            own: who.own.iter().map(ToString::to_string).collect(),
            grants: who.grants.as_ref().map(given),
            preview: marks.preview,
            sign: marks.sign,
            session,
        }
    }
}

impl Claims {
    /// Who the bearer is; none if it is not as we write it.
    fn identity(self) -> Option<Identity> {
        let Private { proof, issuer, stamp, groups, claims, own, grants, session, .. } = self.stella;
        let proof = match (proof.as_str(), issuer) {
            ("none", None) => Proof::None,
            ("password", None) => Proof::Password,
            ("robot", None) => Proof::Robot,
            ("token", Some(issuer)) => Proof::Token { issuer },
            _ => return None,
        };
        let mut scope = Scope::default();
        for Entry { kind, name, actions } in self.access {
            match kind.as_str() {
                "repository" => {
                    let actions =
                        actions.iter().map(|action| action.parse()).collect::<Result<_, _>>().ok()?;
                    scope.repositories.insert(name, actions);
                }
                "registry" => scope.catalog = true,
                _ => return None,
            }
        }
        let claims = claims.into_iter().map(|(name, values)| (name, Claim::Many(values)));
        let grants = grants.map(|grants| {
            let grants = grants.into_iter().map(|Given { actions, repositories }| {
                let repositories = repositories.iter().map(|text| text.parse()).collect::<Result<_, _>>();
                Some(Grant { actions, repositories: repositories.ok()? })
            });
            grants.collect::<Option<Vec<_>>>()
        });
        let grants = match grants {
            None => None,
            Some(grants) => Some(grants?),
        };
        Some(Identity {
            subject: self.sub,
            groups,
            claims: claims.collect(),
            own: own.iter().map(|text| text.parse()).collect::<Result<_, _>>().ok()?,
            proof,
            grants,
            scope: Some(scope),
            session: Some(session),
            stamp,
            until: None,
        })
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
        signers.push(Signer::from_pkcs8(algorithm, &row.private)?);
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
    use super::*;

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
