//! The registry of metrics: families with samples, and their two forms, Prometheus' text and OTLP's JSON. Values in, text
//! out; docs/metrics.md names every family.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a family's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A family's name, kind and help.
pub type Name = (&'static str, Kind, &'static str);

// The families that the lake and the warehouse share, each with labels of its own.
pub const RUNS: Name = ("chpipe_runs_total", Kind::Counter, "Runs by outcome");
pub const LAST_RUN: Name =
    ("chpipe_last_run_timestamp_seconds", Kind::Gauge, "When the newest run with that outcome ended");
pub const LAST_RUN_DURATION: Name = ("chpipe_last_run_duration_seconds", Kind::Gauge, "How long the newest run took");
pub const ROWS: Name = ("chpipe_rows_total", Kind::Counter, "Rows written by layer");
pub const BYTES: Name = ("chpipe_bytes_total", Kind::Counter, "Bytes written by layer");
pub const LAYER_BYTES: Name = ("chpipe_layer_bytes", Kind::Gauge, "Bytes stored by layer");
pub const BATCHES: Name = ("chpipe_batches", Kind::Gauge, "Batches by state");

/// Samples of one name.
#[derive(Debug, Clone)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub samples: Vec<Sample>,
}

/// One labelled value.
#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: SampleValue,
}

/// A number, or a distribution.
#[derive(Debug, Clone)]
pub enum SampleValue {
    Number(f64),
    /// `counts` has one entry more than `bounds`: what is above the last.
    Histogram {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        sum: f64,
    },
}

/// All families, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    families: Vec<Family>,
}

impl Registry {
    /// Adds a family; one without samples is left out.
    pub fn add(&mut self, name: &'static str, kind: Kind, help: &'static str, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.families.push(Family { name, kind, help, samples });
        }
    }

    /// Adds a family with one number.
    pub fn number(&mut self, name: &'static str, kind: Kind, help: &'static str, value: f64) {
        self.add(name, kind, help, vec![Sample { labels: Vec::new(), value: SampleValue::Number(value) }]);
    }

    /// Takes in what another registry has; families of both have the samples of both.
    pub fn merge(&mut self, other: Self) {
        for family in other.families {
            match self.families.iter_mut().find(|known| known.name == family.name) {
                Some(known) => known.samples.extend(family.samples),
                None => self.families.push(family),
            }
        }
    }

    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Prometheus' text format 0.0.4.
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        for family in &self.families {
            let name = family.name;
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}", family.help.replace('\\', "\\\\").replace('\n', " "));
            let _ = writeln!(out, "# TYPE {name} {}", family.kind.as_str());
            for sample in &family.samples {
                match &sample.value {
                    SampleValue::Number(value) => line(&mut out, name, "", &sample.labels, None, *value),
                    SampleValue::Histogram { bounds, counts, sum } => {
                        let mut total = 0;
                        for (index, count) in counts.iter().enumerate() {
                            total += count;
                            let bound = bounds.get(index).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
                            line(&mut out, name, "_bucket", &sample.labels, Some(&bound), total as f64);
                        }
                        line(&mut out, name, "_sum", &sample.labels, None, *sum);
                        line(&mut out, name, "_count", &sample.labels, None, total as f64);
                    }
                }
            }
        }
        out
    }

    /// An OTLP export request in its JSON form; counters and histograms are cumulative since `start`.
    /// <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>
    pub fn otlp(&self, start: chrono::DateTime<chrono::Utc>, now: chrono::DateTime<chrono::Utc>) -> Value {
        let nanos = |time: chrono::DateTime<chrono::Utc>| time.timestamp_nanos_opt().unwrap_or_default().to_string();
        let (start, now) = (nanos(start), nanos(now));
        let metrics: Vec<Value> = self
            .families
            .iter()
            .map(|family| {
                let points: Vec<Value> = family.samples.iter().map(|sample| point(sample, &start, &now)).collect();
                let mut metric = json!({"name": family.name, "description": family.help});
                match family.kind {
                    Kind::Gauge => metric["gauge"] = json!({"dataPoints": points}),
                    // 2: cumulative.
                    Kind::Counter => {
                        metric["sum"] = json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points});
                    }
                    Kind::Histogram => {
                        metric["histogram"] = json!({"aggregationTemporality": 2, "dataPoints": points});
                    }
                }
                metric
            })
            .collect();
        let service = json!({"key": "service.name", "value": {"stringValue": "chpipe"}});
        json!({"resourceMetrics": [{
            "resource": {"attributes": [service]},
            "scopeMetrics": [{
                "scope": {"name": "chpipe", "version": env!("CARGO_PKG_VERSION")},
                "metrics": metrics,
            }],
        }]})
    }
}

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    bound: Option<&str>,
    value: f64,
) {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut pairs: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
    if let Some(bound) = bound {
        pairs.push(format!("le=\"{bound}\""));
    }
    let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
    let _ = writeln!(out, "{name}{suffix}{labels} {value}");
}

fn point(sample: &Sample, start: &str, now: &str) -> Value {
    let attributes: Vec<Value> =
        sample.labels.iter().map(|(label, value)| json!({"key": label, "value": {"stringValue": value}})).collect();
    let mut point = json!({"attributes": attributes, "startTimeUnixNano": start, "timeUnixNano": now});
    match &sample.value {
        SampleValue::Number(value) => point["asDouble"] = json!(value),
        SampleValue::Histogram { bounds, counts, sum } => {
            point["count"] = json!(counts.iter().sum::<u64>().to_string());
            point["sum"] = json!(sum);
            point["bucketCounts"] = counts.iter().map(|count| json!(count.to_string())).collect();
            point["explicitBounds"] = json!(bounds);
        }
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.number("chpipe_info", Kind::Gauge, "Always 1", 1.0);
        registry.add("chpipe_empty", Kind::Gauge, "Nothing", Vec::new());
        let labels = vec![("node", "a \"b\"\\c\nd".to_owned())];
        let value = SampleValue::Histogram { bounds: vec![0.1, 1.0], counts: vec![2, 0, 1], sum: 7.5 };
        registry.add("seconds", Kind::Histogram, "Time", vec![Sample { labels, value }]);
        registry
    }

    #[test]
    fn prometheus_text_has_cumulative_buckets_and_escaped_labels() {
        let wanted = "\
# HELP chpipe_info Always 1
# TYPE chpipe_info gauge
chpipe_info 1
# HELP seconds Time
# TYPE seconds histogram
seconds_bucket{node=\"a \\\"b\\\"\\\\c\\nd\",le=\"0.1\"} 2
seconds_bucket{node=\"a \\\"b\\\"\\\\c\\nd\",le=\"1\"} 2
seconds_bucket{node=\"a \\\"b\\\"\\\\c\\nd\",le=\"+Inf\"} 3
seconds_sum{node=\"a \\\"b\\\"\\\\c\\nd\"} 7.5
seconds_count{node=\"a \\\"b\\\"\\\\c\\nd\"} 3
";
        assert_eq!(registry().prometheus(), wanted);
    }

    #[test]
    fn otlp_keeps_buckets_apart() {
        let time = chrono::DateTime::from_timestamp(1, 0).unwrap();
        let json = registry().otlp(time, time);
        let metrics = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(metrics[0]["gauge"]["dataPoints"][0]["asDouble"], 1.0);
        let point = &metrics[1]["histogram"]["dataPoints"][0];
        assert_eq!(point["bucketCounts"], json!(["2", "0", "1"]));
        assert_eq!(point["count"], "3");
        assert_eq!(point["timeUnixNano"], "1000000000");
    }
}
