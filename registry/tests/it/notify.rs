// SPDX-License-Identifier: AGPL-3.0-only
//! What systemd hears of a server: ready, alive, reloading, stopping.

use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use crate::client::{PATIENCE, get, patch};
use crate::server::Server;

struct Manager(UnixDatagram);

impl Manager {
    /// The next message that is not about the watchdog.
    fn hears(&self) -> String {
        loop {
            let said = self.next();
            if said != "WATCHDOG=1\n" {
                return said;
            }
        }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[test]
fn systemd_hears_how_the_server_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut server = Server::with(&env);
    let ready = format!("READY=1\nSTATUS=serving http://{}\n", server.address());
    assert_eq!(manager.hears(), ready);
    get("/readyz").to(&server).is(200);
    // It keeps saying so.
    for _ in 0..2 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
    server.reload();
    let reloading = manager.hears();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hears(), ready);
    let mut wire = server.connect();
    let request = patch(server.repo("app").begin()).body("hello").bytes();
    wire.send(&request[..request.len() - 1]);
    server.terminate();
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=shutting down: waiting for running transfers\n");
    // A long end is not a hang.
    assert_eq!(manager.next(), "WATCHDOG=1\n");
    wire.send("o");
    wire.answer().is(202);
    assert!(server.ended().success());
}
