//! Tera templates of every statement chpipe writes itself: built in, each replaceable by a file of the same name in the
//! project's `ddl/templates/`. In: typed objects; out: SQL text. It never runs one.

use std::path::Path;

use tera::{Context, Tera};

use crate::{
    engine::{quote_identifier, quote_string},
    schema::{MaterializedView, NamedCollection, Relation, SchemaObject, Table, View},
};

use super::DdlError;

/// The templates as they come with chpipe.
const BUILT_IN: [(&str, &str); 16] = [
    ("_columns.sql.tera", include_str!("../../ddl/templates/_columns.sql.tera")),
    ("alter.sql.tera", include_str!("../../ddl/templates/alter.sql.tera")),
    ("alter_named_collection.sql.tera", include_str!("../../ddl/templates/alter_named_collection.sql.tera")),
    ("copy_partition.sql.tera", include_str!("../../ddl/templates/copy_partition.sql.tera")),
    ("database.sql.tera", include_str!("../../ddl/templates/database.sql.tera")),
    ("distributed.sql.tera", include_str!("../../ddl/templates/distributed.sql.tera")),
    ("drop.sql.tera", include_str!("../../ddl/templates/drop.sql.tera")),
    ("exchange.sql.tera", include_str!("../../ddl/templates/exchange.sql.tera")),
    ("load.sql.tera", include_str!("../../ddl/templates/load.sql.tera")),
    ("materialized_view.sql.tera", include_str!("../../ddl/templates/materialized_view.sql.tera")),
    ("merge_tree.sql.tera", include_str!("../../ddl/templates/merge_tree.sql.tera")),
    ("named_collection.sql.tera", include_str!("../../ddl/templates/named_collection.sql.tera")),
    ("rename.sql.tera", include_str!("../../ddl/templates/rename.sql.tera")),
    ("s3.sql.tera", include_str!("../../ddl/templates/s3.sql.tera")),
    ("s3_queue.sql.tera", include_str!("../../ddl/templates/s3_queue.sql.tera")),
    ("view.sql.tera", include_str!("../../ddl/templates/view.sql.tera")),
];

/// What a credential reads as, wherever DDL is shown or recorded.
pub const HIDDEN: &str = "'[HIDDEN]'";

/// The templates of a project.
#[derive(Clone)]
pub struct Templates {
    tera: Tera,
    cluster: Option<String>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Templates {
    /// The built-in templates under those of a folder, for statements on a cluster where one is named.
    ///
    /// # Errors
    /// A template of the folder cannot be read or is not valid Tera.
    pub fn load(dir: Option<&Path>, cluster: Option<&str>) -> Result<Self, DdlError> {
        let mut sources: Vec<(String, String)> =
            BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        for source in &mut sources {
            let Some(path) = dir.map(|dir| dir.join(&source.0)).filter(|path| path.is_file()) else { continue };
            source.1 = fs_err::read_to_string(&path).map_err(|error| DdlError::Io { path, source: error })?;
        }
        let mut tera = Tera::default();
        tera.autoescape_on(Vec::<&str>::new());
        tera.add_raw_templates(sources.iter().map(|(name, text)| (name.as_str(), text.trim_end())))
            .map_err(|error| template_error("templates", &error))?;
        Ok(Self { tera, cluster: cluster.map(str::to_owned) })
    }

    /// `CREATE …` of an object. Credentials of a named collection are [`HIDDEN`].
    ///
    /// # Errors
    /// An overridden template fails.
    pub fn create(&self, object: &SchemaObject) -> Result<String, DdlError> {
        match object {
            SchemaObject::Database { name, engine } => {
                let mut context = self.context(&quote_identifier(name));
                context.insert("engine", engine);
                self.render("database.sql.tera", &context)
            }
            SchemaObject::NamedCollection(collection) => {
                self.named_collection("named_collection.sql.tera", collection, &[])
            }
            SchemaObject::Table(table) => self.create_table(table, false),
            SchemaObject::MaterializedView(view) => self.create_materialized_view(view),
            SchemaObject::View(view) => self.create_view(view),
        }
    }

    /// `CREATE [OR REPLACE] TABLE`, with the template of its engine.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn create_table(&self, table: &Table, replace: bool) -> Result<String, DdlError> {
        let mut elements: Vec<String> = table.columns.iter().map(crate::schema::Column::declaration).collect();
        elements.extend(table.indexes.iter().map(|index| format!("INDEX {}", index.declaration())));
        elements.extend(table.constraints.iter().map(|constraint| {
            format!("CONSTRAINT {} {} {}", quote_identifier(&constraint.name), constraint.kind, constraint.expression)
        }));
        elements.extend(
            table
                .projections
                .iter()
                .map(|projection| format!("PROJECTION {} ({})", quote_identifier(&projection.name), projection.query)),
        );
        let settings: Vec<String> = table.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let mut context = self.context(&table.name.to_string());
        context.insert("replace", &replace);
        context.insert("elements", &elements);
        context.insert("engine", &table.engine.to_string());
        context.insert("partition_by", &table.partition_by);
        context.insert("primary_key", &table.primary_key);
        context.insert("order_by", table.order_by.as_deref().unwrap_or("tuple()"));
        context.insert("sample_by", &table.sample_by);
        context.insert("ttl", &table.ttl);
        context.insert("settings", &settings.join(", "));
        context.insert("comment", &comment_literal(&table.comment));
        let template = match table.engine.name.as_str() {
            "S3" => "s3.sql.tera",
            "S3Queue" => "s3_queue.sql.tera",
            "Distributed" => "distributed.sql.tera",
            _ => "merge_tree.sql.tera",
        };
        self.render(template, &context)
    }

    fn create_materialized_view(&self, view: &MaterializedView) -> Result<String, DdlError> {
        let mut context = self.context(&view.name.to_string());
        context.insert("to", &view.to.as_ref().map(Relation::to_string));
        context.insert("query", &view.query);
        context.insert("comment", &comment_literal(&view.comment));
        self.render("materialized_view.sql.tera", &context)
    }

    fn create_view(&self, view: &View) -> Result<String, DdlError> {
        let mut context = self.context(&view.name.to_string());
        context.insert("query", &view.query);
        context.insert("comment", &comment_literal(&view.comment));
        self.render("view.sql.tera", &context)
    }

    /// `ALTER NAMED COLLECTION`: all of its values, with [`HIDDEN`] credentials, and the keys that go.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn alter_collection(&self, collection: &NamedCollection, stale: &[String]) -> Result<String, DdlError> {
        self.named_collection("alter_named_collection.sql.tera", collection, stale)
    }

    /// What follows an object's name where a cluster is named, with the space before it.
    pub fn on_cluster(&self) -> String {
        self.cluster.as_deref().map(|name| format!(" ON CLUSTER {}", quote_identifier(name))).unwrap_or_default()
    }

    fn named_collection(
        &self,
        template: &str,
        collection: &NamedCollection,
        stale: &[String],
    ) -> Result<String, DdlError> {
        #[derive(serde::Serialize)]
        struct Pair {
            key: String,
            value: String,
        }
        let values = collection.values.iter().map(|(key, value)| Pair { key: key.clone(), value: quote_string(value) });
        let secrets = collection.secrets.iter().map(|key| Pair { key: key.clone(), value: HIDDEN.to_owned() });
        let mut context = self.context(&quote_identifier(&collection.name));
        context.insert("pairs", &values.chain(secrets).collect::<Vec<_>>());
        context.insert("stale", stale);
        self.render(template, &context)
    }

    /// `ALTER TABLE … command, command`.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn alter(&self, table: &Relation, commands: &[String]) -> Result<String, DdlError> {
        let mut context = self.context(&table.to_string());
        context.insert("commands", commands);
        self.render("alter.sql.tera", &context)
    }

    /// `EXCHANGE TABLES a AND b`.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn exchange(&self, a: &Relation, b: &Relation) -> Result<String, DdlError> {
        let mut context = self.context("");
        context.insert("a", &a.to_string());
        context.insert("b", &b.to_string());
        self.render("exchange.sql.tera", &context)
    }

    /// `RENAME TABLE from TO to`.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn rename(&self, from: &Relation, to: &Relation) -> Result<String, DdlError> {
        let mut context = self.context("");
        context.insert("from", &from.to_string());
        context.insert("to", &to.to_string());
        self.render("rename.sql.tera", &context)
    }

    /// `DROP TABLE` or `DROP VIEW`.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn drop(&self, name: &Relation, view: bool) -> Result<String, DdlError> {
        let mut context = self.context(&name.to_string());
        context.insert("view", &view);
        self.render("drop.sql.tera", &context)
    }

    /// `INSERT INTO to (…) SELECT … FROM from WHERE condition`.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn copy_partition(
        &self,
        from: &Relation,
        to: &Relation,
        columns: &[(String, String)],
        condition: Option<&str>,
    ) -> Result<String, DdlError> {
        let mut context = self.insert_context(to, columns);
        context.insert("from", &from.to_string());
        context.insert("condition", &condition);
        self.render("copy_partition.sql.tera", &context)
    }

    /// The statement that loads objects: `from` is a table or a table function.
    ///
    /// # Errors
    /// As [`Templates::create`].
    pub fn load_objects(
        &self,
        from: &str,
        to: &Relation,
        columns: &[(String, String)],
        paths: &[String],
    ) -> Result<String, DdlError> {
        let mut context = self.insert_context(to, columns);
        context.insert("from", from);
        context.insert("paths", &paths.iter().map(|path| quote_string(path)).collect::<Vec<_>>());
        self.render("load.sql.tera", &context)
    }

    fn insert_context(&self, to: &Relation, columns: &[(String, String)]) -> Context {
        let mut context = self.context("");
        context.insert("to", &to.to_string());
        context.insert("columns", &columns.iter().map(|(name, _)| quote_identifier(name)).collect::<Vec<_>>());
        context.insert("expressions", &columns.iter().map(|(_, expression)| expression.as_str()).collect::<Vec<_>>());
        context
    }

    fn context(&self, name: &str) -> Context {
        let mut context = Context::new();
        context.insert("name", name);
        context.insert("on_cluster", &self.on_cluster());
        context
    }

    fn render(&self, template: &str, context: &Context) -> Result<String, DdlError> {
        self.tera
            .render(template, context)
            .map(|text| text.trim().to_owned())
            .map_err(|error| template_error(template, &error))
    }
}

fn comment_literal(comment: &str) -> Option<String> {
    (!comment.is_empty()).then(|| quote_string(comment))
}

fn template_error(template: &str, error: &tera::Error) -> DdlError {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    DdlError::Template { template: template.to_owned(), reason }
}
