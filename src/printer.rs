//! The only stdout and stderr: data to stdout, progress and messages to stderr, tables, bars. A broken pipe is no
//! error. It knows nothing of what it prints.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    cli::{GlobalArgs, LogFormat},
    observe::json_line,
};

/// Where all text of a command goes.
#[derive(Debug, Clone)]
pub struct Printer {
    quiet: bool,
    color: bool,
    json: bool,
    progress: MultiProgress,
}

impl Printer {
    /// A printer for these flags; bars are drawn on a terminal only.
    pub fn new(global: &GlobalArgs) -> Self {
        let json = global.log_format == LogFormat::Json;
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal && !global.quiet && !json {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let color = !global.no_use_colors && (global.use_colors || std::io::stdout().is_terminal());
        Self { quiet: global.quiet, color, json, progress: MultiProgress::with_draw_target(target) }
    }

    /// A printer that shows nothing but errors, for tests and library use.
    pub fn silent() -> Self {
        let progress = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self { quiet: true, color: false, json: false, progress }
    }

    /// The same for a step within a longer command: warnings and bars, no lines and tables.
    #[must_use]
    pub fn terse(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// Whether ANSI colours are wanted on stdout.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Whether stdout is a terminal: a person reads, not a program.
    pub fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Whether stderr lines are JSON (`--log-format json`).
    pub fn json(&self) -> bool {
        self.json
    }

    /// The same for what must be said in `--quiet` too.
    pub fn loud(&self) -> Self {
        Self { quiet: false, ..self.clone() }
    }

    /// Whether `--quiet` was given.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// The result of a command, on stdout; shown in `--quiet` too.
    pub fn data(&self, text: &str) {
        self.progress.suspend(|| write(&mut std::io::stdout().lock(), text));
    }

    /// Bytes of a result, on stdout.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        if out.write_all(bytes).is_ok() {
            let _ = out.flush();
        }
    }

    /// Bytes of a long result, on stdout.
    ///
    /// # Errors
    /// The reader went away, or the disk is full: the caller stops producing.
    pub fn stream(&self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::stdout().lock().write_all(bytes)
    }

    /// A line about the work, on stdout as dbt's are; silent in `--quiet`, a JSON line with `--log-format json`.
    pub fn line(&self, text: &str) {
        self.event("Note", "Z050", text, serde_json::Map::new());
    }

    /// A line about the work with the name, code and data that dbt's structured log gives it (`LogModelResult`, `Q012`).
    pub fn event(&self, name: &str, code: &str, text: &str, data: serde_json::Map<String, serde_json::Value>) {
        if self.quiet {
            return;
        }
        if self.json { self.data(&json_line("info", name, code, text, data)) } else { self.data(text) }
    }

    /// A warning, on stderr.
    pub fn warning(&self, text: &str) {
        if self.json {
            self.data(&json_line("warn", "Warning", "", text, serde_json::Map::new()));
        } else {
            self.progress.suspend(|| write(&mut std::io::stderr().lock(), &format!("warning: {text}")));
        }
    }

    /// The text of an error as `diagnostic` made it, on stderr.
    pub fn error_text(&self, text: &str) {
        if self.json {
            self.data(&json_line("error", "MainEncounteredError", "Z002", text.trim_end(), serde_json::Map::new()));
        } else {
            self.progress.suspend(|| write(&mut std::io::stderr().lock(), text.trim_end()));
        }
    }

    /// A bar over `total` steps; hidden where stderr is no terminal.
    pub fn bar(&self, label: &str, total: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {elapsed} (left {eta}) {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = self.progress.add(ProgressBar::new(total));
        bar.set_style(style);
        bar.set_prefix(label.to_owned());
        bar
    }

    /// A table with a header row; numbers to the right where `right` names their columns.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>], right: &[usize]) {
        if !self.quiet {
            self.line(&table_text(header, rows, right));
        }
    }
}

/// A table as text: two spaces between columns, a rule below the header.
pub fn table_text(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table.add_rows(rows.iter().cloned());
    for &index in right {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Bytes as people read them: `1.4 MB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Counts with separators: `27,118`.
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn write(out: &mut impl std::io::Write, text: &str) {
    // A reader that went away (`| head`) is not our failure.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        assert_eq!(human_count(0), "0");
        assert_eq!(human_count(999), "999");
        assert_eq!(human_count(27_118), "27,118");
        assert_eq!(human_count(1_000_000), "1,000,000");
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(1_400_000), "1.4 MB");
    }
}
