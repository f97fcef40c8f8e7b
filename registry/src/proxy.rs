// SPDX-License-Identifier: AGPL-3.0-only
//! Who a client is, when a proxy stands between: its address and its scheme, for the log and the audit.
//!
//! Anybody can write the headers that tell, so they count only from a peer in `trusted_proxies`, and of the
//! chain of addresses only as much as trusted proxies have written: the client is the right-most address
//! that is not one of theirs. What is written wrongly is passed over; no request fails by it, and nothing is
//! decided by it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The address of the client that made a request; of a proxy where that tells nothing, or is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the client spoke: to the outermost trusted proxy, or to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// The proxies that are believed.
pub(crate) struct Proxies(Vec<Network>);

impl Proxies {
    pub(crate) fn new(trusted: Vec<Network>) -> Self {
        Self(trusted)
    }

    /// The client of a request with these headers that came from `peer`, by `scheme`.
    pub(crate) fn client(
        &self,
        peer: IpAddr,
        scheme: Scheme,
        headers: &HeaderMap,
    ) -> (ClientAddress, Scheme) {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return (ClientAddress(peer), scheme);
        }
        let old = lines(headers, X_FORWARDED_FOR).flat_map(|line| line.split(','));
        let new = elements(headers).map(|element| parameter(element, "for").unwrap_or_default());
        let (old, new): (Vec<_>, Vec<_>) = (old.collect(), new.collect());
        let (by_old, by_new) = (self.outermost(peer, &old), self.outermost(peer, &new));
        let address = if new.is_empty() {
            by_old
        } else if old.is_empty() || by_old == by_new {
            by_new
        } else {
            // A proxy writes one of both, and perhaps passes on the other from whoever has made it up.
            peer
        };
        let proto = lines(headers, X_FORWARDED_PROTO).flat_map(|line| line.split(',')).last();
        let proto =
            proto.or_else(|| elements(headers).filter_map(|element| parameter(element, "proto")).last());
        let scheme = match proto.map(str::trim) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case("http") => Scheme::Http,
            _ => scheme,
        };
        (ClientAddress(address), scheme)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Goes along the chain from the right, as long as those who wrote it are trusted.
    fn outermost(&self, peer: IpAddr, chain: &[&str]) -> IpAddr {
        let mut known = peer;
        for hop in chain.iter().rev() {
            let Some(address) = address(hop) else { return known };
            known = address;
            if !self.trusts(address) {
                return known;
            }
        }
        known
    }
}

/// The lines of a header, less those that are no text.
fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// The elements of `Forwarded` (RFC 7239), one for each proxy.
fn elements(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    lines(headers, FORWARDED).flat_map(|line| split(line, ','))
}

fn parameter<'e>(element: &'e str, name: &str) -> Option<&'e str> {
    split(element, ';').into_iter().find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The parts of `text`. What stands in quotes is not taken apart: a proxy puts there what its client has
/// written, such as a host with a comma and another `for` in it.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// The address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> String {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "::1"].map(|network| network.parse().unwrap());
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let proxies = Proxies::new(trusted.to_vec());
        let (address, scheme) = proxies.client(peer.parse().unwrap(), Scheme::Http, &headers);
        format!("{scheme} {address}")
    }

    const FOR: &str = "X-Forwarded-For";
    const PROTO: &str = "X-Forwarded-Proto";

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let headers = [(FOR, "192.0.2.1"), (PROTO, "https"), ("Forwarded", "for=192.0.2.1")];
        assert_eq!(client("203.0.113.9", &headers), "http 203.0.113.9");
        assert_eq!(client("127.0.0.1", &headers), "https 192.0.2.1");
        assert_eq!(client("::1", &headers), "https 192.0.2.1");
        assert_eq!(client("::ffff:127.0.0.1", &headers), "https 192.0.2.1");
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_trusted() {
        for (chain, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            // What stands further left was written by the client.
            ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.7, 192.0.2.1, 10.0.0.1,10.1.2.3", "192.0.2.1"),
            // All of them trusted: then the outermost.
            ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            // Nobody we know of: then who said so.
            ("192.0.2.1, unknown", "127.0.0.1"),
            ("192.0.2.1, unknown, 10.0.0.1", "10.0.0.1"),
            ("", "127.0.0.1"),
            (",", "127.0.0.1"),
            ("999.0.0.1", "127.0.0.1"),
            ("192.0.2.1'; drop", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[(FOR, chain)]), format!("http {expected}"), "{chain:?}");
        }
        let lines = [(FOR, "198.51.100.7"), (FOR, "192.0.2.1"), (FOR, "10.0.0.1")];
        assert_eq!(client("127.0.0.1", &lines), "http 192.0.2.1");
    }

    #[test]
    fn the_standard_header_is_understood_too() {
        for (value, expected) in [
            ("for=192.0.2.1", "http 192.0.2.1"),
            ("For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1", "https 2001:db8::1"),
            ("for=198.51.100.7, for=192.0.2.1;proto=https, for=10.0.0.1", "https 192.0.2.1"),
            ("for=_hidden, for=10.0.0.1", "http 10.0.0.1"),
            ("proto=https", "https 127.0.0.1"),
            ("for", "http 127.0.0.1"),
            ("for=192.0.2.1;host=\"a,for=198.51.100.7;proto=https\"", "http 192.0.2.1"),
            ("for=192.0.2.1;host=\"a\\\",for=198.51.100.7\"", "http 192.0.2.1"),
            ("for=192.0.2.1;host=\"a,for=198.51.100.7", "http 192.0.2.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("Forwarded", value)]), expected, "{value}");
        }
    }

    #[test]
    fn two_headers_that_contradict_each_other_say_nothing() {
        let made_up = [(FOR, "192.0.2.1"), ("Forwarded", "for=198.51.100.7")];
        assert_eq!(client("127.0.0.1", &made_up), "http 127.0.0.1");
        let same = [(FOR, "192.0.2.1"), ("Forwarded", "for=192.0.2.1;proto=https")];
        assert_eq!(client("127.0.0.1", &same), "https 192.0.2.1");
    }

    #[test]
    fn the_nearest_proxy_says_how_the_client_spoke() {
        assert_eq!(client("127.0.0.1", &[(PROTO, "HTTPS")]), "https 127.0.0.1");
        assert_eq!(client("127.0.0.1", &[(PROTO, "https, http")]), "http 127.0.0.1");
        assert_eq!(client("127.0.0.1", &[(PROTO, "gopher")]), "http 127.0.0.1");
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(value in "[ -~]{0,80}", name in prop::sample::select(vec![FOR, PROTO, "Forwarded"])) {
            let told = client("127.0.0.1", &[(name, &value)]);
            let address = told.rsplit(' ').next().unwrap();
            prop_assert!(address.parse::<IpAddr>().is_ok());
        }
    }
}
