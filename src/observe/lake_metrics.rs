//! The part of the metrics that the lake alone knows: what extract and transform did, from the records that each of their
//! runs left there. In: records; out: a [`Registry`]. It opens no warehouse, so those commands can publish it themselves.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{
    RunRecord,
    audit::{Event, lake_events},
    metrics::{self, Kind, Registry, Sample, SampleValue},
};
use crate::extract::Durations;

/// The registry of all run records; `quota` is the requests an hour that the API allows, `silver` the bytes that Silver has
/// now: `transform --all` writes objects again that are there.
pub fn of_lake(records: &[RunRecord], quota: u32, silver: u64, now: DateTime<Utc>) -> Registry {
    let mut registry = Registry::default();
    runs(records, &mut registry);
    // A quota renews within the hour, so what an older run had left says nothing any more.
    let hour_ago = now - TimeDelta::hours(1);
    let newest = records.iter().filter(|record| record.finished_at > hour_ago && record.quota_remaining.is_some());
    let newest = newest.max_by_key(|record| record.finished_at).and_then(|record| record.quota_remaining);
    let (name, kind, help) = ("api_rate_limit_remaining", Kind::Gauge, "API requests left in this hour");
    registry.number(name, kind, help, f64::from(newest.unwrap_or(quota)));
    let events: Vec<Event> = records.iter().flat_map(lake_events).collect();
    requests(&events, &mut registry);
    stages(&events, silver, &mut registry);
    drift(&events, &mut registry);
    registry
}

fn runs(records: &[RunRecord], registry: &mut Registry) {
    let mut count: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    let mut ended: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    let mut newest: BTreeMap<Vec<String>, &RunRecord> = BTreeMap::new();
    for record in records {
        let labels = vec![record.command.clone(), record.outcome.as_str().to_owned()];
        *count.entry(labels.clone()).or_default() += 1.0;
        let at = ended.entry(labels).or_default();
        *at = at.max(record.finished_at.timestamp_millis() as f64 / 1000.0);
        let last = newest.entry(vec![record.command.clone()]).or_insert(record);
        if record.finished_at > last.finished_at {
            *last = record;
        }
    }
    let seconds = |record: &RunRecord| (record.finished_at - record.started_at).num_milliseconds() as f64 / 1000.0;
    let took = newest.into_iter().map(|(labels, record)| (labels, seconds(record))).collect();
    numbers(registry, metrics::RUNS, &["command", "outcome"], count);
    numbers(registry, metrics::LAST_RUN, &["command", "outcome"], ended);
    numbers(registry, metrics::LAST_RUN_DURATION, &["command"], took);
}

fn requests(events: &[Event], registry: &mut Registry) {
    let requests = || events.iter().filter(|event| event.event == "request");
    let labels = |event: &Event| vec![event.name.clone(), event.status.clone()];
    let name = ("chpipe_api_requests_total", Kind::Counter, "Requests to the API by outcome");
    numbers(registry, name, &["endpoint", "outcome"], sums(requests(), labels, |event| event.rows as f64));
    let mut durations: BTreeMap<Vec<String>, (Vec<u64>, f64)> = BTreeMap::new();
    for event in requests() {
        let detail: Value = serde_json::from_str(&event.detail).unwrap_or_default();
        let counts: Vec<u64> = detail["counts"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        // Records of earlier versions have no durations.
        if counts.len() == Durations::BOUNDS.len() + 1 {
            let (sum, seconds) = durations.entry(labels(event)).or_insert_with(|| (vec![0; counts.len()], 0.0));
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            *seconds += event.seconds;
        }
    }
    let samples = durations.into_iter().map(|(labels, (counts, sum))| {
        let value = SampleValue::Histogram { bounds: Durations::BOUNDS.to_vec(), counts, sum };
        Sample { labels: ["endpoint", "outcome"].into_iter().zip(labels).collect(), value }
    });
    registry.add(
        "chpipe_api_request_duration_seconds",
        Kind::Histogram,
        "Time of a request to the API, waiting for the quota not included",
        samples.collect(),
    );
}

/// Of a stage of the lake: how its runs are called, the layer it writes.
const LAYERS: [(&str, &str); 2] = [("extract", "bronze"), ("transform", "silver")];

fn stages(events: &[Event], silver: u64, registry: &mut Registry) {
    let of = |stage: &'static str| events.iter().filter(move |event| event.event == stage);
    let endpoint = |event: &Event| vec![event.name.clone()];
    for (name, stage, value) in [
        (
            ("chpipe_api_seconds_total", Kind::Counter, "Time spent extracting"),
            "extract",
            (|event| event.seconds) as fn(&Event) -> f64,
        ),
        (("chpipe_pages_total", Kind::Counter, "Pages written to Bronze"), "extract", |event| event.pages as f64),
        (("chpipe_quarantined_rows_total", Kind::Counter, "Rows that could not be typed"), "transform", |event| {
            event.quarantined as f64
        }),
    ] {
        numbers(registry, name, &["endpoint"], sums(of(stage), endpoint, value));
    }
    let by_layer = |value: fn(&Event) -> f64, by_endpoint: bool| {
        let sums = LAYERS.iter().map(|&(stage, layer)| {
            let labels = |event: &Event| match by_endpoint {
                true => vec![layer.to_owned(), event.name.clone()],
                false => vec![layer.to_owned()],
            };
            sums(of(stage), labels, value)
        });
        sums.flatten().collect::<BTreeMap<_, _>>()
    };
    numbers(registry, metrics::ROWS, &["layer", "endpoint"], by_layer(|event| event.rows as f64, true));
    numbers(registry, metrics::BYTES, &["layer", "endpoint"], by_layer(|event| event.bytes as f64, true));
    // Bronze is never written twice and nothing of it is deleted, so what was written is what is there.
    let mut stored = by_layer(|event| event.bytes as f64, false);
    stored.insert(vec!["silver".to_owned()], silver as f64);
    numbers(registry, metrics::LAYER_BYTES, &["layer"], stored);
    // What the newest run of each stage left undone.
    let mut newest: BTreeMap<(&str, &str), &Event> = BTreeMap::new();
    for event in LAYERS.iter().flat_map(|&(stage, _)| of(stage)) {
        let last = newest.entry((&event.event, &event.name)).or_insert(event);
        if event.started_at > last.started_at {
            *last = event;
        }
    }
    let undone = |event: &&Event| {
        let detail: Value = serde_json::from_str(&event.detail).unwrap_or_default();
        ["incomplete", "failed"].iter().filter_map(|name| detail[name].as_f64()).sum::<f64>()
    };
    let labels = |event: &&Event| vec![event.name.clone(), "incomplete".to_owned()];
    let mut incomplete: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for event in newest.values() {
        *incomplete.entry(labels(event)).or_default() += undone(event);
    }
    numbers(registry, metrics::BATCHES, &["endpoint", "state"], incomplete);
}

/// A field that the newest transform of the endpoint did not meet is known by now, or gone.
fn drift(events: &[Event], registry: &mut Registry) {
    let mut newest: BTreeMap<&str, &Event> = BTreeMap::new();
    for event in events.iter().filter(|event| event.event == "transform" && event.pages > 0) {
        let last = newest.entry(&event.name).or_insert(event);
        if event.started_at > last.started_at {
            *last = event;
        }
    }
    let fields = newest.into_iter().map(|(endpoint, newest)| {
        let is_of_it = |event: &&Event| {
            event.event == "drift" && event.name == endpoint && event.run_id == newest.run_id && !event.kind.is_empty()
        };
        (vec![endpoint.to_owned()], events.iter().filter(is_of_it).count() as f64)
    });
    let help = "Fields of the newest transform that the schema does not know";
    numbers(registry, ("chpipe_schema_drift_fields", Kind::Gauge, help), &["endpoint"], fields.collect());
}

fn sums<'e>(
    events: impl Iterator<Item = &'e Event>,
    labels: impl Fn(&Event) -> Vec<String>,
    value: fn(&Event) -> f64,
) -> BTreeMap<Vec<String>, f64> {
    let mut sums = BTreeMap::new();
    for event in events {
        *sums.entry(labels(event)).or_default() += value(event);
    }
    sums
}

fn numbers(
    registry: &mut Registry,
    (name, kind, help): metrics::Name,
    labels: &[&'static str],
    values: BTreeMap<Vec<String>, f64>,
) {
    let samples = values.into_iter().map(|(texts, value)| Sample {
        labels: labels.iter().copied().zip(texts).collect(),
        value: SampleValue::Number(value),
    });
    registry.add(name, kind, help, samples.collect());
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::observe::{Invocation, Outcome};

    fn record(command: &str, at: i64, fill: impl FnOnce(&mut RunRecord)) -> RunRecord {
        let started_at = DateTime::from_timestamp(at, 0).unwrap();
        let invocation = Invocation { id: Uuid::from_u128(at as u128), started_at };
        let mut record = RunRecord::new(command, &invocation, std::path::Path::new("/"));
        record.finished_at = started_at + TimeDelta::seconds(10);
        fill(&mut record);
        record
    }

    #[test]
    fn runs_add_up_and_the_newest_tells_the_state() {
        let mut counts = vec![0; Durations::BOUNDS.len() + 1];
        counts[0] = 2;
        let extract = |at, failed: u64, quota| {
            record("extract", at, |record| {
                record.outcome = if failed > 0 { Outcome::Failed } else { Outcome::Success };
                record.endpoints =
                    json!({"laps": {"pages": 3, "rows": 250, "bytes": 1000, "seconds": 4.5, "failed": failed}});
                record.requests = json!({"laps": {"ok": 3, "throttled": 1}});
                record.durations = json!({"laps": {"ok": {"counts": counts, "seconds": 0.5}}});
                record.quota_remaining = quota;
            })
        };
        let transform = |at, drift: Value| {
            record("transform", at, |record| {
                record.endpoints =
                    json!({"laps": {"pages": 3, "rows": 240, "bytes_in": 1000, "bytes_out": 90, "quarantined": 10}});
                record.drift = drift;
            })
        };
        let known = json!([{"endpoint": "laps", "path": "Races[].new", "count": 7, "example": "1"}]);
        let records = [
            extract(1000, 2, Some(400)),
            extract(2000, 0, Some(390)),
            transform(2100, known),
            transform(2200, json!([])),
        ];
        let text = |now| of_lake(&records, 450, 180, DateTime::from_timestamp(now, 0).unwrap()).prometheus();
        let soon = text(2300);
        for line in [
            "chpipe_runs_total{command=\"extract\",outcome=\"failed\"} 1",
            "chpipe_runs_total{command=\"transform\",outcome=\"success\"} 2",
            "chpipe_last_run_timestamp_seconds{command=\"extract\",outcome=\"success\"} 2010",
            "chpipe_last_run_duration_seconds{command=\"transform\"} 10",
            "api_rate_limit_remaining 390",
            "chpipe_api_requests_total{endpoint=\"laps\",outcome=\"throttled\"} 2",
            "chpipe_api_request_duration_seconds_count{endpoint=\"laps\",outcome=\"ok\"} 4",
            "chpipe_api_request_duration_seconds_sum{endpoint=\"laps\",outcome=\"ok\"} 1",
            "chpipe_api_seconds_total{endpoint=\"laps\"} 9",
            "chpipe_pages_total{endpoint=\"laps\"} 6",
            "chpipe_quarantined_rows_total{endpoint=\"laps\"} 20",
            "chpipe_rows_total{layer=\"bronze\",endpoint=\"laps\"} 500",
            "chpipe_rows_total{layer=\"silver\",endpoint=\"laps\"} 480",
            "chpipe_layer_bytes{layer=\"silver\"} 180",
            "chpipe_batches{endpoint=\"laps\",state=\"incomplete\"} 0",
            "chpipe_schema_drift_fields{endpoint=\"laps\"} 0",
        ] {
            assert!(soon.lines().any(|other| other == line), "{line} is not in\n{soon}");
        }
        assert!(text(2010 + 3600).contains("api_rate_limit_remaining 450\n"), "the hour is over");
    }
}
