// SPDX-License-Identifier: AGPL-3.0-only
//! Checking tokens: JWTs (RFC 7519) in the compact form of a JWS (RFC 7515), as RFC 8725 advises.
//!
//! What a token says of how to check it is not believed: keys come from its issuer's set alone, and each key says what
//! algorithms it is for. So `jku`, `x5u`, `jwk` and `x5c` are not looked at, and neither `none` nor a secret (HS256)
//! can ever do. Nothing here repeats a token in an error.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use stella_policy::strict_json;
use stella_storage::Timestamp;
use thiserror::Error;

use super::keys::{PublicKeys, SignatureAlgorithm};

/// The longest token, in bytes.
pub(crate) const MAX_TOKEN: usize = 16 << 10;
/// How far clocks may differ.
const LEEWAY: Duration = Duration::from_mins(1);
/// The last second of the year 9999. What is later is in other units, or nonsense.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What a token must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// Who made it, to the letter.
    pub(crate) issuer: &'a str,
    /// For whom it was made.
    pub(crate) audience: &'a str,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claims {
    /// All of its claims.
    pub(crate) claims: Map<String, Value>,
    /// Until when it says it; the leeway is not added.
    pub(crate) expires: Timestamp,
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    #[error("the token is longer than 16KiB")]
    TooLong,
    #[error("the token is no JWT: {0}")]
    Malformed(&'static str),
    #[error("the token asks for an extension (`crit`) that is not known here")]
    Critical,
    #[error("the token is of another type (`typ`) than JWT or at+jwt")]
    Type,
    #[error("the issuer's public keys are not known yet, because it cannot be reached; try again later")]
    NoKeys,
    #[error("the token is signed with a key that its issuer does not have")]
    UnknownKey,
    #[error("the token is signed with an algorithm (`alg`) that its issuer's keys are not for")]
    Algorithm,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is of another issuer (`iss`)")]
    Issuer,
    #[error("the token was made for another service (`aud`)")]
    Audience,
    #[error("the token never expires; it needs `exp`")]
    NoExpiry,
    #[error("the token has a time (`{0}`) that is none")]
    Time(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet; is the clock right?")]
    NotYetValid,
    #[error("the token has no claim `{0}` that could be in a name")]
    NoClaim(String),
    #[error(
        "the token makes a name that is empty, longer than 512 bytes, or has characters that cannot be seen"
    )]
    BadName,
    #[error("the token says more of its bearer than is taken here")]
    TooMuch,
}

/// Who says to have made a token. Nothing is proven by it: it only tells whose keys to check it with.
pub(crate) fn issuer_of(token: &str) -> Option<String> {
    Unproven::parse(token).ok()?.issuer().map(str::to_owned)
}

/// What a token says, if it is good at the time `now`.
pub(crate) fn check(
    token: &str,
    keys: &PublicKeys,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Claims, TokenError> {
    Unproven::parse(token)?.check(keys, expected, now)
}

/// A token as anybody could have written it.
pub(super) struct Unproven<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unproven<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let malformed = TokenError::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed("it has no parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(malformed("it has two parts"))?;
        // Base64url has no dots, so more than three parts do not pass.
        let decode = |part: &str, why| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed(why));
        // RFC 8725, section 2.4: two readers must not take a token for different ones.
        let object = |bytes: &[u8], why| strict_json(bytes, MAX_TOKEN).map_err(|_| malformed(why));
        Ok(Unproven {
            header: object(&decode(header, "its header is no base64url")?, "its header is no JSON object")?,
            claims: object(&decode(claims, "its claims are no base64url")?, "its claims are no JSON object")?,
            signed,
            signature: decode(signature, "its signature is no base64url")?,
        })
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// The name of the key that it says to be signed with.
    pub(super) fn kid(&self) -> Option<&str> {
        self.header.get("kid")?.as_str()
    }

    pub(super) fn check(
        self,
        keys: &PublicKeys,
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<Claims, TokenError> {
        self.check_signature(keys)?;
        if self.issuer() != Some(expected.issuer) {
            return Err(TokenError::Issuer);
        }
        let is_meant = match self.claims.get("aud") {
            Some(Value::String(one)) => one == expected.audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == expected.audience),
            _ => false,
        };
        if !is_meant {
            return Err(TokenError::Audience);
        }
        let expires = self.time("exp")?.ok_or(TokenError::NoExpiry)?;
        if now >= expires.plus(LEEWAY) {
            return Err(TokenError::Expired);
        }
        for begin in ["nbf", "iat"] {
            if self.time(begin)?.is_some_and(|begin| begin > now.plus(LEEWAY)) {
                return Err(TokenError::NotYetValid);
            }
        }
        Ok(Claims { claims: self.claims, expires })
    }

    fn check_signature(&self, keys: &PublicKeys) -> Result<(), TokenError> {
        let text = |name, wrong| match self.header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(wrong),
        };
        if self.header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt");
        if !text("typ", TokenError::Type)?.is_none_or(is_jwt) {
            return Err(TokenError::Type);
        }
        let kid = text("kid", TokenError::UnknownKey)?;
        let algorithm = text("alg", TokenError::Algorithm)?
            .and_then(SignatureAlgorithm::named)
            .ok_or(TokenError::Algorithm)?;
        let mut why = TokenError::UnknownKey;
        for key in keys.named(kid) {
            match key.used_with(algorithm) {
                Some(key) if key.verify_sig(self.signed.as_bytes(), &self.signature).is_ok() => return Ok(()),
                Some(_) => why = TokenError::Signature,
                None if why == TokenError::UnknownKey => why = TokenError::Algorithm,
                None => {}
            }
        }
        Err(why)
    }

    /// A `NumericDate` (RFC 7519, section 2).
    fn time(&self, claim: &'static str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
        let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Some(Timestamp(0).plus(since.ok_or(TokenError::Time(claim))?)))
    }
}

#[cfg(test)]
mod tests;
