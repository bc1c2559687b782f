//! Where a dataset's files are: a bucket and a pattern of keys with ClickHouse's globs. In: the `source` of a spec; out: a
//! prefix to list and a test for keys. It lists nothing.

use regex::Regex;

/// Characters that begin a glob.
const GLOB: [char; 3] = ['*', '?', '{'];
/// Numbers in a `{1..100}`.
const MOST_NUMBERS: u64 = 10_000;

/// A pattern of keys in a bucket.
#[derive(Debug, Clone)]
pub struct Source {
    /// `None`: the Silver bucket.
    pub bucket: Option<String>,
    /// What ClickHouse is given: `path/**.parquet`.
    pub pattern: String,
    regex: Regex,
}

impl Source {
    /// Reads `s3://bucket/path/**.parquet`, or a path below the Silver bucket; a path without a glob is a prefix, or one
    /// file where it ends in `.parquet`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (bucket, path) = match text.split_once("://") {
            None => (None, text),
            Some(("s3", rest)) => {
                let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || bucket.contains(GLOB) {
                    return Err("it names no bucket: write `s3://bucket/path/**.parquet`".into());
                }
                (Some(bucket.to_owned()), path)
            }
            Some((scheme, _)) => {
                return Err(format!(
                    "chpipe does not read {scheme}://: write `s3://bucket/path/**.parquet`, and the host as `endpoint`"
                ));
            }
        };
        let pattern = if path.contains(GLOB) {
            // Other files lie beside Parquet: `_SUCCESS`, checksums.
            if path.ends_with('*') { format!("{path}.parquet") } else { path.to_owned() }
        } else if path.ends_with(".parquet") {
            path.to_owned()
        } else {
            format!("{path}**.parquet")
        };
        let regex = Regex::new(&format!("^{}$", expression(&pattern)?)).map_err(|error| error.to_string())?;
        Ok(Self { bucket, pattern, regex })
    }

    /// What every matching key begins with.
    pub fn list_prefix(&self) -> &str {
        self.pattern.split(GLOB).next().unwrap_or_default()
    }

    /// The folder below which the pattern's own part begins, with a slash at its end; folders below it say something of
    /// a file.
    pub fn prefix(&self) -> &str {
        let literal = self.list_prefix();
        // `path/name**.parquet` with a prefix that is no folder lists folders that begin with it.
        literal.rfind('/').map_or("", |end| &literal[..=end])
    }

    pub fn matches(&self, key: &str) -> bool {
        self.regex.is_match(key)
    }

    /// Whether it takes every `.parquet` below its prefix, as ClickHouse's hive strategy does.
    pub fn takes_all(&self) -> bool {
        self.pattern.strip_prefix(self.prefix()) == Some("**.parquet")
    }
}

/// ClickHouse's globs as a regular expression: `**` crosses folders, `*` and `?` do not, `{a,b}` and `{1..3}` list.
/// <https://clickhouse.com/docs/sql-reference/table-functions/s3#globs-in-path>
fn expression(pattern: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        match first {
            '*' => {
                let stars = rest.len() - rest.trim_start_matches('*').len();
                out.push_str(if stars > 1 { "[^{}]*" } else { "[^/{}]*" });
                rest = &rest[stars..];
                continue;
            }
            '?' => out.push_str("[^/]"),
            '{' => {
                let Some((inner, after)) = after.split_once('}') else {
                    return Err("a { has no }".into());
                };
                out.push_str(&alternatives(inner)?);
                rest = after;
                continue;
            }
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
        rest = after;
    }
    Ok(out)
}

fn alternatives(inner: &str) -> Result<String, String> {
    let range = inner.split_once("..").and_then(|(from, to)| Some((from, to, from.parse().ok()?, to.parse().ok()?)));
    let list: Vec<String> = match range {
        Some((from_text, to_text, from, to)) => {
            let (least, most): (u64, u64) = if from <= to { (from, to) } else { (to, from) };
            if most - least >= MOST_NUMBERS {
                return Err(format!("{{{inner}}} is more than {MOST_NUMBERS} numbers"));
            }
            let padded = from_text.len() > 1 && from_text.starts_with('0');
            let width = if padded { from_text.len().max(to_text.len()) } else { 0 };
            (least..=most).map(|number| format!("{number:0width$}")).collect()
        }
        None => inner.split(',').map(expression).collect::<Result<_, _>>()?,
    };
    Ok(format!("(?:{})", list.join("|")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_as_in_clickhouse() {
        for (pattern, yes, no) in [
            ("a/**.parquet", ["a/x.parquet", "a/b/c/x.parquet"], ["b/x.parquet", "a/x.csv"]),
            ("a/*.parquet", ["a/x.parquet", "a/.parquet"], ["a/b/x.parquet", "a/x.parquet.crc"]),
            ("a/**/x.parquet", ["a/b/x.parquet", "a/b/c/x.parquet"], ["a/x.parquet", "a/b/y.parquet"]),
            (
                "y={2023,2024}/?.parquet",
                ["y=2023/1.parquet", "y=2024/2.parquet"],
                ["y=2022/1.parquet", "y=2023/12.parquet"],
            ),
            ("{08..10}.parquet", ["08.parquet", "10.parquet"], ["8.parquet", "11.parquet"]),
            ("a/**", ["a/x.parquet", "a/b/x.parquet"], ["a/_SUCCESS", "b"]),
            ("a.b/", ["a.b/x.parquet", "a.b/c/x.parquet"], ["a_b/x.parquet", "a.b/x"]),
            ("a/{b/*,c/**}.parquet", ["a/b/1.parquet", "a/c/d/1.parquet"], ["a/b/d/1.parquet", "a/e/1.parquet"]),
        ] {
            let source = Source::parse(pattern).unwrap();
            for key in yes {
                assert!(source.matches(key) && key.starts_with(source.list_prefix()), "{pattern} {key}");
            }
            for key in no {
                assert!(!source.matches(key), "{pattern} {key}");
            }
        }
    }

    #[test]
    fn a_source_is_a_bucket_and_a_pattern() {
        let source = Source::parse("s3://bucket/a/b=1/c{x,y}/**.parquet").unwrap();
        assert_eq!(
            (source.bucket.as_deref(), source.prefix(), source.list_prefix()),
            (Some("bucket"), "a/b=1/", "a/b=1/c")
        );
        assert!(!source.takes_all());
        let source = Source::parse("ergast/endpoint=results/").unwrap();
        assert_eq!((source.bucket.as_deref(), source.prefix()), (None, "ergast/endpoint=results/"));
        assert!(source.takes_all());
        let source = Source::parse("s3://bucket").unwrap();
        assert_eq!((source.prefix(), source.pattern.as_str()), ("", "**.parquet"));
        for text in ["https://host/bucket/x", "s3:///x", "s3://b/{a", "s3://{a,b}/x"] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }
}
