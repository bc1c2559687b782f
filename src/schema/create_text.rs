//! The CREATE text that ClickHouse writes (`system.tables.create_table_query`, `formatQuerySingleLine`) to a
//! [`SchemaObject`]. The wanted and the live side both come through here, so they compare alike. Text that a person
//! wrote goes through the server's formatter first.

use indexmap::IndexMap;

use super::{
    ClickHouseType, Column, ColumnDefault, Constraint, DefaultKind, Index, MaterializedView, Projection, Relation,
    SchemaObject, Table, TableEngine, View,
    table::split_top_level,
    tokens::{Token, Tokens},
};

/// CREATE text that is not of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the definition of `{object}`: {reason}")]
pub struct CreateTextError {
    pub object: String,
    pub reason: String,
}

/// Reads one CREATE TABLE, CREATE MATERIALIZED VIEW or CREATE VIEW in the server's formatting.
///
/// # Errors
/// Another statement, or a form that this ClickHouse version writes and chpipe does not know.
pub fn parse_create(text: &str) -> Result<SchemaObject, CreateTextError> {
    let tokens =
        Tokens::of(text).map_err(|error| CreateTextError { object: String::new(), reason: error.to_string() })?;
    let mut reader = Reader { text, tokens: &tokens.list, at: 0 };
    reader.object().map_err(|(object, reason)| CreateTextError { object, reason })
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

type Failure = (String, String);

impl<'a> Reader<'a> {
    fn object(&mut self) -> Result<SchemaObject, Failure> {
        let unnamed = |reason: String| (String::new(), reason);
        self.keyword("CREATE").map_err(unnamed)?;
        if self.eat("OR") {
            self.keyword("REPLACE").map_err(unnamed)?;
        }
        let materialized = self.eat("MATERIALIZED");
        let view = self.eat("VIEW");
        if !view {
            self.keyword("TABLE").map_err(unnamed)?;
        }
        if self.eat("IF") {
            self.keyword("NOT").and_then(|()| self.keyword("EXISTS")).map_err(unnamed)?;
        }
        let name = self.relation().map_err(unnamed)?;
        let named = |reason: String| (name.plain(), reason);
        if self.eat("UUID") {
            self.at += 1;
        }
        if self.eat("ON") {
            self.keyword("CLUSTER").map_err(named)?;
            self.at += 1;
        }
        if view { self.view(&name, materialized) } else { self.table(&name).map(SchemaObject::Table) }
            .map_err(|reason| (name.plain(), reason))
    }

    fn view(&mut self, name: &Relation, materialized: bool) -> Result<SchemaObject, String> {
        let mut to = None;
        let mut query = String::new();
        let mut comment = String::new();
        while let Some(token) = self.peek() {
            if token.is_keyword(self.text, "TO") {
                self.at += 1;
                to = Some(self.relation()?);
            } else if token.is_keyword(self.text, "AS") {
                let from = token.end;
                let mut end = self.text.len();
                // `COMMENT '…'` ends the text where there is one.
                if let [.., keyword, value] = self.tokens
                    && keyword.is_keyword(self.text, "COMMENT")
                    && let Some(text) = value.string(self.text)
                {
                    comment = text;
                    end = keyword.start;
                }
                query = self.text[from..end].trim().to_owned();
                break;
            } else if token.is_symbol(self.text, "(") {
                self.skip_parentheses()?;
            } else {
                self.at += 1;
            }
        }
        let name = name.clone();
        Ok(if materialized {
            SchemaObject::MaterializedView(MaterializedView { name, to, query, comment })
        } else {
            SchemaObject::View(View { name, query, comment })
        })
    }

    fn table(&mut self, name: &Relation) -> Result<Table, String> {
        let mut table = Table::new(name.clone(), Vec::new(), TableEngine::new("", Vec::<String>::new()));
        if self.peek().is_some_and(|token| token.is_symbol(self.text, "(")) {
            let open = self.at;
            self.skip_parentheses()?;
            let inner = &self.text[self.tokens[open].end..self.tokens[self.at - 1].start];
            for element in split_top_level(inner, ",") {
                read_element(&element, &mut table)?;
            }
        }
        for (clause, body) in self.clauses()? {
            match clause {
                "ENGINE" => table.engine = read_engine(body.trim_start_matches('=').trim()),
                "PARTITION BY" => table.partition_by = Some(body.to_owned()),
                "PRIMARY KEY" => table.primary_key = Some(body.to_owned()),
                "ORDER BY" => table.order_by = Some(body.to_owned()),
                "SAMPLE BY" => table.sample_by = Some(body.to_owned()),
                "TTL" => table.ttl = Some(body.to_owned()),
                "SETTINGS" => table.settings = read_settings(body),
                "COMMENT" => table.comment = literal(body).unwrap_or_default(),
                _ => return Err(format!("unknown clause `{clause}`")),
            }
        }
        Ok(table)
    }

    /// The clauses after the columns, each with its text.
    fn clauses(&mut self) -> Result<Vec<(&'static str, &'a str)>, String> {
        const TWO: [(&str, &str, &str); 4] = [
            ("PARTITION", "BY", "PARTITION BY"),
            ("PRIMARY", "KEY", "PRIMARY KEY"),
            ("ORDER", "BY", "ORDER BY"),
            ("SAMPLE", "BY", "SAMPLE BY"),
        ];
        let mut found: Vec<(&'static str, usize, usize)> = Vec::new();
        let mut depth = 0_i32;
        while let Some(token) = self.peek() {
            let next = self.tokens.get(self.at + 1);
            match token.source(self.text) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ if depth > 0 => {}
                _ => {
                    let two = TWO.iter().find(|(first, second, _)| {
                        token.is_keyword(self.text, first)
                            && next.is_some_and(|next| next.is_keyword(self.text, second))
                    });
                    let single = match () {
                        () if token.is_keyword(self.text, "ENGINE") && found.is_empty() => Some("ENGINE"),
                        () if token.is_keyword(self.text, "TTL") => Some("TTL"),
                        () if token.is_keyword(self.text, "SETTINGS") => Some("SETTINGS"),
                        () if token.is_keyword(self.text, "COMMENT")
                            && next.is_some_and(|next| next.string(self.text).is_some()) =>
                        {
                            Some("COMMENT")
                        }
                        () => None,
                    };
                    if let Some((_, _, name)) = two {
                        let end = next.map_or(token.end, |next| next.end);
                        found.push((name, token.start, end));
                        self.at += 1;
                    } else if let Some(name) = single {
                        found.push((name, token.start, token.end));
                    } else if found.is_empty() {
                        return Err(format!("unexpected `{}` after the columns", token.source(self.text)));
                    }
                }
            }
            self.at += 1;
        }
        let ends = found.iter().skip(1).map(|(_, start, _)| *start).chain([self.text.len()]).collect::<Vec<_>>();
        Ok(found.iter().zip(ends).map(|((name, _, from), to)| (*name, self.text[*from..to].trim())).collect())
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn eat(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_keyword(self.text, keyword));
        self.at += usize::from(found);
        found
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), String> {
        if self.eat(keyword) { Ok(()) } else { Err(format!("`{keyword}` expected")) }
    }

    fn identifier(&mut self) -> Result<String, String> {
        let name = self.peek().and_then(|token| token.identifier(self.text)).ok_or("a name is missing")?;
        self.at += 1;
        Ok(name)
    }

    fn relation(&mut self) -> Result<Relation, String> {
        let first = self.identifier()?;
        if self.peek().is_some_and(|token| token.is_symbol(self.text, ".")) {
            self.at += 1;
            return Ok(Relation::new(first, self.identifier()?));
        }
        Ok(Relation::new("", first))
    }

    fn skip_parentheses(&mut self) -> Result<(), String> {
        let mut depth = 0_i32;
        while let Some(token) = self.peek() {
            match token.source(self.text) {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err("a parenthesis is not closed".into())
    }
}

/// One element between the parentheses: a column, index, projection, constraint or key.
fn read_element(text: &str, table: &mut Table) -> Result<(), String> {
    let tokens = Tokens::of(text).map_err(|error| error.to_string())?;
    let reader = Reader { text, tokens: &tokens.list, at: 0 };
    let first = reader.peek().ok_or("an element is empty")?;
    // A quoted identifier is never one of these; a column named `index` is always quoted by the server.
    if first.is_keyword(text, "INDEX") {
        table.indexes.push(read_index(text, &tokens.list)?);
    } else if first.is_keyword(text, "PROJECTION") {
        table.projections.push(read_projection(text, &tokens.list)?);
    } else if first.is_keyword(text, "CONSTRAINT") {
        table.constraints.push(read_constraint(text, &tokens.list)?);
    } else if first.is_keyword(text, "PRIMARY") {
        table.primary_key = Some(text["PRIMARY KEY".len()..].trim().to_owned());
    } else {
        table.columns.push(read_column(text, &tokens.list)?);
    }
    Ok(())
}

fn read_index(text: &str, tokens: &[Token]) -> Result<Index, String> {
    let name = tokens.get(1).and_then(|token| token.identifier(text)).ok_or("an index has no name")?;
    let depths = depths(text, tokens);
    let kind_at = (2..tokens.len()).find(|&at| depths[at] == 0 && tokens[at].is_keyword(text, "TYPE"));
    let kind_at = kind_at.ok_or_else(|| format!("index `{name}` has no TYPE"))?;
    let granularity_at = (kind_at..tokens.len()).find(|&at| tokens[at].is_keyword(text, "GRANULARITY"));
    let kind_end = granularity_at.map_or(text.len(), |at| tokens[at].start);
    let granularity = granularity_at
        .and_then(|at| tokens.get(at + 1))
        .map_or(Ok(1), |token| token.source(text).parse())
        .map_err(|_| format!("index `{name}` has a GRANULARITY that is no number"))?;
    Ok(Index {
        name,
        expression: text[tokens[1].end..tokens[kind_at].start].trim().to_owned(),
        kind: text[tokens[kind_at].end..kind_end].trim().to_owned(),
        granularity,
    })
}

fn read_projection(text: &str, tokens: &[Token]) -> Result<Projection, String> {
    let name = tokens.get(1).and_then(|token| token.identifier(text)).ok_or("a projection has no name")?;
    let body = text[tokens[1].end..].trim();
    let query = body.strip_prefix('(').and_then(|body| body.strip_suffix(')')).unwrap_or(body).trim().to_owned();
    Ok(Projection { name, query })
}

fn read_constraint(text: &str, tokens: &[Token]) -> Result<Constraint, String> {
    let name = tokens.get(1).and_then(|token| token.identifier(text)).ok_or("a constraint has no name")?;
    let kind = tokens.get(2).ok_or_else(|| format!("constraint `{name}` is empty"))?;
    Ok(Constraint {
        name,
        kind: kind.source(text).to_ascii_uppercase(),
        expression: text[kind.end..].trim().to_owned(),
    })
}

fn read_column(text: &str, tokens: &[Token]) -> Result<Column, String> {
    let name = tokens[0].identifier(text).ok_or_else(|| format!("`{text}` is not a column"))?;
    let depths = depths(text, tokens);
    // Where each part begins: (its keyword, start, end of the keyword).
    let mut parts: Vec<(&str, usize, usize)> = Vec::new();
    for (at, token) in tokens.iter().enumerate().skip(1) {
        let next = tokens.get(at + 1);
        let followed_by = |symbol: &str| next.is_some_and(|next| next.is_symbol(text, symbol));
        let keyword = match () {
            () if depths[at] != 0 => continue,
            () if token.is_keyword(text, "DEFAULT") => "DEFAULT",
            () if token.is_keyword(text, "MATERIALIZED") => "MATERIALIZED",
            () if token.is_keyword(text, "ALIAS") => "ALIAS",
            () if token.is_keyword(text, "EPHEMERAL") => "EPHEMERAL",
            () if token.is_keyword(text, "COMMENT") && next.is_some_and(|next| next.string(text).is_some()) => {
                "COMMENT"
            }
            () if token.is_keyword(text, "CODEC") && followed_by("(") => "CODEC",
            () if token.is_keyword(text, "STATISTICS") && followed_by("(") => "STATISTICS",
            () if token.is_keyword(text, "SETTINGS") && followed_by("(") => "SETTINGS",
            () if token.is_keyword(text, "TTL") && next.is_some() => "TTL",
            () if token.is_keyword(text, "NOT") && next.is_some_and(|next| next.is_keyword(text, "NULL")) => "NOT NULL",
            () => continue,
        };
        parts.push((keyword, token.start, token.end));
    }
    let type_end = parts.first().map_or(text.len(), |(_, start, _)| *start);
    let type_text = text[tokens[0].end..type_end].trim();
    // `d DEFAULT 1` has no type until the server gives it one.
    let kind = if type_text.is_empty() {
        ClickHouseType::Nothing
    } else {
        ClickHouseType::parse(type_text).map_err(|error| format!("column `{name}`: {error}"))?
    };
    let mut column = Column::new(name, kind);
    let ends = parts.iter().skip(1).map(|(_, start, _)| *start).chain([text.len()]).collect::<Vec<_>>();
    for ((keyword, _, from), to) in parts.iter().zip(ends) {
        let body = text[*from..to].trim();
        let default = |kind| Some(ColumnDefault { kind, expression: body.to_owned() });
        match *keyword {
            "DEFAULT" => column.default = default(DefaultKind::Default),
            "MATERIALIZED" => column.default = default(DefaultKind::Materialized),
            "ALIAS" => column.default = default(DefaultKind::Alias),
            "EPHEMERAL" => column.default = default(DefaultKind::Ephemeral),
            "COMMENT" => column.comment = literal(body).unwrap_or_default(),
            "CODEC" => {
                let codec = body.trim_start_matches('(').strip_suffix(')').unwrap_or(body);
                column.codec = Some(codec.trim().to_owned());
            }
            "TTL" => column.ttl = Some(body.to_owned()),
            _ => {}
        }
    }
    Ok(column)
}

fn read_engine(text: &str) -> TableEngine {
    match text.find('(') {
        Some(open) if text.ends_with(')') => {
            TableEngine::new(text[..open].trim(), split_top_level(&text[open + 1..text.len() - 1], ","))
        }
        _ => TableEngine::new(text.trim(), Vec::<String>::new()),
    }
}

fn read_settings(text: &str) -> IndexMap<String, String> {
    split_top_level(text, ",")
        .into_iter()
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().trim_matches('`').to_owned(), value.trim().to_owned()))
        })
        .collect()
}

fn literal(text: &str) -> Option<String> {
    let tokens = Tokens::of(text).ok()?;
    tokens.list.first()?.string(text)
}

/// How many parentheses are open before each token.
fn depths(text: &str, tokens: &[Token]) -> Vec<i32> {
    let mut depth = 0;
    tokens
        .iter()
        .map(|token| {
            let symbol = token.source(text);
            if matches!(symbol, ")" | "]" | "}") {
                depth -= 1;
            }
            let here = depth;
            if matches!(symbol, "(" | "[" | "{") {
                depth += 1;
            }
            here
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_the_server_is_read_whole() {
        let text = "CREATE TABLE raw.b (`x` Int32 DEFAULT 1 + 2, `y` LowCardinality(Nullable(String)) CODEC(ZSTD(1)), \
                    `d` DateTime CODEC(Delta(4), LZ4), `e` Int64 CODEC(DoubleDelta) TTL d + toIntervalDay(3), `z` \
                    DateTime64(3, 'UTC') COMMENT 'c\\'x', `index` Int8, INDEX i1 lower(y) TYPE bloom_filter(0.01) \
                    GRANULARITY 4, CONSTRAINT c CHECK x > 0, PROJECTION p (SELECT x, count() GROUP BY x)) ENGINE = \
                    ReplacingMergeTree(e) PARTITION BY toYYYYMM(d) ORDER BY (x, ifNull(y, '')) TTL d + \
                    toIntervalDay(3) SETTINGS non_replicated_deduplication_window = 100, a = 'r,x', index_granularity \
                    = 8192 COMMENT 'hey'";
        let SchemaObject::Table(table) = parse_create(text).unwrap() else { panic!("no table") };
        assert_eq!(table.columns.len(), 6);
        assert_eq!(table.columns[0].default.as_ref().unwrap().expression, "1 + 2");
        assert_eq!(table.columns[2].codec.as_deref(), Some("Delta(4), LZ4"));
        assert_eq!(table.columns[3].ttl.as_deref(), Some("d + toIntervalDay(3)"));
        assert_eq!(table.columns[4].comment, "c'x");
        assert_eq!(table.columns[5].name, "index");
        assert_eq!(table.indexes[0].kind, "bloom_filter(0.01)");
        assert_eq!(table.indexes[0].expression, "lower(y)");
        assert_eq!(table.projections[0].query, "SELECT x, count() GROUP BY x");
        assert_eq!(table.constraints[0].expression, "x > 0");
        assert_eq!(table.engine.to_string(), "ReplacingMergeTree(e)");
        assert_eq!(table.sorting_key(), ["x", "ifNull(y, '')"]);
        assert_eq!(table.settings["a"], "'r,x'");
        assert_eq!(table.comment, "hey");
    }

    #[test]
    fn a_materialized_view_keeps_its_target_and_query() {
        let text = "CREATE MATERIALIZED VIEW raw.mv TO raw.t1 (`a` Time64(3), `b` Time) AS SELECT a, b FROM raw.t0 \
                    WHERE a > 3 COMMENT 'x'";
        let SchemaObject::MaterializedView(view) = parse_create(text).unwrap() else { panic!("no view") };
        assert_eq!(view.to.unwrap().plain(), "raw.t1");
        assert_eq!(view.query, "SELECT a, b FROM raw.t0 WHERE a > 3");
        assert_eq!(view.comment, "x");
    }
}
