// SPDX-License-Identifier: AGPL-3.0-only
//! Mixed load for a long time, with collection on and clients that disturb: memory and open files stay flat,
//! nobody who behaves well is refused, and nothing is broken at the end. The long run:
//! `STELLA_SOAK_MINUTES=20 cargo test --release -p stella-tests --test it soak:: -- --nocapture`.

use std::time::Duration;

use stella_tests::{Request, SOAK_SETTINGS, Server, Transport, over, poll, soak, soak_time};

/// How much more memory than in the middle third of the time a server may have in the last: the allocator
/// and the caches come to rest in the first minutes.
const GROWTH: u64 = 16 << 20;
/// Files that a server may keep open after its load beside its metadata: a few are the runtime's.
const FILES: usize = 4;
/// Files of its metadata: SQLite opens two for each of eight readers when they are first needed at the same time,
/// and has some of its own.
const METADATA: usize = 2 * 8 + 4;

over! {
    [Plain, Tls]
    a_server_under_mixed_load_stays_as_it_was,
}

fn a_server_under_mixed_load_stays_as_it_was(over: Transport) {
    let server = Server::over(over, &SOAK_SETTINGS);
    server.send(&Request::get("/v2/")).must_be(200);
    let files = server.open_files() - server.open_metadata();
    let soaked = soak(&server, soak_time(), |number| {
        server.renew_certificate();
        server.configure(&format!("limits:\n  disk_reserve: {}MiB\n", 256 + number % 2));
        server.reload();
    });
    let (middle, last) = soaked.samples.memory();
    let most = soaked.samples.most_files();
    let answers = soaked.alone.count() + soaked.beside.count();
    eprintln!("{}\n{}", soaked.samples.table(), soaked.alone.table(soaked.beside));
    eprintln!("{}", soaked.disturbed);
    eprintln!(
        "{answers} answers, {} failed; memory {} KiB in the middle third, {} KiB in the last; {files} files at the \
         start beside the metadata's, {most} at most; {} reloads",
        soaked.failed,
        middle / 1024,
        last / 1024,
        soaked.reloads
    );
    assert_eq!(soaked.failed, 0, "requests failed:\n{}", soaked.failures.join("\n"));
    assert!(answers > 0 && soaked.disturbed.half_open > 0 && soaked.disturbed.slow_readers > 0);
    assert_eq!(soaked.disturbed.floods_refused, soaked.disturbed.floods);
    assert!(last <= middle + GROWTH, "memory grew from {middle} to {last} bytes");
    poll("the server to close its files", Duration::from_mins(1), || {
        let metadata = server.open_metadata();
        (metadata <= METADATA && server.open_files() <= files + metadata + FILES).then_some(())
    });
    let metrics = server.send(&Request::get("/metrics")).must_be(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    let collected = value(&metrics, "stella_collection_removed_total{kind=\"blob\"}");
    assert!(collected > 0.0, "collection took no blob");
    assert!(value(&metrics, "stella_config_reloads_total{result=\"success\"}") > 0.0);
    if over.is_tls() {
        assert!(value(&metrics, "stella_certificate_reloads_total{result=\"success\"}") > 0.0);
    }
    let checked = server.run(&["fsck"]);
    assert!(
        checked.status.success(),
        "stella fsck: {}\n{}",
        checked.status,
        String::from_utf8_lossy(&checked.stdout)
    );
}

/// The value of a sample on a page of metrics.
#[track_caller]
fn value(metrics: &str, sample: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{metrics}")).trim().parse().unwrap()
}
