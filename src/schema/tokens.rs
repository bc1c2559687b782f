//! SQL text as tokens: words, quoted identifiers, strings, numbers and symbols, each with its place. Enough to find the
//! clauses of the canonical text that ClickHouse itself writes; it is no SQL parser.

/// One token of a text that its owner keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    kind: Kind,
    /// Byte offsets in the text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    QuotedIdentifier,
    String,
    Number,
    Symbol,
}

/// All tokens of a text; comments are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    pub(crate) list: Vec<Token>,
}

/// A quote or comment without an end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not closed, from character {at} on")]
pub(crate) struct TokenError {
    what: &'static str,
    at: usize,
}

impl Token {
    pub(crate) fn source<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start..self.end]
    }

    /// A word or quoted identifier as a name.
    pub(crate) fn identifier(&self, text: &str) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.source(text).to_owned()),
            Kind::QuotedIdentifier => Some(unescape(&text[self.start + 1..self.end - 1])),
            _ => None,
        }
    }

    /// A string literal's value.
    pub(crate) fn string(&self, text: &str) -> Option<String> {
        (self.kind == Kind::String).then(|| unescape(&text[self.start + 1..self.end - 1]))
    }

    /// Whether it is this keyword (never a quoted identifier).
    pub(crate) fn is_keyword(&self, text: &str, keyword: &str) -> bool {
        self.kind == Kind::Word && self.source(text).eq_ignore_ascii_case(keyword)
    }

    pub(crate) fn is_symbol(&self, text: &str, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.source(text) == symbol
    }
}

impl Tokens {
    /// Splits a text.
    ///
    /// # Errors
    /// A quote or comment is not closed.
    pub(crate) fn of(text: &str) -> Result<Self, TokenError> {
        let bytes = text.as_bytes();
        let mut list = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            let kind = match bytes[at] {
                c if c.is_ascii_whitespace() => {
                    at += 1;
                    continue;
                }
                b'-' if bytes.get(at + 1) == Some(&b'-') => {
                    at = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length);
                    continue;
                }
                b'/' if bytes.get(at + 1) == Some(&b'*') => {
                    let close = text[at..].find("*/").ok_or(TokenError { what: "a comment", at: start })?;
                    at += close + 2;
                    continue;
                }
                b'\'' => {
                    at = quoted_end(bytes, at).ok_or(TokenError { what: "a string", at: start })?;
                    Kind::String
                }
                quote @ (b'`' | b'"') => {
                    let what = if quote == b'`' { "a backtick" } else { "a double quote" };
                    at = quoted_end(bytes, at).ok_or(TokenError { what, at: start })?;
                    Kind::QuotedIdentifier
                }
                c if c.is_ascii_digit() => {
                    while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'.') {
                        at += 1;
                    }
                    Kind::Number
                }
                c if c.is_ascii_alphabetic() || c == b'_' || c == b'$' || c >= 0x80 => {
                    while at < bytes.len()
                        && (bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'_' | b'$') || bytes[at] >= 0x80)
                    {
                        at += 1;
                    }
                    Kind::Word
                }
                _ => {
                    at += 1;
                    Kind::Symbol
                }
            };
            list.push(Token { kind, start, end: at });
        }
        Ok(Self { list })
    }
}

/// The first words of a statement in capitals; quoted names and other tokens are left out.
pub fn keywords(text: &str, most: usize) -> Vec<String> {
    let Ok(tokens) = Tokens::of(text) else { return Vec::new() };
    let words = tokens.list.iter().filter(|token| token.kind == Kind::Word);
    words.take(most).map(|token| token.source(text).to_ascii_uppercase()).collect()
}

/// The statements of a script, each with the comments before it; empty ones are left out.
///
/// # Errors
/// A quote or comment is not closed; the text says where.
pub fn split_statements(text: &str) -> Result<Vec<String>, String> {
    let tokens = Tokens::of(text).map_err(|error| error.to_string())?;
    let mut statements = Vec::new();
    let mut start = 0;
    let mut first_token = None;
    for token in &tokens.list {
        if token.is_symbol(text, ";") {
            if first_token.is_some() {
                statements.push(text[start..token.start].trim().to_owned());
            }
            (start, first_token) = (token.end, None);
        } else if first_token.is_none() {
            first_token = Some(token.start);
        }
    }
    if first_token.is_some() {
        statements.push(text[start..].trim().to_owned());
    }
    Ok(statements)
}

/// The offset after the closing quote; backslash and doubled quotes escape.
fn quoted_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            c if c == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            c if c == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut characters = raw.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('0') => out.push('\0'),
                Some('b') => out.push('\u{8}'),
                Some('f') => out.push('\u{c}'),
                Some(other) => out.push(other),
                None => {}
            },
            '\'' | '`' | '"' if characters.peek() == Some(&c) => {
                characters.next();
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_words_are_told_apart() {
        let text = "SELECT `a``b`, 'it\\'s', 1.5e3 -- end\n/* x */ FROM \"t\"";
        let tokens = Tokens::of(text).unwrap().list;
        let sources: Vec<_> = tokens.iter().map(|token| token.source(text)).collect();
        assert_eq!(sources, ["SELECT", "`a``b`", ",", "'it\\'s'", ",", "1.5e3", "FROM", "\"t\""]);
        assert_eq!(tokens[1].identifier(text).unwrap(), "a`b");
        assert_eq!(tokens[3].string(text).unwrap(), "it's");
    }

    #[test]
    fn scripts_split_at_semicolons_outside_of_text_and_comments() {
        let script = "-- one; comment\nSELECT ';' ; ;\n/* ; */ INSERT INTO t VALUES ('a;b');\n-- the end\n";
        assert_eq!(
            split_statements(script).unwrap(),
            ["-- one; comment\nSELECT ';'", "/* ; */ INSERT INTO t VALUES ('a;b')"]
        );
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert!(Tokens::of("select 'a").is_err());
        assert!(Tokens::of("select /* a").is_err());
    }
}
