//! What every construct of the language means, what each mistake is told, and that nothing at all makes it panic.
#![allow(clippy::unwrap_used)]

use std::ops::Bound::{Excluded, Included, Unbounded};

use super::*;
use crate::search::query::{
    DataPath, Field, Fuzzy, Number, OffsetRange, Part, Pattern, PatternOn, Scalar, Test, TimeRange,
    Value, WordTest,
};

const DAY: i64 = 86_400_000_000;
/// 2021-01-01T00:00:00Z
const NEW_YEAR: i64 = 1_609_459_200_000_000;

#[track_caller]
fn kind(q: &str) -> Kind {
    parse(q)
        .unwrap_or_else(|errors| panic!("{q}: {errors:?}"))
        .kind
}

#[track_caller]
fn test(q: &str) -> Test {
    match kind(q) {
        Kind::Field { test, .. } => test,
        other => panic!("{q} is no field: {other:?}"),
    }
}

#[track_caller]
fn field(q: &str) -> Field {
    match kind(q) {
        Kind::Field { field, .. } => field,
        other => panic!("{q} is no field: {other:?}"),
    }
}

/// Asserts that two queries mean the same, wherever their parts stand.
#[track_caller]
fn same(q: &str, other: &str) {
    assert_eq!(
        without_spans(parse(q).unwrap()),
        without_spans(parse(other).unwrap()),
        "{q} and {other}"
    );
}

fn without_spans(clause: Clause) -> Clause {
    let all = |clauses: Vec<Clause>| clauses.into_iter().map(without_spans).collect();
    let kind = match clause.kind {
        Kind::And(clauses) => Kind::And(all(clauses)),
        Kind::Or(clauses) => Kind::Or(all(clauses)),
        Kind::Not(inner) => Kind::Not(Box::new(without_spans(*inner))),
        other => other,
    };
    Clause {
        kind,
        span: Span::default(),
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn word(text: &str) -> Kind {
    Kind::Word(WordTest::Is(text.to_owned()))
}

fn phrase(words: &[&str], slop: u32) -> Kind {
    Kind::Phrase {
        words: strings(words),
        slop,
    }
}

fn data(segments: &[&str]) -> Field {
    Field::Data(DataPath {
        segments: strings(segments),
    })
}

fn value(text: &str, quoted: bool) -> Value {
    Value {
        text: text.to_owned(),
        quoted,
    }
}

fn is(text: &str, quoted: bool) -> Test {
    Test::Is(value(text, quoted))
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

fn number(digits: &str) -> Scalar {
    Scalar::Number(Number::parse(digits).unwrap())
}

fn part(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn pattern(parts: &[Part], on: PatternOn) -> Pattern {
    Pattern {
        parts: parts.to_vec(),
        on,
    }
}

fn times(start: Option<i64>, end: Option<i64>) -> Test {
    Test::Time(TimeRange { start, end })
}

fn offsets(start: Option<u64>, end: Option<u64>) -> Test {
    Test::Offset(OffsetRange { start, end })
}

// ---- words and operators

#[test]
fn an_empty_query_or_a_star_matches_everything() {
    for q in ["", "  \t", "*", "**", "*:*", "(*)"] {
        assert_eq!(kind(q), Kind::All, "{q}");
    }
}

#[test]
fn a_bare_word_is_folded() {
    assert_eq!(kind("refund"), word("refund"));
    assert_eq!(kind("Café"), word("cafe"));
    assert_eq!(kind("00501"), word("00501"));
    assert_eq!(kind("and"), word("and"));
    assert_eq!(kind("\"Refund\""), word("refund"));
}

#[test]
fn a_bare_word_with_punctuation_inside_is_the_phrase_of_its_words() {
    assert_eq!(kind("page-view"), phrase(&["page", "view"], 0));
    assert_eq!(kind("10.0.0.1"), phrase(&["10", "0", "0", "1"], 0));
    assert_eq!(kind("a@b.c"), phrase(&["a", "b", "c"], 0));
    assert_eq!(kind("foo/bar-"), phrase(&["foo", "bar"], 0));
    assert_eq!(kind("utm_source=x"), phrase(&["utm", "source", "x"], 0));
    assert_eq!(kind("日本"), phrase(&["日", "本"], 0));
    assert_eq!(kind("hello!"), word("hello"));
    let uuid = "0190163d-8694-739b-aea5-966c26f8ad91";
    assert_eq!(
        kind(uuid),
        phrase(&["0190163d", "8694", "739b", "aea5", "966c26f8ad91"], 0)
    );
}

#[test]
fn times_of_day_and_addresses_are_no_fields() {
    assert_eq!(kind("10:30"), phrase(&["10", "30"], 0));
    assert_eq!(
        kind("2021-01-01T10:30:00Z"),
        phrase(&["2021", "01", "01t10", "30", "00z"], 0)
    );
    assert_eq!(
        kind("https://shop.example/x"),
        phrase(&["https", "shop", "example", "x"], 0)
    );
    assert_eq!(kind("std::vec"), phrase(&["std", "vec"], 0));
    assert_eq!(kind("a\\:b"), phrase(&["a", "b"], 0));
}

#[test]
fn quotes_make_a_phrase_and_a_tilde_allows_words_between() {
    assert_eq!(kind("\"late delivery\""), phrase(&["late", "delivery"], 0));
    assert_eq!(
        kind("\"late delivery\"~2"),
        phrase(&["late", "delivery"], 2)
    );
    assert_eq!(kind("\"late deliv*\""), phrase(&["late", "deliv"], 0));
    assert_eq!(kind("\"NOT me\""), phrase(&["not", "me"], 0));
}

#[test]
fn and_is_implied_and_binds_tighter_than_or() {
    same("a b", "a AND b");
    same("a b OR c d", "(a AND b) OR (c AND d)");
    same("a OR b AND c", "a OR (b c)");
    same("a AND b c", "a b AND c");
    assert!(matches!(kind("a b c"), Kind::And(clauses) if clauses.len() == 3));
    assert!(matches!(kind("a OR b OR c"), Kind::Or(clauses) if clauses.len() == 3));
    assert!(matches!(kind("(a b) c"), Kind::And(clauses) if clauses.len() == 2));
}

#[test]
fn not_binds_tighter_than_and_written_or_implied() {
    same("NOT a b", "(NOT a) AND b");
    same("a NOT b OR c", "(a AND (NOT b)) OR c");
    same("NOT NOT a", "NOT (NOT a)");
    same("NOT(a b)", "NOT (a AND b)");
    same("NOT\"a b\"", "-\"a b\"");
}

#[test]
fn a_minus_negates_only_at_the_start_of_a_term() {
    same("-a", "NOT a");
    same("x -name:foo", "x NOT name:foo");
    same("-(a b)", "NOT (a b)");
    same("-\"a b\" -cat*", "NOT \"a b\" NOT cat*");
    assert_eq!(kind("a-b"), phrase(&["a", "b"], 0));
}

#[test]
fn a_minus_after_a_colon_belongs_to_the_value() {
    assert_eq!(test("x:-foo"), is("-foo", false));
    assert_eq!(test("x:-5"), is("-5", false));
    assert_eq!(
        test("x:>-5"),
        Test::Range {
            lower: Excluded(number("-5")),
            upper: Unbounded
        }
    );
}

#[test]
fn operators_are_operators_in_capitals_only() {
    same(
        "this and that or not in to",
        "this AND \"and\" that \"or\" \"not\" \"in\" \"to\"",
    );
    assert_eq!(kind("ANDROID"), word("android"));
    assert_eq!(kind("\\AND"), word("and"));
}

#[test]
fn white_space_of_any_kind_separates() {
    same("a\u{3000}b\n\tc", "a b c");
    same(" ( a ) ", "a");
}

// ---- patterns and edits

#[test]
fn a_pattern_of_word_characters_is_tested_on_words() {
    let on = PatternOn::Word;
    let expect = |q, parts: &[Part]| {
        assert_eq!(
            kind(q),
            Kind::Word(WordTest::Pattern(pattern(parts, on))),
            "{q}"
        )
    };
    expect("Categ*", &[part("categ"), Part::Many]);
    expect("c?ta", &[part("c"), Part::One, part("ta")]);
    expect("*tion", &[Part::Many, part("tion")]);
    expect("a**b", &[part("a"), Part::Many, part("b")]);
    expect("???", &[Part::One, Part::One, Part::One]);
    assert_eq!(
        test("category:*page*"),
        Test::Pattern(pattern(&[Part::Many, part("page"), Part::Many], on))
    );
}

#[test]
fn a_pattern_with_punctuation_is_tested_on_the_whole_value() {
    let expected = pattern(&[part("/reviews/"), Part::Many], PatternOn::Whole);
    assert_eq!(
        test("data.path:/Reviews/*"),
        Test::Pattern(expected.clone())
    );
    assert_eq!(kind("/reviews/*"), Kind::Word(WordTest::Pattern(expected)));
    let expected = pattern(&[part("a*"), Part::Many], PatternOn::Whole);
    assert_eq!(test("x:a\\**"), Test::Pattern(expected));
}

#[test]
fn a_run_without_spaces_and_a_star_is_a_phrase() {
    assert_eq!(kind("日本*"), phrase(&["日", "本"], 0));
    assert_eq!(
        test("x:*日本*"),
        Test::Near {
            words: strings(&["日", "本"]),
            slop: 0
        }
    );
    assert!(matches!(
        test("x:日本go*"),
        Test::Pattern(Pattern {
            on: PatternOn::Whole,
            ..
        })
    ));
}

#[test]
fn a_tilde_after_a_word_allows_edits() {
    let fuzzy = |word: &str, distance| Fuzzy {
        word: word.to_owned(),
        distance,
    };
    assert_eq!(
        kind("Delivry~1"),
        Kind::Word(WordTest::Fuzzy(fuzzy("delivry", 1)))
    );
    assert_eq!(
        kind("delivry~2"),
        Kind::Word(WordTest::Fuzzy(fuzzy("delivry", 2)))
    );
    assert_eq!(test("name:pagview~1"), Test::Fuzzy(fuzzy("pagview", 1)));
    assert_eq!(kind("a~b"), phrase(&["a", "b"], 0));
    assert_eq!(test("path:/~user"), is("/~user", false));
}

// ---- fields and values

#[test]
fn every_built_in_field_has_its_name() {
    assert_eq!(field("category:\"page interaction\""), Field::Category);
    assert_eq!(field("name:pageview"), Field::Name);
    assert_eq!(field("application:\"iOS app\""), Field::Application);
    assert_eq!(field("session_id:*"), Field::SessionId);
    assert_eq!(field("id:*"), Field::Id);
    assert_eq!(field("offset:*"), Field::Offset);
    assert_eq!(field("timestamp:*"), Field::Timestamp);
    assert_eq!(field("received_at:*"), Field::ReceivedAt);
}

#[test]
fn data_may_be_left_out_where_no_built_in_has_the_name() {
    assert_eq!(field("path:x"), data(&["path"]));
    assert_eq!(field("data.path:x"), data(&["path"]));
    assert_eq!(field("data.name:x"), data(&["name"]));
    assert_eq!(field("name.first:x"), data(&["name", "first"]));
    assert_eq!(field("data:x"), data(&["data"]));
    assert_eq!(field("data.data.x:1"), data(&["data", "x"]));
    assert_eq!(field("data.10:x"), data(&["10"]));
    assert_eq!(field("@type:x"), data(&["@type"]));
    assert_eq!(field("nmae:x"), data(&["nmae"]));
}

#[test]
fn an_escaped_dot_is_part_of_the_key() {
    assert_eq!(field("data.a\\.b:1"), data(&["a.b"]));
    assert_eq!(field("data.a.b:1"), data(&["a", "b"]));
    assert_eq!(field("data.a\\ \\:b:1"), data(&["a :b"]));
    assert_eq!(field("data\\.x:1"), data(&["data.x"]));
}

#[test]
fn a_value_runs_to_the_next_space_and_may_hold_colons_and_begin_with_a_slash() {
    assert_eq!(test("path:/reviews/"), is("/reviews/", false));
    assert_eq!(
        test("url:https://x.y/z:8?"),
        Test::Pattern(pattern(
            &[part("https://x.y/z:8"), Part::One],
            PatternOn::Whole
        ))
    );
    assert_eq!(test("url:https://x.y/z"), is("https://x.y/z", false));
    assert_eq!(test("at:10:30:00"), is("10:30:00", false));
    assert_eq!(test("data.url://cdn"), is("//cdn", false));
    assert_eq!(test("x:a=b"), is("a=b", false));
    assert_eq!(test("x:a[0],b"), is("a[0],b", false));
}

#[test]
fn a_space_after_the_colon_does_no_harm() {
    same("name: foo", "name:foo");
    same("price:> 10", "price:>10");
    same("path:IN[a,b]", "path:IN [ a , b ]");
}

#[test]
fn a_backslash_escapes_the_next_character_of_text_without_quotes() {
    assert_eq!(test("x:a\\ b"), is("a b", false));
    assert_eq!(test("x:\\*"), is("*", false));
    assert_eq!(test("x:\\[a"), is("[a", false));
    assert_eq!(test("x:\\\"a\\\\"), is("\"a\\", false));
    assert_eq!(test("x:a\\~1"), is("a~1", false));
    assert_eq!(test("x:\\AND"), is("AND", false));
}

#[test]
fn in_quotes_only_a_quote_and_a_backslash_are_escaped() {
    assert_eq!(test(r#"x:"a \"b\" \\ \d*""#), is(r#"a "b" \ \d*"#, true));
    assert_eq!(test("x:\"\""), is("", true));
    assert_eq!(test("x:\"+++\""), is("+++", true));
    assert_eq!(test("x:\"a\nb\""), is("a\nb", true));
}

#[test]
fn an_unquoted_literal_is_text_and_perhaps_more() {
    let literal = |q| match test(q) {
        Test::Is(value) => value.literal(),
        other => panic!("{other:?}"),
    };
    assert_eq!(literal("ok:true"), Some(Scalar::Bool(true)));
    assert_eq!(literal("x:null"), Some(Scalar::Null));
    assert_eq!(literal("code:500"), Some(number("500")));
    assert_eq!(literal("zip:00501"), None);
    assert_eq!(literal("code:\"500\""), None);
}

#[test]
fn a_star_alone_asks_whether_the_field_is_there() {
    assert_eq!(test("data.form.email:*"), Test::Exists);
    assert_eq!(test("x:[* TO *]"), Test::Exists);
    assert_eq!(test("x:\"*\""), is("*", true));
}

#[test]
fn two_equal_signs_ask_for_exactly_this() {
    assert_eq!(
        test("data.path==\"/reviews/\""),
        Test::Exactly(text("/reviews/"))
    );
    assert_eq!(test("x==5"), Test::Exactly(number("5")));
    assert_eq!(test("x==-1e-05"), Test::Exactly(number("-1e-05")));
    assert_eq!(test("x== true"), Test::Exactly(Scalar::Bool(true)));
    assert_eq!(test("x==null"), Test::Exactly(Scalar::Null));
    assert_eq!(test("name==\"5\""), Test::Exactly(text("5")));
}

#[test]
fn a_regular_expression_is_taken_as_it_is() {
    assert_eq!(
        test(r#"data.path=~"/re.*s\d+""#),
        Test::Regex(r"/re.*s\d+".to_owned())
    );
    assert_eq!(
        test("path:/re.*s/"),
        Test::Pattern(pattern(
            &[part("/re."), Part::Many, part("s/")],
            PatternOn::Whole
        ))
    );
}

#[test]
fn a_phrase_with_gaps_may_be_asked_of_a_field() {
    assert_eq!(
        test("x:\"late delivery\"~2"),
        Test::Near {
            words: strings(&["late", "delivery"]),
            slop: 2
        }
    );
}

#[test]
fn a_list_asks_for_any_of() {
    let expected = Test::In(vec![value("/a", true), value("/b", true)]);
    assert_eq!(test("data.path:IN [\"/a\", \"/b\"]"), expected);
    assert_eq!(
        test("path:IN [/a,5 ]"),
        Test::In(vec![value("/a", false), value("5", false)])
    );
}

// ---- ranges

#[test]
fn ranges_have_inclusive_exclusive_and_open_ends() {
    let range = |lower, upper| Test::Range { lower, upper };
    assert_eq!(
        test("data.price:>10"),
        range(Excluded(number("10")), Unbounded)
    );
    assert_eq!(
        test("data.price:>=10"),
        range(Included(number("10")), Unbounded)
    );
    assert_eq!(
        test("data.price:<1e-05"),
        range(Unbounded, Excluded(number("1e-05")))
    );
    assert_eq!(
        test("data.price:<=-5"),
        range(Unbounded, Included(number("-5")))
    );
    assert_eq!(
        test("data.price:[10 TO 20}"),
        range(Included(number("10")), Excluded(number("20")))
    );
    assert_eq!(
        test("data.price:{10 TO 20]"),
        range(Excluded(number("10")), Included(number("20")))
    );
    assert_eq!(
        test("data.price:{* TO 20]"),
        range(Unbounded, Included(number("20")))
    );
    assert_eq!(
        test("data.price:[10 TO *}"),
        range(Included(number("10")), Unbounded)
    );
}

#[test]
fn the_form_of_an_operand_decides_whether_numbers_or_text_are_compared() {
    let range = |lower, upper| Test::Range { lower, upper };
    assert_eq!(test("x:>\"10\""), range(Excluded(text("10")), Unbounded));
    assert_eq!(
        test("x:[\"a\" TO b]"),
        range(Included(text("a")), Included(text("b")))
    );
    assert_eq!(
        test("day:>=2021-01-01"),
        range(Included(text("2021-01-01")), Unbounded)
    );
    assert_eq!(test("name:<m"), range(Unbounded, Excluded(text("m"))));
    assert_eq!(test("x:>00501"), range(Excluded(text("00501")), Unbounded));
}

#[test]
fn a_date_is_a_whole_day_whatever_is_asked_of_it() {
    assert_eq!(
        test("timestamp:2021-01-01"),
        times(Some(NEW_YEAR), Some(NEW_YEAR + DAY))
    );
    assert_eq!(
        test("timestamp:\"2021-01-01\""),
        times(Some(NEW_YEAR), Some(NEW_YEAR + DAY))
    );
    assert_eq!(test("timestamp:>=2021-01-01"), times(Some(NEW_YEAR), None));
    assert_eq!(
        test("timestamp:>2021-01-01"),
        times(Some(NEW_YEAR + DAY), None)
    );
    assert_eq!(test("timestamp:<2021-01-01"), times(None, Some(NEW_YEAR)));
    assert_eq!(
        test("received_at:<=2021-01-01"),
        times(None, Some(NEW_YEAR + DAY))
    );
    assert_eq!(
        test("timestamp:[2021-01-01 TO 2021-01-02]"),
        times(Some(NEW_YEAR), Some(NEW_YEAR + 2 * DAY))
    );
    assert_eq!(
        test("timestamp:{2021-01-01 TO 2021-01-03}"),
        times(Some(NEW_YEAR + DAY), Some(NEW_YEAR + 2 * DAY))
    );
    assert_eq!(
        test("timestamp:[2021-01-01 TO *]"),
        times(Some(NEW_YEAR), None)
    );
}

#[test]
fn a_time_of_day_is_an_instant() {
    let ten = NEW_YEAR + DAY / 24 * 10;
    for q in [
        "timestamp:2021-01-01T10:00:00Z",
        "timestamp:\"2021-01-01 10:00\"",
        "timestamp==2021-01-01T11:00+01:00",
    ] {
        assert_eq!(test(q), times(Some(ten), Some(ten + 1)), "{q}");
    }
    assert_eq!(
        test("timestamp:>2021-01-01T10:00:00.000000Z"),
        times(Some(ten + 1), None)
    );
    assert_eq!(
        test("timestamp:<=\"2021-01-01 10:00:00\""),
        times(None, Some(ten + 1))
    );
}

#[test]
fn offsets_and_ids_are_read_as_such() {
    assert_eq!(test("offset:>=1000"), offsets(Some(1000), None));
    assert_eq!(test("offset:>1000"), offsets(Some(1001), None));
    assert_eq!(test("offset:7"), offsets(Some(7), Some(8)));
    assert_eq!(test("offset:[1 TO 5}"), offsets(Some(1), Some(5)));
    let id = uuid::Uuid::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad91);
    assert_eq!(
        test("id:0190163D-8694-739B-AEA5-966C26F8AD91"),
        Test::Id(id)
    );
    assert_eq!(
        test("session_id==\"0190163d8694739baea5966c26f8ad91\""),
        Test::Id(id)
    );
    assert_eq!(
        test("session_id:0190163D*"),
        Test::Pattern(pattern(&[part("0190163d"), Part::Many], PatternOn::Whole))
    );
}

#[test]
fn a_list_of_offsets_times_or_ids_is_each_of_them() {
    same("offset:IN [1, 2]", "(offset:1 OR offset:2)");
    same("timestamp:IN [2021-01-01]", "timestamp:2021-01-01");
    same(
        "timestamp:IN [2021-01-01] 10:30",
        "timestamp:2021-01-01 \"10 30\"",
    );
}

// ---- places

#[test]
fn every_clause_knows_where_it_stands_in_characters() {
    let span = |position, length| Span { position, length };
    let clause = parse("  é (b OR -c )  name:\"ü\" ").unwrap();
    assert_eq!(clause.span, span(2, 22));
    let Kind::And(clauses) = clause.kind else {
        panic!()
    };
    assert_eq!(
        clauses.iter().map(|clause| clause.span).collect::<Vec<_>>(),
        [span(2, 1), span(5, 7), span(16, 8)]
    );
    let Kind::Or(clauses) = &clauses[1].kind else {
        panic!()
    };
    assert_eq!(clauses[1].span, span(10, 2));
    assert_eq!(parse("a OR (b)  ").unwrap().span, span(0, 8));
}

// ---- mistakes

/// Asserts the place of the only mistake, something said about it, and what is suggested; the query with the
/// suggestion put in its place must be right.
#[track_caller]
fn mistake(q: &str, position: usize, length: usize, said: &str, suggestion: Option<&str>) {
    let errors = parse(q).expect_err(q);
    assert_eq!(errors.len(), 1, "{q}: {errors:?}");
    let error = &errors[0];
    assert_eq!(
        (error.position, error.length),
        (position, length),
        "{q}: {error:?}"
    );
    let told = format!("{} {:?}", error.message, error.expected);
    assert!(told.contains(said), "{q}: {error:?}");
    assert_eq!(error.suggestion.as_deref(), suggestion, "{q}: {error:?}");
    if let Some(suggestion) = suggestion {
        let mended = mended(q, error, suggestion);
        assert!(
            parse(&mended).is_ok(),
            "{q} became {mended}: {:?}",
            parse(&mended)
        );
    }
}

fn mended(q: &str, error: &QueryError, suggestion: &str) -> String {
    let before = q.chars().take(error.position);
    before
        .chain(suggestion.chars())
        .chain(q.chars().skip(error.position + error.length))
        .collect()
}

#[test]
fn something_missing_is_told_where_it_is_missing() {
    mistake("a AND", 5, 0, "ends", None);
    mistake("a OR ", 5, 0, "ends", None);
    mistake("NOT", 3, 0, "ends", None);
    mistake("a OR OR b", 5, 2, "both sides", Some("or"));
    mistake("AND a", 0, 3, "both sides", Some("and"));
    mistake("NOT AND a", 4, 3, "both sides", Some("and"));
    mistake("made IN china", 5, 2, "IN", Some("in"));
    mistake("fly TO rome", 4, 2, "range", Some("to"));
    mistake("a - b", 2, 1, "alone", None);
    mistake("a -", 2, 1, "alone", None);
}

#[test]
fn brackets_and_quotes_must_be_closed() {
    mistake("(a b", 4, 0, "position 0", Some(")"));
    mistake("x ((a)", 6, 0, "position 2", Some(")"));
    mistake("a)", 1, 1, "closes nothing", Some(""));
    mistake("()", 1, 1, "nothing to look for", None);
    mistake("(a OR )", 6, 1, "nothing to look for", None);
    mistake("ü \"late", 2, 5, "not closed", Some("\"late\""));
    mistake("x:\"a\\\"", 2, 4, "not closed", Some("\"a\\\"\""));
    mistake("x:[1 TO 2", 9, 0, "not closed", Some("]"));
    mistake("x:IN [a, b", 10, 0, "not closed", Some("]"));
    mistake("foo\\", 3, 1, "next character", Some("\\\\"));
}

#[test]
fn what_is_stuck_together_is_told_apart() {
    mistake("foo(bar)", 0, 8, "inside a word", Some("\"foo(bar)\""));
    mistake("name:foo(bar)", 5, 8, "inside a word", Some("\"foo(bar)\""));
    mistake(
        "x foo\"bar\"",
        2,
        8,
        "inside a word",
        Some("\"foo\\\"bar\\\"\""),
    );
    mistake("\"a\"b", 3, 0, "space is missing", Some(" "));
    mistake("(a)b", 3, 0, "space is missing", Some(" "));
    mistake("x:[1 TO 2]b", 10, 0, "space is missing", Some(" "));
    mistake("\"my key\":5", 0, 8, "without quotes", Some("my\\ key"));
}

#[test]
fn text_without_a_word_is_no_bare_word() {
    mistake("a +++", 2, 3, "no letter", Some("*+++*"));
    mistake("\"\"", 0, 2, "no letter", None);
    mistake("🎉", 0, 1, "no letter", Some("*🎉*"));
    mistake("a && b", 2, 2, "no letter", Some("AND"));
    mistake("a || b", 2, 2, "no letter", Some("OR"));
}

#[test]
fn a_field_without_a_value_or_a_value_without_a_field_is_told() {
    mistake("path:", 5, 0, "missing", None);
    mistake("(path: )", 6, 0, "missing", None);
    mistake("path: AND b", 5, 0, "missing", None);
    mistake("path==", 6, 0, "missing", None);
    mistake(":foo", 0, 1, "no field", None);
    mistake("name : foo", 5, 1, "No space", None);
    mistake("x:>", 3, 0, "missing", None);
    mistake("x:IN []", 6, 0, "missing", None);
    mistake("x:IN [a,]", 8, 0, "missing", None);
    mistake("a..b:1", 0, 4, "dot", None);
    mistake("data.:1", 0, 5, "dot", None);
}

#[test]
fn a_misspelt_field_without_a_value_is_guessed() {
    let errors = parse("nmae:").unwrap_err();
    assert_eq!(
        (
            errors[0].position,
            errors[0].length,
            errors[0].suggestion.as_deref()
        ),
        (0, 5, Some("name:"))
    );
    assert_eq!((errors[1].position, errors[1].length), (5, 0));
}

#[test]
fn signs_of_other_languages_are_explained() {
    mistake("name=pageview", 4, 1, "==", Some(":"));
    mistake("data.price=5", 10, 1, "==", Some(":"));
    mistake("data.price>10", 10, 1, "comparisons", Some(":>"));
    mistake("offset<10", 6, 1, "comparisons", Some(":<"));
    mistake("path!=x", 4, 2, "-field", None);
    mistake("path!==\"x\"", 4, 3, "-field", None);
    mistake("!foo", 0, 1, "negate", Some("-"));
    mistake("!name:foo", 0, 1, "negate", Some("-"));
    mistake("+name:foo", 0, 1, "required", Some(""));
    mistake("x:<>5", 3, 1, "not equal", None);
    mistake("name:(a OR b)", 5, 1, "IN [", None);
    mistake("data.*:x", 5, 1, "no pattern", Some("\\*"));
    mistake("path=~/re.*s/", 6, 7, "in quotes", Some("\"re.*s\""));
    mistake("path=~re.*s", 6, 5, "in quotes", Some("\"re.*s\""));
}

#[test]
fn edits_go_with_one_word_and_gaps_with_a_number() {
    mistake("delivry~", 0, 8, "~1", Some("delivry~1"));
    mistake("delivry~3", 0, 9, "~1", Some("delivry~2"));
    mistake("page-viw~1", 0, 10, "one word", None);
    mistake("pag*~1", 0, 6, "one word", None);
    mistake("\"late delivery\"~x", 15, 2, "a number", Some("~1"));
    mistake("\"a b\"~99999999999", 5, 12, "a number", Some("~1"));
    mistake("x:\"+\"~1", 2, 5, "gaps", Some("\"+\""));
}

#[test]
fn ranges_and_lists_are_written_in_one_way() {
    mistake("x:[10 20]", 6, 0, "`TO`", Some("TO "));
    mistake("x:[10 to 20]", 6, 2, "`TO`", Some("TO"));
    mistake("x:[10]", 5, 0, "`TO`", Some(" TO *"));
    mistake("x:[10", 5, 0, "`TO`", Some(" TO *]"));
    mistake("x:[10 TO]", 8, 0, "missing", None);
    mistake("x:[10 TO 20)", 11, 1, "not closed", Some("}"));
    mistake("(x:[10 TO 20)", 12, 0, "not closed", Some("]"));
    mistake("x:[10 TO abc]", 9, 3, "a number", None);
    mistake("x:[abc TO 10]", 10, 2, "text", Some("\"10\""));
    mistake("x:[a* TO b]", 3, 2, "pattern", Some("\"a*\""));
    mistake("x:>true", 3, 4, "no order", Some("\"true\""));
    mistake("name:>5", 6, 1, "always text", Some("\"5\""));
    mistake("x:IN \"a\"", 5, 0, "`[`", None);
    mistake("x:IN (a, b)", 5, 1, "`[`", None);
    mistake("country:IN", 8, 2, "in quotes", Some("\"IN\""));
    mistake("state:OR", 6, 2, "in quotes", Some("\"OR\""));
    mistake("x:IN [\"a\" \"b\"]", 10, 0, "comma", Some(", "));
    mistake("x:IN [a*]", 6, 2, "pattern", Some("\"a*\""));
}

#[test]
fn text_after_two_equal_signs_needs_quotes() {
    mistake("path==/reviews/", 6, 9, "in quotes", Some("\"/reviews/\""));
    mistake("name==5", 6, 1, "in quotes", Some("\"5\""));
}

#[test]
fn ids_offsets_and_times_must_be_such() {
    mistake("session_id:abc", 11, 3, "UUID", Some("abc*"));
    mistake("id:nothing", 3, 7, "UUID", None);
    mistake("id:>5", 4, 1, "no order", None);
    mistake("offset:abc", 7, 3, "whole number", None);
    mistake("offset:-1", 7, 2, "whole number", None);
    mistake("offset:>=1.5", 9, 3, "whole number", None);
    mistake("offset:\"5\"", 7, 3, "whole number", Some("5"));
    mistake("offset:1*", 7, 2, "no text", None);
    mistake(
        "offset:[1 TO 18446744073709551615]",
        13,
        20,
        "whole number",
        None,
    );
    mistake("timestamp:yesterday", 10, 9, "no time", None);
    mistake("timestamp:2021-02-30", 10, 10, "no time", None);
    mistake("timestamp:[2021-01-01 TO x]", 25, 1, "no time", None);
    mistake("timestamp:2021-01*", 10, 8, "no text", None);
    mistake("timestamp=~\"2021\"", 11, 6, "no text", None);
    mistake(
        "timestamp:2021-01-01 10:00",
        10,
        16,
        "quotes",
        Some("\"2021-01-01 10:00\""),
    );
    mistake(
        "timestamp:>2021-01-01 10:00:30Z",
        11,
        20,
        "quotes",
        Some("\"2021-01-01 10:00:30Z\""),
    );
    mistake(
        "timestamp:[2021-01-01 10:00 TO *]",
        11,
        16,
        "quotes",
        Some("\"2021-01-01 10:00\""),
    );
}

#[test]
fn mistakes_inside_values_are_told_all_at_once() {
    let places = |q: &str| {
        parse(q)
            .unwrap_err()
            .iter()
            .map(|error| error.position)
            .collect::<Vec<_>>()
    };
    assert_eq!(places("id:x OR offset:y AND z=="), [3, 15, 24]);
}

#[test]
fn the_longest_queries_are_read_at_once() {
    let pieces = [
        "a",
        "a ",
        "\\",
        "-",
        "a:",
        "a.",
        "*a",
        "~",
        "\"",
        "a OR ",
        "x:[",
        "x:IN [a,",
        "é<\u{338}",
        "日",
        "(",
        ")",
    ];
    for piece in pieces {
        for start in ["", "\"", "x:", "x:IN [", "timestamp:2021-01-01 "] {
            let q = start.to_owned() + &piece.repeat((QUERY_BYTES_MAX - start.len()) / piece.len());
            let begun = std::time::Instant::now();
            let shown = parse(&q).map(|clause| clause.to_string());
            assert!(
                begun.elapsed().as_secs() < 2,
                "{start}{piece}… took {:?}",
                begun.elapsed()
            );
            drop(shown);
        }
    }
}

#[test]
fn depth_and_length_are_bounded() {
    for (open, close) in [("(", ")"), ("NOT ", ""), ("-", ""), ("-(", ")")] {
        let levels = NESTING_MAX / if open == "-(" { 2 } else { 1 };
        let nested = |levels: usize| format!("{}a{}", open.repeat(levels), close.repeat(levels));
        assert!(parse(&nested(levels)).is_ok(), "{open}");
        let errors = parse(&nested(levels + 1)).unwrap_err();
        assert!(errors[0].message.contains("64"), "{open}");
        assert_eq!(errors[0].position, open.len() * levels, "{open}");
        assert!(
            parse(&open.repeat(QUERY_BYTES_MAX / open.len())).is_err(),
            "{open}"
        );
    }
    assert!(parse(&"a ".repeat(QUERY_BYTES_MAX / 2)).is_ok());
    let errors = parse(&"ü".repeat(QUERY_BYTES_MAX / 2 + 1)).unwrap_err();
    assert_eq!(
        (errors[0].position, errors[0].length),
        (QUERY_BYTES_MAX / 2, 1)
    );
}

// ---- anything at all

struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

#[test]
fn whatever_is_typed_nothing_panics_and_what_parses_is_written_back() {
    let tokens = concat!(
        " ¦ ¦ ¦a¦B¦word¦\"¦\"late delivery\"¦\"x\"¦(¦)¦AND¦ AND ¦ OR ¦NOT ¦IN ¦ TO ¦-¦*¦?¦~¦~1¦~2¦:¦:¦:¦==¦=~¦=¦!¦+¦<¦>¦>=¦[¦]¦{¦}",
        "¦, ¦[1 TO 2}¦:IN [a, \"b\"]¦:[\"a\" TO *]¦\\¦\\.¦.¦/¦//¦name¦name:¦category:¦data.a.b:¦x:¦offset:¦timestamp:¦id:¦2021-01-01",
        "¦10:30¦5¦-5¦1e-05¦00501¦true¦null¦é¦ß¦日本¦か\u{3099}¦\u{301}¦🎉¦0190163d-8694-739b-aea5-966c26f8ad91¦\0¦\u{3000}¦İ¦≮",
    );
    let tokens: Vec<&str> = tokens.split('¦').collect();
    let mut parsed = 0;
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let mut q = String::new();
        for _ in 0..dice.throw(9) + 1 {
            match dice.throw(40) {
                0 => q.extend(char::from_u32(
                    u32::try_from(dice.throw(0x11_0000)).unwrap(),
                )),
                _ => q.push_str(tokens[dice.throw(tokens.len())]),
            }
        }
        match parse(&q) {
            Ok(clause) => {
                parsed += 1;
                let shown = clause.to_string();
                let again = parse(&shown)
                    .unwrap_or_else(|errors| panic!("seed {seed}: {q:?} as {shown:?}: {errors:?}"));
                assert_eq!(
                    without_spans(clause),
                    without_spans(again),
                    "seed {seed}: {q:?} as {shown:?}"
                );
            }
            Err(errors) => {
                let length = q.chars().count();
                assert!(!errors.is_empty(), "seed {seed}: {q:?}");
                for error in errors {
                    assert!(
                        error.position + error.length <= length,
                        "seed {seed}: {q:?}: {error:?}"
                    );
                }
            }
        }
    }
    assert!(
        parsed > 3_000,
        "only {parsed} of the random queries were right"
    );
}
