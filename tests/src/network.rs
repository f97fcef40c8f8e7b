// SPDX-License-Identifier: AGPL-3.0-only
//! A machine of a test's own, as far as the network goes: a namespace, joined to this one by a pair of
//! virtual devices. Clients reach it by an address that is not loopback, which some treat differently; the
//! server listens on the loopback of that machine, and a forwarder there passes connections on to it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::client::{find, skip};

/// Addresses for tests of networks (RFC 2544), of which no other machine has one.
pub(crate) const ADDRESSES: &str = "198.18.0.0/15";

/// Tells the networks of one process apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, gone when this value is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    address: Ipv4Addr,
    forwarders: Vec<(SocketAddr, Arc<AtomicBool>)>,
}

impl Network {
    /// A new one, or `None`, once that was said, if none can be made here.
    #[track_caller]
    pub fn make() -> Option<Self> {
        if !geteuid().is_root() {
            skip("a network namespace needs root; run the tests as root");
            return None;
        }
        if find("ip").is_none() {
            skip("ip is not installed; run tests/clients/install.sh");
            return None;
        }
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("stella-{process}-{number}");
        // A network of four addresses for each.
        let block = process % 0x800 * 16 + number % 16;
        let address = |last: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + block * 4 + last);
        let (device, peer) = (format!("stella{block}a"), format!("stella{block}b"));
        if let Err(why) = ip(&["netns", "add", &name]) {
            skip(&format!("no network namespace can be made here: {why}"));
            return None;
        }
        let network = Self { name, address: address(2), forwarders: Vec::new() };
        let name = &network.name;
        for arguments in [
            format!("link add {device} type veth peer name {peer} netns {name}"),
            format!("address add {}/30 dev {device}", address(1)),
            format!("link set {device} up"),
            format!("-n {name} address add {}/30 dev {peer}", address(2)),
            format!("-n {name} link set {peer} up"),
            format!("-n {name} link set lo up"),
        ] {
            if let Err(why) = ip(&arguments.split(' ').collect::<Vec<_>>()) {
                skip(&format!("no virtual network can be made here: {why}"));
                return None;
            }
        }
        Some(network)
    }

    /// The address by which others reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does something there. Processes that are started by it stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let joined = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(joined).join()).unwrap()
    }

    /// Passes connections to its address on to `port` of its loopback, and gives the address and port.
    pub fn forward(&mut self, port: u16) -> SocketAddr {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), self.address);
        let listening = self.inside(move || {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            // Threads stay where they are begun.
            thread::spawn(move || {
                for client in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(client) = client else { continue };
                    thread::spawn(move || pass(&client, port));
                }
            });
            address
        });
        self.forwarders.push((listening, stop));
        listening
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for (address, stop) in &self.forwarders {
            stop.store(true, Ordering::Relaxed);
            // Wakes it, so that nothing keeps the namespace.
            drop(TcpStream::connect(address));
        }
        let removed = ip(&["netns", "delete", &self.name]);
        if !thread::panicking() {
            removed.unwrap();
        }
    }
}

/// Copies both ways between a client and a port of loopback, until both have closed.
fn pass(client: &TcpStream, port: u16) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        // Whoever is gone has no more to say.
        let _copied = io::copy(&mut from, &mut to);
        let _closed = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server));
        copy(&server, client);
    });
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(find("ip").unwrap()).args(arguments).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
