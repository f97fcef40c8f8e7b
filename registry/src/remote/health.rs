// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a Stella server is ready, and how its queues are: `/healthz`, or, from a server that does not
//! have it, `/readyz`.

use http::StatusCode;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::error::{Error, Result};
use super::reference::Host;
use super::registry::{Options, client, scheme};
use super::text::printable;
use super::wire::{explain, whole};

const MAX_REPORT: usize = 1 << 20;

/// What a server says of itself.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether requests that change something can succeed there.
    pub(crate) ready: bool,
    /// Where it was asked.
    pub(crate) server: String,
    /// What it says, as JSON.
    pub(crate) report: Value,
}

/// Asks the server at `server`, which is `HOST:PORT` or a URL.
pub(crate) async fn health(options: &Options, server: &str) -> Result<Health> {
    let (given, rest) = match server.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some(_) => return Err(Error::Usage(format!("{:?} is no http or https URL", printable(server, 200)))),
        None => (None, server),
    };
    let host: Host = rest.trim_end_matches('/').parse()?;
    let client = client(options, host.as_str(), host.is_loopback())?;
    let scheme = match given {
        Some(scheme) => scheme,
        None => scheme(options, &client, &host).await,
    };
    let base: Url = format!("{scheme}://{host}/")
        .parse()
        .map_err(|_| Error::Usage(format!("{host} is not a registry's host")))?;
    let mut tried = ["healthz", "readyz"].into_iter();
    loop {
        let Some(path) = tried.next() else {
            return Err(Error::NotFound(format!(
                "{host} has neither /healthz nor /readyz; is it a Stella registry?"
            )));
        };
        let url = base.join(path).map_err(|error| Error::Failed(error.to_string()))?;
        let response = timeout(options.patience.idle, client.get(url).send())
            .await
            .map_err(|_| Error::transient(format!("{host} does not answer")))?
            // Whatever keeps us from it: it cannot be reached.
            .map_err(|error| Error::transient(explain(error, &format!("cannot reach {host}")).to_string()))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            continue;
        }
        if status != StatusCode::OK && status != StatusCode::SERVICE_UNAVAILABLE {
            return Err(Error::Failed(format!(
                "{host} answers /{path} with {status}; is it a Stella registry?"
            )));
        }
        let ready = status == StatusCode::OK;
        let body = whole(response, MAX_REPORT, &options.patience).await?;
        let said = serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object);
        let report = said.unwrap_or_else(|| {
            let text = printable(String::from_utf8_lossy(&body).trim(), 1000);
            json!({
                "status": if ready { "ok" } else { "unready" },
                "reason": if ready { Value::Null } else { Value::String(text) },
            })
        });
        return Ok(Health { ready, server: base.to_string(), report });
    }
}
