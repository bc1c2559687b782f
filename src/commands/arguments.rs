//! The flags of an invocation under dbt's names: what run_results.json and `invocation_args_dict` say was asked for, and what
//! `retry` asks for again. In: what was typed, or the `args` of an earlier run_results.json; out: the other of the two.

use std::path::PathBuf;

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};

use crate::{
    cli::{ExecutionArgs, IndirectSelection, SelectionArgs},
    config::Settings,
};

/// What every command has: its name, the variables, where it ran, and the command line.
pub(super) fn common(which: &str, settings: &Settings) -> Map<String, Value> {
    let mut args = Map::new();
    args.insert("which".into(), json!(which));
    args.insert("vars".into(), json!(settings.vars));
    args.insert("project_dir".into(), json!(settings.project_dir.display().to_string()));
    put_text(&mut args, "profile", settings.profile.as_deref());
    put_text(&mut args, "target", settings.target.as_deref());
    if let Some(threads) = settings.threads {
        args.insert("threads".into(), json!(threads));
    }
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    args.insert("invocation_command".into(), json!(format!("chpipe {}", words.join(" "))));
    args
}

pub(super) fn put_selection(args: &mut Map<String, Value>, selection: &SelectionArgs) {
    args.insert("select".into(), json!(selection.included()));
    args.insert("exclude".into(), json!(selection.exclude));
    args.insert("resource_types".into(), json!(selection.resource_type));
    args.insert("exclude_resource_types".into(), json!(selection.exclude_resource_type));
    let mode = selection.indirect_selection.to_possible_value();
    args.insert("indirect_selection".into(), json!(mode.as_ref().map(clap::builder::PossibleValue::get_name)));
    args.insert("defer".into(), json!(selection.defer));
    args.insert("favor_state".into(), json!(selection.favor_state));
    put_text(args, "selector", selection.selector.as_deref());
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    put_text(args, "state", path(&selection.state).as_deref());
    put_text(args, "defer_state", path(&selection.defer_state).as_deref());
}

pub(super) fn put_execution(args: &mut Map<String, Value>, execution: &ExecutionArgs) {
    args.insert("full_refresh".into(), json!(execution.full_refresh));
    args.insert("fail_fast".into(), json!(execution.fail_fast));
    args.insert("empty".into(), json!(execution.empty));
    args.insert("store_failures".into(), json!(execution.store_failures));
    put_text(args, "sample", execution.sample.as_deref());
}

/// A flag that has no value is left out, as dbt does it.
pub(super) fn put_text(args: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        args.insert(name.into(), json!(value));
    }
}

/// The flags of an earlier invocation, chpipe's or dbt's.
pub(super) struct Previous<'a>(pub(super) &'a Value);

impl Previous<'_> {
    pub(super) fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap_or(false)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0[name].as_str().map(str::to_owned)
    }

    /// What decides which relations are read. The nodes themselves are known, so that nothing else of a selection counts.
    pub(super) fn selection(&self) -> SelectionArgs {
        let mode = self.text("indirect_selection").and_then(|mode| IndirectSelection::from_str(&mode, true).ok());
        SelectionArgs {
            indirect_selection: mode.unwrap_or_default(),
            state: self.text("state").map(PathBuf::from),
            defer: self.flag("defer"),
            favor_state: self.flag("favor_state"),
            defer_state: self.text("defer_state").map(PathBuf::from),
            ..SelectionArgs::default()
        }
    }

    /// Both: what was asked for then, and what is asked for now.
    pub(super) fn execution(&self, now: &ExecutionArgs) -> ExecutionArgs {
        ExecutionArgs {
            full_refresh: now.full_refresh || self.flag("full_refresh"),
            fail_fast: now.fail_fast || self.flag("fail_fast"),
            sample: now.sample.clone().or_else(|| self.text("sample")),
            empty: now.empty || self.flag("empty"),
            store_failures: now.store_failures || self.flag("store_failures"),
            // As in dbt, whether warnings are errors is asked for anew.
            warn_error: now.warn_error,
        }
    }

    /// The variables, profile, target and threads of then, unless there are new ones.
    pub(super) fn settings(&self, now: &Settings) -> Settings {
        let mut settings = now.clone();
        if settings.vars.is_empty()
            && let Some(vars) = self.0["vars"].as_object()
        {
            settings.vars = vars.clone();
        }
        settings.profile = settings.profile.or_else(|| self.text("profile"));
        settings.target = settings.target.or_else(|| self.text("target"));
        settings.threads =
            settings.threads.or_else(|| self.0["threads"].as_u64().and_then(|threads| usize::try_from(threads).ok()));
        settings
    }
}
