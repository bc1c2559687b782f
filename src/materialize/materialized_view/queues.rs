//! Tables that hand out each row once, to their views: S3Queue, Kafka and their like. While views below them are switched
//! they are detached, so that rows wait where they are. It makes no view and reads no row.

use parking_lot::{RwLock, RwLockReadGuard};

use super::arrivals::{Sources, make_note, noted_tables};
use crate::{
    adapter::{Adapter, AdapterError},
    engine::quote_string,
    materialize::{MaterializeError, Model, build::temporary_relation},
    project::Relation,
};

/// Ends the name of the table that is there while queues are detached; its comment says which.
const QUEUES: &str = "queues";

/// Engines whose rows reach their views and nobody else.
const ENGINES: [&str; 7] = ["S3Queue", "AzureQueue", "Kafka", "RabbitMQ", "NATS", "FileLog", "MaterializedPostgreSQL"];

pub(super) fn is_queue(engine: &str) -> bool {
    ENGINES.contains(&engine)
}

/// Held by whoever looks for queues or makes views upon them; alone by whoever has some detached, since the others of this
/// process would not find them.
static ATTACHED: RwLock<()> = RwLock::new(());

/// Queues of the warehouse stay attached as long as this lives.
pub(super) struct Attached(#[expect(dead_code, reason = "its end is what counts")] RwLockReadGuard<'static, ()>);

pub(super) fn attached() -> Attached {
    Attached(ATTACHED.read())
}

/// Does the work with the queues above the sources detached. A queue that is detached first finishes the object, or the batch,
/// that it is at, and knows of it when it is attached again. Without the right to detach them the work is done all the same.
pub(super) fn with_queues_detached<R>(
    model: &Model<'_>,
    adapter: &mut Adapter,
    sources: &Sources,
    attached: Attached,
    work: impl FnOnce(&mut Adapter) -> Result<R, MaterializeError>,
) -> Result<R, MaterializeError> {
    if sources.queues().is_empty() {
        let _attached = attached;
        return work(adapter);
    }
    drop(attached);
    let _alone = ATTACHED.write();
    let note = temporary_relation(model.relation, model.invocation, QUEUES);
    let tables: Vec<_> = sources.queues().iter().map(|queue| [&queue.schema, &queue.identifier]).collect();
    make_note(adapter, &note, &quote_string(&serde_json::json!(tables).to_string()))?;
    let result = detach(adapter, sources.queues()).and_then(|()| work(adapter));
    // Rows must go on arriving whatever became of the model.
    let again = attach(adapter, &note, sources.queues());
    let done = result?;
    again?;
    Ok(done)
}

fn detach(adapter: &mut Adapter, queues: &[Relation]) -> Result<(), MaterializeError> {
    for queue in queues {
        match adapter.execute(&format!("DETACH TABLE {queue}{} SYNC", adapter.on_cluster())) {
            Ok(_) => {}
            // ACCESS_DENIED.
            Err(error) if error.code() == Some(497) => {
                tracing::warn!(%queue, "no right to detach it: rows may come twice while views are made");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a leftover is the note of a process that ended while it had queues detached.
pub(super) fn has_queues_detached(leftover: &Relation) -> bool {
    leftover.identifier.ends_with(&format!("_{QUEUES}"))
}

/// Attaches the queues that a process detached which has ended since.
pub(super) fn attach_queues(adapter: &mut Adapter, note: &Relation) -> Result<(), AdapterError> {
    let queues = adapter.relation(note)?.map(|info| noted_tables(&info.comment)).unwrap_or_default();
    attach(adapter, note, &queues)
}

/// The note goes when all are attached.
fn attach(adapter: &mut Adapter, note: &Relation, queues: &[Relation]) -> Result<(), AdapterError> {
    for queue in queues {
        // A server that has started since then has attached it.
        let sql = format!("ATTACH TABLE IF NOT EXISTS {queue}{}", adapter.on_cluster());
        adapter.execute(&sql)?;
    }
    adapter.drop_relation(note)
}
