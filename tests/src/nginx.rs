// SPDX-License-Identifier: AGPL-3.0-only
//! nginx as the example in `deploy/nginx` has it, in front of a server under test: the very file, but for
//! the name, the port and the paths.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::authority::Authority;
use crate::client::find;
use crate::process::{Process, poll};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nginx/stella.conf");

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) address: String,
    _process: Process,
}

impl Nginx {
    /// Starts it before `registry`, with its files in `directory`.
    pub(crate) fn before(registry: &str, authority: &Authority, directory: &Path) -> Self {
        let directory = directory.join("nginx");
        fs::create_dir(&directory).unwrap();
        authority.issue(&["127.0.0.1", "registry.example"]).write(&directory, "server");
        poll("a port for nginx", Duration::from_secs(40), || {
            // Somebody else may take the port before nginx does.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            configure(&directory, registry, &address);
            let mut command = Command::new(find("nginx").unwrap());
            command.arg("-c").arg(directory.join("nginx.conf")).arg("-p").arg(&directory);
            let log = directory.join("log");
            let patience = Duration::from_secs(10);
            let mut process = Process::start("nginx", &mut command, &log).stop_gently(patience);
            let ended = poll("nginx to listen", patience, || {
                let ended = process.ended().is_some();
                (ended || TcpStream::connect(&address).is_ok()).then_some(ended)
            });
            let taken = ended && process.said().contains("Address already in use");
            assert!(taken || !ended, "nginx ended at once:\n{}", process.said());
            (!ended).then_some(Self { address, _process: process })
        })
    }
}

fn configure(directory: &Path, registry: &str, address: &str) {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut site = fs::read_to_string(EXAMPLE).unwrap();
    for (example, here) in [
        ("server 127.0.0.1:5000;", format!("server {registry};")),
        ("listen 443 ssl http2;", format!("listen {address} ssl http2;")),
        ("    listen [::]:443 ssl http2;\n", String::new()),
        ("/etc/nginx/tls/registry.example.crt", path("server.crt")),
        ("/etc/nginx/tls/registry.example.key", path("server.key")),
    ] {
        assert_eq!(site.matches(example).count(), 1, "the example has no line with {example}");
        site = site.replace(example, &here);
    }
    fs::write(directory.join("stella.conf"), site).unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {};\n", path(what)))
        .concat();
    let (pid, site) = (path("pid"), path("stella.conf"));
    let main = format!(
        "user root;\ndaemon off;\nworker_processes 2;\npid {pid};\nerror_log stderr;\n\
         events {{}}\nhttp {{\n    access_log off;\n{temporary}    include {site};\n}}\n"
    );
    fs::write(directory.join("nginx.conf"), main).unwrap();
}
