// SPDX-License-Identifier: AGPL-3.0-only
//! Where to listen, and the rule that without access rules only this machine is served (DESIGN §4).
//! The rule is held on the addresses that are bound, never on the name that led to them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::ConfigError;

/// `HOST:PORT`: a host name, an IPv4 address, or an IPv6 address in brackets; port 0 is any free one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Listen {
    /// The port; 0 is any free one.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is an address and not a name.
    pub(super) const fn is_literal(&self) -> bool {
        matches!(self.host, Host::Address(_))
    }

    /// The addresses of the host, each once; all of them loopback, unless there are rules for who may do what.
    pub(super) fn addresses(&self, rules: bool) -> Result<Vec<SocketAddr>, ConfigError> {
        let found: Vec<SocketAddr> = match &self.host {
            Host::Address(address) => vec![(*address, self.port).into()],
            Host::Name(name) => {
                let resolved = (name.as_str(), self.port).to_socket_addrs();
                resolved.map_err(|source| ConfigError::Resolve { listen: self.clone(), source })?.collect()
            }
        };
        let mut addresses = Vec::new();
        for address in found {
            if !rules && !address.ip().is_loopback() {
                return Err(ConfigError::NotLoopback { listen: self.clone(), address });
            }
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { host: Host::Address(Ipv4Addr::LOCALHOST.into()), port: 5000 }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| Err(format!("{text:?} {why}; write HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000"));
        let Some((host, port)) = text.rsplit_once(':') else { return wrong("has no port") };
        // `u16::from_str` takes a sign, which no address has.
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let Some(port) = port.parse().ok().filter(|_| digits) else {
            return wrong("has a port that is not a number from 0 to 65535");
        };
        if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            return match inner.parse::<Ipv6Addr>() {
                Ok(address) => Ok(Self { host: Host::Address(address.into()), port }),
                Err(_) => wrong("has something else than an IPv6 address in its brackets"),
            };
        }
        if host.contains(':') {
            return wrong("has an IPv6 address without brackets");
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Ok(Self { host: Host::Address(address.into()), port });
        }
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if host.is_empty() || !host.bytes().all(is_name) {
            return wrong(if host.is_empty() { "has no host" } else { "has a host that is no name" });
        }
        Ok(Self { host: Host::Name(host.to_owned()), port })
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::from((*address, self.port)).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Overrides};

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_is_served_by_address_and_by_name() {
        for text in ["127.0.0.1:5000", "127.8.9.1:0", "[::1]:5000"] {
            assert_eq!(listen(text).addresses(false).unwrap(), [text.parse::<SocketAddr>().unwrap()]);
        }
        let named = listen("localhost:5000").addresses(false).unwrap();
        assert!(!named.is_empty() && named.iter().all(|a| a.ip().is_loopback() && a.port() == 5000));
    }

    #[test]
    fn any_other_address_is_refused_with_the_way_out() {
        for text in ["0.0.0.0:5000", "[::]:5000", "10.0.0.1:5000", "[::ffff:127.0.0.1]:5000", "192.168.1.1:0"]
        {
            let error = listen(text).addresses(false).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!(
                    "listen: {text} is not a loopback address, and without access rules only"
                )),
                "{error}"
            );
        }
        let error = listen("0.0.0.0:5001").addresses(false).unwrap_err().to_string();
        assert!(
            error.contains("use 127.0.0.1:5001")
                && error.ends_with("\naccess:\n  - {allow: [pull], to: everyone}"),
            "{error}"
        );
        // What is printed does what it says.
        let (_, lines) = error.split_once('\n').unwrap();
        let written = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(written.path(), lines).unwrap();
        let config = Config::load(Some(written.path()), [], Overrides::default()).unwrap();
        assert_eq!(config.access.len(), 1);
        assert_eq!(listen("0.0.0.0:5001").addresses(!config.access.is_empty()).unwrap().len(), 1);
    }

    #[test]
    fn a_name_is_judged_by_what_it_resolves_to() {
        let address = "192.0.2.1:80".parse().unwrap();
        let error = ConfigError::NotLoopback { listen: listen("example.org:80"), address }.to_string();
        assert!(
            error.contains("example.org:80 resolves to 192.0.2.1:80, which is not a loopback address, and"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form_that_is() {
        for text in [
            "",
            "5000",
            ":5000",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:+1",
            "::1:5000",
            "*:5000",
            "[x]:1",
        ] {
            assert!(text.parse::<Listen>().unwrap_err().contains("write HOST:PORT"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_read_back_as_it_was_written(address in any::<SocketAddr>()) {
            let mut address = address;
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_scope_id(0);
            }
            prop_assert_eq!(listen(&address.to_string()).to_string(), address.to_string());
        }

        #[test]
        fn without_rules_only_loopback_is_ever_handed_out(address in any::<IpAddr>(), port in any::<u16>()) {
            let bound = Listen { host: Host::Address(address), port }.addresses(false);
            prop_assert_eq!(bound.is_ok(), address.is_loopback());
        }
    }
}
