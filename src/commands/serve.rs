//! `chpipe serve`: the embedded warehouse over ClickHouse's HTTP interface and a directory lake over S3 beside it, until it
//! is interrupted.

use std::{net::IpAddr, time::Duration};

use crate::{
    Error,
    cli::ServeArgs,
    commands::{Context, ExitStatus, warehouse},
    config::{Connection, Settings, Target},
    engine::{EngineError, OpenOptions, note_path, open_directory},
    interrupt::interrupted,
    lake::LocalS3Options,
    serve::{Credentials, ServeOptions, Server},
};

const POLL: Duration = Duration::from_millis(50);

/// The files of a dropped table go a while after the run that rebuilt it, not beside its next statements. A server of
/// ClickHouse keeps them for eight minutes.
const KEEP_DROPPED: Duration = Duration::from_secs(10);

/// Serves until SIGINT or SIGTERM; running statements are cancelled then.
pub(super) fn serve(args: &ServeArgs, context: &Context) -> Result<ExitStatus, Error> {
    let settings = &context.settings;
    let target = settings.target()?;
    let Connection::Embedded { path } = &target.connection else {
        let address = match &target.connection {
            Connection::Http(server) | Connection::Native(server) => format!("{}:{}", server.host, server.port),
            Connection::Embedded { .. } => String::new(),
        };
        return Err(EngineError::ServesAlready { address }.into());
    };
    let host: IpAddr = settings.serve.host.parse().map_err(|_| Error::Argument {
        argument: "`host` in [serve] of chpipe.toml",
        reason: format!("`{}` is no IP address", settings.serve.host),
    })?;
    let s3 = LocalS3Options {
        address: (host, args.s3_port.unwrap_or(settings.serve.s3_port)).into(),
        credentials: settings.lake.access_key_id.clone().zip(settings.lake.secret_access_key.clone()),
        ..LocalS3Options::default()
    };
    let silver = warehouse::silver_access(context, s3)?;
    let options = OpenOptions { keep_dropped: KEEP_DROPPED, ..warehouse::open_options(context, &silver)? };
    let engine = open_directory(path, &options)?;
    let credentials = credentials(settings, &target);
    let user = credentials.user.clone();
    let address = (host, args.port.unwrap_or(settings.serve.port)).into();
    let server = Server::start(engine, ServeOptions { address, credentials })?;
    context.printer.line(&format!("ClickHouse's HTTP interface: http://{}/", server.address()));
    context.printer.line(&format!("user {user}; the password is in {}", note_path(path).display()));
    if let Some(lake) = silver.server() {
        context.printer.line(&format!("the lake as S3: {}/", lake.endpoint()));
    }
    while !interrupted() {
        std::thread::sleep(POLL);
    }
    drop(server);
    Ok(ExitStatus::Success)
}

/// The user and password of clients: of [serve] and its variables, else of the profile, else made up.
fn credentials(settings: &Settings, target: &Target) -> Credentials {
    let generated = Credentials::generate();
    let (user, password) = match &target.credentials {
        Some((user, password)) => (user.clone(), password.clone()),
        None => (generated.user, generated.password),
    };
    Credentials {
        user: settings.serve.user.clone().unwrap_or(user),
        password: settings.serve.password.clone().unwrap_or(password),
    }
}
