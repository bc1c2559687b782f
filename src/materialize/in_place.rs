//! A changed configuration on a table that is there already: settings, TTL, indexes, projections and codecs are changed in
//! place; engine, sorting and partition key are refused with the reason. In: the live table and an empty one made from the
//! configuration, so that ClickHouse itself writes both the same way; out: one ALTER.

use std::collections::BTreeMap;

use super::{MaterializeError, Model, TableSpec, build, table_spec};
use crate::{
    adapter::{Adapter, ColumnInfo, RelationInfo},
    engine::{quote_identifier, quote_string},
    project::Relation,
    schema::key_parts,
};

/// Settings that ClickHouse does not change on a table, and those that are chpipe's own.
const FIXED_SETTINGS: [&str; 4] =
    ["index_granularity", "index_granularity_bytes", "enable_mixed_granularity_parts", "storage_policy"];

/// What of a table can be changed in place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Layout {
    engine: String,
    sorting_key: String,
    primary_key: String,
    partition_key: String,
    ttl: String,
    settings: BTreeMap<String, String>,
    /// Type with arguments, and granularity.
    indexes: BTreeMap<String, String>,
    projections: BTreeMap<String, String>,
    codecs: BTreeMap<String, String>,
}

/// Brings the live table in line with the configuration; answers what was changed.
pub(super) fn apply(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
) -> Result<Vec<String>, MaterializeError> {
    // A second table with a replicated engine's arguments would be another replica of the same.
    let own_path = existing.engine.starts_with("Replicated") && model.config().engine().contains('\'');
    if !existing.is_merge_tree() || own_path || is_as_configured(model, existing, adapter)? {
        return Ok(Vec::new());
    }
    let live = layout(adapter, existing)?;
    let wanted = wanted_layout(model, adapter, existing)?;
    // dbt-clickhouse writes `ORDER BY (id)` where chpipe writes `ORDER BY id`, and the server keeps either.
    let same_key = |live: &str, wanted: &str| key_parts(live) == key_parts(wanted);
    for (what, live, wanted, is_same) in [
        ("the engine", &live.engine, &wanted.engine, live.engine == wanted.engine),
        ("the sorting key", &live.sorting_key, &wanted.sorting_key, same_key(&live.sorting_key, &wanted.sorting_key)),
        ("the primary key", &live.primary_key, &wanted.primary_key, same_key(&live.primary_key, &wanted.primary_key)),
        (
            "the partition key",
            &live.partition_key,
            &wanted.partition_key,
            same_key(&live.partition_key, &wanted.partition_key),
        ),
    ] {
        if !is_same {
            return Err(MaterializeError::NeedsRebuild {
                relation: existing.relation.clone(),
                what,
                live: format!("`{live}`"),
                wanted: format!("`{wanted}`"),
            });
        }
    }
    let mut notes = Vec::new();
    for commands in alters(&live, &wanted, &mut notes) {
        adapter.alter(&existing.relation, &commands)?;
    }
    Ok(notes)
}

/// Whether every configured text is found in the table's own CREATE statement: the usual case, and one that costs nothing.
fn is_as_configured(model: &Model<'_>, existing: &RelationInfo, adapter: &Adapter) -> Result<bool, MaterializeError> {
    let config = model.config();
    let create = squeezed(&existing.create_query);
    let mut expected: Vec<String> = Vec::new();
    expected.push(format!("ENGINE={}", config.engine().trim_end_matches("()")));
    expected.push(format!("ORDERBY{}", table_spec::order_by(config)));
    if let Some(partition) = table_spec::tuple(&config.partition_by()) {
        expected.push(format!("PARTITIONBY{partition}"));
    }
    expected.extend(config.list("ttl").into_iter().map(|ttl| format!("TTL{ttl}")));
    let settings = table_spec::table_settings(config, config.engine(), adapter.options());
    let (_, _, live_settings) = split_engine(&existing.engine_full);
    let live = Layout { settings: live_settings, ..Layout::default() };
    let is_wanted = |name: &str| settings.iter().any(|setting| setting.split(" = ").next() == Some(name));
    let none_to_reset = unwanted(&live, is_wanted).next().is_none();
    expected.extend(
        settings.iter().filter(|setting| !FIXED_SETTINGS.iter().any(|fixed| setting.starts_with(fixed))).cloned(),
    );
    let indexes = table_spec::indexes(config)?;
    let projections = table_spec::projections(config)?;
    expected.extend(indexes.iter().map(|index| format!("INDEX{}{}", index.name, index.definition)));
    expected.extend(projections.iter().map(|projection| format!("PROJECTION{}", projection.name)));
    for column in model.node.columns.values() {
        if let Some(codec) = table_spec::extra_text(column, "codec") {
            expected.push(format!("CODEC({codec})"));
        }
    }
    let none_left = none_to_reset
        && (!config.partition_by().is_empty() || existing.partition_key.is_empty())
        && (config.get("ttl").is_some() || !existing.engine_full.contains(" TTL "))
        && indexes.len() == existing.create_query.matches("INDEX ").count()
        && projections.len() == existing.create_query.matches("PROJECTION ").count()
        // A projection's query is written anew by ClickHouse, so only a comparison of both says whether it is the same.
        && projections.is_empty();
    Ok(none_left && expected.iter().all(|text| create.contains(&squeezed(text))))
}

/// Without blanks, backticks and case.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '`').flat_map(char::to_lowercase).collect()
}

/// The layout of an empty table with the live columns and the wanted configuration.
fn wanted_layout(
    model: &Model<'_>,
    adapter: &mut Adapter,
    existing: &RelationInfo,
) -> Result<Layout, MaterializeError> {
    let columns: Vec<ColumnInfo> =
        adapter.columns(&existing.relation)?.into_iter().filter(ColumnInfo::is_insertable).collect();
    // Batches of one model may look at the same time.
    let batch = model.batch.map(|batch| batch.name.as_str()).unwrap_or_default();
    let probe = build::temporary_relation(model.relation, model.invocation, &format!("layout{batch}"));
    adapter.drop_relation(&probe)?;
    let spec = TableSpec::new(model.source(), &columns, adapter.options())?;
    build::create_table(adapter, &probe, &spec)?;
    let info = adapter.relation(&probe)?;
    let layout = info.map(|info| layout(adapter, &info)).transpose();
    adapter.drop_relation(&probe)?;
    Ok(layout?.unwrap_or_default())
}

fn layout(adapter: &mut Adapter, info: &RelationInfo) -> Result<Layout, MaterializeError> {
    let (engine, ttl, settings) = split_engine(&info.engine_full);
    Ok(Layout {
        engine,
        sorting_key: info.sorting_key.clone(),
        primary_key: info.primary_key.clone(),
        partition_key: info.partition_key.clone(),
        ttl,
        settings,
        indexes: named(
            adapter,
            &info.relation,
            "system.data_skipping_indices",
            "concat(expr, ' TYPE ', type_full, ' GRANULARITY ', toString(granularity))",
        )?,
        projections: if adapter.capabilities().version >= (24, 9) {
            named(adapter, &info.relation, "system.projections", "query")?
        } else {
            BTreeMap::new()
        },
        codecs: adapter.columns(&info.relation)?.into_iter().map(|column| (column.name, column.codec)).collect(),
    })
}

fn named(
    adapter: &mut Adapter,
    relation: &Relation,
    table: &str,
    definition: &str,
) -> Result<BTreeMap<String, String>, MaterializeError> {
    let sql = format!(
        "SELECT name, {definition} FROM {table} WHERE database = {} AND table = {}",
        quote_string(&relation.schema),
        quote_string(&relation.identifier)
    );
    Ok(adapter
        .rows(&sql)?
        .into_iter()
        .map(|row| {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            (values.next().unwrap_or_default(), values.next().unwrap_or_default())
        })
        .collect())
}

/// `MergeTree PARTITION BY … ORDER BY … TTL … SETTINGS …` into engine, TTL and settings.
fn split_engine(full: &str) -> (String, String, BTreeMap<String, String>) {
    let clauses = [" PARTITION BY ", " PRIMARY KEY ", " ORDER BY ", " SAMPLE BY ", " TTL ", " SETTINGS "];
    let end = clauses.iter().filter_map(|clause| full.find(clause)).min().unwrap_or(full.len());
    let engine = full[..end].to_owned();
    let (head, settings) = match full.rfind(" SETTINGS ") {
        Some(at) => (&full[..at], &full[at + " SETTINGS ".len()..]),
        None => (full, ""),
    };
    let ttl = head.find(" TTL ").map(|at| head[at + " TTL ".len()..].to_owned()).unwrap_or_default();
    let settings = settings
        .split(", ")
        .filter_map(|setting| setting.split_once(" = "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    (engine, ttl, settings)
}

/// The commands of up to five ALTERs: settings and a TTL take what follows a comma for more of themselves, and an index that
/// is added together with a changed codec of its column is lost.
fn alters(live: &Layout, wanted: &Layout, notes: &mut Vec<String>) -> [Vec<String>; 5] {
    let (mut settings, mut resets) = (Vec::new(), Vec::new());
    let mut ttl = Vec::new();
    let mut commands = Vec::new();
    let changed: Vec<String> = wanted
        .settings
        .iter()
        .filter(|(name, value)| live.settings.get(*name) != Some(value) && !FIXED_SETTINGS.contains(&name.as_str()))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    if !changed.is_empty() {
        notes.push(format!("{} changed", count(changed.len(), "setting")));
        settings.push(format!("MODIFY SETTING {}", changed.join(", ")));
    }
    let gone: Vec<&str> = unwanted(live, |name| wanted.settings.contains_key(name)).collect();
    if !gone.is_empty() {
        notes.push(format!("{} reset", count(gone.len(), "setting")));
        resets.push(format!("RESET SETTING {}", gone.join(", ")));
    }
    let indexes = element_commands("INDEX", &live.indexes, &wanted.indexes, |definition| definition.to_owned());
    if !indexes.is_empty() {
        notes.push("indexes changed".to_owned());
        commands.extend(indexes);
    }
    let projections =
        element_commands("PROJECTION", &live.projections, &wanted.projections, |query| format!("({query})"));
    if !projections.is_empty() {
        notes.push("projections changed".to_owned());
        commands.extend(projections);
    }
    let codecs: Vec<String> = wanted
        .codecs
        .iter()
        .filter(|(name, codec)| live.codecs.get(*name).is_some_and(|live| live != *codec))
        .map(|(name, codec)| {
            let name = quote_identifier(name);
            if codec.is_empty() {
                format!("MODIFY COLUMN {name} REMOVE CODEC")
            } else {
                format!("MODIFY COLUMN {name} {codec}")
            }
        })
        .collect();
    if !codecs.is_empty() {
        notes.push(format!("{} changed", count(codecs.len(), "codec")));
    }
    if live.ttl != wanted.ttl {
        notes.push("ttl changed".to_owned());
        ttl.push(if wanted.ttl.is_empty() { "REMOVE TTL".to_owned() } else { format!("MODIFY TTL {}", wanted.ttl) });
    }
    [settings, resets, codecs, commands, ttl]
}

/// Settings of the live table that nobody asks for.
fn unwanted<'l>(live: &'l Layout, is_wanted: impl Fn(&str) -> bool + 'l) -> impl Iterator<Item = &'l str> {
    live.settings.keys().map(String::as_str).filter(move |name| !FIXED_SETTINGS.contains(name) && !is_wanted(name))
}

/// Drops what is gone or different, adds what is new or different, and builds it for the rows that are there.
fn element_commands(
    kind: &str,
    live: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    definition: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut commands = Vec::new();
    for name in live.keys().filter(|name| wanted.get(*name) != live.get(*name)) {
        commands.push(format!("DROP {kind} IF EXISTS {}", quote_identifier(name)));
    }
    for (name, text) in wanted.iter().filter(|(name, text)| live.get(*name) != Some(text)) {
        commands.push(format!("ADD {kind} IF NOT EXISTS {} {}", quote_identifier(name), definition(text)));
        commands.push(format!("MATERIALIZE {kind} {}", quote_identifier(name)));
    }
    commands
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_split_into_its_clauses() {
        let (engine, ttl, settings) = split_engine(
            "ReplacingMergeTree(v) PARTITION BY d ORDER BY (a, b) TTL d + toIntervalDay(1) SETTINGS index_granularity = 8192, min_bytes = 5",
        );
        assert_eq!(engine, "ReplacingMergeTree(v)");
        assert_eq!(ttl, "d + toIntervalDay(1)");
        assert_eq!(settings.get("min_bytes").map(String::as_str), Some("5"));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let index = |definition: &str| BTreeMap::from([("i".to_owned(), definition.to_owned())]);
        let live = Layout { ttl: "d".into(), indexes: index("a TYPE minmax GRANULARITY 1"), ..Layout::default() };
        let wanted = Layout { indexes: index("a TYPE set(5) GRANULARITY 1"), ..Layout::default() };
        let mut notes = Vec::new();
        assert_eq!(
            alters(&live, &wanted, &mut notes),
            [
                Vec::new(),
                Vec::new(),
                Vec::new(),
                vec![
                    "DROP INDEX IF EXISTS `i`".to_owned(),
                    "ADD INDEX IF NOT EXISTS `i` a TYPE set(5) GRANULARITY 1".to_owned(),
                    "MATERIALIZE INDEX `i`".to_owned()
                ],
                vec!["REMOVE TTL".to_owned()]
            ]
        );
        assert_eq!(notes, ["indexes changed", "ttl changed"]);
    }
}
