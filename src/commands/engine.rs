//! `chpipe engine install` and `chpipe engine status`.

use crate::{
    Error,
    cli::{EngineArgs, EngineCommand},
    commands::{Context, ExitStatus},
    config::Connection,
    engine::{self, Installed},
    printer::human_bytes,
};

/// Installs libchdb, or shows what the target would use. Status opens no warehouse.
pub(super) fn engine(args: &EngineArgs, context: &Context) -> Result<ExitStatus, Error> {
    match args.command {
        EngineCommand::Install => install(context),
        EngineCommand::Status => status(context),
    }
}

fn install(context: &Context) -> Result<ExitStatus, Error> {
    let settings = &context.settings.engine;
    if let Some(path) = settings.libchdb.as_ref().filter(|path| path.is_file()) {
        context.printer.line(&format!("libchdb: `{}`, named by CHPIPE_LIBCHDB or chpipe.toml", path.display()));
        return Ok(ExitStatus::Success);
    }
    match engine::install(settings)? {
        Installed::Already(path) => {
            context.printer.line(&format!("libchdb {} is in `{}`", engine::LIBCHDB_VERSION, path.display()));
        }
        Installed::Fetched { path, bytes } => context.printer.line(&format!(
            "libchdb {} installed in `{}` ({})",
            engine::LIBCHDB_VERSION,
            path.display(),
            human_bytes(bytes)
        )),
    }
    Ok(ExitStatus::Success)
}

fn status(context: &Context) -> Result<ExitStatus, Error> {
    let target = context.settings.target()?;
    let mut rows = vec![vec!["target".to_owned(), format!("{}.{}", target.profile_name, target.name)]];
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    match &target.connection {
        Connection::Embedded { path } => {
            row("engine", "embedded".into());
            match engine::find_library(&context.settings.engine) {
                Ok(library) => row("library", library.display().to_string()),
                Err(error) => row("library", format!("{error}: run `chpipe engine install`")),
            }
            row("version", format!("{} (what `engine install` fetches)", engine::LIBCHDB_VERSION));
            row("directory", path.display().to_string());
            row("in use by", engine::holder(path).map_or_else(|| "nobody".into(), |holder| holder.to_string()));
        }
        Connection::Http(server) => {
            row("engine", "http".into());
            row("server", format!("{}:{}", server.host, server.port));
            row("user", server.user.clone());
        }
        Connection::Native(server) => {
            row("engine", "native".into());
            row("server", format!("{}:{}", server.host, server.port));
            row("user", server.user.clone());
        }
    }
    context.printer.table(&["", ""], &rows, &[]);
    Ok(ExitStatus::Success)
}
