//! What stands between the operators: a word, a pattern, a phrase, or a field with its test.

use super::scan::{Glyph, Written, text_of};
use super::{Parsed, Parser, QueryError};
use crate::search::query::{
    Clause, DataPath, Field, Fuzzy, Kind, Part, Pattern, PatternOn, Place, Span, WordTest, escape,
};
use crate::search::words::{fold, is_spaceless, is_word_char, words};

/// What text without quotes turns out to be.
pub(super) enum Form {
    Text(String),
    Anything,
    /// Words in a row that were written as a pattern.
    Row(Vec<String>),
    Pattern(Pattern),
    Fuzzy(Fuzzy),
}

/// How a field is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Is,
    Exactly,
    Regex,
}

impl Asked {
    fn sign(self) -> &'static str {
        match self {
            Asked::Is => ":",
            Asked::Exactly => "==",
            Asked::Regex => "=~",
        }
    }
}

impl Parser {
    pub(super) fn phrase(&mut self) -> Parsed<Clause> {
        let start = self.at;
        let Written::Quoted { text, slop } = self.written(&[])? else {
            return self.term();
        };
        let kind = self.words_in_a_row(start, &text, words(&text), slop.unwrap_or(0));
        Ok(self.clause(start, kind))
    }

    pub(super) fn term(&mut self) -> Parsed<Clause> {
        let start = self.at;
        let Some((end, asked)) = self.end_of_field_name()? else {
            let kind = self.bare_term()?;
            return Ok(self.clause(start, kind));
        };
        let name = self.raw(start, end);
        self.at = end + asked.sign().len();
        if name == "*" && asked == Asked::Is && self.bare_rest_is("*") {
            self.at += 1;
            return Ok(self.clause(start, Kind::All));
        }
        let field = self.field(&name, start)?;
        let kind = self.test(start, field, asked)?;
        Ok(self.clause(start, kind))
    }

    fn bare_rest_is(&self, text: &str) -> bool {
        self.raw(self.at, self.end_of_lump()).trim_end_matches(')') == text
    }

    /// Finds the `:`, `==` or `=~` after the name of a field; `None` if what stands here is no field.
    fn end_of_field_name(&self) -> Parsed<Option<(usize, Asked)>> {
        let mut end = self.at;
        let after = |end: usize| self.chars.get(end + 1).copied();
        let asked = loop {
            match self.chars.get(end) {
                None | Some('(' | ')' | '"') => return Ok(None),
                Some(c) if c.is_whitespace() => return Ok(None),
                Some('\\') => end += 2,
                Some(':') => break Asked::Is,
                Some('=') if after(end) == Some('=') => break Asked::Exactly,
                Some('=') if after(end) == Some('~') => break Asked::Regex,
                Some('=' | '<' | '>') => return self.wrong_sign(end).map_or(Ok(None), Err),
                Some(_) => end += 1,
            }
        };
        let name = self.raw(self.at, end);
        if name.is_empty() {
            let message = format!(
                "There is no field before `{}`. (No space may stand between them.)",
                asked.sign()
            );
            return Err(
                QueryError::new(self.span_of(asked.sign().len()), message).expecting(["a field"])
            );
        }
        if let Some(sign @ ('!' | '+')) = name.chars().next()
            && name.len() > 1
        {
            return Err(self.foreign_sign(sign));
        }
        if asked != Asked::Is && name.ends_with('!') && !name.ends_with("\\!") {
            let span = Span {
                position: end - 1,
                length: 1 + asked.sign().len(),
            };
            return Err(differs(span));
        }
        // Times of day, addresses of networks and of pages, and `std::vector` are words with punctuation inside.
        let is_text = asked == Asked::Is
            && !certainly_a_field(&name)
            && (name.starts_with(|c: char| c.is_ascii_digit())
                || after(end) == Some(':')
                || (after(end) == Some('/') && after(end + 1) == Some('/')));
        Ok((!is_text).then_some((end, asked)))
    }

    /// Explains `name=x`, `name!=x` and `data.price>10`; in other words such signs are punctuation.
    fn wrong_sign(&self, at: usize) -> Option<QueryError> {
        let (name, sign) = (self.raw(self.at, at), self.chars[at]);
        if let ('=', Some(name)) = (sign, name.strip_suffix('!'))
            && !name.is_empty()
        {
            return Some(differs(Span {
                position: at - 1,
                length: 2,
            }));
        }
        certainly_a_field(&name).then(|| {
            let meant = if sign == '=' { ":".to_owned() } else { format!(":{sign}") };
            let message = "After a field stands `:` (equals or contains), `==` (exactly) or `=~` (regular expression); \
                           comparisons are `:>`, `:>=`, `:<` and `:<=`.";
            let error = QueryError::new(Span { position: at, length: 1 }, message);
            error.expecting(["`:`", "`==`", "`=~`"]).suggesting(meant)
        })
    }

    fn foreign_sign(&self, sign: char) -> QueryError {
        let (message, meant) = match sign {
            '!' => (
                "`!` does not negate here; `-` and `NOT` do. Text that begins with `!` goes in quotes.",
                "-",
            ),
            _ => (
                "`+` means nothing before a field: everything named is required already.",
                "",
            ),
        };
        QueryError::new(self.span_of(1), message)
            .expecting(["`-`", "a field"])
            .suggesting(meant)
    }

    fn field(&self, name: &str, start: usize) -> Parsed<Field> {
        if let Some(field) = Field::built_in(name) {
            return Ok(field);
        }
        let mut segments = vec![String::new()];
        let mut chars = name.chars().enumerate();
        while let Some((index, c)) = chars.next() {
            let Some(last) = segments.last_mut() else {
                break;
            };
            match c {
                '\\' => last.extend(chars.next().map(|(_, escaped)| escaped)),
                '.' => segments.push(String::new()),
                '*' | '?' => {
                    let span = Span {
                        position: start + index,
                        length: 1,
                    };
                    let message = format!(
                        "The name of a field is no pattern; a `{c}` that is part of it is written `\\{c}`."
                    );
                    return Err(QueryError::new(span, message)
                        .expecting(["a field"])
                        .suggesting(format!("\\{c}")));
                }
                c => last.push(c),
            }
        }
        if segments.len() > 1 && name.starts_with("data.") {
            segments.remove(0);
        }
        if segments.iter().any(String::is_empty) {
            let span = Span {
                position: start,
                length: name.chars().count(),
            };
            let message =
                "A key is missing beside a dot of this field. A dot inside a key is written `\\.`.";
            return Err(
                QueryError::new(span, message).expecting(["keys with single dots between them"])
            );
        }
        Ok(Field::Data(DataPath { segments }))
    }

    fn bare_term(&mut self) -> Parsed<Kind> {
        let start = self.at;
        if self.peek() == Some('!') && self.chars.get(start + 1).copied().is_some_and(is_word_char)
        {
            return Err(self.foreign_sign('!'));
        }
        let Written::Unquoted(glyphs) = self.written(&[])? else {
            return Ok(Kind::All);
        };
        let Some(form) = self.form(start, &glyphs) else {
            return Ok(Kind::All);
        };
        Ok(match form {
            Form::Anything => Kind::All,
            Form::Pattern(pattern) => Kind::Word(WordTest::Pattern(pattern)),
            Form::Fuzzy(fuzzy) => Kind::Word(WordTest::Fuzzy(fuzzy)),
            Form::Row(row) => self.words_in_a_row(start, "", row, 0),
            Form::Text(text) => self.words_in_a_row(start, &text, words(&text), 0),
        })
    }

    fn words_in_a_row(
        &mut self,
        start: usize,
        text: &str,
        mut words: Vec<String>,
        slop: u32,
    ) -> Kind {
        match words.len() {
            0 => self.note(no_word(self.span_from(start), text)),
            1 => Kind::Word(WordTest::Is(words.remove(0))),
            _ => Kind::Phrase { words, slop },
        }
    }

    /// Tells what text without quotes is; a mistake is noted and gives `None`.
    pub(super) fn form(&mut self, start: usize, glyphs: &[Glyph]) -> Option<Form> {
        let is_hole = |glyph: &Glyph| glyph.is_bare('*') || glyph.is_bare('?');
        let holes = glyphs.iter().any(is_hole);
        let tilde = glyphs
            .iter()
            .rposition(|glyph| glyph.is_bare('~'))
            .filter(|&at| at > 0);
        if let Some(at) = tilde
            && glyphs[at + 1..]
                .iter()
                .all(|glyph| glyph.c.is_ascii_digit())
        {
            let text = text_of(&glyphs[..at]);
            return match self.fuzzy(start, holes, &text, &text_of(&glyphs[at + 1..])) {
                Ok(fuzzy) => Some(Form::Fuzzy(fuzzy)),
                Err(error) => {
                    self.note(error);
                    None
                }
            };
        }
        Some(match holes {
            true => pattern(glyphs),
            false => Form::Text(text_of(glyphs)),
        })
    }

    fn fuzzy(
        &self,
        start: usize,
        holes: bool,
        text: &str,
        distance: &str,
    ) -> Result<Fuzzy, QueryError> {
        let error = |message| QueryError::new(self.span_from(start), message);
        let mut found = words(text);
        match (found.pop(), distance) {
            (Some(word), "1" | "2") if found.is_empty() && !holes => Ok(Fuzzy {
                word,
                distance: if distance == "1" { 1 } else { 2 },
            }),
            (Some(_), _) if found.is_empty() && !holes => {
                let meant = if matches!(distance, "" | "0") { 1 } else { 2 };
                let message = "After a word, `~1` allows one edit and `~2` two. In quotes, `~` is part of the text.";
                Err(error(message)
                    .expecting(["`~1`", "`~2`"])
                    .suggesting(format!("{}~{meant}", escape(text, Place::Bare))))
            }
            _ => {
                let message = "`~` goes with one word that has neither punctuation nor `*` and `?`. \
                               For a phrase with gaps, `\"two words\"~2`.";
                Err(error(message).expecting(["one word before `~`"]))
            }
        }
    }
}

fn certainly_a_field(name: &str) -> bool {
    Field::built_in(name).is_some() || (name.starts_with("data.") && name.len() > "data.".len())
}

fn differs(span: Span) -> QueryError {
    QueryError::new(
        span,
        "There is no `!=`; write `-field:value` for events where the field is not that.",
    )
    .expecting(["`:`", "`==`", "`=~`"])
}

fn no_word(span: Span, text: &str) -> QueryError {
    let message = "There is no letter or digit here, so there is no word to look for. Punctuation is found in a field, \
                   `field:\"…\"`, or as a pattern, `*…*`.";
    let error = QueryError::new(span, message).expecting(["a word"]);
    match text.trim() {
        "" => error,
        "&&" => error.suggesting("AND"),
        "||" => error.suggesting("OR"),
        text => error.suggesting(format!("*{}*", escape(text, Place::Bare))),
    }
}

/// Makes a pattern of text with `*` and `?` in it.
fn pattern(glyphs: &[Glyph]) -> Form {
    let mut parts: Vec<Part> = Vec::new();
    for glyph in glyphs {
        match parts.last_mut() {
            Some(Part::Many) if glyph.is_bare('*') => {}
            _ if glyph.is_bare('*') => parts.push(Part::Many),
            _ if glyph.is_bare('?') => parts.push(Part::One),
            Some(Part::Text(text)) => text.push(glyph.c),
            _ => parts.push(Part::Text(glyph.c.to_string())),
        }
    }
    if parts == [Part::Many] {
        return Form::Anything;
    }
    for part in &mut parts {
        if let Part::Text(text) = part {
            *text = fold(text);
        }
    }
    // A run of `日本*` would fit no word, each being one character; the bare run is a phrase, and so is this.
    if let [Part::Text(text)]
    | [Part::Many, Part::Text(text)]
    | [Part::Text(text), Part::Many]
    | [Part::Many, Part::Text(text), Part::Many] = parts.as_slice()
        && text.chars().all(|c| is_spaceless(c) && is_word_char(c))
    {
        return Form::Row(words(text));
    }
    // With other text around it no word would fit either, so the whole value is looked at.
    let in_word = |c| is_word_char(c) && !is_spaceless(c);
    let ends_words = |part: &Part| matches!(part, Part::Text(text) if !text.chars().all(in_word));
    let on = if parts.iter().any(ends_words) {
        PatternOn::Whole
    } else {
        PatternOn::Word
    };
    Form::Pattern(Pattern { parts, on })
}
