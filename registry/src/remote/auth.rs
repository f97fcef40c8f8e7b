// SPDX-License-Identifier: AGPL-3.0-only
//! Logging in: nothing is shown until the registry asks (401), then what its challenge wants: name and
//! password (Basic), or a token from its token service (Bearer, as `docker login` and pull do it). Tokens are
//! kept by scope until they expire. Secrets go to the registry's own origin and to its token service only,
//! and not over plain HTTP where the registry itself is reached over TLS.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Deserialize;
use stella_storage::RepoName;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::challenge::{Challenge, challenges};
use super::credentials::{Credential, CredentialStore, Secret};
use super::error::{Error, Result};
use super::reference::Host;
use super::text::printable;
use super::wire::{Patience, explain, whole};

const MAX_ANSWER: usize = 64 << 10;
const MAX_REDIRECTS: u32 = 3;
/// A token is fetched anew so long before it expires.
const MARGIN: Duration = Duration::from_secs(10);

/// What a request needs to be allowed, such as `repository:app:pull`.
pub(super) type Scopes = BTreeSet<String>;

/// The state of being logged in at one registry.
pub(super) struct Auth {
    host: Host,
    repository: RepoName,
    /// Whether the registry is reached over TLS.
    secure: bool,
    store: CredentialStore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: Option<Challenge>,
    /// Looked for once; there may be none.
    credential: OnceLock<Option<Credential>>,
    tokens: HashMap<Scopes, Token>,
}

struct Token {
    header: HeaderValue,
    expires: Instant,
}

impl Auth {
    pub(super) fn new(host: Host, repository: RepoName, secure: bool, store: CredentialStore) -> Self {
        Auth { host, repository, secure, store, state: Mutex::default() }
    }

    /// What to show with a request, as far as is known.
    pub(super) async fn header(
        &self,
        client: &Client,
        patience: &Patience,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>> {
        let mut state = self.state.lock().await;
        match state.scheme.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => self.basic(&mut state).await,
            Some(scheme @ Challenge::Bearer { .. }) => {
                if let Some(token) = state.token(scopes) {
                    return Ok(Some(token));
                }
                self.bearer(client, patience, &mut state, &scheme, scopes).await.map(Some)
            }
        }
    }

    /// Whether there is anything to log in with.
    pub(super) async fn has_login(&self) -> Result<bool> {
        let mut state = self.state.lock().await;
        Ok(self.credential(&mut state).await?.is_some())
    }

    /// Learns from a 401 how to log in.
    pub(super) async fn meet(&self, answer: &Response) {
        let offered = challenges(answer.headers());
        let bearer = offered.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        self.state.lock().await.scheme = bearer.or(offered.first()).cloned();
    }

    /// Learns from a 401 to a request that showed `shown`; whether to try once more.
    pub(super) async fn learn(
        &self,
        client: &Client,
        patience: &Patience,
        answer: &Response,
        scopes: &Scopes,
        shown: Option<&HeaderValue>,
    ) -> Result<bool> {
        let offered = challenges(answer.headers());
        let bearer = offered.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let Some(scheme) = bearer.or(offered.first()) else { return Ok(false) };
        let mut state = self.state.lock().await;
        state.scheme = Some(scheme.clone());
        match scheme {
            Challenge::Basic => {
                Ok(self.basic(&mut state).await?.as_ref().is_some_and(|now| shown != Some(now)))
            }
            Challenge::Bearer { .. } => {
                state.tokens.retain(|_, token| Some(&token.header) != shown);
                if state.token(scopes).is_none() {
                    self.bearer(client, patience, &mut state, scheme, scopes).await?;
                }
                // Else another request has fetched a newer one meanwhile.
                Ok(true)
            }
        }
    }

    /// What to do about a 401 that stays.
    pub(super) async fn advice(&self) -> String {
        let state = self.state.lock().await;
        match state.credential.get() {
            Some(Some(_)) => format!("the credentials for {} were refused", self.host),
            _ => format!("log in with `docker login {}`", self.host),
        }
    }

    async fn credential<'s>(&self, state: &'s mut State) -> Result<Option<&'s Credential>> {
        if state.credential.get().is_none() {
            let found = self.store.find(&self.host, &self.repository).await?;
            return Ok(state.credential.get_or_init(|| found).as_ref());
        }
        Ok(state.credential.get().and_then(Option::as_ref))
    }

    async fn basic(&self, state: &mut State) -> Result<Option<HeaderValue>> {
        match self.credential(state).await? {
            Some(Credential::Password { user, secret }) => basic(user, secret).map(Some),
            Some(Credential::Registry(token)) => bearer(token.reveal()).map(Some),
            Some(Credential::Identity(_)) | None => Ok(None),
        }
    }

    /// Fetches a token for `scopes`, and for what the challenge names beside them.
    async fn bearer(
        &self,
        client: &Client,
        patience: &Patience,
        state: &mut State,
        scheme: &Challenge,
        scopes: &Scopes,
    ) -> Result<HeaderValue> {
        let Challenge::Bearer { realm, service, scope } = scheme else {
            return Err(Error::Failed("internal: no token service".to_owned()));
        };
        let credential = self.credential(state).await?.cloned();
        if let Some(Credential::Registry(token)) = &credential {
            return bearer(token.reveal());
        }
        let mut wanted = scopes.clone();
        // We know what we need, and more would be too much; but some registries call a repository otherwise.
        let named: Scopes =
            scope.iter().flat_map(|scope| scope.split_whitespace()).map(str::to_owned).collect();
        if !named.iter().any(|named| scopes.iter().any(|ours| resource(ours) == resource(named))) {
            wanted.extend(named);
        }
        let request =
            TokenRequest { realm: self.realm(realm)?, service: service.as_deref(), scopes: &wanted };
        let answer =
            request.send(client, patience, credential.as_ref()).await.map_err(|error| match error {
                Error::Auth(message) | Error::NotFound(message) => {
                    let who =
                        credential.as_ref().map_or("without credentials", |_| "with the stored credentials");
                    Error::Auth(format!("no token for {} {who}: {message}", self.host))
                }
                error => error.about(format!("token service of {}", self.host)),
            })?;
        let header = bearer(&answer.token)?;
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(1, 86_400));
        let expires = Instant::now() + lifetime.saturating_sub(MARGIN).max(lifetime / 2);
        state.tokens.insert(scopes.clone(), Token { header: header.clone(), expires });
        Ok(header)
    }

    fn realm(&self, realm: &str) -> Result<Url> {
        let wrong = |why: &str| {
            Error::Auth(format!("{} names a token service {why}: {}", self.host, printable(realm, 200)))
        };
        let url: Url = realm.parse().map_err(|_| wrong("that is no URL"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if !self.secure => Ok(url),
            "http" => Err(wrong("without TLS")),
            _ => Err(wrong("that is not on the web")),
        }
    }
}

struct TokenRequest<'a> {
    realm: Url,
    service: Option<&'a str>,
    scopes: &'a Scopes,
}

struct Answer {
    token: String,
    expires_in: Option<u64>,
}

impl TokenRequest<'_> {
    async fn send(
        &self,
        client: &Client,
        patience: &Patience,
        credential: Option<&Credential>,
    ) -> Result<Answer> {
        let mut failures = 0;
        loop {
            let error = match self.once(client, patience, credential).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            match patience.after(failures, &error) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn once(
        &self,
        client: &Client,
        patience: &Patience,
        credential: Option<&Credential>,
    ) -> Result<Answer> {
        let mut url = self.realm.clone();
        let mut redirects = 0;
        loop {
            let request = self.request(client, url.clone(), credential)?;
            let response = timeout(patience.idle, request.send())
                .await
                .map_err(|_| Error::transient("it does not answer"))?
                .map_err(|error| explain(error, "cannot connect"))?;
            let status = response.status();
            if status.is_redirection() && redirects < MAX_REDIRECTS {
                redirects += 1;
                url = self.next(&url, &response)?;
                continue;
            }
            let headers = response.headers().clone();
            let body = whole(response, MAX_ANSWER, patience).await?;
            if status != StatusCode::OK {
                return Err(match Error::of_answer(status, &headers, &body) {
                    Error::Failed(message) => Error::Auth(message),
                    error => error,
                });
            }
            return parse(&body);
        }
    }

    fn request(
        &self,
        client: &Client,
        mut url: Url,
        credential: Option<&Credential>,
    ) -> Result<RequestBuilder> {
        if let Some(Credential::Identity(token)) = credential {
            let scopes = self.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let mut form = form_urlencoded(&[
                ("grant_type", "refresh_token"),
                ("client_id", "stella"),
                ("scope", &scopes),
                ("refresh_token", token.reveal()),
            ]);
            if let Some(service) = self.service {
                form.push('&');
                form.push_str(&form_urlencoded(&[("service", service)]));
            }
            let kind = "application/x-www-form-urlencoded";
            return Ok(client.post(url).header(header::CONTENT_TYPE, kind).body(form));
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(Credential::Password { user, .. }) = credential {
                query.append_pair("account", user);
            }
        }
        let request = client.get(url);
        Ok(match credential {
            Some(Credential::Password { user, secret }) => {
                request.header(header::AUTHORIZATION, basic(user, secret)?)
            }
            _ => request,
        })
    }

    /// A token service may move within its origin; what it is shown does not leave that.
    fn next(&self, url: &Url, response: &Response) -> Result<Url> {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        match next {
            // Our parameters are added again.
            Some(mut next) if next.origin() == self.realm.origin() => {
                next.set_query(None);
                Ok(next)
            }
            _ => Err(Error::Auth("it sends us somewhere else, where no credentials are shown".to_owned())),
        }
    }
}

fn parse(body: &[u8]) -> Result<Answer> {
    #[derive(Deserialize)]
    struct Document {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    // Not the parser's words: they may quote a token.
    let document: Document = serde_json::from_slice(body)
        .map_err(|_| Error::Auth("its answer is not what the specification says".to_owned()))?;
    let token = document.token.filter(|token| !token.is_empty()).or(document.access_token);
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| Error::Auth("its answer holds no token".to_owned()))?;
    Ok(Answer { token, expires_in: document.expires_in })
}

impl State {
    /// A token that was fetched for all of `scopes`, or for more.
    fn token(&self, scopes: &Scopes) -> Option<HeaderValue> {
        let now = Instant::now();
        let mut good = self.tokens.iter().filter(|(held, token)| now < token.expires && covers(held, scopes));
        good.next().map(|(_, token)| token.header.clone())
    }
}

/// Whether each of the scopes `wanted` is within one of `held`.
fn covers(held: &Scopes, wanted: &Scopes) -> bool {
    wanted.iter().all(|wanted| held.iter().any(|held| within(wanted, held)))
}

/// Whether one scope, `KIND:NAME:ACTION,ACTION`, is within another.
fn within(wanted: &str, held: &str) -> bool {
    let actions = |scope: &str| -> Vec<String> {
        scope.rsplit(':').next().unwrap_or_default().split(',').map(str::to_owned).collect()
    };
    let held_actions = actions(held);
    resource(wanted) == resource(held) && actions(wanted).iter().all(|action| held_actions.contains(action))
}

fn resource(scope: &str) -> &str {
    scope.rsplit_once(':').map_or(scope, |(resource, _)| resource)
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let pair =
        |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn basic(user: &str, secret: &Secret) -> Result<HeaderValue> {
    sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", secret.reveal()))))
}

fn bearer(token: &str) -> Result<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::Auth("a token holds characters that no header can carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_for_more_is_a_token_for_less() {
        let set = |scopes: &[&str]| scopes.iter().map(|&scope| scope.to_owned()).collect::<Scopes>();
        let push = set(&["repository:a:pull,push"]);
        assert!(covers(&push, &set(&["repository:a:pull"])) && covers(&push, &set(&[])));
        for more in [
            &["repository:b:pull"][..],
            &["repository:a:delete"],
            &["repository:a:pull", "repository:b:pull"],
        ] {
            assert!(!covers(&push, &set(more)), "{more:?}");
        }
        assert!(!covers(&set(&["repository:a:pull"]), &push));
    }
}
