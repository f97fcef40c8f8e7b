// SPDX-License-Identifier: AGPL-3.0-only
//! nginx before the registry, as the example in `deploy/nginx` has it. That clients push and pull through it
//! is tested where their other tests are; here is what nginx adds.

use stella_tests::{Bench, Client, Tool, Transport};

fn bench() -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Curl], Transport::Nginx)?;
    let curl = bench.tool(Client::Curl).flags("--silent --show-error --noproxy * --max-time 60");
    Some((bench, curl))
}

#[test]
fn the_registry_learns_the_address_of_the_client_and_believes_no_other() {
    let Some((bench, curl)) = bench() else { return };
    let url = bench.server.host().url("/v2/");
    curl.run(&format!("--fail --interface 127.0.0.2 {url}"));
    // What a client makes up is not passed on.
    curl.run(&format!(
        "--fail --interface 127.0.0.3 -H X-Forwarded-For:192.0.2.1 -H Forwarded:for=192.0.2.1 \
         -H X-Forwarded-Proto:http {url}"
    ));
    let said = bench.server.said();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(" agent=\"curl/")).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| line.split(' ').filter(|word| word.starts_with("client=") || word.starts_with("scheme=")))
        .map(|words| words.collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(told, ["scheme=https client=127.0.0.2", "scheme=https client=127.0.0.3"], "{said}");
}

#[test]
fn figures_and_health_are_not_for_clients() {
    let Some((bench, curl)) = bench() else { return };
    for path in ["/metrics", "/readyz", "/livez", "/healthz", "/startupz", "//metrics", "/./metrics"] {
        let url = bench.server.host().url(path);
        let status = curl.run(&format!("--path-as-is -o /dev/null -w %{{http_code}} {url}"));
        assert_eq!(status, "404", "{path}");
    }
    curl.run(&format!("--fail {}", bench.server.host().url("/v2/")));
}
