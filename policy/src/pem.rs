// SPDX-License-Identifier: AGPL-3.0-only
//! Texts between `-----BEGIN X-----` and `-----END X-----` (RFC 7468): keys and certificates. Text outside of them is
//! ignored, as everybody does; within them everything must be in order.

use crate::json;
use crate::refusal::Refusal;

/// A label and what stands under it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) bytes: Vec<u8>,
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
        let mut body = String::new();
        loop {
            match lines.next() {
                None => return Err(Refusal::malformed(format!("PEM: no end of `{label}`"))),
                Some(line) if marked(line, "END") == Some(label) => break,
                Some(line) if line.starts_with("-----") => {
                    return Err(Refusal::malformed(format!("PEM: another mark within `{label}`")));
                }
                Some(line) => body.push_str(line),
            }
        }
        let bytes = json::base64(&body).map_err(|refusal| refusal.at("PEM"))?;
        blocks.push(Block { label: label.to_owned(), bytes });
    }
    Ok(blocks)
}

/// The certificates in a text, all blocks being ones.
pub(crate) fn certificates(text: &str, most: usize) -> Result<Vec<Vec<u8>>, Refusal> {
    let certificate = |block: Block| match block.label.as_str() {
        "CERTIFICATE" => Ok(block.bytes),
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
        assert_eq!(found[0], Block { label: "A B".to_owned(), bytes: b"hi".to_vec() });
        assert_eq!(found[1].bytes, b"");
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
