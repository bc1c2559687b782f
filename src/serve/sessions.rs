//! The sessions of clients that name one: a connection each, kept between requests, used by one request at a time, given
//! up when it was not used for its time. A request without a session takes a connection that an earlier one has left as
//! new, or opens one.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Shared, request::Parameters, statement::exception};
use crate::engine::{ChdbEngine, ChdbSession, EngineError};

/// ClickHouse's `default_session_timeout` and `max_session_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// How many connections are kept for requests without a session, and how long.
const IDLE: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<String, Slot>>,
    /// As new: no request has left anything in them.
    idle: Mutex<Vec<(ChdbSession, Instant)>>,
}

struct Slot {
    /// `None` while a request has it.
    session: Option<ChdbSession>,
    timeout: Duration,
    last_used: Instant,
}

/// A session that one request uses; it goes back when this is dropped.
pub(super) struct Lease {
    shared: Arc<Shared>,
    /// `None` for a request without a session id: its connection ends with it, unless it is left as new.
    id: Option<String>,
    session: Option<ChdbSession>,
    as_new: bool,
}

impl Lease {
    /// The session that the request's parameters name, or one for this request alone.
    pub(super) fn take(shared: &Arc<Shared>, parameters: &Parameters) -> Result<Self, EngineError> {
        let Some(id) = parameters.get("session_id").filter(|id| !id.is_empty()) else {
            let idle = shared.sessions.idle.lock().pop();
            let session = idle.map_or_else(|| shared.engine.connect_session(), |(session, _)| Ok(session))?;
            return Ok(Self { shared: Arc::clone(shared), id: None, session: Some(session), as_new: false });
        };
        let timeout = timeout(parameters)?;
        let must_exist = parameters.get("session_check").is_some_and(|value| value == "1");
        let session = shared.sessions.take(id, timeout, must_exist, &shared.engine)?;
        Ok(Self { shared: Arc::clone(shared), id: Some(id.to_owned()), session: Some(session), as_new: false })
    }

    /// The session.
    ///
    /// # Errors
    /// Never while the lease lives.
    pub(super) fn session(&mut self) -> Result<&mut ChdbSession, EngineError> {
        self.session.as_mut().ok_or_else(|| exception(372, "SESSION_NOT_FOUND", "Session not found".into()))
    }

    /// Says that the request has left nothing in the session.
    pub(super) fn left_as_new(&mut self) {
        self.as_new = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match (&self.id, self.session.take()) {
            (Some(id), Some(session)) => self.shared.sessions.give_back(id, session),
            (None, Some(session)) if self.as_new => self.shared.sessions.keep(session),
            _ => {}
        }
    }
}

impl Sessions {
    fn take(
        &self,
        id: &str,
        timeout: Duration,
        must_exist: bool,
        engine: &ChdbEngine,
    ) -> Result<ChdbSession, EngineError> {
        let mut slots = self.by_id.lock();
        match slots.get_mut(id) {
            Some(slot) => {
                slot.timeout = timeout;
                slot.session.take().ok_or_else(|| {
                    exception(373, "SESSION_IS_LOCKED", format!("Session {id} is locked by a concurrent client"))
                })
            }
            None if must_exist => Err(exception(372, "SESSION_NOT_FOUND", format!("Session {id} not found"))),
            None => {
                let session = engine.connect_session()?;
                slots.insert(id.to_owned(), Slot { session: None, timeout, last_used: Instant::now() });
                Ok(session)
            }
        }
    }

    fn give_back(&self, id: &str, session: ChdbSession) {
        if let Some(slot) = self.by_id.lock().get_mut(id) {
            slot.session = Some(session);
            slot.last_used = Instant::now();
        }
    }

    fn keep(&self, session: ChdbSession) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push((session, Instant::now()));
        }
    }

    fn remove_expired(&self) {
        let expired = |slot: &Slot| slot.session.is_some() && slot.last_used.elapsed() > slot.timeout;
        self.by_id.lock().retain(|_, slot| !expired(slot));
        self.idle.lock().retain(|(_, since)| since.elapsed() < IDLE_TIMEOUT);
    }
}

fn timeout(parameters: &Parameters) -> Result<Duration, EngineError> {
    let Some(text) = parameters.get("session_timeout") else { return Ok(DEFAULT_TIMEOUT) };
    let refuse = |reason: &str| exception(374, "INVALID_SESSION_TIMEOUT", format!("Invalid session timeout: {reason}"));
    let timeout = Duration::from_secs(text.parse().map_err(|_| refuse(&format!("'{text}'")))?);
    if timeout > MAX_TIMEOUT {
        return Err(refuse(&format!("'{text}' is larger than max_session_timeout: {}", MAX_TIMEOUT.as_secs())));
    }
    Ok(timeout)
}

/// Gives up sessions for as long as there is a server.
pub(super) async fn expire(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(shared) = shared.upgrade() else { return };
        // Closing connections takes libchdb's lock for a moment.
        let _ = tokio::task::spawn_blocking(move || shared.sessions.remove_expired()).await;
    }
}
