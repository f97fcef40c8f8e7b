// SPDX-License-Identifier: AGPL-3.0-only
//! `stella robot` and `stella token`: names for machines, and the refresh tokens of whoever has logged in.

use clap::{Args, Subcommand};
use stella_storage::RepoPattern;

use super::administer::{Administration, Output};
use super::{Environment, Outcome, Place, print};
use crate::access::{Action, check_new_name, hash, robots, secret};
use crate::admin::{Credentials, Given, NewRobot};
use crate::config::Period;

#[derive(Subcommand)]
pub(super) enum RobotCommand {
    /// Create a robot, and print its secret, which nobody can show again
    Create(CreateArgs),
    /// List the robots, with what they may do and when they were last used
    List(ListRobotsArgs),
    /// End a robot at once, with every token that it has got
    Revoke(RevokeArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stella robot create ci --allow pull,push=team/app/** --expires 90d
  stella robot create ci --allow pull=** | docker login -u robot+ci --password-stdin registry.example

A robot logs in as robot+NAME. It may do what is written here and no more; access rules can only deny it.")]
pub(super) struct CreateArgs {
    /// The robot's name
    name: String,
    /// What it may do, and where: ACTION,…=PATTERN,…; may be given several times
    #[arg(long = "allow", value_name = "ACTIONS=PATTERNS", required = true)]
    allow: Vec<Allowed>,
    /// How long it lives, such as 90d [default: for ever]
    #[arg(long, value_name = "PERIOD")]
    expires: Option<Period>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
#[command(after_help = LAST_USED)]
pub(super) struct ListRobotsArgs {
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(super) struct RevokeArgs {
    /// The robot's name
    name: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// List the refresh tokens that clients have got by logging in
    List(ListArgs),
    /// End refresh tokens: one, by its id, or all of a user
    Revoke(RevokeTokenArgs),
}

#[derive(Args)]
#[command(after_help = "\
A refresh token is what `docker login` keeps. The access tokens that were got with it go on until they expire:
auth.token.lifetime, an hour without that. What ends them at once:
  stella user passwd NAME, stella user rm NAME    within 3 seconds
  stella robot revoke NAME
  an access rule that denies what they are for, and `systemctl reload stella`")]
pub(super) struct RevokeTokenArgs {
    /// The token's id, as it is listed
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    id: Option<String>,
    /// All tokens of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// How exact the uses are that are listed.
const LAST_USED: &str = "\
`last used` is exact to the hour, and a running server writes it down within a minute: a robot that was used just now
may be listed with an earlier use, or none.";

/// Actions in repositories, as a person writes them.
#[derive(Clone, Debug)]
struct Allowed(Given);

impl std::str::FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (actions, repositories) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not ACTIONS=PATTERNS, such as pull,push=team/**"))?;
        let actions =
            actions.split(',').map(|action| action.parse::<Action>().map(|action| action.to_string()));
        let mut patterns = Vec::new();
        for pattern in split(repositories) {
            patterns.push(pattern.parse::<RepoPattern>()?.to_string());
        }
        Ok(Allowed(Given { actions: actions.collect::<Result<_, _>>()?, repositories: patterns }))
    }
}

/// At commas, but not those in braces.
fn split(patterns: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in patterns.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&patterns[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&patterns[begin..]);
    parts
}

pub(super) fn robot(command: RobotCommand, env: Environment) -> Outcome {
    match command {
        RobotCommand::Create(args) => args.output.report(|| create(args, env)),
        RobotCommand::List(ListRobotsArgs { list: ListArgs { output, place } }) => {
            run(output, place, env, Credentials::Robots)
        }
        RobotCommand::Revoke(RevokeArgs { name, output, place }) => {
            run(output, place, env, Credentials::RevokeRobot { name })
        }
    }
}

pub(super) fn token(command: TokenCommand, env: Environment) -> Outcome {
    match command {
        TokenCommand::List(ListArgs { output, place }) => run(output, place, env, Credentials::Tokens),
        TokenCommand::Revoke(RevokeTokenArgs { id, user, output, place }) => {
            let credentials = match user {
                Some(subject) => Credentials::RevokeTokensOf { subject },
                None => Credentials::RevokeToken { id: id.unwrap_or_default() },
            };
            run(output, place, env, credentials)
        }
    }
}

fn run(output: Output, place: Place, env: Environment, credentials: Credentials) -> Outcome {
    output.report(|| Administration::open(place, env, output)?.run(credentials))
}

/// The secret alone goes to stdout, for a pipe; what was done to stderr.
fn create(args: CreateArgs, env: Environment) -> Outcome {
    let CreateArgs { name, allow, expires, output, place } = args;
    check_new_name(&name).map_err(anyhow::Error::msg)?;
    let secret =
        secret(robots::SECRET).ok_or_else(|| anyhow::anyhow!("the system gives no random numbers"))?;
    let robot = NewRobot {
        secret: hex::encode(hash(&secret)),
        grants: allow.into_iter().map(|Allowed(given)| given).collect(),
        expires: expires.map(|period| u64::try_from(period.duration().as_millis()).unwrap_or(u64::MAX)),
        name: name.clone(),
    };
    let managed = Administration::open(place, env, output)?.ask(Credentials::CreateRobot(robot))?;
    if output.is_json() {
        let subject = format!("{}{name}", robots::PREFIX);
        print(&format!("{}\n", serde_json::json!({ "name": name, "login": subject, "secret": secret })))?;
    } else {
        super::note(&format!(
            "{managed}; log in as {}{name} with this secret, which is not shown again:",
            robots::PREFIX
        ));
        print(&format!("{secret}\n"))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_robot_may_do_is_written_in_one_word() {
        let Allowed(Given { actions, repositories }) = "pull,push=team/**,{a,b}/c".parse().unwrap();
        assert_eq!(
            (actions, repositories),
            (vec!["pull".to_owned(), "push".to_owned()], vec!["team/**".to_owned(), "{a,b}/c".to_owned()])
        );
        for bad in ["pull", "=a", "pul=a", "pull=", "pull=A", "pull=a,"] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad}");
        }
    }
}
