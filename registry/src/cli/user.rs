// SPDX-License-Identifier: AGPL-3.0-only
//! `stella user`: the names and passwords of the htpasswd file. A running server takes a change over within seconds.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::{Environment, Outcome, Place, print};
use crate::access::{COST, Htpasswd, MAX_PASSWORD, check_new_name, robots};
use crate::admin::Failed;
use crate::exit;
use crate::unseen::visible;

/// What anonymous is called in rules; nobody else may be.
const RESERVED: &str = "anonymous";

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; the password is asked for, or is the first line of stdin
    Add(NameArgs),
    /// Give a user another password
    Passwd(NameArgs),
    /// Remove a user
    Rm(NameArgs),
    /// List the users
    List(FileArgs),
}

#[derive(Args)]
pub(super) struct NameArgs {
    /// The user's name
    name: String,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Args)]
pub(super) struct FileArgs {
    /// The file [default: `auth.htpasswd` of the configuration]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn user(command: UserCommand, env: Environment) -> Outcome {
    match command {
        UserCommand::Add(NameArgs { name, file }) => {
            let path = file.path(env)?;
            let mut users = present_or_new(&path)?;
            check_new_name(&name).map_err(anyhow::Error::msg)?;
            ensure!(name != RESERVED, "{RESERVED:?} is whoever does not log in; choose another name");
            ensure!(
                !name.starts_with(robots::PREFIX),
                "names of robots begin with {:?}; choose another name",
                robots::PREFIX
            );
            if users.hash(&name).is_some() {
                bail!("{name} is there already; `stella user passwd {name}` gives another password");
            }
            users.set(&name, &hash_of(&password()?)?);
            users.write(&path)?;
            print(&format!("added {name} to {}\n", path.display()))?;
        }
        UserCommand::Passwd(NameArgs { name, file }) => {
            let path = file.path(env)?;
            let mut users = Htpasswd::read(&path)?;
            if users.hash(&name).is_none() {
                return Err(unknown(&name, &path));
            }
            users.set(&name, &hash_of(&password()?)?);
            users.write(&path)?;
            print(&format!("changed the password of {}\n", visible(&name)))?;
        }
        UserCommand::Rm(NameArgs { name, file }) => {
            let path = file.path(env)?;
            let mut users = Htpasswd::read(&path)?;
            if !users.remove(&name) {
                return Err(unknown(&name, &path));
            }
            users.write(&path)?;
            print(&format!("removed {} from {}\n", visible(&name), path.display()))?;
        }
        UserCommand::List(file) => {
            let users = Htpasswd::read(&file.path(env)?)?;
            let names: Vec<_> = users.names().chain([""]).map(visible).collect();
            print(&names.join("\n"))?;
        }
    }
    Ok(0)
}

impl FileArgs {
    fn path(self, env: Environment) -> anyhow::Result<PathBuf> {
        match self.file {
            Some(file) => Ok(file),
            None => self.place.load(env)?.auth.htpasswd.context(
                "which file? Name it with --file, or set `auth.htpasswd` in the configuration that --config names",
            ),
        }
    }
}

fn present_or_new(path: &Path) -> anyhow::Result<Htpasswd> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Htpasswd::default()),
        _ => Ok(Htpasswd::read(path)?),
    }
}

fn unknown(name: &str, path: &Path) -> anyhow::Error {
    Failed { error: format!("{} has no user {}", path.display(), visible(name)), exit: exit::NOT_FOUND }
        .into()
}

fn hash_of(password: &str) -> anyhow::Result<String> {
    bcrypt::hash(password, COST).context("cannot hash the password")
}

/// Twice from a person, once from a pipe.
fn password() -> anyhow::Result<String> {
    let password = if io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ").context("cannot read the password")?;
        let second = rpassword::prompt_password("Again: ").context("cannot read the password")?;
        ensure!(first == second, "the two are not the same");
        first
    } else {
        let mut text = String::new();
        let most = MAX_PASSWORD as u64 * 2;
        io::stdin().take(most).read_to_string(&mut text).context("cannot read the password from stdin")?;
        text.lines().next().unwrap_or_default().to_owned()
    };
    ensure!(!password.is_empty(), "the password is empty");
    ensure!(
        password.len() <= MAX_PASSWORD,
        "the password is longer than {MAX_PASSWORD} bytes, of which bcrypt takes no more"
    );
    Ok(password)
}
