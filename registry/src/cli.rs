// SPDX-License-Identifier: AGPL-3.0-only
//! The command line of `stella`. It reads flags, loads the configuration, calls one function and turns
//! its outcome into an exit code (`exit.rs`). What a command was asked for goes to stdout;
//! everything else goes to stderr.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use stella_storage::{Clock as _, SystemClock};

use crate::admin::Failed;
use crate::audit::Audit;
use crate::config::{Config, ConfigError, Overrides, Sources};
use crate::exit::{self, INTERNAL, USAGE};
use crate::tls::Tls;
use crate::{logging, server};

mod access;
mod administer;
mod attest;
mod backup;
mod connection;
mod copy;
mod decision;
mod digest;
mod fsck;
mod gc;
mod generate_key_pair;
mod health;
mod init;
mod inspect;
mod key_files;
mod password;
mod policy;
mod progress;
mod robot;
mod sign;
mod sign_blob;
mod signing;
mod status;
mod table;
mod tag;
mod tags;
mod upgrade;
mod user;
mod verify;
mod wait;

use access::AccessCommand;
use attest::AttestArgs;
use backup::BackupCommand;
use connection::AllVariables;
use copy::CopyArgs;
use digest::DigestArgs;
use fsck::FsckArgs;
use gc::GcArgs;
use generate_key_pair::GenerateKeyPairArgs;
use health::HealthArgs;
use init::InitArgs;
use inspect::InspectArgs;
use policy::PolicyCommand;
use robot::{RobotCommand, TokenCommand};
use sign::SignArgs;
use sign_blob::SignBlobArgs;
use status::StatusArgs;
use tag::TagCommand;
use tags::TagsArgs;
use upgrade::UpgradeArgs;
use user::UserCommand;
use verify::{VerifyArgs, VerifyAttestationArgs, VerifyBlobArgs, VerifyBundleArgs};
use wait::WaitArgs;

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nlicence ",
    env!("CARGO_PKG_LICENSE"),
    "\nsource ",
    env!("CARGO_PKG_REPOSITORY")
);

/// An OCI registry.
#[derive(Parser)]
#[command(name = "stella", version = VERSION, arg_required_else_help = true, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the registry until SIGTERM or SIGINT
    Serve(Source),
    /// Write what a registry needs that gives readers only what is signed: keys, policies, a user, a configuration
    Init(InitArgs),
    /// Remove what nothing names any more, now; a server does so by itself every `collection.interval`
    Gc(GcArgs),
    /// Check everything that is kept, to the last byte, while the registry goes on
    Fsck(FsckArgs),
    /// Back up, verify or restore everything that the registry keeps
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Bring data that an older version wrote to the present one; a server with `upgrade: auto` does so by itself
    Upgrade(UpgradeArgs),
    /// Add, change, remove or list the users of the htpasswd file
    #[command(subcommand)]
    User(UserCommand),
    /// Create, list or revoke robots: names for machines
    #[command(subcommand)]
    Robot(RobotCommand),
    /// List or revoke the refresh tokens of those who have logged in
    #[command(subcommand)]
    Token(TokenCommand),
    /// Tell what the access rules mean
    #[command(subcommand)]
    Access(AccessCommand),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tell whether a server is ready, and how its queues are
    Health(HealthArgs),
    /// List the tags of a repository, at any registry
    Tags(TagsArgs),
    /// Print the digest that a tag names now
    Digest(DigestArgs),
    /// Show what an image or artifact is: platforms, layers, labels, what refers to it
    Inspect(InspectArgs),
    /// Copy an image between registries, or to and from an OCI layout on disk
    Copy(CopyArgs),
    /// Sign an image at a registry with a private key
    Sign(SignArgs),
    /// Sign a file with a private key
    SignBlob(SignBlobArgs),
    /// Sign what you say about an image: an SBOM, how it was built, what scanners found
    Attest(AttestArgs),
    /// Make a private key under a password, and its public half
    GenerateKeyPair(GenerateKeyPairArgs),
    /// Verify that an image is signed as demanded
    Verify(VerifyArgs),
    /// Verify what is said about an image, and print it
    VerifyAttestation(VerifyAttestationArgs),
    /// Verify a Sigstore bundle about a file or a digest
    VerifyBundle(VerifyBundleArgs),
    /// Verify a signature of a file
    VerifyBlob(VerifyBlobArgs),
    /// Check policy documents, or tell what they, or a registry's, say of an image
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Tell whether readers get an image, and if not, why and what mends it
    Status(StatusArgs),
    /// Wait until readers get an image, and print its digest: for CI, after signing
    Wait(WaitArgs),
    /// Tell where a tag has been, or roll it back
    #[command(subcommand)]
    Tag(TagCommand),
    /// Evaluate rules for another process of this program, within bounds of memory and time
    #[command(name = EVALUATE_RULES, hide = true)]
    EvaluateRules,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration, and serve nothing
    Check(Source),
    /// Print the effective configuration as YAML, and where each value came from
    Show(Source),
}

#[derive(Args)]
struct Source {
    #[command(flatten)]
    place: Place,
    /// Listen on this address; other than loopback needs access rules [default: 127.0.0.1:5000]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

#[derive(Args)]
struct Place {
    /// Read the configuration from this YAML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory that holds everything [default: ./stella-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

const EVALUATE_RULES: &str = "evaluate-rules";

/// Has rules of policies read and asked in processes of their own. For the program alone: it starts itself.
pub fn confine_rules() {
    // Not by its path: another version may have been put there since.
    stella_policy::confine_rules("/proc/self/exe", EVALUATE_RULES);
}

/// An exit code, or an error that has one.
type Outcome = anyhow::Result<u8>;

/// Runs the command line `args` (the program's name first) in the environment `env`.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // Help and the version come this way too, with exit code 0.
        Err(error) => {
            let printed = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
            return ExitCode::from(if printed.is_err() { INTERNAL } else { code });
        }
    };
    let all = AllVariables(env.into_iter().collect());
    let outcome = unicode(all.0.clone()).and_then(|env| match cli.command {
        Command::Serve(source) => serve(source, env).map(|()| 0),
        Command::Init(args) => init::init(args, &all),
        Command::Gc(args) => gc::gc(args, env),
        Command::Fsck(args) => fsck::fsck(args, env),
        Command::Backup(command) => backup::backup(command, env),
        Command::Upgrade(args) => upgrade::upgrade(args, env),
        Command::Config(ConfigCommand::Check(source)) => check(source, env).map(|()| 0),
        Command::Config(ConfigCommand::Show(source)) => show(source, env).map(|()| 0),
        Command::User(command) => user::user(command, env),
        Command::Robot(command) => robot::robot(command, env),
        Command::Token(command) => robot::token(command, env),
        Command::Access(command) => access::access(command, env),
        Command::Health(args) => health::health(args, env, &all),
        Command::Tags(args) => tags::tags(args, &all),
        Command::Digest(args) => digest::digest(args, &all),
        Command::Inspect(args) => inspect::inspect(args, &all),
        Command::Copy(args) => copy::copy(args, &all),
        Command::Sign(args) => sign::sign(args, &all),
        Command::SignBlob(args) => sign_blob::sign_blob(args, &all),
        Command::Attest(args) => attest::attest(args, &all),
        Command::GenerateKeyPair(args) => generate_key_pair::generate_key_pair(&args, &all),
        Command::Verify(args) => verify::verify(args, &all),
        Command::VerifyAttestation(args) => verify::verify_attestation(args, &all),
        Command::VerifyBundle(args) => verify::verify_bundle(args),
        Command::VerifyBlob(args) => verify::verify_blob(args),
        Command::Policy(command) => policy::policy(command, env, &all),
        Command::Status(args) => status::status(args, &all),
        Command::Wait(args) => wait::wait(args, &all),
        Command::Tag(command) => tag::tag(command, &all),
        Command::EvaluateRules => {
            stella_policy::serve_rules().context("rules cannot be evaluated").map(|()| 0)
        }
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

type Environment = Vec<(String, String)>;

fn serve(source: Source, env: Environment) -> anyhow::Result<()> {
    let sources = source.sources(env);
    // Before the first log line, so that the person at the terminal sees a plain error.
    let config = sources.load()?;
    config.listen_addresses()?;
    config.engine()?;
    Tls::load(&config)?;
    crate::access::Access::load(&config)?;
    let logging = Arc::new(logging::init(&config.log, config.otlp()?)?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let served = runtime.block_on(server::serve(config, sources, Arc::clone(&logging)));
    // What requests still hold is dropped before the last traces are sent.
    drop(runtime);
    logging.end();
    served
}

fn check(source: Source, env: Environment) -> anyhow::Result<()> {
    let config = source.sources(env).load()?;
    config.listen_addresses()?;
    config.engine()?;
    for warning in Tls::load(&config)?.iter().flat_map(|tls| tls.warnings(&config, SystemClock.now())) {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    crate::access::Access::load(&config)?;
    for warning in crate::gate::Gate::check_config(&config)? {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    if let Some(file) = &config.audit.file {
        Audit::can_open(file).map_err(|error| unopened(&config, file, &error))?;
    }
    print("configuration is valid\n")
}

/// The same for a check and for a server, with the place of the key.
pub(crate) fn unopened(config: &Config, file: &std::path::Path, error: &io::Error) -> ConfigError {
    let reason = format!("cannot open {}: {error}", file.display());
    ConfigError::BadValue { origin: config.origin("audit.file"), key: "audit.file".to_owned(), reason }
}

fn show(source: Source, env: Environment) -> anyhow::Result<()> {
    print(&source.load(env)?.to_yaml()?)
}

impl Source {
    fn load(self, env: Environment) -> Result<Config, ConfigError> {
        let Sources { file, env, overrides } = self.sources(env);
        Config::load(file.as_deref(), env, overrides)
    }

    fn sources(self, env: Environment) -> Sources {
        let Place { config, data } = self.place;
        Sources { file: config, env, overrides: Overrides { listen: self.listen, data } }
    }
}

impl Place {
    fn load(self, env: Environment) -> Result<Config, ConfigError> {
        Source { place: self, listen: None }.load(env)
    }
}

/// Our part of the environment as text; whatever else is in there is none of our business.
fn unicode(env: impl IntoIterator<Item = (OsString, OsString)>) -> anyhow::Result<Environment> {
    let ours = env.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("STELLA_"))?;
        Some((name, value))
    });
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(ConfigError::NotUnicode { name }.into()),
    })
    .collect()
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failed) = error.downcast_ref::<Failed>() {
        return failed.exit;
    }
    if let Some(error) = error.downcast_ref::<stella_storage::Error>() {
        return exit::of(error);
    }
    match error.downcast_ref::<ConfigError>() {
        None | Some(ConfigError::Render { .. }) => INTERNAL,
        Some(_) => USAGE,
    }
}

/// Tells a person something beside what was asked for.
fn note(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _closed = writeln!(io::stderr(), "{text}");
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_takes_the_same_sources() {
        for command in [["serve"].as_slice(), &["config", "check"], &["config", "show"]] {
            let flags = ["--config", "stella.yaml", "--listen", "localhost:0", "--data", "/srv"];
            let args = ["stella"].iter().chain(command).chain(&flags);
            let (Command::Serve(source)
            | Command::Config(ConfigCommand::Check(source) | ConfigCommand::Show(source))) =
                Cli::try_parse_from(args).unwrap().command
            else {
                panic!("another command")
            };
            assert_eq!(source.place.config, Some("stella.yaml".into()));
            assert_eq!(source.listen.as_deref(), Some("localhost:0"));
            assert_eq!(source.place.data, Some("/srv".into()));
        }
    }

    #[test]
    fn the_help_tells_the_defaults() {
        let default = Config::default().to_yaml().unwrap();
        let help = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        for key in ["listen", "data"] {
            let line = default.lines().find(|line| line.starts_with(key)).unwrap();
            let value = line.split('"').nth(1).unwrap();
            assert!(help.contains(&format!("[default: {value}]")), "{help}");
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_only_if_it_is_ours() {
        use std::os::unix::ffi::OsStringExt;
        let pair = |name: &str| (OsString::from(name), OsString::from_vec(vec![0xff]));
        assert_eq!(unicode([pair("HOME")]).unwrap(), []);
        let error = unicode([pair("STELLA_DATA")]).unwrap_err();
        assert!(error.to_string().contains("STELLA_DATA"));
        assert_eq!(exit_code(&error), USAGE);
    }
}
