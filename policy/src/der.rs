// SPDX-License-Identifier: AGPL-3.0-only
//! Just enough of DER (X.690) to look at certificates and timestamps beside the crates that verify them: to count names,
//! to compare embedded certificates, to see that nothing unsigned is smuggled in. Lengths are definite and minimal, tags
//! have one byte. Nothing is believed because it was read here.

use crate::refusal::Refusal;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[n]`, constructed.
pub(crate) const fn context(n: u8) -> u8 {
    0xa0 | n
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With its tag and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// What it consists of.
    pub(crate) fn inside(&self) -> Reader<'a> {
        Reader(self.content)
    }
}

/// Elements, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Refusal> {
        self.take().ok_or_else(|| Refusal::malformed("not DER"))
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Refusal> {
        let element = self.next()?;
        if element.tag == tag {
            Ok(element)
        } else {
            Err(Refusal::malformed(format!("not DER as expected: tag {:#04x} for {tag:#04x}", element.tag)))
        }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Refusal> {
        if self.peek() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// That nothing follows.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Refusal::malformed("not DER as expected: something follows"))
        }
    }

    fn take(&mut self) -> Option<Element<'a>> {
        let bytes = self.0;
        let (&tag, rest) = bytes.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 || rest.len() < count {
                return None;
            }
            let (digits, rest) = rest.split_at(count);
            let length = digits.iter().fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
            // DER: the shortest form that can say it.
            if digits.first() == Some(&0) || length < 0x80 {
                return None;
            }
            (length, rest)
        };
        if rest.len() < length {
            return None;
        }
        let (content, rest) = rest.split_at(length);
        let whole = bytes.get(..bytes.len() - rest.len())?;
        self.0 = rest;
        Some(Element { tag, content, whole })
    }
}

/// The only element in `bytes`, with this tag.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Result<Element<'_>, Refusal> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.end()?;
    Ok(element)
}

/// An element with this tag and content.
pub(crate) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits: Vec<u8> = length.into_iter().skip_while(|digit| *digit == 0).collect();
    let mut bytes = vec![tag];
    match digits.as_slice() {
        [] => bytes.push(0),
        [short] if *short < 0x80 => bytes.push(*short),
        long => {
            bytes.push(0x80 | u8::try_from(long.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(long);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_definite_and_minimal() {
        for bad in [
            &[0x30][..],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x02, 0],
            &[0x1f, 0x20, 0],
            &[0x30, 0x85, 1, 0, 0, 0, 0],
        ] {
            assert!(Reader::new(bad).next().is_err(), "{bad:?}");
        }
        assert!(only(&[0x30, 0, 0], SEQUENCE).is_err());
        assert!(only(&[0x30, 0], SET).is_err());
        assert_eq!(only(&[0x04, 1, 7], OCTETS).unwrap().content, [7]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = write(OCTETS, &content);
            prop_assert_eq!(only(&bytes, OCTETS).unwrap().content, &content[..]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(element) = reader.next() {
                prop_assert!(!element.whole.is_empty());
            }
        }
    }
}
