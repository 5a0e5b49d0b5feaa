//! Points at the place in a query that is wrong.

use crate::client::Problem;
use serde_json::Value;

/// Returns the query with a caret line under every place that is wrong, what was expected there and a suggestion; none
/// if the problem is not about the query.
pub(crate) fn explain(query: &str, problem: &Problem) -> Option<String> {
    let errors = problem.errors.get("q")?.as_array()?;
    let mut blocks = Vec::new();
    for error in errors {
        let place = |key: &str| {
            error[key]
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
        };
        let position = place("position")?;
        let mut block = pointed(query, position, place("length").unwrap_or(1));
        if let Some(message) = error["message"]
            .as_str()
            .filter(|message| !message.is_empty())
        {
            block.push_str(&format!("\n  {message}"));
        }
        let expected: Vec<&str> = error["expected"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !expected.is_empty() {
            block.push_str(&format!("\n  expected: {}", expected.join(", ")));
        }
        if let Some(suggestion) = error["suggestion"]
            .as_str()
            .filter(|suggestion| !suggestion.is_empty())
        {
            block.push_str(&format!("\n  did you mean: {suggestion}"));
        }
        blocks.push(block);
    }
    (!blocks.is_empty()).then(|| blocks.join("\n\n"))
}

/// Returns the line of the query that holds a position, and carets below. Positions count Unicode scalar values of the
/// whole query; the end of the query is a position too.
fn pointed(query: &str, position: usize, length: usize) -> String {
    let characters: Vec<char> = query.chars().collect();
    let position = position.min(characters.len());
    let start = characters[..position]
        .iter()
        .rposition(|c| *c == '\n')
        .map_or(0, |before| before + 1);
    let end = characters[position..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(characters.len(), |after| position + after);
    // One column per character: what moves the cursor otherwise would put the carets elsewhere.
    let shown: String = characters[start..end]
        .iter()
        .map(|c| if c.is_control() { ' ' } else { *c })
        .collect();
    let below: String = characters[start..position]
        .iter()
        .map(|c| if is_wide(*c) { '\u{3000}' } else { ' ' })
        .collect();
    let marked = &characters[position..end.min(position.saturating_add(length.max(1)))];
    let carets: usize = marked.iter().map(|c| if is_wide(*c) { 2 } else { 1 }).sum();
    format!("  {shown}\n  {below}{}", "^".repeat(carets.max(1)))
}

/// Returns true for characters that take two columns on a terminal (the East Asian wide ranges and emoji, roughly).
fn is_wide(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(error: Value) -> Problem {
        let mut problem = Problem::default();
        problem.errors.insert("q".to_owned(), json!([error]));
        problem
    }

    #[test]
    fn the_caret_stands_under_the_wrong_word() {
        let problem = problem(
            json!({"position": 14, "length": 3, "expected": ["AND", "OR"], "suggestion": "AND",
            "message": "This is no operator."}),
        );
        assert_eq!(
            explain("category:größe ADN b", &problem).as_deref(),
            Some(
                "  category:größe ADN b\n                ^^^\n  This is no operator.\n  expected: AND, OR\n  did you mean: AND"
            )
        );
    }

    #[test]
    fn the_end_of_a_query_can_be_pointed_at() {
        assert_eq!(pointed("a AND", 5, 0), "  a AND\n       ^");
        assert_eq!(pointed("", 0, 1), "  \n  ^");
        assert_eq!(pointed("abc", 99, 5), "  abc\n     ^");
    }

    #[test]
    fn the_line_that_is_wrong_is_shown_and_wide_characters_are_counted_twice() {
        assert_eq!(pointed("a\nb\tcc d\ne", 4, 2), "  b cc d\n    ^^");
        assert_eq!(pointed("訪問 x", 3, 1), "  訪問 x\n  \u{3000}\u{3000} ^");
        assert_eq!(pointed("訪問 x", 0, 2), "  訪問 x\n  ^^^^");
    }

    #[test]
    fn another_problem_is_left_to_its_own_words() {
        let mut other = Problem::default();
        other
            .errors
            .insert("limit".to_owned(), json!(["Out of range."]));
        assert_eq!(explain("a", &other), None);
    }
}
