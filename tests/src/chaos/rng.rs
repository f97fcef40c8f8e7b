// SPDX-License-Identifier: AGPL-3.0-only
//! Choices that depend on a seed alone, the same on every machine and with every version of Rust, so
//! that a run which found a fault can be repeated.

/// A stream of choices (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream by its seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for a part of the work, which does not depend on what others draw.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        let mut part = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        part.next();
        part
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index into something of this length, if it is not empty.
    pub fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| usize::try_from(self.below(len as u64)).unwrap_or_default())
    }

    /// One of several, if there is any.
    pub fn pick<'i, T>(&mut self, items: &'i [T]) -> Option<&'i T> {
        self.index(items.len()).map(|index| &items[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_depend_on_the_seed_alone() {
        let draw = |mut rng: Rng| [rng.next(), rng.below(10), rng.next()];
        assert_eq!(draw(Rng::new(1)), draw(Rng::new(1)));
        assert_ne!(draw(Rng::new(1)), draw(Rng::new(2)));
        assert_ne!(draw(Rng::new(1).part(0)), draw(Rng::new(1).part(1)));
        // Of the published reference implementation, so that a seed means the same for ever.
        assert_eq!(Rng::new(1_234_567).next(), 6_457_827_717_110_365_317);
    }
}
