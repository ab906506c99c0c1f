//! Training by gradient descent on one loss.

use hotad_engine::Result;
use hotad_engine::data::loader::Batch;
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_kernels::adam::AdamOptions;

/// A learner made of parameters and a loss of them.
pub struct Training<F> {
    /// What is learned.
    pub params: Params,
    /// Optimiser.
    pub adam: AdamOptions,
    /// The loss of a batch under the parameters, recorded on the tape when the flag is set.
    pub loss: F,
}

impl<F: Fn(&Params, &Tensor, bool) -> Result<Tensor> + Send + Sync> Learner for Training<F> {
    fn step(&mut self, batch: &Batch, _: u64) -> Result<f32> {
        let loss = (self.loss)(&self.params, &batch.images.to(self.params.device())?, true)?;
        let mut grads = backward(&loss)?;
        self.params.adam(&mut grads, &self.adam)?;
        loss.item()
    }

    fn loss(&self, batch: &Batch) -> Result<f32> {
        (self.loss)(&self.params, &batch.images.to(self.params.device())?, false)?.item()
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }
}
