// SPDX-License-Identifier: AGPL-3.0-only
//! What a client is asked for that has not said who it is, or whose token is not for what it wants: the header
//! `WWW-Authenticate` (RFC 9110, section 11.6.1; the Docker token specification). Clients read no more than one
//! challenge, take all values in quotes, and go on with a token only if `error` says why theirs did not do.

use std::fmt::Write as _;

use stella_storage::RepoName;

use super::Action;

/// What a request that was refused would have needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    scope: String,
    error: Option<&'static str>,
}

impl Wanted {
    /// An action in a repository, with the others that clients need for it.
    pub(crate) fn of(action: Action, repo: &RepoName) -> Self {
        let actions = match action {
            Action::Pull | Action::Preview => "pull",
            Action::Push | Action::Sign => "pull,push",
            Action::Delete => "delete",
            Action::Admin => return Self::default(),
        };
        Wanted { scope: format!("repository:{repo}:{actions}"), error: None }
    }

    /// The list of repositories.
    pub(crate) fn catalog() -> Self {
        Wanted { scope: "registry:catalog:*".to_owned(), error: None }
    }

    /// And to pull from another repository.
    pub(crate) fn and_pull(mut self, repo: &RepoName) -> Self {
        let _infallible = write!(self.scope, " repository:{repo}:pull");
        self
    }

    /// The token is right and not for this.
    pub(crate) fn insufficient(mut self) -> Self {
        self.error = Some("insufficient_scope");
        self
    }

    /// The token is wrong, or too old.
    pub(crate) fn invalid() -> Self {
        Wanted { scope: String::new(), error: Some("invalid_token") }
    }

    /// The header's value, for a client that finds tokens at `realm`, where we are called `service`.
    pub(crate) fn header(&self, realm: &str, service: &str) -> String {
        let mut header = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        if !self.scope.is_empty() {
            let _infallible = write!(header, ",scope=\"{}\"", self.scope);
        }
        if let Some(error) = self.error {
            let _infallible = write!(header, ",error=\"{error}\"");
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_where_and_for_what_to_get_a_token() {
        let repo: RepoName = "a/b".parse().unwrap();
        let header = |wanted: &Wanted| wanted.header("https://r.example/token", "r.example");
        assert_eq!(
            header(&Wanted::default()),
            r#"Bearer realm="https://r.example/token",service="r.example""#
        );
        assert_eq!(
            header(&Wanted::of(Action::Push, &repo).and_pull(&"c".parse().unwrap()).insufficient()),
            r#"Bearer realm="https://r.example/token",service="r.example",scope="repository:a/b:pull,push repository:c:pull",error="insufficient_scope""#
        );
        assert!(header(&Wanted::invalid()).ends_with(r#",error="invalid_token""#));
    }
}
