// SPDX-License-Identifier: AGPL-3.0-only
//! Rows of what clients prove themselves with.
//!
//! Names, digests and kids are in the keys. The rows with a secret in them have no `Debug`, so that no
//! message can carry one.

use minicbor::{Decode, Encode};

use crate::clock::Timestamp;

#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Robot {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) secret_sha256: [u8; 32],
    #[n(1)]
    pub(crate) grants: Vec<Grant>,
    #[n(2)]
    pub(crate) created: Timestamp,
    #[n(3)]
    pub(crate) expires: Option<Timestamp>,
    #[n(4)]
    pub(crate) revoked: Option<Timestamp>,
}

/// What a robot may do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Grant {
    #[n(0)]
    pub(crate) actions: Vec<String>,
    #[n(1)]
    pub(crate) repositories: Vec<String>,
}

/// When a robot was last used, to the hour.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RobotUse {
    #[n(0)]
    pub(crate) at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RefreshToken {
    #[n(0)]
    pub(crate) subject: String,
    #[n(1)]
    pub(crate) proof: String,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) stamp: Vec<u8>,
    #[n(3)]
    pub(crate) client: String,
    #[n(4)]
    pub(crate) service: String,
    #[n(5)]
    pub(crate) created: Timestamp,
    #[n(6)]
    pub(crate) expires: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct SigningKey {
    #[n(0)]
    pub(crate) algorithm: String,
    /// PKCS#8, DER.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) private: Vec<u8>,
    #[n(2)]
    pub(crate) created: Timestamp,
    #[n(3)]
    pub(crate) signs_from: Timestamp,
    #[n(4)]
    pub(crate) retired: Option<Timestamp>,
}
