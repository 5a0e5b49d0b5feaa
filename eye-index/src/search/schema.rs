//! The fields of a shard. `docs/decisions/index-schema.md` says which one answers what, at what cost.

use tantivy::schema::{
    BytesOptions, Field, IndexRecordOption, JsonObjectOptions, NumericOptions, Schema,
    TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use super::words::for_each_word;

/// What the word breaker is registered as.
pub(crate) const WORDS_TOKENIZER: &str = "eye_words";
/// Separates the strings of an event in the text that is indexed; strings themselves are cleared of it.
pub(crate) const STRING_SEPARATOR: char = '\u{1}';

/// The fields of a shard.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    /// Every word of every string, with positions.
    pub(crate) words: Field,
    /// A column per path of `data`.
    pub(crate) data: Field,
    pub(crate) offset: Field,
    pub(crate) timestamp: Field,
    pub(crate) application: Field,
    pub(crate) session: Field,
    pub(crate) category: Field,
    pub(crate) name: Field,
    /// Ids that clients made.
    pub(crate) id: Field,
    /// 1 for events of which not everything is in the columns.
    pub(crate) partial: Field,
}

impl Fields {
    pub(crate) fn new() -> Self {
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default()
            .set_tokenizer(WORDS_TOKENIZER)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let words =
            schema.add_text_field("words", TextOptions::default().set_indexing_options(words));
        let data = schema.add_json_field("data", JsonObjectOptions::default().set_fast("raw"));
        let column = NumericOptions::default().set_fast();
        let offset = schema.add_u64_field("offset", column.clone());
        let timestamp = schema.add_i64_field("timestamp", column.clone());
        let application = schema.add_u64_field("application", column.clone().set_indexed());
        let session = schema.add_bytes_field("session", BytesOptions::default().set_fast());
        let label = || TextOptions::default().set_fast("raw");
        let category = schema.add_text_field("category", label());
        let name = schema.add_text_field("name", label());
        let id = schema.add_bytes_field("id", BytesOptions::default().set_indexed());
        let partial = schema.add_u64_field("partial", column);
        let schema = schema.build();
        Self {
            schema,
            words,
            data,
            offset,
            timestamp,
            application,
            session,
            category,
            name,
            id,
            partial,
        }
    }
}

/// Breaks the joined strings of an event into words. Between two strings a position is left out, so that no phrase
/// crosses from one into the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct WordsTokenizer {
    scratch: String,
    token: Token,
}

/// The words of one event.
pub(crate) struct WordsStream<'a> {
    text: &'a str,
    tokenizer: &'a mut WordsTokenizer,
}

impl Tokenizer for WordsTokenizer {
    type TokenStream<'a> = WordsStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordsStream<'a> {
        WordsStream {
            text,
            tokenizer: self,
        }
    }
}

impl TokenStream for WordsStream<'_> {
    /// Pulling word by word is not what indexing does; [`Self::process`] is.
    fn advance(&mut self) -> bool {
        false
    }

    fn token(&self) -> &Token {
        &self.tokenizer.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.tokenizer.token
    }

    fn process(&mut self, sink: &mut dyn FnMut(&Token)) {
        let WordsTokenizer { scratch, token } = &mut *self.tokenizer;
        token.reset();
        let mut words = 0;
        for (gaps, string) in self.text.split(STRING_SEPARATOR).enumerate() {
            for_each_word(string, scratch, &mut |word, _| {
                token.text.clear();
                token.text.push_str(word);
                token.position = words + gaps;
                words += 1;
                sink(token);
            });
        }
    }
}
