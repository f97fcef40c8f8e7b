// SPDX-License-Identifier: AGPL-3.0-only
//! PEM (RFC 7468) around a key: one block is read, others after it are ignored, as openssl does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::{Error, Result, pem};

/// The most blocks of a file with a key: `openssl ecparam` writes its parameters before it.
const BLOCKS: usize = 8;

/// The label and the bytes of the first block that is a key.
pub(super) fn first(text: &str) -> Result<(String, Zeroizing<Vec<u8>>)> {
    let wrong = |why: &str| Error::Key(format!("not a key in PEM: {why}"));
    let blocks = pem::blocks(text, BLOCKS).map_err(|refusal| wrong(&refusal.why))?;
    let key = blocks.into_iter().find(|block| !block.label.ends_with(" PARAMETERS"));
    key.map(|block| (block.label, block.bytes)).ok_or_else(|| wrong("it has no BEGIN line"))
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
