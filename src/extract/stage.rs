//! The extraction: choose the batch, plan, ask level by level, store page by page. In: selectors, the API, the Bronze
//! bucket; out: complete batches and a [`Report`]. Every step can be killed: what is stored is whole, and what is missing is
//! asked for by the next run.
//! One file: a batch's way from the plan to its last page is one sequence of states.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, Datelike as _, Utc};
use futures::{StreamExt as _, stream};
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::Serialize;

use super::{
    Client, Endpoint, Endpoints, ExtractError, Level, RoundSelector, Selectors,
    bronze::{Bronze, Listing, Selection, Stored},
    calendar::{self, Round},
    client::Page,
};
use crate::{
    lake::{
        Lake,
        layout::{BatchId, Partition},
    },
    transform::{Rows, Shape},
};

/// How often a listing that moves is started over.
const MAX_READS: u32 = 6;
/// After so many reads with the same rows and the same wrong total, the total is wrong and not the paging.
const SAME_MISMATCHES: usize = 4;
/// Failed listings after which the rest is not tried: the source is down.
pub(super) const MAX_FAILURES: usize = 5;
/// Rounds without results that are passed over on the way back to the latest with data.
const MAX_PROBES: usize = 3;

/// What to extract and how.
#[derive(Debug, Clone)]
pub struct Options {
    pub selectors: Selectors,
    pub mode: Mode,
    /// Begin a new batch even where one can be resumed.
    pub fresh: bool,
    /// Listings asked for at once; the limiter decides how fast.
    pub concurrency: usize,
    pub page_size: u32,
    /// The clock: what lies after it does not exist yet.
    pub now: DateTime<Utc>,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Everything that the selectors let through
    #[default]
    Full,
    /// The season's own listings, its latest round with data, and the standings after it
    Incremental,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// What will be asked, before anything is.
#[derive(Debug, Clone)]
pub struct Plan {
    pub batch_id: BatchId,
    /// An earlier run of the same selection did not finish it.
    pub is_resumed: bool,
    pub seasons: BTreeSet<u16>,
    pub steps: Vec<Step>,
    selection: Selection,
    /// Pages that the batch has already.
    stored: BTreeMap<Partition, u64>,
}

/// One endpoint's part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub endpoint: String,
    pub level: &'static str,
    pub listings: u64,
    pub requests: u64,
    /// Rounds or rows of a listing are guessed; the lake does not have them yet.
    pub is_estimate: bool,
}

/// What of a plan is extracted in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whether the static endpoints are in it.
    pub is_static: bool,
    pub seasons: BTreeSet<u16>,
}

impl Plan {
    /// All of it in one go.
    pub fn whole(&self) -> Part {
        Part { is_static: true, seasons: self.seasons.clone() }
    }

    /// The static endpoints, then season by season.
    pub fn parts(&self) -> Vec<Part> {
        let seasons = self.seasons.iter().map(|&season| Part { is_static: false, seasons: BTreeSet::from([season]) });
        [Part { is_static: true, seasons: BTreeSet::new() }].into_iter().chain(seasons).collect()
    }

    pub fn requests(&self) -> u64 {
        self.steps.iter().map(|step| step.requests).sum()
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// By endpoint, in the order of extraction.
    pub endpoints: IndexMap<String, EndpointReport>,
}

/// One endpoint's part of a [`Report`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EndpointReport {
    /// Completed now.
    pub batches: u64,
    /// Complete already.
    pub skipped: u64,
    pub failed: u64,
    /// Stored now.
    pub pages: u64,
    /// Stored by an earlier run of the same batch.
    pub resumed_pages: u64,
    /// `total` of the listings completed now.
    pub rows: u64,
    /// Bytes stored now.
    pub bytes: u64,
    /// Listings that moved while they were read.
    pub restarts: u64,
    /// Time spent on its listings; they overlap.
    pub seconds: f64,
    pub batch_ids: BTreeSet<String>,
}

/// Told of the work as it goes on.
pub trait Progress: Send + Sync {
    /// So many requests are known to be needed in all.
    fn planned(&self, requests: u64);
    /// One of them was answered and stored, or turned out not to be needed.
    fn advanced(&self, requests: u64);
}

/// The stage.
pub struct Extract {
    client: Arc<Client>,
    bronze: Bronze,
    endpoints: Endpoints,
    shapes: BTreeMap<String, Shape>,
    options: Options,
    progress: Arc<dyn Progress>,
    report: Mutex<Report>,
    /// Pages that were there when the run began: they are in no plan.
    stored: Mutex<BTreeMap<Partition, u64>>,
    /// Listings of this run that are complete, with their totals: some are needed before their turn.
    done: Mutex<BTreeMap<Partition, u32>>,
}

/// A listing to ask for.
#[derive(Debug, Clone)]
struct Job<'e> {
    endpoint: &'e Endpoint,
    partition: Partition,
}

impl Job<'_> {
    fn path(&self) -> String {
        self.endpoint.path(self.partition.season(), self.partition.round())
    }
}

/// What came of one read of a listing.
enum Read {
    Complete {
        rows: u32,
    },
    /// Its total or page size changed between two pages.
    Moved {
        reason: String,
    },
    /// All pages agree on a total that their rows do not add up to.
    Mismatch {
        total: u32,
        distinct: usize,
    },
}

impl Extract {
    pub fn new(
        client: Arc<Client>,
        lake: &Lake,
        endpoints: Endpoints,
        options: Options,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let shapes = endpoints.iter().map(|endpoint| (endpoint.name.clone(), Shape::new(endpoint))).collect();
        Self {
            client,
            bronze: Bronze::new(Arc::clone(&lake.bronze)),
            endpoints,
            shapes,
            options,
            progress,
            report: Mutex::default(),
            stored: Mutex::default(),
            done: Mutex::default(),
        }
    }

    /// What was done so far; also after an error or when the run's future was dropped.
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// Decides what to ask and under which batch_id. With `offline`, nothing is asked at all: the current season is the
    /// clock's year.
    ///
    /// # Errors
    /// A selector names nothing, the lake cannot be read, or the source does not say which season is the current one.
    pub async fn plan(&self, offline: bool) -> Result<Plan, ExtractError> {
        let endpoints = self.selected()?;
        let seasons = self.seasons(&endpoints, offline).await?;
        let mut selection = Selection {
            version: 1,
            batch_id: BatchId::at(self.options.now),
            complete: false,
            source: self.source(),
            mode: self.options.mode.as_str().to_owned(),
            endpoints: endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            seasons: seasons.iter().copied().collect(),
            rounds: self.options.selectors.rounds.as_ref().map(ToString::to_string),
            updated_at: self.options.now,
        };
        let is_resumed = self.choose_batch(&mut selection).await?;
        let mut stored = BTreeMap::new();
        if is_resumed || self.options.selectors.batch_id.is_some() {
            for endpoint in &endpoints {
                stored.extend(self.bronze.stored_pages(&endpoint.name, selection.batch_id).await?);
            }
        }
        let steps = self.steps(&endpoints, &seasons, selection.batch_id, &stored).await?;
        Ok(Plan { batch_id: selection.batch_id, is_resumed, seasons, steps, selection, stored })
    }

    /// Works the plan off: [`Extract::begin`], all of it as one part, [`Extract::finish`].
    ///
    /// # Errors
    /// As [`Extract::extract`].
    pub async fn run(&self, plan: &Plan) -> Result<(), ExtractError> {
        self.begin(plan).await?;
        self.extract(plan, &plan.whole()).await?;
        self.finish(plan).await
    }

    /// Writes down that the plan's batch is under way: a later run of the same selection goes on with it.
    ///
    /// # Errors
    /// The lake cannot be written.
    pub async fn begin(&self, plan: &Plan) -> Result<(), ExtractError> {
        self.progress.planned(plan.requests());
        self.stored.lock().clone_from(&plan.stored);
        for step in &plan.steps {
            // In the order of extraction, whichever is done first.
            self.report.lock().endpoints.entry(step.endpoint.clone()).or_default();
        }
        self.bronze.put_selection(&plan.selection).await
    }

    /// Writes down that all of the plan's batch is there.
    ///
    /// # Errors
    /// The lake cannot be written.
    pub async fn finish(&self, plan: &Plan) -> Result<(), ExtractError> {
        let done = Selection { complete: true, updated_at: Utc::now(), ..plan.selection.clone() };
        self.bronze.put_selection(&done).await
    }

    /// Extracts a part of the plan, level by level. Every listing is tried, unless the source seems to be down.
    ///
    /// # Errors
    /// [`ExtractError::Incomplete`] with the first listing that failed; the lake failing is fatal at once.
    pub async fn extract(&self, plan: &Plan, part: &Part) -> Result<(), ExtractError> {
        let endpoints = self.selected()?;
        let mut failures: Vec<(String, ExtractError)> = Vec::new();
        let mut planned = 0;
        for level in [Level::Static, Level::Season, Level::Round, Level::Standings] {
            let of_level: Vec<&Endpoint> =
                endpoints.iter().copied().filter(|endpoint| endpoint.level == level).collect();
            if of_level.is_empty() || (level == Level::Static && !part.is_static) {
                continue;
            }
            let jobs = if level.has_rounds() {
                self.round_jobs(&of_level, &part.seasons, plan.batch_id, &mut failures).await?
            } else {
                self.jobs(&of_level, &part.seasons)?
            };
            planned += jobs.len();
            self.run_jobs(jobs, plan.batch_id, &mut failures).await?;
            if failures.len() >= MAX_FAILURES {
                break;
            }
        }
        let failed = failures.len();
        match failures.into_iter().next() {
            None => Ok(()),
            Some((first_listing, source)) => {
                let planned = planned.max(failed);
                Err(ExtractError::Incomplete { failed, planned, first_listing, source: Box::new(source) })
            }
        }
    }

    /// The endpoints asked for. An incremental run leaves the static ones out unless they are named.
    fn selected(&self) -> Result<Vec<&Endpoint>, ExtractError> {
        let selectors = &self.options.selectors;
        let mut endpoints = selectors.endpoints(&self.endpoints)?;
        if self.options.mode == Mode::Incremental && selectors.levels.is_empty() && selectors.endpoints.is_empty() {
            endpoints.retain(|endpoint| endpoint.level != Level::Static);
        }
        Ok(endpoints)
    }

    /// The seasons asked for; the current one where none is named and one is needed.
    async fn seasons(&self, endpoints: &[&Endpoint], offline: bool) -> Result<BTreeSet<u16>, ExtractError> {
        if endpoints.iter().all(|endpoint| endpoint.level == Level::Static) {
            return Ok(BTreeSet::new());
        }
        let year = u16::try_from(self.options.now.year()).unwrap_or_default();
        match &self.options.selectors.seasons {
            Some(seasons) if !seasons.names_current() => Ok(seasons.resolve(year)),
            seasons => {
                let current = if offline { year } else { self.current_season(year).await? };
                Ok(seasons.as_ref().map_or_else(|| BTreeSet::from([current]), |seasons| seasons.resolve(current)))
            }
        }
    }

    /// Which season `current` stands for. A source that does not know the word has the clock's year.
    async fn current_season(&self, year: u16) -> Result<u16, ExtractError> {
        let endpoint = self.endpoints.rounds_endpoint();
        let path = endpoint.url.replace("{season}", "current");
        match self.client.page(&endpoint.name, &path, Some((1, 0))).await {
            Ok(page) => Ok(page.season.and_then(|season| season.parse().ok()).unwrap_or(year)),
            Err(ExtractError::Refused { status: 400 | 404, .. }) => {
                tracing::warn!(season = year, "the source does not know `current`; taking the clock's year");
                Ok(year)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the batch of a selection and answers whether it is an earlier one: the one given, the newest incomplete one, or
    /// a new one.
    async fn choose_batch(&self, selection: &mut Selection) -> Result<bool, ExtractError> {
        let known = self.bronze.selections().await?;
        let own = known.iter().find(|other| other.id() == selection.id());
        if let Some(batch_id) = self.options.selectors.batch_id {
            if batch_id.instant() > self.options.now + chrono::TimeDelta::days(1) {
                return Err(ExtractError::BatchFuture { batch_id: batch_id.to_string() });
            }
            selection.batch_id = batch_id;
            return Ok(own.is_some_and(|own| own.batch_id == batch_id && !own.complete));
        }
        if let Some(own) = own.filter(|own| !own.complete && !self.options.fresh) {
            // Later batches of the same listings would hide what is added to an older one; and what was the latest
            // round yesterday need not be it today.
            let is_newest = known.iter().all(|other| other.batch_id <= own.batch_id || !other.overlaps(own));
            let is_current =
                self.options.mode == Mode::Full || own.updated_at.date_naive() == self.options.now.date_naive();
            if is_newest && is_current {
                selection.batch_id = own.batch_id;
                return Ok(true);
            }
        }
        // Seconds name batches: a second run within one takes the next.
        if let Some(newest) = known.iter().filter(|other| other.overlaps(selection)).map(|other| other.batch_id).max()
            && newest >= selection.batch_id
        {
            selection.batch_id = newest.next();
        }
        Ok(false)
    }

    /// What each endpoint will take, from what the lake knows of the seasons' rounds.
    async fn steps(
        &self,
        endpoints: &[&Endpoint],
        seasons: &BTreeSet<u16>,
        batch_id: BatchId,
        stored: &BTreeMap<Partition, u64>,
    ) -> Result<Vec<Step>, ExtractError> {
        let mut calendars = BTreeMap::new();
        if endpoints.iter().any(|endpoint| endpoint.level.has_rounds()) {
            for &season in seasons {
                calendars.insert(season, self.stored_rounds(season, batch_id).await?);
            }
        }
        let mut steps = Vec::new();
        for endpoint in endpoints {
            let pages = u64::from(endpoint.expected_pages(self.options.page_size));
            let mut step = Step {
                endpoint: endpoint.name.clone(),
                level: endpoint.level.as_str(),
                listings: 0,
                requests: 0,
                is_estimate: endpoint.level.has_rounds() && pages > 1,
            };
            let wanted = seasons;
            let seasons = seasons.iter().copied().filter(|&season| endpoint.exists_in(season));
            step.listings = match endpoint.level {
                Level::Static => 1,
                Level::Season => seasons.count() as u64,
                Level::Round | Level::Standings => {
                    let mut listings = 0;
                    for season in seasons {
                        match calendars.get(&season).and_then(Option::as_ref) {
                            Some(rounds) => listings += self.rounds_of(endpoint, rounds).len() as u64,
                            None => {
                                step.is_estimate = true;
                                listings += self.expected_listings(endpoint, season);
                            }
                        }
                    }
                    listings
                }
            };
            // More pages of a listing than expected do not make up for another's.
            let there = stored.iter().filter(|(partition, _)| partition.endpoint() == endpoint.name);
            let there = there.filter(|(partition, _)| partition.season().is_none_or(|season| wanted.contains(&season)));
            let there: u64 = there.map(|(_, stored)| (*stored).min(pages)).sum();
            step.requests = (step.listings * pages).saturating_sub(there);
            steps.push(step);
        }
        Ok(steps)
    }

    /// A guess, for a season whose rounds are not in the lake.
    fn expected_listings(&self, endpoint: &Endpoint, season: u16) -> u64 {
        let rounds = self.endpoints.expected_rounds(season);
        let wanted = match (&self.options.selectors.rounds, self.options.mode) {
            (Some(RoundSelector::Last), _) | (None, Mode::Incremental) => 1,
            (Some(RoundSelector::Numbers(numbers)), _) => {
                numbers.iter().filter(|&&number| u32::from(number) <= rounds).count() as u64
            }
            (None, Mode::Full) => u64::from(rounds),
        };
        // A quarter of the rounds has a sprint, and whatever else a later column may say.
        if endpoint.only_where.is_some() { wanted.div_ceil(4) } else { wanted }
    }

    /// The rounds of a season as the newest stored batch has them.
    async fn stored_rounds(&self, season: u16, batch_id: BatchId) -> Result<Option<Vec<Round>>, ExtractError> {
        let endpoint = self.endpoints.rounds_endpoint();
        let partition = Partition::new(&endpoint.name, Some(season), None)?;
        match self.bronze.newest_complete(&partition, Some(batch_id)).await? {
            Some(pages) => calendar::rounds(&self.endpoints, season, &pages).map(Some),
            None => Ok(None),
        }
    }

    /// The rounds of a listing that can exist: held, asked for, with what the endpoint needs. `last` is the latest.
    fn rounds_of(&self, endpoint: &Endpoint, rounds: &[Round]) -> Vec<u8> {
        let held = rounds.iter().filter(|round| round.is_held(self.options.now));
        let is_wanted = |round: &&Round| endpoint.only_where.as_deref().is_none_or(|column| round.has(column));
        match (&self.options.selectors.rounds, self.options.mode) {
            (Some(RoundSelector::Numbers(numbers)), _) => {
                held.filter(is_wanted).map(|round| round.number).filter(|number| numbers.contains(number)).collect()
            }
            (None, Mode::Full) => held.filter(is_wanted).map(|round| round.number).collect(),
            (Some(RoundSelector::Last), _) | (None, Mode::Incremental) => {
                held.last().filter(is_wanted).map(|round| round.number).into_iter().collect()
            }
        }
    }

    /// The listings of endpoints without rounds.
    fn jobs<'e>(&self, endpoints: &[&'e Endpoint], seasons: &BTreeSet<u16>) -> Result<Vec<Job<'e>>, ExtractError> {
        let mut jobs = Vec::new();
        for endpoint in endpoints {
            if endpoint.level == Level::Static {
                jobs.push(Job { endpoint, partition: Partition::new(&endpoint.name, None, None)? });
                continue;
            }
            for &season in seasons.iter().filter(|&&season| endpoint.exists_in(season)) {
                jobs.push(Job { endpoint, partition: Partition::new(&endpoint.name, Some(season), None)? });
            }
        }
        Ok(jobs)
    }

    /// The listings of endpoints with rounds, season by season. The rounds are read from the lake, and asked for first
    /// where it does not have them.
    async fn round_jobs<'e>(
        &self,
        endpoints: &[&'e Endpoint],
        seasons: &BTreeSet<u16>,
        batch_id: BatchId,
        failures: &mut Vec<(String, ExtractError)>,
    ) -> Result<Vec<Job<'e>>, ExtractError> {
        let mut jobs = Vec::new();
        for &season in seasons {
            if failures.len() >= MAX_FAILURES {
                break;
            }
            let of_season: Vec<&&Endpoint> = endpoints.iter().filter(|endpoint| endpoint.exists_in(season)).collect();
            if of_season.is_empty() {
                continue;
            }
            let mut rounds = match self.rounds(season, batch_id).await {
                Ok(rounds) => rounds,
                Err(error @ ExtractError::Lake(_)) => return Err(error),
                Err(error) => {
                    failures.push((self.endpoints.rounds_endpoint().path(Some(season), None), error));
                    continue;
                }
            };
            let wants_last = matches!(self.options.selectors.rounds, Some(RoundSelector::Last))
                || (self.options.mode == Mode::Incremental && self.options.selectors.rounds.is_none());
            if wants_last {
                self.drop_rounds_without_data(season, &mut rounds, batch_id).await?;
            }
            if let Some(RoundSelector::Numbers(wanted)) = &self.options.selectors.rounds
                && !rounds.iter().any(|round| wanted.contains(&round.number) && round.is_held(self.options.now))
            {
                let last =
                    rounds.iter().filter(|round| round.is_held(self.options.now)).map(|round| round.number).max();
                tracing::warn!(season, last_held = last.unwrap_or_default(), "none of the rounds asked for was held");
            }
            for endpoint in of_season {
                for round in self.rounds_of(endpoint, &rounds) {
                    jobs.push(Job { endpoint, partition: Partition::new(&endpoint.name, Some(season), Some(round))? });
                }
            }
        }
        Ok(jobs)
    }

    /// The rounds of a season, from the lake or else from the source.
    async fn rounds(&self, season: u16, batch_id: BatchId) -> Result<Vec<Round>, ExtractError> {
        if let Some(rounds) = self.stored_rounds(season, batch_id).await? {
            return Ok(rounds);
        }
        let endpoint = self.endpoints.rounds_endpoint();
        let job = Job { endpoint, partition: Partition::new(&endpoint.name, Some(season), None)? };
        self.listing(&job, batch_id).await?;
        Ok(self.stored_rounds(season, batch_id).await?.unwrap_or_default())
    }

    /// Drops the latest rounds that were held but have no results yet. Only asked where results are extracted anyway.
    async fn drop_rounds_without_data(
        &self,
        season: u16,
        rounds: &mut Vec<Round>,
        batch_id: BatchId,
    ) -> Result<(), ExtractError> {
        rounds.retain(|round| round.is_held(self.options.now));
        let selected = self.selected()?;
        let Some(proof) = selected.into_iter().find(|endpoint| endpoint.name == self.endpoints.rounds.proof) else {
            return Ok(());
        };
        for _ in 0..MAX_PROBES {
            let Some(round) = rounds.last() else { break };
            let job =
                Job { endpoint: proof, partition: Partition::new(&proof.name, Some(season), Some(round.number))? };
            if self.listing(&job, batch_id).await? > 0 {
                break;
            }
            rounds.pop();
        }
        Ok(())
    }

    /// Asks for all listings of a level, some at once.
    async fn run_jobs(
        &self,
        jobs: Vec<Job<'_>>,
        batch_id: BatchId,
        failures: &mut Vec<(String, ExtractError)>,
    ) -> Result<(), ExtractError> {
        let work = jobs.into_iter().map(|job| async move {
            let outcome = self.listing(&job, batch_id).await;
            (job, outcome)
        });
        let mut work = stream::iter(work).buffer_unordered(self.options.concurrency.max(1));
        while let Some((job, outcome)) = work.next().await {
            match outcome {
                Ok(_) => {}
                Err(error @ ExtractError::Lake(_)) => return Err(error),
                Err(error) => {
                    tracing::error!(listing = %job.path(), %error, "listing failed");
                    self.count(&job, |report| report.failed += 1);
                    let is_final = matches!(error, ExtractError::Refused { status: 401 | 403, .. });
                    failures.push((job.path(), error));
                    if is_final || failures.len() >= MAX_FAILURES {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes one listing complete under `batch_id`, or under the batch that takes its place, and answers its `total`.
    async fn listing(&self, job: &Job<'_>, batch_id: BatchId) -> Result<u32, ExtractError> {
        let known = self.done.lock().get(&job.partition).copied();
        if let Some(total) = known {
            return Ok(total);
        }
        let total = self.complete(job, batch_id).await?;
        self.done.lock().insert(job.partition.clone(), total);
        Ok(total)
    }

    async fn complete(&self, job: &Job<'_>, mut batch_id: BatchId) -> Result<u32, ExtractError> {
        let started = Instant::now();
        let pages = u64::from(job.endpoint.expected_pages(self.options.page_size));
        let there = self.stored.lock().get(&job.partition).copied().unwrap_or_default();
        // Of the pages that were planned for it, those that the progress does not have yet.
        let mut expected = pages.saturating_sub(there);
        let mut mismatches: Vec<(u32, usize)> = Vec::new();
        let mut said = String::new();
        for read in 0..MAX_READS {
            let mut stored = self.bronze.stored(&job.partition, batch_id).await?;
            while let Some(next) = stored.superseded_by {
                batch_id = next;
                stored = self.bronze.stored(&job.partition, batch_id).await?;
            }
            if stored.is_complete() {
                if read == 0 {
                    self.count(job, |report| {
                        report.skipped += 1;
                        report.resumed_pages += stored.pages.len() as u64;
                    });
                    self.progress.advanced(expected);
                }
                return Ok(stored.listing.map_or(0, |listing| listing.total));
            }
            let had_pages = !stored.pages.is_empty();
            match self.read(job, batch_id, stored, &mismatches, &mut expected).await? {
                Read::Complete { rows } => {
                    self.count(job, |report| {
                        report.batches += 1;
                        report.rows += u64::from(rows);
                        report.seconds += started.elapsed().as_secs_f64();
                        report.batch_ids.insert(batch_id.to_string());
                    });
                    self.progress.advanced(expected);
                    return Ok(rows);
                }
                Read::Moved { reason } => {
                    mismatches.clear();
                    said = reason;
                }
                Read::Mismatch { total, distinct } => {
                    if mismatches.last().is_some_and(|last| *last != (total, distinct)) {
                        mismatches.clear();
                    }
                    mismatches.push((total, distinct));
                    said = format!("its total is {total}, its pages have {distinct} rows with different keys");
                }
            }
            tracing::warn!(listing = %job.path(), %batch_id, reason = %said, "the listing moved; starting over");
            self.count(job, |report| report.restarts += 1);
            // A batch of which nothing is stored can be read again as it is.
            if had_pages || !self.bronze.stored(&job.partition, batch_id).await?.pages.is_empty() {
                let next = self.next_batch(&job.partition, batch_id).await?;
                self.bronze.supersede(&job.partition, batch_id, next, &said).await?;
                batch_id = next;
            }
        }
        Err(ExtractError::Unstable { listing: job.path(), attempts: MAX_READS, reason: said })
    }

    /// A batch_id after `batch_id` that the partition does not have.
    async fn next_batch(&self, partition: &Partition, batch_id: BatchId) -> Result<BatchId, ExtractError> {
        let newest = self.bronze.batches(partition).await?.into_iter().max();
        let after = newest.max(Some(batch_id)).unwrap_or(batch_id).next();
        Ok(after.max(BatchId::at(Utc::now())))
    }

    /// Asks for the pages that are missing. The last one is stored only when all of them agree, so that a batch is never
    /// complete and wrong.
    async fn read(
        &self,
        job: &Job<'_>,
        batch_id: BatchId,
        stored: Stored,
        mismatches: &[(u32, usize)],
        expected: &mut u64,
    ) -> Result<Read, ExtractError> {
        let mut keys = Keys::new(&self.shapes[&job.endpoint.name], &job.partition);
        for page in stored.pages.values() {
            keys.add(page);
        }
        self.count(job, |report| report.resumed_pages += stored.pages.len() as u64);
        let (listing, mut first) = match stored.listing {
            Some(listing) => (listing, None),
            None => {
                let page = self.ask(job, self.options.page_size, 1).await?;
                (Listing::of(&page, job.endpoint), Some(page))
            }
        };
        let missing: Vec<u32> = (1..=listing.total_pages).filter(|number| !stored.pages.contains_key(number)).collect();
        for (index, &number) in missing.iter().enumerate() {
            let page = match first.take() {
                Some(page) => page,
                None => self.ask(job, listing.limit, number).await?,
            };
            if page.total != listing.total || page.limit != listing.limit {
                return Ok(Read::Moved {
                    reason: format!(
                        "page {number} has total {} and limit {}, the first page {} and {}",
                        page.total, page.limit, listing.total, listing.limit
                    ),
                });
            }
            keys.add(&page.body);
            if index + 1 == missing.len()
                && let Some(distinct) = keys.distinct().filter(|&distinct| distinct != listing.total as usize)
            {
                let seen = (listing.total, distinct);
                let times = mismatches.iter().filter(|&&other| other == seen).count() + 1;
                if times < SAME_MISMATCHES {
                    return Ok(Read::Mismatch { total: listing.total, distinct });
                }
                tracing::warn!(
                    listing = %job.path(), total = listing.total, distinct,
                    "the total is wrong in every read; taking the rows as they are"
                );
            }
            let object = self.bronze.put_page(&job.partition, batch_id, number, listing, &page).await?;
            self.count(job, |report| {
                report.pages += 1;
                report.bytes += object.len() as u64;
            });
            let was_planned = (*expected).min(1);
            *expected -= was_planned;
            self.progress.advanced(was_planned);
            tracing::info!(
                endpoint = job.endpoint.name, season = job.partition.season(), round = job.partition.round(),
                %batch_id, page = number, total_pages = listing.total_pages, bytes = object.len(), url = page.url,
                "page stored"
            );
        }
        Ok(Read::Complete { rows: listing.total })
    }

    async fn ask(&self, job: &Job<'_>, limit: u32, number: u32) -> Result<Page, ExtractError> {
        let paging = job.endpoint.paging.then(|| (limit, (number - 1) * limit));
        self.client.page(&job.endpoint.name, &job.path(), paging).await
    }

    fn count(&self, job: &Job<'_>, change: impl FnOnce(&mut EndpointReport)) {
        change(self.report.lock().endpoints.entry(job.endpoint.name.clone()).or_default());
    }

    /// The base URL as selections remember it: without user and password.
    fn source(&self) -> String {
        let mut url = self.client.base().clone();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }

    /// How long the plan will take at the limits, from now.
    ///
    /// # Errors
    /// The limiter's state cannot be read.
    pub fn expected(&self, plan: &Plan) -> Result<Duration, ExtractError> {
        self.client.limiter().expected(plan.requests())
    }
}

/// Counts the different keys of a listing; gives up where a page is not of the expected shape, since Bronze takes any.
struct Keys<'s> {
    rows: Option<Rows<'s>>,
}

impl<'s> Keys<'s> {
    fn new(shape: &'s Shape, partition: &Partition) -> Self {
        Self { rows: Some(Rows::new(shape, partition.season(), partition.round())) }
    }

    fn add(&mut self, page: &Bytes) {
        if let Some(rows) = &mut self.rows
            && let Err(error) = rows.add_page(page)
        {
            tracing::warn!(%error, "the page is stored, but transform will not be able to read it");
            self.rows = None;
        }
    }

    fn distinct(&self) -> Option<usize> {
        self.rows.as_ref().map(|rows| rows.distinct_keys() + rows.refused().len())
    }
}
