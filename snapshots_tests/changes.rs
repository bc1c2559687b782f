//! What must hold of every migration, whatever the change: killed before or after any statement the next one ends where it
//! should; random changes of a table with rows are refused or keep every row; afterwards there is nothing left to plan.

use std::{path::PathBuf, sync::Arc};

use chpipe::{
    engine::{
        QueryOptions,
        dying::{Death, DyingEngine},
    },
    migrate::{Ledger, Migrator},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    ddl::{Case, Quiet, Warehouse},
    harness::repository,
};

/// Each of these golden cases, killed before every statement of its migration: the next migration ends where an
/// undisturbed one does, with the same rows.
#[test]
fn killed_at_any_statement_the_next_migration_goes_on() {
    for name in [
        "several_changes_in_one_plan",
        "rename_under_a_materialized_view",
        "rebuild_with_a_materialized_view_over_it",
        "rebuild_renames_a_column_under_a_materialized_view",
    ] {
        let dir = repository().join("snapshots_tests/ddl/diff").join(name);
        let mut undisturbed = None;
        // The first one is never killed; then each statement has its turn. Killed after one leaves the same as killed
        // before the next.
        for statement in std::iter::once(i64::MAX).chain(0..) {
            let (answers, killed) = killed_at(&dir, statement);
            match &undisturbed {
                None => undisturbed = Some(answers),
                Some(wanted) => assert_eq!(wanted, &answers, "{name} killed before statement {statement}"),
            }
            if statement != i64::MAX && !killed {
                assert!(statement > 5, "{name} has only {statement} statements");
                break;
            }
        }
    }
}

/// The warehouse's migrator, in a process that dies after so many changing statements.
fn dying(warehouse: &Warehouse, statements: i64, death: Death) -> Migrator {
    Migrator {
        engine: DyingEngine::after(Arc::clone(&warehouse.engine), statements, death),
        templates: warehouse.migrator.templates.clone(),
        ledger: Ledger::new(&warehouse.migrator.state_database),
        state_database: warehouse.migrator.state_database.clone(),
        cluster: None,
        run_id: "killed".into(),
        secrets: [].into(),
        lock_timeout: std::time::Duration::ZERO,
    }
}

/// Runs a case, killed at a statement and then completed. Answers what its check says, and whether it came to that
/// statement at all.
fn killed_at(dir: &std::path::Path, statement: i64) -> (String, bool) {
    let (before, after) = (Case::read(&dir.join("before.yml")), Case::read(&dir.join("after.yml")));
    let warehouse = Warehouse::new("killed");
    let plan = warehouse.plan(&before).unwrap();
    warehouse.apply(&before, &plan).unwrap();
    warehouse.run(&dir.join("rows.sql"));
    let plan = warehouse.plan(&after).unwrap();
    let lock = warehouse.migrator.lock("migrate", &Quiet).unwrap();
    let dying = dying(&warehouse, statement, Death::Before);
    let killed = dying.apply(&plan, &after.allow_destructive, &lock, &Quiet).is_err();
    // As the lock of a dead process is taken over by the next.
    drop(lock);
    if killed {
        let lock = warehouse.migrator.lock("migrate", &Quiet).unwrap();
        warehouse.migrator.recover(&lock, &Quiet).unwrap();
        let rest = warehouse.plan(&after).unwrap();
        warehouse.migrator.apply(&rest, &after.allow_destructive, &lock, &Quiet).unwrap();
    }
    warehouse.assert_settled(&after);
    (warehouse.answers(&dir.join("check.sql")), killed)
}

/// Arrow type, and the expression over `number` that fills it. Some values fit into narrower types, some do not.
const TYPES: [(&str, &str); 12] = [
    ("Int8", "toInt8(number % 100)"),
    ("Int16", "toInt16(number * 300 - 9000)"),
    ("Int32", "toInt32(number * 1000003)"),
    ("Int64", "toInt64(number) * 10000000019 - 7"),
    ("UInt16", "toUInt16(number * 900)"),
    ("UInt32", "toUInt32(number * 80000000)"),
    ("Float32", "toFloat32(number / 2)"),
    ("Float64", "number / 3"),
    ("Utf8", "concat('v', toString(number % 7))"),
    ("Boolean", "number % 2 = 0"),
    ("Date32", "toDate32('1950-05-13') + number"),
    ("Timestamp(Millisecond, None)", "toDateTime64('2024-01-01 00:00:00.125', 3, 'UTC') + number"),
];

const ROWS: usize = 60;

/// A column of a random table.
#[derive(Debug, Clone)]
struct RandomColumn {
    name: String,
    kind: usize,
    nullable: bool,
}

/// A table and what its spec says.
#[derive(Debug, Clone)]
struct RandomTable {
    columns: Vec<RandomColumn>,
    spec: Vec<String>,
}

impl RandomTable {
    fn new(random: &mut StdRng) -> Self {
        let columns = (0..random.random_range(2..6))
            .map(|index| RandomColumn {
                name: format!("c{index}"),
                kind: random.random_range(0..TYPES.len()),
                nullable: random.random_bool(0.4),
            })
            .collect();
        let mut table = Self { columns, spec: Vec::new() };
        table.decide(random);
        table
    }

    /// Another table that could come after this one: columns come, go, change and are renamed.
    fn next(&self, random: &mut StdRng) -> Self {
        let mut columns = self.columns.clone();
        let mut renames = Vec::new();
        for column in &mut columns {
            match random.random_range(0..6) {
                0 | 1 => column.kind = random.random_range(0..TYPES.len()),
                2 => column.nullable = !column.nullable,
                3 => {
                    let new = format!("{}_new", column.name);
                    renames.push(format!("{}: {new}", column.name));
                    column.name = new;
                }
                _ => {}
            }
        }
        if columns.len() > 1 && random.random_bool(0.3) {
            columns.remove(random.random_range(0..columns.len()));
        }
        if random.random_bool(0.5) {
            let column =
                RandomColumn { name: "added".into(), kind: random.random_range(0..TYPES.len()), nullable: true };
            columns.insert(random.random_range(0..=columns.len()), column);
        }
        let mut table = Self { columns, spec: Vec::new() };
        table.decide(random);
        if !renames.is_empty() {
            table.spec.push(format!("renames: {{{}}}", renames.join(", ")));
        }
        table
    }

    /// Decisions of a spec.
    fn decide(&mut self, random: &mut StdRng) {
        let mut columns = Vec::new();
        for column in &self.columns {
            let mut decisions = Vec::new();
            if TYPES[column.kind].0 == "Utf8" && random.random_bool(0.4) {
                decisions.push("low_cardinality: true".to_owned());
            }
            if random.random_bool(0.2) {
                decisions.push("codec: ZSTD(3)".to_owned());
            }
            if random.random_bool(0.2) {
                decisions.push(format!("comment: comment {}", random.random_range(0..3)));
            }
            if !decisions.is_empty() {
                columns.push(format!("{}: {{{}}}", column.name, decisions.join(", ")));
            }
        }
        if !columns.is_empty() {
            self.spec.push(format!("columns: {{{}}}", columns.join(", ")));
        }
        match random.random_range(0..5) {
            0 => self.spec.push("partition_by: id % 3".into()),
            1 => self.spec.push("partition_by: none".into()),
            _ => {}
        }
        if let (true, Some(column)) = (random.random_bool(0.3), self.columns.choose(random))
            && !column.nullable
        {
            self.spec.push(format!("order_by: [id, {}, batch_id]", column.name));
        }
        if random.random_bool(0.2) {
            self.spec.push(format!("comment: table {}", random.random_range(0..3)));
        }
        if let (true, Some(column)) = (random.random_bool(0.2), self.columns.choose(random)) {
            self.spec.push(format!("indexes: {{i: {{expression: {}, type: minmax}}}}", column.name));
        }
    }

    fn case(&self) -> Case {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                format!("{}: '{}{}'", column.name, TYPES[column.kind].0, if column.nullable { "?" } else { "" })
            })
            .collect();
        let text = format!(
            "keys: [season=2024/round=01/batch_id=20240101T000000/data.parquet]\nfiles: [{{columns: {{id: Int64, {}}}}}]\n\
             natural_key: [id]\nspec: {{{}}}\n",
            columns.join(", "),
            self.spec.join(", ")
        );
        Case::parse(&text, &text)
    }

    fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let value = TYPES[column.kind].1;
                if column.nullable { format!("if(number % 5 = 3, NULL, {value})") } else { value.to_owned() }
            })
            .collect();
        format!(
            "INSERT INTO raw.raw_t (id, season, round, batch_id, {}) SELECT number, 2020 + number % 3, 1, 'b', {} FROM \
             numbers({ROWS})",
            names.join(", "),
            values.join(", ")
        )
    }
}

/// Random tables with rows, changed at random: a change is refused, and nothing is changed; or it is made, no row is lost,
/// every value that both tables have is the same, and a second plan is empty. CHPIPE_TEST_SEEDS=500 tries more of them.
#[test]
fn random_changes_keep_every_row() {
    let seeds = std::env::var("CHPIPE_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let first = std::env::var("CHPIPE_TEST_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut made = 0;
    for seed in first..first + seeds {
        made += u64::from(random_change(seed));
    }
    assert!(made * 4 > seeds, "only {made} of {seeds} changes were made: the test says little");
}

/// Answers whether the change was made.
fn random_change(seed: u64) -> bool {
    let mut random = StdRng::seed_from_u64(seed);
    let before = RandomTable::new(&mut random);
    let after = before.next(&mut random);
    let (before_case, after_case) = (before.case(), after.case());
    let context = format!("seed {seed}\n{before:?}\n{after:?}");
    let warehouse = Warehouse::new("random");
    let plan = warehouse.plan(&before_case).unwrap_or_else(|error| panic!("{context}\n{error}"));
    warehouse.apply(&before_case, &plan).unwrap_or_else(|error| panic!("{context}\n{error}"));
    let insert = warehouse.stored(&before.insert());
    warehouse.engine.connect().unwrap().execute(&insert, &QueryOptions::default()).unwrap();
    let types = warehouse.rows(&format!(
        "SELECT name, type FROM system.columns WHERE database = '{}' AND table = 'raw_t'",
        warehouse.raw
    ));
    let kind = |name: &str| types.iter().find(|row| row[0] == name).map(|row| row[1].clone()).unwrap();
    // Values by the name and type that they had.
    let values = |columns: &[(String, String)]| {
        let list: Vec<String> = columns
            .iter()
            .map(|(now, was)| format!("ifNull(toString(CAST({now}, '{}')), 'NULL')", kind(was).replace('\'', "\\'")))
            .collect();
        let list = if list.is_empty() { "1".to_owned() } else { list.join(", ") };
        warehouse.rows(&format!("SELECT id, season, {list} FROM {}.raw_t FINAL ORDER BY id", warehouse.raw))
    };
    let all: Vec<(String, String)> =
        before.columns.iter().map(|column| (column.name.clone(), column.name.clone())).collect();
    let kept = values(&all);
    assert_eq!(kept.len(), ROWS, "{context}");
    let refused = match warehouse.plan(&after_case) {
        Err(_) => true,
        Ok(plan) => match warehouse.apply(&after_case, &plan) {
            Ok(()) => false,
            Err(error) => {
                assert!(error.contains("would lose data"), "{context}\n{error}");
                true
            }
        },
    };
    if refused {
        assert_eq!(values(&all), kept, "a refused change changed rows: {context}");
        return false;
    }
    let again = warehouse.plan(&after_case).unwrap();
    assert!(again.is_empty(), "the second plan is not empty: {context}\n{}", chpipe::migrate::plan_text(&again));
    // A renamed column has its values under the new name, one that is gone from the files has kept them.
    let now: Vec<(String, String)> = before
        .columns
        .iter()
        .map(|column| {
            let new = format!("{}_new", column.name);
            let renamed = after.columns.iter().any(|column| column.name == new);
            (if renamed { new } else { column.name.clone() }, column.name.clone())
        })
        .collect();
    assert_eq!(values(&now), kept, "{context}");
    true
}

/// A migration file that is killed before or after any of its statements is completed by the next run.
#[test]
fn a_killed_migration_file_goes_on_after_its_last_statement() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("0001_notes.sql");
    for death in [Death::Before, Death::After] {
        for statement in 0.. {
            let warehouse = Warehouse::new("killed_file");
            let raw = &warehouse.raw;
            let text = format!(
                "CREATE DATABASE IF NOT EXISTS {raw};\nCREATE TABLE {raw}.notes (id Int64) ENGINE = MergeTree ORDER BY id;\n\
                 ALTER TABLE {raw}.notes ADD COLUMN note String;\nRENAME TABLE {raw}.notes TO {raw}.remarks;\n"
            );
            fs_err::write(&path, text).unwrap();
            let files = chpipe::migrate::read_files(dir.path()).unwrap();
            let lock = warehouse.migrator.lock("migrate", &Quiet).unwrap();
            let dying = dying(&warehouse, statement, death);
            let killed = dying.apply_files(&files, &lock, &Quiet).is_err();
            if killed {
                warehouse.migrator.recover(&lock, &Quiet).unwrap();
                let mut session = warehouse.engine.connect().unwrap();
                let entries = warehouse.migrator.ledger.entries(&mut *session).unwrap();
                let files = chpipe::migrate::pending_files(&files, &entries).unwrap();
                warehouse
                    .migrator
                    .apply_files(&files, &lock, &Quiet)
                    .unwrap_or_else(|error| panic!("killed {death:?} statement {statement}: {error}"));
            }
            let columns = warehouse.rows(&format!(
                "SELECT table, groupArray(name) FROM system.columns WHERE database = '{raw}' GROUP BY table"
            ));
            assert_eq!(columns, [["remarks", "['id','note']"]], "killed {death:?} statement {statement}");
            if !killed {
                break;
            }
        }
    }
}

/// `migrate undo` of tables that were made anew, with views over them: the views read the old names again and say what they
/// said, killed before any statement too; an insert reaches the materialized view, and the migration can be made once more.
#[test]
fn undo_takes_the_views_over_a_table_back_with_it() {
    for name in ["rebuild_renames_a_column_under_a_materialized_view", "rebuild_with_a_materialized_view_over_it"] {
        let dir = repository().join("snapshots_tests/ddl/diff").join(name);
        for statement in std::iter::once(i64::MAX).chain(0..) {
            if !undone(&dir, statement) && statement != i64::MAX {
                assert!(statement > 1, "{name}: undo has only {statement} statements");
                break;
            }
        }
    }
}

/// Answers whether the undo was killed before it had ended.
fn undone(dir: &std::path::Path, statement: i64) -> bool {
    let (before, after) = (Case::read(&dir.join("before.yml")), Case::read(&dir.join("after.yml")));
    let warehouse = Warehouse::new("undone");
    let raw = &warehouse.raw;
    let plan = warehouse.plan(&before).unwrap();
    warehouse.apply(&before, &plan).unwrap();
    warehouse.run(&dir.join("rows.sql"));
    // What each view and the table says, by the names of its columns: `SELECT *` may have them in another order afterwards.
    let views = || -> Vec<(String, String, Vec<Vec<String>>)> {
        let columns = warehouse.rows(&format!(
            "SELECT table, arrayStringConcat(arraySort(groupArray(concat('`', name, '`'))), ', ') FROM system.columns WHERE database = '{raw}' \
             AND table IN (SELECT name FROM system.tables WHERE database = '{raw}' AND (engine LIKE '%View' OR name = \
             'raw_t')) GROUP BY table ORDER BY table"
        ));
        let said = |row: &Vec<String>| {
            let sql = format!("SELECT {} FROM {raw}.{} ORDER BY ALL", row[1], row[0]);
            (row[0].clone(), row[1].clone(), warehouse.rows(&sql))
        };
        columns.iter().map(said).collect()
    };
    let said = views();
    let count = said.iter().find(|(name, _, _)| name == "raw_t").map(|(_, _, rows)| rows.len()).unwrap();
    assert!(count > 0 && said.len() > 1);
    let plan = warehouse.plan(&after).unwrap();
    warehouse.apply(&after, &plan).unwrap();
    assert!(warehouse.plan(&after).unwrap().is_empty());

    let lock = warehouse.migrator.lock("migrate undo", &Quiet).unwrap();
    let killed = dying(&warehouse, statement, Death::Before).undo(&lock).is_err();
    if killed {
        warehouse.migrator.recover(&lock, &Quiet).unwrap();
        warehouse.migrator.undo(&lock).unwrap();
    }
    drop(lock);
    assert_eq!(views(), said, "undo killed before statement {statement}");
    // Old and new are one to the materialized view: what is inserted arrives there.
    let mut session = warehouse.engine.connect().unwrap();
    let target = format!("SELECT count() FROM {raw}.target");
    let arrived = warehouse.rows(&target);
    let insert = format!("INSERT INTO {raw}.raw_t (season, driver_id, car) SELECT 2024, 'late', 99");
    session.execute(&insert, &QueryOptions::default()).unwrap();
    assert_ne!(warehouse.rows(&target), arrived, "an insert does not reach the view");
    let plan = warehouse.plan(&after).unwrap();
    warehouse.apply(&after, &plan).unwrap();
    warehouse.assert_settled(&after);
    assert_eq!(warehouse.rows(&format!("SELECT count() FROM {raw}.raw_t FINAL"))[0][0], (count + 1).to_string());
    killed
}
