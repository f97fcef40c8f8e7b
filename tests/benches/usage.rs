// SPDX-License-Identifier: AGPL-3.0-only
//! What a server uses, as the kernel counts it: processor time and memory, of its process and of those that
//! this one has started (nginx's workers).

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
