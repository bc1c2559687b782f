//! The API's rate limit: two fixed windows, in which refused requests count as well. In: the time; out: yes or no.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Requests that a window lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub per_second: u32,
    pub per_hour: u32,
}

impl Default for RateLimit {
    /// The API's own.
    fn default() -> Self {
        Self { per_second: 4, per_hour: 500 }
    }
}

/// The windows under way.
#[derive(Debug)]
pub(super) struct Throttle {
    limit: RateLimit,
    windows: Mutex<[Window; 2]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    number: u64,
    requests: u32,
}

impl Throttle {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, windows: Mutex::default() }
    }

    /// Counts a request, and says whether it is let through.
    pub(super) fn admits(&self, now: SystemTime) -> bool {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut windows = self.windows.lock();
        let mut admitted = true;
        for (window, (number, limit)) in
            windows.iter_mut().zip([(seconds, self.limit.per_second), (seconds / 3600, self.limit.per_hour)])
        {
            if window.number != number {
                *window = Window { number, requests: 0 };
            }
            window.requests = window.requests.saturating_add(1);
            admitted &= window.requests <= limit;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_requests_count() {
        let throttle = Throttle::new(RateLimit { per_second: 4, per_hour: 10 });
        let start = UNIX_EPOCH + Duration::from_secs(7200);
        let admitted = |second: u64| (0..6).filter(|_| throttle.admits(start + Duration::from_secs(second))).count();
        assert_eq!(admitted(0), 4);
        // Six were asked: four are left of the hour's ten.
        assert_eq!(admitted(1), 4);
        assert_eq!(admitted(2), 0);
        assert_eq!(admitted(3600), 4);
    }
}
