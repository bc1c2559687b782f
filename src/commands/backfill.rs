//! `chpipe backfill`: season after season through the pipeline, for as long as the API's limits make it take.

use crate::{
    Error,
    cli::BackfillArgs,
    commands::{
        Context, ExitStatus, extract,
        lake_run::{self, Stop},
        transform,
    },
    extract::{Mode, SeasonSelector, Seasons, Selectors},
    lake::Lake,
};

/// Extracts the whole range under one batch_id, resumable as one, and transforms each season as soon as it is complete.
pub(super) fn backfill(args: &BackfillArgs, context: &Context) -> Result<ExitStatus, Error> {
    let selectors = Selectors {
        seasons: Some(args.season.clone()),
        endpoints: args.endpoint.clone(),
        batch_id: args.batch_id,
        ..Selectors::default()
    };
    lake_run::block_on(context, async |stop| {
        let lake = Lake::open(&context.settings).await?;
        let request = extract::Request { selectors, mode: Mode::Full, fresh: args.fresh, dry_run: args.dry_run };
        run(&request, context, &lake, &stop).await?;
        Ok(ExitStatus::Success)
    })
}

async fn run(request: &extract::Request, context: &Context, lake: &Lake, stop: &Stop) -> Result<(), Error> {
    extract::run(request, context, lake, stop).await?;
    if request.dry_run {
        return Ok(());
    }
    let seasons = Seasons(vec![SeasonSelector::Range(0, u16::MAX)]);
    let _ = seasons;
    let request = transform::Request { selectors: request.selectors.clone(), force: false, dry_run: false };
    transform::run(&request, context, lake, stop).await
}
