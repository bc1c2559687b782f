//! A pull scanner over the bytes of one JSON document: borrows strings, copies only those with escapes, and skips what
//! nobody asked for without building it. In: bytes that are UTF-8; out: keys, texts, slices. It knows nothing of pages.
//!
//! Accepts what RFC 8259 does, nested 128 deep at most.

use std::borrow::Cow;

const MAX_DEPTH: u32 = 128;

/// Where a document stops being JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct SyntaxError {
    pub reason: &'static str,
    pub offset: usize,
}

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "a list",
            Self::String => "a text",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

/// The name of a field, ready to be compared eight bytes at once.
#[derive(Debug, Clone)]
pub(super) struct Name {
    text: String,
    start: u64,
    mask: u64,
}

impl Name {
    pub(super) fn new(text: &str) -> Self {
        let (mut start, mut mask) = ([0; 8], [0; 8]);
        for (index, byte) in text.bytes().take(8).enumerate() {
            (start[index], mask[index]) = (byte, 0xff);
        }
        Self { text: text.to_owned(), start: u64::from_le_bytes(start), mask: u64::from_le_bytes(mask) }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// A position in a document.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    position: usize,
    depth: u32,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0, depth: 0 }
    }

    /// The kind of the next value; nothing is consumed but white space.
    #[inline]
    pub(super) fn kind(&mut self) -> Result<Kind, SyntaxError> {
        self.space();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("a value was expected")),
            None => Err(self.error("the document ends too early")),
        }
    }

    /// Steps into an object: call [`Scanner::next_key`] until it answers `None`, and read one value after each key.
    pub(super) fn enter_object(&mut self) -> Result<(), SyntaxError> {
        self.enter(b'{', "an object was expected")
    }

    /// Steps into a list: call [`Scanner::next_item`] until it answers false, and read one value each time.
    pub(super) fn enter_array(&mut self) -> Result<(), SyntaxError> {
        self.enter(b'[', "a list was expected")
    }

    /// The next key of the object; `first` on the first call.
    pub(super) fn next_key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, SyntaxError> {
        if self.next_member(first)? { self.key().map(Some) } else { Ok(None) }
    }

    /// Whether the object has another member, whose key comes next; `first` on the first call.
    pub(super) fn next_member(&mut self, first: &mut bool) -> Result<bool, SyntaxError> {
        self.more(b'}', first)
    }

    /// The key of a member.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let key = self.string()?;
        self.space();
        self.expect(b':', "a colon was expected")?;
        Ok(key)
    }

    /// Consumes the key of a member if it is `name`, written without escapes; else nothing.
    #[inline]
    pub(super) fn is_key(&mut self, name: &Name) -> Result<bool, SyntaxError> {
        self.space();
        let bytes = &self.text.as_bytes()[self.position..];
        let is_it = match bytes.get(1..).and_then(<[u8]>::first_chunk) {
            // A value comes after the key, so that there nearly always are eight more bytes.
            Some(chunk) => {
                bytes[0] == b'"'
                    && u64::from_le_bytes(*chunk) & name.mask == name.start
                    && (name.text.len() <= 8 || bytes[9..].starts_with(&name.text.as_bytes()[8..]))
                    && bytes.get(name.text.len() + 1) == Some(&b'"')
            }
            None => bytes
                .strip_prefix(b"\"")
                .and_then(|rest| rest.strip_prefix(name.text.as_bytes()))
                .is_some_and(|rest| rest.first() == Some(&b'"')),
        };
        if is_it {
            self.position += name.text.len() + 2;
            self.space();
            self.expect(b':', "a colon was expected")?;
        }
        Ok(is_it)
    }

    /// Whether the list has another value; `first` on the first call.
    pub(super) fn next_item(&mut self, first: &mut bool) -> Result<bool, SyntaxError> {
        self.more(b']', first)
    }

    /// A text without escapes; nothing is consumed but white space where there is none.
    ///
    /// It answers in two registers: the larger answer of [`Scanner::string`] goes through memory, which costs more than
    /// the scan of a short text.
    #[inline]
    pub(super) fn plain_string(&mut self) -> Option<&'a str> {
        self.space();
        let bytes = self.text.as_bytes();
        if self.byte() != Some(b'"') {
            return None;
        }
        let start = self.position + 1;
        let mut end = start;
        while let Some(chunk) = bytes.get(end..).and_then(<[u8]>::first_chunk) {
            match special(u64::from_le_bytes(*chunk)) {
                0 => end += 8,
                mask => {
                    end += mask.trailing_zeros() as usize / 8;
                    break;
                }
            }
        }
        // The last bytes of a document are no chunk.
        while bytes.get(end).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            end += 1;
        }
        if bytes.get(end) != Some(&b'"') {
            return None;
        }
        self.position = end + 1;
        Some(&self.text[start..end])
    }

    /// A text, borrowed where it has no escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        if let Some(text) = self.plain_string() {
            return Ok(Cow::Borrowed(text));
        }
        self.expect(b'"', "a text was expected")?;
        let start = self.position;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.position) {
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0..0x20) => return Err(self.error("a control character in a text")),
                // The quote cannot be here: the text would have been plain.
                Some(_) => self.position += 1,
                None => return Err(self.error("the document ends within a text")),
            }
        }
    }

    /// Skips a value and answers its text as it stands in the document.
    pub(super) fn raw(&mut self) -> Result<&'a str, SyntaxError> {
        self.space();
        let start = self.position;
        self.skip()?;
        Ok(&self.text[start..self.position])
    }

    /// Skips a value; it must be valid all the same.
    pub(super) fn skip(&mut self) -> Result<(), SyntaxError> {
        match self.kind()? {
            Kind::String => self.string().map(drop),
            Kind::Number => self.number(),
            Kind::Bool if self.byte() == Some(b't') => self.word("true"),
            Kind::Bool => self.word("false"),
            Kind::Null => self.null(),
            Kind::Object => {
                self.enter_object()?;
                let mut first = true;
                while self.next_key(&mut first)?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Kind::Array => {
                self.enter_array()?;
                let mut first = true;
                while self.next_item(&mut first)? {
                    self.skip()?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn null(&mut self) -> Result<(), SyntaxError> {
        self.word("null")
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), SyntaxError> {
        self.space();
        if self.position == self.text.len() { Ok(()) } else { Err(self.error("text after the document")) }
    }

    /// Where the next byte is.
    pub(super) fn position(&mut self) -> usize {
        self.space();
        self.position
    }

    /// The document between two positions.
    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }

    /// The position right after what was read last.
    pub(super) fn after(&self) -> usize {
        self.position
    }

    fn enter(&mut self, open: u8, reason: &'static str) -> Result<(), SyntaxError> {
        self.space();
        self.expect(open, reason)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.error("nested too deep")) } else { Ok(()) }
    }

    #[inline]
    fn more(&mut self, close: u8, first: &mut bool) -> Result<bool, SyntaxError> {
        self.space();
        let was_first = std::mem::replace(first, false);
        match self.byte() {
            Some(byte) if byte == close => {
                self.position += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if !was_first => {
                self.position += 1;
                Ok(true)
            }
            Some(_) if was_first => Ok(true),
            Some(_) => Err(self.error("a comma was expected")),
            None => Err(self.error("the document ends too early")),
        }
    }

    /// The rest of a text from its first backslash on.
    fn escaped(&mut self, start: usize) -> Result<String, SyntaxError> {
        let mut out = self.text[start..self.position].to_owned();
        let mut plain = self.position;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.position) {
                Some(b'"') => {
                    out.push_str(&self.text[plain..self.position]);
                    self.position += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[plain..self.position]);
                    self.position += 1;
                    out.push(self.escape()?);
                    plain = self.position;
                }
                Some(0..0x20) => return Err(self.error("a control character in a text")),
                Some(_) => self.position += 1,
                None => return Err(self.error("the document ends within a text")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let byte = self.byte().ok_or_else(|| self.error("the document ends within a text"))?;
        self.position += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                let code = match high {
                    0xD800..=0xDBFF => {
                        if !self.text[self.position..].starts_with("\\u") {
                            return Err(self.error("half of a surrogate pair"));
                        }
                        self.position += 2;
                        let low = self.hex()?;
                        if !(0xDC00..=0xDFFF).contains(&low) {
                            return Err(self.error("half of a surrogate pair"));
                        }
                        0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
                    }
                    code => code,
                };
                char::from_u32(code).ok_or_else(|| self.error("half of a surrogate pair"))?
            }
            _ => return Err(self.error("an unknown escape")),
        })
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.text.as_bytes().get(self.position..self.position + 4);
        let mut code = 0;
        for &digit in digits.ok_or_else(|| self.error("the document ends within a text"))? {
            let digit = char::from(digit).to_digit(16).ok_or_else(|| self.error("four hex digits were expected"))?;
            code = code * 16 + digit;
        }
        self.position += 4;
        Ok(code)
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.byte() == Some(b'-') {
            self.position += 1;
        }
        match self.byte() {
            Some(b'0') => self.position += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("a digit was expected")),
        }
        if self.byte() == Some(b'.') {
            self.position += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.position += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.position += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.position;
        self.digits();
        if self.position == start { Err(self.error("a digit was expected")) } else { Ok(()) }
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.byte() {
            self.position += 1;
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        if self.text.as_bytes()[self.position..].starts_with(word.as_bytes()) {
            self.position += word.len();
            Ok(())
        } else {
            Err(self.error("a value was expected"))
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), SyntaxError> {
        match self.byte() {
            Some(found) if found == byte => {
                self.position += 1;
                Ok(())
            }
            Some(_) => Err(self.error(reason)),
            None => Err(self.error("the document ends too early")),
        }
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.position += 1;
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn error(&self, reason: &'static str) -> SyntaxError {
        SyntaxError { reason, offset: self.position }
    }
}

/// The high bit of each byte that is a quote, a backslash or a control character; of the bytes behind the first of them
/// some more may be marked.
#[inline]
fn special(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & HIGH;
    let below_space = bytes.wrapping_sub(ONES * 0x20) & !bytes & HIGH;
    zero(bytes ^ (ONES * b'"' as u64)) | zero(bytes ^ (ONES * b'\\' as u64)) | below_space
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_valid(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip().and_then(|()| scanner.end()).is_ok()
    }

    #[test]
    fn it_accepts_what_serde_json_accepts() {
        for text in [
            "{}",
            "[]",
            " [1, 2.5e-3 ,-0, true,false,null] ",
            "{\"a\":{\"b\":[\"\\u00e9\\ud83d\\ude00\\n\"]}}",
            "",
            "{",
            "[1,]",
            "{\"a\":}",
            "{\"a\" 1}",
            "01",
            "1.",
            "-",
            "1e",
            "tru",
            "nul",
            "\"\\x\"",
            "\"\\ud83d\"",
            "\"\u{1}\"",
            "\"abc",
            "[1 2]",
            "{,}",
            "{\"a\":1,}",
            "1 2",
            "+1",
            ".5",
            "\"é\"",
            "{\"a\":1 \"b\":2}",
            "[\"\\u12\"]",
        ] {
            assert_eq!(is_valid(text), serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
        assert!(!is_valid(&"[".repeat(200_000)));
    }

    #[test]
    fn a_key_is_recognized_whatever_its_length() {
        for name in ["", "a", "time", "driverId", "positions", "ConstructorStandings"] {
            for other in ["", "a", "b", "tim", "times", "driverId", "driverIds", "position", "ConstructorStandingz"] {
                for rest in ["1}", " : \"a longer value\"}"] {
                    let json = format!("\"{other}\"{}{rest}", if rest.starts_with(' ') { "" } else { ":" });
                    let mut scanner = Scanner::new(&json);
                    assert_eq!(scanner.is_key(&Name::new(name)).unwrap(), name == other, "{name} in {json}");
                    assert_eq!(scanner.after() == 0, name != other);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn texts_survive(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(Scanner::new(&json).string().unwrap(), text);
        }

        #[test]
        fn it_agrees_with_serde_json_on_any_text(text in "[\\[\\]{}:,\"\\\\a-fnrtu0-9eE+.\\- ]{0,24}") {
            prop_assert_eq!(is_valid(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
