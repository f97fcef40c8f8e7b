// SPDX-License-Identifier: AGPL-3.0-only
//! What certificates say, read and not believed: names, dates, extensions. Signatures and paths are checked by the
//! crates of Sigstore; here is what they leave to their caller: that there is one name only, all of Fulcio's extensions,
//! and the dates of certificates that serve as anchors.

use crate::der::{self, Reader};
use crate::limits::ALTERNATIVE_NAMES;
use crate::refusal::Refusal;

/// id-ce-subjectAltName, 2.5.29.17.
pub(crate) const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// id-ce-basicConstraints, 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// id-ce-extKeyUsage, 2.5.29.37.
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-kp-timeStamping, 1.3.6.1.5.5.7.3.8.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
/// Signed certificate timestamps (RFC 6962), 1.3.6.1.4.1.11129.2.4.2.
const LOGGED: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
/// Fulcio's arc, 1.3.6.1.4.1.57264.1; one more byte names the extension.
const FULCIO: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01];

/// A certificate's fields.
#[derive(Debug)]
pub(crate) struct Certificate<'a> {
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    extensions: Vec<Extension<'a>>,
}

#[derive(Debug)]
struct Extension<'a> {
    oid: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut parts = der::only(bytes, der::SEQUENCE)?.inside();
        let mut tbs = parts.expect(der::SEQUENCE)?.inside();
        tbs.optional(der::context(0))?;
        tbs.expect(der::INTEGER)?;
        tbs.expect(der::SEQUENCE)?;
        let issuer = tbs.expect(der::SEQUENCE)?.whole;
        let mut dates = tbs.expect(der::SEQUENCE)?.inside();
        let (not_before, not_after) = (time(&mut dates)?, time(&mut dates)?);
        dates.end()?;
        let subject = tbs.expect(der::SEQUENCE)?.whole;
        tbs.expect(der::SEQUENCE)?;
        let mut extensions: Vec<Extension<'a>> = Vec::new();
        while !tbs.is_empty() {
            let part = tbs.next()?;
            if part.tag != der::context(3) {
                continue;
            }
            let mut list = der::only(part.content, der::SEQUENCE)?.inside();
            while !list.is_empty() {
                let extension = extension(&mut list)?;
                // RFC 5280, 4.2: not more than one instance of a particular extension.
                if extensions.iter().any(|earlier| earlier.oid == extension.oid) {
                    return Err(Refusal::malformed("the certificate has an extension twice"));
                }
                extensions.push(extension);
            }
        }
        Ok(Certificate { issuer, subject, not_before, not_after, extensions })
    }

    /// Whether it says to have issued itself.
    pub(crate) fn is_root(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether it says that a certificate transparency log had it.
    pub(crate) fn says_logged(&self) -> bool {
        self.extension(LOGGED).is_some()
    }

    /// What logs of certificates signed of it, as it has that.
    pub(crate) fn timestamps(&self) -> Option<&'a [u8]> {
        self.extension(LOGGED).map(|extension| extension.value)
    }

    /// Fulcio's extension of this number.
    pub(crate) fn fulcio(&self, number: u8) -> Option<&'a [u8]> {
        self.extensions
            .iter()
            .find(|extension| extension.oid.strip_prefix(FULCIO) == Some(&[number]))
            .map(|extension| extension.value)
    }

    /// The elements of its subject alternative name.
    pub(crate) fn alternative_names(&self) -> Result<Vec<der::Element<'a>>, Refusal> {
        let Some(extension) = self.extension(ALTERNATIVE_NAME) else { return Ok(Vec::new()) };
        let mut list = der::only(extension.value, der::SEQUENCE)?.inside();
        let mut names = Vec::new();
        while !list.is_empty() && names.len() < ALTERNATIVE_NAMES {
            names.push(list.next()?);
        }
        Ok(names)
    }

    /// Whether it may issue certificates (RFC 5280, 4.2.1.9).
    pub(crate) fn is_authority(&self) -> bool {
        self.constraints().is_some_and(|mut inside| {
            inside.optional(der::BOOLEAN).is_ok_and(|flag| flag.is_some_and(|flag| flag.content == [0xff]))
        })
    }

    /// How many authorities may stand between it and a signer, if it says so. What cannot be read counts as none.
    pub(crate) fn most_below(&self) -> Option<usize> {
        let mut inside = self.constraints()?;
        let _is_authority = inside.optional(der::BOOLEAN);
        let length = inside.optional(der::INTEGER).unwrap_or(None)?;
        let [small] = length.content else { return Some(0) };
        Some(usize::from(*small))
    }

    fn constraints(&self) -> Option<Reader<'a>> {
        let constraints = self.extension(BASIC_CONSTRAINTS)?;
        der::only(constraints.value, der::SEQUENCE).ok().map(|inside| inside.inside())
    }

    /// Whether it may sign timestamps and do nothing else (RFC 3161, 2.3): one extended key usage, critical, and no CA.
    pub(crate) fn is_timestamp_authority(&self) -> bool {
        let only_stamps = self.extension(EXTENDED_USAGE).is_some_and(|usage| {
            usage.critical
                && der::only(usage.value, der::SEQUENCE).is_ok_and(|list| {
                    der::only(list.content, der::OID).is_ok_and(|usage| usage.content == TIME_STAMPING)
                })
        });
        let is_ca = self.extension(BASIC_CONSTRAINTS).is_some_and(|constraints| {
            // cA is DEFAULT FALSE, so its presence is TRUE. What cannot be read counts as one.
            der::only(constraints.value, der::SEQUENCE)
                .map_or(true, |inside| inside.inside().peek() == Some(der::BOOLEAN))
        });
        only_stamps && !is_ca
    }

    fn extension(&self, oid: &[u8]) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }
}

/// What a certificate's authority signed, without the timestamps of logs: the certificate as they saw it.
pub(crate) fn without_timestamps(certificate: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut tbs = der::only(certificate, der::SEQUENCE)?.inside().expect(der::SEQUENCE)?.inside();
    let mut content = Vec::new();
    while !tbs.is_empty() {
        let part = tbs.next()?;
        if part.tag != der::context(3) {
            content.extend_from_slice(part.whole);
            continue;
        }
        let (mut list, mut kept) = (der::only(part.content, der::SEQUENCE)?.inside(), Vec::new());
        while !list.is_empty() {
            let mut one = list;
            let whole = list.next()?.whole;
            if extension(&mut one)?.oid != LOGGED {
                kept.extend_from_slice(whole);
            }
        }
        content.extend(der::write(der::context(3), &der::write(der::SEQUENCE, &kept)));
    }
    Ok(der::write(der::SEQUENCE, &content))
}

fn extension<'a>(list: &mut Reader<'a>) -> Result<Extension<'a>, Refusal> {
    let mut parts = list.expect(der::SEQUENCE)?.inside();
    let oid = parts.expect(der::OID)?.content;
    let critical = parts.optional(der::BOOLEAN)?.is_some_and(|flag| flag.content == [0xff]);
    let value = parts.expect(der::OCTETS)?.content;
    parts.end()?;
    Ok(Extension { oid, critical, value })
}

/// A time as RFC 5280 writes it: `YYMMDDHHMMSSZ` until 2049, then `YYYYMMDDHHMMSSZ`.
fn time(reader: &mut Reader<'_>) -> Result<i64, Refusal> {
    let element = reader.next()?;
    let bad = || Refusal::malformed("the certificate has a date that cannot be read");
    let text = std::str::from_utf8(element.content).map_err(|_| bad())?;
    let digits = text.strip_suffix('Z').ok_or_else(bad)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number = |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<i64>().ok());
    let (year, rest) = match (element.tag, digits.len()) {
        (der::UTC_TIME, 12) => {
            (number(0, 2).map(|year| if year < 50 { 2000 + year } else { 1900 + year }), 2)
        }
        (der::GENERALIZED_TIME, 14) => (number(0, 4), 4),
        _ => return Err(bad()),
    };
    let part = |index: usize| number(rest + 2 * index, rest + 2 * index + 2).ok_or_else(bad);
    let (year, month, day) = (year.ok_or_else(bad)?, part(0)?, part(1)?);
    let (hour, minute, second) = (part(2)?, part(3)?, part(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(bad());
    }
    Ok(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March, so that a leap day is the
/// last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let of_era = year.rem_euclid(400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        for (tag, text, seconds) in [
            (der::UTC_TIME, "700101000000Z", 0),
            (der::UTC_TIME, "000229000000Z", 951_782_400),
            (der::UTC_TIME, "491231235959Z", 2_524_607_999),
            (der::UTC_TIME, "500101000000Z", -631_152_000),
            (der::GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (der::GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            let bytes = der::write(tag, text.as_bytes());
            assert_eq!(time(&mut Reader::new(&bytes)).unwrap(), seconds, "{text}");
        }
        for text in [
            "7001010000Z",
            "700101000000",
            "70010100000aZ",
            "701301000000Z",
            "700100000000Z",
            "700101240000Z",
        ] {
            assert!(time(&mut Reader::new(&der::write(der::UTC_TIME, text.as_bytes()))).is_err(), "{text}");
        }
    }
}
