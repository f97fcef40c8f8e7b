// SPDX-License-Identifier: AGPL-3.0-only
//! Numbers and rows for a person.

use std::fmt::{self, Write as _};

/// A size, in the units that docker uses.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    // Tenths, so that there is nothing to round twice.
    let (mut tenths, mut unit) = (u128::from(count) * 10, 0);
    while tenths >= 9_999 && unit + 1 < UNITS.len() {
        tenths = (tenths + 500) / 1000;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]) }
}

/// A period, by its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let mut rest = seconds;
    let mut text = String::new();
    for (length, name) in &units[first..units.len().min(first + 2)] {
        let count = rest / length;
        rest %= length;
        if count > 0 || text.is_empty() {
            let space = if text.is_empty() { "" } else { " " };
            let _infallible = write!(text, "{space}{count}{name}");
        }
    }
    text
}

/// Rows below a head, in columns that are as wide as they need to be.
pub(super) fn rows(f: &mut fmt::Formatter<'_>, head: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |f: &mut fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::from(" ");
        for (cell, width) in cells.zip(&widths) {
            write!(text, " {cell:<width$} ")?;
        }
        writeln!(f, "{}", text.trim_end())
    };
    line(f, &mut head.iter().copied())?;
    rows.iter().try_for_each(|row| line(f, &mut row.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_periods_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_550_000, "1.6 MB"),
            (999_999, "1.0 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (90, "1m 30s"), (3_605, "1h"), (90_000, "1d 1h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
