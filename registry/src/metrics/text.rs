// SPDX-License-Identifier: AGPL-3.0-only
//! The Prometheus text format, version 0.0.4.
//!
//! Ours, in these few lines: the crate `prometheus-client` writes `OpenMetrics` alone, whose counters have
//! other names than their samples in the older format, and its histograms take a lock at each observation.

use std::fmt::{Display, Write as _};

use stella_storage::Distribution;

/// A family's kind.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of labels.
pub(crate) type Labels<'l> = &'l [(&'l str, &'l str)];

/// The text of an answer. Samples of a family follow its head.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    /// A counter without labels.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help);
        self.sample(name, &[], value);
    }

    /// A gauge without labels.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    /// The head of a family.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A value of a family.
    pub(crate) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.write(name);
        let mut open = '{';
        for (label, value) in labels {
            self.write(format_args!("{open}{label}=\"{}\"", Escaped(value)));
            open = ',';
        }
        if open == ',' {
            self.write('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    /// The samples of a histogram, whose observations were counted in units of which there are `scale` in
    /// one of those that are shown.
    pub(crate) fn histogram(&mut self, name: &str, labels: Labels<'_>, seen: &Distribution, scale: u32) {
        let (bucket, mut count) = (format!("{name}_bucket"), 0);
        for (nth, more) in seen.counts.iter().enumerate() {
            count += more;
            let bound = seen.bounds.get(nth).map_or("+Inf".to_owned(), |bound| shown(*bound, scale));
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.sample(&format!("{name}_sum"), labels, shown(seen.sum, scale));
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn write(&mut self, text: impl Display) {
        // Text grows without fail.
        let _always = write!(self.0, "{text}");
    }
}

/// `value` parts of which there are `scale` in one.
#[expect(clippy::cast_precision_loss, reason = "numbers of the format are floats")]
fn shown(value: u64, scale: u32) -> String {
    (value as f64 / f64::from(scale)).to_string()
}

/// A label's value.
struct Escaped<'v>(&'v str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.counter("a_total", "Help.", 7);
        page.family("b", Kind::Gauge, "Help.");
        page.sample("b", &[("x", "a\"b\\c\nd"), ("y", "")], 0.5);
        page.family("c_seconds", Kind::Histogram, "Help.");
        let seen = Distribution { bounds: vec![100, 2_000_000], counts: vec![1, 0, 2], sum: 5_000_050 };
        page.histogram("c_seconds", &[("route", "r")], &seen, 1_000_000);
        let expected = r#"# HELP a_total Help.
# TYPE a_total counter
a_total 7
# HELP b Help.
# TYPE b gauge
b{x="a\"b\\c\nd",y=""} 0.5
# HELP c_seconds Help.
# TYPE c_seconds histogram
c_seconds_bucket{route="r",le="0.0001"} 1
c_seconds_bucket{route="r",le="2"} 1
c_seconds_bucket{route="r",le="+Inf"} 3
c_seconds_sum{route="r"} 5.00005
c_seconds_count{route="r"} 3
"#;
        assert_eq!(page.into_text(), expected);
    }
}
