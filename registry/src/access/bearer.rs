// SPDX-License-Identifier: AGPL-3.0-only
//! What the claims of a good token make of its bearer. Pure.
//!
//! Invariant: claims are data. Whoever chooses the name of a project or of a branch chooses no pattern by it, and
//! nothing that a rule could deny by is left out in silence: a token that says too much is refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stella_storage::{RepoName, RepoPattern};

use super::tokens::TokenError;
use super::{Action, Claim, Grant, Identity, Proof};
use crate::config::{Issuer, Piece, Template, TokenServer};
use crate::unseen::is_unseen;

/// The longest name of a client or of a group, in bytes.
const MAX_NAME: usize = 512;
const MAX_CLAIMS: usize = 100;
/// Groups, or patterns of repositories. GitLab's and Entra's tokens name at most 200 groups.
const MAX_TEXTS: usize = 300;
/// All texts of the claims together, in bytes.
const MAX_SIZE: usize = 16 << 10;

type Members = Map<String, Value>;

/// The bearer of an ID token.
pub(super) fn of_id_token(issuer: &Issuer, claims: &Members) -> Result<Identity, TokenError> {
    let named = |value: &str| Some(value.to_owned());
    let mut subjects = fill(&issuer.subject, claims, named)?;
    let (Some(subject), true) = (subjects.pop(), subjects.is_empty()) else {
        return Err(no_claim(&issuer.subject, claims));
    };
    if subject.is_empty() {
        return Err(TokenError::BadName);
    }
    let (mut groups, mut own) = (Vec::new(), Vec::new());
    for template in &issuer.groups {
        for group in fill(template, claims, named)?.into_iter().filter(|group| !group.is_empty()) {
            groups.push(name(group)?);
        }
    }
    for template in &issuer.own {
        let patterns = fill(template, claims, located)?;
        own.extend(patterns.iter().filter_map(|pattern| pattern.parse::<RepoPattern>().ok()));
    }
    if groups.len() > MAX_TEXTS || own.len() > MAX_TEXTS {
        return Err(TokenError::TooMuch);
    }
    Ok(Identity {
        subject: name(format!("{}:{subject}", issuer.name))?,
        groups,
        claims: texts(claims)?,
        own,
        proof: Proof::Token { issuer: issuer.issuer.clone() },
        ..Identity::default()
    })
}

/// The bearer of a token server's token, and what its `access` says that it may do.
pub(super) fn of_server_token(server: &TokenServer, claims: &Members) -> Result<Identity, TokenError> {
    let subject = match claims.get("sub") {
        None => "anonymous",
        Some(Value::String(subject)) if subject.is_empty() => "anonymous",
        Some(Value::String(subject)) => subject,
        Some(_) => return Err(TokenError::BadName),
    };
    // That one is read below.
    let others = claims.iter().filter(|(claim, _)| *claim != "access");
    let others: Members = others.map(|(claim, value)| (claim.clone(), value.clone())).collect();
    Ok(Identity {
        subject: name(format!("{}:{subject}", server.name))?,
        claims: texts(&others)?,
        proof: Proof::Token { issuer: server.issuer.clone() },
        grants: Some(grants(claims)?),
        ..Identity::default()
    })
}

/// <https://distribution.github.io/distribution/spec/auth/jwt/>. What is not understood allows nothing.
fn grants(claims: &Members) -> Result<Vec<Grant>, TokenError> {
    let list = match claims.get("access") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(TokenError::Malformed("its `access` is no list")),
    };
    let grant = |entry: &Value| {
        if entry.get("type")?.as_str()? != "repository" {
            return None;
        }
        let repo: RepoName = entry.get("name")?.as_str()?.parse().ok()?;
        // A repository's name has nothing that means something in a pattern.
        let repo: RepoPattern = repo.as_str().parse().ok()?;
        let words = entry.get("actions")?.as_array()?;
        let may = |action: Action| words.iter().any(|word| *word == action.as_str() || *word == "*");
        let actions: Vec<_> =
            [Action::Pull, Action::Push, Action::Delete].into_iter().filter(|action| may(*action)).collect();
        (!actions.is_empty()).then(|| Grant { actions, repositories: vec![repo] })
    };
    Ok(list.iter().filter_map(grant).collect())
}

/// Whether what an issuer calls its own are patterns, once claims are in their places.
pub(super) fn check_own(issuer: &Issuer) -> Result<(), String> {
    for template in &issuer.own {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Claim(_) => "claim".to_owned(),
        };
        let text: String = template.pieces().iter().map(text).collect();
        text.parse::<RepoPattern>().map_err(|reason| format!("`own` of {:?}: {reason}", issuer.name))?;
    }
    Ok(())
}

/// A template with the claims in their places: a text for each value of a list, and none where a claim is missing or
/// `take` does not take it.
fn fill(
    template: &Template,
    claims: &Members,
    take: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, TokenError> {
    let mut texts = vec![String::new()];
    for piece in template.pieces() {
        let endings = match piece {
            Piece::Text(text) => vec![text.clone()],
            Piece::Claim(claim) => {
                let present = claims.get(claim).filter(|value| !value.is_null());
                let values = present.and_then(values);
                // Half a list would be another one, and might miss what a rule denies by.
                if present.is_some() && values.is_none() {
                    return Err(TokenError::NoClaim(claim.clone()));
                }
                values.iter().flat_map(Claim::values).filter_map(|value| take(value)).collect()
            }
        };
        if texts.len() * endings.len() > MAX_TEXTS {
            return Err(TokenError::TooMuch);
        }
        texts = texts.iter().flat_map(|text| endings.iter().map(move |end| format!("{text}{end}"))).collect();
    }
    Ok(texts)
}

/// A claim in a pattern of repositories, of which it must be a part without any meaning: what could be a repository's
/// name itself. In lower case, as GitLab has it; letters that are not ASCII stay themselves, because some become ASCII
/// in lower case, and then two projects would be one.
fn located(value: &str) -> Option<String> {
    value.to_ascii_lowercase().parse::<RepoName>().ok().map(|name| name.as_str().to_owned())
}

fn name(text: String) -> Result<String, TokenError> {
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(is_unseen) {
        return Err(TokenError::BadName);
    }
    Ok(text)
}

/// The first claim that could not be in a name.
fn no_claim(template: &Template, claims: &Members) -> TokenError {
    let is_one = |claim: &str| matches!(claims.get(claim).and_then(values), Some(Claim::One(_)));
    let missing = template.pieces().iter().find_map(|piece| match piece {
        Piece::Claim(claim) if !is_one(claim) => Some(claim.clone()),
        _ => None,
    });
    TokenError::NoClaim(missing.unwrap_or_default())
}

/// All claims that rules can ask for.
fn texts(claims: &Members) -> Result<BTreeMap<String, Claim>, TokenError> {
    let texts: BTreeMap<_, _> =
        claims.iter().filter_map(|(claim, value)| Some((claim.clone(), values(value)?))).collect();
    let mixed = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().any(|value| one(value).is_some()) && values(value).is_none())
    };
    // What a rule could deny by is not left out in silence.
    if let Some((claim, _)) = claims.iter().find(|(_, value)| mixed(value)) {
        return Err(TokenError::NoClaim(claim.clone()));
    }
    let size = |(claim, value): (&String, &Claim)| {
        claim.len() + value.values().iter().map(String::len).sum::<usize>()
    };
    if texts.len() > MAX_CLAIMS || texts.iter().map(size).sum::<usize>() > MAX_SIZE {
        return Err(TokenError::TooMuch);
    }
    Ok(texts)
}

/// Texts, numbers and booleans, and lists of them.
fn values(value: &Value) -> Option<Claim> {
    match value {
        Value::Array(list) => list.iter().map(one).collect::<Option<_>>().map(Claim::Many),
        value => one(value).map(Claim::One),
    }
}

fn one(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
