// SPDX-License-Identifier: AGPL-3.0-only
//! What a server uses, as the kernel counts it: processor time and memory, of its process and of those that
//! this one has started (nginx's workers).

use std::collections::HashMap;
use std::fs;
use std::ops::AddAssign;

use anyhow::Context as _;

/// Memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What is resident (`Rss`).
    pub(crate) resident: u64,
    /// The same with what several processes share divided among them (`Pss`).
    pub(crate) proportional: u64,
    /// The most that was ever resident (`VmHWM`).
    pub(crate) peak: u64,
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.proportional += other.proportional;
        self.peak += other.peak;
    }
}

/// The process `id` and those that it has started.
pub(crate) fn family(id: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = vec![id];
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may be gone by now.
        if fields(other).is_ok_and(|fields| fields.get(1).is_some_and(|parent| *parent == id.to_string())) {
            found.push(other);
        }
    }
    Ok(found)
}

/// Seconds of processor time that these processes have used, in user and in kernel mode.
pub(crate) fn processor_seconds(ids: &[u32]) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for &id in ids {
        let fields = fields(id)?;
        for place in [11, 12] {
            ticks += fields.get(place).context("/proc/PID/stat is short")?.parse::<u64>()?;
        }
    }
    Ok(precise(ticks) / precise(rustix::param::clock_ticks_per_second()))
}

/// Seconds of processor time of all that this process has started and waited for.
pub(crate) fn ended_seconds() -> anyhow::Result<f64> {
    let fields = fields(std::process::id())?;
    let mut ticks = 0;
    for place in [13, 14] {
        ticks += fields.get(place).context("/proc/PID/stat is short")?.parse::<u64>()?;
    }
    Ok(precise(ticks) / precise(rustix::param::clock_ticks_per_second()))
}

/// Nanoseconds that each thread of some processes has run. That is the same time that is counted in hundredths of a
/// second for the whole process, for what is too short for those.
#[derive(Clone, Debug)]
pub(crate) struct Threads(HashMap<u32, u64>);

impl Threads {
    /// How long all of these have run since. What a thread ran that has ended since is not known any more.
    pub(crate) fn ran_since(&self, before: &Self) -> u64 {
        let ran =
            |(id, nanos): (&u32, &u64)| nanos - before.0.get(id).copied().unwrap_or_default().min(*nanos);
        self.0.iter().map(ran).sum()
    }
}

/// The threads of these processes.
pub(crate) fn threads(ids: &[u32]) -> anyhow::Result<Threads> {
    let mut threads = HashMap::new();
    for id in ids {
        for entry in fs::read_dir(format!("/proc/{id}/task"))? {
            let entry = entry?;
            // It may be gone by now.
            let Ok(stat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let ran = stat.split_whitespace().next().context("/proc/PID/task/TID/schedstat is empty")?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            threads.insert(id.context("a thread is no number")?, ran.parse()?);
        }
    }
    Ok(Threads(threads))
}

/// The memory of these processes.
pub(crate) fn memory(ids: &[u32]) -> anyhow::Result<Memory> {
    let mut all = Memory::default();
    for &id in ids {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        all += Memory {
            resident: kib(&rollup, "Rss:")?,
            proportional: kib(&rollup, "Pss:")?,
            peak: kib(&status, "VmHWM:")?,
        };
    }
    Ok(all)
}

/// The fields of `/proc/ID/stat` from the state on (the third of proc(5)).
fn fields(id: u32) -> anyhow::Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn kib(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name} in what /proc says"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}
