// SPDX-License-Identifier: AGPL-3.0-only
//! Texts between `-----BEGIN X-----` and `-----END X-----` (RFC 7468): keys and certificates. Text outside of them is
//! ignored, as everybody does; within them everything must be in order. Private keys are read here too, so nothing of a text
//! stays behind in memory.

use zeroize::Zeroizing;

use crate::json;
use crate::refusal::Refusal;

/// A label and what stands under it. It is not to be shown: it may be a private key.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// All blocks, at most `most` of them.
pub(crate) fn blocks(text: &str, most: usize) -> Result<Vec<Block>, Refusal> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = marked(line, "BEGIN") else {
            if marked(line, "END").is_some() {
                return Err(Refusal::malformed("PEM: an end without a beginning"));
            }
            continue;
        };
        if blocks.len() == most {
            return Err(Refusal::over(format!("PEM: more than {most} blocks")));
        }
        // Never larger than what it is cut from, so that it is not moved while it grows.
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match lines.next() {
                None => return Err(Refusal::malformed(format!("PEM: no end of `{label}`"))),
                Some(line) if marked(line, "END") == Some(label) => break,
                Some(line) if line.starts_with("-----") => {
                    return Err(Refusal::malformed(format!("PEM: another mark within `{label}`")));
                }
                Some(line) if line.contains(':') => {
                    return Err(Refusal::malformed(
                        "PEM: headers, such as those of old encrypted keys, are not read",
                    ));
                }
                Some(line) => body.push_str(line),
            }
        }
        let bytes = Zeroizing::new(json::base64(&body).map_err(|refusal| refusal.at("PEM"))?);
        blocks.push(Block { label: label.to_owned(), bytes });
    }
    Ok(blocks)
}

/// The certificates in a text, all blocks being ones.
pub(crate) fn certificates(text: &str, most: usize) -> Result<Vec<Vec<u8>>, Refusal> {
    let certificate = |block: Block| match block.label.as_str() {
        "CERTIFICATE" => Ok(block.bytes.to_vec()),
        other => Err(Refusal::malformed(format!("PEM: `{other}` where a certificate is expected"))),
    };
    blocks(text, most)?.into_iter().map(certificate).collect()
}

fn marked<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix("-----")?.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_and_their_edges_must_be_in_order() {
        let text =
            "hello\n-----BEGIN A B-----\r\naG\nk=\n-----END A B-----\n-----BEGIN C-----\n-----END C-----";
        let found = blocks(text, 2).unwrap();
        assert!(found[0].label == "A B" && found[0].bytes.as_slice() == b"hi");
        assert!(found[1].bytes.is_empty());
        assert!(blocks(text, 1).is_err());
        for bad in [
            "-----BEGIN A-----\naGk=",
            "-----BEGIN A-----\naGk=\n-----END B-----",
            "-----END A-----",
            "-----BEGIN A-----\na!k=\n-----END A-----",
            "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\naGk=\n-----END A-----",
            "-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----",
        ] {
            assert!(blocks(bad, 9).is_err(), "{bad}");
        }
    }
}
