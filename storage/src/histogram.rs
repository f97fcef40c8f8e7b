// SPDX-License-Identifier: AGPL-3.0-only
//! A histogram that costs two atomic additions an observation: no lock, no allocation, no float.
//!
//! Bounds are fixed when it is made. How it is shown, and in which unit, is decided by whoever reads it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    /// Observations over the last bound.
    above: AtomicU64,
    sum: AtomicU64,
}

/// What a histogram held at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The upper bounds, rising; each belongs to its bucket.
    pub bounds: Vec<u64>,
    /// Observations in each bucket; one more than there are bounds, for what is above.
    pub counts: Vec<u64>,
    /// The sum of all observations.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one; `bounds` rise.
    pub fn new(bounds: &'static [u64; N]) -> Self {
        Histogram {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(bucket).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What it holds. Observations that are made meanwhile may be in the counts and not yet in the sum.
    pub fn read(&self) -> Distribution {
        let counts = self.counts.iter().chain([&self.above]);
        Distribution {
            bounds: self.bounds.to_vec(),
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, 1_000] {
            histogram.observe(value);
        }
        let expected = Distribution { bounds: vec![1, 10, 100], counts: vec![2, 2, 2, 2], sum: 1_225 };
        assert_eq!(histogram.read(), expected);
    }
}
