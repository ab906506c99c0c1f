//! When training does what: the L1 losses alone first, the discriminator after, a learning rate that falls at the end.

use super::config::Config;

/// The course of one training.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// Steps of the whole.
    steps: u64,
    /// Share of them before the discriminator takes part.
    adversarial_from: f64,
    /// Share of them over which the learning rates fall.
    lr_decay: f64,
}

impl Phases {
    /// Of a training of `steps` steps.
    pub fn new(config: &Config, steps: u64) -> Self {
        Self { steps, adversarial_from: config.adversarial_from, lr_decay: config.lr_decay }
    }

    /// Whether the discriminator takes part in step `number`, counted from 0.
    pub fn is_adversarial(&self, number: u64) -> bool {
        number as f64 >= self.adversarial_from * self.steps as f64
    }

    /// Factor of the learning rates in step `number`: 1, and at the end linearly towards 0.
    pub fn rate(&self, number: u64) -> f64 {
        let (left, falling) = (self.steps.saturating_sub(number) as f64, self.lr_decay * self.steps as f64);
        if left < falling { left / falling } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_discriminator_comes_late_and_rates_fall_at_the_end() {
        let phases = Phases { steps: 1000, adversarial_from: 0.7, lr_decay: 0.2 };
        assert_eq!([0, 699, 700, 999].map(|n| phases.is_adversarial(n)), [false, false, true, true]);
        assert_eq!([0, 800, 900].map(|n| phases.rate(n)), [1.0, 1.0, 0.5]);
        assert!((phases.rate(999) - 0.005).abs() < 1e-12);
        let always = Phases { steps: 1000, adversarial_from: 0.0, lr_decay: 0.0 };
        assert!(always.is_adversarial(0) && always.rate(999) == 1.0);
    }
}
