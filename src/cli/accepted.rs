//! Flags of dbt that every command takes, before or after its name, and that need little work here: there is nothing to be
//! partial about, no cache to fill, no log file, no statistics; what `--no-…` takes back is off unless the environment or the
//! same line asks for it. None of them is shown in the help. And `--warn-error-options`, of which `error: all` means
//! --warn-error.

use std::{ffi::OsString, path::Path};

use clap::{Args, Command, builder::Resettable};

use crate::yaml::Yaml;

/// See the module.
#[derive(Debug, Clone, Default, Args)]
pub struct AcceptedArgs {
    #[arg(long, global = true, hide = true)]
    pub no_partial_parse: bool,
    #[arg(long, global = true, hide = true)]
    pub partial_parse: bool,
    #[arg(long, global = true, hide = true)]
    pub no_partial_parse_file_diff: bool,
    #[arg(long, global = true, hide = true)]
    pub partial_parse_file_diff: bool,
    #[arg(long, global = true, hide = true)]
    pub no_send_anonymous_usage_stats: bool,
    #[arg(long, global = true, hide = true)]
    pub send_anonymous_usage_stats: bool,
    #[arg(long, global = true, hide = true)]
    pub no_version_check: bool,
    #[arg(long, global = true, hide = true)]
    pub version_check: bool,
    #[arg(long, global = true, hide = true)]
    pub no_populate_cache: bool,
    #[arg(long, global = true, hide = true)]
    pub populate_cache: bool,
    #[arg(long, global = true, hide = true)]
    pub cache_selected_only: bool,
    #[arg(long, global = true, hide = true)]
    pub no_cache_selected_only: bool,
    #[arg(long, global = true, hide = true)]
    pub no_static_parser: bool,
    #[arg(long, global = true, hide = true)]
    pub static_parser: bool,
    #[arg(long, global = true, hide = true)]
    pub no_use_experimental_parser: bool,
    #[arg(long, global = true, hide = true)]
    pub use_experimental_parser: bool,
    #[arg(long, global = true, hide = true)]
    pub no_use_fast_test_edges: bool,
    #[arg(long, global = true, hide = true)]
    pub use_fast_test_edges: bool,
    #[arg(long, global = true, hide = true)]
    pub no_write_json: bool,
    #[arg(long, global = true, hide = true)]
    pub write_json: bool,
    #[arg(long, global = true, hide = true)]
    pub print: bool,
    #[arg(long, global = true, hide = true)]
    pub no_print: bool,
    #[arg(long, global = true, hide = true)]
    pub log_cache_events: bool,
    #[arg(long, global = true, hide = true)]
    pub no_log_cache_events: bool,
    #[arg(long, global = true, hide = true)]
    pub macro_debugging: bool,
    #[arg(long, global = true, hide = true)]
    pub no_macro_debugging: bool,
    #[arg(long, global = true, hide = true)]
    pub show_all_deprecations: bool,
    #[arg(long, global = true, hide = true)]
    pub no_show_all_deprecations: bool,
    #[arg(long, global = true, hide = true)]
    pub use_colors_file: bool,
    #[arg(long, global = true, hide = true)]
    pub no_use_colors_file: bool,
    #[arg(long, global = true, hide = true)]
    pub upload_to_artifacts_ingest_api: bool,
    #[arg(long, global = true, hide = true)]
    pub no_upload_to_artifacts_ingest_api: bool,
    #[arg(long, global = true, hide = true)]
    pub introspect: bool,
    #[arg(long, global = true, hide = true)]
    pub no_introspect: bool,
    #[arg(long, global = true, hide = true)]
    pub export_saved_queries: bool,
    #[arg(long, global = true, hide = true)]
    pub no_export_saved_queries: bool,
    #[arg(long, global = true, hide = true)]
    pub no_single_threaded: bool,
    #[arg(long, global = true, hide = true)]
    pub no_include_saved_query: bool,
    #[arg(long, global = true, hide = true)]
    pub include_saved_query: bool,
    #[arg(long, global = true, hide = true)]
    pub inject_ephemeral_ctes: bool,
    #[arg(long, global = true, hide = true)]
    pub no_defer: bool,
    #[arg(long, global = true, hide = true)]
    pub no_favor_state: bool,
    #[arg(long, global = true, hide = true)]
    pub no_empty: bool,
    #[arg(long, global = true, hide = true)]
    pub no_full_refresh: bool,
    #[arg(long, global = true, hide = true)]
    pub no_store_failures: bool,
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub log_path: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "LEVEL")]
    pub log_level_file: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "FORMAT")]
    pub log_format_file: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "N")]
    pub log_file_max_bytes: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "N")]
    pub printer_width: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub partial_parse_file_path: Option<String>,
    #[arg(long, global = true, hide = true, value_name = "YAML")]
    pub sqlparse: Option<String>,
    #[arg(long, short = 'r', global = true, hide = true, value_name = "FILE")]
    pub record_timing_info: Option<String>,
}

/// The command, whose flags do not look into the environment where the line takes them back: `--no-full-refresh` holds
/// against DBT_FULL_REFRESH.
pub(super) fn heeding_negations(mut command: Command, arguments: &[OsString]) -> Command {
    for argument in arguments {
        if let Some(flag) = argument.to_str().and_then(|argument| argument.strip_prefix("--no-")) {
            command = without_environment(command, &flag.replace('-', "_"));
        }
    }
    command
}

fn without_environment(command: Command, id: &str) -> Command {
    let command =
        command.mut_args(|argument| if argument.get_id() == id { argument.env(Resettable::Reset) } else { argument });
    command.mut_subcommands(|subcommand| without_environment(subcommand, id))
}

/// The command line with `--warn-error` where `--warn-error-options` says so.
pub(super) fn with_warn_error(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let options = arguments.iter().enumerate().find_map(|(at, argument)| {
        let argument = argument.to_str()?;
        match argument.strip_prefix("--warn-error-options")? {
            "" => arguments.get(at + 1)?.to_str(),
            value => value.strip_prefix('='),
        }
    });
    if options.is_some_and(all_warnings) {
        arguments.insert(1.min(arguments.len()), "--warn-error".into());
    }
    arguments
}

/// Whether the options make an error of every warning; dbt's older word for `error` is `include`.
pub fn all_warnings(options: &str) -> bool {
    let Ok(options) = Yaml::parse(options, Path::new("--warn-error-options")) else { return false };
    let errors = options.get("error").or_else(|| options.get("include"));
    errors.and_then(Yaml::as_str).is_some_and(|word| matches!(word, "all" | "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_warnings_are_errors_where_the_options_say_so() {
        for (options, all) in [
            ("{error: all}", true),
            ("{\"include\": \"*\", \"exclude\": [\"X\"]}", true),
            ("{error: [NoNodesForSelectionCriteria]}", false),
            ("{warn: all}", false),
            ("nonsense", false),
        ] {
            assert_eq!(all_warnings(options), all, "{options}");
            let typed = ["chpipe", "run", "--warn-error-options", options].map(OsString::from);
            assert_eq!(with_warn_error(typed).contains(&"--warn-error".into()), all, "{options}");
        }
    }

    #[test]
    fn what_a_line_takes_back_the_environment_does_not_bring_again() {
        let asks = |line: &[OsString]| {
            let command = heeding_negations(<super::super::Cli as clap::CommandFactory>::command(), line);
            let run = command.find_subcommand("run").unwrap();
            let flag = run.get_arguments().find(|argument| argument.get_id() == "full_refresh").unwrap();
            flag.get_env().is_some()
        };
        assert!(asks(&["chpipe".into(), "run".into()]));
        assert!(!asks(&["chpipe".into(), "run".into(), "--no-full-refresh".into()]));
    }

    #[test]
    fn of_a_flag_and_its_opposite_the_last_counts() {
        for (line, full) in
            [("run --no-full-refresh --full-refresh", true), ("run --full-refresh --no-full-refresh", false)]
        {
            let line = ["chpipe"].into_iter().chain(line.split(' ')).map(OsString::from);
            let super::super::Command::Run(run) = super::super::Cli::of_line(line).unwrap().command else { panic!() };
            assert_eq!(run.execution.full_refresh, full);
        }
    }
}
