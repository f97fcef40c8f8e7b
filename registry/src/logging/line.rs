// SPDX-License-Identifier: AGPL-3.0-only
//! Lines that name the request in which they were written.
//!
//! A span would do that too, and cost every request a third of what it costs to answer it, also where
//! nothing is logged. So the id is kept beside the task that answers, and is looked up for a line.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

tokio::task_local! {
    static REQUEST: Uuid;
}

/// Does `work` as that of a request.
pub(crate) fn within<F: Future>(request: Uuid, work: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(request, work)
}

/// Does `work`, which waits for nothing, as that of a request.
pub(crate) fn within_now<T>(request: Uuid, work: impl FnOnce() -> T) -> T {
    REQUEST.sync_scope(request, work)
}

/// Another format, whose lines are JSON objects or not, and the request's id before each.
pub(super) struct Named<F> {
    pub(super) format: F,
    pub(super) json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Ok(request) = REQUEST.try_with(|request| request.simple()) else {
            return self.format.format_event(context, writer, event);
        };
        if !self.json {
            write!(writer, "{request} ")?;
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, "{{\"request_id\":\"{request}\",{rest}"),
            None => writer.write_str(&line),
        }
    }
}
