// SPDX-License-Identifier: AGPL-3.0-only
//! A registry that asks who is there: the ways to prove it, the people that it knows, and what its rules let them
//! do. `group/app` is the builder's, who reads `group/base` and no other; where tokens are given, `public` is for everyone to read.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::issuer::{Algorithm, Issuer};
use crate::program::stella;
use crate::tool::Tool;

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// A name and a password, with each request.
    Basic,
    /// A name and a password, for tokens of the registry's own service.
    Token,
    /// An ID token of an issuer as the password, for tokens of the registry's own service.
    Oidc,
}

/// Somebody whom the registry knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// May do everything.
    Operator,
    /// Pulls and pushes in `group/app`, and pulls from `group/base`.
    Builder,
    /// Signs in `group/app`, and that is all.
    Signer,
}

/// What somebody logs in with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name.
    pub name: String,
    /// A password, or an ID token.
    pub secret: String,
}

/// What a registry needs to know before it asks.
#[derive(Debug)]
pub struct Guard {
    login: Login,
    issuer: Option<Issuer>,
    settings: Vec<(String, String)>,
    others: Vec<Client>,
    // What the settings name.
    _folder: TempDir,
}

impl Guard {
    /// One that lets people in so.
    pub fn new(login: Login) -> Self {
        let folder = TempDir::with_prefix("stella-guard-").unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut settings = vec![("STELLA_ACCESS".to_owned(), rules(login))];
        let mut set = |name: &str, value: String| settings.push((name.to_owned(), value));
        let issuer = if login == Login::Oidc {
            let issuer = Issuer::new();
            fs::write(file("jwks.json"), issuer.jwks().to_string()).unwrap();
            let known = json!([{
                "name": "gitlab", "issuer": Issuer::NAME, "audience": Issuer::AUDIENCE, "jwks": file("jwks.json"),
                "subject": "{project_path}", "own": ["{project_path}", "{project_path}/**"],
            }]);
            set("STELLA_AUTH__ISSUERS", known.to_string());
            Some(issuer)
        } else {
            set("STELLA_AUTH__HTPASSWD", add(&folder, &[Who::Operator, Who::Builder, Who::Signer].map(name)));
            None
        };
        let challenge = if login == Login::Basic { "basic" } else { "token" };
        set("STELLA_AUTH__CHALLENGE", challenge.to_owned());
        Self { login, issuer, settings, others: Vec::new(), _folder: folder }
    }

    /// One that knows these people by their passwords, for tokens of the registry's own service; with other access rules,
    /// and other settings besides. `others` are clients that come along with the one that is tested.
    pub fn of(people: &[&str], rules: &str, more: &[(&str, &str)], others: &[Client]) -> Self {
        let folder = TempDir::with_prefix("stella-guard-").unwrap();
        let users = add(&folder, people);
        let own = [
            ("STELLA_ACCESS", rules),
            ("STELLA_AUTH__HTPASSWD", &users),
            ("STELLA_AUTH__CHALLENGE", "token"),
        ];
        let settings =
            own.iter().chain(more).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { login: Login::Token, issuer: None, settings, others: others.to_vec(), _folder: folder }
    }

    /// The clients that come along with the one that is tested.
    pub fn others(&self) -> &[Client] {
        &self.others
    }

    /// What somebody logs in with who is known by a password.
    pub fn person(&self, name: &str) -> Credentials {
        Credentials { name: name.to_owned(), secret: password(name) }
    }

    /// The settings of the server.
    pub fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// What somebody logs in with.
    pub fn credentials(&self, who: Who) -> Credentials {
        let Some(issuer) = &self.issuer else {
            return self.person(name(who));
        };
        // GitLab signs with RSA; others do not.
        let algorithm = if who == Who::Builder { Algorithm::Rs256 } else { Algorithm::Es256 };
        let secret = issuer.sign(algorithm, &Issuer::claims(project(who)));
        Credentials { name: "gitlab-ci".to_owned(), secret }
    }

    /// What somebody else has who says to be `who`: a wrong password, or a token that says all that is right and is
    /// signed with another key.
    pub fn forged(&self, who: Who) -> Credentials {
        let secret = match self.issuer {
            None => "wrong".to_owned(),
            Some(_) => Issuer::new().sign(Algorithm::Rs256, &Issuer::claims(project(who))),
        };
        Credentials { secret, ..self.credentials(who) }
    }

    /// The token of a job of somebody's that says something else than usual: these claims.
    ///
    /// # Panics
    /// If nobody issues tokens here.
    pub fn job(&self, who: Who, others: &[(&str, Value)]) -> Credentials {
        let mut claims = Issuer::claims(project(who));
        for (claim, value) in others {
            claims[claim] = value.clone();
        }
        let secret = self.issuer.as_ref().unwrap().sign(Algorithm::Rs256, &claims);
        Credentials { name: "gitlab-ci".to_owned(), secret }
    }

    /// What the registry calls somebody.
    pub fn subject(&self, who: Who) -> String {
        match self.login {
            Login::Basic | Login::Token => name(who).to_owned(),
            Login::Oidc => format!("gitlab:{}", project(who)),
        }
    }
}

fn name(who: Who) -> &'static str {
    match who {
        Who::Operator => "operator",
        Who::Builder => "builder",
        Who::Signer => "signer",
    }
}

fn password(name: &str) -> String {
    format!("s3cret-of-the-{name}")
}

/// Makes a file of people, as an operator does it, and gives its path.
fn add(folder: &TempDir, people: &[&str]) -> String {
    let users = folder.path().join("users").display().to_string();
    let secret = folder.path().join("password");
    for name in people {
        fs::write(&secret, password(name)).unwrap();
        let stella = Tool::new(stella().to_owned(), folder.path()).input(&secret);
        stella.run(&format!("user add {name} --file {users}"));
    }
    users
}

/// Whose jobs somebody is.
fn project(who: Who) -> &'static str {
    match who {
        Who::Operator => "platform/registry",
        Who::Builder => "group/app",
        Who::Signer => "platform/signing",
    }
}

fn rules(login: Login) -> String {
    let theirs = if login == Login::Oidc {
        "{allow: all, to: {subject: 'gitlab:platform/registry'}}, \
         {allow: [sign], to: {subject: 'gitlab:platform/signing'}, repositories: [group/app]}, \
         {deny: [push], to: {subject: 'gitlab:platform/signing'}}, \
         {allow: [pull, push], to: {subject: 'gitlab:*/**', claims: {ref_protected: 'true'}}, repositories: [own]}, \
         {allow: [pull], to: {subject: 'gitlab:group/app'}, repositories: [group/base]}"
    } else {
        "{allow: all, to: {subject: operator}}, \
         {allow: [sign], to: {subject: signer}, repositories: [group/app]}, \
         {allow: [pull, push], to: {subject: builder}, repositories: [group/app]}, \
         {allow: [pull], to: {subject: builder}, repositories: [group/base]}"
    };
    // Where passwords are asked for with each request, a registry with something for everyone greets everyone, and
    // clients that are greeted do not send theirs.
    let public =
        if login == Login::Basic { "" } else { ", {allow: [pull], to: everyone, repositories: [public/**]}" };
    format!("[{theirs}{public}]")
}
