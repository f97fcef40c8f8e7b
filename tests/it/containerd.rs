// SPDX-License-Identifier: AGPL-3.0-only
//! containerd, by way of `ctr`: push and pull of images and indexes. It uploads with one PUT, asks HEAD
//! before everything, and mounts with `from`. Its store keeps blobs as they came, so every byte can be
//! compared.

use std::time::Duration;

use stella_tests::{Bench, Client, Content, Image, Process, Tool, Transport, over, poll};

use crate::samples::samples;

over! {
    [Plain, Tls]
    containerd_gets_back_what_it_pushed_also_after_a_restart,
    containerd_takes_one_platform_and_copies_to_another_repository,
}

fn bench(over: Transport) -> Option<(Bench, Process, Tool)> {
    let bench = Bench::with(&[Client::Containerd], over)?;
    let (daemon, ctr) = daemon(&bench);
    Some((bench, daemon, ctr))
}

/// A daemon of the test's own.
pub(crate) fn daemon(bench: &Bench) -> (Process, Tool) {
    let own = |name: &str| bench.path(name).display().to_string();
    let configuration = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        own("root"),
        own("state"),
        own("c.sock"),
        own("c.sock.ttrpc")
    );
    bench.write("containerd.toml", configuration);
    let mut command = bench.program("containerd").flags("--config containerd.toml").command();
    let log = bench.path("containerd.log");
    let mut daemon = Process::start("containerd", &mut command, &log).stop_gently(Duration::from_secs(20));
    let ctr = bench.tool(Client::Containerd).flags(&format!("-a {} -n test", own("c.sock")));
    poll("containerd to answer", Duration::from_secs(30), || {
        assert!(daemon.ended().is_none(), "containerd ended at once");
        ctr.try_run("--connect-timeout 1s version").status.success().then_some(())
    });
    (daemon, ctr)
}

pub(crate) const PULL: &str = "images pull --plain-http --snapshotter native";

/// Compares what containerd has in its store with `content`.
#[track_caller]
pub(crate) fn compare(ctr: &Tool, content: &Content) {
    for digest in content.digests() {
        assert!(
            ctr.run_for_bytes(&format!("content get {digest}")) == content.get(digest),
            "{digest} differs"
        );
    }
}

fn containerd_gets_back_what_it_pushed_also_after_a_restart(over: Transport) {
    let Some((mut bench, _daemon, ctr)) = bench(over) else { return };
    let app = format!("{}/team/app", bench.server.host());
    let samples = samples();
    for (tag, content) in &samples {
        content.write_layout(&bench.path(tag), tag);
        let archive = bench.archive(tag);
        ctr.run(&format!("images import --no-unpack --all-platforms --base-name {app} {archive}"));
        ctr.run(&format!("images push --plain-http {app}:{tag}"));
    }
    bench.around_a_restart(|bench, _| {
        for (tag, content) in &samples {
            bench.server.repository("team/app").pull(tag).assert_same(content);
            empty(&ctr);
            ctr.run(&format!("{PULL} --all-platforms {app}:{tag}"));
            compare(&ctr, content);
        }
    });
}

fn containerd_takes_one_platform_and_copies_to_another_repository(over: Transport) {
    let Some((bench, _daemon, ctr)) = bench(over) else { return };
    let host = bench.server.host();
    let arm = Image::sample(2).architecture("arm64").build();
    let list = Content::docker_list(&[Image::sample(1).docker().build(), arm.clone()]);
    bench.server.repository("app").push(&list, "1");

    ctr.run(&format!("{PULL} --platform linux/arm64 {host}/app:1"));
    compare(&ctr, &arm);
    let digest = list.digest();
    ctr.run(&format!("{PULL} --all-platforms {host}/app@{digest}"));
    compare(&ctr, &list);
    // It remembers where the blobs came from, and has them mounted.
    ctr.run(&format!("images push --plain-http {host}/copy:1 {host}/app@{digest}"));
    bench.server.repository("copy").pull("1").assert_same(&list);
}

/// Removes all images, and waits until their blobs are gone.
pub(crate) fn empty(ctr: &Tool) {
    let images = ctr.run("images ls -q").replace('\n', " ");
    if !images.is_empty() {
        ctr.run(&format!("images rm --sync {images}"));
    }
    ctr.run("content prune references");
    let blobs = ctr.run("content ls -q");
    assert_eq!(blobs, "", "containerd still has blobs");
}
