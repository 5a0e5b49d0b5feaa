//! What a word is and how text is folded: the one rule shared by everything indexed and everything asked for.
//!
//! The words of a text are the words of the *folded* text: [`for_each_word`] gives exactly what folding the whole
//! string and then cutting it would give. It still works word by word, because it never cuts between two characters
//! that normalization could join: text is folded in units of one character and all marks and joining letters after it,
//! and nothing outside a unit can change how it folds (a unit starts with a character of combining class 0 that
//! composes with nothing before it). So `<` before U+0338 is the sign `≮` and no word, whichever way it was written.
//!
//! The order of the steps is part of the contract and has one visible edge: `æ` becomes `ae` before accents are taken
//! off, so `ǽ`, which only then loses its accent, becomes `æ`.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The longest word kept, in bytes of its folded form; of a longer one this much is found, cut between characters.
pub const WORD_BYTES_MAX: usize = 255;

/// Calls `f` with each word of `text` in order: folded, cut to [`WORD_BYTES_MAX`], and its bytes in `text`.
///
/// A character of a script written without spaces is a word of its own. `scratch` is overwritten; passing the same one
/// again and again saves an allocation per word.
pub fn for_each_word(text: &str, scratch: &mut String, f: &mut impl FnMut(&str, Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        while bytes
            .get(at)
            .is_some_and(|&byte| ascii_class(byte) == SEPARATOR_BYTE)
        {
            at += 1;
        }
        let start = at;
        let mut seen = 0;
        let mut class = SEPARATOR_BYTE;
        while let Some(&byte) = bytes.get(at) {
            class = ascii_class(byte);
            if class == SEPARATOR_BYTE || class == BEYOND_ASCII {
                break;
            }
            seen |= class;
            at += 1;
        }
        if at < bytes.len() && class == BEYOND_ASCII {
            // What comes may be a mark on the last ASCII character, even on one that separates.
            let from = if start == at {
                at.saturating_sub(1)
            } else {
                start
            };
            at = words_beyond_ascii(text, from, scratch, f);
        } else if start == at {
            return;
        } else {
            let kept = &text[start..at.min(start + WORD_BYTES_MAX)];
            if seen & UPPER_BYTE == 0 {
                f(kept, start..at);
            } else {
                scratch.clear();
                scratch.push_str(kept);
                scratch.make_ascii_lowercase();
                f(scratch, start..at);
            }
        }
    }
}

/// Returns the words of `text` in order, as [`for_each_word`] finds them.
pub fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for_each_word(text, &mut String::new(), &mut |word, _| {
        found.push(word.to_owned())
    });
    found
}

/// Folds a whole value for comparison: case, and accents on Latin letters. Punctuation and white space stay.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(text.len());
    let mut units = Units::new(text, 0);
    while let Some((unit, _)) = units.next() {
        match unit {
            Unit::Simple(entry) => folded.push(entry.folded()),
            Unit::Composite(unit) => folded.extend(fold_unit(unit)),
        }
    }
    folded
}

/// Tells whether `c` can be part of a word: a letter, a number or a mark (Unicode categories L, N, M).
pub fn is_word_char(c: char) -> bool {
    use GeneralCategory::*;
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    matches!(
        get_general_category(c),
        UppercaseLetter
            | LowercaseLetter
            | TitlecaseLetter
            | ModifierLetter
            | OtherLetter
            | DecimalNumber
            | LetterNumber
            | OtherNumber
            | NonspacingMark
            | SpacingMark
            | EnclosingMark
    )
}

/// Tells whether `c` lies in a script written without spaces, where every word character is a word of its own.
pub fn is_spaceless(c: char) -> bool {
    matches!(
        u32::from(c),
        0x0E00..=0x0EFF
            | 0x1000..=0x109F
            | 0x1780..=0x17FF
            | 0x3040..=0x30FF
            | 0x3400..=0x4DBF
            | 0x4E00..=0x9FFF
            | 0xF900..=0xFAFF
            | 0x2_0000..=0x3_FFFF
    )
}

const SEPARATOR_BYTE: u8 = 0;
const LOWER_BYTE: u8 = 1;
const UPPER_BYTE: u8 = 2;
const BEYOND_ASCII: u8 = 4;

static ASCII_CLASSES: [u8; 256] = {
    let mut classes = [SEPARATOR_BYTE; 256];
    let mut byte: u8 = 0;
    loop {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'0'..=b'9' => LOWER_BYTE,
            b'A'..=b'Z' => UPPER_BYTE,
            0x80.. => BEYOND_ASCII,
            _ => SEPARATOR_BYTE,
        };
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    classes
};

fn ascii_class(byte: u8) -> u8 {
    ASCII_CLASSES[usize::from(byte)]
}

/// Finds the words from `from` on, until an ASCII separator that nothing beyond ASCII follows; returns its place.
fn words_beyond_ascii(
    text: &str,
    from: usize,
    scratch: &mut String,
    f: &mut impl FnMut(&str, Range<usize>),
) -> usize {
    let bytes = text.as_bytes();
    let mut word = WordInProgress {
        folded: scratch,
        place: from..from,
        f,
    };
    word.folded.clear();
    let mut units = Units::new(text, from);
    loop {
        let at = units.at;
        if bytes
            .get(at)
            .is_some_and(|&byte| ascii_class(byte) == SEPARATOR_BYTE)
            && bytes.get(at + 1).is_none_or(u8::is_ascii)
        {
            word.finish();
            return at;
        }
        match units.next() {
            None => {
                word.finish();
                return text.len();
            }
            Some((Unit::Simple(entry), place)) => word.feed(entry.folded(), entry.class(), place),
            Some((Unit::Composite(unit), place)) => {
                for folded in fold_unit(unit) {
                    word.feed(folded, class_of_folded(folded), place.clone());
                }
            }
        }
    }
}

struct WordInProgress<'a, F> {
    folded: &'a mut String,
    place: Range<usize>,
    f: &'a mut F,
}

impl<F: FnMut(&str, Range<usize>)> WordInProgress<'_, F> {
    fn feed(&mut self, folded: char, class: Class, place: Range<usize>) {
        if class != Class::Word {
            self.finish();
        }
        if class == Class::Separator {
            return;
        }
        if self.folded.is_empty() {
            self.place.start = place.start;
        }
        self.place.end = place.end;
        // One character more than is kept, so that a shorter one after it cannot slip into the gap.
        if self.folded.len() <= WORD_BYTES_MAX {
            self.folded.push(folded);
        }
        if class == Class::Spaceless {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if !self.folded.is_empty() {
            let end = self.folded.floor_char_boundary(WORD_BYTES_MAX);
            (self.f)(&self.folded[..end], self.place.clone());
            self.folded.clear();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Separator,
    Word,
    Spaceless,
}

fn class_of_folded(folded: char) -> Class {
    match is_word_char(folded) {
        false => Class::Separator,
        true if is_spaceless(folded) => Class::Spaceless,
        true => Class::Word,
    }
}

/// How one character folds when nothing joins it: what it becomes, in 21 bits, and above them a class.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    const CLASS_SHIFT: u32 = 24;
    /// Becomes several characters, or lies outside the table.
    const COMPOSITE: Entry = Entry(3 << Self::CLASS_SHIFT);
    /// Belongs to the unit of the character before it.
    const JOINING: Entry = Entry(4 << Self::CLASS_SHIFT);

    fn of(c: char) -> Entry {
        if joins(c) {
            return Entry::JOINING;
        }
        let mut folded = fold_unit(c.encode_utf8(&mut [0; 4])).into_iter();
        match (folded.next(), folded.next()) {
            (Some(only), None) => {
                let class = match class_of_folded(only) {
                    Class::Separator => 0,
                    Class::Word => 1,
                    Class::Spaceless => 2,
                };
                Entry(u32::from(only) | class << Self::CLASS_SHIFT)
            }
            _ => Entry::COMPOSITE,
        }
    }

    fn is_simple(self) -> bool {
        self.0 < Self::COMPOSITE.0
    }

    fn is_joining(self) -> bool {
        self.0 == Self::JOINING.0
    }

    fn folded(self) -> char {
        char::from_u32(self.0 & 0x1F_FFFF).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn class(self) -> Class {
        match self.0 >> Self::CLASS_SHIFT {
            0 => Class::Separator,
            1 => Class::Word,
            _ => Class::Spaceless,
        }
    }
}

/// Every character of the Basic Multilingual Plane; made at the first text beyond ASCII, in a few milliseconds.
static PLANE_0: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let entry = |code| char::from_u32(code).map_or(Entry::COMPOSITE, Entry::of);
    (0..0x1_0000).map(entry).collect()
});

enum Unit<'a> {
    Simple(Entry),
    Composite(&'a str),
}

/// Walks over the units of a text: a character and all that may join it.
struct Units<'a> {
    text: &'a str,
    plane_0: &'static [Entry],
    /// Where the next unit starts, and its first character.
    at: usize,
    first: Option<(char, Entry)>,
}

impl<'a> Units<'a> {
    fn new(text: &'a str, at: usize) -> Self {
        let mut units = Units {
            text,
            plane_0: &PLANE_0,
            at,
            first: None,
        };
        units.first = units.look(at);
        units
    }

    fn look(&self, at: usize) -> Option<(char, Entry)> {
        let c = self.text[at..].chars().next()?;
        let entry = usize::try_from(u32::from(c))
            .ok()
            .and_then(|code| self.plane_0.get(code));
        Some((c, entry.copied().unwrap_or_else(|| Entry::of(c))))
    }

    fn next(&mut self) -> Option<(Unit<'a>, Range<usize>)> {
        let (first, entry) = self.first?;
        let start = self.at;
        self.at += first.len_utf8();
        self.first = self.look(self.at);
        let mut is_simple = entry.is_simple();
        while let Some((c, entry)) = self.first
            && entry.is_joining()
        {
            is_simple = false;
            self.at += c.len_utf8();
            self.first = self.look(self.at);
        }
        let place = start..self.at;
        let unit = if is_simple {
            Unit::Simple(entry)
        } else {
            Unit::Composite(&self.text[place.clone()])
        };
        Some((unit, place))
    }
}

/// Tells whether folding `c` may depend on the character before it: marks, and what composes backwards.
fn joins(c: char) -> bool {
    let mut first = None;
    decompose_canonical(c, |part| first = first.or(Some(part)));
    let first = first.unwrap_or(c);
    is_mark(c)
        || canonical_combining_class(first) != 0
        || [c, first]
            .into_iter()
            .any(|c| is_nfc_quick(std::iter::once(c)) == IsNormalized::Maybe)
}

/// Folds a whole unit, in the order of the contract.
fn fold_unit(unit: &str) -> Vec<char> {
    let mut after_latin = false;
    unit.chars()
        .flat_map(spell_out)
        .nfd()
        .filter(move |&c| {
            let mark = is_mark(c);
            let goes = mark && after_latin;
            after_latin = goes || (!mark && is_latin_letter(c));
            !goes
        })
        .nfc()
        .flat_map(char::to_lowercase)
        .collect()
}

/// Spells the Latin letters that decompose into nothing, as people type them who have no such key.
fn spell_out(c: char) -> impl Iterator<Item = char> {
    let (first, second) = match c {
        'ß' | 'ẞ' => ('s', Some('s')),
        'æ' | 'Æ' => ('a', Some('e')),
        'œ' | 'Œ' => ('o', Some('e')),
        'ø' | 'Ø' => ('o', None),
        'ł' | 'Ł' => ('l', None),
        'đ' | 'Đ' | 'ð' | 'Ð' => ('d', None),
        'þ' | 'Þ' => ('t', Some('h')),
        'ı' => ('i', None),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

fn is_mark(c: char) -> bool {
    use GeneralCategory::*;
    !c.is_ascii()
        && matches!(
            get_general_category(c),
            NonspacingMark | SpacingMark | EnclosingMark
        )
}

/// Tells whether `c` is a letter of the Latin script (Unicode's Scripts.txt, less its Roman numerals).
fn is_latin_letter(c: char) -> bool {
    matches!(
        u32::from(c),
        0x41..=0x5A
            | 0x61..=0x7A
            | 0xAA
            | 0xBA
            | 0xC0..=0xD6
            | 0xD8..=0xF6
            | 0xF8..=0x2B8
            | 0x2E0..=0x2E4
            | 0x1D00..=0x1D25
            | 0x1D2C..=0x1D5C
            | 0x1D62..=0x1D65
            | 0x1D6B..=0x1D77
            | 0x1D79..=0x1DBE
            | 0x1E00..=0x1EFF
            | 0x2071
            | 0x207F
            | 0x2090..=0x209C
            | 0x212A..=0x212B
            | 0x2132
            | 0x214E
            | 0x2183..=0x2184
            | 0x2C60..=0x2C7F
            | 0xA722..=0xA787
            | 0xA78B..=0xA7DC
            | 0xA7F2..=0xA7FF
            | 0xAB30..=0xAB5A
            | 0xAB5C..=0xAB64
            | 0xAB66..=0xAB69
            | 0xFB00..=0xFB06
            | 0xFF21..=0xFF3A
            | 0xFF41..=0xFF5A
            | 0x1_0780..=0x1_07BA
            | 0x1_DF00..=0x1_DF2A
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The contract read aloud, slowly: fold everything, then cut.
    fn fold_slowly(text: &str) -> String {
        fold_unit(text).into_iter().collect()
    }

    fn words_slowly(text: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for c in fold_slowly(text).chars() {
            match class_of_folded(c) {
                Class::Separator => found.push(String::new()),
                Class::Word => found.last_mut().expect("starts with one").push(c),
                Class::Spaceless => found.extend([c.to_string(), String::new()]),
            }
        }
        found.retain(|word| !word.is_empty());
        for word in &mut found {
            word.truncate(word.floor_char_boundary(WORD_BYTES_MAX));
        }
        found
    }

    #[test]
    fn everything_but_letters_numbers_and_marks_separates() {
        assert_eq!(words("foo_bar-9"), ["foo", "bar", "9"]);
        assert_eq!(
            words("  10.0.0.1, a@b.c "),
            ["10", "0", "0", "1", "a", "b", "c"]
        );
        assert_eq!(words("½ Ⅷ ٣ x\u{200d}y"), ["½", "ⅷ", "٣", "x", "y"]);
        assert_eq!(words("+++ 🎉 —"), [""; 0]);
        assert_eq!(words(""), [""; 0]);
    }

    #[test]
    fn case_and_latin_accents_fold_and_other_accents_stay() {
        assert_eq!(
            words("Café CAFE\u{301} Ångström İstanbul"),
            ["cafe", "cafe", "angstrom", "istanbul"]
        );
        assert_eq!(
            words("Straße STRAẞE Œuvre Łódź þing đ Ð ı"),
            [
                "strasse", "strasse", "oeuvre", "lodz", "thing", "d", "d", "i"
            ]
        );
        assert_eq!(words("Й и\u{306} Ά Α\u{301}"), ["й", "й", "ά", "ά"]);
        assert_eq!(words("ΟΔΟΣ οδος"), ["οδοσ", "οδος"]);
        assert_eq!(words("ﬁ ｆ\u{301} ſ"), ["ﬁ", "ｆ", "ſ"]);
    }

    #[test]
    fn a_letter_spelled_out_is_spelled_out_before_accents_go() {
        assert_eq!(words("æ ǽ æ\u{301} ǿ"), ["ae", "æ", "ae", "ø"]);
    }

    #[test]
    fn scripts_without_spaces_give_a_word_per_character() {
        assert_eq!(words("日本go語"), ["日", "本", "go", "語"]);
        assert_eq!(words("か\u{3099}ガ・"), ["が", "ガ"]);
        assert_eq!(words("กา \u{20000}\u{F900}"), ["ก", "า", "\u{20000}", "豈"]);
        assert_eq!(words("한국어 \u{1112}\u{1161}\u{11ab}"), ["한국어", "한"]);
    }

    #[test]
    fn marks_are_word_characters_wherever_they_stand() {
        assert_eq!(words("\u{301}a \u{301} b"), ["\u{301}a", "\u{301}", "b"]);
        assert_eq!(words("a<\u{338}b a≮b"), ["a", "b", "a", "b"]);
        assert_eq!(words("हिन्दी"), ["हिन्दी"]);
        assert_eq!(words("a\u{338}\u{20dd}\u{fe0f}b"), ["ab"]);
    }

    #[test]
    fn places_are_bytes_of_the_original() {
        let text = "Ein Café, STRAßE e\u{301}! 日本";
        let mut places = Vec::new();
        for_each_word(text, &mut String::new(), &mut |word, place| {
            places.push((word.to_owned(), &text[place]))
        });
        let expected = [
            ("ein", "Ein"),
            ("cafe", "Café"),
            ("strasse", "STRAßE"),
            ("e", "e\u{301}"),
            ("日", "日"),
            ("本", "本"),
        ];
        assert_eq!(
            places,
            expected.map(|(word, place)| (word.to_owned(), place))
        );
    }

    #[test]
    fn a_long_word_is_cut_to_255_bytes_between_characters() {
        assert_eq!(words(&"x".repeat(300)), ["x".repeat(255)]);
        assert_eq!(words(&"X".repeat(255)), ["x".repeat(255)]);
        assert_eq!(
            words(&format!("x{}z", "ж".repeat(300))),
            [format!("x{}", "ж".repeat(127))]
        );
        assert_eq!(words(&format!("{}жz", "x".repeat(254))), ["x".repeat(254)]);
        // 255 bytes of the folded word, not of the written one.
        assert_eq!(words(&"é".repeat(200)), ["e".repeat(200)]);
    }

    #[test]
    fn folding_a_value_keeps_its_punctuation() {
        assert_eq!(fold("/Reviews/Été?x=Ø"), "/reviews/ete?x=o");
        assert_eq!(fold("A B"), "a b");
    }

    /// The planes and blocks where characters have categories, cases or decompositions that matter here.
    fn every_interesting_character() -> impl Iterator<Item = char> {
        let blocks = [
            0..0x3100,
            0xA000..0xAC80,
            0xF900..0x1_0800,
            0x1_1080..0x1_1100,
            0x1_D100..0x1_D600,
            0x2_F800..0x2_FA20,
        ];
        blocks.into_iter().flatten().filter_map(char::from_u32)
    }

    #[test]
    fn every_character_alone_folds_as_the_slow_way_says() {
        for c in every_interesting_character() {
            let text = format!("a{c} {c}b");
            assert_eq!(words(&text), words_slowly(&text), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn folding_word_by_word_is_folding_the_whole() {
        let hard: Vec<char> = concat!(
            "aE9 <=-éßẞÆǽİıſK",
            "ÅⅧǅẛ\u{301}\u{307}\u{323}\u{338}\u{345}\u{20dd}\u{fe0f}\u{34f}\u{344}\u{f73}\u{f71}\u{2adc}",
            "≮\u{1100}\u{1161}\u{11a8}가각か\u{3099}が豈\u{2f800}\u{1025}\u{102e}\u{9c7}\u{9be}\u{1d15e}",
            "\u{1d165}\u{e0100}กำЙиΣᾳΐ\u{fb2a}\u{5bc}🎉\u{200d}語𝒜Ａ",
            "\u{110a5}\u{110ba}",
        )
        .chars()
        .collect();
        let mut seed: u64 = 0x5eed;
        for _ in 0..10_000 {
            let mut text = String::new();
            for _ in 0..8 {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                text.push(hard[usize::try_from(seed >> 33).unwrap() % hard.len()]);
            }
            assert_eq!(fold(&text), fold_slowly(&text), "{text:?}");
            assert_eq!(words(&text), words_slowly(&text), "{text:?}");
        }
    }

    #[test]
    fn folding_twice_changes_only_the_accented_ligatures() {
        let changed: String = every_interesting_character()
            .map(|c| c.to_string())
            .filter(|c| fold(&fold(c)) != fold(c))
            .collect();
        assert_eq!(changed, "ǢǣǼǽǾǿ");
    }

    #[test]
    fn a_tower_of_marks_takes_no_time() {
        for base in ["a", "ж", ""] {
            let text = format!("{base}{}", "\u{301}\u{323}".repeat(50_000));
            assert_eq!(words(&text), words_slowly(&text));
        }
    }
}
