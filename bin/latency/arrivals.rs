//! Frames that arrive at even times whatever happens to those before ("open loop"): one that has to wait because another takes
//! long has waited, and its latency says so.

use std::time::{Duration, Instant};

/// When frames arrive.
pub struct Arrivals {
    start: Instant,
    period: Duration,
    next: u64,
    count: u64,
}

impl Arrivals {
    /// `rate` frames a second for so many seconds, at least one, from a moment on.
    pub fn new(rate: f64, seconds: f64) -> Self {
        let period = Duration::from_secs_f64(1.0 / rate);
        Self { start: Instant::now() + period, period, next: 0, count: ((rate * seconds) as u64).max(1) }
    }

    /// How many.
    pub fn expected(&self) -> u64 {
        self.count
    }
}

impl Iterator for Arrivals {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        let due = self.start + self.period.mul_f64(self.next as f64);
        self.next += 1;
        (self.next <= self.count).then_some(due)
    }
}

/// A sleep ends about so much late.
const LATE: Duration = Duration::from_micros(200);

/// Waits, asleep but for the last moment.
pub fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(LATE));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}
