// SPDX-License-Identifier: AGPL-3.0-only
//! A timestamp authority of the test's own: Sigstore's `timestamp-server`, with a key and a chain of certificates that it
//! makes when it starts and that end with it. It insists on one port for its metrics, on all addresses; so each has a
//! network of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::host::Host;
use crate::http::Request;
use crate::network::Network;
use crate::process::{Process, poll};
use crate::tool::Tool;

const PATIENCE: Duration = Duration::from_secs(20);
/// Where it answers, below its address.
const API: &str = "/api/v1/timestamp";

/// A running timestamp authority.
#[derive(Debug)]
pub struct Clock {
    address: SocketAddr,
    // Ended before its network is taken away.
    _process: Process,
    _network: Network,
}

impl Clock {
    /// Starts one, or gives `None`, once that was said, if there can be no network for it here. What it says goes to
    /// `log`.
    #[track_caller]
    pub fn start(program: &Tool, log: &Path) -> Option<Self> {
        let mut network = Network::make()?;
        let arguments = "serve --host 127.0.0.1 --port 0 --timestamp-signer memory --disable-ntp-monitoring";
        let mut process = network
            .inside(|| Process::start("the timestamp authority", &mut program.command_line(arguments), log));
        let port = poll("the timestamp authority to listen", PATIENCE, || {
            assert!(process.ended().is_none(), "the timestamp authority ended:\n{}", process.said());
            let said = process.said();
            // A last line without its end may not be whole.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let (_, rest) = whole.split_once("Serving timestamp server at http://127.0.0.1:")?;
            Some(rest.lines().next()?.trim().parse().unwrap())
        });
        Some(Self { address: network.forward(port), _process: process, _network: network })
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}{API}", self.address)
    }

    /// Its certificate and those above it, as PEM.
    pub fn chain(&self) -> String {
        let request = Request::get(&format!("{API}/certchain"));
        let answer = request.send(Host::plain(&self.address.to_string())).must_be(200);
        String::from_utf8(answer.body).unwrap()
    }
}
