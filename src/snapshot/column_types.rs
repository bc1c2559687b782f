//! ClickHouse type texts, as far as comparing and widening snapshot columns needs them. Pure.

/// What is inside LowCardinality and Nullable, and whether it is nullable.
pub(super) fn unwrap(data_type: &str) -> (&str, bool) {
    let mut inner = data_type.trim();
    let mut nullable = false;
    loop {
        if let Some(rest) = strip(inner, "LowCardinality(") {
            inner = rest;
        } else if let Some(rest) = strip(inner, "Nullable(") {
            inner = rest;
            nullable = true;
        } else {
            return (inner, nullable);
        }
    }
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_suffix(')').map(str::trim)
}

/// How two values of a type are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `=` is exact.
    Plain,
    /// NaN equals NaN.
    Float,
    /// By their text: arrays, maps, tuples, JSON may hold NULL and NaN inside, and some have no `=`.
    Text,
}

pub(super) fn comparison(data_type: &str) -> Comparison {
    let (inner, _) = unwrap(data_type);
    let name = inner.split('(').next().unwrap_or(inner);
    match name {
        "Float32" | "Float64" | "BFloat16" => Comparison::Float,
        "Array"
        | "Map"
        | "Tuple"
        | "Nested"
        | "JSON"
        | "Object"
        | "Variant"
        | "Dynamic"
        | "AggregateFunction"
        | "SimpleAggregateFunction"
        | "Point"
        | "Ring"
        | "LineString"
        | "MultiLineString"
        | "Polygon"
        | "MultiPolygon" => Comparison::Text,
        _ => Comparison::Plain,
    }
}

/// The condition that two expressions of these types differ, never NULL.
pub(super) fn differs(left: &str, left_type: &str, right: &str, right_type: &str) -> String {
    let nullable = unwrap(left_type).1 || unwrap(right_type).1;
    let unequal = match (comparison(left_type), comparison(right_type)) {
        (Comparison::Plain, Comparison::Plain) => format!("{left} != {right}"),
        (Comparison::Float, Comparison::Float) => {
            format!("({left} != {right} AND NOT (isNaN({left}) AND isNaN({right})))")
        }
        (Comparison::Text, _) | (_, Comparison::Text) => {
            // Nullable does not go around these types, except that a cast to text may answer NULL for a Dynamic.
            return format!("ifNull(toString({left}), '\\0') != ifNull(toString({right}), '\\0')");
        }
        _ => format!("{left} != {right}"),
    };
    if nullable { format!("ifNull({unequal}, isNull({left}) != isNull({right}))") } else { unequal }
}

/// The type with room for NULL, where ClickHouse has one.
pub(super) fn nullable(data_type: &str) -> Option<String> {
    let (inner, already) = unwrap(data_type);
    if already || matches!(inner, "Dynamic") || inner.starts_with("Variant(") || inner.starts_with("Dynamic(") {
        return Some(data_type.to_owned());
    }
    if comparison(data_type) == Comparison::Text {
        return None;
    }
    if data_type.starts_with("LowCardinality(") {
        Some(format!("LowCardinality(Nullable({inner}))"))
    } else {
        Some(format!("Nullable({data_type})"))
    }
}

/// Whether a column of `live` takes every value of `wanted` as it is: only the wrapping differs, and towards NULL.
pub(super) fn holds(live: &str, wanted: &str) -> bool {
    let (live_inner, live_nullable) = unwrap(live);
    let (wanted_inner, wanted_nullable) = unwrap(wanted);
    live_inner == wanted_inner && (live_nullable || !wanted_nullable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_seen_through() {
        assert_eq!(unwrap("LowCardinality(Nullable(String))"), ("String", true));
        assert_eq!(unwrap("DateTime64(6, 'UTC')"), ("DateTime64(6, 'UTC')", false));
        assert!(holds("Nullable(Int32)", "Int32"));
        assert!(!holds("Int32", "Nullable(Int32)"));
        assert!(!holds("Int32", "Int64"));
        assert_eq!(nullable("LowCardinality(String)").as_deref(), Some("LowCardinality(Nullable(String))"));
        assert_eq!(nullable("Array(Int32)"), None);
    }

    #[test]
    fn differences_are_never_null() {
        assert_eq!(differs("a", "Int32", "b", "Int64"), "a != b");
        assert_eq!(differs("a", "Nullable(Int32)", "b", "Int32"), "ifNull(a != b, isNull(a) != isNull(b))");
        assert!(differs("a", "Float64", "b", "Float64").contains("isNaN(a) AND isNaN(b)"));
        assert!(differs("a", "Map(String, Int32)", "b", "Map(String, Int32)").contains("toString(a)"));
    }
}
