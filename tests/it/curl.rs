// SPDX-License-Identifier: AGPL-3.0-only
//! curl, which people script with: pushes and pulls in every transport, with no more than URLs.

use std::fs;

use stella_tests::{Bench, Client, Image, Tool, Transport, digest, noise, over};

over! {
    [Plain, Tls, TlsHttp1, Nginx]
    curl_pulls_what_it_pushed,
    curl_learns_why_it_was_refused,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Curl], over)?;
    // Unlike other clients it would ask the proxy also for what is on this machine.
    let curl = bench.tool(Client::Curl).flags("--silent --show-error --noproxy * --max-time 120");
    Some((bench, curl))
}

fn curl_pulls_what_it_pushed(over: Transport) {
    let Some((mut bench, curl)) = bench(over) else { return };
    let host = bench.server.host().clone();
    // Larger than every window.
    for (name, bytes) in [("large", noise(1, 48 << 20)), ("one", b"x".to_vec()), ("none", Vec::new())] {
        bench.write(name, &bytes);
        let digest = digest(&bytes);
        let opened = curl.run(&format!("-X POST -D - {}", host.url("/v2/team/app/blobs/uploads/")));
        let location = opened.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let url = host.url(&format!("{}?digest={digest}", location.unwrap()));
        let status = curl.run(&format!("--fail -T {name} -w %{{http_version}}:%{{http_code}} {url}"));
        let version = if matches!(over, Transport::Tls | Transport::Nginx) { "2" } else { "1.1" };
        assert_eq!(status, format!("{version}:201"));
        bench.around_a_restart(|bench, when| {
            let url = host.url(&format!("/v2/team/app/blobs/{digest}"));
            curl.run(&format!("--fail -o {when}-{name} {url}"));
            assert!(bench.read(&format!("{when}-{name}")) == bytes, "{name} differs {when} a restart");
            // From its middle on, as after a download that broke off.
            let half = &bytes[..bytes.len() / 2];
            fs::write(bench.path("resumed"), half).unwrap();
            if !half.is_empty() {
                curl.run(&format!("--fail -C - -o resumed {url}"));
                assert!(bench.read("resumed") == bytes, "{name} was resumed wrongly");
            }
        });
    }
}

fn curl_learns_why_it_was_refused(over: Transport) {
    let Some((bench, curl)) = bench(over) else { return };
    let host = bench.server.host();
    let image = Image::sample(1).build();
    bench.server.repository("app").push(&image, "1");
    let pulled = curl.run_for_bytes(&format!("--fail {}", host.url("/v2/app/manifests/1")));
    assert_eq!(pulled, image.bytes());
    // A body that nobody wants, which curl goes on sending while the answer comes. Over HTTP/2 curl 7.88 drops an
    // answer behind which the stream is closed without an error, as RFC 9113 (section 8.1) wants it: none there.
    bench.write("large", noise(1, 16 << 20));
    let body = if over == Transport::Tls { "-X PUT" } else { "-T large" };
    let url = host.url("/v2/UPPER/manifests/1");
    let told = curl.run(&format!("{body} -w %{{http_code}} {url}"));
    assert!(told.contains("NAME_INVALID") && told.ends_with("400"), "{told}");
}
