// SPDX-License-Identifier: AGPL-3.0-only
//! A network, such as `10.0.0.0/8`, or a single address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

/// An entry of `trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` is in it. An IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let Ok(network) = text.parse::<IpNet>() else {
            return Err(format!("{text:?} is no network; write for example 10.0.0.0/8, ::1 or 192.0.2.7"));
        };
        if network != network.trunc() {
            return Err(format!("{text:?} is an address within a network; write {}", network.trunc()));
        }
        Ok(Self(network))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::1", "::1", "::2"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:128.0.0.1"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
        ] {
            let read: Network = network.parse().unwrap();
            assert_eq!(read.to_string(), network);
            assert!(read.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!read.contains(outside.parse().unwrap()), "{outside} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_one_that_is() {
        for (text, expected) in [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("localhost", "write for example"),
            ("10.0.0.0/33", "write for example"),
            ("10.0.0", "write for example"),
            ("", "write for example"),
        ] {
            let told = text.parse::<Network>().unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }
}
