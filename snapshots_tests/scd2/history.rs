//! History from observations: whatever order they come in, the table is what all of them together say.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;

use super::take::Case;

/// Day, period and value of what was seen of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    key: u8,
    day: u16,
    value: u8,
}

const DAYS_OF_A_PERIOD: u16 = 20;

/// Versions in a few lines of plain Rust: key, value, first day, day after the last.
fn versions(seen: &[Seen], close: bool) -> Vec<String> {
    let period = |day: u16| day / DAYS_OF_A_PERIOD;
    let mut starts: BTreeMap<u16, u16> = BTreeMap::new();
    for one in seen {
        let start = starts.entry(period(one.day)).or_insert(one.day);
        *start = one.day.min(*start);
    }
    let mut rows = Vec::new();
    for key in seen.iter().map(|one| one.key).collect::<BTreeSet<u8>>() {
        let of_key = || seen.iter().filter(|one| one.key == key);
        let mut events: BTreeMap<u16, Option<u8>> = of_key().map(|one| (one.day, Some(one.value))).collect();
        if close {
            let periods: BTreeSet<u16> = of_key().map(|one| period(one.day)).collect();
            for known in &periods {
                if let Some((next, start)) = starts.range(known + 1..).next()
                    && !periods.contains(next)
                {
                    events.insert(*start, None);
                }
            }
        }
        let mut open: Option<(u8, u16)> = None;
        for (day, value) in events {
            if value != open.map(|(value, _)| value) {
                if let Some((old, from)) = open {
                    rows.push(format!("{key} {old} {from} {day}"));
                }
                open = value.map(|value| (value, day));
            }
        }
        if let Some((value, from)) = open {
            rows.push(format!("{key} {value} {from} \\N"));
        }
    }
    rows.sort();
    rows
}

/// Observations in random batches and orders, with and without closing, by either layout.
#[test]
fn late_observations_end_where_timely_ones_do() {
    for seed in 0..8_u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let close = seed % 2 == 0;
        let database = format!("late_{seed}");
        let relation = format!("{database}.seen");
        let mut history = json!({"relation": relation, "observed_at": "seen_on"});
        if close {
            history["close_when_absent_for"] = json!("period");
        }
        let apply = ["auto", "rewrite"][usize::try_from(seed / 2 % 2).unwrap()];
        let config = json!({"unique_key": "id", "strategy": "check", "check_cols": ["v"], "history": history, "snapshot_apply": apply});
        let mut case = Case::new(&database, config);
        case.adapter
            .execute(&format!(
                "CREATE TABLE {relation} (id UInt8, v UInt8, seen_on Nullable(Date32), period UInt16) ENGINE = Memory"
            ))
            .unwrap();
        let mut all: BTreeMap<(u8, u16), u8> = BTreeMap::new();
        for _ in 0..250 {
            all.insert((random.random_range(0..40), random.random_range(1..100)), random.random_range(1..4));
        }
        let mut rest: Vec<Seen> = all.into_iter().map(|((key, day), value)| Seen { key, day, value }).collect();
        rest.shuffle(&mut random);
        let mut known: Vec<Seen> = Vec::new();
        for step in 1..=4 {
            let count = if step == 4 { rest.len() } else { random.random_range(0..=rest.len() / 2) };
            let batch: Vec<Seen> = rest.drain(..count).collect();
            let rows: Vec<String> = batch
                .iter()
                .map(|one| {
                    format!(
                        "({}, {}, toDate32('1960-01-01') + {}, {})",
                        one.key,
                        one.value,
                        one.day,
                        one.day / DAYS_OF_A_PERIOD
                    )
                })
                .collect();
            if !rows.is_empty() {
                case.adapter.execute(&format!("INSERT INTO {relation} VALUES {}", rows.join(", "))).unwrap();
            }
            known.extend(batch);
            if known.is_empty() {
                continue;
            }
            let source = format!("select id, argMax(v, seen_on) as v from {relation} group by id");
            case.take(&source, step).unwrap();
            let day = |column: &str| format!("dateDiff('day', toDate32('1960-01-01'), toDate32({column}))");
            let found = case.rows(&format!("toString(id), v, {}, {}", day("dbt_valid_from"), day("dbt_valid_to")));
            let expected = versions(&known, close);
            let mut found = found;
            found.sort();
            assert_eq!(found, expected, "seed {seed}, step {step}");
            assert_eq!(case.rows("uniqExact(dbt_scd_id) = count()"), ["1"], "seed {seed}, step {step}");
            let again = case.take(&source, step + 10).unwrap();
            assert_eq!((again.inserted, again.changed, again.history_rows), (0, 0, 0), "seed {seed}, step {step}");
        }
    }
}
