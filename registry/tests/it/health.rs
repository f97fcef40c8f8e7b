// SPDX-License-Identifier: AGPL-3.0-only
//! `/livez` and `/readyz`.

use crate::client::{get, head, put};
use crate::server::Server;

#[test]
fn a_running_server_is_alive_and_ready() {
    let server = Server::start();
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = get(path).to(&server).is(200);
        assert_eq!(String::from_utf8_lossy(&answer.body), text);
        // These are not the registry's API.
        assert_eq!(answer.header("docker-distribution-api-version"), None);
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(head(path).to(&server).is(200).must("content-length"), text.len().to_string());
        let answer = put(path).body("x").to(&server).is(405);
        assert_eq!(answer.must("allow").replace(' ', ""), "GET,HEAD");
    }
    get("/livez/").to(&server).is(404);
}
