// SPDX-License-Identifier: AGPL-3.0-only
//! How a copy gets on, on stderr: bars on a terminal, else a line for each blob and manifest.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stella_storage::Digest;

use super::table::bytes;
use crate::copy::{Event, Observer};
use crate::remote::{Descriptor, Pushed, printable};

const BAR: &str = "{prefix:14} {bar:30} {bytes:>11} of {total_bytes:11} {bytes_per_sec}";
const TOTAL: &str = "{prefix:14} {bar:30} {pos} of {len} blobs, {msg}";

/// Shows what happens, unless `quiet`.
pub(super) fn observer(quiet: bool) -> Observer {
    if quiet {
        Arc::new(|_| {})
    } else if io::stderr().is_terminal() {
        let bars = Bars::default();
        Arc::new(move |event| bars.show(event))
    } else {
        Arc::new(|event| {
            if let Some(line) = line(event) {
                // Nobody is left to tell when stderr is closed.
                let _closed = writeln!(io::stderr(), "{line}");
            }
        })
    }
}

fn line(event: Event<'_>) -> Option<String> {
    Some(match event {
        Event::Planned { blobs, bytes: size } => format!("{blobs} blobs, {}", bytes(size)),
        Event::Begun(_) | Event::Moved(..) => return None,
        Event::Blob(blob, pushed) => {
            format!("{:<8} blob {} {}", word(pushed), blob.digest, bytes(blob.size))
        }
        Event::Manifest(manifest, existed) => {
            let word = if existed { "exists" } else { "copied" };
            format!("{word:<8} manifest {} {}", manifest.digest, printable(&manifest.media_type, 100))
        }
    })
}

fn word(pushed: Pushed) -> &'static str {
    match pushed {
        Pushed::Existed => "exists",
        Pushed::Mounted => "mounted",
        Pushed::Sent => "copied",
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    state: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    total: Option<ProgressBar>,
    blobs: HashMap<Digest, ProgressBar>,
    sent: u64,
}

impl Bars {
    fn show(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { blobs, bytes: size } => {
                let total = self.all.add(bar(blobs as u64, TOTAL, "all"));
                total.set_message(bytes(size));
                state.total = Some(total);
            }
            Event::Begun(blob) => {
                let bar = state.blobs.entry(blob.digest.clone()).or_insert_with(|| self.of(blob));
                bar.set_position(0);
            }
            Event::Moved(digest, more) => {
                if let Some(bar) = state.blobs.get(digest) {
                    bar.inc(more);
                }
            }
            Event::Blob(blob, pushed) => {
                if let Some(bar) = state.blobs.remove(&blob.digest) {
                    bar.finish_and_clear();
                    self.all.remove(&bar);
                }
                if pushed == Pushed::Sent {
                    state.sent += blob.size;
                }
                if let Some(total) = &state.total {
                    total.inc(1);
                    total.set_message(format!("{} sent", bytes(state.sent)));
                }
            }
            Event::Manifest(..) => {
                // All blobs are there.
                if let Some(total) = state.total.take() {
                    total.finish_and_clear();
                }
            }
        }
    }

    fn of(&self, blob: &Descriptor) -> ProgressBar {
        let digest = blob.digest.to_string();
        let encoded = digest.split_once(':').map_or("", |(_, encoded)| encoded);
        self.all.add(bar(blob.size, BAR, &encoded.chars().take(12).collect::<String>()))
    }
}

fn bar(length: u64, template: &str, prefix: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_prefix(prefix.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_bars_are_valid() {
        for template in [BAR, TOTAL] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
