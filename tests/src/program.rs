// SPDX-License-Identifier: AGPL-3.0-only
//! Where the programs under test are: `$STELLA_BIN`, or else what cargo builds here, once for each run of the tests
//! and with the profile of the tests, so that nothing is older than its sources.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The path of `stella`.
pub fn stella() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = env::var_os("STELLA_BIN").map(PathBuf::from);
        program.unwrap_or_else(|| build(&["--package", "stella-registry", "--bin", "stella"]))
    })
}

/// The path of the benches' program.
pub fn benches() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build(&["--package", "stella-tests", "--bench", "table"]))
}

/// Builds one program, and gives its path.
fn build(target: &[&str]) -> PathBuf {
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
        .args(["build", "--quiet", "--message-format", "json-render-diagnostics", "--profile", profile])
        .args(target)
        .arg("--target-dir")
        .arg(directory.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let built = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "cannot build {target:?}:\n{complaint}");
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable =
        |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["executable"].as_str()?.into());
    messages.lines().filter_map(executable).next_back().unwrap()
}
