//! The commands and flags that are dbt's, by dbt's names. Types and help text only.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// dbt's node selection.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArgs {
    /// Nodes to include, in dbt's selection grammar: `-s staging+ tag:daily,config.materialized:table`
    #[arg(long, short = 's', num_args = 1.., value_name = "SPEC")]
    pub select: Vec<String>,
    /// The same, by its older name; `ls` lists models only then
    #[arg(long, short = 'm', visible_alias = "model", num_args = 1.., value_name = "SPEC")]
    pub models: Vec<String>,
    /// Nodes to leave out
    #[arg(long, num_args = 1.., value_name = "SPEC")]
    pub exclude: Vec<String>,
    /// A selector of selectors.yml
    #[arg(long, value_name = "NAME")]
    pub selector: Option<String>,
    /// Which tests a selected node brings along
    #[arg(long, value_name = "MODE", default_value = "eager", env = "DBT_INDIRECT_SELECTION")]
    pub indirect_selection: IndirectSelection,
    /// Only these kinds of nodes
    #[arg(long, visible_alias = "resource-types", num_args = 1.., value_name = "TYPE")]
    pub resource_type: Vec<String>,
    /// Not these kinds of nodes
    #[arg(long, visible_alias = "exclude-resource-types", num_args = 1.., value_name = "TYPE")]
    pub exclude_resource_type: Vec<String>,
    /// A folder with the artifacts of an earlier invocation, for `state:`, `result:` and `--defer`
    #[arg(long, value_name = "DIR", env = "DBT_STATE")]
    pub state: Option<PathBuf>,
    /// Resolve refs to unselected, missing relations to those of --state
    #[arg(long, env = "DBT_DEFER", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_defer")]
    pub defer: bool,
    /// With --defer: prefer the relations of --state even where the target has them
    #[arg(long, overrides_with = "no_favor_state")]
    pub favor_state: bool,
    /// With --defer: another folder than --state
    #[arg(long, value_name = "DIR", env = "DBT_DEFER_STATE")]
    pub defer_state: Option<PathBuf>,
}

impl SelectionArgs {
    /// `--select` and `--models` together.
    pub fn included(&self) -> Vec<String> {
        self.select.iter().chain(&self.models).cloned().collect()
    }
}

/// dbt's `--indirect-selection`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum IndirectSelection {
    /// Every test that touches a selected node
    #[default]
    Eager,
    /// Only tests whose every parent is selected
    Cautious,
    /// Only tests whose every parent is selected or upstream of the selection
    Buildable,
    /// No test that is not selected itself
    Empty,
}

/// What `run`, `test`, `snapshot`, `seed` and `build` share.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Execution")]
pub struct ExecutionArgs {
    /// Rebuild incremental models and reload seeds from nothing
    #[arg(long, short = 'f', env = "DBT_FULL_REFRESH", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_full_refresh")]
    pub full_refresh: bool,
    /// Stop at the first failure
    #[arg(long, short = 'x', global = true, env = "DBT_FAIL_FAST", value_parser = clap::builder::FalseyValueParser::new())]
    pub fail_fast: bool,
    /// Build every relation without rows: refs and sources are read with `limit 0`
    #[arg(long, env = "DBT_EMPTY", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_empty")]
    pub empty: bool,
    /// Read refs and sources that have an `event_time` for a window only: '3 days', '{start: 2024-12-01, end: 2024-12-31}'
    #[arg(long, env = "DBT_SAMPLE", value_name = "WINDOW")]
    pub sample: Option<String>,
    /// Keep the failing rows of tests in tables
    #[arg(long, env = "DBT_STORE_FAILURES", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_store_failures")]
    pub store_failures: bool,
    /// Warnings are errors
    #[arg(long, global = true, env = "DBT_WARN_ERROR", value_parser = clap::builder::FalseyValueParser::new())]
    pub warn_error: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ParseArgs {}

#[derive(Debug, Clone, Default, Args)]
pub struct LsArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// What is printed of each resource
    #[arg(long, value_name = "FORM", default_value = "selector")]
    pub output: LsOutput,
    /// With `--output json`: these keys, as `name`, `config.materialized`
    #[arg(long, num_args = 1.., value_name = "KEY")]
    pub output_keys: Vec<String>,
}

/// `ls --output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LsOutput {
    /// One JSON object a line
    Json,
    Name,
    /// The file, relative to the project
    Path,
    /// What would select it
    #[default]
    Selector,
}

#[derive(Debug, Clone, Default, Args)]
pub struct CompileArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Compile this SQL instead of files, and print it
    #[arg(long, value_name = "SQL", conflicts_with_all = ["select", "models"])]
    pub inline: Option<String>,
    /// The form of what is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: CompileOutput,
    /// Never ask the warehouse, even where a model wants to
    #[arg(long)]
    pub no_introspect: bool,
    /// Compile incremental models as if they were built from nothing
    #[arg(long, short = 'f', env = "DBT_FULL_REFRESH", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_full_refresh")]
    pub full_refresh: bool,
    /// Read refs and sources with `limit 0`
    #[arg(long, env = "DBT_EMPTY", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_empty")]
    pub empty: bool,
}

/// `compile --output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CompileOutput {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Default, Args)]
pub struct DepsArgs {
    /// Resolve and write package-lock.yml, install nothing
    #[arg(long)]
    pub lock: bool,
    /// Resolve anew, whatever package-lock.yml says
    #[arg(long)]
    pub upgrade: bool,
    /// Add a package to packages.yml first: dbt-labs/dbt_utils@1.3.0
    #[arg(long, value_name = "PACKAGE@VERSION")]
    pub add_package: Option<String>,
    /// With --add-package: where it comes from
    #[arg(long, value_name = "KIND", default_value = "hub")]
    pub source: PackageKind,
}

/// Where a package comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PackageKind {
    #[default]
    Hub,
    Git,
    Local,
}

#[derive(Debug, Clone, Args)]
pub struct DocsArgs {
    #[command(subcommand)]
    pub command: DocsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum DocsCommand {
    /// Compile the project, ask the warehouse for its relations, write manifest.json and catalog.json
    Generate(Box<DocsGenerateArgs>),
    /// Not offered: point any docs site at the target folder
    #[command(hide = true)]
    Serve,
}

#[derive(Debug, Clone, Default, Args)]
pub struct DocsGenerateArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Do not compile first
    #[arg(long)]
    pub no_compile: bool,
    #[arg(long, hide = true, overrides_with = "no_compile")]
    pub compile: bool,
    /// Write a catalog without relations; the warehouse is not opened
    #[arg(long)]
    pub empty_catalog: bool,
    #[arg(long = "static", hide = true)]
    pub static_page: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct DebugArgs {
    /// Show where profiles.yml is looked for, and stop
    #[arg(long)]
    pub config_dir: bool,
    /// Only try to connect
    #[arg(long)]
    pub connection: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct CleanArgs {
    /// Refuse to delete outside of the project folder
    #[arg(long, overrides_with = "no_clean_project_files_only")]
    pub clean_project_files_only: bool,
    /// Delete outside of the project folder too
    #[arg(long)]
    pub no_clean_project_files_only: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct InitArgs {
    /// The project's name; its folder too
    pub project_name: Option<String>,
    /// Write no profiles.yml
    #[arg(long, short = 's')]
    pub skip_profile_setup: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub execution: ExecutionArgs,
    #[command(flatten)]
    pub event_time: EventTimeArgs,
}

/// The window of microbatch models.
#[derive(Debug, Clone, Default, Args)]
pub struct EventTimeArgs {
    /// Microbatch models: from the interval of this time on (UTC)
    #[arg(long = "event-time-start", value_name = "TIME", env = "DBT_EVENT_TIME_START")]
    pub start: Option<String>,
    /// Microbatch models: up to this time
    #[arg(long = "event-time-end", value_name = "TIME", env = "DBT_EVENT_TIME_END")]
    pub end: Option<String>,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

#[derive(Debug, Args)]
pub struct SeedArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    pub command: Option<SnapshotCommand>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub execution: ExecutionArgs,
    /// Show what would be inserted, closed and deleted, with a sample, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Check the tables: one open row a key, no overlaps, no gaps unless deleted, unique ids
    Verify(SnapshotVerifyArgs),
}

#[derive(Debug, Args)]
pub struct SnapshotVerifyArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Restore what can be restored: duplicates, overlaps, versions of no length
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub execution: ExecutionArgs,
    #[command(flatten)]
    pub event_time: EventTimeArgs,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Compile incremental models as if they were built from nothing
    #[arg(long, short = 'f', env = "DBT_FULL_REFRESH", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_full_refresh")]
    pub full_refresh: bool,
    /// SQL with Jinja instead of a node: --inline "select * from {{ ref('stg_drivers') }}"
    #[arg(long, value_name = "SQL")]
    pub inline: Option<String>,
    /// How many rows; -1 for all
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true)]
    pub limit: i64,
    /// A table, or JSON
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub output: CompileOutput,
}

#[derive(Debug, Args)]
pub struct RunOperationArgs {
    /// The macro's name, with its package where it is not the project's: dbt_utils.get_url_host
    #[arg(value_name = "MACRO")]
    pub name: String,
    /// Its arguments by name, as YAML: --args '{schema: f1}'
    #[arg(long, value_name = "YAML")]
    pub args: Option<String>,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// A folder with the run_results.json to go by [default: the target folder]
    #[arg(long, value_name = "DIR", env = "DBT_STATE")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

#[derive(Debug, Args)]
pub struct CloneArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Replace relations that are there already
    #[arg(long, short = 'f', env = "DBT_FULL_REFRESH", value_parser = clap::builder::FalseyValueParser::new(), overrides_with = "no_full_refresh")]
    pub full_refresh: bool,
}

#[derive(Debug, Args)]
pub struct SourceArgs {
    #[command(subcommand)]
    pub command: SourceCommand,
}

#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Compare the newest row of each source with its `freshness`; without a loaded_at_field the table's own time counts
    Freshness(FreshnessArgs),
}

#[derive(Debug, Args)]
pub struct FreshnessArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Where the result goes [default: sources.json in the target folder]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
}
