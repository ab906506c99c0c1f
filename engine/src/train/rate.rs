//! How long a run is going to take.

use std::time::Instant;

/// How fast steps are, for an estimate of the whole.
pub struct Rate {
    started: Instant,
    first: u64,
    said: bool,
}

impl Rate {
    /// Seconds of steps that an estimate is made from.
    const WATCHED: f64 = 10.0;

    /// Seconds from which on the time of a run is reported.
    const WORTH_SAYING: f64 = 1800.0;

    /// A run that begins at step `first`.
    pub fn new(first: u64) -> Self {
        Self { started: Instant::now(), first, said: false }
    }

    /// Once, after some steps of a long run: how long it is going to take.
    pub fn estimate(&mut self, step: u64, steps: u64) -> Option<String> {
        let (seconds, done) = (self.started.elapsed().as_secs_f64(), step.saturating_sub(self.first));
        if self.said || done < 3 || seconds < Self::WATCHED {
            return None;
        }
        self.said = true;
        let left = seconds / done as f64 * steps.saturating_sub(step) as f64;
        let whole = (left >= Self::WORTH_SAYING).then(|| duration(left))?;
        Some(format!("about {whole} at this rate ({steps} steps); Ctrl-C stops with a checkpoint"))
    }
}

/// Seconds in the largest unit that they fill.
fn duration(seconds: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(31_557_600.0, "years"), (86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| seconds >= 2.0 * unit).unwrap_or((60.0, "minutes"));
    format!("{:.0} {name}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_estimated_once() {
        let mut rate = Rate { started: Instant::now() - std::time::Duration::from_secs(20), first: 5, said: false };
        let said = rate.estimate(15, 200_000).expect("20 s for 10 steps are 4.6 days for all");
        assert!(said.starts_with("about 5 days at this rate (200000 steps)"), "{said}");
        assert_eq!(rate.estimate(16, 200_000), None, "it is said once");
        let mut short = Rate { started: Instant::now() - std::time::Duration::from_secs(20), first: 0, said: false };
        assert_eq!(short.estimate(10, 100), None, "three minutes are not worth a line");
    }
}
