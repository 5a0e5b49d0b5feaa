//! JSON as text. A parser that builds values loses what the contract promises to keep (digits, order, repeated keys), so
//! the tests cut fields out of the text and compare text.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Returns the fields of an object with the text of each value as it was written. The text must be one JSON object.
pub fn fields(object: &str) -> BTreeMap<String, String> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(object)
        .unwrap_or_else(|error| panic!("{error}: no JSON object: {object:.300}"));
    fields
        .into_iter()
        .map(|(name, value)| (name, value.get().to_owned()))
        .collect()
}

/// Returns the text of each item of an array. The text must be one JSON array.
pub fn items(array: &str) -> Vec<String> {
    let items: Vec<Box<RawValue>> = serde_json::from_str(array)
        .unwrap_or_else(|error| panic!("{error}: no JSON array: {array:.300}"));
    items
        .into_iter()
        .map(|item| item.get().to_owned())
        .collect()
}

/// Returns `text` without the white space that means nothing.
pub fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            in_string = character == '"';
        }
        compact.push(character);
    }
    compact
}

/// Returns every string that is a value, not a key, at any depth, with its escapes resolved. A lone surrogate comes out as
/// U+FFFD, as DECISIONS.md says of indexing. The text must be JSON.
pub fn strings(json: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        let literal = &rest[quote + 1..];
        let end = end_of_string(literal);
        rest = &literal[end + 1..];
        let is_key = rest
            .trim_start_matches([' ', '\t', '\n', '\r'])
            .starts_with(':');
        if !is_key {
            strings.push(unescaped(&literal[..end]));
        }
    }
    strings
}

/// Where the closing quote of a string is whose opening quote has been passed.
fn end_of_string(literal: &str) -> usize {
    let bytes = literal.as_bytes();
    let mut position = 0;
    while bytes[position] != b'"' {
        position += if bytes[position] == b'\\' { 2 } else { 1 };
    }
    position
}

/// Returns what stands between the quotes of a string with its escapes resolved; a lone surrogate comes out as U+FFFD.
pub(crate) fn unescaped(literal: &str) -> String {
    // UTF-16 is where JSON's escapes live: pairs of them join by themselves, and what does not pair is a lone surrogate.
    let mut units: Vec<u16> = Vec::with_capacity(literal.len());
    let mut characters = literal.chars();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next().expect("an escape has a letter") {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).expect("four hexadecimal digits"));
                    continue;
                }
                itself => itself,
            },
            itself => itself,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_only_outside_strings() {
        assert_eq!(
            compact(" { \"a b\\\" c\" :\n[ 1 , \"\\\\\" , 2 ] } "),
            r#"{"a b\" c":[1,"\\",2]}"#
        );
    }

    #[test]
    fn strings_are_values_at_any_depth_and_never_keys() {
        let json = r#"{"k":"a\n\u00e9","l" : [1,"\ud83d\ude00",{"m":"\ud800x"}],"n":"\\"}"#;
        assert_eq!(strings(json), ["a\né", "😀", "\u{fffd}x", "\\"]);
    }
}
