// SPDX-License-Identifier: AGPL-3.0-only
//! `auth`: how clients prove who they are. What they may do then is `access` (`access.rs`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Period;

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

#[cfg(test)]
mod tests;
