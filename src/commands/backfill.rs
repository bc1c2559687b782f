//! `chpipe backfill`: season after season through the pipeline, for as long as the API's limits make it take.

use crate::{
    Error,
    cli::{BackfillArgs, LoadArgs, MigrateArgs, PlanFormat},
    commands::{Context, ExitStatus, extract::Extraction, lake_run, transform},
    extract::{Endpoints, ExtractError, Mode, Part, SeasonSelector, Seasons, Selectors},
    lake::Lake,
};

/// What follows extract and transform for every part (the static endpoints, then each season), by name and in order.
/// Each is run outside of the lake's runtime and may open the warehouse.
type Step = (&'static str, fn(&Context) -> Result<ExitStatus, Error>);
const AFTER_TRANSFORM: [Step; 2] = [("migrate", migrate), ("load", load)];

/// Extracts the whole range under one batch_id, resumable as one, and takes each season through the rest of the pipeline
/// as soon as it is there.
pub(super) fn backfill(args: &BackfillArgs, context: &Context) -> Result<ExitStatus, Error> {
    let selectors = Selectors {
        seasons: Some(args.season.clone()),
        endpoints: args.endpoint.clone(),
        batch_id: args.batch_id,
        ..Selectors::default()
    };
    let runtime = lake_run::runtime(context)?;
    let lake = runtime.block_on(Lake::open(&context.settings))?;
    let extraction =
        runtime.block_on(async { Extraction::new(selectors.clone(), Mode::Full, args.fresh, &lake, context) })?;
    if args.dry_run {
        runtime.block_on(extraction.show_plan())?;
        return Ok(ExitStatus::Success);
    }
    context.journal.set_arguments(lake_run::arguments(&selectors));
    let endpoints = Endpoints::load(context.settings.source.endpoints.as_deref())?;
    let work = || {
        let plan = runtime.block_on(extraction.until_interrupted(async {
            let plan = extraction.plan().await?;
            extraction.stage.begin(&plan).await?;
            Ok(plan)
        }))?;
        let mut incomplete = None;
        let mut status = ExitStatus::Success;
        for part in plan.parts() {
            let selectors = of_part(&selectors, &part);
            // `--endpoint results` has no static part.
            if selectors.endpoints(&endpoints).is_err() {
                continue;
            }
            let extracted = runtime
                .block_on(extraction.until_interrupted(async { Ok(extraction.stage.extract(&plan, &part).await?) }));
            match extracted {
                Ok(()) => {}
                // One listing that fails for good must not keep the other seasons waiting; a source that is down does.
                Err(Error::Extract(error @ ExtractError::Incomplete { .. })) if !error.is_source_down() => {
                    context.printer.warning(&crate::diagnostic::text(&Error::Extract(error)));
                    incomplete.get_or_insert(ExtractError::Backfill { parts: name(&part) });
                }
                Err(error) => return Err(error),
            }
            let request = transform::Request { selectors, force: false, dry_run: false, brief: Some(name(&part)) };
            runtime.block_on(transform::run(&request, context, &lake))?;
            if args.no_load {
                continue;
            }
            // A season's plan and tables are not worth pages of text between two seasons; what fails is said all the same.
            let terse = Context { printer: context.printer.terse(), ..context.clone() };
            for (step, run) in AFTER_TRANSFORM {
                tracing::info!(step, part = name(&part), "backfill step");
                if run(&terse)? == ExitStatus::Failure {
                    status = ExitStatus::Failure;
                }
            }
            context.printer.line(&format!("{}: in the warehouse", name(&part)));
        }
        match incomplete {
            Some(error) => Err(error.into()),
            None => runtime.block_on(extraction.stage.finish(&plan)).map_err(Error::from).map(|()| status),
        }
    };
    let result = work();
    let status = *result.as_ref().unwrap_or(&ExitStatus::Success);
    runtime.block_on(extraction.end(result.map(drop)))?;
    Ok(status)
}

/// Tables for what is new in Silver.
fn migrate(context: &Context) -> Result<ExitStatus, Error> {
    let args = MigrateArgs {
        command: None,
        dry_run: false,
        check: false,
        out: None,
        format: PlanFormat::Text,
        queue: false,
        allow_destructive: Vec::new(),
    };
    super::migrate::migrate(&args, context)
}

/// Silver into the raw tables; in queue mode ClickHouse does that by itself.
fn load(context: &Context) -> Result<ExitStatus, Error> {
    if super::migrate::queue_mode(context) {
        return Ok(ExitStatus::Success);
    }
    let args =
        LoadArgs { command: None, mode: None, endpoint: Vec::new(), reload: Vec::new(), patience: 0, dry_run: false };
    super::load::load(&args, context)
}

/// The Bronze batches of a part.
fn of_part(selectors: &Selectors, part: &Part) -> Selectors {
    let mut selectors = selectors.clone();
    if part.is_static {
        selectors.levels = vec![crate::extract::Level::Static];
        selectors.seasons = None;
    } else {
        selectors.levels =
            vec![crate::extract::Level::Season, crate::extract::Level::Round, crate::extract::Level::Standings];
        let seasons = part.seasons.iter().map(|&season| SeasonSelector::Range(season, season));
        selectors.seasons = Some(Seasons(seasons.collect()));
    }
    // A listing that was started over has a batch of its own.
    selectors.batch_id = None;
    selectors
}

fn name(part: &Part) -> String {
    if part.is_static {
        return "static endpoints".to_owned();
    }
    let seasons: Vec<String> = part.seasons.iter().map(u16::to_string).collect();
    format!("season {}", seasons.join(", "))
}
