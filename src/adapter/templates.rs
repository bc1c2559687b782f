//! The Tera templates of every statement that models, tests and snapshots are made with: embedded in the binary, each
//! overridable by a file of the same name in the project's `ddl/templates/`. It renders text and runs nothing.

use std::path::Path;

use serde::Serialize;
use tera::{Context, Tera};

use super::AdapterError;

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../ddl/templates/", $name)))),+]
    };
}

/// Name and text of each built-in template.
const EMBEDDED: &[(&str, &str)] = embedded![
    "data_test/evaluate.sql",
    "materialize/alter.sql",
    "materialize/clone.sql",
    "materialize/create_database.sql",
    "materialize/create_dictionary.sql",
    "materialize/create_distributed.sql",
    "materialize/create_materialized_view.sql",
    "materialize/create_table.sql",
    "materialize/create_table_as.sql",
    "materialize/create_view.sql",
    "materialize/create_external.sql",
    "materialize/delete_matching.sql",
    "materialize/delete_range.sql",
    "materialize/drop.sql",
    "materialize/drop_database.sql",
    "materialize/exchange.sql",
    "materialize/grant.sql",
    "materialize/insert.sql",
    "materialize/keep_unmatched.sql",
    "materialize/modify_query.sql",
    "materialize/rename.sql",
    "materialize/replace_partitions.sql",
    "materialize/truncate.sql",
    "snapshot/_followed.sql",
    "snapshot/_returned.sql",
    "snapshot/changes.sql",
    "snapshot/close_by_update.sql",
    "snapshot/counts.sql",
    "snapshot/delete_closed.sql",
    "snapshot/delete_removed.sql",
    "snapshot/drop_open.sql",
    "snapshot/duplicates.sql",
    "snapshot/first.sql",
    "snapshot/history_changes.sql",
    "snapshot/history_first.sql",
    "snapshot/history_keep.sql",
    "snapshot/history_seen.sql",
    "snapshot/history_versions.sql",
    "snapshot/insert_kept.sql",
    "snapshot/insert_staged.sql",
    "snapshot/repair.sql",
    "snapshot/replace_open.sql",
    "snapshot/returned_count.sql",
    "snapshot/returned_move.sql",
    "snapshot/sample.sql",
    "snapshot/verify_ids.sql",
    "snapshot/verify_open.sql",
    "snapshot/verify_order.sql",
];

/// All templates, parsed.
#[derive(Debug)]
pub struct Templates {
    tera: Tera,
}

impl Templates {
    /// The built-in templates, and in their place those of `directory` (the project's `ddl/templates`), where it has
    /// some.
    ///
    /// # Errors
    /// A template that cannot be read or parsed.
    pub fn load(directory: Option<&Path>) -> Result<Self, AdapterError> {
        let mut texts = Vec::with_capacity(EMBEDDED.len());
        for (name, text) in EMBEDDED {
            let path = directory.map(|directory| directory.join(name)).filter(|path| path.is_file());
            let text = match path {
                Some(path) => {
                    fs_err::read_to_string(&path).map_err(|source| AdapterError::TemplateFile { path, source })?
                }
                None => (*text).to_owned(),
            };
            texts.push(((*name).to_owned(), text));
        }
        let mut tera = Tera::new();
        // The output is SQL: nothing is escaped for HTML.
        tera.autoescape_on(Vec::<&'static str>::new());
        tera.add_raw_templates(texts)
            .map_err(|error| AdapterError::Template { name: "(all)".to_owned(), reason: error.to_string() })?;
        Ok(Self { tera })
    }

    /// One statement.
    ///
    /// # Errors
    /// The template (an overriding one) uses what it is not given.
    pub fn render(&self, name: &str, values: &impl Serialize) -> Result<String, AdapterError> {
        let failed = |error: tera::Error| AdapterError::Template { name: name.to_owned(), reason: chain(&error) };
        let context = Context::from_serialize(values).map_err(failed)?;
        let text = self.tera.render(name, &context).map_err(failed)?;
        Ok(text.trim().to_owned())
    }
}

fn chain(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_of_the_project_replaces_a_template() {
        let directory = tempfile::tempdir().unwrap();
        let built_in = Templates::load(Some(directory.path())).unwrap();
        let values = json!({"a": "x", "b": "y", "on_cluster": ""});
        assert_eq!(built_in.render("materialize/exchange.sql", &values).unwrap(), "EXCHANGE TABLES x AND y");
        let path = directory.path().join("materialize");
        fs_err::create_dir_all(&path).unwrap();
        fs_err::write(path.join("exchange.sql"), "EXCHANGE TABLES {{ b }} AND {{ a }}\n").unwrap();
        let overridden = Templates::load(Some(directory.path())).unwrap();
        assert_eq!(overridden.render("materialize/exchange.sql", &values).unwrap(), "EXCHANGE TABLES y AND x");
    }
}
