// SPDX-License-Identifier: AGPL-3.0-only
//! What the process takes of its machine, under the names that every Prometheus client library uses.
//! What the system does not tell is left out.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use stella_storage::Timestamp;

use super::text::Page;

pub(super) fn write(page: &mut Page, started: Timestamp) {
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory in use.", bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // Reading the folder takes one itself.
        page.gauge("process_open_fds", "Open file descriptors.", open.count().saturating_sub(1));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.gauge("process_max_fds", "File descriptors that may be open.", most);
    }
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(spent.tv_nsec).unwrap_or_default();
    let seconds = std::time::Duration::new(spent.tv_sec.unsigned_abs(), nanos).as_secs_f64();
    page.family("process_cpu_seconds_total", super::text::Kind::Counter, "CPU time, user and system.");
    page.sample("process_cpu_seconds_total", &[], seconds);
    let help = "When the process started, in seconds since 1970.";
    page.gauge("process_start_time_seconds", help, started.0 / 1000);
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
