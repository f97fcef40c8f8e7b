// SPDX-License-Identifier: AGPL-3.0-only
//! The configuration: every key, its unit, its default and its allowed range. A flag beats the
//! environment, which beats the file, which beats the default; the layers are merged as one tree of
//! keys and decoded once, so a new key is one field here (and its range in `range.rs`). Invariant: a
//! loaded `Config` is within its ranges and remembers where each value came from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stella_storage::Upgrade;

mod access;
mod auth;
mod bounds;
mod changes;
mod collection;
mod decode;
mod environment;
mod error;
mod external_url;
mod file;
mod level;
mod listen;
mod metadata;
mod monitoring;
mod network;
mod node;
mod origin;
mod period;
mod policy;
mod render;
mod size;
mod tls;

pub use access::{AccessRule, Actions, Client, Likeness, Place, Whom};
pub use auth::{Algorithm, Auth, Challenge, Issuer, KeySource, Piece, Template, Token, TokenServer};
pub use collection::{Collection, Keep, RepositoryRule};
pub use error::ConfigError;
pub use external_url::ExternalUrl;
pub use level::LogLevel;
pub use listen::Listen;
pub use metadata::{Metadata, MetadataEngine, Secret};
pub use monitoring::{Audit, Endpoint, Metrics, Tracing};
pub use network::Network;
pub use origin::Origin;
pub use period::Period;
pub use policy::{BaselineFiles, Policy};
pub use size::ByteSize;
pub use tls::{CertificateFiles, Tls, TlsVersion};

use node::{Node, Schema};

/// The effective configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen: `HOST:PORT`. Port 0 takes any free port. Default `127.0.0.1:5000`.
    pub listen: Listen,
    /// How clients are spoken to: with certificates `listen` serves https only. Default: none, plain http.
    pub tls: Tls,
    /// What clients call this registry, such as `https://registry.example`. Default: they use `listen`.
    pub external_url: Option<ExternalUrl>,
    /// The networks of proxies whose word for a client's address is taken. Default none.
    pub trusted_proxies: Vec<Network>,
    /// The directory that holds everything the registry keeps. Default `./stella-data`.
    pub data: PathBuf,
    /// What is logged, and how.
    pub log: Log,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// Where each change is written down.
    pub audit: Audit,
    /// Where traces go.
    pub tracing: Tracing,
    /// What a push may do.
    pub push: Push,
    /// What one client, or all of them together, may take.
    pub limits: Limits,
    /// What keeps the metadata.
    pub metadata: Metadata,
    /// When what nothing names any more is removed.
    pub collection: Collection,
    /// The reading of everything, to learn of damage.
    pub scrub: Scrub,
    /// Who may do what, in order; the first entry that is about a client, an action and a repository decides, and
    /// what none is about is denied. Default: none, and only this machine is served.
    pub access: Vec<AccessRule>,
    /// How clients prove who they are.
    pub auth: Auth,
    /// What images must satisfy before readers get them.
    pub policy: Policy,
    /// What happens with data that an older version wrote: `auto` or `wait`. Default `auto`.
    pub upgrade: Upgrade,
    /// What repositories keep; the first entry that matches one decides. Default: everything that is tagged,
    /// named by what is kept, or untagged.
    pub repositories: Vec<RepositoryRule>,
    /// Where each key that is not at its default came from.
    #[serde(skip)]
    origins: BTreeMap<String, Origin>,
}

/// `log`: what is logged, and how. Logs go to stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How a line looks: `auto`, `human` or `json`. Default `auto`.
    pub format: LogFormat,
    /// What is logged: a level, or a list such as `info,stella_registry=debug`. Default `info`.
    pub level: LogLevel,
}

/// `log.format`: how a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, else JSON.
    #[default]
    Auto,
    /// One line for a person to read.
    Human,
    /// One JSON object a line.
    Json,
}

/// `push`: what a push may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// Whether a manifest may name blobs and manifests that are not here. Default `false`.
    pub allow_missing: bool,
    /// The largest manifest, in bytes; 4KiB to 7MiB, because it and its entry in a
    /// referrers list are stored in one transaction of at most 16MiB. Default `4MiB`.
    pub max_manifest_size: ByteSize,
}

/// `limits`: what one client, or all of them together, may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections open at once; 1 to 1000000. Default `4096`.
    pub connections: usize,
    /// How long a client may take to send the headers of a request; 10ms to 1h. Default `30s`.
    pub header_timeout: Period,
    /// How long a connection may stand without a byte moving; 10ms to 1d. Default `60s`.
    pub idle_timeout: Period,
    /// How long requests under way may take to finish at shutdown; 10ms to 1d. Default `30s`.
    pub shutdown_timeout: Period,
    /// How long connections are still accepted at shutdown, so that whoever balances load notices; 0s to 1h.
    /// Default `0s`.
    pub drain_delay: Period,
    /// Memory for the metadata cache, the buffers of uploads and manifests on their way in, in bytes;
    /// 16MiB to 1TiB. Default `256MiB`.
    pub memory: ByteSize,
    /// Bytes of the disk that pushes leave free, so that deletes and collection can still commit: with
    /// less they get 507. 0 to 1PiB, 0 is off. Default `512MiB`.
    pub disk_reserve: ByteSize,
}

/// `scrub`: everything that is kept is read again and again, to learn of damage before a client does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scrub {
    /// Bytes read a second, up to 1TiB; 0 turns it off. Default `8MiB`.
    pub rate: ByteSize,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { rate: ByteSize::mib(8) }
    }
}

/// What the command line sets: a flag beats every other source.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`, for the key `listen`.
    pub listen: Option<String>,
    /// `--data`, for the key `data`.
    pub data: Option<PathBuf>,
}

/// Where a configuration comes from, so that it can be read again.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The flags.
    pub overrides: Overrides,
}

impl Sources {
    /// Reads it, and checks what can be checked without serving.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let config = Config::load(self.file.as_deref(), self.env.iter().cloned(), self.overrides.clone())?;
        config.listen_addresses()?;
        config.metrics_addresses()?;
        config.engine()?;
        config.otlp()?;
        Ok(config)
    }
}

impl Config {
    /// Merges `file`, the environment `env` and the flags `overrides` over the defaults. Without
    /// `file` no file is read. The environment is a parameter so that nothing here is global.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<Self, ConfigError> {
        let schema = Schema::of(file::tree_of(&Self::default())?);
        let mut tree = match file {
            Some(path) => file::read(path)?,
            None => Node::empty(),
        };
        // The file must be right by itself: a flag that hides its fault today will be gone tomorrow.
        Self::decode(&tree, &schema)?;
        environment::overlay(&mut tree, &schema, env)?;
        overrides.overlay(&mut tree)?;
        Self::decode(&tree, &schema)
    }

    /// The effective configuration as YAML that loads back to the same value, each key followed by a
    /// comment that names its origin.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        Ok(render::with_origins(&file::tree_of(self)?, &self.origins))
    }

    /// The addresses to bind: what `listen` resolves to. Without access rules all of them must be loopback (DESIGN §4).
    /// Asks the system's resolver.
    pub fn listen_addresses(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        self.listen.addresses(!self.access.is_empty())
    }

    /// Where the value of `key` (such as `push.allow_missing`) came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn decode(tree: &Node, schema: &Schema) -> Result<Self, ConfigError> {
        let explain = |fault: decode::Fault| fault.explain(tree, schema);
        decode::check_who_is_who(tree).map_err(explain)?;
        let mut config = Self::deserialize(tree).map_err(explain)?;
        bounds::check(&config).map_err(explain)?;
        config.origins = tree.leaves().into_iter().map(|(key, node)| (key, node.origin.clone())).collect();
        Ok(config)
    }
}

impl Overrides {
    fn overlay(self, tree: &mut Node) -> Result<(), ConfigError> {
        if let Some(listen) = self.listen {
            tree.insert(&["listen"], Node::text(listen, Origin::Flag { name: "--listen" }));
        }
        if let Some(data) = self.data {
            let origin = Origin::Flag { name: "--data" };
            let Ok(text) = data.into_os_string().into_string() else {
                let reason = "the path is not valid UTF-8".to_owned();
                return Err(ConfigError::BadValue { origin, key: "data".into(), reason });
            };
            tree.insert(&["data"], Node::text(text, origin));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            tls: Tls::default(),
            external_url: None,
            trusted_proxies: Vec::new(),
            data: PathBuf::from("./stella-data"),
            log: Log::default(),
            metrics: Metrics::default(),
            audit: Audit::default(),
            tracing: Tracing::default(),
            push: Push::default(),
            limits: Limits::default(),
            metadata: Metadata::default(),
            collection: Collection::default(),
            scrub: Scrub::default(),
            access: Vec::new(),
            auth: Auth::default(),
            policy: Policy::default(),
            upgrade: Upgrade::default(),
            repositories: Vec::new(),
            origins: BTreeMap::new(),
        }
    }
}

impl Default for Push {
    fn default() -> Self {
        Self { allow_missing: false, max_manifest_size: ByteSize::mib(4) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_timeout: Period::seconds(30),
            idle_timeout: Period::seconds(60),
            shutdown_timeout: Period::seconds(30),
            drain_delay: Period::seconds(0),
            memory: ByteSize::mib(256),
            disk_reserve: ByteSize::mib(512),
        }
    }
}

#[cfg(test)]
mod tests;
