//! A table that dbt-clickhouse made is taken over in place, with its columns, types and ids.

use serde_json::json;

use super::take::Case;

/// The table as dbt-clickhouse 1.10 makes it: `dbt_scd_id` is a UInt64, times have seconds.
#[test]
fn dbt_clickhouse_tables_go_on() {
    for (index, variant) in ["auto", "lightweight_update", "rewrite"].into_iter().enumerate() {
        let database = format!("takeover_{index}");
        let config = json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"], "snapshot_apply": variant});
        let mut case = Case::new(&database, config);
        case.adapter
            .execute(&format!(
                "CREATE TABLE {database}.snap (id Int32, v String, dbt_scd_id UInt64, dbt_updated_at DateTime('UTC'), \
                 dbt_valid_from DateTime('UTC'), dbt_valid_to Nullable(DateTime('UTC'))) ENGINE = MergeTree ORDER BY tuple()"
            ))
            .unwrap();
        case.adapter
            .execute(&format!(
                "INSERT INTO {database}.snap VALUES (1, 'old', 11, '2020-01-01', '2020-01-01', '2021-01-01'), \
                 (1, 'a', 12, '2021-01-01', '2021-01-01', NULL), (2, 'b', 13, '2020-01-01', '2020-01-01', NULL)"
            ))
            .unwrap();
        let outcome = case.take("select * from values('id Int32, v String', (1, 'A'), (2, 'b'), (3, 'c'))", 1).unwrap();
        assert_eq!((outcome.inserted, outcome.changed, outcome.unchanged), (1, 1, 1));
        assert_eq!(
            case.rows(
                "id, v, dbt_valid_from, dbt_valid_to, if(id = 2 OR v IN ('old', 'a'), dbt_scd_id, dbt_scd_id > 1000)"
            ),
            [
                "1 A 2024-01-01 00:00:00 \\N 1",
                "1 a 2021-01-01 00:00:00 2024-01-01 00:00:00 12",
                "1 old 2020-01-01 00:00:00 2021-01-01 00:00:00 11",
                "2 b 2020-01-01 00:00:00 \\N 13",
                "3 c 2024-01-01 00:00:00 \\N 1",
            ],
            "{variant}"
        );
        let types = format!(
            "SELECT type FROM system.columns WHERE database = '{database}' AND table = 'snap' ORDER BY position"
        );
        assert_eq!(
            crate::materialize::rows(&mut case.adapter, &types),
            ["Int32", "String", "UInt64", "DateTime('UTC')", "DateTime('UTC')", "Nullable(DateTime('UTC'))"]
        );
    }
}
