//! The shape of an endpoint's pages, compiled from endpoints.yml: a tree of known fields that the page parser walks
//! beside the document. In: an [`Endpoint`]; out: a [`Shape`]. Pure.

use arrow::datatypes::{DataType, Field, Schema};

use super::{columns::ColumnSpec, json::Name};
use crate::extract::{ColumnType, Endpoint, Level};

/// The column for fields that nobody knew when endpoints.yml was written.
pub const EXTRA_COLUMN: &str = "_extra";

/// What the pages of one endpoint look like.
#[derive(Debug)]
pub struct Shape {
    pub(super) endpoint: String,
    pub(super) columns: Vec<ColumnSpec>,
    /// Where each column's value comes from: an enclosing list (0 is the outermost) or the row itself, and its slots
    /// there, the first with a value wins.
    pub(super) sources: Vec<Source>,
    /// Names of the lists from the outermost to that of the rows: `Races`, `Laps`, `Timings`.
    pub(super) lists: Vec<String>,
    /// Paths of the slots of each list's objects.
    pub(super) slots: Vec<Vec<String>>,
    /// Columns of the natural key, by position.
    pub(super) key: Vec<usize>,
    /// The fields of MRData.
    pub(super) root: Fields,
    /// What stands before the outermost list in a path: `RaceTable.`.
    wrappers: String,
    /// Whether rows carry the partition's season and round in columns of these names.
    pub(super) season_column: Option<usize>,
    pub(super) round_column: Option<usize>,
}

/// Where a column's value comes from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) list: usize,
    pub(super) slots: Vec<usize>,
}

/// The known fields of an object, in the order of endpoints.yml.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) entries: Vec<(Name, Node)>,
    /// An object around the rows: its plain fields repeat the request and are nobody's news.
    pub(super) is_wrapper: bool,
}

/// What is known of a field.
#[derive(Debug)]
pub(super) enum Node {
    /// Known and not kept.
    Known,
    /// A text that is kept.
    Text(usize),
    Object(Fields),
    /// A list inside a row; each item has these fields, one of which may be kept as a list.
    Items(Fields),
    /// The list of level `usize` on the way to the rows, or the rows themselves.
    Rows(usize, Fields),
}

impl Shape {
    /// Compiles an endpoint. Anything that YAML could get wrong has been checked by then, but for paths.
    pub fn new(endpoint: &Endpoint) -> Self {
        let mut wrappers: Vec<&str> = endpoint.rows.split('.').collect();
        let first_list = wrappers.iter().position(|part| part.ends_with("[]")).unwrap_or(0);
        let lists: Vec<String> =
            wrappers.split_off(first_list).into_iter().map(|part| part.trim_end_matches("[]").to_owned()).collect();
        let mut fields: Vec<Fields> = lists.iter().map(|_| Fields::default()).collect();
        let mut slots: Vec<Vec<String>> = vec![Vec::new(); lists.len()];
        let mut sources = Vec::new();
        for column in &endpoint.columns {
            let mut source = Source { list: lists.len() - 1, slots: Vec::new() };
            for path in column.path.as_slice() {
                let (list, local) = locate(&lists, path);
                source.list = list;
                let slot = slots[list].iter().position(|other| other == local).unwrap_or_else(|| {
                    slots[list].push(local.to_owned());
                    slots[list].len() - 1
                });
                source.slots.push(slot);
                fields[list].add(local, Node::Text(slot));
            }
            sources.push(source);
        }
        for path in &endpoint.known {
            let (list, local) = locate(&lists, path);
            fields[list].add(local, Node::Known);
        }
        // From the rows outwards: each list becomes a field of the objects of the list around it.
        let mut inner: Option<(Name, Node)> = None;
        for (level, (name, mut fields)) in lists.iter().zip(fields).enumerate().rev() {
            fields.entries.extend(inner.take());
            inner = Some((Name::new(name), Node::Rows(level, fields)));
        }
        let prefix = wrappers.iter().map(|name| format!("{name}.")).collect();
        for name in wrappers.iter().rev() {
            let fields = Fields { entries: inner.take().into_iter().collect(), is_wrapper: true };
            inner = Some((Name::new(name), Node::Object(fields)));
        }
        let root = Fields { entries: inner.into_iter().collect(), is_wrapper: true };
        let key: Vec<usize> = endpoint
            .key
            .iter()
            .filter_map(|key| endpoint.columns.iter().position(|column| column.name == *key))
            .collect();
        let columns =
            endpoint.columns.iter().map(|column| ColumnSpec::new(column, endpoint.key.contains(&column.name)));
        let partition_column = |name: &str, has: bool| {
            let is_it = |column: &crate::extract::Column| column.name == name && column.kind == ColumnType::Int16;
            has.then(|| endpoint.columns.iter().position(is_it)).flatten()
        };
        Self {
            endpoint: endpoint.name.clone(),
            columns: columns.collect(),
            sources,
            lists,
            slots,
            key,
            root,
            wrappers: prefix,
            season_column: partition_column("season", endpoint.level != Level::Static),
            round_column: partition_column("round", endpoint.level.has_rounds()),
        }
    }

    /// The Arrow schema of the Silver table: the columns of endpoints.yml, and `_extra`.
    pub fn schema(&self) -> Schema {
        let fields = self.columns.iter().map(ColumnSpec::field);
        Schema::new(fields.chain([Field::new(EXTRA_COLUMN, DataType::Utf8, true)]).collect::<Vec<_>>())
    }

    /// Index of the rows' own list.
    pub(super) fn leaf(&self) -> usize {
        self.lists.len() - 1
    }

    /// A path of a list's objects as endpoints.yml writes it: `Races[].season`, and bare for the rows.
    pub(super) fn qualified(&self, list: usize, local: &str) -> String {
        if list == self.leaf() { local.to_owned() } else { format!("{}[].{local}", self.lists[list]) }
    }

    /// A path below MRData as endpoints.yml writes it: relative to the list whose objects it is of.
    pub(super) fn local(&self, list: usize, path: &str) -> String {
        let below = path.strip_prefix(self.wrappers.as_str()).unwrap_or(path);
        let enclosing: String = self.lists[..=list].iter().map(|name| format!("{name}[].")).collect();
        self.qualified(list, below.strip_prefix(enclosing.as_str()).unwrap_or(below))
    }
}

impl Fields {
    /// The slots of all texts, at any depth.
    pub(super) fn text_slots(&self) -> Vec<usize> {
        let slots = |(_, node): &(Name, Node)| match node {
            Node::Text(slot) => vec![*slot],
            Node::Object(fields) => fields.text_slots(),
            Node::Known | Node::Items(_) | Node::Rows(..) => Vec::new(),
        };
        self.entries.iter().flat_map(slots).collect()
    }

    /// Adds a dotted path; what is there already stays.
    fn add(&mut self, path: &str, node: Node) {
        let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
        let (name, is_list) = head.strip_suffix("[]").map_or((head, false), |name| (name, true));
        let index = self.entries.iter().position(|(other, _)| other.as_str() == name);
        let Some(rest) = rest else {
            match index {
                None => self.entries.push((Name::new(name), node)),
                // A kept field wins over a known one.
                Some(index) if matches!(self.entries[index].1, Node::Known) => self.entries[index].1 = node,
                Some(_) => {}
            }
            return;
        };
        let index = index.unwrap_or_else(|| {
            let fields = Fields::default();
            self.entries.push((Name::new(name), if is_list { Node::Items(fields) } else { Node::Object(fields) }));
            self.entries.len() - 1
        });
        if let Node::Object(fields) | Node::Items(fields) = &mut self.entries[index].1 {
            fields.add(rest, node);
        }
    }
}

/// The list that a path starts at, and the rest of it.
fn locate<'p>(lists: &[String], path: &'p str) -> (usize, &'p str) {
    let enclosing = &lists[..lists.len() - 1];
    let found = enclosing.iter().enumerate().find_map(|(level, name)| {
        let rest = path.strip_prefix(name.as_str())?.strip_prefix("[].")?;
        Some((level, rest))
    });
    found.unwrap_or((lists.len() - 1, path))
}
