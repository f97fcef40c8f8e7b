// SPDX-License-Identifier: AGPL-3.0-only
//! What `deploy/` watches a registry by.

use std::fs;
use std::path::{Path, PathBuf};

use stella_tests::{Client, Workshop};

/// A file of `deploy/`.
fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

#[test]
fn the_rules_of_prometheus_are_right() {
    let Some(workshop) = Workshop::with(&[Client::Prometheus]) else { return };
    let promtool = workshop.program("promtool");
    for name in ["prometheus.yml", "alerts.yml", "alerts.test.yml"] {
        workshop.write(name, fs::read(deployed("prometheus").join(name)).unwrap());
    }
    promtool.run("check config prometheus.yml");
    promtool.run("check rules alerts.yml");
    promtool.run("test rules alerts.test.yml");
}
