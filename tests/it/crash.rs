// SPDX-License-Identifier: AGPL-3.0-only
//! The server is killed with SIGKILL at random moments while clients work and collection runs. A long run:
//! `STELLA_CRASH_ROUNDS=200 cargo test --release -p stella-tests --test it crash:: -- --nocapture`.

use std::time::Duration;

use stella_tests::{Campaign, Server};

#[test]
fn whatever_was_acknowledged_outlives_a_kill() {
    let settings = Campaign::settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut campaign = Campaign::new();
    let mut server = Server::with(&settings);
    for _ in 0..Campaign::rounds("STELLA_CRASH_ROUNDS", 8) {
        let host = server.host().to_owned();
        campaign.work(&host, Duration::from_secs(3), false, || server.kill());
        // Now and then also while it starts.
        while campaign.chance(25) {
            let after = campaign.some_time(Duration::from_millis(200));
            server.start_and_kill(after, || ());
        }
        campaign.recover(&mut server);
    }
    campaign.settle(&server);
    server.kill();
    campaign.fsck(&server);
    eprintln!("{campaign}");
}
