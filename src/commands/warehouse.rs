//! What every command that needs the warehouse does first: the target, the engine, a session in the target's schema.

use std::sync::Arc;

use crate::{
    Error,
    commands::Context,
    config::Target,
    engine::{self, Engine, OpenOptions, QueryOptions, Session, quote_identifier, quote_string},
};

/// An opened warehouse and the target it is of.
pub(super) struct Warehouse {
    pub(super) target: Target,
    pub(super) engine: Arc<dyn Engine>,
}

/// Opens the target's warehouse.
///
/// # Errors
/// The profile is not valid, or the engine cannot be opened.
pub(super) fn open(context: &Context) -> Result<Warehouse, Error> {
    let target = context.settings.target()?;
    let engine = engine::open(&target, &OpenOptions::new(&context.settings))?;
    Ok(Warehouse { target, engine })
}

impl Warehouse {
    /// A session in the target's schema, where that exists already.
    pub(super) fn session(&self) -> Result<Box<dyn Session>, Error> {
        let mut session = self.engine.connect()?;
        let schema = &self.target.schema;
        let sql = format!("SELECT name FROM system.databases WHERE name = {}", quote_string(schema));
        let rows: usize = engine::fetch(&mut *session, &sql, &QueryOptions::default())?
            .iter()
            .map(arrow::array::RecordBatch::num_rows)
            .sum();
        if rows > 0 {
            session.execute(&format!("USE {}", quote_identifier(schema)), &QueryOptions::default())?;
        }
        Ok(session)
    }
}
