//! `chpipe query`: one statement in the target's schema, its result on stdout.

use std::{
    io::{ErrorKind, Read as _, Write},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    Error,
    cli::QueryArgs,
    commands::{Context, ExitStatus, warehouse},
    engine::{Engine, EngineError, QueryOptions},
    interrupt::{OnInterrupt, interrupted, on_interrupt},
};

/// How often a statement that has been interrupted is looked for.
const CANCEL_POLL: Duration = Duration::from_millis(100);

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
    match changing(&sql) {
        Some(word) => context.journal.set_arguments(serde_json::json!({"which": "query", "statement": word})),
        None => context.journal.only_reads(),
    }
    let warehouse = warehouse::open(context)?;
    let mut session = warehouse.session()?;
    let id = options.query_id.get_or_insert_with(|| Uuid::new_v4().to_string()).clone();
    let _cancelling = cancel_when_interrupted(Arc::clone(&warehouse.engine), id);
    if interrupted() {
        return Err(EngineError::Interrupted.into());
    }
    match session.query_format(&sql, format, &options, &mut Stdout { context }) {
        // The reader has seen enough (`| head`).
        Err(EngineError::Output { source }) if source.kind() == ErrorKind::BrokenPipe => {}
        result => _ = result?,
    }
    Ok(ExitStatus::Success)
}

/// Cancels the statement after a signal until it has ended: an engine cancels what runs at the signal's moment, and this one
/// may begin a moment later.
fn cancel_when_interrupted(engine: Arc<dyn Engine>, id: String) -> (OnInterrupt, Arc<()>) {
    let running = Arc::new(());
    let alive = Arc::downgrade(&running);
    let callback = on_interrupt(move || {
        let (engine, id, alive) = (Arc::downgrade(&engine), id.clone(), alive.clone());
        // It ends with the statement; where no thread can be had the second signal ends the process.
        let _ = std::thread::Builder::new().name("cancel".into()).spawn(move || {
            while alive.strong_count() > 0 {
                // What cannot be cancelled now may be in a moment.
                let _ = engine.upgrade().map(|engine| engine.cancel(&id));
                std::thread::sleep(CANCEL_POLL);
            }
        });
    });
    (callback, running)
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

/// The first word of a statement that can change something; none for one that only reads.
fn changing(sql: &str) -> Option<String> {
    let mut rest = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--").or_else(|| rest.strip_prefix('#')) {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            break;
        };
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
    let reads = ["SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "CHECK", "VALUES", ""];
    (!reads.contains(&word.as_str())).then_some(word)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_change_something_are_audited() {
        for sql in ["select 1", "/* a */ -- b\n (WITH 1 AS x SELECT x)", "  ", "explain select 1", "-- nothing"] {
            assert_eq!(changing(sql), None, "{sql}");
        }
        for (sql, word) in
            [("insert into t values (1)", "INSERT"), ("# c\nDROP TABLE t", "DROP"), ("alter table t", "ALTER")]
        {
            assert_eq!(changing(sql).as_deref(), Some(word), "{sql}");
        }
    }
}
