// SPDX-License-Identifier: AGPL-3.0-only
//! `external_url`: what clients call this registry, behind whatever proxies. A scheme, a host and perhaps
//! a port: a registry has its host name to itself, because clients put no path before `/v2/`.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Serialize, Serializer};

/// `https://HOST`, perhaps with a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ExternalUrl {
    https: bool,
    host: String,
    port: Option<u16>,
}

impl ExternalUrl {
    /// Whether its scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, with the port if there is one.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The host: a name in lower case, an IPv4 address, or an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for ExternalUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{text:?} {why}; write for example https://registry.example"));
        let Ok(uri) = text.parse::<Uri>() else { return wrong("is no URL") };
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return wrong("does not begin with https:// or http://"),
        };
        let Some(authority) = uri.authority() else { return wrong("has no host") };
        if authority.as_str().contains('@') {
            return Err("a URL that everybody sees has no user; write for example https://registry.example"
                .to_owned());
        }
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            return wrong("has more than a host: clients put nothing before /v2/");
        }
        if authority.host().is_empty() {
            return wrong("has no host");
        }
        let port = authority.port_u16();
        // An empty port, or one that is no port, is none to the parser.
        if port == Some(0) || (port.is_none() && !authority.as_str().ends_with(authority.host())) {
            return wrong("has a port that is not a number from 1 to 65535");
        }
        Ok(Self { https, host: authority.host().to_ascii_lowercase(), port })
    }
}

impl TryFrom<String> for ExternalUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Serialize for ExternalUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_or_without_a_port_is_a_url() {
        for (text, host, shown) in [
            ("https://registry.example", "registry.example", "https://registry.example"),
            ("https://Registry.Example/", "registry.example", "https://registry.example"),
            ("http://localhost:5000", "localhost", "http://localhost:5000"),
            ("https://[2001:db8::1]:8443", "2001:db8::1", "https://[2001:db8::1]:8443"),
            ("https://192.0.2.1", "192.0.2.1", "https://192.0.2.1"),
        ] {
            let url: ExternalUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.to_string().as_str()), (host, shown));
            assert_eq!(url.is_https(), text.starts_with("https"));
            assert_eq!(shown.parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_more_or_less_than_that_is_refused() {
        for (text, why) in [
            ("", "is no URL"),
            ("registry.example", "does not begin with"),
            ("ftp://registry.example", "does not begin with"),
            ("https://", "is no URL"),
            ("https://:443", "has no host"),
            ("https://registry.example/images", "has more than a host"),
            ("https://registry.example?x", "has more than a host"),
            ("https://registry.example:", "has a port"),
            ("https://registry.example:0", "has a port"),
            ("https://registry.example:65536", "has a port"),
            ("https://user:secret@registry.example", "has no user"),
        ] {
            let told = text.parse::<ExternalUrl>().unwrap_err();
            assert!(told.contains(why) && told.contains("write for example"), "{text}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
