// SPDX-License-Identifier: AGPL-3.0-only
//! Keys that a policy trusts, and when. A window is judged by verified time only: what a signer says of the hour proves
//! nothing, so a key that has one needs a time from a trusted clock (GHSA-wqqc-jjcq-vfxm).

use serde::{Deserialize, Serialize};

use crate::{KeyHash, PublicKey, Time};

/// A public key that is trusted, perhaps for some time only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustedKey {
    /// The key, with the hash that a document says, where it says one.
    pub key: PublicKey,
    /// When the key is trusted.
    pub window: Window,
}

/// When a key is trusted; each end is part of it. All verified times of a signature must lie within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// From when on.
    pub valid_from: Option<Time>,
    /// Up to when.
    pub valid_until: Option<Time>,
    /// Since when somebody else may have it: what is signed then, or later, is not taken.
    pub compromised_at: Option<Time>,
}

impl Window {
    /// Whether it says nothing.
    pub fn is_open(&self) -> bool {
        *self == Window::default()
    }

    /// Why the key is not trusted for what was signed at `time`, if it is not.
    pub(crate) fn refuses(&self, time: Time) -> Option<&'static str> {
        if self.valid_from.is_some_and(|from| time < from) {
            Some("before the key's validFrom")
        } else if self.valid_until.is_some_and(|until| time > until) {
            Some("after the key's validUntil")
        } else if self.compromised_at.is_some_and(|at| time >= at) {
            Some("after the key was compromised")
        } else {
            None
        }
    }
}

impl TrustedKey {
    /// All keys of a PEM text, which begins with one and ends with one. The error is a sentence for a person.
    pub fn all_of_pem(text: &str, hash: Option<KeyHash>, window: Window) -> Result<Vec<Self>, String> {
        let text = text.trim();
        if !text.starts_with("-----BEGIN ") || !text.ends_with("-----") {
            return Err("not PEM: keys, each from -----BEGIN PUBLIC KEY----- to its END line".to_owned());
        }
        let keys = PublicKey::all_of_pem(text).map_err(|error| error.to_string())?;
        let trusted = |key: PublicKey| {
            let key = match hash {
                Some(hash) => key.with_hash(hash).map_err(|error| error.to_string())?,
                None => key,
            };
            Ok(TrustedKey { key, window })
        };
        keys.into_iter().map(trusted).collect()
    }

    /// SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        self.key.fingerprint()
    }
}

/// A key that is trusted whenever it signs.
impl From<PublicKey> for TrustedKey {
    fn from(key: PublicKey) -> Self {
        TrustedKey { key, window: Window::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_ends_in_it_but_for_the_compromise() {
        let window = Window { valid_from: Some(Time(10)), valid_until: Some(Time(20)), compromised_at: None };
        for (at, good) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(window.refuses(Time(at)).is_none(), good, "{at}");
        }
        let window = Window { compromised_at: Some(Time(15)), ..Window::default() };
        assert!(window.refuses(Time(14)).is_none() && window.refuses(Time(15)).is_some());
        assert!(!window.is_open() && Window::default().is_open());
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_sentence() {
        let open = Window::default();
        let junk = "-----BEGIN PUBLIC KEY-----\nYWJjZA==\n-----END PUBLIC KEY-----\n";
        let private = "-----BEGIN PRIVATE KEY-----\nYWJjZA==\n-----END PRIVATE KEY-----\n";
        for bad in ["", "---somedata---", junk, private, "-----BEGIN PUBLIC KEY-----\nAAAA"] {
            assert!(TrustedKey::all_of_pem(bad, None, open).is_err(), "{bad}");
        }
    }
}
