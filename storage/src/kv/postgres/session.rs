// SPDX-License-Identifier: AGPL-3.0-only
//! Connections to PostgreSQL: where to, with which settings and statements, and what failures mean.
//!
//! There is no TLS yet. A socket and a loopback address need none; for any other address the operator
//! says by `sslmode=disable` that the network between is trusted.

use std::fmt;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::error::{Error, Result};

const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take. The server gives up a statement earlier, if it still lives.
const ANSWER: Duration = Duration::from_secs(40);

/// Of each connection. Keepalives: a machine that vanished must not hold the database for hours.
/// `jit`: compiling takes longer than anything that is asked here, and a plan whose sequential scan is
/// merely frowned upon looks dear enough for it. `synchronous_commit`: what is acknowledged must be
/// durable, whatever the server's default is.
const SETTINGS: &str = "\
    SET client_min_messages = error;
    SET statement_timeout = '30s';
    SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '30s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET jit = off;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET plan_cache_mode = force_generic_plan;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

const NO_TLS: &str = "asks for TLS, which this version does not speak: connect to a unix socket or to a loopback \
                      address (a tunnel, say), without `sslmode`";

/// Which database the engine uses.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) config: Config,
    /// Names the database in messages: without user and password.
    pub(super) database: String,
}

/// Without the password.
impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.database)
    }
}

impl PostgresOptions {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. No error repeats the URL, which is a secret.
    pub fn new(url: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::Refused(format!("the URL of the metadata database {why}")));
        let mut config = match url.parse::<Config>() {
            _ if !url.starts_with("postgres://") && !url.starts_with("postgresql://") => {
                return refused("does not begin with postgres://");
            }
            Ok(config) => config,
            // The only modes it cannot read are those that want more than encryption.
            Err(error) if describe(&error).ends_with("`sslmode`") => return refused(NO_TLS),
            Err(_) => {
                return refused(
                    "cannot be read: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, or \
                     postgres:///DATABASE?host=/SOCKET/FOLDER&user=USER, and %-encode special characters of \
                     the password",
                );
            }
        };
        let trusted = match config.get_ssl_mode() {
            SslMode::Disable => true,
            SslMode::Prefer => false,
            _ => return refused(NO_TLS),
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return refused("names no host: add one, or `?host=/run/postgresql` for a unix socket");
        }
        if !trusted && !is_this_machine(&config) {
            return refused(
                "leads to another machine, and this version does not speak TLS: connect to a unix socket or to a \
                 loopback address (a tunnel, say), or add `sslmode=disable` if the network between is trusted",
            );
        }
        config
            .application_name(application_name())
            .ssl_mode(SslMode::Disable)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        let database = describe_place(&config);
        Ok(PostgresOptions { config, database })
    }
}

fn is_this_machine(config: &Config) -> bool {
    let near = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    };
    // An address, where there is one, decides where a connection goes.
    match config.get_hostaddrs() {
        [] => config.get_hosts().iter().all(near),
        addresses => addresses.iter().all(std::net::IpAddr::is_loopback),
    }
}

fn describe_place(config: &Config) -> String {
    let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Unix(path)), _) => path.display().to_string(),
        (Some(Host::Tcp(name)), _) => name.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let name = config.get_dbname().or(config.get_user()).unwrap_or("of the system's user");
    format!("the PostgreSQL database {name} at {host}:{port}")
}

/// Tells other processes who holds the database. PostgreSQL cuts it after 63 bytes.
fn application_name() -> String {
    let system = rustix::system::uname();
    format!("stella process {} on {}", std::process::id(), system.nodename().to_string_lossy())
}

/// A connection that is set up.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    /// Gives the reason when the connection has ended.
    pub(super) connection: JoinHandle<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // At once, even if an answer is still awaited.
        self.connection.abort();
    }
}

/// What is asked, prepared. `key >= $1 AND key < $2`, not a condition with OR, lets the index end the scan.
pub(super) struct Statements {
    pub(super) get: Statement,
    pub(super) get_many: Statement,
    pub(super) range: Statement,
    pub(super) rest: Statement,
    pub(super) all: Statement,
    pub(super) put: Statement,
    pub(super) delete: Statement,
    pub(super) fence: Statement,
}

impl Session {
    /// Connects for transactions.
    pub(super) async fn connect(options: &PostgresOptions) -> Result<Self, Failure> {
        let (client, connection) = open(options).await?;
        let prepare = async |text: &str| answered(client.prepare(text)).await;
        let statements = Statements {
            get: prepare("SELECT value FROM stella_rows WHERE key = $1").await?,
            get_many: prepare("SELECT key, value FROM stella_rows WHERE key = ANY ($1)").await?,
            range: prepare(
                "SELECT key, value FROM stella_rows WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3",
            )
            .await?,
            rest: prepare("SELECT key, value FROM stella_rows WHERE key >= $1 ORDER BY key LIMIT $2").await?,
            all: prepare("SELECT key, value FROM stella_rows ORDER BY key").await?,
            put: prepare(
                "INSERT INTO stella_rows (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .await?,
            delete: prepare("DELETE FROM stella_rows WHERE key = ANY ($1)").await?,
            // SHARE: whoever takes the database over waits until this transaction has ended.
            fence: prepare("SELECT 1 FROM stella_holder WHERE one AND epoch = $1 FOR SHARE").await?,
        };
        Ok(Session { client, statements, connection })
    }
}

/// A connection with our settings, and the task that drives it.
pub(super) async fn open(options: &PostgresOptions) -> Result<(Client, JoinHandle<String>), Failure> {
    let (client, connection) = answered(options.config.connect(NoTls)).await?;
    let driven = async {
        match connection.await {
            Ok(()) => "the connection was closed".to_owned(),
            Err(error) => describe(&error),
        }
    };
    let connection = tokio::spawn(driven);
    answered(client.batch_execute(SETTINGS)).await?;
    Ok((client, connection))
}

/// Waits for an answer, but not for ever.
pub(super) async fn answered<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(|error| Failure::of(&error)),
        Err(_) => Err(Failure::Lost(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

/// What went wrong, by what it means for the transaction.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Other transactions were in its way; nothing happened.
    Conflict(String),
    /// This process no longer holds the database; nothing happened.
    Fenced,
    /// The server's disk is full; nothing happened.
    Full,
    /// The server refused; nothing happened.
    Refused(String),
    /// The connection ended, or nothing is heard. What was last sent may have happened.
    Lost(String),
}

impl Failure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let text = describe(error);
        let Some(answer) = error.as_db_error() else { return Failure::Lost(text) };
        match *answer.code() {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Failure::Conflict(text),
            SqlState::DISK_FULL => Failure::Full,
            // FATAL and PANIC end the connection, at COMMIT perhaps after it.
            _ if answer.parsed_severity() == Some(Severity::Error) => Failure::Refused(text),
            _ => Failure::Lost(text),
        }
    }

    /// Whether it is an answer by which the transaction has certainly not happened.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self, Failure::Lost(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Conflict(text) => write!(f, "too many conflicts: {text}"),
            Failure::Fenced => f.write_str("another process has taken over the metadata database"),
            Failure::Full => f.write_str("the metadata database's disk is full"),
            Failure::Refused(text) => write!(f, "the metadata database refused: {text}"),
            Failure::Lost(text) => write!(f, "the metadata database cannot be reached: {text}"),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Error::Full,
            failure => Error::Unavailable(failure.to_string()),
        }
    }
}

/// The error with its causes. The server's detail lines are left out: they may hold what is stored.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", answer.message(), answer.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
