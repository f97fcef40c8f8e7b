// SPDX-License-Identifier: AGPL-3.0-only
//! `stella health`: whether a server is ready, and how its queues are.

use std::fmt;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::connection::{AllVariables, Connection, Format, told};
use super::table::{bytes, duration};
use super::{Environment, Outcome, Place};
use crate::admin::Failed;
use crate::config::Listen;
use crate::exit;
use crate::remote::{Error, Health, Result, health as ask, printable};

#[derive(Args)]
#[command(after_help = "\
Exit code: 0 the server is ready, 10 it is not, or it cannot be reached.
Without SERVER it asks where the configuration says: `metrics.listen`, or else, or if that is any free port, `listen`.

Examples:
  stella health
  stella health https://registry.example
  stella health --output json 127.0.0.1:5000 | jq .queues")]
pub(super) struct HealthArgs {
    /// The server: HOST:PORT or a URL [default: `metrics.listen` or `listen` of the configuration]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Answer {
    server: String,
    ready: bool,
    #[serde(flatten)]
    report: Value,
}

pub(super) fn health(args: HealthArgs, env: Environment, all: &AllVariables) -> Outcome {
    let HealthArgs { server, format, connection, place } = args;
    let server = if let Some(server) = server {
        Ok(server)
    } else {
        let config = place.load(env)?;
        configured(config.metrics.listen, config.listen)
    };
    format.run(async move {
        let server = server.map_err(Failed::from)?;
        let Health { ready, server, report } = told(ask(&connection.options(all), &server).await, &server)?;
        let report = match report {
            Value::Object(report) => Value::Object(report),
            _ => json!({}),
        };
        format.print(&Answer { server, ready, report })?;
        Ok(if ready { 0 } else { exit::RETRY })
    })
}

/// Where a server of this configuration can be asked. Which port it got for port 0 is not in there; `listen` tells of
/// its health too.
fn configured(metrics: Option<Listen>, listen: Listen) -> Result<String> {
    let mut known = metrics.into_iter().chain([listen]).filter(|listen| listen.port() != 0);
    known.next().map(|listen| listen.to_string()).ok_or_else(|| {
        Error::Usage(
            "the server listens on any free port (port 0); name the one that it says: HOST:PORT".to_owned(),
        )
    })
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { server, ready, report } = self;
        let state = if *ready { "ready" } else { "not ready" };
        match report["reason"].as_str() {
            Some(reason) => writeln!(f, "{server} is {state}: {}", printable(reason, 500))?,
            None => writeln!(f, "{server} is {state}")?,
        }
        let mut line = |name: &str, text: Option<String>| match text {
            Some(text) => writeln!(f, "{name:<12} {text}"),
            None => Ok(()),
        };
        let number = |at: &str| report.pointer(at).and_then(Value::as_u64);
        line("version", report["version"].as_str().map(|version| printable(version, 100)))?;
        line("up for", number("/uptime_seconds").map(duration))?;
        let queue = |name: &str| {
            let length = number(&format!("/queues/{name}/length"))?;
            let due = number(&format!("/queues/{name}/due")).map(|due| format!(", {due} of them due"));
            let size = number(&format!("/queues/{name}/bytes")).map(|size| format!(", {}", bytes(size)));
            Some(format!("{length}{}{}", due.unwrap_or_default(), size.unwrap_or_default()))
        };
        line("to review", queue("review"))?;
        line("to remove", queue("garbage"))?;
        line("oldest due", number("/queues/oldest_due_seconds").map(|age| format!("for {}", duration(age))))?;
        line("uploads", number("/uploads").map(|uploads| format!("{uploads} open")))?;
        line("collection", report["collection_waits"].as_str().map(|why| printable(why, 500)))?;
        let reserve = number("/disk/reserve_bytes").map(|reserve| format!(", {} in reserve", bytes(reserve)));
        let free = number("/disk/free_bytes")
            .map(|free| format!("{} free{}", bytes(free), reserve.unwrap_or_default()));
        line("disk", free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_of_queues_and_of_the_disk() {
        let report = json!({
            "status": "ok", "reason": null, "version": "0.1.0", "uptime_seconds": 90,
            "queues": {"review": {"length": 7, "due": 1}, "garbage": {"length": 3, "due": 0, "bytes": 2_000_000},
                "oldest_due_seconds": 5},
            "disk": {"free_bytes": 5_000_000_000_u64, "reserve_bytes": 536_870_912}, "uploads": 2,
            "collection_waits": "it is off",
        });
        let answer = Answer { server: "http://h/".into(), ready: true, report };
        assert_eq!(
            answer.to_string(),
            "http://h/ is ready\n\
             version      0.1.0\n\
             up for       1m 30s\n\
             to review    7, 1 of them due\n\
             to remove    3, 0 of them due, 2.0 MB\n\
             oldest due   for 5s\n\
             uploads      2 open\n\
             collection   it is off\n\
             disk         5.0 GB free, 536.9 MB in reserve\n"
        );
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!((&json["ready"], &json["queues"]["review"]["length"]), (&json!(true), &json!(7)));
    }

    #[test]
    fn what_an_older_server_does_not_tell_is_left_out() {
        let report = json!({"status": "unready", "reason": "the disk is full\u{1b}"});
        let answer = Answer { server: "http://h/".into(), ready: false, report };
        assert_eq!(answer.to_string(), "http://h/ is not ready: the disk is full\\u{1b}\n");
    }
}
