//! How fast a host may be asked, over all processes of this machine and across restarts. In: limits, the clock, answers
//! of the host; out: permission to send. The state is a small file per host, changed under a lock; every request is
//! written down before it is sent, so that one that was killed counts too.
//!
//! Requests are spaced evenly, which keeps them below the limit in any second, wherever the host's own window begins. The
//! hour is counted in minutes, and a minute leaves the count only when its last second is an hour old: never above the
//! limit in any hour, at the price of up to a minute.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::ExtractError;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// What a refusal does to the pace, and its end.
const SLOW_DOWN: f64 = 1.5;
const SLOWEST: f64 = 8.0;
const RECOVER: f64 = 0.98;

/// Requests a second and an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub per_second: f64,
    pub per_hour: u32,
}

/// The limiter of one host.
#[derive(Debug)]
pub struct RateLimiter {
    path: PathBuf,
    limits: Limits,
    /// Waiting tasks of this process take turns, so that one of them at a time looks at the file.
    turn: tokio::sync::Mutex<()>,
}

/// What is on disk. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// When the last request was sent.
    last: i64,
    /// No request before this: the host refused one.
    blocked_until: i64,
    /// Refusals in a row.
    refusals: u32,
    /// 1 at full speed; requests are this much further apart.
    slowdown: f64,
    /// Begin of a minute and how many requests were sent in it, ascending.
    minutes: Vec<(i64, u32)>,
}

impl Default for State {
    fn default() -> Self {
        Self { last: 0, blocked_until: 0, refusals: 0, slowdown: 1.0, minutes: Vec::new() }
    }
}

impl State {
    /// Takes a place for a request sent `now`, or answers how many microseconds to wait before asking again.
    fn take(&mut self, now: i64, limits: Limits) -> Result<(), i64> {
        // A clock that was set back must not block for longer than its own step would explain.
        if self.last > now + HOUR {
            self.last = now;
        }
        self.blocked_until = self.blocked_until.min(now + 2 * HOUR);
        self.forget(now);
        let gap = (SECOND as f64 / limits.per_second * self.slowdown).ceil() as i64;
        let hour_free = self.hour_free(now, limits);
        let next = (self.last + gap).max(self.blocked_until).max(hour_free);
        if next > now {
            return Err(next - now);
        }
        self.last = now;
        let minute = now - now.rem_euclid(MINUTE);
        match self.minutes.last_mut() {
            Some((begin, count)) if *begin >= minute => *count += 1,
            _ => self.minutes.push((minute, 1)),
        }
        Ok(())
    }

    /// When the hour has a place again; now or earlier where it has one.
    fn hour_free(&self, now: i64, limits: Limits) -> i64 {
        let mut used = self.used();
        for &(begin, count) in &self.minutes {
            if used < limits.per_hour {
                return now;
            }
            used -= count;
            if used < limits.per_hour {
                return begin + MINUTE + HOUR;
            }
        }
        now
    }

    fn used(&self) -> u32 {
        self.minutes.iter().map(|(_, count)| count).sum()
    }

    /// Microseconds until `requests` more are sent, when nothing but the limits holds them up.
    fn expected(mut self, requests: u64, now: i64, limits: Limits) -> u64 {
        self.forget(now);
        let micros = |requests: u64| (requests as f64 / limits.per_second * SECOND as f64) as u64;
        let per_hour = u64::from(limits.per_hour);
        let free = per_hour.saturating_sub(u64::from(self.used()));
        let Some(waiting) = requests.checked_sub(free + 1) else { return micros(requests) };
        // From then on every place comes back an hour after it was taken: the pattern of the last hour repeats.
        let (rounds, mut rest) = (waiting / per_hour, waiting % per_hour + 1);
        let hour = (HOUR + MINUTE) as u64;
        let mut after = hour + micros(free.max(rest));
        for &(begin, count) in &self.minutes {
            if u64::from(count) >= rest {
                after = (begin + MINUTE + HOUR).saturating_sub(now).unsigned_abs() + micros(rest);
                break;
            }
            rest -= u64::from(count);
        }
        (rounds * hour + after).max(micros(requests))
    }

    fn forget(&mut self, now: i64) {
        self.minutes.retain(|&(begin, _)| begin + MINUTE + HOUR > now);
    }

    /// The host refused a request that was sent at `sent`; answers how long nothing will be sent.
    fn refused(&mut self, sent: i64, now: i64, jitter: f64) -> i64 {
        // Requests that were under way together are refused together: one refusal.
        if sent >= self.blocked_until || self.refusals == 0 {
            let seconds = 2f64.powi(self.refusals.min(12) as i32).min(3600.0) * (1.0 + jitter);
            self.refusals += 1;
            self.slowdown = (self.slowdown * SLOW_DOWN).min(SLOWEST);
            self.blocked_until = self.blocked_until.max(now + (seconds * SECOND as f64) as i64);
        }
        self.blocked_until - now
    }

    /// The host answered; whether that changed anything.
    fn answered(&mut self) -> bool {
        let before = (self.refusals, self.slowdown);
        self.refusals = 0;
        self.slowdown = (self.slowdown * RECOVER).max(1.0);
        before != (self.refusals, self.slowdown)
    }
}

impl RateLimiter {
    /// The limiter of `host` with its file in `directory`, which is created.
    ///
    /// # Errors
    /// The limits are not positive, or the directory cannot be created.
    pub fn open(directory: &Path, host: &str, limits: Limits) -> Result<Self, ExtractError> {
        let invalid = |setting, reason: &str| Err(ExtractError::Setting { setting, reason: reason.to_owned() });
        if !(limits.per_second.is_finite() && limits.per_second > 0.0) {
            return invalid("requests_per_second", "it must be above 0");
        }
        if limits.per_hour == 0 {
            return invalid("requests_per_hour", "it must be above 0");
        }
        fs_err::create_dir_all(directory).map_err(|source| ExtractError::Io { path: directory.to_owned(), source })?;
        let name: String =
            host.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
        Ok(Self { path: directory.join(format!("{name}.json")), limits, turn: tokio::sync::Mutex::new(()) })
    }

    /// Waits for a place, takes it, and answers the time to give to [`RateLimiter::refused`]. Dropping the future is
    /// safe at any moment.
    ///
    /// # Errors
    /// The state file cannot be read or written.
    pub async fn acquire(&self) -> Result<Sent, ExtractError> {
        let _turn = self.turn.lock().await;
        loop {
            let now = now();
            match self.change(|state| state.take(now, self.limits))? {
                Ok(()) => {
                    tracing::debug!(sent_micros = now, "request sent");
                    return Ok(Sent(now));
                }
                // Another process may take the place first, or a refusal may be over earlier: look again now and then.
                Err(wait) => tokio::time::sleep(Duration::from_micros(wait.clamp(1, 5 * SECOND) as u64)).await,
            }
        }
    }

    /// The host refused a request; answers for how long nothing will be sent to it.
    ///
    /// # Errors
    /// As [`RateLimiter::acquire`].
    pub fn refused(&self, sent: Sent) -> Result<Duration, ExtractError> {
        let jitter = rand::rng().random_range(0.0..0.25);
        let wait = self.change(|state| state.refused(sent.0, now(), jitter))?;
        Ok(Duration::from_micros(wait.max(0) as u64))
    }

    /// The host answered a request.
    ///
    /// # Errors
    /// As [`RateLimiter::acquire`].
    pub fn answered(&self) -> Result<(), ExtractError> {
        let state = self.read()?;
        if state.refusals > 0 || state.slowdown > 1.0 {
            self.change(State::answered)?;
        }
        Ok(())
    }

    /// Requests left in this hour.
    ///
    /// # Errors
    /// As [`RateLimiter::acquire`].
    pub fn remaining(&self) -> Result<u32, ExtractError> {
        let mut state = self.read()?;
        state.forget(now());
        Ok(self.limits.per_hour.saturating_sub(state.used()))
    }

    /// How long `requests` more will take at these limits, from now.
    ///
    /// # Errors
    /// As [`RateLimiter::acquire`].
    pub fn expected(&self, requests: u64) -> Result<Duration, ExtractError> {
        let (state, now) = (self.read()?, now());
        Ok(Duration::from_micros(state.expected(requests, now, self.limits)))
    }

    fn read(&self) -> Result<State, ExtractError> {
        match fs_err::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| ExtractError::RateState { path: self.path.clone(), reason: error.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
            Err(source) => Err(ExtractError::Io { path: self.path.clone(), source }),
        }
    }

    /// Changes the state under the lock; it is replaced whole, so that a kill leaves the old or the new one.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, ExtractError> {
        let failed = |source| ExtractError::Io { path: self.path.clone(), source };
        let lock = File::create(self.path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut state = self.read()?;
        let before = state.clone();
        let answer = change(&mut state);
        if state != before {
            let text = serde_json::to_vec(&state)
                .map_err(|error| ExtractError::RateState { path: self.path.clone(), reason: error.to_string() })?;
            let next = self.path.with_extension("next");
            File::create(&next).and_then(|mut file| file.write_all(&text)).map_err(failed)?;
            fs_err::rename(&next, &self.path).map_err(failed)?;
        }
        Ok(answer)
    }
}

/// When a request was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent(i64);

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { per_second: 3.0, per_hour: 450 };

    /// Sends as fast as the state allows for `hours`, and answers when.
    fn run(limits: Limits, from: i64, hours: i64, think: i64) -> Vec<i64> {
        let (mut state, mut now, mut sent) = (State::default(), from, Vec::new());
        while now < from + hours * HOUR {
            match state.take(now, limits) {
                Ok(()) => {
                    sent.push(now);
                    now += think;
                }
                Err(wait) => now += wait,
            }
        }
        sent
    }

    fn most_in(sent: &[i64], window: i64) -> usize {
        let within = |(i, &at): (usize, &i64)| sent[i..].partition_point(|&later| later < at + window);
        sent.iter().enumerate().map(within).max().unwrap_or(0)
    }

    #[test]
    fn no_second_and_no_hour_has_too_many() {
        let sent = run(LIMITS, 1_700_000_000 * SECOND + 12_345_678, 5, 0);
        assert!(most_in(&sent, SECOND) <= 3);
        assert!(most_in(&sent, HOUR) <= 450);
        // The price of counting by the minute: less than one in sixty.
        assert!(sent.len() >= 5 * 440, "{}", sent.len());
    }

    proptest! {
        #[test]
        fn limits_hold_for_any_speed(per_second in 0.5f64..50.0, per_hour in 1u32..2000, from in 0i64..10_000_000_000, think in 0i64..5_000_000) {
            let sent = run(Limits { per_second, per_hour }, from, 3, think);
            prop_assert!(most_in(&sent, SECOND) <= per_second.ceil() as usize);
            prop_assert!(most_in(&sent, HOUR) <= per_hour as usize);
        }
    }

    /// Sends so many as soon as it may, and answers when it was done.
    fn send(state: &mut State, requests: u64, mut now: i64) -> i64 {
        for _ in 0..requests {
            while let Err(wait) = state.take(now, LIMITS) {
                now += wait;
            }
        }
        now
    }

    /// What is foretold is what it takes, whatever the hour before was like.
    #[test]
    fn the_expected_time_is_the_time_it_takes() {
        let start = 1_700_000_000 * SECOND;
        for before in [0, 100, 300, 450] {
            let mut state = State::default();
            send(&mut state, before, start);
            for requests in [1, 10, 200, 449, 450, 451, 1_000, 5_000] {
                let mut state = state.clone();
                let at = state.last.max(start);
                let expected = state.clone().expected(requests, at, LIMITS);
                let taken = (send(&mut state, requests, at) - at) as u64;
                let allowed = (taken / 20).max(2 * MINUTE as u64);
                assert!(expected.abs_diff(taken) <= allowed, "{before} {requests}: {expected} {taken}");
            }
        }
    }

    #[test]
    fn refusals_double_the_wait_up_to_an_hour_and_an_answer_ends_them() {
        let mut state = State::default();
        let mut now = 1_700_000_000 * SECOND;
        let mut waits = Vec::new();
        for _ in 0..14 {
            let wait = state.refused(now, now, 0.0);
            waits.push(wait / SECOND);
            // Those that were under way at the time change nothing.
            assert_eq!(state.refused(now - 1, now, 0.0), wait);
            now += wait;
        }
        assert_eq!(&waits[..5], [1, 2, 4, 8, 16]);
        assert_eq!(waits.last(), Some(&3600));
        assert!(state.take(now - 1, LIMITS).is_err());
        assert!((state.slowdown - SLOWEST).abs() < 1e-9);
        assert!(state.answered());
        assert_eq!(state.refusals, 0);
        while state.answered() {}
        assert!((state.slowdown - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_clock_set_back_blocks_for_its_own_step_only() {
        let mut state = State { last: 5_000 * HOUR, blocked_until: 5_000 * HOUR, ..State::default() };
        assert!(state.take(1_000 * HOUR, LIMITS).unwrap_err() <= 2 * HOUR);
    }

    #[tokio::test]
    async fn processes_share_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { per_second: 1000.0, per_hour: 10 };
        let open = || RateLimiter::open(directory.path(), "127.0.0.1:58010", limits).unwrap();
        let (a, b) = (open(), open());
        for _ in 0..4 {
            a.acquire().await.unwrap();
            b.acquire().await.unwrap();
        }
        assert_eq!((a.remaining().unwrap(), b.remaining().unwrap()), (2, 2));
        // One that starts later knows of them.
        assert_eq!(open().remaining().unwrap(), 2);
        fs_err::write(directory.path().join("127.0.0.1_58010.json"), "{").unwrap();
        assert!(open().acquire().await.unwrap_err().to_string().contains("rate limit file"));
    }
}
