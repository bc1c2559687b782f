//! `chpipe simulate`: serves the simulated API until it is interrupted.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::{
    Error,
    cli::SimulateArgs,
    commands::ExitStatus,
    config::Secret,
    interrupt,
    printer::Printer,
    simulate::{RateLimit, Simulation, SimulationOptions},
};

/// Starts the server, says where it is, and waits; needs no project.
pub(super) fn simulate(args: &SimulateArgs, printer: &Printer) -> Result<ExitStatus, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let limit = RateLimit { per_second: args.rate_per_second, per_hour: args.rate_per_hour };
    let simulation = Simulation::start(SimulationOptions {
        seed: args.seed,
        seasons: args.seasons.clone(),
        lap_scale: args.lap_scale,
        rate_limit: (!args.no_throttle).then_some(limit),
        faults: args.fault.clone(),
        fault_requests: args.fault_requests,
        delay: Duration::from_millis(args.delay_ms),
        token: args.token.clone().map(Secret::new),
        address,
    })?;
    let throttling = if args.no_throttle {
        "no throttling".to_owned()
    } else {
        format!("{} requests a second, {} an hour", limit.per_second, limit.per_hour)
    };
    let (first, last) = (args.seasons.start(), args.seasons.end());
    printer.line(&format!("simulating seasons {first} to {last} on {} ({throttling})", simulation.url()));
    if let Some(path) = &args.url_file {
        fs_err::write(path, simulation.url()).map_err(|source| Error::Io { path: path.clone(), source })?;
    }
    wait_for_interrupt();
    Ok(ExitStatus::Success)
}

fn wait_for_interrupt() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let _registration = interrupt::on_interrupt(move || {
        // Nobody waits any more when this fails.
        let _ = sender.send(());
    });
    if !interrupt::interrupted() {
        let _ = receiver.recv();
    }
}
