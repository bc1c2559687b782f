//! As much of ClickHouse's grammar as an engine needs: which kind of statement a text is, its FORMAT, where an INSERT's
//! data begins, what a SET sets. It reads tokens, not SQL: what it does not know it leaves to ClickHouse.
//! <https://clickhouse.com/docs/sql-reference/syntax>

use std::ops::Range;

/// What decides how a statement is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SELECT, with or without WITH or parentheses: rows can be streamed.
    Select,
    Insert,
    Set,
    Use,
    /// `KILL QUERY`.
    Kill,
    /// SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK: rows, as one piece.
    Rows,
    /// DDL and everything else.
    Other,
    /// Nothing but comments.
    Empty,
}

/// A statement, read as far as needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    pub(crate) kind: Kind,
    /// The name after FORMAT, where the statement has one.
    pub(crate) format: Option<&'a str>,
    /// Where an INSERT's data begins: after FORMAT and its name, or after VALUES.
    pub(crate) data: Option<usize>,
    /// Whether a second statement follows a semicolon.
    pub(crate) several: bool,
    /// Where the statement ends, before a semicolon.
    pub(crate) end: usize,
    /// Where FORMAT, or VALUES, of an INSERT with data begins.
    pub(crate) data_keyword: Option<usize>,
    /// Whether an INSERT reads from the `input()` table function.
    pub(crate) reads_input: bool,
    /// WITH TOTALS, or a word that asks for something a stream of blocks cannot show.
    pub(crate) whole_result: bool,
}

impl<'a> Statement<'a> {
    pub(crate) fn read(sql: &'a str) -> Self {
        let mut statement = Self {
            kind: Kind::Empty,
            format: None,
            data: None,
            several: false,
            end: sql.len(),
            data_keyword: None,
            reads_input: false,
            whole_result: false,
        };
        let mut tokens = Tokens::new(sql).filter(|token| token.kind != TokenKind::Space);
        let Some(first) = tokens.by_ref().find(|token| token.text(sql) != "(") else { return statement };
        statement.kind = match first.text(sql).to_ascii_uppercase().as_str() {
            "SELECT" | "WITH" | "FROM" => Kind::Select,
            "INSERT" => Kind::Insert,
            "SET" => Kind::Set,
            "USE" => Kind::Use,
            "KILL" => Kind::Kill,
            "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" | "EXISTS" | "CHECK" => Kind::Rows,
            _ => Kind::Other,
        };
        if statement.kind == Kind::Insert {
            statement.read_insert(sql, tokens);
        } else {
            statement.read_tail(sql, tokens);
        }
        statement
    }

    /// The text without its FORMAT clause.
    pub(crate) fn without_format(&self, sql: &'a str) -> String {
        let (Some(format), None) = (self.format, self.data) else { return sql.to_owned() };
        // Both are slices of the same text.
        let start = format.as_ptr() as usize - sql.as_ptr() as usize;
        let tokens: Vec<Token> = Tokens::new(&sql[..start]).filter(|token| token.kind != TokenKind::Space).collect();
        match tokens.last() {
            Some(keyword) => format!("{}{}", &sql[..keyword.range.start], &sql[start + format.len()..]),
            None => sql.to_owned(),
        }
    }

    /// `INSERT INTO [TABLE|FUNCTION] name [(columns)] [SETTINGS …] [FORMAT name data | VALUES data | SELECT …]`
    fn read_insert(&mut self, sql: &'a str, mut tokens: impl Iterator<Item = Token>) {
        let mut depth = 0_usize;
        // A table may be called `format`: a name follows INTO, TABLE, FUNCTION or a dot.
        let mut name_next = false;
        while let Some(token) = tokens.next() {
            let text = token.text(sql);
            match text {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ if depth > 0 || name_next => {}
                _ if text.eq_ignore_ascii_case("VALUES") => {
                    self.data_keyword = Some(token.range.start);
                    self.data = Some(token.range.end);
                    return;
                }
                _ if text.eq_ignore_ascii_case("FORMAT") => {
                    let Some(name) = tokens.next().filter(|name| name.kind == TokenKind::Word) else { return };
                    self.format = Some(name.text(sql));
                    self.data_keyword = Some(token.range.start);
                    self.data = Some(name.range.end);
                    // `FORMAT Values` and friends read from here on; an immediate SELECT would be an error anyway.
                    return;
                }
                _ if text.eq_ignore_ascii_case("SELECT") || text.eq_ignore_ascii_case("WITH") => {
                    return self.read_tail(sql, tokens);
                }
                _ => {}
            }
            name_next = ["INTO", "TABLE", "FUNCTION", "."].iter().any(|word| text.eq_ignore_ascii_case(word));
        }
    }

    /// `… [FORMAT name] [SETTINGS …] [;]`, at the end and outside parentheses.
    fn read_tail(&mut self, sql: &'a str, tokens: impl Iterator<Item = Token>) {
        let mut depth = 0_usize;
        let mut ended = false;
        let mut outside: Vec<(&'a str, TokenKind)> = Vec::new();
        let mut previous = "";
        for token in tokens {
            let text = token.text(sql);
            self.reads_input |= self.kind == Kind::Insert && text == "(" && previous.eq_ignore_ascii_case("input");
            previous = text;
            match text {
                _ if ended => self.several |= text != ";",
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                ";" if depth == 0 => {
                    ended = true;
                    self.end = token.range.start;
                }
                _ if depth == 0 => outside.push((text, token.kind)),
                _ => {}
            }
        }
        let is = |index: usize, words: &[&str]| {
            outside.get(index).is_some_and(|(text, _)| words.iter().any(|word| text.eq_ignore_ascii_case(word)))
        };
        self.format = (0..outside.len())
            .rev()
            .find(|&index| {
                is(index, &["FORMAT"])
                    // A column, an alias or a table may be called format.
                    && (index == 0 || !is(index - 1, &["AS", "FROM", "JOIN", "."]))
                    && outside.get(index + 1).is_some_and(|(_, kind)| *kind == TokenKind::Word)
                    && (outside.len() == index + 2 || is(index + 2, &["SETTINGS", "INTO"]))
            })
            .map(|index| outside[index + 1].0);
        self.whole_result =
            (0..outside.len()).any(|index| is(index, &["TOTALS", "extremes", "output_format_json_array_of_rows"]));
    }
}

/// What a `SET a = 1, b = 'x'` sets, as it stands in the text; `None` where it is written in a way this does not know.
pub(crate) fn set_assignments(sql: &str) -> Option<Vec<(String, String)>> {
    let tokens: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Space).collect();
    let mut rest = tokens.iter().skip(1).peekable();
    let mut assignments = Vec::new();
    while let Some(name) = rest.next() {
        let mut name_text = name.text(sql).to_owned();
        let mut next = rest.next()?;
        while next.text(sql) == "." {
            name_text.push('.');
            name_text.push_str(rest.next()?.text(sql));
            next = rest.next()?;
        }
        if next.text(sql) != "=" {
            return None;
        }
        let start = rest.next()?;
        let mut end = start.range.end;
        let mut depth = usize::from(matches!(start.text(sql), "[" | "(" | "{"));
        while let Some(token) = rest.peek() {
            match token.text(sql) {
                "," | ";" if depth == 0 => break,
                "[" | "(" | "{" => depth += 1,
                "]" | ")" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            end = token.range.end;
            rest.next();
        }
        assignments.push((name_text, sql[start.range.start..end].to_owned()));
        match rest.next().map(|token| token.text(sql)) {
            Some(",") => {}
            Some(";") | None => return Some(assignments),
            Some(_) => return None,
        }
    }
    Some(assignments)
}

/// The value of a literal: the content of a quoted text, anything else as it stands.
pub(crate) fn unquote_literal(literal: &str) -> String {
    let Some(quote) = literal.chars().next().filter(|c| matches!(c, '\'' | '`' | '"')) else {
        return literal.to_owned();
    };
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some(escaped) => out.push(escaped),
                None => {}
            },
            c if c == quote => {
                // It is doubled inside.
                chars.next();
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// White space and comments.
    Space,
    /// A bare identifier or keyword.
    Word,
    /// A string, a quoted identifier, a number or a heredoc.
    Literal,
    Punctuation,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) range: Range<usize>,
}

impl Token {
    pub(crate) fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.range.clone()]
    }
}

/// The tokens of a text, none left out. An unclosed string or comment reaches to the end.
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    position: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, position: 0 }
    }

    /// The position after a quoted text that starts here; the quote is doubled or escaped inside.
    fn quoted(&self, quote: u8) -> usize {
        let bytes = self.sql.as_bytes();
        let mut at = self.position + 1;
        while at < bytes.len() {
            if bytes[at] == b'\\' {
                at += 2;
            } else if bytes[at] == quote {
                if bytes.get(at + 1) != Some(&quote) {
                    return at + 1;
                }
                at += 2;
            } else {
                at += 1;
            }
        }
        bytes.len()
    }

    fn to_line_end(&self) -> usize {
        self.sql[self.position..].find('\n').map_or(self.sql.len(), |length| self.position + length)
    }

    /// `$tag$ … $tag$`
    fn heredoc(&self) -> Option<usize> {
        let rest = &self.sql[self.position..];
        let tag_end = rest[1..].find('$')? + 2;
        let tag = &rest[..tag_end];
        if !tag[1..tag_end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        rest[tag_end..].find(tag).map(|at| self.position + tag_end + at + tag_end)
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.sql[self.position..];
        let first = rest.chars().next()?;
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let run = |test: &dyn Fn(char) -> bool| self.position + rest.find(|c: char| !test(c)).unwrap_or(rest.len());
        let (kind, end) = match first {
            c if c.is_whitespace() => (TokenKind::Space, run(&char::is_whitespace)),
            '-' if rest.starts_with("--") => (TokenKind::Space, self.to_line_end()),
            '#' if rest.starts_with("# ") || rest.starts_with("#!") => (TokenKind::Space, self.to_line_end()),
            '/' if rest.starts_with("/*") => {
                (TokenKind::Space, rest.find("*/").map_or(self.sql.len(), |length| self.position + length + 2))
            }
            '\'' | '"' | '`' => (TokenKind::Literal, self.quoted(first as u8)),
            '$' => match self.heredoc() {
                Some(end) => (TokenKind::Literal, end),
                None => (TokenKind::Punctuation, self.position + 1),
            },
            c if c.is_ascii_digit() => (TokenKind::Literal, run(&|c| word(c) || c == '.')),
            c if word(c) => (TokenKind::Word, run(&word)),
            c => (TokenKind::Punctuation, self.position + c.len_utf8()),
        };
        // An escape at the very end of the text reaches past it.
        let end = end.min(self.sql.len());
        let token = Token { kind, range: self.position..end };
        self.position = end;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_found_at_the_end_only() {
        let cases = [
            ("SELECT 1", None),
            ("SELECT 1 FORMAT JSON", Some("JSON")),
            ("select 1 format TSV;", Some("TSV")),
            ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1, log_comment = 'x'", Some("JSON")),
            ("SELECT 1 SETTINGS max_threads = 1 FORMAT JSON", Some("JSON")),
            ("SELECT format FROM t", None),
            ("SELECT a AS format, b FROM t", None),
            ("SELECT ' FORMAT JSON'", None),
            ("SELECT (SELECT 1) FORMAT CSV -- FORMAT TSV", Some("CSV")),
            ("SELECT format('{}', 1)", None),
            ("SHOW TABLES FORMAT TSVRaw", Some("TSVRaw")),
        ];
        for (sql, format) in cases {
            assert_eq!(Statement::read(sql).format, format, "{sql}");
        }
    }

    #[test]
    fn a_format_clause_is_taken_out() {
        let without = |sql: &str| Statement::read(sql).without_format(sql);
        assert_eq!(without("SELECT 1 FORMAT JSON SETTINGS a = 1"), "SELECT 1  SETTINGS a = 1");
        assert_eq!(without("SELECT 1"), "SELECT 1");
    }

    #[test]
    fn the_data_of_an_insert_is_found() {
        let cases = [
            ("INSERT INTO t FORMAT TSV\n1;2", Some("\n1;2")),
            ("INSERT INTO db.format (format, b) FORMAT CSV\n1", Some("\n1")),
            ("INSERT INTO t SETTINGS async_insert = 0 FORMAT RowBinary", Some("")),
            ("insert into t values (1), ('a;b')", Some(" (1), ('a;b')")),
            ("INSERT INTO t SELECT 1", None),
            ("INSERT INTO FUNCTION file('x', 'CSV') SELECT 1", None),
            ("INSERT INTO `a``b\\`` FORMAT TSV", Some("")),
        ];
        for (sql, data) in cases {
            assert_eq!(Statement::read(sql).data.map(|at| &sql[at..]), data, "{sql}");
        }
    }

    #[test]
    fn kinds_are_told_by_the_first_word() {
        let cases = [
            ("-- x\n SELECT 1", Kind::Select),
            ("((SELECT 1))", Kind::Select),
            ("/* ; */ WITH 1 AS a SELECT a", Kind::Select),
            ("explain select 1", Kind::Rows),
            ("CREATE TABLE t (a Int8)", Kind::Other),
            ("kill query where 1", Kind::Kill),
            (" -- nothing", Kind::Empty),
            ("", Kind::Empty),
        ];
        for (sql, kind) in cases {
            assert_eq!(Statement::read(sql).kind, kind, "{sql}");
        }
    }

    #[test]
    fn a_second_statement_is_seen() {
        assert!(Statement::read("SELECT 1; SELECT 2").several);
        assert!(!Statement::read("SELECT 1;").several);
        assert!(!Statement::read("SELECT ';'; -- end").several);
        assert!(!Statement::read("SELECT $x$ a; b $x$").several);
    }

    #[test]
    fn assignments_keep_their_text() {
        assert_eq!(
            set_assignments("SET a = 1, b='x, y', c = [1, 2]").unwrap(),
            [("a", "1"), ("b", "'x, y'"), ("c", "[1, 2]")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(set_assignments("SET ROLE x"), None);
    }
}
