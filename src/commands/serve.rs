//! `chpipe serve`: the embedded warehouse over ClickHouse's HTTP interface, until it is interrupted.

use std::{net::IpAddr, time::Duration};

use crate::{
    Error,
    cli::ServeArgs,
    commands::{
        Context, ExitStatus,
        warehouse::{SILVER_COLLECTION, silver_access},
    },
    config::{Connection, Secret},
    engine::{EngineError, OpenOptions, note_path, open_directory},
    interrupt::interrupted,
    lake::LocalS3Options,
    serve::{Credentials, ServeOptions, Server},
};

const POLL: Duration = Duration::from_millis(50);

/// Serves until SIGINT or SIGTERM; running statements are cancelled then.
pub(super) fn serve(args: &ServeArgs, context: &Context) -> Result<ExitStatus, Error> {
    let settings = &context.settings;
    let target = settings.target()?;
    let Connection::Embedded { path } = &target.connection else {
        return Err(EngineError::Unsupported {
            engine: "server",
            feature: "`chpipe serve`: the target is a server already, connect to it".into(),
        }
        .into());
    };
    let host: IpAddr = settings.serve.host.parse().map_err(|_| Error::Argument {
        argument: "`host` in [serve] of chpipe.toml",
        reason: format!("`{}` is no IP address", settings.serve.host),
    })?;
    let local = LocalS3Options {
        address: (host, args.s3_port.unwrap_or(settings.serve.s3_port)).into(),
        ..LocalS3Options::default()
    };
    // The tables over Silver cannot be attached without the collection; the lake is served for as long as this lives.
    let silver = silver_access(context, local)?;
    let options = OpenOptions::new(settings).named_collection(SILVER_COLLECTION, silver.bucket.clone());
    let engine = open_directory(path, &options)?;
    let options = ServeOptions {
        address: (host, args.port.unwrap_or(settings.serve.port)).into(),
        credentials: credentials(settings.serve.user.clone(), settings.serve.password.clone()),
    };
    let user = options.credentials.user.clone();
    let server = Server::start(engine, options)?;
    context.printer.line(&format!("ClickHouse's HTTP interface: http://{}/", server.address()));
    context.printer.line(&format!("user {user}; the password is in {}", note_path(path).display()));
    while !interrupted() {
        std::thread::sleep(POLL);
    }
    drop(server);
    drop(silver);
    Ok(ExitStatus::Success)
}

fn credentials(user: Option<String>, password: Option<Secret>) -> Credentials {
    let generated = Credentials::generate();
    Credentials { user: user.unwrap_or(generated.user), password: password.unwrap_or(generated.password) }
}
