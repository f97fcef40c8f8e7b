// SPDX-License-Identifier: AGPL-3.0-only
//! What a run prints: tables in Markdown on stdout, everything as JSON in a file.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::arguments::default_folder;
use crate::plan::Plan;
use crate::rounds::{Aim, Cell, Figures, Measure, Row, median, progress};
use crate::server::Kind;

/// Prints the tables, and writes the file.
pub(crate) fn print(plan: &Plan, statement: &Value, rows: &[Row]) -> anyhow::Result<()> {
    let file = plan.arguments.json.clone().unwrap_or_else(|| default_file(statement));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut whole = statement.clone();
    whole["rows"] = rows.iter().map(json_row).collect();
    let text = serde_json::to_string_pretty(&whole)? + "\n";
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    io::stdout().write_all(markdown(statement, rows).as_bytes())?;
    progress(&format!("all figures of all rounds: {}", fs::canonicalize(&file)?.display()));
    Ok(())
}

fn default_file(statement: &Value) -> PathBuf {
    let date = statement["date"].as_str().unwrap_or("results").replace([' ', ':'], "-");
    default_folder().join(format!("{date}.json"))
}

fn markdown(statement: &Value, rows: &[Row]) -> String {
    let mut text = head(statement);
    let mut families: Vec<_> = rows.iter().map(|row| row.family).collect();
    families.dedup();
    for family in families {
        let rows: Vec<_> = rows.iter().filter(|row| row.family == family).collect();
        text.push_str(&table(family, &rows));
    }
    text
}

/// One sentence for each thing to be known.
fn head(statement: &Value) -> String {
    let say = |name: &str| statement[name].as_str().unwrap_or("unknown").to_owned();
    let settings = &statement["settings"];
    let mut text = format!(
        "{}; {} × {}, {} of memory; Linux {}, {}; commit {}; load average before: {}.\n\n",
        say("date"),
        statement["cores"],
        say("processor"),
        say("memory"),
        say("kernel"),
        say("file_system"),
        say("commit"),
        say("load_before"),
    );
    let _ = writeln!(
        text,
        "`{}`: rounds: {}, seconds a turn: {}. {}\n",
        settings["command"].as_str().unwrap_or_default(),
        settings["rounds"],
        settings["seconds_per_turn"],
        if settings["pinned"] == true {
            "Servers on one core, the client on another."
        } else {
            "Servers and client share all cores."
        }
    );
    if let Some(versions) = statement["versions"].as_object() {
        for (name, version) in versions {
            let _ = writeln!(text, "- {name}: {}", version.as_str().unwrap_or_default().replace('\n', ", "));
        }
    }
    text.push_str(
        "\nstella and bare answer a push when it is on the disk, docker-registry and distribution when the kernel has it. \
         Each logs as it does by default, into a file; nginx logs no requests.\n",
    );
    if settings["quick"] == true {
        text.push_str("\nTaken with --quick: not to be published.\n");
    }
    text
}

/// The rows of a family.
fn table(family: &str, rows: &[&Row]) -> String {
    let mut kinds: Vec<_> = rows.iter().flat_map(|row| row.cells.iter().map(|(kind, _)| *kind)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let others: Vec<_> = kinds.iter().copied().filter(|kind| *kind != Kind::Stella).collect();
    let ours = kinds.contains(&Kind::Stella);
    // A unit that all rows have stands in the head of the table.
    let unit = rows.first().map(|row| row.measure.unit());
    let unit = unit.filter(|unit| rows.iter().all(|row| row.measure.unit() == *unit));
    let mut titles = vec![unit.map_or_else(|| family.to_owned(), |unit| format!("{family} ({unit})"))];
    titles.extend(kinds.iter().map(|kind| kind.name().to_owned()));
    if ours {
        titles.extend(others.iter().map(|kind| format!("times {}", kind.name())));
        titles.push("aim".to_owned());
    }
    let mut text = format!("\n| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
    let mut notes = Vec::new();
    for row in rows {
        let name = &row.name;
        let mut cells =
            vec![if unit.is_some() { name.clone() } else { format!("{name} ({})", row.measure.unit()) }];
        cells.extend(kinds.iter().map(|&kind| cell(row, kind, &mut notes)));
        if ours {
            cells.extend(others.iter().map(|&kind| spread(&row.ratios(kind), number)));
            cells.push(row.aims.iter().map(|&aim| aim_text(row, aim)).collect::<Vec<_>>().join("; "));
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for (number, note) in notes.iter().enumerate() {
        let _ = write!(text, "{}[{}] {note}.", if number == 0 { "\n" } else { " " }, number + 1);
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text
}

fn cell(row: &Row, kind: Kind, notes: &mut Vec<String>) -> String {
    let mut note = |text: &str| {
        let known = notes.iter().position(|known| known == text);
        known.unwrap_or_else(|| {
            notes.push(text.to_owned());
            notes.len() - 1
        }) + 1
    };
    match row.cells.iter().find(|(known, _)| *known == kind) {
        None => "–".to_owned(),
        Some((_, Cell::Absent(why))) => format!("– [{}]", note(&format!("{}: {why}", kind.name()))),
        Some((_, Cell::Failed(why))) => format!("failed [{}]", note(&format!("{}: {why}", kind.name()))),
        // Close to 1, where the third digit behind the point counts.
        Some((_, Cell::Figures(_))) if matches!(row.measure, Measure::Cost | Measure::Gated) => {
            spread(&row.values(kind, row.measure.name()), |value| format!("{value:.3}"))
        }
        Some((_, Cell::Figures(_))) => {
            let figure = |name: &str| median(&row.values(kind, name));
            let shown: Vec<_> = row
                .measure
                .shown()
                .iter()
                .filter_map(|&(name, scale)| figure(name).map(|value| number(value * scale)))
                .collect();
            shown.join(" / ")
        }
    }
}

/// A value of all rounds: the median, the least and the greatest.
fn spread(values: &[f64], number: impl Fn(f64) -> String) -> String {
    let bounds = values
        .iter()
        .copied()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    median(values).map_or_else(
        || "–".to_owned(),
        |middle| format!("{} ({}–{})", number(middle), number(bounds.0), number(bounds.1)),
    )
}

fn aim_text(row: &Row, aim: Aim) -> String {
    let what = match aim {
        Aim::Times(kind, least) => format!("≥ {least} × {}", kind.name()),
        Aim::AtMost(most) => format!("≤ {most} {}", row.measure.unit()),
    };
    let reached = match row.reaches(aim) {
        Some(true) => "reached",
        Some(false) => "missed",
        None => "not measured",
    };
    format!("{what}: {reached}")
}

/// A number with three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Measure {
    /// What the figures in a cell are.
    fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "MB/s / server CPU s per GiB",
            Self::Requests => "requests/s / p50 ms / p99 ms",
            Self::Rate => "per s / server CPU µs each",
            Self::Latency => "p50 ms / p99 ms",
            Self::Growth => "×",
            Self::Start | Self::Until => "ms",
            Self::Memory => "MB",
            Self::MemoryEach => "KiB each",
            Self::Cost => "× the CPU of anonymous",
            Self::Gated => "× the CPU of ungated",
            Self::Processor => "ms of CPU",
        }
    }

    /// The figures in a cell, and what they are multiplied with to be read.
    fn shown(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Throughput => &[("mb_per_second", 1.0), ("server_seconds_per_gib", 1.0)],
            Self::Requests => &[("requests_per_second", 1.0), ("p50_us", 1e-3), ("p99_us", 1e-3)],
            Self::Rate => &[("requests_per_second", 1.0), ("server_us_per_request", 1.0)],
            Self::Latency => &[("p50_us", 1e-3), ("p99_us", 1e-3)],
            Self::Growth => &[("times", 1.0)],
            Self::Start | Self::Until => &[("ms", 1.0)],
            Self::Memory => &[("mb", 1.0)],
            Self::MemoryEach => &[("kib_each", 1.0)],
            Self::Cost => &[("times_anonymous", 1.0)],
            Self::Gated => &[("times_ungated", 1.0)],
            Self::Processor => &[("cpu_ms", 1.0)],
        }
    }
}

fn json_row(row: &Row) -> Value {
    let servers: Map<_, _> =
        row.cells.iter().map(|(kind, cell)| (kind.name().to_owned(), json_cell(row, *kind, cell))).collect();
    let aims: Vec<_> =
        row.aims.iter().map(|&aim| json!({"aim": aim_text(row, aim), "reached": row.reaches(aim)})).collect();
    json!({
        "family": row.family,
        "name": row.name,
        "compared": row.measure.name(),
        "better_when_less": row.measure.is_better_when_less(),
        "servers": servers,
        "aims": aims,
    })
}

fn json_cell(row: &Row, kind: Kind, cell: &Cell) -> Value {
    match cell {
        Cell::Absent(why) => json!({"absent": why}),
        Cell::Failed(why) => json!({"failed": why}),
        Cell::Figures(rounds) => {
            let names: Vec<_> = rounds.first().into_iter().flatten().map(|(name, _)| *name).collect();
            let medians: Map<_, _> = names
                .iter()
                .filter_map(|&name| Some((name.to_owned(), median(&row.values(kind, name))?.into())))
                .collect();
            let round = |figures: &Figures| {
                let figures = figures.iter().map(|&(name, value)| (name.to_owned(), Value::from(value)));
                Value::from(figures.collect::<Map<_, _>>())
            };
            let rounds: Vec<_> = rounds.iter().map(round).collect();
            let ratios = row.ratios(kind);
            json!({
                "median": medians,
                "rounds": rounds,
                "stella_is_better_by": (kind != Kind::Stella).then_some(json!({
                    "median": median(&ratios),
                    "least": ratios.iter().copied().reduce(f64::min),
                    "greatest": ratios.iter().copied().reduce(f64::max),
                })),
            })
        }
    }
}
