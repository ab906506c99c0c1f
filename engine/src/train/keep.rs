//! Which weights of a training run are kept.

use hotad_kernels::elementwise::approach;

use crate::error::Result;
use crate::params::{Params, State};
use crate::tensor::Tensor;

/// Which weights a run ends with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// Those of the epoch with the lowest validation loss, or training loss where nothing is held out.
    Best,
    /// The last.
    Last,
    /// An exponential moving average over steps, `a <- d a + (1 - d) w`, `d` the share of the past: for networks whose loss
    /// does not tell which weights are better, such as adversarial ones (Yazici et al. 2019). In the first steps `d` is
    /// `(1 + t) / (10 + t)` where that is smaller, so that a short run is not held at its random start.
    Average(f32),
}

impl Keep {
    /// Weight of step `number`, counted from 0, in the average.
    fn share(decay: f32, number: u64) -> f32 {
        1.0 - decay.min((1 + number) as f32 / (10 + number) as f32)
    }

    /// Moves an average, in place, towards the weights after step `number`.
    pub(super) fn follow(decay: f32, average: &mut State, params: &Params, number: u64) -> Result<()> {
        let share = Self::share(decay, number);
        for (name, value) in params.values()? {
            let moved = match average.remove(&name) {
                Some(past) => {
                    let mut past = past.to(params.device())?.buffer().duplicate()?;
                    approach(&mut past, value.view(), share)?;
                    Tensor::from_buffer(past, value.shape())?
                }
                None => value,
            };
            average.insert(name, moved);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_forgets_its_start_soon_and_then_remembers_long() {
        let (mut params, mut average) = (Params::default(), State::new());
        params.zeros("w", &[1]);
        Keep::follow(0.999, &mut average, &params, 0).expect("memory");
        let one = State::from([("w".to_string(), Tensor::new(vec![1.0], &[1]).expect("fits"))]);
        params.set_values(&one).expect("fits");
        let mut expected = 0.0_f64;
        for step in 1..=100_u32 {
            Keep::follow(0.999, &mut average, &params, u64::from(step)).expect("memory");
            let decay = f64::min(0.999, f64::from(1 + step) / f64::from(10 + step));
            expected = decay * expected + 1.0 - decay;
            let got = f64::from(average["w"].item().expect("one"));
            assert!((got - expected).abs() < 1e-5, "{got} for {expected} after {step}");
        }
        assert!(expected > 0.999, "{expected}");
        assert!((Keep::share(0.999, 1_000_000) - 0.001).abs() < 1e-6);
    }
}
