//! A view's query after columns of a table it reads were renamed. In: the query as the server formats it, the table, the
//! renames; out: a query with the same columns under the same names. It asks nobody: only a SELECT that names the table
//! itself in its FROM is changed, and what it cannot change for certain is an error.

use crate::engine::quote_identifier;

use super::{
    Relation,
    tokens::{Token, Tokens},
};

/// A query that has to be changed by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RenameError {
    pub reason: String,
}

/// The query after renames (old name, new name) of columns of `table`; `None` where it reads none of them. Every item of
/// a select list keeps its name, since a materialized view fills its target by name and readers of a view know no other.
///
/// # Errors
/// A column is joined with USING, or a `*` that brings it is transformed.
pub fn rename_in_query(
    query: &str,
    table: &Relation,
    renames: &[(String, String)],
) -> Result<Option<String>, RenameError> {
    let Ok(tokens) = Tokens::of(query) else {
        return Err(RenameError { reason: "its query cannot be read".into() });
    };
    let text = Text { query, tokens: &tokens.list };
    let mut edits: Vec<Edit> = Vec::new();
    for select in text.selects() {
        if let Some(source) = text.source(&select, table) {
            text.rename(&select, &source, renames, &mut edits)?;
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let mut out = String::with_capacity(query.len());
    let mut copied = 0;
    for edit in edits {
        out.push_str(&query[copied..edit.start]);
        out.push_str(&edit.text);
        copied = edit.end;
    }
    out.push_str(&query[copied..]);
    Ok(Some(out))
}

/// What stands in the place of some bytes.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

/// One SELECT: the tokens that are its own, those of subqueries left out.
#[derive(Default)]
struct Select {
    depth: i32,
    /// Index and depth.
    members: Vec<(usize, i32)>,
    has_select: bool,
}

/// The table in the FROM of a SELECT.
struct Source {
    /// Tokens of its name.
    name: Vec<usize>,
    /// What may stand before a column of it.
    qualifiers: Vec<String>,
}

struct Text<'a> {
    query: &'a str,
    tokens: &'a [Token],
}

impl Text<'_> {
    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.source(self.query))
    }

    fn name(&self, at: usize) -> Option<String> {
        self.tokens.get(at)?.identifier(self.query)
    }

    fn is(&self, at: usize, keyword: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_keyword(self.query, keyword))
    }

    /// All SELECTs of the query: one a parenthesis that begins with SELECT or WITH, and one a part of a UNION.
    fn selects(&self) -> Vec<Select> {
        let mut selects = vec![Select::default()];
        let mut open = vec![0_usize];
        let mut depth = 0;
        for at in 0..self.tokens.len() {
            if matches!(self.word(at), ")" | "]" | "}") {
                depth -= 1;
                if open.len() > 1 {
                    open.pop();
                }
            }
            let mut current = open.last().copied().unwrap_or_default();
            if self.is(at, "SELECT") && selects[current].depth == depth {
                if selects[current].has_select {
                    selects.push(Select { depth, ..Select::default() });
                    current = selects.len() - 1;
                    open.pop();
                    open.push(current);
                }
                selects[current].has_select = true;
            }
            selects[current].members.push((at, depth));
            if matches!(self.word(at), "(" | "[" | "{") {
                depth += 1;
                if self.is(at + 1, "SELECT") || self.is(at + 1, "WITH") {
                    selects.push(Select { depth, ..Select::default() });
                    open.push(selects.len() - 1);
                } else {
                    open.push(current);
                }
            }
        }
        selects
    }

    fn source(&self, select: &Select, table: &Relation) -> Option<Source> {
        let mut source = Source { name: Vec::new(), qualifiers: vec![table.name.clone()] };
        for &(at, _) in &select.members {
            let is_table = self.name(at).as_ref() == Some(&table.database)
                && self.word(at + 1) == "."
                && self.name(at + 2).as_ref() == Some(&table.name)
                && self.word(at + 3) != "."
                && (at == 0 || self.word(at - 1) != ".");
            if is_table {
                source.name.extend([at, at + 2]);
                if self.is(at + 3, "AS") {
                    source.qualifiers.extend(self.name(at + 4));
                }
            }
        }
        (!source.name.is_empty()).then_some(source)
    }

    /// The items of the select list, as first token and the one after the last.
    fn items(&self, select: &Select) -> Vec<(usize, usize)> {
        let own: Vec<usize> = select.members.iter().filter(|(_, depth)| *depth == select.depth).map(|m| m.0).collect();
        let Some(first) = own.iter().position(|&at| self.is(at, "SELECT")) else { return Vec::new() };
        let mut start = own[first] + 1;
        if self.is(start, "DISTINCT") {
            start += 1;
        }
        let mut items = Vec::new();
        for &at in &own[first + 1..] {
            if self.is(at, "FROM") {
                items.push((start, at));
                break;
            }
            if self.word(at) == "," {
                items.push((start, at));
                start = at + 1;
            }
        }
        items
    }

    fn rename(
        &self,
        select: &Select,
        source: &Source,
        renames: &[(String, String)],
        edits: &mut Vec<Edit>,
    ) -> Result<(), RenameError> {
        let items = self.items(select);
        let alias = |item: &(usize, usize)| {
            (item.1 >= item.0 + 3 && self.is(item.1 - 2, "AS")).then(|| self.name(item.1 - 1)).flatten()
        };
        let mut changed: Vec<usize> = Vec::new();
        for &(at, _) in &select.members {
            let name = self.name(at);
            let Some((from, to)) = renames.iter().find(|(from, _)| Some(from) == name.as_ref()) else { continue };
            let previous = at.checked_sub(1);
            let after = |keyword| previous.is_some_and(|at| self.is(at, keyword));
            // `from(…)` is a function, `AS from` names an output, FROM and JOIN name a table.
            if self.word(at + 1) == "(" || source.name.contains(&at) || after("AS") || after("FROM") || after("JOIN") {
                continue;
            }
            if previous.is_some_and(|at| self.word(at) == ".") {
                let qualifier = at.checked_sub(2).and_then(|at| self.name(at));
                if qualifier.is_none_or(|qualifier| !source.qualifiers.contains(&qualifier)) {
                    continue;
                }
            } else {
                if self.word(at + 1) == "." && source.qualifiers.contains(from) {
                    continue;
                }
                if self.in_using(at) {
                    return Err(RenameError { reason: format!("it joins USING {from}") });
                }
                // An output of that name is what the rest of the SELECT means by it.
                let mut shadows = items.iter().filter(|item| alias(item).as_ref() == Some(from)).peekable();
                if shadows.peek().is_some() && !shadows.any(|item| (item.0..item.1).contains(&at)) {
                    continue;
                }
            }
            let token = &self.tokens[at];
            edits.push(Edit { start: token.start, end: token.end, text: quote_identifier(to) });
            changed.push(at);
        }
        for item in &items {
            let star = item.0 + if self.word(item.0 + 1) == "." { 2 } else { 0 };
            if self.word(star) == "*" && star < item.1 {
                self.rename_star(item, star, source, renames, edits)?;
            } else if alias(item).is_none() && changed.iter().any(|at| (item.0..item.1).contains(at)) {
                let end = self.tokens[item.1 - 1].end;
                let is_column = (item.0..item.1).all(|at| self.word(at) == "." || self.name(at).is_some());
                let name = match self.name(item.1 - 1) {
                    Some(column) if is_column => column,
                    _ => self.query[self.tokens[item.0].start..end].to_owned(),
                };
                edits.push(Edit { start: end, end, text: format!(" AS {}", quote_identifier(&name)) });
            }
        }
        Ok(())
    }

    /// `*` brings the new names: they are taken out of it and put beside it under the old ones.
    fn rename_star(
        &self,
        item: &(usize, usize),
        star: usize,
        source: &Source,
        renames: &[(String, String)],
        edits: &mut Vec<Edit>,
    ) -> Result<(), RenameError> {
        let mut prefix = String::new();
        if star > item.0 {
            let Some(qualifier) = self.name(item.0).filter(|name| source.qualifiers.contains(name)) else {
                return Ok(());
            };
            prefix = format!("{}.", quote_identifier(&qualifier));
        }
        let excepted: Vec<String> = (star + 1..item.1).filter_map(|at| self.name(at)).collect();
        if star + 1 < item.1 && (!self.is(star + 1, "EXCEPT") || excepted.iter().any(|word| word == "APPLY")) {
            return Err(RenameError { reason: "it transforms the columns of a *".into() });
        }
        let brought: Vec<&(String, String)> =
            renames.iter().filter(|(from, to)| !excepted.contains(from) && !excepted.contains(to)).collect();
        if !brought.is_empty() {
            let names: Vec<String> = brought.iter().map(|(_, to)| quote_identifier(to)).collect();
            let mut text = format!(" EXCEPT ({})", names.join(", "));
            for (from, to) in brought {
                text.push_str(&format!(", {prefix}{} AS {}", quote_identifier(to), quote_identifier(from)));
            }
            let end = self.tokens[item.1 - 1].end;
            edits.push(Edit { start: end, end, text });
        }
        Ok(())
    }

    /// Whether a name stands in a `USING a, b` or `USING (a, b)`.
    fn in_using(&self, at: usize) -> bool {
        let mut before = at;
        while let Some(at) = before.checked_sub(1) {
            if self.is(at, "USING") {
                return true;
            }
            if !matches!(self.word(at), "," | "(") && (self.word(at + 1) != "," || self.name(at).is_none()) {
                return false;
            }
            before = at;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(query: &str) -> Result<Option<String>, RenameError> {
        let renames = [("old".to_owned(), "new".to_owned()), ("car".to_owned(), "no".to_owned())];
        rename_in_query(query, &Relation::new("raw", "t"), &renames)
    }

    #[test]
    fn every_item_keeps_its_name() {
        for (query, expected) in [
            (
                "SELECT old, k AS old2, f(old) FROM raw.t WHERE old > 1",
                "SELECT `new` AS `old`, k AS old2, f(`new`) AS `f(old)` FROM raw.t WHERE `new` > 1",
            ),
            (
                "SELECT x.old, y.old FROM raw.t AS x, raw.u AS y",
                "SELECT x.`new` AS `old`, y.old FROM raw.t AS x, raw.u AS y",
            ),
            ("SELECT t.old FROM raw.t", "SELECT t.`new` AS `old` FROM raw.t"),
            // What a subquery gives to the outside has the old name.
            (
                "SELECT old FROM (SELECT old, count() AS n FROM raw.t GROUP BY old) WHERE old > 1",
                "SELECT old FROM (SELECT `new` AS `old`, count() AS n FROM raw.t GROUP BY `new`) WHERE old > 1",
            ),
            (
                "SELECT k FROM raw.u WHERE old IN (SELECT old FROM raw.t)",
                "SELECT k FROM raw.u WHERE old IN (SELECT `new` AS `old` FROM raw.t)",
            ),
            (
                "SELECT old FROM raw.u UNION ALL SELECT old FROM raw.t",
                "SELECT old FROM raw.u UNION ALL SELECT `new` AS `old` FROM raw.t",
            ),
            (
                "WITH c AS (SELECT old FROM raw.u) SELECT t.old, c.old FROM raw.t INNER JOIN c ON c.old = t.old",
                "WITH c AS (SELECT old FROM raw.u) SELECT t.`new` AS `old`, c.old FROM raw.t INNER JOIN c ON c.old = \
                 t.`new`",
            ),
            // The output is what WHERE means.
            (
                "SELECT upper(old) AS old FROM raw.t WHERE old = 'A'",
                "SELECT upper(`new`) AS old FROM raw.t WHERE old = 'A'",
            ),
            ("SELECT * FROM raw.t", "SELECT * EXCEPT (`new`, `no`), `new` AS `old`, `no` AS `car` FROM raw.t"),
            (
                "SELECT a.* EXCEPT (car), count(*) FROM raw.t AS a",
                "SELECT a.* EXCEPT (`no`) EXCEPT (`new`), `a`.`new` AS `old`, count(*) FROM raw.t AS a",
            ),
            (
                "SELECT arrayMap(old -> (old + 1), a) AS b FROM raw.t",
                "SELECT arrayMap(`new` -> (`new` + 1), a) AS b FROM raw.t",
            ),
        ] {
            assert_eq!(renamed(query).unwrap().as_deref(), Some(expected), "{query}");
        }
    }

    #[test]
    fn what_does_not_read_the_column_stays() {
        for query in [
            "SELECT k FROM raw.t",
            "SELECT old FROM raw.u",
            "SELECT u.old FROM raw.t INNER JOIN raw.u ON u.k = t.k",
            "SELECT 'old' AS x FROM raw.t",
            "SELECT x.* FROM raw.t INNER JOIN raw.u AS x ON x.k = t.k",
            "SELECT * EXCEPT (`new`, `no`), `new` AS `old`, `no` AS `car` FROM raw.t",
        ] {
            assert_eq!(renamed(query), Ok(None), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_changed_for_certain_is_refused() {
        for query in [
            "SELECT k FROM raw.t INNER JOIN raw.u USING (k, old)",
            "SELECT k FROM raw.t INNER JOIN raw.u USING old",
            "SELECT * REPLACE (old + 1 AS old) FROM raw.t",
            "SELECT * APPLY (x -> (x + 1)) FROM raw.t",
        ] {
            assert!(renamed(query).is_err(), "{query}");
        }
    }
}
