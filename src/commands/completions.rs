//! `chpipe completions <shell>`.

use clap::CommandFactory as _;

use crate::{
    Error,
    cli::{Cli, CompletionsArgs},
    commands::ExitStatus,
    printer::Printer,
};

/// Prints the completion script; needs no project.
pub(super) fn completions(args: &CompletionsArgs, printer: &Printer) -> Result<ExitStatus, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "chpipe", &mut script);
    printer.bytes(&script);
    Ok(ExitStatus::Success)
}
