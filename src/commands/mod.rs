//! One file and one public function a subcommand; each reads as a runbook over the stages. Here: only which command
//! runs, and what all of them are given.

mod arguments;
mod audit;
mod backfill;
mod build;
mod clean;
mod clone;
mod compile;
mod completions;
mod datasets;
mod ddl;
mod debug;
mod deps;
mod docs;
mod engine;
mod execute;
mod extract;
mod infer;
mod init;
mod lake_run;
mod lazy_warehouse;
mod lineage;
mod load;
mod ls;
mod metrics;
mod migrate;
mod parse;
mod plan_memory;
mod query;
mod results;
mod retry;
mod run;
mod run_operation;
mod seed;
mod serve;
mod show;
mod simulate;
mod snapshot;
mod source;
mod test;
mod transform;
mod warehouse;

use crate::{
    Error,
    cli::{Cli, Command},
    config::Settings,
    observe::{Invocation, Journal},
    printer::Printer,
};

/// How a command ended when chpipe itself did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Everything asked for was done.
    Success,
    /// A model, test or migration failed; the rest was reported.
    Failure,
}

impl ExitStatus {
    /// dbt's exit codes.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
        }
    }
}

/// What every command is given beside its own arguments.
#[derive(Debug, Clone)]
pub struct Context {
    pub settings: Settings,
    pub printer: Printer,
    pub invocation: Invocation,
    /// For the audit trail.
    pub journal: Journal,
    pub(crate) open_warehouse: warehouse::OpenWarehouse,
}

/// Resolves the settings, starts the log and runs the command.
///
/// # Errors
/// Whatever the command could not do; a failed model is [`ExitStatus::Failure`], not an error.
pub fn dispatch(cli: Cli, printer: &Printer) -> Result<ExitStatus, Error> {
    if let Command::Completions(args) = &cli.command {
        return completions::completions(args, printer);
    }
    if let Command::Simulate(args) = &cli.command {
        return simulate::simulate(args, printer);
    }
    let settings = Settings::resolve(&cli.global)?;
    if let Some(options) = &cli.global.warn_error_options
        && !crate::cli::all_warnings(options)
    {
        printer
            .warning("of --warn-error-options chpipe knows `{error: all}`; single warnings are not told apart by name");
    }
    let invocation = Invocation::start();
    crate::observe::start_log(&cli.global, &invocation);
    let context = Context {
        settings,
        printer: printer.clone(),
        invocation,
        journal: Journal::default(),
        open_warehouse: warehouse::OpenWarehouse::default(),
    };
    let audited = audit::audited(&cli.command);
    let result = run_command(cli.command, &context);
    match audited {
        Some(command) => audit::leave(command, &context, &result),
        // Closes the warehouse.
        None => drop(context.journal.take_engine()),
    }
    result
}

fn run_command(command: Command, context: &Context) -> Result<ExitStatus, Error> {
    match command {
        Command::Extract(args) => extract::extract(&args, context),
        Command::Transform(args) => transform::transform(&args, context),
        Command::Backfill(args) => backfill::backfill(&args, context),
        Command::Engine(args) => engine::engine(&args, context),
        Command::Migrate(args) => migrate::migrate(&args, context),
        Command::Load(args) => load::load(&args, context),
        Command::Ddl(args) => ddl::ddl(&args, context),
        Command::Query(args) => query::query(&args, context),
        Command::Completions(_) | Command::Simulate(_) => Ok(ExitStatus::Success),
        Command::Parse(args) => parse::parse(&args, context),
        Command::Ls(args) => ls::ls(&args, context),
        Command::Compile(args) => compile::compile(&args, None, context),
        Command::Run(args) => run::run(&args, context),
        Command::Test(args) => test::test(&args, context),
        Command::Seed(args) => seed::seed(&args, context),
        Command::Snapshot(args) => snapshot::snapshot(&args, context),
        Command::Build(args) => build::build(&args, context),
        Command::Deps(args) => deps::deps(&args, context),
        Command::Show(args) => show::show(&args, context),
        Command::RunOperation(args) => run_operation::run_operation(&args, context),
        Command::Retry(args) => retry::retry(&args, context),
        Command::Clone(args) => clone::clone(&args, context),
        Command::Source(args) => source::source(&args, context),
        Command::Docs(args) => docs::docs(&args, context),
        Command::Debug(args) => debug::debug(&args, context),
        Command::Clean(args) => clean::clean(&args, context),
        Command::Init(args) => init::init(&args, context),
        Command::Metrics(args) => metrics::metrics(&args, context),
        Command::Lineage(args) => lineage::lineage(&args, context),
        Command::Serve(args) => serve::serve(&args, context),
    }
}
