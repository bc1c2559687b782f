//! Error to text: what failed, where, why, what to do. In: an [`Error`]; out: lines on stderr through the printer.
//! It decides no exit code and knows no module's details.

use std::error::Error as _;
use std::fmt::Write as _;

use crate::{Error, printer::Printer};

/// Prints the whole error to stderr.
pub fn report(error: &Error, printer: &Printer) {
    printer.error_text(&text(error));
}

/// The error as the user reads it.
pub fn text(error: &Error) -> String {
    let mut out = format!("error: {error}\n");
    if let Some(location) = error.location() {
        let path = location.path.display();
        match (location.line, location.column) {
            (Some(line), Some(column)) => _ = writeln!(out, "  --> {path}:{line}:{column}"),
            (Some(line), None) => _ = writeln!(out, "  --> {path}:{line}"),
            _ => _ = writeln!(out, "  --> {path}"),
        }
        if let (Some(line), Some(source)) = (location.line, &location.source_line) {
            let gutter = " ".repeat(line.to_string().len());
            _ = writeln!(out, "{gutter} |\n{line} | {source}");
            if let Some(column) = location.column {
                let indent: String =
                    source.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                _ = writeln!(out, "{gutter} | {indent}{}", "^".repeat(location.width.max(1)));
            }
        }
    }
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent wrapper, or a library that embeds its source, has already said this.
        if !said.ends_with(&message) {
            let mut lines = message.trim_end().lines();
            _ = writeln!(out, "  Caused by: {}", lines.next().unwrap_or_default());
            for line in lines {
                _ = writeln!(out, "    {line}");
            }
        }
        said = message;
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        _ = write!(out, "\nhint: {hint}\n");
    }
    out
}
