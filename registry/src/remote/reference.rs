// SPDX-License-Identifier: AGPL-3.0-only
//! Names of images as people write them: `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`, read as docker reads
//! them. What has no host is on Docker Hub: `alpine` is `docker.io/library/alpine`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use stella_storage::{Digest, Reference, RepoName, Tag};

use super::error::{Error, Result};
use super::text::printable;

/// The port and name of a registry, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host(Box<str>);

impl Host {
    /// The host and port as they were named.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Docker Hub has one name for people and another for its API.
    pub(crate) fn api(&self) -> &str {
        if self.is_hub() { "registry-1.docker.io" } else { &self.0 }
    }

    /// Whether it is Docker Hub.
    pub(crate) fn is_hub(&self) -> bool {
        &*self.0 == "docker.io"
    }

    /// Whether it is this machine: docker speaks plain HTTP with `127.0.0.0/8`, `::1` and `localhost` only.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = self.name();
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    fn name(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => &self.0,
        }
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Usage(format!("{:?} is not a registry's HOST[:PORT]", printable(text, 100)));
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (text, None),
        };
        if let Some(port) = port {
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            if !digits || !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(wrong());
            }
        }
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let valid = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => !name.is_empty() && name.bytes().all(word),
        };
        if !valid || text.len() > 255 {
            return Err(wrong());
        }
        let host = text.to_ascii_lowercase();
        let hub = matches!(host.as_str(), "index.docker.io" | "registry-1.docker.io");
        Ok(Host(if hub { "docker.io".into() } else { host.into() }))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a repository somewhere, and what is meant in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    /// The registry.
    pub(crate) host: Host,
    /// The repository.
    pub(crate) repository: RepoName,
    /// The tag, if one was named.
    pub(crate) tag: Option<Tag>,
    /// The digest, if one was named.
    pub(crate) digest: Option<Digest>,
}

impl ImageName {
    /// What to ask the registry for: the digest, which beats the tag; without either `latest`.
    pub(crate) fn reference(&self) -> Result<Reference> {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Ok(Reference::Digest(digest.clone())),
            (None, Some(tag)) => Ok(Reference::Tag(tag.clone())),
            (None, None) => {
                let latest = "latest".parse().map_err(|error| Error::Failed(format!("{error}")))?;
                Ok(Reference::Tag(latest))
            }
        }
    }

    /// Host and repository as signatures name them: Docker Hub as go-containerregistry does.
    pub(crate) fn signed_place(&self) -> String {
        let host = if self.host.is_hub() { "index.docker.io" } else { self.host.as_str() };
        format!("{host}/{}", self.repository)
    }

    /// Host and repository.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |why: String| Error::Usage(format!("{:?} is not an image's name: {why}", printable(text, 300)));
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(wrong(format!("leave out {scheme}:// and write {}", printable(rest, 300))));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|error| wrong(error.to_string()))?))
            }
            None => (text, None),
        };
        let (host, rest) = match rest.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => {
                (first.parse::<Host>().map_err(|error| wrong(error.to_string()))?, rest)
            }
            None if rest
                .split(':')
                .next()
                .is_some_and(|name| name == "localhost" || name.parse::<Ipv4Addr>().is_ok()) =>
            {
                return Err(wrong("it names a registry and no repository there".to_owned()));
            }
            _ => ("docker.io".parse::<Host>()?, rest),
        };
        // After the host: a colon begins the tag.
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => {
                (repository, Some(tag.parse::<Tag>().map_err(|error| wrong(error.to_string()))?))
            }
            None => (rest, None),
        };
        let repository = if host.is_hub() && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let repository =
            repository.parse().map_err(|error: stella_storage::Error| wrong(error.to_string()))?;
        Ok(ImageName { host, repository, tag, digest })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn name(text: &str) -> ImageName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_without_a_host_is_on_docker_hub() {
        for (short, long) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("docker.io/alpine", "docker.io/library/alpine"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine"),
            ("grafana/grafana", "docker.io/grafana/grafana"),
            ("a/b/c:1", "docker.io/a/b/c:1"),
        ] {
            assert_eq!(name(short).to_string(), long);
            assert_eq!(name(short).host.api(), "registry-1.docker.io");
        }
    }

    #[test]
    fn hosts_ports_tags_and_digests_are_told_apart() {
        let all = format!("registry.test:5000/a/b:1.0@{HEX}");
        let parsed = name(&all);
        assert_eq!(parsed.host.as_str(), "registry.test:5000");
        assert_eq!(parsed.repository.as_str(), "a/b");
        assert_eq!(parsed.tag.as_ref().unwrap().as_str(), "1.0");
        assert_eq!(parsed.reference().unwrap().to_string(), HEX);
        assert_eq!(parsed.to_string(), all);
        assert_eq!(name("localhost/a").host.as_str(), "localhost");
        assert_eq!(name("[::1]:5000/a").host.as_str(), "[::1]:5000");
        assert_eq!(name("REGISTRY.test/a").host.as_str(), "registry.test");
        assert_eq!(name("r.test/a").reference().unwrap().to_string(), "latest");
        assert_eq!(name("localhost:5000/a").tag, None);
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "lower-case"),
            ("r.test/", "lower-case"),
            ("r.test/A", "lower-case"),
            ("r.test/a:", "tag"),
            ("r.test/a:b:c", "tag"),
            ("r.test/a@sha256:1", "64 lower-case"),
            ("https://r.test/a", "leave out https://"),
            ("r.test:99999/a", "HOST[:PORT]"),
            ("r.test:/a", "HOST[:PORT]"),
            ("[::1/a", "HOST[:PORT]"),
            ("user@r.test/a", "digest"),
            ("127.0.0.1:5000", "no repository"),
            ("localhost", "no repository"),
        ] {
            let error = text.parse::<ImageName>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(error.exit(), crate::exit::USAGE);
        }
    }

    #[test]
    fn loopback_is_known_by_address_and_by_name() {
        let is = |text: &str| text.parse::<Host>().unwrap().is_loopback();
        for text in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:5000"] {
            assert!(is(text), "{text}");
        }
        for text in ["127.0.0.1.example.org", "10.0.0.1:5000", "localhost.example.org", "[::2]:5000"] {
            assert!(!is(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_never_panic_and_round_trip(text in "\\PC{0,80}|[a-z0-9.:/@\\[\\]_-]{0,60}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
            }
        }
    }
}
