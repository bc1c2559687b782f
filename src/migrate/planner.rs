//! From what is wanted and what is live to a plan. In: wanted objects, a session to read with; out: a [`Plan`]. It runs
//! SELECTs and nothing else, so that `--dry-run` and `--check` change nothing.

use std::collections::{BTreeSet, HashMap};

use crate::{
    config::Secret,
    ddl::{
        Alteration, ChangeClass, Conversion, Dataset, DiffHints, PATH, Rebuild, TableDiff, TableSpec, Templates,
        ViewDiff, WantedOptions, diff_table, diff_view, wanted_objects,
    },
    engine::{Capabilities, Session, quote_identifier, quote_string},
    schema::{ClickHouseType, MaterializedView, NamedCollection, Relation, SchemaObject, Table, parse_create},
};

use super::{
    MigrateError,
    collections::{self, Comparison, LiveCollection},
    ledger::Ledger,
    live::{Live, LiveObject, normalise},
    plan::{Action, Plan, PlannedChange, RebuildStep, Renames, Step, checksum},
    rebuild,
    rows::{number, rows},
    state, views,
};

/// What the warehouse should hold.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub datasets: &'a [(Dataset, TableSpec)],
    pub options: &'a WantedOptions,
    pub templates: &'a Templates,
    pub state_database: &'a str,
    /// The collections of the buckets.
    pub named_collections: Vec<NamedCollection>,
    /// Their secrets, to see whether they are others than those that were given.
    pub secrets: &'a HashMap<String, Vec<Secret>>,
    /// Objects in which data may be lost.
    pub allow_destructive: &'a [String],
}

/// Plans the way from the live warehouse to the wanted one.
///
/// # Errors
/// A spec that ClickHouse does not take, an object that cannot be changed safely, a server that cannot be asked.
pub fn make_plan(
    session: &mut dyn Session,
    capabilities: &Capabilities,
    wanted: &Wanted<'_>,
) -> Result<Plan, MigrateError> {
    let raw_database = wanted.options.database.as_str();
    let own = wanted.datasets.iter().filter_map(|(_, spec)| spec.database.as_deref());
    let mut databases: Vec<&str> = Vec::new();
    for name in [raw_database, wanted.state_database].into_iter().chain(own) {
        if !databases.contains(&name) {
            databases.push(name);
        }
    }
    let live = Live { named_collections: collections::read(session), ..Live::read(session, &databases)? };
    let mut planner = Planner { session, wanted, live: &live, changes: Vec::new(), notes: Vec::new() };
    for name in &databases {
        planner.database(name)?;
    }
    for collection in &wanted.named_collections {
        planner.named_collection(collection, capabilities)?;
    }

    let empty = TableSpec::default();
    let mut objects: Vec<(SchemaObject, &TableSpec)> = state::state_tables(wanted.state_database)
        .into_iter()
        .chain([state::batches_table(raw_database)])
        .map(|table| (SchemaObject::Table(table), &empty))
        .collect();
    for (dataset, spec) in wanted.datasets {
        if !dataset.has_columns() {
            planner.notes.push(format!(
                "{} has no file below {} yet: the tables over its files are made with the first one",
                dataset.name,
                dataset.source.prefix()
            ));
        }
        for object in wanted_objects(dataset, spec, wanted.options)? {
            objects.push((object, spec));
        }
    }
    let statements = objects
        .iter()
        .map(|(object, _)| Ok((object_name(object).plain(), wanted.templates.create(object)?)))
        .collect::<Result<Vec<_>, MigrateError>>()?;
    let formatted = normalise(planner.session, &statements)?;
    for (((object, spec), formatted), (_, create)) in objects.iter().zip(&formatted).zip(statements) {
        planner.object(object, &parse_create(formatted)?, create, spec)?;
    }
    let Planner { changes, notes, .. } = planner;
    let plan = Plan::new(chrono::Utc::now(), fingerprint(&live, wanted.state_database), changes);
    Ok(Plan { queue: wanted.options.queue, notes, ..plan })
}

/// What identifies the state of the warehouse that a plan was made for.
pub(crate) fn fingerprint(live: &Live, state_database: &str) -> String {
    // The lock makes the state's database before a plan is applied.
    let databases: Vec<&str> =
        live.databases.iter().map(String::as_str).filter(|name| *name != state_database).collect();
    let mut text = databases.join(",");
    for (relation, object) in &live.objects {
        // The lock and the ledger change with every command.
        if !matches!(relation.name.as_str(), "lock" | "migrations" | "migration_steps" | "loads" | "runs") {
            text.push_str(&format!("\n{}: {}", relation.plain(), object.create_text));
        }
    }
    checksum(&text)
}

fn object_name(object: &SchemaObject) -> &Relation {
    static NONE: std::sync::LazyLock<Relation> = std::sync::LazyLock::new(|| Relation::new("", ""));
    match object {
        SchemaObject::Table(table) => &table.name,
        SchemaObject::MaterializedView(view) => &view.name,
        SchemaObject::View(view) => &view.name,
        SchemaObject::Database { .. } | SchemaObject::NamedCollection(_) => &NONE,
    }
}

struct Planner<'a> {
    session: &'a mut dyn Session,
    wanted: &'a Wanted<'a>,
    live: &'a Live,
    changes: Vec<PlannedChange>,
    notes: Vec<String>,
}

impl Planner<'_> {
    fn database(&mut self, name: &str) -> Result<(), MigrateError> {
        if self.live.databases.iter().any(|live| live == name) {
            return Ok(());
        }
        let sql = self.wanted.templates.create(&SchemaObject::Database { name: name.to_owned(), engine: None })?;
        let mut planned = PlannedChange::new(name, "database", Action::Create, ChangeClass::MetadataOnly);
        planned.steps.push(Step::Sql(sql));
        self.changes.push(planned);
        Ok(())
    }

    fn named_collection(
        &mut self,
        collection: &NamedCollection,
        capabilities: &Capabilities,
    ) -> Result<(), MigrateError> {
        let name = &collection.name;
        let known = self.live.named_collections.as_ref();
        if let Some(live) = known.and_then(|known| known.get(name)) {
            return if live.from_config { Ok(()) } else { self.existing_collection(collection, live) };
        }
        let only_from_config = capabilities.named_collections_from_config && !capabilities.access_management;
        if known.is_some() && only_from_config {
            return Err(MigrateError::Unsafe {
                object: name.clone(),
                reason:
                    "the tables over its bucket need this named collection, and the server has read its own when it \
                         started"
                        .into(),
                hint: Some("restart `chpipe serve`: it reads the specs of ddl/tables then".into()),
            });
        }
        if capabilities.named_collections_from_config && known.is_none() {
            return Ok(());
        }
        let sql = self.wanted.templates.create(&SchemaObject::NamedCollection(collection.clone()))?;
        let mut planned = PlannedChange::new(name, "named collection", Action::Create, ChangeClass::MetadataOnly);
        planned.why.push("S3 tables name it instead of holding credentials".into());
        planned.steps.push(Step::Collection { name: name.clone(), sql });
        // Where the server does not show which there are, IF NOT EXISTS may find one that somebody else made.
        if known.is_some() {
            planned.steps.push(Step::Given { name: name.clone(), values: collections::plain_values(collection) });
        }
        self.changes.push(planned);
        Ok(())
    }

    /// One that DDL made: chpipe keeps those that its ledger knows, and leaves others alone.
    fn existing_collection(&mut self, collection: &NamedCollection, live: &LiveCollection) -> Result<(), MigrateError> {
        let ledger = Ledger::new(self.wanted.state_database);
        let given = ledger.collection(self.session, &collection.name)?;
        if given.is_none() && !ledger.has_made(self.session, &collection.name)? {
            self.notes.push(format!(
                "the named collection {} was not made by chpipe and stays as it is; drop it to have one made",
                collection.name
            ));
            return Ok(());
        }
        let secrets = self.wanted.secrets.get(&collection.name).map(Vec::as_slice).unwrap_or_default();
        let comparison = Comparison { wanted: collection, secrets, live, given };
        self.changes.extend(comparison.change(self.live, self.wanted.templates)?);
        Ok(())
    }

    /// One table or view: `pretty` as chpipe writes it, `wanted` as the server formats it.
    fn object(
        &mut self,
        pretty: &SchemaObject,
        wanted: &SchemaObject,
        create: String,
        spec: &TableSpec,
    ) -> Result<(), MigrateError> {
        let name = object_name(wanted);
        let Some(live) = self.live.objects.get(name) else {
            let mut planned =
                PlannedChange::new(&name.plain(), kind_of(wanted), Action::Create, ChangeClass::MetadataOnly);
            if let SchemaObject::Table(table) = wanted {
                planned.summary = created_summary(table);
            }
            planned.steps.push(Step::Sql(create));
            self.changes.push(planned);
            return Ok(());
        };
        match (&live.object, wanted, pretty) {
            (SchemaObject::Table(current), SchemaObject::Table(table), SchemaObject::Table(pretty)) => {
                self.table(live, current, table, pretty, spec)
            }
            (SchemaObject::MaterializedView(current), SchemaObject::MaterializedView(view), _) => {
                self.view(live, current, view, create)
            }
            _ => Err(MigrateError::Unsafe {
                object: name.plain(),
                reason: format!("it is a {} and is to be a {}", kind_of(&live.object), kind_of(wanted)),
                hint: Some("rename or drop the object that is in the way, then run again".into()),
            }),
        }
    }

    fn table(
        &mut self,
        live: &LiveObject,
        current: &Table,
        table: &Table,
        pretty: &Table,
        spec: &TableSpec,
    ) -> Result<(), MigrateError> {
        let hints = DiffHints { renames: spec.renames.clone(), drop: spec.drop.clone() };
        for column in &current.columns {
            let renamed = spec.renames.contains_key(&column.name);
            if table.column(&column.name).is_none()
                && !renamed
                && !spec.drop.contains(&column.name)
                && current.engine.is_merge_tree()
            {
                self.notes.push(format!(
                    "{} has column {}, which no file and no spec has any more; it stays",
                    table.name.plain(),
                    column.name
                ));
            }
        }
        match diff_table(current, table, &hints) {
            TableDiff::Same => {}
            TableDiff::Alter(alterations) => self.alter(live, table, alterations)?,
            TableDiff::Replace { reasons } => self.replace(live, current, table, pretty, reasons)?,
            TableDiff::Rebuild(rebuild) => self.rebuild(live, current, &rebuild, spec.retention_days)?,
        }
        Ok(())
    }

    fn alter(&mut self, live: &LiveObject, table: &Table, alterations: Vec<Alteration>) -> Result<(), MigrateError> {
        let class = alterations.iter().map(Alteration::class).max().unwrap_or(ChangeClass::MetadataOnly);
        let mut planned = PlannedChange::new(&table.name.plain(), "table", Action::Alter, class);
        planned.summary = alterations.iter().map(Alteration::summary).collect();
        planned.dependents = live.dependents.iter().map(Relation::plain).collect();
        if class == ChangeClass::Mutation {
            let columns: BTreeSet<&str> = alterations.iter().filter_map(Alteration::rewritten_column).collect();
            (planned.rows, planned.bytes) = (live.rows, self.column_bytes(&table.name, &columns)?);
        }
        for alteration in &alterations {
            if let Alteration::DropColumn { name } = alteration {
                planned.destructive.push(format!("column {name} and its values in {} rows", live.rows));
            }
            match alteration {
                Alteration::ModifyTtl { ttl: Some(ttl) } => self.loses_expired(&mut planned, &table.name, ttl, None),
                Alteration::ModifyColumnTtl { name, ttl: Some(ttl) } => {
                    self.loses_expired(&mut planned, &table.name, ttl, Some(name));
                }
                _ => {}
            }
        }
        let renames: Vec<(String, String)> = alterations
            .iter()
            .filter_map(|alteration| match alteration {
                Alteration::RenameColumn { from, to } => Some((from.clone(), to.clone())),
                _ => None,
            })
            .collect();
        let views = self.follow_renames(&mut planned, &table.name, renames)?;
        for group in statement_groups(&alterations) {
            let commands: Vec<String> = group.iter().map(|alteration| alteration.command()).collect();
            planned.steps.push(Step::Sql(self.wanted.templates.alter(&table.name, &commands)?));
            if matches!(group.first(), Some(Alteration::RenameColumn { .. })) {
                // Right after the rename: between the two, every insert into the table fails.
                planned.steps.extend(views.iter().cloned().map(Step::Sql));
            }
        }
        self.changes.push(planned);
        Ok(())
    }

    /// Notes the renames of a change, however it makes them. Answers the statements after which the views over the table
    /// read the new names: they have to follow the rename at once.
    fn follow_renames(
        &mut self,
        planned: &mut PlannedChange,
        table: &Relation,
        renames: Vec<(String, String)>,
    ) -> Result<Vec<String>, MigrateError> {
        if renames.is_empty() {
            return Ok(Vec::new());
        }
        let renames = Renames { table: table.clone(), columns: renames };
        let changes = views::that_follow(self.session, self.wanted.templates, &renames)?;
        for change in &changes {
            let why = format!("the view {} reads a renamed column and is changed with it", change.view.plain());
            planned.why.push(why);
        }
        planned.renames = Some(renames);
        Ok(changes.into_iter().map(|change| change.sql).collect())
    }

    fn replace(
        &mut self,
        live: &LiveObject,
        current: &Table,
        table: &Table,
        pretty: &Table,
        reasons: Vec<String>,
    ) -> Result<(), MigrateError> {
        if current.engine.is_merge_tree() {
            return Err(MigrateError::Unsafe {
                object: table.name.plain(),
                reason: format!(
                    "it is a {} table with {} rows and is to be {}",
                    current.engine.name, live.rows, table.engine.name
                ),
                hint: Some("rename the table that is in the way, then run again".into()),
            });
        }
        let mut planned = PlannedChange::new(&table.name.plain(), "table", Action::Replace, ChangeClass::Replace);
        planned.summary = reasons;
        planned.dependents = live.dependents.iter().map(Relation::plain).collect();
        if current.engine.is_s3_queue() {
            planned.action = Action::Recreate;
            planned.why.push(
                "a queue's columns cannot be altered: it starts over under a new Keeper path, and its view skips what \
                 is loaded"
                    .into(),
            );
            self.recreate_queue(&mut planned, table, pretty)?;
        } else {
            planned
                .why
                .push(format!("a table over {} holds no rows of its own and cannot be altered", table.engine.name));
            planned.steps.push(Step::Sql(self.wanted.templates.create_table(pretty, true)?));
        }
        self.changes.push(planned);
        Ok(())
    }

    /// Detaches the consumer, makes the queue anew. The view comes after it in the plan, with its own change.
    fn recreate_queue(
        &mut self,
        planned: &mut PlannedChange,
        table: &Table,
        pretty: &Table,
    ) -> Result<(), MigrateError> {
        let view = Relation::new(&table.name.database, table.name.name.replacen("queue_", "mv_", 1));
        let templates = self.wanted.templates;
        if self.live.objects.contains_key(&view) {
            planned.steps.push(Step::Sql(templates.drop(&view, true)?));
        }
        planned.steps.push(Step::Sql(templates.drop(&table.name, false)?));
        planned.steps.push(Step::Sql(templates.create_table(pretty, false)?));
        Ok(())
    }

    fn rebuild(
        &mut self,
        live: &LiveObject,
        current: &Table,
        rebuild: &Rebuild,
        keep_days: Option<u32>,
    ) -> Result<(), MigrateError> {
        let name = current.name.clone();
        let mut planned = PlannedChange::new(&name.plain(), "table", Action::Rebuild, ChangeClass::Rebuild);
        planned.why = rebuild.reasons.clone();
        planned.rows = live.rows;
        planned.bytes = live.bytes;
        planned.dependents = live.dependents.iter().map(Relation::plain).collect();
        planned.summary = rebuild_summary(current, rebuild);
        for dropped in &rebuild.dropped {
            planned.destructive.push(format!("column {dropped} and its values in {} rows", live.rows));
        }
        let mut columns = rebuild.columns.clone();
        for conversion in &rebuild.conversions {
            let lost = self.lossy_rows(&name, conversion)?;
            if lost > 0 {
                planned.destructive.push(format!(
                    "the values of {} in {lost} rows: they are no {}, and a default takes their place",
                    conversion.column, conversion.to
                ));
                if let Some(column) = columns.iter_mut().find(|(_, expression)| *expression == conversion.expression())
                {
                    column.1 = conversion.lossy_expression();
                }
            }
        }
        let collapsed = self.collapsed_rows(current, rebuild, &columns)?;
        if collapsed > 0 {
            planned.destructive.push(format!(
                "{collapsed} rows that share the new sorting key with another row: {} keeps one of them",
                rebuild.table.engine.name
            ));
        }
        let old_ttl = |column: &str| {
            let old = rebuild.renames.iter().find(|(_, to)| to == column).map_or(column, |(from, _)| from.as_str());
            current.column(old).map(|column| column.ttl.as_ref())
        };
        // A TTL over renamed columns cannot be asked of the old table, and counts nothing.
        if let Some(ttl) = rebuild.table.ttl.as_ref().filter(|ttl| current.ttl.as_ref() != Some(*ttl)) {
            self.loses_expired(&mut planned, &name, ttl, None);
        }
        for column in &rebuild.table.columns {
            if let (Some(ttl), Some(old)) = (&column.ttl, old_ttl(&column.name))
                && old != Some(ttl)
            {
                self.loses_expired(&mut planned, &name, ttl, Some(&column.name));
            }
        }
        self.check_free_space(&name, live.bytes)?;
        let shadow = Relation::new(&name.database, format!("{}__chp_new", name.name));
        let mut at = chrono::Utc::now();
        let old = loop {
            let old = Relation::new(&name.database, format!("{}__chp_old_{}", name.name, at.format("%Y%m%d%H%M%S")));
            if !self.live.objects.contains_key(&old) {
                break old;
            }
            // The one of an earlier migration in the same second, which was undone.
            at += chrono::TimeDelta::seconds(1);
        };
        let mut table = rebuild.table.clone();
        table.name = shadow.clone();
        let views = self.follow_renames(&mut planned, &name, rebuild.renames.clone())?;
        let templates = self.wanted.templates;
        planned.steps.push(Step::Rebuild(Box::new(RebuildStep {
            create: templates.create_table(&table, false)?,
            copy: templates.copy_partition(&name, &shadow, &columns, Some("_part = {part:String}"))?,
            exchange: templates.exchange(&name, &shadow)?,
            views,
            keep_days,
            partition_by: rebuild.table.partition_by.clone(),
            live: name,
            shadow,
            old,
            columns,
        })));
        self.changes.push(planned);
        Ok(())
    }

    fn view(
        &mut self,
        live: &LiveObject,
        current: &MaterializedView,
        view: &MaterializedView,
        create: String,
    ) -> Result<(), MigrateError> {
        let templates = self.wanted.templates;
        // A recreated queue drops its view: it is made again whatever the difference is.
        let queue = view.name.name.replacen("mv_", "queue_", 1);
        let dropped = self.changes.iter().any(|change| {
            change.action == Action::Recreate && change.object == format!("{}.{queue}", view.name.database)
        });
        let mut planned =
            PlannedChange::new(&view.name.plain(), "materialized view", Action::Alter, ChangeClass::MetadataOnly);
        if dropped {
            planned.action = Action::Recreate;
            planned.class = ChangeClass::Replace;
            planned.why.push("its queue is made anew".into());
            planned.steps.push(Step::Sql(create));
        } else {
            match diff_view(current, view) {
                ViewDiff::Same => return Ok(()),
                ViewDiff::ModifyQuery => {
                    planned.summary.push("~ query".into());
                    planned.steps.push(Step::Sql(views::modify_query(templates, &view.name, &view.query)?));
                }
                ViewDiff::Recreate { reason } => {
                    planned.action = Action::Recreate;
                    planned.class = ChangeClass::Replace;
                    planned.why.push(reason);
                    planned.steps.push(Step::Sql(templates.drop(&view.name, true)?));
                    planned.steps.push(Step::Sql(create));
                }
            }
        }
        planned.dependents = live.dependents.iter().map(Relation::plain).collect();
        self.changes.push(planned);
        Ok(())
    }

    /// Compressed bytes of some columns: what a mutation rewrites.
    fn column_bytes(&mut self, table: &Relation, columns: &BTreeSet<&str>) -> Result<u64, MigrateError> {
        let list: Vec<String> = columns.iter().map(|name| quote_string(name)).collect();
        if list.is_empty() {
            return Ok(0);
        }
        let sql = format!(
            "SELECT sum(bytes) FROM (SELECT if(any(part_type) = 'Compact', any(bytes_on_disk), \
             sumIf(column_bytes_on_disk, column IN ({}))) AS bytes FROM system.parts_columns WHERE active AND database = {} \
             AND table = {} GROUP BY name)",
            list.join(", "),
            quote_string(&table.database),
            quote_string(&table.name),
        );
        // A compact part has one file for all columns, which is written anew.
        Ok(rows(self.session, &sql)?.first().map_or(0, |row| number(row, 0)))
    }

    /// Notes what a new TTL, of the table or of a column, would delete at once.
    fn loses_expired(&mut self, planned: &mut PlannedChange, table: &Relation, ttl: &str, column: Option<&str>) {
        let expired = self.expired_rows(table, ttl);
        if expired > 0 {
            let what = column.map_or_else(String::new, |column| format!("the values of {column} in "));
            planned.destructive.push(format!("{what}{expired} rows that the new TTL has expired already"));
        }
    }

    /// Rows that a TTL would delete at once; 0 where that cannot be asked (a TTL that moves or aggregates).
    fn expired_rows(&mut self, table: &Relation, ttl: &str) -> u64 {
        let expression = ttl.strip_suffix(" DELETE").unwrap_or(ttl);
        let sql = format!("SELECT countIf(({expression}) <= now()) FROM {table}");
        rows(self.session, &sql).ok().and_then(|rows| rows.first().map(|row| number(row, 0))).unwrap_or_default()
    }

    /// Rows that do not survive a type change. A conversion that throws is as good as all rows lost.
    fn lossy_rows(&mut self, table: &Relation, conversion: &Conversion) -> Result<u64, MigrateError> {
        let sql = format!("SELECT countIf({}), count() FROM {table}", conversion.lossy_condition());
        match rows(self.session, &sql) {
            Ok(found) => Ok(found.first().map_or(0, |row| number(row, 0))),
            Err(error) if error.code().is_some() => Err(MigrateError::Unsafe {
                object: table.plain(),
                reason: format!("column {} cannot become {}: {error}", conversion.column, conversion.to),
                hint: Some("add a column of the new type instead, and fill it with an expression of your own".into()),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Rows that the engine would merge away under the new sorting key and keeps under the old one.
    fn collapsed_rows(
        &mut self,
        current: &Table,
        wanted: &Rebuild,
        columns: &[(String, String)],
    ) -> Result<u64, MigrateError> {
        let merges = |table: &Table| table.engine.name.trim_start_matches("Replicated") != "MergeTree";
        let key = wanted.table.sorting_key();
        let same_key = current.sorting_key() == key && current.partition_by == wanted.table.partition_by;
        if !merges(&wanted.table) || (same_key && merges(current)) {
            return Ok(0);
        }
        let final_ = if merges(current) { " FINAL" } else { "" };
        let mut group = key;
        group.extend(wanted.table.partition_by.clone());
        let group: Vec<String> = group.iter().map(|part| part.trim_end_matches(" DESC").to_owned()).collect();
        let group = if group.is_empty() { "1".to_owned() } else { format!("tuple({})", group.join(", ")) };
        let free = rebuild::free_prefix(columns);
        // A new column of the key has its default in every row.
        let new: String = wanted
            .table
            .columns
            .iter()
            .filter(|column| column.is_stored() && !columns.iter().any(|(name, _)| *name == column.name))
            .map(|column| {
                let value = match &column.default {
                    Some(default) => default.expression.clone(),
                    None => format!("defaultValueOfTypeName({})", quote_string(&column.kind.to_string())),
                };
                format!(", {value} AS {}", quote_identifier(&column.name))
            })
            .collect();
        let sql = format!(
            "SELECT ifNull(sum({free}rows - 1), 0) FROM (SELECT count() AS {free}rows FROM (SELECT *{new} FROM ({})) GROUP BY \
             {group})",
            rebuild::renamed_select(columns, &format!("{}{final_}", current.name), &free),
        );
        Ok(rows(self.session, &sql)?.first().map_or(0, |row| number(row, 0)))
    }

    /// A rebuild needs the table's size again on its disk.
    fn check_free_space(&mut self, table: &Relation, bytes: u64) -> Result<(), MigrateError> {
        let Ok(found) = rows(self.session, "SELECT max(free_space) FROM system.disks") else { return Ok(()) };
        let free = found.first().map_or(u64::MAX, |row| number(row, 0));
        if free != 0 && free < bytes.saturating_add(bytes / 5) {
            return Err(MigrateError::Unsafe {
                object: table.plain(),
                reason: format!(
                    "the rebuild copies {} and the disk has {} free",
                    crate::printer::human_bytes(bytes),
                    crate::printer::human_bytes(free)
                ),
                hint: Some("free the space, or drop old versions: `chpipe migrate status` lists them".into()),
            });
        }
        Ok(())
    }
}

fn kind_of(object: &SchemaObject) -> &'static str {
    match object {
        SchemaObject::Database { .. } => "database",
        SchemaObject::NamedCollection(_) => "named collection",
        SchemaObject::Table(_) => "table",
        SchemaObject::MaterializedView(_) => "materialized view",
        SchemaObject::View(_) => "view",
    }
}

fn created_summary(table: &Table) -> Vec<String> {
    let mut lines = vec![format!("{} columns, {}", table.columns.len(), table.engine)];
    if let Some(key) = &table.order_by {
        lines.push(format!("ORDER BY {key}"));
    }
    let nested: Vec<&str> = table
        .columns
        .iter()
        .filter(|column| {
            matches!(column.kind, ClickHouseType::Array(_) | ClickHouseType::Map(..) | ClickHouseType::Tuple(_))
        })
        .map(|column| column.name.as_str())
        .collect();
    if table.engine.is_merge_tree() && table.column(PATH).is_some() && !nested.is_empty() {
        lines.push(format!("a NULL list, map or struct of the files arrives empty: {}", nested.join(", ")));
    }
    lines
}

fn rebuild_summary(current: &Table, rebuild: &Rebuild) -> Vec<String> {
    let mut lines = Vec::new();
    for (from, to) in &rebuild.renames {
        lines.push(Alteration::RenameColumn { from: from.clone(), to: to.clone() }.summary());
    }
    for column in &rebuild.table.columns {
        let renamed = rebuild.renames.iter().find(|(_, to)| *to == column.name);
        match current.column(renamed.map_or(&column.name, |(from, _)| from)) {
            None => lines.push(format!("+ column {} {}", column.name, column.kind)),
            Some(old) if old.kind != column.kind => {
                lines.push(format!("~ column {}: {} -> {}", column.name, old.kind, column.kind));
            }
            Some(_) => {}
        }
    }
    for dropped in &rebuild.dropped {
        lines.push(format!("- column {dropped}"));
    }
    if current.order_by != rebuild.table.order_by {
        lines.push(format!("~ ORDER BY {}", rebuild.table.order_by.as_deref().unwrap_or("tuple()")));
    }
    if current.partition_by != rebuild.table.partition_by {
        lines.push(format!("~ PARTITION BY {}", rebuild.table.partition_by.as_deref().unwrap_or("nothing")));
    }
    if current.engine != rebuild.table.engine {
        lines.push(format!("~ engine {} -> {}", current.engine, rebuild.table.engine));
    }
    lines
}

/// Which alterations go into one ALTER: what stands in the way of a rename or a new type is dropped first, renames are
/// alone (later commands use the new names), stored values are kept before the change they are kept from, metadata goes
/// together, each mutation by itself.
fn statement_groups(alterations: &[Alteration]) -> Vec<Vec<&Alteration>> {
    let mut groups: Vec<Vec<&Alteration>> = Vec::new();
    let drops: Vec<_> = alterations
        .iter()
        .filter(|a| {
            matches!(
                a,
                Alteration::DropIndex { .. } | Alteration::DropProjection { .. } | Alteration::DropConstraint { .. }
            )
        })
        .collect();
    if !drops.is_empty() {
        groups.push(drops);
    }
    let renames: Vec<_> = alterations.iter().filter(|a| matches!(a, Alteration::RenameColumn { .. })).collect();
    if !renames.is_empty() {
        groups.push(renames);
    }
    for protect in alterations.iter().filter(|a| matches!(a, Alteration::MaterializeColumn { .. })) {
        groups.push(vec![protect]);
    }
    let together = |alteration: &&Alteration| {
        !matches!(
            alteration,
            Alteration::RenameColumn { .. }
                | Alteration::MaterializeColumn { .. }
                | Alteration::MaterializeIndex { .. }
                | Alteration::MaterializeProjection { .. }
                | Alteration::ModifyTtl { .. }
                | Alteration::ModifyColumnTtl { .. }
                | Alteration::CommentTable { .. }
                | Alteration::ModifySetting { .. }
                | Alteration::ResetSetting { .. }
                // Drop before add, in two statements: the server refuses both of one name in one.
                | Alteration::DropIndex { .. }
                | Alteration::DropProjection { .. }
                | Alteration::DropConstraint { .. }
        )
    };
    let settings: Vec<_> = alterations
        .iter()
        .filter(|a| matches!(a, Alteration::ModifySetting { .. } | Alteration::ResetSetting { .. }))
        .collect();
    // A projection may need a setting, so settings come before it.
    if !settings.is_empty() {
        groups.push(settings);
    }
    let metadata: Vec<_> = alterations.iter().filter(together).collect();
    if !metadata.is_empty() {
        groups.push(metadata);
    }
    for alteration in alterations.iter().filter(|a| {
        matches!(
            a,
            Alteration::MaterializeIndex { .. }
                | Alteration::MaterializeProjection { .. }
                | Alteration::ModifyTtl { .. }
                | Alteration::ModifyColumnTtl { .. }
                | Alteration::CommentTable { .. }
        )
    }) {
        groups.push(vec![alteration]);
    }
    groups
}
