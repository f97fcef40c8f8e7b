// SPDX-License-Identifier: AGPL-3.0-only
//! What a soak measures: how long answers took, by kind of request; and the server's memory and open files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::server::Server;

/// How long answers took, by kind of request.
#[derive(Debug, Default)]
pub struct Meter(BTreeMap<&'static str, Vec<u32>>);

impl Meter {
    pub(crate) fn note(&mut self, kind: &'static str, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.0.entry(kind).or_default().push(micros);
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (kind, mut times) in other.0 {
            self.0.entry(kind).or_default().append(&mut times);
        }
    }

    /// How many answers there were.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// A table of both, side by side.
    pub fn table(mut self, mut beside: Self) -> String {
        let mut text = format!(
            "{:<16} {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9}\n",
            "", "alone", "p50 ms", "p99 ms", "disturbed", "p50 ms", "p99 ms"
        );
        let mut all = (Vec::new(), Vec::new());
        for (kind, mut times) in std::mem::take(&mut self.0) {
            let mut others = beside.0.remove(kind).unwrap_or_default();
            line(&mut text, kind, &mut times, &mut others);
            all.0.append(&mut times);
            all.1.append(&mut others);
        }
        line(&mut text, "all", &mut all.0, &mut all.1);
        text
    }
}

fn line(text: &mut String, kind: &str, alone: &mut [u32], beside: &mut [u32]) {
    write!(text, "{kind:<16}").unwrap();
    for (times, end) in [(alone, " |"), (beside, "\n")] {
        times.sort_unstable();
        let quantile = |percent: usize| {
            let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, |&micros| f64::from(micros) / 1000.0)
        };
        write!(text, " {:>9} {:>9.2} {:>9.2}{end}", times.len(), quantile(50), quantile(99)).unwrap();
    }
}

/// The server's memory and open files over time.
#[derive(Debug, Default)]
pub struct Samples(Vec<(Duration, u64, usize)>);

impl Samples {
    pub(crate) fn look(&mut self, server: &Server, at: Duration) {
        self.0.push((at, server.resident_memory(), server.open_files()));
    }

    /// The median of the resident memory in the middle third and in the last third of the time, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let third = self.0.len() / 3;
        let median = |part: &[(Duration, u64, usize)]| {
            let mut memory: Vec<_> = part.iter().map(|&(_, memory, _)| memory).collect();
            memory.sort_unstable();
            memory.get(memory.len() / 2).copied().unwrap_or_default()
        };
        (median(&self.0[third..2 * third]), median(&self.0[2 * third..]))
    }

    /// The most files that were open.
    pub fn most_files(&self) -> usize {
        self.0.iter().map(|&(.., files)| files).max().unwrap_or_default()
    }

    /// Ten of them, as lines.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (at, memory, files) in self.0.iter().step_by((self.0.len() / 10).max(1)) {
            writeln!(text, "{:>6} s {:>7} KiB resident {files:>5} files", at.as_secs(), memory / 1024)
                .unwrap();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_quantiles_of_both_sides() {
        let mut alone = Meter::default();
        for millis in 1..=100 {
            alone.note("GET", Duration::from_millis(millis));
        }
        let mut beside = Meter::default();
        beside.note("GET", Duration::from_millis(7));
        let table = alone.table(beside);
        let line: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line, ["GET", "100", "51.00", "100.00", "|", "1", "7.00", "7.00"]);
    }

    #[test]
    fn memory_is_compared_by_thirds() {
        let sample = |(at, memory)| (Duration::from_secs(at), memory, 9);
        let samples = Samples((0..9).zip([90, 1, 1, 5, 6, 7, 20, 30, 21]).map(sample).collect());
        assert_eq!(samples.memory(), (6, 21));
        assert_eq!(samples.most_files(), 9);
    }
}
