//! `chpipe init`: the files of a new dbt project on the embedded ClickHouse.

use crate::{
    Error,
    cli::InitArgs,
    commands::{Context, ExitStatus},
    project::ProjectError,
};

/// Writes a folder with a project that `chpipe build` runs as it is; never over files that are there.
pub(super) fn init(args: &InitArgs, context: &Context) -> Result<ExitStatus, Error> {
    let Some(name) = &args.project_name else {
        return Err(ProjectError::runtime("a new project needs a name").hinting("chpipe init my_project").into());
    };
    let mut letters = name.chars();
    let valid = letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_');
    if !valid {
        return Err(ProjectError::runtime(format!("`{name}` is not a valid project name"))
            .hinting("use letters, digits and underscores, and begin with a letter")
            .into());
    }
    let folder = context.settings.project_dir.join(name);
    if folder.exists() {
        return Err(ProjectError::runtime(format!("A project called {name} already exists here."))
            .hinting("choose another name, or go on in that folder")
            .into());
    }
    for (path, text) in files(name, args.skip_profile_setup) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(|source| ProjectError::io(parent, source))?;
        }
        fs_err::write(&path, text).map_err(|source| ProjectError::io(&path, source))?;
    }
    context.printer.line(&format!("Your new project \"{name}\" was created.\n\nRun it:\n  cd {name}\n  chpipe build"));
    Ok(ExitStatus::Success)
}

fn files(name: &str, skip_profile: bool) -> Vec<(&'static str, String)> {
    let mut files = vec![
        (
            "dbt_project.yml",
            format!(
                "name: {name}\nversion: \"1.0.0\"\nconfig-version: 2\nprofile: {name}\n\n\
                 model-paths: [\"models\"]\nseed-paths: [\"seeds\"]\ntest-paths: [\"tests\"]\n\
                 macro-paths: [\"macros\"]\nsnapshot-paths: [\"snapshots\"]\nanalysis-paths: [\"analyses\"]\n\n\
                 clean-targets: [\"target\", \"dbt_packages\"]\n\nmodels:\n  {name}:\n    +materialized: view\n"
            ),
        ),
        ("models/first_model.sql", "{{ config(materialized='table', order_by='id') }}\n\nselect 1 as id\nunion all\nselect 2 as id\n".into()),
        ("models/second_model.sql", "select *\nfrom {{ ref('first_model') }}\nwhere id = 1\n".into()),
        (
            "models/schema.yml",
            "models:\n  - name: first_model\n    description: Two rows to begin with\n    columns:\n      - name: id\n        description: The key\n        data_tests: [unique, not_null]\n".into(),
        ),
        (".gitignore", "target/\ndbt_packages/\nlogs/\n.chpipe/\n.env\n".into()),
    ];
    for folder in ["seeds", "tests", "macros", "snapshots", "analyses"] {
        files.push((
            match folder {
                "seeds" => "seeds/.gitkeep",
                "tests" => "tests/.gitkeep",
                "macros" => "macros/.gitkeep",
                "snapshots" => "snapshots/.gitkeep",
                _ => "analyses/.gitkeep",
            },
            String::new(),
        ));
    }
    if !skip_profile {
        files.push((
            "profiles.yml",
            format!(
                "{name}:\n  target: dev\n  outputs:\n    # ClickHouse inside the chpipe process: nothing to install or start.\n    dev:\n      type: clickhouse\n      driver: embedded\n      path: .chpipe/warehouse\n      schema: {name}\n      threads: 2\n"
            ),
        ));
    }
    files
}
