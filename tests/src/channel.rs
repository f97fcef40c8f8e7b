// SPDX-License-Identifier: AGPL-3.0-only
//! What a test's bytes go through: a socket, with or without TLS around them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};

/// A connection to a server.
#[derive(Debug)]
pub struct Channel {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Channel {
    /// Without TLS.
    pub fn plain(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }

    /// With TLS, to a server called `name`, which may be an address. The handshake comes with the first
    /// bytes.
    pub fn tls(socket: TcpStream, config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { socket, tls: Some(Box::new(tls)) }
    }

    /// The socket itself.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Shakes hands now, and gives what is agreed.
    pub fn shake(&mut self) -> io::Result<&ClientConnection> {
        let tls = self.tls.as_mut().unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut self.socket)?;
        }
        Ok(tls)
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
        self.socket.shutdown(Shutdown::Write)
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => Stream::new(tls.as_mut(), &mut self.socket).read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => Stream::new(tls.as_mut(), &mut self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.socket.flush(),
            Some(tls) => Stream::new(tls.as_mut(), &mut self.socket).flush(),
        }
    }
}
