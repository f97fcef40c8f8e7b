// SPDX-License-Identifier: AGPL-3.0-only
//! Where the program under test is: `$STELLA_BIN`, or else the one that cargo builds here, once for each
//! run of the tests and with the profile of the tests, so that it is never older than its sources.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `stella`.
pub(crate) fn stella() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| env::var_os("STELLA_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // The test itself is TARGET/PROFILE/deps/it-HASH.
    let test = env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).unwrap();
    let profile = match directory.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "stella-registry", "--bin", "stella", "--profile", profile])
        .arg("--target-dir")
        .arg(directory.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let built = command.output().unwrap();
    assert!(built.status.success(), "cannot build stella:\n{}", String::from_utf8_lossy(&built.stderr));
    directory.join("stella")
}
