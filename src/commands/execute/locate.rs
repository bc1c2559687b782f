//! Where in a model's file the thing stands that ClickHouse did not like: from its message to the compiled SQL to the file.
//! Pure: texts in, lines out.

use crate::project::{Compiled, Node};

/// The place as house errors show it, with the line and a caret; `None` where the message names nothing that is found.
pub(super) fn place(message: &str, node: &Node, compiled: &Compiled) -> Option<String> {
    let (offset, token) = find(message, &compiled.code)?;
    let compiled_line = compiled.code[..offset].matches('\n').count();
    let file_line = usize::try_from(*compiled.lines.get(compiled_line)?).ok().filter(|line| *line > 0)?;
    let source = node.raw_code.lines().nth(file_line.checked_sub(node.raw_code_line)?)?;
    let column = source.find(token).map(|at| source[..at].chars().count() + 1);
    let gutter = " ".repeat(file_line.to_string().len());
    let path = &node.original_file_path;
    let mut text = match column {
        Some(column) => format!("--> {path}:{file_line}:{column}"),
        None => format!("--> {path}:{file_line}"),
    };
    text.push_str(&format!("\n{gutter} |\n{file_line} | {source}"));
    if let Some(column) = column {
        let indent: String = source.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        text.push_str(&format!("\n{gutter} | {indent}{}", "^".repeat(token.chars().count().max(1))));
    }
    Some(text)
}

/// The byte offset in the SQL, and the token there.
fn find<'m>(message: &'m str, sql: &str) -> Option<(usize, &'m str)> {
    // `Syntax error: failed at position 52 (froom) (line 3, col 1): froom t where …. Expected one of …`
    if let Some((_, rest)) = message.split_once("failed at position") {
        let after = rest.split_once("): ")?.1;
        let snippet: &str = after.lines().next()?.split(". Expected").next()?;
        let token = snippet.split_whitespace().next()?;
        for length in [40, 20, token.len()] {
            let head = snippet.get(..snippet.len().min(length)).unwrap_or(token);
            if let Some(offset) = sql.find(head) {
                return Some((offset, token));
            }
        }
        return None;
    }
    // `Unknown expression identifier `x` in scope …`, `Unknown function f`, `Unknown table expression identifier 'd.t'`.
    for marker in ["identifier `", "identifier '", "column `", "function with name `", "expression '"] {
        if let Some((_, rest)) = message.split_once(marker) {
            let quote = if marker.ends_with('`') { '`' } else { '\'' };
            let token = rest.split(quote).next().filter(|token| !token.is_empty())?;
            if let Some(offset) = find_word(sql, token) {
                return Some((offset, token));
            }
            let last = token.rsplit('.').next()?;
            return find_word(sql, last).map(|offset| (offset, last));
        }
    }
    None
}

/// The first place where the text stands as a word of its own.
fn find_word(sql: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    sql.match_indices(word)
        .find(|(at, _)| {
            let before = sql[..*at].chars().next_back().is_some_and(is_part);
            let after = sql[at + word.len()..].chars().next().is_some_and(is_part);
            !before && !after
        })
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_the_sql() {
        let sql = "select\n    id,\n    driver_ref\nfrom d.t";
        let unknown = "Unknown expression identifier `driver_ref` in scope SELECT id, driver_ref FROM d.t";
        assert_eq!(find(unknown, sql), Some((sql.find("driver_ref").unwrap(), "driver_ref")));
        let syntax =
            "Syntax error: failed at position 30 (froom) (line 2, col 1): froom t where a = 1. Expected one of: token";
        assert_eq!(find(syntax, "select 1\nfroom t where a = 1"), Some((9, "froom")));
        assert_eq!(find("Memory limit exceeded", sql), None);
    }

    #[test]
    fn a_part_of_a_word_is_not_the_word() {
        assert_eq!(find_word("select ids, id", "id"), Some(12));
    }
}
