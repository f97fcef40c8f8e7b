// SPDX-License-Identifier: AGPL-3.0-only
//! What policies say, for programs and for people: `/api/stella/v1/policy/explain` and `…/status` (JSON), and the page
//! behind each denial's link, `/d/REPO@DIGEST` or `/d/REPO:TAG`, which needs no JavaScript.
//!
//! All need `pull` in the repository, the status only that the client may do something here. Beside them, tags
//! (`releases.rs`).

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, VARY};
use http::{Method, Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use stella_policy::{Decision, Verdict};
use stella_storage::{Reference, RepoName};

use super::{READ, bytes, releases};
use crate::access::{Action, Identity, Peer};
use crate::app::App;
use crate::error::ApiError;
use crate::gate::{Explained, Kind};
use crate::query::Query;

const EXPLAIN: &str = "/api/stella/v1/policy/explain";
const STATUS: &str = "/api/stella/v1/policy/status";
const PAGE: &str = "/d/";

/// Whether a path is answered here.
pub(crate) fn is_for(path: &str) -> bool {
    path == EXPLAIN || path == STATUS || path.starts_with(PAGE) || releases::is_for(path)
}

/// Answers. Who asked is put into `who` once it is known.
pub(crate) async fn answer(
    app: &Arc<App>,
    who: &OnceLock<Arc<Identity>>,
    peer: Peer,
    request: &Request<()>,
) -> Response<Body> {
    match found(app, who, peer, request).await {
        Ok(response) => response,
        Err(error) => super::refuse(request, error),
    }
}

async fn found(
    app: &Arc<App>,
    who: &OnceLock<Arc<Identity>>,
    peer: Peer,
    request: &Request<()>,
) -> Result<Response<Body>, ApiError> {
    let identity = app.access.identify(&app.store, request.headers(), peer).await?;
    let identity = who.get_or_init(|| identity);
    let (method, path) = (request.method(), request.uri().path());
    if releases::is_for(path) {
        return releases::found(app, identity, request).await;
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    if path == STATUS {
        app.access.require_catalog(identity)?;
        let is_admin = app.access.decide(identity, Action::Admin, None).allowed;
        return Ok(json_answer(method, &app.gate.status(is_admin)));
    }
    let name = if path == EXPLAIN {
        let query = Query::parse(request.uri().query())?;
        let name = query.get("ref").map(str::to_owned);
        name.ok_or_else(|| ApiError::unsupported("name an image: ?ref=REPO[:TAG|@DIGEST]".to_owned()))?
    } else {
        let name = path.strip_prefix(PAGE).unwrap_or_default();
        percent_decode_str(name).decode_utf8_lossy().into_owned()
    };
    let (repo, reference) = parse(&name)?;
    app.access.require(identity, READ, &repo)?;
    let explained = app.gate.explain(app, &repo, &reference).await?;
    if path == EXPLAIN {
        return Ok(json_answer(method, &in_json(&explained)?));
    }
    let mut response =
        bytes(method, HeaderValue::from_static("text/html; charset=utf-8"), page(&explained).into_bytes());
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(private(response))
}

/// `REPO`, `REPO:TAG` or `REPO@DIGEST`; with neither, the tag `latest`.
pub(super) fn parse(name: &str) -> Result<(RepoName, Reference), ApiError> {
    if let Some((repo, digest)) = name.split_once('@') {
        return Ok((repo.parse()?, Reference::Digest(digest.parse()?)));
    }
    let (repo, tag) = name.split_once(':').unwrap_or((name, "latest"));
    Ok((repo.parse()?, Reference::Tag(tag.parse()?)))
}

fn private(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Authorization"));
    response
}

pub(super) fn json_answer(method: &Method, value: &Value) -> Response<Body> {
    private(bytes(method, HeaderValue::from_static("application/json"), value.to_string().into_bytes()))
}

/// The decision, and beside it what readers of a tag see, and whether readers get it.
fn in_json(explained: &Explained) -> Result<Value, ApiError> {
    let mut value =
        serde_json::to_value(&explained.decision).map_err(|error| ApiError::failed(error.to_string()))?;
    why_of_each(&mut value, &explained.decision);
    if let Some(members) = value.as_object_mut() {
        members.insert("why".to_owned(), json!(explained.decision.why));
        members.insert("enforced".to_owned(), json!(explained.enforced));
        members.insert("readable".to_owned(), json!(explained.is_readable()));
        members.insert("kind".to_owned(), json!(kind(&explained.kind)));
        members.insert("through".to_owned(), json!(explained.through));
        members.insert("released".to_owned(), json!(explained.released.as_ref().map(ToString::to_string)));
        members.insert("candidate".to_owned(), json!(explained.candidate.as_ref().map(ToString::to_string)));
    }
    Ok(value)
}

/// Why, for a person, of each part of it too.
fn why_of_each(value: &mut Value, decision: &Decision) {
    for (at, policy) in decision.policies.iter().enumerate() {
        let Some(told) = value.pointer_mut(&format!("/policies/{at}")) else { return };
        let set = |told: &mut Value, name: &str, value: Value| {
            if let Some(members) = told.as_object_mut() {
                members.insert(name.to_owned(), value);
            }
        };
        set(told, "enforced", json!(policy.enforced));
        set(told, "reason", json!(policy.reason));
        set(told, "why", json!(policy.why));
        for (at, authority) in policy.authorities.iter().enumerate() {
            let Some(told) = told.pointer_mut(&format!("/authorities/{at}")) else { return };
            set(told, "why", json!(authority.why));
            for (at, evidence) in authority.evidence.iter().enumerate() {
                let Some(told) = told.pointer_mut(&format!("/evidence/{at}")) else { return };
                set(told, "why", json!(evidence.why));
            }
        }
    }
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Evidence => "evidence",
        Kind::Attachment(_) => "attachment",
        Kind::Image => "image",
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{background:#8882;padding:.1em .3em;overflow-wrap:anywhere}pre{background:#8882;padding:1em;white-space:pre-wrap;\
overflow-wrap:anywhere}.allowed{color:#178a3a}.waiting{color:#a86500}.denied{color:#c1272d}li{margin:.3em 0}\
:root{color-scheme:light dark}";

/// The page: what was decided, why, what mends it, and what each policy says.
fn page(explained: &Explained) -> String {
    let decision = &explained.decision;
    let mut html = String::new();
    let verdict = match decision.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Waiting => "waiting",
        Verdict::Denied => "denied",
    };
    // Text grows without fail.
    let _always = write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{name}: {verdict}</title><style>{STYLE}</style>\
         <h1><code>{name}</code></h1><p class=\"{verdict}\"><strong>{verdict}</strong> ({reason}){why}</p>",
        name = escaped(&decision.reference),
        reason = decision.reason.as_str(),
        why = sentence(&decision.why),
    );
    if let Some(fix) = &decision.fix {
        let _always = write!(html, "<h2>To mend it</h2><pre>{}</pre>", escaped(fix));
    }
    if let Some(through) = explained.through {
        let _always = write!(html, "<p>Readers get it all the same: {}.</p>", escaped(through));
    }
    let _always = write!(html, "<p>Digest: <code>{}</code></p>", escaped(decision.digest.as_str()));
    for (name, digest) in
        [("Readers of the tag see", &explained.released), ("Pushed last was", &explained.candidate)]
    {
        if let Some(digest) = digest {
            let _always = write!(html, "<p>{name} <code>{}</code></p>", escaped(&digest.to_string()));
        }
    }
    policies(&mut html, decision);
    let _always = write!(
        html,
        "<p>Policies <code>{}</code>, trust roots <code>{}</code>.</p>",
        escaped(decision.policy_set.as_str()),
        escaped(decision.trust_root.as_str())
    );
    html
}

fn policies(html: &mut String, decision: &Decision) {
    if decision.policies.is_empty() {
        return;
    }
    html.push_str("<h2>Policies</h2><ul>");
    let mark = |passed: bool| if passed { "satisfied" } else { "not satisfied" };
    for policy in &decision.policies {
        let (name, why) = (escaped(&policy.name), sentence(&policy.why));
        let _always = write!(html, "<li><strong>{name}</strong>: {}{why}<ul>", mark(policy.passed));
        for authority in &policy.authorities {
            let (name, reason) = (escaped(&authority.name), authority.reason.as_str());
            let why = sentence(&authority.why);
            let _always = write!(html, "<li>{name}: {} ({reason}){why}<ul>", mark(authority.passed));
            for item in &authority.evidence {
                let signer =
                    item.signer.as_deref().map_or(String::new(), |signer| format!(" by {}", escaped(signer)));
                let digest = escaped(item.digest.as_str());
                let (reason, why) = (item.reason.as_str(), sentence(&item.why));
                let _always = write!(html, "<li><code>{digest}</code>{signer}: {reason}{why}</li>");
            }
            html.push_str("</ul></li>");
        }
        html.push_str("</ul></li>");
    }
    html.push_str("</ul>");
}

fn sentence(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {}", escaped(text)) }
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if c.is_control() => html.push(' '),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_text_is_escaped() {
        let (repo, reference) = parse("prod/app:1.0").unwrap();
        assert_eq!((repo.as_str(), reference), ("prod/app", Reference::Tag("1.0".parse().unwrap())));
        assert!(matches!(parse("prod/app").unwrap().1, Reference::Tag(tag) if tag.as_str() == "latest"));
        for wrong in ["", "a b", "A", "a@sha256:00", "a:-"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(escaped("<a href=\"x\">'&\n"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp; ");
    }
}
