//! Every change that ClickHouse carries out badly (`ddl/torture.yml` lists them), on a table with rows: it is refused and
//! nothing has changed, or it is made and every row and value is there. Either way rows can be inserted afterwards, no
//! mutation is stuck, and the golden shows what the plan says.

use std::{collections::BTreeMap, fmt::Write as _};

use chpipe::{engine::QueryOptions, migrate::plan_text};
use serde::Deserialize;

use crate::{
    ddl::{Case, Warehouse, without_state},
    harness::repository,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Which fact about ClickHouse it is about.
    item: String,
    change: String,
    #[serde(default = "some")]
    rows: u64,
    /// Name to Arrow type and expression over `number`.
    columns: BTreeMap<String, (String, String)>,
    /// Columns of the files after it: another type, `None` for one that is gone.
    #[serde(default)]
    to: BTreeMap<String, Option<String>>,
    #[serde(default)]
    spec: serde_yaml_ng::Mapping,
    then: Option<serde_yaml_ng::Mapping>,
    /// Statements before the change.
    #[serde(default)]
    with: Vec<String>,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Refused,
    Kept,
}

fn some() -> u64 {
    20
}

impl Change {
    fn case(&self, columns: &BTreeMap<String, String>, spec: &serde_yaml_ng::Mapping) -> Case {
        let columns: Vec<String> = columns.iter().map(|(name, kind)| format!("'{name}': '{kind}'")).collect();
        let text = format!(
            "keys: [season=2024/round=01/batch_id=20240101T000000/data.parquet]\n\
             files: [{{columns: {{id: Int64, {}}}}}]\nnatural_key: [id]\n",
            columns.join(", ")
        );
        let mut case = Case::parse(&text, &self.change);
        case.spec = serde_yaml_ng::Value::Mapping(spec.clone());
        case
    }

    fn before(&self) -> Case {
        let columns = self.columns.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
        self.case(&columns, &self.spec)
    }

    fn after(&self) -> Case {
        let mut columns: BTreeMap<String, String> =
            self.columns.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
        for (name, kind) in &self.to {
            match kind {
                Some(kind) => _ = columns.insert(name.clone(), kind.clone()),
                None => _ = columns.remove(name),
            }
        }
        self.case(&columns, self.then.as_ref().unwrap_or(&self.spec))
    }

    fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.keys().map(String::as_str).collect();
        let values: Vec<&str> = self.columns.values().map(|(_, value)| value.as_str()).collect();
        format!(
            "INSERT INTO raw.raw_t (id, season, round, batch_id, {}) SELECT number, 2020 + number % 3, 1, 'b', {} FROM \
             numbers({})",
            names.join(", "),
            values.join(", "),
            self.rows
        )
    }

    /// The name that a column has afterwards.
    fn renamed<'a>(&'a self, column: &'a str) -> &'a str {
        let renames = self.then.as_ref().and_then(|spec| spec.get("renames"));
        renames.and_then(|renames| renames.get(column)).and_then(|name| name.as_str()).unwrap_or(column)
    }
}

#[test]
fn unsafe_changes_are_refused_or_keep_every_row() {
    let text = fs_err::read_to_string(repository().join("snapshots_tests/ddl/torture.yml")).unwrap();
    let changes: Vec<Change> = serde_yaml_ng::from_str(&text).unwrap();
    let warehouse = Warehouse::new("torture");
    let mut golden = String::new();
    let mut failed = Vec::new();
    for change in &changes {
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| torture(change, &warehouse)));
        match tried {
            Ok(shown) => _ = write!(golden, "{} {} is {:?}\n{shown}\n", change.item, change.change, change.outcome),
            Err(_) => failed.push(format!("{} {}", change.item, change.change)),
        }
    }
    assert!(failed.is_empty(), "{} of {} changes failed:\n{}", failed.len(), changes.len(), failed.join("\n"));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(repository().join("snapshots_tests/ddl"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("torture", golden));
}

/// Makes the change and looks at everything that may not have changed. Answers what was said.
fn torture(change: &Change, warehouse: &Warehouse) -> String {
    let (before, after) = (change.before(), change.after());
    let raw = &warehouse.raw;
    let run = |sql: &str| {
        let sql = warehouse.stored(sql);
        let mut session = warehouse.engine.connect().unwrap();
        session
            .execute(&sql, &QueryOptions::default().setting("mutations_sync", "2"))
            .map_err(|error| format!("{sql}: {error}"))
    };
    // The ledger goes on, the tables are new.
    run(&format!("DROP DATABASE IF EXISTS {raw}")).unwrap();
    let plan = warehouse.plan(&before).unwrap();
    warehouse.apply(&before, &plan).unwrap();
    run(&change.insert()).unwrap();
    for sql in &change.with {
        run(sql).unwrap();
    }
    let columns = warehouse.rows(&format!(
        "SELECT name, if(type LIKE 'Enum%', 'String', type) FROM system.columns WHERE database = '{raw}' AND table = \
         'raw_t' AND name != '_loaded_at'"
    ));
    // What merges have not done yet counts as done; a table that merges nothing takes no FINAL.
    let last = || {
        let merges = format!(
            "SELECT if(engine = 'MergeTree', '', ' FINAL') FROM system.tables WHERE database = '{raw}' AND name = 'raw_t'"
        );
        warehouse.rows(&merges)[0][0].clone()
    };
    let values = |name: &dyn Fn(&str) -> String| {
        let list: Vec<String> = columns
            .iter()
            .map(|column| format!("toString(CAST(`{}`, '{}'))", name(&column[0]), column[1].replace('\'', "\\'")))
            .collect();
        let list = list.iter().map(|value| format!("ifNull({value}, 'NULL')")).collect::<Vec<_>>().join(", ");
        warehouse.rows(&format!("SELECT {list} FROM {raw}.raw_t{} ORDER BY id", last()))
    };
    let definitions = || {
        warehouse.rows(&format!(
            "SELECT name, create_table_query FROM system.tables WHERE database = '{raw}' AND name != 'batches' ORDER BY name"
        ))
    };
    let (rows, made) = (values(&str::to_owned), definitions());
    assert_eq!(rows.len() as u64, change.rows);

    let mut shown = String::new();
    let applied = match warehouse.plan(&after) {
        Err(refused) => Err(refused),
        Ok(plan) => {
            for line in plan_text(&without_state(plan.clone())).lines() {
                // The statements are the business of the goldens of changes; here only which of them alter in place.
                if !line.starts_with("      ") || line.starts_with("      ALTER") {
                    _ = writeln!(shown, "  {}", line.trim_end());
                }
            }
            warehouse.apply(&after, &plan)
        }
    };
    match (&applied, change.outcome) {
        (Err(refused), Outcome::Refused) => {
            for line in refused.lines().filter(|line| !line.is_empty()) {
                _ = writeln!(shown, "  {line}");
            }
            assert_eq!(values(&str::to_owned), rows, "a refused change changed rows");
            assert_eq!(definitions(), made, "a refused change changed a table");
        }
        (Ok(()), Outcome::Kept) => {
            assert_eq!(values(&|name| change.renamed(name).to_owned()), rows, "rows or values are lost");
            warehouse.assert_settled(&after);
        }
        (applied, wanted) => panic!("{} should be {wanted:?}: {applied:?}\n{shown}", change.change),
    }
    let stuck =
        warehouse.rows(&format!("SELECT command FROM system.mutations WHERE database = '{raw}' AND NOT is_done"));
    assert!(stuck.is_empty(), "stuck: {stuck:?}");
    // Also into the views over the table, whose rows are counted by the ids they have.
    run("INSERT INTO raw.raw_t (id, season) SELECT 1000, 2020").unwrap();
    assert_eq!(
        warehouse.rows(&format!("SELECT count() FROM {raw}.raw_t{}", last()))[0][0],
        (change.rows + 1).to_string()
    );
    for view in made.iter().filter(|object| object[0] == "target") {
        assert_eq!(warehouse.rows(&format!("SELECT max(i) FROM {raw}.{}", view[0]))[0][0], "1000");
    }
    for view in made.iter().filter(|object| ["plain", "joined"].contains(&object[0].as_str())) {
        assert_eq!(warehouse.rows(&format!("SELECT count() > 0 FROM {raw}.{}", view[0]))[0][0], "1");
    }
    warehouse.shown(&shown)
}
