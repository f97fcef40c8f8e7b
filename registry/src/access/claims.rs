// SPDX-License-Identifier: AGPL-3.0-only
//! What a token of ours says: how it is written, and how it is read again. Pure.
//!
//! Every request brings its token along, so a token says nothing twice: what names its session is made again of its
//! issuer and its name. What tokens of earlier versions said besides is still read.
//!
//! It is written from what others own, without copies; what is read is owned.

use std::collections::BTreeMap;

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use stella_storage::RepoPattern;

use super::{Action, Claim, Grant, Identity, Proof, Scope};

/// As much of a stamp is in a token. Nobody chooses stamps, so few characters tell one from the next.
const BRIEF: usize = 16;

/// What a token says, to be written.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    pub(super) iss: &'a str,
    pub(super) sub: &'a str,
    pub(super) aud: &'a str,
    pub(super) exp: u64,
    pub(super) iat: u64,
    pub(super) jti: &'a str,
    /// The Docker claim: what it is for.
    #[serde(serialize_with = "entries")]
    pub(super) access: &'a Scope,
    /// What is between us and ourselves.
    pub(super) stella: ToldToUs<'a>,
}

/// Who the bearer is, for the rules.
#[derive(Serialize)]
pub(super) struct ToldToUs<'a> {
    proof: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    /// Of the password, or of the secret: when it changes the token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    stamp: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "claims")]
    claims: &'a BTreeMap<String, Claim>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "patterns")]
    own: &'a [RepoPattern],
    #[serde(skip_serializing_if = "Option::is_none")]
    grants: Option<Vec<Given>>,
    /// Of the repositories that the token names: where its bearer may see what is not released.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    preview: &'a [&'a str],
    /// Where `push` means signatures alone.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sign: &'a [&'a str],
    /// Of the token by which this one was got. Without, the session is this token's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

/// What a token says beside its scope, decided by who mints it.
#[derive(Debug, Default)]
pub(super) struct Marks<'a> {
    pub(super) preview: Vec<&'a str>,
    pub(super) sign: Vec<&'a str>,
}

/// What a token says, as it was read.
#[derive(Deserialize)]
pub(super) struct Heard {
    iss: String,
    sub: String,
    jti: String,
    access: Vec<Entry>,
    stella: HeardOfUs,
}

#[derive(Deserialize)]
struct HeardOfUs {
    proof: String,
    issuer: Option<String>,
    stamp: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    claims: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    own: Vec<String>,
    grants: Option<Vec<Given>>,
    session: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Given {
    actions: Vec<Action>,
    repositories: Vec<String>,
}

impl<'a> ToldToUs<'a> {
    pub(super) fn of(who: &'a Identity, marks: &'a Marks<'_>) -> Self {
        let issuer = match &who.proof {
            Proof::Token { issuer } => Some(issuer.as_str()),
            _ => None,
        };
        let given = |grants: &Vec<Grant>| {
            let given = grants.iter().map(|grant| Given {
                actions: grant.actions.clone(),
                repositories: grant.repositories.iter().map(ToString::to_string).collect(),
            });
            given.collect()
        };
        ToldToUs {
            proof: who.proof.text(),
            issuer,
            stamp: who.stamp.as_deref().map(brief),
            groups: &who.groups,
            claims: &who.claims,
            own: &who.own,
            grants: who.grants.as_ref().map(given),
            preview: &marks.preview,
            sign: &marks.sign,
            session: who.session.as_deref(),
        }
    }
}

impl Heard {
    /// Who the bearer is; none if it is not as we write it.
    pub(super) fn identity(self) -> Option<Identity> {
        let HeardOfUs { proof, issuer, stamp, groups, claims, own, grants, session } = self.stella;
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
            session: Some(session.unwrap_or_else(|| session_of(&self.iss, &self.jti))),
            stamp,
            until: None,
        })
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

/// What a token has of a stamp. Those of earlier versions have all of it.
pub(super) fn brief(stamp: &str) -> &str {
    stamp.get(..BRIEF).unwrap_or(stamp)
}

fn entries<S: Serializer>(scope: &Scope, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Entry<'a, A> {
        r#type: &'a str,
        name: &'a str,
        actions: A,
    }
    let mut list = serializer.serialize_seq(None)?;
    for (name, actions) in &scope.repositories {
        list.serialize_element(&Entry { r#type: "repository", name, actions })?;
    }
    if scope.catalog {
        list.serialize_element(&Entry { r#type: "registry", name: "catalog", actions: ["*"] })?;
    }
    list.end()
}

fn claims<S: Serializer>(claims: &BTreeMap<String, Claim>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(claims.iter().map(|(name, claim)| (name, claim.values())))
}

fn patterns<S: Serializer>(patterns: &[RepoPattern], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(patterns.iter().map(RepoPattern::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn identity(claims: Value) -> Option<Identity> {
        serde_json::from_value::<Heard>(claims).ok()?.identity()
    }

    fn told(who: &Identity, scope: &Scope, marks: &Marks<'_>) -> Value {
        let stella = ToldToUs::of(who, marks);
        let (iss, aud, jti) = ("us", "us", "name");
        let told = Told { iss, sub: &who.subject, aud, exp: 2, iat: 1, jti, access: scope, stella };
        serde_json::to_value(told).unwrap()
    }

    fn scope() -> Scope {
        let repositories = [("a/b".to_owned(), vec![Action::Pull, Action::Push])];
        Scope { repositories: repositories.into(), catalog: true }
    }

    #[test]
    fn a_token_says_all_of_its_bearer_and_nothing_twice() {
        let who = Identity {
            subject: "alice".to_owned(),
            proof: Proof::Password,
            stamp: Some("0123456789abcdef0123456789abcdef".to_owned()),
            ..Identity::default()
        };
        let marks = Marks { preview: vec!["a/b"], sign: Vec::new() };
        let claims = told(&who, &scope(), &marks);
        assert_eq!(
            claims,
            json!({
                "iss": "us", "sub": "alice", "aud": "us", "exp": 2, "iat": 1, "jti": "name",
                "access": [
                    {"type": "repository", "name": "a/b", "actions": ["pull", "push"]},
                    {"type": "registry", "name": "catalog", "actions": ["*"]},
                ],
                "stella": {"proof": "password", "stamp": "0123456789abcdef", "preview": ["a/b"]},
            })
        );
        let heard = identity(claims).unwrap();
        assert_eq!(heard.session, Some(session_of("us", "name")));
        assert_eq!(heard.stamp.as_deref(), Some("0123456789abcdef"));
        assert_eq!((heard.subject, heard.proof, heard.scope), (who.subject, who.proof, Some(scope())));
    }

    #[test]
    fn what_an_issuer_or_a_robot_brings_along_comes_back() {
        let grant =
            Grant { actions: vec![Action::Push, Action::Sign], repositories: vec!["a/**".parse().unwrap()] };
        let who = Identity {
            subject: "gitlab:job".to_owned(),
            groups: vec!["g".to_owned()],
            claims: [("ref".to_owned(), Claim::Many(vec!["main".to_owned()]))].into(),
            own: vec!["team/app/**".parse().unwrap()],
            proof: Proof::Token { issuer: "https://gitlab.example".to_owned() },
            grants: Some(vec![grant]),
            scope: Some(scope()),
            session: Some(session_of("https://gitlab.example", "job-7")),
            stamp: None,
            until: None,
        };
        assert_eq!(identity(told(&who, &scope(), &Marks::default())), Some(who));
    }

    #[test]
    fn tokens_of_earlier_versions_are_read() {
        let session = "ab".repeat(32);
        let stamp = "0123456789abcdef0123456789abcdef";
        let heard = identity(json!({
            "iss": "us", "sub": "alice", "aud": "us", "exp": 2, "nbf": 1, "iat": 1,
            "jti": "89681ee2-b3c5-4212-b39d-bd192cccb09c",
            "access": [{"type": "repository", "name": "a/b", "actions": ["pull"]}],
            "stella": {"proof": "password", "stamp": stamp, "preview": ["a/b"], "session": session},
        }));
        let heard = heard.unwrap();
        assert_eq!(heard.session, Some(session));
        let present = heard.stamp.unwrap();
        assert_eq!(brief(&present), brief(stamp));
    }

    #[test]
    fn a_session_is_of_one_issuer_and_one_name() {
        let all = [("us", "a"), ("us", "b"), ("them", "a"), ("u", "sa"), ("", "usa")];
        let sessions: std::collections::HashSet<_> =
            all.iter().map(|(issuer, jti)| session_of(issuer, jti)).collect();
        assert_eq!(sessions.len(), all.len());
    }

    #[test]
    fn what_we_do_not_write_is_nobody() {
        for stella in [
            json!({}),
            json!({"proof": "socket"}),
            json!({"proof": "password", "issuer": "x"}),
            json!({"proof": "token"}),
            json!({"proof": "robot", "grants": [{"actions": ["fly"], "repositories": []}]}),
        ] {
            let claims = json!({"iss": "us", "sub": "a", "jti": "b", "access": [], "stella": stella});
            assert_eq!(identity(claims), None, "{stella}");
        }
    }
}
