// SPDX-License-Identifier: AGPL-3.0-only
//! Where and of what the figures were taken: machine, kernel, file system, date, versions. Without it a figure
//! means nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::plan::Plan;

/// What is to be known beside the figures.
pub(crate) fn describe(plan: &Plan) -> anyhow::Result<Value> {
    let cores = thread::available_parallelism()?.get();
    let versions: serde_json::Map<_, _> = plan
        .programs
        .iter()
        .map(|program| (program.kind.name().to_owned(), program.version().into()))
        .collect();
    Ok(json!({
        "date": said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        "processor": line_after("/proc/cpuinfo", "model name"),
        "cores": cores,
        "memory": line_after("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).ok(),
        "file_system": file_system(&plan.folder),
        "load_before": fs::read_to_string("/proc/loadavg").ok().map(|text| text.trim().to_owned()),
        "commit": commit(),
        "versions": versions,
        "settings": {
            "command": command(),
            "quick": plan.arguments.quick,
            "rounds": plan.rounds,
            "seconds_per_turn": plan.turn.as_secs_f64(),
            "pinned": plan.arguments.pin,
        },
    }))
}

/// What was called, as it would be called again.
fn command() -> String {
    let quoted = |argument: String| if argument.contains(' ') { format!("'{argument}'") } else { argument };
    let given = std::env::args().skip(1).take_while(|argument| argument != "--within");
    let given = given.filter(|argument| argument != "--bench").map(quoted);
    ["tests/benches/run.sh".to_owned()].into_iter().chain(given).collect::<Vec<_>>().join(" ")
}

/// The commit that the checkout is at, and whether it was changed since.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        said("git", &[&["-C", root], arguments].concat())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain"]).is_some();
    Some(if changed { format!("{commit} and uncommitted changes") } else { commit })
}

/// The type and the options of the file system that `folder` lies on.
fn file_system(folder: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let under = |line: &&str| line.split(' ').nth(1).is_some_and(|place| folder.starts_with(place));
    // The longest is the one; of two at one place the later one.
    let line = mounts.lines().filter(under).max_by_key(|line| line.split(' ').nth(1).map(str::len))?;
    let words: Vec<_> = line.split(' ').collect();
    Some(format!("{} ({})", words.get(2)?, words.get(3)?))
}

fn line_after(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What a command says, if it says anything.
pub(crate) fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
