// SPDX-License-Identifier: AGPL-3.0-only
//! How the registry is watched: `metrics`, `audit` and `tracing`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Listen};

/// `metrics`: where they are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where metrics and health are served, instead of metrics on `listen`. Default: nowhere else.
    pub listen: Option<Listen>,
}

/// `audit`: where each change is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// A file to which each line is appended. Default: the log.
    pub file: Option<PathBuf>,
}

/// `tracing`: where traces go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// A collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. Default: none.
    pub otlp: Option<Endpoint>,
}

/// `http://HOST:PORT`, with a path before `/v1/traces` if the collector wants one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{text:?} {why}; write http://HOST:PORT"));
        let Ok(uri) = text.parse::<http::Uri>() else { return wrong("is not a URL") };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return wrong("needs TLS, which is not spoken here: put an agent on this machine");
            }
            _ => return wrong("does not begin with http://"),
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() || text.contains('@') {
            return wrong("is more, or less, than a host, a port and a path");
        }
        Ok(Endpoint(text.trim_end_matches('/').to_owned()))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// The addresses of `metrics.listen`, all of them loopback if there are no access rules; none if it is not set.
    pub fn metrics_addresses(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let Some(listen) = &self.metrics.listen else { return Ok(Vec::new()) };
        listen.addresses(!self.access.is_empty()).map_err(|error| {
            let reason = match error {
                ConfigError::NotLoopback { address, .. } => {
                    format!("{address} is not a loopback address; without access rules metrics are served to this machine only")
                }
                ConfigError::Resolve { source, .. } => {
                    format!("cannot resolve the host of {listen}: {source}")
                }
                other => return other,
            };
            self.bad_value("metrics.listen", reason)
        })
    }

    /// The collector of traces, if there is one and this program can speak to it.
    pub fn otlp(&self) -> Result<Option<&Endpoint>, ConfigError> {
        match &self.tracing.otlp {
            Some(_) if !cfg!(feature = "otlp") => {
                let reason = "this program was built without OTLP: build it with `cargo build --release --features \
                              otlp`, or remove this";
                Err(self.bad_value("tracing.otlp", reason.to_owned()))
            }
            endpoint => Ok(endpoint.as_ref()),
        }
    }

    fn bad_value(&self, key: &str, reason: String) -> ConfigError {
        ConfigError::BadValue { origin: self.origin(key), key: key.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_plain_address() {
        for (text, read) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("http://localhost/otlp/", "http://localhost/otlp"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), read);
        }
        for text in
            ["", "127.0.0.1:4318", "https://x", "grpc://x:4317", "http://", "http://u:p@h", "http://h?x=y"]
        {
            assert!(text.parse::<Endpoint>().unwrap_err().contains("write http://"), "{text}");
        }
    }

    #[test]
    fn metrics_are_for_this_machine() {
        let with = |listen: &str| {
            let metrics = Metrics { listen: Some(listen.parse().unwrap()) };
            Config { metrics, ..Config::default() }.metrics_addresses()
        };
        assert_eq!(with("127.0.0.1:0").unwrap().len(), 1);
        let error = with("0.0.0.0:9090").unwrap_err().to_string();
        assert!(error.contains("`metrics.listen`: 0.0.0.0:9090 is not a loopback address"), "{error}");
    }
}
