//! `chpipe query`: one statement in the target's schema, its result on stdout.

use std::io::{ErrorKind, Read as _, Write};

use crate::{
    Error,
    cli::QueryArgs,
    commands::{Context, ExitStatus, warehouse},
    engine::{EngineError, QueryOptions},
};

/// Runs the statement; a server's error is this command's.
pub(super) fn query(args: &QueryArgs, context: &Context) -> Result<ExitStatus, Error> {
    let sql = statement(args)?;
    let mut options = QueryOptions::default();
    for setting in &args.setting {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(Error::Argument {
                argument: "--setting",
                reason: format!("`{setting}` is not of the form NAME=VALUE"),
            });
        };
        options = options.setting(name.trim(), value.trim());
    }
    let format = args.format.as_deref().unwrap_or_else(|| default_format(context));
    if format.starts_with("Pretty") && !context.printer.color() {
        options.settings.push(("output_format_pretty_color".into(), "0".into()));
    }
    let warehouse = warehouse::open(context)?;
    let mut session = warehouse.session()?;
    match session.query_format(&sql, format, &options, &mut Stdout { context }) {
        // The reader has seen enough (`| head`).
        Err(EngineError::Output { source }) if source.kind() == ErrorKind::BrokenPipe => {}
        result => _ = result?,
    }
    Ok(ExitStatus::Success)
}

fn statement(args: &QueryArgs) -> Result<String, Error> {
    if args.sql != "-" {
        return Ok(args.sql.clone());
    }
    let mut sql = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut sql)
        .map_err(|source| Error::Io { path: "/dev/stdin".into(), source })?;
    Ok(sql)
}

/// A table for people, plain rows for programs.
fn default_format(context: &Context) -> &'static str {
    if context.printer.is_terminal() { "PrettyCompactMonoBlock" } else { "TSVWithNames" }
}

/// The printer as a writer: blocks go out as they come.
struct Stdout<'a> {
    context: &'a Context,
}

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.context.printer.stream(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
