//! Named collections that exist already: whether they hold what the lake's settings say, and the change where they do not.
//! The server shows the keys and hides every value, so what a collection was given is recorded in the ledger: its plain
//! values, and a salted hash of its secrets. In: wanted collection, live keys, the record; out: a change. No secret leaves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    config::Secret,
    ddl::{ChangeClass, Templates},
    engine::{EngineError, Session},
    schema::{NamedCollection, Relation, SchemaObject},
};

use super::{
    MigrateError,
    live::Live,
    plan::{Action, PlannedChange, Step},
    rows::{rows, text},
};

/// Keys that chpipe gives a collection; whatever else somebody put there stays.
const OWN_KEYS: [&str; 5] =
    ["url", "access_key_id", "secret_access_key", "no_sign_request", "use_environment_credentials"];
/// Rounds of the hash. A ledger may be read by people who may not know the secret, and a secret may be a short one.
const ROUNDS: u32 = 20_000;

/// A collection as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCollection {
    pub keys: Vec<String>,
    /// It stands in the server's configuration, where DDL cannot change it.
    pub from_config: bool,
}

/// All collections by name; `None` where the server does not show them to this user.
pub(super) fn read(session: &mut dyn Session) -> Option<BTreeMap<String, LiveCollection>> {
    let select = |source: &str| {
        format!("SELECT name, arrayStringConcat(mapKeys(collection), '\\n'), {source} FROM system.named_collections")
    };
    let found = match rows(session, &select("toString(source)")) {
        // Older servers do not say where a collection comes from.
        Err(EngineError::Server { .. }) => rows(session, &select("''")).ok()?,
        found => found.ok()?,
    };
    let collection = |row: &Vec<Option<String>>| {
        let keys = text(row, 1).lines().map(str::to_owned).collect();
        (text(row, 0).to_owned(), LiveCollection { keys, from_config: text(row, 2) == "CONFIG" })
    };
    Some(found.iter().map(collection).collect())
}

/// What a collection was given, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    values: BTreeMap<String, String>,
    salt: String,
    /// Of the secrets; empty where there are none.
    seal: String,
}

impl Given {
    /// With a salt of its own.
    pub(super) fn new(values: BTreeMap<String, String>, secrets: &[Secret]) -> Self {
        let salt = uuid::Uuid::new_v4().simple().to_string();
        let seal = seal(&salt, secrets);
        Self { values, salt, seal }
    }

    fn is_given_by(&self, secrets: &[Secret]) -> bool {
        self.seal == seal(&self.salt, secrets)
    }
}

fn seal(salt: &str, secrets: &[Secret]) -> String {
    if secrets.is_empty() {
        return String::new();
    }
    let mut digest = Sha256::new().chain_update(salt);
    for secret in secrets {
        // With its length, so that two secrets are not taken for two others that read the same together.
        digest.update(secret.expose().len().to_le_bytes());
        digest.update(secret.expose());
    }
    let mut sum = digest.finalize();
    for _ in 0..ROUNDS {
        sum = Sha256::new().chain_update(salt).chain_update(sum).finalize();
    }
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values that may be seen.
pub(super) fn plain_values(collection: &NamedCollection) -> BTreeMap<String, String> {
    collection.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What the change of a collection is planned from.
pub(super) struct Comparison<'a> {
    pub(super) wanted: &'a NamedCollection,
    pub(super) secrets: &'a [Secret],
    pub(super) live: &'a LiveCollection,
    pub(super) given: Option<Given>,
}

impl Comparison<'_> {
    /// One line a difference; none where the collection holds what is wanted. No value of a secret is in them.
    fn differences(&self) -> Vec<String> {
        let keys: Vec<&String> = self.wanted.values.keys().chain(&self.wanted.secrets).collect();
        let mut lines = Vec::new();
        for key in &keys {
            if !self.live.keys.contains(key) {
                lines.push(format!("+ {key}"));
            }
        }
        for key in self.stale() {
            lines.push(format!("- {key}"));
        }
        match &self.given {
            None => lines.push("~ all values: the ledger does not say which it has".into()),
            Some(given) => {
                for (key, value) in &self.wanted.values {
                    match given.values.get(key) {
                        Some(old) if old != value => lines.push(format!("~ {key}: {old} -> {value}")),
                        _ => {}
                    }
                }
                let had_secrets = !given.seal.is_empty();
                if had_secrets && !self.secrets.is_empty() && !given.is_given_by(self.secrets) {
                    lines.push("~ credentials".into());
                }
            }
        }
        lines
    }

    /// Keys of another kind of access, which would go on being used.
    fn stale(&self) -> Vec<String> {
        let is_wanted = |key: &String| self.wanted.values.contains_key(key) || self.wanted.secrets.contains(key);
        self.live.keys.iter().filter(|key| OWN_KEYS.contains(&key.as_str()) && !is_wanted(key)).cloned().collect()
    }

    /// The change after which the collection and the tables that read it are as wanted; none where they are.
    ///
    /// # Errors
    /// A template of the project fails.
    pub(super) fn change(&self, live: &Live, templates: &Templates) -> Result<Option<PlannedChange>, MigrateError> {
        let summary = self.differences();
        if summary.is_empty() {
            return Ok(None);
        }
        let name = &self.wanted.name;
        let mut planned = PlannedChange {
            summary,
            ..PlannedChange::new(name, "named collection", Action::Alter, ChangeClass::MetadataOnly)
        };
        let sql = templates.alter_collection(self.wanted, &self.stale())?;
        let mut readers = Vec::new();
        for (relation, object) in &live.objects {
            let SchemaObject::Table(table) = &object.object else { continue };
            let reads = table.engine.arguments.first().is_some_and(|first| first.trim_matches('`') == name);
            if !reads {
                continue;
            }
            if table.engine.is_s3_queue() {
                readers.push(format!("DETACH TABLE {relation}{} SYNC", templates.on_cluster()));
                readers.push(attach(relation, templates));
                planned.dependents.push(relation.plain());
            } else if table.engine.name == "S3" {
                readers.push(templates.create_table(table, true)?);
                planned.dependents.push(relation.plain());
            }
        }
        if !readers.is_empty() {
            planned
                .why
                .push("a table takes over its collection when it is attached: those that read it are, again".into());
        }
        planned.steps.push(Step::Collection { name: name.clone(), sql });
        planned.steps.extend(readers.into_iter().map(Step::Sql));
        // Last: killed before this, the next plan does all of it again.
        planned.steps.push(Step::Given { name: name.clone(), values: plain_values(self.wanted) });
        Ok(Some(planned))
    }
}

/// What begins a statement that an interrupted migration must have run before the next one looks.
const ATTACH: &str = "ATTACH TABLE IF NOT EXISTS ";

fn attach(table: &Relation, templates: &Templates) -> String {
    format!("{ATTACH}{table}{}", templates.on_cluster())
}

/// Attaches the tables that an interrupted migration had detached: nobody sees a detached one.
///
/// # Errors
/// The server refuses.
pub(super) fn attach_again(session: &mut dyn Session, changes: &[PlannedChange]) -> Result<(), MigrateError> {
    for step in changes.iter().flat_map(|change| &change.steps) {
        if let Step::Sql(sql) = step
            && sql.starts_with(ATTACH)
        {
            session.execute(sql, &crate::engine::QueryOptions::default())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_detached_and_attached_and_a_table_of_another_collection_stays() {
        let mut live = Live::default();
        for text in [
            "CREATE TABLE raw.queue_t (`a` Int8) ENGINE = S3Queue(silver, filename = 't/', format = 'Parquet') SETTINGS mode \
             = 'unordered'",
            "CREATE TABLE raw.ext_u (`a` Int8) ENGINE = S3(other, filename = 't/', format = 'Parquet')",
            "CREATE TABLE raw.raw_t (`silver` Int8) ENGINE = ReplacingMergeTree(silver) ORDER BY silver",
        ] {
            let Ok(SchemaObject::Table(table)) = crate::schema::parse_create(text) else { panic!("{text}") };
            let object = crate::migrate::LiveObject {
                object: SchemaObject::Table(table.clone()),
                create_text: String::new(),
                rows: 0,
                bytes: 0,
                dependents: Vec::new(),
            };
            live.objects.insert(table.name, object);
        }
        let wanted = NamedCollection {
            name: "silver".into(),
            values: [("url".to_owned(), "http://b/silver/".to_owned())].into(),
            secrets: vec!["access_key_id".into(), "secret_access_key".into()],
        };
        let shown = LiveCollection { keys: vec!["url".into(), "no_sign_request".into()], from_config: false };
        let secrets = [Secret::new("id"), Secret::new("secret")];
        let comparison = Comparison { wanted: &wanted, secrets: &secrets, live: &shown, given: None };
        let templates = Templates::load(None, Some("all")).unwrap();
        let change = comparison.change(&live, &templates).unwrap().unwrap();
        let sql: Vec<String> = change.steps.iter().flat_map(Step::sql).collect();
        assert_eq!(
            sql,
            [
                "ALTER NAMED COLLECTION `silver` ON CLUSTER `all` SET\n    url = 'http://b/silver/',\n    access_key_id = \
                 '[HIDDEN]',\n    secret_access_key = '[HIDDEN]'\nDELETE no_sign_request",
                "DETACH TABLE `raw`.`queue_t` ON CLUSTER `all` SYNC",
                "ATTACH TABLE IF NOT EXISTS `raw`.`queue_t` ON CLUSTER `all`",
            ]
        );
    }

    #[test]
    fn a_record_knows_its_secrets_and_holds_none() {
        let secrets = |id: &str, secret: &str| [Secret::new(id), Secret::new(secret)];
        let given = Given::new(BTreeMap::new(), &secrets("key", "topsecret"));
        assert!(given.is_given_by(&secrets("key", "topsecret")));
        assert!(!given.is_given_by(&secrets("keyt", "opsecret")));
        assert!(!given.is_given_by(&[]));
        let text = serde_json::to_string(&given).unwrap();
        assert!(!text.contains("topsecret") && !text.contains("\"key\""), "{text}");
        assert_ne!(text, serde_json::to_string(&Given::new(BTreeMap::new(), &secrets("key", "topsecret"))).unwrap());
    }
}
