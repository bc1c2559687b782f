//! Splits a file into its top-level blocks: `{% macro %}`, `{% test %}`, `{% materialization %}`, `{% snapshot %}`,
//! `{% docs %}` and the text between them.

use super::RenderError;
use crate::error::Location;

/// What kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    Macro,
    /// `{% test %}` and `{% data_test %}`.
    Test,
    Materialization,
    Snapshot,
    Docs,
}

/// A parameter of a macro or test as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    /// The type annotation, where there is one: `name: string`.
    pub annotation: Option<String>,
    /// The source of its default.
    pub default: Option<String>,
}

/// One top-level block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'a> {
    pub kind: BlockKind,
    pub name: String,
    pub arguments: Vec<Argument>,
    /// Materializations: the adapter, `default` where none is named.
    pub adapter: Option<String>,
    /// Materializations: `supported_languages`.
    pub languages: Vec<String>,
    /// From the opening tag to the closing one, both included, with the space around them that a `-` takes away: dbt's
    /// `macro_sql`.
    pub source: &'a str,
    /// What is between the tags, before whitespace control.
    pub body: &'a str,
    /// Byte offset of `source` and of `body` in the file.
    pub offset: usize,
    pub body_offset: usize,
    /// The lines of the first byte of `source`, of the opening tag and of the body's first byte, from 1.
    pub source_line: usize,
    pub line: usize,
    pub body_line: usize,
}

impl Block<'_> {
    /// The name under which dbt registers it: `test_unique`, `materialization_view_clickhouse`, otherwise the name.
    pub fn macro_name(&self) -> String {
        match self.kind {
            BlockKind::Test => format!("test_{}", self.name),
            BlockKind::Materialization => {
                format!("materialization_{}_{}", self.name, self.adapter.as_deref().unwrap_or("default"))
            }
            BlockKind::Macro | BlockKind::Snapshot | BlockKind::Docs => self.name.clone(),
        }
    }
}

/// The top-level blocks of a file, in order.
///
/// # Errors
/// A block is not closed, closed by another's end tag, or its opening tag is malformed; with the place.
pub fn split_blocks<'a>(text: &'a str, path: &str) -> Result<Vec<Block<'a>>, RenderError> {
    let mut blocks = Vec::new();
    let mut open: Option<Tag<'a>> = None;
    let mut control: Vec<Tag<'a>> = Vec::new();
    let mut lines = LineCounter { text, offset: 0, line: 1 };
    // Where the tag before ends.
    let mut taken = 0;
    let fail = |message: String, at: usize| parsing_error(message, text, path, at);
    for tag in Tags::new(text) {
        let mut tag = tag.map_err(|(message, at)| fail(message, at))?;
        tag.taken = taken;
        taken = tag.whole_end(text);
        match tag.name {
            "if" | "for" => control.push(tag),
            "endif" | "endfor" => {
                let wanted = &tag.name[3..];
                match control.pop() {
                    Some(opened) if opened.name == wanted => {}
                    Some(opened) => {
                        let message = format!("found {{% {} %}} where {{% end{} %}} was due", tag.name, opened.name);
                        return Err(fail(message, tag.start));
                    }
                    None => {
                        let message = format!("found {{% {} %}} without a {{% {wanted} %}} before it", tag.name);
                        return Err(fail(message, tag.start));
                    }
                }
            }
            _ => {}
        }
        if kind_of(tag.name).is_some() {
            if let Some(outer) = &open {
                let message = format!(
                    "found {{% {} %}} inside {{% {} %}}, which has no {{% end{} %}} before it",
                    tag.name, outer.name, outer.name
                );
                return Err(fail(message, tag.start));
            }
            if !control.is_empty() {
                let message = format!("{{% {} %}} must stand at the top level, not inside control flow", tag.name);
                return Err(fail(message, tag.start));
            }
            open = Some(tag);
        } else if let Some(opened) = &open
            && tag.name.strip_prefix("end") == Some(opened.name)
        {
            let line = lines.at(opened.start);
            let body_line = lines.at(opened.end);
            blocks.push(block(text, opened, &tag, line, body_line).map_err(|message| fail(message, opened.start))?);
            open = None;
        }
    }
    if let Some(opened) = open {
        let message = format!("reached the end of the file without a {{% end{} %}}", opened.name);
        return Err(fail(message, opened.start));
    }
    Ok(blocks)
}

/// Counts lines while it walks forward.
struct LineCounter<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl LineCounter<'_> {
    fn at(&mut self, offset: usize) -> usize {
        if offset >= self.offset {
            self.line += memchr::memchr_iter(b'\n', &self.text.as_bytes()[self.offset..offset]).count();
            self.offset = offset;
            return self.line;
        }
        1 + memchr::memchr_iter(b'\n', &self.text.as_bytes()[..offset]).count()
    }
}

fn kind_of(tag: &str) -> Option<BlockKind> {
    Some(match tag {
        "macro" => BlockKind::Macro,
        "test" | "data_test" => BlockKind::Test,
        "materialization" => BlockKind::Materialization,
        "snapshot" => BlockKind::Snapshot,
        "docs" => BlockKind::Docs,
        _ => return None,
    })
}

fn block<'a>(
    text: &'a str,
    open: &Tag<'a>,
    close: &Tag<'a>,
    line: usize,
    body_line: usize,
) -> Result<Block<'a>, String> {
    let kind = kind_of(open.name).ok_or("not a block")?;
    let (name, rest) = split_name(open.content);
    if name.is_empty() {
        return Err(format!("{{% {} %}} needs a name", open.name));
    }
    let mut arguments = Vec::new();
    let mut adapter = None;
    let mut languages = Vec::new();
    match kind {
        BlockKind::Macro | BlockKind::Test => {
            let inside = rest
                .trim()
                .strip_prefix('(')
                .and_then(|rest| rest.strip_suffix(')'))
                .ok_or_else(|| format!("{{% {} {name} %}} needs its arguments in parentheses", open.name))?;
            for part in split_commas(inside) {
                arguments.push(argument(part).ok_or_else(|| format!("`{part}` is not an argument of `{name}`"))?);
            }
        }
        BlockKind::Materialization => {
            languages.push("sql".to_owned());
            for part in split_commas(rest.trim().trim_start_matches(',')) {
                let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
                match key {
                    "default" => {}
                    "adapter" => adapter = Some(value.trim_matches(['\'', '"']).to_owned()),
                    "supported_languages" => {
                        languages = value
                            .trim_matches(['[', ']', '(', ')'])
                            .split(',')
                            .map(|language| language.trim().trim_matches(['\'', '"']).to_owned())
                            .filter(|language| !language.is_empty())
                            .collect();
                    }
                    other => return Err(format!("materialization `{name}` has an unknown argument `{other}`")),
                }
            }
        }
        BlockKind::Snapshot | BlockKind::Docs => {}
    }
    let mut body_offset = open.end;
    let mut body = &text[open.end..close.start];
    if open.trims_after {
        let trimmed = body.trim_start();
        body_offset += body.len() - trimmed.len();
        body = trimmed;
    }
    if close.trims_before {
        body = body.trim_end();
    }
    let body_line = body_line + text[open.end..body_offset].matches('\n').count();
    let start = open.whole_start(text);
    Ok(Block {
        kind,
        name: name.to_owned(),
        arguments,
        adapter,
        languages,
        source: &text[start..close.whole_end(text)],
        body,
        offset: start,
        body_offset,
        source_line: line - text[start..open.start].matches('\n').count(),
        line,
        body_line,
    })
}

fn split_name(content: &str) -> (&str, &str) {
    let content = content.trim();
    let end = content.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(content.len());
    content.split_at(end)
}

/// `name`, `name=default`, `name: type = default`.
fn argument(part: &str) -> Option<Argument> {
    let (name, rest) = split_name(part);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim();
    let (annotation, default) = match rest.strip_prefix(':') {
        Some(rest) => match rest.split_once('=') {
            Some((annotation, default)) => (Some(annotation.trim()), Some(default.trim())),
            None => (Some(rest.trim()), None),
        },
        None if rest.is_empty() => (None, None),
        None => (None, Some(rest.strip_prefix('=')?.trim())),
    };
    Some(Argument {
        name: name.to_owned(),
        annotation: annotation.map(str::to_owned),
        default: default.map(str::to_owned),
    })
}

/// Splits at commas that stand outside of brackets and strings; empty parts are left out.
pub(super) fn split_commas(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let (mut depth, mut start, mut index) = (0i32, 0, 0);
    while index < bytes.len() {
        match bytes[index] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'\'' | b'"' => index = string_end(bytes, index).saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
        index += 1;
    }
    parts.push(text[start.min(text.len())..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The offset after the string literal that begins at `start`; the end of the text where it is not closed.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut index = start + 1;
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => index += 1,
            byte if byte == quote => return index + 1,
            _ => {}
        }
        index += 1;
    }
    bytes.len()
}

/// One `{% … %}`.
#[derive(Debug, Clone, Copy)]
struct Tag<'a> {
    name: &'a str,
    /// What follows the name.
    content: &'a str,
    start: usize,
    end: usize,
    trims_before: bool,
    trims_after: bool,
    /// Where the tag before it ends, with its space.
    taken: usize,
}

impl Tag<'_> {
    /// Where the space begins that it takes away before itself.
    fn whole_start(&self, text: &str) -> usize {
        if self.trims_before { self.taken + text[self.taken..self.start].trim_end().len() } else { self.start }
    }

    /// Where the space ends that it takes away after itself.
    fn whole_end(&self, text: &str) -> usize {
        let rest = &text[self.end..];
        if self.trims_after { text.len() - rest.trim_start().len() } else { self.end }
    }
}

/// The statement tags of a text; comments, expressions and raw blocks are skipped.
struct Tags<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Tags<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// The offset of `close` outside of string literals, from `from` on.
    fn find_close(&self, from: usize, close: &[u8]) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let (mut index, mut depth) = (from, 0usize);
        while index < bytes.len() {
            match bytes[index] {
                b'\'' | b'"' => {
                    index = string_end(bytes, index);
                    continue;
                }
                // `{{ {'a': {}} }}`: the braces of dicts do not close the expression.
                b'{' => depth += 1,
                b'}' if depth > 0 => depth -= 1,
                byte if byte == close[0] && bytes[index..].starts_with(close) => return Some(index),
                _ => {}
            }
            index += 1;
        }
        None
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Result<Tag<'a>, (String, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        loop {
            let start = self.position + memchr::memchr(b'{', &bytes[self.position..])?;
            match bytes.get(start + 1) {
                Some(b'#') => match self.text[start + 2..].find("#}") {
                    Some(length) => self.position = start + 2 + length + 2,
                    None => {
                        self.position = bytes.len();
                        return Some(Err(("Missing end of comment tag".into(), start)));
                    }
                },
                Some(b'{') => match self.find_close(start + 2, b"}}") {
                    Some(end) => self.position = end + 2,
                    None => {
                        self.position = bytes.len();
                        return Some(Err(("the expression has no closing }}".into(), start)));
                    }
                },
                Some(b'%') => {
                    let Some(end) = self.find_close(start + 2, b"%}") else {
                        self.position = bytes.len();
                        return Some(Err(("the tag has no closing %}".into(), start)));
                    };
                    self.position = end + 2;
                    let inside = &self.text[start + 2..end];
                    let trims_before = inside.starts_with('-');
                    let trims_after = inside.ends_with('-') && inside.len() > 1;
                    let inside = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
                    let (name, content) = split_name(inside);
                    if name == "raw" {
                        match find_end_raw(&self.text[self.position..]) {
                            Some(length) => self.position += length,
                            None => {
                                self.position = bytes.len();
                                return Some(Err(("Missing end of raw directive".into(), start)));
                            }
                        }
                        continue;
                    }
                    return Some(Ok(Tag { name, content, start, end: end + 2, trims_before, trims_after, taken: 0 }));
                }
                _ => self.position = start + 1,
            }
        }
    }
}

/// The offset after `{% endraw %}`.
fn find_end_raw(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(start) = text[from..].find("{%") {
        let start = from + start;
        let end = start + text[start..].find("%}")? + 2;
        if text[start + 2..end - 2].trim_matches(['-', '+']).trim() == "endraw" {
            return Some(end);
        }
        from = start + 2;
    }
    None
}

/// Why a template does not parse, where the nesting of its tags tells: message, line from 1, column from 0. In Jinja2's
/// words, which dbt users know.
pub(super) fn diagnose(text: &str) -> Option<(String, usize, usize)> {
    let mut open: Vec<Tag<'_>> = Vec::new();
    let place = |message: String, at: usize| {
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        Some((message, line, before.rsplit('\n').next().unwrap_or_default().chars().count()))
    };
    let ends = |opened: &Tag<'_>| match opened.name {
        "if" => "'elif' or 'else' or 'endif'".to_owned(),
        "for" => "'endfor' or 'else'".to_owned(),
        name => format!("'end{name}'"),
    };
    for tag in Tags::new(text) {
        let tag = match tag {
            Ok(tag) => tag,
            // The parser words what is wrong inside of a tag better.
            Err((message, at)) if message.starts_with("Missing") => return place(message, at),
            Err(_) => return None,
        };
        match tag.name {
            "if" | "for" | "macro" | "call" | "filter" | "with" | "autoescape" | "block" | "snapshot" | "test"
            | "data_test" | "materialization" | "docs" => open.push(tag),
            "set" if !tag.content.contains('=') => open.push(tag),
            "set" | "do" | "break" | "continue" | "include" | "import" | "from" | "extends" => {}
            "elif" | "else" if open.last().is_some_and(|opened| matches!(opened.name, "if" | "for")) => {}
            name if name
                .strip_prefix("end")
                .is_some_and(|name| open.last().is_some_and(|opened| opened.name == name)) =>
            {
                open.pop();
            }
            name => {
                let mut message = format!("Encountered unknown tag '{name}'.");
                if let Some(opened) = open.last() {
                    message.push_str(&format!(
                        " Jinja was looking for the following tags: {}. The innermost block that needs to be closed is '{}'.",
                        ends(opened),
                        opened.name
                    ));
                }
                return place(message, tag.start);
            }
        }
    }
    let opened = open.last()?;
    let message = format!(
        "Unexpected end of template. Jinja was looking for the following tags: {}. The innermost block that needs to be \
         closed is '{}'.",
        ends(opened),
        opened.name
    );
    place(message, opened.start)
}

fn parsing_error(message: String, text: &str, path: &str, at: usize) -> RenderError {
    let before = &text[..at];
    let line = before.matches('\n').count();
    let mut location =
        Location::line(path, line + 1, Some(before.rsplit('\n').next().unwrap_or_default().chars().count() + 1));
    location.source_line = text.lines().nth(line).map(str::to_owned);
    let mut error = RenderError::compilation(message);
    error.location = Some(Box::new(location));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, arguments, bodies and lines come out as they stand in the file.
    #[test]
    fn splits_a_file_of_macros() {
        let text = "{# a #}\n{% macro one(a, b='x,)', c: string = none) -%}\n  body %}\n{%- endmacro %}\n\n\
                    {% test positive(model, column_name) %}select 1{% endtest %}\n\
                    {% materialization mine, adapter='clickhouse', supported_languages=['sql', 'python'] %}x{% endmaterialization %}\n\
                    {% raw %}{% macro no() %}{% endraw %}{{ '{% macro no() %}' }}\n{% docs d %}text{% enddocs %}";
        let blocks = split_blocks(text, "macros/x.sql").unwrap();
        let names: Vec<_> = blocks.iter().map(Block::macro_name).collect();
        assert_eq!(names, ["one", "test_positive", "materialization_mine_clickhouse", "d"]);
        assert_eq!(blocks[0].body, "body %}");
        assert_eq!((blocks[0].line, blocks[0].body_line), (2, 3));
        assert_eq!(blocks[0].arguments[1].default.as_deref(), Some("'x,)'"));
        assert_eq!(blocks[0].arguments[2].annotation.as_deref(), Some("string"));
        assert_eq!(blocks[2].languages, ["sql", "python"]);
        assert_eq!(blocks[3].body, "text");
    }

    /// The tag that is not closed is named with its line.
    #[test]
    fn an_unclosed_block_is_an_error() {
        let error = split_blocks("\n{% macro a() %}x", "m.sql").unwrap_err();
        assert_eq!(error.location().unwrap().line, Some(2));
        assert!(split_blocks("{% if x %}{% macro a() %}x{% endmacro %}{% endif %}", "m.sql").is_err());
        assert!(split_blocks("{% macro a() %}{% macro b() %}x{% endmacro %}", "m.sql").is_err());
    }
}
