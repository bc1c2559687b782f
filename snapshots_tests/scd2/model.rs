//! SCD2 in a few lines of plain Rust: what every snapshot has to be equal to. Values are SQL literals; two are equal when
//! their texts are.

use std::collections::BTreeMap;

/// Whether and how vanished keys are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    Ignore,
    Invalidate,
    NewRecord,
}

/// One version of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) key: i32,
    /// By column; one that the table did not have then is NULL.
    pub(crate) values: BTreeMap<&'static str, &'static str>,
    pub(crate) from: i64,
    pub(crate) until: Option<i64>,
    pub(crate) deleted: bool,
}

/// A source row: values by column, and the second in which it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) values: BTreeMap<&'static str, &'static str>,
    pub(crate) updated_at: i64,
}

/// The state of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// A later time is a change; otherwise values are compared.
    pub(crate) by_time: bool,
    /// Versions begin when the source says so.
    pub(crate) dated: bool,
    pub(crate) deletes: Deletes,
    /// Checked columns; all of them where `None`.
    pub(crate) checked: Option<Vec<&'static str>>,
    pub(crate) versions: Vec<Version>,
    columns: Vec<&'static str>,
}

impl Model {
    pub(crate) fn new(by_time: bool, dated: bool, deletes: Deletes, checked: Option<Vec<&'static str>>) -> Self {
        Self { by_time, dated, deletes, checked, versions: Vec::new(), columns: Vec::new() }
    }

    /// Takes the snapshot of a source at a time.
    pub(crate) fn take(&mut self, columns: &[&'static str], source: &BTreeMap<i32, Row>, now: i64) {
        let known: Vec<&'static str> = self.columns.clone();
        let first = known.is_empty();
        let added: Vec<&'static str> = columns.iter().copied().filter(|column| !known.contains(column)).collect();
        self.columns.extend(&added);
        let shared: Vec<&'static str> =
            if first { Vec::new() } else { columns.iter().copied().filter(|column| known.contains(column)).collect() };
        let mut opened = Vec::new();
        for (&key, row) in source {
            let current = self.versions.iter_mut().find(|version| version.key == key && version.until.is_none());
            let begins = match current {
                None => {
                    let last = self.versions.iter().filter(|version| version.key == key).filter_map(|v| v.until).max();
                    let stale = self.dated && last.is_some_and(|last| last > row.updated_at);
                    Some(if self.dated && !stale { row.updated_at } else { now })
                }
                Some(open) => {
                    let changed = open.deleted
                        || if self.by_time {
                            open.from < row.updated_at
                        } else {
                            shared
                                .iter()
                                .filter(|column| self.checked.as_ref().is_none_or(|checked| checked.contains(column)))
                                .any(|column| open.values.get(column) != row.values.get(column))
                        };
                    if changed {
                        let begins = if self.dated && open.from < row.updated_at { row.updated_at } else { now };
                        open.until = Some(begins);
                        Some(begins)
                    } else {
                        None
                    }
                }
            };
            if let Some(from) = begins {
                let values = self
                    .columns
                    .iter()
                    .map(|column| (*column, row.values.get(column).copied().unwrap_or("NULL")))
                    .collect();
                opened.push(Version { key, values, from, until: None, deleted: false });
            }
        }
        if self.deletes != Deletes::Ignore {
            for version in &mut self.versions {
                if version.until.is_none() && !version.deleted && !source.contains_key(&version.key) {
                    version.until = Some(now);
                    if self.deletes == Deletes::NewRecord {
                        opened.push(Version { from: now, until: None, deleted: true, ..version.clone() });
                    }
                }
            }
        }
        for version in &mut self.versions {
            // New in the table: what is over never had a value, what stays current gets it.
            let current = source.get(&version.key).filter(|_| version.until.is_none() && !version.deleted);
            for column in &added {
                let value = current.and_then(|row| row.values.get(column)).copied();
                version.values.insert(column, value.unwrap_or("NULL"));
            }
        }
        self.versions.extend(opened);
    }
}
