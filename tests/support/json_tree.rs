//! JSON as a tree that keeps what comparing needs: every repeated key, and the digits of numbers. Written for the
//! evaluator, which must not learn from the product what JSON means.

use crate::json_text::unescaped;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Keys with their values, in order, repeated ones included.
    Object(Vec<(String, Tree)>),
    /// The items in order.
    Array(Vec<Tree>),
    /// A string with its escapes resolved.
    Text(String),
    /// A number as it was written.
    Number(String),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

impl Tree {
    /// Reads a value. The text must be JSON.
    pub fn read(json: &str) -> Tree {
        let mut rest = json.trim_start_matches(WHITE);
        let tree = value(&mut rest);
        assert!(
            rest.trim_start_matches(WHITE).is_empty(),
            "something stands after the value: {rest:.100}"
        );
        tree
    }

    /// Returns every value that is neither an object nor an array, with the keys that lead to it; arrays add none.
    pub fn leaves(&self) -> Vec<(Vec<&str>, &Tree)> {
        let mut leaves = Vec::new();
        self.gather(&mut Vec::new(), &mut leaves);
        leaves
    }

    fn gather<'t>(&'t self, keys: &mut Vec<&'t str>, leaves: &mut Vec<(Vec<&'t str>, &'t Tree)>) {
        match self {
            Tree::Object(fields) => {
                for (key, inner) in fields {
                    keys.push(key);
                    inner.gather(keys, leaves);
                    keys.pop();
                }
            }
            Tree::Array(items) => items.iter().for_each(|item| item.gather(keys, leaves)),
            leaf => leaves.push((keys.clone(), leaf)),
        }
    }
}

const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Returns how many bytes of `text` are a number of JSON's grammar, from its beginning; 0 for none.
pub fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let more = bytes[from.min(bytes.len())..].iter();
        from + more.take_while(|byte| byte.is_ascii_digit()).count()
    };
    let at = |place: usize| bytes.get(place).copied();
    let whole = usize::from(at(0) == Some(b'-'));
    let mut end = match at(whole) {
        Some(b'0') => whole + 1,
        Some(b'1'..=b'9') => digits(whole),
        _ => return 0,
    };
    if at(end) == Some(b'.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    if matches!(at(end), Some(b'e' | b'E')) {
        let signed = end + 1 + usize::from(matches!(at(end + 1), Some(b'+' | b'-')));
        if digits(signed) > signed {
            end = digits(signed);
        }
    }
    end
}

fn value(rest: &mut &str) -> Tree {
    match rest.as_bytes()[0] {
        b'{' => Tree::Object(listed(rest, '}', |rest| {
            let key = string(rest);
            skip(rest, ":");
            (key, value(rest))
        })),
        b'[' => Tree::Array(listed(rest, ']', value)),
        b'"' => Tree::Text(string(rest)),
        b't' => word(rest, "true", Tree::Bool(true)),
        b'f' => word(rest, "false", Tree::Bool(false)),
        b'n' => word(rest, "null", Tree::Null),
        _ => {
            let length = number_length(rest);
            assert!(length > 0, "no JSON value: {rest:.100}");
            let (digits, behind) = rest.split_at(length);
            *rest = behind;
            Tree::Number(digits.to_owned())
        }
    }
}

fn listed<T>(rest: &mut &str, end: char, mut item: impl FnMut(&mut &str) -> T) -> Vec<T> {
    let mut items = Vec::new();
    *rest = rest[1..].trim_start_matches(WHITE);
    while !rest.starts_with(end) {
        if !items.is_empty() {
            skip(rest, ",");
        }
        items.push(item(rest));
        *rest = rest.trim_start_matches(WHITE);
    }
    *rest = &rest[1..];
    items
}

fn string(rest: &mut &str) -> String {
    let literal = rest
        .strip_prefix('"')
        .expect("a string begins with a quote");
    let bytes = literal.as_bytes();
    let mut end = 0;
    while bytes[end] != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    *rest = &literal[end + 1..];
    unescaped(&literal[..end])
}

fn word(rest: &mut &str, word: &str, tree: Tree) -> Tree {
    skip(rest, word);
    tree
}

/// Skips `sign`, which must be there, with white space around it.
fn skip(rest: &mut &str, sign: &str) {
    let behind = rest.trim_start_matches(WHITE).strip_prefix(sign);
    *rest = behind
        .unwrap_or_else(|| panic!("{sign} is missing at {rest:.100}"))
        .trim_start_matches(WHITE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_have_their_keys_and_nothing_is_merged() {
        let tree = Tree::read(
            r#" { "a" : [1.50, {"b":"x\u00e9"}, [null]], "a":{"":true,"o":{}}, "e":[] } "#,
        );
        let leaves: Vec<(String, Tree)> = tree
            .leaves()
            .into_iter()
            .map(|(keys, leaf)| (keys.join("/"), leaf.clone()))
            .collect();
        assert_eq!(
            leaves,
            [
                ("a".to_owned(), Tree::Number("1.50".to_owned())),
                ("a/b".to_owned(), Tree::Text("xé".to_owned())),
                ("a".to_owned(), Tree::Null),
                ("a/".to_owned(), Tree::Bool(true)),
            ]
        );
    }

    #[test]
    fn numbers_are_those_of_json() {
        for text in ["0", "-0", "10", "1.5", "1e5", "1E+30", "-1.25e-400"] {
            assert_eq!(number_length(text), text.len(), "{text}");
        }
        for (text, length) in [
            ("00501", 1),
            ("1.", 1),
            (".5", 0),
            ("1e", 1),
            ("+5", 0),
            ("-", 0),
            ("1.2.3", 3),
        ] {
            assert_eq!(number_length(text), length, "{text}");
        }
    }
}
