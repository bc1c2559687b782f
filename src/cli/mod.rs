//! What was typed: clap types and their help text, nothing else. What it means is decided in [`crate::config`] and in
//! the command.

mod accepted;
mod dbt;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::accepted::{AcceptedArgs, all_warnings};
pub use self::dbt::{
    BuildArgs, CleanArgs, CloneArgs, CompileArgs, CompileOutput, DebugArgs, DepsArgs, DocsArgs, DocsCommand,
    DocsGenerateArgs, EventTimeArgs, ExecutionArgs, FreshnessArgs, IndirectSelection, InitArgs, LsArgs, LsOutput,
    PackageKind, ParseArgs, RetryArgs, RunArgs, RunOperationArgs, SeedArgs, SelectionArgs, ShowArgs, SnapshotArgs,
    SnapshotCommand, SnapshotVerifyArgs, SourceArgs, SourceCommand, TestArgs,
};

/// HTTP API to ClickHouse warehouse: raw JSON and Parquet on S3, generated DDL, dbt-compatible models.
#[derive(Debug, Parser)]
#[command(
    name = "chpipe",
    version,
    max_term_width = 110,
    disable_help_subcommand = true,
    after_help = "The order of a first run: extract, transform, migrate, load, build. `chpipe <command> --help` explains each.\n\
                  With no server configured everything runs on an embedded ClickHouse and a local directory."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// A whole command line, the program's name first.
    ///
    /// # Errors
    /// It is none of ours, or it asks for help: what to print, and where.
    pub fn of_line(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments = accepted::with_warn_error(arguments);
        let mut command = accepted::heeding_negations(<Self as clap::CommandFactory>::command(), &arguments);
        let matches = command.try_get_matches_from_mut(arguments)?;
        <Self as clap::FromArgMatches>::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Flags that every command takes, before or after its name. dbt's names where dbt has one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The folder with dbt_project.yml and chpipe.toml [default: the working directory, else its nearest parent]
    #[arg(long, global = true, env = "DBT_PROJECT_DIR", value_name = "DIR")]
    pub project_dir: Option<PathBuf>,
    /// The folder with profiles.yml [default: the working directory, the project folder, then ~/.dbt]
    #[arg(long, global = true, env = "DBT_PROFILES_DIR", value_name = "DIR")]
    pub profiles_dir: Option<PathBuf>,
    /// The profile of profiles.yml to use [default: `profile:` in dbt_project.yml]
    #[arg(long, global = true, env = "DBT_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// The target of that profile [default: its `target:`]
    #[arg(long, short = 't', global = true, env = "DBT_TARGET", value_name = "NAME")]
    pub target: Option<String>,
    /// Where artifacts and compiled SQL go [default: `target-path` in dbt_project.yml, else target]
    #[arg(long, global = true, env = "DBT_TARGET_PATH", value_name = "DIR")]
    pub target_path: Option<PathBuf>,
    /// Variables for `var()`, as a YAML or JSON mapping: --vars '{season: 2024}'
    #[arg(long, global = true, value_name = "YAML")]
    pub vars: Option<String>,
    /// How many nodes, requests or files are worked on at once
    #[arg(long, global = true, env = "DBT_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// How log lines are written; json also turns progress into one JSON object a line
    #[arg(long, global = true, env = "DBT_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged to stderr
    #[arg(long, global = true, env = "DBT_LOG_LEVEL", value_name = "LEVEL", default_value = "warn")]
    pub log_level: LogLevel,
    /// Log everything (`--log-level debug`)
    #[arg(long, short = 'd', global = true)]
    pub debug: bool,
    /// Print results and errors only
    #[arg(long, short = 'q', global = true, env = "DBT_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
    /// Colours even where stdout is no terminal
    #[arg(long, global = true)]
    pub use_colors: bool,
    /// No colours even on a terminal
    #[arg(long, global = true, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_use_colors: bool,
    /// How long to wait for a warehouse directory, lock or migration that another process holds, in seconds
    #[arg(long, global = true, env = "CHPIPE_LOCK_TIMEOUT", value_name = "SECONDS", default_value_t = 60)]
    pub lock_timeout: u64,
    /// Warnings are errors
    #[arg(long, global = true, hide = true, env = "DBT_WARN_ERROR", value_parser = clap::builder::FalseyValueParser::new())]
    pub warn_error: bool,
    #[arg(long, global = true, hide = true, overrides_with = "warn_error")]
    pub no_warn_error: bool,
    /// `{error: all}` is --warn-error; `{error: [NAME]}` and `warn` are told to be left out
    #[arg(long, global = true, hide = true, value_name = "YAML")]
    pub warn_error_options: Option<String>,
    /// Stop at the first failure
    #[arg(long, short = 'x', global = true, hide = true, env = "DBT_FAIL_FAST", value_parser = clap::builder::FalseyValueParser::new())]
    pub fail_fast: bool,
    #[arg(long, global = true, hide = true, overrides_with = "fail_fast")]
    pub no_fail_fast: bool,
    #[arg(long, global = true, hide = true, overrides_with = "quiet")]
    pub no_quiet: bool,
    #[arg(long, global = true, hide = true, overrides_with = "debug")]
    pub no_debug: bool,
    /// One node after another
    #[arg(long, global = true, hide = true)]
    pub single_threaded: bool,
    #[command(flatten)]
    pub accepted: AcceptedArgs,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
    /// dbt's name for text with more detail
    #[value(alias = "default")]
    Debug,
}

/// The least important line that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    None,
}

/// The subcommands, in the order of the pipeline.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the API and keep what it says, as received, in Bronze
    Extract(ExtractArgs),
    /// Turn complete Bronze batches into typed Parquet in Silver
    Transform(TransformArgs),
    /// Extract, transform, migrate and load a range of seasons, for as long as the API's limits make it take
    Backfill(BackfillArgs),
    /// Bring the warehouse's DDL to what the Silver files and the table specs say: plan, show, apply
    Migrate(MigrateArgs),
    /// Insert the Silver objects that are not in the raw tables yet, each exactly once
    Load(LoadArgs),
    /// Generate DDL to look at, or a table spec for any Parquet on S3
    Ddl(DdlArgs),
    /// Install libchdb, or show which one is used
    Engine(EngineArgs),
    /// Run SQL in the target's schema and print the result
    Query(QueryArgs),
    /// Serve an API with made-up seasons on loopback, for trying things out without the network
    Simulate(SimulateArgs),
    /// Read the whole project and write manifest.json
    Parse(ParseArgs),
    /// List what a selection finds
    #[command(name = "ls", visible_alias = "list")]
    Ls(LsArgs),
    /// Write the SQL of models, tests and snapshots to target/compiled
    Compile(CompileArgs),
    /// Build the selected models
    Run(RunArgs),
    /// Run the selected data tests and unit tests
    Test(TestArgs),
    /// Load the selected CSV files
    Seed(SeedArgs),
    /// Take up what changed in the sources of the selected snapshots
    Snapshot(SnapshotArgs),
    /// Seeds, models, snapshots and their tests in graph order; nothing is built on what fails its tests
    Build(BuildArgs),
    /// Install the packages of packages.yml or dependencies.yml
    Deps(DepsArgs),
    /// Print the first rows of a node, or of SQL with Jinja
    Show(ShowArgs),
    /// Call one macro
    #[command(name = "run-operation")]
    RunOperation(RunOperationArgs),
    /// Run the last command again for what failed or was skipped
    Retry(RetryArgs),
    /// Make the relations of --state available under this target's names without copying them
    Clone(CloneArgs),
    /// Check how old the sources are
    Source(SourceArgs),
    /// Write manifest.json and catalog.json for a docs site or a data catalog
    Docs(DocsArgs),
    /// Show the project, the target and whether it can be reached
    Debug(DebugArgs),
    /// Delete the folders of `clean-targets`
    Clean(CleanArgs),
    /// Start a new dbt project
    Init(InitArgs),
    /// Print the state of the pipeline as Prometheus metrics, or answer scrapes
    Metrics(MetricsArgs),
    /// Show where a batch, a table or a row came from, down to the raw pages and their URLs
    Lineage(LineageArgs),
    /// Serve the embedded warehouse over ClickHouse's HTTP interface, and a directory lake over S3, until interrupted
    Serve(ServeArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MigrateArgs {
    #[command(subcommand)]
    pub command: Option<MigrateCommand>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Change nothing, and exit with 1 when there is something to do (for CI)
    #[arg(long)]
    pub check: bool,
    /// Write the plan to a file for `chpipe migrate apply`, and change nothing
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How the plan is shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: PlanFormat,
    /// Also S3Queue tables and their views, for `load --mode queue` [default: where `mode` of [load] is queue]
    #[arg(long)]
    pub queue: bool,
    /// An object that may lose data (`raw.raw_results`), repeatable; nothing else ever loses any
    #[arg(long, value_name = "OBJECT", value_delimiter = ',')]
    pub allow_destructive: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Apply a plan of `--out`; refused when the warehouse has changed since
    Apply(MigrateApplyArgs),
    /// Show what is applied, pending and left of rebuilt tables
    Status,
    /// Show all migrations with time, checksum and outcome
    History,
    /// Put the old version of the last rebuilt tables back, as long as it is kept
    Undo,
}

#[derive(Debug, Args)]
pub struct MigrateApplyArgs {
    /// The plan
    pub plan: PathBuf,
    /// An object that may lose data (`raw.raw_results`), repeatable
    #[arg(long, value_name = "OBJECT", value_delimiter = ',')]
    pub allow_destructive: Vec<String>,
}

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    Text,
    Json,
    Sql,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LoadArgs {
    #[command(subcommand)]
    pub command: Option<LoadCommand>,
    /// Who reads the objects: chpipe now, or ClickHouse's S3Queue from now on [default: `mode` of [load] in chpipe.toml]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<LoadMode>,
    /// Only these datasets (endpoints), repeatable
    #[arg(long, short = 'e', value_name = "NAME", value_delimiter = ',')]
    pub endpoint: Vec<String>,
    /// Load this object again, replacing its rows; repeatable, a key or a part of one
    #[arg(long, value_name = "KEY")]
    pub reload: Vec<String>,
    /// With `--mode queue`: how long to wait while nothing moves, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
    /// Show what would be loaded and load nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// Show the objects loaded, pending and failed, and why
    Status,
}

/// Who moves rows into the raw tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadMode {
    /// chpipe inserts the objects that are missing
    Batch,
    /// S3Queue tables and their views insert new objects by themselves
    Queue,
}

#[derive(Debug, Args)]
pub struct DdlArgs {
    #[command(subcommand)]
    pub command: DdlCommand,
}

#[derive(Debug, Subcommand)]
pub enum DdlCommand {
    /// Write the DDL of every dataset to ddl/generated/, for reviewers
    Generate(DdlGenerateArgs),
    /// Print the DDL of one dataset
    Show(DdlShowArgs),
    /// Read the schema of any Parquet and write a table spec for it
    Infer(DdlInferArgs),
}

#[derive(Debug, Args)]
pub struct DdlGenerateArgs {
    /// Write nothing, and exit with 1 when a file is not as it would be written (for CI)
    #[arg(long)]
    pub check: bool,
    /// Look at the lake's files too, not only at the endpoints' definitions and the specs
    #[arg(long)]
    pub lake: bool,
}

#[derive(Debug, Args)]
pub struct DdlShowArgs {
    /// The dataset: `results`
    pub name: String,
}

#[derive(Debug, Args)]
pub struct DdlInferArgs {
    /// Parquet files: `s3://bucket/path/**.parquet` with the globs **, *, ?, {a,b} and {1..9}, or a path below the lake
    pub source: String,
    /// Name of the dataset: the tables are `ext_<name>` and `raw_<name>`
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Database of its tables [default: raw_database of [migrate]]
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Where the bucket is: `http://minio:9000` [default: the lake's endpoint, or AWS]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the bucket [default: the lake's]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// The bucket is public: send unsigned requests
    #[arg(long)]
    pub no_sign_request: bool,
    /// A column of the files to leave out, repeatable
    #[arg(long, value_name = "COLUMN")]
    pub exclude: Vec<String>,
    /// Print the spec instead of writing ddl/tables/<name>.yml
    #[arg(long)]
    pub stdout: bool,
    /// Replace a spec that is there already
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct EngineArgs {
    #[command(subcommand)]
    pub command: EngineCommand,
}

#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// Fetch the pinned libchdb once into the user's cache and check its integrity
    Install,
    /// Show the engine of the target: library, version, directory, who holds it
    Status,
}

#[derive(Debug, Args)]
pub struct QueryArgs {
    /// One statement, or `-` to read it from standard input
    pub sql: String,
    /// Any ClickHouse output format [default: a table on a terminal, TSVWithNames on a pipe]
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub format: Option<String>,
    /// A ClickHouse setting for this query, repeatable: --setting max_threads=1
    #[arg(long, value_name = "NAME=VALUE")]
    pub setting: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 58010)]
    pub port: u16,
    /// Everything that is made up follows from it
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Seasons to show, 1950 to 2099
    #[arg(long, value_name = "FIRST..LAST", default_value = "1950..2025", value_parser = parse_seasons)]
    pub seasons: std::ops::RangeInclusive<u16>,
    /// Requests a second before 429
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub rate_per_second: u32,
    /// Requests an hour before 429
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub rate_per_hour: u32,
    /// Answer every request
    #[arg(long)]
    pub no_throttle: bool,
    /// A fault and its probability, repeatable: 500, 503, truncate, cut, html, reset, delay, shift, throttle
    #[arg(long, value_name = "KIND:PROBABILITY")]
    pub fault: Vec<crate::simulate::Fault>,
    /// Only so many requests meet faults; then the API has recovered
    #[arg(long, value_name = "N")]
    pub fault_requests: Option<u64>,
    /// How late an answer with the fault `delay` comes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    pub delay_ms: u64,
    /// Laps of a race, as a multiple of a real one's
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub lap_scale: f64,
    /// Write the URL here once the server answers, for scripts that take a free port
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
    /// A token that lifts the limits
    #[arg(long)]
    pub token: Option<String>,
}

/// `1950..2025`, both included, or one season.
fn parse_seasons(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let season = |text: &str| {
        let season = text.trim_start_matches('=').parse().ok().filter(|season| (1950..=2099).contains(season));
        season.ok_or_else(|| format!("`{text}` is no season from 1950 to 2099"))
    };
    let (first, last) = (season(first)?, season(last)?);
    if first > last { Err(format!("{first} comes after {last}")) } else { Ok(first..=last) }
}

#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Answer GET /metrics on this address until interrupted: 127.0.0.1:9105
    #[arg(long, value_name = "ADDRESS", conflicts_with = "publish")]
    pub listen: Option<std::net::SocketAddr>,
    /// Send them where `[metrics]` of chpipe.toml says instead of printing them
    #[arg(long)]
    pub publish: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  chpipe lineage 20241216T120000\n  chpipe lineage fact_race_results\n  \
                        chpipe lineage fact_race_results --key season=2024 round=5 driver_id=norris")]
pub struct LineageArgs {
    /// A batch id, or a model, snapshot, seed or source table
    pub subject: String,
    /// A row of the table: columns and their values
    #[arg(long, value_name = "COLUMN=VALUE", num_args = 1..)]
    pub key: Vec<String>,
    /// How many raw pages are shown
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port of the HTTP interface, 0 for a free one [default: `port` in [serve] of chpipe.toml, else 8123]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of the lake's S3, 0 for a free one [default: `s3_port` in [serve] of chpipe.toml, else 9000]
    #[arg(long, value_name = "PORT")]
    pub s3_port: Option<u16>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete for
    pub shell: clap_complete::Shell,
}

/// Which listings `extract` asks for and `transform` works on.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Listings")]
pub struct ListingArgs {
    /// Only endpoints of these levels, with commas or repeated: static, season, round, standings
    #[arg(long, value_delimiter = ',', value_name = "LEVEL")]
    pub level: Vec<crate::extract::Level>,
    /// Only these endpoints, with commas or repeated: results,laps
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub endpoint: Vec<String>,
    /// Seasons: 2024, 1950..2025, current, or several with commas
    #[arg(long, value_name = "SEASONS")]
    pub season: Option<crate::extract::Seasons>,
    /// Rounds: 5, 1..10, last, or several numbers with commas [default: all that were held]
    #[arg(long, value_name = "ROUNDS")]
    pub round: Option<crate::extract::RoundSelector>,
    /// The batch, a UTC time like 20241216T120000
    #[arg(long, value_name = "BATCH")]
    pub batch_id: Option<crate::lake::layout::BatchId>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --season the current season is extracted. Static endpoints come first, then those of seasons, rounds \
                        and standings; what cannot exist (laps before 1996, a sprint where there was none, rounds to come) is \
                        not asked for.\n\
                        Without --batch-id a new batch begins, or, where the last run of the same selection was cut short, that \
                        one goes on. A stored page is never asked for again."
)]
pub struct ExtractArgs {
    #[command(flatten)]
    pub listings: ListingArgs,
    /// How much is asked for
    #[arg(long, value_name = "MODE", default_value = "full")]
    pub mode: crate::extract::Mode,
    /// Begin a new batch even where one can be resumed
    #[arg(long, conflicts_with = "batch_id")]
    pub fresh: bool,
    /// Show the requests and how long they would take, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Only complete batches are looked at, and only those without a Silver object, unless --all is given. `current` and \
                        `last` are the latest that Bronze has."
)]
pub struct TransformArgs {
    #[command(flatten)]
    pub listings: ListingArgs,
    /// Taken for symmetry with extract: what is new is what has no Silver object yet
    #[arg(long, value_name = "MODE", default_value = "full", hide = true)]
    pub mode: crate::extract::Mode,
    /// Also batches that have a Silver object: everything is made again from Bronze, byte for byte the same
    #[arg(long, visible_alias = "force")]
    pub all: bool,
    /// Show what would be transformed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// Seasons: 1950..2025, 2024, current, or several with commas
    #[arg(long, value_name = "SEASONS")]
    pub season: crate::extract::Seasons,
    /// Only these endpoints, with commas or repeated
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub endpoint: Vec<String>,
    /// The batch that all of it goes into [default: the one an earlier, cut short backfill began, else a new one]
    #[arg(long, value_name = "BATCH")]
    pub batch_id: Option<crate::lake::layout::BatchId>,
    /// Begin a new batch even where one can be resumed
    #[arg(long, conflicts_with = "batch_id")]
    pub fresh: bool,
    /// Stop after transform: migrate and load nothing. A backfill that loads keeps an embedded warehouse open to its end,
    /// and other commands wait for it
    #[arg(long)]
    pub no_load: bool,
    /// Show the requests and how long they would take, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
}
