//! Pages to typed rows: one pass over the bytes, no tree. In: the pages of a batch, one after the other; out: [`Rows`]
//! with columns, refused rows, unknown fields. A Race or a Lap that is cut between two pages needs no joining, since its
//! rows are flat here. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    columns::Column,
    json::{Kind, Scanner, SyntaxError},
    shape::{Fields, Node, Shape},
};

/// A page that cannot be read at all.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PageError {
    #[error("it is not UTF-8")]
    Encoding,
    #[error("it is not valid JSON: {0}")]
    Syntax(#[from] SyntaxError),
    #[error("there is no `{path}`")]
    Missing { path: String },
    #[error("`{path}` of endpoint `{endpoint}` was {expected} and is {found}: {value}")]
    Type { endpoint: String, path: String, expected: &'static str, found: &'static str, value: String },
}

/// What a page says of its listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageInfo<'a> {
    /// Rows a page, as the API had it.
    pub limit: u32,
    pub offset: u32,
    /// Rows of the listing.
    pub total: u32,
    /// Rows of this page, refused ones included.
    pub rows: u32,
    /// The envelope's `metadata` as it stands there; none in a body as the API sent it.
    pub metadata: Option<&'a str>,
}

/// The rows of a batch under construction.
#[derive(Debug)]
pub struct Rows<'s> {
    pub(super) shape: &'s Shape,
    pub(super) columns: Vec<Column>,
    pub(super) len: usize,
    pub(super) extras: Vec<Extra>,
    pub(super) refused: Vec<Refused>,
    pub(super) drift: BTreeMap<String, Drift>,
    /// First row and offset in the listing of each page, as they came.
    pub(super) pages: Vec<(u32, u32)>,
    page: u32,
}

/// An unknown field of a row.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub(super) row: u32,
    pub(super) path: String,
    pub(super) json: String,
}

/// A row that failed validation.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Page of the batch, from 1.
    pub page: u32,
    /// Why: the column, where its value stands, what is wrong with it.
    pub reasons: Vec<Reason>,
    /// Fields of the enclosing objects: `Races[].season`.
    pub context: BTreeMap<String, Option<String>>,
    /// The row as received.
    pub json: String,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub column: String,
    pub path: String,
    pub value: Option<String>,
    pub reason: String,
}

/// An unknown field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drift {
    /// How often it stood there.
    pub count: u64,
    /// The first value, as JSON, at most 200 bytes of it.
    pub example: String,
}

impl<'s> Rows<'s> {
    /// No rows yet. `season` and `round` are the partition's: a row of another one is refused.
    pub fn new(shape: &'s Shape, season: Option<u16>, round: Option<u8>) -> Self {
        let expected = |index: usize| {
            if shape.season_column == Some(index) {
                season.map(i64::from)
            } else if shape.round_column == Some(index) {
                round.map(i64::from)
            } else {
                None
            }
        };
        let columns = shape.columns.iter().enumerate().map(|(index, spec)| Column::new(spec, expected(index)));
        Self {
            shape,
            columns: columns.collect(),
            len: 0,
            extras: Vec::new(),
            refused: Vec::new(),
            drift: BTreeMap::new(),
            pages: Vec::new(),
            page: 0,
        }
    }

    /// Adds a page: a Bronze object with its envelope, or a body as the API sent it. Pages may come in any order.
    ///
    /// # Errors
    /// The page is not JSON, has no MRData or no list of rows, or a field has another JSON type than it had; the rows are
    /// of no use then.
    pub fn add_page<'a>(&mut self, page: &'a [u8]) -> Result<PageInfo<'a>, PageError> {
        let text = std::str::from_utf8(page).map_err(|_| PageError::Encoding)?;
        self.page += 1;
        let first_row = self.len as u32;
        let shape = self.shape;
        let slots = shape.slots.iter().map(|paths| vec![Value::Missing; paths.len()]).collect();
        let mut parser = PageParser {
            rows: self,
            shape,
            scanner: Scanner::new(text),
            slots,
            rare: Vec::new(),
            spans: Vec::new(),
            enclosing_extras: Vec::new(),
            info: PageInfo::default(),
            saw_rows: false,
        };
        parser.document()?;
        let info = parser.info;
        self.pages.push((first_row, info.offset));
        Ok(info)
    }

    /// Makes room for `rows` more rows: what a batch's later pages will probably bring.
    pub fn reserve(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.reserve(rows));
    }

    /// Rows that passed, duplicates included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows that failed validation.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Fields that endpoints.yml does not know, by path.
    pub fn drift(&self) -> &BTreeMap<String, Drift> {
        &self.drift
    }

    fn truncate(&mut self, len: usize) {
        for column in &mut self.columns {
            if column.len() > len {
                column.truncate(len);
            }
        }
        self.extras.retain(|extra| (extra.row as usize) < len);
        self.len = len;
    }
}

/// A value of a slot. Copied as it is: a larger one, or one to be dropped, would be put together somewhere else first.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Missing,
    Null,
    Text(&'a str),
    /// Index of a [`Rare`].
    Rare(usize),
}

/// A value that has to be built.
#[derive(Debug)]
enum Rare<'a> {
    /// A text that was written with escapes.
    Unescaped(String),
    List(Vec<Cow<'a, str>>),
}

impl<'a> Value<'a> {
    fn text<'v>(self, rare: &'v [Rare<'a>]) -> Option<&'v str>
    where
        'a: 'v,
    {
        match self {
            Self::Text(text) => Some(text),
            Self::Rare(index) => match &rare[index] {
                Rare::Unescaped(text) => Some(text),
                Rare::List(_) => None,
            },
            Self::Missing | Self::Null => None,
        }
    }

    fn is_some(self) -> bool {
        matches!(self, Self::Text(_) | Self::Rare(_))
    }

    /// As a person would read it.
    fn shown(self, rare: &[Rare<'a>]) -> Option<String> {
        match self {
            Self::Missing | Self::Null => None,
            Self::Text(text) => Some(text.to_owned()),
            Self::Rare(index) => Some(match &rare[index] {
                Rare::Unescaped(text) => text.clone(),
                Rare::List(items) => items.join(", "),
            }),
        }
    }
}

/// Where the parser is, for messages: only read when something is wrong.
#[derive(Debug, Clone, Copy)]
struct Place<'p> {
    around: Option<&'p Place<'p>>,
    name: &'p str,
    suffix: &'static str,
}

impl Place<'_> {
    fn path(&self, field: &str) -> String {
        let mut parts = vec![field.to_owned()];
        let mut place = Some(self);
        while let Some(here) = place {
            if !here.name.is_empty() {
                parts.push(format!("{}{}", here.name, here.suffix));
            }
            place = here.around;
        }
        parts.reverse();
        parts.join(".")
    }
}

struct PageParser<'r, 's, 'a> {
    rows: &'r mut Rows<'s>,
    shape: &'s Shape,
    scanner: Scanner<'a>,
    /// Values of the object that is open in each list.
    slots: Vec<Vec<Value<'a>>>,
    /// What [`Value::Rare`] means, of the whole page.
    rare: Vec<Rare<'a>>,
    /// Where each row stands that is not yet complete: its enclosing objects are still open.
    spans: Vec<(u32, u32)>,
    /// Unknown fields of enclosing objects that are still open: level, path, JSON.
    enclosing_extras: Vec<(usize, String, String)>,
    info: PageInfo<'a>,
    saw_rows: bool,
}

impl<'a> PageParser<'_, '_, 'a> {
    /// `{"metadata": …, "data": {"MRData": …}}` or `{"MRData": …}`.
    fn document(&mut self) -> Result<(), PageError> {
        let mut found = false;
        self.scanner.enter_object()?;
        let mut first = true;
        while let Some(key) = self.scanner.next_key(&mut first)? {
            match key.as_ref() {
                "MRData" => {
                    found = true;
                    self.mr_data()?;
                }
                "metadata" => self.info.metadata = Some(self.scanner.raw()?),
                "data" if self.scanner.kind()? == Kind::Object => {
                    self.scanner.enter_object()?;
                    let mut first = true;
                    while let Some(key) = self.scanner.next_key(&mut first)? {
                        if key == "MRData" {
                            found = true;
                            self.mr_data()?;
                        } else {
                            self.scanner.skip()?;
                        }
                    }
                }
                _ => self.scanner.skip()?,
            }
        }
        self.scanner.end()?;
        if !found {
            return Err(PageError::Missing { path: "MRData".to_owned() });
        }
        if !self.saw_rows {
            return Err(PageError::Missing { path: format!("MRData.….{}[]", self.shape.lists[0]) });
        }
        Ok(())
    }

    fn mr_data(&mut self) -> Result<(), PageError> {
        let shape = self.shape;
        let place = Place { around: None, name: "", suffix: "" };
        self.expect(Kind::Object, "MRData", &place)?;
        self.scanner.enter_object()?;
        let (mut limit, mut offset, mut total) = (None, None, None);
        let mut first = true;
        while let Some(key) = self.scanner.next_key(&mut first)? {
            let number = match key.as_ref() {
                "limit" => &mut limit,
                "offset" => &mut offset,
                "total" => &mut total,
                _ => {
                    self.field(&key, &shape.root, 0, &place, &mut 0)?;
                    continue;
                }
            };
            let start = self.scanner.position();
            let text = match self.scanner.kind()? {
                Kind::String => self.scanner.string()?,
                _ => Cow::Borrowed(self.scanner.raw()?),
            };
            let value = super::values::integer(&text).and_then(|value| u32::try_from(value).ok());
            *number = Some(value.ok_or_else(|| PageError::Type {
                endpoint: self.shape.endpoint.clone(),
                path: format!("MRData.{key}"),
                expected: "a count",
                found: "none",
                value: shorten(self.scanner.slice(start, self.scanner.after())),
            })?);
        }
        for (name, value, field) in [
            ("MRData.limit", limit, &mut self.info.limit),
            ("MRData.offset", offset, &mut self.info.offset),
            ("MRData.total", total, &mut self.info.total),
        ] {
            *field = value.ok_or_else(|| PageError::Missing { path: name.to_owned() })?;
        }
        Ok(())
    }

    /// The fields of an object of list `list`, up to its closing brace.
    fn object(&mut self, fields: &Fields, list: usize, place: &Place<'_>) -> Result<(), PageError> {
        self.scanner.enter_object()?;
        let mut first = true;
        let mut hint = 0;
        while self.scanner.next_member(&mut first)? {
            // Fields come in the same order nearly always; those that may be missing are passed over.
            let next = fields.entries[hint..].iter().take(3);
            let mut found = None;
            for (skipped, (name, node)) in next.enumerate() {
                if self.scanner.is_key(name)? {
                    found = Some((skipped, name, node));
                    break;
                }
            }
            if let Some((skipped, name, node)) = found {
                hint += skipped + 1;
                self.value(name.as_str(), node, list, place)?;
            } else {
                let key = self.scanner.key()?;
                self.field(&key, fields, list, place, &mut hint)?;
            }
        }
        Ok(())
    }

    /// The field of a key that was not expected here; `hint` is where to go on.
    fn field(
        &mut self,
        key: &str,
        fields: &Fields,
        list: usize,
        place: &Place<'_>,
        hint: &mut usize,
    ) -> Result<(), PageError> {
        let entries = &fields.entries;
        let Some(index) = entries.iter().position(|(name, _)| name.as_str() == key) else {
            return self.unknown(key, fields.is_wrapper, list, place);
        };
        *hint = index + 1;
        self.value(key, &entries[index].1, list, place)
    }

    /// A known field's value.
    fn value(&mut self, key: &str, node: &Node, list: usize, place: &Place<'_>) -> Result<(), PageError> {
        match node {
            Node::Known => Ok(self.scanner.skip()?),
            Node::Text(slot) => match self.scanner.plain_string() {
                Some(text) => {
                    self.slots[list][*slot] = Value::Text(text);
                    Ok(())
                }
                None => self.odd_text(*slot, key, list, place),
            },
            Node::Object(fields) => match self.scanner.kind()? {
                Kind::Null => Ok(self.scanner.null()?),
                Kind::Object => self.object(fields, list, &Place { around: Some(place), name: key, suffix: "" }),
                found => Err(self.wrong_type("an object", found, key, place)),
            },
            Node::Items(fields) => self.items(fields, key, list, place),
            Node::Rows(level, fields) => self.list(*level, fields, key, place),
        }
    }

    /// A text's place with anything but a plain text.
    #[cold]
    fn odd_text(&mut self, slot: usize, key: &str, list: usize, place: &Place<'_>) -> Result<(), PageError> {
        let value = match self.scanner.kind()? {
            Kind::String => match self.scanner.string()? {
                Cow::Borrowed(text) => Value::Text(text),
                Cow::Owned(text) => self.keep(Rare::Unescaped(text)),
            },
            Kind::Null => {
                self.scanner.null()?;
                Value::Null
            }
            found => return Err(self.wrong_type("a text", found, key, place)),
        };
        self.slots[list][slot] = value;
        Ok(())
    }

    fn keep(&mut self, value: Rare<'a>) -> Value<'a> {
        self.rare.push(value);
        Value::Rare(self.rare.len() - 1)
    }

    /// A list on the way to the rows.
    fn list(&mut self, level: usize, fields: &Fields, key: &str, place: &Place<'_>) -> Result<(), PageError> {
        self.saw_rows |= level == 0;
        match self.scanner.kind()? {
            Kind::Array => self.scanner.enter_array()?,
            Kind::Null => return Ok(self.scanner.null()?),
            found => return Err(self.wrong_type("a list", found, key, place)),
        }
        let place = Place { around: Some(place), name: key, suffix: "[]" };
        let mut first = true;
        while self.scanner.next_item(&mut first)? {
            let start = self.scanner.position();
            self.expect(Kind::Object, "", &place)?;
            self.slots[level].fill(Value::Missing);
            let before = Mark { rows: self.rows.len, refused: self.rows.refused.len() };
            self.object(fields, level, &place)?;
            if level == self.shape.leaf() {
                self.close_row(start as u32);
            } else {
                self.close_enclosing(level, &before);
            }
            if level == 0 {
                // Nothing around these rows can refuse them any more.
                self.spans.clear();
            }
        }
        Ok(())
    }

    /// Validates a row and appends it, or refuses it.
    fn close_row(&mut self, start: u32) {
        let shape = self.shape;
        let span = (start, self.scanner.after() as u32);
        self.info.rows += 1;
        let leaf = shape.leaf();
        let reasons = self.push(leaf, 1);
        if reasons.is_empty() {
            self.rows.len += 1;
            self.spans.push(span);
        } else {
            let len = self.rows.len;
            self.rows.truncate(len);
            self.refuse(span, reasons);
        }
    }

    /// Gives the values of an enclosing object to the rows that it holds.
    fn close_enclosing(&mut self, level: usize, before: &Mark) {
        let held = self.rows.len - before.rows;
        if held > 0 {
            let reasons = self.push(level, held);
            if !reasons.is_empty() {
                let spans = self.spans.split_off(self.spans.len() - held);
                self.rows.truncate(before.rows);
                for span in spans {
                    self.refuse(span, reasons.clone());
                }
            }
        }
        for (_, path, json) in self.enclosing_extras.extract_if(.., |extra| extra.0 == level) {
            for row in before.rows..self.rows.len {
                self.rows.extras.push(Extra { row: row as u32, path: path.clone(), json: json.clone() });
            }
        }
        let shape = self.shape;
        for (path, value) in shape.slots[level].iter().zip(&self.slots[level]) {
            for refused in &mut self.rows.refused[before.refused..] {
                refused.context.insert(shape.qualified(level, path), value.shown(&self.rare));
            }
        }
    }

    /// Appends the values of list `list` to its columns, `times` times; answers what is wrong with them.
    fn push(&mut self, list: usize, times: usize) -> Vec<Reason> {
        let shape = self.shape;
        let mut reasons = Vec::new();
        let slots = &self.slots[list];
        for ((column, spec), source) in self.rows.columns.iter_mut().zip(&shape.columns).zip(&shape.sources) {
            if source.list != list {
                continue;
            }
            let slot = match source.slots.as_slice() {
                [slot] => *slot,
                several => several.iter().copied().find(|&slot| slots[slot].is_some()).unwrap_or(several[0]),
            };
            let value = slots[slot];
            let list_of = |index: usize| match &self.rare[index] {
                Rare::List(items) => Some(items),
                Rare::Unescaped(_) => None,
            };
            let pushed = match value {
                Value::Rare(index) if let Some(items) = list_of(index) => {
                    column.push_list(spec, Some(items.iter().map(Cow::as_ref)), times)
                }
                _ => column.push(spec, value.text(&self.rare), times),
            };
            if let Err(reason) = pushed {
                reasons.push(Reason {
                    column: spec.name.clone(),
                    path: shape.qualified(list, &shape.slots[list][slot]),
                    value: value.shown(&self.rare),
                    reason,
                });
            }
        }
        reasons
    }

    fn refuse(&mut self, (start, end): (u32, u32), reasons: Vec<Reason>) {
        let json = self.scanner.slice(start as usize, end as usize).to_owned();
        let refused = Refused { page: self.rows.page, reasons, context: BTreeMap::new(), json };
        self.rows.refused.push(refused);
    }

    /// A list inside a row.
    fn items(&mut self, fields: &Fields, key: &str, list: usize, place: &Place<'_>) -> Result<(), PageError> {
        let slots = fields.text_slots();
        match self.scanner.kind()? {
            Kind::Array => self.scanner.enter_array()?,
            Kind::Null => return Ok(self.scanner.null()?),
            found => return Err(self.wrong_type("a list", found, key, place)),
        }
        let place = Place { around: Some(place), name: key, suffix: "[]" };
        let mut lists: Vec<Vec<Cow<'a, str>>> = vec![Vec::new(); slots.len()];
        let mut first = true;
        while self.scanner.next_item(&mut first)? {
            self.expect(Kind::Object, "", &place)?;
            for &slot in &slots {
                self.slots[list][slot] = Value::Missing;
            }
            self.object(fields, list, &place)?;
            for (items, &slot) in lists.iter_mut().zip(&slots) {
                // An item without the field is an empty text, which the column refuses.
                match std::mem::replace(&mut self.slots[list][slot], Value::Missing) {
                    Value::Text(text) => items.push(Cow::Borrowed(text)),
                    value => items.push(Cow::Owned(value.text(&self.rare).unwrap_or_default().to_owned())),
                }
            }
        }
        for (items, slot) in lists.into_iter().zip(slots) {
            self.slots[list][slot] = self.keep(Rare::List(items));
        }
        Ok(())
    }

    /// Keeps and counts a field that endpoints.yml does not know.
    fn unknown(&mut self, key: &str, is_wrapper: bool, list: usize, place: &Place<'_>) -> Result<(), PageError> {
        let is_nested = matches!(self.scanner.kind()?, Kind::Object | Kind::Array);
        let json = self.scanner.raw()?;
        if is_wrapper && !is_nested {
            return Ok(());
        }
        let path = place.path(key);
        let drift = self.rows.drift.entry(path.clone()).or_default();
        drift.count += 1;
        if drift.example.is_empty() {
            drift.example = shorten(json);
        }
        if is_wrapper {
            return Ok(());
        }
        let path = self.shape.local(list, &path);
        if list == self.shape.leaf() {
            self.rows.extras.push(Extra { row: self.rows.len as u32, path, json: json.to_owned() });
        } else {
            self.enclosing_extras.push((list, path, json.to_owned()));
        }
        Ok(())
    }

    fn expect(&mut self, expected: Kind, key: &str, place: &Place<'_>) -> Result<(), PageError> {
        match self.scanner.kind()? {
            kind if kind == expected => Ok(()),
            found => Err(self.wrong_type(expected.as_str(), found, key, place)),
        }
    }

    #[cold]
    fn wrong_type(&mut self, expected: &'static str, found: Kind, key: &str, place: &Place<'_>) -> PageError {
        match self.scanner.raw() {
            Ok(json) => PageError::Type {
                endpoint: self.shape.endpoint.clone(),
                path: place.path(key).trim_end_matches('.').to_owned(),
                expected,
                found: found.as_str(),
                value: shorten(json),
            },
            Err(error) => PageError::Syntax(error),
        }
    }
}

/// How much there was before an enclosing object was opened.
struct Mark {
    rows: usize,
    refused: usize,
}

/// At most 200 bytes of a value.
fn shorten(json: &str) -> String {
    match json.char_indices().find(|(index, _)| *index > 200) {
        Some((index, _)) => format!("{}…", &json[..index]),
        None => json.to_owned(),
    }
}
