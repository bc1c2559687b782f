//! `snapshot verify` and `--dry-run` on the library's level.

use chpipe::snapshot::{Rule, preview, repair, verify};
use serde_json::json;

use super::take::Case;
use crate::materialize::{query, shop};

fn values(rows: &str) -> String {
    format!("select * from values('id Int32, v String', {rows})")
}

/// A sound table has no violations; each broken rule is named, and what can be restored is.
#[test]
fn broken_rules_are_named_and_repaired() {
    let mut case = Case::new("v_rules", json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"]}));
    case.take(&values("(1, 'a'), (2, 'b'), (3, 'c')"), 1).unwrap();
    case.take(&values("(1, 'A'), (2, 'b'), (3, 'c')"), 2).unwrap();
    let sound = case.with_spec(&values("(1, 'A')"), 3, |spec, adapter| verify(spec, adapter).unwrap().unwrap());
    assert_eq!(sound, []);
    // What an interrupted rebuild of another tool leaves: rows twice, and a version reaching into the next.
    case.adapter.execute("INSERT INTO v_rules.snap SELECT * FROM v_rules.snap WHERE id = 2").unwrap();
    case.adapter
        .execute("INSERT INTO v_rules.snap SELECT * REPLACE ('x' AS dbt_scd_id, 'z' AS v, dbt_valid_from - 60 AS dbt_valid_from) FROM v_rules.snap WHERE id = 3")
        .unwrap();
    let broken = case.with_spec(&values("(1, 'A')"), 3, |spec, adapter| verify(spec, adapter).unwrap().unwrap());
    let rules: Vec<(Rule, u64)> = broken.iter().map(|violation| (violation.rule, violation.count)).collect();
    assert_eq!(rules, [(Rule::UniqueIds, 1), (Rule::OneOpenRow, 2)]);
    assert_eq!(broken[1].sample, ["id = 2", "id = 3"]);
    case.with_spec(&values("(1, 'A')"), 3, |spec, adapter| repair(spec, adapter).unwrap());
    let repaired = case.with_spec(&values("(1, 'A')"), 3, |spec, adapter| verify(spec, adapter).unwrap().unwrap());
    assert_eq!(repaired, []);
    assert_eq!(case.rows("id, v, dbt_valid_to IS NULL"), ["1 A 1", "1 a 0", "2 b 1", "3 c 1", "3 z 0"]);
}

/// A dry run counts and samples, and leaves the table as it is.
#[test]
fn a_dry_run_writes_nothing() {
    let mut case = Case::new(
        "v_dry",
        json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"], "hard_deletes": "invalidate"}),
    );
    case.take(&values("(1, 'a'), (2, 'b'), (3, 'c')"), 1).unwrap();
    let found =
        case.with_spec(&values("(1, 'A'), (2, 'b'), (4, 'd')"), 2, |spec, adapter| preview(spec, adapter).unwrap());
    assert_eq!((found.inserted, found.changed, found.deleted, found.unchanged), (1, 1, 1, 1));
    let sample: Vec<String> = found
        .sample
        .iter()
        .map(|change| format!("{} {} {} {} {}", change.kind, change.key, change.column, change.old, change.new))
        .collect();
    assert_eq!(sample, ["new id = 4   ", "deleted id = 3   ", "changed id = 1 v a A"]);
    assert_eq!(case.rows("count(), countIf(dbt_valid_to IS NULL)"), ["3 3"]);
    assert_eq!(case.rows("count()"), ["3"]);
}

/// A dry run and a verification before the first run make no database.
#[test]
fn looking_makes_no_database() {
    let project = shop().file(
        "snapshots/snap.sql",
        "{% snapshot snap %}{{ config(schema='kept', unique_key='id', strategy='check', check_cols='all') }}\nselect 1 as id, 'a' as v\n{% endsnapshot %}\n",
    );
    let dry = project.run(["snapshot", "--dry-run", "-s", "snap"]).success();
    assert!(dry.stdout.contains("does not exist yet; 1 rows would be inserted"), "{}", dry.stdout);
    let verified = project.run(["snapshot", "verify", "-s", "snap"]).success();
    assert!(verified.stdout.contains("does not exist yet"), "{}", verified.stdout);
    assert_eq!(query(&project, "select count() from system.databases where name like 'shop%'"), ["0"]);
    project.run(["snapshot", "-s", "snap"]).success();
    assert_eq!(query(&project, "select id, v from shop_kept.snap"), ["1\ta"]);
}
