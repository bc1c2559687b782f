//! Writes JSON as the API does: every scalar a string, UTF-8 as it is. In: names and values in order; out: text.

use std::fmt::{Display, Write as _};

/// Text under way; objects and arrays are closed by whoever opened them.
#[derive(Debug, Default)]
pub(super) struct Json {
    out: String,
    needs_comma: bool,
}

impl Json {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity), needs_comma: false }
    }

    pub(super) fn into_text(self) -> String {
        self.out
    }

    pub(super) fn open(&mut self, bracket: char) -> &mut Self {
        self.comma();
        self.out.push(bracket);
        self.needs_comma = false;
        self
    }

    pub(super) fn close(&mut self, bracket: char) -> &mut Self {
        self.out.push(bracket);
        self.needs_comma = true;
        self
    }

    pub(super) fn key(&mut self, name: &str) -> &mut Self {
        self.comma();
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        self.needs_comma = false;
        self
    }

    /// A string member.
    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.key(name);
        self.out.push('"');
        for c in value.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                c if c < ' ' => _ = write!(self.out, "\\u{:04x}", u32::from(c)),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        self.needs_comma = true;
        self
    }

    /// A member that is written as a string, of something that needs no escapes.
    pub(super) fn value(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.key(name);
        _ = write!(self.out, "\"{value}\"");
        self.needs_comma = true;
        self
    }

    pub(super) fn null(&mut self, name: &str) -> &mut Self {
        self.key(name);
        self.out.push_str("null");
        self.needs_comma = true;
        self
    }

    fn comma(&mut self) {
        if self.needs_comma {
            self.out.push(',');
        }
    }
}
