// SPDX-License-Identifier: AGPL-3.0-only
//! Requests, by what their path means, their method and their status.
//!
//! A request costs five atomic additions in tables that were made once: no lock, no allocation, no text.
//! Labels are closed sets, so that no client can make a series.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use stella_storage::Histogram;

use super::text::{Kind, Page};
use crate::route::Template;

/// The status of a request whose client went away before its answer began; no answer carries it.
pub(crate) const CLIENT_GONE: u16 = 499;

/// The statuses that occur, rising.
const STATUSES: [u16; 25] = [
    200,
    201,
    202,
    204,
    206,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    412,
    413,
    414,
    416,
    429,
    431,
    CLIENT_GONE,
    500,
    501,
    503,
    507,
];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"];
const ROUTES: usize = Template::ALL.len();
/// One more for statuses that are not expected.
const COLUMNS: usize = STATUSES.len() + 1;

/// Upper bounds of a request's duration, in microseconds.
const MICROS: &[u64; 17] = &[
    100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Counts of requests.
pub(crate) struct Requests {
    /// By route, method and status.
    counts: Box<[AtomicU64]>,
    durations: [Histogram<17>; ROUTES],
    in_flight: AtomicU64,
}

/// A request that is being handled.
pub(crate) struct InFlight<'r>(&'r Requests);

impl Default for Requests {
    fn default() -> Self {
        Requests {
            counts: (0..ROUTES * METHODS.len() * COLUMNS).map(|_| AtomicU64::new(0)).collect(),
            durations: std::array::from_fn(|_| Histogram::new(MICROS)),
            in_flight: AtomicU64::new(0),
        }
    }
}

impl Requests {
    /// Counts a request as being handled until the value is dropped.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Counts a request that was answered.
    pub(crate) fn count(&self, route: Template, method: &Method, status: u16, took: Duration) {
        let cell = (route as usize * METHODS.len() + method_index(method)) * COLUMNS + column(status);
        if let Some(count) = self.counts.get(cell) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(durations) = self.durations.get(route as usize) {
            durations.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let help = "Requests whose answer has not begun.";
        page.gauge("stella_http_requests_in_flight", help, in_flight);
        let name = "stella_http_requests_total";
        let help = "Requests by the form of their path, method and status; 499: the client went away first.";
        page.family(name, Kind::Counter, help);
        for (nth, count) in self.counts.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            let (row, column) = (nth / COLUMNS, nth % COLUMNS);
            let (route, method) = (row / METHODS.len(), row % METHODS.len());
            if let (1.., Some(route), Some(method)) = (count, Template::ALL.get(route), METHODS.get(method)) {
                let status = STATUSES.get(column).map_or("other".to_owned(), u16::to_string);
                let labels = [("route", route.text()), ("method", *method), ("status", status.as_str())];
                page.sample(name, &labels, count);
            }
        }
        let name = "stella_http_request_seconds";
        let help = "From a request's head until its answer begins, which is after the request's body.";
        page.family(name, Kind::Histogram, help);
        for (route, durations) in Template::ALL.iter().zip(&self.durations) {
            let seen = durations.read();
            if seen.counts.iter().any(|count| *count > 0) {
                page.histogram(name, &[("route", route.text())], &seen, 1_000_000);
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        _ => 6,
    }
}

fn column(status: u16) -> usize {
    STATUSES.binary_search(&status).unwrap_or(STATUSES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_under_its_own_labels() {
        assert!(STATUSES.is_sorted());
        let requests = Requests::default();
        let all = Template::ALL;
        for (nth, route) in all.iter().enumerate() {
            assert_eq!(*route as usize, nth);
            requests.count(*route, &Method::GET, 200, Duration::from_millis(3));
            requests.count(*route, &Method::from_bytes(b"BREW").unwrap(), 418, Duration::ZERO);
        }
        requests.count(Template::Blob, &Method::DELETE, 507, Duration::ZERO);
        let _being_handled = requests.begin();
        let mut page = Page::default();
        requests.write(&mut page);
        let text = page.into_text();
        for route in all {
            let route = route.text();
            for (labels, count) in
                [("method=\"GET\",status=\"200\"", 1), ("method=\"other\",status=\"other\"", 1)]
            {
                let line = format!("stella_http_requests_total{{route=\"{route}\",{labels}}} {count}\n");
                assert!(text.contains(&line), "{line} in {text}");
            }
        }
        let blob = "route=\"/v2/{name}/blobs/{digest}\"";
        for line in [
            format!("stella_http_requests_total{{{blob},method=\"DELETE\",status=\"507\"}} 1\n"),
            format!("stella_http_request_seconds_bucket{{{blob},le=\"0.0025\"}} 2\n"),
            format!("stella_http_request_seconds_bucket{{{blob},le=\"0.005\"}} 3\n"),
            format!("stella_http_request_seconds_sum{{{blob}}} 0.003\n"),
            "stella_http_requests_in_flight 1\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
