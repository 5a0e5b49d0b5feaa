//! Walks JSON text that is already known to be valid, without building a tree.
//!
//! What must stay true: it never fails and never panics, whatever numbers, escapes or keys the text holds. On text
//! that is not JSON the tokens mean nothing, but there are finitely many.

/// One piece of JSON text. Strings and keys come raw: without their quotes, escapes kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// The key of an object's member; its value follows.
    Key(&'a str),
    /// A string value.
    String(&'a str),
    /// A number, every digit as written.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// Yields the tokens of JSON text in order.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Starts at the first token of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the position in bytes just behind the last token.
    pub fn position(&self) -> usize {
        self.at
    }

    fn skip_spaces(&mut self) {
        let bytes = self.text.as_bytes();
        while matches!(
            bytes.get(self.at),
            Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':')
        ) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> &'a str {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut end = start;
        while let Some(&byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.at = (end + 1).min(bytes.len());
        // Quotes and backslashes are ASCII, so the cut lies between characters; invalid text gives "".
        self.text.get(start..end.min(bytes.len())).unwrap_or("")
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_spaces();
        let bytes = self.text.as_bytes();
        let token = match *bytes.get(self.at)? {
            b'{' => Token::ObjectStart,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayStart,
            b']' => Token::ArrayEnd,
            b'"' => {
                let raw = self.string();
                let mut behind = self.at;
                while matches!(bytes.get(behind), Some(b' ' | b'\n' | b'\r' | b'\t')) {
                    behind += 1;
                }
                return Some(if bytes.get(behind) == Some(&b':') {
                    Token::Key(raw)
                } else {
                    Token::String(raw)
                });
            }
            first => {
                let start = self.at;
                while bytes.get(self.at).is_some_and(|byte| {
                    !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                }) {
                    self.at += 1;
                }
                let word = self.text.get(start..self.at).unwrap_or("");
                return Some(match first {
                    b't' => Token::Bool(true),
                    b'f' => Token::Bool(false),
                    b'n' => Token::Null,
                    _ => Token::Number(word),
                });
            }
        };
        self.at += 1;
        Some(token)
    }
}

/// Returns the characters of a raw string: `raw` itself when it has no escape, else `scratch` filled with them.
/// A lone surrogate becomes U+FFFD, as it has no character of its own.
pub fn unescape<'b>(raw: &'b str, scratch: &'b mut String) -> &'b str {
    let Some(first) = raw.find('\\') else {
        return raw;
    };
    scratch.clear();
    scratch.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(at) = rest.find('\\') {
        scratch.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        let mut taken = at + 2;
        match escape {
            b'n' => scratch.push('\n'),
            b't' => scratch.push('\t'),
            b'r' => scratch.push('\r'),
            b'b' => scratch.push('\u{8}'),
            b'f' => scratch.push('\u{c}'),
            b'u' => {
                let (character, length) = unicode_escape(&rest[at..]);
                scratch.push(character);
                taken = at + length;
            }
            other => scratch.push(char::from(other)),
        }
        rest = rest.get(taken..).unwrap_or("");
    }
    scratch.push_str(rest);
    scratch
}

/// Reads `\u` with its four digits (and the low half that may follow); returns the character and how many bytes it took.
fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |at: usize| {
        text.get(at..at + 4)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let Some(high) = unit(2) else {
        return (char::REPLACEMENT_CHARACTER, 2);
    };
    if (0xD800..0xDC00).contains(&high)
        && text.get(6..8) == Some("\\u")
        && let Some(low) = unit(8).filter(|low| (0xDC00..0xE000).contains(low))
    {
        let joined = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        return (
            char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER),
            12,
        );
    }
    (
        char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER),
        6,
    )
}

/// Says whether objects and arrays are nested deeper than `most` in `text`. Text with fewer opening brackets than that,
/// in strings or not, cannot be, and counting them is many times faster than telling strings apart.
pub fn deeper_than(text: &str, most: usize) -> bool {
    text.len() > most && opening_brackets(text) > most && depth(text) > most
}

/// Counts `{` and `[`, wherever they stand. Within pieces whose count fits a byte the compiler counts many bytes at once.
fn opening_brackets(text: &str) -> usize {
    let count = |piece: &[u8]| -> u8 {
        // The two differ in one bit, and no other character becomes `{` by setting it.
        piece.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum()
    };
    let pieces = text.as_bytes().chunks(usize::from(u8::MAX));
    pieces.map(|piece| usize::from(count(piece))).sum()
}

/// Returns how deep objects and arrays are nested in `text`; 0 for a scalar.
pub fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut in_string = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Feeds `text` without its insignificant white space to `hasher`: the same value spaced differently hashes the same.
pub fn hash_without_space(text: &str, hasher: &mut blake3::Hasher) {
    without_space(text, |piece| {
        hasher.update(piece);
    });
}

/// Appends `text` without its insignificant white space to `out`, so that it stands on one line.
pub fn push_without_space(text: &str, out: &mut Vec<u8>) {
    without_space(text, |piece| out.extend_from_slice(piece));
}

/// Hands on what stands between insignificant white space.
fn without_space(text: &str, mut see: impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let (mut start, mut at, mut in_string) = (0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b' ' | b'\n' | b'\r' | b'\t' if !in_string => {
                see(&bytes[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    see(&bytes[start..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_come_in_order_with_their_text_untouched() {
        let text = r#" {"a\"b" : [1e400, -0.0, "x\u0041\\", {}], "t":true , "n":null,"":false}"#;
        let tokens: Vec<_> = Tokens::new(text).collect();
        use Token::*;
        assert_eq!(
            tokens,
            [
                ObjectStart,
                Key("a\\\"b"),
                ArrayStart,
                Number("1e400"),
                Number("-0.0"),
                String("x\\u0041\\\\"),
                ObjectStart,
                ObjectEnd,
                ArrayEnd,
                Key("t"),
                Bool(true),
                Key("n"),
                Null,
                Key(""),
                Bool(false),
                ObjectEnd
            ]
        );
    }

    #[test]
    fn escapes_become_characters_and_lone_surrogates_the_replacement_character() {
        let mut scratch = String::new();
        assert_eq!(unescape("plain", &mut scratch), "plain");
        assert_eq!(unescape(r#"a\n\"\\\/é\u00e9"#, &mut scratch), "a\n\"\\/éé");
        assert_eq!(unescape(r"\ud83d\ude00", &mut scratch), "😀");
        assert_eq!(
            unescape(r"\ud83d!\ude00\ud83dx", &mut scratch),
            "\u{fffd}!\u{fffd}\u{fffd}x"
        );
        assert_eq!(
            unescape(r"\u0000\ud800\ud800\udc00", &mut scratch),
            "\0\u{fffd}\u{10000}"
        );
    }

    #[test]
    fn text_that_is_not_json_ends_without_a_panic() {
        for text in [
            "\"", "\"\\", "{\"a", "tru", "\\", "\"\\u12", "é\"é", "\u{0}",
        ] {
            assert!(Tokens::new(text).count() <= text.len());
            let mut scratch = String::new();
            let _ = unescape(text, &mut scratch);
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"{"a":"[[[[","b":[{}]}"#), 3);
        assert_eq!(depth(r#"["\"[["]"#), 1);
        assert!(!deeper_than(r#"{"a":"[[[["}"#, 1));
        assert!(deeper_than(r#"{"a":[]}"#, 1));
    }

    #[test]
    fn white_space_outside_strings_does_not_change_the_hash() {
        let hash = |text: &str| {
            let mut hasher = blake3::Hasher::new();
            hash_without_space(text, &mut hasher);
            hasher.finalize()
        };
        assert_eq!(
            hash("{\"a\" : [1,\n2], \"b\":\" x \"}"),
            hash("{\"a\":[1,2],\"b\":\" x \"}")
        );
        assert_ne!(hash("{\"a\":\" x\"}"), hash("{\"a\":\"x\"}"));
        let mut out = Vec::new();
        push_without_space("{ \"a\" :\t\"b c\\\" d\" }\n", &mut out);
        assert_eq!(out, b"{\"a\":\"b c\\\" d\"}");
    }
}
