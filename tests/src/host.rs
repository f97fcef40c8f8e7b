// SPDX-License-Identifier: AGPL-3.0-only
//! Where a server is, and how it wants to be spoken to. It reads as the text that clients are given.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;

use crate::channel::Channel;
use crate::guard::Credentials;
use crate::repository::Repository;

/// `ADDRESS:PORT` of a server.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
}

impl Host {
    /// A server that speaks plain HTTP.
    pub fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), tls: None, authorization: None }
    }

    /// One that speaks TLS to clients that are configured so.
    pub fn tls(name: &str, config: Arc<ClientConfig>) -> Self {
        Self { name: name.to_owned(), tls: Some(config), authorization: None }
    }

    /// The same, where each request of the test's own says who makes it.
    #[must_use]
    pub fn logged_in(&self, credentials: &Credentials) -> Self {
        let Credentials { name, secret } = credentials;
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{secret}")));
        Self { authorization: Some(authorization), ..self.clone() }
    }

    /// What each request to it has as `Authorization`.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A URL there.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.name)
    }

    /// The repository `name` there, spoken to without a client.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(self, name)
    }

    pub(crate) fn connect(&self) -> io::Result<Channel> {
        let socket = TcpStream::connect(&self.name)?;
        let address = self.name.rsplit_once(':').map_or(self.name.as_str(), |(address, _)| address);
        Ok(match &self.tls {
            None => Channel::plain(socket),
            Some(config) => Channel::tls(socket, config, address),
        })
    }
}

impl Deref for Host {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl From<&Host> for Host {
    fn from(host: &Host) -> Self {
        host.clone()
    }
}

impl From<&str> for Host {
    fn from(name: &str) -> Self {
        Self::plain(name)
    }
}

impl From<&String> for Host {
    fn from(name: &String) -> Self {
        Self::plain(name)
    }
}
