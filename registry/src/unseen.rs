// SPDX-License-Identifier: AGPL-3.0-only
//! Characters that nobody sees, and that change what is seen: they control a terminal, end or reverse a line, or are
//! nothing at all. No new name has any; where an old one is shown, they are escaped.

use std::fmt::Write as _;

/// Whether it is such a character.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A text in which each of them is written as Rust writes it, such as `\u{202e}`.
pub(crate) fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            seen.extend(c.escape_unicode());
        } else {
            seen.push(c);
        }
    }
    seen
}

/// JSON in which each of them is escaped as JSON has it: they stand in its texts alone.
pub(crate) fn visible_json(json: String) -> String {
    if json.is_ascii() {
        return json;
    }
    let (mut seen, mut units) = (String::with_capacity(json.len()), [0; 2]);
    for c in json.chars() {
        if c.is_ascii() || !is_unseen(c) {
            seen.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            let _infallible = write!(seen, "\\u{unit:04x}");
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_shown() {
        assert_eq!(visible("a\u{202e}b\n é"), "a\\u{202e}b\\u{a} é");
        let text = "a\u{202e}\u{e0041}é\n\"";
        let json = visible_json(serde_json::to_string(text).unwrap());
        assert_eq!(json, r#""a\u202e\udb40\udc41é\n\"""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
