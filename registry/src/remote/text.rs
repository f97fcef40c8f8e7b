// SPDX-License-Identifier: AGPL-3.0-only
//! Text that came from elsewhere, made fit for a terminal: no control characters, no endless lines.

/// At most `limit` characters of `text`, with control and direction characters escaped.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == limit {
            out.push('…');
            break;
        }
        // Besides what controls the terminal: what reverses the order of its line.
        if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[31mb\r\n\u{202e}ü", 100), "a\\u{1b}[31mb\\r\\n\\u{202e}ü");
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
