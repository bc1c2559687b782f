//! `ref('a')` and `source('b', 'c')` where they stand as plain text: `relation:` of snapshots, `depends_on:` of exposures,
//! inputs of unit tests, foreign keys.

use serde_json::{Value, json};

use crate::project::Ref;

/// One parsed call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reference {
    Ref(Ref),
    Source([String; 2]),
}

/// The call that a text is; `None` where it is something else.
pub(crate) fn parse(text: &str) -> Option<Reference> {
    let text = text.trim();
    let (name, rest) = text.split_once('(')?;
    let inside = rest.strip_suffix(')')?;
    let mut positional = Vec::new();
    let mut version = None;
    for argument in split_arguments(inside)? {
        match argument.split_once('=') {
            Some((key, value)) if !argument.starts_with(['\'', '"']) => match key.trim() {
                "v" | "version" => version = Some(literal(value)?),
                _ => return None,
            },
            _ => positional.push(literal(argument)?.as_str()?.to_owned()),
        }
    }
    let mut positional = positional.into_iter();
    let (first, second) = (positional.next()?, positional.next());
    if positional.next().is_some() {
        return None;
    }
    match (name.trim(), second) {
        ("ref", None) => Some(Reference::Ref(Ref { name: first, package: None, version })),
        ("ref", Some(name)) => Some(Reference::Ref(Ref { name, package: Some(first), version })),
        ("source", Some(table)) if version.is_none() => Some(Reference::Source([first, table])),
        _ => None,
    }
}

/// Parts between commas that are not inside quotes.
fn split_arguments(text: &str) -> Option<Vec<&str>> {
    let mut out = Vec::new();
    let mut quote = None;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ',') => {
                out.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if quote.is_some() {
        return None;
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        out.push(last);
    }
    Some(out)
}

fn literal(text: &str) -> Option<Value> {
    let text = text.trim();
    for quote in ['\'', '"'] {
        if let Some(inside) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return (!inside.contains(quote)).then(|| json!(inside));
        }
    }
    text.parse::<i64>().map(|number| json!(number)).or_else(|_| text.parse::<f64>().map(|number| json!(number))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_recognised() {
        let reference = |package: Option<&str>, name: &str, version: Option<Value>| {
            Some(Reference::Ref(Ref { name: name.into(), package: package.map(str::to_owned), version }))
        };
        assert_eq!(parse("ref('a')"), reference(None, "a", None));
        assert_eq!(parse(" ref( \"p\", 'a' , v=2)"), reference(Some("p"), "a", Some(json!(2))));
        assert_eq!(parse("ref('a', version='x')"), reference(None, "a", Some(json!("x"))));
        assert_eq!(parse("source('a','b')"), Some(Reference::Source(["a".into(), "b".into()])));
        assert_eq!(parse("this"), None);
        assert_eq!(parse("ref(a)"), None);
        assert_eq!(parse("source('a')"), None);
    }
}
