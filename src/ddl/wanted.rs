//! The objects a dataset should have: `ext_<name>` over all of its files, `raw_<name>` for its rows, and in queue mode
//! `queue_<name>` with `mv_<name>`. In: merged Parquet schema, hive columns, spec; out: [`SchemaObject`]s.

use indexmap::IndexMap;

use crate::{
    engine::quote_identifier,
    engine::quote_string,
    schema::{
        ClickHouseType, Column, ColumnDefault, Constraint, DefaultKind, Index, MaterializedView, MergedSchema,
        Projection, Relation, SchemaObject, Table, TableEngine, mentions,
    },
};

use super::{DdlError, Source, TableSpec, reading};

/// The column with a batch's time, in every path.
pub(crate) const BATCH_ID: &str = "batch_id";
/// The object a row came from.
pub(crate) const PATH: &str = "_path";
/// When a row was loaded.
pub(crate) const LOADED_AT: &str = "_loaded_at";
/// A row's place in its object: what tells rows apart where no natural key does.
pub(crate) const ROW_NUMBER: &str = "_row_number";

/// A set of Parquet files that one table holds.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// `results`.
    pub name: String,
    /// Where its files are.
    pub source: Source,
    pub schema: MergedSchema,
    /// What the paths say, in their order; `batch_id` included where the paths have it.
    pub hive: Vec<HiveColumn>,
}

impl Dataset {
    /// The bucket, which begins every `_path`.
    pub fn bucket<'a>(&'a self, silver: &'a str) -> &'a str {
        self.source.bucket.as_deref().unwrap_or(silver)
    }

    /// Whether a file, or the endpoint's definition, has told the columns.
    pub fn has_columns(&self) -> bool {
        !self.schema.columns.is_empty()
    }
}

/// A `name=value/` folder of the paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveColumn {
    pub name: String,
    pub kind: ClickHouseType,
    /// Whether every path has it.
    pub everywhere: bool,
}

/// What of the project and the server decides how objects are written.
#[derive(Debug, Clone)]
pub struct WantedOptions {
    /// The raw database.
    pub database: String,
    /// Named collection of the Silver bucket.
    pub collection: String,
    pub cluster: Option<String>,
    /// Whether the S3 engine takes `partition_strategy = 'hive'` (25.8 and later): hive columns that are part of the
    /// definition, where older servers guess them from the files they happen to see at CREATE.
    pub hive_strategy: bool,
    /// Whether a table can hold arrays whose names have a dot as columns like any other (26.5 and later), where older
    /// servers take them for parts of one Nested column.
    pub independent_arrays: bool,
    /// Also `queue_*` and `mv_*`.
    pub queue: bool,
    /// Where S3Queue keeps its state: `/chpipe/queue`.
    pub keeper_path: String,
    /// The Silver bucket's name, which begins every `_path`.
    pub bucket: String,
    /// Database of the ledger of loads.
    pub state_database: String,
}

/// The hive columns of keys below a prefix, in path order, with types that hold every value.
pub fn hive_columns<'a>(prefix: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<HiveColumn> {
    let mut seen: IndexMap<&'a str, (usize, ClickHouseType)> = IndexMap::new();
    let mut total = 0;
    for key in keys {
        total += 1;
        let rest = key.strip_prefix(prefix).unwrap_or(key);
        let folders = rest.rsplit_once('/').map_or("", |(folders, _)| folders);
        for (name, value) in folders.split('/').filter_map(|folder| folder.split_once('=')) {
            let kind = hive_type(name, value);
            let entry = seen.entry(name).or_insert_with(|| (0, kind.clone()));
            entry.0 += 1;
            if entry.1 != kind {
                entry.1 = crate::schema::widen(&entry.1, &kind).unwrap_or(ClickHouseType::String);
            }
        }
    }
    // The batch comes last whatever order the first key had.
    let mut columns: Vec<HiveColumn> = seen
        .into_iter()
        .map(|(name, (count, kind))| HiveColumn { name: name.to_owned(), kind, everywhere: count == total })
        .collect();
    columns.sort_by_key(|column| column.name == BATCH_ID);
    columns
}

/// A value's type: whole numbers are Int16 where they fit (a season, a month, a round), everything else is text. Dates stay
/// text until a spec says otherwise.
fn hive_type(name: &str, value: &str) -> ClickHouseType {
    match value.parse::<i64>() {
        Ok(_) if name == BATCH_ID => ClickHouseType::String,
        Ok(number) if i16::try_from(number).is_ok() => ClickHouseType::Int(16),
        Ok(number) if i32::try_from(number).is_ok() => ClickHouseType::Int(32),
        Ok(_) => ClickHouseType::Int(64),
        Err(_) => ClickHouseType::String,
    }
}

/// Everything a dataset should have in the warehouse, in the order it must be created. A table over files needs a column of
/// theirs: ClickHouse refuses one of hive columns alone (code 117), so before the first file there is at most the raw
/// table, where the spec gives it columns.
///
/// # Errors
/// The spec names a column that does not exist, or a key column of a type that cannot be sorted.
pub fn wanted_objects(
    dataset: &Dataset,
    spec: &TableSpec,
    options: &WantedOptions,
) -> Result<Vec<SchemaObject>, DdlError> {
    let builder = Builder { dataset, spec, options };
    let has_files = dataset.has_columns();
    if !has_files && builder.file_columns().is_empty() {
        return Ok(Vec::new());
    }
    let raw = builder.raw_table()?;
    let mut objects = Vec::new();
    if has_files {
        objects.push(SchemaObject::Table(builder.ext_table()));
    }
    let target = raw.name.clone();
    match &options.cluster {
        Some(cluster) => {
            let (local, distributed) = builder.distributed(raw.clone(), cluster);
            objects.push(SchemaObject::Table(local));
            objects.push(SchemaObject::Table(distributed));
        }
        None => objects.push(SchemaObject::Table(raw.clone())),
    }
    if options.queue && has_files {
        objects.push(SchemaObject::Table(builder.queue_table()));
        objects.push(SchemaObject::MaterializedView(builder.queue_view(&raw, &target)));
    }
    Ok(objects)
}

struct Builder<'a> {
    dataset: &'a Dataset,
    spec: &'a TableSpec,
    options: &'a WantedOptions,
}

impl Builder<'_> {
    fn relation(&self, kind: &str) -> Relation {
        self.spec.relation(kind, &self.options.database)
    }

    /// The type of a file's column as the spec wants it.
    fn column_kind(&self, name: &str, found: &ClickHouseType) -> ClickHouseType {
        let Some(spec) = self.spec.columns.get(name) else { return found.clone() };
        let mut kind = spec.kind.clone().unwrap_or_else(|| found.clone());
        match spec.nullable {
            Some(true) => kind = kind.nullable(),
            Some(false) => kind = kind.not_nullable(),
            None => {}
        }
        match spec.low_cardinality {
            Some(true) => kind.low_cardinality(),
            Some(false) => kind.not_low_cardinality(),
            None => kind,
        }
    }

    /// The columns that the files hold, and those the spec adds with a type.
    fn file_columns(&self) -> Vec<(String, ClickHouseType)> {
        let mut columns: Vec<(String, ClickHouseType)> = Vec::new();
        for column in &self.dataset.schema.columns {
            // A renamed column is read under its old name too; the table has the new one alone.
            let name = self.spec.renames.get(&column.name).unwrap_or(&column.name);
            let dropped = self.spec.drop.contains(name);
            if dropped || columns.iter().any(|(known, _)| known == name) {
                continue;
            }
            columns.push((name.clone(), self.column_kind(name, &column.kind)));
        }
        for (name, spec) in &self.spec.columns {
            let computed = spec.materialized.is_some() || spec.alias.is_some();
            if let (Some(kind), false) = (&spec.kind, computed)
                && !columns.iter().any(|(known, _)| known == name)
                && !self.hive().iter().any(|hive| hive.name == *name)
                && !is_own(name)
            {
                columns.push((name.clone(), self.column_kind(name, kind)));
            }
        }
        columns
    }

    /// The hive columns, with the spec's types.
    fn hive(&self) -> Vec<HiveColumn> {
        let mut hive = self.dataset.hive.clone();
        for (name, kind) in &self.spec.hive_columns {
            match hive.iter_mut().find(|column| column.name == *name) {
                Some(column) => column.kind = kind.clone(),
                None => {
                    let everywhere = self.dataset.schema.files == 0;
                    hive.push(HiveColumn { name: name.clone(), kind: kind.clone(), everywhere });
                }
            }
        }
        hive.sort_by_key(|column| column.name == BATCH_ID);
        hive
    }

    /// The natural key: the spec's, else what the files say of themselves.
    fn natural_key(&self) -> Vec<String> {
        if let Some(key) = &self.spec.natural_key {
            return key.clone();
        }
        let metadata = &self.dataset.schema.metadata;
        let Some(text) = metadata.get("chpipe.natural_key").or_else(|| metadata.get("natural_key")) else {
            return Vec::new();
        };
        serde_json::from_str::<Vec<String>>(text).unwrap_or_else(|_| {
            text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        })
    }

    fn raw_table(&self) -> Result<Table, DdlError> {
        let mut columns: Vec<Column> = Vec::new();
        for (name, kind) in self.file_columns() {
            columns.push(self.column(&name, kind));
        }
        for hive in self.hive() {
            if !columns.iter().any(|column| column.name == hive.name) {
                columns.push(self.column(&hive.name, hive.kind));
            }
        }
        let natural_key = self.natural_key();
        columns.push(self.column(PATH, ClickHouseType::String));
        if natural_key.is_empty() && self.spec.order_by.is_none() {
            columns.push(self.column(ROW_NUMBER, ClickHouseType::UInt(64)));
        }
        columns.push(self.column(LOADED_AT, loaded_at_type()));
        for (name, spec) in &self.spec.columns {
            let default = match (&spec.materialized, &spec.alias) {
                (Some(expression), _) => (DefaultKind::Materialized, expression),
                (None, Some(expression)) => (DefaultKind::Alias, expression),
                (None, None) => continue,
            };
            if let Some(kind) = &spec.kind {
                let mut column = self.column(name, kind.clone());
                column.default = Some(ColumnDefault { kind: default.0, expression: default.1.clone() });
                columns.push(column);
            }
        }
        self.check_spec_columns(&columns)?;
        self.check_key_names(&columns)?;

        let engine = match &self.spec.engine {
            Some(engine) => split_engine(engine),
            None => TableEngine::new("ReplacingMergeTree", [LOADED_AT]),
        };
        let engine = match &self.options.cluster {
            Some(_) if !engine.is_replicated() => replicated(&engine),
            _ => engine,
        };
        let mut table = Table::new(self.relation("raw"), columns, engine);
        table.order_by = Some(tuple(&self.sorting_key(&table.columns, &natural_key)?));
        table.primary_key = self.spec.primary_key.as_ref().map(|key| tuple(key));
        table.partition_by = match &self.spec.partition_by {
            Some(expression) if expression == "none" => None,
            Some(expression) => Some(expression.clone()),
            None => self.hive().iter().any(|column| column.name == "season").then(|| "season".to_owned()),
        };
        table.ttl.clone_from(&self.spec.ttl);
        table.settings =
            self.spec.settings.iter().map(|(name, value)| (name.clone(), setting_literal(value))).collect();
        let dotted = |column: &Column| column.name.contains('.') && matches!(column.kind, ClickHouseType::Array(_));
        if self.options.independent_arrays && table.columns.iter().any(dotted) {
            // Otherwise arrays whose names begin alike must have one length in each row, and an insert that has not fails.
            table.settings.entry("share_nested_offsets".into()).or_insert_with(|| "0".into());
        }
        table.indexes = self
            .spec
            .indexes
            .iter()
            .map(|(name, index)| Index {
                name: name.clone(),
                expression: index.expression.clone(),
                kind: index.kind.clone(),
                granularity: index.granularity,
            })
            .collect();
        // A projection over a table that replaces rows must say what a merge does with it.
        let replaces = table.engine.name != "MergeTree" && table.engine.name != "ReplicatedMergeTree";
        if !self.spec.projections.is_empty() && replaces {
            table.settings.entry("deduplicate_merge_projection_mode".into()).or_insert_with(|| "'rebuild'".into());
        }
        table.projections = self
            .spec
            .projections
            .iter()
            .map(|(name, query)| Projection { name: name.clone(), query: query.clone() })
            .collect();
        table.constraints = self
            .spec
            .constraints
            .iter()
            .map(|(name, expression)| Constraint {
                name: name.clone(),
                kind: "CHECK".into(),
                expression: expression.clone(),
            })
            .collect();
        table.comment.clone_from(&self.spec.comment);
        Ok(table)
    }

    /// A column of the raw table with codec, default and comment.
    fn column(&self, name: &str, kind: ClickHouseType) -> Column {
        let spec = self.spec.columns.get(name);
        let codec = match spec.and_then(|spec| spec.codec.as_deref()) {
            Some("none") => None,
            Some(codec) => Some(codec.to_owned()),
            None => default_codec(&kind).map(str::to_owned),
        };
        let mut column = Column { codec, ..Column::new(name, kind) };
        if let Some(spec) = spec {
            column.comment = spec.comment.clone().unwrap_or_default();
            column.ttl.clone_from(&spec.ttl);
            column.default = spec
                .default
                .as_ref()
                .map(|expression| ColumnDefault { kind: DefaultKind::Default, expression: expression.clone() });
        }
        column
    }

    /// Hive columns, natural key, batch: rows of one batch are told apart, batches stay apart.
    fn sorting_key(&self, columns: &[Column], natural_key: &[String]) -> Result<Vec<String>, DdlError> {
        if let Some(order_by) = &self.spec.order_by {
            self.check_key(order_by, columns)?;
            return Ok(order_by.clone());
        }
        let mut names: Vec<String> = Vec::new();
        let hive = self.hive();
        let hive_names = hive.iter().map(|column| &column.name).filter(|name| *name != BATCH_ID);
        let fallback = [PATH.to_owned(), ROW_NUMBER.to_owned()];
        let rest = if natural_key.is_empty() { &fallback[..] } else { natural_key };
        let batch = hive.iter().map(|column| &column.name).filter(|name| *name == BATCH_ID);
        for name in hive_names.chain(rest).chain(batch) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
            .iter()
            .map(|name| {
                let column =
                    columns.iter().find(|column| column.name == *name).ok_or_else(|| DdlError::UnknownColumn {
                        dataset: self.dataset.name.clone(),
                        column: name.clone(),
                        place: "natural_key",
                        location: self.spec.locate(name),
                    })?;
                let quoted = identifier(name);
                if !column.kind.is_nullable() {
                    return Ok(quoted);
                }
                // NULL in a sorting key would need allow_nullable_key; a value that no row has does not.
                match column.kind.null_key_literal() {
                    Some(literal) => Ok(format!("ifNull({quoted}, {literal})")),
                    None => Err(DdlError::KeyColumn {
                        dataset: self.dataset.name.clone(),
                        column: name.clone(),
                        reason: format!("it is {}", column.kind),
                    }),
                }
            })
            .collect()
    }

    /// What the server would refuse of a key only when the table is made, after other statements have run.
    fn check_key(&self, key: &[String], columns: &[Column]) -> Result<(), DdlError> {
        let refused = |column: &Column, reason: String| DdlError::KeyColumn {
            dataset: self.dataset.name.clone(),
            column: column.name.clone(),
            reason,
        };
        for column in columns {
            let alone = |part: &String| part.trim_matches('`') == column.name;
            if key.iter().any(alone)
                && column.kind.is_nullable()
                && !self.spec.settings.contains_key("allow_nullable_key")
            {
                return Err(refused(column, format!("it is {}", column.kind)));
            }
            if column.ttl.is_some() && key.iter().any(|part| mentions(part, &column.name)) {
                return Err(refused(column, "its values expire (`ttl`)".into()));
            }
        }
        Ok(())
    }

    /// A misspelt column in the spec is an error; one that the files may bring later needs a type.
    fn check_spec_columns(&self, columns: &[Column]) -> Result<(), DdlError> {
        let known = |name: &String| columns.iter().any(|column| column.name == *name);
        if self.dataset.schema.files == 0 {
            return Ok(());
        }
        for name in self.spec.columns.keys() {
            if !known(name) {
                return Err(DdlError::UnknownColumn {
                    dataset: self.dataset.name.clone(),
                    column: name.clone(),
                    place: "columns",
                    location: self.spec.locate(name),
                });
            }
        }
        Ok(())
    }

    /// A misspelt column in a key too; the server would refuse it when the table is made, after other statements have run.
    fn check_key_names(&self, columns: &[Column]) -> Result<(), DdlError> {
        if self.dataset.schema.files == 0 {
            return Ok(());
        }
        let list = |key: &Option<Vec<String>>| key.clone().unwrap_or_default();
        let partition = self.spec.partition_by.clone().filter(|expression| expression != "none");
        let keys = [
            ("order_by", list(&self.spec.order_by)),
            ("primary_key", list(&self.spec.primary_key)),
            ("partition_by", partition.into_iter().collect()),
        ];
        for (place, key) in keys {
            for part in &key {
                let bare = part.trim_end_matches(" DESC").trim_end_matches(" ASC");
                // An expression is the server's to judge.
                let is_name = bare == identifier(bare) || (bare.starts_with('`') && bare.ends_with('`'));
                let name = bare.trim_matches('`');
                if is_name && !columns.iter().any(|column| column.name == name) {
                    return Err(DdlError::UnknownColumn {
                        dataset: self.dataset.name.clone(),
                        column: name.to_owned(),
                        place,
                        location: self.spec.locate(name),
                    });
                }
            }
        }
        Ok(())
    }

    /// The columns of the files and the hive columns, as an S3 table declares them.
    fn s3_columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = Vec::new();
        for column in &self.dataset.schema.columns {
            // Without LowCardinality: there is nothing stored that a dictionary would shrink.
            columns.push(Column::new(&column.name, file_kind(&column.name, &column.kind, self.spec)));
        }
        for hive in self.hive().into_iter().filter(|hive| hive.everywhere) {
            match columns.iter_mut().find(|column| column.name == hive.name) {
                // The path's value wins in ClickHouse; a NULL it cannot have.
                Some(column) => column.kind = column.kind.clone().not_nullable(),
                None => columns.push(Column::new(hive.name, hive.kind)),
            }
        }
        columns
    }

    fn ext_table(&self) -> Table {
        let source = &self.dataset.source;
        let hive: Vec<String> =
            self.hive().iter().filter(|hive| hive.everywhere).map(|hive| identifier(&hive.name)).collect();
        let strategy = self.options.hive_strategy
            && source.takes_all()
            && !hive.is_empty()
            && self.hive().iter().all(|hive| hive.everywhere);
        let filename = if strategy { source.prefix() } else { &source.pattern };
        let mut arguments =
            vec![self.collection(), format!("filename = {}", quote_string(filename)), "format = 'Parquet'".to_owned()];
        if strategy {
            arguments.push("partition_strategy = 'hive'".to_owned());
        }
        let mut table = Table::new(self.relation("ext"), self.s3_columns(), TableEngine::new("S3", arguments));
        if strategy {
            table.partition_by = Some(tuple(&hive));
        }
        // A setting of a SELECT does not reach the reader of a table: it must stand here.
        table.settings.insert("input_format_parquet_allow_missing_columns".into(), "1".into());
        table.comment = format!("All files of {}, read in place", self.dataset.name);
        table
    }

    fn collection(&self) -> String {
        let of_bucket = self.dataset.source.bucket.as_deref().filter(|bucket| *bucket != self.options.bucket);
        match (&self.spec.collection, of_bucket) {
            (Some(collection), _) => identifier(collection),
            (None, Some(bucket)) => collection_of_bucket(bucket),
            (None, None) => identifier(&self.options.collection),
        }
    }

    fn queue_table(&self) -> Table {
        let hive: Vec<HiveColumn> = self.hive();
        // What the path says is read from `_path` in the view: S3Queue too would guess it from the first file.
        let columns: Vec<Column> = self
            .s3_columns()
            .into_iter()
            .filter(|column| {
                self.dataset.schema.columns.iter().any(|known| known.name == column.name)
                    || !hive.iter().any(|hive| hive.name == column.name)
            })
            .collect();
        let arguments = vec![
            self.collection(),
            format!("filename = {}", quote_string(&self.dataset.source.pattern)),
            "format = 'Parquet'".to_owned(),
        ];
        // Keeper knows the columns and refuses others: new columns need a path of their own, so their hash is in it.
        let declarations: Vec<String> = columns.iter().map(Column::declaration).collect();
        let mut table = Table::new(self.relation("queue"), columns, TableEngine::new("S3Queue", arguments));
        let keeper_path = format!(
            "{}/{}/{}/{:08x}",
            self.options.keeper_path,
            self.options.database,
            self.dataset.name,
            crc32fast::hash(declarations.join(",").as_bytes())
        );
        let defaults: [(&str, String); 7] = [
            // Ordered mode forgets a file that sorts before the last one: a backfill of 1950 after 2024.
            ("mode", "'unordered'".into()),
            ("keeper_path", quote_string(&keeper_path)),
            ("after_processing", "'keep'".into()),
            ("loading_retries", "10".into()),
            // Beyond the limit the oldest files are forgotten and read again.
            ("tracked_files_limit", "1000000".into()),
            ("tracked_file_ttl_sec", "0".into()),
            ("polling_max_timeout_ms", "2000".into()),
        ];
        // How long a file stays marked that a killed consumer was reading; older servers have no such marks.
        let ttl = self.options.hive_strategy.then(|| ("persistent_processing_node_ttl_seconds", "600".to_owned()));
        for (name, value) in defaults.into_iter().chain(ttl) {
            table.settings.insert(name.to_owned(), value);
        }
        for (name, value) in &self.spec.queue_settings {
            table.settings.insert(name.clone(), setting_literal(value));
        }
        table
    }

    /// Rows of the queue into the raw table, but for objects that the ledger has already: a queue that starts over reads
    /// all files again.
    fn queue_view(&self, raw: &Table, target: &Relation) -> MaterializedView {
        // S3Queue leaves the bucket out of `_path`, other S3 tables do not.
        let bucket = quote_string(&format!("{}/", self.dataset.bucket(&self.options.bucket)));
        let path = format!("if(startsWith(_path, {bucket}), _path, concat({bucket}, _path))");
        let select: Vec<String> = load_select(self.dataset, self.spec, raw)
            .into_iter()
            .map(|(name, expression)| if name == PATH { format!("{path} AS {PATH}") } else { expression })
            .collect();
        MaterializedView {
            name: self.relation("mv"),
            to: Some(target.clone()),
            query: format!(
                "SELECT {} FROM {} WHERE {path} NOT IN (SELECT concat({bucket}, object_key) FROM {} FINAL WHERE dataset = {} \
                 AND state = 'loaded')",
                select.join(", "),
                self.relation("queue"),
                Relation::new(&self.options.state_database, "loads"),
                quote_string(&self.dataset.name),
            ),
            comment: String::new(),
        }
    }

    /// The table each server holds, and the one that reads and writes all of them.
    fn distributed(&self, mut local: Table, cluster: &str) -> (Table, Table) {
        let name = local.name.clone();
        local.name = Relation::new(&name.database, format!("{}_local", name.name));
        let engine = TableEngine::new(
            "Distributed",
            [
                quote_string(cluster),
                quote_string(&local.name.database),
                quote_string(&local.name.name),
                // All versions of a row meet on one shard, or ReplacingMergeTree would never see them together.
                format!("cityHash64({})", local.sorting_key().join(", ")),
            ],
        );
        let columns = local.columns.iter().map(|column| Column { codec: None, ttl: None, ..column.clone() }).collect();
        let mut distributed = Table::new(name, columns, engine);
        distributed.comment.clone_from(&local.comment);
        (local, distributed)
    }
}

/// Name and expression (with its alias) of every stored column of the raw table, read from an S3 table of the dataset.
pub fn load_select(dataset: &Dataset, spec: &TableSpec, raw: &Table) -> Vec<(String, String)> {
    let in_files = |name: &str| dataset.schema.columns.iter().any(|column| column.name == name);
    // A value of the files, made one of the raw table's column.
    let checked = |column: &Column, value: &str| {
        let quoted = identifier(&column.name);
        let names = |known: &str| known == column.name || spec.renames.get(known) == Some(&column.name);
        let kinds = dataset.schema.columns.iter().filter(|known| names(&known.name));
        let found = kinds.map(|known| file_kind(&known.name, &known.kind, spec));
        let found = found.reduce(|all, kind| crate::schema::widen(&all, &kind).unwrap_or(kind));
        let expression = found
            .and_then(|found| reading::checked(&column.name, value, &found, &column.kind, column.default.as_ref()))
            .unwrap_or_else(|| value.to_owned());
        if expression == quoted { expression } else { format!("{expression} AS {quoted}") }
    };
    raw.columns
        .iter()
        .filter(|column| column.is_stored())
        .map(|column| {
            let name = column.name.as_str();
            let quoted = identifier(name);
            let old: Vec<&String> = spec.renames.iter().filter(|(_, new)| *new == name).map(|(old, _)| old).collect();
            let expression = match name {
                PATH | ROW_NUMBER => quoted.clone(),
                LOADED_AT => format!("now64(3, 'UTC') AS {quoted}"),
                _ if !old.is_empty() => {
                    // Files before the rename have the old name, files after it the new one.
                    let names: Vec<String> = std::iter::once(name)
                        .chain(old.iter().map(|old| old.as_str()))
                        .filter(|name| in_files(name))
                        .map(identifier)
                        .collect();
                    match names.as_slice() {
                        [] => format!("defaultValueOfTypeName({}) AS {quoted}", quote_string(&column.kind.to_string())),
                        [only] if *only == quoted => checked(column, &quoted),
                        names => checked(column, &format!("coalesce({})", names.join(", "))),
                    }
                }
                _ if in_files(name) => checked(column, &quoted),
                // What the path says, from the path itself: the server's own hive columns are guessed at CREATE.
                _ if dataset.hive.iter().any(|hive| hive.name == name) || spec.hive_columns.contains_key(name) => {
                    format!("{} AS {quoted}", path_value(name, &column.kind))
                }
                _ => match &column.default {
                    Some(default) => format!("{} AS {quoted}", default.expression),
                    None => {
                        let kind = quote_string(&column.kind.to_string());
                        format!("defaultValueOfTypeName({kind}) AS {quoted}")
                    }
                },
            };
            (name.to_owned(), expression)
        })
        .collect()
}

/// The type in which a table over files has a column of theirs. Without LowCardinality: there is nothing stored that a
/// dictionary would shrink.
pub fn file_kind(name: &str, found: &ClickHouseType, spec: &TableSpec) -> ClickHouseType {
    let kind = match spec.columns.get(name).and_then(|spec| spec.kind.clone()) {
        Some(kind) => reading::read_kind(found, kind),
        None => found.clone(),
    };
    kind.not_low_cardinality()
}

/// `name=value/` of `_path`, as a value of the type; 0 or '' where the path has none.
fn path_value(name: &str, kind: &ClickHouseType) -> String {
    let text = format!("decodeURLComponent(extract(_path, {}))", quote_string(&format!("/{name}=([^/]*)/")));
    match kind.inner() {
        ClickHouseType::Int(bits) => format!("toInt{bits}OrZero({text})"),
        ClickHouseType::UInt(bits) => format!("toUInt{bits}OrZero({text})"),
        ClickHouseType::Date32 => format!("toDate32OrZero({text})"),
        ClickHouseType::Date => format!("toDateOrZero({text})"),
        _ => text,
    }
}

/// The named collection of a bucket that has none in its spec: `s3_my_bucket`.
pub fn collection_of_bucket(bucket: &str) -> String {
    let name: String = bucket.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("s3_{name}")
}

/// Columns that chpipe adds to every raw table.
fn is_own(name: &str) -> bool {
    matches!(name, BATCH_ID | PATH | LOADED_AT | ROW_NUMBER)
}

/// Why a column of a file cannot have this name.
pub fn reserved(name: &str) -> Option<String> {
    match name {
        "" => Some("it has no name".into()),
        PATH | LOADED_AT | ROW_NUMBER => {
            Some(format!("every raw table has a `{name}` that says where a row came from"))
        }
        _ => None,
    }
}

fn loaded_at_type() -> ClickHouseType {
    ClickHouseType::DateTime64 { precision: 3, timezone: Some("UTC".into()) }
}

/// Codecs that pay for times and measurements, as the server writes them.
fn default_codec(kind: &ClickHouseType) -> Option<&'static str> {
    match kind.inner() {
        ClickHouseType::Date => Some("Delta(2), ZSTD(1)"),
        ClickHouseType::Date32 | ClickHouseType::DateTime(_) => Some("Delta(4), ZSTD(1)"),
        ClickHouseType::DateTime64 { .. } => Some("Delta(8), ZSTD(1)"),
        ClickHouseType::Float(32) => Some("Gorilla(4), ZSTD(1)"),
        ClickHouseType::Float(_) => Some("Gorilla(8), ZSTD(1)"),
        _ => None,
    }
}

/// A name as the server formats it: bare where it can be, so that text compares.
pub(crate) fn identifier(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    // The server's formatter decides what it leaves bare; quoting more than it does is harmless, less is not.
    const RESERVED: [&str; 24] = [
        "null", "true", "false", "select", "from", "where", "table", "order", "group", "by", "as", "and", "or", "not",
        "in", "is", "case", "when", "then", "else", "end", "distinct", "all", "interval",
    ];
    if plain && !RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        name.to_owned()
    } else {
        quote_identifier(name)
    }
}

fn tuple(parts: &[String]) -> String {
    match parts {
        [] => "tuple()".to_owned(),
        [only] => only.clone(),
        parts => format!("({})", parts.join(", ")),
    }
}

fn setting_literal(value: &serde_yaml_ng::Value) -> String {
    match value {
        serde_yaml_ng::Value::Bool(flag) => if *flag { "1" } else { "0" }.to_owned(),
        serde_yaml_ng::Value::Number(number) => number.to_string(),
        serde_yaml_ng::Value::String(text) => quote_string(text),
        other => quote_string(&serde_json::to_string(other).unwrap_or_default()),
    }
}

fn split_engine(text: &str) -> TableEngine {
    match text.split_once('(') {
        Some((name, arguments)) => {
            let inner = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
            TableEngine::new(name.trim(), crate::schema::split_arguments(inner))
        }
        None => TableEngine::new(text.trim(), Vec::<String>::new()),
    }
}

fn replicated(engine: &TableEngine) -> TableEngine {
    let mut arguments = vec!["'/clickhouse/tables/{uuid}/{shard}'".to_owned(), "'{replica}'".to_owned()];
    arguments.extend(engine.arguments.iter().cloned());
    TableEngine::new(format!("Replicated{}", engine.name), arguments)
}
