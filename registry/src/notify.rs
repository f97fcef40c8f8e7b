// SPDX-License-Identifier: AGPL-3.0-only
//! Tells systemd how the server is: ready, reloading, stopping, alive (`sd_notify(3)`).
//!
//! Without `NOTIFY_SOCKET` nothing is sent. A message that cannot be sent is logged and forgotten. The
//! crate `sd-notify` does the same but for abstract addresses, which systemd uses in containers.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::app::App;

/// A manager that does not take a message in this time does without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
pub(crate) struct Notify {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that we are alive.
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads what systemd left in the environment.
    pub(crate) fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        Self::new(
            std::env::var_os("NOTIFY_SOCKET"),
            number("WATCHDOG_USEC"),
            number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id())),
        )
    }

    fn new(address: Option<OsString>, watchdog: Option<u64>, for_us: bool) -> Self {
        let connected = address.filter(|address| !address.is_empty()).map(|address| connect(&address));
        let socket = match connected.transpose() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "cannot tell the service manager anything: NOTIFY_SOCKET leads nowhere");
                None
            }
        };
        let watchdog = watchdog.filter(|micros| *micros > 0 && for_us && socket.is_some());
        Notify { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// The server serves.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The configuration is being read again; [`Notify::ready`] ends that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading\n"));
    }

    /// The server ends, and `status` says what it waits for.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}\n"));
    }

    /// Says that the server is alive, for ever, as long as its store answers. If nobody wants to know, this
    /// returns.
    pub(crate) async fn stay_alive(&self, app: &Arc<App>) {
        let Some(period) = self.watchdog else { return };
        let pause = period / 3;
        loop {
            match tokio::time::timeout(pause, app.store.answers()).await {
                Ok(Ok(())) => self.send("WATCHDOG=1\n"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the store does not answer: the watchdog is not told");
                }
                Err(_) => tracing::error!("the store does not answer in time: the watchdog is not told"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn messages_arrive_at_paths_and_at_abstract_addresses() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let name = format!("stella-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ] {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let notify = Notify::new(Some(address), Some(900), true);
            assert_eq!(notify.watchdog, Some(Duration::from_micros(900)));
            notify.ready("serving");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=serving\n");
            notify.reloading();
            let reloading = heard(&socket);
            let usec = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            assert!(reloading.starts_with("RELOADING=1\n") && usec.unwrap().parse::<u64>().unwrap() > 0);
            notify.stopping("draining");
            assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=draining\n");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        assert_eq!(Notify::new(None, Some(1), true).watchdog, None);
        let nowhere = Notify::new(Some("/nowhere/at/all".into()), Some(1), true);
        nowhere.ready("x");
        assert_eq!(nowhere.watchdog, None);
        // The watchdog of another process, such as the shell that started us.
        assert_eq!(Notify::new(None, Some(1), false).watchdog, None);
    }
}
