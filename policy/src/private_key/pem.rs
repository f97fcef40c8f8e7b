// SPDX-License-Identifier: AGPL-3.0-only
//! PEM (RFC 7468) around a key: one block is read, text before and after it is ignored, as openssl does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// The label and the bytes of the first block that is a key. `openssl ecparam` writes its parameters before it.
pub(super) fn first(text: &str) -> Result<(&str, Zeroizing<Vec<u8>>)> {
    let wrong = |why: &str| Error::Key(format!("not a key in PEM: {why}"));
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once("-----BEGIN ").ok_or_else(|| wrong("it has no BEGIN line"))?;
        let (label, after) = after.split_once("-----").ok_or_else(|| wrong("its BEGIN line does not end"))?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(&end).ok_or_else(|| wrong("it has no END line"))?;
        rest = after;
        if label.ends_with(" PARAMETERS") {
            continue;
        }
        if body.contains(':') {
            return Err(wrong("it has headers, such as those of old encrypted keys, which are not read"));
        }
        let packed: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let bytes = STANDARD.decode(packed.as_bytes()).map_err(|_| wrong("its text is not base64"))?;
        return Ok((label, Zeroizing::new(bytes)));
    }
}

/// A block, in lines of 64 letters.
pub(super) fn write(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (place, letter) in STANDARD.encode(bytes).chars().enumerate() {
        if place > 0 && place.is_multiple_of(64) {
            text.push('\n');
        }
        text.push(letter);
    }
    text + &format!("\n-----END {label}-----\n")
}
