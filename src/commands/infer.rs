//! `chpipe ddl infer`: a table spec for Parquet that chpipe did not write, and the DDL that follows from it. It writes one
//! file below ddl/tables and never opens the warehouse.

use std::path::{Component, Path};

use crate::{
    Error,
    cli::DdlInferArgs,
    commands::{
        Context, ExitStatus,
        datasets::{self, DatasetFiles},
        ddl::script,
        lake_run,
        migrate::templates,
    },
    config::LakeSettings,
    ddl::TableSpec,
    file::write_whole,
    lake::Lake,
    migrate::MigrateError,
    printer::human_count,
    schema::ClickHouseType,
};

/// Reads the footers, writes the spec and shows the DDL.
pub(super) fn infer(args: &DdlInferArgs, context: &Context) -> Result<ExitStatus, Error> {
    let settings = &context.settings;
    let invalid = |argument, reason: String| Error::Argument { argument, reason };
    if args.name.is_empty() || !args.name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(invalid("--name", format!("`{}` is not made of letters, digits, _ and -", args.name)));
    }
    if datasets::endpoints(settings)?.is_some_and(|endpoints| endpoints.iter().any(|known| known.name == args.name)) {
        return Err(invalid("--name", format!("`{}` is an endpoint of the project", args.name)));
    }
    let source = below_lake(&args.source, &settings.lake, &settings.project_dir)?;
    let path = settings.migrate.ddl_path.join("tables").join(format!("{}.yml", args.name));
    let decisions = decisions(args, &source);
    // What is read is what a later `migrate` reads, from the same spec.
    let parse = |text: &str| {
        TableSpec::parse(text, &path)
            .map(|spec| TableSpec { name: args.name.clone(), ..spec })
            .map_err(MigrateError::from)
    };
    let spec = parse(&decisions)?;
    let files = lake_run::runtime(context)?.block_on(async {
        let lake = Lake::open(settings).await?;
        datasets::read_dataset(settings, &lake, spec).await
    })?;
    if files.objects.is_empty() {
        return Err(invalid("the source", format!("no object matches `{source}`")));
    }
    let text = spec_text(&source, &decisions, &files);
    let ddl = script(&DatasetFiles { spec: parse(&text)?, ..files }, &templates(context)?, context)?;
    let shown = path.strip_prefix(&settings.project_dir).unwrap_or(&path).display().to_string();
    if args.stdout {
        context.printer.data(text.trim_end());
        return Ok(ExitStatus::Success);
    }
    match fs_err::read_to_string(&path) {
        Ok(current) if current == text => context.printer.line(&format!("{shown} is as it would be written")),
        Ok(current) if !args.force => {
            context.printer.line(&difference(&current, &text));
            return Err(invalid("--name", format!("`{shown}` exists and differs as shown; --force replaces it")));
        }
        _ => {
            write_whole(&path, &text).map_err(|source| Error::Io { path: path.clone(), source })?;
            context.printer.line(&format!("{shown} written"));
        }
    }
    context.printer.data(ddl.trim_end());
    Ok(ExitStatus::Success)
}

/// A path on this machine as the place in the lake that it is; `s3://…` and keys below Silver stay.
fn below_lake(source: &str, lake: &LakeSettings, project_dir: &Path) -> Result<String, Error> {
    if source.contains("://") || lake.is_s3() {
        return Ok(source.to_owned());
    }
    let path = project_dir.join(source);
    let Ok(below) = path.strip_prefix(&lake.path) else {
        let first = Path::new(source).components().next();
        if matches!(first, Some(Component::RootDir | Component::CurDir | Component::ParentDir)) {
            let reason =
                format!("`{source}` is not below the lake, `{}`: ClickHouse reads nothing else", lake.path.display());
            return Err(Error::Argument { argument: "the source", reason });
        }
        return Ok(source.to_owned());
    };
    let key = below.to_string_lossy();
    Ok(match key.split_once('/') {
        Some((bucket, key)) if bucket == lake.silver => key.to_owned(),
        _ => format!("s3://{key}"),
    })
}

/// What the arguments decide, as YAML.
fn decisions(args: &DdlInferArgs, source: &str) -> String {
    let mut text = format!("source: {}\n", quoted(source));
    for (key, value) in [("database", &args.database), ("endpoint", &args.endpoint), ("region", &args.region)] {
        if let Some(value) = value {
            text.push_str(&format!("{key}: {}\n", quoted(value)));
        }
    }
    if args.no_sign_request {
        text.push_str("no_sign_request: true\n");
    }
    if !args.exclude.is_empty() {
        let names: Vec<String> = args.exclude.iter().map(|name| quoted(name)).collect();
        text.push_str(&format!("exclude: [{}]\n", names.join(", ")));
    }
    text
}

fn spec_text(source: &str, decisions: &str, files: &DatasetFiles) -> String {
    let schema = &files.dataset.schema;
    let mut text = format!(
        "# {} rows in {} file(s) of {}, as `chpipe ddl infer` found them. The tables follow the files; what is written here\n\
         # decides.\n{decisions}",
        human_count(schema.rows),
        human_count(schema.files as u64),
        source.escape_debug()
    );
    if !files.dataset.hive.is_empty() {
        text.push_str("hive_columns:\n");
        for hive in &files.dataset.hive {
            text.push_str(&format!("  {}: {}\n", quoted(&hive.name), quoted_type(&hive.kind)));
        }
    }
    text.push_str(
        "# Columns that identify a row become the sorting key; without them every row of every file is one of its own.\n\
         # natural_key: []\n# What the files have; take the # away to decide otherwise.\n# columns:\n",
    );
    for column in &schema.columns {
        text.push_str(&format!("#   {}: {{type: {}}}\n", quoted(&column.name), quoted_type(&column.kind)));
    }
    text
}

/// A YAML scalar: JSON's strings are such.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn quoted_type(kind: &ClickHouseType) -> String {
    quoted(&kind.to_string())
}

/// The lines of one text that the other has not, in both directions, in their order.
fn difference(current: &str, wanted: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (current.lines().collect(), wanted.lines().collect());
    // Lengths of the longest common subsequences of what is left of both.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_difference_shows_what_changed_alone() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "- b\n+ x\n+ d");
    }

    #[test]
    fn a_path_of_this_machine_is_a_place_in_the_lake() {
        let lake = LakeSettings { path: PathBuf::from("/p/lake"), ..LakeSettings::default() };
        let place = |source: &str| below_lake(source, &lake, Path::new("/p")).map_err(|error| error.to_string());
        assert_eq!(place("s3://b/x/**.parquet").unwrap(), "s3://b/x/**.parquet");
        assert_eq!(place("lake/silver/x/**.parquet").unwrap(), "x/**.parquet");
        assert_eq!(place("/p/lake/other/x").unwrap(), "s3://other/x");
        assert_eq!(place("x/**.parquet").unwrap(), "x/**.parquet");
        assert!(place("/elsewhere/x").unwrap_err().contains("not below the lake"));
    }
}
