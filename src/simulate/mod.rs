//! An Ergast-compatible API over made-up seasons, on loopback: the source of the demo, the tests and the benchmarks. In:
//! a seed; out: pages with the shapes, the paging, the throttling and the oddities of the real API, and faults where they
//! are asked for. The same seed gives the same bytes. Nothing in it is anybody's data, and every page says so: `MRData`
//! has `"simulated": "true"`, the answer a header `X-Simulated`, and its URLs point to a host that does not exist.
//!
//! The way of the data: [`world`] makes drivers, teams, circuits and calendars, [`race`] runs a weekend, [`season`] adds
//! up the standings, [`route`] reads a URL, [`page`] writes JSON, and [`server`] speaks HTTP with [`throttle`] and
//! [`faults`].

mod faults;
mod json;
mod names;
mod page;
mod race;
mod random;
mod route;
mod rules;
mod season;
mod server;
mod throttle;
mod world;

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

pub use faults::{Fault, FaultKind};
pub use server::Simulation;
pub use throttle::RateLimit;

use crate::config::Secret;

/// What is simulated, and how well it behaves.
#[derive(Debug, Clone)]
pub struct SimulationOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// Seasons that are shown, 1950 to 2099. A season's data does not depend on which others are shown.
    pub seasons: RangeInclusive<u16>,
    /// Laps of a race, as a multiple of a real one's: 8 makes about five million of the seasons 1996 to 2025.
    pub lap_scale: f64,
    /// None: as many requests as come.
    pub rate_limit: Option<RateLimit>,
    /// Drawn for each request in this order.
    pub faults: Vec<Fault>,
    /// So many requests can meet a fault, all where none; then the API has recovered.
    pub fault_requests: Option<u64>,
    /// How late a delayed answer comes.
    pub delay: Duration,
    /// A token that is known: requests with it are not limited, and other tokens are refused.
    pub token: Option<Secret>,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
}

impl Default for SimulationOptions {
    fn default() -> Self {
        Self {
            seed: 7,
            seasons: 1950..=2025,
            lap_scale: 1.0,
            rate_limit: None,
            faults: Vec::new(),
            fault_requests: None,
            delay: Duration::from_secs(3),
            token: None,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}

/// A failure of the simulation.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    #[error("cannot simulate the API on `{address}`: {reason}")]
    Serve { address: SocketAddr, reason: String },
    #[error("there is no listing `{path}`")]
    NoListing { path: String },
}

impl SimulateError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Serve { .. } => Some("name another port with --port, or 0 for a free one".to_owned()),
            Self::NoListing { .. } => None,
        }
    }
}

/// The simulated data without HTTP: what the server serves, for benchmarks that cannot wait for a network.
#[derive(Debug, Clone)]
pub struct SimulatedSource {
    history: Arc<season::History>,
}

impl SimulatedSource {
    /// Makes the world of these options; seasons are raced when they are first asked for.
    pub fn new(options: &SimulationOptions) -> Self {
        Self { history: Arc::new(season::History::new(options)) }
    }

    /// A page, byte for byte as the server sends it: `page("2023/1/laps", 100, 200)`.
    ///
    /// # Errors
    /// [`SimulateError::NoListing`]: the API would not answer with a listing.
    pub fn page(&self, path: &str, limit: usize, offset: usize) -> Result<String, SimulateError> {
        let whole = format!("{}/{path}.json", route::BASE);
        let query =
            route::parse(&whole, &self.history).map_err(|_| SimulateError::NoListing { path: path.to_owned() })?;
        let window = page::Window { limit: limit.clamp(1, 100), offset };
        Ok(page::render(&self.history, &query, &whole, window, 0))
    }

    /// The rounds of a season; 0 where it is not shown.
    pub fn rounds(&self, season: u16) -> u8 {
        self.history.plan(season).map_or(0, |plan| u8::try_from(plan.rounds.len()).unwrap_or(u8::MAX))
    }
}
