//! The verdicts of the networks that a cross-validation has finished, kept in its checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotad_engine::Result;
use hotad_engine::container::{self, Contents, Stored};
use hotad_engine::train::{CHECKPOINT, argument, read_checkpoint};
use serde_json::{Map, Value, json};

use super::LeaNet;
use super::config::Config;
use super::learner::told_apart;
use crate::fit::{FitContext, stage};
use crate::method::Method;

/// A network by its place in the table and its seed, each counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Fold that it is tested on.
    pub fold: usize,
    /// Row of the table.
    pub row: usize,
    /// Attention point, among those of the row.
    pub point: usize,
    /// Number of its seed.
    pub seed: usize,
}

impl Run {
    fn name(self) -> String {
        let Self { fold, row, point, seed } = self;
        format!("{fold}.{row}.{point}.{seed}")
    }
}

/// Probabilities of the images of each network's fold, in their order.
pub struct Verdicts {
    path: Option<PathBuf>,
    fingerprint: Map<String, Value>,
    all: BTreeMap<String, Stored>,
}

impl Verdicts {
    /// None yet, or those of the checkpoint where the context resumes.
    ///
    /// # Errors
    /// A checkpoint that cannot be read or is of another run, or a file of weights that cannot be read.
    pub fn new(config: &Config, folds: usize, context: &FitContext) -> Result<Self> {
        let mut fingerprint = context.fingerprint(LeaNet::NAME, &told_apart(json!(config), config)?);
        fingerprint.insert(argument("folds"), folds.into());
        let path = context.checkpoint();
        let all = match &path {
            Some(path) if context.of_stage(None).resume => read_checkpoint(path, &fingerprint)?.tensors,
            _ => BTreeMap::new(),
        };
        Ok(Self { path, fingerprint, all })
    }

    /// Those of a network on so many images, if it is finished.
    pub fn get(&self, run: Run, images: usize) -> Option<&[f32]> {
        match self.all.get(&run.name()) {
            Some(Stored::F32(_, values)) if values.len() == images => Some(values),
            _ => None,
        }
    }

    /// Keeps those of a network. The checkpoints of its stages are removed before, those that all networks of a fold share with
    /// the last one: so none is ever found of a network that is finished.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn keep(&mut self, run: Run, probabilities: Vec<f32>, last_of_fold: bool, context: &FitContext) -> Result<()> {
        let shared = [stage::COLOUR].into_iter().chain(stage::COLOUR_PARTS).filter(|_| last_of_fold);
        context.remove_stages(shared.chain([stage::NETWORK]))?;
        self.all.insert(run.name(), Stored::F32(vec![probabilities.len()], probabilities));
        let Some(path) = &self.path else { return Ok(()) };
        let meta = json!({ "fingerprint": self.fingerprint });
        container::write(path, &Contents { kind: CHECKPOINT.into(), meta, tensors: self.all.clone() })
    }
}
