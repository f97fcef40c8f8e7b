// SPDX-License-Identifier: AGPL-3.0-only
//! Logs: one line per event on stderr, for a person or as JSON. Fields of the spans around an event
//! (the request id among them) are on its line. What is logged is decided where it happens.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Why logging could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// `log.level` is not a directive.
    #[error("`log.level`: {level:?} is not a level")]
    Level {
        /// The value.
        level: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process logs already.
    #[error("logging was started twice")]
    Started(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends the events of the whole process to stderr as `log` says.
pub fn init(log: &Log) -> Result<(), LoggingError> {
    subscriber(log, io::stderr().is_terminal(), io::stderr)?.try_init().map_err(LoggingError::Started)
}

fn subscriber<W>(
    log: &Log,
    terminal: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = log.level.as_str();
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|source| LoggingError::Level { level: level.to_owned(), source })?;
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    // A line that cannot be written is lost. Told of on stderr, which is what cannot be written, it
    // would be a panic of whoever logs.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    if json {
        // The list of spans would repeat the innermost one, which holds what matters.
        return Ok(Box::new(builder.json().flatten_event(true).with_span_list(false).finish()));
    }
    // On a terminal the default stands: colour, unless NO_COLOR is set.
    Ok(if terminal { Box::new(builder.finish()) } else { Box::new(builder.with_ansi(false).finish()) })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What one event inside a request looks like under `log`.
    fn logged(format: LogFormat, level: &str, terminal: bool) -> String {
        #[derive(Clone, Default)]
        struct Memory(Arc<Mutex<Vec<u8>>>);

        impl io::Write for Memory {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let memory = Memory::default();
        let writer = memory.clone();
        let log = Log { format, level: level.parse().unwrap() };
        let subscriber = subscriber(&log, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", request_id = "r-1");
            span.in_scope(|| tracing::info!(repo = "team/app", "manifest stored"));
        });
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_holds_the_event_and_its_request() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info", true)).unwrap();
        assert_eq!(line["message"], "manifest stored");
        assert_eq!(line["repo"], "team/app");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["request_id"], "r-1");
    }

    #[test]
    fn a_human_line_holds_the_event_and_its_request() {
        let line = logged(LogFormat::Human, "info", false);
        assert!(
            line.contains("manifest stored") && line.contains("r-1") && line.contains("team/app"),
            "{line}"
        );
        assert!(!line.contains('\u{1b}'), "colour only on a terminal: {line:?}");
    }

    #[test]
    fn auto_is_human_on_a_terminal_and_json_elsewhere() {
        assert!(!logged(LogFormat::Auto, "info", true).starts_with('{'));
        assert!(logged(LogFormat::Auto, "info", false).starts_with('{'));
    }

    #[test]
    fn what_is_below_the_level_is_not_logged() {
        assert_eq!(logged(LogFormat::Json, "warn", false), "");
        assert_ne!(logged(LogFormat::Json, "warn,stella_registry=info", false), "");
    }
}
