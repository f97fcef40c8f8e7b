// SPDX-License-Identifier: AGPL-3.0-only
//! One kept connection to a server that may be gone at any moment.

use std::io;

use crate::host::Host;
use crate::http::{Connection, Request, Response};

#[derive(Debug)]
pub(crate) struct Wire {
    host: Host,
    connection: Option<Connection>,
}

impl Wire {
    pub(crate) fn new(host: impl Into<Host>) -> Self {
        Self { host: host.into(), connection: None }
    }

    /// Sends a request and reads its answer. After an error the next request has a new connection.
    pub(crate) fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::try_open(&self.host)?,
        };
        let response = connection.exchange(request)?;
        if response.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Closes the connection; the next request has a new one.
    pub(crate) fn close(&mut self) {
        self.connection = None;
    }

    /// Sends the head of a request and half of its body, and goes away.
    pub(crate) fn break_off(&mut self, request: &Request, body: &[u8]) -> io::Result<()> {
        self.connection = None;
        let mut connection = Connection::try_open(&self.host)?;
        connection.try_send_head(request, Some(body.len() as u64))?;
        connection.write(&body[..body.len() / 2])
    }
}
