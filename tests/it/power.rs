// SPDX-License-Identifier: AGPL-3.0-only
//! The disk loses its power at random moments, or fails under the running server. Needs root and loop
//! devices. A long run:
//! `STELLA_CUT_ROUNDS=100 cargo test --release -p stella-tests --test it power:: -- --nocapture`.

use std::thread;
use std::time::Duration;

use stella_tests::{Campaign, Disk, FileSystem, Server};

fn server_on(disk: &Disk) -> Server {
    let settings = Campaign::settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::on(&disk.path().join("data"), &settings)
}

fn power_is_cut(file_system: FileSystem) {
    let Some(mut disk) = Disk::new(file_system) else { return };
    let mut campaign = Campaign::new();
    let mut server = server_on(&disk);
    for _ in 0..Campaign::rounds("STELLA_CUT_ROUNDS", 3) {
        let host = server.host().to_owned();
        let moment = campaign.some_time(Duration::from_millis(10));
        campaign.work(&host, Duration::from_millis(1500), true, || {
            disk.cut();
            thread::sleep(moment);
            server.kill();
        });
        disk.power_on();
        // Now and then also while it starts.
        while campaign.chance(20) {
            let after = campaign.some_time(Duration::from_millis(200));
            server.start_and_kill(after, || disk.cut());
            disk.power_on();
        }
        campaign.recover(&mut server);
    }
    campaign.settle(&server);
    server.kill();
    campaign.fsck(&server);
    eprintln!("{file_system:?}\n{campaign}");
}

fn disk_fails(file_system: FileSystem) {
    let Some(mut disk) = Disk::new(file_system) else { return };
    let mut campaign = Campaign::new();
    let mut server = server_on(&disk);
    for _ in 0..Campaign::rounds("STELLA_CUT_ROUNDS", 3).div_ceil(5) {
        let host = server.host().to_owned();
        campaign.work(&host, Duration::from_millis(1500), true, || {
            disk.cut();
            let reason = Campaign::must_become_unready(&mut server);
            assert!(reason.trim().len() > 10, "no reason is given: {reason:?}");
            // Clients go on for a while: what they are told now is told by a server without a disk.
            thread::sleep(Duration::from_secs(1));
            assert!(server.is_running(), "the server ended when its disk failed");
            server.kill();
        });
        disk.power_on();
        campaign.recover(&mut server);
    }
    campaign.settle(&server);
    server.kill();
    campaign.fsck(&server);
    eprintln!("{file_system:?}\n{campaign}");
}

#[test]
fn whatever_was_acknowledged_outlives_a_power_cut_on_xfs() {
    power_is_cut(FileSystem::Xfs);
}

#[test]
fn whatever_was_acknowledged_outlives_a_power_cut_on_ext4() {
    power_is_cut(FileSystem::Ext4);
}

#[test]
fn a_disk_that_fails_under_the_server_makes_it_unready_and_loses_nothing_on_xfs() {
    disk_fails(FileSystem::Xfs);
}

#[test]
fn a_disk_that_fails_under_the_server_makes_it_unready_and_loses_nothing_on_ext4() {
    disk_fails(FileSystem::Ext4);
}
