// SPDX-License-Identifier: AGPL-3.0-only
//! `access` and `auth`: who may do what, and how clients prove who they are. What the rules mean is decided in
//! `registry/src/access/rules.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use stella_storage::{RepoPattern, TextPattern};

use super::Period;
use crate::access::Action;

/// `auth`: how clients prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A file of names and bcrypt hashes, as `stella user` and `htpasswd -B` write it. Default none.
    pub htpasswd: Option<PathBuf>,
    /// Whether robots (`stella robot`) may log in where there are access rules. Default `true`.
    pub robots: bool,
    /// How clients are asked to prove who they are: `token` sends them to `/token`, `basic` asks for a name and a
    /// password with each request. Default `token`.
    pub challenge: Challenge,
    /// The tokens that `/token` gives.
    pub token: Token,
    /// Whose ID tokens are taken, such as those of GitLab's jobs. Default none.
    pub issuers: Vec<Issuer>,
    /// Token servers elsewhere whose tokens are taken beside our own. Default none.
    pub token_servers: Vec<TokenServer>,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            htpasswd: None,
            robots: true,
            challenge: Challenge::default(),
            token: Token::default(),
            issuers: Vec::new(),
            token_servers: Vec::new(),
        }
    }
}

/// `auth.challenge`: what a client is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Challenge {
    /// A token of `/token`.
    #[default]
    Token,
    /// A name and a password.
    Basic,
}

/// `auth.token`: the tokens of `/token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// With what they are signed: `ES256` or `RS256`. Default `ES256`.
    pub algorithm: Algorithm,
    /// How long one is good; 1m to 1d. Default `1h`.
    pub lifetime: Period,
    /// How long a refresh token is good; 1h to 365d. Default `90d`.
    pub refresh: Period,
    /// How old a signing key gets; 1d to 365d. Default `30d`.
    pub rotation: Period,
}

impl Default for Token {
    fn default() -> Self {
        let day = 24 * 60 * 60;
        Token {
            algorithm: Algorithm::default(),
            lifetime: Period::seconds(60 * 60),
            refresh: Period::seconds(90 * day),
            rotation: Period::seconds(30 * day),
        }
    }
}

/// `auth.token.algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    ES256,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    RS256,
}

/// An entry of `auth.issuers`: who signs ID tokens (`OpenID` Connect).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What it is called here: its clients' names begin with this and a colon.
    pub name: String,
    /// What its tokens have as `iss`, to the letter.
    pub issuer: String,
    /// What its tokens must have as `aud`: the name of this registry, that no other service has.
    pub audience: String,
    /// Its public keys (JWKS): a URL, or a file.
    pub jwks: KeySource,
    /// A PEM file with the CA of that URL, beside those that the system trusts. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The client's name, made of claims. Default `{sub}`.
    #[serde(default)]
    pub subject: Template,
    /// The groups that it is in, each made of claims; where a claim is a list, one for each. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Template>,
    /// The repositories that are its own, which rules call `own`: patterns made of claims, such as
    /// `{project_path}/**`. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<Template>,
}

/// An entry of `auth.token_servers`: a Docker token server elsewhere. Its tokens' `access` says what their bearers
/// may do; of our rules only those that deny hold for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenServer {
    /// What it is called here: its clients' names begin with this and a colon.
    pub name: String,
    /// What its tokens have as `iss`, to the letter.
    pub issuer: String,
    /// What its tokens must have as `aud`.
    pub audience: String,
    /// Where clients get its tokens: then they are sent there, and not to `/token`. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Its public keys: a JWKS (a URL or a file), or a PEM file of certificates or public keys.
    pub keys: KeySource,
    /// A PEM file with the CA of that URL, beside those that the system trusts. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Where public keys are: at a URL, or in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeySource {
    /// `https://…`, or `http://` of this machine.
    Url(String),
    /// A file.
    File(PathBuf),
}

impl TryFrom<String> for KeySource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the keys are nowhere; name a URL or a file".to_owned());
        }
        if !text.contains("://") {
            return Ok(KeySource::File(text.into()));
        }
        let uri: http::Uri = text.parse().map_err(|_| format!("{text:?} is no URL"))?;
        let loopback = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match uri.scheme_str() {
            Some("https") => Ok(KeySource::Url(text)),
            // Whoever can write there can be anybody here.
            Some("http") if loopback => Ok(KeySource::Url(text)),
            _ => Err(format!("{text:?} must begin with https://, because these keys decide who is who")),
        }
    }
}

impl From<KeySource> for String {
    fn from(source: KeySource) -> Self {
        match source {
            KeySource::Url(url) => url,
            KeySource::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// A text made of claims: `{project_path}` stands for what the claim of that name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<Piece>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// What a claim is.
    Claim(String),
}

impl Template {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

impl Default for Template {
    fn default() -> Self {
        Template(vec![Piece::Claim("sub".to_owned())])
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} must be text with claims in braces, such as {{project_path}}/**");
        let (mut pieces, mut rest) = (Vec::new(), text.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            let (claim, after) = after.split_once('}').ok_or_else(wrong)?;
            if claim.is_empty() || claim.contains('{') || before.contains('}') {
                return Err(wrong());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Claim(claim.to_owned()));
            rest = after;
        }
        if rest.contains('}') || text.is_empty() {
            return Err(wrong());
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        let texts = template.0.into_iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Claim(claim) => format!("{{{claim}}}"),
        });
        texts.collect()
    }
}

/// An entry of `access`: the first that is about an action, a client and a repository decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// What is allowed: actions, or `all`. A rule has this or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Actions>,
    /// What is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<Actions>,
    /// Whom it is about.
    pub to: Whom,
    /// Patterns of repository names, or `own`. Default: all repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "places")]
    pub repositories: Vec<Place>,
}

/// A list that is there and empty would mean nothing to who wrote it, and everything to who reads it.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Place>, D::Error> {
    let places = Vec::<Place>::deserialize(deserializer)?;
    if places.is_empty() {
        return Err(D::Error::custom("the list is empty; leave `repositories` out if you mean all of them"));
    }
    Ok(places)
}

/// Actions of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Whether an action is among them.
    pub fn contains(&self, action: Action) -> bool {
        self.0.contains(&action)
    }
}

/// Whom a rule is about: any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whom(pub Vec<Client>);

/// Clients of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// All.
    Everyone,
    /// Those who do not say who they are.
    Anonymous,
    /// Those who have proven who they are.
    Authenticated,
    /// Those who are all of this.
    Like(Box<Likeness>),
}

/// What a client must be, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Likeness {
    /// A name, or a pattern of names.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_text")]
    pub subject: Option<TextPattern>,
    /// A group, or a pattern of groups.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_text")]
    pub group: Option<TextPattern>,
    /// Claims of its token, each with a value or a pattern; one of several values is enough.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "texts")]
    pub claims: BTreeMap<String, TextPattern>,
}

/// Where a rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the repositories that the client's issuer calls its own.
    Own,
    /// In those that a pattern means.
    Pattern(RepoPattern),
}

const ALL: &str = "all";
const OWN: &str = "own";
const EVERYONE: &str = "everyone";
const ANONYMOUS: &str = "anonymous";
const AUTHENTICATED: &str = "authenticated";

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ActionsVisitor;

        impl<'de> Visitor<'de> for ActionsVisitor {
            type Value = Actions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of actions such as [pull, push]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Actions, E> {
                if text == ALL {
                    return Ok(Actions(Action::ALL.to_vec()));
                }
                text.parse().map(|action| Actions(vec![action])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Actions, A::Error> {
                let words = Vec::<String>::deserialize(SeqAccessDeserializer::new(list))?;
                if words.is_empty() {
                    return Err(A::Error::custom("a rule needs an action"));
                }
                let actions = words.iter().map(|word| word.parse()).collect::<Result<_, String>>();
                actions.map(Actions).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(ActionsVisitor)
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == Action::ALL { serializer.serialize_str(ALL) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Client {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClientVisitor;

        impl<'de> Visitor<'de> for ClientVisitor {
            type Value = Client;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`everyone`, `anonymous`, `authenticated`, or a section of `subject`, `group` and `claims`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Client, E> {
                match text {
                    EVERYONE => Ok(Client::Everyone),
                    ANONYMOUS => Ok(Client::Anonymous),
                    AUTHENTICATED => Ok(Client::Authenticated),
                    _ => Err(E::custom(format!(
                        "{text:?} is neither `everyone`, `anonymous` nor `authenticated`; a person is written {{subject: {text}}}"
                    ))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Client, A::Error> {
                let likeness = Likeness::deserialize(MapAccessDeserializer::new(map))?;
                if likeness == Likeness::default() {
                    return Err(A::Error::custom(
                        "nothing is asked of the client; write `everyone` if you mean that",
                    ));
                }
                Ok(Client::Like(Box::new(likeness)))
            }
        }

        deserializer.deserialize_any(ClientVisitor)
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Client::Everyone => serializer.serialize_str(EVERYONE),
            Client::Anonymous => serializer.serialize_str(ANONYMOUS),
            Client::Authenticated => serializer.serialize_str(AUTHENTICATED),
            Client::Like(likeness) => likeness.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Whom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhomVisitor;

        impl<'de> Visitor<'de> for WhomVisitor {
            type Value = Whom;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`everyone`, `anonymous`, `authenticated`, a section of `subject`, `group` and `claims`, or a list of these")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Whom, E> {
                Client::deserialize(serde::de::value::StrDeserializer::new(text))
                    .map(|client| Whom(vec![client]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Whom, A::Error> {
                Client::deserialize(MapAccessDeserializer::new(map)).map(|client| Whom(vec![client]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Whom, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Whom)
            }
        }

        deserializer.deserialize_any(WhomVisitor)
    }
}

impl Serialize for Whom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [client] => client.serialize(serializer),
            clients => {
                let mut list = serializer.serialize_seq(Some(clients.len()))?;
                for client in clients {
                    list.serialize_element(client)?;
                }
                list.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == OWN { Ok(Place::Own) } else { text.parse().map(Place::Pattern).map_err(D::Error::custom) }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Place::Own => serializer.serialize_str(OWN),
            Place::Pattern(pattern) => serializer.collect_str(pattern),
        }
    }
}

mod optional_text {
    use super::{Deserialize, Deserializer, Error, Serializer, TextPattern};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<TextPattern>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        pattern: &Option<TextPattern>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match pattern {
            Some(pattern) => serializer.collect_str(pattern),
            None => serializer.serialize_none(),
        }
    }
}

mod texts {
    use std::collections::BTreeMap;

    use super::{Deserialize, Deserializer, Error, Serializer, TextPattern};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, TextPattern>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let parsed =
            texts.into_iter().map(|(claim, text)| Ok((claim, text.parse().map_err(D::Error::custom)?)));
        parsed.collect()
    }

    pub(super) fn serialize<S: Serializer>(
        patterns: &BTreeMap<String, TextPattern>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(patterns.iter().map(|(claim, pattern)| (claim, pattern.as_str())))
    }
}

#[cfg(test)]
mod tests;
