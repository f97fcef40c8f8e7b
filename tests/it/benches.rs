// SPDX-License-Identifier: AGPL-3.0-only
//! The benches themselves: that they measure, say what they promise to say, and leave nothing behind. What they
//! measure is no matter of tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stella_tests::{Process, benches, poll, stella};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(1);

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(benches());
    command.env("STELLA_BIN", stella()).args(["--quick", "--rounds", "1", "--servers", "stella,bare"]);
    command
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--json")
        .arg(folder.join("results.json"))
        .args(arguments);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// How many processes have the folder's path among their arguments.
fn processes_of(folder: &Path) -> usize {
    let name = folder.file_name().unwrap().as_encoded_bytes().to_vec();
    let entries = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
    entries.filter(|line| line.windows(name.len()).any(|part| part == name)).count()
}

/// What was killed may take a moment to go.
fn must_be_gone(folder: &Path) {
    poll("all processes to be gone", PATIENCE, || (processes_of(folder) == 0).then_some(()));
}

#[test]
fn a_run_measures_what_is_asked_for_and_leaves_nothing() {
    let folder = TempDir::with_prefix("stella-benches-").unwrap();
    let rows = [
        "pull: 1 MiB, 4 clients that read",
        "pull: 1 MiB, 4 clients that discard",
        "push: blobs of 1 MiB, 16 clients",
        "manifests: GET by tag, 16 clients",
        "manifests: HEAD of a blob that is not there, 16 clients",
        "manifests: PUT by tag, durable, 16 clients",
        "pages: 10 of 10 referrers",
        "access: manifest GET by tag with a token, 16 clients",
        "access: blob pull 1 MiB with a token, 16 clients",
        "access: manifest GET by tag with a password, 16 clients",
        "access: /token for the same pull, 16 clients",
        "gate: manifest GET by tag, 16 clients",
        "gate: from a signature's PUT to its tag's release, 1 client",
        "gate: 100 policies and 200 digests: until new ones hold",
        "start to ready: nothing kept",
        "verify: an image signed with a P-256 key, in the library",
    ];
    let mut arguments = vec!["--seconds", "0.05"];
    arguments.extend(rows.iter().flat_map(|row| ["--only", row]));
    let output = run(folder.path(), &arguments);
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}\n{said}");

    let results: Value =
        serde_json::from_slice(&fs::read(folder.path().join("results.json")).unwrap()).unwrap();
    for known in ["date", "processor", "kernel", "file_system", "commit"] {
        assert!(results[known].is_string(), "{known} in {results:#}");
    }
    assert!(results["versions"]["stella"].as_str().unwrap().starts_with("stella "), "{results:#}");
    assert_eq!(results["settings"]["rounds"], 1);
    let measured = results["rows"].as_array().unwrap();
    let name =
        |row: &Value| format!("{}: {}", row["family"].as_str().unwrap(), row["name"].as_str().unwrap());
    assert_eq!(measured.iter().map(name).collect::<Vec<_>>(), rows);
    for row in measured {
        let stella = &row["servers"]["stella"];
        let compared = row["compared"].as_str().unwrap();
        let count = if compared.starts_with("times_") { 3 } else { 1 };
        assert_eq!(stella["rounds"].as_array().unwrap().len(), count, "{row:#}");
        assert!(stella["median"][compared].as_f64().unwrap() > 0.0, "{row:#}");
        assert!(table.contains(&format!("| {} ", row["name"].as_str().unwrap())), "{table}");
    }
    let push = &measured[2]["servers"]["bare"];
    assert!(push["stella_is_better_by"]["median"].as_f64().unwrap() > 0.0, "{push:#}");
    assert!(push["median"]["server_seconds_per_gib"].is_number(), "{push:#}");
    assert_eq!(measured[2]["aims"][0]["aim"].as_str().unwrap().split(':').next(), Some("≥ 0.95 × bare"));
    let cost = &measured[7];
    assert_eq!(
        cost["aims"][0]["aim"].as_str().unwrap().split(':').next(),
        Some("≤ 1.03 × the CPU of anonymous")
    );
    let known = ["server_us_per_request", "anonymous_server_us_per_request"];
    assert!(known.iter().all(|name| cost["servers"]["stella"]["median"][name].is_number()), "{cost:#}");
    let tokens = &measured[10]["servers"]["bare"];
    assert!(tokens["median"]["requests_per_second"].as_f64().unwrap() > 0.0, "{tokens:#}");
    assert!(tokens["stella_is_better_by"]["median"].as_f64().unwrap() > 0.0, "{tokens:#}");

    let gated = &measured[11]["servers"]["stella"]["median"];
    assert!(gated["ungated_server_us_per_request"].as_f64().unwrap() > 0.0, "{gated:#}");
    let verified = &measured[15]["aims"][0]["aim"];
    assert_eq!(verified.as_str().unwrap().split(':').next(), Some("≤ 1 ms of CPU"));

    assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 0);
    must_be_gone(folder.path());
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    let folder = TempDir::with_prefix("stella-benches-").unwrap();
    let mut command =
        command(folder.path(), &["--seconds", "60", "--only", "manifests: GET by tag, 1 client"]);
    let mut process = Process::start("the benches", &mut command, &folder.path().join("log"));
    // The janitor, the work, and the server.
    poll("the server to run", PATIENCE, || (processes_of(folder.path()) == 3).then_some(()));
    kill_process(Pid::from_raw(process.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    let status = poll("the benches to end", PATIENCE, || process.ended());
    assert_eq!(status.code(), Some(130));
    must_be_gone(folder.path());
    assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 0);
}

#[test]
fn a_row_that_does_not_exist_is_an_error() {
    let folder = TempDir::with_prefix("stella-benches-").unwrap();
    let output = run(folder.path(), &["--only", "no such row"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.contains("--list")), (Some(1), true), "{said}");
}
