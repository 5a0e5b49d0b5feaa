//! Finds words by looking at every event: what the index must answer, computed in the plainest way. It shares no code
//! with the product; the rules are the section "Words" of the contract's query language.

use crate::json_text;
use std::collections::HashMap;
use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

/// A word longer than this is found by its first 255 bytes.
const WORD_MAX_BYTES: usize = 255;

/// The words of some events. Events are known by their place, from 0.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Event, string of the event, words of the string (as places in `words`).
    events: Vec<Vec<Vec<u32>>>,
    words: Vec<String>,
    place_of: HashMap<String, u32>,
    /// For each word the events that hold it.
    holders: Vec<Vec<u32>>,
}

impl Scanner {
    /// Reads events, one a line, in the shape in which they are sent.
    pub fn of<T: AsRef<str>>(lines: &[T]) -> Scanner {
        let mut scanner = Scanner::default();
        for line in lines {
            scanner.add(line.as_ref());
        }
        scanner
    }

    /// Adds an event.
    pub fn add(&mut self, line: &str) {
        let event = u32::try_from(self.events.len()).expect("fewer events than 2^32");
        let fields = json_text::fields(line);
        let strings = ["category", "name", "data"]
            .iter()
            .flat_map(|name| json_text::strings(&fields[*name]));
        let strings: Vec<Vec<u32>> = strings
            .map(|string| {
                words(&string)
                    .into_iter()
                    .map(|word| self.place(word))
                    .collect()
            })
            .collect();
        for &word in strings.iter().flatten() {
            let holders = &mut self.holders[word as usize];
            if holders.last() != Some(&event) {
                holders.push(event);
            }
        }
        self.events.push(strings);
    }

    /// Returns the events that hold the words of `phrase` in a row within one string. A single word is a phrase of one.
    pub fn holding(&self, phrase: &str) -> Vec<usize> {
        let wanted: Option<Vec<u32>> = words(phrase)
            .iter()
            .map(|word| self.place_of.get(word).copied())
            .collect();
        let Some(wanted) = wanted else {
            return Vec::new();
        };
        let Some(first) = wanted.first() else {
            return Vec::new();
        };
        let holds = |event: &u32| {
            let strings = &self.events[*event as usize];
            strings
                .iter()
                .any(|words| words.windows(wanted.len()).any(|row| row == wanted))
        };
        self.holders[*first as usize]
            .iter()
            .filter(|event| holds(event))
            .map(|&event| event as usize)
            .collect()
    }

    /// Returns every different word, in the order of first sight.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Returns how many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the strings of an event, as words.
    pub fn strings(&self, event: usize) -> Vec<Vec<&str>> {
        let word = |place: &u32| self.words[*place as usize].as_str();
        self.events[event]
            .iter()
            .map(|words| words.iter().map(word).collect())
            .collect()
    }

    fn place(&mut self, word: String) -> u32 {
        if let Some(&place) = self.place_of.get(&word) {
            return place;
        }
        let place = u32::try_from(self.words.len()).expect("fewer words than 2^32");
        self.words.push(word.clone());
        self.place_of.insert(word, place);
        self.holders.push(Vec::new());
        place
    }
}

/// Returns the words of a string, folded.
pub fn words(string: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut run = String::new();
    for character in string.chars() {
        if is_word_character(character) && !stands_alone(character) {
            run.push(character);
            continue;
        }
        if !run.is_empty() {
            words.push(folded(&std::mem::take(&mut run)));
        }
        if is_word_character(character) {
            words.push(folded(&character.to_string()));
        }
    }
    if !run.is_empty() {
        words.push(folded(&run));
    }
    words
}

/// Unicode category L, N or M.
pub fn is_word_character(character: char) -> bool {
    use GeneralCategory::{
        DecimalNumber, LetterNumber, LowercaseLetter, ModifierLetter, OtherLetter, OtherNumber,
        TitlecaseLetter, UppercaseLetter,
    };
    is_mark(character)
        || matches!(
            get_general_category(character),
            UppercaseLetter
                | LowercaseLetter
                | TitlecaseLetter
                | ModifierLetter
                | OtherLetter
                | DecimalNumber
                | LetterNumber
                | OtherNumber
        )
}

fn is_mark(character: char) -> bool {
    use GeneralCategory::{EnclosingMark, NonspacingMark, SpacingMark};
    matches!(
        get_general_category(character),
        NonspacingMark | SpacingMark | EnclosingMark
    )
}

/// Scripts written without spaces: each character is a word of its own.
pub fn stands_alone(character: char) -> bool {
    matches!(u32::from(character),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

fn folded(word: &str) -> String {
    first_bytes(&fold(word), WORD_MAX_BYTES).to_owned()
}

/// Returns text with case and the accents of Latin letters folded, whole.
pub fn fold(text: &str) -> String {
    let spelled: String = text
        .chars()
        .map(|character| match character {
            'ß' | 'ẞ' => "ss".to_owned(),
            'æ' | 'Æ' => "ae".to_owned(),
            'œ' | 'Œ' => "oe".to_owned(),
            'ø' | 'Ø' => "o".to_owned(),
            'ł' | 'Ł' => "l".to_owned(),
            'đ' | 'Đ' | 'ð' | 'Ð' => "d".to_owned(),
            'þ' | 'Þ' => "th".to_owned(),
            'ı' => "i".to_owned(),
            itself => itself.to_string(),
        })
        .collect();
    let mut after_latin = false;
    let bare = spelled.nfd().filter(|&character| {
        if is_mark(character) {
            !after_latin
        } else {
            after_latin = is_latin_letter(character);
            true
        }
    });
    let bare: String = bare.collect();
    bare.nfc().flat_map(char::to_lowercase).collect()
}

/// Unicode script Latin (16.0), letters only.
fn is_latin_letter(character: char) -> bool {
    matches!(u32::from(character),
        0x41..=0x5A | 0x61..=0x7A | 0xAA | 0xBA | 0xC0..=0xD6 | 0xD8..=0xF6 | 0xF8..=0x2B8 | 0x2E0..=0x2E4
        | 0x1D00..=0x1D25 | 0x1D2C..=0x1D5C | 0x1D62..=0x1D65 | 0x1D6B..=0x1D77 | 0x1D79..=0x1DBE | 0x1E00..=0x1EFF
        | 0x2071 | 0x207F | 0x2090..=0x209C | 0x212A..=0x212B | 0x2132 | 0x214E | 0x2160..=0x2188 | 0x2C60..=0x2C7F
        | 0xA722..=0xA787 | 0xA78B..=0xA7CD | 0xA7D0..=0xA7DC | 0xA7F2..=0xA7FF | 0xAB30..=0xAB5A | 0xAB5C..=0xAB64
        | 0xAB66..=0xAB69 | 0xFB00..=0xFB06 | 0xFF21..=0xFF3A | 0xFF41..=0xFF5A | 0x10780..=0x107BA
        | 0x1DF00..=0x1DF2A)
}

fn first_bytes(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_and_folded_as_the_contract_says() {
        assert_eq!(words("foo_bar-9"), ["foo", "bar", "9"]);
        assert_eq!(
            words("Café STRAẞE Øre İstanbul ısı"),
            ["cafe", "strasse", "ore", "istanbul", "isi"]
        );
        assert_eq!(
            words("東京タワーabc"),
            ["東", "京", "タ", "ワ", "ー", "abc"]
        );
        assert_eq!(words("e\u{301}te\u{301}"), ["ete"]);
        assert_eq!(words("Ёлка й"), ["ёлка", "й"]);
        assert_eq!(words("ΣΊΣΥΦΟΣ"), ["σίσυφοσ"]);
    }

    #[test]
    fn a_phrase_stays_within_one_string() {
        let event = |data: &str| format!(r#"{{"category":"a b","name":"c","data":{data}}}"#);
        let scanner = Scanner::of(&[
            event(r#"{"late":"x","y":["late delivery","z"]}"#),
            event(r#"{"x":["late","delivery"]}"#),
        ]);
        assert_eq!(scanner.holding("late delivery"), [0]);
        assert_eq!(scanner.holding("b c"), [0_usize; 0]);
        assert_eq!(scanner.holding("LATE"), [0, 1]);
        assert_eq!(scanner.holding("y"), [0_usize; 0]);
    }

    #[test]
    fn a_long_word_is_found_by_its_first_bytes() {
        let long = "é".repeat(200) + "x";
        assert_eq!(words(&long)[0].len(), 201);
        assert_eq!(words(&"я".repeat(200))[0].len(), 254);
    }
}
