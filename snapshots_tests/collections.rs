//! Named collections that DDL makes, as on a server: other keys, another endpoint or another kind of access reach the
//! collection and the tables that read it with the next migration, killed at any statement too; no text holds a secret.

use std::{path::Path, sync::Arc};

use arrow::array::{ArrayRef, Int64Array};
use chpipe::{
    config::Secret,
    engine::{
        Capabilities, QueryOptions,
        dying::{Death, DyingEngine},
    },
    lake::{LocalS3, LocalS3Options},
    migrate::{Ledger, MigrateError, Migrator, Plan, Wanted, make_plan, plan_json, plan_sql, plan_text},
    schema::NamedCollection,
};

use crate::{
    ddl::{Case, Quiet, Warehouse, without_state},
    parquet_files,
};

/// What the lake's settings say of a bucket.
#[derive(Clone)]
struct Access {
    url: String,
    /// `None`: unsigned requests.
    keys: Option<(String, String)>,
}

/// A warehouse whose engine takes collections by DDL, and what its collection should hold.
struct Server {
    warehouse: Warehouse,
    collection: String,
    case: Case,
}

impl Server {
    fn new(name: &str) -> Self {
        let warehouse = Warehouse::new(name);
        let collection = format!("moving_{name}");
        let text = "keys: [season=2024/batch_id=20240101T000000/data.parquet]\nfiles: [{columns: {id: Int64}}]\nnatural_key: [id]\n";
        let server = Self { warehouse, collection, case: Case::parse(text, name) };
        server.run(&format!("DROP NAMED COLLECTION IF EXISTS {}", server.collection));
        server
    }

    fn run(&self, sql: &str) {
        self.warehouse.engine.connect().unwrap().execute(sql, &QueryOptions::default()).unwrap();
    }

    fn plan(&self, access: &Access) -> Plan {
        self.try_plan(access, false).unwrap()
    }

    fn try_plan(&self, access: &Access, from_config: bool) -> Result<Plan, MigrateError> {
        let options = chpipe::ddl::WantedOptions {
            collection: self.collection.clone(),
            ..self.case.options(&self.warehouse.raw)
        };
        let datasets = [(self.case.dataset().unwrap(), self.case.spec())];
        let mut collection = NamedCollection {
            name: self.collection.clone(),
            values: [("url".to_owned(), access.url.clone())].into(),
            secrets: Vec::new(),
        };
        match &access.keys {
            Some(_) => collection.secrets = vec!["access_key_id".into(), "secret_access_key".into()],
            None => _ = collection.values.insert("no_sign_request".into(), "1".into()),
        }
        let secrets = [(self.collection.clone(), secrets(access))].into();
        let wanted = Wanted {
            datasets: &datasets,
            options: &options,
            templates: &self.warehouse.migrator.templates,
            state_database: &self.warehouse.migrator.state_database,
            named_collections: vec![collection],
            secrets: &secrets,
            allow_destructive: &[],
        };
        let capabilities =
            Capabilities { named_collections_from_config: from_config, ..self.warehouse.engine.capabilities().clone() };
        let mut session = self.warehouse.engine.connect().unwrap();
        let plan = make_plan(&mut *session, &capabilities, &wanted)?;
        if let Some((_, secret)) = &access.keys {
            let texts = [plan_text(&plan), plan_sql(&plan), plan_json(&plan)];
            assert!(texts.iter().all(|text| !text.contains(secret)), "a plan holds a secret");
        }
        Ok(plan)
    }

    /// Applies a plan with the secrets of the access, killed before a statement or to its end. Answers whether it died.
    fn apply(&self, access: &Access, statements: i64) -> bool {
        let migrator = Migrator {
            engine: DyingEngine::after(Arc::clone(&self.warehouse.engine), statements, Death::Before),
            templates: self.warehouse.migrator.templates.clone(),
            ledger: Ledger::new(&self.warehouse.migrator.state_database),
            state_database: self.warehouse.migrator.state_database.clone(),
            cluster: None,
            run_id: "test".into(),
            secrets: [(self.collection.clone(), secrets(access))].into(),
            lock_timeout: std::time::Duration::ZERO,
        };
        let plan = self.plan(access);
        let lock = self.warehouse.migrator.lock("migrate", &Quiet).unwrap();
        self.warehouse.migrator.recover(&lock, &Quiet).unwrap();
        migrator.apply(&plan, &[], &lock, &Quiet).is_err()
    }

    fn read(&self) -> String {
        self.warehouse.rows(&format!("SELECT id FROM {}.ext_t", self.warehouse.raw))[0][0].clone()
    }

    fn changes(&self, access: &Access) -> String {
        self.shown(&plan_text(&without_state(self.plan(access))))
    }

    fn shown(&self, text: &str) -> String {
        let text = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap().replace_all(text, "[HOST]").into_owned();
        self.warehouse.shown(&text).replace(&self.collection, "silver")
    }
}

fn secrets(access: &Access) -> Vec<Secret> {
    access.keys.iter().flat_map(|(id, secret)| [Secret::new(id.clone()), Secret::new(secret.clone())]).collect()
}

/// An S3 with one object, whose only row has this id.
fn store(folder: &Path, id: i64, keys: (&str, &str), public: bool) -> (LocalS3, Access) {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    let key = "silver/ergast/endpoint=t/season=2024/batch_id=20240101T000000/data.parquet";
    parquet_files::write(&folder.join(key), vec![("id", column)]);
    let options = LocalS3Options {
        credentials: Some((keys.0.to_owned(), Secret::new(keys.1))),
        public: if public { vec!["silver".into()] } else { Vec::new() },
        ..LocalS3Options::default()
    };
    let server = LocalS3::start(folder, options).unwrap();
    let url = format!("{}/silver/", server.endpoint());
    (server, Access { url, keys: Some((keys.0.to_owned(), keys.1.to_owned())) })
}

#[test]
fn a_collection_follows_the_settings_of_the_lake() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_first, old) = store(folders[0].path(), 1, ("old-id", "old-secret"), false);
    let (_second, new) = store(folders[1].path(), 2, ("new-id", "new-secret"), true);
    let server = Server::new("collection");
    let mut made = server.plan(&old);
    made.changes.retain(|change| change.kind == "named collection" || change.object == server.warehouse.raw);
    let made = server.shown(&plan_text(&made));
    assert!(!server.apply(&old, i64::MAX));
    assert_eq!(server.read(), "1");
    assert!(server.plan(&old).is_empty(), "nothing has changed");

    let rotated = Access { keys: Some(("old-id".into(), "rotated-secret".into())), ..old.clone() };
    let unsigned = Access { keys: None, ..new.clone() };
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(crate::harness::repository().join("snapshots_tests/ddl"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let golden = format!(
        "-- made with its database\n{made}\n-- another secret\n{}\n-- another endpoint with other keys\n{}\n-- a public bucket\n{}",
        server.changes(&rotated),
        server.changes(&new),
        server.changes(&unsigned)
    );
    settings.bind(|| insta::assert_snapshot!("collection_changed", golden));

    // Killed before each of its statements the change is completed by the next migration.
    let mut died = 0;
    for statement in 0.. {
        assert!(!server.apply(&old, i64::MAX));
        assert_eq!(server.read(), "1");
        let killed = server.apply(&new, statement);
        assert!(!server.apply(&new, i64::MAX));
        assert_eq!(server.read(), "2", "killed before statement {statement}");
        assert!(server.plan(&new).is_empty());
        if !killed {
            break;
        }
        died += 1;
    }
    assert!(died > 4, "it was killed {died} times only");
    // Without keys: those of before are gone from the collection, or they would be used.
    assert!(!server.apply(&unsigned, i64::MAX));
    assert_eq!(server.read(), "2");
    let keys = format!(
        "SELECT arraySort(mapKeys(collection)) FROM system.named_collections WHERE name = '{}'",
        server.collection
    );
    assert_eq!(server.warehouse.rows(&keys)[0][0], "['no_sign_request','url']");
    assert!(server.plan(&unsigned).is_empty());
    // Nothing in the state database holds a secret.
    let state = &server.warehouse.migrator.state_database;
    for table in ["migrations", "migration_steps"] {
        let found = server.warehouse.rows(&format!("SELECT * FROM {state}.{table}"));
        assert!(!format!("{found:?}").contains("-secret"), "{table} holds a secret");
    }
}

/// `chpipe serve` has the collections of the specs that were there when it started.
#[test]
fn a_bucket_that_the_engine_does_not_know_is_named() {
    let server = Server::new("unknown_collection");
    let access = Access { url: "http://127.0.0.1:2/silver/".into(), keys: None };
    let error = server.try_plan(&access, true).unwrap_err();
    assert!(error.to_string().contains(&server.collection), "{error}");
    assert!(error.hint().unwrap().contains("restart `chpipe serve`"), "{error}");
}

#[test]
fn a_collection_of_somebody_else_stays() {
    let server = Server::new("foreign_collection");
    server.run(&format!("CREATE NAMED COLLECTION {} AS url = 'http://127.0.0.1:1/silver/'", server.collection));
    let access = Access { url: "http://127.0.0.1:2/silver/".into(), keys: Some(("id".into(), "some-secret".into())) };
    let plan = server.plan(&access);
    assert!(plan.changes.iter().all(|change| change.kind != "named collection"));
    assert!(plan.notes.iter().any(|note| note.contains("was not made by chpipe")), "{:?}", plan.notes);
}
