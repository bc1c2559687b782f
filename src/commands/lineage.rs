//! `chpipe lineage`: where did this come from. A batch, a table, or a row of a table, down to the Bronze objects and the
//! URLs they were asked from. It reads the audit trail, the manifest's graph and the lake, and writes nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    Error,
    cli::LineageArgs,
    commands::{Context, ExitStatus, lake_run, parse, warehouse},
    engine::{Session, quote_identifier, quote_string},
    lake::{Lake, layout::BatchId},
    observe::audit::{number, rows, text},
    project::{LoadOptions, Relation, Resource, Workspace},
};

/// Answers for a batch id, or for a table and, with `--key`, a row of it.
pub(super) fn lineage(args: &LineageArgs, context: &Context) -> Result<ExitStatus, Error> {
    let opened = warehouse::open(context)?;
    let mut session = opened.engine.connect()?;
    let mut lineage = Lineage { session: &mut *session, context, limit: args.limit };
    match args.subject.parse::<BatchId>() {
        Ok(batch) => lineage.batch(batch.as_str())?,
        Err(_) if args.key.is_empty() => lineage.table(&args.subject)?,
        Err(_) => lineage.row(&args.subject, &args.key)?,
    }
    Ok(ExitStatus::Success)
}

struct Lineage<'a> {
    session: &'a mut dyn Session,
    context: &'a Context,
    limit: usize,
}

/// A Silver object that rows came from.
struct Origin {
    table: String,
    batch_id: String,
    path: String,
    rows: u64,
}

impl Lineage<'_> {
    fn batch(&mut self, batch: &str) -> Result<(), Error> {
        let (runs, events) = (self.state("runs"), self.state("events"));
        let id = quote_string(batch);
        let found = rows(
            self.session,
            &format!(
                "SELECT command, toString(started_at) AS started, outcome, JSONExtractString(record, 'user') AS user, \
                 JSONExtractString(record, 'host') AS host, JSONExtractString(record, 'git_commit') AS commit, run_id \
                 FROM {runs} FINAL WHERE has(JSONExtract(record, 'batch_ids', 'Array(String)'), {id}) ORDER BY started_at"
            ),
        )?;
        let steps = rows(
            self.session,
            &format!(
                "SELECT event, name, status, pages, rows, bytes, quarantined FROM {events} FINAL \
                 WHERE run_id IN (SELECT run_id FROM {runs} FINAL WHERE has(JSONExtract(record, 'batch_ids', \
                 'Array(String)'), {id})) AND event IN ('extract', 'transform') ORDER BY started_at, event, name"
            ),
        )?;
        let batches = format!("{}.batches", quote_identifier(&self.context.settings.migrate.raw_database));
        let loaded = rows(
            self.session,
            &format!(
                "SELECT endpoint, season, round, rows, toString(loaded_at) AS loaded, object_key FROM {batches} FINAL \
                 WHERE batch_id = {id} ORDER BY endpoint, season, round"
            ),
        )?;
        if found.is_empty() && loaded.is_empty() {
            return Err(unknown(batch, "no run and no loaded object has this batch"));
        }
        let printer = &self.context.printer;
        printer.line(&format!("batch {batch}\n"));
        printer.table(
            &["command", "started", "outcome", "by", "commit", "run"],
            &table(&found, |row| {
                let by = format!("{}@{}", text(row, "user"), text(row, "host"));
                vec![
                    text(row, "command"),
                    text(row, "started"),
                    text(row, "outcome"),
                    by,
                    text(row, "commit"),
                    text(row, "run_id"),
                ]
            }),
            &[],
        );
        printer.table(
            &["step", "endpoint", "status", "pages", "rows", "bytes", "quarantined"],
            &table(&steps, |row| {
                ["event", "name", "status", "pages", "rows", "bytes", "quarantined"]
                    .map(|name| text(row, name))
                    .to_vec()
            }),
            &[3, 4, 5, 6],
        );
        printer.table(
            &["loaded endpoint", "season", "round", "rows", "at", "silver object"],
            &table(&loaded, |row| {
                ["endpoint", "season", "round", "rows", "loaded", "object_key"].map(|name| text(row, name)).to_vec()
            }),
            &[3],
        );
        let origins: Vec<Origin> = loaded
            .iter()
            .map(|row| Origin {
                table: format!("raw_{}", text(row, "endpoint")),
                batch_id: batch.to_owned(),
                path: text(row, "object_key"),
                rows: number(row, "rows"),
            })
            .collect();
        self.bronze(&origins)
    }

    fn table(&mut self, name: &str) -> Result<(), Error> {
        let workspace = self.workspace()?;
        let id = find(&workspace, name)?;
        let events = self.state("events");
        let runs = self.state("runs");
        let node = quote_string(&id);
        let built = rows(
            self.session,
            &format!(
                "SELECT toString(events.started_at) AS built, status, rows, seconds, runs.command AS command, \
                 JSONExtractString(record, 'git_commit') AS commit, JSONExtractString(record, 'user') AS user, run_id \
                 FROM (SELECT * FROM {events} FINAL WHERE event = 'node' AND name = {node}) AS events \
                 INNER JOIN (SELECT * FROM {runs} FINAL) AS runs USING run_id ORDER BY events.started_at DESC LIMIT 5"
            ),
        )?;
        let printer = &self.context.printer;
        printer.line(&format!("{id}\n"));
        printer.table(
            &["built", "by", "status", "rows", "seconds", "commit", "run"],
            &table(&built, |row| {
                let by = format!("{} ({})", text(row, "command"), text(row, "user"));
                vec![
                    text(row, "built"),
                    by,
                    text(row, "status"),
                    text(row, "rows"),
                    text(row, "seconds"),
                    text(row, "commit"),
                    text(row, "run_id"),
                ]
            }),
            &[3, 4],
        );
        let mut steps = Vec::new();
        let mut seen = BTreeSet::new();
        tree(&workspace, &id, 0, &mut seen, &mut steps);
        printer.line("made from");
        for step in &steps {
            printer.line(step);
        }
        let mut origins = Vec::new();
        for relation in sources(&workspace, &id) {
            let endpoint = relation.identifier.trim_start_matches("raw_").to_owned();
            let batches = Relation::new(relation.schema.clone(), "batches").render();
            let sql = format!(
                "SELECT count() AS objects, uniqExact(batch_id) AS batches, min(batch_id) AS first, max(batch_id) AS last, \
                 sum(rows) AS rows FROM {batches} FINAL WHERE endpoint = {}",
                quote_string(&endpoint)
            );
            for row in rows(self.session, &sql)? {
                origins.push(
                    std::iter::once(relation.identifier.clone())
                        .chain(["objects", "batches", "first", "last", "rows"].map(|name| text(&row, name)))
                        .collect(),
                );
            }
        }
        printer.line("");
        printer.table(
            &["raw table", "objects", "batches", "first batch", "newest batch", "rows"],
            &origins,
            &[1, 2, 5],
        );
        Ok(())
    }

    fn row(&mut self, name: &str, keys: &[String]) -> Result<(), Error> {
        let keys = keys.iter().map(|key| split(key)).collect::<Result<Vec<_>, _>>()?;
        let workspace = self.workspace()?;
        let id = find(&workspace, name)?;
        let relation = workspace.manifest.relation(&id).ok_or_else(|| unknown(name, "it is no table"))?;
        let sql = format!("SELECT count() AS rows FROM {} WHERE {}", relation.render(), conditions(&keys));
        let found = rows(self.session, &sql)?.first().map_or(0, |row| number(row, "rows"));
        if found == 0 {
            return Err(unknown(name, "no row has this key"));
        }
        let printer = &self.context.printer;
        let plural = if found == 1 { "row" } else { "rows" };
        printer.line(&format!(
            "{found} {plural} of {id} with {}\n",
            keys.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
        ));
        let mut origins = Vec::new();
        let mut finest = 0;
        for source in sources(&workspace, &id) {
            let known = self.columns(&source)?;
            let usable: Vec<(String, String)> = keys.iter().filter(|(key, _)| known.contains(key)).cloned().collect();
            if usable.is_empty() || !known.contains("_path") {
                continue;
            }
            // Only the newest batch is in the models; the tables that know most of the key hold the row itself.
            let sql = format!(
                "SELECT batch_id, _path AS path, count() AS rows FROM {table} FINAL WHERE {conditions} \
                 AND batch_id = (SELECT max(batch_id) FROM {table} WHERE {conditions}) GROUP BY 1, 2 ORDER BY 2",
                table = source.render(),
                conditions = conditions(&usable),
            );
            let found = rows(self.session, &sql)?;
            if found.is_empty() || usable.len() < finest {
                continue;
            }
            if usable.len() > finest {
                origins.clear();
                finest = usable.len();
            }
            origins.extend(found.iter().map(|row| Origin {
                table: source.identifier.clone(),
                batch_id: text(row, "batch_id"),
                path: text(row, "path"),
                rows: number(row, "rows"),
            }));
        }
        let shown: Vec<Vec<String>> = origins
            .iter()
            .map(|origin| {
                vec![origin.table.clone(), origin.batch_id.clone(), origin.rows.to_string(), origin.path.clone()]
            })
            .collect();
        printer.table(&["raw table", "batch", "rows", "silver object"], &shown, &[2]);
        self.bronze(&origins)
    }

    /// The Bronze objects below the Silver ones, and the URL of each.
    fn bronze(&self, origins: &[Origin]) -> Result<(), Error> {
        let lines = lake_run::runtime(self.context)?.block_on(async {
            let lake = Lake::open(&self.context.settings).await?;
            let mut lines = Vec::new();
            for origin in origins {
                // `silver/ergast/…/data.parquet` or without the bucket; Bronze has the same folders.
                let key = origin.path.split_once("ergast/").map_or(origin.path.as_str(), |(_, rest)| rest);
                let folder = key.rsplit_once('/').map_or(key, |(folder, _)| folder);
                for object in lake.bronze.list(&format!("ergast/{folder}/"), None).await? {
                    if lines.len() == self.limit {
                        return Ok((lines, true));
                    }
                    let bytes = lake.bronze.get(&object.key).await?;
                    let envelope: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                    let metadata = &envelope["metadata"];
                    lines.push(vec![
                        format!("{}/{}", lake.bronze.name(), object.key),
                        text(metadata, "ingestion_timestamp"),
                        text(metadata, "source_url"),
                    ]);
                }
            }
            Ok::<_, Error>((lines, false))
        })?;
        let (lines, more) = lines;
        self.context.printer.table(&["bronze object", "received", "source"], &lines, &[]);
        if more {
            self.context.printer.line(&format!("… and more: --limit shows more than {}", self.limit));
        }
        Ok(())
    }

    fn workspace(&self) -> Result<Workspace, Error> {
        let options = LoadOptions { quiet: true, ..parse::options("lineage", self.context) };
        parse::load(self.context, &options)
    }

    fn columns(&mut self, relation: &Relation) -> Result<BTreeSet<String>, Error> {
        let sql = format!(
            "SELECT name FROM system.columns WHERE database = {} AND table = {}",
            quote_string(&relation.schema),
            quote_string(&relation.identifier)
        );
        Ok(rows(self.session, &sql)?.iter().map(|row| text(row, "name")).collect())
    }

    fn state(&self, table: &str) -> String {
        format!("{}.{table}", quote_identifier(&self.context.settings.migrate.state_database))
    }
}

/// The node or source of that name; a unique id is also fine.
fn find(workspace: &Workspace, name: &str) -> Result<String, Error> {
    let is_data = |resource: &Resource<'_>| !matches!(resource, Resource::Exposure(_) | Resource::UnitTest(_));
    let bare = name.rsplit('.').next().unwrap_or(name);
    let mut found = workspace.manifest.resources().filter(is_data).filter(|resource| {
        resource.unique_id() == name
            || (resource.name() == bare && workspace.manifest.relation(resource.unique_id()).is_some())
    });
    found.next().map(|resource| resource.unique_id().to_owned()).ok_or_else(|| {
        unknown(name, "the project has no model, snapshot, seed or source of this name, and it is no batch id")
    })
}

/// The raw tables that a node is made from in the end.
fn sources(workspace: &Workspace, id: &str) -> Vec<Relation> {
    let mut ids = workspace.graph.ancestors(id, None);
    if workspace.manifest.sources.contains_key(id) {
        ids.insert(id);
    }
    ids.into_iter()
        .filter_map(|id| workspace.manifest.sources.get(id))
        .map(crate::project::Source::relation)
        .filter(|relation| relation.identifier != "batches")
        .collect()
}

/// The ancestors as an indented tree; one that was shown is not shown again.
fn tree(workspace: &Workspace, id: &str, depth: usize, seen: &mut BTreeSet<String>, lines: &mut Vec<String>) {
    for parent in workspace.graph.parents(id) {
        let is_new = seen.insert(parent.to_owned());
        let more = if is_new { "" } else { " (above)" };
        lines.push(format!("{}{parent}{more}", "  ".repeat(depth + 1)));
        if is_new {
            tree(workspace, parent, depth + 1, seen, lines);
        }
    }
}

/// `season=2024` to its two halves.
fn split(key: &str) -> Result<(String, String), Error> {
    key.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).ok_or_else(|| {
        Error::Argument { argument: "--key", reason: format!("`{key}` is not of the form COLUMN=VALUE") }
    })
}

/// Each column's text must be the value, whatever its type.
fn conditions(keys: &[(String, String)]) -> String {
    keys.iter()
        .map(|(column, value)| format!("toString({}) = {}", quote_identifier(column), quote_string(value)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

fn table(rows: &[Value], row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    rows.iter().map(row).collect()
}

fn unknown(subject: &str, reason: &str) -> Error {
    Error::Argument { argument: "the subject of `chpipe lineage`", reason: format!("`{subject}`: {reason}") }
}
