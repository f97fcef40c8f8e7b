// SPDX-License-Identifier: AGPL-3.0-only
//! Logs: one line per event on stderr, for a person or as JSON, with the id of the request in which it
//! happened (`line.rs`). What is logged is decided where it happens. The level can change while the program
//! runs. Spans are for traces (`otlp.rs`), and made only if those are sent.

use std::io::{self, IsTerminal};

use http::Request;
use thiserror::Error;
use tracing::{Span, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Endpoint, Log, LogFormat};
use crate::route::Template;

mod line;
#[cfg(feature = "otlp")]
mod otlp;

pub(crate) use line::{within, within_now};

use line::Named;

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
    /// The level cannot be changed any more.
    #[error("the level cannot be changed")]
    Reload(#[source] reload::Error),
    /// Something else in this process logs already.
    #[error("logging was started twice")]
    Started(#[source] tracing_subscriber::util::TryInitError),
    /// Traces cannot be sent.
    #[error("`tracing.otlp`: traces cannot be sent: {reason}")]
    Traces {
        /// Why.
        reason: String,
    },
}

/// The log of this process.
#[derive(Debug)]
pub struct Logging {
    filter: Filter,
    #[cfg(feature = "otlp")]
    traces: Option<otlp::Traces>,
}

type Filter = reload::Handle<EnvFilter, Registry>;
type Everything = Box<dyn Subscriber + Send + Sync>;

impl Logging {
    /// Logs by another level from now on.
    pub fn set_level(&self, log: &Log) -> Result<(), LoggingError> {
        self.filter.reload(filter(log)?).map_err(LoggingError::Reload)
    }

    /// Sends the traces that wait, and ends sending them.
    pub fn end(&self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.end();
        }
    }
}

/// Sends the events of the whole process to stderr as `log` says, and its traces to `collector`.
pub fn init(log: &Log, collector: Option<&Endpoint>) -> Result<Logging, LoggingError> {
    let terminal = io::stderr().is_terminal();
    #[cfg(feature = "otlp")]
    if let Some(collector) = collector {
        let (traces, layer) = otlp::start(collector).map_err(|reason| LoggingError::Traces { reason })?;
        let (filter, handle) = reload::Layer::new(filter(log)?);
        // The level is that of the log alone: spans are traced whatever is logged.
        let lines = lines(log, terminal, io::stderr).with_filter(filter);
        let everything: Everything = Box::new(Registry::default().with(lines).with(layer));
        everything.try_init().map_err(LoggingError::Started)?;
        return Ok(Logging { filter: handle, traces: Some(traces) });
    }
    if let Some(collector) = collector {
        let reason = format!("this program cannot send any to {collector}");
        return Err(LoggingError::Traces { reason });
    }
    let (everything, filter) = subscriber(log, terminal, io::stderr)?;
    everything.try_init().map_err(LoggingError::Started)?;
    Ok(Logging {
        filter,
        #[cfg(feature = "otlp")]
        traces: None,
    })
}

/// The span around everything that is done for a request, if anybody gathers traces.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "traces tell more"))]
pub(crate) fn request_span<B>(id: &str, template: Template, request: &Request<B>) -> Span {
    #[cfg(feature = "otlp")]
    if otlp::is_on() {
        return otlp::request_span(id, template, request);
    }
    Span::none()
}

/// Notes with a request's span how it was answered.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "traces tell more"))]
pub(crate) fn record_status(span: &Span, status: u16) {
    #[cfg(feature = "otlp")]
    if otlp::is_on() {
        otlp::record_status(span, status);
    }
}

fn subscriber<W>(log: &Log, terminal: bool, writer: W) -> Result<(Everything, Filter), LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(log)?);
    Ok((Box::new(Registry::default().with(filter).with(lines(log, terminal, writer))), handle))
}

fn filter(log: &Log) -> Result<EnvFilter, LoggingError> {
    let level = log.level.as_str();
    EnvFilter::builder()
        .parse(level)
        .map_err(|source| LoggingError::Level { level: level.to_owned(), source })
}

fn lines<S, W>(log: &Log, terminal: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    // A line that cannot be written is lost. Told of on stderr, which is what cannot be written, it
    // would be a panic of whoever logs.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    if json {
        let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
        return layer.map_event_format(|format| Named { format, json: true }).boxed();
    }
    // On a terminal the default stands: colour, unless NO_COLOR is set.
    let layer = if terminal { layer } else { layer.with_ansi(false) };
    layer.map_event_format(|format| Named { format, json: false }).boxed()
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
        let (subscriber, _) = subscriber(&log, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let id = uuid::Uuid::from_u128(0xabc);
            within_now(id, || tracing::info!(repo = "team/app", "manifest stored"));
        });
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_holds_the_event_and_its_request() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info", true)).unwrap();
        assert_eq!(line["message"], "manifest stored");
        assert_eq!(line["repo"], "team/app");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["request_id"], "00000000000000000000000000000abc");
    }

    #[test]
    fn a_human_line_holds_the_event_and_its_request() {
        let line = logged(LogFormat::Human, "info", false);
        assert!(
            line.contains("manifest stored") && line.contains("0000abc ") && line.contains("team/app"),
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
